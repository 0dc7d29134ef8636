//! Params one by one: revisions, locks, rules, lives, and who is evicted.

use super::merge::push_entry;
use super::*;
use crate::message::Set;

const A: SessionId = SessionId([1; 16]);
const B: SessionId = SessionId([2; 16]);

fn store(params_max: u32) -> Store {
    let limits = Limits { params_max, param_bytes_max: 1 << 20, ..Limits::default() };
    let rule = |pattern: &str, rule| RuleFor { pattern: pattern.into(), rule };
    let rules = [
        rule("/max/**", Rule::Max),
        rule("/min/**", Rule::Min),
        rule("/lock/**", Rule::Lock),
        rule("/merge/**", Rule::Merge),
    ];
    Store::new(&limits, [5, 6], None, &rules, &[])
}

fn set<'a>(address: &'a str, data: &'a [u8]) -> Set<'a> {
    let value = Value { code: value::code::I8, data };
    Set { address, value, revision: None, lock: false, unlock: false, ttl: None }
}

fn write(store: &mut Store, at_s: u64, set: &Set<'_>, writer: SessionId) -> Result<u64, Refused> {
    let hash = store.hash(set.address);
    let slot = store.find(hash, set.address);
    let ahead = Ahead { locks_held: store.locks_of(writer), ..Ahead::default() };
    let set = &set.raw();
    store.check(slot, set, writer, ahead)?;
    store.takes(slot, set.value)?;
    let now = Time(at_s * 1_000_000_000);
    let by = Stamp { now, unix_us: at_s * 1_000_000, writer, holder: writer };
    let slot = store.apply(by, slot, hash, set)?;
    Ok(store.revision(slot))
}

fn held(store: &Store, address: &str) -> Option<i64> {
    store.find(store.hash(address), address).and_then(|slot| store.value(slot).as_i64())
}

#[test]
fn revisions_rise_by_one_and_a_wrong_expectation_is_refused() {
    let mut s = store(4);
    assert_eq!(write(&mut s, 0, &Set { revision: Some(77), ..set("/a", &[1]) }, A), Ok(1));
    assert_eq!(write(&mut s, 0, &set("/a", &[2]), A), Ok(2));
    let stale = Set { revision: Some(1), ..set("/a", &[3]) };
    assert_eq!(write(&mut s, 0, &stale, A), Err(Refused::Revision { expected: 1, actual: 2 }));
    assert_eq!(held(&s, "/a"), Some(2));
}

#[test]
fn only_the_holder_writes_and_unlocks_a_locked_param() {
    let mut s = store(4);
    let lock = Set { lock: true, ..set("/a", &[1]) };
    let unlock = Set { unlock: true, ..set("/a", &[2]) };
    write(&mut s, 0, &lock, A).unwrap();
    assert_eq!(write(&mut s, 0, &set("/a", &[9]), B), Err(Refused::Locked { holder: A }));
    assert_eq!(write(&mut s, 0, &unlock, B), Err(Refused::Locked { holder: A }));
    write(&mut s, 0, &unlock, A).unwrap();
    assert_eq!(write(&mut s, 0, &set("/a", &[9]), B), Ok(3));
    write(&mut s, 0, &Set { lock: true, ..set("/a", &[4]) }, B).unwrap();
    s.end_session(B);
    assert_eq!(write(&mut s, 0, &set("/a", &[5]), A), Ok(5));
}

#[test]
fn each_rule_keeps_what_it_says() {
    let mut s = store(8);
    let cases: [(&str, &[i8], i64); 4] = [
        ("/plain", &[5, 3, 7, 1], 1),
        ("/max/a", &[5, 3, 7, 1], 7),
        ("/min/a", &[5, 3, 7, 1], 1),
        ("/lock/a", &[5, 3], 3),
    ];
    for (address, writes, kept) in cases {
        for w in writes {
            let _ = write(&mut s, 0, &set(address, &[*w as u8]), A);
        }
        assert_eq!(held(&s, address), Some(kept), "{address}");
    }
    assert_eq!(write(&mut s, 0, &set("/lock/a", &[8]), B), Err(Refused::Locked { holder: A }));
}

#[test]
fn merged_maps_keep_old_keys_and_take_new_values() {
    let map = |entries: &[(&str, u8)]| {
        let mut data = alloc::vec![0, entries.len() as u8];
        for (key, v) in entries {
            push_entry(key, Value { code: value::code::I8, data: &[*v] }, &mut data);
        }
        data
    };
    let (old, new) = (map(&[("x", 1), ("y", 2)]), map(&[("y", 3), ("z", 4)]));
    let mut s = store(4);
    for data in [&old, &new] {
        let value = Value { code: value::code::MAP, data };
        write(&mut s, 0, &Set { value, ..set("/merge/a", &[]) }, A).unwrap();
    }
    let slot = s.find(s.hash("/merge/a"), "/merge/a").unwrap();
    let merged = s.value(slot);
    let want = [("x", 1), ("y", 3), ("z", 4)];
    assert_eq!(merged.map().unwrap().count(), want.len());
    for (key, v) in want {
        assert_eq!(merged.get(key).and_then(|v| v.as_i64()), Some(v), "{key}");
    }
}

#[test]
fn a_param_expires_on_its_second_and_its_revision_goes_on() {
    let ttl = |ttl| Set { ttl: Some(ttl), ..set("/a", &[1]) };
    // (ttl, second of a later write without ttl, second at which it is gone)
    let cases = [
        (Ttl::Sliding(5), 3, Some(8)),
        (Ttl::Absolute(5), 3, Some(5)),
        (Ttl::Never, 3, None),
        (Ttl::Absolute(0), 3, None),
    ];
    for (life, again_s, gone_s) in cases {
        let mut s = store(4);
        write(&mut s, 0, &ttl(life), A).unwrap();
        write(&mut s, again_s, &set("/a", &[2]), A).unwrap();
        let mut gone = None;
        for second in again_s..20 {
            if s.expire(Time(second * 1_000_000_000)).is_some() {
                gone = Some(second);
            }
        }
        assert_eq!(gone, gone_s, "{life:?}");
        let revision = write(&mut s, 20, &set("/a", &[3]), A).unwrap();
        assert_eq!(revision, 3, "{life:?}");
    }
}

#[test]
fn what_is_written_over_a_param_that_was_ended_lives_as_a_new_one() {
    let null = |ttl| Set { value: Value::NULL, ttl, ..set("/a", &[]) };
    let ended = null(Some(Ttl::Absolute(1)));
    for default_ttl in [None, Some(Span::from_secs(5))] {
        for staged in [false, true] {
            let mut s = store(4);
            s.default_ttl = default_ttl;
            write(&mut s, 0, &set("/a", &[1]), A).unwrap();
            write(&mut s, 1, &ended, A).unwrap();
            let again = set("/a", &[2]);
            if staged {
                let hash = s.hash("/a");
                let slot = s.find(hash, "/a");
                let write = s.stage(slot, &again.raw(), None).unwrap();
                let by = Stamp { now: Time(1_500_000_000), unix_us: 0, writer: B, holder: B };
                s.commit(by, slot, hash, &again.raw(), write);
            } else {
                write(&mut s, 1, &again, B).unwrap();
            }
            assert_eq!(s.expire(Time(5_900_000_000)), None, "staged: {staged}");
            assert_eq!(held(&s, "/a"), Some(2));
            assert_eq!(s.expire(Time(7_000_000_000)).is_some(), default_ttl.is_some());
        }
    }
    // A null says nothing new, and what says itself how long it lives is believed.
    let mortal = Set { ttl: Some(Ttl::Absolute(3)), ..set("/a", &[2]) };
    for (again, gone_s) in [(null(None), 1), (mortal, 4)] {
        let mut s = store(4);
        write(&mut s, 0, &ended, A).unwrap();
        write(&mut s, 1, &again, B).unwrap();
        assert_eq!(s.expire(Time(gone_s * 1_000_000_000 - 1)), None, "{gone_s}");
        assert!(s.expire(Time(gone_s * 1_000_000_000)).is_some(), "{gone_s}");
    }
}

#[test]
fn the_least_recently_written_goes_but_never_a_locked_or_lasting_one() {
    let mut s = store(3);
    write(&mut s, 0, &Set { lock: true, ..set("/locked", &[1]) }, A).unwrap();
    write(&mut s, 1, &Set { ttl: Some(Ttl::Never), ..set("/never", &[1]) }, A).unwrap();
    write(&mut s, 2, &set("/old", &[1]), A).unwrap();
    write(&mut s, 3, &Set { ttl: Some(Ttl::Never), ..set("/new", &[1]) }, A).unwrap();
    assert_eq!(held(&s, "/old"), None);
    assert_eq!(s.evicted, 1);
    assert_eq!(write(&mut s, 4, &set("/more", &[1]), A), Err(Refused::Full));
    assert_eq!(s.len(), 3);
}

#[test]
fn an_absolute_life_given_to_an_old_param_begins_then() {
    let mortal = |data| Set { ttl: Some(Ttl::Absolute(5)), ..set("/a", data) };
    let mut s = store(4);
    write(&mut s, 0, &set("/a", &[1]), A).unwrap();
    write(&mut s, 100, &mortal(&[2]), A).unwrap();
    write(&mut s, 103, &mortal(&[3]), A).unwrap();
    assert_eq!(s.expire(Time(104_999_999_999)), None, "5 s after it was given");
    assert!(s.expire(Time(105_000_000_000)).is_some(), "and giving it again does not renew it");
}

#[test]
fn many_params_that_must_stay_do_not_keep_others_from_being_evicted() {
    let mut s = store(200);
    for i in 0..150 {
        let address = format!("/never/{i}");
        write(&mut s, 0, &Set { ttl: Some(Ttl::Never), ..set(&address, &[1]) }, A).unwrap();
    }
    for i in 0..100 {
        assert_eq!(write(&mut s, 1, &set(&format!("/plain/{i}"), &[1]), A), Ok(1), "{i}");
    }
    assert_eq!((s.len(), s.evicted), (200, 50));
}

#[test]
fn an_unlocked_param_gives_its_lock_back() {
    let mut s = store(4);
    for i in 0..2 * LOCKS_MAX {
        let address = format!("/{}", i % 4);
        write(&mut s, 0, &Set { lock: true, ..set(&address, &[1]) }, A).unwrap();
        write(&mut s, 0, &Set { unlock: true, ..set(&address, &[1]) }, A).unwrap();
    }
    assert_eq!(s.locked.len(), 0);
}

#[test]
fn a_session_that_has_ended_takes_no_lock_with_what_it_sent_before() {
    let mut s = store(4);
    s.end_session(A);
    write(&mut s, 0, &Set { lock: true, ..set("/a", &[1]) }, A).unwrap();
    assert_eq!(write(&mut s, 0, &set("/a", &[2]), B), Ok(2));
    write(&mut s, 0, &set("/lock/a", &[1]), A).unwrap();
    assert_eq!(write(&mut s, 0, &set("/lock/a", &[2]), B), Ok(2), "also by the rule");
}

#[test]
fn a_staged_merge_builds_on_the_one_before_it() {
    let entry = |key: &str, v: u8| {
        let mut data = alloc::vec![0, 1];
        push_entry(key, Value { code: value::code::I8, data: &[v] }, &mut data);
        data
    };
    let maps = [entry("x", 1), entry("y", 2), entry("x", 3)];
    let by = Stamp { now: Time(0), unix_us: 0, writer: A, holder: A };
    for known_before in [false, true] {
        let mut s = store(4);
        let of =
            |data| Set { value: Value { code: value::code::MAP, data }, ..set("/merge/a", &[]) };
        if known_before {
            write(&mut s, 0, &of(&maps[0]), A).unwrap();
        }
        let hash = s.hash("/merge/a");
        let slot = s.find(hash, "/merge/a");
        let mut staged: Vec<Staged> = Vec::new();
        for data in &maps {
            let next = s.stage(slot, &of(data).raw(), staged.last().copied()).unwrap();
            staged.push(next);
        }
        for (data, staged) in maps.iter().zip(staged) {
            s.commit(by, s.find(hash, "/merge/a"), hash, &of(data).raw(), staged);
        }
        let slot = s.find(hash, "/merge/a").unwrap();
        let number = |key| s.value(slot).get(key).and_then(|v| v.as_i64());
        assert_eq!((number("x"), number("y")), (Some(3), Some(2)), "known before: {known_before}");
    }
}

#[test]
fn one_session_cannot_take_all_locks() {
    let mut s = store(2 * LOCKS_MAX as u32);
    let lock = |s: &mut Store, address: &str, writer| {
        write(s, 0, &Set { lock: true, ..set(address, &[1]) }, writer)
    };
    for i in 0..LOCKS_PER_SESSION_MAX {
        assert_eq!(lock(&mut s, &format!("/{i}"), A), Ok(1), "{i}");
    }
    assert_eq!(lock(&mut s, "/more", A), Err(Refused::Busy { what: "locks" }));
    assert_eq!(lock(&mut s, "/0", A), Ok(2), "what it holds it may lock again");
    assert_eq!(lock(&mut s, "/more", B), Ok(1));
}

#[test]
fn one_session_cannot_take_all_locks_with_sources_that_it_describes() {
    let mut s = store(2 * LOCKS_MAX as u32);
    let describe = |s: &mut Store, id: usize, writer| {
        write(s, 0, &set(&format!("/clasp/source/{id}"), &[1]), writer)
    };
    for id in 0..=LOCKS_PER_SESSION_MAX {
        assert_eq!(describe(&mut s, id, A), Ok(1), "{id}");
    }
    assert_eq!(s.locks_of(A), LOCKS_PER_SESSION_MAX);
    assert_eq!(describe(&mut s, 0, B), Err(Refused::NotSource { whose: A }));
    assert_eq!(describe(&mut s, LOCKS_PER_SESSION_MAX, B), Ok(2), "nobody's, and its own now");
    assert_eq!(describe(&mut s, LOCKS_PER_SESSION_MAX, A), Err(Refused::NotSource { whose: B }));
}

//! Bundles: all or nothing, in order, at once or at their time, in one home or across three.

use clasp_rt_core::message::{Bundle, Message, Publish, Set};
use clasp_rt_core::shard::{Rule, RuleFor, Settings};
use clasp_rt_core::signal::{Phase, Qos, Signal};
use clasp_rt_core::value::{self, MapWriter, Value};
use clasp_rt_core::wire::list::Messages;

use super::net::{Net, bundle_frame, f64_value, frame_of, set_of};
use super::{A, B, one, settings};

#[test]
fn a_bundle_is_all_or_nothing_and_keeps_its_order() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        net.join(B);
        net.subscribe(B, 1, "/**");
        net.set(A, "/lock/x", 0.0);
        net.take(B);
        let event = Publish {
            address: "/x/go",
            signal: Some(Signal::Event),
            phase: Some(Phase::Start),
            ..Publish::default()
        };
        let data = [1.0_f64, 2.0, 3.0].map(f64::to_be_bytes);
        let set = |i: usize, address| Set { value: f64_value(&data[i]), ..set_of(address) };
        let stale = Set { revision: Some(7), ..set(0, "/lock/x") };
        net.bundle(A, &[Message::Set(set(0, "/x/a")), Message::Set(stale)], None);
        assert_eq!(net.take(A), ["ERROR 400 /lock/x"], "{shards} shards");
        assert_eq!(net.take(B), [""; 0], "nothing of a refused bundle is seen");
        let parts =
            [Message::Set(set(0, "/x/a")), Message::Publish(event), Message::Set(set(1, "/x/a"))];
        net.bundle(A, &parts, None);
        assert_eq!(net.take(A), ["ACK - r2"]);
        assert_eq!(net.take(B), ["SET /x/a 1 r1", "event /x/go", "SET /x/a 2 r2"]);
        let wide: Vec<String> = (0..12).map(|i| format!("/rig{i}/x")).collect();
        let parts: Vec<_> = wide.iter().map(|a| Message::Set(set(2, a))).collect();
        net.bundle(A, &parts, None);
        let mut got = net.take(B);
        got.sort();
        let mut want: Vec<_> = wide.iter().map(|a| format!("SET {a} 3 r1")).collect();
        want.sort();
        assert_eq!(got, want, "{shards} shards");
        assert_eq!(net.take(A), ["ACK - r1"]);
        let nested = [Message::Set(set(0, "/x/a")), Message::Ping];
        net.bundle(A, &nested, None);
        assert_eq!(net.take(A), ["ACK - r3"]);
        net.emit(A, "/x/after");
        assert_eq!(net.take(B), ["SET /x/a 1 r3", "event /x/after"]);
    }
}

#[test]
fn a_timed_bundle_runs_on_its_time_and_one_beyond_the_horizon_is_refused() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/**");
    let set = [Message::Set(set_of("/a"))];
    net.bundle(A, &set, Some(net.unix_us() + 500_000));
    assert_eq!(net.take(A), ["ACK -"]);
    net.wait_ms(499);
    assert_eq!(net.take(B), [""; 0]);
    net.leave(A);
    net.wait_ms(1);
    assert_eq!(net.take(B), ["SET /a code0 r1"], "also when its sender has left");
    net.bundle(B, &set, Some(net.unix_us() + 61_000_000));
    assert_eq!(net.take(B), ["ERROR 403 -"]);
    net.bundle(B, &set, Some(1));
    assert_eq!(net.take(B), ["SET /a code0 r2", "ACK - r2"], "a late one runs at once");
}

#[test]
fn rules_decide_by_pattern_and_do_not_refuse_a_bundle() {
    let rules = vec![RuleFor { pattern: "/max/**".into(), rule: Rule::Max }];
    let mut net = Net::new(Settings { rules, ..settings(1) });
    net.join(A);
    net.subscribe(A, 1, "/**");
    net.set(A, "/max/a", 5.0);
    net.set(A, "/max/a", 3.0);
    assert_eq!(net.take(A), ["SET /max/a 5 r1", "ERROR 400 /max/a"]);
    let data = [3.0_f64, 9.0].map(f64::to_be_bytes);
    let low = Message::Set(Set { value: f64_value(&data[0]), ..set_of("/max/a") });
    let other = Message::Set(Set { value: f64_value(&data[1]), ..set_of("/b") });
    net.bundle(A, &[low, other], None);
    assert_eq!(net.take(A), ["SET /b 9 r1", "ACK - r1"]);
}

#[test]
fn a_lock_in_a_bundle_does_not_outlive_its_session() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        net.join(B);
        let addresses = [net.address_at(0, 0), net.address_at(shards as usize - 1, 1)];
        let locks: Vec<_> = addresses
            .iter()
            .map(|address| Message::Set(Set { lock: true, ..set_of(address) }))
            .collect();
        net.bundle(A, &locks, Some(net.unix_us() + 100_000));
        net.leave(A);
        net.wait_ms(200);
        for address in &addresses {
            net.set(B, address, 1.0);
            assert_eq!(net.take(B), [""; 0], "{shards} shards");
            net.say(B, &Message::Get { address }, Qos::Fire);
            assert_eq!(net.take(B), [format!("SNAPSHOT {address} 1 r2")], "{shards} shards");
        }
    }
}

#[test]
fn a_timed_bundle_does_not_let_its_sender_overtake_itself() {
    let mut net = Net::new(settings(3));
    let sender = (1, 7);
    net.join(sender);
    net.join(B);
    net.subscribe(B, 1, "/**");
    let [near, coordinated, far] = [1, 0, 2].map(|shard| net.address_at(shard, 0));
    let parts = [&near, &coordinated].map(|address| Message::Set(set_of(address)));
    net.bundle(sender, &parts, Some(net.unix_us() + 10_000));
    net.take(B);
    // What goes to shard 2 is stuck while the bundle runs across the other two.
    net.stuck = Some((1, 2, false));
    for address in [&far, &coordinated] {
        net.queue(sender, &frame_of(&Message::Set(set_of(address)), Qos::Fire));
    }
    net.wait_ms(20);
    assert_eq!(net.take(B).len(), 2, "the bundle ran");
    net.stuck = None;
    net.settle();
    let want = [format!("SET {far} code0 r1"), format!("SET {coordinated} code0 r2")];
    assert_eq!(net.take(B), want);
}

#[test]
fn what_is_asked_after_a_bundle_is_answered_as_of_after_it() {
    let mut net = Net::new(settings(3));
    net.join(B);
    let addresses: Vec<String> = (0..3).map(|shard| net.address_at(shard, 0)).collect();
    let sets: Vec<_> = addresses.iter().map(|address| Message::Set(set_of(address))).collect();
    net.queue(B, &bundle_frame(&sets, None));
    for address in &addresses {
        net.queue(B, &frame_of(&Message::Get { address }, Qos::Fire));
    }
    net.settle();
    let mut got = net.take(B);
    got.sort();
    let mut want = vec!["ACK - r1".to_string()];
    want.extend(addresses.iter().map(|a| format!("SNAPSHOT {a} code0 r1")));
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn a_gesture_that_ends_in_a_bundle_does_not_move_after() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/g");
    let gesture = |phase| {
        let signal = Some(Signal::Gesture);
        Message::Publish(Publish {
            address: "/g",
            signal,
            phase: Some(phase),
            ..Publish::default()
        })
    };
    for phase in [Phase::Start, Phase::Move] {
        net.say(A, &gesture(phase), Qos::Fire);
    }
    net.bundle(A, &[gesture(Phase::End)], None);
    net.wait_ms(100);
    assert_eq!(net.take(B), ["gesture /g start", "gesture /g end"]);
    net.leave(A);
    assert_eq!(net.take(B), [""; 0], "and needs no cancel");
}

#[test]
fn bundles_count_what_they_hold_against_the_rate() {
    for ahead_us in [None, Some(1_000)] {
        let mut net = Net::new(Settings { rate_limit: Some(10), ..settings(1) });
        net.join(A);
        let parts = vec![Message::Set(set_of("/a")); 8];
        let at_us = ahead_us.map(|ahead_us| net.unix_us() + ahead_us);
        net.bundle(A, &parts, at_us);
        assert_eq!(net.take(A).len(), 1);
        net.bundle(A, &parts, at_us);
        assert_eq!(net.take(A), ["ERROR 429 -"], "{ahead_us:?}");
    }
}

#[test]
fn merges_in_a_bundle_build_on_each_other_and_may_not_grow_beyond_a_frame() {
    for shards in [1, 3] {
        let rules = vec![RuleFor { pattern: "/**".into(), rule: Rule::Merge }];
        let mut net = Net::new(Settings { rules, ..settings(shards) });
        net.join(A);
        net.join(B);
        let entry = |key: &str, len: usize| {
            let mut map = Vec::new();
            let mut writer = MapWriter::start(&mut map);
            value::push_str(writer.entry(key).unwrap(), &"x".repeat(len)).unwrap();
            map
        };
        let address = net.address_at(shards as usize - 1, 0);
        let set = |map| {
            Message::Set(Set { value: Value::from_encoded(map).unwrap(), ..set_of(&address) })
        };
        let maps = [entry("a", 1), entry("b", 1), entry("c", 1)];
        net.bundle(A, &maps.iter().map(|map| set(map)).collect::<Vec<_>>(), None);
        assert_eq!(net.take(A), ["ACK - r3"], "{shards} shards");
        net.say(A, &Message::Get { address: &address }, Qos::Fire);
        let got = net.take_frames(A).pop().unwrap();
        let keys =
            ["a", "b", "c"].map(|key| got.windows(2).any(|w| w == [0x01, key.as_bytes()[0]]));
        assert_eq!(keys, [true; 3], "{shards} shards");
        let big = entry("big", 40_000);
        net.say(A, &set(&big), Qos::Fire);
        net.bundle(A, &[set(&maps[0]), set(&maps[1])], None);
        assert_eq!(net.take(A), [format!("ERROR 403 {address}")], "{shards} shards");
    }
}

#[test]
fn the_ack_names_the_revision_that_the_last_set_really_has() {
    for shards in [1, 3] {
        let rules = vec![RuleFor { pattern: "/rig/**".into(), rule: Rule::Max }];
        let mut net = Net::new(Settings { rules, ..settings(shards) });
        net.join(A);
        let addresses = [net.address_at(0, 0), net.address_at(shards as usize - 1, 1)];
        for address in &addresses {
            net.set(A, address, 5.0);
        }
        let data = 3.0_f64.to_be_bytes();
        let low = |address| Message::Set(Set { value: f64_value(&data), ..set_of(address) });
        net.bundle(A, &[low(&addresses[0]), low(&addresses[1])], None);
        assert_eq!(net.take(A), ["ACK - r1"], "{shards} shards: both kept what they had");
    }
}

#[test]
fn a_bundle_of_what_has_no_place_in_one_is_acknowledged_and_one_in_another_is_not() {
    let mut net = one();
    net.join(A);
    net.bundle(A, &[Message::Ping, Message::Get { address: "/a" }], None);
    assert_eq!(net.take(A), ["ACK -"]);
    let mut inner = Vec::new();
    Messages::append(&mut inner, &Message::Ping).unwrap();
    let messages = Messages::from_payloads(&inner, 1).unwrap();
    net.bundle(A, &[Message::Bundle(Bundle { timestamp_us: None, messages })], None);
    assert_eq!(net.take(A), ["ERROR 403 -"]);
    let (count, pings) = (4_097_u16, [0, 1, 0x41].repeat(4_097));
    let payload = [&[0x30, 0][..], &count.to_be_bytes(), &pings].concat();
    net.raw(A, &[&[b'S', 0x01][..], &(payload.len() as u16).to_be_bytes(), &payload].concat());
    assert_eq!(net.take(A), ["ERROR 101 -"]);
}

//! The promises of the router, one function each. They look at evidence only: what peers did and
//! heard.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clasp_rt_core::address::home_key;
use clasp_rt_core::pattern;
use clasp_rt_core::signal::Phase;

use crate::ledger::{Act, Heard, Hearing, Ledger, Number, Verdict};
use crate::peers::{CONTENDED, DESK, FLEETING};

/// What is left of a finished run.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub shards: usize,
    pub ledger: Ledger,
    pub hearings: Vec<Hearing>,
    /// What newcomers learnt at the end, one map per shard that was asked.
    pub truths: Vec<BTreeMap<String, (Number, u64)>>,
}

/// A promise that was not kept, with the facts.
pub type Broken = String;

pub type Check = fn(&Evidence) -> Result<(), Broken>;

/// Every check, in the order in which a failure is easiest to understand.
pub const CHECKS: &[(&str, Check)] = &[
    ("prompt_readers_stay", prompt_readers_stay),
    ("revisions_rise_for_everyone", revisions_rise_for_everyone),
    ("nothing_comes_twice", nothing_comes_twice),
    ("a_writer_does_not_hear_its_own_publishing", a_writer_does_not_hear_its_own_publishing),
    ("only_what_matches_arrives", only_what_matches_arrives),
    ("writers_are_heard_in_order", writers_are_heard_in_order),
    ("cues_follow_the_params_before_them", cues_follow_the_params_before_them),
    ("samples_of_an_address_stay_in_order", samples_of_an_address_stay_in_order),
    ("gestures_begin_move_and_end", gestures_begin_move_and_end),
    ("what_may_not_be_lost_arrives", what_may_not_be_lost_arrives),
    ("verdicts_are_true", verdicts_are_true),
    ("bundles_are_whole", bundles_are_whole),
    ("newcomers_agree", newcomers_agree),
    ("subscribers_agree_with_homes", subscribers_agree_with_homes),
    ("the_right_source_wins", the_right_source_wins),
];

/// What a fleeting param is when nobody claims it.
pub const SAFE: i64 = -5;

/// Whatever others do, a link that takes everything at once is not closed.
pub fn prompt_readers_stay(evidence: &Evidence) -> Result<(), Broken> {
    let closed = evidence.hearings.iter().find(|h| h.prompt && h.closed.is_some());
    closed.map_or(Ok(()), |hearing| broken(hearing, format_args!("closed: {:?}", hearing.closed)))
}

/// One order of changes per address for everyone; a snapshot may repeat, a delivery may not.
pub fn revisions_rise_for_everyone(evidence: &Evidence) -> Result<(), Broken> {
    let mut values: HashMap<(&str, u64), Number> = HashMap::new();
    for hearing in &evidence.hearings {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (at, heard) in &hearing.heard {
            let (address, number, revision, may_repeat) = match heard {
                Heard::Set { address, number, revision } => (address, number, revision, false),
                Heard::Known { address, number, revision } => (address, number, revision, true),
                Heard::Published { .. } => continue,
            };
            let before = last.insert(address, *revision).unwrap_or(0);
            if *revision < before || (*revision == before && !may_repeat) {
                return broken(
                    hearing,
                    format_args!(
                        "{address} revision {revision} after {before} at {} us",
                        at.0 / 1_000
                    ),
                );
            }
            let agreed = values.entry((address, *revision)).or_insert(*number);
            if agreed != number {
                return broken(
                    hearing,
                    format_args!(
                        "{address} revision {revision} is {number:?} here and {agreed:?} elsewhere"
                    ),
                );
            }
        }
    }
    Ok(())
}

pub fn nothing_comes_twice(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in &evidence.hearings {
        let mut seen = BTreeSet::new();
        for (address, number) in hearing.delivered() {
            // What was outranked may win in the end, and what nobody claims is always the same.
            let deed = evidence.ledger.deeds.get(&number);
            let claimed = deed.is_some_and(|deed| matches!(deed.act, Act::Claim { .. }));
            if claimed || number.0 == SAFE {
                continue;
            }
            if !seen.insert(number) {
                return broken(hearing, format_args!("{number:?} of {address} came twice"));
            }
        }
    }
    Ok(())
}

pub fn a_writer_does_not_hear_its_own_publishing(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in &evidence.hearings {
        for (_, heard) in &hearing.heard {
            let Heard::Published { address, number } = heard else { continue };
            let session = evidence.ledger.deeds.get(number).map(|deed| deed.session);
            if session == Some(hearing.session) {
                return broken(hearing, format_args!("own {number:?} of {address} came back"));
            }
        }
    }
    Ok(())
}

pub fn only_what_matches_arrives(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in &evidence.hearings {
        for (address, number) in hearing.delivered() {
            if !hears(hearing, address) {
                return broken(
                    hearing,
                    format_args!("{number:?} of {address} matches none of {:?}", hearing.patterns),
                );
            }
            let same =
                evidence.ledger.deeds.get(&number).is_none_or(|deed| deed.address == address);
            if !same {
                return broken(hearing, format_args!("{number:?} came under {address}"));
            }
        }
    }
    Ok(())
}

/// What one session did to addresses of one home arrives in its order; with one shard, all it did.
///
/// A slow link is given the newest value of a param in the place of an older one, so only prompt
/// readers see params in this order. Timed bundles have an order of their own.
pub fn writers_are_heard_in_order(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in &evidence.hearings {
        let mut last: HashMap<(usize, &str), Number> = HashMap::new();
        for (address, number) in hearing.delivered() {
            let Some(deed) = evidence.ledger.deeds.get(&number) else { continue };
            let in_order = deed.act.must_arrive() || (hearing.prompt && deed.act == Act::Set);
            if deed.timed || !in_order {
                continue;
            }
            let lane = if evidence.shards == 1 { "" } else { home_key(address) };
            let before = last.insert((deed.session, lane), number);
            if let Some(before) = before.filter(|before| *before > number) {
                return broken(hearing, format_args!("{number:?} of {address} after {before:?}"));
            }
        }
    }
    Ok(())
}

/// However slow the hearer: once it heard an event, no value that the same session wrote before
/// that follows, unless the hearer wanted values held back. Homes and timed bundles as above.
pub fn cues_follow_the_params_before_them(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in evidence.hearings.iter().filter(|hearing| !hearing.paced) {
        let mut last: HashMap<(usize, &str), Number> = HashMap::new();
        for (address, number) in hearing.delivered() {
            let Some(deed) = evidence.ledger.deeds.get(&number).filter(|deed| !deed.timed) else {
                continue;
            };
            let lane = if evidence.shards == 1 { "" } else { home_key(address) };
            let key = (deed.session, lane);
            match deed.act {
                Act::Event => drop(last.insert(key, number)),
                Act::Set => {
                    if let Some(cue) = last.get(&key).filter(|cue| **cue > number) {
                        return broken(
                            hearing,
                            format_args!("{number:?} of {address} after the event {cue:?}"),
                        );
                    }
                }
                Act::Stream | Act::Gesture { .. } | Act::Claim { .. } | Act::Release { .. } => {}
            }
        }
    }
    Ok(())
}

/// Samples may be dropped, and whatever else their session did may overtake them; among themselves
/// those of one address stay in order.
pub fn samples_of_an_address_stay_in_order(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in evidence.hearings.iter().filter(|hearing| !hearing.paced) {
        let mut last: HashMap<(usize, &str), Number> = HashMap::new();
        for (address, number) in hearing.delivered() {
            let Some(deed) = evidence.ledger.deeds.get(&number) else { continue };
            if deed.act != Act::Stream {
                continue;
            }
            let before = last.insert((deed.session, address), number);
            if let Some(before) = before.filter(|before| *before > number) {
                return broken(hearing, format_args!("{number:?} of {address} after {before:?}"));
            }
        }
    }
    Ok(())
}

/// After an end no move; moves in order; a start before both, for those who were there.
pub fn gestures_begin_move_and_end(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in evidence.hearings.iter().filter(|hearing| hearing.from_start) {
        let mut open: HashMap<(usize, &str, u32), Number> = HashMap::new();
        for (address, number) in hearing.delivered() {
            let Some(deed) = evidence.ledger.deeds.get(&number) else { continue };
            let Act::Gesture { id, phase } = deed.act else { continue };
            let key = (deed.session, address, id);
            let before = open.get(&key).copied();
            let right = match phase {
                Phase::Start => true,
                Phase::Move => before.is_some_and(|before| before < number),
                Phase::End | Phase::Cancel => before.is_some_and(|before| before < number),
            };
            if !right {
                return broken(
                    hearing,
                    format_args!("{phase:?} {number:?} of {address} gesture {id} after {before:?}"),
                );
            }
            match phase {
                Phase::End | Phase::Cancel => drop(open.remove(&key)),
                Phase::Start | Phase::Move => drop(open.insert(key, number)),
            }
        }
    }
    Ok(())
}

/// Events, and starts and ends of gestures, reach all who listen, or a link was closed: the
/// hearer's, or the writer's, whose last frames are no longer heard then.
pub fn what_may_not_be_lost_arrives(evidence: &Evidence) -> Result<(), Broken> {
    let cut_off: BTreeSet<usize> =
        evidence.hearings.iter().filter(|h| h.closed.is_some()).map(|h| h.session).collect();
    for hearing in evidence.hearings.iter().filter(|h| h.from_start && h.is_live()) {
        let delivered: BTreeSet<Number> = hearing.delivered().map(|(_, number)| number).collect();
        for (number, deed) in &evidence.ledger.deeds {
            let bundle_applied =
                deed.bundle.is_none() || matches!(deed.verdict, Some(Verdict::Accepted { .. }));
            let owed = deed.taken
                && deed.act.must_arrive()
                && !deed.timed
                && bundle_applied
                && deed.session != hearing.session
                && !cut_off.contains(&deed.session)
                && hears(hearing, &deed.address);
            if owed && !delivered.contains(number) {
                return broken(hearing, format_args!("{number:?}, {deed:?}, never came"));
            }
        }
    }
    Ok(())
}

/// What was acknowledged was done, with the revision that was said; what was refused was not.
pub fn verdicts_are_true(evidence: &Evidence) -> Result<(), Broken> {
    for hearing in evidence.hearings.iter().filter(|hearing| hearing.prompt && hearing.is_live()) {
        let sets: BTreeMap<Number, u64> = hearing
            .heard
            .iter()
            .filter_map(|(_, heard)| match heard {
                Heard::Set { number, revision, .. } => Some((*number, *revision)),
                _ => None,
            })
            .collect();
        for (number, deed) in &evidence.ledger.deeds {
            if deed.act != Act::Set || deed.timed || !hears(hearing, &deed.address) {
                continue;
            }
            let found = sets.get(number).copied();
            let right = match deed.verdict {
                Some(Verdict::Refused { .. }) => found.is_none(),
                Some(Verdict::Accepted { revision: Some(revision) }) if deed.bundle.is_none() => {
                    found == Some(revision)
                }
                Some(Verdict::Accepted { .. }) => found.is_some(),
                None => true,
            };
            if !right {
                return broken(hearing, format_args!("{number:?}, {deed:?}, came as {found:?}"));
            }
        }
    }
    Ok(())
}

/// All of a bundle or nothing of it, and the part of one home in one piece.
///
/// With several shards only addresses with equal first segments are known to share a home. Samples
/// may come late, and so between two parts.
pub fn bundles_are_whole(evidence: &Evidence) -> Result<(), Broken> {
    let bundles = evidence.ledger.bundles();
    for hearing in evidence.hearings.iter().filter(|hearing| hearing.prompt && hearing.is_live()) {
        let delivered: Vec<(&str, Number)> = hearing.delivered().collect();
        let places: BTreeMap<Number, usize> =
            delivered.iter().enumerate().map(|(place, (_, number))| (*number, place)).collect();
        for (bundle, numbers) in &bundles {
            let found = numbers.iter().filter(|number| places.contains_key(number)).count();
            if found != 0 && found != numbers.len() {
                return broken(
                    hearing,
                    format_args!("{found} of {} parts of bundle {bundle:?} came", numbers.len()),
                );
            }
            let mut parts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for number in numbers {
                if let Some(place) = places.get(number) {
                    parts.entry(home_key(delivered[*place].0)).or_default().push(*place);
                }
            }
            for (home, places) in parts {
                let (first, last) = (places.iter().min(), places.iter().max());
                let (Some(first), Some(last)) = (first, last) else { continue };
                let stranger = delivered[*first..=*last].iter().find(|(address, number)| {
                    let deed = evidence.ledger.deeds.get(number);
                    let same_home = evidence.shards == 1 || home_key(address) == home;
                    let may_be_late = deed.is_some_and(|deed| deed.act == Act::Stream);
                    same_home && !may_be_late && deed.and_then(|deed| deed.bundle) != Some(*bundle)
                });
                if let Some((address, number)) = stranger {
                    return broken(
                        hearing,
                        format_args!("{number:?} of {address} inside bundle {bundle:?} of {home}"),
                    );
                }
            }
        }
    }
    Ok(())
}

/// Whoever joins at the end is told the same state on every shard.
pub fn newcomers_agree(evidence: &Evidence) -> Result<(), Broken> {
    for pair in evidence.truths.windows(2) {
        if pair[0] != pair[1] {
            let odd = pair[0].iter().find(|(address, held)| pair[1].get(*address) != Some(held));
            return Err(format!("newcomers of two shards disagree, first about {odd:?}"));
        }
    }
    Ok(())
}

/// When traffic stops, each subscriber of a param holds its home's value and revision.
pub fn subscribers_agree_with_homes(evidence: &Evidence) -> Result<(), Broken> {
    let Some(truth) = evidence.truths.first() else { return Ok(()) };
    for hearing in evidence.hearings.iter().filter(|hearing| hearing.is_live()) {
        let view = hearing.view();
        for (address, held) in truth.iter().filter(|(address, _)| hears(hearing, address)) {
            let believed = view.get(address.as_str());
            if believed != Some(held) {
                return broken(
                    hearing,
                    format_args!("{address} is {held:?} at home, believed to be {believed:?}"),
                );
            }
        }
    }
    Ok(())
}

/// In the end a contended param has the highest of what those claim who are still there, the desk's
/// before all others; and a fleeting one, which nobody claims any more, is safe.
pub fn the_right_source_wins(evidence: &Evidence) -> Result<(), Broken> {
    let Some(truth) = evidence.truths.first() else { return Ok(()) };
    let live: BTreeSet<usize> =
        evidence.hearings.iter().filter(|h| h.is_live()).map(|h| h.session).collect();
    let mut claims: HashMap<(usize, Option<&str>, &str), Number> = HashMap::new();
    // Deeds of one session come in their order.
    let deeds = evidence.ledger.deeds.iter().filter(|(_, deed)| deed.taken);
    for (number, deed) in deeds.filter(|(_, deed)| live.contains(&deed.session)) {
        match deed.act {
            Act::Claim { source } if deed.address.ends_with(CONTENDED) => {
                claims.insert((deed.session, source, deed.address.as_str()), *number);
            }
            Act::Release { source } => {
                claims.retain(|(session, id, _), _| (*session, *id) != (deed.session, Some(source)))
            }
            _ => {}
        }
    }
    let mut winners: BTreeMap<&str, (bool, Number)> = BTreeMap::new();
    for ((_, source, address), number) in claims {
        let claim = (source == Some(DESK), number);
        let best = winners.entry(address).or_insert(claim);
        *best = claim.max(*best);
    }
    for (address, (_, number)) in winners {
        let found = truth.get(address).map(|(number, _)| *number);
        if found != Some(number) {
            return Err(format!("{address} is {found:?}, and {number:?} should win"));
        }
    }
    let fleeting = truth.iter().filter(|(address, _)| address.ends_with(FLEETING));
    match fleeting.into_iter().find(|(_, (number, _))| number.0 != SAFE) {
        Some((address, held)) => Err(format!("{address} is {held:?}, and nobody claims it")),
        None => Ok(()),
    }
}

fn hears(hearing: &Hearing, address: &str) -> bool {
    hearing.patterns.iter().any(|pattern| pattern::matches(pattern, address))
}

fn broken(hearing: &Hearing, facts: std::fmt::Arguments<'_>) -> Result<(), Broken> {
    let kind = if hearing.prompt { "prompt" } else { "slow or ordinary" };
    Err(format!("peer {} ({kind}, shard {}): {facts}", hearing.peer, hearing.shard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Deed;
    use clasp_rt_core::shard::CloseReason;
    use clasp_rt_core::time::Time;

    fn set(number: i64, revision: u64) -> (Time, Heard) {
        let address = "/h/a/x".to_owned();
        (Time(0), Heard::Set { address, number: number_of(number), revision })
    }

    fn event(number: i64) -> (Time, Heard) {
        (Time(0), Heard::Published { address: "/h/a/go".to_owned(), number: number_of(number) })
    }

    fn number_of(count: i64) -> Number {
        Number::new(1, count as u32)
    }

    fn deed(act: Act, address: &str) -> Deed {
        let address = address.to_owned();
        Deed { session: 1, address, act, bundle: None, timed: false, taken: true, verdict: None }
    }

    fn evidence(heard: Vec<(Time, Heard)>, deeds: Vec<(i64, Deed)>) -> Evidence {
        let hearing = Hearing {
            session: 0,
            peer: 0,
            shard: 0,
            patterns: vec!["/h/**".to_owned()],
            from_start: true,
            prompt: true,
            paced: false,
            heard,
            closed: None,
            left: false,
        };
        let deeds = deeds.into_iter().map(|(count, deed)| (number_of(count), deed)).collect();
        let ledger = Ledger { deeds };
        Evidence { shards: 2, ledger, hearings: vec![hearing], truths: Vec::new() }
    }

    /// Each check must see the failure it exists for, or it proves nothing.
    #[test]
    fn every_check_sees_what_it_is_for() {
        let bundled = |count| Deed { bundle: Some(number_of(count)), ..deed(Act::Set, "/h/a/x") };
        let refused =
            Deed { verdict: Some(Verdict::Refused { code: 400 }), ..deed(Act::Set, "/h/a/x") };
        let touch = |phase| deed(Act::Gesture { id: 1, phase }, "/h/a/go");
        let mut disagreeing = evidence(vec![set(1, 1)], Vec::new());
        let truth = |number, revision| {
            BTreeMap::from([("/h/a/x".to_owned(), (number_of(number), revision))])
        };
        disagreeing.truths = vec![truth(2, 2), truth(3, 3)];
        let claim = |source| deed(Act::Claim { source }, "/h/a/contended");
        let deeds = vec![(1, claim(Some(DESK))), (2, claim(None))];
        let mut outranked = evidence(Vec::new(), deeds);
        outranked.hearings[0].session = 1;
        let told = |address: &str| BTreeMap::from([(address.to_owned(), (number_of(2), 1))]);
        outranked.truths = vec![told("/h/a/contended")];
        let mut afloat = evidence(Vec::new(), Vec::new());
        afloat.truths = vec![told("/h/a/fleeting")];
        let mut own = evidence(vec![event(1)], vec![(1, deed(Act::Event, "/h/a/go"))]);
        own.hearings[0].session = 1;
        let mut deaf = evidence(vec![event(1)], Vec::new());
        deaf.hearings[0].patterns = vec!["/other".to_owned()];
        let mut shut = evidence(Vec::new(), Vec::new());
        shut.hearings[0].closed = Some(CloseReason::TooSlow);
        let cases: Vec<(&str, Evidence)> = vec![
            ("prompt_readers_stay", shut),
            ("revisions_rise_for_everyone", evidence(vec![set(1, 2), set(2, 1)], Vec::new())),
            ("revisions_rise_for_everyone", evidence(vec![set(1, 2), set(2, 2)], Vec::new())),
            ("nothing_comes_twice", evidence(vec![event(1), event(1)], Vec::new())),
            ("a_writer_does_not_hear_its_own_publishing", own),
            ("only_what_matches_arrives", deaf),
            (
                "writers_are_heard_in_order",
                evidence(
                    vec![event(2), event(1)],
                    vec![(1, deed(Act::Event, "/h/a/go")), (2, deed(Act::Event, "/h/a/go"))],
                ),
            ),
            (
                "cues_follow_the_params_before_them",
                evidence(
                    vec![event(2), set(1, 1)],
                    vec![(1, deed(Act::Set, "/h/a/x")), (2, deed(Act::Event, "/h/a/go"))],
                ),
            ),
            (
                "samples_of_an_address_stay_in_order",
                evidence(
                    vec![event(2), event(1)],
                    vec![(1, deed(Act::Stream, "/h/a/go")), (2, deed(Act::Stream, "/h/a/go"))],
                ),
            ),
            (
                "gestures_begin_move_and_end",
                evidence(
                    vec![event(1), event(3), event(2)],
                    vec![(1, touch(Phase::Start)), (2, touch(Phase::Move)), (3, touch(Phase::End))],
                ),
            ),
            (
                "what_may_not_be_lost_arrives",
                evidence(Vec::new(), vec![(1, deed(Act::Event, "/h/a/go"))]),
            ),
            ("verdicts_are_true", evidence(vec![set(1, 1)], vec![(1, refused)])),
            (
                "bundles_are_whole",
                evidence(vec![set(1, 1)], vec![(1, bundled(1)), (2, bundled(1))]),
            ),
            (
                "bundles_are_whole",
                evidence(
                    vec![set(1, 1), set(9, 2), set(2, 3)],
                    vec![(1, bundled(1)), (2, bundled(1)), (9, deed(Act::Set, "/h/a/x"))],
                ),
            ),
            ("newcomers_agree", disagreeing.clone()),
            ("subscribers_agree_with_homes", disagreeing),
            ("the_right_source_wins", outranked),
            ("the_right_source_wins", afloat),
        ];
        for (name, evidence) in &cases {
            let (_, check) = CHECKS.iter().find(|(found, _)| found == name).unwrap();
            assert!(check(evidence).is_err(), "{name} is blind to {evidence:?}");
        }
        for (name, _) in CHECKS {
            assert!(cases.iter().any(|(covered, _)| covered == name), "{name} is not tried");
        }
        let sound = evidence(vec![set(1, 1), set(2, 2), event(3)], Vec::new());
        assert!(CHECKS.iter().all(|(_, check)| check(&sound).is_ok()));
    }
}

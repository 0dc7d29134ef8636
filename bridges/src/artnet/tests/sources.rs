//! Whose each slot is, as the router is told it.

use super::*;
use crate::uplink::tests::arbitration_frame;

fn mark(id: &str) -> String {
    format!("PUBLISH event /clasp/source {{id: \"artnet.{id}\"}}")
}

fn details(id: &str) -> String {
    let host = id.strip_suffix(".1").expect("of universe 1");
    format!(
        "SET /clasp/source/artnet.{id} {{protocol: \"artnet\", name: \"artnet\", host: \
         \"{host}\", universe: 1}}"
    )
}

fn bid(id: &str, slot: u16, level: u8) -> String {
    let source = format!("id: \"artnet.{id}\"");
    format!("PUBLISH event /clasp/source/bids/artnet/1/{slot} {{{source}, value: {level}}}")
}

/// What the router was told, without how it lies in bundles.
fn told(rig: &mut Rig) -> Vec<String> {
    let lines = rig.said.take_lines();
    let lines = lines.iter().filter(|line| *line != "BUNDLE now");
    lines.map(|line| line.trim_start().to_owned()).collect()
}

const A: &str = "10.0.0.1.1";
const B: &str = "10.0.0.2.1";

fn sets<const N: usize>(slots: [(u16, u8); N]) -> [String; N] {
    slots.map(|(slot, level)| format!("SET /artnet/1/{slot} {level}"))
}

#[test]
fn each_sender_of_a_merge_is_a_source_with_its_own_levels() {
    let mut rig = with_sources("arbitrated = [\"/rig/**\"]");
    rig.dmx(DESK, 1, 1, &[10, 20]);
    let [one, two] = sets([(1, 10), (2, 20)]);
    assert_eq!(told(&mut rig), [details(A), mark(A), one, two]);
    rig.dmx(DESK, 2, 1, &[10, 21]);
    assert_eq!(told(&mut rig), [mark(A), sets([(2, 21)])[0].clone()]);
    // Another one has slot 1, and wants slot 2.
    rig.dmx(OTHER, 1, 1, &[200, 7]);
    let first = [details(B), bid(B, 2, 7), mark(B), sets([(1, 200)])[0].clone()];
    assert_eq!(told(&mut rig), first, "A said 10 of slot 1, as is known");
    rig.dmx(DESK, 3, 1, &[11, 21]);
    assert_eq!(told(&mut rig), [bid(A, 1, 11)], "nothing changes but what a loser says");
    rig.dmx(DESK, 3, 1, &[11, 21]);
    assert_eq!(told(&mut rig), [""; 0]);
    // It lets go: its own word first, so that the winner is who changed last.
    rig.dmx(OTHER, 2, 1, &[5, 7]);
    assert_eq!(told(&mut rig), [bid(B, 1, 5), mark(A), sets([(1, 11)])[0].clone()]);
}

#[test]
fn a_sender_is_there_until_it_is_lost_after_ten_seconds() {
    let mut rig = with_sources("arbitrated = []");
    rig.dmx(DESK, 1, 1, &[10]);
    rig.dmx(OTHER, 1, 1, &[20]);
    told(&mut rig);
    let sign = |id: &str, what: &str| {
        format!("PUBLISH event /clasp/source {{id: \"artnet.{id}\", {what}: true}}")
    };
    for second in 0..11_u8 {
        rig.wait(Span::from_secs(1));
        rig.dmx(DESK, second.wrapping_add(2), 1, &[10]);
    }
    let lines = told(&mut rig);
    assert!(lines.contains(&sign(A, "alive")) && lines.contains(&sign(B, "alive")), "{lines:?}");
    let at = |line: &str| lines.iter().position(|other| other == line);
    let (taken, gone) = (at("SET /artnet/1/1 10"), at(&sign(B, "release")));
    assert!(taken.is_some() && taken < gone, "{lines:?}");
    // Twice: what a route passed on may have been on its way.
    assert_eq!(lines.iter().filter(|line| **line == sign(B, "release")).count(), 2);
    rig.wait(Span::from_secs(2));
    assert!(!told(&mut rig).contains(&sign(B, "release")));
}

#[test]
fn a_router_that_comes_back_is_told_everybody_again() {
    let mut rig = with_sources("arbitrated = []\nmerge = \"ltp\"");
    rig.dmx(DESK, 1, 1, &[10, 20]);
    rig.dmx(OTHER, 1, 1, &[5, 5]);
    rig.dmx(DESK, 2, 1, &[11, 20]);
    rig.said.frames.clear();
    rig.step(Input::Joined);
    let lines = told(&mut rig);
    let [one, two] = sets([(1, 11), (2, 5)]);
    let expected =
        [details(A), details(B), mark(A), one, mark(B), two, bid(A, 2, 20), bid(B, 1, 5)];
    assert_eq!(lines[2..], expected);
}

#[test]
fn where_nothing_is_known_of_the_router_a_loser_is_told_with_priority_0() {
    let mut rig = with_sources("");
    rig.dmx(DESK, 1, 1, &[10]);
    told(&mut rig);
    rig.dmx(OTHER, 1, 1, &[200]);
    let lost = "PUBLISH event /clasp/source {id: \"artnet.10.0.0.1.1\", priority: 0}";
    let [set] = sets([(1, 200)]);
    assert_eq!(told(&mut rig), [&details(B), &mark(B), &set, lost, &set]);
}

#[test]
fn once_the_router_says_what_it_arbitrates_losers_are_told_as_what_they_are() {
    let mut rig = with_sources("");
    rig.dmx(DESK, 1, 1, &[10, 7]);
    rig.dmx(OTHER, 1, 1, &[200, 5]);
    told(&mut rig);
    let answer = arbitration_frame(&[("/rig/**", "htp")], &[("art*", 120)]);
    rig.step(Input::Frame(&answer));
    let [first, second] = sets([(1, 200), (2, 7)]);
    let bid = |id, slot, level| bid(id, slot, level).replace(", value", ", priority: 120, value");
    let winners = [details(A), details(B), mark(A), second, mark(B), first];
    assert_eq!(told(&mut rig), [&winners[..], &[bid(A, 1, 10), bid(B, 2, 5)]].concat());
    // Said again it is nothing new.
    rig.step(Input::Frame(&answer));
    assert_eq!(told(&mut rig), [""; 0]);
}

#[test]
fn more_bids_than_are_told_at_once_follow() {
    let mut rig = with_sources("arbitrated = [\"/artnet/**\"]");
    rig.dmx(DESK, 1, 1, &[200; 512]);
    rig.dmx(OTHER, 1, 1, &[1; 512]);
    told(&mut rig);
    // Both change all that they say.
    let both: Vec<u8> = (0..512).map(|slot| if slot % 2 == 0 { 2 } else { 250 }).collect();
    rig.said.room = 0;
    rig.dmx(DESK, 2, 1, &both);
    let other: Vec<u8> = both.iter().map(|level| 252 - level).collect();
    rig.dmx(OTHER, 2, 1, &other);
    rig.said.room = usize::MAX;
    rig.wait(Span::from_secs(1));
    let mut claims = std::collections::BTreeMap::new();
    let mut source = String::new();
    for line in told(&mut rig) {
        if let Some(id) = line.strip_prefix("PUBLISH event /clasp/source {id: \"artnet.10.0.0.") {
            source = id.chars().take(1).collect();
        } else if let Some((slot, level)) =
            line.strip_prefix("SET /artnet/1/").and_then(|set| set.split_once(' '))
        {
            claims.insert((source.clone(), slot.to_owned()), level.to_owned());
        }
    }
    assert_eq!(claims.len(), 1_024, "each says something new of each slot");
    for slot in 0..512 {
        for (source, levels) in [("1", &both), ("2", &other)] {
            let said = claims.get(&(source.to_owned(), (slot + 1).to_string()));
            assert_eq!(said, Some(&levels[slot].to_string()), "{source} of {slot}");
        }
    }
}

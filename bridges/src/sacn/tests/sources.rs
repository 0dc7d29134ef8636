//! Several sources of one universe: who wins, who is lost, and whose a slot is.

use super::*;
use crate::uplink::tests::arbitration_frame;

#[test]
fn the_highest_priority_wins_and_equal_ones_merge_as_declared() {
    let mut highest = rig("");
    highest.levels(A, &[10, 20, 30]);
    highest.levels(LOW, &[99, 99, 99, 99]);
    assert_eq!(highest.told(), ["1/1 10", "1/2 20", "1/3 30", "1/4 99"], "only LOW sends slot 4");
    highest.levels(B, &[15, 5]);
    assert_eq!(highest.told(), ["1/1 15"]);
    highest.levels(HIGH, &[1]);
    assert_eq!(highest.told(), ["1/1 1"]);
    highest.levels(A, &[200, 20, 30]);
    assert_eq!(highest.told(), [""; 0]);
    highest.end(HIGH);
    assert_eq!(highest.told(), ["1/1 200"]);

    let mut latest = rig("merge = \"ltp\"");
    latest.levels(A, &[10, 20, 30]);
    latest.levels(B, &[15, 5]);
    assert_eq!(latest.told()[3..], ["1/1 15", "1/2 5"]);
    latest.levels(A, &[10, 20, 30]);
    assert_eq!(latest.told(), [""; 0], "repeating oneself changes nothing");
    latest.levels(A, &[11, 20, 30]);
    assert_eq!(latest.told(), ["1/1 11"]);
    latest.end(A);
    assert_eq!(latest.told(), ["1/1 15"], "and slot 3 stays");
}

#[test]
fn a_change_of_priority_alone_changes_who_wins() {
    let mut rig = rig("");
    rig.levels(A, &[10]);
    rig.levels(B, &[20]);
    assert_eq!(rig.told(), ["1/1 10", "1/1 20"]);
    rig.levels(Desk(A.0, 101), &[10]);
    assert_eq!(rig.told(), ["1/1 10"]);
    rig.levels(A, &[10]);
    assert_eq!(rig.told(), ["1/1 20"]);
}

#[test]
fn priorities_of_slots_overrule_that_of_the_universe_until_they_stop() {
    let mut rig = rig("");
    rig.levels(A, &[10, 10, 10]);
    rig.levels(HIGH, &[1, 2, 3]);
    rig.said.frames.clear();
    // HIGH lets go of slot 1, is below A on slot 2 and above it on slot 3.
    rig.priorities(HIGH, &[0, 99, 101]);
    assert_eq!(rig.told(), ["1/1 10", "1/2 10"]);
    // Slots beyond those that were sent are not controlled either.
    rig.levels(HIGH, &[1, 2, 3, 4]);
    assert_eq!(rig.told(), [""; 0]);
    for _ in 0..24 {
        rig.levels(A, &[10, 10, 10]);
        rig.levels(HIGH, &[1, 2, 3, 4]);
        rig.wait(Span::from_millis(100));
    }
    assert_eq!(rig.told(), [""; 0]);
    rig.wait(Span::from_millis(200));
    assert_eq!(rig.told(), ["1/1 1", "1/2 2", "1/4 4"], "2.5 s after the last of them");
}

#[test]
fn a_source_is_lost_after_2_5_seconds_and_a_farewell_at_once() {
    let mut rig = rig("");
    rig.levels(HIGH, &[1, 2]);
    rig.levels(A, &[10]);
    assert_eq!(rig.told(), ["1/1 1", "1/2 2"]);
    for _ in 0..24 {
        rig.levels(A, &[10]);
        rig.wait(Span::from_millis(100));
    }
    assert_eq!(rig.told(), [""; 0]);
    rig.levels(A, &[10]);
    rig.wait(Span::from_millis(200));
    rig.levels(A, &[10]);
    assert_eq!(rig.told(), ["1/1 10"], "slot 2 keeps its level");
    rig.levels(HIGH, &[1, 2]);
    assert_eq!(rig.told(), ["1/1 1"]);
    rig.end(HIGH);
    rig.end(HIGH);
    rig.end(HIGH);
    assert_eq!(rig.told(), ["1/1 10"]);
}

/// Two desks behind one switch: when it dies, both fall silent within a moment, the higher one
/// first; when it lives again, the lower one is heard first.
#[test]
fn a_dying_switch_never_flashes_a_lower_priority() {
    let mut rig = rig("");
    rig.levels(HIGH, &[200]);
    rig.wait(Span::from_millis(10));
    rig.levels(LOW, &[7]);
    assert_eq!(rig.told(), ["1/1 200"]);
    rig.wait(Span::from_secs(10));
    assert_eq!(rig.told(), [""; 0], "neither is believed to have outlived the other");
    rig.levels(LOW, &[7]);
    rig.wait(Span::from_millis(900));
    rig.levels(LOW, &[8]);
    assert_eq!(rig.told(), [""; 0], "the higher one may be on its way");
    rig.levels(HIGH, &[201]);
    assert_eq!(rig.told(), ["1/1 201"], "and needs not wait");
}

#[test]
fn after_an_outage_a_lower_priority_is_believed_when_the_higher_one_does_not_come() {
    let mut rig = rig("");
    rig.levels(HIGH, &[200]);
    rig.levels(LOW, &[7]);
    rig.wait(Span::from_secs(10));
    rig.said.frames.clear();
    rig.levels(LOW, &[7]);
    rig.wait(Span::from_millis(1_400));
    rig.levels(LOW, &[8]);
    assert_eq!(rig.told(), [""; 0]);
    rig.wait(Span::from_millis(200));
    assert_eq!(rig.told(), ["1/1 8"]);
}

#[test]
fn at_start_levels_wait_until_every_source_can_have_been_heard() {
    let mut rig = unsettled("sources = false");
    rig.levels(LOW, &[7]);
    rig.wait(Span::from_millis(900));
    rig.levels(HIGH, &[200]);
    assert_eq!(rig.told(), [""; 0]);
    rig.wait(Span::from_millis(700));
    assert_eq!(rig.told(), ["1/1 200"]);
    rig.say(LOW, &[9], |data| data.universe = universe(2));
    assert_eq!(rig.told(), ["2/1 9"], "who comes later does not wait");
    let mut first = unsettled("sources = false");
    first.levels(Desk(b'x', 200), &[3]);
    assert_eq!(first.told(), ["1/1 3"], "nothing is above 200");
}

#[test]
fn a_source_too_many_is_ignored_with_an_alarm_unless_its_priority_is_higher() {
    let mut rig = rig("");
    for letter in b"abcd" {
        rig.levels(Desk(*letter, 100), &[*letter]);
    }
    rig.said.frames.clear();
    rig.levels(Desk(b'e', 100), &[255]);
    rig.levels(Desk(b'e', 100), &[255]);
    let lines = rig.said.take_lines();
    let alarm = "PUBLISH event /sacn/1/alarm {alarm: \"too many sources\", heard: 4, ignored: \
                 \"65656565-6565-6565-6565-656565656565\"}";
    assert_eq!(lines, [alarm], "once, until somebody leaves");
    assert_eq!(rig.bridge.counters().overflowed, 2);
    rig.levels(Desk(b'f', 101), &[1]);
    assert_eq!(rig.told(), ["1/1 1"], "it takes the place of one of the lowest");
    rig.end(Desk(b'f', 101));
    assert_eq!(rig.told(), ["1/1 100"]);
    rig.levels(Desk(b'e', 100), &[255]);
    assert_eq!(rig.told(), ["1/1 255"]);
}

/// What the router is told of slots and of whose they are, markers in short.
fn marked(rig: &mut Rig) -> Vec<String> {
    let lines = rig.said.take_lines().into_iter().map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("SET /sacn/").unwrap_or(line);
        line.replace("PUBLISH event /clasp/source ", "").replace("BUNDLE now", "--")
    });
    lines.filter(|line| !line.contains("/sources") && !line.contains("1/priority")).collect()
}

#[test]
fn the_router_is_told_whose_each_slot_is() {
    let mut rig = unsettled("settle_ms = 0");
    rig.levels(A, &[10, 20]);
    let details = "SET /clasp/source/6161616161616161.1 {protocol: \"sacn\", name: \"desk\", \
                   host: \"10.0.0.1\", universe: 1}";
    let marker = "{id: \"6161616161616161.1\", priority: 100}";
    assert_eq!(marked(&mut rig), ["--", details, marker, "1/1 10", "1/2 20"]);
    rig.levels(A, &[10, 21]);
    assert_eq!(marked(&mut rig), ["--", marker, "1/2 21"]);
    // A slot that passes to another: the loser is told with priority 0, behind the winner.
    rig.levels(HIGH, &[5]);
    let high = "{id: \"6868686868686868.1\", priority: 150}";
    let lost = "{id: \"6161616161616161.1\", priority: 0}";
    let details = details.replace("6161616161616161", "6868686868686868");
    let told = marked(&mut rig);
    assert_eq!(told, ["--", details.as_str(), high, "1/1 5", lost, "1/1 5"]);
    // A farewell: first who has the slot now, then who has gone.
    rig.end(HIGH);
    let gone = "{id: \"6868686868686868.1\", release: true}";
    assert_eq!(marked(&mut rig), ["--", marker, "1/1 10", gone]);
    // A priority by itself is told with all slots that it wins.
    rig.levels(Desk(A.0, 90), &[10, 21]);
    let marker = marker.replace("100", "90");
    assert_eq!(marked(&mut rig), ["--", marker.as_str(), "1/1 10", "1/2 21"]);
    // And from then on that it is there, though it changes nothing.
    rig.wait(Span::from_millis(50));
    rig.said.frames.clear();
    rig.wait(Span::from_secs(1));
    assert_eq!(marked(&mut rig), ["{id: \"6161616161616161.1\", alive: true}"]);
}

#[test]
fn a_held_look_gives_way_at_the_router_to_whoever_comes() {
    let mut rig = unsettled("settle_ms = 0");
    rig.levels(A, &[10]);
    rig.end(A);
    rig.step(Input::Lost);
    rig.said.frames.clear();
    rig.step(Input::Joined);
    let told = marked(&mut rig);
    assert_eq!(told[4..], ["{id: \"0000000000000000.1\", priority: 0}", "1/1 10"], "{told:?}");
}

#[test]
fn losers_are_told_with_their_own_priority_and_level() {
    let mut rig = unsettled("settle_ms = 0\narbitrated = [\"/rig/**\"]");
    let bid = |letter: u8, priority: u8, slot: u16, level: u8| {
        let id = format!("{letter:02x}").repeat(8);
        let source = format!("id: \"{id}.1\", priority: {priority}");
        format!("PUBLISH event /clasp/source/bids/sacn/1/{slot} {{{source}, value: {level}}}")
    };
    rig.levels(A, &[10, 20]);
    marked(&mut rig);
    rig.levels(HIGH, &[5]);
    let high = "{id: \"6868686868686868.1\", priority: 150}";
    let told = marked(&mut rig);
    assert_eq!(told[told.len() - 2..], [high, "1/1 5"], "what A says is known");
    rig.levels(A, &[12, 20]);
    assert_eq!(marked(&mut rig), [bid(b'a', 100, 1, 12)]);
    // Each slot by its own priority; one that it lets go of is told with 0.
    rig.levels(HIGH, &[5, 6]);
    marked(&mut rig);
    rig.priorities(HIGH, &[0, 90]);
    let told = marked(&mut rig);
    let bids = [bid(b'h', 0, 1, 5), bid(b'h', 90, 2, 6)];
    assert_eq!(told[1..3], bids, "{told:?}");
    let low = "{id: \"6161616161616161.1\", priority: 100}";
    assert_eq!(told[told.len() - 3..], [low, "1/1 12", "1/2 20"]);
    // A farewell, and once more for what a route has on its way.
    rig.end(HIGH);
    let gone = "{id: \"6868686868686868.1\", release: true}";
    assert_eq!(marked(&mut rig)[1..], [gone]);
    rig.wait(Span::from_secs(2));
    assert_eq!(marked(&mut rig).iter().filter(|line| line.contains(gone)).count(), 1);
}

#[test]
fn once_the_router_says_what_it_arbitrates_losers_are_told_with_their_own_priority() {
    let mut rig = unsettled("settle_ms = 0");
    rig.levels(A, &[10]);
    rig.levels(HIGH, &[5]);
    let told = marked(&mut rig);
    assert!(told.contains(&"{id: \"6161616161616161.1\", priority: 0}".to_owned()), "{told:?}");
    rig.step(Input::Frame(&arbitration_frame(&[("/rig/**", "htp")], &[("*", 7)])));
    let told = marked(&mut rig);
    let bid = "PUBLISH event /clasp/source/bids/sacn/1/1 {id: \"6161616161616161.1\", \
               priority: 100, value: 10}";
    let high = "{id: \"6868686868686868.1\", priority: 150}";
    assert_eq!(told[3..5], [high, "1/1 5"], "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some(bid), "{told:?}");
}

#[test]
fn a_slot_that_nobody_controls_keeps_whose_it_was() {
    let mut rig = unsettled("settle_ms = 0\narbitrated = []");
    rig.levels(A, &[10]);
    rig.levels(B, &[20]);
    marked(&mut rig);
    rig.priorities(A, &[0]);
    marked(&mut rig);
    rig.priorities(B, &[0]);
    assert_eq!(marked(&mut rig), [""; 0]);
}

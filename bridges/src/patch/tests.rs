//! The patch from the router's side: frames in, the SETs that it answers.

use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{MapWriter, push_bytes, push_f64, push_i64, push_str};

use super::*;
use crate::rig::Rig;
use crate::uplink::tests::{arbitration_frame, bundle_frame, publish_frame, set_frame};

fn rig(config: &str) -> Rig<Patched> {
    let config: Config = toml::from_str(config).unwrap_or_else(|why| panic!("{config}: {why}"));
    Rig::joined(Patched::new(&config).expect("a patch that works"))
}

const SPOT: &str = r##"
    [[patch]]
    fixture = "/rig/spot1"
    universe = "/artnet/0"
    at = 21
    slots = ["dimmer:16", "colour:rgb", "pan:16", "-", "=255", "iris"]
"##;

#[test]
fn a_function_fills_its_slots_in_one_bundle_and_constants_stand_from_the_beginning() {
    let mut rig = rig(SPOT);
    let lines = rig.said.take_lines();
    assert_eq!(lines, ["HELLO patch 0xf3", "SUBSCRIBE 1 /rig/spot1/*", "SET /artnet/0/29 255"]);
    let lines = rig.set("/rig/spot1/dimmer", |out| push_f64(out, 0.5));
    assert_eq!(lines, ["BUNDLE now", "  SET /artnet/0/21 128", "  SET /artnet/0/22 0"]);
    // Only the fine half changes.
    let lines = rig.set("/rig/spot1/dimmer", |out| push_i64(out, 0x8001));
    assert_eq!(lines, ["SET /artnet/0/22 1"]);
    let lines = rig.set("/rig/spot1/colour", |out| push_str(out, "#ff8000").expect("short"));
    let slots = ["  SET /artnet/0/23 255", "  SET /artnet/0/24 128", "  SET /artnet/0/25 0"];
    assert_eq!(lines[1..], slots);
    assert_eq!(rig.set("/rig/spot1/iris", |out| push_i64(out, 9)), ["SET /artnet/0/30 9"]);
    assert_eq!(rig.set("/rig/spot1/gobo", |out| push_i64(out, 9)), [""; 0]);
    assert_eq!(rig.bridge.counters.refused, 0);
    assert_eq!(rig.set("/rig/spot1/iris", |out| push_str(out, "wide").expect("short")), [""; 0]);
    assert_eq!(rig.bridge.counters.refused, 1);
}

#[test]
fn a_router_that_comes_back_is_told_everything_again() {
    let mut rig = rig(SPOT);
    rig.set("/rig/spot1/iris", |out| push_i64(out, 9));
    rig.step(Input::Lost);
    rig.said.frames.clear();
    rig.step(Input::Joined);
    let lines = rig.said.take_lines();
    assert_eq!(lines[2..], ["BUNDLE now", "  SET /artnet/0/29 255", "  SET /artnet/0/30 9"]);
}

#[test]
fn a_fade_moves_40_times_a_second_and_ends_where_it_should() {
    let mut rig = rig(r#"
        [[patch]]
        fixture = "/rig/par"
        universe = "/sacn/1"
        at = 1
        slots = ["dimmer"]
        fade_s = 0.1
    "#);
    // The first value is no fade: what was there before is not known.
    assert_eq!(rig.set("/rig/par/dimmer", |out| push_i64(out, 0)), ["SET /sacn/1/1 0"]);
    assert_eq!(rig.bridge.deadline(), None);
    assert_eq!(rig.set("/rig/par/dimmer", |out| push_i64(out, 200)), [""; 0]);
    let mut lines = Vec::new();
    while let Some(due) = rig.bridge.deadline() {
        rig.now = due;
        rig.step(Input::Deadline);
        lines.extend(rig.said.take_lines());
    }
    let levels = [50, 100, 150, 200].map(|level| format!("SET /sacn/1/1 {level}"));
    assert_eq!(lines, levels);
}

#[test]
fn a_desk_s_slots_become_functions_when_all_of_one_are_known() {
    let mut rig = rig(r#"
        [[patch]]
        fixture = "/desk/spot1"
        universe = "/sacn/7"
        at = 2
        direction = "in"
        slots = ["pan:16", "colour:rgb"]
    "#);
    let lines = rig.said.take_lines();
    assert_eq!(lines[1..], ["SUBSCRIBE 1 /sacn/7", "SUBSCRIBE 2 /sacn/7/*"]);
    assert_eq!(rig.set("/sacn/7/2", |out| push_i64(out, 255)), [""; 0]);
    let lines = rig.set("/sacn/7/3", |out| push_i64(out, 255));
    assert_eq!(lines, ["SET /desk/spot1/pan 1.0"]);
    // Not of this fixture, not a slot.
    assert_eq!(rig.set("/sacn/7/1", |out| push_i64(out, 255)), [""; 0]);
    assert_eq!(rig.set("/sacn/7/priority", |out| push_i64(out, 100)), [""; 0]);
    assert_eq!(rig.set("/sacn/7/02", |out| push_i64(out, 0)), [""; 0]);
    let universe = [9, 255, 255, 255, 0, 51];
    let lines = rig.set("/sacn/7", |out| push_bytes(out, &universe).expect("short"));
    assert_eq!(lines, ["SET /desk/spot1/colour [1.0, 0.0, 0.2]"]);
    let stream = publish_frame("/sacn/7", Signal::Stream, |out| {
        push_bytes(out, &[9, 0, 0]).expect("short");
    });
    rig.step(Input::Frame(&stream));
    assert_eq!(rig.said.take_lines(), ["SET /desk/spot1/pan 0.0"]);
}

#[test]
fn a_changed_patch_takes_over_and_says_only_what_is_different() {
    let mut rig = rig(SPOT);
    rig.set("/rig/spot1/iris", |out| push_i64(out, 9));
    rig.set("/rig/spot1/dimmer", |out| push_f64(out, 0.5));
    rig.said.frames.clear();
    let changed = SPOT.replace("\"=255\"", "\"=128\"").replace("\"iris\"", "\"iris\", \"focus\"");
    let next = open(toml::from_str(&changed).expect("TOML")).expect("a patch that works");
    assert!(rig.bridge.succeed(rig.now, next, &mut rig.said).is_ok());
    let lines = rig.said.take_lines();
    assert_eq!(lines[..2], ["SUBSCRIBE 2 /rig/spot1/*", "Unsubscribe { id: 1 }"]);
    // The others have their levels already.
    assert_eq!(lines[2..], ["SET /artnet/0/29 128"]);
    // The router tells what it holds once more: nothing new.
    assert_eq!(rig.set("/rig/spot1/iris", |out| push_i64(out, 9)), [""; 0]);
    assert_eq!(rig.set("/rig/spot1/focus", |out| push_i64(out, 3)), ["SET /artnet/0/31 3"]);
}

#[test]
fn many_fixtures_of_one_rig_are_one_subscription() {
    let patches = (1..=20).map(|number| {
        format!(
            "[[patch]]\nfixture = \"/rig/par{number}\"\nuniverse = \"/artnet/0\"\n\
             at = {number}\nslots = [\"dimmer\"]\n"
        )
    });
    let mut rig = rig(&patches.collect::<String>());
    assert_eq!(rig.said.take_lines()[1..], ["SUBSCRIBE 1 /rig/*/*"]);
    assert_eq!(rig.set("/rig/par20/dimmer", |out| push_i64(out, 5)), ["SET /artnet/0/20 5"]);
}

#[test]
fn what_cannot_be_patched_is_refused_with_its_place() {
    let patch =
        |rest: &str| format!("[[patch]]\nfixture = \"/rig/a\"\nuniverse = \"/artnet/0\"\n{rest}\n");
    let cases = [
        (patch("at = 0\nslots = [\"d\"]"), "patch[0].at: 1 slots from 0 are not within 1 to 512"),
        (patch("at = 512\nslots = [\"d:16\"]"), "patch[0].at: 2 slots from 512"),
        (patch("at = 1\nslots = []"), "patch[0].slots: names no function"),
        (patch("at = 1\nslots = [\"d\", \"d\"]"), "patch[0].slots[1]: `d` is there twice"),
        (patch("at = 1\nslots = [\"d:12\"]"), "none of 8, 16, 24, rgb and rgbw"),
        (patch("at = 1\nslots = [\"d\"]\nfade_s = -1.0"), "patch[0].fade_s: must be 0 to 86400"),
        (
            patch("at = 1\nslots = [\"d\"]\nfade_s = 1.0\ndirection = \"in\""),
            "patch[0].fade_s: a fade is for",
        ),
        (
            patch("at = 1\nslots = [\"d:16\"]") + &patch("at = 2\nslots = [\"d\"]"),
            "patch[1].at: slot 2 of /artnet/0 is filled by /rig/a",
        ),
        (
            "[[patch]]\nfixture = \"rig\"\nuniverse = \"/a/0\"\nat = 1\nslots = [\"d\"]".to_owned(),
            "patch[0].fixture: `rig`",
        ),
    ];
    for (config, said) in cases {
        let parsed: Config = toml::from_str(&config).expect("TOML");
        let error = open(parsed).err().expect("refused").to_string();
        assert!(error.contains(said), "{config}: {error}");
    }
}

#[test]
fn what_a_desk_says_is_claimed_by_the_desk_where_the_router_arbitrates() {
    let mut rig = rig(r#"
        sources = true
        [[patch]]
        fixture = "/rig/spot"
        universe = "/artnet/0"
        at = 21
        slots = ["dimmer", "iris"]
        direction = "in"
    "#);
    let expected = ["HELLO patch 0xf3", "PUBLISH event /clasp/source {tell: true}"];
    assert_eq!(rig.said.take_lines()[..2], expected);
    let mut say = |id: &str, slot: u16| {
        let mut marker = Vec::new();
        Source { id, priority: None, by: Some("me") }.push(&mut marker).expect("short");
        let tell = publish_frame("/clasp/source", Signal::Event, |out| out.extend(&marker));
        let set = set_frame(&format!("/artnet/0/{slot}"), |out| push_i64(out, 255));
        rig.step(Input::Frame(&bundle_frame(&[&tell, &set])));
        rig.said.take_lines()
    };
    for id in ["a", "b"] {
        let marker = format!("  PUBLISH event /clasp/source {{id: \"{id}\", by: \"me\"}}");
        let set = "  SET /rig/spot/dimmer 1.0";
        assert_eq!(say(id, 21), ["BUNDLE now", &marker, set], "the same level, said by {id}");
    }
    assert_eq!(rig.set("/artnet/0/22", |out| push_i64(out, 0)), ["SET /rig/spot/iris 0.0"]);
}

/// What another source says of a slot.
fn bid_frame(slot: u16, id: &str, priority: i64, level: i64) -> Vec<u8> {
    publish_frame(&format!("/clasp/source/bids/sacn/1/{slot}"), Signal::Event, |out| {
        let mut map = MapWriter::start(out);
        push_str(map.entry("id").expect("short"), id).expect("short");
        push_i64(map.entry("priority").expect("short"), priority);
        push_str(map.entry("by").expect("short"), "sacn-session").expect("short");
        push_i64(map.entry("value").expect("short"), level);
    })
}

#[test]
fn who_loses_a_slot_loses_the_function_with_what_it_says_of_all_its_slots() {
    let mut rig = rig(r#"
        sources = true
        [[patch]]
        fixture = "/rig/spot"
        universe = "/sacn/1"
        at = 7
        slots = ["dimmer", "pan:16", "-"]
        direction = "in"
    "#);
    let arbitrated = arbitration_frame(&[("/rig/spot/dimmer", "htp")], &[]);
    rig.step(Input::Frame(&arbitrated));
    rig.said.frames.clear();
    let mut hear = |frame: &[u8]| {
        rig.step(Input::Frame(frame));
        rig.said.take_lines()
    };
    let source = "id: \"desk\", priority: 90, by: \"sacn-session\"";
    let marker = format!("  PUBLISH event /clasp/source {{{source}}}");
    let claim = ["BUNDLE now", &marker, "  SET /rig/spot/dimmer 1.0"];
    assert_eq!(hear(&bid_frame(7, "desk", 90, 255)), claim, "where the router arbitrates");
    // Half of a function is none.
    assert_eq!(hear(&bid_frame(8, "desk", 90, 255)), [""; 0]);
    assert_eq!(hear(&bid_frame(8, "other", 90, 0)), [""; 0]);
    let passed_on = "PUBLISH event /clasp/source/bids/rig/spot/pan";
    let pan = format!("{passed_on} {{{source}, value: 1.0}}");
    assert_eq!(hear(&bid_frame(9, "desk", 90, 255)), [pan], "elsewhere it is a bid still");
    assert_eq!(hear(&bid_frame(10, "desk", 90, 255)), [""; 0], "a slot of nobody's");
    assert_eq!(hear(&bid_frame(6, "desk", 90, 255)), [""; 0], "nor of this fixture");
    // What it said while it had the slot counts, too.
    let set = |slot: u16, level| set_frame(&format!("/sacn/1/{slot}"), |out| push_i64(out, level));
    let marked = publish_frame("/clasp/source", Signal::Event, |out| {
        let mut map = MapWriter::start(out);
        push_str(map.entry("id").expect("short"), "third").expect("short");
        push_str(map.entry("by").expect("short"), "sacn-session").expect("short");
    });
    hear(&bundle_frame(&[&marked, &set(8, 0), &set(9, 255)]));
    let third = "id: \"third\", priority: 80, by: \"sacn-session\"";
    let pan = format!("{passed_on} {{{third}, value: {:?}}}", f64::from(0x40ff) / 65_535.0);
    assert_eq!(hear(&bid_frame(8, "third", 80, 0x40)), [pan]);
    assert_eq!(rig.bridge.counters.refused, 0);
}

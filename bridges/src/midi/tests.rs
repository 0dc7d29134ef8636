//! The bridge between a router and devices that are lists of bytes.

use std::collections::BTreeMap;

use clasp_rt_core::message::{Message, ParamValue, Welcome};
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::Span;
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_bytes, push_f64, push_i64, push_str};
use clasp_rt_core::wire::binary::SnapshotBuilder;
use clasp_rt_core::wire::list::Features;
use serde_json::json;

use super::*;
use crate::devices::rig::Rig;
use crate::uplink::tests::{frame, publish_frame, set_frame};
use crate::vectors;

/// One that does not say whose its params are, unless `options` ask for it.
fn rig(mut options: serde_json::Value) -> Rig {
    options.as_object_mut().expect("options").entry("sources").or_insert(false.into());
    let config = serde_json::from_value(options).expect("options");
    Rig::new(open(config).expect("a bridge"))
}

/// With one device, which is there.
fn plugged(options: serde_json::Value) -> Rig {
    let mut rig = rig(options);
    rig.plug(0);
    rig.told();
    rig
}

fn set(rig: &mut Rig, address: &str, value: f64) {
    rig.step(Input::Frame(&set_frame(address, |out| push_f64(out, value))));
}

fn emit(rig: &mut Rig, address: &str, push: impl FnOnce(&mut Vec<u8>)) {
    rig.step(Input::Frame(&publish_frame(address, Signal::Event, push)));
}

fn text(rig: &mut Rig, address: &str, text: &str) {
    emit(rig, address, |out| push_str(out, text).expect("short"));
}

#[test]
fn the_streams_of_other_programs_mean_what_was_written_beside_them() {
    let count = vectors::each("midi", |bytes, expected| {
        let mut rig = plugged(json!({"values": "raw"}));
        bytes.iter().for_each(|byte| rig.hear(0, &[*byte]));
        let told: Vec<_> = rig.told().into_iter().filter(|line| line != "BUNDLE now").collect();
        let told: Vec<_> = told.iter().map(|line| line.trim()).collect();
        assert_eq!(told.join("\n"), expected);
        // Heard at once, the last value of each param is the same.
        let mut rig = plugged(json!({"values": "raw"}));
        rig.hear(0, bytes);
        assert_eq!(newest(&rig.told()), newest(&told));
        assert_eq!(rig.bridge.counters().malformed, 0);
    });
    assert!(count >= 1);
}

/// The last SET of each address.
fn newest<T: AsRef<str>>(lines: &[T]) -> BTreeMap<String, String> {
    let sets = lines.iter().filter_map(|line| line.as_ref().trim().strip_prefix("SET "));
    let pairs = sets.filter_map(|set| set.split_once(' '));
    pairs.map(|(address, value)| (address.to_owned(), value.to_owned())).collect()
}

#[test]
fn keys_are_events_and_held_until_they_are_let_go_of() {
    let mut rig = plugged(json!({}));
    rig.hear(0, &[0x90, 60, 127]);
    assert_eq!(
        rig.told(),
        [
            "BUNDLE now",
            "  PUBLISH event /midi/ch/1/note {note: 60, velocity: 1.0, on: true}",
            "  SET /midi/ch/1/note/60 1.0",
        ]
    );
    rig.hear(0, &[60, 0]);
    assert_eq!(
        rig.told(),
        [
            "BUNDLE now",
            "  PUBLISH event /midi/ch/1/note {note: 60, velocity: 0.0, on: false}",
            "  SET /midi/ch/1/note/60 0.0",
        ]
    );
    let mut events = plugged(json!({"notes": "event"}));
    events.hear(0, &[0x90, 60, 127]);
    assert_eq!(events.told().len(), 1);
    let mut params = plugged(json!({"notes": "param"}));
    params.hear(0, &[0x9F, 60, 127]);
    assert_eq!(params.told(), ["SET /midi/ch/16/note/60 1.0"]);
}

#[test]
fn keys_of_a_device_that_goes_are_let_go_of() {
    let silent: fn(&mut Rig) = |rig| {
        rig.hear(0, &[0xFE]);
        rig.wait(Span::from_millis(299));
        assert_eq!(rig.told(), [""; 0]);
        rig.wait(Span::from_millis(2));
    };
    type Case = (&'static str, fn(&mut Rig), bool);
    let cases: [Case; 6] = [
        ("unplugged", |rig| rig.unplug(0), true),
        ("active sensing stops", silent, true),
        ("all notes off", |rig| rig.hear(0, &[0xB0, 123, 0]), false),
        ("all sound off", |rig| rig.hear(0, &[0xB0, 120, 0]), false),
        ("system reset", |rig| rig.hear(0, &[0xFF]), false),
        ("key up", |rig| rig.hear(0, &[0x80, 60, 0]), false),
    ];
    for (what, happens, goes) in cases {
        let mut rig = plugged(json!({"notes": "param"}));
        rig.hear(0, &[0x90, 60, 1]);
        rig.told();
        happens(&mut rig);
        let told = rig.told().join("\n");
        assert!(told.contains("SET /midi/ch/1/note/60 0.0"), "{what}: {told}");
        assert_eq!(told.contains("SET /midi/online false"), goes, "{what}: {told}");
    }
}

#[test]
fn controllers_of_both_resolutions_and_parameters_have_their_values() {
    let mut rig = plugged(json!({
        "values": "raw", "device": [{"name": "", "fine": [7], "relative": [16]}]
    }));
    let cases: [(&[u8], &[&str]); 13] = [
        (&[0xB0, 1, 64], &["SET /midi/ch/1/cc/1 64"]),
        (&[7, 100], &["SET /midi/ch/1/cc/7 12800"]),
        (&[39, 5], &["SET /midi/ch/1/cc/7 12805"]),
        (&[7, 1], &["SET /midi/ch/1/cc/7 128"]),
        (&[40, 5], &["SET /midi/ch/1/cc/40 5"]),
        (&[6, 9], &["SET /midi/ch/1/cc/6 9"]),
        (&[16, 127], &["PUBLISH event /midi/ch/1/cc/16/step -1"]),
        (&[99, 1, 98, 2, 6, 64], &["SET /midi/ch/1/nrpn/1/2 8192"]),
        (&[38, 3], &["SET /midi/ch/1/nrpn/1/2 8195"]),
        (
            &[96, 0],
            &[
                "BUNDLE now",
                "  PUBLISH event /midi/ch/1/nrpn/1/2/step 1",
                "  SET /midi/ch/1/nrpn/1/2 8196",
            ],
        ),
        (&[101, 0, 100, 0, 97, 0], &["PUBLISH event /midi/ch/1/rpn/0/0/step -1"]),
        (&[101, 127, 100, 127, 6, 5], &["SET /midi/ch/1/cc/6 5"]),
        (&[122, 127], &["PUBLISH event /midi/ch/1/mode {mode: \"local\", value: 127}"]),
    ];
    for (bytes, lines) in cases {
        rig.hear(0, bytes);
        assert_eq!(rig.told(), lines, "{bytes:?}");
    }
}

#[test]
fn sysex_arrives_whole_and_show_and_machine_control_in_words() {
    let mut rig = plugged(json!({}));
    rig.hear(0, &[0xF0, 0x7E, 0x7F, 6]);
    assert_eq!(rig.told(), [""; 0]);
    rig.hear(0, &[1, 0xF7]);
    rig.hear(0, b"\xf0\x7f\x7f\x02\x01\x0112.5\x001\xf7");
    rig.hear(0, b"\xf0\x7f\x01\x06\x02\xf7");
    assert_eq!(
        rig.told(),
        [
            "PUBLISH event /midi/sysex 0xf07e7f0601f7",
            "PUBLISH event /midi/msc \
         {device: 127, command: \"go\", format: 1, cue: \"12.5\", list: \"1\"}",
            "PUBLISH event /midi/mmc {device: 1, command: \"play\"}",
        ]
    );
    let long = [&[0xF0][..], &[1; 70_000], &[0xF7, 0xF6]].concat();
    rig.hear(0, &long);
    assert_eq!(rig.told(), ["PUBLISH event /midi/tune true"]);
    assert_eq!(rig.bridge.counters().overflowed, 1);
}

#[test]
fn clocks_become_tempo_beat_and_bar() {
    let mut rig = plugged(json!({}));
    rig.hear(0, &[0xFA]);
    assert_eq!(
        rig.told(),
        [
            "BUNDLE now",
            "  PUBLISH event /midi/transport \"start\"",
            "  SET /midi/clock/running true",
            "  SET /midi/clock/position 0",
        ]
    );
    for _ in 0..24 * 5 {
        rig.hear(0, &[0xF8]);
        rig.now = rig.now + Span(500_000_000 / 24);
    }
    let told = rig.told();
    assert_eq!(told.iter().filter(|line| line.contains("tempo 120.0")).count(), 1, "{told:?}");
    let beats: Vec<_> = told.iter().filter(|line| line.contains("clock/beat")).collect();
    assert_eq!(beats.len(), 5);
    assert!(told[told.len() - 2].contains("bar 2") && told[told.len() - 1].contains("beat 1"));
    assert_eq!(told.len(), 1 + 5 * 3, "nothing else, and no ticks: {told:?}");
    rig.hear(0, &[0xFC, 0xF2, 16, 0, 0xF3, 7]);
    let told = rig.told().join("\n");
    for line in ["running false", "position 16", "bar 2", "song 7", "transport \"stop\""] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let mut ticks = plugged(json!({"ticks": true}));
    ticks.hear(0, &[0xFA, 0xF8, 0xF8]);
    assert!(ticks.told().contains(&"  PUBLISH event /midi/clock/tick 1".to_owned()));
}

#[test]
fn a_time_code_is_told_from_either_form() {
    let mut rig = plugged(json!({}));
    rig.hear(0, &[0xF0, 0x7F, 0x7F, 1, 1, 0x21, 2, 3, 4, 0xF7]);
    assert_eq!(rig.told(), ["SET /midi/timecode \"01:02:03:04\""]);
    // 10:20:30;08 at 29.97, in eight pieces.
    rig.hear(0, &[0xF1, 0x08, 0xF1, 0x10, 0xF1, 0x2E, 0xF1, 0x31]);
    rig.hear(0, &[0xF1, 0x44, 0xF1, 0x51, 0xF1, 0x6A, 0xF1, 0x74]);
    assert_eq!(
        rig.told(),
        ["BUNDLE now", "  SET /midi/timecode \"10:20:30;10\"", "  SET /midi/timecode/rate 29.97",]
    );
}

#[test]
fn everything_that_comes_in_can_go_out() {
    let mut rig = plugged(json!({"device": [{"fine": [7]}]}));
    let map = |entries: &'static [(&str, i64)]| {
        move |out: &mut Vec<u8>| {
            let mut map = MapWriter::start(out);
            for (key, value) in entries {
                push_i64(map.entry(key).expect("short"), *value);
            }
        }
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>), &'a [&'a str]);
    let cases: [Case<'_>; 26] = [
        ("/midi/ch/1/cc/1", &|out| push_f64(out, 0.5), &["b00140"]),
        ("/midi/ch/16/cc/7", &|out| push_f64(out, 1.0), &["bf077fbf277f"]),
        ("/midi/default/ch/1/cc/1", &|out| push_i64(out, 3), &["b00103"]),
        ("/midi/ch/2/cc/16/step", &|out| push_i64(out, -1), &["b1107f"]),
        ("/midi/ch/1/note/60", &|out| push_f64(out, 1.0), &["903c7f"]),
        ("/midi/ch/1/note/60", &|out| push_i64(out, 0), &["903c00"]),
        ("/midi/ch/3/note", &map(&[("note", 60), ("velocity", 100)]), &["923c64"]),
        ("/midi/ch/3/note", &map(&[("note", 60), ("velocity", 0)]), &["823c00"]),
        ("/midi/ch/1/pitch", &|out| push_f64(out, 0.5), &["e00040"]),
        ("/midi/ch/1/bend", &|out| push_i64(out, -8_192), &["e00000"]),
        ("/midi/ch/1/program", &|out| push_i64(out, 12), &["c00c"]),
        ("/midi/ch/1/pressure", &|out| push_f64(out, 1.0), &["d07f"]),
        ("/midi/ch/1/poly/60", &|out| push_f64(out, 1.0), &["a03c7f"]),
        ("/midi/ch/1/nrpn/1/2", &|out| push_i64(out, 8_195), &["b06301b06202b00640b02603"]),
        ("/midi/ch/1/rpn/0/0/step", &|out| push_i64(out, 1), &["b06500", "b06400", "b06000"]),
        ("/midi/ch/1/mode", &|out| push_str(out, "all_notes_off").unwrap(), &["b07b00"]),
        ("/midi/sysex", &|out| push_bytes(out, &[0x7E, 1]).unwrap(), &["f07e01f7"]),
        ("/midi/transport", &|out| push_str(out, "start").unwrap(), &["fa"]),
        ("/midi/transport", &|out| push_str(out, "continue").unwrap(), &["fb"]),
        ("/midi/transport", &|out| push_str(out, "stop").unwrap(), &["fc"]),
        ("/midi/clock/position", &|out| push_i64(out, 300), &["f22c02"]),
        ("/midi/clock/tick", &|out| push_i64(out, 0), &["f8"]),
        ("/midi/song", &|out| push_i64(out, 5), &["f305"]),
        ("/midi/tune", &|out| push_bool(out, true), &["f6"]),
        ("/midi/reset", &|out| push_bool(out, true), &["ff"]),
        ("/midi/timecode", &|out| push_str(out, "01:02:03:04").unwrap(), &["f07f7f010121020304f7"]),
    ];
    for (address, push, bytes) in cases {
        let publish = publish_frame(address, Signal::Event, push);
        rig.step(Input::Frame(&publish));
        assert_eq!(rig.said(), bytes, "{address}");
    }
    let before = rig.bridge.counters().refused;
    for wrong in [map(&[("note", 600)]), map(&[("note", -1)]), map(&[("note", 128)])] {
        let event = publish_frame("/midi/ch/1/note", Signal::Event, wrong);
        rig.step(Input::Frame(&event));
    }
    assert_eq!(rig.said(), [""; 0], "no key is near to them");
    assert_eq!(rig.bridge.counters().refused, before + 3);
    let before = before + 3;
    for (address, good) in [("/midi/nothing", false), ("/midi/transport", false)] {
        text(&mut rig, address, "x");
        assert_eq!(rig.said().is_empty(), !good);
    }
    assert_eq!(rig.bridge.counters().refused, before + 2);
}

#[test]
fn show_and_machine_commands_leave_as_sysex() {
    let mut rig = plugged(json!({}));
    let map = |entries: &'static [(&'static str, &'static str)]| {
        move |out: &mut Vec<u8>| {
            let mut map = MapWriter::start(out);
            for (key, value) in entries {
                push_str(map.entry(key).expect("short"), value).expect("short");
            }
        }
    };
    emit(&mut rig, "/midi/msc", map(&[("command", "go"), ("cue", "12"), ("list", "1")]));
    emit(&mut rig, "/midi/mmc", map(&[("command", "locate"), ("time", "00:01:00:00")]));
    assert_eq!(rig.said(), ["f07f7f02010131320031f7", "f07f7f064406012001000000f7"]);
}

#[test]
fn a_fader_is_not_sent_back_where_it_stands_and_a_pad_s_light_is() {
    let mut rig = plugged(json!({}));
    rig.hear(0, &[0xB0, 7, 100, 0x90, 36, 127]);
    set(&mut rig, "/midi/ch/1/cc/7", 100.0);
    assert_eq!(rig.said(), [""; 0]);
    set(&mut rig, "/midi/ch/1/cc/7", 99.0);
    set(&mut rig, "/midi/ch/1/cc/7", 100.0);
    set(&mut rig, "/midi/ch/1/note/36", 127.0);
    assert_eq!(rig.said(), ["b00763", "b00764", "90247f"]);
}

#[test]
fn of_what_a_busy_device_cannot_take_the_newest_values_and_all_events_leave() {
    let mut rig = plugged(json!({}));
    rig.around.room = 4;
    rig.stick(true);
    for value in 0..100 {
        set(&mut rig, "/midi/ch/1/cc/7", f64::from(value) + 2.0);
        text(&mut rig, "/midi/transport", "start");
    }
    let said = rig.said();
    assert_eq!(said, ["b00702", "fa"]);
    rig.stick(false);
    rig.wait(Span::from_millis(2));
    let said = rig.said();
    assert_eq!(said.iter().filter(|bytes| *bytes == "fa").count(), 99);
    assert_eq!(said.iter().filter(|bytes| bytes.starts_with("b0")).collect::<Vec<_>>(), ["b00765"]);
}

#[test]
fn more_events_than_the_line_holds_are_counted() {
    let mut rig = plugged(json!({}));
    rig.around.room = 0;
    rig.stick(true);
    for _ in 0..1_100 {
        text(&mut rig, "/midi/transport", "start");
    }
    assert_eq!(rig.bridge.counters().overflowed, 1_100 - 1_024);
    rig.unplug(0);
    assert_eq!(rig.bridge.counters().dropped, 1_024);
    text(&mut rig, "/midi/transport", "start");
    assert_eq!(rig.bridge.counters().dropped, 1_025, "nobody hears it");
}

#[test]
fn a_device_that_comes_back_gets_its_lights_and_faders_back() {
    let mut rig = rig(json!({}));
    set(&mut rig, "/midi/ch/1/note/36", 127.0);
    set(&mut rig, "/midi/ch/1/cc/7", 64.0);
    assert_eq!(rig.said(), [""; 0]);
    for _ in 0..2 {
        rig.plug(0);
        assert_eq!(rig.said(), ["b00740", "90247f"]);
        rig.unplug(0);
    }
    // What the device moved itself, it knows.
    rig.plug(0);
    rig.said();
    rig.hear(0, &[0xB0, 7, 1]);
    rig.unplug(0);
    rig.plug(0);
    assert_eq!(rig.said(), ["90247f"]);
}

#[test]
fn a_router_that_comes_back_is_told_what_moved_meanwhile() {
    let mut rig = plugged(json!({"values": "raw"}));
    rig.step(Input::Lost);
    rig.hear(0, &[0xB0, 7, 1, 7, 2, 0x90, 60, 9]);
    assert_eq!(rig.told(), [""; 0]);
    rig.step(Input::Joined);
    assert_eq!(
        rig.told(),
        [
            "HELLO midi 0xf1",
            "SUBSCRIBE 1 /midi/**",
            "BUNDLE now",
            "  SET /midi/online true",
            "  SET /midi/ch/1/cc/7 2",
            "  SET /midi/ch/1/note/60 9",
        ]
    );
}

#[test]
fn a_router_without_room_is_told_the_newest_value_later() {
    let mut rig = plugged(json!({"values": "raw"}));
    rig.router_room(0);
    for value in 0..100 {
        rig.hear(0, &[0xB0, 7, value]);
    }
    assert_eq!(rig.told(), [""; 0]);
    rig.router_room(usize::MAX);
    rig.wait(Span::from_millis(1));
    assert_eq!(rig.told(), ["SET /midi/ch/1/cc/7 99"]);
}

#[test]
fn what_the_router_held_reaches_the_device_but_not_old_events_nor_our_own() {
    let mut rig = plugged(json!({}));
    let welcome = Welcome {
        version: 1,
        features: Features::from_bits(0xF1),
        time_us: 0,
        session: "ours",
        name: "router",
        token: None,
    };
    rig.step(Input::Frame(&frame(&Message::Welcome(welcome))));
    let mut snapshot = Vec::new();
    let mut builder = SnapshotBuilder::start(&mut snapshot);
    let mut value = Vec::new();
    push_i64(&mut value, 9);
    let value = Value::from_encoded(&value).expect("a value");
    for (address, writer) in [
        ("/midi/ch/1/cc/1", None),
        ("/midi/ch/1/cc/2", Some("ours")),
        ("/midi/clock/tempo", Some("theirs")),
    ] {
        let param = ParamValue { address, value, revision: 1, writer, timestamp_us: None };
        assert!(builder.push(&mut snapshot, &param));
    }
    builder.finish(&mut snapshot);
    rig.step(Input::Frame(&snapshot));
    rig.wait(Span::from_secs(1));
    assert_eq!(rig.said(), ["b00109"]);
}

#[test]
fn clocks_and_quarter_frames_leave_at_their_pace() {
    let mut rig = plugged(json!({}));
    set(&mut rig, "/midi/clock/tempo", 125.0);
    rig.wait(Span::from_millis(2_001));
    assert_eq!(rig.said(), vec!["f8"; 101]);
    set(&mut rig, "/midi/clock/tempo", 0.0);
    rig.wait(Span::from_secs(1));
    assert_eq!(rig.said(), [""; 0]);
    text(&mut rig, "/midi/timecode", "10:00:00:00");
    assert_eq!(rig.said().len(), 1);
    let mut pieces = Vec::new();
    for frames in 1..=8 {
        rig.wait(Span::from_millis(40));
        text(&mut rig, "/midi/timecode", &format!("10:00:00:{frames:02}"));
        pieces.append(&mut rig.said());
    }
    // Seven frames passed since the second told that it moves; four pieces each.
    assert!((28..=30).contains(&pieces.len()), "{pieces:?}");
    let mut parser = timecode::Quarters::default();
    let data = |piece: &String| u8::from_str_radix(&piece[2..], 16).expect("a piece");
    let times: Vec<_> = pieces.iter().filter_map(|piece| parser.push(data(piece))).collect();
    let times: Vec<_> = times.iter().map(ToString::to_string).collect();
    assert_eq!(times, ["10:00:00:03", "10:00:00:05", "10:00:00:07"]);
    rig.wait(Span::from_secs(1));
    rig.said();
    rig.wait(Span::from_secs(1));
    assert_eq!(rig.said(), [""; 0], "nobody goes on with it");
}

#[test]
fn the_channels_that_were_used_fall_silent_at_the_end() {
    let mut rig = plugged(json!({}));
    set(&mut rig, "/midi/ch/3/note/60", 1.0);
    set(&mut rig, "/midi/ch/4/cc/1", 1.0);
    rig.said();
    rig.step(Input::Stop);
    assert_eq!(rig.said(), ["b27800", "b27b00"]);
    assert!(!rig.bridge.has_last_words());
    let mut holds = plugged(json!({"on_stop": "hold"}));
    set(&mut holds, "/midi/ch/3/note/60", 1.0);
    holds.said();
    holds.step(Input::Stop);
    assert_eq!(holds.said(), [""; 0]);
    text(&mut holds, "/midi/panic", "now");
    assert_eq!(holds.said(), ["b27800", "b27b00"]);
}

#[test]
fn a_cable_is_spared_the_status_bytes_that_repeat() {
    let mut rig = plugged(json!({"device": [{"running_status": true}]}));
    for (address, value) in [("cc/1", 1.0), ("cc/2", 0.0), ("note/60", 0.0), ("nrpn/1/2", 0.0)] {
        set(&mut rig, &format!("/midi/ch/1/{address}"), value);
    }
    assert_eq!(rig.said(), ["b0017f", "0200", "903c00", "b06301620206002600"]);
    text(&mut rig, "/midi/transport", "start");
    set(&mut rig, "/midi/ch/1/cc/3", 0.0);
    assert_eq!(rig.said(), ["fa", "0300"]);
    rig.unplug(0);
    rig.plug(0);
    assert_eq!(rig.said()[0], "b0017f");
}

#[test]
fn devices_are_told_apart_by_name() {
    let options = json!({"device": [
        {"name": "keys", "virtual": "keys"},
        {"name": "faders", "port": "nano"},
        {"port": "3"},
    ]});
    let mut rig = rig(options);
    for plan in 0..3 {
        rig.plug(plan);
    }
    rig.told();
    rig.hear(1, &[0xB0, 1, 127]);
    rig.hear(2, &[0xB0, 1, 127]);
    assert_eq!(rig.told(), ["SET /midi/faders/ch/1/cc/1 1.0", "SET /midi/ch/1/cc/1 1.0"]);
    set(&mut rig, "/midi/keys/ch/1/cc/1", 1.0);
    set(&mut rig, "/midi/ch/1/cc/2", 1.0);
    let to: Vec<_> = rig.around.said.drain(..).map(|(stream, _)| stream).collect();
    assert_eq!(to, [0, 2]);
}

#[test]
fn a_wrong_option_is_named() {
    let cases = [
        (json!({"device": [{"name": "a/b"}]}), "device[0].name"),
        (json!({"device": [{"name": "clock"}]}), "device[0].name"),
        (json!({"device": [{}, {}]}), "device[1].name"),
        (json!({"device": [{"port": "x", "virtual": "y"}]}), "device[0].port"),
        (json!({"device": [{"output_port": "x"}]}), "device[0].output_port"),
        (json!({"device": [{"serial": "/dev/x", "baud": 1}]}), "device[0].baud"),
        (json!({"device": [{"fine": [32]}]}), "device[0].fine"),
        (json!({"device": [{"relative": [120]}]}), "device[0].relative"),
        (json!({"beats_per_bar": 0}), "beats_per_bar"),
        (json!({"rate_hz_max": 0}), "rate_hz_max"),
        (json!({"namespace": "midi"}), "namespace"),
        (json!({"device": vec![json!({}); 65]}), "device"),
    ];
    for (options, key) in cases {
        let config = serde_json::from_value(options).expect("options");
        let error = open(config).err().expect(key);
        assert_eq!(error.key, key, "{error}");
    }
}

#[test]
fn the_same_bytes_at_the_same_times_say_the_same() {
    let run = || {
        let mut rig = plugged(json!({}));
        rig.hear(0, include_bytes!("../../../bench/captures/midi-alsa-rawmidi.bin"));
        set(&mut rig, "/midi/clock/tempo", 120.0);
        rig.wait(Span::from_secs(1));
        (rig.told(), rig.said())
    };
    assert_eq!(run(), run());
}

#[test]
fn each_device_is_a_source_until_it_is_unplugged() {
    let devices = json!([{"name": "faders"}, {"name": "pads", "port": "Launch"}]);
    let mut rig = rig(json!({"sources": true, "device": devices}));
    rig.told();
    rig.plug(1);
    let pads = "{protocol: \"midi\", name: \"pads\", host: \"test\"";
    let described = format!("  SET /clasp/source/midi.midi.pads {pads}}}");
    let mark = "  PUBLISH event /clasp/source {id: \"midi.midi.pads\"}";
    let online = ["BUNDLE now", &described, mark, "  SET /midi/pads/online true"];
    assert_eq!(rig.told(), online);
    rig.plug(0);
    rig.told();
    rig.hear(1, &[0xB0, 7, 127]);
    assert_eq!(rig.told(), ["BUNDLE now", mark, "  SET /midi/pads/ch/1/cc/7 1.0"]);
    rig.hear(0, &[0xB0, 7, 127]);
    assert!(rig.told()[1].contains("midi.midi.faders"));
    rig.step(Input::Joined);
    let told = rig.told();
    assert_eq!(told.iter().filter(|line| line.contains("protocol")).count(), 2, "{told:?}");
    // What it lets go of is its last word; then its claims end.
    rig.unplug(1);
    let release = "  PUBLISH event /clasp/source {id: \"midi.midi.pads\", release: true}";
    let gone = format!("  SET /clasp/source/midi.midi.pads {pads}, gone: true}}");
    let offline = ["BUNDLE now", mark, "  SET /midi/pads/online false", "BUNDLE now", release];
    let told = rig.told();
    assert_eq!((&told[..5], &told[5..]), (&offline.map(String::from)[..], &[gone][..]));
}

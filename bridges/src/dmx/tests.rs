//! The bridge between a router and interfaces that are lists of bytes.

use clasp_rt_core::time::Span;
use clasp_rt_core::value::{ArrayWriter, push_bytes, push_f64, push_i64};
use serde_json::json;

use super::message::{Decoder, Found, Message, label};
use super::*;
use crate::devices::rig::Rig;
use crate::uplink::tests::set_frame;
use crate::vectors;

fn rig(options: serde_json::Value) -> Rig {
    let config = serde_json::from_value(options).expect("options");
    Rig::new(open(config).expect("a bridge"))
}

/// With one interface, which is there and has been asked who it is.
fn plugged(options: serde_json::Value) -> Rig {
    let mut rig = rig(options);
    rig.plug(0);
    rig.told();
    rig.said();
    rig
}

fn set(rig: &mut Rig, address: &str, level: i64) {
    rig.step(Input::Frame(&set_frame(address, |out| push_i64(out, level))));
}

fn message(label: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message { label, data }.write(&mut bytes);
    bytes
}

/// The messages said since the last call: label and data.
fn frames(rig: &mut Rig) -> Vec<(u8, Vec<u8>)> {
    let (mut decoder, mut found) = (Decoder::default(), Vec::new());
    for (_, bytes) in rig.around.said.drain(..) {
        decoder.push(&bytes, |what| match what {
            Found::Message(Message { label, data }) => found.push((label, data.to_vec())),
            Found::Noise => panic!("noise: {bytes:?}"),
        });
    }
    found
}

#[test]
fn equal_levels_leave_as_the_bytes_that_other_programs_write() {
    let mut levels_24 = [0; 24];
    (levels_24[0], levels_24[23]) = (255, 7);
    let cases: [(&[u8], u16, &[i64]); 2] = [
        (include_bytes!("../../../bench/captures/enttec-pro-hostbytes-24ch.bin"), 24, &levels_24),
        (include_bytes!("../../../bench/captures/enttec-pro-hostbytes-512ch.bin"), 512, &[0; 512]),
    ];
    for (bytes, slots, levels) in cases {
        let mut rig = plugged(json!({"device": [{"slots": slots}]}));
        for (slot, level) in (1..).zip(levels) {
            set(&mut rig, &format!("/dmx/0/{slot}"), *level);
        }
        assert!(rig.around.said.is_empty(), "gathered");
        rig.wait(Span::from_millis(1));
        assert_eq!(rig.around.said.len(), 1);
        assert!(rig.around.said[0].1 == bytes, "{slots} slots");
    }
}

#[test]
fn the_answers_of_widgets_mean_what_was_written_beside_them() {
    let count = vectors::each("dmx", |bytes, expected| {
        let mut rig = plugged(json!({"device": [{"direction": "in"}]}));
        bytes.chunks(3).for_each(|piece| rig.hear(0, piece));
        let told: Vec<_> = rig.told().iter().map(|line| line.trim().to_owned()).collect();
        let told: Vec<_> = told.into_iter().filter(|line| line != "BUNDLE now").collect();
        assert_eq!(told.join("\n"), expected);
    });
    assert!(count >= 1);
}

#[test]
fn a_cue_is_one_frame_and_no_more_leave_than_the_rate_allows() {
    let mut rig = plugged(json!({"rate_hz_max": 40}));
    for slot in 1..=512 {
        set(&mut rig, &format!("/dmx/0/{slot}"), 9);
    }
    rig.wait(Span::from_millis(1));
    assert_eq!(frames(&mut rig), [(label::SEND, [&[0][..], &[9; 512]].concat())]);
    // A thousand changes a second.
    for level in 0..1_000 {
        set(&mut rig, "/dmx/0/1", level % 256);
        rig.wait(Span::from_millis(1));
    }
    let sent = frames(&mut rig);
    assert!((39..=41).contains(&sent.len()), "{}", sent.len());
    rig.wait(Span::from_millis(25));
    let last = frames(&mut rig).pop().or(sent.last().cloned()).expect("a frame");
    assert_eq!(i64::from(last.1[1]), 999 % 256, "the last value always leaves");
    // Unchanged, it is repeated once a second.
    rig.wait(Span::from_secs(10));
    assert_eq!(frames(&mut rig).len(), 10);
}

#[test]
fn a_busy_interface_gets_the_newest_look_and_no_stale_one() {
    let mut rig = plugged(json!({}));
    rig.stick(true);
    for level in 1..=100 {
        set(&mut rig, "/dmx/0/1", level);
        rig.wait(Span::from_millis(50));
    }
    assert_eq!(frames(&mut rig).len(), 1);
    rig.stick(false);
    rig.wait(Span::from_millis(2));
    let sent = frames(&mut rig);
    assert_eq!((sent.len(), sent[0].1[1]), (1, 100));
}

#[test]
fn nothing_is_sent_before_something_was_written() {
    let mut rig = plugged(json!({}));
    rig.wait(Span::from_secs(5));
    assert_eq!(frames(&mut rig), []);
    set(&mut rig, "/dmx/0/1", 0);
    rig.wait(Span::from_millis(1));
    assert_eq!(frames(&mut rig).len(), 1);
}

#[test]
fn an_interface_that_comes_back_has_its_look_at_once() {
    let mut rig = plugged(json!({}));
    set(&mut rig, "/dmx/0/3", 77);
    rig.wait(Span::from_millis(1));
    frames(&mut rig);
    rig.unplug(0);
    assert_eq!(rig.told(), ["SET /dmx/0/widget/online false"]);
    set(&mut rig, "/dmx/0/4", 78);
    rig.wait(Span::from_secs(5));
    assert_eq!(frames(&mut rig), []);
    rig.plug(0);
    rig.wait(Span::from_millis(1));
    let sent = frames(&mut rig);
    assert_eq!(sent.iter().filter(|(label, _)| *label == label::SEND).count(), 1);
    assert_eq!(sent.last().expect("a frame").1[..5], [0, 0, 0, 77, 78]);
    assert_eq!(rig.told(), ["SET /dmx/0/widget/online true"]);
}

#[test]
fn addresses_of_both_forms_reach_their_slots() {
    let mut rig = plugged(json!({"device": [{"universe": 3}]}));
    let float = |rig: &mut Rig, address: &str, value| {
        rig.step(Input::Frame(&set_frame(address, |out| push_f64(out, value))));
    };
    set(&mut rig, "/dmx/3/1", 10);
    set(&mut rig, "/dmx/2", 20);
    float(&mut rig, "/dmx/3/3", 0.5);
    let array = |out: &mut Vec<u8>| {
        let mut items = ArrayWriter::start(out);
        for level in [1, 2, 3] {
            push_i64(items.item().expect("short"), level);
        }
    };
    rig.wait(Span::from_millis(1));
    assert_eq!(frames(&mut rig)[0].1[..4], [0, 10, 20, 128]);
    rig.step(Input::Frame(&set_frame("/dmx/3", array)));
    rig.wait(Span::from_millis(25));
    assert_eq!(frames(&mut rig)[0].1[..4], [0, 1, 2, 3]);
    rig.step(Input::Frame(&set_frame("/dmx/3", |out| push_bytes(out, &[9; 600]).expect("short"))));
    rig.wait(Span::from_millis(25));
    assert_eq!(frames(&mut rig)[0].1.len(), 513);
    for address in [
        "/dmx/3/0",
        "/dmx/3/513",
        "/dmx/4/1",
        "/dmx/x/1",
        "/dmx/3/1/2",
        "/dmx/0",
        "/dmx/3/01",
        "/dmx/03/1",
    ] {
        let before = rig.bridge.counters().refused;
        set(&mut rig, address, 1);
        assert_eq!(rig.bridge.counters().refused, before + 1, "{address}");
    }
}

#[test]
fn received_levels_are_told_when_they_change() {
    let mut rig = plugged(json!({"device": [{"direction": "in", "universe": 5}]}));
    let frame = |levels: &[u8]| message(label::RECEIVED, &[&[0, 0], levels].concat());
    rig.hear(0, &frame(&[1, 0]));
    assert_eq!(
        rig.told(),
        ["BUNDLE now", "  SET /dmx/5/receiving true", "  SET /dmx/5/1 1", "  SET /dmx/5/2 0",]
    );
    rig.hear(0, &frame(&[1, 0]));
    assert_eq!(rig.told(), [""; 0]);
    rig.hear(0, &frame(&[1, 9]));
    assert_eq!(rig.told(), ["SET /dmx/5/2 9"]);
    // RDM, text, and a frame that lost octets are no levels.
    rig.hear(0, &message(label::RECEIVED, &[0, 0xCC, 7, 7]));
    rig.hear(0, &message(label::RECEIVED, &[0, 17, 7, 7]));
    rig.hear(0, &message(label::RECEIVED, &[1, 0, 7, 7]));
    rig.hear(0, &message(label::RECEIVED, &[]));
    assert_eq!(rig.told(), [""; 0]);
    let counters = rig.bridge.counters();
    assert_eq!((counters.refused, counters.dropped, counters.malformed), (2, 1, 1));
    // Changes: slots 2 and 4, then slot 512.
    rig.hear(0, &message(label::CHANGED, &[0, 0b1_0100, 0, 0, 0, 0, 20, 90]));
    assert_eq!(
        rig.told(),
        ["BUNDLE now", "  SET /dmx/5/2 20", "  SET /dmx/5/3 0", "  SET /dmx/5/4 90",]
    );
    rig.hear(0, &message(label::CHANGED, &[64, 1, 0, 0, 0, 0, 200]));
    assert_eq!(rig.told().last().map(String::as_str), Some("  SET /dmx/5/512 200"));
    // A start code that changed to text, too few values, too few bits.
    rig.hear(0, &message(label::CHANGED, &[0, 0b11, 0, 0, 0, 0, 17, 5]));
    rig.hear(0, &message(label::CHANGED, &[0, 0b11, 0, 0, 0, 0, 0]));
    rig.hear(0, &message(label::CHANGED, &[0, 1]));
    assert_eq!((rig.told(), rig.bridge.counters().malformed), (vec![], 4));
}

#[test]
fn a_signal_that_ends_is_told_and_its_levels_stay() {
    let mut rig = plugged(json!({"device": [{"direction": "in"}]}));
    rig.hear(0, &message(label::RECEIVED, &[0, 0, 1]));
    rig.told();
    rig.wait(Span::from_millis(1_249));
    assert_eq!(rig.told(), [""; 0]);
    rig.wait(Span::from_millis(1));
    assert_eq!(rig.told(), ["SET /dmx/0/receiving false"]);
    rig.hear(0, &message(label::RECEIVED, &[0, 0, 1]));
    assert_eq!(rig.told(), ["SET /dmx/0/receiving true"]);
    rig.unplug(0);
    let told = rig.told().join("\n");
    assert!(told.contains("receiving false") && told.contains("online false"), "{told}");
}

#[test]
fn a_router_is_told_the_newest_look_when_it_has_room_or_comes_back() {
    let mut rig = plugged(json!({"device": [{"direction": "in"}]}));
    rig.router_room(0);
    for level in 1..=100 {
        rig.hear(0, &message(label::RECEIVED, &[0, 0, level]));
    }
    rig.told();
    rig.router_room(usize::MAX);
    rig.wait(Span::from_millis(2));
    assert_eq!(rig.told(), ["SET /dmx/0/1 100"]);
    rig.step(Input::Lost);
    rig.hear(0, &message(label::RECEIVED, &[0, 0, 7]));
    rig.step(Input::Joined);
    let told = rig.told().join("\n");
    assert!(told.contains("/dmx/0/1 7") && told.contains("receiving true"), "{told}");
}

#[test]
fn a_widget_says_what_it_is_and_makes_frames_as_it_shall() {
    let mut rig = rig(json!({"device": [{"rate_hz": 30, "break_us": 176}]}));
    rig.plug(0);
    let asked: Vec<_> = frames(&mut rig).into_iter().map(|(label, _)| label).collect();
    assert_eq!(asked, [label::PARAMETERS, label::SERIAL, label::MANUFACTURER, label::DEVICE]);
    rig.told();
    rig.hear(0, &message(label::PARAMETERS, &[0x44, 1, 9, 1, 40]));
    let told = rig.told().join("\n");
    for line in ["firmware \"1.68\"", "break_us 96", "mark_us 11", "rate_hz 40"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let set_parameters = (label::SET_PARAMETERS, vec![0, 0, 16, 1, 30]);
    let ask = (label::PARAMETERS, vec![0, 0]);
    assert_eq!(frames(&mut rig), [set_parameters, ask.clone()]);
    // It does not obey, and is left alone.
    rig.hear(0, &message(label::PARAMETERS, &[0x44, 1, 9, 1, 40]));
    assert_eq!(frames(&mut rig), []);
    // Somebody writes one of them.
    set(&mut rig, "/dmx/0/widget/rate_hz", 20);
    assert_eq!(frames(&mut rig), std::slice::from_ref(&ask));
    rig.hear(0, &message(label::PARAMETERS, &[0x44, 1, 9, 1, 40]));
    assert_eq!(frames(&mut rig), [(label::SET_PARAMETERS, vec![0, 0, 9, 1, 20]), ask]);
    set(&mut rig, "/dmx/0/widget/colour", 20);
    assert_eq!(rig.bridge.counters().refused, 1);
}

#[test]
fn a_second_port_speaks_with_the_labels_of_its_firmware() {
    let mut rig = rig(json!({"device": [{
        "universe": 1,
        "second": {"universe": 2, "label": 169, "setup": [{"label": 13, "data": [1, 2, 3, 4]}]},
    }]}));
    rig.plug(0);
    assert!(frames(&mut rig).contains(&(13, vec![1, 2, 3, 4])));
    set(&mut rig, "/dmx/2/1", 5);
    rig.wait(Span::from_millis(1));
    let sent = frames(&mut rig);
    assert_eq!((sent.len(), sent[0].0, sent[0].1[1]), (1, 169, 5));
    let mut input = plugged(json!({"device": [{
        "universe": 1, "second": {"universe": 2, "direction": "in", "label": 156},
    }]}));
    input.hear(0, &message(156, &[0, 0, 8]));
    assert!(input.told().contains(&"  SET /dmx/2/1 8".to_owned()));
}

#[test]
fn an_open_interface_tells_how_evenly_it_sends() {
    let mut rig = plugged(json!({"device": [{"kind": "open"}]}));
    let quantiles = [25_000_u32, 25_300, 31_000].map(u32::to_le_bytes).concat();
    rig.hear(0, &message(label::INTERVALS, &quantiles));
    assert_eq!(
        rig.told(),
        [
            "BUNDLE now",
            "  SET /dmx/0/widget/interval_us/p50 25000",
            "  SET /dmx/0/widget/interval_us/p99 25300",
            "  SET /dmx/0/widget/interval_us/max 31000",
        ]
    );
}

#[test]
fn at_the_end_the_look_is_held_or_goes_dark() {
    for (on_stop, dark) in [("hold", false), ("blackout", true)] {
        let mut rig = plugged(json!({"on_stop": on_stop}));
        set(&mut rig, "/dmx/0/1", 200);
        rig.wait(Span::from_millis(1));
        frames(&mut rig);
        rig.stick(true);
        set(&mut rig, "/dmx/0/1", 201);
        rig.wait(Span::from_millis(25));
        frames(&mut rig);
        rig.step(Input::Stop);
        assert_eq!(rig.bridge.has_last_words(), dark, "it is busy");
        rig.stick(false);
        rig.wait(Span::from_millis(2));
        assert!(!rig.bridge.has_last_words());
        let sent: Vec<_> = frames(&mut rig).into_iter().map(|(_, data)| data).collect();
        assert_eq!(sent, if dark { vec![vec![0; 513]] } else { vec![] });
    }
}

#[test]
fn a_wrong_option_is_named() {
    let cases = [
        (json!({"device": [{"port": "a", "usb_serial": "b"}]}), "device[0].usb_serial"),
        (json!({"device": [{"slots": 23}]}), "device[0].slots"),
        (json!({"device": [{"kind": "open", "direction": "in"}]}), "device[0].kind"),
        (json!({"device": [{"rate_hz": 41}]}), "device[0].rate_hz"),
        (json!({"device": [{"kind": "open", "rate_hz": 0}]}), "device[0].rate_hz"),
        (json!({"device": [{"break_us": 91}]}), "device[0].break_us"),
        (json!({"device": [{}, {"port": "a", "mark_us": 1}]}), "device[1].mark_us"),
        (json!({"device": [{"port": "a"}, {"port": "b"}, {"port": "a"}]}), "device[2].port"),
        (json!({"device": [{"usb_serial": "a"}, {"usb_serial": "a"}]}), "device[1].usb_serial"),
        (json!({"device": [{}, {"universe": 1}]}), "device[1].port"),
        (json!({"device": [{"second": {"universe": 1, "label": 6}}]}), "device[0].second.label"),
        (json!({"rate_hz_max": 45}), "rate_hz_max"),
        (json!({"namespace": "/"}), "namespace"),
        (json!({"device": vec![json!({}); 33]}), "device"),
    ];
    for (options, key) in cases {
        let config = serde_json::from_value(options).expect("options");
        let error = open(config).err().expect(key);
        assert_eq!(error.key, key, "{error}");
    }
}

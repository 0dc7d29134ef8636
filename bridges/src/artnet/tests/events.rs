//! What passes and is not kept: triggers, commands, other start codes, RDM, both ways.

use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{MapWriter, push_str};

use super::*;
use crate::uplink::tests::publish_frame;

const NODE: &str = "10.0.0.9:6454";

/// A golden packet, by its name.
fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/artnet/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("a packet")
}

/// A rig with a node that outputs universes 0 to 5.
fn with_node(config: &str) -> Rig {
    let mut rig = rig(&format!("{config}\npoll = false"));
    rig.reply(NODE, &[0, 1, 2, 3]);
    rig.said.frames.clear();
    rig
}

impl Rig {
    fn publish(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) {
        let frame = publish_frame(address, Signal::Event, push);
        self.step(Input::Frame(&frame));
    }

    fn take_packets(&mut self) -> Vec<(String, Vec<u8>)> {
        self.said.packets.drain(..).map(|(to, bytes)| (to.to_string(), bytes)).collect()
    }
}

#[test]
fn packets_become_events() {
    let from = DESK;
    let cases = [
        ("", "table-trigger-show", "PUBLISH event /artnet/trigger/show 12"),
        (
            "trigger_oem = 1072",
            "table-trigger-oem",
            "PUBLISH event /artnet/trigger/oem {oem: 1072, key: 64, sub_key: 1, data: 0xdead}",
        ),
        ("", "table-command", "PUBLISH event /artnet/command \"SwoutText=Playback&\""),
        ("", "table-nzs", "PUBLISH event /artnet/nzs/291/23 0x74657874"),
        (
            "diagnostics = true",
            "table-diag-data",
            "PUBLISH event /artnet/nodes/10.0.0.1/diagnostics \
             {priority: 128, port: 2, text: \"too hot\"}",
        ),
        (
            "",
            "table-tod-control-flush",
            "PUBLISH event /artnet/rdm/5 \
             {type: \"tod_control\", from: \"10.0.0.1:6454\", command: 1}",
        ),
        (
            "",
            "table-tod-data",
            "PUBLISH event /artnet/rdm/5 {type: \"tod_data\", from: \"10.0.0.1:6454\", \
             response: 0, total: 2, block: 0, uids: 0x7ff0000000017ff000000002}",
        ),
        (
            "",
            "table-rdm",
            "PUBLISH event /artnet/rdm/5 {type: \"rdm\", from: \"10.0.0.1:6454\", \
             data: 0x01187ff0000000017ff000000009000100000020006000044e}",
        ),
    ];
    for (config, name, line) in cases {
        let mut rig = rig(config);
        rig.receive(from, &golden(name));
        assert_eq!(rig.said.take_lines(), [line], "{name}");
        assert_eq!(rig.bridge.counters().refused, 0, "{name}");
    }
    let mut rig = rig("");
    rig.receive(from, &golden("table-tod-request"));
    let asked = |port| {
        let map = "{type: \"tod_request\", from: \"10.0.0.1:6454\"}";
        format!("PUBLISH event /artnet/rdm/{port} {map}")
    };
    assert_eq!(rig.said.take_lines(), [asked(291), asked(292)]);
}

#[test]
fn what_is_meant_for_others_is_counted_and_not_told() {
    let mut command = golden("table-command");
    command[12] = 0x12;
    let mut trigger = golden("table-trigger-show");
    trigger[14] = 0;
    let packets = [golden("table-trigger-oem"), command, trigger, golden("table-diag-data")];
    let mut rig = rig("");
    for packet in &packets {
        rig.receive(DESK, packet);
    }
    assert_eq!((rig.said.frames.len(), rig.bridge.counters().refused), (0, 4));
    let mut rig = super::rig("inputs = \"0-5\"");
    rig.receive(DESK, &golden("table-nzs"));
    assert_eq!((rig.said.frames.len(), rig.bridge.counters().refused), (0, 1));
}

#[test]
fn data_of_other_start_codes_are_never_levels() {
    let mut rig = rig("");
    rig.dmx(DESK, 0, 291, &[1, 2, 3, 4]);
    rig.said.frames.clear();
    rig.receive(DESK, &golden("table-nzs"));
    let lines = rig.said.take_lines();
    assert!(lines.iter().all(|line| !line.starts_with("SET")), "{lines:?}");
    rig.dmx(DESK, 0, 291, &[1, 2, 3, 5]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/291/4 5"]);
}

#[test]
fn events_become_packets_for_every_node_once() {
    let mut rig = with_node("targets = [\"10.0.0.9\", \"10.0.0.8\"]");
    type Push = fn(&mut Vec<u8>);
    let cases: [(&str, Push, &str); 3] = [
        ("/artnet/trigger/show", |out| push_i64(out, 12), "table-trigger-show"),
        ("/artnet/trigger/show", |out| push_f64(out, 12.0), "table-trigger-show"),
        (
            "/artnet/command",
            |out| push_str(out, "SwoutText=Playback&").expect("short"),
            "table-command",
        ),
    ];
    for (address, push, name) in cases {
        rig.publish(address, push);
        let sent = rig.take_packets();
        let to: Vec<_> = sent.iter().map(|(to, _)| to.as_str()).collect();
        assert_eq!(to, ["10.0.0.8:6454", NODE], "{address}");
        assert!(sent.iter().all(|(_, bytes)| *bytes == golden(name)), "{address}");
    }
    // A session may also SET it; a snapshot is not obeyed.
    let set = set_frame("/artnet/trigger/ascii", |out| push_str(out, "G").expect("short"));
    rig.step(Input::Frame(&set));
    let sent = rig.take_packets();
    assert_eq!((sent.len(), &sent[0].1[16..18]), (2, &[0, b'G'][..]));
    rig.publish("/artnet/trigger/oem", |out| {
        let mut map = MapWriter::start(out);
        push_i64(map.entry("oem").expect("short"), 0x0430);
        push_i64(map.entry("key").expect("short"), 0x40);
        push_i64(map.entry("sub_key").expect("short"), 1);
        push_bytes(map.entry("data").expect("short"), &[0xDE, 0xAD]).expect("short");
    });
    assert_eq!(rig.take_packets()[0].1, golden("table-trigger-oem"));
    rig.publish("/artnet/nzs/2/23", |out| push_bytes(out, b"text").expect("short"));
    let sent = rig.take_packets();
    let Ok(Packet::Nzs(nzs)) = packet::decode(&sent[1].1) else { panic!("{sent:?}") };
    assert_eq!((nzs.start_code, nzs.port_address.number(), nzs.data), (23, 2, &b"text"[..]));
    assert_eq!(rig.bridge.counters().refused, 0);
}

#[test]
fn a_snapshot_triggers_nothing() {
    let mut rig = with_node("");
    let mut bytes = Vec::new();
    push_i64(&mut bytes, 1);
    let value = Value::from_encoded(&bytes).expect("a value");
    let mut snapshot = Vec::new();
    let mut builder = SnapshotBuilder::start(&mut snapshot);
    let address = "/artnet/trigger/macro";
    let param = ParamValue { address, value, revision: 1, writer: None, timestamp_us: None };
    assert!(builder.push(&mut snapshot, &param));
    builder.finish(&mut snapshot);
    rig.step(Input::Frame(&snapshot));
    assert_eq!(rig.said.packets.len(), 0);
}

#[test]
fn events_without_a_meaning_are_counted() {
    let mut rig = with_node("");
    type Push = fn(&mut Vec<u8>);
    let cases: [(&str, Push); 10] = [
        ("/artnet/trigger/macro", |out| push_i64(out, 256)),
        ("/artnet/trigger/macro", |out| push_f64(out, 0.5)),
        ("/artnet/trigger/fanfare", |out| push_i64(out, 1)),
        ("/artnet/trigger", |out| push_i64(out, 1)),
        ("/artnet/command", |out| push_i64(out, 1)),
        ("/artnet/command", |out| push_str(out, &"x".repeat(512)).expect("short")),
        ("/artnet/nzs/2/0", |out| push_bytes(out, &[1]).expect("short")),
        ("/artnet/nzs/2/204", |out| push_bytes(out, &[1]).expect("short")),
        ("/artnet/nzs/2/23", |out| push_bytes(out, &[1; 513]).expect("short")),
        ("/artnet/rdm/2", |out| push_i64(out, 1)),
    ];
    for (index, (address, push)) in (1..).zip(cases) {
        rig.publish(address, push);
        assert_eq!(rig.bridge.counters().refused, index, "{address}");
    }
    assert_eq!(rig.said.packets.len(), 0);
}

/// An RDM event: its type, its bytes, and whom it is for.
fn rdm(kind: &str, bytes: (&str, &[u8]), to: Option<&str>) -> impl FnOnce(&mut Vec<u8>) {
    move |out| {
        let mut map = MapWriter::start(out);
        push_str(map.entry("type").expect("short"), kind).expect("short");
        push_bytes(map.entry(bytes.0).expect("short"), bytes.1).expect("short");
        if let Some(to) = to {
            push_str(map.entry("to").expect("short"), to).expect("short");
        }
    }
}

#[test]
fn rdm_goes_to_the_nodes_of_the_port_and_answers_to_those_who_asked() {
    let mut rig = with_node("");
    rig.publish("/artnet/rdm/3", rdm("tod_request", ("data", &[]), None));
    let sent = rig.take_packets();
    let [(to, bytes)] = &sent[..] else { panic!("{sent:?}") };
    let Ok(Packet::TodRequest(request)) = packet::decode(bytes) else { panic!("{bytes:?}") };
    assert_eq!((to.as_str(), bytes.len()), (NODE, 56));
    assert!(request.ports().map(PortAddress::number).eq([3]));
    rig.publish("/artnet/rdm/9", rdm("rdm", ("data", &[1, 24]), None));
    assert_eq!(rig.take_packets(), [], "nobody has devices there");

    let uids = [0x7F, 0xF0, 0, 0, 0, 1, 0x7F, 0xF0, 0, 0, 0, 2];
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &uids), None));
    assert_eq!(rig.take_packets(), [], "nobody asked");
    rig.receive(DESK, &golden("table-tod-request"));
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &uids), None));
    assert_eq!(rig.take_packets(), [(DESK.to_owned(), golden("table-tod-data"))]);
    let message = &golden("table-rdm")[24..];
    rig.publish("/artnet/rdm/5", rdm("rdm", ("data", message), Some(DESK)));
    assert_eq!(rig.take_packets(), [(DESK.to_owned(), golden("table-rdm"))]);
    assert_eq!(rig.bridge.counters().refused, 0);
    // Only to those whom we know: the router's sessions shall not send to anywhere.
    rig.publish("/artnet/rdm/5", rdm("rdm", ("data", message), Some("203.0.113.1:53")));
    for (kind, bytes) in [("rdm", &[0; 257][..]), ("rdm", &[]), ("other", &[1])] {
        rig.publish("/artnet/rdm/5", rdm(kind, ("data", bytes), None));
    }
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &[1; 7]), None));
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &[1; 201 * 6]), None));
    assert_eq!((rig.take_packets().len(), rig.bridge.counters().refused), (0, 6));
    rig.wait(Span::from_secs(31));
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &uids), None));
    assert_eq!(rig.take_packets(), [], "it asked long ago");
}

#[test]
fn so_many_may_ask_at_once_and_no_more() {
    let mut rig = rig("poll = false");
    for asker in 1..=20 {
        rig.receive(&format!("10.0.1.{asker}:6454"), &golden("table-tod-request"));
    }
    rig.publish("/artnet/rdm/5", rdm("tod_data", ("uids", &[1; 6]), None));
    assert_eq!(rig.take_packets().len(), 16);
}

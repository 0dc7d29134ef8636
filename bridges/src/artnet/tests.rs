//! Art-Net as its bridge speaks it: what a router and a network hear of each other.

use clasp_rt_core::message::{Message, ParamValue};
use clasp_rt_core::value::{ArrayWriter, Value, push_bytes, push_f64, push_i64};
use clasp_rt_core::wire::binary::SnapshotBuilder;
use clasp_rt_core::wire::header;
use clasp_rt_core::wire::{binary, list};
use proptest::prelude::*;

mod events;
mod manage;
mod many;
mod repeats;
mod sources;
mod timecode;

use super::*;
use crate::uplink::tests::{Said, frame, set_frame};
use crate::vectors;

/// A bridge, the time, and what it said.
struct Rig {
    bridge: Artnet,
    now: Time,
    said: Said,
}

/// One that tells nothing but levels.
fn rig(config: &str) -> Rig {
    with_sources(&format!("sources = false\n{config}"))
}

fn with_sources(config: &str) -> Rig {
    let config = toml::from_str(config).unwrap_or_else(|error| panic!("{config}: {error}"));
    let mut rig = Rig {
        bridge: Artnet::new(config, Vec::new()).expect("a configuration that works"),
        now: Time::default(),
        said: Said::default(),
    };
    rig.step(Input::Joined);
    rig.said.frames.clear();
    rig
}

impl Rig {
    fn step(&mut self, input: Input<'_>) {
        self.bridge.step(self.now, input, &mut self.said);
    }

    /// Lets time pass, with every deadline on the way.
    fn wait(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.bridge.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Deadline);
        }
        self.now = end;
    }

    fn receive(&mut self, from: &str, bytes: &[u8]) {
        let from = from.parse().expect("an address");
        self.step(Input::Packet { socket: 0, from, bytes });
    }

    fn dmx(&mut self, from: &str, sequence: u8, universe: u16, levels: &[u8]) {
        let mut packet = Vec::new();
        packet::write_dmx(&mut packet, sequence, port_address(universe), levels);
        self.receive(from, &packet);
    }

    fn sync(&mut self, from: &str) {
        let mut packet = Vec::new();
        packet::write_sync(&mut packet);
        self.receive(from, &packet);
    }

    fn set(&mut self, address: &str, level: i64) {
        let frame = set_frame(address, |out| push_i64(out, level));
        self.step(Input::Frame(&frame));
    }

    /// The ArtDmx packets sent so far, as target, universe, sequence and levels; takes all packets.
    fn sent_dmx(&mut self) -> Vec<(String, u16, u8, Vec<u8>)> {
        let decoded = |(to, bytes): (SocketAddr, Vec<u8>)| match packet::decode(&bytes) {
            Ok(Packet::Dmx(dmx)) => {
                Some((to.to_string(), dmx.port_address.number(), dmx.sequence, dmx.levels.to_vec()))
            }
            _ => None,
        };
        self.said.packets.drain(..).filter_map(decoded).collect()
    }

    /// Says that `at` is a node that outputs `universes` of net and sub-net 0.
    fn reply(&mut self, at: &str, universes: &[u8]) {
        let port = |universe: &u8| packet::Port {
            universe: *universe,
            takes: true,
            ..packet::Port::default()
        };
        let ports: Vec<_> = universes.iter().map(port).collect();
        let group = packet::Group {
            ip: [0; 4],
            mac: [0; 6],
            short_name: "node",
            long_name: "a node",
            report: "",
            bind_index: 1,
            switch: 0,
            rate_hz_max: 44,
            indicators: packet::Indicators::Normal,
            is_programmable: false,
            ports: &ports,
        };
        let mut packet = Vec::new();
        group.write(&mut packet);
        self.receive(at, &packet);
    }
}

fn port_address(number: u16) -> PortAddress {
    PortAddress::new(number).expect("15 bits")
}

const DESK: &str = "10.0.0.1:6454";
const OTHER: &str = "10.0.0.2:6454";
const THIRD: &str = "10.0.0.3:6454";

#[test]
fn captures_of_other_programs_become_what_a_second_reading_says() {
    let count = vectors::each("artnet-captures", |mut bytes, expected| {
        let mut rig = rig("");
        let mut told = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<6>() {
            let [a, b, c, d, len @ ..] = *head;
            let (packet, rest) = rest.split_at(u16::from_be_bytes(len).into());
            rig.receive(&format!("{a}.{b}.{c}.{d}:6454"), packet);
            let lines = rig.said.take_lines();
            let levels = lines.iter().filter_map(|line| line.trim().strip_prefix("SET /artnet/"));
            told.extend(levels.filter(|line| !line.starts_with("nodes/")).map(str::to_owned));
            rig.wait(Span::from_millis(20));
            bytes = rest;
        }
        assert_eq!(rig.bridge.counters().malformed, 0);
        assert!(told.iter().eq(expected.lines()), "{told:#?}");
    });
    assert_eq!(count, 3);
}

#[test]
fn the_first_frame_tells_every_slot_and_later_ones_only_what_changed() {
    let mut rig = rig("");
    rig.dmx(DESK, 1, 19, &[0, 0, 7, 0]);
    let first = [
        "BUNDLE now",
        "  SET /artnet/19/1 0",
        "  SET /artnet/19/2 0",
        "  SET /artnet/19/3 7",
        "  SET /artnet/19/4 0",
    ];
    assert_eq!(rig.said.take_lines(), first);
    rig.dmx(DESK, 2, 19, &[0, 0, 7, 0]);
    assert_eq!(rig.said.frames.len(), 0);
    rig.dmx(DESK, 3, 19, &[0, 9, 7, 0]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/19/2 9"]);
}

#[test]
fn a_full_universe_is_one_bundle_of_512() {
    let mut rig = rig("");
    vectors::each("artnet", |bytes, text| {
        if text.contains("slots=512 0064c8") {
            rig.receive(DESK, bytes);
        }
    });
    let lines = rig.said.take_lines();
    assert_eq!(lines.len(), 513);
    assert_eq!(lines[..3], ["BUNDLE now", "  SET /artnet/0/1 0", "  SET /artnet/0/2 100"]);
    assert_eq!(lines[512], "  SET /artnet/0/512 0");
}

#[test]
fn levels_can_be_told_as_fractions() {
    let mut rig = rig("normalize = true\nnamespace = \"/stage/dmx\"");
    rig.dmx(DESK, 0, 0, &[255, 51]);
    let lines = rig.said.take_lines();
    assert_eq!(lines[1..], ["  SET /stage/dmx/0/1 1.0", "  SET /stage/dmx/0/2 0.2"]);
}

#[test]
fn a_late_packet_is_dropped_and_a_restarted_sender_is_heard() {
    let mut rig = rig("");
    for (sequence, level) in [(10, 1), (12, 2), (11, 3), (12, 4), (200, 5), (0, 6), (3, 7)] {
        rig.dmx(DESK, sequence, 0, &[level, 0]);
    }
    let told: Vec<_> =
        rig.said.take_lines().into_iter().filter(|line| line.contains("/0/1")).collect();
    let expected = ["  SET /artnet/0/1 1", "SET /artnet/0/1 2", "SET /artnet/0/1 5"];
    assert_eq!(told[..3], expected);
    assert_eq!(told[3..], ["SET /artnet/0/1 6", "SET /artnet/0/1 7"]);
    assert_eq!(rig.bridge.counters().dropped, 2);
    rig.wait(Span::from_secs(1));
    rig.dmx(DESK, 2, 0, &[8, 0]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 8"]);
}

#[test]
fn two_senders_merge_a_third_is_ignored_and_a_silent_one_is_lost() {
    let mut rig = rig("inputs = \"0\"");
    rig.dmx(DESK, 0, 0, &[10, 20]);
    rig.wait(Span::from_secs(5));
    rig.dmx(OTHER, 0, 0, &[30, 5]);
    rig.dmx(THIRD, 0, 0, &[99, 99]);
    assert_eq!(rig.bridge.counters().dropped, 1);
    let told = rig.said.take_lines();
    assert_eq!(told[3..], ["SET /artnet/0/1 30"]);
    rig.wait(Span::from_secs(5));
    rig.wait(TICK);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/2 5"]);
    rig.dmx(THIRD, 0, 0, &[40, 0]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 40"]);
}

#[test]
fn after_a_sync_frames_wait_for_the_next_one_until_none_comes() {
    let mut rig = rig("");
    rig.dmx(DESK, 0, 0, &[1, 0]);
    rig.dmx(DESK, 0, 1, &[1, 0]);
    rig.sync(DESK);
    rig.said.frames.clear();

    rig.dmx(DESK, 0, 0, &[2, 0]);
    rig.dmx(DESK, 0, 1, &[3, 0]);
    rig.dmx(OTHER, 0, 2, &[4, 0]);
    assert_eq!(rig.said.take_lines()[1..], ["  SET /artnet/2/1 4", "  SET /artnet/2/2 0"]);
    rig.sync(OTHER);
    assert_eq!(rig.said.frames.len(), 0, "a sync of somebody else shows nothing");
    rig.sync(DESK);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 2", "SET /artnet/1/1 3"]);

    rig.dmx(DESK, 0, 0, &[5, 0]);
    assert_eq!(rig.said.frames.len(), 0);
    rig.wait(Span::from_secs(4));
    rig.wait(TICK);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 5"]);
    rig.dmx(DESK, 0, 0, &[6, 0]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 6"]);
}

#[test]
fn while_two_senders_merge_nothing_waits_for_a_sync() {
    let mut rig = rig("");
    rig.dmx(DESK, 0, 0, &[1, 0]);
    rig.sync(DESK);
    rig.dmx(OTHER, 0, 0, &[2, 0]);
    rig.said.frames.clear();
    rig.dmx(DESK, 0, 0, &[3, 0]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 3"]);
}

#[test]
fn universes_outside_inputs_and_beyond_the_table_are_counted() {
    let mut rig = rig("inputs = \"0-5\"\nuniverses_max = 2");
    for universe in [0, 1, 2, 6] {
        rig.dmx(DESK, 0, universe, &[1, 0]);
    }
    assert_eq!(rig.said.frames.len(), 2);
    let counters = rig.bridge.counters();
    assert_eq!((counters.overflowed, counters.refused), (1, 1));
}

#[test]
fn a_router_that_comes_back_is_told_everything_again() {
    let mut rig = rig("");
    rig.dmx(DESK, 0, 0, &[1, 2]);
    rig.step(Input::Lost);
    rig.dmx(DESK, 0, 0, &[1, 3]);
    rig.said.frames.clear();
    rig.step(Input::Joined);
    let lines = rig.said.take_lines();
    assert_eq!(lines[..2], ["HELLO artnet 0xf1", "SUBSCRIBE 1 /artnet/**"]);
    assert_eq!(lines[2..], ["BUNDLE now", "  SET /artnet/0/1 1", "  SET /artnet/0/2 3"]);
}

#[test]
fn a_cue_of_512_slots_leaves_as_one_packet() {
    let mut rig = rig("targets = [\"10.0.0.9\"]");
    for slot in 1..=512 {
        rig.set(&format!("/artnet/3/{slot}"), slot % 256);
    }
    assert_eq!(rig.sent_dmx().len(), 0, "changes are gathered first");
    rig.wait(GATHER);
    let sent = rig.sent_dmx();
    assert_eq!(sent.len(), 1);
    let (to, universe, sequence, levels) = &sent[0];
    assert_eq!((to.as_str(), *universe, *sequence), ("10.0.0.9:6454", 3, 1));
    assert!((1..=512).zip(levels).all(|(slot, level)| *level == (slot % 256) as u8));
}

#[test]
fn a_kilohertz_of_changes_leaves_at_44_hz_and_ends_with_the_last() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    for change in 0..1_000_i64 {
        rig.set("/artnet/0/1", change % 256);
        rig.wait(Span::from_millis(1));
    }
    rig.wait(Span::from_millis(50));
    let sent = rig.sent_dmx();
    assert!((44..=46).contains(&sent.len()), "{} packets", sent.len());
    assert_eq!(sent.last().map(|(.., levels)| levels[0]), Some((999 % 256) as u8));
}

#[test]
fn an_unchanged_universe_is_repeated_with_the_next_sequence() {
    let mut rig = rig("targets = [\"10.0.0.9\"]");
    rig.set("/artnet/0/1", 200);
    rig.wait(Span::from_secs(4));
    let sequences: Vec<_> = rig.sent_dmx().iter().map(|(_, _, sequence, _)| *sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    rig.wait(Span::from_secs(800));
    assert!(rig.sent_dmx().iter().all(|(_, _, sequence, _)| *sequence != 0));
}

#[test]
fn levels_go_to_the_nodes_that_list_them_and_to_nobody_after_three_unanswered_polls() {
    let mut rig = rig("broadcast = \"10.255.255.255\"");
    rig.reply(DESK, &[1, 2]);
    rig.reply(OTHER, &[2]);
    for universe in [1, 2, 3] {
        rig.set(&format!("/artnet/{universe}/1"), 5);
    }
    rig.wait(GATHER);
    let sent = rig.sent_dmx();
    let to: Vec<_> = sent.iter().map(|(to, universe, ..)| (to.as_str(), *universe)).collect();
    assert_eq!(to, [(DESK, 1), (DESK, 2), (OTHER, 2)]);
    rig.wait(Span::from_secs(9));
    rig.sent_dmx();
    rig.wait(Span::from_secs(2));
    assert_eq!(rig.sent_dmx(), []);
}

#[test]
fn a_broadcast_is_sent_only_when_asked_for_and_not_taken_for_input() {
    let broadcast = "broadcast = \"10.255.255.255\"\nbroadcast_levels = true";
    let mut rig = rig(broadcast);
    rig.set("/artnet/0/1", 5);
    rig.wait(GATHER);
    let packets = std::mem::take(&mut rig.said.packets);
    let (to, dmx) = packets.iter().find(|(_, bytes)| bytes.len() == 20).expect("an ArtDmx");
    assert_eq!(to.to_string(), "10.255.255.255:6454");
    rig.receive("10.0.0.7:6454", dmx);
    assert_eq!((rig.said.frames.len(), rig.bridge.counters().dropped), (0, 1));
}

#[test]
fn values_of_every_form_become_levels() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\nfloats = \"fraction\"");
    let frames = [
        set_frame("/artnet/0/1", |out| push_f64(out, 0.5)),
        set_frame("/artnet/0:0:0/2", |out| push_i64(out, 300)),
        set_frame("/artnet/1", |out| {
            let mut array = ArrayWriter::start(out);
            push_i64(array.item().expect("room"), 7);
            push_f64(array.item().expect("room"), 1.0);
        }),
        set_frame("/artnet/2", |out| push_bytes(out, &[1, 2, 3, 4]).expect("short")),
        set_frame("/artnet/0/513", |out| push_i64(out, 1)),
        set_frame("/artnet/0/0", |out| push_i64(out, 1)),
        set_frame("/artnet/32768/1", |out| push_i64(out, 1)),
        set_frame("/artnet/0/1/2", |out| push_i64(out, 1)),
        set_frame("/artnet/3", |out| push_i64(out, 1)),
        set_frame("/artnet/0/1", |out| push_f64(out, f64::NAN)),
    ];
    for frame in &frames {
        rig.step(Input::Frame(frame));
    }
    rig.wait(GATHER);
    let levels: Vec<_> = rig.sent_dmx().into_iter().map(|(_, _, _, levels)| levels).collect();
    assert_eq!(levels, [vec![128, 255], vec![7, 255], vec![1, 2, 3, 4]]);
    assert_eq!(rig.bridge.counters().refused, 6);
}

#[test]
fn what_came_in_is_not_sent_out_unless_asked_for() {
    for (config, packets) in [("", 0), ("resend_received = true\n", 1)] {
        let mut rig = rig(&format!("{config}targets = [\"10.0.0.9\"]\npoll = false"));
        rig.dmx(DESK, 0, 0, &[1, 2]);
        rig.wait(GATHER);
        assert_eq!(rig.sent_dmx().len(), packets, "{config}");
    }
}

#[test]
fn a_snapshot_sets_the_look_but_for_what_we_wrote_ourselves() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let welcome = frame(&Message::Welcome(clasp_rt_core::message::Welcome {
        version: 1,
        features: list::Features::from_bits(0),
        time_us: 0,
        session: "ours",
        name: "router",
        token: None,
    }));
    rig.step(Input::Frame(&welcome));
    let mut bytes = Vec::new();
    push_i64(&mut bytes, 9);
    let value = Value::from_encoded(&bytes).expect("a value");
    let mut snapshot = Vec::new();
    let mut builder = SnapshotBuilder::start(&mut snapshot);
    for (address, writer) in [("/artnet/0/1", "ours"), ("/artnet/1/1", "theirs")] {
        let param =
            ParamValue { address, value, revision: 1, writer: Some(writer), timestamp_us: None };
        assert!(builder.push(&mut snapshot, &param));
    }
    builder.finish(&mut snapshot);
    rig.step(Input::Frame(&snapshot));
    rig.wait(GATHER);
    let universes: Vec<_> = rig.sent_dmx().iter().map(|(_, universe, ..)| *universe).collect();
    assert_eq!(universes, [1]);
}

#[test]
fn a_poll_is_answered_once_with_all_our_ports() {
    let mut rig = rig("inputs = \"0-4, 16\"\nnode_ip = \"10.0.0.7\"");
    let mut poll = Vec::new();
    packet::Poll::default().write(&mut poll);
    rig.dmx(DESK, 0, 16, &[1, 0]);
    rig.receive(DESK, &poll);
    rig.receive(DESK, &poll);
    rig.said.packets.clear();
    rig.wait(Span::from_secs(1));
    let replies: Vec<_> =
        rig.said.packets.iter().filter(|(to, _)| to.to_string() == DESK).collect();
    let ports = replies.iter().map(|(_, bytes)| match packet::decode(bytes) {
        Ok(Packet::Reply(reply)) => {
            assert_eq!(bytes[10..14], [10, 0, 0, 7]);
            let outputs = reply.outputs().map(PortAddress::number).collect::<Vec<_>>();
            (reply.bind_index, outputs)
        }
        other => panic!("{other:?}"),
    });
    let expected = [(1, vec![0, 1, 2, 3]), (2, vec![4]), (3, vec![16])];
    assert_eq!(ports.collect::<Vec<_>>(), expected);
    assert_eq!(replies[2].1[182], 0x80, "universe 16 is heard");
}

#[test]
fn a_targeted_poll_for_others_is_not_answered() {
    let mut rig = rig("inputs = \"0-4\"\npoll = false");
    for (first, answers) in [(5, 0), (4, 2)] {
        let range = Some((port_address(first), port_address(9)));
        let mut poll = Vec::new();
        packet::Poll { range, ..packet::Poll::default() }.write(&mut poll);
        rig.receive(DESK, &poll);
        rig.wait(Span::from_secs(1));
        assert_eq!(rig.said.packets.len(), answers, "from {first}");
    }
}

#[test]
fn targets_are_polled_and_our_own_answer_is_not_taken_for_a_node() {
    let mut rig = rig("targets = [\"10.0.0.9\"]");
    rig.wait(Span::from_secs(6));
    let polls = rig
        .said
        .packets
        .iter()
        .filter(|(_, bytes)| matches!(packet::decode(bytes), Ok(Packet::Poll(_))));
    assert_eq!(polls.count(), 3);
    let mut poll = Vec::new();
    packet::Poll::default().write(&mut poll);
    rig.receive(DESK, &poll);
    rig.wait(Span::from_secs(1));
    let packets = std::mem::take(&mut rig.said.packets);
    for (_, bytes) in packets {
        rig.receive("10.0.0.7:6454", &bytes);
    }
    rig.set("/artnet/0/1", 1);
    rig.wait(GATHER);
    let sent = rig.sent_dmx();
    assert_eq!(sent.iter().map(|(to, ..)| to.as_str()).collect::<Vec<_>>(), ["10.0.0.9:6454"]);
}

#[test]
fn a_stop_blacks_out_only_when_asked_for() {
    for (config, packets) in [("", 0), ("on_stop = \"blackout\"\n", 1)] {
        let mut rig = rig(&format!("{config}targets = [\"10.0.0.9\"]\npoll = false"));
        rig.set("/artnet/0/1", 255);
        rig.wait(GATHER);
        rig.said.packets.clear();
        rig.step(Input::Stop);
        let sent = rig.sent_dmx();
        assert_eq!(sent.len(), packets, "{config}");
        assert!(sent.iter().all(|(.., levels)| *levels == [0, 0]));
    }
}

#[test]
fn a_sync_follows_each_round_when_asked_for() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false\nsync = true");
    rig.set("/artnet/0/1", 1);
    rig.set("/artnet/1/1", 1);
    rig.wait(GATHER);
    let packets: Vec<_> =
        rig.said.packets.iter().map(|(_, bytes)| packet::decode(bytes).expect("ours")).collect();
    assert!(matches!(packets[..], [Packet::Dmx(_), Packet::Dmx(_), Packet::Sync]), "{packets:?}");
}

#[test]
fn mistakes_in_the_configuration_are_explained() {
    for (config, key) in [
        ("rate_hz_max = 0", "rate_hz_max"),
        ("bind = \"[::]:6454\"", "bind"),
        ("targets = [\"[::1]:6454\"]", "targets[0]"),
        ("targets = [\"10.0.0.5:0\"]", "targets[0]"),
        ("universes_max = 0", "universes_max"),
        ("universes_max = 32769", "universes_max"),
        ("broadcast_levels = true", "broadcast_levels"),
        ("namespace = \"artnet\"", "namespace"),
        ("targets = [\"10.0.0.5:port\"]", "targets[0]"),
        ("bind = \"10.0.0.5:6454\"\ntargets = [\"10.0.0.5\"]", "targets[0]"),
        ("broadcast_universes_max = 32769", "broadcast_universes_max"),
        ("short_name = \"longer than seventeen\"", "short_name"),
        ("trigger_oem = 65535", "trigger_oem"),
    ] {
        let config = toml::from_str(config).expect(config);
        let error = Artnet::new(config, Vec::new()).err().expect(key);
        assert_eq!(error.key, key);
    }
    for config in
        ["universes = \"0\"", "inputs = \"5-1\"", "merge = \"max\"", "floats = 3", "mode = 1"]
    {
        assert!(toml::from_str::<Config>(config).is_err(), "{config}");
    }
}

/// What a fuzzer calls: any datagram, from anywhere, after anything.
fn survive(datagrams: &[Vec<u8>]) {
    let options = "allow_remote_programming = true\ndiagnostics = true\ntrigger_oem = 1072";
    let sizes = "resend_received = true\ntargets = [\"10.0.0.9\"]\nuniverses_max = 4";
    let mut rig = rig(&format!("{options}\n{sizes}"));
    for (index, bytes) in datagrams.iter().enumerate() {
        rig.receive(if index % 2 == 0 { DESK } else { OTHER }, bytes);
        rig.wait(Span::from_millis(300));
    }
    for frame in &rig.said.frames {
        let frame = header::parse(frame).expect("our own frame");
        binary::decode(frame.payload).expect("our own message");
    }
}

/// A golden packet with a few octets changed and cut somewhere, or noise after the first octets.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let mut golden = Vec::new();
    vectors::each("artnet", |bytes, _| golden.push(bytes.to_vec()));
    let changes = proptest::collection::vec((0_usize..600, any::<u8>()), 0..6);
    let changed = (proptest::sample::select(golden), changes, 0_usize..600).prop_map(
        |(mut bytes, changes, len)| {
            for (at, octet) in changes {
                if let Some(held) = bytes.get_mut(at) {
                    *held = octet;
                }
            }
            bytes.truncate(len);
            bytes
        },
    );
    let noise = proptest::collection::vec(any::<u8>(), 0..64).prop_map(|noise| {
        let mut bytes = b"Art-Net\0".to_vec();
        bytes.extend_from_slice(&noise);
        bytes
    });
    prop_oneof![changed, noise, proptest::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_datagram_breaks_the_bridge(datagrams in proptest::collection::vec(datagram(), 1..8)) {
        survive(&datagrams);
    }

    #[test]
    fn levels_survive_the_way_through_two_bridges(
        levels in proptest::collection::vec(any::<u8>(), 1..=512_usize),
        universe in 0_u16..=0x7FFF,
    ) {
        let mut sender = rig("targets = [\"10.0.0.9\"]\npoll = false");
        for (slot, level) in (1..).zip(&levels) {
            sender.set(&format!("/artnet/{universe}/{slot}"), i64::from(*level));
        }
        sender.wait(GATHER);
        let mut receiver = rig("");
        for (_, bytes) in &sender.said.packets {
            receiver.receive(DESK, bytes);
        }
        let told = receiver.said.take_lines();
        for (slot, level) in (1..).zip(&levels) {
            let line = format!("  SET /artnet/{universe}/{slot} {level}");
            prop_assert!(told.contains(&line), "{line} is missing");
        }
    }
}

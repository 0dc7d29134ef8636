//! What controllers ask, change and are told; and what the router is told of other nodes.

use super::*;
use packet::{Address, Command, InputSwitch, Switch};

pub(super) fn address(command: Command) -> Address<'static> {
    Address {
        net: Switch::Keep,
        bind_index: 1,
        short_name: b"",
        long_name: b"",
        inputs: [Switch::Keep; 4],
        outputs: [Switch::Keep; 4],
        sub_net: Switch::Keep,
        command,
    }
}

impl Rig {
    fn program(&mut self, from: &str, address: &Address<'_>) {
        let mut packet = Vec::new();
        address.write(&mut packet);
        self.receive(from, &packet);
    }

    fn poll(&mut self, from: &str, poll: &packet::Poll) {
        let mut packet = Vec::new();
        poll.write(&mut packet);
        self.receive(from, &packet);
    }

    /// Takes the packets sent so far: where to, and what.
    fn sent(&mut self) -> Vec<(String, Vec<u8>)> {
        self.said.packets.drain(..).map(|(to, bytes)| (to.to_string(), bytes)).collect()
    }

    /// The poll replies among them that went to `to`.
    fn replies(&mut self, to: &str) -> Vec<Vec<u8>> {
        let is_reply = |bytes: &[u8]| matches!(packet::decode(bytes), Ok(Packet::Reply(_)));
        let sent = self.sent().into_iter();
        sent.filter(|(at, bytes)| at == to && is_reply(bytes)).map(|(_, bytes)| bytes).collect()
    }

    fn diagnostics(&mut self) -> Vec<(String, String)> {
        let sent = self.sent().into_iter();
        let texts = sent.filter_map(|(to, bytes)| match packet::decode(&bytes) {
            Ok(Packet::Diag(diag)) => Some((to, String::from_utf8_lossy(diag.text).into_owned())),
            _ => None,
        });
        texts.collect()
    }
}

#[test]
fn a_controller_chooses_how_a_port_merges() {
    let mut rig = rig("inputs = \"0-3\"\npoll = false");
    rig.dmx(DESK, 0, 2, &[90, 1]);
    rig.dmx(OTHER, 0, 2, &[10, 50]);
    rig.said.frames.clear();
    rig.program(THIRD, &address(Command::MergeLatest(2)));
    let reply = rig.wait_for_replies(THIRD);
    assert_eq!(reply[0][182..186], [0, 0, 0x8A, 0], "port 2 is heard, merges, latest wins");
    rig.dmx(DESK, 0, 2, &[20, 1]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/2/1 20"], "the latest, although it is lower");
    rig.program(THIRD, &address(Command::MergeHighest(2)));
    assert_eq!(rig.said.take_lines(), [] as [&str; 0]);
    rig.dmx(OTHER, 0, 2, &[15, 50]);
    assert_eq!(rig.said.take_lines(), [] as [&str; 0], "20 is higher");
    rig.program(THIRD, &address(Command::MergeLatest(3)));
    rig.dmx(DESK, 0, 3, &[90, 0]);
    rig.dmx(OTHER, 0, 3, &[10, 0]);
    let lines = rig.said.take_lines();
    assert_eq!(lines.last().map(String::as_str), Some("SET /artnet/3/1 10"), "chosen beforehand");
    rig.program(THIRD, &Address { bind_index: 9, ..address(Command::MergeLatest(0)) });
    assert_eq!(rig.bridge.counters().refused, 1, "no such group");
}

impl Rig {
    fn wait_for_replies(&mut self, to: &str) -> Vec<Vec<u8>> {
        self.wait(Span::from_millis(1));
        self.replies(to)
    }
}

#[test]
fn a_cancelled_merge_leaves_the_universe_to_the_next_sender() {
    let mut rig = rig("inputs = \"0-3\"\npoll = false");
    rig.dmx(DESK, 0, 0, &[90, 1]);
    rig.dmx(OTHER, 0, 0, &[10, 50]);
    rig.said.frames.clear();
    rig.program(THIRD, &address(Command::CancelMerge));
    rig.dmx(OTHER, 0, 0, &[10, 50]);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/0/1 10"]);
    rig.dmx(DESK, 0, 0, &[90, 1]);
    assert_eq!((rig.said.frames.len(), rig.bridge.counters().dropped), (0, 1));
    // Once the sole sender is lost, the other is heard again.
    rig.wait(Span::from_millis(10_500));
    rig.dmx(DESK, 0, 0, &[90, 1]);
    let expected = ["BUNDLE now", "  SET /artnet/0/1 90", "  SET /artnet/0/2 1"];
    assert_eq!(rig.said.take_lines(), expected);
}

#[test]
fn a_port_is_cleared_and_lamps_are_said_to_blink() {
    let mut rig = rig("inputs = \"0-3\"\npoll = false");
    rig.dmx(DESK, 0, 0, &[90, 1]);
    rig.said.frames.clear();
    rig.program(DESK, &address(Command::Clear(0)));
    let dark = ["BUNDLE now", "  SET /artnet/0/1 0", "  SET /artnet/0/2 0"];
    assert_eq!(rig.said.take_lines(), dark);
    let cases = [(Command::LedLocate, 0x40), (Command::LedMute, 0x80), (Command::LedNormal, 0xC0)];
    for (command, status) in cases {
        rig.program(DESK, &address(command));
        assert_eq!(rig.wait_for_replies(DESK)[0][23], status, "{command:?}");
    }
    rig.program(DESK, &address(Command::Other(0x0B)));
    let report = rig.wait_for_replies(DESK)[0][108..115].to_vec();
    assert_eq!((&report[..], rig.bridge.counters().refused), (&b"#000f ["[..], 1));
}

#[test]
fn names_and_universes_are_programmed_only_where_that_is_allowed() {
    let renamed =
        Address { short_name: b"left", long_name: b"stage left", ..address(Command::None) };
    let mut switched = address(Command::None);
    (switched.sub_net, switched.outputs[1]) = (Switch::Set(2), Switch::Set(9));
    for allowed in [false, true] {
        let config = format!("inputs = \"0-3\"\nallow_remote_programming = {allowed}");
        let mut rig = rig(&config);
        rig.program(DESK, &renamed);
        rig.program(DESK, &switched);
        let replies = rig.wait_for_replies(DESK);
        let Ok(Packet::Reply(reply)) = packet::decode(&replies[0]) else { panic!("no reply") };
        let outputs: Vec<_> = reply.outputs().map(PortAddress::number).collect();
        if allowed {
            assert_eq!((reply.short_name, reply.long_name), (&b"left"[..], &b"stage left"[..]));
            assert_eq!(outputs, [32, 34, 35, 41]);
        } else {
            assert_eq!((reply.short_name, &outputs[..]), (&b"artnet"[..], &[0, 1, 2, 3][..]));
            assert_eq!(&reply.report[..6], b"#000b ");
        }
        rig.dmx(DESK, 0, 41, &[7, 7]);
        rig.dmx(DESK, 0, 1, &[7, 7]);
        let told = if allowed { "/artnet/41/1 7" } else { "/artnet/1/1 7" };
        let lines = rig.said.take_lines();
        assert!(lines.iter().any(|line| line.ends_with(told)) && lines.len() == 3, "{lines:?}");
    }
}

#[test]
fn an_input_that_is_disabled_sends_nothing() {
    let mut rig = rig("inputs = \"none\"\ntargets = [\"10.0.0.9\"]\npoll = false");
    for universe in [0, 1] {
        rig.set(&format!("/artnet/{universe}/1"), 5);
    }
    rig.wait(GATHER);
    assert_eq!(rig.sent_dmx().len(), 2);
    let mut packet = Vec::new();
    for (disabled, status, sent) in [(true, 0x08, vec![1]), (false, 0x80, vec![0, 1])] {
        let disabled = [disabled, false, false, false];
        InputSwitch { bind_index: 1, disabled }.write(&mut packet);
        rig.receive(DESK, &packet);
        let replies = rig.wait_for_replies(DESK);
        assert_eq!(replies[0][178..180], [status, 0x80]);
        rig.wait(REPEAT);
        let universes: Vec<_> = rig.sent_dmx().iter().map(|(_, number, ..)| *number).collect();
        assert_eq!(universes, sent);
    }
}

#[test]
fn our_address_is_told_and_never_changed() {
    let mut rig = rig("node_ip = \"10.0.0.7\"\nmac = \"02:00:5e:10:00:01\"\npoll = false");
    let wanted = packet::IpProg {
        command: 0x86,
        ip: [10, 0, 0, 99],
        mask: [255, 0, 0, 0],
        gateway: [10, 0, 0, 1],
    };
    let mut packet = Vec::new();
    wanted.write(&mut packet);
    rig.receive(DESK, &packet);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].0.as_str()), (1, DESK));
    let Ok(Packet::IpProgReply(kept)) = packet::decode(&sent[0].1) else { panic!("no reply") };
    assert_eq!((kept.ip, kept.port, kept.is_dhcp), ([10, 0, 0, 7], PORT, false));
    rig.poll(DESK, &packet::Poll::default());
    rig.wait(Span::from_secs(1));
    let replies = rig.replies(DESK);
    assert_eq!(replies[0][10..14], [10, 0, 0, 7]);
    assert_eq!(replies[0][201..207], [2, 0, 0x5E, 0x10, 0, 1]);
}

#[test]
fn a_controller_that_wants_it_is_told_of_every_change() {
    let mut rig = rig("inputs = \"0-3\"\npoll = false");
    rig.poll(DESK, &packet::Poll { on_change: true, ..packet::Poll::default() });
    rig.poll(OTHER, &packet::Poll::default());
    rig.wait(Span::from_secs(2));
    assert_eq!((rig.replies(DESK).len(), rig.said.packets.len()), (1, 0));
    rig.dmx(THIRD, 0, 2, &[1, 0]);
    rig.wait(TICK);
    rig.wait(Span::from_millis(1));
    let sent = rig.sent();
    assert_eq!(sent.len(), 1, "only the one that wants it");
    assert_eq!((sent[0].0.as_str(), &sent[0].1[182..186]), (DESK, &[0, 0, 0x80, 0][..]));
    rig.dmx(THIRD, 0, 2, &[2, 0]);
    rig.wait(Span::from_secs(2));
    assert_eq!(rig.sent().len(), 0, "levels are no change");
    // Three of its polls later it is forgotten.
    rig.wait(Span::from_secs(9));
    rig.dmx(THIRD, 0, 3, &[1, 0]);
    rig.wait(Span::from_secs(1));
    assert_eq!(rig.sent().len(), 0);
}

#[test]
fn troubles_are_told_to_those_who_ask_for_them() {
    let broadcast = "10.255.255.255:6454";
    for (unicast, to) in [(true, DESK), (false, broadcast)] {
        let mut rig = rig("inputs = \"0-3\"\npoll = false\nbroadcast = \"10.255.255.255\"");
        let wanted = |priority| packet::Poll {
            diagnostics: Some(packet::Diagnostics { priority, unicast }),
            ..packet::Poll::default()
        };
        rig.poll(DESK, &wanted(packet::priority::HIGH));
        rig.dmx(DESK, 0, 1, &[1, 0]);
        rig.dmx(OTHER, 0, 1, &[1, 0]);
        rig.receive(OTHER, b"Art-Noise");
        for _ in 0..3 {
            rig.dmx(THIRD, 0, 1, &[1, 0]);
        }
        let text = "10.0.0.3 is a third sender of port-address 1 and is ignored";
        assert_eq!(rig.diagnostics(), [(to.to_owned(), text.to_owned())], "once, and no noise");
        rig.poll(DESK, &wanted(packet::priority::LOW));
        rig.receive(OTHER, b"Art-Noise");
        assert_eq!(rig.diagnostics().len(), 1);
    }
}

#[test]
fn a_thousand_ports_are_told_in_groups_that_a_controller_can_take() {
    let mut rig = rig("inputs = \"0-2047\"\npoll = false");
    rig.poll(DESK, &packet::Poll::default());
    rig.wait(Span::from_secs(1));
    let first = rig.replies(DESK);
    rig.wait(Span::from_millis(50));
    let rest = rig.replies(DESK);
    let replies: Vec<_> = first.iter().chain(&rest).collect();
    assert_eq!(replies.len(), 255, "as many as a bind index counts");
    let indexes: Vec<_> = replies.iter().map(|bytes| bytes[211]).collect();
    assert_eq!(indexes, (1..=255).collect::<Vec<u8>>());
    let last = packet::decode(replies[254]);
    let Ok(Packet::Reply(last)) = last else { panic!("{last:?}") };
    assert_eq!(
        last.outputs().map(PortAddress::number).collect::<Vec<_>>(),
        [1016, 1017, 1018, 1019]
    );
}

#[test]
fn machines_answer_a_poll_at_different_moments_and_each_run_alike() {
    let moment = |config: &str| {
        let mut rig = rig(config);
        rig.poll(DESK, &packet::Poll::default());
        let start = rig.now;
        while rig.replies(DESK).is_empty() {
            rig.wait(Span::from_millis(1));
            assert!(rig.now.since(start) <= Span::from_millis(1_001), "{config}");
        }
        rig.now.since(start)
    };
    let moments: Vec<_> =
        (1..=20).map(|n| moment(&format!("poll = false\nnode_ip = \"10.0.0.{n}\""))).collect();
    assert_eq!(moments[0], moment("poll = false\nnode_ip = \"10.0.0.1\""));
    let apart: std::collections::BTreeSet<_> = moments.iter().collect();
    assert!(apart.len() >= 15, "{moments:?}");
}

#[test]
fn the_router_is_told_who_is_on_the_network() {
    let mut rig = rig("poll = false");
    rig.reply(DESK, &[1, 2]);
    let lines = [
        "BUNDLE now",
        "  SET /artnet/nodes/10.0.0.1/online true",
        "  SET /artnet/nodes/10.0.0.1/name \"node\"",
        "  SET /artnet/nodes/10.0.0.1/long_name \"a node\"",
        "  SET /artnet/nodes/10.0.0.1/report \"\"",
        "  SET /artnet/nodes/10.0.0.1/outputs [1, 2]",
        "  SET /artnet/nodes/10.0.0.1/inputs []",
    ];
    assert_eq!(rig.said.take_lines(), lines);
    rig.reply(DESK, &[1, 2]);
    assert_eq!(rig.said.frames.len(), 0, "nothing new");
    rig.said.room = 0;
    rig.reply("10.0.0.1:7000", &[1, 3]);
    assert_eq!(rig.said.frames.len(), 0, "the router takes nothing at present");
    rig.said.room = usize::MAX;
    rig.wait(PATIENCE);
    assert!(rig.said.take_lines().contains(&"  SET /artnet/nodes/10.0.0.1/outputs [1, 3]".into()));
    rig.wait(Span::from_secs(10));
    assert_eq!(rig.said.take_lines(), ["SET /artnet/nodes/10.0.0.1/online false"]);
    // What the router holds of it says nothing to us.
    let name = set_frame("/artnet/nodes/10.0.0.1/name", |out| push_i64(out, 1));
    rig.step(Input::Frame(&name));
    assert_eq!(rig.bridge.counters().refused, 0);
}

#[test]
fn more_nodes_than_are_kept_are_counted_and_a_part_of_them_is_shown() {
    let mut rig = rig("poll = false");
    for node in 0..1_030_u32 {
        rig.reply(&format!("10.0.{}.{}:6454", node / 250, node % 250 + 1), &[1]);
    }
    assert_eq!(rig.bridge.counters().overflowed, 6);
    let lines = rig.said.take_lines();
    let shown = lines.iter().filter(|line| line.ends_with("/online true")).count();
    assert_eq!(shown, nodes::SHOWN_MAX);
}

#[test]
fn only_so_many_universes_are_broadcast() {
    let broadcast = "broadcast = \"10.255.255.255\"\nbroadcast_levels = true\npoll = false";
    let mut rig = rig(&format!("{broadcast}\nbroadcast_universes_max = 2"));
    for universe in 0..4 {
        rig.set(&format!("/artnet/{universe}/1"), 5);
    }
    rig.wait(GATHER);
    let universes: Vec<_> = rig.sent_dmx().iter().map(|(_, number, ..)| *number).collect();
    assert_eq!(universes, [0, 1]);
    rig.reply(DESK, &[3]);
    rig.wait(REPEAT);
    let to: Vec<_> = rig.sent_dmx().into_iter().map(|(to, number, ..)| (to, number)).collect();
    assert!(to.contains(&(DESK.to_owned(), 3)), "who lists it gets it: {to:?}");
}

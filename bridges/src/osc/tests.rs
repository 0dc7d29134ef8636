//! OSC as its bridge speaks it: what a router and devices hear of each other.

use clasp_rt_core::time::Span;
use clasp_rt_core::value::{push_f64, push_i64, push_null};
use proptest::prelude::*;

use super::packet::{Argument, Writer, push_element, write_bundle_head, write_message};
use super::*;
use crate::uplink::tests::{Said, lines, publish_frame, set_frame};
use crate::vectors;

struct Rig {
    bridge: Osc,
    now: Time,
    said: Said,
}

fn rig(config: &str) -> Rig {
    let config = toml::from_str(config).unwrap_or_else(|error| panic!("{config}: {error}"));
    let mut rig = Rig {
        bridge: Osc::new(config).expect("a configuration that works"),
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

    fn set(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) {
        self.step(Input::Frame(&set_frame(address, push)));
    }

    /// Takes the packets sent so far, as their target and their words.
    fn sent(&mut self) -> Vec<(String, String)> {
        let words = |(to, bytes): (SocketAddr, Vec<u8>)| {
            (to.to_string(), words(&packet::decode(&bytes).expect("our own packet")))
        };
        self.said.packets.drain(..).map(words).collect()
    }

    /// As [`Rig::sent`], without the target.
    fn sent_words(&mut self) -> Vec<String> {
        self.sent().into_iter().map(|(_, words)| words).collect()
    }
}

fn message(name: &str, arguments: &[Argument<'_>]) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    writer.clear();
    arguments.iter().for_each(|argument| writer.push(*argument));
    write_message(&mut out, name, &writer);
    out
}

fn bundle(time: TimeTag, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_bundle_head(&mut out, time);
    packets.iter().for_each(|packet| push_element(&mut out, packet));
    out
}

fn words(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Message(message) => {
            let arguments: Vec<_> =
                message.arguments().map(|argument| format!("{argument:?}")).collect();
            format!("{} ,{} {}", message.address, message.tags, arguments.join(" "))
        }
        Packet::Bundle(bundle) => {
            let inner: Vec<_> = bundle.packets().map(|packet| words(&packet)).collect();
            format!("#bundle [{}]", inner.join("; "))
        }
    }
}

const TABLET: &str = "10.0.0.1:50123";
const DESK: &str = "10.0.0.2:9000";

#[test]
fn packets_of_other_programs_become_the_messages_beside_them() {
    let count = vectors::each("osc", |bytes, expected| {
        let mut rig = rig("");
        rig.receive(TABLET, bytes);
        assert_eq!(rig.said.take_lines().join("\n"), expected);
        assert_eq!(rig.bridge.counters().malformed, 0);
    });
    assert!(count >= 8, "{count} packets");
}

#[test]
fn values_come_back_to_a_device_with_the_tags_it_sent() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]");
    rig.receive(TABLET, &message("/x", &[Argument::Double(0.5)]));
    rig.receive(TABLET, &message("/n", &[Argument::Int(1)]));
    rig.sent();
    rig.set("/osc/x", |out| push_i64(out, 2));
    rig.set("/osc/n", |out| push_f64(out, 3.0));
    rig.set("/osc/new", |out| push_f64(out, 0.25));
    rig.set("/osc/go", push_null);
    let expected = ["/x ,d Double(2.0)", "/n ,i Int(3)", "/new ,f Float(0.25)", "/go , "];
    assert_eq!(rig.sent_words(), expected);
}

#[test]
fn events_of_every_kind_leave_too() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]");
    for signal in [Signal::Event, Signal::Stream, Signal::Gesture] {
        let frame = publish_frame("/osc/go", signal, |out| push_i64(out, 1));
        rig.step(Input::Frame(&frame));
    }
    assert_eq!(rig.sent_words(), ["/go ,i Int(1)"; 3]);
}

#[test]
fn what_one_target_sends_goes_to_the_others() {
    let targets = "targets = [\"10.0.0.1:9000\", \"10.0.0.2:9000\", \"10.0.0.2:9001\"]";
    // Sender, relay, who hears of it.
    let cases: [(&str, bool, &[&str]); 5] = [
        ("10.0.0.1:50123", true, &["10.0.0.2:9000", "10.0.0.2:9001"]),
        ("10.0.0.2:9000", true, &["10.0.0.1:9000", "10.0.0.2:9001"]),
        ("10.0.0.2:50123", true, &["10.0.0.1:9000"]),
        ("10.0.0.3:50123", true, &["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.2:9001"]),
        ("10.0.0.3:50123", false, &[]),
    ];
    for (from, relay, expected) in cases {
        let mut rig = rig(&format!("{targets}\nrelay = {relay}"));
        let sent = message("/x", &[Argument::Int(1)]);
        rig.receive(from, &sent);
        assert!(rig.said.packets.iter().all(|(_, packet)| *packet == sent));
        let to: Vec<_> = rig.sent().into_iter().map(|(to, _)| to).collect();
        assert_eq!(to, expected, "from {from}");
    }
}

#[test]
fn who_sent_lately_is_told_where_it_listens() {
    let cases = [("reply = \"source\"", TABLET), ("reply = 9001", "10.0.0.1:9001")];
    for (config, to) in cases {
        let mut rig = rig(&format!("{config}\nreply_timeout_s = 10"));
        rig.set("/osc/x", |out| push_i64(out, 1));
        rig.receive(TABLET, &message("/y", &[]));
        rig.set("/osc/x", |out| push_i64(out, 2));
        rig.wait(Span::from_secs(10));
        rig.set("/osc/x", |out| push_i64(out, 3));
        assert_eq!(rig.sent(), [(to.to_string(), "/x ,i Int(2)".to_string())], "{config}");
    }
}

#[test]
fn a_pattern_writes_every_known_address_that_matches() {
    let mut rig = rig("");
    for name in ["/1/fader1", "/1/fader2", "/2/fader1"] {
        rig.receive(TABLET, &message(name, &[Argument::Int(0)]));
    }
    rig.set("/osc/1/fader3", |out| push_i64(out, 0));
    rig.said.frames.clear();
    rig.receive(TABLET, &message("/1/fader*", &[Argument::Int(7)]));
    let expected =
        ["BUNDLE now", "  SET /osc/1/fader1 7", "  SET /osc/1/fader2 7", "  SET /osc/1/fader3 7"];
    assert_eq!(rig.said.take_lines(), expected);
    rig.receive(TABLET, &message("/nothing/*", &[]));
    rig.receive(TABLET, &message("/broken/[", &[]));
    let counters = rig.bridge.counters();
    assert_eq!((counters.dropped, counters.refused, rig.said.frames.len()), (1, 1, 0));
}

#[test]
fn addresses_that_clasp_does_not_know_are_refused() {
    let mut rig = rig("");
    let long = format!("/{}", "x".repeat(2_000));
    rig.receive(TABLET, &message(&long, &[Argument::Int(1)]));
    let answer = message("/ok", &[Argument::Int(1)]);
    rig.receive(TABLET, &answer);
    assert_eq!(rig.said.take_lines(), ["SET /osc/ok 1"]);
    assert_eq!(rig.bridge.counters().refused, 1);
}

#[test]
fn addresses_that_osc_does_not_know_are_refused() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]");
    for address in ["/osc/a b", "/osc/a{b}", "/osc/[1]", "/osc/#x", "/osc", "/oscillator/1"] {
        rig.set(address, |out| push_i64(out, 1));
    }
    assert_eq!(rig.said.packets.len(), 0);
    assert_eq!(rig.bridge.counters().refused, 6);
}

#[test]
fn chosen_addresses_are_events() {
    let mut rig = rig("events = [\"/osc/cue/**\"]");
    rig.receive(TABLET, &message("/cue/go", &[Argument::Int(4)]));
    rig.receive(TABLET, &message("/level", &[Argument::Int(5)]));
    assert_eq!(rig.said.take_lines(), ["PUBLISH event /osc/cue/go 4", "SET /osc/level 5"]);
}

#[test]
fn a_bundle_inside_another_waits_for_its_own_later_time_only() {
    const SECOND: i64 = 1_000_000;
    let tag = |seconds| TimeTag::from_unix_us(seconds * SECOND);
    let one = |name| message(name, &[Argument::Int(1)]);
    let earlier = bundle(tag(90), &[one("/earlier")]);
    let at_once = bundle(TimeTag::IMMEDIATELY, &[one("/at_once")]);
    let later = bundle(tag(102), &[one("/later")]);
    let packet = bundle(tag(101), &[one("/a"), later, earlier, at_once, one("/b")]);
    let mut rig = rig("");
    rig.step(Input::Clock { unix_us: 100_000_000 });
    rig.receive(TABLET, &packet);
    let expected = [
        "BUNDLE 101000000",
        "  SET /osc/a 1",
        "  SET /osc/earlier 1",
        "  SET /osc/at_once 1",
        "  SET /osc/b 1",
        "BUNDLE 102000000",
        "  SET /osc/later 1",
    ];
    assert_eq!(rig.said.take_lines(), expected);
}

#[test]
fn a_time_far_ahead_is_a_wrong_clock() {
    let mut rig = rig("ahead_max_ms = 2000");
    rig.step(Input::Clock { unix_us: 100_000_000 });
    rig.wait(Span::from_secs(10));
    for (us, line) in [(112_000_000, "BUNDLE 112000000"), (112_000_001, "SET /osc/x 1")] {
        let packet = bundle(TimeTag::from_unix_us(us), &[message("/x", &[Argument::Int(1)])]);
        rig.receive(TABLET, &packet);
        assert_eq!(rig.said.take_lines()[0], line);
    }
}

#[test]
fn more_instants_than_a_datagram_may_hold_are_counted() {
    let inner =
        |us| bundle(TimeTag::from_unix_us(us), &[message("/x", &[Argument::Int(us as i32)])]);
    let packet = bundle(TimeTag::IMMEDIATELY, &(1..=20).map(inner).collect::<Vec<_>>());
    let mut rig = rig("");
    rig.receive(TABLET, &packet);
    assert_eq!(rig.said.frames.len(), INSTANTS_MAX - 1, "at once there is nothing to say");
    assert_eq!(rig.bridge.counters().overflowed, 5);
}

#[test]
fn messages_can_be_gathered_into_bundles() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]\nbundle_ms = 5");
    for number in 0..3 {
        rig.set(&format!("/osc/{number}"), |out| push_i64(out, number));
    }
    assert_eq!(rig.said.packets.len(), 0);
    rig.wait(Span::from_millis(5));
    assert_eq!(rig.sent_words(), ["#bundle [/0 ,i Int(0); /1 ,i Int(1); /2 ,i Int(2)]"]);
    for number in 0..200 {
        rig.set(&format!("/osc/{number:03}"), |out| push_i64(out, number));
    }
    rig.step(Input::Stop);
    assert!(rig.said.packets.len() > 1);
    assert!(rig.said.packets.iter().all(|(_, packet)| packet.len() <= 1_400));
    let count: usize = rig.sent_words().iter().map(|words| words.matches(",i").count()).sum();
    assert_eq!(count, 200);
}

#[test]
fn reminders_keep_a_desk_awake() {
    let mut rig =
        rig("targets = [\"10.0.0.2:9000\"]\nrepeat = [{ address = \"/xremote\", every_s = 8 }]");
    rig.wait(Span::from_secs(20));
    assert_eq!(rig.sent(), vec![(DESK.to_string(), "/xremote , ".to_string()); 3]);
}

#[test]
fn subscribing_can_ask_for_fewer_updates() {
    let config = toml::from_str("rate_hz_max = 30\nnamespace = \"/stage\"").expect("a table");
    let mut bridge = Osc::new(config).expect("a configuration that works");
    let mut said = Said::default();
    bridge.step(Time::default(), Input::Joined, &mut said);
    assert_eq!(lines(&said.frames[0]), ["HELLO osc 0xf1"]);
    assert_eq!(lines(&said.frames[1]), ["SUBSCRIBE 1 /stage/** 30 Hz"]);
}

#[test]
fn mistakes_in_the_configuration_are_explained() {
    for (config, key) in [
        ("namespace = \"osc/\"", "namespace"),
        ("targets = [\"10.0.0.5\"]", "targets"),
        ("events = [\"cue\"]", "events"),
        ("bundle_ms = 1001", "bundle_ms"),
        ("ahead_max_ms = 60001", "ahead_max_ms"),
        ("reply_timeout_s = 0", "reply_timeout_s"),
        ("repeat = [{ address = \"xremote\", every_s = 8 }]", "repeat.address"),
        ("repeat = [{ address = \"/xremote\", every_s = 0 }]", "repeat.every_s"),
    ] {
        let config = toml::from_str(config).expect(config);
        assert_eq!(Osc::new(config).err().expect(key).key, key);
    }
    for config in ["port = 9000", "reply = \"everywhere\"", "repeat = [{ every_s = 1 }]"] {
        assert!(toml::from_str::<Config>(config).is_err(), "{config}");
    }
}

/// A golden packet with a few octets changed and cut somewhere, or noise.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let mut golden = Vec::new();
    vectors::each("osc", |bytes, _| golden.push(bytes.to_vec()));
    let changes = proptest::collection::vec((0_usize..130, any::<u8>()), 0..6);
    let changed = (proptest::sample::select(golden), changes, 0_usize..130).prop_map(
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
    prop_oneof![changed, proptest::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_datagram_breaks_the_bridge(datagrams in proptest::collection::vec(datagram(), 1..8)) {
        let mut rig = rig("targets = [\"10.0.0.2:9000\"]\nreply = \"source\"\naddresses_max = 4");
        for bytes in &datagrams {
            rig.receive(TABLET, bytes);
        }
        for frame in &rig.said.frames {
            lines(frame);
        }
    }

    /// Whatever an address carried comes back to its device octet for octet.
    #[test]
    fn a_message_survives_the_way_there_and_back(
        int in any::<i32>(),
        double in any::<f64>().prop_filter("NaN has many forms", |x| !x.is_nan()),
        text in "[a-z]{0,6}",
        blob in proptest::collection::vec(any::<u8>(), 0..6),
        octets in any::<[u8; 4]>(),
    ) {
        let sent = message("/x", &[
            Argument::Int(int),
            Argument::Double(double),
            Argument::Text(text.as_bytes()),
            Argument::Blob(&blob),
            Argument::Open,
            Argument::Colour(octets),
            Argument::Nil,
            Argument::Close,
            Argument::Impulse,
            Argument::Bool(true),
        ]);
        let mut rig = rig("targets = [\"10.0.0.2:9000\"]\nrelay = false");
        rig.receive(TABLET, &sent);
        let echo = rig.said.frames.pop().expect("a SET");
        rig.step(Input::Frame(&echo));
        let (_, back) = rig.said.packets.pop().expect("a packet");
        prop_assert_eq!(back, sent);
    }
}

//! OSC as its bridge speaks it: what a router and devices hear of each other.

mod sources;
mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clasp_rt_core::time::Span;
use clasp_rt_core::value::{push_f64, push_i64, push_null, push_str};
use proptest::prelude::*;

use super::framing::{Deframer, Framing};
use super::packet::{Argument, Writer, push_element, write_bundle_head, write_message};
use super::*;
use crate::uplink::tests::{lines, publish_frame, set_frame};
use crate::{Peer, vectors};

type Rig = crate::rig::Rig<Osc, Heard>;

/// What the bridge said, to the router, in datagrams and over streams.
#[derive(Default)]
struct Heard {
    frames: Vec<Vec<u8>>,
    packets: Vec<(SocketAddr, Vec<u8>)>,
    streams: BTreeMap<StreamId, Vec<u8>>,
    ended: Vec<StreamId>,
    warnings: Vec<String>,
    /// Bytes that every stream still takes; `None`: any number.
    room: Option<usize>,
}

impl Out for Heard {
    fn to_router(&mut self, frame: &[u8]) {
        self.frames.push(frame.to_vec());
    }

    fn to_network(&mut self, _: u8, to: SocketAddr, bytes: &[u8]) {
        self.packets.push((to, bytes.to_vec()));
    }

    fn stream_room(&self, _: StreamId) -> usize {
        self.room.unwrap_or(usize::MAX)
    }

    fn to_stream(&mut self, stream: StreamId, bytes: &[u8]) {
        assert!(bytes.len() <= self.stream_room(stream), "it asks for the room first");
        self.room = self.room.map(|room| room - bytes.len());
        self.streams.entry(stream).or_default().extend_from_slice(bytes);
    }

    fn end_stream(&mut self, stream: StreamId) {
        self.ended.push(stream);
    }

    fn warn(&mut self, what: &str) {
        self.warnings.push(what.to_owned());
    }
}

impl Heard {
    fn take_lines(&mut self) -> Vec<String> {
        self.frames.drain(..).flat_map(|frame| lines(&frame)).collect()
    }
}

/// One that tells nothing but what was said.
fn rig(config: &str) -> Rig {
    with_sources(&format!("sources = false\n{config}"))
}

fn with_sources(config: &str) -> Rig {
    let config = toml::from_str(config).unwrap_or_else(|error| panic!("{config}: {error}"));
    let mut rig = Rig::joined(Osc::new(config).expect("a configuration that works"));
    rig.said.frames.clear();
    rig
}

impl Rig {
    /// Ends a turn of the host: what is due, is done.
    fn end_turn(&mut self) {
        while self.bridge.deadline().is_some_and(|due| due <= self.now) {
            self.step(Input::Deadline);
        }
    }

    fn receive(&mut self, from: &str, bytes: &[u8]) {
        let from = from.parse().expect("an address");
        self.step(Input::Packet { socket: 0, from, bytes });
        self.end_turn();
    }

    fn set(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) {
        self.step(Input::Frame(&set_frame(address, push)));
        self.end_turn();
    }

    /// Opens a stream of plan `plan`.
    fn open(&mut self, plan: u8) -> StreamId {
        let index = self.said.streams.len() as u32;
        let stream = StreamId { index, generation: 0 };
        self.said.streams.insert(stream, Vec::new());
        self.step(Input::Opened { stream, plan, peer: Peer::Caller });
        self.end_turn();
        stream
    }

    fn bytes(&mut self, stream: StreamId, bytes: &[u8]) {
        self.step(Input::Bytes { stream, bytes });
        self.end_turn();
    }

    /// Takes what a stream was told, in words.
    fn told(&mut self, stream: StreamId, framing: Framing) -> Vec<String> {
        let bytes = self.said.streams.insert(stream, Vec::new()).expect("a stream");
        let mut packets = Vec::new();
        let each = &mut |found: Found<'_>| match found {
            Found::Packet(packet) => {
                packets.push(words(&packet::decode(packet).expect("our own packet")));
            }
            Found::Malformed => panic!("{bytes:?}"),
        };
        Deframer::new(Some(framing)).push(&bytes, each).expect("our own stream");
        packets
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
        rig.end_turn();
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
    let cases = [
        ("reply = \"sender\"", TABLET),
        ("reply = \"source\"", TABLET),
        ("reply = 9001", "10.0.0.1:9001"),
    ];
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
fn what_osc_cannot_say_is_refused_and_told_once() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]");
    rig.set("/osc/t", |out| push_str(out, "a\0b").expect("short"));
    rig.set("/osc/a b", |out| push_i64(out, 1));
    assert_eq!((rig.said.packets.len(), rig.bridge.counters().refused), (0, 2));
    let [said] = rig.said.warnings.as_slice() else { panic!("{:?}", rig.said.warnings) };
    assert!(said.contains("\"/osc/t\"") && said.contains("refused"), "{said}");
}

#[test]
fn what_came_while_the_router_was_away_is_told_when_it_is_back() {
    let mut rig = with_sources("events = [\"/osc/cue/**\"]");
    for step in 0..2 {
        rig.step(Input::Lost);
        rig.said.frames.clear();
        for (address, value) in [("/a", step), ("/cue/go", 7), ("/a", step + 2), ("/b", 3)] {
            rig.receive(TABLET, &message(address, &[Argument::Int(value)]));
        }
        assert_eq!(rig.said.take_lines(), [""; 0], "nobody hears it");
        rig.step(Input::Joined);
        let told = rig.said.take_lines();
        let at = |wanted: &str| {
            let found: Vec<_> = (0..told.len()).filter(|at| told[*at].contains(wanted)).collect();
            assert_eq!(found.len(), 1, "{wanted}: {told:#?}");
            found[0]
        };
        let source = at("PUBLISH event /clasp/source ");
        assert!(at("HELLO") < source && source < at(&format!("SET /osc/a {}", step + 2)));
        assert!(source < at("SET /osc/b 3"));
        assert!(!told.iter().any(|line| line.contains("/cue/")), "an event is over: {told:#?}");
        rig.step(Input::Lost);
        rig.step(Input::Joined);
        let again = rig.said.take_lines();
        assert!(!again.iter().any(|line| line.contains("/osc/a")), "once is enough: {again:#?}");
    }
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
fn what_the_router_says_at_once_leaves_as_one_bundle() {
    let cases = [
        ("", vec!["#bundle [/a ,i Int(1); /b ,i Int(2)]"]),
        ("bundles = false", vec!["/a ,i Int(1)", "/b ,i Int(2)"]),
    ];
    for (config, expected) in cases {
        let mut rig = rig(&format!("targets = [\"10.0.0.2:9000\"]\n{config}"));
        for (address, number) in [("/osc/a", 1), ("/osc/b", 2)] {
            rig.step(Input::Frame(&set_frame(address, |out| push_i64(out, number))));
        }
        rig.end_turn();
        assert_eq!(rig.sent_words(), expected, "{config}");
        rig.set("/osc/c", |out| push_i64(out, 3));
        assert_eq!(rig.sent_words(), ["/c ,i Int(3)"], "one message needs no bundle");
    }
}

/// The time tag of the only packet sent.
fn tag_sent(rig: &mut Rig) -> TimeTag {
    let (_, packet) = rig.said.packets.pop().expect("a packet");
    let Ok(Packet::Bundle(bundle)) = packet::decode(&packet) else { panic!("{packet:?}") };
    bundle.time
}

#[test]
fn bundles_are_dated_by_the_router_or_so_far_ahead_as_asked() {
    let mut rig = rig("targets = [\"10.0.0.2:9000\"]\nbundle_ahead_ms = 20");
    rig.set("/osc/x", |out| push_i64(out, 1));
    assert_eq!(rig.sent_words(), ["/x ,i Int(1)"], "nobody has told the time yet");
    rig.step(Input::Clock { unix_us: 100_000_000 });
    rig.wait(Span::from_millis(5));
    rig.set("/osc/x", |out| push_i64(out, 1));
    assert_eq!(tag_sent(&mut rig), TimeTag::from_unix_us(100_025_000));
    let bundle = message::Message::Bundle(message::Bundle {
        timestamp_us: Some(7_000_000),
        messages: clasp_rt_core::wire::list::Messages::EMPTY,
    });
    let mut dated = Vec::new();
    binary::encode(&bundle, clasp_rt_core::signal::Qos::Fire, &mut dated).expect("a frame");
    // The SET goes into the list that the frame ends with.
    let set = set_frame("/osc/y", |out| push_i64(out, 2));
    let payload = header::parse(&set).expect("a frame").payload;
    let mut inner = dated[header::FRAME_HEADER_LEN..].to_vec();
    inner[3] = 1;
    inner.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    inner.extend_from_slice(payload);
    let head = header::encode(clasp_rt_core::signal::Qos::Fire, inner.len()).expect("short");
    rig.step(Input::Frame(&[&head[..], &inner].concat()));
    assert_eq!(tag_sent(&mut rig), TimeTag::from_unix_us(7_000_000));
}

#[test]
fn targets_are_told_their_part_by_their_names() {
    let mut rig = rig("targets = [\"10.0.0.9:9000\"]\n\
         [[target]]\nto = \"10.0.0.2:10023\"\nstrip = \"/x32\"\nbundles = false\n\
         [[target]]\nto = \"10.0.0.3:9000\"\npattern = \"/osc/x32/*/level\"\n\
         template = \"/fader{1}\"\nwide = true\n");
    rig.set("/osc/x32/1/level", |out| push_i64(out, 1));
    rig.set("/osc/other", |out| push_i64(out, 2));
    let expected = [
        // Who takes no bundles is told before the turn ends.
        ("10.0.0.2:10023", "/1/level ,i Int(1)"),
        ("10.0.0.9:9000", "/x32/1/level ,i Int(1)"),
        ("10.0.0.3:9000", "/fader1 ,h Long(1)"),
        ("10.0.0.9:9000", "/other ,i Int(2)"),
    ];
    assert_eq!(rig.sent(), expected.map(|(to, what)| (to.to_string(), what.to_string())));
}

#[test]
fn what_a_renamed_target_says_is_told_to_the_others_by_their_names() {
    let mut rig = rig("targets = [\"10.0.0.9:9000\"]\n\
         [[target]]\nto = \"10.0.0.2:10023\"\nstrip = \"/x32\"\n\
         [[target]]\nto = \"10.0.0.3:9000\"\nstrip = \"/x32\"\nprefix = \"/b\"\n\
         bundles = false");
    let inner = bundle(TimeTag::IMMEDIATELY, &[message("/2/on", &[Argument::Bool(true)])]);
    let whole = bundle(TimeTag::IMMEDIATELY, &[message("/1/level", &[Argument::Int(1)]), inner]);
    rig.receive("10.0.0.2:10023", &whole);
    let lines = ["BUNDLE now", "  SET /osc/x32/1/level 1", "  SET /osc/x32/2/on true"];
    assert_eq!(rig.said.take_lines(), lines);
    let told = [
        ("10.0.0.9:9000", "#bundle [/x32/1/level ,i Int(1); /x32/2/on ,T Bool(true)]"),
        ("10.0.0.3:9000", "/b/1/level ,i Int(1)"),
        ("10.0.0.3:9000", "/b/2/on ,T Bool(true)"),
    ];
    assert_eq!(rig.sent(), told.map(|(to, what)| (to.to_string(), what.to_string())));
}

#[test]
fn a_message_without_arguments_asks_for_what_is_held() {
    let mut rig = rig("query = true\nrelay = false\nevents = [\"/osc/go\"]");
    rig.receive(TABLET, &message("/1/fader1", &[Argument::Double(0.5)]));
    rig.receive(TABLET, &message("/go", &[]));
    rig.set("/osc/1/label", |out| {
        clasp_rt_core::value::push_str(out, "Vox").expect("short");
    });
    rig.set("/osc/1/null", push_null);
    rig.said.frames.clear();
    rig.receive("10.0.0.7:1234", &message("/1/fader1", &[]));
    rig.receive("10.0.0.7:1234", &message("/1/*", &[]));
    let words = [
        "/1/fader1 ,d Double(0.5)",
        "/1/fader1 ,d Double(0.5)",
        "/1/label ,s Text([86, 111, 120])",
    ];
    assert_eq!(rig.sent(), words.map(|what| ("10.0.0.7:1234".to_string(), what.to_string())));
    assert_eq!(rig.said.frames.len(), 0, "a question writes nothing");
    // What holds nothing is no question, but a button.
    for name in ["/go", "/1/null", "/unknown"] {
        rig.receive("10.0.0.7:1234", &message(name, &[]));
    }
    let lines = ["PUBLISH event /osc/go null", "SET /osc/1/null null", "SET /osc/unknown null"];
    assert_eq!(rig.said.take_lines(), lines);
}

#[test]
fn a_question_about_everything_is_answered_within_bounds() {
    let mut rig = rig("query = true\nrelay = false");
    for number in 0..ANSWERS_MAX + 7 {
        rig.receive(TABLET, &message(&format!("/{number}"), &[Argument::Int(1)]));
    }
    rig.receive(TABLET, &message("/*", &[]));
    assert_eq!(rig.said.packets.len(), ANSWERS_MAX);
    assert_eq!(rig.bridge.counters().overflowed, 7);
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
    let mut said = Heard::default();
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
        ("connections_max = 0", "connections_max"),
        ("bundle_ahead_ms = 10001", "bundle_ahead_ms"),
        ("multicast = [\"10.0.0.1\"]", "multicast"),
        ("multicast = [\"ff02::1\"]", "multicast"),
        ("bind = \"[::]:9000\"\nmulticast = [\"239.0.0.1\"]", "multicast"),
        ("reply = 0", "reply"),
        ("rate_hz_max = 0", "rate_hz_max"),
        ("targets = [\"10.0.0.5:0\"]", "targets"),
        ("targets = [\"[::1]:9000\"]", "targets"),
        ("target = [{ to = \"10.0.0.5:0\" }]", "target[0].to"),
        ("targets = [\"http://10.0.0.5:80\"]", "targets"),
        ("targets = [\"tcp://10.0.0.5\"]", "targets"),
        ("targets = [\"10.0.0.5:1\", \"127.0.0.1:8000\"]", "targets"),
        ("bind = \"10.0.0.5:1\"\ntarget = [{ to = \"10.0.0.5:1\" }]", "target[0].to"),
        ("targets = [\"slip://10.0.0.5:0\"]", "targets"),
        ("target = [{ to = \"10.0.0.5\" }]", "target[0].to"),
        ("target = [{ to = \"10.0.0.5:1\", strip = \"x\" }]", "target[0].strip"),
        ("ranges = [{ pattern = \"/a\", min = 1, max = 0 }]", "ranges"),
        ("ranges = [{ pattern = \"a\", min = 0, max = 1 }]", "ranges"),
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
        rig.end_turn();
        let (_, back) = rig.said.packets.pop().expect("a packet");
        prop_assert_eq!(back, sent);
    }
}

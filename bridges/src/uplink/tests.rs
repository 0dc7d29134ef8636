//! What bridges say to the router, in words, and what the router says to them, for all their tests.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::value::{ArrayWriter, push_bytes, push_f64, push_i64};
use clasp_rt_core::wire::binary::SnapshotBuilder;

use super::*;

/// What a bridge said, kept for a test: frames as text, packets as they are.
pub(crate) struct Said {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) packets: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) joined: Vec<String>,
    pub(crate) room: usize,
}

impl Default for Said {
    fn default() -> Self {
        let (frames, packets, joined) = (Vec::new(), Vec::new(), Vec::new());
        Self { frames, packets, joined, room: usize::MAX }
    }
}

/// That two bridges have said and counted the same since the last time, and wait for the same.
pub(crate) fn alike(two: [(&dyn crate::Bridge, &mut Said); 2], after: &dyn fmt::Debug) {
    let [a, b] = two.map(|(bridge, said)| {
        let said = (said.take_lines(), said.packets.split_off(0), said.joined.clone());
        (said, bridge.counters(), bridge.deadline())
    });
    assert_eq!(a, b, "{after:?}");
}

impl Out for Said {
    fn room(&self) -> usize {
        self.room
    }

    fn to_router(&mut self, frame: &[u8]) {
        self.frames.push(frame.to_vec());
    }

    fn to_network(&mut self, _: u8, to: SocketAddr, bytes: &[u8]) {
        self.packets.push((to, bytes.to_vec()));
    }

    fn join(&mut self, _: u8, group: IpAddr) {
        self.joined.push(group.to_string());
    }
}

impl Said {
    /// Takes the frames said so far, each as the lines of [`lines`].
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.frames.drain(..).flat_map(|frame| lines(&frame)).collect()
    }
}

/// A frame in words, one line for each message; the messages of a BUNDLE are indented.
pub(crate) fn lines(frame: &[u8]) -> Vec<String> {
    let frame = header::parse(frame).expect("a frame");
    let mut lines = Vec::new();
    describe(binary::decode(frame.payload).expect("a message"), "", &mut lines);
    lines
}

fn describe(message: Message<'_>, indent: &str, lines: &mut Vec<String>) {
    match message {
        Message::Hello(hello) => {
            lines.push(format!("HELLO {} {:#04x}", hello.name, hello.features.bits()));
        }
        Message::Subscribe(subscribe) => {
            let rate = subscribe.options.max_rate.map(|rate| format!(" {rate} Hz"));
            let (id, pattern) = (subscribe.id, subscribe.pattern);
            lines.push(format!("SUBSCRIBE {id} {pattern}{}", rate.unwrap_or_default()));
        }
        Message::Set(set) => {
            lines.push(format!("{indent}SET {} {}", set.address, text(set.value)));
        }
        Message::Publish(publish) => {
            let signal = publish.signal.unwrap_or_default().name();
            let value = text(publish.value.unwrap_or(Value::NULL));
            lines.push(format!("{indent}PUBLISH {signal} {} {value}", publish.address));
        }
        Message::Bundle(bundle) => {
            let time = bundle.timestamp_us.map_or("now".to_string(), |us| us.to_string());
            lines.push(format!("{indent}BUNDLE {time}"));
            for message in bundle.messages {
                describe(message, "  ", lines);
            }
        }
        other => lines.push(format!("{indent}{other:?}")),
    }
}

fn text(value: Value<'_>) -> String {
    if let Some(items) = value.array() {
        return format!("[{}]", items.map(text).collect::<Vec<_>>().join(", "));
    }
    if let Some(entries) = value.map() {
        let entries = entries.map(|(key, value)| format!("{key}: {}", text(value)));
        return format!("{{{}}}", entries.collect::<Vec<_>>().join(", "));
    }
    if let Some(bytes) = value.as_bytes() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return format!("0x{hex}");
    }
    match Datum::new(value) {
        Datum::Text(text) => format!("{text:?}"),
        Datum::Float(number) => format!("{number:?}"),
        other => other.text().expect("a scalar").into_owned(),
    }
}

/// One frame of the router.
pub(crate) fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, Qos::Confirm, &mut frame).expect("fits a frame");
    frame
}

/// The SET of an address to a number, as the router sends it.
pub(crate) fn set_frame(address: &str, push: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes);
    let value = Value::from_encoded(&bytes).expect("a value");
    frame(&message(address, None, value, None))
}

/// The PUBLISH of a value, as the router sends it.
pub(crate) fn publish_frame(
    address: &str,
    signal: Signal,
    push: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes);
    let value = Value::from_encoded(&bytes).expect("a value");
    frame(&message(address, Some(signal), value, None))
}

/// What the router answers who asks what it arbitrates: patterns with their rules, names with their
/// priorities.
pub(crate) fn arbitration_frame(rules: &[(&str, &str)], sources: &[(&str, i64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut map = MapWriter::start(&mut bytes);
    let mut list = ArrayWriter::start(map.entry("arbitration").expect("short"));
    for (pattern, rule) in rules {
        let mut table = MapWriter::start(list.item().expect("few"));
        push_str(table.entry("pattern").expect("short"), pattern).expect("short");
        push_str(table.entry("rule").expect("short"), rule).expect("short");
    }
    let mut list = ArrayWriter::start(map.entry("source").expect("short"));
    for (name, priority) in sources {
        let mut table = MapWriter::start(list.item().expect("few"));
        push_str(table.entry("name").expect("short"), name).expect("short");
        push_i64(table.entry("priority").expect("short"), *priority);
    }
    let mut frame = Vec::new();
    let mut snapshot = SnapshotBuilder::start(&mut frame);
    let value = Value::from_encoded(&bytes).expect("a map");
    let (revision, writer, timestamp_us) = (1, None, None);
    snapshot.push(
        &mut frame,
        &ParamValue { address: "/clasp/arbitration", value, revision, writer, timestamp_us },
    );
    snapshot.finish(&mut frame);
    frame
}

/// A BUNDLE of the messages of these frames.
pub(crate) fn bundle_frame(frames: &[&[u8]]) -> Vec<u8> {
    let mut payloads = Vec::new();
    for frame in frames {
        let payload = header::parse(frame).expect("a frame").payload;
        let message = binary::decode(payload).expect("a message");
        Messages::append(&mut payloads, &message).expect("short");
    }
    let messages = Messages::from_payloads(&payloads, frames.len()).expect("a list");
    frame(&Message::Bundle(Bundle { timestamp_us: None, messages }))
}

fn joined() -> (Uplink, Counters, Said) {
    let (mut uplink, mut counters, mut said) =
        (Uplink::new("test", None), Counters::default(), Said::default());
    uplink.join(["/a/**", "/b"].into_iter(), &mut counters, &mut said);
    (uplink, counters, said)
}

#[test]
fn joining_says_hello_without_echo_and_subscribes() {
    let (_, counters, mut said) = joined();
    assert_eq!(said.take_lines(), ["HELLO test 0xf1", "SUBSCRIBE 1 /a/**", "SUBSCRIBE 2 /b"]);
    assert_eq!(counters.frames_out, 3);
}

#[test]
fn one_value_leaves_as_a_set_and_several_as_one_bundle() {
    let (mut uplink, mut counters, mut said) = joined();
    said.frames.clear();
    let mut set = |uplink: &mut Uplink, said: &mut Said, address, number| {
        let push = |out: &mut Vec<u8>| {
            push_i64(out, number);
            Ok(())
        };
        uplink.set(address, push, &mut counters, said);
    };
    set(&mut uplink, &mut said, "/a/x", 1);
    uplink.send(None, &mut Counters::default(), &mut said);
    set(&mut uplink, &mut said, "/a/x", 2);
    set(&mut uplink, &mut said, "/a/y", 3);
    uplink.send(None, &mut Counters::default(), &mut said);
    set(&mut uplink, &mut said, "/a/z", 4);
    uplink.send(Some(77), &mut Counters::default(), &mut said);
    uplink.send(None, &mut Counters::default(), &mut said);
    let lines = said.take_lines();
    let first = ["SET /a/x 1", "BUNDLE now", "  SET /a/x 2", "  SET /a/y 3"];
    assert_eq!(lines[..4], first);
    assert_eq!(lines[4..], ["BUNDLE 77", "  SET /a/z 4"]);
}

#[test]
fn more_than_a_frame_holds_is_split() {
    let (mut uplink, mut counters, mut said) = joined();
    said.frames.clear();
    for number in 0..5_000 {
        let push = |out: &mut Vec<u8>| {
            push_f64(out, f64::from(number));
            Ok(())
        };
        uplink.set(&format!("/a/{number:020}"), push, &mut counters, &mut said);
    }
    uplink.send(None, &mut counters, &mut said);
    let lines = said.take_lines();
    let sets = lines.iter().filter(|line| line.starts_with("  SET"));
    assert_eq!(sets.count(), 5_000);
    assert_eq!(lines.iter().filter(|line| *line == "BUNDLE now").count(), 3);
    assert_eq!(counters.refused, 0);
}

#[test]
fn what_is_said_while_the_router_is_gone_is_counted() {
    let (mut uplink, mut counters, mut said) = joined();
    said.frames.clear();
    uplink.lose();
    let push = |out: &mut Vec<u8>| {
        push_i64(out, 1);
        Ok(())
    };
    uplink.set("/a/x", push, &mut counters, &mut said);
    uplink.send(None, &mut counters, &mut said);
    assert_eq!((said.frames.len(), counters.dropped), (0, 1));
}

#[test]
fn whose_params_are_is_said_once_before_them_and_not_where_there_are_none() {
    let (mut uplink, mut counters, mut said) = joined();
    said.frames.clear();
    let set = |uplink: &mut Uplink, address: &str, said: &mut Said| {
        let push = |out: &mut Vec<u8>| {
            push_i64(out, 1);
            Ok(())
        };
        uplink.set(address, push, &mut Counters::default(), said);
    };
    let source = |id| Source { id, priority: None, by: None };
    uplink.mark(&source("a"));
    uplink.send(None, &mut counters, &mut said);
    assert_eq!(said.frames.len(), 0);
    for (id, address) in [("a", "/a/x"), ("a", "/a/y"), ("b", "/a/x"), ("a", "/a/z")] {
        uplink.mark(&source(id));
        set(&mut uplink, address, &mut said);
    }
    uplink.send(None, &mut counters, &mut said);
    set(&mut uplink, "/a/own", &mut said);
    uplink.send(None, &mut counters, &mut said);
    let marker = |id| format!("  PUBLISH event /clasp/source {{id: \"{id}\"}}");
    let expected = [
        "BUNDLE now".to_owned(),
        marker("a"),
        "  SET /a/x 1".to_owned(),
        "  SET /a/y 1".to_owned(),
        marker("b"),
        "  SET /a/x 1".to_owned(),
        marker("a"),
        "  SET /a/z 1".to_owned(),
        "SET /a/own 1".to_owned(),
    ];
    assert_eq!(said.take_lines(), expected);
}

#[test]
fn a_bundle_that_is_split_says_again_whose_its_params_are() {
    let (mut uplink, mut counters, mut said) = joined();
    said.frames.clear();
    uplink.mark(&Source { id: "desk", priority: Some(150), by: None });
    for number in 0..5_000 {
        let push = |out: &mut Vec<u8>| {
            push_f64(out, f64::from(number));
            Ok(())
        };
        uplink.set(&format!("/a/{number:020}"), push, &mut counters, &mut said);
    }
    uplink.send(None, &mut counters, &mut said);
    let count = said.frames.len();
    for frame in &said.frames {
        let marker = "  PUBLISH event /clasp/source {id: \"desk\", priority: 150}";
        assert_eq!(lines(frame)[1], marker);
    }
    let lines = said.take_lines();
    let sets = lines.iter().filter(|line| line.starts_with("  SET"));
    assert_eq!((sets.count(), count), (5_000, 3));
    // What fills a frame by itself leaves as it is: beside it a marker finds no room.
    uplink.mark(&Source { id: "desk", priority: None, by: None });
    let fill = |out: &mut Vec<u8>| push_bytes(out, &vec![7; PAYLOAD_BYTES_MAX - 40]);
    uplink.set("/a/x", fill, &mut counters, &mut said);
    uplink.send(None, &mut counters, &mut said);
    let filled = said.take_lines();
    assert!(filled.len() == 1 && filled[0].starts_with("SET /a/x 0x07"), "{}", filled.len());
    assert_eq!(counters.refused, 0);
}

#[test]
fn a_bid_is_a_claim_where_the_router_arbitrates_and_else_an_event() {
    let mut uplink = Uplink::new("test", None).arbitrated(Some(&["/rig/**".to_owned()]));
    let (mut counters, mut said) = (Counters::default(), Said::default());
    uplink.join([].into_iter(), &mut counters, &mut said);
    said.frames.clear();
    let source = Source { id: "desk", priority: Some(90), by: Some("me") };
    for address in ["/rig/1", "/in/1"] {
        let push = |out: &mut Vec<u8>| {
            push_i64(out, 7);
            Ok(())
        };
        uplink.bid(address, &source, push, &mut counters, &mut said);
        uplink.send(None, &mut counters, &mut said);
    }
    let told = "{id: \"desk\", priority: 90, by: \"me\"";
    let marker = format!("  PUBLISH event /clasp/source {told}}}");
    let event = format!("PUBLISH event /clasp/source/bids/in/1 {told}, value: 7}}");
    let frame = said.frames.last().expect("the event").clone();
    assert_eq!(said.take_lines(), ["BUNDLE now", marker.as_str(), "  SET /rig/1 7", &event]);
    let mut found = 0;
    uplink.hear(&frame, &mut counters, &mut said, &mut |_, update, _, _| {
        found += 1;
        let bid = Bid { address: "/in/1", source, value: Datum::Int(7) };
        assert_eq!(Bid::of(&update), Some(bid));
    });
    assert_eq!(found, 1);
}

#[test]
fn what_the_router_arbitrates_is_asked_for_and_a_bid_has_the_priority_of_its_session() {
    let mut uplink = Uplink::new("artnet-left", None).arbitrated(None);
    let (mut counters, mut said) = (Counters::default(), Said::default());
    uplink.join([].into_iter(), &mut counters, &mut said);
    assert_eq!(said.take_lines()[1..], ["Get { address: \"/clasp/arbitration\" }"]);
    assert!(!uplink.is_declared() && !uplink.levels_decide("/rig/1"));
    let rules = [("/rig/spot/**", "ltp"), ("/rig/**", "htp")];
    let sources = [("osc", 110), ("artnet*", 120), ("*", 7)];
    let answer = arbitration_frame(&rules, &sources);
    for is_new in [true, false] {
        uplink.hear(&answer, &mut counters, &mut said, &mut |_, update, _, _| {
            panic!("{update:?} is for the uplink itself");
        });
        assert_eq!((uplink.take_declared(), uplink.is_declared()), (is_new, true));
    }
    let decided = ["/rig/1", "/rig/spot/1", "/other"].map(|it| uplink.levels_decide(it));
    assert_eq!(decided, [true, false, false]);
    let cases = [
        ((None, None), "priority: 120"),
        ((Some(90), None), "priority: 90"),
        ((None, Some("another")), "by: \"another\""),
    ];
    for ((priority, by), told) in cases {
        let push = |out: &mut Vec<u8>| {
            push_i64(out, 7);
            Ok(())
        };
        uplink.bid("/in/1", &Source { id: "desk", priority, by }, push, &mut counters, &mut said);
        uplink.send(None, &mut counters, &mut said);
        let bid =
            format!("PUBLISH event /clasp/source/bids/in/1 {{id: \"desk\", {told}, value: 7}}");
        assert_eq!(said.take_lines(), [bid]);
    }
}

#[test]
fn an_answer_that_is_none_is_taken_for_one_of_a_router_that_arbitrates_nothing() {
    let mut uplink = Uplink::new("artnet", None).arbitrated(None);
    let (mut counters, mut said) = (Counters::default(), Said::default());
    let mut frame = Vec::new();
    let mut snapshot = SnapshotBuilder::start(&mut frame);
    let (value, revision, writer, timestamp_us) = (Value::NULL, 1, None, None);
    let address = "/clasp/arbitration";
    snapshot.push(&mut frame, &ParamValue { address, value, revision, writer, timestamp_us });
    snapshot.finish(&mut frame);
    uplink.hear(&frame, &mut counters, &mut said, &mut |_, _, _, _| {});
    assert!(uplink.is_declared() && !uplink.levels_decide("/rig/1"));
}

#[test]
fn an_id_is_one_segment_of_at_most_36_bytes_whatever_the_name() {
    let long = "fe80:1234:5678:9abc:def0:1234:5678:9abc";
    for name in ["10.0.0.1", "fe80::1", long, "a/b", "", "stage*left", "B\u{fc}hne"] {
        let id = source_id("osc", name);
        assert!(id.len() <= 36 && !id.contains(['/', '*', ':', ' ']), "{id}");
        assert_eq!(id, source_id("osc", name));
    }
    assert_eq!(source_id("osc", "10.0.0.1"), "osc.10.0.0.1");
    assert_ne!(source_id("osc", "fe80::1"), source_id("osc", "fe80::2"));
}

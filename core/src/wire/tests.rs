//! Properties that no list of examples can show: no panic on any bytes, nothing lost between the
//! encoder and the decoder, bounds that hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::list::{Announced, Features, Messages, Params, Patterns, Revisions, Samples, Signals};
use super::*;
use crate::limits::{BUNDLE_MESSAGES_MAX, NESTING_MAX, SNAPSHOT_BYTES_MAX};
use crate::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, ParamValue, Publish, Replay, Set,
    SignalInfo, SignalMeta, Subscribe, SubscribeOptions, Sync, Ttl, Welcome,
};
use crate::signal::{Phase, Qos, Signal, SignalMask};
use crate::value::{self, ArrayWriter, MapWriter, Value};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn no_bytes_make_the_decoder_panic(payload in vec(any::<u8>(), 0..200)) {
        walk(&payload);
        if let Ok(frame) = header::parse(&payload) {
            walk(frame.payload);
        }
    }

    /// Random bytes seldom begin a message; these always do.
    #[test]
    fn no_body_of_any_message_makes_the_decoder_panic(
        code in prop::sample::select(vec![
            0x01, 0x02, 0x03, 0x04, 0x10, 0x11, 0x20, 0x21, 0x22, 0x23, 0x24, 0x30, 0x40, 0x50,
            0x51, 0x60, 0x61, 0x81, 0x82, 0xDE, 0xDF,
        ]),
        body in vec(prop_oneof![Just(0u8), 0..16u8, any::<u8>()], 0..100),
    ) {
        let mut payload = vec![code];
        payload.extend(body);
        walk(&payload);
    }

    #[test]
    fn a_message_is_the_same_after_the_encoder_and_the_decoder(owned in message()) {
        let message = owned.message();
        let mut frame = Vec::new();
        binary::encode(&message, binary::default_qos(&message), &mut frame)
            .expect("generated messages are short");
        let parsed = header::parse(&frame).expect("a frame of ours");
        let decoded = binary::decode(parsed.payload).expect("a message of ours");
        prop_assert_eq!(format!("{decoded:?}"), format!("{message:?}"));

        let mut again = Vec::new();
        binary::encode(&decoded, parsed.header.qos, &mut again).expect("it fitted before");
        compare_sets(parsed.payload);
        prop_assert_eq!(again, frame);
    }

    /// What a link forwards as it came must be what it would have written.
    #[test]
    fn a_publish_that_may_go_on_as_it_came_is_what_the_encoder_writes(
        owned in message(),
        changes in vec((0..40_usize, any::<u8>()), 0..3),
        extra in vec(any::<u8>(), 0..3),
    ) {
        let message = owned.message();
        let mut frame = Vec::new();
        binary::encode(&message, binary::default_qos(&message), &mut frame)
            .expect("generated messages are short");
        let untouched = changes.is_empty() && extra.is_empty();
        for (at, byte) in changes {
            let at = at % frame.len();
            frame[at] = byte;
        }
        frame.extend(extra);
        if let Ok(parsed) = header::parse(&frame)
            && let Ok(Message::Publish(publish)) = binary::decode(parsed.payload)
        {
            let qos = binary::qos_of_publish(publish.signal);
            let mut written = Vec::new();
            binary::encode_publish(&publish, qos, &mut written).expect("it was one frame before");
            let exact = binary::is_frame_of(&frame, &publish.raw(), qos);
            prop_assert_eq!(exact, written == frame);
            prop_assert!(exact || !untouched);
        }
    }

    #[test]
    fn a_message_without_its_last_byte_is_refused(owned in message()) {
        let message = owned.message();
        let has_rate = matches!(message, Message::Publish(Publish { rate: Some(_), .. }));
        let mut payload = Vec::new();
        binary::append_payload(&message, &mut payload).expect("generated messages are short");
        prop_assert!(has_rate || binary::decode(&payload[..payload.len() - 1]).is_err());
    }
}

/// Where there is nothing but SETs, the way that looks for them alone finds what the decoder finds.
fn compare_sets(payload: &[u8]) {
    let mut given = Vec::new();
    let is_all = binary::each_set(payload, |address, value| {
        given.push(format!("{address:?} {value:?}"));
        true
    });
    let told = |set: &Set<'_>| format!("{:?} {:?}", set.address.as_bytes(), set.value);
    let sets: Option<Vec<_>> = match binary::decode(payload) {
        Ok(Message::Set(set)) => Some(vec![told(&set)]),
        Ok(Message::Bundle(bundle)) => bundle
            .messages
            .iter()
            .map(|message| if let Message::Set(set) = message { Some(told(&set)) } else { None })
            .collect(),
        // That is the one thing that is not looked at.
        Err(Malformed::BadUtf8) => return,
        _ => None,
    };
    assert_eq!(is_all.then_some(given), sets);
}

/// Decodes and looks at everything that was found, lists within lists.
fn walk(payload: &[u8]) {
    compare_sets(payload);
    let mut scratch = Scratch::default();
    if let Ok(message) = decode(payload, &mut scratch) {
        visit(&message);
        let mut out = Vec::new();
        // A list of `n` items says so and gives them all, whoever wrote it.
        binary::append_payload(&message, &mut out).expect("no canonical form is longer");
        binary::decode(&out).expect("what was decoded once is well-formed");
    }
}

fn visit(message: &Message<'_>) {
    match message {
        Message::Announce(announce) => {
            assert_eq!(announce.signals.iter().count(), announce.signals.len());
        }
        Message::FederationSync(sync) => {
            assert_eq!(sync.patterns.iter().count(), sync.patterns.len());
            assert_eq!(sync.revisions.iter().count(), sync.revisions.len());
        }
        Message::Publish(publish) => {
            publish.samples.inspect(|samples| assert_eq!(samples.iter().count(), samples.len()));
            publish.value.map(visit_value);
            publish.payload.map(visit_value);
            publish.timeline.map(visit_value);
        }
        Message::Set(set) => visit_value(set.value),
        Message::Snapshot { params } => {
            assert_eq!(params.iter().count(), params.len());
            params.iter().for_each(|param| visit_value(param.value));
        }
        Message::Bundle(bundle) => {
            assert_eq!(bundle.messages.iter().count(), bundle.messages.len());
            bundle.messages.iter().for_each(|message| visit(&message));
        }
        Message::Result { signals } => assert_eq!(signals.iter().count(), signals.len()),
        _ => {}
    }
}

fn visit_value(value: Value<'_>) {
    if let Some(items) = value.array() {
        let count = items.len();
        assert_eq!(items.map(visit_value).count(), count);
    } else if let Some(entries) = value.map() {
        let count = entries.len();
        assert_eq!(entries.map(|(_, value)| visit_value(value)).count(), count);
    } else {
        let readable = [
            value.is_null(),
            value.as_bool().is_some(),
            value.as_f64().is_some(),
            value.as_str().is_some(),
            value.as_bytes().is_some(),
        ];
        assert_eq!(readable.iter().filter(|is| **is).count(), 1, "{value:?}");
    }
}

/// A value that proptest can make and shrink.
#[derive(Clone, Debug)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => value::push_null(out),
            Self::Bool(flag) => value::push_bool(out, *flag),
            Self::Int(number) => value::push_i64(out, *number),
            Self::Float(number) => value::push_f64(out, *number),
            Self::Text(text) => value::push_str(out, text).expect("short"),
            Self::Bytes(bytes) => value::push_bytes(out, bytes).expect("short"),
            Self::Array(items) => {
                let mut array = ArrayWriter::start(out);
                items.iter().for_each(|item| item.push(array.item().expect("few")));
            }
            Self::Map(entries) => {
                let mut map = MapWriter::start(out);
                entries.iter().for_each(|(key, item)| item.push(map.entry(key).expect("few")));
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        any::<u64>().prop_map(|bits| Tree::Float(f64::from_bits(bits))),
        ".{0,8}".prop_map(Tree::Text),
        vec(any::<u8>(), 0..8).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Tree::Array),
            vec((".{0,4}", inner), 0..5).prop_map(Tree::Map),
        ]
    })
}

/// What a generated message of any kind may hold; each kind takes what it has room for.
#[derive(Clone, Debug)]
struct Owned {
    kind: u8,
    text: String,
    other: String,
    some: [bool; 4],
    id: u32,
    time: u64,
    number: f64,
    value: Vec<u8>,
    list: Vec<u8>,
    count: usize,
}

fn message() -> impl Strategy<Value = Owned> {
    let parts = (0..20u8, "[a-z/é]{0,12}", ".{1,8}", any::<[bool; 4]>(), tree(), vec(tree(), 0..4));
    let numbers = (any::<u32>(), any::<u64>(), any::<f64>());
    (parts, numbers).prop_map(|((kind, text, other, some, tree, trees), (id, time, number))| {
        let mut owned = Owned {
            kind,
            text,
            other,
            some,
            id,
            time,
            number,
            value: vec![],
            list: vec![],
            count: 0,
        };
        tree.push(&mut owned.value);
        owned.count = trees.len();
        for tree in &trees {
            owned.append_item(tree);
        }
        owned
    })
}

impl Owned {
    fn value(&self) -> Value<'_> {
        Value::from_encoded(&self.value).expect("a value of ours")
    }

    /// Adds to the list that this kind of message has.
    fn append_item(&mut self, tree: &Tree) {
        let mut bytes = Vec::new();
        tree.push(&mut bytes);
        let value = Value::from_encoded(&bytes).expect("a value of ours");
        let out = &mut self.list;
        match self.kind {
            2 | 18 => {
                let meta = SignalMeta {
                    unit: self.some[0].then_some(&self.text),
                    range: self.some[1].then_some((self.number, 1.0)),
                    default: self.some[2].then_some(value),
                    description: self.some[3].then_some(&self.other),
                };
                let signal = SignalInfo {
                    address: &self.text,
                    signal: Signal::from_code(self.id as u8),
                    datatype: self.some[0].then_some(&self.other),
                    access: self.some[1].then_some("rw"),
                    meta: self.some[2].then_some(meta),
                };
                match self.kind {
                    2 => Announced::append(out, signal),
                    _ => Signals::append(out, signal),
                }
            }
            3 => Patterns::append(out, &self.text),
            6 => Samples::append(out, self.number),
            9 => Params::append(
                out,
                ParamValue {
                    address: &self.text,
                    value,
                    revision: self.time,
                    writer: self.some[0].then_some(&self.other),
                    timestamp_us: self.some[1].then_some(self.time),
                },
            ),
            11 => Messages::append(
                out,
                &Message::Set(Set {
                    address: &self.text,
                    value,
                    revision: None,
                    lock: self.some[0],
                    unlock: self.some[1],
                    ttl: None,
                }),
            ),
            19 => Revisions::append(out, (&self.text, self.time)),
            _ => Ok(()),
        }
        .expect("short strings");
    }

    fn message(&self) -> Message<'_> {
        let [first, second, third, fourth] = self.some;
        let (text, other, id, time) = (self.text.as_str(), self.other.as_str(), self.id, self.time);
        let list = self.list.as_slice();
        let from_bytes = "items that were appended";
        match self.kind {
            0 => Message::Hello(Hello {
                version: id as u8,
                features: Features::from_bits(time as u8),
                name: text,
                token: first.then_some(other),
            }),
            1 => Message::Welcome(Welcome {
                version: id as u8,
                features: Features::from_bits(time as u8 & !Features::FEDERATION),
                time_us: time,
                session: text,
                name: other,
                token: first.then_some(other),
            }),
            2 => Message::Announce(Announce {
                namespace: text,
                signals: Announced::from_bytes(list).expect(from_bytes),
            }),
            3 | 19 => {
                let (patterns, revisions) =
                    if self.kind == 3 { (list, &[][..]) } else { (&[][..], list) };
                Message::FederationSync(FederationSync {
                    op: 1 + (id % 4) as u8,
                    patterns: Patterns::from_bytes(patterns).expect(from_bytes),
                    revisions: Revisions::from_bytes(revisions).expect(from_bytes),
                    since_revision: first.then_some(time),
                    origin: second.then_some(text),
                })
            }
            4 => Message::Subscribe(Subscribe {
                id,
                pattern: text,
                types: SignalMask(time as u8),
                options: SubscribeOptions {
                    max_rate: first.then_some(id),
                    epsilon: second.then_some(self.number),
                    history: third.then_some(id),
                    window: fourth.then_some(id),
                },
            }),
            5 => Message::Unsubscribe { id },
            6 => {
                let samples = Samples::from_bytes(list).expect(from_bytes);
                Message::Publish(Publish {
                    address: text,
                    signal: Some(Signal::from_code((id % 5) as u8)),
                    value: first.then(|| self.value()),
                    payload: None,
                    samples: (!first && second).then_some(samples),
                    rate: third.then_some(id),
                    id: fourth.then_some(id),
                    phase: Some(Phase::from_code((id % 4) as u8)),
                    timestamp_us: (third != fourth).then_some(time),
                    timeline: None,
                })
            }
            7 => Message::Set(Set {
                address: text,
                value: self.value(),
                revision: first.then_some(time),
                lock: second,
                unlock: third,
                ttl: fourth.then_some(match id {
                    0..100 => Ttl::Never,
                    _ if id >> 31 == 0 => Ttl::Sliding(id),
                    _ => Ttl::Absolute(id & 0x7FFF_FFFF),
                }),
            }),
            8 => Message::Get { address: text },
            9 => Message::Snapshot { params: Params::from_bytes(list).expect(from_bytes) },
            10 => Message::Replay(Replay {
                pattern: text,
                from_us: first.then_some(time),
                to_us: second.then_some(time),
                limit: third.then_some(id),
                types: SignalMask(id as u8),
            }),
            11 => Message::Bundle(Bundle {
                timestamp_us: first.then_some(time),
                messages: Messages::from_payloads(list, self.count).expect(from_bytes),
            }),
            12 => Message::Sync(Sync {
                t1: time,
                t2: first.then_some(time),
                t3: second.then_some(time),
            }),
            13 => Message::Ping,
            14 => Message::Pong,
            15 => Message::Ack(Ack {
                address: first.then_some(text),
                revision: second.then_some(time),
                locked: third.then_some(fourth),
                holder: fourth.then_some(other),
                correlation_id: third.then_some(id),
            }),
            16 => Message::Error(ErrorReply {
                code: id as u16,
                message: text,
                address: first.then_some(other),
                correlation_id: second.then_some(id),
            }),
            17 => Message::Query { pattern: text },
            _ => Message::Result { signals: Signals::from_bytes(list).expect(from_bytes) },
        }
    }
}

/// A SET of `depth` arrays inside each other around a null.
fn nested_set(depth: usize) -> Vec<u8> {
    let mut payload = vec![0x21, value::code::ARRAY, 0, 1, b'/'];
    for _ in 1..depth {
        payload.extend([0, 1, value::code::ARRAY]);
    }
    payload.extend([0, 1, value::code::NULL]);
    payload
}

/// `depth` bundles inside each other around a PING.
fn nested_bundle(depth: usize) -> Vec<u8> {
    let mut payload = vec![binary::code::PING];
    for _ in 0..depth {
        let mut outer = vec![binary::code::BUNDLE, 0, 0, 1];
        outer.extend((payload.len() as u16).to_be_bytes());
        outer.append(&mut payload);
        payload = outer;
    }
    payload
}

/// The same in MessagePack.
fn nested_legacy_bundle(depth: usize) -> Vec<u8> {
    let mut payload = b"\x81\xA4type\xA4PING".to_vec();
    for _ in 0..depth {
        let mut outer = b"\x82\xA4type\xA6BUNDLE\xA8messages\x91".to_vec();
        outer.append(&mut payload);
        payload = outer;
    }
    payload
}

/// A SET of `depth` MessagePack arrays inside each other around a nil.
fn nested_legacy_set(depth: usize) -> Vec<u8> {
    let mut payload = b"\x83\xA4type\xA3SET\xA7address\xA1/\xA5value".to_vec();
    payload.resize(payload.len() + depth, 0x91);
    payload.push(0xC0);
    payload
}

#[test]
fn nesting_is_read_to_its_limit_and_refused_beyond() {
    type Form = fn(usize) -> Vec<u8>;
    let forms: [(Form, usize); 4] = [
        (nested_set, NESTING_MAX),
        (nested_bundle, NESTING_MAX),
        (nested_legacy_set, NESTING_MAX),
        (nested_legacy_bundle, 4),
    ];
    let refused = |payload: &[u8]| decode(payload, &mut Scratch::default()).err();
    for (form, depth_max) in forms {
        assert_eq!(refused(&form(depth_max)), None);
        assert_eq!(refused(&form(depth_max + 1)), Some(Malformed::TooDeep));
        walk(&form(depth_max));
    }
    // What overflowed the stack of the published router.
    assert_eq!(refused(&nested_set(20_000)), Some(Malformed::TooDeep));
}

#[test]
fn a_bundle_holds_so_many_messages_and_none_more_even_inside_others() {
    let pings = |count: usize| {
        let mut bundle = vec![binary::code::BUNDLE, 0];
        bundle.extend((count as u16).to_be_bytes());
        (0..count).for_each(|_| bundle.extend([0, 1, binary::code::PING]));
        bundle
    };
    let full = pings(BUNDLE_MESSAGES_MAX);
    assert!(binary::decode(&full).is_ok());
    let over = pings(BUNDLE_MESSAGES_MAX + 1);
    assert_eq!(binary::decode(&over).err(), Some(Malformed::TooLong));

    let mut inside = vec![binary::code::BUNDLE, 0, 0, 1];
    inside.extend((full.len() as u16).to_be_bytes());
    inside.extend(full);
    assert_eq!(binary::decode(&inside).err(), Some(Malformed::TooLong));
}

#[test]
fn a_legacy_message_that_outgrows_a_frame_is_refused() {
    // 8000 small integers: one byte each in MessagePack, nine here.
    let mut payload = b"\x83\xA4type\xA3SET\xA7address\xA1/\xA5value\xDC\x1F\x40".to_vec();
    payload.resize(payload.len() + 8_000, 0x07);
    assert_eq!(decode(&payload, &mut Scratch::default()).err(), Some(Malformed::TooLong));
}

#[test]
fn room_that_was_taken_once_is_enough_for_every_legacy_message() {
    // With code, flags, address and the string's length: 65531 of 65535 bytes.
    let mut payload = b"\x83\xA4type\xA3SET\xA7address\xA1/\xA5value\xDA\xFF\xF4".to_vec();
    payload.resize(payload.len() + 0xFFF4, b'x');
    let mut scratch = Scratch::with_capacity();
    let room = scratch.canonical.capacity();
    assert!(decode(&payload, &mut scratch).is_ok());
    assert!(decode(&nested_legacy_set(NESTING_MAX), &mut scratch).is_ok());
    assert_eq!(scratch.canonical.capacity(), room);
}

#[test]
fn a_timeline_of_keyframes_survives_the_legacy_encoding() {
    let payload = b"\x84\xA4type\xA7PUBLISH\xA7address\xA3/tl\xA6signal\xA8timeline\xA8timeline\
        \x82\xA9keyframes\x91\x84\xA4time\x05\xA5value\xC3\xA6easing\xA4step\
        \xA6bezier\x94\x00\x00\x01\x01\xA5loop_\xC3";
    let mut scratch = Scratch::default();
    let Ok(Message::Publish(publish)) = decode(payload, &mut scratch) else {
        panic!("a PUBLISH");
    };
    let timeline = publish.timeline.expect("a timeline");
    assert_eq!(timeline.get("loop").and_then(Value::as_bool), Some(true));
    let keyframes = timeline.get("keyframes").and_then(Value::array).expect("keyframes");
    let keyframe = keyframes.last().expect("one keyframe");
    assert_eq!(keyframe.get("time").and_then(Value::as_i64), Some(5));
    assert_eq!(keyframe.get("value").and_then(Value::as_bool), Some(true));
    assert_eq!(keyframe.get("easing").and_then(Value::as_str), Some("step"));
    assert_eq!(keyframe.get("bezier").and_then(Value::array).map(Iterator::count), Some(4));
}

#[test]
fn an_encoder_refuses_what_a_length_cannot_say_and_leaves_nothing_behind() {
    let long = "x".repeat(65_536);
    let most = "x".repeat(65_535 - 3);
    let mut frame = vec![1, 2, 3];
    let get = |address| Message::Get { address };
    assert_eq!(binary::encode(&get(&long), Qos::Fire, &mut frame), Err(TooLong));
    assert!(frame.is_empty());
    assert_eq!(binary::encode(&get(&most), Qos::Fire, &mut frame), Ok(()));
    assert_eq!(frame.len(), 65_539);
    let one_more = "x".repeat(65_535 - 2);
    assert_eq!(binary::encode(&get(&one_more), Qos::Fire, &mut frame), Err(TooLong));

    let mut out = vec![7];
    assert_eq!(binary::append_payload(&get(&long), &mut out), Err(TooLong));
    assert_eq!(Messages::append(&mut out, &get(&most)), Ok(()));
    out.truncate(1);
    assert_eq!(Messages::append(&mut out, &get(&long)), Err(TooLong));
    assert_eq!(value::push_str(&mut out, &long), Err(TooLong));
    assert_eq!(MapWriter::start(&mut Vec::new()).entry(&long).err(), Some(TooLong));
    assert_eq!(out, [7]);
}

#[test]
fn a_snapshot_builder_fills_frames_and_never_loses_an_entry() {
    let text = "t".repeat(700);
    let mut bytes = Vec::new();
    value::push_str(&mut bytes, &text).expect("short");
    let value = Value::from_encoded(&bytes).expect("just written");
    let addresses: Vec<_> = (0..1_000).map(|index| format!("/a/{index}")).collect();
    let param = |address| ParamValue {
        address,
        value,
        revision: 1,
        writer: Some("w"),
        timestamp_us: Some(2),
    };

    let mut found = Vec::new();
    let mut left = addresses.iter().peekable();
    while left.peek().is_some() {
        let mut frame = Vec::new();
        let mut snapshot = binary::SnapshotBuilder::start(&mut frame);
        while left.next_if(|address| snapshot.push(&mut frame, &param(address))).is_some() {}
        let count = snapshot.count();
        snapshot.finish(&mut frame);
        assert!(frame.len() - header::FRAME_HEADER_LEN <= SNAPSHOT_BYTES_MAX);
        let payload = header::parse(&frame).expect("a frame").payload;
        let Ok(Message::Snapshot { params }) = binary::decode(payload) else {
            panic!("a SNAPSHOT");
        };
        assert_eq!(params.len(), count);
        found.extend(params.iter().map(|param| param.address.to_owned()));
    }
    assert_eq!(found, addresses);
}

#[test]
fn a_first_entry_may_fill_the_frame_and_a_second_may_not() {
    let mut bytes = Vec::new();
    value::push_str(&mut bytes, &"x".repeat(65_000)).expect("fits a string");
    let value = Value::from_encoded(&bytes).expect("just written");
    let param = ParamValue { address: "/a", value, revision: 1, writer: None, timestamp_us: None };
    let mut frame = Vec::new();
    let mut snapshot = binary::SnapshotBuilder::start(&mut frame);
    assert!(snapshot.push(&mut frame, &param));
    assert!(!snapshot.push(&mut frame, &ParamValue { value: Value::NULL, ..param }));
    snapshot.finish(&mut frame);
    assert!(binary::decode(&frame[header::FRAME_HEADER_LEN..]).is_ok());

    let long = "a".repeat(600);
    let mut snapshot = binary::SnapshotBuilder::start(&mut frame);
    assert!(!snapshot.push(&mut frame, &ParamValue { address: &long, ..param }));
    assert_eq!(snapshot.count(), 0);
}

#[test]
fn a_result_has_no_metadata_even_where_it_came_with_the_bit() {
    // One signal `/a`, a param, whose options claim metadata that does not follow.
    let payload = [binary::code::RESULT, 0, 1, 0, 2, b'/', b'a', 0, 0x04];
    let message = binary::decode(&payload).expect("the bit is ignored");
    let mut out = Vec::new();
    binary::append_payload(&message, &mut out).expect("short");
    assert_eq!(out, [binary::code::RESULT, 0, 1, 0, 2, b'/', b'a', 0, 0x00]);
}

#[test]
fn features_keep_every_bit_and_name_the_known_ones() {
    let features = Features::from_bits(0xC5);
    assert_eq!(features.bits(), 0xC5);
    assert!(features.contains(Features::NO_ECHO) && features.contains(Features::FEDERATION));
    assert!(features.iter().eq(["param", "event", "federation"]));
    assert_eq!(features.len(), 3);
    assert!(Features::from_bits(Features::NO_ECHO | Features::ASKED_ONLY).is_empty());
}

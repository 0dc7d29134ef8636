//! A bridge's side of its connection to the router: joins it, tells it values, hears its updates.

use std::ops::Range;

use clasp_rt_core::limits::{BUNDLE_MESSAGES_MAX, PAYLOAD_BYTES_MAX};
use clasp_rt_core::message::SubscribeOptions;
use clasp_rt_core::message::{Bundle, Hello, Message, ParamValue, Publish, Set, Subscribe};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_i64, push_str};
use clasp_rt_core::wire::header::FRAME_HEADER_LEN;
use clasp_rt_core::wire::list::{Features, Messages};
use clasp_rt_core::wire::{TooLong, binary, header};

use crate::datum::Datum;
use crate::{Counters, Out};

/// Sessions of earlier connections that are still known as our own writing.
const SESSIONS_MAX: usize = 8;

/// Bytes of a BUNDLE before its messages: code, flags, count and time.
const BUNDLE_HEAD_LEN: usize = 12;

/// Bytes of a frame before the messages of its BUNDLE.
const HEAD_LEN: usize = FRAME_HEADER_LEN + BUNDLE_HEAD_LEN;

/// Where the count of a BUNDLE lies in its frame: after code and flags.
const COUNT_AT: usize = FRAME_HEADER_LEN + 2;

/// Bytes of the length before each message of a BUNDLE.
const LENGTH_LEN: usize = 2;

pub struct Uplink {
    name: String,
    token: Option<String>,
    joined: bool,
    rate_hz_max: Option<u32>,
    /// It wants to be told whose the SETs are.
    asks_sources: bool,
    /// Newest last: the router names the writer of a param by its session.
    sessions: Vec<String>,
    /// Ids of the subscriptions of this connection, which are consecutive.
    subscribed: Range<u32>,
    /// Room for the [`HEAD_LEN`] bytes before the messages of a BUNDLE, then the messages that wait
    /// for [`Uplink::send`], as a BUNDLE holds them.
    waiting: Vec<u8>,
    waiting_count: usize,
    frame: Vec<u8>,
    value: Vec<u8>,
}

/// Where markers are published that say whose the SETs after them are: the router's
/// `core/src/shard/marker.rs` has their keys.
const SOURCE: &str = "/clasp/source";

/// Whose a SET is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    pub id: &'a str,
    /// 0-200; `None`: as the router's configuration has it.
    pub priority: Option<u8>,
    /// The session on whose behalf it is said.
    pub by: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// What a marker says; `None` if `message` is none.
    fn of(message: &Message<'a>) -> Option<Self> {
        let Message::Publish(publish) = message else { return None };
        let value = publish.value.filter(|_| publish.address == SOURCE)?;
        let priority = value.get("priority").and_then(Value::as_i64);
        Some(Self {
            id: value.get("id")?.as_str()?,
            priority: priority.and_then(|priority| u8::try_from(priority).ok()),
            by: value.get("by").and_then(Value::as_str),
        })
    }

    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut map = MapWriter::start(out);
        push_str(map.entry("id")?, self.id)?;
        if let Some(priority) = self.priority {
            push_i64(map.entry("priority")?, priority.into());
        }
        if let Some(by) = self.by {
            push_str(map.entry("by")?, by)?;
        }
        Ok(())
    }
}

/// What the router says about one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    pub address: &'a str,
    /// Of samples the newest; null where there is nothing.
    pub value: Datum<'a>,
    pub kind: Kind<'a>,
    /// Whose it is, if the router was asked to tell.
    pub source: Option<Source<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A param has just been written.
    Written,
    /// A param held this value when we subscribed; `writer` is the session that wrote it.
    Held { writer: Option<&'a str> },
    /// Something passed that is not kept.
    Passed(Signal),
}

/// Takes each update of a frame.
pub type Each<'e> = dyn FnMut(&mut Uplink, Update<'_>, &mut Counters, &mut dyn Out) + 'e;

impl Uplink {
    pub fn new(name: &str, token: Option<String>) -> Self {
        Self {
            name: name.to_string(),
            token,
            joined: false,
            rate_hz_max: None,
            asks_sources: false,
            sessions: Vec::new(),
            subscribed: 1..1,
            waiting: vec![0; HEAD_LEN],
            waiting_count: 0,
            frame: Vec::new(),
            value: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the router to hold updates of one address to so many a second.
    pub fn rate(mut self, rate_hz_max: Option<u32>) -> Self {
        self.rate_hz_max = rate_hz_max;
        self
    }

    /// Asks the router to tell whose the SETs are.
    pub fn ask_sources(mut self, asks: bool) -> Self {
        self.asks_sources = asks;
        self
    }

    /// Says HELLO without wanting its own SETs back, and subscribes to `patterns`, numbered from 1.
    pub fn join<'p>(
        &mut self,
        patterns: impl Iterator<Item = &'p str>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.joined = true;
        self.clear();
        let features = Features::PARAM
            | Features::EVENT
            | Features::STREAM
            | Features::GESTURE
            | Features::NO_ECHO;
        let hello = Hello {
            version: 1,
            features: Features::from_bits(features),
            name: &self.name,
            token: self.token.as_deref(),
        };
        if binary::encode(&Message::Hello(hello), Qos::Fire, &mut self.frame).is_ok() {
            self.flush(&self.frame, counters, out);
        }
        if self.asks_sources {
            let tell = |bytes: &mut Vec<u8>| {
                push_bool(MapWriter::start(bytes).entry("tell")?, true);
                Ok(())
            };
            self.publish(SOURCE, Signal::Event, tell, counters, out);
            self.send(None, counters, out);
        }
        self.subscribed = 1..1;
        self.subscribe(patterns, counters, out);
    }

    /// Hears `patterns` from now on, and no others. What both the old and the new ones take is
    /// heard all the time, once, and the params that are held are told again.
    pub fn subscribe_instead<'p>(
        &mut self,
        patterns: impl Iterator<Item = &'p str>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if !self.joined {
            return;
        }
        let before = self.subscribed.clone();
        self.subscribed = before.end..before.end;
        self.subscribe(patterns, counters, out);
        for id in before {
            let unsubscribe = Message::Unsubscribe { id };
            if binary::encode(&unsubscribe, Qos::Fire, &mut self.frame).is_ok() {
                self.flush(&self.frame, counters, out);
            }
        }
    }

    fn subscribe<'p>(
        &mut self,
        patterns: impl Iterator<Item = &'p str>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        for pattern in patterns {
            let id = self.subscribed.end;
            let types = SignalMask::ALL;
            let options =
                SubscribeOptions { max_rate: self.rate_hz_max, ..SubscribeOptions::default() };
            let subscribe = Message::Subscribe(Subscribe { id, pattern, types, options });
            if binary::encode(&subscribe, Qos::Fire, &mut self.frame).is_ok() {
                self.flush(&self.frame, counters, out);
            }
            self.subscribed.end = id.wrapping_add(1);
        }
    }

    pub fn lose(&mut self) {
        self.joined = false;
        self.clear();
    }

    /// Adds the SET of one param to what waits for [`Uplink::send`]. `push` appends its value.
    pub fn set(
        &mut self,
        address: &str,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.append(address, None, push, counters, out);
    }

    /// Says whose the params are that follow, until the next [`Uplink::send`].
    pub fn mark(&mut self, source: &Source<'_>, counters: &mut Counters, out: &mut dyn Out) {
        self.append(SOURCE, Some(Signal::Event), |bytes| source.push(bytes), counters, out);
    }

    /// Adds the PUBLISH of something that is not kept.
    pub fn publish(
        &mut self,
        address: &str,
        signal: Signal,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.append(address, Some(signal), push, counters, out);
    }

    /// Sends what waits: one message by itself, several or timed ones as a BUNDLE.
    ///
    /// Nothing is asked to be acknowledged: a value that fails is overtaken by the next.
    pub fn send(&mut self, at_us: Option<u64>, counters: &mut Counters, out: &mut dyn Out) {
        if self.waiting_count > 0
            && let Some(start) = self.put_head(at_us)
        {
            self.flush(self.waiting.get(start..).unwrap_or_default(), counters, out);
        }
        self.clear();
    }

    /// Makes a frame of what waits, in place, and says where it begins.
    fn put_head(&mut self, at_us: Option<u64>) -> Option<usize> {
        let Self { waiting, waiting_count, frame, .. } = self;
        let start = if *waiting_count == 1 && at_us.is_none() {
            // The message is the payload; its length in the list gives way to the header.
            frame.clear();
            frame.extend_from_slice(&[0; FRAME_HEADER_LEN]);
            HEAD_LEN + LENGTH_LEN - FRAME_HEADER_LEN
        } else {
            let empty = Bundle { timestamp_us: at_us, messages: Messages::EMPTY };
            binary::encode(&Message::Bundle(empty), Qos::Fire, frame).ok()?;
            let count = u16::try_from(*waiting_count).ok()?;
            frame.get_mut(COUNT_AT..)?.first_chunk_mut().map(|at| *at = count.to_be_bytes())?;
            HEAD_LEN.checked_sub(frame.len())?
        };
        let payload_len = waiting.len().checked_sub(start + FRAME_HEADER_LEN)?;
        let header = header::encode(Qos::Fire, payload_len).ok()?;
        frame.first_chunk_mut().map(|at| *at = header)?;
        waiting.get_mut(start..)?.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(start)
    }

    /// Reads one frame of the router: answers PING, notes WELCOME, and gives every update to
    /// `each`.
    pub fn hear(
        &mut self,
        frame: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
        each: &mut Each<'_>,
    ) {
        let message = header::parse(frame).and_then(|frame| binary::decode(frame.payload));
        let Ok(message) = message else {
            counters.malformed += 1;
            return;
        };
        counters.frames_in += 1;
        match message {
            Message::Welcome(welcome) => {
                self.sessions.retain(|session| session != welcome.session);
                if self.sessions.len() == SESSIONS_MAX {
                    self.sessions.remove(0);
                }
                self.sessions.push(welcome.session.to_string());
            }
            Message::Ping => {
                if binary::encode(&Message::Pong, Qos::Fire, &mut self.frame).is_ok() {
                    self.flush(&self.frame, counters, out);
                }
            }
            Message::Error(_) => counters.refused += 1,
            other => updates(other, None, &mut |update| each(self, update, counters, out)),
        }
    }

    /// Whether `writer` is a session of this bridge, an earlier one included.
    pub fn is_ours(&self, writer: Option<&str>) -> bool {
        writer.is_some_and(|writer| self.sessions.iter().any(|session| session == writer))
    }

    /// Adds a message that [`Messages::append`] has written.
    pub fn add(&mut self, message: &[u8], counters: &mut Counters, out: &mut dyn Out) {
        let before = self.waiting.len();
        self.waiting.extend_from_slice(message);
        self.added(before, counters, out);
    }

    fn append(
        &mut self,
        address: &str,
        signal: Option<Signal>,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.value.clear();
        let pushed = push(&mut self.value);
        let value = pushed.ok().and_then(|()| Value::from_encoded(&self.value).ok());
        let Some(value) = value else {
            counters.refused += 1;
            return;
        };
        let message = message(address, signal, value);
        let before = self.waiting.len();
        if Messages::append(&mut self.waiting, &message).is_err() {
            counters.refused += 1;
            return;
        }
        self.added(before, counters, out);
    }

    /// Counts the message that begins at `before`. What was there goes first if both are too much.
    fn added(&mut self, before: usize, counters: &mut Counters, out: &mut dyn Out) {
        self.waiting_count += 1;
        let full = self.waiting.len() - HEAD_LEN > PAYLOAD_BYTES_MAX - BUNDLE_HEAD_LEN
            || self.waiting_count > BUNDLE_MESSAGES_MAX;
        if full && self.waiting_count > 1 {
            let last = self.waiting.split_off(before);
            self.waiting_count -= 1;
            self.send(None, counters, out);
            self.waiting.extend_from_slice(&last);
            self.waiting_count = 1;
        }
    }

    fn flush(&self, frame: &[u8], counters: &mut Counters, out: &mut dyn Out) {
        if self.joined {
            counters.frames_out += 1;
            out.to_router(frame);
        } else {
            counters.dropped += 1;
        }
    }

    fn clear(&mut self) {
        self.waiting.truncate(HEAD_LEN);
        self.waiting_count = 0;
    }
}

fn message<'a>(address: &'a str, signal: Option<Signal>, value: Value<'a>) -> Message<'a> {
    match signal {
        None => Message::Set(Set {
            address,
            value,
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        }),
        Some(signal) => Message::Publish(Publish {
            address,
            signal: Some(signal),
            value: Some(value),
            ..Publish::default()
        }),
    }
}

/// Every update in `message`, in order. The depth of bundles in bundles was bounded when decoded.
fn updates<'a>(message: Message<'a>, source: Option<Source<'a>>, each: &mut dyn FnMut(Update<'_>)) {
    match message {
        Message::Set(Set { address, value, .. }) => {
            let kind = Kind::Written;
            each(Update { address, value: Datum::new(value), kind, source });
        }
        Message::Snapshot { params } => {
            for ParamValue { address, value, writer, .. } in params {
                let kind = Kind::Held { writer };
                // Who wrote it is all that is known of whose it is.
                let source = writer.map(|id| Source { id, priority: None, by: Some(id) });
                each(Update { address, value: Datum::new(value), kind, source });
            }
        }
        Message::Publish(publish) => {
            let sample = || publish.samples.and_then(|samples| samples.iter().last());
            let value = publish.value.or(publish.payload).map(Datum::new);
            let value = value.or_else(|| sample().map(Datum::Float)).unwrap_or(Datum::Null);
            let kind = Kind::Passed(publish.signal.unwrap_or_default());
            each(Update { address: publish.address, value, kind, source: None });
        }
        Message::Bundle(bundle) => {
            let mut source = source;
            for message in bundle.messages.iter() {
                match Source::of(&message) {
                    Some(found) => source = Some(found),
                    None => updates(message, source, each),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{IpAddr, SocketAddr};

    use clasp_rt_core::value::{push_f64, push_i64};

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
        frame(&message(address, None, value))
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
        frame(&message(address, Some(signal), value))
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
}

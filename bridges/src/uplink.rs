//! A bridge's side of its connection to the router: joins it, tells it values, hears its updates.

mod declared;
mod source;

use std::collections::BTreeSet;
use std::ops::Range;

use clasp_rt_core::limits::{BUNDLE_MESSAGES_MAX, PAYLOAD_BYTES_MAX};
use clasp_rt_core::message::SubscribeOptions;
use clasp_rt_core::message::{Bundle, Hello, Message, ParamValue, Publish, Set, Subscribe, Ttl};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_str};
use clasp_rt_core::wire::header::FRAME_HEADER_LEN;
use clasp_rt_core::wire::list::{Features, Messages};
use clasp_rt_core::wire::{TooLong, binary, header};

use crate::datum::Datum;
use crate::{Counters, Out};
use declared::{ARBITRATION, Declared};
use source::{BIDS, SOURCE};
pub(crate) use source::{Bid, Details, Marker, Source, Whose, source_id};

/// Ids of the subscriptions to single addresses that are watched for a while.
const WATCH_IDS: u32 = 1 << 30;

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

/// How long the router explains a source that is gone.
const REMEMBERED_S: u32 = 600;

pub struct Uplink {
    name: String,
    token: Option<String>,
    joined: bool,
    rate_hz_max: Option<u32>,
    /// It wants to be told whose the SETs are.
    asks_sources: bool,
    /// It wants to know when its subscriptions are in place.
    awaits_all: bool,
    /// Patterns that it subscribed to and that the router has not answered.
    unanswered: BTreeSet<String>,
    /// Newest last: the router names the writer of a param by its session.
    sessions: Vec<String>,
    /// Ids of the subscriptions of this connection, which are consecutive.
    subscribed: Range<u32>,
    /// Those of [`Uplink::watch`].
    watched: BTreeSet<u32>,
    /// Room for the [`HEAD_LEN`] bytes before the messages of a BUNDLE, then the messages that wait
    /// for [`Uplink::send`], as a BUNDLE holds them.
    waiting: Vec<u8>,
    waiting_count: usize,
    marker: Marker,
    declared: Declared,
    frame: Vec<u8>,
    value: Vec<u8>,
    address: String,
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
            awaits_all: false,
            unanswered: BTreeSet::new(),
            sessions: Vec::new(),
            subscribed: 1..1,
            watched: BTreeSet::new(),
            waiting: vec![0; HEAD_LEN],
            waiting_count: 0,
            marker: Marker::default(),
            declared: Declared::default(),
            frame: Vec::new(),
            value: Vec::new(),
            address: String::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what is said reaches the router.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Asks the router to hold updates of one address to so many a second.
    pub fn rate(mut self, rate_hz_max: Option<u32>) -> Self {
        self.rate_hz_max = rate_hz_max;
        self
    }

    /// Asks the router for nothing but what is subscribed to, and to say when that is in place:
    /// [`Uplink::is_settled`].
    pub fn await_all(mut self) -> Self {
        self.awaits_all = true;
        self
    }

    /// Whether every subscription is known wherever something may be written that it takes.
    pub fn is_settled(&self) -> bool {
        self.joined && self.unanswered.is_empty()
    }

    /// Asks the router to tell whose the SETs are, and then needs to know what it arbitrates.
    pub fn ask_sources(mut self, asks: bool, arbitrated: Option<&[String]>) -> Self {
        self.asks_sources = asks;
        if asks { self.arbitrated(arbitrated) } else { self }
    }

    /// Notes what the router arbitrates, as CLASP patterns; `None`: it will be asked.
    pub fn arbitrated(mut self, patterns: Option<&[String]>) -> Self {
        self.declared = Declared::new(patterns);
        self
    }

    /// Whether it is known what the router arbitrates.
    pub fn is_declared(&self) -> bool {
        self.declared.is_known()
    }

    /// Whether the router has just said for the first time what it arbitrates, or said something
    /// new.
    pub fn take_declared(&mut self) -> bool {
        self.declared.take_new()
    }

    /// Whether the router arbitrates `address` by what its sources say, not by when.
    pub fn levels_decide(&self, address: &str) -> bool {
        self.declared.rule_of(address).is_some_and(|rule| !rule.is_latest)
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
        let mut features = Features::PARAM
            | Features::EVENT
            | Features::STREAM
            | Features::GESTURE
            | Features::NO_ECHO;
        if self.awaits_all {
            features |= Features::ASKED_ONLY;
        }
        let hello = Hello {
            version: 1,
            features: Features::from_bits(features),
            name: &self.name,
            token: self.token.as_deref(),
        };
        if binary::encode(&Message::Hello(hello), Qos::Fire, &mut self.frame).is_ok() {
            self.flush(&self.frame, counters, out);
        }
        self.ask(counters, out);
        self.watched.clear();
        self.unanswered.clear();
        self.subscribed = 1..1;
        self.subscribe(patterns, counters, out);
    }

    /// Asks what `next` would ask who takes the place of this one, if that asks for more.
    pub(crate) fn ask_as(&mut self, next: Self, counters: &mut Counters, out: &mut dyn Out) {
        if next.asks_sources && !self.asks_sources {
            (self.asks_sources, self.declared) = (true, next.declared);
            if self.joined {
                self.ask(counters, out);
            }
        }
    }

    /// Asks the router to tell whose the SETs are, and what it arbitrates, where that matters.
    fn ask(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        if self.asks_sources {
            let tell = |bytes: &mut Vec<u8>| {
                push_bool(MapWriter::start(bytes).entry("tell")?, true);
                Ok(())
            };
            self.publish(SOURCE, Signal::Event, tell, counters, out);
            self.send(None, counters, out);
        }
        if self.declared.is_asked_for() {
            let get = Message::Get { address: ARBITRATION };
            if binary::encode(&get, Qos::Fire, &mut self.frame).is_ok() {
                self.flush(&self.frame, counters, out);
            }
        }
    }

    /// Hears `address`, too, as the watch of this `number`, which is below 2^30.
    pub fn watch(
        &mut self,
        number: u32,
        address: &str,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let id = WATCH_IDS | number;
        if self.watched.insert(id) {
            self.subscribe_as(id, address, counters, out);
        }
    }

    /// Ends a watch, if there is one of this `number`.
    pub fn unwatch(&mut self, number: u32, counters: &mut Counters, out: &mut dyn Out) {
        let id = WATCH_IDS | number;
        if self.watched.remove(&id) {
            self.unsubscribe(id, counters, out);
        }
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
            self.unsubscribe(id, counters, out);
        }
    }

    fn unsubscribe(&mut self, id: u32, counters: &mut Counters, out: &mut dyn Out) {
        let unsubscribe = Message::Unsubscribe { id };
        if binary::encode(&unsubscribe, Qos::Fire, &mut self.frame).is_ok() {
            self.flush(&self.frame, counters, out);
        }
    }

    fn subscribe<'p>(
        &mut self,
        patterns: impl Iterator<Item = &'p str>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        for pattern in patterns {
            self.subscribe_one(pattern, counters, out);
            if self.asks_sources {
                let bids = format!("{BIDS}{pattern}");
                self.subscribe_one(&bids, counters, out);
            }
        }
    }

    fn subscribe_one(&mut self, pattern: &str, counters: &mut Counters, out: &mut dyn Out) {
        let id = self.subscribed.end;
        if self.awaits_all {
            self.unanswered.insert(pattern.to_owned());
        }
        self.subscribe_as(id, pattern, counters, out);
        self.subscribed.end = id.wrapping_add(1);
    }

    fn subscribe_as(&mut self, id: u32, pattern: &str, counters: &mut Counters, out: &mut dyn Out) {
        let types = SignalMask::ALL;
        let options =
            SubscribeOptions { max_rate: self.rate_hz_max, ..SubscribeOptions::default() };
        let subscribe = Message::Subscribe(Subscribe { id, pattern, types, options });
        if binary::encode(&subscribe, Qos::Fire, &mut self.frame).is_ok() {
            self.flush(&self.frame, counters, out);
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
        self.put_marker();
        self.append(address, None, push, counters, out);
    }

    /// Says whose the params are that follow, until the next [`Uplink::send`]. Where none follow,
    /// nothing is said.
    pub fn mark(&mut self, source: &Source<'_>) {
        if !self.marker.is_of(source) {
            self.marker = Marker::of(source);
        }
        self.marker.is_in_hand = true;
    }

    /// The same by a marker that was made before.
    pub(crate) fn mark_by(&mut self, marker: &Marker) {
        if !self.marker.says_same(marker) {
            self.marker.become_like(marker);
        }
        self.marker.is_in_hand = true;
    }

    /// Puts the marker in hand in front of the next param, unless it stands there already.
    #[inline]
    fn put_marker(&mut self) {
        if self.marker.is_in_hand && !self.marker.is_said {
            self.marker.is_said = true;
            self.waiting.extend_from_slice(&self.marker.message);
            self.waiting_count += 1;
        }
    }

    /// Says who a source is: the SET of `/clasp/source/{id}`. Its claims are those of whoever is
    /// marked after it.
    pub fn describe(&mut self, details: &Details, counters: &mut Counters, out: &mut dyn Out) {
        let address = format!("{SOURCE}/{}", details.id);
        self.append(&address, None, |bytes| details.push(false, bytes), counters, out);
    }

    /// Says that a source is lost: the router ends its claims, before the SETs that wait. So what
    /// it says last is to be sent before. Who it was is known for ten minutes more.
    pub fn release(&mut self, details: &Details, counters: &mut Counters, out: &mut dyn Out) {
        self.sign(&details.id, "release", counters, out);
        let address = format!("{SOURCE}/{}", details.id);
        let push = |bytes: &mut Vec<u8>| details.push(true, bytes);
        let ttl = Some(Ttl::Sliding(REMEMBERED_S));
        self.append_with(&address, None, ttl, push, counters, out);
    }

    /// Says something of a source beside its params: that it is `alive`, or to `release` it.
    pub fn sign(&mut self, id: &str, key: &str, counters: &mut Counters, out: &mut dyn Out) {
        let push = |bytes: &mut Vec<u8>| {
            let mut map = MapWriter::start(bytes);
            push_str(map.entry("id")?, id)?;
            push_bool(map.entry(key)?, true);
            Ok(())
        };
        self.append(SOURCE, Some(Signal::Event), push, counters, out);
    }

    /// Tells what `source` says of an address that another source has: see [`Bid`].
    pub fn bid(
        &mut self,
        address: &str,
        source: &Source<'_>,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if self.declared.rule_of(address).is_some() {
            self.mark(source);
            return self.set(address, push, counters, out);
        }
        let own = self.sessions.last().cloned();
        // Of a session of its own the router knows the priority, of one that is named it does not.
        let of_own = self.declared.priority.filter(|_| source.by.is_none());
        let (priority, by) = (source.priority.or(of_own), source.by.or(own.as_deref()));
        let source = Source { id: source.id, priority, by };
        let mut bids = std::mem::take(&mut self.address);
        bids.clear();
        bids.push_str(BIDS);
        bids.push_str(address);
        let push = |bytes: &mut Vec<u8>| {
            let mut map = MapWriter::start(bytes);
            source.push_entries(&mut map)?;
            push(map.entry("value")?)
        };
        self.append(&bids, Some(Signal::Event), push, counters, out);
        self.address = bids;
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
            Message::Ack(ack) => self.answered(ack.address),
            Message::Error(error) => {
                counters.refused += 1;
                self.answered(error.address);
            }
            Message::Snapshot { params } if Declared::is_in(&params) => {
                self.declared.read(&params, &self.name);
            }
            other => updates(other, None, &mut |update| each(self, update, counters, out)),
        }
    }

    /// The router granted or refused what is about `address`, perhaps a pattern.
    fn answered(&mut self, address: Option<&str>) {
        address.map(|address| self.unanswered.remove(address));
    }

    /// Whether `writer` is a session of this bridge, an earlier one included.
    pub fn is_ours(&self, writer: Option<&str>) -> bool {
        writer.is_some_and(|writer| self.sessions.iter().any(|session| session == writer))
    }

    /// Adds a SET that [`Messages::append`] has written.
    pub fn add(&mut self, message: &[u8], counters: &mut Counters, out: &mut dyn Out) {
        self.put_marker();
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
        self.append_with(address, signal, None, push, counters, out);
    }

    fn append_with(
        &mut self,
        address: &str,
        signal: Option<Signal>,
        ttl: Option<Ttl>,
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
        let message = message(address, signal, value, ttl);
        let before = self.waiting.len();
        if Messages::append(&mut self.waiting, &message).is_err() {
            counters.refused += 1;
            return;
        }
        self.added(before, counters, out);
    }

    /// Counts the message that begins at `before`. What was there goes first if both are too much.
    #[inline]
    fn added(&mut self, before: usize, counters: &mut Counters, out: &mut dyn Out) {
        self.waiting_count += 1;
        let full = self.waiting.len() - HEAD_LEN > PAYLOAD_BYTES_MAX - BUNDLE_HEAD_LEN
            || self.waiting_count > BUNDLE_MESSAGES_MAX;
        if full && self.waiting_count > 1 {
            self.split(before, counters, out);
        }
    }

    /// Sends all that waits but the message that begins at `before`.
    #[cold]
    fn split(&mut self, before: usize, counters: &mut Counters, out: &mut dyn Out) {
        let last = self.waiting.split_off(before);
        self.waiting_count -= 1;
        let Marker { is_in_hand, is_said, .. } = self.marker;
        if is_said && self.waiting_count == 1 {
            // A marker by itself; and beside it the last one finds no room.
            self.clear();
        } else {
            self.send(None, counters, out);
            self.marker.is_in_hand = is_in_hand;
            self.put_marker();
        }
        self.waiting.extend_from_slice(&last);
        self.waiting_count += 1;
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
        (self.marker.is_in_hand, self.marker.is_said) = (false, false);
    }
}

fn message<'a>(
    address: &'a str,
    signal: Option<Signal>,
    value: Value<'a>,
    ttl: Option<Ttl>,
) -> Message<'a> {
    match signal {
        None => {
            Message::Set(Set { address, value, revision: None, lock: false, unlock: false, ttl })
        }
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
pub(crate) mod tests;

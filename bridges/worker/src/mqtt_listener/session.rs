//! One client as a machine: its packets and the router's messages in, packets and frames out.
//!
//! It owns no socket and reads no clock, so that it is fuzzed and replayed as it is.

mod outward;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use clasp_rt_core::message::{Message, Publish as Event, Set, Subscribe, SubscribeOptions, Ttl};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::binary;

use super::groups::Groups;
use super::wire::{
    self, Answer, Connect, First, PACKET_BYTES_MAX, Packet, Publish, Reason, Retained, Version,
    Wanted,
};
use crate::mqtt::payload::{self, Form};
use crate::mqtt::topic::{Filter, is_topic, push_path};
use crate::mqtt::waiting::Waiting;

/// Filters of one client; beyond them a SUBSCRIBE is refused.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Messages at QoS 2 that a client may have on their way (MQTT 5: Receive Maximum).
pub const RECEIVE_MAX: u16 = 64;

/// Messages at QoS 1 and 2 that are on their way to a client; the others wait.
const INFLIGHT_MAX: usize = 32;

/// SUBSCRIBEs that wait for the router's answer.
const ASKED_MAX: usize = 64;

/// A connection that has not said CONNECT by then, or whose session is not there, ends.
const CONNECT_TIMEOUT: Span = Span::from_secs(10);

/// So often the router hears that the session is alive.
const ALIVE_INTERVAL: Span = Span::from_secs(20);

const CLIENT_ID_BYTES_MAX: usize = 512;

/// What all clients of a listener have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Segments before topics.
    pub namespace: String,
    pub payload: Form,
}

/// What happened to a client.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Bytes of its connection, in pieces of any length.
    Bytes(&'a [u8]),
    /// Its session at the router is there.
    Joined,
    /// The router does not let it in.
    Refused(Reason),
    Router(Message<'a>),
    /// Its session at the router ended.
    RouterGone,
    /// Another connection came with its name.
    TakenOver,
    /// The connection ended.
    Closed,
    Deadline,
    Stop,
}

/// What follows. Frames are for the router and go first, so that nothing is acknowledged before.
#[derive(Debug, Default)]
pub struct Out {
    pub packets: BytesMut,
    pub frames: Vec<Vec<u8>>,
    /// Join the router as this client; [`Input::Joined`] or [`Input::Refused`] follows.
    pub join: Option<Join>,
    /// When everything has left, the connection ends.
    pub close: bool,
}

/// Who wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub client_id: String,
    /// The password is the token.
    pub token: Option<String>,
}

/// What happened, as numbers that only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets_in: u64,
    pub packets_out: u64,
    pub malformed: u64,
    pub refused: u64,
    pub overflowed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said yet.
    New,
    Joining,
    Open,
    Ended,
}

#[derive(Debug)]
struct Subscription {
    filter: Filter,
    /// As the client wrote it.
    text: String,
    /// As the router knows it.
    pattern: String,
    id: u32,
    qos: u8,
    no_local: bool,
    keeps_flag: bool,
    /// What is retained is still being sent.
    held: bool,
}

/// An answer of the router that is awaited; it comes in order, behind a PING.
#[derive(Debug)]
enum Asked {
    Subscribe {
        id: u16,
        /// What to grant, and the pattern whose refusal changes that.
        granted: Vec<(Result<u8, Reason>, String)>,
    },
    Alive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flying {
    /// Awaits PUBACK.
    Once,
    /// Awaits PUBREC.
    Sent,
    /// Awaits PUBCOMP.
    Released,
}

/// What of a router a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Held,
    News {
        is_param: bool,
    },
    /// The client itself said it.
    Own {
        is_param: bool,
    },
}

pub struct Session {
    settings: Settings,
    /// Among the members of groups.
    number: u64,
    state: State,
    version: Version,
    since: Time,
    heard: Time,
    alive: Time,
    keep_alive: Option<Span>,
    receive_max: usize,
    packet_max: usize,
    assigned: Option<String>,
    will: Option<Publish>,
    subscriptions: Vec<Subscription>,
    next_subscription: u32,
    asked: VecDeque<Asked>,
    /// Messages of the client at QoS 2 that it has not released.
    received: BTreeSet<u16>,
    flying: BTreeMap<u16, Flying>,
    next_id: u16,
    waiting: Waiting<Publish>,
    bytes: BytesMut,
    pub counts: Counts,
}

impl Session {
    pub fn new(settings: Settings, number: u64, now: Time) -> Self {
        Self {
            settings,
            number,
            state: State::New,
            version: Version::V311,
            since: now,
            heard: now,
            alive: now,
            keep_alive: None,
            receive_max: INFLIGHT_MAX,
            packet_max: PACKET_BYTES_MAX,
            assigned: None,
            will: None,
            subscriptions: Vec::new(),
            next_subscription: 1,
            asked: VecDeque::new(),
            received: BTreeSet::new(),
            flying: BTreeMap::new(),
            next_id: 1,
            waiting: Waiting::default(),
            bytes: BytesMut::new(),
            counts: Counts::default(),
        }
    }

    /// Whether more bytes are wanted: not while the router's answer decides what they mean.
    pub fn reads(&self) -> bool {
        matches!(self.state, State::New | State::Open)
    }

    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// When [`Input::Deadline`] is due.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::New | State::Joining => Some(self.since + CONNECT_TIMEOUT),
            State::Open => {
                let alive = self.alive + ALIVE_INTERVAL;
                Some(self.keep_alive.map_or(alive, |limit| alive.min(self.heard + limit)))
            }
            State::Ended => None,
        }
    }

    pub fn step(&mut self, now: Time, input: Input<'_>, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Ended {
            return;
        }
        match input {
            Input::Bytes(bytes) => {
                self.heard = now;
                self.bytes.extend_from_slice(bytes);
                self.read(groups, out);
            }
            Input::Joined if self.state == State::Joining => {
                (self.state, self.heard, self.alive) = (State::Open, now, now);
                let assigned = self.assigned.take();
                self.answer(&Answer::Connected { assigned, receive_max: RECEIVE_MAX }, out);
                self.read(groups, out);
            }
            Input::Joined => {}
            Input::Refused(reason) => {
                self.will = None;
                self.answer(&Answer::Refused(reason), out);
                self.leave(groups, out);
            }
            Input::Router(message) => self.hear(message, groups, out),
            Input::RouterGone => self.end(Reason::Unavailable, groups, out),
            Input::TakenOver => self.end(Reason::TakenOver, groups, out),
            Input::Closed => self.leave(groups, out),
            Input::Stop => self.end(Reason::ShuttingDown, groups, out),
            Input::Deadline => self.elapse(now, groups, out),
        }
        let lost = self.waiting.take_lost().len();
        self.counts.overflowed += lost as u64;
    }

    fn elapse(&mut self, now: Time, groups: &mut Groups, out: &mut Out) {
        if self.state != State::Open {
            if now >= self.since + CONNECT_TIMEOUT {
                self.leave(groups, out);
            }
            return;
        }
        if self.keep_alive.is_some_and(|limit| now >= self.heard + limit) {
            return self.end(Reason::KeepAlive, groups, out);
        }
        if now >= self.alive + ALIVE_INTERVAL {
            self.alive = now;
            self.ask(Asked::Alive, out);
        }
    }

    /// Takes every whole packet, until one must wait for the router.
    fn read(&mut self, groups: &mut Groups, out: &mut Out) {
        while self.reads() {
            if self.state == State::New {
                match wire::first(&self.bytes) {
                    First::More => return,
                    First::Version(version) => self.version = version,
                    First::Unknown => {
                        self.answer(&Answer::Refused(Reason::Version), out);
                        self.counts.malformed += 1;
                        return self.leave(groups, out);
                    }
                    First::NotMqtt => {
                        self.counts.malformed += 1;
                        return self.leave(groups, out);
                    }
                }
            }
            match wire::read(self.version, &mut self.bytes) {
                Ok(None) => return,
                Ok(Some(packet)) => {
                    self.counts.packets_in += 1;
                    self.take(packet, groups, out);
                }
                Err(_) => {
                    self.counts.malformed += 1;
                    self.end(Reason::Malformed, groups, out);
                }
            }
        }
    }

    fn take(&mut self, packet: Packet, groups: &mut Groups, out: &mut Out) {
        match (packet, &self.state) {
            (Packet::Connect(connect), State::New) => self.connect(*connect, groups, out),
            (Packet::Connect(_) | Packet::Odd, _) | (_, State::New) => {
                self.end(Reason::Protocol, groups, out);
            }
            (Packet::Publish(publish), _) => self.publish(publish, groups, out),
            (Packet::PubAck(id), _) => self.taken(id, Flying::Once, out),
            (Packet::PubRec { id, refused: true }, _) => self.taken(id, Flying::Sent, out),
            (Packet::PubRec { id, refused: false }, _) => {
                if let Some(flying @ Flying::Sent) = self.flying.get_mut(&id) {
                    *flying = Flying::Released;
                }
                self.answer(&Answer::PubRel(id), out);
            }
            (Packet::PubComp(id), _) => self.taken(id, Flying::Released, out),
            (Packet::PubRel(id), _) => {
                self.received.remove(&id);
                self.answer(&Answer::PubComp(id), out);
            }
            (Packet::Subscribe { has_identifier: true, .. }, _) => {
                self.end(Reason::NoIdentifiers, groups, out);
            }
            (Packet::Subscribe { id, wanted, .. }, _) => self.subscribe(id, wanted, groups, out),
            (Packet::Unsubscribe { id, filters }, _) => {
                self.unsubscribe(id, &filters, groups, out);
            }
            (Packet::Ping, _) => self.answer(&Answer::Pong, out),
            (Packet::Disconnect { keep_will }, _) => {
                if !keep_will {
                    self.will = None;
                }
                self.leave(groups, out);
            }
        }
    }

    fn connect(&mut self, connect: Connect, groups: &mut Groups, out: &mut Out) {
        let nameless = connect.client_id.is_empty();
        let bad_name = nameless && self.version == Version::V311 && !connect.clean;
        let refused = if bad_name || connect.client_id.len() > CLIENT_ID_BYTES_MAX {
            Some(Reason::ClientId)
        } else if connect.will.as_ref().is_some_and(|will| !may_publish(&will.topic)) {
            Some(Reason::TopicInvalid)
        } else if connect.receive_max == 0 || connect.packet_bytes_max == 0 {
            Some(Reason::Protocol)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.counts.refused += 1;
            self.answer(&Answer::Refused(reason), out);
            return self.leave(groups, out);
        }
        let client_id = match nameless {
            true => format!("mqtt-{}", self.number),
            false => connect.client_id,
        };
        self.assigned = nameless.then(|| client_id.clone());
        // One and a half times what the client promises (MQTT 5 §3.1.2.10).
        let seconds = u64::from(connect.keep_alive_s);
        self.keep_alive = (seconds > 0).then(|| Span::from_millis(seconds * 1_500));
        self.receive_max = usize::from(connect.receive_max).min(INFLIGHT_MAX);
        self.packet_max = connect.packet_bytes_max;
        self.will = connect.will;
        self.state = State::Joining;
        let token = connect.password.filter(|password| !password.is_empty());
        out.join = Some(Join { client_id, token });
    }

    fn publish(&mut self, publish: Publish, groups: &mut Groups, out: &mut Out) {
        let Publish { qos, id, .. } = publish;
        if publish.has_alias {
            return self.end(Reason::AliasInvalid, groups, out);
        }
        if !is_topic(&publish.topic) {
            return self.end(Reason::TopicInvalid, groups, out);
        }
        // A second time: it was taken, and the answer was lost.
        let is_known = qos == 2 && self.received.contains(&id);
        if qos == 2 && !is_known && self.received.len() >= usize::from(RECEIVE_MAX) {
            return self.end(Reason::ReceiveMax, groups, out);
        }
        let reason = if is_known { Reason::Success } else { self.tell(&publish, groups, out) };
        match qos {
            0 => {}
            1 => self.answer(&Answer::PubAck(id, reason), out),
            _ => {
                if reason == Reason::Success || self.version == Version::V311 {
                    self.received.insert(id);
                }
                self.answer(&Answer::PubRec(id, reason), out);
            }
        }
    }

    /// Says a message of the client to the router, and to the client if it wants its own.
    fn tell(&mut self, publish: &Publish, groups: &mut Groups, out: &mut Out) -> Reason {
        let reason = self.say(publish, out);
        if reason != Reason::Success {
            self.counts.refused += 1;
            return reason;
        }
        let own = Publish { retain: false, id: 0, has_alias: false, ..publish.clone() };
        self.deliver(own, Origin::Own { is_param: publish.retain }, publish.qos, groups, out);
        Reason::Success
    }

    /// The frame of a message: retained is a SET, all else an event.
    fn say(&mut self, publish: &Publish, out: &mut Out) -> Reason {
        let mut address = self.settings.namespace.clone();
        let has_address = may_publish(&publish.topic) && push_path(&publish.topic, &mut address);
        if !has_address || clasp_rt_core::address::check(&address).is_err() {
            return Reason::TopicInvalid;
        }
        let form = self.settings.payload.of_content(publish.content_type.as_deref());
        let mut bytes = Vec::new();
        let read = payload::read(form, &publish.payload, &mut bytes);
        let value = read.ok().and_then(|()| Value::from_encoded(&bytes).ok());
        let Some(value) = value else { return Reason::PayloadInvalid };
        let address = address.as_str();
        let ttl = publish.expiry_s.map(|seconds| Ttl::Sliding(seconds & (u32::MAX >> 1)));
        let message = match publish.retain {
            true => Message::Set(Set {
                address,
                value,
                revision: None,
                lock: false,
                unlock: false,
                ttl,
            }),
            false => Message::Publish(Event {
                address,
                signal: Some(Signal::Event),
                value: Some(value),
                ..Event::default()
            }),
        };
        match push_frame(&message, Qos::from_code(publish.qos), out) {
            true => Reason::Success,
            false => Reason::PayloadInvalid,
        }
    }

    fn subscribe(&mut self, id: u16, wanted: Vec<Wanted>, groups: &mut Groups, out: &mut Out) {
        if self.asked.len() >= ASKED_MAX {
            return self.end(Reason::Quota, groups, out);
        }
        let mut granted = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let filter = Filter::parse(&wanted.filter);
            let shared = filter.as_ref().is_some_and(|filter| filter.group().is_some());
            if shared && wanted.no_local {
                return self.end(Reason::Protocol, groups, out);
            }
            let pattern = filter.as_ref().and_then(|filter| {
                filter.path().map(|path| format!("{}{path}", self.settings.namespace))
            });
            let pattern = pattern.filter(|text| clasp_rt_core::pattern::check(text).is_ok());
            granted.push(match filter.zip(pattern) {
                None => (Err(Reason::FilterInvalid), String::new()),
                Some((filter, pattern)) => {
                    let granted = self.add(wanted, filter, &pattern, groups, out);
                    (granted, pattern)
                }
            });
        }
        self.ask(Asked::Subscribe { id, granted }, out);
    }

    fn add(
        &mut self,
        wanted: Wanted,
        filter: Filter,
        pattern: &str,
        groups: &mut Groups,
        out: &mut Out,
    ) -> Result<u8, Reason> {
        let Wanted { filter: text, qos, no_local, keeps_flag, retained } = wanted;
        let shared = filter.group().is_some();
        let at = self.subscriptions.iter().position(|held| held.text == text);
        let is_new = at.is_none();
        if is_new && self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Reason::Quota);
        }
        let held = !shared && (retained == Retained::Always || retained == Retained::New && is_new);
        let id = match at.and_then(|at| self.subscriptions.get_mut(at)) {
            Some(known) => {
                (known.qos, known.no_local, known.keeps_flag) = (qos, no_local, keeps_flag);
                known.held = held;
                known.id
            }
            None => {
                let id = self.next_subscription;
                self.next_subscription = self.next_subscription.wrapping_add(1).max(1);
                if let Some(group) = filter.group() {
                    groups.join(group, filter.as_str(), self.number);
                }
                let pattern = pattern.to_owned();
                let subscription =
                    Subscription { filter, text, pattern, id, qos, no_local, keeps_flag, held };
                self.subscriptions.push(subscription);
                id
            }
        };
        if is_new || held {
            let (types, options) = (SignalMask::ALL, SubscribeOptions::default());
            let subscribe = Message::Subscribe(Subscribe { id, pattern, types, options });
            push_frame(&subscribe, Qos::Fire, out);
        }
        Ok(qos)
    }

    fn unsubscribe(&mut self, id: u16, texts: &[String], groups: &mut Groups, out: &mut Out) {
        let existed = texts.iter().map(|text| {
            let at = self.subscriptions.iter().position(|held| held.text == *text);
            at.map(|at| self.remove(at, groups, out)).is_some()
        });
        let existed = existed.collect();
        self.answer(&Answer::Unsubscribed { id, existed }, out);
    }

    fn remove(&mut self, at: usize, groups: &mut Groups, out: &mut Out) {
        let subscription = self.subscriptions.remove(at);
        if let Some(group) = subscription.filter.group() {
            groups.leave(group, subscription.filter.as_str(), self.number);
        }
        push_frame(&Message::Unsubscribe { id: subscription.id }, Qos::Fire, out);
    }

    fn ask(&mut self, asked: Asked, out: &mut Out) {
        push_frame(&Message::Ping, Qos::Fire, out);
        self.asked.push_back(asked);
    }

    fn answer(&mut self, answer: &Answer, out: &mut Out) {
        self.try_answer(answer, out);
    }

    /// `false`: it is longer than the client takes.
    fn try_answer(&mut self, answer: &Answer, out: &mut Out) -> bool {
        let written = wire::write(self.version, answer, self.packet_max, &mut out.packets);
        self.counts.packets_out += u64::from(written);
        written
    }

    /// Ends the connection on our behalf, and says why.
    fn end(&mut self, reason: Reason, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Open {
            self.answer(&Answer::Disconnect(reason), out);
        }
        self.leave(groups, out);
    }

    /// The end, whoever wanted it: the will is said unless the client took it back.
    fn leave(&mut self, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Open
            && let Some(will) = self.will.take()
        {
            self.say(&will, out);
        }
        for subscription in self.subscriptions.drain(..) {
            if let Some(group) = subscription.filter.group() {
                groups.leave(group, subscription.filter.as_str(), self.number);
            }
        }
        self.state = State::Ended;
        out.close = true;
    }
}

/// Topics with `$` in front are a broker's own.
fn may_publish(topic: &str) -> bool {
    is_topic(topic) && !topic.starts_with('$')
}

fn push_frame(message: &Message<'_>, qos: Qos, out: &mut Out) -> bool {
    let mut frame = Vec::new();
    let encoded = binary::encode(message, qos, &mut frame).is_ok();
    if encoded {
        out.frames.push(frame);
    }
    encoded
}

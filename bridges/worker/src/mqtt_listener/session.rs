//! One client as a machine: its packets and the router's messages in, packets and frames out.
//!
//! It owns no socket and reads no clock, so that it is fuzzed and replayed as it is. A session may
//! outlive its connection: then it hears the router on, keeps what it hears, and goes on with the
//! next connection.

mod aliases;
mod answers;
mod inward;
mod outward;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aliases::{Aliases, Topics};
use answers::Asked;
use bytes::BytesMut;
use clasp_rt_core::message::Message;
use clasp_rt_core::time::{Span, Time};
use outward::{Flight, Held};

use super::groups::Groups;
use super::wire::{self, Answer, Connect, First, PACKET_BYTES_MAX, Packet, Reason, Version, Will};
use crate::mqtt::payload::Form;
use crate::mqtt::topic::Filter;
use crate::mqtt::waiting::{Room, Waiting};

/// Filters of one client; beyond them a SUBSCRIBE is refused.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Messages at QoS 1 and 2 that a client may have on their way (MQTT 5: Receive Maximum). One of
/// 3.1.1, which cannot be told, is read no further while the router has so many to answer.
pub const RECEIVE_MAX: u16 = 64;

/// Messages at QoS 2 that a client of 3.1.1 may leave unreleased.
pub const UNRELEASED_MAX: usize = 1_024;

/// Messages at QoS 1 and 2 that are on their way to a client; the others wait.
const INFLIGHT_MAX: usize = 32;

/// SUBSCRIBEs that wait for the router's answer.
const ASKED_MAX: usize = 64;

/// A connection that has not said CONNECT by then, or whose session is not there, ends.
const CONNECT_TIMEOUT: Span = Span::from_secs(10);

/// So often the router hears that the session is alive.
const ALIVE_INTERVAL: Span = Span::from_secs(20);

/// Retained values that wait for a client before the router keeps the others back.
const RETAINED_MANY: usize = 64;

/// A client that takes nothing for so long is no reason to hear no more of the router, which would
/// end the session after twice as long; what is too much then is given up, counted.
const STALL: Span = Span::from_secs(5);

const CLIENT_ID_BYTES_MAX: usize = 512;

/// What all clients of a listener have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Segments before topics.
    pub namespace: String,
    pub payload: Form,
    /// What may wait for one client.
    pub room: Room,
    /// Seconds for which a session outlives its connection at most; 0: not at all.
    pub expiry_s_max: u32,
    /// What the names of clients that bring none begin with; so that no listener of the same router
    /// gives the same.
    pub nameless: String,
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
    RouterGone(Reason),
    /// Another connection came for this session: [`Session::resume`] follows if the session goes
    /// on, and it does if it [outlives](Session::keeps) its connections.
    TakenOver,
    /// Another session has its name now.
    Replaced,
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
    /// Join the router as this client; [`Input::Joined`] or [`Input::Refused`] follows. Or another
    /// session goes on with [`Session::into_newcomer`].
    pub join: Option<Join>,
    /// When everything has left, the connection ends. The session may go on without it.
    pub close: bool,
    /// What was refused to this client first, for the log; what is refused later is only counted.
    pub complaint: Option<String>,
}

/// Who wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub client_id: String,
    /// The password is the token.
    pub token: Option<String>,
    /// Whatever was kept under this name is to be forgotten.
    pub clean: bool,
}

/// A connection that has said CONNECT, for a session that was there before.
#[derive(Debug)]
pub struct Newcomer {
    connect: Box<Connect>,
    /// What it said behind that.
    bytes: BytesMut,
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
    /// Without a connection.
    Away,
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
    /// What each message that it brings carries (MQTT 5 §3.8.2.1.2).
    identifier: Option<u32>,
}

pub struct Session {
    settings: Settings,
    /// Among the members of groups.
    number: u64,
    state: State,
    version: Version,
    now: Time,
    since: Time,
    heard: Time,
    alive: Time,
    keep_alive: Option<Span>,
    receive_max: usize,
    packet_max: usize,
    wants_words: bool,
    /// Who is joining.
    newcomer: Option<Box<Connect>>,
    assigned: Option<String>,
    /// Seconds for which the session outlives this connection.
    expiry_s: u32,
    /// When it ends, while it is away.
    ends: Option<Time>,
    will: Option<Will>,
    /// When the will of a client that is away is said.
    will_due: Option<Time>,
    topics: Topics,
    aliases: Aliases,
    subscriptions: Vec<Subscription>,
    next_subscription: u32,
    asked: VecDeque<Asked>,
    /// Of what the router was asked last.
    serial: u64,
    /// When the router said that it drops messages for want of rate.
    limited: Option<Time>,
    complained: bool,
    /// Messages of the client at QoS 2 that it has not released.
    received: BTreeSet<u16>,
    flying: BTreeMap<u16, Flight>,
    /// Counts what was sent at QoS 1 and 2.
    flights: u64,
    next_id: u16,
    waiting: Waiting<Held>,
    /// What is retained, as subscriptions were told it: before all that waits.
    retained: Waiting<Held>,
    /// When the client took something last, or nothing retained waited.
    taken: Time,
    bytes: BytesMut,
    pub counts: Counts,
}

impl Session {
    pub fn new(settings: Settings, number: u64, now: Time) -> Self {
        let waiting = Waiting::new(settings.room);
        Self {
            settings,
            number,
            state: State::New,
            version: Version::V311,
            now,
            since: now,
            heard: now,
            alive: now,
            keep_alive: None,
            receive_max: INFLIGHT_MAX,
            packet_max: PACKET_BYTES_MAX,
            wants_words: false,
            newcomer: None,
            assigned: None,
            expiry_s: 0,
            ends: None,
            will: None,
            will_due: None,
            topics: Topics::default(),
            aliases: Aliases::default(),
            subscriptions: Vec::new(),
            next_subscription: 1,
            asked: VecDeque::new(),
            serial: 0,
            limited: None,
            complained: false,
            received: BTreeSet::new(),
            flying: BTreeMap::new(),
            flights: 0,
            next_id: 1,
            waiting,
            retained: Waiting::default(),
            taken: now,
            bytes: BytesMut::new(),
            counts: Counts::default(),
        }
    }

    /// Whether more bytes are wanted: not while the router's answer decides what they mean, or has
    /// too many of them to answer.
    pub fn reads(&self) -> bool {
        match self.state {
            State::New => true,
            State::Open => self.version == Version::V5 || self.writes() < usize::from(RECEIVE_MAX),
            _ => false,
        }
    }

    /// Whether the router is to be heard: not while the client has enough retained values to take.
    /// The router keeps the rest of a snapshot until there is room for it, so that none is lost.
    /// Who waits for an answer is waited for no longer than a client that takes nothing.
    pub fn hears(&self) -> bool {
        let is_behind = self.retained.len() >= RETAINED_MANY && self.state == State::Open;
        let waits = self.asked.iter().any(|asked| !asked.is_alive());
        !is_behind || waits || self.now >= self.taken + STALL
    }

    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the session goes on when its connection ends.
    pub fn keeps(&self) -> bool {
        matches!(self.state, State::Open | State::Away) && self.expiry_s > 0
    }

    /// When [`Input::Deadline`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let alive = self.alive + ALIVE_INTERVAL;
        let dues = match self.state {
            State::New | State::Joining => [Some(self.since + CONNECT_TIMEOUT), None, None, None],
            State::Open => {
                let silent = self.keep_alive.map(|limit| self.heard + limit);
                let stall = Some(self.taken + STALL).filter(|_| !self.hears());
                [Some(alive), silent, self.answer_due(), stall]
            }
            State::Away => [Some(alive), self.ends, self.will_due, self.answer_due()],
            State::Ended => return None,
        };
        dues.into_iter().flatten().min()
    }

    pub fn step(&mut self, now: Time, input: Input<'_>, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Ended {
            return;
        }
        self.now = now;
        match input {
            Input::Bytes(bytes) => {
                self.heard = now;
                self.bytes.extend_from_slice(bytes);
            }
            Input::Joined => {
                if let Some(connect) = self.newcomer.take() {
                    self.begin(*connect, false, out);
                }
            }
            Input::Refused(reason) => {
                self.answer(&Answer::Refused(reason), out);
                self.finish(groups, out);
            }
            Input::Router(message) => self.hear(message, groups, out),
            Input::RouterGone(reason) => self.finish_with(reason, groups, out),
            Input::TakenOver => self.end(Reason::TakenOver, groups, out),
            Input::Replaced => self.finish_with(Reason::TakenOver, groups, out),
            Input::Closed => self.lose(groups, out),
            Input::Stop => self.finish_with(Reason::ShuttingDown, groups, out),
            Input::Deadline => self.elapse(groups, out),
        }
        self.read(groups, out);
        if self.retained.is_empty() {
            self.taken = self.now;
        }
        let lost = self.waiting.take_lost().len() + self.retained.take_lost().len();
        self.counts.overflowed += lost as u64;
    }

    /// Goes on with another connection. The one before has ended, or was taken over.
    pub fn resume(&mut self, now: Time, newcomer: Newcomer, groups: &mut Groups, out: &mut Out) {
        if self.state != State::Away {
            out.close = true;
            return;
        }
        self.now = now;
        let Newcomer { connect, bytes } = newcomer;
        self.bytes = bytes;
        self.version = connect.version;
        groups.wake(self.number);
        self.begin(*connect, true, out);
        self.read(groups, out);
    }

    /// What another session needs to go on with this connection, while this one waits to join.
    pub fn into_newcomer(self) -> Option<Newcomer> {
        let bytes = self.bytes;
        self.newcomer.map(|connect| Newcomer { connect, bytes })
    }

    fn elapse(&mut self, groups: &mut Groups, out: &mut Out) {
        let now = self.now;
        match self.state {
            State::New | State::Joining => {
                if now >= self.since + CONNECT_TIMEOUT {
                    self.finish(groups, out);
                }
                return;
            }
            State::Open if self.keep_alive.is_some_and(|limit| now >= self.heard + limit) => {
                return self.end(Reason::KeepAlive, groups, out);
            }
            State::Away if self.ends.is_some_and(|ends| now >= ends) => {
                return self.finish(groups, out);
            }
            _ => {}
        }
        if self.will_due.is_some_and(|due| now >= due) {
            self.say_will(out);
        }
        self.give_up_answers(groups, out);
        if now >= self.alive + ALIVE_INTERVAL {
            self.alive = now;
            self.ask_alive(out);
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
                        return self.finish(groups, out);
                    }
                    First::NotMqtt => {
                        self.counts.malformed += 1;
                        return self.finish(groups, out);
                    }
                }
            }
            match wire::read(self.version, &mut self.bytes) {
                Ok(None) => return,
                Ok(Some(packet)) => {
                    self.counts.packets_in += 1;
                    self.take(packet, groups, out);
                }
                Err(malformed) => {
                    self.counts.malformed += 1;
                    self.tell(|| format!("a packet is refused: {malformed}"), out);
                    self.end(malformed.reason(), groups, out);
                }
            }
        }
    }

    fn take(&mut self, packet: Packet, groups: &mut Groups, out: &mut Out) {
        match (packet, &self.state) {
            (Packet::Connect(connect), State::New) => self.connect(connect, groups, out),
            (Packet::Connect(_) | Packet::Odd, _) | (_, State::New) => {
                self.end(Reason::Protocol, groups, out);
            }
            (Packet::Publish(publish), _) => self.publish(publish, groups, out),
            (Packet::PubAck(id), _) => self.taken_once(id, out),
            (Packet::PubRec { id, refused }, _) => self.taken_first(id, refused, out),
            (Packet::PubComp(id), _) => self.taken_twice(id, out),
            (Packet::PubRel(id), _) => {
                let known = self.received.remove(&id);
                self.answer(&Answer::PubComp { id, known }, out);
            }
            (Packet::Subscribe { identifier: Some(0), .. }, _) => {
                self.end(Reason::Protocol, groups, out);
            }
            (Packet::Subscribe { id, wanted, identifier }, _) => {
                self.subscribe(id, wanted, identifier, groups, out);
            }
            (Packet::Unsubscribe { id, filters }, _) => {
                self.unsubscribe(id, &filters, groups, out);
            }
            (Packet::Ping, _) => self.answer(&Answer::Pong, out),
            (Packet::Disconnect { keep_will, expiry_s }, _) => {
                // A session that was to end with its connection does (MQTT 5 §3.14.2.2.2).
                if expiry_s.is_some_and(|seconds| seconds > 0) && self.expiry_s == 0 {
                    return self.end(Reason::Protocol, groups, out);
                }
                let expiry_s = expiry_s.unwrap_or(self.expiry_s);
                self.expiry_s = expiry_s.min(self.settings.expiry_s_max);
                if !keep_will {
                    self.will = None;
                }
                self.lose(groups, out);
            }
        }
    }

    fn connect(&mut self, mut connect: Box<Connect>, groups: &mut Groups, out: &mut Out) {
        let nameless = connect.client_id.is_empty();
        let bad_name = nameless && self.version == Version::V311 && !connect.clean;
        let will = connect.will.as_ref();
        let refused = if connect.has_method {
            Some(Reason::Method)
        } else if bad_name || connect.client_id.len() > CLIENT_ID_BYTES_MAX {
            Some(Reason::ClientId)
        } else if will.is_some_and(|will| !inward::may_publish(&will.publish.topic)) {
            Some(Reason::TopicInvalid)
        } else if connect.receive_max == 0 || connect.packet_bytes_max == 0 {
            Some(Reason::Protocol)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.counts.refused += 1;
            self.answer(&Answer::Refused(reason), out);
            return self.finish(groups, out);
        }
        let client_id = match nameless {
            true => format!("{}-{}", self.settings.nameless, self.number),
            false => std::mem::take(&mut connect.client_id),
        };
        self.assigned = nameless.then(|| client_id.clone());
        self.state = State::Joining;
        let token = connect.password.take().filter(|password| !password.is_empty());
        let clean = connect.clean;
        self.newcomer = Some(connect);
        out.join = Some(Join { client_id, token, clean });
    }

    /// A connection begins, on a session that is new or was `present`.
    fn begin(&mut self, connect: Connect, present: bool, out: &mut Out) {
        (self.state, self.heard, self.alive) = (State::Open, self.now, self.now);
        // One and a half times what the client promises (MQTT 5 §3.1.2.10).
        let seconds = u64::from(connect.keep_alive_s);
        self.keep_alive = (seconds > 0).then(|| Span::from_millis(seconds * 1_500));
        self.receive_max = usize::from(connect.receive_max).min(INFLIGHT_MAX);
        self.packet_max = connect.packet_bytes_max;
        self.wants_words = connect.wants_words;
        self.expiry_s = connect.expiry_s.min(self.settings.expiry_s_max);
        (self.ends, self.will_due, self.will) = (None, None, connect.will);
        self.topics = Topics::default();
        self.aliases = Aliases::new(connect.aliases_max);
        let connected = Answer::Connected {
            present,
            assigned: self.assigned.take(),
            receive_max: RECEIVE_MAX,
            expiry_s: self.expiry_s,
            aliases_max: aliases::ALIASES_MAX,
        };
        self.answer(&connected, out);
        self.pump(out);
    }

    fn answer(&mut self, answer: &Answer, out: &mut Out) {
        self.try_answer(answer, out);
    }

    /// `false`: it is longer than the client takes.
    fn try_answer(&mut self, answer: &Answer, out: &mut Out) -> bool {
        if self.state == State::Away {
            return true;
        }
        let written = wire::write(self.version, answer, self.packet_max, &mut out.packets);
        self.counts.packets_out += u64::from(written);
        written
    }

    /// Ends the connection on our behalf, and says why.
    fn end(&mut self, reason: Reason, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Open {
            self.answer(&Answer::Disconnect(reason), out);
        }
        self.lose(groups, out);
    }

    /// The end of the connection, whoever wanted it, and of a session that does not outlive it.
    fn lose(&mut self, groups: &mut Groups, out: &mut Out) {
        out.close = true;
        if self.state == State::Away {
            return;
        }
        if self.state != State::Open || self.expiry_s == 0 {
            return self.finish(groups, out);
        }
        self.state = State::Away;
        self.bytes.clear();
        self.forget_connection();
        groups.rest(self.number);
        self.ends = Some(self.now + Span::from_secs(u64::from(self.expiry_s)));
        match &self.will {
            Some(Will { delay_s: 0, .. }) => self.say_will(out),
            Some(Will { delay_s, .. }) => {
                self.will_due = Some(self.now + Span::from_secs(u64::from(*delay_s)));
            }
            None => {}
        }
    }

    fn finish_with(&mut self, reason: Reason, groups: &mut Groups, out: &mut Out) {
        if self.state == State::Open {
            self.answer(&Answer::Disconnect(reason), out);
        }
        self.finish(groups, out);
    }

    /// The end of the session: the will is said unless the client took it back.
    fn finish(&mut self, groups: &mut Groups, out: &mut Out) {
        self.say_will(out);
        for subscription in self.subscriptions.drain(..) {
            if let Some(group) = subscription.filter.group() {
                groups.leave(group, subscription.filter.as_str(), self.number);
            }
        }
        groups.wake(self.number);
        self.state = State::Ended;
        out.close = true;
    }

    fn say_will(&mut self, out: &mut Out) {
        self.will_due = None;
        if let Some(will) = self.will.take() {
            // Whether the router wants it, nobody is there to be told.
            let _ = self.say(&will.publish, out);
        }
    }

    /// Tells the log once that something of this client is refused.
    fn complain(&mut self, what: &str, why: &str, out: &mut Out) {
        self.counts.refused += 1;
        self.tell(|| format!("{what} is refused: {why}"), out);
    }

    fn tell(&mut self, words: impl FnOnce() -> String, out: &mut Out) {
        if !std::mem::replace(&mut self.complained, true) {
            out.complaint = Some(words());
        }
    }
}

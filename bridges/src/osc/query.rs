//! OSCQuery: the addresses of the bridge as JSON over HTTP, changes over a WebSocket.
//!
//! Source: the OSCQuery proposal of Vidvox. Any path of the tree answers `GET` with its node:
//! `FULL_PATH`, `ACCESS` (0 branch, 2 event, 3 param), `TYPE`, `VALUE`, `RANGE` where the
//! configuration gives one, and `CONTENTS`. `?VALUE` and the like ask for one of them, `?HOST_INFO`
//! for what is spoken here. A WebSocket to the same port takes `{"COMMAND": "LISTEN", "DATA":
//! "/path"}` and `IGNORE`, then gets each change of that address as one binary OSC message; binary
//! OSC that it sends counts like a datagram. `PATH_ADDED` tells of new addresses.

mod http;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use clasp_rt_core::time::{Span, Time};
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{Event, Transport, UNREAD_BYTES_MAX};
use serde_json::{Value as Json, json};

use super::known::Known;
use super::packet::{self, Message, Writer};
use super::value::{Width, write_arguments};
use super::{Config, QUERY_CONNECTIONS_MAX};
use crate::datum::Datum;
use crate::{Counters, Out, StreamId};
use http::{Asked, Request};

/// The longest answer; who asks for more is told to ask for a branch.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Addresses that one WebSocket listens to at most.
const LISTENS_MAX: usize = 4_096;

/// How soon an answer goes on that found no room.
const PAUSE: Span = Span::from_millis(10);

/// Serves every connection of a bridge.
pub struct Server {
    about: tree::About,
    width: Width,
    open: BTreeMap<StreamId, Connection>,
    due: Option<Time>,
    writer: Writer,
    packet: Vec<u8>,
}

struct Connection {
    received: Vec<u8>,
    /// What found no room yet, from `sent` on.
    outbox: Vec<u8>,
    sent: usize,
    /// Ends when the outbox is empty.
    ends: bool,
    talk: Talk,
}

enum Talk {
    Http,
    Socket {
        ws: Box<Ws>,
        listens: BTreeSet<String>,
        /// Addresses that changed while there was no room.
        missed: BTreeSet<String>,
    },
}

/// Bytes that all connections may take.
pub(super) fn memory_bytes_max() -> u64 {
    u64::from(QUERY_CONNECTIONS_MAX) * (BODY_BYTES_MAX + UNREAD_BYTES_MAX) as u64
}

impl Server {
    pub fn new(config: &Config) -> Self {
        Self {
            about: tree::About::new(config),
            width: if config.wide { Width::Wide } else { Width::Narrow },
            open: BTreeMap::new(),
            due: None,
            writer: Writer::default(),
            packet: Vec::new(),
        }
    }

    pub fn opened(&mut self, stream: StreamId) {
        let connection = Connection {
            received: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            ends: false,
            talk: Talk::Http,
        };
        self.open.insert(stream, connection);
    }

    pub fn ended(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    pub fn has(&self, stream: StreamId) -> bool {
        self.open.contains_key(&stream)
    }

    /// Takes the next bytes of a connection. Gives the OSC packets that came by WebSocket.
    pub(super) fn bytes(
        &mut self,
        now: Time,
        stream: StreamId,
        bytes: &[u8],
        known: &Known,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> Vec<Vec<u8>> {
        if let Some(connection) = self.open.get_mut(&stream) {
            connection.received.extend_from_slice(bytes);
        }
        self.proceed(now, stream, known, counters, out)
    }

    /// Answers what was received, as long as answers leave. Gives the OSC packets among it.
    fn proceed(
        &mut self,
        now: Time,
        stream: StreamId,
        known: &Known,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> Vec<Vec<u8>> {
        let Self { about, width, open, .. } = self;
        let Some(connection) = open.get_mut(&stream) else { return Vec::new() };
        let mut packets = Vec::new();
        loop {
            let before = connection.received.len();
            if matches!(connection.talk, Talk::Http) {
                connection.serve(about, *width, known, counters);
            }
            packets.extend(connection.converse(counters));
            connection.flush(stream, out);
            if !connection.outbox.is_empty() || connection.received.len() == before {
                break;
            }
        }
        self.flush(now, stream, out);
        packets
    }

    /// Tells who listens what a device said.
    pub(super) fn changed(
        &mut self,
        name: &str,
        message: &Message<'_>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if self.is_listened_to(name) {
            self.packet.clear();
            packet::copy_message(&mut self.packet, name, message);
            self.tell(name, counters, out);
        }
    }

    /// Tells who listens what the router said.
    pub(super) fn told(
        &mut self,
        name: &str,
        value: &Datum<'_>,
        tags: &str,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if self.is_listened_to(name) {
            write_arguments(&mut self.writer, value, tags, self.width);
            self.packet.clear();
            packet::write_message(&mut self.packet, name, &self.writer);
            self.tell(name, counters, out);
        }
    }

    /// Tells every WebSocket of a new address.
    pub(super) fn added(&mut self, name: &str, counters: &mut Counters, out: &mut dyn Out) {
        let text = json!({ "COMMAND": "PATH_ADDED", "DATA": name }).to_string();
        for (stream, connection) in &mut self.open {
            if let Talk::Socket { ws, .. } = &mut connection.talk
                && connection.outbox.is_empty()
                && ws.is_open()
            {
                ws.wrap_text(&text, &mut connection.outbox);
                counters.packets_out += 1;
                connection.flush(*stream, out);
            }
        }
    }

    fn is_listened_to(&self, name: &str) -> bool {
        self.open.values().any(|connection| match &connection.talk {
            Talk::Socket { listens, .. } => listens.contains(name),
            Talk::Http => false,
        })
    }

    fn tell(&mut self, name: &str, counters: &mut Counters, out: &mut dyn Out) {
        for (stream, connection) in &mut self.open {
            let Talk::Socket { ws, listens, missed } = &mut connection.talk else { continue };
            if !listens.contains(name) {
                continue;
            }
            if connection.outbox.is_empty() {
                ws.wrap(&self.packet, &mut connection.outbox);
                counters.packets_out += 1;
                connection.flush(*stream, out);
            } else {
                missed.insert(name.to_owned());
            }
        }
    }

    /// Sends what found no room, and what was missed meanwhile. Gives the OSC packets of pages that
    /// go on.
    pub(super) fn elapse(
        &mut self,
        now: Time,
        known: &Known,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> Vec<(StreamId, Vec<u8>)> {
        let mut said = Vec::new();
        if self.due.is_none_or(|due| due > now) {
            return said;
        }
        self.due = None;
        let streams: Vec<_> = self.open.keys().copied().collect();
        for stream in streams {
            self.flush(now, stream, out);
            if self.open.get(&stream).is_some_and(|connection| connection.outbox.is_empty()) {
                let packets = self.proceed(now, stream, known, counters, out);
                said.extend(packets.into_iter().map(|packet| (stream, packet)));
            }
            self.catch_up(stream, known, counters, out);
        }
        self.look(now);
        said
    }

    fn catch_up(
        &mut self,
        stream: StreamId,
        known: &Known,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let Some(connection) = self.open.get_mut(&stream) else { return };
        while connection.outbox.is_empty() {
            let Talk::Socket { ws, missed, .. } = &mut connection.talk else { return };
            let Some(name) = missed.pop_first() else { return };
            let held = known.get(&name).and_then(|entry| Some((entry, entry.value()?)));
            // Of an event that was missed nothing is left.
            let Some((entry, value)) = held else {
                counters.dropped += 1;
                continue;
            };
            write_arguments(&mut self.writer, &Datum::new(value), &entry.tags, self.width);
            self.packet.clear();
            packet::write_message(&mut self.packet, &name, &self.writer);
            ws.wrap(&self.packet, &mut connection.outbox);
            counters.packets_out += 1;
            connection.flush(stream, out);
        }
    }

    fn flush(&mut self, now: Time, stream: StreamId, out: &mut dyn Out) {
        let Some(connection) = self.open.get_mut(&stream) else { return };
        connection.flush(stream, out);
        if connection.ends && connection.outbox.is_empty() {
            self.open.remove(&stream);
            out.end_stream(stream);
        }
        self.look(now);
    }

    /// Asks to be called again while something waits for room.
    pub(super) fn look(&mut self, now: Time) {
        if self.open.values().any(|connection| !connection.outbox.is_empty()) {
            self.due.get_or_insert(now + PAUSE);
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.due
    }
}

impl Connection {
    /// Answers the requests that were received in whole, one after the other: the next waits until
    /// the last answer has left.
    fn serve(&mut self, about: &tree::About, width: Width, known: &Known, counters: &mut Counters) {
        while self.outbox.is_empty() && !self.ends {
            let (used, request) = match http::read(&self.received) {
                Asked::More => return,
                Asked::Wrong { status } => {
                    counters.malformed += 1;
                    http::answer(status, &json!({}), true, true, &mut self.outbox);
                    self.ends = true;
                    return;
                }
                Asked::Upgrade => {
                    let (listens, missed) = (BTreeSet::new(), BTreeSet::new());
                    self.talk = Talk::Socket { ws: Box::new(Ws::server()), listens, missed };
                    return;
                }
                Asked::For { used, request } => (used, request),
            };
            counters.packets_in += 1;
            let Request { path, query, body, lasts } = request;
            let (status, answer) = about.answer(&path, query.as_deref(), width, known);
            http::answer(status, &answer, body, !lasts, &mut self.outbox);
            if self.outbox.len() > BODY_BYTES_MAX {
                self.outbox.clear();
                http::answer(413, &json!({}), body, !lasts, &mut self.outbox);
                counters.overflowed += 1;
            }
            counters.packets_out += 1;
            self.ends = !lasts;
            self.received.drain(..used);
        }
    }

    /// Reads what a WebSocket said.
    fn converse(&mut self, counters: &mut Counters) -> Vec<Vec<u8>> {
        let Self { received, outbox, ends, talk, .. } = self;
        let Talk::Socket { ws, listens, missed } = talk else { return Vec::new() };
        let mut packets = Vec::new();
        while !*ends {
            match ws.peek(received, outbox) {
                Event::More => break,
                Event::Binary(packet) => packets.push(packet.to_vec()),
                Event::Text(text) => match Command::read(text) {
                    Some(Command::Listen(name)) if listens.len() < LISTENS_MAX => {
                        listens.insert(name);
                    }
                    Some(Command::Listen(_)) => counters.overflowed += 1,
                    Some(Command::Ignore(name)) => {
                        listens.remove(&name);
                        missed.remove(&name);
                    }
                    None => counters.malformed += 1,
                },
                Event::Opened | Event::Alive => {}
                Event::Ended(_) => *ends = true,
            }
            received.drain(..ws.advance().min(received.len()));
        }
        packets
    }

    fn flush(&mut self, stream: StreamId, out: &mut dyn Out) {
        let rest = self.outbox.get(self.sent..).unwrap_or_default();
        let (now, _) = rest.split_at(rest.len().min(out.stream_room(stream)));
        if !now.is_empty() {
            out.to_stream(stream, now);
            self.sent += now.len();
        }
        if self.sent >= self.outbox.len() {
            self.outbox.clear();
            self.sent = 0;
        }
    }
}

/// What a WebSocket wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Listen(String),
    Ignore(String),
}

impl Command {
    fn read(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let name = json.get("DATA")?.as_str()?.to_owned();
        match json.get("COMMAND")?.as_str()? {
            "LISTEN" => Some(Self::Listen(name)),
            "IGNORE" => Some(Self::Ignore(name)),
            _ => None,
        }
    }
}

//! OSC 1.0 and 1.1 over UDP and TCP, both ways, with OSCQuery.
//!
//! # Addresses and values
//!
//! `/1/fader3` is `/osc/1/fader3`; the namespace is stripped in whole segments on the way out. A
//! target may be told a part only, or by other names: see [`Target`].
//!
//! | OSC in | value | value | OSC out |
//! |---|---|---|---|
//! | no argument, `N` | null | null | no argument |
//! | `i` `h` | int | int | `i`, beyond 32 bits `h` |
//! | `f` `d` | float | float | `f` |
//! | `s` `S` | string | string | `s` |
//! | text that is not UTF-8 | bytes | bytes | `b` |
//! | `b` | bytes | map | its JSON text, `s` |
//! | `c` | string of one character | | |
//! | `T` `F` | bool | bool | `T` `F` |
//! | `I` | float infinity | | |
//! | `r` | array of four ints: red, green, blue, alpha | | |
//! | `m` | array of four ints: port, status, data, data | | |
//! | `t` | int, µs since 1970; null: immediately | | |
//! | `[ ]` | array | array inside an array | `[ ]` |
//! | several arguments | array | array | several arguments |
//!
//! The tags that last came from an address decide over the right half wherever the value fits them,
//! so that a desk that sent `,d` or `,r` is answered alike. `wide` makes `h` and `d` the rule.
//!
//! # In
//!
//! A message becomes a SET, or an event where `events` says so. A bundle becomes one BUNDLE that
//! the router applies at its time; bundles inside it belong to it, unless their time is later. A
//! tag more than `ahead_max_ms` ahead means a wrong clock: it is applied at once. A pattern
//! (`/*/fader?`) writes every address known so far that matches. Messages are also handed to the
//! other targets as they came, because the router does not send us what we wrote. What comes while
//! the router is away is told when it is back, of each param the last value. With `query`, a
//! message without arguments asks for what its address holds.
//!
//! Where the router arbitrates, each host is a source of its own (each port with `source_ports`),
//! and so is each connection, which is lost when it closes. A host is lost by the `timeout` of the
//! arbitration alone: nobody says good-bye in a datagram.
//!
//! # Out
//!
//! SETs and events below the namespace go to every target, to everybody who opened a TCP connection
//! and spoke, and to those who sent datagrams lately where `reply` says so. What the router says at
//! once, such as the messages of one BUNDLE, leaves as one bundle. A BUNDLE's own time is over when
//! it does: the router keeps it until then, and says no word of it before. The same value may come
//! back from a device: nothing is sent twice by us. A TCP peer that does not read misses what it
//! has no room for; once it reads again, it is told everything that is known. A TCP target is told
//! everything whenever its connection comes about.
//!
//! # OSCQuery
//!
//! `oscquery` serves the addresses over HTTP and changes over a WebSocket: see [`query`].

mod config;
pub mod framing;
mod known;
mod links;
mod outward;
pub mod packet;
mod pattern;
pub mod query;
mod rename;
mod sources;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use clasp_rt_core::pattern as clasp_pattern;
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::Time;
use clasp_rt_core::wire::binary::{self, code};
use clasp_rt_core::wire::header;
use clasp_rt_core::{address, message};

use crate::datum::Datum;
use crate::uplink::{Kind, Uplink};
use crate::{Announcement, Bridge, ConfigError, Counters, Input, Out, Peer, SocketPlan};
use crate::{StreamId, StreamPlan, namespace};
pub use config::{Config, Range, Repeat, Reply, ReplyWhere, Target};
use framing::Found;
use known::{Known, Noted};
use links::{Links, Use};
use outward::{End, Exit, Outward};
use packet::{Bundle, Message, Packet};
use query::Server;
use sources::Sources;
use time::TimeTag;
use value::push_value;

/// Different instants inside one datagram; messages of further ones are not applied.
const INSTANTS_MAX: usize = 16;

/// Addresses that one question is answered with at most.
const ANSWERS_MAX: usize = 1_024;

/// OSCQuery connections at once.
const QUERY_CONNECTIONS_MAX: u32 = 32;

/// As OSCQuery is announced.
const OSCQUERY: &str = "_oscjson._tcp";

/// Opens the bridge that `config` describes. Host names of datagram targets are looked up here,
/// once; those of TCP targets whenever they are connected to.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Osc::new(config).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Osc {
    config: Config,
    uplink: Uplink,
    known: Known,
    links: Links,
    sources: Sources,
    outward: Outward,
    server: Option<Server>,
    counters: Counters,
    /// When the wall clock was last told, and what it showed.
    clock: Option<(Time, u64)>,
    address: String,
    renamed: String,
    /// Who said what is in hand.
    from: Option<End>,
    /// It was said that OSC has no form for something.
    told_unsayable: bool,
}

impl Osc {
    fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut links = Links::new();
        if let Some(bind) = config.listen_tcp {
            links.listen(bind, config.connections_max, Use::Callers);
        }
        if let Some(bind) = config.oscquery {
            links.listen(bind, QUERY_CONNECTIONS_MAX, Use::Query);
        }
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()).rate(config.rate_hz_max),
            known: Known::new(config.addresses_max as usize),
            outward: Outward::new(&config, &mut links)?,
            links,
            sources: Sources::new(config.sources, config.source_ports),
            server: config.oscquery.map(|_| Server::new(&config)),
            counters: Counters::default(),
            clock: None,
            address: String::new(),
            renamed: String::new(),
            from: None,
            told_unsayable: false,
            config,
        })
    }

    fn packet(&mut self, now: Time, from: End, bytes: &[u8], out: &mut dyn Out) {
        let Ok(packet) = packet::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.packets_in += 1;
        self.from = Some(from);
        if let End::Datagrams(from) = from {
            self.outward.heard(now, from, &mut self.counters);
        }
        let voice = self.outward.voice_of(from, &self.links);
        if let Packet::Message(message) = &packet
            && self.config.query
            && message.tags.is_empty()
            && self.answer(from, voice, message.address, out)
        {
            return;
        }
        if self.config.relay {
            let Self { outward, links, counters, config, .. } = self;
            let mut exit = Exit { links, counters, out };
            outward.relay(now, from, &packet, bytes, &config.namespace, &mut exit);
        }
        match packet {
            Packet::Message(message) => {
                self.sources.speak(now, from, &mut self.uplink, &mut self.counters, out);
                self.apply(voice, &message, out);
                self.uplink.send(None, &mut self.counters, out);
            }
            Packet::Bundle(bundle) => self.bundle(now, from, voice, &bundle, out),
        }
    }

    /// Tells `from` what the addresses that `name` names hold. `false`: it is no question, because
    /// none of them holds anything.
    fn answer(&mut self, from: End, voice: usize, name: &str, out: &mut dyn Out) -> bool {
        let renamed = self.outward.inward(voice, name, &mut self.renamed);
        let name = renamed.unwrap_or(name).to_owned();
        let mut names = match pattern::is_pattern(&name) {
            true => self.known.matching(&name).unwrap_or_default(),
            false => vec![name],
        };
        let holds = |name: &String| {
            let value = self.known.get(name).and_then(|entry| entry.value());
            value.is_some_and(|value| Datum::new(value) != Datum::Null)
        };
        names.retain(holds);
        if names.is_empty() {
            return false;
        }
        self.counters.overflowed += names.len().saturating_sub(ANSWERS_MAX) as u64;
        names.truncate(ANSWERS_MAX);
        let Self { outward, links, counters, config, known, .. } = self;
        let mut exit = Exit { links, counters, out };
        outward.answer(from, &config.namespace, &names, known, &mut exit);
        true
    }

    /// Sends one BUNDLE for each instant inside `bundle`, the earliest first.
    fn bundle(
        &mut self,
        now: Time,
        from: End,
        voice: usize,
        bundle: &Bundle<'_>,
        out: &mut dyn Out,
    ) {
        let mut instants = BTreeSet::new();
        self.instants(now, bundle, None, &mut instants);
        for at_us in instants {
            self.sources.speak(now, from, &mut self.uplink, &mut self.counters, out);
            self.apply_due(now, voice, bundle, None, at_us, out);
            self.uplink.send(at_us, &mut self.counters, out);
        }
    }

    /// The instants of `bundle` and of those in it; `None` is at once. Depth was bounded when
    /// decoded.
    fn instants(
        &mut self,
        now: Time,
        bundle: &Bundle<'_>,
        outer: Option<u64>,
        instants: &mut BTreeSet<Option<u64>>,
    ) {
        let at_us = self.instant(now, bundle.time, outer);
        if instants.len() < INSTANTS_MAX || instants.contains(&at_us) {
            instants.insert(at_us);
        } else {
            self.counters.overflowed += 1;
        }
        for packet in bundle.packets() {
            if let Packet::Bundle(inner) = packet {
                self.instants(now, &inner, at_us, instants);
            }
        }
    }

    fn apply_due(
        &mut self,
        now: Time,
        voice: usize,
        bundle: &Bundle<'_>,
        outer: Option<u64>,
        due: Option<u64>,
        out: &mut dyn Out,
    ) {
        let at_us = self.instant(now, bundle.time, outer);
        for packet in bundle.packets() {
            match packet {
                Packet::Message(message) if at_us == due => self.apply(voice, &message, out),
                Packet::Message(_) => {}
                Packet::Bundle(inner) => self.apply_due(now, voice, &inner, at_us, due, out),
            }
        }
    }

    /// When a bundle with this tag is applied: not before the one around it, nor far ahead.
    fn instant(&self, now: Time, tag: TimeTag, outer: Option<u64>) -> Option<u64> {
        let at_us = tag.unix_us().and_then(|us| u64::try_from(us).ok());
        let is_near = |at_us: &u64| {
            self.clock.is_none_or(|(then, unix_us)| {
                let now_us = unix_us + now.since(then).as_micros();
                *at_us <= now_us + u64::from(self.config.ahead_max_ms) * 1_000
            })
        };
        // `None` sorts before every time.
        at_us.filter(is_near).max(outer)
    }

    /// Adds what `message` says, which came in `voice`, to what waits for the router.
    fn apply(&mut self, voice: usize, message: &Message<'_>, out: &mut dyn Out) {
        let mut renamed = std::mem::take(&mut self.renamed);
        let name = self.outward.inward(voice, message.address, &mut renamed);
        self.apply_as(name.unwrap_or(message.address), message, out);
        self.renamed = renamed;
    }

    fn apply_as(&mut self, name: &str, message: &Message<'_>, out: &mut dyn Out) {
        if !pattern::is_pattern(name) {
            self.write(name, message, out);
            return;
        }
        match self.known.matching(name) {
            None => self.counters.refused += 1,
            Some(names) if names.is_empty() => self.counters.dropped += 1,
            Some(names) => {
                for name in names {
                    self.write(&name, message, out);
                }
            }
        }
    }

    fn write(&mut self, name: &str, message: &Message<'_>, out: &mut dyn Out) {
        let Self { config, uplink, counters, address, .. } = self;
        address.clear();
        address.push_str(&config.namespace);
        address.push_str(name);
        if address::check(address).is_err() {
            counters.refused += 1;
            return;
        }
        let is_event = config.events.iter().any(|pattern| clasp_pattern::matches(pattern, address));
        let push = |bytes: &mut Vec<u8>| push_value(bytes, message);
        if is_event {
            uplink.publish(address, Signal::Event, push, counters, out);
        } else {
            uplink.set(address, push, counters, out);
        }
        // What a pattern wrote tells nothing of the tags that each address is used to.
        let is_own = !pattern::is_pattern(message.address);
        let kind = if is_event { known::Kind::Event } else { known::Kind::Param };
        let noted = match is_own {
            true => self.known.remember(name, message.tags, kind),
            false => self.known.remember_name(name, kind),
        };
        self.noted(name, noted, out);
        let missed = self.from.filter(|_| !self.uplink.is_joined());
        if !is_event && (self.holds_values() || missed.is_some()) {
            self.known.hold(name, |bytes| push_value(bytes, message));
        }
        if let Some(from) = missed.filter(|_| !is_event) {
            self.known.miss(name, from);
        }
        if let Some(server) = &mut self.server {
            server.changed(name, message, &mut self.counters, out);
        }
    }

    fn noted(&mut self, name: &str, noted: Noted, out: &mut dyn Out) {
        match (noted, &mut self.server) {
            (Noted::NotKept, _) => self.counters.overflowed += 1,
            (Noted::New, Some(server)) => server.added(name, &mut self.counters, out),
            _ => {}
        }
    }

    /// Whether somebody may ask for values, or miss them.
    fn holds_values(&self) -> bool {
        self.config.query || self.links.is_used()
    }

    fn join(&mut self, now: Time, out: &mut dyn Out) {
        let pattern = format!("{}/**", self.config.namespace);
        self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
        self.sources.forget_told();
        let holds_values = self.holds_values();
        let Self { config, uplink, known, sources, counters, address, .. } = self;
        let mut last = None;
        for (name, from, value) in known.missed() {
            if !sources.may_speak(from) {
                continue;
            }
            if last.replace(from) != Some(from) {
                uplink.send(None, counters, out);
                sources.speak(now, from, uplink, counters, out);
            }
            address.clear();
            address.push_str(&config.namespace);
            address.push_str(name);
            uplink.set(address, |bytes| Datum::new(value).append(bytes), counters, out);
        }
        uplink.send(None, counters, out);
        known.catch_up(holds_values);
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        // A router that keeps bundles whole says their time; ours says their messages in one turn.
        let dated = bundle_time(frame);
        if let Some(tag) = dated {
            let Self { outward, links, counters, .. } = self;
            outward.begin_bundle(now, tag, &mut Exit { links, counters, out });
        }
        let holds_values = self.holds_values();
        let Self { config, uplink, known, outward, links, server, told_unsayable, .. } = self;
        let mut unsayable = |address: &str, out: &mut dyn Out| {
            if !std::mem::replace(told_unsayable, true) {
                out.warn(&format!(
                    "OSC cannot say {address:?}: a name with one of space # * , ? [ ] {{ }}, or a \
                     text with U+0000 in it; it and others like it are counted as refused"
                ));
            }
        };
        uplink.hear(frame, &mut self.counters, out, &mut |uplink, update, counters, out| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            let name = namespace::strip(&config.namespace, update.address);
            let Some(name) = name.filter(|name| is_name(name)) else {
                counters.refused += 1;
                unsayable(update.address, out);
                return;
            };
            let kind = match update.kind {
                Kind::Passed(_) => known::Kind::Event,
                Kind::Held { .. } | Kind::Written => known::Kind::Param,
            };
            let noted = known.remember_name(name, kind);
            counters.overflowed += u64::from(noted == Noted::NotKept);
            if let (Noted::New, Some(server)) = (noted, &mut *server) {
                server.added(name, counters, out);
            }
            if holds_values && kind == known::Kind::Param {
                known.hold(name, |bytes| update.value.append(bytes));
            }
            if is_ours {
                return;
            }
            let tags = known.tags(name);
            if let Some(server) = server {
                server.told(name, &update.value, tags, counters, out);
            }
            let refused = counters.refused;
            let mut exit = Exit { links, counters, out };
            outward.write(now, update.address, name, &update.value, tags, &mut exit);
            if counters.refused > refused {
                unsayable(update.address, out);
            }
        });
        if dated.is_some() {
            let Self { outward, links, counters, .. } = self;
            outward.end_bundle(now, &mut Exit { links, counters, out });
        }
    }

    fn opened(&mut self, now: Time, stream: StreamId, plan: u8, peer: Peer<'_>, out: &mut dyn Out) {
        let Self { sources, uplink, counters, .. } = self;
        sources.opened(now, stream, peer, uplink, counters, out);
        match self.links.use_of(plan) {
            Some(Use::Query) => {
                if let Some(server) = &mut self.server {
                    server.opened(stream);
                }
            }
            Some(what) => {
                self.links.opened(stream, what);
                self.outward.look_at_once(now);
            }
            None => {}
        }
    }

    fn bytes(&mut self, now: Time, stream: StreamId, bytes: &[u8], out: &mut dyn Out) {
        if let Some(server) = &mut self.server
            && server.has(stream)
        {
            let said = server.bytes(now, stream, bytes, &self.known, &mut self.counters, out);
            for packet in said {
                self.packet(now, End::Stream(stream), &packet, out);
            }
            return;
        }
        let Some(first) = bytes.first() else { return };
        let Some(mut deframer) = self.links.lend(stream, *first) else { return };
        let from = End::Stream(stream);
        let whole = deframer.push(bytes, &mut |found| match found {
            Found::Packet(packet) => self.packet(now, from, packet, out),
            Found::Malformed => self.counters.malformed += 1,
        });
        if whole.is_err() {
            self.counters.malformed += 1;
            self.links.ended(stream);
            let Self { sources, uplink, counters, .. } = self;
            sources.ended(stream, uplink, counters, out);
            out.end_stream(stream);
        } else {
            self.links.give_back(stream, deframer);
            self.outward.look(now, &self.links);
        }
    }

    fn elapse(&mut self, now: Time, out: &mut dyn Out) {
        let Self { outward, links, counters, config, known, server, .. } = self;
        outward.elapse(now, &config.namespace, known, &mut Exit { links, counters, out });
        let said = server.as_mut().map(|server| server.elapse(now, known, counters, out));
        for (stream, packet) in said.unwrap_or_default() {
            self.packet(now, End::Stream(stream), &packet, out);
        }
    }
}

/// The time of a BUNDLE, as OSC dates it; `None` for everything else.
fn bundle_time(frame: &[u8]) -> Option<TimeTag> {
    let payload = header::parse(frame).ok()?.payload;
    if payload.first() != Some(&code::BUNDLE) {
        return None;
    }
    match binary::decode(payload).ok()? {
        message::Message::Bundle(bundle) => {
            let us = bundle.timestamp_us.and_then(|us| i64::try_from(us).ok());
            Some(us.map_or(TimeTag::IMMEDIATELY, TimeTag::from_unix_us))
        }
        _ => None,
    }
}

/// Whether OSC can name it: OSC 1.0 keeps these characters for patterns and tags.
fn is_name(name: &str) -> bool {
    name.len() > 1 && !name.contains([' ', '#', '*', ',', '?', '[', ']', '{', '}', '\0'])
}

impl Bridge for Osc {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        vec![SocketPlan {
            bind: self.config.bind,
            broadcast: true,
            // Several programs of one machine may hear one group.
            reuse_address: !self.config.multicast.is_empty(),
            multicast: self.config.multicast.clone(),
            skip_own: true,
        }]
    }

    fn streams(&self) -> Vec<StreamPlan> {
        self.links.plans()
    }

    fn announcements(&self) -> Vec<Announcement> {
        let Config { name, bind, listen_tcp, oscquery, mdns, .. } = &self.config;
        let services = [
            ("_osc._udp", Some(bind)),
            ("_osc._tcp", listen_tcp.as_ref()),
            (OSCQUERY, oscquery.as_ref()),
        ];
        let wanted = services.into_iter().filter(|_| *mdns);
        wanted
            .filter_map(|(service, bind)| {
                Some(Announcement { service, name: name.clone(), bind: *bind? })
            })
            .collect()
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        self.outward.begin(now);
        match input {
            Input::Joined => self.join(now, out),
            Input::Lost => self.uplink.lose(),
            Input::Packet { socket: 0, from, bytes } => {
                self.packet(now, End::Datagrams(from), bytes, out);
            }
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Opened { stream, plan, peer } => self.opened(now, stream, plan, peer, out),
            Input::Bytes { stream, bytes } => self.bytes(now, stream, bytes, out),
            Input::Ended { stream } => {
                self.links.ended(stream);
                self.sources.ended(stream, &mut self.uplink, &mut self.counters, out);
                if let Some(server) = &mut self.server {
                    server.ended(stream);
                }
            }
            Input::Frame(frame) => {
                self.frame(now, frame, out);
                self.outward.look(now, &self.links);
            }
            Input::Clock { unix_us } => {
                self.clock = Some((now, unix_us));
                self.outward.clock(now, unix_us);
            }
            Input::Deadline => self.elapse(now, out),
            Input::Stop => {
                let Self { outward, links, counters, .. } = self;
                outward.flush(now, &mut Exit { links, counters, out });
            }
        }
        if let Some(server) = &mut self.server {
            server.look(now);
        }
    }

    fn deadline(&self) -> Option<Time> {
        let server = self.server.as_ref().and_then(Server::deadline);
        self.outward.deadline().into_iter().chain(server).min()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory_bytes_max(&self) -> u64 {
        known::memory_bytes_max(self.config.addresses_max)
            + self.server.as_ref().map_or(0, |_| query::memory_bytes_max())
    }
}

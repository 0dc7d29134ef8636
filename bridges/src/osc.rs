//! OSC 1.0 over UDP, with what 1.1 added to addresses.
//!
//! # Addresses and values
//!
//! `/1/fader3` is `/osc/1/fader3`; the namespace is stripped in whole segments on the way out.
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
//! other targets as they came, because the router does not send us what we wrote.
//!
//! # Out
//!
//! SETs and events below the namespace go to every target, and to those who sent lately where
//! `reply` says so. The same value may come back from a device: nothing is sent twice by us.

mod known;
mod outward;
pub mod packet;
mod pattern;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::Time;
use clasp_rt_core::{address, pattern as clasp_pattern};
use serde::Deserialize;

use crate::uplink::{Kind, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, namespace};
use known::Known;
use outward::Outward;
use packet::{Bundle, Message, Packet};
use time::TimeTag;
use value::push_value;

/// Different instants inside one datagram; messages of further ones are not applied.
const INSTANTS_MAX: usize = 16;

/// `[[bridge]] type = "osc"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `osc`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Where to listen. Default `0.0.0.0:8000`.
    pub bind: SocketAddr,
    /// Whole segments that all addresses begin with. Default `/osc`.
    pub namespace: String,
    /// Who is told everything: `host:port`. Default none.
    pub targets: Vec<String>,
    /// Also tell those who sent lately: `"source"` at the port they sent from, or a port number at
    /// their address. Default: nobody.
    pub reply: Option<Reply>,
    /// Seconds after which a silent sender is told nothing more, 1-86400. Default 300.
    pub reply_timeout_s: u32,
    /// Hand what one target sends to the others. Default true.
    pub relay: bool,
    /// CLASP patterns of addresses that are events, not params: `/osc/cue/**`. Default none.
    pub events: Vec<String>,
    /// Send ints as `h` and floats as `d` where nothing is known of an address. Default false.
    pub wide: bool,
    /// Gather what leaves within this many milliseconds into one bundle, 0-1000. Default 0: every
    /// message is a datagram of its own.
    pub bundle_ms: u16,
    /// How far ahead, in milliseconds, the time of a bundle may lie, 0-60000. Default 10000.
    pub ahead_max_ms: u32,
    /// Addresses remembered with their tags, for answers and patterns, 0-1000000. Default 4096.
    pub addresses_max: u32,
    /// Changes a second that one address is told at most; the last one always is. Default: all.
    pub rate_hz_max: Option<u32>,
    /// Messages without arguments that keep a device awake. Default none.
    pub repeat: Vec<Repeat>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "osc".into(),
            token: None,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            namespace: "/osc".into(),
            targets: Vec::new(),
            reply: None,
            reply_timeout_s: 300,
            relay: true,
            events: Vec::new(),
            wide: false,
            bundle_ms: 0,
            ahead_max_ms: 10_000,
            addresses_max: 4_096,
            rate_hz_max: None,
            repeat: Vec::new(),
        }
    }
}

/// Where senders listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// At their IP address, on this port.
    Port(u16),
    Where(ReplyWhere),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyWhere {
    /// At the port they sent from.
    Source,
}

/// `{ address = "/xremote", every_s = 8 }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// As OSC names it, without the namespace.
    pub address: String,
    /// Seconds between two, 1-86400.
    pub every_s: u32,
}

/// Opens the bridge that `config` describes. Host names are looked up here, once.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Osc::new(config).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Osc {
    config: Config,
    uplink: Uplink,
    known: Known,
    outward: Outward,
    counters: Counters,
    /// When the wall clock was last told, and what it showed.
    clock: Option<(Time, u64)>,
    address: String,
}

impl Osc {
    fn new(config: Config) -> Result<Self, ConfigError> {
        namespace::check(&config.namespace)?;
        for (key, value, max) in [
            ("bundle_ms", u32::from(config.bundle_ms), 1_000),
            ("ahead_max_ms", config.ahead_max_ms, 60_000),
            ("addresses_max", config.addresses_max, 1_000_000),
        ] {
            if value > max {
                return Err(ConfigError::new(key, format!("must be 0 to {max}")));
            }
        }
        for event in &config.events {
            clasp_pattern::check(event)
                .map_err(|error| ConfigError::new("events", format!("`{event}`: {error}")))?;
        }
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()).rate(config.rate_hz_max),
            known: Known::new(config.addresses_max as usize),
            outward: Outward::new(&config)?,
            counters: Counters::default(),
            clock: None,
            address: String::new(),
            config,
        })
    }

    fn packet(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut dyn Out) {
        let Ok(packet) = packet::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.packets_in += 1;
        self.outward.heard(now, from, &mut self.counters);
        if self.config.relay {
            self.outward.relay(now, from, bytes, &mut self.counters, out);
        }
        match packet {
            Packet::Message(message) => {
                self.apply(&message, out);
                self.uplink.send(None, &mut self.counters, out);
            }
            Packet::Bundle(bundle) => self.bundle(now, &bundle, out),
        }
    }

    /// Sends one BUNDLE for each instant inside `bundle`, the earliest first.
    fn bundle(&mut self, now: Time, bundle: &Bundle<'_>, out: &mut dyn Out) {
        let mut instants = BTreeSet::new();
        self.instants(now, bundle, None, &mut instants);
        for at_us in instants {
            self.apply_due(now, bundle, None, at_us, out);
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
        bundle: &Bundle<'_>,
        outer: Option<u64>,
        due: Option<u64>,
        out: &mut dyn Out,
    ) {
        let at_us = self.instant(now, bundle.time, outer);
        for packet in bundle.packets() {
            match packet {
                Packet::Message(message) if at_us == due => self.apply(&message, out),
                Packet::Message(_) => {}
                Packet::Bundle(inner) => self.apply_due(now, &inner, at_us, due, out),
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

    /// Adds what `message` says to what waits for the router.
    fn apply(&mut self, message: &Message<'_>, out: &mut dyn Out) {
        if !pattern::is_pattern(message.address) {
            if self.write(message.address, message, out) {
                let kept = self.known.remember(message.address, message.tags);
                self.counters.overflowed += u64::from(!kept);
            }
            return;
        }
        match self.known.matching(message.address) {
            None => self.counters.refused += 1,
            Some(names) if names.is_empty() => self.counters.dropped += 1,
            Some(names) => {
                for name in names {
                    self.write(&name, message, out);
                }
            }
        }
    }

    /// Whether `name` can be an address.
    fn write(&mut self, name: &str, message: &Message<'_>, out: &mut dyn Out) -> bool {
        let Self { config, uplink, counters, address, .. } = self;
        address.clear();
        address.push_str(&config.namespace);
        address.push_str(name);
        if address::check(address).is_err() {
            counters.refused += 1;
            return false;
        }
        let is_event = config.events.iter().any(|pattern| clasp_pattern::matches(pattern, address));
        let push = |bytes: &mut Vec<u8>| push_value(bytes, message);
        if is_event {
            uplink.publish(address, Signal::Event, push, counters, out);
        } else {
            uplink.set(address, push, counters, out);
        }
        true
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { config, uplink, known, outward, .. } = self;
        uplink.hear(frame, &mut self.counters, out, &mut |uplink, update, counters, out| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            let name = namespace::strip(&config.namespace, update.address);
            match name.filter(|name| is_name(name)) {
                Some(_) if is_ours => {}
                Some(name) => {
                    counters.overflowed += u64::from(!known.remember_name(name));
                    outward.write(now, name, &update.value, known.tags(name), counters, out);
                }
                None => counters.refused += 1,
            }
        });
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
            reuse_address: false,
            multicast: Vec::new(),
        }]
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        self.outward.begin(now);
        match input {
            Input::Joined => {
                let pattern = format!("{}/**", self.config.namespace);
                self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
            }
            Input::Lost => self.uplink.lose(),
            Input::Packet { socket: 0, from, bytes } => self.packet(now, from, bytes, out),
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
            Input::Clock { unix_us } => self.clock = Some((now, unix_us)),
            Input::Deadline => self.outward.elapse(now, &mut self.counters, out),
            Input::Stop => self.outward.flush(now, &mut self.counters, out),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.outward.deadline()
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

//! Foreign protocols as machines: packets in, CLASP frames out, and the other way round.
//!
//! A [`Bridge`] knows no socket, no clock and no thread. Whoever hosts it opens the sockets that it
//! asks for, connects it to a router, and carries bytes; equal inputs at equal times give equal
//! outputs, so that a bridge can be replayed from a capture and fuzzed as it is.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod artnet;
pub mod bind;
pub mod condition;
pub mod curve;
pub mod datum;
pub mod devices;
pub mod dmx;
pub mod expression;
pub mod json;
pub mod level;
pub mod map;
pub mod merge;
pub mod midi;
pub mod namespace;
pub mod osc;
pub mod patch;
pub mod read;
pub mod record;
#[cfg(test)]
mod rig;
pub mod routes;
pub mod sacn;
mod stream;
mod target;
pub mod transform;
pub mod universes;
mod uplink;
#[cfg(test)]
mod vectors;
pub mod words;

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use clasp_rt_core::time::Time;
use read::read;
pub use stream::{Peer, StreamId, StreamPlan};
pub use target::{is_ourselves, own_addresses};

/// One foreign protocol, both ways.
pub trait Bridge: Any + Send {
    /// What the router shows as its session name, and logs begin with.
    fn name(&self) -> &str;

    /// The UDP sockets it needs, in the order in which [`Input::Packet`] and [`Out::to_network`]
    /// count them. Asked for once.
    fn sockets(&self) -> Vec<SocketPlan> {
        Vec::new()
    }

    /// The byte streams it needs, in the order in which [`Input::Opened`] counts them, at most 255.
    /// Asked for once.
    fn streams(&self) -> Vec<StreamPlan> {
        Vec::new()
    }

    /// What the local network is told of it, where somebody asked for that.
    fn announcements(&self) -> Vec<Announcement> {
        Vec::new()
    }

    /// Applies `input` at `now`. `now` never goes back.
    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out);

    /// When [`Input::Deadline`] is due, if nothing happens first.
    fn deadline(&self) -> Option<Time>;

    /// Goes on as `next`, which a changed configuration opened and nobody has stepped, without
    /// missing a frame: over the same connection, with what both have in common as it was. Gives
    /// `next` back where that is not possible.
    fn succeed(
        &mut self,
        now: Time,
        next: Box<dyn Bridge>,
        out: &mut dyn Out,
    ) -> Result<(), Box<dyn Bridge>> {
        let _ = (now, out);
        Err(next)
    }

    /// What happened so far; only rises.
    fn counters(&self) -> Counters;

    /// Whether it has nothing to do until something succeeds it: it was told of none.
    fn is_vacant(&self) -> bool {
        false
    }

    /// Whether all that it wants to hear of others in its router reaches it from now on: only then
    /// is the world let in, so that nothing passes it by. `true` for who waits for nobody.
    fn is_settled(&self) -> bool {
        true
    }

    /// Whether, after [`Input::Stop`], there is more to say at [`Bridge::deadline`].
    fn has_last_words(&self) -> bool {
        false
    }

    /// What its configuration says that works, but perhaps not as it was meant, in sentences.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Addresses that it writes for others to send out, as far as its configuration has them: one
    /// slot of each universe is enough.
    fn writes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether all that it writes are slots, which some bridge is to send.
    fn fills_universes(&self) -> bool {
        false
    }

    /// Whether what is written at `address`, a slot, leaves by it; `None`: it is no slot of its
    /// namespace.
    fn sends(&self, _address: &str) -> Option<bool> {
        None
    }

    /// How many params it may write at the router by itself, if the network sends all it can; 0
    /// where that follows from nothing in its configuration.
    fn params_max(&self) -> u64 {
        0
    }

    /// Bytes that its tables may take beyond what every bridge takes, when all are full.
    fn memory_bytes_max(&self) -> u64 {
        0
    }
}

/// A service that the host announces by DNS-SD (RFC 6763).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Such as `_osc._udp`.
    pub service: &'static str,
    /// As people read it.
    pub name: String,
    /// Where it is served; at every address of the machine where that is unspecified.
    pub bind: SocketAddr,
}

/// One UDP socket that the host opens for a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPlan {
    pub bind: SocketAddr,
    /// Sending to broadcast addresses is allowed.
    pub broadcast: bool,
    /// Other programs of this machine may bind the same port (Art-Net's habit).
    pub reuse_address: bool,
    /// Groups to hear on the interface of `bind`; more may follow by [`Out::join`]. A socket with
    /// groups hears nothing that is sent to the address of `bind` itself, unless that is 0.0.0.0.
    pub multicast: Vec<IpAddr>,
    /// What comes from the very address and port of this socket is our own, come back: left out.
    /// Not for protocols whose programs share a port.
    pub skip_own: bool,
}

/// What happened to a bridge.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The router can be reached: say HELLO and SUBSCRIBE. What was said on an earlier connection
    /// is forgotten.
    Joined,
    /// The router is gone. Packets still come; what they say reaches nobody.
    Lost,
    /// One datagram of socket `socket`.
    Packet { socket: u8, from: SocketAddr, bytes: &'a [u8] },
    /// A stream of plan `plan` is open: bytes can be said, and will come.
    Opened { stream: StreamId, plan: u8, peer: Peer<'a> },
    /// The next bytes of a stream, in pieces of any length.
    Bytes { stream: StreamId, bytes: &'a [u8] },
    /// A stream is gone, by the other end or a fault; `stream` names nothing from now on.
    Ended { stream: StreamId },
    /// One CLASP frame of the router.
    Frame(&'a [u8]),
    /// What the wall clock shows now, in microseconds since the Unix epoch; at start, then about
    /// once a second.
    Clock { unix_us: u64 },
    /// The deadline passed.
    Deadline,
    /// The host is about to stop: whatever the network must hear last is said now.
    Stop,
}

/// Takes what a bridge decides. No call fails or waits: a host without room drops and counts.
pub trait Out {
    /// Bytes that can be said to the router before they wait long for it. Whoever can tell the
    /// newest state later, instead of every state now, waits while a frame exceeds it.
    fn room(&self) -> usize {
        usize::MAX
    }

    fn to_router(&mut self, frame: &[u8]);
    fn to_network(&mut self, socket: u8, to: SocketAddr, bytes: &[u8]);

    /// Joins one more group, on a socket that has groups from its beginning. Where that fails it is
    /// logged once: nothing of that group is heard.
    fn join(&mut self, _socket: u8, _group: IpAddr) {}

    /// Bytes that a stream takes now; 0 for one that is gone. Whoever finds too little knows that
    /// the other end does not read, and decides: to say it later, or to end the stream.
    fn stream_room(&self, _stream: StreamId) -> usize {
        0
    }

    /// Says all of `bytes`, or nothing where [`Out::stream_room`] is less; that is counted.
    fn to_stream(&mut self, _stream: StreamId, _bytes: &[u8]) {}

    /// Ends a stream once what was said has left, or after a while. Nothing more is heard of it.
    fn end_stream(&mut self, _stream: StreamId) {}

    /// Says what the person who runs the show should know, in a sentence. Seldom: it is logged.
    fn warn(&mut self, _what: &str) {}
}

/// What happened on a bridge, as plain numbers that only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets of the network that were understood.
    pub packets_in: u64,
    pub packets_out: u64,
    /// Frames of the router that were understood.
    pub frames_in: u64,
    pub frames_out: u64,
    /// Packets or frames that are not of their protocol.
    pub malformed: u64,
    /// Understood, but with no meaning on the other side: an address that cannot exist there, a
    /// value without a form.
    pub refused: u64,
    /// Understood and overtaken: late, a third source, replaced by something newer.
    pub dropped: u64,
    /// Not kept because a table of the bridge was full.
    pub overflowed: u64,
    /// Rings through devices that were stopped.
    pub loops: u64,
}

impl Counters {
    /// Every counter with the name under which it is exported.
    pub fn rows(&self) -> [(&'static str, u64); 9] {
        [
            ("packets_in", self.packets_in),
            ("packets_out", self.packets_out),
            ("frames_in", self.frames_in),
            ("frames_out", self.frames_out),
            ("malformed", self.malformed),
            ("refused", self.refused),
            ("dropped", self.dropped),
            ("overflowed", self.overflowed),
            ("loops", self.loops),
        ]
    }
}

/// The configuration of a bridge cannot work. The person who wrote it is at fault: says which key,
/// and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    pub why: String,
}

impl ConfigError {
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }

    /// The same of a key that lies in what `prefix` names.
    fn below(self, prefix: &str) -> Self {
        Self { key: format!("{prefix}{}", self.key), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for ConfigError {}

/// One kind of bridge, as a configuration names it.
pub struct Entry {
    pub name: &'static str,
    /// One line for people who choose.
    pub help: &'static str,
    /// Opens it from its table of the configuration file, without the key `type`.
    pub open: fn(serde_json::Value) -> Result<Box<dyn Bridge>, ConfigError>,
}

/// Every protocol that can be bridged, in the order of the documentation.
pub const BRIDGES: &[Entry] = &[
    Entry {
        name: "osc",
        help: "OSC over UDP and TCP, with OSCQuery: surfaces, audio and video programs, both ways",
        open: |table| osc::open(read(table)?),
    },
    Entry {
        name: "artnet",
        help: "Art-Net 4: DMX universes over UDP, both ways",
        open: |table| artnet::open(read(table)?),
    },
    Entry {
        name: "sacn",
        help: "sACN (E1.31): DMX universes over UDP multicast, with priorities, both ways",
        open: |table| sacn::open(read(table)?),
    },
    Entry {
        name: "patch",
        help: "functions of fixtures to slots of universes, and back",
        open: |table| patch::open(read(table)?),
    },
    Entry {
        name: "midi",
        help: "MIDI: keyboards, faders and sequencers at ports, virtual ports and serial lines",
        open: |table| midi::open(read(table)?),
    },
    Entry {
        name: "dmx",
        help: "DMX512 over USB: ENTTEC DMX USB Pro both ways, Open DMX out",
        open: |table| dmx::open(read(table)?),
    },
    Entry {
        name: "routes",
        help: "values of some addresses, changed, to others of the same router",
        open: |table| routes::open(read(table)?),
    },
];

/// Says what would be right where a number that a person wrote lies outside of its range.
pub fn check_range<N: PartialOrd + fmt::Display>(
    key: impl Into<String>,
    value: N,
    range: RangeInclusive<N>,
) -> Result<(), ConfigError> {
    match range.contains(&value) {
        true => Ok(()),
        false => {
            let why = format!("{value} must be {} to {}", range.start(), range.end());
            Err(ConfigError::new(key, why))
        }
    }
}

/// Says what would be right where nothing would ever be told.
pub fn check_rate(key: &str, rate_hz_max: Option<u32>) -> Result<(), ConfigError> {
    match rate_hz_max {
        Some(0) => {
            let why = "0 must be 1 or more; without the key every change is told";
            Err(ConfigError::new(key, why))
        }
        _ => Ok(()),
    }
}

/// What `next` is, where it is a `B`.
fn same_kind<B: Bridge>(next: Box<dyn Bridge>) -> Result<Box<B>, Box<dyn Bridge>> {
    if (&*next as &dyn Any).is::<B>() {
        // It is one, so nothing is lost on the way.
        (next as Box<dyn Any>).downcast().map_err(|_| unreachable!("it was asked"))
    } else {
        Err(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_of_its_range_is_told_with_what_would_be_right() {
        for inside in [1, 2, 44] {
            assert_eq!(check_range("rate_hz", inside, 1..=44), Ok(()));
        }
        let error = check_range("rate_hz", 45, 1..=44).expect_err("too much");
        assert_eq!(error.to_string(), "rate_hz: 45 must be 1 to 44");
        assert!(check_range("every_s", f64::NAN, 0.1..=1.0).is_err(), "no number at all");
    }

    #[test]
    fn every_bridge_opens_without_a_word_and_refuses_unknown_ones() {
        for entry in BRIDGES {
            let opened = (entry.open)(serde_json::json!({}));
            let bridge = opened.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert_eq!(bridge.name(), entry.name);
            let error = (entry.open)(serde_json::json!({ "colour": "red" })).err();
            assert!(error.expect("an error").to_string().contains("colour"), "{}", entry.name);
        }
    }
}

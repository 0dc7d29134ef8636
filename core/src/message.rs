//! Every CLASP message, borrowed from the bytes it was decoded from.
//!
//! Source: `wire.md` §4 (binary) and §6 (legacy MessagePack). Field names are the protocol's own.
//! Lists are views that were checked when decoded; walking them cannot fail.

use crate::signal::{Phase, Signal, SignalMask};
use crate::value::Value;
use crate::wire::list::{
    Announced, Features, Messages, Params, Patterns, Revisions, Samples, Signals,
};

#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    Hello(Hello<'a>),
    Welcome(Welcome<'a>),
    Announce(Announce<'a>),
    FederationSync(FederationSync<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe { id: u32 },
    Publish(Publish<'a>),
    Set(Set<'a>),
    Get { address: &'a str },
    Snapshot { params: Params<'a> },
    Replay(Replay<'a>),
    Bundle(Bundle<'a>),
    Sync(Sync),
    Ping,
    Pong,
    Ack(Ack<'a>),
    Error(ErrorReply<'a>),
    Query { pattern: &'a str },
    Result { signals: Signals<'a> },
}

/// The first message of a client.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// Any version is accepted.
    pub version: u8,
    pub features: Features<'a>,
    pub name: &'a str,
    /// `None` also where the wire carries an empty token.
    pub token: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    pub version: u8,
    pub features: Features<'a>,
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
    /// UUID v4, hyphenated lower case.
    pub session: &'a str,
    pub name: &'a str,
    pub token: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    pub namespace: &'a str,
    pub signals: Announced<'a>,
}

/// One announced signal; RESULT carries it without its metadata.
#[derive(Clone, Copy, Debug)]
pub struct SignalInfo<'a> {
    pub address: &'a str,
    pub signal: Signal,
    pub datatype: Option<&'a str>,
    pub access: Option<&'a str>,
    pub meta: Option<SignalMeta<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct SignalMeta<'a> {
    pub unit: Option<&'a str>,
    /// Smallest and largest value.
    pub range: Option<(f64, f64)>,
    pub default: Option<Value<'a>>,
    pub description: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct FederationSync<'a> {
    /// 1 declare namespaces, 2 request sync, 3 revision vector, 4 sync complete.
    pub op: u8,
    pub patterns: Patterns<'a>,
    pub revisions: Revisions<'a>,
    pub since_revision: Option<u64>,
    pub origin: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// Chosen by the client, unique in its session.
    pub id: u32,
    pub pattern: &'a str,
    pub types: SignalMask,
    pub options: SubscribeOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubscribeOptions {
    /// Deliveries a second and address at most; the newest value is always delivered in the end.
    pub max_rate: Option<u32>,
    /// Smallest numeric change worth delivering.
    pub epsilon: Option<f64>,
    /// How many of the newest stream samples of each address to deliver on subscribing.
    pub history: Option<u32>,
    /// How old, in milliseconds, delivered history may be.
    pub window: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Publish<'a> {
    pub address: &'a str,
    /// `None` only in legacy MessagePack; reads as an event.
    pub signal: Option<Signal>,
    pub value: Option<Value<'a>>,
    /// The same thing as `value` on the binary wire; only legacy MessagePack tells them apart.
    pub payload: Option<Value<'a>>,
    pub samples: Option<Samples<'a>>,
    /// Samples a second.
    pub rate: Option<u32>,
    /// The gesture's id; absent reads as 0.
    pub id: Option<u32>,
    /// `None` only in legacy MessagePack.
    pub phase: Option<Phase>,
    /// Microseconds since the Unix epoch.
    pub timestamp_us: Option<u64>,
    /// Keyframes; only legacy MessagePack carries them outside `value`.
    ///
    /// Given as the map value `{keyframes: [{time, value, easing, bezier}], loop, start_time,
    /// duration}`.
    pub timeline: Option<Value<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    pub address: &'a str,
    pub value: Value<'a>,
    /// The revision the writer believes to be current.
    pub revision: Option<u64>,
    pub lock: bool,
    pub unlock: bool,
    pub ttl: Option<Ttl>,
}

/// How long a param lives without being written: `wire.md` §4, SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Never,
    /// Seconds after the last write; below 2^31.
    Sliding(u32),
    /// Seconds after creation; below 2^31.
    Absolute(u32),
}

/// One entry of a SNAPSHOT.
#[derive(Clone, Copy, Debug)]
pub struct ParamValue<'a> {
    pub address: &'a str,
    pub value: Value<'a>,
    pub revision: u64,
    /// Session id of the last writer.
    pub writer: Option<&'a str>,
    /// Microseconds since the Unix epoch.
    pub timestamp_us: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    pub pattern: &'a str,
    pub from_us: Option<u64>,
    pub to_us: Option<u64>,
    pub limit: Option<u32>,
    pub types: SignalMask,
}

#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    /// When to apply it, in microseconds since the Unix epoch; `None`: at once.
    pub timestamp_us: Option<u64>,
    pub messages: Messages<'a>,
}

/// Clock synchronisation, microseconds. A request carries `t1` only.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub t1: u64,
    pub t2: Option<u64>,
    pub t3: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Ack<'a> {
    pub address: Option<&'a str>,
    pub revision: Option<u64>,
    pub locked: Option<bool>,
    pub holder: Option<&'a str>,
    pub correlation_id: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub struct ErrorReply<'a> {
    pub code: u16,
    pub message: &'a str,
    pub address: Option<&'a str>,
    pub correlation_id: Option<u32>,
}

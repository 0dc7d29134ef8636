//! Every CLASP message, borrowed from the bytes it was decoded from.
//!
//! Their layouts: [`crate::wire::binary`], [`crate::wire::msgpack`]. Field names are the protocol's
//! own.
//! Lists are views that were checked when decoded; walking them cannot fail.

use core::str;

use crate::error::Malformed;
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

pub type Publish<'a> = PublishOf<'a, &'a str>;

/// A PUBLISH; `A` is its address: text, or inside a shard bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishOf<'a, A> {
    pub address: A,
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

pub type Set<'a> = SetOf<'a, &'a str>;

/// A SET; `A` is its address: text, or inside a shard bytes.
#[derive(Clone, Copy, Debug)]
pub struct SetOf<'a, A> {
    pub address: A,
    pub value: Value<'a>,
    /// The revision the writer believes to be current.
    pub revision: Option<u64>,
    pub lock: bool,
    pub unlock: bool,
    pub ttl: Option<Ttl>,
}

/// A SET whose address is bytes. Inside a shard they are those of an address that was checked, if
/// not now then when it came for the first time.
pub(crate) type RawSet<'a> = SetOf<'a, &'a [u8]>;

/// A PUBLISH of which the same is true.
pub(crate) type RawPublish<'a> = PublishOf<'a, &'a [u8]>;

impl<'a, A> SetOf<'a, A> {
    fn with_address<B>(self, address: B) -> SetOf<'a, B> {
        let Self { address: _, value, revision, lock, unlock, ttl } = self;
        SetOf { address, value, revision, lock, unlock, ttl }
    }
}

impl<'a> Set<'a> {
    #[inline]
    pub(crate) fn raw(&self) -> RawSet<'a> {
        self.with_address(self.address.as_bytes())
    }
}

impl<'a> RawSet<'a> {
    #[inline]
    pub(crate) fn text(&self) -> Result<Set<'a>, Malformed> {
        Ok(self.with_address(text(self.address)?))
    }
}

impl<'a, A> PublishOf<'a, A> {
    fn with_address<B>(self, address: B) -> PublishOf<'a, B> {
        let Self { address: _, signal, value, payload, samples, .. } = self;
        let Self { rate, id, phase, timestamp_us, timeline, .. } = self;
        PublishOf {
            address,
            signal,
            value,
            payload,
            samples,
            rate,
            id,
            phase,
            timestamp_us,
            timeline,
        }
    }
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn raw(&self) -> RawPublish<'a> {
        self.with_address(self.address.as_bytes())
    }
}

impl<'a> RawPublish<'a> {
    #[inline]
    pub(crate) fn text(&self) -> Result<Publish<'a>, Malformed> {
        Ok(self.with_address(text(self.address)?))
    }
}

fn text(address: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(address).map_err(|_| Malformed::BadUtf8)
}

/// How long a param lives without being written, as a SET says it.
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

//! Payloads to messages, in the order of the codes.

use super::{
    Dialect, Nesting, TTL_ABSOLUTE, ack_flag, bundle_flag, code, error_flag, federation_flag,
    indicator, publish_flag, replay_flag, set_flag, subscribe_option, sync_flag,
};
use crate::error::Malformed;
use crate::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, Message, Publish, PublishOf,
    RawPublish, RawSet, Replay, Set, SetOf, Subscribe, SubscribeOptions, Sync, Ttl, Welcome,
};
use crate::signal::{Phase, Signal, SignalMask};
use crate::value::Value;
use crate::wire::list::{
    Announced, Features, Messages, Params, Patterns, Revisions, Samples, Signals,
};
use crate::wire::read::Reader;

/// The message of a binary payload; bytes after it are ignored, as the published decoders do.
///
/// The strictest part is inside bundles: legacy MessagePack is refused there.
#[inline]
pub fn decode(payload: &[u8]) -> Result<Message<'_>, Malformed> {
    match payload.split_first() {
        Some((&code::SET, body)) => set(&mut Reader::new(body)).map(Message::Set),
        Some((&code::PUBLISH, body)) => publish(&mut Reader::new(body)).map(Message::Publish),
        _ => decode_nested(payload, Dialect::Wire, &mut Nesting::default()),
    }
}

/// The SET that `body` is, behind its code, and how many bytes are left behind it. Whether its
/// address is text is not looked at; all else is.
#[inline(always)]
pub(crate) fn raw_set(body: &[u8]) -> Result<(RawSet<'_>, usize), Malformed> {
    let mut reader = Reader::new(body);
    match set_with(&mut reader, Reader::bytes) {
        Ok(set) => Ok((set, reader.rest().len())),
        Err(later) => Err(first_fault(body, later)),
    }
}

/// What is wrong with the SET in `body`, where `later` is: of two faults the first is told,
/// whatever is known of the address.
#[cold]
fn first_fault(body: &[u8], later: Malformed) -> Malformed {
    set(&mut Reader::new(body)).err().unwrap_or(later)
}

/// The same of a PUBLISH.
#[inline]
pub(crate) fn raw_publish(body: &[u8]) -> Result<RawPublish<'_>, Malformed> {
    publish_with(&mut Reader::new(body), Reader::bytes)
        .or_else(|_| publish(&mut Reader::new(body)).map(|publish| publish.raw()))
}

/// Gives address and value of each SET of a payload that is a SET, or a BUNDLE of nothing else, to
/// `take`, in their order and until that says `false`. Whether that was all: where something else
/// is in the payload, or something is wrong with it, some may have been given before.
///
/// Whether an address is text is not looked at.
#[inline]
pub fn each_set<'a>(payload: &'a [u8], mut take: impl FnMut(&'a [u8], Value<'a>) -> bool) -> bool {
    let mut one = |payload: &'a [u8]| match payload.split_first() {
        Some((&code::SET, body)) => {
            raw_set(body).is_ok_and(|(set, _)| take(set.address, set.value))
        }
        _ => false,
    };
    if payload.first() != Some(&code::BUNDLE) {
        return one(payload);
    }
    let Ok(mut bundle) = OpenBundle::new(payload) else { return false };
    loop {
        match bundle.next() {
            Ok(Some(payload)) if one(payload) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
}

/// A BUNDLE whose messages are taken one by one, and checked when they are.
pub(crate) struct OpenBundle<'a> {
    /// As [`Bundle::timestamp_us`].
    pub timestamp_us: Option<u64>,
    /// Its flags are those that are written for what it is.
    pub is_plain: bool,
    left: u16,
    payload: &'a [u8],
    reader: Reader<'a>,
    nesting: Nesting,
}

impl<'a> OpenBundle<'a> {
    /// Of a payload that begins with the code of a BUNDLE.
    pub(crate) fn new(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        reader.u8()?;
        let flags = reader.u8()?;
        let left = reader.u16()?;
        let timestamp_us = reader.optional(flags & bundle_flag::TIMESTAMP != 0, Reader::u64)?;
        let mut nesting = Nesting::default();
        nesting.enter()?;
        Ok(Self { timestamp_us, is_plain: flags == 0, left, payload, reader, nesting })
    }

    /// The payload of the next message.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.nesting.count_message()?;
        self.reader.bytes().map(Some)
    }

    /// Where the message behind the last one lies, or the end.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.payload.len() - self.reader.rest().len()
    }

    /// The message of a payload that [`Self::next`] gave, whatever it is.
    pub(crate) fn message(&mut self, payload: &'a [u8]) -> Result<Message<'a>, Malformed> {
        decode_nested(payload, Dialect::Wire, &mut self.nesting)
    }
}

pub(in crate::wire) fn decode_nested<'a>(
    payload: &'a [u8],
    dialect: Dialect,
    nesting: &mut Nesting,
) -> Result<Message<'a>, Malformed> {
    let Some((&code, body)) = payload.split_first() else {
        return Err(Malformed::EmptyPayload);
    };
    let reader = &mut Reader::new(body);
    Ok(match code {
        code::HELLO => Message::Hello(hello(reader)?),
        code::WELCOME => Message::Welcome(welcome(reader)?),
        code::ANNOUNCE => Message::Announce(announce(reader)?),
        code::FEDERATION_SYNC => Message::FederationSync(federation_sync(reader)?),
        code::SUBSCRIBE => Message::Subscribe(subscribe(reader)?),
        code::UNSUBSCRIBE => Message::Unsubscribe { id: reader.u32()? },
        code::PUBLISH => Message::Publish(match dialect {
            Dialect::Wire => publish(reader)?,
            Dialect::Legacy => legacy_publish::read(reader)?,
        }),
        code::SET => Message::Set(set(reader)?),
        code::GET => Message::Get { address: reader.str()? },
        code::SNAPSHOT => Message::Snapshot { params: Params::read(reader)? },
        code::REPLAY => Message::Replay(replay(reader)?),
        code::BUNDLE => Message::Bundle(bundle(reader, dialect, nesting)?),
        code::SYNC => Message::Sync(sync(reader)?),
        code::PING => Message::Ping,
        code::PONG => Message::Pong,
        code::ACK => Message::Ack(ack(reader)?),
        code::ERROR => Message::Error(error(reader)?),
        code::QUERY => Message::Query { pattern: reader.str()? },
        code::RESULT => Message::Result { signals: Signals::read(reader)? },
        code => return Err(Malformed::UnknownMessage { code }),
    })
}

fn hello<'a>(reader: &mut Reader<'a>) -> Result<Hello<'a>, Malformed> {
    Ok(Hello {
        version: reader.u8()?,
        features: Features::from_bits(reader.u8()?),
        name: reader.str()?,
        token: token(reader)?,
    })
}

fn welcome<'a>(reader: &mut Reader<'a>) -> Result<Welcome<'a>, Malformed> {
    Ok(Welcome {
        version: reader.u8()?,
        features: Features::from_bits(reader.u8()? & !Features::FEDERATION),
        time_us: reader.u64()?,
        session: reader.str()?,
        name: reader.str()?,
        token: token(reader)?,
    })
}

/// The field is always there; empty means none.
fn token<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Malformed> {
    let token = reader.str()?;
    Ok((!token.is_empty()).then_some(token))
}

fn announce<'a>(reader: &mut Reader<'a>) -> Result<Announce<'a>, Malformed> {
    Ok(Announce { namespace: reader.str()?, signals: Announced::read(reader)? })
}

fn federation_sync<'a>(reader: &mut Reader<'a>) -> Result<FederationSync<'a>, Malformed> {
    let op = reader.u8()?;
    if !(1..=4).contains(&op) {
        return Err(Malformed::BadFederationOp { op });
    }
    let patterns = Patterns::read(reader)?;
    let revisions = Revisions::read(reader)?;
    let flags = reader.u8()?;
    Ok(FederationSync {
        op,
        patterns,
        revisions,
        since_revision: reader.optional(flags & federation_flag::SINCE != 0, Reader::u64)?,
        origin: reader.optional(flags & federation_flag::ORIGIN != 0, Reader::str)?,
    })
}

fn subscribe<'a>(reader: &mut Reader<'a>) -> Result<Subscribe<'a>, Malformed> {
    let id = reader.u32()?;
    let pattern = reader.str()?;
    let types = SignalMask(reader.u8()?);
    let present = reader.u8()?;
    let options = SubscribeOptions {
        max_rate: reader.optional(present & subscribe_option::MAX_RATE != 0, Reader::u32)?,
        epsilon: reader.optional(present & subscribe_option::EPSILON != 0, Reader::f64)?,
        history: reader.optional(present & subscribe_option::HISTORY != 0, Reader::u32)?,
        window: reader.optional(present & subscribe_option::WINDOW != 0, Reader::u32)?,
    };
    Ok(Subscribe { id, pattern, types, options })
}

#[inline(always)]
fn publish<'a>(reader: &mut Reader<'a>) -> Result<Publish<'a>, Malformed> {
    publish_with(reader, Reader::str)
}

#[inline(always)]
fn publish_with<'a, A>(
    reader: &mut Reader<'a>,
    address: impl FnOnce(&mut Reader<'a>) -> Result<A, Malformed>,
) -> Result<PublishOf<'a, A>, Malformed> {
    let flags = reader.u8()?;
    let address = address(reader)?;
    let carries = reader.u8()?;
    let value = reader.optional(carries == indicator::VALUE, Value::read_tagged)?;
    let samples =
        reader.optional(carries == indicator::SAMPLES, |reader| reader.aside(Samples::read))?;
    let timestamp_us = reader.optional(flags & publish_flag::TIMESTAMP != 0, Reader::u64)?;
    let id = reader.optional(flags & publish_flag::ID != 0, Reader::u32)?;
    // The rate has no flag: four bytes more are a rate, whatever they are.
    let rate = reader.u32().ok();
    Ok(PublishOf {
        address,
        signal: Some(Signal::from_code(flags >> publish_flag::SIGNAL_SHIFT)),
        value,
        payload: None,
        samples,
        rate,
        id,
        phase: Some(Phase::from_code(flags)),
        timestamp_us,
        timeline: None,
    })
}

#[inline(always)]
fn set<'a>(reader: &mut Reader<'a>) -> Result<Set<'a>, Malformed> {
    set_with(reader, Reader::str)
}

#[inline(always)]
fn set_with<'a, A>(
    reader: &mut Reader<'a>,
    address: impl FnOnce(&mut Reader<'a>) -> Result<A, Malformed>,
) -> Result<SetOf<'a, A>, Malformed> {
    let flags = reader.u8()?;
    Ok(SetOf {
        address: address(reader)?,
        value: Value::read(flags & set_flag::VALUE_CODE, reader)?,
        revision: reader.optional(flags & set_flag::REVISION != 0, Reader::u64)?,
        lock: flags & set_flag::LOCK != 0,
        unlock: flags & set_flag::UNLOCK != 0,
        ttl: reader.optional(flags & set_flag::TTL != 0, Reader::u32)?.map(ttl),
    })
}

fn ttl(word: u32) -> Ttl {
    match word {
        0 => Ttl::Never,
        _ if word & TTL_ABSOLUTE != 0 => Ttl::Absolute(word & !TTL_ABSOLUTE),
        seconds => Ttl::Sliding(seconds),
    }
}

fn replay<'a>(reader: &mut Reader<'a>) -> Result<Replay<'a>, Malformed> {
    let flags = reader.u8()?;
    Ok(Replay {
        pattern: reader.str()?,
        from_us: reader.optional(flags & replay_flag::FROM != 0, Reader::u64)?,
        to_us: reader.optional(flags & replay_flag::TO != 0, Reader::u64)?,
        limit: reader.optional(flags & replay_flag::LIMIT != 0, Reader::u32)?,
        types: SignalMask(reader.u8()?),
    })
}

fn bundle<'a>(
    reader: &mut Reader<'a>,
    dialect: Dialect,
    nesting: &mut Nesting,
) -> Result<Bundle<'a>, Malformed> {
    let flags = reader.u8()?;
    let count = reader.u16()?;
    let timestamp_us = reader.optional(flags & bundle_flag::TIMESTAMP != 0, Reader::u64)?;
    nesting.enter()?;
    let messages = Messages::read(reader, count, dialect, nesting)?;
    nesting.leave();
    Ok(Bundle { timestamp_us, messages })
}

fn sync(reader: &mut Reader<'_>) -> Result<Sync, Malformed> {
    let flags = reader.u8()?;
    Ok(Sync {
        t1: reader.u64()?,
        t2: reader.optional(flags & sync_flag::T2 != 0, Reader::u64)?,
        t3: reader.optional(flags & sync_flag::T3 != 0, Reader::u64)?,
    })
}

fn ack<'a>(reader: &mut Reader<'a>) -> Result<Ack<'a>, Malformed> {
    let flags = reader.u8()?;
    Ok(Ack {
        address: reader.optional(flags & ack_flag::ADDRESS != 0, Reader::str)?,
        revision: reader.optional(flags & ack_flag::REVISION != 0, Reader::u64)?,
        locked: reader.optional(flags & ack_flag::LOCKED != 0, Reader::u8)?.map(|byte| byte != 0),
        holder: reader.optional(flags & ack_flag::HOLDER != 0, Reader::str)?,
        correlation_id: reader.optional(flags & ack_flag::CORRELATION != 0, Reader::u32)?,
    })
}

fn error<'a>(reader: &mut Reader<'a>) -> Result<ErrorReply<'a>, Malformed> {
    let code = reader.u16()?;
    let message = reader.str()?;
    let flags = reader.u8()?;
    Ok(ErrorReply {
        code,
        message,
        address: reader.optional(flags & error_flag::ADDRESS != 0, Reader::str)?,
        correlation_id: reader.optional(flags & error_flag::CORRELATION != 0, Reader::u32)?,
    })
}

/// The layout of a PUBLISH in [`Dialect::Legacy`], after the message code:
///
/// `u8 kind` | `u8 present` | `str address` | \[`value`\] | \[`payload`\] | \[samples\] |
/// \[`u64 timestamp_us`\] | \[`u32 id`\] | \[`u32 rate`\] | \[`timeline`\], each bracket where
/// `present` says so; values with their type code, samples with their `u16` count.
pub(in crate::wire) mod legacy_publish {
    use super::{Malformed, Phase, Publish, Reader, Samples, Signal, Value};

    /// In `kind`: a signal is given, its code in bits 6..4.
    pub const SIGNAL: u8 = 0x80;
    pub const SIGNAL_SHIFT: u8 = 4;
    /// In `kind`: a phase is given, its code in bits 2..0.
    pub const PHASE: u8 = 0x08;

    pub const VALUE: u8 = 0x01;
    pub const PAYLOAD: u8 = 0x02;
    pub const SAMPLES: u8 = 0x04;
    pub const TIMESTAMP: u8 = 0x08;
    pub const ID: u8 = 0x10;
    pub const RATE: u8 = 0x20;
    pub const TIMELINE: u8 = 0x40;

    pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Publish<'a>, Malformed> {
        let kind = reader.u8()?;
        let present = reader.u8()?;
        Ok(Publish {
            address: reader.str()?,
            signal: (kind & SIGNAL != 0).then_some(Signal::from_code(kind >> SIGNAL_SHIFT)),
            phase: (kind & PHASE != 0).then_some(Phase::from_code(kind)),
            value: reader.optional(present & VALUE != 0, Value::read_tagged)?,
            payload: reader.optional(present & PAYLOAD != 0, Value::read_tagged)?,
            samples: reader.optional(present & SAMPLES != 0, Samples::read)?,
            timestamp_us: reader.optional(present & TIMESTAMP != 0, Reader::u64)?,
            id: reader.optional(present & ID != 0, Reader::u32)?,
            rate: reader.optional(present & RATE != 0, Reader::u32)?,
            timeline: reader.optional(present & TIMELINE != 0, Value::read_tagged)?,
        })
    }
}

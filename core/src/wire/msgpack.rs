//! The legacy encoding, read only: MessagePack maps with named keys, put into the canonical form.
//!
//! The Python client still sends QUERY and BUNDLE this way. Answers are always binary, so nothing
//! writes it.

mod token;

use alloc::vec::Vec;
use core::str;

use super::Scratch;
use super::binary::{
    self, Dialect, Nesting, ack_flag, bundle_flag, code, error_flag, federation_flag,
    legacy_publish, replay_flag, set_flag, subscribe_option, sync_flag,
};
use super::list::{Features, meta_option, param_option, signal_option};
use crate::error::Malformed;
use crate::limits::{NESTING_MAX, PAYLOAD_BYTES_MAX};
use crate::message::{Message, Ttl};
use crate::signal::{Phase, Signal};
use crate::value;
use token::{Raw, Token, Unpacker};

/// Whether a payload that begins with `first` is legacy: a map of any size.
pub const fn begins_map(first: u8) -> bool {
    matches!(first, 0x80..=0x8F | 0xDE | 0xDF)
}

/// The message of a legacy payload; bytes after its map are ignored.
///
/// A message whose canonical form is longer than a frame is [`Malformed::TooLong`].
pub fn decode<'a>(payload: &'a [u8], scratch: &'a mut Scratch) -> Result<Message<'a>, Malformed> {
    let out = &mut scratch.canonical;
    out.clear();
    let map = Unpacker::new(payload).raw()?;
    put_message(&mut Canonical { out }, map, 0)?;
    binary::decode_nested(&scratch.canonical, Dialect::Legacy, &mut Nesting::default())
}

const fn bad(why: &'static str) -> Malformed {
    Malformed::BadMsgpack { why }
}

const MISSING: Malformed = bad("a required field is missing");

/// A field of a message, if its map has it.
#[derive(Clone, Copy)]
struct Field<'a>(Option<Raw<'a>>);

impl<'a> Field<'a> {
    /// Nil is a value here, not an absence.
    fn required(self) -> Result<Raw<'a>, Malformed> {
        self.0.ok_or(MISSING)
    }

    /// Nil is the same as absent.
    fn optional(self) -> Option<Raw<'a>> {
        self.0.filter(|raw| !raw.is_nil())
    }

    /// Absent is false; nil is refused, as the published decoder does.
    fn flag(self, bit: u8) -> Result<u8, Malformed> {
        let set = self.0.map_or(Ok(false), Raw::bool)?;
        Ok(if set { bit } else { 0 })
    }

    fn present(self, bit: u8) -> u8 {
        if self.optional().is_some() { bit } else { 0 }
    }
}

/// The fields with these `names`, in their order. Of a repeated field the last counts; others are
/// ignored.
fn fields<'a, const N: usize>(
    map: Raw<'a>,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], Malformed> {
    let mut fields = [Field(None); N];
    let mut unpacker = map.unpacker();
    for _ in 0..unpacker.map()? {
        let key = unpacker.str()?;
        let field = unpacker.raw()?;
        let known = names.iter().zip(&mut fields).find(|(name, _)| **name == key);
        if let Some((_, slot)) = known {
            *slot = Field(Some(field));
        }
    }
    Ok(fields)
}

/// Appends canonical bytes, never more than one frame's payload.
struct Canonical<'o> {
    out: &'o mut Vec<u8>,
}

impl Canonical<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.out.len() + bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn u8(&mut self, field: u8) -> Result<(), Malformed> {
        self.put(&[field])
    }

    fn u32(&mut self, field: u32) -> Result<(), Malformed> {
        self.put(&field.to_be_bytes())
    }

    fn u64(&mut self, field: u64) -> Result<(), Malformed> {
        self.put(&field.to_be_bytes())
    }

    fn f64(&mut self, field: f64) -> Result<(), Malformed> {
        self.put(&field.to_be_bytes())
    }

    fn length(&mut self, len: usize) -> Result<(), Malformed> {
        let len = u16::try_from(len).map_err(|_| Malformed::TooLong)?;
        self.put(&len.to_be_bytes())
    }

    fn bytes(&mut self, field: &[u8]) -> Result<(), Malformed> {
        self.length(field.len())?;
        self.put(field)
    }

    fn str(&mut self, field: &str) -> Result<(), Malformed> {
        self.bytes(field.as_bytes())
    }

    fn optional(
        &mut self,
        field: Field<'_>,
        put: impl FnOnce(&mut Self, Raw<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        field.optional().map_or(Ok(()), |raw| put(self, raw))
    }

    /// `u16` count and the items of a MessagePack array; an absent array is an empty one.
    fn list(
        &mut self,
        field: Field<'_>,
        mut put: impl FnMut(&mut Self, Raw<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let Some(raw) = field.optional() else {
            return self.length(0);
        };
        let mut items = raw.unpacker();
        let count = items.array()?;
        self.length(count as usize)?;
        for _ in 0..count {
            put(self, items.raw()?)?;
        }
        Ok(())
    }

    /// Type code and data.
    fn value(&mut self, raw: Raw<'_>) -> Result<(), Malformed> {
        self.tagged(&mut raw.unpacker(), 0)
    }

    fn tagged(&mut self, unpacker: &mut Unpacker<'_>, depth: usize) -> Result<(), Malformed> {
        let code_at = self.out.len();
        self.u8(value::code::NULL)?;
        self.out[code_at] = self.data(unpacker, depth)?;
        Ok(())
    }

    /// The data of a value alone; gives its type code.
    fn data(&mut self, unpacker: &mut Unpacker<'_>, depth: usize) -> Result<u8, Malformed> {
        Ok(match unpacker.token()? {
            Token::Nil => value::code::NULL,
            Token::Bool(flag) => {
                self.u8(u8::from(flag))?;
                value::code::BOOL
            }
            Token::Int(number) => {
                self.put(&number.to_be_bytes())?;
                value::code::I64
            }
            // Beyond i64: the published decoder reads a float.
            Token::BigInt(number) => {
                self.f64(number as f64)?;
                value::code::F64
            }
            Token::Float(number) => {
                self.f64(number)?;
                value::code::F64
            }
            Token::Str(text) => {
                self.str(text)?;
                value::code::STRING
            }
            // Readable bytes were always strings to the published routers; only what they refuse
            // is new.
            Token::Bin(bytes) => {
                self.bytes(bytes)?;
                match str::from_utf8(bytes) {
                    Ok(_) => value::code::STRING,
                    Err(_) => value::code::BYTES,
                }
            }
            Token::Array(_) | Token::Map(_) if depth == NESTING_MAX => {
                return Err(Malformed::TooDeep);
            }
            Token::Array(count) => {
                self.length(count as usize)?;
                for _ in 0..count {
                    self.tagged(unpacker, depth + 1)?;
                }
                value::code::ARRAY
            }
            Token::Map(count) => {
                self.length(count as usize)?;
                for _ in 0..count {
                    self.str(unpacker.str()?)?;
                    self.tagged(unpacker, depth + 1)?;
                }
                value::code::MAP
            }
        })
    }

    /// One entry of a map value.
    fn entry(&mut self, key: &str, raw: Raw<'_>) -> Result<(), Malformed> {
        self.str(key)?;
        self.value(raw)
    }
}

/// Bundles inside each other at most, in this encoding. Each level is gone over three times to find
/// its fields: four around 48 kB take 2 ms, each more adds 0.3 ms, and no published client nests
/// any.
const BUNDLES_MAX: usize = 4;

/// `depth`: how many bundles this message lies in.
fn put_message(out: &mut Canonical<'_>, map: Raw<'_>, depth: usize) -> Result<(), Malformed> {
    match kind_of(map)? {
        "HELLO" => put_hello(out, map),
        "WELCOME" => put_welcome(out, map),
        "ANNOUNCE" => put_announce(out, map),
        "FEDERATION_SYNC" => put_federation_sync(out, map),
        "SUBSCRIBE" => put_subscribe(out, map),
        "UNSUBSCRIBE" => {
            let [id] = fields(map, ["id"])?;
            out.u8(code::UNSUBSCRIBE)?;
            out.u32(id.required()?.u32()?)
        }
        "PUBLISH" => put_publish(out, map),
        "SET" => put_set(out, map),
        "GET" => put_named(out, code::GET, map, "address"),
        "SNAPSHOT" => {
            let [params] = fields(map, ["params"])?;
            params.required()?;
            out.u8(code::SNAPSHOT)?;
            out.list(params, put_param)
        }
        "REPLAY" => put_replay(out, map),
        "BUNDLE" => put_bundle(out, map, depth),
        "SYNC" => put_sync(out, map),
        "PING" => out.u8(code::PING),
        "PONG" => out.u8(code::PONG),
        "ACK" => put_ack(out, map),
        "ERROR" => put_error(out, map),
        "QUERY" => put_named(out, code::QUERY, map, "pattern"),
        "RESULT" => {
            let [signals] = fields(map, ["signals"])?;
            signals.required()?;
            out.u8(code::RESULT)?;
            out.list(signals, |out, signal| put_signal(out, signal, Meta::Dropped))
        }
        _ => Err(bad("the type is not one of the messages")),
    }
}

/// The `type` of a message, wherever it stands. Most senders write it first, so this looks no
/// further than it must: each bundle inside a bundle would be gone over once more.
fn kind_of(map: Raw<'_>) -> Result<&str, Malformed> {
    let mut unpacker = map.unpacker();
    for _ in 0..unpacker.map()? {
        if unpacker.str()? == "type" {
            return unpacker.str();
        }
        unpacker.raw()?;
    }
    Err(bad("a message needs a type"))
}

fn put_named(
    out: &mut Canonical<'_>,
    code: u8,
    map: Raw<'_>,
    name: &'static str,
) -> Result<(), Malformed> {
    let [field] = fields(map, [name])?;
    out.u8(code)?;
    out.str(field.required()?.str()?)
}

fn put_hello(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [version, features, name, token] = fields(map, ["version", "features", "name", "token"])?;
    out.u8(code::HELLO)?;
    out.u8(version.required()?.u8()?)?;
    out.u8(feature_bits(features)?)?;
    out.str(name.required()?.str()?)?;
    out.str(token.optional().map_or(Ok(""), Raw::str)?)
}

fn put_welcome(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [version, features, time, session, name, token] =
        fields(map, ["version", "features", "time", "session", "name", "token"])?;
    out.u8(code::WELCOME)?;
    out.u8(version.required()?.u8()?)?;
    out.u8(feature_bits(features)?)?;
    out.u64(time.required()?.u64()?)?;
    out.str(session.required()?.str()?)?;
    out.str(name.required()?.str()?)?;
    out.str(token.optional().map_or(Ok(""), Raw::str)?)
}

/// Features without a bit vanish, as they do in the binary encoding.
fn feature_bits(features: Field<'_>) -> Result<u8, Malformed> {
    names(features, |bits, name| Ok(bits | Features::bit_of(name).unwrap_or(0)))
}

/// No types and no known type mean all, here as in the binary encoding.
fn type_mask(types: Field<'_>) -> Result<u8, Malformed> {
    let mask = names(types, |mask, name| {
        let signal = Signal::from_name(name).ok_or(bad("a type is not a signal"))?;
        Ok(mask | 1 << signal.code())
    })?;
    Ok(if mask == 0 { 0xFF } else { mask })
}

/// Folds an array of strings into bits.
fn names(
    field: Field<'_>,
    mut fold: impl FnMut(u8, &str) -> Result<u8, Malformed>,
) -> Result<u8, Malformed> {
    let Some(raw) = field.optional() else { return Ok(0) };
    let mut items = raw.unpacker();
    (0..items.array()?).try_fold(0, |bits, _| fold(bits, items.str()?))
}

fn put_announce(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [namespace, signals] = fields(map, ["namespace", "signals"])?;
    out.u8(code::ANNOUNCE)?;
    out.str(namespace.required()?.str()?)?;
    out.list(signals, |out, signal| put_signal(out, signal, Meta::Kept))
}

/// ANNOUNCE carries metadata, RESULT none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meta {
    Kept,
    Dropped,
}

fn put_signal(out: &mut Canonical<'_>, map: Raw<'_>, keep: Meta) -> Result<(), Malformed> {
    let [address, kind, datatype, access, meta] =
        fields(map, ["address", "type", "datatype", "access", "meta"])?;
    let meta = if keep == Meta::Kept { meta } else { Field(None) };
    out.str(address.required()?.str()?)?;
    out.u8(signal(kind.required()?)?.code())?;
    out.u8(datatype.present(signal_option::DATATYPE)
        | access.present(signal_option::ACCESS)
        | meta.present(signal_option::META))?;
    out.optional(datatype, |out, raw| out.str(raw.str()?))?;
    out.optional(access, |out, raw| out.str(raw.str()?))?;
    out.optional(meta, put_meta)
}

fn put_meta(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [unit, range, default, description] =
        fields(map, ["unit", "range", "default", "description"])?;
    let present = unit.present(meta_option::UNIT)
        | range.present(meta_option::RANGE)
        | default.present(meta_option::DEFAULT)
        | description.present(meta_option::DESCRIPTION);
    out.u8(present)?;
    out.optional(unit, |out, raw| out.str(raw.str()?))?;
    out.optional(range, |out, raw| {
        let mut ends = raw.unpacker();
        if ends.array()? != 2 {
            return Err(bad("a range is two numbers"));
        }
        out.f64(ends.raw()?.f64()?)?;
        out.f64(ends.raw()?.f64()?)
    })?;
    out.optional(default, Canonical::value)?;
    out.optional(description, |out, raw| out.str(raw.str()?))
}

fn put_federation_sync(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [op, patterns, revisions, since_revision, origin] =
        fields(map, ["op", "patterns", "revisions", "since_revision", "origin"])?;
    out.u8(code::FEDERATION_SYNC)?;
    out.u8(match op.required()?.str()? {
        "DeclareNamespaces" => 1,
        "RequestSync" => 2,
        "RevisionVector" => 3,
        "SyncComplete" => 4,
        _ => return Err(bad("the federation operation is not defined")),
    })?;
    out.list(patterns, |out, pattern| out.str(pattern.str()?))?;
    match revisions.optional() {
        None => out.length(0)?,
        Some(raw) => {
            let mut entries = raw.unpacker();
            let count = entries.map()?;
            out.length(count as usize)?;
            for _ in 0..count {
                out.str(entries.str()?)?;
                out.u64(entries.raw()?.u64()?)?;
            }
        }
    }
    out.u8(
        since_revision.present(federation_flag::SINCE) | origin.present(federation_flag::ORIGIN)
    )?;
    out.optional(since_revision, |out, raw| out.u64(raw.u64()?))?;
    out.optional(origin, |out, raw| out.str(raw.str()?))
}

fn put_subscribe(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [id, pattern, types, options] = fields(map, ["id", "pattern", "types", "options"])?;
    out.u8(code::SUBSCRIBE)?;
    out.u32(id.required()?.u32()?)?;
    out.str(pattern.required()?.str()?)?;
    out.u8(type_mask(types)?)?;
    let Some(options) = options.optional() else {
        return out.u8(0);
    };
    let [max_rate, epsilon, history, window] =
        fields(options, ["max_rate", "epsilon", "history", "window"])?;
    let present = max_rate.present(subscribe_option::MAX_RATE)
        | epsilon.present(subscribe_option::EPSILON)
        | history.present(subscribe_option::HISTORY)
        | window.present(subscribe_option::WINDOW);
    out.u8(present)?;
    out.optional(max_rate, |out, raw| out.u32(raw.u32()?))?;
    out.optional(epsilon, |out, raw| out.f64(raw.f64()?))?;
    out.optional(history, |out, raw| out.u32(raw.u32()?))?;
    out.optional(window, |out, raw| out.u32(raw.u32()?))
}

fn put_publish(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [address, kind, value, payload, samples, rate, id, phase, timestamp, timeline] = fields(
        map,
        [
            "address",
            "signal",
            "value",
            "payload",
            "samples",
            "rate",
            "id",
            "phase",
            "timestamp",
            "timeline",
        ],
    )?;
    let kind =
        kind.optional().map(signal).transpose()?.map_or(0, |signal| {
            legacy_publish::SIGNAL | signal.code() << legacy_publish::SIGNAL_SHIFT
        });
    let phase = phase.optional().map(gesture_phase).transpose()?;
    out.u8(code::PUBLISH)?;
    out.u8(kind | phase.map_or(0, |phase| legacy_publish::PHASE | phase.code()))?;
    out.u8(value.present(legacy_publish::VALUE)
        | payload.present(legacy_publish::PAYLOAD)
        | samples.present(legacy_publish::SAMPLES)
        | timestamp.present(legacy_publish::TIMESTAMP)
        | id.present(legacy_publish::ID)
        | rate.present(legacy_publish::RATE)
        | timeline.present(legacy_publish::TIMELINE))?;
    out.str(address.required()?.str()?)?;
    out.optional(value, Canonical::value)?;
    out.optional(payload, Canonical::value)?;
    if samples.optional().is_some() {
        out.list(samples, |out, sample| out.f64(sample.f64()?))?;
    }
    out.optional(timestamp, |out, raw| out.u64(raw.u64()?))?;
    out.optional(id, |out, raw| out.u32(raw.u32()?))?;
    out.optional(rate, |out, raw| out.u32(raw.u32()?))?;
    out.optional(timeline, put_timeline)
}

fn signal(raw: Raw<'_>) -> Result<Signal, Malformed> {
    Signal::from_name(raw.str()?).ok_or(bad("the signal is not defined"))
}

fn gesture_phase(raw: Raw<'_>) -> Result<Phase, Malformed> {
    Phase::from_name(raw.str()?).ok_or(bad("the phase is not defined"))
}

/// Keyframes as a map value. The legacy key is `loop_`, because `loop` is a word of Rust.
fn put_timeline(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [keyframes, looped, start_time, duration] =
        fields(map, ["keyframes", "loop_", "start_time", "duration"])?;
    keyframes.required()?;
    let options = [("loop", looped), ("start_time", start_time), ("duration", duration)];
    let given = || options.iter().filter_map(|(key, field)| Some((*key, field.optional()?)));
    if looped.optional().is_some_and(|raw| raw.bool().is_err()) {
        return Err(bad("loop_ is true or false"));
    }
    for time in [start_time, duration].into_iter().filter_map(Field::optional) {
        time.u64()?;
    }
    out.u8(value::code::MAP)?;
    out.length(1 + given().count())?;
    out.str("keyframes")?;
    out.u8(value::code::ARRAY)?;
    out.list(keyframes, put_keyframe)?;
    for (key, raw) in given() {
        out.entry(key, raw)?;
    }
    Ok(())
}

fn put_keyframe(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [time, target, easing, bezier] = fields(map, ["time", "value", "easing", "bezier"])?;
    time.required()?.u64()?;
    target.required()?;
    if let Some(easing) = easing.optional() {
        easing.str()?;
    }
    if let Some(bezier) = bezier.optional() {
        let mut ends = bezier.unpacker();
        if ends.array()? != 4 {
            return Err(bad("a bezier is four numbers"));
        }
        for _ in 0..4 {
            ends.raw()?.f64()?;
        }
    }
    let given = [("time", time.0), ("value", target.0), ("easing", easing.optional())]
        .into_iter()
        .chain([("bezier", bezier.optional())])
        .filter_map(|(key, raw)| Some((key, raw?)));
    out.u8(value::code::MAP)?;
    out.length(given.clone().count())?;
    for (key, raw) in given {
        out.entry(key, raw)?;
    }
    Ok(())
}

fn put_set(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [address, value, revision, lock, unlock, ttl] =
        fields(map, ["address", "value", "revision", "lock", "unlock", "ttl"])?;
    let flags = revision.present(set_flag::REVISION)
        | lock.flag(set_flag::LOCK)?
        | unlock.flag(set_flag::UNLOCK)?
        | ttl.present(set_flag::TTL);
    out.u8(code::SET)?;
    let flags_at = out.out.len();
    out.u8(flags)?;
    out.str(address.required()?.str()?)?;
    let code = out.data(&mut value.required()?.unpacker(), 0)?;
    out.out[flags_at] = flags | code;
    out.optional(revision, |out, raw| out.u64(raw.u64()?))?;
    out.optional(ttl, |out, raw| out.u32(binary::ttl_word(time_to_live(raw)?)))
}

/// `"Never"`, `{"Sliding": seconds}` or `{"Absolute": seconds}`; a bare number is refused.
fn time_to_live(raw: Raw<'_>) -> Result<Ttl, Malformed> {
    const UNDEFINED: Malformed = bad("a ttl is Never, Sliding or Absolute");
    let mut unpacker = raw.unpacker();
    match unpacker.token()? {
        Token::Str("Never") => Ok(Ttl::Never),
        Token::Map(1) => match unpacker.str()? {
            "Sliding" => Ok(Ttl::Sliding(unpacker.raw()?.u32()?)),
            "Absolute" => Ok(Ttl::Absolute(unpacker.raw()?.u32()?)),
            _ => Err(UNDEFINED),
        },
        _ => Err(UNDEFINED),
    }
}

fn put_param(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [address, value, revision, writer, timestamp] =
        fields(map, ["address", "value", "revision", "writer", "timestamp"])?;
    out.str(address.required()?.str()?)?;
    out.value(value.required()?)?;
    out.u64(revision.required()?.u64()?)?;
    out.u8(writer.present(param_option::WRITER) | timestamp.present(param_option::TIMESTAMP))?;
    out.optional(writer, |out, raw| out.str(raw.str()?))?;
    out.optional(timestamp, |out, raw| out.u64(raw.u64()?))
}

fn put_replay(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [pattern, from, to, limit, types] =
        fields(map, ["pattern", "from", "to", "limit", "types"])?;
    out.u8(code::REPLAY)?;
    out.u8(from.present(replay_flag::FROM)
        | to.present(replay_flag::TO)
        | limit.present(replay_flag::LIMIT))?;
    out.str(pattern.required()?.str()?)?;
    out.optional(from, |out, raw| out.u64(raw.u64()?))?;
    out.optional(to, |out, raw| out.u64(raw.u64()?))?;
    out.optional(limit, |out, raw| out.u32(raw.u32()?))?;
    out.u8(type_mask(types)?)
}

fn put_bundle(out: &mut Canonical<'_>, map: Raw<'_>, depth: usize) -> Result<(), Malformed> {
    if depth == BUNDLES_MAX {
        return Err(Malformed::TooDeep);
    }
    let [timestamp, messages] = fields(map, ["timestamp", "messages"])?;
    let mut items = messages.required()?.unpacker();
    let count = items.array()?;
    out.u8(code::BUNDLE)?;
    out.u8(timestamp.present(bundle_flag::TIMESTAMP))?;
    out.length(count as usize)?;
    out.optional(timestamp, |out, raw| out.u64(raw.u64()?))?;
    for _ in 0..count {
        let length_at = out.out.len();
        out.length(0)?;
        put_message(out, items.raw()?, depth + 1)?;
        let length = (out.out.len() - length_at - 2) as u16; // A payload is never longer.
        out.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn put_sync(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [t1, t2, t3] = fields(map, ["t1", "t2", "t3"])?;
    out.u8(code::SYNC)?;
    out.u8(t2.present(sync_flag::T2) | t3.present(sync_flag::T3))?;
    out.u64(t1.required()?.u64()?)?;
    out.optional(t2, |out, raw| out.u64(raw.u64()?))?;
    out.optional(t3, |out, raw| out.u64(raw.u64()?))
}

fn put_ack(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [address, revision, locked, holder, correlation_id] =
        fields(map, ["address", "revision", "locked", "holder", "correlation_id"])?;
    out.u8(code::ACK)?;
    out.u8(address.present(ack_flag::ADDRESS)
        | revision.present(ack_flag::REVISION)
        | locked.present(ack_flag::LOCKED)
        | holder.present(ack_flag::HOLDER)
        | correlation_id.present(ack_flag::CORRELATION))?;
    out.optional(address, |out, raw| out.str(raw.str()?))?;
    out.optional(revision, |out, raw| out.u64(raw.u64()?))?;
    out.optional(locked, |out, raw| out.u8(u8::from(raw.bool()?)))?;
    out.optional(holder, |out, raw| out.str(raw.str()?))?;
    out.optional(correlation_id, |out, raw| out.u32(raw.u32()?))
}

fn put_error(out: &mut Canonical<'_>, map: Raw<'_>) -> Result<(), Malformed> {
    let [code, message, address, correlation_id] =
        fields(map, ["code", "message", "address", "correlation_id"])?;
    out.u8(code::ERROR)?;
    out.put(&code.required()?.u16()?.to_be_bytes())?;
    out.str(message.required()?.str()?)?;
    out.u8(address.present(error_flag::ADDRESS) | correlation_id.present(error_flag::CORRELATION))?;
    out.optional(address, |out, raw| out.str(raw.str()?))?;
    out.optional(correlation_id, |out, raw| out.u32(raw.u32()?))
}

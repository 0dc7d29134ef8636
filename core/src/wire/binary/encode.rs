//! Messages to payloads, in the order of the codes.

use alloc::vec::Vec;

use super::{
    TTL_ABSOLUTE, TooLong, ack_flag, bundle_flag, code, error_flag, federation_flag, indicator,
    publish_flag, replay_flag, set_flag, subscribe_option, sync_flag,
};
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, Message, Publish, PublishOf,
    RawPublish, Replay, Set, SetOf, Subscribe, Sync, Ttl, Welcome,
};
use crate::signal::{Phase, Qos, Signal};
use crate::value::Value;
use crate::wire::header::{self, FRAME_HEADER_LEN};
use crate::wire::list::Features;
use crate::wire::write::{flag, put_f64, put_str, put_u16, put_u32, put_u64};

/// Clears `out` and writes one whole frame into it; on an error `out` is empty.
#[inline]
pub fn encode(message: &Message<'_>, qos: Qos, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match message {
        Message::Set(set) => encode_set(set, qos, out),
        Message::Publish(publish) => encode_publish(publish, qos, out),
        _ => encode_with(qos, out, |out| put_message(message, out)),
    }
}

/// As [`encode`], a SET.
#[inline]
pub fn encode_set<A: AsRef<[u8]>>(
    set: &SetOf<'_, A>,
    qos: Qos,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    out.clear();
    let head = [code::SET, set_flags(set)];
    let body_len = set.value.data().len()
        + if set.revision.is_some() { 8 } else { 0 }
        + if set.ttl.is_some() { 4 } else { 0 };
    put_start(qos, head, set.address.as_ref(), body_len, out)?;
    put_set_body(set, out);
    Ok(())
}

/// As [`encode`], a PUBLISH.
#[inline]
pub fn encode_publish<A: AsRef<[u8]>>(
    publish: &PublishOf<'_, A>,
    qos: Qos,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    out.clear();
    let head = [code::PUBLISH, publish_flags(publish)];
    put_start(qos, head, publish.address.as_ref(), publish_body_len(publish), out)?;
    put_publish_body(publish, out);
    Ok(())
}

/// Whether `frame`, which `publish` was decoded from, is what [`encode_publish`] would write.
///
/// Then it can go on as it is. Each field lies in it as it would be written, in the same order; so
/// it can only differ in the bytes looked at here, or in length.
#[inline]
pub(crate) fn is_frame_of(frame: &[u8], publish: &RawPublish<'_>, qos: Qos) -> bool {
    let Some((found, payload)) = frame.split_first_chunk::<FRAME_HEADER_LEN>() else {
        return false;
    };
    header::encode(qos, payload.len()) == Ok(*found) && is_payload_of(payload, publish)
}

/// The same of a payload.
#[inline]
pub(crate) fn is_payload_of(payload: &[u8], publish: &RawPublish<'_>) -> bool {
    let address_len = publish.address.len();
    payload.len() == START_LEN + address_len + publish_body_len(publish)
        && payload[..2] == [code::PUBLISH, publish_flags(publish)]
        && payload[START_LEN + address_len] == carried(publish)
}

/// Code, flags and the length of the address, with which SET and PUBLISH begin.
pub(crate) const START_LEN: usize = 4;

/// The header, and a payload as far as its address; makes sure of room for the body behind it.
#[inline]
fn put_start(
    qos: Qos,
    [code, flags]: [u8; 2],
    address: &[u8],
    body_len: usize,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let payload_len = START_LEN + address.len() + body_len;
    // An address is shorter than its payload, so its length fits if that does.
    let [magic, header_flags, high, low] = header::encode(qos, payload_len)?;
    let [address_high, address_low] = (address.len() as u16).to_be_bytes();
    out.reserve(FRAME_HEADER_LEN + payload_len);
    let start = [magic, header_flags, high, low, code, flags, address_high, address_low];
    out.extend_from_slice(&start);
    out.extend_from_slice(address);
    Ok(())
}

fn encode_with(
    qos: Qos,
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> Result<(), TooLong> {
    out.clear();
    out.extend_from_slice(&[0; FRAME_HEADER_LEN]);
    let written = put(out).and_then(|()| header::encode(qos, out.len() - FRAME_HEADER_LEN));
    match written {
        Ok(header) => out[..FRAME_HEADER_LEN].copy_from_slice(&header),
        Err(TooLong) => out.clear(),
    }
    written.map(drop)
}

/// Appends the payload alone, at most 65535 bytes; on an error nothing.
pub fn append_payload(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let before = out.len();
    let mut written = put_message(message, out);
    if out.len() - before > PAYLOAD_BYTES_MAX {
        written = Err(TooLong);
    }
    written.inspect_err(|TooLong| out.truncate(before))
}

/// The quality that the published Rust encoder gives each message.
pub fn default_qos(message: &Message<'_>) -> Qos {
    match message {
        Message::Publish(publish) => qos_of_publish(publish.signal),
        Message::Bundle(_) => Qos::Commit,
        Message::Set(_)
        | Message::Subscribe(_)
        | Message::Unsubscribe { .. }
        | Message::Replay(_)
        | Message::FederationSync(_) => Qos::Confirm,
        Message::Hello(_)
        | Message::Welcome(_)
        | Message::Announce(_)
        | Message::Get { .. }
        | Message::Snapshot { .. }
        | Message::Sync(_)
        | Message::Ping
        | Message::Pong
        | Message::Ack(_)
        | Message::Error(_)
        | Message::Query { .. }
        | Message::Result { .. } => Qos::Fire,
    }
}

/// [`default_qos`] of a PUBLISH.
pub fn qos_of_publish(signal: Option<Signal>) -> Qos {
    match signal {
        Some(Signal::Event | Signal::Param) => Qos::Confirm,
        Some(Signal::Timeline) => Qos::Commit,
        Some(Signal::Stream | Signal::Gesture) | None => Qos::Fire,
    }
}

fn put_message(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match message {
        Message::Hello(hello) => put_hello(hello, out),
        Message::Welcome(welcome) => put_welcome(welcome, out),
        Message::Announce(announce) => put_announce(announce, out),
        Message::FederationSync(sync) => put_federation_sync(sync, out),
        Message::Subscribe(subscribe) => put_subscribe(subscribe, out),
        Message::Unsubscribe { id } => {
            out.push(code::UNSUBSCRIBE);
            put_u32(out, *id);
            Ok(())
        }
        Message::Publish(publish) => put_publish(publish, out),
        Message::Set(set) => put_set(set, out),
        Message::Get { address } => {
            out.push(code::GET);
            put_str(out, address)
        }
        Message::Snapshot { params } => {
            out.push(code::SNAPSHOT);
            params.put(out);
            Ok(())
        }
        Message::Replay(replay) => put_replay(replay, out),
        Message::Bundle(bundle) => put_bundle(bundle, out),
        Message::Sync(sync) => {
            put_sync(sync, out);
            Ok(())
        }
        Message::Ping => {
            out.push(code::PING);
            Ok(())
        }
        Message::Pong => {
            out.push(code::PONG);
            Ok(())
        }
        Message::Ack(ack) => put_ack(ack, out),
        Message::Error(error) => put_error(error, out),
        Message::Query { pattern } => {
            out.push(code::QUERY);
            put_str(out, pattern)
        }
        Message::Result { signals } => {
            out.push(code::RESULT);
            // As received, an entry may claim metadata that no RESULT carries.
            signals.put_anew(out)
        }
    }
}

fn put_hello(hello: &Hello<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&[code::HELLO, hello.version, hello.features.bits()]);
    put_str(out, hello.name)?;
    put_str(out, hello.token.unwrap_or_default())
}

fn put_welcome(welcome: &Welcome<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let features = welcome.features.bits() & !Features::FEDERATION;
    out.extend_from_slice(&[code::WELCOME, welcome.version, features]);
    put_u64(out, welcome.time_us);
    put_str(out, welcome.session)?;
    put_str(out, welcome.name)?;
    put_str(out, welcome.token.unwrap_or_default())
}

fn put_announce(announce: &Announce<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(code::ANNOUNCE);
    put_str(out, announce.namespace)?;
    announce.signals.put(out);
    Ok(())
}

fn put_federation_sync(sync: &FederationSync<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&[code::FEDERATION_SYNC, sync.op]);
    sync.patterns.put(out);
    sync.revisions.put(out);
    out.push(
        flag(sync.since_revision.is_some(), federation_flag::SINCE)
            | flag(sync.origin.is_some(), federation_flag::ORIGIN),
    );
    if let Some(since_revision) = sync.since_revision {
        put_u64(out, since_revision);
    }
    sync.origin.map_or(Ok(()), |origin| put_str(out, origin))
}

fn put_subscribe(subscribe: &Subscribe<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let options = &subscribe.options;
    out.push(code::SUBSCRIBE);
    put_u32(out, subscribe.id);
    put_str(out, subscribe.pattern)?;
    out.push(subscribe.types.0);
    out.push(
        flag(options.max_rate.is_some(), subscribe_option::MAX_RATE)
            | flag(options.epsilon.is_some(), subscribe_option::EPSILON)
            | flag(options.history.is_some(), subscribe_option::HISTORY)
            | flag(options.window.is_some(), subscribe_option::WINDOW),
    );
    if let Some(max_rate) = options.max_rate {
        put_u32(out, max_rate);
    }
    if let Some(epsilon) = options.epsilon {
        put_f64(out, epsilon);
    }
    if let Some(history) = options.history {
        put_u32(out, history);
    }
    if let Some(window) = options.window {
        put_u32(out, window);
    }
    Ok(())
}

fn put_publish(publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&[code::PUBLISH, publish_flags(publish)]);
    put_str(out, publish.address)?;
    put_publish_body(publish, out);
    Ok(())
}

/// The wire has no way to leave out signal and phase.
#[inline]
fn publish_flags<A>(publish: &PublishOf<'_, A>) -> u8 {
    let signal = publish.signal.unwrap_or(Signal::Event);
    let phase = publish.phase.unwrap_or(Phase::Start);
    signal.code() << publish_flag::SIGNAL_SHIFT
        | flag(publish.timestamp_us.is_some(), publish_flag::TIMESTAMP)
        | flag(publish.id.is_some(), publish_flag::ID)
        | phase.code()
}

/// The wire has room for one of value, payload and samples, in this order; for no timeline.
#[inline]
fn carried<A>(publish: &PublishOf<'_, A>) -> u8 {
    if value_of(publish).is_some() {
        indicator::VALUE
    } else if publish.samples.is_some() {
        indicator::SAMPLES
    } else {
        indicator::NOTHING
    }
}

#[inline]
fn value_of<'p, 'a, A>(publish: &'p PublishOf<'a, A>) -> Option<&'p Value<'a>> {
    publish.value.as_ref().or(publish.payload.as_ref())
}

/// What follows the address.
#[inline]
fn publish_body_len<A>(publish: &PublishOf<'_, A>) -> usize {
    let carried = match (value_of(publish), publish.samples) {
        (Some(value), _) => value.encoded_len(),
        (None, Some(samples)) => 2 + samples.as_bytes().len(),
        (None, None) => 0,
    };
    1 + carried
        + if publish.timestamp_us.is_some() { 8 } else { 0 }
        + if publish.id.is_some() { 4 } else { 0 }
        + if publish.rate.is_some() { 4 } else { 0 }
}

#[inline(always)]
fn put_publish_body<A>(publish: &PublishOf<'_, A>, out: &mut Vec<u8>) {
    if let Some(value) = value_of(publish) {
        out.extend_from_slice(&[indicator::VALUE, value.code()]);
        put_data(*value, out);
    } else if let Some(samples) = publish.samples {
        out.push(indicator::SAMPLES);
        samples.put(out);
    } else {
        out.push(indicator::NOTHING);
    }
    if let Some(timestamp_us) = publish.timestamp_us {
        put_u64(out, timestamp_us);
    }
    if let Some(id) = publish.id {
        put_u32(out, id);
    }
    if let Some(rate) = publish.rate {
        put_u32(out, rate);
    }
}

fn put_set(set: &Set<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&[code::SET, set_flags(set)]);
    put_str(out, set.address)?;
    put_set_body(set, out);
    Ok(())
}

#[inline]
fn set_flags<A>(set: &SetOf<'_, A>) -> u8 {
    flag(set.revision.is_some(), set_flag::REVISION)
        | flag(set.lock, set_flag::LOCK)
        | flag(set.unlock, set_flag::UNLOCK)
        | flag(set.ttl.is_some(), set_flag::TTL)
        | set.value.code()
}

/// Nearly all values are numbers of eight bytes, which are a store and not a call.
#[inline(always)]
fn put_data(value: Value<'_>, out: &mut Vec<u8>) {
    match value.data().as_array::<8>() {
        Some(number) => out.extend_from_slice(number),
        None => out.extend_from_slice(value.data()),
    }
}

#[inline(always)]
fn put_set_body<A>(set: &SetOf<'_, A>, out: &mut Vec<u8>) {
    put_data(set.value, out);
    if let Some(revision) = set.revision {
        put_u64(out, revision);
    }
    if let Some(ttl) = set.ttl {
        put_u32(out, ttl_word(ttl));
    }
}

/// Seconds lose their highest bit, and sliding 0 is never: the word cannot say otherwise.
pub(in crate::wire) fn ttl_word(ttl: Ttl) -> u32 {
    match ttl {
        Ttl::Never => 0,
        Ttl::Sliding(seconds) => seconds & !TTL_ABSOLUTE,
        Ttl::Absolute(seconds) => seconds | TTL_ABSOLUTE,
    }
}

fn put_replay(replay: &Replay<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(code::REPLAY);
    out.push(
        flag(replay.from_us.is_some(), replay_flag::FROM)
            | flag(replay.to_us.is_some(), replay_flag::TO)
            | flag(replay.limit.is_some(), replay_flag::LIMIT),
    );
    put_str(out, replay.pattern)?;
    if let Some(from_us) = replay.from_us {
        put_u64(out, from_us);
    }
    if let Some(to_us) = replay.to_us {
        put_u64(out, to_us);
    }
    if let Some(limit) = replay.limit {
        put_u32(out, limit);
    }
    out.push(replay.types.0);
    Ok(())
}

fn put_bundle(bundle: &Bundle<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&[
        code::BUNDLE,
        flag(bundle.timestamp_us.is_some(), bundle_flag::TIMESTAMP),
    ]);
    put_u16(out, bundle.messages.len() as u16); // A list never holds more.
    if let Some(timestamp_us) = bundle.timestamp_us {
        put_u64(out, timestamp_us);
    }
    bundle.messages.put(out)
}

fn put_sync(sync: &Sync, out: &mut Vec<u8>) {
    out.extend_from_slice(&[
        code::SYNC,
        flag(sync.t2.is_some(), sync_flag::T2) | flag(sync.t3.is_some(), sync_flag::T3),
    ]);
    put_u64(out, sync.t1);
    if let Some(t2) = sync.t2 {
        put_u64(out, t2);
    }
    if let Some(t3) = sync.t3 {
        put_u64(out, t3);
    }
}

fn put_ack(ack: &Ack<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(code::ACK);
    out.push(
        flag(ack.address.is_some(), ack_flag::ADDRESS)
            | flag(ack.revision.is_some(), ack_flag::REVISION)
            | flag(ack.locked.is_some(), ack_flag::LOCKED)
            | flag(ack.holder.is_some(), ack_flag::HOLDER)
            | flag(ack.correlation_id.is_some(), ack_flag::CORRELATION),
    );
    if let Some(address) = ack.address {
        put_str(out, address)?;
    }
    if let Some(revision) = ack.revision {
        put_u64(out, revision);
    }
    if let Some(locked) = ack.locked {
        out.push(u8::from(locked));
    }
    if let Some(holder) = ack.holder {
        put_str(out, holder)?;
    }
    if let Some(correlation_id) = ack.correlation_id {
        put_u32(out, correlation_id);
    }
    Ok(())
}

fn put_error(error: &ErrorReply<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(code::ERROR);
    put_u16(out, error.code);
    put_str(out, error.message)?;
    out.push(
        flag(error.address.is_some(), error_flag::ADDRESS)
            | flag(error.correlation_id.is_some(), error_flag::CORRELATION),
    );
    if let Some(address) = error.address {
        put_str(out, address)?;
    }
    if let Some(correlation_id) = error.correlation_id {
        put_u32(out, correlation_id);
    }
    Ok(())
}

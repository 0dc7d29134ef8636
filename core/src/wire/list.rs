//! The lists inside messages: views of checked bytes, copied by reference, walked without failing.
//!
//! A list is made by the decoder, or from bytes that [`List::append`] wrote:
//!
//! ```
//! use clasp_rt_core::wire::list::Patterns;
//!
//! let mut bytes = Vec::new();
//! Patterns::append(&mut bytes, "/light/**").expect("short");
//! Patterns::append(&mut bytes, "/cue/*").expect("short");
//! let patterns = Patterns::from_bytes(&bytes).expect("just written");
//! assert!(patterns.iter().eq(["/light/**", "/cue/*"]));
//! ```

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::TooLong;
use super::binary::{self, Dialect, Nesting};
use super::read::Reader;
use super::write::{flag, length, patch_u16, put_f64, put_str, put_u16, put_u64};
use crate::error::Malformed;
use crate::message::{Message, ParamValue, SignalInfo, SignalMeta};
use crate::signal::Signal;
use crate::value::{Value, push_value};

/// Params of a SNAPSHOT.
pub type Params<'a> = List<'a, kind::Param>;
/// Signals of an ANNOUNCE, with their metadata.
pub type Announced<'a> = List<'a, kind::Announced>;
/// Signals of a RESULT, which carries no metadata: no client would skip it.
pub type Signals<'a> = List<'a, kind::Listed>;
/// Patterns of a FEDERATION_SYNC.
pub type Patterns<'a> = List<'a, kind::Pattern>;
/// Addresses and their revisions, of a FEDERATION_SYNC.
pub type Revisions<'a> = List<'a, kind::Revision>;
/// Samples of a stream PUBLISH.
pub type Samples<'a> = List<'a, kind::Sample>;

/// A checked list of `K`; its items lie back to back, without the count.
#[derive(Clone, Copy)]
pub struct List<'a, K> {
    count: u16,
    bytes: &'a [u8],
    kind: PhantomData<K>,
}

impl<'a, K: Kind> List<'a, K> {
    pub const EMPTY: Self = Self { count: 0, bytes: &[], kind: PhantomData };

    /// The list whose items are all of `bytes`; at most 65535.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut count = 0u16;
        while !reader.rest().is_empty() {
            K::read(&mut reader)?;
            count = count.checked_add(1).ok_or(Malformed::TooLong)?;
        }
        Ok(Self { count, bytes, kind: PhantomData })
    }

    /// Appends one item to the bytes of a list; appends nothing where a string of it is too long.
    pub fn append(out: &mut Vec<u8>, item: K::Item<'_>) -> Result<(), TooLong> {
        let before = out.len();
        K::write(&item, out).inspect_err(|_| out.truncate(before))
    }

    /// `u16` count, then the items.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = reader.u16()?;
        let bytes = reader.span(|reader| K::check(reader, count))?;
        Ok(Self { count, bytes, kind: PhantomData })
    }

    /// `u16` count, then the items as they came.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_u16(out, self.count);
        out.extend_from_slice(self.bytes);
    }

    /// As [`Self::put`], each item written anew, without what its kind leaves out.
    pub(super) fn put_anew(self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_u16(out, self.count);
        self.iter().try_for_each(|item| K::write(&item, out))
    }

    pub fn iter(self) -> Iter<'a, K> {
        Iter { left: self.count, reader: Reader::new(self.bytes), kind: PhantomData }
    }

    pub const fn len(self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a, K: Kind> IntoIterator for List<'a, K> {
    type Item = K::Item<'a>;
    type IntoIter = Iter<'a, K>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Kind> fmt::Debug for List<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The items of a [`List`]; they were checked with it, so none is missing.
#[derive(Clone)]
pub struct Iter<'a, K> {
    left: u16,
    reader: Reader<'a>,
    kind: PhantomData<K>,
}

impl<'a, K: Kind> Iterator for Iter<'a, K> {
    type Item = K::Item<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        K::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl<K: Kind> ExactSizeIterator for Iter<'_, K> {}

/// What a list is of: one layout of an item, both ways.
pub trait Kind: Copy {
    type Item<'a>: fmt::Debug;

    #[doc(hidden)]
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Self::Item<'a>, Malformed>;

    #[doc(hidden)]
    fn write(item: &Self::Item<'_>, out: &mut Vec<u8>) -> Result<(), TooLong>;

    #[doc(hidden)]
    fn check(reader: &mut Reader<'_>, count: u16) -> Result<(), Malformed> {
        (0..count).try_for_each(|_| Self::read(reader).map(drop))
    }
}

/// The kinds of [`List`], named by the aliases above.
pub mod kind {
    #[derive(Clone, Copy, Debug)]
    pub enum Param {}
    #[derive(Clone, Copy, Debug)]
    pub enum Announced {}
    #[derive(Clone, Copy, Debug)]
    pub enum Listed {}
    #[derive(Clone, Copy, Debug)]
    pub enum Pattern {}
    #[derive(Clone, Copy, Debug)]
    pub enum Revision {}
    #[derive(Clone, Copy, Debug)]
    pub enum Sample {}
}

/// Options of a SNAPSHOT entry.
pub(super) mod param_option {
    pub const WRITER: u8 = 0x01;
    pub const TIMESTAMP: u8 = 0x02;
}

impl Kind for kind::Param {
    type Item<'a> = ParamValue<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<ParamValue<'a>, Malformed> {
        let address = reader.str()?;
        let value = Value::read_tagged(reader)?;
        let revision = reader.u64()?;
        let options = reader.u8()?;
        Ok(ParamValue {
            address,
            value,
            revision,
            writer: reader.optional(options & param_option::WRITER != 0, Reader::str)?,
            timestamp_us: reader.optional(options & param_option::TIMESTAMP != 0, Reader::u64)?,
        })
    }

    fn write(param: &ParamValue<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_str(out, param.address)?;
        push_value(out, param.value);
        put_u64(out, param.revision);
        out.push(
            flag(param.writer.is_some(), param_option::WRITER)
                | flag(param.timestamp_us.is_some(), param_option::TIMESTAMP),
        );
        if let Some(writer) = param.writer {
            put_str(out, writer)?;
        }
        if let Some(timestamp_us) = param.timestamp_us {
            put_u64(out, timestamp_us);
        }
        Ok(())
    }
}

/// Options of a signal.
pub(super) mod signal_option {
    pub const DATATYPE: u8 = 0x01;
    pub const ACCESS: u8 = 0x02;
    pub const META: u8 = 0x04;
}

/// What the metadata of a signal holds.
pub(super) mod meta_option {
    pub const UNIT: u8 = 0x01;
    pub const RANGE: u8 = 0x02;
    pub const DEFAULT: u8 = 0x04;
    pub const DESCRIPTION: u8 = 0x08;
}

impl Kind for kind::Announced {
    type Item<'a> = SignalInfo<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<SignalInfo<'a>, Malformed> {
        read_signal(reader, signal_option::META)
    }

    fn write(signal: &SignalInfo<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
        write_signal(signal, signal.meta, out)
    }
}

impl Kind for kind::Listed {
    type Item<'a> = SignalInfo<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<SignalInfo<'a>, Malformed> {
        read_signal(reader, 0)
    }

    fn write(signal: &SignalInfo<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
        write_signal(signal, None, out)
    }
}

/// `meta_bit`: the bit that announces metadata, or 0 where none ever follows.
fn read_signal<'a>(reader: &mut Reader<'a>, meta_bit: u8) -> Result<SignalInfo<'a>, Malformed> {
    let address = reader.str()?;
    let signal = Signal::from_code(reader.u8()?);
    let options = reader.u8()?;
    Ok(SignalInfo {
        address,
        signal,
        datatype: reader.optional(options & signal_option::DATATYPE != 0, Reader::str)?,
        access: reader.optional(options & signal_option::ACCESS != 0, Reader::str)?,
        meta: reader.optional(options & meta_bit != 0, read_meta)?,
    })
}

fn write_signal(
    signal: &SignalInfo<'_>,
    meta: Option<SignalMeta<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    put_str(out, signal.address)?;
    out.push(signal.signal.code());
    out.push(
        flag(signal.datatype.is_some(), signal_option::DATATYPE)
            | flag(signal.access.is_some(), signal_option::ACCESS)
            | flag(meta.is_some(), signal_option::META),
    );
    if let Some(datatype) = signal.datatype {
        put_str(out, datatype)?;
    }
    if let Some(access) = signal.access {
        put_str(out, access)?;
    }
    meta.map_or(Ok(()), |meta| write_meta(&meta, out))
}

fn read_meta<'a>(reader: &mut Reader<'a>) -> Result<SignalMeta<'a>, Malformed> {
    let options = reader.u8()?;
    Ok(SignalMeta {
        unit: reader.optional(options & meta_option::UNIT != 0, Reader::str)?,
        range: reader.optional(options & meta_option::RANGE != 0, |reader| {
            Ok((reader.f64()?, reader.f64()?))
        })?,
        default: reader.optional(options & meta_option::DEFAULT != 0, Value::read_tagged)?,
        description: reader.optional(options & meta_option::DESCRIPTION != 0, Reader::str)?,
    })
}

fn write_meta(meta: &SignalMeta<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(
        flag(meta.unit.is_some(), meta_option::UNIT)
            | flag(meta.range.is_some(), meta_option::RANGE)
            | flag(meta.default.is_some(), meta_option::DEFAULT)
            | flag(meta.description.is_some(), meta_option::DESCRIPTION),
    );
    if let Some(unit) = meta.unit {
        put_str(out, unit)?;
    }
    if let Some((min, max)) = meta.range {
        put_f64(out, min);
        put_f64(out, max);
    }
    if let Some(default) = meta.default {
        push_value(out, default);
    }
    meta.description.map_or(Ok(()), |description| put_str(out, description))
}

impl Kind for kind::Pattern {
    type Item<'a> = &'a str;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
        reader.str()
    }

    fn write(pattern: &&str, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_str(out, pattern)
    }
}

impl Kind for kind::Revision {
    type Item<'a> = (&'a str, u64);

    fn read<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, u64), Malformed> {
        Ok((reader.str()?, reader.u64()?))
    }

    fn write(&(address, revision): &(&str, u64), out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_str(out, address)?;
        put_u64(out, revision);
        Ok(())
    }
}

impl Kind for kind::Sample {
    type Item<'a> = f64;

    fn read(reader: &mut Reader<'_>) -> Result<f64, Malformed> {
        reader.f64()
    }

    fn write(sample: &f64, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_f64(out, *sample);
        Ok(())
    }

    fn check(reader: &mut Reader<'_>, count: u16) -> Result<(), Malformed> {
        reader.take(usize::from(count) * size_of::<f64>()).map(drop)
    }
}

/// The messages of a BUNDLE, each a `u16` length and that many bytes of payload.
#[derive(Clone, Copy)]
pub struct Messages<'a> {
    dialect: Dialect,
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    pub const EMPTY: Self = Self { dialect: Dialect::Wire, count: 0, bytes: &[] };

    /// The first `count` messages of `bytes`, which [`Self::append`] wrote.
    pub fn from_payloads(bytes: &'a [u8], count: usize) -> Result<Self, Malformed> {
        let count = u16::try_from(count).map_err(|_| Malformed::TooLong)?;
        let mut nesting = Nesting::default();
        Self::read(&mut Reader::new(bytes), count, Dialect::Wire, &mut nesting)
    }

    /// The first `count` messages of `bytes`, which were checked before. What is no message after
    /// all ends the walk.
    pub(crate) fn of_checked(bytes: &'a [u8], count: u16) -> Self {
        Self { dialect: Dialect::Wire, count, bytes }
    }

    /// Appends one message to the bytes of a bundle; appends nothing where it is too long.
    pub fn append(out: &mut Vec<u8>, message: &Message<'_>) -> Result<(), TooLong> {
        let length_at = out.len();
        put_u16(out, 0);
        binary::append_payload(message, out)
            .and_then(|()| length(out.len() - length_at - 2))
            .map(|length| patch_u16(out, length_at, length))
            .inspect_err(|_| out.truncate(length_at))
    }

    pub(super) fn read(
        reader: &mut Reader<'a>,
        count: u16,
        dialect: Dialect,
        nesting: &mut Nesting,
    ) -> Result<Self, Malformed> {
        let bytes = reader.span(|reader| {
            (0..count).try_for_each(|_| {
                nesting.count_message()?;
                binary::decode_nested(reader.bytes()?, dialect, nesting).map(drop)
            })
        })?;
        Ok(Self { dialect, count, bytes })
    }

    /// The messages as the wire has them; a legacy one is written anew.
    pub(super) fn put(self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self.dialect {
            Dialect::Wire => {
                out.extend_from_slice(self.bytes);
                Ok(())
            }
            Dialect::Legacy => self.iter().try_for_each(|message| Self::append(out, &message)),
        }
    }

    pub fn iter(self) -> MessagesIter<'a> {
        MessagesIter { dialect: self.dialect, left: self.count, reader: Reader::new(self.bytes) }
    }

    pub const fn len(self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

impl<'a> IntoIterator for Messages<'a> {
    type Item = Message<'a>;
    type IntoIter = MessagesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The messages of a BUNDLE; they were checked with it, so none is missing.
#[derive(Clone)]
pub struct MessagesIter<'a> {
    dialect: Dialect,
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for MessagesIter<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let payload = self.reader.bytes().ok()?;
        match self.dialect {
            Dialect::Wire => binary::decode(payload).ok(),
            Dialect::Legacy => {
                binary::decode_nested(payload, self.dialect, &mut Nesting::default()).ok()
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for MessagesIter<'_> {}

/// What a peer says it can do: the feature byte of HELLO and WELCOME, all bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features<'a> {
    bits: u8,
    /// Every part of a message borrows from its frame alike; one byte has nothing to borrow.
    frame: PhantomData<&'a [u8]>,
}

impl Features<'_> {
    pub const PARAM: u8 = 0x80;
    pub const EVENT: u8 = 0x40;
    pub const STREAM: u8 = 0x20;
    pub const GESTURE: u8 = 0x10;
    pub const TIMELINE: u8 = 0x08;
    /// Only in HELLO; WELCOME neither writes nor reads it.
    pub const FEDERATION: u8 = 0x04;
    /// Ours alone: the sender wants no snapshot but those of its subscriptions, and an ACK with the
    /// pattern when such a snapshot is complete.
    pub const ASKED_ONLY: u8 = 0x02;
    /// Ours alone: the sender does not want to be sent its own SETs.
    pub const NO_ECHO: u8 = 0x01;

    /// The features that have a name, which legacy MessagePack uses.
    const NAMED: [(u8, &'static str); 6] = [
        (Self::PARAM, "param"),
        (Self::EVENT, "event"),
        (Self::STREAM, "stream"),
        (Self::GESTURE, "gesture"),
        (Self::TIMELINE, "timeline"),
        (Self::FEDERATION, "federation"),
    ];

    pub const fn from_bits(bits: u8) -> Self {
        Self { bits, frame: PhantomData }
    }

    pub const fn bits(self) -> u8 {
        self.bits
    }

    pub const fn contains(self, bits: u8) -> bool {
        self.bits & bits == bits
    }

    /// The bit of a named feature; others have none.
    pub fn bit_of(name: &str) -> Option<u8> {
        Self::NAMED.iter().find(|(_, named)| *named == name).map(|(bit, _)| *bit)
    }

    /// The names of the features that have one.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }

    pub fn len(self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

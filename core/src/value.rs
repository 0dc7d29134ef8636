//! A value as it lies on the wire: borrowed, already checked, copied only when kept.

use alloc::vec::Vec;
use core::str;

use crate::error::Malformed;
use crate::limits::NESTING_MAX;
use crate::wire::TooLong;
use crate::wire::read::Reader;
use crate::wire::write::{patch_u16, put_bytes, put_str, put_u16};

/// One value: a type code and its data, checked by the decoder down to the last nested byte.
///
/// Codes 0x00..=0x0B ([`code`]); integers and floats are big-endian. The bytes are kept as the
/// sender wrote them, so a value leaves the router with the type it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub(crate) code: u8,
    pub(crate) data: &'a [u8],
}

/// Type codes of values.
pub mod code {
    pub const NULL: u8 = 0x00;
    pub const BOOL: u8 = 0x01;
    pub const I8: u8 = 0x02;
    pub const I16: u8 = 0x03;
    pub const I32: u8 = 0x04;
    pub const I64: u8 = 0x05;
    pub const F32: u8 = 0x06;
    pub const F64: u8 = 0x07;
    pub const STRING: u8 = 0x08;
    pub const BYTES: u8 = 0x09;
    pub const ARRAY: u8 = 0x0A;
    pub const MAP: u8 = 0x0B;
}

impl<'a> Value<'a> {
    pub const NULL: Self = Self { code: code::NULL, data: &[] };

    /// The value of type `code` that `bytes` begin with, and how many of them it takes.
    pub fn parse(code: u8, bytes: &'a [u8]) -> Result<(Self, usize), Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(code, &mut reader)?;
        Ok((value, value.data.len()))
    }

    /// The value that `bytes` begin with: its type code, then its data.
    pub fn from_encoded(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_tagged(&mut Reader::new(bytes))
    }

    #[inline(always)]
    pub(crate) fn read(code: u8, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        // Nearly all values have a length that their type tells.
        let data = match WIDTH.get(usize::from(code)) {
            Some(&width) if width != VARYING => reader.take(usize::from(width))?,
            _ => reader.aside(|reader| varying(code, reader))?,
        };
        Ok(Self { code, data })
    }

    #[inline(always)]
    pub(crate) fn read_tagged(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let code = reader.u8()?;
        Self::read(code, reader)
    }

    /// One of [`code`].
    pub const fn code(self) -> u8 {
        self.code
    }

    /// What follows the type code on the wire.
    pub const fn data(self) -> &'a [u8] {
        self.data
    }

    /// Bytes that [`push_value`] writes: the type code and the data.
    pub const fn encoded_len(self) -> usize {
        1 + self.data.len()
    }

    pub const fn is_null(self) -> bool {
        self.code == code::NULL
    }

    pub fn as_bool(self) -> Option<bool> {
        match self.code {
            code::BOOL => self.reader().u8().ok().map(|byte| byte != 0),
            _ => None,
        }
    }

    /// Integers only; a float is no integer even where it has no fraction.
    pub fn as_i64(self) -> Option<i64> {
        let mut reader = self.reader();
        match self.code {
            code::I8 => reader.array().ok().map(i8::from_be_bytes).map(i64::from),
            code::I16 => reader.array().ok().map(i16::from_be_bytes).map(i64::from),
            code::I32 => reader.array().ok().map(i32::from_be_bytes).map(i64::from),
            code::I64 => reader.array().ok().map(i64::from_be_bytes),
            _ => None,
        }
    }

    /// Integers and floats; an integer beyond 2^53 is rounded.
    pub fn as_f64(self) -> Option<f64> {
        match self.code {
            code::F32 => self.reader().f32().ok().map(f64::from),
            code::F64 => self.reader().f64().ok(),
            _ => self.as_i64().map(|number| number as f64),
        }
    }

    pub fn as_str(self) -> Option<&'a str> {
        match self.code {
            code::STRING => self.reader().str().ok(),
            _ => None,
        }
    }

    /// Byte strings only; a string is [`Self::as_str`].
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        match self.code {
            code::BYTES => self.reader().bytes().ok(),
            _ => None,
        }
    }

    pub fn array(self) -> Option<Items<'a>> {
        let mut reader = self.reader();
        match self.code {
            code::ARRAY => reader.u16().ok().map(|left| Items { left, reader }),
            _ => None,
        }
    }

    /// Entries in the order of the sender, a repeated key as often as it was written.
    pub fn map(self) -> Option<Entries<'a>> {
        let mut reader = self.reader();
        match self.code {
            code::MAP => reader.u16().ok().map(|left| Entries { left, reader }),
            _ => None,
        }
    }

    /// The entry of a map; of a repeated key the last, as the published decoders read it.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.map()?.filter(|(found, _)| *found == key).last().map(|(_, value)| value)
    }

    fn reader(self) -> Reader<'a> {
        Reader::new(self.data)
    }
}

/// Bytes of the data of each type, in the order of the codes.
const WIDTH: [u8; 12] = [0, 1, 1, 2, 4, 8, 4, 8, VARYING, VARYING, VARYING, VARYING];
/// The data itself says how long it is.
const VARYING: u8 = u8::MAX;

/// The data of a value that says itself how long it is.
#[inline(never)]
fn varying<'a>(code: u8, reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    reader.span(|reader| check(code, reader, 0))
}

/// Goes over one value. Counts are believed only as far as there are bytes behind them.
fn check(code: u8, reader: &mut Reader<'_>, depth: usize) -> Result<(), Malformed> {
    match code {
        code::NULL..=code::F64 => reader.take(usize::from(WIDTH[usize::from(code)])).map(drop),
        code::STRING => reader.str().map(drop),
        code::BYTES => reader.bytes().map(drop),
        code::ARRAY | code::MAP if depth == NESTING_MAX => Err(Malformed::TooDeep),
        code::ARRAY => {
            for _ in 0..reader.u16()? {
                let code = reader.u8()?;
                check(code, reader, depth + 1)?;
            }
            Ok(())
        }
        code::MAP => {
            for _ in 0..reader.u16()? {
                reader.str()?;
                let code = reader.u8()?;
                check(code, reader, depth + 1)?;
            }
            Ok(())
        }
        code => Err(Malformed::UnknownValue { code }),
    }
}

/// The items of an array; they were checked with it, so none is missing.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Value::read_tagged(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The entries of a map; they were checked with it, so none is missing.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let key = self.reader.str().ok()?;
        Some((key, Value::read_tagged(&mut self.reader).ok()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// Appends type code and data, as [`Value::from_encoded`] reads them.
pub fn push_value(out: &mut Vec<u8>, value: Value<'_>) {
    out.push(value.code);
    out.extend_from_slice(value.data);
}

pub fn push_null(out: &mut Vec<u8>) {
    out.push(code::NULL);
}

pub fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(&[code::BOOL, u8::from(value)]);
}

/// Integers leave as 64 bits, as every published encoder writes them.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    out.push(code::I64);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    out.push(code::F64);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends nothing where `value` is longer than 65535 bytes.
pub fn push_str(out: &mut Vec<u8>, value: &str) -> Result<(), TooLong> {
    push_lengthy(out, code::STRING, |out| put_str(out, value))
}

/// Appends nothing where `value` is longer than 65535 bytes.
pub fn push_bytes(out: &mut Vec<u8>, value: &[u8]) -> Result<(), TooLong> {
    push_lengthy(out, code::BYTES, |out| put_bytes(out, value))
}

fn push_lengthy(
    out: &mut Vec<u8>,
    code: u8,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> Result<(), TooLong> {
    let before = out.len();
    out.push(code);
    put(out).inspect_err(|_| out.truncate(before))
}

/// Writes an array item by item. Its count is right after every item, so nothing needs finishing.
///
/// ```
/// use clasp_rt_core::value::{ArrayWriter, Value, push_i64};
///
/// let mut bytes = Vec::new();
/// let mut array = ArrayWriter::start(&mut bytes);
/// push_i64(array.item().expect("below 65536 items"), 7);
/// push_i64(array.item().expect("below 65536 items"), 8);
///
/// let value = Value::from_encoded(&bytes).expect("just written");
/// let items = value.array().expect("an array");
/// assert!(items.filter_map(Value::as_i64).eq([7, 8]));
/// ```
#[derive(Debug)]
pub struct ArrayWriter<'o> {
    counted: Counted<'o>,
}

impl<'o> ArrayWriter<'o> {
    pub fn start(out: &'o mut Vec<u8>) -> Self {
        Self { counted: Counted::start(out, code::ARRAY) }
    }

    /// Where to push exactly one value.
    pub fn item(&mut self) -> Result<&mut Vec<u8>, TooLong> {
        self.counted.count_one()
    }
}

/// Writes a map entry by entry, as [`ArrayWriter`] does an array.
#[derive(Debug)]
pub struct MapWriter<'o> {
    counted: Counted<'o>,
}

impl<'o> MapWriter<'o> {
    pub fn start(out: &'o mut Vec<u8>) -> Self {
        Self { counted: Counted::start(out, code::MAP) }
    }

    /// Where to push exactly one value, which `key` names. Appends nothing where `key` is too long.
    pub fn entry(&mut self, key: &str) -> Result<&mut Vec<u8>, TooLong> {
        crate::wire::write::length(key.len())?;
        let out = self.counted.count_one()?;
        put_str(out, key)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct Counted<'o> {
    out: &'o mut Vec<u8>,
    count_at: usize,
    count: u16,
}

impl<'o> Counted<'o> {
    fn start(out: &'o mut Vec<u8>, code: u8) -> Self {
        out.push(code);
        let count_at = out.len();
        put_u16(out, 0);
        Self { out, count_at, count: 0 }
    }

    fn count_one(&mut self) -> Result<&mut Vec<u8>, TooLong> {
        self.count = self.count.checked_add(1).ok_or(TooLong)?;
        patch_u16(self.out, self.count_at, self.count);
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_number_is_read() {
        let cases: [(u8, &[u8], _, _); 8] = [
            (code::I8, &[0x80], Some(-128), Some(-128.0)),
            (code::I16, &[0x80, 0], Some(-32_768), Some(-32_768.0)),
            (code::I32, &[0xFF, 0xFF, 0xFF, 0xFE], Some(-2), Some(-2.0)),
            (code::I64, &[0, 0, 0, 0, 0, 0, 1, 0], Some(256), Some(256.0)),
            (code::F32, &[0x3F, 0x80, 0, 0], None, Some(1.0)),
            (code::F64, &[0x3F, 0xE0, 0, 0, 0, 0, 0, 0], None, Some(0.5)),
            (code::BOOL, &[1], None, None),
            (code::NULL, &[], None, None),
        ];
        for (code, data, integer, float) in cases {
            let (value, consumed) = Value::parse(code, data).expect("a whole value");
            assert_eq!(consumed, data.len());
            assert_eq!((value.as_i64(), value.as_f64()), (integer, float), "{code:#04x} {data:?}");
        }
    }

    #[test]
    fn bytes_behind_a_value_are_not_part_of_it() {
        let (value, consumed) = Value::parse(code::STRING, &[0, 2, b'h', b'i', 9, 9]).expect("hi");
        assert_eq!((value.as_str(), consumed), (Some("hi"), 4));
        assert_eq!(value.data(), [0, 2, b'h', b'i']);
        assert_eq!(value.encoded_len(), 5);
    }

    #[test]
    fn of_a_repeated_key_the_last_entry_counts() {
        let mut bytes = Vec::new();
        let mut map = MapWriter::start(&mut bytes);
        push_i64(map.entry("k").expect("short"), 1);
        push_str(map.entry("s").expect("short"), "between").expect("short");
        push_i64(map.entry("k").expect("short"), 2);
        let value = Value::from_encoded(&bytes).expect("just written");
        assert_eq!(value.get("k").and_then(Value::as_i64), Some(2));
        assert_eq!(value.get("none"), None);
        assert_eq!(value.map().map(|entries| entries.len()), Some(3));
        assert_eq!(value.encoded_len(), bytes.len());
    }

    #[test]
    fn an_array_counts_to_65535_and_refuses_one_more() {
        let mut bytes = Vec::new();
        let mut array = ArrayWriter::start(&mut bytes);
        for _ in 0..65_535 {
            push_null(array.item().expect("there is room"));
        }
        assert_eq!(array.item().err(), Some(TooLong));
        let items = Value::from_encoded(&bytes).expect("just written").array().expect("an array");
        assert_eq!(items.count(), 65_535);
    }
}

//! A value as it lies on the wire: borrowed, already checked, copied only when kept.

/// One value: a type code and its data, checked by the decoder down to the last nested byte.
///
/// Source: `wire.md` §3. Codes 0x00..=0x0B; integers and floats are big-endian. The bytes are kept as
/// the sender wrote them, so a value leaves the router with the type it came with.
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

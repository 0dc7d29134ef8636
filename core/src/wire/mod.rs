//! Bytes to messages and back: the frame header, the binary encoding, the legacy MessagePack one.
//!
//! Source: the published packages, crate `clasp-core` 4.5.0, npm `@clasp-to/core` 3.3.2 and PyPI
//! `clasp-to` 4.2.0: what they write and read. `core/vectors/clasp.json` holds their bytes.
//!
//! Decoding borrows and checks everything once, down to the last nested byte; encoding refuses what
//! a length field cannot say instead of cutting it off.

pub mod binary;
pub mod header;
pub mod list;
pub mod msgpack;
pub(crate) mod read;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use crate::error::Malformed;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::message::Message;

/// A string, list or message is longer than its length field can say; our side is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("longer than the 65535 that a length field can say")
    }
}

impl core::error::Error for TooLong {}

/// Reused room for what a legacy message becomes in canonical form.
///
/// Empty by default; it grows to at most [`PAYLOAD_BYTES_MAX`] bytes when a legacy message arrives.
#[derive(Debug, Default)]
pub struct Scratch {
    canonical: Vec<u8>,
}

impl Scratch {
    /// Room for the longest message, so that decoding never allocates.
    pub fn with_capacity() -> Self {
        Self { canonical: Vec::with_capacity(PAYLOAD_BYTES_MAX) }
    }
}

/// The message of a frame's payload, whichever encoding it is in.
///
/// The first byte decides, not the header's version bits, because published clients set those
/// wrongly. A binary message borrows from `payload` alone, a legacy one from `scratch`.
#[inline]
pub fn decode<'a>(payload: &'a [u8], scratch: &'a mut Scratch) -> Result<Message<'a>, Malformed> {
    match payload.first() {
        Some(&first) if msgpack::begins_map(first) => msgpack::decode(payload, scratch),
        _ => binary::decode(payload),
    }
}

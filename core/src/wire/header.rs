//! The 4 or 12 byte header in front of every payload.
//!
//! The compressed and encrypted bits are ignored as the published decoders ignore them: no package
//! implements either, and a payload behind them is plain.

use crate::error::Malformed;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::signal::Qos;
use crate::wire::TooLong;
use crate::wire::read::Reader;

/// First byte of every frame: `S`.
pub const MAGIC: u8 = 0x53;

/// Bytes of a header without timestamp, the only kind that is written here.
pub const FRAME_HEADER_LEN: usize = 4;

const TIMESTAMP_LEN: usize = 8;
const TIMESTAMP_FLAG: u8 = 0x20;
/// Bits 2..0 of the flags; decoders look at the payload instead.
const VERSION_BINARY: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub qos: Qos,
    /// As received: QoS 0xC0, timestamp 0x20, encrypted 0x10, compressed 0x08, version 0x07.
    pub flags: u8,
    /// Microseconds; no published client sets it.
    pub timestamp_us: Option<u64>,
    pub payload_len: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}

/// Splits one transport message. Bytes after the declared payload are ignored, even a second frame.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Frame<'_>, Malformed> {
    let mut reader = Reader::new(frame);
    let short = Malformed::ShortHeader { need: FRAME_HEADER_LEN, got: frame.len() };
    let [magic, flags, length @ ..] = reader.array::<FRAME_HEADER_LEN>().map_err(|_| short)?;
    if magic != MAGIC {
        return Err(Malformed::BadMagic { found: magic });
    }
    let payload_len = u16::from_be_bytes(length);
    let need = total_len(flags, payload_len);
    let short = Malformed::ShortPayload { need, got: frame.len() };
    let timestamp_us =
        reader.optional(flags & TIMESTAMP_FLAG != 0, Reader::u64).map_err(|_| short)?;
    let payload = reader.take(usize::from(payload_len)).map_err(|_| short)?;
    let qos = Qos::from_code(flags >> 6);
    Ok(Frame { header: Header { qos, flags, timestamp_us, payload_len }, payload })
}

/// Length of the frame that `bytes` begin with; `None` as long as its header is incomplete.
///
/// For streams that carry frames back to back. The magic byte is not looked at.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let [_, flags, length @ ..] = *bytes.first_chunk::<FRAME_HEADER_LEN>()?;
    Some(total_len(flags, u16::from_be_bytes(length)))
}

/// The header of a frame that goes out.
#[inline]
pub fn encode(qos: Qos, payload_len: usize) -> Result<[u8; FRAME_HEADER_LEN], TooLong> {
    if payload_len > PAYLOAD_BYTES_MAX {
        return Err(TooLong);
    }
    let [high, low] = (payload_len as u16).to_be_bytes();
    Ok([MAGIC, qos.code() << 6 | VERSION_BINARY, high, low])
}

fn total_len(flags: u8, payload_len: u16) -> usize {
    let timestamp_len = if flags & TIMESTAMP_FLAG != 0 { TIMESTAMP_LEN } else { 0 };
    FRAME_HEADER_LEN + timestamp_len + usize::from(payload_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frames_length_is_known_from_its_first_four_bytes() {
        let cases: [(&[u8], Option<usize>); 6] = [
            (&[], None),
            (&[MAGIC, 0x01, 0x00], None),
            (&[MAGIC, 0x01, 0x00, 0x00], Some(4)),
            (&[MAGIC, 0x01, 0x00, 0x05, 0x41], Some(9)),
            (&[MAGIC, 0x21, 0x00, 0x05], Some(17)),
            (&[MAGIC, 0x21, 0xFF, 0xFF], Some(65_547)),
        ];
        for (bytes, len) in cases {
            assert_eq!(frame_len(bytes), len, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_header_that_was_written_is_read_back() {
        for qos in [Qos::Fire, Qos::Confirm, Qos::Commit] {
            let mut frame = encode(qos, 2).expect("two bytes fit").to_vec();
            frame.extend([0x41, 0x42]);
            let parsed = parse(&frame).expect("a whole frame");
            assert_eq!(parsed.header.qos, qos);
            assert_eq!(parsed.payload, [0x41, 0x42]);
            assert_eq!(frame_len(&frame), Some(frame.len()));
        }
        assert_eq!(encode(Qos::Fire, 65_536), Err(TooLong));
    }
}

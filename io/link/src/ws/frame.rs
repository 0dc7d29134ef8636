//! The header, mask and close body of one WebSocket frame: RFC 6455 §5 and §7.4. Pure.

use crate::{MESSAGE_BYTES_MAX, close};

/// Bytes of the longest header: two, eight of length, four of mask.
pub const HEADER_LEN_MAX: usize = 14;

/// Payload bytes of the longest control frame.
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7F;
const LEN_IS_U16: u8 = 126;
const LEN_IS_U64: u8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Everything before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    /// Bytes of this header.
    pub len: usize,
    /// Bytes of the payload, at most [`MESSAGE_BYTES_MAX`].
    pub payload_len: usize,
}

/// A rule that the peer broke, and the code to close with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub what: &'static str,
}

/// Who sent the frame: a client masks every frame, a server none (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` while it is not all there. What is already
    /// wrong with the first two bytes is said before the rest arrives.
    pub fn parse(bytes: &[u8], sender: Sender) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & RSV != 0 {
            return Err(breach("a reserved bit is set, and no extension was agreed"));
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(breach("the opcode is reserved"))?;
        let fin = first & FIN != 0;
        let masked = second & MASKED != 0;
        let short_len = second & LEN;
        match sender {
            Sender::Client if !masked => return Err(breach("a client's frame is not masked")),
            Sender::Server if masked => return Err(breach("a server's frame is masked")),
            _ => {}
        }
        if first & CONTROL != 0 && !fin {
            return Err(breach("a control frame is fragmented"));
        }
        if first & CONTROL != 0 && usize::from(short_len) > CONTROL_BYTES_MAX {
            return Err(breach("a control frame is longer than 125 bytes"));
        }
        let Some((payload_len, len_bytes)) = payload_len(short_len, rest)? else {
            return Ok(None);
        };
        let mask = if masked {
            match rest.get(len_bytes..).and_then(|rest| rest.first_chunk::<4>()) {
                Some(mask) => Some(*mask),
                None => return Ok(None),
            }
        } else {
            None
        };
        let len = 2 + len_bytes + if masked { 4 } else { 0 };
        Ok(Some(Self { fin, opcode, mask, len, payload_len }))
    }
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// The payload's length, and how many bytes behind the second say so; §5.2 wants the shortest form.
fn payload_len(short_len: u8, rest: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    let (len, len_bytes) = match short_len {
        LEN_IS_U16 => match rest.first_chunk() {
            Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 2),
            None => return Ok(None),
        },
        LEN_IS_U64 => match rest.first_chunk() {
            Some(&bytes) => (u64::from_be_bytes(bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let least = match len_bytes {
        2 => u64::from(LEN_IS_U16),
        8 => 1 << 16,
        _ => 0,
    };
    if len < least {
        return Err(breach("a length is not in its shortest form"));
    }
    if len >> 63 != 0 {
        return Err(breach("the highest bit of a length is set"));
    }
    match usize::try_from(len) {
        Ok(len) if len <= MESSAGE_BYTES_MAX => Ok(Some((len, len_bytes))),
        _ => Err(TOO_LONG),
    }
}

/// Length and mask of a whole, masked, binary frame below 126 bytes; `None` for any other frame.
#[inline]
pub fn short_packet(header: &[u8; 6]) -> Option<(usize, [u8; 4])> {
    let &[first, second, a, b, c, d] = header;
    let len = second & LEN;
    let is_short = first == FIN | Opcode::Binary.bits() && second & MASKED != 0 && len < LEN_IS_U16;
    is_short.then_some((usize::from(len), [a, b, c, d]))
}

/// The message, or the pieces of it, are more than a CLASP frame can be.
pub const TOO_LONG: Violation =
    Violation { code: close::TOO_LONG, what: "a message is longer than 65547 bytes" };

/// A text, or the reason in a close frame, is not UTF-8.
pub const BAD_TEXT: Violation = Violation { code: close::BAD_TEXT, what: "a text is not UTF-8" };

pub const fn breach(what: &'static str) -> Violation {
    Violation { code: close::PROTOCOL, what }
}

/// Appends one whole frame, masked in `out` when there is a mask.
pub fn append(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mask_bit = if mask.is_some() { MASKED } else { 0 };
    let first = FIN | opcode.bits();
    match payload.len() {
        len @ 0..126 => out.extend_from_slice(&[first, mask_bit | len as u8]),
        len @ 126..0x1_0000 => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, mask_bit | LEN_IS_U16, high, low]);
        }
        len => {
            out.extend_from_slice(&[first, mask_bit | LEN_IS_U64]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask.as_slice()));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Masks or unmasks, eight bytes at a time.
#[inline]
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// The code of a close frame's body, or [`close::NONE`] where it is empty.
pub fn close_code(body: &[u8]) -> Result<u16, Violation> {
    match body {
        [] => Ok(close::NONE),
        [_] => Err(breach("a close code has one byte, needs two")),
        &[high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !is_close_code(code) {
                return Err(breach("a close code is not one that may be sent"));
            }
            std::str::from_utf8(reason).map_err(|_| BAD_TEXT)?;
            Ok(code)
        }
    }
}

/// Appends a close frame; a `text` above 123 bytes is cut before the character that does not fit.
pub fn append_close(code: u16, text: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let text = &text.as_bytes()[..text.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut body = [0; CONTROL_BYTES_MAX];
    body[..2].copy_from_slice(&code.to_be_bytes());
    body[2..2 + text.len()].copy_from_slice(text);
    append(Opcode::Close, &body[..2 + text.len()], mask, out);
}

/// Codes that a peer may send: §7.4.1, the registry behind it, and the ranges of §7.4.2.
const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_is_wrong_as_soon_as_it_can_be_seen() {
        let client = |bytes: &[u8]| Header::parse(bytes, Sender::Client).map_err(|v| v.code);
        let refused: &[(&[u8], u16)] = &[
            (&[0xC2, 0x80], 1002),                               // RSV1
            (&[0xA2, 0x80], 1002),                               // RSV2
            (&[0x92, 0x80], 1002),                               // RSV3
            (&[0x83, 0x80], 1002),                               // data opcode 3
            (&[0x8B, 0x80], 1002),                               // control opcode 11
            (&[0x82, 0x00], 1002),                               // no mask
            (&[0x09, 0x80], 1002),                               // half a ping
            (&[0x89, 0xFE], 1002),                               // a ping of 126 or more
            (&[0x82, 0xFE, 0, 125], 1002),                       // 125 needs no u16
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 1002), // 65,535 needs no u64
            (&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0], 1002),    // the highest bit
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0x0C], 1009),    // 65,548
            (&[0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0], 1009),    // most of 2^63
        ];
        for &(bytes, code) in refused {
            assert_eq!(client(bytes), Err(code), "{bytes:02x?}");
        }
        assert_eq!(Header::parse(&[0x82, 0x80], Sender::Server).map_err(|v| v.code), Err(1002));
    }

    #[test]
    fn a_header_is_read_in_each_of_its_lengths_and_not_before_it_is_whole() {
        for payload_len in [0, 1, 125, 126, 65_535, 65_536, MESSAGE_BYTES_MAX] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut bytes = Vec::new();
                append(Opcode::Binary, &vec![0; payload_len], mask, &mut bytes);
                let sender = if mask.is_some() { Sender::Client } else { Sender::Server };
                let len = bytes.len() - payload_len;
                let whole = Header { fin: true, opcode: Opcode::Binary, mask, len, payload_len };
                assert_eq!(Header::parse(&bytes, sender), Ok(Some(whole)));
                for cut in 0..len {
                    assert_eq!(Header::parse(&bytes[..cut], sender), Ok(None), "{cut} of {len}");
                }
            }
        }
    }

    #[test]
    fn a_short_packet_is_what_the_whole_header_says_it_is() {
        for first in 0..=0xFF {
            for second in 0..=0xFF {
                let header = [first, second, 1, 2, 3, 4];
                let whole = match Header::parse(&header, Sender::Client) {
                    Ok(Some(Header {
                        fin: true,
                        opcode: Opcode::Binary,
                        mask,
                        len: 6,
                        payload_len,
                    })) => mask.map(|mask| (payload_len, mask)),
                    _ => None,
                };
                assert_eq!(short_packet(&header), whole, "{first:02x} {second:02x}");
            }
        }
    }

    #[test]
    fn masking_agrees_with_the_rfc_at_every_length() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        for len in 0..70 {
            let plain: Vec<u8> = (0..len).map(|n| n as u8 ^ 0x5A).collect();
            let mut masked = plain.clone();
            apply_mask(&mut masked, mask);
            let slow: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            assert_eq!(masked, slow, "{len} bytes");
        }
        let mut hello = [0x7F, 0x9F, 0x4D, 0x51, 0x58]; // RFC 6455 §5.7
        apply_mask(&mut hello, mask);
        assert_eq!(&hello, b"Hello");
    }

    #[test]
    fn close_codes_that_may_not_travel_are_refused() {
        let cases: &[(&[u8], Result<u16, u16>)] = &[
            (&[], Ok(1005)),
            (&[3], Err(1002)),
            (&[0x03, 0xE8], Ok(1000)),
            (&[0x03, 0xE8, b'b', b'y', b'e'], Ok(1000)),
            (&[0x03, 0xE8, 0xFF], Err(1007)),
            (&[0x03, 0xEC], Err(1002)), // 1004
            (&[0x03, 0xED], Err(1002)), // 1005
            (&[0x03, 0xEE], Err(1002)), // 1006
            (&[0x03, 0xF7], Err(1002)), // 1015
            (&[0x03, 0xE7], Err(1002)), // 999
            (&[0x0B, 0xB7], Err(1002)), // 2999
            (&[0x0B, 0xB8], Ok(3000)),
            (&[0x13, 0x87], Ok(4999)),
            (&[0x13, 0x88], Err(1002)), // 5000
        ];
        for &(body, expected) in cases {
            assert_eq!(close_code(body).map_err(|v| v.code), expected, "{body:02x?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        append_close(close::POLICY, &"é".repeat(100), None, &mut out);
        let body = &out[2..];
        assert_eq!(body.len(), 2 + 122, "123 bytes would end inside a character");
        assert_eq!(close_code(body), Ok(close::POLICY));
    }
}

//! Session ids: UUID v4 in form, drawn from the router's seed, and telling their shard.

use core::fmt;

use crate::ShardId;
use crate::index;

/// 16 bytes, written hyphenated in lower case on the wire.
///
/// Source of the form: RFC 9562 §5.4. The last byte, masked with a keyed hash of the others, is the
/// shard, so that a peer-to-peer signal finds its session without a shared table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionId(pub [u8; 16]);

/// Length of the text form.
pub const TEXT_LEN: usize = 36;

impl SessionId {
    /// No session: what the router itself writes as.
    pub const NONE: Self = Self([0; 16]);

    /// The `serial`th session of `shard`.
    pub fn new(seed: [u64; 2], shard: ShardId, serial: u64) -> Self {
        let mut material = [0; 11];
        material[..8].copy_from_slice(&serial.to_be_bytes());
        material[8..10].copy_from_slice(&shard.0.to_be_bytes());
        let high = index::hash(seed, &material);
        material[10] = 1;
        let low = index::hash(seed, &material);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        bytes[6] = (bytes[6] & 0x0F) | 0x40;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        bytes[15] = shard.0 as u8 ^ mask(seed, &bytes);
        Self(bytes)
    }

    /// The shard that owns this session, if the id is one of this router's.
    pub fn shard(self, seed: [u64; 2], shards: u16) -> Option<ShardId> {
        let shard = u16::from(self.0[15] ^ mask(seed, &self.0));
        (shard < shards).then_some(ShardId(shard))
    }

    /// Reads the text form; `None` if it is not 36 characters of a hyphenated UUID.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut bytes = [0; 16];
        let mut nibbles = 0;
        for (at, &c) in text.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if c != b'-' {
                    return None;
                }
                continue;
            }
            let digit = (c as char).to_digit(16)? as u8;
            bytes[nibbles / 2] = bytes[nibbles / 2] << 4 | digit;
            nibbles += 1;
        }
        Some(Self(bytes))
    }

    /// The text form, without allocating.
    pub fn text(self) -> Text {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; TEXT_LEN];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        Text(text)
    }
}

fn mask(seed: [u64; 2], bytes: &[u8; 16]) -> u8 {
    index::hash(seed, &bytes[..15]) as u8
}

/// The 36 characters of a session id.
#[derive(Clone, Copy)]
pub struct Text([u8; TEXT_LEN]);

impl Text {
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_tells_its_shard() {
        let seed = [1, 2];
        for serial in 0..200 {
            let shard = ShardId((serial % 3) as u16);
            let id = SessionId::new(seed, shard, serial);
            let text = id.text();
            assert_eq!(SessionId::parse(text.as_str()), Some(id));
            assert_eq!(id.shard(seed, 3), Some(shard));
            assert_eq!(&text.as_str()[14..15], "4", "version of {}", text.as_str());
        }
    }

    #[test]
    fn what_is_no_uuid_is_no_session() {
        for text in
            ["", "x", "6ba7b810-9dad-11d1-80b4-00c04fd430c", "6ba7b810x9dad-11d1-80b4-00c04fd430c8"]
        {
            assert_eq!(SessionId::parse(text), None, "{text}");
        }
    }
}

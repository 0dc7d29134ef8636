//! What makes a show go on: ArtTimeCode, ArtTrigger, ArtCommand.

use super::{ANYBODY, Malformed, begin, field, op, text, text_len};
use crate::merge::SLOTS;

/// ArtTimeCode (0x9700): a time of day, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeCode {
    /// Which of several time codes; 0 is the master (octet 13).
    pub stream: u8,
    /// Hours, minutes, seconds, frames (octets 17, 16, 15 and 14).
    pub hours: u8,
    pub minutes: u8,
    pub seconds: u8,
    pub frames: u8,
    /// 0 film (24 a second), 1 EBU (25), 2 drop frames (29.97), 3 SMPTE (30); octet 18.
    pub rate: u8,
}

impl TimeCode {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let [stream, frames, seconds, minutes, hours, rate] = field(bytes, 13)?;
        if rate > 3 {
            return Err(Malformed::BadField { at: 18, found: rate.into() });
        }
        Ok(Self { stream, hours, minutes, seconds, frames, rate })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { stream, hours, minutes, seconds, frames, rate } = *self;
        begin(out, op::TIME_CODE);
        out.extend_from_slice(&[0, stream, frames, seconds, minutes, hours, rate]);
    }
}

/// ArtTrigger (0x9900): a key, a macro or a show is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger<'a> {
    /// Whose triggers these are; [`ANYBODY`]: everybody's, with the keys of the standard (octets
    /// 14..16).
    pub oem: u16,
    /// 0 a character, 1 a macro, 2 a soft key, 3 a show (octet 16).
    pub key: u8,
    /// Which of them (octet 17).
    pub sub_key: u8,
    /// At most 512 octets of the maker's own (from octet 18).
    pub data: &'a [u8],
}

impl<'a> Trigger<'a> {
    /// Senders that leave the data out exist.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let oem = u16::from_be_bytes(field(bytes, 14)?);
        let [key, sub_key] = field(bytes, 16)?;
        let data = bytes.get(18..).unwrap_or(&[]);
        Ok(Self { oem, key, sub_key, data: &data[..data.len().min(SLOTS)] })
    }

    /// Writes all 530 octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        begin(out, op::TRIGGER);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.oem.to_be_bytes());
        out.extend_from_slice(&[self.key, self.sub_key]);
        out.extend_from_slice(&self.data[..self.data.len().min(SLOTS)]);
        out.resize(18 + SLOTS, 0);
    }
}

/// ArtCommand (0x2400): text such as `SwoutText=Playback&`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCommand<'a> {
    /// Whose commands these are; [`ANYBODY`]: everybody's (octets 12..14).
    pub esta: u16,
    /// At most 511 octets, without its NUL (from octet 16).
    pub text: &'a [u8],
}

impl<'a> TextCommand<'a> {
    /// Octets of the text with its NUL.
    pub const TEXT_BYTES_MAX: usize = 512;

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let esta = u16::from_be_bytes(field(bytes, 12)?);
        let len = text_len(bytes, 14, 16, Self::TEXT_BYTES_MAX)?;
        Ok(Self { esta, text: text(bytes, 16, len) })
    }

    /// Whether it is meant for everybody.
    pub fn is_for_anybody(&self) -> bool {
        self.esta == ANYBODY
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let kept = &self.text[..self.text.len().min(Self::TEXT_BYTES_MAX - 1)];
        begin(out, op::COMMAND);
        out.extend_from_slice(&self.esta.to_be_bytes());
        out.extend_from_slice(&(kept.len() as u16 + 1).to_be_bytes());
        out.extend_from_slice(kept);
        out.push(0);
    }
}

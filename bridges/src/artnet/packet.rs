//! The packets of Art-Net 4. Octet numbers count from 0.
//!
//! Everything begins with `Art-Net\0` and an opcode, low byte first; later integers are big-endian
//! but for the few that say otherwise. Whatever decodes can also be written.
//!
//! Source: Art-Net 4 protocol release V1.4 (the table of each packet).

mod cue;
mod levels;
mod manage;
mod poll;
mod rdm;
mod reply;
#[cfg(test)]
mod tests;

use crate::merge::SLOTS;
use crate::namespace;

pub use cue::{TextCommand, TimeCode, Trigger};
pub use levels::{Dmx, Nzs, dmx, is_stale, write_dmx, write_sync};
pub use manage::{Address, Command, InputSwitch, IpProg, IpProgReply, Switch};
pub use poll::{Diag, Diagnostics, Poll, priority};
pub use rdm::{RDM_BYTES_MAX, Rdm, TOD_UIDS_MAX, TodControl, TodData, TodRequest, UID_BYTES};
pub use reply::{Group, Indicators, Port, Reply};

/// What the protocol is called on the wire.
const ID: &[u8; 8] = b"Art-Net\0";

/// The port of every Art-Net node (0x1936).
pub const PORT: u16 = 6454;

const VERSION: u16 = 14;

/// An OEM or ESTA code that means everybody.
pub const ANYBODY: u16 = 0xFFFF;

/// The OEM code of those who have none.
const OEM_UNKNOWN: u16 = 0x00FF;

/// ESTA keeps 0x7FF0 to 0x7FFF for what has no number of its own.
const ESTA_PROTOTYPE: u16 = 0x7FF0;

/// Bytes of the longest packet written here, an ArtDmx with all slots.
pub const PACKET_BYTES_MAX: usize = 18 + SLOTS;

/// The 15-bit port-address: net (7 bits), sub-net (4), universe (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortAddress(u16);

impl PortAddress {
    pub const MIN: Self = Self(0);
    pub const MAX: Self = Self(0x7FFF);

    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    pub const fn number(self) -> u16 {
        self.0
    }

    /// Net and sub-net: the part that all ports of one reply share.
    pub const fn switch(self) -> u16 {
        self.0 >> 4
    }

    pub const fn universe(self) -> u8 {
        (self.0 & 0x0F) as u8
    }

    /// Reads `19` or `0:1:3` (net, sub-net, universe).
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str, max: u16| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= max)
        };
        match text.split_once(':') {
            None => number(text, Self::MAX.0).map(Self),
            Some((net, rest)) => {
                let (sub_net, universe) = rest.split_once(':')?;
                let (net, sub_net) = (number(net, 127)?, number(sub_net, 15)?);
                Some(Self(net << 8 | sub_net << 4 | number(universe, 15)?))
            }
        }
    }
}

/// A port-address as an address of the router names it: in either form, but without zeros in front,
/// so that `016` is not the universe 16 once more.
pub(super) fn port_address_of(text: &str) -> Option<PortAddress> {
    let is_plain = text.split(':').all(|part| namespace::number(part).is_some());
    if is_plain { PortAddress::parse(text) } else { None }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Dmx(Dmx<'a>),
    Nzs(Nzs<'a>),
    Sync,
    Poll(Poll),
    Reply(Reply<'a>),
    Diag(Diag<'a>),
    Address(Address<'a>),
    Input(InputSwitch),
    IpProg(IpProg),
    IpProgReply(IpProgReply),
    TimeCode(TimeCode),
    Trigger(Trigger<'a>),
    Command(TextCommand<'a>),
    TodRequest(TodRequest<'a>),
    TodData(TodData<'a>),
    TodControl(TodControl),
    Rdm(Rdm<'a>),
    /// An opcode that is not spoken here; well-formed as far as can be told.
    Other {
        opcode: u16,
    },
}

impl Packet<'_> {
    /// Writes it. `false`, and nothing is written, of what is only read: a poll reply says more
    /// than is read of it, and a request for the devices of many ports is sent as several.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Dmx(dmx) => write_dmx(out, dmx.sequence, dmx.port_address, dmx.levels),
            Self::Nzs(nzs) => nzs.write(out),
            Self::Sync => write_sync(out),
            Self::Poll(poll) => poll.write(out),
            Self::Diag(diag) => diag.write(out),
            Self::Address(address) => address.write(out),
            Self::Input(switch) => switch.write(out),
            Self::IpProg(wanted) => wanted.write(out),
            Self::IpProgReply(kept) => kept.write(out),
            Self::TimeCode(time) => time.write(out),
            Self::Trigger(trigger) => trigger.write(out),
            Self::Command(command) => command.write(out),
            Self::TodData(data) => data.write(out),
            Self::TodControl(control) => control.write(out),
            Self::Rdm(rdm) => rdm.write(out),
            Self::Reply(_) | Self::TodRequest(_) | Self::Other { .. } => return false,
        }
        true
    }
}

/// The bytes are not an Art-Net packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Short {
        need: usize,
        got: usize,
    },
    BadId,
    /// More slots than a universe has.
    TooManySlots {
        found: u16,
    },
    /// Bit 15 of a port-address is set.
    BadPortAddress {
        found: u16,
    },
    /// A field, by its first octet, with a value that the protocol does not define.
    BadField {
        at: usize,
        found: u32,
    },
}

/// Reads one datagram. Bytes after what a packet promises are ignored: later versions append
/// fields.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    if field::<8>(bytes, 0)? != *ID {
        return Err(Malformed::BadId);
    }
    let opcode = u16::from_le_bytes(field(bytes, 8)?);
    Ok(match opcode {
        op::DMX => Packet::Dmx(Dmx::decode(bytes)?),
        op::NZS => Packet::Nzs(Nzs::decode(bytes)?),
        op::SYNC => Packet::Sync,
        op::POLL => Packet::Poll(Poll::decode(bytes)?),
        op::POLL_REPLY => Packet::Reply(Reply::decode(bytes)?),
        op::DIAG => Packet::Diag(Diag::decode(bytes)?),
        op::ADDRESS => Packet::Address(Address::decode(bytes)?),
        op::INPUT => Packet::Input(InputSwitch::decode(bytes)?),
        op::IP_PROG => Packet::IpProg(IpProg::decode(bytes)?),
        op::IP_PROG_REPLY => Packet::IpProgReply(IpProgReply::decode(bytes)?),
        op::TIME_CODE => Packet::TimeCode(TimeCode::decode(bytes)?),
        op::TRIGGER => Packet::Trigger(Trigger::decode(bytes)?),
        op::COMMAND => Packet::Command(TextCommand::decode(bytes)?),
        op::TOD_REQUEST => Packet::TodRequest(TodRequest::decode(bytes)?),
        op::TOD_DATA => Packet::TodData(TodData::decode(bytes)?),
        op::TOD_CONTROL => Packet::TodControl(TodControl::decode(bytes)?),
        op::RDM => Packet::Rdm(Rdm::decode(bytes)?),
        opcode => Packet::Other { opcode },
    })
}

mod op {
    pub(super) const POLL: u16 = 0x2000;
    pub(super) const POLL_REPLY: u16 = 0x2100;
    pub(super) const DIAG: u16 = 0x2300;
    pub(super) const COMMAND: u16 = 0x2400;
    pub(super) const DMX: u16 = 0x5000;
    pub(super) const NZS: u16 = 0x5100;
    pub(super) const SYNC: u16 = 0x5200;
    pub(super) const ADDRESS: u16 = 0x6000;
    pub(super) const INPUT: u16 = 0x7000;
    pub(super) const TOD_REQUEST: u16 = 0x8000;
    pub(super) const TOD_DATA: u16 = 0x8100;
    pub(super) const TOD_CONTROL: u16 = 0x8200;
    pub(super) const RDM: u16 = 0x8300;
    pub(super) const TIME_CODE: u16 = 0x9700;
    pub(super) const TRIGGER: u16 = 0x9900;
    pub(super) const IP_PROG: u16 = 0xF800;
    pub(super) const IP_PROG_REPLY: u16 = 0xF900;
}

fn port_address(number: u16) -> Result<PortAddress, Malformed> {
    PortAddress::new(number).ok_or(Malformed::BadPortAddress { found: number })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(Malformed::Short { need: at + N, got: bytes.len() })
}

/// A field of `len` octets as far as its NUL.
fn text(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    let field = bytes.get(at..at + len).unwrap_or(&[]);
    field.split(|byte| *byte == 0).next().unwrap_or(&[])
}

/// Octets of a text at `text_at` whose length, NUL included, stands at `at`; all of them are there.
fn text_len(bytes: &[u8], at: usize, text_at: usize, max: usize) -> Result<usize, Malformed> {
    let found = u16::from_be_bytes(field(bytes, at)?);
    let len = usize::from(found);
    if len > max {
        return Err(Malformed::BadField { at, found: found.into() });
    }
    let need = text_at + len;
    if bytes.len() < need {
        return Err(Malformed::Short { need, got: bytes.len() });
    }
    Ok(len)
}

fn begin(out: &mut Vec<u8>, opcode: u16) {
    out.clear();
    out.extend_from_slice(ID);
    out.extend_from_slice(&opcode.to_le_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// A field of `len` octets that always ends in NUL.
fn push_text(out: &mut Vec<u8>, text: &str, len: usize) {
    push_octets(out, fitted(text, len), len);
}

/// As [`push_text`], of what may be no text.
fn push_octets(out: &mut Vec<u8>, octets: &[u8], len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(&octets[..octets.len().min(len - 1)]);
    out.resize(end, 0);
}

/// As much of `text` as fits a field of `len` octets before its NUL, in whole characters.
pub fn fitted(text: &str, len: usize) -> &[u8] {
    let mut kept = text.len().min(len - 1);
    while !text.is_char_boundary(kept) {
        kept -= 1;
    }
    &text.as_bytes()[..kept]
}

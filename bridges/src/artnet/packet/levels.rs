//! Levels of a universe and other data of its slots: ArtDmx, ArtNzs, ArtSync.

use super::{ID, Malformed, PortAddress, begin, field, op, port_address};
use crate::merge::SLOTS;

/// ArtDmx (0x5000): the levels of one universe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dmx<'a> {
    /// 1 to 255, then 1 again; 0: the sender does not count (octet 12).
    pub sequence: u8,
    /// The sender's own port, for information (octet 13).
    pub physical: u8,
    /// Octets 14 (sub-net and universe) and 15 (net).
    pub port_address: PortAddress,
    /// Slot 1 first. The standard asks for 2 to 512 and an even number; senders of odd ones exist.
    pub levels: &'a [u8],
}

/// ArtNzs (0x5100): what a start code other than 0 announces. Never levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nzs<'a> {
    /// As [`Dmx::sequence`].
    pub sequence: u8,
    /// Neither 0, which is ArtDmx, nor 0xCC, which is RDM and has packets of its own (octet 13).
    pub start_code: u8,
    pub port_address: PortAddress,
    /// 1 to 512 octets (from octet 18).
    pub data: &'a [u8],
}

impl<'a> Dmx<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [sequence, physical] = field(bytes, 12)?;
        let (port_address, levels) = slots(bytes)?;
        Ok(Self { sequence, physical, port_address, levels })
    }
}

impl<'a> Nzs<'a> {
    /// Start code of levels: those come as ArtDmx.
    const NULL: u8 = 0;
    /// Start code of RDM (ANSI E1.20).
    const RDM: u8 = 0xCC;

    /// Whether ArtNzs may carry `start_code`.
    pub fn is_allowed(start_code: u8) -> bool {
        start_code != Self::NULL && start_code != Self::RDM
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [sequence, start_code] = field(bytes, 12)?;
        if !Self::is_allowed(start_code) {
            return Err(Malformed::BadField { at: 13, found: start_code.into() });
        }
        let (port_address, data) = slots(bytes)?;
        Ok(Self { sequence, start_code, port_address, data })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let data = &self.data[..self.data.len().min(SLOTS)];
        begin(out, op::NZS);
        out.extend_from_slice(&[self.sequence, self.start_code]);
        out.extend_from_slice(&self.port_address.0.to_le_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
}

/// The ArtDmx that `bytes` are; `None`: they are something else, or malformed. Most packets of a
/// show are one, and [`decode`](super::decode) need not be asked for what else they might be.
pub fn dmx(bytes: &[u8]) -> Option<Dmx<'_>> {
    let (head, rest) = bytes.split_first_chunk::<18>()?;
    let [id @ .., low, high] = head.first_chunk::<10>()?;
    if id != ID || u16::from_le_bytes([*low, *high]) != op::DMX {
        return None;
    }
    let port_address = PortAddress::new(u16::from_le_bytes([head[14], head[15]]))?;
    let len = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let levels = rest.get(..len).filter(|levels| levels.len() <= SLOTS)?;
    Some(Dmx { sequence: head[12], physical: head[13], port_address, levels })
}

/// Port-address, length and slots: what follows octet 13 in both packets.
fn slots(bytes: &[u8]) -> Result<(PortAddress, &[u8]), Malformed> {
    let port_address = port_address(u16::from_le_bytes(field(bytes, 14)?))?;
    let len = u16::from_be_bytes(field(bytes, 16)?);
    if usize::from(len) > SLOTS {
        return Err(Malformed::TooManySlots { found: len });
    }
    let need = 18 + usize::from(len);
    let slots = bytes.get(18..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
    Ok((port_address, slots))
}

/// Writes an ArtDmx. A universe with an odd number of slots gets one more, at 0.
pub fn write_dmx(out: &mut Vec<u8>, sequence: u8, port_address: PortAddress, levels: &[u8]) {
    let levels = &levels[..levels.len().min(SLOTS)];
    let len = levels.len().next_multiple_of(2).max(2);
    begin(out, op::DMX);
    out.extend_from_slice(&[sequence, 0]);
    out.extend_from_slice(&port_address.0.to_le_bytes());
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(levels);
    out.resize(18 + len, 0);
}

/// Writes an ArtSync (0x5200): what was sent before it is to be shown now.
pub fn write_sync(out: &mut Vec<u8>) {
    begin(out, op::SYNC);
    out.extend_from_slice(&[0, 0]);
}

/// Whether `next` came late and must be dropped: the sequence is a ring of 1 to 255, 0 does not
/// count.
///
/// A step back of 20 or more is a restarted sender, as sACN has it; Art-Net itself names no bound.
pub fn is_stale(last: u8, next: u8) -> bool {
    if last == 0 || next == 0 {
        return false;
    }
    // Steps from `last` to `next` in a ring of 255.
    let step = (i16::from(next) - i16::from(last)).rem_euclid(255);
    step == 0 || step > 255 - 20
}

//! The packets of Art-Net 4 that move levels and find nodes. Octet numbers count from 0.
//!
//! Everything begins with `Art-Net\0` and an opcode, low byte first; later integers are big-endian
//! but for the few that say otherwise.

use crate::merge::SLOTS;

/// What the protocol is called on the wire.
const ID: &[u8; 8] = b"Art-Net\0";

/// The port of every Art-Net node (0x1936).
pub const PORT: u16 = 6454;

const VERSION: u16 = 14;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Dmx(Dmx<'a>),
    Poll(Poll),
    Reply(Reply<'a>),
    Sync,
    /// An opcode that is not spoken here; well-formed as far as can be told.
    Other {
        opcode: u16,
    },
}

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

/// ArtPoll (0x2000): who is there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Only nodes with a port in this range, ends included, are asked (flag 0x20; octets 14..18).
    pub range: Option<(PortAddress, PortAddress)>,
}

/// ArtPollReply (0x2100): one node, or one group of up to four ports of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Where the node listens (octets 14..16, low byte first); 0 is read as [`PORT`].
    pub port: u16,
    /// Octet 211; 0 from nodes that know no groups.
    pub bind_index: u8,
    /// Without what follows its NUL.
    pub short_name: &'a [u8],
    pub long_name: &'a [u8],
    /// Net (octet 18) and sub-net (19) in the upper bits.
    switch: u16,
    /// Octets 174..178: bit 7 the port can output DMX.
    port_types: [u8; 4],
    /// Octets 190..194: the universe that each output port takes.
    outputs: [u8; 4],
}

impl Reply<'_> {
    /// The universes that the node turns into DMX: those to send it.
    pub fn outputs(&self) -> impl Iterator<Item = PortAddress> {
        const CAN_OUTPUT: u8 = 0x80;
        let switch = self.switch;
        self.port_types
            .into_iter()
            .zip(self.outputs)
            .filter(|(kind, _)| kind & CAN_OUTPUT != 0)
            .filter_map(move |(_, universe)| {
                PortAddress::new(switch << 4 | u16::from(universe & 0x0F))
            })
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
    /// ArtDmx with more slots than a universe has.
    TooManySlots {
        found: u16,
    },
    /// Bit 15 of a port-address is set.
    BadPortAddress {
        found: u16,
    },
}

/// Reads one datagram. Bytes after what a packet promises are ignored: later versions append
/// fields.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    if field::<8>(bytes, 0)? != *ID {
        return Err(Malformed::BadId);
    }
    let opcode = u16::from_le_bytes(field(bytes, 8)?);
    match opcode {
        op::DMX => decode_dmx(bytes).map(Packet::Dmx),
        op::POLL => decode_poll(bytes).map(Packet::Poll),
        op::POLL_REPLY => decode_reply(bytes).map(Packet::Reply),
        op::SYNC => Ok(Packet::Sync),
        opcode => Ok(Packet::Other { opcode }),
    }
}

mod op {
    pub(super) const POLL: u16 = 0x2000;
    pub(super) const POLL_REPLY: u16 = 0x2100;
    pub(super) const DMX: u16 = 0x5000;
    pub(super) const SYNC: u16 = 0x5200;
}

fn decode_dmx(bytes: &[u8]) -> Result<Dmx<'_>, Malformed> {
    let [sequence, physical] = field(bytes, 12)?;
    let port_address = port_address(u16::from_le_bytes(field(bytes, 14)?))?;
    let len = u16::from_be_bytes(field(bytes, 16)?);
    if usize::from(len) > SLOTS {
        return Err(Malformed::TooManySlots { found: len });
    }
    let need = 18 + usize::from(len);
    let levels = bytes.get(18..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
    Ok(Dmx { sequence, physical, port_address, levels })
}

/// The shortest form in use ends before the flags (12 octets).
fn decode_poll(bytes: &[u8]) -> Result<Poll, Malformed> {
    const TARGETED: u8 = 0x20;
    if bytes.get(12).is_none_or(|flags| flags & TARGETED == 0) {
        return Ok(Poll { range: None });
    }
    let top = port_address(u16::from_be_bytes(field(bytes, 14)?))?;
    let bottom = port_address(u16::from_be_bytes(field(bytes, 16)?))?;
    Ok(Poll { range: Some((bottom, top)) })
}

/// Nodes of Art-Net II end after the MAC address (octet 207); what is needed ends earlier.
fn decode_reply(bytes: &[u8]) -> Result<Reply<'_>, Malformed> {
    let need = 194;
    if bytes.len() < need {
        return Err(Malformed::Short { need, got: bytes.len() });
    }
    let [net, sub_net] = field(bytes, 18)?;
    let port = match u16::from_le_bytes(field(bytes, 14)?) {
        0 => PORT,
        // dmxnet writes its port high byte first.
        port if port == PORT.swap_bytes() => PORT,
        port => port,
    };
    Ok(Reply {
        port,
        bind_index: bytes.get(211).copied().unwrap_or(0),
        short_name: text(bytes, 26, 18),
        long_name: text(bytes, 44, 64),
        switch: u16::from(net & 0x7F) << 4 | u16::from(sub_net & 0x0F),
        port_types: field(bytes, 174)?,
        outputs: field(bytes, 190)?,
    })
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

fn text(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    let field = bytes.get(at..at + len).unwrap_or(&[]);
    field.split(|byte| *byte == 0).next().unwrap_or(&[])
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

/// Writes an ArtSync: what was sent before it is to be shown now.
pub fn write_sync(out: &mut Vec<u8>) {
    begin(out, op::SYNC);
    out.extend_from_slice(&[0, 0]);
}

/// Writes an ArtPoll that asks for a reply now and whenever something changes.
pub fn write_poll(out: &mut Vec<u8>) {
    const REPLY_ON_CHANGE: u8 = 0x02;
    begin(out, op::POLL);
    out.extend_from_slice(&[REPLY_ON_CHANGE, 0]);
}

fn begin(out: &mut Vec<u8>, opcode: u16) {
    out.clear();
    out.extend_from_slice(ID);
    out.extend_from_slice(&opcode.to_le_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
}

/// One of our groups of ports, as [`write_reply`] tells it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// 0.0.0.0 where it is not known; controllers then use the source of the packet.
    pub ip: [u8; 4],
    pub short_name: &'a str,
    pub long_name: &'a str,
    /// Status text: `#0001 [0042] ...`.
    pub report: &'a str,
    /// Counts from 1.
    pub bind_index: u8,
    /// Net and sub-net that the ports share.
    pub switch: u16,
    /// At most four.
    pub ports: &'a [Port],
}

/// One port of a group: a universe that is taken from the network, given to it, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub universe: u8,
    /// We take ArtDmx for it. Art-Net calls that an output.
    pub takes: bool,
    pub is_heard: bool,
    pub is_merging: bool,
    pub is_latest: bool,
    /// We send ArtDmx for it. Art-Net calls that an input.
    pub gives: bool,
}

/// Writes an ArtPollReply of 239 octets.
pub fn write_reply(out: &mut Vec<u8>, group: &Group<'_>) {
    const OEM_UNKNOWN: [u8; 2] = [0x00, 0xFF];
    /// ESTA keeps 0x7FF0 to 0x7FFF for what has no number of its own (low byte first).
    const ESTA_PROTOTYPE: [u8; 2] = [0xF0, 0x7F];
    const INDICATORS_NORMAL: u8 = 0xC0;
    const STYLE_NODE: u8 = 0;
    /// The node understands 15-bit port-addresses, so it speaks Art-Net 3 or 4.
    const WIDE_ADDRESSES: u8 = 0x08;

    let ports = &group.ports[..group.ports.len().min(4)];
    let each = |value: fn(&Port) -> u8| {
        let mut octets = [0; 4];
        octets.iter_mut().zip(ports).for_each(|(octet, port)| *octet = value(port));
        octets
    };
    out.clear();
    out.extend_from_slice(ID);
    out.extend_from_slice(&op::POLL_REPLY.to_le_bytes());
    out.extend_from_slice(&group.ip);
    out.extend_from_slice(&PORT.to_le_bytes());
    out.extend_from_slice(&[0, 1]); // Version of this firmware.
    out.extend_from_slice(&[(group.switch >> 4) as u8 & 0x7F, group.switch as u8 & 0x0F]);
    out.extend_from_slice(&OEM_UNKNOWN);
    out.extend_from_slice(&[0, INDICATORS_NORMAL]);
    out.extend_from_slice(&ESTA_PROTOTYPE);
    push_text(out, group.short_name, 18);
    push_text(out, group.long_name, 64);
    push_text(out, group.report, 64);
    out.extend_from_slice(&[0, ports.len() as u8]);
    out.extend_from_slice(&each(|port| flag(port.takes, 0x80) | flag(port.gives, 0x40)));
    out.extend_from_slice(&each(|port| flag(port.gives, 0x80)));
    out.extend_from_slice(&each(|port| {
        flag(port.is_heard, 0x80) | flag(port.is_merging, 0x08) | flag(port.is_latest, 0x02)
    }));
    out.extend_from_slice(&each(|port| port.universe));
    out.extend_from_slice(&each(|port| port.universe));
    out.resize(200, 0);
    out.push(STYLE_NODE);
    out.resize(207, 0); // No MAC address is known here.
    out.extend_from_slice(&group.ip);
    out.extend_from_slice(&[group.bind_index, WIDE_ADDRESSES]);
    out.resize(239, 0);
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// A field of `len` octets that always ends in NUL.
fn push_text(out: &mut Vec<u8>, text: &str, len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(fitted(text, len));
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

#[cfg(test)]
mod tests;

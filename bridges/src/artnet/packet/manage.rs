//! What controllers change at a node: ArtAddress, ArtInput, ArtIpProg and its reply.

use super::{Malformed, begin, field, op, push_octets, text};

/// ArtAddress (0x6000): names, universes and behaviour of a group of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Octet 12; see [`Switch`].
    pub net: Switch,
    /// The group that is meant, from 1; 0 is read as 1 (octet 13).
    pub bind_index: u8,
    /// Octets 14..32; empty: keep it.
    pub short_name: &'a [u8],
    /// Octets 32..96; empty: keep it.
    pub long_name: &'a [u8],
    /// Universes that the ports give (octets 96..100).
    pub inputs: [Switch; 4],
    /// Universes that the ports take (octets 100..104).
    pub outputs: [Switch; 4],
    /// Octet 104.
    pub sub_net: Switch,
    /// Octet 106. What this octet says and we do not know is [`Command::Other`].
    pub command: Command,
}

/// A part of a port-address, as ArtAddress programs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// 0x7F, or anything else without bit 7.
    #[default]
    Keep,
    /// 0x00: back to what the front of the node says.
    Reset,
    /// Bit 7 and the new value.
    Set(u8),
}

impl Switch {
    fn new(octet: u8) -> Self {
        match octet {
            0 => Self::Reset,
            octet if octet & 0x80 != 0 => Self::Set(octet & 0x7F),
            _ => Self::Keep,
        }
    }

    fn octet(self) -> u8 {
        match self {
            Self::Keep => 0x7F,
            Self::Reset => 0,
            Self::Set(value) => 0x80 | value,
        }
    }
}

/// What an ArtAddress tells a node to do. Ports count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    None,
    /// The next sender of ArtDmx is the only one.
    CancelMerge,
    LedNormal,
    LedMute,
    LedLocate,
    ResetErrors,
    /// The look is held when senders are lost.
    FailHold,
    MergeLatest(u8),
    MergeHighest(u8),
    /// The levels of the port go to 0.
    Clear(u8),
    /// Anything else: fail-safe scenes, directions, sACN, styles, RDM.
    Other(u8),
}

impl Command {
    fn new(octet: u8) -> Self {
        match octet {
            0x00 => Self::None,
            0x01 => Self::CancelMerge,
            0x02 => Self::LedNormal,
            0x03 => Self::LedMute,
            0x04 => Self::LedLocate,
            0x05 => Self::ResetErrors,
            0x08 => Self::FailHold,
            0x10..=0x13 => Self::MergeLatest(octet & 3),
            0x50..=0x53 => Self::MergeHighest(octet & 3),
            0x90..=0x93 => Self::Clear(octet & 3),
            other => Self::Other(other),
        }
    }

    fn octet(self) -> u8 {
        match self {
            Self::None => 0x00,
            Self::CancelMerge => 0x01,
            Self::LedNormal => 0x02,
            Self::LedMute => 0x03,
            Self::LedLocate => 0x04,
            Self::ResetErrors => 0x05,
            Self::FailHold => 0x08,
            Self::MergeLatest(port) => 0x10 | port & 3,
            Self::MergeHighest(port) => 0x50 | port & 3,
            Self::Clear(port) => 0x90 | port & 3,
            Self::Other(octet) => octet,
        }
    }
}

impl<'a> Address<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [net, bind_index] = field(bytes, 12)?;
        let [sub_net, _priority, command] = field(bytes, 104)?;
        Ok(Self {
            net: Switch::new(net),
            bind_index,
            short_name: text(bytes, 14, 18),
            long_name: text(bytes, 32, 64),
            inputs: field::<4>(bytes, 96)?.map(Switch::new),
            outputs: field::<4>(bytes, 100)?.map(Switch::new),
            sub_net: Switch::new(sub_net),
            command: Command::new(command),
        })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        /// 0xFF: keep the priority of sACN.
        const KEEP_PRIORITY: u8 = 0xFF;
        begin(out, op::ADDRESS);
        out.extend_from_slice(&[self.net.octet(), self.bind_index]);
        push_octets(out, self.short_name, 18);
        push_octets(out, self.long_name, 64);
        out.extend_from_slice(&self.inputs.map(Switch::octet));
        out.extend_from_slice(&self.outputs.map(Switch::octet));
        out.extend_from_slice(&[self.sub_net.octet(), KEEP_PRIORITY, self.command.octet()]);
    }
}

/// ArtInput (0x7000): which ports of a group may send to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSwitch {
    /// The group that is meant, from 1; 0 is read as 1 (octet 13).
    pub bind_index: u8,
    /// Octets 16..20, bit 0.
    pub disabled: [bool; 4],
}

impl InputSwitch {
    const DISABLE: u8 = 0x01;

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let [bind_index] = field(bytes, 13)?;
        let disabled = field::<4>(bytes, 16)?.map(|octet| octet & Self::DISABLE != 0);
        Ok(Self { bind_index, disabled })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        begin(out, op::INPUT);
        out.extend_from_slice(&[0, self.bind_index, 0, 4]);
        out.extend_from_slice(&self.disabled.map(u8::from));
    }
}

/// ArtIpProg (0xF800), as far as anybody here needs it: somebody wants to change our address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpProg {
    /// Bit 7: programming is meant at all; 0 only asks (octet 14).
    pub command: u8,
    /// Octets 16..20.
    pub ip: [u8; 4],
    /// Octets 20..24.
    pub mask: [u8; 4],
    /// Octets 26..30.
    pub gateway: [u8; 4],
}

impl IpProg {
    /// Nodes of Art-Net 3 end after the spare octets 26..34.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let [command] = field(bytes, 14)?;
        Ok(Self {
            command,
            ip: field(bytes, 16)?,
            mask: field(bytes, 20)?,
            gateway: field(bytes, 26)?,
        })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        begin(out, op::IP_PROG);
        out.extend_from_slice(&[0, 0, self.command, 0]);
        out.extend_from_slice(&self.ip);
        out.extend_from_slice(&self.mask);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.gateway);
        out.resize(34, 0);
    }
}

/// ArtIpProgReply (0xF900): the addresses that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpProgReply {
    /// Octets 16..20.
    pub ip: [u8; 4],
    /// Octets 20..24; all zeros where it is not known.
    pub mask: [u8; 4],
    /// Octets 24..26, high byte first.
    pub port: u16,
    /// Octet 26, bit 6: an address of DHCP.
    pub is_dhcp: bool,
    /// Octets 28..32.
    pub gateway: [u8; 4],
}

impl IpProgReply {
    const DHCP: u8 = 0x40;

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let [status] = field(bytes, 26)?;
        Ok(Self {
            ip: field(bytes, 16)?,
            mask: field(bytes, 20)?,
            port: u16::from_be_bytes(field(bytes, 24)?),
            is_dhcp: status & Self::DHCP != 0,
            gateway: field(bytes, 28)?,
        })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        begin(out, op::IP_PROG_REPLY);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.ip);
        out.extend_from_slice(&self.mask);
        out.extend_from_slice(&self.port.to_be_bytes());
        out.extend_from_slice(&[if self.is_dhcp { Self::DHCP } else { 0 }, 0]);
        out.extend_from_slice(&self.gateway);
        out.resize(34, 0);
    }
}

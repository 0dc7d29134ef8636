//! ArtPollReply: what a node is and what its ports do.

use super::{ESTA_PROTOTYPE, ID, Malformed, OEM_UNKNOWN, PORT, PortAddress};
use super::{field, flag, op, push_text, text};

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
    /// Status text, `#xxxx [nnnn] text` (octets 108..172).
    pub report: &'a [u8],
    /// Net (octet 18) and sub-net (19) in the upper bits.
    switch: u16,
    /// Octets 174..178: bit 7 the port can output DMX, bit 6 it can take DMX in.
    port_types: [u8; 4],
    /// Octets 186..190: the universe that each input port gives.
    inputs: [u8; 4],
    /// Octets 190..194: the universe that each output port takes.
    outputs: [u8; 4],
}

const CAN_OUTPUT: u8 = 0x80;
const CAN_INPUT: u8 = 0x40;

impl<'a> Reply<'a> {
    /// Nodes of Art-Net II end after the MAC address (octet 207); what is needed ends earlier.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
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
        Ok(Self {
            port,
            bind_index: bytes.get(211).copied().unwrap_or(0),
            short_name: text(bytes, 26, 18),
            long_name: text(bytes, 44, 64),
            report: text(bytes, 108, 64),
            switch: u16::from(net & 0x7F) << 4 | u16::from(sub_net & 0x0F),
            port_types: field(bytes, 174)?,
            inputs: field(bytes, 186)?,
            outputs: field(bytes, 190)?,
        })
    }

    /// The universes that the node turns into DMX: those to send it.
    pub fn outputs(&self) -> impl Iterator<Item = PortAddress> {
        self.ports(CAN_OUTPUT, self.outputs)
    }

    /// The universes that the node sends.
    pub fn inputs(&self) -> impl Iterator<Item = PortAddress> {
        self.ports(CAN_INPUT, self.inputs)
    }

    fn ports(&self, kind: u8, universes: [u8; 4]) -> impl Iterator<Item = PortAddress> + use<> {
        let switch = self.switch;
        self.port_types
            .into_iter()
            .zip(universes)
            .filter(move |(types, _)| types & kind != 0)
            .filter_map(move |(_, universe)| {
                PortAddress::new(switch << 4 | u16::from(universe & 0x0F))
            })
    }
}

/// One of our groups of ports, as an ArtPollReply tells it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// 0.0.0.0 where it is not known; controllers then use the source of the packet.
    pub ip: [u8; 4],
    /// All zeros where it is not known.
    pub mac: [u8; 6],
    pub short_name: &'a str,
    pub long_name: &'a str,
    /// Status text: `#0001 [0042] ...`.
    pub report: &'a str,
    /// Counts from 1.
    pub bind_index: u8,
    /// Net and sub-net that the ports share.
    pub switch: u16,
    /// Frames a second at most, for each port.
    pub rate_hz_max: u16,
    pub indicators: Indicators,
    /// Names and ports can be changed from the network.
    pub is_programmable: bool,
    /// At most four.
    pub ports: &'a [Port],
}

/// What the lamps of a node do, so that it can be found in a rack (bits 7 and 6 of Status1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indicators {
    Locate,
    Mute,
    #[default]
    Normal,
}

/// One port of a group: a universe that is taken from the network, given to it, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub universe: u8,
    /// We take ArtDmx for it. Art-Net calls that an output.
    pub takes: bool,
    pub is_heard: bool,
    pub is_merging: bool,
    pub is_latest: bool,
    /// We send ArtDmx for it. Art-Net calls that an input.
    pub gives: bool,
    /// An ArtInput has silenced it.
    pub is_disabled: bool,
}

impl Group<'_> {
    /// Writes all 239 octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        const STYLE_NODE: u8 = 0;
        /// Programming authority: by the network or the web page (bits 5 and 4 of Status1).
        const PROGRAMMED_BY_NETWORK: u8 = 0x20;
        /// 15-bit port-addresses are understood: Art-Net 3 or 4 (bit 3 of Status2).
        const WIDE_ADDRESSES: u8 = 0x08;
        /// Bits of GoodOutputB: no RDM by this port itself, and no discovery of it; frames leave
        /// whether they changed or not.
        const RDM_DISABLED: u8 = 0x80;
        const CONTINUOUS: u8 = 0x40;
        const NOT_DISCOVERING: u8 = 0x20;
        const NO_BACKGROUND_DISCOVERY: u8 = 0x10;
        /// Fail-safe of Status3: the last look is held, which cannot be changed from outside.
        const HOLD_LAST: u8 = 0x00;
        /// BackgroundQueuePolicy: nothing is collected.
        const NO_BACKGROUND_QUEUE: u8 = 4;

        let ports = &self.ports[..self.ports.len().min(4)];
        let each = |value: fn(&Port) -> u8| {
            let mut octets = [0; 4];
            octets.iter_mut().zip(ports).for_each(|(octet, port)| *octet = value(port));
            octets
        };
        let indicators = match self.indicators {
            Indicators::Locate => 0x40,
            Indicators::Mute => 0x80,
            Indicators::Normal => 0xC0,
        };
        out.clear();
        out.extend_from_slice(ID);
        out.extend_from_slice(&op::POLL_REPLY.to_le_bytes());
        out.extend_from_slice(&self.ip);
        out.extend_from_slice(&PORT.to_le_bytes());
        out.extend_from_slice(&[0, 1]); // Version of this firmware.
        out.extend_from_slice(&[(self.switch >> 4) as u8 & 0x7F, self.switch as u8 & 0x0F]);
        out.extend_from_slice(&OEM_UNKNOWN.to_be_bytes());
        out.extend_from_slice(&[0, indicators | flag(self.is_programmable, PROGRAMMED_BY_NETWORK)]);
        out.extend_from_slice(&ESTA_PROTOTYPE.to_le_bytes());
        push_text(out, self.short_name, 18);
        push_text(out, self.long_name, 64);
        push_text(out, self.report, 64);
        out.extend_from_slice(&[0, ports.len() as u8]);
        out.extend_from_slice(&each(|port| {
            flag(port.takes, CAN_OUTPUT) | flag(port.gives, CAN_INPUT)
        }));
        out.extend_from_slice(&each(|port| {
            flag(port.gives && !port.is_disabled, 0x80) | flag(port.is_disabled, 0x08)
        }));
        out.extend_from_slice(&each(|port| {
            flag(port.is_heard, 0x80) | flag(port.is_merging, 0x08) | flag(port.is_latest, 0x02)
        }));
        out.extend_from_slice(&each(|port| port.universe));
        out.extend_from_slice(&each(|port| port.universe));
        // No sACN priority, no macro and no remote keys; three spare octets.
        out.resize(200, 0);
        out.push(STYLE_NODE);
        out.extend_from_slice(&self.mac);
        out.extend_from_slice(&self.ip);
        out.extend_from_slice(&[self.bind_index, WIDE_ADDRESSES]);
        out.extend_from_slice(&each(|port| {
            RDM_DISABLED | NOT_DISCOVERING | NO_BACKGROUND_DISCOVERY | flag(port.takes, CONTINUOUS)
        }));
        out.push(HOLD_LAST);
        // No responder of our own for RDMnet and LLRP, which Status3 says, too; no user data.
        out.resize(226, 0);
        out.extend_from_slice(&self.rate_hz_max.to_be_bytes());
        out.push(NO_BACKGROUND_QUEUE);
        out.resize(239, 0);
    }
}

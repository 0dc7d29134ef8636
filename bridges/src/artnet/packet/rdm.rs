//! RDM (ANSI E1.20) over Art-Net: tables of devices, and what is said to them and by them.

use super::{Malformed, PortAddress, begin, field, op};

/// Version of RDM that gateways speak: 1 is the standard (octet 12).
const RDM_VERSION: u8 = 1;

/// Manufacturer and device, as RDM names one (48 bits).
pub const UID_BYTES: usize = 6;

/// Most ports that one ArtTodRequest asks.
pub const TOD_ADDRESSES_MAX: usize = 32;

/// Most devices that one ArtTodData names.
pub const TOD_UIDS_MAX: usize = 200;

/// Most octets of an RDM message: 257 on the wire, of which the start code 0xCC is left out.
pub const RDM_BYTES_MAX: usize = 256;

/// ArtTodRequest (0x8000): which devices are at these ports?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TodRequest<'a> {
    /// Octet 21.
    net: u8,
    /// Sub-net and universe of each port, at most [`TOD_ADDRESSES_MAX`] (from octet 24).
    addresses: &'a [u8],
}

impl<'a> TodRequest<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [net, _command, count] = field(bytes, 21)?;
        if usize::from(count) > TOD_ADDRESSES_MAX {
            return Err(Malformed::BadField { at: 23, found: count.into() });
        }
        let need = 24 + usize::from(count);
        let addresses = bytes.get(24..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
        Ok(Self { net: checked_net(net)?, addresses })
    }

    pub fn ports(&self) -> impl Iterator<Item = PortAddress> {
        self.addresses.iter().map(|address| whole(self.net, *address))
    }

    /// Asks one port.
    pub fn write(out: &mut Vec<u8>, port: PortAddress) {
        const FULL: u8 = 0;
        begin(out, op::TOD_REQUEST);
        out.resize(21, 0);
        let [net, address] = parts(port);
        out.extend_from_slice(&[net, FULL, 1, address]);
        out.resize(24 + TOD_ADDRESSES_MAX, 0);
    }
}

/// ArtTodData (0x8100): devices at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TodData<'a> {
    pub port_address: PortAddress,
    /// The gateway's port, 1 to 4 (octet 13).
    pub port: u8,
    /// The gateway's group of ports (octet 20).
    pub bind_index: u8,
    /// 0: a part of the table; 0xFF: there is none, or discovery has not ended (octet 22).
    pub response: u8,
    /// Devices in all parts together (octets 24..26).
    pub total: u16,
    /// Which part this is, from 0 (octet 26).
    pub block: u8,
    /// [`UID_BYTES`] for each device, at most [`TOD_UIDS_MAX`] (from octet 28).
    pub uids: &'a [u8],
}

impl<'a> TodData<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [port] = field(bytes, 13)?;
        let [bind_index, net, response, address] = field(bytes, 20)?;
        let total = u16::from_be_bytes(field(bytes, 24)?);
        let [block, count] = field(bytes, 26)?;
        if usize::from(count) > TOD_UIDS_MAX {
            return Err(Malformed::BadField { at: 27, found: count.into() });
        }
        let need = 28 + usize::from(count) * UID_BYTES;
        let uids = bytes.get(28..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
        let port_address = whole(checked_net(net)?, address);
        Ok(Self { port_address, port, bind_index, response, total, block, uids })
    }

    /// Devices beyond [`TOD_UIDS_MAX`] and a device cut short are left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let count = (self.uids.len() / UID_BYTES).min(TOD_UIDS_MAX);
        let [net, address] = parts(self.port_address);
        begin(out, op::TOD_DATA);
        out.extend_from_slice(&[RDM_VERSION, self.port]);
        out.resize(20, 0);
        out.extend_from_slice(&[self.bind_index, net, self.response, address]);
        out.extend_from_slice(&self.total.to_be_bytes());
        out.extend_from_slice(&[self.block, count as u8]);
        out.extend_from_slice(&self.uids[..count * UID_BYTES]);
    }
}

/// ArtTodControl (0x8200): what a gateway is to do with its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TodControl {
    pub port_address: PortAddress,
    /// 0 nothing, 1 forget it and discover again, 2 end discovery, 3 and 4 discovery in the
    /// background on and off (octet 22).
    pub command: u8,
}

impl TodControl {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let [net, command, address] = field(bytes, 21)?;
        Ok(Self { port_address: whole(checked_net(net)?, address), command })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let [net, address] = parts(self.port_address);
        begin(out, op::TOD_CONTROL);
        out.resize(21, 0);
        out.extend_from_slice(&[net, self.command, address]);
    }
}

/// ArtRdm (0x8300): one message of RDM, a request or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rdm<'a> {
    pub port_address: PortAddress,
    /// Without the start code 0xCC; 1 to [`RDM_BYTES_MAX`] octets (from octet 24).
    pub message: &'a [u8],
}

impl<'a> Rdm<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [net, _command, address] = field(bytes, 21)?;
        let message = bytes.get(24..).unwrap_or(&[]);
        if message.is_empty() {
            return Err(Malformed::Short { need: 25, got: bytes.len() });
        }
        let message = &message[..message.len().min(RDM_BYTES_MAX)];
        Ok(Self { port_address: whole(checked_net(net)?, address), message })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        const PROCESS: u8 = 0;
        let [net, address] = parts(self.port_address);
        begin(out, op::RDM);
        out.push(RDM_VERSION);
        out.resize(21, 0);
        out.extend_from_slice(&[net, PROCESS, address]);
        out.extend_from_slice(&self.message[..self.message.len().min(RDM_BYTES_MAX)]);
    }
}

fn checked_net(net: u8) -> Result<u8, Malformed> {
    if net < 0x80 { Ok(net) } else { Err(Malformed::BadField { at: 21, found: net.into() }) }
}

fn whole(net: u8, address: u8) -> PortAddress {
    PortAddress(u16::from(net & 0x7F) << 8 | u16::from(address))
}

/// Net; sub-net and universe.
fn parts(port_address: PortAddress) -> [u8; 2] {
    port_address.0.to_be_bytes()
}

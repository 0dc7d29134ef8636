//! Who is there, and what went wrong: ArtPoll and ArtDiagData.

use super::{ESTA_PROTOTYPE, Malformed, OEM_UNKNOWN, PortAddress, begin, field, op, port_address};
use super::{flag, text, text_len};

/// ArtPoll (0x2000): who is there?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poll {
    /// Reply also when something changes (flag 0x02 of octet 12).
    pub on_change: bool,
    /// Send ArtDiagData, and how (flags 0x04 and 0x08).
    pub diagnostics: Option<Diagnostics>,
    /// Only nodes with a port in this range, ends included, are asked (flag 0x20; octets 14..18).
    pub range: Option<(PortAddress, PortAddress)>,
}

/// What a controller wants to hear of a node's troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// Least priority of interest (octet 13).
    pub priority: u8,
    /// To the controller alone; else broadcast.
    pub unicast: bool,
}

/// Priorities of ArtDiagData.
pub mod priority {
    pub const LOW: u8 = 0x10;
    pub const MEDIUM: u8 = 0x40;
    pub const HIGH: u8 = 0x80;
    pub const CRITICAL: u8 = 0xE0;
}

const ON_CHANGE: u8 = 0x02;
const DIAGNOSTICS: u8 = 0x04;
const DIAGNOSTICS_UNICAST: u8 = 0x08;
const TARGETED: u8 = 0x20;

impl Poll {
    /// The shortest form in use ends before the flags (12 octets).
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let flags = bytes.get(12).copied().unwrap_or(0);
        let diagnostics = (flags & DIAGNOSTICS != 0).then(|| Diagnostics {
            priority: bytes.get(13).copied().unwrap_or(priority::LOW),
            unicast: flags & DIAGNOSTICS_UNICAST != 0,
        });
        let range = if flags & TARGETED != 0 {
            let top = port_address(u16::from_be_bytes(field(bytes, 14)?))?;
            let bottom = port_address(u16::from_be_bytes(field(bytes, 16)?))?;
            Some((bottom, top))
        } else {
            None
        };
        Ok(Self { on_change: flags & ON_CHANGE != 0, diagnostics, range })
    }

    /// Writes all 22 octets of Art-Net 4; older nodes read the first 14.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (wanted, unicast, priority) = match self.diagnostics {
            Some(Diagnostics { priority, unicast }) => (true, unicast, priority),
            None => (false, false, 0),
        };
        let flags = flag(self.on_change, ON_CHANGE)
            | flag(wanted, DIAGNOSTICS)
            | flag(unicast, DIAGNOSTICS_UNICAST)
            | flag(self.range.is_some(), TARGETED);
        let (bottom, top) = self.range.map_or((0, 0), |(bottom, top)| (bottom.0, top.0));
        begin(out, op::POLL);
        out.extend_from_slice(&[flags, priority]);
        out.extend_from_slice(&top.to_be_bytes());
        out.extend_from_slice(&bottom.to_be_bytes());
        out.extend_from_slice(&ESTA_PROTOTYPE.to_be_bytes());
        out.extend_from_slice(&OEM_UNKNOWN.to_be_bytes());
    }
}

/// ArtDiagData (0x2300): what went wrong at a node, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diag<'a> {
    /// See [`priority`] (octet 13).
    pub priority: u8,
    /// The port that it is about; 0: all of the node (octet 14).
    pub port: u8,
    /// At most 511 octets, without its NUL (from octet 18).
    pub text: &'a [u8],
}

impl<'a> Diag<'a> {
    /// Octets of the text with its NUL.
    const TEXT_BYTES_MAX: usize = 512;

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [priority, port] = field(bytes, 13)?;
        let len = text_len(bytes, 16, 18, Self::TEXT_BYTES_MAX)?;
        Ok(Self { priority, port, text: text(bytes, 18, len) })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let kept = &self.text[..self.text.len().min(Self::TEXT_BYTES_MAX - 1)];
        begin(out, op::DIAG);
        out.extend_from_slice(&[0, self.priority, self.port, 0]);
        out.extend_from_slice(&(kept.len() as u16 + 1).to_be_bytes());
        out.extend_from_slice(kept);
        out.push(0);
    }
}

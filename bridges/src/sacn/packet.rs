//! The packets of E1.31 (sACN): levels, per-slot priorities, synchronisation, discovery.
//!
//! Source: ANSI E1.31-2018, and the root layer of ANSI E1.17. Octet numbers count from 0, integers
//! are big-endian. Data packets of draft 0.2 (root vector 3), which old gear still sends, are read,
//! too; none are written.

use crate::merge::SLOTS;
use crate::universes::Number;

/// The port of every sACN receiver.
pub const PORT: u16 = 5568;

/// The universe whose group carries universe discovery.
pub const DISCOVERY_UNIVERSE: u16 = 64_214;

/// What a source has a priority of when nobody says otherwise.
pub const PRIORITY_DEFAULT: u8 = 100;

pub const PRIORITY_MAX: u8 = 200;

/// Levels have this start code.
pub const START_LEVELS: u8 = 0;

/// A priority for each slot has this one; 0 there: the source does not control the slot.
pub const START_PRIORITIES: u8 = 0xDD;

/// Octets of the field for a source's name, the NUL at its end included.
pub const NAME_BYTES: usize = 64;

/// Universes that one page of a discovery packet lists.
pub const PAGE_UNIVERSES: usize = 512;

/// Octets of a data packet before its slots.
const DATA_HEAD: usize = 126;

/// What a data packet says before its slots.
pub(super) type Head = [u8; DATA_HEAD];

/// Where a data packet has its sequence number.
const SEQUENCE_AT: usize = 111;

/// Bytes of the longest packet written here, a full page of universe discovery.
pub const PACKET_BYTES_MAX: usize = 120 + 2 * PAGE_UNIVERSES;

const IDENTIFIER: &[u8; 12] = b"ASC-E1.17\0\0\0";

mod vector {
    pub(super) const ROOT_DATA_DRAFT: u32 = 3;
    pub(super) const ROOT_DATA: u32 = 4;
    pub(super) const ROOT_EXTENDED: u32 = 8;
    pub(super) const FRAME_DATA: u32 = 2;
    pub(super) const FRAME_SYNC: u32 = 1;
    pub(super) const FRAME_DISCOVERY: u32 = 2;
    pub(super) const FRAME_DISCOVERY_DRAFT: u32 = 4;
    pub(super) const UNIVERSE_LIST: u32 = 1;
    pub(super) const SET_PROPERTY: u8 = 2;
}

/// Octet 112 of a data packet.
mod option {
    pub(super) const PREVIEW: u8 = 0x80;
    pub(super) const TERMINATED: u8 = 0x40;
    pub(super) const FORCE_SYNC: u8 = 0x20;
}

/// The number of a universe, 1 to 63999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Universe(u16);

impl Universe {
    pub const MIN: Self = Self(1);
    pub const MAX: Self = Self(63_999);

    pub const fn new(number: u16) -> Option<Self> {
        if Self::MIN.0 <= number && number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }
}

impl Number for Universe {
    const NAME: &'static str = "universe of 1 to 63999";
    const ALL: (Self, Self) = (Self::MIN, Self::MAX);

    fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().and_then(Self::new)
    }

    fn number(self) -> u16 {
        self.0
    }
}

/// A source's component identifier: a UUID that stays the same however often it starts.
pub type Cid = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Data(Data<'a>),
    Sync(Sync),
    Discovery(Discovery<'a>),
    /// A vector that is not spoken here; well-formed as far as can be told.
    Other {
        vector: u32,
    },
}

/// What one source sends of one universe: E1.31-2018, table 4-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Octets 22..38.
    pub cid: Cid,
    /// UTF-8, without what follows its NUL (octets 44..108).
    pub name: &'a [u8],
    /// 0 to 200; of several sources the highest is heard (octet 108).
    pub priority: u8,
    /// The universe on whose group the synchronisation packets come; 0: none (octets 109..111).
    pub sync: u16,
    /// Wraps at 255 (octet 111).
    pub sequence: u8,
    /// For visualisers, not for the stage.
    pub preview: bool,
    /// The source says good-bye: the slots mean nothing.
    pub terminated: bool,
    /// When synchronisation is lost: show what comes, instead of holding the look.
    pub force_sync: bool,
    /// Octets 113..115.
    pub universe: Universe,
    /// What the slots are: levels, priorities, or something else (octet 125). `None`: there is not
    /// even a start code.
    pub start: Option<u8>,
    /// Slot 1 first, at most 512 (octets 126..).
    pub slots: &'a [u8],
}

/// Show now what waits for this: E1.31-2018, table 4-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    pub cid: Cid,
    pub sequence: u8,
    /// Octets 45..47.
    pub universe: Universe,
}

/// A page of the universes that a source sends: E1.31-2018, table 4-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery<'a> {
    pub cid: Cid,
    pub name: &'a [u8],
    /// Counts from 0 (octet 118).
    pub page: u8,
    /// Octet 119.
    pub last: u8,
    /// Two octets each, ascending (octets 120..).
    list: &'a [u8],
}

impl Discovery<'_> {
    pub fn universes(&self) -> impl Iterator<Item = u16> {
        self.list.as_chunks().0.iter().map(|number| u16::from_be_bytes(*number))
    }
}

/// The bytes are not an E1.31 packet. The sender is at fault: drop, count, go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Short {
        need: usize,
        got: usize,
    },
    /// A field holds a value that the standard does not allow there.
    Field {
        name: &'static str,
        found: u32,
    },
    NotAcn,
}

/// Reads one datagram. Bytes after what a packet promises are ignored.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    expect("preamble size", u16_at(bytes, 0)?, 0x0010)?;
    expect("postamble size", u16_at(bytes, 2)?, 0)?;
    if field::<12>(bytes, 4)? != *IDENTIFIER {
        return Err(Malformed::NotAcn);
    }
    let cid = field(bytes, 22)?;
    match u32_at(bytes, 18)? {
        vector::ROOT_DATA => match u32_at(bytes, 40)? {
            vector::FRAME_DISCOVERY_DRAFT => {
                decode_draft_discovery(bytes, cid).map(Packet::Discovery)
            }
            _ => decode_data(bytes, cid).map(Packet::Data),
        },
        vector::ROOT_DATA_DRAFT => decode_draft(bytes, cid).map(Packet::Data),
        vector::ROOT_EXTENDED => match u32_at(bytes, 40)? {
            vector::FRAME_SYNC => decode_sync(bytes, cid).map(Packet::Sync),
            vector::FRAME_DISCOVERY => decode_discovery(bytes, cid).map(Packet::Discovery),
            vector => Ok(Packet::Other { vector }),
        },
        vector => Ok(Packet::Other { vector }),
    }
}

/// Head and slots of what may be a data packet, and the universe that it names if it is one.
pub(super) fn split(bytes: &[u8]) -> Option<(u16, &Head, &[u8])> {
    let (head, slots) = bytes.split_first_chunk::<DATA_HEAD>()?;
    let universe = u16_at(head, 113).ok()?;
    (u32_at(head, 18) == Ok(vector::ROOT_DATA)).then_some((universe, head, slots))
}

/// The sequence number of `next`, if it says what `last` says but for that.
pub(super) fn sequel(last: &Head, next: &Head) -> Option<u8> {
    const AFTER: usize = SEQUENCE_AT + 1;
    let is_same = last[..SEQUENCE_AT] == next[..SEQUENCE_AT] && last[AFTER..] == next[AFTER..];
    is_same.then_some(next[SEQUENCE_AT])
}

fn decode_data(bytes: &[u8], cid: Cid) -> Result<Data<'_>, Malformed> {
    expect("framing vector", u32_at(bytes, 40)?, vector::FRAME_DATA)?;
    let name = text(bytes, 44, NAME_BYTES);
    let [priority] = field(bytes, 108)?;
    let sync = u16_at(bytes, 109)?;
    let [sequence, options] = field(bytes, SEQUENCE_AT)?;
    let universe = universe(bytes, 113)?;
    let properties = properties(bytes, 115)?;
    expect("first property", properties.first, 0)?;
    let (start, slots) = match properties.values.split_first() {
        Some((start, slots)) => (Some(*start), slots),
        None => (None, properties.values),
    };
    Ok(Data {
        cid,
        name,
        priority: checked_priority(priority)?,
        sync,
        sequence,
        preview: options & option::PREVIEW != 0,
        terminated: options & option::TERMINATED != 0,
        force_sync: options & option::FORCE_SYNC != 0,
        universe,
        start,
        slots: slots.get(..SLOTS).unwrap_or(slots),
    })
}

/// Draft 0.2: a name of 32 octets, no options, no synchronisation, and the start code in place of
/// the first property's address.
fn decode_draft(bytes: &[u8], cid: Cid) -> Result<Data<'_>, Malformed> {
    expect("framing vector", u32_at(bytes, 40)?, vector::FRAME_DATA)?;
    let [priority, sequence] = field(bytes, 76)?;
    let universe = universe(bytes, 78)?;
    let properties = properties(bytes, 80)?;
    Ok(Data {
        cid,
        name: text(bytes, 44, 32),
        priority: checked_priority(priority)?,
        sync: 0,
        sequence,
        preview: false,
        terminated: false,
        force_sync: false,
        universe,
        start: u8::try_from(properties.first).ok(),
        slots: properties.values.get(..SLOTS).unwrap_or(properties.values),
    })
}

/// The device management layer: how many values, and which.
struct Properties<'a> {
    first: u16,
    values: &'a [u8],
}

fn properties(bytes: &[u8], at: usize) -> Result<Properties<'_>, Malformed> {
    let [vector, kind] = field(bytes, at + 2)?;
    expect("property vector", vector, vector::SET_PROPERTY)?;
    expect("address and data type", kind, 0xA1)?;
    let first = u16_at(bytes, at + 4)?;
    expect("address increment", u16_at(bytes, at + 6)?, 1)?;
    let count = u16_at(bytes, at + 8)?;
    if usize::from(count) > SLOTS + 1 {
        return Err(Malformed::Field { name: "property value count", found: count.into() });
    }
    let need = at + 10 + usize::from(count);
    let values = bytes.get(at + 10..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
    Ok(Properties { first, values })
}

fn decode_sync(bytes: &[u8], cid: Cid) -> Result<Sync, Malformed> {
    let [sequence] = field(bytes, 44)?;
    Ok(Sync { cid, sequence, universe: universe(bytes, 45)? })
}

fn decode_discovery(bytes: &[u8], cid: Cid) -> Result<Discovery<'_>, Malformed> {
    expect("discovery vector", u32_at(bytes, 114)?, vector::UNIVERSE_LIST)?;
    let [page, last] = field(bytes, 118)?;
    if page > last {
        return Err(Malformed::Field { name: "page", found: page.into() });
    }
    // The list is as long as its layer says, which counts from octet 112.
    let len = usize::from(u16_at(bytes, 112)? & 0x0FFF);
    let need = 112 + len.max(8);
    let list = bytes.get(120..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
    Ok(Discovery { cid, name: text(bytes, 44, NAME_BYTES), page, last, list })
}

/// As OLA sends it: laid out as a data packet up to the universe, page and list behind it.
fn decode_draft_discovery(bytes: &[u8], cid: Cid) -> Result<Discovery<'_>, Malformed> {
    let [page, last] = field(bytes, 115)?;
    if page > last {
        return Err(Malformed::Field { name: "page", found: page.into() });
    }
    let need = 38 + usize::from(u16_at(bytes, 38)? & 0x0FFF).max(79);
    let list = bytes.get(117..need).ok_or(Malformed::Short { need, got: bytes.len() })?;
    Ok(Discovery { cid, name: text(bytes, 44, NAME_BYTES), page, last, list })
}

fn checked_priority(priority: u8) -> Result<u8, Malformed> {
    match priority {
        0..=PRIORITY_MAX => Ok(priority),
        _ => Err(Malformed::Field { name: "priority", found: priority.into() }),
    }
}

fn universe(bytes: &[u8], at: usize) -> Result<Universe, Malformed> {
    let number = u16_at(bytes, at)?;
    Universe::new(number).ok_or(Malformed::Field { name: "universe", found: number.into() })
}

fn expect<T: Into<u32> + PartialEq>(
    name: &'static str,
    found: T,
    wanted: T,
) -> Result<(), Malformed> {
    if found == wanted { Ok(()) } else { Err(Malformed::Field { name, found: found.into() }) }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    field(bytes, at).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    field(bytes, at).map(u32::from_be_bytes)
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

/// Writes a data packet, of at most 512 slots. A `start` of `None` leaves the slots out, too.
pub fn write_data(out: &mut Vec<u8>, data: &Data<'_>) {
    let slots = data.slots.get(..SLOTS).unwrap_or(data.slots);
    let values = data.start.map_or(0, |_| 1 + slots.len());
    let len = DATA_HEAD - 1 + values;
    begin(out, vector::ROOT_DATA, &data.cid, len);
    push_length(out, len, 38);
    out.extend_from_slice(&vector::FRAME_DATA.to_be_bytes());
    push_name(out, data.name);
    out.push(data.priority);
    out.extend_from_slice(&data.sync.to_be_bytes());
    let flag = |set, bit| if set { bit } else { 0 };
    let options = flag(data.preview, option::PREVIEW)
        | flag(data.terminated, option::TERMINATED)
        | flag(data.force_sync, option::FORCE_SYNC);
    out.extend_from_slice(&[data.sequence, options]);
    out.extend_from_slice(&data.universe.0.to_be_bytes());
    push_length(out, len, 115);
    out.extend_from_slice(&[vector::SET_PROPERTY, 0xA1, 0, 0, 0, 1]);
    out.extend_from_slice(&(values as u16).to_be_bytes());
    if let Some(start) = data.start {
        out.push(start);
        out.extend_from_slice(slots);
    }
}

/// Writes a synchronisation packet of 49 octets.
pub fn write_sync(out: &mut Vec<u8>, sync: &Sync) {
    begin(out, vector::ROOT_EXTENDED, &sync.cid, 49);
    push_length(out, 49, 38);
    out.extend_from_slice(&vector::FRAME_SYNC.to_be_bytes());
    out.push(sync.sequence);
    out.extend_from_slice(&sync.universe.0.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

/// Writes one page of universe discovery: at most [`PAGE_UNIVERSES`], ascending.
pub fn write_discovery(
    out: &mut Vec<u8>,
    cid: &Cid,
    name: &[u8],
    page: u8,
    last: u8,
    list: &[u16],
) {
    let list = list.get(..PAGE_UNIVERSES).unwrap_or(list);
    let len = 120 + 2 * list.len();
    begin(out, vector::ROOT_EXTENDED, cid, len);
    push_length(out, len, 38);
    out.extend_from_slice(&vector::FRAME_DISCOVERY.to_be_bytes());
    push_name(out, name);
    out.extend_from_slice(&[0; 4]);
    push_length(out, len, 112);
    out.extend_from_slice(&vector::UNIVERSE_LIST.to_be_bytes());
    out.extend_from_slice(&[page, last]);
    list.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}

/// The root layer of a packet of `len` octets.
fn begin(out: &mut Vec<u8>, vector: u32, cid: &Cid, len: usize) {
    out.clear();
    out.extend_from_slice(&[0, 0x10, 0, 0]);
    out.extend_from_slice(IDENTIFIER);
    push_length(out, len, 16);
    out.extend_from_slice(&vector.to_be_bytes());
    out.extend_from_slice(cid);
}

/// Flags and length of a layer that begins at octet `at` and ends with the packet.
fn push_length(out: &mut Vec<u8>, len: usize, at: usize) {
    let octets = (len - at) as u16 & 0x0FFF;
    out.extend_from_slice(&(0x7000 | octets).to_be_bytes());
}

/// A field of [`NAME_BYTES`] octets that always ends in NUL.
fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    let end = out.len() + NAME_BYTES;
    out.extend_from_slice(name.get(..NAME_BYTES - 1).unwrap_or(name));
    out.resize(end, 0);
}

/// Whether `next` is older than `last`, so that it must be dropped: E1.31-2018, 6.7.2.
///
/// A jump back of 20 or more is taken as a restarted source, not as a late packet.
pub fn is_stale(last: u8, next: u8) -> bool {
    let step = next.wrapping_sub(last) as i8;
    -20 < step && step <= 0
}

#[cfg(test)]
mod tests;

//! The two file formats of captures: records with their instants, whatever is in them.
//!
//! Sources: the libpcap file format, and draft-ietf-opsawg-pcapng (section header, interface
//! description, enhanced and simple packet blocks; others are passed over).

use std::time::Duration;

use super::{Link, Malformed};

/// One captured record: when, over what kind of link, and its octets.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub stamp: Duration,
    pub link: Link,
    pub octets: &'a [u8],
}

/// All records of a capture file, in its order.
pub fn records(file: &[u8]) -> Result<Vec<Record<'_>>, Malformed> {
    match u32::from_be_bytes(word(take(file, 0, 4)?, 0)) {
        0xA1B2_C3D4 => classic(file, Order::Big, 1_000),
        0xA1B2_3C4D => classic(file, Order::Big, 1),
        0xD4C3_B2A1 => classic(file, Order::Little, 1_000),
        0x4D3C_B2A1 => classic(file, Order::Little, 1),
        SECTION => next_generation(file),
        found => Err(Malformed::Magic { found }),
    }
}

/// A 24-byte header, whose magic told byte order and resolution, then 16 bytes before each record.
fn classic(file: &[u8], order: Order, nanos_a_tick: u64) -> Result<Vec<Record<'_>>, Malformed> {
    const HEADER_LEN: usize = 24;
    const RECORD_HEADER_LEN: usize = 16;
    let header = take(file, 0, HEADER_LEN)?;
    // The upper bits of the word say how frame check sequences were captured.
    let link = Link::from_code(order.u32(header, 20) & 0x0FFF_FFFF)?;
    let mut records = Vec::new();
    let mut at = HEADER_LEN;
    while at < file.len() {
        let header = take(file, at, RECORD_HEADER_LEN)?;
        let seconds = Duration::from_secs(u64::from(order.u32(header, 0)));
        let ticks = Duration::from_nanos(u64::from(order.u32(header, 4)) * nanos_a_tick);
        let len = order.u32(header, 8) as usize;
        at += RECORD_HEADER_LEN;
        records.push(Record { stamp: seconds + ticks, link, octets: take(file, at, len)? });
        at += len;
    }
    Ok(records)
}

/// Block types of pcapng.
const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and total length before a block, its length once more behind it.
const BLOCK_OVERHEAD: usize = 12;

/// What packets refer to by number.
#[derive(Clone, Copy)]
struct Interface {
    link: Link,
    ticks_a_second: u64,
}

fn next_generation(file: &[u8]) -> Result<Vec<Record<'_>>, Malformed> {
    let mut records = Vec::new();
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut order = Order::Little;
    let mut at = 0;
    while at < file.len() {
        let header = take(file, at, BLOCK_OVERHEAD)?;
        // A section header reads the same in both orders; what follows it tells the order.
        if u32::from_be_bytes(word(header, 0)) == SECTION {
            order = match u32::from_be_bytes(word(header, 8)) {
                0x1A2B_3C4D => Order::Big,
                0x4D3C_2B1A => Order::Little,
                found => return Err(Malformed::Magic { found }),
            };
            interfaces.clear();
        }
        let len = (order.u32(header, 4) as usize).max(BLOCK_OVERHEAD);
        let block = take(file, at, len)?;
        let body = &block[8..len - 4];
        match order.u32(block, 0) {
            INTERFACE => interfaces.push(interface(body, order)?),
            ENHANCED_PACKET => {
                let head = take(body, 0, 20)?;
                let interface = *interfaces
                    .get(order.u32(head, 0) as usize)
                    .ok_or(Malformed::Interface { found: order.u32(head, 0) })?;
                let ticks = u64::from(order.u32(head, 4)) << 32 | u64::from(order.u32(head, 8));
                let octets = take(body, 20, order.u32(head, 12) as usize)?;
                let stamp = instant(ticks, interface.ticks_a_second);
                records.push(Record { stamp, link: interface.link, octets });
            }
            // Without a stamp: as early as can be.
            SIMPLE_PACKET => {
                let interface = *interfaces.first().ok_or(Malformed::Interface { found: 0 })?;
                let whole = order.u32(take(body, 0, 4)?, 0) as usize;
                let octets = take(body, 4, whole.min(body.len() - 4))?;
                let stamp = records.last().map_or(Duration::ZERO, |last: &Record<'_>| last.stamp);
                records.push(Record { stamp, link: interface.link, octets });
            }
            _ => {}
        }
        at += len;
    }
    Ok(records)
}

/// Link type, and the option `if_tsresol` (9) where it is given; microseconds where not.
fn interface(body: &[u8], order: Order) -> Result<Interface, Malformed> {
    const RESOLUTION: u16 = 9;
    let head = take(body, 0, 8)?;
    let link = Link::from_code(u32::from(order.u16(head, 0)))?;
    let mut ticks_a_second = 1_000_000;
    let mut at = 8;
    while let Some(option) = body.get(at..at + 4) {
        let (code, len) = (order.u16(option, 0), usize::from(order.u16(option, 2)));
        if code == RESOLUTION
            && let Some(resolution) = body.get(at + 4)
        {
            let exponent = u32::from(resolution & 0x7F);
            let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
            ticks_a_second = base.checked_pow(exponent).ok_or(Malformed::Resolution)?;
        }
        // Values are padded to four octets.
        at += 4 + len.next_multiple_of(4);
    }
    Ok(Interface { link, ticks_a_second })
}

fn instant(ticks: u64, ticks_a_second: u64) -> Duration {
    let nanos = u128::from(ticks % ticks_a_second) * 1_000_000_000 / u128::from(ticks_a_second);
    Duration::from_secs(ticks / ticks_a_second) + Duration::from_nanos(nanos as u64)
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(word(bytes, at)),
            Self::Little => u32::from_le_bytes(word(bytes, at)),
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes([bytes[at], bytes[at + 1]]),
            Self::Little => u16::from_le_bytes([bytes[at], bytes[at + 1]]),
        }
    }
}

fn take(file: &[u8], at: usize, len: usize) -> Result<&[u8], Malformed> {
    let end = at.saturating_add(len);
    file.get(at..end).ok_or(Malformed::Short { need: end, got: file.len() })
}

/// Four bytes of a slice whose length was checked.
fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_any_resolution_become_nanoseconds() {
        let cases = [
            (1_500_000, 1_000_000, 1_500_000_000),
            (3, 2, 1_500_000_000),
            (1_000_000_001, 1_000_000_000, 1_000_000_001),
        ];
        for (ticks, ticks_a_second, nanos) in cases {
            assert_eq!(instant(ticks, ticks_a_second), Duration::from_nanos(nanos));
        }
    }

    #[test]
    fn an_interface_may_say_its_resolution_after_other_options() {
        let mut body = vec![1, 0, 0, 0, 0, 0, 4, 0];
        body.extend([2, 0, 3, 0, b'e', b't', b'h', 0]);
        body.extend([9, 0, 1, 0, 9, 0, 0, 0]);
        assert_eq!(interface(&body, Order::Little).unwrap().ticks_a_second, 1_000_000_000);
        assert_eq!(interface(&body[..16], Order::Little).unwrap().ticks_a_second, 1_000_000);
    }
}

//! TCP connections of a capture: what the side that opened each of them said, in its order.
//!
//! A connection whose beginning is not in the file is passed over: without its first bytes nobody
//! would understand the rest.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

const HEADER_LEN: usize = 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A segment out of its order waits for those before it; of a connection at most so many do.
const WAITING_MAX: usize = 1_024;

/// What the opener of a connection did at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Since the first record of the file.
    pub offset: Duration,
    /// Counts the connections of the file.
    pub connection: usize,
    pub to: SocketAddr,
    pub said: Said<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Bytes(&'a [u8]),
    /// Nothing more will come.
    Ended,
}

/// One TCP segment as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads what an IP packet between `from` and `to` carries (RFC 9293, section 3.1).
    pub fn read(from: std::net::IpAddr, to: std::net::IpAddr, octets: &'a [u8]) -> Option<Self> {
        let header = octets.get(..HEADER_LEN)?;
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let payload = octets.get(usize::from(header[12] >> 4) * 4..)?;
        Some(Self {
            from: SocketAddr::new(from, port(0)),
            to: SocketAddr::new(to, port(2)),
            sequence: u32::from_be_bytes(super::word(header, 4)),
            flags: header[13],
            payload,
        })
    }
}

/// Puts segments in order, connection by connection.
#[derive(Debug, Default)]
pub struct Streams<'a> {
    pub pieces: Vec<Piece<'a>>,
    open: HashMap<(SocketAddr, SocketAddr), Open<'a>>,
    connections: usize,
}

#[derive(Debug)]
struct Open<'a> {
    number: usize,
    /// The next byte that was not seen yet.
    next: u32,
    waiting: BTreeMap<u32, (&'a [u8], u8)>,
}

impl<'a> Streams<'a> {
    /// Takes the segments in the order of the file. Whether it is of a known opener.
    pub fn take(&mut self, offset: Duration, segment: &Segment<'a>) -> bool {
        let ends = (segment.from, segment.to);
        if segment.flags & (SYN | ACK) == SYN {
            let next = segment.sequence.wrapping_add(1);
            let open = Open { number: self.connections, next, waiting: BTreeMap::new() };
            self.open.insert(ends, open);
            self.connections += 1;
            return true;
        }
        let Some(open) = self.open.get_mut(&ends) else { return false };
        if open.waiting.len() < WAITING_MAX {
            open.waiting.insert(segment.sequence, (segment.payload, segment.flags));
        }
        let mut is_over = false;
        // Sequence numbers wrap, so the nearest is the one least ahead of what was expected.
        while let Some((&at, &(payload, flags))) =
            open.waiting.iter().min_by_key(|(at, _)| at.wrapping_sub(open.next) as i32)
        {
            // Bytes that came before are sent again now and then.
            let known = open.next.wrapping_sub(at) as i32;
            if known < 0 {
                break;
            }
            open.waiting.remove(&at);
            let fresh = payload.get(known as usize..).unwrap_or_default();
            let piece = |said| Piece { offset, connection: open.number, to: segment.to, said };
            if !fresh.is_empty() {
                self.pieces.push(piece(Said::Bytes(fresh)));
                open.next = open.next.wrapping_add(fresh.len() as u32);
            }
            if flags & (FIN | RST) != 0 {
                self.pieces.push(piece(Said::Ended));
                is_over = true;
                break;
            }
        }
        if is_over {
            self.open.remove(&ends);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
        let from = "10.0.0.1:40000".parse().unwrap();
        let to = "10.0.0.2:1883".parse().unwrap();
        Segment { from, to, sequence, flags, payload }
    }

    fn said(segments: &[Segment<'_>]) -> Vec<String> {
        let mut streams = Streams::default();
        for (at, segment) in (0..).zip(segments) {
            streams.take(Duration::from_millis(at), segment);
        }
        let text = |piece: &Piece<'_>| match piece.said {
            Said::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Said::Ended => format!("end of {}", piece.connection),
        };
        streams.pieces.iter().map(text).collect()
    }

    #[test]
    fn bytes_come_out_once_and_in_order_whatever_the_network_did() {
        let start = u32::MAX - 1;
        let at = |count: u32| start.wrapping_add(1 + count);
        let segments = [
            segment(start, SYN, b""),
            segment(at(0), ACK, b"ab"),
            // Out of order, again, and again with more.
            segment(at(4), ACK, b"ef"),
            segment(at(0), ACK, b"ab"),
            segment(at(1), ACK, b"bcd"),
            segment(at(6), FIN | ACK, b"g"),
        ];
        assert_eq!(said(&segments), ["ab", "cd", "ef", "g", "end of 0"]);
    }

    #[test]
    fn a_connection_without_its_beginning_says_nothing() {
        assert_eq!(said(&[segment(5, ACK, b"ab"), segment(7, FIN, b"")]), [""; 0]);
        let again = [segment(5, SYN, b""), segment(6, RST, b""), segment(9, SYN, b"")];
        assert_eq!(
            said(&[again[0], again[1], again[2], segment(10, ACK, b"x")]),
            ["end of 0", "x"]
        );
    }
}

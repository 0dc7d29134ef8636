//! What programs said to each other in a capture file, with the instant at which each was seen.
//!
//! Whole UDP datagrams over IPv4 or IPv6 come out, and what the openers of TCP connections said;
//! fragments and everything else is counted and skipped.

mod file;
mod streams;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use streams::{Piece, Said};

use streams::{Segment, Streams};

const TCP_PROTOCOL: u8 = 6;
const UDP_PROTOCOL: u8 = 17;
const UDP_HEADER_LEN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Since the first record of the file.
    pub offset: Duration,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: &'a [u8],
}

/// A read capture, all in file order.
#[derive(Clone, Debug, Default)]
pub struct Capture<'a> {
    pub datagrams: Vec<Datagram<'a>>,
    /// Of the sides that opened TCP connections.
    pub pieces: Vec<Piece<'a>>,
    /// Records that hold neither a whole UDP datagram nor anything of a TCP opener.
    pub skipped: usize,
}

/// The file is not a capture that this reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Short {
        need: usize,
        got: usize,
    },
    Magic {
        found: u32,
    },
    LinkType {
        found: u32,
    },
    /// A packet of an interface that the file does not describe.
    Interface {
        found: u32,
    },
    /// Ticks of an interface are finer than 64 bits can say.
    Resolution,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { need, got } => write!(f, "capture needs {need} bytes, has {got}"),
            Self::Magic { found } => {
                write!(f, "first four bytes are {found:#010x}, not those of a pcap or pcapng file")
            }
            Self::LinkType { found } => {
                write!(f, "link type {found} is not Ethernet, raw IP, loopback or Linux cooked")
            }
            Self::Interface { found } => write!(f, "interface {found} is not described"),
            Self::Resolution => {
                f.write_str("an interface's clock ticks finer than 64 bits can say")
            }
        }
    }
}

impl std::error::Error for Malformed {}

/// Reads a whole capture file.
pub fn read(file: &[u8]) -> Result<Capture<'_>, Malformed> {
    let records = file::records(file)?;
    let start = records.first().map_or(Duration::ZERO, |record| record.stamp);
    let mut capture = Capture::default();
    let mut streams = Streams::default();
    for record in records {
        let offset = record.stamp.saturating_sub(start);
        match packet(record.link, record.octets) {
            Some((from, to, UDP_PROTOCOL, octets)) => match udp(from, to, octets) {
                Some((from, to, payload)) => {
                    capture.datagrams.push(Datagram { offset, from, to, payload });
                }
                None => capture.skipped += 1,
            },
            Some((from, to, TCP_PROTOCOL, octets)) => {
                let segment = Segment::read(from, to, octets);
                if !segment.is_some_and(|segment| streams.take(offset, &segment)) {
                    capture.skipped += 1;
                }
            }
            _ => capture.skipped += 1,
        }
    }
    capture.pieces = streams.pieces;
    Ok(capture)
}

/// What lies before the IP header: the tcpdump.org list of link types.
#[derive(Clone, Copy, Debug)]
enum Link {
    Null,
    Ethernet,
    RawIp,
    LinuxCooked,
    LinuxCooked2,
}

impl Link {
    fn from_code(code: u32) -> Result<Self, Malformed> {
        match code {
            0 | 108 => Ok(Self::Null),
            1 => Ok(Self::Ethernet),
            12 | 101 | 228 | 229 => Ok(Self::RawIp),
            113 => Ok(Self::LinuxCooked),
            276 => Ok(Self::LinuxCooked2),
            found => Err(Malformed::LinkType { found }),
        }
    }

    /// The IP packet inside one captured record.
    fn ip_packet(self, octets: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Null => octets.get(4..),
            Self::RawIp => Some(octets),
            Self::LinuxCooked => octets.get(16..),
            Self::LinuxCooked2 => octets.get(20..),
            Self::Ethernet => {
                // Each VLAN tag puts four octets before the type of what follows.
                let mut at = 12;
                while matches!(octets.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xA8]) {
                    at += 4;
                }
                matches!(octets.get(at..at + 2)?, [0x08, 0x00] | [0x86, 0xDD])
                    .then(|| octets.get(at + 2..))?
            }
        }
    }
}

/// The two hosts, the protocol, and what the whole IP packet of a record carries.
fn packet(link: Link, octets: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let packet = link.ip_packet(octets)?;
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

fn udp(from: IpAddr, to: IpAddr, octets: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let header = octets.get(..UDP_HEADER_LEN)?;
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let payload = octets.get(UDP_HEADER_LEN..usize::from(port(4)))?;
    Some((SocketAddr::new(from, port(0)), SocketAddr::new(to, port(2)), payload))
}

/// Ethernet pads short packets, so the length comes from the header, not from the record.
fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header = packet.get(..20)?;
    let header_len = usize::from(header[0] & 0x0F) * 4;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF;
    if fragment != 0 {
        return None;
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::from(word(header, at)));
    Some((address(12), address(16), header[9], packet.get(header_len..len)?))
}

fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header = packet.get(..40)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Some((address(8), address(24), header[6], packet.get(40..40 + len)?))
}

/// Four bytes of a slice whose length was checked.
fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn capture(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name)).unwrap()
    }

    #[test]
    fn the_captures_hold_the_datagrams_that_their_list_promises() {
        // What each starts with, and how many of those there are: captures/README.md.
        let art_dmx: &[u8] = b"Art-Net\0\x00\x50";
        let art_sync: &[u8] = b"Art-Net\0\x00\x52";
        let cases = [
            ("artnet-20-universes-artsync.pcap", art_dmx, 120),
            ("artnet-20-universes-artsync.pcap", art_sync, 126),
            ("sacn-4-universes-sync.pcap", b"\x00\x10\x00\x00ASC-E1.17", 20),
            ("osc-udp-tcp.pcap", b"#bundle\0", 2),
            ("qlcplus-artnet-sacn.pcap", art_dmx, 78),
        ];
        for (name, prefix, expected) in cases {
            let file = capture(name);
            let found = read(&file).unwrap();
            let count = found.datagrams.iter().filter(|d| d.payload.starts_with(prefix)).count();
            assert_eq!(count, expected, "{name}");
            let rising = found.datagrams.windows(2).all(|two| two[0].offset <= two[1].offset);
            assert!(rising, "{name}: offsets go back");
        }
    }

    #[test]
    fn a_cut_or_strange_file_is_refused_with_facts() {
        assert_eq!(read(&[]).unwrap_err(), Malformed::Short { need: 4, got: 0 });
        assert_eq!(read(&[0x0B; 24]).unwrap_err(), Malformed::Magic { found: 0x0B0B_0B0B });
        for name in ["osc-udp-tcp.pcap", "qlcplus-artnet-sacn.pcap"] {
            let whole = capture(name);
            for len in 0..whole.len().min(3_000) {
                if let Ok(found) = read(&whole[..len]) {
                    assert!(found.datagrams.iter().all(|datagram| datagram.payload.len() <= len));
                }
            }
            // Any byte may be wrong; what is read must still be within the file.
            for at in 0..whole.len().min(3_000) {
                let mut wrong = whole.clone();
                wrong[at] ^= 0x81;
                if let Ok(found) = read(&wrong) {
                    let bytes: usize = found.datagrams.iter().map(|d| d.payload.len()).sum();
                    assert!(bytes < whole.len());
                }
            }
        }
    }

    #[test]
    fn octets_after_the_datagram_are_padding_and_fragments_are_skipped() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 31, 0, 0, 0, 0, 64, UDP_PROTOCOL, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x1F, 0x90, 0x19, 0x36, 0, 11, 0, 0]);
        frame.extend(b"abc-padding");
        let (from, to, protocol, octets) = packet(Link::Ethernet, &frame).unwrap();
        assert_eq!(protocol, UDP_PROTOCOL);
        let (from, to, payload) = udp(from, to, octets).unwrap();
        assert_eq!(from, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(to, "10.0.0.2:6454".parse().unwrap());
        assert_eq!(payload, b"abc");
        frame[14 + 6] = 0x20;
        assert_eq!(packet(Link::Ethernet, &frame), None);
    }

    #[test]
    fn what_mqtt_clients_said_is_put_together() {
        let file = capture("mqtt-311-and-5.pcap");
        let found = read(&file).unwrap();
        let connects = found.pieces.iter().filter(|piece| match piece.said {
            Said::Bytes(bytes) => bytes.get(4..8) == Some(b"MQTT"),
            Said::Ended => false,
        });
        assert_eq!(connects.count(), 12);
        let ends = found.pieces.iter().filter(|piece| piece.said == Said::Ended).count();
        assert_eq!(ends, 12);
    }
}

//! What Art-Net and sACN call a frame of one universe, octet by octet: written and read by hand, so
//! that the generator costs little and shares no code with what it measures.

use std::fmt;

use super::SLOTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Artnet,
    Sacn,
}

/// Where the fields of a data packet lie.
struct Layout {
    sequence: usize,
    universe: usize,
    levels: usize,
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Counted from 0, whatever the protocol's first number is.
    pub(super) universe: usize,
    pub(super) sequence: u8,
    /// Of slot 1.
    pub(super) level: u8,
}

impl Protocol {
    /// As people write it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Artnet => "Art-Net",
            Self::Sacn => "sACN",
        }
    }

    /// The lowest number of a universe.
    pub(super) fn first_universe(self) -> usize {
        match self {
            Self::Artnet => 0,
            Self::Sacn => 1,
        }
    }

    /// What the bridge is told of its own protocol, in TOML: `there` is who gets what leaves.
    /// Both by unicast over the loopback interface; sACN settles at once, so that the first frames
    /// are heard.
    pub(super) fn options(self, there: &str) -> String {
        match self {
            Self::Artnet => format!("targets = [\"{there}\"]\npoll = false\n"),
            Self::Sacn => {
                format!("targets = [\"{there}\"]\nmulticast = false\nsettle_ms = 0\n")
            }
        }
    }

    /// A frame of all slots, dark. Sources: Art-Net 4, ArtDmx; ANSI E1.31-2018, table 4-1.
    pub(super) fn packet(self) -> Vec<u8> {
        let mut packet = Vec::new();
        match self {
            Self::Artnet => {
                packet.extend(b"Art-Net\0\x00\x50\x00\x0e\0\0\0\0");
                packet.extend((SLOTS as u16).to_be_bytes());
            }
            Self::Sacn => {
                let len = 126 + SLOTS;
                let length_from = |at: usize| (0x7000 | (len - at) as u16).to_be_bytes();
                packet.extend(b"\x00\x10\x00\x00ASC-E1.17\0\0\0");
                packet.extend(length_from(16));
                packet.extend(b"\x00\x00\x00\x04");
                packet.extend(b"clasp-rt bench 1");
                packet.extend(length_from(38));
                packet.extend(b"\x00\x00\x00\x02");
                packet.extend(b"bench");
                packet.resize(108, 0);
                // Priority, no synchronisation, sequence, no options, universe.
                packet.extend([100, 0, 0, 0, 0, 0, 0]);
                packet.extend(length_from(115));
                packet.extend(b"\x02\xa1\x00\x00\x00\x01");
                packet.extend((SLOTS as u16 + 1).to_be_bytes());
                packet.push(0);
            }
        }
        packet.resize(self.layout().levels + SLOTS, 0);
        packet
    }

    /// Makes of `packet` the frame of a universe that is number `sequence` of them, with the first
    /// `changing` slots at `level`.
    pub(super) fn mark(
        self,
        packet: &mut [u8],
        universe: usize,
        sequence: u64,
        level: u8,
        changing: usize,
    ) {
        let layout = self.layout();
        let number = (universe + self.first_universe()) as u16;
        let number = match self {
            Self::Artnet => number.to_le_bytes(),
            Self::Sacn => number.to_be_bytes(),
        };
        packet[layout.sequence] = self.sequence(sequence);
        packet[layout.universe..layout.universe + 2].copy_from_slice(&number);
        packet[layout.levels..layout.levels + changing].fill(level);
    }

    /// What is read of a packet; `None` where it holds no levels.
    pub(super) fn read(self, packet: &[u8]) -> Option<Frame> {
        let layout = self.layout();
        let number: [u8; 2] = packet.get(layout.universe..)?.first_chunk().copied()?;
        let (number, holds_levels) = match self {
            Self::Artnet => (u16::from_le_bytes(number), packet.starts_with(b"Art-Net\0\x00\x50")),
            // The vectors of the root and of the framing layer, and the start code.
            Self::Sacn => (
                u16::from_be_bytes(number),
                packet.get(18..22)? == [0, 0, 0, 4]
                    && packet.get(40..44)? == [0, 0, 0, 2]
                    && packet.get(125)? == &0,
            ),
        };
        let universe = usize::from(number).checked_sub(self.first_universe())?;
        let (sequence, level) = (*packet.get(layout.sequence)?, *packet.get(layout.levels)?);
        holds_levels.then_some(Frame { universe, sequence, level })
    }

    /// The sequence number of a frame: of Art-Net 1 to 255, of sACN 0 to 255.
    fn sequence(self, round: u64) -> u8 {
        match self {
            Self::Artnet => (round % 255) as u8 + 1,
            Self::Sacn => round as u8,
        }
    }

    /// Frames between two sequence numbers that never came.
    pub(super) fn gap(self, last: u8, next: u8) -> u64 {
        let ring = match self {
            Self::Artnet => 255,
            Self::Sacn => 256,
        };
        (i64::from(next) - i64::from(last) - 1).rem_euclid(ring).unsigned_abs()
    }

    fn layout(self) -> Layout {
        match self {
            Self::Artnet => Layout { sequence: 12, universe: 14, levels: 18 },
            Self::Sacn => Layout { sequence: 111, universe: 113, levels: 126 },
        }
    }
}

/// The bridge's type, its namespace without the slash, and the first word of keys.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Artnet => "artnet",
            Self::Sacn => "sacn",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_packet_reads_as_its_frame() {
        for protocol in [Protocol::Artnet, Protocol::Sacn] {
            let mut packet = protocol.packet();
            for (universe, round) in [(0, 0), (1, 254), (300, 255), (4_095, 256), (8_191, 700)] {
                protocol.mark(&mut packet, universe, round, round as u8, 16);
                let frame = protocol.read(&packet).unwrap();
                assert_eq!((frame.universe, frame.level), (universe, round as u8), "{protocol}");
                for cut in [0, 18, packet.len() - SLOTS] {
                    assert_eq!(protocol.read(&packet[..cut]), None, "{protocol} cut to {cut}");
                }
            }
        }
    }

    #[test]
    fn sequence_numbers_that_are_passed_over_are_gaps() {
        for protocol in [Protocol::Artnet, Protocol::Sacn] {
            for (round, next, gap) in [(0, 1, 0), (254, 255, 0), (255, 256, 0), (250, 260, 9)] {
                let [last, next] = [round, next].map(|round| protocol.sequence(round));
                assert_eq!(protocol.gap(last, next), gap, "{protocol}: {last} to {next}");
            }
        }
    }

    #[test]
    fn what_the_bench_calls_a_packet_of_sacn_is_laid_out_as_a_desk_lays_it_out() {
        let desk = include_bytes!("../../../bridges/vectors/sacn/qlcplus-data.bin");
        let ours = Protocol::Sacn.packet();
        assert_eq!(ours.len(), desk.len());
        // Not the CID, the name, priority to universe, and the levels.
        for fields in [0..22, 38..44, 115..126] {
            assert_eq!(ours[fields.clone()], desk[fields.clone()], "octets {fields:?}");
        }
    }
}

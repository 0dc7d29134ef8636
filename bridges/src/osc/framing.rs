//! OSC over a byte stream: every packet behind its length (OSC 1.0), or between SLIP ends (1.1).

use serde::Deserialize;

/// The longest packet that is taken: what a datagram carries.
pub const PACKET_BYTES_MAX: usize = 65_507;

const END: u8 = 0xC0;
const ESC: u8 = 0xDB;
const ESC_END: u8 = 0xDC;
const ESC_ESC: u8 = 0xDD;

/// Bytes of the length before a packet of OSC 1.0.
const LENGTH_LEN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// A big-endian length of four bytes before each packet.
    Length,
    /// RFC 1055, with END before and after each packet.
    Slip,
}

impl Framing {
    /// A length below 2^24 begins with 0, SLIP with an END or, where a sender leaves that out, with
    /// the address of the packet.
    pub fn told_by(first: u8) -> Option<Self> {
        match first {
            0 => Some(Self::Length),
            END | b'/' | b'#' => Some(Self::Slip),
            _ => None,
        }
    }
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Packet(&'a [u8]),
    /// A SLIP packet with a wrong escape, or too long: left out.
    Malformed,
}

/// The stream cannot be read on: it begins like neither framing, or promises a packet longer than
/// [`PACKET_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Finds the packets of one stream.
#[derive(Debug)]
pub struct Deframer {
    framing: Option<Framing>,
    /// The packet that is coming; with its length before it, where it has one.
    carry: Vec<u8>,
    escaped: bool,
    /// The SLIP packet that is coming is no good.
    spoilt: bool,
}

impl Deframer {
    /// `None`: the first byte tells.
    pub fn new(framing: Option<Framing>) -> Self {
        Self { framing, carry: Vec::new(), escaped: false, spoilt: false }
    }

    /// Takes the next bytes and gives every packet that they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Found<'_>)) -> Result<(), Broken> {
        let Some(first) = bytes.first() else { return Ok(()) };
        let framing = self.framing.or_else(|| Framing::told_by(*first)).ok_or(Broken)?;
        self.framing = Some(framing);
        match framing {
            Framing::Length => self.push_lengths(bytes, each),
            Framing::Slip => {
                self.push_slip(bytes, each);
                Ok(())
            }
        }
    }

    fn push_lengths(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Found<'_>),
    ) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = match self.carry.first_chunk::<LENGTH_LEN>() {
                Some(len) => LENGTH_LEN + u32::from_be_bytes(*len) as usize,
                None => LENGTH_LEN,
            };
            if wanted > LENGTH_LEN + PACKET_BYTES_MAX {
                return Err(Broken);
            }
            let missing = wanted.saturating_sub(self.carry.len()).min(rest.len());
            let (next, after) = rest.split_at(missing);
            self.carry.extend_from_slice(next);
            rest = after;
            let Some((len, packet)) = self.carry.split_first_chunk::<LENGTH_LEN>() else { break };
            let len = u32::from_be_bytes(*len) as usize;
            if len > PACKET_BYTES_MAX {
                return Err(Broken);
            }
            if packet.len() == len {
                if len > 0 {
                    each(Found::Packet(packet));
                }
                self.carry.clear();
            }
        }
        Ok(())
    }

    fn push_slip(&mut self, bytes: &[u8], each: &mut dyn FnMut(Found<'_>)) {
        for byte in bytes {
            let octet = match (*byte, std::mem::take(&mut self.escaped)) {
                (END, escaped) => {
                    if self.spoilt || escaped {
                        each(Found::Malformed);
                    } else if !self.carry.is_empty() {
                        each(Found::Packet(&self.carry));
                    }
                    self.carry.clear();
                    self.spoilt = false;
                    continue;
                }
                (ESC, false) => {
                    self.escaped = true;
                    continue;
                }
                (ESC_END, true) => END,
                (ESC_ESC, true) => ESC,
                (_, true) => {
                    self.spoilt = true;
                    continue;
                }
                (octet, false) => octet,
            };
            if self.carry.len() == PACKET_BYTES_MAX {
                self.spoilt = true;
            } else if !self.spoilt {
                self.carry.push(octet);
            }
        }
    }
}

/// Appends `packet` as it travels in a stream.
pub fn wrap(framing: Framing, packet: &[u8], out: &mut Vec<u8>) {
    match framing {
        Framing::Length => {
            out.extend_from_slice(&(packet.len() as u32).to_be_bytes());
            out.extend_from_slice(packet);
        }
        Framing::Slip => {
            out.push(END);
            for octet in packet {
                match *octet {
                    END => out.extend_from_slice(&[ESC, ESC_END]),
                    ESC => out.extend_from_slice(&[ESC, ESC_ESC]),
                    octet => out.push(octet),
                }
            }
            out.push(END);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(framing: Option<Framing>, bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, Broken> {
        let (mut deframer, mut all) = (Deframer::new(framing), Vec::new());
        for bytes in bytes.chunks(chunk) {
            deframer.push(bytes, &mut |found| {
                all.push(match found {
                    Found::Packet(packet) => packet.to_vec(),
                    Found::Malformed => b"malformed".to_vec(),
                });
            })?;
        }
        Ok(all)
    }

    #[test]
    fn the_first_byte_tells_the_framing() {
        let slip = [&[END][..], b"/a\0\0", &[END, END], b"/b\0\0", &[END]].concat();
        let half = [b"/a\0\0", &[END][..], b"/b\0\0", &[END]].concat();
        let lengths = [&[0, 0, 0, 4][..], b"/a\0\0", &[0, 0, 0, 0, 0, 0, 0, 4], b"/b\0\0"].concat();
        for bytes in [slip, half, lengths] {
            for chunk in [1, 3, 100] {
                let packets = found(None, &bytes, chunk).expect("packets");
                assert_eq!(packets, [b"/a\0\0", b"/b\0\0"], "{bytes:?} by {chunk}");
            }
        }
        assert_eq!(found(None, b"GET / HTTP/1.1", 100), Err(Broken));
    }

    #[test]
    fn a_length_beyond_all_packets_breaks_the_stream() {
        let one_more = (PACKET_BYTES_MAX as u32 + 1).to_be_bytes();
        for chunk in [1, 4, 8] {
            assert_eq!(found(None, &[&one_more[..], &[0; 9]].concat(), chunk), Err(Broken));
        }
    }

    #[test]
    fn a_bad_slip_packet_is_left_out_and_the_next_one_read() {
        let long = vec![1; PACKET_BYTES_MAX + 1];
        for bad in [&[ESC, 7][..], &[1, ESC], &long] {
            let bytes = [&[END][..], bad, &[END], b"/ok", &[END]].concat();
            let packets = found(None, &bytes, 1_000).expect("a stream");
            assert_eq!(packets, [b"malformed".to_vec(), b"/ok".to_vec()]);
        }
    }

    proptest! {
        #[test]
        fn packets_survive_a_stream_however_it_is_cut(
            packets in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![Just(END), Just(ESC), any::<u8>()], 1..40), 1..6),
            chunk in 1_usize..50,
        ) {
            for framing in [Framing::Length, Framing::Slip] {
                let mut bytes = Vec::new();
                packets.iter().for_each(|packet| wrap(framing, packet, &mut bytes));
                for known in [None, Some(framing)] {
                    prop_assert_eq!(&found(known, &bytes, chunk), &Ok(packets.clone()));
                }
            }
        }
    }
}

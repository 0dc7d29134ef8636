//! The PUBLISH packets of an MQTT client, as it says them over TCP in pieces of any length.
//!
//! Sources: MQTT 3.1.1 and MQTT 5.0, sections 2.1 (fixed header), 3.1 and 3.3.

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;

/// Where the protocol level of CONNECT is, after its name.
const LEVEL_AT: usize = 6;

const LEVEL_5: u8 = 5;

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What is not a whole packet yet.
    carry: Vec<u8>,
    /// Of version 5, whose PUBLISH has properties.
    has_properties: bool,
}

impl Client {
    /// Takes the next bytes. `published` gets each topic, and the number that its payload spells.
    pub fn said(&mut self, bytes: &[u8], mut published: impl FnMut(&str, Option<f64>)) {
        self.carry.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((kind, flags, body, len)) = packet(&self.carry[used..]) {
            used += len;
            match kind {
                CONNECT => self.has_properties = body.get(LEVEL_AT) == Some(&LEVEL_5),
                PUBLISH => {
                    if let Some((topic, payload)) = publish(flags, body, self.has_properties) {
                        let text = std::str::from_utf8(payload).ok();
                        published(topic, text.and_then(|text| text.parse().ok()));
                    }
                }
                _ => {}
            }
        }
        self.carry.drain(..used);
    }
}

/// Kind, flags, body and whole length of the packet that `bytes` begin with.
fn packet(bytes: &[u8]) -> Option<(u8, u8, &[u8], usize)> {
    let (first, rest) = bytes.split_first()?;
    let (len, len_len) = varint(rest)?;
    let body = rest.get(len_len..)?.get(..len)?;
    Some((first >> 4, first & 0x0F, body, 1 + len_len + len))
}

/// A number of up to four bytes, seven bits each, the lowest first; and how many there were.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

fn publish(flags: u8, body: &[u8], has_properties: bool) -> Option<(&str, &[u8])> {
    let (len, rest) = body.split_first_chunk::<2>()?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    // Above QoS 0 comes a packet identifier.
    if flags & 0x06 != 0 {
        rest = rest.get(2..)?;
    }
    if has_properties {
        let (len, len_len) = varint(rest)?;
        rest = rest.get(len_len + len..)?;
    }
    Some((std::str::from_utf8(topic).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_numbers_come_out_of_pieces_of_any_length() {
        let connect_5 = b"\x10\x10\x00\x04MQTT\x05\x02\x00<\x03!\x00\x14\x00\x00";
        let with_properties = b"\x34\x0e\x00\x03a/b\x00\x01\x03\x01\x00\x02{}x";
        let said = [&connect_5[..], with_properties, b"\x30\x06\x00\x01c\x0012\xe0\x00"].concat();
        for step in 1..said.len() {
            let mut client = Client::default();
            let mut found = Vec::new();
            for piece in said.chunks(step) {
                client.said(piece, |topic, number| found.push((topic.to_owned(), number)));
            }
            let expected = [("a/b".to_owned(), None), ("c".to_owned(), Some(12.0))];
            assert_eq!(found, expected, "in pieces of {step}");
        }
    }
}

//! Messages of an ENTTEC DMX USB Pro: `7E`, label, length (low octet first), data, `E7`.
//!
//! Source: ENTTEC, "DMX USB Pro Widget API Specification 1.44".

/// Data of one message; nothing is longer than a start code and 512 slots with a status.
pub const DATA_BYTES_MAX: usize = 600;

const START: u8 = 0x7E;
const END: u8 = 0xE7;

/// Octets around the data.
const HEAD_LEN: usize = 4;

/// What messages are about.
pub mod label {
    /// To the widget: size of the user configuration (2 octets). From it: firmware (2), break,
    /// mark after break, rate.
    pub const PARAMETERS: u8 = 3;
    /// To the widget: size of the user configuration (2), break, mark after break, rate.
    pub const SET_PARAMETERS: u8 = 4;
    /// From the widget: status, start code, slots.
    pub const RECEIVED: u8 = 5;
    /// To the widget: start code, 24 to 512 slots.
    pub const SEND: u8 = 6;
    /// To the widget: 0 tells every frame received, 1 what changed.
    pub const RECEIVE_MODE: u8 = 8;
    /// From the widget: first octet / 8, 40 bits, an octet for each bit that is set.
    pub const CHANGED: u8 = 9;
    /// From the widget: four octets of BCD, the low one first.
    pub const SERIAL: u8 = 10;
    /// Both ways: number (2) and name; an extension that the plain Pro does not have.
    pub const MANUFACTURER: u8 = 77;
    pub const DEVICE: u8 = 78;
    /// Of our own software widget ([`crate::devices::Speech::Dmx`]): how long it was from frame to
    /// frame in the last while, as quantiles p50, p99 and max, each of four octets in µs, low
    /// octet first.
    pub const INTERVALS: u8 = 240;
}

/// One message of either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub label: u8,
    pub data: &'a [u8],
}

impl Message<'_> {
    /// Appends the message. Data beyond [`DATA_BYTES_MAX`] are cut off.
    pub fn write(&self, out: &mut Vec<u8>) {
        let data = self.data.get(..DATA_BYTES_MAX).unwrap_or(self.data);
        let [low, high] = (data.len() as u16).to_le_bytes();
        out.extend([START, self.label, low, high]);
        out.extend_from_slice(data);
        out.push(END);
    }
}

/// What was found in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Message(Message<'a>),
    /// Bytes that belong to no message, before one or at the end of what looked like one.
    Noise,
}

/// Finds messages in the bytes of one widget, however they are cut, and after noise.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Begins with a start octet, or is empty.
    waiting: Vec<u8>,
    /// The last octets were noise: so many in a row are reported once.
    is_noisy: bool,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Found<'_>)) {
        // In pieces, so that what waits stays short whatever comes.
        for piece in bytes.chunks(DATA_BYTES_MAX) {
            self.waiting.extend_from_slice(piece);
            let used = self.scan(&mut each);
            self.waiting.drain(..used);
        }
    }

    /// Takes what is whole; gives the number of octets that are done with.
    fn scan(&mut self, each: &mut impl FnMut(Found<'_>)) -> usize {
        let mut at = 0;
        while let Some(rest) = self.waiting.get(at..).filter(|rest| !rest.is_empty()) {
            let noise = match rest {
                [START, label, low, high, data @ ..] => {
                    let len = usize::from(u16::from_le_bytes([*low, *high]));
                    match data.get(len) {
                        _ if len > DATA_BYTES_MAX => 1,
                        None => break,
                        Some(&END) => {
                            let data = data.get(..len).unwrap_or_default();
                            self.is_noisy = false;
                            each(Found::Message(Message { label: *label, data }));
                            at += HEAD_LEN + len + 1;
                            continue;
                        }
                        // A start octet that was none: the message may begin inside.
                        Some(_) => 1,
                    }
                }
                [START, ..] => break,
                _ => rest.iter().position(|octet| *octet == START).unwrap_or(rest.len()),
            };
            if !std::mem::replace(&mut self.is_noisy, true) {
                each(Found::Noise);
            }
            at += noise;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels and lengths of the messages, and how often there was noise.
    fn found(pieces: &[&[u8]]) -> (Vec<(u8, usize)>, usize) {
        let (mut decoder, mut messages, mut noise) = (Decoder::default(), Vec::new(), 0);
        for piece in pieces {
            decoder.push(piece, |found| match found {
                Found::Message(message) => messages.push((message.label, message.data.len())),
                Found::Noise => noise += 1,
            });
            assert!(decoder.waiting.len() <= DATA_BYTES_MAX + HEAD_LEN);
        }
        (messages, noise)
    }

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        Message { label: label::RECEIVED, data: &[START; 514] }.write(&mut bytes);
        Message { label: label::SERIAL, data: &[1, 2, 3, END] }.write(&mut bytes);
        Message { label: label::DEVICE, data: &[] }.write(&mut bytes);
        bytes
    }

    #[test]
    fn messages_are_found_wherever_the_bytes_are_cut() {
        let (bytes, all) = (stream(), vec![(5, 514), (10, 4), (78, 0)]);
        assert_eq!(found(&[&bytes]), (all.clone(), 0));
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(found(&[first, second]), (all.clone(), 0), "cut at {cut}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(found(&single), (all, 0));
    }

    #[test]
    fn noise_before_between_and_inside_costs_no_message_after_it() {
        let noises: [&[u8]; 4] = [&[0, 1, 2], &[END; 3], &[START, 5, 0xFF, 0xFF], &[0xFF; 2_000]];
        for noise in noises {
            let (messages, count) = found(&[noise, &stream(), noise, &stream()]);
            let all = [(5, 514), (10, 4), (78, 0)];
            assert_eq!(messages, [all, all].concat(), "{noise:?}");
            assert_eq!(count, 2, "{noise:?}");
        }
        // A message whose end is missing: the next one is found inside of what it promised.
        let mut cut_short = vec![START, label::SEND, 20, 0, 1, 2, 3];
        cut_short.extend(stream());
        let (messages, count) = found(&[&cut_short]);
        assert_eq!(messages.last(), Some(&(78, 0)));
        assert!(count > 0);
    }

    #[test]
    fn what_other_programs_write_is_what_we_write() {
        let mut levels_24 = [0; 25];
        (levels_24[1], levels_24[24]) = (255, 7);
        let captures: [(&[u8], &[u8]); 2] = [
            (include_bytes!("../../../bench/captures/enttec-pro-hostbytes-24ch.bin"), &levels_24),
            (include_bytes!("../../../bench/captures/enttec-pro-hostbytes-512ch.bin"), &[]),
        ];
        for (bytes, data) in captures {
            let mut decoder = Decoder::default();
            let mut again = Vec::new();
            decoder.push(bytes, |found| {
                let Found::Message(message) = found else { panic!("noise") };
                assert_eq!(message.label, label::SEND);
                assert!(data.is_empty() || message.data == data);
                message.write(&mut again);
            });
            assert_eq!(again, bytes);
        }
    }
}

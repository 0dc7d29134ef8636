//! A stream of MIDI bytes, cut into messages.
//!
//! Running status (a message that begins like the last one leaves its status byte out), realtime
//! bytes in the middle of everything else, and sysex that arrives in pieces are undone here, so
//! that nothing behind knows of them. MIDI 1.0 Detailed Specification, "Data Format" and appendix
//! "Running Status".

use super::message::{Message, data_len};

/// A longer sysex is left out: nothing bounds one otherwise.
pub const SYSEX_BYTES_MAX: usize = 64 * 1024;

/// What one more byte completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Nothing yet.
    More,
    Message(Message<'a>),
    /// A byte that belongs to no message, or one before it that was never completed.
    Malformed,
    /// A sysex beyond [`SYSEX_BYTES_MAX`]; the rest of it is skipped.
    TooLong,
}

/// Finds messages in the bytes of one cable.
#[derive(Debug, Default)]
pub struct Parser {
    /// The status byte that data bytes belong to; 0 where they belong to none.
    status: u8,
    /// Of the data bytes of this message the first.
    first: Option<u8>,
    /// A sysex in the making, with its F0; empty outside of one.
    sysex: Vec<u8>,
    /// Inside a sysex that became too long.
    skips: bool,
    /// The last sysex was handed out: its bytes go when the next byte comes.
    is_done: bool,
}

impl Parser {
    /// Takes one byte of the cable.
    pub fn push(&mut self, byte: u8) -> Parsed<'_> {
        if std::mem::take(&mut self.is_done) {
            self.sysex.clear();
        }
        match byte {
            0xF8.. => match Message::new(byte, [0; 2]) {
                // Realtime: leaves everything around it as it was.
                Some(message) => Parsed::Message(message),
                None => Parsed::Malformed,
            },
            0xF7 => self.end_sysex(),
            0x80.. => self.begin(byte),
            _ => self.data(byte),
        }
    }

    /// Takes a status byte other than F7 and realtime.
    fn begin(&mut self, status: u8) -> Parsed<'_> {
        let was_whole = self.is_between();
        self.forget();
        match (status, data_len(status)) {
            (0xF0, _) => self.sysex.push(0xF0),
            (_, Some(0)) => {
                // What it cut off is not counted: the message in hand is worth more.
                if let Some(message) = Message::new(status, [0; 2]) {
                    return Parsed::Message(message);
                }
            }
            (_, Some(_)) => self.status = status,
            (_, None) => return Parsed::Malformed,
        }
        if was_whole { Parsed::More } else { Parsed::Malformed }
    }

    fn data(&mut self, byte: u8) -> Parsed<'_> {
        if self.skips {
            return Parsed::More;
        }
        if !self.sysex.is_empty() {
            // Room for the F7 must be left.
            if self.sysex.len() + 1 >= SYSEX_BYTES_MAX {
                self.sysex.clear();
                self.skips = true;
                return Parsed::TooLong;
            }
            self.sysex.push(byte);
            return Parsed::More;
        }
        let data = match (data_len(self.status), self.first.take()) {
            (Some(1), _) => [byte, 0],
            (Some(2), Some(first)) => [first, byte],
            (Some(2), None) => {
                self.first = Some(byte);
                return Parsed::More;
            }
            _ => return Parsed::Malformed,
        };
        let message = Message::new(self.status, data);
        if self.status >= 0xF0 {
            // System common messages have no running status.
            self.status = 0;
        }
        message.map_or(Parsed::Malformed, Parsed::Message)
    }

    fn end_sysex(&mut self) -> Parsed<'_> {
        if std::mem::take(&mut self.skips) {
            return Parsed::More;
        }
        if self.sysex.is_empty() {
            self.forget();
            return Parsed::Malformed;
        }
        self.sysex.push(0xF7);
        self.is_done = true;
        Parsed::Message(Message::Sysex(&self.sysex))
    }

    /// Whether no message is cut off by one that begins now.
    fn is_between(&self) -> bool {
        let expects_data = self.status >= 0xF0 || self.first.is_some();
        self.sysex.is_empty() && !self.skips && !expects_data
    }

    fn forget(&mut self) {
        (self.status, self.first, self.skips) = (0, None, false);
        self.sysex.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every message of `bytes`, written again without running status, and how much was wrong.
    fn parse(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut parser, mut messages, mut wrong) = (Parser::default(), Vec::new(), 0);
        for byte in bytes {
            match parser.push(*byte) {
                Parsed::More => {}
                Parsed::Message(message) => {
                    let mut bytes = Vec::new();
                    message.write(&mut bytes);
                    messages.push(bytes);
                }
                Parsed::Malformed | Parsed::TooLong => wrong += 1,
            }
        }
        (messages, wrong)
    }

    #[test]
    fn running_status_lasts_until_a_system_common_message() {
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], usize);
        let cases: [Case<'_>; 9] = [
            (&[0x90, 1, 2, 3, 4], &[&[0x90, 1, 2], &[0x90, 3, 4]], 0),
            (&[0xC1, 5, 6], &[&[0xC1, 5], &[0xC1, 6]], 0),
            (&[0x90, 1, 2, 0xF6, 3, 4], &[&[0x90, 1, 2], &[0xF6]], 2),
            (&[0x90, 1, 2, 0xF0, 9, 0xF7, 3], &[&[0x90, 1, 2], &[0xF0, 9, 0xF7]], 1),
            (&[0xF2, 1, 2, 3], &[&[0xF2, 1, 2]], 1),
            (&[0x90, 1, 0xB0, 2, 3], &[&[0xB0, 2, 3]], 1),
            (&[0xF4, 0xF5, 0xF7, 0xF9, 0xFD, 7], &[], 6),
            (&[0xF0, 1, 0x90, 2, 3], &[&[0x90, 2, 3]], 1),
            (&[0xF1, 0xF6, 0xF6], &[&[0xF6], &[0xF6]], 0),
        ];
        for (bytes, messages, wrong) in cases {
            let (found, count) = parse(bytes);
            assert_eq!((found, count), (messages.iter().map(|m| m.to_vec()).collect(), wrong));
        }
    }

    #[test]
    fn a_realtime_byte_changes_nothing_around_it_wherever_it_stands() {
        let bytes = [0x90, 1, 2, 3, 4, 0xF0, 0x7E, 5, 0xF7, 0xE3, 6, 7, 0xF2, 8, 9, 0xC0, 1, 2];
        let (plain, wrong) = parse(&bytes);
        assert_eq!((plain.len(), wrong), (7, 0));
        for realtime in [0xF8, 0xFA, 0xFB, 0xFC, 0xFE, 0xFF] {
            for at in 0..=bytes.len() {
                let mut with = bytes.to_vec();
                with.insert(at, realtime);
                let (mut found, wrong) = parse(&with);
                let before = found.len();
                found.retain(|message| *message != [realtime]);
                assert_eq!((&found, wrong), (&plain, 0), "{realtime:#x} at {at}");
                assert_eq!(before, plain.len() + 1, "{realtime:#x} at {at}");
            }
        }
    }

    #[test]
    fn a_sysex_beyond_the_limit_is_skipped_and_what_follows_is_heard() {
        for (len, fits) in [(SYSEX_BYTES_MAX, true), (SYSEX_BYTES_MAX + 1, false)] {
            let mut bytes = vec![1; len];
            bytes[0] = 0xF0;
            *bytes.last_mut().expect("an end") = 0xF7;
            bytes.extend([0x90, 1, 2]);
            let (found, wrong) = parse(&bytes);
            assert_eq!((found.len(), wrong), if fits { (2, 0) } else { (1, 1) }, "{len}");
            assert_eq!(found.last().map(Vec::as_slice), Some(&[0x90, 1, 2][..]));
        }
    }

    #[test]
    fn the_stream_of_another_program_is_cut_where_its_file_has_messages() {
        let stream = include_bytes!("../../../bench/captures/midi-alsa-rawmidi.bin");
        let (found, wrong) = parse(stream);
        assert_eq!((found, wrong), (messages_of_file(), 0));
    }

    /// The messages of `midi-mixed.mid`: after its header and track header, each has a delta time
    /// of one or two bytes and a status byte of its own; a file's sysex says its length.
    fn messages_of_file() -> Vec<Vec<u8>> {
        let file = include_bytes!("../../../bench/captures/midi-mixed.mid");
        let (mut at, mut messages, mut status) = (22, Vec::new(), 0);
        while at < file.len() {
            at += 1 + file[at..].iter().take_while(|byte| **byte >= 0x80).count();
            if file[at] >= 0x80 {
                status = file[at];
                at += 1;
            }
            let data = match status {
                0xFF => {
                    at += 2 + usize::from(file[at + 1]);
                    continue;
                }
                0xF0 => {
                    at += 1;
                    usize::from(file[at - 1])
                }
                _ => data_len(status).expect("a message"),
            };
            messages.push([&[status], &file[at..at + data]].concat());
            at += data;
        }
        assert_eq!(messages.len(), 17);
        messages
    }
}

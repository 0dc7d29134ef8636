//! What the bench sends: one small message whose value is its number.

use std::fmt::Debug;
use std::io;

use clasp_rt_core::message::{Hello, Message as Packet, Publish, Set, Subscribe, SubscribeOptions};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::{Value, push_bytes, push_i64};
use clasp_rt_core::wire::binary::{self, code};
use clasp_rt_core::wire::{header, list::Features};

/// What a router does with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// SET: kept, counted by revisions, the newest wins on a slow link.
    Set,
    /// PUBLISH of an event: never kept, never dropped.
    Event,
    /// PUBLISH of a stream sample: not kept, dropped first.
    Stream,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Event => "event",
            Self::Stream => "stream",
        }
    }
}

/// What one run sends, in whatever protocol.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Only CLASP tells kinds apart.
    pub kind: Kind,
    /// `/bench/hop/fader/1`; other protocols write it in their way.
    pub address: &'a str,
    /// What its receivers subscribe to: the address, or one that ends in `/**`.
    pub pattern: &'a str,
    /// Of the value: [`NUMBER_LEN`] or more.
    pub bytes: usize,
}

impl<'a> Message<'a> {
    /// An integer for `address`, for those who subscribed to just that.
    pub fn new(kind: Kind, address: &'a str) -> Self {
        Self { kind, address, pattern: address, bytes: NUMBER_LEN }
    }
}

/// Bytes of the number at the end of every message.
pub const NUMBER_LEN: usize = 8;

/// A frame that differs from its siblings in its last eight bytes only, so that making the next one
/// costs the sender nothing worth measuring.
#[derive(Clone, Debug)]
pub struct Numbered {
    frame: Vec<u8>,
}

impl Numbered {
    /// A message of `kind` for `address`, fire and forget: an integer.
    pub fn new(kind: Kind, address: &str) -> Self {
        let message = Message::new(kind, address);
        Self::with(&message, Qos::Fire).expect("a short address and an integer fit")
    }

    /// The frame of `message`: an integer when it has eight bytes, else that many bytes.
    pub fn with(message: &Message<'_>, qos: Qos) -> io::Result<Self> {
        let Message { kind, address, bytes, .. } = *message;
        let mut encoded = Vec::with_capacity(bytes + 3);
        if bytes == NUMBER_LEN {
            push_i64(&mut encoded, 0);
        } else {
            push_bytes(&mut encoded, &vec![0; bytes]).map_err(unfit)?;
        }
        let value = Value::from_encoded(&encoded).map_err(unfit)?;
        let publish = |signal, phase| {
            let (signal, value) = (Some(signal), Some(value));
            Packet::Publish(Publish { address, signal, value, phase, ..Publish::default() })
        };
        let packet = match kind {
            Kind::Set => Packet::Set(Set {
                address,
                value,
                revision: None,
                lock: false,
                unlock: false,
                ttl: None,
            }),
            Kind::Event => publish(Signal::Event, Some(Phase::Start)),
            Kind::Stream => publish(Signal::Stream, Some(Phase::Start)),
        };
        let mut frame = Vec::new();
        binary::encode(&packet, qos, &mut frame).map_err(unfit)?;
        Ok(Self { frame })
    }

    /// The frame of message `number`.
    pub fn frame(&mut self, number: u64) -> &[u8] {
        let at = self.frame.len() - NUMBER_LEN;
        self.frame[at..].copy_from_slice(&number.to_be_bytes());
        &self.frame
    }
}

/// The number of a message that arrived, if it is one of ours.
pub fn number(frame: &[u8]) -> Option<u64> {
    let payload = header::parse(frame).ok()?.payload;
    let value = match binary::decode(payload).ok()? {
        Packet::Set(set) => set.value,
        Packet::Publish(publish) => publish.value?,
        _ => return None,
    };
    match value.as_bytes() {
        Some(bytes) => last_number(bytes),
        None => u64::try_from(value.as_i64()?).ok(),
    }
}

/// The number at the end of a payload, big-endian.
pub fn last_number(payload: &[u8]) -> Option<u64> {
    payload.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Reads numbers of frames that differ from the one before in their number alone, as a router
/// forwards them, by comparing bytes: decoding each would cost the generator more than its socket.
#[derive(Clone, Debug, Default)]
pub struct NumberReader {
    /// The last frame that was decoded, and where its number lies.
    before: Vec<u8>,
    at: usize,
}

impl NumberReader {
    /// The same as [`number`].
    pub fn number(&mut self, frame: &[u8]) -> Option<u64> {
        let end = self.at + NUMBER_LEN;
        if frame.len() == self.before.len()
            && let (Some(head), Some(tail)) = (frame.get(..self.at), frame.get(end..))
            && head == &self.before[..self.at]
            && tail == &self.before[end..]
        {
            // An integer below zero is none of ours.
            return last_number(&frame[..end]).filter(|number| i64::try_from(*number).is_ok());
        }
        let number = number(frame)?;
        // Where its bytes are found twice, nobody can say which of them will change.
        let mut places = frame.windows(NUMBER_LEN).enumerate();
        let mut next = || places.find(|(_, bytes)| *bytes == number.to_be_bytes());
        if let (Some((at, _)), None) = (next(), next()) {
            self.before.clear();
            self.before.extend_from_slice(frame);
            self.at = at;
        }
        Some(number)
    }
}

/// Whether `frame` is a PUBLISH of an event.
pub fn is_event(frame: &[u8]) -> bool {
    let signal = header::parse(frame).ok().and_then(|frame| match frame.payload {
        [code::PUBLISH, flags, ..] => Some(Signal::from_code(flags >> 5)),
        _ => None,
    });
    signal == Some(Signal::Event)
}

pub fn hello(name: &str) -> Vec<u8> {
    encoded(&Packet::Hello(Hello {
        version: 1,
        features: Features::from_bits(0xF8),
        name,
        token: None,
    }))
}

pub fn subscribe(id: u32, pattern: &str) -> Vec<u8> {
    let options = SubscribeOptions::default();
    encoded(&Packet::Subscribe(Subscribe { id, pattern, types: SignalMask::ALL, options }))
}

pub fn ping() -> Vec<u8> {
    encoded(&Packet::Ping)
}

/// Whether `frame` holds the message with this [`code`].
pub fn is(frame: &[u8], message_code: u8) -> bool {
    header::parse(frame).is_ok_and(|frame| frame.payload.first() == Some(&message_code))
}

fn unfit(why: impl Debug) -> io::Error {
    let message = format!("the message does not fit into a frame: {why:?}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn encoded(message: &Packet<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, Qos::Fire, &mut frame).expect("a short message fits");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_small_as_control_messages_are_and_carries_its_number() {
        for kind in [Kind::Set, Kind::Event] {
            let mut message = Numbered::new(kind, "/bench/hop/fader/1/level");
            for wanted in [0, 1, 0xFFFF_FFFF, 1 << 40] {
                let frame = message.frame(wanted);
                assert!((40..=64).contains(&frame.len()), "{} bytes", frame.len());
                assert_eq!(number(frame), Some(wanted));
            }
        }
    }

    #[test]
    fn a_longer_message_is_as_long_as_asked_for_and_carries_its_number() {
        for kind in [Kind::Set, Kind::Event, Kind::Stream] {
            let message = |bytes| Message { bytes, ..Message::new(kind, "/bench/hop/fader/1") };
            let frame_len = |bytes| Numbered::with(&message(bytes), Qos::Fire).unwrap().frame.len();
            assert_eq!(frame_len(1_000) - frame_len(100), 900);
            let mut numbered = Numbered::with(&message(1_000), Qos::Confirm).unwrap();
            assert_eq!(number(numbered.frame(1 << 40)), Some(1 << 40));
            assert!(Numbered::with(&message(70_000), Qos::Fire).is_err(), "longer than a frame");
        }
    }

    #[test]
    fn numbers_are_the_same_whether_decoded_or_compared() {
        let mut reader = NumberReader::default();
        assert_eq!(reader.number(&[]), None);
        for kind in [Kind::Set, Kind::Event, Kind::Stream] {
            let message = Message { bytes: 100, ..Message::new(kind, "/bench/hop/fader/1") };
            let long = Numbered::with(&message, Qos::Fire).unwrap();
            for mut numbered in [Numbered::new(kind, "/a/b"), Numbered::new(kind, "/a/c"), long] {
                for wanted in [0, 0, 1, 255, 256, 1 << 40, i64::MAX as u64] {
                    assert_eq!(reader.number(numbered.frame(wanted)), Some(wanted));
                }
                assert_eq!(reader.number(&hello("bench")), None);
                // Something else changed beside the number: decoded again.
                let mut other = numbered.frame(7).to_vec();
                let address = other.windows(2).position(|pair| pair[0] == b'/').unwrap();
                other[address + 1] = b'x';
                assert_eq!(reader.number(&other), number(&other));
            }
            assert_eq!(reader.number(Numbered::new(kind, "/a/b").frame(u64::MAX)), None);
        }
    }

    #[test]
    fn other_messages_have_no_number() {
        for frame in [hello("bench"), subscribe(1, "/bench/**"), ping(), Vec::new()] {
            assert_eq!(number(&frame), None);
        }
        assert!(is(&ping(), code::PING) && !is(&ping(), code::PONG));
    }
}

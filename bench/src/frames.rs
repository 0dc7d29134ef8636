//! What the bench sends: one small message whose value is its number.

use clasp_rt_core::message::{Hello, Message, Publish, Set, Subscribe, SubscribeOptions};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::{Value, code};
use clasp_rt_core::wire::{binary, header, list::Features};

/// What a router does with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// SET: kept, counted by revisions, the newest wins on a slow link.
    Set,
    /// PUBLISH of an event: never kept, never dropped.
    Event,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Event => "event",
        }
    }
}

/// Bytes of the number at the end of every message.
const NUMBER_LEN: usize = 8;

/// A frame that differs from its siblings in its last eight bytes only, so that making the next one
/// costs the sender nothing worth measuring.
#[derive(Clone, Debug)]
pub struct Numbered {
    frame: Vec<u8>,
}

impl Numbered {
    /// A message of `kind` for `address`, fire and forget.
    pub fn new(kind: Kind, address: &str) -> Self {
        let mut encoded = vec![code::I64];
        encoded.extend([0; NUMBER_LEN]);
        let (value, _) = Value::parse(code::I64, &encoded[1..]).expect("eight bytes are an i64");
        let message = match kind {
            Kind::Set => Message::Set(Set {
                address,
                value,
                revision: None,
                lock: false,
                unlock: false,
                ttl: None,
            }),
            Kind::Event => Message::Publish(Publish {
                address,
                signal: Some(Signal::Event),
                value: Some(value),
                phase: Some(Phase::Start),
                ..Publish::default()
            }),
        };
        let mut frame = Vec::new();
        binary::encode(&message, Qos::Fire, &mut frame).expect("a short address fits");
        Self { frame }
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
        Message::Set(set) => set.value,
        Message::Publish(publish) => publish.value?,
        _ => return None,
    };
    u64::try_from(value.as_i64()?).ok()
}

pub fn hello(name: &str) -> Vec<u8> {
    encoded(&Message::Hello(Hello {
        version: 1,
        features: Features::from_bits(0xF8),
        name,
        token: None,
    }))
}

pub fn subscribe(id: u32, pattern: &str) -> Vec<u8> {
    let options = SubscribeOptions::default();
    encoded(&Message::Subscribe(Subscribe { id, pattern, types: SignalMask::ALL, options }))
}

pub fn ping() -> Vec<u8> {
    encoded(&Message::Ping)
}

/// Whether `frame` holds the message that the first byte of its payload names.
pub fn is(frame: &[u8], message_code: u8) -> bool {
    header::parse(frame).is_ok_and(|frame| frame.payload.first() == Some(&message_code))
}

pub const WELCOME: u8 = 0x02;
pub const PONG: u8 = 0x42;
pub const ERROR: u8 = 0x51;

fn encoded(message: &Message<'_>) -> Vec<u8> {
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
    fn other_messages_have_no_number() {
        for frame in [hello("bench"), subscribe(1, "/bench/**"), ping(), Vec::new()] {
            assert_eq!(number(&frame), None);
        }
        assert!(is(&ping(), 0x41) && !is(&ping(), PONG));
    }
}

//! Levels of a universe in the router's words: the SETs of its slots, below a namespace.

use std::fmt::Write;

use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Messages;

use crate::level::from_level;

/// Longest number of a slot.
const DIGITS_MAX: usize = 3;

pub(crate) struct Telling {
    namespace: String,
    /// Levels as they are told: the code of their type, then one value for each level.
    code: u8,
    values: Vec<[u8; 8]>,
    /// Of the universe in hand.
    address: String,
    /// For each length of a slot's number: its SET, as a BUNDLE holds it.
    messages: [Vec<u8>; DIGITS_MAX],
}

impl Telling {
    pub(crate) fn new(namespace: &str, normalize: bool) -> Self {
        let mut encoded = Vec::new();
        let values = (0..=255).map(|level| {
            encoded.clear();
            // A number is neither short of room nor longer than eight octets.
            let _ = from_level(level, normalize).append(&mut encoded);
            encoded.get(1..).and_then(|value| value.first_chunk()).copied().unwrap_or_default()
        });
        let values = values.collect();
        Self {
            namespace: namespace.to_owned(),
            code: encoded.first().copied().unwrap_or_default(),
            values,
            address: String::new(),
            messages: Default::default(),
        }
    }

    /// From now on the universe `number` is in hand. Gives its address.
    pub(crate) fn begin(&mut self, number: u16) -> &str {
        self.address.clear();
        // Writing to a String does not fail.
        let _ = write!(self.address, "{}/{number}", self.namespace);
        self.messages.iter_mut().for_each(Vec::clear);
        &self.address
    }

    /// The SET of `slot`, counted from 0, as a BUNDLE holds it.
    ///
    /// Slots of equally long numbers differ in their digits and in the value behind them, where a
    /// SET ends: so one is written in full, and the others are made of it.
    pub(crate) fn slot(&mut self, slot: usize, level: u8) -> &[u8] {
        let Self { code, values, address, messages, .. } = self;
        let value = values.get(usize::from(level)).copied().unwrap_or_default();
        let number = slot as u16 + 1;
        let digits =
            [number / 100 % 10, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8);
        let count = match number {
            0..10 => 1,
            10..100 => 2,
            _ => 3,
        };
        let message = &mut messages[count - 1];
        if message.is_empty() {
            let before = address.len();
            let _ = write!(address, "/{number}");
            if let Ok((value, _)) = Value::parse(*code, &value) {
                let set =
                    Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
                // Shorter than any limit, but for a namespace that no session would take either.
                let _ = Messages::append(message, &Message::Set(set));
            }
            address.truncate(before);
        } else if let Some((rest, last)) = message.split_last_chunk_mut::<8>() {
            *last = value;
            if let Some(place) = rest.len().checked_sub(count) {
                rest[place..].copy_from_slice(&digits[DIGITS_MAX - count..]);
            }
        }
        message
    }
}

//! Levels of a universe in the router's words: the SETs of its slots, below a namespace.

use std::fmt::Write;

use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Messages;

use crate::level::from_level;
use crate::merge::SLOTS;

/// Longest numbers of a universe and of a slot.
const UNIVERSE_DIGITS_MAX: usize = 5;
const SLOT_DIGITS_MAX: usize = 3;

pub(crate) struct Telling {
    namespace: String,
    /// Levels as they are told: the code of their type, then one value for each level.
    code: u8,
    values: Vec<[u8; 8]>,
    /// The universe in hand, and the last digits of its number.
    universe: u16,
    digits: [u8; UNIVERSE_DIGITS_MAX],
    /// For each length of a universe's number and of a slot's: a SET, as a BUNDLE holds it.
    sets: [[Template; SLOT_DIGITS_MAX]; UNIVERSE_DIGITS_MAX],
    address: String,
}

/// A SET of which others are made: those of equally long numbers differ in their digits and in the
/// value behind them, where a SET ends.
#[derive(Default)]
struct Template {
    message: Vec<u8>,
    /// Whose digits it has now.
    universe: u16,
}

/// Each slot's number, in its last digits.
const DIGITS: [[u8; SLOT_DIGITS_MAX]; SLOTS] = {
    let mut digits = [[0; SLOT_DIGITS_MAX]; SLOTS];
    let mut slot = 0;
    while slot < SLOTS {
        let number = slot + 1;
        let [hundreds, tens, ones] = [number / 100, number / 10 % 10, number % 10];
        digits[slot] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        slot += 1;
    }
    digits
};

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
            universe: 0,
            digits: [b'0'; UNIVERSE_DIGITS_MAX],
            sets: Default::default(),
            address: String::new(),
        }
    }

    /// From now on the universe `number` is in hand.
    pub(crate) fn begin(&mut self, number: u16) {
        self.universe = number;
        let mut rest = number;
        for digit in self.digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    /// The address of the universe in hand.
    pub(crate) fn address(&mut self) -> &str {
        let Self { namespace, universe, address, .. } = self;
        address.clear();
        // Writing to a String does not fail.
        let _ = write!(address, "{namespace}/{universe}");
        address
    }

    /// The SET of `slot`, counted from 0, as a BUNDLE holds it.
    pub(crate) fn slot(&mut self, slot: usize, level: u8) -> &[u8] {
        let value = self.values.get(usize::from(level)).copied().unwrap_or_default();
        let universe_digits = match self.universe {
            0..10 => 1,
            10..100 => 2,
            100..1_000 => 3,
            1_000..10_000 => 4,
            _ => 5,
        };
        let slot_digits = match slot {
            0..9 => 1,
            9..99 => 2,
            _ => 3,
        };
        if self.sets[universe_digits - 1][slot_digits - 1].message.is_empty() {
            self.make(universe_digits, slot_digits, slot);
        }
        let Template { message, universe } = &mut self.sets[universe_digits - 1][slot_digits - 1];
        // Shorter than any address, but where there is none.
        if let Some((rest, last)) = message.split_last_chunk_mut::<8>() {
            *last = value;
            if *universe != self.universe {
                *universe = self.universe;
                put(rest, slot_digits + 1, &self.digits[UNIVERSE_DIGITS_MAX - universe_digits..]);
            }
            let digits = DIGITS.get(slot).unwrap_or(&[0; SLOT_DIGITS_MAX]);
            put(rest, 0, &digits[SLOT_DIGITS_MAX - slot_digits..]);
        }
        message
    }

    /// Writes the SET of which those are made whose numbers have so many digits.
    #[cold]
    fn make(&mut self, universe_digits: usize, slot_digits: usize, slot: usize) {
        let address = format!("{}/{}", self.address(), slot + 1);
        let Ok((value, _)) = Value::parse(self.code, &[0; 8]) else { return };
        let set =
            Set { address: &address, value, revision: None, lock: false, unlock: false, ttl: None };
        let template = &mut self.sets[universe_digits - 1][slot_digits - 1];
        template.universe = self.universe;
        // Shorter than any limit, but for a namespace that no session would take either.
        let _ = Messages::append(&mut template.message, &Message::Set(set));
    }
}

/// Puts `digits` into `text` so that they end `before_end` octets before its end.
fn put(text: &mut [u8], before_end: usize, digits: &[u8]) {
    let end = text.len().saturating_sub(before_end);
    let place = text.get_mut(end.saturating_sub(digits.len())..end);
    // A loop: they are too few for a call to copy them.
    place.into_iter().flatten().zip(digits).for_each(|(at, digit)| *at = *digit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_universe_and_slot_is_told_by_its_own_address() {
        for normalize in [false, true] {
            let mut telling = Telling::new("/desk", normalize);
            let universes = [0, 7, 10, 9, 99, 100, 12, 512, 999, 1_000, 4_095, 32_767, 63_999, 1];
            for (universe, level) in universes.into_iter().zip(1..) {
                telling.begin(universe);
                assert_eq!(telling.address(), format!("/desk/{universe}"));
                for slot in [0, 8, 9, 98, 99, 100, 511, 4] {
                    let (address, mut encoded) = (format!("/desk/{universe}/{}", slot + 1), vec![]);
                    from_level(level, normalize).append(&mut encoded).expect("a number");
                    let value = Value::from_encoded(&encoded).expect("a value");
                    let address = &*address;
                    let (revision, lock, unlock, ttl) = (None, false, false, None);
                    let set = Set { address, value, revision, lock, unlock, ttl };
                    let mut expected = Vec::new();
                    Messages::append(&mut expected, &Message::Set(set)).expect("short");
                    assert_eq!(telling.slot(slot, level), expected, "{address}");
                }
            }
        }
    }
}

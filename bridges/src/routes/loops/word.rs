//! What somebody else says at a target that is asked or cut: what waits there is void.

use clasp_rt_core::time::Time;

use super::run::Run;
use super::{Loops, QUIET, Stage, key, print_of, release};
use crate::datum::Datum;

/// What is to be heard of a target, besides what routes take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Heed {
    Begin { place: usize, to: String },
    End { place: usize },
}

/// A number of 0 to 1 in 7 bits is this far from what it was, at most; of larger ones a whole
/// number is.
const STEP: f32 = 0.004;
const WHOLE: f32 = 0.5;

impl Loops {
    /// What is to be heard from now on, or no longer, in this order.
    pub(in super::super) fn heed(&mut self) -> Option<Heed> {
        self.heeds.pop_front()
    }

    /// Whether a target does not simply run.
    pub(in super::super) fn asks_any(&self) -> bool {
        !self.probes.is_empty()
    }

    /// Somebody else wrote the param `to`.
    pub(in super::super) fn overwrite(&mut self, now: Time, to: &str, value: &Datum<'_>) {
        let Some(place) = self.find(key(to.as_bytes())) else { return };
        let (Some(probe), Some(run)) = (self.probes.get_mut(&place), self.runs.get(place)) else {
            return;
        };
        if run.says_again(now, print_of(value)) {
            return;
        }
        let bytes = &mut self.kept_bytes;
        probe.kept.retain(|held| held.signal.is_some() || release(bytes, held));
        if let Stage::Cut(cut) = &mut probe.stage {
            // What it brings back is no word of anybody.
            cut.write(now, 1, bytes);
            cut.is_retold = true;
            probe.wrote = now;
        }
        self.schedule(place);
    }
}

impl Run {
    /// Something was written there, because of the address that has this key.
    pub(super) fn tell(&mut self, now: Time, print: u64, cause: u64) {
        self.said.rotate_right(1);
        self.said[0] = print;
        (self.told, self.told_at, self.cause) = (print, now, cause);
    }

    /// Whether a value with this print is a device's that says what it was told lately, as well as
    /// it can.
    fn says_again(&self, now: Time, print: u64) -> bool {
        now.since(self.told_at) <= QUIET && self.said.iter().any(|said| is_near(*said, print))
    }
}

fn is_near(said: u64, print: u64) -> bool {
    let number = |print: u64| (print >> 32 == 1).then(|| f32::from_bits(print as u32));
    let (Some(a), Some(b)) = (number(said), number(print)) else {
        return said != 0 && said == print;
    };
    let largest = a.abs().max(b.abs());
    let step = if largest > 1.0 { WHOLE.max(largest * STEP) } else { STEP };
    a == b || (a - b).abs() <= step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datum::Datum::{Float, Int};

    #[test]
    fn a_device_of_7_bits_says_again_what_it_was_told_and_a_person_something_else() {
        let text = |text: &'static str| Datum::Text(text.into());
        let cases = [
            (Float(0.5), Float(64.0 / 127.0), true),
            (Float(0.5), Float(0.51), false),
            (Float(63.5), Int(64), true),
            (Int(200), Int(201), false),
            (Int(0), Int(0), true),
            (Float(f64::INFINITY), Float(f64::INFINITY), true),
            (Float(f64::NAN), Float(0.0), false),
            (text("red"), text("red"), true),
            (text("red"), text("blue"), false),
            (text("red"), Float(0.5), false),
        ];
        for (said, heard, is_same) in cases {
            assert_eq!(is_near(print_of(&said), print_of(&heard)), is_same, "{said:?} {heard:?}");
        }
        assert!(!is_near(0, 0), "nothing was said");
    }
}

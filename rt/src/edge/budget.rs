//! How many messages of links one turn takes, so that what they cause leaves soon, and links that
//! say little do not wait for those that say much.
//!
//! A link alone may bring [`TURN_MAX`] into a turn; where `n` links go on from the last turn, each
//! link may bring the `n`th part, and [`SHARE_MIN`] at least. What a link has beyond that waits in
//! its carry, and goes on in the next turn, behind what is new, one link after the other. So a
//! message of a link that says little waits for the rest of the turn in hand, at most twice
//! [`TURN_MAX`], and for one share of each link whose bytes arrived before it. A link whose carry
//! grows beyond 16 KiB is not received from until it is empty, so that its peer waits instead.

/// Messages after which a turn takes no more events.
pub(super) const TURN_MAX: u32 = 256;

/// Messages that a link may always bring into a turn.
pub(super) const SHARE_MIN: u32 = 16;

/// Bytes of a message that count as much as another message: a bundle of the slots of a universe is
/// more work than one value.
const WEIGHED_BYTES: usize = 128;

/// What is left of one turn.
#[derive(Debug)]
pub(super) struct Budget {
    taken: u32,
    share: u32,
    waiting: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { taken: 0, share: TURN_MAX, waiting: 0 }
    }

    /// A turn begins in which `waiting` links go on from the last one.
    pub(super) fn begin(&mut self, waiting: usize) {
        let links = u32::try_from(waiting.max(1)).unwrap_or(u32::MAX);
        *self = Self { taken: 0, share: (TURN_MAX / links).max(SHARE_MIN), waiting };
    }

    /// Links that go on from the last turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What a link may bring into this turn.
    pub(super) fn share(&self) -> u32 {
        self.share
    }

    /// The turn should come to its end.
    pub(super) fn is_used_up(&self) -> bool {
        self.taken >= TURN_MAX
    }

    /// Takes a message of so many bytes; `left` is what is left of the share of its link.
    pub(super) fn take(&mut self, bytes: usize, left: &mut u32) {
        let weight = 1 + u32::try_from(bytes / WEIGHED_BYTES).unwrap_or(u32::MAX - 1);
        *left = left.saturating_sub(weight);
        self.taken = self.taken.saturating_add(weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_shared_by_those_who_went_on_and_long_messages_count_more() {
        let mut budget = Budget::new();
        for (waiting, share) in [(0, 256), (1, 256), (3, 85), (16, 16), (1_000, SHARE_MIN)] {
            budget.begin(waiting);
            assert_eq!(budget.share(), share, "{waiting} links wait");
        }
        for (bytes, most) in [(40, 256), (127, 256), (128, 128), (65_547, 1)] {
            budget.begin(0);
            let (mut left, mut messages) = (budget.share(), 0);
            while left > 0 {
                assert!(!budget.is_used_up());
                budget.take(bytes, &mut left);
                messages += 1;
            }
            assert!(budget.is_used_up());
            assert_eq!(messages, most, "of {bytes} bytes");
        }
    }
}

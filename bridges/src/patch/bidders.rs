//! What each source says of the slots of one function: its own picture, whoever has them.

use super::channel::NUMBERS_MAX;
use crate::uplink::{Source, Whose};

/// Sources of one function that are remembered. As many as a universe of sACN may have.
const BIDDERS_MAX: usize = 32;

/// Slots of the widest function.
const SLOTS_MAX: usize = NUMBERS_MAX;

#[derive(Default)]
pub(super) struct Bidders {
    /// Whoever was heard last is last.
    list: Vec<Bidder>,
}

struct Bidder {
    whose: Whose,
    levels: [Option<u8>; SLOTS_MAX],
    /// What it says is to be told.
    is_changed: bool,
}

impl Bidders {
    /// `source` says `level` of a slot, counted from 0 within the function. Beyond the most that
    /// are remembered, the one that was silent longest is forgotten.
    pub(super) fn note(&mut self, source: &Source<'_>, slot: usize, level: u8) {
        let known = self.list.iter().position(|bidder| bidder.whose.is_of(source));
        let mut bidder = match known {
            Some(known) => self.list.remove(known),
            None => {
                Bidder { whose: Whose::of(source), levels: [None; SLOTS_MAX], is_changed: false }
            }
        };
        if self.list.len() == BIDDERS_MAX {
            self.list.remove(0);
        }
        // Its priority may be another one now.
        bidder.whose = Whose::of(source);
        if let Some(known) = bidder.levels.get_mut(slot) {
            *known = Some(level);
        }
        self.list.push(bidder);
    }

    /// What `source` says is to be told.
    pub(super) fn bid(&mut self, source: &Source<'_>) {
        let bidder = self.list.iter_mut().find(|bidder| bidder.whose.is_of(source));
        if let Some(bidder) = bidder {
            bidder.is_changed = true;
        }
    }

    /// A source whose word of all `slots` is known and to be told, and its levels.
    pub(super) fn next(&mut self, slots: usize) -> Option<(Whose, Vec<u8>)> {
        let is_whole = |bidder: &Bidder| bidder.levels.iter().flatten().count() >= slots;
        let mut due = self.list.iter_mut().filter(|bidder| bidder.is_changed);
        let bidder = due.find(|bidder| is_whole(bidder))?;
        bidder.is_changed = false;
        Some((bidder.whose.clone(), bidder.levels.iter().flatten().copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_told_when_it_is_whole_and_who_was_silent_longest_is_forgotten() {
        let mut bidders = Bidders::default();
        let names: Vec<_> = (0..=BIDDERS_MAX).map(|number| format!("desk{number}")).collect();
        let source = |name| Source { id: name, priority: None, by: None };
        for name in &names {
            bidders.note(&source(name), 0, 7);
            bidders.bid(&source(name));
        }
        assert!(bidders.next(2).is_none(), "of the second slot nothing is known");
        for name in &names {
            bidders.note(&source(name), 1, 8);
        }
        // The first was forgotten, and what it said of the first slot with it.
        let mut told = Vec::new();
        while let Some((whose, levels)) = bidders.next(2) {
            assert_eq!(levels, [7, 8]);
            told.push(whose.source().id.to_owned());
        }
        assert!(told.len() < names.len() && !told.contains(&names[0]), "{told:?}");
        assert_eq!(bidders.list.len(), BIDDERS_MAX);
    }
}

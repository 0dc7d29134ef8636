//! How several senders of one universe become one look. This is the merge that the standards ask to
//! be declared:
//!
//! - **HTP** (highest takes precedence, the default): each slot has the highest level of all
//!   senders.
//! - **LTP** (latest takes precedence): each slot has the level of the sender that last *changed*
//!   it; a sender heard for the first time takes every slot. Repeated frames change nothing, so
//!   that two senders at full rate do not flicker.
//! - A sender is one address. When as many as allowed are heard, further ones are ignored.
//! - A sender that is silent for the time-out is lost: the look becomes that of those who remain.
//!   With the last sender the look stays as it was, because darkness is a decision, not a time-out.

use clasp_rt_core::time::{Span, Time};
use serde::Deserialize;

/// Slots of a universe.
pub const SLOTS: usize = 512;

/// Which of two senders' levels a slot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    #[default]
    Htp,
    Ltp,
}

/// The senders of one universe, and the look that they make together.
#[derive(Clone, Debug)]
pub struct Merge<S> {
    rule: Rule,
    senders_max: usize,
    timeout: Span,
    /// In the order in which they were first heard.
    senders: Vec<Sender<S>>,
    look: Levels,
}

#[derive(Clone, Debug)]
struct Sender<S> {
    id: S,
    heard: Time,
    levels: Levels,
    /// Slots that it changed after all others, a bit each; for LTP.
    latest: [u64; SLOTS / 64],
}

/// The first `len` slots of a universe; those after them are 0 and were never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    len: usize,
    slots: [u8; SLOTS],
}

/// One sender more than a universe takes; its frame is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySenders;

impl<S> Sender<S> {
    fn is_lost(&self, now: Time, timeout: Span) -> bool {
        now.since(self.heard) >= timeout
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self { len: 0, slots: [0; SLOTS] }
    }
}

impl Levels {
    pub fn as_slice(&self) -> &[u8] {
        &self.slots[..self.len]
    }

    /// Slots beyond 512 are cut off. A shorter frame does not end the slots that were sent before.
    pub fn write(&mut self, levels: &[u8]) {
        let levels = &levels[..levels.len().min(SLOTS)];
        self.slots[..levels.len()].copy_from_slice(levels);
        self.len = self.len.max(levels.len());
    }

    /// The first `len` slots, all at 0.
    pub fn dark(len: usize) -> Self {
        Self { len: len.min(SLOTS), slots: [0; SLOTS] }
    }

    /// Sets one slot, counted from 0; whether anything changed. Out of range: nothing.
    pub fn set(&mut self, slot: usize, level: u8) -> bool {
        let Some(held) = self.slots.get_mut(slot) else { return false };
        let changed = *held != level || slot >= self.len;
        *held = level;
        self.len = self.len.max(slot + 1);
        changed
    }

    /// Whether `levels` would change nothing here.
    pub fn hold(&self, levels: &[u8]) -> bool {
        let levels = &levels[..levels.len().min(SLOTS)];
        self.as_slice().get(..levels.len()) == Some(levels)
    }

    /// Slots (from 0) and levels of `next` that differ from here or were never sent, and makes them
    /// the ones held here. As [`Levels::write`] otherwise.
    pub fn advance(&mut self, next: &[u8], mut changed: impl FnMut(usize, u8)) {
        let next = &next[..next.len().min(SLOTS)];
        let known = self.len.min(next.len());
        let (next_known, next_new) = next.split_at(known);
        // Most of a universe stands still from frame to frame: what does is passed over in blocks.
        let (held, held_rest) = self.slots[..known].as_chunks_mut::<BLOCK>();
        let (come, come_rest) = next_known.as_chunks::<BLOCK>();
        let mut slot = 0;
        for (held, come) in held.iter_mut().zip(come) {
            if held != come {
                advance(held, come, slot, &mut changed);
            }
            slot += BLOCK;
        }
        advance(held_rest, come_rest, slot, &mut changed);
        self.slots[known..next.len()].copy_from_slice(next_new);
        self.len = self.len.max(next.len());
        (known..).zip(next_new).for_each(|(slot, &level)| changed(slot, level));
    }
}

/// Slots that are compared at once, and those that are where some of them differ.
const BLOCK: usize = 64;
const WORD: usize = 8;

/// As [`Levels::advance`], of as many slots that are held as come, the first of which is `slot`.
fn advance(held: &mut [u8], come: &[u8], mut slot: usize, changed: &mut impl FnMut(usize, u8)) {
    let mut held = held.chunks_exact_mut(WORD);
    let mut come = come.chunks_exact(WORD);
    for (held, come) in held.by_ref().zip(come.by_ref()) {
        let mut differs = word(held) ^ word(come);
        while differs != 0 {
            // The lowest octet that differs, and then the next.
            let place = differs.trailing_zeros() as usize / 8;
            differs &= u64::MAX.checked_shl(8 * (place as u32 + 1)).unwrap_or(0);
            changed(slot + place, come[place]);
        }
        held.copy_from_slice(come);
        slot += WORD;
    }
    for (held, &come) in held.into_remainder().iter_mut().zip(come.remainder()) {
        if *held != come {
            *held = come;
            changed(slot, come);
        }
        slot += 1;
    }
}

/// Slots as one number, the first in the lowest octet.
fn word(slots: &[u8]) -> u64 {
    slots.first_chunk().map_or(0, |slots| u64::from_le_bytes(*slots))
}

impl<S: Copy + PartialEq> Merge<S> {
    /// Bytes that each sender takes.
    pub const SENDER_BYTES: usize = size_of::<Sender<S>>();

    pub fn new(rule: Rule, senders_max: usize, timeout: Span) -> Self {
        let senders = Vec::with_capacity(senders_max);
        Self { rule, senders_max, timeout, senders, look: Levels::default() }
    }

    pub fn look(&self) -> &Levels {
        &self.look
    }

    pub fn is_merging(&self) -> bool {
        self.senders.len() > 1
    }

    pub fn has_sender(&self, id: S) -> bool {
        self.senders.iter().any(|sender| sender.id == id)
    }

    pub fn is_heard(&self) -> bool {
        !self.senders.is_empty()
    }

    /// Takes one frame of the sender `id`. Whether the look may have changed; a sender that repeats
    /// itself changes nothing.
    pub fn receive(&mut self, now: Time, id: S, levels: &[u8]) -> Result<bool, TooManySenders> {
        let lost = self.expire(now);
        let index = match self.senders.iter().position(|sender| sender.id == id) {
            Some(index) => index,
            None if self.senders.len() == self.senders_max => return Err(TooManySenders),
            None => {
                let (levels, latest) = (Levels::default(), [0; SLOTS / 64]);
                self.senders.push(Sender { id, heard: now, levels, latest });
                self.senders.len() - 1
            }
        };
        let Self { senders, look, .. } = self;
        let sender = &mut senders[index];
        sender.heard = now;
        if sender.levels.hold(levels) {
            return Ok(lost);
        }
        match self.rule {
            Rule::Htp => {
                sender.levels.write(levels);
                self.look_at_all();
            }
            // A new sender's levels are all new.
            Rule::Ltp => {
                let mut taken = [0; SLOTS / 64];
                sender.levels.advance(levels, |slot, level| {
                    look.set(slot, level);
                    taken[slot / 64] |= 1 << (slot % 64);
                });
                for (at, sender) in senders.iter_mut().enumerate() {
                    for (latest, taken) in sender.latest.iter_mut().zip(taken) {
                        *latest = if at == index { *latest | taken } else { *latest & !taken };
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes a frame that repeats what its sender says, while nobody is lost: of most frames of a
    /// show this is all that [`Merge::receive`] does. `false`: nothing was taken.
    pub fn repeat(&mut self, now: Time, id: S, levels: &[u8]) -> bool {
        let mut found = None;
        for sender in &mut self.senders {
            if sender.is_lost(now, self.timeout) {
                return false;
            }
            if sender.id == id {
                found = Some(sender);
            }
        }
        match found {
            Some(sender) if sender.levels.hold(levels) => {
                sender.heard = now;
                true
            }
            _ => false,
        }
    }

    /// The senders, in the order in which they were first heard.
    pub fn senders(&self) -> impl Iterator<Item = S> {
        self.senders.iter().map(|sender| sender.id)
    }

    /// What a sender sends.
    pub fn levels_of(&self, id: S) -> Option<&Levels> {
        let sender = self.senders.iter().find(|sender| sender.id == id);
        sender.map(|sender| &sender.levels)
    }

    /// Whose level `slot` has, of those who send it.
    pub fn holder(&self, slot: usize) -> Option<S> {
        let level = |sender: &Sender<S>| sender.levels.as_slice().get(slot).copied();
        let is_latest = |sender: &&Sender<S>| {
            let bits = sender.latest.get(slot / 64).copied().unwrap_or_default();
            self.rule == Rule::Ltp && bits >> (slot % 64) & 1 == 1
        };
        let latest = self.senders.iter().find(is_latest);
        let sending = self.senders.iter().filter(|sender| level(sender).is_some());
        // Of equal ones the first.
        let highest = sending.rev().max_by_key(|sender| level(sender));
        latest.or(highest).map(|sender| sender.id)
    }

    /// Forgets senders that were silent for the time-out. Whether one was forgotten.
    pub fn expire(&mut self, now: Time) -> bool {
        let timeout = self.timeout;
        let lost = self.senders.iter().any(|sender| sender.is_lost(now, timeout));
        if lost {
            self.senders.retain(|sender| !sender.is_lost(now, timeout));
            if self.is_heard() {
                self.look_at_all();
            }
        }
        lost
    }

    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// From now on by `rule`. Whether the look may have changed: going to HTP, it is looked at
    /// anew; going to LTP, it stays until a sender changes a slot.
    pub fn set_rule(&mut self, rule: Rule) -> bool {
        let has_changed = self.rule != rule && rule == Rule::Htp && self.is_heard();
        self.rule = rule;
        if has_changed {
            self.look_at_all();
        }
        has_changed
    }

    /// Forgets all senders but `id`. Whether the look may have changed.
    pub fn keep_only(&mut self, id: S) -> bool {
        let before = self.senders.len();
        self.senders.retain(|sender| sender.id == id);
        let lost = self.senders.len() < before;
        if lost && self.is_heard() {
            self.look_at_all();
        }
        lost
    }

    /// All slots to 0, until a sender says otherwise by its next frame.
    pub fn clear(&mut self) {
        let dark = Levels::dark(self.look.len);
        self.senders.iter_mut().for_each(|sender| sender.levels = Levels::default());
        self.look = dark;
    }

    /// When [`Merge::expire`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.senders.iter().map(|sender| sender.heard + self.timeout).min()
    }

    /// The highest of all senders, slot by slot. With one sender left this is its look, by either
    /// rule.
    fn look_at_all(&mut self) {
        let Self { senders, look, .. } = self;
        look.len = senders.iter().map(|sender| sender.levels.len).fold(look.len, usize::max);
        // Slots that a sender never sent are 0 there.
        let mut senders = senders.iter().map(|sender| &sender.levels.slots);
        look.slots = senders.next().copied().unwrap_or([0; SLOTS]);
        for slots in senders {
            look.slots.iter_mut().zip(slots).for_each(|(look, &level)| *look = level.max(*look));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Span = Span::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::default() + Span::from_secs(seconds)
    }

    #[test]
    fn looks_follow_the_declared_rule() {
        // Time in seconds, sender, its frame; the looks by HTP and by LTP.
        type Row = (u64, char, &'static [u8], &'static [u8], &'static [u8]);
        let rows: &[Row] = &[
            (0, 'a', &[10, 20, 30], &[10, 20, 30], &[10, 20, 30]),
            (1, 'b', &[40, 5], &[40, 20, 30], &[40, 5, 30]),
            (2, 'a', &[10, 20, 30], &[40, 20, 30], &[40, 5, 30]),
            (3, 'a', &[11, 20, 30], &[40, 20, 30], &[11, 5, 30]),
            (4, 'b', &[0, 5], &[11, 20, 30], &[0, 5, 30]),
            (5, 'b', &[0, 5, 0, 9], &[11, 20, 30, 9], &[0, 5, 0, 9]),
            // `a` was last heard at 3: it is lost at 13.
            (13, 'b', &[0, 5], &[0, 5, 0, 9], &[0, 5, 0, 9]),
            (14, 'a', &[7], &[7, 5, 0, 9], &[7, 5, 0, 9]),
        ];
        let mut htp = Merge::new(Rule::Htp, 2, TIMEOUT);
        let mut ltp = Merge::new(Rule::Ltp, 2, TIMEOUT);
        for &(seconds, sender, frame, highest, latest) in rows {
            htp.receive(at(seconds), sender, frame).expect("two senders");
            ltp.receive(at(seconds), sender, frame).expect("two senders");
            assert_eq!(htp.look().as_slice(), highest, "HTP after {seconds} s");
            assert_eq!(ltp.look().as_slice(), latest, "LTP after {seconds} s");
        }
    }

    #[test]
    fn a_third_sender_waits_until_one_is_lost() {
        let mut merge = Merge::new(Rule::Htp, 2, TIMEOUT);
        merge.receive(at(0), 'a', &[1]).expect("room");
        merge.receive(at(5), 'b', &[2]).expect("room");
        assert_eq!(merge.receive(at(6), 'c', &[3]), Err(TooManySenders));
        assert_eq!(merge.look().as_slice(), [2]);
        assert_eq!(merge.deadline(), Some(at(10)));
        merge.receive(at(10), 'c', &[3]).expect("a is lost");
        assert_eq!(merge.look().as_slice(), [3]);
        assert!(merge.has_sender('b') && merge.has_sender('c') && !merge.has_sender('a'));
    }

    #[test]
    fn the_look_of_the_last_sender_stays() {
        let mut merge = Merge::new(Rule::Htp, 2, TIMEOUT);
        merge.receive(at(0), 'a', &[1, 2]).expect("room");
        assert!(!merge.expire(at(9)));
        assert!(merge.expire(at(10)));
        assert!(!merge.is_heard());
        assert_eq!(merge.deadline(), None);
        assert_eq!(merge.look().as_slice(), [1, 2]);
    }

    #[test]
    fn each_slot_has_its_level_from_one_sender() {
        let holders = |merge: &Merge<char>| (0..4).filter_map(|slot| merge.holder(slot)).collect();
        let mut merge = Merge::new(Rule::Htp, 2, TIMEOUT);
        merge.receive(at(0), 'a', &[9, 5, 5]).expect("room");
        merge.receive(at(0), 'b', &[1, 5, 6, 0]).expect("room");
        let held: String = holders(&merge);
        assert_eq!(held, "aabb");
        merge.set_rule(Rule::Ltp);
        assert_eq!(holders(&merge), held, "until somebody changes a slot");
        merge.receive(at(1), 'b', &[1, 4, 6, 0]).expect("room");
        assert_eq!(holders(&merge), "abbb");
        merge.receive(at(2), 'a', &[9, 3, 5]).expect("room");
        assert_eq!(holders(&merge), "aabb");
        merge.keep_only('b');
        assert_eq!((holders(&merge), merge.senders().count()), ("bbbb".to_owned(), 1));
    }

    #[test]
    fn a_rule_can_change_and_a_merge_can_be_ended() {
        let mut merge = Merge::new(Rule::Ltp, 2, TIMEOUT);
        merge.receive(at(0), 'a', &[90, 1]).expect("room");
        merge.receive(at(1), 'b', &[10, 50]).expect("room");
        assert_eq!(merge.look().as_slice(), [10, 50]);
        assert!(merge.set_rule(Rule::Htp) && !merge.set_rule(Rule::Htp));
        assert_eq!((merge.look().as_slice(), merge.rule()), (&[90, 50][..], Rule::Htp));
        assert!(merge.keep_only('b') && !merge.keep_only('b'));
        assert_eq!(merge.look().as_slice(), [10, 50]);
        merge.clear();
        assert_eq!(merge.look().as_slice(), [0, 0]);
        assert_eq!(merge.receive(at(2), 'b', &[10, 50]), Ok(true));
        assert_eq!(merge.look().as_slice(), [10, 50]);
    }

    #[test]
    fn only_what_changed_or_is_new_advances() {
        let mut held = Levels::default();
        type Row = (&'static [u8], &'static [(usize, u8)]);
        let frames: [Row; 4] = [
            (&[0, 0, 5], &[(0, 0), (1, 0), (2, 5)]),
            (&[0, 0, 5], &[]),
            (&[0, 9], &[(1, 9)]),
            (&[0, 9, 5, 0], &[(3, 0)]),
        ];
        for (frame, expected) in frames {
            let mut changed = Vec::new();
            held.advance(frame, |slot, level| changed.push((slot, level)));
            assert_eq!(changed, expected, "{frame:?}");
            assert!(held.hold(frame));
        }
        assert!(!held.hold(&[0, 9, 5, 0, 0]), "a slot that was never sent is not held");
    }

    proptest! {
        #[test]
        fn eight_slots_at_once_find_what_each_by_itself_would(
            frames in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..600), 1..6),
        ) {
            let (mut held, mut by_slot) = (Levels::default(), Levels::default());
            for frame in frames {
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                held.advance(&frame, |slot, level| found.push((slot, level)));
                for (slot, &level) in frame.iter().enumerate() {
                    if by_slot.set(slot, level) {
                        expected.push((slot, level));
                    }
                }
                prop_assert_eq!(found, expected);
                prop_assert_eq!(&held, &by_slot);
            }
        }
    }

    #[test]
    fn a_frame_says_whether_the_look_may_have_changed() {
        for rule in [Rule::Htp, Rule::Ltp] {
            let mut merge = Merge::new(rule, 2, TIMEOUT);
            assert_eq!(merge.receive(at(0), 'a', &[1, 0]), Ok(true));
            assert_eq!(merge.receive(at(1), 'a', &[1, 0]), Ok(false));
            assert_eq!(merge.receive(at(2), 'a', &[1]), Ok(false), "a shorter frame ends no slot");
            assert_eq!(merge.receive(at(3), 'b', &[2]), Ok(true));
            assert_eq!(merge.receive(at(13), 'b', &[2]), Ok(true), "the other sender is lost");
            assert_eq!(merge.receive(at(14), 'b', &[2]), Ok(false));
        }
    }

    #[test]
    fn slots_beyond_a_universe_are_cut_off() {
        let mut merge = Merge::new(Rule::Ltp, 2, TIMEOUT);
        merge.receive(at(0), 'a', &[7; 600]).expect("room");
        assert_eq!(merge.look().as_slice(), [7; SLOTS]);
        assert!(!Levels::default().set(SLOTS, 1));
    }
}

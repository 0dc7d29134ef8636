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

    /// Sets one slot, counted from 0; whether anything changed. Out of range: nothing.
    pub fn set(&mut self, slot: usize, level: u8) -> bool {
        let Some(held) = self.slots.get_mut(slot) else { return false };
        let changed = *held != level || slot >= self.len;
        *held = level;
        self.len = self.len.max(slot + 1);
        changed
    }

    /// Slots (from 0) and levels of `next` that differ from here or were never sent, and makes them
    /// the ones held here.
    pub fn advance(&mut self, next: &Self, mut changed: impl FnMut(usize, u8)) {
        for (slot, &level) in next.as_slice().iter().enumerate() {
            if self.set(slot, level) {
                changed(slot, level);
            }
        }
    }
}

impl<S: Copy + PartialEq> Merge<S> {
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

    /// Takes one frame of the sender `id`.
    pub fn receive(&mut self, now: Time, id: S, levels: &[u8]) -> Result<(), TooManySenders> {
        self.expire(now);
        let known = self.senders.iter().position(|sender| sender.id == id);
        let is_new = known.is_none();
        let index = match known {
            Some(index) => index,
            None if self.senders.len() == self.senders_max => return Err(TooManySenders),
            None => {
                self.senders.push(Sender { id, heard: now, levels: Levels::default() });
                self.senders.len() - 1
            }
        };
        let sender = &mut self.senders[index];
        let before = sender.levels.clone();
        sender.heard = now;
        sender.levels.write(levels);
        match self.rule {
            Rule::Htp => self.look_at_all(),
            Rule::Ltp => {
                let held = before.as_slice();
                for (slot, &level) in sender.levels.as_slice().iter().enumerate() {
                    if is_new || held.get(slot) != Some(&level) {
                        self.look.set(slot, level);
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets senders that were silent for the time-out. Whether one was forgotten.
    pub fn expire(&mut self, now: Time) -> bool {
        let (timeout, before) = (self.timeout, self.senders.len());
        self.senders.retain(|sender| now.since(sender.heard) < timeout);
        let lost = self.senders.len() < before;
        if lost && self.is_heard() {
            self.look_at_all();
        }
        lost
    }

    /// When [`Merge::expire`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.senders.iter().map(|sender| sender.heard + self.timeout).min()
    }

    /// The highest of all senders, slot by slot. With one sender left this is its look, by either
    /// rule.
    fn look_at_all(&mut self) {
        self.look.slots.fill(0);
        for sender in &self.senders {
            for (slot, &level) in sender.levels.as_slice().iter().enumerate() {
                let level = level.max(self.look.slots[slot]);
                self.look.set(slot, level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn only_what_changed_or_is_new_advances() {
        let mut held = Levels::default();
        type Row = (&'static [u8], &'static [(usize, u8)]);
        let frames: [Row; 4] = [
            (&[0, 0, 5], &[(0, 0), (1, 0), (2, 5)]),
            (&[0, 0, 5], &[]),
            (&[0, 9], &[(1, 9)]),
            (&[0, 9, 5, 0], &[(3, 0)]),
        ];
        let mut next = Levels::default();
        for (frame, expected) in frames {
            next.write(frame);
            let mut changed = Vec::new();
            held.advance(&next, |slot, level| changed.push((slot, level)));
            assert_eq!(changed, expected, "{frame:?}");
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

//! `max_rate` and `epsilon`: what a subscription held back of an address, and when it follows.

use alloc::vec::Vec;

use super::lists::Owned;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;
use crate::time::{Span, Time};
use crate::timers::Timers;

const NONE: u32 = u32::MAX;
/// How many entries are looked at to find one that says nothing any more.
const RECLAIM_SCAN_MAX: usize = 16;

/// Whether all is forgotten that an ended subscription held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Unsubscribed {
    Wholly,
    Partly,
}

/// What a subscription says to a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Now,
    /// The rate is used up until then; the newest value follows.
    Later(Time),
    /// The change is too small.
    Never,
}

/// How a subscription wants its deliveries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub interval: Span,
    pub epsilon: f64,
}

#[derive(Clone, Copy)]
struct Paced {
    subscription: u32,
    /// Hash of the address.
    key: u64,
    delivered: Time,
    /// NaN where it was no number.
    value: f64,
    interval: Span,
    lasting: bool,
    pending: Block,
    pending_value: f64,
    live: bool,
}

const VACANT: Paced = Paced {
    subscription: NONE,
    key: 0,
    delivered: Time(0),
    value: f64::NAN,
    interval: Span::ZERO,
    lasting: false,
    pending: Block::EMPTY,
    pending_value: f64::NAN,
    live: false,
};

pub(crate) struct Pace {
    slots: Vec<Paced>,
    free: Vec<u32>,
    index: Index,
    due: Timers,
    frames: Arena,
    of_subscription: Owned,
    hand: usize,
    seed: [u64; 2],
    pub overflow: u64,
}

impl Pace {
    pub(crate) fn new(limits: &Limits, seed: [u64; 2]) -> Self {
        let max = limits.paced_max;
        Self {
            slots: alloc::vec![VACANT; max as usize],
            free: (0..max).rev().collect(),
            index: Index::new(max),
            due: Timers::new(max),
            frames: Arena::new(limits.held_bytes_max),
            of_subscription: Owned::new(limits.subscriptions_max, max),
            hand: 0,
            seed,
            overflow: 0,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Paced>() + size_of::<u32>())) as u64
            + self.index.memory_bytes()
            + self.due.memory_bytes()
            + self.frames.memory_bytes()
            + self.of_subscription.memory_bytes()
    }

    /// What `subscription` says to `value` of the address `key` at `now`. Changes nothing.
    pub(crate) fn verdict(
        &self,
        now: Time,
        subscription: u32,
        key: u64,
        wish: Wish,
        value: Option<f64>,
    ) -> Verdict {
        let Some(slot) = self.find(subscription, key) else { return Verdict::Now };
        let known = &self.slots[slot as usize];
        if wish.epsilon > 0.0
            && let Some(value) = value
            && (value - known.value).abs() < wish.epsilon
        {
            return Verdict::Never;
        }
        let due = known.delivered + wish.interval;
        if wish.interval > Span::ZERO && now < due { Verdict::Later(due) } else { Verdict::Now }
    }

    /// Remembers that `value` was delivered, and forgets what was held back.
    pub(crate) fn delivered(
        &mut self,
        now: Time,
        subscription: u32,
        key: u64,
        wish: Wish,
        value: Option<f64>,
    ) {
        let Some(slot) = self.find(subscription, key).or_else(|| self.take(now, subscription, key))
        else {
            self.overflow += 1;
            return;
        };
        self.forget_pending(slot);
        let known = &mut self.slots[slot as usize];
        known.delivered = now;
        known.value = value.unwrap_or(f64::NAN);
        known.interval = wish.interval;
        known.lasting = wish.epsilon > 0.0;
    }

    /// A change too small to deliver: what was held back is outdated by it.
    pub(crate) fn withdrawn(&mut self, subscription: u32, key: u64) {
        if let Some(slot) = self.find(subscription, key) {
            self.forget_pending(slot);
        }
    }

    /// Keeps `frame` until `due`. False where there is no room: deliver it now.
    pub(crate) fn hold(
        &mut self,
        subscription: u32,
        key: u64,
        due: Time,
        value: Option<f64>,
        frame: &[u8],
    ) -> bool {
        let Some(slot) = self.find(subscription, key) else { return false };
        let mut pending = self.slots[slot as usize].pending;
        if self.frames.replace(&mut pending, &[frame]).is_err() {
            self.overflow += 1;
            return false;
        }
        let known = &mut self.slots[slot as usize];
        known.pending = pending;
        known.pending_value = value.unwrap_or(f64::NAN);
        self.due.set(slot, due);
        true
    }

    /// Whether anything is remembered of that address for that subscription.
    pub(crate) fn knows(&self, subscription: u32, key: u64) -> bool {
        self.find(subscription, key).is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// A held frame whose time has come: its subscription, key, value, and the frame in `out`.
    pub(crate) fn pop(&mut self, now: Time, out: &mut Vec<u8>) -> Option<(u32, u64, Option<f64>)> {
        let slot = self.due.pop(now)?;
        let known = self.slots[slot as usize];
        out.clear();
        out.extend_from_slice(self.frames.get(known.pending));
        self.forget_pending(slot);
        let value = (!known.pending_value.is_nan()).then_some(known.pending_value);
        Some((known.subscription, known.key, value))
    }

    /// Forgets what `subscription` held back, of at most `addresses_max` addresses.
    pub(crate) fn unsubscribed(&mut self, subscription: u32, addresses_max: usize) -> Unsubscribed {
        for _ in 0..addresses_max {
            match self.of_subscription.first(subscription) {
                Some(slot) => self.give_back(slot),
                None => return Unsubscribed::Wholly,
            }
        }
        match self.of_subscription.first(subscription) {
            Some(_) => Unsubscribed::Partly,
            None => Unsubscribed::Wholly,
        }
    }

    fn find(&self, subscription: u32, key: u64) -> Option<u32> {
        self.index.find(self.hash(subscription, key), |slot| {
            let known = &self.slots[slot as usize];
            known.subscription == subscription && known.key == key
        })
    }

    fn take(&mut self, now: Time, subscription: u32, key: u64) -> Option<u32> {
        if self.free.is_empty() {
            self.reclaim(now);
        }
        let slot = self.free.pop()?;
        self.slots[slot as usize] = Paced { subscription, key, live: true, ..VACANT };
        self.of_subscription.give(subscription, slot);
        let hash = self.hash(subscription, key);
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        Some(slot)
    }

    /// Gives back entries that would answer as if they had never been.
    fn reclaim(&mut self, now: Time) {
        for _ in 0..RECLAIM_SCAN_MAX.min(self.slots.len()) {
            let slot = self.hand as u32;
            self.hand = (self.hand + 1) % self.slots.len();
            let known = &self.slots[slot as usize];
            let waits = self.due.get(slot).is_some();
            if known.live && !waits && !known.lasting && now >= known.delivered + known.interval {
                self.give_back(slot);
            }
        }
    }

    fn give_back(&mut self, slot: u32) {
        self.forget_pending(slot);
        let gone = core::mem::replace(&mut self.slots[slot as usize], VACANT);
        self.index.remove(self.hash(gone.subscription, gone.key), slot);
        self.of_subscription.take(gone.subscription, slot);
        self.free.push(slot);
    }

    fn forget_pending(&mut self, slot: u32) {
        let pending = core::mem::replace(&mut self.slots[slot as usize].pending, Block::EMPTY);
        self.frames.free(pending);
        self.due.clear(slot);
    }

    fn hash(&self, subscription: u32, key: u64) -> u64 {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&subscription.to_le_bytes());
        bytes[4..].copy_from_slice(&key.to_le_bytes());
        index::hash(self.seed, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pace(paced_max: u32) -> Pace {
        Pace::new(&Limits { paced_max, held_bytes_max: 1 << 16, ..Limits::default() }, [1, 2])
    }

    #[test]
    fn a_rate_delivers_at_once_then_the_newest_at_its_time() {
        let wish = Wish { interval: Span::from_millis(100), epsilon: 0.0 };
        let mut p = pace(8);
        assert_eq!(p.verdict(Time(0), 1, 7, wish, None), Verdict::Now);
        p.delivered(Time(0), 1, 7, wish, None);
        for (at_ms, frame) in [(10, b"a"), (20, b"b"), (30, b"c")] {
            let due = Time(100 * MS);
            assert_eq!(p.verdict(Time(at_ms * MS), 1, 7, wish, None), Verdict::Later(due));
            assert!(p.hold(1, 7, due, None, frame));
        }
        let mut out = Vec::new();
        assert_eq!(p.pop(Time(99 * MS), &mut out), None);
        assert_eq!(p.pop(Time(100 * MS), &mut out), Some((1, 7, None)));
        assert_eq!(out, b"c");
        assert_eq!(p.deadline(), None);
    }

    #[test]
    fn epsilon_compares_with_the_last_delivered_value() {
        let wish = Wish { interval: Span::ZERO, epsilon: 1.0 };
        let mut p = pace(8);
        p.delivered(Time(0), 1, 7, wish, Some(10.0));
        let cases = [(10.5, Verdict::Never), (9.5, Verdict::Never), (11.0, Verdict::Now)];
        for (value, verdict) in cases {
            assert_eq!(p.verdict(Time(1), 1, 7, wish, Some(value)), verdict, "{value}");
        }
        assert_eq!(p.verdict(Time(1), 1, 7, wish, None), Verdict::Now, "what is no number");
        assert_eq!(p.verdict(Time(1), 1, 7, wish, Some(f64::NAN)), Verdict::Now, "NaN");
    }

    #[test]
    fn a_full_table_reclaims_what_is_over_and_else_counts() {
        let wish = Wish { interval: Span::from_millis(10), epsilon: 0.0 };
        let mut p = pace(4);
        for key in 0..4 {
            p.delivered(Time(0), 1, key, wish, None);
        }
        p.delivered(Time(MS), 1, 9, wish, None);
        assert_eq!(p.overflow, 1);
        p.delivered(Time(50 * MS), 1, 10, wish, None);
        assert_eq!(p.overflow, 1);
        for key in 20..23 {
            p.delivered(Time(50 * MS), 1, key, wish, None);
        }
        assert_eq!(p.unsubscribed(1, 3), Unsubscribed::Partly);
        assert_eq!(p.unsubscribed(1, 3), Unsubscribed::Wholly);
        assert_eq!(p.free.len(), 4);
    }
}

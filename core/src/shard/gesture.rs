//! Open gestures of this shard's sessions: moves coalesce, start and end never.

use alloc::vec::Vec;

use super::lists::Owned;
use crate::LinkId;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;
use crate::time::{Span, Time};
use crate::timers::Timers;

/// What is to be done with a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Forward it now.
    Forward,
    /// It is kept, and follows when its interval is over unless a newer one replaces it.
    Kept,
    /// It replaced an older one that had not left.
    Replaced,
}

/// Gestures of one link that are coalesced at once; moves of further ones are all forwarded.
const PER_LINK_MAX: u16 = 64;

#[derive(Clone, Copy)]
struct Gesture {
    link: LinkId,
    id: u32,
    hash: u64,
    /// The address.
    address: Block,
    /// The newest move that has not left: a PUBLISH payload.
    pending: Block,
    emitted: Time,
}

const VACANT: Gesture = Gesture {
    link: LinkId(u32::MAX),
    id: 0,
    hash: 0,
    address: Block::EMPTY,
    pending: Block::EMPTY,
    emitted: Time(0),
};

pub(crate) struct Gestures {
    slots: Vec<Gesture>,
    free: Vec<u32>,
    index: Index,
    due: Timers,
    bytes: Arena,
    /// Open gestures of each link.
    of_link: Owned,
    count_of_link: Vec<u16>,
    interval: Span,
    seed: [u64; 2],
}

impl Gestures {
    pub(crate) fn new(limits: &Limits, interval: Span, seed: [u64; 2]) -> Self {
        let max = limits.gestures_max;
        Self {
            slots: alloc::vec![VACANT; max as usize],
            free: (0..max).rev().collect(),
            index: Index::new(max),
            due: Timers::new(max),
            bytes: Arena::new(limits.held_bytes_max),
            of_link: Owned::new(limits.links_max, max),
            count_of_link: alloc::vec![0; limits.links_max as usize],
            interval,
            seed,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Gesture>() + size_of::<u32>())
            + self.count_of_link.len() * 2) as u64
            + self.of_link.memory_bytes()
            + self.index.memory_bytes()
            + self.due.memory_bytes()
            + self.bytes.memory_bytes()
    }

    /// A gesture starts at `now`. Without room it stays unknown, and its moves are all forwarded.
    ///
    /// Whether a move of an older gesture with that name had not left.
    pub(crate) fn start(&mut self, now: Time, link: LinkId, id: u32, address: &str) -> bool {
        let overtaken = self.forget(link, id, address);
        if self.count_of_link[link.0 as usize] == PER_LINK_MAX {
            return overtaken;
        }
        let Some(block) = self.bytes.put(&[address.as_bytes()]) else { return overtaken };
        let Some(slot) = self.free.pop() else {
            self.bytes.free(block);
            return overtaken;
        };
        let hash = self.hash(link, id, address);
        self.slots[slot as usize] =
            Gesture { link, id, hash, address: block, emitted: now, ..VACANT };
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.of_link.give(link.0, slot);
        self.count_of_link[link.0 as usize] += 1;
        overtaken
    }

    /// A move: at most one leaves in each interval, counted from the last that left.
    pub(crate) fn moved(
        &mut self,
        now: Time,
        link: LinkId,
        id: u32,
        address: &str,
        payload: &[u8],
    ) -> Move {
        let Some(slot) = self.find(link, id, address) else { return Move::Forward };
        let due = self.slots[slot as usize].emitted + self.interval;
        let mut pending = self.slots[slot as usize].pending;
        let replaces = pending != Block::EMPTY;
        if now < due && self.bytes.replace(&mut pending, &[payload]).is_ok() {
            self.slots[slot as usize].pending = pending;
            self.due.set(slot, due);
            return if replaces { Move::Replaced } else { Move::Kept };
        }
        self.forget_pending(slot);
        self.slots[slot as usize].emitted = now;
        Move::Forward
    }

    /// A gesture ends: the move that had not left, in `pending`; empty if there is none.
    pub(crate) fn ended(&mut self, link: LinkId, id: u32, address: &str, pending: &mut Vec<u8>) {
        pending.clear();
        if let Some(slot) = self.find(link, id, address) {
            pending.extend_from_slice(self.bytes.get(self.slots[slot as usize].pending));
            self.give_back(slot);
        }
    }

    /// A newer move left by another way at `now`. Whether one had been kept that has not left.
    pub(crate) fn overtake(&mut self, now: Time, link: LinkId, id: u32, address: &str) -> bool {
        let Some(slot) = self.find(link, id, address) else { return false };
        self.slots[slot as usize].emitted = now;
        self.forget_pending(slot)
    }

    /// A gesture ended by another way. Whether a move of it has not left.
    pub(crate) fn forget(&mut self, link: LinkId, id: u32, address: &str) -> bool {
        self.find(link, id, address).is_some_and(|slot| self.give_back(slot))
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// A move whose time has come: its link, and its payload in `out`.
    pub(crate) fn pop(&mut self, now: Time, out: &mut Vec<u8>) -> Option<LinkId> {
        let slot = self.due.pop(now)?;
        out.clear();
        out.extend_from_slice(self.bytes.get(self.slots[slot as usize].pending));
        self.forget_pending(slot);
        let gesture = &mut self.slots[slot as usize];
        gesture.emitted = now;
        Some(gesture.link)
    }

    /// One gesture that `link` left open: its id, and its address in `address`.
    pub(crate) fn abandoned(&mut self, link: LinkId, address: &mut Vec<u8>) -> Option<u32> {
        let slot = self.of_link.first(link.0)?;
        let gesture = self.slots[slot as usize];
        address.clear();
        address.extend_from_slice(self.bytes.get(gesture.address));
        self.give_back(slot);
        Some(gesture.id)
    }

    fn find(&self, link: LinkId, id: u32, address: &str) -> Option<u32> {
        self.index.find(self.hash(link, id, address), |slot| {
            let g = &self.slots[slot as usize];
            g.link == link && g.id == id && self.bytes.get(g.address) == address.as_bytes()
        })
    }

    /// Whether a move had been kept.
    fn give_back(&mut self, slot: u32) -> bool {
        let pending = self.forget_pending(slot);
        let gone = core::mem::replace(&mut self.slots[slot as usize], VACANT);
        self.bytes.free(gone.address);
        self.index.remove(gone.hash, slot);
        self.of_link.take(gone.link.0, slot);
        self.count_of_link[gone.link.0 as usize] -= 1;
        self.free.push(slot);
        pending
    }

    fn forget_pending(&mut self, slot: u32) -> bool {
        let pending = core::mem::replace(&mut self.slots[slot as usize].pending, Block::EMPTY);
        self.bytes.free(pending);
        self.due.clear(slot);
        !pending.is_empty()
    }

    fn hash(&self, link: LinkId, id: u32, address: &str) -> u64 {
        let salt = u64::from(link.0) << 32 | u64::from(id);
        index::hash([self.seed[0] ^ salt, self.seed[1]], address.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn at_most_one_move_leaves_in_each_interval_and_the_newest_wins() {
        let mut g = Gestures::new(&Limits::default(), Span::from_millis(16), [1, 2]);
        let (link, mut out) = (LinkId(3), Vec::new());
        g.start(Time(0), link, 1, "/g");
        // 240 Hz for one second: a move each 4.17 ms; due ones leave first.
        let mut left = 0;
        for i in 1..=240_u64 {
            let now = Time(i * 1_000 * MS / 240);
            while g.pop(now, &mut out).is_some() {
                left += 1;
            }
            if g.moved(now, link, 1, "/g", &i.to_be_bytes()) == Move::Forward {
                left += 1;
            }
        }
        assert!((58..=63).contains(&left), "{left} moves left in a second");
        g.ended(link, 1, "/g", &mut out);
        assert_eq!(out, 240_u64.to_be_bytes(), "the last move leaves before the end");
        assert_eq!(g.deadline(), None);
    }

    #[test]
    fn two_links_with_one_address_and_id_do_not_meet() {
        let mut g = Gestures::new(&Limits::default(), Span::from_millis(16), [1, 2]);
        let mut out = Vec::new();
        g.start(Time(0), LinkId(1), 0, "/g");
        g.start(Time(0), LinkId(2), 0, "/g");
        assert_eq!(g.moved(Time(1), LinkId(1), 0, "/g", b"one"), Move::Kept);
        assert_eq!(g.moved(Time(1), LinkId(2), 0, "/g", b"two"), Move::Kept);
        assert_eq!(g.moved(Time(2), LinkId(2), 0, "/g", b"deux"), Move::Replaced);
        g.ended(LinkId(1), 0, "/g", &mut out);
        assert_eq!(out, b"one");
        assert_eq!(g.abandoned(LinkId(2), &mut out), Some(0));
        assert_eq!(out, b"/g");
        assert_eq!(g.abandoned(LinkId(2), &mut out), None);
        assert_eq!(g.free.len(), g.slots.len());
    }

    #[test]
    fn a_move_without_a_start_is_forwarded() {
        let mut g = Gestures::new(&Limits::default(), Span::from_millis(16), [1, 2]);
        assert_eq!(g.moved(Time(0), LinkId(1), 0, "/g", b"x"), Move::Forward);
    }
}

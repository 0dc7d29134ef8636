//! The snapshots that links still wait for.

use alloc::vec::Vec;

use super::NONE;
use crate::limits::Limits;
use crate::time::Time;
use crate::timers::Timers;
use crate::{LinkId, ShardId};

/// How far the snapshots of one link are.
#[derive(Clone, Copy)]
pub(in crate::shard) struct Pull {
    pub(in crate::shard) active: bool,
    /// A part was asked of another shard and has not come.
    pub(in crate::shard) waiting: bool,
    /// Something was sent.
    pub(in crate::shard) any: bool,
    pub(in crate::shard) single_home: bool,
    pub(in crate::shard) home: ShardId,
    pub(in crate::shard) cursor: u32,
    /// Tells parts of this snapshot from late parts of one that was given up.
    pub(in crate::shard) serial: u32,
    /// `NONE`: the snapshot on connect.
    pub(in crate::shard) subscription: u32,
    first_waiting: u32,
    last_waiting: u32,
}

const IDLE: Pull = Pull {
    active: false,
    waiting: false,
    any: false,
    single_home: false,
    home: ShardId(0),
    cursor: 0,
    serial: 0,
    subscription: NONE,
    first_waiting: NONE,
    last_waiting: NONE,
};

/// The snapshots that links still wait for: one at a time each, in the order of their wishes.
pub(in crate::shard) struct Pulls {
    pub(in crate::shard) of: Vec<Pull>,
    /// By subscription: the next one of the same link that waits.
    next: Vec<u32>,
    /// Links that can go on.
    pub(in crate::shard) due: Timers,
}

impl Pulls {
    pub(in crate::shard) fn new(limits: &Limits) -> Self {
        Self {
            of: alloc::vec![IDLE; limits.links_max as usize],
            next: alloc::vec![NONE; limits.subscriptions_max as usize],
            due: Timers::new(limits.links_max),
        }
    }

    pub(in crate::shard) fn memory_bytes(&self) -> u64 {
        (self.of.len() * size_of::<Pull>() + self.next.len() * 4) as u64 + self.due.memory_bytes()
    }

    pub(in crate::shard) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    pub(super) fn is_busy(&self, link: LinkId) -> bool {
        let pull = &self.of[link.0 as usize];
        pull.active || pull.first_waiting != NONE
    }

    pub(super) fn begin_connect(&mut self, link: LinkId) {
        let serial = self.of[link.0 as usize].serial.wrapping_add(1);
        self.of[link.0 as usize] = Pull { active: true, serial, ..IDLE };
    }

    pub(super) fn enqueue(&mut self, link: LinkId, slot: u32) {
        self.next[slot as usize] = NONE;
        let pull = &mut self.of[link.0 as usize];
        match pull.last_waiting {
            NONE => pull.first_waiting = slot,
            last => self.next[last as usize] = slot,
        }
        pull.last_waiting = slot;
    }

    pub(super) fn dequeue(&mut self, link: LinkId) -> Option<u32> {
        let pull = &mut self.of[link.0 as usize];
        let slot = pull.first_waiting;
        if slot == NONE {
            return None;
        }
        pull.first_waiting = self.next[slot as usize];
        if pull.first_waiting == NONE {
            pull.last_waiting = NONE;
        }
        Some(slot)
    }

    /// A subscription is gone: its snapshot is not waited for, or given up.
    pub(super) fn forget(&mut self, link: LinkId, slot: u32) {
        let Some(pull) = self.of.get_mut(link.0 as usize) else { return };
        if pull.active && pull.subscription == slot {
            pull.active = false;
        }
        let (mut previous, mut at) = (NONE, pull.first_waiting);
        while at != NONE {
            let next = self.next[at as usize];
            if at == slot {
                match previous {
                    NONE => pull.first_waiting = next,
                    previous => self.next[previous as usize] = next,
                }
                if pull.last_waiting == slot {
                    pull.last_waiting = previous;
                }
                return;
            }
            previous = at;
            at = next;
        }
    }

    /// The link is gone.
    pub(in crate::shard) fn end(&mut self, link: LinkId) {
        let serial = self.of[link.0 as usize].serial.wrapping_add(1);
        self.of[link.0 as usize] = Pull { serial, ..IDLE };
        self.due.clear(link.0);
    }
}

//! Rules that change while the shard runs: who wins which address, and who comes with which
//! priority.
//!
//! [`Shard::adopt`] takes a [`Ruling`] over at once, however much the shard holds: from then on a
//! param is judged by it before anybody writes it or asks why it is so. The others are judged a
//! turn's share at a time, and what another source wins then is published. A param that nothing
//! arbitrated before is claimed by nobody until it is written.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::input::Lane;
use super::record::Record;
use super::settings::{Arbitration, SourceFor};
use super::store::claims::Claims;
use super::{Effects, RECORD_BYTES_MAX, Shard, TURN_MAX};
use crate::LinkId;
use crate::limits::Limits;
use crate::time::Time;

/// Slots of the store that one turn judges, at most.
const SLOTS_PER_TURN: usize = 256;

/// What [`super::Settings`] say of arbitrations and sources, anew.
pub struct Ruling {
    pub(super) arbitrations: Vec<Arbitration>,
    pub(super) sources: Vec<SourceFor>,
    /// Room for claims: a shard that was started without arbitrations has none.
    pub(super) room: Option<Claims>,
}

impl Ruling {
    pub fn new(arbitrations: Vec<Arbitration>, sources: Vec<SourceFor>) -> Self {
        Self { arbitrations, sources, room: None }
    }

    /// Takes the memory that a shard of these `limits` needs for its first arbitration, which it
    /// could not take while it runs.
    pub fn with_room(self, limits: &Limits, seed: [u64; 2]) -> Self {
        Self { room: Some(Claims::with_room(limits.claims_max, seed)), ..self }
    }

    /// Bytes that [`Ruling::with_room`] took.
    pub fn memory_bytes(&self) -> u64 {
        self.room.as_ref().map_or(0, Claims::memory_bytes)
    }
}

impl Shard {
    /// Takes `next` over at `now`, and gives back what it needs no more, for another thread to
    /// free. As [`Shard::step`] does: equal inputs at equal times, equal effects.
    ///
    /// # Errors
    ///
    /// `next` itself, to be offered again with a later turn: a bundle across homes is being
    /// decided, or the last ruling is not in force everywhere yet.
    pub fn adopt(&mut self, now: Time, mut next: Box<Ruling>) -> Result<Box<Ruling>, Box<Ruling>> {
        assert!(now >= self.now, "time went back");
        if self.bundles.holds_home() || self.is_ruled_anew() {
            return Err(next);
        }
        self.now = now;
        self.store.adopt(&mut next.arbitrations, &mut next.room);
        core::mem::swap(&mut self.settings.sources, &mut next.sources);
        // Until all is judged it decides about what was arbitrated, too.
        self.arbitrates = true;
        self.next_ranked = 0;
        Ok(next)
    }

    /// Whether a ruling is not in force everywhere yet.
    pub(super) fn is_ruled_anew(&self) -> bool {
        self.store.is_judging() || self.is_ranking()
    }

    fn is_ranking(&self) -> bool {
        (self.next_ranked as usize) < self.sessions.len()
    }

    /// Whether claims decide about the param in `slot`, or about `address` if it has none yet.
    #[inline]
    pub(super) fn is_arbitrated(&mut self, slot: Option<u32>, address: &[u8]) -> bool {
        if !self.arbitrates {
            return false;
        }
        if let Some(slot) = slot.filter(|&slot| !self.store.is_judged(slot)) {
            self.store.judge(self.now, slot);
        }
        self.store.is_arbitrated(slot, address)
    }

    /// Puts the param in `slot` under the ruling, and tells everyone if another source has it now.
    pub(super) fn judge(&mut self, slot: u32, fx: &mut impl Effects) {
        self.store.judge(self.now, slot);
        if let Some(contest) = self.store.claims.contest(slot) {
            let winner = self.store.claims.decide(self.now, contest);
            self.settle_contest(contest, winner, fx);
        }
    }

    /// Puts the params under the ruling that it did not reach yet: a turn's share.
    pub(super) fn judge_rest(&mut self, fx: &mut impl Effects) {
        if !self.store.is_judging() {
            return;
        }
        for _ in 0..SLOTS_PER_TURN {
            if !self.has_room(Lane::Publish, RECORD_BYTES_MAX) {
                return;
            }
            let Some(slot) = self.store.next_unjudged() else {
                // What is left of claims that were lost before goes as it always does.
                let claims = &self.store.claims;
                self.arbitrates = claims.arbitrates() || claims.deadline(self.now).is_some();
                return;
            };
            self.judge(slot, fx);
        }
    }

    /// Gives sessions the priority that their name has now, and tells those that asked what is
    /// arbitrated: a turn's share.
    pub(super) fn rank_sessions(&mut self, fx: &mut impl Effects) {
        for _ in 0..TURN_MAX {
            if !self.is_ranking() || !self.has_room(Lane::Forward, RECORD_BYTES_MAX) {
                return;
            }
            let link = LinkId(self.next_ranked);
            self.next_ranked += 1;
            let Some((session, before)) = self.ranked(link) else { continue };
            let priority = self.priority_of(self.introductions.name_of(link));
            if priority != before {
                self.sessions[link.0 as usize].priority = priority;
                self.store.rank(session, before, priority);
                self.hand_all(Record::Ranked { session, before, priority }, fx);
            }
            if self.sessions[link.0 as usize].asked_arbitration {
                let (origin, grant) = (self.origin(link), self.sessions[link.0 as usize].grant);
                self.declare(&origin, grant, fx);
            }
        }
    }
}

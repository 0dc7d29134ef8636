//! Claims under rules that changed after they were made.

use alloc::vec::Vec;

use super::Claims;
use super::entries::{Claim, Fade};
use crate::shard::record::UNDECLARED;
use crate::shard::session_id::SessionId;
use crate::shard::settings::Arbitration;
use crate::time::Time;

impl Arbitration {
    /// The priority of a claim: what its source declared, or else what the name of the session says
    /// that spoke for it, or else the default.
    pub(super) fn priority_of(&self, declared: u8, of_session: u8) -> u8 {
        let mut said = [declared, of_session].into_iter().filter(|said| *said != UNDECLARED);
        said.next().unwrap_or(self.default_priority)
    }
}

impl Claims {
    /// Puts `policies` in the place of those in force, and takes `room` if there was none. What is
    /// needed no more is left in their places. All contests were judged by those in force before.
    pub(crate) fn adopt(&mut self, policies: &mut Vec<Arbitration>, room: &mut Option<Self>) {
        if self.claims.is_empty()
            && let Some(room) = room
        {
            core::mem::swap(self, room);
        }
        core::mem::swap(&mut self.before, policies);
        core::mem::swap(&mut self.before, &mut self.policies);
        self.ruling = self.ruling.wrapping_add(1);
    }

    /// What `session` writes has another priority now. What was told of it to those who pass it on
    /// named the one before.
    pub(crate) fn rank(&mut self, session: SessionId, before: u8, priority: u8) {
        let of_it = |source: &super::Source| source.is_of(session);
        self.for_each_source(of_it, |claims, source| {
            let kept = &mut claims.sources[source as usize];
            if kept.origin.writer == session {
                kept.origin.priority = priority;
                return;
            }
            let mut next = claims.of_source.first(source);
            while let Some(claim) = next {
                let kept = &mut claims.claims[claim as usize];
                if kept.declared == before {
                    kept.declared = priority;
                }
                next = claims.of_source.next(claim);
            }
        });
    }

    /// Puts the contest for the param in `slot`, if there is one, under `policy`, which is in
    /// force; its winner is to be decided anew. `level`: what the param holds, if that is a number.
    pub(crate) fn judge(&mut self, now: Time, slot: u32, policy: u16, level: Option<f64>) {
        let Some(contest) = self.contest(slot) else { return };
        let is = &self.policies[usize::from(policy)];
        let is_same = self.policy_for(contest) == is;
        let timeout = is.timeout;
        let ruling = self.ruling;
        let kept = &mut self.contests[contest as usize];
        (kept.policy, kept.ruling) = (policy, ruling);
        if let Some(fade) = kept.fade.as_mut().filter(|_| !is_same) {
            // It goes on from where it is, as that has it which is in force.
            *fade = Fade { from: level.unwrap_or(fade.from), began: now };
            self.fading.set(contest, now);
        }
        let mut next = self.of_contest.first(contest);
        while let Some(claim) = next {
            let Claim { source, declared, heard, .. } = self.claims[claim as usize];
            let source = &self.sources[source as usize];
            let priority =
                self.policies[usize::from(policy)].priority_of(declared, source.origin.priority);
            self.claims[claim as usize].priority = priority;
            match timeout {
                _ if is_same => {}
                Some(timeout) => self.due.set(claim, heard.max(source.alive) + timeout),
                None => self.due.clear(claim),
            }
            next = self.of_contest.next(claim);
        }
    }
}

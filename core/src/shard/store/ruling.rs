//! Params under rules that changed after they were written: each is judged once.

use alloc::vec::Vec;

use super::Store;
use super::claims::Claims;
use crate::shard::session_id::SessionId;
use crate::shard::settings::{Arbitration, Rule};
use crate::time::Time;

impl Store {
    /// Takes over who wins which address, and gives back what is needed no more in its place.
    pub(crate) fn adopt(&mut self, arbitrations: &mut Vec<Arbitration>, room: &mut Option<Claims>) {
        self.claims.adopt(arbitrations, room);
        self.judge_anew();
    }

    /// The priority of what `session` writes is another one now.
    pub(crate) fn rank(&mut self, session: SessionId, before: u8, priority: u8) {
        self.claims.rank(session, before, priority);
        self.judge_anew();
    }

    fn judge_anew(&mut self) {
        self.judged = 0;
        // What was planned before may not be believed.
        self.changes += 1;
    }

    /// Whether some params may not be under the rules in force yet.
    pub(crate) fn is_judging(&self) -> bool {
        self.judged != u32::MAX
    }

    #[inline]
    pub(crate) fn is_judged(&self, slot: u32) -> bool {
        slot < self.judged
    }

    /// The next slot to be judged; after the last one all are.
    pub(crate) fn next_unjudged(&mut self) -> Option<u32> {
        let slot = self.judged;
        self.judged = if slot < self.slots { slot + 1 } else { u32::MAX };
        (slot < self.slots).then_some(slot)
    }

    /// Puts the param in `slot` under the rules in force, if one lives there.
    #[cold]
    pub(crate) fn judge(&mut self, now: Time, slot: u32) {
        if !self.params[slot as usize].is_live() {
            return;
        }
        let was = self.rule(slot);
        match self.claims.policy_of(self.address(slot)) {
            Some(_) if was != Rule::Arbitrated => {
                if was == Rule::Lock {
                    // Its first writer had it by that rule alone.
                    self.unlock(slot);
                    self.requeue(slot);
                }
                self.params[slot as usize].set_rule(Rule::Arbitrated);
            }
            Some(policy) => {
                let level = self.value(slot).as_f64();
                self.claims.judge(now, slot, policy, level);
            }
            None if was == Rule::Arbitrated => {
                self.claims.forget(slot);
                let rule = self.rule_of(self.address_bytes(slot));
                self.params[slot as usize].set_rule(rule);
            }
            None => {}
        }
    }
}

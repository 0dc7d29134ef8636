//! Who holds which locked param: few are locked, so it lies beside the params.

use super::{LOCKS_MAX, Store};
use crate::index;
use crate::shard::session_id::SessionId;

impl Store {
    /// Who locked the param in `slot`; `SessionId::NONE`: nobody.
    #[inline]
    pub(super) fn holder(&self, slot: Option<u32>) -> SessionId {
        let locked = slot.filter(|&slot| self.params[slot as usize].is_locked());
        let at = locked.and_then(|slot| self.lock_at(slot));
        at.map_or(SessionId::NONE, |at| self.locked[at as usize].0)
    }

    /// Where `locked` has the param in `slot`.
    fn lock_at(&self, slot: u32) -> Option<u32> {
        self.locked_at.find(self.lock_hash(slot), |at| self.locked[at as usize].1 == slot)
    }

    fn lock_hash(&self, slot: u32) -> u64 {
        index::join(self.seed[0], slot)
    }

    /// Locks that `session` has.
    pub(crate) fn locks_of(&self, session: SessionId) -> usize {
        self.locked.iter().filter(|(holder, _)| *holder == session).count()
    }

    pub(super) fn lock(&mut self, slot: u32, holder: SessionId) {
        let nobody = holder == SessionId::NONE || self.ended.contains(&holder);
        if nobody || self.params[slot as usize].is_locked() || self.locked.len() == LOCKS_MAX {
            return;
        }
        let (hash, at) = (self.lock_hash(slot), self.locked.len() as u32);
        self.locked_at.insert(hash, at).expect("the index holds as many as there are locks");
        self.locked.push((holder, slot));
        self.params[slot as usize].set_locked(true);
    }

    pub(super) fn unlock(&mut self, slot: u32) {
        if !self.params[slot as usize].is_locked() {
            return;
        }
        self.params[slot as usize].set_locked(false);
        let at = self.lock_at(slot).expect("a locked param has its entry");
        let last = self.locked.len() as u32 - 1;
        self.locked_at.remove(self.lock_hash(slot), at);
        self.locked.swap_remove(at as usize);
        if let Some(&(_, moved)) = self.locked.get(at as usize) {
            let hash = self.lock_hash(moved);
            self.locked_at.remove(hash, last);
            self.locked_at.insert(hash, at).expect("one was removed");
        }
    }
}

//! Who holds which locked param: few are locked, so it lies beside the params.

use super::{LOCKS_MAX, LOCKS_PER_SESSION_MAX, Store};
use crate::index;
use crate::shard::marker;
use crate::shard::refused::Refused;
use crate::shard::session_id::SessionId;
use crate::shard::settings::Rule;

impl Store {
    /// Who locked the param in `slot`; `SessionId::NONE`: nobody.
    #[inline]
    pub(super) fn holder(&self, slot: Option<u32>) -> SessionId {
        let locked = slot.filter(|&slot| self.params[slot as usize].is_locked());
        let at = locked.and_then(|slot| self.lock_at(slot));
        at.map_or(SessionId::NONE, |at| self.locked[at as usize].0)
    }

    /// Why the lock of `holder` keeps `writer` out, if it does. A source is described by whom it
    /// belongs to; the router describes those that are sessions.
    #[inline]
    pub(super) fn is_kept_out(
        &self,
        slot: Option<u32>,
        address: &[u8],
        holder: SessionId,
        writer: SessionId,
    ) -> Result<(), Refused> {
        if slot.is_none_or(|slot| self.rule(slot) == Rule::Lock)
            && let Some(id) = marker::described(address)
        {
            let whose = SessionId::parse(id).unwrap_or(holder);
            let is_anyones = whose == SessionId::NONE || writer == SessionId::NONE;
            return if is_anyones || whose == writer {
                Ok(())
            } else {
                Err(Refused::NotSource { whose })
            };
        }
        match holder == SessionId::NONE || holder == writer {
            true => Ok(()),
            false => Err(Refused::Locked { holder }),
        }
    }

    /// Whether its rule makes the param in `slot` that of `writer`: one that describes a source
    /// where it is nobody's yet and `writer` has not too many, any other with its first write.
    pub(super) fn becomes_of(&self, slot: u32, writer: SessionId) -> bool {
        if marker::described(self.address_bytes(slot)).is_none() {
            return self.revision(slot) == 1;
        }
        !self.params[slot as usize].is_locked()
            && writer != SessionId::NONE
            && self.locks_of(writer) < LOCKS_PER_SESSION_MAX
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

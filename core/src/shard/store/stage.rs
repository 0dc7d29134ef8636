//! Writes of a bundle: each takes its memory before the first is applied, so that none can fail.

use super::{Stamp, Store};
use crate::arena::Block;
use crate::message::RawSet;
use crate::shard::refused::Refused;
use crate::value;

/// A write that was checked and has its memory, so that applying it cannot fail.
#[derive(Clone, Copy)]
pub(crate) struct Staged {
    /// Address and value.
    piece: Block,
    address_len: usize,
    /// What is claimed, where the address is arbitrated.
    claim: Block,
}

impl Staged {
    /// The same with what is claimed by it; `EMPTY`: nothing.
    pub(crate) fn with_claim(self, claim: Block) -> Self {
        Self { claim, ..self }
    }

    pub(crate) fn claim(&self) -> Block {
        self.claim
    }

    /// Bytes of the value, with its type code.
    pub(crate) fn value_len(&self) -> usize {
        self.piece.len() as usize - self.address_len
    }
}

impl Store {
    /// Takes the memory that a write of a bundle needs. `earlier`: the last write of the same
    /// bundle to the same address.
    pub(crate) fn stage(
        &mut self,
        slot: Option<u32>,
        set: &RawSet<'_>,
        earlier: Option<Staged>,
    ) -> Result<Staged, Refused> {
        let rule = match slot {
            Some(slot) => self.rule(slot),
            None => self.rule_of(set.address),
        };
        let held = earlier.map(|earlier| (earlier.piece, earlier.address_len));
        let held = held.or_else(|| slot.map(|slot| self.value_place(slot)));
        let merged = self.merge(rule, held, set.value)?;
        let address = set.address;
        let piece = match &merged {
            Some(map) => self.put(&[address, &[value::code::MAP], map]),
            None => self.put(&[address, &[set.value.code], set.value.data]),
        };
        if let Some(map) = merged {
            self.merged = map;
        }
        Ok(Staged { piece: piece?, address_len: address.len(), claim: Block::EMPTY })
    }

    pub(crate) fn unstage(&mut self, staged: Staged) {
        self.arena.free(staged.piece);
        self.claims.unstage(staged.claim);
    }

    /// Applies a staged write; room was made sure of by [`Store::make_room`].
    pub(crate) fn commit(
        &mut self,
        by: Stamp,
        held: Option<u32>,
        hash: u64,
        set: &RawSet<'_>,
        staged: Staged,
    ) -> u32 {
        let mut is_new = held.is_none();
        let slot = match held {
            Some(slot) => {
                let param = &mut self.params[slot as usize];
                is_new = param.is_ended();
                let old = param.piece();
                param.set_piece(staged.piece);
                self.arena.free(old);
                slot
            }
            None => {
                let placed = self.place(hash, set.address, staged.piece);
                placed.expect("make_room left a slot for every new address")
            }
        };
        self.written(by, slot, set, is_new);
        slot
    }

    /// Guards `slot` from eviction until [`Store::unguard`].
    pub(crate) fn guard(&mut self, slot: u32) {
        self.params[slot as usize].set_guarded(true);
        self.lines.leave(&mut self.params, slot);
    }

    pub(crate) fn unguard(&mut self, slot: u32) {
        self.params[slot as usize].set_guarded(false);
        self.requeue(slot);
    }
}

//! In which order a session's messages go on, where they have different homes.

use crate::shard::record::{Origin, Record};
use crate::shard::{Effects, Shard};
use crate::{LinkId, ShardId};

impl Shard {
    /// The session's next message need not wait for the bundle across homes that it sent.
    pub(in crate::shard) fn end_waiting(&mut self, link: LinkId) {
        self.sessions[link.0 as usize].order.waiting = false;
    }

    /// Whether a message for `home` may go on now; if not, it is held until [`Shard::fenced`].
    #[inline]
    pub(super) fn in_order(&mut self, link: LinkId, home: ShardId, fx: &mut impl Effects) -> bool {
        let own = self.settings.id;
        let order = &mut self.sessions[link.0 as usize].order;
        if order.waiting {
            return false;
        }
        if order.outstanding && order.home != home {
            order.waiting = true;
            let last = order.home;
            let origin = self.origin(link);
            self.hand(last, Record::Fence { origin }, fx);
            return false;
        }
        order.home = home;
        order.outstanding = home != own;
        true
    }

    /// The same for a bundle. One that spans homes is a fence of its own: what follows waits for
    /// it.
    pub(in crate::shard) fn bundle_in_order(
        &mut self,
        link: LinkId,
        homes: u64,
        fx: &mut impl Effects,
    ) -> bool {
        match homes.count_ones() {
            0 => !self.sessions[link.0 as usize].order.waiting,
            1 => self.in_order(link, ShardId(homes.trailing_zeros() as u16), fx),
            _ => {
                let own = self.settings.id;
                let order = &mut self.sessions[link.0 as usize].order;
                if order.signs_due > 0 {
                    order.waits_for_signs = true;
                    return false;
                }
                // As if it went home first: that fences whatever was forwarded elsewhere.
                let free = self.in_order(link, own, fx);
                self.sessions[link.0 as usize].order.waiting = true;
                free
            }
        }
    }

    /// Every other home was told of a source that is lost.
    pub(in crate::shard) fn await_signs(&mut self, link: LinkId) {
        let others = u32::from(self.settings.shards) - 1;
        self.sessions[link.0 as usize].order.signs_due += others;
    }

    /// A home has done what it was told of a source that is lost.
    pub(in crate::shard) fn signed(&mut self, origin: &Origin, fx: &mut impl Effects) {
        if !self.is_current(origin) {
            return;
        }
        let order = &mut self.sessions[origin.link.0 as usize].order;
        order.signs_due -= 1;
        if order.signs_due == 0 && core::mem::take(&mut order.waits_for_signs) {
            fx.resume(origin.link);
        }
    }

    /// All that the session sent before has been published: its next message may follow.
    pub(in crate::shard) fn fenced(&mut self, origin: &Origin, fx: &mut impl Effects) {
        if self.is_current(origin) {
            let order = &mut self.sessions[origin.link.0 as usize].order;
            order.waiting = false;
            order.outstanding = false;
            fx.resume(origin.link);
        }
    }
}

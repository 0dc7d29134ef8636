//! Rules that change while the shard runs, taken over between what arrived and what is due.

use clasp_rt_core::shard::Shard;

use super::Edge;

impl Edge {
    /// Lets the shard take over what the configuration says now.
    pub(super) fn take_ruling(&mut self, shard: &mut Shard) {
        let Some(ruling) = self.rulings.next() else { return };
        match shard.adopt(self.out.conns.now, ruling) {
            Ok(rest) => {
                self.rulings.give_back(rest);
                self.worked = true;
            }
            Err(ruling) => self.rulings.hold(ruling),
        }
    }
}

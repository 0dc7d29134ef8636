//! How many strangers may be sessions at once, all shards together.

use std::sync::atomic::{AtomicU32, Ordering};

use clasp_rt_core::shard::{Admit, Shard};
use clasp_rt_link::AnyTransport;
use clasp_rt_ring::Socket;

use super::Edge;
use crate::conns::Leaving;

/// Places for sessions of strangers, shared by all shards.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicU32,
    max: u32,
}

impl Seats {
    pub const fn new(max: u32) -> Self {
        Self { taken: AtomicU32::new(0), max }
    }

    pub(super) fn sit(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Edge {
    /// Takes a connection that anybody may have made.
    pub(super) fn open_stranger(&mut self, shard: &mut Shard, stream: Socket, by: AnyTransport) {
        let seated = self.seats.sit() || self.displace();
        self.counts.links_turned_away += u64::from(!seated);
        let admit = if seated { Admit::Stranger } else { Admit::Full };
        self.open_link(shard, stream, by, admit);
    }

    /// Ends a link that has said nothing, and leaves its seat to another: however many there are,
    /// they keep nobody out who speaks.
    fn displace(&mut self) -> bool {
        let Some(link) = self.out.conns.next_silent() else { return false };
        self.out.conns.get(link).seated = false;
        self.out.conns.leave(link, Leaving::cut);
        self.counts.links_displaced += 1;
        true
    }
}

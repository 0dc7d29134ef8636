//! How many strangers may be sessions at once, all shards together.

use std::sync::atomic::{AtomicU32, Ordering};

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

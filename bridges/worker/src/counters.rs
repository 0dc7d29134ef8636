//! What a service counts: the rows of a bridge, raised by any of its tasks.

use std::sync::atomic::{AtomicU64, Ordering};

use clasp_rt_bridges::Counters;

/// [`Counters`] that tasks share. Each only rises, except `sessions`.
#[derive(Debug, Default)]
pub struct AtomicCounters {
    pub packets_in: Count,
    pub packets_out: Count,
    pub frames_in: Count,
    pub frames_out: Count,
    pub malformed: Count,
    pub refused: Count,
    pub dropped: Count,
    pub overflowed: Count,
    /// Sessions at the router at present.
    pub sessions: Count,
}

/// One number that tasks share.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

impl AtomicCounters {
    /// The rows as they are now.
    pub fn look(&self) -> Counters {
        Counters {
            packets_in: self.packets_in.get(),
            packets_out: self.packets_out.get(),
            frames_in: self.frames_in.get(),
            frames_out: self.frames_out.get(),
            malformed: self.malformed.get(),
            refused: self.refused.get(),
            dropped: self.dropped.get(),
            overflowed: self.overflowed.get(),
            // Services have no routes.
            loops: 0,
        }
    }
}

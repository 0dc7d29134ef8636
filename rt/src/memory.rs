//! What is taken at start, one term for each place where bytes can rest.

use std::fmt;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::{Settings, Shard};

use crate::bridge_thread;
use crate::conns::{LINK_BYTES, SHARED_BYTES};
use crate::edge;
use crate::plan_types::Threads;
use crate::stages;
use crate::tape;

/// One place, how often it exists, and how much each takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub what: &'static str,
    pub count: u64,
    pub bytes_each: u64,
}

impl Term {
    pub fn bytes(&self) -> u64 {
        self.count * self.bytes_each
    }
}

/// Every term of what `threads` take.
pub fn terms(threads: &Threads) -> Vec<Term> {
    let shards = threads.shards.len() as u64;
    let links_each = threads.shards.first().map_or(0, |shard| shard.settings.limits.links_max);
    let bridges: usize = threads.bridges.iter().map(|thread| thread.bridges.len()).sum();
    let recordings = u64::from(threads.recording.is_some());
    let bridges = bridges as u64 + recordings;
    let tables = threads.bridges.iter().flat_map(|thread| &thread.bridges);
    let tables = tables.map(|plan| plan.bridge.memory_bytes_max()).sum();
    let streams = threads.bridges.iter().flat_map(|thread| &thread.bridges);
    let streams = streams.map(|plan| bridge_thread::streams_bytes_max(&plan.bridge.streams()));
    let state_each = threads.shards.first().map_or(0, |shard| state_bytes(&shard.settings));
    let terms = [
        ("state of a shard", shards, state_each),
        ("buffers of a link", shards * u64::from(links_each), LINK_BYTES),
        ("frames that links share", shards, SHARED_BYTES),
        // Between each ordered pair of shards, and each bridge and its shard, two lanes each.
        (
            "ring between threads",
            shards * shards.saturating_sub(1) * 2 + bridges * 2,
            threads.exchange_bytes as u64,
        ),
        (
            "histograms of a shard",
            if threads.histograms { shards } else { 0 },
            stages::bytes(threads.shards.len()),
        ),
        ("packets of a shard's kernel ring", shards, edge::sizes(links_each, 0).memory_bytes()),
        (
            "packets of a bridge thread's ring",
            threads.bridges.len() as u64 + recordings,
            bridge_thread::SIZES.memory_bytes(),
        ),
        ("frames on their way to a recording", recordings, tape::MEMORY_BYTES),
        ("tables of bridges, when they are full", 1, tables),
        ("streams of bridges, when nobody reads", 1, streams.sum()),
        ("allocator of a shard's thread", shards, ALLOCATOR_BYTES),
        ("allocator of a bridge thread", threads.bridges.len() as u64 + recordings, BRIDGE_BYTES),
        ("program", 1, PROGRAM_BYTES),
    ];
    terms.into_iter().map(|(what, count, bytes_each)| Term { what, count, bytes_each }).collect()
}

/// A shard knows best what it takes, so one is made and asked.
fn state_bytes(settings: &Settings) -> u64 {
    Shard::new(settings.clone()).memory_bytes()
}

/// What the limits ask for by themselves: a plan beyond the machine is refused before any of it is
/// taken.
pub fn at_least(threads: &Threads) -> u64 {
    let shards = threads.shards.iter().map(|shard| limits_at_least(&shard.settings.limits));
    shards.fold(0, u64::saturating_add)
}

fn limits_at_least(limits: &Limits) -> u64 {
    let entries = u64::from(limits.params_max)
        + u64::from(limits.subscriptions_max)
        + u64::from(limits.outbox_entries_max)
        + u64::from(limits.paced_max);
    let pools = [
        limits.param_bytes_max,
        limits.signal_bytes_max,
        limits.outbox_pool_bytes,
        limits.held_bytes_max,
        limits.history_bytes,
        u64::from(limits.links_max) * LINK_BYTES,
        entries * ENTRY_BYTES_MIN,
    ];
    pools.into_iter().fold(0, u64::saturating_add)
}

/// No entry of any table is smaller.
const ENTRY_BYTES_MIN: u64 = 16;

/// What mimalloc keeps beside what a shard takes from it: about one of its 32 MiB segments.
///
/// Resident beyond the other terms, measured after start with 1, 2 and 4 shards of default limits
/// and 1 shard of 1,000,000 params: 31, 61, 139 and 32 MiB. With the system's allocator it is
/// nothing, yet only large tables show the difference: the way of a message does not allocate.
const ALLOCATOR_BYTES: u64 = 32 << 20;

/// The same of a bridge thread, whose tables are small.
///
/// Resident beyond the other terms, measured after start with 1 and 2 such threads, their bridges
/// without work: 11 and 21 MiB.
const BRIDGE_BYTES: u64 = 10 << 20;

/// Code, stacks and what the allocator keeps.
const PROGRAM_BYTES: u64 = 6 << 20;

/// Bytes in the unit that keeps the number short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = |shift: u32| self.0 as f64 / (1_u64 << shift) as f64;
        let text = match self.0 {
            0..1_024 => format!("{} B", self.0),
            1_024..1_048_576 => format!("{:.1} KiB", scaled(10)),
            1_048_576..1_073_741_824 => format!("{:.1} MiB", scaled(20)),
            _ => format!("{:.2} GiB", scaled(30)),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_that_keeps_them_short() {
        let cases = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (16 << 20, "16.0 MiB"),
            (5 << 29, "2.50 GiB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(Size(bytes).to_string(), shown);
        }
        assert_eq!(format!("{:>9}", Size(16 << 20)), " 16.0 MiB");
    }
}

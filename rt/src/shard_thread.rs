//! One shard's thread: pinned, its memory taken and touched, then turns until told to stop.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use clasp_rt_core::shard::{Counts, Settings, Shard};
use clasp_rt_perf::counters::Writer;
use clasp_rt_ring::{Alarm, Ring, alloc, napi, thread};

use crate::edge::{self, Edge, Parts};
use crate::plan_types::{Hygiene, ListenerTransport};

/// What the thread of a shard is made of.
pub struct ShardSeed {
    pub core: Option<usize>,
    pub hygiene: Hygiene,
    pub settings: Settings,
    pub listeners: Vec<(OwnedFd, ListenerTransport)>,
    /// Whether strangers are let in; they wait in the sockets that listen until then.
    pub doors: Arc<AtomicBool>,
    pub parts: Parts,
    /// A page of [`names`].
    pub counters: Writer,
}

/// Runs a shard on the calling thread. `ready` is told how to wake it, or why it cannot start.
pub fn run(seed: ShardSeed, ready: impl FnOnce(io::Result<Alarm>)) -> io::Result<()> {
    let mut counters = seed.counters;
    let (mut edge, mut shard, alarm) =
        match set_up(seed.core, seed.hygiene, seed.settings, seed.parts) {
            Ok(made) => made,
            Err(why) => {
                ready(Err(io::Error::new(why.kind(), why.to_string())));
                return Err(why);
            }
        };
    ready(Ok(alarm));
    edge.await_doors(&mut shard, &seed.doors)?;
    for (socket, transport) in seed.listeners {
        edge.listen(socket, transport)?;
    }
    let mut totals = Vec::with_capacity(names().len());
    edge.run(&mut shard, |edge, shard| {
        totals.clear();
        collect(edge, shard, &mut |_, total| totals.push(total));
        counters.store_all(&totals);
    })
}

fn set_up(
    core: Option<usize>,
    hygiene: Hygiene,
    settings: Settings,
    parts: Parts,
) -> io::Result<(Edge, Shard, Alarm)> {
    // Before anything is taken, so that memory lies near the core.
    if let Some(core) = core {
        thread::pin(core)?;
    }
    thread::wake_punctually()?;
    if let Some(priority) = hygiene.fifo_priority {
        thread::run_first(priority)?;
    }
    thread::prefault_stack();
    let guests = parts.guests.max();
    let accepted = parts.links - parts.ports.len() as u32 - guests;
    let mut ring = Ring::new(&edge::sizes(accepted, guests))?;
    if let Some(limit) = hygiene.busy_poll {
        napi::poll_while_waiting(&ring, limit)?;
    }
    let alarm = ring.alarm()?;
    let (shard, edge) = alloc::touched(|| (Shard::new(settings), Edge::new(ring, parts)));
    Ok((edge, shard, alarm))
}

/// The names of a shard's counters, in the order in which they are written.
pub fn names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = EDGE_NAMES.to_vec();
        Counts::default().each(|name, _| names.push(name));
        names
    })
}

const EDGE_NAMES: &[&str] = &[
    "uptime_ns",
    "busy_ns",
    "turns",
    "kernel_enters",
    "kernel_sleeps",
    "links_now",
    "links_opened",
    "links_closed",
    "links_turned_away",
    "links_displaced",
    "bytes_in",
    "bytes_out",
    "short_sends",
    "receives_starved",
    "accept_faults",
    "peer_records",
    "peer_waits",
    "peer_spills",
    "peer_wakes",
    "params_now",
    "subscriptions_now",
    "allocations",
];

/// Every total under its name, in the order of [`names`].
fn collect(edge: &Edge, shard: &Shard, each: &mut dyn FnMut(&'static str, u64)) {
    let (ring, counts) = (edge.ring_counts(), edge.counts());
    let totals = [
        edge.now().0,
        counts.busy_ns,
        counts.turns,
        ring.enters,
        ring.sleeps,
        u64::from(edge.open_links()),
        counts.links_opened,
        counts.links_closed,
        counts.links_turned_away,
        counts.links_displaced,
        counts.bytes_in,
        counts.bytes_out,
        ring.short_sends,
        ring.starved,
        ring.accept_faults,
        counts.peer_records,
        counts.peer_waits,
        edge.spilled(),
        ring.wakes,
        u64::from(shard.params()),
        u64::from(shard.subscriptions()),
        alloc::allocations_of_this_thread(),
    ];
    EDGE_NAMES.iter().zip(totals).for_each(|(name, total)| each(name, total));
    shard.counts().each(each);
}

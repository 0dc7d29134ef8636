//! A thread that runs one service: its runtime, and its way to the router.

use std::io;
use std::sync::OnceLock;

use clasp_rt_bridges::Counters;
use clasp_rt_perf::counters::Writer;
use clasp_rt_ring::thread;
use clasp_rt_worker::{AtomicCounters, Door, Service, Stop, runtime};

/// What the thread of a service is made of.
pub struct ServiceSeed {
    pub core: Option<usize>,
    pub service: Box<dyn Service>,
    pub door: Door,
    pub stop: Stop,
}

/// Runs a service on the calling thread. `ready` is told where it listens, or why it cannot start.
pub fn run(
    seed: ServiceSeed,
    mut counters: Writer,
    ready: impl FnOnce(io::Result<Vec<String>>),
) -> io::Result<()> {
    let ServiceSeed { core, service, door, stop } = seed;
    if let Some(why) = core.and_then(|core| thread::pin(core).err()) {
        ready(Err(io::Error::new(why.kind(), why.to_string())));
        return Err(why);
    }
    runtime::run(service, door, stop, ready, |counted| counters.store_all(&totals(counted)))
}

/// The names of a service's counters.
pub fn names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let rows = Counters::default().rows().map(|(name, _)| name);
        rows.iter().copied().chain(["sessions_now"]).collect()
    })
}

fn totals(counted: &AtomicCounters) -> Vec<u64> {
    let rows = counted.look().rows().map(|(_, count)| count);
    rows.into_iter().chain([counted.sessions.get()]).collect()
}

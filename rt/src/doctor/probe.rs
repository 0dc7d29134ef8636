//! How late chosen cores are by themselves, before any router runs on them.
//!
//! Two measurements, each on a thread pinned and set up as a shard's is, on all cores at once. A
//! **sleeper** wakes every millisecond and notes how late it is, as cyclictest does. A **spinner**
//! reads the clock and notes each gap, as the kernel's hwlat does: something else had the core
//! then. A gap is counted once for every microsecond in it, as if a message had arrived in each:
//! the figures are what a message that comes at any instant waits.

use std::io;
use std::thread;
use std::time::Duration;

use clasp_rt_perf::histogram::Latency;
use clasp_rt_ring::thread::{pin, prefault_stack, wake_punctually};

use super::{Finding, Machine};
use crate::clock;
use crate::waiting::Awake;

/// How often the sleeper wakes.
const PERIOD_NS: u64 = 1_000_000;

/// Shorter gaps are the loop's own.
const GAP_NS_MIN: u64 = 1_000;

/// Gaps that one spinner keeps. When there are more, it ends early.
const GAPS_MAX: usize = 1 << 16;

/// What nobody on a calm machine exceeds: see [`Core::findings`].
const HELD_UP_P99_9_NS_MAX: u64 = 50_000;
const HELD_UP_NS_MAX: u64 = 1_000_000;
const WAKE_P50_NS_MAX: u64 = 20_000;

/// What was measured on one core.
#[derive(Clone, Debug)]
pub struct Core {
    pub core: usize,
    /// How late a sleeper wakes when the core may halt.
    pub wakes: Latency,
    /// The same while cores are kept from halting; `None` where this process may not do that.
    pub wakes_awake: Option<Latency>,
    /// What a message waits that arrives while the core spins.
    pub held_up: Latency,
    /// The share of its time that a spinner did not have, 0.0..=1.0.
    pub lost: f64,
}

/// Measures on `cores` for `each` of the two or three measurements.
pub fn run(cores: &[usize], each: Duration) -> io::Result<Vec<Core>> {
    let each_ns = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
    let wakes = on_each(cores, || sleep(each_ns))?;
    let wakes_awake = match Awake::new() {
        Ok(_awake) => Some(on_each(cores, || sleep(each_ns))?),
        Err(_) => None,
    };
    let gaps = on_each(cores, || spin(each_ns))?;
    let mut wakes_awake = wakes_awake.into_iter().flatten();
    let each_core = cores.iter().zip(wakes).zip(gaps);
    Ok(each_core
        .map(|((core, wakes), gaps)| Core {
            core: *core,
            wakes,
            wakes_awake: wakes_awake.next(),
            held_up: gaps.waits(),
            lost: gaps.lost(),
        })
        .collect())
}

/// Runs `measure` on every core at once; gives what it gave, in the order of `cores`.
fn on_each<T: Send>(cores: &[usize], measure: impl Fn() -> T + Sync) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = cores
            .iter()
            .map(|core| {
                scope.spawn(|| {
                    pin(*core)?;
                    wake_punctually()?;
                    prefault_stack();
                    Ok(measure())
                })
            })
            .collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, io::Result<T>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a probe panicked")))
        };
        threads.into_iter().map(ended).collect()
    })
}

fn sleep(for_ns: u64) -> Latency {
    let mut late = Latency::new();
    let start = clock::monotonic_ns();
    // By schedule: a late wake does not put off the next one, which is then late as well.
    for turn in 1..=for_ns / PERIOD_NS {
        let due = start + turn * PERIOD_NS;
        clock::sleep_until(due);
        late.record(clock::monotonic_ns().saturating_sub(due));
    }
    late
}

fn spin(for_ns: u64) -> Gaps {
    let start = clock::monotonic_ns();
    let mut gaps = Gaps::new(start, GAPS_MAX);
    while gaps.last_ns - start < for_ns && gaps.look(clock::monotonic_ns()) == Room::Left {}
    gaps
}

/// Times between two looks at the clock that were longer than the loop explains.
struct Gaps {
    start_ns: u64,
    last_ns: u64,
    /// Never longer than its capacity, so that noting one takes no memory.
    found_ns: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

impl Gaps {
    fn new(start_ns: u64, gaps_max: usize) -> Self {
        // Touched now: a page that is taken in the loop would be a gap of its own.
        let mut found_ns = vec![u64::MAX; gaps_max];
        found_ns.clear();
        Self { start_ns, last_ns: start_ns, found_ns }
    }

    fn look(&mut self, now_ns: u64) -> Room {
        let gap = now_ns - self.last_ns;
        self.last_ns = now_ns;
        if gap >= GAP_NS_MIN {
            self.found_ns.push(gap);
        }
        if self.found_ns.len() < self.found_ns.capacity() { Room::Left } else { Room::Full }
    }

    /// What messages would have waited that arrive every microsecond.
    fn waits(&self) -> Latency {
        let mut waits = Latency::new();
        let arrivals = (self.last_ns - self.start_ns) / GAP_NS_MIN;
        for gap in &self.found_ns {
            (0..gap / GAP_NS_MIN).for_each(|passed| waits.record(gap - passed * GAP_NS_MIN));
        }
        waits.record_many(0, arrivals.saturating_sub(waits.count()));
        waits
    }

    fn lost(&self) -> f64 {
        let all = (self.last_ns - self.start_ns).max(1);
        self.found_ns.iter().sum::<u64>() as f64 / all as f64
    }
}

impl Core {
    /// What the two measurements say of this core.
    pub fn findings(&self, machine: &Machine) -> Vec<Finding> {
        vec![self.wake_finding(), self.held_up_finding(machine)]
    }

    fn wake_finding(&self) -> Finding {
        const TOPIC: &str = "wake-up";
        let core = self.core;
        let p50 = self.wakes.quantile_ns(0.5);
        let kept = self.wakes_awake.as_ref().map(|awake| awake.quantile_ns(0.5));
        let found = match kept {
            Some(kept) => format!(
                "core {core} wakes {} µs late at p50, {} µs when it may not halt",
                us(p50),
                us(kept)
            ),
            None => format!("core {core} wakes {} µs late at p50", us(p50)),
        };
        match kept {
            Some(kept) if kept <= WAKE_P50_NS_MAX => Finding::ok(TOPIC, found),
            None if p50 <= WAKE_P50_NS_MAX => Finding::ok(TOPIC, found),
            _ => {
                let fix = match kept {
                    Some(_) => "not the halt, but others on this core (isolation, steal)",
                    None => "allow /dev/cpu_dma_latency, or idle = \"spin\" on cores of its own",
                };
                Finding::warn(TOPIC, found, "a sleeping shard begins that much later", fix)
            }
        }
    }

    fn held_up_finding(&self, machine: &Machine) -> Finding {
        const TOPIC: &str = "hiccups";
        let core = self.core;
        let (p99_9, max) = (self.held_up.quantile_ns(0.999), self.held_up.quantile_ns(1.0));
        let found = format!(
            "core {core} is held up {} µs at p99.9, {} µs at the maximum, {:.2} % of its time",
            us(p99_9),
            us(max),
            self.lost * 100.0
        );
        if p99_9 <= HELD_UP_P99_9_NS_MAX && max <= HELD_UP_NS_MAX {
            return Finding::ok(TOPIC, found);
        }
        let isolated = crate::host::isolated_cores(&machine.root).contains(&core);
        let fix = if isolated {
            "nothing of this system runs there: ask the hypervisor (steal) or the firmware (SMI)"
        } else {
            "end what else runs, or isolate the core (isolation)"
        };
        Finding::warn(TOPIC, found, "a message waits as long, whatever a router does", fix)
    }
}

fn us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::{Root, Verdict};
    use super::*;

    #[test]
    fn a_gap_counts_for_every_message_that_would_have_come_in_it() {
        let mut gaps = Gaps::new(5_000, 8);
        for now_ns in [5_100, 5_200, 15_200, 15_300, 105_000] {
            assert_eq!(gaps.look(now_ns), Room::Left);
        }
        assert_eq!(gaps.found_ns, [10_000, 89_700]);
        let waits = gaps.waits();
        // 100 µs went by; in the 10 µs and the 89 whole µs somebody waited, in one nobody did.
        assert_eq!(waits.count(), 100);
        assert_eq!(waits.quantile_ns(0.01), 1);
        let near = |quantile, ns: u64| {
            let found = waits.quantile_ns(quantile);
            assert!(found.abs_diff(ns) <= ns / 500, "{found} is not {ns}");
        };
        near(1.0, 89_700);
        near(0.5, 39_700);
        assert!((gaps.lost() - 0.997).abs() < 1e-9, "{}", gaps.lost());
    }

    #[test]
    fn a_spinner_that_has_noted_enough_gaps_ends() {
        let mut gaps = Gaps::new(0, 2);
        assert_eq!(gaps.look(1_000), Room::Left);
        assert_eq!(gaps.look(2_000), Room::Full);
        assert_eq!(gaps.found_ns.capacity(), 2, "no memory was taken");
    }

    fn core(wake_ns: u64, awake_ns: Option<u64>, held_up_ns: u64) -> Core {
        let latency = |ns| {
            let mut latency = Latency::new();
            latency.record(ns);
            latency
        };
        Core {
            core: 0,
            wakes: latency(wake_ns),
            wakes_awake: awake_ns.map(latency),
            held_up: latency(held_up_ns),
            lost: 0.0,
        }
    }

    #[test]
    fn a_core_is_judged_by_how_it_wakes_and_by_what_holds_it_up() {
        use Verdict::{Ok, Warn};
        let machine = Machine { root: Root::real(), cores: vec![0] };
        let cases = [
            (core(4_000, None, 9_000), [Ok, Ok]),
            (core(55_000, None, 9_000), [Warn, Ok]),
            (core(55_000, Some(4_000), 9_000), [Ok, Ok]),
            (core(55_000, Some(45_000), 51_000), [Warn, Warn]),
            (core(4_000, None, 2_000_000), [Ok, Warn]),
        ];
        for (core, verdicts) in cases {
            let found = core.findings(&machine);
            assert_eq!(found.iter().map(|f| f.verdict).collect::<Vec<_>>(), verdicts, "{found:?}");
        }
    }

    #[test]
    fn every_core_is_measured_and_one_that_is_not_there_is_named() {
        let cores = clasp_rt_ring::thread::cores();
        let measured = run(&cores, Duration::from_millis(5)).unwrap();
        assert_eq!(measured.iter().map(|m| m.core).collect::<Vec<_>>(), cores);
        for core in &measured {
            assert_eq!(core.wakes.count(), 5, "one a millisecond");
            assert!(core.held_up.count() >= 5_000, "one a microsecond");
            assert!((0.0..=1.0).contains(&core.lost));
        }
        let error = run(&[100_000], Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("core 100000"), "{error}");
    }
}

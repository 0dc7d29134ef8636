//! What this machine offers: cores, open files, memory, and whether we may keep cores awake.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::config::Cores;
use crate::waiting;

/// Read once at start, so that a plan follows from it and the configuration alone.
#[derive(Clone, Debug)]
pub struct Host {
    /// Cores that exist and that this process may use, ascending.
    pub cores: Vec<usize>,
    /// Those of them that the scheduler gives to nobody else (`isolcpus`).
    pub isolated: Vec<usize>,
    /// A control group takes the processor away when a quota is used up.
    pub quota: bool,
    /// File descriptors that this process may open once it has raised its own limit.
    pub files_max: u64,
    /// Bytes of RAM that are free to take.
    pub memory_bytes: u64,
    /// Whether [`waiting::LATENCY_DEVICE`] opens for writing.
    pub may_forbid_halt: bool,
    /// Drawn anew at every start, so that nobody can guess session ids.
    pub seed: [u64; 2],
}

impl Host {
    pub fn read() -> Self {
        let cores = usable_cores();
        let isolated = cores_in("/sys/devices/system/cpu/isolated");
        Self {
            isolated: isolated.into_iter().filter(|core| cores.contains(core)).collect(),
            cores,
            quota: has_quota(&read("/sys/fs/cgroup/cpu.max")),
            files_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            memory_bytes: available_bytes(&read("/proc/meminfo")),
            may_forbid_halt: waiting::may_forbid_halt(),
            seed: random_seed(),
        }
    }
}

/// Empty where the file is missing: an older kernel, or a container without it.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cores_in(path: &str) -> Vec<usize> {
    read(path).trim().parse().map(|Cores(cores)| cores).unwrap_or_default()
}

/// An affinity mask may be narrower than the machine: `taskset`, containers, unit files.
fn usable_cores() -> Vec<usize> {
    let online = cores_in("/sys/devices/system/cpu/online");
    match sched_getaffinity(None) {
        Ok(mask) => (0..CpuSet::MAX_CPU).filter(|core| mask.is_set(*core)).collect(),
        Err(_) => online,
    }
}

/// `max 100000` sets no quota, `50000 100000` allows half a core.
fn has_quota(cpu_max: &str) -> bool {
    cpu_max.split_whitespace().next().is_some_and(|quota| quota != "max")
}

fn available_bytes(meminfo: &str) -> u64 {
    match kib_of(meminfo, "MemAvailable:") {
        0 => u64::MAX,
        kib => kib.saturating_mul(1024),
    }
}

/// The number in a line such as `VmRSS:   5760 kB`; 0 without such a line.
pub fn kib_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn random_seed() -> [u64; 2] {
    let mut seed = [[0; 8]; 2];
    let filled = getrandom(seed.as_flattened_mut(), GetRandomFlags::empty());
    // Once the system has booted it always answers a request as short as this.
    assert_eq!(filled, Ok(16), "the system's random source is not ready");
    seed.map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_and_no_quota_is_max() {
        for (cpu_max, quota) in [("max 100000\n", false), ("50000 100000\n", true), ("", false)] {
            assert_eq!(has_quota(cpu_max), quota, "{cpu_max:?}");
        }
    }

    #[test]
    fn free_memory_is_read_in_kibibytes() {
        let meminfo = "MemTotal:       24 kB\nMemFree: 3 kB\nMemAvailable:       12 kB\n";
        assert_eq!(available_bytes(meminfo), 12 << 10);
        assert_eq!(available_bytes(""), u64::MAX);
    }

    #[test]
    fn this_machine_has_a_core_and_two_starts_differ() {
        let host = Host::read();
        assert!(!host.cores.is_empty());
        assert!(host.files_max > 0);
        assert_ne!(host.seed, Host::read().seed);
    }
}

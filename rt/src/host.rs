//! What this machine offers: cores, open files, memory, and whether we may keep cores awake.

use rustix::process::{Resource, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::config::Cores;
use crate::doctor::Root;
use crate::waiting;

/// Read once at start, so that a plan follows from it and the configuration alone.
#[derive(Clone, Debug)]
pub struct Host {
    /// Cores that exist and that this process may use, ascending.
    pub cores: Vec<usize>,
    /// Those of them that the scheduler gives to nobody else ([`isolated_cores`]).
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
        let root = Root::real();
        let cores = usable_cores(&root);
        Self {
            isolated: isolated_cores(&root).into_iter().filter(|c| cores.contains(c)).collect(),
            cores,
            quota: quota_cores(&root).is_some(),
            files_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            memory_bytes: available_bytes(&root.read("/proc/meminfo").unwrap_or_default()),
            may_forbid_halt: waiting::may_forbid_halt(),
            seed: random_seed(),
        }
    }
}

/// A list such as `2-7`; empty where the file is missing or says so in another way: `(null)`.
pub fn cores_in(root: &Root, path: &str) -> Vec<usize> {
    let list = root.read(path).and_then(|list| list.parse().ok());
    list.map(|Cores(cores)| cores).unwrap_or_default()
}

/// Cores that no task is moved to by itself: those that `isolcpus=` names, and those of isolated
/// partitions of control groups, which need no restart.
pub fn isolated_cores(root: &Root) -> Vec<usize> {
    let mut cores = cores_in(root, "/sys/devices/system/cpu/isolated");
    cores.extend(cores_in(root, "/sys/fs/cgroup/cpuset.cpus.isolated"));
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// An affinity mask may be narrower than the machine: `taskset`, containers, unit files.
fn usable_cores(root: &Root) -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(mask) => (0..CpuSet::MAX_CPU).filter(|core| mask.is_set(*core)).collect(),
        Err(_) => cores_in(root, "/sys/devices/system/cpu/online"),
    }
}

/// How many cores' time this process may use, if a control group that it is in sets a quota: the
/// smallest of all quotas on the way from its own group to the root. Version 2 and 1.
pub fn quota_cores(root: &Root) -> Option<f64> {
    let groups = root.read("/proc/self/cgroup").unwrap_or_default();
    let quotas = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next(), parts.next(), parts.next());
        let (controllers, group) = (controllers.unwrap_or_default(), group.unwrap_or_default());
        let mounts: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            names if names.split(',').any(|name| name == "cpu") => {
                &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"]
            }
            _ => &[],
        };
        let here = mounts.iter().flat_map(|mount| ancestors(group).map(move |at| (mount, at)));
        here.filter_map(|(mount, group)| quota_of(root, &format!("{mount}{group}")))
            .collect::<Vec<_>>()
    });
    quotas.reduce(f64::min)
}

/// `/a/b`, `/a` and the root, which is empty.
fn ancestors(group: &str) -> impl Iterator<Item = &str> {
    let own = group.trim_end_matches('/');
    std::iter::successors(Some(own), |at| at.rfind('/').map(|slash| &at[..slash]))
}

/// The quota of one group alone.
fn quota_of(root: &Root, group: &str) -> Option<f64> {
    if let Some(max) = root.read(&format!("{group}/cpu.max")) {
        // `max 100000` sets no quota, `50000 100000` allows half a core.
        let (quota, period) = max.split_once(' ')?;
        return share(quota.parse().ok()?, period.parse().ok()?);
    }
    let quota = root.number(&format!("{group}/cpu.cfs_quota_us"))?;
    share(quota as f64, root.number(&format!("{group}/cpu.cfs_period_us"))? as f64)
}

/// Without a quota, version 1 says -1.
fn share(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
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
    use crate::doctor::tree::Tree;

    type Files = &'static [(&'static str, &'static str)];

    #[test]
    fn the_smallest_quota_on_the_way_to_the_root_counts() {
        let cases: [(Files, Option<f64>); 7] = [
            (&[], None),
            (&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "max 100000\n")], None),
            (
                &[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "50000 100000\n")],
                Some(0.5),
            ),
            (
                &[
                    ("proc/self/cgroup", "0::/system.slice/clasp.service\n"),
                    ("sys/fs/cgroup/system.slice/clasp.service/cpu.max", "max 100000"),
                    ("sys/fs/cgroup/system.slice/cpu.max", "300000 100000"),
                ],
                Some(3.0),
            ),
            (
                &[
                    ("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/docker/1\n0::/\n"),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "150000"),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000"),
                ],
                Some(1.5),
            ),
            (
                &[
                    ("proc/self/cgroup", "1:cpu:/\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
                ],
                None,
            ),
            (&[("proc/self/cgroup", "0::/../../up\nnonsense\n::")], None),
        ];
        for (files, quota) in cases {
            let tree = Tree::of(files);
            assert_eq!(quota_cores(&tree.root()), quota, "{files:?}");
        }
    }

    #[test]
    fn cores_are_isolated_at_boot_or_by_a_partition() {
        let tree = Tree::of(&[
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            ("sys/fs/cgroup/cpuset.cpus.isolated", "3,5\n"),
            ("sys/devices/system/cpu/nohz_full", "  (null)\n"),
        ]);
        assert_eq!(isolated_cores(&tree.root()), [2, 3, 5]);
        assert_eq!(cores_in(&tree.root(), "/sys/devices/system/cpu/nohz_full"), [0; 0]);
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

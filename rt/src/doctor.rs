//! What this machine grants to a router, what it lacks, what that costs, and how to change it.
//!
//! Each check reads files below a [`Root`] and gives one [`Finding`]. What is said of the kernel's
//! files follows its documentation: `admin-guide/sysctl`, `admin-guide/cgroup-v2`,
//! `admin-guide/kernel-parameters`, `networking/ip-sysctl`, `networking/napi`,
//! `power/pm_qos_interface`. Times are named where they were measured, on a 2-core virtual machine.

mod cores;
mod interrupts;
mod kernel;
mod memory;
mod network;
pub mod probe;
pub mod report;
mod root;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod tree;

pub use interrupts::{Interval, Snapshot};
pub use kernel::{Asked, usable};
pub use root::Root;

use crate::config::Cores;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// It could be better here, and there is a command for it.
    Warn,
    /// This machine, kernel or container does not have it.
    Lacks,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Lacks => "LACKS",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub topic: &'static str,
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What it means for a message on its way. Empty when all is well.
    pub costs: String,
    /// A command, or what to change. Empty when all is well.
    pub fix: String,
}

impl Finding {
    fn ok(topic: &'static str, found: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Ok,
            found: found.into(),
            costs: String::new(),
            fix: String::new(),
        }
    }

    fn warn(
        topic: &'static str,
        found: impl Into<String>,
        costs: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (found, costs, fix) = (found.into(), costs.into(), fix.into());
        Self { topic, verdict: Verdict::Warn, found, costs, fix }
    }

    fn lacks(
        topic: &'static str,
        found: impl Into<String>,
        costs: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Lacks, ..Self::warn(topic, found, costs, fix) }
    }
}

/// The machine that is looked at.
#[derive(Clone, Debug)]
pub struct Machine {
    pub root: Root,
    /// Cores that run shards, ascending.
    pub cores: Vec<usize>,
}

/// What can make a message late.
const TAIL: &[fn(&Machine) -> Finding] = &[
    cores::isolation,
    cores::tick,
    cores::callbacks,
    cores::governor,
    cores::idle_states,
    cores::latency_device,
    cores::siblings,
    cores::quota,
    cores::clock_source,
    cores::realtime,
    memory::huge_pages,
    memory::swap,
    memory::numa_balancing,
];

/// What bounds how much can be done, or must be there at all.
const LIMITS: &[fn(&Machine) -> Finding] = &[
    kernel::version,
    kernel::io_uring,
    memory::locked,
    memory::open_files,
    network::receive_queue,
    network::memberships,
    network::backlog,
    network::cards,
];

impl Machine {
    /// Everything that files tell.
    pub fn examine(&self) -> Vec<Finding> {
        LIMITS.iter().chain(TAIL).map(|check| check(self)).collect()
    }

    /// One line for the start of a router, if anything costs it latency that need not.
    pub fn summary(&self) -> Option<String> {
        let warns = TAIL.iter().map(|check| check(self)).filter(|f| f.verdict == Verdict::Warn);
        match warns.count() {
            0 => None,
            1 => Some("1 thing costs you tail latency; run clasp-rt doctor".to_owned()),
            count => Some(format!("{count} things cost you tail latency; run clasp-rt doctor")),
        }
    }

    /// Those of the chosen cores that are not among `others`.
    fn cores_not_in(&self, others: &[usize]) -> Vec<usize> {
        self.cores.iter().copied().filter(|core| !others.contains(core)).collect()
    }

    /// Cores that are left for everything else.
    fn other_cores(&self) -> Vec<usize> {
        let online = crate::host::cores_in(&self.root, "/sys/devices/system/cpu/online");
        online.into_iter().filter(|core| !self.cores.contains(core)).collect()
    }

    /// Whether this process has a capability, by its number in `capabilities(7)`.
    fn has_capability(&self, number: u32) -> bool {
        let status = self.root.read("/proc/self/status").unwrap_or_default();
        let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let held = held.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        held.is_some_and(|bits| bits >> number & 1 == 1)
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

/// `core 2`, `cores 2-7`.
fn named(cores: &[usize]) -> String {
    let word = if cores.len() == 1 { "core" } else { "cores" };
    format!("{word} {}", list(cores))
}

/// `2-7`
fn list(cores: &[usize]) -> String {
    Cores(cores.to_vec()).to_string()
}

/// `is` for one, `are` for more.
fn are(cores: &[usize]) -> &'static str {
    if cores.len() == 1 { "is" } else { "are" }
}

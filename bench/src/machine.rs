//! Where a number was measured, and on which core each thread of it ran.

use std::fs;
use std::io;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What a result is worth nothing without.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// `none` where the kernel scales no frequency, as in most virtual machines.
    pub governor: String,
    pub hypervisor: bool,
    pub load: String,
    /// Of the checkout in the working directory; `-dirty` when it holds more than was committed.
    pub commit: String,
}

impl Machine {
    pub fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: governor(),
            hypervisor: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// A short name for a folder of results: `amd-epyc-2c`.
    pub fn slug(&self) -> String {
        let name: Vec<String> = self
            .cpu
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(3)
            .map(str::to_ascii_lowercase)
            .collect();
        format!("{}-{}c", name.join("-"), self.cores)
    }
}

/// The cores this process may run on, ascending.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Keeps the calling thread on `core`; an error names the cores there are.
///
/// The kernel decides, not this thread's own set: that holds one core only once it was pinned
/// itself.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    let found = core < CpuSet::MAX_CPU && {
        set.set(core);
        sched_setaffinity(None, &set).is_ok()
    };
    if found {
        return Ok(());
    }
    let online = read("/sys/devices/system/cpu/online");
    let message =
        format!("core {core} cannot be used; this machine has the cores {}", online.trim());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Runs `work` on a thread of its own that stays on `core`.
///
/// The calling thread goes where it likes, and so do the programs that it starts: they inherit its
/// cores.
pub fn on_core<T: Send>(core: usize, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            pin(core)?;
            work()
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Which core the router or the relay has, and which one the load generator: never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub router: usize,
    pub client: usize,
}

impl Places {
    /// The two last cores, because interrupts and other work tend to gather on the first ones.
    /// With one core both share it, and the numbers measure the scheduler.
    pub fn choose(router: Option<usize>, client: Option<usize>) -> io::Result<Self> {
        let allowed = allowed_cores()?;
        let last = *allowed.last().ok_or(io::ErrorKind::NotFound)?;
        let before = allowed.iter().rev().nth(1).copied().unwrap_or(last);
        Ok(Self { router: router.unwrap_or(before), client: client.unwrap_or(last) })
    }
}

fn governor() -> String {
    let text = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if text.trim().is_empty() { "none".to_owned() } else { text.trim().to_owned() }
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if dirty.is_empty() { hash } else { format!("{hash}-dirty") })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_cpuinfo_is_found_by_its_whole_name() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel\t\t: 17\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "model"), Some("17"));
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn work_on_a_core_leaves_the_caller_where_it_was() {
        let before = allowed_cores().unwrap();
        let last = before[before.len() - 1];
        assert_eq!(on_core(last, allowed_cores).unwrap(), [last]);
        assert_eq!(allowed_cores().unwrap(), before);
    }

    #[test]
    fn a_thread_stays_on_the_core_it_was_pinned_to_and_a_missing_core_is_named() {
        std::thread::spawn(|| {
            let allowed = allowed_cores().unwrap();
            let core = allowed[allowed.len() - 1];
            pin(core).unwrap();
            assert_eq!(allowed_cores().unwrap(), [core]);
            // A pinned thread can still be moved, and a core that is not there is named.
            pin(allowed[0]).unwrap();
            assert_eq!(allowed_cores().unwrap(), [allowed[0]]);
            let error = pin(CpuSet::MAX_CPU - 1).unwrap_err().to_string();
            assert!(error.contains("this machine has the cores 0"), "{error}");
        })
        .join()
        .unwrap();
    }
}

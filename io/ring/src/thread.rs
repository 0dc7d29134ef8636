//! What a thread of ours asks of the scheduler and the memory manager before it starts to work.

use std::io;
use std::num::NonZeroU64;

use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How late the kernel may let a sleeping thread wake up, in nanoseconds. The default of 50 µs,
/// which saves wake-ups on desktops, would be added to every deadline.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).unwrap();

/// Bytes of stack that are touched at start, so that no first call deep down faults.
const STACK_BYTES: usize = 256 << 10;

/// Files that stay free for everything that is not a socket of a ring.
const FILES_SPARE: u64 = 256;

/// The cores this process may run on.
pub fn cores() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// Keeps the calling thread on `core`. Before it makes a ring, so that memory is near.
pub fn pin(core: usize) -> io::Result<()> {
    let cores = cores();
    if !cores.contains(&core) {
        let there = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let why = format!("core {core} is not there; this process may use {there}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel refused to keep a thread on core {core}")))
}

/// Wakes the calling thread when its deadlines are due, not when it suits the kernel.
pub fn wake_punctually() -> io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS))?)
}

/// Touches the stack that the calling thread will use.
pub fn prefault_stack() {
    let mut stack = [0_u8; STACK_BYTES];
    std::hint::black_box(&mut stack);
}

/// Keeps all memory that the process uses, and will use, from being paged out.
///
/// Pages are locked as they are touched, which start does for all that it takes: without `ONFAULT`
/// the kernel would also fill what allocators only reserve (mimalloc: 1 GiB).
pub fn lock_memory() -> io::Result<()> {
    let used = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(rustix::mm::mlockall(used)?)
}

/// Lets the calling thread run before every normal one: `SCHED_FIFO` at `priority`, 1..=99.
///
/// Only for a core that nobody else may use. Elsewhere a thread that spins starves normal ones,
/// until the kernel takes the core away for them: measured, 50 ms in every second.
pub fn run_first(priority: u8) -> io::Result<()> {
    if !(1..=99).contains(&priority) {
        let why = format!("priority {priority} is not one of 1 to 99");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let wish = libc::sched_param { sched_priority: i32::from(priority) };
    // Threads that this one starts begin as normal ones.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads one `sched_param`, which lives through the call; 0 is this thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const wish) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the limit of open files as far as this process may, and says how many a ring can have.
pub fn files_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(u64::MAX).saturating_sub(FILES_SPARE)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_refused_with_those_that_are() {
        let error = pin(100_000).unwrap_err().to_string();
        assert!(error.contains("core 100000"), "{error}");
        assert!(error.contains(&cores()[0].to_string()), "{error}");
    }

    /// Field 41 of `proc(5)`'s stat, the policy, and field 40, the priority, of this thread.
    fn scheduled() -> (u32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let field = |number: usize| after_name.split_whitespace().nth(number - 3).unwrap();
        (field(41).parse().unwrap(), field(40).parse().unwrap())
    }

    #[test]
    fn a_thread_runs_first_where_that_is_allowed_and_stays_normal_elsewhere() {
        let left = std::thread::spawn(|| {
            for priority in [0, 100] {
                let error = run_first(priority).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            (run_first(1), scheduled())
        });
        match left.join().unwrap() {
            (Ok(()), scheduled) => assert_eq!(scheduled, (libc::SCHED_FIFO as u32, 1)),
            (Err(why), scheduled) => {
                assert_eq!(why.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(scheduled, (libc::SCHED_OTHER as u32, 0));
            }
        }
    }

    #[test]
    fn a_pinned_thread_may_run_on_its_core_only() {
        let core = *cores().last().unwrap();
        let left = std::thread::spawn(move || {
            pin(core).unwrap();
            wake_punctually().unwrap();
            prefault_stack();
            cores()
        });
        assert_eq!(left.join().unwrap(), [core]);
    }
}

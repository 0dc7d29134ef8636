//! What this kernel grants, found by asking for it: versions lie where things were backported, and
//! files do not tell what a container's filter forbids.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::IoUring;

use crate::enter::{self, Registered};
use crate::napi;
use crate::pool::Pool;
use crate::ring::{Event, Ring, Sizes, Wait};

/// The smallest ring that receives.
const SIZES: Sizes =
    Sizes { accepted_max: 2, fixed_max: 2, stream_buffers: 4, packet_buffers: 1, datagrams_max: 1 };

/// Turns that a byte may take from one end of a socket to the other.
const TURNS: usize = 8;
const PATIENCE: Duration = Duration::from_millis(250);

/// Something a ring is asked for.
#[derive(Debug)]
pub struct Feature {
    /// As the kernel's own documentation has it.
    pub name: &'static str,
    /// The first Linux that has it.
    pub since: &'static str,
    /// Without it no ring of ours can be made.
    pub needed: bool,
    pub granted: io::Result<()>,
}

/// How the kernel's clock is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Something, NTP or PTP, keeps it near the true time.
    pub synchronized: bool,
    /// How far off it may be at most.
    pub error_max: Duration,
}

/// Sets rings up and takes them down again, one for each thing that is asked for. Without any ring
/// at all, the first line is the only one.
pub fn features() -> Vec<Feature> {
    let mut found = vec![feature("io_uring", "5.1", true, plain())];
    if found[0].granted.is_err() {
        return found;
    }
    found.extend([
        feature("SUBMIT_ALL", "5.18", true, with(|b| b.setup_submit_all())),
        feature("SINGLE_ISSUER", "6.0", true, with(|b| b.setup_single_issuer())),
        feature("DEFER_TASKRUN", "6.1", true, deferring().map(drop)),
        feature("registered ring", "5.18", true, registered()),
        feature("sparse files", "5.19", true, sparse_files()),
        feature("file ranges", "6.0", true, file_range()),
        feature("buffer rings", "5.19", true, buffer_ring()),
    ]);
    let missing = found.iter().any(|feature| feature.granted.is_err());
    if !missing {
        found.push(feature("multishot receive", "6.0", true, receives()));
        found.push(feature(NAPI, "6.9", false, polls()));
    }
    found
}

/// The name of the feature behind [`napi::poll_while_waiting`].
pub const NAPI: &str = "NAPI busy poll";

/// What the kernel knows about its own clock.
pub fn clock_state() -> io::Result<ClockState> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: zero is a value of each field, and zero modes ask for a reading that changes
    // nothing; the kernel writes the whole structure, which lives through the call.
    let (result, state) = unsafe {
        let result = libc::adjtimex(state.as_mut_ptr());
        (result, state.assume_init())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState {
        synchronized: state.status & libc::STA_UNSYNC == 0,
        error_max: Duration::from_micros(u64::try_from(state.maxerror).unwrap_or(0)),
    })
}

fn feature(
    name: &'static str,
    since: &'static str,
    needed: bool,
    granted: io::Result<()>,
) -> Feature {
    Feature { name, since, needed, granted }
}

fn plain() -> io::Result<()> {
    IoUring::new(4).map(drop)
}

fn with(ask: impl FnOnce(&mut io_uring::Builder) -> &mut io_uring::Builder) -> io::Result<()> {
    let mut builder = IoUring::builder();
    ask(&mut builder).build(4).map(drop)
}

/// A ring as ours are.
fn deferring() -> io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(4)
}

fn registered() -> io::Result<()> {
    let ring = deferring()?;
    Registered::new(&ring)?.remove(&ring)
}

fn sparse_files() -> io::Result<()> {
    deferring()?.submitter().register_files_sparse(4)
}

fn file_range() -> io::Result<()> {
    let ring = deferring()?;
    ring.submitter().register_files_sparse(4)?;
    enter::accept_into(&ring, 1, 2)
}

fn buffer_ring() -> io::Result<()> {
    let pool = Pool::new(0, 4, 64);
    let ring = deferring()?;
    // SAFETY: declared before the ring, the pool is dropped after it.
    unsafe { pool.register(&ring.submitter()) }
}

/// Bytes come twice by one request, through a ring as a shard has it.
fn receives() -> io::Result<()> {
    let mut ring = Ring::new(&SIZES)?;
    let (mut far, near) = UnixStream::pair()?;
    ring.adopt(OwnedFd::from(near))?;
    for byte in [b'a', b'b'] {
        far.write_all(&[byte])?;
        receive(&mut ring, byte)?;
    }
    Ok(())
}

fn receive(ring: &mut Ring, byte: u8) -> io::Result<()> {
    for _ in 0..TURNS {
        ring.enter(Wait::For(Some(PATIENCE)))?;
        while let Some(event) = ring.next_event() {
            match event {
                Event::Received { lease, .. } => {
                    let as_sent = ring.bytes(&lease) == [byte];
                    ring.give_back(lease);
                    if as_sent {
                        return Ok(());
                    }
                    return Err(io::Error::other("other bytes came than were sent"));
                }
                Event::Ended { how, .. } => {
                    how?;
                    return Err(io::Error::other("the receive ended"));
                }
                _ => {}
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "what was sent did not come"))
}

/// Whether a ring may poll network cards.
pub fn polls() -> io::Result<()> {
    napi::poll_while_waiting(&Ring::new(&SIZES)?, Duration::from_micros(1))
}

/// What stands between us and a ring; `disabled`: by `kernel.io_uring_disabled`.
pub(crate) fn no_ring(errno: Option<i32>, disabled: bool) -> Option<&'static str> {
    Some(match errno? {
        libc::EINVAL => "io_uring as of Linux 6.1 is needed",
        libc::ENOSYS => {
            "there is no io_uring: the kernel is built without it, or a filter (seccomp) hides it"
        }
        libc::EPERM if disabled => "io_uring is forbidden here (kernel.io_uring_disabled)",
        libc::EPERM => "io_uring is forbidden here by a filter (seccomp), as containers have one",
        _ => return None,
    })
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_runs_these_tests_grants_all_that_is_needed() {
        let features = features();
        assert!(features.iter().any(|feature| feature.name == NAPI && !feature.needed));
        for feature in features.iter().filter(|feature| feature.needed) {
            assert!(feature.granted.is_ok(), "{feature:?}");
        }
    }

    #[test]
    fn asking_again_and_again_uses_nothing_up() {
        // A thread has 16 places for registered rings: what is not given back shows here.
        for _ in 0..20 {
            assert!(features().iter().all(|f| !f.needed || f.granted.is_ok()));
        }
    }

    #[test]
    fn a_clock_in_step_is_less_than_sixteen_seconds_off() {
        // Beyond `NTP_PHASE_LIMIT` the kernel itself says that it is out of step.
        let state = clock_state().unwrap();
        assert!(!state.synchronized || state.error_max <= Duration::from_secs(16), "{state:?}");
        assert!(state.error_max > Duration::ZERO, "{state:?}");
    }

    #[test]
    fn a_ring_that_cannot_be_had_says_who_forbids_it() {
        let cases = [
            (libc::ENOSYS, false, "built without it"),
            (libc::EPERM, true, "kernel.io_uring_disabled"),
            (libc::EPERM, false, "seccomp"),
            (libc::EINVAL, false, "Linux 6.1"),
        ];
        for (errno, disabled, fact) in cases {
            let why = no_ring(Some(errno), disabled);
            assert!(why.is_some_and(|why| why.contains(fact)), "{errno}: {why:?}");
        }
    }
}

//! The clock of all threads that carry messages: nothing else of theirs reads one, and the machines
//! behind it are told what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clasp_rt_core::time::{Span, Time};
use rustix::io::Errno;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Monotonic time since the router started, the same for all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// What the wall clock showed at `then`, which is over: microseconds since the Unix epoch.
    ///
    /// Never more than that: a thread that is kept waiting between two clocks tells less.
    pub fn unix_us_at(&self, then: Time) -> u64 {
        unix_us().saturating_sub(self.now().since(then).as_micros())
    }
}

/// Microseconds since the Unix epoch; 0 when the wall clock stands before it.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Nanoseconds of the kernel's monotonic clock, as [`sleep_until`] takes them.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    // The monotonic clock starts at zero and never goes back.
    seconds.unwrap_or(0).saturating_mul(NS_PER_SECOND).saturating_add(rest.unwrap_or(0))
}

/// Sleeps until [`monotonic_ns`] is `due_ns` or later; not at all if it is already.
pub fn sleep_until(due_ns: u64) {
    let due = Timespec {
        tv_sec: i64::try_from(due_ns / NS_PER_SECOND).unwrap_or(i64::MAX),
        tv_nsec: (due_ns % NS_PER_SECOND) as _,
    };
    // A signal ends a sleep early.
    while clock_nanosleep_absolute(ClockId::Monotonic, &due) == Err(Errno::INTR) {}
}

/// A span as the standard library has it.
pub fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_clock_agree_and_never_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let times = [clock.now(), copy.now(), clock.now(), copy.now()];
        assert!(times.is_sorted());
    }

    #[test]
    fn the_wall_clock_is_told_as_of_an_instant_and_never_ahead_of_it() {
        let clock = Clock::start();
        let (then, after_us) = (clock.now(), unix_us());
        sleep_until(monotonic_ns() + 2_000_000);
        // The wall clock may be set right by a little meanwhile.
        assert!(clock.unix_us_at(then) <= after_us + 500);
    }

    #[test]
    fn a_sleep_ends_when_it_is_due_and_not_before() {
        let due = monotonic_ns() + 100_000;
        sleep_until(due);
        assert!(monotonic_ns() >= due);
        sleep_until(0);
    }
}

//! The only place that reads a clock: the machines behind it are told what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clasp_rt_core::time::{Span, Time};

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
}

/// Microseconds since the Unix epoch; 0 when the wall clock stands before it.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
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
}

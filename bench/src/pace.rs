//! When each message should leave: decided before the run, whatever the router does meanwhile.
//!
//! Open loop: a late answer never delays the next message, and latency counts from the instant
//! written here. A router that stalls therefore shows the stall in every message it made wait.

use std::time::{Duration, Instant};

/// Offsets from the start of a run at which messages should leave, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    offsets_ns: Vec<u64>,
}

impl Schedule {
    /// `rate_hz` messages a second for `length`, each gap 0.5 to 1.5 times the mean.
    ///
    /// Even gaps could fall into step with a timer of the router or the kernel; the seed makes the
    /// uneven ones the same in every run.
    pub fn jittered(rate_hz: f64, length: Duration, seed: u64) -> Self {
        assert!(rate_hz > 0.0, "a rate is above zero");
        let gap_ns = 1e9 / rate_hz;
        let end_ns = length.as_nanos() as f64;
        let mut random = Random::new(seed);
        let mut at_ns = 0.0;
        let mut offsets_ns = Vec::with_capacity((end_ns / gap_ns) as usize + 1);
        while at_ns < end_ns {
            offsets_ns.push(at_ns as u64);
            at_ns += gap_ns * (0.5 + random.unit());
        }
        Self { offsets_ns }
    }

    /// The instants of a capture, `speed` times as fast; an infinite speed sends all at once.
    pub fn recorded(offsets: impl IntoIterator<Item = Duration>, speed: f64) -> Self {
        assert!(speed > 0.0, "a speed is above zero");
        let offsets_ns =
            offsets.into_iter().map(|offset| (offset.as_nanos() as f64 / speed) as u64).collect();
        Self { offsets_ns }
    }

    pub fn len(&self) -> usize {
        self.offsets_ns.len()
    }

    /// How long after the start message `index` should leave, if there is one.
    pub fn offset_ns(&self, index: usize) -> Option<u64> {
        self.offsets_ns.get(index).copied()
    }

    /// When message `number` of a run that began at `start` should leave, if there is one.
    pub fn due(&self, start: Instant, number: u64) -> Option<Instant> {
        let offset_ns = self.offset_ns(usize::try_from(number).ok()?)?;
        Some(start + Duration::from_nanos(offset_ns))
    }
}

/// A small seeded generator (splitmix64): the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0.0 up to, not including, 1.0.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_rate_and_its_bounds_and_is_the_same_for_a_seed() {
        for rate_hz in [10.0, 1_000.0, 50_000.0] {
            let schedule = Schedule::jittered(rate_hz, Duration::from_secs(2), 7);
            let wanted = rate_hz * 2.0;
            assert!((schedule.len() as f64 / wanted - 1.0).abs() < 0.15, "{}", schedule.len());
            let gap_ns = 1e9 / rate_hz;
            for pair in schedule.offsets_ns.windows(2) {
                let gap = (pair[1] - pair[0]) as f64 / gap_ns;
                assert!((0.49..=1.51).contains(&gap), "{gap} at {rate_hz} Hz");
            }
            assert_eq!(schedule, Schedule::jittered(rate_hz, Duration::from_secs(2), 7));
            assert_ne!(schedule, Schedule::jittered(rate_hz, Duration::from_secs(2), 8));
        }
    }

    #[test]
    fn a_capture_played_faster_keeps_its_rhythm() {
        let offsets = [0, 20, 50].map(Duration::from_millis);
        let cases = [
            (1.0, [0, 20_000_000, 50_000_000]),
            (10.0, [0, 2_000_000, 5_000_000]),
            (f64::INFINITY, [0, 0, 0]),
        ];
        for (speed, expected) in cases {
            assert_eq!(Schedule::recorded(offsets, speed).offsets_ns, expected, "{speed}");
        }
    }
}

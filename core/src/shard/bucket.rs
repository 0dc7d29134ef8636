//! How many messages a session may send: a bucket that fills steadily and holds one second's worth.

use crate::time::Time;

/// One message, in units of the bucket. A rate of 1/s adds one unit each nanosecond, so whole numbers
/// are exact.
const UNITS_PER_MESSAGE: u64 = 1_000_000_000;

const _: () = assert!((u32::MAX as u64).checked_mul(UNITS_PER_MESSAGE).is_some());

#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate_per_s: u32,
    /// At most `rate_per_s` messages' worth.
    units: u64,
    filled: Time,
}

impl Bucket {
    /// Full, so that a burst of one second's worth passes at once.
    pub fn new(rate_per_s: u32, now: Time) -> Self {
        Self { rate_per_s, units: u64::from(rate_per_s) * UNITS_PER_MESSAGE, filled: now }
    }

    /// Takes `messages` out if so many are in; all of them or none.
    pub fn take(&mut self, now: Time, messages: u32) -> bool {
        let rate = u64::from(self.rate_per_s);
        let added = now.since(self.filled).0.saturating_mul(rate);
        self.units = self.units.saturating_add(added).min(rate * UNITS_PER_MESSAGE);
        self.filled = self.filled.max(now);
        let wanted = u64::from(messages) * UNITS_PER_MESSAGE;
        let enough = wanted <= self.units;
        if enough {
            self.units -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(1_000, Time(5));
        let now = Time(5);
        assert_eq!((0..1_300).filter(|_| bucket.take(now, 1)).count(), 1_000);
        // One message each millisecond, and not a nanosecond earlier.
        for (at_ns, taken) in
            [(1_000_004, false), (1_000_005, true), (1_000_005, false), (3_000_005, true)]
        {
            assert_eq!(bucket.take(Time(at_ns), 1), taken, "at {at_ns}");
        }
        assert!(bucket.take(Time(3_000_005), 1));
        assert!(!bucket.take(Time(3_000_005), 1));
    }

    #[test]
    fn taking_often_loses_nothing_to_rounding() {
        let mut bucket = Bucket::new(3, Time(0));
        assert!(bucket.take(Time(0), 3));
        let taken =
            (1..=10_000_000_000_u64 / 997).filter(|n| bucket.take(Time(n * 997), 1)).count();
        assert_eq!(taken, 29); // 9.999_999_9 s at 3/s.
    }

    #[test]
    fn several_are_taken_together_or_not_at_all() {
        let cases = [(10, true), (11, false), (0, true)];
        for (messages, taken) in cases {
            assert_eq!(Bucket::new(10, Time(0)).take(Time(0), messages), taken, "{messages}");
        }
        let mut bucket = Bucket::new(10, Time(0));
        assert!(!bucket.take(Time(0), 11));
        assert!(bucket.take(Time(0), 10));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut bucket = Bucket::new(u32::MAX, Time(0));
        assert!(bucket.take(Time(u64::MAX), u32::MAX));
        assert!(!bucket.take(Time(u64::MAX), 1));
        let mut never = Bucket::new(0, Time(0));
        assert!(!never.take(Time(u64::MAX), 1));
    }
}

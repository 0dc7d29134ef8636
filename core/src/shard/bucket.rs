//! How many messages a session may send: a bucket that fills steadily and holds one second's worth.

use crate::time::Time;

/// One message, in units of the bucket. A rate of 1/s adds one unit each nanosecond, so whole
/// numbers are exact.
const UNITS_PER_MESSAGE: i64 = 1_000_000_000;

const _: () = assert!((u32::MAX as i64).checked_mul(2 * UNITS_PER_MESSAGE).is_some());

#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate_per_s: u32,
    /// At most `rate_per_s` messages' worth; below zero after a bundle of more than that.
    units: i64,
    filled: Time,
}

impl Bucket {
    /// Full, so that a burst of one second's worth passes at once.
    pub fn new(rate_per_s: u32, now: Time) -> Self {
        Self { rate_per_s, units: units(rate_per_s), filled: now }
    }

    /// Takes `messages` out if so many are in; all of them or none.
    ///
    /// A bundle of more messages than the bucket holds would never pass. It does when the bucket is
    /// full, and nothing else passes until the difference has filled up again.
    pub fn take(&mut self, now: Time, messages: u32) -> bool {
        let full = units(self.rate_per_s);
        let added = i128::from(now.since(self.filled).0) * i128::from(self.rate_per_s);
        self.units = i128::from(full).min(i128::from(self.units) + added) as i64;
        self.filled = self.filled.max(now);
        let wanted = units(messages);
        let passes = wanted <= self.units || (self.units == full && full > 0);
        if passes {
            self.units -= wanted;
        }
        passes
    }
}

/// What so many messages are worth.
const fn units(messages: u32) -> i64 {
    messages as i64 * UNITS_PER_MESSAGE
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
        let mut bucket = Bucket::new(10, Time(0));
        for (messages, taken) in
            [(0, true), (7, true), (4, false), (3, true), (0, true), (1, false)]
        {
            assert_eq!(bucket.take(Time(0), messages), taken, "{messages}");
        }
    }

    #[test]
    fn more_than_the_bucket_holds_passes_when_it_is_full_and_is_paid_off() {
        let second = 1_000_000_000;
        let mut bucket = Bucket::new(10, Time(0));
        assert!(bucket.take(Time(0), 1));
        for (at_ns, messages, taken) in [
            (0, 25, false), // One is missing.
            (second / 10, 25, true),
            (second * 3 / 2, 1, false), // 15 below zero, 14 paid.
            (second * 17 / 10, 1, true),
            (second * 17 / 10, 1, false),
        ] {
            assert_eq!(bucket.take(Time(at_ns), messages), taken, "{messages} at {at_ns}");
        }
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

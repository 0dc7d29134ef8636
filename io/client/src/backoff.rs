//! How long to wait before the next attempt. Pure.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is a random part, at least half, of that, so that a
/// thousand clients of a restarted router do not come back in the same millisecond.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
    random: u64,
}

impl Backoff {
    /// `seed` differs between programs, as those of [`crate::random`] do.
    pub fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, attempt: 0, random: seed | 1 }
    }

    /// What was waited for has come: the next wait is the first again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    pub fn next_wait(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        self.attempt = self.attempt.saturating_add(1);
        let full = self.first.saturating_mul(factor).min(self.most);
        // Xorshift: never 0, as it does not begin there.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = full / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_differ_between_clients() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(10));
        let waits = |seed| {
            let mut backoff = Backoff::new(first, most, seed);
            (0..40).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        for (attempt, wait) in waits(7).into_iter().enumerate() {
            let full = first.saturating_mul(1 << attempt.min(20)).min(most);
            assert!(full / 2 <= wait && wait <= full, "attempt {attempt}: {wait:?}");
        }
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn after_success_it_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 1);
        for _ in 0..9 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}

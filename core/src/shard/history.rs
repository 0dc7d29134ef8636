//! The newest stream samples of a home, for subscriptions that ask for `history` or `window`.

use alloc::vec::Vec;

use super::samples::{Sample, Samples};
use crate::time::{Span, Time};

/// Addresses whose samples are counted exactly when `history` is asked for.
const COUNTED_MAX: usize = 256;
/// Bytes that one question is answered with at most: the newest samples, each with what it costs on
/// its way to another shard.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const SAMPLE_OVERHEAD_BYTES: usize = 64;

/// The default one keeps nothing.
#[derive(Default)]
pub(crate) struct History {
    samples: Samples,
    counted: Vec<(u64, u32)>,
}

impl History {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { samples: Samples::new(bytes_max), counted: Vec::with_capacity(COUNTED_MAX) }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.samples.memory_bytes() + (COUNTED_MAX * size_of::<(u64, u32)>()) as u64
    }

    pub(crate) fn push(&mut self, at: Time, key: u64, frame: &[u8]) {
        self.samples.push(at, key, frame);
    }

    /// Hands the samples that `wanted` accepts to `f`, oldest first: the newest `count_max` of each
    /// address (0: all), none older than `window` (zero: any age).
    pub(crate) fn recall(
        &mut self,
        now: Time,
        count_max: u32,
        window: Span,
        mut wanted: impl FnMut(&Sample<'_>) -> bool,
        mut f: impl FnMut(&Sample<'_>),
    ) {
        let fresh = |sample: &Sample<'_>| window == Span::ZERO || now.since(sample.at) <= window;
        let mut counted = core::mem::take(&mut self.counted);
        counted.clear();
        let mut bytes = 0;
        self.samples.each(|sample| {
            if fresh(sample) && wanted(sample) {
                bytes += sample.frame.len() + SAMPLE_OVERHEAD_BYTES;
                count(&mut counted, sample.key);
            }
        });
        self.samples.each(|sample| {
            if !fresh(sample) || !wanted(sample) {
                return;
            }
            let left = left(&mut counted, sample.key);
            let fits = bytes <= ANSWER_BYTES_MAX;
            bytes -= sample.frame.len() + SAMPLE_OVERHEAD_BYTES;
            if fits && (count_max == 0 || left <= count_max) {
                f(sample);
            }
        });
        self.counted = counted;
    }
}

fn count(counted: &mut Vec<(u64, u32)>, key: u64) {
    if let Some((_, n)) = counted.iter_mut().find(|(k, _)| *k == key) {
        *n += 1;
    } else if counted.len() < COUNTED_MAX {
        counted.push((key, 1));
    }
}

/// How many samples of `key` are left, this one included; 1 where it was not counted.
fn left(counted: &mut [(u64, u32)], key: u64) -> u32 {
    match counted.iter_mut().find(|(k, _)| *k == key) {
        Some((_, n)) => {
            let left = *n;
            *n -= 1;
            left
        }
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recall(h: &mut History, now: u64, count_max: u32, window: u64) -> Vec<(u64, Vec<u8>)> {
        let mut got = Vec::new();
        let f = |s: &Sample<'_>| got.push((s.key, s.frame.to_vec()));
        h.recall(Time(now), count_max, Span(window), |_| true, f);
        got
    }

    #[test]
    fn the_newest_of_each_address_come_oldest_first() {
        let mut h = History::new(1 << 12);
        for i in 0..6_u8 {
            h.push(Time(u64::from(i)), u64::from(i % 2), &[i]);
        }
        let frames =
            |got: Vec<(u64, Vec<u8>)>| got.into_iter().map(|(_, f)| f[0]).collect::<Vec<_>>();
        assert_eq!(frames(recall(&mut h, 6, 2, 0)), [2, 3, 4, 5]);
        assert_eq!(frames(recall(&mut h, 6, 0, 3)), [3, 4, 5]);
        assert_eq!(frames(recall(&mut h, 6, 1, 3)), [4, 5]);
    }

    #[test]
    fn the_ring_keeps_a_suffix_of_what_was_pushed() {
        for size in [64, 100, 257, 1000] {
            let mut h = History::new(size);
            let mut pushed = Vec::new();
            let mut random = 0x9E37_79B9_7F4A_7C15_u64;
            for i in 0..2_000_u64 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let frame = alloc::vec![i as u8; (random >> 40) as usize % 60];
                if crate::shard::samples::HEADER + frame.len() <= size as usize {
                    pushed.push((i, frame.clone()));
                }
                h.push(Time(i), i, &frame);
                let mut kept = Vec::new();
                h.samples.each(|s| kept.push((s.key, s.frame.to_vec())));
                assert!(!kept.is_empty() || pushed.is_empty(), "size {size}, push {i}");
                assert_eq!(kept[..], pushed[pushed.len() - kept.len()..], "size {size}, push {i}");
            }
        }
    }
}

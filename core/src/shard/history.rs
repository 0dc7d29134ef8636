//! The newest stream samples of a home, for subscriptions that ask for `history` or `window`.

use alloc::vec::Vec;

use crate::time::{Span, Time};

/// Record header: length of the frame, hash of the address, time.
const HEADER: usize = 4 + 8 + 8;
/// Addresses whose samples are counted exactly when `history` is asked for.
const COUNTED_MAX: usize = 256;
/// Bytes that one question is answered with at most: the newest samples, each with what it costs on
/// its way to another shard.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const SAMPLE_OVERHEAD_BYTES: usize = 64;

/// One remembered frame.
pub(crate) struct Sample<'a> {
    pub key: u64,
    pub at: Time,
    pub frame: &'a [u8],
}

/// A ring of bytes; the oldest records make room for new ones. The default one keeps nothing.
#[derive(Default)]
pub(crate) struct History {
    bytes: Vec<u8>,
    /// Where the oldest record begins.
    head: usize,
    /// Where the next record goes.
    tail: usize,
    /// Where the records before the wrap end; equal to the length when nothing has wrapped.
    wrap: usize,
    records: u32,
    counted: Vec<(u64, u32)>,
}

impl History {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let bytes = alloc::vec![0; bytes_max as usize];
        let wrap = bytes.len();
        let counted = Vec::with_capacity(COUNTED_MAX);
        Self { bytes, head: 0, tail: 0, wrap, records: 0, counted }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.bytes.len() + COUNTED_MAX * size_of::<(u64, u32)>()) as u64
    }

    pub(crate) fn push(&mut self, at: Time, key: u64, frame: &[u8]) {
        let need = HEADER + frame.len();
        if need > self.bytes.len() {
            return;
        }
        self.make_room(need);
        let record = &mut self.bytes[self.tail..self.tail + need];
        record[..4].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        record[4..12].copy_from_slice(&key.to_le_bytes());
        record[12..20].copy_from_slice(&at.0.to_le_bytes());
        record[20..].copy_from_slice(frame);
        self.tail += need;
        self.records += 1;
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
        self.each(|sample| {
            if fresh(sample) && wanted(sample) {
                bytes += sample.frame.len() + SAMPLE_OVERHEAD_BYTES;
                count(&mut counted, sample.key);
            }
        });
        self.each(|sample| {
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

    fn each(&self, mut f: impl FnMut(&Sample<'_>)) {
        let mut at = self.head;
        for _ in 0..self.records {
            if at >= self.wrap {
                at = 0;
            }
            let sample = self.sample(at);
            f(&sample);
            at += HEADER + sample.frame.len();
        }
    }

    fn sample(&self, at: usize) -> Sample<'_> {
        let word = |from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[from..from + 8]);
            u64::from_le_bytes(word)
        };
        let len = word(at) as u32 as usize;
        let frame = &self.bytes[at + HEADER..at + HEADER + len];
        Sample { key: word(at + 4), at: Time(word(at + 12)), frame }
    }

    fn make_room(&mut self, need: usize) {
        if self.records == 0 {
            (self.head, self.tail, self.wrap) = (0, 0, self.bytes.len());
        }
        if self.tail + need > self.bytes.len() {
            // Records between the tail and the end are the oldest: they go, and the tail wraps.
            while self.records > 0 && self.head >= self.tail {
                self.forget_oldest();
                if self.head < self.tail {
                    break;
                }
            }
            self.wrap = self.tail;
            self.tail = 0;
            if self.records == 0 {
                self.head = 0;
                self.wrap = self.bytes.len();
            }
        }
        while self.records > 0 && self.head >= self.tail && self.head < self.tail + need {
            self.forget_oldest();
        }
        if self.records == 0 {
            (self.head, self.tail, self.wrap) = (0, 0, self.bytes.len());
        }
    }

    fn forget_oldest(&mut self) {
        self.head += HEADER + self.sample(self.head).frame.len();
        self.records -= 1;
        if self.head >= self.wrap {
            self.head = 0;
            self.wrap = self.bytes.len();
        }
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
                if HEADER + frame.len() <= size as usize {
                    pushed.push((i, frame.clone()));
                }
                h.push(Time(i), i, &frame);
                let mut kept = Vec::new();
                h.each(|s| kept.push((s.key, s.frame.to_vec())));
                assert!(!kept.is_empty() || pushed.is_empty(), "size {size}, push {i}");
                assert_eq!(kept[..], pushed[pushed.len() - kept.len()..], "size {size}, push {i}");
            }
        }
    }
}

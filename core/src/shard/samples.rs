//! A ring of samples, each with the hash of its address: the newest of those that were put.

use alloc::vec::Vec;

use crate::time::Time;

/// Header of a sample in the ring: length of its bytes, key, time.
pub(crate) const HEADER: usize = 4 + 8 + 8;

/// One sample.
pub(crate) struct Sample<'a> {
    pub key: u64,
    pub at: Time,
    pub frame: &'a [u8],
}

/// A ring of bytes; the oldest samples make room for new ones. The default one keeps nothing.
#[derive(Default)]
pub(crate) struct Samples {
    bytes: Vec<u8>,
    /// Where the oldest begins.
    head: usize,
    /// Where the next one goes.
    tail: usize,
    /// Where those before the wrap end; equal to the length when nothing has wrapped.
    wrap: usize,
    count: u32,
}

impl Samples {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let bytes = alloc::vec![0; bytes_max as usize];
        let wrap = bytes.len();
        Self { bytes, head: 0, tail: 0, wrap, count: 0 }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a sample; how many older ones made room for it. One that is longer than the ring is not
    /// kept, and counts as such.
    pub(crate) fn push(&mut self, at: Time, key: u64, frame: &[u8]) -> u32 {
        let need = HEADER + frame.len();
        if need > self.bytes.len() {
            return 1;
        }
        let before = self.count;
        self.make_room(need);
        let dropped = before - self.count;
        let record = &mut self.bytes[self.tail..self.tail + need];
        record[..4].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        record[4..12].copy_from_slice(&key.to_le_bytes());
        record[12..20].copy_from_slice(&at.0.to_le_bytes());
        record[20..].copy_from_slice(frame);
        self.tail += need;
        self.count += 1;
        dropped
    }

    /// The one that was put before all others.
    pub(crate) fn oldest(&self) -> Option<Sample<'_>> {
        let at = if self.head >= self.wrap { 0 } else { self.head };
        (self.count > 0).then(|| self.sample(at))
    }

    pub(crate) fn each(&self, mut f: impl FnMut(&Sample<'_>)) {
        let mut at = self.head;
        for _ in 0..self.count {
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
        if self.count == 0 {
            (self.head, self.tail, self.wrap) = (0, 0, self.bytes.len());
        }
        if self.tail + need > self.bytes.len() {
            // Records between the tail and the end are the oldest: they go, and the tail wraps.
            while self.count > 0 && self.head >= self.tail {
                self.forget_oldest();
                if self.head < self.tail {
                    break;
                }
            }
            self.wrap = self.tail;
            self.tail = 0;
            if self.count == 0 {
                self.head = 0;
                self.wrap = self.bytes.len();
            }
        }
        while self.count > 0 && self.head >= self.tail && self.head < self.tail + need {
            self.forget_oldest();
        }
        if self.count == 0 {
            (self.head, self.tail, self.wrap) = (0, 0, self.bytes.len());
        }
    }

    /// There is one.
    pub(crate) fn forget_oldest(&mut self) {
        self.head += HEADER + self.sample(self.head).frame.len();
        self.count -= 1;
        if self.head >= self.wrap {
            self.head = 0;
            self.wrap = self.bytes.len();
        }
    }
}

//! Samples of other shards that wait for the next turn, so that everything else may pass.

use super::input::Lane;
use super::record::Record;
use super::samples::Samples;
use super::{Effects, RECORD_BYTES_MAX, Shard};
use crate::limits::{FRAME_BYTES_MAX, Limits};
use crate::time::Time;

/// Bytes of samples that wait at most; the oldest make room for new ones.
const ASIDE_BYTES: u64 = 256 * 1024;

/// What is set aside, in the order in which it came.
pub(super) struct Aside {
    samples: Samples,
    per_turn_max: u32,
    /// Samples that were stepped as they came, at this instant.
    stepped: u32,
    at: Time,
}

impl Aside {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes = if limits.peers > 0 { ASIDE_BYTES } else { 0 };
        let per_turn_max = limits.samples_per_turn_max;
        Self { samples: Samples::new(bytes), per_turn_max, stepped: 0, at: Time(0) }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.samples.memory_bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Whether one more sample may be stepped as it comes: none waits, and this turn had few.
    fn has_turn(&mut self, now: Time) -> bool {
        if self.at != now {
            (self.at, self.stepped) = (now, 0);
        }
        self.stepped += 1;
        self.is_empty() && self.stepped <= self.per_turn_max
    }
}

impl Shard {
    /// Keeps a sample of another shard for later, if this turn had its share of them. Samples keep
    /// their order; what is critical is never kept.
    pub(super) fn set_aside(&mut self, record: &Record<'_>, bytes: &[u8]) -> bool {
        let Some((address, key)) = record.sample() else { return false };
        if self.aside.has_turn(self.now) || bytes.len() > FRAME_BYTES_MAX {
            return false;
        }
        let key = key.unwrap_or_else(|| self.store.hash(address));
        if self.critical.matches(key, address) {
            return false;
        }
        self.counts.streams_deferred += 1;
        self.counts.streams_dropped += u64::from(self.aside.samples.push(self.now, key, bytes));
        true
    }

    /// Steps a turn's share of what was set aside.
    pub(super) fn step_aside(&mut self, fx: &mut impl Effects) {
        let mut bytes = self.lend();
        for _ in 0..self.aside.per_turn_max {
            if !self.has_room(Lane::Publish, RECORD_BYTES_MAX) {
                break;
            }
            let Some(sample) = self.aside.samples.oldest() else { break };
            bytes.clear();
            bytes.extend_from_slice(sample.frame);
            self.aside.samples.forget_oldest();
            match Record::decode(&bytes) {
                Some(Record::Write { origin, payload }) => self.write(&origin, payload, fx),
                Some(Record::Published { origin, key, tag, frame }) => {
                    self.published(&origin, key, tag.as_ref(), frame, fx);
                }
                other => unreachable!("only samples are set aside: {other:?}"),
            }
        }
        self.give_back(bytes);
    }
}

//! What was said to a broker lately, so that it is known when it comes back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

/// So many sayings are remembered; the oldest are forgotten first.
const SAYINGS_MAX: usize = 8_192;

/// A saying that has not come back by now will not.
const SAYING_LASTS: Duration = Duration::from_secs(10);

/// Topics of which something is known; beyond them the rest is taken as new.
const TOPICS_MAX: usize = 65_536;

/// Sayings that may come back.
#[derive(Debug, Default)]
pub struct Sayings {
    order: VecDeque<(Instant, u64)>,
    /// When each that has not returned was said.
    out: HashMap<u64, VecDeque<Instant>>,
}

fn digest(topic: &str, payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (topic, payload).hash(&mut hasher);
    hasher.finish()
}

impl Sayings {
    pub fn said(&mut self, now: Instant, topic: &str, payload: &[u8]) {
        self.forget(now);
        let digest = digest(topic, payload);
        self.order.push_back((now, digest));
        self.out.entry(digest).or_default().push_back(now);
    }

    /// Whether this is one that comes back; each comes back once.
    pub fn returns(&mut self, now: Instant, topic: &str, payload: &[u8]) -> bool {
        self.forget(now);
        let digest = digest(topic, payload);
        self.out.get_mut(&digest).is_some_and(|said| said.pop_front().is_some())
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.duration_since(*at) > SAYING_LASTS;
        while self.order.front().is_some_and(|(at, _)| is_old(at))
            || self.order.len() >= SAYINGS_MAX
        {
            let Some((at, digest)) = self.order.pop_front() else { return };
            let Some(said) = self.out.get_mut(&digest) else { continue };
            // Unless it returned.
            if said.front() == Some(&at) {
                said.pop_front();
            }
            if said.is_empty() {
                self.out.remove(&digest);
            }
        }
    }
}

/// A set of topics, as far as there is room.
#[derive(Debug, Default)]
pub struct Topics(HashSet<u64>);

impl Topics {
    pub fn note(&mut self, topic: &str) {
        if self.0.len() < TOPICS_MAX {
            self.0.insert(digest(topic, &[]));
        }
    }

    pub fn has(&self, topic: &str) -> bool {
        self.0.contains(&digest(topic, &[]))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_known_once_and_for_a_while() {
        let (start, mut sayings) = (Instant::now(), Sayings::default());
        sayings.said(start, "a", b"1");
        sayings.said(start, "a", b"1");
        let soon = start + Duration::from_secs(1);
        assert!(!sayings.returns(soon, "a", b"2") && !sayings.returns(soon, "b", b"1"));
        assert!(sayings.returns(soon, "a", b"1") && sayings.returns(soon, "a", b"1"));
        assert!(!sayings.returns(soon, "a", b"1"));
        sayings.said(soon, "a", b"1");
        let late = soon + SAYING_LASTS + Duration::from_secs(1);
        assert!(!sayings.returns(late, "a", b"1"), "somebody else said it");
    }

    #[test]
    fn the_oldest_saying_gives_way_to_a_new_one() {
        let (now, mut sayings) = (Instant::now(), Sayings::default());
        for number in 0..=SAYINGS_MAX {
            sayings.said(now, &number.to_string(), b"");
        }
        assert!(!sayings.returns(now, "0", b""));
        assert!(sayings.returns(now, "9", b""));
        assert!(sayings.order.len() <= SAYINGS_MAX && sayings.out.len() <= SAYINGS_MAX);
        let mut topics = Topics::default();
        for number in 0..=TOPICS_MAX {
            topics.note(&number.to_string());
        }
        assert_eq!((topics.has("0"), topics.has(&TOPICS_MAX.to_string())), (true, false));
    }
}

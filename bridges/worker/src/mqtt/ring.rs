//! Bridges of one router that hear each other through a broker: what one says of an address is no
//! news for the same address to another.
//!
//! Two clients of a broker in one router, both for the same addresses, would pass each message on
//! to each other for ever: one publishes what the router says, the other takes it for the broker's
//! and tells the router, which tells the first. A broker's message does not say through which
//! router it went, so what the bridges of this process say is remembered here, for all of them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clasp_rt_client::random;
use tokio::time::Instant;

use super::way::{Ways, was_at};

/// So many sayings are remembered; the oldest are forgotten first.
const SAYINGS_MAX: usize = 8_192;

/// A saying that has not come round by now will not.
const SAYING_LASTS: Duration = Duration::from_secs(10);

/// What the bridges of this process said lately.
static HOUSE: Mutex<Option<Sayings>> = Mutex::new(None);

/// One bridge among those of this process.
#[derive(Debug)]
pub struct Member {
    number: u64,
    ring: Ring,
    /// What this process is called in the ways of messages.
    router: String,
}

#[derive(Clone, Debug)]
enum Ring {
    House,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests have rings of their own"))]
    Own(Arc<Mutex<Option<Sayings>>>),
}

#[derive(Debug, Default)]
struct Sayings {
    router: String,
    ways: Ways,
    members: Vec<u64>,
    next_member: u64,
    order: VecDeque<(Instant, u64)>,
    by_digest: HashMap<u64, VecDeque<Saying>>,
}

#[derive(Debug)]
struct Saying {
    at: Instant,
    by: u64,
    heard_by: Vec<u64>,
}

impl Member {
    pub fn join() -> Self {
        Self::of(Ring::House)
    }

    fn of(ring: Ring) -> Self {
        let (number, router) = with(&ring, |sayings| {
            if sayings.router.is_empty() {
                sayings.router = format!("{:016x}", random());
            }
            sayings.next_member += 1;
            sayings.members.push(sayings.next_member);
            (sayings.next_member, sayings.router.clone())
        });
        Self { number, ring, router }
    }

    /// This bridge tells its broker `payload` of `topic`, as the router said it of `address`.
    pub fn said(&self, now: Instant, address: &str, topic: &str, payload: &[u8]) {
        let digest = digest(address, topic, payload);
        with(&self.ring, |sayings| {
            sayings.forget(now);
            // Nobody else is here to hear it.
            if sayings.members.len() > 1 {
                sayings.order.push_back((now, digest));
                let saying = Saying { at: now, by: self.number, heard_by: Vec::new() };
                sayings.by_digest.entry(digest).or_default().push_back(saying);
            }
        });
    }

    /// Whether a message that came by this way was at this router before.
    pub fn was_here(&self, way: &str) -> bool {
        was_at(&self.router, way)
    }

    /// This bridge tells the router `value` of `address`, which came by this way.
    pub fn heard(&self, now: Instant, address: &str, value: &[u8], way: &str) {
        with(&self.ring, |sayings| {
            if sayings.members.len() > 1 {
                sayings.ways.heard(now, self.number, address, value, way);
            }
        });
    }

    /// The way of what the router said, which ends here.
    pub fn way(&self, now: Instant, address: &str, value: &[u8], is_param: bool) -> String {
        let before = with(&self.ring, |sayings| {
            sayings.ways.told(now, self.number, address, value, is_param)
        });
        match before.as_str() {
            "" => self.router.clone(),
            before => format!("{} {before}", self.router),
        }
    }

    /// Whether another bridge of this router said that. Each saying comes round once to each.
    ///
    /// What came through other routers alone is theirs, though the same was said here: of two that
    /// tell 4 and 5 one after the other, dropping only what was said here would leave 4.
    pub fn comes_round(
        &self,
        now: Instant,
        address: &str,
        topic: &str,
        payload: &[u8],
        way: &str,
    ) -> bool {
        if !way.is_empty() && !self.was_here(way) {
            return false;
        }
        let digest = digest(address, topic, payload);
        with(&self.ring, |sayings| {
            sayings.forget(now);
            let Some(said) = sayings.by_digest.get_mut(&digest) else { return false };
            let is_news = |saying: &&mut Saying| {
                saying.by != self.number && !saying.heard_by.contains(&self.number)
            };
            let found = said.iter_mut().find(is_news);
            found.map(|saying| saying.heard_by.push(self.number)).is_some()
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        with(&self.ring, |sayings| sayings.members.retain(|number| *number != self.number));
    }
}

fn with<T>(ring: &Ring, act: impl FnOnce(&mut Sayings) -> T) -> T {
    let held = match ring {
        Ring::House => &HOUSE,
        Ring::Own(own) => own,
    };
    // Whoever panicked left whole entries behind.
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    act(held.get_or_insert_default())
}

fn digest(address: &str, topic: &str, payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (address, topic, payload).hash(&mut hasher);
    hasher.finish()
}

impl Sayings {
    fn forget(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.duration_since(*at) > SAYING_LASTS;
        while self.order.front().is_some_and(|(at, _)| is_old(at))
            || self.order.len() >= SAYINGS_MAX
        {
            let Some((at, digest)) = self.order.pop_front() else { return };
            let Some(said) = self.by_digest.get_mut(&digest) else { continue };
            said.retain(|saying| saying.at != at);
            if said.is_empty() {
                self.by_digest.remove(&digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_says_comes_round_to_each_other_once() {
        let ring = Ring::Own(Arc::default());
        let members = [(); 3].map(|()| Member::of(ring.clone()));
        let [one, two, three] = &members;
        let now = Instant::now();
        one.said(now, "/a", "a", b"1");
        for other in [two, three] {
            assert!(other.comes_round(now, "/a", "a", b"1", ""));
            assert!(!other.comes_round(now, "/a", "a", b"1", ""), "now it is somebody's else");
        }
        assert!(!one.comes_round(now, "/a", "a", b"1", ""), "its own are known otherwise");
        one.said(now, "/a", "a", b"1");
        for (address, payload) in [("/b", b"1"), ("/a", b"2")] {
            assert!(!two.comes_round(now, address, "a", payload, ""), "it is news there");
        }
        let late = now + SAYING_LASTS + Duration::from_secs(1);
        assert!(!two.comes_round(late, "/a", "a", b"1", ""));
    }

    #[test]
    fn what_another_router_says_twice_is_not_taken_for_ours() {
        let ring = Ring::Own(Arc::default());
        let [one, two] = [(); 2].map(|()| Member::of(ring.clone()));
        let now = Instant::now();
        one.said(now, "/a", "a", b"5");
        for payload in [b"4", b"5"] {
            assert!(!two.comes_round(now, "/a", "a", payload, "00000000000000ff"));
        }
        assert!(two.comes_round(now, "/a", "a", b"5", &one.router), "that is ours");
    }

    #[test]
    fn what_came_through_another_router_is_known_by_its_way_when_it_returns() {
        let [here, there] = [(); 2].map(|()| Ring::Own(Arc::default()));
        let [one, two] = [(); 2].map(|()| Member::of(here.clone()));
        let [three, four] = [(); 2].map(|()| Member::of(there.clone()));
        let now = Instant::now();
        let way = one.way(now, "/go", b"1", false);
        assert!(one.was_here(&way) && two.was_here(&way) && !three.was_here(&way));
        three.heard(now, "/go", b"1", &way);
        let way = four.way(now, "/go", b"1", false);
        assert!(two.was_here(&way) && three.was_here(&way), "{way}");
        assert!(!one.was_here(&four.way(now, "/go", b"1", false)), "the next began there");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_for_one_alone() {
        let held: Arc<Mutex<Option<Sayings>>> = Arc::default();
        let one = Member::of(Ring::Own(Arc::clone(&held)));
        let now = Instant::now();
        one.said(now, "/a", "a", b"1");
        let count = || {
            let held = held.lock().expect("no panic");
            held.as_ref().map_or(0, |sayings| sayings.order.len().max(sayings.by_digest.len()))
        };
        assert_eq!(count(), 0);
        let two = Member::of(Ring::Own(Arc::clone(&held)));
        for number in 0..SAYINGS_MAX + 3 {
            one.said(now + Duration::from_nanos(number as u64), "/a", &number.to_string(), b"1");
        }
        assert_eq!(count(), SAYINGS_MAX);
        assert!(!two.comes_round(now, "/a", "0", b"1", ""));
        assert!(two.comes_round(now, "/a", "9", b"1", ""));
    }
}

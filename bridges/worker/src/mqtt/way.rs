//! Through which routers a message came: routers between the same brokers hear each other.
//!
//! Two routers that each join the same two brokers are a ring, and so are two with two bridges each
//! to one. With MQTT 5 a message says in a user property through which routers it came, newest
//! first, and what has been here before is not taken again. The router in between passes on values
//! and no properties, so what its bridges heard is remembered until the others have told it.
//! With 3.1.1 a message says nothing of the kind.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

/// The user property that holds the names of the routers, with spaces between them.
pub const WAY: &str = "clasp-rt-way";

/// A message that has come through so many routers goes no further.
pub const ROUTERS_MAX: usize = 16;

/// Bytes of a name, and of the space behind it.
const NAME_BYTES: usize = 17;

/// What was heard is told within this time, or not at all.
const HEARD_LASTS: Duration = Duration::from_secs(10);

/// So much is remembered; the oldest is forgotten first.
const HEARD_MAX: usize = 8_192;

/// Whether a message with this way has been at `router` before, or at too many.
pub fn was_at(router: &str, way: &str) -> bool {
    way.len() > ROUTERS_MAX * NAME_BYTES || way.split(' ').any(|name| name == router)
}

/// What bridges heard and others of the same router have not told.
#[derive(Debug, Default)]
pub struct Ways {
    order: VecDeque<(Instant, u64)>,
    by_address: HashMap<u64, VecDeque<Heard>>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    by: u64,
    value: u64,
    way: String,
    told_by: Vec<u64>,
}

impl Ways {
    /// The bridge `by` has heard `value`, by this way.
    pub fn heard(&mut self, now: Instant, by: u64, address: &str, value: &[u8], way: &str) {
        self.forget(now);
        let address = digest(address);
        let (value, way) = (digest(value), way.to_owned());
        let heard = Heard { at: now, by, value, way, told_by: Vec::new() };
        self.order.push_back((now, address));
        self.by_address.entry(address).or_default().push_back(heard);
    }

    /// By which way `value` came that the bridge `by` is to tell; empty: it began here.
    pub fn told(
        &mut self,
        now: Instant,
        by: u64,
        address: &str,
        value: &[u8],
        is_param: bool,
    ) -> String {
        self.forget(now);
        let Some(heard) = self.by_address.get_mut(&digest(address)) else { return String::new() };
        let value = digest(value);
        let is_news = |heard: &Heard| heard.by != by && !heard.told_by.contains(&by);
        let Some(at) = heard.iter().position(|heard| heard.value == value && is_news(heard)) else {
            if is_param {
                // The newest counts: what was heard before is not told any more.
                heard.iter_mut().for_each(|heard| heard.told_by.push(by));
            }
            return String::new();
        };
        let before = if is_param { 0 } else { at };
        heard.iter_mut().take(at + 1).skip(before).for_each(|heard| heard.told_by.push(by));
        heard.get(at).map(|heard| heard.way.clone()).unwrap_or_default()
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.duration_since(*at) > HEARD_LASTS;
        while self.order.front().is_some_and(|(at, _)| is_old(at)) || self.order.len() >= HEARD_MAX
        {
            let Some((at, address)) = self.order.pop_front() else { return };
            let Some(heard) = self.by_address.get_mut(&address) else { continue };
            if heard.front().is_some_and(|heard| heard.at == at) {
                heard.pop_front();
            }
            if heard.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

fn digest(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_no_further_where_it_was_or_after_too_many() {
        let names: Vec<_> = (0..ROUTERS_MAX).map(|number| format!("{number:016x}")).collect();
        let way = names.join(" ");
        assert!(was_at(&names[0], &way) && was_at(&names[15], &way));
        assert!(!was_at("00000000000000ff", &way) && !was_at(&names[0], ""));
        assert!(was_at("00000000000000ff", &format!("{way} x")));
    }

    #[test]
    fn what_one_heard_each_other_tells_with_its_way_once() {
        let (now, mut ways) = (Instant::now(), Ways::default());
        let told = |ways: &mut Ways, by| ways.told(now, by, "/go", b"1", false);
        ways.heard(now, 1, "/go", b"1", "a");
        ways.heard(now, 1, "/go", b"1", "b");
        assert_eq!(told(&mut ways, 1), "", "it told nobody but the router");
        assert_eq!([told(&mut ways, 2), told(&mut ways, 2), told(&mut ways, 2)], ["a", "b", ""]);
        assert_eq!(told(&mut ways, 3), "a");
        let late = now + HEARD_LASTS + Duration::from_secs(1);
        assert_eq!(ways.told(late, 3, "/go", b"1", false), "");
        assert!(ways.by_address.is_empty() && ways.order.is_empty());
    }

    #[test]
    fn of_a_param_what_is_older_than_what_is_told_is_not_told_any_more() {
        let (now, mut ways) = (Instant::now(), Ways::default());
        let told = |ways: &mut Ways, value: &[u8]| ways.told(now, 2, "/level", value, true);
        for value in [b"1", b"2", b"3"] {
            ways.heard(now, 1, "/level", value, "a");
        }
        assert_eq!(told(&mut ways, b"2"), "a");
        assert_eq!(told(&mut ways, b"1"), "", "a hand here moved it back");
        assert_eq!(told(&mut ways, b"3"), "", "and then to what was heard before");
        ways.heard(now, 1, "/level", b"4", "a");
        assert_eq!(told(&mut ways, b"4"), "a");
    }

    #[test]
    fn the_oldest_that_was_heard_gives_way() {
        let (now, mut ways) = (Instant::now(), Ways::default());
        for number in 0..HEARD_MAX + 3 {
            ways.heard(now, 1, &number.to_string(), b"1", "a");
        }
        assert_eq!(ways.order.len(), HEARD_MAX);
        assert_eq!(ways.by_address.len(), HEARD_MAX);
        assert_eq!(ways.told(now, 2, "0", b"1", true), "");
        assert_eq!(ways.told(now, 2, "9", b"1", true), "a");
    }
}

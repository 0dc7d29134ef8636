//! What waits for a side that is away or slow: of a param the newest value, of events each.

use std::collections::{HashMap, VecDeque};

/// Events that wait; beyond them the oldest go, counted.
pub const EVENTS_MAX: usize = 4_096;

/// Params that wait, each once; beyond them the one that has waited longest goes, counted.
pub const PARAMS_MAX: usize = 16_384;

/// Bytes of everything that waits together.
pub const BYTES_MAX: usize = 8 << 20;

/// A queue in which a newer param takes the place of its older value.
///
/// Things leave in the order in which they came; a param that was replaced keeps its place.
#[derive(Debug)]
pub struct Waiting<T> {
    /// By ticket. What was replaced or dropped is gone from here, and passed over in the order.
    things: HashMap<u64, Thing<T>>,
    order: VecDeque<u64>,
    /// The ticket of each param.
    params: HashMap<String, u64>,
    events: usize,
    bytes: usize,
    next: u64,
    room: Room,
    /// What was given up for want of room, since this was asked last.
    lost: Vec<T>,
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub events: usize,
    pub params: usize,
    /// Of everything together.
    pub bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { events: EVENTS_MAX, params: PARAMS_MAX, bytes: BYTES_MAX }
    }
}

#[derive(Debug)]
struct Thing<T> {
    /// `None`: an event.
    param: Option<String>,
    bytes: usize,
    what: T,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self::new(Room::default())
    }
}

impl<T> Waiting<T> {
    pub fn new(room: Room) -> Self {
        Self {
            things: HashMap::new(),
            order: VecDeque::new(),
            params: HashMap::new(),
            events: 0,
            bytes: 0,
            next: 0,
            room,
            lost: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether a value of the param `key` waits.
    pub fn has(&self, key: &str) -> bool {
        self.params.contains_key(key)
    }

    /// What was given up since the last call.
    pub fn take_lost(&mut self) -> Vec<T> {
        std::mem::take(&mut self.lost)
    }

    /// Keeps the newest value of the param `key`, and gives the one that it replaces. `bytes`: what
    /// it takes.
    pub fn param(&mut self, key: &str, bytes: usize, what: T) -> Option<T> {
        if let Some(thing) = self.params.get(key).and_then(|ticket| self.things.get_mut(ticket)) {
            self.bytes = self.bytes - thing.bytes + bytes;
            thing.bytes = bytes;
            let replaced = std::mem::replace(&mut thing.what, what);
            self.fit();
            return Some(replaced);
        }
        self.params.insert(key.to_owned(), self.next);
        self.add(Thing { param: Some(key.to_owned()), bytes, what });
        None
    }

    pub fn event(&mut self, bytes: usize, what: T) {
        self.events += 1;
        self.add(Thing { param: None, bytes, what });
    }

    /// Puts what was taken and did not arrive in front of what waits. A param (`Some`) of which a
    /// newer value waits is not put back, but given back.
    pub fn put_back(&mut self, param: Option<&str>, bytes: usize, what: T) -> Option<T> {
        match param {
            Some(key) if self.has(key) => return Some(what),
            Some(key) => drop(self.params.insert(key.to_owned(), self.next)),
            None => self.events += 1,
        }
        self.order.push_front(self.next);
        self.hold(Thing { param: param.map(str::to_owned), bytes, what });
        None
    }

    fn add(&mut self, thing: Thing<T>) {
        self.order.push_back(self.next);
        self.hold(thing);
    }

    fn hold(&mut self, thing: Thing<T>) {
        self.bytes += thing.bytes;
        self.things.insert(self.next, thing);
        self.next += 1;
        self.fit();
    }

    /// What has waited longest.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_thing(|_| true).map(|thing| thing.what)
    }

    fn fit(&mut self) {
        while self.events > self.room.events {
            self.give_up(|thing| thing.param.is_none());
        }
        while self.params.len() > self.room.params {
            self.give_up(|thing| thing.param.is_some());
        }
        while self.bytes > self.room.bytes && !self.things.is_empty() {
            self.give_up(|_| true);
        }
    }

    fn give_up(&mut self, which: impl Fn(&Thing<T>) -> bool) {
        let thing = self.pop_thing(which);
        self.lost.extend(thing.map(|thing| thing.what));
    }

    fn pop_thing(&mut self, which: impl Fn(&Thing<T>) -> bool) -> Option<Thing<T>> {
        let at =
            self.order.iter().position(|ticket| self.things.get(ticket).is_some_and(&which))?;
        let thing = self.order.remove(at).and_then(|ticket| self.things.remove(&ticket))?;
        match &thing.param {
            Some(key) => drop(self.params.remove(key)),
            None => self.events -= 1,
        }
        self.bytes -= thing.bytes;
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T>(waiting: &mut Waiting<T>) -> Vec<T> {
        std::iter::from_fn(|| waiting.pop()).collect()
    }

    #[test]
    fn a_param_keeps_its_newest_value_and_every_event_stays() {
        let mut waiting = Waiting::default();
        waiting.param("a", 1, "a1");
        waiting.event(1, "go 1");
        waiting.param("b", 1, "b1");
        assert_eq!(waiting.param("a", 1, "a2"), Some("a1"));
        waiting.event(1, "go 2");
        assert_eq!(all(&mut waiting), ["a2", "go 1", "b1", "go 2"]);
        assert!(waiting.is_empty());
        assert!(waiting.take_lost().is_empty());
        waiting.param("a", 1, "a3");
        assert_eq!(all(&mut waiting), ["a3"]);
    }

    #[test]
    fn what_did_not_arrive_goes_first_again_unless_it_is_old() {
        let mut waiting = Waiting::default();
        waiting.event(1, "go 3");
        waiting.param("a", 1, "a3");
        for (param, what) in [(Some("b"), "b2"), (None, "go 2"), (None, "go 1")] {
            assert_eq!(waiting.put_back(param, 1, what), None);
        }
        assert_eq!(waiting.put_back(Some("a"), 1, "a2"), Some("a2"), "a newer one waits");
        assert_eq!(waiting.put_back(Some("b"), 1, "b1"), Some("b1"), "and here, put back before");
        assert_eq!(all(&mut waiting), ["go 1", "go 2", "b2", "go 3", "a3"]);
        assert!(waiting.is_empty() && waiting.take_lost().is_empty());
        let mut full = Waiting::new(Room { events: 2, params: 1, bytes: 100 });
        full.event(1, "go 2");
        full.event(1, "go 3");
        assert_eq!(full.put_back(None, 1, "go 1"), None);
        assert_eq!((full.take_lost(), all(&mut full)), (vec!["go 1"], vec!["go 2", "go 3"]));
    }

    #[test]
    fn when_it_is_full_the_oldest_go_and_are_counted() {
        let mut waiting = Waiting::default();
        for number in 0..EVENTS_MAX + 3 {
            waiting.event(1, number);
        }
        assert_eq!(waiting.take_lost(), [0, 1, 2]);
        assert!(waiting.take_lost().is_empty(), "told once");
        assert_eq!(waiting.pop(), Some(3));
        let mut waiting = Waiting::default();
        for number in 0..PARAMS_MAX + 2 {
            waiting.param(&number.to_string(), 1, number);
        }
        assert_eq!((waiting.take_lost(), waiting.pop()), (vec![0, 1], Some(2)));
        let mut waiting = Waiting::default();
        for number in 0..10 {
            waiting.param(&number.to_string(), BYTES_MAX / 4, number);
        }
        assert_eq!(waiting.take_lost().len(), 6);
        assert_eq!(all(&mut waiting), [6, 7, 8, 9]);
    }
}

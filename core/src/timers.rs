//! What is due next, among a fixed number of things that each have at most one time.

use alloc::boxed::Box;
use alloc::vec;

use crate::time::Time;

/// A binary heap of keys that knows where each key stands, so that a time can be moved or cleared.
#[derive(Debug)]
pub struct Timers {
    /// The earliest first; only the first `len` count.
    heap: Box<[u32]>,
    len: u32,
    /// For each key: its place in the heap or [`ABSENT`], and its time.
    keys: Box<[Key]>,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    place: u32,
    /// In two halves: a key is twelve bytes, not sixteen.
    due: [u32; 2],
}

impl Key {
    const ABSENT: Self = Self { place: ABSENT, due: [0; 2] };

    fn due(self) -> Time {
        let [high, low] = self.due;
        Time(u64::from(high) << 32 | u64::from(low))
    }

    fn set_due(&mut self, due: Time) {
        self.due = [(due.0 >> 32) as u32, due.0 as u32];
    }
}

const ABSENT: u32 = u32::MAX;

impl Timers {
    /// For the keys `0..capacity`.
    pub fn new(capacity: u32) -> Self {
        Self {
            heap: vec![0; capacity as usize].into_boxed_slice(),
            len: 0,
            keys: vec![Key::ABSENT; capacity as usize].into_boxed_slice(),
        }
    }

    /// Bytes that [`Timers::new`] takes.
    pub const fn memory_bytes_for(capacity: u32) -> u64 {
        capacity as u64 * (size_of::<u32>() + size_of::<Key>()) as u64
    }

    /// Gives `key` a time, in place of the one it may have.
    pub fn set(&mut self, key: u32, due: Time) {
        let place = self.keys[key as usize].place;
        self.keys[key as usize].set_due(due);
        if place == ABSENT {
            self.len += 1;
            self.rise(self.len - 1, key);
        } else {
            self.settle(place, key);
        }
    }

    /// Takes the time of `key` away, if it has one.
    pub fn clear(&mut self, key: u32) {
        let place = self.keys[key as usize].place;
        if place == ABSENT {
            return;
        }
        self.keys[key as usize].place = ABSENT;
        self.len -= 1;
        let last = self.heap[self.len as usize];
        if last != key {
            self.settle(place, last);
        }
    }

    pub fn get(&self, key: u32) -> Option<Time> {
        let key = self.keys[key as usize];
        (key.place != ABSENT).then_some(key.due())
    }

    /// The earliest time.
    pub fn next(&self) -> Option<Time> {
        (self.len > 0).then(|| self.keys[self.heap[0] as usize].due())
    }

    /// The key that is due first.
    pub fn first(&self) -> Option<u32> {
        (self.len > 0).then(|| self.heap[0])
    }

    /// Removes and gives the key that was due first, if that is not after `now`. The lower key
    /// breaks ties.
    pub fn pop(&mut self, now: Time) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        let key = self.heap[0];
        self.clear(key);
        Some(key)
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes taken when it was made; there are never more.
    pub fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.heap) + size_of_val(&*self.keys)) as u64
    }

    /// Puts `key` at `place` or wherever the order wants it from there.
    fn settle(&mut self, place: u32, key: u32) {
        if place > 0 && self.is_before(key, self.heap[(place as usize - 1) / 2]) {
            self.rise(place, key);
        } else {
            self.sink(place, key);
        }
    }

    fn rise(&mut self, mut place: u32, key: u32) {
        while place > 0 {
            let parent = (place - 1) / 2;
            let above = self.heap[parent as usize];
            if !self.is_before(key, above) {
                break;
            }
            self.put(place, above);
            place = parent;
        }
        self.put(place, key);
    }

    fn sink(&mut self, mut place: u32, key: u32) {
        loop {
            let left = 2 * place + 1;
            if left >= self.len {
                break;
            }
            let right = left + 1;
            let (l, r) = (self.heap[left as usize], self.heap.get(right as usize).copied());
            let (child, below) = match r {
                Some(r) if right < self.len && self.is_before(r, l) => (right, r),
                _ => (left, l),
            };
            if !self.is_before(below, key) {
                break;
            }
            self.put(place, below);
            place = child;
        }
        self.put(place, key);
    }

    fn put(&mut self, place: u32, key: u32) {
        self.heap[place as usize] = key;
        self.keys[key as usize].place = place;
    }

    fn is_before(&self, a: u32, b: u32) -> bool {
        (self.keys[a as usize].due(), a) < (self.keys[b as usize].due(), b)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_the_rest_waits() {
        let mut timers = Timers::new(4);
        for (key, due) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            timers.set(key, Time(due));
        }
        assert_eq!(timers.next(), Some(Time(10)));
        assert_eq!(timers.pop(Time(9)), None);
        assert_eq!([0; 3].map(|_| timers.pop(Time(29))), [Some(1), Some(3), Some(2)]);
        assert_eq!(timers.pop(Time(29)), None);
        assert_eq!(timers.next(), Some(Time(30)));
    }

    #[test]
    fn a_time_can_be_moved_both_ways_and_cleared() {
        let mut timers = Timers::new(3);
        for key in 0..3 {
            timers.set(key, Time(10 + u64::from(key)));
        }
        timers.set(0, Time(50));
        timers.set(2, Time(5));
        timers.clear(1);
        timers.clear(1);
        assert_eq!([0, 1, 2].map(|key| timers.get(key)), [Some(Time(50)), None, Some(Time(5))]);
        assert_eq!([0; 3].map(|_| timers.pop(Time(99))), [Some(2), Some(0), None]);
    }

    proptest! {
        #[test]
        fn timers_are_an_ordered_set(
            steps in prop::collection::vec((0..4_u8, 0..20_u32, 0..50_u64), 0..300),
        ) {
            let mut timers = Timers::new(20);
            prop_assert_eq!(timers.memory_bytes(), Timers::memory_bytes_for(20));
            let mut model: BTreeSet<(Time, u32)> = BTreeSet::new();
            for (step, key, at) in steps {
                match step {
                    0 | 1 => {
                        model.retain(|&(_, held)| held != key);
                        model.insert((Time(at), key));
                        timers.set(key, Time(at));
                    }
                    2 => {
                        model.retain(|&(_, held)| held != key);
                        timers.clear(key);
                    }
                    _ => {
                        let first = model.first().copied().filter(|&(due, _)| due <= Time(at));
                        if let Some(first) = first {
                            model.remove(&first);
                        }
                        prop_assert_eq!(timers.pop(Time(at)), first.map(|(_, key)| key));
                    }
                }
                prop_assert_eq!(timers.len() as usize, model.len());
                prop_assert_eq!(timers.next(), model.first().map(|&(due, _)| due));
                prop_assert_eq!(timers.first(), model.first().map(|&(_, key)| key));
                for key in 0..20 {
                    let due = model.iter().find(|&&(_, held)| held == key).map(|&(due, _)| due);
                    prop_assert_eq!(timers.get(key), due);
                }
            }
            prop_assert_eq!(timers.memory_bytes(), Timers::memory_bytes_for(20));
        }
    }
}

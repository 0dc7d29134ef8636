//! How many copies of a stream a second reach many subscribers, all of them and in order.
//!
//! The publisher stays a window ahead of the slowest subscriber, so that nothing need be dropped:
//! what is measured is what the router can deliver, not what it does when that is too much.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::fanout::FanOut;

/// Messages that the slowest subscriber may be behind: 15 KB of them, less than a router keeps for
/// a link that is a moment late.
const WINDOW: u64 = 256;

/// Messages that one system call of the publisher carries.
const BURST: u64 = 32;

/// A copy that takes longer counts as lost.
const GRACE: Duration = Duration::from_secs(2);

/// Ready sockets looked at in one go.
const EVENTS: usize = 256;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub deliveries: u64,
    pub seconds: f64,
    /// Numbers that did not follow the one before: a loss or an overtaking each.
    pub breaks: u64,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.seconds
    }
}

/// Who has got what of the messages in the window.
#[derive(Debug)]
struct Tally {
    sent: u64,
    /// All before this number have reached everybody, or were left out.
    complete: u64,
    /// The number that each subscriber gets next.
    next: Vec<u64>,
    /// How many subscribers miss each number of the window.
    missing: [usize; WINDOW as usize],
    deliveries: u64,
    breaks: u64,
}

impl Tally {
    fn new(subscribers: usize) -> Self {
        let (next, missing) = (vec![0; subscribers], [0; WINDOW as usize]);
        Self { sent: 0, complete: 0, next, missing, deliveries: 0, breaks: 0 }
    }

    fn has_room(&self) -> bool {
        self.sent - self.complete + BURST <= WINDOW
    }

    /// The number of the next message.
    fn send(&mut self) -> u64 {
        let number = self.sent;
        self.missing[(number % WINDOW) as usize] = self.next.len();
        self.sent += 1;
        number
    }

    fn arrive(&mut self, subscriber: usize, number: u64) {
        let Some(next) = self.next.get_mut(subscriber) else { return };
        self.deliveries += 1;
        if number < *next || number >= self.sent {
            self.breaks += 1;
            return;
        }
        self.breaks += number - *next;
        // What was left out may never come, and must not hold up the rest.
        for number in *next..=number {
            let left = &mut self.missing[(number % WINDOW) as usize];
            *left = left.saturating_sub(1);
        }
        *next = number + 1;
        while self.complete < self.sent && self.missing[(self.complete % WINDOW) as usize] == 0 {
            self.complete += 1;
        }
    }

    /// What never came to its subscriber, when nothing more will.
    fn give_up(&mut self) {
        self.breaks += self.next.iter().map(|next| self.sent - next).sum::<u64>();
    }
}

/// Publishes through `fan` for `length`, then waits for what is still on its way.
pub fn run(fan: &mut FanOut, length: Duration) -> io::Result<Measured> {
    let FanOut { publisher, subscribers, ready } = fan;
    let mut tally = Tally::new(subscribers.len());
    let start = Instant::now();
    let mut last_progress = start;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let now = Instant::now();
        let sending = now - start < length;
        if sending && tally.has_room() && publisher.unsent_bytes() == 0 {
            (0..BURST).for_each(|_| publisher.publish(tally.send()));
        }
        publisher.flush()?;
        publisher.poll(&mut |_| {})?;
        events.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&*ready, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
        for event in &events {
            let index = event.data.u64() as usize;
            let Some(end) = subscribers.get_mut(index) else { continue };
            end.poll(&mut |number| tally.arrive(index, number))?;
        }
        if !events.is_empty() {
            last_progress = now;
        }
        let gave_up = now.saturating_duration_since(last_progress) > GRACE;
        if gave_up || (!sending && tally.complete == tally.sent) {
            tally.give_up();
            let ended = if gave_up { last_progress } else { Instant::now() };
            return Ok(Measured {
                deliveries: tally.deliveries,
                seconds: (ended - start).as_secs_f64().max(f64::MIN_POSITIVE),
                breaks: tally.breaks,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;
    use crate::frames::{Kind, Message};

    #[test]
    fn a_copy_that_is_lost_or_late_is_counted_and_holds_up_nothing() {
        let mut tally = Tally::new(2);
        (0..4).for_each(|number| assert_eq!(tally.send(), number));
        // The first misses 1, the second gets 2 before 1.
        [0, 2, 3].into_iter().for_each(|number| tally.arrive(0, number));
        [0, 2, 1, 3].into_iter().for_each(|number| tally.arrive(1, number));
        assert_eq!((tally.complete, tally.deliveries, tally.breaks), (4, 7, 3));
        tally.arrive(1, 99);
        assert_eq!((tally.complete, tally.breaks), (4, 4), "a number that was never sent");
        let mut sent = 4;
        while tally.has_room() {
            (0..BURST).for_each(|_| sent = tally.send() + 1);
        }
        assert!(sent - 4 <= WINDOW && sent - 4 + BURST > WINDOW, "{sent}");
        tally.give_up();
        assert_eq!(tally.breaks, 4 + 2 * (sent - 4));
    }

    #[test]
    fn every_subscriber_gets_the_whole_stream_over_the_floor_message_by_message() {
        let message = Message::new(Kind::Stream, "/bench/stream/1");
        let floor = Floor::start_message_by_message(None, 5, &message).unwrap();
        let mut fan = FanOut::through_floor(&floor, 5, &message).unwrap();
        let measured = run(&mut fan, Duration::from_millis(50)).unwrap();
        assert!(measured.deliveries >= 5 * BURST, "{measured:?}");
        assert_eq!((measured.breaks, measured.deliveries % (5 * BURST)), (0, 0), "{measured:?}");
    }
}

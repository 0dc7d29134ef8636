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

/// Publishes through `fan` for `length`, then waits for what is still on its way.
pub fn run(fan: &mut FanOut, length: Duration) -> io::Result<Measured> {
    let FanOut { publisher, subscribers, ready } = fan;
    let mut measured = Measured::default();
    // The number that each subscriber misses, and how many miss each number of the window.
    let mut next = vec![0_u64; subscribers.len()];
    let mut missing = [0_usize; WINDOW as usize];
    let (mut sent, mut complete) = (0, 0);
    let start = Instant::now();
    let mut last_progress = start;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let now = Instant::now();
        let sending = now - start < length;
        if sending && sent - complete + BURST <= WINDOW && publisher.unsent_bytes() == 0 {
            for _ in 0..BURST {
                missing[(sent % WINDOW) as usize] = subscribers.len();
                publisher.publish(sent);
                sent += 1;
            }
        }
        publisher.flush()?;
        publisher.poll(&mut |_| {})?;
        events.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&*ready, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
        let before = measured.deliveries;
        for event in &events {
            let index = event.data.u64() as usize;
            let (Some(end), Some(next)) = (subscribers.get_mut(index), next.get_mut(index)) else {
                continue;
            };
            end.poll(&mut |number| {
                // A number outside of the window was not sent by this run.
                if !(complete..sent).contains(&number) {
                    measured.breaks += 1;
                    return;
                }
                measured.breaks += number.abs_diff(*next);
                measured.deliveries += 1;
                // What was left out will not come, and must not hold up the rest.
                for number in (*next).max(complete)..=number {
                    let left = &mut missing[(number % WINDOW) as usize];
                    *left = left.saturating_sub(1);
                }
                *next = number + 1;
            })?;
        }
        while complete < sent && missing[(complete % WINDOW) as usize] == 0 {
            complete += 1;
        }
        if measured.deliveries > before {
            last_progress = now;
        }
        let gave_up = now.saturating_duration_since(last_progress) > GRACE;
        if gave_up || (!sending && complete == sent) {
            measured.breaks += next.iter().map(|next| sent - next).sum::<u64>();
            let ended = if gave_up { last_progress } else { Instant::now() };
            measured.seconds = (ended - start).as_secs_f64().max(f64::MIN_POSITIVE);
            return Ok(measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;
    use crate::frames::{Kind, Message};

    #[test]
    fn every_subscriber_gets_the_whole_stream_over_the_floor_message_by_message() {
        let message = Message::new(Kind::Stream, "/bench/stream/1");
        let floor = Floor::start_message_by_message(None, 5, &message).unwrap();
        let mut fan = FanOut::over(&floor, 5, &message).unwrap();
        let measured = run(&mut fan, Duration::from_millis(50)).unwrap();
        assert!(measured.deliveries >= 5 * BURST, "{measured:?}");
        assert_eq!((measured.breaks, measured.deliveries % (5 * BURST)), (0, 0), "{measured:?}");
    }
}

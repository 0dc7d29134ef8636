//! How many messages a second pass from one publisher to one subscriber, all of them and in order.

use std::io;
use std::time::{Duration, Instant};

use crate::connection::Path;
use crate::frames::{Kind, Message};
use crate::report::RateRound;

const ADDRESS: &str = "/bench/throughput/fader/1";

/// Messages on their way at most. Less than any of the routers keeps for a slow link (the published
/// one 1,000), so that nothing may be dropped; far more than one system call carries, so that the
/// pipe is never empty.
const WINDOW: u64 = 768;

/// Messages that one system call of the publisher carries.
const BURST: u64 = 64;

/// A message that takes longer counts as lost.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub messages: u64,
    pub seconds: f64,
    /// Numbers that did not follow the one before: a loss or an overtaking each.
    pub breaks: u64,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// As a report has it, without a floor.
    pub fn round(&self) -> RateRound {
        RateRound {
            per_second: self.per_second(),
            floor_per_second: None,
            messages: self.messages,
            breaks: self.breaks,
        }
    }
}

/// A small control message for the address that throughput is measured at.
pub fn message(kind: Kind) -> Message<'static> {
    Message::new(kind, ADDRESS)
}

/// Sends over `path` as fast as the window allows for `length`, then waits for what is still on its
/// way.
pub fn run(path: &mut Path, length: Duration) -> io::Result<Measured> {
    let Path { publisher, subscriber } = path;
    let mut measured = Measured::default();
    let (mut sent, mut next) = (0, 0);
    let start = Instant::now();
    let mut last_progress = start;
    loop {
        let now = Instant::now();
        let sending = now - start < length;
        let room = WINDOW - (sent - next).min(WINDOW);
        if sending && room >= BURST && publisher.unsent_bytes() == 0 {
            for _ in 0..BURST {
                publisher.publish(sent);
                sent += 1;
            }
        }
        publisher.flush()?;
        let before = measured.messages;
        subscriber.poll(&mut |number| {
            measured.breaks += u64::from(number != next);
            measured.messages += 1;
            next = number + 1;
        })?;
        if measured.messages > before {
            last_progress = Instant::now();
        }
        publisher.poll(&mut |_| {})?;
        let gave_up = now.saturating_duration_since(last_progress) > GRACE;
        if gave_up || (!sending && next >= sent) {
            measured.breaks += u64::from(next != sent);
            measured.seconds = (last_progress - start).as_secs_f64().max(f64::MIN_POSITIVE);
            return Ok(measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;

    #[test]
    fn all_messages_of_a_short_burst_pass_the_floor_in_order() {
        let floor = Floor::start(None, 1).unwrap();
        let mut path = Path::through_floor(&floor, &message(Kind::Event)).unwrap();
        let measured = run(&mut path, Duration::from_millis(50)).unwrap();
        assert!(measured.messages >= BURST, "{measured:?}");
        assert_eq!(measured.breaks, 0);
        assert!(measured.per_second() > 0.0);
    }
}

//! One hop: publisher, router, subscriber; each message on its schedule, timed from it.

use std::io;
use std::time::{Duration, Instant};

use clasp_rt_perf::histogram::Latency;

use crate::connection::Path;
use crate::frames::{Kind, Message};
use crate::pace::Schedule;
use crate::report::Row;

/// Long enough for a handshake and a pattern, short enough to stay a control message of 40 bytes.
const ADDRESS: &str = "/bench/hop/fader/1/level";

/// How long the last message may take before it counts as lost.
const GRACE: Duration = Duration::from_secs(2);

/// What one run over a path showed.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub latency: Latency,
    pub sent: u64,
    pub arrived: u64,
    /// Arrived after a later one.
    pub reordered: u64,
    /// How much later than planned the worst message left: above a few microseconds the load
    /// generator itself was held up, and its latencies say so too.
    pub send_lag: Latency,
}

impl Measured {
    /// Adds this run to `row`, beside the floor of its turn.
    pub fn add_to(&self, row: &mut Row, floor: Option<&Latency>) {
        row.round(&self.latency, floor);
        row.sent += self.sent;
        row.expected += self.sent;
        row.arrived += self.arrived;
        row.reordered += self.reordered;
    }
}

/// A small control message for the address that hops are measured at.
pub fn message(kind: Kind) -> Message<'static> {
    Message::new(kind, ADDRESS)
}

/// Sends over `path` what `schedule` says. Every sample is kept.
pub fn run(path: &mut Path, schedule: &Schedule) -> io::Result<Measured> {
    let Path { publisher, subscriber } = path;
    let mut measured = Measured::default();
    let total = schedule.len() as u64;
    let mut last_arrived = None;
    let start = Instant::now() + Duration::from_millis(1);
    let mut last_progress = start;
    loop {
        let now = Instant::now();
        // All that is due goes with one system call: at high rates one each would be the limit.
        while let Some(due) = schedule.due(start, measured.sent).filter(|due| *due <= now) {
            measured.send_lag.record_duration(now - due);
            publisher.publish(measured.sent);
            measured.sent += 1;
            last_progress = now;
        }
        publisher.flush()?;
        subscriber.poll(&mut |number| {
            let seen = Instant::now();
            let Some(due) = schedule.due(start, number) else { return };
            measured.latency.record_duration(seen.saturating_duration_since(due));
            measured.arrived += 1;
            measured.reordered += u64::from(last_arrived.is_some_and(|last| number < last));
            last_arrived = Some(number);
            last_progress = seen;
        })?;
        // Acknowledgements and pings of the router must not fill the publisher's socket.
        publisher.poll(&mut |_| {})?;
        let all_sent = measured.sent == total;
        let gave_up = now.saturating_duration_since(last_progress) > GRACE;
        if all_sent && (measured.arrived == total || gave_up) {
            return Ok(measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;

    #[test]
    fn every_message_of_a_small_run_arrives_over_the_floor_in_order() {
        for kind in [Kind::Set, Kind::Event] {
            let floor = Floor::start(None, 1).unwrap();
            let mut path = Path::through_floor(&floor, &message(kind)).unwrap();
            let schedule = Schedule::jittered(2_000.0, Duration::from_millis(200), 1);
            let measured = run(&mut path, &schedule).unwrap();
            assert_eq!(measured.sent, schedule.len() as u64);
            assert_eq!((measured.arrived, measured.reordered), (measured.sent, 0));
            assert_eq!(measured.latency.count(), measured.sent);
        }
    }
}

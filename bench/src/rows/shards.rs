//! One message to many subscribers, whose connections one shard has or two shards share.
//!
//! The second shard runs on the core of the load, and a load that watched its sockets would take
//! from that shard what a second core gives. So it sleeps once a message has left; the kernel notes
//! when each copy reached its receiver's socket, and the load asks for that afterwards.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clasp_rt_perf::histogram::Latency;

use super::round_length;
use crate::fanout;
use crate::frames::{self, Kind, Numbered};
use crate::load;
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::peer::Peer;
use crate::report::Row;
use crate::router::{Idle, Router};
use crate::suite::{Size, WARM_UP};

const ROUND: Duration = Duration::from_millis(1_500);

/// Awake so long before a message is due: no timer is late by that.
const AWAKE_BEFORE: Duration = Duration::from_micros(500);

/// How long a copy may take before it counts as lost.
const GRACE: Duration = Duration::from_secs(2);

const SEED: u64 = 0x5D;

/// Subscribers, and messages a second, so that between two messages the receivers can be read.
const CROWDS: [(usize, f64); 2] = [(100, 100.0), (1_000, 20.0)];
const SMALL: [(usize, f64); 1] = [(10, 50.0)];

pub fn run(program: &Path, places: Places, rounds: u32, size: Size) -> io::Result<Vec<Row>> {
    load::raise_files_max();
    let cores = [places.router, places.client];
    let routers = [&cores[..1], &cores[..]].map(|cores| (cores.len(), cores));
    let crowds = match size {
        Size::Small => &SMALL[..],
        Size::Canonical => &CROWDS[..],
    };
    let mut rows = Vec::new();
    for (subscribers, rate_hz) in crowds {
        let mut sides = Vec::new();
        for (shards, cores) in routers {
            let router = Router::open_sharded(program, cores, Idle::Park, &[])?;
            let crowd = Crowd::join(router.url("ws")?, *subscribers)?;
            let key = format!("shards/{subscribers}/{shards}");
            let name = format!("fan-out to {subscribers}, last receiver, {shards} shards");
            sides.push((router, crowd, Row::new(key, name)));
        }
        let length = round_length(size, ROUND);
        machine::on_core(places.client, || {
            for round in 0..rounds {
                let schedule = Schedule::jittered(*rate_hz, length, SEED + u64::from(round));
                for (_, crowd, row) in &mut sides {
                    crowd.run(&Schedule::jittered(*rate_hz, WARM_UP, SEED))?;
                    let last = crowd.run(&schedule)?;
                    row.round(&last, None);
                    row.sent += schedule.len() as u64;
                    row.expected += schedule.len() as u64;
                    row.arrived += last.count();
                }
            }
            Ok(())
        })?;
        rows.extend(sides.into_iter().map(|(_, _, row)| row));
    }
    Ok(rows)
}

/// A publisher, and subscribers whose arrivals the kernel notes.
struct Crowd {
    publisher: Peer,
    subscribers: Vec<Peer>,
    message: Numbered,
}

impl Crowd {
    fn join(url: &str, subscribers: usize) -> io::Result<Self> {
        let message = fanout::message(Kind::Set);
        let mut publisher = Peer::connect(url)?;
        publisher.join("bench publisher")?;
        let subscriber = |_| {
            let mut peer = Peer::connect(url)?;
            peer.join("bench subscriber")?;
            peer.subscribe(1, message.pattern)?;
            peer.stamp_arrivals()?;
            Ok(peer)
        };
        let subscribers = (0..subscribers).map(subscriber).collect::<io::Result<_>>()?;
        Ok(Self { publisher, subscribers, message: Numbered::new(Kind::Set, message.address) })
    }

    /// From the intended instant of each message to the arrival of its last copy; of those whose
    /// copies have all arrived.
    fn run(&mut self, schedule: &Schedule) -> io::Result<Latency> {
        let mut latency = Latency::new();
        let start = Instant::now() + 2 * AWAKE_BEFORE;
        for number in 0..schedule.len() as u64 {
            let Some(due) = schedule.due(start, number) else { break };
            thread::sleep(due.saturating_duration_since(Instant::now() + AWAKE_BEFORE));
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            self.publisher.queue(self.message.frame(number));
            self.publisher.flush()?;
            let due_at = wall_clock_at(due)?;
            // Half of the shortest gap: the other half is for reading what has come.
            let gap = schedule.due(start, number + 1).map_or(GRACE / 100, |next| next - due);
            thread::sleep(gap / 2);
            if let Some(last) = self.last_arrival(number)? {
                latency.record_duration(last.saturating_sub(due_at));
            }
            self.publisher.poll(|_| {})?;
        }
        Ok(latency)
    }

    /// When the last copy of message `number` arrived, by the clock of the system.
    fn last_arrival(&mut self, number: u64) -> io::Result<Option<Duration>> {
        let until = Instant::now() + GRACE;
        let mut last = Duration::ZERO;
        for peer in &mut self.subscribers {
            let mut arrived = false;
            while !arrived {
                if Instant::now() > until {
                    return Ok(None);
                }
                peer.poll(|frame| arrived |= frames::number(frame) == Some(number))?;
            }
            let at = peer.arrived_at();
            let at = at.ok_or_else(|| io::Error::other("the kernel notes no arrivals"))?;
            last = last.max(at);
        }
        Ok(Some(last))
    }
}

/// What the clock of the system, which stamps arrivals, showed at an instant that has just been.
fn wall_clock_at(instant: Instant) -> io::Result<Duration> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(since.saturating_sub(instant.elapsed()))
}

#[cfg(test)]
mod tests {
    use clasp_rt_tests::router::Router;

    use super::*;

    #[test]
    fn the_last_copy_is_timed_by_the_kernel_and_none_is_missed() {
        let router = Router::start(&["--shards", "2"]);
        let mut crowd = Crowd::join(&router.url(), 5).unwrap();
        let schedule = Schedule::jittered(100.0, Duration::from_millis(200), SEED);
        let latency = crowd.run(&schedule).unwrap();
        assert_eq!(latency.count(), schedule.len() as u64);
        assert!(latency.summary().p50_ns > 0);
    }
}

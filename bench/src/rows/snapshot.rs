//! A late joiner to many params: how long until it has all, and what the others notice meanwhile.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use clasp_rt_core::wire::binary::code;
use clasp_rt_perf::histogram::Latency;

use super::round_length;
use crate::frames::{self, Kind, Numbered};
use crate::load::Load;
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::peer::Peer;
use crate::report::Row;
use crate::router::{Idle, Router};
use crate::suite::Size;

const ADDRESS: &str = "/bench/snapshot/fader/1";
const RATE_HZ: f64 = 2_000.0;
const SEED: u64 = 0x5A;

/// A joiner or a message that takes longer is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Joiners of one round, each alone.
const JOINERS: usize = 4;

/// Of undisturbed traffic in one round, and at least of disturbed.
const ROUND: Duration = Duration::from_secs(1);

pub fn run(program: &Path, places: Places, rounds: u32, size: Size) -> io::Result<Vec<Row>> {
    // One param is the fader of the others.
    let params = match size {
        Size::Small => 2_000,
        Size::Canonical => 100_000,
    };
    let router = Router::open_idling(program, places, Idle::Spin)?;
    machine::on_core(places.client, || measure(router.url("ws")?, params, rounds, size))
}

fn measure(url: &str, params: usize, rounds: u32, size: Size) -> io::Result<Vec<Row>> {
    let load = Load::run(url, 4, params - 1, |_| {})?;
    if load.refused > 0 {
        return Err(io::Error::other(load.text()));
    }
    let mut hop = Hop::open(url)?;
    let row = |what: &str, name: &str| {
        Row::new(format!("snapshot/{params}/{what}"), format!("{params} params, {name}"))
    };
    let mut complete = row("complete", "from connecting to the last param");
    let mut undisturbed = row("others/undisturbed", "one hop of others, nobody joins");
    let mut meanwhile = row("others/meanwhile", "one hop of others while somebody joins");
    for round in 0..rounds {
        let mut joined = Latency::new();
        for _ in 0..JOINERS {
            joined.record_duration(join(url, params)?);
        }
        complete.round(&joined, None);
        complete.sent += JOINERS as u64;
        complete.expected += JOINERS as u64;
        complete.arrived += joined.count();

        let length = round_length(size, ROUND);
        let schedule = Schedule::jittered(RATE_HZ, length, SEED + u64::from(round));
        let latency = hop.run(&schedule, None)?;
        count(&mut undisturbed, &latency, schedule.len());

        // One after the other, for as long as the undisturbed traffic took.
        let mut joiner = Joiner { url, params, peer: None, seen: 0, joined: 0 };
        let latency = hop.run(&schedule, Some(&mut joiner))?;
        count(&mut meanwhile, &latency, schedule.len());
        meanwhile.note = format!("{} complete snapshots in the last round", joiner.joined);
    }
    Ok(vec![complete, undisturbed, meanwhile])
}

fn count(row: &mut Row, latency: &Latency, sent: usize) {
    row.round(latency, None);
    row.sent += sent as u64;
    row.expected += sent as u64;
    row.arrived += latency.count();
}

/// From connecting until every param was told.
fn join(url: &str, params: usize) -> io::Result<Duration> {
    let start = Instant::now();
    let mut peer = Peer::connect(url)?;
    peer.queue(&frames::hello("late"));
    peer.flush()?;
    let mut seen = 0;
    while seen < params {
        peer.poll(|frame| seen += params_in(frame))?;
        if start.elapsed() > GRACE {
            let message = format!("{seen} of {params} params came in {GRACE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
    Ok(start.elapsed())
}

/// How many params a frame tells, if it is a SNAPSHOT; the count behind its code is believed, so
/// that looking costs the measurement nothing.
fn params_in(frame: &[u8]) -> usize {
    let Ok(parsed) = clasp_rt_core::wire::header::parse(frame) else { return 0 };
    match parsed.payload {
        [code::SNAPSHOT, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// Somebody who joins, and when all is told, joins again.
struct Joiner<'a> {
    url: &'a str,
    params: usize,
    peer: Option<Peer>,
    seen: usize,
    joined: u64,
}

impl Joiner<'_> {
    /// Takes what has come; begins anew when that was all.
    fn poll(&mut self) -> io::Result<()> {
        let Some(peer) = &mut self.peer else {
            let mut peer = Peer::connect(self.url)?;
            peer.queue(&frames::hello("late"));
            peer.flush()?;
            self.peer = Some(peer);
            self.seen = 0;
            return Ok(());
        };
        let seen = &mut self.seen;
        peer.poll(|frame| *seen += params_in(frame))?;
        if *seen >= self.params {
            self.joined += 1;
            self.peer = None;
        }
        Ok(())
    }
}

/// The others: one publisher and one subscriber, who have been there before.
struct Hop {
    publisher: Peer,
    subscriber: Peer,
    message: Numbered,
}

impl Hop {
    fn open(url: &str) -> io::Result<Self> {
        let mut subscriber = Peer::connect(url)?;
        subscriber.join("bench subscriber")?;
        subscriber.subscribe(1, ADDRESS)?;
        let mut publisher = Peer::connect(url)?;
        publisher.join("bench publisher")?;
        let message = Numbered::new(Kind::Set, ADDRESS);
        let mut hop = Self { publisher, subscriber, message };
        // The param exists from here on.
        hop.run(&Schedule::jittered(RATE_HZ, Duration::from_millis(50), SEED), None)?;
        Ok(hop)
    }

    /// Sends what `schedule` says while `joiner` joins.
    fn run(
        &mut self,
        schedule: &Schedule,
        mut joiner: Option<&mut Joiner<'_>>,
    ) -> io::Result<Latency> {
        let mut latency = Latency::new();
        let mut sent = 0;
        let start = Instant::now() + Duration::from_millis(1);
        let mut last_progress = start;
        loop {
            let now = Instant::now();
            let next = schedule.due(start, sent);
            if next.is_some_and(|due| due <= now) {
                self.publisher.queue(self.message.frame(sent));
                self.publisher.flush()?;
                sent += 1;
                last_progress = now;
            }
            self.subscriber.poll(|frame| {
                let seen = Instant::now();
                let number = frames::number(frame);
                let Some(due) = number.and_then(|number| schedule.due(start, number)) else {
                    return;
                };
                latency.record_duration(seen.saturating_duration_since(due));
                last_progress = seen;
            })?;
            self.publisher.poll(|_| {})?;
            if let Some(joiner) = &mut joiner {
                joiner.poll()?;
            }
            let complete = latency.count() == schedule.len() as u64;
            if complete || (next.is_none() && now.saturating_duration_since(last_progress) > GRACE)
            {
                return Ok(latency);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Message, ParamValue};
    use clasp_rt_core::signal::Qos;
    use clasp_rt_core::value::Value;
    use clasp_rt_core::wire::binary;
    use clasp_rt_core::wire::list::Params;

    use super::*;

    #[test]
    fn the_params_of_a_snapshot_are_counted_and_nothing_else_is() {
        for count in [0, 1, 300] {
            let mut bytes = Vec::new();
            for n in 0..count {
                let address = format!("/a/{n}");
                let (value, revision) = (Value::NULL, 1);
                let param = ParamValue {
                    address: &address,
                    value,
                    revision,
                    writer: None,
                    timestamp_us: None,
                };
                Params::append(&mut bytes, param).unwrap();
            }
            let params = Params::from_bytes(&bytes).unwrap();
            let mut frame = Vec::new();
            binary::encode(&Message::Snapshot { params }, Qos::Fire, &mut frame).unwrap();
            assert_eq!(params_in(&frame), count);
        }
        assert_eq!(params_in(&frames::hello("x")), 0);
        assert_eq!(params_in(&[]), 0);
    }
}

//! A GO among streams: how long an event takes while more samples pass than its receiver can take.
//!
//! One thread sends the events, sends the samples and reads both, so that one clock sees all of it.
//! The number of a sample is its place in the schedule; what the router does not take in time is
//! skipped by the sender, as a sensor would, and the next sample is the newest again.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clasp_rt_perf::histogram::Latency;

use crate::commands::{RouterArgs, length};
use crate::frames::{self, Kind, Numbered};
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::peer::Peer;
use crate::report::{Figure, Report, Row};
use crate::router::Router;
use crate::suite::SEED;

const GO: &str = "/bench/lanes/go";

/// Addresses that samples are sent to, one after the other.
const STREAMS: u64 = 64;

/// Samples that one system call of the sender carries at most.
const BURST: u64 = 64;

/// Bytes that the sender keeps for the kernel before it skips samples.
const UNSENT_MAX: usize = 16 << 10;

/// How long nothing may arrive before everything counts as arrived.
const QUIET: Duration = Duration::from_millis(500);

/// How long the path is driven to learn what it carries.
const PROBE: Duration = Duration::from_millis(500);

/// More than any path carries.
const ALL_IT_TAKES: f64 = 1e8;

/// Receive buffer of the slow reader: what a small device has.
const SLOW_BUFFER_BYTES: usize = 16 << 10;

/// The arguments of `clasp-bench lanes`.
#[derive(clap::Args)]
pub struct Command {
    #[command(flatten)]
    router: RouterArgs,
    #[arg(long, default_value = "ws")]
    transport: String,
    /// GO events a second: so many that the p99.9 of a round is not its slowest alone.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Of each case and round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Results go to `DIR/<date>-<machine>/`, too.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

impl Command {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let (router, name) = self.router.open(places)?;
        let wish = Wish {
            scheme: self.router.scheme(&self.transport),
            go_hz: self.rate,
            length: length(self.seconds)?,
            rounds: self.rounds.max(1),
        };
        let (rows, figures) = machine::on_core(places.client, || measure(&router, wish))?;
        let report = Report { rows, figures, ..Report::new("GO among streams", places, name) };
        if let Some(results) = &self.results {
            report.keep(results, "lanes")?;
        }
        Ok(report)
    }
}

/// What is sent, and how it is read.
#[derive(Clone, Copy, Debug)]
struct Case {
    samples_hz: f64,
    /// Messages that the receiver reads a second; `None`: all that come.
    reads_hz: Option<f64>,
}

/// What one run showed.
#[derive(Clone, Debug, Default)]
struct Measured {
    go: Latency,
    go_sent: u64,
    go_arrived: u64,
    samples: Survivors,
    /// The most messages that were read between the instant of a GO and its arrival.
    behind: u64,
    seconds: f64,
}

/// Which samples came through.
#[derive(Clone, Debug, Default)]
struct Survivors {
    sent: u64,
    arrived: u64,
    /// Came after a newer one of their address.
    reordered: u64,
    newest_sent: Vec<Option<u64>>,
    newest_seen: Vec<Option<u64>>,
}

impl Survivors {
    fn sent(&mut self, number: u64) {
        self.sent += 1;
        note(&mut self.newest_sent, number);
    }

    fn seen(&mut self, number: u64) {
        self.arrived += 1;
        let before = note(&mut self.newest_seen, number);
        self.reordered += u64::from(before.is_some_and(|before| before > number));
    }

    /// Addresses whose newest sample did not arrive.
    fn stale(&self) -> usize {
        let seen = |at| self.newest_seen.get(at).copied().flatten();
        self.newest_sent.iter().enumerate().filter(|(at, sent)| seen(*at) != **sent).count()
    }
}

/// Keeps `number` as the newest of its address, and gives the one before it.
fn note(newest: &mut Vec<Option<u64>>, number: u64) -> Option<u64> {
    newest.resize(STREAMS as usize, None);
    newest[(number % STREAMS) as usize].replace(number)
}

#[derive(Debug)]
struct Stage {
    go: Peer,
    sensor: Peer,
    receiver: Peer,
    go_frame: Numbered,
    samples: Vec<Numbered>,
}

impl Stage {
    fn at(url: &str, slow: bool) -> io::Result<Self> {
        let mut receiver = Peer::connect(url)?;
        if slow {
            rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, SLOW_BUFFER_BYTES)?;
        }
        receiver.join("bench receiver")?;
        receiver.subscribe(1, "/bench/lanes/**")?;
        let (mut go, mut sensor) = (Peer::connect(url)?, Peer::connect(url)?);
        go.join("bench go")?;
        sensor.join("bench sensor")?;
        let sample = |n| Numbered::new(Kind::Stream, &format!("/bench/lanes/stream/{n}"));
        let samples = (0..STREAMS).map(sample).collect();
        Ok(Self { go, sensor, receiver, go_frame: Numbered::new(Kind::Event, GO), samples })
    }

    fn run(&mut self, schedule: &Schedule, length: Duration, case: Case) -> io::Result<Measured> {
        let mut measured = Measured::default();
        let start = Instant::now() + Duration::from_millis(1);
        let (mut next_sample, mut read, mut last_arrival) = (0, 0, start);
        let mut read_before_go = Vec::with_capacity(schedule.len());
        loop {
            let now = Instant::now();
            let elapsed = now.saturating_duration_since(start);
            if schedule.due(start, measured.go_sent).is_some_and(|due| due <= now) {
                read_before_go.push(read);
                self.go.queue(self.go_frame.frame(measured.go_sent));
                self.go.flush()?;
                measured.go_sent += 1;
            }
            let due = (elapsed.min(length).as_secs_f64() * case.samples_hz) as u64;
            if due > next_sample && self.sensor.unsent_bytes() < UNSENT_MAX {
                // The newest that are due; older ones that found no room are skipped.
                let first = next_sample.max(due.saturating_sub(BURST));
                for number in first..due {
                    let sample = &mut self.samples[(number % STREAMS) as usize];
                    self.sensor.queue(sample.frame(number));
                    measured.samples.sent(number);
                }
                next_sample = due;
            }
            self.sensor.flush()?;
            let sending = elapsed < length;
            let may_read = case.reads_hz.filter(|_| sending);
            if may_read.is_none_or(|hz| (read as f64) < elapsed.as_secs_f64() * hz) {
                self.receiver.poll(|frame| {
                    let Some(number) = frames::number(frame) else { return };
                    let seen = Instant::now();
                    (read, last_arrival) = (read + 1, seen);
                    if !frames::is_event(frame) {
                        return measured.samples.seen(number);
                    }
                    let Some(due) = schedule.due(start, number) else { return };
                    measured.go.record_duration(seen.saturating_duration_since(due));
                    measured.go_arrived += 1;
                    if let Some(before) = read_before_go.get(number as usize) {
                        measured.behind = measured.behind.max(read - before);
                    }
                })?;
            }
            self.go.poll(|_| {})?;
            self.sensor.poll(|_| {})?;
            let quiet = now.saturating_duration_since(last_arrival) > QUIET;
            if !sending && measured.go_sent == schedule.len() as u64 && quiet {
                measured.seconds = length.as_secs_f64();
                return Ok(measured);
            }
        }
    }
}

/// What is measured in each round.
#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    scheme: &'a str,
    go_hz: f64,
    /// Of each case and round.
    length: Duration,
    rounds: u32,
}

/// A GO alone, under ten times the samples that its way carries, and to a receiver that reads a
/// tenth of what is sent.
fn measure(router: &Router, wish: Wish<'_>) -> io::Result<(Vec<Row>, Vec<Figure>)> {
    let Wish { scheme, go_hz, length, rounds } = wish;
    let url = router.url(scheme)?;
    let row = |case: &str, what: &str| Row::new(format!("lanes/go/{case}"), what.to_owned());
    let mut alone = row("unloaded", "GO, no other traffic");
    let mut crowded = row("overload", "GO under 10 x the samples that its way carries");
    let mut slow = row("slow-reader", "GO to a receiver that reads a tenth of the samples");
    let figure = |key: &str, name: &str| Figure {
        key: format!("lanes/streams/{key}"),
        name: name.to_owned(),
        unit: "messages",
        rounds: Vec::new(),
        note: String::new(),
    };
    let mut delivered = figure("delivered", "samples delivered under overload");
    let mut dropped = figure("dropped", "samples due under overload and not delivered");
    for round in 0..rounds {
        let schedule = Schedule::jittered(go_hz, length, SEED + u64::from(round));
        let nothing = Schedule::recorded([], 1.0);
        let mut stage = Stage::at(url, false)?;
        let silence = Case { samples_hz: 0.0, reads_hz: None };
        let measured = stage.run(&schedule, length, silence)?;
        add(&mut alone, &measured);
        let probe = Case { samples_hz: ALL_IT_TAKES, reads_hz: None };
        let probed = stage.run(&nothing, PROBE, probe)?;
        let carried_hz = probed.samples.arrived as f64 / probed.seconds;
        let flood = Case { samples_hz: 10.0 * carried_hz, reads_hz: None };
        let measured = stage.run(&schedule, length, flood)?;
        add(&mut crowded, &measured);
        let Survivors { sent, arrived, reordered, .. } = measured.samples;
        delivered.rounds.push(arrived as f64);
        let offered = flood.samples_hz * measured.seconds;
        dropped.rounds.push((offered - arrived as f64).max(0.0));
        dropped.note = format!(
            "{:.0} skipped by the sender, whose socket was full; {} dropped by the router",
            (offered - sent as f64).max(0.0),
            sent.saturating_sub(arrived),
        );
        delivered.note = format!(
            "{:.0} offered a second, {carried_hz:.0} carried; {sent} taken; the newest of {} of \
             {STREAMS} addresses missing, {reordered} out of order",
            flood.samples_hz,
            measured.samples.stale(),
        );
        drop(stage);
        let reads_hz = carried_hz / 10.0;
        let crawl = Case { samples_hz: 10.0 * reads_hz, reads_hz: Some(reads_hz) };
        let mut stage = Stage::at(url, true)?;
        let measured = stage.run(&schedule, length, crawl)?;
        add(&mut slow, &measured);
        let Survivors { sent, arrived, reordered, .. } = measured.samples;
        slow.note = format!(
            "reads {reads_hz:.0} a second of {:.0}; at most {} messages came between a GO and its \
             arrival; {sent} samples sent, {arrived} delivered, the newest of {} of {STREAMS} \
             addresses missing, {reordered} out of order",
            crawl.samples_hz,
            measured.behind,
            measured.samples.stale(),
        );
    }
    let at = |row: &Row| row.latency.quantile_ns(0.999) as f64;
    crowded.note = format!("p99.9 is {:.2} x that without load", at(&crowded) / at(&alone));
    Ok((vec![alone, crowded, slow], vec![delivered, dropped]))
}

fn add(row: &mut Row, measured: &Measured) {
    row.round(&measured.go, None);
    row.sent += measured.go_sent;
    row.expected += measured.go_sent;
    row.arrived += measured.go_arrived;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_whose_newest_sample_is_missing_is_told() {
        let mut samples = Survivors::default();
        (0..3 * STREAMS).for_each(|number| samples.sent(number));
        assert_eq!(samples.stale(), STREAMS as usize);
        (2 * STREAMS..3 * STREAMS - 1).for_each(|number| samples.seen(number));
        assert_eq!((samples.stale(), samples.reordered), (1, 0));
        samples.seen(STREAMS);
        assert_eq!((samples.reordered, samples.arrived), (1, STREAMS));
    }
}

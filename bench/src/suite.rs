//! Runs of each kind with their floor, in the order and length that make them comparable.

use std::io;
use std::time::Duration;

use clasp_rt_perf::histogram::Latency;

use crate::fanout::{self, FanOut};
use crate::floor::Floor;
use crate::frames::Kind;
use crate::hop::{self, Path};
use crate::machine::Places;
use crate::pace::Schedule;
use crate::report::{Rate, Row};
use crate::router::Router;
use crate::throughput::Pipe;

/// Thrown away before every run: first touches, first wakes, congestion windows.
const WARM_UP: Duration = Duration::from_millis(200);

const SEED: u64 = 0xC1A5;

/// How much of everything a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// A few seconds in all: shows that everything works, not how fast.
    Small,
    /// The size of published numbers.
    Canonical,
}

/// One hop to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    pub scheme: &'a str,
    pub kind: Kind,
    pub rate_hz: f64,
    pub length: Duration,
    /// Floor and router take turns this often, so that a change of the machine hits both.
    pub rounds: u32,
}

pub fn hop(router: &Router, places: Places, hop: Hop<'_>) -> io::Result<Row> {
    let Hop { scheme, kind, rate_hz, length, rounds } = hop;
    let mut path = Path::through_router(router.url(scheme)?, kind)?;
    path.run(&Schedule::jittered(rate_hz, WARM_UP, SEED))?;
    let mut measured = hop::Measured::default();
    let mut floor = Latency::new();
    for round in 0..rounds {
        let schedule = Schedule::jittered(rate_hz, length / rounds, SEED + u64::from(round));
        floor.merge(&floor_beside(router, places, kind, &schedule)?.latency);
        measured.merge(&path.run(&schedule)?);
    }
    let lag_us = measured.send_lag.quantile_ns(0.99) as f64 / 1_000.0;
    let beside = if router.is_ours() { "" } else { ", router running beside its floor" };
    Ok(Row {
        name: format!("hop {scheme} {} {rate_hz:.0}/s", kind.name()),
        sent: measured.sent,
        expected: measured.sent,
        arrived: measured.arrived,
        reordered: measured.reordered,
        latency: measured.latency,
        floor: Some(floor),
        note: format!("sent late by {lag_us:.1} us at p99{beside}"),
    })
}

/// The floor on the router's core while the router stands still.
fn floor_beside(
    router: &Router,
    places: Places,
    kind: Kind,
    schedule: &Schedule,
) -> io::Result<hop::Measured> {
    router.pause();
    let measured = floor(places, kind, schedule);
    router.resume();
    measured
}

pub fn floor(places: Places, kind: Kind, schedule: &Schedule) -> io::Result<hop::Measured> {
    let floor = Floor::start(Some(places.router), 1)?;
    let mut path = Path::through_floor(&floor, kind)?;
    path.run(&Schedule::jittered(1_000.0, WARM_UP, SEED))?;
    path.run(schedule)
}

/// One fan-out to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Crowd<'a> {
    pub scheme: &'a str,
    pub subscribers: usize,
    pub rate_hz: f64,
    pub length: Duration,
}

/// Two rows: the latency of each copy, and of the last one.
pub fn fan_out(router: &Router, places: Places, crowd: Crowd<'_>) -> io::Result<[Row; 2]> {
    let Crowd { scheme, subscribers, rate_hz, length } = crowd;
    let schedule = Schedule::jittered(rate_hz, length, SEED);
    router.pause();
    let floor = floor_fan_out(places, subscribers, &schedule);
    router.resume();
    let floor = floor?;
    let mut fan = FanOut::through_router(router.url(scheme)?, subscribers, Kind::Set)?;
    fan.run(&Schedule::jittered(rate_hz, WARM_UP, SEED))?;
    let measured = fan.run(&schedule)?;
    let row = |what: &str, latency: Latency, floor: Latency, expected: u64, arrived: u64| Row {
        name: format!("fan-out {scheme} to {subscribers} at {rate_hz:.0}/s, {what}"),
        sent: measured.sent,
        expected,
        arrived,
        reordered: 0,
        latency,
        floor: Some(floor),
        note: String::new(),
    };
    let (sent, complete, arrived) = (measured.sent, measured.last.count(), measured.arrived);
    Ok([
        row("each", measured.each, floor.each, measured.expected, arrived),
        row("last", measured.last, floor.last, sent, complete),
    ])
}

fn floor_fan_out(
    places: Places,
    subscribers: usize,
    schedule: &Schedule,
) -> io::Result<fanout::Measured> {
    let floor = Floor::start(Some(places.router), subscribers)?;
    FanOut::through_floor(&floor, subscribers, Kind::Set)?.run(schedule)
}

pub fn throughput(
    router: &Router,
    places: Places,
    scheme: &str,
    kind: Kind,
    length: Duration,
) -> io::Result<Rate> {
    router.pause();
    let floor = floor_throughput(places, kind, length);
    router.resume();
    let mut pipe = Pipe::through_router(router.url(scheme)?, kind)?;
    let measured = pipe.run(length)?;
    Ok(Rate {
        name: format!("throughput {scheme} {}", kind.name()),
        per_second: measured.per_second(),
        floor_per_second: Some(floor?),
        messages: measured.messages,
        breaks: measured.breaks,
    })
}

fn floor_throughput(places: Places, kind: Kind, length: Duration) -> io::Result<f64> {
    let floor = Floor::start(Some(places.router), 1)?;
    Ok(Pipe::through_floor(&floor, kind)?.run(length)?.per_second())
}

impl Size {
    fn length(self) -> Duration {
        match self {
            Self::Small => Duration::from_millis(500),
            Self::Canonical => Duration::from_secs(6),
        }
    }

    fn rounds(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Canonical => 4,
        }
    }

    /// Subscribers, and rates at which a send of 3 to 5 us a socket fills at most half of a core.
    fn crowds(self) -> &'static [(usize, f64)] {
        match self {
            Self::Small => &[(10, 50.0)],
            Self::Canonical => &[(10, 500.0), (100, 200.0), (1_000, 20.0)],
        }
    }
}

/// Everything, over the transports that `schemes` names.
pub fn all(
    router: &Router,
    places: Places,
    schemes: &[&str],
    size: Size,
) -> io::Result<(Vec<Row>, Vec<Rate>)> {
    let (mut rows, mut rates) = (Vec::new(), Vec::new());
    for scheme in schemes {
        rows.extend(hops(router, places, scheme, size)?);
        rates.push(throughput(router, places, scheme, Kind::Event, size.length() / 4)?);
    }
    for (subscribers, rate_hz) in size.crowds() {
        let (subscribers, rate_hz) = (*subscribers, *rate_hz);
        let length = size.length() / 2;
        let crowd = Crowd { scheme: schemes[0], subscribers, rate_hz, length };
        rows.extend(fan_out(router, places, crowd)?);
    }
    Ok((rows, rates))
}

/// One hop, of params and events, at an easy and at a brisk rate.
pub fn hops(router: &Router, places: Places, scheme: &str, size: Size) -> io::Result<Vec<Row>> {
    let (length, rounds) = (size.length(), size.rounds());
    let runs = [(Kind::Set, 1_000.0), (Kind::Event, 1_000.0), (Kind::Set, 10_000.0)];
    let hops =
        runs.into_iter().map(|(kind, rate_hz)| Hop { scheme, kind, rate_hz, length, rounds });
    hops.map(|run| hop(router, places, run)).collect()
}

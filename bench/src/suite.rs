//! Runs of each kind with their floor, in the order and length that make them comparable.

use std::io;
use std::time::Duration;

use clasp_rt_perf::histogram::Latency;

use crate::connection::Path;
use crate::fanout::{self, FanOut};
use crate::floor::Floor;
use crate::frames::Kind;
use crate::hop;
use crate::machine::Places;
use crate::pace::Schedule;
use crate::report::{Rate, RateRound, Row};
use crate::router::Router;
use crate::throughput;

/// Thrown away before every run: first touches, first wakes, congestion windows.
pub const WARM_UP: Duration = Duration::from_millis(200);

/// Of the schedules: the same in every run, another in each of its rounds.
pub const SEED: u64 = 0xC1A5;

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
    /// What the router does while nothing arrives: `spin`, `nohalt`; `unknown` if not started here.
    pub idle: &'a str,
}

pub fn hop(router: &Router, places: Places, hop: Hop<'_>) -> io::Result<Row> {
    let Hop { scheme, kind, rate_hz, length, rounds, idle } = hop;
    let mut path = Path::through_router(router.url(scheme)?, &hop::message(kind))?;
    hop::run(&mut path, &Schedule::jittered(rate_hz, WARM_UP, SEED))?;
    let name = format!("hop {scheme} {} {rate_hz:.0}/s, {idle}", kind.name());
    let key = format!("hop/{scheme}/{}/{rate_hz:.0}/{idle}", kind.name());
    let mut row = Row::new(key, name);
    let mut send_lag = Latency::new();
    for round in 0..rounds {
        let schedule = Schedule::jittered(rate_hz, length / rounds, SEED + u64::from(round));
        let floor = floor_beside(router, places, kind, &schedule)?;
        let measured = hop::run(&mut path, &schedule)?;
        measured.add_to(&mut row, Some(&floor.latency));
        send_lag.merge(&measured.send_lag);
    }
    let lag_us = send_lag.quantile_ns(0.99) as f64 / 1_000.0;
    let beside = if router.is_ours() { "" } else { ", router running beside its floor" };
    row.note = format!("sent late by {lag_us:.1} us at p99{beside}");
    Ok(row)
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
    let mut path = Path::through_floor(&floor, &hop::message(kind))?;
    hop::run(&mut path, &Schedule::jittered(1_000.0, WARM_UP, SEED))?;
    hop::run(&mut path, schedule)
}

/// One fan-out to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Crowd<'a> {
    pub scheme: &'a str,
    pub subscribers: usize,
    pub rate_hz: f64,
    /// Of all rounds together.
    pub length: Duration,
    pub rounds: u32,
}

/// Two rows: the latency of each copy, and of the last one.
pub fn fan_out(router: &Router, places: Places, crowd: Crowd<'_>) -> io::Result<[Row; 2]> {
    let Crowd { scheme, subscribers, rate_hz, length, rounds } = crowd;
    let row = |what: &str| {
        let name = format!("fan-out {scheme} to {subscribers} at {rate_hz:.0}/s, {what}");
        Row::new(format!("fanout/{subscribers}/{what}"), name)
    };
    let (mut each, mut last) = (row("each"), row("last"));
    let message = fanout::message(Kind::Set);
    let mut fan = FanOut::through_router(router.url(scheme)?, subscribers, &message)?;
    fan.run(&Schedule::jittered(rate_hz, WARM_UP, SEED))?;
    for round in 0..rounds {
        let schedule = Schedule::jittered(rate_hz, length / rounds, SEED + u64::from(round));
        router.pause();
        let floor = floor_fan_out(places, subscribers, &schedule);
        router.resume();
        let floor = floor?;
        let measured = fan.run(&schedule)?;
        each.round(&measured.each, Some(&floor.each));
        last.round(&measured.last, Some(&floor.last));
        each.sent += measured.sent;
        each.expected += measured.expected;
        each.arrived += measured.arrived;
        last.sent += measured.sent;
        last.expected += measured.sent;
        last.arrived += measured.last.count();
    }
    Ok([each, last])
}

fn floor_fan_out(
    places: Places,
    subscribers: usize,
    schedule: &Schedule,
) -> io::Result<fanout::Measured> {
    let floor = Floor::start(Some(places.router), subscribers)?;
    FanOut::through_floor(&floor, subscribers, &fanout::message(Kind::Set))?.run(schedule)
}

/// Rounds of `length` each, floor and router in turns.
pub fn throughput(
    router: &Router,
    places: Places,
    scheme: &str,
    kind: Kind,
    length: Duration,
    rounds: u32,
) -> io::Result<Rate> {
    let key = format!("throughput/{scheme}/{}", kind.name());
    let mut rate = Rate::new(key, format!("throughput {scheme} {}", kind.name()));
    let mut path = Path::through_router(router.url(scheme)?, &throughput::message(kind))?;
    for _ in 0..rounds {
        router.pause();
        let floor = floor_throughput(places, kind, length);
        router.resume();
        let floor = floor?;
        let measured = throughput::run(&mut path, length)?;
        rate.rounds.push(RateRound { floor_per_second: Some(floor), ..measured.round() });
    }
    Ok(rate)
}

fn floor_throughput(places: Places, kind: Kind, length: Duration) -> io::Result<f64> {
    let floor = Floor::start(Some(places.router), 1)?;
    let mut path = Path::through_floor(&floor, &throughput::message(kind))?;
    Ok(throughput::run(&mut path, length)?.per_second())
}

impl Size {
    /// Of one row, all rounds together.
    pub fn length(self) -> Duration {
        match self {
            Self::Small => Duration::from_millis(500),
            Self::Canonical => Duration::from_secs(7),
        }
    }

    pub fn rounds(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Canonical => 5,
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
    idle: &str,
    size: Size,
) -> io::Result<(Vec<Row>, Vec<Rate>)> {
    let (mut rows, mut rates) = (Vec::new(), Vec::new());
    let (length, rounds) = (size.length(), size.rounds());
    for scheme in schemes {
        rows.extend(hops(router, places, scheme, idle, size)?);
        rates.push(throughput(router, places, scheme, Kind::Event, length / 14, rounds)?);
    }
    for (subscribers, rate_hz) in size.crowds() {
        let (subscribers, rate_hz) = (*subscribers, *rate_hz);
        let crowd = Crowd { scheme: schemes[0], subscribers, rate_hz, length, rounds };
        rows.extend(fan_out(router, places, crowd)?);
    }
    Ok((rows, rates))
}

/// One hop, of params and events, at an easy and at a brisk rate.
fn hops(
    router: &Router,
    places: Places,
    scheme: &str,
    idle: &str,
    size: Size,
) -> io::Result<Vec<Row>> {
    let (length, rounds) = (size.length(), size.rounds());
    let runs = [(Kind::Set, 1_000.0), (Kind::Event, 1_000.0), (Kind::Set, 10_000.0)];
    let hops =
        runs.into_iter().map(|(kind, rate_hz)| Hop { scheme, kind, rate_hz, length, rounds, idle });
    hops.map(|run| hop(router, places, run)).collect()
}

/// The hop that shows what waiting costs: params at an easy rate, WebSocket.
pub fn easy_hop(router: &Router, places: Places, idle: &str, size: Size) -> io::Result<Row> {
    let (length, rounds) = (size.length(), size.rounds());
    let run = Hop { scheme: "ws", kind: Kind::Set, rate_hz: 1_000.0, length, rounds, idle };
    hop(router, places, run)
}

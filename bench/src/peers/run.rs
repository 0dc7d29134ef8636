//! Workloads through all routers in turn: round by round, one router at a time, nothing beside it.
//!
//! A router is started for each of its turns and ends with it, so that none is slowed down by
//! another that waits, or quickened by one that keeps the cores awake.

use std::io;

use super::launch::{Installed, PROGRAMS};
use super::workload::{Contender, Load, Workload};
use crate::connection::Path;
use crate::fanout::{self, FanOut};
use crate::floor::Floor;
use crate::frames::Message;
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::report::{Rate, RateRound, Row};
use crate::suite::{SEED, WARM_UP};
use crate::{ack, hop, stream, throughput};

/// A sweep ends where the slowest in a hundred waits this long.
const SATURATED_NS: u64 = 10_000_000;

/// Long enough for a pattern, short enough to stay a control message of 40 bytes.
const ADDRESS: &str = "/bench/peers/fader/1/level";

const PATTERN: &str = "/bench/peers/**";

/// What a comparison is made with.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub installed: Installed,
    pub places: Places,
    /// Only these routers (the floor always); empty: all.
    pub only: Vec<String>,
}

/// What came out, in the order of the workloads.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    pub rows: Vec<Row>,
    pub rates: Vec<Rate>,
    /// What each router says of itself.
    pub versions: Vec<String>,
    /// Who was not measured, or not to the end, and why.
    pub missing: Vec<String>,
}

/// The measurements of one router in one workload, growing by rounds.
#[derive(Debug)]
struct Entry {
    name: String,
    contender: Contender,
    rows: Vec<Row>,
    rates: Vec<Rate>,
}

/// What a turn is given beside the router.
struct Turn<'a> {
    workload: &'a Workload,
    round: u32,
    message: Message<'a>,
}

/// What the bytes of a turn go through.
enum Way<'a> {
    Router(&'a str),
    Floor(Floor),
}

impl Comparison {
    /// Runs all of `workloads`; `progress` is told what is measured, and what cannot be.
    pub fn run(
        &self,
        workloads: &[Workload],
        mut progress: impl FnMut(&str),
    ) -> io::Result<Compared> {
        let mut compared = Compared::default();
        for name in &self.only {
            if Contender::named(name).is_none() {
                let known = PROGRAMS.map(|(name, _)| name).join(", ");
                let message = format!("`{name}` is none of floor, {known}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        for (name, program) in PROGRAMS {
            if !self.wants(name) || !workloads.iter().any(|workload| workload.has(name)) {
                continue;
            }
            match self.installed.version(program) {
                Ok(version) if compared.versions.contains(&version) => {}
                Ok(version) => compared.versions.push(version),
                Err(why) => {
                    progress(&why.to_string());
                    compared.missing.push(format!("{name}: {why}"));
                }
            }
        }
        for workload in workloads {
            self.workload(workload, &mut compared, &mut progress)?;
        }
        Ok(compared)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || name == "floor" || self.only.iter().any(|only| only == name)
    }

    fn workload(
        &self,
        workload: &Workload,
        compared: &mut Compared,
        progress: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        let mut entries: Vec<Entry> = Vec::new();
        for (name, contender) in &workload.contenders {
            let installed = match contender {
                Contender::Floor => true,
                Contender::Program(program) => self.installed.find(*program).is_ok(),
            };
            if installed && self.wants(name) {
                entries.push(Entry::new(name, *contender));
            }
        }
        for round in 0..workload.rounds {
            let of = format!("{}, round {} of {}", workload.title(), round + 1, workload.rounds);
            progress(&of);
            // One that fails leaves the others to go on, and no half row behind.
            entries.retain_mut(|entry| {
                let done = self.turn(entry, &Turn { workload, round, message: workload.message() });
                if let Err(why) = &done {
                    let what = format!("{}: {}: {why}", workload.title(), entry.name);
                    progress(&what);
                    compared.missing.push(what);
                }
                done.is_ok()
            });
        }
        for entry in entries {
            compared.rows.extend(entry.rows);
            compared.rates.extend(entry.rates);
        }
        Ok(())
    }

    /// One router, from its start to its end.
    fn turn(&self, entry: &mut Entry, turn: &Turn<'_>) -> io::Result<()> {
        // Started from here, where all cores are allowed: ours places itself.
        let running = match entry.contender {
            Contender::Floor => None,
            Contender::Program(program) => Some(self.installed.start(program, self.places)?),
        };
        machine::on_core(self.places.client, || {
            let way = match &running {
                Some(running) => Way::Router(running.url()),
                None => Way::Floor(turn.floor(self.places)?),
            };
            entry.measure(&way, turn)
        })
    }
}

impl Entry {
    fn new(name: &str, contender: Contender) -> Self {
        let (rows, rates) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), contender, rows, rates }
    }

    fn measure(&mut self, way: &Way<'_>, turn: &Turn<'_>) -> io::Result<()> {
        match turn.workload.load {
            Load::Hop { rate_hz } => self.hop(way, turn, rate_hz),
            Load::Throughput => self.throughput(way, turn),
            Load::FanOut { rate_hz, subscribers } => self.fan_out(way, turn, rate_hz, subscribers),
            Load::StreamFanOut { rate_hz: None, subscribers } => {
                self.stream_capacity(way, turn, subscribers)
            }
            Load::StreamFanOut { rate_hz: Some(rate_hz), subscribers } => {
                self.stream_at(way, turn, rate_hz, subscribers)
            }
            Load::Ack { rate_hz } => self.ack(way, turn, rate_hz),
            Load::Sweep { rate_hz, rate_hz_max } => self.sweep(way, turn, rate_hz, rate_hz_max),
        }
    }

    fn hop(&mut self, way: &Way<'_>, turn: &Turn<'_>, hz: f64) -> io::Result<()> {
        let measured = way.hop(turn, hz)?;
        add_hop(self.row(&format!("hop/{hz:.0}"), &format!("hop {hz:.0}/s")), &measured);
        Ok(())
    }

    fn ack(&mut self, way: &Way<'_>, turn: &Turn<'_>, hz: f64) -> io::Result<()> {
        let key = format!("ack/{hz:.0}");
        let Way::Router(url) = way else {
            // A relay acknowledges nothing: its hop takes the same way, there and back.
            let measured = way.hop(turn, hz)?;
            add_hop(self.row(&key, &format!("hop in place of an ACK {hz:.0}/s")), &measured);
            return Ok(());
        };
        let measured = ack::run(url, &turn.message, &turn.schedule(hz))?;
        let row = self.row(&key, &format!("ACK on one connection {hz:.0}/s"));
        row.round(&measured.latency, None);
        row.sent += measured.sent;
        row.expected += measured.sent;
        row.arrived += measured.arrived;
        Ok(())
    }

    fn throughput(&mut self, way: &Way<'_>, turn: &Turn<'_>) -> io::Result<()> {
        let mut path = way.path(turn)?;
        throughput::run(&mut path, WARM_UP)?;
        let measured = throughput::run(&mut path, turn.workload.length)?;
        self.rate("throughput", "throughput").rounds.push(measured.round());
        Ok(())
    }

    fn fan_out(
        &mut self,
        way: &Way<'_>,
        turn: &Turn<'_>,
        hz: f64,
        subscribers: usize,
    ) -> io::Result<()> {
        let mut fan = way.fan(turn, subscribers)?;
        fan.run(&Schedule::jittered(hz, WARM_UP, SEED))?;
        let measured = fan.run(&turn.schedule(hz))?;
        let fanout::Measured { each, last, sent, expected, arrived, .. } = measured;
        for (what, latency, expected, arrived) in
            [("each", &each, expected, arrived), ("last", &last, sent, last.count())]
        {
            let key = format!("fanout/{subscribers}/{what}");
            let row = self.row(&key, &format!("fan-out to {subscribers} at {hz:.0}/s, {what}"));
            row.round(latency, None);
            row.sent += sent;
            row.expected += expected;
            row.arrived += arrived;
        }
        Ok(())
    }

    /// As many deliveries a second as all subscribers take.
    fn stream_capacity(
        &mut self,
        way: &Way<'_>,
        turn: &Turn<'_>,
        subscribers: usize,
    ) -> io::Result<()> {
        let mut fan = way.fan(turn, subscribers)?;
        stream::run(&mut fan, WARM_UP)?;
        let measured = stream::run(&mut fan, turn.workload.length)?;
        let name = format!("stream to {subscribers}, as much as all take, deliveries");
        self.rate(&format!("stream-fanout/{subscribers}"), &name).rounds.push(RateRound {
            per_second: measured.per_second(),
            floor_per_second: None,
            messages: measured.deliveries,
            breaks: measured.breaks,
        });
        Ok(())
    }

    /// Deliveries and their latency at a rate that does not ask whether they are taken.
    fn stream_at(
        &mut self,
        way: &Way<'_>,
        turn: &Turn<'_>,
        hz: f64,
        subscribers: usize,
    ) -> io::Result<()> {
        let mut fan = way.fan(turn, subscribers)?;
        stream::run(&mut fan, WARM_UP)?;
        let measured = fan.run(&turn.schedule(hz))?;
        let key = format!("stream-fanout/{subscribers}/{hz:.0}");
        let name = format!("stream to {subscribers} at {hz:.0}/s");
        let row = self.row(&key, &name);
        row.round(&measured.each, None);
        row.sent += measured.sent;
        row.expected += measured.expected;
        row.arrived += measured.arrived;
        let rate = self.rate(&format!("{key}/deliveries"), &format!("{name}, deliveries"));
        rate.rounds.push(RateRound {
            per_second: measured.arrived as f64 / measured.seconds,
            floor_per_second: None,
            messages: measured.arrived,
            breaks: measured.expected.saturating_sub(measured.arrived),
        });
        Ok(())
    }

    /// Doubles the rate until messages are lost or wait too long, twice: each rate is a row, and a
    /// stall of the machine must not pass for the router's limit.
    fn sweep(&mut self, way: &Way<'_>, turn: &Turn<'_>, hz: f64, hz_max: f64) -> io::Result<()> {
        let mut path = way.path(turn)?;
        hop::run(&mut path, &Schedule::jittered(hz, WARM_UP, SEED))?;
        let mut hz = hz;
        let mut saturated = false;
        while hz <= hz_max {
            let measured = hop::run(&mut path, &turn.schedule(hz));
            let row = self.row(&format!("sweep/{hz:.0}"), &format!("sweep {hz:.0}/s"));
            let measured = match measured {
                Ok(measured) => measured,
                // A router may well end a connection that wants too much of it.
                Err(why) => {
                    row.note = format!("ended: {why}");
                    break;
                }
            };
            add_hop(row, &measured);
            let waits = measured.latency.quantile_ns(0.99) > SATURATED_NS;
            if !waits && measured.arrived == measured.sent {
                saturated = false;
                hz *= 2.0;
            } else if saturated {
                row.note = format!("saturated; {}", row.note);
                break;
            } else {
                saturated = true;
            }
        }
        Ok(())
    }

    fn row(&mut self, key: &str, name: &str) -> &mut Row {
        let key = format!("peer/{}/{key}", self.name);
        let index = self.rows.iter().position(|row| row.key == key).unwrap_or_else(|| {
            self.rows.push(Row::new(key, format!("{name}, {}", self.name)));
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    fn rate(&mut self, key: &str, name: &str) -> &mut Rate {
        let key = format!("peer/{}/{key}", self.name);
        let index = self.rates.iter().position(|rate| rate.key == key).unwrap_or_else(|| {
            self.rates.push(Rate::new(key, format!("{name}, {}", self.name)));
            self.rates.len() - 1
        });
        &mut self.rates[index]
    }
}

impl Turn<'_> {
    fn schedule(&self, hz: f64) -> Schedule {
        Schedule::jittered(hz, self.workload.length, SEED + u64::from(self.round))
    }

    /// The relay on the router's core, where no router runs.
    fn floor(&self, places: Places) -> io::Result<Floor> {
        let told = self.workload.load.subscribers().unwrap_or(1);
        match self.workload.load {
            Load::StreamFanOut { .. } => {
                Floor::start_message_by_message(Some(places.router), told, &self.message)
            }
            _ => Floor::start(Some(places.router), told),
        }
    }
}

impl Way<'_> {
    fn path(&self, turn: &Turn<'_>) -> io::Result<Path> {
        match self {
            Self::Router(url) => Path::through_router(url, &turn.message),
            Self::Floor(floor) => Path::through_floor(floor, &turn.message),
        }
    }

    fn hop(&self, turn: &Turn<'_>, hz: f64) -> io::Result<hop::Measured> {
        let mut path = self.path(turn)?;
        hop::run(&mut path, &Schedule::jittered(hz, WARM_UP, SEED))?;
        hop::run(&mut path, &turn.schedule(hz))
    }

    fn fan(&self, turn: &Turn<'_>, subscribers: usize) -> io::Result<FanOut> {
        match self {
            Self::Router(url) => FanOut::through_router(url, subscribers, &turn.message),
            Self::Floor(floor) => FanOut::through_floor(floor, subscribers, &turn.message),
        }
    }
}

impl Workload {
    fn has(&self, name: &str) -> bool {
        self.contenders.iter().any(|(contender, _)| contender == name)
    }

    fn message(&self) -> Message<'static> {
        // A crowd subscribes to a branch, as lamps do; one receiver to what it waits for.
        let pattern = if self.load.subscribers().is_some() { PATTERN } else { ADDRESS };
        Message { kind: self.message, address: ADDRESS, pattern, bytes: self.value_bytes }
    }

    fn title(&self) -> String {
        match self.load {
            Load::Hop { rate_hz } => format!("hop at {rate_hz:.0}/s"),
            Load::Throughput => "throughput".to_owned(),
            Load::FanOut { subscribers, .. } => format!("fan-out to {subscribers}"),
            Load::StreamFanOut { rate_hz: None, subscribers } => {
                format!("stream to {subscribers}")
            }
            Load::StreamFanOut { rate_hz: Some(hz), subscribers } => {
                format!("stream to {subscribers} at {hz:.0}/s")
            }
            Load::Ack { rate_hz } => format!("ACK at {rate_hz:.0}/s"),
            Load::Sweep { .. } => "sweep".to_owned(),
        }
    }
}

fn add_hop(row: &mut Row, measured: &hop::Measured) {
    measured.add_to(row, None);
    let lag_us = measured.send_lag.quantile_ns(0.99) as f64 / 1_000.0;
    row.note = format!("sent late by {lag_us:.1} us at p99");
}

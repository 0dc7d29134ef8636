//! What can be typed for a run of one kind, or for all of them: which router, how much of what.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::frames::Kind;
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::report::{Report, Row};
use crate::router::{Idle, Router, Source};
use crate::suite::{self, Crowd, Size};

/// The router that is measured.
#[derive(Args)]
pub struct RouterArgs {
    /// A router that already runs: `ws://HOST:PORT` or `tcp://HOST:PORT`; `mqtt://` and `nats://`
    /// measure other routers.
    #[arg(long, value_name = "URL", required_unless_present = "spawn")]
    router: Option<String>,
    /// A router to start for this run; it must print `listening URL` lines.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "router")]
    spawn: Option<PathBuf>,
    /// Its arguments, after `--`; without any: one shard that spins on the router's core, free
    /// ports.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Args)]
pub struct Hop {
    #[command(flatten)]
    router: RouterArgs,
    /// `ws` or `tcp`; with `--router` the scheme of the URL counts.
    #[arg(long, default_value = "ws")]
    transport: String,
    #[arg(long, value_enum, default_value = "set")]
    kind: Kind,
    /// Messages a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often floor and router take turns.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
}

#[derive(Args)]
pub struct Fanout {
    #[command(flatten)]
    router: RouterArgs,
    #[arg(long, default_value = "ws")]
    transport: String,
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Args)]
pub struct Throughput {
    #[command(flatten)]
    router: RouterArgs,
    #[arg(long, default_value = "ws")]
    transport: String,
    #[arg(long, value_enum, default_value = "event")]
    kind: Kind,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Args)]
pub struct Floor {
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Args)]
pub struct Suite {
    #[command(flatten)]
    router: RouterArgs,
    #[arg(long, value_enum, default_value = "canonical")]
    size: Size,
    /// Results go to `DIR/<date>-<machine>/`.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
}

impl RouterArgs {
    /// The router of the command line, and its name in reports.
    pub fn open(&self, places: Places) -> io::Result<(Router, String)> {
        let (source, name) = match (&self.router, &self.spawn) {
            (Some(url), _) => (Source::Running(url.clone()), url.clone()),
            (None, Some(program)) => {
                let file = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
                let arguments = self.arguments.clone();
                let name = format!("{file} {}", arguments.join(" "));
                (Source::Spawned { program: program.clone(), arguments }, name)
            }
            (None, None) => return Err(io::Error::other("say --router URL or --spawn PROGRAM")),
        };
        let router = Router::open(&source, places)?;
        Ok((router, name.trim_end().to_owned()))
    }

    /// `transport`, or that of a router that runs already.
    pub fn scheme<'a>(&'a self, transport: &'a str) -> &'a str {
        let url = self.router.as_deref();
        url.and_then(|url| url.split_once("://")).map_or(transport, |(scheme, _)| scheme)
    }

    /// What the router does while nothing arrives, where we know: see [`Router::open`].
    fn idle(&self) -> &'static str {
        let ours = self.spawn.is_some() && self.arguments.is_empty();
        if ours { Idle::Spin.name() } else { "unknown" }
    }
}

/// `--seconds` as they are typed.
pub fn length(seconds: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

impl Hop {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let (router, name) = self.router.open(places)?;
        let hop = suite::Hop {
            scheme: self.router.scheme(&self.transport),
            kind: self.kind,
            rate_hz: self.rate,
            length: length(self.seconds)?,
            rounds: self.rounds.max(1),
            idle: self.router.idle(),
        };
        let row = machine::on_core(places.client, || suite::hop(&router, places, hop))?;
        Ok(Report { rows: vec![row], ..Report::new("One hop", places, name) })
    }
}

impl Fanout {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let (router, name) = self.router.open(places)?;
        let crowd = Crowd {
            scheme: self.router.scheme(&self.transport),
            subscribers: self.subscribers,
            rate_hz: self.rate,
            length: length(self.seconds)?,
            rounds: 1,
        };
        let rows = machine::on_core(places.client, || suite::fan_out(&router, places, crowd))?;
        Ok(Report { rows: rows.into(), ..Report::new("Fan-out", places, name) })
    }
}

impl Throughput {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let (router, name) = self.router.open(places)?;
        let (scheme, length) = (self.router.scheme(&self.transport), length(self.seconds)?);
        let rate = machine::on_core(places.client, || {
            suite::throughput(&router, places, scheme, self.kind, length, 1)
        })?;
        Ok(Report { rates: vec![rate], ..Report::new("Throughput", places, name) })
    }
}

impl Floor {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let rate = self.rate;
        let schedule = Schedule::jittered(rate, length(self.seconds)?, 1);
        let measured =
            machine::on_core(places.client, || suite::floor(places, Kind::Set, &schedule))?;
        let key = format!("peer/floor/hop/{rate:.0}");
        let mut row = Row::new(key, format!("floor tcp {rate:.0}/s"));
        measured.add_to(&mut row, None);
        Ok(Report { rows: vec![row], ..Report::new("Floor", places, "none") })
    }
}

impl Suite {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let Self { router: arguments, size, results } = self;
        let (router, name) = arguments.open(places)?;
        let schemes = match &arguments.router {
            Some(_) => vec![arguments.scheme("ws")],
            None => vec!["ws", "tcp"],
        };
        let (mut rows, rates) = machine::on_core(places.client, || {
            suite::all(&router, places, &schemes, arguments.idle(), *size)
        })?;
        drop(router);
        if let (Some(program), []) = (&arguments.spawn, arguments.arguments.as_slice()) {
            // The same hop where the core is shared with others, as on a desk's own computer.
            let router = Router::open_idling(program, places, Idle::NoHalt)?;
            let hop = || suite::easy_hop(&router, places, Idle::NoHalt.name(), *size);
            rows.push(machine::on_core(places.client, hop)?);
        }
        let title = "clasp-rt, measured from outside";
        let report = Report { rows, rates, ..Report::new(title, places, name) };
        report.keep(results, "suite")?;
        Ok(report)
    }
}

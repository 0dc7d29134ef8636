//! What counting costs: the same path through a router with histograms and through one without.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection::Path;
use crate::frames::Kind;
use crate::machine::{self, Places};
use crate::report::{Rate, Report};
use crate::router::{Idle, Router};
use crate::suite::{Size, WARM_UP};
use crate::throughput::{self, Measured};

/// Pairs of routers, rounds of each, and how long each half of a side lasts. What is looked for is
/// smaller than what a shared machine does to one round, and than the 2 % or more by which two
/// processes of one program may differ for as long as they run: so there are many of both.
fn extent(size: Size) -> (u32, u32, Duration) {
    match size {
        Size::Small => (1, 1, Duration::from_millis(125)),
        Size::Canonical => (9, 5, Duration::from_millis(160)),
    }
}

/// The arguments of `clasp-bench overhead`.
#[derive(clap::Args)]
pub struct Command {
    /// The router to start twice.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    #[arg(long, value_enum, default_value = "event")]
    kind: Kind,
    #[arg(long, value_enum, default_value = "canonical")]
    size: Size,
    /// Results go to `DIR/<date>-<machine>/`.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
}

impl Command {
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let Self { spawn, kind, size, results } = self;
        let mut rates = ["on", "off"].map(|histograms| {
            let name = format!("throughput, histograms {histograms}");
            Rate::new(format!("histograms/{histograms}"), name)
        });
        let (pairs, rounds, length) = extent(*size);
        for _ in 0..pairs {
            let routers = [open(spawn, places, "on")?, open(spawn, places, "off")?];
            let measure = || pair(routers, *kind, (rounds, length), &mut rates);
            machine::on_core(places.client, measure)?;
        }
        let router = spawn.display().to_string();
        let report =
            Report { rates: rates.into(), ..Report::new("What histograms cost", places, router) };
        report.keep(results, "overhead")?;
        Ok(report)
    }
}

/// A router of each kind and a path through it. Only one of the two runs at a time.
struct Side {
    router: Router,
    path: Path,
}

/// Before this thread keeps to its core, because a program keeps to that of who starts it.
fn open(program: &std::path::Path, places: Places, histograms: &str) -> io::Result<Router> {
    Router::open_with(program, places, Idle::Spin, &["--histograms", histograms])
}

impl Side {
    fn of(router: Router, kind: Kind) -> io::Result<Self> {
        let path = Path::through_router(router.url("ws")?, &throughput::message(kind))?;
        router.pause();
        Ok(Self { router, path })
    }

    fn run(&mut self, length: Duration) -> io::Result<Measured> {
        self.router.resume();
        let measured = throughput::run(&mut self.path, length);
        self.router.pause();
        measured
    }
}

/// Adds the rates with and without; round for round they are measured side by side.
fn pair(
    routers: [Router; 2],
    kind: Kind,
    (rounds, length): (u32, Duration),
    rates: &mut [Rate; 2],
) -> io::Result<()> {
    let [on, off] = routers;
    let mut sides = [Side::of(on, kind)?, Side::of(off, kind)?];
    for side in &mut sides {
        side.run(WARM_UP)?;
    }
    for _ in 0..rounds {
        // On, off, off, on: a machine that grows slower or quicker does so for both.
        let mut halves = [Vec::new(), Vec::new()];
        for side in [0, 1, 1, 0] {
            halves[side].push(sides[side].run(length)?);
        }
        for (rate, halves) in rates.iter_mut().zip(halves) {
            let both = Measured {
                messages: halves.iter().map(|half| half.messages).sum(),
                seconds: halves.iter().map(|half| half.seconds).sum(),
                breaks: halves.iter().map(|half| half.breaks).sum(),
            };
            rate.rounds.push(both.round());
        }
    }
    Ok(())
}

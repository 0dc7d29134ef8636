//! What can be measured without another router beside ours: the rows that hold it against itself.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine::Places;
use crate::report::{Figure, Report, Row};
use crate::suite::Size;

mod codec;
mod crossing;
mod flat;
mod idle;
mod memory;
mod shards;
mod snapshot;
mod unchanged;

/// One subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Decoding and encoding beside other codecs.
    Codec,
    /// One hop over the boundary of two shards.
    Crossing,
    /// One message to many, whose connections one shard has or two share.
    Shards,
    /// A message among few and many params and subscriptions.
    Flat,
    /// A late joiner, and what the others notice.
    Snapshot,
    /// Bytes of a param and of a connection.
    Memory,
    /// What a router with silent clients takes of its core.
    Idle,
    /// A packet that repeats its universe, beside a comparison of 512 octets.
    Unchanged,
}

impl Part {
    pub const ALL: [Self; 8] = [
        Self::Codec,
        Self::Crossing,
        Self::Shards,
        Self::Flat,
        Self::Snapshot,
        Self::Memory,
        Self::Idle,
        Self::Unchanged,
    ];
}

/// The arguments of `clasp-bench rows`.
#[derive(clap::Args)]
pub struct Command {
    /// The router to start for each part that needs one.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Only these parts; all unless told.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    #[arg(long, value_enum, default_value = "canonical")]
    size: Size,
    /// Results go to `DIR/<date>-<machine>/`.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
    #[command(flatten)]
    counter: Counter,
    /// `bridges/examples/unchanged.rs`, built for release; beside this program unless told.
    #[arg(long, value_name = "PROGRAM")]
    unchanged: Option<PathBuf>,
    /// The comparison of codecs: `bench/codec`, built for release.
    #[arg(long, value_name = "PROGRAM", default_value = "bench/codec/target/release/bench-codec")]
    codec: PathBuf,
}

/// Where the counting program is.
#[derive(Clone, Debug, clap::Args)]
pub struct Counter {
    /// `core/examples/instructions.rs`, built for release; beside this program unless told.
    #[arg(long, value_name = "PROGRAM")]
    instructions: Option<PathBuf>,
}

impl Counter {
    /// An error says how to build it when it is not there.
    pub fn program(&self) -> io::Result<PathBuf> {
        example(self.instructions.as_deref(), "clasp-rt-core", "instructions")
    }
}

fn example(told: Option<&Path>, package: &str, name: &str) -> io::Result<PathBuf> {
    let program = match told {
        Some(program) => program.to_owned(),
        None => std::env::current_exe()?.with_file_name("examples").join(name),
    };
    let made_by = format!("cargo build --release -p {package} --example {name}");
    if program.exists() { Ok(program) } else { Err(missing(&program, &made_by)) }
}

impl Command {
    /// All parts, whatever happens to one; what there is is written before an error is told.
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let router = self.spawn.display().to_string();
        let mut report = Report::new("clasp-rt against itself", places, router);
        let parts = if self.only.is_empty() { &Part::ALL[..] } else { &self.only };
        let mut failed = Vec::new();
        for part in parts {
            eprintln!("rows: {part:?}");
            match self.part(*part, places) {
                Ok((rows, figures)) => {
                    report.rows.extend(rows);
                    report.figures.extend(figures);
                }
                Err(error) => failed.push(format!("{part:?}: {error}")),
            }
        }
        report.keep(&self.results, "rows")?;
        if failed.is_empty() { Ok(report) } else { Err(io::Error::other(failed.join("; "))) }
    }

    fn part(&self, part: Part, places: Places) -> io::Result<(Vec<Row>, Vec<Figure>)> {
        let Self { spawn, codec, counter, unchanged, size, .. } = self;
        let (size, rounds) = (*size, size.rounds());
        let rows = |rows| (rows, Vec::new());
        let figures = |figures| (Vec::new(), figures);
        match part {
            Part::Codec => codec::run(codec, rounds, size).map(figures),
            Part::Crossing => crossing::run(places, size.length() / rounds, rounds).map(rows),
            Part::Shards => shards::run(spawn, places, rounds, size).map(rows),
            Part::Flat => flat::run(&counter.program()?, rounds, size).map(figures),
            Part::Snapshot => snapshot::run(spawn, places, rounds, size).map(rows),
            Part::Memory => memory::run(spawn, places, rounds, size).map(figures),
            Part::Idle => idle::run(spawn, places, rounds, size).map(figures),
            Part::Unchanged => {
                let program = example(unchanged.as_deref(), "clasp-rt-bridges", "unchanged")?;
                unchanged::run(&program, rounds, size).map(figures)
            }
        }
    }
}

/// How long a round takes that takes `canonical` in a canonical run.
fn round_length(size: Size, canonical: Duration) -> Duration {
    match size {
        Size::Small => canonical / 20,
        Size::Canonical => canonical,
    }
}

/// Says how to make a program that is not there.
fn missing(program: &Path, made_by: &str) -> io::Error {
    let message = format!("{} is not there; it is made by `{made_by}`", program.display());
    io::Error::new(io::ErrorKind::NotFound, message)
}

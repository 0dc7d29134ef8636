//! `clasp-rt hist`: how long messages take in a running router, and how far apart its DMX frames
//! are, as files for HdrHistogram's tools.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use clasp_rt_perf::histogram::Latency;
use clasp_rt_perf::log::{self, Encoder, Entry};

use super::Failure;
use super::client::{print, seconds};
use super::watched::{Place, WatchedArgs, Ways};
use crate::stages::{LOG_COMMENT, Stage};

#[derive(Args, Debug)]
pub struct HistArgs {
    /// Folder for the files; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many seconds to watch
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Seconds of each line of the log, at least 0.1
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    watched: WatchedArgs,
}

/// All intervals, each with every histogram that grew in it.
const LOG_NAME: &str = "clasp-rt.hlog";

/// Shorter intervals would measure how the router is asked.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text).ok().filter(|interval| *interval >= INTERVAL_MIN);
    interval.ok_or_else(|| "should be seconds, 0.1 to 86400".to_owned())
}

pub fn run(args: &HistArgs) -> Result<(), Failure> {
    let first = args.watched.ways()?;
    fs::create_dir_all(&args.out).map_err(unwritten(&args.out))?;
    let path = args.out.join(LOG_NAME);
    let written = File::create(&path).map(BufWriter::new).map_err(unwritten(&path))?;
    let last = watch(args, &first, written, &path)?;
    let all = last.since(&first);
    for (place, latency) in &all {
        let path = args.out.join(format!("{}.hgrm", place.tag));
        write_table(&path, latency).map_err(unwritten(&path))?;
    }
    let totals = all.iter().filter(|(place, _)| is_total(place));
    let messages: u64 = totals.map(|(_, latency)| latency.count()).sum();
    let out = args.out.display();
    if all.is_empty() {
        let passed = format!("no message passed; {out}/{LOG_NAME} says so");
        return Err(Failure::Nothing(passed));
    }
    let said = format!("{messages} messages in {out}/{LOG_NAME} and {} .hgrm files", all.len());
    print(format!("{said}\n").as_bytes())
}

/// Writes an interval after the other, and gives what was counted at the end.
fn watch(args: &HistArgs, first: &Ways, mut out: impl Write, path: &Path) -> Result<Ways, Failure> {
    let mut encoder = Encoder::new();
    let log = log::Writer::begin(&mut out, &mut encoder, &[LOG_COMMENT], first.at);
    let mut log = log.map_err(unwritten(path))?;
    let until = Instant::now() + args.seconds;
    let mut last = first.clone();
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        thread::sleep(left.min(args.interval));
        let now = args.watched.ways()?;
        let start = last.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let length = now.at.duration_since(last.at).unwrap_or_default();
        for (Place { tag, .. }, latency) in now.since(&last) {
            log.write(&Entry { tag, start, length, latency }).map_err(unwritten(path))?;
        }
        last = now;
    }
    drop(log);
    out.flush().map_err(unwritten(path))?;
    Ok(last)
}

fn write_table(path: &Path, latency: &Latency) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    latency.write_hgrm(&mut out)?;
    out.flush()
}

fn is_total(place: &Place) -> bool {
    place.kind().is_some_and(|kind| kind.stage == Stage::Total)
}

fn unwritten(path: &Path) -> impl Fn(io::Error) -> Failure + use<'_> {
    move |why| Failure::Failed(format!("{} cannot be written: {why}", path.display()))
}

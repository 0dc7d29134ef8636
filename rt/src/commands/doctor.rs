//! `clasp-rt doctor`: what this machine grants and lacks, and what its cores add by themselves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::client::SECONDS_MAX;
use crate::config::Cores;
use crate::doctor::report::Report;
use crate::doctor::{Asked, Interval, Machine, Root, Snapshot, probe, usable};
use crate::host::Host;

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Cores that shards will run on, such as `2-7` [default: those that are isolated, else all]
    #[arg(long)]
    cores: Option<Cores>,
    /// How long to measure each core, asleep and spinning; 0 only looks
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0)]
    seconds: f64,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
    /// Look at the files of a machine below this folder; measures nothing
    #[arg(long, hide = true, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// Asleep, asleep without halt, and spinning.
const MEASUREMENTS: f64 = 3.0;

pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    if !(0.0..=SECONDS_MAX).contains(&args.seconds) {
        return Err(Failure::Wrong("--seconds is 0 to 86400".to_owned()));
    }
    let report = match &args.root {
        Some(folder) => look(Root::at(folder), args.cores.clone()),
        None => examine(args)?,
    };
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.to_string() };
    // Nobody has to read all of it: `| head`.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    usable(&report.findings).map_err(Failure::Failed)
}

/// This machine: its files, its kernel, its cores.
fn examine(args: &DoctorArgs) -> Result<Report, Failure> {
    let host = Host::read();
    let cores = match &args.cores {
        Some(Cores(cores)) => cores.clone(),
        None if host.isolated.is_empty() => host.cores.clone(),
        None => host.isolated.clone(),
    };
    if let Some(missing) = cores.iter().find(|core| !host.cores.contains(core)) {
        let there = Cores(host.cores);
        let why = format!("--cores: core {missing} is not there; this process may use {there}");
        return Err(Failure::Wrong(why));
    }
    let machine = Machine { root: Root::real(), cores };
    let before = Snapshot::take(&machine.root);
    let each = Duration::from_secs_f64(args.seconds / MEASUREMENTS);
    let probe = match each.is_zero() {
        true => Vec::new(),
        false => probe::run(&machine.cores, each)
            .map_err(|why| Failure::Failed(format!("the cores cannot be measured: {why}")))?,
    };
    let after = Snapshot::take(&machine.root);
    // Without a measurement in between: since the machine started.
    let before = if probe.is_empty() { Snapshot::default() } else { before };
    let mut findings = machine.examine();
    findings.extend(Asked::now().findings());
    findings.extend(Interval { before, after }.findings(&machine));
    findings.extend(probe.iter().flat_map(|core| core.findings(&machine)));
    Ok(Report { cores: machine.cores, findings, probe })
}

/// Another machine, of which only files are known.
fn look(root: Root, cores: Option<Cores>) -> Report {
    let cores = cores.map_or_else(
        || crate::host::cores_in(&root, "/sys/devices/system/cpu/online"),
        |Cores(cores)| cores,
    );
    let machine = Machine { root, cores };
    let mut findings = machine.examine();
    let after = Snapshot::take(&machine.root);
    findings.extend(Interval { before: Snapshot::default(), after }.findings(&machine));
    Report { cores: machine.cores, findings, probe: Vec::new() }
}

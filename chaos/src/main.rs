//! `clasp-chaos`: simulated nights and fuzzing, each repeatable from what a failure prints.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clasp_rt_chaos::faults::Faults;
use clasp_rt_chaos::fuzz::{self, Ended, TARGETS, Target};
use clasp_rt_chaos::world::{self, Plan};

const USAGE: &str = "\
clasp-chaos run SEED [--shards K] [--faults NAME]
    Runs one simulated night twice and compares the digests. On failure prints the last of what
    happened (--trace LINES, 400 unless told).
clasp-chaos run --seeds N [--start S] [--shards K] [--faults NAME]
    Runs seeds S, S+1, … and stops at the first that breaks a promise.
    NAME: none, flaky_wifi, busy_host, open_house, festival. Unless told, each seed draws its own.
clasp-chaos fuzz [TARGET|all] [--seconds N] [--seed S]
    Mutates good inputs of one target, or of all, N seconds each. Every target runs in a process of
    its own (--apart no: in this one), so that an input that breaks it can be told and shortened.
clasp-chaos fuzz TARGET --input HEX
    Runs one input, as a found failure prints it.
clasp-chaos targets
    Lists what can be fuzzed.
clasp-chaos seeds FOLDER
    Writes the good inputs as a corpus for libFuzzer (chaos/fuzz).
";

/// Lines that a trace shows unless told otherwise.
const TRACE_LINES: usize = 400;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = Asked::read(&words);
    let done = match (asked, words.first().map(String::as_str)) {
        (Ok(asked), Some("run")) => simulate(&asked),
        (Ok(asked), Some("fuzz")) => fuzz_targets(&asked),
        (Ok(asked), Some("seeds")) => write_corpus(&asked),
        (Ok(_), Some("targets")) => {
            TARGETS.iter().for_each(|target| println!("{:<8} {}", target.name, target.about));
            Ok(())
        }
        (Err(wrong), _) => Err(format!("{wrong}\n{USAGE}")),
        (Ok(_), _) => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The command line as written.
#[derive(Debug)]
struct Asked {
    /// The word after the command: a seed or a target.
    subject: Option<String>,
    seeds: Option<u64>,
    start: u64,
    shards: Option<u16>,
    faults: Option<Faults>,
    trace: Option<usize>,
    seconds: Option<u64>,
    seed: u64,
    input: Option<Vec<u8>>,
    apart: bool,
}

impl Asked {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut asked = Self {
            subject: None,
            seeds: None,
            start: 0,
            shards: None,
            faults: None,
            trace: None,
            seconds: None,
            seed: 0,
            input: None,
            apart: true,
        };
        let mut words = words.iter().skip(1);
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                asked.subject = Some(word.clone());
                continue;
            };
            let value = words.next().ok_or_else(|| format!("--{name} wants a value"))?;
            let wrong = || format!("--{name} cannot be `{value}`");
            match name {
                "seeds" => asked.seeds = Some(number(value).ok_or_else(wrong)?),
                "start" => asked.start = number(value).ok_or_else(wrong)?,
                "shards" => {
                    let shards = value.parse().ok().filter(|shards| (1..=16).contains(shards));
                    asked.shards = Some(shards.ok_or_else(wrong)?);
                }
                "faults" => asked.faults = Some(Faults::by_name(value).ok_or_else(wrong)?),
                "trace" => asked.trace = Some(value.parse().map_err(|_| wrong())?),
                "seconds" => asked.seconds = Some(number(value).ok_or_else(wrong)?),
                "seed" => asked.seed = number(value).ok_or_else(wrong)?,
                "apart" => asked.apart = value != "no",
                "input" => asked.input = Some(fuzz::seeds::unhex(value).ok_or_else(wrong)?),
                _ => return Err(format!("--{name} is not an option")),
            }
        }
        Ok(asked)
    }
}

/// Decimal, or hexadecimal after `0x`, as seeds are printed.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn simulate(asked: &Asked) -> Result<(), String> {
    if let Some(seeds) = asked.seeds {
        let (mut effects, mut closed) = (0, 0);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in asked.start..asked.start + seeds {
            let finished = night(asked, seed)?;
            effects += finished.effects;
            closed += finished.closed_by_router;
            finished.counts.iter().for_each(|(name, n)| *counts.entry(name).or_default() += n);
        }
        counts.iter().for_each(|(name, count)| println!("{count:>10} {name}"));
        println!("{seeds} seeds from {:#x}: {effects} effects, {closed} links closed", asked.start);
        return Ok(());
    }
    let seed =
        asked.subject.as_deref().and_then(number).ok_or("`run` wants a seed or --seeds N")?;
    let first = night(asked, seed)?;
    let second = night(asked, seed)?;
    if first.digest != second.digest {
        let (first, second) = (first.digest, second.digest);
        return Err(format!("seed {seed:#x} gave {first:#018x}, then {second:#018x}"));
    }
    let world::Finished { digest, effects, deeds, heard, closed_by_router, .. } = first;
    println!(
        "seed {seed:#x}: {deeds} deeds, {heard} heard, {closed_by_router} links closed, {effects} \
         effects, digest {digest:#018x}, twice the same"
    );
    Ok(())
}

/// One seed. A failure is run again with a trace, and says how to run it once more.
fn night(asked: &Asked, seed: u64) -> Result<world::Finished, String> {
    say_the_seed_on_panic(seed);
    let plan = Plan::of(seed, asked.shards, asked.faults.clone());
    world::run(&plan, false).map_err(|_| {
        let Err(failure) = world::run(&plan, true) else {
            return format!("seed {seed:#x} failed once and passed once: not deterministic");
        };
        let lines = asked.trace.unwrap_or(TRACE_LINES);
        let from = failure.trace.len().saturating_sub(lines);
        let trace = failure.trace[from..].join("\n");
        let shards = asked.shards.map_or(String::new(), |shards| format!(" --shards {shards}"));
        let faults =
            asked.faults.as_ref().map_or(String::new(), |f| format!(" --faults {}", f.name));
        format!(
            "{trace}\n\n{} is broken: {}\n{plan:?}\n\
             again: clasp-chaos run {seed:#x}{shards}{faults}",
            failure.check, failure.broken
        )
    })
}

/// A broken assertion of the core is a finding too, and where panics abort it is the last word.
fn say_the_seed_on_panic(seed: u64) {
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("seed {seed:#x}: {info}\n{}", std::backtrace::Backtrace::force_capture());
        eprintln!("again: clasp-chaos run {seed:#x}, with the options of this run");
    }));
}

fn fuzz_targets(asked: &Asked) -> Result<(), String> {
    let name = asked.subject.as_deref().unwrap_or("all");
    let chosen: Vec<&Target> =
        TARGETS.iter().filter(|target| name == "all" || target.name == name).collect();
    if chosen.is_empty() {
        return Err(format!("`{name}` is no target; `clasp-chaos targets` lists them"));
    }
    if let (Some(input), [target]) = (&asked.input, chosen.as_slice()) {
        fuzz::run_one(target, input);
        println!("{}: nothing broke", target.name);
        return Ok(());
    }
    let length = Duration::from_secs(asked.seconds.unwrap_or(10));
    if let (false, [target]) = (asked.apart, chosen.as_slice()) {
        fuzz::run(target, asked.seed, length);
        return Ok(());
    }
    for target in chosen {
        let name = target.name;
        match fuzz::run_apart(target, asked.seed, length).map_err(|error| error.to_string())? {
            Ended::Well { tried } => println!("{name:<8} {tried} inputs, nothing broke"),
            Ended::Found { input, why } => {
                let hex = fuzz::seeds::hex(&input);
                return Err(format!("{why}\nagain: clasp-chaos fuzz {name} --input {hex}"));
            }
            Ended::Died { why } => {
                let seed = asked.seed;
                return Err(format!(
                    "{why}\nagain: clasp-chaos fuzz {name} --seed {seed} --apart no"
                ));
            }
        }
    }
    Ok(())
}

/// One file for each seed, named by its target; the first byte is the target's place in the table.
fn write_corpus(asked: &Asked) -> Result<(), String> {
    let folder = Path::new(asked.subject.as_deref().ok_or("`seeds` wants a folder")?);
    let write = || {
        std::fs::create_dir_all(folder)?;
        for (place, target) in TARGETS.iter().enumerate() {
            for (index, seed) in (target.seeds)().iter().enumerate() {
                let input = [&[place as u8], seed.as_slice()].concat();
                std::fs::write(folder.join(format!("{}-{index}", target.name)), input)?;
            }
        }
        Ok(())
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", folder.display()))
}

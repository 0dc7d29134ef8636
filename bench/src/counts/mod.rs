//! What one message costs, in numbers that do not depend on the machine's load, held against those
//! that are committed: instructions, system calls, allocations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::frames::Kind;
use crate::machine::Places;
use crate::rows::Counter;

pub mod callgrind;
mod program;

/// More than this above the committed count fails.
const TOLERANCE: f64 = 0.03;

/// Cases whose set-up alone takes callgrind a minute; `clasp-bench rows` counts them.
const TOO_LONG: &[&str] = &["set_with_1m_params"];

const HEAD: &str = "\
# What one message costs: instructions of our own code (callgrind, without the C library's),
# io_uring_enter calls of the shard's thread when messages come one at a time, its allocations.
# `cargo ci counts` fails when a count rises by more than 3 %; `cargo ci counts --write` renews.
";

/// The arguments of `clasp-bench counts`.
#[derive(clap::Args)]
pub struct Command {
    /// The router whose system calls and allocations are counted.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    #[command(flatten)]
    counter: Counter,
    /// The committed counts.
    #[arg(long, value_name = "FILE", default_value = "bench/counts.toml")]
    committed: PathBuf,
    /// Commit these: write the file instead of holding against it.
    #[arg(long)]
    write: bool,
}

impl Command {
    pub fn run(&self, places: Places) -> io::Result<()> {
        let counted = count(&self.counter.program()?, &self.spawn, places)?;
        if self.write {
            return fs::write(&self.committed, text(&counted));
        }
        let wrong = compare(&read(&self.committed)?, &counted);
        if wrong.is_empty() {
            return Ok(());
        }
        let wrong = wrong.join("\n  ");
        let message = format!("\n  {wrong}\nIf that is meant: cargo ci counts --write");
        Err(io::Error::other(message))
    }
}

/// Section, name, count.
type Counts = BTreeMap<String, BTreeMap<String, f64>>;

/// Counts everything: the cases of `instructions`, and messages through `router`.
fn count(instructions: &Path, router: &Path, places: Places) -> io::Result<Counts> {
    let mut counts = Counts::new();
    let mut put = |section: &str, name: &str, count: f64| {
        println!("{section} {name} {count}");
        counts.entry(section.to_owned()).or_default().insert(name.to_owned(), count);
    };
    for case in callgrind::cases(instructions)? {
        if !TOO_LONG.contains(&case.as_str()) {
            let count = callgrind::of_message(instructions, &case)?;
            put("instructions", &case, count.round());
        }
    }
    for kind in [Kind::Set, Kind::Event] {
        let counted = program::count(router, places, kind)?;
        put("system_calls", kind.name(), (counted.system_calls * 100.0).round() / 100.0);
        put("allocations", kind.name(), counted.allocations as f64);
    }
    Ok(counts)
}

fn read(path: &Path) -> io::Result<Counts> {
    let said = |error: String| io::Error::other(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    toml::from_str(&text).map_err(|error| said(error.to_string()))
}

fn text(counts: &Counts) -> String {
    let mut out = HEAD.to_owned();
    for (section, counts) in counts {
        write!(out, "\n[{section}]\n").expect("a String takes all");
        for (name, count) in counts {
            // Floats, so that a file may hold both.
            writeln!(out, "{name} = {count:?}").expect("a String takes all");
        }
    }
    out
}

/// What is worse than committed, and what only one side has: a line each. Empty is good.
fn compare(committed: &Counts, counted: &Counts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (section, counts) in counted {
        for (name, &now) in counts {
            let Some(&before) = committed.get(section).and_then(|counts| counts.get(name)) else {
                wrong.push(format!("{section} of {name}: {now}, and nothing is committed"));
                continue;
            };
            if now > before * (1.0 + TOLERANCE) {
                let percent = 100.0 * (now / before - 1.0);
                wrong.push(format!("{section} of {name}: {before} -> {now}, {percent:.1} % more"));
            }
        }
    }
    for (section, counts) in committed {
        let known = |name: &String| counted.get(section).is_some_and(|c| c.contains_key(name));
        for name in counts.keys().filter(|name| !known(name)) {
            wrong.push(format!("{section} of {name}: committed, and not counted any more"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, &str, f64)]) -> Counts {
        let mut counts = Counts::new();
        for (section, name, count) in list {
            let section = counts.entry((*section).to_owned()).or_default();
            section.insert((*name).to_owned(), *count);
        }
        counts
    }

    #[test]
    fn a_count_may_fall_or_rise_a_little_and_not_more() {
        let committed = counts(&[("instructions", "set", 1_000.0), ("allocations", "set", 0.0)]);
        let cases = [
            (1_000.0, 0.0, 0),
            (1_029.0, 0.0, 0),
            (500.0, 0.0, 0),
            (1_031.0, 0.0, 1),
            (1_000.0, 1.0, 1),
            (2_000.0, 7.0, 2),
        ];
        for (instructions, allocations, wrong) in cases {
            let now = counts(&[
                ("instructions", "set", instructions),
                ("allocations", "set", allocations),
            ]);
            let found = compare(&committed, &now);
            assert_eq!(found.len(), wrong, "{instructions}, {allocations}: {found:?}");
        }
    }

    #[test]
    fn a_case_that_only_one_side_knows_is_wrong() {
        let one = counts(&[("instructions", "set", 1.0)]);
        let two = counts(&[("instructions", "set", 1.0), ("instructions", "event", 1.0)]);
        assert_eq!(compare(&one, &two), ["instructions of event: 1, and nothing is committed"]);
        assert_eq!(
            compare(&two, &one),
            ["instructions of event: committed, and not counted any more"]
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let all = counts(&[
            ("instructions", "set_1_to_1", 812.0),
            ("system_calls", "set", 1.25),
            ("allocations", "set", 0.0),
        ]);
        let read: Counts = toml::from_str(&text(&all)).unwrap();
        assert_eq!(read, all);
    }
}

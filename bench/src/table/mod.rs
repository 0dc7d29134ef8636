//! The promise beside what was measured: `targets.md` of a folder, and the part of the README.
//!
//! Written from the JSON of the folder alone, so that no number in prose is anybody's memory, and a
//! row that is not reached stands there like the others.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::report::median;

mod results;
mod targets;

use results::Results;
use targets::{Cell, Goal, Target, To};

const BEGIN: &str = "<!-- measured:begin -->";
const END: &str = "<!-- measured:end -->";

/// The arguments of `clasp-bench table`.
#[derive(clap::Args)]
pub struct Command {
    /// A folder of results, or the folder of such folders: then the newest.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
    /// Its part between the marks is written anew.
    #[arg(long, value_name = "FILE", default_value = "README.md")]
    readme: PathBuf,
}

impl Command {
    pub fn run(&self) -> io::Result<()> {
        let folder = newest(&self.results)?;
        let results = Results::read(&folder)?;
        if results.is_empty() {
            let message = format!("{} holds no measurements with keys", folder.display());
            return Err(io::Error::other(message));
        }
        let lines = lines(&results);
        let targets = folder.join("targets.md");
        fs::write(&targets, targets_text(&results, &lines))?;
        let readme = fs::read_to_string(&self.readme)?;
        let part = readme_part(&results, &lines, &folder.to_string_lossy());
        fs::write(&self.readme, replaced(&readme, &part)?)?;
        print!("{part}");
        eprintln!("written to {} and {}", targets.display(), self.readme.display());
        Ok(())
    }
}

/// `folder` if it holds JSON, else the last of its folders that does: they are named by day.
fn newest(folder: &Path) -> io::Result<PathBuf> {
    let holds_json = |path: &Path| {
        let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.any(|entry| entry.path().extension().is_some_and(|e| e == "json"))
    };
    if holds_json(folder) {
        return Ok(folder.to_path_buf());
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| holds_json(path))
        .collect();
    folders.sort();
    folders.pop().ok_or_else(|| {
        let message = format!("{} holds no results: bash bench/all.sh", folder.display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// A target with what was found for each of its cells.
struct Line {
    target: Target,
    found: Vec<Option<Found>>,
}

/// One number over all rounds, in the cell's own terms.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    median: f64,
    least: f64,
    most: f64,
    /// The median of our own number, and its unit, where it is held against another.
    ours: Option<(f64, String)>,
    raw: String,
}

fn lines(results: &Results) -> Vec<Line> {
    let line = |target: Target| {
        let found = target.cells.iter().map(|cell| find(results, cell)).collect();
        Line { target, found }
    };
    targets::targets().into_iter().map(line).collect()
}

fn find(results: &Results, cell: &Cell) -> Option<Found> {
    let ours = results.series(&cell.ours)?;
    let rounds = match &cell.to {
        To::Itself(_) => ours.rounds.clone(),
        To::Times(theirs) => {
            paired(&ours.rounds, &results.series(theirs)?.rounds, |ours, theirs| ours / theirs)
        }
        To::Quicker(theirs) => {
            paired(&ours.rounds, &results.series(theirs)?.rounds, |ours, theirs| theirs / ours)
        }
        To::Above(theirs, _) => {
            paired(&ours.rounds, &results.series(theirs)?.rounds, |ours, theirs| ours - theirs)
        }
    };
    let own = median(ours.rounds.iter().copied())?;
    Some(Found {
        median: median(rounds.iter().copied())?,
        least: rounds.iter().copied().fold(f64::INFINITY, f64::min),
        most: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ours: (!matches!(cell.to, To::Itself(_))).then_some((own, ours.unit)),
        raw: ours.raw,
    })
}

/// Round by round where both have the same rounds, else their medians.
fn paired(ours: &[f64], theirs: &[f64], join: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    if ours.len() == theirs.len() {
        return ours.iter().zip(theirs).map(|(ours, theirs)| join(*ours, *theirs)).collect();
    }
    let medians = median(ours.iter().copied()).zip(median(theirs.iter().copied()));
    medians.map(|(ours, theirs)| join(ours, theirs)).into_iter().collect()
}

/// Everything: a line for each number, with its range and its file.
fn targets_text(results: &Results, lines: &[Line]) -> String {
    let mut out = String::from("# Targets\n\n");
    put(&mut out, format_args!("{}\n\n", measured_on(results)));
    out.push_str(
        "Written by `clasp-bench table`. A ratio is taken in each round, of two measurements side \
         by side; then the median of the rounds, and in brackets the least and the most.\n\n\
         | what | against | number | to reach | measured | is | reached | raw |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for Line { target, found } in lines {
        for (cell, found) in target.cells.iter().zip(found) {
            let Target { what, against, .. } = target;
            let (label, goal) = (&cell.label, goal(cell));
            let (measured, own, reached, raw) = match found {
                Some(found) => {
                    let reached = if cell.goal.is_reached(found.median) { "yes" } else { "**no**" };
                    let raw = format!("[{0}]({0})", found.raw);
                    (measured(cell, found), own(found).unwrap_or_default(), reached, raw)
                }
                None => ("not measured".to_owned(), String::new(), "", String::new()),
            };
            put(
                &mut out,
                format_args!(
                    "| {what} | {against} | {label} | {goal} | {measured} | {own} | {reached} | \
                     {raw} |\n"
                ),
            );
        }
    }
    out
}

/// The README's part: a line for each target.
fn readme_part(results: &Results, lines: &[Line], folder: &str) -> String {
    let mut out = format!("{BEGIN}\n{}.\n\n", measured_on(results));
    out.push_str("| what | against | to reach | measured | reached |\n|---|---|---|---|---|\n");
    for Line { target, found } in lines {
        let Target { what, against, cells } = target;
        let found: Vec<_> = cells
            .iter()
            .zip(found)
            .filter_map(|(cell, found)| Some((cell, found.as_ref()?)))
            .collect();
        let reached = found.iter().filter(|(cell, found)| cell.goal.is_reached(found.median));
        let reached = match (reached.count(), found.len(), cells.len()) {
            (_, 0, _) => "not measured".to_owned(),
            (yes, of, all) if yes == of && of == all => "yes".to_owned(),
            (0, _, _) => "**no**".to_owned(),
            (yes, _, all) => format!("{yes} of {all}"),
        };
        let goals = joined(cells.iter().map(goal));
        let measured = joined(worst(&found).into_iter().map(|(cell, found)| {
            let own = own(found).map_or(String::new(), |own| format!(" ({own})"));
            format!("{} {}{own}", cell.label, amount(found.median, &cell.to))
        }));
        put(&mut out, format_args!("| {what} | {against} | {goals} | {measured} | {reached} |\n"));
    }
    put(
        &mut out,
        format_args!(
            "\nRatios are taken round by round and given as the median of the rounds; of a line \
             with many numbers the ones furthest from their target. All of them, with ranges and \
             raw files: [`targets.md`]({folder}/targets.md).\n{END}\n"
        ),
    );
    out
}

/// At most three: those that do worst against their goal first, then in their own order.
fn worst<'a>(found: &[(&'a Cell, &'a Found)]) -> Vec<(&'a Cell, &'a Found)> {
    const SHOWN: usize = 3;
    let distance = |(cell, found): &(&Cell, &Found)| match cell.goal {
        // A bound of zero has no parts: there the number itself is the distance.
        Goal::AtMost(0.0) => found.median,
        Goal::AtMost(most) => (found.median - most) / most,
        Goal::AtLeast(least) => (least - found.median) / least,
    };
    let mut ranked: Vec<usize> = (0..found.len()).collect();
    ranked.sort_by(|&a, &b| distance(&found[b]).total_cmp(&distance(&found[a])));
    ranked.truncate(SHOWN);
    ranked.sort_unstable();
    ranked.into_iter().map(|index| found[index]).collect()
}

/// Each once: what every cell wants alike need not be said again.
fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for part in parts {
        if !once.contains(&part) {
            once.push(part);
        }
    }
    once.join("; ")
}

fn measured_on(results: &Results) -> String {
    let (machines, commits) = (results.machines.join("; "), results.commits.join(", "));
    format!("Measured on {machines}; commit {commits}")
}

fn goal(cell: &Cell) -> String {
    let (sign, bound) = match cell.goal {
        Goal::AtMost(most) => ("≤", most),
        Goal::AtLeast(least) => ("≥", least),
    };
    format!("{sign} {}", amount(bound, &cell.to))
}

/// The median, and the range of the rounds.
fn measured(cell: &Cell, found: &Found) -> String {
    let [median, least, most] =
        [found.median, found.least, found.most].map(|value| amount(value, &cell.to));
    format!("{median} ({least} … {most})")
}

/// Our own number in its own unit.
fn own(found: &Found) -> Option<String> {
    found.ours.as_ref().map(|(value, unit)| with_unit(*value, unit))
}

/// A number in the terms of what it is held against.
fn amount(value: f64, to: &To) -> String {
    match to {
        To::Times(_) | To::Quicker(_) => format!("{} x", digits(value)),
        To::Itself(unit) | To::Above(_, unit) => with_unit(value, unit),
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "µs" if value.abs() >= 1_000.0 => (value / 1_000.0, "ms"),
        "/s" if value.abs() >= 1e6 => (value / 1e6, "M/s"),
        _ => (value, unit),
    };
    format!("{} {unit}", digits(value)).trim_end().to_owned()
}

/// Three digits that say something, and no more noughts than needed.
fn digits(value: f64) -> String {
    let text = match value.abs() {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => return format!("{value:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `text` with `part` between the marks instead of what was there.
fn replaced(text: &str, part: &str) -> io::Result<String> {
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = marks.ok_or_else(|| {
        io::Error::other(format!("the file has no marks {BEGIN} and {END}, one after the other"))
    })?;
    Ok(format!("{before}{}{after}", part.trim_end()))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_readme_says_what_the_newest_results_say() {
        let root = repository();
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let folder = newest(&root.join("bench/results")).unwrap();
        let results = Results::read(&folder).unwrap();
        if results.is_empty() {
            // Results from before there were keys: the part is still somebody's own words.
            assert!(replaced(&readme, BEGIN).is_ok(), "the README has no place for the table");
            assert!(!readme.contains("targets.md"), "a table of results that are not there");
            return;
        }
        let lines = lines(&results);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let part = readme_part(&results, &lines, &format!("bench/results/{name}"));
        let again = replaced(&readme, &part).unwrap();
        assert!(readme == again, "run: clasp-bench table");
        assert_eq!(replaced(&again, &part).unwrap(), again, "twice changes nothing");
        let targets = fs::read_to_string(folder.join("targets.md")).unwrap();
        assert!(targets == targets_text(&results, &lines), "run: clasp-bench table");
    }

    #[test]
    fn what_stands_around_the_marks_stays() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let part = format!("{BEGIN}\nnew\n{END}\n");
        let once = replaced(&text, &part).unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&once, &part).unwrap(), once);
        for broken in ["nothing", BEGIN, &format!("{END} {BEGIN}")] {
            assert!(replaced(broken, &part).is_err(), "{broken}");
        }
    }

    #[test]
    fn rounds_are_paired_where_both_have_as_many() {
        let ratio = |ours: f64, theirs: f64| ours / theirs;
        assert_eq!(paired(&[2.0, 9.0], &[1.0, 3.0], ratio), [2.0, 3.0]);
        assert_eq!(paired(&[2.0, 4.0, 9.0], &[2.0], ratio), [2.0]);
        assert!(paired(&[], &[2.0], ratio).is_empty());
    }

    #[test]
    fn numbers_are_short_and_carry_their_unit() {
        let times = || To::Times(String::new());
        let cases = [
            (1.2, times(), "1.2 x"),
            (0.984, times(), "0.98 x"),
            (12.34, To::Itself("µs"), "12.3 µs"),
            (100_000.0, To::Itself("µs"), "100 ms"),
            (5.0, To::Quicker(String::new()), "5 x"),
            (2_631_185.0, To::Itself("/s"), "2.63 M/s"),
            (8_192.0, To::Itself("B"), "8192 B"),
            (0.0, To::Itself(""), "0"),
            (-0.25, To::Above(String::new(), "µs"), "-0.25 µs"),
        ];
        for (value, to, expected) in cases {
            assert_eq!(amount(value, &to), expected);
        }
    }

    #[test]
    fn no_number_is_promised_twice() {
        let mut seen = HashSet::new();
        for target in targets::targets() {
            assert!(!target.cells.is_empty(), "{}", target.what);
            for cell in target.cells {
                let place = format!("{} {} {:?}", cell.ours, cell.label, cell.to);
                assert!(seen.insert(place.clone()), "{place}");
            }
        }
    }

    #[test]
    fn a_goal_is_reached_at_its_bound() {
        assert!(Goal::AtMost(1.5).is_reached(1.5) && !Goal::AtMost(1.5).is_reached(1.51));
        assert!(Goal::AtLeast(5.0).is_reached(5.0) && !Goal::AtLeast(5.0).is_reached(4.99));
    }
}

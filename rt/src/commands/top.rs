//! `clasp-rt top`: what a running router does at present, as a table that keeps itself up to date.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clasp_rt_perf::histogram::Latency;

use super::Failure;
use super::client::unless_closed;
use super::watched::{Counters, Place, WatchedArgs, Ways};
use crate::plain;
use crate::stages::{Class, Path, Stage};

#[derive(Args, Debug)]
pub struct TopArgs {
    #[command(flatten)]
    watched: WatchedArgs,
    /// Print one table and end
    #[arg(long)]
    once: bool,
}

/// How often the table is drawn. A shard tells its counters as often.
const REFRESH: Duration = Duration::from_secs(1);

/// How long a shard may take to tell its counters before rates of the last time are shown.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// How often a router is asked whether it told them.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What is lost, and why; each is a counter of the shards.
const LOSSES: [(&str, &str); 6] = [
    ("streams", "streams_dropped"),
    ("rate limited", "rate_limited"),
    ("malformed", "malformed"),
    ("refused", "refused"),
    ("too slow", "closed_slow"),
    ("params evicted", "params_evicted"),
];

pub fn run(args: &TopArgs) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let terminal = stdout.is_terminal() && !args.once;
    let mut last = Look::ask(&args.watched)?;
    loop {
        let now = next(&args.watched, &last)?;
        // The names of bridges are those of its file.
        let mut text = plain::lines(&table(&args.watched.router_metrics, &last, &now));
        if terminal {
            text.insert_str(0, "\x1b[H\x1b[2J"); // Home, and clear to the end.
        }
        let drawn = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        match drawn {
            Ok(()) if !args.once => last = now,
            drawn => return drawn.or_else(unless_closed),
        }
    }
}

/// What a router said at one instant.
#[derive(Clone, Debug)]
struct Look {
    counters: Counters,
    /// `None`: it counts no histograms.
    ways: Option<Ways>,
}

impl Look {
    fn ask(watched: &WatchedArgs) -> Result<Self, Failure> {
        let counters = watched.counters()?;
        let ways = match watched.ways() {
            Ok(ways) => Some(ways),
            Err(Failure::Failed(_)) => None,
            Err(failure) => return Err(failure),
        };
        Ok(Self { counters, ways })
    }

    /// The counters of each shard, in the order of their numbers.
    fn shards(&self) -> impl Iterator<Item = (usize, Shard<'_>)> {
        (0..).map_while(|number| Some((number, of(self, number)?)))
    }

    fn sum(&self, name: &str) -> u64 {
        self.shards().map(|(_, shard)| shard.get(name)).sum()
    }
}

/// What one shard counted.
#[derive(Clone, Copy)]
struct Shard<'a>(&'a std::collections::BTreeMap<String, u64>);

impl Shard<'_> {
    fn get(self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Whether `self` was told after `earlier`.
    fn is_newer(self, earlier: Option<Shard<'_>>) -> bool {
        earlier.is_none_or(|earlier| earlier.get("uptime_ns") != self.get("uptime_ns"))
    }
}

/// Waits a moment, and then until every shard has told its counters again.
fn next(watched: &WatchedArgs, last: &Look) -> Result<Look, Failure> {
    thread::sleep(REFRESH);
    let until = Instant::now() + TOLD_WITHIN;
    loop {
        let now = Look::ask(watched)?;
        let all = now.shards().all(|(number, shard)| shard.is_newer(of(last, number)));
        if all || Instant::now() >= until {
            return Ok(now);
        }
        thread::sleep(ASK_AGAIN);
    }
}

fn of(look: &Look, number: usize) -> Option<Shard<'_>> {
    look.counters.get(&format!("shard {number}")).map(Shard)
}

/// How much a counter of one shard grew a second, by that shard's own clock.
fn rate(last: &Look, number: usize, now: Shard<'_>, name: &str) -> f64 {
    let before = |name| of(last, number).map_or(0, |shard| shard.get(name));
    // A router that was started again counts from zero.
    let grown = |name| now.get(name).checked_sub(before(name)).unwrap_or(now.get(name));
    match grown("uptime_ns") {
        0 => 0.0,
        ns => grown(name) as f64 / (ns as f64 / 1e9),
    }
}

fn table(router: &str, last: &Look, now: &Look) -> String {
    let all = |name| now.shards().map(|(number, shard)| rate(last, number, shard, name)).sum();
    let mut text = String::new();
    let up_s =
        now.shards().map(|(_, shard)| shard.get("uptime_ns")).max().unwrap_or(0) / 1_000_000_000;
    let _ = writeln!(text, "clasp-rt at {router}, up {up_s} s");
    let _ = writeln!(
        text,
        "messages  {} in/s  {} out/s",
        whole(all("frames_in")),
        whole(all("frames_out"))
    );
    let _ = writeln!(
        text,
        "holds     {} links  {} subscriptions  {} params",
        now.sum("links_now"),
        now.sum("subscriptions_now"),
        now.sum("params_now")
    );
    let losses =
        LOSSES.map(|(what, name)| format!("{what} {} ({}/s)", now.sum(name), whole(all(name))));
    let _ = writeln!(text, "lost      {}", losses.join("  "));
    write_ways(&mut text, last, now);
    let _ =
        writeln!(text, "\n{:<8}{:>7}{:>12}{:>12}{:>9}", "SHARD", "BUSY", "IN/S", "OUT/S", "LINKS");
    for (number, shard) in now.shards() {
        let _ = writeln!(
            text,
            "{number:<8}{:>5.1} %{:>12}{:>12}{:>9}",
            rate(last, number, shard, "busy_ns") / 1e9 * 100.0,
            whole(rate(last, number, shard, "frames_in")),
            whole(rate(last, number, shard, "frames_out")),
            shard.get("links_now")
        );
    }
    text
}

/// How long the messages between the two looks took.
fn write_ways(text: &mut String, last: &Look, now: &Look) {
    let Some(ways) = &now.ways else {
        text.push_str("\nno latencies: this router was started with --histograms off\n");
        return;
    };
    let between = match &last.ways {
        Some(before) => ways.since(before),
        None => Vec::new(),
    };
    let (first, second) = ("CLASS", "PATH");
    let heading = format!(
        "{:>12}{:>10}{:>10}{:>10}{:>10}",
        "MESSAGES", "P50 µs", "P99 µs", "P99.9 µs", "MAX µs"
    );
    let _ = writeln!(text, "\n{first:<10}{second:<8}{heading}  arrival to handed over");
    for path in Path::ALL {
        for class in Class::ALL {
            let some = merged(&between, |c, p, s| c == class && p == path && s == Stage::Total);
            write_row(text, class.name(), path.name(), some);
        }
    }
    let (first, second) = ("STAGE", "PATH");
    let _ = writeln!(text, "\n{first:<10}{second:<8}{heading}  of all classes, sampled");
    for path in Path::ALL {
        for stage in [Stage::Decode, Stage::Home, Stage::Egress, Stage::Kernel] {
            let some = merged(&between, |_, p, s| p == path && s == stage);
            write_row(text, stage.name(), path.name(), some);
        }
    }
    let lines = between.iter().filter_map(|(place, latency)| Some((place.line()?, latency)));
    for (number, ((bridge, device), latency)) in lines.enumerate() {
        if number == 0 {
            let (first, second) = ("BRIDGE", "DEVICE");
            let heading = heading.replace("MESSAGES", "  FRAMES");
            let _ = writeln!(text, "\n{first:<10}{second:<8}{heading}  one DMX frame to the next");
        }
        write_row(text, bridge, &device.to_string(), Some(latency.clone()));
    }
}

fn write_row(text: &mut String, first: &str, second: &str, latency: Option<Latency>) {
    let Some(latency) = latency else { return };
    let _ = write!(text, "{first:<10}{second:<8}{:>12}", latency.count());
    for quantile in [0.5, 0.99, 0.999, 1.0] {
        let _ = write!(text, "{:>10}", micros(latency.quantile_ns(quantile)));
    }
    text.push('\n');
}

/// The histograms of all shards that `wanted` accepts, as one; `None`: they are empty.
fn merged(
    ways: &[(Place, Latency)],
    wanted: impl Fn(Class, Path, Stage) -> bool,
) -> Option<Latency> {
    let kinds = ways.iter().filter_map(|(place, latency)| Some((place.kind()?, latency)));
    let mut some = kinds.filter(|(kind, _)| wanted(kind.class, kind.path, kind.stage));
    let mut all = some.next()?.1.clone();
    some.for_each(|(_, latency)| all.merge(latency));
    Some(all)
}

/// Three digits are known; more would pretend.
fn micros(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{:.2}", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1}", ns as f64 / 1e3),
        _ => format!("{:.0}", ns as f64 / 1e3),
    }
}

fn whole(rate: f64) -> String {
    format!("{rate:.0}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn look(shards: &[&[(&str, u64)]], ways: &[(&str, u64)]) -> Look {
        let counters = shards.iter().enumerate().map(|(number, counters)| {
            let counters = counters.iter().map(|(name, total)| ((*name).to_owned(), *total));
            (format!("shard {number}"), counters.collect())
        });
        let latencies = ways.iter().map(|(tag, count)| {
            let mut latency = Latency::new();
            latency.record_many(20_000, *count);
            (Place { tag: (*tag).to_owned() }, latency)
        });
        let ways = Ways { at: UNIX_EPOCH, latencies: latencies.collect::<BTreeMap<_, _>>() };
        Look { counters: counters.collect(), ways: Some(ways) }
    }

    /// The words of the line that begins so.
    fn row<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {text}")).split_whitespace().collect()
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_are_those_between_two_looks_by_the_clock_of_each_shard() {
        let last = look(
            &[
                &[("uptime_ns", SECOND), ("frames_in", 100), ("busy_ns", 0)],
                &[("uptime_ns", SECOND), ("frames_in", 7)],
            ],
            &[("shard0-param-same-total", 5), ("line-dmx-1", 40)],
        );
        let now = look(
            &[
                &[
                    ("uptime_ns", 3 * SECOND),
                    ("frames_in", 500),
                    ("busy_ns", SECOND / 2),
                    ("links_now", 3),
                ],
                &[("uptime_ns", SECOND), ("frames_in", 7), ("links_now", 4)],
            ],
            &[("shard0-param-same-total", 9), ("shard1-event-across-total", 1), ("line-dmx-1", 80)],
        );
        let text = table("here", &last, &now);
        assert_eq!(row(&text, "messages"), ["messages", "200", "in/s", "0", "out/s"]);
        assert_eq!(row(&text, "holds")[..3], ["holds", "7", "links"]);
        assert_eq!(row(&text, "0 "), ["0", "25.0", "%", "200", "0", "3"]);
        assert_eq!(row(&text, "1 "), ["1", "0.0", "%", "0", "0", "4"]);
        assert_eq!(row(&text, "param"), ["param", "same", "4", "20.0", "20.0", "20.0", "20.0"]);
        assert_eq!(row(&text, "event")[..3], ["event", "across", "1"]);
        assert_eq!(row(&text, "BRIDGE")[..4], ["BRIDGE", "DEVICE", "FRAMES", "P50"]);
        assert_eq!(row(&text, "dmx"), ["dmx", "1", "40", "20.0", "20.0", "20.0", "20.0"]);
        assert!(!text.contains("gesture"), "{text}");
    }

    #[test]
    fn a_router_that_was_started_again_counts_from_zero() {
        let last = look(&[&[("uptime_ns", 50 * SECOND), ("frames_in", 10_000)]], &[]);
        let now = look(&[&[("uptime_ns", 2 * SECOND), ("frames_in", 40)]], &[]);
        assert_eq!(row(&table("here", &last, &now), "messages")[1], "20");
    }

    #[test]
    fn without_histograms_the_table_says_why_it_has_no_latencies() {
        let mut look = look(&[&[("uptime_ns", SECOND)]], &[]);
        look.ways = None;
        assert!(table("here", &look, &look).contains("--histograms off"));
    }

    #[test]
    fn latencies_are_shown_with_the_digits_that_are_known() {
        let cases = [(0, "0.00"), (1_234, "1.23"), (12_345, "12.3"), (1_234_567, "1235")];
        for (ns, shown) in cases {
            assert_eq!(micros(ns), shown);
        }
    }
}

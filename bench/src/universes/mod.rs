//! Art-Net and sACN at full rate: universes in and out of a router, raised until the first loss.
//!
//! Each universe changes 44 times a second, evenly spread over the frame, open loop. *In*: packets
//! for the router, whose loss is counted there and, by slot 1 of every universe, at a subscriber.
//! *Out*: a publisher's BUNDLEs, and the packets that leave by them; what does not come out was
//! lost on the way (its sequence number is missing), passed over by the router for a newer frame of
//! its universe, or superseded, because the generator was late and sent the next one at once.
//! The router's shard and its bridge thread share one core, the load has the other. Packets go by
//! unicast over the loopback interface, so that no card and no switch is measured.

mod input;
mod output;
mod protocol;
mod stage;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clasp_rt_perf::histogram::Latency;

use crate::machine::{self, Machine, Places};
use crate::report::{self, Figure, Rate, RateRound, Report, Row};
use protocol::Protocol;
use stage::Stage;

/// What DMX512 allows a universe.
pub const FRAMES_HZ: u64 = 44;

pub const SLOTS: usize = 512;

/// Two frames of a universe that are closer together than this are one at 44 a second. Well below a
/// frame, because sources are not quite regular.
const CROWDED: Duration = Duration::from_nanos(1_000_000_000 / FRAMES_HZ / 4);

/// With fewer universes than this nothing is looked for: they are lost.
const UNIVERSES_MIN: usize = 64;

/// What changes from frame to frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first so many slots, each told and written by itself.
    Slots(usize),
    /// The first 16, but each universe is told and written whole.
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    In,
    Out,
    Both,
}

/// What is raised.
#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: Protocol,
    direction: Direction,
    change: Change,
}

#[derive(Args, Clone, Debug)]
pub struct Command {
    /// The router to start, again for every number of universes.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "artnet,sacn")]
    protocol: Vec<Protocol>,
    /// Into the router, out of it, or one after the other.
    #[arg(long, value_enum, default_value = "both")]
    direction: Direction,
    /// The first number of universes. Where it loses something, fewer are tried; otherwise the last
    /// one, and then those between them.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    from: u16,
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    to: u16,
    /// Slots that change in each frame, 0 to 512; `whole`: 16, and universes are told and written
    /// whole.
    #[arg(long, value_delimiter = ',', default_value = "0,16,512,whole")]
    slots: Vec<Change>,
    /// Of each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often each is measured: what more than half of the runs show counts, and as soon as it
    /// is known the rest is left out. A shared machine may stand for longer than a frame.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Results go to `DIR/<date>-<machine>/`, too.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

/// What one run showed.
#[derive(Debug, Default)]
struct Run {
    sent: u64,
    arrived: u64,
    /// Packets that did not arrive where they are counted first.
    packets_lost: u64,
    /// Of those, packets that reached our own socket and found no room there.
    lost_here: u64,
    /// Of those, packets that the router made and could not send.
    unsent: u64,
    /// Values of slot 1 that were sent and never seen at the other end.
    values_missing: u64,
    /// Of those, values that no router can send on: the next one of their universe left the
    /// generator less than [`CROWDED`] behind them.
    superseded: u64,
    seconds: f64,
    /// From when a frame should have left to when its value of slot 1 was seen.
    latency: Latency,
    /// How far the time between two frames of a universe is from 1/44 s.
    jitter: Latency,
    /// The most that the generator was behind its schedule.
    late: Duration,
    shard_busy: f64,
    bridges_busy: f64,
}

impl Change {
    /// Slots that change in each frame.
    fn slots(self) -> usize {
        match self {
            Self::Slots(count) => count,
            Self::Whole => 16,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots(count) => write!(f, "{count}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let slots = || text.parse().ok().filter(|count| *count <= SLOTS).map(Self::Slots);
        let change = if text == "whole" { Some(Self::Whole) } else { slots() };
        change.ok_or_else(|| format!("`{text}` is neither 0 to {SLOTS} slots nor `whole`"))
    }
}

impl Case {
    /// `artnet/in`.
    fn key(self) -> String {
        format!("{}/{}", self.protocol, self.way())
    }

    fn way(self) -> &'static str {
        if self.direction == Direction::Out { "out" } else { "in" }
    }

    fn name(self, universes: impl fmt::Display) -> String {
        let title = self.protocol.title();
        format!("{title} {}, {universes} universes, {} slots", self.way(), self.change)
    }
}

impl Command {
    /// Everything that was asked for, smallest first.
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let mut report = Report {
            title: "Universes at 44 frames a second".to_owned(),
            machine: Machine::look(),
            places,
            router: self.spawn.display().to_string(),
            rows: Vec::new(),
            rates: Vec::new(),
            figures: Vec::new(),
        };
        for &protocol in &self.protocol {
            let floor = input::floor(protocol, places)?;
            for &change in &self.slots {
                for direction in [Direction::In, Direction::Out] {
                    let is_meant = [direction, Direction::Both].contains(&self.direction);
                    // Out of the router comes only what changes; repeats are no stream.
                    let is_silent = direction == Direction::Out && change.slots() == 0;
                    if is_meant && !is_silent {
                        self.raise(Case { protocol, direction, change }, floor, &mut report)?;
                    }
                }
            }
        }
        if let Some(results) = &self.results {
            report.write(&report::folder_of_today(results, &report.machine)?, "universes")?;
        }
        Ok(report)
    }

    /// Looks for the first loss of one case. Where the first number loses, fewer are tried; where
    /// the last one does, too, those between them.
    fn raise(&self, case: Case, floor: f64, report: &mut Report) -> io::Result<()> {
        let (first, last) = (usize::from(self.from), usize::from(self.to));
        // The most without loss, and the fewest with it, of those that were tried.
        let (mut kept, mut lost) = (0, None);
        let mut next = Some(first);
        while let Some(universes) = next {
            let runs = self.measure(case, universes, report.places)?;
            note(case, universes, floor, &runs, report);
            if loses_nothing(&runs) {
                kept = universes;
            } else {
                lost = Some(universes);
            }
            next = following(kept, lost, last);
        }
        report.figures.push(Figure {
            key: format!("{}/most/{}", case.key(), case.change),
            name: case.name("most"),
            unit: "universes",
            rounds: vec![kept as f64],
            note: match lost {
                Some(lost) => format!("without loss; {lost} lost something"),
                None => "without loss, and more were not tried".to_owned(),
            },
        });
        Ok(())
    }

    /// Runs one number of universes as often as was asked for, or until it is decided.
    fn measure(&self, case: Case, universes: usize, places: Places) -> io::Result<Vec<Run>> {
        let length = Duration::try_from_secs_f64(self.seconds).map_err(io::Error::other)?;
        let mut runs = Vec::new();
        for _ in 0..self.rounds.max(1) {
            let mut stage = Stage::open(&self.spawn, places, universes, case)?;
            let run = machine::on_core(places.client, || match case.direction {
                Direction::Out => output::run(&mut stage, universes, case, length),
                _ => input::run(&mut stage, universes, case, length),
            })?;
            runs.push(run);
            let kept = runs.iter().filter(|run| run.lost() == 0).count();
            if kept.max(runs.len() - kept) > self.rounds as usize / 2 {
                break;
            }
        }
        Ok(runs)
    }
}

/// Whether most runs lost nothing.
fn loses_nothing(runs: &[Run]) -> bool {
    runs.iter().filter(|run| run.lost() == 0).count() * 2 > runs.len()
}

impl Run {
    /// What the router lost, and what it passed over.
    fn lost(&self) -> u64 {
        let values = self.values_missing.saturating_sub(self.superseded);
        self.packets_lost.max(values).saturating_sub(self.lost_here)
    }

    /// Values in whose place the router sent a newer one.
    fn passed_over(&self) -> u64 {
        self.values_missing.saturating_sub(self.superseded + self.packets_lost)
    }
}

/// Which number of universes says most about the first loss, when `kept` is the most without one
/// and `lost` the fewest with one: never more than `last`, and each twice another one.
fn following(kept: usize, lost: Option<usize>, last: usize) -> Option<usize> {
    match lost {
        None => (kept < last).then_some(last),
        Some(lost) if kept == 0 => Some(lost / 2).filter(|next| *next >= UNIVERSES_MIN),
        Some(lost) => {
            let doublings = (lost / kept).checked_ilog2().unwrap_or(0);
            (doublings > 1).then(|| kept << (doublings / 2))
        }
    }
}

fn note(case: Case, universes: usize, floor: f64, runs: &[Run], report: &mut Report) {
    let change = case.change;
    let (key, name) = (format!("{}/{universes}/{change}", case.key()), case.name(universes));
    let mut packets = Rate::new(&key, &name);
    let mut slots = Rate::new(format!("{key}/slots"), format!("{name}: changed slots"));
    let mut latency = Row::new(format!("{key}/latency"), format!("{name}: value"));
    let mut jitter = Row::new(format!("{key}/jitter"), format!("{name}: interval error"));
    let mut busy = [("shard", Vec::new()), ("bridges", Vec::new())];
    let mut unseen = ["lost on the way", "passed over", "superseded"].map(|how| (how, Vec::new()));
    for run in runs {
        let per_second = run.arrived as f64 / run.seconds;
        packets.rounds.push(RateRound {
            per_second,
            floor_per_second: (case.direction == Direction::In).then_some(floor),
            messages: run.arrived,
            breaks: run.lost(),
        });
        slots.rounds.push(RateRound {
            per_second: per_second * change.slots() as f64,
            floor_per_second: None,
            messages: run.arrived * change.slots() as u64,
            breaks: run.values_missing,
        });
        for (row, samples) in [(&mut latency, &run.latency), (&mut jitter, &run.jitter)] {
            // Where frames are lost, the times of the others say nothing.
            if run.lost() > 0 {
                continue;
            }
            row.round(samples, None);
            row.sent += run.sent;
            row.expected += run.sent;
            row.arrived += run.arrived;
        }
        latency.note = format!("generator late by {:.1} ms at most", run.late.as_secs_f64() * 1e3);
        busy[0].1.push(run.shard_busy * 100.0);
        busy[1].1.push(run.bridges_busy * 100.0);
        let counts = [run.packets_lost - run.lost_here, run.passed_over(), run.superseded];
        unseen.iter_mut().zip(counts).for_each(|((_, rounds), count)| rounds.push(count as f64));
        eprintln!(
            "{name}: {:.0} packets/s, {} packets lost ({} here, {} never sent), {} values missing \
             ({} superseded); shard {:.0} %, bridges {:.0} % of the core; value p50 {:.1} ms p99 \
             {:.1} ms, interval error p99 {:.2} ms",
            per_second,
            run.packets_lost,
            run.lost_here,
            run.unsent,
            run.values_missing,
            run.superseded,
            run.shard_busy * 100.0,
            run.bridges_busy * 100.0,
            run.latency.quantile_ns(0.5) as f64 / 1e6,
            run.latency.quantile_ns(0.99) as f64 / 1e6,
            run.jitter.quantile_ns(0.99) as f64 / 1e6,
        );
    }
    report.rates.push(packets);
    if change.slots() > 0 {
        report.rates.push(slots);
    }
    if loses_nothing(runs) {
        let rows = [latency, jitter].into_iter();
        report.rows.extend(rows.filter(|row| row.latency.count() > 0));
    }
    if case.direction == Direction::Out {
        report.figures.extend(unseen.map(|(how, rounds)| Figure {
            key: format!("{key}/{}", how.replace(' ', "-")),
            name: format!("{name}: {how}"),
            unit: "frames",
            rounds,
            note: String::new(),
        }));
    }
    report.figures.extend(busy.map(|(thread, rounds)| Figure {
        key: format!("{key}/{thread}"),
        name: format!("{name}: {thread}"),
        unit: "% of one core",
        rounds,
        note: String::new(),
    }));
}

/// When frame `number` of all universes should leave: each universe has its own place in a frame.
fn due(number: u64, universes: usize) -> Duration {
    let ns = u128::from(number) * 1_000_000_000 / u128::from(FRAMES_HZ) / universes as u128;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Frames of all universes together in `length`: whole rounds.
fn frames_in(length: Duration, universes: usize) -> u64 {
    let rounds = length.as_nanos() as u64 * FRAMES_HZ / 1_000_000_000;
    rounds.max(2) * universes as u64
}

/// What was last seen of each universe: which round, and when.
struct Seen {
    universes: Vec<(u64, Option<Duration>)>,
    /// When the last frame of each universe was sent, where that is noted.
    sent: Vec<Option<Duration>>,
    /// Universes and rounds that followed the one before within [`CROWDED`].
    crowded: BTreeSet<(usize, u64)>,
}

impl Seen {
    fn new(universes: usize) -> Self {
        let (sent, crowded) = (vec![None; universes], BTreeSet::new());
        Self { universes: vec![(0, None); universes], sent, crowded }
    }

    /// Notes that the frame of `round`, counted from 1, was sent at `now`.
    fn note_sent(&mut self, universe: usize, round: u64, now: Duration) {
        let before = self.sent.get_mut(universe).and_then(|sent| sent.replace(now));
        if before.is_some_and(|before| now.saturating_sub(before) < CROWDED) {
            self.crowded.insert((universe, round));
        }
    }

    /// Takes the value of slot 1 of `universe` at `now`: a round's number without its upper bits.
    /// Rounds that are passed over are missing.
    fn see(&mut self, universe: usize, level: u8, now: Duration, run: &mut Run) {
        let count = self.universes.len();
        let Some((round, seen)) = self.universes.get_mut(universe) else { return };
        let step = u64::from(level.wrapping_sub(*round as u8));
        if step == 0 {
            return;
        }
        // A missing round is superseded where the next one followed at once.
        let next =
            (*round + 2..=*round + step).filter(|next| self.crowded.contains(&(universe, *next)));
        run.superseded += next.count() as u64;
        *round += step;
        run.values_missing -= run.values_missing.min(1);
        let due = due((*round - 1) * count as u64 + universe as u64, count);
        run.latency.record_duration(now.saturating_sub(due));
        if let Some(before) = seen.replace(now) {
            let frame_ns = 1_000_000_000 / FRAMES_HZ;
            let apart_ns = now.saturating_sub(before).as_nanos() as u64;
            run.jitter.record(apart_ns.abs_diff(frame_ns * step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_evenly_and_in_whole_rounds() {
        assert_eq!(frames_in(Duration::from_secs(1), 100), 4_400);
        assert_eq!(frames_in(Duration::ZERO, 3), 6);
        assert_eq!(due(4_400, 100), Duration::from_secs(1));
        assert_eq!(due(50, 100), due(100, 100) / 2);
    }

    #[test]
    fn a_value_that_was_passed_over_stays_missing() {
        let mut run = Run { values_missing: 5, ..Run::default() };
        let mut seen = Seen::new(1);
        for (level, round) in [(1, 0), (2, 1), (2, 1), (5, 4)] {
            seen.see(0, level, due(round, 1), &mut run);
        }
        assert_eq!(run.values_missing, 2);
        assert_eq!((run.latency.count(), run.jitter.count()), (3, 2));
        assert!(run.jitter.quantile_ns(1.0) < 10, "in step with the frames");
    }

    #[test]
    fn a_value_that_the_next_one_followed_at_once_is_superseded_and_not_lost() {
        let mut run = Run { values_missing: 6, lost_here: 1, ..Run::default() };
        let mut seen = Seen::new(1);
        // Rounds 3 and 4 leave together, late; 6 a whole frame behind 5, which is passed over.
        for (round, due_as) in [(1, 0), (2, 1), (3, 3), (4, 3), (5, 4), (6, 5)] {
            seen.note_sent(0, round, due(due_as, 1));
        }
        for level in [1, 2, 4, 6] {
            seen.see(0, level, due(u64::from(level), 1), &mut run);
        }
        assert_eq!((run.values_missing, run.superseded, run.passed_over()), (2, 1, 1));
        assert_eq!(run.lost(), 0, "and one was lost here");
        run.packets_lost = 3;
        assert_eq!((run.lost(), run.passed_over()), (2, 0));
    }

    #[test]
    fn the_first_loss_is_found_between_the_first_number_and_the_last() {
        // From, to, how many pass; which numbers are tried.
        let cases: [(usize, usize, usize, &[usize]); 7] = [
            (1_024, 4_096, 9_999, &[1_024, 4_096]),
            (1_024, 4_096, 3_000, &[1_024, 4_096, 2_048]),
            (1_024, 4_096, 1_024, &[1_024, 4_096, 2_048]),
            (1_024, 4_096, 300, &[1_024, 512, 256]),
            (1_024, 4_096, 0, &[1_024, 512, 256, 128, 64]),
            (64, 64, 64, &[64]),
            (64, 4_096, 1_500, &[64, 4_096, 512, 1_024, 2_048]),
        ];
        for (from, to, pass, expected) in cases {
            let (mut kept, mut lost, mut tried, mut next) = (0, None, Vec::new(), Some(from));
            while let Some(universes) = next {
                tried.push(universes);
                if universes <= pass {
                    kept = universes
                } else {
                    lost = Some(universes)
                }
                next = following(kept, lost, to);
            }
            assert_eq!(tried, expected, "{pass} pass");
        }
    }

    #[test]
    fn changes_are_read_as_they_are_typed() {
        let cases = [("0", Some(Change::Slots(0))), ("512", Some(Change::Slots(512)))];
        for (text, change) in
            cases.into_iter().chain([("whole", Some(Change::Whole)), ("513", None)])
        {
            assert_eq!(text.parse().ok(), change, "{text}");
        }
    }
}

//! Results as people and programs read them: a table, a file per curve, a picture, one JSON object.
//!
//! Every measurement has a **key**, which names it for `clasp-bench table`: words joined by `/`, no
//! spaces. A command writes `<command>.json` into a folder of results; the table reads all of them.
//! A key stands in one file of a folder only.
//!
//! ```text
//! hop/{ws,tcp}/{set,event}/RATE/{spin,nohalt,adaptive,park}   row with floor
//! fanout/SUBSCRIBERS/{each,last}                              row with floor
//! shards/SUBSCRIBERS/{1,2}                                    row: the last of a fan-out
//! throughput/{ws,tcp}/{set,event}                             rate with floor
//! peer/PEER/hop/RATE                                          row
//! peer/PEER/ack/RATE                                          row; of the floor a hop
//! peer/PEER/throughput                                        rate
//! peer/PEER/fanout/SUBSCRIBERS/{each,last}                    row
//! peer/PEER/stream-fanout/SUBSCRIBERS                         rate: deliveries a second at most
//! peer/PEER/stream-fanout/SUBSCRIBERS/RATE                    row: each delivery at that rate
//! peer/PEER/stream-fanout/SUBSCRIBERS/RATE/deliveries         rate: deliveries a second
//! peer/PEER/sweep/RATE                                        row
//!     PEER: floor, clasp-rt-spin, clasp-rt-nohalt, clasp-rt-adaptive, clasp-rt-park,
//!           reference, mosquitto, nats, zenoh
//! lanes/go/{unloaded,overload,slow-reader}                    row: a GO event
//! lanes/streams/{delivered,dropped}                           figure: messages
//! histograms/{on,off}                                         rate
//! {artnet,sacn}/{in,out}/UNIVERSES/SLOTS[/slots]             rate: packets, slots a second
//! {artnet,sacn}/{in,out}/UNIVERSES/SLOTS/{latency,jitter}     row: values, error of each interval
//! {artnet,sacn}/{in,out}/UNIVERSES/SLOTS/{shard,bridges}      figure: % of one core
//! {artnet,sacn}/out/UNIVERSES/SLOTS/{lost-on-the-way,passed-over,superseded}  figure: frames
//! {artnet,sacn}/{in,out}/most/SLOTS                           figure: universes without loss
//!     SLOTS: how many change in each frame, or `whole`
//! unchanged/{comparison,artnet,sacn}/{instructions,ns}        figure: a packet
//! codec/{decode,encode}/{set,publish,mix}/{ours,clasp-core,rumqttc}   figure: ns a message
//! codec/{decode,encode}/{set,publish,mix}/WHOSE/allocations   figure: allocations a message
//! crossing/{same,across,there-and-back}                       row: one hop in one process
//! flat/params/COUNT/{instructions,ns}                         figure: a message
//! flat/subscriptions/COUNT[/stream]/{instructions,ns}         figure: a message
//! snapshot/PARAMS/complete                                    row
//! snapshot/PARAMS/others/{undisturbed,meanwhile}              row
//! memory/{param,idle-connection}                              figure: bytes
//! idle/CONNECTIONS/{adaptive,park}                            figure: % of one core
//! ```
//!
//! JSON of a file: `title`, `commit`, `router`, `machine`, and three lists. `rows` hold `key`,
//! `name`, counts, `latency` and `floor` over all samples, and `rounds`, each with its own
//! `latency` and `floor`; `rates` hold `key`, `per_second` and `floor_per_second` (medians of the
//! rounds) and `rounds`; `figures` hold `key`, `unit`, `value` (the median) and `rounds`. Round n
//! of two keys of one file was measured side by side, so their ratio is taken round by round.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clasp_rt_perf::calendar;
use clasp_rt_perf::histogram::{Latency, Summary};
use serde_json::{Value, json};

use crate::machine::{Machine, Places};
use crate::picture::{self, Curve};

/// One measured curve, and the floor of the same run to hold it against.
#[derive(Clone, Debug)]
pub struct Row {
    /// `hop/ws/set/1000/spin`: see the list above.
    pub key: String,
    /// `hop ws set 1000/s`, for people.
    pub name: String,
    /// All rounds together.
    pub latency: Latency,
    pub floor: Option<Latency>,
    /// In the order in which they were measured.
    pub rounds: Vec<Round>,
    pub sent: u64,
    pub expected: u64,
    pub arrived: u64,
    pub reordered: u64,
    /// What else a reader must know to trust the row.
    pub note: String,
}

/// One turn of a row: what was measured between two changes of whose turn it is.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub latency: Summary,
    pub floor: Option<Summary>,
}

/// One measured rate.
#[derive(Clone, Debug)]
pub struct Rate {
    pub key: String,
    pub name: String,
    pub rounds: Vec<RateRound>,
}

#[derive(Clone, Copy, Debug)]
pub struct RateRound {
    pub per_second: f64,
    /// Of the floor, where it was measured.
    pub floor_per_second: Option<f64>,
    pub messages: u64,
    /// Lost or out of order.
    pub breaks: u64,
}

/// One measured number that is neither a latency nor a rate: bytes, instructions, a share.
#[derive(Clone, Debug)]
pub struct Figure {
    pub key: String,
    pub name: String,
    /// `ns`, `instructions`, `bytes`, `% of one core`: what one of them is.
    pub unit: &'static str,
    pub rounds: Vec<f64>,
    pub note: String,
}

/// Everything one command measured.
#[derive(Clone, Debug)]
pub struct Report {
    pub title: String,
    pub machine: Machine,
    pub places: Places,
    /// How the router was started, or where it ran.
    pub router: String,
    pub rows: Vec<Row>,
    pub rates: Vec<Rate>,
    pub figures: Vec<Figure>,
}

impl Row {
    /// A row without a round yet.
    pub fn new(key: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            latency: Latency::new(),
            floor: None,
            rounds: Vec::new(),
            sent: 0,
            expected: 0,
            arrived: 0,
            reordered: 0,
            note: String::new(),
        }
    }

    /// Adds one round's samples; the counts beside them are the caller's to add.
    pub fn round(&mut self, latency: &Latency, floor: Option<&Latency>) {
        self.latency.merge(latency);
        if let Some(floor) = floor {
            self.floor.get_or_insert_with(Latency::new).merge(floor);
        }
        let floor = floor.map(Latency::summary);
        self.rounds.push(Round { latency: latency.summary(), floor });
    }

    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.arrived)
    }

    /// How many times the floor's figure a figure of the router is.
    fn ratio(&self, figure: impl Fn(&Summary) -> u64) -> Option<f64> {
        let floor = figure(&self.floor.as_ref()?.summary());
        (floor > 0).then(|| figure(&self.latency.summary()) as f64 / floor as f64)
    }
}

impl Rate {
    /// A rate without a round yet.
    pub fn new(key: impl Into<String>, name: impl Into<String>) -> Self {
        Self { key: key.into(), name: name.into(), rounds: Vec::new() }
    }

    /// The median of the rounds.
    pub fn per_second(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.per_second)).unwrap_or(0.0)
    }

    /// The median of the floor's rounds.
    pub fn floor_per_second(&self) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.floor_per_second))
    }

    fn messages(&self) -> u64 {
        self.rounds.iter().map(|round| round.messages).sum()
    }

    fn breaks(&self) -> u64 {
        self.rounds.iter().map(|round| round.breaks).sum()
    }
}

impl Figure {
    pub fn value(&self) -> f64 {
        median(self.rounds.iter().copied()).unwrap_or(0.0)
    }
}

/// The middle value, of two the lower: always one that was measured. `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

impl Report {
    /// Of this machine, with nothing measured yet. `router`: how it is started, or where it runs.
    pub fn new(title: &str, places: Places, router: impl Into<String>) -> Self {
        Self {
            title: title.to_owned(),
            machine: Machine::look(),
            places,
            router: router.into(),
            rows: Vec::new(),
            rates: Vec::new(),
            figures: Vec::new(),
        }
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let Machine { cpu, cores, kernel, governor, hypervisor, load, commit } = &self.machine;
        let kind = if *hypervisor { "virtual machine" } else { "bare machine" };
        line(&mut out, format_args!("# {}\n", self.title));
        line(&mut out, format_args!("- {cpu}, {cores} cores ({kind}), Linux {kernel}"));
        line(&mut out, format_args!("- frequency governor {governor}, load average {load}"));
        let Places { router, client } = self.places;
        line(&mut out, format_args!("- router or floor on core {router}, load on core {client}"));
        line(&mut out, format_args!("- router: `{}`, commit {commit}", self.router));
        out.push_str(
            "- open loop: each latency counts from the instant at which the message should have \
             left, microseconds; `x floor` is the ratio to a bare relay of the same bytes in the \
             same run\n",
        );
        if !self.rows.is_empty() {
            out.push_str(
                "\n| run | samples | p50 | p90 | p99 | p99.9 | p99.99 | max | p50 x floor | p99 x \
                 floor | lost | note |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            );
        }
        for row in &self.rows {
            table_line(&mut out, &row.name, &row.latency, row);
            if let Some(floor) = &row.floor {
                let s = floor.summary();
                let figures = figures(&s);
                line(
                    &mut out,
                    format_args!("| … its floor | {} | {figures} | 1 | 1 | | |", s.count),
                );
            }
        }
        if !self.rates.is_empty() {
            out.push_str(
                "\n| run | messages/s | x floor | messages | lost or out of order |\n\
                 |---|---|---|---|---|\n",
            );
        }
        for rate in &self.rates {
            let (name, per_second) = (&rate.name, rate.per_second());
            let (messages, breaks) = (rate.messages(), rate.breaks());
            let ratio = rate
                .floor_per_second()
                .map_or(String::new(), |floor| format!("{:.2}", per_second / floor));
            line(
                &mut out,
                format_args!("| {name} | {per_second:.0} | {ratio} | {messages} | {breaks} |"),
            );
        }
        if !self.figures.is_empty() {
            out.push_str(
                "\n| figure | median | least | most | unit | note |\n|---|---|---|---|---|---|\n",
            );
        }
        for figure in &self.figures {
            let Figure { name, unit, note, rounds, .. } = figure;
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let [value, least, most] = [figure.value(), least, most].map(short);
            line(
                &mut out,
                format_args!("| {name} | {value} | {least} | {most} | {unit} | {note} |"),
            );
        }
        out
    }

    pub fn json(&self) -> Value {
        let Machine { cpu, cores, kernel, governor, hypervisor, load, commit } = &self.machine;
        json!({
            "title": self.title,
            "commit": commit,
            "router": self.router,
            "machine": {
                "cpu": cpu, "cores": cores, "kernel": kernel, "governor": governor,
                "hypervisor": hypervisor, "load": load,
                "router_core": self.places.router, "client_core": self.places.client,
            },
            "rows": self.rows.iter().map(row_json).collect::<Vec<_>>(),
            "rates": self.rates.iter().map(rate_json).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure_json).collect::<Vec<_>>(),
        })
    }

    /// Writes what `command` measured into the folder of today, and says where that is.
    pub fn keep(&self, results: &Path, command: &str) -> io::Result<PathBuf> {
        let folder = folder_of_today(results, &self.machine)?;
        self.write(&folder, command)?;
        eprintln!("written to {}", folder.display());
        Ok(folder)
    }

    /// Writes `<command>.md`, `<command>.json`, a `.hgrm` file for each curve and a picture of each
    /// subject.
    pub fn write(&self, folder: &Path, command: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(format!("{command}.md")), self.markdown())?;
        fs::write(folder.join(format!("{command}.json")), format!("{:#}\n", self.json()))?;
        for row in &self.rows {
            write_hgrm(&folder.join(hgrm_name(&row.key)), &row.latency)?;
            if let Some(floor) = &row.floor {
                write_hgrm(&folder.join(hgrm_name(&format!("{}/floor", row.key))), floor)?;
            }
        }
        for subject in ["hop", "fanout"] {
            let picture = self.picture(subject);
            picture.map_or(Ok(()), |svg| fs::write(folder.join(format!("{subject}.svg")), svg))?;
        }
        Ok(())
    }

    /// The curves whose keys begin with `subject`, if there are any; the floor of the first stands
    /// for all.
    fn picture(&self, subject: &str) -> Option<String> {
        let rows = || self.rows.iter().filter(|row| row.key.starts_with(subject));
        let floor = rows().find_map(|row| row.floor.as_ref());
        let mut curves: Vec<Curve<'_>> = rows()
            .map(|row| Curve { name: &row.name, latency: &row.latency, reference: false })
            .collect();
        curves.extend(floor.map(|latency| Curve { name: "floor", latency, reference: true }));
        let title = format!("{}: {subject}", self.title);
        (!curves.is_empty()).then(|| picture::percentile_curves(&title, &curves))
    }
}

/// `<results>/<date>-<machine>`.
pub fn folder_of_today(results: &Path, machine: &Machine) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(results.join(format!("{}-{}", calendar::day(now.as_secs()), machine.slug())))
}

fn table_line(out: &mut String, name: &str, latency: &Latency, row: &Row) {
    let summary = latency.summary();
    let ratio = |figure: fn(&Summary) -> u64| {
        row.ratio(figure).map_or(String::new(), |ratio| format!("{ratio:.2}"))
    };
    let (p50, p99) = (ratio(|s| s.p50_ns), ratio(|s| s.p99_ns));
    let mut note = row.note.clone();
    if row.reordered > 0 {
        let comma = if note.is_empty() { "" } else { ", " };
        note = format!("{note}{comma}{} out of order", row.reordered);
    }
    line(
        out,
        format_args!(
            "| {name} | {} | {} | {p50} | {p99} | {} | {note} |",
            summary.count,
            figures(&summary),
            row.lost()
        ),
    );
}

fn figures(s: &Summary) -> String {
    let all = [s.p50_ns, s.p90_ns, s.p99_ns, s.p99_9_ns, s.p99_99_ns, s.max_ns];
    all.map(|ns| format!("{:.1}", ns as f64 / 1_000.0)).join(" | ")
}

fn row_json(row: &Row) -> Value {
    let rounds = row.rounds.iter().map(|round| {
        json!({
            "latency": summary_json(&round.latency),
            "floor": round.floor.as_ref().map(summary_json),
        })
    });
    json!({
        "key": row.key, "name": row.name,
        "sent": row.sent, "expected": row.expected, "arrived": row.arrived,
        "lost": row.lost(), "reordered": row.reordered, "note": row.note,
        "latency": summary_json(&row.latency.summary()),
        "floor": row.floor.as_ref().map(|floor| summary_json(&floor.summary())),
        "rounds": rounds.collect::<Vec<_>>(),
    })
}

fn rate_json(rate: &Rate) -> Value {
    let rounds = rate.rounds.iter().map(|round| {
        json!({
            "per_second": round.per_second, "floor_per_second": round.floor_per_second,
            "messages": round.messages, "lost_or_out_of_order": round.breaks,
        })
    });
    json!({
        "key": rate.key, "name": rate.name,
        "per_second": rate.per_second(), "floor_per_second": rate.floor_per_second(),
        "messages": rate.messages(), "lost_or_out_of_order": rate.breaks(),
        "rounds": rounds.collect::<Vec<_>>(),
    })
}

fn figure_json(figure: &Figure) -> Value {
    json!({
        "key": figure.key, "name": figure.name, "unit": figure.unit,
        "value": figure.value(), "rounds": figure.rounds, "note": figure.note,
    })
}

fn summary_json(s: &Summary) -> Value {
    json!({
        "count": s.count, "min_ns": s.min_ns, "mean_ns": s.mean_ns, "p50_ns": s.p50_ns,
        "p90_ns": s.p90_ns, "p99_ns": s.p99_ns, "p99_9_ns": s.p99_9_ns,
        "p99_99_ns": s.p99_99_ns, "max_ns": s.max_ns,
    })
}

/// The quantiles of a latency in one line, for a terminal.
pub fn latency_text(latency: &Latency) -> String {
    let s = latency.summary();
    let [p50, p90, p99, p99_9, max] =
        [s.p50_ns, s.p90_ns, s.p99_ns, s.p99_9_ns, s.max_ns].map(|ns| ns as f64 / 1_000.0);
    format!(
        "latency from the intended instant: p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} \
         p99.9 {p99_9:.1} max {max:.1} us of {} samples",
        s.count
    )
}

fn write_hgrm(path: &Path, latency: &Latency) -> io::Result<()> {
    latency.write_hgrm(&mut BufWriter::new(File::create(path)?))
}

/// The file of a curve, by its key.
pub fn hgrm_name(key: &str) -> String {
    format!("{}.hgrm", key.replace('/', "-"))
}

/// A number with as many places as it has use for.
fn short(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.3}"),
        ..1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut latency = Latency::new();
        let mut floor = Latency::new();
        (1..=1_000).for_each(|n| latency.record(n * 2_000));
        (1..=1_000).for_each(|n| floor.record(n * 1_000));
        let mut row = Row::new("hop/ws/set/1000/spin", "hop ws set 1000/s");
        row.round(&latency, Some(&floor));
        let row = Row {
            sent: 1_000,
            expected: 1_001,
            arrived: 1_000,
            reordered: 2,
            note: "small".to_owned(),
            ..row
        };
        let mut rate = Rate::new("throughput/tcp/event", "tcp event");
        for per_second in [80_000.0, 50_000.0, 40_000.0] {
            let (floor_per_second, messages, breaks) = (Some(100_000.0), 5, 0);
            rate.rounds.push(RateRound { per_second, floor_per_second, messages, breaks });
        }
        let figure = Figure {
            key: "memory/param".to_owned(),
            name: "a held param".to_owned(),
            unit: "bytes",
            rounds: vec![150.0, 152.25],
            note: String::new(),
        };
        Report {
            title: "A run".to_owned(),
            machine: Machine::look(),
            places: Places { router: 0, client: 1 },
            router: "clasp-rt server".to_owned(),
            rows: vec![row],
            rates: vec![rate],
            figures: vec![figure],
        }
    }

    #[test]
    fn a_table_gives_the_ratio_to_the_floor_and_what_was_lost() {
        let text = report().markdown();
        let row = text.lines().find(|line| line.starts_with("| hop ws set")).unwrap();
        assert!(row.ends_with("| 2.00 | 2.00 | 1 | small, 2 out of order |"), "{row}");
        assert!(text.contains("| tcp event | 50000 | 0.50 | 15 | 0 |"), "{text}");
        assert!(text.contains("| a held param | 150.0 | 150.0 | 152.2 | bytes |  |"), "{text}");
    }

    #[test]
    fn a_report_leaves_one_file_for_each_reader() {
        let folder = std::env::temp_dir().join(format!("clasp-bench-{}", std::process::id()));
        report().write(&folder, "suite").unwrap();
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let json: Value =
            serde_json::from_slice(&fs::read(folder.join("suite.json")).unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let expected = [
            "hop-ws-set-1000-spin-floor.hgrm",
            "hop-ws-set-1000-spin.hgrm",
            "hop.svg",
            "suite.json",
            "suite.md",
        ];
        assert_eq!(names, expected);
        assert_eq!(json["rows"][0]["lost"], 1);
        assert_eq!(json["rows"][0]["latency"]["count"], 1_000);
        assert_eq!(json["rows"][0]["rounds"][0]["latency"]["count"], 1_000);
        assert_eq!(json["rates"][0]["per_second"], 50_000.0);
        assert_eq!(json["figures"][0]["rounds"][1], 152.25);
    }
}

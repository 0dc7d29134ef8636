//! Results as people and programs read them: a table, a file per curve, a picture, one JSON object.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clasp_rt_perf::histogram::{Latency, Summary};
use serde_json::{Value, json};

use crate::machine::{Machine, Places};
use crate::picture::{self, Curve};

/// One measured curve, and the floor of the same run to hold it against.
#[derive(Clone, Debug)]
pub struct Row {
    /// `hop ws set 1000/s`: unique in a report.
    pub name: String,
    pub latency: Latency,
    pub floor: Option<Latency>,
    pub sent: u64,
    pub expected: u64,
    pub arrived: u64,
    pub reordered: u64,
    /// What else a reader must know to trust the row.
    pub note: String,
}

/// One measured rate.
#[derive(Clone, Debug)]
pub struct Rate {
    pub name: String,
    pub per_second: f64,
    /// Of the floor, where it was measured.
    pub floor_per_second: Option<f64>,
    pub messages: u64,
    pub breaks: u64,
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
}

impl Row {
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.arrived)
    }

    /// How many times the floor's figure a figure of the router is.
    fn ratio(&self, figure: impl Fn(&Summary) -> u64) -> Option<f64> {
        let floor = figure(&self.floor.as_ref()?.summary());
        (floor > 0).then(|| figure(&self.latency.summary()) as f64 / floor as f64)
    }
}

impl Report {
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
            let Rate { name, per_second, floor_per_second, messages, breaks } = rate;
            let ratio =
                floor_per_second.map_or(String::new(), |f| format!("{:.2}", per_second / f));
            line(
                &mut out,
                format_args!("| {name} | {per_second:.0} | {ratio} | {messages} | {breaks} |"),
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
        })
    }

    /// Writes `summary.md`, `summary.json`, a `.hgrm` file for each curve and a picture
    /// of each subject.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("summary.md"), self.markdown())?;
        fs::write(folder.join("summary.json"), format!("{:#}\n", self.json()))?;
        for row in &self.rows {
            write_hgrm(&folder.join(file_name(&row.name, "hgrm")), &row.latency)?;
            if let Some(floor) = &row.floor {
                let name = format!("{} floor", row.name);
                write_hgrm(&folder.join(file_name(&name, "hgrm")), floor)?;
            }
        }
        for subject in ["hop", "fan-out"] {
            let picture = self.picture(subject);
            picture.map_or(Ok(()), |svg| fs::write(folder.join(format!("{subject}.svg")), svg))?;
        }
        Ok(())
    }

    /// The curves whose names begin with `subject`, if there are any; the floor of the first stands
    /// for all.
    fn picture(&self, subject: &str) -> Option<String> {
        let rows = || self.rows.iter().filter(|row| row.name.starts_with(subject));
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
pub fn folder(results: &Path, machine: &Machine, unix_s: u64) -> PathBuf {
    results.join(format!("{}-{}", date(unix_s), machine.slug()))
}

/// The day in UTC, `2026-11-23`: days counted from 1 March of year 0, so that a leap day ends a
/// year.
fn date(unix_s: u64) -> String {
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
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
    json!({
        "name": row.name,
        "sent": row.sent, "expected": row.expected, "arrived": row.arrived,
        "lost": row.lost(), "reordered": row.reordered, "note": row.note,
        "latency": summary_json(&row.latency),
        "floor": row.floor.as_ref().map(summary_json),
        "p50_to_floor": row.ratio(|s| s.p50_ns),
        "p99_to_floor": row.ratio(|s| s.p99_ns),
    })
}

fn rate_json(rate: &Rate) -> Value {
    json!({
        "name": rate.name, "per_second": rate.per_second,
        "floor_per_second": rate.floor_per_second,
        "messages": rate.messages, "lost_or_out_of_order": rate.breaks,
    })
}

fn summary_json(latency: &Latency) -> Value {
    let s = latency.summary();
    json!({
        "count": s.count, "min_ns": s.min_ns, "mean_ns": s.mean_ns, "p50_ns": s.p50_ns,
        "p90_ns": s.p90_ns, "p99_ns": s.p99_ns, "p99_9_ns": s.p99_9_ns,
        "p99_99_ns": s.p99_99_ns, "max_ns": s.max_ns,
    })
}

fn write_hgrm(path: &Path, latency: &Latency) -> io::Result<()> {
    latency.write_hgrm(&mut BufWriter::new(File::create(path)?))
}

fn file_name(name: &str, extension: &str) -> String {
    let slug: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{slug}.{extension}")
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
        let row = Row {
            name: "hop ws set 1000/s".to_owned(),
            latency,
            floor: Some(floor),
            sent: 1_000,
            expected: 1_001,
            arrived: 1_000,
            reordered: 2,
            note: "small".to_owned(),
        };
        let rate = Rate {
            name: "tcp event".to_owned(),
            per_second: 50_000.0,
            floor_per_second: Some(100_000.0),
            messages: 5,
            breaks: 0,
        };
        Report {
            title: "A run".to_owned(),
            machine: Machine::look(),
            places: Places { router: 0, client: 1 },
            router: "clasp-rt server".to_owned(),
            rows: vec![row],
            rates: vec![rate],
        }
    }

    #[test]
    fn a_table_gives_the_ratio_to_the_floor_and_what_was_lost() {
        let text = report().markdown();
        let row = text.lines().find(|line| line.starts_with("| hop ws set")).unwrap();
        assert!(row.ends_with("| 2.00 | 2.00 | 1 | small, 2 out of order |"), "{row}");
        assert!(text.contains("| tcp event | 50000 | 0.50 | 5 | 0 |"), "{text}");
    }

    #[test]
    fn a_report_leaves_one_file_for_each_reader() {
        let folder = std::env::temp_dir().join(format!("clasp-bench-{}", std::process::id()));
        report().write(&folder).unwrap();
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let json: Value =
            serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let expected = [
            "hop-ws-set-1000-s-floor.hgrm",
            "hop-ws-set-1000-s.hgrm",
            "hop.svg",
            "summary.json",
            "summary.md",
        ];
        assert_eq!(names, expected);
        assert_eq!(json["rows"][0]["lost"], 1);
        assert_eq!(json["rows"][0]["latency"]["count"], 1_000);
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_392_000, "2026-11-23"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (unix_s, expected) in cases {
            assert_eq!(date(unix_s), expected);
        }
    }
}

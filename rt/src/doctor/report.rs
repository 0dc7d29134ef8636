//! The report on paper: lines for people, JSON for programs.

use std::fmt;

use clasp_rt_perf::histogram::Latency;
use serde_json::{Value, json};

use super::probe::Core;
use super::{Finding, Verdict, are, named};

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Cores that were looked at.
    pub cores: Vec<usize>,
    pub findings: Vec<Finding>,
    /// Empty when nothing was measured.
    pub probe: Vec<Core>,
}

impl Report {
    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// The same facts under stable names; times in microseconds.
    pub fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "topic": finding.topic,
                "verdict": finding.verdict.name(),
                "found": finding.found,
                "costs": finding.costs,
                "fix": finding.fix,
            })
        });
        let probe = self.probe.iter().map(|core| {
            json!({
                "core": core.core,
                "wakes": figures(&core.wakes),
                "wakes_awake": core.wakes_awake.as_ref().map(figures),
                "held_up": figures(&core.held_up),
                "lost_percent": core.lost * 100.0,
            })
        });
        json!({
            "cores": self.cores,
            "findings": findings.collect::<Vec<_>>(),
            "probe": probe.collect::<Vec<_>>(),
            "warn": self.count(Verdict::Warn),
            "lacks": self.count(Verdict::Lacks),
        })
    }
}

fn figures(latency: &Latency) -> Value {
    let us = |quantile| latency.quantile_ns(quantile) as f64 / 1e3;
    json!({
        "count": latency.count(),
        "p50_us": us(0.5),
        "p99_us": us(0.99),
        "p99_9_us": us(0.999),
        "max_us": us(1.0),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { topic, verdict, found, costs, fix } in &self.findings {
            writeln!(f, "{:<6} {topic:<14} {found}", verdict.name())?;
            if *verdict != Verdict::Ok {
                writeln!(f, "{:21} costs: {costs}", "")?;
                writeln!(f, "{:21} fix:   {fix}", "")?;
            }
        }
        if !self.probe.is_empty() {
            writeln!(f, "\nhow late {} without any router, in µs", are_late(&self.cores))?;
            let titles = ["p50", "p99", "p99.9", "max"];
            let [p50, p99, p99_9, max] = titles;
            writeln!(f, "  {:<28} {p50:>9} {p99:>9} {p99_9:>9} {max:>9}", "")?;
        }
        for core in &self.probe {
            let number = core.core;
            row(f, &format!("core {number}, asleep"), &core.wakes)?;
            if let Some(awake) = &core.wakes_awake {
                row(f, &format!("core {number}, asleep, no halt"), awake)?;
            }
            row(f, &format!("core {number}, spinning"), &core.held_up)?;
        }
        let (warn, lacks) = (self.count(Verdict::Warn), self.count(Verdict::Lacks));
        writeln!(f, "\n{warn} to change, {lacks} not there")
    }
}

/// `core 2 is`, `cores 2-3 are`.
fn are_late(cores: &[usize]) -> String {
    format!("{} {}", named(cores), are(cores))
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, latency: &Latency) -> fmt::Result {
    write!(f, "  {what:<28}")?;
    for quantile in [0.5, 0.99, 0.999, 1.0] {
        write!(f, " {:>9.1}", latency.quantile_ns(quantile) as f64 / 1e3)?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_well_is_explained() {
        let report = Report {
            cores: vec![2, 3],
            findings: vec![
                Finding::ok("swap", "off"),
                Finding::warn("governor", "powersave on core 2", "slow", "cpupower"),
                Finding::lacks("busy poll", "no", "waits", "newer"),
            ],
            probe: Vec::new(),
        };
        let text = report.to_string();
        let expected = "OK     swap           off\n\
             WARN   governor       powersave on core 2\n                      \
             costs: slow\n                      fix:   cpupower\n\
             LACKS  busy poll      no\n                      \
             costs: waits\n                      fix:   newer\n\n\
             1 to change, 1 not there\n";
        assert_eq!(text, expected);
        let json = report.json();
        assert_eq!((&json["warn"], &json["lacks"]), (&json!(1), &json!(1)));
        assert_eq!(json["findings"][1]["fix"], "cpupower");
        assert_eq!(json["cores"], json!([2, 3]));
    }
}

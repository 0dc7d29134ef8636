//! Numbers on their way out: the text that Prometheus scrapes, and JSON for everyone else.

use std::fmt::Write;

use crate::counters::Reader;
use crate::histogram::{Latency, Summary};

/// What one page of counters belongs to: `shard="0"`, `bridge="osc"`.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a, T> {
    pub label: &'a str,
    pub value: &'a str,
    pub of: &'a T,
}

/// Appends every counter as `<prefix>_<name>_total`, and what is named `…_now`, because it also
/// falls, as the gauge `<prefix>_<name>`; one line per page, grouped by name.
///
/// Prometheus wants all lines of one metric together, below one TYPE line.
pub fn prometheus_counters(out: &mut String, prefix: &str, pages: &[Labelled<'_, Reader>]) {
    let mut names: Vec<&str> = Vec::new();
    for name in pages.iter().flat_map(|page| page.of.names()) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    for name in names {
        let (suffix, kind) =
            if name.ends_with("_now") { ("", "gauge") } else { ("_total", "counter") };
        let metric = format!("{}_{}{suffix}", identifier(prefix), identifier(name));
        line(out, format_args!("# TYPE {metric} {kind}"));
        for page in pages {
            for (_, total) in page.of.iter().filter(|(found, _)| *found == name) {
                let (label, value) = (identifier(page.label), escaped(page.value));
                line(out, format_args!("{metric}{{{label}=\"{value}\"}} {total}"));
            }
        }
    }
}

/// Appends latencies as a Prometheus summary in seconds.
pub fn prometheus_latency(out: &mut String, metric: &str, sets: &[Labelled<'_, Latency>]) {
    let metric = identifier(metric);
    line(out, format_args!("# TYPE {metric} summary"));
    for set in sets {
        let (label, value) = (identifier(set.label), escaped(set.value));
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let seconds = set.of.quantile_ns(quantile) as f64 / 1e9;
            line(
                out,
                format_args!(
                    "{metric}{{{label}=\"{value}\",quantile=\"{quantile}\"}} {seconds:.9}"
                ),
            );
        }
        let Summary { count, mean_ns, .. } = set.of.summary();
        let sum = mean_ns * count as f64 / 1e9;
        line(out, format_args!("{metric}_sum{{{label}=\"{value}\"}} {sum:.9}"));
        line(out, format_args!("{metric}_count{{{label}=\"{value}\"}} {count}"));
    }
}

/// All counters as one JSON object: `{"shard 0":{"name":1}}`.
pub fn json_counters(pages: &[Labelled<'_, Reader>]) -> String {
    let mut out = String::from("{");
    for (index, page) in pages.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (label, value) = (escaped(page.label), escaped(page.value));
        push(&mut out, format_args!("{comma}\"{label} {value}\":{{"));
        for (index, (name, total)) in page.of.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            push(&mut out, format_args!("{comma}\"{}\":{total}", escaped(name)));
        }
        out.push('}');
    }
    out.push('}');
    out
}

/// A summary as a JSON object, nanoseconds.
pub fn json_summary(summary: &Summary) -> String {
    let Summary { count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns } =
        summary;
    format!(
        "{{\"count\":{count},\"min_ns\":{min_ns},\"mean_ns\":{mean_ns:.1},\"p50_ns\":{p50_ns},\
         \"p90_ns\":{p90_ns},\"p99_ns\":{p99_ns},\"p99_9_ns\":{p99_9_ns},\
         \"p99_99_ns\":{p99_99_ns},\"max_ns\":{max_ns}}}"
    )
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    push(out, text);
    out.push('\n');
}

/// A name as Prometheus allows it: letters, digits and underscores.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Text inside double quotes; the rules of Prometheus and JSON agree on what both need.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => push(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::page;

    #[test]
    fn each_metric_has_one_type_line_and_a_line_per_page() {
        let (mut first, first_read) = page(&["frames in", "dropped"]);
        let (mut second, second_read) = page(&["dropped", "links_now"]);
        first.store_all(&[7, 1]);
        second.store_all(&[2, 3]);
        let pages = [
            Labelled { label: "shard", value: "0", of: &first_read },
            Labelled { label: "bridge", value: "o\"sc\\", of: &second_read },
        ];
        let mut text = String::new();
        prometheus_counters(&mut text, "clasp", &pages);
        let expected = "# TYPE clasp_frames_in_total counter\n\
                        clasp_frames_in_total{shard=\"0\"} 7\n\
                        # TYPE clasp_dropped_total counter\n\
                        clasp_dropped_total{shard=\"0\"} 1\n\
                        clasp_dropped_total{bridge=\"o\\\"sc\\\\\"} 2\n\
                        # TYPE clasp_links_now gauge\n\
                        clasp_links_now{bridge=\"o\\\"sc\\\\\"} 3\n";
        assert_eq!(text, expected);
        let json = "{\"shard 0\":{\"frames in\":7,\"dropped\":1},\
                    \"bridge o\\\"sc\\\\\":{\"dropped\":2,\"links_now\":3}}";
        assert_eq!(json_counters(&pages), json);
    }

    #[test]
    fn a_latency_is_exported_in_seconds() {
        let mut latency = Latency::new();
        (0..100).for_each(|_| latency.record(1_000_000));
        let mut text = String::new();
        let sets = [Labelled { label: "shard", value: "0", of: &latency }];
        prometheus_latency(&mut text, "clasp_turn_seconds", &sets);
        assert!(text.starts_with("# TYPE clasp_turn_seconds summary\n"), "{text}");
        assert!(text.contains("clasp_turn_seconds_count{shard=\"0\"} 100\n"), "{text}");
        let median = text
            .lines()
            .find_map(|line| line.strip_prefix("clasp_turn_seconds{shard=\"0\",quantile=\"0.5\"} "))
            .map(|seconds| seconds.parse::<f64>().unwrap())
            .unwrap();
        assert!((median / 0.001 - 1.0).abs() < 0.001, "{median}");
    }

    #[test]
    fn a_summary_is_one_json_object_with_a_unit_in_every_name() {
        let text =
            json_summary(&Summary { count: 2, min_ns: 1, mean_ns: 1.5, ..Summary::default() });
        assert!(
            text.starts_with("{\"count\":2,\"min_ns\":1,\"mean_ns\":1.5,\"p50_ns\":0,"),
            "{text}"
        );
        assert!(text.ends_with("\"max_ns\":0}"), "{text}");
    }
}

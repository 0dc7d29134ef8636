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

/// What was counted of one kind of message.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Names and values that tell it from the others, such as `shard` and `0`.
    pub labels: Vec<(&'static str, String)>,
    pub latency: Latency,
    /// All samples together, exactly.
    pub sum_ns: u64,
    /// The longest sample, exactly.
    pub max_ns: u64,
}

/// The share of messages that each quantile of a summary speaks of.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// Appends latencies since the start as a summary in seconds; its quantile 1 is the maximum.
pub fn prometheus_summary(out: &mut String, metric: &str, help: &str, spreads: &[Spread]) {
    let metric = identifier(metric);
    line(out, format_args!("# HELP {metric} {help}"));
    line(out, format_args!("# TYPE {metric} summary"));
    for spread in spreads {
        let labels = labels(&spread.labels);
        for quantile in QUANTILES {
            let ns = spread.latency.quantile_ns(quantile).min(spread.max_ns);
            let seconds = seconds(ns);
            line(out, format_args!("{metric}{{{labels},quantile=\"{quantile}\"}} {seconds:.9}"));
        }
        sum_and_count(out, &metric, &labels, spread);
    }
}

/// Bounds of the buckets that Prometheus is told: 1, 2 and 5 of each power of ten.
const BOUNDS_NS: [u64; 19] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Appends the same as a histogram, of which any window has quantiles:
/// `histogram_quantile(0.99, rate(<metric>_bucket[1m]))`.
pub fn prometheus_histogram(out: &mut String, metric: &str, help: &str, spreads: &[Spread]) {
    let metric = identifier(metric);
    line(out, format_args!("# HELP {metric} {help}"));
    line(out, format_args!("# TYPE {metric} histogram"));
    for spread in spreads {
        let labels = labels(&spread.labels);
        let counts = spread.latency.counts_up_to(&BOUNDS_NS);
        for (bound, count) in BOUNDS_NS.iter().zip(counts) {
            let bound = seconds(*bound);
            line(out, format_args!("{metric}_bucket{{{labels},le=\"{bound}\"}} {count}"));
        }
        let all = spread.latency.count();
        line(out, format_args!("{metric}_bucket{{{labels},le=\"+Inf\"}} {all}"));
        sum_and_count(out, &metric, &labels, spread);
    }
}

fn sum_and_count(out: &mut String, metric: &str, labels: &str, spread: &Spread) {
    line(out, format_args!("{metric}_sum{{{labels}}} {:.9}", seconds(spread.sum_ns)));
    line(out, format_args!("{metric}_count{{{labels}}} {}", spread.latency.count()));
}

fn labels(labels: &[(&'static str, String)]) -> String {
    let labels = labels.iter().map(|(name, value)| {
        let (name, value) = (identifier(name), escaped(value));
        format!("{name}=\"{value}\"")
    });
    labels.collect::<Vec<_>>().join(",")
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The same as a JSON list of objects: labels, and then [`json_summary`].
pub fn json_spreads(spreads: &[Spread]) -> String {
    let spreads = spreads.iter().map(|spread| {
        let labels = spread.labels.iter().map(|(name, value)| {
            let (name, value) = (escaped(name), escaped(value));
            format!("\"{name}\":\"{value}\",")
        });
        let summary = json_summary(&spread.latency.summary());
        format!("{{{}{}", labels.collect::<String>(), &summary[1..])
    });
    format!("[{}]", spreads.collect::<Vec<_>>().join(","))
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

    fn spread(class: &str, samples_ns: &[u64]) -> Spread {
        let mut latency = Latency::new();
        samples_ns.iter().for_each(|ns| latency.record(*ns));
        let labels = vec![("shard", "0".to_owned()), ("class", class.to_owned())];
        let sum_ns = samples_ns.iter().sum();
        Spread { labels, latency, sum_ns, max_ns: samples_ns.iter().copied().max().unwrap_or(0) }
    }

    #[test]
    fn a_summary_is_told_in_seconds_and_ends_with_the_maximum() {
        let spreads = [spread("param", &[12_000, 12_000, 800_000]), spread("e\"t", &[5_000])];
        let mut text = String::new();
        prometheus_summary(&mut text, "clasp_hop_seconds", "From here to there.", &spreads);
        let start = "# HELP clasp_hop_seconds From here to there.\n\
                     # TYPE clasp_hop_seconds summary\n\
                     clasp_hop_seconds{shard=\"0\",class=\"param\",quantile=\"0.5\"} 0.000012";
        assert!(text.starts_with(start), "{text}");
        for said in [
            "clasp_hop_seconds{shard=\"0\",class=\"param\",quantile=\"1\"} 0.000800000\n",
            "clasp_hop_seconds_sum{shard=\"0\",class=\"param\"} 0.000824000\n",
            "clasp_hop_seconds_count{shard=\"0\",class=\"param\"} 3\n",
            "clasp_hop_seconds_count{shard=\"0\",class=\"e\\\"t\"} 1\n",
        ] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut text = String::new();
        let spreads = [spread("param", &[900, 12_000, 12_000, 2_000_000_000])];
        prometheus_histogram(&mut text, "clasp_hop", "From here to there.", &spreads);
        for said in [
            "# TYPE clasp_hop histogram\n",
            "clasp_hop_bucket{shard=\"0\",class=\"param\",le=\"0.000001\"} 1\n",
            "clasp_hop_bucket{shard=\"0\",class=\"param\",le=\"0.00001\"} 1\n",
            "clasp_hop_bucket{shard=\"0\",class=\"param\",le=\"0.00002\"} 3\n",
            "clasp_hop_bucket{shard=\"0\",class=\"param\",le=\"1\"} 3\n",
            "clasp_hop_bucket{shard=\"0\",class=\"param\",le=\"+Inf\"} 4\n",
            "clasp_hop_count{shard=\"0\",class=\"param\"} 4\n",
        ] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
    }

    #[test]
    fn spreads_are_a_json_list_of_labels_and_figures() {
        assert_eq!(json_spreads(&[]), "[]");
        let text = json_spreads(&[spread("param", &[7]), spread("event", &[8, 8])]);
        assert!(text.starts_with("[{\"shard\":\"0\",\"class\":\"param\",\"count\":1,"), "{text}");
        assert!(text.contains("},{\"shard\":\"0\",\"class\":\"event\",\"count\":2,"), "{text}");
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

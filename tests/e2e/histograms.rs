//! How long messages take, as a running router tells it: counted once each, under their class, and
//! read by the tools that are meant to read it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use clasp_rt_tests::eventually;
use clasp_rt_tests::frame::encode;
use clasp_rt_tests::program::{Program, clasp_rt, run};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFolder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::{Value as Json, json};

/// Told what it counts, and without a limit on what a test sends.
const ARGUMENTS: [&str; 4] = ["--metrics", "127.0.0.1:0", "--rate-limit", "0"];

#[test]
fn each_message_counts_once_under_its_class() {
    let router = start(&["--shards", "1"]);
    let (mut desk, mut listeners) = (router.join("desk"), Vec::new());
    for number in 0..3 {
        let mut listener = router.join(&format!("listener {number}"));
        listener.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/show/**"}));
        listeners.push(listener);
    }
    let set = |n: u64| json!({"type": "SET", "address": format!("/show/{n}"), "value": n});
    let publish = |signal: &str, more: Json| {
        let mut message = json!({"type": "PUBLISH", "signal": signal, "address": "/show/x"});
        let fields = message.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        message
    };
    let mut messages: Vec<Json> = (0..40).map(set).collect();
    messages.extend((0..30).map(|n| publish("event", json!({"value": n}))));
    messages.extend((0..20).map(|n| publish("stream", json!({"value": n}))));
    for id in 0..5 {
        messages.push(publish("gesture", json!({"id": id, "phase": "start", "value": 0})));
        messages.push(publish("gesture", json!({"id": id, "phase": "end", "value": 1})));
    }
    messages.extend((0..7).map(|n| json!({"type": "BUNDLE", "messages": [set(n), set(n + 1)]})));
    let frames: Vec<_> = messages.iter().map(encode).collect();
    desk.send_together(frames.iter().map(Vec::as_slice));
    listeners.iter_mut().for_each(|listener| drop(listener.receive_all()));
    let expected = [("param", 40), ("event", 30), ("stream", 20), ("gesture", 10), ("bundle", 7)];
    let hops = eventually("every message is handed over", || {
        let hops = Hops::ask(&router);
        expected.iter().all(|(class, count)| hops.total(class, "same") == *count).then_some(hops)
    });
    // Stages are sampled, one message for several, more or less; of 107 a few are.
    for stage in ["decode", "home", "egress", "kernel"] {
        let counted: u64 = expected.iter().map(|(class, _)| hops.count(class, "same", stage)).sum();
        assert!(0 < counted && counted <= 107 + 256, "{stage}: {counted}");
    }
    assert!(hops.0.iter().all(|hop| hop["path"] == "same"), "one shard");
    assert!(hops.total("other", "same") > 0, "HELLO is answered");
}

#[test]
fn what_crosses_counts_on_each_shard_that_hands_it_over() {
    let router = start(&["--shards", "2"]);
    let mut listeners: Vec<_> = (0..16).map(|n| router.join(&format!("listener {n}"))).collect();
    for listener in &mut listeners {
        listener.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    }
    let mut desk = router.join("desk");
    for n in 0..50 {
        desk.send(json!({
            "type": "PUBLISH", "signal": "event", "address": format!("/{n}/go"), "value": n,
        }));
    }
    for listener in &mut listeners {
        for _ in 0..50 {
            listener.receive_where(|message| message["type"] == "PUBLISH");
        }
    }
    let counters = router.counters_where(|counters| counters.of_all(2, "subscriptions_now") == 16);
    let shards = (0..2).filter(|n| counters.of_shard(*n, "subscriptions_now") > 0).count() as u64;
    assert_eq!(shards, 2, "the kernel spreads 16 connections");
    let hops = eventually("every shard has handed over", || {
        let hops = Hops::ask(&router);
        let all = hops.total("event", "same") + hops.total("event", "across");
        assert!(all <= 50 * shards, "{all} of {}", 50 * shards);
        (all == 50 * shards).then_some(hops)
    });
    // Whatever the homes are, one of the two shards is not where the event came in.
    assert!(hops.total("event", "across") >= 50, "{:?}", hops.0);
}

#[test]
fn what_had_to_wait_for_a_slow_reader_counts_when_it_leaves() {
    let router = start(&["--shards", "1"]);
    let (mut desk, mut listener) = pair(&router);
    // More than the kernel takes of a listener that does not read.
    let long = "x".repeat(10_000);
    let events = 60;
    for _ in 0..events {
        desk.send(json!({
            "type": "PUBLISH", "signal": "event", "address": "/cue/go", "value": long,
        }));
    }
    desk.ask(json!({"type": "GET", "address": "/nothing"}));
    for _ in 0..events {
        listener.receive_where(|message| message["type"] == "PUBLISH");
    }
    eventually("each event is counted, and once", || {
        let total = Hops::ask(&router).total("event", "same");
        assert!(total <= events, "{total}");
        (total == events).then_some(())
    });
}

#[test]
fn prometheus_reads_a_summary_and_a_histogram_that_agree() {
    let router = start(&["--shards", "1"]);
    let (mut desk, mut listener) = pair(&router);
    send_events(&mut desk, &mut listener, 25);
    let text = eventually("the events are counted", || {
        let text = ask(&router, "/metrics");
        let count = "clasp_rt_hop_seconds_count{shard=\"0\",class=\"event\",path=\"same\",\
                     stage=\"total\"} 25\n";
        text.contains(count).then_some(text)
    });
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
    let of = |name: &str| {
        let event = |labels: &BTreeMap<String, String>| {
            labels.get("class").map(String::as_str) == Some("event")
                && labels.get("stage").map(String::as_str) == Some("total")
        };
        let some = samples.iter().filter(|(found, labels, _)| *found == name && event(labels));
        some.map(|(_, labels, value)| (labels.clone(), *value)).collect::<Vec<_>>()
    };
    let quantiles = of("clasp_rt_hop_seconds");
    let names: Vec<_> = quantiles.iter().map(|(labels, _)| labels["quantile"].clone()).collect();
    assert_eq!(names, ["0.5", "0.9", "0.99", "0.999", "1"]);
    assert!(quantiles.is_sorted_by_key(|(_, seconds)| *seconds), "{quantiles:?}");
    assert!(quantiles[0].1 > 0.0);
    let [(_, sum)] = of("clasp_rt_hop_seconds_sum")[..] else { panic!("one sum") };
    assert!(sum <= 25.0 * quantiles[4].1 + 1e-9, "{sum}");
    let buckets = of("clasp_rt_hop_histogram_seconds_bucket");
    assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{buckets:?}");
    let bound = |labels: &BTreeMap<String, String>| match labels["le"].as_str() {
        "+Inf" => f64::INFINITY,
        text => text.parse().expect("a bound in seconds"),
    };
    assert!(buckets.is_sorted_by_key(|(labels, _)| bound(labels)), "{buckets:?}");
    let (last, all) = buckets.last().expect("buckets");
    assert_eq!((last["le"].as_str(), *all), ("+Inf", 25.0));
    for name in ["clasp_rt_hop_histogram_seconds_count", "clasp_rt_hop_seconds_count"] {
        assert_eq!(of(name)[0].1, 25.0, "{name}");
    }
    // Every metric has one type, told before its first sample.
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: BTreeMap<_, _> = types.iter().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(names.len(), types.len());
    assert_eq!(names["clasp_rt_hop_seconds"], "summary");
    assert_eq!(names["clasp_rt_hop_histogram_seconds"], "histogram");
}

#[test]
fn hist_writes_files_that_hdrhistograms_tools_read() {
    let router = start(&["--shards", "1"]);
    let (mut desk, mut listener) = pair(&router);
    send_events(&mut desk, &mut listener, 10);
    let folder = TempFolder::new();
    let out = folder.to_str().expect("a path of plain text");
    let mut hist = command(&router, "hist");
    hist.args(["--out", out, "--seconds", "6", "--interval", "0.5"]);
    let mut hist = Program::start(&mut hist);
    // It looks once before it makes the file: what comes now is of its time.
    eventually("the log is there", || folder.join("clasp-rt.hlog").exists().then_some(()));
    send_events(&mut desk, &mut listener, 100);
    let said = hist.line().unwrap_or_else(|| panic!("{}", hist.errors()));
    assert!(hist.wait().success(), "{}", hist.errors());
    assert!(said.contains("messages in"), "{said}");
    let log = std::fs::read(folder.join("clasp-rt.hlog")).expect("the log");
    let (mut events, mut lines, mut last) = (Histogram::<u64>::new(3).unwrap(), 0, 0.0);
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.expect("a line of a log") else { continue };
        lines += 1;
        let start = interval.start_timestamp().as_secs_f64();
        assert!(start >= last, "intervals follow each other");
        last = start;
        let tag = interval.tag().expect("each histogram has a tag").as_str().to_owned();
        let bytes = data_encoding::BASE64.decode(interval.encoded_histogram().as_bytes());
        let bytes = bytes.expect("base64");
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut &*bytes).expect("a histogram");
        if tag == "shard0-event-same-total" {
            events.add(&histogram).expect("of one range");
        }
    }
    assert!(lines >= 2);
    assert_eq!(events.len(), 100);
    let table = std::fs::read_to_string(folder.join("shard0-event-same-total.hgrm"));
    let table = table.expect("a table of the events");
    let rows: Vec<Vec<f64>> = table
        .lines()
        .skip(2)
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|word| word.parse().expect("a number")).collect())
        .collect();
    assert!(rows.is_sorted_by_key(|row| row[0]), "{table}");
    let last = rows.last().expect("rows");
    assert_eq!((last[1], last[2]), (1.0, 100.0), "{table}");
}

#[test]
fn hist_of_a_silent_router_says_that_nothing_passed() {
    let router = start(&["--shards", "1"]);
    let folder = TempFolder::new();
    let out = folder.to_str().expect("a path of plain text");
    let output = run(command(&router, "hist").args(["--out", out, "--seconds", "0.2"]));
    assert_eq!(output.status.code(), Some(4), "{}", errors(&output));
    assert!(folder.join("clasp-rt.hlog").exists());
}

#[test]
fn top_shows_rates_latencies_and_shards() {
    let router = start(&["--shards", "1"]);
    let (mut desk, mut listener) = pair(&router);
    let mut top = Program::start(command(&router, "top").arg("--once"));
    while top.is_running() {
        send_events(&mut desk, &mut listener, 10);
    }
    assert!(top.wait().success(), "{}", top.errors());
    let lines: Vec<String> = std::iter::from_fn(|| top.line()).collect();
    let row = |start: &str| -> Vec<String> {
        let line = lines.iter().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {lines:#?}"));
        line.split_whitespace().map(ToOwned::to_owned).collect()
    };
    let number =
        |word: &str| word.parse::<f64>().unwrap_or_else(|_| panic!("{word} in {lines:#?}"));
    assert!(lines[0].starts_with("clasp-rt at "), "{lines:#?}");
    assert!(number(&row("messages")[1]) > 0.0);
    assert_eq!(row("holds")[1..3], ["2", "links"]);
    let event = row("event");
    assert_eq!(event[1], "same");
    let figures: Vec<f64> = event[2..].iter().map(|word| number(word)).collect();
    assert!(figures[0] >= 10.0 && figures[1..].is_sorted() && figures[1] > 0.0, "{event:?}");
    for stage in ["decode", "home", "egress", "kernel"] {
        assert!(number(&row(stage)[2]) > 0.0, "{stage}");
    }
    let shard = row("0 ");
    assert!(number(&shard[1]) > 0.0, "a shard that worked was busy: {shard:?}");
}

#[test]
fn without_metrics_or_histograms_the_missing_flag_is_named() {
    let off = start(&["--shards", "1", "--histograms", "off"]);
    let mut desk = off.join("desk");
    desk.ask(json!({"type": "SET", "address": "/a", "value": 1}));
    assert_eq!(Hops::ask(&off).0.len(), 0);
    assert!(!ask(&off, "/metrics").contains("clasp_rt_hop_seconds"));
    let folder = TempFolder::new();
    let out = folder.to_str().expect("a path of plain text");
    let hist = run(command(&off, "hist").args(["--out", out]));
    assert_eq!(hist.status.code(), Some(1), "{}", errors(&hist));
    assert!(errors(&hist).contains("--histograms off"), "{}", errors(&hist));
    let top = run(command(&off, "top").arg("--once"));
    assert_eq!(top.status.code(), Some(0), "{}", errors(&top));
    assert!(String::from_utf8_lossy(&top.stdout).contains("--histograms off"));

    // A port that nobody listens on: taken and given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let free = free.expect("a free port").to_string();
    for arguments in [&["top", "--once"][..], &["hist", "--out", out]] {
        let output =
            run(Command::new(clasp_rt()).args(arguments).args(["--router-metrics", &free]));
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", errors(&output));
        let said = errors(&output);
        assert!(said.contains(&format!("--metrics {free}")), "{arguments:?}: {said}");
    }
}

#[test]
fn the_plan_counts_what_histograms_take() {
    let term = |more: &[&str]| {
        let arguments = [&["plan", "--shards", "2", "--json"], more].concat();
        let output = run(Command::new(clasp_rt()).args(arguments));
        let plan: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        let terms = plan["memory"].as_array().expect("terms").clone();
        let term = terms.into_iter().find(|term| term["what"] == "histograms of a shard");
        term.expect("a term")["bytes"].as_u64().expect("bytes")
    };
    assert!(term(&[]) > 1 << 20);
    assert_eq!(term(&["--histograms", "off"]), 0);
}

/// What a router says in its JSON form about each kind of message.
struct Hops(Vec<Json>);

impl Hops {
    fn ask(router: &Router) -> Self {
        let json: Json = serde_json::from_str(&ask(router, "/metrics.json")).expect("JSON");
        Self(json["hops"].as_array().expect("a list").clone())
    }

    /// On all shards together.
    fn count(&self, class: &str, path: &str, stage: &str) -> u64 {
        let some = self
            .0
            .iter()
            .filter(|hop| hop["class"] == class && hop["path"] == path && hop["stage"] == stage);
        some.map(|hop| hop["count"].as_u64().expect("a count")).sum()
    }

    fn total(&self, class: &str, path: &str) -> u64 {
        self.count(class, path, "total")
    }
}

fn start(more: &[&str]) -> Router {
    Router::start(&[&ARGUMENTS, more].concat())
}

fn ask(router: &Router, path: &str) -> String {
    clasp_rt_tests::metrics::get(router.metrics_address(), path)
}

/// A desk, and a listener that hears its events.
fn pair(router: &Router) -> (Raw, Raw) {
    let (desk, mut listener) = (router.join("desk"), router.join("listener"));
    listener.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/cue/*"}));
    (desk, listener)
}

fn send_events(desk: &mut Raw, listener: &mut Raw, count: u64) {
    for n in 0..count {
        desk.send(json!({
            "type": "PUBLISH", "signal": "event", "address": "/cue/go", "value": n,
        }));
        listener.receive_where(|message| message["type"] == "PUBLISH");
    }
}

fn command(router: &Router, name: &str) -> Command {
    let mut command = Command::new(clasp_rt());
    command.args([name, "--router-metrics", &router.metrics_address().to_string()]);
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A line of Prometheus' text: name, labels, value.
fn sample(line: &str) -> (&str, BTreeMap<String, String>, f64) {
    let (metric, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, labels)) = metric.split_once('{') else {
        return (metric, BTreeMap::new(), value);
    };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("open labels: {line}"));
    let labels = labels.split(',').map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (name.to_owned(), value.unwrap_or_else(|| panic!("no quotes: {line}")).to_owned())
    });
    (name, labels.collect(), value)
}

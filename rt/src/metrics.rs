//! What every thread counted, for those who watch a running router: `GET /metrics`.
//!
//! Counters and histograms are read as they are; no thread that carries messages notices.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use clasp_rt_bridges::bind::{self, Transport};
use clasp_rt_perf::buckets;
use clasp_rt_perf::counters::Reader;
use clasp_rt_perf::export::{
    Labelled, Spread, json_counters, json_spreads, prometheus_counters, prometheus_histogram,
    prometheus_summary,
};
use clasp_rt_perf::log;
use tracing::warn;

use crate::clock;
use crate::devices::intervals::Line;
use crate::running::Running;
use crate::stages::{self, Kind, Stage};

/// A request line and the headers that tools send.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// A peer that asks slower than this is hung up on; the next one waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why such a peer was not answered.
const SILENT: &str = "a peer asked nothing within a second: what is asked here is HTTP";

/// The counters of one thread.
struct Page {
    /// `shard`, `bridges` or `service`.
    label: &'static str,
    /// Its number among its kind.
    value: String,
    counters: Reader,
}

/// How long messages took on one shard.
struct Ways {
    shard: usize,
    shards: usize,
    counted: buckets::Reader,
}

/// What there is to tell.
struct Told {
    pages: Vec<Page>,
    /// Empty: it is not counted.
    ways: Vec<Ways>,
    lines: Vec<Line>,
    /// Since when, in microseconds of the Unix epoch.
    start_us: u64,
}

/// Answers at `addr` for as long as the process runs. Gives the address with the port that was
/// chosen.
pub fn serve(addr: SocketAddr, running: &Running) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr);
    let listener = listener.map_err(|why| bind::explained(Transport::Tcp, addr, why))?;
    let bound = listener.local_addr()?;
    let (pages, ways, lines) = (pages(running), ways(running), running.lines.clone());
    let told = Told { pages, ways, lines, start_us: clock::unix_us() };
    let answer_all = move || {
        for peer in listener.incoming() {
            // A peer that leaves early, or a descriptor that is missing for a moment.
            if let Err(why) = peer.and_then(|peer| answer(peer, &told)) {
                warn!("metrics: {why}");
            }
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(answer_all)?;
    Ok(bound)
}

fn pages(running: &Running) -> Vec<Page> {
    let kinds =
        [("shard", &running.shards), ("bridges", &running.bridges), ("service", &running.services)];
    let pages = kinds.into_iter().flat_map(|(label, workers)| {
        workers.iter().enumerate().map(move |(number, worker)| Page {
            label,
            value: number.to_string(),
            counters: worker.counters.clone(),
        })
    });
    pages.collect()
}

fn ways(running: &Running) -> Vec<Ways> {
    let shards = running.shards.len();
    let ways = running.shards.iter().enumerate().filter_map(|(shard, worker)| {
        Some(Ways { shard, shards, counted: worker.histograms.clone()? })
    });
    ways.collect()
}

fn answer(mut peer: TcpStream, told: &Told) -> io::Result<()> {
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.set_write_timeout(Some(PATIENCE))?;
    let request = request(&mut peer)?;
    let (status, kind, body) = respond(&request, told);
    write!(
        peer,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Everything up to the empty line, which ends a request without a body.
fn request(peer: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 512];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") && bytes.len() < REQUEST_BYTES_MAX {
        let count = match peer.read(&mut piece) {
            // A signal, such as SIGHUP, ends a wait that has a deadline.
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(io::Error::new(ErrorKind::TimedOut, SILENT));
            }
            read => read?,
        };
        if count == 0 {
            break;
        }
        bytes.extend(piece.iter().take(count));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn respond(request: &str, told: &Told) -> (&'static str, &'static str, String) {
    let mut words = request.split(' ');
    let text = "text/plain; version=0.0.4";
    match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => ("200 OK", text, prometheus(told)),
        (Some("GET"), Some("/metrics.json")) => ("200 OK", "application/json", json(told)),
        (Some("GET"), Some("/hist")) if told.ways.is_empty() => {
            let why = "this router counts no histograms: start it without --histograms off\n";
            ("404 Not Found", text, why.to_owned())
        }
        (Some("GET"), Some("/hist")) => match histogram_log(told) {
            Ok(body) => ("200 OK", "text/plain", body),
            Err(why) => ("500 Internal Server Error", text, format!("{why}\n")),
        },
        (Some("GET"), _) => {
            ("404 Not Found", text, "try /metrics, /metrics.json or /hist\n".to_owned())
        }
        _ => ("405 Method Not Allowed", text, "only GET\n".to_owned()),
    }
}

fn prometheus(told: &Told) -> String {
    let mut body = String::new();
    prometheus_counters(&mut body, "clasp_rt", &labelled(&told.pages));
    if !told.ways.is_empty() {
        let help = "Time since the arrival of messages or since the stage before, since the start.";
        prometheus_summary(&mut body, "clasp_rt_hop_seconds", help, &spreads(told, |_| true));
        let totals = spreads(told, |kind| kind.stage == Stage::Total);
        let help = "Time from arrival to the return of the system call that sent the message on.";
        prometheus_histogram(&mut body, "clasp_rt_hop_histogram_seconds", help, &totals);
    }
    if !told.lines.is_empty() {
        let help = "Time from the beginning of a DMX frame made here to that of the next.";
        prometheus_summary(&mut body, "clasp_rt_dmx_interval_seconds", help, &lines(told));
    }
    body
}

/// The counters of each thread under its name, and the histograms as the lists `hops` and, of DMX
/// lines, `lines`.
fn json(told: &Told) -> String {
    let counters = json_counters(&labelled(&told.pages));
    let hops = json_spreads(&spreads(told, |_| true));
    let lines = json_spreads(&lines(told));
    let lists = format!("\"hops\":{hops},\"lines\":{lines}}}");
    match counters.strip_suffix('}') {
        Some(open) if open.len() > 1 => format!("{open},{lists}"),
        _ => format!("{{{lists}"),
    }
}

/// The intervals of each line that has any.
fn lines(told: &Told) -> Vec<Spread> {
    told.lines.iter().filter_map(Line::spread).collect()
}

/// Each wanted histogram that is not empty.
fn spreads(told: &Told, wanted: impl Fn(&Kind) -> bool) -> Vec<Spread> {
    let mut spreads = Vec::new();
    for Ways { shard, shards, counted } in &told.ways {
        for (index, kind) in stages::kinds(*shards).enumerate().filter(|(_, kind)| wanted(kind)) {
            let Some(latency) = counted.latency(index) else { continue };
            let labels = vec![
                ("shard", shard.to_string()),
                ("class", kind.class.name().to_owned()),
                ("path", kind.path.name().to_owned()),
                ("stage", kind.stage.name().to_owned()),
            ];
            let (sum_ns, max_ns) = (counted.sum_ns(index), counted.max_ns(index));
            spreads.push(Spread { labels, latency, sum_ns, max_ns });
        }
    }
    spreads
}

/// All histograms since the start in full resolution, as a log of one interval.
fn histogram_log(told: &Told) -> io::Result<String> {
    let start = Duration::from_micros(told.start_us);
    let length = Duration::from_micros(clock::unix_us().saturating_sub(told.start_us));
    let (mut body, mut encoder) = (Vec::new(), log::Encoder::new());
    let comments = [stages::LOG_COMMENT];
    let mut lines = log::Writer::begin(&mut body, &mut encoder, &comments, UNIX_EPOCH + start)?;
    for Ways { shard, shards, counted } in &told.ways {
        for (index, kind) in stages::kinds(*shards).enumerate() {
            let Some(latency) = counted.latency(index) else { continue };
            lines.write(&log::Entry { tag: kind.tag(*shard), start, length, latency })?;
        }
    }
    for line in &told.lines {
        let Some(latency) = line.latency() else { continue };
        lines.write(&log::Entry { tag: line.tag(), start, length, latency })?;
    }
    String::from_utf8(body).map_err(io::Error::other)
}

fn labelled(pages: &[Page]) -> Vec<Labelled<'_, Reader>> {
    let labelled = pages.iter().map(|page| Labelled {
        label: page.label,
        value: &page.value,
        of: &page.counters,
    });
    labelled.collect()
}

#[cfg(test)]
mod tests {
    use clasp_rt_perf::counters;

    use super::*;

    /// A shard that took seven turns and, if it counts, sent one event on in 20 µs.
    fn told(histograms: bool) -> Told {
        let (mut writer, counters) = counters::page(&["turns"]);
        writer.store(0, 7);
        let (mut page, counted) = stages::page(1);
        let event = stages::kinds(1).position(|kind| kind.tag(0) == "shard0-event-same-total");
        page.record(event.expect("there is one"), 20_000, 1);
        let ways = histograms.then_some(Ways { shard: 0, shards: 1, counted });
        let pages = vec![Page { label: "shard", value: "0".to_owned(), counters }];
        let (ways, lines) = (ways.into_iter().collect(), Vec::new());
        Told { pages, ways, lines, start_us: 1_800_000_000_000_000 }
    }

    #[test]
    fn a_peer_that_asks_nothing_is_named_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let why = request(&mut peer).unwrap_err().to_string();
        assert!(why.contains("asked nothing"), "{why}");
    }

    #[test]
    fn a_path_gives_its_form_of_what_was_counted() {
        let hop = "shard=\"0\",class=\"event\",path=\"same\",stage=\"total\"";
        let summary = format!("clasp_rt_hop_seconds_count{{{hop}}} 1\n");
        let bucket = format!("clasp_rt_hop_histogram_seconds_bucket{{{hop},le=\"0.00002\"}} 1\n");
        let cases = [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "clasp_rt_turns_total{shard=\"0\"} 7"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK", &summary),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK", &bucket),
            ("GET /metrics.json HTTP/1.1\r\n\r\n", "200 OK", "\"turns\":7"),
            ("GET /hist HTTP/1.1\r\n\r\n", "200 OK", "\nTag=shard0-event-same-total,1800000000"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "try /metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "only GET"),
            ("", "405 Method Not Allowed", "only GET"),
        ];
        let told = told(true);
        for (request, status, said) in cases {
            let answer = respond(request, &told);
            assert_eq!(answer.0, status, "{request:?}");
            assert!(answer.2.contains(said), "{request:?}: {}", answer.2);
        }
    }

    #[test]
    fn the_json_form_is_json_with_and_without_histograms() {
        for histograms in [true, false] {
            let (.., body) = respond("GET /metrics.json HTTP/1.1\r\n\r\n", &told(histograms));
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(json["shard 0"]["turns"], 7);
            let hops = json["hops"].as_array().unwrap();
            assert_eq!(hops.len(), usize::from(histograms));
            for hop in hops {
                assert_eq!((&hop["class"], &hop["count"]), (&"event".into(), &1.into()), "{hop}");
            }
        }
    }

    #[test]
    fn without_histograms_their_path_says_why() {
        let (status, _, said) = respond("GET /hist HTTP/1.1\r\n\r\n", &told(false));
        assert_eq!(status, "404 Not Found");
        assert!(said.contains("--histograms off"), "{said}");
    }
}

//! What every thread counted, for those who watch a running router: `GET /metrics`.
//!
//! Counters are read as they are; no thread that carries messages notices.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use clasp_rt_perf::counters::Reader;
use clasp_rt_perf::export::{Labelled, json_counters, prometheus_counters};
use tracing::warn;

use crate::running::Running;

/// A request line and the headers that tools send.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// A peer that asks slower than this is hung up on; the next one waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The counters of one thread.
struct Page {
    /// `shard` or `bridges`.
    label: &'static str,
    /// Its number among its kind.
    value: String,
    counters: Reader,
}

/// Answers at `addr` for as long as the process runs. Gives the address with the port that was
/// chosen.
pub fn serve(addr: SocketAddr, running: &Running) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr)?;
    let bound = listener.local_addr()?;
    let pages = pages(running);
    let answer_all = move || {
        for peer in listener.incoming() {
            // A peer that leaves early, or a descriptor that is missing for a moment.
            if let Err(why) = peer.and_then(|peer| answer(peer, &pages)) {
                warn!("metrics: {why}");
            }
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(answer_all)?;
    Ok(bound)
}

fn pages(running: &Running) -> Vec<Page> {
    let kinds = [("shard", &running.shards), ("bridges", &running.bridges)];
    let pages = kinds.into_iter().flat_map(|(label, workers)| {
        workers.iter().enumerate().map(move |(number, worker)| Page {
            label,
            value: number.to_string(),
            counters: worker.counters.clone(),
        })
    });
    pages.collect()
}

fn answer(mut peer: TcpStream, pages: &[Page]) -> io::Result<()> {
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.set_write_timeout(Some(PATIENCE))?;
    let request = request(&mut peer)?;
    let (status, kind, body) = respond(&request, pages);
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
        let count = peer.read(&mut piece)?;
        if count == 0 {
            break;
        }
        bytes.extend(piece.iter().take(count));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn respond(request: &str, pages: &[Page]) -> (&'static str, &'static str, String) {
    let mut words = request.split(' ');
    let text = "text/plain; version=0.0.4";
    match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => {
            let mut body = String::new();
            prometheus_counters(&mut body, "clasp_rt", &labelled(pages));
            ("200 OK", text, body)
        }
        (Some("GET"), Some("/metrics.json")) => {
            ("200 OK", "application/json", json_counters(&labelled(pages)))
        }
        (Some("GET"), _) => ("404 Not Found", text, "try /metrics or /metrics.json\n".to_owned()),
        _ => ("405 Method Not Allowed", text, "only GET\n".to_owned()),
    }
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

    #[test]
    fn a_path_gives_its_form_of_the_counters() {
        let (mut writer, counters) = counters::page(&["turns"]);
        writer.store(0, 7);
        let pages = [Page { label: "shard", value: "0".to_owned(), counters }];
        let cases = [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "clasp_rt_turns_total{shard=\"0\"} 7"),
            ("GET /metrics.json HTTP/1.1\r\n\r\n", "200 OK", "\"turns\":7"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "try /metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "only GET"),
            ("", "405 Method Not Allowed", "only GET"),
        ];
        for (request, status, said) in cases {
            let answer = respond(request, &pages);
            assert_eq!(answer.0, status, "{request:?}");
            assert!(answer.2.contains(said), "{request:?}: {}", answer.2);
        }
    }
}

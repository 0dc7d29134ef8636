//! What `top` and `hist` ask of a running router: the counters and histograms of its threads.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use clap::Args;
use clasp_rt_perf::histogram::Latency;
use clasp_rt_perf::log;
use serde_json::Value;

use super::Failure;
use crate::devices::intervals;
use crate::stages::Kind;

/// A router that takes longer to answer is not there, or another program.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than a router of 64 shards says.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where the router tells what it counts.
#[derive(Args, Clone, Debug)]
pub struct WatchedArgs {
    /// What the router was given as --metrics
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "localhost:7331",
        value_parser = host_and_port
    )]
    pub router_metrics: String,
}

/// The counters of each thread, by its name and theirs.
pub type Counters = BTreeMap<String, BTreeMap<String, u64>>;

/// What a router's messages took since its start, and how far apart its DMX frames were, at one
/// instant.
#[derive(Clone, Debug)]
pub struct Ways {
    pub at: SystemTime,
    pub latencies: BTreeMap<Place, Latency>,
}

/// A histogram by its tag, and what that says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub tag: String,
}

impl Place {
    pub fn kind(&self) -> Option<Kind> {
        Kind::of_tag(&self.tag).map(|(_, kind)| kind)
    }

    /// The bridge of a DMX line, and the line's place there.
    pub fn line(&self) -> Option<(&str, usize)> {
        intervals::of_tag(&self.tag)
    }
}

impl WatchedArgs {
    pub fn counters(&self) -> Result<Counters, Failure> {
        let body = self.ask("/metrics.json")?;
        let json: Value = serde_json::from_str(&body).map_err(|_| self.odd("no JSON"))?;
        let threads = json.as_object().ok_or_else(|| self.odd("no JSON object"))?;
        let counters = threads.iter().filter_map(|(thread, counters)| {
            let counters = counters.as_object()?.iter();
            let counters =
                counters.filter_map(|(name, total)| Some((name.clone(), total.as_u64()?)));
            Some((thread.clone(), counters.collect()))
        });
        Ok(counters.collect())
    }

    pub fn ways(&self) -> Result<Ways, Failure> {
        let body = self.ask("/hist")?;
        let entries = log::read(body.as_bytes()).map_err(|_| self.odd("no log of histograms"))?;
        let latencies = entries.into_iter().filter_map(|entry| {
            let place = Place { tag: entry.tag };
            (place.kind().is_some() || place.line().is_some()).then_some((place, entry.latency))
        });
        Ok(Ways { at: SystemTime::now(), latencies: latencies.collect() })
    }

    fn ask(&self, path: &str) -> Result<String, Failure> {
        let answer = self.get(path).map_err(|why| self.nobody(&why))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| self.odd("no HTTP"))?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            Some("404") if path == "/hist" => Err(Failure::Failed(body.trim_end().to_owned())),
            _ => Err(self.odd(head.lines().next().unwrap_or_default())),
        }
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut last = none();
        for addr in self.router_metrics.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&addr, PATIENCE) {
                Ok(stream) => stream,
                Err(why) => {
                    last = why;
                    continue;
                }
            };
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.router_metrics)?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
            return Ok(answer);
        }
        Err(last)
    }

    fn nobody(&self, why: &io::Error) -> Failure {
        let asked = &self.router_metrics;
        Failure::Unreachable(format!(
            "no router tells at {asked} what it counts: {why}\nStart it with `clasp-rt server \
             --metrics {}`, or name its address with --router-metrics ADDRESS:PORT.",
            self.listened()
        ))
    }

    /// The same address as the flag of the server takes it: without a name.
    fn listened(&self) -> String {
        let asked = &self.router_metrics;
        let mut found = asked.to_socket_addrs().into_iter().flatten();
        match found.find(SocketAddr::is_ipv4) {
            Some(addr) => addr.to_string(),
            None if asked.parse::<SocketAddr>().is_ok() => asked.clone(),
            None => format!("127.0.0.1:{}", asked.rsplit(':').next().unwrap_or(asked)),
        }
    }

    fn odd(&self, answer: &str) -> Failure {
        let asked = &self.router_metrics;
        Failure::Failed(format!(
            "what answers at {asked} tells no counters of a router: {answer}\nName what the router \
             was given as --metrics with --router-metrics ADDRESS:PORT."
        ))
    }
}

/// A name or an address, which is looked up later, and a port.
fn host_and_port(text: &str) -> Result<String, String> {
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_name = |host: &str| !host.is_empty() && !host.contains([':', '/']);
    let is_good = match text.parse::<SocketAddr>() {
        Ok(addr) => addr.port() != 0,
        Err(_) => text.rsplit_once(':').is_some_and(|(host, last)| is_name(host) && port(last)),
    };
    let wrong = "should be a host and a port, such as 127.0.0.1:7331";
    is_good.then(|| text.to_owned()).ok_or_else(|| wrong.to_owned())
}

impl Ways {
    /// What was added after `earlier`; a histogram that fell was begun anew, by another router.
    pub fn since(&self, earlier: &Self) -> Vec<(Place, Latency)> {
        let latencies = self.latencies.iter().map(|(place, latency)| {
            let before = earlier.latencies.get(place);
            let added = before.and_then(|before| latency.since(before));
            (place.clone(), added.unwrap_or_else(|| latency.clone()))
        });
        latencies.filter(|(_, latency)| latency.count() > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn ways(counts: &[(&str, u64)]) -> Ways {
        let latencies = counts.iter().map(|(tag, count)| {
            let mut latency = Latency::new();
            (0..*count).for_each(|_| latency.record(1_000));
            (Place { tag: (*tag).to_owned() }, latency)
        });
        Ways { at: UNIX_EPOCH, latencies: latencies.collect() }
    }

    #[test]
    fn between_two_looks_lies_what_was_added_or_all_after_a_restart() {
        let (param, event) = ("shard0-param-same-total", "shard0-event-same-total");
        let cases = [
            (vec![(param, 5)], vec![(param, 7)], vec![(param, 2)]),
            (vec![(param, 5)], vec![(param, 5), (event, 1)], vec![(event, 1)]),
            (vec![(param, 5)], vec![(param, 3)], vec![(param, 3)]),
            (vec![], vec![], vec![]),
        ];
        for (earlier, later, added) in cases {
            let found = ways(&later).since(&ways(&earlier));
            let found: Vec<_> = found.iter().map(|(p, l)| (&*p.tag, l.count())).collect();
            assert_eq!(found, added, "{earlier:?}, {later:?}");
        }
    }

    #[test]
    fn another_program_at_the_port_is_told_from_a_router_that_counts() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let args = WatchedArgs { router_metrics: listener.local_addr().unwrap().to_string() };
        let answer_both = move || {
            for _ in 0..2 {
                let (mut peer, _) = listener.accept().unwrap();
                // All of the question: what is left unread would reset the connection.
                let asked = io::BufReader::new(peer.try_clone().unwrap()).lines();
                assert!(asked.map(Result::unwrap).any(|line| line.is_empty()));
                peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nok\n").unwrap();
            }
        };
        let other = std::thread::spawn(answer_both);
        let (counters, ways) = (args.counters().err(), args.ways().err());
        other.join().unwrap();
        for failure in [counters, ways] {
            let Some(Failure::Failed(said)) = failure else { panic!("{failure:?}") };
            assert!(said.contains("was given as --metrics"), "{said}");
            assert!(!said.contains("ParseError") && !said.contains("line 1 column"), "{said}");
        }
    }

    #[test]
    fn without_an_answer_the_flag_that_is_missing_is_named() {
        // A port that nobody listens on: taken and given back.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        let args = WatchedArgs { router_metrics: free.to_string() };
        let Err(Failure::Unreachable(said)) = args.counters() else { panic!("nobody is there") };
        assert!(said.contains(&format!("--metrics {free}")), "{said}");
        // The flag takes no names.
        let args = WatchedArgs { router_metrics: format!("localhost:{}", free.port()) };
        let Err(Failure::Unreachable(said)) = args.counters() else { panic!("nobody is there") };
        assert!(said.contains(&format!("server --metrics {free}`")), "{said}");
    }
}

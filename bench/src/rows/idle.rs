//! What a router takes of its core while a thousand clients say nothing.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::round_length;
use crate::load;
use crate::machine::Places;
use crate::peer::Peer;
use crate::report::Figure;
use crate::router::{Idle, Router};
use crate::suite::Size;

const ROUND: Duration = Duration::from_secs(4);

/// How often the clients look for pings to answer.
const LOOK: Duration = Duration::from_secs(1);

pub fn run(program: &Path, places: Places, rounds: u32, size: Size) -> io::Result<Vec<Figure>> {
    let connections = connections(size);
    let mut figures = Vec::new();
    for idle in [Idle::Adaptive, Idle::Park] {
        let router = Router::open_idling(program, places, idle)?;
        let mut clients = connect(&router, connections)?;
        let mut shares = Vec::new();
        // The first look is thrown away: it holds the end of the joining.
        for round in 0..=rounds {
            let share = busy_share(&router, &mut clients, round_length(size, ROUND))?;
            shares.extend((round > 0).then_some(100.0 * share));
        }
        figures.push(Figure {
            key: format!("idle/{connections}/{}", idle.name()),
            name: format!("{connections} silent clients, {}", idle.name()),
            unit: "% of one core",
            rounds: shares,
            note: "all threads of the program".to_owned(),
        });
    }
    Ok(figures)
}

pub fn connections(size: Size) -> usize {
    match size {
        Size::Small => 50,
        Size::Canonical => 1_000,
    }
}

/// Clients as they are: joined, and subscribed to something.
pub fn connect(router: &Router, connections: usize) -> io::Result<Vec<Peer>> {
    load::raise_files_max();
    let client = |n| {
        let mut peer = Peer::connect(router.url("ws")?)?;
        peer.join(&format!("silent {n}"))?;
        peer.subscribe(1, &format!("/rig/{n}/**"))?;
        Ok(peer)
    };
    (0..connections).map(client).collect()
}

/// Of one core, by all threads of the router.
fn busy_share(router: &Router, clients: &mut [Peer], length: Duration) -> io::Result<f64> {
    let pid = router.pid().ok_or(io::ErrorKind::Unsupported)?;
    let (start, before) = (Instant::now(), busy(pid)?);
    while start.elapsed() < length {
        thread::sleep(LOOK.min(length.saturating_sub(start.elapsed())));
        clients.iter_mut().try_for_each(|client| client.poll(|_| {}))?;
    }
    let busy = busy(pid)?.saturating_sub(before);
    Ok(busy.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// How long the threads of a process have run, to the nanosecond.
fn busy(pid: u32) -> io::Result<Duration> {
    let mut busy = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran_ns = text.split(' ').next().and_then(|first| first.parse().ok());
        let ran_ns = ran_ns.ok_or_else(|| io::Error::other(format!("schedstat says {text:?}")))?;
        busy += Duration::from_nanos(ran_ns);
    }
    Ok(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_is_seen_to_have_run() {
        let before = busy(std::process::id()).unwrap();
        // The kernel may write it down no more often than at its ticks.
        let is_seen = (0..10_000_u64).any(|round| {
            let digest = (0..1_000_000).fold(round, |a, b| std::hint::black_box(a ^ b));
            std::hint::black_box(digest);
            busy(std::process::id()).unwrap() > before
        });
        assert!(is_seen, "{before:?} and no more");
    }
}

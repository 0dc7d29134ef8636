//! What a message costs the running program in system calls and allocations, by its own counters.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::frames::{self, Kind, Numbered};
use crate::machine::Places;
use crate::peer::Peer;
use crate::router::{Idle, Router};

const ADDRESS: &str = "/bench/counts/fader/1";

/// In which buffers grow to what the traffic needs.
const WARM_UP: u64 = 2_000;
const MESSAGES: u64 = 10_000;

/// Two HELLOs, one SUBSCRIBE, and a PING after each.
const JOINING: u64 = 6;

/// Counters are told once a second; and a message may wait for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// `io_uring_enter` calls of the shard's thread for each message, one at a time.
    pub system_calls: f64,
    /// Of the shard's thread, in all.
    pub allocations: u64,
}

/// Messages of `kind` one after the other, each once the one before has arrived: the worst case,
/// because no two share a turn.
pub fn count(program: &Path, places: Places, kind: Kind) -> io::Result<Counted> {
    let arguments = ["--metrics", "127.0.0.1:0"];
    let router = Router::open_with(program, places, Idle::Park, &arguments)?;
    let mut subscriber = Peer::connect(router.url("ws")?)?;
    subscriber.join("count subscriber")?;
    subscriber.subscribe(1, ADDRESS)?;
    let mut publisher = Peer::connect(router.url("ws")?)?;
    publisher.join("count publisher")?;
    let mut message = Numbered::new(kind, ADDRESS);
    let mut pass = |numbers: std::ops::Range<u64>| -> io::Result<()> {
        for number in numbers {
            publisher.queue(message.frame(number));
            let (mut arrived, start) = (false, Instant::now());
            while !arrived {
                publisher.flush()?;
                subscriber.poll(|frame| arrived |= frames::number(frame) == Some(number))?;
                publisher.poll(|_| {})?;
                patience(start, "a message did not arrive")?;
            }
        }
        Ok(())
    };
    pass(0..WARM_UP)?;
    let before = settled(&router, JOINING + WARM_UP)?;
    pass(WARM_UP..WARM_UP + MESSAGES)?;
    let after = settled(&router, JOINING + WARM_UP + MESSAGES)?;
    let grown = |name| Ok::<u64, io::Error>(counter(&after, name)? - counter(&before, name)?);
    Ok(Counted {
        system_calls: grown("kernel_enters")? as f64 / MESSAGES as f64,
        allocations: grown("allocations")?,
    })
}

/// The counters once they tell `frames` frames.
fn settled(router: &Router, frames: u64) -> io::Result<Json> {
    let start = Instant::now();
    loop {
        let counters = router.counters()?;
        if counter(&counters, "frames_in")? >= frames {
            return Ok(counters);
        }
        patience(start, "the counters did not tell what was sent")?;
    }
}

fn counter(counters: &Json, name: &str) -> io::Result<u64> {
    let missing = || io::Error::other(format!("the router counts no {name}"));
    counters["shard 0"][name].as_u64().ok_or_else(missing)
}

fn patience(start: Instant, what: &str) -> io::Result<()> {
    if start.elapsed() > PATIENCE {
        return Err(io::Error::new(io::ErrorKind::TimedOut, what));
    }
    std::thread::yield_now();
    Ok(())
}

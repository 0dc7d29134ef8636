//! Bytes: of a param that is held, and of a connection that says nothing.

use std::fs;
use std::io;
use std::path::Path;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Outcome, Settings, Shard};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::Time;
use clasp_rt_core::value::{Value, push_f64};
use clasp_rt_core::wire::binary;
use clasp_rt_core::{LinkId, ShardId};

use super::idle;
use crate::frames;
use crate::machine::Places;
use crate::report::Figure;
use crate::router::{Idle, Router};
use crate::suite::Size;

/// A param's address and value need at least this much, and at most that.
const PARAM_BYTES: std::ops::RangeInclusive<u64> = 33..=160;

pub fn run(program: &Path, places: Places, rounds: u32, size: Size) -> io::Result<Vec<Figure>> {
    let params = match size {
        Size::Small => 2_000,
        Size::Canonical => 100_000,
    };
    let connections = idle::connections(size);
    let mut of_connection = Vec::new();
    for _ in 0..rounds {
        of_connection.push(bytes_of_connection(program, places, connections)?);
    }
    Ok(vec![
        Figure {
            key: "memory/param".to_owned(),
            name: "a held param, address of 24 bytes, f64".to_owned(),
            unit: "bytes",
            rounds: vec![bytes_of_param(params)?],
            note: format!("all that a shard takes for {params} of them and not for one"),
        },
        Figure {
            key: "memory/idle-connection".to_owned(),
            name: "an idle connection, beyond what is taken at start".to_owned(),
            unit: "bytes",
            rounds: of_connection,
            note: format!("resident set, {connections} connections, without the kernel's"),
        },
    ])
}

fn bytes_of_connection(program: &Path, places: Places, connections: usize) -> io::Result<f64> {
    let router = Router::open_idling(program, places, Idle::Park)?;
    let before = resident(&router)?;
    let clients = idle::connect(&router, connections)?;
    let after = resident(&router)?;
    drop(clients);
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

fn resident(router: &Router) -> io::Result<u64> {
    let pid = router.pid().ok_or(io::ErrorKind::Unsupported)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("the kernel tells no VmRSS"))
}

/// What a shard takes at start for room in which `params` were seen to fit, by the param.
fn bytes_of_param(params: u32) -> io::Result<f64> {
    let (mut low, mut high) = (*PARAM_BYTES.start(), *PARAM_BYTES.end());
    if !holds(params, high) {
        return Err(io::Error::other(format!("{params} params do not fit {high} bytes each")));
    }
    while low < high {
        let middle = (low + high) / 2;
        if holds(params, middle) { high = middle } else { low = middle + 1 }
    }
    let [taken, without] = [shard(params, high), shard(1, 64)].map(|shard| shard.memory_bytes());
    Ok(taken.saturating_sub(without) as f64 / f64::from(params - 1))
}

fn shard(params: u32, bytes_each: u64) -> Shard {
    let limits = Limits {
        links_max: 2,
        params_max: params,
        param_bytes_max: u64::from(params) * bytes_each,
        ..Limits::default()
    };
    Shard::new(Settings { limits, rate_limit: None, ..Settings::default() })
}

/// Whether a shard with room of so many bytes for addresses and values keeps all params.
fn holds(params: u32, bytes_each: u64) -> bool {
    let mut shard = shard(params, bytes_each);
    let (link, now) = (LinkId(0), Time(0));
    let mut step = |input: Input<'_>| {
        assert_eq!(shard.step(now, input, &mut Ignored), Outcome::Taken);
    };
    step(Input::Opened { link, admit: Admit::Trusted });
    step(Input::Frame { link, frame: &frames::hello("params") });
    (0..params).for_each(|n| step(Input::Frame { link, frame: &set(n) }));
    shard.params() == params
}

/// A SET of an f64 to an address of 24 bytes.
fn set(n: u32) -> Vec<u8> {
    let address = format!("/show/rig{}/fixture{n:06}", n % 7);
    let mut encoded = Vec::new();
    push_f64(&mut encoded, f64::from(n) / 1_000.0);
    let value = Value::from_encoded(&encoded).expect("a float is a value");
    let (revision, ttl) = (None, None);
    let set = Set { address: &address, value, revision, lock: false, unlock: false, ttl };
    let mut frame = Vec::new();
    binary::encode(&Message::Set(set), Qos::Fire, &mut frame).expect("a short message");
    frame
}

/// Nobody listens; what the writer is told is not looked at.
struct Ignored;

impl Effects for Ignored {
    fn send(&mut self, _: LinkId, _: &[u8]) {}
    fn close(&mut self, _: LinkId, _: CloseReason) {}
    fn to_peer(&mut self, _: ShardId, _: Lane, _: &[u8]) {}
    fn resume(&mut self, _: LinkId) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_param_costs_its_bytes_and_some_more() {
        let bytes = bytes_of_param(500).unwrap();
        assert!((33.0..1_000.0).contains(&bytes), "{bytes}");
    }

    #[test]
    fn params_that_do_not_fit_are_seen() {
        assert!(holds(500, 160));
        assert!(!holds(500, 16));
    }
}

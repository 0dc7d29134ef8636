//! Fills a router: so many connections, so many params, in bundles of a bounded size.

use std::io;
use std::time::{Duration, Instant};

use clasp_rt_core::limits::PAYLOAD_BYTES_MAX;
use clasp_rt_core::message::{Bundle, Message, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::value::{Value, push_f64};
use clasp_rt_core::wire::binary::{self, code};
use clasp_rt_core::wire::list::Messages;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::frames;
use crate::peer::Peer;

/// SETs in one bundle: a rig's worth of faders, and far below what one frame holds.
const BUNDLE_SETS: usize = 200;

/// Bytes of one SET in a bundle, at most.
const SET_BYTES_MAX: usize = 64;

const _: () = assert!(BUNDLE_SETS * SET_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// Progress is told this many times.
const STEPS: usize = 10;

/// The arguments of `clasp-bench load`.
#[derive(clap::Args)]
pub struct Command {
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    #[arg(long, default_value_t = 1_000_000)]
    params: usize,
    /// Its rate limit must be off: `--rate-limit 0`.
    #[arg(long, default_value = "ws://localhost:7330")]
    router: String,
}

impl Command {
    pub fn run(&self) -> io::Result<()> {
        let Self { connections, params, router } = self;
        let load = Load::run(router, *connections, *params, |step| println!("{step}"))?;
        println!("{}", load.text());
        io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
    }
}

/// A router that is full: the connections stay open until this is dropped.
#[derive(Debug)]
pub struct Load {
    pub connections: Vec<Peer>,
    pub params: usize,
    /// Bundles that the router answered with an ERROR.
    pub refused: u64,
    pub took: Duration,
}

impl Load {
    /// Opens every connection, then has each set its share of the params.
    pub fn run(
        url: &str,
        connections: usize,
        params: usize,
        mut progress: impl FnMut(&str),
    ) -> io::Result<Self> {
        raise_files_max();
        let start = Instant::now();
        let mut peers = Vec::with_capacity(connections);
        for index in 0..connections {
            let mut peer = Peer::connect(url)?;
            peer.join(&format!("load {index}"))?;
            peers.push(peer);
        }
        progress(&format!("{connections} connections are open"));
        let mut refused = 0;
        let step = connections.div_ceil(STEPS).max(1);
        for (index, peer) in peers.iter_mut().enumerate() {
            refused += fill(peer, index, share(index, connections, params))?;
            if (index + 1) % step == 0 {
                progress(&format!("{} connections have set their params", index + 1));
            }
        }
        // Another shard's refusal may come after the PONG of the connection's own.
        for peer in &mut peers {
            refused += settle(peer)?;
        }
        Ok(Self { connections: peers, params, refused, took: start.elapsed() })
    }

    pub fn text(&self) -> String {
        let (connections, params) = (self.connections.len(), self.params);
        let seconds = self.took.as_secs_f64();
        let refused = self.refused;
        format!(
            "loaded {connections} connections and {params} params in {seconds:.1} s, \
             {refused} bundles refused"
        )
    }
}

/// How many of `params` connection `index` sets.
fn share(index: usize, connections: usize, params: usize) -> usize {
    params / connections + usize::from(index < params % connections)
}

/// Sets params of one rig, so that they have one home. Says how many bundles were refused.
fn fill(peer: &mut Peer, rig: usize, params: usize) -> io::Result<u64> {
    let mut refused = 0;
    for first in (0..params).step_by(BUNDLE_SETS) {
        let faders = first..params.min(first + BUNDLE_SETS);
        peer.queue(&bundle(rig, faders));
        refused += settle(peer)?;
    }
    Ok(refused)
}

/// Waits until the router has handled what was said, and counts its refusals.
fn settle(peer: &mut Peer) -> io::Result<u64> {
    let mut refused = 0;
    peer.settle_seeing(|frame| refused += u64::from(frames::is(frame, code::ERROR)))?;
    Ok(refused)
}

/// The frame that sets these faders of a rig.
fn bundle(rig: usize, faders: std::ops::Range<usize>) -> Vec<u8> {
    let count = faders.len();
    let mut payloads = Vec::with_capacity(count * SET_BYTES_MAX);
    for fader in faders {
        let mut encoded = Vec::new();
        push_f64(&mut encoded, fader as f64 / 1_000.0);
        let value = Value::from_encoded(&encoded).expect("a float is a value");
        let address = format!("/load/{rig}/fader/{fader}/level");
        let (revision, ttl) = (None, None);
        let set = Set { address: &address, value, revision, lock: false, unlock: false, ttl };
        Messages::append(&mut payloads, &Message::Set(set)).expect("a short message fits");
    }
    let messages = Messages::from_payloads(&payloads, count).expect("they were just written");
    let mut frame = Vec::new();
    let bundle = Message::Bundle(Bundle { timestamp_us: None, messages });
    binary::encode(&bundle, Qos::Fire, &mut frame).expect("a bundle of this size fits");
    frame
}

/// Each connection is an open file, and a shell allows few.
pub fn raise_files_max() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Connecting will say what is missing.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::wire::header;

    use super::*;

    #[test]
    fn shares_differ_by_one_at_most_and_leave_nothing_out() {
        for (connections, params) in [(1, 10), (3, 10), (10, 3), (7, 0), (1_000, 1_000_000)] {
            let shares: Vec<_> = (0..connections).map(|n| share(n, connections, params)).collect();
            assert_eq!(shares.iter().sum::<usize>(), params);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn the_longest_bundle_fits_a_frame_and_reads_back() {
        let last = 1_000_000_000;
        let frame = bundle(last, last - BUNDLE_SETS..last);
        let payload = header::parse(&frame).unwrap().payload;
        assert!(payload.len() <= BUNDLE_SETS * SET_BYTES_MAX + 4, "{}", payload.len());
        let Message::Bundle(bundle) = binary::decode(payload).unwrap() else { panic!() };
        assert_eq!(bundle.messages.len(), BUNDLE_SETS);
        let Some(Message::Set(set)) = bundle.messages.iter().next() else { panic!() };
        assert_eq!(set.address, format!("/load/{last}/fader/{}/level", last - BUNDLE_SETS));
    }
}

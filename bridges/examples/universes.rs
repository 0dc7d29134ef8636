//! Instructions of one universe frame through the Art-Net bridge, either way.
//!
//! `universes list` prints the cases, `universes CASE N` takes N frames through one of them. What a
//! frame costs is what callgrind counts for a larger N less what it counts for a smaller one,
//! divided by the difference: starting up and filling the tables cancels out.
//!
//! ```text
//! valgrind --tool=callgrind target/release/examples/universes in_unchanged 10000
//! ```

use std::net::SocketAddr;
use std::process::ExitCode;

use clasp_rt_bridges::artnet::packet::{self, PortAddress};
use clasp_rt_bridges::artnet::{self, Config};
use clasp_rt_bridges::{Bridge, Input, Out};
use clasp_rt_core::message::{Bundle, Message, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{Value, push_bytes, push_i64};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Messages;

/// Universes of a big show; each case takes them in turn.
const UNIVERSES: u16 = 1_024;

const SLOTS: usize = 512;

const SECOND: u64 = Span::from_secs(1).0;

/// Name, and the run of so many frames: how many bytes came out.
type Case = (&'static str, fn(u32) -> u64);

const CASES: &[Case] = &[
    // ArtDmx that repeats the last levels; that changes some slots; all of them.
    ("in_unchanged", |frames| Rig::new().receive(frames, 0, 1)),
    ("in_16", |frames| Rig::new().receive(frames, 16, 1)),
    ("in_512", |frames| Rig::new().receive(frames, SLOTS, 1)),
    // ArtDmx of one of two merged senders, nothing changed.
    ("in_two_senders", |frames| Rig::new().receive(frames, 0, 2)),
    // A BUNDLE of some slots, or one SET of them all as bytes, and the ArtDmx that follows.
    ("out_16", |frames| Rig::new().write(frames, |universe, level| sets(universe, 16, level))),
    ("out_512", |frames| Rig::new().write(frames, |universe, level| sets(universe, SLOTS, level))),
    ("out_whole", |frames| Rig::new().write(frames, whole)),
    // The ArtDmx of a universe that nobody changes.
    ("repeat", |frames| Rig::new().repeat(frames)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [case, frames] => {
            let run = CASES.iter().find(|(name, _)| name == case).map(|(_, run)| run);
            let (Some(run), Ok(frames)) = (run, frames.parse()) else { return usage() };
            // What came out is told, so that none of it is left out.
            println!("{case} {frames} frames {} bytes", run(frames));
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("universes list, or universes CASE FRAMES");
    ExitCode::FAILURE
}

/// Counts the bytes that a bridge says.
#[derive(Default)]
struct Said(u64);

impl Out for Said {
    fn to_router(&mut self, frame: &[u8]) {
        self.0 += frame.len() as u64;
    }

    fn to_network(&mut self, _: u8, _: SocketAddr, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}

struct Rig {
    bridge: Box<dyn Bridge>,
    now: Time,
    said: Said,
}

impl Rig {
    fn new() -> Self {
        let config = Config {
            targets: vec!["10.0.0.9".into()],
            poll: false,
            universes_max: UNIVERSES,
            ..Config::default()
        };
        let bridge = artnet::open(config).expect("a configuration that works");
        let mut rig = Self { bridge, now: Time::default(), said: Said::default() };
        rig.step(Input::Joined);
        rig
    }

    fn step(&mut self, input: Input<'_>) {
        self.bridge.step(self.now, input, &mut self.said);
    }

    /// Lets as much time pass as 44 frames a second of every universe leave between two frames.
    fn pass(&mut self) {
        self.now = self.now + Span(SECOND / 44 / u64::from(UNIVERSES));
        while self.bridge.deadline().is_some_and(|due| due <= self.now) {
            self.step(Input::Deadline);
        }
    }

    /// ArtDmx of every universe in turn; the first `changing` slots differ from frame to frame.
    fn receive(mut self, frames: u32, changing: usize, senders: u8) -> u64 {
        let mut packet = Vec::new();
        let mut levels = [0; SLOTS];
        // The first round fills the tables, and is the same for every number of frames.
        let filling = u32::from(UNIVERSES) * u32::from(senders);
        for frame in 0..filling + frames {
            let universe = (frame / u32::from(senders)) as u16 % UNIVERSES;
            let round = frame / filling;
            levels[..changing].fill(round as u8);
            packet::write_dmx(&mut packet, 0, port_address(universe), &levels);
            let from = SocketAddr::from(([10, 0, 0, (frame % u32::from(senders)) as u8], 6454));
            self.step(Input::Packet { socket: 0, from, bytes: &packet });
            self.pass();
        }
        self.said.0
    }

    /// A frame of the router for every universe in turn, with another level each round.
    fn write(mut self, frames: u32, frame: fn(u16, u8) -> Vec<u8>) -> u64 {
        let round = |level| (0..UNIVERSES).map(|universe| frame(universe, level)).collect();
        let rounds: [Vec<_>; 2] = [round(1), round(2)];
        let universes = usize::from(UNIVERSES);
        for number in 0..universes + frames as usize {
            let (round, universe) = (number / universes, number % universes);
            self.step(Input::Frame(&rounds[round % 2][universe]));
            self.pass();
        }
        self.said.0
    }

    /// Only keep-alives: one frame of each universe, then nothing but time.
    fn repeat(mut self, frames: u32) -> u64 {
        for universe in 0..UNIVERSES {
            self.step(Input::Frame(&whole(universe, 1)));
            self.pass();
        }
        let until = self.said.0 + u64::from(frames) * (18 + SLOTS as u64);
        while self.said.0 < until {
            self.now = self.bridge.deadline().expect("repeats are due").max(self.now);
            self.step(Input::Deadline);
        }
        self.said.0
    }
}

fn port_address(universe: u16) -> PortAddress {
    PortAddress::new(universe).expect("15 bits")
}

/// A BUNDLE that sets the first `slots` slots to `level`.
fn sets(universe: u16, slots: usize, level: u8) -> Vec<u8> {
    let mut encoded = Vec::new();
    push_i64(&mut encoded, i64::from(level));
    let value = Value::from_encoded(&encoded).expect("a value");
    let mut payloads = Vec::new();
    for slot in 1..=slots {
        let address = format!("/artnet/{universe}/{slot}");
        Messages::append(&mut payloads, &set(&address, value)).expect("short");
    }
    let messages = Messages::from_payloads(&payloads, slots).expect("just written");
    framed(&Message::Bundle(Bundle { timestamp_us: None, messages }))
}

/// One SET of a whole universe.
fn whole(universe: u16, level: u8) -> Vec<u8> {
    let mut encoded = Vec::new();
    push_bytes(&mut encoded, &[level; SLOTS]).expect("short");
    let value = Value::from_encoded(&encoded).expect("a value");
    framed(&set(&format!("/artnet/{universe}"), value))
}

fn set<'a>(address: &'a str, value: Value<'a>) -> Message<'a> {
    Message::Set(Set { address, value, revision: None, lock: false, unlock: false, ttl: None })
}

fn framed(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, Qos::Fire, &mut frame).expect("fits a frame");
    frame
}

//! What a packet costs that repeats its universe, beside the least it could cost: a comparison.
//!
//! ```text
//! unchanged list                       names the cases, one a line
//! unchanged CASE N                     runs one of them N times, and prints what happened
//! unchanged CASE N nanoseconds         prints the time of each of the N too
//! valgrind --tool=callgrind target/release/examples/unchanged CASE N
//! ```
//!
//! Most of a show stands still from frame to frame. 1,024 universes take turns, so that none is
//! still in the nearest cache when it comes again. Setting up costs the same whatever N is.

use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use clasp_rt_bridges::merge::SLOTS;
use clasp_rt_bridges::{BRIDGES, Input, Out};
use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::wire::{binary, header};
use serde_json::{Value as Json, json};

const UNIVERSES: usize = 1_024;

/// Between two packets: 44 frames a second of each universe.
const APART: Span = Span(1_000_000_000 / 44 / UNIVERSES as u64);

/// Packets of a turn: then the host asks the bridge for its deadline.
const TURN: u64 = 16;

/// Its name, and what gives it one packet of a universe.
type Case = (&'static str, fn() -> Box<dyn FnMut(usize) -> u64>);

const CASES: &[Case] = &[
    ("comparison", comparison),
    ("artnet", || {
        let keys = json!({ "bind": "127.0.0.1:0", "poll": false, "inputs": "all" });
        repeats("artnet", keys, 0, art_dmx, |packet, frame, universe| {
            packet[12] = (frame % 255) as u8 + 1;
            packet[14..16].copy_from_slice(&universe.to_le_bytes());
        })
    }),
    ("sacn", || {
        let keys = json!({ "bind": "127.0.0.1:0", "inputs": "all", "settle_ms": 0 });
        repeats("sacn", keys, 1, e131_data, |packet, frame, universe| {
            packet[111] = frame as u8;
            packet[113..115].copy_from_slice(&universe.to_be_bytes());
        })
    }),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, count, is_timed) = match arguments[..] {
        ["list"] => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [name, count] => (name, count, false),
        [name, count, "nanoseconds"] => (name, count, true),
        _ => return usage(),
    };
    let case = CASES.iter().find(|(known, _)| *known == name);
    let (Some((_, open)), Ok(count)) = (case, count.parse::<usize>()) else { return usage() };
    let mut take = open();
    let start = Instant::now();
    let changes: u64 = (0..count).map(|number| take(number % UNIVERSES)).sum();
    let nanoseconds = start.elapsed().as_nanos() as f64;
    assert_eq!(changes, 0, "levels were told that had not changed");
    println!("{name}: {count} packets, no level told");
    if is_timed {
        println!("{:.1} ns a message", nanoseconds / count.max(1) as f64);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: unchanged list | CASE N [nanoseconds]");
    ExitCode::FAILURE
}

/// The levels of a universe held against those of a packet.
fn comparison() -> Box<dyn FnMut(usize) -> u64> {
    let held = vec![[7_u8; SLOTS]; UNIVERSES];
    let packet = vec![7_u8; SLOTS];
    Box::new(move |universe| u64::from(black_box(&held[universe][..]) != black_box(&packet[..])))
}

/// A bridge that has heard every universe once, and hears it again and again. `mark` writes frame
/// and universe into a packet.
fn repeats(
    name: &str,
    keys: Json,
    first: u16,
    packet: fn() -> Vec<u8>,
    mark: fn(&mut [u8], u64, u16),
) -> Box<dyn FnMut(usize) -> u64> {
    let entry = BRIDGES.iter().find(|entry| entry.name == name).expect("a bridge");
    let mut bridge = (entry.open)(keys).expect("keys that work");
    let from = SocketAddr::from(([127, 0, 0, 1], 6_454));
    let (mut packet, mut told, mut now, mut heard) = (packet(), Told::default(), Time(0), 0);
    bridge.step(now, Input::Clock { unix_us: 1_800_000_000_000_000 }, &mut told);
    bridge.step(now, Input::Joined, &mut told);
    let mut take = move |universe: usize| {
        now = now + APART;
        told.levels = 0;
        mark(&mut packet, heard / UNIVERSES as u64, first + universe as u16);
        heard += 1;
        bridge.step(now, Input::Packet { socket: 0, from, bytes: &packet }, &mut told);
        let is_turn = heard.is_multiple_of(TURN);
        if is_turn && bridge.deadline().is_some_and(|due| due <= now) {
            bridge.step(now, Input::Deadline, &mut told);
        }
        told.levels
    };
    let levels: u64 = (0..UNIVERSES).map(&mut take).sum();
    assert_eq!(levels, (UNIVERSES * SLOTS) as u64, "not all levels were told at first");
    Box::new(take)
}

/// Counts the levels that the router is told.
#[derive(Default)]
struct Told {
    levels: u64,
}

impl Out for Told {
    fn to_router(&mut self, frame: &[u8]) {
        let frame = header::parse(frame).expect("a bridge sends whole frames");
        let levels = |message: &Message<'_>| match message {
            Message::Set(Set { address, .. }) => {
                let slot = address.rsplit('/').next().map(str::parse::<u16>);
                u64::from(address.split('/').count() == 4 && matches!(slot, Some(Ok(_))))
            }
            _ => 0,
        };
        self.levels += match binary::decode(frame.payload).expect("a bridge sends messages") {
            Message::Bundle(bundle) => bundle.messages.iter().map(|one| levels(&one)).sum(),
            message => levels(&message),
        };
    }

    fn to_network(&mut self, _: u8, _: SocketAddr, _: &[u8]) {}
}

/// Source: Art-Net 4, ArtDmx.
fn art_dmx() -> Vec<u8> {
    let mut packet = b"Art-Net\0\x00\x50\x00\x0e\0\0\0\0".to_vec();
    packet.extend((SLOTS as u16).to_be_bytes());
    packet.resize(18 + SLOTS, 7);
    packet
}

/// Source: ANSI E1.31-2018, table 4-1.
fn e131_data() -> Vec<u8> {
    use clasp_rt_bridges::sacn::packet::{self, Data, Universe};
    let mut bytes = Vec::new();
    let data = Data {
        cid: [9; 16],
        name: b"desk",
        priority: 100,
        sync: 0,
        sequence: 0,
        preview: false,
        terminated: false,
        force_sync: false,
        universe: Universe::MIN,
        start: Some(0),
        slots: &[7; SLOTS],
    };
    packet::write_data(&mut bytes, &data);
    bytes
}

//! Counts messages as a shard's thread does, without a shard and a kernel, so that callgrind can
//! tell what the counting costs: `counting CASE N`, as `core/examples/instructions.rs`.
//!
//! ```sh
//! cargo build --release --package clasp-rt --example counting
//! valgrind --tool=callgrind target/release/examples/counting on_1_to_1 64000
//! ```

#[expect(dead_code, reason = "the program's own modules, of which this needs a part")]
#[path = "../src/clock.rs"]
mod clock;
#[expect(dead_code, reason = "the program's own modules, of which this needs a part")]
#[path = "../src/stages.rs"]
mod stages;

use std::hint::black_box;
use std::process::ExitCode;

use clasp_rt_bridges::json;
use clasp_rt_core::shard::Outcome;
use clasp_rt_core::time::Span;

use clock::Clock;
use stages::{Stage, Stages};

/// Messages of a turn: what one send of the generator holds.
const TURN: u64 = 64;
/// How long a turn of so many takes.
const TURN_LASTS: Span = Span::from_micros(11);

/// Whether it is counted, the frames, the links that hear each.
type Case = (&'static str, bool, &'static [&'static str], u32);

const EVENT: &str = r#"{"type":"PUBLISH","signal":"event","address":"/show/cue","value":1}"#;
const STREAM: &str = r#"{"type":"PUBLISH","signal":"stream","address":"/show/level","value":1}"#;
const SET: &str = r#"{"type":"SET","address":"/show/fader","value":1}"#;

const CASES: &[Case] = &[
    ("off_1_to_1", false, &[EVENT], 1),
    ("on_1_to_1", true, &[EVENT], 1),
    ("on_mixed_1_to_1", true, &[EVENT, SET, STREAM, SET], 1),
    ("on_nobody_listens", true, &[SET], 0),
    ("off_fan_out_100", false, &[SET], 100),
    ("on_fan_out_100", true, &[SET], 100),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, count) = match arguments[..] {
        ["list"] => {
            CASES.iter().for_each(|(name, ..)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [name, count] => (name, count.parse()),
        _ => return usage(),
    };
    let case = CASES.iter().find(|(known, ..)| *known == name);
    let (Some((_, on, texts, links)), Ok(count)) = (case, count) else { return usage() };
    let counted = run(count, *on, texts, *links);
    println!("{name}: {count} messages, {counted} counted");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: counting list | CASE N");
    ExitCode::FAILURE
}

/// `n` messages in turns; how many were counted as handed over.
fn run(n: u64, on: bool, texts: &[&str], links: u32) -> u64 {
    let frames: Vec<Vec<u8>> = texts
        .iter()
        .map(|text| {
            let mut frame = Vec::new();
            json::to_frame(text, &mut frame).expect("a message of ours");
            frame
        })
        .collect();
    let (page, counted) = stages::page(1);
    let clock = Clock::start();
    let mut stages = Stages::new(on.then_some(page), clock);
    let mut now = clock.now();
    for at in 0..n {
        if at % TURN == 0 {
            now = now + TURN_LASTS;
            black_box(&mut stages).turn(now);
        }
        let frame = &frames[at as usize % frames.len()];
        stages.frame(now, black_box(frame));
        let stages = black_box(&mut stages);
        for _ in 0..links {
            black_box(&mut *stages).queued();
        }
        stages.stepped(black_box(Outcome::Taken));
    }
    stages.turn(now + TURN_LASTS);
    let totals = stages::kinds(1).enumerate().filter(|(_, kind)| kind.stage == Stage::Total);
    totals.filter_map(|(index, _)| counted.latency(index)).map(|latency| latency.count()).sum()
}

//! A seeded fuzzer that needs nothing but this crate: mutates good inputs, and names what breaks.
//!
//! It sees no coverage, as the libFuzzer targets in `chaos/fuzz` do; it runs anywhere, in seconds,
//! with the toolchain of the workspace, and the same seed finds the same input again.
//!
//! Whatever reads bytes that somebody else wrote, and the target that gives it some:
//!
//! | reads | target |
//! |---|---|
//! | a frame of CLASP, its message, a value | `header`, `binary`, `value` |
//! | the older MessagePack form | `legacy` |
//! | patterns, addresses, scopes | `pattern` |
//! | a shard: sessions, subscriptions, bundles, locks | `shard` |
//! | WebSocket, the side that accepts and the one that connects | `ws`, `ws-client` |
//! | frames over TCP | `stream` |
//! | CLASP as JSON text | `json` |
//! | datagrams and router frames of every bridge | `bridges` |
//! | OSC packets; SLIP and lengths | `osc-packet`, `osc-framing` |
//! | OSC streams, OSCQuery by HTTP and WebSocket | `osc` |
//! | Art-Net | `artnet`, `bridges` |
//! | sACN: its packets, and a bridge through hours of them | `sacn-packet`, `sacn` |
//! | MIDI cables; DMX interfaces | `midi`, `dmx` |
//! | sessions of MQTT clients, their packets and payloads | `mqtt` |
//! | topics and filters of MQTT | `topics` |
//! | paths and entity tags of HTTP | `http-path` |
//! | token files | `tokens` |
//! | Socket.IO servers | `socketio` |
//! | sessions of web programs in JSON; questions to a router | `web-client`, `web-talk` |
//! | `[[route]]` and `[[patch]]`: patterns, templates, formulas, conditions | `routes`, `patch` |
//! | recordings | `capture` |
//!
//! Without a target: HTTP requests, which `hyper` reads (bodies are `json`), TOML files, which
//! `toml` reads, mDNS, which `mdns-sd` reads; pcap files, whose test breaks each of their bytes.

use std::io;
use std::panic;
use std::process::{Command, Output, exit};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::random::Random;

mod artnet;
mod devices;
mod mapping;
mod mqtt;
mod mutate;
mod names;
mod osc;
mod sacn;
pub mod seeds;
mod socketio;
mod targets;
mod web;

pub use mutate::mutated;
pub use targets::{TARGETS, Target};

/// The exit status of a process that found an input under which a target panics.
const FOUND: i32 = 101;

/// How often a failing input is tried shorter. Each try starts a process: a few milliseconds.
const TRIES: usize = 600;

/// An argument longer than this would make a try fail for a reason of its own.
const HEX_DIGITS_MAX: usize = 100_000;

/// Looks at the clock this rarely.
const INPUTS_PER_LOOK: u64 = 16;

/// Runs `target` over its seeds and then over mutations of them, for `length`; prints how many.
///
/// A panic does not return: the process prints the input instead, and exits. That works where a
/// panic unwinds and where it aborts, because the process ends inside the hook.
pub fn run(target: &Target, seed: u64, length: Duration) {
    report_the_input_that_panics(target.name);
    let seeds = (target.seeds)();
    let mut random = Random::new(seed);
    let start = Instant::now();
    let mut tried = 0_u64;
    for input in &seeds {
        attempt(target, input);
        tried += 1;
    }
    while !tried.is_multiple_of(INPUTS_PER_LOOK) || start.elapsed() < length {
        attempt(target, &mutated(&mut random, &seeds));
        tried += 1;
    }
    println!("{tried}");
}

/// Runs one input, as a found failure prints it.
pub fn run_one(target: &Target, input: &[u8]) {
    report_the_input_that_panics(target.name);
    attempt(target, input);
}

/// How a run in a process of its own ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many inputs, and nothing broke.
    Well { tried: u64 },
    /// Shortened; and what the panic said.
    Found { input: Vec<u8>, why: String },
    /// Killed where no hook runs, as by a stack overflow: only the seed leads back there.
    Died { why: String },
}

/// As [`run`], in a fresh process of this program, so that whatever breaks can be told and
/// shortened.
pub fn run_apart(target: &Target, seed: u64, length: Duration) -> io::Result<Ended> {
    let (seed, seconds) = (seed.to_string(), length.as_secs().to_string());
    let output = again(&[target.name, "--seed", &seed, "--seconds", &seconds, "--apart", "no"])?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(match (output.status.code(), seeds::unhex(&said)) {
        (Some(0), _) => Ended::Well { tried: said.parse().map_err(io::Error::other)? },
        (Some(FOUND), Some(input)) => Ended::Found { input: shortened(target, &input), why },
        _ => Ended::Died { why: format!("{}: {why}", output.status) },
    })
}

/// The shortest input that makes a fresh process fail as `input` does.
fn shortened(target: &Target, input: &[u8]) -> Vec<u8> {
    let fails = |shorter: &[u8]| {
        let hex = seeds::hex(shorter);
        hex.len() < HEX_DIGITS_MAX
            && again(&[target.name, "--input", &hex])
                .is_ok_and(|output| output.status.code() == Some(FOUND))
    };
    mutate::minimised(input, TRIES, fails)
}

fn again(arguments: &[&str]) -> io::Result<Output> {
    Command::new(std::env::current_exe()?).arg("fuzz").args(arguments).output()
}

/// What is being tried, for the panic hook: at the moment it is wanted nobody can hand it over.
static TRYING: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn attempt(target: &Target, input: &[u8]) {
    {
        let mut trying = TRYING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        trying.clear();
        trying.extend_from_slice(input);
    }
    (target.run)(input);
}

fn report_the_input_that_panics(name: &'static str) {
    panic::set_hook(Box::new(move |info| {
        let trying = TRYING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        println!("{}", seeds::hex(&trying));
        eprintln!("target {name}: {info}");
        exit(FOUND);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_takes_its_seeds_and_some_mutations() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            let mut random = Random::new(0xF0);
            seeds.iter().for_each(|input| (target.run)(input));
            (0..300).for_each(|_| (target.run)(&mutated(&mut random, &seeds)));
        }
    }

    /// What fuzzing found, shortened: the target, the input, and what was wrong.
    #[test]
    fn what_was_found_once_stays_mended() {
        let found = [
            // 17e30 was read as a neighbouring float, and its text as yet another.
            (
                "json",
                "7b226f70223a22736574222c2261646472657373223a22222c2276616c7565223a31376533307d",
            ),
        ];
        for (name, hex) in found {
            let target = TARGETS.iter().find(|target| target.name == name).unwrap();
            (target.run)(&seeds::unhex(hex).unwrap());
        }
    }

    #[test]
    fn targets_have_names_that_differ() {
        for (index, one) in TARGETS.iter().enumerate() {
            assert!(TARGETS[..index].iter().all(|other| other.name != one.name), "{}", one.name);
        }
    }
}

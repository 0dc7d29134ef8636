//! Decodes and encodes the same messages with our codec, the published one, and one of MQTT.
//!
//! `bench-codec [ROUNDS [MESSAGES]]` prints, as JSON, nanoseconds and allocations a message, round
//! by round; `clasp-bench rows` reads it. The codecs take turns within a round, so that whatever
//! else the machine does hits all of them.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::signal::{Phase, Qos, Signal};
use clasp_rt_core::value::{Value, code};
use clasp_rt_core::wire::{self, Scratch, binary, header};
use clasp_rt_ring::alloc::{SteadyAlloc, allocations_of_this_thread};
use rumqttc::Packet;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Frames of a mix. A codec meets each as often as the others.
const FRAMES: usize = 1_024;

/// Packets that an MQTT connection finds in its buffer after one read.
const MQTT_PACKET_BYTES_MAX: usize = 1_024;

const ROUNDS: usize = 7;
const MESSAGES: usize = 1_000_000;

fn main() -> ExitCode {
    let mut numbers = [ROUNDS, MESSAGES];
    for (number, typed) in numbers.iter_mut().zip(std::env::args().skip(1)) {
        let Ok(parsed) = typed.parse() else {
            eprintln!("usage: bench-codec [ROUNDS [MESSAGES]]");
            return ExitCode::from(2);
        };
        *number = parsed;
    }
    let [rounds, messages] = numbers.map(|number| number.max(1));
    let mut measured: Vec<Measured> = MIXES.iter().flat_map(|mix| mix.codecs()).collect();
    for _ in 0..rounds {
        measured.iter_mut().for_each(|one| one.round(messages));
    }
    let figures: Vec<_> = measured.iter().flat_map(Measured::json).collect();
    println!("{:#}", json!({ "figures": figures }));
    ExitCode::SUCCESS
}

/// What a show sends, by the kind of message.
struct Mix {
    name: &'static str,
    /// Each in turn.
    kinds: &'static [Kind],
}

#[derive(Clone, Copy)]
enum Kind {
    Set,
    Stream,
    Event,
}

const MIXES: [Mix; 3] = [
    Mix { name: "set", kinds: &[Kind::Set] },
    Mix { name: "publish", kinds: &[Kind::Stream, Kind::Event] },
    Mix { name: "mix", kinds: &[Kind::Set, Kind::Stream, Kind::Set, Kind::Event] },
];

impl Mix {
    fn frames(&self) -> Vec<Vec<u8>> {
        let kinds = self.kinds.iter().cycle();
        kinds.take(FRAMES).enumerate().map(|(n, kind)| frame(*kind, n)).collect()
    }

    fn codecs(&self) -> Vec<Measured> {
        let frames = self.frames();
        let runs: [(&str, &str, Run); 6] = [
            ("decode", "ours", our_decode(frames.clone())),
            ("decode", "clasp-core", published_decode(frames.clone())),
            ("decode", "rumqttc", mqtt_decode(&frames)),
            ("encode", "ours", our_encode(frames.clone())),
            ("encode", "clasp-core", published_encode(&frames)),
            ("encode", "rumqttc", mqtt_encode(&frames)),
        ];
        let measured = runs.into_iter().map(|(way, whose, run)| {
            let key = format!("codec/{way}/{}/{whose}", self.name);
            Measured { key, run, ns: Vec::new(), allocations: Vec::new() }
        });
        measured.collect()
    }
}

/// Handles all messages of a mix, so often.
type Run = Box<dyn FnMut(usize) -> Cost>;

/// What the codec alone took.
#[derive(Default)]
struct Cost {
    time: Duration,
    allocations: u64,
}

impl Cost {
    /// Adds what `work` takes.
    fn count(&mut self, work: impl FnOnce()) {
        let before = allocations_of_this_thread();
        let began = processor_time();
        work();
        self.time += processor_time() - began;
        self.allocations += allocations_of_this_thread() - before;
    }
}

/// Of this thread: what others do on the same core is not the codec's.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs() as u32)
}

/// One codec, one way, one mix.
struct Measured {
    key: String,
    run: Run,
    ns: Vec<f64>,
    allocations: Vec<f64>,
}

impl Measured {
    fn round(&mut self, messages: usize) {
        let passes = messages.div_ceil(FRAMES);
        (self.run)(passes.div_ceil(20));
        let cost = (self.run)(passes);
        let messages = (passes * FRAMES) as f64;
        self.ns.push(cost.time.as_nanos() as f64 / messages);
        self.allocations.push(cost.allocations as f64 / messages);
    }

    fn json(&self) -> [serde_json::Value; 2] {
        let name = self.key.replace('/', " ");
        [
            json!({ "key": self.key, "name": name, "unit": "ns", "rounds": self.ns }),
            json!({
                "key": format!("{}/allocations", self.key),
                "name": format!("{name}, allocations"),
                "unit": "allocations",
                "rounds": self.allocations,
            }),
        ]
    }
}

/// What `each` costs for all of `items`, `passes` times.
fn cost<T>(passes: usize, items: &mut [T], mut each: impl FnMut(&mut T)) -> Cost {
    let mut cost = Cost::default();
    cost.count(|| (0..passes).for_each(|_| items.iter_mut().for_each(&mut each)));
    cost
}

fn our_decode(mut frames: Vec<Vec<u8>>) -> Run {
    let mut scratch = Scratch::with_capacity();
    Box::new(move |passes| {
        cost(passes, &mut frames, |frame| {
            let parsed = header::parse(black_box(frame)).expect("a frame of ours");
            let decoded = wire::decode(parsed.payload, &mut scratch);
            assert!(black_box(&decoded).is_ok(), "a message of ours");
        })
    })
}

fn our_encode(frames: Vec<Vec<u8>>) -> Run {
    let mut out = Vec::with_capacity(1_024);
    Box::new(move |passes| {
        let mut messages: Vec<Message<'_>> = frames
            .iter()
            .map(|frame| {
                let parsed = header::parse(frame).expect("a frame of ours");
                binary::decode(parsed.payload).expect("a message of ours")
            })
            .collect();
        cost(passes, &mut messages, |message| {
            binary::encode(black_box(message), Qos::Fire, &mut out).expect("it was one before");
            black_box(&out);
        })
    })
}

fn published_decode(mut frames: Vec<Vec<u8>>) -> Run {
    Box::new(move |passes| {
        cost(passes, &mut frames, |frame| {
            let decoded = clasp_core::decode(black_box(frame));
            assert!(black_box(&decoded).is_ok(), "a frame it can read");
        })
    })
}

fn published_encode(frames: &[Vec<u8>]) -> Run {
    let decoded = frames.iter().map(|frame| clasp_core::decode(frame).expect("readable").0);
    let mut messages: Vec<clasp_core::Message> = decoded.collect();
    Box::new(move |passes| {
        cost(passes, &mut messages, |message| {
            let encoded = clasp_core::encode(black_box(message)).expect("it was one before");
            black_box(&encoded);
        })
    })
}

/// PUBLISH packets of the same addresses with the same bytes of value, QoS 0.
fn mqtt_messages(frames: &[Vec<u8>]) -> Vec<rumqttc::Publish> {
    let publish = |frame: &Vec<u8>| {
        let payload = header::parse(frame).expect("a frame of ours").payload;
        let (address, value) = match binary::decode(payload).expect("a message of ours") {
            Message::Set(set) => (set.address, Some(set.value)),
            Message::Publish(publish) => (publish.address, publish.value),
            other => unreachable!("not in a mix: {other:?}"),
        };
        let value = value.and_then(Value::as_f64).expect("every message carries a number");
        let payload = value.to_be_bytes().to_vec();
        rumqttc::Publish::new(address, rumqttc::QoS::AtMostOnce, payload)
    };
    frames.iter().map(publish).collect()
}

fn mqtt_decode(frames: &[Vec<u8>]) -> Run {
    let mut stream = BytesMut::new();
    for message in mqtt_messages(frames) {
        message.write(&mut stream).expect("a short packet");
    }
    let stream: Bytes = stream.freeze();
    Box::new(move |passes| {
        let mut cost = Cost::default();
        for _ in 0..passes {
            // What one read of the socket brings: filling the buffer is not the codec's work.
            let mut buffer = BytesMut::from(&stream[..]);
            cost.count(|| {
                while !buffer.is_empty() {
                    let packet = Packet::read(black_box(&mut buffer), MQTT_PACKET_BYTES_MAX);
                    assert!(black_box(&packet).is_ok(), "a packet it wrote");
                }
            });
        }
        cost
    })
}

fn mqtt_encode(frames: &[Vec<u8>]) -> Run {
    let mut messages = mqtt_messages(frames);
    let mut out = BytesMut::with_capacity(1_024);
    Box::new(move |passes| {
        cost(passes, &mut messages, |message| {
            out.clear();
            black_box(message).write(&mut out).expect("a short packet");
            black_box(&out);
        })
    })
}

/// A message to one of many faders, with an address of 24 bytes and a float.
fn frame(kind: Kind, n: usize) -> Vec<u8> {
    let address = format!("/show/rig{}/fixture{n:06}", n % 7);
    let data = (n as f64 / 1_000.0).to_be_bytes();
    let (value, _) = Value::parse(code::F64, &data).expect("eight bytes are an f64");
    let publish = |signal, phase| {
        let signal = Some(signal);
        Message::Publish(Publish {
            address: &address,
            value: Some(value),
            signal,
            phase,
            ..Publish::default()
        })
    };
    let message = match kind {
        Kind::Set => {
            let (revision, ttl) = (None, None);
            let address = &address;
            Message::Set(Set { address, value, revision, lock: false, unlock: false, ttl })
        }
        Kind::Stream => publish(Signal::Stream, None),
        Kind::Event => publish(Signal::Event, Some(Phase::Start)),
    };
    let mut frame = Vec::new();
    binary::encode(&message, Qos::Fire, &mut frame).expect("a short message");
    frame
}

/// Counts. The allocator is the one that a Rust program has unless it chooses another.
#[global_allocator]
static ALLOCATOR: SteadyAlloc<System> = SteadyAlloc(System);

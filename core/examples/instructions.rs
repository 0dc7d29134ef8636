//! What one message costs the shard: runs one steady case so often, for `callgrind` to count.
//!
//! ```text
//! instructions list                    names the cases, one a line
//! instructions CASE N                  runs one of them N times, and prints what left
//! instructions CASE N nanoseconds      prints the time of each of the N too
//! valgrind --tool=callgrind target/release/examples/instructions CASE N
//! ```
//!
//! Setting up costs the same whatever N is. So the instructions of a message are
//! (count(N2) - count(N1)) / (N2 - N1), and do not depend on the machine's load.

use std::process::ExitCode;
use std::time::Instant;

use clasp_rt_core::LinkId;
use clasp_rt_core::ShardId;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Bundle, Hello, Message, Publish, Set, Subscribe, SubscribeOptions};
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Outcome, Settings, Shard};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::time::Time;
use clasp_rt_core::value::{Value, code};
use clasp_rt_core::wire::list::{Features, Messages};
use clasp_rt_core::wire::{Scratch, binary, decode, header};
use mimalloc::MiMalloc;

/// As the program has it: a large table lies in huge pages where the machine grants them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Its name, and how it runs so many messages.
type Case = (&'static str, fn(u64) -> Run);

const CASES: &[Case] = &[
    ("set_1_to_1", |n| writes(n, Write::Set, 1, 1, 0)),
    ("set_confirmed_1_to_1", |n| writes(n, Write::Confirmed, 1, 1, 0)),
    ("publish_event_1_to_1", |n| writes(n, Write::Event, 1, 1, 0)),
    ("publish_stream_1_to_1", |n| writes(n, Write::Stream, 1, 1, 0)),
    ("set_nobody_listens", |n| writes(n, Write::Set, 1, 0, 0)),
    ("set_fan_out_100", |n| writes(n, Write::Set, 1, 100, 0)),
    ("stream_fan_out_100", |n| writes(n, Write::Stream, 1, 100, 0)),
    ("stream_fan_out_1000", |n| writes(n, Write::Stream, 1, 1_000, 0)),
    ("set_with_1k_params", |n| writes(n, Write::Set, 1_000, 1, 0)),
    ("set_with_100k_params", |n| writes(n, Write::Set, 100_000, 1, 0)),
    ("set_with_1m_params", |n| writes(n, Write::Set, 1_000_000, 1, 0)),
    ("set_with_10_subscriptions", |n| writes(n, Write::Set, 100, 1, 10)),
    ("set_with_100k_subscriptions", |n| writes(n, Write::Set, 100, 1, 100_000)),
    ("stream_with_10_subscriptions", |n| writes(n, Write::Stream, 100, 1, 10)),
    ("stream_with_100k_subscriptions", |n| writes(n, Write::Stream, 100, 1, 100_000)),
    ("stream_paced", |n| writes(n, Write::Paced, 10, 1, 0)),
    ("bundle_of_16_sets", |n| writes(n, Write::Bundle, 1_000, 1, 0)),
    ("bundle_of_256_slots", |n| writes(n, Write::Slots, UNIVERSES, 0, 0)),
    ("bundle_of_256_slots_1_to_1", |n| writes(n, Write::Slots, UNIVERSES, 1, 0)),
    ("decode_show_mix", decode_mix),
    ("encode_show_mix", encode_mix),
];

/// What a run did, so that no part of it can be left out, and how long its messages took.
struct Run {
    frames: u64,
    bytes: u64,
    nanoseconds: u128,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, count, timed) = match arguments[..] {
        ["list"] => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [name, count] => (name, count, false),
        [name, count, "nanoseconds"] => (name, count, true),
        _ => return usage(),
    };
    let case = CASES.iter().find(|(known, _)| *known == name);
    let (Some((_, run)), Ok(count)) = (case, count.parse()) else { return usage() };
    let run = run(count);
    println!("{name}: {count} messages, {} frames, {} bytes", run.frames, run.bytes);
    if timed {
        println!("{:.1} ns a message", run.nanoseconds as f64 / count.max(1) as f64);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions list | CASE N [nanoseconds]");
    ExitCode::FAILURE
}

/// What the writer sends.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    Set,
    /// A SET that asks for an ACK.
    Confirmed,
    Event,
    Stream,
    /// A stream whose only listener wants one sample a second.
    Paced,
    /// Sixteen SETs.
    Bundle,
    /// The levels of half a universe, as a bridge that was sent it says them.
    Slots,
}

const SETS_A_BUNDLE: usize = 16;
const SLOTS_A_BUNDLE: u64 = 256;
const UNIVERSES: u64 = 4;
/// Messages of a turn; then the kernel takes what was queued.
const TURN: u64 = 16;
/// More than this of one frame is a turn of its own, as more would be for its receiver.
const SHORT_BYTES: usize = 2_000;
const WRITER: LinkId = LinkId(0);
/// Links that hold the subscriptions that match nothing.
const IDLE_LINKS: u32 = 100;

/// `n` messages over `addresses` in a scattered order, to `listeners` with `/show/**` each; with
/// `subscriptions` beside, a third of them exact, a third with `*` and a third with `**`, of which
/// two more match and give the first listener nothing twice.
fn writes(n: u64, write: Write, addresses: u64, listeners: u32, subscriptions: u32) -> Run {
    let (params, features) = match write {
        Write::Slots => (addresses * SLOTS_A_BUNDLE, 0xF8 | Features::NO_ECHO),
        _ => (addresses, 0xF8),
    };
    let mut router = Router::new(params, features, listeners, subscriptions);
    let max_rate = (write == Write::Paced).then_some(1);
    for listener in 1..=listeners {
        router.subscribe(LinkId(listener), 1, "/show/**", max_rate);
    }
    if subscriptions > 0 {
        router.subscribe(LinkId(1), 2, "/show/*/*/level/out", None);
        router.subscribe(LinkId(1), 3, "/**/out", None);
    }
    for id in 3..subscriptions {
        let link = LinkId(1 + listeners + id % IDLE_LINKS);
        let pattern = match id % 3 {
            0 => format!("/show/rig{}/fixture{}/level/in", id % 7, id / 3),
            1 => format!("/show/*/fixture{}/color", id / 3),
            _ => format!("/show/rig{}/spare{}/**", id % 7, id / 3),
        };
        router.subscribe(link, id, &pattern, None);
    }
    let mut frames = match (write, addresses) {
        (Write::Set, 1_000..) => Frames::Numbered(frame_of(write, 0, addresses), addresses),
        _ => Frames::Made((0..addresses).map(|n| frame_of(write, n, addresses)).collect()),
    };
    // Every address twice: what is made when an address comes for the first time is there then.
    for _ in 0..2 {
        router.write(addresses, &mut frames);
    }
    router.out.restart();
    let began = Instant::now();
    router.write(n, &mut frames);
    let nanoseconds = began.elapsed().as_nanos();
    Run { frames: router.out.frames, bytes: router.out.bytes, nanoseconds }
}

/// What the writer sends, one frame for each address.
enum Frames {
    Made(Vec<Vec<u8>>),
    /// So many that keeping them would cost more than what is measured: one SET, whose address is
    /// written anew each time, as a frame that just arrived is new to nobody's cache.
    Numbered(Vec<u8>, u64),
}

impl Frames {
    fn count(&self) -> u64 {
        match self {
            Self::Made(frames) => frames.len() as u64,
            Self::Numbered(_, count) => *count,
        }
    }

    fn get(&mut self, n: u64) -> &[u8] {
        match self {
            Self::Made(frames) => &frames[n as usize],
            Self::Numbered(frame, _) => {
                let address = &mut frame[ADDRESS_AT..];
                address[RIG_AT] = b'0' + (n % 7) as u8;
                let mut left = n;
                for digit in address[FIXTURE_AT].iter_mut().rev() {
                    *digit = b'0' + (left % 10) as u8;
                    left /= 10;
                }
                frame
            }
        }
    }
}

/// Header, code, flags and the length of the address are in front of it.
const ADDRESS_AT: usize = 8;
/// Where the numbers stand in [`address`].
const RIG_AT: usize = 9;
const FIXTURE_AT: std::ops::Range<usize> = 18..24;

/// 24 bytes up to a million of them: `/show/rig3/fixture000123`, and a tail where there are few.
fn address(n: u64, addresses: u64) -> String {
    match addresses {
        100 => format!("/show/rig{}/fixture{n:03}/level/out", n % 7),
        _ => format!("/show/rig{}/fixture{n:06}", n % 7),
    }
}

fn frame_of(write: Write, n: u64, addresses: u64) -> Vec<u8> {
    let address = address(n, addresses);
    let data = (n as f64 / 1_000.0).to_be_bytes();
    let value = number(&data);
    let publish = |signal| {
        let phase = Some(Phase::Start);
        let base = Publish { address: &address, value: Some(value), ..Publish::default() };
        Message::Publish(Publish { signal: Some(signal), phase, ..base })
    };
    match write {
        Write::Set => encoded(&Message::Set(set(&address, value)), Qos::Fire),
        Write::Confirmed => encoded(&Message::Set(set(&address, value)), Qos::Confirm),
        Write::Event => encoded(&publish(Signal::Event), Qos::Fire),
        Write::Stream | Write::Paced => encoded(&publish(Signal::Stream), Qos::Fire),
        Write::Bundle => {
            let mut payloads = Vec::new();
            for of_bundle in 0..SETS_A_BUNDLE as u64 {
                let address = self::address((n + of_bundle) % addresses, addresses);
                let set = Message::Set(set(&address, value));
                Messages::append(&mut payloads, &set).expect("a short message");
            }
            bundled(&payloads, SETS_A_BUNDLE)
        }
        Write::Slots => {
            let mut payloads = Vec::new();
            for slot in 1..=SLOTS_A_BUNDLE {
                let address = format!("/show/artnet/{n}/{slot}");
                let level = slot.to_be_bytes();
                let value = Value::parse(code::I64, &level).expect("eight bytes are an i64").0;
                let set = Message::Set(set(&address, value));
                Messages::append(&mut payloads, &set).expect("a short message");
            }
            bundled(&payloads, SLOTS_A_BUNDLE as usize)
        }
    }
}

fn bundled(payloads: &[u8], count: usize) -> Vec<u8> {
    let messages = Messages::from_payloads(payloads, count).expect("whole ones");
    encoded(&Message::Bundle(Bundle { timestamp_us: None, messages }), Qos::Fire)
}

fn set<'a>(address: &'a str, value: Value<'a>) -> Set<'a> {
    Set { address, value, revision: None, lock: false, unlock: false, ttl: None }
}

fn number(data: &[u8; 8]) -> Value<'_> {
    Value::parse(code::F64, data).expect("eight bytes are an f64").0
}

fn encoded(message: &Message<'_>, qos: Qos) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, qos, &mut frame).expect("a short message");
    frame
}

/// One shard, and an edge whose kernel takes all at the end of a turn.
struct Router {
    shard: Shard,
    out: Out,
    now: Time,
}

impl Router {
    /// `features`: of the writer.
    fn new(params: u64, features: u8, listeners: u32, subscriptions: u32) -> Self {
        let links = 1 + listeners + if subscriptions > 0 { IDLE_LINKS } else { 0 };
        let limits = Limits {
            links_max: links,
            params_max: params as u32 + 16,
            param_bytes_max: (params + 1_000) * 64,
            subscriptions_max: subscriptions + listeners + 16,
            subscriptions_per_session_max: subscriptions + 16,
            ..Limits::default()
        };
        let settings = Settings { id: ShardId(0), limits, rate_limit: None, ..Settings::default() };
        let out = Out {
            unsent: vec![0; links as usize],
            busy: Vec::with_capacity(links as usize),
            frames: 0,
            bytes: 0,
        };
        let mut router = Self { shard: Shard::new(settings), out, now: Time(0) };
        for link in (0..links).map(LinkId) {
            let features = Features::from_bits(if link == WRITER { features } else { 0xF8 });
            let hello = Hello { version: 1, features, name: "instructions", token: None };
            let hello = encoded(&Message::Hello(hello), Qos::Fire);
            router.step(Input::Opened { link, admit: Admit::Trusted });
            router.step(Input::Frame { link, frame: &hello });
            router.end_turn();
        }
        router
    }

    fn subscribe(&mut self, link: LinkId, id: u32, pattern: &str, max_rate: Option<u32>) {
        let options = SubscribeOptions { max_rate, ..SubscribeOptions::default() };
        let wish = Subscribe { id, pattern, types: SignalMask::ALL, options };
        let frame = encoded(&Message::Subscribe(wish), Qos::Fire);
        self.step(Input::Frame { link, frame: &frame });
        self.end_turn();
    }

    /// `n` of `frames`, each as often as the others, in an order that no cache foresees.
    fn write(&mut self, n: u64, frames: &mut Frames) {
        const STRIDE: u64 = 611_953; // A prime: it meets every frame.
        for at in 0..n {
            let frame = frames.get(at * STRIDE % frames.count());
            let ends_turn = at % TURN == TURN - 1 || frame.len() > SHORT_BYTES;
            self.step(Input::Frame { link: WRITER, frame });
            if ends_turn {
                self.end_turn();
            }
        }
        self.end_turn();
    }

    fn step(&mut self, input: Input<'_>) {
        assert_eq!(self.shard.step(self.now, input, &mut self.out), Outcome::Taken);
    }

    fn end_turn(&mut self) {
        self.now = Time(self.now.0 + 10_000);
        loop {
            while let Some(link) = self.out.busy.pop() {
                let bytes = std::mem::take(&mut self.out.unsent[link.0 as usize]);
                self.step(Input::Sent { link, bytes });
            }
            if self.shard.deadline().is_none_or(|due| due > self.now) {
                return;
            }
            self.step(Input::Deadline { forward_room: true });
        }
    }
}

struct Out {
    /// Bytes that the kernel has not taken, by link, and which links have some.
    unsent: Vec<u32>,
    busy: Vec<LinkId>,
    frames: u64,
    bytes: u64,
}

impl Out {
    fn restart(&mut self) {
        (self.frames, self.bytes) = (0, 0);
    }
}

impl Effects for Out {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        let unsent = &mut self.unsent[link.0 as usize];
        if *unsent == 0 {
            self.busy.push(link);
        }
        *unsent += frame.len() as u32;
        self.frames += 1;
        self.bytes += frame.len() as u64;
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        panic!("{link:?} is closed: {reason:?}");
    }

    fn to_peer(&mut self, shard: ShardId, _: Lane, _: &[u8]) {
        panic!("there is no {shard:?}");
    }

    fn resume(&mut self, link: LinkId) {
        panic!("{link:?} held nothing back");
    }
}

/// What a show sends: faders and colours that are set, samples, cues.
fn show_mix() -> Vec<Vec<u8>> {
    let mix = [Write::Set, Write::Stream, Write::Set, Write::Event];
    (0..64).map(|n| frame_of(mix[n % mix.len()], n as u64, 1_000)).collect()
}

/// A message is one frame decoded.
fn decode_mix(n: u64) -> Run {
    let frames = show_mix();
    let mut scratch = Scratch::with_capacity();
    let began = Instant::now();
    let (mut read, mut bytes) = (0, 0);
    for frame in frames.iter().cycle().take(n as usize) {
        let parsed = header::parse(frame).expect("a frame of ours");
        let message = decode(parsed.payload, &mut scratch).expect("a message of ours");
        let (address, value) = match &message {
            Message::Set(set) => (set.address, Some(set.value)),
            Message::Publish(publish) => (publish.address, publish.value),
            other => unreachable!("not in the mix: {other:?}"),
        };
        read += 1;
        bytes += (address.len() + value.map_or(0, Value::encoded_len)) as u64;
    }
    Run { frames: read, bytes, nanoseconds: began.elapsed().as_nanos() }
}

/// A message is one frame encoded.
fn encode_mix(n: u64) -> Run {
    let frames = show_mix();
    let mut scratches: Vec<Scratch> = frames.iter().map(|_| Scratch::default()).collect();
    let messages: Vec<_> = frames
        .iter()
        .zip(&mut scratches)
        .map(|(frame, scratch)| {
            let parsed = header::parse(frame).expect("a frame of ours");
            let message = decode(parsed.payload, scratch).expect("a message of ours");
            (message, parsed.header.qos)
        })
        .collect();
    let mut out = Vec::with_capacity(1_024);
    let began = Instant::now();
    let (mut written, mut bytes) = (0, 0);
    for (message, qos) in messages.iter().cycle().take(n as usize) {
        binary::encode(message, *qos, &mut out).expect("it was one frame before");
        written += 1;
        bytes += out.len() as u64;
    }
    Run { frames: written, bytes, nanoseconds: began.elapsed().as_nanos() }
}

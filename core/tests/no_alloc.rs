//! A router that has started takes no memory: not one allocation in 100,000 mixed steps.

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{
    Announce, Bundle, Hello, Message, Publish, Set, SignalInfo, Subscribe, SubscribeOptions, Sync,
    Ttl,
};
use clasp_rt_core::shard::{
    Admit, Arbitration, CloseReason, Effects, Input, Lane, OnLoss, Order, Outcome, Rule, RuleFor,
    Ruling, Settings, Shard, SourceFor,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{self, Value};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::{Announced, Features, Messages, Samples};
use clasp_rt_core::{LinkId, ShardId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const UNIX_US: u64 = 1_700_000_000_000_000;
/// Links of each shard; the last one reads slowly.
const LINKS: u32 = 6;
const SLOW: u32 = LINKS - 1;

/// A program of one thread, because whatever ran beside it would be counted.
fn main() {
    a_hundred_thousand_mixed_steps_allocate_nothing();
}

fn a_hundred_thousand_mixed_steps_allocate_nothing() {
    for shards in [1, 3] {
        let mut router = Router::new(shards);
        let frames = frames();
        router.greet();
        router.run(&frames, 20_000);
        let region = Region::new(ALLOCATOR);
        router.run(&frames, 100_000);
        let change = region.change();
        let touched = [change.allocations, change.reallocations, change.deallocations];
        assert_eq!(touched, [0; 3], "{shards} shards: allocations, reallocations, deallocations");
        router.check_that_everything_happened();
    }
}

/// Records of one length and bytes each, in a block that never grows.
struct Ring {
    bytes: Vec<u8>,
    read: usize,
}

const RING_BYTES: usize = 4 << 20;

impl Ring {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(RING_BYTES), read: 0 }
    }

    fn push(&mut self, record: &[u8]) {
        assert!(self.bytes.len() + 4 + record.len() <= RING_BYTES, "the ring of the test is full");
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
    }

    fn front(&self) -> Option<&[u8]> {
        let (len, rest) = self.bytes[self.read..].split_first_chunk::<4>()?;
        rest.get(..u32::from_le_bytes(*len) as usize)
    }

    fn pop(&mut self) {
        self.read += 4 + self.front().map_or(0, <[u8]>::len);
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        }
    }
}

/// What a shard decided, and where it goes, without taking memory.
struct Out {
    /// By destination and lane.
    rings: Vec<[Ring; 2]>,
    /// Bytes that the kernel has not taken, by link.
    unsent: [u32; LINKS as usize],
    blocked: [bool; LINKS as usize],
    closed: [bool; LINKS as usize],
    frames: u64,
    handed: u64,
}

impl Effects for Out {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.unsent[link.0 as usize] += frame.len() as u32;
        self.frames += 1;
    }

    fn close(&mut self, link: LinkId, _: CloseReason) {
        self.closed[link.0 as usize] = true;
    }

    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]) {
        self.rings[usize::from(shard.0)][lane as usize].push(record);
        self.handed += 1;
    }

    fn resume(&mut self, link: LinkId) {
        self.blocked[link.0 as usize] = false;
    }
}

struct Router {
    shards: Vec<Shard>,
    outs: Vec<Out>,
    /// For each shard what it takes over next.
    rulings: Vec<Option<Box<Ruling>>>,
    now: Time,
    random: u64,
    record: Vec<u8>,
    hello: Vec<u8>,
}

impl Router {
    fn new(count: u16) -> Self {
        let limits = Limits {
            links_max: LINKS,
            params_max: 48 / (2 * u32::from(count) - 1),
            subscriptions_max: 512,
            subscriptions_per_session_max: 64,
            signals_max: 4,
            samples_per_turn_max: 2,
            paced_max: 32,
            window_bytes: 512,
            outbox_bytes_max: 16 << 10,
            history_bytes: 16 << 10,
            claims_max: 24,
            ..Limits::default()
        };
        let rule = |pattern: &str, rule| RuleFor { pattern: pattern.into(), rule };
        let settings = Settings {
            shards: count,
            limits,
            // A little less than the links of so many shards send.
            rate_limit: Some(240 / u32::from(count)),
            gesture_interval: Span::from_millis(100),
            timeline_interval: Span::from_millis(4),
            arbitrations: arbitrations(),
            rules: vec![rule("/rig1/**", Rule::Max), rule("/rig2/**", Rule::Merge)],
            ..Settings::default()
        };
        let shards = (0..count)
            .map(|id| Shard::new(Settings { id: ShardId(id), ..settings.clone() }))
            .collect();
        let out = || Out {
            rings: (0..count).map(|_| [Ring::new(), Ring::new()]).collect(),
            unsent: [0; LINKS as usize],
            blocked: [false; LINKS as usize],
            closed: [false; LINKS as usize],
            frames: 0,
            handed: 0,
        };
        let features = Features::from_bits(0xF8);
        let hello = Hello { version: 1, features, name: "no_alloc", token: None };
        Self {
            shards,
            outs: (0..count).map(|_| out()).collect(),
            rulings: (0..count).map(|_| Some(Box::new(ruling()))).collect(),
            now: Time(0),
            random: 1,
            record: Vec::with_capacity(1 << 20),
            hello: frame(&Message::Hello(hello), Qos::Fire),
        }
    }

    fn greet(&mut self) {
        for shard in 0..self.shards.len() {
            for link in 0..LINKS {
                self.connect(shard, link);
            }
        }
    }

    fn connect(&mut self, shard: usize, link: u32) {
        let opened = Input::Opened { link: LinkId(link), admit: Admit::Stranger };
        self.step(shard, opened);
        let hello = std::mem::take(&mut self.hello);
        self.step(shard, Input::Frame { link: LinkId(link), frame: &hello });
        self.hello = hello;
    }

    fn step(&mut self, shard: usize, input: Input<'_>) {
        assert_eq!(self.offer(shard, input), Outcome::Taken);
    }

    fn offer(&mut self, shard: usize, input: Input<'_>) -> Outcome {
        self.shards[shard].step(self.now, input, &mut self.outs[shard])
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as usize % end
    }

    fn run(&mut self, frames: &[Vec<u8>], steps: usize) {
        for step in 0..steps {
            let shard = self.below(self.shards.len());
            let link = self.below(LINKS as usize) as u32;
            let at = self.below(frames.len());
            let out = &self.outs[shard];
            let (closed, blocked) = (out.closed[link as usize], out.blocked[link as usize]);
            if closed || (step % 997 == 0 && !blocked) {
                self.step(shard, Input::Closed { link: LinkId(link) });
                let out = &mut self.outs[shard];
                out.closed[link as usize] = false;
                out.blocked[link as usize] = false;
                out.unsent[link as usize] = 0;
                self.connect(shard, link);
            } else if !blocked {
                let input = Input::Frame { link: LinkId(link), frame: &frames[at] };
                // A resume may come in the very step that holds the frame; this test then loses it.
                self.outs[shard].blocked[link as usize] = true;
                if self.offer(shard, input) == Outcome::Taken {
                    self.outs[shard].blocked[link as usize] = false;
                }
            }
            self.now = self.now + Span::from_micros(500);
            if step % 4_001 == 0 {
                self.rule_anew();
            }
            if step % 4 == 0 {
                self.settle(step % 1_024 == 0);
            }
        }
        self.settle(true);
    }

    /// Every shard takes the next ruling over; what it needs no more is the one after that.
    fn rule_anew(&mut self) {
        for (shard, ruling) in self.shards.iter_mut().zip(&mut self.rulings) {
            if let Some(next) = ruling.take() {
                let (Ok(rest) | Err(rest)) = shard.adopt(self.now, next);
                *ruling = Some(rest);
            }
        }
    }

    /// Hands everything over, and lets time do its part, until nothing is left.
    fn settle(&mut self, slow_ones_read: bool) {
        for shard in 0..self.shards.len() {
            self.step(shard, Input::Clock { unix_us: UNIX_US });
        }
        let mut idle = false;
        while !idle {
            idle = true;
            for shard in 0..self.shards.len() {
                for link in 0..LINKS {
                    let unsent = &mut self.outs[shard].unsent[link as usize];
                    let bytes =
                        if link == SLOW && !slow_ones_read { 0 } else { std::mem::take(unsent) };
                    if bytes > 0 {
                        self.step(shard, Input::Sent { link: LinkId(link), bytes });
                        idle = false;
                    }
                }
                for from in 0..self.shards.len() {
                    idle &= !self.hand_over(from, shard, Lane::Publish);
                    idle &= !self.hand_over(from, shard, Lane::Forward);
                }
                if self.shards[shard].deadline().is_some_and(|due| due <= self.now) {
                    self.step(shard, Input::Deadline { forward_room: true });
                    idle = false;
                }
            }
        }
    }

    fn hand_over(&mut self, from: usize, to: usize, lane: Lane) -> bool {
        let ring = &self.outs[from].rings[to][lane as usize];
        let Some(record) = ring.front() else { return false };
        self.record.clear();
        self.record.extend_from_slice(record);
        let record = std::mem::take(&mut self.record);
        let input = Input::Peer { from: ShardId(from as u16), lane, record: &record };
        let outcome = self.offer(to, input);
        self.record = record;
        if outcome == Outcome::Taken {
            self.outs[from].rings[to][lane as usize].pop();
        }
        outcome == Outcome::Taken
    }

    /// A run in which something never happens would prove nothing about it.
    fn check_that_everything_happened(&self) {
        let mut totals: Vec<(&str, u64)> = Vec::new();
        for shard in &self.shards {
            shard.counts().each(|name, count| match totals.iter_mut().find(|(n, _)| *n == name) {
                Some((_, total)) => *total += count,
                None => totals.push((name, count)),
            });
        }
        let alone = self.shards.len() == 1;
        for (name, total) in totals {
            let cannot = match name {
                "closed_idle" => true,
                "records_out" | "records_in" | "held" | "streams_deferred" => alone,
                _ => false,
            };
            assert!(cannot || total > 0, "no {name} with {} shards", self.shards.len());
        }
    }
}

fn frame(message: &Message<'_>, qos: Qos) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, qos, &mut frame).unwrap();
    frame
}

fn set<'a>(address: &'a str, value: Value<'a>) -> Set<'a> {
    Set { address, value, revision: None, lock: false, unlock: false, ttl: None }
}

/// Everything a client may say, more of what it says often.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let addresses: Vec<String> = (0..60).map(|i| format!("/rig{}/lamp/{i}", i % 5)).collect();
    for (i, address) in addresses.iter().enumerate() {
        let (data, mut text, mut map) = ((i as f64).to_be_bytes(), Vec::new(), Vec::new());
        value::push_str(&mut text, &"x".repeat(i * 7)).unwrap();
        let number = Value::parse(value::code::F64, &data).unwrap().0;
        let mut entries = value::MapWriter::start(&mut map);
        value::push_i64(entries.entry(&format!("key{}", i % 9)).unwrap(), i as i64);
        for value in
            [number, Value::from_encoded(&text).unwrap(), Value::from_encoded(&map).unwrap()]
        {
            let plain = set(address, value);
            for special in [
                plain,
                Set { lock: true, ..plain },
                Set { unlock: true, ..plain },
                Set { ttl: Some(Ttl::Sliding(1 + i as u32 % 3)), ..plain },
                Set { revision: Some(i as u64), ..plain },
            ] {
                frames.push(frame(&Message::Set(special), Qos::Confirm));
            }
            frames.extend(publishes(address, value));
        }
        frames.push(frame(&Message::Get { address }, Qos::Fire));
        frames.push(announce(address));
        frames.push(frame(&Message::Unsubscribe { id: i as u32 }, Qos::Fire));
        let window: Vec<&str> =
            addresses.iter().cycle().skip(i).take(5).map(String::as_str).collect();
        for marker in [marker("desk", None), marker("desk", Some("release"))]
            .into_iter()
            .chain([marker("other", None), marker("other", Some("alive"))])
        {
            frames.push(marked(&marker, &window[..3]));
        }
        frames.push(frame(&Message::Get { address: &format!("/clasp/why{address}") }, Qos::Fire));
        frames.push(bundle(&window[..1], None));
        frames.push(bundle(&window, None));
        frames.push(bundle(&window, Some(UNIX_US + 3_000)));
    }
    for (id, pattern) in
        ["/**", "/rig1/**", "/rig2/*/1*", "/rig3/lamp/3", "/*/lamp/*"].iter().enumerate()
    {
        for options in [
            SubscribeOptions::default(),
            SubscribeOptions { max_rate: Some(50), ..SubscribeOptions::default() },
            SubscribeOptions { epsilon: Some(3.0), ..SubscribeOptions::default() },
            SubscribeOptions { history: Some(3), window: Some(50), ..SubscribeOptions::default() },
        ] {
            let id = id as u32 + options.max_rate.unwrap_or(7);
            let wish = Subscribe { id, pattern, types: SignalMask::ALL, options };
            frames.push(frame(&Message::Subscribe(wish), Qos::Fire));
        }
    }
    frames.push(frame(&Message::Query { pattern: "/**" }, Qos::Fire));
    frames.push(frame(&Message::Ping, Qos::Fire));
    frames.push(frame(&Message::Sync(Sync { t1: 1, t2: None, t3: None }), Qos::Fire));
    frames.push(b"S\x01\x00\x01\x99".to_vec());
    // {type: "QUERY", pattern: "/**"} in MessagePack.
    let query = b"\x82\xA4type\xA5QUERY\xA7pattern\xA3/**";
    frames.push([&[b'S', 1, 0, query.len() as u8], &query[..]].concat());
    frames
}

/// Something is lost all the time, and fades.
fn arbitrations() -> Vec<Arbitration> {
    let mut value = Vec::new();
    value::push_f64(&mut value, -1.0);
    let over = Span::from_millis(20);
    [("/rig3/**", Order::Latest), ("/rig4/**", Order::Highest)]
        .into_iter()
        .map(|(pattern, order)| Arbitration {
            pattern: pattern.into(),
            order,
            timeout: Some(Span::from_millis(200)),
            on_loss: OnLoss::Fade { value: value.clone(), over },
            default_priority: 100,
        })
        .collect()
}

/// Other addresses than at first, another order, and sessions with a priority.
fn ruling() -> Ruling {
    let [ltp, htp] = arbitrations().try_into().expect("two of them");
    let rules = vec![
        Arbitration { pattern: "/rig4/**".into(), timeout: None, ..ltp },
        Arbitration { pattern: "/rig2/**".into(), on_loss: OnLoss::Hold, ..htp },
    ];
    Ruling::new(rules, vec![SourceFor { name: "no_*".into(), priority: 50 }])
}

/// A map with an `id`, and with a key that is true.
fn marker(id: &str, sign: Option<&str>) -> Vec<u8> {
    let mut map = Vec::new();
    let mut writer = value::MapWriter::start(&mut map);
    value::push_str(writer.entry("id").unwrap(), id).unwrap();
    if let Some(sign) = sign {
        value::push_bool(writer.entry(sign).unwrap(), true);
    }
    map
}

/// A bundle of a marker and SETs.
fn marked(marker: &[u8], addresses: &[&str]) -> Vec<u8> {
    let mut payloads = Vec::new();
    let publish = Publish {
        address: "/clasp/source",
        signal: Some(Signal::Event),
        value: Some(Value::from_encoded(marker).unwrap()),
        ..Publish::default()
    };
    Messages::append(&mut payloads, &Message::Publish(publish)).unwrap();
    for (n, address) in addresses.iter().enumerate() {
        let data = (n as f64 + marker.len() as f64).to_be_bytes();
        let number = Value::parse(value::code::F64, &data).unwrap().0;
        Messages::append(&mut payloads, &Message::Set(set(address, number))).unwrap();
    }
    let messages = Messages::from_payloads(&payloads, addresses.len() + 1).unwrap();
    frame(&Message::Bundle(Bundle { timestamp_us: None, messages }), Qos::Commit)
}

fn publishes(address: &str, value: Value<'_>) -> Vec<Vec<u8>> {
    let base = Publish { address, value: Some(value), ..Publish::default() };
    let of = |signal, phase| Publish { signal: Some(signal), phase: Some(phase), ..base };
    let mut samples = Vec::new();
    for i in 0..8 {
        Samples::append(&mut samples, f64::from(i)).unwrap();
    }
    let samples = Samples::from_bytes(&samples).unwrap();
    let timeline = timeline();
    let mut publishes = vec![
        of(Signal::Param, Phase::Start),
        of(Signal::Event, Phase::Start),
        of(Signal::Stream, Phase::Start),
        Publish { value: None, samples: Some(samples), ..of(Signal::Stream, Phase::Start) },
        Publish {
            value: Some(Value::from_encoded(&timeline).unwrap()),
            ..of(Signal::Timeline, Phase::Start)
        },
        of(Signal::Timeline, Phase::Start),
    ];
    for phase in [Phase::Start, Phase::Move, Phase::Move, Phase::Move, Phase::End] {
        publishes.push(Publish { address: "/gesture", ..of(Signal::Gesture, phase) });
    }
    publishes.iter().map(|publish| frame(&Message::Publish(*publish), Qos::Fire)).collect()
}

fn timeline() -> Vec<u8> {
    let mut map = Vec::new();
    let mut writer = value::MapWriter::start(&mut map);
    let mut frames = value::ArrayWriter::start(writer.entry("keyframes").unwrap());
    for (time, v) in [(0.0, 0.0), (20_000.0, 10.0)] {
        let mut frame = value::MapWriter::start(frames.item().unwrap());
        value::push_f64(frame.entry("time").unwrap(), time);
        value::push_f64(frame.entry("value").unwrap(), v);
    }
    map
}

fn announce(address: &str) -> Vec<u8> {
    let signal = Signal::Param;
    let info = SignalInfo { address, signal, datatype: Some("f64"), access: None, meta: None };
    let mut list = Vec::new();
    Announced::append(&mut list, info).unwrap();
    let signals = Announced::from_bytes(&list).unwrap();
    frame(&Message::Announce(Announce { namespace: "/rig", signals }), Qos::Fire)
}

fn bundle(addresses: &[&str], timestamp_us: Option<u64>) -> Vec<u8> {
    let mut payloads = Vec::new();
    for address in addresses {
        Messages::append(&mut payloads, &Message::Set(set(address, Value::NULL))).unwrap();
    }
    let messages = Messages::from_payloads(&payloads, addresses.len()).unwrap();
    frame(&Message::Bundle(Bundle { timestamp_us, messages }), Qos::Commit)
}

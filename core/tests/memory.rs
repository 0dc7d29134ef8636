//! What a shard says it takes is what it takes: the number that is printed before a show.

use std::alloc::System;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Hello, Message, Set};
use clasp_rt_core::shard::{
    Admit, Arbitration, CloseReason, Effects, Input, Lane, OnLoss, Order, Outcome, Rule, RuleFor,
    Settings, Shard,
};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::Time;
use clasp_rt_core::value::{Value, code};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Features;
use clasp_rt_core::{LinkId, ShardId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A program of one thread, because whatever ran beside it would be counted.
fn main() {
    a_shard_takes_the_memory_that_it_names_and_gives_all_of_it_back();
    a_held_param_takes_at_most_160_bytes_of_all_that_a_shard_has();
}

fn a_shard_takes_the_memory_that_it_names_and_gives_all_of_it_back() {
    let large = Limits { params_max: 1_000_000, param_bytes_max: 128 << 20, ..Limits::default() };
    let small = Limits { links_max: 2, params_max: 10, held_bytes_max: 4096, ..Limits::default() };
    let rules = vec![RuleFor { pattern: "/a/**".into(), rule: Rule::Max }; 20];
    let arbitration = Arbitration {
        pattern: "/b/**".into(),
        order: Order::Latest,
        timeout: None,
        on_loss: OnLoss::Hold,
        default_priority: 100,
    };
    for (limits, shards) in [(Limits::default(), 1), (Limits::default(), 8), (large, 2), (small, 1)]
    {
        let arbitrations = vec![arbitration.clone(); usize::from(shards) / 2];
        let settings = Settings {
            id: ShardId(shards - 1),
            shards,
            limits: limits.clone(),
            rules: rules.clone(),
            arbitrations: arbitrations.clone(),
            ..Settings::default()
        };
        let region = Region::new(ALLOCATOR);
        let shard = Shard::new(settings);
        let taken = region.change();
        assert_eq!(taken.reallocations, 0, "everything is taken at its size");
        let counted = (taken.bytes_allocated - taken.bytes_deallocated) as f64;
        let named = shard.memory_bytes() as f64;
        let off = (named / counted - 1.0).abs();
        assert!(off < 0.01, "names {named}, takes {counted}, for {limits:?} of {shards} shards");
        drop(shard);
        let left = region.change();
        assert!(left.bytes_allocated <= left.bytes_deallocated, "all is given back");
    }
}

/// Room for `params` of 24-byte addresses and one f64 each, and for nothing more.
fn room_for(params: u32) -> Limits {
    Limits { params_max: params, param_bytes_max: u64::from(params) * 48, ..Limits::default() }
}

/// The slot, the index, address and value with their rounding, expiry, the line for eviction.
fn a_held_param_takes_at_most_160_bytes_of_all_that_a_shard_has() {
    let bytes = |params| {
        let settings = Settings { limits: room_for(params), ..Settings::default() };
        Shard::new(settings).memory_bytes()
    };
    // The index doubles in between; this is when it is emptiest.
    for (few, many) in [(100_000, 1_000_000), (400_000, 940_000)] {
        let each = (bytes(many) - bytes(few)) as f64 / f64::from(many - few);
        assert!(each <= 160.0, "{each} bytes for each of {many}");
    }
    // And the room is enough: all of them are held, none went for another.
    let params = 20_000;
    let settings = Settings { limits: room_for(params), rate_limit: None, ..Settings::default() };
    let mut shard = Shard::new(settings);
    let link = LinkId(0);
    step(&mut shard, Input::Opened { link, admit: Admit::Trusted });
    let features = Features::from_bits(0xF8);
    let hello = Hello { version: 1, features, name: "memory", token: None };
    step(&mut shard, Input::Frame { link, frame: &encoded(&Message::Hello(hello)) });
    for n in 0..params {
        let address = format!("/show/rig{}/fixture{n:06}", n % 7);
        assert_eq!(address.len(), 24);
        let data = f64::from(n).to_be_bytes();
        let (value, _) = Value::parse(code::F64, &data).expect("eight bytes are an f64");
        let set =
            Set { address: &address, value, revision: None, lock: false, unlock: false, ttl: None };
        step(&mut shard, Input::Frame { link, frame: &encoded(&Message::Set(set)) });
    }
    assert_eq!((shard.params(), shard.counts().params_evicted), (params, 0));
}

fn step(shard: &mut Shard, input: Input<'_>) {
    assert_eq!(shard.step(Time(0), input, &mut Nobody), Outcome::Taken);
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, Qos::Fire, &mut frame).expect("a short message");
    frame
}

/// Hears nothing.
struct Nobody;

impl Effects for Nobody {
    fn send(&mut self, _: LinkId, _: &[u8]) {}
    fn close(&mut self, link: LinkId, reason: CloseReason) {
        panic!("{link:?} is closed: {reason:?}");
    }
    fn to_peer(&mut self, _: ShardId, _: Lane, _: &[u8]) {}
    fn resume(&mut self, _: LinkId) {}
}

//! What a shard says it takes is what it takes: the number that is printed before a show.

use std::alloc::System;

use clasp_rt_core::ShardId;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::{Rule, RuleFor, Settings, Shard};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A program of one thread, because whatever ran beside it would be counted.
fn main() {
    a_shard_takes_the_memory_that_it_names_and_gives_all_of_it_back();
}

fn a_shard_takes_the_memory_that_it_names_and_gives_all_of_it_back() {
    let large = Limits { params_max: 1_000_000, param_bytes_max: 128 << 20, ..Limits::default() };
    let small = Limits { links_max: 2, params_max: 10, held_bytes_max: 4096, ..Limits::default() };
    let rules = vec![RuleFor { pattern: "/a/**".into(), rule: Rule::Max }; 20];
    for (limits, shards) in [(Limits::default(), 1), (Limits::default(), 8), (large, 2), (small, 1)]
    {
        let settings = Settings {
            id: ShardId(shards - 1),
            shards,
            limits: limits.clone(),
            rules: rules.clone(),
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

//! What the allocator of the program sees, in a process of its own.

use std::alloc::System;
use std::hint::black_box;
use std::thread;

use clasp_rt_ring::alloc::{SteadyAlloc, allocations_of_this_thread, touched};

#[global_allocator]
static ALLOCATOR: SteadyAlloc<System> = SteadyAlloc(System);

fn taken_by<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = allocations_of_this_thread();
    let made = act();
    (made, allocations_of_this_thread() - before)
}

#[test]
fn each_way_to_take_memory_counts_once_and_giving_it_back_does_not() {
    let (mut bytes, taken) = taken_by(|| Vec::<u8>::with_capacity(100));
    assert_eq!(taken, 1);
    bytes.extend([7; 100]);
    let ((), taken) = taken_by(|| bytes.reserve_exact(10_000));
    assert_eq!((taken, &bytes[..]), (1, &[7; 100][..]));
    let (zeroed, taken) = taken_by(|| black_box(vec![0_u8; 10_000]));
    assert_eq!((taken, zeroed.iter().all(|byte| *byte == 0)), (1, true));
    let ((), taken) = taken_by(|| {
        bytes.fill(1);
        drop(bytes);
        drop(zeroed);
    });
    assert_eq!(taken, 0);
}

#[test]
fn other_threads_are_not_counted() {
    let (count, here) = (200, allocations_of_this_thread());
    let there = thread::scope(|scope| {
        let busy = scope.spawn(|| taken_by(|| (0..count).for_each(|n| drop(black_box(vec![n])))).1);
        busy.join().unwrap()
    });
    assert_eq!(there, count);
    // Starting a thread takes a little, here.
    assert!(allocations_of_this_thread() - here < count);
}

#[test]
fn touched_memory_is_resident_and_keeps_what_it_held() {
    const BYTES: usize = 32 << 20;
    let resident = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    let before = resident();
    let untouched = black_box(vec![0_u8; BYTES]);
    let between = resident();
    assert!(between - before < BYTES / 2, "a fresh page is not there before it is used");
    let mut bytes = touched(|| {
        let mut bytes = Vec::with_capacity(BYTES / 2 + 1);
        bytes.push(7_u8);
        bytes.reserve_exact(BYTES);
        black_box(bytes)
    });
    let after = resident();
    assert!(after - between >= BYTES, "{before} {between} {after}");
    assert_eq!((bytes.pop(), untouched.len()), (Some(7), BYTES));
}

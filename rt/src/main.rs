//! The program: a router, its bridges as programs of their own, and a client for the shell.
#![forbid(unsafe_code)]

mod arbitration;
mod bridge_thread;
mod clock;
mod commands;
mod complaints;
mod config;
mod conns;
mod control;
mod devices;
mod dialer;
mod doctor;
mod document;
mod edge;
mod gate;
mod host;
mod log;
mod mdns;
mod memory;
mod metrics;
mod open_bridge;
mod peers;
mod plain;
mod plan;
mod plan_print;
mod plan_types;
mod port;
mod recording;
mod reload;
mod rulings;
mod running;
mod service_thread;
mod shard_thread;
mod stages;
mod tape;
mod uplink;
mod waiting;

use std::process::ExitCode;

use clasp_rt_ring::alloc::SteadyAlloc;
use mimalloc::MiMalloc;

// For start-up, bridges and the calm thread; the way of a message through a shard does not
// allocate.
#[global_allocator]
static ALLOCATOR: SteadyAlloc<MiMalloc> = SteadyAlloc(MiMalloc);

fn main() -> ExitCode {
    commands::Cli::typed().run()
}

//! The program: a router, its bridges as programs of their own, and a client for the shell.
#![forbid(unsafe_code)]

mod bridge_thread;
mod clock;
mod commands;
mod config;
mod conns;
mod control;
mod dialer;
mod document;
mod edge;
mod host;
mod memory;
mod peers;
mod plan;
mod plan_print;
mod plan_types;
mod port;
mod running;
mod shard_thread;
mod tokens;
mod uplink;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

// Start-up and bridges allocate, often from several threads at once; the way of a message does not.
// The system's allocator gives freed start-up memory back only in part, so that the resident size
// would say little about what `plan` promised.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::Cli::parse().run()
}

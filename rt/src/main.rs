//! The program.
#![forbid(unsafe_code)]

mod config;
mod document;
mod host;
mod memory;
mod plan;
mod plan_print;
mod plan_types;
mod tokens;
mod waiting;

fn main() {}

//! Instruments: what the router and its benches measure, and how the numbers leave.
//!
//! A leaf of the workspace: it knows no CLASP, no socket and no clock. Whoever measures reads the
//! clock and hands over nanoseconds.
#![forbid(unsafe_code)]

pub mod buckets;
pub mod calendar;
pub mod capture;
pub mod counters;
pub mod export;
pub mod histogram;
pub mod log;

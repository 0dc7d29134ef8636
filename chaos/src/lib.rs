//! Trouble, made on purpose and from a seed: the real machines under faults that nobody would
//! stage.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | shards, rings, links and the clock of one router on one thread |
//! | [`peers`] | who connects: honest, clumsy and hostile |
//! | [`faults`] | what goes wrong, and how often |
//! | [`ledger`] | what was done and heard |
//! | [`check`] | the promises, one function each |
//! | [`oracle`] | the router written naively, to hold one shard against |
//! | [`fuzz`] | everything that reads bytes of strangers, under mutated input |
//!
//! It knows no kernel, so it runs anywhere, and a failure runs again from its seed.
#![forbid(unsafe_code)]

pub mod check;
pub mod faults;
pub mod fuzz;
pub mod ledger;
pub mod oracle;
pub mod peers;
pub mod random;
pub mod speech;
pub mod world;

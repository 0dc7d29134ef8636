//! The router's core: messages in, messages out, at a given time.
//!
//! Nothing here touches a socket, a clock, a thread or a random source. The same inputs at the same
//! times give the same effects, byte for byte; simulation, fuzzing, replay and the standby rest on
//! it.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | *frame* | 4 or 12 bytes of header, and one payload ([`wire::header`]) |
//! | *message* | what a payload means ([`message::Message`]) |
//! | *link* | one peer's connection, owned by the shard that accepted it ([`LinkId`]) |
//! | *session* | a link after HELLO: a name, a grant, subscriptions |
//! | *param* | an address that keeps its last value and a revision that only rises |
//! | *home* | the one shard that orders all changes of an address (`shard/home.rs`) |
//! | *ingress*, *egress* | the shard of the link that wrote, the shard of the link that listens |
//! | *interest* | which shards want an address; kept by its home |
//! | *outbox* | what a slow link keeps, replaces, drops, or is closed for |
//! | *effect* | what the edge must do: send, close, hand to a peer shard ([`shard::Effects`]) |
//! | *turn* | all that arrived is handled at one instant, and all that was decided leaves |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod arena;
pub mod error;
pub mod index;
pub mod limits;
pub mod message;
pub mod pattern;
pub mod shard;
pub mod signal;
pub mod time;
pub mod timers;
pub mod trie;
pub mod value;
pub mod wire;

/// One peer's connection on this shard: an index below `Limits::links_max`, reused after `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// A shard of the router, counted from 0 in the order of `--cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

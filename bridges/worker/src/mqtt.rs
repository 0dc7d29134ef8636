//! MQTT, 3.1.1 and 5, as the client of a broker: topics below a namespace, both ways.
//!
//! | MQTT | CLASP |
//! |---|---|
//! | topic `a/b` | address `/mqtt/a/b` ([`topic`] has what must be written differently) |
//! | a retained message | SET; the newest is kept on both sides |
//! | any other message | PUBLISH of an event ([`rules::Kind`] says when it is a SET all the same) |
//! | an empty retained message | SET of null: the topic is cleared |
//! | QoS 0, 1, 2 | fire, confirm, commit |
//! | message expiry (5) | the TTL of the param |
//! | payload | value ([`payload::Form`]) |
//!
//! **What we say does not come back**: with 5 by no-local, and by a user property that tells whose
//! a message is; with 3.1.1 what was said is remembered for ten seconds. What another bridge of
//! this process said of an address is no news for the same address. With 5 a message also says
//! through which routers it came, and is not taken where it was before: two routers may each join
//! the same two brokers. With 3.1.1 they must not: nothing in a message tells that it went round.
//! **Who wins when both sides hold a value at the start**: the broker's. What else the router held
//! is told once the broker has retained nothing more for 0.3 s.
//! **Nothing is lost while one side is away**: of params the newest value waits, of events each, as
//! far as [`waiting`] has room; what had no room is counted as dropped. What the broker sent at QoS
//! 1 or 2 is acknowledged when the router has it. What was on its way when a connection broke is
//! sent again under its packet id if the broker kept the session, else said anew, and before what
//! came later.

pub mod broker;
mod client;
pub mod config;
mod drive;
mod flight;
mod memory;
pub mod payload;
mod ring;
pub mod rules;
pub mod topic;
pub mod waiting;
mod way;

use clasp_rt_bridges::ConfigError;

use crate::Service;

/// Opens a client of a broker.
pub fn open(config: config::Config) -> Result<Box<dyn Service>, ConfigError> {
    Ok(Box::new(client::Mqtt::new(config::Plan::new(config)?)))
}

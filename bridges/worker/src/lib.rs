//! Bridges that a good library drives: each is a service on a thread of its own.
//!
//! Where a library speaks a protocol well, the bridge is what lies between it and the router: a
//! [`Service`]. It is given a [`Router`], and each foreign client that it serves joins there as a
//! session of its own, so that scopes, rate limits, subscriptions and back-pressure are the
//! router's and exist once. A shard cannot tell such a session from a client over TCP.
//!
//! [`runtime::run`] is the only place that names the runtime.
//!
//! What is a machine in here (topics, payloads, the sessions of a listener) takes time as a
//! parameter, does no I/O, and is fuzzed as the bridges are.
#![forbid(unsafe_code)]

mod counters;
pub mod http;
mod line;
pub mod mqtt;
pub mod mqtt_listener;
pub mod router;
pub mod runtime;
mod session;
pub mod socketio;
pub mod tls;
pub mod web;
pub mod ws_json;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use clasp_rt_bridges::ConfigError;
use clasp_rt_bridges::read::read;

pub use counters::AtomicCounters;
pub use router::{Door, Gate, JoinError, Router, Who};
pub use runtime::Stop;
pub use session::{Heard, Hearer, Speaker};

/// A bridge that runs as a task.
pub trait Service: Send {
    /// What the router shows as its session name, and logs begin with.
    fn name(&self) -> &str;

    /// Sessions that it may have at the router at once, its own included. The router keeps places
    /// for so many.
    fn sessions_max(&self) -> u32 {
        1
    }

    /// Where it is going to listen; `None`: nowhere.
    fn listens(&self) -> Option<SocketAddr> {
        None
    }

    /// Opens what it listens on, inside the runtime, before anything else of the router's bridges
    /// starts. Gives the URL of each port, with the port that was chosen for 0.
    fn bind(&mut self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Serves until [`Context::stop`] resolves, says its last words, and ends. It is given up when
    /// that takes longer than [`runtime::STOP_PATIENCE`].
    ///
    /// An error ends the router, as the fault of a thread does: what can be tried again is tried
    /// again in here. Tasks may be spawned on the runtime and on its local set.
    fn run(self: Box<Self>, context: Context) -> Running;
}

/// A service at work.
pub type Running = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// What a service is given.
#[derive(Clone)]
pub struct Context {
    /// Where its clients join.
    pub router: Router,
    /// What it counts; told once a second.
    pub counters: Arc<AtomicCounters>,
    /// Resolves when the host stops.
    pub stop: Stop,
}

/// One kind of service, as a configuration names it.
pub struct Entry {
    pub name: &'static str,
    /// One line for people who choose.
    pub help: &'static str,
    /// Opens it from its table of the configuration file, without the key `type`.
    pub open: fn(serde_json::Value) -> Result<Box<dyn Service>, ConfigError>,
}

/// Every protocol that a library drives, in the order of the documentation.
pub const SERVICES: &[Entry] = &[
    Entry {
        name: "http",
        help: "HTTP: for web programs, with OpenAPI; and as a client, by polls and webhooks",
        open: |table| http::open(read(table)?),
    },
    Entry {
        name: "mqtt",
        help: "MQTT 3.1.1 and 5, as the client of a broker, both ways",
        open: |table| mqtt::open(read(table)?),
    },
    Entry {
        name: "websocket",
        help: "WebSocket with JSON, for programs that speak nothing else, as server or client",
        open: |table| ws_json::open(read(table)?),
    },
    Entry {
        name: "mqtt-listener",
        help: "MQTT 3.1.1 and 5, for clients that connect to the router itself",
        open: |table| mqtt_listener::open(read(table)?),
    },
    Entry {
        name: "socketio",
        help: "Socket.IO v4, as the server of browsers and programs, or as the client of a server",
        open: |table| socketio::open(read(table)?),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_opens_without_a_word_and_refuses_unknown_ones() {
        for entry in SERVICES {
            let opened = (entry.open)(serde_json::json!({}));
            let service = opened.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert_eq!(service.name(), entry.name);
            let error = (entry.open)(serde_json::json!({ "colour": "red" })).err();
            assert!(error.expect("an error").to_string().contains("colour"), "{}", entry.name);
        }
    }
}

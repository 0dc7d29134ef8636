//! The program as a whole, seen from outside: a router on free ports and small peers, in three
//! lines.
//!
//! ```no_run
//! use clasp_rt_tests::router::Router;
//! use serde_json::json;
//!
//! let router = Router::start(&["--shards", "2"]);
//! let mut desk = router.join("desk");
//! desk.send(json!({"type": "SET", "address": "/fader/1", "value": 0.5}));
//! ```
//!
//! Nothing here uses the router's own crates: [`frame`] reads and writes the protocol by itself,
//! and WebSocket is tungstenite's, so that the router is not its own judge.

pub mod cable;
pub mod certificates;
pub mod frame;
pub mod liblo;
pub mod library;
pub mod line;
pub mod metrics;
pub mod mosquitto;
pub mod net;
pub mod ola;
pub mod peer;
pub mod ports;
pub mod program;
pub mod raw;
pub mod router;
pub mod temporary;
pub mod why;

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen. Never how long it waits for nothing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Tries until it gives something; panics when it has given nothing for as long as [`PATIENCE`].
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

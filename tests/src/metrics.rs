//! What a router says that its threads counted: `GET /metrics.json`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value as Json;

use crate::PATIENCE;

/// What a router answers to `GET path`, which must be there.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the router answers");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").expect("the router listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The totals of every thread, about a second old at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(Json);

impl Counters {
    pub(crate) fn ask(address: SocketAddr) -> Self {
        Self(serde_json::from_str(&get(address, "/metrics.json")).expect("JSON"))
    }

    /// What shard `shard` has counted under `name`.
    pub fn of_shard(&self, shard: usize, name: &str) -> u64 {
        self.of_thread(&format!("shard {shard}"), name)
    }

    /// What the bridges of thread `thread` have counted under `name`.
    pub fn of_bridges(&self, thread: usize, name: &str) -> u64 {
        self.of_thread(&format!("bridges {thread}"), name)
    }

    fn of_thread(&self, thread: &str, name: &str) -> u64 {
        let count = self.0[thread][name].as_u64();
        count.unwrap_or_else(|| panic!("{thread} counts no {name}: {}", self.0))
    }

    /// The same of the first `shards` shards together.
    pub fn of_all(&self, shards: usize, name: &str) -> u64 {
        (0..shards).map(|shard| self.of_shard(shard, name)).sum()
    }
}

//! The published CLASP clients, each in a small program that obeys JSON lines.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | connect | url, name, token? | null |
//! | session, last_error | | what the client says |
//! | on, off | pattern, options? | null; then a line `heard` for each call of the callback |
//! | set, emit, stream | address, value | null |
//! | count | address, to | null, after setting 1, 2, .. to |
//! | gesture | address, id, phase, value | null |
//! | bundle | messages `[{"set": [address, value]}, {"emit": ..}]`, in_ms? | null |
//! | get, cached | address | the value |
//! | query | pattern | the signals; Python only |
//! | close | | null |
//!
//! Every command gives one line, `{"done", "answer"}` or `{"failed", "why"}`. In between come
//! `heard`, `connected` and `disconnected`. Bytes are `{"$bytes": "00ff"}`.

use std::collections::VecDeque;
use std::fmt;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::program::{Program, installed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    JavaScript,
    Python,
    Rust,
}

impl Client {
    pub const ALL: [Self; 3] = [Self::JavaScript, Self::Python, Self::Rust];
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::Rust => "rust",
        })
    }
}

pub struct Peer {
    program: Program,
    pub client: Client,
    heard: VecDeque<Json>,
}

/// One call of a subscription's callback.
#[derive(Clone, Debug)]
pub struct Heard {
    pub address: String,
    pub value: Json,
}

impl Peer {
    pub fn start(client: Client) -> Self {
        let mut command = match client {
            Client::JavaScript => {
                installed("peers/node_modules");
                let mut command = Command::new("node");
                command.arg(installed("peers/clasp_peer.mjs"));
                command
            }
            Client::Python => {
                let mut command = Command::new(installed("peers/venv/bin/python"));
                command.arg(installed("peers/clasp_peer.py"));
                command
            }
            Client::Rust => Command::new(installed("published/target/debug/published")),
        };
        Self { program: Program::start(&mut command), client, heard: VecDeque::new() }
    }

    /// Starts one and connects it.
    pub fn join(client: Client, url: &str) -> Self {
        let mut peer = Self::start(client);
        peer.ask(json!({"command": "connect", "url": url, "name": client.to_string()}));
        peer
    }

    /// Gives a command and waits for its answer, which must not be a failure.
    pub fn ask(&mut self, command: Json) -> Json {
        self.try_ask(&command)
            .unwrap_or_else(|why| panic!("{} cannot {command}: {why}", self.client))
    }

    /// Gives a command and waits for its answer, or for why it failed.
    pub fn try_ask(&mut self, command: &Json) -> Result<Json, String> {
        self.program.write_line(&command.to_string());
        loop {
            let line = self.read();
            if line.get("done").is_some() {
                return Ok(line["answer"].clone());
            }
            if line.get("failed").is_some() {
                return Err(line["why"].to_string());
            }
            self.heard.push_back(line);
        }
    }

    /// The next call of a callback.
    pub fn heard(&mut self) -> Heard {
        let line = self.event(|line| line.get("heard").is_some());
        Heard {
            address: line["address"].as_str().expect("an address").into(),
            value: line["heard"].clone(),
        }
    }

    /// The next call of a callback for this address; calls for others are gone.
    pub fn heard_at(&mut self, address: &str) -> Json {
        loop {
            let heard = self.heard();
            if heard.address == address {
                return heard.value;
            }
        }
    }

    /// The next line that is not an answer and that `wanted` accepts; those before it are gone.
    pub fn event(&mut self, wanted: impl Fn(&Json) -> bool) -> Json {
        loop {
            let line = match self.heard.pop_front() {
                Some(line) => line,
                None => self.read(),
            };
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Whether a call of a callback was read while waiting for answers.
    pub fn has_heard(&self) -> bool {
        self.heard.iter().any(|line| line.get("heard").is_some())
    }

    /// Forgets the calls that were read while waiting for answers.
    pub fn forget(&mut self) -> usize {
        self.heard.drain(..).count()
    }

    fn read(&mut self) -> Json {
        let line = self.program.line().unwrap_or_else(|| panic!("{} ended", self.client));
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line:?} is not JSON: {why}"))
    }
}

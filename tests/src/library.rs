//! A library of another language, in a small program of `peers/` that obeys JSON lines.

use std::process::Command;

use serde_json::Value as Json;

use crate::net::Desks;
use crate::program::{Program, installed};

/// Ended when dropped.
pub struct Library(pub Program);

impl Library {
    /// One of Python, on this host.
    pub fn python_here(program: &str) -> Self {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        Self(Program::start(command.arg(installed(&format!("peers/{program}")))))
    }

    /// One of Python, on the desks' host.
    pub fn python(desks: &Desks, program: &str) -> Self {
        let mut command = desks.command(installed("peers/venv/bin/python"));
        Self(Program::start(command.arg(installed(&format!("peers/{program}")))))
    }

    /// One of Node, on the desks' host.
    pub fn node(desks: &Desks, program: &str) -> Self {
        installed("peers/node_modules");
        let program = installed(&format!("peers/{program}"));
        Self(Program::start(desks.command("node").arg(program)))
    }

    /// Gives a command and waits until it is done.
    pub fn ask(&mut self, command: Json) {
        self.0.write_line(&command.to_string());
        self.0.line_where(|line| line.contains("\"done\""));
    }

    /// Waits for a packet whose levels are as wanted, slot 1 first; none before it may be faulty.
    pub fn packet_where(&self, wanted: impl Fn(&[Json]) -> bool) -> Json {
        let line = self.0.line_where(|line| {
            let line: Json = serde_json::from_str(line).expect("a line of JSON");
            assert!(line.get("fault").is_none(), "{line}");
            line["levels"].as_array().is_some_and(|levels| wanted(levels))
        });
        serde_json::from_str(&line).expect("a line of JSON")
    }
}

//! The programs of liblo, which speak OSC: `oscsend` and `oscdump`.

use std::process::Command;

use crate::program::{Program, run};

/// Sends one message `to` a host and a port, or a URL.
pub fn oscsend(to: &[&str], message: &[&str]) {
    let output = run(Command::new("oscsend").args(to).args(message));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Prints what arrives at a port or URL; line by line, because a pipe would make it wait for a full
/// page.
pub fn oscdump(at: &str) -> Program {
    Program::start(Command::new("stdbuf").args(["-oL", "oscdump", at]))
}

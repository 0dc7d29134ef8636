//! What `clasp-rt why` answers, for tests that compare it as it is.

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::program::{clasp_rt, run};
use crate::router::Router;

/// What the command prints; empty where it fails.
pub fn why(router: &Router, address: &str, more: &[&str]) -> String {
    let mut command = Command::new(clasp_rt());
    command.args(["why", address, "--router", &router.url()]).args(more);
    String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
}

/// Who wants an address: name, protocol, host, priority and value of each. The winner is first, the
/// losers follow in the order of their texts.
pub fn contenders(router: &Router, address: &str) -> Vec<Json> {
    let answer: Json = serde_json::from_str(&why(router, address, &["--json"])).unwrap_or_default();
    let told = |claim: &Json| {
        let source = &answer["sources"][claim["source"].as_str().unwrap_or_default()];
        let value = &claim["value"];
        json!([source["name"], source["protocol"], source["host"], claim["priority"], value])
    };
    let losers = answer["why"]["losers"].as_array().cloned().unwrap_or_default();
    let mut losers: Vec<_> = losers.iter().map(told).collect();
    losers.sort_by_key(ToString::to_string);
    let winner = answer["why"]["winner"].as_object().map(|_| told(&answer["why"]["winner"]));
    winner.into_iter().chain(losers).collect()
}

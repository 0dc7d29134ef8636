//! What `plan` says of memory, against what the router has when it is as full as its limits allow.

use std::process::Command;

use clasp_rt_tests::program::{Program, clasp_bench, clasp_rt, run};
use clasp_rt_tests::router::{OWN_BRIDGES, Router};
use clasp_rt_tests::temporary::TempFile;
use serde_json::Value as Json;

const CONNECTIONS: u64 = 1_000;
const PARAMS: u64 = 1_000_000;

/// One shard, so that every param has its place there.
const CONFIG: &str = r#"
[server]
shards = 1
rate_limit = 0
max_sessions = 1000

[limits]
params_max = 1_000_000
param_bytes_max = "80 MiB"
"#;

#[test]
fn a_full_router_has_the_memory_that_its_plan_says() {
    let planned = planned_bytes();
    let router = Router::with_config(CONFIG, &["--metrics", "127.0.0.1:0"]);
    let idle = router.resident_bytes();
    let load = Program::start(Command::new(clasp_bench()).args([
        "load",
        "--connections",
        &CONNECTIONS.to_string(),
        "--params",
        &PARAMS.to_string(),
        "--router",
        &router.url(),
    ]));
    let loaded = loop {
        let line = load.line().unwrap_or_else(|| panic!("it ended: {}", load.errors()));
        if line.starts_with("loaded") {
            break line;
        }
    };
    assert!(loaded.ends_with(" 0 bundles refused"), "{loaded}");
    let counters = router.counters_where(|counters| counters.of_shard(0, "params_now") == PARAMS);
    assert_eq!(counters.of_shard(0, "links_now"), CONNECTIONS + OWN_BRIDGES);
    let full = router.resident_bytes();

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (plan, idle, full) = (mib(planned), mib(idle), mib(full));
    println!("planned {plan:.1} MiB, idle {idle:.1} MiB, full {full:.1} MiB; {loaded}");
    for (when, resident) in [("idle", idle), ("full", full)] {
        let ratio = resident / plan;
        assert!((0.9..1.1).contains(&ratio), "{when}: {resident:.1} MiB of {plan:.1} planned");
    }
}

fn planned_bytes() -> u64 {
    let config = TempFile::new("toml", CONFIG);
    let output =
        run(Command::new(clasp_rt()).args(["plan", "--json", "--config"]).arg(&config.path));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    plan["memory_bytes"].as_u64().expect("a number of bytes")
}

//! A configuration that changes while the show runs: what takes over, and that nothing is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use clasp_rt_tests::eventually;
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::router::Router;
use serde_json::json;

const KEPT: &str = r#"
    [[route]]
    from = "/desk/go"
    to = "/stage/go"
    write = "same"
"#;

fn route(from: &str, to: &str) -> String {
    format!("[[route]]\nfrom = \"{from}\"\nto = \"{to}\"\n")
}

#[test]
fn no_cue_is_lost_or_doubled_while_routes_change() {
    let router = Router::with_config(KEPT, &["--shards", "2"]);
    let mut stage = Peer::join(Client::Python, &router.url());
    stage.ask(json!({"command": "on", "pattern": "/stage/**"}));
    let mut desk = Peer::join(Client::JavaScript, &router.url());
    let mut cues = 0_u32;
    for round in 0..5 {
        for _ in 0..40 {
            cues += 1;
            desk.ask(json!({"command": "emit", "address": "/desk/go", "value": cues}));
        }
        // The next cues go out while the file is read.
        let changed = format!("{KEPT}{}", route("/desk/fader", &format!("/stage/{round}")));
        let words = ["reloaded", "stays", "restart"];
        let is_done = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    cues += 1;
                    desk.ask(json!({"command": "emit", "address": "/desk/go", "value": cues}));
                }
            });
            let said = router.reload(&changed, &words);
            is_done.store(true, Ordering::Relaxed);
            said
        });
        assert!(said.contains("reloaded: routes"), "{said}");
    }
    desk.ask(json!({"command": "emit", "address": "/desk/go", "value": "end"}));
    let mut heard = Vec::new();
    loop {
        let next = stage.heard();
        match next.value.as_f64() {
            _ if next.address != "/stage/go" => {}
            Some(cue) => heard.push(cue),
            None => break,
        }
    }
    let sent: Vec<_> = (1..=cues).map(f64::from).collect();
    assert_eq!(heard, sent);
}

#[test]
fn a_new_route_tells_what_is_held_and_an_old_one_ends() {
    let router = Router::with_config(&route("/in/a", "/out/old"), &[]);
    let mut page = Peer::join(Client::JavaScript, &router.url());
    page.ask(json!({"command": "on", "pattern": "/out/**"}));
    page.ask(json!({"command": "set", "address": "/in/a", "value": 7}));
    assert_eq!(page.heard_at("/out/old"), json!(7));
    router.reload(&route("/in/a", "/out/new"), &["reloaded: routes"]);
    assert_eq!(page.heard_at("/out/new"), json!(7));
    page.ask(json!({"command": "set", "address": "/in/a", "value": 8}));
    let heard = page.heard();
    assert_eq!((heard.address.as_str(), heard.value), ("/out/new", json!(8)));
}

#[test]
fn the_first_route_and_the_first_fixture_come_while_the_router_runs() {
    let patch = "[[patch]]\nfixture = \"/rig/par\"\nuniverse = \"/dmx/0\"\nat = 7\n\
                 slots = [\"dimmer\"]\n";
    for before in ["[server]\nname = \"show\"\n", "[[bridge]]\ntype = \"midi\"\n"] {
        let router = Router::with_config(before, &[]);
        let mut page = Peer::join(Client::JavaScript, &router.url());
        page.ask(json!({"command": "on", "pattern": "/out/**"}));
        page.ask(json!({"command": "on", "pattern": "/dmx/**"}));
        page.ask(json!({"command": "set", "address": "/in/a", "value": 7}));
        router.reload(&format!("{before}{}", route("/in/a", "/out/a")), &["reloaded: routes"]);
        assert_eq!(page.heard_at("/out/a"), json!(7), "what is held");
        let both = format!("{before}{}{patch}", route("/in/a", "/out/a"));
        router.reload(&both, &["reloaded: patch"]);
        page.ask(json!({"command": "set", "address": "/rig/par/dimmer", "value": 1.0}));
        assert_eq!(page.heard_at("/dmx/0/7"), json!(255));
        // And the last ones go.
        router.reload(before, &["reloaded: patch"]);
        eventually("nothing is routed", || {
            page.ask(json!({"command": "set", "address": "/in/a", "value": 8}));
            page.ask(json!({"command": "set", "address": "/out/end", "value": 1}));
            let first = page.heard().address;
            (first == "/out/end" || page.heard_at("/out/end").is_null()).then_some(())
        });
    }
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_what_cannot_change_is_named() {
    let router = Router::with_config(KEPT, &[]);
    let mut page = Peer::join(Client::JavaScript, &router.url());
    page.ask(json!({"command": "on", "pattern": "/stage/**"}));
    let wrong = KEPT.replace("write = ", "wirte = ");
    let said = router.reload(&wrong, &["stays as it was"]);
    assert!(said.contains("wirte"), "{said}");
    page.ask(json!({"command": "emit", "address": "/desk/go", "value": 1}));
    assert_eq!(page.heard_at("/stage/go"), json!(1));
    let said = router.reload(&format!("[limits]\nparams_max = 9\n{KEPT}"), &["restart"]);
    assert!(said.contains("wait for a restart: limits"), "{said}");
}

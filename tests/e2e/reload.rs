//! A configuration that changes while the show runs: what takes over, and that nothing is lost.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use clasp_rt_tests::eventually;
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::program::{clasp_rt, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::why::{contenders, why};
use serde_json::{Value as Json, json};

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

/// A file in which `rule` decides about `/rig/**`, and these sessions have these priorities.
fn contest(rule: &str, sources: &[(&str, u8)]) -> String {
    let sources = sources
        .iter()
        .map(|(name, priority)| format!("[[source]]\nname = \"{name}\"\npriority = {priority}\n"));
    let rule = format!("[[arbitration]]\npattern = \"/rig/**\"\nrule = \"{rule}\"\n");
    rule + &sources.collect::<String>()
}

/// Sets and waits until the router has taken it.
fn set(peer: &mut Peer, address: &str, value: f64) {
    peer.ask(json!({"command": "set", "address": address, "value": value}));
    // The answer comes after all that this session wrote before.
    peer.ask(json!({"command": "get", "address": address}));
}

fn who_wants(router: &Router, address: &str) -> Vec<Json> {
    let told = contenders(router, address);
    told.iter().map(|claim| json!([claim[0], claim[3], claim[4]])).collect()
}

fn declared(router: &Router) -> String {
    let mut get = Command::new(clasp_rt());
    get.args(["get", "/clasp/arbitration", "--router", &router.url()]);
    String::from_utf8_lossy(&run(&mut get).stdout).into_owned()
}

#[test]
fn arbitrations_and_sources_change_at_once_and_winners_are_judged_anew() {
    for shards in ["1", "3"] {
        let router = Router::with_config(&contest("htp", &[]), &["--shards", shards]);
        let mut stage = router.join("stage");
        stage.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/rig/**"}));
        let mut page = Peer::join(Client::JavaScript, &router.url());
        let mut script = Peer::join(Client::Python, &router.url());
        set(&mut page, "/rig/1", 200.5);
        set(&mut script, "/rig/1", 30.5);
        stage.receive_values(&[("/rig/1", json!(200.5))]);

        router.reload(&contest("lowest", &[]), &["reloaded: arbitration"]);
        stage.receive_values(&[("/rig/1", json!(30.5))]);
        let told = why(&router, "/rig/1", &[]);
        assert!(told.contains("lowest"), "{told}");
        assert!(declared(&router).contains("lowest"), "{}", declared(&router));
        set(&mut page, "/rig/1", 29.5);
        stage.receive_values(&[("/rig/1", json!(29.5))]);

        router.reload(&contest("lowest", &[("pyth*", 150)]), &["reloaded: source"]);
        stage.receive_values(&[("/rig/1", json!(30.5))]);
        let all = [json!(["python", 150, 30.5]), json!(["js", 100, 29.5])];
        assert_eq!(who_wants(&router, "/rig/1"), all, "{shards} shards");

        // A file with a mistake changes nothing, and the line is named.
        let wrong = contest("lowest", &[("js", 180)]).replace("180", "201");
        let said = router.reload(&wrong, &["stays as it was"]);
        assert!(said.contains("line 6") && said.contains("source[0].priority"), "{said}");
        let wrong = contest("middle", &[]);
        let said = router.reload(&wrong, &["stays as it was"]);
        assert!(said.contains("line 3") && said.contains("middle"), "{said}");
        assert_eq!(who_wants(&router, "/rig/1"), all, "{shards} shards");

        // Without any rule the next write counts.
        router.reload("[server]\n", &["reloaded: arbitration, source"]);
        set(&mut page, "/rig/1", 1.5);
        stage.receive_values(&[("/rig/1", json!(1.5))]);
        let told = why(&router, "/rig/1", &[]);
        assert!(told.contains("last"), "{told}");
    }
}

#[test]
fn the_first_arbitration_comes_while_the_router_runs_and_routes_say_whose_their_values_are() {
    let routes = format!("{}{}", route("/in/a", "/rig/1"), route("/in/b", "/rig/1"));
    let bridge = "[[bridge]]\ntype = \"osc\"\nbind = \"127.0.0.1:0\"\n";
    let before = format!("{routes}{bridge}");
    let router = Router::with_config(&before, &["--shards", "2"]);
    let mut page = Peer::join(Client::JavaScript, &router.url());
    let mut script = Peer::join(Client::Python, &router.url());
    set(&mut page, "/in/a", 9.5);
    let after = format!("{before}{}", contest("htp", &[("js", 60)]));
    let said = router.reload(&after, &["reloaded: arbitration"]);
    assert!(said.contains("arbitration, source"), "{said}");
    router.logged("wait for a restart: the sources of bridge[0] (osc)");
    router.logged("reloaded: routes");
    set(&mut page, "/in/a", 200.5);
    set(&mut script, "/in/b", 30.5);
    let all = [json!(["python", 100, 30.5]), json!(["js", 60, 200.5])];
    eventually("both have their claims", || (who_wants(&router, "/rig/1") == all).then_some(()));
    // What is passed on has the priority that its session has now.
    let after = format!("{before}{}", contest("htp", &[("js", 160)]));
    router.reload(&after, &["reloaded: source"]);
    let all = [json!(["js", 160, 200.5]), json!(["python", 100, 30.5])];
    eventually("it is judged anew", || (who_wants(&router, "/rig/1") == all).then_some(()));
}

#[test]
fn no_value_is_lost_or_doubled_while_arbitrations_change() {
    let router = Router::with_config(&contest("htp", &[]), &["--shards", "2"]);
    let mut stage = Peer::join(Client::Python, &router.url());
    stage.ask(json!({"command": "on", "pattern": "/rig/**"}));
    let mut desk = Peer::join(Client::JavaScript, &router.url());
    // Its subscription is in place, and what was told of it lies behind.
    for address in ["/rig/begin", "/rig/behind"] {
        desk.ask(json!({"command": "set", "address": address, "value": 0}));
        stage.heard_at(address);
    }
    let mut level = 0;
    for rule in ["ltp", "lowest", "htp", "ltp"] {
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    level += 1;
                    desk.ask(json!({"command": "set", "address": "/rig/1", "value": level}));
                    let heard = stage.heard();
                    let heard = (heard.address.as_str(), heard.value.as_f64());
                    assert_eq!(heard, ("/rig/1", Some(f64::from(level))));
                }
            });
            router.reload(&contest(rule, &[]), &["reloaded: arbitration"]);
            is_done.store(true, Ordering::Relaxed);
        });
    }
    assert!(why(&router, "/rig/1", &[]).contains("ltp"));
}

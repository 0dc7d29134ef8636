//! Who wins a rig: three published clients and a tablet drive one param, and `why` names them.
//!
//! liblo (`oscsend`) is the tablet; a route takes its fader to the rig. All of it is on loopback,
//! on ports that the kernel chose, across two shards; two tablets and a console, which are told
//! apart by their hosts, are in a network of their own.

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use clasp_rt_tests::cable::Cable;
use clasp_rt_tests::net::{self, DESKS, Desks, STAGE};
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::ports::free_udp_ports;
use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::why::{contenders, why};
use clasp_rt_tests::{PATIENCE, eventually};
use serde_json::{Value as Json, json};

const DIMMER: &str = "/rig/1/dimmer";

#[test]
fn the_right_one_of_four_wins_at_each_step_and_why_names_it() {
    let stage = Stage::new();
    let [mut js, mut python, mut rust] = Client::ALL.map(|client| {
        let mut page = Peer::join(client, &stage.router.url());
        page.ask(json!({"command": "on", "pattern": "/rig/**"}));
        page
    });
    // Equal priority: the highest level, whoever says it.
    stage.fader("0.4");
    stage.is(102.0, "routes pass the tablet on");
    js.ask(json!({"command": "set", "address": DIMMER, "value": 50}));
    rust.ask(json!({"command": "set", "address": DIMMER, "value": 150}));
    stage.is(150.0, "the highest wins");
    assert_eq!(stage.winner(), ("rust".to_owned(), 100));
    let table = stage.why(&[]);
    let wins = table.lines().nth(1).expect("a line for the winner");
    assert!(wins.contains("127.0.0.1") && wins.contains("CLASP"), "{table}");
    // A name that the configuration gives more priority to wins with less.
    python.ask(json!({"command": "set", "address": DIMMER, "value": 20}));
    stage.is(20.0, "priority comes first");
    assert_eq!(stage.winner(), ("python".to_owned(), 120));
    assert_eq!(stage.losers(), ["js", "osc", "rust"]);
    // A source named in a bundle has the priority that it declares.
    js.ask(json!({"command": "bundle", "messages": [
        {"emit": ["/clasp/source", {"id": "desk-b", "priority": 150}]},
        {"set": [DIMMER, 200]},
    ]}));
    js.ask(json!({"command": "set", "address": "/clasp/source/desk-b", "value":
        {"protocol": "sacn", "name": "Desk B", "host": "10.0.0.3"}}));
    stage.is(200.0, "the desk has the highest priority");
    stage.fader("1.0");
    let table = eventually("the fader's new level is among the losers", || {
        Some(stage.why(&[])).filter(|table| table.contains("255"))
    });
    assert!(table.starts_with("/rig/1/dimmer = 200   htp, timeout 60 s\n"), "{table}");
    let wins = table.lines().nth(1).expect("a line for the winner");
    for fact in ["wins", "sACN", "\"Desk B\"", "10.0.0.3", "priority 150", "200", "for "] {
        assert!(wins.contains(fact), "{fact} is not in {wins:?}");
    }
    // Everyone sees what is on stage, the losers too.
    for page in [&mut js, &mut python, &mut rust] {
        while page.heard_at(DIMMER).as_f64() != Some(200.0) {}
    }
    // Who gives up, and who leaves: the next one has it, and in the end it fades.
    js.ask(json!({"command": "emit", "address": "/clasp/source",
        "value": {"id": "desk-b", "release": true}}));
    stage.is(20.0, "the desk gave up");
    drop(python);
    stage.is(255.0, "who was killed claims nothing any more");
    assert_eq!(stage.winner(), ("osc".to_owned(), 100));
    stage.fader("0.0");
    stage.is(150.0, "the fader is down");
    drop(rust);
    stage.is(50.0, "one page is left");
    drop(js);
    stage.is(0.0, "the tablet is down");
}

#[test]
fn a_fixture_names_the_hosts_of_two_tablets_and_a_console() {
    net::of_its_own("a_fixture_names_the_hosts_of_two_tablets_and_a_console", |desks| {
        let config = format!(
            r#"
            [[bridge]]
            type = "osc"
            bind = "{STAGE}:9000"
            [[bridge]]
            type = "artnet"
            bind = "{STAGE}:6454"
            inputs = "1"
            [[route]]
            from = "/osc/dimmer"
            to = "/rig/spot/dimmer"
            priority = 110
            [[patch]]
            fixture = "/rig/spot"
            universe = "/artnet/1"
            at = 21
            slots = ["-", "dimmer"]
            direction = "in"
            [[arbitration]]
            pattern = "/rig/**"
            "#
        );
        let router = Router::with_config(&config, &["--shards", "2"]);
        const CONSOLE: &str = "10.99.0.3";
        let alias = ["addr", "add", "10.99.0.3/24", "dev", "desks"];
        assert!(run(desks.command("ip").args(alias)).status.success());
        let mut console = Program::start(
            desks
                .command(installed("peers/venv/bin/python"))
                .arg(installed("peers/artnet_peer.py")),
        );
        let mut levels = [0; 22];
        levels[21] = 255;
        let send = json!({
            "command": "send", "host": STAGE, "source": CONSOLE, "port": 6454, "universe": 1,
            "levels": levels, "sync": false
        });
        let fader = |mut oscsend: Command, position: &str| {
            let output = run(oscsend.args([STAGE, "9000", "/dimmer", "f", position]));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let is = |expected: &[Json], what: &str| {
            eventually(what, || {
                (contenders(&router, "/rig/spot/dimmer") == expected).then_some(())
            });
        };
        console.write_line(&send.to_string());
        console.line_where(|line| line.contains("done"));
        let console = json!(["artnet", "artnet", CONSOLE, 100, 1.0]);
        is(std::slice::from_ref(&console), "the console is a source through the patch");
        let tablet = |host, level| json!(["osc", "osc", host, 110, level]);
        fader(desks.command("oscsend"), "0.25");
        let first = tablet(DESKS, 0.25);
        is(&[first.clone(), console.clone()], "a tablet has more priority");
        fader(Command::new("oscsend"), "0.75");
        let second = tablet(STAGE, 0.75);
        is(&[second, console.clone(), first.clone()], "the higher tablet wins");
        fader(Command::new("oscsend"), "0.125");
        let second = tablet(STAGE, 0.125);
        is(&[first, console, second], "it is the same one, whatever port it sends from");
    });
}

#[test]
fn those_who_lose_behind_one_bridge_have_the_priority_of_its_session() {
    let name = "those_who_lose_behind_one_bridge_have_the_priority_of_its_session";
    net::of_its_own(name, |desks| {
        hosts_contend(desks, Hosted::Here);
        hosts_contend(desks, Hosted::ByItself);
    });
}

/// Where a bridge runs that merges two consoles by itself.
#[derive(Clone, Copy, PartialEq)]
enum Hosted {
    Here,
    ByItself,
}

/// Two consoles, two tablets and two fader boxes want what one route writes and what a patch tells.
fn hosts_contend(desks: &Desks, hosted: Hosted) {
    let cables = [Cable::new(), Cable::new()];
    let artnet = match hosted {
        Hosted::Here => "[[bridge]]\ntype = \"artnet\"\nbind = \"10.99.0.1:6454\"\ninputs = \"1\"",
        Hosted::ByItself => "",
    };
    let config = format!(
        r#"
        {artnet}
        [[bridge]]
        type = "osc"
        bind = "{STAGE}:9000"
        [[bridge]]
        type = "midi"
        [[bridge.device]]
        name = "left"
        serial = "{}"
        [[bridge.device]]
        name = "right"
        serial = "{}"
        [[route]]
        from = ["/artnet/1/22", "/osc/dimmer", "/midi/*/ch/1/cc/7"]
        to = "/rig/dimmer"
        [[patch]]
        fixture = "/rig/spot"
        universe = "/artnet/1"
        at = 21
        slots = ["pan:16"]
        direction = "in"
        [[arbitration]]
        pattern = "/rig/**"
        [[source]]
        name = "artnet"
        priority = 120
        [[source]]
        name = "osc"
        priority = 110
        [[source]]
        name = "midi"
        priority = 130
        {}
        "#,
        cables[0].host(),
        cables[1].host(),
        watched_config(),
    );
    let router = Router::with_config(&config, &["--shards", "2"]);
    all_homes_know(&router);
    let mut artnet = Command::new(clasp_rt());
    artnet.args(["artnet", "--bind", STAGE, "--universes", "1", "--router", &router.url()]);
    let artnet = (hosted == Hosted::ByItself).then(|| Program::start(&mut artnet));
    if let Some(artnet) = &artnet {
        eventually("it joins", || artnet.errors().contains("joined the router").then_some(()));
    }
    let alias = ["addr", "replace", "10.99.0.3/24", "dev", "desks"];
    assert!(run(desks.command("ip").args(alias)).status.success());
    let mut consoles = Program::start(
        desks.command(installed("peers/venv/bin/python")).arg(installed("peers/artnet_peer.py")),
    );
    for (mut tablet, position) in [(desks.command("oscsend"), "7"), (Command::new("oscsend"), "8")]
    {
        let output = run(tablet.args([STAGE, "9000", "/dimmer", "f", position]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for (cable, level) in cables.iter().zip([127, 0]) {
        let mut box_ = std::fs::File::options().write(true).open(cable.device()).expect("a tty");
        box_.write_all(&[0xB0, 7, level]).expect("the cable is plugged in");
    }
    let wanted = [
        json!(["left", "midi", cables[0].host(), 130, 1.0]),
        json!(["artnet", "artnet", "10.99.0.2", 120, 128]),
        json!(["artnet", "artnet", "10.99.0.3", 120, 0]),
        json!(["osc", "osc", STAGE, 110, 8.0]),
        json!(["osc", "osc", DESKS, 110, 7.0]),
        json!(["right", "midi", cables[1].host(), 130, 0.0]),
    ];
    // Of two slots that are one function each console says its own: coarse and fine together.
    let pan = [
        json!(["artnet", "artnet", "10.99.0.2", 120, f64::from(0x4080) / 65_535.0]),
        json!(["artnet", "artnet", "10.99.0.3", 120, f64::from(0x2000) / 65_535.0]),
    ];
    let wanted = [wanted.to_vec(), pan.to_vec()];
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A console that says nothing for ten seconds is gone.
        for (host, coarse, fine) in [("10.99.0.2", 0x40, 0x80), ("10.99.0.3", 0x20, 0)] {
            let mut levels = vec![0; 22];
            (levels[20], levels[21]) = (coarse, fine);
            let send = json!({
                "command": "send", "host": STAGE, "source": host, "port": 6454, "universe": 1,
                "levels": levels, "sync": false
            });
            consoles.write_line(&send.to_string());
            consoles.line_where(|line| line.contains("done"));
        }
        let told = [contenders(&router, "/rig/dimmer"), contenders(&router, "/rig/spot/pan")];
        if told == wanted {
            break;
        }
        assert!(Instant::now() < deadline, "{told:#?}\nis not\n{wanted:#?}");
    }
}

/// Addresses below `/ready`, enough of them that each of two shards is the home of some.
const WATCHED: u32 = 8;

/// A route and fixtures after all others, whose work [`all_homes_know`] sees.
fn watched_config() -> String {
    let route = "[[route]]\nfrom = \"/ready/{n}/in\"\nto = \"/ready/{n}/out\"\n";
    let fixture = |number: u32| {
        format!(
            "[[patch]]\nfixture = \"/ready/lamp{number}\"\nuniverse = \"/ready/{number}\"\n\
             at = 1\nslots = [\"dimmer\"]\ndirection = \"in\"\n"
        )
    };
    route.to_owned() + &(0..WATCHED).map(fixture).collect::<String>()
}

/// Waits until every shard has heard what routes and the patch subscribe to. What a device says
/// before is found in a snapshot, which does not tell whose it is.
fn all_homes_know(router: &Router) {
    let mut page = router.join("page");
    page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/ready/**"}));
    let mut wanted = Vec::new();
    for number in 0..WATCHED {
        let [from, slot] = ["in", "1"].map(|name| format!("/ready/{number}/{name}"));
        page.send(json!({"type": "SET", "address": from, "value": 7}));
        page.send(json!({"type": "SET", "address": slot, "value": 255}));
        wanted.push((format!("/ready/{number}/out"), json!(7)));
        wanted.push((format!("/ready/lamp{number}/dimmer"), json!(1.0)));
    }
    let wanted: Vec<_> = wanted.iter().map(|(to, value)| (to.as_str(), value.clone())).collect();
    page.receive_values(&wanted);
}

#[test]
fn the_last_one_that_is_killed_leaves_what_is_declared() {
    let config = r#"
        [[arbitration]]
        pattern = "/fades/**"
        on_loss = "fade"
        value = 0
        fade = "0.3s"
        [[arbitration]]
        pattern = "/falls/**"
        rule = "ltp"
        on_loss = "set"
        value = "safe"
        [[arbitration]]
        pattern = "/holds/**"
        rule = "lowest"
        "#;
    let router = Router::with_config(config, &["--shards", "2"]);
    let mut watcher = Peer::join(Client::JavaScript, &router.url());
    watcher.ask(json!({"command": "on", "pattern": "/fades/**"}));
    let mut page = Peer::join(Client::Rust, &router.url());
    for address in ["/fades/1", "/falls/1", "/holds/1"] {
        page.ask(json!({"command": "set", "address": address, "value": 100}));
    }
    let held = |watcher: &mut Peer, address: &str| {
        watcher.try_ask(&json!({"command": "get", "address": address})).ok()
    };
    eventually("all is set", || {
        held(&mut watcher, "/holds/1").filter(|value| value.as_f64() == Some(100.0))
    });
    drop(page);
    let mut steps = vec![watcher.heard_at("/fades/1")];
    while steps.last().and_then(Json::as_f64) != Some(0.0) {
        steps.push(watcher.heard_at("/fades/1"));
    }
    assert!(steps.len() > 3, "it fades in steps: {steps:?}");
    let falling = steps.windows(2).all(|pair| pair[0].as_f64() >= pair[1].as_f64());
    assert!(falling, "{steps:?}");
    eventually("it falls at once", || {
        held(&mut watcher, "/falls/1").filter(|value| *value == json!("safe"))
    });
    let holds = held(&mut watcher, "/holds/1").and_then(|value| value.as_f64());
    assert_eq!(holds, Some(100.0));
    let table = why(&router, "/holds/1", &[]);
    assert!(table.contains("held: no source claims it") && table.contains("rust"), "{table}");
}

#[test]
fn pages_that_fight_are_told_and_so_is_who_watches() {
    let config = "[[arbitration]]\npattern = \"/fought/**\"\nrule = \"ltp\"";
    let router = Router::with_config(config, &["--shards", "2"]);
    let mut watcher = Peer::join(Client::Python, &router.url());
    watcher.ask(json!({"command": "on", "pattern": "/clasp/duel"}));
    let mut pages = [Client::JavaScript, Client::Rust].map(|it| Peer::join(it, &router.url()));
    let mut turn = 0;
    // Two people at one fader.
    let duel = eventually("the duel is told", || {
        for page in &mut pages {
            turn += 1;
            page.ask(json!({"command": "set", "address": "/fought/1", "value": turn}));
            page.ask(json!({"command": "get", "address": "/fought/1"}));
        }
        watcher.ask(json!({"command": "session"}));
        watcher.has_heard().then(|| watcher.heard_at("/clasp/duel"))
    });
    assert_eq!((&duel["address"], &duel["rule"]), (&json!("/fought/1"), &json!("ltp")));
    let mut sources = duel["sources"].as_array().expect("two ids").clone();
    let mut sessions = pages.map(|mut page| page.ask(json!({"command": "session"}))).to_vec();
    for list in [&mut sources, &mut sessions] {
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(sources, sessions);
}

#[test]
fn plan_prints_the_declaration_and_check_names_a_wrong_key() {
    let config = clasp_rt_tests::temporary::TempFile::new("toml", CONFIG);
    let plan = run(Command::new(clasp_rt()).args(["plan", "--config"]).arg(&config.path));
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    let declared = "sources of /rig/**: highest priority wins (0-200, 100 where none is declared); \
                    equal priority: highest level; a source is lost after 60 s or when it leaves; \
                    without a source the last level is held";
    assert!(said.contains(declared), "{said}");
    let wrong = CONFIG.replace("timeout", "timeuot");
    let wrong = clasp_rt_tests::temporary::TempFile::new("toml", &wrong);
    let check = run(Command::new(clasp_rt()).arg("check").arg(&wrong.path));
    let said = String::from_utf8_lossy(&check.stderr).into_owned()
        + &String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(2), "{said}");
    assert!(said.contains("timeuot") && said.contains("timeout"), "{said}");
}

const CONFIG: &str = r#"
    [[arbitration]]
    pattern = "/rig/**"
    timeout = "60s"

    [[source]]
    name = "python"
    priority = 120
    "#;

struct Stage {
    router: Router,
    osc: u16,
}

impl Stage {
    fn new() -> Self {
        let [osc] = free_udp_ports();
        let config = format!(
            r#"{CONFIG}
            [[bridge]]
            type = "osc"
            bind = "127.0.0.1:{osc}"

            [[route]]
            from = "/osc/1/fader{{n}}"
            to = "/rig/{{n}}/dimmer"
            transform = [
                {{ type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 255 }},
                {{ type = "round", decimals = 0 }},
                {{ type = "to_int" }},
            ]
            "#
        );
        Self { router: Router::with_config(&config, &["--shards", "2"]), osc }
    }

    fn fader(&self, position: &str) {
        let mut command = Command::new("oscsend");
        let port = self.osc.to_string();
        let output = run(command.args(["127.0.0.1", &port, "/1/fader1", "f", position]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until the rig has this level.
    fn is(&self, level: f64, what: &str) {
        eventually(what, || {
            let why = self.answer()?;
            (why["why"]["value"].as_f64() == Some(level)).then_some(())
        });
    }

    fn answer(&self) -> Option<Json> {
        serde_json::from_str(&why(&self.router, DIMMER, &["--json"])).ok()
    }

    /// Name and priority of who wins.
    fn winner(&self) -> (String, i64) {
        let answer = self.answer().expect("an answer");
        let winner = &answer["why"]["winner"];
        let name = name_of(&answer, winner);
        (name, winner["priority"].as_i64().expect("a priority"))
    }

    fn losers(&self) -> Vec<String> {
        let answer = self.answer().expect("an answer");
        let losers = answer["why"]["losers"].as_array().expect("a list");
        let mut names: Vec<_> = losers.iter().map(|claim| name_of(&answer, claim)).collect();
        names.sort();
        names
    }

    fn why(&self, more: &[&str]) -> String {
        why(&self.router, DIMMER, more)
    }
}

fn name_of(answer: &Json, claim: &Json) -> String {
    let id = claim["source"].as_str().expect("an id");
    answer["sources"][id]["name"].as_str().unwrap_or(id).to_owned()
}

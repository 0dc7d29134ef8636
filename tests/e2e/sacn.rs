//! sACN with real peers, on a network of their own: OLA, Python's sacn and Node's, both ways.
//!
//! tshark reads what we send, so that neither our decoder nor a peer's good nature is the judge.

use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::library::Library;
use clasp_rt_tests::net::{self, DESKS, Desks, STAGE};
use clasp_rt_tests::ola::Ola;
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::program::{Program, clasp_rt, run};
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

#[test]
fn desks_of_every_make_arrive_as_params() {
    net::of_its_own("desks_of_every_make_arrive_as_params", |desks| {
        let (_router, mut page) = stage("");
        page.ask(json!({"command": "on", "pattern": "/sacn/**"}));

        let mut python = Library::python(desks, "sacn_peer.py");
        let universes = json!({"1": [10, 20, 0, 255], "16": [7]});
        python.ask(json!({"command": "source", "as": "P", "host": DESKS, "universes": universes}));
        for (address, level) in [("/sacn/1/2", 20), ("/sacn/1/4", 255), ("/sacn/16/1", 7)] {
            level_at(&mut page, address, level);
        }
        let sources = page.ask(json!({"command": "get", "address": "/sacn/1/sources"}));
        let cid = "50505050-5050-5050-5050-505050505050";
        let source = json!([{"cid": cid, "name": "P", "host": DESKS, "priority": 100}]);
        assert_eq!(sources, source);
        let address = format!("/sacn/discovery/{cid}");
        let found = value_at(&mut page, &address, |value| !value.is_null());
        assert_eq!(found["universes"], json!([1, 16]), "{found}");

        let mut node = Library::node(desks, "sacn_peer.mjs");
        let levels = json!([77, 88, 0, 99]);
        eventually("Node is heard", || {
            node.ask(json!({
                "command": "send", "host": DESKS, "universe": 2, "priority": 100, "levels": levels
            }));
            let level = page.ask(json!({"command": "cached", "address": "/sacn/2/2"}));
            (level == json!(88)).then_some(())
        });

        let ola = ola(desks, "");
        ola.command("ola_patch", &["-d", &ola.device, "-p", "0", "-u", "3"]);
        eventually("OLA is heard", || {
            ola.command("ola_set_dmx", &["-u", "3", "-d", "11,22,33"]);
            let level = page.ask(json!({"command": "cached", "address": "/sacn/3/3"}));
            (level == json!(33)).then_some(())
        });
    });
}

#[test]
fn priority_150_beats_100_until_it_says_good_bye_or_is_lost() {
    net::of_its_own("priority_150_beats_100_until_it_says_good_bye_or_is_lost", |desks| {
        let (_router, mut page) = stage("");
        page.ask(json!({"command": "on", "pattern": "/sacn/1/1"}));
        let mut low = Library::python(desks, "sacn_peer.py");
        low.ask(json!({
            "command": "source", "as": "L", "host": DESKS, "priority": 100, "universes": {"1": [9]}
        }));
        level_at(&mut page, "/sacn/1/1", 9);
        let high = json!({
            "command": "source", "as": "H", "host": DESKS, "priority": 150, "universes": {"1": [5]}
        });
        low.ask(high.clone());
        level_at(&mut page, "/sacn/1/1", 5);
        low.ask(json!({"command": "stop", "as": "H"}));
        let nothing_but = |page: &mut Peer, before: u8, after: u8| {
            value_at(page, "/sacn/1/1", |level| {
                assert!([before, after].map(Json::from).contains(level), "{level}");
                *level == json!(after)
            });
        };
        nothing_but(&mut page, 5, 9);

        let mut mortal = Library::python(desks, "sacn_peer.py");
        mortal.ask(high);
        level_at(&mut page, "/sacn/1/1", 5);
        mortal.0.kill();
        nothing_but(&mut page, 5, 9);
    });
}

#[test]
fn why_shows_every_source_of_a_slot_with_its_own_priority_and_level() {
    net::of_its_own("why_shows_every_source_of_a_slot_with_its_own_priority_and_level", |desks| {
        let arbitration = "[[arbitration]]\npattern = \"/sacn/**\"";
        let (router, mut page) = stage(arbitration);
        page.ask(json!({"command": "on", "pattern": "/sacn/1/*"}));
        let mut desk = Library::python(desks, "sacn_peer.py");
        let mut source = |name: &str, priority: u8, level: u8| {
            desk.ask(json!({
                "command": "source", "as": name, "host": DESKS, "priority": priority,
                "universes": {"1": [level, level]}
            }));
        };
        source("A", 100, 9);
        source("B", 100, 70);
        source("H", 150, 5);
        let expected = [
            json!(["H", "sacn", DESKS, 150, 5]),
            json!(["A", "sacn", DESKS, 100, 9]),
            json!(["B", "sacn", DESKS, 100, 70]),
        ];
        eventually("each is told", || (told(&router, 1) == expected).then_some(()));
        // A loser moves: it is told, and nothing else is.
        desk.ask(json!({"command": "levels", "as": "A", "universes": {"1": [10, 9]}}));
        let mut moved = expected.clone();
        moved[1] = json!(["A", "sacn", DESKS, 100, 10]);
        eventually("it moves", || (told(&router, 1) == moved).then_some(()));
        assert_eq!(told(&router, 2), expected);
        let level = page.ask(json!({"command": "cached", "address": "/sacn/1/1"}));
        assert_eq!(level, json!(5));
        desk.ask(json!({"command": "stop", "as": "H"}));
        moved.rotate_left(1);
        moved[0] = json!(["B", "sacn", DESKS, 100, 70]);
        moved[1] = json!(["A", "sacn", DESKS, 100, 10]);
        eventually("of equal ones the highest", || (told(&router, 1) == moved[..2]).then_some(()));
        level_at(&mut page, "/sacn/1/1", 70);
    });
}

/// Name, protocol, host, priority and level of each source of a slot: the winner, then the others
/// by their names.
fn told(router: &Router, slot: u8) -> Vec<Json> {
    let mut why = Command::new(clasp_rt());
    why.args(["why", &format!("/sacn/1/{slot}"), "--json", "--router", &router.url()]);
    let answer: Json = serde_json::from_slice(&run(&mut why).stdout).unwrap_or_default();
    let told = |claim: &Json| {
        let source = &answer["sources"][claim["source"].as_str().unwrap_or_default()];
        let value = &claim["value"];
        json!([source["name"], source["protocol"], source["host"], claim["priority"], value])
    };
    let losers = answer["why"]["losers"].as_array().cloned().unwrap_or_default();
    let mut losers: Vec<_> = losers.iter().map(told).collect();
    losers.sort_by_key(ToString::to_string);
    [vec![told(&answer["why"]["winner"])], losers].concat()
}

#[test]
fn levels_reach_receivers_of_every_make() {
    net::of_its_own("levels_reach_receivers_of_every_make", |desks| {
        let (router, mut page) = stage("priority = 120\nsource_name = \"stage\"");
        let mut python = Library::python(desks, "sacn_peer.py");
        python.ask(json!({"command": "listen", "host": DESKS, "universes": [5]}));
        let mut node = Library::node(desks, "sacn_peer.mjs");
        node.ask(json!({"command": "listen", "host": DESKS, "universes": [5]}));
        let ola = ola(desks, "");
        ola.command("ola_patch", &["-i", "-d", &ola.device, "-p", "0", "-u", "5"]);
        let mut shark = Shark::start(desks);

        page.ask(json!({"command": "set", "address": "/sacn/5/8", "value": 64}));
        page.ask(json!({"command": "set", "address": "/sacn/5/1", "value": 200}));
        let wanted = [200, 0, 0, 0, 0, 0, 0, 64];
        for library in [&python, &node] {
            let packet = library.packet_where(|levels| levels.starts_with(&wanted.map(Json::from)));
            assert_eq!((&packet["priority"], &packet["source"]), (&json!(120), &json!("stage")));
        }
        eventually("OLA has the levels", || {
            let levels = ola.levels(5);
            levels.starts_with(&wanted.map(Json::from)).then_some(())
        });

        let sent = shark.packet_where(|packet| packet.levels.contains(": C8 .. .. .. .. .. .. 40"));
        assert_eq!((sent.to.as_str(), sent.universe.as_str()), ("239.255.0.5", "5"));
        assert_eq!((sent.priority.as_str(), sent.name.as_str()), ("120", "stage"));
        assert_eq!((sent.from.as_str(), sent.malformed.as_str()), (STAGE, ""));

        assert!(router.terminate().success());
        python.0.line_where(|line| line.contains(r#"{"gone": 5}"#));
        for _ in 0..3 {
            shark.packet_where(|packet| packet.terminated == "1" && packet.universe == "5");
        }
    });
}

#[test]
fn a_synchronised_look_of_four_universes_arrives_and_goes_out() {
    net::of_its_own("a_synchronised_look_of_four_universes_arrives_and_goes_out", |desks| {
        let (_router, mut page) = stage("sync_universe = 900");
        page.ask(json!({"command": "on", "pattern": "/sacn/*/1"}));
        let look = |level: u8| json!({"1": [level], "2": [level], "3": [level], "4": [level]});
        let mut python = Library::python(desks, "sacn_peer.py");
        python.ask(json!({
            "command": "source", "as": "S", "host": DESKS, "sync": 7000, "universes": look(1)
        }));
        for level in 1..=20 {
            python.ask(json!({"command": "levels", "as": "S", "universes": look(level)}));
        }
        for universe in 1..=4 {
            let address = format!("/sacn/{universe}/1");
            value_at(&mut page, &address, |level| *level == json!(20));
        }

        let mut shark = Shark::start(desks);
        page.ask(json!({"command": "set", "address": "/sacn/9/1", "value": 3}));
        shark.packet_where(|packet| packet.universe == "9" && packet.sync == "900");
        // tshark 4.0 does not know what these 49 octets are, but where they go.
        shark.packet_where(|packet| packet.to == "239.255.3.132" && packet.universe.is_empty());
    });
}

#[test]
fn sixty_four_universes_arrive_without_loss() {
    const UNIVERSES: u64 = 64;
    const ROUNDS: u64 = 40;
    net::of_its_own("sixty_four_universes_arrive_without_loss", |desks| {
        let arguments = ["--shards", "1", "--metrics", "127.0.0.1:0"];
        let router = Router::with_config(&config("inputs = \"1-64\""), &arguments);
        let mut page = Peer::join(Client::JavaScript, &router.url());
        let mut python = Library::python(desks, "sacn_peer.py");
        let look = |round: u64| {
            let universe = |number: u64| {
                let levels: Vec<u64> = (0..512).map(|slot| (slot + number + round) % 256).collect();
                (number.to_string(), json!(levels))
            };
            Json::Object((1..=UNIVERSES).map(universe).collect())
        };
        python.ask(json!({
            "command": "source", "as": "S", "host": DESKS, "sync": 64, "universes": look(0)
        }));
        for round in 1..=ROUNDS {
            python.ask(json!({"command": "levels", "as": "S", "universes": look(round)}));
        }
        for universe in [1, 17, 64] {
            for slot in [1, 256, 512] {
                let address = format!("/sacn/{universe}/{slot}");
                let level = json!((slot - 1 + universe + ROUNDS) % 256);
                page.ask(json!({"command": "on", "pattern": address}));
                value_at(&mut page, &address, |held| *held == level);
            }
        }
        // Each round is a packet of each universe, and one of synchronisation.
        let packets = (UNIVERSES + 1) * (ROUNDS + 1);
        let counted = router.counters_where(|all| all.of_bridges(0, "packets_in") >= packets);
        for name in ["dropped", "malformed", "overflowed", "datagrams_lost", "datagrams_starved"] {
            assert_eq!(counted.of_bridges(0, name), 0, "{name}");
        }
    });
}

#[test]
fn a_bridge_of_its_own_joins_a_router() {
    net::of_its_own("a_bridge_of_its_own_joins_a_router", |desks| {
        let router = Router::start(&["--shards", "1"]);
        let mut bridge = Command::new(clasp_rt());
        bridge.args(["sacn", "--bind", STAGE, "--universes", "1-4", "--router", &router.url()]);
        let _bridge = Program::start(&mut bridge);
        let mut page = Peer::join(Client::JavaScript, &router.url());
        page.ask(json!({"command": "on", "pattern": "/sacn/*/*"}));
        let mut python = Library::python(desks, "sacn_peer.py");
        python.ask(json!({"command": "listen", "host": DESKS, "universes": [4]}));
        let universes = json!({"3": [10, 20]});
        python.ask(json!({"command": "source", "as": "P", "host": DESKS, "universes": universes}));
        level_at(&mut page, "/sacn/3/2", 20);
        page.ask(json!({"command": "set", "address": "/sacn/4/2", "value": 0.5}));
        python.packet_where(|levels| levels.starts_with(&[0, 128].map(Json::from)));
    });
}

#[test]
fn old_gear_that_speaks_draft_0_2_is_heard() {
    net::of_its_own("old_gear_that_speaks_draft_0_2_is_heard", |desks| {
        let (_router, mut page) = stage("");
        page.ask(json!({"command": "on", "pattern": "/sacn/**"}));
        let ola = ola(desks, "revision = 0.2\n");
        ola.command("ola_patch", &["-d", &ola.device, "-p", "0", "-u", "4"]);
        eventually("OLA is heard", || {
            ola.command("ola_set_dmx", &["-u", "4", "-d", "11,22,33"]);
            let level = page.ask(json!({"command": "cached", "address": "/sacn/4/3"}));
            (level == json!(33)).then_some(())
        });
    });
}

/// A router with an sACN bridge at the lighting interface, and a page.
fn stage(options: &str) -> (Router, Peer) {
    let router = Router::with_config(&config(options), &["--shards", "1"]);
    let page = Peer::join(Client::JavaScript, &router.url());
    (router, page)
}

fn config(options: &str) -> String {
    format!("[[bridge]]\ntype = \"sacn\"\nbind = \"{STAGE}:5568\"\nsettle_ms = 0\n{options}\n")
}

/// Waits until a param has this level.
fn level_at(page: &mut Peer, address: &str, level: u8) {
    value_at(page, address, |value| *value == json!(level));
}

fn value_at(page: &mut Peer, address: &str, wanted: impl Fn(&Json) -> bool) -> Json {
    loop {
        let value = page.heard_at(address);
        if wanted(&value) {
            return value;
        }
    }
}

/// OLA with its E1.31 plugin.
fn ola<'d>(desks: &'d Desks, options: &str) -> Ola<'d> {
    let options = format!("ip = {DESKS}\ninput_ports = 4\noutput_ports = 4\n{options}");
    Ola::start(desks, "e131", &options, "E1.31")
}

/// tshark, which listens on the desks' end of the cable.
struct Shark(Program);

/// What it says of a packet: empty where the packet has no such field.
struct Dissected {
    from: String,
    to: String,
    universe: String,
    priority: String,
    name: String,
    sync: String,
    terminated: String,
    malformed: String,
    levels: String,
}

impl Shark {
    fn start(desks: &Desks) -> Self {
        const FIELDS: [&str; 9] = [
            "ip.src",
            "ip.dst",
            "acn.dmx.universe",
            "acn.dmx.priority",
            "acn.dmx.source_name",
            "acn.dmx.reserved",
            "acn.dmx.option_s",
            "_ws.malformed",
            "acn.dmx.data",
        ];
        let mut command = desks.command("tshark");
        command.args(["-l", "-n", "-i", "desks", "-f", "udp port 5568 and src host 10.99.0.1"]);
        command.args(["--enable-heuristic", "acn", "-o", "acn.dmx_enable:TRUE", "-T", "fields"]);
        command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let shark = Self(Program::start(&mut command));
        eventually("tshark listens", || shark.0.errors().contains("Capturing on").then_some(()));
        shark
    }

    fn packet_where(&mut self, wanted: impl Fn(&Dissected) -> bool) -> Dissected {
        let line = self.0.line_where(|line| wanted(&Dissected::read(line)));
        Dissected::read(&line)
    }
}

impl Drop for Shark {
    fn drop(&mut self) {
        // It has a program of its own that captures, and must be the one to end it.
        self.0.terminate();
    }
}

impl Dissected {
    fn read(line: &str) -> Self {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            from: next(),
            to: next(),
            universe: next(),
            priority: next(),
            name: next(),
            sync: next(),
            terminated: next(),
            malformed: next(),
            levels: next(),
        }
    }
}

//! MQTT without a broker: the clients of mosquitto, MQTT.js and paho connect to the router itself.

use std::process::Command;

use clasp_rt_tests::certificates::certificates;
use clasp_rt_tests::eventually;
use clasp_rt_tests::mosquitto::{in_path, next_message, subscribe};
use clasp_rt_tests::program::{Program, installed, run};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// As `mosquitto_pub` and `mosquitto_sub` name them.
const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// A router with a port for MQTT, and these keys and tables beside.
fn router(more: &str, arguments: &[&str]) -> (Router, u16) {
    let config = format!("[[bridge]]\ntype = \"mqtt-listener\"\nbind = \"127.0.0.1:0\"\n{more}\n");
    let router = Router::with_config(&config, arguments);
    let port = router.served("mqtt://").port();
    (router, port)
}

fn publish(port: u16, arguments: &[&str]) -> (bool, String) {
    let port = port.to_string();
    let mut command = Command::new(in_path("mosquitto_pub"));
    let output = run(command.args(["-h", "127.0.0.1", "-p", &port]).args(arguments));
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn published(port: u16, arguments: &[&str]) {
    let (well, errors) = publish(port, arguments);
    assert!(well, "mosquitto_pub {arguments:?}: {errors}");
}

/// A client that has subscribed to all of MQTT.
fn listen(router: &Router) -> Raw {
    let mut client = router.join("watcher");
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/mqtt/**"}));
    client.ask(json!({"type": "PING"}));
    client
}

fn set(client: &mut Raw, address: &str, value: Json) {
    client.send(json!({"type": "SET", "address": address, "value": value}));
}

fn heard(client: &mut Raw, kind: &str, address: &str) -> Json {
    client.receive_where(|message| message["type"] == kind && message["address"] == address)
}

fn next(peer: &Program) -> Json {
    let line = peer.line().expect("the peer says more");
    serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line}: {why}"))
}

fn next_with(peer: &Program, key: &str) -> Json {
    let line = peer.line_where(|line| line.contains(&format!("\"{key}\"")));
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn mosquittos_clients_publish_and_subscribe_at_every_quality_in_both_versions() {
    let (router, port) = router("", &["--rate-limit", "0", "--shards", "2"]);
    for version in VERSIONS {
        let mut watcher = listen(&router);
        for qos in ["0", "1", "2"] {
            let topic = format!("stage/{version}/{qos}");
            let address = format!("/mqtt/{topic}");
            published(port, &["-V", version, "-t", &topic, "-m", "0.75", "-q", qos, "-r"]);
            assert_eq!(heard(&mut watcher, "SET", &address)["value"], 0.75);
            published(port, &["-V", version, "-t", &topic, "-m", "{\"go\":1}", "-q", qos]);
            let event = heard(&mut watcher, "PUBLISH", &address);
            assert_eq!((&event["signal"], &event["value"]), (&json!("event"), &json!({"go": 1})));
            let late = subscribe("127.0.0.1", port, &["-V", version, "-t", &topic, "-q", qos]);
            assert_eq!(next_message(&late), format!("{topic} retained=1 qos={qos} 0.75"));
            set(&mut watcher, &address, json!(0.5));
            assert_eq!(next_message(&late), format!("{topic} retained=0 qos={qos} 0.5"));
        }
    }
}

#[test]
fn a_will_is_said_when_a_client_is_killed_and_not_when_it_leaves() {
    let (router, port) = router("", &["--rate-limit", "0"]);
    let mut watcher = listen(&router);
    let with_will = ["--will-topic", "lamp", "--will-payload", "gone", "--will-retain", "-t", "x"];
    for version in VERSIONS {
        let mut client = subscribe("127.0.0.1", port, &[&["-V", version], &with_will[..]].concat());
        client.kill();
        assert_eq!(heard(&mut watcher, "SET", "/mqtt/lamp")["value"], "gone");
        let polite = ["-V", version, "-t", "bye", "-m", "1", "-r"];
        let will = ["--will-topic", "never", "--will-payload", "gone"];
        published(port, &[&polite[..], &will].concat());
        let next = watcher.receive_where(|message| message["address"] != Json::Null);
        assert_eq!(next["address"], "/mqtt/bye", "and no will behind it");
    }
}

#[test]
fn a_newer_client_of_the_same_name_takes_its_place() {
    let (_router, port) = router("", &[]);
    let name = ["-i", "lamp", "-t", "x"];
    let mut first = subscribe("127.0.0.1", port, &[&["-V", "mqttv5"], &name[..]].concat());
    // The loser of 5 is told and goes; one that came again would throw the other out in turn.
    let second = subscribe("127.0.0.1", port, &[&["-V", "mqttv5"], &name[..]].concat());
    eventually("the first to be told", || {
        first.try_line().filter(|line| line.contains("DISCONNECT"))
    });
    published(port, &["-t", "x", "-m", "1"]);
    assert_eq!(next_message(&second), "x retained=0 qos=0 1");
    first.kill();
}

#[test]
fn members_of_a_group_share_what_is_said() {
    let (router, port) = router("", &["--rate-limit", "0"]);
    for version in VERSIONS {
        let shared = format!("$share/crew/{version}/#");
        let arguments = ["-V", version, "-t", &shared, "-q", "1"];
        let members = [(); 3].map(|()| subscribe("127.0.0.1", port, &arguments));
        let mut desk = router.join("desk");
        for number in 0..60 {
            set(&mut desk, &format!("/mqtt/{version}/{number}"), json!(number));
        }
        let mut all = Vec::new();
        eventually("all of them", || {
            for member in &members {
                all.extend(std::iter::from_fn(|| member.try_line()));
            }
            let told = all.iter().filter(|line: &&String| line.contains(" retained="));
            (told.count() >= 60).then_some(())
        });
        all.retain(|line| line.contains(" retained="));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 60, "each once");
    }
}

#[test]
fn tokens_decide_who_comes_in_and_what_they_may_do() {
    let tokens = "[auth]\ntokens = [\"boss\", \"sensor write:/mqtt/sensors/**\"]";
    let (router, port) = router(tokens, &["--rate-limit", "0"]);
    for version in VERSIONS {
        let login = |password: &'static str| ["-V", version, "-u", "me", "-P", password];
        let message = ["-t", "sensors/1", "-m", "21.5", "-r", "-q", "1"];
        let (well, errors) = publish(port, &[&login("guess")[..], &message].concat());
        assert!(!well && errors.to_lowercase().contains("not authori"), "{errors}");
        published(port, &[&login("sensor")[..], &message].concat());
        published(port, &[&login("sensor")[..], &["-t", "lamp", "-m", "1", "-r"]].concat());
        let boss = subscribe("127.0.0.1", port, &[&login("boss")[..], &["-t", "#"]].concat());
        assert_eq!(next_message(&boss), "sensors/1 retained=1 qos=0 21.5", "and no lamp");
        let mut refused = Command::new(in_path("mosquitto_sub"));
        refused.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "lamp", "-W", "20"]);
        let output = run(refused.args(login("sensor")));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("denied"), "{said}");
    }
    drop(router);
}

#[test]
fn clients_come_over_tls_and_with_certificates() {
    let folder = certificates();
    let file = |name: &str| folder.file(name);
    let [ca, server, key] = ["ca.pem", "server.pem", "server.key"].map(file);
    let tls = format!("cert = \"{server}\"\nkey = \"{key}\"\nclient_ca = \"{ca}\"");
    let config = format!("[[bridge]]\ntype = \"mqtt-listener\"\nbind = \"127.0.0.1:0\"\n{tls}\n");
    let router = Router::with_config(&config, &[]);
    let address = router.served("mqtts://");
    let mut watcher = listen(&router);
    let message = ["--cafile", &ca, "-t", "secret", "-m", "1", "-r", "-q", "1"];
    let identity = ["--cert", &file("client.pem"), "--key", &file("client.key")];
    published(address.port(), &[&message[..], &identity].concat());
    assert_eq!(heard(&mut watcher, "SET", "/mqtt/secret")["value"], 1);
    let (well, _) = publish(address.port(), &message);
    assert!(!well, "without a certificate nobody comes in");
}

#[test]
fn mqtt_js_speaks_both_versions_and_hears_itself() {
    let (router, port) = router("", &["--rate-limit", "0"]);
    for version in ["4", "5"] {
        let mut watcher = listen(&router);
        let mut command = Command::new("node");
        installed("peers/node_modules");
        command.arg(installed("peers/mqtt_peer.mjs")).args([&port.to_string(), version]);
        let mut peer = Program::start(&mut command);
        let subscribed = next_with(&peer, "subscribed");
        assert_eq!(subscribed["subscribed"], json!([["js/#", 2]]));
        let mut said: Vec<Json> = Vec::new();
        let mut done = false;
        while !done || said.len() < 3 {
            let line = next(&peer);
            assert!(line["error"].is_null(), "{line}");
            done |= line["published"] == true;
            said.extend(Some(line).filter(|line| line["topic"].is_string()));
        }
        let mut own: Vec<_> = said.iter().map(|line| line["payload"].as_str()).collect();
        own.sort_unstable();
        let expected = [0, 1, 2].map(|qos| format!("{{\"qos\":{qos}}}"));
        assert!(own.iter().flatten().eq(expected.iter()), "{own:?}");
        for qos in [0, 1, 2] {
            let address = format!("/mqtt/js/qos/{qos}");
            assert_eq!(heard(&mut watcher, "SET", &address)["value"], json!({"qos": qos}));
        }
        peer.kill();
        assert_eq!(heard(&mut watcher, "SET", "/mqtt/js/status")["value"], "offline");
        for address in ["qos/0", "qos/1", "qos/2", "status"] {
            set(&mut watcher, &format!("/mqtt/js/{address}"), Json::Null);
        }
        watcher.ask(json!({"type": "PING"}));
    }
}

#[test]
fn paho_speaks_both_versions_and_is_told_what_it_may_not_subscribe_to() {
    let tokens = "[auth]\ntokens = [\"boss\", \"paho read:/mqtt/paho/** write:/mqtt/paho/**\"]";
    let (_router, port) = router(tokens, &["--rate-limit", "0"]);
    for version in ["4", "5"] {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        command.arg(installed("peers/mqtt_peer.py"));
        let mut peer = Program::start(command.args([&port.to_string(), version, "paho"]));
        assert_eq!(next_with(&peer, "connected")["connected"], true);
        let mut tell = |command: Json| peer.write_line(&command.to_string());
        tell(json!({"subscribe": "paho/#", "qos": 1}));
        assert_eq!(next_with(&peer, "granted")["granted"], json!([1]));
        peer.write_line(&json!({"subscribe": "lamp/#", "qos": 1}).to_string());
        let failed = if version == "4" { 0x80 } else { 0x87 };
        assert_eq!(next_with(&peer, "granted")["granted"], json!([failed]));
        for qos in [0, 1, 2] {
            let publish = json!({"publish": format!("paho/{version}/{qos}"), "payload": "1.5",
                                 "qos": qos, "retain": true});
            peer.write_line(&publish.to_string());
            let heard = next_with(&peer, "topic");
            assert_eq!(heard["topic"], format!("paho/{version}/{qos}"));
            assert_eq!((&heard["payload"], &heard["qos"]), (&json!("1.5"), &json!(qos.min(1))));
        }
        peer.write_line(&json!({"die": true}).to_string());
        peer.wait();
        let arguments = ["-V", "mqttv5", "-u", "x", "-P", "boss", "-t", "paho/status"];
        let boss = subscribe("127.0.0.1", port, &arguments);
        assert_eq!(next_message(&boss), "paho/status retained=1 qos=0 offline");
    }
}

#[test]
fn a_client_of_5_is_told_why_the_router_refuses_and_one_of_3_1_1_is_acknowledged() {
    let tokens = "[auth]\ntokens = [\"boss\", \"paho write:/mqtt/paho/**\"]";
    let (router, port) = router(tokens, &["--rate-limit", "0", "--shards", "2"]);
    let mut desk = router.connect();
    desk.hello(json!({"type": "HELLO", "version": 1, "name": "desk", "token": "boss"}));
    desk.send(json!({"type": "SET", "address": "/mqtt/paho/held", "value": 1, "lock": true}));
    desk.ask(json!({"type": "PING"}));
    for version in ["4", "5"] {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        command.arg(installed("peers/mqtt_peer.py"));
        let mut peer = Program::start(command.args([&port.to_string(), version, "paho"]));
        assert_eq!(next_with(&peer, "connected")["connected"], true);
        let cases = [
            ("lamp", true, 1, 0x87, "scope"),
            ("lamp", false, 1, 0x87, "scope"),
            ("lamp", false, 2, 0x87, "scope"),
            ("paho/held", true, 1, 0x83, "lock held"),
            ("paho/held", true, 2, 0x83, "lock held"),
            ("$SYS/x", true, 1, 0x90, "topic"),
            ("paho/free", true, 1, 0, ""),
            ("paho/free", false, 1, 0, ""),
            ("paho/free", false, 2, 0, ""),
        ];
        for (topic, retain, qos, code, why) in cases {
            let publish = json!({"publish": topic, "payload": "2", "qos": qos, "retain": retain});
            peer.write_line(&publish.to_string());
            let told = next_with(&peer, "published");
            if version == "5" && qos == 1 {
                assert_eq!(told["code"], code, "{topic} {retain} {qos}: {told}");
                let words = told["why"].as_str().unwrap_or_default();
                assert!(words.contains(why), "{told}");
            }
        }
    }
    desk.send(json!({"type": "GET", "address": "/mqtt/paho/held"}));
    let held = desk.receive_where(|answer| answer["params"][0]["address"] == "/mqtt/paho/held");
    assert_eq!(held["params"][0]["value"], 1);
    let refused = ["-V", "mqttv5", "-P", "paho", "-u", "x", "-t", "lamp", "-m", "1", "-q", "1"];
    let (_, errors) = publish(port, &refused);
    assert!(errors.contains("Not authorized"), "{errors}");
}

#[test]
fn what_exceeds_a_rate_is_answered_too() {
    let (_router, port) = router("", &["--rate-limit", "20"]);
    let mut command = Command::new(installed("peers/venv/bin/python"));
    command.arg(installed("peers/mqtt_peer.py"));
    let mut peer = Program::start(command.args([&port.to_string(), "5"]));
    assert_eq!(next_with(&peer, "connected")["connected"], true);
    for number in 0..60 {
        let publish = json!({"publish": format!("fast/{number}"), "payload": "1", "qos": 1,
                             "retain": number % 2 == 0});
        peer.write_line(&publish.to_string());
    }
    let codes: Vec<_> =
        (0..60).map(|_| next_with(&peer, "published")["code"].as_u64().expect("a code")).collect();
    let dropped = codes.iter().filter(|code| **code == 0x97).count();
    let taken = codes.iter().filter(|code| **code == 0).count();
    assert!(dropped > 0 && taken >= 15 && dropped + taken == 60, "{codes:x?}");
}

#[test]
fn a_session_outlives_its_connection_in_both_versions() {
    let (router, port) = router("", &["--rate-limit", "0", "--shards", "2"]);
    for version in VERSIONS {
        let mut desk = router.join("desk");
        let topic = format!("kept/{version}/#");
        let lasting = ["-V", version, "-i", "lamp", "-c", "-q", "1", "-t", &topic];
        let expiry: &[&str] = if version == "mqttv5" { &["-x", "300"] } else { &[] };
        let lasting = [&lasting[..], expiry].concat();
        let mut first = subscribe("127.0.0.1", port, &lasting);
        let event = |desk: &mut Raw, value: u32| {
            desk.send(json!({"type": "PUBLISH", "signal": "event", "value": value,
                             "address": format!("/mqtt/kept/{version}/go")}));
        };
        event(&mut desk, 0);
        assert_eq!(next_message(&first), format!("kept/{version}/go retained=0 qos=1 0"));
        first.kill();
        for value in 1..=5 {
            event(&mut desk, value);
            set(&mut desk, &format!("/mqtt/kept/{version}/level"), json!(value * 10));
        }
        desk.ask(json!({"type": "PING"}));
        let second = subscribe_at_once(port, &lasting);
        let told: Vec<_> = (0..6).map(|_| next_message(&second)).collect();
        let of = |name: &str| {
            let begin = format!("kept/{version}/{name} retained=0 qos=1 ");
            told.iter().filter_map(|line| line.strip_prefix(&begin)).collect::<Vec<_>>()
        };
        assert_eq!(of("go"), ["1", "2", "3", "4", "5"], "each, in order: {told:?}");
        assert_eq!(of("level"), ["50"], "the newest: {told:?}");
        drop(second);
        let forgetful = ["-V", version, "-i", "lamp", "-q", "1", "-t", "other"];
        drop(subscribe("127.0.0.1", port, &forgetful));
        event(&mut desk, 6);
        let third = subscribe("127.0.0.1", port, &lasting);
        event(&mut desk, 7);
        let next = third.line_where(|line| line.contains("/go retained="));
        assert!(next.ends_with(" 7"), "a clean start has forgotten the session: {next}");
    }
}

/// `mosquitto_sub`, whose messages may come before its subscription is answered.
fn subscribe_at_once(port: u16, arguments: &[&str]) -> Program {
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(in_path("mosquitto_sub"));
    command.args(["-F", "%t retained=%r qos=%q %p", "-h", "127.0.0.1", "-p", &port.to_string()]);
    Program::start(command.args(arguments))
}

#[test]
fn a_session_is_present_for_its_own_password_alone() {
    let tokens = "[auth]\ntokens = [\"boss\", \"other\"]";
    let (_router, port) = router(tokens, &["--rate-limit", "0"]);
    for version in ["4", "5"] {
        let connect = |password: &str| {
            let mut command = Command::new(installed("peers/venv/bin/python"));
            command.arg(installed("peers/mqtt_peer.py"));
            let peer = Program::start(command.args([&port.to_string(), version, password, "60"]));
            let connected = next_with(&peer, "connected");
            assert_eq!(connected["connected"], true, "{connected}");
            (connected["present"].clone(), peer)
        };
        let (present, mut first) = connect("boss");
        assert_eq!(present, false);
        // It is taken over while its connection stands.
        let (present, second) = connect("boss");
        assert_eq!(present, true);
        let lost = next_with(&first, "lost");
        assert!(version == "4" || lost["lost"] == "Session taken over", "{lost}");
        first.kill();
        drop(second);
        let (present, _third) = connect("other");
        assert_eq!(present, false, "another token, another session");
    }
}

#[test]
fn mqtt_js_comes_over_websocket_with_tls_and_without_and_shortens_topics() {
    let folder = certificates();
    let file = |name: &str| folder.file(name);
    let [ca, server, key] = ["ca.pem", "server.pem", "server.key"].map(file);
    let listener = "[[bridge]]\ntype = \"mqtt-listener\"\nbind = \"127.0.0.1:0\"\n";
    let tls = format!("{listener}cert = \"{server}\"\nkey = \"{key}\"\n");
    let config = format!("{listener}\n{tls}");
    let router = Router::with_config(&config, &["--rate-limit", "0"]);
    installed("peers/node_modules");
    for (scheme, url) in [("ws+mqtt://", "ws"), ("wss+mqtt://", "wss")] {
        let port = router.served(scheme).port();
        for version in ["4", "5"] {
            let mut watcher = listen(&router);
            let properties = match version {
                "5" => json!({"topicAliasMaximum": 8}),
                _ => json!({}),
            };
            let options = json!({
                "url": format!("{url}://127.0.0.1:{port}/mqtt"), "ca": ca, "times": 5,
                "properties": properties,
                "options": {"autoAssignTopicAlias": version == "5"},
            });
            let mut command = Command::new("node");
            command.arg(installed("peers/mqtt_peer.mjs")).args([&port.to_string(), version]);
            let mut peer = Program::start(command.arg(options.to_string()));
            let mut again = Vec::new();
            while again.len() < 5 {
                let line = next(&peer);
                assert!(line["error"].is_null(), "{line}");
                let is_again = line["topic"] == "js/again/and/again";
                again.extend(line["payload"].as_str().filter(|_| is_again).map(str::to_owned));
            }
            assert_eq!(again, ["0", "1", "2", "3", "4"]);
            heard(&mut watcher, "PUBLISH", "/mqtt/js/again/and/again");
            peer.kill();
            assert_eq!(heard(&mut watcher, "SET", "/mqtt/js/status")["value"], "offline");
            set(&mut watcher, "/mqtt/js/status", Json::Null);
            watcher.ask(json!({"type": "PING"}));
        }
    }
}

#[test]
fn clients_beyond_the_limit_are_turned_away_and_places_come_back() {
    let (router, port) = router("clients_max = 2", &["--metrics", "127.0.0.1:0"]);
    let mut held = vec![];
    for _ in 0..2 {
        held.push(subscribe("127.0.0.1", port, &["-t", "x"]));
    }
    assert!(!publish(port, &["-t", "x", "-m", "1", "-q", "1"]).0, "there is no place");
    held.pop();
    eventually("a place", || publish(port, &["-t", "x", "-m", "1", "-q", "1"]).0.then_some(()));
    assert_eq!(next_message(&held[0]), "x retained=0 qos=0 1");
    drop(router);
}

#[test]
fn a_listener_elsewhere_brings_its_clients_to_the_router() {
    let router = Router::start(&["--rate-limit", "0"]);
    let mut watcher = listen(&router);
    let mut command = Command::new(clasp_rt_tests::program::clasp_rt());
    command.args(["mqtt-listener", "--bind", "127.0.0.1", "--port", "0"]);
    let listener = Program::start(command.args(["--router", &router.url()]));
    let line = listener.line_where(|line| line.starts_with("listening mqtt://"));
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    published(port, &["-t", "far/away", "-m", "3", "-r", "-q", "2"]);
    assert_eq!(heard(&mut watcher, "SET", "/mqtt/far/away")["value"], 3);
    let late = subscribe("127.0.0.1", port, &["-t", "far/#"]);
    assert_eq!(next_message(&late), "far/away retained=1 qos=0 3");
}

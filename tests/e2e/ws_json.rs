//! WebSocket with JSON, as programs of npm `ws` and PyPI `websockets` speak it.

use std::process::Command;

use clasp_rt_tests::program::{Program, clasp_rt, installed};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use serde_json::{Value as Json, json};

const WS: &str = "[[bridge]]\ntype = \"websocket\"\nbind = \"127.0.0.1:0\"\n";

/// A program of its own that sends and prints messages.
struct Peer(Program);

impl Peer {
    fn node(arguments: &[&str]) -> Self {
        installed("peers/node_modules");
        let mut command = Command::new("node");
        Self(Program::start(command.arg(installed("peers/ws_json_peer.mjs")).args(arguments)))
    }

    fn python(url: &str) -> Self {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        Self(Program::start(command.arg(installed("peers/ws_json_peer.py")).arg(url)))
    }

    fn opened(self) -> Self {
        assert_eq!(self.line(), "open");
        self
    }

    fn line(&self) -> String {
        self.0.line().expect("it runs")
    }

    fn say(&mut self, message: &Json) {
        self.0.write_line(&message.to_string());
    }

    fn hear(&self) -> Json {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"))
    }

    fn ask(&mut self, message: &Json) -> Json {
        self.say(message);
        self.hear()
    }
}

fn url(router: &Router) -> String {
    format!("ws://{}", router.served("ws+json://"))
}

#[test]
fn programs_of_two_languages_set_get_subscribe_and_emit() {
    let router = Router::with_config(WS, &[]);
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/a/1", "value": 0.5}));
    let url = url(&router);
    for mut peer in [Peer::node(&[&url]).opened(), Peer::python(&url).opened()] {
        let got = peer.ask(&json!({"op": "get", "address": "/a/1", "id": 1}));
        assert_eq!(
            (&got["type"], &got["id"], &got["value"]),
            (&json!("value"), &json!(1), &json!(0.5))
        );
        let none = peer.ask(&json!({"op": "get", "address": "/none", "id": "x"}));
        assert_eq!(
            (&none["type"], &none["id"], &none["code"]),
            (&json!("error"), &json!("x"), &json!(201))
        );
        peer.say(&json!({"op": "subscribe", "pattern": "/a/**", "id": 2}));
        let snapshot = peer.hear();
        assert_eq!(
            (&snapshot["type"], &snapshot["params"][0]["value"]),
            (&json!("snapshot"), &json!(0.5))
        );
        assert_eq!(peer.hear(), json!({"type": "ack", "id": 2, "pattern": "/a/**"}));
        let set =
            peer.ask(&json!({"op": "set", "address": "/a/2", "value": {"x": [1, "é"]}, "id": 3}));
        assert_eq!((&set["type"], &set["address"]), (&json!("ack"), &json!("/a/2")));
        assert!(set["revision"].as_u64() >= Some(1), "no echo before it: {set}");
        client.send(
            json!({"type": "PUBLISH", "signal": "event", "address": "/a/go", "value": "now"}),
        );
        let event = peer.hear();
        assert_eq!(
            event,
            json!({"type": "event", "address": "/a/go", "signal": "event", "value": "now"})
        );
        let params = peer.ask(&json!({"op": "snapshot", "pattern": "/a/*", "id": 4}));
        assert_eq!(params["params"].as_array().map(Vec::len), Some(2), "{params}");
        let done = peer.ask(&json!({"op": "unsubscribe", "pattern": "/a/**", "id": 5}));
        assert_eq!(done["type"], "ack");
        client.send(json!({"type": "SET", "address": "/a/1", "value": 0.5}));
        let answer = peer.ask(&json!({"op": "emit", "address": "/b/go", "value": 1, "id": 6}));
        assert_eq!(answer, json!({"type": "ack", "id": 6, "address": "/b/go"}));
        let bundle = json!({"op": "bundle", "id": 7, "messages": [
            {"type": "SET", "address": "/b/1", "value": 1},
            {"type": "SET", "address": "/b/2", "value": 2},
        ]});
        assert_eq!(peer.ask(&bundle)["type"], "ack");
        assert_eq!(peer.ask(&json!({"op": "ping"})), json!({"type": "pong"}));
    }
    let held = client.ask(json!({"type": "GET", "address": "/a/2"}));
    assert!(held.iter().any(|m| m["params"][0]["value"] == json!({"x": [1, "é"]})), "{held:?}");
}

#[test]
fn what_is_said_plainly_sets_what_the_reference_would_set() {
    let router = Router::with_config(WS, &[]);
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    let mut peer = Peer::node(&[&url(&router)]).opened();
    for (said, address, value) in [
        (r#"{"address":"/x","value":1}"#, "/x", json!(1)),
        (r#"{"hello":"you"}"#, "/ws/message", json!({"hello": "you"})),
        ("just text", "/ws/text", json!("just text")),
        ("hex:00ff", "/ws/binary", json!({"$bytes": "00ff"})),
    ] {
        peer.0.write_line(said);
        let set = client.receive_type("SET");
        assert_eq!((&set["address"], &set["value"]), (&json!(address), &value), "{said}");
    }
}

#[test]
fn what_is_wrong_is_said_and_the_connection_stays() {
    let router = Router::with_config(&format!("{WS}message_bytes_max = 1000\n"), &[]);
    let mut peer = Peer::python(&url(&router)).opened();
    for (said, code, why) in [
        (json!({"op": "shout", "id": 1}), 101, "subscribe"),
        (json!({"op": "set", "address": "/a", "id": 1}), 101, "value"),
        (json!({"op": "set", "address": "a", "value": 1, "id": 1}), 200, "address"),
        (json!({"op": "subscribe", "pattern": "a", "id": 1}), 202, "address"),
        (json!({"op": "set", "address": "/a", "value": u64::MAX, "id": 1}), 101, "2^63"),
    ] {
        let told = peer.ask(&said);
        assert_eq!(
            (&told["type"], &told["id"], &told["code"]),
            (&json!("error"), &json!(1), &json!(code))
        );
        assert!(told["message"].as_str().is_some_and(|text| text.contains(why)), "{said}: {told}");
    }
    assert_eq!(peer.ask(&json!({"op": "ping"})), json!({"type": "pong"}));
    peer.0.write_line(&"x".repeat(2000));
    assert!(peer.line().starts_with("closed 1009"), "a message that is too long ends it");
}

#[test]
fn tokens_and_scopes_are_the_routers_and_origins_are_looked_at() {
    let tokens = TempFile::new("tokens", "cpsk_a read:/a/**,write:/a/**\n");
    let path = tokens.path.to_str().expect("text");
    let config = format!("{WS}origins = [\"https://show.example\"]\n");
    let arguments = ["--auth-mode", "authenticated", "--token-file", path];
    let router = Router::with_config(&config, &arguments);
    let url = url(&router);
    let set = |address: &str| json!({"op": "set", "address": address, "value": 1, "id": 1});

    let mut first = Peer::node(&[&format!("{url}/?token=cpsk_a")]).opened();
    assert_eq!(first.ask(&set("/a/x"))["type"], "ack");
    assert_eq!(first.ask(&set("/b"))["code"], 301);
    let mut second = Peer::python(&url).opened();
    assert_eq!(
        second.ask(&json!({"op": "auth", "token": "cpsk_a", "id": 9})),
        json!({"type": "ack", "id": 9})
    );
    assert_eq!(second.ask(&set("/a/x"))["revision"], 2);
    let mut none = Peer::python(&url).opened();
    assert_eq!(none.ask(&set("/a/x"))["code"], 300);
    assert!(none.line().starts_with("closed 1008"), "who brings no token is sent away");
    let wrong = Peer::node(&[&format!("{url}/?token=cpsk_x")]).opened();
    assert_eq!(wrong.hear()["code"], 300);
    assert!(wrong.line().starts_with("closed 1008"));

    let page = Peer::node(&[&format!("{url}/?token=cpsk_a"), "https://show.example"]);
    assert_eq!(page.line(), "open");
    let page = Peer::node(&[&format!("{url}/?token=cpsk_a"), "https://evil.example"]);
    assert!(page.line().contains("403"), "a page of elsewhere");
}

#[test]
fn whoever_says_too_much_is_slowed_down_and_loses_nothing_but_what_it_is_told_of() {
    let router = Router::with_config(WS, &["--rate-limit", "50"]);
    let mut peer = Peer::node(&[&url(&router)]).opened();
    for number in 0..80 {
        peer.say(&json!({"op": "set", "address": "/n", "value": number, "id": number}));
    }
    let answers: Vec<_> = (0..80).map(|_| peer.hear()).collect();
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], number, "in order");
    }
    let refused = answers.iter().filter(|answer| answer["type"] == "error").count();
    assert!((1..10).contains(&refused), "the rest waited: {refused}");
}

#[test]
fn it_also_joins_a_server_and_serves_a_router_elsewhere() {
    let router = Router::start(&[]);
    let mut server = Peer::node(&["serve"]);
    let port = server.0.line_where(|line| line.starts_with("listening "));
    let url = format!("ws://127.0.0.1:{}", port.trim_start_matches("listening "));
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/out/1", "value": 1}));
    let mut command = Command::new(clasp_rt());
    command.args(["websocket", "--url", &url, "--subscribe", "/out/**"]);
    let bridge = Program::start(command.args(["--router", &router.url()]));
    assert_eq!(server.line(), "open");
    let first = server.hear();
    assert_eq!(
        (&first["type"], &first["params"][0]["address"]),
        (&json!("snapshot"), &json!("/out/1"))
    );
    server.0.write_line(r#"{"address":"/in/1","value":5}"#);
    // The value may come before the subscription, in its SNAPSHOT, or after it.
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/in/**"}));
    client.receive_where(|m| m["value"] == 5 || m["params"][0]["value"] == 5);
    client.send(json!({"type": "SET", "address": "/out/1", "value": 2}));
    assert_eq!(server.hear()["value"], 2);
    server.0.write_line(r#"{"address":"/out/1","value":3}"#);
    server.0.write_line(r#"{"op":"get","address":"/out/1"}"#);
    assert_eq!(server.hear()["revision"], 3, "its own value does not come back");
    drop(bridge);
    assert!(server.line().starts_with("closed"));
    let _ = Raw::join(router.address(), "still there");
}

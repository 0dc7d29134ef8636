//! Socket.IO, as its published clients speak it: JavaScript and Python, polling and WebSocket.

use std::process::Command;

use clasp_rt_tests::program::{Program, clasp_rt, installed};
use clasp_rt_tests::router::{Router, TempFile};
use serde_json::{Value as Json, json};

const SOCKETIO: &str = "[[bridge]]\ntype = \"socketio\"\nbind = \"127.0.0.1:0\"\n";

/// A published client in a program of its own.
struct Peer(Program);

#[derive(Clone, Copy, Debug)]
enum Client {
    JavaScript,
    Python,
}

impl Peer {
    fn start(client: Client, arguments: &[&str]) -> Self {
        let mut command = match client {
            Client::JavaScript => {
                installed("peers/node_modules/socket.io-client");
                let mut command = Command::new("node");
                command.arg(installed("peers/socketio_peer.mjs"));
                command
            }
            Client::Python => {
                let mut command = Command::new(installed("peers/venv/bin/python"));
                command.arg(installed("peers/socketio_peer.py"));
                command
            }
        };
        Self(Program::start(command.args(arguments)))
    }

    /// One that is let in; gives the transport that it began with.
    fn join(client: Client, arguments: &[&str]) -> (Self, Json) {
        let peer = Self::start(client, arguments);
        let transport = peer.hear("connected");
        (peer, transport)
    }

    /// The next line that has `key`; those before it are gone.
    fn hear(&self, key: &str) -> Json {
        loop {
            let line = self.0.line().expect("it runs");
            let mut told: Json = serde_json::from_str(&line).expect("JSON");
            if let Some(found) = told.get_mut(key) {
                return if key == "event" { told } else { found.take() };
            }
        }
    }

    fn emit(&mut self, event: &str, with: Json) {
        self.0.write_line(&json!({"emit": event, "with": with}).to_string());
    }

    /// Emits with an acknowledgement, and gives that.
    fn ask(&mut self, event: &str, with: Json) -> Json {
        self.0.write_line(&json!({"emit": event, "with": with, "ack": true}).to_string());
        self.hear("ack")[0].take()
    }
}

fn url(router: &Router) -> String {
    format!("http://{}", router.served("socketio+http://"))
}

/// Every client over every transport that it has.
const ALL: [(Client, &str); 5] = [
    (Client::JavaScript, "polling,websocket"),
    (Client::JavaScript, "polling"),
    (Client::JavaScript, "websocket"),
    (Client::Python, "polling"),
    (Client::Python, "websocket"),
];

#[test]
fn an_event_is_an_address_over_every_transport_of_every_client() {
    let router = Router::with_config(SOCKETIO, &[]);
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/socketio/**"}));
    let url = url(&router);
    for (language, transports) in ALL {
        let (mut peer, transport) = Peer::join(language, &[&url, transports]);
        // It may have changed to the second one before it was let in.
        assert!(transports.contains(transport.as_str().expect("a name")), "{transport}");
        peer.emit("cue/go", json!([12]));
        let set = client.receive_where(|m| m["type"] == "SET" && m["value"] == 12);
        assert_eq!(set["address"], "/socketio/cue/go", "{language:?} {transports}");
        let ack = peer.ask("fader", json!([0.5]));
        assert_eq!((&ack["type"], &ack["address"]), (&json!("ack"), &json!("/socketio/fader")));
        let several = peer.ask("two", json!([1, "x"]));
        assert_eq!(several["type"], "ack");
        let set = client.receive_where(|m| m["type"] == "SET" && m["address"] == "/socketio/two");
        assert_eq!(set["value"], json!([1, "x"]));
        let bytes = json!({"$bytes": "00ff10"});
        let ack = peer.ask("bin", json!([{"a": bytes, "b": [bytes]}]));
        assert_eq!(ack["type"], "ack", "{ack}");
        let set = client.receive_where(|m| m["type"] == "SET" && m["address"] == "/socketio/bin");
        assert_eq!(set["value"], json!({"a": bytes, "b": [bytes]}));
        client.send(json!({"type": "PUBLISH", "signal": "event", "address": "/socketio/back",
            "value": {"b": bytes}}));
        let told = peer.hear("event");
        assert_eq!((&told["event"], &told["with"][0]), (&json!("back"), &json!({"b": bytes})));
        assert_eq!(told["with"][1]["address"], "/socketio/back", "{told}");
        client.send(json!({"type": "PUBLISH", "signal": "event", "address": "/elsewhere"}));
        assert_eq!(peer.ask("*", json!([1]))["type"], "error", "no address");
        drop(peer);
        // What a client left behind is told to the next; this is how it is not mistaken for it.
        client.ask(json!({"type": "SET", "address": "/socketio/cue/go", "value": 0}));
    }
}

#[test]
fn all_other_addresses_are_reached_by_asking_and_subscribing() {
    let router = Router::with_config(SOCKETIO, &[]);
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/a/1", "value": 1}));
    let (mut peer, _) = Peer::join(Client::JavaScript, &[&url(&router), "websocket"]);
    let got = peer.ask("get", json!([{"address": "/a/1"}]));
    assert_eq!((&got["type"], &got["value"]), (&json!("value"), &json!(1)));
    assert_eq!(peer.ask("get", json!([{"address": "/none"}]))["code"], 201);
    peer.0.write_line(&json!({"emit": "subscribe", "with": [{"pattern": "/a/**"}]}).to_string());
    let first = peer.hear("event");
    assert_eq!((&first["event"], &first["with"][0]["value"]), (&json!("value"), &json!(1)));
    let set = peer.ask("set", json!([{"address": "/a/2", "value": 2}]));
    assert_eq!((&set["type"], &set["revision"]), (&json!("ack"), &json!(1)));
    client.send(json!({"type": "SET", "address": "/a/1", "value": 3}));
    let told = peer.hear("event");
    assert_eq!((&told["event"], &told["with"][0]["value"]), (&json!("value"), &json!(3)));
    client.send(json!({"type": "PUBLISH", "signal": "event", "address": "/a/go", "value": "x"}));
    let told = peer.hear("event");
    assert_eq!((&told["event"], &told["with"][0]["value"]), (&json!("event"), &json!("x")));
    let all = peer.ask("snapshot", json!([{"pattern": "/a/*"}]));
    assert_eq!(all["params"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(peer.ask("unsubscribe", json!([{"pattern": "/a/**"}]))["type"], "ack");
    client.send(json!({"type": "SET", "address": "/a/1", "value": 4}));
    client.send(json!({"type": "SET", "address": "/socketio/end", "value": 1}));
    assert_eq!(peer.hear("event")["event"], "end", "nothing of /a in between");
    assert_eq!(peer.ask("set", json!([{"address": "/a"}]))["type"], "error");
    peer.emit("set", json!([{"address": "/a"}]));
    assert_eq!(peer.hear("event")["event"], "error", "an event where no answer is waited for");
}

#[test]
fn tokens_and_scopes_are_the_routers_and_namespaces_have_their_addresses() {
    let tokens = TempFile::new("tokens", "cpsk_s read:/socketio/**,write:/socketio/ctl/**\n");
    let path = tokens.path.to_str().expect("text");
    let config = format!("{SOCKETIO}namespaces = [\"/\", \"/ctl\"]\n");
    let arguments = ["--auth-mode", "authenticated", "--token-file", path];
    let router = Router::with_config(&config, &arguments);
    let url = url(&router);
    for (language, transports) in [(Client::JavaScript, "polling"), (Client::Python, "websocket")] {
        let none = Peer::start(language, &[&url, transports]);
        let why = none.hear("refused");
        assert!(why.as_str().is_some_and(|why| why.contains("Authentication")), "{why}");
        let wrong = Peer::start(language, &[&url, transports, "cpsk_x"]);
        let why = wrong.hear("refused");
        assert!(why.as_str().is_some_and(|why| why.contains("token")), "{why}");
        let control = format!("{url}/ctl");
        let (mut peer, _) = Peer::join(language, &[&control, transports, "cpsk_s"]);
        let ack = peer.ask("go", json!([1]));
        assert_eq!((&ack["type"], &ack["address"]), (&json!("ack"), &json!("/socketio/ctl/go")));
        assert_eq!(peer.ask("set", json!([{"address": "/b", "value": 1}]))["code"], 301);
        let (mut main, _) = Peer::join(language, &[&url, transports, "cpsk_s"]);
        assert_eq!(main.ask("go", json!([1]))["code"], 301);
        let elsewhere = format!("{url}/none");
        let unknown = Peer::start(language, &[&elsewhere, transports, "cpsk_s"]);
        unknown.hear("refused");
    }
}

#[test]
fn it_also_serves_a_router_elsewhere_and_lets_its_clients_go_with_it() {
    let router = Router::start(&[]);
    let mut command = Command::new(clasp_rt());
    command.args(["socketio", "--bind", "127.0.0.1", "--port", "0", "--router", &router.url()]);
    let bridge = Program::start(&mut command);
    let line = bridge.line_where(|line| line.starts_with("listening socketio+"));
    let url = line.trim_start_matches("listening socketio+");
    let (mut peer, _) = Peer::join(Client::JavaScript, &[url, "polling,websocket"]);
    assert_eq!(peer.ask("go", json!([1]))["type"], "ack");
    router.terminate();
    assert_eq!(peer.hear("left"), "io server disconnect");
}

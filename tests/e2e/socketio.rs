//! Socket.IO, as its published clients speak it: JavaScript and Python, polling and WebSocket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use clasp_rt_tests::program::{Program, clasp_rt, installed};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use clasp_rt_tests::{PATIENCE, eventually};
use serde_json::{Value as Json, json};
use tungstenite::Message;

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

#[test]
fn events_that_are_too_long_end_who_sends_them_and_values_that_are_are_refused() {
    let router = Router::with_config(&format!("{SOCKETIO}message_bytes_max = 100000\n"), &[]);
    let url = url(&router);
    let (mut other, _) = Peer::join(Client::Python, &[&url, "websocket"]);
    for transport in ["websocket", "polling"] {
        let (mut peer, _) = Peer::join(Client::JavaScript, &[&url, transport]);
        // It fits in a message here, and not in one of the router.
        let ack = peer.ask("value", json!(["x".repeat(70_000)]));
        assert_eq!((&ack["type"], &ack["code"]), (&json!("error"), &json!(101)), "{transport}");
        assert_eq!(peer.ask("value", json!([1]))["type"], "ack");
        peer.emit("value", json!(["x".repeat(200_000)]));
        let why = peer.hear("left");
        assert!(why.as_str().is_some_and(|why| why.starts_with("transport")), "{why}");
        assert_eq!(other.ask("value", json!([2]))["type"], "ack", "the others stay");
    }
}

#[test]
fn whoever_says_much_at_once_is_answered_for_each_and_told_what_was_too_much() {
    let router = Router::with_config(SOCKETIO, &["--rate-limit", "0"]);
    let (mut peer, _) = Peer::join(Client::JavaScript, &[&url(&router), "websocket"]);
    for number in 0..500 {
        let line = json!({"emit": "n", "with": [number], "ack": true});
        peer.0.write_line(&line.to_string());
    }
    let answers: Vec<_> = (0..500).map(|_| peer.hear("ack")[0].take()).collect();
    for answer in &answers {
        assert!(answer["type"] == "ack" || answer["code"] == 429, "{answer}");
    }
    assert!(answers.iter().filter(|answer| answer["type"] == "ack").count() >= 64);
    assert_eq!(peer.ask("n", json!([500]))["type"], "ack", "and it is heard again");
}

#[test]
fn a_client_has_as_many_rooms_as_the_router_lets_it_have_and_goes_on_with_those() {
    let router = Router::with_config(SOCKETIO, &["--rate-limit", "0"]);
    let mut client = router.join("client");
    let (mut peer, _) = Peer::join(Client::JavaScript, &[&url(&router), "websocket"]);
    let room = |number: usize| json!([{"pattern": format!("/room/{number}")}]);
    let refused = (0..=1000).find_map(|number| {
        let answer = peer.ask("subscribe", room(number));
        (answer["type"] == "error").then_some((number, answer))
    });
    let (count, answer) = refused.expect("there is an end to it");
    assert!(answer["message"].as_str().is_some_and(|why| !why.is_empty()), "{answer}");
    client.ask(json!({"type": "SET", "address": format!("/room/{count}"), "value": 1}));
    client.ask(json!({"type": "SET", "address": format!("/room/{}", count - 1), "value": 2}));
    let told = peer.hear("event");
    assert_eq!((&told["event"], &told["with"][0]["value"]), (&json!("value"), &json!(2)));
    assert_eq!(peer.ask("unsubscribe", room(0))["type"], "ack");
    peer.0.write_line(&json!({"emit": "subscribe", "with": room(count), "ack": true}).to_string());
    assert_eq!(peer.hear("event")["with"][0]["value"], 1, "there is a place again");
}

#[test]
fn connections_and_sessions_are_counted_and_whoever_is_one_too_many_waits_or_is_told() {
    let config = format!("{SOCKETIO}connections_max = 2\nsessions_max = 1\n");
    let router = Router::with_config(&config, &[]);
    let url = url(&router);
    let (mut first, _) = Peer::join(Client::JavaScript, &[&url, "websocket"]);
    let second = Peer::start(Client::JavaScript, &[&url, "websocket"]);
    assert_eq!(second.hear("refused"), "every place is taken");
    drop(second);
    // Two connections that say nothing, of which one finds a place.
    let address = router.served("socketio+http://");
    let request = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let idle = eventually("the place of the one that left", || {
        let (answered, waiting) = handshake(&request, Duration::from_millis(300));
        answered.then_some(waiting)
    });
    let (answered, waiting) = handshake(&request, Duration::from_millis(300));
    assert!(!answered, "both places are taken");
    assert_eq!(first.ask("go", json!([1]))["type"], "ack");
    drop(idle);
    let mut waiting = waiting;
    waiting.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).expect("its turn has come");
    assert_eq!(&answer, b"HTTP/1.1 101");
}

/// Asks for a WebSocket; whether the answer began to come within `patience`.
fn handshake(url: &str, patience: Duration) -> (bool, TcpStream) {
    let (host, path) = url.trim_start_matches("ws://").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("the kernel takes it");
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .expect("the kernel takes it");
    stream.set_read_timeout(Some(patience)).expect("a deadline can be set");
    let answered = stream.peek(&mut [0]).is_ok_and(|count| count > 0);
    (answered, stream)
}

#[test]
fn a_client_that_reads_nothing_is_closed_with_little_memory_and_the_others_do_not_notice() {
    let config = format!("{SOCKETIO}namespaces = [\"/\", \"/other\"]\n");
    let arguments = ["--rate-limit", "0", "--metrics", "127.0.0.1:0"];
    let router = Router::with_config(&config, &arguments);
    let mut client = router.join("client");
    let address = router.served("socketio+http://");
    let slow_url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let stream = TcpStream::connect(address).expect("it listens");
    let (mut slow, _) = tungstenite::client(&slow_url, stream).expect("a WebSocket");
    slow.send(Message::text("40")).expect("the kernel takes it");
    while !slow.read().expect("it is let in").to_string().starts_with("40{") {}
    let other_url = format!("{}/other", url(&router));
    let (mut other, _) = Peer::join(Client::JavaScript, &[&other_url, "websocket"]);
    let before = router.resident_bytes();
    let value = "x".repeat(50_000);
    let start = Instant::now();
    // The kernel keeps some megabytes for it, the service 128 packets, the router its share.
    while router.counters().of_shard(0, "closed_slow") == 0 {
        for _ in 0..50 {
            client.send(json!({"type": "PUBLISH", "signal": "event", "address": "/socketio/flood",
                "value": value}));
        }
        assert_eq!(other.ask("go", json!([0]))["type"], "ack");
        assert!(start.elapsed() < PATIENCE, "it is closed");
    }
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes for one client");
    // What was said before the end is there, and then the end.
    while slow.read().is_ok_and(|told| told.to_string() != "41") {}
    assert_eq!(other.ask("go", json!([1]))["type"], "ack");
}

#[test]
fn an_address_with_a_name_that_the_libraries_keep_for_themselves_throws_nobody_out() {
    let router = Router::with_config(SOCKETIO, &[]);
    let mut client = router.join("client");
    let (peer, _) = Peer::join(Client::JavaScript, &[&url(&router), "websocket"]);
    for name in ["connect", "connect_error", "disconnect", "newListener"] {
        let address = format!("/socketio/{name}");
        client.ask(json!({"type": "SET", "address": address, "value": 1}));
    }
    client.send(json!({"type": "SET", "address": "/socketio/end", "value": 1}));
    let line = peer.0.line().expect("it runs");
    assert!(line.contains("\"end\""), "{line}");
}

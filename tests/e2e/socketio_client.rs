//! Socket.IO as a client: npm `socket.io` and python-socketio are the servers that it joins.

use std::process::Command;

use clasp_rt_tests::certificates::certificates;
use clasp_rt_tests::eventually;
use clasp_rt_tests::ports::free_tcp_ports;
use clasp_rt_tests::program::{Program, clasp_rt, installed};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// A published server in a program of its own.
struct Server {
    program: Program,
    port: u16,
}

impl Server {
    fn node(arguments: &[&str]) -> Self {
        installed("peers/node_modules/socket.io");
        let mut command = Command::new("node");
        Self::start(command.arg(installed("peers/socketio_server.mjs")).args(arguments))
    }

    fn python() -> Self {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        Self::start(command.arg(installed("peers/socketio_server.py")).arg("0"))
    }

    fn start(command: &mut Command) -> Self {
        let mut server = Self { program: Program::start(command), port: 0 };
        let port = server.hear("listening").as_u64().expect("a port");
        server.port = u16::try_from(port).expect("a port");
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn line(&self) -> Json {
        let line = self.program.line().expect("it runs");
        serde_json::from_str(&line).expect("JSON")
    }

    /// What the next line with `key` has there, all of it for events; those before it are gone.
    fn hear(&self, key: &str) -> Json {
        loop {
            let mut told = self.line();
            if told.get(key).is_some() {
                return if key == "event" { told } else { told[key].take() };
            }
        }
    }

    fn say(&mut self, line: &Json) {
        self.program.write_line(&line.to_string());
    }

    fn emit(&mut self, event: &str, with: Json) {
        self.say(&json!({"emit": event, "with": with}));
    }

    /// Emits and gives the acknowledgement; what came before that is gone.
    fn ask(&mut self, event: &str, with: Json) -> Json {
        self.say(&json!({"emit": event, "with": with, "ack": true}));
        self.hear("ack")[0].take()
    }
}

/// A router with a client of `server` in it.
fn router(server: &Server, more: &str) -> Router {
    let url = server.url();
    Router::with_config(
        &format!("[[bridge]]\ntype = \"socketio\"\nurl = \"{url}\"\n{more}\n"),
        &["--rate-limit", "0"],
    )
}

/// A client of the router that hears everything of Socket.IO.
fn listen(router: &Router) -> Raw {
    let mut client = router.join("client");
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/socketio/**"}));
    client.ask(json!({"type": "PING"}));
    client
}

fn set(client: &mut Raw, address: &str, value: Json) {
    client.send(json!({"type": "SET", "address": address, "value": value}));
}

fn go(client: &mut Raw, address: &str, value: Json) {
    client.send(json!({"type": "PUBLISH", "signal": "event", "address": address, "value": value}));
}

/// Everything that is said both ways: events, bytes, operations, acknowledgements; and no echo.
fn converse(server: &mut Server, router: &Router) {
    let mut client = listen(router);
    let ack = server.ask("cue/go", json!([12]));
    assert_eq!((&ack["type"], &ack["address"]), (&json!("ack"), &json!("/socketio/cue/go")));
    let set_by_server = client.receive_where(|message| message["type"] == "SET");
    assert_eq!(
        (&set_by_server["address"], &set_by_server["value"]),
        (&json!("/socketio/cue/go"), &json!(12))
    );
    let bytes = json!({"$bytes": "00ff10"});
    server.emit("two", json!([1, {"b": bytes}]));
    let several = client.receive_where(|message| message["type"] == "SET");
    assert_eq!(several["value"], json!([1, {"b": bytes}]));
    // What the server said does not come back: this is the first event that it hears.
    go(&mut client, "/socketio/back", json!({"b": bytes}));
    let told = server.hear("event");
    assert_eq!((&told["event"], &told["with"][0]), (&json!("back"), &json!({"b": bytes})));
    assert_eq!(told["with"][1]["address"], "/socketio/back");
    set(&mut client, "/socketio/fader", json!(0.5));
    let told = server.hear("event");
    assert_eq!((&told["event"], &told["with"][0]), (&json!("fader"), &json!(0.5)));
    // Names that mean something to the libraries are not said: the connection stays.
    set(&mut client, "/socketio/disconnect", json!(1));
    // All other addresses are asked for.
    let ack = server.ask("set", json!([{"address": "/a/1", "value": 7}]));
    assert_eq!((&ack["type"], &ack["revision"]), (&json!("ack"), &json!(1)));
    let got = server.ask("get", json!([{"address": "/a/1"}]));
    assert_eq!((&got["type"], &got["value"]), (&json!("value"), &json!(7)));
    assert_eq!(server.ask("get", json!([{"address": "/none"}]))["code"], 201);
    assert_eq!(server.ask("*", json!([1]))["type"], "error", "no address");
    server.emit("*", json!([1]));
    let told = server.hear("event");
    assert_eq!((&told["event"], &told["with"][0]["code"]), (&json!("error"), &json!(101)));
}

#[test]
fn a_server_is_joined_over_every_transport_and_events_and_bytes_go_both_ways() {
    for (transports, written, opened, last) in [
        ("polling,websocket", "", "polling", "websocket"),
        ("polling,websocket", "transports = [\"websocket\"]", "websocket", "websocket"),
        ("polling,websocket", "transports = [\"polling\"]", "polling", "polling"),
        ("polling", "", "polling", "polling"),
    ] {
        let mut server = Server::node(&["0", transports]);
        let router = router(&server, written);
        assert_eq!(server.hear("opened"), opened, "{transports} {written}");
        let upgraded = opened != last;
        if upgraded {
            assert_eq!(server.hear("upgraded"), last);
        }
        let joined = server.line();
        assert_eq!((&joined["joined"], &joined["transport"]), (&json!("/"), &json!(last)));
        converse(&mut server, &router);
        // It asks every half a second whether we are there, and we are.
        router.terminate();
        assert_eq!(server.hear("left"), "client namespace disconnect", "a good-bye");
    }
}

#[test]
fn the_published_server_for_python_is_joined_too() {
    let mut server = Server::python();
    let router = router(&server, "auth = { token = \"t\", desk = 2 }");
    let joined = server.line();
    assert_eq!(joined["auth"], json!({"token": "t", "desk": 2}));
    converse(&mut server, &router);
    let mut client = router.join("client");
    set(&mut client, "/socketio/last", json!(1));
    let last = server.hear("event");
    assert_eq!((&last["event"], &last["transport"]), (&json!("last"), &json!("websocket")));
}

#[test]
fn a_namespace_lets_in_the_right_token_and_says_why_not_to_the_wrong_one() {
    let mut server = Server::node(&["0"]);
    let router = Router::start(&[]);
    let bridge = |token: &str| {
        let mut command = Command::new(clasp_rt());
        command.args(["socketio", "--url", &server.url(), "--socketio-namespace", "/ctl"]);
        command.args(["--auth", &json!({"token": token}).to_string(), "--router", &router.url()]);
        Program::start(&mut command)
    };
    let refused = bridge("wrong");
    assert_eq!(server.hear("asked"), "wrong");
    eventually("it says why", || {
        refused.errors().contains("it lets nobody in: nope").then_some(())
    });
    drop(refused);
    let _admitted = bridge("right");
    assert_eq!(server.hear("joined"), "/ctl");
    server.say(&json!({"emit": "go", "with": [5], "to": "/ctl"}));
    router.eventually_holds("/socketio/ctl/go", &json!(5));
    let mut client = router.join("client");
    set(&mut client, "/socketio/other", json!(1));
    set(&mut client, "/socketio/ctl/level", json!(2));
    assert_eq!(server.hear("event")["event"], "level", "the other namespace was not joined");
}

#[test]
fn a_server_that_was_killed_is_told_the_newest_of_each_param_and_every_event_when_it_is_back() {
    let [port] = free_tcp_ports().map(|port| port.to_string());
    let mut server = Server::node(&[&port]);
    let router = router(&server, "subscribe = [\"/rig/*\"]");
    server.hear("joined");
    let mut client = listen(&router);
    server.emit("mine", json!([5]));
    client.receive_where(|message| message["address"] == "/socketio/mine");
    set(&mut client, "/socketio/base", json!(1));
    assert_eq!(server.hear("event")["event"], "base");
    set(&mut client, "/rig/1", json!(0.5));
    let told = server.hear("event");
    assert_eq!((&told["event"], &told["with"][0]["value"]), (&json!("value"), &json!(0.5)));
    server.program.kill();
    for level in 1..=9 {
        set(&mut client, "/socketio/level", json!(level));
        go(&mut client, "/socketio/go", json!(level));
    }
    client.ask(json!({"type": "PING"}));
    let server = Server::node(&[&port]);
    server.hear("joined");
    let (mut events, mut told) = (Vec::new(), Vec::new());
    while events.len() < 9 || !["base", "level", "value"].iter().all(|name| told.contains(name)) {
        let event = server.hear("event");
        let value = &event["with"][0];
        match event["event"].as_str().expect("a name") {
            "go" => events.push(value.as_u64().expect("a number")),
            "level" => {
                assert_eq!(*value, 9, "only the newest");
                told.push("level");
            }
            "base" => told.push("base"),
            "value" => {
                assert_eq!((&value["address"], &value["value"]), (&json!("/rig/1"), &json!(0.5)));
                told.push("value");
            }
            other => panic!("{other}: its own value does not come back"),
        }
    }
    assert_eq!(events, [1, 2, 3, 4, 5, 6, 7, 8, 9], "each, in order");
}

#[test]
fn what_a_server_has_not_acknowledged_is_told_again_and_what_it_has_is_not() {
    let [port] = free_tcp_ports().map(|port| port.to_string());
    let mut server = Server::node(&[&port]);
    let router = router(&server, "acks = true");
    server.hear("joined");
    let mut client = listen(&router);
    go(&mut client, "/socketio/go/1", json!(1));
    let told = server.hear("event");
    assert_eq!((&told["event"], &told["asks"]), (&json!("go/1"), &json!(true)));
    // Its answer follows the acknowledgement of what came before.
    assert_eq!(server.ask("end", json!([1]))["type"], "ack");
    for number in 1..=40 {
        go(&mut client, &format!("/socketio/hold/{number}"), json!(number));
    }
    let name = |number: usize| json!(format!("hold/{number}"));
    for number in 1..=32 {
        assert_eq!(server.hear("event")["event"], name(number));
    }
    server.say(&json!({"emit": "end", "with": [2], "ack": true}));
    assert_eq!(server.line()["ack"][0]["type"], "ack", "no more on their way than 32");
    server.program.kill();
    go(&mut client, "/socketio/go/2", json!(2));
    client.ask(json!({"type": "PING"}));
    let server = Server::node(&[&port]);
    for number in 1..=32 {
        assert_eq!(server.hear("event")["event"], name(number), "again, in order");
    }
}

#[test]
fn what_a_server_says_while_the_router_is_away_is_told_to_the_next_one() {
    let mut server = Server::node(&["0"]);
    let router = Router::start(&[]);
    let mut command = Command::new(clasp_rt());
    command.args(["socketio", "--url", &server.url(), "--router", &router.url()]);
    let _bridge = Program::start(&mut command);
    server.hear("joined");
    assert_eq!(server.ask("level", json!([0]))["type"], "ack");
    let router = router.restart_after(|| {
        for level in 1..=9 {
            server.emit("level", json!([level]));
        }
    });
    router.eventually_holds("/socketio/level", &json!(9));
    assert_eq!(server.ask("level", json!([10]))["type"], "ack", "as before");
}

#[test]
fn an_https_server_is_joined_with_an_authority_of_its_own_and_with_no_other() {
    let folder = certificates();
    let path = folder.to_str().expect("text");
    let mut server = Server::node(&["0", "polling,websocket", path]);
    let url = server.url().replace("http:", "https:");
    let router = Router::start(&[]);
    let bridge = |ca: &str| {
        let mut command = Command::new(clasp_rt());
        command.args(["socketio", "--url", &url, "--ca", &format!("{path}/{ca}")]);
        Program::start(command.args(["--router", &router.url()]))
    };
    let other = bridge("client.pem");
    eventually("it does not believe it", || other.errors().contains("cannot join").then_some(()));
    drop(other);
    let _bridge = bridge("ca.pem");
    assert_eq!(server.hear("upgraded"), "websocket");
    assert_eq!(server.ask("go", json!([1]))["type"], "ack");
}

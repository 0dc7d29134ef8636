//! HTTP the other way round: pages elsewhere are polled, and servers elsewhere are told what
//! changes. The server is that of Python's standard library.

use std::process::Command;

use clasp_rt_tests::certificates::certificates;
use clasp_rt_tests::eventually;
use clasp_rt_tests::ports::free_tcp_ports;
use clasp_rt_tests::program::{Program, clasp_rt};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// A server elsewhere, and what it was asked.
struct Server {
    program: Program,
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        Self::at(0, arguments)
    }

    fn at(port: u16, arguments: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/http_server.py");
        let mut command = Command::new("python3");
        command.args([script, &port.to_string()]).args(arguments);
        let program = Program::start(&mut command);
        let mut server = Self { program, port };
        server.port = server.next("listening").as_u64().expect("a port") as u16;
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// It answers so from now on.
    fn answers(&mut self, how: Json) {
        self.program.write_line(&how.to_string());
        self.next("set");
    }

    /// The next line that has this key; those before it are gone.
    fn next(&self, key: &str) -> Json {
        loop {
            let line = self.program.line().expect("it runs");
            let mut line: Json = serde_json::from_str(&line).expect("JSON");
            if let Some(found) = line.get_mut(key) {
                return found.take();
            }
        }
    }

    /// The next request that is not about `ready`.
    fn asked(&self) -> Json {
        loop {
            let line = self.program.line().expect("it runs");
            let line: Json = serde_json::from_str(&line).expect("JSON");
            if line["path"].as_str().is_some_and(|path| !path.contains("ready")) {
                return line;
            }
        }
    }

    /// Changes the param `ready..` until it is told of it: its webhook is in place.
    fn told_of(&self, client: &mut Raw, address: &str) {
        let name = address.rsplit('/').next().expect("a name");
        let mut value = 0;
        eventually("the server is told", || {
            value += 1;
            client.send(json!({"type": "SET", "address": address, "value": value}));
            self.program.try_line().filter(|line| line.contains(name))
        });
    }

    /// The next request that `wanted` accepts; those before it are gone.
    fn asked_where(&self, wanted: impl Fn(&Json) -> bool) -> Json {
        loop {
            let asked = self.asked();
            if wanted(&asked) {
                return asked;
            }
        }
    }
}

fn value_at(client: &mut Raw, address: &str) -> Json {
    client.receive_where(|m| m["type"] == "SET" && m["address"] == address)["value"].clone()
}

/// A client that hears everything that changes.
fn listen(router: &Router) -> Raw {
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    client
}

#[test]
fn a_page_is_asked_again_and_again_and_what_is_new_is_told() {
    let mut server = Server::start(&[]);
    let page = |temp: f64, tag: &str| {
        let body = json!({ "main": { "temp": temp }, "list": ["a"] }).to_string();
        json!({ "path": "/now", "body": body, "headers": { "ETag": tag } })
    };
    server.answers(json!({ "path": "/moved", "status": 302, "headers": { "Location": "now" } }));
    let router = Router::start(&["--rate-limit", "0"]);
    let mut client = listen(&router);
    // The page is not there at first.
    let poll = format!("/w/temp={}#/main/temp", server.url("/moved"));
    let mut command = Command::new(clasp_rt());
    command.args(["http", "--poll", &poll, "--every", "0.1", "--router", &router.url()]);
    let bridge = Program::start(&mut command);
    server.asked_where(|asked| asked["path"] == "/now");
    server.answers(page(21.5, "\"1\""));
    assert_eq!(value_at(&mut client, "/w/temp"), 21.5);
    let asked = server.asked_where(|asked| asked["headers"]["if-none-match"].is_string());
    assert_eq!(asked["headers"]["if-none-match"], "\"1\"");
    assert!(asked["headers"]["user-agent"].as_str().is_some_and(|a| a.starts_with("clasp-rt/")));
    // Asked thrice more, it is still the same, and is not told again.
    for _ in 0..3 {
        server.asked();
    }
    server.answers(page(22.5, "\"2\""));
    let set = client.receive_where(|m| m["type"] == "SET" && m["address"] == "/w/temp");
    assert_eq!((&set["value"], &set["revision"]), (&json!(22.5), &json!(2)));
    // It says once that the page was not there, and that it is well again.
    let log =
        eventually("it says so", || Some(bridge.errors()).filter(|log| log.contains("well again")));
    assert_eq!(log.matches("404 Not Found").count(), 1, "{log}");
}

#[test]
fn a_page_may_be_text_or_missing_or_too_long_or_slow_and_its_server_away() {
    let mut server = Server::start(&[]);
    server.answers(json!({ "path": "/text", "body": "on air\n" }));
    server.answers(json!({ "path": "/long", "body": "x".repeat(3000) }));
    server.answers(json!({ "path": "/slow", "body": "1", "wait_s": 15 }));
    server.answers(json!({ "path": "/ring", "status": 302, "headers": { "Location": "/ring" } }));
    let poll = |path: &str, kind: &str| {
        let (url, address) = (server.url(path), format!("/p{path}"));
        format!(
            "[[bridge.poll]]\nurl = \"{url}\"\nvalues = {{ \"{address}\" = \"\" }}\n\
             every_s = 0.2\nas = \"{kind}\"\n"
        )
    };
    let config = format!(
        "[[bridge]]\ntype = \"http\"\nbind = \"127.0.0.1:0\"\nbody_bytes_max = 2000\n\
         timeout_s = 0.5\n{}{}{}{}",
        poll("/text", "event"),
        poll("/long", "param"),
        poll("/slow", "param"),
        poll("/ring", "param"),
    );
    let router = Router::with_config(&config, &[]);
    router.served("http://");
    let mut client = listen(&router);
    for path in ["/long", "/slow", "/ring"] {
        // It goes on asking, whatever became of the others.
        for _ in 0..2 {
            server.asked_where(|asked| asked["path"] == path);
        }
    }
    server.answers(json!({ "path": "/text", "body": "off air\n" }));
    let event = client.receive_where(|m| m["type"] == "PUBLISH" && m["value"] == "off air");
    assert_eq!(event["address"], "/p/text");
    // The server dies, and comes back at the same port.
    let port = server.port;
    drop(server);
    let mut server = Server::at(port, &[]);
    server.answers(json!({ "path": "/text", "body": "{\"x\": 1}" }));
    let event = client.receive_where(|m| m["type"] == "PUBLISH" && m["value"]["x"] == 1);
    assert_eq!(event["address"], "/p/text");
    let held = client.ask(json!({"type": "GET", "address": "/p/long"}));
    assert_eq!(held[0]["code"], 201, "nothing of what was too long: {held:?}");
}

#[test]
fn a_server_is_told_what_changes_as_it_was_written() {
    let mut server = Server::start(&[]);
    server.answers(json!({ "path": "*", "status": 204 }));
    let config = format!(
        "[[bridge]]\ntype = \"http\"\n\
         [[bridge.webhook]]\npattern = \"/cue/{{list}}/*\"\nurl = \"{}\"\n\
         headers = {{ Authorization = \"Bearer t\" }}\n\
         body = {{ text = \"{{list}}: {{value}}\", value = \"{{value}}\" }}\n\
         [[bridge.webhook]]\npattern = \"/state/**\"\nurl = \"{}\"\nmethod = \"PUT\"\n\
         types = [\"param\"]\n",
        server.url("/hook/{list}/{2}"),
        server.url("/copy{address}"),
    );
    let router = Router::with_config(&config, &[]);
    let mut client = router.join("client");
    server.told_of(&mut client, "/state/ready");
    client.send(
        json!({"type": "PUBLISH", "signal": "event", "address": "/cue/a b/go", "value": [1, "é"]}),
    );
    let asked = server.asked();
    assert_eq!(
        (&asked["method"], &asked["path"]),
        (&json!("POST"), &json!("/hook/a%20b/go")),
        "{asked}"
    );
    let headers = &asked["headers"];
    assert_eq!(
        (&headers["authorization"], &headers["content-type"]),
        (&json!("Bearer t"), &json!("application/json"))
    );
    let body: Json = serde_json::from_str(asked["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body, json!({ "text": "a b: [1,\"é\"]", "value": [1, "é"] }));
    // What is no event or param there, and what is elsewhere, is not told.
    client.send(json!({"type": "PUBLISH", "signal": "stream", "address": "/cue/x/y", "value": 1}));
    client.send(json!({"type": "PUBLISH", "signal": "event", "address": "/state/x", "value": 1}));
    client.send(json!({"type": "SET", "address": "/other", "value": 1}));
    client.send(json!({"type": "BUNDLE", "messages": [
        {"type": "SET", "address": "/state/a", "value": 0.5},
    ]}));
    let asked = server.asked();
    assert_eq!((&asked["method"], &asked["path"]), (&json!("PUT"), &json!("/copy/state/a")));
    let body: Json = serde_json::from_str(asked["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body, json!({ "address": "/state/a", "value": 0.5, "revision": 1 }));
}

#[test]
fn what_fails_is_told_again_in_order_and_of_params_the_newest() {
    let mut server = Server::start(&[]);
    server.answers(json!({ "path": "*", "status": 500 }));
    let router = Router::start(&["--rate-limit", "0"]);
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/s/held", "value": "at the start"}));
    let hook = format!("/s/*={}", server.url("/{1}/{value}"));
    let mut command = Command::new(clasp_rt());
    command.args(["http", "--webhook", &hook, "--router", &router.url()]);
    let _bridge = Program::start(&mut command);
    let event = |value: u32| {
        let address = "/s/go";
        json!({"type": "PUBLISH", "signal": "event", "address": address, "value": value})
    };
    server.told_of(&mut client, "/s/ready");
    client.ask(json!({"type": "SET", "address": "/s/x", "value": 1}));
    client.send(event(1));
    client.ask(json!({"type": "SET", "address": "/s/x", "value": 2}));
    client.send(event(2));
    // All of that waits behind what fails; then the server dies, and is there again.
    let port = server.port;
    drop(server);
    let mut server = Server::at(port, &[]);
    server.answers(json!({ "path": "*", "status": 200, "body": "thanks" }));
    let mut paths = Vec::new();
    while paths.last().is_none_or(|path| path != "/go/2") {
        let asked = server.asked();
        let path = asked["path"].as_str().expect("text").to_owned();
        assert!(!path.starts_with("/held"), "it was held before");
        // What a server took before it died may be told once more.
        if paths.last() != Some(&path) {
            paths.push(path);
        }
    }
    assert_eq!(paths, ["/x/2", "/go/1", "/go/2"]);
    // What the server refuses is not told again, and what is behind it is.
    server.answers(json!({ "path": "/go/3", "status": 404 }));
    client.send(event(3));
    client.send(event(4));
    assert_eq!(server.asked()["path"], "/go/3");
    assert_eq!(server.asked()["path"], "/go/4");
    // A redirect keeps the method and the body where it is a 307.
    let there = server.url("/there");
    server.answers(json!({ "path": "/go/5", "status": 307, "headers": { "Location": there } }));
    client.send(event(5));
    let first = server.asked();
    let second = server.asked();
    assert_eq!((&first["path"], &second["path"]), (&json!("/go/5"), &json!("/there")));
    assert_eq!((&second["method"], &second["body"]), (&first["method"], &first["body"]));
}

#[test]
fn a_router_that_was_away_is_told_what_was_found_and_asked_what_changed() {
    let mut server = Server::start(&[]);
    server.answers(json!({ "path": "*", "status": 200, "body": "7" }));
    let router = Router::start(&[]);
    let poll = format!("/p={}", server.url("/page"));
    let hook = format!("/s/*={}", server.url("/{1}/{value}"));
    let mut command = Command::new(clasp_rt());
    command.args(["http", "--poll", &poll, "--every", "3600", "--webhook", &hook]);
    let _bridge = Program::start(command.args(["--router", &router.url()]));
    // The value may come before the subscription, in its SNAPSHOT, or after it.
    let found = |client: &mut Raw| {
        client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/p"}));
        client.receive_where(|m| m["value"] == 7 || m["params"][0]["value"] == 7);
    };
    let mut client = router.join("client");
    found(&mut client);
    server.told_of(&mut client, "/s/ready");
    drop(client);
    let router = router.restart();
    // Nothing changed at the page, but this router does not know it.
    let mut client = router.join("client");
    found(&mut client);
    server.told_of(&mut client, "/s/ready2");
}

#[test]
fn servers_with_tls_are_asked_where_their_authority_is_believed() {
    let folder = certificates();
    let file = |name: &str| folder.file(name);
    let mut server = Server::start(&[&file("server.pem"), &file("server.key")]);
    server.answers(json!({ "path": "*", "status": 200, "body": "\"secret\"" }));
    let router = Router::start(&[]);
    let mut client = listen(&router);
    let url = server.url("/x").replace("http:", "https:");
    let start = |more: &[&str]| {
        let mut command = Command::new(clasp_rt());
        command.args(["http", "--every", "0.2", "--router", &router.url()]).args(more);
        Program::start(&mut command)
    };
    let other = file("client.pem");
    let doubter = start(&["--poll", &format!("/doubted={url}"), "--ca", &other]);
    eventually("it does not believe", || doubter.errors().contains("certificate").then_some(()));
    let _believer = start(&["--poll", &format!("/believed={url}"), "--ca", &file("ca.pem")]);
    let set = client.receive_where(|m| m["type"] == "SET");
    assert_eq!((&set["address"], &set["value"]), (&json!("/believed"), &json!("secret")));
}

#[test]
fn a_bridge_that_only_asks_listens_nowhere_and_mistakes_are_told_by_their_flag() {
    let [port] = free_tcp_ports().map(|port| port.to_string());
    let cases: [(&[&str], &str); 4] = [
        (&["--poll", "a=http://h/"], "--poll"),
        (&["--poll", "/a=ftp://h/"], "--poll"),
        (&["--webhook", "/a=http://h/{x}"], "--webhook"),
        (&["--webhook", "/a"], "--webhook"),
    ];
    for (arguments, said) in cases {
        let mut command = Command::new(clasp_rt());
        let output = clasp_rt_tests::program::run(command.args(["http"]).args(arguments));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{arguments:?}: {errors}");
    }
    let router = Router::start(&[]);
    for (more, listens) in [(&[][..], false), (&["--port", &port, "--bind", "127.0.0.1"], true)] {
        let mut command = Command::new(clasp_rt());
        command.args(["http", "--webhook", "/a=http://127.0.0.1:9/", "--router", &router.url()]);
        let mut bridge = Program::start(command.args(more));
        eventually("it has joined", || bridge.errors().contains("joined").then_some(()));
        bridge.terminate();
        let mut lines = std::iter::from_fn(|| bridge.line());
        assert_eq!(lines.any(|line| line.starts_with("listening http")), listens, "{more:?}");
    }
}

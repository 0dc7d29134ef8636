//! A browser: Chromium asks by `fetch`, is told by `EventSource` across a break, and speaks over
//! WebSocket, JSON and CLASP itself. The page is `peers/browser.html`; what it finds it tells the
//! router, where the test hears it.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use clasp_rt_tests::eventually;
use clasp_rt_tests::frame::{decode, encode, hex, unhex};
use clasp_rt_tests::program::{Program, installed};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFolder;
use serde_json::{Value as Json, json};

/// A port in front of another, whose connections can be cut.
struct Cuttable {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cuttable {
    fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = Arc::clone(&connections);
        // Ends with the test.
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(target) else { return };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (again(from), again(to));
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().expect("no holder panics").extend([near, far]);
            }
        });
        Self { address, connections }
    }

    /// Ends every connection; gives how many ends they had.
    fn cut(&self) -> usize {
        let mut connections = self.connections.lock().expect("no holder panics");
        for end in connections.iter() {
            let _ = end.shutdown(Shutdown::Both);
        }
        connections.drain(..).count()
    }
}

fn again(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be had twice")
}

/// The page, served by Python's standard library; and its port.
fn serve_page() -> (Program, u16) {
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]);
    let program = Program::start(command.arg(installed("peers")));
    let line = program.line_where(|line| line.starts_with("Serving HTTP"));
    let port = line.split_once(" port ").and_then(|(_, rest)| rest.split(' ').next());
    let port = port.and_then(|port| port.parse().ok());
    (program, port.unwrap_or_else(|| panic!("no port in {line:?}")))
}

/// Starts Chromium with a page and a new profile.
fn chromium(page: &str, profile: &Path) -> Program {
    let mut command = Command::new("chromium");
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    // It speaks with this machine alone.
    command.args(["--disable-background-networking", "--disable-component-update"]);
    command.args(["--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server"]);
    Program::start(command.arg(format!("--user-data-dir={}", profile.display())).arg(page))
}

/// The next report of the page, and what it is about.
struct Reports {
    client: Raw,
    /// Those that came before the one that was waited for.
    kept: Vec<(String, Json)>,
}

impl Reports {
    fn next(&mut self, about: &str) -> Json {
        if let Some(at) = self.kept.iter().position(|(found, _)| found == about) {
            return self.kept.remove(at).1;
        }
        loop {
            let told = self.client.receive_type("PUBLISH");
            let address = told["address"].as_str().expect("an address");
            let found = address.trim_start_matches("/browser/").to_owned();
            if found == about {
                return told["value"].clone();
            }
            self.kept.push((found, told["value"].clone()));
        }
    }
}

#[test]
fn a_page_in_chromium_asks_is_told_and_speaks_and_goes_on_after_a_break() {
    let (pages, page_port) = serve_page();
    let origins = format!("origins = [\"http://127.0.0.1:{page_port}\"]\n");
    let bridge =
        |kind: &str| format!("[[bridge]]\ntype = \"{kind}\"\nbind = \"127.0.0.1:0\"\n{origins}");
    let config = format!("{}{}", bridge("http"), bridge("websocket"));
    let router = Router::with_config(&config, &["--rate-limit", "0"]);
    let http = router.served("http://");
    let stream = Cuttable::before(http);
    let mut desk = router.join("desk");
    desk.ask(json!({"type": "SET", "address": "/show/a", "value": 1}));
    let mut client = router.join("reports");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/browser/**"}));
    let mut reports = Reports { client, kept: Vec::new() };

    let frames = [
        json!({"type": "HELLO", "name": "page"}),
        json!({"type": "SET", "address": "/page/clasp", "value": {"by": "clasp"}}),
        json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/to/clasp"}),
        json!({"type": "PING"}),
    ];
    let frames: String = frames.iter().map(|f| format!("&frame={}", hex(&encode(f)))).collect();
    let page = format!(
        "http://127.0.0.1:{page_port}/browser.html?http=http://{http}&sse=http://{}\
         &ws=ws://{}&clasp={}{frames}",
        stream.address,
        router.served("ws+json://"),
        router.url(),
    );
    let profile = TempFolder::new();
    let browser = chromium(&page, &profile);
    eventually("the browser asks for the page", || {
        pages.errors().contains("GET /browser.html").then_some(())
    });
    let agent = reports.next("loaded");
    assert!(agent.as_str().is_some_and(|agent| agent.contains("Chrome")), "{agent}");

    // `fetch`, with the headers that need a preflight, and those that must be exposed.
    let fetched = reports.next("fetch");
    let want = json!({ "statuses": [201, 200, 412, 200, 204], "tags": ["\"1\"", "\"2\""],
        "value": 0.75 });
    assert_eq!(fetched, want);
    // A page of another origin gets nothing.
    let stranger = reports.next("stranger");
    assert_eq!(stranger["data"], json!(["refused", "refused"]));
    assert_eq!(stranger["origin"], format!("http://localhost:{page_port}"));

    // `EventSource`: what is, what changes, and what was missed while the stream was cut.
    let first = reports.next("sse");
    assert_eq!((&first["kind"], &first["data"]["value"]), (&json!("set"), &json!(1)));
    assert_eq!(reports.next("sse")["kind"], "ready");
    desk.ask(json!({"type": "SET", "address": "/show/a", "value": 2}));
    let second = reports.next("sse");
    assert_eq!((&second["data"]["value"], &second["kind"]), (&json!(2), &json!("set")));
    assert!(stream.cut() >= 2, "the stream has two ends");
    for value in [3, 4] {
        desk.ask(json!({"type": "SET", "address": "/show/a", "value": value}));
    }
    desk.ask(json!({"type": "PUBLISH", "signal": "event", "address": "/show/go", "value": "now"}));
    assert_eq!(reports.next("sse")["kind"], "break");
    let newest = reports.next("sse");
    assert_eq!((&newest["data"]["value"], &newest["kind"]), (&json!(4), &json!("set")));
    let missed = reports.next("sse");
    assert_eq!((&missed["kind"], &missed["data"]["value"]), (&json!("event"), &json!("now")));
    assert_ne!(missed["id"], second["id"]);
    desk.ask(json!({"type": "SET", "address": "/show/a", "value": 5}));
    assert_eq!(reports.next("sse")["data"]["value"], 5, "and it goes on, without a new snapshot");

    // WebSocket with JSON.
    let ack = reports.next("ws");
    assert_eq!((&ack["type"], &ack["id"]), (&json!("ack"), &json!(1)));
    assert_eq!(reports.next("ws"), json!({"type": "ack", "id": 2, "pattern": "/to/ws"}));
    desk.ask(json!({"type": "SET", "address": "/to/ws", "value": "there"}));
    assert_eq!(reports.next("ws")["value"], "there");

    // CLASP itself, in binary frames.
    let mut next_frame = |wanted: &str| loop {
        let told = reports.next("clasp");
        assert_eq!(told["protocol"], "clasp");
        let message = decode(&unhex(told["frame"].as_str().expect("digits")));
        if message["type"] == wanted {
            return message;
        }
    };
    next_frame("WELCOME");
    assert_eq!(next_frame("ACK")["address"], "/page/clasp");
    next_frame("PONG");
    desk.ask(json!({"type": "SET", "address": "/to/clasp", "value": [1, "é"]}));
    let set = next_frame("SET");
    assert_eq!((&set["address"], &set["value"]), (&json!("/to/clasp"), &json!([1, "é"])));
    for by in ["ws", "clasp"] {
        let held = desk.ask(json!({"type": "GET", "address": format!("/page/{by}")}));
        let found = held.iter().any(|m| m["params"][0]["value"] == json!({ "by": by }));
        assert!(found, "{held:?}");
    }
    drop(browser);
}

//! The program as people use it: what is typed, what is printed, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clasp-rt");

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of this test alone, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("clasp-rt-cli-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("the file can be written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A router on a port of its own.
struct Router {
    process: Child,
    url: String,
    /// What it printed before it listened.
    banner: Vec<String>,
}

impl Router {
    fn start(args: &[&str]) -> Self {
        let process = Command::new(PROGRAM)
            .args(["server", "--bind", "127.0.0.1", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut router = Self { process, url: String::new(), banner: Vec::new() };
        let stdout = router.process.stdout.take().expect("stdout is a pipe");
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("listening ") {
                router.url = url.to_owned();
                return router;
            }
            router.banner.push(line);
        }
        panic!("the router ended before it listened: {:?}", router.banner);
    }

    /// The rest of the banner's line that begins with `start`.
    fn said(&self, start: &str) -> Option<&str> {
        self.banner.iter().find_map(|line| line.strip_prefix(start))
    }

    /// `clasp-rt COMMAND --router URL ARGS`
    fn ask(&self, command: &str, args: &[&str]) -> Output {
        let mut line = vec![command, "--router", &self.url];
        line.extend(args);
        run(&line)
    }

    fn end_by(mut self, signal: Signal) -> ExitStatus {
        let id = i32::try_from(self.process.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("it runs");
        self.process.wait().expect("it ends")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_value_that_is_set_can_be_got_by_another_process() {
    let router = Router::start(&[]);
    for value in ["0.5", "1", "true", "\"text\"", "[1,2.5,null]", "{\"a\":[1]}"] {
        let set = router.ask("set", &["/a/b", value]);
        assert!(set.status.success(), "{value}: {}", stderr(&set));
        let got = router.ask("get", &["/a/b", "--json"]);
        let got: serde_json::Value = serde_json::from_str(&stdout(&got)).expect("JSON");
        let expected: serde_json::Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(got, serde_json::json!({ "address": "/a/b", "value": expected }));
    }
}

#[test]
fn a_subscriber_prints_what_others_set_and_publish() {
    let router = Router::start(&["--shards", "2"]);
    let set = router.ask("set", &["/a/b", "1"]);
    assert!(set.status.success(), "{}", stderr(&set));
    // The param is there already, so the first line says that the subscription stands.
    let mut subscriber = Command::new(PROGRAM)
        .args(["sub", "--router", &router.url, "/a/**", "--json", "--count", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(subscriber.stdout.take().expect("a pipe")).lines();
    let mut next = || -> serde_json::Value {
        let line = lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    };
    let first = next();
    assert_eq!((&first["address"], &first["value"]), (&"/a/b".into(), &1.into()));
    assert!(router.ask("set", &["/a/b", "2"]).status.success());
    let second = next();
    assert_eq!((&second["value"], &second["revision"]), (&2.into(), &2.into()));
    assert!(router.ask("pub", &["/a/cue", "go"]).status.success());
    let third = next();
    assert_eq!((&third["kind"], &third["value"]), (&"event".into(), &"go".into()));
    assert!(subscriber.wait().expect("it ends").success());
}

#[test]
fn an_address_that_holds_nothing_is_not_a_failure_of_the_router() {
    let router = Router::start(&[]);
    let got = router.ask("get", &["/nobody/was/here"]);
    assert_eq!(got.status.code(), Some(4), "{}", stderr(&got));
    assert!(stderr(&got).contains("/nobody/was/here"), "{}", stderr(&got));
}

#[test]
fn a_router_with_tokens_refuses_strangers_and_obeys_scopes() {
    let router = Router::start(&["--token", "tech write:/a/**", "--token", "look read:/**"]);
    let cases = [
        (None, "set", vec!["/a/b", "1"], 1, "300"),
        (Some("wrong"), "set", vec!["/a/b", "1"], 1, "300"),
        (Some("look"), "set", vec!["/a/b", "1"], 1, "301"),
        (Some("tech"), "set", vec!["/b", "1"], 1, "301"),
        (Some("tech"), "set", vec!["/a/b", "1"], 0, ""),
        (Some("look"), "get", vec!["/a/b"], 0, ""),
    ];
    for (token, command, mut args, code, said) in cases {
        if let Some(token) = token {
            args.extend(["--token", token]);
        }
        let output = router.ask(command, &args);
        assert_eq!(output.status.code(), Some(code), "{token:?} {args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{token:?} {args:?}: {}", stderr(&output));
    }
}

#[test]
fn counters_can_be_asked_for() {
    let router = Router::start(&["--shards", "2", "--metrics", "127.0.0.1:0"]);
    let addr = router.said("metrics http://").expect("it says where").trim_end_matches("/metrics");
    assert!(router.ask("set", &["/a/b", "1"]).status.success());
    let ask = |path: &str| {
        let mut peer = TcpStream::connect(addr).expect("it listens");
        write!(peer, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let answer = ask("/metrics");
    for said in ["HTTP/1.1 200 OK", "clasp_rt_turns_total{shard=\"0\"} ", "{shard=\"1\"} "] {
        assert!(answer.contains(said), "{said} in {answer}");
    }
    assert!(ask("/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_signal_ends_the_router_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let status = Router::start(&[]).end_by(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_router_that_is_not_there_is_named_together_with_the_remedy() {
    // A port that was free a moment ago; nothing listens on it.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", free.local_addr().expect("an address"));
    drop(free);
    for command in
        [vec!["get", "/a"], vec!["set", "/a", "1"], vec!["pub", "/a"], vec!["sub", "/**"]]
    {
        let mut args = command.clone();
        args.extend(["--router", &url]);
        let output = run(&args);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", stderr(&output));
        for said in [url.as_str(), "clasp-rt server"] {
            assert!(stderr(&output).contains(said), "{command:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn check_finds_every_mistake_with_its_line() {
    let file = Scratch::new(
        "wrong.toml",
        "[server]\nprot = 7330\nidle = \"spinn\"\n\n[[rule]]\npattern = \"dmx\"\nrule = \"max\"\n",
    );
    let output = run(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    for mistake in ["line 2: ", "`port`", "line 3: ", "`spin`", "line 6: rule[0].pattern"] {
        assert!(said.contains(mistake), "{mistake} in {said}");
    }
}

#[test]
fn check_says_of_each_wrong_value_of_a_bridge_where_it_stands_and_which_are_right() {
    let text = "[[bridge]]\ntype = \"osc\"\nreply = \"sendr\"\nbundle_ms = 5000\n\
        [[bridge]]\ntype = \"http\"\ntls = \"cert.pem\"\n\
        [[bridge.poll]]\nurl = 1\nvalues = { \"/a\" = 2 }\n\
        [[bridge.webhook]]\npattern = \"/cue/*\"\nurl = \"http://127.0.0.1/\"\n\
        method = 3\ntries_max = \"4\"\n\
        [[route]]\nfrom = \"/a\"\nto = \"/b\"\n\
        transform = [{ type = \"scale\", from_min = \"0\", from_max = 1, to_min = 0, to_mx = 1 }]\n\
        [[route]]\nfrom = 1\nto = \"/b\"\naggregate = \"average\"\n";
    let file = Scratch::new("values.toml", text);
    let output = run(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output).replace(&format!("{}: ", file.path()), "");
    let mut lines: Vec<_> = said.lines().map(str::trim).collect();
    assert_eq!(lines.remove(0), "clasp-rt: 11 problems", "{said}");
    let told = [
        "line 3: bridge[0].reply: string \"sendr\" should be a port such as 9000, or \"sender\"",
        "line 4: bridge[0].bundle_ms: 5000 must be 0 to 1000",
        "line 7: bridge[1].tls: string \"cert.pem\" should be a table such as { cert =",
        "line 9: bridge[1].poll[0].url: integer `1` should be a \"text\" in quotes",
        "line 10: bridge[1].poll[0].values./a: integer `2` should be a \"text\" in quotes",
        "line 14: bridge[1].webhook[0].method: integer `3` should be one of \"POST\", \"PUT\",",
        "line 15: bridge[1].webhook[0].tries_max: string \"4\" should be a whole number from 0 to",
        "line 19: route[0].transform[0].from_min: string \"0\" should be a number",
        "line 19: route[0].transform[0].to_mx: unknown key `to_mx`: did you mean `to_max`?",
        "line 21: route[1].from: integer `1` should be a pattern such as \"/desk/*\", or a list of",
        "line 23: route[1].aggregate: string \"average\" should be a table such as { type =",
    ];
    for (line, told) in lines.iter().zip(told) {
        assert!(line.starts_with(told), "{line}, not {told}");
    }
}

#[test]
fn check_says_of_each_wrong_value_of_a_transform_its_own_line() {
    let text = "[[route]]\nfrom = \"/a\"\nto = \"/b\"\n\
        transform = [\n{ type = \"invert\" },\n{ type = \"clamp\",\nmin = 2, max = 1 },\n\
        { type = \"expression\", expr = \"\" },\n]\n\
        [[route]]\nfrom = \"/a\"\nto = \"/b\"\n[[route.transform]]\ntype = \"round\"\n\
        decimals = 16\n[[bridge]]\ntype = \"sacn\"\n\
        cid = \"00000000-0000-0000-0000-000000000000\"\ntargets = [\n\"10.0.0.5\",\n\
        \"10.0.0.5:0\",\n\"10.0.0.6:0\"]\n[server]\ntimeline_interval_ms = 0\n";
    let file = Scratch::new("transforms.toml", text);
    let output = run(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output).replace(&format!("{}: ", file.path()), "");
    let told = [
        "line 7: route[0].transform[1].min: must not be above max",
        "line 8: route[0].transform[2].expr: is empty: write a formula such as `value * 2`",
        "line 15: route[1].transform[0].decimals: must be at most 15",
        "line 18: bridge[0].cid: `00000000-0000-0000-0000-000000000000`: names nobody: write",
        "line 21: bridge[0].targets[1]: `10.0.0.5:0`: a port is 1 to 65535",
        "line 22: bridge[0].targets[2]: `10.0.0.6:0`: a port is 1 to 65535",
        "line 24: server.timeline_interval_ms: 0 leaves no time between two values",
    ];
    for told in told {
        assert!(said.lines().any(|line| line.trim().starts_with(told)), "{told} in {said}");
    }
    assert!(said.starts_with("clasp-rt: 7 problems"), "{said}");
}

#[test]
fn check_touches_nothing() {
    let tokens = Scratch::new("tokens", "secret read:/**\n");
    let file = Scratch::new(
        "right.toml",
        &format!("[auth]\ntoken_file = {:?}\n[server]\nport = 1\n", tokens.path()),
    );
    let before = fs::metadata(&tokens.0).and_then(|data| data.modified()).expect("a time");
    let output = run(&["check", file.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("fine"));
    assert_eq!(fs::metadata(&tokens.0).and_then(|data| data.modified()).expect("a time"), before);
}

#[test]
fn every_example_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the examples are there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|kind| kind != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        // Cores that this machine may not have are the one thing that may be wrong here.
        let file = Scratch::new(
            &format!("example-{count}.toml"),
            &text.lines().filter(|l| !l.starts_with("cores")).collect::<Vec<_>>().join("\n"),
        );
        let output = run(&["check", file.path()]);
        assert!(output.status.success(), "{}: {}", path.display(), stderr(&output));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_plan_counts_every_byte_that_it_names() {
    let output = run(&["plan", "--json", "--shards", "2", "--port", "7331"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let terms = plan["memory"].as_array().expect("a list");
    let sum: u64 = terms.iter().filter_map(|term| term["bytes"].as_u64()).sum();
    assert_eq!(plan["memory_bytes"].as_u64(), Some(sum));
    assert_eq!(plan["listens"][0], "ws://0.0.0.0:7331");
    assert_eq!(plan["shards"].as_array().map(Vec::len), Some(2));

    let table = stdout(&run(&["plan", "--shards", "2", "--port", "7331"]));
    for said in ["ws://0.0.0.0:7331", "params_max", "memory taken at start"] {
        assert!(table.contains(said), "{said} in {table}");
    }
}

#[test]
fn a_core_that_is_not_there_is_named_with_those_that_are() {
    let output = run(&["plan", "--cores", "8000"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--cores: core 8000 is not there"), "{}", stderr(&output));
    assert!(stderr(&output).contains("the cores that are: "), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&["server", "--bind", "127.0.0.1", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let us = format!("(process {}) has port {port}: end it, or", std::process::id());
    assert!(said.contains(&format!("127.0.0.1:{port}: cli")) && said.contains(&us), "{said}");
}

#[test]
fn what_a_bridge_cannot_have_is_told_with_its_place_in_the_file_and_what_it_can_have() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let us = format!("(process {}) has port", std::process::id());
    let cases = [
        ("osc", "192.0.2.7:9000", "cannot use UDP 192.0.2.7:9000: 192.0.2.7 is no address of"),
        ("http", taken.as_str(), us.as_str()),
        ("websocket", "192.0.2.7:0", "is no address of this machine, which has "),
        ("mqtt-listener", taken.as_str(), us.as_str()),
    ];
    for (kind, bind, why) in cases {
        for (more, named) in [("", kind.to_owned()), ("name = \"b\"\n", format!("{kind} `b`"))] {
            // Not all services have a name of their own.
            if !more.is_empty() && kind != "osc" {
                continue;
            }
            let text = format!(
                "[server]\nport = 0\nbind = \"127.0.0.1\"\n[[bridge]]\ntype = \"osc\"\n\
                 bind = \"127.0.0.1:0\"\n[[bridge]]\ntype = \"{kind}\"\nbind = \"{bind}\"\n{more}"
            );
            let file = Scratch::new(&format!("start-{kind}.toml"), &text);
            let output = run(&["server", "--config", file.path()]);
            assert_eq!(output.status.code(), Some(1), "{kind}");
            let said = stderr(&output);
            let place = format!("clasp-rt: line 7: bridge[1] ({named}): cannot ");
            assert!(said.contains(&place) && said.contains(why), "{said}");
        }
    }
}

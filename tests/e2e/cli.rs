//! The program's commands, as people type them in a shell.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use clasp_rt_tests::eventually;
use clasp_rt_tests::program::{Program, clasp_rt, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use serde_json::{Value as Json, json};

#[test]
fn a_value_that_is_set_can_be_got() {
    let router = Router::start(&["--shards", "1"]);
    let cases = [
        ("0.8", "0.8"),
        ("-1", "-1"),
        ("true", "true"),
        ("go", "go"),
        ("two words", "two words"),
        ("[1,2.5,null]", "[1,2.5,null]"),
        ("{\"r\":255}", "{\"r\":255}"),
    ];
    for (typed, shown) in cases {
        let set = clasp(&router, &["set", "/lights/strip1/look", typed]);
        assert_eq!(set.status.code(), Some(0), "{typed}: {}", errors(&set));
        let got = clasp(&router, &["get", "/lights/strip1/look"]);
        assert_eq!((text(&got), got.status.code()), (format!("{shown}\n"), Some(0)), "{typed}");
    }
    let got = clasp(&router, &["get", "/lights/strip1/look", "--json"]);
    let line: Json = serde_json::from_slice(&got.stdout).expect("a line of JSON");
    assert_eq!(line, json!({"address": "/lights/strip1/look", "value": {"r": 255}}));
}

#[test]
fn sub_prints_what_is_and_then_what_changes() {
    let router = Router::start(&["--shards", "1"]);
    clasp(&router, &["set", "/lights/1/level", "0.25"]);
    let sub = Program::start(&mut command(&router, &["sub", "/lights/*/level", "--count", "2"]));
    assert_eq!(sub.line().as_deref(), Some("/lights/1/level 0.25"));
    clasp(&router, &["set", "/lights/1/colour", "red"]);
    clasp(&router, &["set", "/lights/2/level", "1"]);
    assert_eq!(sub.line().as_deref(), Some("/lights/2/level 1"));
    assert_eq!(sub.line(), None, "--count was reached");
}

#[test]
fn pub_sends_an_event_to_those_who_listen() {
    let router = Router::start(&["--shards", "2"]);
    let mut arguments = command(&router, &["sub", "/cue/*", "--count", "1", "--json"]);
    let mut sub = Program::start(&mut arguments);
    eventually("the event is heard", || {
        let sent = clasp(&router, &["pub", "/cue/go", "{\"number\": 12}"]);
        assert_eq!(sent.status.code(), Some(0), "{}", errors(&sent));
        (!sub.is_running()).then_some(())
    });
    let line: Json = serde_json::from_str(&sub.line().expect("a line")).expect("JSON");
    assert_eq!((&line["address"], &line["value"]), (&json!("/cue/go"), &json!({"number": 12})));
}

#[test]
fn watch_shows_the_newest_value_of_each_address() {
    let router = Router::start(&["--shards", "1"]);
    clasp(&router, &["set", "/a", "1"]);
    clasp(&router, &["set", "/a", "2"]);
    clasp(&router, &["set", "/b", "text"]);
    let watched = clasp(&router, &["watch", "/**", "--count", "2"]);
    let said = text(&watched);
    let row = |address: &str| {
        let line = said.lines().rev().find(|line| line.split_whitespace().next() == Some(address));
        line.unwrap_or_else(|| panic!("no {address} in {said:?}")).to_string()
    };
    assert!(row("/a").trim_end().ends_with('2'), "{said}");
    assert!(row("/b").trim_end().ends_with("text"), "{said}");
}

#[test]
fn who_takes_the_port_for_another_one_is_told_which_it_is() {
    let router = Router::start(&["--shards", "1", "--tcp-port", "0"]);
    let (ws, tcp) = (router.address(), router.tcp_address());
    for (asked, meant) in [
        (format!("ws://{tcp}/clasp"), format!("try --router tcp://{tcp}.")),
        (format!("tcp://{ws}"), format!("try --router ws://{ws}.")),
    ] {
        let got = run(Command::new(clasp_rt()).args(["get", "/a", "--router", &asked]));
        assert_eq!(got.status.code(), Some(3), "{asked}");
        assert!(errors(&got).contains(&meant), "{asked}: {}", errors(&got));
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let router = Router::start(&["--shards", "1"]);
    // A port that nobody listens on: taken and given back.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let nobody = format!("ws://{free}");
    let cases: [(&[&str], i32, &str); 10] = [
        (&["why", "nope"], 1, "begin with"),
        (&["record", "/nowhere", "--core", "4000"], 2, "core 4000"),
        (&["sub", "/x", "--timeout", "1e19"], 2, "86400"),
        (&["--cores", "7-2"], 2, "for '--cores <CORES>'"),
        (&["get", "/nowhere", "--timeout", "2"], 4, "/nowhere"),
        (&["set", "noslash", "1"], 1, "noslash"),
        (&["sub", "/silence", "--timeout", "0.2"], 4, "/silence"),
        (&["set", "/a"], 2, "VALUE"),
        (&["fly"], 2, "fly"),
        (&["get", "/a", "--router", &nobody], 3, &nobody),
    ];
    for (arguments, code, fact) in cases {
        let output = if arguments.contains(&"--router") || code == 2 {
            run(Command::new(clasp_rt()).args(arguments))
        } else {
            clasp(&router, arguments)
        };
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(fact), "{arguments:?} does not name {fact}: {said}");
    }
}

#[test]
fn a_token_opens_a_guarded_router() {
    let guarded =
        ["--shards", "1", "--auth-mode", "authenticated", "--token", "cpsk_x write:/a/**"];
    let router = Router::start(&guarded);
    let set = |arguments: &[&str]| clasp(&router, &[&["set"], arguments].concat()).status.code();
    assert_eq!(set(&["/a/x", "1", "--token", "cpsk_x"]), Some(0));
    assert_ne!(set(&["/b/x", "1", "--token", "cpsk_x"]), Some(0));
    assert_ne!(set(&["/a/x", "1", "--token", "cpsk_y"]), Some(0));
}

#[test]
fn check_names_every_mistake_with_its_line() {
    let wrong = TempFile::new("toml", "[server]\nprot = 7330\nshards = \"two\"\n");
    let output = run(Command::new(clasp_rt()).arg("check").arg(&wrong.path));
    let said = text(&output) + &errors(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for fact in ["prot", "port", "shards", "2", "3"] {
        assert!(said.contains(fact), "{fact} is missing: {said}");
    }
    let right = TempFile::new("toml", "[server]\nport = 7330\nshards = 2\n");
    let output = run(Command::new(clasp_rt()).arg("check").arg(&right.path));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
}

#[test]
fn plan_says_what_would_run_and_runs_nothing() {
    let plan = |more: &[&str]| {
        let arguments = [&["plan", "--shards", "1", "--port", "7330"], more].concat();
        run(Command::new(clasp_rt()).args(arguments))
    };
    let output = plan(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(text(&output).contains("7330"), "{}", text(&output));
    let output = plan(&["--json"]);
    let json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json.is_object(), "{json}");
    let output = run(Command::new(clasp_rt()).args(["plan", "--cores", "4000"]));
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(errors(&output).contains("4000"), "{}", errors(&output));
}

#[test]
fn help_teaches_every_command() {
    let help = run(Command::new(clasp_rt()).arg("--help"));
    for word in ["server", "osc", "artnet", "pub", "set", "get", "sub", "watch", "check", "plan"] {
        assert!(text(&help).contains(word), "{word} is missing");
    }
}

fn clasp(router: &Router, arguments: &[&str]) -> Output {
    run(&mut command(router, arguments))
}

fn command(router: &Router, arguments: &[&str]) -> Command {
    let mut command = Command::new(clasp_rt());
    command.args(arguments).args(["--router", &router.url()]);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn whoever_finds_the_router_full_is_told_so() {
    let limits = ["--shards", "1", "--max-sessions", "1", "--handshake-timeout", "120"];
    let router = Router::start(&limits);
    let _only = router.join("the one that it may have");
    let full = clasp(&router, &["get", "/a"]);
    assert!(errors(&full).contains("no session is free on this router (501)"), "{full:?}");
    // Connections that say nothing take the places where others are turned away with a reason.
    let silent = || TcpStream::connect(router.address()).expect("the router listens");
    let mut held: Vec<_> = (0..60).map(|_| silent()).collect();
    let said = loop {
        let said = errors(&clasp(&router, &["get", "/a"]));
        if !said.contains("(501)") {
            break said;
        }
        held.push(silent());
        assert!(held.len() < 200, "there is always a place: {said}");
    };
    assert!(said.contains("the connection broke before WELCOME"), "{said}");
    assert!(said.contains("the router may be full"), "{said}");
    let mut bridge = command(&router, &["osc", "--bind", "127.0.0.1", "--port", "0"]);
    let bridge = Program::start(&mut bridge);
    let hint = "does not let us in: the connection ended before WELCOME; the router may be full";
    eventually("the bridge says why", || bridge.errors().contains(hint).then_some(()));
}

#[test]
fn a_log_that_nobody_takes_ends_nothing_and_holds_nothing_up() {
    // One entry of the log names every mistake, and is more than a pipe holds.
    let wrong: String = (0..4_000).map(|number| format!("nonsense_{number} = 1\n")).collect();
    let unread = std::env::temp_dir().join(format!("clasp-rt-log-{}", std::process::id()));
    let made = Command::new("mkfifo").arg(&unread).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is part of coreutils");
    // Open for both, so that there is a reader, which never reads.
    let reader = std::fs::File::options().read(true).write(true).open(&unread).expect("a pipe");
    std::fs::remove_file(&unread).ok();
    let unread = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    for stderr in ["/dev/full", &unread] {
        let config = TempFile::new("toml", "[server]\nname = \"log\"\n");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" 2> {stderr}")]).arg(clasp_rt());
        command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--idle", "park"]);
        command.args(["--shards", "1", "--config"]).arg(&config.path);
        let mut router = Program::start(&mut command);
        let line = router.line_where(|line| line.starts_with("listening ws://"));
        let url = line.trim_start_matches("listening ");
        std::fs::write(&config.path, &wrong).expect("a file of ours");
        router.signal("HUP");
        let set = run(Command::new(clasp_rt()).args(["set", "/a", "1", "--router", url]));
        assert_eq!(set.status.code(), Some(0), "{stderr}: {}", errors(&set));
        assert_eq!(router.terminate().code(), Some(0), "{stderr}");
    }
}

#[test]
fn a_command_whose_output_nobody_takes_does_not_panic() {
    let file = TempFile::new("toml", "[server]\nport = 7330\n");
    let file = file.path.display();
    let lines = ["plan".to_owned(), format!("check {file}"), "completions bash".to_owned()];
    for line in lines {
        for (stdout, code) in [("| true", 0), ("> /dev/full", 1)] {
            // What ends a pipeline is the last program's; so the first one's code is printed.
            let script = format!("{{ \"$0\" {line}; echo ended $? >&2; }} {stdout}");
            let output = run(Command::new("sh").args(["-c", &script]).arg(clasp_rt()));
            let said = errors(&output);
            assert!(said.contains(&format!("ended {code}")), "{line} {stdout}: {said}");
        }
    }
}

#[test]
fn what_a_value_says_to_a_terminal_is_spelled_out() {
    let router = Router::start(&["--shards", "1"]);
    let set = clasp(&router, &["set", "/esc", "\u{1b}[2Jtwo\nlines"]);
    assert_eq!(set.status.code(), Some(0), "{}", errors(&set));
    let shown = "\\u{1b}[2Jtwo\\nlines";
    assert_eq!(text(&clasp(&router, &["get", "/esc"])), format!("{shown}\n"));
    let sub = clasp(&router, &["sub", "/esc", "--count", "1"]);
    assert_eq!(text(&sub), format!("/esc {shown}\n"));
    let watched = text(&clasp(&router, &["watch", "/esc", "--count", "1"]));
    assert!(watched.contains(shown) && !watched.contains('\u{1b}'), "{watched:?}");
    let why = text(&clasp(&router, &["why", "/esc"]));
    assert!(why.contains(shown) && !why.contains('\u{1b}'), "{why:?}");
}

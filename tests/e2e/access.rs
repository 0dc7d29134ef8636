//! Authenticated mode: who may do what, and what the others are told.

use std::net::UdpSocket;
use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::program::{Program, clasp_rt};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use serde_json::{Value as Json, json};
use tungstenite::protocol::frame::coding::CloseCode;

const TOKENS: &str = "
# token        scopes
cpsk_admin
cpsk_all       admin:/**
cpsk_reader    read:/a/*
cpsk_both      read:/a/**,write:/a/**,r:/b/x
cpsk_writer    write:/a/**
cpsk_expired   admin:/** exp=1000
cpsk_osc       read:/osc/**
";

const NOTHING: [Json; 0] = [];

#[test]
fn only_a_valid_token_is_welcome() {
    let (router, _tokens) = guarded();
    // The published capability tokens are forgeable; a router that does not issue them refuses all.
    let cases = [
        (None, 300),
        (Some("cpsk_wrong"), 300),
        (Some("cpsk_admi"), 300),
        (Some("cap_gqd2ZXJzaW9uAQ"), 300),
        (Some("nonsense"), 300),
        (Some("cpsk_expired"), 302),
    ];
    for (token, code) in cases {
        let mut client = router.connect();
        client.send(json!({"type": "HELLO", "name": "stranger", "token": token}));
        let (close, messages) = client.receive_close();
        assert_eq!(close, CloseCode::Policy, "{token:?}");
        assert_eq!(messages.len(), 1, "{token:?}: {messages:?}");
        assert_eq!(messages[0]["code"], code, "{token:?}: {messages:?}");
    }
}

#[test]
fn a_bridge_elsewhere_says_why_it_may_not_join_or_write() {
    let (router, _tokens) = guarded();
    let device = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let cases = [
        ("cpsk_wrong", "does not let us in: token is not known to this router (300)", false),
        ("cpsk_osc", "the router refuses what osc says", true),
    ];
    for (token, said, joins) in cases {
        let probe = UdpSocket::bind("127.0.0.1:0").and_then(|probe| probe.local_addr());
        let port = probe.expect("a free port").port();
        let mut command = Command::new(clasp_rt());
        command.args(["osc", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        let bridge = Program::start(command.args(["--router", &router.url(), "--token", token]));
        let errors = eventually(said, || {
            // Nobody may listen yet.
            let _ = device.send_to(b"/x\0\0,i\0\0\0\0\0\x01", ("127.0.0.1", port));
            Some(bridge.errors()).filter(|errors| errors.contains(said))
        });
        assert_eq!(errors.contains("joined the router"), joins, "{errors}");
        assert_eq!(errors.matches(said).count(), 1, "once is enough: {errors}");
        assert!(!joins || errors.contains("no scope of this token allows it"), "{errors}");
    }
}

#[test]
fn subscribing_needs_a_scope_that_covers_the_whole_pattern() {
    let (router, _tokens) = guarded();
    let cases = [
        ("cpsk_admin", "/**", true),
        ("cpsk_all", "/**", true),
        ("cpsk_reader", "/a/x", true),
        ("cpsk_reader", "/a/*", true),
        ("cpsk_reader", "/a/**", false),
        ("cpsk_reader", "/**", false),
        ("cpsk_reader", "/b", false),
        ("cpsk_both", "/a/**", true),
        ("cpsk_both", "/a/b/*", true),
        ("cpsk_both", "/b/x", true),
        ("cpsk_both", "/b/*", false),
        ("cpsk_writer", "/a/x", false),
    ];
    for (token, pattern, allowed) in cases {
        let mut client = join(&router, token);
        let answers = client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": pattern}));
        if allowed {
            assert_eq!(answers, NOTHING, "{token} {pattern}");
        } else {
            assert_eq!(answers.len(), 1, "{token} {pattern}: {answers:?}");
            assert_eq!(answers[0]["code"], 301, "{token} {pattern}: {answers:?}");
        }
    }
}

#[test]
fn each_operation_needs_its_scope() {
    let (router, _tokens) = guarded();
    let mut admin = join(&router, "cpsk_admin");
    admin.ask(json!({"type": "SET", "address": "/a/x", "value": 1}));
    let set = json!({"type": "SET", "address": "/a/x", "value": 1});
    let event = json!({"type": "PUBLISH", "address": "/a/x", "signal": "event", "value": 1});
    let get = json!({"type": "GET", "address": "/a/x"});
    let bundle = json!({"type": "BUNDLE", "messages": [set.clone()]});
    let elsewhere = json!({"type": "SET", "address": "/b/x", "value": 1});
    let refused = |code: u64| Some(json!(code));
    let cases = [
        ("cpsk_reader", &set, refused(301)),
        ("cpsk_reader", &event, refused(301)),
        ("cpsk_reader", &bundle, refused(403)),
        ("cpsk_reader", &get, None),
        ("cpsk_writer", &set, None),
        ("cpsk_writer", &event, None),
        ("cpsk_writer", &bundle, None),
        ("cpsk_writer", &get, None),
        ("cpsk_writer", &elsewhere, refused(301)),
        ("cpsk_both", &elsewhere, refused(301)),
        ("cpsk_all", &elsewhere, None),
    ];
    for (token, message, wanted) in cases {
        let answers = join(&router, token).ask(message.clone());
        let code = answers.iter().find_map(|answer| answer.get("code")).cloned();
        assert_eq!(code, wanted, "{token} {message}: {answers:?}");
    }
}

#[test]
fn nobody_is_shown_what_it_may_not_read() {
    let (router, _tokens) = guarded();
    let mut admin = join(&router, "cpsk_admin");
    for address in ["/a/x", "/a/x/deep", "/secret/x"] {
        admin.ask(json!({"type": "SET", "address": address, "value": 1}));
    }
    let mut reader = router.connect();
    reader.hello(json!({"type": "HELLO", "name": "reader", "token": "cpsk_reader"}));
    let shown: Vec<_> = reader
        .receive_all()
        .iter()
        .flat_map(|snapshot| snapshot["params"].as_array().expect("params").clone())
        .map(|param| param["address"].clone())
        .collect();
    assert_eq!(shown, [json!("/a/x")]);
    let answers = reader.ask(json!({"type": "GET", "address": "/secret/x"}));
    assert_eq!(answers[0]["code"], 301, "{answers:?}");
}

#[test]
fn a_token_file_says_which_line_is_wrong() {
    let tokens = TempFile::new("tokens", "cpsk_a read:/**\n\ncpsk_b fly:/**\n");
    let mut command = std::process::Command::new(clasp_rt_tests::program::clasp_rt());
    command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--auth-mode", "authenticated"]);
    let output = clasp_rt_tests::program::run(command.arg("--token-file").arg(&tokens.path));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains('3') && said.contains("fly"), "{said}");
}

/// A router in authenticated mode.
fn guarded() -> (Router, TempFile) {
    let tokens = TempFile::new("tokens", TOKENS);
    let path = tokens.path.to_str().expect("a path of plain text");
    let arguments = ["--shards", "1", "--auth-mode", "authenticated", "--token-file", path];
    (Router::start(&arguments), tokens)
}

fn join(router: &Router, token: &str) -> Raw {
    let mut client = router.connect();
    client.hello(json!({"type": "HELLO", "name": token, "token": token}));
    let snapshots = client.receive_all();
    assert!(snapshots.iter().all(|message| message["type"] == "SNAPSHOT"), "{snapshots:?}");
    assert!(!snapshots.is_empty(), "there is always one, even if it is empty");
    client
}

//! From the first byte of a connection to the first snapshot, and how a connection ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use clasp_rt_tests::router::Router;
use clasp_rt_tests::{PATIENCE, eventually, frame};
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

/// The router reads the wall clock once a second and counts on from there: 3 µs off were seen. What
/// is promised on a wired network is a thousand times that.
const CLOCK_ERROR_US_MAX: u64 = 1_000;

#[test]
fn hello_is_answered_by_welcome_and_a_snapshot() {
    let router = Router::start(&["--shards", "1", "--name", "stage left"]);
    let mut client = router.connect();
    let before = unix_us();
    let welcome = client.hello(json!({"type": "HELLO", "name": "desk"}));
    let after = unix_us();
    assert_eq!(welcome["version"], 1);
    assert_eq!(welcome["features"], json!(["param", "event", "stream", "gesture", "timeline"]));
    assert_eq!(welcome["name"], "stage left");
    assert_eq!(welcome["token"], "");
    // Clients set their clocks by it.
    let time = welcome["time"].as_u64().expect("a time");
    let plausible = before - CLOCK_ERROR_US_MAX..=after + CLOCK_ERROR_US_MAX;
    assert!(plausible.contains(&time), "{time} is not within {before} to {after}");
    assert!(is_uuid_v4(&client.session), "{} is not a UUID v4", client.session);
    assert_eq!(frame::hex(&client.receive_bytes()), "53010003230000", "an empty snapshot");
    assert_eq!(client.receive_all(), [json!(null); 0], "nothing follows");
}

#[test]
fn every_session_has_an_id_of_its_own() {
    let router = Router::start(&["--shards", "2"]);
    let mut ids: Vec<_> = (0..20).map(|_| router.join("one of many").session).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn any_protocol_version_is_welcome() {
    let router = Router::start(&["--shards", "1"]);
    for version in [0, 1, 99, 255] {
        let welcome =
            router.connect().hello(json!({"type": "HELLO", "name": "old", "version": version}));
        assert_eq!(welcome["version"], 1, "to version {version}");
    }
}

#[test]
fn a_connection_that_does_not_begin_with_hello_is_refused_and_closed() {
    let router = Router::start(&["--shards", "1"]);
    let set = frame::encode(&json!({"type": "SET", "address": "/a", "value": 1}));
    let cases: [(&str, &[u8]); 4] = [
        ("SET", &set),
        ("an unknown message", &frame::unhex("530100017f")),
        ("no frame at all", b"GET / HTTP/1.1\r\n\r\n"),
        ("half a HELLO", &frame::unhex("530100030101e0")),
    ];
    for (what, first) in cases {
        let mut client = router.connect();
        client.send_bytes(first);
        let (code, messages) = client.receive_close();
        assert_eq!(code, CloseCode::Protocol, "{what}");
        assert_eq!(messages.len(), 1, "{what}: {messages:?}");
        assert_eq!(messages[0]["type"], "ERROR", "{what}: {messages:?}");
        assert!([100, 101].map(|code| json!(code)).contains(&messages[0]["code"]), "{messages:?}");
    }
    assert_eq!(router.join("next").receive_all(), [json!(null); 0], "nothing was set");
}

#[test]
fn a_connection_that_never_says_hello_is_closed_in_time() {
    let router = Router::start(&["--shards", "1", "--handshake-timeout", "1"]);
    let (code, messages) = router.connect().receive_close();
    assert_eq!((code, messages), (CloseCode::Policy, vec![]));
}

#[test]
fn one_session_too_many_is_told_so_and_closed() {
    for shards in ["1", "2"] {
        let router = Router::start(&["--shards", shards, "--max-sessions", "2"]);
        let first = router.join("first");
        let _second = router.join("second");
        let mut third = router.connect();
        // May already be closing.
        let hello = frame::encode(&json!({"type": "HELLO", "name": "third"}));
        let _ = third.try_send(Message::binary(hello));
        let (code, messages) = third.receive_close();
        assert_eq!(code, CloseCode::Again, "{messages:?}");
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!((&messages[0]["type"], &messages[0]["code"]), (&json!("ERROR"), &json!(501)));
        first.leave();
        eventually("a place that was given up can be taken", || {
            let mut next = router.connect();
            let hello = frame::encode(&json!({"type": "HELLO", "name": "next"}));
            let _ = next.try_send(Message::binary(hello));
            (next.receive()["type"] == "WELCOME").then_some(())
        });
    }
}

#[test]
fn a_second_hello_does_not_double_what_arrives() {
    let router = Router::start(&["--shards", "1"]);
    let mut client = router.join("twice");
    let subscribe = json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/a"});
    client.ask(subscribe.clone());
    client.ask(json!({"type": "HELLO", "name": "again"}));
    client.ask(subscribe);
    let heard = client.ask(json!({"type": "SET", "address": "/a", "value": 1, "qos": 0}));
    assert_eq!(heard.len(), 1, "{heard:?}");
}

#[test]
fn plain_http_is_answered_politely() {
    let router = Router::start(&["--shards", "1"]);
    for (request, body) in [("GET / HTTP/1.1", "ok\n"), ("HEAD /health HTTP/1.1", "")] {
        let mut stream = TcpStream::connect(router.address()).expect("the router listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        stream.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the router answers and closes");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request}: {answer:?}");
        assert!(
            answer.to_lowercase().contains("content-type: text/plain"),
            "{request}: {answer:?}"
        );
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{request}: {answer:?}");
    }
}

#[test]
fn a_device_may_come_over_tcp() {
    let router = Router::start(&["--shards", "1", "--tcp-port", "0"]);
    let mut stream = TcpStream::connect(router.tcp_address()).expect("the router listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
    let messages = [
        json!({"type": "HELLO", "name": "device"}),
        json!({"type": "SET", "address": "/a", "value": 1}),
    ];
    for frame in messages.iter().map(frame::encode) {
        let length = (frame.len() as u32).to_be_bytes();
        // Byte by byte, as a small device might.
        for byte in length.into_iter().chain(frame) {
            stream.write_all(&[byte]).expect("the router reads");
        }
    }
    let mut receive = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a length");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).expect("a frame");
        frame::decode(&frame)
    };
    assert_eq!(receive()["type"], "WELCOME");
    assert_eq!(receive()["type"], "SNAPSHOT");
    assert_eq!(receive(), json!({"type": "ACK", "address": "/a", "revision": 1}));
    let found = router.join("page").ask(json!({"type": "GET", "address": "/a"}));
    assert_eq!(found[0]["params"][0]["value"], 1, "{found:?}");
}

#[test]
fn a_person_can_type_json() {
    let router = Router::start(&["--shards", "1"]);
    let mut typist = router.connect();
    typist.send_text(r#"{"type": "HELLO", "name": "me"}"#);
    let receive = |client: &mut clasp_rt_tests::raw::Raw| -> serde_json::Value {
        let text = client.receive_text();
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{text:?} is not JSON: {why}"))
    };
    assert_eq!(receive(&mut typist)["type"], "WELCOME");
    assert_eq!(receive(&mut typist)["type"], "SNAPSHOT");
    let mut desk = router.join("desk");
    desk.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    typist.send_text(r#"{"type": "SET", "address": "/a", "value": 0.5}"#);
    let ack = receive(&mut typist);
    assert_eq!((&ack["type"], &ack["revision"]), (&json!("ACK"), &json!(1)), "{ack}");
    let heard = desk.receive_type("SET");
    assert_eq!((&heard["address"], &heard["value"]), (&json!("/a"), &json!(0.5)));
    typist.send_text(r#"{"type": "SET", "adress": "/a", "value": 0.5}"#);
    let error = receive(&mut typist);
    assert_eq!(error["type"], "ERROR", "{error}");
}

#[test]
fn a_router_that_is_told_to_stop_says_goodbye() {
    let router = Router::start(&["--shards", "2"]);
    let mut client = router.join("desk");
    let status = router.terminate();
    assert!(status.success(), "{status}");
    let (code, _) = client.receive_close();
    assert!(matches!(code, CloseCode::Away | CloseCode::Normal | CloseCode::Restart), "{code:?}");
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_micros()).expect("microseconds fit until the year 586000")
}

fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            14 => c == '4',
            19 => "89ab".contains(c),
            _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
        })
}

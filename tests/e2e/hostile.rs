//! Peers that send rubbish, too much, or nothing, and peers that do not read: the others do not
//! notice.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::{PATIENCE, eventually, frame};
use serde_json::{Value as Json, json};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

#[test]
fn malformed_frames_are_refused_and_nobody_else_notices() {
    let router = Router::start(&["--shards", "1"]);
    let mut witness = router.join("witness");
    witness.ask(subscribe("/**"));
    let before = router.descriptors();
    let cases = malformed();
    assert_eq!(cases.len(), 61);
    for (number, (name, bytes)) in cases.iter().enumerate() {
        let mut rude = router.join("rude");
        rude.send_bytes(bytes);
        let answers = rude.receive_all();
        assert_eq!(answers.len(), 1, "{name}: {answers:?}");
        assert_eq!(answers[0]["type"], "ERROR", "{name}: {answers:?}");
        assert!(
            [100, 101].map(|code| json!(code)).contains(&answers[0]["code"]),
            "{name}: {answers:?}"
        );
        // It goes on as if nothing had been said.
        let address = format!("/after/{number}");
        rude.send(set(&address, json!(1), 0));
        assert_eq!(witness.receive_type("SET")["address"], *address, "{name}");
    }
    eventually("the descriptors of peers that left are closed", || {
        (router.descriptors() <= before).then_some(())
    });
}

#[test]
fn malformed_frames_before_hello_end_only_their_own_connection() {
    let router = Router::start(&["--shards", "1"]);
    let mut witness = router.join("witness");
    let before = router.descriptors();
    for (name, bytes) in malformed() {
        let mut rude = router.connect();
        eprintln!("{name}");
        rude.send_bytes(&bytes);
        let (code, _) = rude.receive_close();
        assert_eq!(code, CloseCode::Protocol, "{name}");
    }
    assert_eq!(witness.receive_all(), [json!(null); 0]);
    eventually("the descriptors of refused peers are closed", || {
        (router.descriptors() <= before).then_some(())
    });
}

#[test]
fn values_inside_each_other_without_end_are_refused() {
    let router = Router::start(&["--shards", "1"]);
    for levels in [1_000, 20_000] {
        let bytes = nested(levels);
        let mut stranger = router.connect();
        stranger.send_bytes(&bytes);
        assert_eq!(stranger.receive_close().0, CloseCode::Protocol, "{levels} levels before HELLO");
        let mut client = router.join("client");
        client.send_bytes(&bytes);
        let answers = client.receive_all();
        assert_eq!(answers.len(), 1, "{levels} levels: {answers:?}");
        assert_eq!(answers[0]["type"], "ERROR", "{levels} levels: {answers:?}");
    }
    let mut client = router.join("client");
    client.send_bytes(&nested(50));
    assert_eq!(client.receive_all().len(), 1, "50 levels are nobody's attack: acknowledged");
}

#[test]
fn one_websocket_message_is_one_frame() {
    let router = Router::start(&["--shards", "1"]);
    let mut client = router.join("client");
    let frames = [set("/first", json!(1), 0), set("/second", json!(2), 0)];
    client.send_bytes(&frames.map(|message| frame::encode(&message)).concat());
    let found = client.ask(json!({"type": "GET", "address": "/first"}));
    assert_eq!(found[0]["type"], "SNAPSHOT", "{found:?}");
    let found = client.ask(json!({"type": "GET", "address": "/second"}));
    assert_eq!(found[0]["code"], 201, "what follows a frame is not another: {found:?}");
}

#[test]
fn a_websocket_message_that_no_frame_can_fill_is_refused() {
    let router = Router::start(&["--shards", "1"]);
    let mut client = router.join("client");
    // May fail when the router refuses before all of it is written.
    let _ = client.try_send(Message::binary(vec![0x53; 65_548]));
    assert_eq!(client.receive_close().0, CloseCode::Size);
}

#[test]
fn silent_connections_do_not_delay_a_login() {
    // They are still there long after the client's patience has ended.
    let router = Router::start(&["--shards", "1", "--handshake-timeout", "600"]);
    let silent = silent_connections(&router);
    router.join("desk");
    drop(silent);
}

#[test]
fn silent_connections_are_let_go() {
    let router = Router::start(&["--shards", "1", "--handshake-timeout", "1"]);
    for mut stream in silent_connections(&router) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        match stream.read(&mut [0]) {
            Ok(0) => (),
            Err(why) if why.kind() == ErrorKind::ConnectionReset => (),
            other => panic!("the router keeps a silent connection: {other:?}"),
        }
    }
}

fn silent_connections(router: &Router) -> Vec<TcpStream> {
    (0..200).map(|_| TcpStream::connect(router.address()).expect("it listens")).collect()
}

#[test]
fn a_flood_is_cut_off_with_at_most_one_error_a_second() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "100"]);
    let (mut flooder, mut witness) = (router.join("flooder"), router.join("witness"));
    witness.ask(subscribe("/flood"));
    let start = Instant::now();
    for value in 0..2_000 {
        flooder.send(set("/flood", json!(value), 0));
    }
    flooder.receive_where(|message| message["code"] == 429);
    let mut errors = 1;
    eventually("the flooder is served again", || {
        flooder.send(json!({"type": "PING"}));
        flooder.stream().set_read_timeout(Some(Duration::from_millis(50))).expect("a deadline");
        let answer = flooder.try_receive()?;
        errors += u64::from(answer["code"] == 429);
        (answer["type"] == "PONG").then_some(())
    });
    let seconds = start.elapsed().as_secs_f64();
    assert!(errors as f64 <= seconds + 1.0, "{errors} errors in {seconds} s");
    let heard = witness.receive_all().len() as f64;
    assert!((100.0..=100.0 + 100.0 * seconds + 1.0).contains(&heard), "{heard} in {seconds} s");
}

#[test]
fn a_bundle_counts_what_it_holds() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "100"]);
    let mut client = router.join("client");
    // One that is larger than a second's worth may pass, but uses up that second.
    let messages: Vec<_> = (0..150).map(|n| set(&format!("/a/{n}"), json!(n), 0)).collect();
    client.send(json!({"type": "BUNDLE", "messages": messages, "qos": 0}));
    client.send(set("/b", json!(1), 0));
    assert_eq!(client.receive_type("ERROR")["code"], 429);
}

#[test]
fn a_burst_of_a_thousand_is_nothing_unusual() {
    let router = Router::start(&["--shards", "1"]);
    let (mut desk, mut witness) = (router.join("desk"), router.join("witness"));
    witness.ask(subscribe("/burst"));
    for value in 0..1_000 {
        desk.send(set("/burst", json!(value), 0));
    }
    witness.receive_where(|message| message["value"] == 999);
}

#[test]
fn a_receiver_that_stalls_gets_the_newest_of_every_param_when_it_resumes() {
    let (_router, mut slow, mut desk, _) = stalled(&[]);
    let mut last = [0_u64; ADDRESSES];
    while last != [ROUNDS; ADDRESSES] {
        let message = slow.receive_type("SET");
        let revision = message["revision"].as_u64().expect("a revision");
        let address = message["address"].as_str().expect("an address");
        let number: usize = address["/slow/".len()..].parse().expect("a number");
        assert!(revision > last[number], "{address}: {revision} after {}", last[number]);
        last[number] = revision;
    }
    assert_eq!(desk.receive_all(), [json!(null); 0], "the writer is not told off");
}

#[test]
fn a_receiver_that_never_reads_is_let_go() {
    let (router, _slow, _desk, without_slow) = stalled(&["--stall-timeout", "1"]);
    eventually("the stalled connection is closed", || {
        (router.descriptors() <= without_slow).then_some(())
    });
}

const ADDRESSES: usize = 20;
const ROUNDS: u64 = 200;

/// A client that subscribed and reads nothing, one that has sent it 32 MB, which no kernel keeps,
/// and how many descriptors the router had open before the first came.
fn stalled(more: &[&str]) -> (Router, Raw, Raw, usize) {
    let router = Router::start(&[&["--shards", "1", "--rate-limit", "0"], more].concat());
    let mut desk = router.join("desk");
    let without_slow = router.descriptors();
    let mut slow = router.join("slow");
    slow.ask(subscribe("/slow/*"));
    for _ in 0..ROUNDS {
        for number in 0..ADDRESSES {
            desk.send(set(&format!("/slow/{number}"), json!("x".repeat(8_000)), 0));
        }
    }
    desk.receive_all();
    (router, slow, desk, without_slow)
}

/// Every golden frame that must be refused.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let text = |case: &Json, key: &str| case[key].as_str().expect("text").to_string();
    let cases = frame::vectors().into_iter().filter(|case| case["kind"] == "malformed");
    cases.map(|case| (text(&case, "name"), frame::unhex(&text(&case, "frame_hex")))).collect()
}

/// A SET of arrays inside arrays.
fn nested(levels: usize) -> Vec<u8> {
    let mut payload = frame::unhex("210a00022f61");
    for _ in 1..levels {
        payload.extend([0, 1, 0x0A]);
    }
    payload.extend([0, 0]);
    let mut frame = vec![0x53, 0x41];
    frame.extend(u16::try_from(payload.len()).expect("it fits a frame").to_be_bytes());
    frame.extend(payload);
    frame
}

fn subscribe(pattern: &str) -> Json {
    json!({"type": "SUBSCRIBE", "id": 1, "pattern": pattern})
}

fn set(address: &str, value: Json, qos: u8) -> Json {
    json!({"type": "SET", "address": address, "value": value, "qos": qos})
}

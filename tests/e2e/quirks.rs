//! The conformance list that the published programs' quirks led to; here what no other file proves.
//!
//! | what must hold | where |
//! |---|---|
//! | a Python client survives 1000 writes and still hears updates | here |
//! | a writer sees its own SET once; its own PUBLISH never | `published`, `params`, `delivery` |
//! | two overlapping subscriptions deliver once | `delivery` |
//! | `/a/**` gets `/a` live and in the snapshot | `delivery` |
//! | 5 MB of state reach a late joiner complete | here |
//! | 100 subscribers see strictly rising revisions from 4 writers | here |
//! | malformed frames leave others untouched and leak no descriptor | `hostile` |
//! | silent TCP peers do not delay logins | `hostile` |
//! | a subscriber that only listens stays subscribed | here |
//! | a stalled receiver gets the newest of every param | `hostile` |
//! | Python's bundles and queries, in MessagePack, work | `published`, here |
//! | `admin:/**` may subscribe, `read:/a/*` not to `/a/**`; forged `cap_` refused | `access` |
//! | unlock by a stranger is refused | `params` |
//! | a bundle for later runs on time | `delivery`, `published` |
//! | a gesture at 240 Hz yields about 60 moves a second | here |

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::{PATIENCE, eventually};
use serde_json::{Value as Json, json};

#[test]
fn a_python_client_survives_a_thousand_writes_and_still_hears() {
    // The published router acknowledges each; the client cannot read that, and goes deaf.
    let router = Router::start(&["--shards", "2", "--rate-limit", "5000"]);
    let mut python = Peer::join(Client::Python, &router.url());
    python.ask(json!({"command": "on", "pattern": "/py/**"}));
    python.ask(json!({"command": "count", "address": "/py/x", "to": 1000}));
    while python.heard_at("/py/x") != json!(1000) {}
    let mut desk = router.join("desk");
    desk.send(set("/py/y", json!("still there")));
    assert_eq!(python.heard_at("/py/y"), "still there");
}

#[test]
fn a_python_query_is_answered() {
    let router = Router::start(&["--shards", "2"]);
    let mut desk = router.join("desk");
    let signals = json!([{"address": "/app/a", "type": "param"}]);
    desk.send(json!({"type": "ANNOUNCE", "namespace": "/app", "signals": signals}));
    desk.receive_type("ACK");
    let mut python = Peer::join(Client::Python, &router.url());
    let found = eventually("the announced signal is found", || {
        let found = python.ask(json!({"command": "query", "pattern": "/app/**"}));
        found.get(0).cloned()
    });
    assert_eq!(found["address"], "/app/a");
}

#[test]
fn five_megabytes_of_state_reach_a_late_joiner_complete() {
    for shards in ["1", "2"] {
        let router = Router::start(&["--shards", shards, "--rate-limit", "0"]);
        let mut desk = router.join("desk");
        let mut wanted = BTreeMap::new();
        for number in 0..5_000 {
            let address = format!("/rig{}/fixture/{number}", number % 16);
            let value = json!(format!("{number} {}", "x".repeat(1_000)));
            desk.send(set(&address, value.clone()));
            wanted.insert(address, value);
        }
        for _ in 0..5_000 {
            desk.receive_type("ACK");
        }
        let mut late = router.connect();
        late.hello(json!({"type": "HELLO", "name": "late"}));
        let mut found = BTreeMap::new();
        while found.len() < wanted.len() {
            let snapshot = late.receive_type("SNAPSHOT");
            for param in snapshot["params"].as_array().expect("params") {
                let address = param["address"].as_str().expect("an address").to_string();
                let before = found.insert(address, param["value"].clone());
                assert_eq!(before, None, "{} came twice", param["address"]);
            }
        }
        assert!(found == wanted, "a value differs");
        for client in Client::ALL {
            let mut peer = Peer::join(client, &router.url());
            let value = peer.ask(json!({"command": "get", "address": "/rig7/fixture/4999"}));
            assert!(value.as_str().is_some_and(|text| text.starts_with("4999 ")), "{client}");
        }
    }
}

#[test]
fn a_hundred_subscribers_see_rising_revisions_from_four_writers() {
    const WRITERS: u64 = 4;
    const WRITES: u64 = 250;
    let router = Router::start(&["--shards", "2", "--rate-limit", "0"]);
    let subscribers: Vec<_> = (0..100)
        .map(|number| {
            let mut client = router.join(&format!("subscriber {number}"));
            client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/rise/*"}));
            client
        })
        .collect();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = router.join(&format!("writer {writer}"));
            scope.spawn(move || {
                for number in 0..WRITES {
                    client.send(set("/rise/x", json!([writer, number])));
                }
                (0..WRITES).for_each(|_| drop(client.receive_type("ACK")));
            });
        }
        for mut client in subscribers {
            scope.spawn(move || {
                let mut last = 0;
                let mut newest = [None; WRITERS as usize];
                while last < WRITERS * WRITES {
                    let message = client.receive();
                    let param = if message["type"] == "SNAPSHOT" {
                        &message["params"][0]
                    } else {
                        &message
                    };
                    let revision = param["revision"].as_u64().expect("a revision");
                    assert!(revision > last, "{revision} after {last}");
                    last = revision;
                    // Each writer's own writes come in the order it made them.
                    let writer = param["value"][0].as_u64().expect("a writer") as usize;
                    let number = param["value"][1].as_u64();
                    assert!(number > newest[writer], "{number:?} after {:?}", newest[writer]);
                    newest[writer] = number;
                }
            });
        }
    });
}

/// The scaled form of "stays subscribed for an hour": many times a short session timeout.
#[test]
fn a_subscriber_that_only_listens_stays_subscribed() {
    let router = Router::start(&["--shards", "1", "--session-timeout", "1"]);
    let mut listener = router.join("listener");
    listener.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    let listening = thread::spawn(move || listener.receive_type("SET"));
    // Time has to pass here; the router asks meanwhile, and the WebSocket library answers.
    thread::sleep(Duration::from_secs(5));
    router.join("desk").ask(set("/a", json!(1)));
    assert_eq!(listening.join().expect("the listener hears it")["address"], "/a");
}

#[test]
fn a_client_that_answers_nothing_is_closed_after_the_session_timeout() {
    let router = Router::start(&["--shards", "1", "--session-timeout", "1"]);
    let client = router.join("gone");
    let mut stream = client.stream().try_clone().expect("a second handle");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
    // Read past the WebSocket, so that no ping is answered.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the router closes it");
}

#[test]
fn a_gesture_at_240_hz_yields_about_60_moves_a_second() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let (mut pad, mut watcher) = (router.join("pad"), router.join("watcher"));
    watcher.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/pad"}));
    let start = Instant::now();
    let step = Duration::from_secs(1) / 240;
    let interval_number = |since: Duration| since.as_millis() / 16;
    // Intervals in which there was something to tell: a busy machine leaves some out.
    let mut told_in = BTreeSet::new();
    for number in 0..240 {
        let phase = if number == 0 { "start" } else { "move" };
        told_in.insert(interval_number(start.elapsed()));
        pad.send(gesture(phase, number));
        thread::sleep((start + step * number as u32).saturating_duration_since(Instant::now()));
    }
    pad.send(gesture("end", 240));
    let mut moves = vec![];
    loop {
        let message = watcher.receive_type("PUBLISH");
        match message["phase"].as_str() {
            Some("move") => moves.push(message["value"].as_i64().expect("a number")),
            Some("end") => break,
            _ => (),
        }
    }
    let intervals = interval_number(start.elapsed()) as usize + 1;
    let (count, told_in) = (moves.len(), told_in.len());
    assert!(moves.is_sorted() && moves.last() == Some(&239), "{moves:?}");
    assert!(count <= intervals + 2, "{count} moves in {intervals} intervals");
    assert!(count >= told_in / 3, "{count} moves of {told_in} intervals: they starve");
}

fn set(address: &str, value: Json) -> Json {
    json!({"type": "SET", "address": address, "value": value})
}

fn gesture(phase: &str, x: i64) -> Json {
    json!({"type": "PUBLISH", "signal": "gesture", "address": "/pad", "value": x, "id": 1,
        "phase": phase, "qos": 0})
}

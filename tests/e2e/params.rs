//! State: SET, GET, snapshots, revisions, locks, lifetimes. One shard, so that answers have one
//! order.

use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::{eventually, frame};
use serde_json::{Value as Json, json};

const NOTHING: [Json; 0] = [];

#[test]
fn a_write_is_echoed_then_acknowledged_and_counted() {
    let (_router, mut desk, mut other) = pair();
    for revision in 1..=3 {
        let answers = desk.ask(set("/a", json!(0.5)));
        let echo = json!({"type": "SET", "address": "/a", "value": 0.5, "revision": revision});
        let ack = json!({"type": "ACK", "address": "/a", "revision": revision});
        assert_eq!(answers, [echo.clone(), ack]);
        assert_eq!(other.receive_all(), [echo]);
    }
}

#[test]
fn params_that_are_forgotten_for_new_ones_are_told_in_the_log() {
    let config = "[server]\nshards = 1\n[limits]\nparams_max = 64\n";
    let router = Router::with_config(config, &[]);
    let mut desk = router.join("desk");
    for number in 0..100 {
        desk.send(set(&format!("/show/{number}"), json!(number)));
    }
    let line = router.logged("params were forgotten for new ones");
    assert!(line.contains("limits.params_max, 64 a shard, is used up"), "{line}");
}

#[test]
fn only_a_request_for_confirmation_is_acknowledged() {
    // A published client that never asks for it goes deaf when it gets one.
    let (_router, mut desk, _other) = pair();
    for (qos, answers) in [(0, 1), (1, 2), (2, 2), (3, 1)] {
        let mut set = set("/a", json!(1));
        set["qos"] = json!(qos);
        let heard = desk.ask(set);
        assert_eq!(heard.len(), answers, "QoS {qos}: {heard:?}");
    }
}

#[test]
fn a_writer_without_a_subscription_gets_only_the_acknowledgement() {
    let router = Router::start(&["--shards", "1"]);
    let answers = router.join("desk").ask(set("/a", json!(1)));
    assert_eq!(answers, [json!({"type": "ACK", "address": "/a", "revision": 1})]);
}

#[test]
fn values_keep_their_exact_type_and_bits() {
    // (type code, data): compact integers and floats, not-a-number with a payload, minus zero.
    let cases = [
        (0x02, "80"),
        (0x03, "8000"),
        (0x04, "7fffffff"),
        (0x05, "7fffffffffffffff"),
        (0x06, "7fc00001"),
        (0x07, "7ff8000000000001"),
        (0x07, "8000000000000000"),
        (0x09, "000300ff80"),
        (0x0A, "000202fe0101"),
        (0x0B, "00010000040000007b"),
    ];
    let (_router, mut desk, mut other) = pair();
    for (number, (code, data)) in cases.into_iter().enumerate() {
        let address = format!("/v/{number}");
        let length = format!("{:04x}", address.len());
        let body = format!("{length}{}{data}", frame::hex(address.as_bytes()));
        let payload = frame::unhex(&format!("21{code:02x}{body}"));
        let mut sent = vec![0x53, 0x01, 0, payload.len() as u8];
        sent.extend(&payload);
        desk.send_bytes(&sent);
        let heard = frame::hex(&other.receive_bytes());
        let echo = format!("21{:02x}{body}0000000000000001", code | 0x80);
        assert_eq!(heard[8..], echo, "type code {code:#04x}");
    }
}

#[test]
fn the_first_write_is_revision_one_whatever_it_claims() {
    let (_router, mut desk, _other) = pair();
    let mut first = set("/a", json!(1));
    first["revision"] = json!(77);
    assert_eq!(desk.ask(first)[1], json!({"type": "ACK", "address": "/a", "revision": 1}));
}

#[test]
fn a_stale_revision_is_refused_with_both_numbers() {
    let (_router, mut desk, mut other) = pair();
    for value in 1..=4 {
        desk.ask(set("/a", json!(value)));
    }
    other.receive_all();
    let mut stale = set("/a", json!(99));
    stale["revision"] = json!(1);
    let answers = desk.ask(stale.clone());
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_error(&answers[0], 400, "/a");
    let said = answers[0]["message"].as_str().expect("a message");
    assert!(said.contains('1') && said.contains('4'), "{said:?}");
    assert_eq!(other.receive_all(), NOTHING);
    stale["revision"] = json!(4);
    assert_eq!(desk.ask(stale)[1]["revision"], 5);
}

#[test]
fn what_is_no_address_is_refused() {
    let (_router, mut desk, mut other) = pair();
    let long = format!("/{}", "x".repeat(1024));
    for address in ["", "noslash", "é/x", "/a//b", "/a/*", "/**", "/a/*/b", &long] {
        for message in [
            set(address, json!(1)),
            json!({"type": "PUBLISH", "address": address, "signal": "event", "value": 1}),
        ] {
            let answers = desk.ask(message);
            assert_eq!(answers.len(), 1, "{address:?}: {answers:?}");
            assert_eq!((&answers[0]["type"], &answers[0]["code"]), (&json!("ERROR"), &json!(200)));
        }
    }
    assert_eq!(other.receive_all(), NOTHING);
    for address in ["/", "/a", "/a/", "/é/光", "/a b"] {
        assert_eq!(desk.ask(set(address, json!(1)))[1]["revision"], 1, "{address:?}");
    }
}

#[test]
fn a_value_that_no_snapshot_could_carry_is_refused() {
    let (_router, mut desk, mut other) = pair();
    let answers = desk.ask(set("/big", json!("x".repeat(65_500))));
    assert_eq!(answers.len(), 1, "{:?}", answers[0]["type"]);
    assert_error(&answers[0], 402, "/big");
    assert_eq!(other.receive_all(), NOTHING);
    // The largest that is taken can be read back by everybody.
    let large = json!("x".repeat(65_000));
    desk.ask(set("/big", large.clone()));
    other.receive_all();
    let answers = other.ask(json!({"type": "GET", "address": "/big"}));
    assert_eq!(answers[0]["params"][0]["value"], large);
}

#[test]
fn get_names_value_writer_and_time_and_a_missing_param() {
    let (_router, mut desk, mut other) = pair();
    desk.ask(set("/a", json!({"x": 1})));
    other.receive_all();
    let answers = other.ask(json!({"type": "GET", "address": "/a"}));
    let param = &answers[0]["params"][0];
    assert_eq!(answers.len(), 1);
    assert_eq!((&answers[0]["type"], &param["value"]), (&json!("SNAPSHOT"), &json!({"x": 1})));
    assert_eq!((&param["revision"], &param["writer"]), (&json!(1), &json!(desk.session)));
    assert!(param["timestamp"].as_u64().is_some_and(|us| us > 1_700_000_000_000_000), "{param}");
    let answers = other.ask(json!({"type": "GET", "address": "/nowhere"}));
    assert_eq!(answers.len(), 1);
    assert_error(&answers[0], 201, "/nowhere");
}

#[test]
fn a_newcomer_gets_every_param_in_a_stable_order() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let mut desk = router.join("desk");
    for number in 0..2_000 {
        let mut set = set(&format!("/p/{number:04}"), json!("x".repeat(number % 300)));
        set["qos"] = json!(0);
        desk.send(set);
    }
    desk.receive_all();
    let order = |mut client: Raw| -> Vec<String> {
        client.send(json!({"type": "HELLO", "name": "newcomer"}));
        client.receive_type("WELCOME");
        let mut addresses = Vec::new();
        while addresses.len() < 2_000 {
            let snapshot = client.receive_type("SNAPSHOT");
            let params = snapshot["params"].as_array().expect("params").iter();
            addresses
                .extend(params.map(|p| p["address"].as_str().expect("an address").to_string()));
        }
        addresses
    };
    let first = order(router.connect());
    assert!(first == order(router.connect()), "the order differs between two newcomers");
    let mut sorted = first;
    sorted.sort();
    let all: Vec<_> = (0..2_000).map(|number| format!("/p/{number:04}")).collect();
    assert!(sorted == all, "a param is missing or came twice");
}

#[test]
fn only_the_holder_of_a_lock_may_write_or_unlock() {
    let (_router, mut holder, mut other) = pair();
    let mut locked = set("/a", json!("mine"));
    locked["lock"] = json!(true);
    assert_eq!(holder.ask(locked)[0]["lock"], true, "the echo says that it is locked");
    other.receive_all();
    let mut unlock = set("/a", json!("stolen"));
    unlock["unlock"] = json!(true);
    for attempt in [set("/a", json!("stolen")), unlock] {
        let answers = other.ask(attempt);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_error(&answers[0], 400, "/a");
    }
    assert_eq!(value_of(&mut other, "/a"), "mine");
    assert_eq!(holder.ask(set("/a", json!("still mine")))[1]["revision"], 2);
    let mut release = set("/a", json!("free"));
    release["unlock"] = json!(true);
    holder.ask(release);
    other.receive_all();
    assert_eq!(other.ask(set("/a", json!("taken")))[1]["revision"], 4);
}

#[test]
fn a_lock_goes_with_its_holder() {
    let (_router, mut holder, mut other) = pair();
    let mut locked = set("/a", json!("mine"));
    locked["lock"] = json!(true);
    holder.ask(locked);
    other.receive_all();
    holder.leave();
    // The router learns of the end when it reads it: until then the lock holds.
    eventually("the lock is released", || {
        let answers = other.ask(set("/a", json!("free")));
        if answers[0]["type"] == "ERROR" {
            assert_error(&answers[0], 400, "/a");
            return None;
        }
        Some(())
    });
}

#[test]
fn a_param_lives_as_long_as_it_was_given() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let mut desk = router.join("desk");
    let absolute = |seconds: u32| seconds | 1 << 31;
    let mortal = [("/sliding", 1), ("/absolute", absolute(1))];
    let immortal = [("/never", 0), ("/never/too", absolute(0))];
    for (address, ttl) in mortal.into_iter().chain(immortal) {
        let mut set = set(address, json!(1));
        set["ttl"] = json!(ttl);
        desk.ask(set);
    }
    desk.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    let mut heard = Vec::new();
    for (address, _) in mortal {
        eventually("the param goes", || {
            let mut answers = desk.ask(json!({"type": "GET", "address": address}));
            let answer = answers.pop().expect("GET is answered");
            heard.extend(answers);
            (answer["type"] == "ERROR").then(|| assert_error(&answer, 201, address))
        });
    }
    assert_eq!(heard, NOTHING, "params go silently: no message says that one is gone");
    for (address, _) in immortal {
        assert_eq!(value_of(&mut desk, address), 1, "{address}");
    }
    // Whoever remembers the revision must not be fooled by one that begins anew.
    assert_eq!(desk.ask(set("/sliding", json!(2)))[1]["revision"], 2);
}

#[test]
fn rules_of_the_configuration_settle_writes() {
    let config = r#"
        [[rule]]
        pattern = "/max/**"
        rule = "max"
        [[rule]]
        pattern = "/min/**"
        rule = "min"
        [[rule]]
        pattern = "/merge/**"
        rule = "merge"
    "#;
    let router = Router::with_config(config, &["--shards", "1"]);
    let mut desk = router.join("desk");
    let cases = [
        ("/max/a", json!([0.2, 0.9, 0.5]), json!(0.9)),
        ("/min/a", json!([0.2, 0.1, 0.5]), json!(0.1)),
        ("/last/a", json!([0.2, 0.9, 0.5]), json!(0.5)),
        ("/merge/a", json!([{"r": 1, "g": 1}, {"g": 2}]), json!({"r": 1, "g": 2})),
    ];
    for (address, writes, kept) in cases {
        for value in writes.as_array().expect("writes") {
            desk.ask(set(address, value.clone()));
        }
        assert_eq!(value_of(&mut desk, address), kept, "{address}");
    }
}

/// A router, and two clients that subscribe to everything.
fn pair() -> (Router, Raw, Raw) {
    let router = Router::start(&["--shards", "1"]);
    let [mut one, mut two] = ["one", "two"].map(|name| router.join(name));
    for client in [&mut one, &mut two] {
        let answers = client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
        assert_eq!(answers, NOTHING, "SUBSCRIBE without a match is not answered");
    }
    (router, one, two)
}

fn set(address: &str, value: Json) -> Json {
    json!({"type": "SET", "address": address, "value": value})
}

fn value_of(client: &mut Raw, address: &str) -> Json {
    let answers = client.ask(json!({"type": "GET", "address": address}));
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["type"], "SNAPSHOT", "{answers:?}");
    answers[0]["params"][0]["value"].clone()
}

fn assert_error(answer: &Json, code: u16, address: &str) {
    assert_eq!(answer["type"], "ERROR", "{answer}");
    assert_eq!((&answer["code"], &answer["address"]), (&json!(code), &json!(address)), "{answer}");
}

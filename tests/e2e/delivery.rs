//! Who gets what: patterns, classes, pacing, gestures, bundles. One shard, so that answers have one
//! order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

const NOTHING: [Json; 0] = [];

#[test]
fn live_delivery_and_snapshot_mean_the_same_by_a_pattern() {
    let cases = [
        ("/**", "/a", true),
        ("/**", "/a/b/c", true),
        ("/a/**", "/a", true),
        ("/a/**", "/a/", true),
        ("/a/**", "/a/b", true),
        ("/a/**", "/a/b/c", true),
        ("/a/**", "/ab", false),
        ("/a/**/b", "/a/b", true),
        ("/a/**/b", "/a/x/y/b", true),
        ("/**/b", "/b", true),
        ("/a/*", "/a/", true),
        ("/a/*", "/a/b", true),
        ("/a/*", "/a", false),
        ("/a/*", "/a/b/c", false),
        ("/*", "/", true),
        ("/a*", "/a", true),
        ("/a*", "/ab", true),
        ("/a*", "/a/b", false),
        ("/a/b**", "/a/bc", true),
        ("/a/b**", "/a/b/c", false),
        ("/a/*/**", "/a/b", true),
        ("/**/**", "/a", true),
        ("/a*c/d", "/abc/d", true),
        ("/{a,b}", "/a", false),
        ("/{a,b}", "/{a,b}", true),
        ("/[ab]", "/a", false),
        ("/?", "/a", false),
        ("/A", "/a", false),
    ];
    for (pattern, address, matches) in cases {
        let router = Router::start(&["--shards", "1"]);
        let (mut desk, mut early) = (router.join("desk"), router.join("early"));
        assert_eq!(early.ask(subscribe(1, pattern)), NOTHING, "{pattern}");
        desk.ask(set(address, json!(1)));
        let live = early.receive_all();
        assert_eq!(!live.is_empty(), matches, "{pattern} and {address}, live: {live:?}");
        let snapshot = router.join("late").ask(subscribe(1, pattern));
        assert_eq!(!snapshot.is_empty(), matches, "{pattern} and {address}: {snapshot:?}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_by_name() {
    let router = Router::start(&["--shards", "1"]);
    let mut client = router.join("client");
    for pattern in ["", "a/b", "//", "/a//b", "**"] {
        let answers = client.ask(subscribe(1, pattern));
        assert_eq!(answers.len(), 1, "{pattern:?}: {answers:?}");
        assert_eq!(answers[0]["code"], 202, "{answers:?}");
        assert_eq!(answers[0]["address"], pattern, "{answers:?}");
    }
}

#[test]
fn subscriptions_of_a_session_are_bounded() {
    let router = Router::start(&["--shards", "1", "--max-subscriptions", "2"]);
    let mut client = router.join("client");
    assert_eq!(client.ask(subscribe(1, "/a")), NOTHING);
    assert_eq!(client.ask(subscribe(2, "/b")), NOTHING);
    let answers = client.ask(subscribe(3, "/c"));
    assert_eq!((&answers[0]["code"], &answers[0]["address"]), (&json!(429), &json!("/c")));
    client.send(json!({"type": "UNSUBSCRIBE", "id": 1}));
    assert_eq!(client.ask(subscribe(3, "/c")), NOTHING, "a place that is given up can be taken");
}

#[test]
fn overlapping_subscriptions_deliver_once_and_own_events_not_at_all() {
    let (_router, mut desk, mut other) = pair();
    other.ask(subscribe(2, "/cue/*"));
    other.ask(subscribe(3, "/cue/go"));
    desk.ask(subscribe(2, "/cue/go"));
    let event = json!({"type": "PUBLISH", "signal": "event", "address": "/cue/go", "value": 12});
    assert_eq!(desk.ask(event.clone()), NOTHING);
    assert_eq!(other.receive_all(), [event]);
    desk.ask(set("/cue/go", json!(1)));
    assert_eq!(other.receive_all().len(), 1);
}

#[test]
fn an_id_that_is_used_again_names_the_new_pattern_only() {
    let router = Router::start(&["--shards", "1"]);
    let (mut desk, mut client) = (router.join("desk"), router.join("client"));
    client.ask(subscribe(1, "/old"));
    client.ask(subscribe(1, "/new"));
    desk.ask(set("/old", json!(1)));
    desk.ask(set("/new", json!(2)));
    let heard = client.receive_all();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["address"], "/new");
    client.send(json!({"type": "UNSUBSCRIBE", "id": 1}));
    client.send(json!({"type": "UNSUBSCRIBE", "id": 99}));
    assert_eq!(client.receive_all(), NOTHING);
    desk.ask(set("/new", json!(3)));
    assert_eq!(client.receive_all(), NOTHING);
}

#[test]
fn a_subscription_gets_the_classes_it_asked_for() {
    let router = Router::start(&["--shards", "1"]);
    let mut desk = router.join("desk");
    desk.ask(set("/x", json!("old")));
    let classes = ["param", "event", "stream", "gesture", "timeline"];
    for wanted in classes {
        let mut client = router.join(wanted);
        let mut subscribe = subscribe(1, "/x");
        subscribe["types"] = json!([wanted]);
        let snapshot = client.ask(subscribe);
        assert_eq!(!snapshot.is_empty(), wanted == "param", "{wanted}: {snapshot:?}");
        desk.ask(set("/x", json!("new")));
        for signal in &classes[1..4] {
            desk.ask(json!({"type": "PUBLISH", "signal": signal, "address": "/x", "value": 1}));
        }
        let heard: Vec<_> = client
            .receive_all()
            .iter()
            .map(|message| message.get("signal").cloned().unwrap_or(json!("param")))
            .collect();
        let expected = if wanted == "timeline" { vec![] } else { vec![json!(wanted)] };
        assert_eq!(heard, expected, "{wanted}");
    }
}

#[test]
fn every_field_of_a_publish_arrives() {
    let (_router, mut desk, mut other) = pair();
    let cases = [
        json!({"type": "PUBLISH", "signal": "event", "address": "/e"}),
        json!({"type": "PUBLISH", "signal": "event", "address": "/e", "value": null}),
        json!({"type": "PUBLISH", "signal": "event", "address": "/e", "value": {"a": [1, 2.5]},
            "timestamp": 1_700_000_000_000_000_u64}),
        json!({"type": "PUBLISH", "signal": "stream", "address": "/s", "samples": [0.5, -0.5],
            "timestamp": 5, "rate": 48_000}),
        json!({"type": "PUBLISH", "signal": "stream", "address": "/s", "value": 0.5}),
        json!({"type": "PUBLISH", "signal": "gesture", "address": "/g", "value": {"x": 1},
            "id": 3, "phase": "start"}),
        json!({"type": "PUBLISH", "signal": "gesture", "address": "/g", "value": {"x": 1},
            "id": 3, "phase": "cancel"}),
    ];
    for message in cases {
        assert_eq!(desk.ask(message.clone()), NOTHING);
        assert_eq!(other.receive_all(), [message]);
    }
}

#[test]
fn a_max_rate_thins_out_and_still_delivers_the_newest() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let (mut desk, mut client) = (router.join("desk"), router.join("client"));
    let mut slow = subscribe(1, "/fader");
    slow["max_rate"] = json!(5);
    client.ask(slow);
    for value in 1..=500 {
        let mut set = set("/fader", json!(value));
        set["qos"] = json!(0);
        desk.send(set);
    }
    let mut heard = vec![];
    while heard.last() != Some(&500) {
        heard.push(client.receive_type("SET")["value"].as_i64().expect("a number"));
    }
    assert_eq!(heard[0], 1, "the first is not held back: {heard:?}");
    assert!(heard.is_sorted() && heard.len() < 100, "{} of 500 arrived", heard.len());
}

#[test]
fn an_epsilon_leaves_out_small_changes() {
    let router = Router::start(&["--shards", "1"]);
    let (mut desk, mut client) = (router.join("desk"), router.join("client"));
    let mut coarse = subscribe(1, "/fader");
    coarse["epsilon"] = json!(0.1);
    client.ask(coarse);
    for value in [json!(0.0), json!(0.05), json!(0.09), json!(0.2), json!(0.25), json!("off")] {
        desk.ask(set("/fader", value));
    }
    let heard: Vec<_> = client.receive_all().iter().map(|set| set["value"].clone()).collect();
    assert_eq!(heard, [json!(0.0), json!(0.2), json!("off")]);
}

#[test]
fn a_subscription_may_ask_for_the_newest_samples_of_a_stream() {
    let router = Router::start(&["--shards", "1"]);
    let (mut desk, mut client) = (router.join("desk"), router.join("client"));
    for value in 1..=5 {
        desk.ask(json!({"type": "PUBLISH", "signal": "stream", "address": "/s", "value": value}));
    }
    assert_eq!(client.ask(subscribe(1, "/s")), NOTHING);
    let mut with_history = subscribe(2, "/s");
    with_history["history"] = json!(3);
    let heard: Vec<_> = client.ask(with_history).iter().map(|p| p["value"].clone()).collect();
    assert_eq!(heard, [json!(3), json!(4), json!(5)]);
}

#[test]
fn a_message_to_a_session_goes_to_it_alone_and_only_from_who_it_says() {
    let router = Router::start(&["--shards", "1"]);
    let (mut one, mut two, mut third) = (router.join("1"), router.join("2"), router.join("3"));
    third.ask(subscribe(1, "/a"));
    let signal = |from: &Raw, to: &str| {
        let value = json!({"type": "offer", "from": from.session, "sdp": "v=0"});
        let address = format!("/clasp/p2p/signal/{to}");
        json!({"type": "PUBLISH", "signal": "event", "address": address, "value": value})
    };
    let offer = signal(&one, &two.session);
    assert_eq!(one.ask(offer.clone()), NOTHING);
    assert_eq!(two.receive_all(), [offer], "although it did not subscribe");
    assert_eq!(third.receive_all(), NOTHING);
    let answers = one.ask(signal(&one, "00000000-0000-4000-8000-000000000000"));
    assert_eq!(answers[0]["code"], 404, "{answers:?}");
    let forged = signal(&two, &third.session);
    assert_eq!(one.ask(forged)[0]["type"], "ERROR");
    assert_eq!(third.receive_all(), NOTHING);
}

#[test]
fn gestures_of_two_sessions_do_not_mix() {
    let router = Router::start(&["--shards", "1", "--gesture-interval", "60000"]);
    let (mut one, mut two) = (router.join("1"), router.join("2"));
    let mut watcher = router.join("watcher");
    watcher.ask(subscribe(1, "/pad"));
    one.ask(subscribe(1, "/pad"));
    one.ask(gesture("start", 1));
    two.ask(gesture("start", 101));
    for x in 2..=9 {
        one.ask(gesture("move", x));
        two.ask(gesture("move", 100 + x));
    }
    two.ask(gesture("end", 110));
    one.ask(gesture("end", 10));
    let heard: Vec<_> =
        watcher.receive_all().iter().map(|p| p["value"].as_i64().expect("a number")).collect();
    let (of_one, of_two): (Vec<_>, Vec<_>) = heard.into_iter().partition(|x| *x < 100);
    // The interval is far longer than the test: at most the first move goes at once.
    for (moves, base) in [(of_one, 0), (of_two, 100)] {
        let moves: Vec<_> = moves.into_iter().map(|x| x - base).collect();
        assert!(moves == [1, 9, 10] || moves == [1, 2, 9, 10], "{moves:?}");
    }
    let own: Vec<_> = one.receive_all().iter().map(|p| p["value"].as_i64()).collect();
    assert!(own.iter().all(|x| x > &Some(100)), "a move went back to its sender: {own:?}");
}

#[test]
fn a_bundle_keeps_its_order_and_is_acknowledged_once() {
    let (_router, mut desk, mut other) = pair();
    let event = json!({"type": "PUBLISH", "signal": "event", "address": "/cue", "value": "go"});
    let bundle = |qos: u8| {
        let messages =
            [set("/a", json!(1)), event.clone(), set("/b", json!(2)), set("/a", json!(3))];
        json!({"type": "BUNDLE", "messages": messages, "qos": qos})
    };
    let echo = |address: &str, value: u8, revision: u64| {
        let mut echo = json!({"type": "SET", "address": address, "value": value});
        echo["revision"] = json!(revision);
        echo
    };
    let answers = desk.ask(bundle(2));
    let ack = json!({"type": "ACK", "revision": 2});
    assert_eq!(answers, [echo("/a", 1, 1), echo("/b", 2, 1), echo("/a", 3, 2), ack]);
    assert_eq!(
        other.receive_all(),
        [echo("/a", 1, 1), event.clone(), echo("/b", 2, 1), echo("/a", 3, 2)]
    );
    assert_eq!(desk.ask(bundle(0)).len(), 3, "not acknowledged: it did not ask for it");
    other.receive_all();
    let empty = desk.ask(json!({"type": "BUNDLE", "messages": [], "qos": 2}));
    assert_eq!(empty, [json!({"type": "ACK"})]);
}

#[test]
fn a_bundle_is_applied_whole_or_not_at_all() {
    let (_router, mut desk, mut other) = pair();
    desk.ask(set("/held", json!(0)));
    let mut lock = set("/locked", json!(0));
    lock["lock"] = json!(true);
    other.ask(lock);
    desk.receive_all();
    other.receive_all();
    let mut stale = set("/held", json!(1));
    stale["revision"] = json!(9);
    let spoilers = [(stale, 400), (set("/locked", json!(1)), 400), (set("noslash", json!(1)), 403)];
    for (spoiler, code) in spoilers {
        for place in 0..3 {
            let mut messages = vec![set("/a", json!(1)), set("/b", json!(1))];
            messages.insert(place, spoiler.clone());
            let answers = desk.ask(json!({"type": "BUNDLE", "messages": messages, "qos": 2}));
            assert_eq!(answers.len(), 1, "{spoiler} at {place}: {answers:?}");
            assert_eq!(answers[0]["code"], code, "{answers:?}");
            assert_eq!(answers[0]["address"], spoiler["address"], "{answers:?}");
            assert_eq!(other.receive_all(), NOTHING, "{spoiler} at {place}");
        }
    }
}

#[test]
fn a_bundle_for_later_runs_at_its_time_and_one_for_earlier_at_once() {
    let (_router, mut desk, mut other) = pair();
    loop {
        let due = SystemTime::now() + Duration::from_millis(400);
        let at = due.duration_since(UNIX_EPOCH).expect("past 1970").as_micros() as u64;
        for (address, timestamp) in [("/later", at), ("/earlier", 1)] {
            let messages = [set(address, json!(1))];
            desk.ask(json!({"type": "BUNDLE", "messages": messages, "timestamp": timestamp,
                "qos": 0}));
        }
        let in_time = SystemTime::now() < due;
        let order = [(); 2].map(|()| other.receive()["address"].clone());
        assert!(SystemTime::now() >= due, "it ran early");
        // Else the machine was so busy that both were due when they came.
        if in_time {
            assert_eq!(order, ["/earlier", "/later"]);
            return;
        }
    }
}

#[test]
fn a_query_gives_one_result_of_what_was_announced() {
    let router = Router::start(&["--shards", "1"]);
    let (mut desk, mut other) = (router.join("desk"), router.join("other"));
    other.ask(subscribe(1, "/**"));
    let query = json!({"type": "QUERY", "pattern": "/app/**"});
    assert_eq!(other.ask(query.clone()), [json!({"type": "RESULT", "signals": []})]);
    let signals = json!([
        {"address": "/app/a", "type": "param"}, {"address": "/app/b", "type": "gesture"},
        {"address": "/else/c", "type": "event"}
    ]);
    let answers = desk.ask(json!({"type": "ANNOUNCE", "namespace": "/app", "signals": signals}));
    assert_eq!(answers, [json!({"type": "ACK", "address": "/app"})]);
    let answers = other.ask(query);
    assert_eq!(answers.len(), 1, "the announcement itself is not passed on: {answers:?}");
    assert_eq!(answers[0]["signals"], json!([signals[0], signals[1]]));
}

#[test]
fn clocks_can_be_compared() {
    let router = Router::start(&["--shards", "1"]);
    let mut client = router.join("client");
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).expect("past 1970").as_micros() as u64;
    let t1 = now();
    let answers = client.ask(json!({"type": "SYNC", "t1": t1, "qos": 0}));
    let t4 = now();
    let [t2, t3] = ["t2", "t3"].map(|key| answers[0][key].as_u64().expect("a time"));
    assert_eq!((&answers[0]["type"], &answers[0]["t1"]), (&json!("SYNC"), &json!(t1)));
    // The router reads the wall clock once a second and counts on from there: 3 µs off were seen.
    let error_us_max = 1_000;
    let in_order = t1 <= t2 + error_us_max && t2 <= t3 && t3 <= t4 + error_us_max;
    assert!(in_order, "{t1} {t2} {t3} {t4}");
}

/// A router, and two clients that subscribe to everything.
fn pair() -> (Router, Raw, Raw) {
    let router = Router::start(&["--shards", "1"]);
    let [mut one, mut two] = ["one", "two"].map(|name| router.join(name));
    for client in [&mut one, &mut two] {
        client.ask(subscribe(1, "/**"));
    }
    (router, one, two)
}

fn subscribe(id: u32, pattern: &str) -> Json {
    json!({"type": "SUBSCRIBE", "id": id, "pattern": pattern})
}

fn set(address: &str, value: Json) -> Json {
    json!({"type": "SET", "address": address, "value": value})
}

fn gesture(phase: &str, x: i64) -> Json {
    json!({"type": "PUBLISH", "signal": "gesture", "address": "/pad", "value": x, "id": 1,
        "phase": phase, "qos": 0})
}

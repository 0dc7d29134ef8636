//! The published JavaScript, Python and Rust clients, unmodified, each with each, across two
//! shards.
//!
//! Nothing here waits for a time to pass. A subscription is known to be in force when its owner
//! hears a param that it set itself afterwards, below the same two segments and hence at the same
//! home; a publisher has been heard out when its last param arrives.

use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

#[test]
fn params_of_every_type_arrive_once_and_in_order() {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1_000_000_007),
        json!(0.1),
        json!(-1.5e30),
        json!(""),
        json!("Grüße, 光"),
        json!({"$bytes": "00ff7f80"}),
        json!([]),
        json!([1, "two", [3.5, null], {"four": false}]),
        json!({}),
        json!({"r": 255, "g": 0.5, "name": "amber", "at": [1, 2]}),
    ];
    for_each_pair(|from, to, space| {
        let address = format!("{space}/value");
        listen(to, &[&format!("{space}/**")], space);
        for value in &values {
            from.ask(json!({"command": "set", "address": address, "value": value}));
        }
        let heard = hear_out(from, to, space);
        assert_eq!(heard.len(), values.len(), "{heard:?}");
        for ((at, value), wanted) in heard.iter().zip(&values) {
            assert_eq!(*at, address);
            assert!(same(value, wanted), "{value} is not {wanted}");
        }
    });
}

#[test]
fn get_gives_the_value_that_another_client_set() {
    for_each_pair(|from, to, space| {
        let address = format!("{space}/level");
        set_and_see(from, space, &address, &json!(0.75));
        assert_eq!(to.ask(json!({"command": "get", "address": address})), json!(0.75));
    });
}

#[test]
fn a_late_joiner_gets_what_was_set_before_it_came() {
    let router = Router::start(&["--shards", "2"]);
    for from in Client::ALL {
        let mut from = Peer::join(from, &router.url());
        let space = format!("/late/{}", from.client);
        let address = format!("{space}/look");
        set_and_see(&mut from, &space, &address, &json!({"cue": 12, "name": "sunrise"}));
        for to in Client::ALL {
            let mut to = Peer::join(to, &router.url());
            to.ask(json!({"command": "on", "pattern": format!("{space}/*")}));
            let value = to.heard_at(&address);
            assert!(
                same(&value, &json!({"cue": 12, "name": "sunrise"})),
                "{} heard {value}",
                to.client
            );
            let value = to.ask(json!({"command": "get", "address": address}));
            assert!(
                same(&value, &json!({"cue": 12, "name": "sunrise"})),
                "{} got {value}",
                to.client
            );
        }
    }
}

#[test]
fn wildcards_select_what_each_client_expects() {
    for_each_pair(|from, to, space| {
        let patterns = [format!("{space}/strip/*/level"), format!("{space}/deep/**")];
        listen(to, &[&patterns[0], &patterns[1]], space);
        let cases = [
            ("strip/1/level", true),
            ("strip/1/colour", false),
            ("strip/1/2/level", false),
            ("strip/level", false),
            ("strip/é/level", true),
            ("deep/a", true),
            ("deep/a/b/c", true),
            ("deeper/a", false),
        ];
        for (number, (path, _)) in cases.iter().enumerate() {
            let address = format!("{space}/{path}");
            from.ask(json!({"command": "set", "address": address, "value": number + 1}));
        }
        let wanted: Vec<_> =
            cases.iter().filter(|case| case.1).map(|case| format!("{space}/{}", case.0)).collect();
        let heard: Vec<_> = hear_out(from, to, space).into_iter().map(|(at, _)| at).collect();
        assert_eq!(heard, wanted);
    });
}

#[test]
fn a_client_that_unsubscribes_hears_no_more() {
    for_each_pair(|from, to, space| {
        listen(to, &[&format!("{space}/a")], space);
        to.ask(json!({"command": "off", "pattern": format!("{space}/a")}));
        listen(to, &[&format!("{space}/b")], space);
        for name in ["a", "b"] {
            let address = format!("{space}/{name}");
            from.ask(json!({"command": "set", "address": address, "value": 1}));
        }
        let heard: Vec<_> = hear_out(from, to, space).into_iter().map(|(at, _)| at).collect();
        assert_eq!(heard, [format!("{space}/b")]);
    });
}

#[test]
fn events_and_streams_arrive_in_order_and_not_at_their_sender() {
    for_each_pair(|from, to, space| {
        let pattern = format!("{space}/**");
        listen(from, &[&pattern], space);
        listen(to, &[&pattern], space);
        // Values that are not falsy: the published Python client hands those on as None.
        let (cue, samples) = (format!("{space}/cue"), format!("{space}/samples"));
        from.ask(json!({"command": "emit", "address": cue, "value": {"go": 12}}));
        for sample in 1..=20 {
            from.ask(json!({"command": "stream", "address": samples, "value": sample}));
        }
        from.ask(json!({"command": "emit", "address": cue, "value": "stop"}));
        let heard = hear_out(from, to, space);
        assert_eq!(heard.len(), 22, "{heard:?}");
        assert!(same(&heard[0].1, &json!({"go": 12})) && heard[0].0 == cue, "{heard:?}");
        for (number, (at, value)) in heard[1..21].iter().enumerate() {
            assert!(*at == samples && same(value, &json!(number + 1)), "{heard:?}");
        }
        assert_eq!(heard[21], (cue, json!("stop")));
        let own = hear_out_own(from, space);
        assert!(own.is_empty(), "the sender heard {own:?}");
    });
}

#[test]
fn a_gesture_keeps_its_start_its_last_move_and_its_end() {
    for_each_pair(|from, to, space| {
        let address = format!("{space}/pad");
        listen(to, &[&format!("{space}/**")], space);
        let phases = [("start", 1), ("move", 2), ("move", 3), ("move", 4), ("end", 5)];
        for (phase, x) in phases {
            from.ask(json!({
                "command": "gesture", "address": address, "id": 7, "phase": phase, "value": {"x": x}
            }));
        }
        let heard = hear_out(from, to, space);
        let xs: Vec<_> = heard.iter().filter_map(|(_, value)| value["x"].as_f64()).collect();
        assert_eq!(xs.first(), Some(&1.0), "{heard:?}");
        assert!(xs.ends_with(&[4.0, 5.0]), "the newest move comes before the end: {heard:?}");
        assert!(xs.is_sorted(), "{heard:?}");
        if to.client == Client::JavaScript {
            let said: Vec<_> =
                heard.iter().filter_map(|(_, value)| value["phase"].as_str()).collect();
            assert_eq!((said[0], said[said.len() - 1]), ("start", "end"), "{heard:?}");
            assert!(
                heard.iter().all(|(_, value)| same(&value["gestureId"], &json!(7))),
                "{heard:?}"
            );
        }
    });
}

#[test]
fn a_bundle_arrives_in_its_order_whatever_encoding_it_travels_in() {
    // Python sends bundles in MessagePack; one that holds bytes is refused by the published router.
    for_each_pair(|from, to, space| {
        listen(to, &[&format!("{space}/**")], space);
        let (one, cue, two) = (format!("{space}/1"), format!("{space}/cue"), format!("{space}/2"));
        from.ask(json!({"command": "bundle", "messages": [
            {"set": [one, 0.25]}, {"emit": [cue, {"go": true}]}, {"set": [two, {"$bytes": "00ff"}]}
        ]}));
        let heard = hear_out(from, to, space);
        let wanted =
            [(one, json!(0.25)), (cue, json!({"go": true})), (two, json!({"$bytes": "00ff"}))];
        assert_eq!(heard, wanted);
    });
}

#[test]
fn a_bundle_for_later_waits_for_its_time() {
    for_each_pair(|from, to, space| {
        listen(to, &[&format!("{space}/**")], space);
        let address = format!("{space}/timed");
        from.ask(
            json!({"command": "bundle", "in_ms": 300, "messages": [{"set": [address, "late"]}]}),
        );
        from.ask(json!({"command": "set", "address": address, "value": "early"}));
        let order = [to.heard_at(&address), to.heard_at(&address)];
        assert_eq!(order, [json!("early"), json!("late")]);
    });
}

#[test]
fn a_writer_hears_its_own_param_once() {
    let router = Router::start(&["--shards", "2"]);
    for client in Client::ALL {
        let mut peer = Peer::join(client, &router.url());
        let space = format!("/own/{client}");
        // Two subscriptions that overlap: the router delivers once, the client calls both back.
        listen(&mut peer, &[&format!("{space}/*"), &format!("{space}/x")], &space);
        peer.ask(json!({"command": "set", "address": format!("{space}/x"), "value": 1}));
        let own = hear_out_own(&mut peer, &space);
        let calls = own.iter().filter(|(at, _)| *at == format!("{space}/x")).count();
        assert_eq!(calls, 2, "{client} heard {own:?}");
    }
}

#[test]
fn clients_come_back_to_a_router_that_was_restarted() {
    let mut router = Router::start(&["--shards", "2"]);
    for client in Client::ALL {
        let mut peer = Peer::join(client, &router.url());
        let space = format!("/back/{client}");
        listen(&mut peer, &[&format!("{space}/*")], &space);
        router = router.restart();
        match client {
            // Says so when it is back, but forgets its subscriptions: the program repeats them.
            Client::Python => {
                peer.event(|line| line.get("disconnected").is_some());
                peer.event(|line| line.get("connected").is_some());
                peer.ask(json!({"command": "on", "pattern": format!("{space}/*")}));
            }
            // Subscribes again by itself.
            Client::JavaScript => drop(peer.event(|line| line.get("connected").is_some())),
            Client::Rust => (),
        }
        // The client that comes back gets the state, whenever that may be: nothing is timed here.
        let mut other = Peer::join(Client::JavaScript, &router.url());
        let address = format!("{space}/level");
        set_and_see(&mut other, &space, &address, &json!(0.5));
        assert_eq!(peer.heard_at(&address), json!(0.5), "{client}");
    }
}

/// Runs `play` for all nine pairings, each below two segments of its own.
fn for_each_pair(play: impl Fn(&mut Peer, &mut Peer, &str)) {
    let router = Router::start(&["--shards", "2"]);
    let mut sources = Client::ALL.map(|client| Peer::join(client, &router.url()));
    let mut targets = Client::ALL.map(|client| Peer::join(client, &router.url()));
    for from in &mut sources {
        for to in &mut targets {
            let space = format!("/{}/{}", from.client, to.client);
            eprintln!("{space}");
            play(from, to, &space);
        }
    }
}

/// Subscribes, and returns when the subscriptions are in force at the home of `space`.
fn listen(peer: &mut Peer, patterns: &[&str], space: &str) {
    for pattern in patterns {
        peer.ask(json!({"command": "on", "pattern": pattern}));
    }
    peer.ask(json!({"command": "on", "pattern": format!("{space}/end")}));
    hear_out_own(peer, space);
}

/// Sets a param, and returns when the router has taken it.
fn set_and_see(peer: &mut Peer, space: &str, address: &str, value: &Json) {
    peer.ask(json!({"command": "set", "address": address, "value": value}));
    peer.ask(json!({"command": "on", "pattern": format!("{space}/end")}));
    hear_out_own(peer, space);
}

/// What `to` hears until a last param of `from` arrives.
fn hear_out(from: &mut Peer, to: &mut Peer, space: &str) -> Vec<(String, Json)> {
    let mark = mark(from, space);
    hear_until(to, space, &mark)
}

/// What a peer hears until a param arrives that it sets itself now.
fn hear_out_own(peer: &mut Peer, space: &str) -> Vec<(String, Json)> {
    let mark = mark(peer, space);
    hear_until(peer, space, &mark)
}

/// Sets a param that was never set to this value before.
fn mark(peer: &mut Peer, space: &str) -> Json {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MARKS: AtomicU32 = AtomicU32::new(1);
    let mark = json!(format!("mark {}", MARKS.fetch_add(1, Ordering::Relaxed)));
    peer.ask(json!({"command": "set", "address": format!("{space}/end"), "value": mark}));
    mark
}

/// What a peer hears before the mark, other marks left out.
fn hear_until(peer: &mut Peer, space: &str, mark: &Json) -> Vec<(String, Json)> {
    let (mut before, last) = (Vec::new(), format!("{space}/end"));
    loop {
        let heard = peer.heard();
        if heard.address != last {
            before.push((heard.address, heard.value));
        } else if heard.value == *mark {
            return before;
        }
    }
}

/// Equal, numbers by their value: JavaScript has one kind of number.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

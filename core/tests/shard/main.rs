//! The router's behaviour, frame by frame, on one shard and on three.

mod arbitration;
mod bounds;
mod bundles;
mod lanes;
mod net;
mod plans;
mod remembered;
mod rulings;
mod strangers;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{
    Announce, Message, Publish, Set, Subscribe, SubscribeOptions, Sync, Ttl,
};
use clasp_rt_core::shard::{Admit, CloseReason, Settings};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::time::Span;
use clasp_rt_core::value;
use clasp_rt_core::wire::list::{Announced, Features};
use net::{Client, Net, f64_value, hello, set_of};

const A: Client = (0, 0);
const B: Client = (0, 1);

fn limits() -> Limits {
    Limits {
        links_max: 64,
        params_max: 4_096,
        param_bytes_max: 4 << 20,
        subscriptions_max: 4_096,
        held_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

fn settings(shards: u16) -> Settings {
    Settings { shards, limits: limits(), rate_limit: None, ..Settings::default() }
}

fn one() -> Net {
    Net::new(settings(1))
}

#[test]
fn a_client_is_welcomed_and_gets_a_snapshot_even_of_nothing() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.open(A, Admit::Stranger);
        net.say(A, &hello(None, 0), Qos::Fire);
        assert_eq!(net.take(A), ["WELCOME clasp-rt 248", "SNAPSHOT -"], "{shards} shards");
        for i in 0..5 {
            net.set(A, &format!("/rig{i}/x"), f64::from(i));
        }
        net.open(B, Admit::Stranger);
        net.say(B, &hello(None, 0), Qos::Fire);
        let mut got = net.take(B);
        got.sort();
        let want: Vec<String> = (0..5).map(|i| format!("SNAPSHOT /rig{i}/x {i} r1")).collect();
        assert_eq!(got[..5], want, "{shards} shards");
        assert_eq!(got[5], "WELCOME clasp-rt 248");
    }
}

#[test]
fn whoever_does_not_greet_first_is_told_and_closed() {
    let mut net = one();
    net.open(A, Admit::Stranger);
    net.say(A, &Message::Ping, Qos::Fire);
    assert_eq!(net.take(A), ["ERROR 101 -"]);
    assert_eq!(net.peers[&A].closed, Some(CloseReason::Protocol));
    net.open(B, Admit::Stranger);
    net.wait_ms(9_999);
    assert_eq!(net.peers[&B].closed, None);
    net.wait_ms(2);
    assert_eq!(net.peers[&B].closed, Some(CloseReason::HandshakeTimeout));
    net.open((0, 2), Admit::Full);
    net.say((0, 2), &hello(None, 0), Qos::Fire);
    assert_eq!(net.take((0, 2)), ["ERROR 501 -"]);
    assert_eq!(net.peers[&(0, 2)].closed, Some(CloseReason::Full));
}

#[test]
fn a_set_is_echoed_with_its_revision_before_the_ack_and_only_confirm_is_acknowledged() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        net.subscribe(A, 1, "/a/**");
        net.set(A, "/a/x", 1.0);
        assert_eq!(net.take(A), ["SET /a/x 1 r1"]);
        let data = 2.0_f64.to_be_bytes();
        let set = Set { value: f64_value(&data), ..set_of("/a/x") };
        net.say(A, &Message::Set(set), Qos::Confirm);
        assert_eq!(net.take(A), ["SET /a/x 2 r2", "ACK /a/x r2"], "{shards} shards");
        let stale = Set { revision: Some(1), ..set };
        net.say(A, &Message::Set(stale), Qos::Fire);
        assert_eq!(net.take(A), ["ERROR 400 /a/x"]);
    }
}

#[test]
fn a_writer_that_wants_no_echo_gets_none_and_the_others_do() {
    let mut net = one();
    net.join_with(A, None, Features::NO_ECHO);
    net.join(B);
    net.subscribe(A, 1, "/**");
    net.subscribe(B, 1, "/**");
    net.set(A, "/a", 1.0);
    assert_eq!(net.take(A), [""; 0]);
    assert_eq!(net.take(B), ["SET /a 1 r1"]);
    net.set(B, "/a", 2.0);
    assert_eq!(net.take(A), ["SET /a 2 r2"]);
}

#[test]
fn overlapping_subscriptions_deliver_once_and_an_own_publish_never() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.join(A);
        net.join(far);
        for (id, pattern) in [(1, "/a/**"), (2, "/a/*"), (3, "/a/x"), (4, "/**")] {
            net.subscribe(far, id, pattern);
            net.subscribe(A, id, pattern);
        }
        net.emit(A, "/a/x");
        assert_eq!(net.take(far), ["event /a/x"]);
        assert_eq!(net.take(A), [""; 0]);
        net.set(A, "/a", 5.0);
        assert_eq!(net.take(far), ["SET /a 5 r1"], "/a/** matches /a");
    }
}

#[test]
fn a_reused_subscription_id_replaces_the_old_pattern() {
    let mut net = one();
    net.join(A);
    net.subscribe(A, 1, "/old/*");
    net.subscribe(A, 1, "/new/*");
    net.set(A, "/old/x", 1.0);
    net.set(A, "/new/x", 1.0);
    assert_eq!(net.take(A), ["SET /new/x 1 r1"]);
    net.subscribe(A, 1, "not/a/pattern");
    assert_eq!(net.take(A), ["ERROR 202 not/a/pattern"]);
    net.set(A, "/new/x", 3.0);
    assert_eq!(net.take(A), ["SET /new/x 3 r2"], "a refused one replaces nothing");
    net.say(A, &Message::Unsubscribe { id: 1 }, Qos::Fire);
    net.say(A, &Message::Unsubscribe { id: 9 }, Qos::Fire);
    net.set(A, "/new/x", 2.0);
    assert_eq!(net.take(A), [""; 0]);
}

#[test]
fn bad_patterns_addresses_and_messages_are_answered_with_their_code() {
    let mut net = one();
    net.join(A);
    for pattern in ["", "a", "**", "//", "/a//b"] {
        net.subscribe(A, 1, pattern);
        let want = format!("ERROR 202 {}", if pattern.is_empty() { "" } else { pattern });
        assert_eq!(net.take(A), [want], "{pattern}");
    }
    for address in ["noslash", "é/x", "/a//b", "/a/*"] {
        net.set(A, address, 1.0);
        assert_eq!(net.take(A), [format!("ERROR 200 {address}")]);
    }
    net.say(A, &Message::Get { address: "/missing" }, Qos::Fire);
    assert_eq!(net.take(A), ["ERROR 201 /missing"]);
    net.say(A, &Message::Ping, Qos::Fire);
    assert_eq!(net.take(A), ["PONG"]);
    net.say(A, &hello(None, 0), Qos::Fire);
    assert_eq!(net.take(A), ["ERROR 101 -"]);
    net.raw(A, b"S\x01\x00\x01\x99");
    assert_eq!(net.take(A), ["ERROR 101 -"]);
    net.raw(A, b"S\x01\x00\x01\x99");
    assert_eq!(net.take(A), [""; 0], "one complaint a second");
    for _ in 0..100 {
        net.raw(A, b"X");
    }
    assert_eq!(net.peers[&A].closed, Some(CloseReason::Offences));
}

#[test]
fn a_lock_is_its_holders_until_it_leaves() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.join(A);
        net.join(far);
        net.say(A, &Message::Set(Set { lock: true, ..set_of("/a/b") }), Qos::Fire);
        net.say(far, &Message::Set(Set { unlock: true, ..set_of("/a/b") }), Qos::Fire);
        assert_eq!(net.take(far), ["ERROR 400 /a/b"]);
        net.leave(A);
        net.set(far, "/a/b", 1.0);
        assert_eq!(net.take(far), [""; 0], "{shards} shards");
    }
}

#[test]
fn what_one_session_sends_arrives_in_that_order_also_from_different_homes() {
    let mut net = Net::new(settings(3));
    net.join(A);
    net.join((2, 5));
    net.subscribe((2, 5), 1, "/**");
    let mut want = Vec::new();
    for i in 0..60 {
        let address = format!("/rig{}/x", i * 7 % 13);
        net.emit(A, &address);
        want.push(format!("event {address}"));
    }
    assert_eq!(net.take((2, 5)), want);
}

#[test]
fn max_rate_delivers_the_newest_at_its_time_and_epsilon_leaves_small_changes_out() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.join((0, 2));
    let options = SubscribeOptions { max_rate: Some(10), ..SubscribeOptions::default() };
    net.subscribe_with(B, 1, "/a", options);
    let options = SubscribeOptions { epsilon: Some(2.0), ..SubscribeOptions::default() };
    net.subscribe_with((0, 2), 1, "/a", options);
    for i in 1..=5 {
        net.set(A, "/a", f64::from(i));
        net.wait_ms(10);
    }
    assert_eq!(net.take(B), ["SET /a 1 r1"]);
    net.wait_ms(60);
    assert_eq!(net.take(B), ["SET /a 5 r5"]);
    assert_eq!(net.take((0, 2)), ["SET /a 1 r1", "SET /a 3 r3", "SET /a 5 r5"]);
    net.wait_ms(1000);
    assert_eq!(net.take(B), [""; 0]);
}

#[test]
fn history_gives_the_newest_samples_of_each_address() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        for i in 0..4 {
            let data = f64::from(i).to_be_bytes();
            let sample = Publish {
                address: "/s/x",
                signal: Some(Signal::Stream),
                phase: Some(Phase::Start),
                value: Some(f64_value(&data)),
                ..Publish::default()
            };
            net.say(A, &Message::Publish(sample), Qos::Fire);
            net.wait_ms(100);
        }
        net.join(B);
        let options = SubscribeOptions { history: Some(2), ..SubscribeOptions::default() };
        net.subscribe_with(B, 1, "/s/*", options);
        assert_eq!(net.take(B), ["stream /s/x 2", "stream /s/x 3"], "{shards} shards");
        let options = SubscribeOptions { window: Some(350), ..SubscribeOptions::default() };
        net.subscribe_with(B, 2, "/s/x", options);
        assert_eq!(net.take(B), ["stream /s/x 1", "stream /s/x 2", "stream /s/x 3"]);
    }
}

#[test]
fn gestures_are_coalesced_and_a_leaver_cancels_its_own() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/**");
    let gesture = |phase, data| Publish {
        address: "/g",
        signal: Some(Signal::Gesture),
        phase: Some(phase),
        id: Some(1),
        value: Some(f64_value(data)),
        ..Publish::default()
    };
    let data: Vec<[u8; 8]> = (0..10).map(|i| f64::from(i).to_be_bytes()).collect();
    net.say(A, &Message::Publish(gesture(Phase::Start, &data[0])), Qos::Fire);
    for d in &data[1..9] {
        net.say(A, &Message::Publish(gesture(Phase::Move, d)), Qos::Fire);
        net.wait_ms(4);
    }
    net.say(A, &Message::Publish(gesture(Phase::End, &data[9])), Qos::Fire);
    let got = net.take(B);
    assert_eq!(got.first().unwrap(), "gesture /g start 0");
    assert_eq!(got[got.len() - 2..], ["gesture /g move 8", "gesture /g end 9"]);
    assert_eq!(got.len(), 4, "32 ms hold two intervals of moves: {got:?}");
    net.say(A, &Message::Publish(gesture(Phase::Start, &data[0])), Qos::Fire);
    net.leave(A);
    assert_eq!(net.take(B), ["gesture /g start 0", "gesture /g cancel"]);
}

#[test]
fn a_stalled_link_gets_the_newest_of_every_param_and_every_event() {
    let mut limits = limits();
    limits.window_bytes = 256;
    let mut net = Net::new(Settings { limits, ..settings(1) });
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/**");
    net.peers.get_mut(&B).unwrap().stalled = true;
    for i in 0..200 {
        net.set(A, "/p", f64::from(i));
        net.set(A, "/q", f64::from(-i));
        if i % 50 == 0 {
            net.emit(A, &format!("/e{i}"));
        }
    }
    net.unstall(B);
    let got = net.take(B);
    assert!(got.len() < 40, "{} frames", got.len());
    let last = |p: &str| got.iter().rev().find(|l| l.starts_with(p)).unwrap().clone();
    assert_eq!(last("SET /p"), "SET /p 199 r200");
    assert_eq!(last("SET /q"), "SET /q -199 r200");
    assert_eq!(got.iter().filter(|l| l.starts_with("event")).count(), 4);
    net.peers.get_mut(&B).unwrap().stalled = true;
    for i in 0..20 {
        net.set(A, "/p", f64::from(i));
    }
    net.wait_ms(10_000);
    assert_eq!(net.peers[&B].closed, Some(CloseReason::TooSlow));
}

#[test]
fn a_listener_lives_as_long_as_it_is_heard() {
    let mut net = one();
    net.join(A);
    net.join(B);
    for _ in 0..10 {
        net.wait_ms(200_000);
        net.say(A, &Message::Ping, Qos::Fire);
    }
    assert_eq!(net.peers[&A].closed, None);
    assert_eq!(net.peers[&B].closed, Some(CloseReason::Idle));
}

#[test]
fn a_link_that_only_answers_pings_lives_while_it_listens() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/**");
    for _ in 0..35 {
        net.wait_ms(100_000);
        net.pong(A);
        net.pong(B);
    }
    assert_eq!((net.peers[&A].closed, net.peers[&B].closed), (None, None), "for an hour");
    net.wait_ms(100_000);
    assert_eq!(net.peers[&A].closed, Some(CloseReason::Idle), "it was forgotten by its client");
    assert_eq!(net.peers[&B].closed, None);
}

#[test]
fn a_rate_limit_drops_what_is_over_and_says_so_once_a_second() {
    let mut net = Net::new(Settings { rate_limit: Some(1_000), ..settings(1) });
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/a");
    for i in 0..1_300 {
        net.set(A, "/a", f64::from(i));
    }
    assert_eq!(net.take(A), ["ERROR 429 -"]);
    assert_eq!(net.take(B).len(), 1_000);
}

#[test]
fn a_timeline_plays_as_a_param_until_somebody_writes_it() {
    let mut net = Net::new(Settings { timeline_interval: Span::from_millis(10), ..settings(1) });
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/t");
    let mut keyframes = Vec::new();
    value::push_null(&mut keyframes);
    keyframes.clear();
    let mut map = value::MapWriter::start(&mut keyframes);
    let mut frames = value::ArrayWriter::start(map.entry("keyframes").unwrap());
    for (time, v) in [(0.0, 0.0), (100_000.0, 10.0)] {
        let mut frame = value::MapWriter::start(frames.item().unwrap());
        value::push_f64(frame.entry("time").unwrap(), time);
        value::push_f64(frame.entry("value").unwrap(), v);
    }
    let timeline = Publish {
        address: "/t",
        signal: Some(Signal::Timeline),
        phase: Some(Phase::Start),
        value: Some(value::Value::from_encoded(&keyframes).unwrap()),
        ..Publish::default()
    };
    net.say(A, &Message::Publish(timeline), Qos::Fire);
    net.wait_ms(50);
    let got = net.take(B);
    assert_eq!(got.last().unwrap(), "SET /t 5 r6");
    net.wait_ms(500);
    assert_eq!(net.take(B).last().unwrap(), "SET /t 10 r11");
    net.say(A, &Message::Publish(timeline), Qos::Fire);
    net.set(A, "/t", 77.0);
    net.wait_ms(500);
    assert_eq!(net.take(B).last().unwrap(), "SET /t 77 r13");
}

#[test]
fn a_snapshot_of_many_large_params_arrives_whole_and_in_order() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        let text = "x".repeat(2_000);
        let mut encoded = Vec::new();
        value::push_str(&mut encoded, &text).unwrap();
        for i in 0..1_000 {
            let address = format!("/rig{}/lamp{i}/name", i % 9);
            let value = value::Value::from_encoded(&encoded).unwrap();
            net.say(A, &Message::Set(Set { value, ..set_of(&address) }), Qos::Fire);
        }
        net.open(B, Admit::Stranger);
        net.say(B, &hello(None, 0), Qos::Fire);
        let lens: Vec<usize> = net.peers[&B].frames[1..].iter().map(Vec::len).collect();
        assert!(lens.iter().all(|len| *len <= 65_539));
        // Each home's first part is as long as can be, those behind it do not hold up others.
        let long = lens.iter().filter(|len| **len > 10_100).count();
        assert!(long == usize::from(shards) && lens[0] > 50_000, "{lens:?}");
        let got = net.take(B);
        assert_eq!(got.iter().filter(|l| l.starts_with("SNAPSHOT /")).count(), 1_000);
        net.subscribe(B, 1, "/rig3/**");
        assert_eq!(net.take(B).len(), 111, "{shards} shards");
    }
}

#[test]
fn a_subscription_without_params_gets_no_snapshot() {
    let mut net = one();
    net.join(A);
    net.set(A, "/a", 1.0);
    let wish =
        |types| Subscribe { id: 1, pattern: "/**", types, options: SubscribeOptions::default() };
    net.say(A, &Message::Subscribe(wish(SignalMask(2))), Qos::Fire);
    assert_eq!(net.take(A), [""; 0]);
    net.say(A, &Message::Subscribe(wish(SignalMask(0))), Qos::Fire);
    assert_eq!(net.take(A), ["SNAPSHOT /a 1 r1"], "no bit means all");
}

#[test]
fn whoever_wants_only_what_it_asks_for_is_told_where_that_ends() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        for address in ["/a/x", "/a/y/z", "/b/x"] {
            net.set(A, address, 1.0);
        }
        net.open(B, Admit::Stranger);
        net.say(B, &hello(None, Features::ASKED_ONLY), Qos::Fire);
        let welcome = net.take(B);
        assert!(welcome[0].starts_with("WELCOME"), "{welcome:?}");
        assert_eq!(welcome.len(), 1, "no snapshot that nobody asked for");
        for (pattern, params) in [("/a/**", 2), ("/none/*", 0), ("/b/x", 1), ("/**", 3)] {
            net.subscribe(B, 1, pattern);
            let got = net.take(B);
            let (end, snapshot) = got.split_last().expect("the end is told");
            assert_eq!(end, &format!("ACK {pattern}"), "{shards} shards");
            assert_eq!(snapshot.len(), params, "{pattern}: {snapshot:?}");
        }
        let events = Subscribe {
            id: 2,
            pattern: "/**",
            types: SignalMask(2),
            options: SubscribeOptions::default(),
        };
        net.say(B, &Message::Subscribe(events), Qos::Fire);
        assert_eq!(net.take(B), ["ACK /**"]);
    }
}

#[test]
fn a_published_param_is_not_kept() {
    let mut net = one();
    net.join(A);
    net.join(B);
    net.subscribe(B, 1, "/**");
    let param = Publish { address: "/p", signal: Some(Signal::Param), ..Publish::default() };
    net.say(A, &Message::Publish(param), Qos::Fire);
    assert_eq!(net.take(B), ["param /p"]);
    net.say(A, &Message::Get { address: "/p" }, Qos::Fire);
    assert_eq!(net.take(A), ["ERROR 201 /p"]);
}

#[test]
fn a_param_lives_exactly_as_long_as_its_ttl_says() {
    for shards in [1, 3] {
        let mut net = Net::new(Settings { session_timeout: None, ..settings(shards) });
        net.join(A);
        let lives = [
            ("/sliding", Some(Ttl::Sliding(2))),
            ("/absolute", Some(Ttl::Absolute(2))),
            ("/never", Some(Ttl::Never)),
            ("/none", None),
        ];
        for (address, ttl) in lives {
            net.say(A, &Message::Set(Set { ttl, ..set_of(address) }), Qos::Fire);
        }
        net.wait_ms(1_000);
        net.set(A, "/sliding", 1.0);
        let get = |net: &mut Net, address| {
            net.say(A, &Message::Get { address }, Qos::Fire);
            net.take(A).remove(0).starts_with("SNAPSHOT")
        };
        // Milliseconds since the first write, and what is left.
        for (at_ms, left) in [(1_999, [true; 4]), (2_000, [true, false, true, true])] {
            net.wait_ms(at_ms - net.now.0 / 1_000_000);
            assert_eq!(lives.map(|(address, _)| get(&mut net, address)), left, "at {at_ms} ms");
        }
        net.wait_ms(999);
        assert!(get(&mut net, "/sliding"), "{shards} shards");
        net.wait_ms(1);
        assert!(!get(&mut net, "/sliding"), "{shards} shards");
        net.wait_ms(100_000_000);
        assert!(get(&mut net, "/never") && get(&mut net, "/none"), "{shards} shards");
    }
}

#[test]
fn announcements_are_acknowledged_where_that_is_safe_and_answer_queries() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.join(A);
        net.join(far);
        net.say(far, &Message::Query { pattern: "/**" }, Qos::Fire);
        assert_eq!(net.take(far), ["RESULT []"], "{shards} shards");
        let mut list = Vec::new();
        for address in ["/lamp/a", "/lamp/b", "/other"] {
            let info = clasp_rt_core::message::SignalInfo {
                address,
                signal: Signal::Param,
                datatype: None,
                access: None,
                meta: None,
            };
            Announced::append(&mut list, info).unwrap();
        }
        let signals = Announced::from_bytes(&list).unwrap();
        net.say(A, &Message::Announce(Announce { namespace: "/lamp", signals }), Qos::Fire);
        assert_eq!(net.take(A), ["ACK /lamp"], "a published client expects it at any quality");
        net.say(far, &Message::Query { pattern: "/lamp/*" }, Qos::Fire);
        assert_eq!(net.take(far), [r#"RESULT ["/lamp/a", "/lamp/b"]"#], "{shards} shards");
    }
}

#[test]
fn time_is_told_when_asked_and_only_then() {
    let mut net = one();
    net.join(A);
    net.wait_ms(1_500);
    net.say(A, &Message::Sync(Sync { t1: 7, t2: None, t3: None }), Qos::Fire);
    let us = net.unix_us();
    assert_eq!(net.take(A), [format!("Sync(Sync {{ t1: 7, t2: Some({us}), t3: Some({us}) }})")]);
    net.say(A, &Message::Sync(Sync { t1: 7, t2: Some(8), t3: Some(9) }), Qos::Fire);
    net.say(A, &Message::Pong, Qos::Fire);
    assert_eq!(net.take(A), [""; 0]);
}

#[test]
fn what_is_no_frame_before_hello_closes_the_link() {
    let mut net = one();
    net.open(A, Admit::Stranger);
    net.raw(A, b"GET / HTTP/1.1");
    assert_eq!(net.take(A), ["ERROR 100 -"]);
    assert_eq!(net.peers[&A].closed, Some(CloseReason::Protocol));
}

#[test]
fn a_gesture_without_an_id_is_one_and_nobody_elses() {
    let mut net = one();
    for client in [A, B, (0, 2)] {
        net.join(client);
    }
    net.subscribe((0, 2), 1, "/g");
    let gesture = |phase, data| Publish {
        address: "/g",
        signal: Some(Signal::Gesture),
        phase: Some(phase),
        value: Some(f64_value(data)),
        ..Publish::default()
    };
    let data: Vec<[u8; 8]> = (0..4).map(|i| f64::from(i).to_be_bytes()).collect();
    for (client, phase, at) in [
        (A, Phase::Start, 0),
        (B, Phase::Start, 1),
        (A, Phase::Move, 2),
        (B, Phase::Move, 3),
        (A, Phase::End, 0),
    ] {
        net.say(client, &Message::Publish(gesture(phase, &data[at])), Qos::Fire);
    }
    let want =
        ["gesture /g start 0", "gesture /g start 1", "gesture /g move 2", "gesture /g end 0"];
    assert_eq!(net.take((0, 2)), want);
    net.wait_ms(20);
    assert_eq!(net.take((0, 2)), ["gesture /g move 3"], "the other one goes on");
}

#[test]
fn an_unsubscribed_pattern_keeps_nothing_back() {
    let mut net = one();
    net.join(A);
    net.join(B);
    let options = SubscribeOptions { max_rate: Some(1), ..SubscribeOptions::default() };
    net.subscribe_with(B, 1, "/**", options);
    for i in 0..200 {
        net.set(A, &format!("/a/{i}"), 1.0);
        net.set(A, &format!("/a/{i}"), 2.0);
    }
    assert_eq!(net.take(B).len(), 200);
    net.say(B, &Message::Unsubscribe { id: 1 }, Qos::Fire);
    net.wait_ms(5_000);
    assert_eq!(net.take(B), [""; 0]);
    assert_eq!(net.shards[0].subscriptions(), 0);
}

//! Who wins a param: priority first, then HTP, LTP or lowest; time-outs, losses, duels, markers.

use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::shard::{Action, Arbitration, Grant, OnLoss, Order, Scope, Settings, SourceFor};
use clasp_rt_core::signal::{Phase, Qos, Signal};
use clasp_rt_core::time::Span;
use clasp_rt_core::value::{self, MapWriter, Value};

use super::net::{Client, Net, f64_value, set_of};
use super::{A, B, settings};

pub const C: Client = (0, 2);
pub const HEARER: Client = (0, 3);

pub fn arbitration(pattern: &str, order: Order) -> Arbitration {
    Arbitration {
        pattern: pattern.into(),
        order,
        timeout: None,
        on_loss: OnLoss::Hold,
        default_priority: 100,
    }
}

pub fn encoded(number: f64) -> Vec<u8> {
    let mut bytes = Vec::new();
    value::push_f64(&mut bytes, number);
    bytes
}

/// `/htp`, `/ltp` and `/low` below any rig, on so many shards; C is called `main desk`.
fn stage(shards: u16) -> Net {
    stage_with(shards, |_| {})
}

fn stage_with(shards: u16, change: impl FnOnce(&mut Settings)) -> Net {
    let arbitrations = vec![
        arbitration("/*/htp/**", Order::Highest),
        arbitration("/*/ltp/**", Order::Latest),
        arbitration("/*/low/**", Order::Lowest),
    ];
    let sources = vec![SourceFor { name: "main*".into(), priority: 150 }];
    let mut settings = Settings { arbitrations, sources, ..settings(shards) };
    settings.session_timeout = None;
    change(&mut settings);
    let last = usize::from(shards) - 1;
    let mut net = Net::new(settings);
    for client in [A, B, HEARER, (last, 9)] {
        net.join(client);
    }
    net.join_as(C, "main desk");
    net.subscribe(HEARER, 1, "/*/htp/**");
    net.subscribe(HEARER, 2, "/*/ltp/**");
    net.subscribe(HEARER, 3, "/*/low/**");
    net
}

/// What the hearer got, without addresses.
pub fn heard(net: &mut Net) -> Vec<String> {
    net.take(HEARER)
        .iter()
        .map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The value of a marker, which `push` fills.
pub fn map(push: impl FnOnce(&mut MapWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut MapWriter::start(&mut bytes));
    bytes
}

fn source(id: &str, priority: Option<i64>) -> Vec<u8> {
    map(|map| {
        value::push_str(map.entry("id").unwrap(), id).unwrap();
        if let Some(priority) = priority {
            value::push_i64(map.entry("priority").unwrap(), priority);
        }
    })
}

fn sign(id: &str, key: &str) -> Vec<u8> {
    map(|map| {
        value::push_str(map.entry("id").unwrap(), id).unwrap();
        value::push_bool(map.entry(key).unwrap(), true);
    })
}

pub fn marker(value: &[u8]) -> Message<'_> {
    Message::Publish(Publish {
        address: "/clasp/source",
        signal: Some(Signal::Event),
        phase: Some(Phase::Start),
        value: Some(Value::from_encoded(value).unwrap()),
        ..Publish::default()
    })
}

/// A bundle in which `id` sets `address`.
pub fn set_as(
    net: &mut Net,
    client: Client,
    id: &str,
    priority: Option<i64>,
    address: &str,
    to: f64,
) {
    let (tag, data) = (source(id, priority), to.to_be_bytes());
    let set = Message::Set(Set { value: f64_value(&data), ..set_of(address) });
    net.bundle(client, &[marker(&tag), set], None);
}

/// The map that `why` answers with, as text.
pub fn why(net: &mut Net, client: Client, address: &str) -> String {
    answer(net, client, &format!("/clasp/why{address}"))
}

/// The value that GET answers with, as text.
pub fn answer(net: &mut Net, client: Client, address: &str) -> String {
    net.take(client);
    net.say(client, &Message::Get { address }, Qos::Fire);
    let frame = net.peers[&client].frames.last().expect("an answer").clone();
    let Some(Message::Snapshot { params }) = super::net::message_of(&frame) else {
        return net.take(client).join("; ");
    };
    let param = params.iter().next().expect("one param");
    let told = tell(param.value);
    net.take(client);
    told
}

fn tell(value: Value<'_>) -> String {
    if let Some(entries) = value.map() {
        let entries = entries.filter(|(key, _)| *key != "since_us");
        let told: Vec<_> = entries.map(|(key, value)| format!("{key}={}", tell(value))).collect();
        return format!("{{{}}}", told.join(" "));
    }
    if let Some(items) = value.array() {
        return format!("[{}]", items.map(tell).collect::<Vec<_>>().join(" "));
    }
    match (value.as_str(), value.as_f64()) {
        (Some(text), _) if text.len() == 36 => "session".into(),
        (Some(text), _) => text.into(),
        (_, Some(number)) => number.to_string(),
        _ => "?".into(),
    }
}

#[test]
fn the_highest_of_equal_priority_wins_and_only_a_changed_outcome_is_told() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        for rig in 0..4 {
            let address = format!("/rig{rig}/htp/1");
            for (client, value, want) in [
                (A, 10.0, vec!["10 r1"]),
                (B, 5.0, vec![]),
                (B, 20.0, vec!["20 r2"]),
                (A, 15.0, vec![]),
                (B, 1.0, vec!["15 r3"]),
                (B, 15.0, vec![]),
                (A, 0.0, vec![]),
            ] {
                net.set(client, &address, value);
                assert_eq!(heard(&mut net), want, "{value} on {shards} shards");
            }
        }
    }
}

#[test]
fn a_higher_priority_wins_whatever_it_says_and_a_loser_is_acknowledged() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        net.set(A, "/rig/htp/1", 200.0);
        net.set(C, "/rig/htp/1", 30.0);
        assert_eq!(heard(&mut net), ["200 r1", "30 r2"]);
        net.take(A);
        let data = 255.0_f64.to_be_bytes();
        let set = Set { value: f64_value(&data), ..set_of("/rig/htp/1") };
        net.say(A, &Message::Set(set), Qos::Confirm);
        assert_eq!(net.take(A), ["ACK /rig/htp/1 r2"]);
        assert_eq!(heard(&mut net), [""; 0]);
        let want = "{value=30 rule=htp winner={source=session priority=150 value=30} \
                    losers=[{source=session priority=100 value=255}]}";
        assert_eq!(why(&mut net, A, "/rig/htp/1"), want, "{shards} shards");
        net.leave(C);
        assert_eq!(heard(&mut net), ["255 r3"], "the next one has it, {shards} shards");
    }
}

#[test]
fn the_latest_change_wins_and_saying_the_same_again_is_none() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        for (client, value, want) in [
            (A, 10.0, vec!["10 r1"]),
            (B, 20.0, vec!["20 r2"]),
            (A, 10.0, vec![]),
            (A, 11.0, vec!["11 r3"]),
            (B, 21.0, vec!["21 r4"]),
        ] {
            net.set(client, "/rig/ltp/1", value);
            assert_eq!(heard(&mut net), want, "{value} on {shards} shards");
            net.wait_ms(2_000);
        }
        net.leave(B);
        assert_eq!(heard(&mut net), ["11 r5"]);
        net.set(A, "/rig/low/1", 5.0);
        net.set((usize::from(shards) - 1, 9), "/rig/low/1", 4.0);
        net.set(A, "/rig/low/1", 9.0);
        assert_eq!(heard(&mut net), ["5 r1", "4 r2"]);
    }
}

#[test]
fn a_marker_says_whose_the_sets_after_it_are_and_is_nobodys_to_hear() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        net.subscribe(HEARER, 9, "/clasp/source");
        let (low, high) = (source("low", Some(50)), source("high", Some(120)));
        let data = [80.0_f64, 60.0, 70.0].map(f64::to_be_bytes);
        let set = |at: usize, address| {
            Message::Set(Set { value: f64_value(&data[at]), ..set_of(address) })
        };
        let parts = [
            marker(&low),
            set(0, "/rig/htp/1"),
            set(0, "/rag/htp/1"),
            marker(&high),
            set(1, "/rig/htp/1"),
        ];
        net.bundle(A, &parts, None);
        let mut got = heard(&mut net);
        got.sort();
        assert_eq!(got, ["60 r2", "80 r1", "80 r1"], "{shards} shards");
        assert_eq!(net.take(A), ["ACK - r2"]);
        let want = "{value=60 rule=htp winner={source=high priority=120 value=60} \
                    losers=[{source=low priority=50 value=80}]}";
        assert_eq!(why(&mut net, B, "/rig/htp/1"), want);
        net.bundle(A, &[marker(&low), set(2, "/rag/htp/1")], Some(net.unix_us() + 1_000));
        net.wait_ms(5);
        assert_eq!(heard(&mut net), ["70 r2"], "and so it does in a timed bundle");
        assert_eq!(net.take(A), ["ACK -"]);
        for value in [map(|_| {}), source("", None), source("a/b", None), source("a", Some(201))] {
            net.bundle(A, &[marker(&value), set(0, "/rig/htp/1")], None);
            assert_eq!(net.take(A), ["ERROR 403 /clasp/source"]);
            net.say(A, &marker(&value), Qos::Fire);
            assert_eq!(net.take(A), ["ERROR 402 /clasp/source"]);
        }
        assert_eq!(heard(&mut net), [""; 0]);
    }
}

#[test]
fn a_released_source_loses_at_every_home_and_may_come_back() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        let addresses: Vec<_> = (0..6).map(|rig| format!("/rig{rig}/htp/1")).collect();
        for address in &addresses {
            net.set(B, address, 1.0);
            set_as(&mut net, A, "desk", None, address, 9.0);
            set_as(&mut net, A, "other", None, address, 3.0);
        }
        net.take(HEARER);
        assert_eq!(net.shards.iter().map(|shard| shard.claims()).sum::<u32>(), 18);
        net.say(B, &marker(&sign("desk", "release")), Qos::Fire);
        assert_eq!(heard(&mut net), [""; 0], "of another session's nothing is released");
        net.say(A, &marker(&sign("desk", "release")), Qos::Fire);
        assert_eq!(heard(&mut net), ["3 r3"; 6], "{shards} shards");
        set_as(&mut net, A, "desk", None, &addresses[0], 9.0);
        assert_eq!(heard(&mut net), ["9 r4"]);
        net.leave(A);
        let mut got = heard(&mut net);
        got.sort();
        assert_eq!(got, ["1 r4", "1 r4", "1 r4", "1 r4", "1 r4", "1 r5"], "{shards} shards");
        assert_eq!(net.shards.iter().map(|shard| shard.claims()).sum::<u32>(), 6);
    }
}

#[test]
fn what_follows_a_release_is_not_lost_by_it_on_whichever_way() {
    let mut net = stage(3);
    let sender = (1, 7);
    net.join(sender);
    let addresses: Vec<_> = (0..3).map(|shard| net.address_below(shard, 0, "htp")).collect();
    let (tag, data) = (source("desk", None), 9.0_f64.to_be_bytes());
    let mut parts = vec![marker(&tag)];
    parts.extend(
        addresses
            .iter()
            .map(|address| Message::Set(Set { value: f64_value(&data), ..set_of(address) })),
    );
    net.bundle(sender, &parts, None);
    // What the sender's shard forwards to shard 2 is stuck, the coordinator's way is not.
    net.stuck = Some((1, 2, false));
    net.queue(sender, &super::net::frame_of(&marker(&sign("desk", "release")), Qos::Fire));
    net.queue(sender, &super::net::bundle_frame(&parts, None));
    net.settle();
    net.stuck = None;
    net.settle();
    assert_eq!(net.shards.iter().map(|shard| shard.claims()).sum::<u32>(), 3);
}

#[test]
fn a_silent_source_is_lost_in_its_time_unless_it_says_that_it_is_there() {
    for shards in [1, 3] {
        let mut net = stage_with(shards, |settings| {
            settings.arbitrations[0].timeout = Some(Span::from_millis(2_500));
        });
        net.set(B, "/rig/htp/1", 5.0);
        set_as(&mut net, A, "desk", None, "/rig/htp/1", 9.0);
        net.wait_ms(2_000);
        net.set(B, "/rig/htp/1", 5.0);
        assert_eq!(heard(&mut net), ["5 r1", "9 r2"]);
        net.wait_ms(499);
        assert_eq!(heard(&mut net), [""; 0]);
        net.wait_ms(1);
        assert_eq!(heard(&mut net), ["5 r3"], "{shards} shards");
        set_as(&mut net, A, "desk", None, "/rig/htp/1", 9.0);
        for _ in 0..4 {
            net.wait_ms(2_000);
            net.say(A, &marker(&sign("desk", "alive")), Qos::Fire);
        }
        assert_eq!(heard(&mut net), ["9 r4"], "{shards} shards");
        net.wait_ms(2_500);
        assert_eq!(heard(&mut net), [""; 0], "the last one is lost, and what it said holds");
        assert_eq!(
            why(&mut net, A, "/rig/htp/1"),
            "{value=9 rule=htp timeout_us=2500000 held=no source claims it writer=session}"
        );
    }
}

#[test]
fn the_last_loss_holds_sets_or_fades() {
    for shards in [1, 3] {
        let mut net = stage_with(shards, |settings| {
            let over = Span::from_millis(160);
            settings.arbitrations[0].on_loss = OnLoss::Fade { value: encoded(0.0), over };
            settings.arbitrations[1].on_loss = OnLoss::Set { value: encoded(7.0) };
        });
        for kind in ["htp", "ltp", "low"] {
            net.set(A, &format!("/rig/{kind}/1"), 100.0);
        }
        assert_eq!(heard(&mut net), ["100 r1"; 3]);
        net.leave(A);
        assert_eq!(heard(&mut net), ["7 r2"]);
        net.wait_ms(80);
        let got = heard(&mut net);
        assert_eq!(got.last().unwrap(), "50 r6", "{got:?}");
        net.set(B, "/rig/htp/1", 60.0);
        net.wait_ms(500);
        assert_eq!(heard(&mut net), ["60 r7"], "a new source stops the fade");
        net.leave(B);
        net.wait_ms(500);
        let got = heard(&mut net);
        assert_eq!((got.len(), got.last().unwrap().as_str()), (10, "0 r17"), "{got:?}");
    }
}

#[test]
fn who_fights_at_equal_priority_is_told_before_it_is_seen_and_not_all_the_time() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        net.subscribe(HEARER, 9, "/clasp/duel");
        let fight = |net: &mut Net, address: &str, from: f64| {
            net.set(A, address, from + 1.0);
            net.set(B, address, from + 2.0);
            net.wait_ms(500);
            net.set(A, address, from + 3.0);
            let told = net.take(HEARER);
            told.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(fight(&mut net, "/rig/ltp/1", 0.0), ["SET", "SET", "event", "SET"]);
        assert_eq!(fight(&mut net, "/rig/htp/1", 0.0), ["SET", "event", "SET", "SET"]);
        assert_eq!(fight(&mut net, "/rig/ltp/1", 10.0), ["SET", "SET", "SET"], "told lately");
        net.wait_ms(5_000);
        net.set(A, "/rig/ltp/1", 4.0);
        net.wait_ms(1_001);
        net.set(B, "/rig/ltp/1", 5.0);
        net.wait_ms(1_001);
        net.set(A, "/rig/ltp/1", 6.0);
        assert_eq!(heard(&mut net).len(), 3, "in turns, {shards} shards");
        net.set(C, "/rig/ltp/1", 1.0);
        assert_eq!(heard(&mut net).len(), 1);
        assert_eq!(fight(&mut net, "/rig/ltp/1", 20.0), [""; 0], "below somebody's priority");
        assert_eq!(net.shards.iter().map(|shard| shard.counts().duels).sum::<u64>(), 2);
    }
}

#[test]
fn a_route_is_told_whose_the_sets_are_and_speaks_for_them() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        let route = (usize::from(shards) - 1, 9);
        let tell = map(|map| value::push_bool(map.entry("tell").unwrap(), true));
        net.say(route, &marker(&tell), Qos::Fire);
        net.subscribe(route, 1, "/in/**");
        net.take(route);
        set_as(&mut net, A, "desk", Some(120), "/in/1", 1.0);
        net.set(C, "/in/2", 2.0);
        set_as(&mut net, C, "fader", None, "/in/3", 3.0);
        let frames = std::mem::take(&mut net.peers.get_mut(&route).unwrap().frames);
        let markers: Vec<_> = frames.iter().map(|frame| super::net::inside(frame)).collect();
        for (said, address) in markers.iter().zip(["/in/1", "/in/2", "/in/3"]) {
            assert_eq!(said.len(), 2, "{said:?}");
            assert!(said[1].contains(address), "{said:?}");
        }
        // Who declares no priority has that of its session, which the route's would not be.
        for frame in &frames {
            assert!(String::from_utf8_lossy(frame).contains("priority"), "{shards} shards");
        }
        // The route says what it heard in the name of whom it heard.
        for frame in &frames {
            let frame = String::from_utf8_lossy(frame).into_owned();
            assert!(frame.contains("by"), "{frame}");
        }
        let by = net.session_of(A);
        let tag = map(|map| {
            value::push_str(map.entry("id").unwrap(), "desk").unwrap();
            value::push_str(map.entry("by").unwrap(), &by).unwrap();
        });
        let data = 9.0_f64.to_be_bytes();
        let set = Message::Set(Set { value: f64_value(&data), ..set_of("/rig/htp/1") });
        net.set(B, "/rig/htp/1", 4.0);
        net.bundle(route, &[marker(&tag), set], None);
        assert_eq!(heard(&mut net), ["4 r1", "9 r2"]);
        net.leave(A);
        assert_eq!(heard(&mut net), ["4 r3"], "who is spoken for has left, {shards} shards");
    }
}

#[test]
fn claims_are_bounded_and_one_too_many_is_refused() {
    for shards in [1, 3] {
        let mut net = stage_with(shards, |settings| settings.limits.claims_max = 2);
        let address = |net: &Net, nth| net.address_below(0, nth, "htp");
        let addresses: Vec<_> = (0..3).map(|nth| address(&net, nth)).collect();
        net.set(A, &addresses[0], 1.0);
        net.set(A, &addresses[1], 1.0);
        net.set(A, &addresses[0], 2.0);
        assert_eq!(net.take(A), [""; 0]);
        net.set(A, &addresses[2], 1.0);
        assert_eq!(net.take(A), [format!("ERROR 400 {}", addresses[2])]);
        set_as(&mut net, A, "desk", None, &addresses[0], 3.0);
        assert_eq!(net.take(A), [format!("ERROR 400 {}", addresses[0])], "{shards} shards");
        assert_eq!(net.shards[0].claims(), 2);
        net.leave(A);
        assert_eq!(net.shards[0].claims(), 0);
        net.set(B, &addresses[2], 1.0);
        assert_eq!(net.take(B), [""; 0]);
    }
}

#[test]
fn what_is_arbitrated_is_told_to_who_asks() {
    for shards in [1, 3] {
        let mut net = stage_with(shards, |settings| {
            settings.arbitrations[1].timeout = Some(Span::from_millis(2_500));
            settings.arbitrations[1].on_loss = OnLoss::Set { value: encoded(0.5) };
            let over = Span::from_secs(3);
            settings.arbitrations[2].on_loss = OnLoss::Fade { value: encoded(0.0), over };
        });
        net.set(A, "/clasp/arbitration", 1.0);
        assert_eq!(net.take(A), ["ERROR 301 /clasp/arbitration"]);
        let expected = "{arbitration=[\
            {pattern=/*/htp/** rule=htp default_priority=100 on_loss=hold} \
            {pattern=/*/ltp/** rule=ltp default_priority=100 timeout_us=2500000 \
             on_loss=set value=0.5} \
            {pattern=/*/low/** rule=lowest default_priority=100 \
             on_loss=fade value=0 fade_us=3000000}] \
            source=[{name=main* priority=150}]}";
        assert_eq!(answer(&mut net, B, "/clasp/arbitration"), expected, "{shards} shards");
        let mut net = stage_with(shards, |settings| {
            (settings.arbitrations, settings.sources) = (Vec::new(), Vec::new());
        });
        let nothing = "{arbitration=[] source=[]}";
        assert_eq!(answer(&mut net, (shards as usize - 1, 9), "/clasp/arbitration"), nothing);
    }
}

#[test]
fn what_is_arbitrated_is_refused_where_it_does_not_fit_an_answer_and_to_who_may_not_read_it() {
    let mut net = stage_with(1, |settings| {
        let table = settings.arbitrations[0].clone();
        settings.arbitrations.resize(1_024, table);
    });
    assert_eq!(answer(&mut net, A, "/clasp/arbitration"), "ERROR 402 /clasp/arbitration");
    let scope = |pattern: &str| Scope { action: Action::Write, pattern: pattern.into() };
    for (pattern, told) in
        [("/rig/**", "ERROR 301 /clasp/arbitration"), ("/clasp/*", "{arbitration=[] source=[]}")]
    {
        let grant = Grant {
            token: "t".into(),
            scopes: vec![scope("/rig/**"), scope(pattern)],
            expires_unix_s: None,
        };
        let mut net = Net::new(Settings { grants: Some(vec![grant]), ..settings(1) });
        net.join_with(A, Some("t"), 0);
        assert_eq!(answer(&mut net, A, "/clasp/arbitration"), told);
    }
}

#[test]
fn what_the_router_answers_for_is_not_set_and_what_is_not_arbitrated_is_explained_too() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        for address in ["/clasp/why/a", "/clasp/duel", "/clasp/source"] {
            net.set(A, address, 1.0);
            assert_eq!(net.take(A), [format!("ERROR 301 {address}")]);
        }
        net.set(A, "/clasp/source/desk", 1.0);
        net.set(A, "/plain/a", 5.0);
        assert_eq!(net.take(A), [""; 0]);
        assert_eq!(why(&mut net, B, "/plain/a"), "{value=5 rule=last writer=session}");
        assert_eq!(why(&mut net, B, "/plain/none"), "ERROR 201 /clasp/why/plain/none");
        net.set(C, "/rig/htp/1", 1.0);
        let id = net.session_of(C);
        net.take(B);
        net.say(B, &Message::Get { address: &format!("/clasp/source/{id}") }, Qos::Fire);
        let frame = net.peers[&B].frames.last().unwrap();
        let text = String::from_utf8_lossy(frame);
        assert!(text.contains("main desk") && text.contains("10.0.0.3"), "{text}");
    }
}

#[test]
fn a_source_is_described_by_the_session_that_named_it_as_long_as_that_is_there() {
    for shards in [1, 3] {
        let mut net = stage(shards);
        let refused = ["ERROR 301 /clasp/source/desk".to_owned()];
        let describe = |net: &mut Net, who, value| {
            net.set(who, "/clasp/source/desk", value);
            net.take(who)
        };
        assert_eq!(describe(&mut net, A, 1.0), [""; 0]);
        for value in [2.0, 2.5] {
            assert_eq!(describe(&mut net, B, value), refused, "{shards} shards");
        }
        let set = Set {
            address: "/clasp/source/desk",
            value: Value::NULL,
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        };
        net.bundle(B, &[Message::Set(set)], None);
        assert_eq!(net.take(B), ["ERROR 403 /clasp/source/desk"], "{shards} shards");
        assert_eq!(describe(&mut net, A, 3.0), [""; 0]);
        // What a session is the router says, and that session itself.
        let own = format!("/clasp/source/{}", net.session_of(A));
        net.set(B, &own, 4.0);
        assert_eq!(net.take(B), [format!("ERROR 301 {own}")], "{shards} shards");
        net.set(A, &own, 4.0);
        net.set(A, "/rig/htp/1", 1.0);
        assert_eq!(net.take(A), [""; 0], "{shards} shards");
        net.leave(A);
        assert_eq!(describe(&mut net, B, 5.0), [""; 0], "{shards} shards");
        assert_eq!(describe(&mut net, C, 6.0), refused, "whose it is now, {shards} shards");
    }
}

#[test]
fn sources_are_not_arbitrated_themselves() {
    let mut net = stage_with(1, |settings| {
        settings.arbitrations = vec![arbitration("/**", Order::Highest)];
    });
    net.set(A, "/clasp/source/desk", 1.0);
    net.set(B, "/clasp/source/desk", 2.0);
    assert_eq!(net.take(B), ["ERROR 301 /clasp/source/desk"]);
}

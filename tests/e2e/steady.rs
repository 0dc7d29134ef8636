//! The steady state, counted by the router itself: no allocation, one system call a turn, no turn
//! without a reason.
//!
//! Connecting takes a little memory, and so does reading what a person types as JSON; neither is
//! part.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clasp_rt_tests::eventually;
use clasp_rt_tests::frame::encode;
use clasp_rt_tests::metrics::Counters;
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// Messages that must pass without a trace in the allocator.
const MESSAGES: u64 = 50_000;

/// Rounds before that, in which buffers may still grow to what the traffic needs.
const WARM_UP_ROUNDS: u64 = 50;

#[test]
fn traffic_of_every_kind_allocates_nothing_and_enters_the_kernel_once_a_turn() {
    for shards in [1, 2] {
        let mut show = Show::start(shards);
        (0..WARM_UP_ROUNDS).for_each(|round| show.round(round));
        let before = show.settled();
        let until = show.sent + MESSAGES;
        for round in WARM_UP_ROUNDS.. {
            if show.sent >= until {
                break;
            }
            show.round(round);
        }
        let after = show.settled();
        for shard in 0..shards {
            let grown = |name| after.of_shard(shard, name) - before.of_shard(shard, name);
            let (turns, enters) = (grown("turns"), grown("kernel_enters"));
            let (frames, records) = (grown("frames_in"), grown("peer_records"));
            println!(
                "shard {shard} of {shards}: {frames} frames and {records} records of others in \
                 {turns} turns, {enters} enters"
            );
            assert!(frames + records >= MESSAGES / 10, "shard {shard} has a share of the work");
            assert_eq!(grown("allocations"), 0, "shard {shard} of {shards}");
            assert!(enters <= turns, "shard {shard} of {shards}: {enters} enters, {turns} turns");
            // A thread that parks looks around once or twice before it sleeps again; one that waits
            // for another shard without sleeping takes thousands of turns meanwhile.
            assert!(
                turns <= 4 * enters,
                "shard {shard} of {shards}: {enters} enters, {turns} turns"
            );
        }
        for name in ["malformed", "rate_limited", "closed_slow", "peer_spills"] {
            assert_eq!(after.of_all(shards, name), 0, "{name}");
        }
    }
}

#[test]
fn a_router_with_idle_clients_takes_a_few_turns_a_second() {
    for idle in ["park", "nohalt"] {
        let router = Router::start(&["--shards", "1", "--idle", idle, "--metrics", "127.0.0.1:0"]);
        let mut clients: Vec<_> = (0..10).map(|n| router.join(&format!("idle {n}"))).collect();
        clients.iter_mut().for_each(|client| drop(client.ask(subscribe(1, "/**"))));
        let mut last = router.counters();
        let next = |last: &Counters| {
            eventually("the next second of an idle router", || {
                Some(router.counters()).filter(|counters| counters != last)
            })
        };
        // The first two hold the end of the joining.
        for _ in 0..2 {
            last = next(&last);
        }
        let (start, first) = (Instant::now(), last.clone());
        for _ in 0..2 {
            last = next(&last);
        }
        let seconds = start.elapsed().as_secs_f64().ceil() as u64 + 1;
        for name in ["turns", "kernel_enters"] {
            let grown = last.of_shard(0, name) - first.of_shard(0, name);
            println!("{idle}: {grown} {name} in at most {seconds} s");
            assert!(grown <= 5 * seconds, "{idle}: {grown} {name} in at most {seconds} s");
        }
    }
}

/// A router and those around it: two desks that do everything, and two that watch.
struct Show {
    router: Router,
    shards: usize,
    desks: Vec<Raw>,
    watchers: Vec<Raw>,
    /// Watches in JSON.
    page: Raw,
    /// Frames sent so far, by all of them.
    sent: u64,
}

impl Show {
    fn start(shards: usize) -> Self {
        let count = shards.to_string();
        let router =
            Router::start(&["--shards", &count, "--rate-limit", "0", "--metrics", "127.0.0.1:0"]);
        // Enough of them that no shard is left without links, whatever the kernel's choice.
        let clients = |name: &str| -> Vec<Raw> {
            (0..4 * shards).map(|n| router.join(&format!("{name} {n}"))).collect()
        };
        let (desks, watchers) = (clients("desk"), clients("watcher"));
        let mut page = router.connect();
        page.send_text(r#"{"type":"HELLO","name":"page"}"#);
        page.send_text(r#"{"type":"SUBSCRIBE","id":1,"pattern":"/show/**"}"#);
        let sent = (desks.len() + watchers.len() + 2) as u64;
        let mut show = Self { router, shards, desks, watchers, page, sent };
        let wishes = [
            subscribe(1, "/show/**"),
            json!({"type": "SUBSCRIBE", "id": 2, "pattern": "/show/*/level", "max_rate": 30}),
            json!({"type": "SUBSCRIBE", "id": 3, "pattern": "/show/3/*", "epsilon": 0.5}),
        ];
        for watcher in &mut show.watchers {
            for wish in &wishes {
                watcher.ask(wish.clone());
                show.sent += 2;
            }
        }
        show
    }

    /// Each desk says one message of each kind, and everybody reads what there is.
    fn round(&mut self, round: u64) {
        for (number, desk) in self.desks.iter_mut().enumerate() {
            let messages = kinds(number as u64, round);
            let frames: Vec<_> = messages.iter().map(encode).collect();
            desk.send_together(frames.iter().map(Vec::as_slice));
            self.sent += frames.len() as u64;
        }
        for client in self.desks.iter_mut().chain(&mut self.watchers) {
            client.receive_all();
            self.sent += 1;
        }
        let last = format!("\"cue\":{round},");
        for _ in &self.desks {
            while !self.page.receive_text().contains(&last) {}
        }
    }

    /// What is counted once all that was sent has been.
    fn settled(&self) -> Counters {
        self.router.counters_where(|counters| {
            let counted = counters.of_all(self.shards, "frames_in");
            assert!(counted <= self.sent, "{counted} of {}", self.sent);
            counted == self.sent
        })
    }
}

/// One message of every kind that clients send while a show runs.
fn kinds(desk: u64, round: u64) -> Vec<Json> {
    let level = (round % 100) as f64 / 100.0;
    let (this, other) = (round % 16, (round + desk) % 16);
    let set =
        |address: String, value: Json| json!({"type": "SET", "address": address, "value": value});
    let publish = |signal: &str, address: &str, more: Json| {
        let mut message = json!({"type": "PUBLISH", "signal": signal, "address": address});
        let fields = message.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        message
    };
    let gesture = |phase: &str| {
        publish("gesture", "/show/pad", json!({"id": desk, "phase": phase, "value": {"x": level}}))
    };
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let soon_us = (unix + Duration::from_millis(5)).as_micros() as u64;
    let cue = |n: u64| set(format!("/show/{n}/cue"), json!([level, "warm", null, n]));
    vec![
        set(format!("/show/{this}/level"), json!(level)),
        set(format!("/show/{other}/name"), json!(format!("scene {}", round % 1_000))),
        set(format!("/show/{this}/data"), json!({"$bytes": "00ff".repeat(40)})),
        json!({
            "type": "SET", "address": format!("/brief/{desk}/{this}"),
            "value": round, "ttl": 50,
        }),
        json!({"type": "SET", "address": "/show/master", "value": level, "lock": true}),
        json!({"type": "SET", "address": "/show/master", "value": level, "unlock": true}),
        json!({"type": "SET", "address": "/show/last", "value": level, "revision": 1}),
        set("no/address".to_owned(), json!(level)),
        publish("event", "/show/cue/go", json!({"value": {"cue": round, "by": "desk"}})),
        publish("stream", "/show/meter", json!({"samples": [level, 0.5, 0.25], "rate": 48_000})),
        publish("stream", "/show/meter/peak", json!({"value": level})),
        gesture("start"),
        gesture("move"),
        gesture("move"),
        gesture("end"),
        json!({"type": "BUNDLE", "messages": (0..8).map(cue).collect::<Vec<_>>()}),
        json!({"type": "BUNDLE", "timestamp": soon_us, "messages": [cue(this), cue(other)]}),
        json!({"type": "ANNOUNCE", "namespace": "/show", "signals": [
            {"address": format!("/show/{this}/level"), "type": "param"},
        ]}),
        json!({"type": "SUBSCRIBE", "id": 9, "pattern": format!("/show/{other}/**"), "history": 4}),
        json!({"type": "UNSUBSCRIBE", "id": 9}),
        json!({"type": "GET", "address": format!("/show/{other}/name")}),
        json!({"type": "GET", "address": "/show/nothing"}),
        json!({"type": "QUERY", "pattern": "/show/*/level"}),
        json!({"type": "SYNC", "t1": round}),
    ]
}

fn subscribe(id: u32, pattern: &str) -> Json {
    json!({"type": "SUBSCRIBE", "id": id, "pattern": pattern})
}

//! A cue passes the samples in front of it, on its way to a receiver that does not keep up.

use clasp_rt_tests::eventually;
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// Bytes of one sample, and how many are sent: far more than may wait anywhere.
const SAMPLE_BYTES: usize = 2_000;
const SAMPLES: usize = 8_000;

/// Bytes that may be in front of a cue: the window of its link, what the sender's kernel holds, and
/// what the receiver's own kernel took before. Without lanes all that the outbox and the sockets
/// hold would be: over five million.
const IN_FRONT_MAX: usize = 1 << 20;

fn sample(number: usize) -> Json {
    let filler = "x".repeat(SAMPLE_BYTES);
    let address = format!("/sensor/{}", number % 4);
    let value = json!({"n": number, "filler": filler});
    json!({"type": "PUBLISH", "signal": "stream", "address": address, "value": value, "qos": 0})
}

fn subscribe(client: &mut Raw) {
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
}

/// Sends samples that nobody reads, then `cue` from another session; what the receiver finds, up to
/// the newest sample.
fn behind_samples(router: &Router, cue: &Json) -> Vec<Json> {
    let mut receiver = router.join("receiver");
    subscribe(&mut receiver);
    let (mut sensor, mut desk) = (router.join("sensor"), router.join("desk"));
    for number in 0..SAMPLES {
        sensor.send(sample(number));
    }
    // Answered in order: the router has taken them all.
    sensor.receive_all();
    desk.ask(cue.clone());
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &Json| last["value"]["n"] != SAMPLES - 1) {
        heard.push(receiver.receive());
    }
    heard
}

/// A session that the router does not take for `other`: it tells writers apart by eight marks, of
/// which each session has one by the first byte of its id, and lets no session overtake itself.
fn stranger_to(router: &Router, other: &Raw) -> Raw {
    let mark = |client: &Raw| {
        let byte = u8::from_str_radix(&client.session[..2], 16).expect("an id of hex digits");
        byte % 8
    };
    eventually("a session of another mark", || {
        Some(router.join("desk")).filter(|desk| mark(desk) != mark(other))
    })
}

fn place_of(heard: &[Json], address: &str) -> usize {
    heard.iter().position(|message| message["address"] == address).expect("the cue came")
}

#[test]
fn a_cue_passes_samples_that_wait_and_the_newest_of_those_arrive() {
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let cues = [
        json!({"type": "PUBLISH", "signal": "event", "address": "/cue", "value": "go"}),
        json!({"type": "BUNDLE", "qos": 0,
            "messages": [{"type": "SET", "address": "/cue", "value": 1}]}),
    ];
    for cue in cues {
        let heard = behind_samples(&router, &cue);
        let before = place_of(&heard, "/cue");
        let samples: Vec<&Json> = heard.iter().filter(|m| m["signal"] == "stream").collect();
        assert!(before * SAMPLE_BYTES < IN_FRONT_MAX, "{before} samples came before {cue}");
        assert!(samples.len() < SAMPLES && samples.len() > before, "{} came", samples.len());
        for address in ["/sensor/0", "/sensor/1", "/sensor/2", "/sensor/3"] {
            let numbers: Vec<u64> = samples
                .iter()
                .filter(|sample| sample["address"] == address)
                .map(|sample| sample["value"]["n"].as_u64().expect("a number"))
                .collect();
            assert!(numbers.is_sorted(), "{address}: {numbers:?}");
            let last = numbers.last().copied().expect("some arrive");
            assert!(last as usize >= SAMPLES - 4, "the newest of {address} is {last}");
        }
    }
}

#[test]
fn a_param_of_a_critical_address_passes_the_params_of_others() {
    for (address, passes) in [("/cue/stop", true), ("/other", false)] {
        let arguments = ["--shards", "1", "--rate-limit", "0"];
        let router = Router::with_config("[lanes]\ncritical = [\"/cue/**\"]\n", &arguments);
        let mut receiver = router.join("receiver");
        subscribe(&mut receiver);
        let mut filler = router.join("filler");
        let mut desk = stranger_to(&router, &filler);
        for number in 0..1_500 {
            let address = format!("/level/{number}");
            let value = "x".repeat(SAMPLE_BYTES / 4);
            filler.send(json!({"type": "SET", "address": address, "value": value, "qos": 0}));
        }
        filler.receive_all();
        desk.ask(json!({"type": "SET", "address": address, "value": 1, "qos": 0}));
        let heard = receiver.receive_all();
        let before = place_of(&heard, address);
        assert_eq!(before < 1_400, passes, "{before} params came before {address}");
    }
}

//! What an MQTT client is told beside its messages, and what it may not exceed: paho is the judge.

use clasp_rt_tests::program::{Program, installed};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};
use std::process::Command;

fn router() -> (Router, u16) {
    let config = "[[bridge]]\ntype = \"mqtt-listener\"\nbind = \"127.0.0.1:0\"\n";
    let router = Router::with_config(config, &["--rate-limit", "0"]);
    let port = router.served("mqtt://").port();
    (router, port)
}

/// paho, connected.
struct Paho {
    program: Program,
    connected: Json,
}

impl Paho {
    /// `more` is the last argument of `mqtt_peer.py`.
    fn connect(port: u16, version: &str, expiry_s: u32, more: Json) -> Self {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        command.arg(installed("peers/mqtt_peer.py")).args([&port.to_string(), version, ""]);
        command.args([expiry_s.to_string(), more.to_string()]);
        let program = Program::start(&mut command);
        let mut paho = Self { program, connected: Json::Null };
        paho.connected = paho.next("connected");
        assert_eq!(paho.connected["connected"], true, "{}", paho.connected);
        paho
    }

    /// The next line that has `key`.
    fn next(&self, key: &str) -> Json {
        let line = self.program.line_where(|line| line.contains(&format!("\"{key}\"")));
        serde_json::from_str(&line).expect("JSON")
    }

    fn line(&self) -> Json {
        let line = self.program.line().expect("paho says more");
        serde_json::from_str(&line).expect("JSON")
    }

    fn tell(&mut self, command: Json) {
        self.program.write_line(&command.to_string());
    }

    /// Subscribes, and waits until that is answered.
    fn subscribe(&mut self, subscribe: Json) {
        self.tell(subscribe);
        let granted = self.next("granted");
        assert!(granted["granted"][0].as_u64().is_some_and(|qos| qos <= 2), "{granted}");
    }

    /// Ends without a word.
    fn die(&mut self) {
        self.tell(json!({"die": true}));
        self.program.wait();
    }
}

fn listen(router: &Router) -> Raw {
    let mut client = router.join("watcher");
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/mqtt/**"}));
    client.ask(json!({"type": "PING"}));
    client
}

fn event(desk: &mut Raw, address: &str, value: Json) {
    desk.send(json!({"type": "PUBLISH", "address": address, "signal": "event", "value": value}));
}

/// The will of [`Paho`] is the next that happens; and it is taken back.
fn assert_will(watcher: &mut Raw) {
    let next = watcher.receive_where(|message| message["address"] != Json::Null);
    assert_eq!(
        (&next["address"], &next["value"]),
        (&json!("/mqtt/paho/status"), &json!("offline"))
    );
}

#[test]
fn a_message_brings_the_identifiers_of_all_subscriptions_that_want_it() {
    let (router, port) = router();
    let mut paho = Paho::connect(port, "5", 0, json!({}));
    for (filter, identifier) in [("ids/#", 7), ("ids/+", 268_435_455), ("other/#", 1)] {
        paho.subscribe(json!({"subscribe": filter, "qos": 1, "identifier": identifier}));
    }
    paho.subscribe(json!({"subscribe": "plain/#", "qos": 1}));
    let mut desk = router.join("desk");
    let mut told = |address: &str| {
        event(&mut desk, address, json!(1));
        let heard = paho.next("topic");
        let mut identifiers = heard["properties"]["SubscriptionIdentifier"].clone();
        if let Some(all) = identifiers.as_array_mut() {
            all.sort_by_key(Json::as_u64);
        }
        identifiers
    };
    assert_eq!(told("/mqtt/ids/a"), json!([7, 268_435_455]));
    assert_eq!(told("/mqtt/ids/a/b"), json!([7]));
    assert_eq!(told("/mqtt/plain/a"), Json::Null);
    paho.subscribe(json!({"subscribe": "ids/+", "qos": 1, "identifier": 9}));
    event(&mut desk, "/mqtt/ids/a", json!(2));
    assert_eq!(paho.next("topic")["properties"]["SubscriptionIdentifier"], json!([7, 9]));
    // Retained messages come for the subscription that asks, and for no other.
    desk.send(json!({"type": "SET", "address": "/mqtt/other/held", "value": 1}));
    assert_eq!(paho.next("topic")["retain"], false);
    paho.subscribe(json!({"subscribe": "+/held", "qos": 1, "identifier": 11}));
    let held = paho.next("topic");
    assert_eq!((&held["retain"], &held["payload"]), (&json!(true), &json!("1")));
    assert_eq!(held["properties"]["SubscriptionIdentifier"], json!([11]));
}

#[test]
fn of_a_message_others_are_told_what_the_router_keeps_and_its_client_all() {
    let (_router, port) = router();
    let mut asks = Paho::connect(port, "5", 0, json!({"name": "asks"}));
    let mut hears = Paho::connect(port, "5", 0, json!({"name": "hears"}));
    for paho in [&mut asks, &mut hears] {
        paho.subscribe(json!({"subscribe": "question", "qos": 1}));
    }
    let properties = json!({
        "UserProperty": [["from", "desk"]], "ResponseTopic": "answer", "CorrelationData": "7",
        "ContentType": "application/json", "MessageExpiryInterval": 60,
    });
    asks.tell(json!({"publish": "question", "payload": "{\"go\":1}", "qos": 1, "retain": false,
                     "properties": properties}));
    let own = asks.next("topic")["properties"].clone();
    assert_eq!(own["ResponseTopic"], "answer");
    assert_eq!(own["UserProperty"], json!([["from", "desk"]]));
    let others = hears.next("topic");
    assert_eq!(others["payload"], "{\"go\":1}");
    assert_eq!(others["properties"], json!({"ContentType": "application/json"}));
}

#[test]
fn a_client_is_sent_no_more_at_once_than_it_takes_and_nothing_longer() {
    let (router, port) = router();
    let limits = json!({"ReceiveMaximum": 2, "MaximumPacketSize": 200});
    let mut paho = Paho::connect(port, "5", 0, json!({"manual": true, "properties": limits}));
    paho.subscribe(json!({"subscribe": "go/#", "qos": 1}));
    let mut desk = router.join("desk");
    for value in 1..=3 {
        event(&mut desk, "/mqtt/go/on", json!(value));
    }
    event(&mut desk, "/mqtt/go/on", json!("long ".repeat(50)));
    event(&mut desk, "/mqtt/go/on", json!(4));
    desk.ask(json!({"type": "PING"}));
    let mut mids = Vec::new();
    for value in ["1", "2"] {
        let message = paho.next("topic");
        assert_eq!(message["payload"], value);
        mids.push(message["mid"].clone());
    }
    // The answer comes behind what was sent before it.
    paho.tell(json!({"subscribe": "other", "qos": 0}));
    assert!(paho.line()["granted"].is_array(), "two are on their way, and no third");
    for (mid, value) in mids.iter().zip(["3", "4"]) {
        paho.tell(json!({"ack": mid}));
        assert_eq!(paho.next("topic")["payload"], value);
    }
}

#[test]
fn whoever_exceeds_what_the_listener_takes_is_told_so() {
    let (_router, port) = router();
    let publish = |properties: Json| {
        json!({"publish": "stage/level", "payload": "1", "qos": 1, "retain": true,
               "properties": properties})
    };
    let mut aliases = Paho::connect(port, "5", 0, json!({"name": "aliases"}));
    aliases.tell(publish(json!({"TopicAlias": 64})));
    assert_eq!(aliases.next("published")["code"], 0);
    aliases.tell(publish(json!({"TopicAlias": 65})));
    assert_eq!(aliases.next("lost")["lost"], "Topic alias invalid");
    let mut long = Paho::connect(port, "5", 0, json!({"name": "long"}));
    long.tell(json!({"publish": "stage/long", "payload": "0123456789", "times": 14_000, "qos": 0,
                     "retain": false}));
    assert_eq!(long.next("lost")["lost"], "Packet too large");
    let mut bulky = Paho::connect(port, "5", 0, json!({"name": "bulky"}));
    bulky.tell(json!({"publish": "stage/long", "payload": "0123456789", "times": 6_560, "qos": 1,
                      "retain": true}));
    let told = bulky.next("published");
    assert_eq!(told["code"], 0x97, "{told}");
    let why = told["why"].as_str().expect("words");
    assert!(why.contains("65600 bytes") && why.contains("65535 bytes"), "{why}");
    let mut other = Paho::connect(port, "5", 0, json!({"name": "other"}));
    other.tell(publish(json!({})));
    assert_eq!(other.next("published")["code"], 0, "everybody else goes on");
}

#[test]
fn who_is_silent_for_one_and_a_half_keep_alives_is_lost_and_its_will_is_said() {
    let (router, port) = router();
    for version in ["4", "5"] {
        let mut watcher = listen(&router);
        let paho = Paho::connect(port, version, 0, json!({"keep_alive": 1}));
        paho.program.signal("STOP");
        assert_will(&mut watcher);
        watcher.send(json!({"type": "SET", "address": "/mqtt/paho/status", "value": null}));
        watcher.ask(json!({"type": "PING"}));
    }
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session_whichever_comes_first() {
    let (router, port) = router();
    let mut watcher = listen(&router);
    // Longer than anybody waits here.
    let late = 3_600;
    let dies = |expiry_s: u32, delay_s: u32| {
        let mut paho = Paho::connect(port, "5", expiry_s, json!({"will_delay": delay_s}));
        paho.die();
    };
    for (expiry_s, delay_s) in [(late, 1), (1, late), (0, late)] {
        dies(expiry_s, delay_s);
        assert_will(&mut watcher);
    }
    // It comes back in time, and goes on; or it begins anew, which ends the session before.
    dies(late, late);
    let mut back = Paho::connect(port, "5", late, json!({"will_delay": late}));
    assert_eq!(back.connected["present"], true);
    back.tell(json!({"publish": "back", "payload": "1", "qos": 1, "retain": false}));
    let next = watcher.receive_where(|message| message["address"] != Json::Null);
    assert_eq!(next["address"], "/mqtt/back", "and no will before it");
    let anew = json!({"clean": true, "will_delay": late});
    let anew = Paho::connect(port, "5", late, anew);
    assert_eq!(anew.connected["present"], false);
    assert_eq!(back.next("lost")["lost"], "Session taken over");
    assert_will(&mut watcher);
}

#[test]
fn a_client_without_a_name_is_given_one_by_which_it_comes_back() {
    let (_router, port) = router();
    let nameless = || Paho::connect(port, "5", 300, json!({"name": ""}));
    let (mut first, second) = (nameless(), nameless());
    let name = first.connected["assigned"].clone();
    assert!(name.is_string() && name != second.connected["assigned"], "{name}");
    first.die();
    let back = Paho::connect(port, "5", 300, json!({"name": name}));
    assert_eq!(
        (&back.connected["present"], &back.connected["assigned"]),
        (&json!(true), &Json::Null)
    );
    let named = Paho::connect(port, "4", 0, json!({"name": ""}));
    assert_eq!(named.connected["connected"], true, "3.1.1 allows it for one connection");
}

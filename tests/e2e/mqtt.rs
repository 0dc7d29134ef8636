//! MQTT as the client of a broker: `mosquitto`, its clients and its certificates are the judges.

use clasp_rt_tests::eventually;
use clasp_rt_tests::line::{self, Line};
use clasp_rt_tests::mosquitto::{Broker, Listener, next_message};
use clasp_rt_tests::program::{Program, clasp_rt};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};
use std::cell::Cell;
use std::process::Command;

const VERSIONS: [&str; 2] = ["3.1.1", "5"];

/// A router with one client of `broker`'s first port, and these keys beside.
fn router(broker: &Broker, version: &str, more: &str) -> Router {
    router_at(broker.ports[0], version, more)
}

fn router_at(port: u16, version: &str, more: &str) -> Router {
    Router::with_config(
        &format!(
            "[[bridge]]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
             version = \"{version}\"\n{more}\n"
        ),
        &["--rate-limit", "0", "--metrics", "127.0.0.1:0"],
    )
}

/// A client that has subscribed to all of MQTT.
fn listen(router: &Router, name: &str) -> Raw {
    let mut client = router.join(name);
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/mqtt/**"}));
    client.ask(json!({"type": "PING"}));
    client
}

/// The value of a param, once it has the one that is wanted.
fn eventually_holds(router: &Router, address: &str, wanted: &Json) {
    let mut client = router.join("reader");
    eventually(&format!("{address} to be {wanted}"), || {
        let answers = client.ask(json!({"type": "GET", "address": address}));
        let held = answers.iter().find(|answer| answer["type"] == "SNAPSHOT")?;
        (held["params"][0]["value"] == *wanted).then_some(())
    });
}

fn heard(client: &mut Raw, kind: &str, address: &str) -> Json {
    client.receive_where(|message| message["type"] == kind && message["address"] == address)
}

fn set(client: &mut Raw, address: &str, value: Json) {
    client.send(json!({"type": "SET", "address": address, "value": value}));
}

#[test]
fn what_a_broker_holds_and_says_reaches_the_router_in_both_versions() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        broker.publish(&["-t", "stage/fader/1", "-m", "0.75", "-r", "-q", "1"]);
        broker.publish(&["-t", "/odd//topic", "-m", "on*", "-r", "-q", "2"]);
        let router = router(&broker, version, "qos = 2");
        eventually_holds(&router, "/mqtt/stage/fader/1", &json!(0.75));
        eventually_holds(&router, "/mqtt/%/odd/%/topic", &json!("on*"));
        let mut client = listen(&router, "client");
        for qos in ["0", "1", "2"] {
            let cue = format!(r#"{{"go":{qos}}}"#);
            broker.publish(&["-V", "5", "-t", "stage/cue", "-m", &cue, "-q", qos]);
            let event = heard(&mut client, "PUBLISH", "/mqtt/stage/cue");
            assert_eq!(event["signal"], "event");
            assert_eq!(event["value"], json!({"go": qos.parse::<u8>().expect("a digit")}));
        }
        // News of a topic that is retained are a param, also for 3.1.1.
        broker.publish(&["-t", "stage/fader/1", "-m", "0.5", "-r"]);
        assert_eq!(heard(&mut client, "SET", "/mqtt/stage/fader/1")["value"], 0.5);
        broker.publish(&["-t", "stage/fader/1", "-n", "-r"]);
        assert_eq!(heard(&mut client, "SET", "/mqtt/stage/fader/1")["value"], Json::Null);
    }
}

#[test]
fn what_the_router_says_is_retained_or_not_and_does_not_come_back() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        let subscriber = broker.subscribe(&["-t", "stage/#", "-q", "2"]);
        let router = router(&broker, version, "qos = 1");
        let (mut client, mut watcher) = (router.join("client"), listen(&router, "watcher"));
        for level in 1..=20 {
            set(&mut client, "/mqtt/stage/level", json!(level));
        }
        // Of params the newest is what counts.
        subscriber.line_where(|line| line == "stage/level retained=0 qos=1 20");
        let go = json!({"type": "PUBLISH", "address": "/mqtt/stage/go", "signal": "event",
                        "value": {"cue": 12}});
        client.send(go);
        assert_eq!(next_message(&subscriber), r#"stage/go retained=0 qos=1 {"cue":12}"#);
        let late = broker.subscribe(&["-t", "stage/#", "-q", "1"]);
        assert_eq!(next_message(&late), "stage/level retained=1 qos=1 20", "the event is not kept");
        watcher.receive_where(|message| message["address"] == "/mqtt/stage/go");
        // What came back would come before this.
        broker.publish(&["-t", "stage/level", "-m", "21", "-r"]);
        let next = watcher.receive_where(|message| message["address"] != Json::Null);
        assert_eq!((&next["value"], &next["address"]), (&json!(21), &json!("/mqtt/stage/level")));
        set(&mut client, "/mqtt/stage/level", Json::Null);
        let cleared = broker.subscribe(&["-t", "#", "-q", "1"]);
        eventually("the retained message is gone", || {
            let after = broker.subscribe(&["-t", "stage/level", "-W", "1"]);
            after.line_where(|_| true);
            let mut lines = std::iter::from_fn(|| after.line());
            (!lines.any(|line| line.contains("retained=1"))).then_some(())
        });
        drop(cleared);
    }
}

#[test]
fn what_happens_while_the_broker_is_away_is_told_when_it_is_back() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        let router = router(&broker, version, "qos = 1\nstatus = \"bridge/status\"");
        let status = broker.subscribe(&["-t", "bridge/status"]);
        assert!(next_message(&status).ends_with(" online"));
        let stopped = broker.stop();
        let mut client = router.join("client");
        for level in 1..=9 {
            set(&mut client, "/mqtt/stage/level", json!(level));
            client.send(json!({"type": "PUBLISH", "address": "/mqtt/stage/go",
                               "signal": "event", "value": level}));
        }
        client.ask(json!({"type": "PING"}));
        let broker = stopped.start();
        let subscriber = broker.subscribe(&["-t", "stage/#"]);
        let mut events = Vec::new();
        while events.len() < 9 {
            let line = next_message(&subscriber);
            if let Some(event) = line.strip_prefix("stage/go retained=0 qos=0 ") {
                events.push(event.parse::<u8>().expect("a number"));
            }
        }
        assert_eq!(events, [1, 2, 3, 4, 5, 6, 7, 8, 9], "each, in order");
        let late = broker.subscribe(&["-t", "stage/level"]);
        assert_eq!(next_message(&late), "stage/level retained=1 qos=0 9");
    }
}

#[test]
fn what_was_on_its_way_to_a_broker_that_was_killed_goes_before_what_is_newer() {
    // So many are on their way at most.
    for (version, flying) in [("3.1.1", 20), ("5", 15)] {
        let broker = Broker::start(&[Listener::Plain]);
        broker.publish(&["-t", "ready", "-m", "1", "-r"]);
        let line = Line::start(broker.ports[0]);
        let router = router_at(line.port, version, "qos = 1");
        eventually_holds(&router, "/mqtt/ready", &json!(1));
        let mut client = router.join("client");
        line.mute();
        set(&mut client, "/mqtt/stage/level", json!(1));
        let go = |number: u8| {
            json!({"type": "PUBLISH", "address": "/mqtt/stage/go",
                                     "signal": "event", "value": number})
        };
        let level = json!({"type": "SET", "address": "/mqtt/stage/level", "value": 2});
        let messages: Vec<_> = (1..=150).map(go).chain([level]).collect();
        client.send(json!({"type": "BUNDLE", "messages": messages}));
        eventually("all that may be on its way", || (line.published() == flying).then_some(()));
        line.cut();
        let broker = broker.stop().start();
        let subscriber = broker.subscribe(&["-t", "stage/#", "-q", "1"]);
        line.mend();
        for number in 1..=150 {
            let event = format!("stage/go retained=0 qos=1 {number}");
            assert_eq!(next_message(&subscriber), event, "each once, in order");
        }
        assert_eq!(next_message(&subscriber), "stage/level retained=0 qos=1 2", "and no 1");
    }
}

#[test]
fn a_broker_that_kept_the_session_is_told_each_event_once_wherever_the_connection_broke() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        broker.publish(&["-t", "in/ready", "-m", "1", "-r"]);
        let line = Line::start(broker.ports[0]);
        let router = router_at(line.port, version, &lasting(version));
        eventually_holds(&router, "/mqtt/in/ready", &json!(1));
        let subscriber = broker.subscribe(&["-t", "stage/go", "-q", "2"]);
        let mut client = router.join("client");
        let mut number = 0;
        for packet in [line::PUBREC, line::PUBCOMP] {
            line.break_before(packet);
            for _ in 0..30 {
                number += 1;
                client.send(json!({"type": "PUBLISH", "address": "/mqtt/stage/go",
                                   "signal": "event", "value": number}));
            }
            for expected in number - 29..=number {
                let event = format!("stage/go retained=0 qos=2 {expected}");
                assert_eq!(next_message(&subscriber), event, "{version} {packet}");
            }
            assert!(!line.is_to_break());
        }
        client.send(json!({"type": "PUBLISH", "address": "/mqtt/stage/go", "signal": "event",
                           "value": "end"}));
        assert_eq!(next_message(&subscriber), "stage/go retained=0 qos=2 end");
    }
}

/// A session that the broker keeps while the connection is away.
fn lasting(version: &str) -> String {
    let expiry = if version == "5" { "session_expiry_s = 300\n" } else { "" };
    let more = "qos = 2\nclient_id = \"bridge\"\nclean_start = false\nsubscribe = [\"in/#\"]\n";
    format!("{more}{expiry}")
}

#[test]
fn a_release_that_was_lost_with_the_connection_is_answered_on_the_next() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        let line = Line::start(broker.ports[0]);
        broker.publish(&["-t", "in/ready", "-m", "1", "-r"]);
        let router = router_at(line.port, version, &lasting(version));
        eventually_holds(&router, "/mqtt/in/ready", &json!(1));
        let mut watcher = listen(&router, "watcher");
        line.break_before(line::PUBREL);
        broker.publish(&["-t", "in/go", "-m", "1", "-q", "2"]);
        eventually("the line to break", || (!line.is_to_break()).then_some(()));
        for number in 2..=5 {
            broker.publish(&["-t", "in/go", "-m", &number.to_string(), "-q", "2"]);
        }
        for number in 1..=5 {
            let event = heard(&mut watcher, "PUBLISH", "/mqtt/in/go");
            assert_eq!(event["value"], number, "each once, in order");
        }
    }
}

#[test]
fn a_bridge_elsewhere_tells_a_new_router_what_is_retained() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        broker.publish(&["-t", "stage/theirs", "-m", "8", "-r"]);
        let router = Router::start(&["--rate-limit", "0"]);
        let url = format!("mqtt://127.0.0.1:{}", broker.ports[0]);
        let mut command = Command::new(clasp_rt());
        command.args(["mqtt", "--broker", &url, "--mqtt-version", version, "--qos", "1"]);
        command.args(["--status", "bridge/status", "--router", &router.url()]);
        let bridge = Program::start(&mut command);
        let status = broker.subscribe(&["-t", "bridge/status"]);
        assert!(next_message(&status).ends_with(" online"));
        let subscriber = broker.subscribe(&["-t", "stage/ours"]);
        let mut client = router.join("client");
        set(&mut client, "/mqtt/stage/ours", json!(7));
        assert!(next_message(&subscriber).ends_with(" 7"));
        eventually_holds(&router, "/mqtt/stage/theirs", &json!(8));
        drop(client);
        let router = router.restart();
        eventually_holds(&router, "/mqtt/stage/ours", &json!(7));
        eventually_holds(&router, "/mqtt/stage/theirs", &json!(8));
        // Killed without a word, the broker says so for it.
        drop(bridge);
        assert!(next_message(&status).ends_with(" offline"));
    }
}

#[test]
fn brokers_behind_tls_certificates_passwords_and_websockets_are_reached() {
    use Listener::{Mutual, Password, Plain, Tls, WebSocket};
    let broker = Broker::start(&[Plain, Password, Tls, Mutual, WebSocket]);
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| broker.file(name));
    let tls = format!("ca = \"{ca}\"\n");
    let identity = format!("{tls}cert = \"{cert}\"\nkey = \"{key}\"\n");
    let login = "username = \"alice\"\npassword = \"secret\"\n".to_owned();
    let ways = [
        ("plain", "mqtt", 0, String::new()),
        ("password", "mqtt", 1, login),
        ("tls", "mqtts", 2, tls),
        ("mutual", "mqtts", 3, identity),
        ("websocket", "ws", 4, String::new()),
    ];
    let mut config = String::new();
    for version in VERSIONS {
        for (name, scheme, listener, more) in &ways {
            let port = broker.ports[*listener];
            config += &format!(
                "[[bridge]]\ntype = \"mqtt\"\nurl = \"{scheme}://127.0.0.1:{port}/{path}\"\n\
                 version = \"{version}\"\nsubscribe = [\"in/#\"]\nnamespace = \"/{name}/{version}\"\
                 \n{more}",
                path = if *scheme == "ws" { "mqtt" } else { "" },
            );
        }
    }
    // Its ports differ in who may come, not in what is retained.
    broker.publish(&["-t", "in/level", "-m", "5", "-r"]);
    let router = Router::with_config(&config, &["--rate-limit", "0"]);
    for version in VERSIONS {
        for (name, ..) in &ways {
            let address = format!("/{name}/{version}/in/level");
            eventually_holds(&router, &address, &json!(5));
            let topic = format!("out/{name}/{version}");
            let subscriber = broker.subscribe(&["-t", &topic]);
            let mut client = router.join("client");
            set(&mut client, &format!("/{name}/{version}/{topic}"), json!(true));
            assert!(next_message(&subscriber).ends_with(" true"), "{name} {version}");
        }
    }
}

#[test]
fn what_a_broker_retains_comes_before_what_a_router_holds() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        broker.publish(&["-t", "stage/both", "-m", "1", "-r"]);
        let router = Router::start(&["--rate-limit", "0"]);
        let mut client = router.join("client");
        set(&mut client, "/mqtt/stage/both", json!(2));
        set(&mut client, "/mqtt/stage/ours", json!(3));
        client.ask(json!({"type": "PING"}));
        let url = format!("mqtt://127.0.0.1:{}", broker.ports[0]);
        let mut command = Command::new(clasp_rt());
        command.args(["mqtt", "--broker", &url, "--mqtt-version", version]);
        let subscriber = broker.subscribe(&["-t", "stage/#"]);
        assert_eq!(next_message(&subscriber), "stage/both retained=1 qos=0 1");
        let _bridge = Program::start(command.args(["--router", &router.url()]));
        assert_eq!(next_message(&subscriber), "stage/ours retained=0 qos=0 3", "and not `both`");
        eventually_holds(&router, "/mqtt/stage/both", &json!(1));
    }
}

#[test]
fn a_wrong_password_is_told_and_tried_again() {
    let broker = Broker::start(&[Listener::Password]);
    let url = format!("mqtt://127.0.0.1:{}", broker.ports[0]);
    let router = Router::start(&[]);
    let mut command = Command::new(clasp_rt());
    command.args(["mqtt", "--broker", &url, "--username", "alice", "--password", "guess"]);
    let mut bridge = Program::start(command.args(["--router", &router.url()]));
    let said = format!("mqtt cannot reach the broker at {url}, and tries again: ");
    eventually("it to say why", || bridge.errors().contains(&said).then_some(()));
    assert!(bridge.is_running());
}

#[test]
fn members_of_a_group_share_what_is_said() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        let port = broker.ports[0];
        let member = format!(
            "[[bridge]]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nqos = 1\n\
             version = \"{version}\"\nsubscribe = [\"$share/crew/cue/#\", \"ready/#\"]\n"
        );
        let config = format!("{member}namespace = \"/a\"\n{member}namespace = \"/b\"\n");
        broker.publish(&["-t", "ready/go", "-m", "1", "-r"]);
        let router = Router::with_config(&config, &["--rate-limit", "0"]);
        eventually_holds(&router, "/a/ready/go", &json!(1));
        eventually_holds(&router, "/b/ready/go", &json!(1));
        let mut client = router.join("client");
        client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/*/cue/**"}));
        client.ask(json!({"type": "PING"}));
        for number in 0..8 {
            broker.publish(&["-V", "5", "-t", "cue/go", "-m", &number.to_string(), "-q", "1"]);
        }
        let mut all: Vec<_> = (0..8)
            .map(|_| client.receive_where(|message| message["type"] == "PUBLISH"))
            .map(|event| event["value"].as_u64().expect("a number"))
            .collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7], "each once, whoever took it");
    }
}

#[test]
fn rules_place_topics_and_choose_forms() {
    let broker = Broker::start(&[Listener::Plain]);
    let map = r#"map = [
        { topic = "sensors/+/temp", address = "/room/*/temperature", payload = "number",
          as = "param" },
        { topic = "raw/#", payload = "raw", as = "event" },
    ]"#;
    let router = router(&broker, "5", &map.replace('\n', " "));
    let ready = broker.subscribe(&["-t", "ready"]);
    let mut client = router.join("client");
    set(&mut client, "/mqtt/ready", json!(1));
    assert!(next_message(&ready).ends_with(" 1"));
    client.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    client.ask(json!({"type": "PING"}));
    eventually("a sensor", || {
        broker.publish(&["-t", "sensors/kitchen/temp", "-m", " 21.5"]);
        let held = client.ask(json!({"type": "GET", "address": "/room/kitchen/temperature"}));
        held.iter().find(|answer| answer["params"][0]["value"] == 21.5).map(|_| ())
    });
    broker.publish(&["-t", "raw/x", "-m", "12"]);
    let event = heard(&mut client, "PUBLISH", "/mqtt/raw/x");
    assert_eq!(event["value"], json!({"$bytes": "3132"}));
    let subscriber = broker.subscribe(&["-t", "sensors/#"]);
    set(&mut client, "/room/hall/temperature", json!(19));
    assert_eq!(next_message(&subscriber), "sensors/hall/temp retained=0 qos=0 19");
}

#[test]
fn two_bridges_of_one_router_to_one_broker_do_not_storm() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        let port = broker.ports[0];
        let bridge = format!(
            "[[bridge]]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nqos = 1\n\
             version = \"{version}\"\nsubscribe = [\"#\"]\n"
        );
        let config = format!("{bridge}\n{bridge}");
        broker.publish(&["-t", "ready", "-m", "1", "-r"]);
        let router = Router::with_config(&config, &["--rate-limit", "0"]);
        eventually_holds(&router, "/mqtt/ready", &json!(1));
        let subscriber = broker.subscribe(&["-t", "stage/#", "-t", "end", "-q", "1"]);
        let (mut client, mut watcher) = (router.join("client"), listen(&router, "watcher"));
        for value in 1..=5 {
            set(&mut client, "/mqtt/stage/level", json!(value));
            client.send(json!({"type": "PUBLISH", "address": "/mqtt/stage/go", "signal": "event",
                               "value": value}));
        }
        // Each bridge tells the broker what the router says, and neither what the other told.
        subscriber.line_where(|line| line == "stage/go retained=0 qos=1 5");
        subscriber.line_where(|line| line == "stage/go retained=0 qos=1 5");
        set(&mut client, "/mqtt/end", json!(1));
        let mut after = Vec::new();
        let mut ends = 0;
        while ends < 2 {
            let line = next_message(&subscriber);
            ends += usize::from(line.starts_with("end "));
            after.push(line);
        }
        assert!(after.len() < 8, "{after:?}");
        let told = count_until(&mut watcher, "/mqtt/stage/go", |message| {
            message["address"] == "/mqtt/end"
        });
        assert_eq!(told, 5, "each event once");
        // From outside it reaches the router at most once for each that has subscribed.
        broker.publish(&["-t", "stage/out", "-m", "1"]);
        broker.publish(&["-t", "end", "-m", "2", "-r"]);
        let told = count_until(&mut watcher, "/mqtt/stage/out", |message| {
            message["address"] == "/mqtt/end" && message["value"] == 2
        });
        assert!((1..=2).contains(&told), "{told}");
    }
}

/// A bridge of all to each of these ports.
fn bridges(ports: &[u16], version: &str) -> String {
    let bridge = |port: &u16| {
        format!(
            "[[bridge]]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nqos = 1\n\
             version = \"{version}\"\n"
        )
    };
    ports.iter().map(bridge).collect()
}

/// Five events and five steps of a param.
fn say_five(client: &mut Raw) {
    for value in 1..=5 {
        client.send(json!({"type": "PUBLISH", "address": "/mqtt/stage/go", "signal": "event",
                           "value": value}));
        set(client, "/mqtt/stage/level", json!(value));
    }
}

/// Sends an event to and fro, so often that a ring would have gone round many more times, and gives
/// how many lines of `topic` came meanwhile.
fn lines_of(topic: &str, client: &mut Raw, subscriber: &Program) -> usize {
    let count = Cell::new(0);
    for number in 1..=30 {
        client.send(json!({"type": "PUBLISH", "address": "/mqtt/ping", "signal": "event",
                           "value": number}));
        let last = format!("ping retained=0 qos=1 {number}");
        subscriber.line_where(|line| {
            count.set(count.get() + usize::from(line.starts_with(topic)));
            line == last
        });
    }
    count.get()
}

#[test]
fn two_routers_at_one_broker_hear_each_other_once() {
    for version in VERSIONS {
        let broker = Broker::start(&[Listener::Plain]);
        // So that 3.1.1, too, knows that it is retained.
        broker.publish(&["-t", "stage/level", "-m", "0", "-r"]);
        let config = bridges(&broker.ports, version);
        let [one, two] = [(); 2].map(|()| Router::with_config(&config, &["--rate-limit", "0"]));
        eventually_holds(&one, "/mqtt/stage/level", &json!(0));
        eventually_holds(&two, "/mqtt/stage/level", &json!(0));
        let subscriber = broker.subscribe(&["-t", "stage/#", "-t", "ping", "-q", "1"]);
        let (mut client, mut there) = (one.join("client"), listen(&two, "watcher"));
        let mut here = listen(&one, "watcher");
        say_five(&mut client);
        assert_eq!(lines_of("stage/go ", &mut client, &subscriber), 5, "{version}");
        eventually_holds(&two, "/mqtt/stage/level", &json!(5));
        eventually_holds(&one, "/mqtt/stage/level", &json!(5));
        for watcher in [&mut here, &mut there] {
            let told = count_until(watcher, "/mqtt/stage/go", |message| {
                message["address"] == "/mqtt/ping" && message["value"] == 30
            });
            assert_eq!(told, 5, "{version}");
        }
    }
}

#[test]
fn a_ring_of_two_routers_and_two_brokers_or_two_bridges_each_settles() {
    let brokers = [(); 2].map(|()| Broker::start(&[Listener::Plain]));
    let [first, second] = brokers.each_ref().map(|broker| broker.ports[0]);
    for ports in [[first, second], [first, first]] {
        let config = bridges(&ports, "5");
        let routers = [(); 2].map(|()| Router::with_config(&config, &["--rate-limit", "0"]));
        for port in ports {
            let index = usize::from(port == second);
            let topic = format!("ready/{index}");
            brokers[index].publish(&["-t", &topic, "-m", "1", "-r"]);
            for router in &routers {
                eventually_holds(router, &format!("/mqtt/{topic}"), &json!(1));
            }
        }
        let [one, two] = routers;
        let subscriber = brokers[0].subscribe(&["-t", "stage/#", "-t", "ping", "-q", "1"]);
        let mut client = one.join("client");
        say_five(&mut client);
        let count = lines_of("stage/go ", &mut client, &subscriber);
        assert!((5..=40).contains(&count), "{count} for five events");
        eventually_holds(&two, "/mqtt/stage/level", &json!(5));
        eventually_holds(&one, "/mqtt/stage/level", &json!(5));
    }
}

/// How many messages of `address` come before one that is `wanted`.
fn count_until(client: &mut Raw, address: &str, wanted: impl Fn(&Json) -> bool) -> usize {
    let told = Cell::new(0);
    client.receive_where(|message| {
        told.set(told.get() + usize::from(message["address"] == address));
        wanted(message)
    });
    told.get()
}

//! What the bridges say in MQTT, as tshark understands it: neither our decoder nor a peer's good
//! nature is the judge.

use std::cell::RefCell;
use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::mosquitto::{Broker, Listener, next_message, subscribe};
use clasp_rt_tests::net;
use clasp_rt_tests::program::{Program, installed};
use clasp_rt_tests::router::Router;
use serde_json::json;

/// What is asked of tshark, in this order; the last of them are complaints.
const FIELDS: [&str; 14] = [
    "mqtt.msgtype",
    "mqtt.topic",
    "mqtt.conack.flags.sp",
    "mqtt.puback.reason_code",
    "mqtt.pubrec.reason_code",
    "mqtt.disconnect.reason_code",
    "mqtt.suback.reason_code",
    "mqtt.property.topic_alias",
    "mqtt.property.content_type",
    "mqtt.prop_string",
    "mqtt.prop_key",
    "_ws.malformed",
    "mqtt.illegal_topic_length",
    "mqtt.unknown_topic_alias",
];
const COMPLAINTS_FROM: usize = 11;

/// tshark, which hears one direction of one port of this host.
struct Shark {
    program: Program,
    heard: RefCell<Vec<Vec<String>>>,
}

impl Shark {
    fn start(port: u16, direction: &str) -> Self {
        let mut command = Command::new("tshark");
        command.args(["-l", "-n", "-i", "lo", "-f", &format!("tcp port {port}")]);
        command.args(["-d", &format!("tcp.port=={port},mqtt")]);
        command.args(["-Y", &format!("mqtt && tcp.{direction}port=={port}")]);
        command.args(["-T", "fields"]).args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let program = Program::start(&mut command);
        eventually("tshark listens", || program.errors().contains("Capturing on").then_some(()));
        Self { program, heard: RefCell::default() }
    }

    /// Waits for packets of which each of `wanted` holds: a field, and a part of its text. Nothing
    /// that is heard may be malformed.
    fn hears(&self, wanted: &[(&str, &str)]) {
        eventually(&format!("{wanted:?}"), || {
            while let Some(line) = self.program.try_line() {
                let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
                let complaints = fields.get(COMPLAINTS_FROM..).unwrap_or_default();
                assert!(complaints.iter().all(String::is_empty), "{line}");
                self.heard.borrow_mut().push(fields);
            }
            let heard = self.heard.borrow();
            let found = heard.iter().any(|fields| {
                wanted.iter().all(|(name, text)| {
                    let at = FIELDS.iter().position(|field| field == name).expect("a field");
                    fields.get(at).is_some_and(|field| field.split(',').any(|f| f.contains(text)))
                })
            });
            found.then_some(())
        });
    }
}

fn paho(port: u16, version: &str) -> Program {
    let mut command = Command::new(installed("peers/venv/bin/python"));
    command.arg(installed("peers/mqtt_peer.py"));
    let peer = Program::start(command.args([&port.to_string(), version, "", "60"]));
    peer.line_where(|line| line.contains("\"connected\": true"));
    peer
}

#[test]
fn tshark_understands_what_clients_are_told() {
    net::of_its_own("tshark_understands_what_clients_are_told", |_| {
        let config = "[[bridge]]\ntype = \"mqtt-listener\"\nbind = \"127.0.0.1:0\"\n";
        let router = Router::with_config(config, &["--rate-limit", "0"]);
        let port = router.served("mqtt://").port();
        let shark = Shark::start(port, "src");
        let mut desk = router.join("desk");
        desk.send(json!({"type": "SET", "address": "/mqtt/held", "value": 1, "lock": true}));
        desk.ask(json!({"type": "PING"}));
        for version in ["4", "5"] {
            let mut first = paho(port, version);
            shark.hears(&[("mqtt.msgtype", "2"), ("mqtt.conack.flags.sp", "0")]);
            first.write_line(&json!({"subscribe": "stage/#", "qos": 2}).to_string());
            shark.hears(&[("mqtt.msgtype", "9")]);
            for qos in 0..=2 {
                let topic = format!("stage/{version}/{qos}");
                let publish =
                    json!({"publish": topic, "payload": "{}", "qos": qos, "retain": true});
                first.write_line(&publish.to_string());
                shark.hears(&[("mqtt.msgtype", "3"), ("mqtt.topic", &topic)]);
            }
            for acknowledgement in ["4", "5", "7", "6"] {
                shark.hears(&[("mqtt.msgtype", acknowledgement)]);
            }
            let mut second = paho(port, version);
            shark.hears(&[("mqtt.msgtype", "2"), ("mqtt.conack.flags.sp", "1")]);
            let refused = json!({"publish": "held", "payload": "2", "qos": 1, "retain": true});
            second.write_line(&refused.to_string());
            second.line_where(|line| line.contains("published"));
        }
        shark.hears(&[("mqtt.puback.reason_code", "131"), ("mqtt.prop_string", "lock held")]);
        shark.hears(&[("mqtt.disconnect.reason_code", "142")]);
        let mut command = Command::new("node");
        installed("peers/node_modules");
        let options = json!({"properties": {"topicAliasMaximum": 8}, "times": 3});
        command.arg(installed("peers/mqtt_peer.mjs")).args([&port.to_string(), "5"]);
        let peer = Program::start(command.arg(options.to_string()));
        peer.line_where(|line| line.contains("\"published\":true"));
        shark.hears(&[("mqtt.property.topic_alias", "1")]);
        desk.send(json!({"type": "SET", "address": "/mqtt/js/qos/1", "value": [1], "ttl": 60}));
        shark.hears(&[("mqtt.property.content_type", "application/json")]);
    });
}

#[test]
fn tshark_understands_what_a_broker_is_told() {
    net::of_its_own("tshark_understands_what_a_broker_is_told", |_| {
        for version in ["3.1.1", "5"] {
            let stopped = Broker::start(&[Listener::Plain]).stop();
            let port = stopped.port();
            let shark = Shark::start(port, "dst");
            let broker = stopped.start();
            let router = Router::with_config(
                &format!(
                    "[[bridge]]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
                     version = \"{version}\"\nqos = 2\nstatus = \"bridge/status\"\n"
                ),
                &["--rate-limit", "0"],
            );
            let subscriber = subscribe("127.0.0.1", port, &["-t", "stage/#", "-q", "2"]);
            let mut desk = router.join("desk");
            let value = json!({"go": 1});
            desk.send(json!({"type": "SET", "address": "/mqtt/stage/cue", "value": value,
                             "ttl": 60}));
            assert!(next_message(&subscriber).ends_with(r#"{"go":1}"#));
            for kind in ["1", "8", "3", "6"] {
                shark.hears(&[("mqtt.msgtype", kind)]);
            }
            shark.hears(&[("mqtt.topic", "bridge/status")]);
            shark.hears(&[("mqtt.topic", "stage/cue")]);
            if version == "5" {
                for known in [
                    ("mqtt.property.content_type", "application/json"),
                    ("mqtt.prop_key", "clasp-rt"),
                ] {
                    shark.hears(&[("mqtt.topic", "stage/cue"), known]);
                }
            }
            broker.publish(&["-t", "stage/in", "-m", "1", "-q", "2"]);
            shark.hears(&[("mqtt.msgtype", "5")]);
            shark.hears(&[("mqtt.msgtype", "7")]);
            drop(router);
        }
    });
}

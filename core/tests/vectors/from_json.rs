//! Messages made from what the vectors say in JSON.

use clasp_rt_core::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, Message, ParamValue, Publish, Replay,
    Set, SignalInfo, SignalMeta, Subscribe, SubscribeOptions, Sync, Ttl, Welcome,
};
use clasp_rt_core::signal::{Phase, Signal, SignalMask};
use clasp_rt_core::value::{self, ArrayWriter, MapWriter, Value};
use clasp_rt_core::wire::list::{
    Announced, Features, Kind, List, Messages, Params, Patterns, Revisions, Samples, Signals,
};
use serde_json::Value as Json;

/// Keeps the bytes that a message built from JSON borrows.
#[derive(Default)]
pub struct Room {
    kept: Vec<&'static [u8]>,
}

impl Room {
    /// Leaks: a test's message lives as long as the test.
    fn keep(&mut self, bytes: Vec<u8>) -> &'static [u8] {
        let kept = Vec::leak(bytes);
        self.kept.push(kept);
        kept
    }

    fn text(&mut self, json: &Json) -> &'static str {
        std::str::from_utf8(self.keep(text(json).as_bytes().to_vec())).expect("UTF-8")
    }

    fn some_text(&mut self, json: &Json) -> Option<&'static str> {
        json.as_str().is_some().then(|| self.text(json))
    }

    fn value(&mut self, json: &Json) -> Value<'static> {
        let mut bytes = Vec::new();
        push(json, &mut bytes);
        Value::from_encoded(self.keep(bytes)).expect("a value")
    }

    fn some_value(&mut self, json: Option<&Json>) -> Option<Value<'static>> {
        json.map(|json| self.value(json))
    }

    fn list<K: Kind>(
        &mut self,
        json: &Json,
        mut item: impl FnMut(&mut Self, &Json) -> K::Item<'static>,
    ) -> List<'static, K> {
        let mut bytes = Vec::new();
        for json in items(json) {
            let item = item(self, json);
            List::<K>::append(&mut bytes, item).expect("short strings");
        }
        List::from_bytes(self.keep(bytes)).expect("items that were appended")
    }

    pub fn message(&mut self, json: &Json) -> Message<'static> {
        match text(&json["type"]) {
            "HELLO" => Message::Hello(Hello {
                version: small(&json["version"]),
                features: features(&json["features"]),
                name: self.text(&json["name"]),
                token: self.some_text(&json["token"]),
            }),
            "WELCOME" => Message::Welcome(Welcome {
                version: small(&json["version"]),
                features: features(&json["features"]),
                time_us: number(&json["time"]),
                session: self.text(&json["session"]),
                name: self.text(&json["name"]),
                token: self.some_text(&json["token"]),
            }),
            "ANNOUNCE" => {
                let signals: Announced<'_> = self.list(&json["signals"], Self::signal);
                Message::Announce(Announce { namespace: self.text(&json["namespace"]), signals })
            }
            "FEDERATION_SYNC" => {
                let patterns: Patterns<'_> = self.list(&json["patterns"], Self::text);
                let revisions: Revisions<'_> = self.list(&json["revisions"], |room, entry| {
                    (room.text(&entry[0]), number(&entry[1]))
                });
                Message::FederationSync(FederationSync {
                    op: small(&json["op"]),
                    patterns,
                    revisions,
                    since_revision: json.get("since_revision").map(number),
                    origin: self.some_text(&json["origin"]),
                })
            }
            "SUBSCRIBE" => Message::Subscribe(Subscribe {
                id: small(&json["id"]),
                pattern: self.text(&json["pattern"]),
                types: types(&json["types"]),
                options: SubscribeOptions {
                    max_rate: json["options"].get("max_rate").map(small),
                    epsilon: json["options"].get("epsilon").map(float),
                    history: json["options"].get("history").map(small),
                    window: json["options"].get("window").map(small),
                },
            }),
            "UNSUBSCRIBE" => Message::Unsubscribe { id: small(&json["id"]) },
            "PUBLISH" => Message::Publish(self.publish(json)),
            "SET" => Message::Set(Set {
                address: self.text(&json["address"]),
                value: self.value(&json["value"]),
                revision: json.get("revision").map(number),
                lock: json["lock"] == true,
                unlock: json["unlock"] == true,
                ttl: json.get("ttl").map(ttl),
            }),
            "GET" => Message::Get { address: self.text(&json["address"]) },
            "SNAPSHOT" => {
                let params: Params<'_> = self.list(&json["params"], |room, json| ParamValue {
                    address: room.text(&json["address"]),
                    value: room.value(&json["value"]),
                    revision: number(&json["revision"]),
                    writer: room.some_text(&json["writer"]),
                    timestamp_us: json.get("timestamp").map(number),
                });
                Message::Snapshot { params }
            }
            "REPLAY" => Message::Replay(Replay {
                pattern: self.text(&json["pattern"]),
                from_us: json.get("from").map(number),
                to_us: json.get("to").map(number),
                limit: json.get("limit").map(small),
                types: types(&json["types"]),
            }),
            "BUNDLE" => {
                let mut bytes = Vec::new();
                for inner in items(&json["messages"]) {
                    let inner = self.message(inner);
                    Messages::append(&mut bytes, &inner).expect("a short message");
                }
                let count = items(&json["messages"]).len();
                Message::Bundle(Bundle {
                    timestamp_us: json.get("timestamp").map(number),
                    messages: Messages::from_payloads(self.keep(bytes), count).expect("messages"),
                })
            }
            "SYNC" => Message::Sync(Sync {
                t1: number(&json["t1"]),
                t2: json.get("t2").map(number),
                t3: json.get("t3").map(number),
            }),
            "PING" => Message::Ping,
            "PONG" => Message::Pong,
            "ACK" => Message::Ack(Ack {
                address: self.some_text(&json["address"]),
                revision: json.get("revision").map(number),
                locked: json["locked"].as_bool(),
                holder: self.some_text(&json["holder"]),
                correlation_id: json.get("correlation_id").map(small),
            }),
            "ERROR" => Message::Error(ErrorReply {
                code: small(&json["code"]),
                message: self.text(&json["message"]),
                address: self.some_text(&json["address"]),
                correlation_id: json.get("correlation_id").map(small),
            }),
            "QUERY" => Message::Query { pattern: self.text(&json["pattern"]) },
            "RESULT" => {
                let signals: Signals<'_> = self.list(&json["signals"], Self::signal);
                Message::Result { signals }
            }
            other => panic!("{other} is a message"),
        }
    }

    fn publish(&mut self, json: &Json) -> Publish<'static> {
        let samples = json.get("samples").map(|samples| {
            let samples: Samples<'_> = self.list(samples, |_, sample| float(sample));
            samples
        });
        // The vectors give the number of keyframes only; what they are does not reach the wire.
        let timeline = json.get("timeline").map(|_| Value::NULL);
        Publish {
            address: self.text(&json["address"]),
            signal: json.get("signal").map(|name| Signal::from_name(text(name)).expect("a signal")),
            value: self.some_value(json.get("value")),
            payload: self.some_value(json.get("payload")),
            samples,
            rate: json.get("rate").map(small),
            id: json.get("id").map(small),
            phase: json.get("phase").map(|name| Phase::from_name(text(name)).expect("a phase")),
            timestamp_us: json.get("timestamp").map(number),
            timeline,
        }
    }

    fn signal(&mut self, json: &Json) -> SignalInfo<'static> {
        SignalInfo {
            address: self.text(&json["address"]),
            signal: Signal::from_name(text(&json["type"])).expect("a signal"),
            datatype: self.some_text(&json["datatype"]),
            access: self.some_text(&json["access"]),
            meta: json.get("meta").map(|meta| SignalMeta {
                unit: self.some_text(&meta["unit"]),
                range: meta.get("range").map(|ends| (float(&ends[0]), float(&ends[1]))),
                default: self.some_value(meta.get("default")),
                description: self.some_text(&meta["description"]),
            }),
        }
    }
}

fn features(json: &Json) -> Features<'static> {
    let bits = items(json).iter().filter_map(|name| Features::bit_of(text(name)));
    Features::from_bits(bits.fold(0, |all, bit| all | bit))
}

fn types(json: &Json) -> SignalMask {
    let bits = items(json).iter().map(|name| Signal::from_name(text(name)).expect("a signal"));
    let mask = bits.fold(0, |mask, signal| mask | 1 << signal.code());
    if mask == 0 { SignalMask::ALL } else { SignalMask(mask) }
}

fn ttl(json: &Json) -> Ttl {
    if let Some(seconds) = json.get("sliding") {
        Ttl::Sliding(small(seconds))
    } else if let Some(seconds) = json.get("absolute") {
        Ttl::Absolute(small(seconds))
    } else {
        Ttl::Never
    }
}

fn float(json: &Json) -> f64 {
    f64::from_bits(u64::from_str_radix(text(&json["bits"]), 16).expect("hex bits"))
}

/// Appends a value as the vectors write it.
fn push(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => value::push_null(out),
        Json::Bool(flag) => value::push_bool(out, *flag),
        Json::Object(fields) => {
            let (kind, content) = fields.iter().next().expect("a kind of value");
            match kind.as_str() {
                "int" => value::push_i64(out, text(content).parse().expect("a decimal")),
                "bits" | "float" => value::push_f64(out, float(json)),
                "str" => value::push_str(out, text(content)).expect("short"),
                "bytes_hex" => value::push_bytes(out, &unhex(text(content))).expect("short"),
                "array" => {
                    let mut array = ArrayWriter::start(out);
                    for item in items(content) {
                        push(item, array.item().expect("few items"));
                    }
                }
                "map" => {
                    let mut map = MapWriter::start(out);
                    for entry in items(content) {
                        push(&entry[1], map.entry(text(&entry[0])).expect("few entries"));
                    }
                }
                other => panic!("{other} is a kind of value"),
            }
        }
        other => panic!("{other} is a value"),
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two hex digits")).collect()
}

pub fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("{json} is a string"))
}

/// `u64` fields are decimal strings, `u32` and smaller are numbers.
fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| text(json).parse().expect("a decimal"))
}

fn small<T: TryFrom<u64>>(json: &Json) -> T {
    T::try_from(number(json)).ok().expect("a number in range")
}

fn items(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

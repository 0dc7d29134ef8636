//! Messages as the vectors write them in JSON.

use clasp_rt_core::message::{Message, ParamValue, SignalInfo, Ttl};
use clasp_rt_core::signal::{Phase, Signal, SignalMask};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::header::Header;
use serde_json::{Map, Value as Json, json};

pub fn flags_json(header: &Header) -> Json {
    json!({
        "compressed": header.flags & 0x08 != 0,
        "encrypted": header.flags & 0x10 != 0,
        "qos": header.qos.code(),
        "timestamp": header.timestamp_us.map(|time| time.to_string()),
        "version": header.flags & 0x07,
    })
}

pub fn message_json(message: &Message<'_>) -> Json {
    let mut fields = Fields::default();
    match *message {
        Message::Hello(hello) => {
            fields.kind("HELLO");
            fields.put("version", hello.version);
            fields.put("features", hello.features.iter().collect::<Vec<_>>());
            fields.put("name", hello.name);
            fields.some("token", hello.token);
        }
        Message::Welcome(welcome) => {
            fields.kind("WELCOME");
            fields.put("version", welcome.version);
            fields.put("features", welcome.features.iter().collect::<Vec<_>>());
            fields.put("time", welcome.time_us.to_string());
            fields.put("session", welcome.session);
            fields.put("name", welcome.name);
            fields.some("token", welcome.token);
        }
        Message::Announce(announce) => {
            fields.kind("ANNOUNCE");
            fields.put("namespace", announce.namespace);
            fields.put("signals", announce.signals.iter().map(signal_json).collect::<Json>());
        }
        Message::FederationSync(sync) => {
            fields.kind("FEDERATION_SYNC");
            fields.put("op", sync.op);
            fields.put("patterns", sync.patterns.iter().collect::<Vec<_>>());
            let revisions =
                sync.revisions.iter().map(|(at, revision)| json!([at, revision.to_string()]));
            fields.put("revisions", revisions.collect::<Json>());
            fields.some("since_revision", sync.since_revision.map(|revision| revision.to_string()));
            fields.some("origin", sync.origin);
        }
        Message::Subscribe(subscribe) => {
            fields.kind("SUBSCRIBE");
            fields.put("id", subscribe.id);
            fields.put("pattern", subscribe.pattern);
            fields.put("types", types_json(subscribe.types));
            let mut options = Fields::default();
            options.some("max_rate", subscribe.options.max_rate);
            options.some("epsilon", subscribe.options.epsilon.map(float_json));
            options.some("history", subscribe.options.history);
            options.some("window", subscribe.options.window);
            fields.put("options", options.0);
        }
        Message::Unsubscribe { id } => {
            fields.kind("UNSUBSCRIBE");
            fields.put("id", id);
        }
        Message::Publish(publish) => {
            fields.kind("PUBLISH");
            fields.put("address", publish.address);
            fields.some("signal", publish.signal.map(Signal::name));
            fields.some("value", publish.value.map(value_json));
            fields.some("payload", publish.payload.map(value_json));
            let samples = publish.samples.map(|samples| samples.iter().map(float_json));
            fields.some("samples", samples.map(|samples| samples.collect::<Json>()));
            fields.some("rate", publish.rate);
            fields.some("id", publish.id);
            fields.some("phase", publish.phase.map(Phase::name));
            fields.some("timestamp", publish.timestamp_us.map(|time| time.to_string()));
            let keyframes =
                publish.timeline.map(|timeline| timeline.get("keyframes").expect("keyframes"));
            let count = keyframes.map(|keyframes| keyframes.array().expect("an array").count());
            fields.some("timeline", count.map(|count| json!({ "keyframes": count })));
        }
        Message::Set(set) => {
            fields.kind("SET");
            fields.put("address", set.address);
            fields.put("value", value_json(set.value));
            fields.some("revision", set.revision.map(|revision| revision.to_string()));
            fields.some("lock", set.lock.then_some(true));
            fields.some("unlock", set.unlock.then_some(true));
            let ttl = set.ttl.map(|ttl| match ttl {
                Ttl::Never => json!({ "never": true }),
                Ttl::Sliding(seconds) => json!({ "sliding": seconds }),
                Ttl::Absolute(seconds) => json!({ "absolute": seconds }),
            });
            fields.some("ttl", ttl);
        }
        Message::Get { address } => {
            fields.kind("GET");
            fields.put("address", address);
        }
        Message::Snapshot { params } => {
            fields.kind("SNAPSHOT");
            fields.put("params", params.iter().map(param_json).collect::<Json>());
        }
        Message::Replay(replay) => {
            fields.kind("REPLAY");
            fields.put("pattern", replay.pattern);
            fields.some("from", replay.from_us.map(|time| time.to_string()));
            fields.some("to", replay.to_us.map(|time| time.to_string()));
            fields.some("limit", replay.limit);
            fields.put("types", types_json(replay.types));
        }
        Message::Bundle(bundle) => {
            fields.kind("BUNDLE");
            fields.some("timestamp", bundle.timestamp_us.map(|time| time.to_string()));
            let messages: Json = bundle.messages.iter().map(|inner| message_json(&inner)).collect();
            assert_eq!(messages.as_array().map(Vec::len), Some(bundle.messages.len()));
            fields.put("messages", messages);
        }
        Message::Sync(sync) => {
            fields.kind("SYNC");
            fields.put("t1", sync.t1.to_string());
            fields.some("t2", sync.t2.map(|time| time.to_string()));
            fields.some("t3", sync.t3.map(|time| time.to_string()));
        }
        Message::Ping => fields.kind("PING"),
        Message::Pong => fields.kind("PONG"),
        Message::Ack(ack) => {
            fields.kind("ACK");
            fields.some("address", ack.address);
            fields.some("revision", ack.revision.map(|revision| revision.to_string()));
            fields.some("locked", ack.locked);
            fields.some("holder", ack.holder);
            fields.some("correlation_id", ack.correlation_id);
        }
        Message::Error(error) => {
            fields.kind("ERROR");
            fields.put("code", error.code);
            fields.put("message", error.message);
            fields.some("address", error.address);
            fields.some("correlation_id", error.correlation_id);
        }
        Message::Query { pattern } => {
            fields.kind("QUERY");
            fields.put("pattern", pattern);
        }
        Message::Result { signals } => {
            fields.kind("RESULT");
            fields.put("signals", signals.iter().map(signal_json).collect::<Json>());
        }
    }
    Json::Object(fields.0)
}

#[derive(Default)]
struct Fields(Map<String, Json>);

impl Fields {
    fn kind(&mut self, name: &str) {
        self.put("type", name);
    }

    fn put(&mut self, name: &str, field: impl Into<Json>) {
        self.0.insert(name.to_owned(), field.into());
    }

    fn some(&mut self, name: &str, field: Option<impl Into<Json>>) {
        if let Some(field) = field {
            self.put(name, field);
        }
    }
}

fn types_json(mask: SignalMask) -> Json {
    let all = [Signal::Param, Signal::Event, Signal::Stream, Signal::Gesture, Signal::Timeline];
    let known = all.into_iter().filter(|signal| mask.0 & 1 << signal.code() != 0);
    if mask == SignalMask::ALL { json!([]) } else { known.map(Signal::name).collect() }
}

fn signal_json(signal: SignalInfo<'_>) -> Json {
    let mut fields = Fields::default();
    fields.put("address", signal.address);
    fields.kind(signal.signal.name());
    fields.some("datatype", signal.datatype);
    fields.some("access", signal.access);
    let meta = signal.meta.map(|meta| {
        let mut fields = Fields::default();
        fields.some("unit", meta.unit);
        fields
            .some("range", meta.range.map(|(min, max)| json!([float_json(min), float_json(max)])));
        fields.some("default", meta.default.map(value_json));
        fields.some("description", meta.description);
        fields.0
    });
    fields.some("meta", meta);
    Json::Object(fields.0)
}

fn param_json(param: ParamValue<'_>) -> Json {
    let mut fields = Fields::default();
    fields.put("address", param.address);
    fields.put("value", value_json(param.value));
    fields.put("revision", param.revision.to_string());
    fields.some("writer", param.writer);
    fields.some("timestamp", param.timestamp_us.map(|time| time.to_string()));
    Json::Object(fields.0)
}

/// As the vectors write values.
fn value_json(value: Value<'_>) -> Json {
    if let Some(flag) = value.as_bool() {
        json!(flag)
    } else if let Some(number) = value.as_i64() {
        json!({ "int": number.to_string() })
    } else if let Some(number) = value.as_f64() {
        float_json(number)
    } else if let Some(text) = value.as_str() {
        json!({ "str": text })
    } else if let Some(bytes) = value.as_bytes() {
        json!({ "bytes_hex": hex(bytes) })
    } else if let Some(array) = value.array() {
        json!({ "array": array.map(value_json).collect::<Json>() })
    } else if let Some(map) = value.map() {
        // The last of equal keys wins.
        let entries: std::collections::BTreeMap<_, _> = map.collect();
        let pairs = entries.into_iter().map(|(key, value)| json!([key, value_json(value)]));
        json!({ "map": pairs.collect::<Json>() })
    } else {
        assert!(value.is_null());
        Json::Null
    }
}

fn float_json(number: f64) -> Json {
    json!({ "bits": format!("{:016x}", number.to_bits()) })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

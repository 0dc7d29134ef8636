//! CLASP frames to JSON and back, written from the protocol's description alone.
//!
//! A second reading of the protocol beside the router's own: if the two disagree, a test fails. The
//! golden vectors check this one too (below). Messages are JSON objects with the protocol's field
//! names; integers and floats stay apart as `1` and `1.0`; bytes are `{"$bytes": "00ff"}` and
//! floats that JSON lacks `{"$bits": "7ff0000000000000"}`. `qos` is a number, by default 1. Broken
//! input panics: here it comes from the program under test.

use serde_json::{Map, Value as Json, json};

const SIGNALS: [&str; 5] = ["param", "event", "stream", "gesture", "timeline"];
const PHASES: [&str; 4] = ["start", "move", "end", "cancel"];
const FEATURES: [(u8, &str); 5] =
    [(0x80, "param"), (0x40, "event"), (0x20, "stream"), (0x10, "gesture"), (0x08, "timeline")];

/// One whole frame.
pub fn encode(message: &Json) -> Vec<u8> {
    let payload = encode_payload(message);
    let qos = message["qos"].as_u64().unwrap_or(1) as u8;
    let mut frame = vec![0x53, qos << 6 | 1];
    push_len(&mut frame, payload.len());
    frame.extend(payload);
    frame
}

/// What lies behind the frame's header, as a bundle carries it.
pub fn encode_payload(message: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    match text(message, "type") {
        "HELLO" => {
            let features = message["features"].as_u64().unwrap_or(0xF8) as u8;
            out.extend([0x01, message["version"].as_u64().unwrap_or(1) as u8, features]);
            push_str(&mut out, text(message, "name"));
            push_str(&mut out, message["token"].as_str().unwrap_or_default());
        }
        "ANNOUNCE" => {
            out.push(0x03);
            push_str(&mut out, text(message, "namespace"));
            push_list(&mut out, &message["signals"], push_signal);
        }
        "SUBSCRIBE" => push_subscribe(&mut out, message),
        "UNSUBSCRIBE" => {
            out.push(0x11);
            out.extend(id(message).to_be_bytes());
        }
        "PUBLISH" => push_publish(&mut out, message),
        "SET" => push_set(&mut out, message),
        "GET" => {
            out.push(0x22);
            push_str(&mut out, text(message, "address"));
        }
        "BUNDLE" => {
            let at = message["timestamp"].as_u64();
            let messages = message["messages"].as_array().expect("a bundle has messages");
            out.extend([0x30, if at.is_some() { 0x80 } else { 0 }]);
            push_len(&mut out, messages.len());
            out.extend(at.into_iter().flat_map(u64::to_be_bytes));
            for inner in messages.iter().map(encode_payload) {
                push_len(&mut out, inner.len());
                out.extend(inner);
            }
        }
        "SYNC" => {
            out.extend([0x40, 0]);
            out.extend(message["t1"].as_u64().expect("t1").to_be_bytes());
        }
        "PING" => out.push(0x41),
        "PONG" => out.push(0x42),
        "QUERY" => {
            out.push(0x60);
            push_str(&mut out, text(message, "pattern"));
        }
        other => panic!("clients do not send {other}"),
    }
    out
}

fn push_signal(out: &mut Vec<u8>, signal: &Json) {
    push_str(out, text(signal, "address"));
    out.extend([position(&SIGNALS, &signal["type"]), 0]);
}

fn push_subscribe(out: &mut Vec<u8>, message: &Json) {
    out.push(0x10);
    out.extend(id(message).to_be_bytes());
    push_str(out, text(message, "pattern"));
    let types = message["types"].as_array();
    out.push(types.map_or(0xFF, |t| t.iter().fold(0, |mask, t| mask | 1 << position(&SIGNALS, t))));
    let [rate, history, window] =
        ["max_rate", "history", "window"].map(|key| message[key].as_u64().map(|n| n as u32));
    let epsilon = message["epsilon"].as_f64();
    let given = [rate.is_some(), epsilon.is_some(), history.is_some(), window.is_some()];
    out.push(given.iter().enumerate().map(|(bit, given)| u8::from(*given) << bit).sum());
    out.extend(rate.into_iter().flat_map(u32::to_be_bytes));
    out.extend(epsilon.into_iter().flat_map(f64::to_be_bytes));
    out.extend(history.into_iter().chain(window).flat_map(u32::to_be_bytes));
}

fn push_publish(out: &mut Vec<u8>, message: &Json) {
    let signal = position(&SIGNALS, &message["signal"]);
    let phase = if message["phase"].is_null() { 0 } else { position(&PHASES, &message["phase"]) };
    let at = message["timestamp"].as_u64();
    let gesture = message["id"].as_u64();
    let flags = u8::from(at.is_some()) << 4 | u8::from(gesture.is_some()) << 3;
    out.extend([0x20, signal << 5 | flags | phase]);
    push_str(out, text(message, "address"));
    match (message.get("value"), message["samples"].as_array()) {
        (Some(value), _) => {
            out.push(1);
            push_value(out, value);
        }
        (None, Some(samples)) => {
            out.push(2);
            push_len(out, samples.len());
            out.extend(samples.iter().flat_map(|s| s.as_f64().expect("a sample").to_be_bytes()));
        }
        (None, None) => out.push(0),
    }
    out.extend(at.into_iter().flat_map(u64::to_be_bytes));
    out.extend(gesture.into_iter().flat_map(|id| (id as u32).to_be_bytes()));
    out.extend(message["rate"].as_u64().into_iter().flat_map(|rate| (rate as u32).to_be_bytes()));
}

fn push_set(out: &mut Vec<u8>, message: &Json) {
    let mut value = Vec::new();
    push_value(&mut value, &message["value"]);
    let flag = |key: &str, bit: u8| if message[key] == json!(true) { bit } else { 0 };
    let revision = message["revision"].as_u64();
    let ttl = message["ttl"].as_u64();
    let flags = flag("lock", 0x40) | flag("unlock", 0x20);
    let given = u8::from(revision.is_some()) << 7 | u8::from(ttl.is_some()) << 4;
    out.extend([0x21, flags | given | value[0]]);
    push_str(out, text(message, "address"));
    out.extend(&value[1..]);
    out.extend(revision.into_iter().flat_map(u64::to_be_bytes));
    out.extend(ttl.into_iter().flat_map(|word| (word as u32).to_be_bytes()));
}

/// A type code and its data.
fn push_value(out: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => out.push(0x00),
        Json::Bool(b) => out.extend([0x01, u8::from(*b)]),
        Json::Number(n) => match n.as_i64() {
            Some(int) => {
                out.push(0x05);
                out.extend(int.to_be_bytes());
            }
            None => {
                out.push(0x07);
                out.extend(n.as_f64().expect("a float").to_be_bytes());
            }
        },
        Json::String(s) => {
            out.push(0x08);
            push_str(out, s);
        }
        Json::Array(_) => {
            out.push(0x0A);
            push_list(out, value, push_value);
        }
        Json::Object(map) => push_object(out, map),
    }
}

fn push_object(out: &mut Vec<u8>, map: &Map<String, Json>) {
    let string = |key: &str| map.get(key).and_then(Json::as_str);
    if let Some(hex) = string("$bytes") {
        let bytes = unhex(hex);
        out.push(0x09);
        push_len(out, bytes.len());
        out.extend(bytes);
    } else if let Some(bits) = string("$bits") {
        out.push(0x07);
        out.extend(unhex(bits));
    } else {
        out.push(0x0B);
        push_len(out, map.len());
        for (key, inner) in map {
            push_str(out, key);
            push_value(out, inner);
        }
    }
}

fn push_list(out: &mut Vec<u8>, list: &Json, push: fn(&mut Vec<u8>, &Json)) {
    let list = list.as_array().expect("a list");
    push_len(out, list.len());
    list.iter().for_each(|item| push(out, item));
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    push_len(out, text.len());
    out.extend(text.bytes());
}

fn push_len(out: &mut Vec<u8>, len: usize) {
    out.extend(u16::try_from(len).expect("a length fits 16 bits").to_be_bytes());
}

fn id(message: &Json) -> u32 {
    message["id"].as_u64().expect("an id") as u32
}

fn text<'a>(message: &'a Json, key: &str) -> &'a str {
    message[key].as_str().unwrap_or_else(|| panic!("{key} is missing from {message}"))
}

fn position(names: &[&str], name: &Json) -> u8 {
    let found = names.iter().position(|known| *name == *known);
    found.unwrap_or_else(|| panic!("{name} is not one of {names:?}")) as u8
}

/// What a frame of the router says.
pub fn decode(frame: &[u8]) -> Json {
    assert_eq!(frame[0], 0x53, "magic of {frame:02x?}");
    assert_eq!(frame[1] & 0x3F, 1, "only version bits and QoS: {frame:02x?}");
    let len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
    assert_eq!(frame.len(), 4 + len, "one frame to a message: {frame:02x?}");
    let mut bytes = Bytes(&frame[4..]);
    let message = decode_payload(&mut bytes);
    assert!(bytes.0.is_empty(), "{} bytes left over after {message}", bytes.0.len());
    message
}

fn decode_payload(bytes: &mut Bytes<'_>) -> Json {
    let mut message = Map::new();
    let mut put = |key: &str, value: Json| message.insert(key.into(), value);
    match bytes.u8() {
        0x02 => {
            put("type", json!("WELCOME"));
            put("version", json!(bytes.u8()));
            let bits = bytes.u8();
            let names = FEATURES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
            put("features", names.collect());
            put("time", json!(bytes.u64()));
            put("session", json!(bytes.text()));
            put("name", json!(bytes.text()));
            put("token", json!(bytes.text()));
        }
        0x20 => {
            put("type", json!("PUBLISH"));
            let flags = bytes.u8();
            put("signal", json!(SIGNALS[usize::from(flags >> 5)]));
            put("address", json!(bytes.text()));
            match bytes.u8() {
                1 => drop(put("value", bytes.coded_value())),
                2 => {
                    let samples: Vec<f64> = (0..bytes.u16()).map(|_| bytes.f64()).collect();
                    put("samples", json!(samples));
                }
                _ => (),
            }
            if flags & 0x10 != 0 {
                put("timestamp", json!(bytes.u64()));
            }
            if flags & 0x08 != 0 {
                put("id", json!(bytes.u32()));
            }
            if SIGNALS[usize::from(flags >> 5)] == "gesture" {
                put("phase", json!(PHASES[usize::from(flags & 7)]));
            }
            if bytes.0.len() >= 4 {
                put("rate", json!(bytes.u32()));
            }
        }
        0x21 => {
            put("type", json!("SET"));
            let flags = bytes.u8();
            put("address", json!(bytes.text()));
            put("value", bytes.value(flags & 0x0F));
            if flags & 0x80 != 0 {
                put("revision", json!(bytes.u64()));
            }
            for (bit, key) in [(0x40, "lock"), (0x20, "unlock")] {
                if flags & bit != 0 {
                    put(key, json!(true));
                }
            }
            if flags & 0x10 != 0 {
                put("ttl", json!(bytes.u32()));
            }
        }
        0x23 => {
            put("type", json!("SNAPSHOT"));
            put("params", (0..bytes.u16()).map(|_| bytes.param()).collect());
        }
        0x40 => {
            put("type", json!("SYNC"));
            let flags = bytes.u8();
            put("t1", json!(bytes.u64()));
            for (bit, key) in [(1, "t2"), (2, "t3")] {
                if flags & bit != 0 {
                    put(key, json!(bytes.u64()));
                }
            }
        }
        0x41 => drop(put("type", json!("PING"))),
        0x42 => drop(put("type", json!("PONG"))),
        0x50 => {
            put("type", json!("ACK"));
            let flags = bytes.u8();
            if flags & 0x01 != 0 {
                put("address", json!(bytes.text()));
            }
            if flags & 0x02 != 0 {
                put("revision", json!(bytes.u64()));
            }
            if flags & 0x04 != 0 {
                put("locked", json!(bytes.u8() != 0));
            }
            if flags & 0x08 != 0 {
                put("holder", json!(bytes.text()));
            }
            if flags & 0x10 != 0 {
                put("correlation_id", json!(bytes.u32()));
            }
        }
        0x51 => {
            put("type", json!("ERROR"));
            put("code", json!(bytes.u16()));
            put("message", json!(bytes.text()));
            let flags = bytes.u8();
            if flags & 1 != 0 {
                put("address", json!(bytes.text()));
            }
            if flags & 2 != 0 {
                put("correlation_id", json!(bytes.u32()));
            }
        }
        0x61 => {
            put("type", json!("RESULT"));
            put("signals", (0..bytes.u16()).map(|_| bytes.signal()).collect());
        }
        code => panic!("routers do not send message {code:#04x}"),
    }
    Json::Object(message)
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        assert!(len <= self.0.len(), "needs {len} bytes, has {}", self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("take gives as many bytes as asked")
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    fn f64(&mut self) -> f64 {
        f64::from_be_bytes(self.array())
    }

    fn text(&mut self) -> &'a str {
        let len = self.u16();
        std::str::from_utf8(self.take(usize::from(len))).expect("text is UTF-8")
    }

    fn coded_value(&mut self) -> Json {
        let code = self.u8();
        self.value(code)
    }

    fn value(&mut self, code: u8) -> Json {
        match code {
            0x00 => Json::Null,
            0x01 => json!(self.u8() != 0),
            0x02 => json!(i8::from_be_bytes(self.array())),
            0x03 => json!(i16::from_be_bytes(self.array())),
            0x04 => json!(i32::from_be_bytes(self.array())),
            0x05 => json!(i64::from_be_bytes(self.array())),
            0x06 => json!(f64::from(f32::from_be_bytes(self.array()))),
            0x07 => float(self.f64()),
            0x08 => json!(self.text()),
            0x09 => {
                let len = self.u16();
                json!({"$bytes": hex(self.take(usize::from(len)))})
            }
            0x0A => (0..self.u16()).map(|_| self.coded_value()).collect(),
            0x0B => {
                let pairs = (0..self.u16()).map(|_| (self.text().to_string(), self.coded_value()));
                Json::Object(pairs.collect())
            }
            _ => panic!("value code {code:#04x} is not defined"),
        }
    }

    fn param(&mut self) -> Json {
        let mut param = Map::new();
        param.insert("address".into(), json!(self.text()));
        param.insert("value".into(), self.coded_value());
        param.insert("revision".into(), json!(self.u64()));
        let given = self.u8();
        if given & 1 != 0 {
            param.insert("writer".into(), json!(self.text()));
        }
        if given & 2 != 0 {
            param.insert("timestamp".into(), json!(self.u64()));
        }
        Json::Object(param)
    }

    fn signal(&mut self) -> Json {
        let mut signal = Map::new();
        signal.insert("address".into(), json!(self.text()));
        signal.insert("type".into(), json!(SIGNALS[usize::from(self.u8())]));
        let given = self.u8();
        assert_eq!(given & !3, 0, "RESULT carries no metadata: no client could skip it");
        for (bit, key) in [(1, "datatype"), (2, "access")] {
            if given & bit != 0 {
                signal.insert(key.into(), json!(self.text()));
            }
        }
        Json::Object(signal)
    }
}

fn float(value: f64) -> Json {
    if value.is_finite() {
        return json!(value);
    }
    json!({"$bits": format!("{:016x}", value.to_bits())})
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// The golden frames: `core/vectors/clasp.json`.
pub fn vectors() -> Vec<Json> {
    let text = include_str!("../../core/vectors/clasp.json");
    let vectors: Json = serde_json::from_str(text).expect("the vectors are JSON");
    vectors["cases"].as_array().expect("cases").clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_reading_of_the_protocol_agrees_with_the_golden_frames() {
        let (mut encoded, mut decoded) = (0, 0);
        for case in vectors().iter().filter(|case| case["kind"] == "encode") {
            let frame = unhex(text(case, "frame_hex"));
            let message = plain(&case["message"]);
            match text(&message, "type") {
                "PING" | "PONG" | "WELCOME" | "SNAPSHOT" | "ACK" | "ERROR" | "RESULT" => {
                    let said = decode(&frame);
                    let meant = case.get("decodes_to").map_or(message, plain);
                    for (key, value) in meant.as_object().expect("a message") {
                        assert_eq!(said[key], *value, "{key} of {}", case["name"]);
                    }
                    decoded += 1;
                }
                "GET" | "QUERY" | "UNSUBSCRIBE" | "SET" if message["ttl"].is_null() => {
                    let mut message = message;
                    message["qos"] = case["qos"].clone();
                    assert_eq!(hex(&encode(&message)), hex(&frame), "{}", case["name"]);
                    encoded += 1;
                }
                _ => (),
            }
        }
        assert_eq!((encoded, decoded), (51, 32), "encoded and decoded");
    }

    /// The vectors' exact notation as the JSON of this module; what has no such form becomes null.
    fn plain(value: &Json) -> Json {
        let Json::Object(map) = value else {
            return match value {
                Json::Array(list) => list.iter().map(plain).collect(),
                other => other.clone(),
            };
        };
        let string = |key: &str| map.get(key).and_then(Json::as_str);
        if let Some(int) = string("int") {
            return json!(int.parse::<i64>().expect("an integer"));
        }
        if let Some(bits) = string("bits") {
            return float(f64::from_bits(u64::from_str_radix(bits, 16).expect("bits")));
        }
        if let (Some(text), 1) = (string("str"), map.len()) {
            return json!(text);
        }
        if let Some(hex) = string("bytes_hex") {
            return json!({"$bytes": hex});
        }
        if let (Some(list), 1) = (map.get("array"), map.len()) {
            return plain(list);
        }
        if let (Some(Json::Array(pairs)), 1) = (map.get("map"), map.len()) {
            let pair =
                |pair: &Json| (pair[0].as_str().expect("a key").to_string(), plain(&pair[1]));
            return Json::Object(pairs.iter().map(pair).collect());
        }
        let number = |key: &str, value: &Json| match (key, value.as_str()) {
            ("time" | "revision" | "timestamp" | "t1" | "t2" | "t3", Some(text)) => {
                json!(text.parse::<u64>().expect("a number"))
            }
            _ => plain(value),
        };
        Json::Object(map.iter().map(|(key, v)| (key.clone(), number(key, v))).collect())
    }
}

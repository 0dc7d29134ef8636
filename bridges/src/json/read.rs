//! JSON objects to binary payloads.

use clasp_rt_core::error::Malformed;
use clasp_rt_core::limits::NESTING_MAX;
use clasp_rt_core::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, Message, ParamValue, Publish, Replay,
    Set, SignalInfo, SignalMeta, Subscribe, SubscribeOptions, Sync, Ttl, Welcome,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::{self, ArrayWriter, MapWriter, Value};
use clasp_rt_core::wire::TooLong;
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::{
    Announced, Features, Messages, Params, Patterns, Revisions, Samples, Signals,
};
use serde_json::{Map, Value as Json};

use super::{BYTES_KEY, FEDERATION_OPS, JsonError, QOS_NAMES, usual_qos};

/// Appends the payload that `json` means; gives the quality of service that it wants. `depth`
/// counts the bundles around it.
pub(super) fn append_payload(
    json: &Json,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<Qos, JsonError> {
    if depth > NESTING_MAX {
        return Err(JsonError::TooDeep);
    }
    let map =
        json.as_object().ok_or(wrong("message", "an object, such as {\"type\": \"PING\"}"))?;
    let (kind_key, kind) = ["type", "op"]
        .into_iter()
        .find_map(|key| Some((key, map.get(key)?.as_str()?)))
        .ok_or(JsonError::Missing { kind: "a message", key: "type" })?;
    let found = KINDS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(kind));
    let &(kind, keys, read) = found.ok_or_else(|| JsonError::Wrong {
        at: format!("{kind_key}: {kind}"),
        need: "a message, such as HELLO, SET, GET, EMIT, SUBSCRIBE, UNSUBSCRIBE, QUERY or PING",
    })?;
    let fields = Fields { kind, map };
    fields.check_keys(keys, &[kind_key, "qos"])?;
    let qos = fields.qos()?;
    read(&fields, depth, &mut |message| {
        binary::append_payload(message, out)?;
        Ok(qos.unwrap_or_else(|| usual_qos(message)))
    })
}

/// Takes the message, which borrows from rooms that its reader made.
type Take<'t> = &'t mut dyn FnMut(&Message<'_>) -> Result<Qos, JsonError>;

type Read = fn(&Fields<'_>, usize, Take<'_>) -> Result<Qos, JsonError>;

/// Every message: its name, its keys, its reader. The table of the documentation, once more.
const KINDS: [(&str, &[&str], Read); 22] = [
    ("HELLO", &["name", "version", "features", "token"], hello),
    ("WELCOME", &["version", "features", "time", "session", "name", "token"], welcome),
    ("ANNOUNCE", &["namespace", "signals"], announce),
    (
        "FEDERATION_SYNC",
        &["op", "patterns", "revisions", "since_revision", "origin"],
        federation_sync,
    ),
    ("SUBSCRIBE", &["pattern", "id", "types", "options"], subscribe),
    ("UNSUBSCRIBE", &["id", "pattern"], unsubscribe),
    (
        "PUBLISH",
        &["address", "signal", "value", "payload", "samples", "rate", "id", "phase", "timestamp"],
        publish,
    ),
    ("EMIT", &["address", "value", "payload", "timestamp"], emit),
    ("STREAM", &["address", "value", "samples", "rate", "timestamp"], stream),
    ("GESTURE", &["address", "value", "payload", "id", "phase", "timestamp"], gesture),
    ("SET", &["address", "value", "revision", "lock", "unlock", "ttl"], set),
    ("GET", &["address"], get),
    ("SNAPSHOT", &["params"], snapshot),
    ("REPLAY", &["pattern", "from", "to", "limit", "types"], replay),
    ("BUNDLE", &["messages", "timestamp"], bundle),
    ("SYNC", &["t1", "t2", "t3"], sync),
    ("PING", &[], |_, _, take| take(&Message::Ping)),
    ("PONG", &[], |_, _, take| take(&Message::Pong)),
    ("ACK", &["address", "revision", "locked", "holder", "correlation_id"], ack),
    ("ERROR", &["code", "message", "address", "correlation_id"], error),
    ("QUERY", &["pattern"], query),
    ("RESULT", &["signals"], result),
];

fn hello(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Hello(Hello {
        version: fields.optional_number("version")?.unwrap_or(1),
        features: Features::from_bits(fields.features()?.unwrap_or(ALL_SIGNALS)),
        name: fields.str("name")?,
        token: fields.optional_str("token")?,
    }))
}

fn welcome(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Welcome(Welcome {
        version: fields.number("version")?,
        features: Features::from_bits(fields.features()?.unwrap_or_default()),
        time_us: fields.number("time")?,
        session: fields.str("session")?,
        name: fields.str("name")?,
        token: fields.optional_str("token")?,
    }))
}

fn announce(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let (mut bytes, mut value) = (Vec::new(), Vec::new());
    for signal in fields.objects("signals", "signal")? {
        signal.check_keys(&["address", "type", "datatype", "access", "meta"], &[])?;
        let meta = match signal.object("meta")? {
            Some(meta) => Some(read_meta(&meta, &mut value)?),
            None => None,
        };
        Announced::append(&mut bytes, SignalInfo { meta, ..read_signal(&signal)? })?;
    }
    let signals = Announced::from_bytes(&bytes)?;
    take(&Message::Announce(Announce { namespace: fields.str("namespace")?, signals }))
}

fn result(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let mut bytes = Vec::new();
    for signal in fields.objects("signals", "signal")? {
        signal.check_keys(&["address", "type", "datatype", "access"], &[])?;
        Signals::append(&mut bytes, read_signal(&signal)?)?;
    }
    take(&Message::Result { signals: Signals::from_bytes(&bytes)? })
}

fn read_signal<'a>(signal: &Fields<'a>) -> Result<SignalInfo<'a>, JsonError> {
    Ok(SignalInfo {
        address: signal.str("address")?,
        signal: signal.signal("type")?.ok_or(signal.missing("type"))?,
        datatype: signal.optional_str("datatype")?,
        access: signal.optional_str("access")?,
        meta: None,
    })
}

fn read_meta<'a>(meta: &Fields<'a>, value: &'a mut Vec<u8>) -> Result<SignalMeta<'a>, JsonError> {
    meta.check_keys(&["unit", "range", "default", "description"], &[])?;
    let range = match meta.optional("range") {
        None => None,
        Some(range) => match range.as_array().map(Vec::as_slice) {
            Some([least, most]) => Some((
                least.as_f64().ok_or(wrong("range", "two numbers"))?,
                most.as_f64().ok_or(wrong("range", "two numbers"))?,
            )),
            _ => return Err(wrong("range", "two numbers")),
        },
    };
    Ok(SignalMeta {
        unit: meta.optional_str("unit")?,
        range,
        default: meta.optional_value("default", value)?,
        description: meta.optional_str("description")?,
    })
}

fn federation_sync(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    const NEED: &str = "1 to 4, or its name";
    let op = fields.required("op")?;
    let named = FEDERATION_OPS.iter().zip(1..).find(|(name, _)| op.as_str() == Some(name));
    let op = match (named, op.as_u64()) {
        (Some((_, code)), _) => code,
        (None, Some(code @ 1..=4)) => code as u8,
        _ => return Err(wrong("op", NEED)),
    };
    let (mut patterns, mut revisions) = (Vec::new(), Vec::new());
    for pattern in fields.array("patterns")? {
        let pattern = pattern.as_str().ok_or(wrong("patterns", "an array of strings"))?;
        Patterns::append(&mut patterns, pattern)?;
    }
    for (address, revision) in fields.object("revisions")?.iter().flat_map(|object| object.map) {
        let revision = revision.as_u64().ok_or(wrong("revisions", "an object of whole numbers"))?;
        Revisions::append(&mut revisions, (address, revision))?;
    }
    take(&Message::FederationSync(FederationSync {
        op,
        patterns: Patterns::from_bytes(&patterns)?,
        revisions: Revisions::from_bytes(&revisions)?,
        since_revision: fields.optional_number("since_revision")?,
        origin: fields.optional_str("origin")?,
    }))
}

fn subscribe(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let pattern = fields.str("pattern")?;
    let options = match fields.object("options")? {
        None => SubscribeOptions::default(),
        Some(options) => {
            options.check_keys(&["max_rate", "epsilon", "history", "window"], &[])?;
            SubscribeOptions {
                max_rate: options.optional_number("max_rate")?,
                epsilon: options.optional_float("epsilon")?,
                history: options.optional_number("history")?,
                window: options.optional_number("window")?,
            }
        }
    };
    take(&Message::Subscribe(Subscribe {
        id: fields.optional_number("id")?.unwrap_or_else(|| id_of(pattern)),
        pattern,
        types: fields.types()?,
        options,
    }))
}

fn unsubscribe(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let id = match fields.optional_number("id")? {
        Some(id) => id,
        None => fields.optional_str("pattern")?.map(id_of).ok_or(fields.missing("id"))?,
    };
    take(&Message::Unsubscribe { id })
}

/// The id of a subscription that was given none: FNV-1a, so that the pattern can take it back.
fn id_of(pattern: &str) -> u32 {
    pattern
        .bytes()
        .fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn publish(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    publish_as(fields.signal("signal")?.unwrap_or_default(), fields, take)
}

fn emit(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    publish_as(Signal::Event, fields, take)
}

fn stream(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    publish_as(Signal::Stream, fields, take)
}

fn gesture(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    publish_as(Signal::Gesture, fields, take)
}

fn publish_as(signal: Signal, fields: &Fields<'_>, take: Take<'_>) -> Result<Qos, JsonError> {
    const PHASES: &str = "start, move, end or cancel";
    let (mut value, mut payload, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let samples = match fields.optional("samples") {
        None => None,
        Some(_) => {
            for sample in fields.array("samples")? {
                let sample = sample.as_f64().ok_or(wrong("samples", "an array of numbers"))?;
                Samples::append(&mut bytes, sample)?;
            }
            Some(Samples::from_bytes(&bytes)?)
        }
    };
    let phase = match fields.optional_str("phase")? {
        Some(name) => Some(Phase::from_name(name).ok_or(wrong("phase", PHASES))?),
        None => None,
    };
    take(&Message::Publish(Publish {
        address: fields.str("address")?,
        signal: Some(signal),
        value: fields.optional_value("value", &mut value)?,
        payload: fields.optional_value("payload", &mut payload)?,
        samples,
        rate: fields.optional_number("rate")?,
        id: fields.optional_number("id")?,
        phase,
        timestamp_us: fields.optional_number("timestamp")?,
        timeline: None,
    }))
}

fn set(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let mut value = Vec::new();
    take(&Message::Set(Set {
        address: fields.str("address")?,
        value: fields.optional_value("value", &mut value)?.ok_or(fields.missing("value"))?,
        revision: fields.optional_number("revision")?,
        lock: fields.optional_bool("lock")?.unwrap_or_default(),
        unlock: fields.optional_bool("unlock")?.unwrap_or_default(),
        ttl: fields.ttl()?,
    }))
}

fn get(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Get { address: fields.str("address")? })
}

fn snapshot(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    let (mut bytes, mut value) = (Vec::new(), Vec::new());
    for param in fields.objects("params", "param")? {
        param.check_keys(&["address", "value", "revision", "writer", "timestamp"], &[])?;
        let param = ParamValue {
            address: param.str("address")?,
            value: param.optional_value("value", &mut value)?.ok_or(param.missing("value"))?,
            revision: param.number("revision")?,
            writer: param.optional_str("writer")?,
            timestamp_us: param.optional_number("timestamp")?,
        };
        Params::append(&mut bytes, param)?;
    }
    take(&Message::Snapshot { params: Params::from_bytes(&bytes)? })
}

fn replay(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Replay(Replay {
        pattern: fields.str("pattern")?,
        from_us: fields.optional_number("from")?,
        to_us: fields.optional_number("to")?,
        limit: fields.optional_number("limit")?,
        types: fields.types()?,
    }))
}

fn bundle(fields: &Fields<'_>, depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    fields.required("messages")?;
    let (mut bytes, mut payload) = (Vec::new(), Vec::new());
    let inner = fields.array("messages")?;
    for json in inner {
        payload.clear();
        // A part has no frame of its own, hence no quality of service.
        append_payload(json, depth + 1, &mut payload)?;
        Messages::append(&mut bytes, &binary::decode(&payload)?)?;
    }
    take(&Message::Bundle(Bundle {
        timestamp_us: fields.optional_number("timestamp")?,
        messages: Messages::from_payloads(&bytes, inner.len())?,
    }))
}

fn sync(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Sync(Sync {
        t1: fields.number("t1")?,
        t2: fields.optional_number("t2")?,
        t3: fields.optional_number("t3")?,
    }))
}

fn ack(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Ack(Ack {
        address: fields.optional_str("address")?,
        revision: fields.optional_number("revision")?,
        locked: fields.optional_bool("locked")?,
        holder: fields.optional_str("holder")?,
        correlation_id: fields.optional_number("correlation_id")?,
    }))
}

fn error(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Error(ErrorReply {
        code: fields.number("code")?,
        message: fields.str("message")?,
        address: fields.optional_str("address")?,
        correlation_id: fields.optional_number("correlation_id")?,
    }))
}

fn query(fields: &Fields<'_>, _depth: usize, take: Take<'_>) -> Result<Qos, JsonError> {
    take(&Message::Query { pattern: fields.str("pattern")? })
}

/// What a HELLO without `features` can do.
const ALL_SIGNALS: u8 =
    Features::PARAM | Features::EVENT | Features::STREAM | Features::GESTURE | Features::TIMELINE;

const SIGNAL_NAMES: &str = "param, event, stream, gesture or timeline";

/// A whole number as wide as the message has it.
trait Whole: TryFrom<u64> {
    const NEEDED: &'static str;
}

impl Whole for u8 {
    const NEEDED: &'static str = "a whole number, 0 to 255";
}

impl Whole for u16 {
    const NEEDED: &'static str = "a whole number, 0 to 65535";
}

impl Whole for u32 {
    const NEEDED: &'static str = "a whole number, 0 to 4294967295";
}

impl Whole for u64 {
    const NEEDED: &'static str = "a whole number, 0 or more";
}

/// The keys of one object, read by type.
#[derive(Clone, Copy)]
struct Fields<'j> {
    kind: &'static str,
    map: &'j Map<String, Json>,
}

impl<'j> Fields<'j> {
    fn check_keys(&self, keys: &'static [&'static str], also: &[&str]) -> Result<(), JsonError> {
        let known = |key: &&String| !keys.contains(&key.as_str()) && !also.contains(&key.as_str());
        match self.map.keys().find(known) {
            Some(key) => Err(JsonError::Unknown { kind: self.kind, key: key.clone(), keys }),
            None => Ok(()),
        }
    }

    fn missing(&self, key: &'static str) -> JsonError {
        JsonError::Missing { kind: self.kind, key }
    }

    fn required(&self, key: &'static str) -> Result<&'j Json, JsonError> {
        self.optional(key).ok_or(self.missing(key))
    }

    /// Null is as good as nothing.
    fn optional(&self, key: &str) -> Option<&'j Json> {
        self.map.get(key).filter(|json| !json.is_null())
    }

    fn str(&self, key: &'static str) -> Result<&'j str, JsonError> {
        self.optional_str(key)?.ok_or(self.missing(key))
    }

    fn optional_str(&self, key: &str) -> Result<Option<&'j str>, JsonError> {
        self.typed(key, "a string", Json::as_str)
    }

    fn optional_bool(&self, key: &str) -> Result<Option<bool>, JsonError> {
        self.typed(key, "true or false", Json::as_bool)
    }

    fn optional_float(&self, key: &str) -> Result<Option<f64>, JsonError> {
        self.typed(key, "a number", Json::as_f64)
    }

    fn number<T: Whole>(&self, key: &'static str) -> Result<T, JsonError> {
        self.optional_number(key)?.ok_or(self.missing(key))
    }

    fn optional_number<T: Whole>(&self, key: &str) -> Result<Option<T>, JsonError> {
        self.typed(key, T::NEEDED, |json| T::try_from(json.as_u64()?).ok())
    }

    fn typed<T>(
        &self,
        key: &str,
        need: &'static str,
        read: impl FnOnce(&'j Json) -> Option<T>,
    ) -> Result<Option<T>, JsonError> {
        self.optional(key).map(|json| read(json).ok_or_else(|| wrong(key, need))).transpose()
    }

    /// Empty where the key is left out.
    fn array(&self, key: &str) -> Result<&'j [Json], JsonError> {
        let items = self.typed(key, "an array", Json::as_array)?;
        Ok(items.map(Vec::as_slice).unwrap_or_default())
    }

    /// The objects of an array that must be there; `kind` is what one of them is.
    fn objects(&self, key: &'static str, kind: &'static str) -> Result<Vec<Self>, JsonError> {
        self.required(key)?;
        let items = self.array(key)?.iter().map(Json::as_object);
        items
            .map(|map| map.map(|map| Self { kind, map }).ok_or(wrong(key, "an array of objects")))
            .collect()
    }

    fn object(&self, key: &'static str) -> Result<Option<Self>, JsonError> {
        let map = self.typed(key, "an object", Json::as_object)?;
        Ok(map.map(|map| Self { kind: key, map }))
    }

    /// Any value; null is one, as long as the key is there. `room` is where its bytes are put.
    fn optional_value<'r>(
        &self,
        key: &str,
        room: &'r mut Vec<u8>,
    ) -> Result<Option<Value<'r>>, JsonError> {
        let Some(json) = self.map.get(key) else { return Ok(None) };
        room.clear();
        append_value(json, room)?;
        Ok(Some(Value::from_encoded(room)?))
    }

    fn signal(&self, key: &str) -> Result<Option<Signal>, JsonError> {
        self.typed(key, SIGNAL_NAMES, |json| Signal::from_name(json.as_str()?))
    }

    fn types(&self) -> Result<SignalMask, JsonError> {
        let mut mask = 0;
        for name in self.array("types")? {
            let signal = name.as_str().and_then(Signal::from_name);
            mask |= 1 << signal.ok_or(wrong("types", "an array of signal names"))?.code();
        }
        Ok(if mask == 0 { SignalMask::ALL } else { SignalMask(mask) })
    }

    fn features(&self) -> Result<Option<u8>, JsonError> {
        let mut bits = None;
        if self.optional("features").is_some() {
            for name in self.array("features")? {
                let bit = name.as_str().and_then(Features::bit_of);
                let bit = bit.ok_or(wrong("features", "an array of feature names"))?;
                bits = Some(bits.unwrap_or_default() | bit);
            }
            bits = bits.or(Some(0));
        }
        Ok(bits)
    }

    fn qos(&self) -> Result<Option<Qos>, JsonError> {
        self.typed("qos", "fire, confirm or commit", |json| {
            let name = json.as_str()?;
            QOS_NAMES
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, qos)| *qos)
        })
    }

    /// Seconds are at most 31 bits: the wire has a flag in the highest one.
    fn ttl(&self) -> Result<Option<Ttl>, JsonError> {
        const NEED: &str = "seconds, \"never\", {\"sliding\": s} or {\"absolute\": s}";
        let seconds = |json: &Json| {
            json.as_u64().and_then(|s| u32::try_from(s).ok()).filter(|s| s >> 31 == 0)
        };
        self.typed("ttl", NEED, |json| match json {
            Json::String(word) if word.eq_ignore_ascii_case("never") => Some(Ttl::Never),
            Json::Number(_) => seconds(json).map(Ttl::Sliding),
            Json::Object(map) if map.len() == 1 => {
                let (kind, json) = map.iter().next()?;
                match kind.to_ascii_lowercase().as_str() {
                    "sliding" => seconds(json).map(Ttl::Sliding),
                    "absolute" => seconds(json).map(Ttl::Absolute),
                    _ => None,
                }
            }
            _ => None,
        })
    }
}

pub(super) fn append_value(json: &Json, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match json {
        Json::Null => value::push_null(out),
        Json::Bool(on) => value::push_bool(out, *on),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => value::push_i64(out, whole),
            None => value::push_f64(out, number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => value::push_str(out, text)?,
        Json::Array(items) => {
            let mut array = ArrayWriter::start(out);
            items.iter().try_for_each(|item| append_value(item, array.item()?))?;
        }
        Json::Object(map) => match (map.get(BYTES_KEY), map.len()) {
            (Some(digits), 1) => value::push_bytes(out, &bytes(digits)?)?,
            _ => {
                let mut entries = MapWriter::start(out);
                map.iter().try_for_each(|(key, value)| append_value(value, entries.entry(key)?))?;
            }
        },
    }
    Ok(())
}

fn bytes(digits: &Json) -> Result<Vec<u8>, JsonError> {
    let pairs = digits.as_str().map(|text| text.as_bytes().as_chunks::<2>());
    let bytes = pairs.filter(|(_, odd)| odd.is_empty()).and_then(|(pairs, _)| {
        pairs
            .iter()
            .map(|&[high, low]| {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                Some((digit(high)? << 4 | digit(low)?) as u8)
            })
            .collect()
    });
    bytes.ok_or(wrong(BYTES_KEY, "hexadecimal digits, two for each byte"))
}

fn wrong(at: &str, need: &'static str) -> JsonError {
    JsonError::Wrong { at: at.to_owned(), need }
}

impl From<TooLong> for JsonError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// What was written here is read back at once; only its size can be wrong with it.
impl From<Malformed> for JsonError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooDeep => Self::TooDeep,
            _ => Self::TooLong,
        }
    }
}

//! Messages to JSON text. Appends to one string and allocates nothing else.

use std::fmt::{Display, Write};

use clasp_rt_core::message::{
    Ack, Announce, Bundle, ErrorReply, FederationSync, Hello, Message, ParamValue, Publish, Replay,
    Set, SignalInfo, SignalMeta, Subscribe, SubscribeOptions, Sync, Ttl, Welcome,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Features;

use super::{BYTES_KEY, FEDERATION_OPS, QOS_NAMES, usual_qos};

/// Appends the object that `message` is. Its quality of service is said where it is not the usual.
pub(super) fn message(message: &Message<'_>, qos: Option<Qos>, out: &mut String) {
    let mut object = Object::start(out);
    match *message {
        Message::Hello(hello) => write_hello(hello, &mut object),
        Message::Welcome(welcome) => write_welcome(welcome, &mut object),
        Message::Announce(Announce { namespace, signals }) => {
            object.typed("ANNOUNCE").str("namespace", namespace);
            object.list("signals", signals, write_signal);
        }
        Message::FederationSync(sync) => write_federation_sync(sync, &mut object),
        Message::Subscribe(subscribe) => write_subscribe(subscribe, &mut object),
        Message::Unsubscribe { id } => {
            object.typed("UNSUBSCRIBE").display("id", id);
        }
        Message::Publish(publish) => write_publish(publish, &mut object),
        Message::Set(set) => write_set(set, &mut object),
        Message::Get { address } => {
            object.typed("GET").str("address", address);
        }
        Message::Snapshot { params } => {
            object.typed("SNAPSHOT").list("params", params, write_param);
        }
        Message::Replay(replay) => write_replay(replay, &mut object),
        Message::Bundle(Bundle { timestamp_us, messages }) => {
            object.typed("BUNDLE").optional("timestamp", timestamp_us);
            object.list("messages", messages, |inner, out| self::message(&inner, None, out));
        }
        Message::Sync(Sync { t1, t2, t3 }) => {
            object.typed("SYNC").display("t1", t1).optional("t2", t2).optional("t3", t3);
        }
        Message::Ping => {
            object.typed("PING");
        }
        Message::Pong => {
            object.typed("PONG");
        }
        Message::Ack(ack) => write_ack(ack, &mut object),
        Message::Error(error) => write_error(error, &mut object),
        Message::Query { pattern } => {
            object.typed("QUERY").str("pattern", pattern);
        }
        Message::Result { signals } => {
            object.typed("RESULT").list("signals", signals, write_signal);
        }
    }
    if let Some(qos) = qos.filter(|qos| *qos != usual_qos(message)) {
        let name = QOS_NAMES.iter().find(|(_, known)| *known == qos).map(|(name, _)| *name);
        object.optional_str("qos", name);
    }
    object.end();
}

fn write_hello(hello: Hello<'_>, object: &mut Object<'_>) {
    object.typed("HELLO").display("version", hello.version);
    write_features(hello.features, object);
    object.str("name", hello.name).optional_str("token", hello.token);
}

fn write_welcome(welcome: Welcome<'_>, object: &mut Object<'_>) {
    object.typed("WELCOME").display("version", welcome.version);
    write_features(welcome.features, object);
    object
        .display("time", welcome.time_us)
        .str("session", welcome.session)
        .str("name", welcome.name)
        .optional_str("token", welcome.token);
}

fn write_features(features: Features<'_>, object: &mut Object<'_>) {
    object.list("features", features.iter(), string);
}

fn write_federation_sync(sync: FederationSync<'_>, object: &mut Object<'_>) {
    let op = FEDERATION_OPS.get(usize::from(sync.op.wrapping_sub(1)));
    object.typed("FEDERATION_SYNC").optional_str("op", op.copied());
    object.list("patterns", sync.patterns, string);
    let mut revisions = Object::start(object.key("revisions"));
    for (address, revision) in sync.revisions {
        revisions.display(address, revision);
    }
    revisions.end();
    object.optional("since_revision", sync.since_revision).optional_str("origin", sync.origin);
}

fn write_subscribe(subscribe: Subscribe<'_>, object: &mut Object<'_>) {
    object.typed("SUBSCRIBE").display("id", subscribe.id).str("pattern", subscribe.pattern);
    write_types(subscribe.types, object);
    if subscribe.options != SubscribeOptions::default() {
        let SubscribeOptions { max_rate, epsilon, history, window } = subscribe.options;
        let mut options = Object::start(object.key("options"));
        options.optional("max_rate", max_rate);
        if let Some(epsilon) = epsilon {
            float(epsilon, options.key("epsilon"));
        }
        options.optional("history", history).optional("window", window).end();
    }
}

/// Nothing where it means all.
fn write_types(mask: SignalMask, object: &mut Object<'_>) {
    const ALL: [Signal; 5] =
        [Signal::Param, Signal::Event, Signal::Stream, Signal::Gesture, Signal::Timeline];
    if mask != SignalMask::ALL {
        let named = ALL.into_iter().filter(|signal| mask.contains(*signal)).map(Signal::name);
        object.list("types", named, string);
    }
}

fn write_publish(publish: Publish<'_>, object: &mut Object<'_>) {
    let signal = publish.signal.unwrap_or_default();
    object.typed("PUBLISH").str("address", publish.address).str("signal", signal.name());
    if let Some(carried) = publish.value.or(publish.payload) {
        value(carried, object.key("value"));
    }
    if let Some(samples) = publish.samples {
        object.list("samples", samples, float);
    }
    object.optional("rate", publish.rate).optional("id", publish.id);
    // The wire always has a phase; it says something of gestures only.
    let said = publish.phase.filter(|phase| signal == Signal::Gesture || *phase != Phase::Start);
    object.optional_str("phase", said.map(Phase::name));
    object.optional("timestamp", publish.timestamp_us);
}

fn write_set(set: Set<'_>, object: &mut Object<'_>) {
    object.typed("SET").str("address", set.address);
    value(set.value, object.key("value"));
    object.optional("revision", set.revision);
    object.optional("lock", set.lock.then_some(true));
    object.optional("unlock", set.unlock.then_some(true));
    match set.ttl {
        None => {}
        Some(Ttl::Never) => {
            object.str("ttl", "never");
        }
        Some(Ttl::Sliding(seconds)) => {
            Object::start(object.key("ttl")).display("sliding", seconds).end();
        }
        Some(Ttl::Absolute(seconds)) => {
            Object::start(object.key("ttl")).display("absolute", seconds).end();
        }
    }
}

fn write_param(param: ParamValue<'_>, out: &mut String) {
    let mut object = Object::start(out);
    object.str("address", param.address);
    value(param.value, object.key("value"));
    object.display("revision", param.revision).optional_str("writer", param.writer);
    object.optional("timestamp", param.timestamp_us).end();
}

fn write_replay(replay: Replay<'_>, object: &mut Object<'_>) {
    object.typed("REPLAY").str("pattern", replay.pattern);
    object.optional("from", replay.from_us).optional("to", replay.to_us);
    object.optional("limit", replay.limit);
    write_types(replay.types, object);
}

fn write_ack(ack: Ack<'_>, object: &mut Object<'_>) {
    object
        .typed("ACK")
        .optional_str("address", ack.address)
        .optional("revision", ack.revision)
        .optional("locked", ack.locked)
        .optional_str("holder", ack.holder)
        .optional("correlation_id", ack.correlation_id);
}

fn write_error(error: ErrorReply<'_>, object: &mut Object<'_>) {
    object
        .typed("ERROR")
        .display("code", error.code)
        .str("message", error.message)
        .optional_str("address", error.address)
        .optional("correlation_id", error.correlation_id);
}

fn write_signal(signal: SignalInfo<'_>, out: &mut String) {
    let mut object = Object::start(out);
    object.str("address", signal.address).str("type", signal.signal.name());
    object.optional_str("datatype", signal.datatype).optional_str("access", signal.access);
    if let Some(SignalMeta { unit, range, default, description }) = signal.meta {
        let mut meta = Object::start(object.key("meta"));
        meta.optional_str("unit", unit);
        if let Some((least, most)) = range {
            meta.list("range", [least, most], float);
        }
        if let Some(default) = default {
            value(default, meta.key("default"));
        }
        meta.optional_str("description", description).end();
    }
    object.end();
}

/// One object that is being written; keys come in the order of the calls.
struct Object<'o> {
    out: &'o mut String,
    empty: bool,
}

impl<'o> Object<'o> {
    fn start(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Where to append exactly one value.
    fn key(&mut self, key: &str) -> &mut String {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(',');
        }
        string(key, self.out);
        self.out.push(':');
        self.out
    }

    fn typed(&mut self, kind: &str) -> &mut Self {
        self.str("type", kind)
    }

    fn str(&mut self, key: &str, text: &str) -> &mut Self {
        string(text, self.key(key));
        self
    }

    fn optional_str(&mut self, key: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.str(key, text),
            None => self,
        }
    }

    /// What looks in JSON as it does elsewhere: whole numbers and truth.
    fn display(&mut self, key: &str, plain: impl Display) -> &mut Self {
        display(plain, self.key(key));
        self
    }

    fn optional(&mut self, key: &str, plain: Option<impl Display>) -> &mut Self {
        match plain {
            Some(plain) => self.display(key, plain),
            None => self,
        }
    }

    fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(T, &mut String),
    ) {
        list(items, write, self.key(key));
    }

    fn end(&mut self) {
        self.out.push('}');
    }
}

fn list<T>(
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
    out: &mut String,
) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(']');
}

pub(super) fn value(carried: Value<'_>, out: &mut String) {
    if let Some(on) = carried.as_bool() {
        display(on, out);
    } else if let Some(whole) = carried.as_i64() {
        display(whole, out);
    } else if let Some(number) = carried.as_f64() {
        float(number, out);
    } else if let Some(text) = carried.as_str() {
        string(text, out);
    } else if let Some(bytes) = carried.as_bytes() {
        out.push('{');
        string(BYTES_KEY, out);
        out.push_str(":\"");
        bytes.iter().for_each(|byte| display(format_args!("{byte:02x}"), out));
        out.push_str("\"}");
    } else if let Some(items) = carried.array() {
        list(items, value, out);
    } else if let Some(entries) = carried.map() {
        let mut object = Object::start(out);
        for (key, carried) in entries {
            value(carried, object.key(key));
        }
        object.end();
    } else {
        out.push_str("null");
    }
}

/// The shortest digits that mean this float, with a point or an exponent so that it stays one.
fn float(number: f64, out: &mut String) {
    if number.is_finite() {
        display(format_args!("{number:?}"), out);
    } else {
        out.push_str("null");
    }
}

pub(super) fn string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control @ '\0'..' ' => display(format_args!("\\u{:04x}", control as u32), out),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn display(plain: impl Display, out: &mut String) {
    write!(out, "{plain}").expect("a string takes all that is written to it");
}

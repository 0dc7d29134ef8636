//! The session of one program that says `set`, `get`, `emit`, `subscribe`: a machine.
//!
//! | said | keys | answered with |
//! |---|---|---|
//! | `set` | `address`, `value`, `revision?`, `lock?`, `unlock?`, `ttl?` | `ack` with `revision` |
//! | `get` | `address` | `value` |
//! | `emit` | `address`, `value?`, `signal?`, `samples?`, `rate?`, `gesture?`, `phase?` | `ack` |
//! | `subscribe` | `pattern`, `types?`, `max_rate?`, `epsilon?`, `history?`, `window?` | `ack` |
//! | `unsubscribe` | `pattern` | `ack` |
//! | `snapshot` | `pattern?` (all) | `snapshot` with `params` |
//! | `bundle` | `messages`, `timestamp?` | `ack` |
//! | `ping` | | `pong` |
//!
//! Any of them may have an `id`, which its answer repeats; without one only errors are answered,
//! and what asks. What is subscribed to arrives as `value` (a param), `event` (all that is not
//! kept; `signal` names the kind) and `snapshot` (the params as they were, before the `ack`).
//! `gesture` is the number of a gesture. What is wrong is said as `error` with `code`, `message`.
//!
//! One thing is done at a time, in the order in which it was said: whoever drives this hands over
//! the next when [`Program::is_waiting`] says that it may.

use std::collections::HashMap;
use std::fmt::Write as _;

use clasp_rt_bridges::json::{self, JsonError};
use clasp_rt_core::error::code;
use clasp_rt_core::message::Message;
use serde_json::{Map, Value as Json, json};

use super::talk::{Answer, Ask, Heard, Param, Refused, Talk};
use super::{message, told};

/// What is to be done after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// A frame for the router.
    ToRouter(Vec<u8>),
    /// The answer to what was said with this id, as JSON text.
    Answer { id: Option<Json>, text: String },
    /// Something that was subscribed to: its kind and its JSON text.
    News { kind: &'static str, address: Option<String>, text: String },
    /// The router finds this program too busy: nothing more is to be taken from it for a second.
    Slow,
}

/// Keys of `subscribe` that stand among its `options` in CLASP's JSON form.
const OPTIONS: [&str; 4] = ["max_rate", "epsilon", "history", "window"];

/// What may be said.
pub const OPS: [&str; 8] =
    ["set", "get", "emit", "subscribe", "unsubscribe", "snapshot", "bundle", "ping"];

/// The session of one program.
#[derive(Debug, Default)]
pub struct Program {
    talk: Talk,
    asked: Asked,
    /// The numbers of subscriptions by their patterns.
    subscriptions: HashMap<String, u32>,
    last_number: u32,
}

#[derive(Debug, Default)]
struct Asked {
    id: Option<Json>,
    /// Says what the answer is about.
    about: Option<(&'static str, String)>,
    /// It is answered even without an id.
    always: bool,
    /// The pattern that is no subscription if the router refuses it.
    pattern: Option<String>,
}

impl Program {
    /// Whether what was said last is not done.
    pub fn is_waiting(&self) -> bool {
        self.talk.is_waiting()
    }

    /// Takes what the program says: `op` and its keys, `id` among them.
    pub fn said(&mut self, op: &str, mut map: Map<String, Json>, outs: &mut Vec<Out>) {
        let id = map.remove("id").filter(|id| !id.is_null());
        self.asked = Asked { id, ..Asked::default() };
        match self.ask_of(op, map) {
            Ok(Some(ask)) => {
                let mut frames = Vec::new();
                match self.talk.ask(&ask, &mut frames) {
                    Ok(()) => outs.extend(frames.into_iter().map(Out::ToRouter)),
                    Err(_) => self.refuse_asked(&JsonError::TooLong.to_string(), outs),
                }
            }
            Ok(None) => {
                self.asked.always = true;
                self.answer("pong", "", outs);
            }
            Err(error) => self.refuse_asked(&error.to_string(), outs),
        }
    }

    /// Refuses what could not even be read, but for its `id`.
    pub fn refuse(&mut self, id: Option<Json>, why: &str, outs: &mut Vec<Out>) {
        self.asked = Asked { id: id.filter(|id| !id.is_null()), ..Asked::default() };
        self.refuse_asked(why, outs);
    }

    fn refuse_asked(&mut self, why: &str, outs: &mut Vec<Out>) {
        let refused =
            Refused { code: code::INVALID_MESSAGE, message: why.to_owned(), address: None };
        self.answer_error(&refused, outs);
    }

    /// `None`: a ping, which needs nobody else.
    fn ask_of(&mut self, op: &str, mut map: Map<String, Json>) -> Result<Option<Ask>, JsonError> {
        let about = |asked: &mut Asked, key: &'static str, map: &Map<String, Json>| {
            asked.about = map.get(key).and_then(Json::as_str).map(|text| (key, text.to_owned()));
        };
        about(&mut self.asked, "address", &map);
        Ok(Some(match op {
            "set" => Ask::Set(message::set(map)?),
            "get" => {
                self.asked.always = true;
                let address = required(op, &mut map, "address")?;
                nothing_else(op, &map, &["address"])?;
                Ask::Get { address }
            }
            "emit" => {
                if let Some(number) = map.remove("gesture") {
                    map.insert("id".to_owned(), number);
                }
                Ask::Publish { frame: message::frame("PUBLISH", map)? }
            }
            "subscribe" => {
                about(&mut self.asked, "pattern", &map);
                let options: Map<_, _> = OPTIONS
                    .into_iter()
                    .filter_map(|key| Some((key.to_owned(), map.remove(key)?)))
                    .collect();
                if !options.is_empty() {
                    map.insert("options".to_owned(), Json::Object(options));
                }
                let pattern = map.get("pattern").and_then(Json::as_str).unwrap_or_default();
                let known = self.subscriptions.get(pattern).copied();
                let id = known.unwrap_or(self.last_number + 1);
                let ask = message::subscribe(map, |wish| Ask::Subscribe {
                    id,
                    pattern: wish.pattern.to_owned(),
                    types: wish.types,
                    options: wish.options,
                })?;
                if let (Ask::Subscribe { pattern, .. }, None) = (&ask, known) {
                    self.last_number = id;
                    self.subscriptions.insert(pattern.clone(), id);
                    self.asked.pattern = Some(pattern.clone());
                }
                ask
            }
            "unsubscribe" => {
                about(&mut self.asked, "pattern", &map);
                let pattern = required(op, &mut map, "pattern")?;
                nothing_else(op, &map, &["pattern"])?;
                let id = self.subscriptions.remove(&pattern).ok_or_else(|| JsonError::Wrong {
                    at: format!("pattern: {pattern}"),
                    need: "one that was subscribed to, as it was written",
                })?;
                Ask::Unsubscribe { id }
            }
            "snapshot" => {
                self.asked.always = true;
                map.entry("pattern").or_insert_with(|| json!("/**"));
                about(&mut self.asked, "pattern", &map);
                let pattern = required(op, &mut map, "pattern")?;
                nothing_else(op, &map, &["pattern"])?;
                Ask::Snapshot { pattern }
            }
            "bundle" => {
                let messages = map.get("messages").and_then(Json::as_array);
                messages.into_iter().flatten().try_for_each(message::check_in_bundle)?;
                Ask::Bundle { frame: message::frame("BUNDLE", map)? }
            }
            "ping" => return Ok(None),
            other => {
                return Err(JsonError::Wrong {
                    at: format!("op: {other}"),
                    need: "set, get, emit, subscribe, unsubscribe, snapshot, bundle or ping",
                });
            }
        }))
    }

    /// Takes what the router says.
    pub fn heard(&mut self, message: &Message<'_>, outs: &mut Vec<Out>) {
        let mut frames = Vec::new();
        let heard = self.talk.hear(message, &mut frames);
        outs.extend(frames.into_iter().map(Out::ToRouter));
        match heard {
            Heard::News => Self::tell(message, outs),
            Heard::Part => {}
            Heard::Answer(Ok(answer)) => self.answered(answer, outs),
            Heard::Answer(Err(refused)) => {
                if let Some(pattern) = self.asked.pattern.take() {
                    self.subscriptions.remove(&pattern);
                }
                self.answer_error(&refused, outs);
                if refused.code == code::RATE_LIMIT {
                    outs.push(Out::Slow);
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer, outs: &mut Vec<Out>) {
        let mut keys = String::new();
        match answer {
            Answer::Param(param) => {
                param.push_keys(&mut keys);
                self.asked.about = None;
                self.answer("value", &keys, outs);
            }
            Answer::Missing => {
                let message = "no param has this address".to_owned();
                let address = self.asked.about.take().map(|(_, address)| address);
                self.answer_error(&Refused { code: code::NOT_FOUND, message, address }, outs);
            }
            Answer::Written { revision } => {
                let _ = write!(keys, "\"revision\":{revision}");
                self.answer("ack", &keys, outs);
            }
            Answer::Applied { revision: Some(revision) } => {
                let _ = write!(keys, "\"revision\":{revision}");
                self.answer("ack", &keys, outs);
            }
            Answer::Done | Answer::Applied { revision: None } => self.answer("ack", "", outs),
            Answer::Params(params) => {
                push_params(params.iter(), &mut keys);
                self.answer("snapshot", &keys, outs);
            }
        }
    }

    /// What was subscribed to, and errors of what nobody waits for.
    fn tell(message: &Message<'_>, outs: &mut Vec<Out>) {
        let told = match message {
            Message::Set(set) => Some(("value", set.address, told::set(set.address, set))),
            Message::Publish(publish) => {
                Some(("event", publish.address, told::publish(publish.address, publish)))
            }
            _ => None,
        };
        if let Some((kind, address, object)) = told {
            let text = format!("{{\"type\":\"{kind}\",{}", object.get(1..).unwrap_or("}"));
            outs.push(Out::News { kind, address: Some(address.to_owned()), text });
        }
        match message {
            Message::Snapshot { params } if !params.is_empty() => {
                let mut text = String::from("{\"type\":\"snapshot\",");
                let params: Vec<_> = params.iter().map(|param| Param::of(&param)).collect();
                push_params(params.iter(), &mut text);
                text.push('}');
                outs.push(Out::News { kind: "snapshot", address: None, text });
            }
            Message::Error(error) => {
                let text = error_text(None, &Refused::of(error));
                outs.push(Out::News { kind: "error", address: None, text });
            }
            _ => {}
        }
    }

    fn answer(&mut self, kind: &str, keys: &str, outs: &mut Vec<Out>) {
        let Asked { id, about, always, .. } = std::mem::take(&mut self.asked);
        if id.is_none() && !always {
            return;
        }
        let mut text = format!("{{\"type\":\"{kind}\"");
        if let Some(id) = &id {
            let _ = write!(text, ",\"id\":{id}");
        }
        if let Some((key, about)) = about {
            let _ = write!(text, ",\"{key}\":");
            json::push_string(&about, &mut text);
        }
        if !keys.is_empty() {
            text.push(',');
            text.push_str(keys);
        }
        text.push('}');
        outs.push(Out::Answer { id, text });
    }

    fn answer_error(&mut self, refused: &Refused, outs: &mut Vec<Out>) {
        let Asked { id, .. } = std::mem::take(&mut self.asked);
        let text = error_text(id.as_ref(), refused);
        outs.push(Out::Answer { id, text });
    }
}

/// `{"type":"error","id"?,"code","message","address"?}`
pub fn error_text(id: Option<&Json>, refused: &Refused) -> String {
    let mut text = String::from("{\"type\":\"error\"");
    if let Some(id) = id {
        let _ = write!(text, ",\"id\":{id}");
    }
    let _ = write!(text, ",\"code\":{},\"message\":", refused.code);
    json::push_string(&refused.message, &mut text);
    if let Some(address) = &refused.address {
        text.push_str(",\"address\":");
        json::push_string(address, &mut text);
    }
    text.push('}');
    text
}

fn push_params<'p>(params: impl Iterator<Item = &'p Param>, out: &mut String) {
    out.push_str("\"params\":[");
    for (index, param) in params.enumerate() {
        if index > 0 {
            out.push(',');
        }
        param.push_json(out);
    }
    out.push(']');
}

fn required(op: &str, map: &mut Map<String, Json>, key: &'static str) -> Result<String, JsonError> {
    match map.remove(key) {
        Some(Json::String(text)) => Ok(text),
        Some(_) => Err(JsonError::Wrong { at: key.to_owned(), need: "text" }),
        None => Err(JsonError::Missing { kind: op_name(op), key }),
    }
}

fn nothing_else(
    op: &str,
    map: &Map<String, Json>,
    keys: &'static [&'static str],
) -> Result<(), JsonError> {
    match map.keys().next() {
        Some(key) => Err(JsonError::Unknown { kind: op_name(op), key: key.clone(), keys }),
        None => Ok(()),
    }
}

fn op_name(op: &str) -> &'static str {
    OPS.into_iter().find(|known| *known == op).unwrap_or("this")
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Ack, ErrorReply, Set, Sync};
    use clasp_rt_core::value::Value;
    use clasp_rt_core::wire::{binary, header};

    use super::*;

    fn said(program: &mut Program, text: &str) -> Vec<Out> {
        let Json::Object(mut map) = serde_json::from_str(text).expect("JSON") else { panic!() };
        let op = map.remove("op").expect("an op");
        let mut outs = Vec::new();
        program.said(op.as_str().expect("text"), map, &mut outs);
        outs
    }

    fn heard(program: &mut Program, message: &Message<'_>) -> Vec<String> {
        let mut outs = Vec::new();
        program.heard(message, &mut outs);
        let texts = outs.into_iter().filter_map(|out| match out {
            Out::Answer { text, .. } | Out::News { text, .. } => Some(text),
            Out::Slow => Some("slow".to_owned()),
            Out::ToRouter(_) => None,
        });
        texts.collect()
    }

    /// What the router is told, by name.
    fn frames(outs: &[Out]) -> Vec<String> {
        let names = outs.iter().map(|out| match out {
            Out::ToRouter(frame) => {
                let frame = header::parse(frame).expect("a frame");
                let message = binary::decode(frame.payload).expect("a message");
                format!("{message:?}").split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
            Out::Answer { text, .. } => text.clone(),
            other => format!("{other:?}"),
        });
        names.collect()
    }

    fn ack(address: Option<&str>, revision: Option<u64>) -> Message<'_> {
        Message::Ack(Ack { address, revision, ..Ack::default() })
    }

    #[test]
    fn what_has_an_id_is_answered_and_what_has_none_is_not() {
        let mut program = Program::default();
        let outs = said(&mut program, r#"{"op":"set","address":"/a","value":1,"id":7}"#);
        assert_eq!(frames(&outs), ["Set"]);
        assert!(program.is_waiting());
        assert_eq!(
            heard(&mut program, &ack(Some("/a"), Some(3))),
            [r#"{"type":"ack","id":7,"address":"/a","revision":3}"#]
        );
        assert!(!program.is_waiting());
        said(&mut program, r#"{"op":"set","address":"/a","value":1}"#);
        assert_eq!(heard(&mut program, &ack(Some("/a"), Some(4))), [""; 0]);
        let outs = said(&mut program, r#"{"op":"emit","address":"/go","gesture":2,"id":"x"}"#);
        assert_eq!(frames(&outs), ["Publish", "Sync"]);
        let sync = Message::Sync(Sync { t1: 1, t2: None, t3: None });
        assert_eq!(heard(&mut program, &sync), [r#"{"type":"ack","id":"x","address":"/go"}"#]);
        assert_eq!(frames(&said(&mut program, r#"{"op":"ping"}"#)), [r#"{"type":"pong"}"#]);
    }

    #[test]
    fn errors_are_always_said_and_too_many_slow_the_program_down() {
        let mut program = Program::default();
        for (text, says) in [
            (r#"{"op":"shout"}"#, "unsubscribe"),
            (r#"{"op":"set","address":"/a"}"#, "value"),
            (r#"{"op":"set","address":"/a","value":1,"tll":1}"#, "ttl"),
            (r#"{"op":"set","address":"/a","value":18446744073709551615}"#, "2^63"),
            (r#"{"op":"get"}"#, "address"),
            (r#"{"op":"get","address":"/a","x":1}"#, "x"),
            (r#"{"op":"unsubscribe","pattern":"/a"}"#, "subscribed"),
            (r#"{"op":"bundle","messages":[{"type":"GET","address":"/a"}]}"#, "GESTURE"),
            (r#"{"op":"bundle","messages":[{"op":"subscribe","pattern":"/a"}]}"#, "GESTURE"),
        ] {
            let outs = frames(&said(&mut program, text));
            assert!(outs[0].contains("\"error\"") && outs[0].contains(says), "{text}: {outs:?}");
            assert!(!program.is_waiting());
        }
        said(&mut program, r#"{"op":"set","address":"/a","value":1}"#);
        let error = ErrorReply { code: 429, message: "much", address: None, correlation_id: None };
        let told = heard(&mut program, &Message::Error(error));
        assert_eq!(told, [r#"{"type":"error","code":429,"message":"much"}"#, "slow"]);
        said(&mut program, r#"{"op":"get","address":"/a"}"#);
        let missing = ErrorReply { code: 201, address: Some("/a"), ..error };
        let told = heard(&mut program, &Message::Error(missing));
        assert!(told[0].contains("\"code\":201") && told[0].contains("/a"), "{told:?}");
    }

    #[test]
    fn a_pattern_is_subscribed_once_and_forgotten_where_it_is_refused() {
        let mut program = Program::default();
        let wish = r#"{"op":"subscribe","pattern":"/a/**","types":["param"],"max_rate":10,"id":1}"#;
        assert_eq!(frames(&said(&mut program, wish)), ["Subscribe"]);
        let value = Value::NULL;
        let set = Set {
            address: "/a/x",
            value,
            revision: Some(2),
            lock: false,
            unlock: false,
            ttl: None,
        };
        assert_eq!(
            heard(&mut program, &Message::Set(set)),
            [r#"{"type":"value","address":"/a/x","value":null,"revision":2}"#]
        );
        assert_eq!(
            heard(&mut program, &ack(Some("/a/**"), None)),
            [r#"{"type":"ack","id":1,"pattern":"/a/**"}"#]
        );
        said(&mut program, wish);
        heard(&mut program, &ack(Some("/a/**"), None));
        assert_eq!((program.subscriptions.len(), program.last_number), (1, 1));
        said(&mut program, r#"{"op":"subscribe","pattern":"/b"}"#);
        let error =
            ErrorReply { code: 301, message: "no", address: Some("/b"), correlation_id: None };
        heard(&mut program, &Message::Error(error));
        assert_eq!(program.subscriptions.len(), 1);
        let outs = said(&mut program, r#"{"op":"unsubscribe","pattern":"/a/**"}"#);
        assert_eq!(frames(&outs)[1], "Sync");
        assert!(program.subscriptions.is_empty());
    }
}

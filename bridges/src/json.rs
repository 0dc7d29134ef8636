//! CLASP as JSON text, so that a person with any WebSocket tool can talk to a router.
//!
//! A text message holds one object. `type` names the message in any case; `op` may be written for
//! it. Keys are those of the legacy MessagePack encoding. A key with `?` may be left out or be
//! null; a key that is not in this table is refused, so that a slip of the pen is noticed.
//!
//! | `type` | keys |
//! |---|---|
//! | `HELLO` | `name`, `version?` (1), `features?` (all kinds of signals), `token?` |
//! | `WELCOME` | `version`, `features`, `time`, `session`, `name`, `token?` |
//! | `ANNOUNCE` | `namespace`, `signals` |
//! | `FEDERATION_SYNC` | `op`, `patterns?`, `revisions?`, `since_revision?`, `origin?` |
//! | `SUBSCRIBE` | `pattern`, `id?`, `types?` (all), `options?` |
//! | `UNSUBSCRIBE` | `id`, or `pattern` where none was given |
//! | `PUBLISH` | `address`, `signal?` (`event`), what STREAM has, what GESTURE has |
//! | `EMIT` | `address`, `value?` or `payload?`, `timestamp?`; an event |
//! | `STREAM` | `address`, `value?`, `samples?`, `rate?`, `timestamp?` |
//! | `GESTURE` | `address`, `value?` or `payload?`, `id?`, `phase?`, `timestamp?` |
//! | `SET` | `address`, `value`, `revision?`, `lock?`, `unlock?`, `ttl?` |
//! | `GET` | `address` |
//! | `SNAPSHOT` | `params` |
//! | `REPLAY` | `pattern`, `from?`, `to?`, `limit?`, `types?` |
//! | `BUNDLE` | `messages` (objects as in this table), `timestamp?` |
//! | `SYNC` | `t1`, `t2?`, `t3?` |
//! | `PING` `PONG` | |
//! | `ACK` | `address?`, `revision?`, `locked?`, `holder?`, `correlation_id?` |
//! | `ERROR` | `code`, `message`, `address?`, `correlation_id?` |
//! | `QUERY` | `pattern` |
//! | `RESULT` | `signals` |
//!
//! | inside | is |
//! |---|---|
//! | `options` | `{max_rate?, epsilon?, history?, window?}` |
//! | `params` | `[{address, value, revision, writer?, timestamp?}]` |
//! | `signals` | `[{address, type, datatype?, access?, meta?}]`, `meta` in ANNOUNCE only |
//! | `meta` | `{unit?, range?: [least, most], default?, description?}` |
//! | `ttl` | seconds since the last write, `"never"`, `{"sliding": s}` or `{"absolute": s}` |
//! | `op` | 1 to 4, or the name of the operation |
//! | `revisions` | `{address: revision}` |
//!
//! Times are microseconds since the Unix epoch. A subscription without `id` gets one that follows
//! from its pattern. Every message may have `qos?`: `fire`, `confirm` or `commit`; without it SET,
//! BUNDLE and ANNOUNCE are confirmed, so that the person sees the ACK.
//!
//! Values are what JSON has, and:
//!
//! - `1` is an integer and `1.0` a float; an integer that needs more than 63 bits becomes a float;
//! - bytes are `{"$bytes": "00ff"}`, two hexadecimal digits each;
//! - a float that is no number, or infinite, is written as null: JSON has no word for it.
//!
//! ```
//! use clasp_rt_bridges::json;
//!
//! let mut frame = Vec::new();
//! json::to_frame(r#"{"op": "set", "address": "/a", "value": 0.5}"#, &mut frame)?;
//!
//! let mut text = String::new();
//! json::from_frame(&frame, &mut text).map_err(|malformed| malformed.to_string())?;
//! assert_eq!(text, r#"{"type":"SET","address":"/a","value":0.5}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod read;
mod write;

use std::fmt;

use clasp_rt_core::error::Malformed;
use clasp_rt_core::message::Message;
use clasp_rt_core::signal::Qos;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{self, Scratch, binary, header};

/// Why a text is no message. Shown to the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// It is no JSON; says where and why.
    Syntax { why: String },
    /// It is JSON, but not what stands at this place: `at` needs `need`.
    Wrong { at: String, need: &'static str },
    /// A key that this message must have.
    Missing { kind: &'static str, key: &'static str },
    /// A key that this message does not have.
    Unknown { kind: &'static str, key: String, keys: &'static [&'static str] },
    /// More than one frame can hold.
    TooLong,
    /// Arrays, maps or bundles inside each other deeper than a router accepts.
    TooDeep,
}

/// Replaces `out` with the frame that `text` means.
pub fn to_frame(text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let json =
        serde_json::from_str(text).map_err(|error| JsonError::Syntax { why: error.to_string() })?;
    let mut payload = Vec::new();
    let qos = read::append_payload(&json, 0, &mut payload)?;
    let header = header::encode(qos, payload.len()).map_err(|_| JsonError::TooLong)?;
    out.clear();
    out.extend_from_slice(&header);
    out.extend_from_slice(&payload);
    Ok(())
}

/// Replaces `out` with what `frame` means.
pub fn from_frame(frame: &[u8], out: &mut String) -> Result<(), Malformed> {
    let frame = header::parse(frame)?;
    let mut scratch = Scratch::default();
    let message = wire::decode(frame.payload, &mut scratch)?;
    out.clear();
    write::message(&message, Some(frame.header.qos), out);
    Ok(())
}

/// Appends what `json` means as a value: its type code and data.
pub fn push_value(json: &serde_json::Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    read::append_value(json, out)
}

/// Appends `value` as JSON text.
pub fn push_text(value: Value<'_>, out: &mut String) {
    write::value(value, out);
}

/// Appends `text` as a JSON string.
pub fn push_string(text: &str, out: &mut String) {
    write::string(text, out);
}

/// The quality of service of a message that says none.
fn usual_qos(message: &Message<'_>) -> Qos {
    match message {
        Message::Set(_) | Message::Bundle(_) | Message::Announce(_) => Qos::Confirm,
        other => binary::default_qos(other),
    }
}

const QOS_NAMES: [(&str, Qos); 3] =
    [("fire", Qos::Fire), ("confirm", Qos::Confirm), ("commit", Qos::Commit)];

/// Operations of FEDERATION_SYNC by their code, from 1.
const FEDERATION_OPS: [&str; 4] =
    ["DeclareNamespaces", "RequestSync", "RevisionVector", "SyncComplete"];

/// The one key of the object that stands for bytes.
const BYTES_KEY: &str = "$bytes";

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { why } => write!(f, "no JSON: {why}"),
            Self::Wrong { at, need } => write!(f, "`{at}` must be {need}"),
            Self::Missing { kind, key } => write!(f, "{kind} needs `{key}`"),
            Self::Unknown { kind, key, keys: [] } => write!(f, "{kind} has no `{key}`"),
            Self::Unknown { kind, key, keys } => {
                write!(f, "{kind} has no `{key}`; it has {}", keys.join(", "))
            }
            Self::TooLong => f.write_str("longer than the 65535 bytes that a message can hold"),
            Self::TooDeep => f.write_str("arrays, maps or bundles are nested too deep"),
        }
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests;

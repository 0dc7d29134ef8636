//! Objects that a program says, with the keys of CLASP's JSON form, to what is asked.

use clasp_rt_bridges::json::{self, JsonError};
use clasp_rt_core::message::{Message, Subscribe};
use clasp_rt_core::value::push_value;
use clasp_rt_core::wire::{binary, header};
use serde_json::{Map, Value as Json};

use super::talk::SetAsk;
use super::value;

/// The frame of a `kind` of message with the keys of `map`.
pub fn frame(kind: &str, mut map: Map<String, Json>) -> Result<Vec<u8>, JsonError> {
    map.insert("type".to_owned(), Json::String(kind.to_owned()));
    frame_of(&Json::Object(map))
}

/// The frame of a message that names its kind itself.
pub fn frame_of(message: &Json) -> Result<Vec<u8>, JsonError> {
    value::check(message)?;
    let mut frame = Vec::new();
    json::to_frame(&message.to_string(), &mut frame)?;
    Ok(frame)
}

/// What a bundle may hold, each in the JSON form of CLASP. What else there is has an answer of its
/// own, which a bundle has no place for.
const IN_BUNDLES: [&str; 5] = ["SET", "PUBLISH", "EMIT", "STREAM", "GESTURE"];

/// Whether a bundle may hold `message`.
pub fn check_in_bundle(message: &Json) -> Result<(), JsonError> {
    let kind = ["type", "op"].iter().find_map(|key| message.get(key)?.as_str());
    let kind = kind.unwrap_or_default().to_ascii_uppercase();
    if IN_BUNDLES.contains(&kind.as_str()) {
        return Ok(());
    }
    let need = "in a bundle one of SET, PUBLISH, EMIT, STREAM and GESTURE";
    Err(JsonError::Wrong { at: format!("type: {kind}"), need })
}

/// A SET: `address`, `value`, and if wanted `revision`, `lock`, `unlock`, `ttl`.
pub fn set(map: Map<String, Json>) -> Result<SetAsk, JsonError> {
    let frame = frame("SET", map)?;
    decoded(&frame, |message| match message {
        Message::Set(set) => {
            let mut encoded = Vec::new();
            push_value(&mut encoded, set.value);
            Some(SetAsk {
                address: set.address.to_owned(),
                value: encoded,
                revision: set.revision,
                lock: set.lock,
                unlock: set.unlock,
                ttl: set.ttl,
            })
        }
        _ => None,
    })
}

/// A SUBSCRIBE: `pattern`, and if wanted `types` and `options`. Gives what `read` makes of it.
pub fn subscribe<T>(
    map: Map<String, Json>,
    read: impl FnOnce(&Subscribe<'_>) -> T,
) -> Result<T, JsonError> {
    let frame = frame("SUBSCRIBE", map)?;
    decoded(&frame, |message| match message {
        Message::Subscribe(subscribe) => Some(read(subscribe)),
        _ => None,
    })
}

fn decoded<T>(frame: &[u8], read: impl FnOnce(&Message<'_>) -> Option<T>) -> Result<T, JsonError> {
    let message = header::parse(frame).and_then(|frame| binary::decode(frame.payload));
    message.ok().and_then(|message| read(&message)).ok_or(JsonError::TooLong)
}

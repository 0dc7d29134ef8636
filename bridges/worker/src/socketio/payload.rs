//! What Socket.IO carries, JSON with pieces of bytes beside it, to JSON with `$bytes`, and back.
//!
//! Source: Socket.IO protocol 5, "Binary": in the text stands `{"_placeholder": true, "num": 0}`
//! where the first piece belongs.

use std::collections::VecDeque;

use serde::ser::{Error as _, SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use socketioxide::handler::Value;

use crate::web::value;

/// The only key of an object that stands for bytes.
const BYTES_KEY: &str = "$bytes";

/// Reads `["event", ..arguments]`. The error says what is wrong.
pub fn read(value: &Value) -> Result<(String, Vec<Json>), String> {
    let Value::Str(text, pieces) = value else { return Err("no event".to_owned()) };
    let json = serde_json::from_str(text.as_str()).map_err(|why| format!("no JSON: {why}"))?;
    let Json::Array(mut arguments) = json else { return Err("an event is a list".to_owned()) };
    if arguments.is_empty() {
        return Err("an event has a name".to_owned());
    }
    let Json::String(name) = arguments.remove(0) else {
        return Err("the name of an event is text".to_owned());
    };
    if let Some(pieces) = pieces {
        let pieces: VecDeque<_> = pieces.iter().map(|piece| value::of_bytes(piece)).collect();
        arguments.iter_mut().try_for_each(|argument| fill_in(argument, &pieces))?;
    }
    Ok((name, arguments))
}

/// Puts the pieces where their places are held.
fn fill_in(json: &mut Json, pieces: &VecDeque<Json>) -> Result<(), String> {
    match json {
        Json::Array(items) => items.iter_mut().try_for_each(|item| fill_in(item, pieces)),
        Json::Object(map) if map.get("_placeholder") == Some(&Json::Bool(true)) => {
            let number = map.get("num").and_then(Json::as_u64);
            let piece = number.and_then(|number| pieces.get(usize::try_from(number).ok()?));
            *json = piece.ok_or("a piece of bytes is missing")?.clone();
            Ok(())
        }
        Json::Object(map) => map.values_mut().try_for_each(|item| fill_in(item, pieces)),
        _ => Ok(()),
    }
}

/// One argument of an event; `$bytes` leaves as bytes.
pub struct Argument<'j>(pub &'j Json);

/// Several arguments of an event.
pub struct Arguments<'j>(pub &'j [Json]);

impl Serialize for Argument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(&Argument(item)))?;
                seq.end()
            }
            Json::Object(map) => match bytes_in(map) {
                Some(bytes) => {
                    let bytes = bytes.ok_or_else(|| S::Error::custom("no hexadecimal digits"))?;
                    serializer.serialize_bytes(&bytes)
                }
                None => {
                    let mut object = serializer.serialize_map(Some(map.len()))?;
                    map.iter()
                        .try_for_each(|(key, item)| object.serialize_entry(key, &Argument(item)))?;
                    object.end()
                }
            },
            plain => plain.serialize(serializer),
        }
    }
}

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|argument| all.serialize_element(&Argument(argument)))?;
        all.end()
    }
}

/// The bytes that an object stands for, if it does; `Some(None)` where they are no digits.
fn bytes_in(map: &Map<String, Json>) -> Option<Option<Vec<u8>>> {
    let digits = map.get(BYTES_KEY).filter(|_| map.len() == 1)?.as_str()?;
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return Some(None);
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    Some(
        pairs
            .iter()
            .map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str, pieces: Option<Vec<&'static [u8]>>) -> Value {
        let pieces = pieces.map(|pieces| pieces.into_iter().map(Into::into).collect());
        Value::Str(text.to_owned().into(), pieces)
    }

    #[test]
    fn an_event_is_read_with_its_bytes_in_place() {
        assert_eq!(read(&text(r#"["go"]"#, None)), Ok(("go".into(), vec![])));
        let held = r#"["b",{"x":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]"#;
        let got = read(&text(held, Some(vec![&[1, 2], &[255]])));
        let want = vec![json!({ "x": [{ "$bytes": "ff" }] }), json!({ "$bytes": "0102" })];
        assert_eq!(got, Ok(("b".into(), want)));
        for wrong in ["", "{}", "[]", "[1]"] {
            assert!(read(&text(wrong, None)).is_err(), "{wrong}");
        }
        assert!(read(&text(held, Some(vec![&[1]]))).is_err(), "a piece is missing");
    }

    #[test]
    fn what_leaves_as_bytes_is_what_stands_for_bytes() {
        let bytes = |json: Json| bytes_in(json.as_object().expect("an object"));
        assert_eq!(bytes(json!({ "$bytes": "00fF" })), Some(Some(vec![0, 255])));
        assert_eq!(bytes(json!({ "$bytes": "0" })), Some(None));
        assert_eq!(bytes(json!({ "$bytes": "zz" })), Some(None));
        assert_eq!(bytes(json!({ "$bytes": "00", "x": 1 })), None);
        assert_eq!(bytes(json!({ "$bytes": 1 })), None);
        let plain = json!([1, { "a": [null, true, "x"] }]);
        assert_eq!(serde_json::to_value(Argument(&plain)).expect("JSON"), plain);
    }
}

//! What Socket.IO carries, JSON with pieces of bytes beside it, to JSON with `$bytes`, and back.
//!
//! Source: Socket.IO protocol 5, "Binary": in the text stands `{"_placeholder": true, "num": 0}`
//! where the first piece belongs.

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
    match pieces {
        Some(pieces) => event_of(json, &mut Pieces::new(pieces.iter().map(|piece| &piece[..]))),
        None => event_of(json, &mut Pieces::default()),
    }
}

/// The name and the arguments of an event. The error says what is wrong.
pub fn event_of(list: Json, pieces: &mut Pieces) -> Result<(String, Vec<Json>), String> {
    let mut arguments = arguments_of(list, pieces)?;
    if arguments.is_empty() {
        return Err("an event has a name".to_owned());
    }
    match arguments.remove(0) {
        Json::String(name) => Ok((name, arguments)),
        _ => Err("the name of an event is text".to_owned()),
    }
}

/// What is in a list, with its bytes in place.
pub fn arguments_of(list: Json, pieces: &mut Pieces) -> Result<Vec<Json>, String> {
    let Json::Array(mut arguments) = list else { return Err("an event is a list".to_owned()) };
    if !pieces.0.is_empty() {
        arguments.iter_mut().try_for_each(|argument| pieces.fill_in(argument))?;
    }
    Ok(arguments)
}

/// The pieces of bytes that belong to a text.
#[derive(Debug, Default)]
pub struct Pieces(Vec<Option<Json>>);

impl Pieces {
    pub fn new<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Self {
        Self(pieces.map(|piece| Some(value::of_bytes(piece))).collect())
    }

    /// Puts the pieces where their places are held: each once, so that a short text cannot ask for
    /// a thousand copies of a long piece.
    fn fill_in(&mut self, json: &mut Json) -> Result<(), String> {
        match json {
            Json::Array(items) => items.iter_mut().try_for_each(|item| self.fill_in(item)),
            Json::Object(map) if is_placeholder(map) => {
                let number = map.get("num").and_then(Json::as_u64);
                let place = number.and_then(|number| self.0.get_mut(usize::try_from(number).ok()?));
                let piece = place.and_then(Option::take);
                *json = piece.ok_or("a piece of bytes is missing, or wanted twice")?;
                Ok(())
            }
            Json::Object(map) => map.values_mut().try_for_each(|item| self.fill_in(item)),
            _ => Ok(()),
        }
    }
}

/// Whether an object holds the place of bytes.
pub fn is_placeholder(map: &Map<String, Json>) -> bool {
    map.get("_placeholder") == Some(&Json::Bool(true))
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
pub fn bytes_in(map: &Map<String, Json>) -> Option<Option<Vec<u8>>> {
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
    fn a_piece_of_bytes_stands_in_one_place_so_that_a_short_text_cannot_multiply_it() {
        let places = r#"["b",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        assert!(read(&text(places, Some(vec![&[1, 2]]))).is_err());
        // Without bytes beside it, it is an object as any other.
        assert_eq!(read(&text(places, None)).map(|(_, arguments)| arguments.len()), Ok(2));
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

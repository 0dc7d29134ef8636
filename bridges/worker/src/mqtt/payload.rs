//! Payloads and values: what the bytes of a message mean, and how a value is written as bytes.

use clasp_rt_bridges::json::{self, JsonError};
use clasp_rt_core::value::{Value, code, push_bytes, push_f64, push_i64, push_str};
use serde::Deserialize;

/// What a payload is taken for, and how a value is written.
///
/// JSON is what the router's own JSON form is: `1` is an integer and `1.0` a float, an integer
/// beyond 63 bits becomes a float and loses digits, bytes inside are `{"$bytes": "00ff"}`, and a
/// float that is no number is written as null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// In: JSON where it is JSON, else text, else bytes. Out: text and bytes as they are, all else
    /// as JSON; a text that would be read as JSON (`12`, `true`) is quoted.
    #[default]
    Auto,
    /// JSON both ways; what is none is malformed.
    Json,
    /// A decimal number both ways; what is none is malformed. Out: bools are 0 and 1.
    Number,
    /// Text both ways, whatever it looks like.
    Text,
    /// Bytes both ways, untouched. Out: text as UTF-8, all else as JSON.
    Raw,
}

/// The payload has not the form that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOfForm;

/// MIME types that say more than a guess (MQTT 5 §3.3.2.3.9).
impl Form {
    /// The form of a payload that came with this content type, where the rule leaves it open.
    pub fn of_content(self, content_type: Option<&str>) -> Self {
        if self != Self::Auto {
            return self;
        }
        let essence = content_type.and_then(|text| text.split(';').next()).map(str::trim);
        match essence {
            Some("application/json") => Self::Json,
            Some("text/plain") => Self::Text,
            Some("application/octet-stream") => Self::Raw,
            _ => Self::Auto,
        }
    }
}

/// Why a payload is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    NotOfForm,
    /// It needs more than the 65535 bytes that a value may have.
    TooLong,
}

/// Appends the value that `payload` means. An empty one is null, which deletes.
pub fn read(form: Form, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Unread> {
    let too_long = |_| Unread::TooLong;
    if payload.is_empty() && form != Form::Raw {
        clasp_rt_core::value::push_null(out);
        return Ok(());
    }
    let text = std::str::from_utf8(payload);
    match form {
        Form::Raw => push_bytes(out, payload).map_err(too_long),
        Form::Text => push_str(out, text.map_err(|_| Unread::NotOfForm)?).map_err(too_long),
        Form::Json => read_json(text.map_err(|_| Unread::NotOfForm)?, out),
        Form::Number => {
            let text = text.map_err(|_| Unread::NotOfForm)?.trim();
            match (text.parse(), text.parse::<f64>()) {
                (Ok(integer), _) => push_i64(out, integer),
                (_, Ok(number)) if number.is_finite() => push_f64(out, number),
                _ => return Err(Unread::NotOfForm),
            }
            Ok(())
        }
        Form::Auto => match text {
            Ok(text) => read_json(text, out).or_else(|_| push_str(out, text).map_err(too_long)),
            Err(_) => push_bytes(out, payload).map_err(too_long),
        },
    }
}

fn read_json(text: &str, out: &mut Vec<u8>) -> Result<(), Unread> {
    let before = out.len();
    let parsed: serde_json::Value = serde_json::from_str(text).map_err(|_| Unread::NotOfForm)?;
    json::push_value(&parsed, out).map_err(|why| {
        out.truncate(before);
        if why == JsonError::TooLong { Unread::TooLong } else { Unread::NotOfForm }
    })
}

/// What a payload holds, for the content type of MQTT 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Json,
    Text,
    Bytes,
}

impl Content {
    pub fn mime(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::Bytes => "application/octet-stream",
        }
    }
}

/// Appends `value` as a payload. Null is the empty one, which deletes what is retained.
pub fn write(form: Form, value: Value<'_>, out: &mut Vec<u8>) -> Result<Content, NotOfForm> {
    if value.is_null() {
        return Ok(Content::Text);
    }
    let json = |out: &mut Vec<u8>| {
        let mut text = String::new();
        json::push_text(value, &mut text);
        out.extend_from_slice(text.as_bytes());
        Content::Json
    };
    match (form, value.as_str(), value.as_bytes()) {
        (Form::Json, ..) => Ok(json(out)),
        (Form::Number, ..) => {
            let number = match value.code() {
                code::BOOL => value.as_bool().map(|flag| u8::from(flag).to_string()),
                code::F32 | code::F64 => {
                    value.as_f64().filter(|number| number.is_finite()).map(|n| n.to_string())
                }
                _ => value.as_i64().map(|number| number.to_string()),
            };
            out.extend_from_slice(number.ok_or(NotOfForm)?.as_bytes());
            Ok(Content::Text)
        }
        (_, _, Some(bytes)) => {
            out.extend_from_slice(bytes);
            Ok(Content::Bytes)
        }
        (Form::Auto, Some(text), _) if looks_like_json(text) => Ok(json(out)),
        (_, Some(text), _) => {
            out.extend_from_slice(text.as_bytes());
            Ok(Content::Text)
        }
        _ => Ok(json(out)),
    }
}

/// Whether a text, as it is, would come back as something else. An empty one would delete.
fn looks_like_json(text: &str) -> bool {
    text.is_empty() || serde_json::from_str::<serde_json::Value>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload as the value that it means, in JSON.
    fn meaning(form: Form, payload: &[u8]) -> Option<String> {
        let mut bytes = Vec::new();
        read(form, payload, &mut bytes).ok()?;
        let mut text = String::new();
        json::push_text(Value::from_encoded(&bytes).expect("a value"), &mut text);
        Some(text)
    }

    #[test]
    fn payloads_mean_what_their_form_says() {
        let cases: [(Form, &[u8], Option<&str>); 20] = [
            (Form::Auto, b"0.75", Some("0.75")),
            (Form::Auto, b"12", Some("12")),
            (Form::Auto, b"1.0", Some("1.0")),
            (Form::Auto, br#"{"go":12}"#, Some(r#"{"go":12}"#)),
            (Form::Auto, b"true", Some("true")),
            (Form::Auto, b"online", Some(r#""online""#)),
            (Form::Auto, b"+1", Some(r#""+1""#)),
            (Form::Auto, b"nan", Some(r#""nan""#)),
            (Form::Auto, b"\xff\x00", Some(r#"{"$bytes":"ff00"}"#)),
            (Form::Auto, b"", Some("null")),
            (Form::Json, b"online", None),
            (Form::Json, b"[1]", Some("[1]")),
            (Form::Number, b" 21.5\n", Some("21.5")),
            (Form::Number, b"7", Some("7")),
            (Form::Number, b"warm", None),
            (Form::Number, b"inf", None),
            (Form::Text, b"12", Some(r#""12""#)),
            (Form::Text, b"\xff", None),
            (Form::Raw, b"12", Some(r#"{"$bytes":"3132"}"#)),
            (Form::Raw, b"", Some(r#"{"$bytes":""}"#)),
        ];
        for (form, payload, expected) in cases {
            assert_eq!(meaning(form, payload).as_deref(), expected, "{form:?} {payload:?}");
        }
    }

    #[test]
    fn values_are_written_so_that_they_come_back() {
        for text in ["0.5", "12", "true", r#""online""#, r#""12""#, r#"{"a":[1,null]}"#, r#""""#] {
            let mut bytes = Vec::new();
            let parsed: serde_json::Value = serde_json::from_str(text).expect("JSON");
            json::push_value(&parsed, &mut bytes).expect("a value");
            let value = Value::from_encoded(&bytes).expect("a value");
            let mut payload = Vec::new();
            write(Form::Auto, value, &mut payload).expect("a form");
            assert_eq!(meaning(Form::Auto, &payload).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_a_form_cannot_say_is_refused() {
        let mut bytes = Vec::new();
        push_str(&mut bytes, "warm").expect("short");
        let value = Value::from_encoded(&bytes).expect("a value");
        assert_eq!(write(Form::Number, value, &mut Vec::new()), Err(NotOfForm));
        let mut nan = Vec::new();
        push_f64(&mut nan, f64::NAN);
        let nan = Value::from_encoded(&nan).expect("a value");
        assert_eq!(write(Form::Number, nan, &mut Vec::new()), Err(NotOfForm));
        let mut out = Vec::new();
        assert_eq!(write(Form::Auto, Value::NULL, &mut out), Ok(Content::Text));
        assert_eq!(out, b"", "null deletes");
    }

    #[test]
    fn a_content_type_decides_where_the_rule_does_not() {
        let cases = [
            (Form::Auto, Some("application/json; charset=utf-8"), Form::Json),
            (Form::Auto, Some("text/plain"), Form::Text),
            (Form::Auto, Some("image/png"), Form::Auto),
            (Form::Auto, None, Form::Auto),
            (Form::Raw, Some("application/json"), Form::Raw),
        ];
        for (form, content, expected) in cases {
            assert_eq!(form.of_content(content), expected, "{content:?}");
        }
    }
}

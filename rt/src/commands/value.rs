//! Values as people type and read them: JSON, and what is no JSON is text.

use clasp_rt_client::Val;
use serde_json::{Map, Number, Value, json};

use crate::plain;

/// `0.5`, `true`, `[1, 2]`, `{"a": 1}`, `"0.5"` as text; anything else is text without quotes.
pub fn parse(text: &str) -> Val {
    serde_json::from_str(text).map_or_else(|_| Val::Str(text.to_owned()), from_json)
}

fn from_json(value: Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(on) => Val::Bool(on),
        Value::Number(number) => from_number(&number),
        Value::String(text) => Val::Str(text),
        Value::Array(items) => Val::Array(items.into_iter().map(from_json).collect()),
        Value::Object(entries) => {
            Val::Map(entries.into_iter().map(|(key, value)| (key, from_json(value))).collect())
        }
    }
}

/// A whole number too large for 64 bits with a sign becomes the nearest float, as in JavaScript.
fn from_number(number: &Number) -> Val {
    match number.as_i64() {
        Some(whole) => Val::Int(whole),
        None => Val::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// One line of text that commands no terminal. What JSON cannot say is said as text: `NaN`, `inf`.
pub fn show(value: &Val) -> String {
    match value {
        Val::Str(text) => plain::line(text),
        Val::Float(number) if !number.is_finite() => number.to_string(),
        other => plain::json(&to_json(other)),
    }
}

/// Bytes become a list of numbers, and numbers that JSON does not have become null.
pub fn to_json(value: &Val) -> Value {
    match value {
        Val::Null => Value::Null,
        Val::Bool(on) => Value::Bool(*on),
        Val::Int(whole) => json!(whole),
        Val::Float(number) => json!(number),
        Val::Str(text) => json!(text),
        Val::Bytes(bytes) => json!(bytes),
        Val::Array(items) => Value::Array(items.iter().map(to_json).collect()),
        Val::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), to_json(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_json_or_else_text() {
        let cases = [
            ("0.5", Val::Float(0.5)),
            ("1", Val::Int(1)),
            ("-1", Val::Int(-1)),
            ("true", Val::Bool(true)),
            ("null", Val::Null),
            ("go", Val::Str("go".to_owned())),
            ("\"1\"", Val::Str("1".to_owned())),
            (".5", Val::Str(".5".to_owned())),
            ("", Val::Str(String::new())),
            ("18446744073709551615", Val::Float(18446744073709551615.0)),
            ("[1, [2.5]]", Val::Array(vec![Val::Int(1), Val::Array(vec![Val::Float(2.5)])])),
            ("{\"a\": null}", Val::Map(vec![("a".to_owned(), Val::Null)])),
        ];
        for (text, value) in cases {
            assert_eq!(parse(text), value, "{text}");
        }
    }

    #[test]
    fn values_are_shown_on_one_line() {
        let cases = [
            (Val::Str("two words".to_owned()), "two words"),
            (Val::Str("two\nlines \x1b[2J".to_owned()), "two\\nlines \\u{1b}[2J"),
            (Val::Array(vec![Val::Str("\u{9b}2J".to_owned())]), "[\"\\u009b2J\"]"),
            (Val::Float(f64::INFINITY), "inf"),
            (Val::Float(1.0), "1.0"),
            (Val::Int(1), "1"),
            (Val::Bytes(vec![1, 2]), "[1,2]"),
            (Val::Map(vec![("a".to_owned(), Val::Float(f64::NAN))]), "{\"a\":null}"),
        ];
        for (value, shown) in cases {
            assert_eq!(show(&value), shown);
        }
    }
}

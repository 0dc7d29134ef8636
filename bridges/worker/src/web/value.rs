//! JSON values of web programs to values of the router, and back.
//!
//! The form is that of [`clasp_rt_bridges::json`]: `1` is an integer, `1.0` a float, bytes are
//! `{"$bytes": "00ff"}`. Two things JSON and CLASP do not share:
//!
//! - a float that is no number, or infinite, leaves as null, because JSON has no word for it;
//! - a whole number that needs more than 63 bits is refused: it would come back as another one.

use clasp_rt_bridges::json::{self, JsonError};
use clasp_rt_core::value::Value;
use serde_json::Value as Json;

/// What a value may be where a number was too large.
const NEED: &str = "a whole number from -2^63 to 2^63 - 1, or a float such as 1e19";

/// The encoded value that `json` means: its type code and data.
pub fn encode(json: &Json) -> Result<Vec<u8>, JsonError> {
    check(json)?;
    let mut out = Vec::new();
    json::push_value(json, &mut out)?;
    Ok(out)
}

/// Whether every number of `json` is one that the router can hold.
pub fn check(json: &Json) -> Result<(), JsonError> {
    match json {
        Json::Number(number) if number.is_u64() && number.as_i64().is_none() => {
            Err(JsonError::Wrong { at: number.to_string(), need: NEED })
        }
        Json::Array(items) => items.iter().try_for_each(check),
        Json::Object(entries) => entries.values().try_for_each(check),
        _ => Ok(()),
    }
}

/// The same of the numbers as `text` writes them, which is JSON: what is whole and longer than 64
/// bits, [`check`] sees as a float.
pub fn check_text(text: &str) -> Result<(), JsonError> {
    const DIGITS_TOLD_MAX: usize = 40;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = rest.get(at..).unwrap_or_default();
        if let Some(string) = rest.strip_prefix('"') {
            rest = behind_string(string);
            continue;
        }
        let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
        let len = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(len);
        let is_whole = !number.contains(['.', 'e', 'E']);
        if is_whole && number.parse::<i64>().is_err() {
            let told = number.get(..DIGITS_TOLD_MAX).map(|begin| format!("{begin}.."));
            return Err(JsonError::Wrong { at: told.unwrap_or(number.to_owned()), need: NEED });
        }
        rest = behind;
    }
    Ok(())
}

/// What follows the quotation mark that ends the string which `text` is in.
fn behind_string(text: &str) -> &str {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.and_then(|end| text.get(end + 1..)).unwrap_or_default()
}

/// The value as JSON text.
pub fn text(value: Value<'_>) -> String {
    let mut out = String::new();
    json::push_text(value, &mut out);
    out
}

/// Plain text as programs send it that do not know of JSON: what JSON can read is that, all else is
/// a string, forms included that only look like numbers (`+1`, `.5`, `nan`).
pub fn of_text(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
}

/// Raw bytes as the JSON form of a byte string.
pub fn of_bytes(bytes: &[u8]) -> Json {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({ "$bytes": digits })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_their_kind_and_one_that_would_change_is_refused() {
        let kept = ["0", "-1", "1.0", "9223372036854775807", "-9223372036854775808", "1e300"];
        for written in kept {
            let json: Json = serde_json::from_str(written).expect("JSON");
            let bytes = encode(&json).expect("a number that fits");
            let value = Value::from_encoded(&bytes).expect("just written");
            let back: Json = serde_json::from_str(&text(value)).expect("JSON");
            assert_eq!(back, json, "{written}");
        }
        for nested in [json!(u64::MAX), json!([1, u64::MAX]), json!({ "a": [u64::MAX] })] {
            let error = encode(&nested).expect_err("too large").to_string();
            assert!(error.contains("2^63"), "{error}");
        }
    }

    #[test]
    fn a_whole_number_that_is_written_too_long_is_seen_wherever_it_stands() {
        for fine in [
            "9223372036854775807",
            "-9223372036854775808",
            "[1e19, 18446744073709551616.0, -0]",
            r#"{"18446744073709551616": "\\\"-9223372036854775809", "a": null}"#,
            r#""18446744073709551616""#,
            "true",
        ] {
            assert!(serde_json::from_str::<Json>(fine).is_ok(), "{fine}");
            assert_eq!(check_text(fine), Ok(()), "{fine}");
        }
        let long = "9".repeat(300);
        for wrong in [
            "9223372036854775808",
            "18446744073709551616",
            "-9223372036854775809",
            r#"{"a": ["\"", 1, 18446744073709551616]}"#,
            &long,
        ] {
            assert!(serde_json::from_str::<Json>(wrong).is_ok(), "{wrong}");
            let error = check_text(wrong).expect_err("too large").to_string();
            assert!(error.contains("2^63") && error.contains("1e19"), "{error}");
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn a_float_that_is_no_number_becomes_null() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bytes = Vec::new();
            clasp_rt_core::value::push_f64(&mut bytes, number);
            assert_eq!(text(Value::from_encoded(&bytes).expect("a float")), "null");
        }
    }

    #[test]
    fn text_that_is_no_json_stays_text() {
        for (written, meant) in [
            ("0.5", json!(0.5)),
            ("true", json!(true)),
            ("{\"a\": 1}", json!({ "a": 1 })),
            ("go", json!("go")),
            ("+1", json!("+1")),
            (".5", json!(".5")),
            ("nan", json!("nan")),
            ("", json!("")),
        ] {
            assert_eq!(of_text(written), meant, "{written}");
        }
        assert_eq!(of_bytes(&[0, 255]), json!({ "$bytes": "00ff" }));
    }
}

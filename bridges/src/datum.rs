//! A value while a bridge works on it: scalars unpacked, everything else still on the wire's bytes.

use std::borrow::Cow;

use clasp_rt_core::value::{Value, code};
use clasp_rt_core::value::{push_bool, push_f64, push_i64, push_null, push_str, push_value};
use clasp_rt_core::wire::TooLong;
use serde::Deserialize;

/// One value. The wire's widths are gone (`i8` to `i64` are all [`Datum::Int`]), because no
/// protocol on the other side of a bridge shares them.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// Bytes, an array or a map.
    Other(Value<'a>),
}

impl<'a> Datum<'a> {
    pub fn new(value: Value<'a>) -> Self {
        match value.code() {
            code::NULL => Self::Null,
            code::BOOL => value.as_bool().map_or(Self::Null, Self::Bool),
            code::I8..=code::I64 => value.as_i64().map_or(Self::Null, Self::Int),
            code::F32 | code::F64 => value.as_f64().map_or(Self::Null, Self::Float),
            code::STRING => value.as_str().map_or(Self::Null, |text| Self::Text(text.into())),
            _ => Self::Other(value),
        }
    }

    /// What arithmetic takes: ints and floats, not bools, as the router's conflict rules do.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Int(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            _ => None,
        }
    }

    /// The text under which a lookup table names it: `1` for 1 and 1.0, `true`, `null`, a string
    /// itself. Bytes, arrays and maps have none.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => Some("null".into()),
            Self::Bool(flag) => Some(if *flag { "true" } else { "false" }.into()),
            Self::Int(number) => Some(number.to_string().into()),
            Self::Float(number) => Some(number.to_string().into()),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Other(_) => None,
        }
    }

    /// Appends the code byte and the data. Refuses a text that no length field can describe.
    pub fn append(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Null => push_null(out),
            Self::Bool(flag) => push_bool(out, *flag),
            Self::Int(number) => push_i64(out, *number),
            Self::Float(number) => push_f64(out, *number),
            Self::Text(text) => return push_str(out, text),
            Self::Other(value) => push_value(out, *value),
        }
        Ok(())
    }
}

/// A scalar that the configuration gives.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
#[serde(expecting = "expected a number, a text in quotes, true or false")]
pub enum Constant {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Constant {
    pub fn datum(&self) -> Datum<'_> {
        match self {
            Self::Bool(flag) => Datum::Bool(*flag),
            Self::Int(number) => Datum::Int(*number),
            Self::Float(number) => Datum::Float(*number),
            Self::Text(text) => Datum::Text(Cow::Borrowed(text)),
        }
    }
}

//! A value that owns what it holds, for those who keep it longer than the frame it came in.

use clasp_rt_core::value::{self, ArrayWriter, MapWriter, Value};
use clasp_rt_core::wire::TooLong;

/// Any CLASP value. Integers are 64 bits, floats too: shorter ones are read as these.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Val {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Array(Vec<Val>),
    /// In the order of the sender.
    Map(Vec<(String, Val)>),
}

impl Val {
    /// Appends type code and data, as [`Value::from_encoded`] reads them.
    pub fn append(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Null => value::push_null(out),
            Self::Bool(on) => value::push_bool(out, *on),
            Self::Int(number) => value::push_i64(out, *number),
            Self::Float(number) => value::push_f64(out, *number),
            Self::Str(text) => value::push_str(out, text)?,
            Self::Bytes(bytes) => value::push_bytes(out, bytes)?,
            Self::Array(items) => {
                let mut array = ArrayWriter::start(out);
                items.iter().try_for_each(|item| item.append(array.item()?))?;
            }
            Self::Map(entries) => {
                let mut map = MapWriter::start(out);
                entries.iter().try_for_each(|(key, value)| value.append(map.entry(key)?))?;
            }
        }
        Ok(())
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(on) => Some(*on),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Integers and floats; an integer beyond 2^53 is rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of a map; of a repeated key the last.
    pub fn get(&self, key: &str) -> Option<&Val> {
        match self {
            Self::Map(entries) => {
                entries.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

impl From<Value<'_>> for Val {
    fn from(value: Value<'_>) -> Self {
        if let Some(on) = value.as_bool() {
            Self::Bool(on)
        } else if let Some(number) = value.as_i64() {
            Self::Int(number)
        } else if let Some(number) = value.as_f64() {
            Self::Float(number)
        } else if let Some(text) = value.as_str() {
            Self::Str(text.to_owned())
        } else if let Some(bytes) = value.as_bytes() {
            Self::Bytes(bytes.to_vec())
        } else if let Some(items) = value.array() {
            Self::Array(items.map(Self::from).collect())
        } else if let Some(entries) = value.map() {
            Self::Map(entries.map(|(key, value)| (key.to_owned(), value.into())).collect())
        } else {
            Self::Null
        }
    }
}

macro_rules! from {
    ($($from:ty => |$value:ident| $val:expr),* $(,)?) => {
        $(impl From<$from> for Val {
            fn from($value: $from) -> Self {
                $val
            }
        })*
    };
}

from! {
    () => |_nothing| Self::Null,
    bool => |on| Self::Bool(on),
    i8 => |number| Self::Int(number.into()),
    i16 => |number| Self::Int(number.into()),
    i32 => |number| Self::Int(number.into()),
    i64 => |number| Self::Int(number),
    u8 => |number| Self::Int(number.into()),
    u16 => |number| Self::Int(number.into()),
    u32 => |number| Self::Int(number.into()),
    f32 => |number| Self::Float(number.into()),
    f64 => |number| Self::Float(number),
    &str => |text| Self::Str(text.to_owned()),
    String => |text| Self::Str(text),
    &[u8] => |bytes| Self::Bytes(bytes.to_vec()),
    Vec<u8> => |bytes| Self::Bytes(bytes),
    Vec<Val> => |items| Self::Array(items),
    Vec<f64> => |numbers| Self::Array(numbers.into_iter().map(Self::Float).collect()),
    Vec<(String, Val)> => |entries| Self::Map(entries),
    &Val => |val| val.clone(),
}

impl<T: Into<Val>> From<Option<T>> for Val {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back_from_the_wire() {
        let values = [
            Val::from(()),
            Val::from(true),
            Val::from(-7_i8),
            Val::from(i64::MIN),
            Val::from(0.1),
            Val::from("grün"),
            Val::from(&b"\xFF\0"[..]),
            Val::from(vec![1.0, 2.0]),
            Val::from(vec![("x".to_owned(), vec![Val::Null, 1.into()].into())]),
            Val::from(None::<bool>),
        ];
        for value in values {
            let mut bytes = Vec::new();
            value.append(&mut bytes).unwrap();
            assert_eq!(Val::from(Value::from_encoded(&bytes).unwrap()), value);
        }
    }

    #[test]
    fn short_numbers_are_read_as_long_ones() {
        let cases: [(&[u8], Val); 3] = [
            (&[value::code::I16, 0xFF, 0xFE], Val::Int(-2)),
            (&[value::code::F32, 0x3F, 0x00, 0x00, 0x00], Val::Float(0.5)),
            (&[value::code::BOOL, 9], Val::Bool(true)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Val::from(Value::from_encoded(bytes).unwrap()), expected);
        }
    }

    #[test]
    fn what_a_length_field_cannot_say_is_refused() {
        let long = "x".repeat(65_536);
        for value in [Val::from(long.as_str()), Val::Map(vec![(long, Val::Null)])] {
            assert!(value.append(&mut Vec::new()).is_err());
        }
        assert!(Val::Array(vec![Val::Null; 65_536]).append(&mut Vec::new()).is_err());
    }
}

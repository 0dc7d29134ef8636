//! OSC arguments as CLASP values and back; the table is in [`super`].

use clasp_rt_core::value::{
    ArrayWriter, Value, code, push_bool, push_bytes, push_f64, push_i64, push_null, push_str,
};
use clasp_rt_core::wire::TooLong;

use super::packet::{Argument, Message, Writer};
use super::time::TimeTag;
use crate::datum::Datum;

/// Appends the value of a message: null, its one argument, or an array of all.
pub fn push_value(out: &mut Vec<u8>, message: &Message<'_>) -> Result<(), TooLong> {
    let mut arguments = message.arguments();
    match groups(message.tags).take(2).count() {
        0 => push_null(out),
        1 => push_next(out, &mut arguments)?,
        _ => {
            let mut array = ArrayWriter::start(out);
            for _ in groups(message.tags) {
                push_next(array.item()?, &mut arguments)?;
            }
        }
    }
    Ok(())
}

/// Appends one argument; an array with all that belongs to it. Brackets pair: the decoder checked.
fn push_next<'a>(
    out: &mut Vec<u8>,
    arguments: &mut dyn Iterator<Item = Argument<'a>>,
) -> Result<(), TooLong> {
    match arguments.next() {
        Some(Argument::Open) => push_array(out, arguments),
        Some(argument) => push_scalar(out, argument),
        None => Ok(()),
    }
}

fn push_array<'a>(
    out: &mut Vec<u8>,
    arguments: &mut dyn Iterator<Item = Argument<'a>>,
) -> Result<(), TooLong> {
    let mut array = ArrayWriter::start(out);
    while let Some(argument) = arguments.next().filter(|next| *next != Argument::Close) {
        match argument {
            Argument::Open => push_array(array.item()?, arguments)?,
            argument => push_scalar(array.item()?, argument)?,
        }
    }
    Ok(())
}

fn push_scalar(out: &mut Vec<u8>, argument: Argument<'_>) -> Result<(), TooLong> {
    match argument {
        Argument::Int(number) => push_i64(out, i64::from(number)),
        Argument::Long(number) => push_i64(out, number),
        Argument::Float(number) => push_f64(out, f64::from(number)),
        Argument::Double(number) => push_f64(out, number),
        Argument::Text(text) => match str::from_utf8(text) {
            Ok(text) => push_str(out, text)?,
            // Latin-1 of an old sender: nothing is lost, and nothing guessed.
            Err(_) => push_bytes(out, text)?,
        },
        Argument::Blob(blob) => push_bytes(out, blob)?,
        Argument::Time(tag) => match tag.unix_us() {
            Some(us) => push_i64(out, us),
            None => push_null(out),
        },
        Argument::Char(char) => push_str(out, char.encode_utf8(&mut [0; 4]))?,
        Argument::Colour(octets) | Argument::Midi(octets) => {
            let mut array = ArrayWriter::start(out);
            for octet in octets {
                push_i64(array.item()?, i64::from(octet));
            }
        }
        Argument::Bool(flag) => push_bool(out, flag),
        Argument::Impulse => push_f64(out, f64::INFINITY),
        Argument::Nil | Argument::Open | Argument::Close => push_null(out),
    }
    Ok(())
}

/// Which types numbers leave with where nothing is remembered of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `i` where it fits, and `f`: what everything reads.
    Narrow,
    /// `h` and `d`: exact, but TouchOSC, Max and many consoles ignore them.
    Wide,
}

/// Writes `value` as arguments: an array as several of them, null as none.
///
/// `known` are the tags that last came from this address. They decide where the value fits them: a
/// desk that sent `,d` is answered with `,d`.
pub fn write_arguments(out: &mut Writer, value: &Datum<'_>, known: &str, width: Width) {
    out.clear();
    let mut hints = groups(known);
    let items = match value {
        Datum::Other(value) => value.array(),
        _ => None,
    };
    let is_one = groups(known).take(2).count() == 1 && known != "N";
    match items {
        Some(items) if !(is_one && fits_as_one(known, items.len())) => {
            for item in items {
                write_one(out, &Datum::new(item), hints.next().unwrap_or(""), width);
            }
        }
        None if *value == Datum::Null && known != "N" && !(is_one && known == "t") => {}
        _ => write_one(out, value, known, width),
    }
}

/// Whether an array of `len` items is one argument there: an array, a colour or a MIDI message.
fn fits_as_one(known: &str, len: usize) -> bool {
    known.starts_with('[') || (matches!(known, "r" | "m") && len == 4)
}

fn write_one(out: &mut Writer, value: &Datum<'_>, hint: &str, width: Width) {
    match value {
        Datum::Null if hint == "t" => out.push(Argument::Time(TimeTag::IMMEDIATELY)),
        Datum::Null => out.push(Argument::Nil),
        Datum::Bool(flag) => out.push(Argument::Bool(*flag)),
        Datum::Int(number) => write_int(out, *number, hint, width),
        Datum::Float(number) => write_float(out, *number, hint, width),
        Datum::Text(text) => write_text(out, text, hint),
        Datum::Other(value) => write_other(out, *value, hint, width),
    }
}

fn write_int(out: &mut Writer, number: i64, hint: &str, width: Width) {
    match (hint, i32::try_from(number)) {
        ("t", _) => out.push(Argument::Time(TimeTag::from_unix_us(number))),
        ("h", _) => out.push(Argument::Long(number)),
        ("f", _) => out.push(Argument::Float(number as f32)),
        ("d", _) => out.push(Argument::Double(number as f64)),
        ("i", Ok(number)) => out.push(Argument::Int(number)),
        (_, Ok(number)) if width == Width::Narrow => out.push(Argument::Int(number)),
        _ => out.push(Argument::Long(number)),
    }
}

fn write_float(out: &mut Writer, number: f64, hint: &str, width: Width) {
    // Clients whose every number is a float (JavaScript) answer an int with a whole float.
    let whole = (number.fract() == 0.0).then_some(number as i64);
    match (hint, whole) {
        ("i", Some(int)) if i32::try_from(int).is_ok() => out.push(Argument::Int(int as i32)),
        ("h", Some(int)) => out.push(Argument::Long(int)),
        ("t", Some(us)) => out.push(Argument::Time(TimeTag::from_unix_us(us))),
        ("I", _) if number == f64::INFINITY => out.push(Argument::Impulse),
        ("d", _) => out.push(Argument::Double(number)),
        // Beyond what `f` can say, it would be infinity.
        _ if number.is_finite() && !(number as f32).is_finite() => {
            out.push(Argument::Double(number));
        }
        ("f", _) => out.push(Argument::Float(number as f32)),
        _ if width == Width::Narrow => out.push(Argument::Float(number as f32)),
        _ => out.push(Argument::Double(number)),
    }
}

fn write_text(out: &mut Writer, text: &str, hint: &str) {
    let mut chars = text.chars();
    match (hint, chars.next(), chars.next()) {
        ("c", Some(char), None) => out.push(Argument::Char(char)),
        ("S", ..) => out.push_symbol(text.as_bytes()),
        _ => out.push(Argument::Text(text.as_bytes())),
    }
}

fn write_other(out: &mut Writer, value: Value<'_>, hint: &str, width: Width) {
    if let Some(bytes) = value.as_bytes() {
        return match hint {
            "s" if !bytes.contains(&0) => out.push(Argument::Text(bytes)),
            "S" if !bytes.contains(&0) => out.push_symbol(bytes),
            _ => out.push(Argument::Blob(bytes)),
        };
    }
    let Some(items) = value.array() else {
        return out.push(Argument::Text(json(value).to_string().as_bytes()));
    };
    match (hint, octets(value)) {
        ("r", Some(octets)) => out.push(Argument::Colour(octets)),
        ("m", Some(octets)) => out.push(Argument::Midi(octets)),
        _ => {
            let inner = hint.strip_prefix('[').and_then(|hint| hint.strip_suffix(']'));
            let mut hints = groups(inner.unwrap_or(""));
            out.push(Argument::Open);
            for item in items {
                write_one(out, &Datum::new(item), hints.next().unwrap_or(""), width);
            }
            out.push(Argument::Close);
        }
    }
}

/// An array of four ints of 0 to 255.
fn octets(value: Value<'_>) -> Option<[u8; 4]> {
    let mut items = value.array().filter(|items| items.len() == 4)?;
    let mut octets = [0; 4];
    for octet in &mut octets {
        *octet = match Datum::new(items.next()?) {
            Datum::Int(number) => u8::try_from(number).ok()?,
            Datum::Float(number) if number.fract() == 0.0 => u8::try_from(number as i64).ok()?,
            _ => return None,
        };
    }
    Some(octets)
}

/// A map has no form in OSC: it travels as its JSON text.
fn json(value: Value<'_>) -> serde_json::Value {
    match value.code() {
        code::ARRAY => value.array().into_iter().flatten().map(json).collect(),
        code::MAP => {
            let entries = value.map().into_iter().flatten();
            entries.map(|(key, value)| (key.to_string(), json(value))).collect()
        }
        code::BYTES => value.as_bytes().unwrap_or(&[]).to_vec().into(),
        _ => match Datum::new(value) {
            Datum::Bool(flag) => flag.into(),
            Datum::Int(number) => number.into(),
            Datum::Float(number) => number.into(),
            Datum::Text(text) => text.into(),
            Datum::Null | Datum::Other(_) => serde_json::Value::Null,
        },
    }
}

/// The tags of each argument: one letter, or an array with its brackets.
fn groups(tags: &str) -> impl Iterator<Item = &str> {
    let mut rest = tags;
    std::iter::from_fn(move || {
        let mut depth = 0_usize;
        let end = rest.char_indices().find_map(|(at, tag)| {
            depth = match tag {
                '[' => depth + 1,
                ']' => depth.saturating_sub(1),
                _ => depth,
            };
            (depth == 0).then_some(at + tag.len_utf8())
        })?;
        let (group, after) = rest.split_at(end);
        rest = after;
        Some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Packet, decode, write_message};
    use super::*;

    /// The arguments that `push` makes of a value, as their tags and their message.
    fn written(known: &str, width: Width, push: impl FnOnce(&mut Vec<u8>)) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        push(&mut bytes);
        let value = Value::from_encoded(&bytes).expect("a value");
        let (mut writer, mut packet) = (Writer::default(), Vec::new());
        write_arguments(&mut writer, &Datum::new(value), known, width);
        write_message(&mut packet, "/x", &writer);
        let Ok(Packet::Message(message)) = decode(&packet) else { panic!("{packet:?}") };
        (message.tags.to_string(), packet)
    }

    fn int(number: i64) -> impl Fn(&mut Vec<u8>) {
        move |out| push_i64(out, number)
    }

    fn float(number: f64) -> impl Fn(&mut Vec<u8>) {
        move |out| push_f64(out, number)
    }

    fn text(text: &'static str) -> impl Fn(&mut Vec<u8>) {
        move |out| push_str(out, text).expect("short")
    }

    fn ints(numbers: &'static [i64]) -> impl Fn(&mut Vec<u8>) {
        move |out| {
            let mut array = ArrayWriter::start(out);
            for number in numbers {
                push_i64(array.item().expect("room"), *number);
            }
        }
    }

    type Push = Box<dyn Fn(&mut Vec<u8>)>;

    #[test]
    fn values_leave_with_the_tags_that_a_receiver_knows() {
        let nested: Push = Box::new(|out| {
            let mut outer = ArrayWriter::start(out);
            push_i64(outer.item().expect("room"), 1);
            let mut inner = ArrayWriter::start(outer.item().expect("room"));
            push_f64(inner.item().expect("room"), 0.5);
            push_null(inner.item().expect("room"));
        });
        // Tags that came before, value, tags when narrow, tags when wide.
        let cases: Vec<(&str, Push, &str, &str)> = vec![
            ("", Box::new(int(7)), "i", "h"),
            ("", Box::new(int(1 << 40)), "h", "h"),
            ("", Box::new(float(0.5)), "f", "d"),
            ("", Box::new(float(7.0)), "f", "d"),
            ("", Box::new(float(1e39)), "d", "d"),
            ("f", Box::new(float(-1e39)), "d", "d"),
            ("", Box::new(float(f64::INFINITY)), "f", "d"),
            ("s", Box::new(|out| push_bytes(out, b"a\0c").expect("short")), "b", "b"),
            ("", Box::new(text("x")), "s", "s"),
            ("", Box::new(push_null), "", ""),
            ("", Box::new(|out| push_bool(out, true)), "T", "T"),
            ("", Box::new(|out| push_bool(out, false)), "F", "F"),
            ("", Box::new(|out| push_bytes(out, b"abc").expect("short")), "b", "b"),
            ("", Box::new(ints(&[1, 2])), "ii", "hh"),
            ("", Box::new(ints(&[])), "", ""),
            ("i", Box::new(float(7.0)), "i", "i"),
            ("i", Box::new(float(7.5)), "f", "d"),
            ("i", Box::new(int(1 << 40)), "h", "h"),
            ("f", Box::new(int(7)), "f", "f"),
            ("h", Box::new(int(7)), "h", "h"),
            ("d", Box::new(float(0.5)), "d", "d"),
            ("S", Box::new(text("name")), "S", "S"),
            ("c", Box::new(text("x")), "c", "c"),
            ("c", Box::new(text("xy")), "s", "s"),
            ("t", Box::new(int(5)), "t", "t"),
            ("t", Box::new(push_null), "t", "t"),
            ("N", Box::new(push_null), "N", "N"),
            ("I", Box::new(float(f64::INFINITY)), "I", "I"),
            ("I", Box::new(float(1.0)), "f", "d"),
            ("r", Box::new(ints(&[1, 2, 3, 255])), "r", "r"),
            ("r", Box::new(ints(&[1, 2, 3, 256])), "[iiii]", "[hhhh]"),
            ("r", Box::new(ints(&[1, 2, 3])), "iii", "hhh"),
            ("m", Box::new(ints(&[0, 144, 60, 127])), "m", "m"),
            ("[ff]", Box::new(ints(&[1, 2])), "[ff]", "[ff]"),
            ("fd", Box::new(ints(&[1, 2])), "fd", "fd"),
            ("f", Box::new(ints(&[1, 2])), "fi", "fh"),
            ("", nested, "i[fN]", "h[dN]"),
        ];
        for (known, push, narrow, wide) in cases {
            let (tags, _) = written(known, Width::Narrow, &push);
            assert_eq!(tags, narrow, "after {known:?}");
            let (tags, _) = written(known, Width::Wide, &push);
            assert_eq!(tags, wide, "after {known:?}, wide");
        }
    }

    #[test]
    fn a_map_travels_as_json() {
        let (tags, packet) = written("", Width::Narrow, |out| {
            let mut map = clasp_rt_core::value::MapWriter::start(out);
            push_i64(map.entry("x").expect("room"), 1);
            push_bytes(map.entry("y").expect("room"), &[7]).expect("short");
        });
        assert_eq!(tags, "s");
        assert!(packet.ends_with(b"{\"x\":1,\"y\":[7]}\0"), "{packet:?}");
    }

    #[test]
    fn tags_are_grouped_by_argument() {
        let cases = [
            ("", vec![]),
            ("ifs", vec!["i", "f", "s"]),
            ("i[f[s]]b", vec!["i", "[f[s]]", "b"]),
            ("[]", vec!["[]"]),
        ];
        for (tags, expected) in cases {
            assert_eq!(groups(tags).collect::<Vec<_>>(), expected, "{tags}");
        }
    }
}

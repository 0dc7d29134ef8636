//! One function of a fixture: how many slots it takes, and what a value means there.

use clasp_rt_core::value::{ArrayWriter, Value, push_f64};
use clasp_rt_core::wire::TooLong;

use crate::datum::Datum;

/// Numbers of the widest form, a colour with white.
pub(super) const NUMBERS_MAX: usize = 4;

/// What the slots of a function hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One number of 1, 2 or 3 slots, the coarse one first.
    Level { octets: u8 },
    /// Red, green and blue, and perhaps white, a slot each.
    Colour { white: bool },
    /// Always this level: a lamp that must be told to stay on, a mode that must not change.
    Constant(u8),
    /// Nobody writes it.
    Unused,
}

/// A function as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    /// The last segment of its address. Empty where it has none.
    pub(super) name: String,
    pub(super) form: Form,
}

impl Channel {
    /// Reads `dimmer`, `pan:16`, `zoom:24`, `colour:rgb`, `colour:rgbw`, `=127` or `-`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self { name: String::new(), form: Form::Unused });
        }
        if let Some(level) = text.strip_prefix('=') {
            let level = level.parse().map_err(|_| format!("`{text}` is no level of 0 to 255"))?;
            return Ok(Self { name: String::new(), form: Form::Constant(level) });
        }
        let (name, form) = text.split_once(':').unwrap_or((text, "8"));
        let form = match form {
            "8" => Form::Level { octets: 1 },
            "16" => Form::Level { octets: 2 },
            "24" => Form::Level { octets: 3 },
            "rgb" => Form::Colour { white: false },
            "rgbw" => Form::Colour { white: true },
            other => {
                return Err(format!("`{text}`: `{other}` is none of 8, 16, 24, rgb and rgbw"));
            }
        };
        let is_segment = !name.is_empty() && !name.contains(['/', '*', '{', '}']);
        if !is_segment {
            return Err(format!(
                "`{text}` has no name; a slot is `name`, `name:16`, `name:rgb`, `=127` or `-`"
            ));
        }
        Ok(Self { name: name.to_owned(), form })
    }

    /// Slots that it takes.
    pub(super) fn slots(&self) -> usize {
        match self.form {
            Form::Level { octets } => usize::from(octets),
            Form::Colour { white } => 3 + usize::from(white),
            Form::Constant(_) | Form::Unused => 1,
        }
    }

    /// Slots of each of its numbers.
    pub(super) fn octets(&self) -> u8 {
        if let Form::Level { octets } = self.form { octets } else { 1 }
    }

    /// The numbers that `value` asks for, in the order of the slots. `None`: the value means
    /// nothing here.
    pub(super) fn numbers(&self, value: &Datum<'_>) -> Option<([u32; NUMBERS_MAX], usize)> {
        let mut numbers = [0; NUMBERS_MAX];
        match self.form {
            Form::Level { octets } => {
                numbers[0] = number(value, octets)?;
                Some((numbers, 1))
            }
            Form::Colour { white } => {
                let given = colour(value, &mut numbers)?;
                match (white, given) {
                    (false, 3) | (true, 4) => {}
                    // What all three have in common is white.
                    (true, 3) => {
                        let [red, green, blue, _] = numbers;
                        let common = red.min(green).min(blue);
                        numbers = [red - common, green - common, blue - common, common];
                    }
                    _ => return None,
                }
                Some((numbers, self.slots()))
            }
            Form::Constant(_) | Form::Unused => None,
        }
    }

    /// What the levels of its slots say: a fraction of full, of a colour one for each slot.
    fn fractions(&self, levels: &[u8]) -> ([f64; NUMBERS_MAX], usize) {
        let mut fractions = [0.0; NUMBERS_MAX];
        let octets = usize::from(self.octets());
        let mut count = 0;
        for (fraction, levels) in fractions.iter_mut().zip(levels.chunks_exact(octets)) {
            let number = levels.iter().fold(0_u32, |sum, level| sum << 8 | u32::from(*level));
            *fraction = f64::from(number) / f64::from(full(self.octets()));
            count += 1;
        }
        (fractions, count)
    }

    /// Appends what the levels of its slots say: a fraction of full, of a colour a list of them.
    pub(super) fn push(&self, levels: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        let (fractions, count) = self.fractions(levels);
        if !matches!(self.form, Form::Colour { .. }) {
            push_f64(out, fractions[0]);
            return Ok(());
        }
        let mut list = ArrayWriter::start(out);
        for fraction in fractions.iter().take(count) {
            push_f64(list.item()?, *fraction);
        }
        Ok(())
    }
}

/// The highest number that so many slots hold.
pub(super) fn full(octets: u8) -> u32 {
    (1 << (8 * u32::from(octets.min(3)))) - 1
}

/// As [`crate::level::to_level`], of more slots: floats up to 1.0 are fractions of full, ints and
/// higher floats the number itself, limited to what the slots hold.
fn number(value: &Datum<'_>, octets: u8) -> Option<u32> {
    let full = full(octets);
    match *value {
        Datum::Bool(on) => Some(if on { full } else { 0 }),
        Datum::Int(number) => Some(number.clamp(0, i64::from(full)) as u32),
        Datum::Float(x) if x.is_nan() => None,
        Datum::Float(x) => {
            let number = if x <= 1.0 { x * f64::from(full) } else { x };
            // The cast limits to 0 and the most that is held here.
            Some(((number + 0.5).floor() as u32).min(full))
        }
        _ => None,
    }
}

/// Reads `#rrggbb`, `#rrggbbww`, `[r, g, b]`, `[r, g, b, w]` or a map with the keys r, g, b and w.
/// Says how many numbers there were.
fn colour(value: &Datum<'_>, numbers: &mut [u32; NUMBERS_MAX]) -> Option<usize> {
    let one = |value: Value<'_>| number(&Datum::new(value), 1);
    match value {
        Datum::Text(text) => {
            let digits = text.strip_prefix('#')?;
            if !matches!(digits.len(), 6 | 8) || !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
                return None;
            }
            for (index, number) in numbers.iter_mut().take(digits.len() / 2).enumerate() {
                *number = u32::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
            }
            Some(digits.len() / 2)
        }
        Datum::Other(value) => {
            if let Some(items) = value.array() {
                let mut count = 0;
                for item in items {
                    *numbers.get_mut(count)? = one(item)?;
                    count += 1;
                }
                return Some(count);
            }
            let mut found = [false; NUMBERS_MAX];
            for (key, value) in value.map()? {
                let place = ["r", "g", "b", "w"].iter().position(|name| *name == key)?;
                numbers[place] = one(value)?;
                found[place] = true;
            }
            match found {
                [true, true, true, white] => Some(3 + usize::from(white)),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::value::{ArrayWriter, push_f64, push_i64};

    use super::*;

    fn channel(text: &str) -> Channel {
        Channel::parse(text).expect(text)
    }

    #[test]
    fn slots_are_written_as_name_and_form() {
        let cases = [
            ("dimmer", "dimmer", Form::Level { octets: 1 }, 1),
            ("pan:16", "pan", Form::Level { octets: 2 }, 2),
            ("zoom:24", "zoom", Form::Level { octets: 3 }, 3),
            ("colour:rgb", "colour", Form::Colour { white: false }, 3),
            ("colour:rgbw", "colour", Form::Colour { white: true }, 4),
            ("=127", "", Form::Constant(127), 1),
            ("-", "", Form::Unused, 1),
        ];
        for (text, name, form, slots) in cases {
            let channel = channel(text);
            assert_eq!((channel.name.as_str(), channel.form), (name, form), "{text}");
            assert_eq!(channel.slots(), slots, "{text}");
        }
        for text in ["", ":16", "a/b", "pan:12", "=256", "=", "*"] {
            assert!(Channel::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_fractions_of_full_or_themselves() {
        let cases = [
            ("d", Datum::Float(1.0), 255),
            ("d", Datum::Float(0.5), 128),
            ("d", Datum::Float(200.0), 200),
            ("d", Datum::Int(300), 255),
            ("d:16", Datum::Float(0.5), 32_768),
            ("d:16", Datum::Float(1.0), 65_535),
            ("d:16", Datum::Int(1), 1),
            ("d:16", Datum::Float(-1.0), 0),
            ("d:16", Datum::Float(f64::INFINITY), 65_535),
            ("d:24", Datum::Bool(true), 0xff_ffff),
        ];
        for (text, value, wanted) in cases {
            let (numbers, count) = channel(text).numbers(&value).expect("a number");
            assert_eq!((numbers[0], count), (wanted, 1), "{text} {value:?}");
        }
        for value in [Datum::Float(f64::NAN), Datum::Null, Datum::Text("full".into())] {
            assert_eq!(channel("d").numbers(&value), None, "{value:?}");
        }
    }

    #[test]
    fn colours_are_texts_or_lists_and_white_is_what_they_have_in_common() {
        let text = |text: &'static str| Datum::Text(text.into());
        let rgb = channel("c:rgb");
        assert_eq!(rgb.numbers(&text("#ff8000")), Some(([255, 128, 0, 0], 3)));
        assert_eq!(channel("c:rgbw").numbers(&text("#ff8040")), Some(([191, 64, 0, 64], 4)));
        assert_eq!(channel("c:rgbw").numbers(&text("#01020304")), Some(([1, 2, 3, 4], 4)));
        for wrong in ["#ff80", "ff8000", "#ff80zz", "#01020304", "#ééé"] {
            assert_eq!(rgb.numbers(&text(wrong)), None, "{wrong}");
        }
        let mut bytes = Vec::new();
        let mut list = ArrayWriter::start(&mut bytes);
        push_f64(list.item().expect("few"), 1.0);
        push_i64(list.item().expect("few"), 7);
        push_f64(list.item().expect("few"), 0.0);
        let value = Value::from_encoded(&bytes).expect("an array");
        assert_eq!(rgb.numbers(&Datum::Other(value)), Some(([255, 7, 0, 0], 3)));
    }

    #[test]
    fn what_a_number_becomes_is_read_back_as_it_was() {
        for number in [0_u32, 1, 255, 256, 32_768, 65_535] {
            let levels = number.to_be_bytes();
            let (fractions, count) = channel("pan:16").fractions(&levels[2..]);
            assert_eq!(count, 1);
            let back = channel("pan:16").numbers(&Datum::Float(fractions[0]));
            assert_eq!(back.map(|(numbers, _)| numbers[0]), Some(number));
        }
    }
}

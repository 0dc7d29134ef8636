//! Text from outside as a terminal may have it: what would command the terminal is spelled out.

use std::fmt::Write as _;

/// `text` on one line.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// `text` with its lines, but nothing else that a terminal would obey.
pub fn lines(text: &str) -> String {
    escaped(text, |char| char == '\n')
}

/// JSON on one line, that still is the same JSON.
pub fn json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    for char in value.to_string().chars() {
        match char {
            char if commands(char) => push_fmt(&mut text, format_args!("\\u{:04x}", char as u32)),
            char => text.push(char),
        }
    }
    text
}

/// Adds `char` to `text` as it is, or spelled out.
pub fn push(text: &mut String, char: char) {
    match char {
        char if commands(char) => text.extend(char.escape_default()),
        char => text.push(char),
    }
}

fn escaped(text: &str, keeps: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            char if keeps(char) => escaped.push(char),
            char => push(&mut escaped, char),
        }
    }
    escaped
}

/// Whether a terminal does something else with it than to show it: control characters, and those
/// that turn the order of what follows. The latter lie below U+10000, as JSON's escapes ask.
fn commands(char: char) -> bool {
    let turns =
        matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    char.is_control() || turns || matches!(char, '\u{2028}' | '\u{2029}')
}

fn push_fmt(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out_and_the_rest_stays() {
        let cases = [
            ("two words é 🎭 \\ \"", "two words é 🎭 \\ \""),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\u{0}"),
            ("\u{9b}2J\x7f", "\\u{9b}2J\\u{7f}"),
            ("\u{202e}tam", "\\u{202e}tam"),
        ];
        for (text, expected) in cases {
            assert_eq!(line(text), expected);
        }
        assert_eq!(lines("2 problems\n  \x1b"), "2 problems\n  \\u{1b}");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = Value::from("\x1b\u{9b}\x7f\u{202e}\n🎭");
        let text = json(&value);
        assert_eq!(text, "\"\\u001b\\u009b\\u007f\\u202e\\n🎭\"");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}

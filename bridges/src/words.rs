//! serde's words in those of somebody who writes a configuration.
//!
//! serde hands a format only its finished sentence, so the sentence is taken apart again; one that
//! is not recognised is passed on as it is. What `#[serde(expecting = "...")]` says of a type
//! follows "should be": on an `untagged` one it begins with "expected ".

/// Says of `found`, as the file has it, what serde's `message` says: what would be right.
pub fn explain(found: &str, message: &str) -> String {
    let quoted = quoted(message);
    let unknown_of = [("unknown field", "key"), ("unknown variant", "value")];
    if let Some((_, kind)) = unknown_of.iter().find(|(start, _)| message.starts_with(start)) {
        return match quoted.split_first() {
            Some((name, known)) if !known.is_empty() => unknown(kind, name, known),
            _ => message.to_owned(),
        };
    }
    if message.starts_with("missing field")
        && let [name] = quoted.as_slice()
    {
        return format!("key `{name}` is missing");
    }
    if let Some(expected) = message.strip_prefix("expected ") {
        return format!("{found} should be {expected}");
    }
    if let Some((wrong, expected)) = message.split_once(", expected ") {
        let wrong = wrong.split_once(": ").map_or(wrong, |(_, wrong)| wrong);
        let wrong = match wrong {
            "map" => "a table",
            "sequence" => "a list",
            // TOML has none, but JSON has no other word for them.
            "null" => "nan or inf",
            other => other,
        };
        return format!("{wrong} should be {}", in_words(expected));
    }
    let address = match message {
        "invalid socket address syntax" => "an address and a port such as \"0.0.0.0:8000\"",
        "invalid IP address syntax" => "an IP address such as \"0.0.0.0\" or \"::1\"",
        "invalid IPv4 address syntax" => "an IPv4 address such as \"10.0.0.255\"",
        other => return other.to_owned(),
    };
    format!("{found} should be {address}")
}

/// `name` is not one of `known`; says which of them may have been meant.
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        // Below 0.8 names share a few letters by chance: `bind` and `pings`.
        Some((likeness, candidate)) if likeness >= 0.8 => {
            format!("unknown {kind} `{name}`: did you mean `{candidate}`?")
        }
        _ => format!("unknown {kind} `{name}`: known are {}", known.join(", ")),
    }
}

/// The values that serde's `message` about an unknown one names: `one of "a", "b"`.
pub fn one_of(message: &str) -> Option<String> {
    let quoted = message.starts_with("unknown variant").then(|| quoted(message))?;
    let (_, known) = quoted.split_first()?;
    let known: Vec<_> = known.iter().map(|word| format!("\"{word}\"")).collect();
    Some(format!("one of {}", known.join(", ")))
}

/// What stands between backquotes.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn in_words(expected: &str) -> String {
    let (least, most) = match expected {
        "u8" => (0, u64::from(u8::MAX)),
        "u16" => (0, u64::from(u16::MAX)),
        "u32" => (0, u64::from(u32::MAX)),
        "a nonzero u8" => (1, u64::from(u8::MAX)),
        "a nonzero u16" => (1, u64::from(u16::MAX)),
        "a nonzero u32" => (1, u64::from(u32::MAX)),
        other => return other_in_words(other).to_owned(),
    };
    format!("a whole number from {least} to {most}")
}

fn other_in_words(expected: &str) -> &str {
    match expected {
        "u64" | "usize" => "a whole number, 0 or greater",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a \"text\" in quotes",
        "a sequence" => "a [list]",
        "a map" => "a table { key = value }",
        "socket address" => "an address and a port such as \"0.0.0.0:8000\"",
        "IP address" => "an IP address such as \"0.0.0.0\" or \"::1\"",
        "IPv4 address" => "an IPv4 address such as \"10.0.0.255\"",
        ours if ours.starts_with("struct ") => "a table { key = value }",
        ours if ours.starts_with("internally tagged enum ") => "a table { type = \"...\" }",
        ours if ours.starts_with("tuple struct ") => "a value of another form",
        other => other,
    }
}

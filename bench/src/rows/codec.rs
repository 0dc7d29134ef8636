//! The codecs: measured by `bench/codec`, a program of its own because it knows other codecs.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use super::missing;
use crate::report::Figure;
use crate::suite::Size;

const MADE_BY: &str = "cargo build --release --manifest-path bench/codec/Cargo.toml";

pub fn run(program: &Path, rounds: u32, size: Size) -> io::Result<Vec<Figure>> {
    if !program.exists() {
        return Err(missing(program, MADE_BY));
    }
    let messages = match size {
        Size::Small => 20_000,
        Size::Canonical => 1_000_000,
    };
    let output = Command::new(program).args([rounds.to_string(), messages.to_string()]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{}: {said}", program.display())));
    }
    let json: Json = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let figures = json["figures"].as_array().map(|figures| figures.iter().filter_map(figure));
    let figures: Vec<Figure> = figures.into_iter().flatten().collect();
    if figures.is_empty() {
        return Err(io::Error::other("the comparison of codecs told no figures"));
    }
    Ok(figures)
}

/// `None` when it is not as `bench/codec` writes it.
fn figure(json: &Json) -> Option<Figure> {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let unit = match json["unit"].as_str()? {
        "ns" => "ns a message",
        "allocations" => "allocations a message",
        _ => return None,
    };
    let rounds = json["rounds"].as_array()?.iter().filter_map(Json::as_f64).collect();
    Some(Figure { key: text("key")?, name: text("name")?, unit, rounds, note: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_of_the_other_program_is_read_and_a_stranger_is_not() {
        let mut json = serde_json::json!({
            "key": "codec/decode/mix/ours", "name": "codec decode mix ours", "unit": "ns",
            "rounds": [51.0, 50.5],
        });
        let read = figure(&json).unwrap();
        assert_eq!(
            (read.key.as_str(), read.rounds.as_slice()),
            ("codec/decode/mix/ours", &[51.0, 50.5][..])
        );
        json["unit"] = "furlongs".into();
        assert!(figure(&json).is_none());
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_makes_it() {
        let error = run(Path::new("/nowhere/bench-codec"), 1, Size::Small).unwrap_err();
        assert!(error.to_string().contains("cargo build --release"), "{error}");
    }
}

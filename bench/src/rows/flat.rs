//! One message among few params and among many, few subscriptions and many: is it flat?
//!
//! The cases are those of `core/examples/instructions.rs`. Instructions are counted by callgrind,
//! nanoseconds by the program itself, the cases in turns.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::counts::callgrind;
use crate::report::Figure;
use crate::suite::Size;

/// Case of the program, and the key of its figures.
const CASES: [(&str, &str); 7] = [
    ("set_with_1k_params", "flat/params/1000"),
    ("set_with_100k_params", "flat/params/100000"),
    ("set_with_1m_params", "flat/params/1000000"),
    ("set_with_10_subscriptions", "flat/subscriptions/10"),
    ("set_with_100k_subscriptions", "flat/subscriptions/100000"),
    ("stream_with_10_subscriptions", "flat/subscriptions/10/stream"),
    ("stream_with_100k_subscriptions", "flat/subscriptions/100000/stream"),
];

pub fn run(program: &Path, rounds: u32, size: Size) -> io::Result<Vec<Figure>> {
    let (messages, cases) = match size {
        Size::Small => (10_000, &CASES[..1]),
        Size::Canonical => (300_000, &CASES[..]),
    };
    let mut figures: Vec<Figure> = cases.iter().map(|(case, key)| timed(case, key)).collect();
    for _ in 0..rounds {
        for (figure, (case, _)) in figures.iter_mut().zip(cases) {
            figure.rounds.push(nanoseconds(program, case, messages)?);
        }
    }
    for (case, key) in cases {
        figures.push(Figure {
            key: format!("{key}/instructions"),
            name: format!("{}, instructions", case.replace('_', " ")),
            unit: "instructions a message",
            rounds: vec![callgrind::of_message(program, case)?],
            note: "of our own code, without the C library's".to_owned(),
        });
    }
    Ok(figures)
}

fn timed(case: &str, key: &str) -> Figure {
    let (name, note) = (case.replace('_', " "), String::new());
    Figure { key: format!("{key}/ns"), name, unit: "ns a message", rounds: Vec::new(), note }
}

/// Nanoseconds of a message of `case`, as `program` itself says.
pub fn nanoseconds(program: &Path, case: &str, messages: u64) -> io::Result<f64> {
    let output =
        Command::new(program).args([case, &messages.to_string(), "nanoseconds"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let found = said.lines().find_map(|line| line.strip_suffix(" ns a message")?.parse().ok());
    let strange = || io::Error::other(format!("{} {case} said {said:?}", program.display()));
    found.ok_or_else(strange)
}

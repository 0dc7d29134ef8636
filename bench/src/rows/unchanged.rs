//! A packet that repeats its universe, beside the comparison of 512 octets that it cannot do
//! without.
//!
//! The cases are those of `bridges/examples/unchanged.rs`. All instructions count here, those of
//! the C library too, because a comparison is nothing else.

use std::io;
use std::path::Path;

use super::flat::nanoseconds;
use crate::counts::callgrind;
use crate::report::Figure;
use crate::suite::Size;

const CASES: [(&str, &str); 3] = [
    ("comparison", "512 octets compared"),
    ("artnet", "an Art-Net packet that changes nothing"),
    ("sacn", "an sACN packet that changes nothing"),
];

pub fn run(program: &Path, rounds: u32, size: Size) -> io::Result<Vec<Figure>> {
    let packets = match size {
        Size::Small => 10_000,
        Size::Canonical => 3_000_000,
    };
    let mut figures: Vec<Figure> = CASES.iter().map(|(case, name)| timed(case, name)).collect();
    for _ in 0..rounds {
        for (figure, (case, _)) in figures.iter_mut().zip(CASES) {
            figure.rounds.push(nanoseconds(program, case, packets)?);
        }
    }
    for (case, name) in CASES {
        figures.push(Figure {
            key: format!("unchanged/{case}/instructions"),
            name: format!("{name}, instructions"),
            unit: "instructions a packet",
            rounds: vec![callgrind::of_message_in_all(program, case)?],
            note: "with the C library's".to_owned(),
        });
    }
    Ok(figures)
}

fn timed(case: &str, name: &str) -> Figure {
    let (key, name) = (format!("unchanged/{case}/ns"), name.to_owned());
    let note = "1,024 universes in turn".to_owned();
    Figure { key, name, unit: "ns a packet", rounds: Vec::new(), note }
}

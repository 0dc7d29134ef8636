//! Levels of dimmers (0 to 255) and the values that stand for them.

use serde::Deserialize;

use crate::datum::Datum;

/// What a float means that is written to a slot. Ints are always levels, 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Floats {
    /// Up to 1.0 a fraction of full, above it a level: right for faders of 0.0 to 1.0 and for
    /// clients whose every number is a float (JavaScript) alike, but 1.0 is full, never level 1.
    #[default]
    Auto,
    /// Always a fraction of full: 0.5 is level 128, 1.0 and everything above is full.
    Fraction,
    /// Always a level: 1.0 is level 1.
    Level,
}

/// The level that `value` asks for, limited to 0 to 255; halves are rounded up. Of bools, true is
/// full. NaN, texts, null and everything nested ask for none.
pub fn to_level(value: &Datum<'_>, floats: Floats) -> Option<u8> {
    match *value {
        Datum::Bool(flag) => Some(if flag { 255 } else { 0 }),
        Datum::Int(level) => Some(level.clamp(0, 255) as u8),
        Datum::Float(x) if x.is_nan() => None,
        Datum::Float(x) => {
            let is_fraction = match floats {
                Floats::Auto => x <= 1.0,
                Floats::Fraction => true,
                Floats::Level => false,
            };
            let level = if is_fraction { x * 255.0 } else { x };
            // The cast limits to 0 and 255.
            Some((level + 0.5).floor() as u8)
        }
        _ => None,
    }
}

/// How a level is told: as an int of 0 to 255, or as a float of 0.0 to 1.0.
pub fn from_level(level: u8, normalize: bool) -> Datum<'static> {
    if normalize { Datum::Float(f64::from(level) / 255.0) } else { Datum::Int(i64::from(level)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_levels_as_the_rule_says() {
        // By `auto`, by `fraction`, by `level`.
        let all = |level| [Some(level); 3];
        let cases = [
            (Datum::Int(0), all(0)),
            (Datum::Int(1), all(1)),
            (Datum::Int(128), all(128)),
            (Datum::Int(300), all(255)),
            (Datum::Int(-5), all(0)),
            (Datum::Bool(true), all(255)),
            (Datum::Bool(false), all(0)),
            (Datum::Float(0.0), all(0)),
            (Datum::Float(0.5), [Some(128), Some(128), Some(1)]),
            (Datum::Float(0.25), [Some(64), Some(64), Some(0)]),
            (Datum::Float(1.0), [Some(255), Some(255), Some(1)]),
            (Datum::Float(128.0), [Some(128), Some(255), Some(128)]),
            (Datum::Float(127.5), [Some(128), Some(255), Some(128)]),
            (Datum::Float(1e9), all(255)),
            (Datum::Float(-0.5), all(0)),
            (Datum::Float(f64::INFINITY), all(255)),
            (Datum::Float(f64::NEG_INFINITY), all(0)),
            (Datum::Float(f64::NAN), [None; 3]),
            (Datum::Null, [None; 3]),
            (Datum::Text("full".into()), [None; 3]),
        ];
        for (value, levels) in cases {
            let rules = [Floats::Auto, Floats::Fraction, Floats::Level];
            assert_eq!(rules.map(|floats| to_level(&value, floats)), levels, "{value:?}");
        }
    }

    #[test]
    fn every_level_survives_both_forms() {
        for level in 0..=255 {
            assert_eq!(to_level(&from_level(level, false), Floats::Auto), Some(level));
            assert_eq!(to_level(&from_level(level, true), Floats::Auto), Some(level));
            assert_eq!(to_level(&from_level(level, true), Floats::Fraction), Some(level));
        }
    }
}

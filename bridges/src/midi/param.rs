//! What a MIDI device holds: controllers and their kind, each with its address, its value and the
//! messages that set it.

use std::fmt::Write;
use std::str::Split;

use serde::Deserialize;

use super::message::{BEND_CENTRE, MAX_14_BIT, Message};
use crate::datum::Datum;

/// One thing of a device that has a value. Channels are 0..=15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Param {
    /// A controller of seven bits, 0..=127.
    Control {
        channel: u8,
        number: u8,
    },
    /// A controller of 14 bits, 0..=31: its fine half is the controller 32 above.
    Fine {
        channel: u8,
        number: u8,
    },
    Bend {
        channel: u8,
    },
    Program {
        channel: u8,
    },
    Pressure {
        channel: u8,
    },
    Poly {
        channel: u8,
        note: u8,
    },
    /// The velocity of a key while it is down, else 0.
    Held {
        channel: u8,
        note: u8,
    },
    /// A non-registered parameter: `number` is its two halves of seven bits.
    Nrpn {
        channel: u8,
        number: u16,
    },
    Rpn {
        channel: u8,
        number: u16,
    },
    Song,
    /// In sixteenth notes.
    SongPosition,
}

/// How values are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// Floats of 0.0 to 1.0, whatever the resolution; a bend rests at 0.5.
    #[default]
    Unit,
    /// Ints as they are on the cable: 0 to 127, or 0 to 16383; a bend is -8192 to 8191.
    Raw,
}

impl Values {
    /// `value` of 0..=`max`.
    pub(super) fn datum(self, value: u16, max: u16) -> Datum<'static> {
        match self {
            Self::Unit => Datum::Float(f64::from(value) / f64::from(max)),
            Self::Raw => Datum::Int(value.into()),
        }
    }
}

/// The number of 0..=`max` that `value` asks for: ints are meant as they are on the cable, floats
/// up to 1.0 as a fraction. Texts, null and everything nested ask for none.
pub(super) fn to_number(value: &Datum<'_>, max: u16) -> Option<u16> {
    match *value {
        Datum::Bool(flag) => Some(if flag { max } else { 0 }),
        Datum::Int(number) => Some(number.clamp(0, max.into()) as u16),
        Datum::Float(x) if x.is_nan() => None,
        Datum::Float(x) => {
            let number = if x <= 1.0 { x * f64::from(max) } else { x };
            Some((number + 0.5).floor().clamp(0.0, max.into()) as u16)
        }
        _ => None,
    }
}

impl Param {
    /// The largest value.
    fn max(self) -> u16 {
        match self {
            Self::Control { .. } | Self::Program { .. } | Self::Pressure { .. } => 127,
            Self::Poly { .. } | Self::Held { .. } | Self::Song => 127,
            Self::Fine { .. } | Self::Bend { .. } | Self::SongPosition => MAX_14_BIT,
            Self::Nrpn { .. } | Self::Rpn { .. } => MAX_14_BIT,
        }
    }

    /// Appends the address below the device: `/ch/1/cc/7`.
    pub(super) fn write_path(self, values: Values, out: &mut String) {
        // Writing to a String does not fail.
        let _ = match self {
            Self::Control { channel, number } | Self::Fine { channel, number } => {
                write!(out, "/ch/{}/cc/{number}", channel + 1)
            }
            Self::Bend { channel } => {
                let name = if values == Values::Unit { "pitch" } else { "bend" };
                write!(out, "/ch/{}/{name}", channel + 1)
            }
            Self::Program { channel } => write!(out, "/ch/{}/program", channel + 1),
            Self::Pressure { channel } => write!(out, "/ch/{}/pressure", channel + 1),
            Self::Poly { channel, note } => write!(out, "/ch/{}/poly/{note}", channel + 1),
            Self::Held { channel, note } => write!(out, "/ch/{}/note/{note}", channel + 1),
            Self::Nrpn { channel, number } => {
                write!(out, "/ch/{}/nrpn/{}/{}", channel + 1, number >> 7, number & 127)
            }
            Self::Rpn { channel, number } => {
                write!(out, "/ch/{}/rpn/{}/{}", channel + 1, number >> 7, number & 127)
            }
            Self::Song => write!(out, "/song"),
            Self::SongPosition => write!(out, "/clock/position"),
        };
    }

    pub(super) fn datum(self, value: u16, values: Values) -> Datum<'static> {
        match (self, values) {
            (Self::Program { .. } | Self::Song | Self::SongPosition, _) => Datum::Int(value.into()),
            (Self::Bend { .. }, Values::Unit) => {
                // The halves differ by one step, and the middle is the middle.
                let (from, half) = (f64::from(value), f64::from(BEND_CENTRE));
                let above = f64::from(MAX_14_BIT - BEND_CENTRE);
                let is_below = value <= BEND_CENTRE;
                let off = if is_below { (from - half) / half } else { (from - half) / above };
                Datum::Float(0.5 + off / 2.0)
            }
            (Self::Bend { .. }, Values::Raw) => {
                Datum::Int(i64::from(value) - i64::from(BEND_CENTRE))
            }
            _ => values.datum(value, self.max()),
        }
    }

    /// The value that `written` asks for, at the address that was found by [`parse`].
    fn number(self, name: Name, written: &Datum<'_>) -> Option<u16> {
        match (self, written) {
            (Self::Program { .. } | Self::Song | Self::SongPosition, Datum::Float(x)) => {
                // A whole number from a client whose every number is a float.
                to_number(&Datum::Int(x.round() as i64), self.max()).filter(|_| !x.is_nan())
            }
            (Self::Bend { .. }, Datum::Int(offset)) if name == Name::Bend => {
                to_number(&Datum::Int(offset.saturating_add(BEND_CENTRE.into())), MAX_14_BIT)
            }
            (Self::Bend { .. }, Datum::Float(x)) if name == Name::Bend => {
                let offset = x.clamp(-8_192.0, 8_191.0).round() as i64 + i64::from(BEND_CENTRE);
                to_number(&Datum::Int(offset), MAX_14_BIT).filter(|_| !x.is_nan())
            }
            (Self::Bend { .. }, Datum::Float(x)) if *x <= 1.0 => {
                let (centre, off) = (f64::from(BEND_CENTRE), (x - 0.5) * 2.0);
                let half = if off <= 0.0 { centre } else { f64::from(MAX_14_BIT) - centre };
                to_number(&Datum::Int((centre + off * half).round() as i64), MAX_14_BIT)
            }
            _ => to_number(written, self.max()),
        }
    }

    /// The messages that give a device this value.
    pub(super) fn messages(self, value: u16, mut each: impl FnMut(Message<'static>)) {
        let (high, low) = ((value >> 7) as u8 & 127, value as u8 & 127);
        let mut control = |channel, number, value| {
            each(Message::Control { channel, number, value });
        };
        match self {
            Self::Control { channel, number } => control(channel, number, low),
            Self::Fine { channel, number } => {
                control(channel, number, high);
                control(channel, number + 32, low);
            }
            Self::Nrpn { channel, number } | Self::Rpn { channel, number } => {
                let is_registered = matches!(self, Self::Rpn { .. });
                let [select_high, select_low] = if is_registered { [101, 100] } else { [99, 98] };
                control(channel, select_high, (number >> 7) as u8 & 127);
                control(channel, select_low, number as u8 & 127);
                control(channel, DATA_HIGH, high);
                control(channel, DATA_LOW, low);
            }
            Self::Bend { channel } => each(Message::Bend { channel, value }),
            Self::Program { channel } => each(Message::Program { channel, program: low }),
            Self::Pressure { channel } => each(Message::Pressure { channel, pressure: low }),
            Self::Poly { channel, note } => {
                each(Message::PolyPressure { channel, note, pressure: low });
            }
            Self::Held { channel, note } => each(Message::NoteOn { channel, note, velocity: low }),
            Self::Song => each(Message::Song(low)),
            Self::SongPosition => each(Message::SongPosition(value)),
        }
    }
}

/// Data entry, its coarse half.
pub(super) const DATA_HIGH: u8 = 6;
/// Data entry, its fine half.
pub(super) const DATA_LOW: u8 = 38;

/// Where one address has two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Bend,
    Other,
}

/// The param that `path` names below its device, and the value that `written` asks for; `fine`
/// are the controllers of 14 bits. `None`: it is no param, or has no such value.
pub(super) fn parse(path: &str, written: &Datum<'_>, fine: &[u8]) -> Option<(Param, u16)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let (param, name) = match parts.next()? {
        "song" => (Param::Song, Name::Other),
        "clock" if parts.next()? == "position" => (Param::SongPosition, Name::Other),
        "ch" => {
            let channel = channel(&mut parts)?;
            let kind = parts.next()?;
            let name = if kind == "bend" { Name::Bend } else { Name::Other };
            (of_channel(channel, kind, &mut parts, fine)?, name)
        }
        _ => return None,
    };
    let is_whole = parts.next().is_none();
    param.number(name, written).filter(|_| is_whole).map(|number| (param, number))
}

fn of_channel(channel: u8, kind: &str, parts: &mut Split<'_, char>, fine: &[u8]) -> Option<Param> {
    let mut seven_bits = || parts.next()?.parse().ok().filter(|number: &u8| *number < 128);
    Some(match kind {
        "cc" => match seven_bits()? {
            number if fine.contains(&number) => Param::Fine { channel, number },
            number => Param::Control { channel, number },
        },
        "note" => Param::Held { channel, note: seven_bits()? },
        "poly" => Param::Poly { channel, note: seven_bits()? },
        "pitch" | "bend" => Param::Bend { channel },
        "program" => Param::Program { channel },
        "pressure" => Param::Pressure { channel },
        "nrpn" | "rpn" => {
            let number = u16::from(seven_bits()?) << 7 | u16::from(seven_bits()?);
            match kind {
                "rpn" => Param::Rpn { channel, number },
                _ => Param::Nrpn { channel, number },
            }
        }
        _ => return None,
    })
}

/// Takes `1` to `16` from an address.
pub(super) fn channel(parts: &mut Split<'_, char>) -> Option<u8> {
    let channel: u8 = parts.next()?.parse().ok()?;
    (1..=16).contains(&channel).then(|| channel - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &[u8] = &[7];

    fn params() -> Vec<(Param, u16)> {
        vec![
            (Param::Control { channel: 0, number: 1 }, 127),
            (Param::Fine { channel: 15, number: 7 }, 16_383),
            (Param::Bend { channel: 2 }, 16_383),
            (Param::Program { channel: 3 }, 127),
            (Param::Pressure { channel: 4 }, 127),
            (Param::Poly { channel: 5, note: 127 }, 127),
            (Param::Held { channel: 6, note: 0 }, 127),
            (Param::Nrpn { channel: 7, number: 130 }, 16_383),
            (Param::Rpn { channel: 8, number: 0 }, 16_383),
            (Param::Song, 127),
            (Param::SongPosition, 16_383),
        ]
    }

    #[test]
    fn every_value_of_every_param_survives_its_address_in_both_forms() {
        for (param, max) in params() {
            for values in [Values::Unit, Values::Raw] {
                let mut path = String::new();
                param.write_path(values, &mut path);
                for value in 0..=max {
                    let told = param.datum(value, values);
                    assert_eq!(parse(&path, &told, FINE), Some((param, value)), "{path} {told:?}");
                }
            }
        }
    }

    #[test]
    fn values_that_people_write_are_understood() {
        let cases = [
            ("/ch/1/cc/1", Datum::Float(0.5), Some(64)),
            ("/ch/1/cc/1", Datum::Float(1.0), Some(127)),
            ("/ch/1/cc/1", Datum::Float(64.0), Some(64)),
            ("/ch/1/cc/1", Datum::Int(1), Some(1)),
            ("/ch/1/cc/1", Datum::Int(999), Some(127)),
            ("/ch/1/cc/1", Datum::Bool(true), Some(127)),
            ("/ch/1/cc/1", Datum::Float(f64::NAN), None),
            ("/ch/1/cc/1", Datum::Null, None),
            ("/ch/1/pitch", Datum::Float(0.5), Some(8_192)),
            ("/ch/1/pitch", Datum::Float(1.0), Some(16_383)),
            ("/ch/1/bend", Datum::Int(-8_192), Some(0)),
            ("/ch/1/bend", Datum::Float(8_191.0), Some(16_383)),
            ("/ch/1/bend", Datum::Int(i64::MAX), Some(16_383)),
            ("/ch/1/program", Datum::Float(12.0), Some(12)),
            ("/ch/1/program", Datum::Float(1.0), Some(1)),
            ("/ch/1/program", Datum::Float(f64::NAN), None),
            ("/ch/0/cc/1", Datum::Int(1), None),
            ("/ch/17/cc/1", Datum::Int(1), None),
            ("/ch/1/cc/128", Datum::Int(1), None),
            ("/ch/1/cc/1/2", Datum::Int(1), None),
            ("/ch/1/cc", Datum::Int(1), None),
            ("/ch/1", Datum::Int(1), None),
            ("", Datum::Int(1), None),
        ];
        for (path, written, number) in cases {
            let found = parse(path, &written, FINE).map(|(_, number)| number);
            assert_eq!(found, number, "{path} {written:?}");
        }
    }
}

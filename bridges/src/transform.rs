//! What a route does to a value on its way: scaling, curves, conditions, expressions.
//!
//! A transform that expects a number leaves every other value as it is; one that remembers (smooth,
//! rate_limit) remembers per address, in [`Memory`]. Numbers come out as floats, with one
//! exception: where an int goes in and the result is whole, `clamp`, `invert`, `modulo`, `abs`,
//! `negate` and `round` give an int, because 1 and 1.0 are different levels to a dimmer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ConfigError;
use crate::condition::Condition;
use crate::curve::Curve;
use crate::datum::{Constant, Datum};
use crate::expression::Expression;

/// One step, as the configuration writes it: `{ type = "scale", from_min = 0, ... }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[serde(expecting = "a table such as { type = \"invert\" }")]
pub enum Transform {
    /// The value itself.
    Identity {},
    /// Computes `expr`, in which `value` stands for the value: a number is a float there, so that
    /// `value / 2` divides as people expect. A failing expression leaves the value as it is.
    Expression { expr: Expression },
    /// Maps `from_min..from_max` linearly to `to_min..to_max`, and beyond: nothing is cut off.
    Scale { from_min: f64, from_max: f64, to_min: f64, to_max: f64 },
    /// Cuts off below `min` and above `max`.
    Clamp { min: f64, max: f64 },
    /// 1 minus the value.
    Invert {},
    /// The whole part; a bool becomes 0 or 1, NaN becomes 0.
    ToInt {},
    /// The same number as a float; a bool becomes 0.0 or 1.0.
    ToFloat {},
    /// The entry of `table` whose key is the value's text, else `default`, else the value itself.
    Lookup {
        table: BTreeMap<String, Constant>,
        #[serde(default)]
        default: Option<Constant>,
    },
    /// The height of an easing curve; the value is first limited to 0..=1.
    Curve { curve_type: Curve },
    /// The nearest of `steps` equal steps between 0 and 1 (and on, beyond them); at least 1.
    Quantize { steps: u32 },
    /// 0 for what is nearer to 0 than `threshold`.
    DeadZone { threshold: f64 },
    /// Moves `factor` of the way from the last result to the value: 1 follows at once, 0.1 slowly.
    /// The first value is taken as it is.
    Smooth { factor: f64 },
    /// At most `max_delta` away from the last result.
    RateLimit { max_delta: f64 },
    /// Whether the value is above (below, equal to) `value`: a bool.
    Threshold {
        value: f64,
        #[serde(default)]
        mode: ThresholdMode,
    },
    /// The remainder of a division; has the sign of the value. `divisor` is not 0.
    Modulo { divisor: f64 },
    /// Without its sign.
    Abs {},
    /// With the other sign.
    Negate {},
    /// Raised to `exponent`. A negative value with a fractional exponent is NaN.
    Power { exponent: f64 },
    /// The logarithm to `base`, by default the natural one. Of 0 it is minus infinity, below NaN.
    Log {
        #[serde(default)]
        base: Option<f64>,
    },
    /// Rounded to `decimals` digits after the point (0 to 15), halves away from 0.
    Round { decimals: u32 },
    /// One after the other.
    Chain { transforms: Vec<Transform> },
    /// One of two, by a condition on the value.
    Conditional { condition: Condition, if_true: Box<Transform>, if_false: Box<Transform> },
    /// What lies at `path` (`$.a.b[0]`, or `a.b.0`) of a map, an array, or a text that holds JSON;
    /// null where there is nothing. Out of a text only scalars can be taken.
    JsonPath { path: String },
    /// Converts a value of `from_type` into `to_type`. A text that is no number stays a text.
    MapType { from_type: Kind, to_type: Kind },
    /// Works on the bits of the whole part. Every operation but `not` needs `operand`; shifts by 64
    /// and more give what 63 shifts and one more would.
    Bitwise {
        operation: BitOperation,
        #[serde(default)]
        operand: Option<i64>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    #[default]
    Above,
    Below,
    Equal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Int,
    Float,
    Bool,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitOperation {
    And,
    Or,
    Xor,
    Not,
    ShiftLeft,
    ShiftRight,
    /// 1 if bit `operand` (0 the lowest, to 63) is set, else 0.
    GetBit,
    SetBit,
    ClearBit,
}

/// What the remembering steps of one chain keep for one address: a number each, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    last: Vec<Option<f64>>,
}

/// The steps of one route, checked.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    steps: Vec<Transform>,
    /// Steps that remember, inner ones included.
    memories: usize,
}

impl Chain {
    /// Checks what the types cannot say, so that no step can fail later. A mistake lies at
    /// `[number of the step].key`.
    pub fn new(steps: Vec<Transform>) -> Result<Self, ConfigError> {
        each(&steps, Transform::check)?;
        let memories = steps.iter().map(Transform::memories).sum();
        Ok(Self { steps, memories })
    }

    /// Whether [`Chain::apply`] needs a memory of its own for each address.
    pub fn remembers(&self) -> bool {
        self.memories > 0
    }

    pub fn memory(&self) -> Memory {
        Memory { last: vec![None; self.memories] }
    }

    /// Sends `value` through all steps. `memory` was made by [`Chain::memory`] of this chain.
    pub fn apply<'a>(&'a self, value: Datum<'a>, memory: &mut Memory) -> Datum<'a> {
        assert_eq!(memory.last.len(), self.memories, "a memory of another chain");
        apply_all(&self.steps, value, &mut memory.last)
    }
}

fn apply_all<'a>(
    steps: &'a [Transform],
    mut value: Datum<'a>,
    mut last: &mut [Option<f64>],
) -> Datum<'a> {
    for step in steps {
        let (mine, rest) = last.split_at_mut(step.memories());
        value = step.apply(value, mine);
        last = rest;
    }
    value
}

impl Transform {
    fn apply<'a>(&'a self, value: Datum<'a>, last: &mut [Option<f64>]) -> Datum<'a> {
        match self {
            Self::Identity {} => value,
            Self::Expression { expr } => expr.apply(value),
            Self::Scale { from_min, from_max, to_min, to_max } => {
                let slope = (to_max - to_min) / (from_max - from_min);
                float(value, |x| to_min + (x - from_min) * slope)
            }
            Self::Clamp { min, max } => whole(value, |x| x.clamp(*min, *max)),
            Self::Invert {} => whole(value, |x| 1.0 - x),
            Self::ToInt {} => to_int(value),
            Self::ToFloat {} => to_float(value),
            Self::Lookup { table, default } => lookup(table, default.as_ref(), value),
            Self::Curve { curve_type } => float(value, |x| curve_type.at(x)),
            Self::Quantize { steps } => {
                float(value, |x| (x * f64::from(*steps)).round() / f64::from(*steps))
            }
            Self::DeadZone { threshold } => match value.number() {
                Some(x) if x.abs() < *threshold => number_like(is_int(&value), 0.0),
                _ => value,
            },
            Self::Smooth { factor } => {
                remembered(value, last, |last, x| last + factor * (x - last))
            }
            Self::RateLimit { max_delta } => {
                remembered(value, last, |last, x| x.clamp(last - max_delta, last + max_delta))
            }
            Self::Threshold { value: limit, mode } => match value.number() {
                Some(x) => Datum::Bool(match mode {
                    ThresholdMode::Above => x > *limit,
                    ThresholdMode::Below => x < *limit,
                    ThresholdMode::Equal => x == *limit,
                }),
                None => value,
            },
            Self::Modulo { divisor } => whole(value, |x| x % divisor),
            Self::Abs {} => whole(value, f64::abs),
            Self::Negate {} => whole(value, |x| -x),
            Self::Power { exponent } => float(value, |x| x.powf(*exponent)),
            Self::Log { base: None } => float(value, f64::ln),
            Self::Log { base: Some(base) } => float(value, |x| x.log(*base)),
            Self::Round { decimals } => whole(value, |x| round(x, *decimals)),
            Self::Chain { transforms } => apply_all(transforms, value, last),
            Self::Conditional { condition, if_true, if_false } => {
                let (yes, no) = last.split_at_mut(if_true.memories());
                if condition.holds(&value) {
                    if_true.apply(value, yes)
                } else {
                    if_false.apply(value, no)
                }
            }
            Self::JsonPath { path } => json_path(path, value),
            Self::MapType { from_type, to_type } => map_type(*from_type, *to_type, value),
            Self::Bitwise { operation, operand } => match whole_part(&value) {
                Some(bits) => Datum::Int(bitwise(*operation, bits, operand.unwrap_or(0))),
                None => value,
            },
        }
    }

    /// Numbers that this step, with the steps inside it, remembers for each address.
    fn memories(&self) -> usize {
        match self {
            Self::Smooth { .. } | Self::RateLimit { .. } => 1,
            Self::Chain { transforms } => transforms.iter().map(Self::memories).sum(),
            Self::Conditional { if_true, if_false, .. } => if_true.memories() + if_false.memories(),
            _ => 0,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, why: &str| Err(ConfigError::new(key, why));
        match self {
            Self::Scale { from_min, from_max, to_min, to_max } => {
                let bounds = [
                    ("from_min", from_min),
                    ("from_max", from_max),
                    ("to_min", to_min),
                    ("to_max", to_max),
                ];
                match bounds.iter().find(|(_, bound)| !bound.is_finite()) {
                    Some((key, _)) => refuse(key, "must be a finite number"),
                    None if from_min == from_max => {
                        refuse("from_max", "is from_min, too: there is nothing to stretch")
                    }
                    None => Ok(()),
                }
            }
            // Also refuses NaN, which compares false and would make `clamp` panic.
            Self::Clamp { min, max } if min.is_nan() || max.is_nan() || min > max => {
                refuse("min", "must not be above max")
            }
            Self::Quantize { steps: 0 } => refuse("steps", "must be at least 1"),
            Self::Smooth { factor } if !(*factor > 0.0 && *factor <= 1.0) => {
                refuse("factor", "must be above 0 and at most 1")
            }
            Self::RateLimit { max_delta } if max_delta.is_nan() || *max_delta < 0.0 => {
                refuse("max_delta", "must not be negative")
            }
            Self::Modulo { divisor } if *divisor == 0.0 || divisor.is_nan() => {
                refuse("divisor", "must not be 0")
            }
            Self::Log { base: Some(base) } if base.is_nan() || *base <= 0.0 || *base == 1.0 => {
                refuse("base", "must be above 0 and not 1")
            }
            Self::Round { decimals } if *decimals > 15 => {
                refuse("decimals", "must be at most 15, which is all that a float has")
            }
            Self::Curve { curve_type: Curve::Bezier { x1, x2, .. } }
                if ![x1, x2].into_iter().all(|x| (0.0..=1.0).contains(x)) =>
            {
                let why = "x1 and x2 must lie in 0 to 1, or the curve would run backwards";
                refuse("curve_type", why)
            }
            Self::Bitwise { operation, operand } => check_bitwise(*operation, *operand),
            Self::JsonPath { path } if steps_of(path).any(str::is_empty) => {
                refuse("path", "looks like $.a.b[0]")
            }
            Self::Chain { transforms } => {
                each(transforms, Self::check).map_err(|error| error.below("transforms"))
            }
            Self::Conditional { condition, if_true, if_false } => {
                condition.check().map_err(|error| error.below("condition."))?;
                if_true.check().map_err(|error| error.below("if_true."))?;
                if_false.check().map_err(|error| error.below("if_false."))
            }
            _ => Ok(()),
        }
    }
}

fn float<'a>(value: Datum<'a>, change: impl FnOnce(f64) -> f64) -> Datum<'a> {
    value.number().map_or(value, |x| Datum::Float(change(x)))
}

/// As [`float`], but an int that stays whole stays an int.
fn whole<'a>(value: Datum<'a>, change: impl FnOnce(f64) -> f64) -> Datum<'a> {
    match value.number() {
        Some(x) => number_like(is_int(&value), change(x)),
        None => value,
    }
}

fn is_int(value: &Datum<'_>) -> bool {
    matches!(value, Datum::Int(_))
}

/// `x` as an int if it came from ints and is whole, else as a float.
pub(crate) fn number_like(from_int: bool, x: f64) -> Datum<'static> {
    /// Up to here every whole float is one int and the other way round.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if from_int && x.fract() == 0.0 && x.abs() <= EXACT {
        Datum::Int(x as i64)
    } else {
        Datum::Float(x)
    }
}

/// A value that is not finite passes by: it would stay in the memory for ever.
fn remembered<'a>(
    value: Datum<'a>,
    last: &mut [Option<f64>],
    change: impl FnOnce(f64, f64) -> f64,
) -> Datum<'a> {
    let (Some(x), [slot]) = (value.number(), last) else { return value };
    if !x.is_finite() {
        return value;
    }
    let next = slot.map_or(x, |last| change(last, x));
    *slot = Some(next);
    Datum::Float(next)
}

fn to_int(value: Datum<'_>) -> Datum<'_> {
    match value {
        Datum::Float(x) => Datum::Int(x as i64),
        Datum::Bool(flag) => Datum::Int(i64::from(flag)),
        other => other,
    }
}

fn to_float(value: Datum<'_>) -> Datum<'_> {
    match value {
        Datum::Int(x) => Datum::Float(x as f64),
        Datum::Bool(flag) => Datum::Float(f64::from(u8::from(flag))),
        other => other,
    }
}

fn lookup<'a>(
    table: &'a BTreeMap<String, Constant>,
    default: Option<&'a Constant>,
    value: Datum<'a>,
) -> Datum<'a> {
    let entry = value.text().and_then(|key| table.get(key.as_ref()));
    entry.or(default).map_or(value, Constant::datum)
}

fn round(x: f64, decimals: u32) -> f64 {
    let scale = 10_f64.powi(decimals as i32);
    let scaled = x * scale;
    // A number too large to have such digits would overflow on the way.
    if scaled.is_finite() { scaled.round() / scale } else { x }
}

/// Names and indices of `$.a.b[0]` or `a.b.0`, in order; an empty one is a mistake.
fn steps_of(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('$').map_or(path, |rest| rest.strip_prefix('.').unwrap_or(rest));
    let path = path.strip_prefix('[').unwrap_or(path);
    path.split('.').flat_map(|part| {
        let mut names = part.split('[');
        let first = names.next().unwrap_or("");
        std::iter::once(first.strip_suffix(']').unwrap_or(first))
            .chain(names.map(|index| index.strip_suffix(']').unwrap_or("")))
    })
}

fn json_path<'a>(path: &str, value: Datum<'a>) -> Datum<'a> {
    match value {
        Datum::Other(value) => {
            let found = steps_of(path).try_fold(value, |value, step| match step.parse::<usize>() {
                Ok(index) => value.array()?.nth(index),
                Err(_) => value.get(step),
            });
            found.map_or(Datum::Null, Datum::new)
        }
        Datum::Text(text) => {
            let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
                return Datum::Text(text);
            };
            let found = steps_of(path).try_fold(&json, |json, step| match step.parse::<usize>() {
                Ok(index) => json.get(index),
                Err(_) => json.get(step),
            });
            found.and_then(scalar).unwrap_or(Datum::Null)
        }
        other => other,
    }
}

fn scalar(json: &serde_json::Value) -> Option<Datum<'static>> {
    match json {
        serde_json::Value::Bool(flag) => Some(Datum::Bool(*flag)),
        serde_json::Value::Number(number) => {
            number.as_i64().map(Datum::Int).or_else(|| number.as_f64().map(Datum::Float))
        }
        serde_json::Value::String(text) => Some(Datum::Text(text.clone().into())),
        _ => None,
    }
}

fn map_type(from: Kind, to: Kind, value: Datum<'_>) -> Datum<'_> {
    match (from, &value) {
        (Kind::Int, Datum::Int(_))
        | (Kind::Float, Datum::Float(_))
        | (Kind::Bool, Datum::Bool(_))
        | (Kind::String, Datum::Text(_)) => {}
        _ => return value,
    }
    match (to, &value) {
        (Kind::Int, Datum::Text(text)) => text.trim().parse().map_or(value, Datum::Int),
        (Kind::Float, Datum::Text(text)) => text.trim().parse().map_or(value, Datum::Float),
        (Kind::Bool, Datum::Text(text)) => match text.trim() {
            "true" => Datum::Bool(true),
            "false" => Datum::Bool(false),
            _ => value,
        },
        (Kind::Bool, Datum::Int(_) | Datum::Float(_)) => {
            Datum::Bool(value.number().is_some_and(|x| x != 0.0))
        }
        (Kind::Int, _) => to_int(value),
        (Kind::Float, _) => to_float(value),
        (Kind::String, _) => match value.text().map(Cow::into_owned) {
            Some(text) => Datum::Text(text.into()),
            None => value,
        },
        (Kind::Bool, _) => value,
    }
}

fn whole_part(value: &Datum<'_>) -> Option<i64> {
    match *value {
        Datum::Int(bits) => Some(bits),
        Datum::Float(x) if x.is_finite() => Some(x as i64),
        _ => None,
    }
}

fn bitwise(operation: BitOperation, bits: i64, operand: i64) -> i64 {
    let count = u32::try_from(operand).unwrap_or(u32::MAX);
    let bit = 1_i64.checked_shl(count).unwrap_or(0);
    match operation {
        BitOperation::And => bits & operand,
        BitOperation::Or => bits | operand,
        BitOperation::Xor => bits ^ operand,
        BitOperation::Not => !bits,
        BitOperation::ShiftLeft => bits.checked_shl(count).unwrap_or(0),
        BitOperation::ShiftRight => bits >> count.min(63),
        BitOperation::GetBit => i64::from(bits & bit != 0),
        BitOperation::SetBit => bits | bit,
        BitOperation::ClearBit => bits & !bit,
    }
}

/// Checks each of a list; a mistake lies at `[number]` and its own key.
pub(crate) fn each<T>(
    list: &[T],
    check: impl Fn(&T) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let mut numbered = list.iter().enumerate();
    numbered.try_for_each(|(number, one)| {
        check(one).map_err(|error| error.below(&format!("[{number}].")))
    })
}

fn check_bitwise(operation: BitOperation, operand: Option<i64>) -> Result<(), ConfigError> {
    use BitOperation::{ClearBit, GetBit, Not, SetBit, ShiftLeft, ShiftRight};
    match (operation, operand) {
        (Not, _) => Ok(()),
        (_, None) => Err(ConfigError::new("operand", "is missing: this operation needs one")),
        (ShiftLeft | ShiftRight, Some(..0)) => {
            Err(ConfigError::new("operand", "a shift must not be negative"))
        }
        (GetBit | SetBit | ClearBit, Some(bit)) if !(0..64).contains(&bit) => {
            Err(ConfigError::new("operand", "a bit is counted from 0 to 63"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! Questions about a value, for transforms that choose.

use serde::Deserialize;

use crate::ConfigError;
use crate::datum::Datum;
use crate::expression::Expression;
use crate::transform::each;

/// As the configuration writes it: `{ type = "greater_than", value = 0.5 }`.
///
/// Numbers are compared as floats, so that 1 equals 1.0. A value that is no number answers no to
/// every comparison; only `not` and an expression can make a yes of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[serde(expecting = "a table such as { type = \"greater_than\", value = 0.5 }")]
pub enum Condition {
    GreaterThan {
        value: f64,
    },
    LessThan {
        value: f64,
    },
    /// At most `tolerance` away; by default exactly equal.
    Equals {
        value: f64,
        #[serde(default)]
        tolerance: f64,
    },
    /// Both ends belong to it.
    InRange {
        min: f64,
        max: f64,
    },
    /// Whether `expr`, in which `value` stands for the value, is true. A failing one is not.
    Expression {
        expr: Expression,
    },
    /// All of them; true without any.
    And {
        conditions: Vec<Condition>,
    },
    /// One of them; false without any.
    Or {
        conditions: Vec<Condition>,
    },
    Not {
        condition: Box<Condition>,
    },
}

impl Condition {
    pub fn holds(&self, value: &Datum<'_>) -> bool {
        let number = |test: &dyn Fn(f64) -> bool| value.number().is_some_and(test);
        match self {
            Self::GreaterThan { value } => number(&|x| x > *value),
            Self::LessThan { value } => number(&|x| x < *value),
            // Equal infinities have no difference to compare.
            Self::Equals { value, tolerance } => {
                number(&|x| x == *value || (x - value).abs() <= *tolerance)
            }
            Self::InRange { min, max } => number(&|x| (*min..=*max).contains(&x)),
            Self::Expression { expr } => expr.is_true(value),
            Self::And { conditions } => conditions.iter().all(|condition| condition.holds(value)),
            Self::Or { conditions } => conditions.iter().any(|condition| condition.holds(value)),
            Self::Not { condition } => !condition.holds(value),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Equals { tolerance, .. } if tolerance.is_nan() || *tolerance < 0.0 => {
                Err(ConfigError::new("tolerance", "must not be negative"))
            }
            Self::InRange { min, max } if min.is_nan() || max.is_nan() || min > max => {
                Err(ConfigError::new("min", "must not be above max"))
            }
            Self::And { conditions } | Self::Or { conditions } => {
                each(conditions, Self::check).map_err(|error| error.below("conditions"))
            }
            Self::Not { condition } => condition.check().map_err(|error| error.below("condition.")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(json: &str) -> Condition {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn conditions_answer_as_documented() {
        let int = Datum::Int;
        let float = Datum::Float;
        let text = || Datum::Text("on".into());
        let above = r#"{"type":"greater_than","value":5}"#;
        let below = r#"{"type":"less_than","value":5}"#;
        let equal = r#"{"type":"equals","value":1}"#;
        let near = r#"{"type":"equals","value":1,"tolerance":0.1}"#;
        let range = r#"{"type":"in_range","min":0,"max":10}"#;
        let not = r#"{"type":"not","condition":{"type":"in_range","min":0,"max":10}}"#;
        let and = r#"{"type":"and","conditions":[{"type":"greater_than","value":0},
            {"type":"less_than","value":2}]}"#;
        let or = r#"{"type":"or","conditions":[{"type":"less_than","value":0},
            {"type":"greater_than","value":2}]}"#;
        let expression = r#"{"type":"expression","expr":"value > 2 && value < 4"}"#;
        let spelled = r#"{"type":"expression","expr":"value == \"on\""}"#;
        let cases = [
            (above, int(6), true),
            (above, int(5), false),
            (above, float(5.5), true),
            (above, float(f64::NAN), false),
            (above, text(), false),
            (above, Datum::Bool(true), false),
            (below, int(4), true),
            (below, int(5), false),
            (below, Datum::Null, false),
            (equal, int(1), true),
            (equal, float(1.0), true),
            (equal, float(1.01), false),
            (near, float(1.05), true),
            (near, float(1.2), false),
            (range, int(0), true),
            (range, int(10), true),
            (range, float(10.1), false),
            (not, float(10.1), true),
            (not, int(3), false),
            (not, text(), true),
            (and, int(1), true),
            (and, int(3), false),
            (r#"{"type":"and","conditions":[]}"#, int(3), true),
            (or, int(3), true),
            (or, int(-1), true),
            (or, int(1), false),
            (r#"{"type":"or","conditions":[]}"#, int(3), false),
            (expression, int(3), true),
            (expression, int(5), false),
            (expression, text(), false),
            (spelled, text(), true),
            (spelled, int(1), false),
        ];
        for (json, value, holds) in cases {
            assert_eq!(condition(json).holds(&value), holds, "{json} of {value:?}");
        }
    }

    #[test]
    fn conditions_that_can_never_mean_anything_are_refused() {
        for json in [
            r#"{"type":"equals","value":1,"tolerance":-1}"#,
            r#"{"type":"in_range","min":2,"max":1}"#,
            r#"{"type":"not","condition":{"type":"in_range","min":2,"max":1}}"#,
            r#"{"type":"or","conditions":[{"type":"in_range","min":2,"max":1}]}"#,
        ] {
            assert!(condition(json).check().is_err(), "{json}");
        }
        for json in [
            r#"{"type":"expression","expr":"value >"}"#,
            r#"{"type":"less_than","value":1,"tolerance":2}"#,
            r#"{"type":"smaller"}"#,
        ] {
            assert!(serde_json::from_str::<Condition>(json).is_err(), "{json}");
        }
    }
}

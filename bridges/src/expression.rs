//! One formula over `value`, parsed when the configuration is read.

use std::fmt;

use evalexpr::{Context, EvalexprError, EvalexprResult, Node};
use serde::Deserialize;

use crate::datum::Datum;

/// A longer formula takes long to read: some of its parser's work grows with the square.
const BYTES_MAX: usize = 4_096;

/// Operators and parentheses inside each other: each takes a piece of the stack when it is
/// computed. A sum of so many terms lies as deep.
const DEPTH_MAX: usize = 256;

/// A parsed formula. Numbers enter it as floats, so that `value / 2` never divides as ints do.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Expression {
    text: String,
    tree: Node,
}

/// The same text is the same formula.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TryFrom<String> for Expression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > BYTES_MAX {
            return Err(format!("{} bytes are too long: at most {BYTES_MAX}", text.len()));
        }
        if text.trim().is_empty() {
            let why = "is empty: write a formula such as `value * 2`, or leave the step out";
            return Err(why.to_owned());
        }
        let tree = evalexpr::build_operator_tree(&text).map_err(|error| error.to_string())?;
        if !is_shallow(&tree) {
            return Err(format!("operators lie deeper than {DEPTH_MAX} inside each other"));
        }
        if let Some(other) = tree.iter_variable_identifiers().find(|name| *name != "value") {
            return Err(format!("`{other}` is not known here: the only variable is `value`"));
        }
        // The parser overlooks missing operands and unknown functions; a trial run does not. A
        // formula for texts fails on the trial's number in other ways, which are no mistake.
        match tree.eval_with_context(&Only { value: evalexpr::Value::Float(0.5) }) {
            Err(
                mistake @ (EvalexprError::WrongOperatorArgumentAmount { .. }
                | EvalexprError::WrongFunctionArgumentAmount { .. }
                | EvalexprError::FunctionIdentifierNotFound(_)
                | EvalexprError::ContextNotMutable),
            ) => Err(mistake.to_string()),
            _ => Ok(Self { text, tree }),
        }
    }
}

/// Whether nothing lies deeper than [`DEPTH_MAX`]. Looks at one layer after the other, which takes
/// no stack.
fn is_shallow(tree: &Node) -> bool {
    let mut layer = vec![tree];
    for _ in 0..=DEPTH_MAX {
        layer = layer.iter().flat_map(|node| node.children()).collect();
        if layer.is_empty() {
            return true;
        }
    }
    false
}

impl Expression {
    /// The formula's result, or `value` itself where it has none.
    pub fn apply<'a>(&self, value: Datum<'a>) -> Datum<'a> {
        match self.evaluate(&value) {
            Some(evalexpr::Value::Boolean(flag)) => Datum::Bool(flag),
            Some(evalexpr::Value::Int(number)) => Datum::Int(number),
            Some(evalexpr::Value::Float(number)) => Datum::Float(number),
            Some(evalexpr::Value::String(text)) => Datum::Text(text.into()),
            Some(evalexpr::Value::Tuple(_) | evalexpr::Value::Empty) | None => value,
        }
    }

    pub fn is_true(&self, value: &Datum<'_>) -> bool {
        self.evaluate(value) == Some(evalexpr::Value::Boolean(true))
    }

    fn evaluate(&self, value: &Datum<'_>) -> Option<evalexpr::Value> {
        let value = match value {
            Datum::Null => evalexpr::Value::Empty,
            Datum::Bool(flag) => evalexpr::Value::Boolean(*flag),
            Datum::Int(number) => evalexpr::Value::Float(*number as f64),
            Datum::Float(number) => evalexpr::Value::Float(*number),
            Datum::Text(text) => evalexpr::Value::String(text.clone().into_owned()),
            Datum::Other(_) => return None,
        };
        self.tree.eval_with_context(&Only { value }).ok()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// A context that knows one variable, without the hash map and the copies of the library's own.
struct Only {
    value: evalexpr::Value,
}

impl Context for Only {
    fn get_value(&self, identifier: &str) -> Option<&evalexpr::Value> {
        (identifier == "value").then_some(&self.value)
    }

    /// Hides two built-in functions that overflow, and so panic in a debug build.
    fn call_function(
        &self,
        identifier: &str,
        _: &evalexpr::Value,
    ) -> EvalexprResult<evalexpr::Value> {
        match identifier {
            "shl" | "shr" => {
                Err(EvalexprError::CustomMessage("the transform `bitwise` shifts".into()))
            }
            _ => Err(EvalexprError::FunctionIdentifierNotFound(identifier.into())),
        }
    }

    fn are_builtin_functions_disabled(&self) -> bool {
        false
    }

    fn set_builtin_functions_disabled(&mut self, _: bool) -> EvalexprResult<()> {
        Err(EvalexprError::BuiltinFunctionsCannotBeDisabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_computes_and_leaves_alone_what_it_cannot() {
        let other = Datum::Text("loud".into());
        let cases = [
            ("value * 2", Datum::Int(3), Datum::Float(6.0)),
            ("value / 2", Datum::Int(3), Datum::Float(1.5)),
            ("value ^ 2 + 1", Datum::Float(3.0), Datum::Float(10.0)),
            ("math::sqrt(value)", Datum::Float(9.0), Datum::Float(3.0)),
            ("min(max(value, 0.0), 1.0)", Datum::Float(7.0), Datum::Float(1.0)),
            ("if(value > 0.5, 255, 0)", Datum::Float(0.6), Datum::Int(255)),
            ("value > 0.5", Datum::Float(0.6), Datum::Bool(true)),
            ("!value", Datum::Bool(true), Datum::Bool(false)),
            ("value + \"er\"", other.clone(), Datum::Text("louder".into())),
            ("value * 2", other.clone(), other),
            ("value / 0", Datum::Float(1.0), Datum::Float(f64::INFINITY)),
            ("shl(1, 200)", Datum::Int(5), Datum::Int(5)),
            ("()", Datum::Int(5), Datum::Int(5)),
            ("value * 2", Datum::Null, Datum::Null),
        ];
        for (text, value, result) in cases {
            let expression = Expression::try_from(text.to_string()).expect(text);
            assert_eq!(expression.apply(value.clone()), result, "{text} of {value:?}");
        }
    }

    #[test]
    fn a_formula_may_be_as_deep_and_as_long_as_it_says() {
        let sum = format!("value{}", " + 1".repeat(DEPTH_MAX - 2));
        let deep = format!("{}value{}", "(".repeat(200), ")".repeat(200));
        let long = format!("value{}", " ".repeat(BYTES_MAX - 5));
        for (text, result) in [(sum, 254.5), (deep, 0.5), (long, 0.5)] {
            let computed = Expression::try_from(text.clone()).map(|it| it.apply(Datum::Float(0.5)));
            assert_eq!(computed, Ok(Datum::Float(result)), "{text}");
        }
    }

    #[test]
    fn a_formula_that_cannot_be_read_is_refused_with_its_reason() {
        let cases = [
            ("value * (2", "parenthesis"),
            ("value *", "arguments"),
            ("velocity * 2", "velocity"),
            ("sqroot(value)", "sqroot"),
            (&format!("{}value{}", "(".repeat(2_000), ")".repeat(2_000)), "deeper than 256"),
            (&format!("{}value", "-".repeat(2_000)), "deeper than 256"),
            (&format!("{}value", "2 ^ ".repeat(1_000)), "deeper than 256"),
            (&format!("value{}", " + 1".repeat(20_000)), "at most 4096"),
        ];
        for (text, reason) in cases {
            let error = Expression::try_from(text.to_string()).expect_err(text).to_string();
            assert!(error.to_lowercase().contains(reason), "{text}: {error}");
        }
    }
}

//! Reads the table of a bridge, and says at which of its keys that fails.
//!
//! serde tells what is wrong but not where, and what is `tagged` or `untagged` it reads from a copy
//! that has lost its place. So the place is searched: what stands behind the first mistake is never
//! read, so the shortest beginning of which the same is said ends with the mistake.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::ConfigError;
use crate::words::{explain, one_of};

/// The key that is named where the table as a whole is wrong.
pub const WHOLE_TABLE: &str = "bridge";

/// Reads the table of one bridge, or says which key is wrong and what would be right.
pub fn read<C: DeserializeOwned>(mut table: Value) -> Result<C, ConfigError> {
    if let Ok(config) = C::deserialize(&table) {
        return Ok(config);
    }
    // What chooses among the forms of a table is read before the rest.
    put_types_first(&mut table);
    let outcome = |table: &Value| C::deserialize(table).err().map(|error| error.to_string());
    let said = match C::deserialize(&table) {
        Ok(config) => return Ok(config),
        Err(error) => error.to_string(),
    };
    let mut search = Search { table, outcome: &outcome, said: said.clone() };
    let place = search.place();
    let found = search.at(&place).map(|value| describe(value)).unwrap_or_default();
    let key = match place.as_slice() {
        [] => WHOLE_TABLE.to_owned(),
        steps => written(steps),
    };
    if said.ends_with("expected string or map")
        && let Some(known) = search.words_at(&place)
    {
        return Err(ConfigError::new(key, format!("{found} should be {known}")));
    }
    Err(ConfigError::new(key, explain(&found, &said)))
}

/// One step from a table or a list to what it holds.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, ".{key}"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// As a person names it: `route[0].transform[1].min`.
fn written(steps: &[Step]) -> String {
    let text: String = steps.iter().map(Step::to_string).collect();
    text.trim_start_matches('.').to_owned()
}

struct Search<'a> {
    table: Value,
    /// What serde says of a table; `None`: nothing.
    outcome: &'a dyn Fn(&Value) -> Option<String>,
    /// What it says of `table`.
    said: String,
}

impl Search<'_> {
    fn place(&mut self) -> Vec<Step> {
        let missing = self.said.strip_prefix("missing field `");
        let missing = missing.and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
        let mut place = Vec::new();
        loop {
            // A key is missed at the end of its table, after all that the table holds.
            if missing.as_deref().is_some_and(|key| self.takes_notice(&place, key)) {
                return place;
            }
            match self.next_step(&place, usize::from(missing.is_some())) {
                Some(step) => place.push(step),
                None => return place,
            }
        }
    }

    /// What of the table or list at `place` holds the mistake; nothing behind it is left. `None`:
    /// it is not in there.
    fn next_step(&mut self, place: &[Step], least: usize) -> Option<Step> {
        let whole = self.at(place)?.clone();
        let steps = steps_into(&whole);
        let lens: Vec<_> = (least..=steps.len()).collect();
        let short = lens.partition_point(|len| {
            let beginning = beginning(&whole, *len);
            self.differs(place, |inside| *inside = beginning)
        });
        let len = *lens.get(short)?;
        *self.at(place)? = beginning(&whole, len);
        steps.into_iter().nth(len.checked_sub(1)?)
    }

    /// Whether the table at `place` would take `key`, or refuse it.
    fn takes_notice(&mut self, place: &[Step], key: &str) -> bool {
        self.differs(place, |inside| {
            if let Value::Object(map) = inside {
                map.entry(key).or_insert(Value::Null);
            }
        })
    }

    fn differs(&mut self, place: &[Step], change: impl FnOnce(&mut Value)) -> bool {
        let Some(inside) = self.at(place) else { return false };
        let kept = inside.clone();
        change(inside);
        let outcome = (self.outcome)(&self.table);
        if let Some(inside) = self.at(place) {
            *inside = kept;
        }
        outcome.as_ref() != Some(&self.said)
    }

    /// The words that may stand at `place`.
    fn words_at(&mut self, place: &[Step]) -> Option<String> {
        *self.at(place)? = json!("");
        one_of(&(self.outcome)(&self.table)?)
    }

    fn at(&mut self, place: &[Step]) -> Option<&mut Value> {
        place.iter().try_fold(&mut self.table, into)
    }
}

fn into<'v>(value: &'v mut Value, step: &Step) -> Option<&'v mut Value> {
    match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    }
}

fn steps_into(value: &Value) -> Vec<Step> {
    match value {
        Value::Object(map) => map.keys().cloned().map(Step::Key).collect(),
        Value::Array(list) => (0..list.len()).map(Step::Index).collect(),
        _ => Vec::new(),
    }
}

/// What a table or a list holds first.
fn beginning(value: &Value, len: usize) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().take(len);
            Value::Object(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        Value::Array(list) => list.iter().take(len).cloned().collect(),
        other => other.clone(),
    }
}

fn put_types_first(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let kind = map.shift_remove("type").map(|kind| ("type".to_owned(), kind));
            *map = kind.into_iter().chain(std::mem::take(map)).collect::<Map<_, _>>();
            map.values_mut().for_each(put_types_first);
        }
        Value::Array(list) => list.iter_mut().for_each(put_types_first),
        _ => {}
    }
}

/// A value in serde's own words.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nan or inf".to_owned(),
        Value::Bool(flag) => format!("boolean `{flag}`"),
        Value::Number(number) if number.is_f64() => format!("floating point `{number}`"),
        Value::Number(number) => format!("integer `{number}`"),
        Value::String(text) => format!("string {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{osc, patch, routes};

    fn told<C: DeserializeOwned>(table: Value) -> String {
        read::<C>(table).err().expect("a mistake").to_string()
    }

    #[test]
    fn a_mistake_of_a_route_is_told_under_its_key_with_what_would_be_right() {
        let scale = json!({"type": "scale", "from_min": 0, "from_max": 1, "to_min": 0});
        let with = |key: &str, value: Value| {
            let mut scale = scale.clone();
            scale[key] = value;
            json!({"from": "/a", "to": "/b", "transform": [{"type": "invert"}, scale]})
        };
        let one = |key: &str, value: Value| {
            let mut route = json!({"from": "/a", "to": "/b"});
            route[key] = value;
            route
        };
        let deep = json!([{"type": "chain", "transforms": [
            {"type": "conditional", "condition": {"type": "equals", "value": "1"},
                "if_true": {"type": "invert"}, "if_false": {"type": "invert"}}]}]);
        let cases = [
            (
                one("from", json!(1)),
                "from: integer `1` should be a pattern such as \"/desk/*\", or a list of them",
            ),
            (one("from", json!(["/a", 1])), "from[1]: integer `1` should be a pattern such as"),
            (one("to", json!(["/a"])), "to: a list should be a \"text\" in quotes"),
            (
                one("aggregate", json!("average")),
                "aggregate: string \"average\" should be a table such as { type = \"average\" }",
            ),
            (
                one("aggregate", json!({"type": "avg"})),
                "aggregate.type: unknown value `avg`: known are average, sum",
            ),
            (
                one("transform", json!(["invert"])),
                "transform[0]: string \"invert\" should be a table such as { type = \"invert\" }",
            ),
            (one("transform", json!({"type": "invert"})), "transform: a table should be a [list]"),
            (one("transform", json!([{"min": 1}])), "transform[0]: key `type` is missing"),
            (
                one("write", json!(1)),
                "write: integer `1` should be one of \"param\", \"event\", \"stream\", \"same\"",
            ),
            (one("write", json!("gesture")), "write: unknown value `gesture`: known are param"),
            (
                one("transfrom", json!([])),
                "transfrom: unknown key `transfrom`: did you mean `transform`?",
            ),
            (one("priority", json!(300)), "priority: integer `300` should be a whole number from"),
            (with("to_max", json!("1")), "transform[1].to_max: string \"1\" should be a number"),
            (with("to_max", json!(null)), "transform[1].to_max: nan or inf should be a number"),
            (with("from_min", json!([])), "transform[1].from_min: a list should be a number"),
            (
                with("to_mx", json!(1)),
                "transform[1].to_mx: unknown key `to_mx`: did you mean `to_max`?",
            ),
            (one("transform", json!([scale])), "transform[0]: key `to_max` is missing"),
            (
                one("transform", deep),
                "transform[0].transforms[0].condition.value: string \"1\" should be a number",
            ),
            (
                one("transform", json!([{"type": "lookup", "table": {"a": 1, "b": {}}}])),
                "transform[0].table.b: a table should be a number, a text in quotes, true or false",
            ),
            (
                one("transform", json!([{"type": "expression", "expr": "value +"}])),
                "transform[0].expr: An operator expected 2 arguments",
            ),
            (
                one("transform", json!([{"type": "expression", "expr": " "}])),
                "transform[0].expr: is empty: write a formula such as `value * 2`",
            ),
            (json!({"to": "/b", "transform": [scale]}), "transform[0]: key `to_max` is missing"),
            (json!({"to": "/b", "transform": []}), "key `from` is missing"),
            (json!("/a"), "string \"/a\" should be a table such as { from = \"/a/*\""),
        ];
        // Behind one that is right, and before one that is not.
        for (route, said) in cases {
            let right = one("priority", json!(100));
            let table = json!({"addresses_max": 7, "route": [right, route, {"from": 1}]});
            let said = match said.starts_with("key") || said.starts_with("string") {
                true => format!("route[1]: {said}"),
                false => format!("route[1].{said}"),
            };
            let told = told::<routes::Config>(table);
            assert!(told.starts_with(&said), "{told}, not {said}");
        }
    }

    #[test]
    fn a_mistake_far_down_a_long_list_is_found() {
        let mut routes: Vec<_> =
            (0..1_000).map(|n| json!({"from": format!("/a/{n}"), "to": "/b"})).collect();
        routes[777]["to"] = json!(1);
        let told = told::<routes::Config>(json!({"route": routes}));
        assert_eq!(told, "route[777].to: integer `1` should be a \"text\" in quotes");
    }

    #[test]
    fn a_mistake_of_any_table_says_which_forms_are_right() {
        let reply = "should be a port such as 9000, or \"sender\"";
        for (found, named) in
            [(json!("sendr"), "string \"sendr\""), (json!(70000), "integer `70000`")]
        {
            let told = told::<osc::Config>(json!({"name": "a", "reply": found}));
            assert_eq!(told, format!("reply: {named} {reply}"));
        }
        let told_of_osc = told::<osc::Config>(json!({"multicast": ["10.0.0.x"]}));
        let right = "an IP address such as \"0.0.0.0\" or \"::1\"";
        assert_eq!(told_of_osc, format!("multicast[0]: string \"10.0.0.x\" should be {right}"));
        let told = told::<patch::Config>(json!({"patch": [{"fixture": "/a", "at": 1}]}));
        assert_eq!(told, "patch[0]: key `universe` is missing");
    }
}

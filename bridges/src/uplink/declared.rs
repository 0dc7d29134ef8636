//! What the router arbitrates, as it says itself when it is asked for `/clasp/arbitration`.

use clasp_rt_core::message::ParamValue;
use clasp_rt_core::pattern;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Params;

/// What is asked for: the router's `core/src/shard/declare.rs` has its keys.
pub(super) const ARBITRATION: &str = "/clasp/arbitration";

/// Who wins the addresses of a pattern, as far as that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pattern: String,
    /// Among equals the latest change wins, not a level.
    pub(super) is_latest: bool,
}

/// What is known of it.
#[derive(Default)]
pub(super) struct Declared {
    is_asked_for: bool,
    is_known: bool,
    is_new: bool,
    /// The first that matches an address counts.
    rules: Vec<Rule>,
    /// Of what this session writes, where the configuration of the router says it.
    pub(super) priority: Option<u8>,
}

impl Declared {
    /// `None`: the router is asked.
    pub(super) fn new(patterns: Option<&[String]>) -> Self {
        let rule = |pattern: &String| Rule { pattern: pattern.clone(), is_latest: false };
        Self {
            is_asked_for: patterns.is_none(),
            is_known: patterns.is_some(),
            rules: patterns.unwrap_or_default().iter().map(rule).collect(),
            ..Self::default()
        }
    }

    pub(super) fn is_asked_for(&self) -> bool {
        self.is_asked_for
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    pub(super) fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    pub(super) fn rule_of(&self, address: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| pattern::matches(&rule.pattern, address))
    }

    /// Whether a SNAPSHOT is the router's answer.
    pub(super) fn is_in(params: &Params<'_>) -> bool {
        answer(params).is_some()
    }

    /// Takes the answer over, as it concerns the session `name`. What is wrong in it is left out.
    pub(super) fn read(&mut self, params: &Params<'_>, name: &str) {
        let Some(answer) = answer(params).filter(|_| self.is_asked_for) else { return };
        let list = |key| answer.value.get(key).and_then(Value::array).into_iter().flatten();
        let rules: Vec<_> = list("arbitration").filter_map(rule).collect();
        let is_of = |source: &Value<'_>| {
            let pattern = source.get("name").and_then(Value::as_str);
            pattern.is_some_and(|pattern| pattern::segment_matches(pattern, name))
        };
        let priority = list("source").find(is_of).and_then(|source| source.get("priority"));
        let priority = priority.and_then(Value::as_i64).and_then(|it| u8::try_from(it).ok());
        self.is_new = !self.is_known || rules != self.rules || priority != self.priority;
        (self.is_known, self.rules, self.priority) = (true, rules, priority);
    }
}

fn answer<'a>(params: &Params<'a>) -> Option<ParamValue<'a>> {
    params.iter().next().filter(|first| first.address == ARBITRATION)
}

fn rule(table: Value<'_>) -> Option<Rule> {
    let pattern = table.get("pattern")?.as_str()?.to_owned();
    Some(Rule { pattern, is_latest: table.get("rule").and_then(Value::as_str) == Some("ltp") })
}

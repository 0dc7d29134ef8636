//! `[[arbitration]]` and `[[source]]`: who wins an address, read from the file and told in words.
//!
//! The words are the declaration that E1.31 asks of whoever merges sources: how the priority, the
//! levels and the loss of a source decide what is put out.

use std::fmt::Write as _;

use clasp_rt_bridges::json;
use clasp_rt_core::pattern;
use clasp_rt_core::shard::{Arbitration, OnLoss, Order, Settings, SourceFor};
use clasp_rt_core::time::Span;
use clasp_rt_core::value::Value;
use serde::Deserialize;

use crate::config::Config;
use crate::plan::{PlanError, error};

/// As sACN has it; the same for sources of any protocol.
const PRIORITY_MAX: u8 = 200;
const PRIORITY: u8 = 100;
/// A fade or time-out beyond a day is a slip of the finger.
const TIME_MAX: Span = Span::from_secs(86_400);
/// Tables of one file.
const TABLES_MAX: usize = 1_024;

/// `[[arbitration]]`: who wins the addresses of a pattern, whatever protocol its sources speak. The
/// first pattern that matches an address counts; such an address follows no `[[rule]]`.
/// What changes takes over at SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArbitrationAsWritten {
    pub pattern: String,
    /// Who wins among sources of equal priority: `htp` the highest value, `ltp` the latest change,
    /// `lowest` the lowest value. Default `htp`.
    #[serde(default)]
    pub rule: OrderName,
    /// A source that says nothing of an address for so long has lost it, such as `"2.5s"`. Default
    /// `"0s"`: as long as its session lives.
    pub timeout: Option<Time>,
    /// What becomes of an address whose last source is lost: `hold`, `set` or `fade`. Default
    /// `hold`.
    #[serde(default)]
    pub on_loss: OnLossName,
    /// Where `set` and `fade` lead: a number, a switch, a text, a list.
    pub value: Option<serde_json::Value>,
    /// How long a `fade` takes, such as `"3s"`.
    pub fade: Option<Time>,
    /// Priority of sources that declare none, 0-200. Default 100.
    pub default_priority: Option<u8>,
}

/// `[[source]]`: the priority of what a session writes, by the name that it gave in HELLO, of which
/// 63 bytes count. The first name that fits counts. What changes takes over at SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceAsWritten {
    /// Each `*` is any run of characters.
    pub name: String,
    /// 0-200; the higher one wins.
    pub priority: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderName {
    #[default]
    Htp,
    Ltp,
    Lowest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLossName {
    #[default]
    Hold,
    Set,
    Fade,
}

/// A length of time as people write it: `"2.5s"`, `"300ms"`, `"1m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Span);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.trim_end_matches(|c: char| c.is_alphabetic() || c == ' ');
        let unit_us = match text[number.len()..].trim() {
            "ms" => 1e3,
            "s" => 1e6,
            "m" | "min" => 60e6,
            unit => return Err(format!("`{unit}` is not a unit: write `300ms`, `2.5s` or `1m`")),
        };
        let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a time"))?;
        let us = number * unit_us;
        if !(0.0..=TIME_MAX.as_micros() as f64).contains(&us) {
            return Err(format!("`{text}` is not within 0 and 24 hours"));
        }
        Ok(Self(Span::from_micros(us.round() as u64)))
    }
}

/// What the shards are told, or each key that is wrong.
pub fn arbitrations(config: &Config, errors: &mut Vec<PlanError>) -> Vec<Arbitration> {
    if config.arbitrations.len() > TABLES_MAX {
        errors.push(error("arbitration", format!("at most {TABLES_MAX} of them")));
    }
    let tables = config.arbitrations.iter().enumerate();
    tables.filter_map(|(index, written)| arbitration(index, written, errors)).collect()
}

fn arbitration(
    index: usize,
    written: &ArbitrationAsWritten,
    errors: &mut Vec<PlanError>,
) -> Option<Arbitration> {
    let before = errors.len();
    let mut wrong = |key: &str, why: String| {
        errors.push(error(format!("arbitration[{index}].{key}"), why));
    };
    if let Err(why) = pattern::check(&written.pattern) {
        wrong("pattern", format!("`{}`: {why}", written.pattern));
    }
    let default_priority = written.default_priority.unwrap_or(PRIORITY);
    if default_priority > PRIORITY_MAX {
        wrong("default_priority", format!("{default_priority} is not within 0 and 200"));
    }
    let value = written.value.as_ref().map(encoded).transpose();
    let value = value.unwrap_or_else(|why| {
        wrong("value", why);
        None
    });
    let on_loss = match (written.on_loss, value, written.fade) {
        (OnLossName::Hold, None, None) => OnLoss::Hold,
        (OnLossName::Set, Some(value), None) => OnLoss::Set { value },
        (OnLossName::Fade, Some(value), Some(Time(over))) if over > Span::ZERO => {
            OnLoss::Fade { value, over }
        }
        (OnLossName::Hold, ..) => {
            wrong("on_loss", "hold keeps the value: leave `value` and `fade` out".to_owned());
            OnLoss::Hold
        }
        (OnLossName::Set, None, _) | (OnLossName::Fade, None, _) => {
            if written.value.is_none() {
                wrong("value", "is missing: where to, such as `value = 0`".to_owned());
            }
            OnLoss::Hold
        }
        (OnLossName::Set, ..) => {
            wrong("fade", "set is at once: write `on_loss = \"fade\"`, or leave it out".to_owned());
            OnLoss::Hold
        }
        (OnLossName::Fade, ..) => {
            wrong("fade", "is missing: how long, such as `fade = \"3s\"`".to_owned());
            OnLoss::Hold
        }
    };
    let timeout = written.timeout.map(|Time(span)| span).filter(|span| *span > Span::ZERO);
    (errors.len() == before).then(|| Arbitration {
        pattern: written.pattern.clone(),
        order: match written.rule {
            OrderName::Htp => Order::Highest,
            OrderName::Ltp => Order::Latest,
            OrderName::Lowest => Order::Lowest,
        },
        timeout,
        on_loss,
        default_priority,
    })
}

fn encoded(value: &serde_json::Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    json::push_value(value, &mut bytes).map_err(|why| why.to_string())?;
    Ok(bytes)
}

/// What the shards are told of sessions' names.
pub fn sources(config: &Config, errors: &mut Vec<PlanError>) -> Vec<SourceFor> {
    if config.sources.len() > TABLES_MAX {
        errors.push(error("source", format!("at most {TABLES_MAX} of them")));
    }
    for (index, written) in config.sources.iter().enumerate() {
        if written.priority > PRIORITY_MAX {
            let why = format!("{} is not within 0 and 200", written.priority);
            errors.push(error(format!("source[{index}].priority"), why));
        }
        if written.name.is_empty() {
            errors.push(error(format!("source[{index}].name"), "is empty: no session fits it"));
        }
    }
    let tables = config.sources.iter();
    tables.map(|it| SourceFor { name: it.name.clone(), priority: it.priority }).collect()
}

/// How sources are merged, a sentence or two for each pattern: the declaration of E1.31.
pub fn declaration(settings: &Settings) -> Vec<String> {
    let mut lines: Vec<String> = settings.arbitrations.iter().map(declare).collect();
    for source in &settings.sources {
        lines.push(format!("sessions named {}: priority {}", source.name, source.priority));
    }
    lines
}

fn declare(arbitration: &Arbitration) -> String {
    let Arbitration { pattern, order, timeout, on_loss, default_priority } = arbitration;
    let order = match order {
        Order::Highest => "highest level",
        Order::Latest => "latest change",
        Order::Lowest => "lowest level",
    };
    let mut text = format!(
        "sources of {pattern}: highest priority wins (0-200, {default_priority} where none is \
         declared); equal priority: {order}; a source is lost "
    );
    // Writing to a string does not fail.
    let _ = match timeout {
        Some(timeout) => write!(text, "after {} or when it leaves", seconds(*timeout)),
        None => write!(text, "when it leaves"),
    };
    let _ = match on_loss {
        OnLoss::Hold => write!(text, "; without a source the last level is held"),
        OnLoss::Set { value } => write!(text, "; without a source it becomes {}", shown(value)),
        OnLoss::Fade { value, over } => {
            let over = seconds(*over);
            write!(text, "; without a source it fades to {} in {over}", shown(value))
        }
    };
    text
}

fn seconds(span: Span) -> String {
    format!("{} s", span.as_millis() as f64 / 1e3)
}

fn shown(encoded: &[u8]) -> String {
    let mut text = String::new();
    if let Ok(value) = Value::from_encoded(encoded) {
        json::push_text(value, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Vec<String>> {
        let (config, problems) = Config::parse(text);
        assert_eq!(problems, [], "{text}");
        let mut errors = Vec::new();
        let settings = Settings {
            arbitrations: arbitrations(&config, &mut errors),
            sources: sources(&config, &mut errors),
            ..Settings::default()
        };
        if errors.is_empty() {
            Ok(declaration(&settings))
        } else {
            Err(errors.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn what_is_configured_is_declared_in_words() {
        let lines = read(
            r#"
            [[arbitration]]
            pattern = "/rig/**"
            timeout = "2.5s"
            on_loss = "fade"
            value = 0
            fade = "3s"
            [[arbitration]]
            pattern = "/video/**"
            rule = "ltp"
            on_loss = "set"
            value = "black"
            default_priority = 50
            [[arbitration]]
            pattern = "/**"
            rule = "lowest"
            [[source]]
            name = "web*"
            priority = 80
            "#,
        );
        let expected = [
            "sources of /rig/**: highest priority wins (0-200, 100 where none is declared); equal \
             priority: highest level; a source is lost after 2.5 s or when it leaves; without a \
             source it fades to 0 in 3 s",
            "sources of /video/**: highest priority wins (0-200, 50 where none is declared); equal \
             priority: latest change; a source is lost when it leaves; without a source it becomes \
             \"black\"",
            "sources of /**: highest priority wins (0-200, 100 where none is declared); equal \
             priority: lowest level; a source is lost when it leaves; without a source the last \
             level is held",
            "sessions named web*: priority 80",
        ];
        assert_eq!(lines, Ok(expected.map(String::from).to_vec()));
    }

    #[test]
    fn a_wrong_table_is_refused_by_key_with_what_would_be_right() {
        let cases = [
            ("pattern = \"rig\"", "arbitration[0].pattern: `rig`"),
            ("pattern = \"/a\"\ndefault_priority = 201", "arbitration[0].default_priority: 201"),
            ("pattern = \"/a\"\non_loss = \"set\"", "arbitration[0].value: is missing"),
            ("pattern = \"/a\"\non_loss = \"fade\"\nvalue = 0", "arbitration[0].fade: is missing"),
            ("pattern = \"/a\"\nvalue = 0", "arbitration[0].on_loss: hold keeps the value"),
            (
                "pattern = \"/a\"\non_loss = \"set\"\nvalue = 0\nfade = \"1s\"",
                "arbitration[0].fade: set is at once",
            ),
        ];
        for (table, said) in cases {
            let errors = read(&format!("[[arbitration]]\n{table}")).unwrap_err();
            assert_eq!(errors.len(), 1, "{table}: {errors:?}");
            assert!(errors[0].starts_with(said), "{table}: {errors:?}");
        }
        let errors = read("[[source]]\nname = \"\"\npriority = 201").unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[test]
    fn times_are_written_with_their_unit() {
        let cases = [("2.5s", 2_500_000), ("300ms", 300_000), ("1 m", 60_000_000), ("0s", 0)];
        for (text, us) in cases {
            assert_eq!(Time::try_from(text.to_owned()), Ok(Time(Span::from_micros(us))), "{text}");
        }
        for text in ["", "5", "s", "-1s", "25h", "2000m", "nans"] {
            assert!(Time::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}

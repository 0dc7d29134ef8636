//! Which address a topic has and which topic an address, and how what is there is carried.

use std::ops::Range;

use clasp_rt_bridges::ConfigError;
use clasp_rt_bridges::map::{Pattern, Template};
use serde::Deserialize;

use super::config::check_namespace;
use super::payload::Form;
use super::topic::{FILTER_RULES, Filter, push_path, push_topic};

/// One entry of `map`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "a table such as { topic = \"sensors/+/temp\", qos = 1 }")]
pub struct RuleAsWritten {
    /// The filter of its topics, such as `sensors/+/temp`.
    pub topic: String,
    /// Where they are, with as many wildcards: `/room/*/temp`. Default: the topic behind the
    /// namespace.
    pub address: Option<String>,
    /// 0 to 2. Default: that of the bridge.
    pub qos: Option<u8>,
    /// Default: that of the bridge.
    pub payload: Option<Form>,
    /// What a message of the broker becomes.
    #[serde(rename = "as")]
    pub kind: Kind,
    pub direction: Direction,
}

/// What a message of the broker becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Retained is a param, all else an event. A topic that was seen retained stays a param: a
    /// broker does not say of news whether they will be kept (with MQTT 5 it does).
    #[default]
    Auto,
    Param,
    Event,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    #[default]
    Both,
    /// From the broker to the router.
    In,
    /// From the router to the broker.
    Out,
}

/// How messages of some topics are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub qos: u8,
    pub payload: Form,
    pub kind: Kind,
    pub direction: Direction,
}

impl Rule {
    pub fn defaults(qos: u8, payload: Form) -> Result<Self, ConfigError> {
        let qos = check_qos("qos", qos)?;
        Ok(Self { qos, payload, kind: Kind::Auto, direction: Direction::Both })
    }
}

fn check_qos(key: &str, qos: u8) -> Result<u8, ConfigError> {
    if qos > 2 {
        return Err(ConfigError::new(key, format!("{qos}: a quality of service is 0, 1 or 2")));
    }
    Ok(qos)
}

/// Every rule, the first that fits decides; none means the namespace and the defaults.
#[derive(Clone, Debug)]
pub struct Rules {
    namespace: String,
    rules: Vec<Mapped>,
    defaults: Rule,
}

#[derive(Clone, Debug)]
struct Mapped {
    filter: Filter,
    /// As it was written.
    written: String,
    rule: Rule,
    /// Where its topics are, if not behind the namespace.
    place: Option<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    topics: Pattern,
    to_address: Template,
    addresses: Pattern,
    to_topic: Template,
}

impl Rules {
    pub fn new(
        namespace: &str,
        written: &[RuleAsWritten],
        defaults: Rule,
    ) -> Result<Self, ConfigError> {
        check_namespace(namespace)?;
        let rules = written.iter().enumerate().map(|(index, rule)| {
            let at = |key: &str| format!("map[{index}].{key}");
            let topic = &rule.topic;
            let wrong = || ConfigError::new(at("topic"), format!("`{topic}`: {FILTER_RULES}"));
            let filter = Filter::parse(topic).ok_or_else(wrong)?;
            let place = rule.address.as_deref().map(|address| place(&filter, address, at));
            Ok(Mapped {
                written: topic.clone(),
                rule: Rule {
                    qos: check_qos(&at("qos"), rule.qos.unwrap_or(defaults.qos))?,
                    payload: rule.payload.unwrap_or(defaults.payload),
                    kind: rule.kind,
                    direction: rule.direction,
                },
                place: place.transpose()?,
                filter,
            })
        });
        let rules = rules.collect::<Result<_, ConfigError>>()?;
        Ok(Self { namespace: namespace.to_owned(), rules, defaults })
    }

    /// What the broker must be asked for, beside `subscribe`.
    pub fn filters(&self) -> impl Iterator<Item = (Filter, String, u8)> + '_ {
        let wanted = self.rules.iter().filter(|mapped| mapped.rule.direction != Direction::Out);
        wanted.map(|mapped| (mapped.filter.clone(), mapped.written.clone(), mapped.rule.qos))
    }

    /// What the router must be asked for, beside the namespace.
    pub fn patterns(&self) -> impl Iterator<Item = String> + '_ {
        let wanted = self.rules.iter().filter(|mapped| mapped.rule.direction != Direction::In);
        wanted.filter_map(|mapped| {
            mapped.place.as_ref().map(|place| place.addresses.subscription().to_owned())
        })
    }

    /// Appends the address of `topic`, and says how its messages are carried; `None`: it has none,
    /// or is not for the router.
    pub fn address(&self, topic: &str, out: &mut String) -> Option<Rule> {
        let mut path = String::new();
        push_path(topic, &mut path).then_some(())?;
        let mapped = self.rules.iter().find(|mapped| mapped.filter.means(topic));
        let rule = mapped.map_or(self.defaults, |mapped| mapped.rule);
        if rule.direction == Direction::Out {
            return None;
        }
        match mapped.and_then(|mapped| mapped.place.as_ref()) {
            Some(place) => {
                let mut captures: Vec<Range<usize>> = Vec::new();
                let found = place.topics.captures(&path, &mut captures);
                (found && place.to_address.fill(&path, &captures, out)).then_some(rule)
            }
            None => {
                out.push_str(&self.namespace);
                out.push_str(&path);
                clasp_rt_core::address::check(out).ok().map(|()| rule)
            }
        }
    }

    /// Appends the topic of `address`, and says how it is carried; `None`: it has none, or is not
    /// for the broker.
    pub fn topic(&self, address: &str, out: &mut String) -> Option<Rule> {
        let mut captures: Vec<Range<usize>> = Vec::new();
        for mapped in &self.rules {
            let Some(place) = &mapped.place else { continue };
            if place.addresses.captures(address, &mut captures) {
                let mut path = String::new();
                let filled = place.to_topic.fill(address, &captures, &mut path);
                let is_out = mapped.rule.direction != Direction::In;
                return (is_out && filled && push_topic(&path, out)).then_some(mapped.rule);
            }
        }
        let path = address.strip_prefix(&self.namespace)?;
        push_topic(path, out).then_some(())?;
        let mapped = self.rules.iter().find(|m| m.place.is_none() && m.filter.means(out));
        let rule = mapped.map_or(self.defaults, |mapped| mapped.rule);
        (rule.direction != Direction::In).then_some(rule)
    }
}

/// Pairs the wildcards of a filter with those of an address, in their order.
fn place(
    filter: &Filter,
    address: &str,
    at: impl Fn(&str) -> String,
) -> Result<Place, ConfigError> {
    let wrong = |why: String| ConfigError::new(at("address"), format!("`{address}`: {why}"));
    let topics =
        filter.path().ok_or_else(|| wrong("the topic is longer than an address".into()))?;
    if wildcards(&topics) != wildcards(address) {
        return Err(wrong(format!(
            "it must have the wildcards of `{}`: `*` for each `+`, `**` for `#`, in their order",
            filter.as_str()
        )));
    }
    let pattern = |text: &str| Pattern::new(text).map_err(|why| wrong(why.to_string()));
    let (topic_pattern, address_pattern) = (pattern(&topics)?, pattern(address)?);
    let template = |text: &str, from: &Pattern| {
        Template::new(&numbered(text), from).map_err(|why| wrong(why.to_string()))
    };
    Ok(Place {
        to_address: template(address, &topic_pattern)?,
        to_topic: template(&topics, &address_pattern)?,
        topics: topic_pattern,
        addresses: address_pattern,
    })
}

/// The whole segments that are wildcards, in their order.
fn wildcards(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| segment.contains('*')).collect()
}

/// `/room/*/temp` as what a template fills: `/room/{1}/temp`.
fn numbered(pattern: &str) -> String {
    let mut number = 0;
    let segments = pattern.split('/').map(|segment| match segment {
        "*" | "**" => {
            number += 1;
            format!("{{{number}}}")
        }
        other => other.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(map: serde_json::Value) -> Rules {
        let written: Vec<RuleAsWritten> = serde_json::from_value(map).expect("rules");
        let defaults = Rule::defaults(0, Form::Auto).expect("good");
        Rules::new("/mqtt", &written, defaults).expect("good")
    }

    fn address(rules: &Rules, topic: &str) -> Option<String> {
        let mut out = String::new();
        rules.address(topic, &mut out).map(|_| out)
    }

    fn topic(rules: &Rules, address: &str) -> Option<String> {
        let mut out = String::new();
        rules.topic(address, &mut out).map(|_| out)
    }

    #[test]
    fn topics_lie_behind_the_namespace_unless_a_rule_places_them() {
        let rules = rules(serde_json::json!([
            { "topic": "sensors/+/temp", "address": "/room/*/temperature" },
            { "topic": "zigbee/#", "address": "/house/**" },
            { "topic": "log/#", "direction": "in" },
            { "topic": "cmd/#", "direction": "out" },
        ]));
        let cases = [
            ("stage/cue", "/mqtt/stage/cue"),
            ("/a", "/mqtt/%/a"),
            ("sensors/kitchen/temp", "/room/kitchen/temperature"),
            ("zigbee/lamp/on", "/house/lamp/on"),
            ("sensors/a*b/temp", "/room/a%2Ab/temperature"),
        ];
        for (written, expected) in cases {
            assert_eq!(address(&rules, written).as_deref(), Some(expected));
            assert_eq!(topic(&rules, expected).as_deref(), Some(written));
        }
        assert_eq!(address(&rules, "log/x").as_deref(), Some("/mqtt/log/x"));
        assert_eq!(topic(&rules, "/mqtt/log/x"), None);
        assert_eq!(address(&rules, "cmd/x"), None);
        assert_eq!(topic(&rules, "/mqtt/cmd/x").as_deref(), Some("cmd/x"));
        assert_eq!(topic(&rules, "/mqttx/a"), None);
        assert_eq!(topic(&rules, "/mqtt"), None);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = rules(serde_json::json!([
            { "topic": "a/b", "qos": 2, "payload": "raw", "as": "event" },
            { "topic": "a/#", "qos": 1 },
        ]));
        let rule = |topic| rules.address(topic, &mut String::new()).expect("an address");
        assert_eq!((rule("a/b").qos, rule("a/b").payload), (2, Form::Raw));
        assert_eq!((rule("a/b").kind, rule("a/c").kind), (Kind::Event, Kind::Auto));
        assert_eq!((rule("a/c").qos, rule("b").qos), (1, 0));
    }
}

//! Every mistake of a bridge's table in one go.
//!
//! A bridge stops at its first mistake. So what it names is taken out, and the rest is tried again,
//! until it opens: what is said then only because something was taken out is not told.

use std::collections::BTreeSet;

use clasp_rt_bridges::ConfigError;
use clasp_rt_bridges::read::WHOLE_TABLE;
use serde_json::Value;

use crate::document::split_index;

pub type Options = serde_json::Map<String, Value>;

/// Mistakes of one table that are told at once.
const TOLD_MAX: usize = 32;

/// `first` and what else `wrong` finds in `options`, each under its key as it is written there.
pub fn all(
    options: &Options,
    first: ConfigError,
    wrong: impl Fn(&Options) -> Option<ConfigError>,
) -> Vec<ConfigError> {
    let mut left = options.clone();
    let mut out = TakenOut::default();
    let mut told = Vec::new();
    let mut next = Some(first);
    while let Some(ConfigError { key, why }) = next {
        let named = out.as_written(&key);
        if !out.explains(&named, &why) && !is_misspelt(&told, &named, &why) {
            if told.len() == TOLD_MAX {
                let why = "there are more mistakes; mend these first";
                told.push(ConfigError::new(WHOLE_TABLE, why));
                break;
            }
            told.push(ConfigError { key: named, why });
        }
        let steps: Vec<_> = key.split('.').collect();
        let Some(taken) = take(&mut left, &steps) else { break };
        out.note(&taken);
        next = wrong(&left);
    }
    told
}

/// What is no longer in the table.
#[derive(Default)]
struct TakenOut {
    /// As the file has them: `device[1].name`.
    paths: BTreeSet<String>,
    /// Elements of lists, whose followers have moved up.
    elements: BTreeSet<(String, usize)>,
}

impl TakenOut {
    /// A place in the table that is left, as a place of the file.
    fn as_written(&self, key: &str) -> String {
        let mut path = String::new();
        for step in key.split('.') {
            if !path.is_empty() {
                path.push('.');
            }
            let (name, index) = split_index(step);
            path += name;
            if let Some(mut index) = index {
                let of_list = self.elements.iter().filter(|(list, _)| *list == path);
                of_list.for_each(|(_, gone)| index += usize::from(*gone <= index));
                path += &format!("[{index}]");
            }
        }
        path
    }

    fn note(&mut self, taken: &str) {
        let path = self.as_written(taken);
        let element = path.strip_suffix(']').and_then(|path| path.rsplit_once('['));
        if let Some((list, index)) = element {
            self.elements.extend(index.parse().ok().map(|index| (list.to_owned(), index)));
        }
        self.paths.insert(path);
    }

    /// Whether `why` is said of `key` only because something is no longer there.
    fn explains(&self, key: &str, why: &str) -> bool {
        let missing = why.strip_prefix("key `").and_then(|why| why.strip_suffix("` is missing"));
        let table = parent(key);
        self.paths.iter().any(|path| {
            let (beside, step) = (parent(path), path.rsplit('.').next().unwrap_or(path));
            let (name, _) = split_index(step);
            match missing {
                Some(missing) => missing == name && (key == WHOLE_TABLE || key == beside),
                None if lies_in(path, key) => true,
                None if why.starts_with("unknown ") => false,
                None => beside == table && why.contains(&format!("`{name}`")),
            }
        })
    }
}

/// Whether `why` misses in `table` what is there by another name.
fn is_misspelt(told: &[ConfigError], table: &str, why: &str) -> bool {
    let missing = why.strip_prefix("key ").and_then(|why| why.strip_suffix(" is missing"));
    let meant = missing.map(|missing| format!("did you mean {missing}?"));
    let in_there = told.iter().filter(|one| parent(&one.key) == table);
    meant.is_some_and(|meant| in_there.into_iter().any(|one| one.why.ends_with(&meant)))
}

/// Whether `path` is `place`, or below it.
fn lies_in(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Takes out what `steps` lead to, or what of the way there is written, and names it.
fn take(table: &mut Options, steps: &[&str]) -> Option<String> {
    let (step, rest) = steps.split_first()?;
    let (name, index) = split_index(step);
    let value = table.get_mut(name)?;
    let inside = match index {
        Some(index) => value.get_mut(index),
        None => Some(&mut *value),
    };
    if let Some(Value::Object(inside)) = inside
        && let Some(taken) = take(inside, rest)
    {
        return Some(format!("{step}.{taken}"));
    }
    if let (Some(index), Value::Array(list)) = (index, value)
        && index < list.len()
    {
        list.remove(index);
        return Some((*step).to_owned());
    }
    table.shift_remove(name).map(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::open_bridge;
    use super::*;
    use crate::config::BridgeAsWritten;

    fn told(kind: &str, options: Value) -> Vec<String> {
        let Value::Object(options) = options else { panic!("a table") };
        let written = BridgeAsWritten { kind: kind.to_owned(), options, ..Default::default() };
        let errors = open_bridge("bridge[0]", &written).err().unwrap_or_default();
        errors.iter().map(|error| error.to_string().replace("bridge[0].", "")).collect()
    }

    #[test]
    fn every_mistake_of_a_bridge_is_told_under_its_key_with_what_would_be_right() {
        let port = "an address and a port such as \"0.0.0.0:8000\"";
        let wrong_device = "should be a table such as { port = \"/dev/ttyUSB0\" }";
        let cases: &[(&str, Value, &[String])] = &[
            (
                "osc",
                json!({"bind": 1, "wide": "yes", "bundle_ms": 5000, "ahead_max_ms": 99999,
                    "addresses_max": -4, "query": 1, "bnd": 2}),
                &[
                    format!("bind: integer `1` should be {port}"),
                    "wide: string \"yes\" should be true or false".to_owned(),
                    "addresses_max: integer `-4` should be a whole number from 0 to 4294967295"
                        .to_owned(),
                    "query: integer `1` should be true or false".to_owned(),
                    "bnd: unknown key `bnd`: did you mean `bind`?".to_owned(),
                    "bundle_ms: 5000 must be 0 to 1000".to_owned(),
                    "ahead_max_ms: 99999 must be 0 to 60000".to_owned(),
                ],
            ),
            (
                // What needs `broadcast` has it in the file.
                "artnet",
                json!({"broadcast": "::1", "broadcast_levels": true, "rate_hz_max": 0}),
                &[
                    "broadcast: string \"::1\" should be an IPv4 address such as \"10.0.0.255\""
                        .to_owned(),
                    "rate_hz_max: must be 1 to 1000".to_owned(),
                ],
            ),
            (
                // What needs a target has it in the file, though every one is wrong.
                "sacn",
                json!({"multicast": false, "targets": ["10.0.0.5:0", "10.0.0.6:0"]}),
                &[
                    "targets[0]: `10.0.0.5:0`: a port is 1 to 65535".to_owned(),
                    "targets[1]: `10.0.0.6:0`: a port is 1 to 65535".to_owned(),
                ],
            ),
            (
                "artnet",
                json!({"targets": ["10.0.0.5:0", "10.0.0.7", "0.0.0.0", "10.0.0.6:0"]}),
                &[
                    "targets[0]: `10.0.0.5:0`: a port is 1 to 65535".to_owned(),
                    "targets[3]: `10.0.0.6:0`: a port is 1 to 65535".to_owned(),
                    "targets[2]: 0.0.0.0:6454 is where this bridge listens itself: name the node"
                        .to_owned(),
                ],
            ),
            (
                "dmx",
                json!({"device": [{"port": "/a", "slots": 600}, 1, {"port": "/b", "slots": 512},
                    {"port": "/c", "slots": 1}]}),
                &[
                    format!("device[1]: integer `1` {wrong_device}"),
                    "device[0].slots: must be 24 to 512".to_owned(),
                    "device[3].slots: must be 24 to 512".to_owned(),
                ],
            ),
        ];
        for (kind, options, said) in cases {
            assert_eq!(told(kind, options.clone()), *said, "{kind}");
        }
    }

    #[test]
    fn what_is_missing_only_because_it_was_wrong_is_not_told() {
        let target = |to: Value| json!({"target": [{"to": "127.0.0.1:9"}, {"to": to}]});
        assert_eq!(told("osc", target(json!(1))).len(), 1);
        assert_eq!(told("osc", target(json!("127.0.0.1"))).len(), 1);
        let both = json!({"target": [{"pattern": "/a"}, {"to": 1}]});
        let said = told("osc", both);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "target[0]: key `to` is missing");
        let misspelt = told("osc", json!({"target": [{"too": "127.0.0.1:9"}]}));
        assert_eq!(misspelt, ["target[0].too: unknown key `too`: did you mean `to`?"]);
    }

    #[test]
    fn more_mistakes_than_anybody_reads_at_once_end_with_a_word() {
        let route = json!({"from": "/a", "to": "/b/{2}"});
        let routes = |count| told("routes", json!({"route": vec![route.clone(); count]}));
        let said = routes(TOLD_MAX + 1);
        assert_eq!(said.len(), TOLD_MAX + 1);
        assert_eq!(said[TOLD_MAX], "bridge[0]: there are more mistakes; mend these first");
        assert_eq!(routes(TOLD_MAX).len(), TOLD_MAX);
    }
}

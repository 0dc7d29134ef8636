//! The nodes of OSCQuery: what is known of addresses, as JSON.

use clasp_rt_core::pattern as clasp_pattern;
use serde_json::{Map, Value as Json, json};

use super::super::known::{Entry, Kind, Known};
use super::super::packet::{self, Argument, Packet, Writer};
use super::super::value::{Width, write_arguments};
use super::super::{Config, Range};
use crate::datum::Datum;

/// Addresses below a node that are shown at most.
const NODES_MAX: usize = 16_384;

/// What the proposal names, all of it: others are not understood.
const ATTRIBUTES: [&str; 12] = [
    "FULL_PATH",
    "CONTENTS",
    "TYPE",
    "VALUE",
    "ACCESS",
    "RANGE",
    "DESCRIPTION",
    "TAGS",
    "CLIPMODE",
    "UNIT",
    "CRITICAL",
    "EXTENDED_TYPE",
];

/// What is said of the bridge and of values, beside what is known.
pub(super) struct About {
    name: String,
    osc_port: u16,
    namespace: String,
    ranges: Vec<Range>,
}

impl About {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            name: config.name.clone(),
            osc_port: config.bind.port(),
            namespace: config.namespace.clone(),
            ranges: config.ranges.clone(),
        }
    }

    /// The status and the body of an answer.
    pub(super) fn answer(
        &self,
        path: &str,
        query: Option<&str>,
        width: Width,
        known: &Known,
    ) -> (u16, Json) {
        match query {
            Some("HOST_INFO") => (200, self.host()),
            Some(attribute) if !ATTRIBUTES.contains(&attribute) => (400, json!({})),
            attribute => match (self.node(path, width, known), attribute) {
                (Err(TooMany), _) => (413, json!({})),
                (Ok(None), _) => (404, json!({})),
                (Ok(Some(node)), None) => (200, node),
                (Ok(Some(mut node)), Some(attribute)) => match node.get_mut(attribute) {
                    Some(found) => (200, json!({ attribute: found.take() })),
                    None => (204, json!({})),
                },
            },
        }
    }

    fn host(&self) -> Json {
        json!({
            "NAME": self.name,
            "OSC_PORT": self.osc_port,
            "OSC_TRANSPORT": "UDP",
            "EXTENSIONS": {
                "ACCESS": true,
                "VALUE": true,
                "RANGE": !self.ranges.is_empty(),
                "LISTEN": true,
                "PATH_ADDED": true,
            },
        })
    }

    /// The node at `path` with all below it; `None`: nothing is known there.
    fn node(&self, path: &str, width: Width, known: &Known) -> Result<Option<Json>, TooMany> {
        let base = if path == "/" { "" } else { path };
        let mut root = branch(path);
        let mut count = 0;
        for (name, entry) in known.beginning_at(path) {
            if !name.starts_with(base) {
                break;
            }
            let Some(rest) = name.strip_prefix(base) else { continue };
            if !(rest.is_empty() || rest.starts_with('/')) {
                continue;
            }
            count += 1;
            if count > NODES_MAX {
                return Err(TooMany);
            }
            let leaf = self.leaf(name, entry, width);
            place(&mut root, base, rest.split('/').skip(1), leaf);
        }
        let is_there = count > 0 || path == "/";
        Ok(is_there.then_some(Json::Object(root)))
    }

    fn leaf(&self, name: &str, entry: &Entry, width: Width) -> Map<String, Json> {
        let mut leaf = Map::new();
        let access = match entry.kind {
            Kind::Param => 3,
            Kind::Event => 2,
        };
        leaf.insert("ACCESS".to_owned(), access.into());
        let (mut writer, mut bytes) = (Writer::default(), Vec::new());
        let value = entry.value();
        if let Some(value) = value {
            write_arguments(&mut writer, &Datum::new(value), &entry.tags, width);
            packet::write_message(&mut bytes, name, &writer);
        }
        match packet::decode(&bytes) {
            Ok(Packet::Message(message)) => {
                leaf.insert("TYPE".to_owned(), message.tags.into());
                let mut arguments = message.arguments();
                leaf.insert("VALUE".to_owned(), values(&mut arguments));
            }
            _ if !entry.tags.is_empty() => {
                leaf.insert("TYPE".to_owned(), entry.tags.as_str().into());
            }
            _ => {}
        }
        let address = format!("{}{name}", self.namespace);
        let fits = |range: &&Range| clasp_pattern::matches(&range.pattern, &address);
        if let Some(Range { min, max, .. }) = self.ranges.iter().find(fits) {
            leaf.insert("RANGE".to_owned(), json!([{ "MIN": min, "MAX": max }]));
        }
        leaf
    }
}

/// More lies below a node than is shown at once.
struct TooMany;

fn branch(path: &str) -> Map<String, Json> {
    let mut node = Map::new();
    node.insert("FULL_PATH".to_owned(), path.into());
    node.insert("ACCESS".to_owned(), 0.into());
    node
}

/// Puts what is said of an address into the node that `segments` lead to from `node` at `path`.
fn place<'s>(
    node: &mut Map<String, Json>,
    path: &str,
    mut segments: impl Iterator<Item = &'s str>,
    leaf: Map<String, Json>,
) {
    let Some(segment) = segments.next() else {
        node.extend(leaf);
        return;
    };
    let path = format!("{path}/{segment}");
    let contents = node.entry("CONTENTS").or_insert_with(|| Json::Object(Map::new()));
    let Some(contents) = contents.as_object_mut() else { return };
    let inner = contents.entry(segment).or_insert_with(|| Json::Object(branch(&path)));
    if let Some(inner) = inner.as_object_mut() {
        let mut rest = segments;
        place(inner, &path, &mut rest as &mut dyn Iterator<Item = &'s str>, leaf);
    }
}

/// Arguments up to the end, or up to the end of the array that they are in.
fn values<'a>(arguments: &mut dyn Iterator<Item = Argument<'a>>) -> Json {
    let mut values = Vec::new();
    while let Some(argument) = arguments.next() {
        values.push(match argument {
            Argument::Close => break,
            Argument::Open => self::values(arguments),
            Argument::Int(number) => number.into(),
            Argument::Long(number) => number.into(),
            // By way of text, so that 0.1 is not 0.10000000149011612.
            Argument::Float(number) => number.to_string().parse::<f64>().unwrap_or(0.0).into(),
            Argument::Double(number) => number.into(),
            Argument::Text(text) => String::from_utf8_lossy(text).into(),
            Argument::Char(char) => char.to_string().into(),
            Argument::Colour([red, green, blue, alpha]) => {
                format!("#{red:02X}{green:02X}{blue:02X}{alpha:02X}").into()
            }
            Argument::Midi(octets) => octets.to_vec().into(),
            Argument::Bool(flag) => flag.into(),
            Argument::Time(tag) => tag.unix_us().into(),
            Argument::Blob(_) | Argument::Nil | Argument::Impulse => Json::Null,
        });
    }
    Json::Array(values)
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::value::{push_f64, push_i64};

    use super::*;

    fn known() -> Known {
        let mut known = Known::new(10);
        for (name, tags, number) in [("/1/fader1", "f", 0.1), ("/1/fader2", "d", 0.5)] {
            known.remember(name, tags, Kind::Param);
            known.hold(name, |out| -> Result<(), ()> {
                push_f64(out, number);
                Ok(())
            });
        }
        known.remember_name("/1", Kind::Param);
        known.hold("/1", |out| -> Result<(), ()> {
            push_i64(out, 7);
            Ok(())
        });
        known.remember("/1-x", "i", Kind::Event);
        known.remember_name("/10", Kind::Param);
        known
    }

    fn about() -> About {
        let config = "name = \"desk\"\nranges = [{ pattern = \"/osc/*/fader1\", min = 0.0, \
                      max = 1.0 }]";
        About::new(&toml::from_str(config).expect("a table"))
    }

    #[test]
    fn a_node_holds_what_is_known_of_it_and_below_it() {
        let (status, node) = about().answer("/1", None, Width::Narrow, &known());
        let fader1 = json!({
            "FULL_PATH": "/1/fader1", "ACCESS": 3, "TYPE": "f", "VALUE": [0.1],
            "RANGE": [{ "MIN": 0.0, "MAX": 1.0 }],
        });
        let fader2 = json!({ "FULL_PATH": "/1/fader2", "ACCESS": 3, "TYPE": "d", "VALUE": [0.5] });
        let expected = json!({
            "FULL_PATH": "/1", "ACCESS": 3, "TYPE": "i", "VALUE": [7],
            "CONTENTS": { "fader1": fader1, "fader2": fader2 },
        });
        assert_eq!((status, node), (200, expected));
    }

    #[test]
    fn attributes_are_asked_for_one_by_one() {
        let cases = [
            ("/1/fader1", Some("VALUE"), 200, json!({ "VALUE": [0.1] })),
            ("/1-x", Some("ACCESS"), 200, json!({ "ACCESS": 2 })),
            ("/1-x", Some("TYPE"), 200, json!({ "TYPE": "i" })),
            ("/1-x", Some("VALUE"), 204, json!({})),
            ("/1-x", Some("COLOUR"), 400, json!({})),
            ("/2", None, 404, json!({})),
            ("/1/fader", None, 404, json!({})),
        ];
        for (path, query, status, body) in cases {
            let answer = about().answer(path, query, Width::Narrow, &known());
            assert_eq!(answer, (status, body), "{path}?{query:?}");
        }
        let (_, root) = about().answer("/", Some("CONTENTS"), Width::Narrow, &known());
        let names: Vec<_> = root["CONTENTS"].as_object().expect("a branch").keys().collect();
        assert_eq!(names, ["1", "1-x", "10"]);
        let (status, empty) = about().answer("/", None, Width::Narrow, &Known::new(0));
        assert_eq!((status, &empty["FULL_PATH"]), (200, &json!("/")));
    }

    #[test]
    fn every_type_has_a_form_in_json() {
        let mut writer = Writer::default();
        writer.clear();
        for argument in [
            Argument::Open,
            Argument::Long(1 << 40),
            Argument::Nil,
            Argument::Close,
            Argument::Colour([255, 0, 16, 128]),
            Argument::Midi([0, 144, 60, 1]),
            Argument::Float(f32::INFINITY),
            Argument::Bool(false),
            Argument::Blob(&[1]),
        ] {
            writer.push(argument);
        }
        let mut bytes = Vec::new();
        packet::write_message(&mut bytes, "/x", &writer);
        let Ok(Packet::Message(message)) = packet::decode(&bytes) else { panic!("{bytes:?}") };
        let json = values(&mut message.arguments());
        let midi = json!([0, 144, 60, 1]);
        assert_eq!(json, json!([[1_i64 << 40, null], "#FF001080", midi, null, false, null]));
    }
}

//! Routes inside one router: what is written at some addresses goes, changed, to others.
//!
//! ```toml
//! [[route]]
//! from = "/osc/1/fader*"
//! to = "/artnet/0/{1}"
//! transform = [{ type = "curve", curve_type = "ease_in" }]
//! ```
//!
//! Each value passes `transform` (remembering steps remember each source for itself), then
//! `aggregate` if several sources share a target, then `then`, and is written. Params, events,
//! streams and gestures are all taken; `write` says what they become.
//!
//! A route hears everybody but the routes: what a route writes triggers no other route and never
//! itself. So no loop can be built out of routes, and what must happen in two steps is one route
//! with two transforms. Where the router arbitrates, what is written is claimed in the name of who
//! wrote what was taken, or with the `priority` of the route. When the router is joined, the values
//! that it holds are routed once; where it arbitrates, not again by routes that change meanwhile.

mod bids;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::Time;
use serde::Deserialize;

use crate::aggregate::{Aggregate, Fold};
use crate::datum::Datum;
use crate::map::{Pattern, Template};
use crate::transform::{Chain, Memory, Transform};
use crate::uplink::{Bid, Kind, Source, Update, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, same_kind};

/// All routes of a router.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `routes`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    pub route: Vec<Route>,
    /// Passes on whose each param is: who wrote what a route takes also claims what it writes, with
    /// the same priority. For routers that arbitrate. Default false.
    pub sources: bool,
    /// CLASP patterns of what the router arbitrates: there losers are told as claims. Default none.
    pub arbitrated: Vec<String>,
    /// Sources, and as many targets, that one route remembers, 1-1000000. Default 4096. Only routes
    /// with a remembering transform or an aggregate need any.
    pub addresses_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        let (name, arbitrated) = ("routes".into(), Vec::new());
        Self {
            name,
            token: None,
            route: Vec::new(),
            sources: false,
            arbitrated,
            addresses_max: 4_096,
        }
    }
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// One pattern, or a list of them: [`crate::map`] tells what `*`, `**` and `{name}` take.
    pub from: From,
    /// Where it goes, with `{1}` or `{name}` for what each pattern of `from` captured.
    pub to: String,
    /// What happens to each value, in order. Default nothing.
    #[serde(default)]
    pub transform: Vec<Transform>,
    /// What becomes of several sources of one target. Default: every value is written as it comes.
    #[serde(default)]
    pub aggregate: Option<Aggregate>,
    /// What happens to the result of `aggregate`. Default nothing.
    #[serde(default)]
    pub then: Vec<Transform>,
    /// `param`, `event`, `stream`, or `same` as it came. Default `param`.
    #[serde(default)]
    pub write: Write,
    /// Priority of what is written, 0-200, where the router arbitrates. Default: that of who wrote
    /// what was taken; of an aggregate, that of the routes.
    #[serde(default)]
    pub priority: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum From {
    One(String),
    Many(Vec<String>),
}

impl From {
    fn patterns(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Many(patterns) => patterns,
        }
    }
}

/// As sACN has it; the same for sources of any protocol.
const PRIORITY_MAX: u8 = 200;

/// What a routed value is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// A param: the last value is kept for late joiners.
    #[default]
    Param,
    Event,
    Stream,
    Same,
}

impl Write {
    /// `None`: a param.
    fn signal(self, kind: Kind<'_>) -> Option<Signal> {
        match (self, kind) {
            (Self::Param, _) | (Self::Same, Kind::Written | Kind::Held { .. }) => None,
            (Self::Event, _) => Some(Signal::Event),
            (Self::Stream, _) => Some(Signal::Stream),
            (Self::Same, Kind::Passed(Signal::Param)) => None,
            (Self::Same, Kind::Passed(signal)) => Some(signal),
        }
    }
}

/// Opens the routes that `config` describes. Whatever they capture, they write valid addresses
/// only.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Routes::new(&config).map(|routes| Box::new(routes) as Box<dyn Bridge>)
}

struct Routes {
    uplink: Uplink,
    /// The source of what nobody else wrote.
    own: String,
    /// They were changed while they ran, and are told again what is held.
    changed: bool,
    routes: Vec<Ready>,
    counters: Counters,
    captures: Vec<Range<usize>>,
    to: String,
}

/// A route, checked, with what it remembers.
struct Ready {
    written: Route,
    ways: Vec<(Pattern, Template)>,
    transform: Chain,
    aggregate: Option<Aggregate>,
    then: Chain,
    write: Write,
    /// Says whose what it writes is.
    passes_on: bool,
    addresses_max: usize,
    sources: BTreeMap<String, Memory>,
    targets: BTreeMap<String, Target>,
}

struct Target {
    fold: Fold,
    memory: Memory,
}

/// A table of the route is full.
struct Overflow;

impl Routes {
    fn new(config: &Config) -> Result<Self, ConfigError> {
        if !(1..=1_000_000).contains(&config.addresses_max) {
            return Err(ConfigError::new("addresses_max", "must be 1 to 1000000"));
        }
        let ready = |(index, route)| {
            Ready::new(route, config.sources, config.addresses_max as usize).map_err(|error| {
                ConfigError::new(format!("route[{index}].{}", error.key), error.why)
            })
        };
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone())
                .ask_sources(config.sources, &config.arbitrated),
            own: config.name.clone(),
            changed: false,
            routes: config.route.iter().enumerate().map(ready).collect::<Result<_, _>>()?,
            counters: Counters::default(),
            captures: Vec::new(),
            to: String::new(),
        })
    }

    fn join(&mut self, out: &mut dyn Out) {
        let Self { uplink, routes, counters, .. } = self;
        uplink.join(patterns(routes).into_iter(), counters, out);
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { uplink, own, changed, routes, captures, to, counters } = self;
        uplink.hear(frame, counters, out, &mut |uplink, update, counters, out| {
            if let Kind::Held { writer } = update.kind
                && uplink.is_ours(writer)
            {
                return;
            }
            if let Some(bid) = Bid::of(&update) {
                return bids::pass_bids(uplink, routes, &bid, (captures, to), counters, out);
            }
            let again = *changed && matches!(update.kind, Kind::Held { .. });
            for route in routes.iter_mut() {
                // A snapshot does not say whose a value is: told again, it would be claimed anew.
                if again && route.passes_on {
                    continue;
                }
                let mut ways = route.ways.iter();
                let way = ways.find(|(from, _)| from.captures(update.address, captures));
                let Some((_, template)) = way else { continue };
                if !template.fill(update.address, captures, to) {
                    counters.refused += 1;
                    continue;
                }
                let signal = route.write.signal(update.kind);
                let source = route.source(update.source, own);
                match route.pass(now, &update, to) {
                    Ok(value) => {
                        // Params alone are claimed.
                        if let Some(source) = source.filter(|_| signal.is_none()) {
                            uplink.mark(&source);
                        }
                        write(uplink, to, signal, &value, counters, out);
                    }
                    Err(Overflow) => counters.overflowed += 1,
                }
            }
        });
    }
}

/// What the routes hear, each once.
fn patterns(routes: &[Ready]) -> BTreeSet<&str> {
    let ways = routes.iter().flat_map(|route| &route.ways);
    ways.map(|(pattern, _)| pattern.subscription()).collect()
}

/// Each by itself: a target that refuses shall not hold back the others, as it would in a BUNDLE.
fn write(
    uplink: &mut Uplink,
    to: &str,
    signal: Option<Signal>,
    value: &Datum<'_>,
    counters: &mut Counters,
    out: &mut dyn Out,
) {
    match signal {
        None => uplink.set(to, |bytes| value.append(bytes), counters, out),
        Some(signal) => uplink.publish(to, signal, |bytes| value.append(bytes), counters, out),
    }
    uplink.send(None, counters, out);
}

impl Ready {
    fn new(route: &Route, passes_on: bool, addresses_max: usize) -> Result<Self, ConfigError> {
        let mut ways = Vec::new();
        for from in route.from.patterns() {
            let wrong = |key: &str, text: &str, why: String| {
                ConfigError::new(key, format!("`{text}` {why}"))
            };
            let pattern =
                Pattern::new(from).map_err(|error| wrong("from", from, error.to_string()))?;
            let template = Template::new(&route.to, &pattern)
                .map_err(|error| wrong("to", &route.to, error.to_string()))?;
            ways.push((pattern, template));
        }
        if ways.is_empty() {
            return Err(ConfigError::new("from", "names no pattern"));
        }
        if route.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
            return Err(ConfigError::new("priority", "must be 0 to 200"));
        }
        if let Some(aggregate) = route.aggregate {
            aggregate.check()?;
        } else if !route.then.is_empty() {
            return Err(ConfigError::new("then", "needs `aggregate`; without it use `transform`"));
        }
        Ok(Self {
            written: route.clone(),
            ways,
            transform: Chain::new(route.transform.clone())?,
            aggregate: route.aggregate,
            then: Chain::new(route.then.clone())?,
            write: route.write,
            passes_on,
            addresses_max,
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
        })
    }

    /// Whose the values are that this route makes of those of `source`; `None`: its session's.
    ///
    /// What several sources made together is nobody's but the routes'.
    fn source<'s>(&self, source: Option<Source<'s>>, own: &'s str) -> Option<Source<'s>> {
        let priority = self.written.priority;
        match source.filter(|_| self.aggregate.is_none() && self.passes_on) {
            Some(source) => Some(Source { priority: priority.or(source.priority), ..source }),
            None => priority.map(|_| Source { id: own, priority, by: None }),
        }
    }

    /// What `to` becomes when `update` is routed there.
    fn pass<'a>(
        &'a mut self,
        now: Time,
        update: &Update<'a>,
        to: &str,
    ) -> Result<Datum<'a>, Overflow> {
        let Self { transform, aggregate, then, addresses_max, sources, targets, .. } = self;
        let value = update.value.clone();
        let value = if transform.remembers() {
            let new = || transform.memory();
            let memory = entry(sources, update.address, *addresses_max, new).ok_or(Overflow)?;
            transform.apply(value, memory)
        } else {
            transform.apply(value, &mut Memory::default())
        };
        let Some(rule) = *aggregate else { return Ok(value) };
        let new = || Target { fold: Fold::default(), memory: then.memory() };
        let target = entry(targets, to, *addresses_max, new).ok_or(Overflow)?;
        let value = target.fold.take(rule, now, update.address, value).map_err(|_| Overflow)?;
        Ok(then.apply(value, &mut target.memory))
    }
}

/// What is kept for `address`, begun if there is room.
fn entry<'m, T>(
    map: &'m mut BTreeMap<String, T>,
    address: &str,
    len_max: usize,
    new: impl FnOnce() -> T,
) -> Option<&'m mut T> {
    if !map.contains_key(address) {
        if map.len() >= len_max {
            return None;
        }
        map.insert(address.to_string(), new());
    }
    map.get_mut(address)
}

impl Bridge for Routes {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        Vec::new()
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => {
                self.changed = false;
                self.join(out);
            }
            Input::Lost => self.uplink.lose(),
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Clock { .. } | Input::Deadline | Input::Stop => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    /// A route that is written as before keeps what it remembers.
    fn succeed(
        &mut self,
        _: Time,
        next: Box<dyn Bridge>,
        out: &mut dyn Out,
    ) -> Result<(), Box<dyn Bridge>> {
        let next: Box<Self> = same_kind(next)?;
        self.changed = true;
        let mut before = std::mem::replace(&mut self.routes, next.routes);
        for route in &mut self.routes {
            if let Some(same) = before.iter().position(|old| old.written == route.written) {
                let same = before.swap_remove(same);
                (route.sources, route.targets) = (same.sources, same.targets);
            }
        }
        let Self { uplink, routes, counters, .. } = self;
        uplink.subscribe_instead(patterns(routes).into_iter(), counters, out);
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Bundle, Message, ParamValue};
    use clasp_rt_core::value::{Value, push_bool, push_f64, push_i64, push_str};

    use clasp_rt_core::wire::binary::SnapshotBuilder;
    use clasp_rt_core::wire::list::Messages;
    use clasp_rt_core::wire::{binary, header};

    use super::*;
    use crate::uplink::tests::{Said, frame, publish_frame, set_frame};

    struct Rig {
        bridge: Routes,
        now: Time,
        said: Said,
    }

    fn rig(config: &str) -> Rig {
        let config: Config =
            toml::from_str(config).unwrap_or_else(|error| panic!("{config}: {error}"));
        let bridge = Routes::new(&config).expect("routes that work");
        let mut rig = Rig { bridge, now: Time::default(), said: Said::default() };
        rig.step(Input::Joined);
        rig
    }

    impl Rig {
        fn step(&mut self, input: Input<'_>) {
            self.bridge.step(self.now, input, &mut self.said);
        }

        /// What the routes say to one SET of the router.
        fn set(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
            self.said.frames.clear();
            self.step(Input::Frame(&set_frame(address, push)));
            self.said.take_lines()
        }
    }

    #[test]
    fn routes_subscribe_once_to_each_pattern() {
        let mut rig = rig(r#"
            [[route]]
            from = ["/osc/1/fader*", "/midi/{channel}/cc/7"]
            to = "/artnet/0/{1}"
            [[route]]
            from = "/osc/1/fader*"
            to = "/copy/{1}"
        "#);
        let expected =
            ["HELLO routes 0xf1", "SUBSCRIBE 1 /midi/*/cc/7", "SUBSCRIBE 2 /osc/1/fader*"];
        assert_eq!(rig.said.take_lines(), expected);
        let lines = rig.set("/osc/1/fader3", |out| push_f64(out, 0.5));
        assert_eq!(lines, ["SET /artnet/0/3 0.5", "SET /copy/3 0.5"]);
        assert_eq!(rig.set("/midi/9/cc/7", |out| push_i64(out, 64)), ["SET /artnet/0/9 64"]);
        assert_eq!(rig.set("/other", |out| push_i64(out, 64)), [""; 0]);
    }

    #[test]
    fn changed_routes_take_over_without_a_gap_and_the_same_ones_remember() {
        let kept = r#"
            [[route]]
            from = "/in/*"
            to = "/out/{1}"
            transform = [{ type = "smooth", factor = 0.5 }]
        "#;
        let mut rig = rig(kept);
        rig.set("/in/a", |out| push_f64(out, 1.0));
        rig.said.frames.clear();
        let config = format!("{kept}\n[[route]]\nfrom = \"/new\"\nto = \"/out/new\"");
        let config: Config = toml::from_str(&config).expect("TOML");
        let next = open(config).expect("routes that work");
        assert!(rig.bridge.succeed(rig.now, next, &mut rig.said).is_ok());
        let lines = rig.said.take_lines();
        assert_eq!(lines[..2], ["SUBSCRIBE 2 /in/*", "SUBSCRIBE 3 /new"]);
        assert_eq!(lines[2..], ["Unsubscribe { id: 1 }"]);
        // Half of the way from 1, which was remembered.
        assert_eq!(rig.set("/in/a", |out| push_f64(out, 0.0)), ["SET /out/a 0.5"]);
        assert_eq!(rig.set("/new", |out| push_i64(out, 7)), ["SET /out/new 7"]);
        let stranger = crate::patch::open(crate::patch::Config::default()).expect("a patch");
        assert!(rig.bridge.succeed(rig.now, stranger, &mut rig.said).is_err());
    }

    #[test]
    fn a_fader_becomes_a_dimmer() {
        let mut rig = rig(r#"
            [[route]]
            from = "/osc/1/fader{slot}"
            to = "/artnet/0/{slot}"
            transform = [
                { type = "curve", curve_type = "quad_in" },
                { type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 255 },
                { type = "to_int" },
            ]
        "#);
        let cases = [(0.0, 0), (0.5, 63), (1.0, 255), (7.0, 255)];
        for (position, level) in cases {
            let lines = rig.set("/osc/1/fader12", |out| push_f64(out, position));
            assert_eq!(lines, [format!("SET /artnet/0/12 {level}")]);
        }
        let lines = rig.set("/osc/1/fader12", |out| push_str(out, "off").expect("short"));
        assert_eq!(lines, ["SET /artnet/0/12 \"off\""]);
    }

    #[test]
    fn remembering_transforms_remember_each_source_for_itself() {
        let mut rig = rig(r#"
            [[route]]
            from = "/in/*"
            to = "/out/{1}"
            transform = [{ type = "smooth", factor = 0.5 }]
        "#);
        let cases = [("a", 0, "0.0"), ("b", 8, "8.0"), ("a", 4, "2.0"), ("b", 0, "4.0")];
        for (name, value, result) in cases {
            let lines = rig.set(&format!("/in/{name}"), |out| push_i64(out, value));
            assert_eq!(lines, [format!("SET /out/{name} {result}")]);
        }
    }

    #[test]
    fn several_sources_fold_into_one_target() {
        let mut rig = rig(r#"
            [[route]]
            from = ["/sensors/**", "/more/{x}"]
            to = "/room/warmest"
            aggregate = { type = "max" }
            then = [{ type = "threshold", value = 30 }]
        "#);
        let cases = [
            ("/sensors/a/t", 20, "false"),
            ("/sensors/b", 31, "true"),
            ("/more/c", 5, "true"),
            ("/sensors/b", 22, "false"),
        ];
        for (address, value, result) in cases {
            let lines = rig.set(address, |out| push_i64(out, value));
            assert_eq!(lines, [format!("SET /room/warmest {result}")], "{address} {value}");
        }
    }

    #[test]
    fn what_is_routed_is_written_as_the_route_says() {
        let cases = [
            ("param", Signal::Event, "SET /b true"),
            ("event", Signal::Stream, "PUBLISH event /b true"),
            ("stream", Signal::Event, "PUBLISH stream /b true"),
            ("same", Signal::Gesture, "PUBLISH gesture /b true"),
            ("same", Signal::Event, "PUBLISH event /b true"),
        ];
        for (write, signal, line) in cases {
            let config = format!("[[route]]\nfrom = \"/a\"\nto = \"/b\"\nwrite = \"{write}\"");
            let mut rig = rig(&config);
            rig.said.frames.clear();
            rig.step(Input::Frame(&publish_frame("/a", signal, |out| push_bool(out, true))));
            assert_eq!(rig.said.take_lines(), [line], "{write} of {signal:?}");
        }
        let mut rig = rig("[[route]]\nfrom = \"/a\"\nto = \"/b\"\nwrite = \"same\"");
        assert_eq!(rig.set("/a", |out| push_bool(out, true)), ["SET /b true"]);
    }

    #[test]
    fn what_is_written_is_claimed_by_who_wrote_what_was_taken() {
        let mut rig = rig(r#"
            sources = true
            [[route]]
            from = "/in/*"
            to = "/rig/{1}"
            [[route]]
            from = "/in/*"
            to = "/high/{1}"
            priority = 120
            [[route]]
            from = "/in/*"
            to = "/sum"
            aggregate = { type = "sum" }
            [[route]]
            from = "/in/*"
            to = "/go"
            write = "event"
        "#);
        let expected = ["HELLO routes 0xf1", "PUBLISH event /clasp/source {tell: true}"];
        assert_eq!(rig.said.take_lines()[..2], expected);
        let mut marker = Vec::new();
        let source = Source { id: "desk", priority: Some(90), by: Some("me") };
        source.push(&mut marker).expect("short");
        let tell = publish_frame("/clasp/source", Signal::Event, |out| out.extend(&marker));
        let set = set_frame("/in/1", |out| push_i64(out, 7));
        rig.step(Input::Frame(&bundle_frame(&[&tell, &set])));
        let expected = [
            "BUNDLE now",
            "  PUBLISH event /clasp/source {id: \"desk\", priority: 90, by: \"me\"}",
            "  SET /rig/1 7",
            "BUNDLE now",
            "  PUBLISH event /clasp/source {id: \"desk\", priority: 120, by: \"me\"}",
            "  SET /high/1 7",
            "SET /sum 7",
            "PUBLISH event /go 7",
        ];
        assert_eq!(rig.said.take_lines(), expected);
        let lines = rig.set("/in/2", |out| push_i64(out, 1));
        let expected = [
            "SET /rig/2 1",
            "BUNDLE now",
            "  PUBLISH event /clasp/source {id: \"routes\", priority: 120}",
            "  SET /high/2 1",
        ];
        assert_eq!(lines[..4], expected, "whose it is was not told");
        let route = "from = \"/a\"\nto = \"/b\"\npriority = 201";
        let config: Config = toml::from_str(&format!("[[route]]\n{route}")).expect("a route");
        let error = Routes::new(&config).err().expect("201 is too much").to_string();
        assert!(error.starts_with("route[0].priority: must be 0 to 200"), "{error}");
    }

    #[test]
    fn what_is_held_is_claimed_at_the_start_and_not_again_when_routes_change() {
        let text = "sources = true\n[[route]]\nfrom = \"/in/*\"\nto = \"/rig/{1}\"";
        let mut rig = rig(text);
        rig.said.frames.clear();
        let value = Value::from_encoded(&[0x01, 1]).expect("a switch");
        let (revision, writer, timestamp_us) = (1, Some("me"), None);
        let param = ParamValue { address: "/in/1", value, revision, writer, timestamp_us };
        let mut held = Vec::new();
        let mut snapshot = SnapshotBuilder::start(&mut held);
        assert!(snapshot.push(&mut held, &param));
        snapshot.finish(&mut held);
        rig.step(Input::Frame(&held));
        let marker = "  PUBLISH event /clasp/source {id: \"me\", by: \"me\"}";
        assert_eq!(rig.said.take_lines(), ["BUNDLE now", marker, "  SET /rig/1 true"]);
        let next = Routes::new(&toml::from_str(text).expect("routes")).expect("routes");
        assert!(rig.bridge.succeed(rig.now, Box::new(next), &mut rig.said).is_ok());
        rig.said.frames.clear();
        rig.step(Input::Frame(&held));
        assert_eq!(rig.said.take_lines(), [""; 0]);
        assert_eq!(rig.set("/in/1", |out| push_i64(out, 5)), ["SET /rig/1 5"]);
    }

    /// A BUNDLE of the messages of these frames.
    fn bundle_frame(frames: &[&[u8]]) -> Vec<u8> {
        let mut payloads = Vec::new();
        for frame in frames {
            let payload = header::parse(frame).expect("a frame").payload;
            let message = binary::decode(payload).expect("a message");
            Messages::append(&mut payloads, &message).expect("short");
        }
        let messages = Messages::from_payloads(&payloads, frames.len()).expect("a list");
        frame(&Message::Bundle(Bundle { timestamp_us: None, messages }))
    }

    #[test]
    fn full_tables_and_long_addresses_are_counted() {
        let mut rig = rig(r#"
            addresses_max = 2
            [[route]]
            from = "/in/*"
            to = "/a_longer_name/{1}"
            aggregate = { type = "sum" }
        "#);
        for name in ["a", "b", "c", "a"] {
            rig.set(&format!("/in/{name}"), |out| push_i64(out, 1));
        }
        rig.set(&format!("/in/{}", "x".repeat(1_015)), |out| push_i64(out, 1));
        let counters = rig.bridge.counters();
        assert_eq!((counters.overflowed, counters.refused), (1, 1));
    }

    #[test]
    fn mistakes_are_explained_with_the_place_of_their_route() {
        let first = "[[route]]\nfrom = \"/a/*\"\nto = \"/b\"\n";
        let cases = [
            ("from = \"a\"\nto = \"/b\"", "route[1].from: `a` must begin with a slash"),
            ("from = []\nto = \"/b\"", "route[1].from: names no pattern"),
            ("from = \"/a\"\nto = \"/b/{1}\"", "route[1].to: `/b/{1}` uses `{1}`"),
            ("from = [\"/a/*\", \"/a\"]\nto = \"/b/{1}\"", "route[1].to: `/b/{1}` uses `{1}`"),
            ("from = \"/a\"\nto = \"/b/\"", "route[1].to: `/b/` has an empty segment"),
            ("from = \"/a\"\nto = \"/b/*\"", "route[1].to: `/b/*` has a `*`"),
            (
                "from = \"/a\"\nto = \"/b\"\ntransform = [{ type = \"quantize\", steps = 0 }]",
                "route[1].quantize: steps must be at least 1",
            ),
            (
                "from = \"/a\"\nto = \"/b\"\nthen = [{ type = \"abs\" }]",
                "route[1].then: needs `aggregate`",
            ),
        ];
        for (route, expected) in cases {
            let config = format!("{first}[[route]]\n{route}");
            let config: Config = toml::from_str(&config).expect(route);
            let error = Routes::new(&config).err().expect(route).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for route in ["from = \"/a\"", "from = \"/a\"\nto = \"/b\"\nscale = 2"] {
            assert!(toml::from_str::<Config>(&format!("[[route]]\n{route}")).is_err(), "{route}");
        }
    }
}

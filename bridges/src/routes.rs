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
//! with two transforms. Through devices and programs outside it can, and such a ring is stopped and
//! told as the event `/clasp/loop`: `loops` has how.
//!
//! | `/clasp/loop` has | |
//! |---|---|
//! | `address`, `from` | where the ring was cut, and where the value came from |
//! | `routes` | those it goes through, as `from -> to` |
//! | `returns`, `period_us` | how often it came round while it was asked, and how long it takes |
//! | `values` | the last that came round, the newest last |
//!
//! Where the router arbitrates, what is written is claimed in the name of who
//! wrote what was taken, or with the `priority` of the route. When the router is joined, the values
//! that it holds are routed once; where it arbitrates, not again by routes that change meanwhile.

mod bids;
mod loops;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{ArrayWriter, MapWriter, Value, push_i64, push_str, push_value};
use clasp_rt_core::wire::TooLong;
use serde::Deserialize;

use crate::aggregate::{Aggregate, Fold};
use crate::datum::Datum;
use crate::map::{Pattern, Template};
use crate::transform::{Chain, Memory, Transform};
use crate::uplink::{Bid, Kind, Source, Update, Uplink, Whose};
use crate::{Bridge, ConfigError, Counters, Input, Out, same_kind};
use loops::{Fate, Heed, Held, Loops, Passing, Ring};

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
    /// CLASP patterns of what the router arbitrates: there losers are told as claims. Default: with
    /// `sources`, what the router says at `/clasp/arbitration`.
    pub arbitrated: Option<Vec<String>>,
    /// Sources, and as many targets, that one route remembers, 1-1000000. Default 4096. Only routes
    /// with a remembering transform or an aggregate need any.
    pub addresses_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "routes".into(),
            token: None,
            route: Vec::new(),
            sources: false,
            arbitrated: None,
            addresses_max: 4_096,
        }
    }
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { from = \"/a/*\", to = \"/b/{1}\" }")]
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
    /// Milliseconds that a value may take through devices and back to where the route took it, for
    /// the ring to be recognised and stopped, 0-1000. 0: what comes back is meant. Default 250.
    #[serde(default = "loop_window_ms")]
    pub loop_window_ms: u16,
}

const fn loop_window_ms() -> u16 {
    250
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[serde(expecting = "expected a pattern such as \"/desk/*\", or a list of them")]
pub enum From {
    One(String),
    Many(Vec<String>),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from.patterns().join(" "), self.to)
    }
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

/// What turns more slowly does not storm.
const LOOP_WINDOW_MS_MAX: u16 = 1_000;

/// Where rings are told.
const LOOP: &str = "/clasp/loop";

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
    loops: Loops,
    captures: Vec<Range<usize>>,
    to: String,
    value: Vec<u8>,
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
    /// Longest way of a value back to it; zero: rings are meant.
    window: Span,
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
                .await_all()
                .ask_sources(config.sources, config.arbitrated.as_deref()),
            own: config.name.clone(),
            changed: false,
            routes: config.route.iter().enumerate().map(ready).collect::<Result<_, _>>()?,
            counters: Counters::default(),
            loops: Loops::default(),
            captures: Vec::new(),
            to: String::new(),
            value: Vec::new(),
        })
    }

    fn join(&mut self, out: &mut dyn Out) {
        let Self { uplink, routes, counters, .. } = self;
        uplink.join(patterns(routes).into_iter(), counters, out);
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { uplink, own, changed, routes, loops, captures, to, value: bytes, counters } =
            self;
        uplink.hear(frame, counters, out, &mut |uplink, update, counters, out| {
            let is_held = matches!(update.kind, Kind::Held { .. });
            if let Kind::Held { writer } = update.kind
                && uplink.is_ours(writer)
            {
                return;
            }
            if let Some(bid) = Bid::of(&update) {
                return bids::pass_bids(uplink, routes, &bid, (captures, to), counters, out);
            }
            // Where levels decide, a claim that waits takes nothing back.
            let is_word = update.kind == Kind::Written && loops.asks_any();
            if is_word && !uplink.levels_decide(update.address) {
                loops.overwrite(now, update.address, &update.value);
            }
            for (number, route) in routes.iter_mut().enumerate() {
                // A snapshot does not say whose a value is: told again, it would be claimed anew.
                if *changed && is_held && route.passes_on {
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
                // Params alone are claimed.
                let source = route.source(update.source, own).filter(|_| signal.is_none());
                let (from, window) = (update.address, route.window);
                if update.kind == Kind::Written && loops.is_echo(now, from, to, &update.value) {
                    counters.dropped += 1;
                    continue;
                }
                let Ok(value) = route.pass(now, &update, to) else {
                    counters.overflowed += 1;
                    continue;
                };
                bytes.clear();
                if value.append(bytes).is_err() {
                    counters.refused += 1;
                    continue;
                }
                let print = loops::print(&value, bytes);
                let (is_param, value_len) = (signal.is_none(), bytes.len());
                let passing = Passing { to, from, route: number, window, is_param, value_len };
                let fate = if is_held { Fate::Write } else { loops.admit(now, &passing) };
                while let Some(held) = loops.ready() {
                    write_held(uplink, &held, counters, out);
                }
                let held = || Held {
                    to: to.clone(),
                    from: from.to_owned(),
                    signal,
                    whose: source.as_ref().map(Whose::of),
                    value: bytes.clone(),
                    print,
                };
                match fate {
                    Fate::Write => {
                        loops.wrote(now, to, from, print);
                        write(uplink, to, signal, source, bytes, counters, out);
                    }
                    Fate::Keep(place) => loops.keep(place, held()),
                    Fate::SetAside(place) => {
                        counters.dropped += 1;
                        loops.set_aside(place, held());
                    }
                }
            }
        });
        // Last: what was just heard may have made void what waits.
        self.elapse(now, out);
    }

    /// Writes what has waited long enough.
    fn elapse(&mut self, now: Time, out: &mut dyn Out) {
        self.loops.elapse(now);
        self.tell(out);
    }

    /// Writes what need not wait any longer, and tells of rings.
    fn tell(&mut self, out: &mut dyn Out) {
        let Self { uplink, routes, loops, counters, captures, .. } = self;
        while let Some(heed) = loops.heed() {
            match heed {
                Heed::Begin { place, to } => {
                    let mut ways = routes.iter().flat_map(|route| &route.ways);
                    // What a route takes is heard anyway.
                    if !ways.any(|(from, _)| from.captures(&to, captures)) {
                        uplink.watch(place as u32, &to, counters, out);
                    }
                }
                Heed::End { place } => uplink.unwatch(place as u32, counters, out),
            }
        }
        while let Some(held) = loops.ready() {
            write_held(uplink, &held, counters, out);
        }
        while let Some(ring) = loops.found() {
            counters.loops += 1;
            let names = ring.routes.iter().filter_map(|number| routes.get(*number));
            let names: Vec<_> = names.map(|route| route.written.to_string()).collect();
            let period_ms = ring.period.as_micros() as f64 / 1e3;
            out.warn(&format!(
                "a ring through devices was stopped at {}: it came round every {period_ms} ms, \
                 by {}",
                ring.to,
                names.join(" and ")
            ));
            uplink.publish(LOOP, Signal::Event, |out| push_ring(out, &ring, &names), counters, out);
            uplink.send(None, counters, out);
        }
    }
}

/// The value of [`LOOP`].
fn push_ring(out: &mut Vec<u8>, ring: &Ring, names: &[String]) -> Result<(), TooLong> {
    let mut map = MapWriter::start(out);
    push_str(map.entry("address")?, &ring.to)?;
    push_str(map.entry("from")?, &ring.from)?;
    let mut list = ArrayWriter::start(map.entry("routes")?);
    for name in names {
        push_str(list.item()?, name)?;
    }
    push_i64(map.entry("returns")?, ring.returns.into());
    push_i64(map.entry("period_us")?, ring.period.as_micros() as i64);
    let mut list = ArrayWriter::start(map.entry("values")?);
    for value in ring.values.iter().filter_map(|value| Value::from_encoded(value).ok()) {
        push_value(list.item()?, value);
    }
    Ok(())
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
    source: Option<Source<'_>>,
    value: &[u8],
    counters: &mut Counters,
    out: &mut dyn Out,
) {
    if let Some(source) = source {
        uplink.mark(&source);
    }
    let push = |bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(value);
        Ok(())
    };
    match signal {
        None => uplink.set(to, push, counters, out),
        Some(signal) => uplink.publish(to, signal, push, counters, out),
    }
    uplink.send(None, counters, out);
}

fn write_held(uplink: &mut Uplink, held: &Held, counters: &mut Counters, out: &mut dyn Out) {
    let source = held.whose.as_ref().map(Whose::source);
    write(uplink, &held.to, held.signal, source, &held.value, counters, out);
}

fn chain(key: &str, steps: &[Transform]) -> Result<Chain, ConfigError> {
    Chain::new(steps.to_vec()).map_err(|error| error.below(key))
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
        if route.loop_window_ms > LOOP_WINDOW_MS_MAX {
            return Err(ConfigError::new("loop_window_ms", "must be 0 to 1000 milliseconds"));
        }
        if let Some(aggregate) = route.aggregate {
            aggregate.check().map_err(|error| error.below("aggregate."))?;
        } else if !route.then.is_empty() {
            return Err(ConfigError::new("then", "needs `aggregate`; without it use `transform`"));
        }
        Ok(Self {
            written: route.clone(),
            ways,
            transform: chain("transform", &route.transform)?,
            aggregate: route.aggregate,
            then: chain("then", &route.then)?,
            write: route.write,
            passes_on,
            window: Span::from_millis(route.loop_window_ms.into()),
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

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => {
                self.changed = false;
                self.loops.forget();
                self.join(out);
            }
            Input::Lost => self.uplink.lose(),
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Deadline => self.elapse(now, out),
            Input::Clock { .. } | Input::Stop => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.loops.deadline()
    }

    /// A route that is written as before keeps what it remembers.
    fn succeed(
        &mut self,
        _: Time,
        next: Box<dyn Bridge>,
        out: &mut dyn Out,
    ) -> Result<(), Box<dyn Bridge>> {
        let next: Self = *same_kind(next)?;
        // What waits was made by routes that go.
        self.loops.let_go();
        self.tell(out);
        self.changed = true;
        let mut before = std::mem::replace(&mut self.routes, next.routes);
        for route in &mut self.routes {
            if let Some(same) = before.iter().position(|old| old.written == route.written) {
                let same = before.swap_remove(same);
                (route.sources, route.targets) = (same.sources, same.targets);
            }
        }
        let Self { uplink, routes, counters, .. } = self;
        uplink.ask_as(next.uplink, counters, out);
        uplink.subscribe_instead(patterns(routes).into_iter(), counters, out);
        Ok(())
    }

    /// Of each route, if what it captured is but the last segment of `to`, that with slot 1.
    fn writes(&self) -> Vec<String> {
        let whole = |route: &Ready| {
            let to = route.written.to.as_str();
            let (head, last) = to.rsplit_once('/')?;
            let last = if last.contains('{') { "1" } else { last };
            (!head.contains('{')).then(|| format!("{head}/{last}"))
        };
        self.routes.iter().filter_map(whole).collect()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn is_vacant(&self) -> bool {
        self.routes.is_empty()
    }

    fn is_settled(&self) -> bool {
        self.uplink.is_settled()
    }

    fn memory_bytes_max(&self) -> u64 {
        let is_watched = self.routes.iter().any(|route| route.window > Span::ZERO);
        if is_watched { loops::BYTES_MAX } else { 0 }
    }
}

#[cfg(test)]
mod rings;
#[cfg(test)]
mod tests;

//! The patch: which slots of which universe a fixture's functions are, as a desk has it.
//!
//! ```toml
//! [[patch]]
//! fixture = "/rig/spot1"
//! universe = "/artnet/0"
//! at = 21
//! slots = ["dimmer:16", "colour:rgb", "pan:16", "tilt:16", "-", "=255"]
//! fade_s = 0.5
//! ```
//!
//! `/rig/spot1/dimmer` is 0.0 to 1.0 and fills slots 21 (coarse) and 22 (fine) together,
//! `/rig/spot1/colour` is `"#ff8000"` or `[1.0, 0.5, 0.0]` and fills 23 to 25, and so on: nine
//! slots, of which 30 is left alone and 31 always full. All slots that one message changes are
//! written in one BUNDLE, so that no lamp ever shows the coarse half of a move.
//!
//! | written as | slots | takes |
//! |---|---|---|
//! | `name` or `name:8` | 1 | a float of 0.0 to 1.0, or a level of 0 to 255 |
//! | `name:16`, `name:24` | 2, 3 | a float of 0.0 to 1.0, or the number itself; coarse first |
//! | `name:rgb`, `name:rgbw` | 3, 4 | `"#rrggbb"`, `[r, g, b]`, `{r, g, b}`; white is their share |
//! | `=127` | 1 | nothing: always that level |
//! | `-` | 1 | nothing: somebody else's |
//!
//! With `direction = "in"` it is read the other way: what a desk sends into the universe (slot by
//! slot, or whole, as bytes at the universe's address) becomes params of the fixture, floats of 0.0
//! to 1.0 and lists of them, claimed by who wrote the slots where the router arbitrates. What
//! others say of the slots, who lose them, is told of the function, too.

mod bidders;
mod channel;
mod fade;

use std::collections::{BTreeMap, BTreeSet};

use clasp_rt_core::address;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::push_i64;
use serde::Deserialize;

use crate::datum::Datum;
use crate::level::{Floats, to_level};
use crate::merge::SLOTS;
use crate::uplink::{Bid, Kind, Source, Uplink, Whose};
use crate::{Bridge, ConfigError, Counters, Input, Out, namespace, same_kind};

use bidders::Bidders;
use channel::{Channel, Form};
use fade::Fade;

/// A moving slot is written so often: 40 times a second, below what a DMX line carries.
const TICK: Span = Span::from_millis(25);

/// A fade of a day is a mistake.
const FADE_S_MAX: f64 = 86_400.0;

/// From so many fixtures below one segment on, one subscription hears them all.
const SIBLINGS_MAX: usize = 16;

/// All patched fixtures of a router.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `patch`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    pub patch: Vec<Patch>,
    /// Passes on whose each slot is: whoever wrote it last also claims the function that it tells,
    /// and so do those who lose it. For routers that arbitrate. Default false.
    pub sources: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { name: "patch".into(), token: None, patch: Vec::new(), sources: false }
    }
}

/// `[[patch]]`: one fixture.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table: begin it with [[patch]]")]
pub struct Patch {
    /// The address below which its functions are.
    pub fixture: String,
    /// The address below which the slots are, 1 to 512: `/artnet/0`, `/sacn/1`, `/dmx/0`.
    pub universe: String,
    /// Its first slot, 1 to 512.
    pub at: u16,
    /// Its functions in the order of the slots, as its manual lists them.
    pub slots: Vec<String>,
    /// `out`: its functions fill the slots. `in`: the slots tell its functions. Default `out`.
    #[serde(default)]
    pub direction: Direction,
    /// Seconds that a function takes to its new value, in a straight line, 0 to 86400. Outward
    /// only. Default 0: at once.
    #[serde(default)]
    pub fade_s: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    #[default]
    Out,
    In,
}

/// Opens the patch that `config` describes. Two fixtures that fill one slot are refused.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Patched::new(&config).map(|patched| Box::new(patched) as Box<dyn Bridge>)
}

struct Patched {
    uplink: Uplink,
    counters: Counters,
    fixtures: Vec<Fixture>,
    /// Functions by their address: fixture and channel.
    functions: BTreeMap<String, Vec<(usize, usize)>>,
    /// Fixtures that are told by a universe, by its address.
    universes: BTreeMap<String, Vec<usize>>,
    patterns: BTreeSet<String>,
    next_tick: Option<Time>,
}

struct Fixture {
    fixture: String,
    universe: String,
    /// From 1.
    at: usize,
    direction: Direction,
    fade: Span,
    channels: Vec<Patching>,
    /// What the slots should show; `None`: nobody said yet.
    wanted: Vec<Option<u8>>,
    /// What the router was told of them. Inward, what it told us.
    told: Vec<Option<u8>>,
    /// A slot, or inward a function, changed since it was told.
    is_changed: bool,
}

/// A channel in its place.
struct Patching {
    channel: Channel,
    /// Its first slot, from 0 within the fixture.
    first: usize,
    fades: Vec<Fade>,
    /// Inward: one of its slots changed.
    is_changed: bool,
    /// Inward: who wrote it last, where that is told.
    whose: Option<Whose>,
    /// Inward: what each source says of its slots.
    bidders: Bidders,
}

impl Patched {
    fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut fixtures = Vec::new();
        let mut functions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut universes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut owners: BTreeMap<(&str, usize), &str> = BTreeMap::new();
        let mut patterns = BTreeSet::new();
        for (index, patch) in config.patch.iter().enumerate() {
            let wrong =
                |key: &str, why: String| ConfigError::new(format!("patch[{index}].{key}"), why);
            let fixture = Fixture::new(patch).map_err(|error| wrong(&error.key, error.why))?;
            match patch.direction {
                Direction::Out => {
                    for slot in fixture.own_slots() {
                        let owner = owners.insert((&patch.universe, slot), &patch.fixture);
                        if let Some(owner) = owner {
                            let universe = &patch.universe;
                            let why = format!("slot {slot} of {universe} is filled by {owner}");
                            return Err(wrong("at", why));
                        }
                    }
                    for (number, name) in fixture.functions() {
                        let address = format!("{}/{name}", patch.fixture);
                        functions.entry(address).or_default().push((index, number));
                    }
                }
                Direction::In => {
                    universes.entry(patch.universe.clone()).or_default().push(index);
                    patterns.insert(patch.universe.clone());
                    patterns.insert(format!("{}/*", patch.universe));
                }
            }
            fixtures.push(fixture);
        }
        patterns.extend(subscriptions(&config.patch));
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone())
                .await_all()
                .ask_sources(config.sources, None),
            counters: Counters::default(),
            fixtures,
            functions,
            universes,
            patterns,
            next_tick: None,
        })
    }

    /// Whatever the router was told before is told again, as far as it is known.
    fn join(&mut self, out: &mut dyn Out) {
        let patterns = self.patterns.iter().map(String::as_str);
        self.uplink.join(patterns, &mut self.counters, out);
        for fixture in &mut self.fixtures {
            fixture.told.fill(None);
            fixture.is_changed = fixture.direction == Direction::Out;
        }
        self.tell(out);
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { uplink, counters, fixtures, functions, universes, .. } = self;
        uplink.hear(frame, counters, out, &mut |uplink, update, counters, _| {
            if let Kind::Held { writer } = update.kind
                && uplink.is_ours(writer)
            {
                return;
            }
            if let Some(places) = functions.get(update.address) {
                for &(fixture, channel) in places {
                    let fixture = fixtures.get_mut(fixture);
                    if !fixture.is_some_and(|f| f.take(now, channel, &update.value)) {
                        counters.refused += 1;
                    }
                }
                return;
            }
            let understood = if let Some(Bid { address, source, value }) = Bid::of(&update) {
                desk(universes, address, &value, |fixture, slot, level| {
                    if let Some(fixture) = fixtures.get_mut(fixture) {
                        fixture.hear_bid(slot, level, &source);
                    }
                })
            } else {
                desk(universes, update.address, &update.value, |fixture, slot, level| {
                    if let Some(fixture) = fixtures.get_mut(fixture) {
                        fixture.hear(slot, level, update.source.as_ref());
                    }
                })
            };
            if !understood {
                counters.refused += 1;
            }
        });
        self.advance(now);
        self.tell(out);
    }

    /// Brings what moves to where it is at `now`, and decides when to look again.
    fn advance(&mut self, now: Time) {
        let mut is_moving = false;
        for fixture in &mut self.fixtures {
            is_moving |= fixture.advance(now);
        }
        self.next_tick = match self.next_tick {
            Some(due) if is_moving && due > now => Some(due),
            _ => is_moving.then(|| now + TICK),
        };
    }

    /// One BUNDLE for each fixture of which something changed.
    fn tell(&mut self, out: &mut dyn Out) {
        let Self { uplink, counters, fixtures, .. } = self;
        for fixture in fixtures.iter_mut().filter(|fixture| fixture.is_changed) {
            fixture.is_changed = false;
            match fixture.direction {
                Direction::Out => fixture.tell_slots(uplink, counters, out),
                Direction::In => fixture.tell_functions(uplink, counters, out),
            }
            uplink.send(None, counters, out);
        }
    }
}

impl Fixture {
    fn new(patch: &Patch) -> Result<Self, ConfigError> {
        for (key, text) in [("fixture", &patch.fixture), ("universe", &patch.universe)] {
            let wrong = |why: String| ConfigError::new(key, format!("`{text}`: {why}"));
            address::check(text).map_err(|error| wrong(error.to_string()))?;
            if text.ends_with('/') {
                return Err(wrong("must not end with a slash".to_owned()));
            }
        }
        if !(0.0..=FADE_S_MAX).contains(&patch.fade_s) {
            return Err(ConfigError::new("fade_s", "must be 0 to 86400 seconds"));
        }
        if patch.direction == Direction::In && patch.fade_s > 0.0 {
            return Err(ConfigError::new("fade_s", "a fade is for `direction = \"out\"`"));
        }
        let mut channels: Vec<Patching> = Vec::new();
        let mut first = 0;
        for (index, text) in patch.slots.iter().enumerate() {
            let wrong = |why| ConfigError::new(format!("slots[{index}]"), why);
            let channel = Channel::parse(text).map_err(wrong)?;
            let name = &channel.name;
            if !name.is_empty() && channels.iter().any(|other| other.channel.name == *name) {
                return Err(wrong(format!("`{name}` is there twice")));
            }
            let numbers = channel.slots() / usize::from(channel.octets());
            let fades = vec![Fade::default(); numbers];
            let slots = channel.slots();
            let bidders = Bidders::default();
            let (is_changed, whose) = (false, None);
            channels.push(Patching { channel, first, fades, is_changed, whose, bidders });
            first += slots;
        }
        if channels.is_empty() {
            return Err(ConfigError::new("slots", "names no function"));
        }
        let at = usize::from(patch.at);
        if at == 0 || at + first - 1 > SLOTS {
            let why = format!("{first} slots from {at} are not within 1 to {SLOTS}");
            return Err(ConfigError::new("at", why));
        }
        let mut wanted = vec![None; first];
        for patching in &channels {
            if let (Form::Constant(level), Some(slot)) =
                (patching.channel.form, wanted.get_mut(patching.first))
            {
                *slot = Some(level);
            }
        }
        Ok(Self {
            fixture: patch.fixture.clone(),
            universe: patch.universe.clone(),
            at,
            direction: patch.direction,
            fade: Span((patch.fade_s * 1e9) as u64),
            channels,
            wanted,
            told: vec![None; first],
            is_changed: false,
        })
    }

    /// Takes over what was told of the slots that `old` had, too, and what the same function is on
    /// its way to.
    fn remember(&mut self, old: &Self) {
        if old.universe != self.universe || old.direction != self.direction {
            return;
        }
        for (slot, told) in (self.at..).zip(&mut self.told) {
            let there = slot.checked_sub(old.at).and_then(|slot| old.told.get(slot));
            *told = there.copied().flatten().or(*told);
        }
        if old.fixture != self.fixture {
            return;
        }
        for patching in &mut self.channels {
            let place = self.at + patching.first;
            let same = |other: &&Patching| {
                old.at + other.first == place && other.channel == patching.channel
            };
            if let Some(other) = old.channels.iter().find(same) {
                patching.fades.clone_from(&other.fades);
            }
        }
    }

    /// Slots that it fills, from 1 within the universe.
    fn own_slots(&self) -> impl Iterator<Item = usize> {
        let filled = |patching: &&Patching| patching.channel.form != Form::Unused;
        self.channels.iter().filter(filled).flat_map(|patching| {
            let first = self.at + patching.first;
            first..first + patching.channel.slots()
        })
    }

    /// Its functions that have an address, with their number.
    fn functions(&self) -> impl Iterator<Item = (usize, &str)> {
        let names = self.channels.iter().map(|patching| patching.channel.name.as_str());
        names.enumerate().filter(|(_, name)| !name.is_empty())
    }

    /// Outward: a function has a new value. `false`: one that means nothing here.
    fn take(&mut self, now: Time, channel: usize, value: &Datum<'_>) -> bool {
        let Some(patching) = self.channels.get_mut(channel) else { return false };
        let Some((numbers, count)) = patching.channel.numbers(value) else { return false };
        for (fade, number) in patching.fades.iter_mut().zip(&numbers[..count]) {
            fade.aim(now, *number, self.fade);
        }
        true
    }

    /// Outward: brings all slots to where they are at `now`. Whether one still moves.
    fn advance(&mut self, now: Time) -> bool {
        let mut is_moving = false;
        for patching in &self.channels {
            let octets = usize::from(patching.channel.octets());
            for (index, fade) in patching.fades.iter().enumerate() {
                let Some(number) = fade.at(now) else { continue };
                is_moving |= fade.is_moving(now);
                let levels = number.to_be_bytes();
                let first = patching.first + index * octets;
                let slots = self.wanted.iter_mut().skip(first).take(octets);
                for (slot, level) in slots.zip(&levels[levels.len() - octets..]) {
                    self.is_changed |= *slot != Some(*level);
                    *slot = Some(*level);
                }
            }
        }
        is_moving
    }

    /// Inward: the desk shows `level` in `slot`, from 1 within the universe.
    fn hear(&mut self, slot: usize, level: u8, source: Option<&Source<'_>>) {
        let Some(slot) = slot.checked_sub(self.at) else { return };
        let Some(known) = self.told.get_mut(slot) else { return };
        // The same level of somebody else is a claim of his.
        if *known == Some(level) && source.is_none() {
            return;
        }
        *known = Some(level);
        for patching in &mut self.channels {
            let slots = patching.first..patching.first + patching.channel.slots();
            if slots.contains(&slot) && !patching.channel.name.is_empty() {
                patching.is_changed = true;
                patching.whose = source.map(Whose::of);
                if let Some(source) = source {
                    patching.bidders.note(source, slot - patching.first, level);
                }
                self.is_changed = true;
            }
        }
    }

    /// Inward: `source` says `level` of `slot`, which another one has.
    fn hear_bid(&mut self, slot: usize, level: u8, source: &Source<'_>) {
        let Some(slot) = slot.checked_sub(self.at) else { return };
        for patching in &mut self.channels {
            let slots = patching.first..patching.first + patching.channel.slots();
            if slots.contains(&slot) && !patching.channel.name.is_empty() {
                patching.bidders.note(source, slot - patching.first, level);
                patching.bidders.bid(source);
                self.is_changed = true;
            }
        }
    }

    fn tell_slots(&mut self, uplink: &mut Uplink, counters: &mut Counters, out: &mut dyn Out) {
        let slots = self.wanted.iter().zip(&mut self.told).enumerate();
        for (slot, (wanted, told)) in slots.filter(|(_, (wanted, told))| *wanted != *told) {
            let Some(level) = *wanted else { continue };
            *told = *wanted;
            let address = format!("{}/{}", self.universe, self.at + slot);
            let push = |bytes: &mut Vec<u8>| {
                push_i64(bytes, i64::from(level));
                Ok(())
            };
            uplink.set(&address, push, counters, out);
        }
    }

    /// A function is told when all of its slots are known.
    fn tell_functions(&mut self, uplink: &mut Uplink, counters: &mut Counters, out: &mut dyn Out) {
        self.tell_bids(uplink, counters, out);
        let mut levels = Vec::new();
        for patching in self.channels.iter_mut().filter(|patching| patching.is_changed) {
            patching.is_changed = false;
            levels.clear();
            let slots = self.told.iter().skip(patching.first).take(patching.channel.slots());
            levels.extend(slots.flatten());
            if levels.len() < patching.channel.slots() {
                continue;
            }
            let address = format!("{}/{}", self.fixture, patching.channel.name);
            match &patching.whose {
                Some(whose) => uplink.mark(&whose.source()),
                // Behind somebody's it would be his.
                None => uplink.send(None, counters, out),
            }
            uplink.set(&address, |out| patching.channel.push(&levels, out), counters, out);
        }
    }

    /// What those say of a function who lose its slots: before it is told itself, so that of two
    /// changes the winner's is the later one.
    fn tell_bids(&mut self, uplink: &mut Uplink, counters: &mut Counters, out: &mut dyn Out) {
        for Patching { channel, bidders, .. } in &mut self.channels {
            while let Some((bidder, levels)) = bidders.next(channel.slots()) {
                let address = format!("{}/{}", self.fixture, channel.name);
                let push = |out: &mut Vec<u8>| channel.push(&levels, out);
                uplink.bid(&address, &bidder.source(), push, counters, out);
                uplink.send(None, counters, out);
            }
        }
    }
}

/// What `value` says at `address` of the universes that a desk fills: fixture, slot from 1 and
/// level. `false`: it is of such a universe, but no level.
fn desk(
    universes: &BTreeMap<String, Vec<usize>>,
    address: &str,
    value: &Datum<'_>,
    mut each: impl FnMut(usize, usize, u8),
) -> bool {
    if let Some(fixtures) = universes.get(address) {
        let Datum::Other(value) = value else { return false };
        let Some(levels) = value.as_bytes() else { return false };
        for fixture in fixtures {
            (1..).zip(levels).for_each(|(slot, level)| each(*fixture, slot, *level));
        }
        return true;
    }
    let Some((universe, slot)) = address.rsplit_once('/') else { return true };
    let Some(fixtures) = universes.get(universe) else { return true };
    // What else a bridge tells below a universe, such as its priority, is no slot.
    let Some(slot) = namespace::number(slot).map(usize::from) else { return true };
    let Some(level) = to_level(value, Floats::Auto) else { return false };
    fixtures.iter().for_each(|fixture| each(*fixture, slot, level));
    true
}

/// Patterns that hear all functions of what goes out: one for each fixture, or for all that are
/// many below one segment.
fn subscriptions(patches: &[Patch]) -> BTreeSet<String> {
    let mut families: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for patch in patches.iter().filter(|patch| patch.direction == Direction::Out) {
        let parent = patch.fixture.rsplit_once('/').map_or("", |(parent, _)| parent);
        families.entry(parent).or_default().insert(&patch.fixture);
    }
    let patterns = families.into_iter().flat_map(|(parent, fixtures)| {
        if fixtures.len() >= SIBLINGS_MAX {
            vec![format!("{parent}/*/*")]
        } else {
            fixtures.into_iter().map(|fixture| format!("{fixture}/*")).collect()
        }
    });
    patterns.collect()
}

impl Bridge for Patched {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => self.join(out),
            Input::Lost => self.uplink.lose(),
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Deadline => {
                self.advance(now);
                self.tell(out);
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next_tick
    }

    /// A slot keeps its level and a function that is patched as before its way, so that nothing
    /// flickers; slots that nobody fills any more stay as they are.
    fn succeed(
        &mut self,
        now: Time,
        next: Box<dyn Bridge>,
        out: &mut dyn Out,
    ) -> Result<(), Box<dyn Bridge>> {
        let next: Self = *same_kind(next)?;
        let before = std::mem::replace(&mut self.fixtures, next.fixtures);
        (self.functions, self.universes) = (next.functions, next.universes);
        self.patterns = next.patterns;
        for fixture in &mut self.fixtures {
            before.iter().for_each(|old| fixture.remember(old));
            fixture.is_changed = fixture.direction == Direction::Out;
        }
        self.uplink.ask_as(next.uplink, &mut self.counters, out);
        let patterns = self.patterns.iter().map(String::as_str);
        self.uplink.subscribe_instead(patterns, &mut self.counters, out);
        self.advance(now);
        self.tell(out);
        Ok(())
    }

    /// The first slot of each fixture.
    fn writes(&self) -> Vec<String> {
        let fills = |fixture: &&Fixture| fixture.direction == Direction::Out;
        let fixtures = self.fixtures.iter().filter(fills);
        fixtures.map(|fixture| format!("{}/{}", fixture.universe, fixture.at)).collect()
    }

    fn fills_universes(&self) -> bool {
        true
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn is_vacant(&self) -> bool {
        self.fixtures.is_empty()
    }

    fn is_settled(&self) -> bool {
        self.uplink.is_settled()
    }
}

#[cfg(test)]
mod tests;

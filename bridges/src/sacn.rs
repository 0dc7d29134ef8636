//! sACN (ANSI E1.31-2018): universes of 512 levels over UDP multicast, with priorities.
//!
//! # Addresses
//!
//! | address | value | direction |
//! |---|---|---|
//! | `/sacn/{universe}/{slot 1-512}` | level: int of 0-255, or float of 0.0-1.0 | both ways |
//! | `/sacn/{universe}` | levels from slot 1 on: array or bytes | to the network |
//! | `/sacn/{universe}/priority` | int of 0-200 | both ways |
//! | `/sacn/{universe}/{slot}/priority` | int of 0-200, 0 lets go of it | to the network |
//! | `/sacn/{universe}/sources` | array of `{cid, name, host, priority}` | from the network |
//! | `/sacn/{universe}/alarm` | event: more sources than are heard | from the network |
//! | `/sacn/discovery/{cid}` | `{name, host, universes}` | from the network |
//!
//! Universes are 1 to 63999. What a float means when it is written is
//! [`Floats`](crate::level::Floats).
//!
//! # From the network
//!
//! One data packet becomes one BUNDLE of the slots that changed; the first of a universe tells all
//! its slots. How several sources become one look is declared in [`universe`]: priority, then HTP
//! or LTP. Late packets (sequence), previews, our own and other start codes than levels and
//! per-slot priorities (0xDD) are left out. Frames that name a synchronisation universe wait for
//! its packets; the first ones, and those after 2.5 s without, do not ([`OnSyncLost`]). With
//! [`Mode::Universe`] a universe is told as one param of bytes. A router that takes less than the
//! network brings is told the newest look of each universe, when it takes more again.
//!
//! The groups of all chosen universes are joined at start. With `inputs = "all"` that would be
//! 63,999: then those are joined of which a source's universe discovery speaks.
//!
//! # To the network
//!
//! Changes of a universe within 1 ms leave as one packet, in the long run at most `rate_hz_max` a
//! second; two may be as near as a quarter of a frame (5.7 ms at 44 Hz), or 1 ms where the first
//! was late, and those behind them wait so much longer. The last one is sent three times more, the
//! first of them two frames later where a universe moves, and then every 800 ms. Packets that are
//! due at once are spread over at most three quarters of a frame. At a stop each universe ends with
//! three stream-terminated packets. What is received is never sent out again.

mod config;
mod discovery;
mod groups;
mod input;
mod output;
pub mod packet;
mod senders;
mod telling;
#[cfg(test)]
mod tests;
pub mod universe;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::time::{Span, Time};

use crate::datum::Datum;
use crate::level::to_level;
use crate::merge::SLOTS;
use crate::target::resolve_all;
use crate::universes::contest::Ear;
use crate::universes::written::Written;
use crate::universes::{Mode, Number, first_of, plain_slot};
use crate::uplink::{Kind, Update, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, namespace};
use discovery::Discovered;
use groups::Groups;
use input::{Inputs, Received};
use output::{Outputs, Source, To};
use packet::{DISCOVERY_UNIVERSE, PORT, PRIORITY_MAX, Packet, Universe};
use telling::Telling;
use universe::Rules;

pub use config::{Config, OnSyncLost, Universes};

/// Every number of a universe, and 0.
const NUMBERS: usize = 64_000;

/// A router that takes nothing at present is told again so much later.
const PATIENCE: Span = Span::from_millis(1);

/// How often sources and synchronisation are looked at for silence.
const TICK: Span = Span::from_millis(100);

/// How often the router hears that sources are there which change nothing.
const ALIVE: Span = Span::from_secs(1);

/// Opens the bridge that `config` describes. Host names are looked up here, once, and who the host
/// is.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Sacn::new(config, &Host::read()).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

/// Who the host is: what a source's name and CID are made of where none are given.
#[derive(Clone, Debug, Default)]
struct Host {
    name: String,
    /// Differs between hosts of one name.
    id: String,
}

impl Host {
    fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self { name: read("/proc/sys/kernel/hostname"), id: read("/etc/machine-id") }
    }

    /// A CID for the bridge `name` that is the same at every start: a UUID of version 5.
    fn cid(&self, name: &str) -> packet::Cid {
        let text = format!("clasp-rt sacn {} {} {name}", self.id, self.name);
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).into_bytes()
    }

    fn source_name(&self) -> String {
        match self.name.as_str() {
            "" => "clasp-rt".into(),
            name => format!("clasp-rt {name}"),
        }
    }
}

struct Sacn {
    config: Config,
    uplink: Uplink,
    inputs: Inputs,
    outputs: Outputs,
    discovered: Discovered,
    groups: Groups,
    /// Groups joined because the network spoke of them.
    joined: BTreeSet<u16>,
    telling: Telling,
    written: Written,
    counters: Counters,
    /// When silence is looked for next; `None` before the first input.
    tick_at: Option<Time>,
    /// When what the router had no room for is told again.
    tell_at: Option<Time>,
    announce_at: Option<Time>,
    alive_at: Time,
    /// What [`Sacn::next_due`] gave when it was last asked: only inputs move it.
    due: Option<Time>,
    is_joined: bool,
}

/// A component identifier as people write it.
fn read_cid(text: &str) -> Result<packet::Cid, ConfigError> {
    let wrong = |why: &dyn std::fmt::Display| ConfigError::new("cid", format!("`{text}`: {why}"));
    let cid = uuid::Uuid::parse_str(text).map_err(|error| wrong(&error))?;
    if cid.is_nil() {
        return Err(wrong(&"names nobody: write one that `uuidgen` makes, or leave it out"));
    }
    Ok(cid.into_bytes())
}

impl Sacn {
    fn new(config: Config, host: &Host) -> Result<Self, ConfigError> {
        config.check()?;
        let cid = match &config.cid {
            None => host.cid(&config.name),
            Some(text) => read_cid(text)?,
        };
        let source_name = config.source_name.clone().unwrap_or_else(|| host.source_name());
        let sync = match config.sync_universe {
            None => None,
            Some(number) => Some(Universe::new(number).ok_or_else(|| {
                ConfigError::new("sync_universe", format!("{number} is not 1 to 63999"))
            })?),
        };
        let targets = resolve_all("targets", &config.targets, Some(PORT), config.bind)?;
        let groups = Groups { is_v6: config.bind.is_ipv6(), port: config.bind.port() };
        let source = Source {
            cid,
            name: source_name,
            priority: config.priority,
            slot_priorities: config.slot_priorities,
            sync,
        };
        let socket = sockets(&config).len().saturating_sub(1) as u8;
        let to = To { socket, groups: config.multicast.then_some(groups), targets };
        let interval = Span::from_micros(1_000_000 / u64::from(config.rate_hz_max));
        let universes_max = usize::from(config.universes_max);
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone())
                .arbitrated(telling::arbitrated(&config)),
            inputs: Inputs::new(rules(&config), config.on_sync_lost, universes_max),
            outputs: Outputs::new(interval, universes_max, source, to),
            discovered: Discovered::default(),
            groups,
            joined: BTreeSet::new(),
            telling: Telling::new(&config),
            written: Written::new(&config.namespace, config.floats),
            counters: Counters::default(),
            tick_at: None,
            tell_at: None,
            announce_at: None,
            alive_at: Time(0),
            due: None,
            is_joined: false,
            config,
        })
    }

    /// Takes a packet that repeats a universe while nothing waits to be told: what most packets of
    /// a show do. Neither the router nor a deadline is concerned. `false`: there is more to it, and
    /// nothing was taken.
    fn repeat(&mut self, now: Time, bytes: &[u8]) -> bool {
        let repeats = !self.inputs.any_ready() && self.inputs.repeat(now, bytes);
        self.counters.packets_in += u64::from(repeats);
        repeats
    }

    fn packet(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut dyn Out) {
        let packet = match packet::decode(bytes) {
            Ok(packet) => packet,
            Err(_) => {
                self.counters.malformed += 1;
                return;
            }
        };
        self.counters.packets_in += 1;
        let own = self.outputs.cid();
        match packet {
            // A multicast comes back to its sender.
            Packet::Data(data) if data.cid == *own => {}
            Packet::Discovery(page) if page.cid == *own => {}
            Packet::Data(data) => self.data(now, from.ip(), &data, bytes, out),
            Packet::Sync(sync) => {
                self.inputs.sync(now, &sync);
                self.tell(now, out);
            }
            Packet::Discovery(page) => match self.discovered.receive(now, from.ip(), &page) {
                Ok(true) => {
                    self.join_discovered(out);
                    self.tell(now, out);
                }
                Ok(false) => {}
                Err(discovery::Full) => self.counters.overflowed += 1,
            },
            Packet::Other { .. } => self.counters.refused += 1,
        }
    }

    /// Takes levels or priorities, which `bytes` are.
    fn data(
        &mut self,
        now: Time,
        from: IpAddr,
        data: &packet::Data<'_>,
        bytes: &[u8],
        out: &mut dyn Out,
    ) {
        if !self.config.inputs.contain(data.universe) {
            self.counters.refused += 1;
            return;
        }
        if data.preview && !self.config.preview {
            self.counters.dropped += 1;
            return;
        }
        match self.inputs.receive(now, from, data) {
            Received::Taken => {
                if let Some((_, head, _)) = packet::split(bytes) {
                    self.inputs.note(data, head);
                }
                self.tell(now, out);
            }
            Received::Joins(sync) => {
                self.join_group(sync, out);
                self.tell(now, out);
            }
            Received::Ignored(universe::Ignored::Stale) => self.counters.dropped += 1,
            Received::Ignored(universe::Ignored::StartCode) => self.counters.refused += 1,
            Received::Ignored(universe::Ignored::TooManySources) => {
                self.counters.overflowed += 1;
                let Self { inputs, telling, uplink, counters, .. } = self;
                if let Some(universe) = inputs.alarm(data.universe.number()) {
                    telling.alarm(universe, &data.cid, &mut Ear { uplink, counters, out });
                }
            }
            Received::TooManyUniverses | Received::TooManySenders => self.counters.overflowed += 1,
        }
    }

    /// With `inputs = "all"` the groups of those universes are joined that somebody sends.
    fn join_discovered(&mut self, out: &mut dyn Out) {
        if self.config.inputs != Universes::All {
            return;
        }
        let universes: BTreeSet<_> = self.discovered.universes().collect();
        for number in universes {
            if Universe::new(number).is_some() {
                self.join_group(number, out);
            }
        }
    }

    fn join_group(&mut self, number: u16, out: &mut dyn Out) {
        let is_static =
            self.config.inputs != Universes::All && joined_at_start(&self.config).contains(&number);
        if is_static || self.joined.contains(&number) {
            return;
        }
        if self.joined.len() == usize::from(self.config.universes_max) {
            self.counters.overflowed += 1;
            return;
        }
        self.joined.insert(number);
        out.join(0, self.groups.ip(number));
    }

    /// Tells the router what changed in the universes that may be shown now, as far as it takes it.
    fn tell(&mut self, now: Time, out: &mut dyn Out) {
        let Self { uplink, inputs, discovered, counters, telling, .. } = self;
        let mut ear = Ear { uplink, counters, out };
        self.tell_at = None;
        while inputs.any_ready() || discovered.next_untold().is_some() {
            if ear.out.room() < FRAME_BYTES_MAX {
                self.tell_at = Some(now + PATIENCE);
                return;
            }
            if let Some((universe, senders)) = inputs.next_ready(now) {
                let number = universe.number;
                if telling.tell(universe, senders, &mut ear) {
                    inputs.tell_again(number);
                }
            } else if let Some(source) = discovered.next_untold() {
                source.is_told = true;
                telling.tell_discovered(&source.cid, Some(source), &mut ear);
            }
        }
    }

    /// Takes a frame of the router that says nothing but levels. `false`: there is more to it, and
    /// nothing was taken.
    fn told_levels(&mut self, now: Time, frame: &[u8]) -> bool {
        let Self { written, config, outputs, counters, .. } = self;
        let Some(levels) = written.read(frame) else { return false };
        counters.frames_in += 1;
        for levels in levels.chunk_by(|one, next| one.universe == next.universe) {
            match levels.first().and_then(|one| Universe::new(one.universe)) {
                None => counters.refused += levels.len() as u64,
                Some(universe) if !config.outputs.contain(universe) => {}
                Some(universe) if outputs.write_slots(now, universe.number(), levels) => {}
                Some(_) => counters.overflowed += levels.len() as u64,
            }
        }
        true
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        if self.told_levels(now, frame) {
            return;
        }
        let Self { config, uplink, outputs, .. } = self;
        uplink.hear(frame, &mut self.counters, out, &mut |uplink, update, counters, _| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            if !is_ours {
                write(config, outputs, now, &update, counters);
            }
        });
        if self.uplink.take_declared() {
            self.inputs.forget_told();
            self.tell(now, out);
        }
    }

    fn join(&mut self, now: Time, out: &mut dyn Out) {
        self.is_joined = true;
        let pattern = format!("{}/**", self.config.namespace);
        self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
        self.inputs.forget_told();
        self.discovered.forget_told();
        self.tell(now, out);
    }

    fn elapse(&mut self, now: Time, out: &mut dyn Out) {
        if !self.outputs.is_leaving() {
            if self.tick_at.is_none_or(|tick| tick <= now) {
                self.tick_at = Some(now + TICK);
                self.tick(now, out);
            }
            if self.tell_at.is_some_and(|tell| tell <= now) {
                self.tell(now, out);
            }
            if self.announce_at.is_some_and(|at| at <= now) {
                self.announce_at = Some(now + discovery::INTERVAL);
                self.outputs.announce(&mut self.counters, out);
            }
        }
        self.outputs.send_due(now, &mut self.counters, out);
    }

    fn tick(&mut self, now: Time, out: &mut dyn Out) {
        self.inputs.expire(now);
        let Self { inputs, discovered, uplink, counters, telling, .. } = self;
        let mut ear = Ear { uplink, counters, out };
        discovered.expire(now, |source| telling.tell_discovered(&source.cid, None, &mut ear));
        if self.is_joined && self.alive_at <= now {
            self.alive_at = now + ALIVE;
            telling.tell_alive(inputs, &mut ear);
        }
        self.tell_at = Some(now);
    }

    /// As [`Bridge::step`], whatever the input is.
    fn take(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        self.inputs.begin(now);
        match input {
            Input::Joined => self.join(now, out),
            Input::Lost => {
                self.is_joined = false;
                self.uplink.lose();
            }
            Input::Packet { socket: 0 | 1, from, bytes } => self.packet(now, from, bytes, out),
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Deadline => self.elapse(now, out),
            Input::Clock { .. } => {}
            Input::Stop => {
                self.outputs.leave(now);
                self.outputs.send_due(now, &mut self.counters, out);
            }
            _ => self.counters.malformed += 1,
        }
        // Ticks begin with the first input, which tells what time it is.
        self.tick_at.get_or_insert(now);
        self.announce_at.get_or_insert(now + Span::from_secs(1));
        self.due = self.next_due();
    }

    fn next_due(&self) -> Option<Time> {
        if self.outputs.is_leaving() {
            // Nothing else is due any more.
            return self.outputs.deadline();
        }
        first_of([self.tick_at, self.announce_at, self.tell_at, self.outputs.deadline()])
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        merge: config.merge,
        sources_max: config.sources_max.into(),
        claims: telling::claims(config),
        settle: Span::from_millis(config.settle_ms.into()),
    }
}

/// The universes whose groups are joined at start: those chosen, and that of discovery.
fn joined_at_start(config: &Config) -> BTreeSet<u16> {
    let chosen = match &config.inputs {
        Universes::All => Vec::new(),
        some => some.ranges(),
    };
    let chosen = chosen.into_iter().flat_map(|(first, last)| first..=last);
    let takes = config.inputs.count() > 0;
    chosen.chain(takes.then_some(DISCOVERY_UNIVERSE)).collect()
}

/// One socket for groups, and where `bind` names an interface a second for what is sent to it
/// alone; the last one sends.
fn sockets(config: &Config) -> Vec<SocketPlan> {
    let groups = Groups { is_v6: config.bind.is_ipv6(), port: config.bind.port() };
    let multicast: Vec<_> =
        joined_at_start(config).into_iter().map(|number| groups.ip(number)).collect();
    let plan = |multicast| SocketPlan {
        bind: config.bind,
        broadcast: false,
        reuse_address: true,
        multicast,
        skip_own: false,
    };
    if multicast.is_empty() || config.bind.ip().is_unspecified() {
        vec![plan(multicast)]
    } else {
        vec![plan(multicast), plan(Vec::new())]
    }
}

/// What an address of ours names. Slots count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Universe(Universe),
    Slot(Universe, usize),
    Priority(Universe),
    SlotPriority(Universe, usize),
    /// What only the bridge tells.
    Told,
}

fn place(namespace: &str, address: &str) -> Option<Place> {
    let rest = namespace::strip(namespace, address)?.strip_prefix('/')?;
    if let Some((number, slot)) = plain_slot(rest.as_bytes()) {
        let slot = Some(usize::from(slot)).filter(|slot| (1..=SLOTS).contains(slot))?;
        return Some(Place::Slot(Universe::new(number)?, slot - 1));
    }
    let mut rest = rest.split('/');
    let (first, second, third) = (rest.next()?, rest.next(), rest.next());
    if rest.next().is_some() {
        return None;
    }
    if first == "discovery" {
        return Some(Place::Told);
    }
    let universe = Universe::new(namespace::number(first)?)?;
    let slot = |text: &str| {
        let slot = usize::from(namespace::number(text)?);
        (1..=SLOTS).contains(&slot).then(|| slot - 1)
    };
    match (second, third) {
        (None, _) => Some(Place::Universe(universe)),
        (Some("priority"), None) => Some(Place::Priority(universe)),
        (Some("sources" | "alarm"), None) => Some(Place::Told),
        (Some(text), None) => Some(Place::Slot(universe, slot(text)?)),
        (Some(text), Some("priority")) => Some(Place::SlotPriority(universe, slot(text)?)),
        _ => None,
    }
}

/// Takes a value that somebody has written below the namespace.
fn write(
    config: &Config,
    outputs: &mut Outputs,
    now: Time,
    update: &Update<'_>,
    counters: &mut Counters,
) {
    let place = match place(&config.namespace, update.address) {
        None => {
            counters.refused += 1;
            return;
        }
        Some(Place::Told) => return,
        Some(place) => place,
    };
    let (Place::Universe(universe)
    | Place::Slot(universe, _)
    | Place::Priority(universe)
    | Place::SlotPriority(universe, _)) = place
    else {
        return;
    };
    if !config.outputs.contain(universe) {
        return;
    }
    let number = universe.number();
    let level = |value: &Datum<'_>| to_level(value, config.floats);
    let priority = match &update.value {
        Datum::Int(priority) => Some((*priority).clamp(0, PRIORITY_MAX.into()) as u8),
        Datum::Float(priority) if !priority.is_nan() => {
            Some(priority.clamp(0.0, PRIORITY_MAX.into()) as u8)
        }
        _ => None,
    };
    let written = match (place, &update.value) {
        (Place::Slot(_, slot), value) => {
            level(value).map(|level| outputs.write(now, number, slot, level))
        }
        (Place::Priority(_), _) => {
            priority.map(|priority| outputs.prioritise(now, number, priority))
        }
        (Place::SlotPriority(_, slot), _) if config.slot_priorities => {
            priority.map(|priority| outputs.prioritise_slot(now, number, slot, priority))
        }
        (Place::Universe(_), Datum::Other(value)) => {
            if let Some(items) = value.array() {
                let levels: Option<Vec<_>> =
                    items.take(SLOTS).map(|item| level(&Datum::new(item))).collect();
                levels.map(|levels| outputs.write_all(now, number, &levels))
            } else {
                value.as_bytes().map(|bytes| outputs.write_all(now, number, bytes))
            }
        }
        _ => None,
    };
    match written {
        Some(true) => {}
        Some(false) => counters.overflowed += 1,
        None => counters.refused += 1,
    }
}

impl Bridge for Sacn {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        sockets(&self.config)
    }

    fn sends(&self, address: &str) -> Option<bool> {
        let rest = namespace::strip(&self.config.namespace, address)?.strip_prefix('/')?;
        let (number, _slot) = rest.split_once('/')?;
        let number = Universe::new(namespace::number(number)?)?;
        Some(self.config.outputs.contain(number))
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        if let Input::Packet { socket: 0 | 1, bytes, .. } = input
            && self.repeat(now, bytes)
        {
            return;
        }
        self.take(now, input, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }

    fn has_last_words(&self) -> bool {
        self.outputs.is_leaving()
    }

    fn params_max(&self) -> u64 {
        let universes = self.config.inputs.count().min(self.config.universes_max.into()) as u64;
        // Beside the levels of each: its sources and its priority.
        match self.config.mode {
            Mode::Channel => universes * (SLOTS as u64 + 2),
            Mode::Universe => universes * 3,
        }
    }

    fn memory_bytes_max(&self) -> u64 {
        let Config { inputs, outputs, universes_max, slot_priorities, .. } = &self.config;
        let inputs = inputs.count().min((*universes_max).into());
        let outputs = outputs.count().min((*universes_max).into());
        Inputs::memory_bytes_for(inputs, &rules(&self.config))
            + Outputs::memory_bytes_for(outputs, *slot_priorities)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

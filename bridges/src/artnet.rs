//! Art-Net 4: universes of 512 levels over UDP, found by polling.
//!
//! # Addresses
//!
//! | address | value | direction |
//! |---|---|---|
//! | `/artnet/{port-address}/{slot 1-512}` | level: int of 0-255, or float of 0.0-1.0 | both ways |
//! | `/artnet/{port-address}` | levels from slot 1 on: array or bytes | to the network |
//! | `/artnet/nodes/{ip}/name`, `long_name`, `report` | text of its last poll reply | from it |
//! | `/artnet/nodes/{ip}/outputs`, `inputs` | arrays of port-addresses | from the network |
//! | `/artnet/nodes/{ip}/online` | bool; false after three polls without an answer | from it |
//! | `/artnet/nodes/{ip}/diagnostics` | event, map: priority, port, text | from the network |
//! | `/artnet/trigger/{ascii, macro, soft, show}` | event: int of 0-255, or one character | both |
//! | `/artnet/trigger/oem` | event, map: oem, key, sub_key, data | both ways |
//! | `/artnet/command` | event: text such as `SwoutText=Playback&` | both ways |
//! | `/artnet/timecode`, `/artnet/timecode/{1-255}` | `hh:mm:ss:ff`, or a map | both ways |
//! | `/artnet/timecode/rate`, `/artnet/timecode/{1-255}/rate` | 24, 25, 29.97 or 30 | both ways |
//! | `/artnet/nzs/{port-address}/{start code}` | event: bytes that are no levels | both ways |
//! | `/artnet/rdm/{port-address}` | event, map: see below | both ways |
//!
//! Port-addresses are told in decimal (0-32767) and also understood as `net:sub-net:universe`. What
//! a float means when it is written is [`Floats`](crate::level::Floats).
//!
//! # From the network
//!
//! One ArtDmx becomes one BUNDLE of the slots that changed; the first of a universe tells all its
//! slots, zeros included. Late packets (sequence) are dropped. Two senders of one universe, told
//! apart by IP address, are merged ([`crate::merge`]: HTP or LTP); a third is ignored, a silent one
//! lost after 10 s. After an ArtSync its sender's frames wait for the next one, until none came for
//! 4 s; while two senders merge, nothing waits. A router that takes less than the network brings is
//! told the newest look of each universe, when it takes more again: looks in between are left out,
//! the last one never. With [`Mode::Universe`] a universe is told as one param of bytes. Where the
//! router arbitrates, it is told which sender has each slot, and what the other one says of it.
//!
//! # To the network
//!
//! Changes of a universe within [`GATHER`] leave as one ArtDmx, and the last one is repeated every
//! [`REPEAT`]. In the long run they are at most `rate_hz_max` a second; two may be as near as a
//! quarter of a frame (5.7 ms at 44 Hz), or [`GATHER`] where the first was late, and those behind
//! them wait so much longer. Universes that are due at once leave one after the other, spread over
//! at most three quarters of a frame. It goes to the nodes whose poll reply lists the port-address
//! and to every `target`; to `broadcast` only when `broadcast_levels` says so and nobody lists it.
//! What came in from the network is not sent out again unless `resend_received` says so; and what
//! the router remembers from before we were started is sent only as long as nobody on the network
//! sends that universe.
//!
//! # As a node and as a controller
//!
//! Polls are answered within a second, at a moment that differs from machine to machine, with four
//! ports a reply, and at once when something changed, to those who want that. An ArtAddress may
//! choose HTP or LTP for a port, cancel a merge (the next sender has the universe until it is
//! lost), clear a port and make lamps blink; names and universes only with
//! `allow_remote_programming`. An ArtInput may silence what we send. An ArtIpProg is answered,
//! never obeyed.
//!
//! # RDM
//!
//! The map has `type`: `tod_request`, `tod_data` (`uids`: six octets each; `total`, `block`,
//! `response`), `tod_control` (`command`) or `rdm` (`data`: the message after its start code). What
//! came from the network says so in `from`; what is to go to one of those in `to`. Without it,
//! answers (`tod_data`) go to those who asked within 30 s, the rest to nodes that list the port.

mod config;
mod events;
mod here;
mod input;
mod nodes;
mod output;
pub mod packet;
mod station;
mod telling;
#[cfg(test)]
mod tests;
mod timecode;

use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::time::{Span, Time};

use crate::datum::Datum;
use crate::level::to_level;
use crate::merge::SLOTS;
use crate::target::{is_ourselves, resolve_all};
use crate::uplink::{Kind, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, namespace};
use events::{Events, Voice};
use here::{Here, Interface};
use input::{Ignored, Inputs};
use nodes::Nodes;
use output::{Origin, Outputs};
use packet::{PORT, Packet, PortAddress, port_address_of};
use station::{Station, Trouble};
use telling::Telling;
use timecode::Timecodes;

use crate::universes::contest::Ear;
use crate::universes::written::Written;
use crate::universes::{first_of, plain_slot};

pub use crate::universes::Mode;
pub use crate::universes::outgoing::{GATHER, REPEAT};
pub use config::{Config, OnStop, Universes};
pub use here::Mac;

/// Every port-address that there is.
const NUMBERS: usize = PortAddress::MAX.number() as usize + 1;

/// How often nodes are asked who they are.
const POLL_INTERVAL: Span = Span::from_millis(2_500);

/// A node that left three polls unanswered is gone; it may take a second to answer.
const NODE_TIMEOUT: Span = Span::from_millis(3 * 2_500 + 1_000);

/// A router that takes nothing at present is told again so much later.
const PATIENCE: Span = Span::from_millis(1);

/// How often senders, nodes and syncs are looked at for silence.
const TICK: Span = Span::from_millis(500);

/// How often the router hears that senders are there which change nothing.
const ALIVE: Span = Span::from_secs(1);

/// Opens the bridge that `config` describes. Host names and interfaces are looked up here, once.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Artnet::new(config, here::interfaces()).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Artnet {
    config: Config,
    uplink: Uplink,
    inputs: Inputs,
    outputs: Outputs,
    nodes: Nodes,
    station: Station,
    events: Events,
    timecodes: Timecodes,
    counters: Counters,
    /// When silence is looked for next; `None` before the first input.
    tick_at: Option<Time>,
    poll_at: Option<Time>,
    /// When what the router had no room for is told again.
    tell_at: Option<Time>,
    alive_at: Time,
    /// What [`Artnet::next_due`] gave when it was last asked: only inputs move it.
    due: Option<Time>,
    telling: Telling,
    written: Written,
    /// The last words are being said: nothing else is due any more.
    stops: bool,
    /// A target that may be this bridge itself: its socket hears all addresses of this machine,
    /// unless another program is bound to just this one.
    hears_itself: Option<SocketAddr>,
}

impl Artnet {
    fn new(config: Config, interfaces: Vec<Interface>) -> Result<Self, ConfigError> {
        config.check()?;
        let targets = resolve_all("targets", &config.targets, Some(PORT), config.bind)?;
        let own: Vec<_> = interfaces.iter().map(|one| IpAddr::from(one.ip)).collect();
        let is_own = |target: &SocketAddr| is_ourselves(*target, config.bind, &own);
        let heard: Vec<_> = targets.iter().copied().filter(is_own).collect();
        let hears_itself = heard.first().copied();
        if let Some(place) = targets.iter().position(|target| *target == config.bind) {
            let why = format!("{} is where this bridge listens itself: name the node", config.bind);
            return Err(ConfigError::new(format!("targets[{place}]"), why));
        }
        let keeps_last = config.broadcast_levels || hears_itself.is_some();
        let universes_max = usize::from(config.universes_max);
        let interval = Span::from_micros(1_000_000 / u64::from(config.rate_hz_max));
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()).arbitrated(config.arbitrated()),
            inputs: Inputs::new(config.merge, config.tells_claims(), universes_max),
            outputs: Outputs::new(interval, universes_max, config.sync, keeps_last),
            nodes: Nodes::new(&config, targets, heard),
            station: Station::new(&config, Here::new(&config, interfaces)),
            events: Events::new(&config.namespace, config.trigger_oem),
            timecodes: Timecodes::new(&config.namespace),
            counters: Counters::default(),
            tick_at: None,
            poll_at: None,
            tell_at: None,
            alive_at: Time(0),
            due: None,
            telling: Telling::new(&config),
            written: Written::new(&config.namespace, config.floats),
            stops: false,
            hears_itself,
            config,
        })
    }

    /// Takes a packet that repeats a universe while nothing waits to be told: what most packets of
    /// a show do. Neither the router nor a deadline is concerned. `false`: there is more to it, and
    /// nothing was taken.
    fn repeat(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) -> bool {
        let Some(dmx) = packet::dmx(bytes) else { return false };
        let waits = self.inputs.any_ready() || self.nodes.any_news() || self.timecodes.any_news();
        // A broadcast may be our own, and so may what goes to an address of ours.
        let is_plain = !waits && !self.outputs.keeps_last();
        let repeats = is_plain
            && self.station.takes(dmx.port_address)
            && self.inputs.repeat(now, from.ip(), &dmx);
        if repeats {
            self.counters.packets_in += 1;
            self.outputs.is_sent_by_others(now, dmx.port_address);
        }
        repeats
    }

    fn packet(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut dyn Out) {
        let packet = match packet::decode(bytes) {
            Ok(packet) => packet,
            Err(_) => {
                self.counters.malformed += 1;
                self.complain(now, &Trouble::Malformed { from: from.ip() }, out);
                return;
            }
        };
        self.counters.packets_in += 1;
        // Levels are compared with those that left last.
        if !matches!(packet, Packet::Dmx(_))
            && self.station.may_be_ours(from.ip())
            && self.nodes.comes_back(now, bytes)
        {
            self.counters.dropped += 1;
            return;
        }
        match packet {
            Packet::Dmx(dmx) => self.levels(now, from.ip(), &dmx, out),
            Packet::Sync => {
                self.inputs.sync(now, from.ip());
                self.tell(now, out);
            }
            Packet::Poll(poll) => {
                if !self.station.asked(now, from, &poll, &self.inputs, &self.outputs) {
                    self.counters.dropped += 1;
                }
            }
            Packet::Reply(reply) => {
                if self.station.has_written(from.ip(), &reply) {
                    return;
                }
                if !self.nodes.answered(now, from.ip(), &reply) {
                    self.counters.overflowed += 1;
                }
                self.tell(now, out);
            }
            Packet::Address(address) => {
                let Self { station, inputs, outputs, .. } = self;
                if station.program(now, from, &address, inputs, outputs).is_err() {
                    self.counters.refused += 1;
                }
                self.tell(now, out);
            }
            Packet::Input(switch) => {
                let Self { station, inputs, outputs, .. } = self;
                if !station.disable(now, from, &switch, inputs, outputs) {
                    self.counters.refused += 1;
                }
            }
            Packet::TimeCode(time) => {
                if !self.timecodes.received(&time) {
                    self.counters.refused += 1;
                }
                self.tell(now, out);
            }
            Packet::IpProg(_) => {
                self.counters.refused += 1;
                self.station.keep_ip(from, &mut self.counters, out);
            }
            Packet::IpProgReply(_) | Packet::Other { .. } => self.counters.refused += 1,
            packet => self.event(now, from, &packet, out),
        }
    }

    /// Tells what is not kept.
    fn event(&mut self, now: Time, from: SocketAddr, packet: &Packet<'_>, out: &mut dyn Out) {
        let Self { events, uplink, counters, config, .. } = self;
        let voice = &mut Voice { uplink, counters, out };
        let is_ours = match packet {
            Packet::Trigger(trigger) => events.triggered(trigger, voice),
            Packet::Command(command) => events.commanded(command, voice),
            Packet::Diag(diag) => {
                if config.diagnostics {
                    events.complained(from.ip(), diag, voice);
                }
                config.diagnostics
            }
            Packet::Nzs(nzs) => {
                let is_chosen = config.inputs.contain(nzs.port_address);
                if is_chosen {
                    events.passed(nzs, voice);
                }
                is_chosen
            }
            Packet::TodRequest(request) => {
                events.asked_for_devices(now, from, request, voice);
                true
            }
            Packet::TodData(data) => {
                events.told_devices(from, data, voice);
                true
            }
            Packet::TodControl(control) => {
                events.controlled(now, from, control, voice);
                true
            }
            Packet::Rdm(rdm) => {
                events.said_to_device(now, from, rdm, voice);
                true
            }
            _ => false,
        };
        if !is_ours {
            voice.counters.refused += 1;
        }
    }

    fn complain(&mut self, now: Time, trouble: &Trouble, out: &mut dyn Out) {
        let broadcast = self.nodes.broadcast();
        self.station.complain(now, trouble, broadcast, &mut self.counters, out);
    }

    fn levels(&mut self, now: Time, from: IpAddr, dmx: &packet::Dmx<'_>, out: &mut dyn Out) {
        let port_address = dmx.port_address;
        if !self.station.takes(port_address) {
            self.counters.refused += 1;
            return;
        }
        // A broadcast comes back to its sender, and so does what goes to an address of our own.
        if self.outputs.has_just_sent(dmx) {
            self.counters.dropped += 1;
            return;
        }
        match self.inputs.receive(now, from, dmx) {
            Ok(()) => {
                self.outputs.is_sent_by_others(now, port_address);
                self.tell(now, out);
            }
            Err(Ignored::Stale | Ignored::MergeCancelled) => self.counters.dropped += 1,
            Err(Ignored::ThirdSender) => {
                self.counters.dropped += 1;
                self.complain(now, &Trouble::ThirdSender { from, port_address }, out);
            }
            Err(Ignored::TooManyUniverses) => {
                self.counters.overflowed += 1;
                self.complain(now, &Trouble::TooManyUniverses { port_address }, out);
            }
        }
    }

    /// Tells the router what changed in the universes that may be shown now, as far as it takes it.
    fn tell(&mut self, now: Time, out: &mut dyn Out) {
        let Self { config, uplink, inputs, outputs, counters, telling, nodes, .. } = self;
        let timecodes = &mut self.timecodes;
        self.tell_at = None;
        // Few, and of no use later.
        while timecodes.any_news() && out.room() >= FRAME_BYTES_MAX {
            timecodes.tell(&mut Voice { uplink, counters, out });
        }
        while inputs.any_ready() {
            if out.room() < FRAME_BYTES_MAX {
                self.tell_at = Some(now + PATIENCE);
                return;
            }
            let Some(universe) = inputs.next_ready() else { return };
            let resend = config.resend_received.then_some(&mut *outputs);
            let port_address = universe.port_address;
            if telling.tell(now, universe, resend, &mut Ear { uplink, counters, out }) {
                inputs.tell_again(port_address);
            }
        }
        while timecodes.any_news() || nodes.any_news() {
            if out.room() < FRAME_BYTES_MAX {
                self.tell_at = Some(now + PATIENCE);
                return;
            }
            nodes.tell(&config.namespace, uplink, counters, out);
        }
    }

    /// Takes a frame of the router that says nothing but levels. `false`: there is more to it, and
    /// nothing was taken.
    fn told_levels(&mut self, now: Time, frame: &[u8]) -> bool {
        let Self { written, station, outputs, counters, .. } = self;
        let Some(levels) = written.read(frame) else { return false };
        counters.frames_in += 1;
        for levels in levels.chunk_by(|one, next| one.universe == next.universe) {
            let universe = levels.first().and_then(|one| PortAddress::new(one.universe));
            match universe {
                None => counters.refused += levels.len() as u64,
                Some(universe) if !station.gives(universe) => {}
                Some(universe) if outputs.write_slots(now, universe, levels) => {}
                Some(_) => counters.overflowed += levels.len() as u64,
            }
        }
        true
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        if self.told_levels(now, frame) {
            return;
        }
        let Self { config, uplink, outputs, station, events, timecodes, nodes, .. } = self;
        uplink.hear(frame, &mut self.counters, out, &mut |uplink, update, counters, out| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            let Some(place) = below(&config.namespace, update.address).filter(|_| !is_ours) else {
                return;
            };
            let is_held = matches!(update.kind, Kind::Held { .. });
            // Of levels there are most.
            let is_level = place.as_bytes().first().is_some_and(u8::is_ascii_digit);
            let kind = if is_level { None } else { place.split('/').next() };
            match kind {
                // What nodes say is told, not asked.
                Some("nodes") => {}
                Some("trigger" | "command" | "nzs" | "rdm") => {
                    let value = &update.value;
                    if !is_held && events.hear(now, place, value, nodes, counters, out).is_err() {
                        counters.refused += 1;
                    }
                }
                Some("timecode") => {
                    let value = &update.value;
                    if !is_held && timecodes.hear(now, place, value, nodes, counters, out).is_err()
                    {
                        counters.refused += 1;
                    }
                }
                _ => {
                    let origin = if is_held { Origin::Remembered } else { Origin::Written };
                    let words = Words { place, value: &update.value, origin };
                    write_levels(config, station, outputs, now, &words, counters);
                }
            }
        });
        if self.uplink.take_declared() {
            self.inputs.forget_told();
            self.tell(now, out);
        }
    }

    fn join(&mut self, now: Time, out: &mut dyn Out) {
        let pattern = format!("{}/**", self.config.namespace);
        self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
        self.inputs.forget_told();
        self.nodes.forget_told();
        self.timecodes.forget_told();
        self.tell(now, out);
    }

    fn elapse(&mut self, now: Time, out: &mut dyn Out) {
        if self.stops {
            self.outputs.send_due(now, &mut self.nodes, &mut self.counters, out);
            return;
        }
        if self.tick_at.is_none_or(|tick| tick <= now) {
            self.tick_at = Some(now + TICK);
            self.inputs.expire(now);
            self.events.expire(now);
            if let Some(at) = self.nodes.expire(now) {
                self.complain(now, &Trouble::NodeLost { at }, out);
            }
            self.station.tell_changes(now, &self.inputs, &self.outputs);
            self.tell_at = Some(now);
            if self.config.tells_claims() && self.alive_at <= now {
                self.alive_at = now + ALIVE;
                let Self { uplink, inputs, counters, telling, .. } = self;
                telling.tell_alive(inputs, &mut Ear { uplink, counters, out });
            }
        }
        if self.tell_at.is_some_and(|tell| tell <= now) {
            self.tell(now, out);
        }
        if self.config.poll && self.poll_at.is_none_or(|poll| poll <= now) {
            self.poll_at = Some(now + POLL_INTERVAL);
            self.nodes.poll(&mut self.counters, out);
        }
        self.timecodes.send_due(now, &mut self.nodes, &mut self.counters, out);
        self.station.answer(now, &self.inputs, &self.outputs, &mut self.counters, out);
        let sent = self.outputs.send_due(now, &mut self.nodes, &mut self.counters, out);
        if sent && self.config.sync {
            self.nodes.sync(&mut self.counters, out);
        }
    }

    /// As [`Bridge::step`], whatever the input is.
    fn take(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => self.join(now, out),
            Input::Lost => self.uplink.lose(),
            Input::Packet { from, bytes, .. } => self.packet(now, from, bytes, out),
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Clock { .. } => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
            Input::Deadline => self.elapse(now, out),
            Input::Stop => {
                self.stops = true;
                if self.config.on_stop == OnStop::Blackout {
                    self.outputs.black_out(now);
                    self.outputs.send_due(now, &mut self.nodes, &mut self.counters, out);
                }
            }
        }
        // Ticks and polls begin with the first input, which tells what time it is.
        self.tick_at.get_or_insert(now);
        self.poll_at.get_or_insert(now);
        self.due = self.next_due();
    }

    fn next_due(&self) -> Option<Time> {
        first_of([
            self.tick_at,
            self.poll_at.filter(|_| self.config.poll),
            self.tell_at,
            self.station.deadline(),
            self.timecodes.deadline(),
            self.outputs.deadline(),
        ])
    }
}

/// Something the router said of a place below our namespace.
struct Words<'a> {
    place: &'a str,
    value: &'a Datum<'a>,
    origin: Origin,
}

/// Takes a value of `{port-address}/{slot}` or of `{port-address}`.
fn write_levels(
    config: &Config,
    station: &Station,
    outputs: &mut Outputs,
    now: Time,
    words: &Words<'_>,
    counters: &mut Counters,
) {
    let Words { place, value, origin } = *words;
    let Some((port_address, slot)) = place_of(place) else {
        counters.refused += 1;
        return;
    };
    if !station.gives(port_address) {
        return;
    }
    let mut write = |slot: usize, level: Option<u8>| match level {
        Some(level) if outputs.write(now, port_address, slot, level, origin) => {}
        Some(_) => counters.overflowed += 1,
        None => counters.refused += 1,
    };
    match (slot, value) {
        (Some(slot), value) => write(slot, to_level(value, config.floats)),
        (None, Datum::Other(value)) => {
            if let Some(items) = value.array() {
                for (slot, item) in items.take(SLOTS).enumerate() {
                    write(slot, to_level(&Datum::new(item), config.floats));
                }
            } else if let Some(bytes) = value.as_bytes() {
                if !outputs.write_all(now, port_address, bytes, origin) {
                    counters.overflowed += 1;
                }
            } else {
                counters.refused += 1;
            }
        }
        (None, _) => counters.refused += 1,
    }
}

/// What follows the namespace and its slash.
fn below<'a>(namespace: &str, address: &'a str) -> Option<&'a str> {
    namespace::strip(namespace, address)?.strip_prefix('/')
}

/// Port-address and slot, counted from 0; without a slot the whole universe.
fn place_of(place: &str) -> Option<(PortAddress, Option<usize>)> {
    if let Some((number, slot)) = plain_slot(place.as_bytes()) {
        let slot = Some(usize::from(slot)).filter(|slot| (1..=SLOTS).contains(slot))?;
        return Some((PortAddress::new(number)?, Some(slot - 1)));
    }
    match place.split_once('/') {
        None => Some((port_address_of(place)?, None)),
        Some((port_address, slot)) => {
            let slot = usize::from(namespace::number(slot)?);
            let slot = Some(slot).filter(|slot| (1..=SLOTS).contains(slot))?;
            Some((port_address_of(port_address)?, Some(slot - 1)))
        }
    }
}

/// Every packet leaves here.
fn send(to: SocketAddr, packet: &[u8], counters: &mut Counters, out: &mut dyn Out) {
    counters.packets_out += 1;
    out.to_network(0, to, packet);
}

impl Bridge for Artnet {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        let bind = self.config.bind;
        let plan = |bind| SocketPlan {
            bind,
            broadcast: self.config.broadcast.is_some(),
            reuse_address: true,
            multicast: Vec::new(),
            skip_own: false,
        };
        let broadcasts = self.station.broadcasts(bind.ip()).into_iter();
        let others = broadcasts.map(|ip| plan(SocketAddr::from((ip, bind.port()))));
        std::iter::once(plan(bind)).chain(others).collect()
    }

    fn sends(&self, address: &str) -> Option<bool> {
        let rest = namespace::strip(&self.config.namespace, address)?.strip_prefix('/')?;
        let (number, _slot) = rest.split_once('/')?;
        PortAddress::parse(number)?;
        // `016` looks like a universe, but is none.
        let named = port_address_of(number);
        Some(named.is_some_and(|number| self.config.outputs.contain(number)))
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        if let Input::Packet { from, bytes, .. } = input
            && self.repeat(now, from, bytes)
        {
            return;
        }
        self.take(now, input, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }

    fn has_last_words(&self) -> bool {
        self.stops && self.outputs.any_changed()
    }

    fn notes(&self) -> Vec<String> {
        let note = |target| {
            let (name, bind) = (self.uplink.name(), self.config.bind);
            format!(
                "{name}: the target {target} is this bridge itself, which listens at {bind}, \
                 unless another program is bound to just that address"
            )
        };
        self.hears_itself.map(note).into_iter().collect()
    }

    fn params_max(&self) -> u64 {
        let universes = self.config.inputs.count().min(self.config.universes_max.into()) as u64;
        let levels = match self.config.mode {
            Mode::Channel => universes * SLOTS as u64,
            Mode::Universe => universes,
        };
        levels + (nodes::SHOWN_MAX * nodes::NODE_PARAMS) as u64
    }

    fn memory_bytes_max(&self) -> u64 {
        let Config { inputs, outputs, universes_max, .. } = &self.config;
        let inputs = inputs.count().min((*universes_max).into());
        let outputs = outputs.count().min((*universes_max).into());
        Inputs::memory_bytes_for(inputs, self.config.tells_claims())
            + Outputs::memory_bytes_for(outputs, self.outputs.keeps_last())
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

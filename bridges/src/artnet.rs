//! Art-Net 4: universes of 512 levels over UDP, found by polling.
//!
//! # Addresses
//!
//! | address | value | direction |
//! |---|---|---|
//! | `/artnet/{port-address}/{slot 1-512}` | level: int of 0-255, or float of 0.0-1.0 | both ways |
//! | `/artnet/{port-address}` | levels from slot 1 on: array or bytes | to the network |
//!
//! Port-addresses are told in decimal (0-32767) and also understood as `net:sub-net:universe`. What
//! a float means when it is written is [`Floats`].
//!
//! # From the network
//!
//! One ArtDmx becomes one BUNDLE of the slots that changed; the first of a universe tells all its
//! slots, zeros included. Late packets (sequence) are dropped. Two senders of one universe, told
//! apart by IP address, are merged ([`crate::merge`]: HTP or LTP); a third is ignored, a silent one
//! lost after 10 s. After an ArtSync its sender's frames wait for the next one, until none came for
//! 4 s; while two senders merge, nothing waits. A router that takes less than the network brings is
//! told the newest look of each universe, when it takes more again: looks in between are left out,
//! the last one never. With [`Mode::Universe`] a universe is told as one param of bytes.
//!
//! # To the network
//!
//! Changes of a universe within [`GATHER`] leave as one ArtDmx, at most `rate_hz_max` a second, and
//! the last one is repeated every [`REPEAT`]. Universes that are due at once leave one after the
//! other, spread over at most three quarters of a frame. It goes to the nodes whose poll reply
//! lists the port-address and to every `target`; to `broadcast` only when `broadcast_levels` says
//! so and nobody lists it. What came in from the network is not sent out again unless
//! `resend_received` says so.

mod input;
mod nodes;
mod output;
pub mod packet;
mod telling;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::time::{Span, Time};
use serde::Deserialize;

use crate::datum::Datum;
use crate::level::{Floats, to_level};
use crate::merge::{Rule, SLOTS};
use crate::target::resolve;
use crate::universes::{Chosen, Number};
use crate::uplink::{Kind, Update, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, namespace};
use input::Inputs;
use nodes::Nodes;
use output::Outputs;
use packet::{PORT, Packet, PortAddress};
use telling::Telling;

pub use crate::universes::Mode;
pub use crate::universes::outgoing::{GATHER, REPEAT};

/// Every port-address that there is.
const NUMBERS: usize = PortAddress::MAX.number() as usize + 1;

/// How often nodes are asked who they are.
const POLL_INTERVAL: Span = Span::from_millis(2_500);

/// A router that takes nothing at present is told again so much later.
const PATIENCE: Span = Span::from_millis(1);

/// How often senders, nodes and syncs are looked at for silence.
const TICK: Span = Span::from_millis(500);

/// `[[bridge]] type = "artnet"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `artnet`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Where to listen. Default `0.0.0.0:6454`, the port of every node.
    pub bind: SocketAddr,
    /// Whole segments that all addresses begin with. Default `/artnet`.
    pub namespace: String,
    /// Port-addresses taken from the network: `all`, `none`, or numbers and ranges such as
    /// `0-15, 100`. Default `all`.
    pub inputs: Universes,
    /// Port-addresses sent to the network, written the same way. Default `all`.
    pub outputs: Universes,
    /// Tell levels as floats of 0.0-1.0 instead of ints of 0-255. Default false.
    pub normalize: bool,
    /// What a float means when it is written: `auto`, `fraction` or `level`. Default `auto`.
    pub floats: Floats,
    /// How levels from the network are told: `channel` by `channel`, or each `universe` whole.
    /// Default `channel`.
    pub mode: Mode,
    /// `htp` or `ltp`. Default `htp`.
    pub merge: Rule,
    /// Nodes that get every universe without being asked: `host` or `host:port`. Default none.
    pub targets: Vec<String>,
    /// Where polls go that look for nodes, such as `10.255.255.255`. Default none: only `targets`
    /// are asked.
    pub broadcast: Option<Ipv4Addr>,
    /// Send universes that no node lists to `broadcast`. Default false.
    pub broadcast_levels: bool,
    /// Ask nodes which universes they take. Default true.
    pub poll: bool,
    /// Let all universes that changed leave together, and an ArtSync behind them. Default false.
    pub sync: bool,
    /// Send what is received out again, to nodes and targets. Default false.
    pub resend_received: bool,
    /// Frames a second and universe, 1-1000, in the long run; Art-Net allows 44. Default 44.
    pub rate_hz_max: u16,
    /// Universes kept in each direction, 1-32768. Default 4096 (13 MiB when all are in use).
    pub universes_max: u16,
    /// What nodes are left with when we stop: `hold` the look or `blackout`. Default `hold`.
    pub on_stop: OnStop,
    /// The address that our poll replies name. Default: that of `bind`.
    pub node_ip: Option<Ipv4Addr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "artnet".into(),
            token: None,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            namespace: "/artnet".into(),
            inputs: Universes::All,
            outputs: Universes::All,
            normalize: false,
            mode: Mode::Channel,
            floats: Floats::Auto,
            merge: Rule::Htp,
            targets: Vec::new(),
            broadcast: None,
            broadcast_levels: false,
            poll: true,
            sync: false,
            resend_received: false,
            rate_hz_max: 44,
            universes_max: 4_096,
            on_stop: OnStop::Hold,
            node_ip: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    #[default]
    Hold,
    Blackout,
}

/// A choice of port-addresses.
pub type Universes = Chosen<PortAddress>;

impl Number for PortAddress {
    const NAME: &'static str = "port-address";
    const ALL: (Self, Self) = (Self::MIN, Self::MAX);

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn number(self) -> u16 {
        self.number()
    }
}

/// Opens the bridge that `config` describes. Host names are looked up here, once.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Artnet::new(config).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Artnet {
    config: Config,
    uplink: Uplink,
    inputs: Inputs,
    outputs: Outputs,
    nodes: Nodes,
    counters: Counters,
    /// When silence is looked for next; `None` before the first input.
    tick_at: Option<Time>,
    poll_at: Option<Time>,
    /// When what the router had no room for is told again.
    tell_at: Option<Time>,
    telling: Telling,
    /// The last words are being said: nothing else is due any more.
    stops: bool,
}

impl Artnet {
    fn new(config: Config) -> Result<Self, ConfigError> {
        namespace::check(&config.namespace)?;
        if !(1..=1_000).contains(&config.rate_hz_max) {
            return Err(ConfigError::new("rate_hz_max", "must be 1 to 1000"));
        }
        if !(1..=32_768).contains(&config.universes_max) {
            return Err(ConfigError::new("universes_max", "must be 1 to 32768"));
        }
        if config.broadcast_levels && config.broadcast.is_none() {
            return Err(ConfigError::new("broadcast_levels", "needs the address `broadcast`"));
        }
        let targets = config
            .targets
            .iter()
            .map(|target| resolve("targets", target, Some(PORT)))
            .collect::<Result<Vec<_>, _>>()?;
        let universes_max = usize::from(config.universes_max);
        let interval = Span::from_micros(1_000_000 / u64::from(config.rate_hz_max));
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()),
            inputs: Inputs::new(config.merge, universes_max),
            outputs: Outputs::new(interval, universes_max, config.sync, config.broadcast_levels),
            nodes: Nodes::new(&config, targets),
            counters: Counters::default(),
            tick_at: None,
            poll_at: None,
            tell_at: None,
            telling: Telling::new(&config.namespace, config.mode, config.normalize),
            stops: false,
            config,
        })
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
        match packet {
            Packet::Dmx(dmx) => self.levels(now, from.ip(), &dmx, out),
            Packet::Sync => {
                self.inputs.sync(now, from.ip());
                self.tell(now, out);
            }
            Packet::Poll(poll) => {
                if !self.nodes.asked(now, from, &poll, &self.inputs, &self.outputs) {
                    self.counters.dropped += 1;
                }
            }
            Packet::Reply(reply) => {
                if !self.nodes.answered(now, from.ip(), &reply) {
                    self.counters.overflowed += 1;
                }
            }
            Packet::Other { .. } => self.counters.refused += 1,
        }
    }

    fn levels(&mut self, now: Time, from: IpAddr, dmx: &packet::Dmx<'_>, out: &mut dyn Out) {
        if !self.config.inputs.contain(dmx.port_address) {
            self.counters.refused += 1;
            return;
        }
        // A broadcast comes back to its sender.
        if self.config.broadcast_levels && self.outputs.has_just_sent(dmx) {
            self.counters.dropped += 1;
            return;
        }
        match self.inputs.receive(now, from, dmx) {
            Ok(()) => self.tell(now, out),
            Err(input::Ignored::Stale | input::Ignored::ThirdSender) => self.counters.dropped += 1,
            Err(input::Ignored::TooManyUniverses) => self.counters.overflowed += 1,
        }
    }

    /// Tells the router what changed in the universes that may be shown now, as far as it takes it.
    fn tell(&mut self, now: Time, out: &mut dyn Out) {
        let Self { config, uplink, inputs, outputs, counters, telling, .. } = self;
        self.tell_at = None;
        while inputs.any_ready() {
            if out.room() < FRAME_BYTES_MAX {
                self.tell_at = Some(now + PATIENCE);
                return;
            }
            let Some(universe) = inputs.next_ready() else { return };
            let resend = config.resend_received.then_some(&mut *outputs);
            telling.tell(now, universe, uplink, resend, counters, out);
        }
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { config, uplink, outputs, .. } = self;
        uplink.hear(frame, &mut self.counters, out, &mut |uplink, update, counters, _| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            if !is_ours {
                write_levels(config, outputs, now, &update, counters);
            }
        });
    }

    fn join(&mut self, now: Time, out: &mut dyn Out) {
        let pattern = format!("{}/**", self.config.namespace);
        self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
        self.inputs.forget_told();
        self.tell(now, out);
    }

    fn elapse(&mut self, now: Time, out: &mut dyn Out) {
        if self.stops {
            self.outputs.send_due(now, &self.nodes, &mut self.counters, out);
            return;
        }
        if self.tick_at.is_none_or(|tick| tick <= now) {
            self.tick_at = Some(now + TICK);
            self.inputs.expire(now);
            self.tell_at = Some(now);
            self.nodes.expire(now);
        }
        if self.tell_at.is_some_and(|tell| tell <= now) {
            self.tell(now, out);
        }
        if self.config.poll && self.poll_at.is_none_or(|poll| poll <= now) {
            self.poll_at = Some(now + POLL_INTERVAL);
            self.nodes.poll(&mut self.counters, out);
        }
        self.nodes.answer(now, &self.inputs, &self.outputs, &mut self.counters, out);
        let sent = self.outputs.send_due(now, &self.nodes, &mut self.counters, out);
        if sent && self.config.sync {
            self.nodes.sync(&mut self.counters, out);
        }
    }
}

/// Takes a value of `/artnet/{port-address}/{slot}` or of `/artnet/{port-address}`.
fn write_levels(
    config: &Config,
    outputs: &mut Outputs,
    now: Time,
    update: &Update<'_>,
    counters: &mut Counters,
) {
    let Some((port_address, slot)) = place(&config.namespace, update.address) else {
        counters.refused += 1;
        return;
    };
    if !config.outputs.contain(port_address) {
        return;
    }
    let mut write = |slot: usize, level: Option<u8>| match level {
        Some(level) if outputs.write(now, port_address, slot, level) => {}
        Some(_) => counters.overflowed += 1,
        None => counters.refused += 1,
    };
    match (slot, &update.value) {
        (Some(slot), value) => write(slot, to_level(value, config.floats)),
        (None, Datum::Other(value)) => {
            if let Some(items) = value.array() {
                for (slot, item) in items.take(SLOTS).enumerate() {
                    write(slot, to_level(&Datum::new(item), config.floats));
                }
            } else if let Some(bytes) = value.as_bytes() {
                if !outputs.write_all(now, port_address, bytes) {
                    counters.overflowed += 1;
                }
            } else {
                counters.refused += 1;
            }
        }
        (None, _) => counters.refused += 1,
    }
}

/// Port-address and slot, counted from 0, that `address` names; without a slot the whole universe.
fn place(namespace: &str, address: &str) -> Option<(PortAddress, Option<usize>)> {
    let rest = namespace::strip(namespace, address)?.strip_prefix('/')?;
    match rest.split_once('/') {
        None => Some((PortAddress::parse(rest)?, None)),
        Some((port_address, slot)) => {
            let slot = slot.parse::<usize>().ok().filter(|slot| (1..=SLOTS).contains(slot))?;
            Some((PortAddress::parse(port_address)?, Some(slot - 1)))
        }
    }
}

impl Bridge for Artnet {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        vec![SocketPlan {
            bind: self.config.bind,
            broadcast: self.config.broadcast.is_some(),
            reuse_address: true,
            multicast: Vec::new(),
        }]
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => self.join(now, out),
            Input::Lost => self.uplink.lose(),
            Input::Packet { socket: 0, from, bytes } => self.packet(now, from, bytes, out),
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Clock { .. } => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
            Input::Deadline => self.elapse(now, out),
            Input::Stop => {
                self.stops = true;
                if self.config.on_stop == OnStop::Blackout {
                    self.outputs.black_out(now);
                    self.outputs.send_due(now, &self.nodes, &mut self.counters, out);
                }
            }
        }
        // Ticks and polls begin with the first input, which tells what time it is.
        self.tick_at.get_or_insert(now);
        self.poll_at.get_or_insert(now);
    }

    fn deadline(&self) -> Option<Time> {
        let poll = self.poll_at.filter(|_| self.config.poll);
        [self.tick_at, poll, self.tell_at, self.nodes.deadline(), self.outputs.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn has_last_words(&self) -> bool {
        self.stops && self.outputs.any_changed()
    }

    fn params_max(&self) -> u64 {
        let universes = self.config.inputs.count().min(self.config.universes_max.into()) as u64;
        match self.config.mode {
            Mode::Channel => universes * SLOTS as u64,
            Mode::Universe => universes,
        }
    }

    fn memory_bytes_max(&self) -> u64 {
        let Config { inputs, outputs, universes_max, broadcast_levels, .. } = &self.config;
        let inputs = inputs.count().min((*universes_max).into());
        let outputs = outputs.count().min((*universes_max).into());
        Inputs::memory_bytes_for(inputs) + Outputs::memory_bytes_for(outputs, *broadcast_levels)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

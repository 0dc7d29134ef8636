//! MIDI 1.0: ports of this machine, virtual ports, and serial cables, both ways.
//!
//! # Addresses
//!
//! A device's addresses begin with `/midi/{name}`, or with `/midi` where it has no name. Channels
//! are 1 to 16. With `values = "unit"`, the default, what is below "0-1" is a float; with `raw` an
//! int as on the cable.
//!
//! | address | kind | value |
//! |---|---|---|
//! | `ch/{c}/cc/{n}` | param | 0-1; of 7 bits, or of 14 where `fine` names the controller |
//! | `ch/{c}/cc/{n}/step` | event | int, of controllers that `relative` names |
//! | `ch/{c}/note` | event | map of `note` (0-127), `velocity` (0-1) and `on` (bool) |
//! | `ch/{c}/note/{n}` | param | velocity (0-1) while the key is down, else 0 |
//! | `ch/{c}/pitch` (raw: `bend`) | param | 0-1, at rest 0.5 (raw: -8192 to 8191) |
//! | `ch/{c}/program` | param | int, 0-127 |
//! | `ch/{c}/pressure`, `ch/{c}/poly/{n}` | param | 0-1 |
//! | `ch/{c}/nrpn/{msb}/{lsb}`, `rpn` | param | 0-1, of 14 bits |
//! | `ch/{c}/nrpn/{msb}/{lsb}/step`, `rpn` | event | 1 or -1 |
//! | `ch/{c}/mode` | event | map of `mode` (`all_notes_off`, `local`, ...) and `value` |
//! | `sysex` | event | bytes from F0 to F7; written also as array of ints, or without F0 and F7 |
//! | `msc` | event | map: `command` (`go`, ...), `cue`, `list`, `path`, `device`, `format` |
//! | `mmc` | event | map: `command` (`play`, `stop`, `locate`, ...), `device`, `time`, `rate` |
//! | `transport` | event | `start`, `stop` or `continue` |
//! | `clock/tempo` | param | float, quarter notes a minute; written: makes clocks, 0 ends them |
//! | `clock/bar`, `clock/beat`, `clock/running` | param | ints from 1 on, bool |
//! | `clock/position` | param | int, sixteenth notes |
//! | `clock/tick` | event | int, only where `ticks` asks for it |
//! | `timecode` | param | text `hh:mm:ss:ff`, with drop frames `hh:mm:ss;ff` |
//! | `timecode/rate` | param | 24, 25, 29.97 or 30 |
//! | `song` | param | int, 0-127 |
//! | `tune`, `reset`, `panic` | event | anything; `/midi/panic` is for all devices |
//! | `online` | param | bool: the device is there |
//!
//! All but `online`, `clock/bar`, `clock/beat` and `clock/running` go both ways. Ints that are
//! written are values as on the cable; floats up to 1.0 are a fraction of full. While there is one
//! device, its name may be left out of what is written.
//!
//! # From a device
//!
//! Params of one piece of input are told once each, the newest value, in one BUNDLE with its
//! events. A sysex beyond 64 KiB is left out. When a device goes, or does active sensing and falls
//! silent, its keys are let go of; one that is gone is lost as a source of its params. A router
//! that comes back is told everything again.
//!
//! # To a device
//!
//! Messages stand in line while the device is busy: of params the newest value leaves, events all
//! do, up to 1,024. A value that the device has just told is not sent back to it, so that a motor
//! fader rests; the lights of keys and pads (`note/{n}`) are. A device that is plugged in again is
//! told what the router wrote last. A time code is sent as a full frame, and as quarter frames as
//! soon as a second one shows that it moves. When the bridge stops, and at `panic`, "all sound off"
//! and "all notes off" go to the channels on which notes were sent.
//!
//! What a device tells is a touch, whatever moved it: MIDI has no word for a hand on a fader, nor
//! for the answer of a motor, and what is a fader here is a button there, whose 127 counts each
//! time. So a motor that is sent somewhere pulls at the hand that holds it; and a value that was on
//! the cable while somebody else wrote has the last word at the router, though the fader goes where
//! it was sent. Which of two that crossed came later only the router's revisions say, and a bridge
//! does not ask for those of its own.

mod clock;
mod device;
mod known;
mod message;
mod outward;
mod param;
mod parser;
mod show;
pub(crate) mod timecode;

#[cfg(test)]
mod tests;

pub use message::Message;
pub use param::Values;
pub use parser::{Parsed, Parser, SYSEX_BYTES_MAX};

use clasp_rt_core::time::Time;
use serde::Deserialize;

use crate::devices::{Driven, check_tables, place_of};
use crate::devices::{MidiChoice, MidiPort, SerialDevice, SerialLine, Speech, StopBits};
use crate::uplink::{Details, Kind, Uplink, source_id};
use crate::{Bridge, ConfigError, Counters, Input, Out, Peer, SocketPlan, StreamPlan};
use crate::{check_range, check_rate, namespace, uplink};
use device::{Device, Tell};

/// Devices of one bridge.
const DEVICES_MAX: usize = 64;

/// `[[bridge]] type = "midi"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router; other programs see our ports as those of `clasp-rt-{name}`.
    /// Default `midi`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Whole segments that all addresses begin with. Default `/midi`.
    pub namespace: String,
    /// `[[bridge.device]]`, up to 64. Default: one without a name, at the first port there is.
    pub device: Vec<DeviceConfig>,
    /// `unit` or `raw`. Default `unit`.
    pub values: Values,
    /// How keys are told: as `event`, as `param`, or as `both`. Default `both`.
    pub notes: Notes,
    /// Take controllers 98 to 101 as the choice of a (non-)registered parameter. Default true.
    pub parameters: bool,
    /// Quarter notes in a bar, 1-32, for `clock/bar` and `clock/beat`. Default 4.
    pub beats_per_bar: u8,
    /// Tell every clock, 24 a quarter note, as an event. Default false.
    pub ticks: bool,
    /// Changes a second that one address is told at most; the last one always is. Default: all.
    pub rate_hz_max: Option<u32>,
    /// Tell the router which device each param is of, so that it can decide between them. Default
    /// true; false where the router that hosts it arbitrates nothing.
    pub sources: bool,
    /// What devices are left with when we stop: `panic` (silence) or `hold`. Default `panic`.
    pub on_stop: OnStop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "midi".into(),
            token: None,
            namespace: "/midi".into(),
            device: Vec::new(),
            values: Values::Unit,
            notes: Notes::Both,
            parameters: true,
            beats_per_bar: 4,
            ticks: false,
            rate_hz_max: None,
            sources: true,
            on_stop: OnStop::Panic,
        }
    }
}

/// One device. `port`, `virtual` and `serial` exclude each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "a table such as { port = \"Launchpad\" }")]
pub struct DeviceConfig {
    /// The segment of its addresses. Default none, which only one device may have.
    pub name: String,
    /// Part of a port's name, or its number in `clasp-rt midi --list-ports`. Default: the first.
    pub port: Option<String>,
    /// Part of the output's name where it differs. Default: `port`.
    pub output_port: Option<String>,
    /// Make a port of this name instead, for other programs to connect to.
    pub r#virtual: Option<String>,
    /// A serial line instead, `/dev/ttyUSB0`: MIDI as on a cable.
    pub serial: Option<String>,
    /// Of a serial line, 300-4000000. Default 31250.
    pub baud: u32,
    /// `both`, `in` or `out`. Default `both`.
    pub direction: Direction,
    /// Controllers 0-31 that have 14 bits: the controller 32 above is their fine half. Default
    /// none.
    pub fine: Vec<u8>,
    /// Controllers 0-119 of endless encoders: 1 is a step up, 127 one down. Default none.
    pub relative: Vec<u8>,
    /// Leave out a status byte that is the one before: for slow cables. Default false.
    pub running_status: bool,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            port: None,
            output_port: None,
            r#virtual: None,
            serial: None,
            baud: 31_250,
            direction: Direction::Both,
            fine: Vec::new(),
            relative: Vec::new(),
            running_status: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notes {
    Event,
    Param,
    #[default]
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    In,
    Out,
    #[default]
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    #[default]
    Panic,
    Hold,
}

/// How the values of a device are told.
#[derive(Clone, Debug)]
struct Style {
    values: Values,
    notes: Notes,
    parameters: bool,
    beats_per_bar: u8,
    ticks: bool,
    fine: Vec<u8>,
    relative: Vec<u8>,
}

/// Names that would be mistaken for what stands below a device.
const RESERVED: [&str; 12] = [
    "ch",
    "sysex",
    "msc",
    "mmc",
    "transport",
    "clock",
    "timecode",
    "song",
    "tune",
    "reset",
    "panic",
    "online",
];

/// The name that a device without one also answers to.
const UNNAMED: &str = "default";

/// Opens the bridge that `config` describes.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Midi::new(config).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Midi {
    config: Config,
    uplink: Uplink,
    counters: Counters,
    devices: Vec<Device>,
    /// Who each device is at the router; nobody where that is not told.
    sources: Vec<Details>,
    plans: Vec<StreamPlan>,
    address: String,
}

impl Midi {
    fn new(mut config: Config) -> Result<Self, ConfigError> {
        namespace::check(&config.namespace)?;
        check_range("beats_per_bar", config.beats_per_bar, 1..=32)?;
        check_rate("rate_hz_max", config.rate_hz_max)?;
        check_tables(&mut config.device, DEVICES_MAX, check_device)?;
        let mut devices = Vec::new();
        for device in &config.device {
            let base = match device.name.as_str() {
                "" => config.namespace.clone(),
                name => format!("{}/{name}", config.namespace),
            };
            let style = Style {
                values: config.values,
                notes: config.notes,
                parameters: config.parameters,
                beats_per_bar: config.beats_per_bar,
                ticks: config.ticks,
                fine: device.fine.clone(),
                relative: device.relative.clone(),
            };
            devices.push(Device::new(base, style, device.running_status));
        }
        let plans = config.device.iter().map(|device| plan(&config.name, device)).collect();
        let named = config.device.iter().filter(|_| config.sources);
        let sources = named.map(|device| source(&config.name, &device.name)).collect();
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()).rate(config.rate_hz_max),
            counters: Counters::default(),
            devices,
            sources,
            plans,
            address: String::new(),
            config,
        })
    }

    /// Calls `each` for one device, with the way to the router.
    fn with(
        &mut self,
        device: usize,
        out: &mut dyn Out,
        each: impl FnOnce(&mut Device, &mut Tell<'_>),
    ) {
        let Self { uplink, counters, devices, sources, address, .. } = self;
        let source = sources.get(device).map(|source| source.id.as_str());
        if let Some(device) = devices.get_mut(device) {
            each(device, &mut Tell { uplink, counters, out, address, source });
        }
    }

    /// A device is there, by this name, or was there before the router was.
    fn introduce(&mut self, device: usize, at: Option<&str>, out: &mut dyn Out) {
        let is_there = self.devices.get(device).is_some_and(|device| device.stream().is_some());
        let Some(source) = self.sources.get_mut(device) else { return };
        if let Some(at) = at {
            source.host = at.to_owned();
        }
        if at.is_some() || is_there {
            self.uplink.describe(source, &mut self.counters, out);
        }
    }

    /// A device is gone, and what it said last is told.
    fn take_leave(&mut self, device: usize, out: &mut dyn Out) {
        if let Some(source) = self.sources.get(device) {
            self.uplink.release(source, &mut self.counters, out);
            self.uplink.send(None, &mut self.counters, out);
        }
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { config, uplink, devices, counters, .. } = self;
        uplink.hear(frame, counters, out, &mut |uplink, update, counters, _| {
            if matches!(update.kind, Kind::Held { writer } if uplink.is_ours(writer)) {
                return;
            }
            let Some(rest) = namespace::strip(&config.namespace, update.address) else {
                counters.refused += 1;
                return;
            };
            write(&config.device, devices, now, rest, &update, counters);
        });
        for device in &mut self.devices {
            device.flush(now, &mut self.counters, out);
        }
    }
}

/// Hands `update` to the device that `rest`, the address without the namespace, names.
fn write(
    named: &[DeviceConfig],
    devices: &mut [Device],
    now: Time,
    rest: &str,
    update: &uplink::Update<'_>,
    counters: &mut Counters,
) {
    if rest == "/panic" && !matches!(update.kind, Kind::Held { .. }) {
        return devices.iter_mut().for_each(|device| device.panic(counters));
    }
    let first = rest.get(1..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let below = || rest.get(1 + first.len()..).unwrap_or_default();
    let by_name = named.iter().position(|device| !first.is_empty() && device.name == first);
    let unnamed = named.iter().position(|device| device.name.is_empty());
    let only = unnamed.or((named.len() == 1).then_some(0));
    let (index, path) = match (by_name, only) {
        (Some(index), _) => (index, below()),
        (None, Some(index)) if first == UNNAMED => (index, below()),
        (None, Some(index)) => (index, rest),
        (None, None) => {
            counters.refused += 1;
            return;
        }
    };
    if let Some(device) = devices.get_mut(index) {
        device.write(now, path, update, counters);
    }
}

fn check_device(index: usize, devices: &[DeviceConfig]) -> Result<(), (&'static str, String)> {
    let wrong = |key, why: &str| Err((key, why.to_owned()));
    let Some(device) = devices.get(index) else { return Ok(()) };
    let DeviceConfig { name, port, r#virtual, serial, output_port, .. } = device;
    if name.contains('/') || !name.is_empty() && namespace::check(&format!("/{name}")).is_err() {
        return wrong("name", "must be one segment of an address, such as `faders`");
    }
    if RESERVED.contains(&name.as_str()) {
        return wrong("name", "is the name of something below a device; choose another");
    }
    if devices.iter().take(index).any(|before| before.name == *name) {
        return wrong("name", "another device has it; each needs one of its own");
    }
    let ways = [port.is_some(), r#virtual.is_some(), serial.is_some()];
    if ways.iter().filter(|way| **way).count() > 1 {
        return wrong("port", "`port`, `virtual` and `serial` exclude each other");
    }
    if output_port.is_some() && port.is_none() {
        return wrong("output_port", "needs `port`, the name of the input");
    }
    if !(300..=4_000_000).contains(&device.baud) {
        return wrong("baud", "must be 300 to 4000000; MIDI cables have 31250");
    }
    if device.fine.iter().any(|number| *number > 31) {
        return wrong("fine", "controllers of 14 bits are 0 to 31");
    }
    if device.relative.iter().any(|number| *number > 119) {
        return wrong("relative", "controllers are 0 to 119");
    }
    Ok(())
}

/// Who a device is at the router; where it is, is known when it is there.
fn source(bridge: &str, device: &str) -> Details {
    let (id, name) = match device {
        "" => (bridge.to_owned(), bridge),
        _ => (format!("{bridge}.{device}"), device),
    };
    let (id, name) = (source_id("midi", &id), name.to_owned());
    Details { id, protocol: "midi", name, ..Details::default() }
}

fn plan(client: &str, device: &DeviceConfig) -> StreamPlan {
    if let Some(path) = &device.serial {
        let speech = Speech::Bytes { baud: device.baud, stop_bits: StopBits::One };
        let device = SerialDevice::Path(path.clone());
        return StreamPlan::Serial(SerialLine { device, speech });
    }
    let choice = match (&device.r#virtual, &device.port) {
        (Some(name), _) => MidiChoice::Virtual(name.clone()),
        (None, Some(port)) => match (port.parse(), &device.output_port) {
            (Ok(number), None) => MidiChoice::Number(number),
            (_, output) => MidiChoice::Named {
                input: port.clone(),
                output: output.as_ref().unwrap_or(port).clone(),
            },
        },
        (None, None) => MidiChoice::First,
    };
    StreamPlan::Midi(MidiPort {
        client: format!("clasp-rt-{client}"),
        choice,
        input: device.direction != Direction::Out,
        output: device.direction != Direction::In,
    })
}

impl Bridge for Midi {
    fn name(&self) -> &str {
        self.uplink.name()
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        Vec::new()
    }

    fn streams(&self) -> Vec<StreamPlan> {
        self.plans.clone()
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => {
                let pattern = format!("{}/**", self.config.namespace);
                self.uplink.join([pattern.as_str()].into_iter(), &mut self.counters, out);
                for index in 0..self.devices.len() {
                    self.introduce(index, None, out);
                    self.with(index, out, |device, tell| device.join(now, tell));
                }
            }
            Input::Lost => self.uplink.lose(),
            Input::Opened { stream, plan, peer } => {
                let at = if let Peer::Device(name) = peer { name } else { "" };
                self.introduce(plan.into(), Some(at), out);
                self.with(plan.into(), out, |device, tell| device.open(now, stream, tell));
            }
            Input::Bytes { stream, bytes } => {
                if let Some(index) = place_of(&self.devices, stream) {
                    self.with(index, out, |device, tell| device.hear(now, bytes, tell));
                }
            }
            Input::Ended { stream } => {
                if let Some(index) = place_of(&self.devices, stream) {
                    self.with(index, out, |device, tell| device.end(tell));
                    self.take_leave(index, out);
                }
            }
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Deadline => {
                for index in 0..self.devices.len() {
                    self.with(index, out, |device, tell| {
                        device.elapse(now, tell);
                        device.flush(now, tell.counters, tell.out);
                    });
                }
            }
            Input::Stop => {
                if self.config.on_stop == OnStop::Panic {
                    self.devices.iter_mut().for_each(|device| device.panic(&mut self.counters));
                }
                for device in &mut self.devices {
                    device.flush(now, &mut self.counters, out);
                }
            }
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Clock { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.devices.iter().filter_map(Device::deadline).min()
    }

    fn has_last_words(&self) -> bool {
        self.devices.iter().any(Device::has_more)
    }

    fn memory_bytes_max(&self) -> u64 {
        let each = known::PARAMS_MAX as u64 * known::PARAM_BYTES + outward::LINE_BYTES_MAX;
        self.devices.len() as u64 * (each + SYSEX_BYTES_MAX as u64)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

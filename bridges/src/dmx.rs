//! DMX512 over USB: ENTTEC DMX USB Pro and what speaks like it, and bare FTDI adapters (Open DMX).
//!
//! # Addresses
//!
//! | address | value | direction |
//! |---|---|---|
//! | `/dmx/{universe}/{slot 1-512}` | level: int of 0-255, or float of 0.0-1.0 | both ways |
//! | `/dmx/{universe}` | levels from slot 1 on: array or bytes | to the interface |
//! | `/dmx/{universe}/receiving` | bool: frames come in | from it |
//! | `/dmx/{universe}/widget/online` | bool: the interface is plugged in | from it |
//! | `/dmx/{universe}/widget/rate_hz`, `break_us`, `mark_us` | int, of its own output | both ways |
//! | `/dmx/{universe}/widget/serial`, `firmware`, `manufacturer`, `device` | text | from it |
//! | `/dmx/{universe}/widget/interval_us/p50`, `p99`, `max` | int, Open DMX only | from it |
//!
//! While there is one universe, `/dmx/{slot}` is understood, too. What a float means when it is
//! written is [`Floats`]. Universes are numbers of your own choice; nothing on a cable has them.
//!
//! # To an interface
//!
//! Changes within a millisecond leave as one frame, at most `rate_hz_max` a second. A next frame
//! leaves when the interface has taken the last one, with the levels of then: none is stale. An
//! unchanged one is repeated about once a second, so that an interface that is plugged in again has
//! its look. Before anything was written nothing is sent: a start is no blackout.
//!
//! An Open DMX has no processor: a thread of ours makes its frames, and how far apart they are is
//! told as `interval_us`, and counted for `/metrics`, `clasp-rt top` and `clasp-rt hist`.
//!
//! # From an interface
//!
//! The slots that changed are told in one BUNDLE, all of them first. Frames that the interface
//! says are damaged, and those with a start code other than 0 (RDM, text), are never levels.

pub mod message;
mod widget;

#[cfg(test)]
mod tests;

use clasp_rt_core::time::{Span, Time};
use serde::Deserialize;

use crate::datum::Datum;
use crate::devices::{SerialDevice, SerialLine, Speech, StopBits, check_tables, place_of};
use crate::level::{Floats, to_level};
use crate::merge::SLOTS;
use crate::uplink::{Kind, Update, Uplink};
use crate::{Bridge, ConfigError, Counters, Input, Out, SocketPlan, StreamPlan};
use crate::{check_range, namespace};
use widget::{Tell, Widget};

/// Changes within this leave as one frame.
const GATHER: Span = Span::from_millis(1);

/// An unchanged frame is repeated this often.
const REPEAT: Span = Span::from_secs(1);

/// A break-to-break time above this is no signal: ANSI E1.11, 1 s, and a little for the way here.
const SIGNAL_LOST: Span = Span::from_millis(1_250);

/// An interface or a router that takes nothing at present is tried again so much later.
const PATIENCE: Span = Span::from_millis(2);

/// Interfaces of one bridge.
const DEVICES_MAX: usize = 32;

/// Microseconds of one unit in which a Pro counts break and mark after break.
const UNIT_US: f64 = 10.67;

/// Fewest slots that a Pro takes.
const SLOTS_MIN: u16 = 24;

/// `[[bridge]] type = "dmx"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `dmx`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Whole segments that all addresses begin with. Default `/dmx`.
    pub namespace: String,
    /// `[[bridge.device]]`, up to 32. Default: one, with all defaults.
    pub device: Vec<DeviceConfig>,
    /// Tell levels as floats of 0.0-1.0 instead of ints of 0-255. Default false.
    pub normalize: bool,
    /// What a float means when it is written: `auto`, `fraction` or `level`. Default `auto`.
    pub floats: Floats,
    /// Frames a second to one interface, 1-44; DMX512 carries 44 of 512 slots. Default 40.
    pub rate_hz_max: u8,
    /// What interfaces are left with when we stop: `hold` (a Pro repeats its last frame, an Open
    /// DMX falls silent) or `blackout`. Default `hold`.
    pub on_stop: OnStop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "dmx".into(),
            token: None,
            namespace: "/dmx".into(),
            device: Vec::new(),
            normalize: false,
            floats: Floats::Auto,
            rate_hz_max: 40,
            on_stop: OnStop::Hold,
        }
    }
}

/// One interface. `port` and `usb_serial` exclude each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "a table such as { port = \"/dev/ttyUSB0\" }")]
pub struct DeviceConfig {
    /// Universe of its (first) port, 0-65535. Default 0.
    pub universe: u16,
    /// Its serial line, `/dev/ttyUSB0` or a link below `/dev/serial/by-id`. Default: the first FTDI
    /// adapter.
    pub port: Option<String>,
    /// The USB serial number of its adapter instead, which stays when it is plugged elsewhere.
    pub usb_serial: Option<String>,
    /// `pro` (ENTTEC DMX USB Pro, Mk2 and compatible) or `open` (Open DMX, bare FTDI adapter: only
    /// output). Default `pro`.
    pub kind: KindOf,
    /// `out` or `in`. Default `out`.
    pub direction: Direction,
    /// Slots of each frame, 24-512. Default 512.
    pub slots: u16,
    /// How a Pro tells what it receives: `always`, or only `changes`. Default `always`.
    pub receive: Receive,
    /// Frames a second that the interface itself makes: 0-40 of a Pro (0: as many as it can), 1-44
    /// of an Open DMX. Default: as a Pro is set; 40.
    pub rate_hz: Option<u8>,
    /// Break before each frame in µs: 96-1355 of a Pro, 92-100000 of an Open DMX. Default: as a Pro
    /// is set; 176.
    pub break_us: Option<u32>,
    /// Mark after break in µs: 10-1355 of a Pro, 12-100000 of an Open DMX. Default: as a Pro is
    /// set; 16.
    pub mark_us: Option<u32>,
    /// The second port of a Mk2. Default none.
    pub second: Option<Second>,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            universe: 0,
            port: None,
            usb_serial: None,
            kind: KindOf::Pro,
            direction: Direction::Out,
            slots: SLOTS as u16,
            receive: Receive::Always,
            rate_hz: None,
            break_us: None,
            mark_us: None,
            second: None,
        }
    }
}

/// The second port of a Mk2. Its messages and labels are those of your firmware, which the maker
/// gives out with an API key: `[bridge.device.second]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { universe = 1, label = 9 }")]
pub struct Second {
    /// Universe of the port, 0-65535.
    pub universe: u16,
    /// `out` or `in`. Default `out`.
    #[serde(default)]
    pub direction: Direction,
    /// Label of its frames; to an output as 6 on the first port, from an input as 5.
    pub label: u8,
    /// Messages that open the port, such as the API key: `[{ label = 13, data = [1, 2, 3, 4] }]`.
    #[serde(default)]
    pub setup: Vec<Setup>,
}

/// One message that is said whenever the interface is plugged in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { label = 13, data = [1, 2] }")]
pub struct Setup {
    pub label: u8,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindOf {
    #[default]
    Pro,
    Open,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    #[default]
    Out,
    In,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receive {
    #[default]
    Always,
    Changes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    #[default]
    Hold,
    Blackout,
}

/// Opens the bridge that `config` describes.
pub fn open(config: Config) -> Result<Box<dyn Bridge>, ConfigError> {
    Dmx::new(config).map(|bridge| Box::new(bridge) as Box<dyn Bridge>)
}

struct Dmx {
    config: Config,
    uplink: Uplink,
    counters: Counters,
    widgets: Vec<Widget>,
    plans: Vec<StreamPlan>,
    address: String,
}

impl Dmx {
    fn new(mut config: Config) -> Result<Self, ConfigError> {
        namespace::check(&config.namespace)?;
        check_range("rate_hz_max", config.rate_hz_max, 1..=44)?;
        check_tables(&mut config.device, DEVICES_MAX, |place, all| {
            let Some(device) = all.get(place) else { return Ok(()) };
            device.check()?;
            match all.iter().take(place).position(|other| other.line() == device.line()) {
                Some(other) => Err(device.taken(other)),
                None => Ok(()),
            }
        })?;
        let interval = Span::from_micros(1_000_000 / u64::from(config.rate_hz_max));
        let widget = |device: &DeviceConfig| Widget::new(device, interval);
        Ok(Self {
            uplink: Uplink::new(&config.name, config.token.clone()),
            counters: Counters::default(),
            widgets: config.device.iter().map(widget).collect(),
            plans: config.device.iter().map(plan).collect(),
            address: String::new(),
            config,
        })
    }

    fn with(
        &mut self,
        widget: usize,
        out: &mut dyn Out,
        each: impl FnOnce(&mut Widget, &mut Tell<'_>),
    ) {
        let Self { config, uplink, counters, widgets, address, .. } = self;
        let (namespace, normalize) = (&config.namespace, config.normalize);
        if let Some(widget) = widgets.get_mut(widget) {
            let mut tell = Tell { uplink, counters, out, address, namespace, normalize };
            each(widget, &mut tell);
            tell.send();
        }
    }

    fn with_all(&mut self, out: &mut dyn Out, mut each: impl FnMut(&mut Widget, &mut Tell<'_>)) {
        for index in 0..self.widgets.len() {
            self.with(index, out, &mut each);
        }
    }

    fn frame(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let Self { config, uplink, widgets, counters, .. } = self;
        uplink.hear(frame, counters, out, &mut |uplink, update, counters, out| {
            let is_ours = match update.kind {
                Kind::Held { writer } => uplink.is_ours(writer),
                Kind::Written | Kind::Passed(_) => false,
            };
            let rest = namespace::strip(&config.namespace, update.address);
            let rest = rest.and_then(|rest| rest.strip_prefix('/'));
            if !is_ours && write(config.floats, widgets, now, rest, &update, out).is_none() {
                counters.refused += 1;
            }
        });
    }
}

/// Takes the value of one address, `rest` behind the namespace. `None`: it means nothing here.
fn write(
    floats: Floats,
    widgets: &mut [Widget],
    now: Time,
    rest: Option<&str>,
    update: &Update<'_>,
    out: &mut dyn Out,
) -> Option<()> {
    let mut parts = rest?.split('/');
    let number = namespace::number(parts.next()?)?;
    let levels = |value: &Datum<'_>| match value {
        Datum::Other(value) => {
            let items = || value.array().map(|items| items.map(Datum::new));
            let levels = |items: &mut dyn Iterator<Item = Datum<'_>>| {
                items.take(SLOTS).map(|item| to_level(&item, floats)).collect::<Option<Vec<_>>>()
            };
            match value.as_bytes() {
                Some(bytes) => Some(bytes.to_vec()),
                None => levels(&mut items()?),
            }
        }
        _ => None,
    };
    let only = only_output(widgets);
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => match (levels(&update.value), only) {
            (Some(levels), _) => each_output(widgets, number, |out| out.write_all(now, &levels)),
            (None, Some(universe)) => {
                let (slot, level) = (slot(number)?, to_level(&update.value, floats)?);
                each_output(widgets, universe, |out| out.write(now, slot, level))
            }
            (None, None) => None,
        },
        (Some("widget"), Some(key), None) => {
            let value = update.value.number()?;
            let mut found = widgets.iter_mut().filter(|widget| widget.universe() == number);
            found.next()?.configure(key, value, out)
        }
        (Some(text), None, _) => {
            let (slot, level) = (slot(namespace::number(text)?)?, to_level(&update.value, floats)?);
            each_output(widgets, number, |out| out.write(now, slot, level))
        }
        _ => None,
    }
}

/// A slot counted from 0.
fn slot(number: u16) -> Option<usize> {
    (1..=SLOTS).contains(&number.into()).then(|| usize::from(number) - 1)
}

/// The universe of all outputs, if it is one.
fn only_output(widgets: &mut [Widget]) -> Option<u16> {
    let mut universes = widgets.iter_mut().flat_map(Widget::outputs).map(|(universe, _)| universe);
    let first = universes.next()?;
    universes.all(|other| other == first).then_some(first)
}

/// Writes to every output of a universe; `None`: there is none.
fn each_output(
    widgets: &mut [Widget],
    universe: u16,
    mut write: impl FnMut(&mut widget::Output),
) -> Option<()> {
    let outputs = widgets.iter_mut().flat_map(Widget::outputs);
    let count = outputs.filter(|(of, _)| *of == universe).map(|(_, output)| write(output)).count();
    (count > 0).then_some(())
}

impl DeviceConfig {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, why: &str| Err((key, why.to_owned()));
        if self.port.is_some() && self.usb_serial.is_some() {
            return wrong("usb_serial", "`port` says already where the interface is");
        }
        if !(SLOTS_MIN..=SLOTS as u16).contains(&self.slots) {
            return wrong("slots", "must be 24 to 512");
        }
        let is_open = self.kind == KindOf::Open;
        if is_open && (self.direction == Direction::In || self.second.is_some()) {
            return wrong("kind", "an `open` interface has one port, and only sends");
        }
        let (rate, breaks, marks) = if is_open {
            (1..=44, 92..=100_000, 12..=100_000)
        } else {
            (0..=40, 96..=1_355, 10..=1_355)
        };
        for (key, range, value) in [
            ("rate_hz", rate, self.rate_hz.map(u32::from)),
            ("break_us", breaks, self.break_us),
            ("mark_us", marks, self.mark_us),
        ] {
            if let Some(value) = value {
                let of_kind = |error: ConfigError| (key, format!("{} of this kind", error.why));
                check_range(key, value, range).map_err(of_kind)?;
            }
        }
        if let Some(second) = &self.second {
            if second.label == message::label::SEND || second.label == message::label::RECEIVED {
                return wrong("second.label", "is the first port's");
            }
            if second.setup.iter().any(|setup| setup.data.len() > message::DATA_BYTES_MAX) {
                return wrong("second.setup", "a message has at most 600 octets");
            }
        }
        Ok(())
    }
}

impl DeviceConfig {
    /// Where the interface is.
    fn line(&self) -> SerialDevice {
        match (&self.port, &self.usb_serial) {
            (Some(path), _) => SerialDevice::Path(path.clone()),
            (None, Some(serial)) => SerialDevice::UsbSerial(serial.clone()),
            (None, None) => SerialDevice::FirstFtdi,
        }
    }

    /// That the device at `other` is the same.
    fn taken(&self, other: usize) -> (&'static str, String) {
        let why = match self.line() {
            SerialDevice::Path(path) => format!("`{path}` is that of device[{other}]"),
            SerialDevice::UsbSerial(serial) => {
                return ("usb_serial", format!("`{serial}` is that of device[{other}]"));
            }
            SerialDevice::FirstFtdi => {
                format!("device[{other}] is the first adapter: say where this one is")
            }
        };
        ("port", why)
    }
}

fn plan(device: &DeviceConfig) -> StreamPlan {
    let speech = match device.kind {
        KindOf::Pro => Speech::Bytes { baud: 250_000, stop_bits: StopBits::Two },
        KindOf::Open => Speech::Dmx {
            rate_hz: device.rate_hz.unwrap_or(40),
            break_us: device.break_us.unwrap_or(176),
            mark_us: device.mark_us.unwrap_or(16),
        },
    };
    StreamPlan::Serial(SerialLine { device: device.line(), speech })
}

impl Bridge for Dmx {
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
                self.with_all(out, |widget, tell| widget.join(now, tell));
            }
            Input::Lost => self.uplink.lose(),
            Input::Opened { stream, plan, .. } => {
                self.with(plan.into(), out, |widget, tell| widget.open(now, stream, tell));
            }
            Input::Bytes { stream, bytes } => {
                if let Some(index) = place_of(&self.widgets, stream) {
                    self.with(index, out, |widget, tell| widget.hear(now, bytes, tell));
                }
            }
            Input::Ended { stream } => {
                if let Some(index) = place_of(&self.widgets, stream) {
                    self.with(index, out, |widget, tell| widget.end(tell));
                }
            }
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Deadline => self.with_all(out, |widget, tell| widget.elapse(now, tell)),
            Input::Stop => {
                if self.config.on_stop == OnStop::Blackout {
                    self.with_all(out, |widget, tell| widget.black_out(now, tell));
                }
            }
            Input::Packet { .. } => self.counters.malformed += 1,
            Input::Clock { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.widgets.iter().filter_map(Widget::deadline).min()
    }

    fn has_last_words(&self) -> bool {
        self.config.on_stop == OnStop::Blackout && self.widgets.iter().any(Widget::has_more)
    }

    fn sends(&self, address: &str) -> Option<bool> {
        let rest = namespace::strip(&self.config.namespace, address)?.strip_prefix('/')?;
        let (number, _slot) = rest.split_once('/')?;
        let number = namespace::number(number)?;
        let device = |device: &DeviceConfig| {
            let second = device.second.as_ref().map(|second| (second.universe, second.direction));
            [Some((device.universe, device.direction)), second]
        };
        let mut ports = self.config.device.iter().flat_map(device).flatten();
        Some(ports.any(|port| port == (number, Direction::Out)))
    }

    fn params_max(&self) -> u64 {
        self.widgets.iter().map(|widget| widget.inputs() as u64 * SLOTS as u64).sum()
    }

    fn memory_bytes_max(&self) -> u64 {
        self.widgets.len() as u64 * 4 * SLOTS as u64
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

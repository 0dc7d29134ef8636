//! One interface: its ports, what it says of itself, and how fast it takes frames.

use std::fmt::{self, Write};

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::time::{Span, Time};

use super::message::{Decoder, Found, Message, label};
use super::{DeviceConfig, Direction, GATHER, KindOf, PATIENCE, REPEAT, Receive};
use super::{SIGNAL_LOST, Setup, UNIT_US};
use crate::datum::Datum;
use crate::devices::Driven;
use crate::level::from_level;
use crate::merge::Levels;
use crate::uplink::Uplink;
use crate::{Counters, Out, StreamId};

pub(super) struct Widget {
    kind: KindOf,
    receive: Receive,
    /// What its output shall be, where the configuration or somebody since says so.
    wanted: Parameters,
    setup: Vec<Setup>,
    ports: Vec<Port>,
    stream: Option<StreamId>,
    /// The room of a stream that has taken everything.
    room: usize,
    decoder: Decoder,
    retry_at: Option<Time>,
    tell_at: Option<Time>,
    scratch: Vec<u8>,
}

/// How an interface makes frames; break and mark in its units of 10.67 µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    breaks: Option<u8>,
    marks: Option<u8>,
    rate_hz: Option<u8>,
}

struct Port {
    universe: u16,
    label: u8,
    way: Way,
}

enum Way {
    Out(Box<Output>),
    In(Box<Input>),
}

/// A universe on its way to an interface.
pub(super) struct Output {
    levels: Levels,
    slots: usize,
    interval: Span,
    /// Somebody has said what to show.
    begun: bool,
    changed_at: Option<Time>,
    sent_at: Option<Time>,
}

/// A universe that an interface receives.
#[derive(Default)]
struct Input {
    look: Levels,
    told: Levels,
    heard_at: Option<Time>,
}

/// The way to the router, while one input is handled.
pub(super) struct Tell<'a> {
    pub uplink: &'a mut Uplink,
    pub counters: &'a mut Counters,
    pub out: &'a mut dyn Out,
    pub address: &'a mut String,
    pub namespace: &'a str,
    pub normalize: bool,
}

impl Tell<'_> {
    fn set(&mut self, universe: u16, path: fmt::Arguments<'_>, value: &Datum<'_>) {
        self.address.clear();
        // Writing to a String does not fail.
        let _ = write!(self.address, "{}/{universe}/{path}", self.namespace);
        let push = |bytes: &mut Vec<u8>| value.append(bytes);
        self.uplink.set(self.address, push, self.counters, self.out);
    }

    fn text(&mut self, universe: u16, key: &str, text: &str) {
        self.set(universe, format_args!("widget/{key}"), &Datum::Text(text.into()));
    }

    fn number(&mut self, universe: u16, key: &str, number: impl Into<i64>) {
        self.set(universe, format_args!("widget/{key}"), &Datum::Int(number.into()));
    }

    pub(super) fn send(&mut self) {
        self.uplink.send(None, self.counters, self.out);
    }
}

impl Driven for Widget {
    fn stream(&self) -> Option<StreamId> {
        self.stream
    }
}

impl Widget {
    pub(super) fn new(config: &DeviceConfig, interval: Span) -> Self {
        let way = |direction| match direction {
            Direction::Out => Way::Out(Box::new(Output::new(config.slots.into(), interval))),
            Direction::In => Way::In(Box::default()),
        };
        let label = match config.direction {
            Direction::Out => label::SEND,
            Direction::In => label::RECEIVED,
        };
        let first = Port { universe: config.universe, label, way: way(config.direction) };
        let second = config.second.as_ref().map(|second| Port {
            universe: second.universe,
            label: second.label,
            way: way(second.direction),
        });
        let is_pro = config.kind == KindOf::Pro;
        let wanted = Parameters {
            breaks: config.break_us.filter(|_| is_pro).map(units),
            marks: config.mark_us.filter(|_| is_pro).map(units),
            rate_hz: config.rate_hz.filter(|_| is_pro),
        };
        Self {
            kind: config.kind,
            receive: config.receive,
            wanted,
            setup: config.second.iter().flat_map(|second| second.setup.clone()).collect(),
            ports: [Some(first), second].into_iter().flatten().collect(),
            stream: None,
            room: 0,
            decoder: Decoder::default(),
            retry_at: None,
            tell_at: None,
            scratch: Vec::new(),
        }
    }

    /// Of its first port.
    pub(super) fn universe(&self) -> u16 {
        self.ports.first().map_or(0, |port| port.universe)
    }

    pub(super) fn outputs(&mut self) -> impl Iterator<Item = (u16, &mut Output)> {
        self.ports.iter_mut().filter_map(|port| match &mut port.way {
            Way::Out(output) => Some((port.universe, &mut **output)),
            Way::In(_) => None,
        })
    }

    pub(super) fn inputs(&self) -> usize {
        self.ports.iter().filter(|port| matches!(port.way, Way::In(_))).count()
    }

    pub(super) fn open(&mut self, now: Time, stream: StreamId, tell: &mut Tell<'_>) {
        self.stream = Some(stream);
        self.room = tell.out.stream_room(stream);
        self.decoder = Decoder::default();
        if self.kind == KindOf::Pro {
            self.say(label::PARAMETERS, &[0, 0], tell.counters, tell.out);
            self.say(label::SERIAL, &[], tell.counters, tell.out);
            self.say(label::MANUFACTURER, &[], tell.counters, tell.out);
            self.say(label::DEVICE, &[], tell.counters, tell.out);
            for Setup { label, data } in self.setup.clone() {
                self.say(label, &data, tell.counters, tell.out);
            }
        }
        if self.inputs() > 0 {
            let mode = [u8::from(self.receive == Receive::Changes)];
            self.say(label::RECEIVE_MODE, &mode, tell.counters, tell.out);
        }
        for (_, output) in self.outputs() {
            (output.sent_at, output.changed_at) = (None, output.begun.then_some(now));
        }
        tell.set(self.universe(), format_args!("widget/online"), &Datum::Bool(true));
        self.send_due(now, tell);
    }

    pub(super) fn end(&mut self, tell: &mut Tell<'_>) {
        (self.stream, self.retry_at) = (None, None);
        tell.set(self.universe(), format_args!("widget/online"), &Datum::Bool(false));
        for Port { universe, way, .. } in &mut self.ports {
            if let Way::In(input) = way
                && input.heard_at.take().is_some()
            {
                tell.set(*universe, format_args!("receiving"), &Datum::Bool(false));
            }
        }
    }

    /// Tells a router that has just been joined all that is known.
    pub(super) fn join(&mut self, now: Time, tell: &mut Tell<'_>) {
        let online = Datum::Bool(self.stream.is_some());
        tell.set(self.universe(), format_args!("widget/online"), &online);
        for Port { universe, way, .. } in &mut self.ports {
            if let Way::In(input) = way {
                input.told = Levels::default();
                let receiving = Datum::Bool(input.heard_at.is_some());
                tell.set(*universe, format_args!("receiving"), &receiving);
            }
        }
        self.tell(now, tell);
        if self.stream.is_some() && self.kind == KindOf::Pro {
            // The answers say again what it is.
            self.say(label::PARAMETERS, &[0, 0], tell.counters, tell.out);
            self.say(label::SERIAL, &[], tell.counters, tell.out);
        }
    }

    pub(super) fn hear(&mut self, now: Time, bytes: &[u8], tell: &mut Tell<'_>) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.push(bytes, |found| match found {
            Found::Message(message) => self.message(now, message, tell),
            Found::Noise => tell.counters.malformed += 1,
        });
        self.decoder = decoder;
        self.tell(now, tell);
    }

    fn message(&mut self, now: Time, Message { label, data }: Message<'_>, tell: &mut Tell<'_>) {
        tell.counters.packets_in += 1;
        let universe = self.universe();
        let known = match (label, data) {
            (label::PARAMETERS, &[low, high, breaks, marks, rate_hz, ..]) => {
                tell.text(universe, "firmware", &format!("{high}.{low}"));
                tell.number(universe, "break_us", micros(breaks));
                tell.number(universe, "mark_us", micros(marks));
                tell.number(universe, "rate_hz", rate_hz);
                let is =
                    Parameters { breaks: Some(breaks), marks: Some(marks), rate_hz: Some(rate_hz) };
                self.adjust(is, tell.counters, tell.out);
                true
            }
            (label::SERIAL, digits @ &[_, _, _, _]) => {
                let text = digits
                    .iter()
                    .rev()
                    .fold(String::new(), |text, two| text + &format!("{:02x}", two));
                tell.text(universe, "serial", &text);
                true
            }
            (label::MANUFACTURER | label::DEVICE, [_, _, name @ ..]) => {
                let key = if label == label::DEVICE { "device" } else { "manufacturer" };
                let name = String::from_utf8_lossy(name);
                tell.text(universe, key, name.trim_end_matches('\0'));
                true
            }
            (label::INTERVALS, data) if self.kind == KindOf::Open => {
                let micros = |chunk: &[u8]| chunk.first_chunk().copied().map(u32::from_le_bytes);
                for (key, chunk) in ["p50", "p99", "max"].into_iter().zip(data.chunks(4)) {
                    if let Some(us) = micros(chunk) {
                        tell.number(universe, &format!("interval_us/{key}"), us);
                    }
                }
                true
            }
            _ => self.levels(now, label, data, tell),
        };
        tell.counters.refused += u64::from(!known);
    }

    /// Levels that a port received. Whether `label` is one of those.
    fn levels(&mut self, now: Time, label: u8, data: &[u8], tell: &mut Tell<'_>) -> bool {
        // What changed comes from the first port alone.
        let of = if label == label::CHANGED { label::RECEIVED } else { label };
        let Some(port) = self.ports.iter_mut().find(|port| port.label == of) else { return false };
        let (Way::In(input), universe) = (&mut port.way, port.universe) else { return false };
        let taken = match (label, data) {
            (label::CHANGED, data) => input.change(data),
            // Octets were lost on the way into the interface.
            (_, [status, ..]) if status & 3 != 0 => {
                tell.counters.dropped += 1;
                return true;
            }
            (_, [_, 0, slots @ ..]) => {
                input.look.write(slots);
                Some(())
            }
            (_, [_, _, ..]) => return false,
            _ => None,
        };
        if taken.is_none() {
            tell.counters.malformed += 1;
            return true;
        }
        if input.heard_at.replace(now).is_none() {
            tell.set(universe, format_args!("receiving"), &Datum::Bool(true));
        }
        true
    }

    /// Tells the slots that changed, if the router takes them; else soon, with the levels of then.
    fn tell(&mut self, now: Time, tell: &mut Tell<'_>) {
        self.tell_at = None;
        for Port { universe, way, .. } in &mut self.ports {
            let Way::In(input) = way else { continue };
            let Input { look, told, .. } = &mut **input;
            if told == look {
                continue;
            }
            if tell.out.room() < FRAME_BYTES_MAX {
                self.tell_at = Some(now + PATIENCE);
                return;
            }
            told.advance(look.as_slice(), |slot, level| {
                let value = from_level(level, tell.normalize);
                tell.set(*universe, format_args!("{}", slot + 1), &value);
            });
        }
    }

    /// Asks the interface to make frames as it shall, where it does not.
    fn adjust(&mut self, is: Parameters, counters: &mut Counters, out: &mut dyn Out) {
        let Parameters { breaks, marks, rate_hz } = self.wanted;
        let shall = Parameters {
            breaks: breaks.or(is.breaks),
            marks: marks.or(is.marks),
            rate_hz: rate_hz.or(is.rate_hz),
        };
        if shall != is
            && let (Some(breaks), Some(marks), Some(rate_hz)) =
                (shall.breaks, shall.marks, shall.rate_hz)
        {
            // Once: one that does not obey is not asked for ever.
            self.wanted = Parameters::default();
            self.say(label::SET_PARAMETERS, &[0, 0, breaks, marks, rate_hz], counters, out);
            self.say(label::PARAMETERS, &[0, 0], counters, out);
        }
    }

    /// Somebody wrote a parameter. `None`: it has no such one.
    pub(super) fn configure(&mut self, key: &str, value: f64, out: &mut dyn Out) -> Option<()> {
        if self.kind != KindOf::Pro || value.is_nan() {
            return None;
        }
        let us = value.clamp(0.0, 10_000.0) as u32;
        match key {
            "rate_hz" => self.wanted.rate_hz = Some(value.clamp(0.0, 40.0) as u8),
            "break_us" => self.wanted.breaks = Some(units(us).max(9)),
            "mark_us" => self.wanted.marks = Some(units(us).max(1)),
            _ => return None,
        }
        // Its answer leads to the change.
        self.say(label::PARAMETERS, &[0, 0], &mut Counters::default(), out);
        Some(())
    }

    fn say(&mut self, label: u8, data: &[u8], counters: &mut Counters, out: &mut dyn Out) {
        let Some(stream) = self.stream else { return };
        self.scratch.clear();
        Message { label, data }.write(&mut self.scratch);
        if out.stream_room(stream) < self.scratch.len() {
            counters.dropped += 1;
            return;
        }
        counters.packets_out += 1;
        out.to_stream(stream, &self.scratch);
    }

    /// Sends the frames that are due, as soon as the interface has taken what was said before.
    fn send_due(&mut self, now: Time, tell: &mut Tell<'_>) {
        self.retry_at = None;
        let Some(stream) = self.stream else { return };
        for Port { label, way, .. } in &mut self.ports {
            let Way::Out(output) = way else { continue };
            if output.due().is_none_or(|due| due > now) {
                continue;
            }
            if tell.out.stream_room(stream) < self.room {
                self.retry_at = Some(now + PATIENCE);
                return;
            }
            self.scratch.clear();
            let data = output.frame(now);
            Message { label: *label, data: &data }.write(&mut self.scratch);
            tell.counters.packets_out += 1;
            tell.out.to_stream(stream, &self.scratch);
        }
    }

    pub(super) fn elapse(&mut self, now: Time, tell: &mut Tell<'_>) {
        self.send_due(now, tell);
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell(now, tell);
        }
        for Port { universe, way, .. } in &mut self.ports {
            if let Way::In(input) = way
                && input.lost_at().is_some_and(|lost| lost <= now)
            {
                input.heard_at = None;
                tell.set(*universe, format_args!("receiving"), &Datum::Bool(false));
            }
        }
    }

    pub(super) fn black_out(&mut self, now: Time, tell: &mut Tell<'_>) {
        for (_, output) in self.outputs() {
            output.black_out(now);
        }
        self.send_due(now, tell);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let ports = self.ports.iter().filter_map(|port| match &port.way {
            Way::Out(output) => output.due().filter(|_| self.stream.is_some()),
            Way::In(input) => input.lost_at(),
        });
        // While the interface is busy, nothing is due before the next attempt.
        let ports = ports.map(|due| self.retry_at.map_or(due, |retry| due.max(retry)));
        ports.chain(self.tell_at).min()
    }

    /// Whether levels wait that the interface could still take.
    pub(super) fn has_more(&self) -> bool {
        let waits = |port: &Port| matches!(&port.way, Way::Out(out) if out.changed_at.is_some());
        self.stream.is_some() && self.ports.iter().any(waits)
    }
}

impl Output {
    fn new(slots: usize, interval: Span) -> Self {
        let levels = Levels::dark(slots);
        Self { levels, slots, interval, begun: false, changed_at: None, sent_at: None }
    }

    /// Sets one slot, counted from 0.
    pub(super) fn write(&mut self, now: Time, slot: usize, level: u8) {
        if slot < self.slots && (self.levels.set(slot, level) || !self.begun) {
            self.change(now);
        }
    }

    /// Sets all slots from the first on.
    pub(super) fn write_all(&mut self, now: Time, levels: &[u8]) {
        let levels = levels.get(..self.slots).unwrap_or(levels);
        if !self.levels.hold(levels) || !self.begun {
            self.levels.write(levels);
            self.change(now);
        }
    }

    fn black_out(&mut self, now: Time) {
        if self.begun {
            self.levels = Levels::dark(self.slots);
            (self.changed_at, self.sent_at) = (Some(now - GATHER), None);
        }
    }

    fn change(&mut self, now: Time) {
        self.begun = true;
        self.changed_at.get_or_insert(now);
    }

    /// When the next frame may leave.
    fn due(&self) -> Option<Time> {
        let next = self.sent_at.map_or(Time(0), |sent| sent + self.interval);
        let repeat = self.sent_at.map(|sent| sent + REPEAT);
        self.changed_at.map(|changed| next.max(changed + GATHER)).or(repeat)
    }

    /// The start code and the levels, which count as sent.
    fn frame(&mut self, now: Time) -> Vec<u8> {
        (self.changed_at, self.sent_at) = (None, Some(now));
        [&[0], self.levels.as_slice()].concat()
    }
}

impl Input {
    /// Takes the octets that changed: the first of 40 octets, a bit for each, then their values.
    /// `None`: something is missing, or it is not of levels.
    fn change(&mut self, data: &[u8]) -> Option<()> {
        let (&[first, ref bits @ ..], values) = data.split_first_chunk::<6>()?;
        let mut values = values.iter();
        let mut changes = Vec::with_capacity(40);
        for bit in 0..40 {
            if bits.get(bit / 8)? >> (bit % 8) & 1 == 1 {
                changes.push((usize::from(first) * 8 + bit, *values.next()?));
            }
        }
        // Octet 0 is the start code.
        if changes.first().is_some_and(|(octet, value)| *octet == 0 && *value != 0) {
            return None;
        }
        for (octet, value) in changes.into_iter().filter(|(octet, _)| *octet > 0) {
            self.look.set(octet - 1, value);
        }
        Some(())
    }

    fn lost_at(&self) -> Option<Time> {
        self.heard_at.map(|heard| heard + SIGNAL_LOST)
    }
}

fn units(us: u32) -> u8 {
    (f64::from(us) / UNIT_US).round().clamp(1.0, 127.0) as u8
}

fn micros(units: u8) -> i64 {
    (f64::from(units) * UNIT_US).round() as i64
}

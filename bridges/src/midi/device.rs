//! One MIDI device: what it says becomes params and events, what the router says becomes messages.

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_bytes, push_i64, push_str};
use clasp_rt_core::wire::TooLong;

use super::clock::{Beat, Clock};
use super::known::{Known, Next, Side};
use super::message::{MAX_14_BIT, Message};
use super::outward::{Outward, PATIENCE};
use super::param::{self, DATA_HIGH, DATA_LOW, Param, Values, to_number};
use super::parser::{Parsed, Parser};
use super::show::Command;
use super::timecode::{Quarters, Rate, Timecode};
use super::{Notes, Style};
use crate::datum::Datum;
use crate::devices::Driven;
use crate::uplink::{Kind, Source, Update, Uplink};
use crate::{Counters, Out, StreamId};

/// A device that has said "active sensing" once and is silent for so long is gone: MIDI 1.0,
/// "Active Sensing".
const SENSING: Span = Span::from_millis(300);

/// Channel mode messages, from 120 on.
const MODES: [&str; 8] =
    ["all_sound_off", "reset", "local", "all_notes_off", "omni_off", "omni_on", "mono", "poly"];

/// The first channel mode message.
const MODE_FIRST: u8 = 120;

pub(super) struct Device {
    /// What its addresses begin with: `/midi/faders`.
    base: String,
    style: Style,
    stream: Option<StreamId>,
    parser: Parser,
    known: Known,
    /// Params that the device changed and the router has not been told.
    changed: Vec<Param>,
    /// When the router is told what it had no room for.
    tell_at: Option<Time>,
    /// The (non-)registered parameter that data entry is about, of each channel.
    selected: [Selected; 16],
    clock: Clock,
    quarters: Quarters,
    timecode: Option<Timecode>,
    /// The rate of time codes that are written without one.
    rate: Rate,
    /// The device is there and, if it does active sensing, says so.
    online: bool,
    /// When it will have been silent too long.
    silent_at: Option<Time>,
    outward: Outward,
}

/// The halves of a parameter number as they come; which kind the last one was of.
#[derive(Clone, Copy, Debug, Default)]
struct Selected {
    registered: bool,
    high: Option<u8>,
    low: Option<u8>,
    /// The device has sent fine halves of its value: a step is one of 16384, else one of 128.
    fine: bool,
}

impl Selected {
    fn param(&self, channel: u8) -> Option<Param> {
        let (high, low) = self.high.zip(self.low)?;
        let number = u16::from(high) << 7 | u16::from(low);
        // 127 and 127 select nothing.
        (number < MAX_14_BIT).then_some(match self.registered {
            true => Param::Rpn { channel, number },
            false => Param::Nrpn { channel, number },
        })
    }
}

/// The way to the router, while one input is handled.
pub(super) struct Tell<'a> {
    pub uplink: &'a mut Uplink,
    pub counters: &'a mut Counters,
    pub out: &'a mut dyn Out,
    pub address: &'a mut String,
    /// Who the device is at the router; `None`: it is not told.
    pub source: Option<&'a str>,
}

impl Tell<'_> {
    fn set(&mut self, base: &str, path: &str, value: &Datum<'_>) {
        self.at(base, path);
        self.set_there(value);
    }

    /// Sets the address in hand.
    fn set_there(&mut self, value: &Datum<'_>) {
        let push = |bytes: &mut Vec<u8>| value.append(bytes);
        if let Some(id) = self.source {
            self.uplink.mark(&Source { id, priority: None, by: None });
        }
        self.uplink.set(self.address, push, self.counters, self.out);
    }

    fn event(
        &mut self,
        base: &str,
        path: &str,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
    ) {
        self.at(base, path);
        self.uplink.publish(self.address, Signal::Event, push, self.counters, self.out);
    }

    fn at(&mut self, base: &str, path: &str) {
        self.address.clear();
        self.address.push_str(base);
        self.address.push_str(path);
    }

    pub(super) fn send(&mut self) {
        self.uplink.send(None, self.counters, self.out);
    }
}

impl Driven for Device {
    fn stream(&self) -> Option<StreamId> {
        self.stream
    }
}

impl Device {
    pub(super) fn new(base: String, style: Style, running_status: bool) -> Self {
        Self {
            base,
            stream: None,
            parser: Parser::default(),
            known: Known::default(),
            changed: Vec::new(),
            tell_at: None,
            selected: [Selected::default(); 16],
            clock: Clock::new(style.beats_per_bar),
            quarters: Quarters::default(),
            timecode: None,
            rate: Rate::Pal25,
            online: false,
            silent_at: None,
            outward: Outward::new(running_status),
            style,
        }
    }

    pub(super) fn open(&mut self, now: Time, stream: StreamId, tell: &mut Tell<'_>) {
        self.stream = Some(stream);
        self.parser = Parser::default();
        self.selected = Default::default();
        self.outward.begin(&mut self.known);
        self.set_online(true, tell);
        tell.send();
        self.flush(now, tell.counters, tell.out);
    }

    pub(super) fn end(&mut self, tell: &mut Tell<'_>) {
        self.stream = None;
        self.silent_at = None;
        self.outward.end(tell.counters);
        self.set_online(false, tell);
        self.say_changed(tell);
        tell.send();
    }

    /// A device that is gone holds no keys.
    fn set_online(&mut self, online: bool, tell: &mut Tell<'_>) {
        self.online = online;
        tell.set(&self.base, "/online", &Datum::Bool(online));
        if !online {
            self.release(None, tell);
            self.clock.stop();
        }
    }

    /// Lets go of the keys that the device held, of one channel or of all.
    fn release(&mut self, only: Option<u8>, tell: &mut Tell<'_>) {
        for held in self.known.held() {
            if let Param::Held { channel, note } = held
                && only.is_none_or(|only| only == channel)
            {
                self.note(channel, note, 0, false, tell);
            }
        }
    }

    /// Tells a router that has just been joined everything that it may have missed.
    pub(super) fn join(&mut self, now: Time, tell: &mut Tell<'_>) {
        tell.set(&self.base, "/online", &Datum::Bool(self.online));
        if let Some(tempo_bpm) = self.clock.tempo_bpm() {
            tell.set(&self.base, "/clock/tempo", &Datum::Float(tempo_bpm));
            self.tell_transport(tell);
            self.tell_beat(self.clock.beat(), tell);
        }
        if let Some(timecode) = self.timecode {
            self.tell_timecode(timecode, tell);
        }
        self.changed.clear();
        self.changed.extend(self.known.again(Side::Device));
        self.tell_changed(now, tell);
        tell.send();
    }

    pub(super) fn hear(&mut self, now: Time, bytes: &[u8], tell: &mut Tell<'_>) {
        if self.silent_at.is_some() {
            self.silent_at = Some(now + SENSING);
        }
        let mut parser = std::mem::take(&mut self.parser);
        for byte in bytes {
            match parser.push(*byte) {
                Parsed::More => {}
                Parsed::Message(message) => {
                    tell.counters.packets_in += 1;
                    if !self.online {
                        self.set_online(true, tell);
                    }
                    self.message(now, message, tell);
                }
                Parsed::Malformed => tell.counters.malformed += 1,
                Parsed::TooLong => tell.counters.overflowed += 1,
            }
        }
        self.parser = parser;
        self.tell_changed(now, tell);
        tell.send();
    }

    fn message(&mut self, now: Time, message: Message<'_>, tell: &mut Tell<'_>) {
        match message {
            Message::NoteOn { channel, note, velocity } => {
                self.note(channel, note, velocity, velocity > 0, tell);
            }
            Message::NoteOff { channel, note, velocity } => {
                self.note(channel, note, velocity, false, tell);
            }
            Message::Control { channel, number, value } => {
                self.control(channel, number, value, tell);
            }
            Message::PolyPressure { channel, note, pressure } => {
                self.learn(Param::Poly { channel, note }, pressure.into(), tell);
            }
            Message::Program { channel, program } => {
                self.learn(Param::Program { channel }, program.into(), tell);
            }
            Message::Pressure { channel, pressure } => {
                self.learn(Param::Pressure { channel }, pressure.into(), tell);
            }
            Message::Bend { channel, value } => self.learn(Param::Bend { channel }, value, tell),
            Message::Sysex(bytes) => self.sysex(bytes, tell),
            Message::QuarterFrame(data) => {
                if let Some(time) = self.quarters.push(data) {
                    self.tell_timecode(time, tell);
                }
            }
            Message::SongPosition(position) => {
                self.clock.locate(position);
                self.learn(Param::SongPosition, position, tell);
                self.tell_beat(self.clock.beat(), tell);
            }
            Message::Song(song) => self.learn(Param::Song, song.into(), tell),
            Message::Clock => self.tick(now, tell),
            Message::Start => self.transport("start", Clock::start, tell),
            Message::Continue => self.transport("continue", Clock::resume, tell),
            Message::Stop => self.transport("stop", Clock::stop, tell),
            Message::ActiveSensing => self.silent_at = Some(now + SENSING),
            Message::TuneRequest => {
                self.event("/tune", tell, |bytes| Datum::Bool(true).append(bytes))
            }
            Message::Reset => {
                self.release(None, tell);
                self.event("/reset", tell, |bytes| Datum::Bool(true).append(bytes));
            }
        }
    }

    fn note(&mut self, channel: u8, note: u8, velocity: u8, on: bool, tell: &mut Tell<'_>) {
        if self.style.notes != Notes::Param {
            let velocity = self.style.values.datum(velocity.into(), 127);
            self.event(&format!("/ch/{}/note", channel + 1), tell, |bytes| {
                let mut map = MapWriter::start(bytes);
                push_i64(map.entry("note")?, note.into());
                velocity.append(map.entry("velocity")?)?;
                push_bool(map.entry("on")?, on);
                Ok(())
            });
        }
        // Kept in any case: so that keys are let go of when the device goes.
        let held = if on { velocity } else { 0 };
        self.learn(Param::Held { channel, note }, held.into(), tell);
    }

    fn control(&mut self, channel: u8, number: u8, value: u8, tell: &mut Tell<'_>) {
        let fine = &self.style.fine;
        let selected = &mut self.selected[usize::from(channel & 0x0F)];
        match number {
            MODE_FIRST.. => return self.mode(channel, number, value, tell),
            98..=101 if self.style.parameters => {
                let registered = number >= 100;
                if selected.registered != registered {
                    *selected = Selected { registered, ..Selected::default() };
                }
                let half = if number % 2 == 1 { &mut selected.high } else { &mut selected.low };
                *half = Some(value);
                selected.fine = false;
                return;
            }
            DATA_HIGH | DATA_LOW | 96 | 97 => {
                if let Some(param) = selected.param(channel) {
                    return self.data(channel, param, number, value, tell);
                }
            }
            _ if self.style.relative.contains(&number) => {
                // Two's complement of seven bits: 1 is a step up, 127 one down.
                let step = if value < 64 { i64::from(value) } else { i64::from(value) - 128 };
                let path = format!("/ch/{}/cc/{number}/step", channel + 1);
                return self.event(&path, tell, |bytes| Datum::Int(step).append(bytes));
            }
            _ => {}
        }
        if fine.contains(&number) {
            // A coarse half alone means that the fine one is 0.
            self.learn(Param::Fine { channel, number }, u16::from(value) << 7, tell);
        } else if number >= 32 && fine.contains(&(number - 32)) {
            let param = Param::Fine { channel, number: number - 32 };
            let before = self.known.value(param).unwrap_or(0);
            self.learn(param, before & !127 | u16::from(value), tell);
        } else {
            self.learn(Param::Control { channel, number }, value.into(), tell);
        }
    }

    /// Data entry, or a step, of a selected parameter.
    fn data(&mut self, channel: u8, param: Param, number: u8, value: u8, tell: &mut Tell<'_>) {
        let selected = &mut self.selected[usize::from(channel & 0x0F)];
        let before = self.known.value(param);
        let value = match number {
            DATA_HIGH => u16::from(value) << 7,
            DATA_LOW => {
                selected.fine = true;
                before.unwrap_or(0) & !127 | u16::from(value)
            }
            _ => {
                let size = if selected.fine { 1 } else { 128 };
                let up = number == 96;
                let mut path = String::new();
                param.write_path(Values::Raw, &mut path);
                path.push_str("/step");
                let step = Datum::Int(if up { 1 } else { -1 });
                self.event(&path, tell, |bytes| step.append(bytes));
                // Where it stands is not known before the device has said so.
                let Some(before) = before else { return };
                if up { (before + size).min(MAX_14_BIT) } else { before.saturating_sub(size) }
            }
        };
        self.learn(param, value, tell);
    }

    fn mode(&mut self, channel: u8, number: u8, value: u8, tell: &mut Tell<'_>) {
        // From "all notes off" on, all of them say that no key is down.
        if number == MODE_FIRST || number >= 123 {
            self.release(Some(channel), tell);
        }
        if number == 121 {
            self.selected[usize::from(channel & 0x0F)] = Selected::default();
        }
        let name = MODES.get(usize::from(number - MODE_FIRST)).copied().unwrap_or_default();
        self.event(&format!("/ch/{}/mode", channel + 1), tell, |bytes| {
            let mut map = MapWriter::start(bytes);
            push_str(map.entry("mode")?, name)?;
            push_i64(map.entry("value")?, value.into());
            Ok(())
        });
    }

    fn sysex(&mut self, bytes: &[u8], tell: &mut Tell<'_>) {
        if let Some(time) = Timecode::from_full_frame(bytes) {
            return self.tell_timecode(time, tell);
        }
        match Command::read(bytes) {
            Some(command) => {
                let path = if matches!(command, Command::Show(_)) { "/msc" } else { "/mmc" };
                self.event(path, tell, |out| command.push(out));
            }
            None => self.event("/sysex", tell, |out| push_bytes(out, bytes)),
        }
    }

    fn tick(&mut self, now: Time, tell: &mut Tell<'_>) {
        let tick = self.clock.tick(now);
        if let Some(tempo_bpm) = tick.tempo_bpm {
            tell.set(&self.base, "/clock/tempo", &Datum::Float(tempo_bpm));
        }
        if let Some(beat) = tick.beat {
            self.tell_beat(beat, tell);
        }
        if self.style.ticks {
            let number = tick.number.map(|number| number as i64);
            self.event("/clock/tick", tell, |bytes| {
                number.map_or(Datum::Null, Datum::Int).append(bytes)
            });
        }
    }

    fn transport(&mut self, name: &str, change: impl FnOnce(&mut Clock), tell: &mut Tell<'_>) {
        change(&mut self.clock);
        self.event("/transport", tell, |bytes| push_str(bytes, name));
        self.tell_transport(tell);
    }

    fn tell_transport(&mut self, tell: &mut Tell<'_>) {
        tell.set(&self.base, "/clock/running", &Datum::Bool(self.clock.is_running()));
        self.learn(Param::SongPosition, self.clock.position(), tell);
    }

    fn tell_beat(&self, Beat { beat, bar }: Beat, tell: &mut Tell<'_>) {
        tell.set(&self.base, "/clock/bar", &Datum::Int(bar as i64));
        tell.set(&self.base, "/clock/beat", &Datum::Int(beat as i64));
    }

    fn tell_timecode(&mut self, time: Timecode, tell: &mut Tell<'_>) {
        self.timecode = Some(time);
        tell.set(&self.base, "/timecode", &Datum::Text(time.to_string().into()));
        if std::mem::replace(&mut self.rate, time.rate) != time.rate {
            let rate = Datum::Float(time.rate.per_second());
            tell.set(&self.base, "/timecode/rate", &rate);
        }
    }

    /// Tells an event, and before it the params that changed before it.
    fn event(
        &mut self,
        path: &str,
        tell: &mut Tell<'_>,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
    ) {
        self.say_changed(tell);
        tell.event(&self.base, path, push);
    }

    fn learn(&mut self, param: Param, value: u16, tell: &mut Tell<'_>) {
        match self.known.write(param, value, Side::Device) {
            Next::Queue => self.changed.push(param),
            Next::Queued | Next::Nothing => {}
            Next::Full => tell.counters.overflowed += 1,
        }
    }

    /// Tells what changed, if the router takes it; else soon, with the values of then.
    fn tell_changed(&mut self, now: Time, tell: &mut Tell<'_>) {
        self.tell_at = None;
        if self.changed.is_empty() {
            return;
        }
        if tell.out.room() < FRAME_BYTES_MAX {
            self.tell_at = Some(now + PATIENCE);
            return;
        }
        self.say_changed(tell);
    }

    fn say_changed(&mut self, tell: &mut Tell<'_>) {
        let hides_notes = self.style.notes == Notes::Event;
        for param in self.changed.drain(..) {
            let Some(value) = self.known.take(param, Side::Device) else { continue };
            if hides_notes && matches!(param, Param::Held { .. }) {
                continue;
            }
            tell.at(&self.base, "");
            param.write_path(self.style.values, tell.address);
            tell.set_there(&param.datum(value, self.style.values));
        }
    }

    /// Takes what the router says of the address `path` below this device.
    pub(super) fn write(
        &mut self,
        now: Time,
        path: &str,
        update: &Update<'_>,
        counters: &mut Counters,
    ) {
        if let Some((param, number)) = param::parse(path, &update.value, &self.style.fine) {
            match self.known.write(param, number, Side::Router) {
                Next::Queue if self.stream.is_some() => self.outward.param(param),
                Next::Queue | Next::Queued | Next::Nothing => {}
                Next::Full => counters.overflowed += 1,
            }
            return;
        }
        // What happened before we came is over; only params are still so.
        if matches!(update.kind, Kind::Held { .. }) {
            return;
        }
        if self.stream.is_none() {
            counters.dropped += 1;
        } else if self.happen(now, path, &update.value, counters).is_none() {
            counters.refused += 1;
        }
    }

    /// Takes an event. `None`: there is no such address, or it has no such value.
    fn happen(
        &mut self,
        now: Time,
        path: &str,
        value: &Datum<'_>,
        counters: &mut Counters,
    ) -> Option<()> {
        let map = match value {
            Datum::Other(map) => *map,
            _ => Value::NULL,
        };
        let message = match path {
            "/sysex" => {
                self.outward.bytes(sysex_of(map)?, counters);
                return Some(());
            }
            "/msc" => {
                self.outward.bytes(Command::show(map)?.sysex(), counters);
                return Some(());
            }
            "/mmc" => {
                self.outward.bytes(Command::machine(map)?.sysex(), counters);
                return Some(());
            }
            "/timecode" => {
                let Datum::Text(text) = value else { return None };
                let time = Timecode::parse(text, self.rate)?;
                self.outward.tell_timecode(now, time, counters);
                return Some(());
            }
            "/timecode/rate" => {
                self.rate = Rate::from_per_second(value.number()?)?;
                return Some(());
            }
            "/clock/tempo" => {
                let tempo_bpm = value.number().filter(|bpm| (0.0..=1_000.0).contains(bpm))?;
                self.outward.run_clocks(now, tempo_bpm);
                return Some(());
            }
            "/panic" => {
                self.outward.panic(counters);
                return Some(());
            }
            "/clock/tick" => Message::Clock,
            "/tune" => Message::TuneRequest,
            "/reset" => Message::Reset,
            "/transport" => match value.text()?.as_ref() {
                "start" => Message::Start,
                "continue" => Message::Continue,
                "stop" => Message::Stop,
                _ => return None,
            },
            _ => return self.happen_on_channel(path, value, map, counters),
        };
        self.outward.event(&message, counters);
        Some(())
    }

    fn happen_on_channel(
        &mut self,
        path: &str,
        value: &Datum<'_>,
        map: Value<'_>,
        counters: &mut Counters,
    ) -> Option<()> {
        let mut parts = path.strip_prefix("/ch/")?.split('/');
        let channel = param::channel(&mut parts)?;
        let mut control = |number, value| {
            self.outward.event(&Message::Control { channel, number, value }, counters);
        };
        match (parts.next()?, parts.next()) {
            ("note", None) => {
                // A number of a key, no level: nothing is near to 600.
                let note = Datum::new(map.get("note")?).number()?;
                let note = (note.fract() == 0.0 && (0.0..128.0).contains(&note)).then_some(note)?;
                let note = note as u8;
                let velocity = map.get("velocity").map_or(Datum::Int(64), Datum::new);
                let velocity = to_number(&velocity, 127)? as u8;
                let on = map.get("on").and_then(Value::as_bool).unwrap_or(velocity > 0);
                let message = match on {
                    true => Message::NoteOn { channel, note, velocity: velocity.max(1) },
                    false => Message::NoteOff { channel, note, velocity },
                };
                self.outward.event(&message, counters);
            }
            ("mode", None) => {
                let name = match value {
                    Datum::Text(name) => name.as_ref(),
                    _ => map.get("mode")?.as_str()?,
                };
                let mode = MODES.iter().position(|mode| *mode == name)? as u8;
                let value = map.get("value").map_or(Datum::Int(0), Datum::new);
                control(MODE_FIRST + mode, to_number(&value, 127)? as u8);
            }
            ("cc", Some(number)) => {
                let number = number.parse().ok().filter(|number: &u8| *number < MODE_FIRST)?;
                let step = value.number().filter(|_| parts.next() == Some("step"))?;
                control(number, step.clamp(-64.0, 63.0) as i8 as u8 & 127);
            }
            (kind @ ("nrpn" | "rpn"), Some(high)) => {
                let half = |text: Option<&str>| {
                    text.and_then(|text| text.parse().ok()).filter(|number: &u8| *number < 128)
                };
                let (high, low) = (half(Some(high))?, half(parts.next())?);
                let step = value.number().filter(|_| parts.next() == Some("step"))?;
                let [select_high, select_low] = if kind == "rpn" { [101, 100] } else { [99, 98] };
                control(select_high, high);
                control(select_low, low);
                control(if step > 0.0 { 96 } else { 97 }, 0);
            }
            _ => return None,
        }
        Some(())
    }

    /// Says to the device what it takes at present.
    pub(super) fn flush(&mut self, now: Time, counters: &mut Counters, out: &mut dyn Out) {
        if let Some(stream) = self.stream {
            self.outward.flush(now, stream, &mut self.known, counters, out);
        }
    }

    pub(super) fn elapse(&mut self, now: Time, tell: &mut Tell<'_>) {
        if self.tell_at.is_some_and(|tell_at| tell_at <= now) {
            self.tell_changed(now, tell);
        }
        if self.silent_at.is_some_and(|silent| silent <= now) {
            self.silent_at = None;
            self.set_online(false, tell);
            self.say_changed(tell);
        }
        tell.send();
        if let Some(stream) = self.stream {
            self.outward.run(now, stream, tell.counters, tell.out);
        }
    }

    pub(super) fn panic(&mut self, counters: &mut Counters) {
        self.outward.panic(counters);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let outward = self.stream.and_then(|_| self.outward.deadline());
        [outward, self.tell_at, self.silent_at].into_iter().flatten().min()
    }

    /// Whether something waits that the device could still take.
    pub(super) fn has_more(&self) -> bool {
        self.stream.is_some() && !self.outward.is_empty()
    }
}

/// A sysex from bytes, or from an array of ints, with or without its F0 and F7.
fn sysex_of(value: Value<'_>) -> Option<Vec<u8>> {
    let mut data: Vec<u8> = match (value.as_bytes(), value.array()) {
        (Some(bytes), _) => bytes.to_vec(),
        (None, Some(items)) => {
            let byte = |item: Value<'_>| item.as_i64().and_then(|byte| u8::try_from(byte).ok());
            items.map(byte).collect::<Option<_>>()?
        }
        _ => return None,
    };
    if data.first() != Some(&0xF0) {
        data.insert(0, 0xF0);
    }
    if data.last() != Some(&0xF7) {
        data.push(0xF7);
    }
    let is_clean = data.get(1..data.len() - 1)?.iter().all(|byte| *byte < 0x80);
    (is_clean && data.len() > 2 && data.len() <= super::parser::SYSEX_BYTES_MAX).then_some(data)
}

//! Time code both ways: packets become params, and a param that moves becomes steady packets.
//!
//! `timecode` is the master, `timecode/{1-255}` are the other streams of Art-Net 4: text
//! `hh:mm:ss:ff`, with `;` before the frames where frames are dropped; and `rate` below each: 24,
//! 25, 29.97 or 30 frames a second. MIDI time code has the same form, so that a route carries one
//! to the other. A map (`hours`, `minutes`, `seconds`, `frames` and `type`: `film`, `ebu`, `df` or
//! `smpte`) may be written in place of the text.
//!
//! Whatever was written last begins a run: frames leave at the instants that follow from its first,
//! counted and not added up, so that no rounding makes them drift. What is written on the way
//! steers the run by an eighth of the difference; a difference of more than [`FRAMES_OFF`] frames
//! is a jump. Nothing written for [`PATIENCE`] ends it.

use std::collections::BTreeMap;

use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{push_f64, push_str};

use super::events::{Meaningless, Voice, whole};
use super::nodes::Nodes;
use super::packet::TimeCode;
use crate::datum::Datum;
use crate::midi::timecode::{Rate, Timecode};
use crate::{Counters, Out, namespace};

/// Time codes that we send at once.
const RUNS_MAX: usize = 8;

/// A time code that nobody continues for so long stands.
const PATIENCE: Span = Span::from_millis(250);

/// A time code further than this from where ours has come to is a jump.
const FRAMES_OFF: i64 = 3;

pub(super) struct Timecodes {
    namespace: String,
    /// Rates of each stream: as the router was told, and as it told us.
    told: BTreeMap<u8, Rate>,
    meant: BTreeMap<u8, Rate>,
    /// What the router is to be told; of each stream the newest.
    news: BTreeMap<u8, Timecode>,
    runs: Vec<Run>,
    packet: Vec<u8>,
}

/// A time code of ours.
struct Run {
    stream: u8,
    rate: Rate,
    /// Frame `count` began at `start`.
    start: Time,
    count: u64,
    /// The last that was sent.
    sent: u64,
    /// Told twice in a row: so it moves.
    moves: bool,
    until: Time,
}

impl Run {
    /// The frame that is shown at `now`, if it moves.
    fn count_at(&self, now: Time) -> u64 {
        let (frames, nanoseconds) = ratio(self.rate);
        let passed = u128::from(now.since(self.start).0) * u128::from(frames);
        self.count + u64::try_from(passed / u128::from(nanoseconds)).unwrap_or(0)
    }

    /// When frame `count` begins. Rounded up, so that it is shown by then.
    fn start_of(&self, count: u64) -> Time {
        let (frames, nanoseconds) = ratio(self.rate);
        let passed = u128::from(count.saturating_sub(self.count)) * u128::from(nanoseconds);
        self.start + Span(u64::try_from(passed.div_ceil(u128::from(frames))).unwrap_or(0))
    }

    fn next(&self) -> Time {
        self.start_of(self.sent + 1)
    }
}

/// So many frames in so many nanoseconds.
fn ratio(rate: Rate) -> (u64, u64) {
    const SECOND: u64 = 1_000_000_000;
    match rate {
        Rate::Film24 => (24, SECOND),
        Rate::Pal25 => (25, SECOND),
        Rate::Drop30 => (30_000, 1_001 * SECOND),
        Rate::Full30 => (30, SECOND),
    }
}

/// As ArtTimeCode numbers them.
const RATES: [(Rate, &str); 4] =
    [(Rate::Film24, "film"), (Rate::Pal25, "ebu"), (Rate::Drop30, "df"), (Rate::Full30, "smpte")];

impl Timecodes {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            told: BTreeMap::new(),
            meant: BTreeMap::new(),
            news: BTreeMap::new(),
            runs: Vec::new(),
            packet: Vec::new(),
        }
    }

    /// Notes what the network says. `false`: no clock shows that.
    pub(super) fn received(&mut self, packet: &TimeCode) -> bool {
        let TimeCode { stream, hours, minutes, seconds, frames, rate } = *packet;
        let octets = [rate << 5 | hours, minutes, seconds, frames];
        let time = Timecode::from_bytes(octets).filter(|_| hours < 24);
        let is_time = time.is_some();
        self.news.extend(time.map(|time| (stream, time)));
        is_time
    }

    pub(super) fn any_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The router has forgotten what it was told.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
    }

    /// Tells the router the newest time of one stream.
    pub(super) fn tell(&mut self, voice: &mut Voice<'_>) {
        let Some((stream, time)) = self.news.pop_first() else { return };
        let Voice { uplink, counters, out } = voice;
        let address = match stream {
            0 => format!("{}/timecode", self.namespace),
            stream => format!("{}/timecode/{stream}", self.namespace),
        };
        uplink.set(&address, |value| push_str(value, &time.to_string()), counters, *out);
        if self.told.insert(stream, time.rate) != Some(time.rate) {
            let push = |value: &mut Vec<u8>| {
                push_f64(value, time.rate.per_second());
                Ok(())
            };
            uplink.set(&format!("{address}/rate"), push, counters, *out);
        }
        uplink.send(None, counters, *out);
    }

    /// Takes what the router says of `place`, which is an address below the namespace.
    pub(super) fn hear(
        &mut self,
        now: Time,
        place: &str,
        value: &Datum<'_>,
        nodes: &mut Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> Result<(), Meaningless> {
        let rest = place.strip_prefix("timecode").ok_or(Meaningless)?;
        let (rest, is_rate) = match rest.strip_suffix("/rate") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let stream = match rest.strip_prefix('/') {
            Some(stream) => namespace::number(stream)
                .and_then(|stream| u8::try_from(stream).ok())
                .ok_or(Meaningless)?,
            None => 0,
        };
        if is_rate {
            let rate = value.number().and_then(Rate::from_per_second).ok_or(Meaningless)?;
            self.meant.insert(stream, rate);
            return Ok(());
        }
        let rate = self.meant.get(&stream).copied().unwrap_or(Rate::Pal25);
        let time = read(value, rate).ok_or(Meaningless)?;
        match self.run(now, stream, time) {
            Some(true) => {
                let count = (time.count(), time.rate);
                self.send(now, stream, count, nodes, counters, out);
            }
            Some(false) => {}
            None => counters.overflowed += 1,
        }
        Ok(())
    }

    /// Steers the run of `stream`, or begins one: then its frame is to leave at once. `None`: that
    /// would be one time code too many.
    fn run(&mut self, now: Time, stream: u8, time: Timecode) -> Option<bool> {
        let count = time.count();
        let until = now + PATIENCE;
        self.runs.retain(|run| run.until >= now);
        let begun =
            Run { stream, rate: time.rate, start: now, count, sent: count, moves: false, until };
        let Some(run) = self.runs.iter_mut().find(|run| run.stream == stream) else {
            let has_room = self.runs.len() < RUNS_MAX;
            return has_room.then(|| {
                self.runs.push(begun);
                true
            });
        };
        let off = count as i64 - run.count_at(now) as i64;
        if run.rate != time.rate || (off.abs() > FRAMES_OFF && (run.moves || count != run.count)) {
            *run = begun;
            return Some(true);
        }
        run.until = until;
        if run.moves {
            let (frames, nanoseconds) = ratio(run.rate);
            let eighth = nanoseconds / frames / 8 * off.unsigned_abs();
            run.start = if off < 0 { run.start + Span(eighth) } else { run.start - Span(eighth) };
            return Some(false);
        }
        if count == run.count {
            // It stands, and the run begins when it moves.
            run.start = now;
            return Some(false);
        }
        *run = Run { moves: true, ..begun };
        Some(true)
    }

    /// Sends the frames that are due. What was missed is left out, not caught up with.
    pub(super) fn send_due(
        &mut self,
        now: Time,
        nodes: &mut Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.runs.retain(|run| run.until >= now);
        for index in 0..self.runs.len() {
            let Some(run) = self.runs.get_mut(index) else { return };
            if run.moves && run.next() <= now {
                run.sent = run.count_at(now).max(run.sent + 1);
                let (stream, count) = (run.stream, (run.sent, run.rate));
                self.send(now, stream, count, nodes, counters, out);
            }
        }
    }

    /// Shows frame `count` of its rate.
    fn send(
        &mut self,
        now: Time,
        stream: u8,
        (count, rate): (u64, Rate),
        nodes: &mut Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let Timecode { hours, minutes, seconds, frames, rate } = Timecode::from_count(count, rate);
        let rate = RATES.iter().position(|(one, _)| *one == rate).unwrap_or(0) as u8;
        TimeCode { stream, hours, minutes, seconds, frames, rate }.write(&mut self.packet);
        nodes.spread(now, nodes.everybody(), &self.packet, counters, out);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.runs.iter().filter(|run| run.moves).map(Run::next).min()
    }
}

fn read(value: &Datum<'_>, rate: Rate) -> Option<Timecode> {
    match value {
        Datum::Text(text) => Timecode::parse(text, rate),
        Datum::Other(map) => {
            let number = |key| u8::try_from(whole(map.get(key)?)?).ok();
            let rate = match map.get("type") {
                Some(kind) => RATES.iter().position(|(_, name)| Some(*name) == kind.as_str())?,
                None => RATES.iter().position(|(one, _)| *one == rate)?,
            };
            let hours = number("hours").filter(|hours| *hours < 24)?;
            let octets = [number("minutes")?, number("seconds")?, number("frames")?];
            let [minutes, seconds, frames] = octets;
            Timecode::from_bytes([(rate as u8) << 5 | hours, minutes, seconds, frames])
        }
        _ => None,
    }
}

//! What leaves for one device: in line, with the newest value of each param, at the pace that the
//! device takes; and the clocks and time codes that we make ourselves.

use std::collections::VecDeque;

use clasp_rt_core::time::{Span, Time};

use super::clock;
use super::known::{Known, Side};
use super::message::Message;
use super::param::Param;
use super::timecode::Timecode;
use crate::{Counters, Out, StreamId};

/// Events in line to one device, and the bytes that they may take together.
const EVENTS_MAX: usize = 1_024;
const EVENT_BYTES_MAX: usize = 128 * 1024;

/// What a line takes in memory when it is full.
pub(super) const LINE_BYTES_MAX: u64 = EVENT_BYTES_MAX as u64 + 512 * 1024;

/// A device that takes nothing at present is tried again so much later.
pub(super) const PATIENCE: Span = Span::from_millis(1);

/// A time code that nobody continues for so long stands.
const TIMECODE_PATIENCE: Span = Span::from_millis(250);

/// A time code further than this from where ours has come to is a jump.
const TIMECODE_FRAMES_OFF: u64 = 3;

pub(super) struct Outward {
    line: VecDeque<Entry>,
    events: usize,
    event_bytes: usize,
    /// Leave out a status byte that is the one before: for cables, where a byte takes 320 µs.
    running_status: bool,
    last_status: u8,
    /// Channels on which keys were pressed, a bit for each.
    used: u16,
    retry_at: Option<Time>,
    clocks: Option<Clocks>,
    timecode: Option<Runs>,
    scratch: Vec<u8>,
}

enum Entry {
    /// Its newest value, when its turn has come.
    Param(Param),
    Event(Vec<u8>),
}

struct Clocks {
    every: Span,
    next: Time,
}

/// A time code that runs on between what we are told of it.
struct Runs {
    time: Timecode,
    /// The next of the eight quarter frames.
    piece: u8,
    next: Time,
    until: Time,
    /// Told twice in a row: so it moves, and pieces leave.
    moves: bool,
}

impl Outward {
    pub(super) fn new(running_status: bool) -> Self {
        Self {
            line: VecDeque::new(),
            events: 0,
            event_bytes: 0,
            running_status,
            last_status: 0,
            used: 0,
            retry_at: None,
            clocks: None,
            timecode: None,
            scratch: Vec::new(),
        }
    }

    /// A device has come: it knows nothing yet.
    pub(super) fn begin(&mut self, known: &mut Known) {
        self.last_status = 0;
        self.line.clear();
        self.line.extend(known.again(Side::Router).map(Entry::Param));
    }

    /// A device has gone, and with it what it was to hear: params will be told when it comes back.
    pub(super) fn end(&mut self, counters: &mut Counters) {
        counters.dropped += self.events as u64;
        self.line.clear();
        (self.events, self.event_bytes, self.used) = (0, 0, 0);
        self.retry_at = None;
    }

    pub(super) fn param(&mut self, param: Param) {
        self.line.push_back(Entry::Param(param));
    }

    pub(super) fn event(&mut self, message: &Message<'_>, counters: &mut Counters) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.bytes(bytes, counters);
    }

    /// One whole message.
    pub(super) fn bytes(&mut self, bytes: Vec<u8>, counters: &mut Counters) {
        if self.events == EVENTS_MAX || self.event_bytes + bytes.len() > EVENT_BYTES_MAX {
            counters.overflowed += 1;
            return;
        }
        self.events += 1;
        self.event_bytes += bytes.len();
        self.line.push_back(Entry::Event(bytes));
    }

    /// Lets everything that sounds fall silent: "all sound off" and "all notes off" on the channels
    /// that were used.
    pub(super) fn panic(&mut self, counters: &mut Counters) {
        let used = std::mem::take(&mut self.used);
        for channel in (0..16).filter(|channel| used >> channel & 1 == 1) {
            for number in [120, 123] {
                self.event(&Message::Control { channel, number, value: 0 }, counters);
            }
        }
    }

    /// Sends what the device takes.
    pub(super) fn flush(
        &mut self,
        now: Time,
        stream: StreamId,
        known: &mut Known,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.retry_at = None;
        while let Some(entry) = self.line.front() {
            self.scratch.clear();
            let status = self.last_status;
            match entry {
                Entry::Event(bytes) => {
                    let omits = self.running_status && bytes.first() == Some(&status);
                    self.last_status = after(status, bytes);
                    self.scratch.extend(bytes.iter().skip(usize::from(omits)));
                    if bytes.first().is_some_and(|status| status & 0xF0 == 0x90) {
                        self.used |= 1 << (bytes[0] & 0x0F);
                    }
                }
                Entry::Param(param) => {
                    let Some(value) = known.value(*param) else {
                        self.line.pop_front();
                        continue;
                    };
                    param.messages(value, |message| {
                        let before = self.scratch.len();
                        message.write(&mut self.scratch);
                        let status = self.scratch[before];
                        if self.running_status && status == self.last_status {
                            self.scratch.remove(before);
                        }
                        self.last_status = after(self.last_status, &[status]);
                        if status & 0xF0 == 0x90 {
                            self.used |= 1 << (status & 0x0F);
                        }
                    });
                }
            }
            if out.stream_room(stream) < self.scratch.len() {
                self.last_status = status;
                self.retry_at = Some(now + PATIENCE);
                return;
            }
            match self.line.pop_front() {
                Some(Entry::Event(bytes)) => {
                    self.events -= 1;
                    self.event_bytes -= bytes.len();
                }
                // Nobody wrote it meanwhile, or else the device did, and knows better.
                Some(Entry::Param(param)) if known.take(param, Side::Router).is_none() => {
                    self.last_status = status;
                    continue;
                }
                _ => {}
            }
            counters.packets_out += 1;
            out.to_stream(stream, &self.scratch);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Begins to make clocks, 24 a quarter note; a tempo of 0 ends them.
    pub(super) fn run_clocks(&mut self, now: Time, tempo_bpm: f64) {
        let every = (tempo_bpm > 0.0).then(|| clock::interval(tempo_bpm));
        let next = self.clocks.as_ref().map_or(now, |clocks| clocks.next);
        self.clocks = every.map(|every| Clocks { every, next: next.min(now + every) });
    }

    /// A time code was told: the first says where to go, the second that it moves.
    pub(super) fn tell_timecode(&mut self, now: Time, time: Timecode, counters: &mut Counters) {
        let until = now + TIMECODE_PATIENCE;
        if let Some(runs) = &mut self.timecode
            && runs.time.rate == time.rate
            && runs.until >= now
        {
            let (ours, theirs) = (runs.time.count(), time.count());
            if ours.abs_diff(theirs) <= TIMECODE_FRAMES_OFF {
                runs.until = until;
                if !runs.moves {
                    (runs.moves, runs.time, runs.piece, runs.next) = (true, time, 0, now);
                }
                return;
            }
        }
        self.bytes(time.full_frame(), counters);
        self.timecode = Some(Runs { time, piece: 0, next: now, until, moves: false });
    }

    /// Sends the clocks and quarter frames that are due, past everything in line: they are late
    /// or of no use.
    pub(super) fn run(
        &mut self,
        now: Time,
        stream: StreamId,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if let Some(clocks) = &mut self.clocks
            && clocks.next <= now
        {
            // A thread that was held up does not catch up with a burst.
            clocks.next = (clocks.next + clocks.every).max(now);
            self.send(&Message::Clock, stream, counters, out);
        }
        if let Some(runs) = &mut self.timecode {
            if runs.until < now {
                self.timecode = None;
            } else if runs.moves && runs.next <= now {
                let quarter = runs.time.quarter(runs.piece);
                let a_quarter = Span((1e9 / runs.time.rate.per_second() / 4.0) as u64);
                runs.next = (runs.next + a_quarter).max(now);
                runs.piece = (runs.piece + 1) % 8;
                if runs.piece == 0 {
                    runs.time = runs.time.later(2);
                }
                self.send(&quarter, stream, counters, out);
            }
        }
    }

    fn send(
        &mut self,
        message: &Message<'_>,
        stream: StreamId,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.scratch.clear();
        message.write(&mut self.scratch);
        if out.stream_room(stream) < self.scratch.len() {
            counters.dropped += 1;
            return;
        }
        self.last_status = after(self.last_status, &self.scratch);
        counters.packets_out += 1;
        out.to_stream(stream, &self.scratch);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let clocks = self.clocks.as_ref().map(|clocks| clocks.next);
        let runs = self.timecode.as_ref().filter(|runs| runs.moves).map(|runs| runs.next);
        [self.retry_at, clocks, runs].into_iter().flatten().min()
    }
}

/// The status byte that running status repeats after `message` was said.
fn after(last: u8, message: &[u8]) -> u8 {
    match message.first() {
        Some(status @ 0x80..=0xEF) => *status,
        Some(0xF0..=0xF7) => 0,
        _ => last,
    }
}

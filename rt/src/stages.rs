//! How long messages take through this router: counted on the shards' threads, by class, path and
//! stage.
//!
//! A message arrives with the turn that finds it, and is handed over when the system call that
//! sends what it caused has returned, which is where the next turn begins. So all messages of a
//! turn share both instants, which the turn reads anyway: counting [`Stage::Total`] takes no clock,
//! and misses none. Where the time goes in between is measured on some messages only, one in a turn
//! or one in [`GROUP_MAX`]: each stands for its group, so that the counts of stages come out about
//! right. A message that crosses to another shard takes its arrival along.
//!
//! A frame that had to wait for its link counts by itself, for that link, since it began to wait.
//! What leaves later because its subscription is paced or its time has not come is no part of this.

use clasp_rt_core::shard::{Lane, Outcome};
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::wire::binary::code;
use clasp_rt_core::wire::header::FRAME_HEADER_LEN;
use clasp_rt_perf::buckets::{self, Reader, Scale, Writer};
use clasp_rt_ring::exchange::{NO_NOTE, Note};

use crate::clock::Clock;

/// What a log of these histograms says about itself.
pub const LOG_COMMENT: &str =
    "clasp-rt: nanoseconds; tags are shard, class, path and stage, or a DMX line";

/// Messages that one sampled message stands for, at most.
const GROUP_MAX: u32 = 256;

/// Different arrivals that a turn tells apart: its own, those of held frames, and those of records
/// from peers. Beyond it, a message counts as if it had come with the one before.
const RUNS_MAX: usize = 1_024;

/// Sampled messages of one turn whose hand-over is awaited; of more, that stage is not counted.
const SAMPLES_MAX: usize = 256;

/// Where a PUBLISH says which signal it is: `wire.md`, PUBLISH.
const SIGNAL_SHIFT: u32 = 5;

/// What a message is for, as far as its route differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// SET, and PUBLISH of a param.
    Param,
    Event,
    Stream,
    Gesture,
    Bundle,
    /// Timelines, everything that is answered rather than routed, and the legacy encoding.
    Other,
}

/// Whether a message was handed over by the shard that it arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Same,
    Across,
}

/// A part of a message's way; the later four follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Arrival to hand-over. Every message, once on each shard that hands something of it over at
    /// once, and once for each link that it had to wait for.
    Total,
    /// Arrival until it is whole, unmasked and its turn.
    Decode,
    /// Until its home has decoded it and decided; the crossing to the home, if any, included.
    Home,
    /// Until it is queued for every link of the shard; the crossing from the home included.
    Egress,
    /// Until the system call that sends it has returned, or a bridge of our own has it.
    Kernel,
}

impl Class {
    pub const ALL: [Self; 6] =
        [Self::Param, Self::Event, Self::Stream, Self::Gesture, Self::Bundle, Self::Other];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Event => "event",
            Self::Stream => "stream",
            Self::Gesture => "gesture",
            Self::Bundle => "bundle",
            Self::Other => "other",
        }
    }

    /// The class of a frame, by its first bytes; whether it is well-formed is not its question.
    fn of(frame: &[u8]) -> Self {
        let timestamp = frame.get(1).is_some_and(|flags| flags & 0x20 != 0);
        let payload = if timestamp { FRAME_HEADER_LEN + 8 } else { FRAME_HEADER_LEN };
        match frame.get(payload).copied() {
            Some(code::SET) => Self::Param,
            Some(code::BUNDLE) => Self::Bundle,
            Some(code::PUBLISH) => {
                let flags = frame.get(payload + 1).copied().unwrap_or(0);
                match Signal::from_code(flags >> SIGNAL_SHIFT) {
                    Signal::Param => Self::Param,
                    Signal::Event => Self::Event,
                    Signal::Stream => Self::Stream,
                    Signal::Gesture => Self::Gesture,
                    Signal::Timeline => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

impl Path {
    pub const ALL: [Self; 2] = [Self::Same, Self::Across];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Across => "across",
        }
    }
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Total, Self::Decode, Self::Home, Self::Egress, Self::Kernel];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Decode => "decode",
            Self::Home => "home",
            Self::Egress => "egress",
            Self::Kernel => "kernel",
        }
    }

    /// Three digits for the whole, two for its parts.
    const fn scale(self) -> Scale {
        match self {
            Self::Total => Scale::new(3),
            Self::Decode | Self::Home | Self::Egress | Self::Kernel => Scale::new(2),
        }
    }
}

/// What one histogram of a page counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub path: Path,
    pub class: Class,
    pub stage: Stage,
}

impl Kind {
    /// One word for the histogram of `shard`, such as `shard0-param-same-total`.
    pub fn tag(self, shard: usize) -> String {
        let Self { path, class, stage } = self;
        format!("shard{shard}-{}-{}-{}", class.name(), path.name(), stage.name())
    }

    /// The shard and kind that a tag names.
    pub fn of_tag(tag: &str) -> Option<(usize, Self)> {
        let mut words = tag.strip_prefix("shard")?.split('-');
        let shard = words.next()?.parse().ok()?;
        let (class, path, stage) = (words.next()?, words.next()?, words.next()?);
        let kind = Self {
            path: Path::ALL.into_iter().find(|known| known.name() == path)?,
            class: Class::ALL.into_iter().find(|known| known.name() == class)?,
            stage: Stage::ALL.into_iter().find(|known| known.name() == stage)?,
        };
        words.next().is_none().then_some((shard, kind))
    }

    const fn index(self) -> usize {
        (self.path as usize * Class::ALL.len() + self.class as usize) * Stage::ALL.len()
            + self.stage as usize
    }
}

/// The histograms of one shard of `shards`, in the order of its page. With one shard nothing
/// crosses.
pub fn kinds(shards: usize) -> impl Iterator<Item = Kind> {
    let paths = Path::ALL.into_iter().take(if shards > 1 { 2 } else { 1 });
    paths.flat_map(|path| {
        let classes = Class::ALL.into_iter();
        classes.flat_map(move |class| {
            Stage::ALL.into_iter().map(move |stage| Kind { path, class, stage })
        })
    })
}

/// The histograms of one shard of `shards`.
pub fn page(shards: usize) -> (Writer, Reader) {
    buckets::page(kinds(shards).map(|kind| kind.stage.scale()))
}

/// Bytes that counting takes on one shard of `shards`, all from the start.
pub fn bytes(shards: usize) -> u64 {
    let page: u64 = kinds(shards).map(|kind| kind.stage.scale().bytes()).sum();
    page + (RUNS_MAX * size_of::<Run>() + SAMPLES_MAX * size_of::<Sample>()) as u64
}

/// Counts the ways of messages; off, it does nothing and reads no clock.
#[derive(Debug)]
pub struct Stages(Option<Box<Meter>>);

impl Stages {
    /// `page` is the [`page`] of the shard.
    pub fn new(page: Option<Writer>, clock: Clock) -> Self {
        Self(page.map(|page| Box::new(Meter::new(page, clock))))
    }

    /// A turn begins at `now`: what the last one queued has been handed over.
    pub fn turn(&mut self, now: Time) {
        if let Some(meter) = &mut self.0 {
            meter.settle(now);
            meter.begin();
        }
    }

    /// A frame that has been there since `arrival` is about to be stepped.
    pub fn frame(&mut self, arrival: Time, frame: &[u8]) {
        if let Some(meter) = &mut self.0 {
            meter.frame(arrival, frame);
        }
    }

    /// A record of another shard is about to be stepped.
    pub fn record(&mut self, lane: Lane, note: Note) {
        if let Some(meter) = &mut self.0 {
            meter.record(lane, note);
        }
    }

    /// Something was queued for a link.
    pub fn queued(&mut self) {
        if let Some(meter) = &mut self.0 {
            meter.queued();
        }
    }

    /// A frame that waited for its link since `since` was queued for it.
    pub fn late(&mut self, since: Time, frame: &[u8]) {
        if let Some(meter) = &mut self.0 {
            meter.count(since, Path::Same, Class::of(frame));
        }
    }

    /// What goes along with a record that is handed to another shard now.
    pub fn note(&mut self, lane: Lane) -> Note {
        self.0.as_mut().map_or(NO_NOTE, |meter| meter.note(lane))
    }

    /// The step of a frame or record is over.
    pub fn stepped(&mut self, outcome: Outcome) {
        if let Some(meter) = &mut self.0 {
            meter.stepped(outcome);
        }
    }
}

#[derive(Debug)]
struct Meter {
    page: Writer,
    clock: Clock,
    /// Whose step it is; `None`: nobody's, such as a timer's.
    cause: Option<Cause>,
    /// Whether this step queued anything for a link.
    queued: bool,
    runs: Vec<Run>,
    samples: Vec<Sample>,
    draw: Draw,
}

/// The message whose step it is.
#[derive(Clone, Copy, Debug)]
struct Cause {
    arrival: Time,
    class: Class,
    path: Path,
    /// How many messages its stages stand for; 0: it is not sampled, and the instants are not read.
    weight: u32,
    from: From,
    /// When it was whole and offered; not known behind its home.
    decoded: Time,
    /// When its home had decided.
    decided: Option<Time>,
    /// It goes on to its home.
    forwarded: bool,
}

/// Where a step finds its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Link,
    /// The shard that it arrived at; this one is its home.
    Ingress,
    Home,
}

/// A unit of what [`Cause::note`] says about a sampled message: up to half a second.
const NOTE_STEP_NS: u64 = 16;
const NOTE_STEPS_MAX: u64 = (1 << 25) - 1;

impl Cause {
    fn decide(&mut self, clock: &Clock) {
        if self.weight > 0 && self.decided.is_none() {
            self.decided = Some(clock.now());
        }
    }

    /// Arrival in nanoseconds; then, from the lowest bit, the class from 1 on in 3 bits, the power
    /// of two that the weight is, from 1 on, in 4, and how long after its arrival the message had
    /// come as far as it has. All zero is no message.
    fn note(&self) -> Note {
        let reached = self.decided.unwrap_or(self.decoded);
        let steps = (reached.since(self.arrival).0 / NOTE_STEP_NS).min(NOTE_STEPS_MAX) as u32;
        let sampled = self.weight.checked_ilog2().map_or(0, |power| steps << 4 | (power + 1));
        let rest = sampled << 3 | (self.class as u32 + 1);
        let mut note = NO_NOTE;
        note[..8].copy_from_slice(&self.arrival.0.to_le_bytes());
        note[8..].copy_from_slice(&rest.to_le_bytes());
        note
    }

    /// The message that a note tells of, if it does.
    fn noted(lane: Lane, note: Note) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = note;
        let rest = u32::from_le_bytes(rest);
        let arrival = Time(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        let class = Class::from_number((rest & 7).checked_sub(1)?)?;
        let weight = (rest >> 3 & 15).checked_sub(1).map_or(0, |power| 1 << power);
        let reached = arrival + Span(u64::from(rest >> 7) * NOTE_STEP_NS);
        let (from, decided) = match lane {
            Lane::Forward => (From::Ingress, None),
            Lane::Publish => (From::Home, Some(reached)),
        };
        Some(Self {
            arrival,
            class,
            path: Path::Across,
            weight,
            from,
            decoded: reached,
            decided,
            forwarded: false,
        })
    }
}

/// Messages with something to hand over, of one arrival.
#[derive(Clone, Copy, Debug)]
struct Run {
    arrival: Time,
    path: Path,
    counts: [u32; Class::ALL.len()],
}

/// A sampled message that waits to be handed over since `queued`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    class: Class,
    path: Path,
    weight: u32,
    queued: Time,
}

/// Which messages of a turn are sampled: one of each group, at a place that is drawn. A group is
/// about as long as the last turn, so that a quiet shard looks at every message and a busy one at
/// few.
#[derive(Debug)]
struct Draw {
    /// Messages of this turn so far.
    at: u32,
    next: u32,
    group: u32,
    group_end: u32,
    /// Messages of the last turn that had any.
    usual: u32,
    seed: u32,
}

impl Draw {
    fn begin(&mut self) {
        if self.at > 0 {
            self.usual = self.at;
        }
        (self.at, self.group_end) = (0, 0);
    }

    /// How many messages the next one stands for, if it is sampled.
    fn take(&mut self) -> Option<u32> {
        if self.at == self.group_end {
            // A power of two, so that a note has room for it and the draw needs no division.
            let wanted = self.usual.max(self.at).clamp(1, GROUP_MAX);
            self.group = 1 << wanted.ilog2();
            self.next = self.at + (self.draw() & (self.group - 1));
            self.group_end = self.at.saturating_add(self.group);
        }
        let sampled = self.at == self.next;
        self.at += 1;
        sampled.then_some(self.group)
    }

    /// Marsaglia's xorshift of 32 bits.
    fn draw(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed
    }
}

impl Meter {
    fn new(page: Writer, clock: Clock) -> Self {
        Self {
            page,
            clock,
            cause: None,
            queued: false,
            runs: Vec::with_capacity(RUNS_MAX),
            samples: Vec::with_capacity(SAMPLES_MAX),
            draw: Draw { at: 0, next: 0, group: 1, group_end: 0, usual: 0, seed: 1 },
        }
    }

    fn begin(&mut self) {
        self.draw.begin();
    }

    fn settle(&mut self, now: Time) {
        for Run { arrival, path, counts } in self.runs.drain(..) {
            let total_ns = now.since(arrival).0;
            for (class, count) in Class::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
            {
                let kind = Kind { path, class, stage: Stage::Total };
                self.page.record(kind.index(), total_ns, count.into());
            }
        }
        for Sample { class, path, weight, queued } in self.samples.drain(..) {
            let kind = Kind { path, class, stage: Stage::Kernel };
            self.page.record(kind.index(), now.since(queued).0, weight.into());
        }
    }

    fn frame(&mut self, arrival: Time, frame: &[u8]) {
        let weight = self.draw.take().unwrap_or(0);
        let decoded = if weight > 0 { self.clock.now() } else { arrival };
        self.queued = false;
        self.cause = Some(Cause {
            arrival,
            class: Class::of(frame),
            path: Path::Same,
            weight,
            from: From::Link,
            decoded,
            decided: None,
            forwarded: false,
        });
    }

    fn record(&mut self, lane: Lane, note: Note) {
        self.queued = false;
        self.cause = Cause::noted(lane, note);
    }

    fn queued(&mut self) {
        self.queued = true;
        if let Some(cause) = &mut self.cause {
            cause.decide(&self.clock);
        }
    }

    fn note(&mut self, lane: Lane) -> Note {
        let Some(cause) = &mut self.cause else { return NO_NOTE };
        match lane {
            Lane::Forward => cause.forwarded = true,
            Lane::Publish => cause.decide(&self.clock),
        }
        cause.note()
    }

    fn stepped(&mut self, outcome: Outcome) {
        let Some(cause) = self.cause.take() else { return };
        if outcome == Outcome::Held {
            // It will be offered again, and counts then.
            return;
        }
        if self.queued {
            self.count(cause.arrival, cause.path, cause.class);
        }
        if cause.weight > 0 {
            self.sample(cause);
        }
    }

    fn count(&mut self, arrival: Time, path: Path, class: Class) {
        let full = self.runs.len() == RUNS_MAX;
        match self.runs.last_mut() {
            Some(run) if full || (run.arrival == arrival && run.path == path) => {
                // Where runs are merged, nothing is told as quicker than it was.
                run.arrival = run.arrival.min(arrival);
                run.counts[class as usize] += 1;
            }
            _ => {
                let mut counts = [0; Class::ALL.len()];
                counts[class as usize] = 1;
                self.runs.push(Run { arrival, path, counts });
            }
        }
    }

    /// Counts the stages of a sampled message that fall into the step that ends now.
    fn sample(&mut self, cause: Cause) {
        let Cause { arrival, class, path, weight, from, decoded, decided, forwarded } = cause;
        let now = self.clock.now();
        let leaves = forwarded && !self.queued;
        let path = if leaves { Path::Across } else { path };
        let mut count = |stage, ns| {
            self.page.record(Kind { path, class, stage }.index(), ns, weight.into());
        };
        let decided = decided.unwrap_or(now);
        if from == From::Link {
            count(Stage::Decode, decoded.since(arrival).0);
        }
        if from != From::Home && !leaves {
            count(Stage::Home, decided.since(decoded).0);
        }
        if self.queued {
            count(Stage::Egress, now.since(decided).0);
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push(Sample { class, path, weight, queued: now });
            }
        }
    }
}

#[cfg(test)]
mod tests;

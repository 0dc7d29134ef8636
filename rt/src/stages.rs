//! How long messages take through this router: counted on the shards' threads, by class, path and
//! stage.
//!
//! A message arrives with the turn that finds it, and is handed over when the system call that
//! sends what it caused has returned, which is where the next turn begins. So all messages of a
//! turn share both instants, which the turn reads anyway: counting [`Stage::Total`] takes no clock,
//! and misses none; equal spans of a turn are added up and recorded once. Where the time goes in
//! between takes three readings of the clock, so it is measured on one message in about
//! [`GROUP_TIME`]: on every message of a quiet shard, on one in [`GROUP_MAX`] of a busy one. Each
//! stands for its group, so that the counts of stages come out about right. A message that crosses
//! to another shard takes its arrival along.
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
const GROUP_MAX: u32 = 2_048;

/// About how long a group lasts, if it is more than one message: to look at one takes some 200 ns.
const GROUP_TIME: Span = Span::from_micros(256);

/// Different arrivals that a turn tells apart: its own, those of held frames, and those of records
/// from peers. Beyond it, a message counts as if it had come with the one before.
const RUNS_MAX: usize = 1_024;

/// Sampled messages of one turn whose hand-over is awaited; of more, that stage is not counted.
const SAMPLES_MAX: usize = 256;

/// Where the second byte of a PUBLISH says which signal it is.
const SIGNAL_SHIFT: u32 = 5;

/// The flag of a header with a timestamp behind it: `core/src/wire/header.rs`.
const TIMESTAMP: u8 = 0x20;

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

    /// The class of a frame with a timestamp between header and payload, or of hardly any length.
    #[cold]
    fn of_rare(frame: &[u8]) -> Self {
        let timestamp = frame.get(1).is_some_and(|flags| flags & TIMESTAMP != 0);
        let payload = if timestamp { FRAME_HEADER_LEN + 8 } else { FRAME_HEADER_LEN };
        match frame.get(payload..).unwrap_or_default() {
            [] => Self::Other,
            [code] => Self::by(*code, 0),
            [code, more, ..] => Self::by(*code, *more),
        }
    }

    /// The class of a message of `code`, whose next byte is `more`.
    #[inline]
    fn by(code: u8, more: u8) -> Self {
        match code {
            code::PUBLISH => Self::OF_SIGNAL[usize::from(more >> SIGNAL_SHIFT)],
            code::SET => Self::Param,
            code::BUNDLE => Self::Bundle,
            _ => Self::Other,
        }
    }

    /// By the code of the signal.
    const OF_SIGNAL: [Self; 8] = {
        let mut classes = [Self::Other; 8];
        let mut code = 0;
        while code < classes.len() {
            classes[code] = match Signal::from_code(code as u8) {
                Signal::Param => Self::Param,
                Signal::Event => Self::Event,
                Signal::Stream => Self::Stream,
                Signal::Gesture => Self::Gesture,
                Signal::Timeline => Self::Other,
            };
            code += 1;
        }
        classes
    };

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
///
/// What every message passes is kept short: `rt/examples/counting.rs` counts its instructions.
#[derive(Debug)]
pub struct Stages {
    /// `None`: off.
    page: Option<Writer>,
    clock: Clock,
    step: Step,
    cause: Cause,
    /// The first bytes of the last payload, and the class that they show.
    last: ([u8; 2], Class),
    look: Look,
    /// Where the message of a link counts whose step it is.
    run: Run,
    /// The others of this turn: of links before `run`, of shards, of frames that waited.
    runs: Vec<Run>,
    samples: Vec<Sample>,
    draw: Draw,
}

/// What is true of the step in hand, a bit each: what most messages pass asks for several at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step(u8);

impl Step {
    /// There is none, or it is nobody's, such as a timer's.
    const NOBODYS: Self = Self(0);
    /// Of a message that a link of this shard brought.
    const OF_LINK: Self = Self(Self::MESSAGE | Self::SILENT | Self::ARRIVED);
    /// Of one that came from the shard that it arrived at; this one is its home.
    const AT_HOME: Self = Self(Self::MESSAGE | Self::SILENT | Self::CROSSED);
    /// Of one that its home decided.
    const BEHIND_HOME: Self = Self(Self::AT_HOME.0 | Self::JUDGED);

    const MESSAGE: u8 = 1;
    /// It queued nothing for a link so far.
    const SILENT: u8 = 1 << 1;
    /// The message is looked at.
    const SAMPLED: u8 = 1 << 2;
    const ARRIVED: u8 = 1 << 3;
    const CROSSED: u8 = 1 << 4;
    const JUDGED: u8 = 1 << 5;
    /// Its message goes on to its home.
    const FORWARDED: u8 = 1 << 6;

    /// Of these, the end of nearly every step finds a message alone.
    const ASKED: u8 = Self::MESSAGE | Self::SILENT | Self::SAMPLED | Self::CROSSED;

    #[inline]
    fn is(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn path(self) -> Path {
        if self.is(Self::CROSSED) { Path::Across } else { Path::Same }
    }
}

/// The message whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cause {
    arrival: Time,
    class: Class,
}

/// What is looked at of the message whose step it is, if it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// How many messages its stages stand for; 0: it is not sampled, and no instant is read.
    weight: u32,
    /// When it was whole and offered; not known behind its home.
    decoded: Time,
    /// When its home had decided.
    decided: Option<Time>,
}

/// A unit of what [`Cause::note`] says about a sampled message: up to half a second.
const NOTE_STEP_NS: u64 = 16;
const NOTE_STEPS_MAX: u64 = (1 << 25) - 1;

impl Look {
    /// At nothing: the message is not sampled.
    const AWAY: Self = Self { weight: 0, decoded: Time(0), decided: None };

    fn decide(&mut self, clock: &Clock) {
        if self.weight > 0 && self.decided.is_none() {
            self.decided = Some(clock.now());
        }
    }
}

impl Cause {
    const NOBODY: Self = Self { arrival: Time(0), class: Class::Other };

    /// Arrival in nanoseconds; then, from the lowest bit, the class from 1 on in 3 bits, the power
    /// of two that the weight is, from 1 on, in 4, and how long after its arrival the message had
    /// come as far as it has. All zero is no message.
    fn note(&self, look: &Look) -> Note {
        let reached = look.decided.unwrap_or(look.decoded);
        let steps = (reached.since(self.arrival).0 / NOTE_STEP_NS).min(NOTE_STEPS_MAX) as u32;
        let sampled = look.weight.checked_ilog2().map_or(0, |power| steps << 4 | (power + 1));
        let rest = sampled << 3 | (self.class as u32 + 1);
        let mut note = NO_NOTE;
        note[..8].copy_from_slice(&self.arrival.0.to_le_bytes());
        note[8..].copy_from_slice(&rest.to_le_bytes());
        note
    }

    /// The message that a note tells of, if it does.
    fn noted(lane: Lane, note: Note) -> Option<(Self, Look)> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = note;
        let rest = u32::from_le_bytes(rest);
        let arrival = Time(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        let class = Class::from_number((rest & 7).checked_sub(1)?)?;
        let weight = (rest >> 3 & 15).checked_sub(1).map_or(0, |power| 1 << power);
        let reached = arrival + Span(u64::from(rest >> 7) * NOTE_STEP_NS);
        let decided = (lane == Lane::Publish).then_some(reached);
        Some((Self { arrival, class }, Look { weight, decoded: reached, decided }))
    }
}

/// Messages with something to hand over, of one arrival.
#[derive(Clone, Copy, Debug)]
struct Run {
    arrival: Time,
    path: Path,
    counts: [u32; Class::ALL.len()],
}

impl Run {
    const EMPTY: Self = Self { arrival: Time(0), path: Path::Same, counts: [0; Class::ALL.len()] };

    fn is_empty(&self) -> bool {
        self.counts == Self::EMPTY.counts
    }
}

/// A sampled message that waits to be handed over since `queued`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    class: Class,
    path: Path,
    weight: u32,
    queued: Time,
}

/// Which messages are sampled: one of each group, at a place that is drawn.
///
/// A group is about as many messages as came in the last [`GROUP_TIME`], so that a quiet shard
/// looks at every message and a busy one at few. A group may be left before its end: whether a
/// message is sampled, and for how many it stands, depends on its own place alone.
#[derive(Debug)]
struct Draw {
    /// Messages until the next sampled one.
    left: u32,
    /// Its group, and what of it lies behind the sampled one.
    group: u32,
    behind: u32,
    /// What `left` was when `taken` was true.
    left_before: u32,
    /// Messages since `began`.
    taken: u32,
    began: Time,
    /// Messages in a [`GROUP_TIME`], lately.
    usual: u32,
    seed: u32,
}

impl Draw {
    const NEW: Self = Self {
        left: 0,
        group: 1,
        behind: 0,
        left_before: 0,
        taken: 0,
        began: Time(0),
        usual: 0,
        seed: 1,
    };

    /// A turn begins.
    fn turn(&mut self, now: Time) {
        let lasted = now.since(self.began);
        if lasted < GROUP_TIME {
            return;
        }
        self.catch_up();
        let usual = u64::from(self.taken) * GROUP_TIME.0 / lasted.0;
        self.usual = u32::try_from(usual).unwrap_or(u32::MAX);
        (self.taken, self.began) = (0, now);
        if self.wanted() < self.group {
            // It grew quiet: the rest of the group would take long.
            self.next_group(0);
        }
    }

    /// Whether the message that comes now is sampled; it is [taken](Self::take) then.
    #[inline]
    fn is_next(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_none()
    }

    /// How many messages the sampled one stands for.
    fn take(&mut self) -> u32 {
        self.catch_up();
        self.taken = self.taken.saturating_add(1);
        let stands_for = self.group;
        self.next_group(self.behind);
        stands_for
    }

    fn catch_up(&mut self) {
        self.taken = self.taken.saturating_add(self.left_before - self.left);
        self.left_before = self.left;
    }

    /// Begins a group after `rest` messages.
    fn next_group(&mut self, rest: u32) {
        self.group = self.wanted();
        let place = self.draw() & (self.group - 1);
        self.behind = self.group - 1 - place;
        self.left = rest + place;
        self.left_before = self.left;
    }

    /// A power of two, so that a note has room for it and the draw needs no division.
    fn wanted(&self) -> u32 {
        1 << self.usual.max(self.taken).clamp(1, GROUP_MAX).ilog2()
    }

    /// Marsaglia's xorshift of 32 bits.
    fn draw(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed
    }
}

impl Stages {
    /// `page` is the [`page`] of the shard.
    pub fn new(page: Option<Writer>, clock: Clock) -> Self {
        let room = |max| if page.is_some() { max } else { 0 };
        let (runs, samples) = (room(RUNS_MAX - 1), room(SAMPLES_MAX));
        Self {
            page,
            clock,
            step: Step::NOBODYS,
            cause: Cause::NOBODY,
            last: ([0; 2], Class::by(0, 0)),
            look: Look::AWAY,
            run: Run::EMPTY,
            runs: Vec::with_capacity(runs),
            samples: Vec::with_capacity(samples),
            draw: Draw::NEW,
        }
    }

    /// A turn begins at `now`: what the last one queued has been handed over.
    pub fn turn(&mut self, now: Time) {
        let Some(page) = &mut self.page else { return };
        self.draw.turn(now);
        if self.run.is_empty() && self.runs.is_empty() && self.samples.is_empty() {
            return;
        }
        let last = std::mem::replace(&mut self.run, Run::EMPTY);
        for Run { arrival, path, counts } in self.runs.drain(..).chain([last]) {
            let total_ns = now.since(arrival).0;
            for (class, count) in Class::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
            {
                let kind = Kind { path, class, stage: Stage::Total };
                page.record(kind.index(), total_ns, count.into());
            }
        }
        for Sample { class, path, weight, queued } in self.samples.drain(..) {
            let kind = Kind { path, class, stage: Stage::Kernel };
            page.record(kind.index(), now.since(queued).0, weight.into());
        }
    }

    /// A frame that has been there since `arrival` is about to be stepped.
    #[inline]
    pub fn frame(&mut self, arrival: Time, frame: &[u8]) {
        if self.page.is_none() {
            return;
        }
        self.cause = Cause { arrival, class: self.class(frame) };
        self.step = Step::OF_LINK;
        if self.run.arrival != arrival {
            self.next_run(arrival);
        }
        if self.draw.is_next() {
            self.look_at_next();
        }
    }

    #[cold]
    fn look_at_next(&mut self) {
        let weight = self.draw.take();
        self.look = Look { weight, decoded: self.clock.now(), decided: None };
        self.step.0 |= Step::SAMPLED;
    }

    /// A record of another shard is about to be stepped.
    pub fn record(&mut self, lane: Lane, note: Note) {
        if self.page.is_none() {
            return;
        }
        let Some((cause, look)) = Cause::noted(lane, note) else { return };
        self.cause = cause;
        self.step = match lane {
            Lane::Forward => Step::AT_HOME,
            Lane::Publish => Step::BEHIND_HOME,
        };
        self.look = look;
        if look.weight > 0 {
            self.step.0 |= Step::SAMPLED;
        }
    }

    /// Something was queued for a link: often enough to take as little as can be.
    #[inline]
    pub fn queued(&mut self) {
        if self.step.is(Step::SILENT) {
            self.first_queued();
        }
    }

    #[inline]
    fn first_queued(&mut self) {
        self.step.0 ^= Step::SILENT;
        if self.step.is(Step::SAMPLED) {
            self.look.decide(&self.clock);
        }
    }

    /// A frame that waited for its link since `since` was queued for it.
    pub fn late(&mut self, since: Time, frame: &[u8]) {
        if self.page.is_some() {
            let class = self.class(frame);
            self.count_apart(since, Path::Same, class);
        }
    }

    /// The class of a frame, by its first bytes: most likely that of the last one. Whether it is
    /// well-formed is not its question.
    #[inline]
    fn class(&mut self, frame: &[u8]) -> Class {
        match frame {
            [_, flags, _, _, code, more, ..] if flags & TIMESTAMP == 0 => {
                let shown = [*code, *more];
                if self.last.0 != shown {
                    self.last = (shown, Class::by(*code, *more));
                }
                self.last.1
            }
            _ => Class::of_rare(frame),
        }
    }

    /// Counts a message that is not of a link's step, or not of this turn.
    fn count_apart(&mut self, arrival: Time, path: Path, class: Class) {
        let is_full = self.runs.len() >= RUNS_MAX - 1;
        let is_its_own = |run: &Run| run.arrival == arrival && run.path == path;
        if !self.runs.last().is_some_and(|run| is_full || is_its_own(run)) {
            self.runs.push(Run { arrival, path, ..Run::EMPTY });
        }
        if let Some(run) = self.runs.last_mut() {
            // Where runs are merged, nothing is told as quicker than it was.
            run.arrival = run.arrival.min(arrival);
            run.counts[class as usize] += 1;
        }
    }

    /// What goes along with a record that is handed to another shard now.
    pub fn note(&mut self, lane: Lane) -> Note {
        if !self.step.is(Step::MESSAGE) {
            return NO_NOTE;
        }
        match lane {
            Lane::Forward => self.step.0 |= Step::FORWARDED,
            Lane::Publish => self.look.decide(&self.clock),
        }
        self.cause.note(&self.look)
    }

    /// The step of a frame or record is over.
    #[inline]
    pub fn stepped(&mut self, outcome: Outcome) {
        let step = std::mem::replace(&mut self.step, Step::NOBODYS);
        // Held, it will be offered again, and counts then.
        let taken = outcome == Outcome::Taken;
        if taken && step.0 & Step::ASKED == Step::MESSAGE {
            self.run.counts[self.cause.class as usize] += 1;
        } else if step.0 & (Step::SAMPLED | Step::CROSSED) != 0 {
            self.stepped_rarely(step, taken);
        }
    }

    /// The step of a message is over that is sampled, or came from another shard.
    fn stepped_rarely(&mut self, step: Step, taken: bool) {
        let look = std::mem::replace(&mut self.look, Look::AWAY);
        if !taken {
            return;
        }
        let Cause { arrival, class } = self.cause;
        match step.path() {
            _ if step.is(Step::SILENT) => {}
            Path::Same => self.run.counts[class as usize] += 1,
            Path::Across => self.count_apart(arrival, Path::Across, class),
        }
        if step.is(Step::SAMPLED) {
            self.sample(step, look);
        }
    }

    #[cold]
    fn next_run(&mut self, arrival: Time) {
        if self.run.is_empty() {
            self.run.arrival = arrival;
        } else if self.runs.len() < RUNS_MAX - 1 {
            self.runs.push(self.run);
            self.run = Run { arrival, ..Run::EMPTY };
        } else {
            self.run.arrival = self.run.arrival.min(arrival);
        }
    }

    /// Counts the stages of a sampled message that fall into the step that ends now.
    fn sample(&mut self, step: Step, look: Look) {
        let Some(page) = &mut self.page else { return };
        let Cause { arrival, class } = self.cause;
        let Look { weight, decoded, decided } = look;
        let now = self.clock.now();
        let queued = !step.is(Step::SILENT);
        let leaves = step.is(Step::FORWARDED) && !queued;
        let path = if leaves { Path::Across } else { step.path() };
        let mut count = |stage, ns| {
            page.record(Kind { path, class, stage }.index(), ns, weight.into());
        };
        let decided = decided.unwrap_or(now);
        if step.is(Step::ARRIVED) {
            count(Stage::Decode, decoded.since(arrival).0);
        }
        if !step.is(Step::JUDGED) && !leaves {
            count(Stage::Home, decided.since(decoded).0);
        }
        if queued {
            count(Stage::Egress, now.since(decided).0);
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push(Sample { class, path, weight, queued: now });
            }
        }
    }
}

#[cfg(test)]
#[path = "stages/tests.rs"]
mod tests;

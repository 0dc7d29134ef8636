//! Rings through devices: what a route wrote comes back, and would be written again for ever.
//!
//! How devices are joined outside cannot be seen from here, and a value that runs in a ring looks
//! like a fader that is moved. But it can be asked, by waiting before the next value is written: a
//! ring waits, too, and whoever moves a fader does not. So every target of a route is watched.
//!
//! - A target *runs* from the beginning: every value is written at once.
//! - Once many values came, none of them long after the one before, and faster than a hand moves a
//!   fader or longer than it does, it is *asked*: what follows is kept for three of the usual
//!   intervals, of params the newest. If values keep coming it runs on, and is asked again later,
//!   each time after twice as long; also if none comes.
//! - If values came soon after what was written, and then none, what was kept is written and what
//!   follows waits longer still. After five such waits in a row it is *cut*.
//!
//! At a target that is cut, what comes first after each write is its return and is set aside; what
//! else comes is somebody's, and is written, every `loop_window_ms` at most. After a second without
//! anything the newest that was set aside is written, once: a person's value may come late, but it
//! comes. A write that nothing follows within a second shows that the ring is open, and all is as
//! in the beginning.
//!
//! What somebody else writes at a target meanwhile makes void what waits or is set aside there, but
//! for events: the router never takes back what a person has just said. At a target that is cut,
//! what it brings back is dropped. So a target is heard as long as it does not simply run.
//!
//! What this does not find: many values that run in one slow ring and answer for each other. They
//! go on, some 125 a second.
//!
//! A device that says exactly what it was told (a motor fader) is no ring: what a route made of an
//! address is not taken back there, when it is heard within a second where it was written.

mod run;
mod word;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clasp_rt_core::index;
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};

use crate::datum::Datum;
use crate::uplink::Whose;
use run::{Run, Shown};
pub(super) use word::Heed;

/// How long is waited: so many usual intervals, and a second at most.
const INTERVALS: u64 = 3;
const WAIT_MAX: Span = Span::from_secs(1);

/// So many that come in the second half of a wait need not be waited for to its end.
const ENOUGH: u64 = 3;

/// Waits that a ring must have waited, too, one after the other.
const WAITS: u32 = 5;

/// After that a target that is cut is asked whether its ring is still there. A device may take so
/// long to say what it was told.
const QUIET: Span = Span::from_secs(1);

/// Values that wait at one target: events, which are not replaced by newer ones.
const KEPT_MAX: usize = 64;

/// Bytes of values that wait at all targets. Beyond, none waits.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Targets that are watched at once: those that were written lately. Others are not watched.
const RUNS_MAX: usize = 4_096;

/// Of them those that do not simply run: each is a subscription, and a session has 1000 of them.
const PROBES_MAX: usize = 256;

/// Places where one target may be among them.
const WAYS: usize = 4;

/// Values of a ring that are told, and the bytes of each.
const TOLD_MAX: usize = 4;
const TOLD_BYTES_MAX: usize = 64;

/// Bytes of all targets that are watched, when the table is full.
pub(super) const BYTES_MAX: u64 =
    (RUNS_MAX * size_of::<Run>() + PROBES_MAX * size_of::<Probe>() + KEPT_BYTES_MAX) as u64;

/// A value on its way to its target.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) to: String,
    /// What it was made of.
    pub(super) from: String,
    /// `None`: a param.
    pub(super) signal: Option<Signal>,
    pub(super) whose: Option<Whose>,
    /// Encoded.
    pub(super) value: Vec<u8>,
    /// Of the value: [`print()`].
    pub(super) print: u64,
}

/// What a route is about to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing<'a> {
    pub(super) to: &'a str,
    pub(super) from: &'a str,
    /// Number of the route.
    pub(super) route: usize,
    /// Longest time between two values of one run; zero: it is not watched.
    pub(super) window: Span,
    pub(super) is_param: bool,
    pub(super) value_len: usize,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written, after what [`Loops::ready`] gives.
    Write,
    /// It is given to [`Loops::keep`].
    Keep(usize),
    /// It is the return of what was written, and is given to [`Loops::set_aside`].
    SetAside(usize),
}

/// A ring that was cut.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// Where it was cut, and whence the value came that was about to be written there.
    pub(super) to: String,
    pub(super) from: String,
    /// Numbers of the routes that it goes through, the one where it was cut first.
    pub(super) routes: Vec<usize>,
    /// How often it came round while it was asked.
    pub(super) returns: u32,
    /// How long it takes.
    pub(super) period: Span,
    /// The last values that came round, encoded, the newest last. Long ones are left out.
    pub(super) values: Vec<Vec<u8>>,
}

/// A target that does not simply run.
#[derive(Debug)]
struct Probe {
    to: String,
    from: String,
    route: usize,
    window: Span,
    /// When something was last written there.
    wrote: Time,
    due: Option<Time>,
    kept: Vec<Held>,
    returns: u32,
    period: Span,
    values: Vec<Vec<u8>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Asked(Asked),
    Cut(Cut),
}

#[derive(Debug)]
struct Asked {
    waits: u32,
    wait: Span,
    interval: Span,
    /// Values that were written when this wait began, and that came in its halves since.
    written: u32,
    early: u32,
    late: u32,
    /// From what was written to what came first: of this wait and of the one before.
    way: [Option<(Time, Time)>; 2],
}

#[derive(Debug)]
struct Cut {
    /// What one write brings back.
    echoes: u32,
    /// Returns of the last write that have not come yet.
    owed: u32,
    /// Something came since the last write.
    is_answered: bool,
    aside: Option<Held>,
    /// What was set aside has been written once.
    is_retold: bool,
    quiet_at: Time,
}

#[derive(Default)]
pub(super) struct Loops {
    /// In sets of [`WAYS`]; empty until the first is watched.
    runs: Vec<Run>,
    /// By the place of their run.
    probes: BTreeMap<usize, Probe>,
    dues: BTreeSet<(Time, usize)>,
    kept_bytes: usize,
    ready: VecDeque<Held>,
    found: VecDeque<Ring>,
    heeds: VecDeque<Heed>,
}

/// Tells values apart as devices do that know floats of 32 bits only.
pub(super) fn print(value: &Datum<'_>, encoded: &[u8]) -> u64 {
    match value.number() {
        Some(number) if matches!(value, Datum::Float(_)) || number.abs() < 16_777_216.0 => {
            // Never 0, which no print is.
            1 << 32 | u64::from((number as f32).to_bits())
        }
        _ => key(encoded),
    }
}

fn print_of(value: &Datum<'_>) -> u64 {
    let mut encoded = Vec::new();
    // A number needs no bytes. What cannot be written equals nothing.
    if value.number().is_none() && value.append(&mut encoded).is_err() {
        return 0;
    }
    print(value, &encoded)
}

fn key(bytes: &[u8]) -> u64 {
    index::hash([0, 0], bytes) | 1 << 63
}

impl Loops {
    /// When [`Loops::elapse`] is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.dues.first().map(|&(due, _)| due)
    }

    /// What is to be written now, in this order; [`Loops::wrote`] is not called for it.
    pub(super) fn ready(&mut self) -> Option<Held> {
        self.ready.pop_front()
    }

    /// A ring that has just been cut.
    pub(super) fn found(&mut self) -> Option<Ring> {
        self.found.pop_front()
    }

    /// Lets everything go that waits, and forgets all: the routes become others.
    pub(super) fn let_go(&mut self) {
        let probes = std::mem::take(&mut self.probes);
        self.heeds.extend(probes.keys().map(|place| Heed::End { place: *place }));
        self.ready.extend(probes.into_values().flat_map(|probe| probe.kept));
        self.forget();
    }

    /// Forgets all: whatever is held is told again.
    pub(super) fn forget(&mut self) {
        let (ready, heeds) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.heeds));
        *self = Self { ready, heeds, ..Self::default() };
    }

    /// Whether a value that was heard at `from` only says what was written there because of `to`.
    pub(super) fn is_echo(&self, now: Time, from: &str, to: &str, value: &Datum<'_>) -> bool {
        let told = self.find(key(from.as_bytes())).and_then(|place| self.runs.get(place));
        told.is_some_and(|run| {
            let is_fresh = run.told != 0 && now.since(run.told_at) <= QUIET;
            is_fresh && run.cause == key(to.as_bytes()) && run.told == print_of(value)
        })
    }

    /// What becomes of a value that a route has made.
    pub(super) fn admit(&mut self, now: Time, passing: &Passing<'_>) -> Fate {
        self.elapse(now);
        if passing.window == Span::ZERO {
            return Fate::Write;
        }
        let Some(place) = self.place(now, key(passing.to.as_bytes())) else { return Fate::Write };
        let has_room = self.kept_bytes + passing.value_len <= KEPT_BYTES_MAX;
        let Some(run) = self.runs.get_mut(place) else { return Fate::Write };
        let is_probed = self.probes.contains_key(&place);
        run.route = passing.route;
        run.count_value(now, passing.window, is_probed);
        let Some(probe) = self.probes.get_mut(&place) else {
            if run.is_to_be_asked(now) {
                self.ask(now, place, passing);
            }
            return Fate::Write;
        };
        probe.route = passing.route;
        if probe.from != passing.from {
            passing.from.clone_into(&mut probe.from);
        }
        let has_room = has_room && probe.kept.len() < KEPT_MAX;
        match &mut probe.stage {
            Stage::Asked(asked) => {
                let shown = asked.hear(now, probe.wrote, has_room);
                let Some(shown) = shown else { return Fate::Keep(place) };
                // What is newer comes in the place of what waits.
                if passing.is_param {
                    let bytes = &mut self.kept_bytes;
                    probe.kept.retain(|held| held.signal.is_some() || release(bytes, held));
                }
                self.end(now, place, shown);
                Fate::Write
            }
            Stage::Cut(cut) => {
                if cut.takes_for_return(now, probe.wrote, probe.window.max(probe.period)) {
                    return Fate::SetAside(place);
                }
                if has_room && now < probe.wrote + probe.window {
                    return Fate::Keep(place);
                }
                probe.wrote = now;
                cut.write(now, 1, &mut self.kept_bytes);
                self.schedule(place);
                Fate::Write
            }
        }
    }

    /// Takes what waits at its target.
    pub(super) fn keep(&mut self, place: usize, held: Held) {
        let Some(probe) = self.probes.get_mut(&place) else { return self.ready.push_back(held) };
        if held.signal.is_none() {
            let bytes = &mut self.kept_bytes;
            probe.kept.retain(|older| older.signal.is_some() || release(bytes, older));
        }
        self.kept_bytes += held.value.len();
        probe.kept.push(held);
        self.schedule(place);
    }

    /// Takes a return. Of an event nothing is left, nor of what comes of a value set aside before.
    pub(super) fn set_aside(&mut self, place: usize, held: Held) {
        let bytes = &mut self.kept_bytes;
        if let Some(Stage::Cut(cut)) = self.probes.get_mut(&place).map(|probe| &mut probe.stage)
            && held.signal.is_none()
            && !cut.is_retold
            && *bytes + held.value.len() <= KEPT_BYTES_MAX
        {
            cut.drop_aside(bytes);
            *bytes += held.value.len();
            cut.aside = Some(held);
        }
        self.schedule(place);
    }

    /// Something was written because of `from`, by whatever way it came to be.
    pub(super) fn wrote(&mut self, now: Time, to: &str, from: &str, print: u64) {
        let place = self.find(key(to.as_bytes()));
        if let Some(run) = place.and_then(|place| self.runs.get_mut(place)) {
            run.tell(now, print, key(from.as_bytes()));
        }
    }

    /// Does what is due by `now`.
    pub(super) fn elapse(&mut self, now: Time) {
        while let Some(&(due, place)) = self.dues.first()
            && due <= now
        {
            self.dues.pop_first();
            let Some(probe) = self.probes.get_mut(&place) else { continue };
            probe.due = None;
            if matches!(probe.stage, Stage::Asked(_)) {
                self.judge(now, place);
            } else {
                self.go_on(now, place);
            }
        }
    }

    fn find(&self, key: u64) -> Option<usize> {
        let set = (key as usize % (RUNS_MAX / WAYS)) * WAYS;
        let ways = self.runs.get(set..set + WAYS)?;
        ways.iter().position(|run| run.key == key).map(|way| set + way)
    }

    /// The place of a target, made if there is room: the one that was idle longest gives way.
    fn place(&mut self, now: Time, key: u64) -> Option<usize> {
        if let Some(place) = self.find(key) {
            return Some(place);
        }
        if self.runs.is_empty() {
            self.runs = vec![Run::default(); RUNS_MAX];
        }
        let set = (key as usize % (RUNS_MAX / WAYS)) * WAYS;
        let is_idle = |place: &usize| {
            let run = self.runs.get(*place);
            let is_silent = run.is_some_and(|run| run.key == 0 || now.since(run.last) > QUIET);
            // One that is cut and has nothing to do may be forgotten.
            is_silent && self.probes.get(place).is_none_or(|probe| probe.due.is_none())
        };
        let idle = (set..set + WAYS).filter(is_idle);
        let place = idle.min_by_key(|place| self.runs.get(*place).map(|run| run.last))?;
        self.remove(place);
        *self.runs.get_mut(place)? = Run { key, ..Run::default() };
        Some(place)
    }

    /// Puts the next instant of a probe in line.
    fn schedule(&mut self, place: usize) {
        let Some(probe) = self.probes.get_mut(&place) else { return };
        let due = match &probe.stage {
            Stage::Asked(asked) => Some(probe.wrote + asked.wait),
            Stage::Cut(_) if !probe.kept.is_empty() => Some(probe.wrote + probe.window),
            Stage::Cut(cut) => (!cut.is_at_rest()).then_some(cut.quiet_at),
        };
        if probe.due != due {
            if let Some(before) = probe.due {
                self.dues.remove(&(before, place));
            }
            self.dues.extend(due.map(|due| (due, place)));
            probe.due = due;
        }
    }

    /// Begins to wait after the value that is written now.
    fn ask(&mut self, now: Time, place: usize, passing: &Passing<'_>) {
        if !self.has_place_for_probe() {
            return;
        }
        let Some(run) = self.runs.get(place) else { return };
        let interval = run.interval(now);
        let wait = Span(interval.0.saturating_mul(INTERVALS)).max(run.wait_min).min(WAIT_MAX);
        let asked =
            Asked { waits: 0, wait, interval, written: 1, early: 0, late: 0, way: [None, None] };
        let probe = Probe {
            to: passing.to.to_owned(),
            from: passing.from.to_owned(),
            route: passing.route,
            window: passing.window,
            wrote: now,
            due: None,
            kept: Vec::new(),
            returns: 0,
            period: Span::ZERO,
            values: Vec::new(),
            stage: Stage::Asked(asked),
        };
        self.heeds.push_back(Heed::Begin { place, to: probe.to.clone() });
        self.probes.insert(place, probe);
        self.schedule(place);
    }

    /// Makes room where it can: one that is cut and has nothing to do may be forgotten.
    fn has_place_for_probe(&mut self) -> bool {
        if self.probes.len() < PROBES_MAX {
            return true;
        }
        let at_rest = self.probes.iter().find(|(_, probe)| probe.due.is_none());
        let at_rest = at_rest.map(|(place, _)| *place);
        at_rest.and_then(|place| self.remove(place)).is_some()
    }

    fn remove(&mut self, place: usize) -> Option<Probe> {
        let probe = self.probes.remove(&place)?;
        if let Some(due) = probe.due {
            self.dues.remove(&(due, place));
        }
        self.heeds.push_back(Heed::End { place });
        Some(probe)
    }

    /// A wait is over: the ring waited, too, or nobody is there, or somebody is.
    fn judge(&mut self, now: Time, place: usize) {
        let Some(probe) = self.probes.get_mut(&place) else { return };
        let Stage::Asked(asked) = &mut probe.stage else { return };
        if asked.late > 0 {
            let is_usual = u64::from(asked.late) >= asked.usual();
            return self.end(now, place, if is_usual { Shown::Somebody } else { Shown::Both });
        }
        if asked.early == 0 {
            return self.end(now, place, Shown::Nothing);
        }
        probe.returns = probe.returns.saturating_add(asked.early);
        if let Some((wrote, came)) = asked.way[0] {
            probe.period = came.since(wrote);
        }
        let newest = probe.kept.last().map(|held| held.value.clone());
        if let Some(newest) = newest.filter(|value| value.len() <= TOLD_BYTES_MAX) {
            if probe.values.len() == TOLD_MAX {
                probe.values.remove(0);
            }
            probe.values.push(newest);
        }
        if asked.waits + 1 == WAITS {
            return self.cut(now, place);
        }
        let wait = Span(asked.wait.0 / 3 * 5).min(WAIT_MAX);
        let written = u32::try_from(probe.kept.len()).unwrap_or(u32::MAX);
        let (waits, way) = (asked.waits + 1, [None, asked.way[0]]);
        *asked = Asked { waits, wait, written, early: 0, late: 0, way, interval: asked.interval };
        probe.wrote = now;
        self.write_kept(now, place);
        self.schedule(place);
    }

    /// The values are somebody's: they run on.
    fn end(&mut self, now: Time, place: usize, shown: Shown) {
        self.write_kept(now, place);
        if let Some(probe) = self.remove(place) {
            let interval = match &probe.stage {
                Stage::Asked(asked) => asked.interval,
                Stage::Cut(_) => Span::ZERO,
            };
            if let Some(run) = self.runs.get_mut(place) {
                run.begin_again(now, probe.window, interval, &shown);
            }
        }
    }

    fn cut(&mut self, now: Time, place: usize) {
        let Some(probe) = self.probes.get_mut(&place) else { return };
        let Stage::Asked(asked) = &probe.stage else { return };
        let way = asked.way;
        let echoes = asked.early.div_ceil(asked.written.max(1)).max(1);
        let bytes = &mut self.kept_bytes;
        // Events that came round are dropped here: this is where the ring is cut.
        probe.kept.retain(|held| held.signal.is_none() || release(bytes, held));
        let aside = probe.kept.pop();
        let quiet_at = now + QUIET;
        let cut = Cut { echoes, owed: 0, is_answered: true, aside, is_retold: false, quiet_at };
        probe.stage = Stage::Cut(cut);
        let mut ring = Ring {
            to: probe.to.clone(),
            from: probe.from.clone(),
            routes: vec![probe.route],
            returns: probe.returns,
            period: probe.period,
            values: std::mem::take(&mut probe.values),
        };
        // Whatever else was written on both ways belongs to it.
        if let [Some(last), Some(prior)] = way {
            let is_on = |at: Time, (from, to): (Time, Time)| from <= at && at <= to;
            for (other, run) in self.runs.iter().enumerate() {
                let is_there = run.key != 0 && is_on(run.last, last) && is_on(run.prior, prior);
                if other != place && is_there && !ring.routes.contains(&run.route) {
                    ring.routes.push(run.route);
                }
            }
        }
        self.found.push_back(ring);
        self.schedule(place);
    }

    /// A target that is cut: what waits may be written, or it has been quiet for a second.
    fn go_on(&mut self, now: Time, place: usize) {
        let Some(probe) = self.probes.get_mut(&place) else { return };
        let Stage::Cut(cut) = &mut probe.stage else { return };
        if !probe.kept.is_empty() {
            cut.write(now, probe.kept.len(), &mut self.kept_bytes);
            probe.wrote = now;
            self.write_kept(now, place);
        } else if !cut.is_answered {
            // Nothing came of the last write: the ring is open.
            return self.end(now, place, Shown::Nothing);
        } else if let Some(aside) = cut.aside.take() {
            release(&mut self.kept_bytes, &aside);
            if self.runs.get(place).is_some_and(|run| run.told != aside.print) {
                cut.write(now, 1, &mut self.kept_bytes);
                cut.is_retold = true;
                probe.wrote = now;
                self.give(now, aside);
            }
        }
        self.schedule(place);
    }

    fn write_kept(&mut self, now: Time, place: usize) {
        let kept = self.probes.get_mut(&place).map(|probe| std::mem::take(&mut probe.kept));
        for held in kept.unwrap_or_default() {
            release(&mut self.kept_bytes, &held);
            self.give(now, held);
        }
    }

    fn give(&mut self, now: Time, held: Held) {
        self.wrote(now, &held.to, &held.from, held.print);
        self.ready.push_back(held);
    }
}

/// What was kept is not any more. Always `false`, for `retain`.
fn release(bytes: &mut usize, held: &Held) -> bool {
    *bytes = bytes.saturating_sub(held.value.len());
    false
}

impl Asked {
    /// A value came. `Some`: it need not be waited any longer.
    fn hear(&mut self, now: Time, wrote: Time, has_room: bool) -> Option<Shown> {
        let age = now.since(wrote);
        self.way[0].get_or_insert((wrote, now));
        if age.0 * 2 <= self.wait.0 {
            self.early += 1;
        } else {
            self.late += 1;
        }
        // Few are waited for to the end: if they run in a ring, fewer are left of them.
        let is_enough = u64::from(self.late) >= self.usual().max(ENOUGH);
        if !has_room || is_enough {
            return Some(Shown::Somebody);
        }
        (self.waits > 0 && self.late > 0).then_some(Shown::Both)
    }

    /// Of those that usually come in the second half of a wait, seven in ten.
    fn usual(&self) -> u64 {
        (self.wait.0 * 7 / 20 / self.interval.0.max(1)).max(1)
    }
}

impl Cut {
    /// So many values are written, all newer than what was set aside.
    fn write(&mut self, now: Time, count: usize, bytes: &mut usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.owed = self.echoes.saturating_mul(count);
        (self.is_answered, self.is_retold) = (false, false);
        self.drop_aside(bytes);
        self.quiet_at = now + QUIET;
    }

    fn drop_aside(&mut self, bytes: &mut usize) {
        if let Some(aside) = self.aside.take() {
            release(bytes, &aside);
        }
    }

    fn takes_for_return(&mut self, now: Time, wrote: Time, within: Span) -> bool {
        self.is_answered = true;
        self.quiet_at = now + QUIET;
        let is_return = self.owed > 0 && now.since(wrote) <= within;
        self.owed = if is_return { self.owed - 1 } else { 0 };
        is_return
    }

    /// Nothing is to be done until a value comes.
    fn is_at_rest(&self) -> bool {
        self.is_answered && self.aside.is_none()
    }
}

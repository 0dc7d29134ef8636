//! Universes that go to the network: gathered, held to a rate, spread, repeated while nothing
//! changes.
//!
//! A universe goes out [`GATHER`] after its first change, and then as often as it changes, up to
//! its rate in the long run ([`earliest`]). When more are due at once than a network takes in one
//! gulp, they leave one after the other ([`Outgoing::spacing`]); each keeps its place in that line,
//! and so its distance from frame to frame.
//!
//! All times count from when a frame should have left, never from when the thread came round to it:
//! a universe whose source has just the rate that is allowed could never make up for a stop of the
//! thread, the next stop would come on top, and in the end a frame would take the place of one that
//! still waits.

use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::timers::Timers;

use super::table::Table;
use crate::merge::Levels;

/// How long changes of a universe are gathered into one frame: a cue of 512 slots arrives as 512
/// messages, and shall not leave as 512 packets.
pub const GATHER: Span = Span::from_millis(1);

/// An unchanged universe is repeated this often; receivers count a sender as lost after some
/// seconds.
pub const REPEAT: Span = Span::from_millis(800);

/// Frames that are due within this leave together, so that the thread is not woken for each.
const TURN: Span = Span::from_micros(200);

/// What was missed is caught up with so many times as fast as frames leave otherwise.
const CATCH_UP: u64 = 4;

/// No more frames than this leave at once, whatever the rate: a host has room for twice as many.
const AT_ONCE_MAX: u64 = 512;

/// With fewer universes than this a burst is spread as if there were so many: 17 µs apart at 44
/// Hz.
const SPREAD_MIN: usize = 1_024;

/// What a protocol asks of its universes.
pub(crate) struct Habits {
    /// Frames of a universe are so far apart in the long run.
    pub(crate) interval: Span,
    /// Universes have numbers below this.
    pub(crate) numbers: usize,
    pub(crate) universes_max: usize,
    /// Whether all that changed leave together, and a packet that shows them behind them.
    pub(crate) together: bool,
    /// A frame that changed is sent so many times more before its repetitions become rare.
    pub(crate) repeats: u8,
}

/// `W` is what a protocol keeps of each universe beside its levels.
pub(crate) struct Outgoing<W> {
    interval: Span,
    repeats: u8,
    rounds: Rounds,
    universes: Table<Universe<W>>,
    /// When each universe goes out next, by its place in the table.
    due: Timers,
    /// When the place behind the last frame in the line is due; a frame may leave a turn before its
    /// place.
    line: Time,
    /// When frames left last.
    left: Option<Time>,
}

/// Whether universes go out each in its own time, or together with a sync behind them.
enum Rounds {
    Each,
    Together {
        /// Of all universes, as [`Universe::allowed`].
        allowed: Time,
        /// When the next round begins, as soon as something changed.
        next: Option<Time>,
        /// Some have left that no sync has followed yet.
        begun: bool,
    },
}

pub(crate) struct Universe<W> {
    pub(crate) number: u16,
    pub(crate) levels: Levels,
    pub(crate) wire: W,
    /// When the next frame may leave if all keep their distance; see [`pace`].
    allowed: Time,
    /// When a frame that had changed was due last.
    moved: Option<Time>,
    /// The levels are not those that left last.
    has_changed: bool,
    /// So many frames follow soon, even if nothing changes.
    repeats: u8,
}

impl<W: Default> Outgoing<W> {
    pub(crate) fn new(habits: &Habits) -> Self {
        let rounds = Rounds::Together { allowed: Time(0), next: None, begun: false };
        Self {
            interval: habits.interval,
            repeats: habits.repeats,
            rounds: if habits.together { rounds } else { Rounds::Each },
            universes: Table::new(habits.numbers, habits.universes_max),
            due: Timers::new(u32::try_from(habits.universes_max).unwrap_or(u32::MAX)),
            line: Time(0),
            left: None,
        }
    }

    /// Changes anything about a universe; where `change` says that it did, a frame follows.
    /// `false`: that would be one universe too many.
    pub(crate) fn change(
        &mut self,
        now: Time,
        number: u16,
        change: impl FnOnce(&mut Universe<W>) -> bool,
    ) -> bool {
        let Some(place) = self.universes.enter(number, || Universe::new(number)) else {
            return false;
        };
        let Some(universe) = self.universes.get_mut(place) else { return false };
        if change(universe) && !universe.has_changed {
            universe.has_changed = true;
            let soon = |allowed| (now + GATHER).max(earliest(allowed, self.interval));
            let due = match &mut self.rounds {
                Rounds::Each => soon(universe.allowed),
                Rounds::Together { allowed, next, .. } => *next.get_or_insert(soon(*allowed)),
            };
            self.due.set(place as u32, due);
        }
        true
    }

    /// Gives the universes whose time has come to `send`, as many as the line lets go; it says
    /// whether there was anybody to send them to. Whether a round ended, so that a sync is to
    /// follow.
    pub(crate) fn send_due(
        &mut self,
        now: Time,
        send: &mut dyn FnMut(&mut Universe<W>) -> bool,
    ) -> bool {
        let spacing = self.spacing();
        let mut room = self.frames_at_once();
        while let Some(due) = self.due.next().filter(|due| *due <= now && room > 0) {
            // What should have left more than a frame ago is not made up for.
            let place_due = due.max(self.line - TURN).max(now - self.interval);
            if place_due > now {
                break;
            }
            let Some(place) = self.due.pop(now) else { break };
            let Some(universe) = self.universes.get_mut(place as usize) else { continue };
            let had_changed = std::mem::take(&mut universe.has_changed);
            let sent = send(universe);
            let repeat_from = match &mut self.rounds {
                Rounds::Each => {
                    universe.allowed = pace(universe.allowed, place_due, self.interval);
                    place_due
                }
                Rounds::Together { allowed, next, begun } => {
                    // What changes from now on is for the round after this one.
                    next.take_if(|next| *next <= due);
                    if sent && !std::mem::replace(begun, true) {
                        *allowed = pace(*allowed, place_due, self.interval);
                    }
                    due.max(now - REPEAT)
                }
            };
            let (once, twice) = (self.interval, Span(self.interval.0 * 2));
            let mut soon = once;
            if had_changed {
                universe.repeats = self.repeats;
                let before = universe.moved.replace(place_due);
                // While a universe moves, its next frame is a change: a repetition in front of it
                // would only make it late.
                if before.is_some_and(|before| place_due.since(before) <= twice) {
                    soon = twice.min(REPEAT).max(once);
                }
            }
            let pause = match universe.repeats.checked_sub(1) {
                Some(left) => {
                    universe.repeats = left;
                    soon
                }
                None => REPEAT,
            };
            let soonest = now + Span(self.interval.0 / 4);
            self.due.set(place, (repeat_from + pause).max(soonest));
            if sent {
                self.line = self.line.max(due) + spacing;
                room -= 1;
            }
            self.left = Some(now);
        }
        let is_over = self.due.next().is_none_or(|due| due > now);
        match &mut self.rounds {
            Rounds::Together { begun, .. } if is_over => std::mem::take(begun),
            _ => false,
        }
    }

    /// Lets every universe go out once more, and what the protocol repeats of it, changed by
    /// `change`.
    pub(crate) fn change_all(&mut self, now: Time, mut change: impl FnMut(&mut Universe<W>)) {
        for (place, universe) in (0..).zip(self.universes.iter_mut()) {
            change(universe);
            universe.has_changed = true;
            self.due.set(place, now);
        }
    }

    /// Whether some levels have not left yet.
    pub(crate) fn any_changed(&self) -> bool {
        self.iter().any(|universe| universe.has_changed)
    }

    pub(crate) fn find(&self, number: u16) -> Option<&Universe<W>> {
        self.universes.find(number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Universe<W>> {
        self.universes.iter()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let due = self.due.next()?;
        let due = due.max(self.line - TURN);
        Some(self.left.map_or(due, |left| due.max(left + TURN)))
    }

    /// Time from one frame to the next of those that are due at once. All universes pass in three
    /// quarters of an interval, so that a line that formed once dissolves again.
    fn spacing(&self) -> Span {
        let count = self.universes.len().max(SPREAD_MIN) as u64;
        Span(self.interval.0 * 3 / 4 / count)
    }

    /// Frames that one look at the line may let go: more than are due in a turn, so that a stop of
    /// the thread is soon made up for, and not all, so that a network is not flooded after it.
    fn frames_at_once(&self) -> u64 {
        (1 + CATCH_UP * TURN.0 / self.spacing().0.max(1)).min(AT_ONCE_MAX)
    }

    /// Bytes when all of `universes` are in use.
    pub(crate) const fn memory_bytes_for(numbers: usize, universes: usize) -> u64 {
        Table::<Universe<W>>::memory_bytes_for(numbers, universes)
            + Timers::memory_bytes_for(universes as u32)
    }
}

/// When the frame after one that was due at `place_due` is allowed: an interval later, counted from
/// when that one was allowed if it left earlier.
fn pace(allowed: Time, place_due: Time, interval: Span) -> Time {
    allowed.max(place_due) + interval
}

/// A frame may leave three quarters of an interval before it is allowed. Otherwise a source of the
/// same rate, once late, would stay so for ever: each frame would wait for the one before. So two
/// frames may be due a quarter of an interval apart, and leave [`GATHER`] apart where the first was
/// late; the rate holds in the long run.
fn earliest(allowed: Time, interval: Span) -> Time {
    allowed - Span(interval.0 / 4 * 3)
}

impl<W: Default> Universe<W> {
    fn new(number: u16) -> Self {
        Self {
            number,
            levels: Levels::default(),
            wire: W::default(),
            allowed: Time(0),
            moved: None,
            has_changed: false,
            repeats: 0,
        }
    }
}

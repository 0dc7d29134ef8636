//! Universes that go to the network: gathered, held to a rate, spread, repeated while nothing
//! changes.
//!
//! A universe goes out [`GATHER`] after its first change, and then as often as it changes, up to
//! its rate. When more are due at once than a network takes in one gulp, they leave one after the
//! other ([`Outputs::spacing`]); each keeps its place in that order, and so its distance from frame
//! to frame, because the next frame counts from when the last one should have left, not from when
//! the thread came round to it.

use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::timers::Timers;

use super::nodes::Nodes;
use super::packet::{self, Dmx, PACKET_BYTES_MAX, PortAddress};
use super::table::Table;
use super::{GATHER, REPEAT};
use crate::merge::Levels;
use crate::{Counters, Out};

/// Frames that are due within this leave together, so that the thread is not woken for each.
const TURN: Span = Span::from_micros(200);

/// With fewer universes than this a burst is spread as if there were so many: 17 µs apart at 44
/// Hz.
const SPREAD_MIN: usize = 1_024;

pub(super) struct Outputs {
    /// Frames of a universe are so far apart in the long run.
    interval: Span,
    rounds: Rounds,
    universes: Table<Universe>,
    /// When each universe goes out next, by its place in the table.
    due: Timers,
    /// No frame leaves before it: where the line of those that are due stands.
    line: Time,
    /// When frames left last.
    left: Option<Time>,
    /// What left last of each is kept, to know it when it comes back as a broadcast.
    keeps_last: bool,
    packet: Vec<u8>,
}

/// Whether universes go out each in its own time, or together with an ArtSync behind them.
enum Rounds {
    Each,
    Together {
        /// Of all universes, as [`Universe::allowed`].
        allowed: Time,
        /// When the next round begins, as soon as something changed.
        next: Option<Time>,
        /// Some have left that no ArtSync has followed yet.
        begun: bool,
    },
}

struct Universe {
    port_address: PortAddress,
    levels: Levels,
    /// What left last; empty where that is not needed.
    last: Option<Box<Levels>>,
    sequence: u8,
    /// When the next frame may leave if all keep their distance; see [`pace`].
    allowed: Time,
    /// The levels are not those that left last.
    has_changed: bool,
}

impl Outputs {
    pub(super) fn new(interval: Span, universes_max: usize, syncs: bool, keeps_last: bool) -> Self {
        let rounds = Rounds::Together { allowed: Time(0), next: None, begun: false };
        Self {
            interval,
            rounds: if syncs { rounds } else { Rounds::Each },
            universes: Table::new(universes_max),
            due: Timers::new(u32::try_from(universes_max).unwrap_or(u32::MAX)),
            line: Time(0),
            left: None,
            keeps_last,
            packet: Vec::with_capacity(PACKET_BYTES_MAX),
        }
    }

    /// Sets one slot, counted from 0. `false`: that would be one universe too many.
    pub(super) fn write(
        &mut self,
        now: Time,
        port_address: PortAddress,
        slot: usize,
        level: u8,
    ) -> bool {
        self.change(now, port_address, |levels| levels.set(slot, level))
    }

    /// Sets all slots from the first on. `false`: that would be one universe too many.
    pub(super) fn write_all(&mut self, now: Time, port_address: PortAddress, slots: &[u8]) -> bool {
        self.change(now, port_address, |levels| {
            let has_changed = !levels.hold(slots);
            levels.write(slots);
            has_changed
        })
    }

    fn change(
        &mut self,
        now: Time,
        port_address: PortAddress,
        change: impl FnOnce(&mut Levels) -> bool,
    ) -> bool {
        let keeps_last = self.keeps_last;
        let Some(place) =
            self.universes.enter(port_address, || Universe::new(port_address, keeps_last))
        else {
            return false;
        };
        let Some(universe) = self.universes.get_mut(place) else { return false };
        if change(&mut universe.levels) && !universe.has_changed {
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

    /// Sends the universes whose time has come, as many as the line lets go. Whether a round ended,
    /// so that an ArtSync is to follow.
    pub(super) fn send_due(
        &mut self,
        now: Time,
        nodes: &Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> bool {
        let spacing = self.spacing();
        // What was missed meanwhile is caught up with, but not all at once.
        self.line = self.line.max(now - TURN);
        while let Some(due) = self.due.next().filter(|due| *due <= now && self.line <= now) {
            let Some(place) = self.due.pop(now) else { break };
            let Some(universe) = self.universes.get_mut(place as usize) else { continue };
            universe.fill(&mut self.packet);
            let sent = nodes.send(universe.port_address, &self.packet, counters, out);
            let slot = due.max(self.line);
            let repeat_from = match &mut self.rounds {
                Rounds::Each => {
                    universe.allowed = pace(universe.allowed, slot, self.interval);
                    slot
                }
                Rounds::Together { allowed, next, begun } => {
                    // What changes from now on is for the round after this one.
                    next.take_if(|next| *next <= due);
                    if sent && !std::mem::replace(begun, true) {
                        *allowed = pace(*allowed, slot, self.interval);
                    }
                    due
                }
            };
            self.due.set(place, repeat_from + REPEAT);
            if sent {
                self.line = self.line + spacing;
            }
            self.left = Some(now);
        }
        let is_over = self.due.next().is_none_or(|due| due > now);
        match &mut self.rounds {
            Rounds::Together { begun, .. } if is_over => std::mem::take(begun),
            _ => false,
        }
    }

    /// Lets every universe go out once more, with all levels at 0.
    pub(super) fn black_out(&mut self, now: Time) {
        for (place, universe) in (0..).zip(self.universes.iter_mut()) {
            universe.levels = Levels::dark(universe.levels.as_slice().len());
            universe.has_changed = true;
            self.due.set(place, now);
        }
    }

    /// Whether some levels have not left yet.
    pub(super) fn any_changed(&self) -> bool {
        self.universes.iter().any(|universe| universe.has_changed)
    }

    /// Whether `dmx` is the frame of ours that left last, come back.
    pub(super) fn has_just_sent(&self, dmx: &Dmx<'_>) -> bool {
        self.universes.find(dmx.port_address).is_some_and(|universe| {
            let levels = universe.last.as_ref().map_or(&[][..], |last| last.as_slice());
            universe.sequence != 0
                && universe.sequence == dmx.sequence
                && dmx.levels.get(..levels.len()) == Some(levels)
        })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let due = self.due.next()?;
        Some(self.left.map_or(due, |left| due.max(left + TURN)))
    }

    pub(super) fn port_addresses(&self) -> impl Iterator<Item = PortAddress> {
        self.universes.iter().map(|universe| universe.port_address)
    }

    /// Time from one frame to the next of those that are due at once. All universes pass in three
    /// quarters of an interval, so that a line that formed once dissolves again.
    fn spacing(&self) -> Span {
        let count = self.universes.len().max(SPREAD_MIN) as u64;
        Span(self.interval.0 * 3 / 4 / count)
    }

    /// Bytes when all of `universes` are in use.
    pub(super) const fn memory_bytes_for(universes: usize, keeps_last: bool) -> u64 {
        let last = if keeps_last { universes * size_of::<Levels>() } else { 0 };
        Table::<Universe>::memory_bytes_for(universes)
            + Timers::memory_bytes_for(universes as u32)
            + last as u64
    }
}

/// When the frame after one at `slot` is allowed: an interval later, counted from when that one was
/// allowed if it left earlier.
fn pace(allowed: Time, slot: Time, interval: Span) -> Time {
    allowed.max(slot) + interval
}

/// A frame may leave a quarter of an interval before it is allowed. Otherwise a source of the same
/// rate, once late, would stay so for ever: each frame would wait for the one before.
fn earliest(allowed: Time, interval: Span) -> Time {
    allowed - Span(interval.0 / 4)
}

impl Universe {
    fn new(port_address: PortAddress, keeps_last: bool) -> Self {
        Self {
            port_address,
            levels: Levels::default(),
            last: keeps_last.then(Box::default),
            sequence: 0,
            allowed: Time(0),
            has_changed: false,
        }
    }

    /// Writes the next frame into `out`.
    fn fill(&mut self, out: &mut Vec<u8>) {
        // 0 would say that we do not count.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.has_changed = false;
        if let Some(last) = &mut self.last {
            last.write(self.levels.as_slice());
        }
        packet::write_dmx(out, self.sequence, self.port_address, self.levels.as_slice());
    }
}

//! Who has each slot of a universe and who wants it, told to the router source by source.
//!
//! Where sources are told, a marker says before the SETs of each whose they are. What a source says
//! of a slot that another one has is told, too, where it is known what the router arbitrates: as a
//! [bid](crate::uplink::Bid), with the source's own level and priority. Where that is not known,
//! who loses a slot is told there with priority 0, behind the winner: the router must not go on
//! with what it heard of the loser last.

use std::fmt::Write;
use std::mem::replace;

use super::telling::Telling;
use crate::level::from_level;
use crate::merge::{Levels, SLOTS};
use crate::uplink::{Details, Marker, Source, Uplink};
use crate::{Counters, Out};

/// The claim of a slot that no source has.
pub(crate) const NOBODY: u32 = 0;

/// In the place of a priority: the source declares none. With no level is it [`NOTHING`].
pub(crate) const UNDECLARED: u8 = 254;

/// Of a slot of which nothing was told.
const NOTHING: u16 = u16::MAX;

/// Bids told at once, at most, so that what is told has room; the rest follows.
const BIDS_MAX: usize = 512;

/// Sources of which is said once more that they are gone, at most.
const DEPARTED_MAX: usize = 1_024;

/// A source's serial number and priority in one number. Serials begin with 1, and have 24 bits.
pub(crate) fn claim(serial: u32, priority: u8) -> u32 {
    serial << 8 | u32::from(priority)
}

/// For each slot who has it: see [`claim`].
pub(crate) struct Claims {
    now: [u32; SLOTS],
    told: [u32; SLOTS],
    /// How many slots one source has, and its claim; while it has them alone.
    given: Option<(u16, u32)>,
    /// What was given when all claims were told.
    settled: Option<(u16, u32)>,
}

impl Claims {
    pub(crate) const EMPTY: Self =
        Self { now: [NOBODY; SLOTS], told: [NOBODY; SLOTS], given: None, settled: None };

    pub(crate) fn set(&mut self, slot: usize, claim: u32) {
        if let Some(now) = self.now.get_mut(slot) {
            *now = claim;
            self.given = None;
        }
    }

    /// The first `len` slots are one source's, the others nobody's.
    pub(crate) fn give(&mut self, len: usize, claim: u32) {
        let len = len.min(SLOTS);
        if self.given == Some((len as u16, claim)) {
            return;
        }
        self.given = Some((len as u16, claim));
        let (had, rest) = self.now.split_at_mut(len);
        had.fill(claim);
        rest.fill(NOBODY);
    }

    pub(crate) fn forget_told(&mut self) {
        (self.told, self.settled) = ([NOBODY; SLOTS], None);
    }

    /// Calls `changed` with what the router does not know yet, slot by slot, and makes it known.
    pub(crate) fn advance(
        &mut self,
        told: &mut Levels,
        look: &[u8],
        changed: &mut dyn FnMut(Change),
    ) {
        let Self { now, told: before, given, settled } = self;
        if given.is_some() && given == settled {
            // One source has what it had, and so nothing but levels may be new.
            return told.advance(look, |slot, level| {
                if let (Some(claim), Some(before)) = (now.get(slot), before.get_mut(slot)) {
                    let (slot, claim, before) = (slot as u16, *claim, replace(before, *claim));
                    changed(Change { slot, level, claim, before });
                }
            });
        }
        *settled = *given;
        let known = told.as_slice();
        let claims = now.iter().zip(before);
        for ((slot, level), (now, before)) in look.iter().copied().enumerate().zip(claims) {
            let was = known.get(slot).copied();
            // What nobody has any more keeps its level, and whose that was.
            let is_lost = *now == NOBODY && was.is_some();
            if was != Some(level) || (*now != *before && !is_lost) {
                let before = replace(before, *now);
                changed(Change { slot: slot as u16, level, claim: *now, before });
            }
        }
        told.write(look);
    }
}

/// A slot of which the router does not know the level, or whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Counted from 0.
    pub(crate) slot: u16,
    pub(crate) level: u8,
    /// Whose it is: see [`claim`].
    pub(crate) claim: u32,
    /// Whose it was when it was last told.
    pub(crate) before: u32,
}

/// What the router knows of one source of one universe.
pub(crate) struct Voice {
    pub(crate) id: String,
    /// The router knows its details.
    pub(crate) is_told: bool,
    /// What marks its params, as it was last said.
    marker: Option<Box<Marker>>,
    /// Priority and level that it was last told to say of each slot; where it ever lost one.
    told: Option<Box<[u16; SLOTS]>>,
}

impl Voice {
    pub(crate) const BYTES_MAX: usize =
        64 + size_of::<Marker>() + Marker::MORE_BYTES_MAX + size_of::<[u16; SLOTS]>();

    pub(crate) fn new(id: String) -> Self {
        Self { id, is_told: false, marker: None, told: None }
    }

    pub(crate) fn forget_told(&mut self) {
        (self.is_told, self.told) = (false, None);
    }

    fn note(&mut self, slot: usize, priority: u8, level: u8) {
        if let Some(told) = self.told.as_mut().and_then(|told| told.get_mut(slot)) {
            *told = u16::from_be_bytes([priority, level]);
        }
    }
}

/// A universe that several sources want.
pub(crate) trait Contest {
    fn number(&self) -> u16;
    fn claims(&self) -> Option<&Claims>;
    /// The levels that the router was told.
    fn told(&self) -> &[u8];
    fn advance(&mut self, changed: &mut dyn FnMut(Change));
    /// Whether fewer than two sources want it.
    fn is_alone(&self) -> bool;
    /// The serials of all sources.
    fn serials(&self) -> Vec<u32>;
    /// Priority and level that a source has for a slot, if it wants it.
    fn bid(&self, serial: u32, slot: usize) -> Option<(u8, u8)>;
    fn voice(&mut self, serial: u32) -> Option<&mut Voice>;
    /// Who a source is.
    fn details(&self, serial: u32) -> Option<Details>;
    /// The id of a look that is held for nobody.
    fn held(&self) -> String;
    /// The ids of those that left since this was asked last.
    fn take_gone(&mut self) -> Vec<String>;
}

/// The router's side of a bridge, and what it counts.
pub(crate) struct Ear<'a> {
    pub(crate) uplink: &'a mut Uplink,
    pub(crate) counters: &'a mut Counters,
    pub(crate) out: &'a mut dyn Out,
}

impl Ear<'_> {
    pub(crate) fn send(&mut self) {
        self.uplink.send(None, self.counters, self.out);
    }

    /// Says that what follows is said by `voice`, with `priority`.
    fn mark(&mut self, voice: &mut Voice, priority: u8) {
        let Voice { id, marker, .. } = voice;
        let source = said_by(id, priority);
        if marker.as_ref().is_none_or(|marker| !marker.is_of(&source)) {
            *marker = Some(Box::new(Marker::of(&source)));
        }
        if let Some(marker) = marker {
            self.uplink.mark_by(marker);
        }
    }

    fn release(&mut self, id: &str) {
        self.uplink.sign(id, "release", self.counters, self.out);
    }
}

/// A source by its id, with a priority of a claim.
fn said_by(id: &str, priority: u8) -> Source<'_> {
    Source { id, priority: (priority != UNDECLARED).then_some(priority), by: None }
}

/// Tells slots with their sources.
pub(crate) struct Teller {
    namespace: String,
    normalize: bool,
    /// Of the universe in hand.
    changes: Vec<Change>,
    address: String,
    departed: Vec<String>,
}

impl Teller {
    pub(crate) fn new(namespace: &str, normalize: bool) -> Self {
        let namespace = namespace.to_owned();
        let (changes, address, departed) = (Vec::new(), String::new(), Vec::new());
        Self { namespace, normalize, changes, address, departed }
    }

    /// Tells what the router does not know. `true`: there is more, for which to come again.
    pub(crate) fn tell(
        &mut self,
        contest: &mut dyn Contest,
        words: &mut Telling,
        ear: &mut Ear<'_>,
    ) -> bool {
        let mut left = BIDS_MAX;
        // Whoever loses a slot that is known says so before the new winner is told: who changed
        // last is the winner. Of a new slot the winner is told first, so that nobody else flashes.
        self.tell_bids(contest, &mut left, ear);
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        contest.advance(&mut |change| changes.push(change));
        if !changes.is_sorted_by_key(|change| change.claim) {
            changes.sort_by_key(|change| change.claim);
        }
        for source in changes.chunk_by(|a, b| a.claim >> 8 == b.claim >> 8) {
            if let Some(first) = source.first() {
                describe(contest, first.claim >> 8, ear);
            }
        }
        for source in changes.chunk_by(|a, b| a.claim == b.claim) {
            let Some(first) = source.first() else { continue };
            let priority = first.claim as u8;
            match contest.voice(first.claim >> 8) {
                Some(voice) => {
                    source.iter().for_each(|it| voice.note(it.slot.into(), priority, it.level));
                    ear.mark(voice, priority);
                }
                // A held look: it gives way to whoever comes.
                None => ear.uplink.mark(&said_by(&contest.held(), 0)),
            }
            slots(source, words, ear);
        }
        if !ear.uplink.is_declared() {
            // Who has lost a slot to another.
            let is_lost = |it: &Change| it.before != NOBODY && it.before >> 8 != it.claim >> 8;
            changes.retain(is_lost);
            changes.sort_by_key(|change| change.before >> 8);
            for source in changes.chunk_by(|a, b| a.before >> 8 == b.before >> 8) {
                let Some(first) = source.first() else { continue };
                let Some(voice) = contest.voice(first.before >> 8) else { continue };
                ear.mark(voice, 0);
                slots(source, words, ear);
            }
        }
        self.changes = changes;
        ear.send();
        let more = self.tell_bids(contest, &mut left, ear);
        // Their claims end when those who have the slots now are known.
        for id in contest.take_gone() {
            ear.release(&id);
            // What a route passes on may be on its way.
            if ear.uplink.is_declared() && self.departed.len() < DEPARTED_MAX {
                self.departed.push(id);
            }
        }
        ear.send();
        more
    }

    /// Tells what sources say of slots that others have, as far as those are known. `true`: there
    /// is more.
    fn tell_bids(
        &mut self,
        contest: &mut dyn Contest,
        left: &mut usize,
        ear: &mut Ear<'_>,
    ) -> bool {
        if !ear.uplink.is_declared() || contest.is_alone() {
            return false;
        }
        let serials = contest.serials();
        for serial in serials {
            let Some(voice) = contest.voice(serial) else { continue };
            let (id, told) = (std::mem::take(&mut voice.id), voice.told.take());
            let mut told = told.unwrap_or_else(|| told_of(contest, serial));
            let is_whole = self.tell_bids_of(contest, (serial, &id), &mut told, left, ear);
            if let Some(voice) = contest.voice(serial) {
                (voice.id, voice.told) = (id, Some(told));
            }
            ear.send();
            if !is_whole {
                return true;
            }
        }
        false
    }

    fn tell_bids_of(
        &mut self,
        contest: &mut dyn Contest,
        (serial, id): (u32, &str),
        told: &mut [u16; SLOTS],
        left: &mut usize,
        ear: &mut Ear<'_>,
    ) -> bool {
        for (slot, told) in told.iter_mut().enumerate() {
            let Some(claims) = contest.claims() else { return true };
            let (now, known) = (claims.now[slot], claims.told[slot]);
            if known == NOBODY || now == NOBODY || now >> 8 == serial {
                continue;
            }
            let bid = match (contest.bid(serial, slot), told.to_be_bytes()) {
                (Some((priority, level)), _) => [priority, level],
                // It lets go of the slot, of which it said something before.
                (None, [_, level]) if *told != NOTHING => [0, level],
                (None, _) => continue,
            };
            if u16::from_be_bytes(bid) == *told {
                continue;
            }
            if *left == 0 {
                return false;
            }
            *left -= 1;
            *told = u16::from_be_bytes(bid);
            self.address.clear();
            let _ = write!(self.address, "{}/{}/{}", self.namespace, contest.number(), slot + 1);
            let [priority, level] = bid;
            let level = from_level(level, self.normalize);
            let push = |out: &mut Vec<u8>| level.append(out);
            describe(contest, serial, ear);
            let source = said_by(id, priority);
            ear.uplink.bid(&self.address, &source, push, ear.counters, ear.out);
        }
        true
    }

    /// Says once more that those are gone who left before this was called last, unless one of them
    /// is `back`.
    pub(crate) fn tell_departed(&mut self, back: impl Fn(&str) -> bool, ear: &mut Ear<'_>) {
        for id in self.departed.drain(..).filter(|id| !back(id)) {
            ear.release(&id);
        }
        ear.send();
    }
}

/// What the router was told that a source says, while it never lost a slot.
fn told_of(contest: &dyn Contest, serial: u32) -> Box<[u16; SLOTS]> {
    let mut told = Box::new([NOTHING; SLOTS]);
    if let Some(claims) = contest.claims() {
        for ((told, level), claim) in told.iter_mut().zip(contest.told()).zip(claims.told) {
            if claim >> 8 == serial {
                *told = u16::from_be_bytes([claim as u8, *level]);
            }
        }
    }
    told
}

fn slots(changes: &[Change], words: &mut Telling, ear: &mut Ear<'_>) {
    for change in changes {
        let set = words.slot(change.slot.into(), change.level);
        ear.uplink.add(set, ear.counters, ear.out);
    }
}

/// Says who a source is, if the router does not know it.
fn describe(contest: &mut dyn Contest, serial: u32, ear: &mut Ear<'_>) {
    let is_told = contest.voice(serial).map(|voice| std::mem::replace(&mut voice.is_told, true));
    if is_told == Some(false)
        && let Some(details) = contest.details(serial)
    {
        ear.uplink.describe(&details, ear.counters, ear.out);
    }
}

//! One universe from the network: its sources, and which of them each slot has its level from.
//!
//! This is the merge that E1.31 asks to be declared:
//!
//! - A source controls the slots that its newest frame has. Where it sends a priority for each slot
//!   (start code 0xDD), that counts, and 0 leaves the slot alone; 2.5 s after the last of them its
//!   priority of the universe counts again.
//! - Of those that control a slot the highest priority wins. Of equal ones: by HTP the highest
//!   level, by LTP the source that last changed the slot.
//! - A slot that nobody controls any more keeps its level: darkness is a decision, not a time-out.
//! - A source is lost 2.5 s after its last packet, but not before each of the others has been heard
//!   since, or is silent as long: when a switch dies, all fall silent within a moment, and none of
//!   them takes over from another on its way out. One that says good-bye is gone at once.
//! - After such an outage, and when the bridge starts, levels of a lower priority than was seen
//!   before (at start: than 200) wait for the settling time, in which every source is heard again.

use std::fmt::Write;

use clasp_rt_core::time::{Span, Time};

use super::packet::sequel;
use super::packet::{Cid, Data, Head, PRIORITY_MAX, START_LEVELS, START_PRIORITIES, is_stale};
use crate::merge::{Levels, Rule, SLOTS};
use crate::universes::contest::{Change, Claims, NOBODY, Voice, claim};

/// Octets of a CID that an id has.
const ID_OCTETS: usize = 8;

/// A silent source is lost after this, a silent synchronisation, too.
pub const LOSS: Span = Span::from_millis(2_500);

pub(super) struct Universe {
    pub(super) number: u16,
    /// In the order in which they were first heard.
    sources: Vec<Source>,
    look: Levels,
    /// Highest priority that controls a slot of the look.
    top: u8,
    /// What the router was told.
    told: Levels,
    /// Who has each slot; where that is told.
    claims: Option<Box<Claims>>,
    /// Counts changes of levels, to tell the latest.
    changes: u32,
    /// Until then only priorities from `floor` on are shown.
    settles_until: Option<Time>,
    floor: u8,
    /// All sources fell silent; who comes first may not be who matters.
    outage: bool,
    /// The router is to be told.
    pub(super) is_ready: bool,
    /// A source waits for a synchronisation packet.
    pub(super) waits: bool,
    /// Who is heard, and with which priority, changed since it was told.
    pub(super) sources_changed: bool,
    /// Who has gone since that was told; where it is told whose a slot is.
    gone: Vec<String>,
    /// The alarm about too many sources was raised, and nobody has left since.
    pub(super) alarmed: bool,
}

pub(super) struct Source {
    pub(super) cid: Cid,
    /// Its number in the table of all sources.
    pub(super) serial: u32,
    pub(super) priority: u8,
    /// The universe of its synchronisation packets; 0: none.
    sync: u16,
    force_sync: bool,
    sequence: u8,
    heard: Time,
    /// The slots of its newest frame that may be shown.
    levels: Levels,
    /// A frame that waits for synchronisation.
    held: Option<Box<Levels>>,
    slot_priorities: Option<Box<SlotPriorities>>,
    /// What its last packet of levels said before them, where nothing was to be waited for: one
    /// that says the same and has the same levels changes nothing.
    head: Option<Head>,
    /// When each slot last changed, counted in [`Universe::changes`]; for LTP.
    changed: Option<Box<[u32; SLOTS]>>,
    /// What the router knows of it.
    pub(super) voice: Voice,
}

struct SlotPriorities {
    levels: Levels,
    heard: Time,
}

/// What a bridge asks of all its universes.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) merge: Rule,
    pub(super) sources_max: usize,
    /// Whether it is told who has each slot.
    pub(super) claims: bool,
    pub(super) settle: Span,
}

/// What a packet of levels does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// The look may have changed.
    Changed,
    /// It waits for synchronisation.
    Held,
}

/// Why a packet changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Stale,
    TooManySources,
    /// Neither levels nor priorities.
    StartCode,
}

/// Whether frames of a source wait for its synchronisation packets.
pub(super) trait Synced {
    fn waits(&self, universe: u16, force_sync: bool) -> bool;
}

impl Universe {
    /// `settles_until`: when the bridge has listened for the settling time.
    pub(super) fn new(number: u16, rules: &Rules, settles_until: Option<Time>) -> Self {
        Self {
            number,
            sources: Vec::new(),
            look: Levels::default(),
            top: 0,
            told: Levels::default(),
            claims: rules.claims.then(|| Box::new(Claims::EMPTY)),
            changes: 0,
            settles_until,
            floor: PRIORITY_MAX,
            outage: false,
            is_ready: false,
            waits: false,
            sources_changed: false,
            gone: Vec::new(),
            alarmed: false,
        }
    }

    pub(super) fn knows(&self, cid: &Cid) -> bool {
        self.sources.iter().any(|source| source.cid == *cid)
    }

    /// Takes a packet of a source. One that is not known yet is entered under `serial`, unless
    /// there are enough; then the one with the lowest priority gives way to a higher one. The
    /// second value: the serial of the source that left by this, its good-bye included.
    pub(super) fn receive(
        &mut self,
        now: Time,
        serial: u32,
        data: &Data<'_>,
        rules: &Rules,
        synced: &dyn Synced,
    ) -> (Result<Heard, Ignored>, Option<u32>) {
        let known = self.sources.iter().position(|source| source.cid == data.cid);
        if data.terminated {
            return self.terminate(known, data.sequence, rules);
        }
        let is_spoken = matches!(data.start, Some(START_LEVELS | START_PRIORITIES));
        let (place, left) = match known {
            Some(place) => (place, None),
            None if !is_spoken => return (Err(Ignored::StartCode), None),
            None => match self.enter(now, serial, data, rules) {
                Ok(entered) => entered,
                Err(ignored) => return (Err(ignored), None),
            },
        };
        let Some(source) = self.sources.get_mut(place) else {
            return (Err(Ignored::TooManySources), left);
        };
        if known.is_some() && is_stale(source.sequence, data.sequence) {
            return (Err(Ignored::Stale), left);
        }
        (source.sequence, source.heard) = (data.sequence, now);
        let before = (source.sync, source.force_sync, source.priority);
        if before != (data.sync, data.force_sync, data.priority) {
            source.head = None;
        }
        (source.sync, source.force_sync) = (data.sync, data.force_sync);
        let mut has_changed = left.is_some();
        if source.priority != data.priority {
            source.priority = data.priority;
            self.sources_changed = true;
            has_changed = true;
        }
        let heard = match data.start {
            Some(START_LEVELS) => {
                self.changes = self.changes.wrapping_add(1);
                let waits = data.sync != 0 && synced.waits(data.sync, data.force_sync);
                let heard = source.levels(data.slots, waits, self.changes);
                self.waits |= heard == Heard::Held;
                heard
            }
            Some(START_PRIORITIES) => source.priorities(now, data.slots),
            _ => return (Err(Ignored::StartCode), left),
        };
        // Somebody may have waited to be known as lost until this one was heard.
        has_changed |= self.any_silent(now) && self.drop_lost(now);
        if has_changed || heard == Heard::Changed {
            self.resolve(rules.merge);
            return (Ok(Heard::Changed), left);
        }
        (Ok(heard), left)
    }

    /// Keeps the head of the packet of levels that a source has just sent.
    pub(super) fn note(&mut self, data: &Data<'_>, head: &Head) {
        let source = self.sources.iter_mut().find(|source| source.cid == data.cid);
        if let Some(source) = source
            && data.start == Some(START_LEVELS)
        {
            source.head = (data.sync == 0).then_some(*head);
        }
    }

    /// Takes a packet that repeats what its source says, and by which nothing changes: of such a
    /// one this is all that [`Universe::receive`] does. `false`: there is more to it, and nothing
    /// was taken.
    pub(super) fn repeat(&mut self, now: Time, head: &Head, slots: &[u8]) -> bool {
        let sequence = |source: &Source| source.head.as_ref().and_then(|last| sequel(last, head));
        let mut sources = self.sources.iter().enumerate();
        let found = sources.find_map(|(place, source)| Some((place, sequence(source)?)));
        let Some((found, sequence)) = found else { return false };
        let mut others = self.sources.iter().enumerate().filter(|(place, _)| *place != found);
        if others.any(|(_, source)| source.is_silent(now)) {
            return false;
        }
        let Some(source) = self.sources.get_mut(found) else { return false };
        // The head says how many slots follow: as many as there were.
        let repeats =
            slots.starts_with(source.levels.as_slice()) && !is_stale(source.sequence, sequence);
        if repeats {
            (source.sequence, source.heard) = (sequence, now);
        }
        repeats
    }

    fn enter(
        &mut self,
        now: Time,
        serial: u32,
        data: &Data<'_>,
        rules: &Rules,
    ) -> Result<(usize, Option<u32>), Ignored> {
        let mut left = None;
        if self.sources.len() >= rules.sources_max {
            let lowest = self.sources.iter().enumerate().min_by_key(|(_, one)| one.priority);
            match lowest.map(|(place, one)| (place, one.priority)) {
                Some((place, priority)) if priority < data.priority => {
                    left = Some(self.remove(place));
                }
                _ => return Err(Ignored::TooManySources),
            }
        }
        if std::mem::take(&mut self.outage) {
            self.settles_until = Some(now + rules.settle);
        }
        self.sources.push(Source {
            cid: data.cid,
            serial,
            priority: data.priority,
            sync: 0,
            force_sync: false,
            sequence: data.sequence,
            heard: now,
            levels: Levels::default(),
            held: None,
            slot_priorities: None,
            head: None,
            changed: (rules.merge == Rule::Ltp).then(|| Box::new([0; SLOTS])),
            voice: Voice::new(id(&data.cid, self.number)),
        });
        self.sources_changed = true;
        Ok((self.sources.len() - 1, left))
    }

    fn terminate(
        &mut self,
        known: Option<usize>,
        sequence: u8,
        rules: &Rules,
    ) -> (Result<Heard, Ignored>, Option<u32>) {
        let Some((place, source)) = known.and_then(|place| Some((place, self.sources.get(place)?)))
        else {
            return (Ok(Heard::Nothing), None);
        };
        if is_stale(source.sequence, sequence) {
            return (Err(Ignored::Stale), None);
        }
        let left = self.remove(place);
        self.alarmed = false;
        self.resolve(rules.merge);
        (Ok(Heard::Changed), Some(left))
    }

    /// Shows what waited for the synchronisation packets of `universe`. Whether that is anything.
    pub(super) fn release(&mut self, universe: u16, rule: Rule) -> bool {
        let mut any = false;
        for source in self.sources.iter_mut().filter(|source| source.sync == universe) {
            if let Some(held) = source.held.take() {
                self.changes = self.changes.wrapping_add(1);
                any |= source.show(held.as_slice(), self.changes);
            }
        }
        self.waits = self.sources.iter().any(|source| source.held.is_some());
        if any {
            self.resolve(rule);
        }
        any
    }

    /// Shows what waits for synchronisation packets that are not to be waited for any more.
    pub(super) fn release_unsynced(&mut self, synced: &dyn Synced, rule: Rule) -> bool {
        let waits = |source: &&Source| synced.waits(source.sync, source.force_sync);
        let over = self.sources.iter().find(|source| source.held.is_some() && !waits(source));
        over.map(|source| source.sync).is_some_and(|sync| self.release(sync, rule))
    }

    /// Forgets who is lost and what is out of date. Whether the look may have changed; the serials
    /// of those who are lost are given to `left`.
    pub(super) fn expire(&mut self, now: Time, rule: Rule, left: &mut dyn FnMut(u32)) -> bool {
        let mut has_changed = self.settles_until.is_some_and(|until| until <= now);
        if has_changed {
            self.settles_until = None;
        }
        for source in &mut self.sources {
            has_changed |= source
                .slot_priorities
                .take_if(|priorities| now.since(priorities.heard) >= LOSS)
                .is_some();
        }
        if self.any_silent(now) {
            let before: Vec<_> = self.sources.iter().map(|source| source.serial).collect();
            has_changed |= self.drop_lost(now);
            for serial in before {
                if self.sources.iter().all(|source| source.serial != serial) {
                    left(serial);
                }
            }
        }
        if has_changed {
            self.resolve(rule);
        }
        has_changed
    }

    fn any_silent(&self, now: Time) -> bool {
        self.sources.iter().any(|source| source.is_silent(now))
    }

    /// Drops each silent source that the others have outlived: all of them were heard after it was
    /// due to be lost, or none is left that is not silent. Whether any was dropped.
    fn drop_lost(&mut self, now: Time) -> bool {
        let others = self.sources.iter().filter(|source| !source.is_silent(now));
        let outlived = others.map(|source| source.heard).min();
        let is_lost = |source: &Source| {
            source.is_silent(now) && outlived.is_none_or(|heard| heard >= source.heard + LOSS)
        };
        if !self.sources.iter().any(is_lost) {
            return false;
        }
        let before = self.top;
        while let Some(place) = self.sources.iter().rposition(is_lost) {
            self.remove(place);
        }
        self.alarmed = false;
        if self.sources.is_empty() {
            (self.outage, self.floor) = (true, before);
        }
        true
    }

    /// Takes a source out, and gives its serial.
    fn remove(&mut self, place: usize) -> u32 {
        let source = self.sources.remove(place);
        self.sources_changed = true;
        // Whoever came and went before anybody was told is not worth a word.
        if self.claims.is_some() && source.voice.is_told {
            self.gone.push(source.voice.id);
        }
        source.serial
    }

    /// Makes the look of what the sources send now.
    fn resolve(&mut self, rule: Rule) {
        let mut top = None;
        match &mut self.sources[..] {
            // What nearly every universe is: one source, one priority.
            [source] if source.slot_priorities.is_none() => {
                let levels = source.levels.as_slice();
                self.look.write(levels);
                top = (!levels.is_empty()).then_some(source.priority);
                if let Some(claims) = &mut self.claims {
                    claims.give(levels.len(), claim(source.serial, source.priority));
                }
            }
            sources => {
                for slot in 0..SLOTS {
                    let won = winner(sources, slot, rule);
                    if let Some((priority, level, _)) = won {
                        self.look.set(slot, level);
                        top = top.max(Some(priority));
                    }
                    if let Some(claims) = &mut self.claims {
                        let has = won.map(|(priority, _, serial)| claim(serial, priority));
                        claims.set(slot, has.unwrap_or(NOBODY));
                    }
                }
            }
        }
        // Without anybody the last look stays, and its priority is what a successor is held to.
        self.top = top.unwrap_or(self.top);
    }

    /// Whether the router may be told the look.
    pub(super) fn may_be_shown(&self, now: Time) -> bool {
        let settles = self.settles_until.is_some_and(|until| now < until);
        !settles || (self.top >= self.floor && !self.sources.is_empty())
    }

    /// Calls `changed` with what the router does not know yet, slot by slot.
    pub(super) fn advance(&mut self, changed: &mut dyn FnMut(Change)) {
        let look = self.look.as_slice();
        match &mut self.claims {
            Some(claims) => claims.advance(&mut self.told, look, changed),
            None => self.told.advance(look, |slot, level| {
                changed(Change { slot: slot as u16, level, claim: NOBODY, before: NOBODY });
            }),
        }
    }

    /// The router has forgotten everything: the next telling tells all slots.
    pub(super) fn forget_told(&mut self) {
        self.told = Levels::default();
        self.sources_changed = true;
        self.gone.clear();
        self.sources.iter_mut().for_each(|source| source.voice.forget_told());
        if let Some(claims) = &mut self.claims {
            claims.forget_told();
        }
    }

    /// All slots that were ever sent, from the first on.
    pub(super) fn look(&self) -> &[u8] {
        self.look.as_slice()
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn source(&self, serial: u32) -> Option<&Source> {
        self.sources.iter().find(|source| source.serial == serial)
    }

    pub(super) fn source_mut(&mut self, serial: u32) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.serial == serial)
    }

    /// The levels that the router was told.
    pub(super) fn told(&self) -> &[u8] {
        self.told.as_slice()
    }

    /// Who has each slot, where that is told.
    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// Those of whom the router is to be told that they are gone; asked once.
    pub(super) fn take_gone(&mut self) -> Vec<String> {
        std::mem::take(&mut self.gone)
    }

    /// Whether it is told whose each slot is.
    pub(super) fn tells_claims(&self) -> bool {
        self.claims.is_some()
    }
}

/// What the router calls a source in one universe: so it can leave this one and stay in another.
pub(super) fn id(cid: &Cid, universe: u16) -> String {
    let mut id = String::with_capacity(2 * ID_OCTETS + 6);
    for octet in cid.iter().take(ID_OCTETS) {
        let _ = write!(id, "{octet:02x}");
    }
    let _ = write!(id, ".{universe}");
    id
}

/// Priority, level and serial of the source that has `slot`.
fn winner(sources: &[Source], slot: usize, rule: Rule) -> Option<(u8, u8, u32)> {
    let mut best: Option<(u8, u32, &Source, u8)> = None;
    for source in sources {
        let Some((priority, level)) = source.bid(slot) else { continue };
        let weight = match (rule, &source.changed) {
            (Rule::Ltp, Some(changed)) => changed.get(slot).copied().unwrap_or(0),
            _ => u32::from(level),
        };
        if best.is_none_or(|(most, heaviest, ..)| (priority, weight) > (most, heaviest)) {
            best = Some((priority, weight, source, level));
        }
    }
    best.map(|(priority, _, source, level)| (priority, level, source.serial))
}

impl Source {
    /// Priority and level that it has for a slot, if it controls it.
    pub(super) fn bid(&self, slot: usize) -> Option<(u8, u8)> {
        let level = self.levels.as_slice().get(slot).copied()?;
        let priority = match &self.slot_priorities {
            None => self.priority,
            Some(each) => each.levels.as_slice().get(slot).copied().filter(|one| *one > 0)?,
        };
        Some((priority.min(PRIORITY_MAX), level))
    }

    fn levels(&mut self, slots: &[u8], waits: bool, change: u32) -> Heard {
        if waits {
            exactly(self.held.get_or_insert_default(), slots);
            return Heard::Held;
        }
        self.held = None;
        if self.show(slots, change) { Heard::Changed } else { Heard::Nothing }
    }

    /// Whether these are not the levels that it had.
    fn show(&mut self, slots: &[u8], change: u32) -> bool {
        let before = self.levels.as_slice();
        if before == slots {
            return false;
        }
        if let Some(changed) = &mut self.changed {
            for (slot, level) in slots.iter().enumerate() {
                if before.get(slot) != Some(level)
                    && let Some(at) = changed.get_mut(slot)
                {
                    *at = change;
                }
            }
        }
        exactly(&mut self.levels, slots);
        true
    }

    fn priorities(&mut self, now: Time, slots: &[u8]) -> Heard {
        let each = self.slot_priorities.get_or_insert_with(|| {
            Box::new(SlotPriorities { levels: Levels::dark(1), heard: now })
        });
        each.heard = now;
        if each.levels.as_slice() == slots {
            return Heard::Nothing;
        }
        exactly(&mut each.levels, slots);
        Heard::Changed
    }

    fn is_silent(&self, now: Time) -> bool {
        now.since(self.heard) >= LOSS
    }

    pub(super) const BYTES_MAX: usize = size_of::<Self>()
        + size_of::<Levels>()
        + size_of::<SlotPriorities>()
        + size_of::<[u32; SLOTS]>()
        + Voice::BYTES_MAX;
}

/// Makes `levels` these and no more.
fn exactly(levels: &mut Levels, slots: &[u8]) {
    if slots.len() < levels.as_slice().len() {
        *levels = Levels::default();
    }
    levels.write(slots);
}

impl Universe {
    /// Bytes of what is kept beside [`Universe`] itself, with as many sources as are allowed.
    pub(super) const fn more_bytes_max(sources: usize, claims: bool) -> usize {
        sources * Source::BYTES_MAX + if claims { size_of::<Claims>() } else { 0 }
    }
}

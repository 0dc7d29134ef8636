//! Universes that come from the network: who sends them, what they look like, what waits for a
//! sync.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use clasp_rt_core::time::{Span, Time};

use super::NUMBERS;
use super::packet::{Dmx, PortAddress, is_stale};
use super::station::LISTED_MAX;
use crate::merge::{Levels, Merge, Rule};
use crate::universes::contest::{Change, Claims, NOBODY, UNDECLARED, Voice, claim};
use crate::universes::table::Table;
use crate::uplink::source_id;

/// Senders merged into one universe; Art-Net allows two.
const SENDERS_MAX: usize = 2;

/// A silent sender is lost after this.
const SENDER_TIMEOUT: Span = Span::from_secs(10);

/// Without an ArtSync for this long, frames are shown at once again.
const SYNC_TIMEOUT: Span = Span::from_secs(4);

/// A sender that was silent for this long may go on with any sequence number.
const SEQUENCE_GAP: Span = Span::from_secs(1);

/// Serial numbers of senders fit into three octets.
const SERIAL_MAX: u32 = 0x00FF_FFFF;

/// Universes whose rule a controller may choose: as many as our replies can list.
const RULES_MAX: usize = LISTED_MAX;

/// Senders of ArtSync that are remembered; frames of further ones are shown at once.
const SYNCS_MAX: usize = 32;

pub(super) struct Inputs {
    rule: Rule,
    /// The router is told whose each slot is.
    claims: bool,
    universes: Table<Universe>,
    /// Places of the universes whose look the router is to be told, the longest first.
    ready: VecDeque<u16>,
    /// Places of those whose look waits for an ArtSync.
    waiting: Vec<u16>,
    /// Who sends ArtSync, and when last.
    syncs: Vec<(IpAddr, Time)>,
    /// Universes of which a controller has chosen how they merge.
    rules: BTreeMap<PortAddress, Rule>,
}

pub(super) struct Universe {
    pub(super) port_address: PortAddress,
    merge: Merge<IpAddr>,
    /// Of each sender.
    sequences: Vec<Sequence>,
    /// What the router was told.
    told: Levels,
    state: State,
    sole: Sole,
    /// Who has each slot, and what the router knows of each sender; where that is told.
    claims: Option<Box<Claims>>,
    voices: Vec<(IpAddr, u32, Voice)>,
    /// Senders that were ever told apart.
    serial: u32,
    gone: Vec<String>,
}

/// The last sequence number of a sender, and when it came.
struct Sequence {
    sender: IpAddr,
    last: u8,
    heard: Time,
}

impl Sequence {
    fn is_stale(&self, now: Time, next: u8) -> bool {
        // Nearly always it is the next.
        next.wrapping_sub(self.last) != 1
            && is_stale(self.last, next)
            && now.since(self.heard) < SEQUENCE_GAP
    }
}

/// Whether a controller has ended the merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sole {
    No,
    /// Whoever sends next is the only one.
    Next,
    /// Until this sender is lost.
    Is(IpAddr),
}

/// Where a universe's look is on its way to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Told,
    Ready,
    /// For an ArtSync.
    Waits,
}

/// Why a frame changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Stale,
    ThirdSender,
    /// A controller has given the universe to another sender.
    MergeCancelled,
    TooManyUniverses,
}

impl Inputs {
    pub(super) fn new(rule: Rule, claims: bool, universes_max: usize) -> Self {
        Self {
            rule,
            claims,
            universes: Table::new(NUMBERS, universes_max),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            syncs: Vec::new(),
            rules: BTreeMap::new(),
        }
    }

    /// Takes a frame; what changes by it waits for [`Inputs::next_ready`] or a sync.
    pub(super) fn receive(
        &mut self,
        now: Time,
        from: IpAddr,
        dmx: &Dmx<'_>,
    ) -> Result<(), Ignored> {
        let port_address = dmx.port_address;
        let Self { rule, rules, claims, universes, .. } = self;
        let rule = || rules.get(&port_address).copied().unwrap_or(*rule);
        let new = || Universe::new(port_address, rule(), *claims);
        let place = universes.enter(port_address.number(), new);
        let found = place.and_then(|place| self.universes.get_mut(place).zip(Some(place as u16)));
        let (universe, place) = found.ok_or(Ignored::TooManyUniverses)?;
        let has_changed = universe.receive(now, from, dmx)?;
        if !has_changed && universe.state != State::Waits {
            return Ok(());
        }
        let is_synced = self
            .syncs
            .iter()
            .any(|(sender, heard)| *sender == from && now.since(*heard) < SYNC_TIMEOUT);
        let waits = is_synced && !universe.merge.is_merging();
        match (universe.state, waits) {
            (State::Ready, _) | (State::Waits, true) => {}
            (State::Told, true) => {
                universe.state = State::Waits;
                self.waiting.push(place);
            }
            (State::Told, false) => {
                universe.state = State::Ready;
                self.ready.push_back(place);
            }
            (State::Waits, false) => {
                universe.state = State::Ready;
                self.waiting.retain(|waiting| *waiting != place);
                self.ready.push_back(place);
            }
        }
        Ok(())
    }

    /// Takes a frame that repeats what its sender says, and by which nothing changes. `false`:
    /// there is more to it, and nothing was taken.
    pub(super) fn repeat(&mut self, now: Time, from: IpAddr, dmx: &Dmx<'_>) -> bool {
        let place = self.universes.place(dmx.port_address.number());
        let universe = place.and_then(|place| self.universes.get_mut(place));
        universe.is_some_and(|universe| universe.repeat(now, from, dmx))
    }

    /// Shows what the sender of this ArtSync has sent, unless it is merged with another's.
    pub(super) fn sync(&mut self, now: Time, from: IpAddr) {
        if let Some((_, heard)) = self.syncs.iter_mut().find(|(sender, _)| *sender == from) {
            *heard = now;
        } else if self.syncs.len() < SYNCS_MAX {
            self.syncs.push((from, now));
        }
        self.release(|universe, _| universe.merge.has_sender(from));
    }

    /// Forgets silent senders, and shows what waited for a sync that will not come.
    pub(super) fn expire(&mut self, now: Time) {
        let before = self.syncs.len();
        self.syncs.retain(|(_, heard)| now.since(*heard) < SYNC_TIMEOUT);
        if self.syncs.len() < before {
            let is_awaited = |universe: &Universe, syncs: &[(IpAddr, Time)]| {
                syncs.iter().any(|(sender, _)| universe.merge.has_sender(*sender))
            };
            self.release(|universe, syncs| !is_awaited(universe, syncs));
        }
        for (place, universe) in (0..).zip(self.universes.iter_mut()) {
            if universe.expire(now) && universe.state == State::Told {
                universe.state = State::Ready;
                self.ready.push_back(place);
            }
        }
    }

    /// Makes those ready that wait no longer.
    fn release(&mut self, is_over: impl Fn(&Universe, &[(IpAddr, Time)]) -> bool) {
        let Self { universes, ready, waiting, syncs, .. } = self;
        waiting.retain(|&place| {
            let Some(universe) = universes.get_mut(usize::from(place)) else { return false };
            let is_over = is_over(universe, syncs);
            if is_over {
                universe.state = State::Ready;
                ready.push_back(place);
            }
            !is_over
        });
    }

    /// The universe whose look the router is to be told next, by [`Universe::advance`]. It is
    /// always the newest look: what came meanwhile takes no place of its own.
    pub(super) fn next_ready(&mut self) -> Option<&mut Universe> {
        let place = self.ready.pop_front()?;
        let universe = self.universes.get_mut(usize::from(place))?;
        universe.state = State::Told;
        Some(universe)
    }

    /// The router was told a part of this universe only.
    pub(super) fn tell_again(&mut self, port_address: PortAddress) {
        self.alter(port_address, |_| true);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Universe> {
        self.universes.iter()
    }

    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The router has forgotten everything: the next telling tells all slots.
    pub(super) fn forget_told(&mut self) {
        for (place, universe) in (0..).zip(self.universes.iter_mut()) {
            universe.forget_told();
            if universe.state == State::Told {
                universe.state = State::Ready;
                self.ready.push_back(place);
            }
        }
    }

    pub(super) fn port_addresses(&self) -> impl Iterator<Item = PortAddress> {
        self.universes.iter().map(|universe| universe.port_address)
    }

    pub(super) fn get(&self, port_address: PortAddress) -> Option<&Universe> {
        self.universes.find(port_address.number())
    }

    /// How the senders of `port_address` are merged.
    pub(super) fn rule_of(&self, port_address: PortAddress) -> Rule {
        self.rules.get(&port_address).copied().unwrap_or(self.rule)
    }

    /// Merges `port_address` by `rule` from now on. `false`: no room to remember it.
    pub(super) fn set_rule(&mut self, port_address: PortAddress, rule: Rule) -> bool {
        if self.rules.len() >= RULES_MAX && !self.rules.contains_key(&port_address) {
            return false;
        }
        self.rules.insert(port_address, rule);
        self.alter(port_address, |universe| universe.merge.set_rule(rule));
        true
    }

    /// Gives `port_address` to whoever sends next, until that sender is lost.
    pub(super) fn cancel_merge(&mut self, port_address: PortAddress) {
        self.alter(port_address, |universe| {
            if universe.merge.is_heard() {
                universe.sole = Sole::Next;
            }
            false
        });
    }

    /// All slots of `port_address` to 0, until the next frame.
    pub(super) fn clear(&mut self, port_address: PortAddress) {
        self.alter(port_address, |universe| {
            universe.merge.clear();
            true
        });
    }

    /// Changes a universe that was heard; where `change` says that its look changed, the router is
    /// told.
    fn alter(&mut self, port_address: PortAddress, change: impl FnOnce(&mut Universe) -> bool) {
        let Some(place) = self.universes.place(port_address.number()) else { return };
        let Some(universe) = self.universes.get_mut(place) else { return };
        if change(universe) && universe.state == State::Told {
            universe.state = State::Ready;
            self.ready.push_back(place as u16);
        }
    }

    /// Bytes when all of `universes` are in use, each with as many senders as are merged.
    pub(super) const fn memory_bytes_for(universes: usize, claims: bool) -> u64 {
        let voice = if claims { Voice::BYTES_MAX } else { 0 };
        let sender = Merge::<IpAddr>::SENDER_BYTES + size_of::<Sequence>() + voice;
        let senders = SENDERS_MAX * sender + if claims { size_of::<Claims>() } else { 0 };
        Table::<Universe>::memory_bytes_for(NUMBERS, universes)
            + (universes * (senders + 2 * size_of::<u16>())) as u64
    }
}

impl Universe {
    fn new(port_address: PortAddress, rule: Rule, claims: bool) -> Self {
        Self {
            port_address,
            merge: Merge::new(rule, SENDERS_MAX, SENDER_TIMEOUT),
            sequences: Vec::with_capacity(SENDERS_MAX),
            told: Levels::default(),
            state: State::Told,
            sole: Sole::No,
            claims: claims.then(|| Box::new(Claims::EMPTY)),
            voices: Vec::new(),
            serial: 0,
            gone: Vec::new(),
        }
    }

    fn forget_told(&mut self) {
        self.told = Levels::default();
        self.gone.clear();
        self.voices.iter_mut().for_each(|(.., voice)| voice.forget_told());
        if let Some(claims) = &mut self.claims {
            claims.forget_told();
        }
    }

    /// Looks who sends now, and who has each slot.
    pub(super) fn contest(&mut self) {
        let Self { merge, claims, voices, serial, gone, port_address, .. } = self;
        let Some(claims) = claims else { return };
        let has_left = |(sender, ..): &mut (IpAddr, u32, Voice)| !merge.has_sender(*sender);
        let left = voices.extract_if(.., has_left).map(|(.., voice)| voice);
        gone.extend(left.filter(|voice| voice.is_told).map(|voice| voice.id));
        for sender in merge.senders() {
            if voices.iter().all(|(known, ..)| *known != sender) {
                *serial = *serial % SERIAL_MAX + 1;
                voices.push((sender, *serial, Voice::new(id(sender, *port_address))));
            }
        }
        let look = merge.look().as_slice().len();
        match &voices[..] {
            [] => claims.give(0, NOBODY),
            [(sender, serial, _)] => {
                let sent = merge.levels_of(*sender).map_or(0, |levels| levels.as_slice().len());
                claims.give(sent, claim(*serial, UNDECLARED));
            }
            voices => (0..look).for_each(|slot| {
                let holder = merge.holder(slot);
                let voice = voices.iter().find(|(sender, ..)| Some(*sender) == holder);
                let has = voice.map(|(_, serial, _)| claim(*serial, UNDECLARED));
                claims.set(slot, has.unwrap_or(NOBODY));
            }),
        }
    }

    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    pub(super) fn voices(&self) -> &[(IpAddr, u32, Voice)] {
        &self.voices
    }

    pub(super) fn voice(&mut self, serial: u32) -> Option<&mut Voice> {
        let mut voices = self.voices.iter_mut();
        voices.find(|(_, known, _)| *known == serial).map(|(.., voice)| voice)
    }

    /// The level that a sender sends.
    pub(super) fn level_of(&self, serial: u32, slot: usize) -> Option<u8> {
        let (sender, ..) = self.voices.iter().find(|(_, known, _)| *known == serial)?;
        self.merge.levels_of(*sender)?.as_slice().get(slot).copied()
    }

    pub(super) fn told(&self) -> &[u8] {
        self.told.as_slice()
    }

    pub(super) fn take_gone(&mut self) -> Vec<String> {
        std::mem::take(&mut self.gone)
    }

    /// As [`Universe::receive`], of a frame of a known sender that changes nothing.
    fn repeat(&mut self, now: Time, from: IpAddr, dmx: &Dmx<'_>) -> bool {
        let is_heard = match self.sole {
            Sole::No => self.state != State::Waits,
            Sole::Is(sole) => self.state != State::Waits && sole == from,
            Sole::Next => false,
        };
        let known = self.sequences.iter_mut().find(|one| one.sender == from);
        match known {
            Some(known) if is_heard && !known.is_stale(now, dmx.sequence) => {
                let repeats = self.merge.repeat(now, from, dmx.levels);
                if repeats {
                    (known.last, known.heard) = (dmx.sequence, now);
                }
                repeats
            }
            _ => false,
        }
    }

    /// Whether the look may have changed.
    fn receive(&mut self, now: Time, from: IpAddr, dmx: &Dmx<'_>) -> Result<bool, Ignored> {
        if matches!(self.sole, Sole::Is(sole) if sole != from) {
            return Err(Ignored::MergeCancelled);
        }
        let known = self.sequences.iter_mut().find(|known| known.sender == from);
        let is_known = known.is_some();
        if let Some(known) = known {
            if known.is_stale(now, dmx.sequence) {
                return Err(Ignored::Stale);
            }
            (known.last, known.heard) = (dmx.sequence, now);
        }
        let mut has_changed = false;
        if self.sole == Sole::Next {
            has_changed = self.merge.keep_only(from);
            self.sole = Sole::Is(from);
        }
        has_changed |=
            self.merge.receive(now, from, dmx.levels).map_err(|_| Ignored::ThirdSender)?;
        if !is_known {
            self.sequences.retain(|known| self.merge.has_sender(known.sender));
            self.sequences.push(Sequence { sender: from, last: dmx.sequence, heard: now });
        }
        Ok(has_changed)
    }

    /// Forgets silent senders. Whether the look may have changed.
    fn expire(&mut self, now: Time) -> bool {
        let has_changed = self.merge.expire(now);
        if let Sole::Is(sole) = self.sole
            && !self.merge.has_sender(sole)
        {
            self.sole = Sole::No;
        }
        has_changed
    }

    /// Calls `changed` with each slot, from 0, that the router does not know yet.
    pub(super) fn advance(&mut self, changed: impl FnMut(usize, u8)) {
        self.told.advance(self.merge.look().as_slice(), changed);
    }

    /// The same with whose each slot is.
    pub(super) fn advance_claims(&mut self, changed: &mut dyn FnMut(Change)) {
        if let Some(claims) = &mut self.claims {
            claims.advance(&mut self.told, self.merge.look().as_slice(), changed);
        }
    }

    /// All slots that were ever sent, from the first on.
    pub(super) fn look(&self) -> &[u8] {
        self.merge.look().as_slice()
    }

    pub(super) fn is_heard(&self) -> bool {
        self.merge.is_heard()
    }

    pub(super) fn is_merging(&self) -> bool {
        self.merge.is_merging()
    }
}

/// What the router calls a sender in one universe: so it can leave this one and stay in another.
pub(super) fn id(sender: IpAddr, port_address: PortAddress) -> String {
    source_id("artnet", &format!("{sender}.{}", port_address.number()))
}

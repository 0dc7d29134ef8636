//! Universes that come from the network: which are known, what waits for synchronisation, and what
//! the router is to be told next.

use std::collections::VecDeque;
use std::net::IpAddr;

use clasp_rt_core::time::Time;

use super::packet::{Data, Head, Sync, split};
use super::senders::Senders;
use super::universe::{Heard, Ignored, LOSS, Rules, Synced, Universe};
use super::{NUMBERS, OnSyncLost};
use crate::universes::Number;
use crate::universes::table::Table;

/// Universes of synchronisation packets that are remembered; frames that wait for further ones are
/// shown at once.
const SYNCS_MAX: usize = 32;

pub(super) struct Inputs {
    rules: Rules,
    /// When the bridge has listened for the settling time; `None` before the first input.
    settled: Option<Time>,
    universes: Table<Universe>,
    pub(super) senders: Senders,
    syncs: Syncs,
    /// Places of the universes of which the router is to be told something, the longest first.
    ready: VecDeque<u16>,
    /// Places of those of which a frame waits for synchronisation.
    waiting: Vec<u16>,
}

/// When each synchronisation was last heard.
struct Syncs {
    lost: OnSyncLost,
    known: Vec<Known>,
    now: Time,
}

struct Known {
    universe: u16,
    /// `None`: frames name it, but no packet of it has come yet.
    heard: Option<Time>,
    /// When a frame or a packet last named it.
    named: Time,
}

/// What became of a packet of levels or priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Taken,
    /// Taken; and its synchronisation packets come in a group that was not named before.
    Joins(u16),
    Ignored(Ignored),
    TooManyUniverses,
    TooManySenders,
}

impl Inputs {
    pub(super) fn new(rules: Rules, lost: OnSyncLost, universes_max: usize) -> Self {
        Self {
            rules,
            settled: None,
            universes: Table::new(NUMBERS, universes_max),
            senders: Senders::default(),
            syncs: Syncs { lost, known: Vec::new(), now: Time(0) },
            ready: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// From now on the network is listened to.
    pub(super) fn begin(&mut self, now: Time) {
        self.settled.get_or_insert(now + self.rules.settle);
    }

    /// Takes a packet; what changes by it waits for [`Inputs::next_ready`] or for synchronisation.
    pub(super) fn receive(&mut self, now: Time, from: IpAddr, data: &Data<'_>) -> Received {
        let number = data.universe.number();
        self.syncs.now = now;
        let joins = data.sync != 0 && !data.terminated && self.syncs.name(now, data.sync);
        let (rules, settled) = (self.rules, self.settled.filter(|settled| now < *settled));
        let place = if data.terminated {
            // Nobody's good-bye makes a universe.
            self.universes.place(number)
        } else {
            self.universes.enter(number, || Universe::new(number, &rules, settled))
        };
        let found = place.and_then(|place| self.universes.get_mut(place).zip(Some(place as u16)));
        let Some((universe, place)) = found else {
            return if data.terminated { Received::Taken } else { Received::TooManyUniverses };
        };
        // Who is known, or only says good-bye, needs no entry.
        let serial = if universe.knows(&data.cid) || data.terminated {
            None
        } else {
            match self.senders.enter(&data.cid, data.name, from) {
                Some(serial) => Some(serial),
                None => return Received::TooManySenders,
            }
        };
        let (heard, left) =
            universe.receive(now, serial.unwrap_or_default(), data, &rules, &self.syncs);
        if let Some(serial) = serial
            && universe.knows(&data.cid)
        {
            self.senders.came(serial);
        }
        left.into_iter().for_each(|serial| self.senders.left(serial));
        let waits = universe.waits;
        match heard {
            Ok(Heard::Nothing | Heard::Held) => {}
            Ok(Heard::Changed) => self.changed(place),
            Err(ignored) => {
                if left.is_some() {
                    self.changed(place);
                }
                return Received::Ignored(ignored);
            }
        }
        if waits && !self.waiting.contains(&place) {
            self.waiting.push(place);
        }
        if joins { Received::Joins(data.sync) } else { Received::Taken }
    }

    /// Keeps what a packet that was taken says before its slots, to know it again.
    pub(super) fn note(&mut self, data: &Data<'_>, head: &Head) {
        let place = self.universes.place(data.universe.number());
        if let Some(universe) = place.and_then(|place| self.universes.get_mut(place)) {
            universe.note(data, head);
        }
    }

    /// Takes a packet that repeats what its source says, and by which nothing changes. `false`:
    /// there is more to it, and nothing was taken.
    pub(super) fn repeat(&mut self, now: Time, bytes: &[u8]) -> bool {
        let Some((number, head, slots)) = split(bytes) else { return false };
        let place = self.universes.place(number);
        let universe = place.and_then(|place| self.universes.get_mut(place));
        universe.is_some_and(|universe| universe.repeat(now, head, slots))
    }

    /// The first packet too many of a universe: whether an alarm is due.
    pub(super) fn alarm(&mut self, number: u16) -> Option<&Universe> {
        let place = self.universes.place(number)?;
        let universe = self.universes.get_mut(place)?;
        (!std::mem::replace(&mut universe.alarmed, true)).then_some(&*universe)
    }

    /// Shows what waits for this packet.
    pub(super) fn sync(&mut self, now: Time, sync: &Sync) {
        let number = sync.universe.number();
        self.syncs.heard(now, number);
        let rule = self.rules.merge;
        self.release(|universe, _| universe.release(number, rule));
    }

    /// Calls `release` with each universe that waits; it says whether the look changed.
    fn release(&mut self, mut release: impl FnMut(&mut Universe, &Syncs) -> bool) {
        let Self { universes, waiting, syncs, ready, .. } = self;
        waiting.retain(|&place| {
            let Some(universe) = universes.get_mut(usize::from(place)) else { return false };
            if release(universe, syncs) && !std::mem::replace(&mut universe.is_ready, true) {
                ready.push_back(place);
            }
            universe.waits
        });
    }

    fn changed(&mut self, place: u16) {
        if let Some(universe) = self.universes.get_mut(usize::from(place))
            && !std::mem::replace(&mut universe.is_ready, true)
        {
            self.ready.push_back(place);
        }
    }

    /// Forgets silent sources, and shows what waits for synchronisation that will not come.
    pub(super) fn expire(&mut self, now: Time) {
        let rule = self.rules.merge;
        self.syncs.now = now;
        self.release(|universe, syncs| universe.release_unsynced(syncs, rule));
        let Self { universes, ready, senders, .. } = self;
        for (place, universe) in (0..).zip(universes.iter_mut()) {
            let has_changed = universe.expire(now, rule, &mut |serial| senders.left(serial));
            let is_new = has_changed || universe.sources_changed;
            if is_new && !std::mem::replace(&mut universe.is_ready, true) {
                ready.push_back(place);
            }
        }
    }

    /// The universe of which the router is to be told next. It is always the newest look: what came
    /// meanwhile takes no place of its own. One that settles is left for later.
    pub(super) fn next_ready(&mut self, now: Time) -> Option<(&mut Universe, &Senders)> {
        while let Some(place) = self.ready.pop_front() {
            let shown = self.universes.get_mut(usize::from(place)).is_some_and(|universe| {
                universe.is_ready = false;
                universe.may_be_shown(now)
            });
            if shown {
                let universe = self.universes.get_mut(usize::from(place))?;
                return Some((universe, &self.senders));
            }
        }
        None
    }

    /// The router was told a part of this universe only.
    pub(super) fn tell_again(&mut self, number: u16) {
        if let Some(place) = self.universes.place(number) {
            self.changed(place as u16);
        }
    }

    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Universe> {
        self.universes.iter()
    }

    /// The router has forgotten everything: the next telling tells all slots.
    pub(super) fn forget_told(&mut self) {
        let Self { universes, ready, .. } = self;
        for (place, universe) in (0..).zip(universes.iter_mut()) {
            universe.forget_told();
            if !std::mem::replace(&mut universe.is_ready, true) {
                ready.push_back(place);
            }
        }
    }

    /// Bytes when all of `universes` are in use, each with as many sources as are allowed.
    pub(super) const fn memory_bytes_for(universes: usize, rules: &Rules) -> u64 {
        let more = Universe::more_bytes_max(rules.sources_max, rules.claims);
        Table::<Universe>::memory_bytes_for(NUMBERS, universes)
            + (universes * (more + 2 * size_of::<u16>())) as u64
    }
}

impl Syncs {
    /// A frame names a synchronisation. Whether that was not known before.
    fn name(&mut self, now: Time, universe: u16) -> bool {
        if let Some(known) = self.known.iter_mut().find(|known| known.universe == universe) {
            known.named = now;
            return false;
        }
        if self.known.len() == SYNCS_MAX {
            // One that nobody names any more gives way.
            self.known.retain(|known| now.since(known.named) < LOSS);
        }
        let has_room = self.known.len() < SYNCS_MAX;
        if has_room {
            self.known.push(Known { universe, heard: None, named: now });
        }
        has_room
    }

    /// A packet that no frame has named yet counts, too.
    fn heard(&mut self, now: Time, universe: u16) {
        self.now = now;
        self.name(now, universe);
        if let Some(known) = self.known.iter_mut().find(|known| known.universe == universe) {
            known.heard = Some(now);
        }
    }
}

impl Synced for Syncs {
    fn waits(&self, universe: u16, force_sync: bool) -> bool {
        let known = self.known.iter().find(|known| known.universe == universe);
        let Some(heard) = known.and_then(|known| known.heard) else { return false };
        let is_lost = self.now.since(heard) >= LOSS;
        !is_lost || (self.lost == OnSyncLost::Lock && !force_sync)
    }
}

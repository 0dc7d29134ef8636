//! What the router is told of a universe: levels, whose they are, and who is heard.
//!
//! Where sources are told, a bundle says before the SETs of each source whose they are: an event
//! [`SOURCE`] with the source's id and priority. An id is the first 16 digits of the CID and the
//! universe, so that a source can leave one universe and stay in another. When a slot passes from
//! one source to another, the one that lost it is told there with priority 0, behind the winner:
//! the router must not go on with what it heard of the loser last.

use std::fmt::Write;

use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{ArrayWriter, MapWriter, push_bool, push_bytes, push_i64, push_str};

use super::discovery;
use super::packet::Cid;
use super::senders::{Senders, hyphenated};
use super::universe::{Change, NOBODY, Universe};
use crate::universes::{Mode, telling};
use crate::uplink::Uplink;
use crate::{Counters, Out};

/// Where the router is told whose the SETs are that follow in a bundle.
const SOURCE: &str = "/clasp/source";

/// Octets of a CID that an id has.
const ID_OCTETS: usize = 8;

pub(super) struct Telling {
    namespace: String,
    mode: Mode,
    words: telling::Telling,
    /// Of the universe in hand.
    changes: Vec<Change>,
    address: String,
}

/// The router's side of a bridge, and what it counts.
pub(super) struct Ear<'a> {
    pub(super) uplink: &'a mut Uplink,
    pub(super) counters: &'a mut Counters,
    pub(super) out: &'a mut dyn Out,
}

impl Telling {
    pub(super) fn new(namespace: &str, mode: Mode, normalize: bool) -> Self {
        Self {
            namespace: namespace.to_owned(),
            mode,
            words: telling::Telling::new(namespace, normalize),
            changes: Vec::new(),
            address: String::new(),
        }
    }

    /// Tells what the router does not know of `universe`.
    pub(super) fn tell(&mut self, universe: &mut Universe, senders: &Senders, ear: &mut Ear<'_>) {
        if std::mem::take(&mut universe.sources_changed) {
            self.tell_sources(universe, senders, ear);
        }
        self.words.begin(universe.number);
        let Self { mode, words, changes, .. } = self;
        changes.clear();
        universe.advance(|change| changes.push(change));
        match mode {
            Mode::Universe if changes.is_empty() => {}
            Mode::Universe => {
                let look = universe.look();
                let address = words.begin(universe.number);
                ear.uplink.set(address, |value| push_bytes(value, look), ear.counters, ear.out);
            }
            Mode::Channel => self.tell_slots(universe, senders, ear),
        }
        ear.uplink.send(None, ear.counters, ear.out);
        // Their claims end when those who have the slots now are known.
        for cid in universe.take_gone() {
            self.mark(&cid, universe.number, Mark::Release, ear);
        }
        ear.uplink.send(None, ear.counters, ear.out);
    }

    /// The slots that changed, by source.
    fn tell_slots(&mut self, universe: &mut Universe, senders: &Senders, ear: &mut Ear<'_>) {
        let mut changes = std::mem::take(&mut self.changes);
        let number = universe.number;
        if !universe.tells_claims() {
            for change in &changes {
                let set = self.words.slot(change.slot.into(), change.level);
                ear.uplink.add(set, ear.counters, ear.out);
            }
            self.changes = changes;
            return;
        }
        changes.sort_by_key(|change| change.claim);
        for source in changes.chunk_by(|a, b| a.claim >> 8 == b.claim >> 8) {
            if let Some(first) = source.first() {
                self.describe(universe, first.claim >> 8, senders, ear);
            }
        }
        for source in changes.chunk_by(|a, b| a.claim == b.claim) {
            let Some(first) = source.first() else { continue };
            let cid = universe.source_mut(first.claim >> 8).map(|source| source.cid);
            match cid {
                Some(cid) => self.mark(&cid, number, Mark::Writes(first.claim as u8), ear),
                // A held look: it gives way to whoever comes.
                None => self.mark(&[0; 16], number, Mark::Writes(0), ear),
            }
            self.slots(source.iter(), ear);
        }
        // Who has lost a slot to another.
        changes.retain(|change| change.before != NOBODY && change.before >> 8 != change.claim >> 8);
        changes.sort_by_key(|change| change.before >> 8);
        for source in changes.chunk_by(|a, b| a.before >> 8 == b.before >> 8) {
            let Some(first) = source.first() else { continue };
            let Some(cid) = universe.source_mut(first.before >> 8).map(|source| source.cid) else {
                continue;
            };
            self.mark(&cid, number, Mark::Writes(0), ear);
            self.slots(source.iter(), ear);
        }
        self.changes = changes;
    }

    fn slots<'c>(&mut self, changes: impl Iterator<Item = &'c Change>, ear: &mut Ear<'_>) {
        for change in changes {
            let set = self.words.slot(change.slot.into(), change.level);
            ear.uplink.add(set, ear.counters, ear.out);
        }
    }

    /// Says who a source is, if the router does not know it: `/clasp/source/<id>`.
    fn describe(
        &mut self,
        universe: &mut Universe,
        serial: u32,
        senders: &Senders,
        ear: &mut Ear<'_>,
    ) {
        let number = universe.number;
        let Some(source) = universe.source_mut(serial).filter(|source| !source.is_told) else {
            return;
        };
        source.is_told = true;
        let Some(sender) = senders.get(serial) else { return };
        self.address.clear();
        let _ = write!(self.address, "{SOURCE}/{}", id(&source.cid, number));
        let push = |value: &mut Vec<u8>| {
            let mut map = MapWriter::start(value);
            push_str(map.entry("protocol")?, "sacn")?;
            push_str(map.entry("name")?, &sender.name)?;
            push_str(map.entry("host")?, &sender.host.to_string())?;
            push_i64(map.entry("universe")?, number.into());
            Ok(())
        };
        ear.uplink.set(&self.address, push, ear.counters, ear.out);
    }

    /// Who is heard in a universe, and the priority that won it.
    fn tell_sources(&mut self, universe: &Universe, senders: &Senders, ear: &mut Ear<'_>) {
        let Ear { uplink, counters, out } = ear;
        let number = universe.number;
        self.address.clear();
        let _ = write!(self.address, "{}/{number}/sources", self.namespace);
        let push = |value: &mut Vec<u8>| {
            let mut array = ArrayWriter::start(value);
            for source in universe.sources() {
                let sender = senders.get(source.serial);
                let mut map = MapWriter::start(array.item()?);
                push_str(map.entry("cid")?, &hyphenated(&source.cid))?;
                push_str(map.entry("name")?, sender.map_or("", |sender| &sender.name))?;
                let host = sender.map(|sender| sender.host.to_string());
                push_str(map.entry("host")?, &host.unwrap_or_default())?;
                push_i64(map.entry("priority")?, source.priority.into());
            }
            Ok(())
        };
        uplink.set(&self.address, push, counters, *out);
        let highest = universe.sources().iter().map(|source| source.priority).max();
        if let Some(highest) = highest {
            self.address.clear();
            let _ = write!(self.address, "{}/{number}/priority", self.namespace);
            let push = |value: &mut Vec<u8>| {
                push_i64(value, highest.into());
                Ok(())
            };
            uplink.set(&self.address, push, counters, *out);
        }
    }

    /// Says that the sources of all universes are there, although they change nothing.
    pub(super) fn tell_alive<'u>(
        &mut self,
        universes: impl Iterator<Item = &'u Universe>,
        ear: &mut Ear<'_>,
    ) {
        for universe in universes.filter(|universe| universe.tells_claims()) {
            for source in universe.sources().iter().filter(|source| source.is_told) {
                self.mark(&source.cid, universe.number, Mark::Alive, ear);
            }
        }
        ear.uplink.send(None, ear.counters, ear.out);
    }

    /// Raises the alarm that more sources send a universe than are heard: an event
    /// `{namespace}/{universe}/alarm`.
    pub(super) fn alarm(&mut self, universe: &Universe, refused: &Cid, ear: &mut Ear<'_>) {
        self.address.clear();
        let _ = write!(self.address, "{}/{}/alarm", self.namespace, universe.number);
        let push = |value: &mut Vec<u8>| {
            let mut map = MapWriter::start(value);
            push_str(map.entry("alarm")?, "too many sources")?;
            push_i64(map.entry("heard")?, universe.sources().len() as i64);
            push_str(map.entry("ignored")?, &hyphenated(refused))?;
            Ok(())
        };
        let Ear { uplink, counters, out } = ear;
        uplink.publish(&self.address, Signal::Event, push, counters, *out);
        uplink.send(None, counters, *out);
    }

    /// What a source says it sends; nothing any more where it is `None`.
    pub(super) fn tell_discovered(
        &mut self,
        cid: &Cid,
        source: Option<&discovery::Source>,
        ear: &mut Ear<'_>,
    ) {
        self.address.clear();
        let _ = write!(self.address, "{}/discovery/{}", self.namespace, hyphenated(cid));
        let push = |value: &mut Vec<u8>| {
            let mut map = MapWriter::start(value);
            if let Some(source) = source {
                push_str(map.entry("name")?, &source.name)?;
                push_str(map.entry("host")?, &source.host.to_string())?;
            }
            let mut list = ArrayWriter::start(map.entry("universes")?);
            for universe in source.map_or(&[][..], |source| &source.universes) {
                push_i64(list.item()?, (*universe).into());
            }
            Ok(())
        };
        let Ear { uplink, counters, out } = ear;
        uplink.set(&self.address, push, counters, *out);
        uplink.send(None, counters, *out);
    }

    fn mark(&mut self, cid: &Cid, universe: u16, mark: Mark, ear: &mut Ear<'_>) {
        let id = id(cid, universe);
        let push = |value: &mut Vec<u8>| {
            let mut map = MapWriter::start(value);
            push_str(map.entry("id")?, &id)?;
            match mark {
                Mark::Writes(priority) => push_i64(map.entry("priority")?, priority.into()),
                Mark::Alive => push_bool(map.entry("alive")?, true),
                Mark::Release => push_bool(map.entry("release")?, true),
            }
            Ok(())
        };
        let Ear { uplink, counters, out } = ear;
        uplink.publish(SOURCE, Signal::Event, push, counters, *out);
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Writes(u8),
    Alive,
    Release,
}

/// What the router calls a source in one universe.
fn id(cid: &Cid, universe: u16) -> String {
    let mut id = String::with_capacity(2 * ID_OCTETS + 6);
    for octet in cid.iter().take(ID_OCTETS) {
        let _ = write!(id, "{octet:02x}");
    }
    let _ = write!(id, ".{universe}");
    id
}

//! What the router is told of a universe: levels, whose they are, and who is heard.

use std::fmt::Write;

use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{ArrayWriter, MapWriter, push_bytes, push_i64, push_str};

use super::input::Inputs;
use super::packet::Cid;
use super::senders::{Senders, hyphenated};
use super::universe::{self, Universe};
use super::{Config, discovery};
use crate::universes::contest::{Change, Claims, Contest, Ear, Teller, Voice};
use crate::universes::{Mode, telling};
use crate::uplink::Details;

pub(super) struct Telling {
    namespace: String,
    mode: Mode,
    words: telling::Telling,
    teller: Teller,
    address: String,
}

/// A universe and who sends it.
struct Heard<'a> {
    universe: &'a mut Universe,
    senders: &'a Senders,
}

impl Contest for Heard<'_> {
    fn number(&self) -> u16 {
        self.universe.number
    }

    fn claims(&self) -> Option<&Claims> {
        self.universe.claims()
    }

    fn told(&self) -> &[u8] {
        self.universe.told()
    }

    fn advance(&mut self, changed: &mut dyn FnMut(Change)) {
        self.universe.advance(changed);
    }

    fn is_alone(&self) -> bool {
        self.universe.sources().len() < 2
    }

    fn serials(&self) -> Vec<u32> {
        self.universe.sources().iter().map(|source| source.serial).collect()
    }

    fn bid(&self, serial: u32, slot: usize) -> Option<(u8, u8)> {
        self.universe.source(serial)?.bid(slot)
    }

    fn voice(&mut self, serial: u32) -> Option<&mut Voice> {
        self.universe.source_mut(serial).map(|source| &mut source.voice)
    }

    fn details(&self, serial: u32) -> Option<Details> {
        let sender = self.senders.get(serial)?;
        let number = self.universe.number;
        Some(Details {
            id: universe::id(&sender.cid, number),
            protocol: "sacn",
            name: sender.name.clone(),
            host: sender.host.to_string(),
            universe: Some(number),
        })
    }

    fn held(&self) -> String {
        universe::id(&[0; 16], self.universe.number)
    }

    fn take_gone(&mut self) -> Vec<String> {
        self.universe.take_gone()
    }
}

/// Whether the router is told whose each slot is.
pub(super) fn claims(config: &Config) -> bool {
    config.sources && config.mode == Mode::Channel
}

/// Patterns that the router arbitrates; `None`: it is asked.
pub(super) fn arbitrated(config: &Config) -> Option<&[String]> {
    config.arbitrated.as_deref().or((!claims(config)).then_some(&[]))
}

impl Telling {
    pub(super) fn new(config: &Config) -> Self {
        let Config { namespace, mode, normalize, .. } = config;
        Self {
            namespace: namespace.clone(),
            mode: *mode,
            words: telling::Telling::new(namespace, *normalize),
            teller: Teller::new(namespace, *normalize),
            address: String::new(),
        }
    }

    /// Tells what the router does not know of `universe`. `true`: there is more.
    pub(super) fn tell(
        &mut self,
        universe: &mut Universe,
        senders: &Senders,
        ear: &mut Ear<'_>,
    ) -> bool {
        if std::mem::take(&mut universe.sources_changed) {
            self.tell_sources(universe, senders, ear);
        }
        let Self { mode, words, teller, .. } = self;
        words.begin(universe.number);
        if universe.tells_claims() {
            return teller.tell(&mut Heard { universe, senders }, words, ear);
        }
        let Ear { uplink, counters, out } = ear;
        let mut any = false;
        universe.advance(&mut |change| {
            any = true;
            if *mode == Mode::Channel {
                uplink.add(words.slot(change.slot.into(), change.level), counters, *out);
            }
        });
        if any && *mode == Mode::Universe {
            let address = words.address();
            uplink.set(address, |value| push_bytes(value, universe.look()), counters, *out);
        }
        uplink.send(None, counters, *out);
        false
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
    pub(super) fn tell_alive(&mut self, inputs: &Inputs, ear: &mut Ear<'_>) {
        let all = || inputs.iter().flat_map(|universe| universe.sources());
        self.teller.tell_departed(|id| all().any(|source| source.voice.id == id), ear);
        for universe in inputs.iter().filter(|universe| universe.tells_claims()) {
            for source in universe.sources().iter().filter(|source| source.voice.is_told) {
                ear.uplink.sign(&source.voice.id, "alive", ear.counters, ear.out);
            }
        }
        ear.send();
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
}

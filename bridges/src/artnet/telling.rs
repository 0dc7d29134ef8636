//! What the router is told of a universe: the SETs of its changed slots and whose they are, or one
//! of it whole.

use std::net::{IpAddr, Ipv4Addr};

use clasp_rt_core::time::Time;
use clasp_rt_core::value::push_bytes;

use super::input::{self, Inputs, Universe};
use super::output::{Origin, Outputs};
use super::{Config, Mode};
use crate::universes::contest::{Change, Claims, Contest, Ear, Teller, UNDECLARED, Voice};
use crate::universes::telling;
use crate::uplink::Details;

pub(super) struct Telling {
    mode: Mode,
    /// What people call a sender.
    name: String,
    words: telling::Telling,
    teller: Teller,
}

/// A universe, and where each slot of it is written, too.
struct Heard<'a> {
    universe: &'a mut Universe,
    name: &'a str,
    now: Time,
    resend: Option<&'a mut Outputs>,
    overflowed: u64,
}

impl Heard<'_> {
    fn resend(&mut self, slot: usize, level: u8) {
        let (now, port_address) = (self.now, self.universe.port_address);
        if let Some(outputs) = &mut self.resend
            && !outputs.write(now, port_address, slot, level, Origin::Written)
        {
            self.overflowed += 1;
        }
    }
}

impl Contest for Heard<'_> {
    fn number(&self) -> u16 {
        self.universe.port_address.number()
    }

    fn claims(&self) -> Option<&Claims> {
        self.universe.claims()
    }

    fn told(&self) -> &[u8] {
        self.universe.told()
    }

    fn advance(&mut self, changed: &mut dyn FnMut(Change)) {
        if self.resend.is_none() {
            return self.universe.advance_claims(changed);
        }
        let mut changes = Vec::new();
        self.universe.advance_claims(&mut |change| {
            changes.push((change.slot.into(), change.level));
            changed(change);
        });
        changes.into_iter().for_each(|(slot, level)| self.resend(slot, level));
    }

    fn is_alone(&self) -> bool {
        self.universe.voices().len() < 2
    }

    fn serials(&self) -> Vec<u32> {
        self.universe.voices().iter().map(|(_, serial, _)| *serial).collect()
    }

    fn bid(&self, serial: u32, slot: usize) -> Option<(u8, u8)> {
        self.universe.level_of(serial, slot).map(|level| (UNDECLARED, level))
    }

    fn voice(&mut self, serial: u32) -> Option<&mut Voice> {
        self.universe.voice(serial)
    }

    fn details(&self, serial: u32) -> Option<Details> {
        let port_address = self.universe.port_address;
        let mut voices = self.universe.voices().iter();
        let (sender, ..) = voices.find(|(_, known, _)| *known == serial)?;
        Some(Details {
            id: input::id(*sender, port_address),
            protocol: "artnet",
            name: self.name.to_owned(),
            host: sender.to_string(),
            universe: Some(port_address.number()),
        })
    }

    fn held(&self) -> String {
        input::id(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.universe.port_address)
    }

    fn take_gone(&mut self) -> Vec<String> {
        self.universe.take_gone()
    }
}

impl Telling {
    pub(super) fn new(config: &Config) -> Self {
        let Config { name, namespace, mode, normalize, .. } = config;
        Self {
            mode: *mode,
            name: name.clone(),
            words: telling::Telling::new(namespace, *normalize),
            teller: Teller::new(namespace, *normalize),
        }
    }

    /// Tells what the router does not know of `universe`. Each slot of it is written to `resend`,
    /// too. `true`: there is more.
    pub(super) fn tell(
        &mut self,
        now: Time,
        universe: &mut Universe,
        resend: Option<&mut Outputs>,
        ear: &mut Ear<'_>,
    ) -> bool {
        let Self { mode, name, words, teller } = self;
        let port_address = universe.port_address;
        words.begin(port_address.number());
        universe.contest();
        let mut heard = Heard { universe, name, now, resend, overflowed: 0 };
        if heard.claims().is_some() {
            let more = teller.tell(&mut heard, words, ear);
            ear.counters.overflowed += heard.overflowed;
            return more;
        }
        let Heard { universe, mut resend, .. } = heard;
        let mut any = false;
        universe.advance(|slot, level| {
            any = true;
            if *mode == Mode::Channel {
                ear.uplink.add(words.slot(slot, level), ear.counters, ear.out);
            }
            if let Some(outputs) = &mut resend
                && !outputs.write(now, port_address, slot, level, Origin::Written)
            {
                ear.counters.overflowed += 1;
            }
        });
        if any && *mode == Mode::Universe {
            let address = words.address();
            let push = |bytes: &mut Vec<u8>| push_bytes(bytes, universe.look());
            ear.uplink.set(address, push, ear.counters, ear.out);
        }
        ear.send();
        false
    }

    /// Says that the senders of all universes are there, although they change nothing.
    pub(super) fn tell_alive(&mut self, inputs: &Inputs, ear: &mut Ear<'_>) {
        let all = || inputs.iter().flat_map(|universe| universe.voices()).map(|(.., voice)| voice);
        self.teller.tell_departed(|id| all().any(|voice| voice.id == id), ear);
        for voice in all().filter(|voice| voice.is_told) {
            ear.uplink.sign(&voice.id, "alive", ear.counters, ear.out);
        }
        ear.send();
    }
}

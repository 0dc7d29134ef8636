//! Universes that go to the network: what an ArtDmx says beside its levels.

use std::collections::BTreeSet;

use clasp_rt_core::time::{Span, Time};

use super::NUMBERS;
use super::nodes::Nodes;
use super::packet::{self, Dmx, PACKET_BYTES_MAX, PortAddress};
use crate::merge::Levels;
use crate::universes::outgoing::{Habits, Outgoing, Universe};
use crate::universes::written::SlotLevel;
use crate::{Counters, Out};

pub(super) struct Outputs {
    universes: Outgoing<Wire>,
    /// What left last of each is kept, to know it when it comes back.
    keeps_last: bool,
    /// Those that an ArtInput has silenced.
    disabled: BTreeSet<PortAddress>,
    packet: Vec<u8>,
}

#[derive(Default)]
struct Wire {
    /// What left last; empty where that is not needed.
    last: Option<Box<Levels>>,
    sequence: u8,
    /// Whose levels these are.
    claim: Claim,
}

/// A router remembers levels that came from the network, also when the bridge that told them was
/// started anew and does not know its own words again. So what a snapshot says is sent only while
/// nobody on the network sends the universe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    /// A snapshot's.
    #[default]
    Remembered,
    /// A snapshot's, and somebody on the network sends the universe.
    Foreign,
    /// Written by a session while we listened.
    Written,
}

/// How the router told a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Remembered,
    Written,
}

impl Outputs {
    pub(super) fn new(interval: Span, universes_max: usize, syncs: bool, keeps_last: bool) -> Self {
        let habits =
            Habits { interval, numbers: NUMBERS, universes_max, together: syncs, repeats: 0 };
        Self {
            universes: Outgoing::new(&habits),
            keeps_last,
            disabled: BTreeSet::new(),
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
        origin: Origin,
    ) -> bool {
        self.universes.change(now, port_address.number(), |universe| {
            let is_claimed = universe.wire.claim(origin);
            universe.levels.set(slot, level) || is_claimed
        })
    }

    /// Sets slots, all of this universe. `false`: that would be one universe too many.
    pub(super) fn write_slots(
        &mut self,
        now: Time,
        port_address: PortAddress,
        slots: &[SlotLevel],
    ) -> bool {
        self.universes.change(now, port_address.number(), |universe| {
            let is_claimed = universe.wire.claim(Origin::Written);
            slots.iter().fold(is_claimed, |changed, one| {
                universe.levels.set(one.slot.into(), one.level) || changed
            })
        })
    }

    /// Sets all slots from the first on. `false`: that would be one universe too many.
    pub(super) fn write_all(
        &mut self,
        now: Time,
        port_address: PortAddress,
        slots: &[u8],
        origin: Origin,
    ) -> bool {
        self.universes.change(now, port_address.number(), |universe| {
            let is_claimed = universe.wire.claim(origin);
            let has_changed = !universe.levels.hold(slots);
            universe.levels.write(slots);
            has_changed || is_claimed
        })
    }

    /// Somebody on the network sends `port_address`.
    pub(super) fn is_sent_by_others(&mut self, now: Time, port_address: PortAddress) {
        let remembered = |universe: &Universe<Wire>| universe.wire.claim == Claim::Remembered;
        if self.universes.find(port_address.number()).is_some_and(remembered) {
            self.universes.change(now, port_address.number(), |universe| {
                universe.wire.claim = Claim::Foreign;
                false
            });
        }
    }

    /// Silences a universe, or lets it be heard again.
    pub(super) fn disable(&mut self, port_address: PortAddress, is_disabled: bool) {
        if is_disabled {
            self.disabled.insert(port_address);
        } else {
            self.disabled.remove(&port_address);
        }
    }

    pub(super) fn is_disabled(&self, port_address: PortAddress) -> bool {
        self.disabled.contains(&port_address)
    }

    /// Sends the universes whose time has come, as many as the line lets go. Whether a round ended,
    /// so that an ArtSync is to follow.
    pub(super) fn send_due(
        &mut self,
        now: Time,
        nodes: &mut Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> bool {
        let Self { universes, keeps_last, disabled, packet } = self;
        universes.send_due(now, &mut |universe| {
            let Some(port_address) = PortAddress::new(universe.number) else { return false };
            if universe.wire.claim == Claim::Foreign || disabled.contains(&port_address) {
                return false;
            }
            let (wire, levels) = (&mut universe.wire, universe.levels.as_slice());
            // 0 would say that we do not count.
            wire.sequence = wire.sequence.checked_add(1).unwrap_or(1);
            if *keeps_last {
                wire.last.get_or_insert_default().write(levels);
            }
            packet::write_dmx(packet, wire.sequence, port_address, levels);
            nodes.send(port_address, packet, counters, out)
        })
    }

    /// Lets every universe go out once more, with all levels at 0.
    pub(super) fn black_out(&mut self, now: Time) {
        self.universes.change_all(now, |universe| {
            universe.levels = Levels::dark(universe.levels.as_slice().len());
        });
    }

    /// Whether some levels have not left yet.
    pub(super) fn any_changed(&self) -> bool {
        self.universes.any_changed()
    }

    /// Whether [`Outputs::has_just_sent`] knows our own frames.
    pub(super) fn keeps_last(&self) -> bool {
        self.keeps_last
    }

    /// Whether `dmx` is the frame of ours that left last, come back; `false` where those are not
    /// kept.
    pub(super) fn has_just_sent(&self, dmx: &Dmx<'_>) -> bool {
        self.keeps_last
            && self.universes.find(dmx.port_address.number()).is_some_and(|universe| {
                let levels = universe.wire.last.as_ref().map_or(&[][..], |last| last.as_slice());
                universe.wire.sequence != 0
                    && universe.wire.sequence == dmx.sequence
                    && dmx.levels.get(..levels.len()) == Some(levels)
            })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.universes.deadline()
    }

    pub(super) fn port_addresses(&self) -> impl Iterator<Item = PortAddress> {
        let ours = self.universes.iter().filter(|universe| universe.wire.claim != Claim::Foreign);
        ours.filter_map(|universe| PortAddress::new(universe.number))
    }

    /// Bytes when all of `universes` are in use.
    pub(super) const fn memory_bytes_for(universes: usize, keeps_last: bool) -> u64 {
        let last = if keeps_last { universes * size_of::<Levels>() } else { 0 };
        Outgoing::<Wire>::memory_bytes_for(NUMBERS, universes) + last as u64
    }
}

impl Wire {
    /// Notes who wrote; whether the universe may be sent only now.
    fn claim(&mut self, origin: Origin) -> bool {
        let was_foreign = self.claim == Claim::Foreign;
        if origin == Origin::Written {
            self.claim = Claim::Written;
        }
        was_foreign && origin == Origin::Written
    }
}

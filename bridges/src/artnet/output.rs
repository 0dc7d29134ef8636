//! Universes that go to the network: what an ArtDmx says beside its levels.

use clasp_rt_core::time::{Span, Time};

use super::NUMBERS;
use super::nodes::Nodes;
use super::packet::{self, Dmx, PACKET_BYTES_MAX, PortAddress};
use crate::merge::Levels;
use crate::universes::outgoing::{Habits, Outgoing};
use crate::{Counters, Out};

pub(super) struct Outputs {
    universes: Outgoing<Wire>,
    /// What left last of each is kept, to know it when it comes back as a broadcast.
    keeps_last: bool,
    packet: Vec<u8>,
}

#[derive(Default)]
struct Wire {
    /// What left last; empty where that is not needed.
    last: Option<Box<Levels>>,
    sequence: u8,
}

impl Outputs {
    pub(super) fn new(interval: Span, universes_max: usize, syncs: bool, keeps_last: bool) -> Self {
        let habits =
            Habits { interval, numbers: NUMBERS, universes_max, together: syncs, repeats: 0 };
        Self {
            universes: Outgoing::new(&habits),
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
        self.universes.write(now, port_address.number(), slot, level)
    }

    /// Sets all slots from the first on. `false`: that would be one universe too many.
    pub(super) fn write_all(&mut self, now: Time, port_address: PortAddress, slots: &[u8]) -> bool {
        self.universes.write_all(now, port_address.number(), slots)
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
        let Self { universes, keeps_last, packet } = self;
        universes.send_due(now, &mut |universe| {
            let Some(port_address) = PortAddress::new(universe.number) else { return false };
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

    /// Whether `dmx` is the frame of ours that left last, come back.
    pub(super) fn has_just_sent(&self, dmx: &Dmx<'_>) -> bool {
        self.universes.find(dmx.port_address.number()).is_some_and(|universe| {
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
        self.universes.iter().filter_map(|universe| PortAddress::new(universe.number))
    }

    /// Bytes when all of `universes` are in use.
    pub(super) const fn memory_bytes_for(universes: usize, keeps_last: bool) -> u64 {
        let last = if keeps_last { universes * size_of::<Levels>() } else { 0 };
        Outgoing::<Wire>::memory_bytes_for(NUMBERS, universes) + last as u64
    }
}

//! Universes that go to the network: gathered, held to a rate, repeated while nothing changes.

use std::collections::BTreeMap;

use clasp_rt_core::time::{Span, Time};

use super::nodes::Nodes;
use super::packet::{self, Dmx, PACKET_BYTES_MAX, PortAddress};
use super::{GATHER, REPEAT};
use crate::merge::Levels;
use crate::{Counters, Out};

pub(super) struct Outputs {
    /// Two frames of a universe are at least this far apart.
    interval: Span,
    universes_max: usize,
    universes: BTreeMap<PortAddress, Universe>,
    /// Not later than the earliest `due`.
    due: Option<Time>,
    packet: Vec<u8>,
}

struct Universe {
    levels: Levels,
    /// What left last.
    sent_levels: Levels,
    sequence: u8,
    sent: Option<Time>,
    due: Time,
}

impl Outputs {
    pub(super) fn new(interval: Span, universes_max: usize) -> Self {
        let packet = Vec::with_capacity(PACKET_BYTES_MAX);
        Self { interval, universes_max, universes: BTreeMap::new(), due: None, packet }
    }

    /// Sets one slot, counted from 0. `false`: that would be one universe too many.
    pub(super) fn write(
        &mut self,
        now: Time,
        port_address: PortAddress,
        slot: usize,
        level: u8,
    ) -> bool {
        if self.universes.len() >= self.universes_max && !self.universes.contains_key(&port_address)
        {
            return false;
        }
        let universe = self.universes.entry(port_address).or_insert_with(|| Universe {
            levels: Levels::default(),
            sent_levels: Levels::default(),
            sequence: 0,
            sent: None,
            due: now + REPEAT,
        });
        if universe.levels.set(slot, level) {
            let earliest = universe.sent.map_or(now, |sent| sent + self.interval);
            universe.due = universe.due.min(earliest.max(now + GATHER));
            self.due = Some(self.due.map_or(universe.due, |due| due.min(universe.due)));
        }
        true
    }

    /// Sends the universes whose time has come. Whether any was.
    pub(super) fn send_due(
        &mut self,
        now: Time,
        nodes: &Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let mut sent = false;
        for (&port_address, universe) in &mut self.universes {
            if universe.due <= now {
                universe.send(port_address, &mut self.packet);
                sent |= nodes.send(port_address, &self.packet, counters, out);
                universe.sent = Some(now);
                universe.due = now + REPEAT;
            }
        }
        self.due = self.universes.values().map(|universe| universe.due).min();
        sent
    }

    /// Sends every universe once more, with all levels at 0.
    pub(super) fn black_out(
        &mut self,
        now: Time,
        nodes: &Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        for universe in self.universes.values_mut() {
            for slot in 0..universe.levels.as_slice().len() {
                universe.levels.set(slot, 0);
            }
            universe.due = now;
        }
        self.due = Some(now);
        self.send_due(now, nodes, counters, out);
    }

    /// Whether `dmx` is the frame of ours that left last, come back.
    pub(super) fn has_just_sent(&self, dmx: &Dmx<'_>) -> bool {
        self.universes.get(&dmx.port_address).is_some_and(|universe| {
            let levels = universe.sent_levels.as_slice();
            universe.sent.is_some()
                && universe.sequence == dmx.sequence
                && dmx.levels.get(..levels.len()) == Some(levels)
        })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due
    }

    pub(super) fn port_addresses(&self) -> impl Iterator<Item = PortAddress> {
        self.universes.keys().copied()
    }
}

impl Universe {
    fn send(&mut self, port_address: PortAddress, out: &mut Vec<u8>) {
        // 0 would say that we do not count.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sent_levels.write(self.levels.as_slice());
        packet::write_dmx(out, self.sequence, port_address, self.levels.as_slice());
    }
}

//! Universes that go to the network: what their packets say beside the levels.

use std::net::SocketAddr;

use clasp_rt_core::time::{Span, Time};

use super::NUMBERS;
use super::groups::Groups;
use super::packet::{self, Cid, Data, PACKET_BYTES_MAX, PRIORITY_MAX, Sync, Universe};
use super::packet::{START_LEVELS, START_PRIORITIES};
use crate::merge::SLOTS;
use crate::universes::Number;
use crate::universes::outgoing::{self, Habits, Outgoing};
use crate::universes::written::SlotLevel;
use crate::{Counters, Out};

/// A frame that changed is sent so many times more before its repetitions become rare.
const REPEATS: u8 = 3;

/// Good-byes of each universe.
const FAREWELLS: u8 = 3;

pub(super) struct Outputs {
    universes: Outgoing<Wire>,
    source: Source,
    to: To,
    /// For how many universes a good-bye is still due; `None` until we stop.
    leaves: Option<usize>,
    sync_sequence: u8,
    packet: Vec<u8>,
}

/// Who we are in our packets.
pub(super) struct Source {
    pub(super) cid: Cid,
    pub(super) name: String,
    pub(super) priority: u8,
    /// Whether each slot's priority is sent, too.
    pub(super) slot_priorities: bool,
    /// Where our synchronisation packets go.
    pub(super) sync: Option<Universe>,
}

/// Where packets go.
pub(super) struct To {
    /// The socket that sends.
    pub(super) socket: u8,
    /// How groups are reached; `None`: only targets are.
    pub(super) groups: Option<Groups>,
    pub(super) targets: Vec<SocketAddr>,
}

impl To {
    /// Sends a packet to everybody who shall have what belongs to the universe `number`.
    pub(super) fn send(
        &self,
        number: u16,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let group = self.groups.map(|groups| groups.at(number));
        for to in group.into_iter().chain(self.targets.iter().copied()) {
            counters.packets_out += 1;
            out.to_network(self.socket, to, packet);
        }
    }
}

#[derive(Default)]
struct Wire {
    sequence: u8,
    /// `None`: that of the bridge.
    priority: Option<u8>,
    slots: Option<Box<SlotPriorities>>,
    farewells: u8,
}

/// What is sent as the priority of each slot.
struct SlotPriorities {
    /// 0 to 200 as it was asked for, [`UNWRITTEN`] or [`AS_UNIVERSE`].
    each: [u8; SLOTS],
    has_changed: bool,
    /// When they were sent last.
    sent: Time,
}

/// Nobody has written the slot: we do not control it.
const UNWRITTEN: u8 = 0xFE;

/// The slot has the priority of its universe.
const AS_UNIVERSE: u8 = 0xFF;

/// Priorities are sent with the first levels after so long.
const PRIORITIES_REPEAT: Span = Span::from_millis(700);

impl Outputs {
    pub(super) fn new(interval: Span, universes_max: usize, source: Source, to: To) -> Self {
        let habits = Habits {
            interval,
            numbers: NUMBERS,
            universes_max,
            together: source.sync.is_some(),
            repeats: REPEATS,
        };
        Self {
            universes: Outgoing::new(&habits),
            source,
            to,
            leaves: None,
            sync_sequence: 0,
            packet: Vec::with_capacity(PACKET_BYTES_MAX),
        }
    }

    pub(super) fn cid(&self) -> &Cid {
        &self.source.cid
    }

    /// Sets one slot, counted from 0. `false`: that would be one universe too many.
    pub(super) fn write(&mut self, now: Time, number: u16, slot: usize, level: u8) -> bool {
        let slot_priorities = self.source.slot_priorities;
        self.universes.change(now, number, |universe| {
            if slot_priorities {
                universe.wire.slots().control(slot);
            }
            universe.levels.set(slot, level)
        })
    }

    /// Sets slots, all of this universe. `false`: that would be one universe too many.
    pub(super) fn write_slots(&mut self, now: Time, number: u16, slots: &[SlotLevel]) -> bool {
        let slot_priorities = self.source.slot_priorities;
        self.universes.change(now, number, |universe| {
            slots.iter().fold(false, |changed, one| {
                let slot = usize::from(one.slot);
                if slot_priorities {
                    universe.wire.slots().control(slot);
                }
                universe.levels.set(slot, one.level) || changed
            })
        })
    }

    /// Sets all slots from the first on. `false`: that would be one universe too many.
    pub(super) fn write_all(&mut self, now: Time, number: u16, levels: &[u8]) -> bool {
        let slot_priorities = self.source.slot_priorities;
        self.universes.change(now, number, |universe| {
            if slot_priorities {
                (0..levels.len()).for_each(|slot| universe.wire.slots().control(slot));
            }
            let has_changed = !universe.levels.hold(levels);
            universe.levels.write(levels);
            has_changed
        })
    }

    /// Sets the priority of a universe. `false`: that would be one universe too many.
    pub(super) fn prioritise(&mut self, now: Time, number: u16, priority: u8) -> bool {
        self.universes.change(now, number, |universe| {
            let before = universe.wire.priority.replace(priority.min(PRIORITY_MAX));
            // Without levels there is nothing to say yet.
            before != universe.wire.priority && !universe.levels.as_slice().is_empty()
        })
    }

    /// Sets the priority of one slot, 0 to let go of it. `false`: one universe too many.
    pub(super) fn prioritise_slot(
        &mut self,
        now: Time,
        number: u16,
        slot: usize,
        priority: u8,
    ) -> bool {
        self.universes.change(now, number, |universe| {
            let has_changed = universe.wire.slots().set(slot, priority.min(PRIORITY_MAX));
            has_changed && !universe.levels.as_slice().is_empty()
        })
    }

    /// Sends the universes whose time has come, as many as the line lets go, and behind a round of
    /// them the synchronisation packet, if there is to be one.
    pub(super) fn send_due(&mut self, now: Time, counters: &mut Counters, out: &mut dyn Out) {
        let Self { universes, source, to, leaves, packet, .. } = self;
        let mut saying = Saying { source, to, leaves, packet, counters, out };
        let ends = universes.send_due(now, &mut |universe| {
            let says = !universe.levels.as_slice().is_empty();
            if says {
                send(now, universe, &mut saying);
            }
            says
        });
        if let Some(sync) = self.source.sync.filter(|_| ends && self.leaves.is_none()) {
            self.sync_sequence = self.sync_sequence.wrapping_add(1);
            let sync = Sync { cid: self.source.cid, sequence: self.sync_sequence, universe: sync };
            packet::write_sync(&mut self.packet, &sync);
            self.to.send(sync.universe.number(), &self.packet, counters, out);
        }
    }

    /// Says good-bye for every universe, from now on and in the frames to come.
    pub(super) fn leave(&mut self, now: Time) {
        let mut count = 0;
        self.universes.change_all(now, |universe| {
            if !universe.levels.as_slice().is_empty() {
                universe.wire.farewells = FAREWELLS;
                count += 1;
            }
        });
        self.leaves = Some(count);
    }

    /// Whether a good-bye is still to be said.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves.is_some_and(|count| count > 0)
    }

    /// Sends the list of the universes that we send.
    pub(super) fn announce(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        let sent = self.universes.iter().filter(|one| !one.levels.as_slice().is_empty());
        let sent: Vec<_> = sent.map(|one| one.number).collect();
        let Self { source, to, packet, .. } = self;
        super::discovery::announce(&source.cid, source.name.as_bytes(), sent, packet, |page| {
            to.send(packet::DISCOVERY_UNIVERSE, page, counters, out);
        });
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.universes.deadline()
    }

    /// Bytes when all of `universes` are in use.
    pub(super) const fn memory_bytes_for(universes: usize, slot_priorities: bool) -> u64 {
        let slots = if slot_priorities { universes * size_of::<SlotPriorities>() } else { 0 };
        Outgoing::<Wire>::memory_bytes_for(NUMBERS, universes) + slots as u64
    }
}

impl Wire {
    fn slots(&mut self) -> &mut SlotPriorities {
        self.slots.get_or_insert_with(|| {
            let each = [UNWRITTEN; SLOTS];
            Box::new(SlotPriorities { each, has_changed: true, sent: Time(0) })
        })
    }
}

impl SlotPriorities {
    /// A slot that is written is controlled, unless it was let go of.
    fn control(&mut self, slot: usize) {
        if self.each.get(slot) == Some(&UNWRITTEN) {
            self.set(slot, AS_UNIVERSE);
        }
    }

    fn set(&mut self, slot: usize, priority: u8) -> bool {
        let Some(each) = self.each.get_mut(slot) else { return false };
        let has_changed = std::mem::replace(each, priority) != priority;
        self.has_changed |= has_changed;
        has_changed
    }

    /// What is to be sent now, with `priority` of the universe; nothing if it was sent lately.
    fn due(&mut self, now: Time, priority: u8) -> Option<[u8; SLOTS]> {
        let is_due = self.has_changed || now.since(self.sent) >= PRIORITIES_REPEAT;
        (self.has_changed, self.sent) = (false, if is_due { now } else { self.sent });
        is_due.then(|| {
            self.each.map(|each| match each {
                UNWRITTEN => 0,
                AS_UNIVERSE => priority,
                each => each,
            })
        })
    }
}

/// Sends the levels of a universe; in front of them its priorities, if they changed or are due
/// again. In place of both the good-byes that are left.
fn send(now: Time, universe: &mut outgoing::Universe<Wire>, saying: &mut Saying<'_>) {
    let Some(number) = Universe::new(universe.number) else { return };
    let (wire, source) = (&mut universe.wire, saying.source);
    if let Some(left) = saying.leaves {
        if wire.farewells == 0 {
            return;
        }
        wire.farewells -= 1;
        *left = left.saturating_sub(usize::from(wire.farewells == 0));
    }
    let terminated = saying.leaves.is_some();
    let priority = wire.priority.unwrap_or(source.priority);
    let data = Data {
        cid: source.cid,
        name: source.name.as_bytes(),
        priority,
        sync: source.sync.map_or(0, |sync| sync.number()),
        sequence: 0,
        preview: false,
        terminated,
        // A receiver that misses our synchronisation packets shall go on.
        force_sync: source.sync.is_some(),
        universe: number,
        start: Some(START_LEVELS),
        slots: universe.levels.as_slice(),
    };
    let priorities = match &mut wire.slots {
        Some(slots) if source.slot_priorities && !terminated => slots.due(now, priority),
        _ => None,
    };
    if let Some(each) = &priorities {
        wire.sequence = wire.sequence.wrapping_add(1);
        let start = Some(START_PRIORITIES);
        saying.say(&Data { start, slots: each, sequence: wire.sequence, ..data });
    }
    wire.sequence = wire.sequence.wrapping_add(1);
    saying.say(&Data { sequence: wire.sequence, ..data });
}

/// What it takes to say something to the network.
struct Saying<'a> {
    source: &'a Source,
    to: &'a To,
    leaves: &'a mut Option<usize>,
    packet: &'a mut Vec<u8>,
    counters: &'a mut Counters,
    out: &'a mut dyn Out,
}

impl Saying<'_> {
    fn say(&mut self, data: &Data<'_>) {
        packet::write_data(self.packet, data);
        self.to.send(data.universe.number(), self.packet, self.counters, self.out);
    }
}

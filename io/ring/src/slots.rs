//! What is open and what is in flight: one slot for each registered file.
//!
//! The kernel reuses a file's number as soon as it is free, while answers to its former owner may
//! still be on their way. Each slot therefore counts its owners, and an answer names the one it is
//! for.

use crate::buffer::Buffer;
use crate::op::{GENERATION_MASK, Op, Tag};

/// One open file of one ring. Stays valid as a value after the file is closed, and then names
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Socket {
    /// Place in the ring's file table, reused after `Closed`.
    pub fn index(self) -> usize {
        self.slot as usize
    }

    pub(crate) fn tag(self, op: Op) -> Tag {
        Tag { op, generation: self.generation, slot: self.slot }
    }
}

/// As long as a line of the cache: a fan-out to many streams touches each of theirs once.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) role: Role,
}

#[derive(Debug, Default)]
pub(crate) enum Role {
    #[default]
    Free,
    Listener {
        armed: bool,
    },
    Stream(Stream),
    Packets(Packets),
    Alarm,
}

/// A connection and the two operations that it may have in flight.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) receive: Receive,
    /// The owner wants what arrives.
    pub(crate) wanted: bool,
    /// The peer will send no more.
    pub(crate) ended: bool,
    pub(crate) closing: bool,
    pub(crate) sending: Option<Sending>,
    /// A shutdown is on its way. The kernel looks the slot up only when a worker runs it.
    pub(crate) finishing: bool,
}

/// Whether the kernel has a receive for this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    Off,
    /// On a list of files to arm at the end of the turn.
    Listed,
    Armed,
}

/// A buffer that the kernel reads from until its answer. At most one for each stream: of two sends,
/// the second overtakes the rest of the first when the socket is full.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) buffer: Buffer,
    /// Bytes that the kernel took so far.
    pub(crate) taken: usize,
}

const _: () = assert!(size_of::<Slot>() == 64, "one line of the cache");

/// A datagram socket. The kernel reads `header` whenever it receives.
#[derive(Debug)]
pub(crate) struct Packets {
    pub(crate) receive: Receive,
    pub(crate) header: Box<Header>,
}

#[derive(Debug)]
pub(crate) struct Header(pub(crate) libc::msghdr);

/// The table of files. The first `fixed` slots are filled by us, the others by the kernel's accept.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    fixed: u32,
}

impl Slots {
    pub(crate) fn new(fixed: u32, accepted: u32) -> Self {
        let slots = (0..fixed + accepted).map(|_| Slot::default()).collect();
        Self { slots, fixed }
    }

    pub(crate) fn fixed(&self) -> u32 {
        self.fixed
    }

    /// The lowest slot of ours that holds no file.
    pub(crate) fn vacant(&self) -> Option<u32> {
        (0..self.fixed).find(|slot| self.is_free(*slot))
    }

    /// The highest one.
    pub(crate) fn last_vacant(&self) -> Option<u32> {
        (0..self.fixed).rfind(|slot| self.is_free(*slot))
    }

    fn is_free(&self, slot: u32) -> bool {
        matches!(self.slots[slot as usize].role, Role::Free)
    }

    /// Gives a free slot a new owner.
    pub(crate) fn open(&mut self, slot: u32, role: Role) -> Socket {
        let entry = &mut self.slots[slot as usize];
        assert!(matches!(entry.role, Role::Free), "slot {slot} has two owners");
        entry.role = role;
        Socket { slot, generation: entry.generation }
    }

    /// Takes the slot from its owner; what is still in flight for it becomes stale.
    pub(crate) fn release(&mut self, slot: u32) -> Socket {
        let entry = &mut self.slots[slot as usize];
        let socket = Socket { slot, generation: entry.generation };
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.role = Role::Free;
        socket
    }

    /// The owner that an answer is for; `None` when it is stale.
    pub(crate) fn owner(&mut self, tag: Tag) -> Option<(Socket, &mut Role)> {
        let slot = self.slots.get_mut(tag.slot as usize)?;
        if slot.generation != tag.generation || matches!(slot.role, Role::Free) {
            return None;
        }
        Some((Socket { slot: tag.slot, generation: tag.generation }, &mut slot.role))
    }

    /// The state of an open stream; `None` when it is closed.
    pub(crate) fn stream(&mut self, socket: Socket) -> Option<&mut Stream> {
        match self.slots.get_mut(socket.slot as usize) {
            Some(Slot { generation, role: Role::Stream(stream) })
                if *generation == socket.generation =>
            {
                Some(stream)
            }
            _ => None,
        }
    }

    pub(crate) fn streams(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter_map(|slot| match &mut slot.role {
            Role::Stream(stream) => Some(stream),
            _ => None,
        })
    }

    pub(crate) fn role(&mut self, slot: u32) -> &mut Role {
        &mut self.slots[slot as usize].role
    }

    /// Whether the kernel may still touch memory, or hold a port, on behalf of a slot.
    pub(crate) fn any_in_flight(&self) -> bool {
        self.slots.iter().any(|slot| match &slot.role {
            Role::Stream(stream) => stream.receive == Receive::Armed || stream.sending.is_some(),
            Role::Packets(packets) => packets.receive == Receive::Armed,
            Role::Listener { armed } => *armed,
            Role::Free | Role::Alarm => false,
        })
    }
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self {
            receive: Receive::Off,
            wanted: true,
            ended: false,
            closing: false,
            sending: None,
            finishing: false,
        }
    }

    /// Whether its file may be closed: nothing is in flight, so no answer can come any more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.receive != Receive::Armed && self.sending.is_none() && !self.finishing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_former_owner_finds_nobody() {
        let mut slots = Slots::new(1, 2);
        let first = slots.open(1, Role::Stream(Stream::new()));
        assert!(slots.owner(first.tag(Op::Receive)).is_some());
        assert_eq!(slots.release(1), first);
        assert!(slots.owner(first.tag(Op::Receive)).is_none());
        let second = slots.open(1, Role::Stream(Stream::new()));
        assert!(slots.owner(first.tag(Op::Receive)).is_none());
        assert!(slots.stream(first).is_none());
        assert!(slots.stream(second).is_some());
        assert_eq!(first.index(), second.index());
    }

    #[test]
    fn generations_wrap_within_their_bits() {
        let mut slots = Slots::new(0, 1);
        slots.slots[0].generation = GENERATION_MASK;
        slots.open(0, Role::Alarm);
        slots.release(0);
        assert_eq!(slots.slots[0].generation, 0);
    }

    #[test]
    fn only_our_own_slots_are_given_out() {
        let mut slots = Slots::new(2, 2);
        for expected in [Some(0), Some(1), None] {
            let vacant = slots.vacant();
            assert_eq!(vacant, expected);
            if let Some(slot) = vacant {
                slots.open(slot, Role::Listener { armed: false });
            }
        }
    }
}

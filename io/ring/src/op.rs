//! Each operation as a value: what the kernel is asked, and how its answer finds the way back.

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{cqueue, opcode};
use std::os::fd::RawFd;

/// What an answer belongs to: `operation:8, generation:24, slot:32` of the user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) op: Op,
    /// Below 2^24. An answer to an older owner of the slot carries an older one.
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Accept = 1,
    Receive,
    Send,
    ReceiveFrom,
    SendTo,
    Shutdown,
    Cancel,
    Close,
    Alarm,
    Wake,
    Install,
}

/// In the order of their numbers, which begin with 1.
const OPS: [Op; 11] = [
    Op::Accept,
    Op::Receive,
    Op::Send,
    Op::ReceiveFrom,
    Op::SendTo,
    Op::Shutdown,
    Op::Cancel,
    Op::Close,
    Op::Alarm,
    Op::Wake,
    Op::Install,
];

impl Tag {
    pub(crate) const fn pack(self) -> u64 {
        (self.op as u64) << 56 | (self.generation as u64) << 32 | self.slot as u64
    }

    /// `None` for user data that this crate did not write.
    pub(crate) fn unpack(user_data: u64) -> Option<Self> {
        let place = usize::from((user_data >> 56) as u8).checked_sub(1)?;
        let op = *OPS.get(place)?;
        let generation = (user_data >> 32) as u32 & GENERATION_MASK;
        Some(Self { op, generation, slot: user_data as u32 })
    }
}

/// New connections, each put into a free registered file, until told otherwise.
pub(crate) fn accept(tag: Tag) -> Entry {
    opcode::AcceptMulti::new(Fixed(tag.slot))
        .allocate_file_index(true)
        .build()
        .user_data(tag.pack())
}

/// What a stream receives, each piece in a buffer of `group`, until told otherwise.
pub(crate) fn receive(tag: Tag, group: u16) -> Entry {
    opcode::RecvMulti::new(Fixed(tag.slot), group).build().user_data(tag.pack())
}

/// Datagrams with their source, each in a buffer of `group`. `header` must outlive the operation.
pub(crate) fn receive_from(tag: Tag, header: *const libc::msghdr, group: u16) -> Entry {
    opcode::RecvMsgMulti::new(Fixed(tag.slot), header, group).build().user_data(tag.pack())
}

/// One piece of a stream. Waits for room in the socket until all of it is taken, or the stream
/// ends; may still come back short. `bytes` must outlive the operation.
pub(crate) fn send(tag: Tag, bytes: *const u8, len: u32) -> Entry {
    opcode::Send::new(Fixed(tag.slot), bytes, len)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .user_data(tag.pack())
}

/// One datagram. `tag.slot` counts datagrams, `socket` files. `header` must outlive the operation.
pub(crate) fn send_to(tag: Tag, socket: u32, header: *const libc::msghdr) -> Entry {
    opcode::SendMsg::new(Fixed(socket), header)
        .flags(libc::MSG_NOSIGNAL as u32)
        .build()
        .user_data(tag.pack())
}

/// Makes a descriptor of a registered file, for calls that know no other. Done at once.
pub(crate) fn install(tag: Tag) -> Entry {
    opcode::FixedFdInstall::new(Fixed(tag.slot), 0).build().user_data(tag.pack())
}

/// Ends one or both directions. An armed receive ends with 0, a waiting send fails.
pub(crate) fn shutdown(tag: Tag, how: i32) -> Entry {
    opcode::Shutdown::new(Fixed(tag.slot), how).build().user_data(tag.pack())
}

/// Gives up one earlier operation; it answers for itself.
pub(crate) fn cancel(tag: Tag, victim: Tag) -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::user_data(victim.pack()))
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(tag.pack())
}

/// Frees a registered file. Only after the final answer of everything else on it: an armed receive
/// would keep the connection open and go on taking its bytes.
pub(crate) fn close(tag: Tag) -> Entry {
    opcode::Close::new(Fixed(tag.slot)).build().flags(Flags::SKIP_SUCCESS).user_data(tag.pack())
}

/// Answers for every time that the event counter behind `tag.slot` is raised. Nobody reads it: each
/// write is an edge of its own.
pub(crate) fn alarm(tag: Tag) -> Entry {
    opcode::PollAdd::new(Fixed(tag.slot), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(tag.pack())
}

/// Puts a wake-up into the ring of another thread; says nothing here unless it fails.
pub(crate) fn wake(ring: RawFd) -> Entry {
    let tag = Tag { op: Op::Wake, generation: 0, slot: 0 }.pack();
    opcode::MsgRingData::new(Fd(ring), 0, tag, None)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(tag)
}

/// The kernel's answer, taken apart once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// A count of bytes, or a negative error number.
    pub(crate) result: i32,
    /// The operation stays armed and will answer again.
    pub(crate) more: bool,
    /// The buffer that the kernel filled.
    pub(crate) buffer: Option<u16>,
}

impl From<&cqueue::Entry> for Answer {
    fn from(entry: &cqueue::Entry) -> Self {
        let flags = entry.flags();
        Self {
            result: entry.result(),
            more: cqueue::more(flags),
            buffer: cqueue::buffer_select(flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_kernel() {
        for op in OPS {
            for (generation, slot) in [(0, 0), (1, 7), (GENERATION_MASK, u32::MAX)] {
                let tag = Tag { op, generation, slot };
                assert_eq!(Tag::unpack(tag.pack()), Some(tag));
            }
        }
    }

    #[test]
    fn user_data_of_no_operation_is_not_a_tag() {
        for code in [0, OPS.len() as u64 + 1, 0xFF] {
            assert_eq!(Tag::unpack(code << 56), None);
        }
    }
}

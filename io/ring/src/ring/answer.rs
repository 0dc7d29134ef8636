//! What the kernel's answers mean: the state of their owners moves on, and what concerns the caller
//! becomes an event.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{Event, Ring};
use crate::op::{self, Answer, Op, Tag};
use crate::slots::{Receive, Role, Socket, Stream};

impl Ring {
    /// What one answer means to the owner; `None` when it is our business alone.
    pub(super) fn settle(&mut self, tag: Tag, answer: Answer) -> Option<Event> {
        match tag.op {
            Op::Accept => self.accepted(tag, answer),
            Op::Receive => self.received(tag, answer),
            Op::Send => self.sent(tag, answer),
            Op::ReceiveFrom => self.packet_received(tag, answer),
            Op::SendTo => {
                self.memory.datagrams.settle(tag.slot);
                self.counts.datagram_faults += u64::from(answer.result < 0);
                None
            }
            Op::Alarm => {
                let (socket, _) = self.memory.slots.owner(tag)?;
                if !answer.more {
                    self.push_owned(op::alarm(socket.tag(Op::Alarm)));
                }
                Some(Event::Woken)
            }
            // A failed wake-up names a thread that is gone.
            Op::Wake => (answer.result >= 0).then_some(Event::Woken),
            Op::Shutdown => {
                let stream = Socket { slot: tag.slot, generation: tag.generation };
                self.memory.slots.stream(stream)?.finishing = false;
                self.release_if_quiet(stream);
                None
            }
            Op::Install => {
                self.installed(tag, answer.result);
                None
            }
            Op::Cancel | Op::Close => None,
        }
    }

    /// Asks the socket behind a descriptor that the kernel made for that where its peer is.
    fn installed(&mut self, tag: Tag, result: i32) {
        // Before Linux 6.8 there is no such operation: then nobody knows.
        if result < 0 {
            return;
        }
        // SAFETY: the answer to an `Install` is a descriptor that the kernel made for it alone, and
        // each answer is settled once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(result) };
        let peer = rustix::net::getpeername(&descriptor).ok().flatten();
        let peer = peer.and_then(|peer| peer.try_into().ok());
        if let (Some(peer), Some((stream, _))) = (peer, self.memory.slots.owner(tag)) {
            self.peers.push_back((stream, peer));
        }
    }

    fn accepted(&mut self, tag: Tag, answer: Answer) -> Option<Event> {
        let (listener, role) = self.memory.slots.owner(tag)?;
        *role = Role::Listener { armed: answer.more };
        let lost = answer.result < 0 && !is_passing_accept(-answer.result);
        if !answer.more && !lost {
            self.listeners_off.push(listener);
        }
        if answer.result < 0 {
            self.counts.accept_faults += 1;
            let why = io::Error::from_raw_os_error(-answer.result);
            return lost.then_some(Event::ListenerLost { listener, why });
        }
        let stream = self.memory.slots.open(answer.result as u32, Role::Stream(Stream::new()));
        self.list(stream);
        Some(Event::Accepted { listener, stream })
    }

    fn received(&mut self, tag: Tag, answer: Answer) -> Option<Event> {
        let memory = &mut *self.memory;
        let len = answer.result.max(0) as u32;
        let lease = answer.buffer.map(|index| memory.streams.lend(index, len));
        let state = match memory.slots.owner(tag) {
            Some((_, Role::Stream(state))) => state,
            // The kernel filled a buffer for a former owner: the buffer is ours all the same.
            _ => {
                if let Some(lease) = lease {
                    memory.streams.give_back(lease);
                }
                return None;
            }
        };
        let stream = Socket { slot: tag.slot, generation: tag.generation };
        if !answer.more {
            state.receive = Receive::Off;
        }
        let (closing, wanted) = (state.closing, state.wanted);
        state.ended |= is_end(answer.result);
        if let Some(lease) = lease {
            if !closing && answer.result > 0 {
                self.list(stream);
                return Some(Event::Received { stream, lease });
            }
            self.memory.streams.give_back(lease);
        }
        if closing {
            self.release_if_quiet(stream);
            return None;
        }
        if answer.result == -libc::ENOBUFS && wanted {
            self.counts.starved += 1;
            self.starve(stream);
            return None;
        }
        if is_end(answer.result) {
            let how = outcome(answer.result);
            return Some(Event::Ended { stream, how });
        }
        self.list(stream);
        None
    }

    fn sent(&mut self, tag: Tag, answer: Answer) -> Option<Event> {
        let stream = Socket { slot: tag.slot, generation: tag.generation };
        let state = self.memory.slots.stream(stream)?;
        let closing = state.closing;
        let mut sending = state.sending.take()?;
        sending.taken += answer.result.max(0) as usize;
        let short = sending.taken < sending.buffer.len();
        if short && answer.result > 0 && !closing {
            state.sending = Some(sending);
            self.counts.short_sends += 1;
            self.send_rest(stream);
            return None;
        }
        let how = match answer.result {
            0 => Err(io::ErrorKind::WriteZero.into()),
            1.. if short => Err(io::ErrorKind::ConnectionAborted.into()),
            result => outcome(result),
        };
        self.release_if_quiet(stream);
        Some(Event::Sent { stream, buffer: sending.buffer, how })
    }

    fn packet_received(&mut self, tag: Tag, answer: Answer) -> Option<Event> {
        let memory = &mut *self.memory;
        let len = answer.result.max(0) as u32;
        let lease = answer.buffer.map(|index| memory.packets.lend(index, len));
        let Some((socket, Role::Packets(packets))) = memory.slots.owner(tag) else {
            return None;
        };
        if !answer.more {
            packets.receive = Receive::Listed;
            let out_of_buffers = answer.result == -libc::ENOBUFS;
            self.counts.starved += u64::from(out_of_buffers);
            if out_of_buffers { &mut self.starved } else { &mut self.listed }.push(socket);
        }
        if answer.result < 0 && answer.result != -libc::ENOBUFS {
            self.counts.datagram_faults += 1;
        }
        lease.map(|lease| Event::Packet { socket, lease })
    }
}

/// Whether a listener goes on after this error: it struck one connection, or will pass.
fn is_passing_accept(error: i32) -> bool {
    matches!(
        error,
        libc::EAGAIN
            | libc::EINTR
            | libc::ECONNABORTED
            | libc::ENFILE
            | libc::EMFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
    )
}

/// Whether a receive that answered so will never bring anything again.
fn is_end(result: i32) -> bool {
    result == 0 || result < 0 && !matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR)
}

fn outcome(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

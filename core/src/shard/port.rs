//! The way out to each link: a window that the edge may hold, and behind it the outbox.

use alloc::vec::Vec;

use super::count::Counts;
use super::input::Effects;
use super::outbox::{Class, Outbox, Push, SharedFrame};
use crate::LinkId;
use crate::limits::Limits;
use crate::time::{Span, Time};
use crate::timers::Timers;

/// Whether a frame found its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    /// It left, waits, was replaced, or was a sample that may be dropped.
    Ok,
    /// It may not be lost and cannot be kept: this link must be closed. If it is another one, which
    /// takes more of the room that all share, the frame is to be sent again then.
    TooSlow(LinkId),
}

#[derive(Clone, Copy, Default)]
struct Port {
    open: bool,
    /// Frame bytes handed to the edge that the kernel has not taken.
    unsent: u32,
}

pub(crate) struct Ports {
    ports: Vec<Port>,
    outbox: Outbox,
    stalled: Timers,
    stall_timeout: Span,
    window: u32,
    now: Time,
}

impl Ports {
    pub(crate) fn new(limits: &Limits, stall_timeout: Span) -> Self {
        Self {
            ports: alloc::vec![Port::default(); limits.links_max as usize],
            outbox: Outbox::new(limits),
            stalled: Timers::new(limits.links_max),
            stall_timeout,
            window: limits.window_bytes,
            now: Time(0),
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.ports.len() * size_of::<Port>()) as u64
            + self.outbox.memory_bytes()
            + self.stalled.memory_bytes()
    }

    /// The instant of the step in hand.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now = now;
    }

    pub(crate) fn open(&mut self, link: LinkId) {
        self.ports[link.0 as usize] = Port { open: true, unsent: 0 };
    }

    /// Nothing leaves this port any more, and what waited is forgotten.
    pub(crate) fn shut(&mut self, link: LinkId) {
        self.ports[link.0 as usize] = Port::default();
        self.outbox.clear(link);
        self.stalled.clear(link.0);
    }

    pub(crate) fn is_open(&self, link: LinkId) -> bool {
        self.ports.get(link.0 as usize).is_some_and(|port| port.open)
    }

    /// Whether another part of a snapshot may be asked for: nothing waits and half a window is
    /// free.
    pub(crate) fn is_clear(&self, link: LinkId) -> bool {
        let port = &self.ports[link.0 as usize];
        port.open && port.unsent <= self.window / 2 && self.outbox.is_empty(link)
    }

    pub(crate) fn send(
        &mut self,
        link: LinkId,
        class: Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        counts: &mut Counts,
        fx: &mut impl Effects,
    ) -> Sent {
        let port = &mut self.ports[link.0 as usize];
        if !port.open {
            return Sent::Ok;
        }
        let len = frame.len() as u32;
        let fits = port.unsent == 0 || port.unsent + len <= self.window;
        if fits && self.outbox.is_empty(link) {
            port.unsent += len;
            counts.frames_out += 1;
            fx.send(link, frame);
            return Sent::Ok;
        }
        if self.stalled.get(link.0).is_none() {
            self.stalled.set(link.0, self.now + self.stall_timeout);
        }
        match self.outbox.push(link, class, frame, shared) {
            Push::Kept => Sent::Ok,
            Push::Replaced => {
                counts.params_coalesced += 1;
                Sent::Ok
            }
            Push::DroppedStream(dropped) => {
                counts.streams_dropped += u64::from(dropped);
                Sent::Ok
            }
            Push::MustClose => {
                Sent::TooSlow(self.outbox.greediest_but(link, frame.len()).unwrap_or(link))
            }
        }
    }

    /// What was queued so far stays in front: later params do not take its place.
    pub(crate) fn barrier(&mut self, link: LinkId) {
        self.outbox.barrier(link);
    }

    /// The kernel took `bytes`: what waited follows.
    pub(crate) fn taken(
        &mut self,
        link: LinkId,
        bytes: u32,
        counts: &mut Counts,
        fx: &mut impl Effects,
    ) {
        let port = &mut self.ports[link.0 as usize];
        if !port.open {
            return;
        }
        port.unsent = port.unsent.saturating_sub(bytes);
        while let Some(frame) = self.outbox.front(link) {
            let len = frame.len() as u32;
            if port.unsent != 0 && port.unsent + len > self.window {
                break;
            }
            port.unsent += len;
            counts.frames_out += 1;
            fx.send(link, frame);
            self.outbox.pop(link);
        }
        if self.outbox.is_empty(link) {
            self.stalled.clear(link.0);
        } else {
            self.stalled.set(link.0, self.now + self.stall_timeout);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.stalled.next()
    }

    /// A link that took nothing for the stall time-out.
    pub(crate) fn overdue(&mut self) -> Option<LinkId> {
        self.stalled.pop(self.now).map(LinkId)
    }
}

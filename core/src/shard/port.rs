//! The way out to each link: a window that the edge may hold, and behind it the outbox.
//!
//! Samples and moves fill half of the window at most, so that whatever else comes finds room in it
//! and leaves behind no more than that.

use alloc::vec::Vec;

use super::count::Counts;
use super::input::Effects;
use super::outbox::{Class, Kind, Outbox, Push, Rank, SharedFrame};
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
        self.outbox.begin(now);
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

    /// Whether another part of a snapshot may be asked for: half a window is free, and nothing
    /// waits but samples and moves, which would leave after it.
    pub(crate) fn is_clear(&self, link: LinkId) -> bool {
        let port = &self.ports[link.0 as usize];
        port.open && port.unsent <= self.window / 2 && self.outbox.has_samples_only(link)
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
        if !self.ports[link.0 as usize].open {
            return Sent::Ok;
        }
        if self.outbox.is_free_for(link, class) && self.fits(link, class.rank, frame.len()) {
            self.ports[link.0 as usize].unsent += frame.len() as u32;
            counts.frames_out += 1;
            fx.send(link, frame);
            return Sent::Ok;
        }
        if self.stalled.get(link.0).is_none() {
            self.stalled.set(link.0, self.now + self.stall_timeout);
        }
        let overtakes = class.rank == Rank::Critical && self.outbox.has_behind(link);
        match self.outbox.push(link, class, frame, shared) {
            Push::Kept => {}
            Push::Replaced => match class.kind {
                Kind::Move { .. } => counts.moves_coalesced += 1,
                _ => counts.params_coalesced += 1,
            },
            Push::DroppedStream(dropped) => counts.streams_dropped += u64::from(dropped),
            Push::MustClose => {
                let slow = self.outbox.greediest_but(link, frame.len()).unwrap_or(link);
                return Sent::TooSlow(slow);
            }
        }
        counts.overtakes += u64::from(overtakes);
        // What fits may be in front of what does not.
        self.pump(link, counts, fx);
        Sent::Ok
    }

    /// Whether the window has room for `len` bytes more of this rank; for one frame it always has.
    fn fits(&self, link: LinkId, rank: Rank, len: usize) -> bool {
        let window = match rank {
            Rank::Critical | Rank::Ordinary => self.window,
            Rank::Sample => self.window / 2,
        };
        let unsent = self.ports[link.0 as usize].unsent;
        unsent == 0 || unsent as usize + len <= window as usize
    }

    /// Lets go what waits, as far as the window has room.
    fn pump(&mut self, link: LinkId, counts: &mut Counts, fx: &mut impl Effects) {
        while let Some((rank, frame)) = self.outbox.front(link) {
            let len = frame.len();
            if !self.fits(link, rank, len) {
                return;
            }
            self.ports[link.0 as usize].unsent += len as u32;
            counts.frames_out += 1;
            match self.outbox.front_since(link) {
                Some(since) if since < self.now => fx.send_late(link, frame, since),
                _ => fx.send(link, frame),
            }
            self.outbox.pop(link);
        }
        self.stalled.clear(link.0);
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
        if !self.outbox.is_empty(link) {
            self.stalled.set(link.0, self.now + self.stall_timeout);
            self.pump(link, counts, fx);
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

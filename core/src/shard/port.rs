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
    state: State,
    /// Frame bytes handed to the edge that the kernel has not taken.
    unsent: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Shut,
    /// Nothing waits in the outbox.
    Clear,
    /// Something does.
    Behind,
}

impl Port {
    /// Whether `window` has room for `len` bytes more; for one frame it always has.
    #[inline(always)]
    fn fits(self, window: u32, len: usize) -> bool {
        self.unsent == 0 || self.unsent as usize + len <= window as usize
    }
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
        self.ports[link.0 as usize] = Port { state: State::Clear, unsent: 0 };
    }

    /// Nothing leaves this port any more, and what waited is forgotten.
    pub(crate) fn shut(&mut self, link: LinkId) {
        self.ports[link.0 as usize] = Port::default();
        self.outbox.clear(link);
        self.stalled.clear(link.0);
    }

    pub(crate) fn is_open(&self, link: LinkId) -> bool {
        self.ports.get(link.0 as usize).is_some_and(|port| port.state != State::Shut)
    }

    /// Whether another part of a snapshot may be asked for: half a window is free, and nothing
    /// waits but samples and moves, which would leave after it.
    pub(crate) fn is_clear(&self, link: LinkId) -> bool {
        let port = &self.ports[link.0 as usize];
        port.state != State::Shut
            && port.unsent <= self.window / 2
            && self.outbox.has_samples_only(link)
    }

    /// Hands a frame to the edge, or lets it wait.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        link: LinkId,
        class: &Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        counts: &mut Counts,
        fx: &mut impl Effects,
    ) -> Sent {
        let window = self.window_of(class.rank);
        let port = &mut self.ports[link.0 as usize];
        if port.state == State::Clear && port.fits(window, frame.len()) {
            port.unsent += frame.len() as u32;
            counts.frames_out += 1;
            fx.send(link, frame);
            return Sent::Ok;
        }
        self.send_behind(link, class, frame, shared, counts, fx)
    }

    /// The same for a link that has something waiting, or no room. Out of the way of all others.
    #[inline(never)]
    fn send_behind(
        &mut self,
        link: LinkId,
        class: &Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        counts: &mut Counts,
        fx: &mut impl Effects,
    ) -> Sent {
        let port = self.ports[link.0 as usize];
        if port.state == State::Shut {
            return Sent::Ok;
        }
        if self.outbox.is_free_for(link, *class)
            && port.fits(self.window_of(class.rank), frame.len())
        {
            self.ports[link.0 as usize].unsent += frame.len() as u32;
            counts.frames_out += 1;
            fx.send(link, frame);
            return Sent::Ok;
        }
        if self.stalled.get(link.0).is_none() {
            self.stalled.set(link.0, self.now + self.stall_timeout);
        }
        let overtakes = class.rank == Rank::Critical && self.outbox.has_behind(link);
        let pushed = self.outbox.push(link, *class, frame, shared);
        self.note_waiting(link);
        match pushed {
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

    /// The window for frames of this rank.
    #[inline(always)]
    fn window_of(&self, rank: Rank) -> u32 {
        match rank {
            Rank::Critical | Rank::Ordinary => self.window,
            Rank::Sample => self.window / 2,
        }
    }

    /// Whether anything waits for an open link may have changed.
    fn note_waiting(&mut self, link: LinkId) {
        let behind = !self.outbox.is_empty(link);
        self.ports[link.0 as usize].state = if behind { State::Behind } else { State::Clear };
    }

    /// Lets go what waits, as far as the window has room.
    fn pump(&mut self, link: LinkId, counts: &mut Counts, fx: &mut impl Effects) {
        while let Some((rank, frame)) = self.outbox.front(link) {
            let len = frame.len();
            if !self.ports[link.0 as usize].fits(self.window_of(rank), len) {
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
        self.ports[link.0 as usize].state = State::Clear;
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
        port.unsent = port.unsent.saturating_sub(bytes);
        if port.state == State::Behind {
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

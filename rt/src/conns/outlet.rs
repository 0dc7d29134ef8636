//! The way out of one link: all that a frame for it touches, on one line of the cache.

use std::ops::Range;

use super::Carrier;

/// How frames for a link are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// Not at all: it gets no frames any more.
    None,
    /// By its transport, in bytes that are its alone.
    Own,
    /// As for every link of its kind.
    Shared,
}

/// What waits to leave, and what is on its way.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Outlet {
    pub(super) carrier: Carrier,
    pub(super) wrapping: Wrapping,
    /// Which log has frames in the wrapping of this link.
    pub(super) log: u8,
    /// A send is on its way; another one would overtake it.
    pub(super) sending: bool,
    /// On the list of links that are flushed at the end of the turn.
    pub(super) dirty: bool,
    /// The link's own bytes hold something.
    pub(super) has_pending: bool,
    /// More frames follow in the link's own bytes: something there must leave before them.
    pub(super) is_own: bool,
    /// Frames of this turn that wait in the log. They leave before the link's own bytes.
    pub(super) run: Range<u32>,
    /// Frame bytes that wait, and that are on their way: what the shard counts.
    pub(super) pending_frames: u32,
    pub(super) sending_frames: u32,
    /// The turn for which `share` stands.
    pub(super) turn: u32,
    /// Messages of the link that this turn still takes.
    pub(super) share: u32,
}

const _: () = assert!(size_of::<Outlet>() == 64, "one line of the cache");

impl Outlet {
    /// Of a link that nobody has.
    pub(super) const fn shut() -> Self {
        Self {
            carrier: Carrier::Port,
            wrapping: Wrapping::None,
            log: 0,
            sending: false,
            dirty: false,
            has_pending: false,
            is_own: false,
            run: 0..0,
            pending_frames: 0,
            sending_frames: 0,
            turn: 0,
            share: 0,
        }
    }

    /// Something waits that could leave.
    pub(super) fn is_ready(&self) -> bool {
        !self.sending && (self.has_pending || !self.run.is_empty())
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.run = 0..0;
        self.has_pending = false;
        self.is_own = false;
        self.pending_frames = 0;
    }
}

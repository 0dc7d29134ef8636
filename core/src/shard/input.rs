//! What can happen to a shard, and what it can decide.

use crate::time::Time;
use crate::{LinkId, ShardId};

/// What happened. The edge gives each with the instant of the turn.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A peer connected; its handshake clock starts.
    Opened { link: LinkId, admit: Admit },
    /// Where the peer of `link` is, for those who ask whose a write is. Right after `Opened`, if it
    /// is known.
    Host { link: LinkId, host: &'a str },
    /// One transport message of a link: a CLASP frame, or what pretends to be one.
    Frame { link: LinkId, frame: &'a [u8] },
    /// A record that another shard handed over, oldest stamp first.
    Peer { from: ShardId, lane: Lane, record: &'a [u8] },
    /// The kernel took `bytes` of what [`Effects::send`] queued for `link` (frame bytes, whole
    /// frames).
    Sent { link: LinkId, bytes: u32 },
    /// Any byte arrived that was no frame (a WebSocket pong, a ping): the link is alive.
    Alive { link: LinkId },
    /// The link is gone; its id may be used again after this step.
    ///
    /// What it sent before that counts: the edge offers frames that were held until they are taken,
    /// and only then says this.
    Closed { link: LinkId },
    /// What the wall clock shows now: microseconds since the Unix epoch.
    Clock { unix_us: u64 },
    /// The deadline passed, or may have. `forward_room`: whether every `Forward` ring has room;
    /// what needs it waits for the next time if not.
    Deadline { forward_room: bool },
}

impl Input<'_> {
    /// What stepping it may hand to peers, so that the edge sees to room first.
    ///
    /// What needs no room is always stepped, and what needs only `Publish` waits for nothing but
    /// that; so shards never wait for each other in a circle.
    pub const fn room(&self) -> Room {
        match self {
            Self::Frame { .. } | Self::Closed { .. } => Room::Both,
            Self::Deadline { .. } | Self::Peer { lane: Lane::Forward, .. } => Room::Publish,
            Self::Opened { .. }
            | Self::Host { .. }
            | Self::Sent { .. }
            | Self::Alive { .. }
            | Self::Clock { .. }
            | Self::Peer { lane: Lane::Publish, .. } => Room::None,
        }
    }
}

/// Which rings to every peer must have [`crate::limits::PEER_ROOM_BYTES`] free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    None,
    Publish,
    Both,
}

/// Whether and how a new link may become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It must say HELLO and, in authenticated mode, show a token.
    Stranger,
    /// A bridge of our own: HELLO without a token is enough, no rate limit, no idle time-out.
    Trusted,
    /// The router has as many sessions as it may: HELLO is answered with ERROR 501 and a close.
    Full,
}

/// Whether [`super::Shard::step`] took the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    Taken,
    /// Not taken, and nothing was said or decided. For a `Frame`: keep it, and offer it again after
    /// [`Effects::resume`] named its link. For a `Peer` record: offer it again next turn.
    Held,
}

/// The two directions in which shards hand records to each other.
///
/// What `Forward` causes goes to `Publish`; what `Publish` causes goes to neither
/// ([`Input::room`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Ingress to home.
    Forward,
    /// Home to egress, and decisions about bundles.
    Publish,
}

/// Why the router closes a link; the transport turns it into its own close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Before HELLO came something else (WebSocket 1002).
    Protocol,
    /// No HELLO in time (1008).
    HandshakeTimeout,
    /// The token was missing, wrong or expired (1008).
    Unauthorized,
    /// No session is free (1013).
    Full,
    /// Nothing was heard for the session time-out (1008).
    Idle,
    /// It reads too slowly for what may not be dropped (1013).
    TooSlow,
    /// It keeps sending malformed frames (1002).
    Offences,
}

/// Takes what the shard decides, in the order in which it decides.
///
/// The shard hands out each effect as it is decided instead of filling a list, because the most
/// that one step can cause (a bundle of thousands of SETs to a thousand links) has no useful bound.
pub trait Effects {
    /// Queues one whole frame on `link`. The shard never has more than `Limits::window_bytes` (or
    /// one frame) queued that no `Input::Sent` has answered.
    fn send(&mut self, link: LinkId, frame: &[u8]);

    /// The same for a frame that had to wait, because `link` had too much unsent when it came, in
    /// the step of `since`.
    fn send_late(&mut self, link: LinkId, frame: &[u8], since: Time) {
        let _ = since;
        self.send(link, frame);
    }

    /// Closes `link` after what is queued has left. `Input::Closed` follows when it is done; until
    /// then nothing more is sent to it.
    fn close(&mut self, link: LinkId, reason: CloseReason);

    /// Hands `record` to another shard. The edge made sure of room before it called `step`.
    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]);

    /// The frame that `link` had held back may be offered again.
    fn resume(&mut self, link: LinkId);
}

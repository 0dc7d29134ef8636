//! What a frame is where it has to wait: what may happen to it, and what it may overtake.

use crate::shard::session_id::SessionId;
use crate::wire::binary::code;
use crate::wire::header::FRAME_HEADER_LEN;

/// How a frame is treated where it has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub kind: Kind,
    pub rank: Rank,
    /// Who caused it; `None`: the router, for whom nothing has to stay in order.
    pub writer: Option<Writer>,
}

/// What may happen to a frame that has to wait. A key is the hash of an address, or of a gesture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of a param: a newer one takes its place.
    Param { key: u64 },
    /// A stream sample: older ones are dropped when a link has too much to wait for, first those
    /// with a newer one of their address behind them.
    Stream { key: u64 },
    /// A move of a gesture: a newer one takes its place, unless the gesture took a turn in between.
    Move { key: u64 },
    /// Start, end or cancel of that gesture.
    Turn { key: u64 },
    /// Something that happened; it is told in the order in which it did.
    Event { key: u64 },
    /// Many values at once: those that follow take no place in front of it.
    Snapshot,
    /// Any other reply.
    Reply,
}

/// Who leaves before whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Before all else, but behind what the same session wrote earlier of the ordinary.
    Critical,
    /// In order.
    Ordinary,
    /// When nothing else waits.
    Sample,
}

pub const RANKS: usize = 3;

/// Sessions are told apart by this much only: a session waits for the ordinary frames of its
/// namesakes too, which costs nothing but time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer(u8);

pub const WRITERS: usize = 8;

impl Class {
    pub const REPLY: Self = Self { kind: Kind::Reply, rank: Rank::Ordinary, writer: None };
    const SNAPSHOT: Self = Self { kind: Kind::Snapshot, ..Self::REPLY };

    /// The rank follows from the kind, unless the address is `critical`.
    pub fn new(kind: Kind, critical: bool, writer: Option<Writer>) -> Self {
        let rank = match kind {
            Kind::Event { .. } => Rank::Critical,
            _ if critical => Rank::Critical,
            Kind::Stream { .. } | Kind::Move { .. } => Rank::Sample,
            Kind::Param { .. } | Kind::Turn { .. } | Kind::Snapshot | Kind::Reply => Rank::Ordinary,
        };
        // What is critical is not dropped.
        let kind = match kind {
            Kind::Stream { key } if critical => Kind::Event { key },
            kind => kind,
        };
        Self { kind, rank, writer }
    }

    /// What `session` says to another one: a reply, but in its place among what that session says.
    pub fn told_by(session: SessionId) -> Self {
        Self { writer: Some(Writer::of(session)), ..Self::REPLY }
    }

    /// The class of a reply that this router encoded.
    pub fn of_reply(frame: &[u8]) -> Self {
        let is_snapshot = frame.get(FRAME_HEADER_LEN) == Some(&code::SNAPSHOT);
        if is_snapshot { Self::SNAPSHOT } else { Self::REPLY }
    }
}

impl Writer {
    pub fn of(session: SessionId) -> Self {
        Self(session.0[0] % WRITERS as u8)
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub const fn number(number: u8) -> Self {
        Self(number)
    }
}

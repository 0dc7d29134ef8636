//! What is kept of a source, a claim and a contest.

use super::NONE;
use crate::arena::Block;
use crate::shard::marker::{ID_BYTES_MAX, Tag};
use crate::shard::record::{Origin, UNDECLARED};
use crate::shard::session_id::SessionId;
use crate::time::Time;
use crate::value::Value;

/// The id of a source, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct SourceId {
    len: u8,
    text: [u8; ID_BYTES_MAX],
}

impl SourceId {
    /// Markers are read with an id that fits.
    pub(super) fn new(id: &str) -> Self {
        let mut text = [0; ID_BYTES_MAX];
        let len = id.len().min(ID_BYTES_MAX);
        text[..len].copy_from_slice(&id.as_bytes()[..len]);
        Self { len: len as u8, text }
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Who claims: a source, the session that speaks for it, and the one on whose behalf.
#[derive(Clone, Copy)]
pub(crate) struct Claimant<'a> {
    pub origin: Origin,
    pub tag: Tag<'a>,
    /// One of the sessions is gone: the claim goes with the next turn.
    pub gone: bool,
}

impl Claimant<'_> {
    pub(super) fn by(&self) -> SessionId {
        self.tag.by.unwrap_or(self.origin.writer)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) id: SourceId,
    /// Of its latest write.
    pub(super) origin: Origin,
    pub(super) by: SessionId,
    /// It said that it is there.
    pub(super) alive: Time,
    pub(super) claims: u32,
    /// Released: whoever writes under its name now is somebody new.
    pub(super) leaving: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) contest: u32,
    pub(super) source: u32,
    pub(super) priority: u8,
    /// What the source said of it; [`UNDECLARED`]: nothing.
    pub(super) declared: u8,
    pub(super) heard: Time,
    pub(super) changed: Time,
    /// Counts changes of all claims: the later one is greater.
    pub(super) turn: u64,
    /// Type code and data.
    pub(super) value: Block,
}

#[derive(Clone, Copy)]
pub(super) struct Contest {
    /// The param's slot in the store.
    pub(super) slot: u32,
    pub(super) policy: u16,
    /// Of which ruling its policy is: the last or the one before.
    pub(super) ruling: u32,
    pub(super) claims: u32,
    /// The claim that has the param.
    pub(super) winner: u32,
    pub(super) since: Time,
    /// Whose claim lost it last, and when: the hash of its id.
    pub(super) rival: u64,
    pub(super) lost: Time,
    pub(super) dueled: Option<Time>,
    pub(super) fade: Option<Fade>,
    /// It lost a claim, and nobody looked yet who wins now.
    pub(super) unsettled: bool,
}

/// On the way to the value that a param has when nobody claims it.
#[derive(Clone, Copy)]
pub(crate) struct Fade {
    pub from: f64,
    pub began: Time,
}

/// Two sources of equal priority want a param.
#[derive(Clone, Copy)]
pub(crate) struct Duel {
    pub sources: [SourceId; 2],
    pub priority: u8,
}

/// A claim as `why` tells it.
pub(crate) struct Told<'a> {
    pub source: &'a str,
    pub priority: u8,
    pub value: Value<'a>,
    pub changed: Time,
}

pub(super) const NO_SOURCE: Source = Source {
    id: SourceId { len: 0, text: [0; ID_BYTES_MAX] },
    origin: Origin::router(crate::ShardId(0), SessionId::NONE),
    by: SessionId::NONE,
    alive: Time(0),
    claims: 0,
    leaving: false,
};

pub(super) const NO_CLAIM: Claim = Claim {
    contest: NONE,
    source: NONE,
    priority: 0,
    declared: UNDECLARED,
    heard: Time(0),
    changed: Time(0),
    turn: 0,
    value: Block::EMPTY,
};

pub(super) const NO_CONTEST: Contest = Contest {
    slot: NONE,
    policy: 0,
    ruling: 0,
    claims: 0,
    winner: NONE,
    since: Time(0),
    rival: 0,
    lost: Time(0),
    dueled: None,
    fade: None,
    unsettled: false,
};

impl Source {
    pub(super) fn is_of(&self, session: SessionId) -> bool {
        self.origin.writer == session || self.by == session
    }
}

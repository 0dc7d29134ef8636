//! How a link ends, step by step, and what of it still counts meanwhile.

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::CloseReason;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_link::{Transport, close};

use super::{Blocked, Conns, Phase};

/// How long a link that is to close may take to read what still waits for it.
pub(super) const FLUSH_TIMEOUT: Span = Span::from_secs(5);

/// How long a peer that was told good-bye may take to say it too.
pub(super) const LINGER: Span = Span::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Past it, what still waits is dropped, or the peer's good-bye no longer waited for.
    pub until: Time,
    /// The shard was told, so that the session has ended.
    pub told: bool,
    /// The peer was told that nothing follows.
    pub finished: bool,
    /// The peer will send nothing more.
    pub ended: bool,
    /// Nothing can be sent any more.
    pub broken: bool,
}

impl Leaving {
    pub fn end(&mut self, end: End) {
        self.ended = true;
        self.broken |= end == End::Cut;
    }

    /// Neither side can reach the other any more, or need not.
    pub fn cut(&mut self) {
        self.end(End::Cut);
    }
}

/// How a connection ended that the router did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer will send nothing more.
    Finished,
    /// Neither side can reach the other any more.
    Cut,
}

/// What the end of a link needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Something else must happen first.
    Wait,
    TellShard,
    /// Everything has left: say that nothing follows.
    Finish,
    /// Give it up.
    Release,
}

/// What a peer is told: the close code and the words of RFC 6455 §7.4, where the transport has
/// them.
pub const fn close_code(reason: CloseReason) -> (u16, &'static str) {
    match reason {
        CloseReason::Protocol => (close::PROTOCOL, "HELLO comes first"),
        CloseReason::HandshakeTimeout => (close::POLICY, "no HELLO in time"),
        CloseReason::Unauthorized => (close::POLICY, "unauthorized"),
        CloseReason::Full => (close::TRY_LATER, "the router is full"),
        CloseReason::Idle => (close::POLICY, "nothing was heard for too long"),
        CloseReason::TooSlow => (close::TRY_LATER, "reads too slowly"),
        CloseReason::Offences => (close::PROTOCOL, "too many malformed frames"),
    }
}

impl Conns {
    /// Ends a link on the router's behalf: what is queued leaves, then a good-bye that says why.
    pub fn dismiss(&mut self, link: LinkId, code: u16, text: &str) {
        let conn = self.get(link);
        if conn.phase == Phase::Open {
            conn.transport.close(code, text, &mut conn.pending);
            self.leave(link, |_| {});
        }
    }

    /// Begins the end of a link, or tells one that is leaving already what else happened to it.
    pub fn leave(&mut self, link: LinkId, note: impl FnOnce(&mut Leaving)) {
        let until = self.now + FLUSH_TIMEOUT;
        let conn = self.get(link);
        let mut leaving = match conn.phase {
            Phase::Open => {
                let broken = conn.mute_since.is_some();
                Leaving { until, told: false, finished: false, ended: false, broken }
            }
            Phase::Leaving(leaving) => leaving,
            Phase::Free | Phase::Released => return,
        };
        note(&mut leaving);
        conn.phase = Phase::Leaving(leaving);
        conn.carry.clear();
        conn.partial_since = None;
        self.choose_wrapping(link);
        self.leaving.push_back(link);
        self.mark(link);
    }

    /// Nothing can be sent any more. What the peer said before it went still counts: the link
    /// leaves with the end of that, or in a while.
    pub fn mute(&mut self, link: LinkId) {
        let now = self.now;
        let conn = self.get(link);
        if conn.phase != Phase::Open {
            return self.leave(link, Leaving::cut);
        }
        conn.mute_since.get_or_insert(now);
        conn.pending.clear();
        self.outlets[link.0 as usize].clear();
        self.choose_wrapping(link);
    }

    /// The connection ended. The link leaves once no message of it waits any more.
    pub fn end(&mut self, link: LinkId, end: End) {
        let conn = self.get(link);
        if conn.phase == Phase::Open && conn.blocked != Blocked::No {
            conn.ended = Some(end);
        } else {
            self.leave(link, |leaving| leaving.end(end));
        }
    }

    /// What a leaving link can do next. The caller does it and asks again.
    pub fn farewell(&mut self, link: LinkId) -> Farewell {
        let now = self.now;
        let outlet = &mut self.outlets[link.0 as usize];
        let conn = &mut self.conns[link.0 as usize];
        let Phase::Leaving(leaving) = &mut conn.phase else {
            return Farewell::Wait;
        };
        if leaving.broken {
            conn.pending.clear();
            outlet.clear();
        } else if outlet.sending || outlet.is_ready() {
            return Farewell::Wait;
        }
        if !leaving.told {
            return Farewell::TellShard;
        }
        if leaving.ended || leaving.broken {
            conn.phase = Phase::Released;
            return Farewell::Release;
        }
        if leaving.finished {
            return Farewell::Wait;
        }
        leaving.finished = true;
        leaving.until = now + LINGER;
        Farewell::Finish
    }

    /// The shard knows that the link is gone.
    pub fn told(&mut self, link: LinkId) {
        if let Phase::Leaving(leaving) = &mut self.get(link).phase {
            leaving.told = true;
        }
    }
}

//! The links of one shard as bytes: what waits to leave, what arrived in part, and who is leaving.
//!
//! No kernel and no shard in here, so that all of it runs in tests: the edge carries bytes between
//! this table and the ring, and inputs between this table and the shard.

use std::collections::VecDeque;

use clasp_rt_bridges::json;
use clasp_rt_core::LinkId;
use clasp_rt_core::shard::CloseReason;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_link::{AnyTransport, Transport, close};
use clasp_rt_ring::Socket;

/// Bytes of frames, with what the transport adds, that can wait while as many are on their way. The
/// window of a link is 16 KiB; the rest is for headers.
const OUT_BYTES: usize = 18 << 10;

/// Bytes of a message that was cut between two receives: one receive brings the beginning of a
/// short message, and the next as much as a receive buffer holds.
const CARRY_BYTES: usize = 4 << 10;

/// A link that may not be stepped is not read either, once this much of it waits here.
const CARRY_PAUSE_BYTES: usize = 16 << 10;

/// A message that takes longer to arrive is taken for one that never will.
const PARTIAL_TIMEOUT: Span = Span::from_secs(10);

/// A WebSocket peer that said nothing for so long is asked whether it is there, or earlier: three
/// times before its session would time out.
const PING_INTERVAL_MAX: Span = Span::from_secs(20);

/// The links are looked after at least this often.
const TICK_MAX: Span = Span::from_secs(1);

/// How long a link that is to close may take to read what still waits for it.
const FLUSH_TIMEOUT: Span = Span::from_secs(5);

/// How long a peer that was told good-bye may take to say it too.
const LINGER: Span = Span::from_secs(1);

/// Bytes that one link takes at the edge, all from the start.
pub const LINK_BYTES: u64 = (2 * OUT_BYTES + CARRY_BYTES + size_of::<Conn>()) as u64;

/// What carries the bytes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Socket(Socket),
    /// A bridge of our own; the link's id is the port's index.
    Port,
}

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Free,
    /// The shard knows it, and what it says is stepped.
    Open,
    /// Nothing it says counts any more; what waits for it still leaves.
    Leaving(Leaving),
    /// The ring gives it up; its buffers and its id come back.
    Released,
}

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

/// Why frames of a link wait in its carry although they are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    No,
    /// The shard gave a frame back; it says when to offer it again.
    Held,
    /// A ring to a peer is too full.
    NoRoom,
}

/// Whether a link speaks frames or their JSON form. Its first message decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Unknown,
    Frames,
    Text,
}

#[derive(Debug)]
pub struct Conn {
    pub phase: Phase,
    pub carrier: Carrier,
    pub transport: AnyTransport,
    pub form: Form,
    pub blocked: Blocked,
    /// The ring was told not to receive.
    pub paused: bool,
    /// The connection ended while messages of it wait here; what they say still counts.
    pub ended: Option<End>,
    /// Counted among the router's sessions.
    pub seated: bool,
    heard: Time,
    pinged: Time,
    /// When the message began whose rest is awaited.
    partial_since: Option<Time>,
    /// When the oldest of `carry` arrived, or a little earlier where some of it was used.
    kept_since: Time,
    /// Received and not used yet.
    pub carry: Vec<u8>,
    /// Ready to leave.
    pub pending: Vec<u8>,
    /// Takes turns with `pending`; empty while it is on its way.
    spare: Vec<u8>,
    sending: bool,
    /// The most that `carry` held, and that left at once, since the last tick.
    carry_peak: usize,
    out_peak: usize,
    /// Frame bytes in `pending`, and on their way: what the shard counts.
    pending_frames: u32,
    sending_frames: u32,
    dirty: bool,
}

/// Every link of a shard, by its id.
#[derive(Debug)]
pub struct Conns {
    conns: Box<[Conn]>,
    /// Links with something ready to leave.
    dirty: Vec<LinkId>,
    /// Links whose held frame may be offered again.
    pub resumed: VecDeque<LinkId>,
    /// Links that wait for room in a ring to a peer.
    pub stalled: VecDeque<LinkId>,
    /// Links that are leaving and may be able to take the next step.
    pub leaving: VecDeque<LinkId>,
    /// The time of the turn.
    pub now: Time,
    ping_interval: Span,
    text: String,
}

impl Conns {
    /// Takes the buffers of `links` links, whose sessions end after `session_timeout` of silence.
    pub fn new(links: u32, session_timeout: Option<Span>) -> Self {
        let queue = || VecDeque::with_capacity(links as usize);
        let third = session_timeout.map_or(PING_INTERVAL_MAX, |timeout| Span(timeout.0 / 3));
        Self {
            conns: (0..links).map(|_| Conn::vacant()).collect(),
            dirty: Vec::with_capacity(links as usize),
            resumed: queue(),
            stalled: queue(),
            leaving: queue(),
            now: Time(0),
            ping_interval: third.min(PING_INTERVAL_MAX),
            text: String::new(),
        }
    }

    pub fn len(&self) -> u32 {
        self.conns.len() as u32
    }

    pub fn ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        (0..self.len()).map(LinkId)
    }

    pub fn get(&mut self, link: LinkId) -> &mut Conn {
        &mut self.conns[link.0 as usize]
    }

    /// Gives a free place to a new link.
    pub fn open(&mut self, link: LinkId, carrier: Carrier, transport: AnyTransport, seated: bool) {
        let now = self.now;
        let conn = self.get(link);
        assert_eq!(conn.phase, Phase::Free, "{link:?} has two owners");
        conn.phase = Phase::Open;
        conn.carrier = carrier;
        conn.transport = transport;
        conn.form = Form::Unknown;
        conn.blocked = Blocked::No;
        conn.paused = false;
        conn.ended = None;
        conn.seated = seated;
        conn.heard = now;
        conn.pinged = now;
        conn.partial_since = None;
        assert!(conn.carry.is_empty() && conn.pending.is_empty() && !conn.sending);
    }

    /// Queues a frame in the form that the link speaks.
    pub fn queue(&mut self, link: LinkId, frame: &[u8]) {
        let Self { conns, text, .. } = self;
        let conn = &mut conns[link.0 as usize];
        if conn.phase != Phase::Open {
            return;
        }
        if conn.form == Form::Text {
            text.clear();
            // The router made this frame, so it has a JSON form; without one, silence is all there
            // is.
            if json::from_frame(frame, text).is_ok() {
                conn.transport.wrap_text(text, &mut conn.pending);
            }
        } else {
            conn.transport.wrap(frame, &mut conn.pending);
        }
        conn.pending_frames += frame.len() as u32;
        self.mark(link);
    }

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
                Leaving { until, told: false, finished: false, ended: false, broken: false }
            }
            Phase::Leaving(leaving) => leaving,
            Phase::Free | Phase::Released => return,
        };
        note(&mut leaving);
        conn.phase = Phase::Leaving(leaving);
        conn.carry.clear();
        conn.partial_since = None;
        self.leaving.push_back(link);
        self.mark(link);
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

    /// Will flush the link at the end of the turn, if there is anything.
    pub fn mark(&mut self, link: LinkId) {
        let conn = self.get(link);
        if !conn.pending.is_empty() && !conn.sending && !conn.dirty {
            conn.dirty = true;
            self.dirty.push(link);
        }
    }

    /// The next link with something to send.
    pub fn next_dirty(&mut self) -> Option<LinkId> {
        let link = self.dirty.pop()?;
        self.get(link).dirty = false;
        Some(link)
    }

    /// Takes what is ready to leave, to be given back by [`Conns::sent`].
    pub fn take_pending(&mut self, link: LinkId) -> Option<Vec<u8>> {
        let conn = self.get(link);
        if conn.sending || conn.pending.is_empty() {
            return None;
        }
        let spare = std::mem::take(&mut conn.spare);
        conn.out_peak = conn.out_peak.max(conn.pending.len());
        conn.sending = true;
        conn.sending_frames = std::mem::take(&mut conn.pending_frames);
        Some(std::mem::replace(&mut conn.pending, spare))
    }

    /// A buffer has left: how many frame bytes the shard may count as sent.
    pub fn sent(&mut self, link: LinkId, mut buffer: Vec<u8>) -> u32 {
        buffer.clear();
        let conn = self.get(link);
        conn.spare = buffer;
        conn.sending = false;
        let bytes = std::mem::take(&mut conn.sending_frames);
        self.mark(link);
        bytes
    }

    /// Keeps what was received and not used.
    pub fn keep(&mut self, link: LinkId, rest: &[u8]) {
        let now = self.now;
        let conn = self.get(link);
        if conn.phase == Phase::Open && !rest.is_empty() {
            if conn.carry.is_empty() {
                conn.kept_since = now;
            }
            conn.carry.extend_from_slice(rest);
            conn.carry_peak = conn.carry_peak.max(conn.carry.len());
            conn.partial_since.get_or_insert(now);
        }
    }

    /// Takes what is kept, to be offered again; what is left of it goes to [`Conns::keep`].
    pub fn take_carry(&mut self, link: LinkId) -> Vec<u8> {
        std::mem::take(&mut self.get(link).carry)
    }

    /// Puts the carry back after `used` bytes of it were used.
    pub fn return_carry(&mut self, link: LinkId, mut carry: Vec<u8>, used: usize) {
        let now = self.now;
        let conn = self.get(link);
        carry.drain(..used);
        if conn.phase != Phase::Open {
            carry.clear();
        }
        if carry.is_empty() {
            conn.partial_since = None;
        } else if used > 0 {
            conn.partial_since = Some(now);
            if conn.blocked == Blocked::No {
                // What is left is the beginning of a message that came now.
                conn.kept_since = now;
            }
        }
        conn.carry = carry;
    }

    /// Something was heard from the peer.
    pub fn hear(&mut self, link: LinkId) {
        let now = self.now;
        self.get(link).heard = now;
    }

    /// How often [`Conns::tick`] is to be called: often enough to ask in time.
    pub fn tick_interval(&self) -> Span {
        Span(self.ping_interval.0 / 2).min(TICK_MAX)
    }

    /// What time alone makes of the links.
    pub fn tick(&mut self) {
        let (now, ping_interval) = (self.now, self.ping_interval);
        for link in self.ids() {
            self.get(link).shrink();
            match self.get(link).overdue(now, ping_interval) {
                Overdue::Nothing => {}
                Overdue::Ping => {
                    let conn = self.get(link);
                    conn.pinged = now;
                    conn.transport.ping(&mut conn.pending);
                    self.mark(link);
                }
                Overdue::Partial => self.dismiss(link, close::POLICY, "a message took too long"),
                Overdue::Farewell => self.leave(link, Leaving::cut),
            }
        }
    }

    /// What a leaving link can do next. The caller does it and asks again.
    pub fn farewell(&mut self, link: LinkId) -> Farewell {
        let now = self.now;
        let conn = self.get(link);
        let Phase::Leaving(leaving) = &mut conn.phase else {
            return Farewell::Wait;
        };
        if leaving.broken {
            conn.pending.clear();
            conn.pending_frames = 0;
        } else if conn.sending || !conn.pending.is_empty() {
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

    /// The ring let go of the link: its place is free again.
    pub fn free(&mut self, link: LinkId) {
        let conn = self.get(link);
        assert!(!conn.sending, "the ring returns a buffer before it closes a stream");
        conn.phase = Phase::Free;
        conn.carry.clear();
        conn.pending.clear();
        conn.pending_frames = 0;
    }

    pub fn open_links(&self) -> u32 {
        self.conns.iter().filter(|conn| conn.phase != Phase::Free).count() as u32
    }
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

enum Overdue {
    Nothing,
    Ping,
    Partial,
    Farewell,
}

impl Conn {
    fn vacant() -> Self {
        Self {
            phase: Phase::Free,
            carrier: Carrier::Port,
            transport: AnyTransport::Stream(clasp_rt_link::stream::Stream::new()),
            form: Form::Unknown,
            blocked: Blocked::No,
            paused: false,
            ended: None,
            seated: false,
            heard: Time(0),
            pinged: Time(0),
            partial_since: None,
            kept_since: Time(0),
            carry: Vec::with_capacity(CARRY_BYTES),
            pending: Vec::with_capacity(OUT_BYTES),
            spare: Vec::with_capacity(OUT_BYTES),
            sending: false,
            carry_peak: 0,
            out_peak: 0,
            pending_frames: 0,
            sending_frames: 0,
            dirty: false,
        }
    }

    /// When the oldest message that waits here arrived.
    pub fn kept_since(&self) -> Time {
        self.kept_since
    }

    /// Takes note of the form of a message; the first one decides.
    pub fn speak(&mut self, form: Form) {
        if self.form == Form::Unknown {
            self.form = form;
        }
    }

    /// Whether so much waits here that the peer should be slowed down.
    pub fn wants_pause(&self) -> bool {
        self.blocked != Blocked::No && self.carry.len() > CARRY_PAUSE_BYTES
    }

    /// Gives back what long messages made buffers grow by, once a whole tick went by without any.
    ///
    /// Not earlier: a link that always sends long messages would grow and shrink with each of them.
    fn shrink(&mut self) {
        let carry_peak = std::mem::replace(&mut self.carry_peak, self.carry.len());
        let out_peak = std::mem::replace(&mut self.out_peak, self.pending.len());
        self.carry.shrink_to(CARRY_BYTES.max(carry_peak));
        for buffer in [&mut self.pending, &mut self.spare] {
            buffer.shrink_to(OUT_BYTES.max(out_peak));
        }
    }

    fn overdue(&self, now: Time, ping_interval: Span) -> Overdue {
        match self.phase {
            Phase::Open => {
                let partial = self.partial_since.filter(|_| self.blocked == Blocked::No);
                if partial.is_some_and(|since| now.since(since) > PARTIAL_TIMEOUT) {
                    return Overdue::Partial;
                }
                let silent = now.since(self.heard.max(self.pinged)) >= ping_interval;
                if silent && self.transport.is_open() { Overdue::Ping } else { Overdue::Nothing }
            }
            Phase::Leaving(leaving) if now >= leaving.until => Overdue::Farewell,
            _ => Overdue::Nothing,
        }
    }
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

#[cfg(test)]
mod tests;

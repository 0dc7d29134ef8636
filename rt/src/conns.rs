//! The links of one shard as bytes: what waits to leave, what arrived in part, and who is leaving.
//!
//! No kernel and no shard in here, so that all of it runs in tests: the edge carries bytes between
//! this table and the ring, and inputs between this table and the shard.

mod leaving;
mod outlet;
mod shared;

use std::collections::VecDeque;

use clasp_rt_bridges::json;
use clasp_rt_core::LinkId;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_link::stream::wrap_for_peers;
use clasp_rt_link::ws::wrap_for_clients;
use clasp_rt_link::{AnyTransport, Transport, close};
use clasp_rt_ring::{Buffer, Socket};

use self::leaving::LINGER;
pub use self::leaving::{End, Farewell, Leaving, close_code};
use self::outlet::{Outlet, Wrapping};
use self::shared::SharedLog;

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

/// Links that are looked at for one that has said nothing, when a connection finds no seat.
const SILENT_LOOKS: u32 = 1_024;

/// Bytes that one link takes at the edge, all from the start.
pub const LINK_BYTES: u64 =
    (2 * OUT_BYTES + CARRY_BYTES + size_of::<Conn>() + size_of::<Outlet>()) as u64;

/// Bytes of frames that the links of a shard share, all from the start.
pub const SHARED_BYTES: u64 = 2 * shared::SHARED_LOG_BYTES;

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

/// Why frames of a link wait in its carry although they are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    No,
    /// The shard gave a frame back; it says when to offer it again.
    Held,
    /// A ring to a peer is too full.
    NoRoom,
    /// It had its share of the turn.
    Share,
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
    pub transport: AnyTransport,
    pub form: Form,
    pub blocked: Blocked,
    /// The ring was told not to receive.
    pub paused: bool,
    /// The connection ended while messages of it wait here; what they say still counts.
    pub ended: Option<End>,
    /// Since when nothing can be sent any more, while what the peer said before is still read.
    mute_since: Option<Time>,
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
    /// The most that `carry` held, and that left at once, since the last tick.
    carry_peak: usize,
    out_peak: usize,
}

/// Every link of a shard, by its id.
#[derive(Debug)]
pub struct Conns {
    conns: Box<[Conn]>,
    /// By the same ids.
    outlets: Box<[Outlet]>,
    /// What links share in this turn: WebSocket packets, and frames behind their length.
    logs: [SharedLog; 2],
    /// Links with something ready to leave.
    dirty: VecDeque<LinkId>,
    /// Links whose held frame may be offered again.
    pub resumed: VecDeque<LinkId>,
    /// Links that wait for room in a ring to a peer.
    pub stalled: VecDeque<LinkId>,
    /// Links with more to say than their share of the turn: each goes on in the next one.
    pub yielded: VecDeque<LinkId>,
    /// Links that are leaving and may be able to take the next step.
    pub leaving: VecDeque<LinkId>,
    /// The time of the turn.
    pub now: Time,
    ping_interval: Span,
    open_links: u32,
    /// Where [`Conns::next_silent`] goes on.
    silent_hand: u32,
    /// Counts turns, for the shares.
    turn: u32,
    text: String,
}

impl Conns {
    /// Takes the buffers of `links` links, whose sessions end after `session_timeout` of silence.
    pub fn new(links: u32, session_timeout: Option<Span>) -> Self {
        let queue = || VecDeque::with_capacity(links as usize);
        let third = session_timeout.map_or(PING_INTERVAL_MAX, |timeout| Span(timeout.0 / 3));
        Self {
            conns: (0..links).map(|_| Conn::vacant()).collect(),
            outlets: (0..links).map(|_| Outlet::shut()).collect(),
            logs: [SharedLog::new(wrap_for_clients), SharedLog::new(wrap_for_peers)],
            dirty: queue(),
            resumed: queue(),
            stalled: queue(),
            yielded: queue(),
            leaving: queue(),
            now: Time(0),
            ping_interval: third.min(PING_INTERVAL_MAX),
            open_links: 0,
            silent_hand: 0,
            turn: 0,
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
        conn.transport = transport;
        conn.form = Form::Unknown;
        conn.blocked = Blocked::No;
        conn.paused = false;
        conn.ended = None;
        conn.mute_since = None;
        conn.seated = seated;
        conn.heard = now;
        conn.pinged = now;
        conn.partial_since = None;
        assert!(conn.carry.is_empty() && conn.pending.is_empty());
        let log = matches!(conn.transport, AnyTransport::Stream(_)).into();
        let outlet = &mut self.outlets[link.0 as usize];
        assert!(!outlet.sending && !outlet.is_ready());
        *outlet = Outlet { carrier, log, dirty: outlet.dirty, ..Outlet::shut() };
        self.open_links += 1;
        self.choose_wrapping(link);
    }

    /// How many messages of `link` this turn still takes: at first `whole`.
    pub fn share(&mut self, link: LinkId, whole: u32) -> &mut u32 {
        let turn = self.turn;
        let outlet = &mut self.outlets[link.0 as usize];
        if std::mem::replace(&mut outlet.turn, turn) != turn {
            outlet.share = whole;
        }
        &mut outlet.share
    }

    pub fn carrier(&self, link: LinkId) -> Carrier {
        self.outlets[link.0 as usize].carrier
    }

    /// The transport's handshake is done: what it appended to `pending` goes first.
    pub fn opened(&mut self, link: LinkId) {
        let outlet = &mut self.outlets[link.0 as usize];
        outlet.has_pending = true;
        outlet.is_own = true;
        self.choose_wrapping(link);
    }

    /// Takes note of the form of a message; the first one decides.
    pub fn speak(&mut self, link: LinkId, form: Form) {
        let conn = self.get(link);
        if conn.form == Form::Unknown {
            conn.form = form;
            self.choose_wrapping(link);
        }
    }

    /// Decides how frames for the link are wrapped from now on.
    fn choose_wrapping(&mut self, link: LinkId) {
        let conn = &self.conns[link.0 as usize];
        let outlet = &mut self.outlets[link.0 as usize];
        let is_plain = conn.form != Form::Text && conn.transport.is_open();
        outlet.wrapping = match conn.phase {
            Phase::Open if conn.mute_since.is_some() => Wrapping::None,
            Phase::Open if is_plain => Wrapping::Shared,
            Phase::Open => Wrapping::Own,
            _ => Wrapping::None,
        };
    }

    /// Queues a frame in the form that the link speaks.
    pub fn queue(&mut self, link: LinkId, frame: &[u8]) {
        let outlet = &mut self.outlets[link.0 as usize];
        let may_share = match outlet.wrapping {
            Wrapping::None => return,
            Wrapping::Own => false,
            Wrapping::Shared => !outlet.sending && !outlet.is_own,
        };
        let log = &mut self.logs[usize::from(outlet.log)];
        if !may_share || !log.add(frame, &mut outlet.run) {
            return self.queue_own(link, frame);
        }
        outlet.pending_frames += frame.len() as u32;
        if !outlet.dirty {
            outlet.dirty = true;
            self.dirty.push_back(link);
        }
    }

    /// Queues a frame in bytes that are this link's alone.
    fn queue_own(&mut self, link: LinkId, frame: &[u8]) {
        self.stop_sharing(link);
        let Self { conns, outlets, text, .. } = self;
        let conn = &mut conns[link.0 as usize];
        outlets[link.0 as usize].is_own = true;
        outlets[link.0 as usize].pending_frames += frame.len() as u32;
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
        self.mark(link);
    }

    /// Copies what the link shares with others, so that it can wait longer than a turn.
    pub fn stop_sharing(&mut self, link: LinkId) {
        let outlet = &mut self.outlets[link.0 as usize];
        let run = std::mem::take(&mut outlet.run);
        if !run.is_empty() {
            let shared = self.logs[usize::from(outlet.log)].bytes(run);
            self.conns[link.0 as usize].pending.extend_from_slice(shared);
            outlet.has_pending = true;
            outlet.is_own = true;
        }
    }

    /// Will flush the link at the end of the turn, if there is anything.
    pub fn mark(&mut self, link: LinkId) {
        let outlet = &mut self.outlets[link.0 as usize];
        outlet.has_pending = !self.conns[link.0 as usize].pending.is_empty();
        if outlet.is_ready() && !outlet.dirty {
            outlet.dirty = true;
            self.dirty.push_back(link);
        }
    }

    /// The next link with something to send.
    pub fn next_dirty(&mut self) -> Option<LinkId> {
        let link = self.dirty.pop_front()?;
        self.outlets[link.0 as usize].dirty = false;
        Some(link)
    }

    /// Bytes that are ready to leave.
    pub fn ready_bytes(&self, link: LinkId) -> usize {
        let outlet = &self.outlets[link.0 as usize];
        match outlet.is_ready() {
            true => outlet.run.len() + self.conns[link.0 as usize].pending.len(),
            false => 0,
        }
    }

    /// Takes what is ready to leave, to be given back by [`Conns::sent`].
    pub fn take_pending(&mut self, link: LinkId) -> Option<Buffer> {
        let outlet = &mut self.outlets[link.0 as usize];
        if !outlet.is_ready() {
            return None;
        }
        outlet.sending = true;
        outlet.sending_frames = std::mem::take(&mut outlet.pending_frames);
        let log = &self.logs[usize::from(outlet.log)];
        let run = std::mem::take(&mut outlet.run);
        if !outlet.has_pending {
            return Some(Buffer::Shared { bytes: log.share(), part: run });
        }
        outlet.has_pending = false;
        outlet.is_own = false;
        let conn = &mut self.conns[link.0 as usize];
        if !run.is_empty() {
            let shared = log.bytes(run);
            conn.pending.extend_from_slice(shared);
            conn.pending.rotate_right(shared.len());
        }
        conn.out_peak = conn.out_peak.max(conn.pending.len());
        let spare = std::mem::take(&mut conn.spare);
        Some(Buffer::Own(std::mem::replace(&mut conn.pending, spare)))
    }

    /// All that waited was taken: what comes next is shared anew.
    pub fn end_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.logs.iter_mut().for_each(SharedLog::end_turn);
    }

    /// A buffer has left: how many frame bytes the shard may count as sent.
    pub fn sent(&mut self, link: LinkId, buffer: Buffer) -> u32 {
        if let Buffer::Own(mut bytes) = buffer {
            bytes.clear();
            self.get(link).spare = bytes;
        }
        let outlet = &mut self.outlets[link.0 as usize];
        outlet.sending = false;
        let bytes = std::mem::take(&mut outlet.sending_frames);
        if outlet.has_pending {
            self.mark(link);
        }
        bytes
    }

    /// Whether the shard is still to hear what becomes of the link's frames.
    pub fn is_heard_of(&self, link: LinkId) -> bool {
        self.outlets[link.0 as usize].wrapping != Wrapping::None
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

    /// The ring let go of the link: its place is free again.
    pub fn free(&mut self, link: LinkId) {
        let outlet = &mut self.outlets[link.0 as usize];
        assert!(!outlet.sending, "the ring returns a buffer before it closes a stream");
        outlet.clear();
        outlet.wrapping = Wrapping::None;
        let conn = self.get(link);
        conn.phase = Phase::Free;
        conn.carry.clear();
        conn.pending.clear();
        self.open_links -= 1;
    }

    /// The next link that has a seat and has not said a message yet. Goes round, so that each of
    /// them has its time, and gives up after [`SILENT_LOOKS`].
    pub fn next_silent(&mut self) -> Option<LinkId> {
        for _ in 0..self.len().min(SILENT_LOOKS) {
            let link = LinkId(self.silent_hand);
            self.silent_hand = (self.silent_hand + 1) % self.len();
            let conn = self.get(link);
            if conn.seated && conn.phase == Phase::Open && conn.form == Form::Unknown {
                return Some(link);
            }
        }
        None
    }

    pub fn open_links(&self) -> u32 {
        self.open_links
    }
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
            transport: AnyTransport::Stream(clasp_rt_link::stream::Stream::new()),
            form: Form::Unknown,
            blocked: Blocked::No,
            paused: false,
            ended: None,
            mute_since: None,
            seated: false,
            heard: Time(0),
            pinged: Time(0),
            partial_since: None,
            kept_since: Time(0),
            carry: Vec::with_capacity(CARRY_BYTES),
            pending: Vec::with_capacity(OUT_BYTES),
            spare: Vec::with_capacity(OUT_BYTES),
            carry_peak: 0,
            out_peak: 0,
        }
    }

    /// When the oldest message that waits here arrived.
    pub fn kept_since(&self) -> Time {
        self.kept_since
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
                if self.mute_since.is_some_and(|since| now.since(since) >= LINGER) {
                    return Overdue::Farewell;
                }
                let silent = now.since(self.heard.max(self.pinged)) >= ping_interval;
                if silent && self.transport.is_open() { Overdue::Ping } else { Overdue::Nothing }
            }
            Phase::Leaving(leaving) if now >= leaving.until => Overdue::Farewell,
            _ => Overdue::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;

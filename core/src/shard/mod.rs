//! The shard: one slice of the address space and one set of links, as a machine.
//!
//! Read [`Shard::step`] first: it is the only door, but for rules that change
//! ([`Shard::adopt`]). What a link says enters by `session`, is
//! decided at its address's home by `home`, and leaves by `egress`; with more than one shard the
//! three may be three shards, and `record` is what they hand to each other.

mod announced;
mod aside;
mod audience;
pub mod bucket;
mod bundle;
mod contend;
mod count;
mod critical;
mod declare;
mod egress;
mod gesture;
mod history;
mod home;
mod input;
mod introduce;
mod known;
mod lists;
mod marker;
mod outbox;
mod pace;
mod port;
mod record;
mod refused;
mod ruling;
mod samples;
pub mod scope;
mod session;
mod session_id;
mod settings;
mod store;
mod subscription;
mod timeline;
pub mod tokens;

pub use count::Counts;
pub use home::SHARDS_MAX;
pub use input::{Admit, CloseReason, Effects, Input, Lane, Outcome, Room};
pub use ruling::Ruling;
pub use session_id::SessionId;
pub use settings::{
    Action, Arbitration, Grant, OnLoss, Order, Rule, RuleFor, Scope, Settings, SourceFor,
};

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use announced::AnnouncedSignals;
use aside::Aside;
use audience::Audiences;
use bundle::Bundles;
use critical::Critical;
use egress::{Egress, Pulls};
use gesture::Gestures;
use history::History;
use home::Interests;
use introduce::Introductions;
use known::Known;
use marker::Marker;
use outbox::{Class, SharedFrame};
use pace::{Pace, Unsubscribed};
use port::{Ports, Sent};
use record::{Origin, Record};
use refused::Refused;
use session::Session;
use store::{Stamp, Store};
use subscription::Subscriptions;
use timeline::Timelines;

use crate::limits::{ADDRESS_BYTES_MAX, FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX, PEER_ROOM_BYTES};
use crate::message::{ErrorReply, Message};
use crate::signal::Qos;
use crate::time::Time;
use crate::timers::Timers;
use crate::wire::{Scratch, binary};
use crate::{LinkId, ShardId};

/// Buffers for frames in the making; one step never nests deeper.
const SPARE_BUFFERS: usize = 10;
/// What one turn does at most of everything that time brings: links to close, params that expire,
/// values that were held back. The rest follows in the next turn, after what arrived meanwhile.
const TURN_MAX: usize = 64;
/// A wall clock that is set right bit by bit moves less than this between two readings.
const CLOCK_STEP_US: u64 = 500_000;
/// A record around the longest frame.
const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX + 128;
/// The text of an ERROR, which may quote an address.
const TEXT_BYTES_MAX: usize = 2 * ADDRESS_BYTES_MAX;
/// What a ring to a peer needs for a record, beside its bytes, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;
/// What the end of one session hands to one peer at most: its gestures' ends, each with an address.
const FAREWELL_BYTES_MAX: usize = 96 * 1024;

/// One shard. See the module.
pub struct Shard {
    settings: Settings,
    /// Some params have arbitrated sources.
    arbitrates: bool,
    now: Time,
    /// At that time the wall clock showed that many microseconds since the Unix epoch.
    clock: (Time, u64),
    counts: Counts,

    // Ingress: who is on a link, what they may write, how often.
    sessions: Vec<Session>,
    sessions_begun: u64,
    /// Handshake and idle time-outs.
    quiet: Timers,
    /// Tokens that expire.
    expiring: Timers,
    gestures: Gestures,
    introductions: Introductions,
    /// The first link whose session may not have the priority of the ruling yet.
    next_ranked: u32,
    /// Links whose frame waits for a bundle's decision.
    held_links: Vec<LinkId>,
    doomed: Vec<(LinkId, CloseReason)>,
    /// Since when something waits for room in the `Forward` rings.
    without_room: Option<Time>,
    /// Bytes that this step handed to peers, by lane; what one got is charged as if all did.
    handed: [usize; 2],

    /// Addresses that came lately, for ingress, home and egress.
    known: Known,

    // Home: what the addresses of this slice hold.
    store: Store,
    interests: Interests,
    history: History,
    timelines: Timelines,
    aside: Aside,
    announced: AnnouncedSignals,
    bundles: Bundles,

    // Egress: which links want what, and how they get it.
    subscriptions: Subscriptions,
    audiences: Audiences,
    critical: Critical,
    ports: Ports,
    pace: Pace,
    pulls: Pulls,
    egress: Egress,

    scratch: Scratch,
    spare: Vec<Vec<u8>>,
    record: Vec<u8>,
    text: String,
}

impl Shard {
    /// Takes all the memory that it will ever use.
    pub fn new(mut settings: Settings) -> Self {
        let arbitrations = core::mem::take(&mut settings.arbitrations);
        let introduces =
            settings.introduces || !arbitrations.is_empty() || !settings.sources.is_empty();
        let limits = &settings.limits;
        let seed = settings.seed;
        let links = limits.links_max;
        Self {
            arbitrates: !arbitrations.is_empty(),
            now: Time(0),
            clock: (Time(0), 0),
            counts: Counts::default(),
            sessions: alloc::vec![Session::VACANT; links as usize],
            sessions_begun: 0,
            quiet: Timers::new(links),
            expiring: Timers::new(links),
            gestures: Gestures::new(limits, settings.gesture_interval, seed),
            introductions: Introductions::new(if introduces { links } else { 0 }),
            next_ranked: links,
            held_links: Vec::with_capacity(links as usize),
            doomed: Vec::with_capacity(links as usize),
            without_room: None,
            handed: [0; 2],
            known: Known::new(limits, seed),
            store: Store::new(limits, seed, settings.param_ttl, &settings.rules, &arbitrations),
            interests: Interests::new(limits, settings.shards, seed),
            history: History::new(limits.history_bytes),
            timelines: Timelines::new(limits, settings.timeline_interval),
            aside: Aside::new(limits),
            announced: AnnouncedSignals::new(limits, seed),
            bundles: Bundles::new(limits),
            subscriptions: Subscriptions::new(limits, seed),
            audiences: Audiences::new(limits),
            critical: Critical::new(&settings.critical),
            ports: Ports::new(limits, settings.stall_timeout),
            pace: Pace::new(limits, seed),
            pulls: Pulls::new(limits),
            egress: Egress::new(limits),
            scratch: Scratch::with_capacity(),
            spare: (0..SPARE_BUFFERS).map(|_| Vec::with_capacity(FRAME_BYTES_MAX)).collect(),
            record: Vec::with_capacity(RECORD_BYTES_MAX),
            text: String::with_capacity(TEXT_BYTES_MAX),
            settings,
        }
    }

    /// Bytes that [`Shard::new`] took.
    pub fn memory_bytes(&self) -> u64 {
        let links = self.sessions.len();
        let of_link =
            size_of::<Session>() + size_of::<LinkId>() + size_of::<(LinkId, CloseReason)>();
        let buffers =
            SPARE_BUFFERS * FRAME_BYTES_MAX + RECORD_BYTES_MAX + TEXT_BYTES_MAX + PAYLOAD_BYTES_MAX;
        (links * of_link + buffers) as u64
            + self.quiet.memory_bytes()
            + self.expiring.memory_bytes()
            + self.gestures.memory_bytes()
            + self.introductions.memory_bytes()
            + self.known.memory_bytes()
            + self.store.memory_bytes()
            + self.interests.memory_bytes()
            + self.history.memory_bytes()
            + self.timelines.memory_bytes()
            + self.aside.memory_bytes()
            + self.announced.memory_bytes()
            + self.bundles.memory_bytes()
            + self.subscriptions.memory_bytes()
            + self.audiences.memory_bytes()
            + self.critical.memory_bytes()
            + self.ports.memory_bytes()
            + self.pace.memory_bytes()
            + self.pulls.memory_bytes()
            + self.egress.memory_bytes()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Params whose home this shard is, at present.
    pub fn params(&self) -> u32 {
        self.store.len()
    }

    /// Claims on arbitrated params whose home this shard is, at present.
    pub fn claims(&self) -> u32 {
        self.store.claims.len()
    }

    /// Whether [`Input::Host`] is of any use: some params have arbitrated sources, or may have.
    pub fn wants_hosts(&self) -> bool {
        self.introductions.are_kept()
    }

    /// Subscriptions of this shard's links, at present.
    pub fn subscriptions(&self) -> u32 {
        self.subscriptions.len()
    }

    /// Applies `input` at `now`, telling `fx` what the edge must do.
    ///
    /// Equal inputs at equal times give equal effects, byte for byte. `now` never goes back.
    pub fn step(&mut self, now: Time, input: Input<'_>, fx: &mut impl Effects) -> Outcome {
        assert!(now >= self.now, "time went back");
        self.now = now;
        self.handed = [0; 2];
        self.ports.begin(now);
        let outcome = match input {
            Input::Opened { link, admit } => self.opened(link, admit),
            Input::Host { link, host } => self.introductions.host(link, host),
            Input::Frame { link, frame } => self.receive(link, frame, fx),
            Input::Peer { from, lane, record } => self.handed(from, lane, record, fx),
            Input::Sent { link, bytes } => self.sent(link, bytes, fx),
            Input::Alive { link } => self.heard(link),
            Input::Closed { link } => self.closed(link, fx),
            Input::Clock { unix_us } => self.set_clock(unix_us),
            Input::Deadline { forward_room } => self.elapse(forward_room, fx),
        };
        if outcome == Outcome::Held {
            self.counts.held += 1;
        }
        outcome
    }

    /// When [`Input::Deadline`] is due, if nothing happens first.
    ///
    /// What waits for room in a ring keeps the time at which it began to wait, so that an edge can
    /// tell that nothing but the peer can help.
    pub fn deadline(&self) -> Option<Time> {
        let at_once = self.without_room.unwrap_or(self.now);
        if self.bundles.wants_turn() || !self.doomed.is_empty() {
            return Some(at_once);
        }
        if self.bundles.holds_home() {
            return None;
        }
        [
            self.subscriptions.next_orphan().map(|_| at_once),
            (!self.aside.is_empty()).then_some(at_once),
            self.is_ruled_anew().then_some(at_once),
            self.quiet.next(),
            self.expiring.next(),
            self.ports.deadline(),
            self.pulls.deadline(),
            self.pace.deadline(),
            self.gestures.deadline(),
            self.store.deadline(),
            self.store.claims.deadline(at_once),
            self.timelines.deadline(),
            self.bundles.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Everything whose time has come, as far as one turn and the rings to the peers allow.
    fn elapse(&mut self, forward_room: bool, fx: &mut impl Effects) -> Outcome {
        self.without_room = if forward_room { None } else { self.without_room.or(Some(self.now)) };
        self.advance_bundle(fx);
        if forward_room {
            self.bury_doomed(fx);
        }
        if self.bundles.holds_home() {
            return Outcome::Taken;
        }
        self.end_silent_sessions();
        self.end_expired_sessions(fx);
        for _ in 0..TURN_MAX {
            let Some(link) = self.ports.overdue() else { break };
            self.doom(link, CloseReason::TooSlow);
        }
        if forward_room {
            self.run_due_bundles(fx);
        }
        self.emit_timelines(fx);
        self.expire_params();
        self.lose_claims(fx);
        self.advance_fades(fx);
        self.judge_rest(fx);
        self.flush_paced(fx);
        self.step_aside(fx);
        if forward_room {
            self.rank_sessions(fx);
            self.flush_gestures(fx);
            self.start_spanning(fx);
            self.continue_pulls(fx);
            self.remove_orphans(fx);
            self.bury_doomed(fx);
        }
        Outcome::Taken
    }

    fn expire_params(&mut self) {
        for _ in 0..TURN_MAX {
            if self.store.expire(self.now).is_none() {
                return;
            }
            self.counts.params_expired += 1;
        }
    }

    /// A record of another shard.
    fn handed(
        &mut self,
        from: ShardId,
        lane: Lane,
        record: &[u8],
        fx: &mut impl Effects,
    ) -> Outcome {
        if lane == Lane::Forward && self.bundles.holds_home() {
            return Outcome::Held;
        }
        self.counts.records_in += 1;
        let bytes = record;
        let record = Record::decode(bytes).expect("shards write only whole records");
        if self.set_aside(&record, bytes) {
            return Outcome::Taken;
        }
        match record {
            Record::Write { origin, payload } => self.write(&origin, payload, fx),
            Record::Bundle { origin, payload } => self.apply_bundle(&origin, payload, fx),
            Record::Spanning { origin, payload } => self.enqueue_spanning(&origin, payload, fx),
            Record::Prepare { origin, payload } => self.prepare(from, &origin, payload, fx),
            Record::Get { origin, grant, address } => self.get(&origin, grant, address, fx),
            Record::Query { origin, grant, pattern } => self.query(&origin, grant, pattern, fx),
            Record::Direct { origin, to, frame } => self.direct(&origin, to, frame, fx),
            Record::Interest { wanted, pattern } => self.interests.change(from, wanted, pattern),
            Record::Pull { origin, grant, serial, cursor, pattern } => {
                self.answer_pull(&origin, grant, serial, cursor, pattern, fx);
            }
            Record::History { origin, count_max, window_ms, pattern } => {
                self.recall(&origin, count_max, window_ms, pattern, fx);
            }
            Record::Fence { origin } => self.hand(origin.shard, Record::Fenced { origin }, fx),
            Record::SessionEnded { session } => self.store.end_session(session),
            Record::Released { origin, id } => {
                self.store.claims.release(origin.writer, id);
                self.hand(origin.shard, Record::Signed { origin }, fx);
            }
            Record::Signed { origin } => self.signed(&origin, fx),
            Record::Alive { session, id } => {
                self.store.claims.keep_alive(self.now, session, id);
            }
            Record::Ranked { session, before, priority } => {
                self.store.rank(session, before, priority);
            }
            Record::Published { origin, key, tag, frame } => {
                self.published(&origin, key, tag.as_ref(), frame, fx);
            }
            Record::Reply { origin, frame } => self.reply_frame(&origin, frame, fx),
            Record::Chunk { origin, serial, next, frame } => {
                self.chunk(&origin, serial, next, frame, fx);
            }
            Record::Fenced { origin } => self.fenced(&origin, fx),
            Record::Vote { error } => self.bundles.vote(error),
            Record::Decide { until } => self.bundles.decide(until),
            Record::Done { revision } => self.bundles.done(revision),
        }
        Outcome::Taken
    }

    /// Hands a record to another shard, on the lane that its kind belongs to.
    fn hand(&mut self, shard: ShardId, record: Record<'_>, fx: &mut impl Effects) {
        debug_assert!(shard != self.settings.id, "a shard does not hand records to itself");
        record.encode(&mut self.record);
        self.charge(record.lane());
        self.counts.records_out += 1;
        fx.to_peer(shard, record.lane(), &self.record);
    }

    /// Hands a record to every other shard.
    fn hand_all(&mut self, record: Record<'_>, fx: &mut impl Effects) {
        if self.settings.shards == 1 {
            return;
        }
        record.encode(&mut self.record);
        self.charge(record.lane());
        for shard in self.others() {
            self.counts.records_out += 1;
            fx.to_peer(shard, record.lane(), &self.record);
        }
    }

    fn charge(&mut self, lane: Lane) {
        self.handed[lane as usize] += self.record.len() + RECORD_OVERHEAD_BYTES;
    }

    /// Whether this step may hand `bytes` more to a peer.
    fn has_room(&self, lane: Lane, bytes: usize) -> bool {
        self.handed[lane as usize] + bytes <= PEER_ROOM_BYTES
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.settings.id;
        (0..self.settings.shards).map(ShardId).filter(move |&shard| shard != own)
    }

    /// Answers `to`, wherever its link is.
    fn reply(&mut self, to: &Origin, message: &Message<'_>, fx: &mut impl Effects) {
        if to.is_router() {
            return;
        }
        let mut frame = self.lend();
        if binary::encode(message, binary::default_qos(message), &mut frame).is_ok() {
            self.reply_frame(to, &frame, fx);
        }
        self.give_back(frame);
    }

    fn reply_frame(&mut self, to: &Origin, frame: &[u8], fx: &mut impl Effects) {
        if to.is_router() {
            return;
        }
        if to.shard == self.settings.id {
            if self.is_current(to) {
                self.send(to.link, Class::of_reply(frame), frame, fx);
            }
        } else {
            self.hand(to.shard, Record::Reply { origin: *to, frame }, fx);
        }
    }

    /// Answers with an ERROR that gives the facts.
    fn refuse(
        &mut self,
        to: &Origin,
        refused: Refused,
        address: Option<&str>,
        fx: &mut impl Effects,
    ) {
        self.counts.refused += 1;
        self.error(to, refused.code(), format_args!("{refused}"), address, fx);
    }

    fn error(
        &mut self,
        to: &Origin,
        code: u16,
        message: core::fmt::Arguments<'_>,
        address: Option<&str>,
        fx: &mut impl Effects,
    ) {
        let mut frame = self.lend();
        if self.encode_error(code, message, address, &mut frame) {
            self.reply_frame(to, &frame, fx);
        }
        self.give_back(frame);
    }

    fn encode_error(
        &mut self,
        code: u16,
        message: core::fmt::Arguments<'_>,
        address: Option<&str>,
        frame: &mut Vec<u8>,
    ) -> bool {
        self.text.clear();
        let _ = self.text.write_fmt(message);
        let address = address.filter(|address| address.len() <= crate::limits::ADDRESS_BYTES_MAX);
        let error = ErrorReply { code, message: &self.text, address, correlation_id: None };
        binary::encode(&Message::Error(error), Qos::Fire, frame).is_ok()
    }

    /// Sends `frame` to a link of this shard. Where it finds no room the slowest link is doomed.
    fn send(&mut self, link: LinkId, class: Class, frame: &[u8], fx: &mut impl Effects) {
        let Self { ports, doomed, counts, .. } = self;
        Exits { ports, doomed, counts }.send(link, &class, frame, &mut None, fx);
    }

    /// Marks a link for closing at the next deadline, which is now: never in the middle of a
    /// fan-out.
    fn doom(&mut self, link: LinkId, reason: CloseReason) {
        let Self { ports, doomed, counts, .. } = self;
        Exits { ports, doomed, counts }.doom(link, reason);
    }

    fn bury_doomed(&mut self, fx: &mut impl Effects) {
        for _ in 0..TURN_MAX {
            let room = [Lane::Forward, Lane::Publish]
                .iter()
                .all(|&lane| self.has_room(lane, FAREWELL_BYTES_MAX));
            if !room {
                return;
            }
            let Some((link, reason)) = self.doomed.pop() else { return };
            match reason {
                CloseReason::TooSlow => self.counts.closed_slow += 1,
                CloseReason::Idle => self.counts.closed_idle += 1,
                _ => {}
            }
            self.close(link, reason, fx);
        }
    }

    /// The wall clock may step, for one at start on a machine that kept no time: then tokens expire
    /// at another instant than was thought.
    fn set_clock(&mut self, unix_us: u64) -> Outcome {
        let off_us = self.unix_us().abs_diff(unix_us);
        self.clock = (self.now, unix_us);
        if off_us > CLOCK_STEP_US {
            self.watch_expiry_anew();
        }
        Outcome::Taken
    }

    /// Microseconds since the Unix epoch, now.
    #[inline]
    fn unix_us(&self) -> u64 {
        let (then, unix_us) = self.clock;
        unix_us + self.now.since(then).as_micros()
    }

    #[inline]
    fn stamp(&self, origin: &Origin) -> Stamp {
        let holder = if origin.ended { SessionId::NONE } else { origin.writer };
        Stamp { now: self.now, unix_us: self.unix_us(), writer: origin.writer, holder }
    }

    #[inline]
    fn lend(&mut self) -> Vec<u8> {
        self.spare.pop().expect("one step never nests deeper")
    }

    #[inline]
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }

    fn remove_orphans(&mut self, fx: &mut impl Effects) {
        for _ in 0..TURN_MAX {
            let Some(slot) = self.subscriptions.next_orphan() else { return };
            if !self.has_room(Lane::Forward, RECORD_BYTES_MAX) {
                return;
            }
            let paced = self.pace.unsubscribed(slot, TURN_MAX);
            if paced == Unsubscribed::Partly {
                return;
            }
            self.unsubscribe_slot(slot, fx);
        }
    }
}

/// The ways out, and what is noted where one of them ends.
struct Exits<'s> {
    ports: &'s mut Ports,
    doomed: &'s mut Vec<(LinkId, CloseReason)>,
    counts: &'s mut Counts,
}

impl Exits<'_> {
    /// Sends `frame` to one of the links that get it, for all of which it then waits once.
    #[inline(always)]
    fn send(
        &mut self,
        link: LinkId,
        class: &Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        fx: &mut impl Effects,
    ) {
        while let Sent::TooSlow(slow) = self.ports.send(link, class, frame, shared, self.counts, fx)
        {
            self.doom(slow, CloseReason::TooSlow);
        }
    }

    #[cold]
    fn doom(&mut self, link: LinkId, reason: CloseReason) {
        if self.ports.is_open(link) {
            self.ports.shut(link);
            self.doomed.push((link, reason));
        }
    }
}

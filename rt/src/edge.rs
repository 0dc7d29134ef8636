//! The kernel's edge of one shard: ring, links and exchanges joined into turns.
//!
//! A turn takes what arrived, steps it at one instant, and lets what was decided leave with at most
//! one system call. Whatever may hand records to peers waits until their rings have room.

mod budget;
mod feed;
mod guests;
mod hosts;
mod ports;
mod rulings;
mod seats;
mod stop;
mod wait;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clasp_rt_core::limits::FRAME_BYTES_MAX;
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Outcome, Room, Shard};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::{LinkId, ShardId};
use clasp_rt_link::AnyTransport;
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_ring::{Buffer, Event as RingEvent, Lease, Ring, Sizes, Sleeper, Socket};
use tracing::error;

use self::budget::Budget;
use self::feed::Feed;
pub use self::guests::Guests;
pub use self::seats::Seats;
pub use self::stop::Lull;
use crate::clock::Clock;
use crate::conns::{Blocked, Carrier, Conns, End, Farewell, Leaving, Phase, close_code};
use crate::peers::{Inbounds, Outbound};
use crate::plan_types::ListenerTransport;
use crate::port::{Port, Said};
use crate::rulings::Rulings;
use crate::stages::Stages;

/// Records taken from one lane in one turn, so that links are not starved by a busy peer.
const RECORDS_PER_TURN: usize = 256;

/// How long a shard sleeps while a peer's ring is full: nobody wakes it when there is room again.
const FULL_PEER_NAP: Duration = Duration::from_micros(50);

/// Listeners, the alarm, and a few more.
const FIXED_FILES: u32 = 64;

/// What a shard's ring needs for so many links: accepted ones, and those of services.
pub const fn sizes(accepted: u32, guests: u32) -> Sizes {
    Sizes {
        accepted_max: accepted,
        fixed_max: FIXED_FILES + guests,
        stream_buffers: 1024,
        packet_buffers: 2,
        datagrams_max: 1,
    }
}

/// What an edge is made of, beside its ring.
pub struct Parts {
    pub links: u32,
    pub session_timeout: Option<Span>,
    pub outbound: Outbound,
    pub inbounds: Inbounds,
    /// Bridges of our own; port `n` is link `n`.
    pub ports: Vec<Port>,
    /// Links of services of our own; they follow the ports.
    pub guests: Guests,
    pub rulings: Rulings,
    pub sleeper: Arc<Sleeper>,
    pub seats: Arc<Seats>,
    pub clock: Clock,
    pub stages: Stages,
    /// How long to poll before sleeping; `None`: for ever.
    pub spin: Option<Duration>,
    pub stop: Arc<AtomicBool>,
    pub lull: Arc<Lull>,
}

/// What happened at the edge of a shard; only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    pub turns: u64,
    /// Time in turns that found something to do, the kernel's share of sending included.
    pub busy_ns: u64,
    pub links_opened: u64,
    pub links_closed: u64,
    /// Links for which no seat was free.
    pub links_turned_away: u64,
    /// Links that had said nothing and were ended, so that others had their seats.
    pub links_displaced: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub peer_records: u64,
    /// Turns in which something waited for room in a ring to a peer.
    pub peer_waits: u64,
}

pub struct Edge {
    ring: Ring,
    out: Out,
    inbounds: Inbounds,
    ports: Vec<Port>,
    guests: Guests,
    rulings: Rulings,
    listeners: Vec<(Socket, ListenerTransport)>,
    /// Tried again with the next tick.
    lost_listeners: Vec<Socket>,
    sleeper: Arc<Sleeper>,
    seats: Arc<Seats>,
    clock: Clock,
    spin: Option<Duration>,
    stop: Arc<AtomicBool>,
    lull: Arc<Lull>,
    /// It has said good-bye: no session begins any more.
    is_over: bool,
    /// Something happened in this turn, so that the next one does not wait.
    worked: bool,
    last_work: Time,
    next_tick: Time,
    counts: EdgeCounts,
    /// Why records of peers wait although they could be stepped otherwise.
    forwards: Blocked,
    budget: Budget,
    /// For each port, frame bytes that were said and not yet counted.
    said_to_ports: Vec<u32>,
    /// A text message as a frame.
    frame: Vec<u8>,
    /// Where a peer is, in words.
    host: String,
}

/// Where the shard's decisions go.
struct Out {
    conns: Conns,
    peers: Outbound,
    stages: Stages,
}

impl Effects for Out {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.stages.queued();
        self.conns.queue(link, frame);
    }

    fn send_late(&mut self, link: LinkId, frame: &[u8], since: Time) {
        self.stages.late(since, frame);
        self.conns.queue(link, frame);
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        let (code, text) = close_code(reason);
        self.conns.dismiss(link, code, text);
    }

    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]) {
        let note = self.stages.note(lane);
        self.peers.push(shard, lane, note, record);
    }

    fn resume(&mut self, link: LinkId) {
        self.conns.resumed.push_back(link);
    }
}

impl Edge {
    pub fn new(ring: Ring, parts: Parts) -> Self {
        parts.sleeper.attach(ring.number());
        let said_to_ports = vec![0; parts.ports.len()];
        Self {
            ring,
            out: Out {
                conns: Conns::new(parts.links, parts.session_timeout),
                peers: parts.outbound,
                stages: parts.stages,
            },
            inbounds: parts.inbounds,
            ports: parts.ports,
            guests: parts.guests,
            rulings: parts.rulings,
            listeners: Vec::new(),
            lost_listeners: Vec::new(),
            sleeper: parts.sleeper,
            seats: parts.seats,
            clock: parts.clock,
            spin: parts.spin,
            stop: parts.stop,
            lull: parts.lull,
            is_over: false,
            worked: true,
            last_work: Time(0),
            next_tick: Time(0),
            counts: EdgeCounts::default(),
            forwards: Blocked::No,
            budget: Budget::new(),
            said_to_ports,
            frame: Vec::with_capacity(FRAME_BYTES_MAX),
            host: String::new(),
        }
    }

    /// Accepts connections of one kind on a socket that listens.
    pub fn listen(&mut self, socket: OwnedFd, transport: ListenerTransport) -> io::Result<()> {
        let listener = self.ring.listen(socket)?;
        self.listeners.push((listener, transport));
        Ok(())
    }

    /// Takes turns for those inside until the doors open, or it is told to stop.
    pub fn await_doors(&mut self, shard: &mut Shard, doors: &AtomicBool) -> io::Result<()> {
        while !doors.load(Ordering::Acquire) && !self.stop.load(Ordering::Relaxed) {
            self.turn(shard)?;
        }
        Ok(())
    }

    pub fn counts(&self) -> &EdgeCounts {
        &self.counts
    }

    /// The instant of the turn.
    pub fn now(&self) -> Time {
        self.out.conns.now
    }

    pub fn ring_counts(&self) -> &clasp_rt_ring::Counts {
        self.ring.counts()
    }

    pub fn spilled(&self) -> u64 {
        self.out.peers.spilled
    }

    pub fn open_links(&self) -> u32 {
        self.out.conns.open_links()
    }

    /// Takes turns until told to stop, lets what is on its way arrive, and says good-bye to every
    /// link. `at_tick` is called about once a second.
    pub fn run(
        &mut self,
        shard: &mut Shard,
        mut at_tick: impl FnMut(&Self, &Shard),
    ) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.turn(shard)? {
                at_tick(self, shard);
            }
        }
        self.settle(shard)?;
        self.say_goodbye(shard)?;
        at_tick(self, shard);
        Ok(())
    }

    /// One turn. Says whether a second has passed.
    fn turn(&mut self, shard: &mut Shard) -> io::Result<bool> {
        self.wait(shard)?;
        self.begin();
        self.take_events(shard);
        self.tell_hosts(shard);
        self.take_records(shard);
        self.take_from_ports(shard);
        self.take_ruling(shard);
        self.offer_again(shard);
        let ticked = self.tick(shard);
        self.elapse(shard);
        self.let_go(shard);
        self.flush();
        Ok(ticked)
    }

    fn begin(&mut self) {
        let now = self.clock.now();
        if self.worked {
            self.last_work = now;
            self.counts.busy_ns += now.since(self.out.conns.now).0;
        }
        self.out.stages.turn(now);
        self.worked = false;
        self.budget.begin(self.out.conns.yielded.len());
        self.counts.turns += 1;
        self.out.conns.now = now;
    }

    fn take_events(&mut self, shard: &mut Shard) {
        while !self.budget.is_used_up()
            && let Some(event) = self.ring.next_event()
        {
            self.worked = true;
            match event {
                RingEvent::Accepted { listener, stream } => self.accepted(shard, listener, stream),
                RingEvent::Received { stream, lease } => self.received(shard, stream, lease),
                RingEvent::Ended { stream, how } => {
                    let end = if how.is_ok() { End::Finished } else { End::Cut };
                    self.out.conns.end(self.link(stream), end);
                }
                RingEvent::Sent { stream, buffer, how } => {
                    self.sent(shard, self.link(stream), buffer, how);
                }
                RingEvent::Closed { stream } => self.closed(self.link(stream)),
                RingEvent::Packet { lease, .. } => self.ring.give_back(lease),
                RingEvent::Woken => self.take_guests(shard),
                RingEvent::ListenerLost { listener, why } => {
                    error!("a listener is lost, and tried again: {why}");
                    self.lost_listeners.push(listener);
                }
            }
        }
    }

    fn accepted(&mut self, shard: &mut Shard, listener: Socket, stream: Socket) {
        let transport = self.listeners.iter().find(|(socket, _)| *socket == listener);
        let transport = match transport.map(|(_, transport)| *transport) {
            Some(ListenerTransport::Tcp) => AnyTransport::Stream(Stream::new()),
            Some(ListenerTransport::WebSocket) | None => AnyTransport::Ws(Ws::server()),
        };
        self.open_stranger(shard, stream, transport);
        if self.is_over {
            self.out.conns.leave(self.link(stream), Leaving::cut);
        }
    }

    fn open_link(&mut self, shard: &mut Shard, stream: Socket, by: AnyTransport, admit: Admit) {
        let link = self.link(stream);
        self.out.conns.open(link, Carrier::Socket(stream), by, admit == Admit::Stranger);
        self.counts.links_opened += 1;
        take(shard.step(self.out.conns.now, Input::Opened { link, admit }, &mut self.out));
        self.ask_host(shard, stream);
    }

    fn received(&mut self, shard: &mut Shard, stream: Socket, mut lease: Lease) {
        self.counts.bytes_in += lease.len() as u64;
        let link = self.link(stream);
        self.out.conns.hear(link);
        let conn = self.out.conns.get(link);
        if conn.phase != Phase::Open {
            self.ring.give_back(lease);
        } else if conn.carry.is_empty() && conn.blocked == Blocked::No {
            // The common case: whole messages, used where the kernel put them.
            let bytes = self.ring.bytes_mut(&mut lease);
            let arrival = self.out.conns.now;
            let mut feed = Feed {
                out: &mut self.out,
                frame: &mut self.frame,
                arrival,
                budget: &mut self.budget,
            };
            let used = feed.all(shard, link, bytes);
            self.out.conns.keep(link, &bytes[used..]);
            self.ring.give_back(lease);
        } else {
            self.out.conns.keep(link, self.ring.bytes(&lease));
            self.ring.give_back(lease);
            self.feed_carry(shard, link, self.out.conns.now);
        }
        self.pause_or_resume(link);
    }

    /// Offers what is kept of a link, from its beginning, as messages of `arrival`.
    fn feed_carry(&mut self, shard: &mut Shard, link: LinkId, arrival: Time) {
        let conn = self.out.conns.get(link);
        if conn.phase != Phase::Open || conn.blocked != Blocked::No {
            return;
        }
        let mut carry = self.out.conns.take_carry(link);
        let mut feed =
            Feed { out: &mut self.out, frame: &mut self.frame, arrival, budget: &mut self.budget };
        let used = feed.all(shard, link, &mut carry);
        self.out.conns.return_carry(link, carry, used);
    }

    /// Lets a peer feel that it must wait, by not receiving from it.
    fn pause_or_resume(&mut self, link: LinkId) {
        let Carrier::Socket(socket) = self.out.conns.carrier(link) else { return };
        let conn = self.out.conns.get(link);
        if conn.wants_pause() && !conn.paused {
            conn.paused = true;
            self.ring.pause(socket);
        } else if conn.paused && conn.blocked == Blocked::No {
            conn.paused = false;
            self.ring.resume(socket);
        }
    }

    fn sent(&mut self, shard: &mut Shard, link: LinkId, buffer: Buffer, how: io::Result<()>) {
        self.counts.bytes_out += buffer.len() as u64;
        let frame_bytes = self.out.conns.sent(link, buffer);
        if how.is_err() {
            return self.out.conns.mute(link);
        }
        self.count_sent(shard, link, frame_bytes);
    }

    /// Tells the shard what left, so that its outbox lets more go.
    fn count_sent(&mut self, shard: &mut Shard, link: LinkId, bytes: u32) {
        if !self.out.conns.is_heard_of(link) {
            // If it is leaving, it may now take the next step.
            self.out.conns.leave(link, |_| {});
        } else if bytes > 0 {
            let now = self.out.conns.now;
            take(shard.step(now, Input::Sent { link, bytes }, &mut self.out));
        }
    }

    fn closed(&mut self, link: LinkId) {
        self.guests.left(link);
        if std::mem::take(&mut self.out.conns.get(link).seated) {
            self.seats.leave();
        }
        self.out.conns.free(link);
        self.counts.links_closed += 1;
    }

    /// Steps what other shards handed over: decisions first, they need no room.
    fn take_records(&mut self, shard: &mut Shard) {
        self.forwards = Blocked::No;
        let Inbounds { forward, publish } = &mut self.inbounds;
        let now = self.out.conns.now;
        for (lane, inbound) in [(Lane::Publish, publish), (Lane::Forward, forward)] {
            inbound.look();
            for _ in 0..RECORDS_PER_TURN {
                let Some((from, stamp, note, record)) = inbound.peek_noted() else { break };
                let input = Input::Peer { from: ShardId(from as u16), lane, record };
                // Only forwards need room, and only they are held.
                if !self.out.peers.has(input.room()) {
                    self.counts.peer_waits += 1;
                    self.forwards = Blocked::NoRoom;
                    break;
                }
                self.out.peers.stamps.heard(stamp);
                self.out.stages.record(lane, note);
                let outcome = shard.step(now, input, &mut self.out);
                self.out.stages.stepped(outcome);
                if outcome == Outcome::Held {
                    self.forwards = Blocked::Held;
                    break;
                }
                inbound.pop(from);
                self.worked = true;
                self.counts.peer_records += 1;
            }
        }
    }

    /// Offers frames again that were held, or that waited for room or for this turn.
    fn offer_again(&mut self, shard: &mut Shard) {
        for nth in 0..self.budget.waiting() {
            // At least one goes on, however much is new.
            if nth > 0 && self.budget.is_used_up() {
                break;
            }
            let Some(link) = self.out.conns.yielded.pop_front() else { break };
            self.unblock(shard, link);
        }
        for _ in 0..self.out.conns.resumed.len() {
            let Some(link) = self.out.conns.resumed.pop_front() else { break };
            self.unblock(shard, link);
        }
        for _ in 0..self.out.conns.stalled.len() {
            let Some(link) = self.out.conns.stalled.pop_front() else { break };
            self.unblock(shard, link);
        }
        self.counts.peer_waits += u64::from(!self.out.conns.stalled.is_empty());
        // Whatever made them yield: they go on at once.
        self.worked |= !self.out.conns.yielded.is_empty();
    }

    fn unblock(&mut self, shard: &mut Shard, link: LinkId) {
        let conn = self.out.conns.get(link);
        if conn.phase == Phase::Open && conn.blocked != Blocked::No {
            conn.blocked = Blocked::No;
            let arrival = conn.kept_since();
            self.feed_carry(shard, link, arrival);
            self.pause_or_resume(link);
            let conn = self.out.conns.get(link);
            self.worked |= conn.blocked == Blocked::No;
            if let Some(end) = conn.ended {
                self.out.conns.end(link, end);
            }
        }
    }

    fn elapse(&mut self, shard: &mut Shard) {
        let (now, due) = (self.out.conns.now, shard.deadline());
        let input = Input::Deadline { forward_room: self.out.peers.has(Room::Both) };
        if due.is_some_and(|due| due <= now) && self.out.peers.has(input.room()) {
            take(shard.step(now, input, &mut self.out));
            // What is still due waits for room.
            self.worked |= shard.deadline() != due;
        }
    }

    fn tick(&mut self, shard: &mut Shard) -> bool {
        let now = self.out.conns.now;
        if now < self.next_tick {
            return false;
        }
        self.next_tick = now + self.out.conns.tick_interval();
        self.out.conns.tick();
        self.lost_listeners.drain(..).for_each(|listener| self.ring.accept_again(listener));
        let clock = Input::Clock { unix_us: self.clock.unix_us_at(now) };
        take(shard.step(now, clock, &mut self.out));
        true
    }

    /// Helps links that are leaving to the next step of their end.
    fn let_go(&mut self, shard: &mut Shard) {
        for _ in 0..self.out.conns.leaving.len() {
            let Some(link) = self.out.conns.leaving.pop_front() else { break };
            if !self.say_farewell(shard, link) {
                self.out.conns.leaving.push_back(link);
            }
        }
    }

    /// `false` when the shard could not be told, for want of room in a ring to a peer.
    fn say_farewell(&mut self, shard: &mut Shard, link: LinkId) -> bool {
        loop {
            let next = self.out.conns.farewell(link);
            let carrier = self.out.conns.carrier(link);
            match (next, carrier) {
                (Farewell::Wait, _) => return true,
                (Farewell::TellShard, _) => {
                    let input = Input::Closed { link };
                    if !self.out.peers.has(input.room()) {
                        return false;
                    }
                    take(shard.step(self.out.conns.now, input, &mut self.out));
                    self.out.conns.told(link);
                }
                (Farewell::Finish, Carrier::Socket(socket)) => self.ring.finish(socket),
                (Farewell::Release, Carrier::Socket(socket)) => self.ring.close(socket),
                (Farewell::Finish | Farewell::Release, Carrier::Port) => {
                    let said = self.ports[link.0 as usize].say(Said::Close);
                    assert!(said, "flushing left room for it");
                    self.closed(link);
                    return true;
                }
            }
            self.worked = true;
        }
    }

    /// Hands everything over that is ready: one wake-up for each peer, one send for each link.
    ///
    /// In this order, because the kernel keeps it and each send takes it microseconds: whoever has
    /// a part of a fan-out is awake before this shard's own part has left.
    fn flush(&mut self) {
        for port in 0..self.ports.len() {
            let link = LinkId(port as u32);
            // One that had no room is tried again each turn.
            self.out.conns.mark(link);
            if self.out.conns.ready_bytes(link) > 0 {
                self.flush_port(link);
            }
            let port = &mut self.ports[port];
            if std::mem::take(&mut port.touched) {
                self.ring.wake(&port.far);
            }
        }
        self.out.peers.wake(&mut self.ring);
        while let Some(link) = self.out.conns.next_dirty() {
            // Ports have theirs.
            if let Carrier::Socket(socket) = self.out.conns.carrier(link)
                && let Some(buffer) = self.out.conns.take_pending(link)
            {
                self.ring.send(socket, buffer);
            }
        }
        self.out.conns.end_turn();
    }

    fn link(&self, stream: Socket) -> LinkId {
        let index = stream.index() - FIXED_FILES as usize;
        LinkId((self.ports.len() + index) as u32)
    }
}

/// Only frames and records of peers can be held.
fn take(outcome: Outcome) {
    debug_assert_eq!(outcome, Outcome::Taken);
}

#[cfg(test)]
mod tests;

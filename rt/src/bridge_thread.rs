//! A thread that hosts bridges: their sockets and streams, their time, and their connections to the
//! router.

// The threads of MIDI ports and serial lines use it.
#[allow(dead_code)]
pub mod device;
mod guest;
mod streams;

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clasp_rt_bridges::{Bridge, Counters, Input};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_perf::buckets;
use clasp_rt_perf::counters::Writer;
use clasp_rt_ring::{Alarm, Event, Lease, Ring, Sizes, Sleeper, Socket, Wait};
use clasp_rt_ring::{datagrams_lost, napi, thread};
use rtrb::Consumer;
use tracing::warn;

use crate::clock::{self, Clock};
use crate::dialer::{Dialer, Goal};
use crate::mdns::Announced;
use crate::plan_types::Remote;
use crate::port::Port;
use crate::uplink::{Uplink, Way};
use guest::Guest;
use streams::Role;
pub use streams::memory_bytes_max as streams_bytes_max;

/// Bridges hear the wall clock this often.
const TICK: Span = Span::from_secs(1);

/// How long a router that is slow to take the last words may delay a stop.
const STOP_PATIENCE: Span = Span::from_millis(500);

/// How long the thread sleeps while something waits for room in a ring to a shard.
const FULL_PORT_NAP: Duration = Duration::from_micros(200);

/// Sockets, listeners, connections that we make, uplinks and the alarm of one thread.
const FILES_MAX: u32 = 512;

/// How long the world waits until routes and the patch hear all they want to. A home that is told
/// of a subscription takes it in its next turn.
const SETTLE_PATIENCE: Span = Span::from_secs(5);

/// What the thread's ring needs, beside connections that others open. Every universe of a big show
/// may arrive in one burst: what finds no buffer waits in the socket.
pub const SIZES: Sizes = Sizes {
    accepted_max: 0,
    fixed_max: FILES_MAX,
    stream_buffers: 64,
    packet_buffers: 1024,
    datagrams_max: 1024,
};

/// What a thread of bridges is made of.
pub struct BridgeSeed {
    pub core: Option<usize>,
    /// How long to poll network cards before sleeping.
    pub busy_poll: Option<Duration>,
    pub hosted: Vec<Hosted>,
    /// What goes on in the place of a bridge of the same name.
    pub successors: Consumer<Box<dyn Bridge>>,
    /// Shards wake the thread by it.
    pub sleeper: Arc<Sleeper>,
    pub clock: Clock,
    pub stop: Arc<AtomicBool>,
}

impl BridgeSeed {
    /// Threads of which somebody passes on what others say begin first: those where nobody else is
    /// at once, those where others wait for it here next.
    pub fn turn_to_start(&self) -> u8 {
        let first = self.hosted.iter().filter(|hosted| hosted.comes_first()).count();
        match first {
            0 => 2,
            first => u8::from(first < self.hosted.len()),
        }
    }
}

pub struct Hosted {
    pub bridge: Box<dyn Bridge>,
    /// Whose a fault of its start is: [`crate::plan_types::BridgePlan::place`].
    pub place: String,
    /// For the intervals of its lines: [`crate::devices::intervals::of`].
    pub pages: Vec<buckets::Writer>,
    pub to: To,
}

impl Hosted {
    /// Whether it passes on what others say in the router of this process.
    pub fn comes_first(&self) -> bool {
        matches!(self.to, To::Port(_)) && !self.bridge.is_settled()
    }

    fn open(self, ring: &mut Ring, alarm: &Alarm) -> io::Result<Guest> {
        let Self { bridge, pages, to, .. } = self;
        let way = match to {
            To::Port(port) => Way::Port(port),
            To::Remote(remote) => {
                let Remote { host, port, .. } = remote.clone();
                let goal = Goal { what: "router".to_owned(), host, port };
                let dialer = Dialer::start(goal, alarm.clone())?;
                Way::Remote { remote, dialer, socket: None }
            }
        };
        Guest::new(bridge, pages, Uplink::new(way), ring, alarm)
    }
}

/// Where a bridge's router is.
pub enum To {
    Port(Port),
    Remote(Remote),
}

/// Runs bridges on the calling thread. `ready` is told how to wake it, or why it cannot start.
pub fn run(
    seed: BridgeSeed,
    mut counters: Writer,
    ready: impl FnOnce(io::Result<Alarm>),
) -> io::Result<()> {
    let (mut host, alarm) = match Host::start(seed) {
        Ok(started) => started,
        Err(why) => {
            ready(Err(io::Error::new(why.kind(), why.to_string())));
            return Err(why);
        }
    };
    ready(Ok(alarm));
    host.run(|host| counters.store_all(&host.totals()))
}

/// The names of a bridge thread's counters, all its bridges together.
pub fn names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let bridges = Counters::default().rows().map(|(name, _)| name);
        bridges.iter().copied().chain(HOST_NAMES).collect()
    })
}

const HOST_NAMES: [&str; 13] = [
    "kernel_enters",
    "kernel_sleeps",
    "uplinks_joined",
    "uplink_frames_dropped",
    "datagrams_lost",
    "datagrams_starved",
    "datagrams_unreadable",
    "datagrams_own",
    "datagrams_dropped",
    "datagram_faults",
    "streams_open",
    "streams_turned_away",
    "stream_pieces_dropped",
];

struct Host {
    ring: Ring,
    guests: Vec<Guest>,
    successors: Consumer<Box<dyn Bridge>>,
    /// Whose a file is, by its place in the ring.
    owners: Vec<Option<Owner>>,
    sleeper: Arc<Sleeper>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    _announced: Option<Announced>,
    now: Time,
    next_tick: Time,
    worked: bool,
    unreadable: u64,
    /// Datagrams of a bridge that came back to it.
    own: u64,
    /// Datagrams that the kernel had no room for; asked for with each tick.
    lost: u64,
    /// A received piece, so that its buffer is free while the bridge thinks.
    packet: Vec<u8>,
}

/// Which guest a file belongs to, and as what.
#[derive(Clone, Copy)]
struct Owner {
    guest: usize,
    file: File,
}

#[derive(Clone, Copy)]
enum File {
    /// The number by which the bridge knows the socket.
    Packets(u8),
    Stream(Role),
}

impl Host {
    /// Opens everything. Bridges that pass on what others say come first, and the others not before
    /// those hear all of it.
    fn start(mut seed: BridgeSeed) -> io::Result<(Self, Alarm)> {
        let hosted = std::mem::take(&mut seed.hosted);
        let places: Vec<_> = hosted.iter().map(|one| &*one.place).collect();
        let places = places.join(", ");
        let of_all = |why: io::Error| io::Error::new(why.kind(), format!("{places}: {why}"));
        let (mut host, alarm) = Self::new(seed, &hosted).map_err(of_all)?;
        let (first, others): (Vec<_>, Vec<_>) = hosted.into_iter().partition(Hosted::comes_first);
        host.admit(first, &alarm)?;
        host.settle().map_err(of_all)?;
        host.admit(others, &alarm)?;
        let guests = host.guests.iter();
        let announcements: Vec<_> = guests.flat_map(|guest| guest.bridge.announcements()).collect();
        host._announced = Announced::new(&announcements).map_err(of_all)?;
        Ok((host, alarm))
    }

    /// A thread with room for `hosted`, and nobody on it.
    fn new(seed: BridgeSeed, hosted: &[Hosted]) -> io::Result<(Self, Alarm)> {
        if let Some(core) = seed.core {
            thread::pin(core)?;
        }
        thread::wake_punctually()?;
        thread::prefault_stack();
        let plans: Vec<_> = hosted.iter().flat_map(|one| one.bridge.streams()).collect();
        let sizes = Sizes { accepted_max: streams::connections_max(plans.iter()), ..SIZES };
        let mut ring = Ring::new(&sizes)?;
        if let Some(limit) = seed.busy_poll {
            napi::poll_while_waiting(&ring, limit)?;
        }
        let alarm = ring.alarm()?;
        seed.sleeper.attach(ring.number());
        let host = Self {
            ring,
            guests: Vec::with_capacity(hosted.len()),
            successors: seed.successors,
            owners: vec![None; (FILES_MAX + sizes.accepted_max) as usize],
            sleeper: seed.sleeper,
            clock: seed.clock,
            stop: seed.stop,
            _announced: None,
            now: Time(0),
            next_tick: Time(0),
            worked: true,
            unreadable: 0,
            own: 0,
            lost: 0,
            packet: Vec::with_capacity(2048),
        };
        Ok((host, alarm))
    }

    /// Opens what `hosted` ask for, and joins routers of this process, so that nothing is lost that
    /// the network says from now on.
    fn admit(&mut self, hosted: Vec<Hosted>, alarm: &Alarm) -> io::Result<()> {
        let first = self.guests.len();
        for hosted in hosted {
            let place = hosted.place.clone();
            let of_it = |why: io::Error| io::Error::new(why.kind(), format!("{place}: {why}"));
            self.guests.push(hosted.open(&mut self.ring, alarm).map_err(of_it)?);
        }
        self.now = self.clock.now();
        for (number, guest) in self.guests.iter_mut().enumerate().skip(first) {
            for (packets, socket) in (0..).zip(&guest.sockets) {
                let file = File::Packets(packets);
                self.owners[socket.index()] = Some(Owner { guest: number, file });
            }
            for (socket, role) in guest.streams.listeners() {
                let file = File::Stream(role);
                self.owners[socket.index()] = Some(Owner { guest: number, file });
            }
            guest.hear(self.now, &mut self.ring);
            guest.flush(self.now, &mut self.ring);
        }
        // All are told the time in the next turn.
        (self.worked, self.next_tick) = (true, Time(0));
        Ok(())
    }

    /// Takes turns until all that are here hear what they want to.
    fn settle(&mut self) -> io::Result<()> {
        let until = self.clock.now() + SETTLE_PATIENCE;
        while self.guests.iter().any(|guest| !guest.bridge.is_settled()) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if self.now >= until {
                warn!("routes or the patch may miss what is said in the first moment");
                break;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn run(&mut self, mut at_tick: impl FnMut(&Self)) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.turn()? {
                at_tick(self);
            }
        }
        self.say_goodbye()?;
        at_tick(self);
        self.sleeper.detach();
        Ok(())
    }

    /// One turn. Says whether a second has passed.
    fn turn(&mut self) -> io::Result<bool> {
        let wait = if self.worked { Wait::No } else { self.idle() };
        self.worked = false;
        self.ring.enter(wait)?;
        self.sleeper.rouse();
        self.now = self.clock.now();
        while let Some(event) = self.ring.next_event() {
            self.worked = true;
            self.handle(event);
        }
        while let Ok(next) = self.successors.pop() {
            self.worked = true;
            let same = |guest: &&mut Guest| guest.bridge.name() == next.name();
            if let Some(guest) = self.guests.iter_mut().find(same) {
                guest.succeed(self.now, next, &mut self.ring);
            }
        }
        let ticked = self.now >= self.next_tick;
        if ticked {
            self.next_tick = self.now + TICK;
            let files = self.guests.iter().flat_map(|guest| &guest.files);
            self.lost = files.map(|file| datagrams_lost(file).unwrap_or(0)).sum();
        }
        for (number, guest) in self.guests.iter_mut().enumerate() {
            self.worked |= guest.hear(self.now, &mut self.ring);
            while let Some(opened) = guest.streams.look(self.now, &mut self.ring) {
                self.worked = true;
                let file = File::Stream(Role::Stream(opened.id.index));
                self.owners[opened.socket.index()] = Some(Owner { guest: number, file });
                guest.opened(self.now, &opened, &mut self.ring);
            }
            if ticked {
                guest.streams.tick(&mut self.ring);
                let clock = Input::Clock { unix_us: self.clock.unix_us_at(self.now) };
                guest.step(self.now, clock, &mut self.ring);
            }
            if guest.bridge.deadline().is_some_and(|due| due <= self.now) {
                guest.step(self.now, Input::Deadline, &mut self.ring);
                self.worked = true;
            }
            guest.flush(self.now, &mut self.ring);
        }
        Ok(ticked)
    }

    fn idle(&mut self) -> Wait {
        self.sleeper.doze();
        if !self.guests.iter().all(Guest::is_silent) {
            return Wait::No;
        }
        let deadlines = self.guests.iter().filter_map(Guest::deadline);
        let due = deadlines.min().map_or(self.next_tick, |due| due.min(self.next_tick));
        let mut limit = clock::duration(due.since(self.clock.now()));
        if self.guests.iter().any(|guest| guest.uplink.waits_for_port()) {
            limit = limit.min(FULL_PORT_NAP);
        }
        Wait::For(Some(limit))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Packet { socket, lease } => self.packet(socket, lease),
            Event::Accepted { listener, stream } => self.accepted(listener, stream),
            Event::Received { stream, lease } => match self.owner(stream).is_some() {
                true => self.received(stream, lease),
                false => self.uplink_received(stream, lease),
            },
            Event::Sent { stream, buffer, how } => {
                let (now, ring) = (self.now, &mut self.ring);
                if let Some((guest, index)) = owned(&mut self.guests, &self.owners, stream) {
                    guest.streams.sent(index, buffer.into_own());
                    if how.is_err() {
                        guest.lose_stream(now, index, ring);
                    }
                } else if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.uplink.sent(buffer.into_own());
                    if how.is_err() {
                        guest.lose(now, ring);
                    }
                }
            }
            Event::Ended { stream, .. } => {
                let (now, ring) = (self.now, &mut self.ring);
                if let Some((guest, index)) = owned(&mut self.guests, &self.owners, stream) {
                    guest.lose_stream(now, index, ring);
                } else if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.lose(now, ring);
                }
            }
            Event::Closed { stream } => {
                if let Some((guest, index)) = owned(&mut self.guests, &self.owners, stream) {
                    guest.streams.closed(self.now, index);
                    self.owners[stream.index()] = None;
                } else if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.uplink.closed();
                }
            }
            Event::ListenerLost { listener, .. } => {
                if let Some(Owner { guest, file: File::Stream(Role::Listener(plan)) }) =
                    self.owner(listener)
                {
                    self.guests[guest].streams.listener_lost(plan);
                }
            }
            Event::Woken => {}
        }
    }

    fn owner(&self, socket: Socket) -> Option<Owner> {
        self.owners.get(socket.index()).copied().flatten()
    }

    fn accepted(&mut self, listener: Socket, stream: Socket) {
        let Some(Owner { guest, file: File::Stream(Role::Listener(plan)) }) = self.owner(listener)
        else {
            return self.ring.close(stream);
        };
        let (now, ring) = (self.now, &mut self.ring);
        if let Some(opened) = self.guests[guest].streams.accepted(now, plan, stream, ring) {
            let file = File::Stream(Role::Stream(opened.id.index));
            self.owners[stream.index()] = Some(Owner { guest, file });
            self.guests[guest].opened(now, &opened, ring);
        }
    }

    fn received(&mut self, stream: Socket, lease: Lease) {
        self.packet.clear();
        self.packet.extend_from_slice(self.ring.bytes(&lease));
        self.ring.give_back(lease);
        if let Some((guest, index)) = owned(&mut self.guests, &self.owners, stream)
            && let Some(stream) = guest.streams.id(index)
        {
            let bytes = Input::Bytes { stream, bytes: &self.packet };
            guest.step(self.now, bytes, &mut self.ring);
        }
    }

    fn uplink_received(&mut self, stream: Socket, lease: Lease) {
        let (now, ring) = (self.now, &mut self.ring);
        if let Some(guest) = guest_of(&mut self.guests, stream) {
            guest.uplink.received(now, ring.bytes(&lease));
            ring.give_back(lease);
            guest.read(now, ring);
        } else {
            ring.give_back(lease);
        }
    }

    fn packet(&mut self, socket: Socket, lease: Lease) {
        self.packet.clear();
        let from = self.ring.packet(&lease).map(|(from, bytes)| {
            self.packet.extend_from_slice(bytes);
            from
        });
        self.ring.give_back(lease);
        let owner = self.owner(socket);
        let (Ok(from), Some(Owner { guest, file: File::Packets(socket) })) = (from, owner) else {
            self.unreadable += 1;
            return;
        };
        if self.guests[guest].has_sent(socket, from) {
            self.own += 1;
            return;
        }
        let packet = Input::Packet { socket, from, bytes: &self.packet };
        self.guests[guest].step(self.now, packet, &mut self.ring);
    }

    /// Lets bridges say their last words, and hands them to the network and the router.
    fn say_goodbye(&mut self) -> io::Result<()> {
        for guest in &mut self.guests {
            guest.step(self.now, Input::Stop, &mut self.ring);
            guest.uplink.leave();
        }
        let patience = self.clock.now() + STOP_PATIENCE;
        self.worked = true;
        loop {
            self.turn()?;
            let is_done = |guest: &Guest| guest.is_flushed() && !guest.bridge.has_last_words();
            if self.guests.iter().all(is_done) || self.clock.now() >= patience {
                break;
            }
        }
        for guest in &mut self.guests {
            guest.uplink.close_port(&mut self.ring);
        }
        // Hands over what the last turn decided.
        self.ring.enter(Wait::No)
    }

    fn totals(&self) -> Vec<u64> {
        let mut rows = Counters::default().rows().map(|_| 0);
        for guest in &self.guests {
            let counted = guest.bridge.counters().rows();
            rows.iter_mut().zip(counted).for_each(|(sum, (_, count))| *sum += count);
        }
        let ring = self.ring.counts();
        let uplinks = || self.guests.iter().map(|guest| &guest.uplink);
        let streams = || self.guests.iter().map(|guest| &guest.streams);
        let host = [
            ring.enters,
            ring.sleeps,
            uplinks().filter(|uplink| uplink.is_welcome()).count() as u64,
            uplinks().map(|uplink| uplink.dropped).sum(),
            self.lost,
            ring.starved,
            self.unreadable,
            self.own,
            ring.datagrams_dropped,
            ring.datagram_faults,
            streams().map(|streams| streams.count() as u64).sum(),
            streams().map(|streams| streams.turned_away).sum(),
            streams().map(|streams| streams.dropped).sum(),
        ];
        rows.into_iter().chain(host).collect()
    }
}

/// The guest whose stream `socket` is, and its place there.
fn owned<'g>(
    guests: &'g mut [Guest],
    owners: &[Option<Owner>],
    socket: Socket,
) -> Option<(&'g mut Guest, u32)> {
    match owners.get(socket.index()).copied().flatten()? {
        Owner { guest, file: File::Stream(Role::Stream(index)) } => {
            Some((guests.get_mut(guest)?, index))
        }
        _ => None,
    }
}

fn guest_of(guests: &mut [Guest], stream: Socket) -> Option<&mut Guest> {
    guests.iter_mut().find(|guest| guest.uplink.socket() == Some(stream))
}

#[cfg(all(test, not(miri)))]
mod tests;

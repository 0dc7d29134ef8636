//! A thread that hosts bridges: their sockets, their time, and their connections to the router.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clasp_rt_bridges::{Bridge, Counters, Input, Out};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_perf::counters::Writer;
use clasp_rt_ring::socket::{self, Datagrams};
use clasp_rt_ring::{Alarm, Event, Lease, Ring, Sizes, Sleeper, Socket, Wait};
use clasp_rt_ring::{datagrams_lost, napi, thread};

use crate::clock::{self, Clock};
use crate::dialer::Dialer;
use crate::plan_types::Remote;
use crate::port::Port;
use crate::uplink::{Change, Heard, Read, Uplink, Way};

/// Bridges hear the wall clock this often.
const TICK: Span = Span::from_secs(1);

/// How long a router that is slow to take the last words may delay a stop.
const STOP_PATIENCE: Span = Span::from_millis(500);

/// How long the thread sleeps while something waits for room in a ring to a shard.
const FULL_PORT_NAP: Duration = Duration::from_micros(200);

/// Pieces taken from one port in one turn: a shard that always has something to say must not keep
/// the network waiting.
const PIECES_PER_TURN: usize = 16;

/// Sockets, uplinks and the alarm of one thread.
const FILES_MAX: u32 = 512;

/// What the thread's ring needs. Every universe of a big show may arrive in one burst: what finds
/// no buffer waits in the socket.
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
    /// Shards wake the thread by it.
    pub sleeper: Arc<Sleeper>,
    pub clock: Clock,
    pub stop: Arc<AtomicBool>,
}

pub struct Hosted {
    pub bridge: Box<dyn Bridge>,
    pub to: To,
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
    let (mut host, alarm) = match Host::new(seed) {
        Ok(made) => made,
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

const HOST_NAMES: [&str; 9] = [
    "kernel_enters",
    "kernel_sleeps",
    "uplinks_joined",
    "uplink_frames_dropped",
    "datagrams_lost",
    "datagrams_starved",
    "datagrams_unreadable",
    "datagrams_dropped",
    "datagram_faults",
];

struct Host {
    ring: Ring,
    guests: Vec<Guest>,
    /// Whose socket a file is: the guest, and the number by which it knows the socket.
    owners: Vec<Option<(usize, u8)>>,
    sleeper: Arc<Sleeper>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    now: Time,
    next_tick: Time,
    worked: bool,
    unreadable: u64,
    /// Datagrams that the kernel had no room for; asked for with each tick.
    lost: u64,
    /// A received datagram, so that its buffer is free while the bridge thinks.
    packet: Vec<u8>,
}

/// A bridge and what was opened for it.
struct Guest {
    bridge: Box<dyn Bridge>,
    sockets: Vec<Socket>,
    /// The same sockets, to ask what they lost.
    files: Vec<OwnedFd>,
    uplink: Uplink,
}

/// Where a bridge's decisions go.
struct Outlet<'a> {
    ring: &'a mut Ring,
    sockets: &'a [Socket],
    uplink: &'a mut Uplink,
}

impl Out for Outlet<'_> {
    fn room(&self) -> usize {
        self.uplink.room()
    }

    fn to_router(&mut self, frame: &[u8]) {
        self.uplink.say(frame);
    }

    fn to_network(&mut self, socket: u8, to: std::net::SocketAddr, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get(usize::from(socket)) {
            // The ring counts what it has no room for.
            self.ring.send_to(*socket, to, bytes);
        }
    }
}

impl Host {
    fn new(seed: BridgeSeed) -> io::Result<(Self, Alarm)> {
        if let Some(core) = seed.core {
            thread::pin(core)?;
        }
        thread::wake_punctually()?;
        thread::prefault_stack();
        let mut ring = Ring::new(&SIZES)?;
        if let Some(limit) = seed.busy_poll {
            napi::poll_while_waiting(&ring, limit)?;
        }
        let alarm = ring.alarm()?;
        let mut owners = vec![None; FILES_MAX as usize];
        let mut guests = Vec::with_capacity(seed.hosted.len());
        for (guest, hosted) in seed.hosted.into_iter().enumerate() {
            let (sockets, files) = open_sockets(&*hosted.bridge, &mut ring)?;
            for (number, socket) in (0..).zip(&sockets) {
                owners[socket.index()] = Some((guest, number));
            }
            let way = match hosted.to {
                To::Port(port) => Way::Port(port),
                To::Remote(remote) => {
                    let dialer = Dialer::start(remote.clone(), alarm.clone())?;
                    Way::Remote { remote, dialer, socket: None }
                }
            };
            let uplink = Uplink::new(way);
            guests.push(Guest { bridge: hosted.bridge, sockets, files, uplink });
        }
        seed.sleeper.attach(ring.number());
        let host = Self {
            ring,
            guests,
            owners,
            sleeper: seed.sleeper,
            clock: seed.clock,
            stop: seed.stop,
            now: Time(0),
            next_tick: Time(0),
            worked: true,
            unreadable: 0,
            lost: 0,
            packet: Vec::with_capacity(2048),
        };
        Ok((host, alarm))
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
        let ticked = self.now >= self.next_tick;
        if ticked {
            self.next_tick = self.now + TICK;
            let files = self.guests.iter().flat_map(|guest| &guest.files);
            self.lost = files.map(|file| datagrams_lost(file).unwrap_or(0)).sum();
        }
        for guest in &mut self.guests {
            self.worked |= guest.hear(self.now, &mut self.ring);
            if ticked {
                let clock = Input::Clock { unix_us: clock::unix_us() };
                guest.step(self.now, clock, &mut self.ring);
            }
            if guest.bridge.deadline().is_some_and(|due| due <= self.now) {
                guest.step(self.now, Input::Deadline, &mut self.ring);
                self.worked = true;
            }
            guest.flush(&mut self.ring);
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
        let (now, ring) = (self.now, &mut self.ring);
        match event {
            Event::Packet { socket, lease } => self.packet(socket, lease),
            Event::Received { stream, lease } => {
                if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.uplink.received(now, ring.bytes(&lease));
                    ring.give_back(lease);
                    guest.read(now, ring);
                } else {
                    ring.give_back(lease);
                }
            }
            Event::Sent { stream, buffer, how } => {
                if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.uplink.sent(buffer.into_own());
                    if how.is_err() {
                        guest.lose(now, ring);
                    }
                }
            }
            Event::Ended { stream, .. } => {
                if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.lose(now, ring);
                }
            }
            Event::Closed { stream } => {
                if let Some(guest) = guest_of(&mut self.guests, stream) {
                    guest.uplink.closed();
                }
            }
            Event::Woken | Event::Accepted { .. } | Event::ListenerLost { .. } => {}
        }
    }

    fn packet(&mut self, socket: Socket, lease: Lease) {
        self.packet.clear();
        let from = self.ring.packet(&lease).map(|(from, bytes)| {
            self.packet.extend_from_slice(bytes);
            from
        });
        self.ring.give_back(lease);
        let owner = self.owners.get(socket.index()).copied().flatten();
        let (Ok(from), Some((guest, socket))) = (from, owner) else {
            self.unreadable += 1;
            return;
        };
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
            let is_done =
                |guest: &Guest| guest.uplink.is_flushed() && !guest.bridge.has_last_words();
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
        let host = [
            ring.enters,
            ring.sleeps,
            uplinks().filter(|uplink| uplink.is_joined()).count() as u64,
            uplinks().map(|uplink| uplink.dropped).sum(),
            self.lost,
            ring.starved,
            self.unreadable,
            ring.datagrams_dropped,
            ring.datagram_faults,
        ];
        rows.into_iter().chain(host).collect()
    }
}

fn guest_of(guests: &mut [Guest], stream: Socket) -> Option<&mut Guest> {
    guests.iter_mut().find(|guest| guest.uplink.socket() == Some(stream))
}

/// Opens what a bridge asks for, in the bridge's own order: as sockets of the ring, and as files.
fn open_sockets(bridge: &dyn Bridge, ring: &mut Ring) -> io::Result<(Vec<Socket>, Vec<OwnedFd>)> {
    let plans = bridge.sockets();
    let open = plans.into_iter().map(|plan| {
        let wish = Datagrams {
            broadcast: plan.broadcast,
            reuse_address: plan.reuse_address,
            multicast: plan.multicast,
        };
        let opened = socket::datagrams(plan.bind, &wish);
        let both = opened.and_then(|file| Ok((ring.packets(file.try_clone()?)?, file)));
        both.map_err(|why| {
            let what = format!("{} cannot use UDP {}: {why}", bridge.name(), plan.bind);
            io::Error::new(why.kind(), what)
        })
    });
    open.collect()
}

impl Guest {
    fn step(&mut self, now: Time, input: Input<'_>, ring: &mut Ring) {
        let Self { bridge, sockets, uplink, .. } = self;
        bridge.step(now, input, &mut Outlet { ring, sockets, uplink });
    }

    fn tell(&mut self, now: Time, change: Option<Change>, ring: &mut Ring) {
        match change {
            Some(Change::Joined) => self.step(now, Input::Joined, ring),
            Some(Change::Lost) => self.step(now, Input::Lost, ring),
            None => {}
        }
    }

    fn lose(&mut self, now: Time, ring: &mut Ring) {
        let change = self.uplink.lose(now, ring);
        self.tell(now, change, ring);
    }

    /// Takes what a port has to say, within bounds, and does what the uplink has due. Says whether
    /// there was anything.
    fn hear(&mut self, now: Time, ring: &mut Ring) -> bool {
        let mut heard = false;
        for _ in 0..PIECES_PER_TURN {
            let Heard::Something(change) = self.uplink.hear(now, ring) else { break };
            heard = true;
            self.tell(now, change, ring);
            self.read(now, ring);
        }
        let change = self.uplink.look(now, ring);
        self.tell(now, change, ring);
        heard || change.is_some()
    }

    /// Hands every whole frame that was received to the bridge.
    fn read(&mut self, now: Time, ring: &mut Ring) {
        let mut carry = self.uplink.take_carry();
        let mut used = 0;
        loop {
            match self.uplink.read(&mut carry[used..]) {
                Read::Nothing => break,
                Read::Frame(frame) => self.step(now, Input::Frame(frame), ring),
                Read::Opened => {
                    let change = self.uplink.join(now);
                    self.tell(now, Some(change), ring);
                }
                Read::Other => {}
                Read::Ended => {
                    self.lose(now, ring);
                    break;
                }
            }
            used += self.uplink.advance();
        }
        self.uplink.return_carry(carry, used);
    }

    /// Hands over what waits, and wakes the shard behind a port.
    fn flush(&mut self, ring: &mut Ring) {
        self.uplink.flush(ring);
    }

    fn is_silent(&self) -> bool {
        self.uplink.is_silent()
    }

    fn deadline(&self) -> Option<Time> {
        let (bridge, uplink) = (self.bridge.deadline(), self.uplink.deadline());
        bridge.into_iter().chain(uplink).min()
    }
}

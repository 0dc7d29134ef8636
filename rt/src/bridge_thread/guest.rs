//! A bridge with what was opened for it, and its decisions on their way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use clasp_rt_bridges::bind::{self, Transport};
use clasp_rt_bridges::{Bridge, Input, Out, Peer, SocketPlan, StreamId};
use clasp_rt_bridges::{is_ourselves, own_addresses};
use clasp_rt_core::time::Time;
use clasp_rt_perf::buckets::Writer;
use clasp_rt_ring::groups::Groups;
use clasp_rt_ring::socket::{self, Datagrams};
use clasp_rt_ring::{Alarm, Ring, Socket};
use tracing::{info, warn};

use super::streams::{FromDevice, Opened, Streams};
use crate::uplink::{Change, Heard, Read, Uplink};

/// Pieces taken from one port, or from the devices of one bridge, in one turn: what always has
/// something to say must not keep the network waiting.
const PIECES_PER_TURN: usize = 16;

/// A bridge and what was opened for it.
pub(super) struct Guest {
    pub(super) bridge: Box<dyn Bridge>,
    pub(super) sockets: Vec<Socket>,
    /// The same sockets, to ask what they lost.
    pub(super) files: Vec<OwnedFd>,
    memberships: Memberships,
    own: Own,
    pub(super) streams: Streams,
    pub(super) uplink: Uplink,
    /// What a device said, so that its record is free while the bridge thinks.
    scratch: Vec<u8>,
}

/// The multicast groups of a bridge's sockets.
#[derive(Default)]
struct Memberships {
    /// For each socket; `None`: it hears none.
    groups: Vec<Option<Groups>>,
    /// A group could not be joined, and that was logged.
    has_failed: bool,
}

/// By which a bridge's own packets are known when they come back.
#[derive(Default)]
struct Own {
    /// For each socket where it is bound; `None`: others may send from there, too.
    bound: Vec<Option<SocketAddr>>,
    /// What this machine had at start.
    addresses: Vec<IpAddr>,
}

/// What a bridge's sockets are: as the ring knows them, as files, and what they hear.
type Opening = (Vec<Socket>, Vec<OwnedFd>, Memberships);

/// Where a bridge's decisions go.
struct Outlet<'a> {
    ring: &'a mut Ring,
    sockets: &'a [Socket],
    memberships: &'a mut Memberships,
    streams: &'a mut Streams,
    uplink: &'a mut Uplink,
}

impl Out for Outlet<'_> {
    fn room(&self) -> usize {
        self.uplink.room()
    }

    fn to_router(&mut self, frame: &[u8]) {
        self.uplink.say(frame);
    }

    fn to_network(&mut self, socket: u8, to: SocketAddr, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get(usize::from(socket)) {
            // The ring counts what it has no room for.
            self.ring.send_to(*socket, to, bytes);
        }
    }

    fn join(&mut self, socket: u8, group: IpAddr) {
        let Memberships { groups, has_failed } = self.memberships;
        let Some(Some(groups)) = groups.get_mut(usize::from(socket)) else { return };
        if let Err(why) = groups.join(group)
            && !std::mem::replace(has_failed, true)
        {
            warn!("{why}; nothing of that group is heard");
        }
    }

    fn stream_room(&self, stream: StreamId) -> usize {
        self.streams.room(stream)
    }

    fn to_stream(&mut self, stream: StreamId, bytes: &[u8]) {
        self.streams.say(stream, bytes);
    }

    fn end_stream(&mut self, stream: StreamId) {
        self.streams.end(stream);
    }

    fn warn(&mut self, what: &str) {
        warn!("{what}");
    }
}

/// Opens what a bridge asks for, in the bridge's own order.
fn open_sockets(bridge: &dyn Bridge, ring: &mut Ring) -> io::Result<Opening> {
    let (mut sockets, mut files, mut memberships) =
        (Vec::new(), Vec::new(), Memberships::default());
    for plan in bridge.sockets() {
        let (socket, file, groups) = open_socket(&plan, ring).map_err(|why| {
            let why = bind::explained(Transport::Udp, plan.bind, why);
            let what = format!("cannot use UDP {}: {why}", plan.bind);
            io::Error::new(why.kind(), what)
        })?;
        if plan.bind.port() == 0 {
            info!("{} listens at UDP {}", bridge.name(), socket::address(&file)?);
        }
        sockets.push(socket);
        files.push(file);
        memberships.groups.push(groups);
    }
    Ok((sockets, files, memberships))
}

fn open_socket(
    plan: &SocketPlan,
    ring: &mut Ring,
) -> io::Result<(Socket, OwnedFd, Option<Groups>)> {
    let SocketPlan { bind, broadcast, reuse_address, .. } = *plan;
    let hears = !plan.multicast.is_empty();
    let file = socket::datagrams(bind, &Datagrams { broadcast, reuse_address, groups: hears })?;
    let socket = ring.packets(file.try_clone()?)?;
    if !hears {
        return Ok((socket, file, None));
    }
    let mut groups = Groups::on(bind.ip())?;
    plan.multicast.iter().try_for_each(|group| groups.join(*group))?;
    Ok((socket, file, Some(groups)))
}

impl Own {
    fn of(bridge: &dyn Bridge, files: &[OwnedFd]) -> io::Result<Self> {
        let plans = bridge.sockets();
        let bound = plans.iter().zip(files);
        let bound =
            bound.map(|(plan, file)| plan.skip_own.then(|| socket::address(file)).transpose());
        let bound = bound.collect::<io::Result<Vec<_>>>()?;
        let any = bound.iter().any(Option::is_some);
        Ok(Self { bound, addresses: if any { own_addresses() } else { Vec::new() } })
    }
}

impl Guest {
    /// Opens what `bridge` asks for; connections are made by and by. `pages` are for its lines.
    pub(super) fn new(
        bridge: Box<dyn Bridge>,
        pages: Vec<Writer>,
        uplink: Uplink,
        ring: &mut Ring,
        alarm: &Alarm,
    ) -> io::Result<Self> {
        let (sockets, files, memberships) = open_sockets(&*bridge, ring)?;
        let own = Own::of(&*bridge, &files)?;
        let streams = Streams::open(&*bridge, pages, ring, alarm)?;
        let scratch = Vec::new();
        Ok(Self { bridge, sockets, files, memberships, own, streams, uplink, scratch })
    }

    /// Whether what came `from` there is what socket `socket` sent itself.
    pub(super) fn has_sent(&self, socket: u8, from: SocketAddr) -> bool {
        let Own { bound, addresses } = &self.own;
        let bound = bound.get(usize::from(socket)).copied().flatten();
        bound.is_some_and(|bound| is_ourselves(from, bound, addresses))
    }

    /// A changed configuration takes over.
    pub(super) fn succeed(&mut self, now: Time, next: Box<dyn Bridge>, ring: &mut Ring) {
        let Self { bridge, sockets, memberships, streams, uplink, .. } = self;
        let mut out = Outlet { ring, sockets, memberships, streams, uplink };
        if let Err(next) = bridge.succeed(now, next, &mut out) {
            warn!("{} goes on as it was: it cannot be changed while it runs", next.name());
        }
    }

    pub(super) fn step(&mut self, now: Time, input: Input<'_>, ring: &mut Ring) {
        let Self { bridge, sockets, memberships, streams, uplink, .. } = self;
        bridge.step(now, input, &mut Outlet { ring, sockets, memberships, streams, uplink });
    }

    /// Tells the bridge of a connection.
    pub(super) fn opened(&mut self, now: Time, opened: &Opened, ring: &mut Ring) {
        let peer = opened.at.map_or(Peer::Caller, Peer::At);
        let Opened { id: stream, plan, .. } = *opened;
        self.step(now, Input::Opened { stream, plan, peer }, ring);
    }

    /// Gives up a connection, and tells the bridge, if that does not know.
    pub(super) fn lose_stream(&mut self, now: Time, index: u32, ring: &mut Ring) {
        if let Some(stream) = self.streams.lose(index, ring) {
            self.step(now, Input::Ended { stream }, ring);
        }
    }

    /// Takes what devices have to say, within bounds. Says whether there was anything.
    fn hear_devices(&mut self, now: Time, ring: &mut Ring) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut heard = false;
        for _ in 0..PIECES_PER_TURN {
            let Some(said) = self.streams.hear(&mut scratch) else { break };
            heard = true;
            let input = match said {
                FromDevice::Opened { id: stream, plan } => {
                    let name = str::from_utf8(&scratch).unwrap_or_default();
                    Input::Opened { stream, plan, peer: Peer::Device(name) }
                }
                FromDevice::Bytes { id: stream } => Input::Bytes { stream, bytes: &scratch },
                FromDevice::Ended { id: stream } => Input::Ended { stream },
                FromDevice::Nothing => continue,
            };
            self.step(now, input, ring);
        }
        self.scratch = scratch;
        heard
    }

    fn tell(&mut self, now: Time, change: Option<Change>, ring: &mut Ring) {
        match change {
            Some(Change::Joined) => self.step(now, Input::Joined, ring),
            Some(Change::Lost) => self.step(now, Input::Lost, ring),
            None => {}
        }
    }

    /// The connection to the router is of no use any more.
    pub(super) fn lose(&mut self, now: Time, ring: &mut Ring) {
        let change = self.uplink.lose(now, ring);
        self.tell(now, change, ring);
    }

    /// Takes what a port and devices have to say, within bounds, and does what the uplink has due.
    /// Says whether there was anything.
    pub(super) fn hear(&mut self, now: Time, ring: &mut Ring) -> bool {
        let mut heard = self.hear_devices(now, ring);
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
    pub(super) fn read(&mut self, now: Time, ring: &mut Ring) {
        let mut carry = self.uplink.take_carry();
        let mut used = 0;
        loop {
            match self.uplink.read(&mut carry[used..]) {
                Read::Nothing => break,
                Read::Frame(frame) => {
                    self.uplink.note(now, self.bridge.name(), frame);
                    self.step(now, Input::Frame(frame), ring);
                }
                Read::Opened => {
                    let change = self.uplink.join();
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

    /// Hands over what waits, and wakes the shard behind a port and the threads of devices.
    pub(super) fn flush(&mut self, now: Time, ring: &mut Ring) {
        self.streams.elapse(now, ring);
        self.streams.flush(now, ring);
        self.uplink.flush(ring);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.uplink.is_silent() && self.streams.is_silent()
    }

    /// Whether nothing of what was said is left here.
    pub(super) fn is_flushed(&self) -> bool {
        self.uplink.is_flushed() && self.streams.is_flushed()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let own = [self.bridge.deadline(), self.uplink.deadline(), self.streams.deadline()];
        own.into_iter().flatten().min()
    }
}

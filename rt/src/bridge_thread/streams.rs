//! The byte streams of one bridge: connections that it accepts or makes, and devices.

use std::io;
use std::net::{SocketAddr, TcpStream};

use clasp_rt_bridges::bind::{Transport, explained};
use clasp_rt_bridges::{Bridge, StreamId, StreamPlan};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_perf::buckets::Writer;
use clasp_rt_ring::{Alarm, Ring, Socket, socket};
use tracing::info;

use super::device::{Device, Heard, Wanted};
use crate::devices::{self, intervals};
use crate::dialer::{Dialer, Goal, Wanted as Dial};

/// What may wait for a peer that does not read.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// Room for what a bridge says to one peer in one turn.
const PENDING_BYTES: usize = 4 << 10;

/// A connection that the bridge ended is cut when the peer has not let go of it by then.
const FAREWELL: Span = Span::from_secs(2);

/// A connection that lasted this long worked; the next one is tried at once.
const LASTED: Span = Span::from_secs(10);

/// Connections beyond those that a bridge wants, so that a further one is closed, not left waiting.
const SPARE_CONNECTIONS: u32 = 8;

/// The streams of one bridge.
pub(super) struct Streams {
    sources: Vec<Source>,
    slots: Vec<Slot>,
    /// Slots with something to hand over at the end of the turn.
    touched: Vec<u32>,
    /// Connections that the bridge gave up.
    ending: u32,
    /// What was said to a stream that had no room for it.
    pub(super) dropped: u64,
    /// Connections beyond those that the bridge wants.
    pub(super) turned_away: u64,
}

/// Where streams come from, one for each plan.
enum Source {
    Listener { socket: Socket, connections_max: u32, open: u32, lost: bool },
    Dialer(Dialer),
    Device { device: Device, open: Option<u32> },
}

struct Slot {
    generation: u32,
    stream: Option<Stream>,
}

struct Stream {
    plan: u8,
    way: Way,
    /// The bridge knows of it; not any more once it is ended.
    told: bool,
}

enum Way {
    Connection(Connection),
    Device,
}

struct Connection {
    socket: Socket,
    since: Time,
    pending: Vec<u8>,
    /// Takes turns with `pending`; `None` while it is on its way.
    spare: Option<Vec<u8>>,
    end: End,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// The bridge wants it, once all is said; cut then at the latest.
    Wanted {
        cut: Option<Time>,
    },
    /// All was said; the peer has until then to let go.
    Said {
        cut: Time,
    },
    /// The ring was told to close it.
    Closing,
}

/// Who at a host owns a socket: the guest's stream in this slot, or its listener of this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Listener(u8),
    Stream(u32),
}

/// A stream that came to be, for the bridge.
pub(super) struct Opened {
    pub(super) id: StreamId,
    pub(super) plan: u8,
    pub(super) at: Option<SocketAddr>,
    pub(super) socket: Socket,
}

/// What a device told, its bytes in the scratch.
pub(super) enum FromDevice {
    Opened {
        id: StreamId,
        plan: u8,
    },
    Bytes {
        id: StreamId,
    },
    Ended {
        id: StreamId,
    },
    /// Of a stream that the bridge gave up.
    Nothing,
}

/// Connections that `plans` may have open at once.
pub(super) fn connections_max<'p>(plans: impl Iterator<Item = &'p StreamPlan>) -> u32 {
    plans
        .map(|plan| match plan {
            StreamPlan::Listen { connections_max, .. } => connections_max + SPARE_CONNECTIONS,
            StreamPlan::Connect { .. } | StreamPlan::Midi(_) | StreamPlan::Serial(_) => 0,
        })
        .sum()
}

/// Bytes that `plans` may take when no peer reads.
pub fn memory_bytes_max(plans: &[StreamPlan]) -> u64 {
    let called = plans.iter().filter(|plan| matches!(plan, StreamPlan::Connect { .. })).count();
    let streams = u64::from(connections_max(plans.iter())) + called as u64;
    let is_device =
        |plan: &&StreamPlan| matches!(plan, StreamPlan::Midi(_) | StreamPlan::Serial(_));
    let devices = plans.iter().filter(is_device).count() as u64;
    let counted = plans.iter().filter(|plan| intervals::is_counted(plan)).count() as u64;
    // What waits, and what is on its way.
    let waits = streams * 2 * PENDING_BYTES_MAX as u64;
    waits + devices * devices::BYTES_MAX + counted * intervals::BYTES
}

impl Streams {
    /// Opens what `bridge` asks for. Lines that make frames count them in `pages`.
    pub(super) fn open(
        bridge: &dyn Bridge,
        pages: Vec<Writer>,
        ring: &mut Ring,
        alarm: &Alarm,
    ) -> io::Result<Self> {
        let mut pages = pages.into_iter();
        let sources = bridge.streams().into_iter().map(|plan| match plan {
            StreamPlan::Listen { bind, connections_max } => {
                let failed = |why: io::Error| {
                    let why = explained(Transport::Tcp, bind, why);
                    let what = format!("cannot listen on TCP {bind}: {why}");
                    io::Error::new(why.kind(), what)
                };
                socket::check_free(bind).map_err(failed)?;
                let listener = socket::listener(bind).map_err(failed)?;
                let at = socket::address(&listener)?;
                info!("{} listens on tcp {at}", bridge.name());
                let socket = ring.listen(listener)?;
                Ok(Source::Listener { socket, connections_max, open: 0, lost: false })
            }
            StreamPlan::Connect { to } => {
                let wrong = || {
                    let what = format!("`{to}` is not HOST:PORT");
                    io::Error::new(io::ErrorKind::InvalidInput, what)
                };
                let (host, port) = to.rsplit_once(':').ok_or_else(wrong)?;
                let port = port.parse().map_err(|_| wrong())?;
                // An IPv6 address wears brackets before its port.
                let host = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'))
                    .unwrap_or(host)
                    .to_owned();
                let goal = Goal { what: format!("{} device", bridge.name()), host, port };
                let dialer = Dialer::start(goal, alarm.clone())?;
                dialer.want(Dial::Afresh);
                Ok(Source::Dialer(dialer))
            }
            StreamPlan::Midi(port) => {
                let device = devices::midi(bridge.name(), port, alarm.clone())?;
                Ok(Source::Device { device, open: None })
            }
            StreamPlan::Serial(line) => {
                let device = devices::serial(bridge.name(), line, alarm.clone(), &mut pages)?;
                Ok(Source::Device { device, open: None })
            }
        });
        Ok(Self {
            sources: sources.collect::<io::Result<_>>()?,
            slots: Vec::new(),
            touched: Vec::new(),
            ending: 0,
            dropped: 0,
            turned_away: 0,
        })
    }

    /// The sockets at which connections arrive.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Socket, Role)> {
        let numbered = (0..).zip(&self.sources);
        numbered.filter_map(|(plan, source)| match source {
            Source::Listener { socket, .. } => Some((*socket, Role::Listener(plan))),
            _ => None,
        })
    }

    /// Takes a connection that somebody opened; `None`: there are enough.
    pub(super) fn accepted(
        &mut self,
        now: Time,
        plan: u8,
        socket: Socket,
        ring: &mut Ring,
    ) -> Option<Opened> {
        let room = match self.sources.get_mut(usize::from(plan)) {
            Some(Source::Listener { connections_max, open, .. }) if *open < *connections_max => {
                *open += 1;
                true
            }
            _ => false,
        };
        if !room {
            self.turned_away += 1;
            ring.close(socket);
            return None;
        }
        Some(self.connected(now, plan, socket, None))
    }

    /// Takes a connection that was made for us; asks lost listeners and dialers again.
    pub(super) fn look(&mut self, now: Time, ring: &mut Ring) -> Option<Opened> {
        for plan in 0..self.sources.len() {
            let Some(Source::Dialer(dialer)) = self.sources.get(plan) else { continue };
            let Some(file) = dialer.take() else { continue };
            let stream = TcpStream::from(file);
            let at = stream.peer_addr().ok();
            match ring.adopt(stream.into()) {
                Ok(socket) => return Some(self.connected(now, plan as u8, socket, at)),
                Err(_) => dialer.want(Dial::Again(1)),
            }
        }
        None
    }

    fn connected(&mut self, now: Time, plan: u8, socket: Socket, at: Option<SocketAddr>) -> Opened {
        let way = Way::Connection(Connection {
            socket,
            since: now,
            pending: Vec::with_capacity(PENDING_BYTES),
            spare: Some(Vec::with_capacity(PENDING_BYTES)),
            end: End::NotYet,
        });
        let id = self.place(Stream { plan, way, told: true });
        Opened { id, plan, at, socket }
    }

    fn place(&mut self, stream: Stream) -> StreamId {
        let free = self.slots.iter().position(|slot| slot.stream.is_none());
        let index = free.unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, stream: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.stream = Some(stream);
        StreamId { index: index as u32, generation: slot.generation }
    }

    fn free(&mut self, index: u32) -> Option<Stream> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.stream.take()
    }

    /// The stream in slot `index`, unless the bridge gave it up.
    pub(super) fn id(&self, index: u32) -> Option<StreamId> {
        let slot = self.slots.get(index as usize)?;
        slot.stream.as_ref().filter(|stream| stream.told)?;
        Some(StreamId { index, generation: slot.generation })
    }

    fn connection(&mut self, index: u32) -> Option<&mut Connection> {
        match self.slots.get_mut(index as usize)?.stream.as_mut()?.way {
            Way::Connection(ref mut connection) => Some(connection),
            Way::Device => None,
        }
    }

    /// A buffer has left, or will not.
    pub(super) fn sent(&mut self, index: u32, mut buffer: Vec<u8>) {
        if let Some(connection) = self.connection(index) {
            buffer.clear();
            buffer.shrink_to(PENDING_BYTES);
            connection.spare = Some(buffer);
            self.touched.push(index);
        }
    }

    /// The connection is of no use any more. The bridge is told of the stream that is given.
    pub(super) fn lose(&mut self, index: u32, ring: &mut Ring) -> Option<StreamId> {
        let id = self.id(index);
        let connection = self.connection(index)?;
        let was = std::mem::replace(&mut connection.end, End::Closing);
        if was != End::Closing {
            let socket = connection.socket;
            ring.close(socket);
        }
        self.ending -= u32::from(matches!(was, End::Wanted { .. } | End::Said { .. }));
        if let Some(stream) = self.slots.get_mut(index as usize).and_then(|s| s.stream.as_mut()) {
            stream.told = false;
        }
        id
    }

    /// The ring let go of a connection.
    pub(super) fn closed(&mut self, now: Time, index: u32) {
        let Some(stream) = self.free(index) else { return };
        match (self.sources.get_mut(usize::from(stream.plan)), stream.way) {
            (Some(Source::Listener { open, .. }), _) => *open -= 1,
            (Some(Source::Dialer(dialer)), Way::Connection(connection)) => {
                let lasted = now.since(connection.since) > LASTED;
                dialer.want(if lasted { Dial::Afresh } else { Dial::Again(1) });
            }
            _ => {}
        }
    }

    /// The kernel gave a listener up; it is asked again with the next tick.
    pub(super) fn listener_lost(&mut self, plan: u8) {
        if let Some(Source::Listener { lost, .. }) = self.sources.get_mut(usize::from(plan)) {
            *lost = true;
        }
    }

    pub(super) fn tick(&mut self, ring: &mut Ring) {
        for source in &mut self.sources {
            if let Source::Listener { socket, lost, .. } = source
                && std::mem::take(lost)
            {
                ring.accept_again(*socket);
            }
        }
    }

    pub(super) fn room(&self, id: StreamId) -> usize {
        let slot = self.slots.get(id.index as usize);
        let stream = slot.filter(|slot| slot.generation == id.generation);
        match stream.and_then(|slot| slot.stream.as_ref()) {
            Some(stream) if stream.told => match &stream.way {
                Way::Connection(connection) => {
                    PENDING_BYTES_MAX.saturating_sub(connection.pending.len())
                }
                Way::Device => match self.sources.get(usize::from(stream.plan)) {
                    Some(Source::Device { device, .. }) => device.room(),
                    _ => 0,
                },
            },
            _ => 0,
        }
    }

    pub(super) fn say(&mut self, id: StreamId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.room(id) < bytes.len() {
            self.dropped += 1;
            return;
        }
        let Some(stream) = self.slots.get_mut(id.index as usize).and_then(|s| s.stream.as_mut())
        else {
            return;
        };
        match (&mut stream.way, self.sources.get_mut(usize::from(stream.plan))) {
            (Way::Connection(connection), _) => {
                if connection.pending.is_empty() {
                    self.touched.push(id.index);
                }
                connection.pending.extend_from_slice(bytes);
            }
            (Way::Device, Some(Source::Device { device, .. })) => {
                self.dropped += u64::from(!device.say(Wanted::Bytes(bytes)));
            }
            _ => {}
        }
    }

    /// Ends a stream for the bridge, once what was said has left.
    pub(super) fn end(&mut self, id: StreamId) {
        if self.id(id.index) != Some(id) {
            return;
        }
        let Some(stream) = self.slots.get_mut(id.index as usize).and_then(|s| s.stream.as_mut())
        else {
            return;
        };
        stream.told = false;
        match (&mut stream.way, self.sources.get_mut(usize::from(stream.plan))) {
            (Way::Connection(connection), _) if connection.end == End::NotYet => {
                connection.end = End::Wanted { cut: None };
                self.ending += 1;
                self.touched.push(id.index);
            }
            (Way::Device, Some(Source::Device { device, .. })) => {
                // Without room for the wish, the device stays open and unheard until it ends.
                self.dropped += u64::from(!device.say(Wanted::End));
            }
            _ => {}
        }
    }

    /// Takes the next thing that a device has to say; its bytes or its name go to `scratch`.
    pub(super) fn hear(&mut self, scratch: &mut Vec<u8>) -> Option<FromDevice> {
        for plan in 0..self.sources.len() {
            let Some(Source::Device { device, open }) = self.sources.get_mut(plan) else {
                continue;
            };
            let Some(heard) = device.hear() else { continue };
            scratch.clear();
            let (bytes, what): (&[u8], _) = match heard {
                Heard::Opened(name) => (name.as_bytes(), Of::Opening),
                Heard::Bytes(bytes) => (bytes, Of::Bytes),
                Heard::Ended => (&[], Of::End),
            };
            scratch.extend_from_slice(bytes);
            device.heard();
            let index = *open;
            return Some(self.heard(plan as u8, index, what));
        }
        None
    }

    fn heard(&mut self, plan: u8, index: Option<u32>, what: Of) -> FromDevice {
        let id = index.and_then(|index| self.id(index));
        let (said, open) = match (what, index) {
            (Of::Opening, None) => {
                let id = self.place(Stream { plan, way: Way::Device, told: true });
                (FromDevice::Opened { id, plan }, Some(id.index))
            }
            (Of::Bytes, _) => {
                (id.map_or(FromDevice::Nothing, |id| FromDevice::Bytes { id }), index)
            }
            (Of::End, Some(index)) => {
                self.free(index);
                (id.map_or(FromDevice::Nothing, |id| FromDevice::Ended { id }), None)
            }
            // A device is opened once before it ends.
            (Of::Opening, Some(_)) | (Of::End, None) => (FromDevice::Nothing, index),
        };
        if let Some(Source::Device { open: now_open, .. }) = self.sources.get_mut(usize::from(plan))
        {
            *now_open = open;
        }
        said
    }

    /// Hands over what was said.
    pub(super) fn flush(&mut self, now: Time, ring: &mut Ring) {
        while let Some(index) = self.touched.pop() {
            if let Some(connection) = self.connection(index) {
                connection.flush(now, ring);
            }
        }
        for source in &mut self.sources {
            if let Source::Device { device, .. } = source {
                device.flush();
            }
        }
    }

    /// Cuts connections that the bridge gave up and whose peers do not let go.
    pub(super) fn elapse(&mut self, now: Time, ring: &mut Ring) {
        for index in 0..self.slots.len() as u32 {
            if self.ending > 0
                && self
                    .connection(index)
                    .is_some_and(|connection| connection.cut().is_some_and(|cut| cut <= now))
            {
                self.lose(index, ring);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        if self.ending == 0 {
            return None;
        }
        let streams = self.slots.iter().filter_map(|slot| slot.stream.as_ref());
        let cuts = streams.filter_map(|stream| match &stream.way {
            Way::Connection(connection) => connection.cut(),
            Way::Device => None,
        });
        cuts.min()
    }

    /// Whether no device has something to say.
    pub(super) fn is_silent(&self) -> bool {
        self.sources.iter().all(|source| match source {
            Source::Device { device, .. } => device.is_silent(),
            _ => true,
        })
    }

    /// Whether everything that was said has left, to the kernel or to a device's thread.
    pub(super) fn is_flushed(&self) -> bool {
        let streams = self.slots.iter().filter_map(|slot| slot.stream.as_ref());
        streams.map(|stream| &stream.way).all(|way| match way {
            Way::Connection(connection) => {
                connection.end == End::Closing
                    || (connection.pending.is_empty() && connection.spare.is_some())
            }
            Way::Device => true,
        })
    }

    /// Streams that the bridge knows.
    pub(super) fn count(&self) -> usize {
        let streams = self.slots.iter().filter_map(|slot| slot.stream.as_ref());
        streams.filter(|stream| stream.told).count()
    }
}

/// What a device's record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Opening,
    Bytes,
    End,
}

impl Connection {
    fn flush(&mut self, now: Time, ring: &mut Ring) {
        if self.end == End::Closing {
            return;
        }
        if !self.pending.is_empty()
            && let Some(spare) = self.spare.take()
        {
            ring.send(self.socket, std::mem::replace(&mut self.pending, spare));
        }
        if let End::Wanted { cut } = &mut self.end {
            let cut = *cut.get_or_insert(now + FAREWELL);
            if self.pending.is_empty() && self.spare.is_some() {
                ring.finish(self.socket);
                self.end = End::Said { cut };
            }
        }
    }

    fn cut(&self) -> Option<Time> {
        match self.end {
            End::Wanted { cut } => cut,
            End::Said { cut } => Some(cut),
            End::NotYet | End::Closing => None,
        }
    }
}

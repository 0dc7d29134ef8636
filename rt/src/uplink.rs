//! A bridge's connection to its router: frames in and out, over a port or over a socket.
//!
//! The bridge hears of the connection's beginning and end; how it is made again is decided here.

use std::io;
use std::os::fd::OwnedFd;

use clasp_rt_core::message::{ErrorReply, Message};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::wire::binary::{self, code};
use clasp_rt_core::wire::header;
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{AnyTransport, Event, Transport, close};
use clasp_rt_ring::{Ring, Socket};
use tracing::{info, warn};

use crate::dialer::{Dialer, Wanted, random};
use crate::plan_types::{ListenerTransport, Remote};
use crate::port::{Port, Said};

/// Frames for a router that does not take them; beyond it they are dropped and counted.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Beyond it a router is behind: what can be told as its newest state later, waits.
const PENDING_BYTES_CALM: usize = 256 << 10;

/// What a port carries at once: the shard sees to its links between two of them.
const PIECE_BYTES: usize = 16 << 10;

/// Room for what a busy bridge says in one turn.
const PENDING_BYTES: usize = 64 << 10;

/// After its port was closed, a bridge comes back so much later.
const RETURN_PAUSE: Span = Span::from_secs(1);

/// A connection that lasted this long after WELCOME worked; the next one is tried at once.
const LASTED: Span = Span::from_secs(10);

/// A router that does not answer the handshake, or says nothing for so long, is not there.
const HANDSHAKE_TIMEOUT: Span = Span::from_secs(10);
const PING_INTERVAL: Span = Span::from_secs(20);
const SILENCE_MAX: Span = Span::from_secs(60);

/// Different refusals that are told of one bridge; codes are few.
const REFUSALS_MAX: usize = 16;

/// What is said of a connection that ended without a word.
const NO_WELCOME: &str = "the connection ended before WELCOME; the router may be full";

/// How the router is reached.
pub enum Way {
    /// It is in this process.
    Port(Port),
    /// It is elsewhere.
    Remote { remote: Remote, dialer: Dialer, socket: Option<Socket> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A port is opened again then; a socket comes when the dialer has one.
    Away { until: Time },
    /// Connected, the transport's handshake is not done.
    Greeting { since: Time },
    /// Frames can be said; whether the router lets us in, it says by WELCOME.
    Joined,
}

pub struct Uplink {
    pub way: Way,
    state: State,
    transport: AnyTransport,
    carry: Vec<u8>,
    pending: Vec<u8>,
    /// Takes turns with `pending`; `None` while it is on its way.
    spare: Option<Vec<u8>>,
    heard: Time,
    pinged: Time,
    /// When the router said WELCOME; `None`: not on this connection.
    welcomed: Option<Time>,
    /// The last connection worked for a while.
    lasted: bool,
    /// Connections in a row that ended without WELCOME.
    failures: u32,
    /// Why the router does not let us in, as far as it said, and what of that was told.
    reason: Option<String>,
    told: Option<String>,
    /// Codes of refusals that were told.
    refusals: Vec<u16>,
    /// Frames for a router that was not there or did not take them.
    pub dropped: u64,
}

/// What a bridge must be told of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Joined,
    Lost,
}

/// What [`Uplink::hear`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    Something(Option<Change>),
}

/// What lies at the front of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Nothing whole, or nobody to read it for.
    Nothing,
    Frame(&'a [u8]),
    /// The handshake is done.
    Opened,
    /// Nothing that concerns the bridge.
    Other,
    Ended,
}

impl Uplink {
    /// Asks for the connection at once.
    pub fn new(way: Way) -> Self {
        if let Way::Remote { dialer, .. } = &way {
            dialer.want(Wanted::Afresh);
        }
        Self {
            way,
            state: State::Away { until: Time(0) },
            transport: AnyTransport::Stream(Stream::new()),
            carry: Vec::with_capacity(PENDING_BYTES),
            pending: Vec::with_capacity(PENDING_BYTES),
            spare: Some(Vec::with_capacity(PENDING_BYTES)),
            heard: Time(0),
            pinged: Time(0),
            welcomed: None,
            lasted: false,
            failures: 0,
            reason: None,
            told: None,
            refusals: Vec::new(),
            dropped: 0,
        }
    }

    /// Whether frames can be said.
    pub fn is_joined(&self) -> bool {
        matches!(self.state, State::Joined)
    }

    /// Whether the router has let us in.
    pub fn is_welcome(&self) -> bool {
        self.welcomed.is_some()
    }

    /// Bytes that can be said before the router is behind. All of them while there is none: what is
    /// said then is dropped, and told anew when it comes.
    pub fn room(&self) -> usize {
        if !self.is_joined() {
            return PENDING_BYTES_MAX;
        }
        PENDING_BYTES_CALM.saturating_sub(self.pending.len())
    }

    /// Queues one frame for the router.
    pub fn say(&mut self, frame: &[u8]) {
        if !self.is_joined() || self.pending.len() + frame.len() > PENDING_BYTES_MAX {
            self.dropped += 1;
        } else {
            self.transport.wrap(frame, &mut self.pending);
        }
    }

    /// Does what is due: comes back, takes a new connection, asks a silent router.
    pub fn look(&mut self, now: Time, ring: &mut Ring) -> Option<Change> {
        match (&mut self.way, self.state) {
            (Way::Port(port), State::Away { until }) => {
                if now < until || !port.say(Said::Open) {
                    return None;
                }
                self.begin(now, AnyTransport::Stream(Stream::new()));
                Some(self.join())
            }
            (Way::Remote { dialer, .. }, State::Away { .. }) => {
                let connection = dialer.take()?;
                self.connected(now, connection, ring).unwrap_or_else(|why| {
                    warn!("a connection to the router cannot be used: {why}");
                    self.failures = self.failures.saturating_add(1);
                    self.dial(self.wanted());
                    None
                })
            }
            (Way::Remote { .. }, State::Greeting { since }) => {
                let late = now.since(since) > HANDSHAKE_TIMEOUT;
                if late { self.lose(now, ring) } else { None }
            }
            (Way::Remote { .. }, State::Joined) => {
                if now.since(self.heard) > SILENCE_MAX {
                    return self.lose(now, ring);
                }
                if now.since(self.heard.max(self.pinged)) > PING_INTERVAL {
                    self.pinged = now;
                    self.transport.ping(&mut self.pending);
                }
                None
            }
            (Way::Port(_), State::Greeting { .. } | State::Joined) => None,
        }
    }

    /// When [`Uplink::look`] has something to do, if nothing happens first.
    pub fn deadline(&self) -> Option<Time> {
        match (self.state, &self.way) {
            (State::Away { until }, Way::Port(_)) => Some(until),
            _ => None,
        }
    }

    /// Keeps the next piece that came over a port. Over a socket, [`Uplink::received`] does.
    ///
    /// It is lost when the shard closed the link.
    pub fn hear(&mut self, now: Time, ring: &mut Ring) -> Heard {
        let Way::Port(port) = &mut self.way else { return Heard::Nothing };
        let lost = match port.hear() {
            None => return Heard::Nothing,
            Some(Said::Bytes(bytes)) => {
                if !matches!(self.state, State::Away { .. }) {
                    self.carry.extend_from_slice(bytes);
                }
                false
            }
            Some(Said::Close) => true,
            Some(Said::Open) => false,
        };
        port.heard();
        Heard::Something(if lost { self.lose(now, ring) } else { None })
    }

    /// Keeps bytes of the socket.
    pub fn received(&mut self, now: Time, bytes: &[u8]) {
        self.heard = now;
        self.carry.extend_from_slice(bytes);
    }

    /// Takes what was received, to be offered to [`Uplink::read`] piece by piece.
    pub fn take_carry(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }

    /// Puts it back after `used` bytes were used up.
    pub fn return_carry(&mut self, mut carry: Vec<u8>, used: usize) {
        if matches!(self.state, State::Away { .. }) {
            carry.clear();
        } else {
            carry.drain(..used);
        }
        if carry.is_empty() {
            carry.shrink_to(PENDING_BYTES);
        }
        self.carry = carry;
    }

    /// What `received` begins with; the same until [`Uplink::advance`].
    pub fn read<'a>(&mut self, received: &'a mut [u8]) -> Read<'a> {
        if matches!(self.state, State::Away { .. }) {
            return Read::Nothing;
        }
        match self.transport.peek(received, &mut self.pending) {
            Event::More => Read::Nothing,
            Event::Opened => Read::Opened,
            Event::Binary(frame) => Read::Frame(frame),
            Event::Text(_) | Event::Alive => Read::Other,
            Event::Ended(why) => {
                match self.is_welcome() {
                    true => warn!("the router ended the connection: {why}"),
                    false => self.reason = self.reason.take().or_else(|| Some(why.to_string())),
                }
                Read::Ended
            }
        }
    }

    pub fn advance(&mut self) -> usize {
        self.transport.advance()
    }

    /// A buffer has left, or will not.
    pub fn sent(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.shrink_to(PENDING_BYTES);
        self.spare = Some(buffer);
    }

    /// The ring let go of the connection: another one may be made.
    pub fn closed(&mut self) {
        if let Way::Remote { socket, .. } = &mut self.way {
            *socket = None;
        }
        self.dial(self.wanted());
    }

    /// How soon the next connection is wanted.
    fn wanted(&self) -> Wanted {
        if self.lasted { Wanted::Afresh } else { Wanted::Again(self.failures.max(1)) }
    }

    /// Takes note of what a frame says of the connection itself: that the router lets `bridge` in,
    /// or why it does not, or what else it refuses.
    pub fn note(&mut self, now: Time, bridge: &str, frame: &[u8]) {
        let Ok(frame) = header::parse(frame) else { return };
        match frame.payload.first() {
            Some(&code::WELCOME) => self.welcome(now),
            Some(&code::ERROR) => {
                if let Ok(Message::Error(error)) = binary::decode(frame.payload) {
                    self.refused(bridge, &error);
                }
            }
            _ => {}
        }
    }

    fn welcome(&mut self, now: Time) {
        if let Way::Remote { remote, .. } = &self.way
            && !self.is_welcome()
        {
            info!("joined the router at {}:{}", remote.host, remote.port);
        }
        self.welcomed = Some(now);
        self.failures = 0;
        (self.reason, self.told) = (None, None);
    }

    /// Each kind of refusal is told once; the bridge counts them.
    fn refused(&mut self, bridge: &str, error: &ErrorReply<'_>) {
        let ErrorReply { code, message, address, .. } = *error;
        if !self.is_welcome() {
            self.reason = Some(format!("{message} ({code})"));
        } else if self.refusals.len() < REFUSALS_MAX && !self.refusals.contains(&code) {
            self.refusals.push(code);
            let at = address.map(|address| format!(" to {address}")).unwrap_or_default();
            warn!("the router refuses what {bridge} says{at}: {message} ({code})");
        }
    }

    /// Says why the router does not let us in, unless that was said last.
    fn tell_reason(&mut self) {
        let Way::Remote { remote: Remote { host, port, .. }, .. } = &self.way else { return };
        let reason = self.reason.take().unwrap_or_else(|| NO_WELCOME.to_owned());
        if self.told.as_ref() != Some(&reason) {
            let again = "it is tried again, less and less often";
            warn!("the router at {host}:{port} does not let us in: {reason}; {again}");
            self.told = Some(reason);
        }
    }

    /// Hands over what waits, and wakes the shard behind a port.
    pub fn flush(&mut self, ring: &mut Ring) {
        match &mut self.way {
            Way::Port(port) => {
                let mut said = 0;
                for piece in self.pending.chunks(PIECE_BYTES) {
                    if !port.say(Said::Bytes(piece)) {
                        break;
                    }
                    said += piece.len();
                }
                self.pending.drain(..said);
                if self.pending.is_empty() {
                    self.pending.shrink_to(PENDING_BYTES);
                }
                if std::mem::take(&mut port.touched) {
                    ring.wake(&port.far);
                }
            }
            Way::Remote { socket: Some(socket), .. } if !self.pending.is_empty() => {
                if let Some(spare) = self.spare.take() {
                    ring.send(*socket, std::mem::replace(&mut self.pending, spare));
                }
            }
            Way::Remote { .. } => {}
        }
    }

    /// The connection, where there is one.
    pub fn socket(&self) -> Option<Socket> {
        match &self.way {
            Way::Remote { socket, .. } => *socket,
            Way::Port(_) => None,
        }
    }

    /// Whether nothing came over the port since it was last heard.
    pub fn is_silent(&self) -> bool {
        !matches!(&self.way, Way::Port(port) if !port.is_silent())
    }

    /// Whether something waits for room in the ring to the shard.
    pub fn waits_for_port(&self) -> bool {
        matches!(self.way, Way::Port(_)) && !self.pending.is_empty()
    }

    /// Gives up the port, so that the shard ends the link.
    pub fn close_port(&mut self, ring: &mut Ring) {
        if let Way::Port(port) = &mut self.way
            && port.say(Said::Close)
        {
            ring.wake(&port.far);
        }
    }

    /// Whether everything that was said has left.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty() && self.spare.is_some()
    }

    /// Says good-bye, as the host stops.
    pub fn leave(&mut self) {
        if self.is_joined() {
            self.transport.close(close::GOING_AWAY, "the bridge stops", &mut self.pending);
        }
    }

    fn connected(
        &mut self,
        now: Time,
        connection: OwnedFd,
        ring: &mut Ring,
    ) -> io::Result<Option<Change>> {
        let Way::Remote { remote, socket, .. } = &mut self.way else { return Ok(None) };
        let mut request = Vec::new();
        let transport = match remote.transport {
            ListenerTransport::Tcp => AnyTransport::Stream(Stream::new()),
            ListenerTransport::WebSocket => {
                let host = format!("{}:{}", remote.host, remote.port);
                let ws = Ws::client(&host, &remote.path, random(), &mut request);
                let impossible = || io::Error::new(io::ErrorKind::InvalidInput, "no such path");
                AnyTransport::Ws(ws.ok_or_else(impossible)?)
            }
        };
        *socket = Some(ring.adopt(connection)?);
        self.begin(now, transport);
        self.pending.extend_from_slice(&request);
        Ok(if self.transport.is_open() { Some(self.join()) } else { None })
    }

    fn begin(&mut self, now: Time, transport: AnyTransport) {
        self.state = State::Greeting { since: now };
        self.transport = transport;
        self.carry.clear();
        self.pending.clear();
        self.heard = now;
        self.pinged = now;
    }

    /// Frames can be said from now on.
    pub fn join(&mut self) -> Change {
        self.state = State::Joined;
        Change::Joined
    }

    /// The connection is of no use any more.
    pub fn lose(&mut self, now: Time, ring: &mut Ring) -> Option<Change> {
        let change = match self.state {
            State::Away { .. } => return None,
            State::Greeting { .. } => None,
            State::Joined => Some(Change::Lost),
        };
        let welcomed = self.welcomed.take();
        self.lasted = welcomed.is_some_and(|since| now.since(since) > LASTED);
        if welcomed.is_none() {
            self.failures = self.failures.saturating_add(1);
            self.tell_reason();
        }
        let until = if self.lasted { now } else { now + RETURN_PAUSE };
        self.state = State::Away { until };
        self.pending.clear();
        if let Way::Remote { socket: Some(socket), .. } = &self.way {
            ring.close(*socket);
        }
        change
    }

    fn dial(&self, wanted: Wanted) {
        if let Way::Remote { dialer, .. } = &self.way {
            dialer.want(wanted);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::sync::Arc;

    use clasp_rt_core::message::Welcome;
    use clasp_rt_core::signal::Qos;
    use clasp_rt_core::wire::list::Features;
    use clasp_rt_ring::{Sizes, Sleeper};

    use super::*;

    const SIZES: Sizes = Sizes {
        accepted_max: 0,
        fixed_max: 1,
        stream_buffers: 1,
        packet_buffers: 1,
        datagrams_max: 1,
    };

    fn encoded(message: &Message<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        binary::encode(message, Qos::Fire, &mut frame).expect("short");
        frame
    }

    #[test]
    fn a_router_that_does_not_say_welcome_is_tried_less_and_less_often() {
        let mut ring = Ring::new(&SIZES).expect("a ring");
        let sleeper = Arc::new(Sleeper::new());
        let (near, mut far) = Port::pair(3 * PIECE_BYTES, &sleeper, &sleeper);
        let mut uplink = Uplink::new(Way::Port(near));
        let mut now = Time(0);
        let mut connect = |uplink: &mut Uplink, now: &mut Time| {
            *now = uplink.deadline().map_or(*now, |due| (*now).max(due));
            assert_eq!(uplink.look(*now, &mut ring), Some(Change::Joined));
            far.heard();
        };
        let error = |code, message| {
            let error = ErrorReply { code, message, address: None, correlation_id: None };
            encoded(&Message::Error(error))
        };
        let mut again = Ring::new(&SIZES).expect("a ring");
        for failures in 1..=5 {
            connect(&mut uplink, &mut now);
            uplink.note(now, "osc", &error(300, "token is not known to this router"));
            assert!(!uplink.is_welcome());
            assert_eq!(uplink.reason.as_deref(), Some("token is not known to this router (300)"));
            now = now + LASTED + LASTED;
            assert_eq!(uplink.lose(now, &mut again), Some(Change::Lost));
            assert_eq!(uplink.wanted(), Wanted::Again(failures), "however long it lasted");
        }
        connect(&mut uplink, &mut now);
        let welcome = encoded(&Message::Welcome(Welcome {
            version: 1,
            features: Features::from_bits(0),
            time_us: 0,
            session: "s",
            name: "r",
            token: None,
        }));
        uplink.note(now, "osc", &welcome);
        assert!(uplink.is_welcome());
        for code in [301, 301, 301, 507] {
            uplink.note(now, "osc", &error(code, "no"));
        }
        assert_eq!(uplink.refusals, [301, 507], "each is told once");
        uplink.lose(now, &mut again);
        assert_eq!(uplink.wanted(), Wanted::Again(1));
        connect(&mut uplink, &mut now);
        uplink.note(now, "osc", &welcome);
        now = now + LASTED + LASTED;
        uplink.lose(now, &mut again);
        assert_eq!(uplink.wanted(), Wanted::Afresh);
    }

    #[test]
    fn what_a_port_has_no_room_for_leaves_later_in_order_and_slows_the_bridge() {
        let mut ring = Ring::new(&SIZES).expect("a ring");
        let sleeper = Arc::new(Sleeper::new());
        let (near, mut far) = Port::pair(3 * PIECE_BYTES, &sleeper, &sleeper);
        let mut uplink = Uplink::new(Way::Port(near));
        assert_eq!(uplink.look(Time(0), &mut ring), Some(Change::Joined));
        let mut said = Vec::new();
        let mut number = 0_u32;
        while uplink.room() > 0 {
            let frame = number.to_be_bytes();
            uplink.say(&frame);
            Stream::new().wrap(&frame, &mut said);
            number += 1;
        }
        assert_eq!(uplink.pending, said);
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            let before = heard.len();
            uplink.flush(&mut ring);
            while let Some(piece) = far.hear() {
                if let Said::Bytes(bytes) = piece {
                    assert!(bytes.len() <= PIECE_BYTES);
                    heard.extend_from_slice(bytes);
                }
                far.heard();
            }
            assert!(heard.len() > before, "the port carries something each time");
        }
        assert_eq!(heard, said);
        assert_eq!(uplink.room(), PENDING_BYTES_CALM);
    }
}

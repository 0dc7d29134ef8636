//! Transports: bytes of a connection in, packets out, and back. No sockets, no clocks, no messages.
//!
//! A transport never copies what it received: it unmasks and joins packets where they lie, in the
//! caller's buffer, so that a packet can be used while the transport itself is borrowed by others.
//!
//! ```
//! use clasp_rt_link::{AnyTransport, Event, Transport, stream::Stream};
//!
//! let mut transport = AnyTransport::Stream(Stream::new());
//! let mut sent = Vec::new();
//! transport.wrap(b"fader", &mut sent);
//!
//! let (mut replies, mut read) = (Vec::new(), 0);
//! while let Event::Binary(packet) = transport.peek(&mut sent[read..], &mut replies) {
//!     assert_eq!(packet, b"fader");
//!     read += transport.advance();
//! }
//! assert_eq!(read, sent.len());
//! ```
#![forbid(unsafe_code)]

use std::fmt;

pub mod stream;
pub mod ws;

/// Bytes of the longest packet: the longest CLASP frame, 12 bytes of header and 65,535 of payload.
pub const MESSAGE_BYTES_MAX: usize = 65_547;

/// The most bytes that a caller must keep for a transport before an event frees some of them: the
/// pieces of one message with their headers, and one more piece.
pub const UNREAD_BYTES_MAX: usize = 3 * MESSAGE_BYTES_MAX + 14;

/// Every framing that a connection can be opened with.
pub const TRANSPORTS: &[Entry] = &[
    Entry { name: "ws", accept: || AnyTransport::Ws(ws::Ws::server()) },
    Entry { name: "tcp", accept: || AnyTransport::Stream(stream::Stream::new()) },
];

/// One line of [`TRANSPORTS`].
pub struct Entry {
    /// As it is written in a configuration and in front of `://`.
    pub name: &'static str,
    /// The transport of a connection that somebody else opened.
    pub accept: fn() -> AnyTransport,
}

/// What the received bytes mean. Borrows from them, not from the transport.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing yet: give the same bytes again when more have come behind them.
    More,
    /// The handshake is done; packets may be sent from here on. A stream has no handshake and never
    /// says this.
    Opened,
    Binary(&'a [u8]),
    Text(&'a str),
    /// The peer showed that it is there, with something that is no packet.
    Alive,
    /// Nothing more will come. What was appended to `out` is still to be sent.
    Ended(End),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer said good-bye with this code, or with none (1005).
    Closed { code: u16 },
    /// The peer broke the rules of the transport and was told so with this code.
    Violated { code: u16, what: &'static str },
    /// There is no connection: an ordinary web request was answered, or the handshake was wrong.
    /// `status` is the HTTP status that was sent or received; 0 when it was no HTTP at all.
    NotOpened { status: u16, what: &'static str },
}

/// Codes of a close frame: RFC 6455 §7.4.1.
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    /// Never sent: stands for a close frame without a code.
    pub const NONE: u16 = 1005;
    pub const BAD_TEXT: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_LONG: u16 = 1009;
    pub const TRY_LATER: u16 = 1013;
}

/// One framing of packets on one connection.
///
/// The caller keeps received bytes until [`Transport::advance`] lets go of them, gives all that it
/// keeps to each [`Transport::peek`], and sends whatever was appended to `out`.
pub trait Transport {
    /// Looks at the bytes that were received and not let go of yet. The same event is given until
    /// `advance`; bytes are changed (unmasked) once, and replies are appended to `out` once.
    fn peek<'a>(&mut self, received: &'a mut [u8], out: &mut Vec<u8>) -> Event<'a>;

    /// Lets go of the last event. Gives how many bytes at the front are used up, which may be 0.
    fn advance(&mut self) -> usize;

    /// Appends `frame` as one binary packet. Nothing after [`Transport::close`].
    fn wrap(&mut self, frame: &[u8], out: &mut Vec<u8>);

    /// Appends `text` as one text packet; where the transport knows no text, as any other packet.
    fn wrap_text(&mut self, text: &str, out: &mut Vec<u8>);

    /// Appends what makes a living peer answer, where the transport has such a thing.
    fn ping(&mut self, out: &mut Vec<u8>);

    /// Appends a good-bye, where the transport has one. `text` is cut where it is too long.
    fn close(&mut self, code: u16, text: &str, out: &mut Vec<u8>);

    /// Whether packets may be sent.
    fn is_open(&self) -> bool;
}

/// Any of [`TRANSPORTS`], chosen when a connection is opened and matched without indirection.
#[derive(Debug)]
pub enum AnyTransport {
    Ws(ws::Ws),
    Stream(stream::Stream),
}

impl Transport for AnyTransport {
    fn peek<'a>(&mut self, received: &'a mut [u8], out: &mut Vec<u8>) -> Event<'a> {
        match self {
            Self::Ws(ws) => ws.peek(received, out),
            Self::Stream(stream) => stream.peek(received, out),
        }
    }

    fn advance(&mut self) -> usize {
        match self {
            Self::Ws(ws) => ws.advance(),
            Self::Stream(stream) => stream.advance(),
        }
    }

    fn wrap(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Ws(ws) => ws.wrap(frame, out),
            Self::Stream(stream) => stream.wrap(frame, out),
        }
    }

    fn wrap_text(&mut self, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::Ws(ws) => ws.wrap_text(text, out),
            Self::Stream(stream) => stream.wrap_text(text, out),
        }
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Ws(ws) => ws.ping(out),
            Self::Stream(stream) => stream.ping(out),
        }
    }

    fn close(&mut self, code: u16, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::Ws(ws) => ws.close(code, text, out),
            Self::Stream(stream) => stream.close(code, text, out),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Ws(ws) => ws.is_open(),
            Self::Stream(stream) => stream.is_open(),
        }
    }
}

impl End {
    /// The close code to report; a connection that never opened counts as a breach of protocol.
    pub const fn code(&self) -> u16 {
        match *self {
            Self::Closed { code } | Self::Violated { code, .. } => code,
            Self::NotOpened { .. } => close::PROTOCOL,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Closed { code: close::NONE } => f.write_str("closed by the peer"),
            Self::Closed { code } => write!(f, "closed by the peer with code {code}"),
            Self::Violated { code, what } => write!(f, "{what} (close code {code})"),
            Self::NotOpened { status: 0, what } => f.write_str(what),
            Self::NotOpened { status, what } => write!(f, "{what} (HTTP status {status})"),
        }
    }
}

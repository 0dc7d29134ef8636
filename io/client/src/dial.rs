//! A connection from nothing to WELCOME, for both clients.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clasp_rt_core::message::{Hello, Message};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::list::Features;
use clasp_rt_core::wire::{self, Scratch, binary, header};
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{AnyTransport, Event, Transport, UNREAD_BYTES_MAX};

use crate::error::ConnectError;
use crate::url::{Scheme, Url};

/// An open connection, and what has been received on it and not been looked at.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: TcpStream,
    pub(crate) transport: AnyTransport,
    pub(crate) received: Received,
}

/// What WELCOME said.
#[derive(Clone, Debug)]
pub(crate) struct Welcomed {
    pub(crate) session: String,
    pub(crate) router: String,
    /// Microseconds since the Unix epoch, by the router's clock.
    pub(crate) time_us: u64,
    /// When that arrived here.
    pub(crate) at: Instant,
}

/// Who says HELLO.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) token: Option<String>,
    pub(crate) features: u8,
}

/// Connects and shakes hands as the transport does.
pub(crate) fn dial(url: &Url, deadline: Instant) -> Result<Dialed, ConnectError> {
    let mut stream = connect(url, deadline)?;
    let received = Received::new();
    let transport = match url.scheme {
        Scheme::Tcp => AnyTransport::Stream(Stream::new()),
        Scheme::Ws => {
            let mut request = Vec::new();
            let ws = Ws::client(&url.host_and_port(), &url.path, random(), &mut request);
            stream.write_all(&request).map_err(ConnectError::Lost)?;
            AnyTransport::Ws(ws.expect("a parsed address fits into a request"))
        }
    };
    let mut dialed = Dialed { stream, transport, received };
    while !dialed.transport.is_open() {
        dialed.next(deadline, |event| match event {
            Event::Ended(end) => Err(ConnectError::Ended(end)),
            _ => Ok(()),
        })?;
    }
    Ok(dialed)
}

impl Dialed {
    /// Says HELLO and waits for WELCOME; what follows it stays in `received`.
    pub(crate) fn greet(
        &mut self,
        identity: &Identity,
        deadline: Instant,
    ) -> Result<Welcomed, ConnectError> {
        let hello = Message::Hello(Hello {
            version: 1,
            features: Features::from_bits(identity.features),
            name: &identity.name,
            token: identity.token.as_deref(),
        });
        let (mut frame, mut bytes) = (Vec::new(), Vec::new());
        binary::encode(&hello, Qos::Fire, &mut frame).map_err(|_| ConnectError::TooLong)?;
        self.transport.wrap(&frame, &mut bytes);
        self.stream.write_all(&bytes).map_err(ConnectError::Lost)?;
        loop {
            let answer = self.next(deadline, |event| match event {
                Event::Binary(frame) => read_welcome(frame),
                Event::Ended(end) => Err(ConnectError::Ended(end)),
                Event::More | Event::Opened | Event::Text(_) | Event::Alive => Ok(None),
            })?;
            if let Some(welcomed) = answer {
                return Ok(welcomed);
            }
        }
    }

    /// Gives the next event to `take`, having read and replied as much as that needs.
    fn next<T>(
        &mut self,
        deadline: Instant,
        take: impl FnOnce(Event<'_>) -> Result<T, ConnectError>,
    ) -> Result<T, ConnectError> {
        let mut replies = Vec::new();
        // Peeked at twice, as a borrowed event cannot leave the loop; the second time is free.
        while self.transport.peek(self.received.unread(), &mut replies) == Event::More {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::TimedOut);
            }
            self.stream.set_read_timeout(Some(left)).map_err(ConnectError::Lost)?;
            match self.received.fill(&mut self.stream) {
                Ok(0) => return Err(ConnectError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if !is_timeout(&error) => return Err(ConnectError::Lost(error)),
                _ => {}
            }
        }
        self.stream.write_all(&replies).map_err(ConnectError::Lost)?;
        let taken = take(self.transport.peek(self.received.unread(), &mut replies));
        self.received.use_up(self.transport.advance());
        taken
    }
}

/// `None` for a frame that is no answer to HELLO.
fn read_welcome(frame: &[u8]) -> Result<Option<Welcomed>, ConnectError> {
    let mut scratch = Scratch::default();
    let Ok(frame) = header::parse(frame) else { return Ok(None) };
    match wire::decode(frame.payload, &mut scratch) {
        Ok(Message::Welcome(welcome)) => Ok(Some(Welcomed {
            session: welcome.session.to_owned(),
            router: welcome.name.to_owned(),
            time_us: welcome.time_us,
            at: Instant::now(),
        })),
        Ok(Message::Error(error)) => {
            Err(ConnectError::Refused { code: error.code, message: error.message.to_owned() })
        }
        _ => Ok(None),
    }
}

/// Tries every address that the name has, each in what is left of the time.
fn connect(url: &Url, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let unreachable = |error| ConnectError::Unreachable { url: url.to_string(), error };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs().map_err(unreachable)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::TimedOut);
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // A fader's 40 bytes must not wait for more to come.
                stream.set_nodelay(true).map_err(unreachable)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

/// A router that takes no byte for so long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// 64 bits from the system's random source, which is what the standard library keys its maps with.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Received bytes that are not used up, in one buffer of fixed size.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// Room to read into, beside the most that a transport leaves unread.
const READ_BYTES: usize = 64 << 10;

impl Received {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; UNREAD_BYTES_MAX + READ_BYTES].into(), start: 0, end: 0 }
    }

    pub(crate) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Lets go of `len` bytes at the front.
    pub(crate) fn use_up(&mut self, len: usize) {
        self.start += len;
        assert!(self.start <= self.end, "more was used up than received");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once; 0 is the end of the stream.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let len = stream.read(&mut self.bytes[self.end..])?;
        self.end += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_bytes_keep_their_order_when_the_buffer_is_pushed_together() {
        let mut received = Received::new();
        let (mut sent, mut expected) = ((0..=u8::MAX).cycle(), (0..=u8::MAX).cycle());
        for round in 0..2_000 {
            let piece: Vec<u8> = sent.by_ref().take(1 + round % 900).collect();
            assert_eq!(received.fill(&mut piece.as_slice()).unwrap(), piece.len());
            let len = received.unread().len().saturating_sub(100_000);
            assert!(expected.by_ref().take(len).eq(received.unread()[..len].iter().copied()));
            received.use_up(len);
        }
        assert_eq!(received.unread().len(), 100_000);
    }
}

//! A connection to the router, as bytes: what was received, and what waits to be sent.
//!
//! Nothing here is lost when a future is dropped half-way, so that a caller may select freely:
//! progress is noted as it is made, outside of any future.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clasp_rt_link::{AnyTransport, Event, Transport};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes that may wait for a router that takes none; whoever says more waits, too.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// What a buffer keeps of its room once it is empty.
const KEPT_BYTES: usize = 16 << 10;

/// Bytes received at once.
const READ_BYTES: usize = 16 << 10;

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Both directions of one connection; one task reads it, any number write.
#[derive(Debug)]
pub(crate) struct Line {
    socket: Socket,
    out: Mutex<Out>,
}

#[derive(Debug)]
struct Out {
    transport: AnyTransport,
    pending: Vec<u8>,
    /// Bytes of `pending` that the kernel has taken.
    sent: usize,
}

/// Received and not used up yet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    start: usize,
}

/// What lies at the front of the received bytes.
#[derive(Debug)]
pub(crate) enum Read {
    /// A frame, copied to where the caller wants it.
    Frame,
    /// The transport's handshake is done, or something else that is no frame.
    Other,
    /// Nothing whole.
    More,
    Ended(String),
}

impl Line {
    /// `request`: what the transport's handshake begins with.
    pub(crate) fn new(socket: Socket, transport: AnyTransport, request: Vec<u8>) -> Self {
        Self { socket, out: Mutex::new(Out { transport, pending: request, sent: 0 }) }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // Whoever panicked left whole frames behind.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.out().transport.is_open()
    }

    /// Queues `frame` and waits until the kernel has taken everything. When dropped half-way, the
    /// rest leaves with whatever comes next.
    pub(crate) async fn say(&self, frame: &[u8]) -> io::Result<()> {
        self.flush(PENDING_BYTES_MAX).await?;
        {
            let mut out = self.out();
            let Out { transport, pending, .. } = &mut *out;
            transport.wrap(frame, pending);
        }
        self.flush(0).await
    }

    /// Queues `frame` without waiting: an answer to a message, of which there are few.
    pub(crate) fn reply(&self, frame: &[u8]) {
        let mut out = self.out();
        let Out { transport, pending, .. } = &mut *out;
        transport.wrap(frame, pending);
    }

    /// Queues the transport's own good-bye.
    pub(crate) fn close(&self, code: u16, text: &str) {
        let mut out = self.out();
        let Out { transport, pending, .. } = &mut *out;
        transport.close(code, text, pending);
    }

    /// Asks whether the peer is there, where the transport can.
    pub(crate) fn ping(&self) {
        let mut out = self.out();
        let Out { transport, pending, .. } = &mut *out;
        transport.ping(pending);
    }

    /// Waits until no more than `left` bytes wait.
    pub(crate) async fn flush(&self, left: usize) -> io::Result<()> {
        while self.push()? > left {
            self.ready(Interest::WRITABLE).await?;
        }
        Ok(())
    }

    /// Hands the kernel what it takes at once; gives how many bytes wait.
    fn push(&self) -> io::Result<usize> {
        let mut out = self.out();
        let Out { pending, sent, .. } = &mut *out;
        while *sent < pending.len() {
            let rest = pending.get(*sent..).unwrap_or_default();
            let taken = match &self.socket {
                Socket::Unix(socket) => socket.try_write(rest),
                Socket::Tcp(socket) => socket.try_write(rest),
            };
            match taken {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *sent += count,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        if *sent == pending.len() {
            pending.clear();
            pending.shrink_to(KEPT_BYTES);
            *sent = 0;
        } else if *sent > PENDING_BYTES_MAX {
            pending.drain(..*sent);
            *sent = 0;
        }
        Ok(pending.len() - *sent)
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(socket) => socket.ready(interest).await.map(drop),
            Socket::Tcp(socket) => socket.ready(interest).await.map(drop),
        }
    }

    /// Waits for bytes and keeps them; what waits to be sent leaves meanwhile. `false`: the peer
    /// has ended the connection.
    pub(crate) async fn receive(&self, received: &mut Received) -> io::Result<bool> {
        loop {
            let interest = match self.push()? {
                0 => Interest::READABLE,
                _ => Interest::READABLE | Interest::WRITABLE,
            };
            self.ready(interest).await?;
            let mut piece = [0; READ_BYTES];
            let count = match &self.socket {
                Socket::Unix(socket) => socket.try_read(&mut piece),
                Socket::Tcp(socket) => socket.try_read(&mut piece),
            };
            match count {
                Ok(count) => {
                    received.keep(piece.get(..count).unwrap_or_default());
                    return Ok(count > 0);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Looks at the front of what was received, and lets go of it. A frame goes to `into`.
    pub(crate) fn read(&self, received: &mut Received, into: &mut Vec<u8>) -> Read {
        let mut out = self.out();
        let Out { transport, pending, .. } = &mut *out;
        let bytes = received.bytes.get_mut(received.start..).unwrap_or_default();
        let read = match transport.peek(bytes, pending) {
            Event::More => return Read::More,
            Event::Binary(frame) => {
                into.clear();
                into.extend_from_slice(frame);
                Read::Frame
            }
            Event::Opened | Event::Text(_) | Event::Alive => Read::Other,
            Event::Ended(why) => Read::Ended(why.to_string()),
        };
        received.start += transport.advance();
        read
    }
}

impl Received {
    fn keep(&mut self, piece: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start.min(self.bytes.len()));
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.bytes.extend_from_slice(piece);
    }
}

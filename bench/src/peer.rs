//! One connection of the load generator: never blocks, never allocates once it runs.
//!
//! Unlike a client it tells apart *queued* from *sent*, so that a full socket is seen instead of
//! waited for, and it shows its descriptor, so that one thread can wait for a thousand of them.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use clasp_rt_core::wire::binary::code;
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{AnyTransport, Event, Transport};

use crate::frames;
use crate::socket::{Socket, wait_until};

const MASK_SEED: u64 = 0x5EED;

#[derive(Debug)]
pub struct Peer {
    socket: Socket,
    transport: AnyTransport,
}

impl Peer {
    /// Connects to `ws://host:port[/path]` or `tcp://host:port`, up to the transport's handshake.
    pub fn connect(url: &str) -> io::Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unreadable(url))?;
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let mut socket = Socket::connect(host)?;
        let transport = match scheme {
            // Masking only keeps caches of web proxies from being fooled, and here is none.
            "ws" => Ws::client(host, &format!("/{path}"), MASK_SEED, socket.out())
                .map(AnyTransport::Ws)
                .ok_or_else(|| unreadable(url))?,
            "tcp" => AnyTransport::Stream(Stream::new()),
            _ => return Err(unreadable(url)),
        };
        let mut peer = Self { socket, transport };
        peer.await_open()?;
        Ok(peer)
    }

    /// Says HELLO, and waits for WELCOME and the snapshot that follows it.
    pub fn join(&mut self, name: &str) -> io::Result<()> {
        self.queue(&frames::hello(name));
        let mut welcomed = false;
        self.await_frame(|frame| {
            welcomed |= frames::is(frame, code::WELCOME);
            welcomed
        })?;
        self.settle()
    }

    /// Subscribes, and waits until the router has done so.
    pub fn subscribe(&mut self, id: u32, pattern: &str) -> io::Result<()> {
        self.queue(&frames::subscribe(id, pattern));
        self.settle()
    }

    /// Waits until all that was queued before is handled: PONG answers in order.
    pub fn settle(&mut self) -> io::Result<()> {
        self.settle_seeing(|_| {})
    }

    /// The same; `seen` gets every frame that arrives meanwhile.
    pub fn settle_seeing(&mut self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        self.queue(&frames::ping());
        self.await_frame(|frame| {
            seen(frame);
            frames::is(frame, code::PONG)
        })
    }

    pub fn queue(&mut self, frame: &[u8]) {
        self.transport.wrap(frame, self.socket.out());
    }

    /// From now on the kernel notes when frames reach this peer: see [`Socket::arrived_at`].
    pub fn stamp_arrivals(&mut self) -> io::Result<()> {
        self.socket.stamp_arrivals()
    }

    /// When what was polled last had reached this peer: see [`Socket::arrived_at`].
    pub fn arrived_at(&self) -> Option<Duration> {
        self.socket.arrived_at()
    }

    /// Bytes that are queued and not taken by the kernel.
    pub fn unsent_bytes(&self) -> usize {
        self.socket.unsent_bytes()
    }

    /// Gives the kernel what is queued, as much as it takes.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }

    /// Hands each frame that has arrived to `seen`; returns at once when there is none.
    pub fn poll(&mut self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        self.socket.receive()?;
        loop {
            let (received, out) = self.socket.both();
            match self.transport.peek(received, out) {
                Event::More => break,
                Event::Binary(frame) => seen(frame),
                Event::Opened | Event::Alive | Event::Text(_) => {}
                Event::Ended(end) => {
                    let message = format!("the other side ended the connection: {end}");
                    return Err(io::Error::new(ErrorKind::ConnectionAborted, message));
                }
            }
            let used = self.transport.advance();
            self.socket.consume(used);
        }
        if self.unsent_bytes() > 0 { self.flush() } else { Ok(()) }
    }

    fn await_open(&mut self) -> io::Result<()> {
        wait_until(|| {
            self.flush()?;
            self.poll(|_| {})?;
            Ok(self.transport.is_open())
        })
    }

    fn await_frame(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut found = false;
        wait_until(|| {
            self.flush()?;
            self.poll(|frame| found |= wanted(frame))?;
            Ok(found)
        })
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unreadable(url: &str) -> io::Error {
    let message = format!("`{url}` is not ws://HOST:PORT or tcp://HOST:PORT");
    io::Error::new(ErrorKind::InvalidInput, message)
}

//! One connection of the load generator: never blocks, never allocates once it runs.
//!
//! Unlike a client it tells apart *queued* from *sent*, so that a full socket is seen instead of
//! waited for, and it shows its descriptor, so that one thread can wait for a thousand of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{AnyTransport, Event, Transport};

use crate::frames;

/// How long a router may take to answer while nothing is measured.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

const BUFFER_BYTES: usize = 256 * 1024;

const MASK_SEED: u64 = 0x5EED;

#[derive(Debug)]
pub struct Peer {
    socket: TcpStream,
    transport: AnyTransport,
    /// Received, not yet used: `read[used..filled]`.
    read: Vec<u8>,
    used: usize,
    filled: usize,
    /// Queued, not yet sent: `out[sent..]`.
    out: Vec<u8>,
    sent: usize,
}

impl Peer {
    /// Connects to `ws://host:port[/path]` or `tcp://host:port`, up to the transport's handshake.
    pub fn connect(url: &str) -> io::Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unreadable(url))?;
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let addr = host.to_socket_addrs()?.next().ok_or_else(|| unreadable(url))?;
        let socket = TcpStream::connect(addr)
            .map_err(|error| io::Error::new(error.kind(), format!("{url}: {error}")))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut out = Vec::with_capacity(BUFFER_BYTES);
        let transport = match scheme {
            // Masking only keeps caches of web proxies from being fooled, and here is none.
            "ws" => Ws::client(host, &format!("/{path}"), MASK_SEED, &mut out)
                .map(AnyTransport::Ws)
                .ok_or_else(|| unreadable(url))?,
            "tcp" => AnyTransport::Stream(Stream::new()),
            _ => return Err(unreadable(url)),
        };
        let mut peer = Self {
            socket,
            transport,
            read: vec![0; BUFFER_BYTES],
            used: 0,
            filled: 0,
            out,
            sent: 0,
        };
        peer.await_open()?;
        Ok(peer)
    }

    /// Says HELLO, and waits for WELCOME and the snapshot that follows it.
    pub fn join(&mut self, name: &str) -> io::Result<()> {
        self.queue(&frames::hello(name));
        let mut welcomed = false;
        self.await_frame(|frame| {
            welcomed |= frames::is(frame, frames::WELCOME);
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
            frames::is(frame, frames::PONG)
        })
    }

    pub fn queue(&mut self, frame: &[u8]) {
        self.transport.wrap(frame, &mut self.out);
    }

    /// Bytes that are queued and not taken by the kernel.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Gives the kernel what is queued, as much as it takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.socket.write(&self.out[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Hands each frame that has arrived to `seen`; returns at once when there is none.
    pub fn poll(&mut self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        self.receive()?;
        loop {
            match self.transport.peek(&mut self.read[self.used..self.filled], &mut self.out) {
                Event::More => break,
                Event::Binary(frame) => seen(frame),
                Event::Opened | Event::Alive | Event::Text(_) => {}
                Event::Ended(end) => {
                    let message = format!("the other side ended the connection: {end}");
                    return Err(io::Error::new(ErrorKind::ConnectionAborted, message));
                }
            }
            self.used += self.transport.advance();
        }
        if self.unsent_bytes() > 0 { self.flush() } else { Ok(()) }
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.used == self.filled {
            self.used = 0;
            self.filled = 0;
        } else if self.filled == self.read.len() {
            self.read.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
        }
        match self.socket.read(&mut self.read[self.filled..]) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the other side closed")),
            Ok(len) => {
                self.filled += len;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn await_open(&mut self) -> io::Result<()> {
        let until = Instant::now() + ANSWER_MAX;
        while !self.transport.is_open() {
            self.flush()?;
            self.poll(|_| {})?;
            patience(until)?;
        }
        Ok(())
    }

    fn await_frame(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut found = false;
        let until = Instant::now() + ANSWER_MAX;
        while !found {
            self.flush()?;
            self.poll(|frame| found |= wanted(frame))?;
            patience(until)?;
        }
        Ok(())
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Lets others run between two looks, and gives up at `until`.
fn patience(until: Instant) -> io::Result<()> {
    if Instant::now() > until {
        return Err(io::Error::new(ErrorKind::TimedOut, "the router did not answer"));
    }
    std::thread::yield_now();
    Ok(())
}

fn unreadable(url: &str) -> io::Error {
    let message = format!("`{url}` is not ws://HOST:PORT or tcp://HOST:PORT");
    io::Error::new(ErrorKind::InvalidInput, message)
}

//! One non-blocking socket of the load generator, with what was received and what is still to go.
//!
//! It never waits: what the kernel does not take stays queued and can be counted, so that a full
//! socket shows instead of slowing the schedule down.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

/// How long a router may take to answer while nothing is measured.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

const BUFFER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Received, not yet used: `read[used..filled]`.
    read: Vec<u8>,
    used: usize,
    filled: usize,
    /// Queued, not yet sent: `out[sent..]`.
    out: Vec<u8>,
    sent: usize,
    /// Where the kernel writes when bytes arrived; of a socket that asked for that.
    control: Option<Vec<u8>>,
    arrived_at: Option<Duration>,
}

impl Socket {
    /// Connects to `host:port`, with Nagle's algorithm off.
    pub fn connect(host: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{host}: {error}"));
        let addr = host.to_socket_addrs().map_err(named)?.next();
        let addr = addr.ok_or_else(|| named(ErrorKind::AddrNotAvailable.into()))?;
        let stream = TcpStream::connect(addr).map_err(named)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let out = Vec::with_capacity(BUFFER_BYTES);
        let read = vec![0; BUFFER_BYTES];
        let (control, arrived_at) = (None, None);
        Ok(Self { stream, read, used: 0, filled: 0, out, sent: 0, control, arrived_at })
    }

    /// From now on the kernel notes when bytes reach this socket: see [`Socket::arrived_at`].
    pub fn stamp_arrivals(&mut self) -> io::Result<()> {
        setsockopt(&self.stream, sockopt::ReceiveTimestampns, &true)?;
        self.control = Some(nix::cmsg_space!(TimeSpec));
        Ok(())
    }

    /// When the last bytes that were received had reached this socket, whenever they were asked
    /// for: since 1970, by the clock of the system (`SO_TIMESTAMPNS`, socket(7)).
    pub fn arrived_at(&self) -> Option<Duration> {
        self.arrived_at
    }

    /// What is queued: append to it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What was received and not used yet.
    pub fn unread(&self) -> &[u8] {
        &self.read[self.used..self.filled]
    }

    /// Both at once: what was received and not used yet, and where answers to it are queued.
    pub fn both(&mut self) -> (&mut [u8], &mut Vec<u8>) {
        (&mut self.read[self.used..self.filled], &mut self.out)
    }

    /// Lets go of the first `len` bytes of what was received.
    pub fn consume(&mut self, len: usize) {
        self.used += len;
        assert!(self.used <= self.filled, "more used than received");
    }

    /// Bytes that are queued and not taken by the kernel.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Gives the kernel what is queued, as much as it takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
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

    /// Takes what has arrived; returns at once when that is nothing.
    pub fn receive(&mut self) -> io::Result<()> {
        if self.used == self.filled {
            self.used = 0;
            self.filled = 0;
        } else if self.filled == self.read.len() {
            self.read.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
        }
        match self.read_into_rest() {
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

    fn read_into_rest(&mut self) -> io::Result<usize> {
        let rest = &mut self.read[self.filled..];
        let Some(control) = &mut self.control else { return self.stream.read(rest) };
        let mut rest = [IoSliceMut::new(rest)];
        let fd = self.stream.as_raw_fd();
        let received = recvmsg::<()>(fd, &mut rest, Some(control), MsgFlags::empty())?;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampns(at) = message {
                self.arrived_at = Some(at.into());
            }
        }
        Ok(received.bytes)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Asks `done` again and again, letting others run in between, for [`ANSWER_MAX`] at most.
pub fn wait_until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let until = Instant::now() + ANSWER_MAX;
    while !done()? {
        if Instant::now() > until {
            return Err(io::Error::new(ErrorKind::TimedOut, "the router did not answer"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn bytes_are_stamped_when_they_arrive_not_when_they_are_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut far = listener.accept().unwrap().0;
        socket.receive().unwrap();
        assert_eq!((socket.unread(), socket.arrived_at()), (&b""[..], None));
        socket.stamp_arrivals().unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // The kernel begins to stamp a moment after it was asked to.
        wait_until(|| {
            far.write_all(b"x")?;
            socket.receive()?;
            Ok(socket.arrived_at().is_some())
        })
        .unwrap();
        let before = now();
        far.write_all(b"x").unwrap();
        let after = now();
        std::thread::sleep(Duration::from_millis(20));
        socket.receive().unwrap();
        let at = socket.arrived_at().unwrap();
        assert!((before..=after).contains(&at), "{at:?} is not in {before:?}..={after:?}");
    }
}

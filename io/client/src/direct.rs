//! A connection for measuring and for single-purpose boxes: one thread, which never sleeps.
//!
//! Nothing stands between the caller and the socket but the transport: a frame is written before
//! `send_frame` returns, and `poll` is one system call. Nothing is allocated for a message.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clasp_rt_core::wire::list::Features;
use clasp_rt_link::{AnyTransport, Event, MESSAGE_BYTES_MAX, Transport, close};

use crate::dial::{self, Identity, Received};
use crate::error::ConnectError;
use crate::url::Url;

/// How long connecting and WELCOME may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket that is asked over and over, with `TCP_NODELAY`.
#[derive(Debug)]
pub struct Direct {
    stream: TcpStream,
    transport: AnyTransport,
    received: Received,
    out: Vec<u8>,
}

impl Direct {
    /// Connects and shakes hands as the transport does. No HELLO is said: frames are the caller's.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::open(url, None).map(|(direct, _)| direct)
    }

    /// Connects, says HELLO and waits for WELCOME. Gives the session's id too.
    pub fn join(
        url: &str,
        name: &str,
        token: Option<&str>,
        features: Features<'_>,
    ) -> Result<(Self, String), ConnectError> {
        let (name, token) = (name.to_owned(), token.map(str::to_owned));
        Self::open(url, Some(Identity { name, token, features: features.bits() }))
    }

    fn open(url: &str, identity: Option<Identity>) -> Result<(Self, String), ConnectError> {
        let url: Url = url.parse()?;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut dialed = dial::dial(&url, deadline)?;
        let welcomed = identity.map(|identity| dialed.greet(&identity, deadline)).transpose()?;
        dialed.stream.set_nonblocking(true).map_err(ConnectError::Lost)?;
        let out = Vec::with_capacity(MESSAGE_BYTES_MAX + 14);
        let direct = Self {
            stream: dialed.stream,
            transport: dialed.transport,
            received: dialed.received,
            out,
        };
        Ok((direct, welcomed.map(|welcomed| welcomed.session).unwrap_or_default()))
    }

    /// Writes one frame, all of it; spins while the socket is full.
    pub fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.transport.wrap(frame, &mut self.out);
        write_all(&mut self.stream, &self.out)
    }

    /// Writes several frames with as few system calls as they need.
    pub fn send_frames<'f>(
        &mut self,
        frames: impl IntoIterator<Item = &'f [u8]>,
    ) -> io::Result<()> {
        self.out.clear();
        for frame in frames {
            self.transport.wrap(frame, &mut self.out);
        }
        write_all(&mut self.stream, &self.out)
    }

    /// Reads once without waiting, and gives `take` every frame that is whole. Gives their number;
    /// an error once the router is gone.
    pub fn poll(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        // Before the first read too: frames can have come right behind the handshake.
        let mut frames = self.take_frames(&mut take)?;
        match self.received.fill(&mut self.stream) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => frames += self.take_frames(&mut take)?,
            Err(error) if dial::is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(frames)
    }

    fn take_frames(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut frames = 0;
        self.out.clear();
        loop {
            match self.transport.peek(self.received.unread(), &mut self.out) {
                Event::More => break,
                Event::Binary(frame) => {
                    take(frame);
                    frames += 1;
                }
                Event::Opened | Event::Text(_) | Event::Alive => {}
                Event::Ended(end) => {
                    // The echo of a good-bye is a courtesy; the socket may be gone already.
                    let _ = self.stream.write(&self.out);
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, end.to_string()));
                }
            }
            self.received.use_up(self.transport.advance());
        }
        if !self.out.is_empty() {
            write_all(&mut self.stream, &self.out)?;
        }
        Ok(frames)
    }

    /// Says good-bye and waits, a second at most, for the router to hang up.
    pub fn close(mut self) {
        self.out.clear();
        self.transport.close(close::NORMAL, "", &mut self.out);
        let said = write_all(&mut self.stream, &self.out)
            .and_then(|()| self.stream.shutdown(std::net::Shutdown::Write))
            .and_then(|()| self.stream.set_nonblocking(false))
            .and_then(|()| self.stream.set_read_timeout(Some(Duration::from_secs(1))));
        if said.is_ok() {
            let mut last_words = [0; 4096];
            while self.stream.read(&mut last_words).is_ok_and(|len| len > 0) {}
        }
    }
}

/// `write_all` for a socket that does not wait.
fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if dial::is_timeout(&error) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

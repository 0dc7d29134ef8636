//! The floor: what this machine needs for the same bytes without any router.
//!
//! One thread spins on one socket and copies what comes to the others. Nothing that routes can be
//! faster over these sockets, so every latency is reported as a ratio to this one, measured in the
//! same run on the router's core.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use clasp_rt_core::signal::Qos;
use clasp_rt_link::Transport;
use clasp_rt_link::stream::Stream;

use crate::frames::{Message, Numbered};
use crate::machine;

const BUFFER_BYTES: usize = 16 * 1024;

/// A running relay. Its first connection is heard, all others are told.
#[derive(Debug)]
pub struct Floor {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: usize,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Floor {
    /// Listens on a free loopback port; the relay runs on `core` once all connections are there.
    pub fn start(core: Option<usize>, told: usize) -> io::Result<Self> {
        Self::start_relay(core, told, None)
    }

    /// The same, but each `message` is written for itself, although more have come with it: a bare
    /// loop that knows nothing of gathering.
    pub fn start_message_by_message(
        core: Option<usize>,
        told: usize,
        message: &Message<'_>,
    ) -> io::Result<Self> {
        let mut wrapped = Vec::new();
        Stream::new().wrap(Numbered::with(message, Qos::Fire)?.frame(0), &mut wrapped);
        assert!(wrapped.len() <= BUFFER_BYTES, "the floor copies small messages");
        Self::start_relay(core, told, Some(wrapped.len()))
    }

    /// Each write carries `write_len` bytes, or all that there is.
    fn start_relay(core: Option<usize>, told: usize, write_len: Option<usize>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let (sender, pinned) = mpsc::channel();
        let thread = thread::Builder::new().name("floor".to_owned()).spawn(move || {
            let placed = core.map_or(Ok(()), machine::pin);
            let may_run = placed.is_ok();
            // The other end waits for this before it lets go of the channel.
            let _ = sender.send(placed);
            if !may_run {
                return Ok(());
            }
            let mut heard = listener.accept()?.0;
            let mut listeners = Vec::with_capacity(told);
            for _ in 0..told {
                let (socket, _) = listener.accept()?;
                socket.set_nodelay(true)?;
                listeners.push(socket);
            }
            relay(&mut heard, &mut listeners, write_len, &seen)
        })?;
        pinned.recv().map_err(io::Error::other)??;
        Ok(Self { addr, stop, connections: 1 + told, thread: Some(thread) })
    }

    /// `tcp://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.addr)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread may still wait for connections that will not come: short ones end that.
        for _ in 0..self.connections {
            drop(TcpStream::connect(self.addr));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn relay(
    heard: &mut TcpStream,
    told: &mut [TcpStream],
    write_len: Option<usize>,
    stop: &AtomicBool,
) -> io::Result<()> {
    heard.set_nonblocking(true)?;
    let mut bytes = [0; BUFFER_BYTES];
    // Of a message that has not come whole yet.
    let mut kept = 0;
    while !stop.load(Ordering::Relaxed) {
        match heard.read(&mut bytes[kept..]) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let filled = kept + len;
                let mut messages = bytes[..filled].chunks_exact(write_len.unwrap_or(filled));
                for message in &mut messages {
                    for socket in &mut *told {
                        socket.write_all(message)?;
                    }
                }
                kept = messages.remainder().len();
                bytes.copy_within(filled - kept..filled, 0);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_first_connection_come_out_of_all_others() {
        let floor = Floor::start(None, 3).unwrap();
        let mut first = TcpStream::connect(floor.addr).unwrap();
        let others = [(); 3].map(|()| TcpStream::connect(floor.addr).unwrap());
        first.write_all(b"the same bytes").unwrap();
        for mut other in others {
            let mut read = [0; 14];
            other.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"the same bytes");
        }
    }

    #[test]
    fn a_floor_that_nobody_used_stops() {
        drop(Floor::start(None, 2).unwrap());
    }
}

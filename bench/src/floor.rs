//! The floor: what this machine needs for the same bytes without any router.
//!
//! One thread spins on one socket and copies what comes to another. Nothing that routes can be
//! faster over these sockets, so every latency is reported as a ratio to this one, measured in the
//! same run on the router's core.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::machine;

/// A running relay. Its first connection is heard, its second is told.
#[derive(Debug)]
pub struct Floor {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Floor {
    /// Listens on a free loopback port; the relay runs on `core` once both connections are there.
    pub fn start(core: Option<usize>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new().name("floor".to_owned()).spawn(move || {
            let mut heard = listener.accept()?.0;
            let mut told = listener.accept()?.0;
            if let Some(core) = core {
                machine::pin(core)?;
            }
            relay(&mut heard, &mut told, &seen)
        })?;
        Ok(Self { addr, stop, thread: Some(thread) })
    }

    /// `tcp://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.addr)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread may still wait for connections that will not come: two short ones end that.
        for _ in 0..2 {
            drop(TcpStream::connect(self.addr));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn relay(heard: &mut TcpStream, told: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
    heard.set_nonblocking(true)?;
    told.set_nodelay(true)?;
    let mut bytes = [0; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match heard.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(len) => told.write_all(&bytes[..len])?,
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
    fn bytes_of_the_first_connection_come_out_of_the_second() {
        let floor = Floor::start(None).unwrap();
        let mut first = TcpStream::connect(floor.addr).unwrap();
        let mut second = TcpStream::connect(floor.addr).unwrap();
        first.write_all(b"the same bytes").unwrap();
        let mut read = [0; 14];
        second.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"the same bytes");
    }

    #[test]
    fn a_floor_that_nobody_used_stops() {
        drop(Floor::start(None).unwrap());
    }
}

//! A line between an MQTT client and its broker, which counts what passes and breaks where it is
//! told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Packet types (MQTT 5 §2.1.2).
const PUBLISH: u8 = 3;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;

/// The line. It ends when dropped.
pub struct Line {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_over: bool,
    /// Nobody comes through.
    is_cut: bool,
    /// Nothing that the broker says comes through.
    is_mute: bool,
    /// In front of the broker's next packet of this type the connection breaks, once.
    breaks_before: Option<u8>,
    published: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Broker,
}

impl Line {
    /// A line to a port of this machine.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { to, state: Mutex::default() });
        let line = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.state().is_over {
                    return;
                }
                // A broker that is away is no broker: the client is let go.
                let _ = shared.join(client);
            }
        });
        line
    }

    /// Nobody comes through until [`Line::mend`].
    pub fn cut(&self) {
        self.shared.state().is_cut = true;
    }

    /// Loses what the broker says until [`Line::mend`].
    pub fn mute(&self) {
        self.shared.state().is_mute = true;
    }

    pub fn mend(&self) {
        let mut state = self.shared.state();
        (state.is_cut, state.is_mute) = (false, false);
    }

    /// Breaks the connection once, instead of the broker's next packet of this type.
    pub fn break_before(&self, packet: u8) {
        self.shared.state().breaks_before = Some(packet);
    }

    /// Whether it still waits for that packet.
    pub fn is_to_break(&self) -> bool {
        self.shared.state().breaks_before.is_some()
    }

    /// How many messages clients have published.
    pub fn published(&self) -> usize {
        self.shared.state().published
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        // Wakes it up; connections end with their clients.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        if self.state().is_cut {
            return Ok(());
        }
        let broker = TcpStream::connect(("127.0.0.1", self.to))?;
        for (from, to, side) in [
            (client.try_clone()?, broker.try_clone()?, From::Client),
            (broker, client, From::Broker),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // However it ends, it ends for both.
                let _ = shared.carry(&from, &to, side);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            });
        }
        Ok(())
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream, side: From) -> io::Result<()> {
        let (mut held, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let count = from.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            held.extend_from_slice(&piece[..count]);
            while let Some(len) = packet_len(&held) {
                let packet: Vec<u8> = held.drain(..len).collect();
                if self.passes(packet[0] >> 4, side)? {
                    to.write_all(&packet)?;
                }
            }
        }
    }

    /// Whether a packet does; an error: the connection breaks.
    fn passes(&self, kind: u8, side: From) -> io::Result<bool> {
        let mut state = self.state();
        if side == From::Client {
            state.published += usize::from(kind == PUBLISH);
            return Ok(true);
        }
        if state.breaks_before == Some(kind) {
            state.breaks_before = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(!state.is_mute)
    }
}

/// Bytes of the packet that `bytes` begin with, if all of it is there (MQTT 5 §2.1).
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        rest |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let len = 2 + index + rest;
            return (bytes.len() >= len).then_some(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_long_as_they_say() {
        for (bytes, len) in [
            (&b"\xc0\x00"[..], Some(2)),
            (b"\x40\x02\x00\x01\xc0", Some(4)),
            (b"\x40\x02\x00", None),
            (b"\x30", None),
            (b"\x30\x81", None),
        ] {
            assert_eq!(packet_len(bytes), len, "{bytes:02x?}");
        }
        let long = [&[0x30, 0x80, 0x01][..], &[0; 128]].concat();
        assert_eq!((packet_len(&long), packet_len(&long[..130])), (Some(131), None));
    }
}

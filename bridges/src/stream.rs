//! Byte streams that a host keeps open for a bridge, and how a bridge names them.

use std::net::SocketAddr;

use crate::devices::{MidiPort, SerialLine};

/// One kind of byte stream that a bridge needs. Its place in [`crate::Bridge::streams`] is the
/// `plan` of [`crate::Input::Opened`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPlan {
    /// TCP connections that others open, so many at once; a further one is closed at once.
    Listen { bind: SocketAddr, connections_max: u32 },
    /// One TCP connection to `host:port`. The name is looked up for every attempt; an attempt that
    /// fails, and a connection that ends, is followed by another one, with growing pauses.
    Connect { to: String },
    /// A MIDI port of this machine.
    Midi(MidiPort),
    /// A serial line of this machine.
    Serial(SerialLine),
}

/// One stream while it is open. Names nothing once the stream has ended, also when another one
/// has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Place in a table of the host, used again: below the number of streams that can be open.
    pub index: u32,
    /// Counts the owners of the place.
    pub generation: u32,
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// Somebody who opened the connection. The kernel does not say who, when it accepts so.
    Caller,
    /// A program that we called.
    At(SocketAddr),
    /// A device of this machine, by its name.
    Device(&'a str),
}

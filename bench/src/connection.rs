//! What the load generator needs of a connection, whatever protocol it speaks.
//!
//! One generator drives every router: only the bytes differ.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use clasp_rt_core::signal::Qos;

use crate::floor::Floor;
use crate::frames::{Message, NumberReader, Numbered};
use crate::peer::Peer;
use crate::peers::mqtt::Mqtt;
use crate::peers::nats::Nats;
use crate::peers::zenoh::Zenoh;

/// One end of a path; never blocks.
pub trait Connection: fmt::Debug + Send {
    /// Queues the message that carries `number`.
    fn publish(&mut self, number: u64);

    /// Bytes that are queued and not taken by the kernel.
    fn unsent_bytes(&self) -> usize;

    /// Gives the kernel what is queued, as much as it takes.
    fn flush(&mut self) -> io::Result<()>;

    /// Hands the number of each message that has arrived to `seen`; returns at once when there is
    /// none. Answers what the protocol wants answered.
    fn poll(&mut self, seen: &mut dyn FnMut(u64)) -> io::Result<()>;

    /// To wait for arrivals on many at once.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    Subscriber,
}

/// CLASP over WebSocket or TCP: ours, the published router, and the floor.
#[derive(Debug)]
pub struct Clasp {
    peer: Peer,
    message: Numbered,
    arrivals: NumberReader,
}

impl Clasp {
    /// Without a word: what the floor relays.
    pub fn bare(url: &str, message: &Message<'_>) -> io::Result<Self> {
        let message = Numbered::with(message, Qos::Fire)?;
        Ok(Self { peer: Peer::connect(url)?, message, arrivals: NumberReader::default() })
    }

    pub fn publisher(url: &str, message: &Message<'_>) -> io::Result<Self> {
        let mut clasp = Self::bare(url, message)?;
        clasp.peer.join("bench publisher")?;
        Ok(clasp)
    }

    /// Is told what is published to the pattern of `message`.
    pub fn subscriber(url: &str, message: &Message<'_>) -> io::Result<Self> {
        let mut clasp = Self::bare(url, message)?;
        clasp.peer.join("bench subscriber")?;
        clasp.peer.subscribe(1, message.pattern)?;
        Ok(clasp)
    }
}

impl Connection for Clasp {
    fn publish(&mut self, number: u64) {
        self.peer.queue(self.message.frame(number));
    }

    fn unsent_bytes(&self) -> usize {
        self.peer.unsent_bytes()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.peer.flush()
    }

    fn poll(&mut self, seen: &mut dyn FnMut(u64)) -> io::Result<()> {
        self.peer.poll(|frame| {
            if let Some(number) = self.arrivals.number(frame) {
                seen(number);
            }
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.peer.as_fd()
    }
}

/// Both ends of a path, driven by one thread so that one clock and one core see all of it.
#[derive(Debug)]
pub struct Path {
    pub publisher: Box<dyn Connection>,
    pub subscriber: Box<dyn Connection>,
}

impl Path {
    /// Through the router at `url`, in the protocol of its scheme.
    pub fn through_router(url: &str, message: &Message<'_>) -> io::Result<Self> {
        let subscriber = subscriber(url, message)?;
        Ok(Self { publisher: publisher(url, message)?, subscriber })
    }

    /// CLASP frames over the floor's relay. Always over `tcp`, which the relay need not understand.
    pub fn through_floor(floor: &Floor, message: &Message<'_>) -> io::Result<Self> {
        // The relay hears the first that connects.
        let publisher = Box::new(Clasp::bare(&floor.url(), message)?);
        Ok(Self { publisher, subscriber: Box::new(Clasp::bare(&floor.url(), message)?) })
    }
}

/// Opens the end that publishes `message`, at `ws://`, `tcp://`, `mqtt://`, `nats://` or
/// `zenoh://HOST:PORT`.
pub fn publisher(url: &str, message: &Message<'_>) -> io::Result<Box<dyn Connection>> {
    Ok(match url.split_once("://") {
        Some(("mqtt", host)) => Box::new(Mqtt::connect(host, message, Role::Publisher)?),
        Some(("nats", host)) => Box::new(Nats::connect(host, message, Role::Publisher)?),
        Some(("zenoh", host)) => Box::new(Zenoh::connect(host, message, Role::Publisher)?),
        _ => Box::new(Clasp::publisher(url, message)?),
    })
}

/// Opens an end that is told what is published; returns once the router has it in its list.
pub fn subscriber(url: &str, message: &Message<'_>) -> io::Result<Box<dyn Connection>> {
    Ok(match url.split_once("://") {
        Some(("mqtt", host)) => Box::new(Mqtt::connect(host, message, Role::Subscriber)?),
        Some(("nats", host)) => Box::new(Nats::connect(host, message, Role::Subscriber)?),
        Some(("zenoh", host)) => Box::new(Zenoh::connect(host, message, Role::Subscriber)?),
        _ => Box::new(Clasp::subscriber(url, message)?),
    })
}

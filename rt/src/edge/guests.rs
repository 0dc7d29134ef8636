//! Links that services of our own bring: connected sockets, handed over by their threads.

use std::os::fd::OwnedFd;

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::{Admit, Shard};
use clasp_rt_link::AnyTransport;
use clasp_rt_link::stream::Stream;
use rtrb::Consumer;
use tracing::warn;

use super::Edge;
use crate::gate::Guest;

/// What a shard knows of its guests.
pub struct Guests {
    /// One queue for each service; its thread wakes the shard after each.
    queues: Vec<Consumer<Guest>>,
    /// The links that are theirs: the first one, and how many. As many places are free in the ring.
    first: u32,
    max: u32,
    open: u32,
}

impl Guests {
    /// `ports`: links that come before theirs.
    pub fn new(queues: Vec<Consumer<Guest>>, ports: u32, max: u32) -> Self {
        Self { queues, first: ports, max, open: 0 }
    }

    pub fn max(&self) -> u32 {
        self.max
    }

    /// The end of a link; it may have been a guest's.
    pub(super) fn left(&mut self, link: LinkId) {
        if (self.first..self.first + self.max).contains(&link.0) {
            self.open -= 1;
        }
    }

    /// Whether none is a link, or about to be one.
    pub(super) fn are_gone(&self) -> bool {
        self.open == 0 && self.queues.iter().all(Consumer::is_empty)
    }

    fn next(&mut self) -> Option<Guest> {
        self.queues.iter_mut().find_map(|queue| queue.pop().ok())
    }

    /// Takes one more, if there is a place for it. One that is turned away finds its connection
    /// closed.
    fn admit(&mut self) -> bool {
        let free = self.open < self.max;
        self.open += u32::from(free);
        free
    }
}

impl Edge {
    /// Makes links of the sockets that services handed over since the shard was woken last.
    pub(super) fn take_guests(&mut self, shard: &mut Shard) {
        while let Some(Guest { socket, trusted }) = self.guests.next() {
            if self.guests.admit() {
                self.take_guest(shard, socket, trusted);
            }
        }
    }

    fn take_guest(&mut self, shard: &mut Shard, socket: OwnedFd, trusted: bool) {
        let stream = match self.ring.adopt(socket) {
            Ok(stream) => stream,
            Err(why) => {
                self.guests.open -= 1;
                return warn!("a session of a service cannot be taken: {why}");
            }
        };
        let transport = AnyTransport::Stream(Stream::new());
        match trusted {
            true => self.open_link(shard, stream, transport, Admit::Trusted),
            false => self.open_stranger(shard, stream, transport),
        }
    }
}

//! The way of a service into the shards of its process: one end of a pair of sockets each time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use clasp_rt_ring::Alarm;
use clasp_rt_worker::Gate;
use rtrb::{Consumer, Producer, RingBuffer};

/// Sockets on their way to one shard. A shard takes all of them each time it is woken; a service
/// that finds no room tries again.
const QUEUE_MAX: usize = 64;

/// What a shard is to make a link of.
pub struct Guest {
    pub socket: OwnedFd,
    /// The service itself; else a client of it, who is a stranger.
    pub trusted: bool,
}

/// A queue from a service to a shard.
pub fn queue() -> (Producer<Guest>, Consumer<Guest>) {
    RingBuffer::new(QUEUE_MAX)
}

/// The way to all shards; links are spread over them, one after the other.
pub struct Shards {
    doors: Vec<(Producer<Guest>, Alarm)>,
    next: usize,
}

impl Shards {
    /// Begins at the `first` shard, so that the own sessions of several services are spread, too.
    pub fn new(doors: Vec<(Producer<Guest>, Alarm)>, first: usize) -> Self {
        Self { doors, next: first }
    }
}

impl Gate for Shards {
    fn open(&mut self, trusted: bool) -> io::Result<UnixStream> {
        let count = self.doors.len().max(1);
        self.next = (self.next + 1) % count;
        let none = || io::Error::new(io::ErrorKind::NotFound, "this router has no shard");
        let (queue, alarm) = self.doors.get_mut(self.next).ok_or_else(none)?;
        let (near, far) = UnixStream::pair()?;
        let guest = Guest { socket: far.into(), trusted };
        let full = |_| io::Error::new(io::ErrorKind::WouldBlock, "a shard is busy");
        queue.push(guest).map_err(full)?;
        alarm.ring();
        Ok(near)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use clasp_rt_ring::{Ring, Sizes};

    use super::*;

    #[test]
    fn sessions_go_from_shard_to_shard_and_a_full_queue_is_told() {
        let sizes = Sizes {
            accepted_max: 0,
            fixed_max: 2,
            stream_buffers: 1,
            packet_buffers: 1,
            datagrams_max: 1,
        };
        let mut ring = Ring::new(&sizes).expect("a ring");
        let (doors, mut queues): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (producer, consumer) = queue();
                ((producer, ring.alarm().expect("an alarm")), consumer)
            })
            .unzip();
        let mut shards = Shards::new(doors, 0);
        let opened: Vec<_> = (0..2 * QUEUE_MAX).map(|_| shards.open(false)).collect();
        assert!(opened.iter().all(Result::is_ok));
        let full = shards.open(true).expect_err("no room");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        for queue in &mut queues {
            assert_eq!(queue.slots(), QUEUE_MAX);
            assert!(queue.pop().is_ok_and(|guest| !guest.trusted));
        }
        // The one that failed moved on, so the next is for the other shard.
        assert!(shards.open(true).is_ok());
    }
}

//! How a shard stops: what was said before arrives first, then every link hears a good-bye.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::Shard;
use clasp_rt_core::time::Span;
use clasp_rt_link::close;

use super::{Edge, FULL_PEER_NAP};
use crate::conns::Blocked;

/// How long links that read their good-bye slowly may delay a stop.
const STOP_PATIENCE: Span = Span::from_millis(500);

/// How long what is on its way may delay a stop, and a shard that no longer runs the other ones.
const SETTLE_PATIENCE: Span = Span::from_millis(1_000);

/// Where the shards of a router that stops wait for each other, round by round.
///
/// What a bridge or a service said last passes from shard to shard up to a few times. A shard that
/// has nothing to take may be handed something a moment later, so only a round in which no shard
/// was handed anything says that all has arrived.
#[derive(Debug)]
pub struct Lull {
    shards: u32,
    /// Shards that came to the end of a round, all rounds together.
    arrived: AtomicU32,
    /// The last round in which a shard took something.
    busy: AtomicU32,
}

impl Lull {
    pub const fn new(shards: u32) -> Self {
        Self { shards, arrived: AtomicU32::new(0), busy: AtomicU32::new(0) }
    }

    /// A shard has taken all that it was handed. Rounds are counted from 1.
    fn arrive(&self, round: u32, busy: bool) {
        if busy {
            self.busy.fetch_max(round, Ordering::Relaxed);
        }
        self.arrived.fetch_add(1, Ordering::Release);
    }

    fn is_over(&self, round: u32) -> bool {
        self.arrived.load(Ordering::Acquire) >= round * self.shards
    }

    fn was_busy(&self, round: u32) -> bool {
        self.busy.load(Ordering::Relaxed) >= round
    }
}

impl Edge {
    /// Takes what bridges and services of our own said before they ended, and what it leads to,
    /// together with the other shards.
    pub(super) fn settle(&mut self, shard: &mut Shard) -> io::Result<()> {
        let patience = self.clock.now() + SETTLE_PATIENCE;
        let mut records = self.counts.peer_records;
        for round in 1.. {
            self.turn_at_once(shard)?;
            while !self.is_quiet() && self.clock.now() < patience {
                self.turn_at_once(shard)?;
            }
            // What links said in the first round is on its way in the second.
            let busy = round == 1 || self.counts.peer_records > records;
            records = self.counts.peer_records;
            self.lull.arrive(round, busy);
            while !self.lull.is_over(round) {
                if self.clock.now() >= patience {
                    return Ok(());
                }
                self.turn_at_once(shard)?;
            }
            if !self.lull.was_busy(round) {
                break;
            }
        }
        Ok(())
    }

    /// A turn that does not sleep until something happens: nobody rings when a round ends.
    fn turn_at_once(&mut self, shard: &mut Shard) -> io::Result<()> {
        if !self.worked {
            std::thread::sleep(FULL_PEER_NAP);
            self.worked = true;
        }
        self.turn(shard).map(|_| ())
    }

    /// Whether nothing is left of bridges and services, and nothing waits that other shards said.
    fn is_quiet(&mut self) -> bool {
        let conns = &mut self.out.conns;
        let mut ports = (0..).zip(&self.ports);
        self.guests.are_gone()
            && self.inbounds.forward.is_empty()
            && self.inbounds.publish.is_empty()
            && ports.all(|(link, port)| {
                port.is_silent() && conns.get(LinkId(link)).blocked == Blocked::No
            })
    }

    /// Ends every link in good order, as long as that takes little time. Who connects meanwhile is
    /// cut, and finds another router or waits for the next one.
    pub(super) fn say_goodbye(&mut self, shard: &mut Shard) -> io::Result<()> {
        let patience = self.clock.now() + STOP_PATIENCE;
        self.is_over = true;
        for link in self.out.conns.ids() {
            self.out.conns.dismiss(link, close::GOING_AWAY, "the router stops");
        }
        self.worked = true;
        while self.out.conns.open_links() > 0 && self.clock.now() < patience {
            // A sleep ends with the next tick.
            self.next_tick = self.next_tick.min(patience);
            self.turn(shard)?;
        }
        self.sleeper.detach();
        Ok(())
    }
}

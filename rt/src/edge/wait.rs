//! When a shard may sleep, and for how long.

use std::io;

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::Shard;
use clasp_rt_ring::Wait;

use super::{Edge, FULL_PEER_NAP};
use crate::clock;
use crate::conns::Blocked;
use crate::peers::Inbounds;

impl Edge {
    /// Submits what the last turn decided, and sleeps if there is nothing to do.
    pub(super) fn wait(&mut self, shard: &Shard) -> io::Result<()> {
        let wait = if self.worked { Wait::No } else { self.idle(shard) };
        let done = self.ring.enter(wait);
        self.sleeper.rouse();
        done
    }

    fn idle(&mut self, shard: &Shard) -> Wait {
        let Some(spin) = self.spin else {
            std::hint::spin_loop();
            return Wait::No;
        };
        let now = self.clock.now();
        if clock::duration(now.since(self.last_work)) < spin {
            std::hint::spin_loop();
            return Wait::No;
        }
        self.sleeper.doze();
        if self.is_spoken_to() || !self.out.conns.resumed.is_empty() {
            return Wait::No;
        }
        let deadline = shard.deadline();
        let due = deadline.map_or(self.next_tick, |due| due.min(self.next_tick));
        let limit = clock::duration(due.since(now));
        let overdue = deadline.is_some_and(|due| due <= self.out.conns.now);
        if overdue {
            Wait::For(Some(FULL_PEER_NAP))
        } else if self.waits_for_room() {
            Wait::For(Some(limit.min(FULL_PEER_NAP)))
        } else {
            Wait::For(Some(limit))
        }
    }

    /// Whether another thread said something that could be taken. What the shard holds back is no
    /// reason to look again and again: it waits for a decision of a peer, who will wake this
    /// thread.
    fn is_spoken_to(&mut self) -> bool {
        let Inbounds { forward, publish } = &self.inbounds;
        let conns = &mut self.out.conns;
        let mut ports = (0..).zip(&self.ports);
        !publish.is_empty()
            || (self.forwards == Blocked::No && !forward.is_empty())
            || ports.any(|(link, port)| {
                conns.get(LinkId(link)).blocked == Blocked::No && !port.is_silent()
            })
    }

    /// Whether something can go on as soon as a ring to another thread has room.
    fn waits_for_room(&mut self) -> bool {
        let ports = 0..self.ports.len() as u32;
        let conns = &mut self.out.conns;
        self.forwards == Blocked::NoRoom
            || !conns.stalled.is_empty()
            || !conns.leaving.is_empty()
            || ports.into_iter().any(|port| conns.ready_bytes(LinkId(port)) > 0)
    }
}

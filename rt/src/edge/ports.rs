//! Bridges of our own: what they say, and what waits for them.

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::{Admit, Input, Shard};
use clasp_rt_link::AnyTransport;
use clasp_rt_link::stream::Stream;

use super::{Edge, take};
use crate::conns::{Blocked, Carrier, Leaving, Phase};
use crate::port::Said;

/// Bytes taken from one port in one turn, or one piece more: a bridge that always has something to
/// say must not keep what it causes from leaving.
const PORT_BYTES_PER_TURN: usize = 64 << 10;

/// Room that stays free in a ring to a bridge, so that its end can always be told.
const PORT_SPARE_BYTES: usize = 64;

impl Edge {
    pub(super) fn take_from_ports(&mut self, shard: &mut Shard) {
        for port in 0..self.ports.len() {
            let link = LinkId(port as u32);
            let said = std::mem::take(&mut self.said_to_ports[port]);
            self.count_sent(shard, link, said);
            let mut taken = 0;
            while self.out.conns.get(link).blocked == Blocked::No && taken < PORT_BYTES_PER_TURN {
                let Some(said) = self.ports[port].hear() else { break };
                let phase = self.out.conns.get(link).phase;
                match said {
                    // An older link of this bridge has not come to its end yet.
                    Said::Open if phase != Phase::Free => break,
                    Said::Open => self.port_opened(shard, link),
                    Said::Bytes(bytes) => {
                        taken += bytes.len();
                        self.out.conns.keep(link, bytes);
                        self.feed_carry(shard, link, self.out.conns.now);
                    }
                    Said::Close => self.out.conns.leave(link, Leaving::cut),
                }
                self.ports[port].heard();
                self.worked = true;
            }
        }
    }

    fn port_opened(&mut self, shard: &mut Shard, link: LinkId) {
        let now = self.out.conns.now;
        self.out.conns.open(link, Carrier::Port, AnyTransport::Stream(Stream::new()), false);
        self.counts.links_opened += 1;
        take(shard.step(now, Input::Opened { link, admit: Admit::Trusted }, &mut self.out));
        self.tell_own_host(shard, link);
    }

    /// Hands a bridge of our own what waits for it. What the ring took counts as sent, next turn.
    pub(super) fn flush_port(&mut self, link: LinkId) {
        let port = &mut self.ports[link.0 as usize];
        if port.room() < self.out.conns.ready_bytes(link) + PORT_SPARE_BYTES {
            return self.out.conns.stop_sharing(link);
        }
        if let Some(buffer) = self.out.conns.take_pending(link) {
            let said = port.say(Said::Bytes(buffer.bytes()));
            assert!(said, "there is room for it");
            self.counts.bytes_out += buffer.len() as u64;
            self.said_to_ports[link.0 as usize] += self.out.conns.sent(link, buffer);
            self.worked = true;
        }
    }
}

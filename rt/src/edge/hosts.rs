//! Where the peers of links are, asked only of routers in which somebody may want to know.

use std::fmt::Write as _;

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::{Input, Shard};
use clasp_rt_ring::Socket;

use super::{Edge, take};

/// What is said of our own bridges.
const OWN: &str = "this router";

impl Edge {
    /// Asks where the peer of a new link is, if its writes may contend with those of others.
    pub(super) fn ask_host(&mut self, shard: &Shard, stream: Socket) {
        if shard.wants_hosts() {
            self.ring.ask_peer(stream);
        }
    }

    /// A bridge of our own is in this process.
    pub(super) fn tell_own_host(&mut self, shard: &mut Shard, link: LinkId) {
        take(shard.step(self.out.conns.now, Input::Host { link, host: OWN }, &mut self.out));
    }

    /// Hands on what the kernel said about peers.
    pub(super) fn tell_hosts(&mut self, shard: &mut Shard) {
        while let Some((stream, peer)) = self.ring.next_peer() {
            let link = self.link(stream);
            self.host.clear();
            // Writing to a string does not fail.
            let _ = write!(self.host, "{}", peer.ip());
            let host = Input::Host { link, host: &self.host };
            take(shard.step(self.out.conns.now, host, &mut self.out));
        }
    }
}

//! What an edge may do next for one shard, and doing it.

use clasp_rt_core::limits::PEER_ROOM_BYTES;
use clasp_rt_core::shard::{Input, Lane, Outcome, Room};
use clasp_rt_core::time::Span;
use clasp_rt_core::{LinkId, ShardId};

use super::node::{RECORD_HEADER_BYTES, Ring};
use super::{BIRTH_US, World};
use crate::check::Broken;
use crate::faults;

/// What an edge may do next for one shard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Glance,
    Forward { from: usize },
    Frame { link: LinkId },
    Take { link: LinkId },
    Close { link: LinkId },
    Clock,
    Deadline,
}

impl World {
    /// Whether the shard's thread has a core; now and then it loses it here.
    pub(super) fn can_run(&mut self, shard: usize) -> bool {
        let node = &self.nodes[shard];
        if node.stalled_until > self.now {
            return false;
        }
        if faults::strikes(&mut self.random, self.faults.stalls) {
            let length = faults::up_to(&mut self.random, self.faults.stall_max);
            self.nodes[shard].stalled_until = self.now + length;
            return false;
        }
        true
    }

    /// One of the things that the edge of `shard` may do now.
    pub(super) fn choose(&mut self, shard: usize) -> Option<Move> {
        let node = &self.nodes[shard];
        // A glance is finished first: what follows it must not overtake it.
        if !node.glance.is_empty() {
            return Some(Move::Glance);
        }
        let publish_room = self.has_room(shard, Room::Publish);
        let both_room = self.has_room(shard, Room::Both);
        let mut moves = Vec::new();
        if node.publish.iter().any(|ring| !ring.records.is_empty()) {
            moves.push(Move::Glance);
        }
        for (from, ring) in node.forward.iter().enumerate() {
            if publish_room && !ring.records.is_empty() && !node.blocked[from] {
                moves.push(Move::Forward { from });
            }
        }
        for (id, link) in &node.links {
            let link_id = LinkId(*id);
            let arrived = link.inbound.front().is_some_and(|(at, _)| *at <= self.now);
            let closing = link.closing.is_some();
            if arrived && !link.held && !closing && both_room {
                moves.push(Move::Frame { link: link_id });
            }
            let reads = link.reads_at <= self.now && !link.gone;
            if reads && !link.outbound.is_empty() {
                moves.push(Move::Take { link: link_id });
            }
            let flushed = link.outbound.is_empty() || !reads;
            let over = (closing && flushed) || (link.gone && !link.held && link.inbound.is_empty());
            if over && both_room {
                moves.push(Move::Close { link: link_id });
            }
        }
        if node.clock_due <= self.now {
            moves.push(Move::Clock);
        }
        if publish_room && node.shard.deadline().is_some_and(|due| due <= self.now) {
            moves.push(Move::Deadline);
        }
        self.random.pick(&moves).copied()
    }

    pub(super) fn has_room(&self, shard: usize, room: Room) -> bool {
        let free = |ring: &Ring| self.ring_bytes_max - ring.bytes >= PEER_ROOM_BYTES;
        let mut others = self.nodes.iter().enumerate().filter(|(index, _)| *index != shard);
        others.all(|(_, other)| match room {
            Room::None => true,
            Room::Publish => free(&other.publish[shard]),
            Room::Both => free(&other.publish[shard]) && free(&other.forward[shard]),
        })
    }

    pub(super) fn carry_out(&mut self, shard: usize, step: Move) -> Result<(), Broken> {
        match step {
            Move::Glance => self.glance(shard),
            Move::Forward { from } => self.take_forward(shard, from),
            Move::Frame { link } => self.take_frame(shard, link),
            Move::Take { link } => {
                let queued = self.nodes[shard].links.get(&link.0).map_or(0, |l| l.outbound.len());
                let count = 1 + self.random.below(queued);
                self.take_sent(shard, link, count)
            }
            Move::Close { link } => self.finish_link(shard, link),
            Move::Clock => {
                self.nodes[shard].clock_due = self.now + Span::from_secs(1);
                let unix_us = BIRTH_US + self.now.0 / 1_000;
                self.expect_taken(shard, Input::Clock { unix_us })?;
                self.hear_pongs(shard)
            }
            Move::Deadline => {
                let forward_room = self.has_room(shard, Room::Both);
                self.expect_taken(shard, Input::Deadline { forward_room })
            }
        }
    }

    /// Honest peers answer pings of the transport, so that silence alone does not end them.
    fn hear_pongs(&mut self, shard: usize) -> Result<(), Broken> {
        let (peers, links) = (&self.peers, &self.nodes[shard].links);
        let answering: Vec<u32> = links
            .iter()
            .filter(|(_, link)| {
                peers[link.peer].is_honest() && !link.gone && link.closing.is_none()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in answering {
            self.expect_taken(shard, Input::Alive { link: LinkId(id) })?;
        }
        Ok(())
    }

    /// Pops the oldest record of the last glance at the Publish rings, or glances anew.
    fn glance(&mut self, shard: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[shard];
        if node.glance.is_empty() {
            let mut seen = Vec::new();
            for (from, ring) in node.publish.iter_mut().enumerate() {
                ring.bytes = 0;
                seen.extend(ring.records.drain(..).map(|(stamp, record)| (stamp, from, record)));
            }
            // Each ring is in order already, and a stable sort keeps it.
            seen.sort_by_key(|(stamp, from, _)| (*stamp, *from));
            node.glance = seen.into();
        }
        let Some((stamp, from, record)) = node.glance.pop_front() else { return Ok(()) };
        node.stamp = node.stamp.max(stamp);
        let input =
            Input::Peer { from: ShardId(from as u16), lane: Lane::Publish, record: &record };
        self.expect_taken(shard, input)
    }

    fn take_forward(&mut self, shard: usize, from: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[shard];
        let Some((stamp, record)) = node.forward[from].records.pop_front() else { return Ok(()) };
        node.stamp = node.stamp.max(stamp);
        let from_id = ShardId(from as u16);
        let input = Input::Peer { from: from_id, lane: Lane::Forward, record: &record };
        let outcome = self.step(shard, input)?;
        let node = &mut self.nodes[shard];
        match outcome {
            Outcome::Taken => node.forward[from].bytes -= RECORD_HEADER_BYTES + record.len(),
            Outcome::Held => {
                node.forward[from].records.push_front((stamp, record));
                node.blocked[from] = true;
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, shard: usize, link: LinkId) -> Result<(), Broken> {
        let Some(kept) = self.nodes[shard].links.get_mut(&link.0) else { return Ok(()) };
        let Some((at, saying)) = kept.inbound.pop_front() else { return Ok(()) };
        let outcome = self.step(shard, Input::Frame { link, frame: &saying.frame })?;
        match outcome {
            Outcome::Taken => self.ledger.taken(&saying.numbers),
            Outcome::Held => {
                if let Some(kept) = self.nodes[shard].links.get_mut(&link.0) {
                    kept.inbound.push_front((at, saying));
                    kept.held = true;
                }
            }
        }
        Ok(())
    }

    /// The kernel takes some of what is queued, and the peer hears it.
    fn take_sent(&mut self, shard: usize, link_id: LinkId, count: usize) -> Result<(), Broken> {
        let Some(link) = self.nodes[shard].links.get_mut(&link_id.0) else { return Ok(()) };
        let frames: Vec<Vec<u8>> = link.outbound.drain(..count.min(link.outbound.len())).collect();
        let bytes: usize = frames.iter().map(Vec::len).sum();
        link.unsent_bytes -= bytes;
        if link.slow && self.random.once_in(2) {
            let pause = faults::up_to(&mut self.random, self.faults.pause_max);
            link.reads_at = self.now + pause;
        }
        let (peer, hearing) = (link.peer, link.hearing);
        for frame in &frames {
            let heard = self.peers[peer].hear(
                self.now,
                frame,
                &mut self.hearings[hearing],
                &mut self.ledger,
            );
            heard.map_err(|broken| format!("to peer {peer}: {broken}"))?;
        }
        self.expect_taken(shard, Input::Sent { link: link_id, bytes: bytes as u32 })
    }

    /// The kernel of a prompt reader takes everything at once, so that nothing waits in its outbox.
    pub(super) fn serve_prompt(&mut self, shard: usize) -> Result<(), Broken> {
        loop {
            let hearings = &self.hearings;
            let waiting = self.nodes[shard]
                .links
                .iter()
                .find(|(_, link)| hearings[link.hearing].prompt && !link.outbound.is_empty());
            let Some((id, _)) = waiting else { return Ok(()) };
            self.take_sent(shard, LinkId(*id), usize::MAX)?;
        }
    }

    fn finish_link(&mut self, shard: usize, link_id: LinkId) -> Result<(), Broken> {
        // The id is taken until the step is over: what a decision made before it still says is
        // lost.
        self.expect_taken(shard, Input::Closed { link: link_id })?;
        let Some(link) = self.nodes[shard].links.remove(&link_id.0) else { return Ok(()) };
        if self.places[link.peer].is_some_and(|place| place.hearing == link.hearing) {
            self.places[link.peer] = None;
        }
        Ok(())
    }
}

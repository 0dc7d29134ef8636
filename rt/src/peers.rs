//! One shard's side of the exchange with the other shards: two lanes each way, and stamps.

use std::collections::VecDeque;
use std::sync::Arc;

use clasp_rt_core::ShardId;
use clasp_rt_core::limits::PEER_ROOM_BYTES;
use clasp_rt_core::shard::{Lane, Room};
use clasp_rt_ring::exchange::{self, Inbound, Note, Sender, Stamps};
use clasp_rt_ring::{Ring, Sleeper};

/// What a shard hands to others.
#[derive(Debug)]
pub struct Outbound {
    peers: Vec<Peer>,
    pub stamps: Stamps,
    /// Records that found no room although there was enough for any one step; only rises.
    pub spilled: u64,
}

#[derive(Debug)]
struct Peer {
    /// `None` for the shard itself.
    lanes: Option<[Way; 2]>,
    sleeper: Arc<Sleeper>,
    touched: bool,
}

/// One ring, and what did not fit into it. The edge sees to room before a step, so this stays
/// empty; were a step ever to need more, nothing is lost and the shard pauses until the peer caught
/// up.
#[derive(Debug)]
struct Way {
    ring: Sender,
    spill: VecDeque<(u64, Note, Box<[u8]>)>,
}

/// What a shard is handed, by lane.
#[derive(Debug)]
pub struct Inbounds {
    pub forward: Inbound,
    pub publish: Inbound,
}

/// The exchanges of all shards, joined by rings of `bytes`; one sleeper for each shard.
pub fn join(sleepers: &[Arc<Sleeper>], bytes: usize) -> Vec<(Outbound, Inbounds)> {
    let forward = exchange::mesh(sleepers.len(), bytes);
    let publish = exchange::mesh(sleepers.len(), bytes);
    let lanes = forward.into_iter().zip(publish);
    lanes
        .map(|((forward, forward_in), (publish, publish_in))| {
            let peers = forward.into_iter().zip(publish).zip(sleepers);
            let peers = peers.map(|((forward, publish), sleeper)| Peer {
                lanes: forward.zip(publish).map(|(forward, publish)| {
                    [forward, publish].map(|ring| Way { ring, spill: VecDeque::new() })
                }),
                sleeper: Arc::clone(sleeper),
                touched: false,
            });
            let outbound =
                Outbound { peers: peers.collect(), stamps: Stamps::default(), spilled: 0 };
            (outbound, Inbounds { forward: forward_in, publish: publish_in })
        })
        .collect()
}

impl Outbound {
    /// Whether an input that needs `room` may be stepped now.
    pub fn has(&mut self, room: Room) -> bool {
        let lanes = match room {
            Room::None => return true,
            Room::Publish => Lane::Publish as usize..=Lane::Publish as usize,
            Room::Both => Lane::Forward as usize..=Lane::Publish as usize,
        };
        let mut peers = self.peers.iter_mut().filter_map(|peer| peer.lanes.as_mut());
        peers.all(|rings| rings[lanes.clone()].iter_mut().all(Way::has_room))
    }

    /// Hands a record over; the peer is woken at the end of the turn.
    pub fn push(&mut self, to: ShardId, lane: Lane, note: Note, record: &[u8]) {
        let peer = &mut self.peers[usize::from(to.0)];
        let lanes = peer.lanes.as_mut().expect("a shard keeps what is its own");
        let lane = &mut lanes[lane as usize];
        let stamp = self.stamps.tick();
        peer.touched = true;
        if !lane.spill.is_empty() || !lane.ring.push_noted(stamp, note, record) {
            self.spilled += 1;
            lane.spill.push_back((stamp, note, record.into()));
        }
    }

    /// Wakes the peers that were handed something and sleep.
    pub fn wake(&mut self, ring: &mut Ring) {
        for peer in &mut self.peers {
            if std::mem::take(&mut peer.touched) {
                ring.wake(&peer.sleeper);
            }
        }
    }
}

impl Way {
    fn has_room(&mut self) -> bool {
        while let Some((stamp, note, record)) = self.spill.front() {
            if !self.ring.push_noted(*stamp, *note, record) {
                return false;
            }
            self.spill.pop_front();
        }
        self.ring.has_room(PEER_ROOM_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_ring::exchange::NO_NOTE;

    use super::*;

    fn two(bytes: usize) -> [(Outbound, Inbounds); 2] {
        let sleepers = [Arc::new(Sleeper::new()), Arc::new(Sleeper::new())];
        join(&sleepers, bytes).try_into().unwrap()
    }

    fn taken(inbound: &mut Inbound) -> Vec<(u64, Vec<u8>)> {
        inbound.look();
        let mut records = Vec::new();
        while let Some((from, stamp, record)) = inbound.peek() {
            records.push((stamp, record.to_vec()));
            inbound.pop(from);
        }
        records
    }

    #[test]
    fn each_lane_has_a_ring_of_its_own() {
        let [(mut near, _), (_, mut far)] = two(2 * PEER_ROOM_BYTES);
        near.push(ShardId(1), Lane::Forward, NO_NOTE, b"set");
        near.push(ShardId(1), Lane::Publish, NO_NOTE, b"value");
        assert_eq!(taken(&mut far.publish), [(2, b"value".to_vec())]);
        assert_eq!(taken(&mut far.forward), [(1, b"set".to_vec())]);
        assert!(far.forward.is_empty() && far.publish.is_empty());
    }

    #[test]
    fn an_input_waits_only_for_the_lanes_it_may_fill() {
        let cases = [
            (None, [true, true, true]),
            (Some(Lane::Forward), [true, true, false]),
            (Some(Lane::Publish), [true, false, false]),
        ];
        for (full, expected) in cases {
            let [(mut near, _), _far] = two(2 * PEER_ROOM_BYTES);
            if let Some(lane) = full {
                near.push(ShardId(1), lane, NO_NOTE, &vec![0; PEER_ROOM_BYTES + 1]);
            }
            let rooms = [Room::None, Room::Publish, Room::Both];
            assert_eq!(rooms.map(|room| near.has(room)), expected, "{full:?} is full");
        }
    }

    #[test]
    fn a_record_without_room_waits_in_order_and_is_not_lost() {
        let [(mut near, _), (_, mut far)] = two(PEER_ROOM_BYTES);
        let big = vec![7; PEER_ROOM_BYTES - 100];
        near.push(ShardId(1), Lane::Forward, NO_NOTE, &big);
        near.push(ShardId(1), Lane::Forward, NO_NOTE, &[8; 200]);
        near.push(ShardId(1), Lane::Forward, NO_NOTE, b"x");
        assert_eq!(near.spilled, 2);
        assert!(!near.has(Room::Both));
        assert_eq!(taken(&mut far.forward), [(1, big)]);
        near.has(Room::Both);
        assert_eq!(taken(&mut far.forward), [(2, vec![8; 200]), (3, b"x".to_vec())]);
        assert!(near.has(Room::Both));
    }
}

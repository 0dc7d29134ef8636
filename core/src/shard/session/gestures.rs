//! What a session says of gestures: of moves the newest, once in each interval.

use crate::message::{Message, Publish};
use crate::shard::bundle::{gesture_in, messages_of};
use crate::shard::gesture::Move;
use crate::shard::input::Lane;
use crate::shard::record::Origin;
use crate::shard::{Effects, RECORD_BYTES_MAX, Shard, TURN_MAX};
use crate::signal::{Phase, Signal};
use crate::wire::binary;
use crate::{LinkId, ShardId};

impl Shard {
    /// Start, end and cancel go on at once; of moves the newest, once in each interval.
    pub(super) fn admit_gesture(
        &mut self,
        origin: &Origin,
        publish: &Publish<'_>,
        home: ShardId,
        fx: &mut impl Effects,
    ) {
        let (link, address) = (origin.link, publish.address);
        let id = publish.id.unwrap_or(0);
        let message = Message::Publish(*publish);
        match publish.phase.unwrap_or_default() {
            Phase::Start => {
                let overtaken = self.gestures.start(self.now, link, id, address);
                self.counts.moves_coalesced += u64::from(overtaken);
                self.forward(origin, home, &message, fx);
            }
            Phase::Move => {
                let mut payload = self.lend();
                if binary::append_payload(&message, &mut payload).is_ok() {
                    match self.gestures.moved(self.now, link, id, address, &payload) {
                        Move::Forward => self.forward(origin, home, &message, fx),
                        Move::Kept => {}
                        Move::Replaced => self.counts.moves_coalesced += 1,
                    }
                }
                self.give_back(payload);
            }
            Phase::End | Phase::Cancel => {
                let mut pending = self.lend();
                self.gestures.ended(link, id, address, &mut pending);
                if !pending.is_empty() {
                    self.forward_payload(origin, home, &pending, fx);
                }
                self.give_back(pending);
                self.forward(origin, home, &message, fx);
            }
        }
    }

    /// Forwards the moves whose interval is over.
    pub(in crate::shard) fn flush_gestures(&mut self, fx: &mut impl Effects) {
        if self.gestures.deadline().is_none_or(|due| due > self.now) {
            return;
        }
        let mut payload = self.lend();
        for _ in 0..TURN_MAX {
            let room = [Lane::Forward, Lane::Publish]
                .iter()
                .all(|&lane| self.has_room(lane, RECORD_BYTES_MAX));
            if !room {
                break;
            }
            let Some(link) = self.gestures.pop(self.now, &mut payload) else { break };
            let origin = self.origin(link);
            if let Ok(Message::Publish(publish)) = binary::decode(&payload) {
                let home = self.home_of(publish.address);
                self.forward_payload(&origin, home, &payload, fx);
            }
        }
        self.give_back(payload);
    }

    /// Takes note of the gestures that a bundle begins, moves and ends: a move that was held back
    /// is older than what the bundle says, and would follow it.
    pub(in crate::shard) fn note_gestures(&mut self, link: LinkId, payload: &[u8]) {
        for publish in messages_of(payload).iter().filter_map(|message| gesture_in(&message)) {
            let (address, id) = (publish.address, publish.id.unwrap_or(0));
            let overtaken = match publish.phase.unwrap_or_default() {
                Phase::Start => self.gestures.start(self.now, link, id, address),
                Phase::Move => self.gestures.overtake(self.now, link, id, address),
                Phase::End | Phase::Cancel => self.gestures.forget(link, id, address),
            };
            self.counts.moves_coalesced += u64::from(overtaken);
        }
    }

    /// A session that leaves in the middle of gestures cancels them, so that nobody waits for an
    /// end.
    pub(super) fn cancel_gestures(&mut self, origin: &Origin, fx: &mut impl Effects) {
        let mut address = self.lend();
        while let Some(id) = self.gestures.abandoned(origin.link, &mut address) {
            let Ok(address) = core::str::from_utf8(&address) else { continue };
            let cancel = Publish {
                address,
                signal: Some(Signal::Gesture),
                phase: Some(Phase::Cancel),
                id: Some(id),
                ..Publish::default()
            };
            let home = self.home_of(address);
            self.forward(origin, home, &Message::Publish(cancel), fx);
        }
        self.give_back(address);
    }
}

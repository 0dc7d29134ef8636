//! Bundles across homes: the coordinator runs one at a time, and every home does its part in order.

use alloc::vec::Vec;

use super::ABORT;
use super::{COORDINATOR, NO_HOME, Prepared, Progress, Running, Waiting};
use super::{address_of, is_marker, messages_of};
use crate::ShardId;
use crate::arena::Block;
use crate::limits::FRAME_BYTES_MAX;
use crate::message::{Ack, Message};
use crate::shard::input::Lane;
use crate::shard::record::{Origin, Record};
use crate::shard::refused::Refused;
use crate::shard::{Effects, Shard};

impl Shard {
    /// The coordinator takes a bundle across homes; it runs when those before it are done.
    pub(in crate::shard) fn enqueue_spanning(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        let full = self.bundles.queue.len() == self.bundles.queue_max;
        match self.bundles.bytes.put(&[payload]) {
            Some(payload) if !full => {
                self.bundles.queue.push_back(Waiting { origin: *origin, payload });
            }
            kept => {
                self.bundles.bytes.free(kept.unwrap_or(Block::EMPTY));
                let busy = Refused::Busy { what: "bundles across shards" };
                self.refuse_bundle(origin, busy, None, fx);
                self.release_link(origin, fx);
            }
        }
    }

    /// Takes the running bundle as far as it can go now. Needs room for `Publish` only.
    pub(in crate::shard) fn advance_bundle(&mut self, fx: &mut impl Effects) {
        self.carry_out_decision(fx);
        while let Some(run) = &self.bundles.running
            && run.votes_due == 0
            && run.dones_due == 0
        {
            if run.refused || run.decided as usize == self.bundles.homes.len() {
                return self.end_spanning(fx);
            }
            self.decide_next_run(fx);
            self.carry_out_decision(fx);
        }
    }

    /// Begins the next bundle across homes, if none runs.
    pub(in crate::shard) fn start_spanning(&mut self, fx: &mut impl Effects) {
        if self.bundles.running.is_some() || !self.has_room(Lane::Forward, FRAME_BYTES_MAX) {
            return;
        }
        let Some(Waiting { origin, payload }) = self.bundles.queue.pop_front() else { return };
        let mut bytes = self.lend();
        bytes.extend_from_slice(self.bundles.bytes.get(payload));
        let mut homes = 0_u64;
        self.bundles.homes.clear();
        for message in messages_of(&bytes).iter() {
            // A marker is passed on the way to what follows it, whichever home that has.
            let before = self.bundles.homes.last().copied();
            let home = match is_marker(&message) {
                true => before.unwrap_or(NO_HOME),
                false => self.home_of(address_of(&message)),
            };
            if home != NO_HOME && before == Some(NO_HOME) {
                self.bundles.homes.fill(home);
            }
            self.bundles.homes.push(home);
            homes |= if home == NO_HOME { 0 } else { 1 << home.0 };
        }
        self.bundles.running = Some(Running {
            origin,
            payload,
            homes,
            votes_due: homes.count_ones(),
            dones_due: 0,
            decided: 0,
            refused: false,
            revision: 0,
        });
        for shard in homes_in(homes) {
            if shard == self.settings.id {
                self.prepare_own(&origin, &bytes);
            } else {
                self.hand(shard, Record::Prepare { origin, payload: &bytes }, fx);
            }
        }
        self.give_back(bytes);
    }

    /// A home checks its part, votes, and stands still if it can apply it.
    pub(in crate::shard) fn prepare(
        &mut self,
        coordinator: ShardId,
        origin: &Origin,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        let mut error = self.lend();
        self.vote_on(origin, payload, &mut error);
        self.hand(coordinator, Record::Vote { error: &error }, fx);
        self.give_back(error);
    }

    fn prepare_own(&mut self, origin: &Origin, payload: &[u8]) {
        let mut error = self.lend();
        self.vote_on(origin, payload, &mut error);
        self.bundles.vote(&error);
        self.give_back(error);
    }

    /// Takes part, or writes why not to `error`; either way it stands still until it hears the
    /// decision.
    fn vote_on(&mut self, origin: &Origin, payload: &[u8], error: &mut Vec<u8>) {
        self.plan_bundle(payload);
        // Until the decision other writes come in between, which what is staged does not mind.
        self.bundles.plan.in_place = false;
        let part = match self.stage_bundle(origin, payload) {
            Ok(()) => self.bundles.bytes.put(&[payload]).ok_or_else(|| {
                self.abandon_staged();
                (Refused::Busy { what: "bundles across shards" }, None)
            }),
            Err(refused) => Err(refused),
        };
        let payload = part.unwrap_or_else(|(refused, address)| {
            self.encode_bundle_error(refused, address, error);
            Block::EMPTY
        });
        let origin = *origin;
        self.bundles.prepared = Some(Prepared { origin, payload, progress: Progress::default() });
    }

    /// Tells the home of the next run of messages to apply it.
    fn decide_next_run(&mut self, fx: &mut impl Effects) {
        let Some(run) = &mut self.bundles.running else { return };
        let rest = &self.bundles.homes[run.decided as usize..];
        let home = rest[0];
        run.decided += rest.iter().take_while(|&&other| other == home).count() as u32;
        run.dones_due = 1;
        let until = run.decided;
        if home == self.settings.id {
            self.bundles.decide(until);
        } else {
            self.hand(home, Record::Decide { until }, fx);
        }
    }

    /// Does what was decided of this home's part; goes on when all of it is done.
    fn carry_out_decision(&mut self, fx: &mut impl Effects) {
        let Some(until) = self.bundles.decision.take() else { return };
        let Some(mut prepared) = self.bundles.prepared.take() else { return };
        if until == ABORT {
            self.abandon_staged();
            self.stand_down(&prepared, fx);
            return;
        }
        let mut bytes = self.lend();
        bytes.extend_from_slice(self.bundles.bytes.get(prepared.payload));
        let revision =
            self.commit(&prepared.origin, &bytes, &mut prepared.progress, until, fx).unwrap_or(0);
        let finished = !self.has_part_after(&prepared.progress);
        self.give_back(bytes);
        if finished {
            self.counts.bundles += 1;
            self.forget_staged();
            self.stand_down(&prepared, fx);
        } else {
            self.bundles.prepared = Some(prepared);
        }
        if self.settings.id == COORDINATOR {
            self.bundles.done(revision);
        } else {
            self.hand(COORDINATOR, Record::Done { revision }, fx);
        }
    }

    /// This home's part is over, either way: what waited goes on.
    fn stand_down(&mut self, prepared: &Prepared, fx: &mut impl Effects) {
        self.bundles.bytes.free(prepared.payload);
        while let Some(link) = self.held_links.pop() {
            self.sessions[link.0 as usize].held = false;
            fx.resume(link);
        }
    }

    fn end_spanning(&mut self, fx: &mut impl Effects) {
        let Some(run) = self.bundles.running.take() else { return };
        self.bundles.bytes.free(run.payload);
        if run.refused {
            self.abort(run.homes, fx);
            let error = core::mem::take(&mut self.bundles.error);
            self.reply_frame(&run.origin, &error, fx);
            self.bundles.error = error;
        } else if run.origin.confirm {
            let revision = (run.revision > 0).then_some(run.revision);
            let ack = Ack { revision, ..Ack::default() };
            self.reply(&run.origin, &Message::Ack(ack), fx);
        }
        self.release_link(&run.origin, fx);
    }

    /// Tells every home that nothing is applied. None answers: what is handed to it later waits
    /// behind.
    fn abort(&mut self, homes: u64, fx: &mut impl Effects) {
        for shard in homes_in(homes) {
            if shard == self.settings.id {
                self.bundles.decide(ABORT);
                self.carry_out_decision(fx);
            } else {
                self.hand(shard, Record::Decide { until: ABORT }, fx);
            }
        }
    }

    /// The sender's next message may follow, if it waits for this bundle: for a timed one it does
    /// not.
    fn release_link(&mut self, origin: &Origin, fx: &mut impl Effects) {
        if !origin.awaited {
            return;
        }
        if origin.shard == self.settings.id {
            self.fenced(origin, fx);
        } else {
            self.hand(origin.shard, Record::Fenced { origin: *origin }, fx);
        }
    }
}

fn homes_in(homes: u64) -> impl Iterator<Item = ShardId> {
    (0..64).filter(move |shard| homes & 1 << shard != 0).map(ShardId)
}

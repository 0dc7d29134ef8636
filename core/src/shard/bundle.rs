//! Bundles: all or nothing, at once or at their time, in one home or across several.
//!
//! A bundle whose addresses share a home is checked and applied there in one step. One that spans homes
//! goes to the coordinator, shard 0, which runs one at a time: every home checks its part, takes the
//! memory and stands still (`Prepare`, `Vote`); then all apply, in the order of the bundle, or none
//! (`Decide`, `Done`). Homes stand still for a crossing or two for each run of messages with one home,
//! and only such bundles pay. Every reader sees the messages in their order; between two homes' runs it
//! may see messages of a home that has no part in the bundle.

use alloc::vec::Vec;

use super::record::{Origin, Record};
use super::refused::Refused;
use super::session_id::SessionId;
use super::store::Staged;
use super::{Effects, Shard};
use crate::arena::{Arena, Block};
use crate::index::Index;
use crate::limits::{BUNDLE_HORIZON, BUNDLE_MESSAGES_MAX, Limits};
use crate::message::{Ack, Bundle, Message, Set};
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::wire::binary::{self, code};
use crate::wire::list::Messages;
use crate::{LinkId, ShardId};

/// The shard that runs bundles across homes.
const COORDINATOR: ShardId = ShardId(0);
/// `last_set` of a part without any SET.
const NO_SET: u32 = u32::MAX;

/// A bundle that waits for its time, or for the coordinator.
#[derive(Clone, Copy)]
struct Waiting {
    origin: Origin,
    payload: Block,
}

/// What earlier messages of the bundle in hand do to one address.
#[derive(Clone, Copy)]
struct Touched {
    hash: u64,
    writes: u64,
    /// The holder that they leave, where they lock or unlock.
    lock: Option<SessionId>,
}

/// The bundle that the coordinator runs.
struct Running {
    origin: Origin,
    payload: Block,
    homes: u64,
    votes_due: u32,
    dones_due: u32,
    /// Messages that were decided on.
    decided: u32,
    refused: bool,
    last_set: u32,
    revision: u64,
}

/// This home's part of the running bundle, and how much of it is applied.
#[derive(Clone, Copy)]
struct Prepared {
    origin: Origin,
    payload: Block,
    progress: Progress,
}

/// Where in a bundle's payload the next message lies.
#[derive(Clone, Copy)]
struct Progress {
    offset: usize,
    message: u32,
    /// Writes of this home that were applied.
    staged: usize,
}

/// The first message, behind code, flags and count.
const BEGIN: Progress = Progress { offset: 4, message: 0, staged: 0 };
/// `until` of a decision that nothing is applied.
const ABORT: u32 = 0;
/// `until` of a bundle with one home.
const ALL: u32 = u32::MAX;

pub(super) struct Bundles {
    timed: Vec<Option<Waiting>>,
    timed_free: Vec<u32>,
    due: Timers,
    /// Timed bundles of each link.
    of_link: Vec<u16>,
    queue: alloc::collections::VecDeque<Waiting>,
    queue_max: usize,
    running: Option<Running>,
    /// The first ERROR frame that a home voted with.
    error: Vec<u8>,
    /// This home's part of the running bundle.
    prepared: Option<Prepared>,
    decision: Option<u32>,
    /// The home of each message of the running bundle.
    homes: Vec<ShardId>,
    bytes: Arena,
    staged: Vec<Staged>,
    touched: Vec<Touched>,
    touched_by_hash: Index,
    guarded: Vec<u32>,
}

impl Bundles {
    pub(super) fn new(limits: &Limits) -> Self {
        let max = limits.bundles_max;
        Self {
            timed: alloc::vec![None; max as usize],
            timed_free: (0..max).rev().collect(),
            due: Timers::new(max),
            of_link: alloc::vec![0; limits.links_max as usize],
            queue: alloc::collections::VecDeque::with_capacity(max as usize),
            queue_max: max as usize,
            running: None,
            error: Vec::with_capacity(4 * 1024),
            prepared: None,
            decision: None,
            homes: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            bytes: Arena::new(limits.held_bytes_max),
            staged: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            touched: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            touched_by_hash: Index::new(BUNDLE_MESSAGES_MAX as u32),
            guarded: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (self.timed.len() * (size_of::<Option<Waiting>>() + 4)
            + self.of_link.len() * 2
            + self.queue_max * size_of::<Waiting>()
            + BUNDLE_MESSAGES_MAX * (size_of::<Staged>() + size_of::<Touched>() + 4 + 2))
            as u64
            + self.due.memory_bytes()
            + self.bytes.memory_bytes()
            + self.touched_by_hash.memory_bytes()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// This home voted and must not change until it hears the decision.
    pub(super) fn holds_home(&self) -> bool {
        self.prepared.is_some()
    }

    /// Something can go on at once.
    pub(super) fn wants_turn(&self) -> bool {
        let goes_on = match &self.running {
            None => !self.queue.is_empty(),
            Some(run) => run.votes_due == 0 && run.dones_due == 0,
        };
        goes_on || self.decision.is_some()
    }

    pub(super) fn vote(&mut self, last_set: u32, revision: u64, error: &[u8]) {
        let run = self.running.as_mut().expect("a vote answers the running bundle");
        run.votes_due -= 1;
        if !error.is_empty() && !run.refused {
            run.refused = true;
            self.error.clear();
            self.error.extend_from_slice(error);
        }
        if last_set != NO_SET && (run.last_set == NO_SET || last_set > run.last_set) {
            run.last_set = last_set;
            run.revision = revision;
        }
    }

    pub(super) fn decide(&mut self, until: u32) {
        self.decision = Some(until);
    }

    pub(super) fn done(&mut self) {
        let run = self.running.as_mut().expect("done answers the running bundle");
        run.dones_due -= 1;
    }

    pub(super) fn link_gone(&mut self, link: LinkId) {
        // What is timed still runs; only the count of the link starts anew.
        self.of_link[link.0 as usize] = 0;
    }

    fn touch(&mut self, hash: u64) -> &mut Touched {
        let known = self.touched_by_hash.find(hash, |at| self.touched[at as usize].hash == hash);
        let at = known.unwrap_or_else(|| {
            let at = self.touched.len() as u32;
            self.touched.push(Touched { hash, writes: 0, lock: None });
            let kept = self.touched_by_hash.insert(hash, at);
            kept.expect("as many addresses as a bundle has messages");
            at
        });
        &mut self.touched[at as usize]
    }

    fn forget_touched(&mut self) {
        for (at, touched) in self.touched.iter().enumerate() {
            self.touched_by_hash.remove(touched.hash, at as u32);
        }
        self.touched.clear();
    }
}

/// Begins a canonical BUNDLE payload: no time, and a count that [`finish`] patches.
fn start(payload: &mut Vec<u8>) {
    payload.extend_from_slice(&[code::BUNDLE, 0, 0, 0]);
}

fn finish(payload: &mut [u8], count: usize) {
    payload[2..4].copy_from_slice(&(count as u16).to_be_bytes());
}

fn messages_of(payload: &[u8]) -> Messages<'_> {
    match binary::decode(payload) {
        Ok(Message::Bundle(bundle)) => bundle.messages,
        other => unreachable!("bundles are kept in canonical form: {other:?}"),
    }
}

/// The message at `offset` of a canonical payload, and where the next one lies.
fn message_at(payload: &[u8], offset: usize) -> (Message<'_>, usize) {
    let len = usize::from(u16::from_be_bytes([payload[offset], payload[offset + 1]]));
    let next = offset + 2 + len;
    let message = binary::decode(&payload[offset + 2..next]);
    (message.expect("bundles are kept as they were encoded"), next)
}

fn address_of<'a>(message: &Message<'a>) -> &'a str {
    match message {
        Message::Set(set) => set.address,
        Message::Publish(publish) => publish.address,
        other => unreachable!("bundles are kept with writes only: {other:?}"),
    }
}

/// What a bundle becomes before anything is decided.
pub(super) struct Drafted {
    pub(super) messages: usize,
    /// Bit per shard.
    pub(super) homes: u64,
}

impl Shard {
    /// Writes the canonical payload of `bundle`, or says which message may not be in it.
    pub(super) fn draft_bundle<'a>(
        &self,
        link: LinkId,
        bundle: &Bundle<'a>,
        payload: &mut Vec<u8>,
    ) -> Result<Drafted, (Refused, Option<&'a str>)> {
        let mut drafted = Drafted { messages: 0, homes: 0 };
        start(payload);
        for message in bundle.messages.iter() {
            let message = match message {
                Message::Set(_) => message,
                Message::Publish(publish) => Message::Publish(super::session::canonical(&publish)),
                Message::Bundle(_) => return Err((Refused::Nested, None)),
                _ => continue,
            };
            let address = address_of(&message);
            self.may_send(link, &message).map_err(|refused| (refused, Some(address)))?;
            if Messages::append(payload, &message).is_err() {
                return Err((Refused::TooLong { got: payload.len() }, Some(address)));
            }
            drafted.messages += 1;
            drafted.homes |= 1 << self.home_of(address).0;
        }
        finish(payload, drafted.messages);
        Ok(drafted)
    }

    /// Runs a bundle that was admitted: here, at its one home, or by the coordinator.
    pub(super) fn run_bundle(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        homes: u64,
        fx: &mut impl Effects,
    ) {
        let own = self.settings.id;
        match homes.count_ones() {
            0 => self.acknowledge(origin, None, None, fx),
            1 => match ShardId(homes.trailing_zeros() as u16) {
                home if home == own => self.apply_bundle(origin, payload, fx),
                home => self.hand(home, Record::Bundle { origin: *origin, payload }, fx),
            },
            _ if own == COORDINATOR => self.enqueue_spanning(origin, payload, fx),
            _ => self.hand(COORDINATOR, Record::Spanning { origin: *origin, payload }, fx),
        }
    }

    /// Keeps a bundle until its time. It runs even if its sender is gone by then.
    pub(super) fn schedule_bundle(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        ahead_us: u64,
    ) -> Result<(), Refused> {
        let ahead = Span::from_micros(ahead_us);
        if ahead > BUNDLE_HORIZON {
            return Err(Refused::TooFarAhead { seconds: ahead_us / 1_000_000 });
        }
        let per_session_max = self.settings.limits.bundles_per_session_max;
        let busy = Refused::Busy { what: "timed bundles" };
        let bundles = &mut self.bundles;
        let of_link = &mut bundles.of_link[origin.link.0 as usize];
        if u32::from(*of_link) >= per_session_max || bundles.timed_free.is_empty() {
            return Err(busy);
        }
        let payload = bundles.bytes.put(&[payload]).ok_or(busy)?;
        let slot = bundles.timed_free.pop().ok_or(busy)?;
        *of_link += 1;
        bundles.timed[slot as usize] = Some(Waiting { origin: *origin, payload });
        bundles.due.set(slot, self.now + ahead);
        Ok(())
    }

    pub(super) fn run_due_bundles(&mut self, fx: &mut impl Effects) {
        while !self.bundles.holds_home()
            && let Some(slot) = self.bundles.due.pop(self.now)
        {
            let waiting = self.bundles.timed[slot as usize].take();
            self.bundles.timed_free.push(slot);
            let Some(Waiting { mut origin, payload }) = waiting else { continue };
            let mut bytes = self.lend();
            bytes.extend_from_slice(self.bundles.bytes.get(payload));
            self.bundles.bytes.free(payload);
            if self.is_current(&origin) {
                let of_link = &mut self.bundles.of_link[origin.link.0 as usize];
                *of_link = of_link.saturating_sub(1);
            }
            // Its acceptance was acknowledged; only a refusal is still worth telling.
            origin.confirm = false;
            let mut homes = 0;
            for message in messages_of(&bytes).iter() {
                homes |= 1 << self.home_of(address_of(&message)).0;
            }
            self.run_bundle(&origin, &bytes, homes, fx);
            self.give_back(bytes);
        }
    }

    /// Applies a bundle all of whose addresses have this home, or none of it.
    pub(super) fn apply_bundle(&mut self, origin: &Origin, payload: &[u8], fx: &mut impl Effects) {
        match self.stage_bundle(origin, payload) {
            Ok(_) => {
                self.counts.bundles += 1;
                let mut progress = BEGIN;
                let revision = self.commit(origin, payload, &mut progress, ALL, fx);
                self.forget_staged();
                self.acknowledge(origin, None, revision, fx);
            }
            Err((refused, address)) => self.refuse_bundle(origin, refused, address, fx),
        }
    }

    pub(super) fn refuse_bundle(
        &mut self,
        origin: &Origin,
        refused: Refused,
        address: Option<&str>,
        fx: &mut impl Effects,
    ) {
        let mut frame = self.lend();
        if self.encode_bundle_error(refused, address, &mut frame) {
            self.reply_frame(origin, &frame, fx);
        }
        self.give_back(frame);
    }

    /// State refusals keep their own code; all else is 403, as published clients expect.
    fn encode_bundle_error(
        &mut self,
        refused: Refused,
        address: Option<&str>,
        frame: &mut Vec<u8>,
    ) -> bool {
        self.counts.refused += 1;
        match refused {
            Refused::Nested | Refused::TooFarAhead { .. } => {
                self.encode_error(refused.code(), format_args!("{refused}"), address, frame)
            }
            _ => {
                let code = match refused.code() {
                    crate::error::code::STATE => crate::error::code::STATE,
                    _ => crate::error::code::BUNDLE_REFUSED,
                };
                self.encode_error(code, format_args!("Bundle rejected: {refused}"), address, frame)
            }
        }
    }

    /// Checks this home's part of a bundle and takes the memory that it needs.
    ///
    /// Returns the position of its last SET in the bundle and the revision which that will get.
    fn stage_bundle<'a>(
        &mut self,
        origin: &Origin,
        payload: &'a [u8],
    ) -> Result<(u32, u64), (Refused, Option<&'a str>)> {
        let staged = self.try_stage(origin, payload);
        self.bundles.forget_touched();
        if staged.is_err() {
            for staged in self.bundles.staged.drain(..) {
                self.store.unstage(staged);
            }
            self.unguard();
        }
        staged
    }

    fn try_stage<'a>(
        &mut self,
        origin: &Origin,
        payload: &'a [u8],
    ) -> Result<(u32, u64), (Refused, Option<&'a str>)> {
        self.guard_params_of(payload).map_err(|full| (full, None))?;
        let (mut last_set, mut revision) = (NO_SET, 0);
        for (at, message) in messages_of(payload).iter().enumerate() {
            let Message::Set(set) = message else { continue };
            if self.home_of(set.address) != self.settings.id {
                continue;
            }
            let hash = self.store.hash(set.address);
            let slot = self.store.find(hash, set.address);
            let touched = *self.bundles.touch(hash);
            let refused = |refused| (refused, Some(set.address));
            self.store
                .check(slot, &set, origin.writer, touched.writes, touched.lock)
                .map_err(refused)?;
            let staged = self.store.stage(slot, touched.writes == 0, &set).map_err(refused)?;
            self.bundles.staged.push(staged);
            last_set = at as u32;
            revision = slot.map_or(0, |slot| self.store.revision(slot)) + touched.writes + 1;
            let touched = self.bundles.touch(hash);
            touched.writes += 1;
            if set.lock {
                touched.lock = Some(origin.writer);
            } else if set.unlock {
                touched.lock = Some(SessionId::NONE);
            }
        }
        Ok((last_set, revision))
    }

    /// Keeps the bundle's params from being evicted, and makes room for those it creates.
    fn guard_params_of(&mut self, payload: &[u8]) -> Result<(), Refused> {
        let mut new = 0;
        for message in messages_of(payload).iter() {
            let Message::Set(set) = message else { continue };
            if self.home_of(set.address) != self.settings.id {
                continue;
            }
            let hash = self.store.hash(set.address);
            match self.store.find(hash, set.address) {
                Some(slot) => {
                    self.store.guard(slot);
                    self.bundles.guarded.push(slot);
                }
                None => new += 1,
            }
        }
        self.store.make_room(new)
    }

    fn unguard(&mut self) {
        for slot in self.bundles.guarded.drain(..) {
            self.store.unguard(slot);
        }
    }

    /// Applies what was staged before message `until`, in order, telling everyone who listens.
    fn commit(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        progress: &mut Progress,
        until: u32,
        fx: &mut impl Effects,
    ) -> Option<u64> {
        let mut revision = None;
        while progress.offset < payload.len() && progress.message < until {
            let (message, next) = message_at(payload, progress.offset);
            progress.offset = next;
            progress.message += 1;
            if self.home_of(address_of(&message)) != self.settings.id {
                continue;
            }
            match message {
                Message::Set(set) => {
                    let write = self.bundles.staged[progress.staged];
                    progress.staged += 1;
                    revision = self.commit_set(origin, &set, write, fx).or(revision);
                }
                Message::Publish(publish) => self.publish(origin, &publish, fx),
                _ => {}
            }
        }
        revision
    }

    /// All that was staged is applied.
    fn forget_staged(&mut self) {
        self.bundles.staged.clear();
        self.unguard();
    }

    /// Applies one staged write, unless the param's rule keeps what it has: that refuses no bundle.
    fn commit_set(
        &mut self,
        origin: &Origin,
        set: &Set<'_>,
        staged: Staged,
        fx: &mut impl Effects,
    ) -> Option<u64> {
        let hash = self.store.hash(set.address);
        let slot = self.store.find(hash, set.address);
        if self.store.takes(slot, set.value).is_err() {
            self.counts.sets_outruled += 1;
            self.store.unstage(staged);
            return slot.map(|slot| self.store.revision(slot));
        }
        let slot = self.store.commit(self.instant(), hash, set, origin.writer, staged);
        if !self.timelines.is_empty() {
            self.timelines.stop(hash, set.address);
        }
        self.announce_change(origin, slot, set, fx);
        Some(self.store.revision(slot))
    }

    /// The coordinator takes a bundle across homes; it runs when those before it are done.
    pub(super) fn enqueue_spanning(
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
    pub(super) fn advance_bundle(&mut self, fx: &mut impl Effects) {
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
    pub(super) fn start_spanning(&mut self, fx: &mut impl Effects) {
        if self.bundles.running.is_some() {
            return;
        }
        let Some(Waiting { origin, payload }) = self.bundles.queue.pop_front() else { return };
        let mut bytes = self.lend();
        bytes.extend_from_slice(self.bundles.bytes.get(payload));
        let mut homes = 0_u64;
        self.bundles.homes.clear();
        for message in messages_of(&bytes).iter() {
            let home = self.home_of(address_of(&message));
            self.bundles.homes.push(home);
            homes |= 1 << home.0;
        }
        self.bundles.running = Some(Running {
            origin,
            payload,
            homes,
            votes_due: homes.count_ones(),
            dones_due: 0,
            decided: 0,
            refused: false,
            last_set: NO_SET,
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
    pub(super) fn prepare(
        &mut self,
        coordinator: ShardId,
        origin: &Origin,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        let mut error = self.lend();
        let (last_set, revision) = self.vote_on(origin, payload, &mut error);
        self.hand(coordinator, Record::Vote { last_set, revision, error: &error }, fx);
        self.give_back(error);
    }

    fn prepare_own(&mut self, origin: &Origin, payload: &[u8]) {
        let mut error = self.lend();
        let (last_set, revision) = self.vote_on(origin, payload, &mut error);
        self.bundles.vote(last_set, revision, &error);
        self.give_back(error);
    }

    fn vote_on(&mut self, origin: &Origin, payload: &[u8], error: &mut Vec<u8>) -> (u32, u64) {
        let (refused, address) = match self.stage_bundle(origin, payload) {
            Ok(vote) => match self.bundles.bytes.put(&[payload]) {
                Some(payload) => {
                    let origin = *origin;
                    self.bundles.prepared = Some(Prepared { origin, payload, progress: BEGIN });
                    return vote;
                }
                None => {
                    self.abandon_staged();
                    (Refused::Busy { what: "bundles across shards" }, None)
                }
            },
            Err(refused) => refused,
        };
        self.encode_bundle_error(refused, address, error);
        // It stands still all the same: every home of a refused bundle hears so.
        let (origin, payload) = (*origin, Block::EMPTY);
        self.bundles.prepared = Some(Prepared { origin, payload, progress: BEGIN });
        (NO_SET, 0)
    }

    fn abandon_staged(&mut self) {
        for staged in self.bundles.staged.drain(..) {
            self.store.unstage(staged);
        }
        self.unguard();
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
        self.commit(&prepared.origin, &bytes, &mut prepared.progress, until, fx);
        let finished = !self.has_part_after(&bytes, prepared.progress.offset);
        self.give_back(bytes);
        if finished {
            self.counts.bundles += 1;
            self.forget_staged();
            self.stand_down(&prepared, fx);
        } else {
            self.bundles.prepared = Some(prepared);
        }
        if self.settings.id == COORDINATOR {
            self.bundles.done();
        } else {
            self.hand(COORDINATOR, Record::Done, fx);
        }
    }

    fn has_part_after(&self, payload: &[u8], mut offset: usize) -> bool {
        while offset < payload.len() {
            let (message, next) = message_at(payload, offset);
            if self.home_of(address_of(&message)) == self.settings.id {
                return true;
            }
            offset = next;
        }
        false
    }

    /// This home's part is over, either way: what waited goes on.
    fn stand_down(&mut self, prepared: &Prepared, fx: &mut impl Effects) {
        self.bundles.bytes.free(prepared.payload);
        while let Some(link) = self.held_links.pop() {
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
            let revision = (run.last_set != NO_SET).then_some(run.revision);
            let ack = Ack { revision, ..Ack::default() };
            self.reply(&run.origin, &Message::Ack(ack), fx);
        }
        self.release_link(&run.origin, fx);
    }

    /// Tells every home that nothing is applied. None answers: what is handed to it later waits behind.
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

    /// The sender's next message may follow.
    fn release_link(&mut self, origin: &Origin, fx: &mut impl Effects) {
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

//! Bundles: all or nothing, at once or at their time, in one home or across several.
//!
//! A bundle whose addresses share a home is checked and applied there in one step. One that spans
//! homes goes to the coordinator, shard 0, which runs one at a time: every home checks its part,
//! takes the memory and stands still (`Prepare`, `Vote`); then all apply, in the order of the
//! bundle, or none (`Decide`, `Done`). Homes stand still for a crossing or two for each run of
//! messages with one home, and only such bundles pay. Every reader sees the messages in their
//! order; between two homes' runs it may see messages of a home that has no part in the bundle.

mod apply;
mod draft;
mod spanning;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::input::Lane;
use super::marker::{Marker, SOURCE, Tag};
use super::record::{Origin, Record};
use super::refused::Refused;
use super::session_id::SessionId;
use super::store::Staged;
use super::{Effects, Shard};
use crate::arena::{Arena, Block};
use crate::index::Index;
use crate::limits::{
    BUNDLE_HORIZON, BUNDLE_MESSAGES_MAX, FRAME_BYTES_MAX, Limits, PAYLOAD_BYTES_MAX,
    PEER_ROOM_BYTES,
};
use crate::message::{Message, Publish};
use crate::signal::Signal;
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::wire::binary::{self, code};
use crate::wire::list::Messages;
use crate::{LinkId, ShardId};

/// The shard that runs bundles across homes.
const COORDINATOR: ShardId = ShardId(0);
/// What a message of a bundle takes in a ring to a peer, beside what it takes in the bundle: a
/// record header with its origin, a frame header, a revision.
const MESSAGE_ROOM_BYTES: usize = 96;

const _: () =
    assert!(PAYLOAD_BYTES_MAX + BUNDLE_MESSAGES_MAX * MESSAGE_ROOM_BYTES <= PEER_ROOM_BYTES);

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
    /// The last of them.
    staged: Option<Staged>,
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
    /// Of its last SET that was applied; 0: none yet.
    revision: u64,
}

/// This home's part of the running bundle, and how much of it is applied.
#[derive(Clone, Copy)]
struct Prepared {
    origin: Origin,
    payload: Block,
    progress: Progress,
}

/// Which steps of the plan are done.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The step to do next.
    next: usize,
    /// Staged writes that were applied.
    staged: usize,
    /// The marker that says whose the SETs are.
    marker: Option<Step>,
}

/// What this home does for one message of a bundle. It was looked at once, and what was found is
/// kept, so that only its value is read again.
#[derive(Clone, Copy)]
struct Step {
    /// Where its payload lies in the bundle's, and how long it is.
    at: u32,
    len: u16,
    /// Messages of the bundle before it.
    message: u16,
    kind: StepKind,
    /// Of a SET: bytes of its address.
    address_len: u16,
    /// Of a SET: where its param is, or [`NO_SLOT`] if there was none.
    slot: u32,
    /// Of a SET: of its address.
    hash: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepKind {
    Set,
    Publish,
    /// It says whose the SETs after it are: it has no home, and nobody hears it.
    Marker,
}

const NO_SLOT: u32 = u32::MAX;

impl Step {
    fn payload<'a>(&self, bundle: &'a [u8]) -> &'a [u8] {
        &bundle[self.at as usize..][..usize::from(self.len)]
    }

    fn slot(&self) -> Option<u32> {
        (self.slot != NO_SLOT).then_some(self.slot)
    }
}

/// What this home does for the bundle in hand, in the order of its messages.
struct Plan {
    steps: Vec<Step>,
    /// All that its SETs do is to give params that are there other values of the same length. None
    /// of them can be refused, and none needs memory.
    in_place: bool,
    /// Of the store, when it was made. After any other it is made anew.
    changes: u64,
}

impl Plan {
    fn restart(&mut self, changes: u64) {
        self.steps.clear();
        (self.in_place, self.changes) = (true, changes);
    }
}

/// Code, flags and count.
const BEGIN: usize = 4;
/// `until` of a decision that nothing is applied.
const ABORT: u32 = 0;
/// Of the markers that begin a bundle, until the first home is known.
const NO_HOME: ShardId = ShardId(u16::MAX);
/// Room for the longest ERROR frame.
const ERROR_BYTES: usize = 4 * 1024;

pub(super) struct Bundles {
    timed: Vec<Option<Waiting>>,
    timed_free: Vec<u32>,
    due: Timers,
    /// Timed bundles of each link.
    of_link: Vec<u32>,
    queue: VecDeque<Waiting>,
    queue_max: usize,
    running: Option<Running>,
    /// The first ERROR frame that a home voted with.
    error: Vec<u8>,
    /// This home's part of the running bundle.
    prepared: Option<Prepared>,
    decision: Option<u32>,
    /// The home of each message of the running bundle.
    homes: Vec<ShardId>,
    /// Of this home's part of the bundle in hand, or of the one that it is prepared for.
    plan: Plan,
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
            queue: VecDeque::with_capacity(max as usize),
            queue_max: max as usize,
            running: None,
            error: Vec::with_capacity(ERROR_BYTES),
            prepared: None,
            decision: None,
            homes: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            plan: Plan {
                steps: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
                in_place: true,
                changes: 0,
            },
            bytes: Arena::new(limits.held_bytes_max),
            staged: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            touched: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
            touched_by_hash: Index::new(BUNDLE_MESSAGES_MAX as u32),
            guarded: Vec::with_capacity(BUNDLE_MESSAGES_MAX),
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (self.timed.len() * (size_of::<Option<Waiting>>() + 4)
            + self.of_link.len() * size_of::<u32>()
            + self.queue_max * size_of::<Waiting>()
            + BUNDLE_MESSAGES_MAX
                * (size_of::<Staged>()
                    + size_of::<Touched>()
                    + size_of::<Step>()
                    + size_of::<(u32, ShardId)>())
            + ERROR_BYTES) as u64
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

    pub(super) fn vote(&mut self, error: &[u8]) {
        let run = self.running.as_mut().expect("a vote answers the running bundle");
        run.votes_due -= 1;
        if !error.is_empty() && !run.refused {
            run.refused = true;
            self.error.clear();
            self.error.extend_from_slice(error);
        }
    }

    pub(super) fn decide(&mut self, until: u32) {
        self.decision = Some(until);
    }

    /// A home has done what was decided; `revision` is that of its last SET, 0 without one.
    pub(super) fn done(&mut self, revision: u64) {
        let run = self.running.as_mut().expect("done answers the running bundle");
        run.dones_due -= 1;
        if revision > 0 {
            run.revision = revision;
        }
    }

    pub(super) fn link_gone(&mut self, link: LinkId) {
        // What is timed still runs; only the count of the link starts anew.
        self.of_link[link.0 as usize] = 0;
    }

    /// What earlier messages of the bundle do to the address that hashes to `hash`.
    fn touched(&mut self, hash: u64) -> Option<&mut Touched> {
        let known = self.touched_by_hash.find(hash, |at| self.touched[at as usize].hash == hash)?;
        Some(&mut self.touched[known as usize])
    }

    /// The first message that names an address.
    fn touch_first(&mut self, hash: u64) {
        let at = self.touched.len() as u32;
        self.touched.push(Touched { hash, writes: 0, lock: None, staged: None });
        let kept = self.touched_by_hash.insert(hash, at);
        kept.expect("as many addresses as a bundle has messages");
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

/// The messages of a canonical payload, which were checked when it was drafted.
pub(super) fn messages_of(payload: &[u8]) -> Messages<'_> {
    let count = u16::from_be_bytes([payload[2], payload[3]]);
    Messages::of_checked(&payload[BEGIN..], count)
}

/// The gesture that `message` is about.
pub(super) fn gesture_in<'a>(message: &Message<'a>) -> Option<Publish<'a>> {
    match message {
        Message::Publish(publish) if publish.signal == Some(Signal::Gesture) => Some(*publish),
        _ => None,
    }
}

fn address_of<'a>(message: &Message<'a>) -> &'a str {
    match message {
        Message::Set(set) => set.address,
        Message::Publish(publish) => publish.address,
        other => unreachable!("bundles are kept with writes only: {other:?}"),
    }
}

/// Whether `message` says whose the SETs after it are: it has no home, and nobody hears it.
fn is_marker(message: &Message<'_>) -> bool {
    matches!(message, Message::Publish(publish) if publish.address == SOURCE)
}

/// The source that the message in `payload` names, if it is a marker that does.
fn tag_in(payload: &[u8]) -> Option<Tag<'_>> {
    match Marker::of(&binary::decode(payload).ok()?) {
        Some(Ok(Marker::Writes(tag))) => Some(tag),
        _ => None,
    }
}

/// Bytes that the ring to a peer needs at most when a bundle is applied.
fn room_of(payload: &[u8]) -> usize {
    let count = usize::from(u16::from_be_bytes([payload[2], payload[3]]));
    payload.len() + count * MESSAGE_ROOM_BYTES
}

impl Shard {
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
        if *of_link >= per_session_max || bundles.timed_free.is_empty() {
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
            && self.has_room_for_next_bundle()
            && let Some(slot) = self.bundles.due.pop(self.now)
        {
            let waiting = self.bundles.timed[slot as usize].take();
            self.bundles.timed_free.push(slot);
            let Some(Waiting { mut origin, payload }) = waiting else { continue };
            let mut bytes = self.lend();
            bytes.extend_from_slice(self.bundles.bytes.get(payload));
            self.bundles.bytes.free(payload);
            origin.ended = !self.is_current(&origin);
            if !origin.ended {
                // A ruling may have come since it was said.
                origin.priority = self.sessions[origin.link.0 as usize].priority;
                let of_link = &mut self.bundles.of_link[origin.link.0 as usize];
                *of_link = of_link.saturating_sub(1);
                self.note_gestures(origin.link, &bytes);
            }
            // Its acceptance was acknowledged; only a refusal is still worth telling.
            origin.confirm = false;
            let mut homes = 0;
            for message in messages_of(&bytes).iter().filter(|message| !is_marker(message)) {
                homes |= 1 << self.home_of(address_of(&message)).0;
            }
            self.run_bundle(&origin, &bytes, homes, fx);
            self.give_back(bytes);
        }
    }

    /// Whether the rings have room for the bundle that is due first, wherever it goes.
    fn has_room_for_next_bundle(&self) -> bool {
        let waiting = self.bundles.due.first().and_then(|slot| self.bundles.timed[slot as usize]);
        waiting.is_none_or(|waiting| {
            let payload = self.bundles.bytes.get(waiting.payload);
            self.has_room(Lane::Forward, FRAME_BYTES_MAX)
                && self.has_room(Lane::Publish, room_of(payload))
        })
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
}

//! A bundle at a home: all of the home's part, or nothing.

use core::ops::Range;

use super::{NO_SLOT, Plan, Progress, Step, StepKind, tag_in};
use crate::address::text_of;
use crate::arena::Block;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::message::{RawPublish, RawSet};
use crate::shard::known::Place;
use crate::shard::marker::{SOURCE, Tag};
use crate::shard::record::Origin;
use crate::shard::refused::Refused;
use crate::shard::session_id::SessionId;
use crate::shard::store::{Ahead, Staged};
use crate::shard::{Effects, Shard};
use crate::value::Value;
use crate::wire::binary::{self, OpenBundle, code};

/// `until` of a bundle with one home.
const ALL: u32 = u32::MAX;

impl Shard {
    /// Applies a bundle all of whose addresses have this home, or none of it.
    pub(in crate::shard) fn apply_bundle(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        self.plan_bundle(payload);
        self.apply_planned(origin, payload, fx);
    }

    /// The same where the plan is made, and nothing changed since.
    pub(super) fn apply_planned(&mut self, origin: &Origin, payload: &[u8], fx: &mut impl Effects) {
        if !self.bundles.plan.in_place
            && let Err((refused, address)) = self.stage_bundle(origin, payload)
        {
            return self.refuse_bundle(origin, refused, address, fx);
        }
        self.counts.bundles += 1;
        let revision = self.commit(origin, payload, &mut Progress::default(), ALL, fx);
        self.forget_staged();
        self.acknowledge(origin, None, revision, fx);
    }

    /// Plans what this home does for a canonical payload.
    pub(super) fn plan_bundle(&mut self, payload: &[u8]) {
        self.bundles.plan.restart(self.store.changes());
        // It was checked when it was drafted; what is no message after all ends it.
        let Ok(mut bundle) = OpenBundle::new(payload) else { return };
        let mut number = 0;
        while let Ok(Some(message)) = bundle.next() {
            let at = bundle.offset() - message.len()..bundle.offset();
            match message.split_first() {
                Some((&code::SET, body)) => {
                    let Ok((set, _)) = binary::raw_set(body) else { return };
                    if self.is_own(set.address) {
                        let place = self.known.find(set.address);
                        let (hash, slot) = self.find_at(place, set.address);
                        self.plan_set(number, at, &set, hash, slot);
                    }
                }
                Some((&code::PUBLISH, body)) => {
                    let Ok(publish) = binary::raw_publish(body) else { return };
                    if publish.address == SOURCE.as_bytes() {
                        self.plan(number, at, StepKind::Marker);
                    } else if self.is_own(publish.address) {
                        self.plan(number, at, StepKind::Publish);
                    }
                }
                _ => {}
            }
            number += 1;
        }
    }

    fn is_own(&self, address: &[u8]) -> bool {
        self.home_of(address) == self.settings.id
    }

    /// Message `number` lies at `at` of the payload, and this home has a part in it.
    pub(super) fn plan(&mut self, number: usize, at: Range<usize>, kind: StepKind) {
        let (len, at) = (at.len() as u16, at.start as u32);
        let message = number as u16;
        let nothing = Step { at, len, message, kind, address_len: 0, slot: NO_SLOT, hash: 0 };
        self.bundles.plan.steps.push(nothing);
    }

    /// The same of a SET whose param is in `slot`: sees what it needs.
    #[inline(always)]
    pub(super) fn plan_set(
        &mut self,
        number: usize,
        at: Range<usize>,
        set: &RawSet<'_>,
        hash: u64,
        slot: Option<u32>,
    ) {
        let Plan { steps, in_place, .. } = &mut self.bundles.plan;
        *in_place &= slot.is_some_and(|slot| self.store.overwrites(slot, set));
        steps.push(Step {
            at: at.start as u32,
            len: at.len() as u16,
            message: number as u16,
            kind: StepKind::Set,
            address_len: set.address.len() as u16,
            slot: slot.unwrap_or(NO_SLOT),
            hash,
        });
    }

    /// The hash of an address of this home, and where its param is, if it has one.
    pub(super) fn find_at(&mut self, place: Option<Place>, address: &[u8]) -> (u64, Option<u32>) {
        let removed = self.store.removed();
        let known = place.and_then(|place| self.known.slot(place, removed));
        let hash = match place {
            Some(place) => self.known.hash(place),
            None => self.store.hash(address),
        };
        let slot = known.or_else(|| self.store.find(hash, address));
        if let (Some(place), Some(slot)) = (place, slot) {
            self.known.set_slot(place, slot, removed);
        }
        (hash, slot)
    }

    /// Checks this home's part of a bundle and takes the memory that it needs.
    pub(super) fn stage_bundle<'a>(
        &mut self,
        origin: &Origin,
        payload: &'a [u8],
    ) -> Result<(), (Refused, Option<&'a str>)> {
        let steps = core::mem::take(&mut self.bundles.plan.steps);
        let staged = self.try_stage(origin, payload, &steps);
        self.bundles.plan.steps = steps;
        self.bundles.forget_touched();
        if staged.is_err() {
            self.abandon_staged();
        }
        staged
    }

    /// Gives back all that was staged.
    pub(super) fn abandon_staged(&mut self) {
        for staged in self.bundles.staged.drain(..) {
            self.store.unstage(staged);
        }
        self.unguard();
    }

    fn try_stage<'a>(
        &mut self,
        origin: &Origin,
        payload: &'a [u8],
        steps: &[Step],
    ) -> Result<(), (Refused, Option<&'a str>)> {
        self.guard_params_of(steps).map_err(|full| (full, None))?;
        let (mut bytes, mut locks, mut locks_held) = (0, 0, None);
        let (mut tag, mut claims) = (None, 0);
        for step in steps {
            if self.arbitrates && step.kind == StepKind::Marker {
                tag = tag_in(step.payload(payload)).or(tag);
            }
            let Some(set) = step.set(payload) else { continue };
            let refused = |refused| (refused, Some(text_of(set.address)));
            let slot = step.slot();
            let touched = self.bundles.touched(step.hash);
            let touched = touched.expect("guarding went over every address");
            let (writes, lock) = (touched.writes, touched.lock);
            let earlier = touched.staged;
            if set.lock && locks_held.is_none() {
                locks_held = Some(self.store.locks_of(origin.writer));
            }
            let ahead = Ahead { writes, lock, locks, locks_held: locks_held.unwrap_or(0) };
            self.store.check(slot, &set, origin.writer, ahead).map_err(refused)?;
            let mut claim = Block::EMPTY;
            if self.is_arbitrated(slot, set.address) {
                let text = origin.writer.text();
                let who = self.claimant(origin, tag, text.as_str());
                self.store.claims.check(slot, &who, claims, writes).map_err(refused)?;
                claim = self.store.claims.stage(set.value).map_err(refused)?;
                claims += 1;
            }
            let staged = match self.store.stage(slot, &set, earlier) {
                Ok(staged) => staged.with_claim(claim),
                Err(full) => {
                    self.store.claims.unstage(claim);
                    return Err(refused(full));
                }
            };
            self.bundles.staged.push(staged);
            // Merged maps may be longer than what was sent; the rings to the peers hold a frame's
            // worth.
            bytes += staged.value_len();
            if bytes > PAYLOAD_BYTES_MAX {
                return Err(refused(Refused::TooLong { got: bytes }));
            }
            locks += usize::from(set.lock);
            let touched = self.bundles.touched(step.hash).expect("found before");
            touched.writes += 1;
            touched.staged = Some(staged);
            if set.lock {
                touched.lock = Some(origin.writer);
            } else if set.unlock {
                touched.lock = Some(SessionId::NONE);
            }
        }
        Ok(())
    }

    /// Keeps the bundle's params from being evicted, and makes room for those it creates.
    fn guard_params_of(&mut self, steps: &[Step]) -> Result<(), Refused> {
        let mut new = 0;
        for step in steps.iter().filter(|step| step.kind == StepKind::Set) {
            if self.bundles.touched(step.hash).is_some() {
                continue;
            }
            self.bundles.touch_first(step.hash);
            match step.slot() {
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

    /// Applies what was planned of the messages before message `until`, in order, telling everyone
    /// who listens. Returns the revision of the last SET.
    pub(super) fn commit(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        progress: &mut Progress,
        until: u32,
        fx: &mut impl Effects,
    ) -> Option<u64> {
        // A bridge's bundle is a frame of levels and no cue; and a bridge asks for no echo.
        let origin = &Origin { critical: !origin.quiet, ..*origin };
        let by = self.stamp(origin);
        let steps = core::mem::take(&mut self.bundles.plan.steps);
        let in_place = self.bundles.plan.in_place;
        let mut tag = progress.marker.and_then(|marker| tag_in(marker.payload(payload)));
        let mut revision = None;
        while let Some(step) = steps.get(progress.next)
            && u32::from(step.message) < until
        {
            progress.next += 1;
            match step.kind {
                StepKind::Marker => {
                    if let Some(found) = tag_in(step.payload(payload)) {
                        (tag, progress.marker) = (Some(found), Some(*step));
                    }
                }
                StepKind::Set if in_place => {
                    let set = step.set_in_place(payload);
                    self.store.overwrite_in_place(by, step.slot, set.value);
                    revision = self.tell_write(origin, tag.as_ref(), step, step.slot, &set, fx);
                }
                StepKind::Set => {
                    let Some(set) = step.set(payload) else { continue };
                    let staged = self.bundles.staged[progress.staged];
                    progress.staged += 1;
                    let done = self.commit_set(origin, tag.as_ref(), step, &set, staged, fx);
                    revision = done.or(revision);
                }
                StepKind::Publish => {
                    if let Some(publish) = step.publish(payload) {
                        self.publish(origin, &publish, None, None, fx);
                    }
                }
            }
        }
        self.bundles.plan.steps = steps;
        revision
    }

    /// Whether the plan has more for this home after `progress`.
    pub(super) fn has_part_after(&self, progress: &Progress) -> bool {
        let rest = self.bundles.plan.steps.get(progress.next..).unwrap_or_default();
        rest.iter().any(|step| step.kind != StepKind::Marker)
    }

    /// All that was staged is applied.
    pub(super) fn forget_staged(&mut self) {
        self.bundles.staged.clear();
        self.unguard();
    }

    /// Applies one staged write, unless the param's rule keeps what it has: that refuses no bundle.
    fn commit_set(
        &mut self,
        origin: &Origin,
        tag: Option<&Tag<'_>>,
        step: &Step,
        set: &RawSet<'_>,
        staged: Staged,
        fx: &mut impl Effects,
    ) -> Option<u64> {
        let hash = step.hash;
        // An earlier message of the bundle may have made it.
        let slot = step.slot().or_else(|| self.store.find(hash, set.address));
        if !staged.claim().is_empty() {
            let located = (None, hash, slot);
            return self.contend(origin, tag.copied(), set, located, Some(staged), fx).ok();
        }
        if self.store.takes(slot, set.value).is_err() {
            self.counts.sets_outruled += 1;
            self.store.unstage(staged);
            return slot.map(|slot| self.store.revision(slot));
        }
        let slot = self.store.commit(self.stamp(origin), slot, hash, set, staged);
        self.tell_write(origin, tag, step, slot, set, fx)
    }

    /// Tells everyone what the param in `slot` now holds. Returns its revision.
    #[inline]
    fn tell_write(
        &mut self,
        origin: &Origin,
        tag: Option<&Tag<'_>>,
        step: &Step,
        slot: u32,
        set: &RawSet<'_>,
        fx: &mut impl Effects,
    ) -> Option<u64> {
        let hash = step.hash;
        if !self.timelines.is_empty() {
            self.timelines.stop(hash, set.address);
        }
        self.announce_change(origin, slot, hash, set, tag, fx);
        Some(self.store.revision(slot))
    }
}

impl Step {
    /// The SET that it is, where that says no more than an address and a value.
    #[inline]
    fn set_in_place<'a>(&self, bundle: &'a [u8]) -> RawSet<'a> {
        let payload = self.payload(bundle);
        let (start, data) = payload.split_at(binary::START_LEN + usize::from(self.address_len));
        let value = Value { code: start[1], data };
        let address = &start[binary::START_LEN..];
        RawSet { address, value, revision: None, lock: false, unlock: false, ttl: None }
    }

    /// The SET that it is. It was checked when it was planned.
    #[inline]
    fn set<'a>(&self, bundle: &'a [u8]) -> Option<RawSet<'a>> {
        let body = self.payload(bundle).get(1..).filter(|_| self.kind == StepKind::Set)?;
        binary::raw_set(body).ok().map(|(set, _)| set)
    }

    fn publish<'a>(&self, bundle: &'a [u8]) -> Option<RawPublish<'a>> {
        let body = self.payload(bundle).get(1..).filter(|_| self.kind == StepKind::Publish)?;
        binary::raw_publish(body).ok()
    }
}

//! The params of one home: their last values, revisions, locks, rules and lives.

pub(crate) mod claims;
mod locks;
mod merge;
mod param;
mod ruling;
mod stage;

use alloc::vec::Vec;

use claims::Claims;
use merge::merge_maps;
use param::{Lines, Param};
pub(crate) use stage::Staged;

use super::audience::Audience;
use super::marker;
use super::refused::Refused;
use super::session_id::SessionId;
use super::settings::{Arbitration, Rule, RuleFor};
use crate::address::text_of;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::{Limits, PARAM_BYTES_MAX};
use crate::message::{ParamValue, RawSet, Ttl};
use crate::pattern;
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::value::{self, Value};

/// Params locked at once, at most: by all sessions, and by one.
const LOCKS_MAX: usize = 4_096;
const LOCKS_PER_SESSION_MAX: usize = LOCKS_MAX / 4;
/// Sessions that ended last, so that what they sent before takes no lock after.
const ENDED_MAX: usize = 1_024;

/// When a param is written, on both clocks, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub now: Time,
    pub unix_us: u64,
    pub writer: SessionId,
    /// Who gets the lock if one is taken; `SessionId::NONE`: nobody, because the writer is gone.
    pub holder: SessionId,
}

/// What earlier messages of the same bundle will do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// Writes of the same address.
    pub writes: u64,
    /// The holder that they leave; `None`: as the param has it.
    pub lock: Option<SessionId>,
    /// Locks taken, of any address.
    pub locks: usize,
    /// Locks that the writer has before that: [`Store::locks_of`], counted only where a lock is
    /// asked for.
    pub locks_held: usize,
}

pub(crate) struct Store {
    params: Vec<Param>,
    /// One past the highest slot that was ever live.
    slots: u32,
    /// Those that may be evicted, and the vacant ones.
    lines: Lines,
    index: Index,
    /// For each param one piece: its address, then its value.
    arena: Arena,
    /// Not later than each param dies; looked at again then, because a write may have renewed it.
    expiry: Timers,
    /// Who holds which locked param, and where the param's entry is.
    locked: Vec<(SessionId, u32)>,
    locked_at: Index,
    /// A ring.
    ended: Vec<SessionId>,
    ended_next: usize,
    tombstones: Vec<(u64, u64)>,
    live: u32,
    /// Counts writes and removals, so that what was found out before one is not believed after it.
    changes: u64,
    /// Counts params that went, so that what is remembered of slots is known to hold no more.
    removed: u64,
    seed: [u64; 2],
    default_ttl: Option<Span>,
    /// Params in the slots before it are under the rules that are in force; those behind it are
    /// judged first. `u32::MAX`: all are.
    judged: u32,
    rules: Vec<RuleFor>,
    merged: Vec<u8>,
    pub evicted: u64,
    /// Of params that are arbitrated.
    pub claims: Claims,
}

impl Store {
    pub(crate) fn new(
        limits: &Limits,
        seed: [u64; 2],
        default_ttl: Option<Span>,
        rules: &[RuleFor],
        arbitrations: &[Arbitration],
    ) -> Self {
        let max = limits.params_max;
        let mut params = alloc::vec![Param::VACANT; max as usize];
        let lines = Lines::new(&mut params);
        Self {
            params,
            slots: 0,
            lines,
            index: Index::new(max),
            arena: Arena::new(limits.param_bytes_max),
            expiry: Timers::new(max),
            locked: Vec::with_capacity(LOCKS_MAX),
            locked_at: Index::new(LOCKS_MAX as u32),
            ended: alloc::vec![SessionId::NONE; ENDED_MAX],
            ended_next: 0,
            tombstones: alloc::vec![(0, 0); limits.tombstones_max.max(1) as usize],
            live: 0,
            changes: 0,
            removed: 0,
            seed,
            default_ttl,
            judged: u32::MAX,
            rules: rules.to_vec(),
            merged: Vec::with_capacity(PARAM_BYTES_MAX),
            evicted: 0,
            claims: Claims::new(limits, seed, arbitrations),
        }
    }

    /// Bytes taken by [`Store::new`].
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.params.len() * size_of::<Param>()
            + self.tombstones.len() * size_of::<(u64, u64)>()
            + LOCKS_MAX * size_of::<(SessionId, u32)>()
            + ENDED_MAX * size_of::<SessionId>()
            + self.rules_bytes()
            + PARAM_BYTES_MAX) as u64
            + self.index.memory_bytes()
            + self.expiry.memory_bytes()
            + self.locked_at.memory_bytes()
            + self.arena.memory_bytes()
            + self.claims.memory_bytes()
    }

    fn rules_bytes(&self) -> usize {
        let patterns: usize = self.rules.iter().map(|rule| rule.pattern.capacity()).sum();
        self.rules.capacity() * size_of::<RuleFor>() + patterns
    }

    pub(crate) fn len(&self) -> u32 {
        self.live
    }

    /// One past the highest slot that was ever live: where a snapshot ends.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) fn hash(&self, address: impl AsRef<[u8]>) -> u64 {
        index::hash(self.seed, address.as_ref())
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, address: impl AsRef<[u8]>) -> Option<u32> {
        self.index.find(hash, |slot| self.address_bytes(slot) == address.as_ref())
    }

    /// How many params went so far: as long as it stays, a slot is the same param's.
    pub(crate) fn removed(&self) -> u64 {
        self.removed
    }

    /// How many writes and removals there were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn revision(&self, slot: u32) -> u64 {
        self.params[slot as usize].revision()
    }

    pub(crate) fn rule(&self, slot: u32) -> Rule {
        self.params[slot as usize].rule()
    }

    /// Who listened to the last write, to be asked whether they still do.
    pub(super) fn audience(&self, slot: u32) -> Audience {
        self.params[slot as usize].audience()
    }

    pub(super) fn set_audience(&mut self, slot: u32, audience: Audience) {
        self.params[slot as usize].set_audience(audience);
    }

    pub(crate) fn value(&self, slot: u32) -> Value<'_> {
        let param = &self.params[slot as usize];
        value_in(&self.arena.get(param.piece())[usize::from(param.address_len)..])
    }

    /// Who wrote it last, and at which microsecond since the Unix epoch.
    pub(crate) fn last_write(&self, slot: u32) -> (SessionId, u64) {
        let param = &self.params[slot as usize];
        (param.writer, param.written_unix_us)
    }

    pub(crate) fn address(&self, slot: u32) -> &str {
        text_of(self.address_bytes(slot))
    }

    fn address_bytes(&self, slot: u32) -> &[u8] {
        let param = &self.params[slot as usize];
        &self.arena.get(param.piece())[..usize::from(param.address_len)]
    }

    /// What a SNAPSHOT says of `slot`, if a param lives there; `writer` holds its text meanwhile.
    pub(crate) fn entry<'a>(
        &'a self,
        slot: u32,
        writer: &'a mut Option<super::session_id::Text>,
    ) -> Option<ParamValue<'a>> {
        let param = &self.params[slot as usize];
        if !param.is_live() {
            return None;
        }
        if param.writer != SessionId::NONE {
            *writer = Some(param.writer.text());
        }
        Some(ParamValue {
            address: self.address(slot),
            value: self.value(slot),
            revision: param.revision(),
            writer: writer.as_ref().map(|text| text.as_str()),
            timestamp_us: Some(param.written_unix_us),
        })
    }

    /// Whether `set` may be applied to what is held, earlier writes of its bundle counted in.
    #[inline]
    pub(crate) fn check(
        &self,
        slot: Option<u32>,
        set: &RawSet<'_>,
        writer: SessionId,
        ahead: Ahead,
    ) -> Result<(), Refused> {
        let got = set.address.len() + set.value.encoded_len();
        if got > PARAM_BYTES_MAX {
            return Err(Refused::TooLong { got });
        }
        let actual = slot.map_or(0, |slot| self.revision(slot)) + ahead.writes;
        // A first write may name any revision.
        if let Some(expected) = set.revision
            && expected != actual
            && actual > 0
        {
            return Err(Refused::Revision { expected, actual });
        }
        let holder = ahead.lock.unwrap_or_else(|| self.holder(slot));
        self.is_kept_out(slot, set.address, holder, writer)?;
        if set.lock
            && holder != writer
            && (self.locked.len() + ahead.locks >= LOCKS_MAX
                || ahead.locks_held + ahead.locks >= LOCKS_PER_SESSION_MAX)
        {
            return Err(Refused::Busy { what: "locks" });
        }
        Ok(())
    }

    /// Whether the param's rule takes `offered`; `Lock` and `Merge` have their own ways.
    #[inline]
    pub(crate) fn takes(&self, slot: Option<u32>, offered: Value<'_>) -> Result<(), Refused> {
        let Some(slot) = slot else { return Ok(()) };
        let rule = self.rule(slot);
        if !matches!(rule, Rule::Max | Rule::Min) {
            return Ok(());
        }
        match verdict(rule, self.value(slot).as_f64(), offered.as_f64()) {
            Verdict::Take => Ok(()),
            Verdict::Keep => Err(Refused::Outruled { rule }),
        }
    }

    /// Whether claims decide about the param in `slot`, or about `address` if it has none yet.
    #[inline]
    pub(crate) fn is_arbitrated(&self, slot: Option<u32>, address: &[u8]) -> bool {
        match slot {
            Some(slot) => self.rule(slot) == Rule::Arbitrated,
            None => self.claims.policy_of(text_of(address)).is_some(),
        }
    }

    /// Whether all that `set` does is to give the param in `slot` another value in the place of the
    /// one that it has: then it is not refused, whoever writes it, and needs no memory.
    #[inline]
    pub(crate) fn overwrites(&self, slot: u32, set: &RawSet<'_>) -> bool {
        let param = &self.params[slot as usize];
        self.is_judged(slot)
            && param.takes_all()
            && param.value_len() == set.value.encoded_len()
            && set.revision.is_none()
            && set.ttl.is_none()
            && !set.lock
            && !set.unlock
    }

    /// Applies a write of which [`Store::overwrites`] was true, and still is.
    #[inline]
    pub(crate) fn overwrite_in_place(&mut self, by: Stamp, slot: u32, value: Value<'_>) {
        let param = &mut self.params[slot as usize];
        param.stamp(by);
        let piece = self.arena.get_mut(param.piece());
        if let Some((code, data)) = piece[usize::from(param.address_len)..].split_first_mut() {
            *code = value.code;
            data.copy_from_slice(value.data);
        }
        self.changes += 1;
        self.requeue(slot);
    }

    /// Whether `session` ended lately.
    pub(crate) fn has_ended(&self, session: SessionId) -> bool {
        self.ended.contains(&session)
    }

    /// Applies one checked write. Fails only for want of room, and then changes nothing.
    #[inline]
    pub(crate) fn apply(
        &mut self,
        by: Stamp,
        slot: Option<u32>,
        hash: u64,
        set: &RawSet<'_>,
    ) -> Result<u32, Refused> {
        let merged = match slot {
            Some(slot) => self.merge(self.rule(slot), Some(self.value_place(slot)), set.value)?,
            None => None,
        };
        let address = set.address;
        let parts: [&[u8]; 3] = match &merged {
            Some(map) => [address, &[value::code::MAP], map],
            None => [address, core::slice::from_ref(&set.value.code), set.value.data],
        };
        let was_ended = slot.is_some_and(|slot| self.params[slot as usize].is_ended());
        let done = match slot {
            Some(slot) => self.overwrite(slot, &parts).map(|()| slot),
            None => self.insert(hash, set.address, &parts),
        };
        if let Some(map) = merged {
            self.merged = map;
        }
        let applied = done?;
        self.written(by, applied, set, slot.is_none() || was_ended);
        Ok(applied)
    }

    /// Evicts until `wanted` more params fit.
    pub(crate) fn make_room(&mut self, wanted: usize) -> Result<(), Refused> {
        while self.params.len() - (self.live as usize) < wanted {
            if !self.evict_one() {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    /// Releases what `session` had locked and claimed. What it sent before takes no lock any more.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        self.claims.end_session(session);
        self.ended[self.ended_next] = session;
        self.ended_next = (self.ended_next + 1) % ENDED_MAX;
        let mut at = 0;
        while let Some(&(holder, slot)) = self.locked.get(at) {
            if holder == session {
                self.unlock(slot);
                self.requeue(slot);
            } else {
                at += 1;
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.expiry.next()
    }

    /// Removes one param whose time is up; `None` when there is no more.
    pub(crate) fn expire(&mut self, now: Time) -> Option<u32> {
        while let Some(slot) = self.expiry.pop(now) {
            match self.due(slot) {
                Some(due) if due > now => self.expiry.set(slot, due),
                Some(_) => {
                    self.remove(slot);
                    return Some(slot);
                }
                None => {}
            }
        }
        None
    }

    /// When the param in `slot` dies, if it was not written again; it is asked when that may be
    /// now.
    fn due(&self, slot: u32) -> Option<Time> {
        let param = &self.params[slot as usize];
        match param.ttl() {
            Some(Ttl::Never) => None,
            Some(Ttl::Sliding(s)) => Some(param.written + Span::from_secs(u64::from(s))),
            // No write puts it off.
            Some(Ttl::Absolute(_)) => Some(Time(0)),
            None => self.default_ttl.map(|ttl| param.written + ttl),
        }
    }

    /// The map that a merge rule makes of held and offered; `None` where the offered value stands.
    #[inline]
    fn merge(
        &mut self,
        rule: Rule,
        held: Option<(Block, usize)>,
        offered: Value<'_>,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let (Rule::Merge, Some((piece, at))) = (rule, held) else { return Ok(None) };
        let mut out = core::mem::take(&mut self.merged);
        let merged = merge_maps(value_in(&self.arena.get(piece)[at..]), offered, &mut out);
        if merged == Ok(true) {
            return Ok(Some(out));
        }
        self.merged = out;
        merged.map(|_| None)
    }

    /// The piece that holds the value in `slot`, and where in it the value begins.
    #[inline]
    fn value_place(&self, slot: u32) -> (Block, usize) {
        let param = &self.params[slot as usize];
        (param.piece(), usize::from(param.address_len))
    }

    /// Writes address, type code and data.
    #[inline]
    fn overwrite(&mut self, slot: u32, parts: &[&[u8]; 3]) -> Result<(), Refused> {
        let param = &mut self.params[slot as usize];
        let [_, code, data] = parts;
        if param.value_len() == 1 + data.len() {
            let value = &mut self.arena.get_mut(param.piece())[usize::from(param.address_len)..];
            let (head, tail) = value.split_at_mut(1);
            head.copy_from_slice(code);
            tail.copy_from_slice(data);
            return Ok(());
        }
        let mut piece = param.piece();
        // What is written does not make room for itself.
        self.lines.leave(&mut self.params, slot);
        while self.arena.replace(&mut piece, parts).is_err() {
            if !self.evict_one() {
                self.requeue(slot);
                return Err(Refused::Full);
            }
        }
        self.params[slot as usize].set_piece(piece);
        Ok(())
    }

    fn insert(&mut self, hash: u64, address: &[u8], parts: &[&[u8]; 3]) -> Result<u32, Refused> {
        self.make_room(1)?;
        let piece = self.put(parts)?;
        let placed = self.place(hash, address, piece);
        placed.ok_or(Refused::Full)
    }

    fn put(&mut self, parts: &[&[u8]]) -> Result<Block, Refused> {
        loop {
            if let Some(block) = self.arena.put(parts) {
                return Ok(block);
            }
            if !self.evict_one() {
                return Err(Refused::Full);
            }
        }
    }

    /// A new param of `address`, which begins `piece`.
    fn place(&mut self, hash: u64, address: &[u8], piece: Block) -> Option<u32> {
        let rule = self.rule_of(address);
        let param = Param::new(piece, address.len(), self.buried(hash), rule);
        let slot = self.lines.use_vacant(&mut self.params, param)?;
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.live += 1;
        self.slots = self.slots.max(slot + 1);
        Some(slot)
    }

    fn rule_of(&self, address: &[u8]) -> Rule {
        if marker::described(address).is_some() {
            return Rule::Lock;
        }
        let address = text_of(address);
        if self.claims.policy_of(address).is_some() {
            return Rule::Arbitrated;
        }
        let found = self.rules.iter().find(|rule| pattern::matches(&rule.pattern, address));
        found.map_or(Rule::Last, |found| found.rule)
    }

    /// What every accepted write changes, however its value got there.
    #[inline]
    fn written(&mut self, by: Stamp, slot: u32, set: &RawSet<'_>, is_new: bool) {
        self.params[slot as usize].stamp(by);
        self.declare(by, slot, set, is_new);
    }

    /// Obeys what a write says beside a value that does not count.
    pub(crate) fn declare_alone(&mut self, by: Stamp, slot: u32, set: &RawSet<'_>) {
        self.declare(by, slot, set, false);
    }

    /// What a write says beside its value: how long the param lives, and who alone may write it.
    #[inline(always)]
    fn declare(&mut self, by: Stamp, slot: u32, set: &RawSet<'_>, is_new: bool) {
        self.changes += 1;
        let first_writer_locks = self.rule(slot) == Rule::Lock && self.becomes_of(slot, by.holder);
        let wants_lock = set.lock || (first_writer_locks && !set.unlock);
        if let Some(ttl) = set.ttl.map(lasting_if_zero) {
            self.live_for(by.now, slot, ttl);
        } else if is_new {
            self.live_by_default(by.now, slot, set.value);
        }
        if wants_lock {
            self.lock(slot, by.holder);
        } else if set.unlock {
            self.unlock(slot);
        }
        self.requeue(slot);
    }

    /// A first write says nothing of how long the param lives.
    #[inline(never)]
    fn live_by_default(&mut self, now: Time, slot: u32, value: Value<'_>) {
        let param = &mut self.params[slot as usize];
        if param.ttl().is_some() {
            if value.is_null() {
                return; // It stays ended.
            }
            param.clear_ttl();
            self.expiry.clear(slot);
        }
        if let Some(ttl) = self.default_ttl {
            self.expiry.set(slot, now + ttl);
        }
    }

    /// A write says how long the param lives. An absolute life begins with the first that says so.
    fn live_for(&mut self, now: Time, slot: u32, ttl: Ttl) {
        let param = &mut self.params[slot as usize];
        let goes_on = param.ttl() == Some(ttl);
        param.set_ttl(ttl);
        match ttl {
            Ttl::Never => self.expiry.clear(slot),
            Ttl::Absolute(_) if goes_on => {}
            Ttl::Sliding(s) | Ttl::Absolute(s) => {
                self.expiry.set(slot, now + Span::from_secs(u64::from(s)));
            }
        }
    }

    /// Puts `slot` last in the line for eviction, or takes it out of the line if it must stay.
    #[inline]
    fn requeue(&mut self, slot: u32) {
        if self.params[slot as usize].may_go() {
            self.lines.join(&mut self.params, slot);
        } else {
            self.lines.leave(&mut self.params, slot);
        }
    }

    fn evict_one(&mut self) -> bool {
        let Some(slot) = self.lines.oldest() else { return false };
        self.remove(slot);
        self.evicted += 1;
        true
    }

    fn remove(&mut self, slot: u32) {
        self.unlock(slot);
        if self.rule(slot) == Rule::Arbitrated {
            self.claims.forget(slot);
        }
        self.lines.leave(&mut self.params, slot);
        self.expiry.clear(slot);
        let hash = index::hash(self.seed, self.address_bytes(slot));
        let param = self.lines.vacate(&mut self.params, slot);
        self.index.remove(hash, slot);
        self.arena.free(param.piece());
        self.live -= 1;
        self.changes += 1;
        self.removed += 1;
        let grave = (hash % self.tombstones.len() as u64) as usize;
        self.tombstones[grave] = (hash, param.revision());
    }

    /// The revision that an address had when it went; 0 if unknown.
    fn buried(&self, hash: u64) -> u64 {
        let (buried, revision) = self.tombstones[(hash % self.tombstones.len() as u64) as usize];
        if buried == hash { revision } else { 0 }
    }
}

/// A TTL of no seconds is what published clients write for "never".
fn lasting_if_zero(ttl: Ttl) -> Ttl {
    match ttl {
        Ttl::Absolute(0) | Ttl::Sliding(0) => Ttl::Never,
        other => other,
    }
}

/// A value as the arena keeps it.
fn value_in(bytes: &[u8]) -> Value<'_> {
    Value { code: bytes[0], data: &bytes[1..] }
}

enum Verdict {
    Take,
    Keep,
}

/// Which of two writes a param keeps. Pure; what is no number is always taken.
fn verdict(rule: Rule, held: Option<f64>, offered: Option<f64>) -> Verdict {
    let (Some(held), Some(offered)) = (held, offered) else { return Verdict::Take };
    let take = match rule {
        Rule::Last | Rule::Lock | Rule::Merge | Rule::Arbitrated => true,
        Rule::Max => offered > held || held.is_nan(),
        Rule::Min => offered < held || held.is_nan(),
    };
    if take { Verdict::Take } else { Verdict::Keep }
}

#[cfg(test)]
mod tests;

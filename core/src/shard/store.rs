//! The params of one home: their last values, revisions, locks, rules and lives.

use alloc::vec::Vec;

use super::lists::Line;
use super::refused::Refused;
use super::session_id::SessionId;
use super::settings::{Rule, RuleFor};
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::{Limits, PARAM_BYTES_MAX};
use crate::message::{ParamValue, Set, Ttl};
use crate::pattern;
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::value::{self, Value};

/// Params locked at once, at most: by all sessions, and by one.
const LOCKS_MAX: usize = 4_096;
const LOCKS_PER_SESSION_MAX: usize = LOCKS_MAX / 4;
/// Keys of a merged map, at most.
const MERGED_KEYS_MAX: usize = 256;
/// Sessions that ended last, so that what they sent before takes no lock after.
const ENDED_MAX: usize = 1_024;

/// One param. Its slot number is stable while it lives, and orders snapshots.
#[derive(Clone, Copy)]
pub(crate) struct Param {
    address: Block,
    /// Type code, then data.
    value: Block,
    pub hash: u64,
    /// Starts at 1 and only rises, also across expiry.
    pub revision: u64,
    written: Time,
    /// When an absolute TTL was given, which a write with the same one does not change.
    mortal_since: Time,
    written_unix_us: u64,
    writer: SessionId,
    /// `SessionId::NONE`: unlocked.
    holder: SessionId,
    /// Where it stands among the locked ones, if it is one of them.
    lock_at: u32,
    /// Which shards want it, as of interest generation `wanted_as_of`.
    pub wanted: u64,
    pub wanted_as_of: u32,
    ttl: Option<Ttl>,
    pub rule: Rule,
    live: bool,
    /// Belongs to the bundle in hand, so that making room for it does not evict it.
    guarded: bool,
}

const VACANT: Param = Param {
    address: Block::EMPTY,
    value: Block::EMPTY,
    hash: 0,
    revision: 0,
    written: Time(0),
    mortal_since: Time(0),
    written_unix_us: 0,
    writer: SessionId::NONE,
    holder: SessionId::NONE,
    lock_at: 0,
    wanted: 0,
    wanted_as_of: 0,
    ttl: None,
    rule: Rule::Last,
    live: false,
    guarded: false,
};

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

/// A write that was checked and has its memory, so that applying it cannot fail.
#[derive(Clone, Copy)]
pub(crate) struct Staged {
    /// Empty where the param exists, or an earlier write of the same bundle makes it.
    address: Block,
    value: Block,
}

impl Staged {
    /// Bytes of the value, with its type code.
    pub(crate) fn value_len(&self) -> usize {
        self.value.len() as usize
    }
}

pub(crate) struct Store {
    params: Vec<Param>,
    /// One past the highest slot that was ever live.
    slots: u32,
    free: Vec<u32>,
    index: Index,
    arena: Arena,
    expiry: Timers,
    locked: Vec<(SessionId, u32)>,
    /// A ring.
    ended: Vec<SessionId>,
    ended_next: usize,
    tombstones: Vec<(u64, u64)>,
    /// Params that may be evicted, least recently written first.
    evictable: Line,
    live: u32,
    seed: [u64; 2],
    default_ttl: Option<Span>,
    rules: Vec<RuleFor>,
    merged: Vec<u8>,
    pub evicted: u64,
}

impl Store {
    pub(crate) fn new(
        limits: &Limits,
        seed: [u64; 2],
        default_ttl: Option<Span>,
        rules: &[RuleFor],
    ) -> Self {
        let max = limits.params_max;
        let mut params = Vec::new();
        params.resize(max as usize, VACANT);
        Self {
            params,
            slots: 0,
            free: (0..max).rev().collect(),
            index: Index::new(max),
            arena: Arena::new(limits.param_bytes_max),
            expiry: Timers::new(max),
            locked: Vec::with_capacity(LOCKS_MAX),
            ended: alloc::vec![SessionId::NONE; ENDED_MAX],
            ended_next: 0,
            tombstones: alloc::vec![(0, 0); limits.tombstones_max.max(1) as usize],
            evictable: Line::new(max),
            live: 0,
            seed,
            default_ttl,
            rules: rules.to_vec(),
            merged: Vec::with_capacity(PARAM_BYTES_MAX),
            evicted: 0,
        }
    }

    /// Bytes taken by [`Store::new`].
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.params.len() * (size_of::<Param>() + size_of::<u32>())
            + self.tombstones.len() * size_of::<(u64, u64)>()
            + LOCKS_MAX * size_of::<(SessionId, u32)>()
            + ENDED_MAX * size_of::<SessionId>()
            + self.rules_bytes()
            + PARAM_BYTES_MAX) as u64
            + self.index.memory_bytes()
            + self.expiry.memory_bytes()
            + self.evictable.memory_bytes()
            + self.arena.memory_bytes()
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

    pub(crate) fn hash(&self, address: &str) -> u64 {
        index::hash(self.seed, address.as_bytes())
    }

    pub(crate) fn find(&self, hash: u64, address: &str) -> Option<u32> {
        self.index.find(hash, |slot| {
            let param = &self.params[slot as usize];
            param.hash == hash && self.arena.get(param.address) == address.as_bytes()
        })
    }

    pub(crate) fn param(&self, slot: u32) -> &Param {
        &self.params[slot as usize]
    }

    pub(crate) fn param_mut(&mut self, slot: u32) -> &mut Param {
        &mut self.params[slot as usize]
    }

    pub(crate) fn revision(&self, slot: u32) -> u64 {
        self.params[slot as usize].revision
    }

    pub(crate) fn value(&self, slot: u32) -> Value<'_> {
        value_in(self.arena.get(self.params[slot as usize].value))
    }

    pub(crate) fn address(&self, slot: u32) -> &str {
        core::str::from_utf8(self.arena.get(self.params[slot as usize].address)).unwrap_or_default()
    }

    /// What a SNAPSHOT says of `slot`, if a param lives there; `writer` holds its text meanwhile.
    pub(crate) fn entry<'a>(
        &'a self,
        slot: u32,
        writer: &'a mut Option<super::session_id::Text>,
    ) -> Option<ParamValue<'a>> {
        let param = &self.params[slot as usize];
        if !param.live {
            return None;
        }
        if param.writer != SessionId::NONE {
            *writer = Some(param.writer.text());
        }
        Some(ParamValue {
            address: self.address(slot),
            value: self.value(slot),
            revision: param.revision,
            writer: writer.as_ref().map(|text| text.as_str()),
            timestamp_us: Some(param.written_unix_us),
        })
    }

    /// Whether `set` may be applied to what is held, earlier writes of its bundle counted in.
    pub(crate) fn check(
        &self,
        slot: Option<u32>,
        set: &Set<'_>,
        writer: SessionId,
        ahead: Ahead,
    ) -> Result<(), Refused> {
        let got = set.address.len() + set.value.encoded_len();
        if got > PARAM_BYTES_MAX {
            return Err(Refused::TooLong { got });
        }
        let held = slot.map_or(&VACANT, |slot| &self.params[slot as usize]);
        let actual = held.revision + ahead.writes;
        // A first write may name any revision.
        if let Some(expected) = set.revision
            && expected != actual
            && actual > 0
        {
            return Err(Refused::Revision { expected, actual });
        }
        let holder = ahead.lock.unwrap_or(held.holder);
        if holder != SessionId::NONE && holder != writer {
            return Err(Refused::Locked { holder });
        }
        if set.lock
            && holder != writer
            && (self.locked.len() + ahead.locks >= LOCKS_MAX
                || ahead.locks_held + ahead.locks >= LOCKS_PER_SESSION_MAX)
        {
            return Err(Refused::Busy { what: "locks" });
        }
        Ok(())
    }

    /// Locks that `session` has.
    pub(crate) fn locks_of(&self, session: SessionId) -> usize {
        self.locked.iter().filter(|(holder, _)| *holder == session).count()
    }

    /// Whether the param's rule takes `offered`; `Lock` and `Merge` have their own ways.
    pub(crate) fn takes(&self, slot: Option<u32>, offered: Value<'_>) -> Result<(), Refused> {
        let Some(slot) = slot else { return Ok(()) };
        let rule = self.params[slot as usize].rule;
        match verdict(rule, self.value(slot).as_f64(), offered.as_f64()) {
            Verdict::Take => Ok(()),
            Verdict::Keep => Err(Refused::Outruled { rule }),
        }
    }

    /// Applies one checked write. Fails only for want of room, and then changes nothing.
    pub(crate) fn apply(
        &mut self,
        by: Stamp,
        slot: Option<u32>,
        hash: u64,
        set: &Set<'_>,
    ) -> Result<u32, Refused> {
        let held = slot.map(|slot| self.params[slot as usize].value);
        let rule = slot.map_or(Rule::Last, |slot| self.params[slot as usize].rule);
        let merged = self.merge(rule, held, set.value)?;
        let bytes: [&[u8]; 2] = match &merged {
            Some(map) => [&[value::code::MAP], map],
            None => [core::slice::from_ref(&set.value.code), set.value.data],
        };
        let done = match slot {
            Some(slot) => self.overwrite(slot, &bytes).map(|()| slot),
            None => self.insert(hash, set.address, &bytes),
        };
        if let Some(map) = merged {
            self.merged = map;
        }
        let slot = done?;
        self.written(by, slot, set);
        Ok(slot)
    }

    /// Takes the memory that a write of a bundle needs. `earlier`: the last write of the same
    /// bundle to the same address.
    pub(crate) fn stage(
        &mut self,
        slot: Option<u32>,
        set: &Set<'_>,
        earlier: Option<Staged>,
    ) -> Result<Staged, Refused> {
        let rule = match slot {
            Some(slot) => self.params[slot as usize].rule,
            None => self.rule_of(set.address),
        };
        let held = slot.map(|slot| self.params[slot as usize].value);
        let merged = self.merge(rule, earlier.map(|earlier| earlier.value).or(held), set.value)?;
        let value = match &merged {
            Some(map) => self.put(&[&[value::code::MAP], map]),
            None => self.put(&[&[set.value.code], set.value.data]),
        };
        if let Some(map) = merged {
            self.merged = map;
        }
        let value = value?;
        if slot.is_some() || earlier.is_some() {
            return Ok(Staged { address: Block::EMPTY, value });
        }
        match self.put(&[set.address.as_bytes()]) {
            Ok(address) => Ok(Staged { address, value }),
            Err(full) => {
                self.arena.free(value);
                Err(full)
            }
        }
    }

    pub(crate) fn unstage(&mut self, staged: Staged) {
        self.arena.free(staged.address);
        self.arena.free(staged.value);
    }

    /// Applies a staged write; room was made sure of by [`Store::make_room`].
    pub(crate) fn commit(&mut self, by: Stamp, hash: u64, set: &Set<'_>, staged: Staged) -> u32 {
        let slot = match self.find(hash, set.address) {
            Some(slot) => {
                let value = &mut self.params[slot as usize].value;
                let old = core::mem::replace(value, staged.value);
                self.arena.free(old);
                slot
            }
            None => {
                let slot = self.free.pop().expect("make_room left a slot for every new address");
                self.place(slot, hash, set.address, staged.address, staged.value);
                slot
            }
        };
        self.written(by, slot, set);
        slot
    }

    /// Guards `slot` from eviction until [`Store::unguard`].
    pub(crate) fn guard(&mut self, slot: u32) {
        self.params[slot as usize].guarded = true;
        self.evictable.leave(slot);
    }

    pub(crate) fn unguard(&mut self, slot: u32) {
        self.params[slot as usize].guarded = false;
        self.requeue(slot);
    }

    /// Evicts until `wanted` more params fit.
    pub(crate) fn make_room(&mut self, wanted: usize) -> Result<(), Refused> {
        while self.free.len() < wanted {
            if !self.evict_one() {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    /// Releases what `session` had locked. What it sent before takes no lock any more.
    pub(crate) fn end_session(&mut self, session: SessionId) {
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

    fn due(&self, slot: u32) -> Option<Time> {
        let param = &self.params[slot as usize];
        match param.ttl {
            Some(Ttl::Never) => None,
            Some(Ttl::Sliding(s)) => Some(param.written + Span::from_secs(u64::from(s))),
            Some(Ttl::Absolute(s)) => Some(param.mortal_since + Span::from_secs(u64::from(s))),
            None => self.default_ttl.map(|ttl| param.written + ttl),
        }
    }

    /// The map that a merge rule makes of held and offered; `None` where the offered value stands.
    fn merge(
        &mut self,
        rule: Rule,
        held: Option<Block>,
        offered: Value<'_>,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let (Rule::Merge, Some(held)) = (rule, held) else { return Ok(None) };
        let mut out = core::mem::take(&mut self.merged);
        let merged = merge_maps(value_in(self.arena.get(held)), offered, &mut out);
        if merged == Ok(true) {
            return Ok(Some(out));
        }
        self.merged = out;
        merged.map(|_| None)
    }

    fn overwrite(&mut self, slot: u32, bytes: &[&[u8]]) -> Result<(), Refused> {
        let mut value = self.params[slot as usize].value;
        // What is written does not make room for itself.
        self.evictable.leave(slot);
        while self.arena.replace(&mut value, bytes).is_err() {
            if !self.evict_one() {
                self.requeue(slot);
                return Err(Refused::Full);
            }
        }
        self.params[slot as usize].value = value;
        Ok(())
    }

    fn insert(&mut self, hash: u64, address: &str, value: &[&[u8]]) -> Result<u32, Refused> {
        self.make_room(1)?;
        let value = self.put(value)?;
        let address_block = match self.put(&[address.as_bytes()]) {
            Ok(block) => block,
            Err(full) => {
                self.arena.free(value);
                return Err(full);
            }
        };
        let slot = self.free.pop().ok_or(Refused::Full)?;
        self.place(slot, hash, address, address_block, value);
        Ok(slot)
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

    fn place(&mut self, slot: u32, hash: u64, address: &str, key: Block, value: Block) {
        self.params[slot as usize] = Param {
            address: key,
            value,
            hash,
            revision: self.buried(hash),
            rule: self.rule_of(address),
            live: true,
            ..VACANT
        };
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.live += 1;
        self.slots = self.slots.max(slot + 1);
    }

    fn rule_of(&self, address: &str) -> Rule {
        let found = self.rules.iter().find(|rule| pattern::matches(&rule.pattern, address));
        found.map_or(Rule::Last, |found| found.rule)
    }

    /// What every accepted write changes, however its value got there.
    fn written(&mut self, by: Stamp, slot: u32, set: &Set<'_>) {
        let param = &mut self.params[slot as usize];
        param.revision += 1;
        param.written = by.now;
        param.written_unix_us = by.unix_us;
        param.writer = by.writer;
        if let Some(ttl) = set.ttl.map(lasting_if_zero) {
            if param.ttl != Some(ttl) {
                param.mortal_since = by.now;
            }
            param.ttl = Some(ttl);
        }
        let first_writer_locks = param.rule == Rule::Lock && param.revision == 1;
        let wants_lock = set.lock || (first_writer_locks && !set.unlock);
        if wants_lock {
            self.lock(slot, by.holder);
        } else if set.unlock {
            self.unlock(slot);
        }
        self.requeue(slot);
        if self.expiry.get(slot).is_none() || set.ttl.is_some() {
            match self.due(slot) {
                Some(due) => self.expiry.set(slot, due),
                None => self.expiry.clear(slot),
            }
        }
    }

    fn lock(&mut self, slot: u32, holder: SessionId) {
        let param = &mut self.params[slot as usize];
        let nobody = holder == SessionId::NONE || self.ended.contains(&holder);
        if param.holder != holder && !nobody && self.locked.len() < LOCKS_MAX {
            param.holder = holder;
            param.lock_at = self.locked.len() as u32;
            self.locked.push((holder, slot));
        }
    }

    fn unlock(&mut self, slot: u32) {
        let Param { holder, lock_at, .. } = &mut self.params[slot as usize];
        if core::mem::replace(holder, SessionId::NONE) == SessionId::NONE {
            return;
        }
        let at = *lock_at as usize;
        self.locked.swap_remove(at);
        if let Some(&(_, moved)) = self.locked.get(at) {
            self.params[moved as usize].lock_at = at as u32;
        }
    }

    /// Puts `slot` last in the line for eviction, or takes it out of the line if it must stay.
    fn requeue(&mut self, slot: u32) {
        let param = &self.params[slot as usize];
        if param.guarded || param.holder != SessionId::NONE || param.ttl == Some(Ttl::Never) {
            self.evictable.leave(slot);
        } else {
            self.evictable.join(slot);
        }
    }

    fn evict_one(&mut self) -> bool {
        let Some(slot) = self.evictable.first() else { return false };
        self.remove(slot);
        self.evicted += 1;
        true
    }

    fn remove(&mut self, slot: u32) {
        self.unlock(slot);
        self.evictable.leave(slot);
        self.expiry.clear(slot);
        let param = core::mem::replace(&mut self.params[slot as usize], VACANT);
        self.index.remove(param.hash, slot);
        self.arena.free(param.address);
        self.arena.free(param.value);
        self.free.push(slot);
        self.live -= 1;
        let grave = (param.hash % self.tombstones.len() as u64) as usize;
        self.tombstones[grave] = (param.hash, param.revision);
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
        Rule::Last | Rule::Lock | Rule::Merge => true,
        Rule::Max => offered > held || held.is_nan(),
        Rule::Min => offered < held || held.is_nan(),
    };
    if take { Verdict::Take } else { Verdict::Keep }
}

/// Writes to `out` the data of the map that has the keys of both, `offered` winning.
///
/// `Ok(false)` if one of them is no map. Held keys keep their order, new ones follow.
fn merge_maps(held: Value<'_>, offered: Value<'_>, out: &mut Vec<u8>) -> Result<bool, Refused> {
    let (Some(old), Some(_)) = (held.map(), offered.map()) else { return Ok(false) };
    out.clear();
    out.extend_from_slice(&[0, 0]);
    let mut keys = 0;
    for (key, value) in old {
        push_entry(key, offered.get(key).unwrap_or(value), out);
        keys += 1;
    }
    for (key, value) in offered.map().into_iter().flatten() {
        if held.get(key).is_none() {
            push_entry(key, value, out);
            keys += 1;
        }
        if keys > MERGED_KEYS_MAX {
            return Err(Refused::TooWide);
        }
    }
    if out.len() > PARAM_BYTES_MAX - crate::limits::ADDRESS_BYTES_MAX {
        return Err(Refused::TooLong { got: out.len() });
    }
    out[..2].copy_from_slice(&(keys as u16).to_be_bytes());
    Ok(true)
}

fn push_entry(key: &str, value: Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.push(value.code);
    out.extend_from_slice(value.data);
}
#[cfg(test)]
mod tests;

//! The params of one home: their last values, revisions, locks, rules and lives.

use alloc::vec::Vec;

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

/// Params locked at once, at most.
const LOCKS_MAX: usize = 4_096;
/// Keys of a merged map, at most.
const MERGED_KEYS_MAX: usize = 256;
/// How many of the least recently written params are looked at to find one that may go.
const EVICTION_SCAN_MAX: usize = 64;

const NONE: u32 = u32::MAX;

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
    created: Time,
    written_unix_us: u64,
    writer: SessionId,
    /// `SessionId::NONE`: unlocked.
    holder: SessionId,
    /// Which shards want it, as of interest generation `wanted_as_of`.
    pub wanted: u64,
    pub wanted_as_of: u32,
    newer: u32,
    older: u32,
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
    created: Time(0),
    written_unix_us: 0,
    writer: SessionId::NONE,
    holder: SessionId::NONE,
    wanted: 0,
    wanted_as_of: 0,
    newer: NONE,
    older: NONE,
    ttl: None,
    rule: Rule::Last,
    live: false,
    guarded: false,
};

/// When, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant {
    pub now: Time,
    pub unix_us: u64,
}

/// A write that was checked and has its memory, so that applying it cannot fail.
#[derive(Clone, Copy)]
pub(crate) struct Staged {
    /// Empty where the param exists, or an earlier write of the same bundle makes it.
    address: Block,
    value: Block,
}

pub(crate) struct Store {
    params: Vec<Param>,
    /// One past the highest slot that was ever live.
    slots: u32,
    free: Vec<u32>,
    index: Index,
    arena: Arena,
    expiry: Timers,
    locked: Vec<u32>,
    tombstones: Vec<(u64, u64)>,
    newest: u32,
    oldest: u32,
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
            tombstones: alloc::vec![(0, 0); limits.tombstones_max.max(1) as usize],
            newest: NONE,
            oldest: NONE,
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
            + LOCKS_MAX * size_of::<u32>()
            + PARAM_BYTES_MAX) as u64
            + self.index.memory_bytes()
            + self.expiry.memory_bytes()
            + self.arena.memory_bytes()
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
        let bytes = self.arena.get(self.params[slot as usize].value);
        Value { code: bytes[0], data: &bytes[1..] }
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

    /// Whether `set` may be applied to what is held, `ahead` earlier writes of its bundle counted in.
    ///
    /// `lock` is the holder as those earlier writes leave it; `None`: as the param has it.
    pub(crate) fn check(
        &self,
        slot: Option<u32>,
        set: &Set<'_>,
        writer: SessionId,
        ahead: u64,
        lock: Option<SessionId>,
    ) -> Result<(), Refused> {
        let got = set.address.len() + set.value.encoded_len();
        if got > PARAM_BYTES_MAX {
            return Err(Refused::TooLong { got });
        }
        if set.lock && self.locked.len() == LOCKS_MAX {
            return Err(Refused::Busy { what: "locks" });
        }
        let Some(slot) = slot else {
            // A first write may name any revision; a second one of the same bundle may not.
            return match (set.revision, ahead) {
                (Some(expected), actual) if actual > 0 && expected != actual => {
                    Err(Refused::Revision { expected, actual })
                }
                _ => check_lock(lock.unwrap_or(SessionId::NONE), writer),
            };
        };
        let held = &self.params[slot as usize];
        let actual = held.revision + ahead;
        if let Some(expected) = set.revision
            && expected != actual
        {
            return Err(Refused::Revision { expected, actual });
        }
        check_lock(lock.unwrap_or(held.holder), writer)
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
        at: Instant,
        slot: Option<u32>,
        hash: u64,
        set: &Set<'_>,
        writer: SessionId,
    ) -> Result<u32, Refused> {
        let merged = self.merge(slot, set.value)?;
        let bytes: [&[u8]; 2] = match &merged {
            Some(map) => [&[value::code::MAP], map],
            None => [core::slice::from_ref(&set.value.code), set.value.data],
        };
        let done = match slot {
            Some(slot) => self.overwrite(slot, &bytes).map(|()| slot),
            None => self.insert(at, hash, set.address, &bytes),
        };
        if let Some(map) = merged {
            self.merged = map;
        }
        let slot = done?;
        self.written(at, slot, set, writer);
        Ok(slot)
    }

    /// Takes the memory that a write of a bundle needs. `first`: no earlier write makes its address.
    pub(crate) fn stage(
        &mut self,
        slot: Option<u32>,
        first: bool,
        set: &Set<'_>,
    ) -> Result<Staged, Refused> {
        let value = self.put(&[&[set.value.code], set.value.data])?;
        let address = if slot.is_none() && first {
            match self.put(&[set.address.as_bytes()]) {
                Ok(block) => block,
                Err(full) => {
                    self.arena.free(value);
                    return Err(full);
                }
            }
        } else {
            Block::EMPTY
        };
        Ok(Staged { address, value })
    }

    pub(crate) fn unstage(&mut self, staged: Staged) {
        self.arena.free(staged.address);
        self.arena.free(staged.value);
    }

    /// Applies a staged write; room was made sure of by [`Store::make_room`].
    pub(crate) fn commit(
        &mut self,
        at: Instant,
        hash: u64,
        set: &Set<'_>,
        writer: SessionId,
        staged: Staged,
    ) -> u32 {
        let slot = match self.find(hash, set.address) {
            Some(slot) => {
                let merges = self.params[slot as usize].rule == Rule::Merge;
                if merges && let Ok(Some(map)) = self.merge(Some(slot), set.value) {
                    let _ = self.overwrite(slot, &[&[value::code::MAP], &map]);
                    self.merged = map;
                    self.unstage(staged);
                } else {
                    let old =
                        core::mem::replace(&mut self.params[slot as usize].value, staged.value);
                    self.arena.free(old);
                    self.arena.free(staged.address);
                }
                slot
            }
            None => {
                let slot = self.free.pop().expect("make_room left a slot for every new address");
                self.place(at, slot, hash, set.address, staged.address, staged.value);
                slot
            }
        };
        self.written(at, slot, set, writer);
        slot
    }

    /// Guards `slot` from eviction until [`Store::unguard`].
    pub(crate) fn guard(&mut self, slot: u32) {
        self.params[slot as usize].guarded = true;
    }

    pub(crate) fn unguard(&mut self, slot: u32) {
        self.params[slot as usize].guarded = false;
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

    /// Releases what `session` had locked.
    pub(crate) fn release_locks(&mut self, session: SessionId) {
        let params = &mut self.params;
        self.locked.retain(|&slot| {
            let param = &mut params[slot as usize];
            let released = param.live && param.holder == session;
            if released {
                param.holder = SessionId::NONE;
            }
            !released
        });
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
            Some(Ttl::Absolute(s)) => Some(param.created + Span::from_secs(u64::from(s))),
            None => self.default_ttl.map(|ttl| param.written + ttl),
        }
    }

    /// The map that a merge rule makes of held and offered; `None` where the offered value stands.
    fn merge(&mut self, slot: Option<u32>, offered: Value<'_>) -> Result<Option<Vec<u8>>, Refused> {
        let Some(slot) = slot else { return Ok(None) };
        if self.params[slot as usize].rule != Rule::Merge {
            return Ok(None);
        }
        let mut out = core::mem::take(&mut self.merged);
        let merged = merge_maps(self.value(slot), offered, &mut out);
        match merged {
            Ok(true) => Ok(Some(out)),
            Ok(false) => {
                self.merged = out;
                Ok(None)
            }
            Err(refused) => {
                self.merged = out;
                Err(refused)
            }
        }
    }

    fn overwrite(&mut self, slot: u32, bytes: &[&[u8]]) -> Result<(), Refused> {
        let mut value = self.params[slot as usize].value;
        self.params[slot as usize].guarded = true;
        let done = loop {
            if self.arena.replace(&mut value, bytes).is_ok() {
                break Ok(());
            }
            if !self.evict_one() {
                break Err(Refused::Full);
            }
        };
        let param = &mut self.params[slot as usize];
        param.guarded = false;
        param.value = value;
        done
    }

    fn insert(
        &mut self,
        at: Instant,
        hash: u64,
        address: &str,
        value: &[&[u8]],
    ) -> Result<u32, Refused> {
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
        self.place(at, slot, hash, address, address_block, value);
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

    fn place(
        &mut self,
        at: Instant,
        slot: u32,
        hash: u64,
        address: &str,
        key: Block,
        value: Block,
    ) {
        let rule = self
            .rules
            .iter()
            .find(|rule| pattern::matches(&rule.pattern, address))
            .map_or(Rule::Last, |rule| rule.rule);
        self.params[slot as usize] = Param {
            address: key,
            value,
            hash,
            revision: self.buried(hash),
            created: at.now,
            rule,
            live: true,
            ..VACANT
        };
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.live += 1;
        self.slots = self.slots.max(slot + 1);
        self.link_newest(slot);
    }

    /// What every accepted write changes, however its value got there.
    fn written(&mut self, at: Instant, slot: u32, set: &Set<'_>, writer: SessionId) {
        self.unlink(slot);
        self.link_newest(slot);
        let param = &mut self.params[slot as usize];
        param.revision += 1;
        param.written = at.now;
        param.written_unix_us = at.unix_us;
        param.writer = writer;
        if let Some(ttl) = set.ttl {
            // An absolute time of no seconds is what one client writes for "never".
            param.ttl = Some(if ttl == Ttl::Absolute(0) { Ttl::Never } else { ttl });
        }
        let first_writer_locks = param.rule == Rule::Lock && param.revision == 1;
        let wants_lock = set.lock || (first_writer_locks && !set.unlock);
        if set.unlock {
            param.holder = SessionId::NONE;
        }
        if wants_lock && writer != SessionId::NONE {
            self.lock(slot, writer);
        }
        if self.expiry.get(slot).is_none() || set.ttl.is_some() {
            match self.due(slot) {
                Some(due) => self.expiry.set(slot, due),
                None => self.expiry.clear(slot),
            }
        }
    }

    fn lock(&mut self, slot: u32, writer: SessionId) {
        if !self.locked.contains(&slot) {
            if self.locked.len() == LOCKS_MAX {
                return;
            }
            self.locked.push(slot);
        }
        self.params[slot as usize].holder = writer;
    }

    fn evict_one(&mut self) -> bool {
        let mut slot = self.oldest;
        for _ in 0..EVICTION_SCAN_MAX {
            if slot == NONE {
                return false;
            }
            let param = &self.params[slot as usize];
            let bound =
                param.guarded || param.holder != SessionId::NONE || param.ttl == Some(Ttl::Never);
            if !bound {
                self.remove(slot);
                self.evicted += 1;
                return true;
            }
            slot = param.newer;
        }
        false
    }

    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.expiry.clear(slot);
        let param = core::mem::replace(&mut self.params[slot as usize], VACANT);
        self.index.remove(param.hash, slot);
        self.arena.free(param.address);
        self.arena.free(param.value);
        self.free.push(slot);
        self.live -= 1;
        if param.holder != SessionId::NONE {
            self.locked.retain(|&locked| locked != slot);
        }
        let grave = (param.hash % self.tombstones.len() as u64) as usize;
        self.tombstones[grave] = (param.hash, param.revision);
    }

    /// The revision that an address had when it went; 0 if unknown.
    fn buried(&self, hash: u64) -> u64 {
        let (buried, revision) = self.tombstones[(hash % self.tombstones.len() as u64) as usize];
        if buried == hash { revision } else { 0 }
    }

    fn link_newest(&mut self, slot: u32) {
        let param = &mut self.params[slot as usize];
        param.older = self.newest;
        param.newer = NONE;
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.params[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Param { newer, older, .. } = self.params[slot as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.params[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.params[older as usize].newer = newer,
        }
    }
}

fn check_lock(holder: SessionId, writer: SessionId) -> Result<(), Refused> {
    if holder == SessionId::NONE || holder == writer {
        Ok(())
    } else {
        Err(Refused::Locked { holder })
    }
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
mod tests {
    use super::*;

    const A: SessionId = SessionId([1; 16]);
    const B: SessionId = SessionId([2; 16]);

    fn store(params_max: u32) -> Store {
        let limits = Limits { params_max, param_bytes_max: 1 << 20, ..Limits::default() };
        let rule = |pattern: &str, rule| RuleFor { pattern: pattern.into(), rule };
        let rules = [
            rule("/max/**", Rule::Max),
            rule("/min/**", Rule::Min),
            rule("/lock/**", Rule::Lock),
            rule("/merge/**", Rule::Merge),
        ];
        Store::new(&limits, [5, 6], None, &rules)
    }

    fn set<'a>(address: &'a str, data: &'a [u8]) -> Set<'a> {
        let value = Value { code: value::code::I8, data };
        Set { address, value, revision: None, lock: false, unlock: false, ttl: None }
    }

    fn write(
        store: &mut Store,
        at_s: u64,
        set: &Set<'_>,
        writer: SessionId,
    ) -> Result<u64, Refused> {
        let hash = store.hash(set.address);
        let slot = store.find(hash, set.address);
        store.check(slot, set, writer, 0, None)?;
        store.takes(slot, set.value)?;
        let at = Instant { now: Time(at_s * 1_000_000_000), unix_us: at_s * 1_000_000 };
        let slot = store.apply(at, slot, hash, set, writer)?;
        Ok(store.revision(slot))
    }

    fn held(store: &Store, address: &str) -> Option<i64> {
        store.find(store.hash(address), address).and_then(|slot| store.value(slot).as_i64())
    }

    #[test]
    fn revisions_rise_by_one_and_a_wrong_expectation_is_refused() {
        let mut s = store(4);
        assert_eq!(write(&mut s, 0, &Set { revision: Some(77), ..set("/a", &[1]) }, A), Ok(1));
        assert_eq!(write(&mut s, 0, &set("/a", &[2]), A), Ok(2));
        let stale = Set { revision: Some(1), ..set("/a", &[3]) };
        assert_eq!(write(&mut s, 0, &stale, A), Err(Refused::Revision { expected: 1, actual: 2 }));
        assert_eq!(held(&s, "/a"), Some(2));
    }

    #[test]
    fn only_the_holder_writes_and_unlocks_a_locked_param() {
        let mut s = store(4);
        let lock = Set { lock: true, ..set("/a", &[1]) };
        let unlock = Set { unlock: true, ..set("/a", &[2]) };
        write(&mut s, 0, &lock, A).unwrap();
        assert_eq!(write(&mut s, 0, &set("/a", &[9]), B), Err(Refused::Locked { holder: A }));
        assert_eq!(write(&mut s, 0, &unlock, B), Err(Refused::Locked { holder: A }));
        write(&mut s, 0, &unlock, A).unwrap();
        assert_eq!(write(&mut s, 0, &set("/a", &[9]), B), Ok(3));
        write(&mut s, 0, &Set { lock: true, ..set("/a", &[4]) }, B).unwrap();
        s.release_locks(B);
        assert_eq!(write(&mut s, 0, &set("/a", &[5]), A), Ok(5));
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        let mut s = store(8);
        let cases: [(&str, &[i8], i64); 4] = [
            ("/plain", &[5, 3, 7, 1], 1),
            ("/max/a", &[5, 3, 7, 1], 7),
            ("/min/a", &[5, 3, 7, 1], 1),
            ("/lock/a", &[5, 3], 3),
        ];
        for (address, writes, kept) in cases {
            for w in writes {
                let _ = write(&mut s, 0, &set(address, &[*w as u8]), A);
            }
            assert_eq!(held(&s, address), Some(kept), "{address}");
        }
        assert_eq!(write(&mut s, 0, &set("/lock/a", &[8]), B), Err(Refused::Locked { holder: A }));
    }

    #[test]
    fn merged_maps_keep_old_keys_and_take_new_values() {
        let map = |entries: &[(&str, u8)]| {
            let mut data = alloc::vec![0, entries.len() as u8];
            for (key, v) in entries {
                push_entry(key, Value { code: value::code::I8, data: &[*v] }, &mut data);
            }
            data
        };
        let (old, new) = (map(&[("x", 1), ("y", 2)]), map(&[("y", 3), ("z", 4)]));
        let mut s = store(4);
        for data in [&old, &new] {
            let value = Value { code: value::code::MAP, data };
            write(&mut s, 0, &Set { value, ..set("/merge/a", &[]) }, A).unwrap();
        }
        let slot = s.find(s.hash("/merge/a"), "/merge/a").unwrap();
        let merged = s.value(slot);
        let want = [("x", 1), ("y", 3), ("z", 4)];
        assert_eq!(merged.map().unwrap().count(), want.len());
        for (key, v) in want {
            assert_eq!(merged.get(key).and_then(|v| v.as_i64()), Some(v), "{key}");
        }
    }

    #[test]
    fn a_param_expires_on_its_second_and_its_revision_goes_on() {
        let ttl = |ttl| Set { ttl: Some(ttl), ..set("/a", &[1]) };
        // (ttl, second of a later write without ttl, second at which it is gone)
        let cases = [
            (Ttl::Sliding(5), 3, Some(8)),
            (Ttl::Absolute(5), 3, Some(5)),
            (Ttl::Never, 3, None),
            (Ttl::Absolute(0), 3, None),
        ];
        for (life, again_s, gone_s) in cases {
            let mut s = store(4);
            write(&mut s, 0, &ttl(life), A).unwrap();
            write(&mut s, again_s, &set("/a", &[2]), A).unwrap();
            let mut gone = None;
            for second in again_s..20 {
                if s.expire(Time(second * 1_000_000_000)).is_some() {
                    gone = Some(second);
                }
            }
            assert_eq!(gone, gone_s, "{life:?}");
            let revision = write(&mut s, 20, &set("/a", &[3]), A).unwrap();
            assert_eq!(revision, 3, "{life:?}");
        }
    }

    #[test]
    fn the_least_recently_written_goes_but_never_a_locked_or_lasting_one() {
        let mut s = store(3);
        write(&mut s, 0, &Set { lock: true, ..set("/locked", &[1]) }, A).unwrap();
        write(&mut s, 1, &Set { ttl: Some(Ttl::Never), ..set("/never", &[1]) }, A).unwrap();
        write(&mut s, 2, &set("/old", &[1]), A).unwrap();
        write(&mut s, 3, &Set { ttl: Some(Ttl::Never), ..set("/new", &[1]) }, A).unwrap();
        assert_eq!(held(&s, "/old"), None);
        assert_eq!(s.evicted, 1);
        assert_eq!(write(&mut s, 4, &set("/more", &[1]), A), Err(Refused::Full));
        assert_eq!(s.len(), 3);
    }
}

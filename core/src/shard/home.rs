//! The home of an address: it orders all changes, keeps the param, and tells every shard that
//! listens.

use alloc::vec::Vec;

use super::audience::Audience;
use super::contend;
use super::input::Lane;
use super::known::{Met, Place};
use super::marker::{self, Tag};
use super::record::{Origin, Record};
use super::refused::Refused;
use super::session_id::SessionId;
use super::settings::Rule;
use super::store::Ahead;
use super::{Effects, RECORD_BYTES_MAX, Shard, TURN_MAX, scope};
use crate::address::{self, text_of};
use crate::index;
use crate::limits::Limits;
use crate::message::{Ack, Announce, Message, RawPublish, RawSet};
use crate::pattern;
use crate::signal::{Qos, Signal};
use crate::time::Span;
use crate::trie::Trie;
use crate::value::Value;
use crate::wire::binary::{self, ResultBuilder, SnapshotBuilder};
use crate::wire::list::Params;
use crate::{LinkId, ShardId};

/// Shards of one router at most: they are kept as bits of a word.
pub const SHARDS_MAX: u16 = 64;
/// Slots that one part of a snapshot looks at, at most.
const SCAN_MAX: u32 = 2_048;
/// Bytes at which a part of a snapshot ends, unless it is a home's first: to make and send so many
/// takes about as long as one hop. The first one is as long as a frame may be, so that who needs no
/// more than that has all at once.
const PART_BYTES: usize = 8_000;
/// A session whose token allows everything, or that needs none.
pub(super) const UNLIMITED: u32 = u32::MAX;
/// The cursor of a snapshot that is complete.
pub(super) const END: u32 = u32::MAX;

/// Which other shards want which addresses of this home.
pub(super) struct Interests {
    trie: Option<Trie>,
    /// Shards that are told of everything, because their patterns found no room. Too much does no
    /// harm: the shard that listens matches again.
    all: u64,
    /// Raised by every change, so that what is remembered of it is known to hold no more.
    changes: u64,
}

impl Interests {
    pub(super) fn new(limits: &Limits, shards: u16, seed: [u64; 2]) -> Self {
        assert!((1..=SHARDS_MAX).contains(&shards), "1 to {SHARDS_MAX} shards");
        let patterns_max = limits.subscriptions_max.saturating_mul(u32::from(shards) - 1);
        let trie = (shards > 1).then(|| Trie::new(patterns_max, patterns_max, seed));
        Self { trie, all: 0, changes: 0 }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.trie.as_ref().map_or(0, Trie::memory_bytes)
    }

    /// A shard begins or ceases to want `pattern`.
    pub(super) fn change(&mut self, shard: ShardId, wanted: bool, pattern: &str) {
        let Some(trie) = &mut self.trie else { return };
        self.changes += 1;
        let entry = u32::from(shard.0);
        if wanted {
            if trie.insert(pattern, entry).is_err() {
                self.all |= 1 << entry;
            }
        } else {
            trie.remove(pattern, entry);
        }
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Shards that want `address`, as bits.
    pub(super) fn of(&self, address: &str) -> u64 {
        let mut shards = self.all;
        if let Some(trie) = &self.trie {
            trie.for_each_match(address, |shard| shards |= 1 << shard);
        }
        shards
    }
}

impl Shard {
    /// The shard that orders the changes of `address`.
    #[inline]
    pub(super) fn home_of(&self, address: impl AsRef<[u8]>) -> ShardId {
        match self.settings.shards {
            1 => self.settings.id,
            shards => {
                let key = address::home_key_bytes(address.as_ref());
                ShardId((index::hash(self.settings.seed, key) % u64::from(shards)) as u16)
            }
        }
    }

    /// The one home of all that `pattern` can match, if there is one.
    pub(super) fn home_of_pattern(&self, pattern: &str) -> Option<ShardId> {
        if self.settings.shards == 1 {
            return Some(self.settings.id);
        }
        // What a home itself says below `/clasp/` is said where it happens.
        if marker::is_reserved(pattern) {
            return None;
        }
        let key = address::home_key(pattern);
        let two_segments = key.bytes().filter(|&b| b == b'/').count() == 2;
        let single = !key.contains('*') && (two_segments || pattern::is_exact(pattern));
        single.then(|| self.home_of(pattern))
    }

    /// A SET, PUBLISH or ANNOUNCE that its ingress shard admitted.
    pub(super) fn write(&mut self, origin: &Origin, payload: &[u8], fx: &mut impl Effects) {
        match binary::decode(payload).expect("shards forward only what they decoded") {
            Message::Set(set) => self.settle(origin, &set.raw(), Met::New, fx),
            Message::Publish(publish) => self.publish(origin, &publish.raw(), None, None, fx),
            Message::Announce(announce) => self.announce(origin, &announce, fx),
            other => unreachable!("only writes are forwarded as such: {other:?}"),
        }
    }

    /// Decides a write, and tells everyone who listens, the writer included.
    #[inline]
    pub(super) fn settle(
        &mut self,
        origin: &Origin,
        set: &RawSet<'_>,
        met: Met,
        fx: &mut impl Effects,
    ) {
        match self.take(origin, set, met, fx) {
            Ok(revision) if origin.confirm => {
                self.acknowledge(origin, Some(text_of(set.address)), Some(revision), fx);
            }
            Ok(_) => {}
            Err(refused) => self.refuse(origin, refused, Some(text_of(set.address)), fx),
        }
    }

    /// Applies a write and distributes it: its new revision, or why it was not taken.
    #[inline]
    fn take(
        &mut self,
        origin: &Origin,
        set: &RawSet<'_>,
        met: Met,
        fx: &mut impl Effects,
    ) -> Result<u64, Refused> {
        let (place, hash, slot) = self.locate(met, set.address);
        let slot = match slot {
            Some(slot) if self.store.overwrites(slot, set) => {
                self.store.overwrite_in_place(self.stamp(origin), slot, set.value);
                slot
            }
            _ if self.is_arbitrated(slot, set.address) => {
                return self.contend(origin, None, set, (place, hash, slot), None, fx);
            }
            _ => self.weigh(origin, set, hash, slot)?,
        };
        if let Some(place) = place {
            self.known.set_slot(place, slot, self.store.removed());
        }
        if !self.timelines.is_empty() {
            self.timelines.stop(hash, set.address);
        }
        self.announce_change(origin, slot, hash, set, None, fx);
        Ok(self.store.revision(slot))
    }

    /// Applies a write that may be refused, or that needs memory. Returns where its param is.
    fn weigh(
        &mut self,
        origin: &Origin,
        set: &RawSet<'_>,
        hash: u64,
        slot: Option<u32>,
    ) -> Result<u32, Refused> {
        let locks_held = if set.lock { self.store.locks_of(origin.writer) } else { 0 };
        let ahead = Ahead { locks_held, ..Ahead::default() };
        self.store.check(slot, set, origin.writer, ahead)?;
        if let Err(outruled) = self.store.takes(slot, set.value) {
            self.counts.sets_outruled += 1;
            return Err(outruled);
        }
        self.store.apply(self.stamp(origin), slot, hash, set)
    }

    /// Where a checked address is known, its hash, and where its param is, if it has one.
    #[inline]
    fn locate(&mut self, met: Met, address: &[u8]) -> (Option<Place>, u64, Option<u32>) {
        if let Met::Param { hash, slot } = met {
            return (None, hash, Some(slot));
        }
        let (place, hash) = self.resolve(met.place(), address);
        let known = place.and_then(|place| self.known.slot(place, self.store.removed()));
        (place, hash, known.or_else(|| self.store.find(hash, address)))
    }

    /// Where a checked address is known, as long as it is not too long for that, and its hash.
    #[inline]
    fn resolve(&mut self, place: Option<Place>, address: &[u8]) -> (Option<Place>, u64) {
        if let Some(place) = place.or_else(|| self.known.find(address)) {
            return (Some(place), self.known.hash(place));
        }
        let hash = self.store.hash(address);
        (self.known.note(address, hash), hash)
    }

    /// Tells everyone who listens what the param in `slot` now holds.
    #[inline]
    pub(super) fn announce_change(
        &mut self,
        origin: &Origin,
        slot: u32,
        hash: u64,
        set: &RawSet<'_>,
        tag: Option<&Tag<'_>>,
        fx: &mut impl Effects,
    ) {
        self.counts.sets += 1;
        self.counts.params_evicted = self.store.evicted;
        let remembered = self.store.audience(slot);
        let audience = self.audience(remembered, set.address);
        if audience != remembered {
            self.store.set_audience(slot, audience);
        }
        if !self.is_heard(origin, audience) {
            return;
        }
        let mut frame = self.lend();
        let value = match self.store.rule(slot) {
            Rule::Merge => self.store.value(slot),
            _ => set.value,
        };
        let echo = RawSet { value, revision: Some(self.store.revision(slot)), ..*set };
        if binary::encode_set(&echo, Qos::Confirm, &mut frame).is_ok() {
            self.distribute(origin, hash, audience, tag, &frame, fx);
        }
        self.give_back(frame);
    }

    /// Tells everyone who listens, except the sender; nothing is kept but recent stream samples.
    /// `exact`: the frame that it came in, if that can go on as it is.
    pub(super) fn publish(
        &mut self,
        origin: &Origin,
        publish: &RawPublish<'_>,
        place: Option<Place>,
        exact: Option<&[u8]>,
        fx: &mut impl Effects,
    ) {
        self.counts.publishes += 1;
        let (place, hash) = self.resolve(place, publish.address);
        if let Some(frame) = exact {
            self.publish_frame(origin, hash, place, publish.signal, frame, fx);
        } else {
            let mut frame = self.lend();
            let qos = binary::qos_of_publish(publish.signal);
            if binary::encode_publish(publish, qos, &mut frame).is_ok() {
                self.publish_frame(origin, hash, place, publish.signal, &frame, fx);
            }
            self.give_back(frame);
        }
        if publish.signal == Some(Signal::Timeline) {
            self.start_timeline(origin, hash, publish, fx);
        }
    }

    #[inline]
    fn publish_frame(
        &mut self,
        origin: &Origin,
        hash: u64,
        place: Option<Place>,
        signal: Option<Signal>,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        if signal == Some(Signal::Stream) {
            self.history.push(self.now, hash, frame);
        }
        let remembered = place.map_or(Audience::UNKNOWN, |place| self.known.audience(place));
        let audience = self.audience(remembered, super::egress::address_bytes_of(frame));
        if let Some(place) = place {
            self.known.set_audience(place, audience);
        }
        self.distribute(origin, hash, audience, None, frame, fx);
    }

    fn start_timeline(
        &mut self,
        origin: &Origin,
        hash: u64,
        publish: &RawPublish<'_>,
        fx: &mut impl Effects,
    ) {
        // A timeline without a value is what the published clients send: only an announcement.
        let Some(value) = publish.value.or(publish.payload) else { return };
        let (unix_us, address) = (self.unix_us(), text_of(publish.address));
        let started = self.timelines.start(self.now, unix_us, hash, address, value, origin.writer);
        if let Err(refused) = started {
            self.refuse(origin, refused, Some(address), fx);
        }
    }

    /// Writes what the timelines of this home say now.
    pub(super) fn emit_timelines(&mut self, fx: &mut impl Effects) {
        if self.timelines.is_empty() {
            return;
        }
        let (mut address, mut encoded) = (self.lend(), self.lend());
        for _ in 0..TURN_MAX {
            if !self.has_room(Lane::Publish, RECORD_BYTES_MAX) {
                break;
            }
            let Some(emission) = self.timelines.pop(self.now, &mut address, &mut encoded) else {
                break;
            };
            let Ok(value) = Value::from_encoded(&encoded) else { continue };
            let origin = Origin::router(self.settings.id, emission.writer);
            let set = RawSet {
                address: &address[..],
                value,
                revision: None,
                lock: false,
                unlock: false,
                ttl: None,
            };
            if self.emit(&origin, emission.hash, &set, fx).is_err() {
                self.timelines.stop(emission.hash, &address);
            }
        }
        self.give_back(address);
        self.give_back(encoded);
    }

    /// A timeline's own write: it does not end the timeline, and says nothing twice.
    fn emit(
        &mut self,
        origin: &Origin,
        hash: u64,
        set: &RawSet<'_>,
        fx: &mut impl Effects,
    ) -> Result<(), Refused> {
        let slot = self.store.find(hash, set.address);
        if self.is_arbitrated(slot, set.address) {
            return self.contend(origin, None, set, (None, hash, slot), None, fx).map(drop);
        }
        if slot.is_some_and(|slot| self.store.value(slot) == set.value) {
            return Ok(());
        }
        self.store.check(slot, set, origin.writer, Ahead::default())?;
        self.store.takes(slot, set.value)?;
        let slot = self.store.apply(self.stamp(origin), slot, hash, set)?;
        self.announce_change(origin, slot, hash, set, None, fx);
        Ok(())
    }

    /// Hands a frame to the other shards of its audience and to this shard's own links.
    #[inline]
    fn distribute(
        &mut self,
        origin: &Origin,
        key: u64,
        audience: Audience,
        tag: Option<&Tag<'_>>,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        let mut rest = self.audiences.shards(audience);
        while rest != 0 {
            let shard = ShardId(rest.trailing_zeros() as u16);
            rest &= rest - 1;
            self.hand(
                shard,
                Record::Published { origin: *origin, key, tag: tag.copied(), frame },
                fx,
            );
        }
        self.deliver(origin, key, audience, tag, frame, fx);
    }

    #[inline]
    pub(super) fn acknowledge(
        &mut self,
        origin: &Origin,
        address: Option<&str>,
        revision: Option<u64>,
        fx: &mut impl Effects,
    ) {
        if origin.confirm {
            self.reply(origin, &Message::Ack(Ack { address, revision, ..Ack::default() }), fx);
        }
    }

    /// Answers with the param, or says that there is none.
    pub(super) fn get(
        &mut self,
        origin: &Origin,
        grant: u32,
        address: &str,
        fx: &mut impl Effects,
    ) {
        if let Some(about) = contend::asked_about(address) {
            return self.explain(origin, grant, address, about, fx);
        }
        if !self.may_read(grant, address) {
            return self.refuse(origin, Refused::Forbidden, Some(address), fx);
        }
        let Some(slot) = self.store.find(self.store.hash(address), address) else {
            return self.refuse(origin, Refused::NotFound, Some(address), fx);
        };
        let mut frame = self.lend();
        let mut snapshot = SnapshotBuilder::start(&mut frame);
        let mut writer = None;
        if let Some(entry) = self.store.entry(slot, &mut writer) {
            snapshot.push(&mut frame, &entry);
        }
        snapshot.finish(&mut frame);
        self.reply_frame(origin, &frame, fx);
        self.give_back(frame);
    }

    /// One part of a snapshot, from `cursor` on: at most a frame, and a bounded look.
    ///
    /// Returns where the next part begins; `frame` stays empty where nothing matched.
    pub(super) fn snapshot_part(
        &mut self,
        grant: u32,
        cursor: u32,
        pattern: &str,
        frame: &mut Vec<u8>,
    ) -> u32 {
        let exact = pattern::is_exact(pattern);
        let (from, to) = if exact {
            match self.store.find(self.store.hash(pattern), pattern) {
                Some(slot) => (slot, slot + 1),
                None => return END,
            }
        } else {
            (cursor, self.store.slots().min(cursor.saturating_add(SCAN_MAX)))
        };
        let mut snapshot = SnapshotBuilder::start(frame);
        let bytes_max = if cursor == 0 { usize::MAX } else { PART_BYTES };
        let mut at = from;
        while at < to && frame.len() < bytes_max {
            let mut writer = None;
            let entry = self.store.entry(at, &mut writer).filter(|entry| {
                (exact || pattern == "/**" || pattern::matches(pattern, entry.address))
                    && self.may_read(grant, entry.address)
            });
            if let Some(entry) = entry
                && !snapshot.push(frame, &entry)
            {
                break;
            }
            at += 1;
        }
        if snapshot.count() == 0 {
            frame.clear();
        } else {
            snapshot.finish(frame);
        }
        if exact || at >= self.store.slots() { END } else { at }
    }

    /// Another shard asks for a part of a snapshot.
    pub(super) fn answer_pull(
        &mut self,
        origin: &Origin,
        grant: u32,
        serial: u32,
        cursor: u32,
        pattern: &str,
        fx: &mut impl Effects,
    ) {
        let mut frame = self.lend();
        let next = self.snapshot_part(grant, cursor, pattern, &mut frame);
        let chunk = Record::Chunk { origin: *origin, serial, next, frame: &frame };
        self.hand(origin.shard, chunk, fx);
        self.give_back(frame);
    }

    /// Sends the newest stream samples that match.
    pub(super) fn recall(
        &mut self,
        origin: &Origin,
        count_max: u32,
        window_ms: u32,
        pattern: &str,
        fx: &mut impl Effects,
    ) {
        let window = Span::from_millis(u64::from(window_ms));
        let mut history = core::mem::take(&mut self.history);
        history.recall(
            self.now,
            count_max,
            window,
            |sample| pattern::matches(pattern, super::egress::address_of(sample.frame)),
            |sample| self.reply_frame(origin, sample.frame, fx),
        );
        self.history = history;
    }

    /// Keeps what is announced. Only shard 0 is told.
    pub(super) fn announce(
        &mut self,
        origin: &Origin,
        announce: &Announce<'_>,
        fx: &mut impl Effects,
    ) {
        for info in announce.signals.iter() {
            if !self.announced.put(&info) {
                let busy = Refused::Busy { what: "announced signals" };
                return self.refuse(origin, busy, Some(info.address), fx);
            }
        }
        self.acknowledge(origin, Some(announce.namespace), None, fx);
    }

    /// Answers with one RESULT, cut to what fits a frame.
    pub(super) fn query(
        &mut self,
        origin: &Origin,
        grant: u32,
        pattern: &str,
        fx: &mut impl Effects,
    ) {
        let mut frame = self.lend();
        let mut result = ResultBuilder::start(&mut frame);
        for info in self.announced.matching(pattern) {
            if self.may_read(grant, info.address) && !result.push(&mut frame, &info) {
                break;
            }
        }
        result.finish(&mut frame);
        self.reply_frame(origin, &frame, fx);
        self.give_back(frame);
    }

    /// A peer-to-peer signal for one session of this shard, whether or not it subscribed.
    pub(super) fn direct(
        &mut self,
        origin: &Origin,
        to: SessionId,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        match self.link_of(to) {
            Some(link) => self.send(link, super::Class::told_by(origin.writer), frame, fx),
            None => self.refuse(origin, Refused::NoTarget { session: to }, None, fx),
        }
    }

    pub(super) fn may_read(&self, grant: u32, address: &str) -> bool {
        self.scopes(grant).is_none_or(|scopes| scope::may_read(scopes, address))
    }

    /// An empty SNAPSHOT, which every client waits for even where there is nothing to tell.
    pub(super) fn send_empty_snapshot(&mut self, link: LinkId, fx: &mut impl Effects) {
        let mut frame = self.lend();
        let message = Message::Snapshot { params: Params::EMPTY };
        if binary::encode(&message, binary::default_qos(&message), &mut frame).is_ok() {
            self.send(link, super::Class::REPLY, &frame, fx);
        }
        self.give_back(frame);
    }
}

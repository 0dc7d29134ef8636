//! Who wants what on this shard's links: one trie of patterns, each pattern kept once.

use alloc::vec::Vec;

use super::refused::Refused;
use crate::LinkId;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;
use crate::message::Subscribe;
use crate::signal::{Signal, SignalMask};
use crate::time::Span;
use crate::trie::Trie;

const NONE: u32 = u32::MAX;
/// The link of a subscription whose link is gone.
const ORPHAN: LinkId = LinkId(u32::MAX);
/// Bytes of pattern text kept for each subscription, on average.
const PATTERN_BYTES: u64 = 48;
/// Segments and bytes of all patterns of one session: so many for each subscription that it may
/// have, and room for a long one. Else a few sessions could use up what the patterns of all share.
const SEGMENTS_PER_PATTERN: u32 = 8;
const SEGMENTS_EXTRA: u32 = 512;
const BYTES_PER_PATTERN: u32 = 64;
const BYTES_EXTRA: u32 = 4 * 1024;

#[derive(Clone, Copy)]
pub(crate) struct Subscription {
    pub link: LinkId,
    id: u32,
    pattern: u32,
    pub mask: SignalMask,
    /// Zero: every change is delivered.
    pub interval: Span,
    /// Not above zero: every change is worth delivering.
    pub epsilon: f64,
    next: u32,
    previous: u32,
    live: bool,
}

const VACANT: Subscription = Subscription {
    link: LinkId(0),
    id: 0,
    pattern: NONE,
    mask: SignalMask::ALL,
    interval: Span::ZERO,
    epsilon: 0.0,
    next: NONE,
    previous: NONE,
    live: false,
};

impl Subscription {
    pub(crate) fn wants(&self, signal: Signal) -> bool {
        self.mask.contains(signal)
    }

    /// Whether some deliveries are to be held back or left out.
    pub(crate) fn is_paced(&self) -> bool {
        self.interval > Span::ZERO || self.epsilon > 0.0
    }
}

#[derive(Clone, Copy)]
struct PatternText {
    text: Block,
    hash: u64,
    subscriptions: u32,
}

#[derive(Clone, Copy)]
struct OfLink {
    first: u32,
    count: u32,
    /// Of all its patterns.
    segments: u32,
    bytes: u32,
}

const NOTHING: OfLink = OfLink { first: NONE, count: 0, segments: 0, bytes: 0 };

pub(crate) struct Subscriptions {
    slots: Vec<Subscription>,
    free: Vec<u32>,
    by_id: Index,
    of_link: Vec<OfLink>,
    orphans: u32,
    patterns: Vec<PatternText>,
    patterns_free: Vec<u32>,
    by_text: Index,
    texts: Arena,
    trie: Trie,
    per_session_max: u32,
    /// Raised whenever an address may have another audience than before.
    changes: u64,
    seed: [u64; 2],
}

/// What a new or ended subscription means to the homes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The shard wanted (or still wants) the pattern for another link.
    Same,
    /// The shard begins (or ceases) to want it.
    Changed,
}

impl Subscriptions {
    pub(crate) fn new(limits: &Limits, seed: [u64; 2]) -> Self {
        let max = limits.subscriptions_max;
        Self {
            slots: alloc::vec![VACANT; max as usize],
            free: (0..max).rev().collect(),
            by_id: Index::new(max),
            of_link: alloc::vec![NOTHING; limits.links_max as usize],
            orphans: NONE,
            patterns: alloc::vec![
                PatternText { text: Block::EMPTY, hash: 0, subscriptions: 0 };
                max as usize
            ],
            patterns_free: (0..max).rev().collect(),
            by_text: Index::new(max),
            texts: Arena::new(texts_bytes(max)),
            trie: Trie::new(max, max, seed),
            per_session_max: limits.subscriptions_per_session_max,
            changes: 0,
            seed,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Subscription>() + size_of::<PatternText>() + 8)
            + self.of_link.len() * size_of::<OfLink>()) as u64
            + self.by_id.memory_bytes()
            + self.by_text.memory_bytes()
            + self.texts.memory_bytes()
            + self.trie.memory_bytes()
    }

    pub(crate) fn get(&self, slot: u32) -> &Subscription {
        &self.slots[slot as usize]
    }

    pub(crate) fn pattern(&self, slot: u32) -> &str {
        let pattern = self.slots[slot as usize].pattern;
        let text = self.texts.get(self.patterns[pattern as usize].text);
        core::str::from_utf8(text).unwrap_or_default()
    }

    pub(crate) fn find(&self, link: LinkId, id: u32) -> Option<u32> {
        self.by_id.find(self.id_hash(link, id), |slot| {
            let s = &self.slots[slot as usize];
            s.live && s.link == link && s.id == id
        })
    }

    /// Whether the session may have one more, or this one in place of the one with its id.
    pub(crate) fn check_share(&self, link: LinkId, wish: &Subscribe<'_>) -> Result<(), Refused> {
        let of_link = &self.of_link[link.0 as usize];
        let replaced = self.find(link, wish.id);
        let (segments, bytes) = size_of_pattern(wish.pattern);
        let (given_segments, given_bytes) =
            replaced.map_or((0, 0), |slot| size_of_pattern(self.pattern(slot)));
        if of_link.count - u32::from(replaced.is_some()) >= self.per_session_max {
            return Err(Refused::Subscriptions { max: self.per_session_max });
        }
        let max = self.per_session_max.min(self.slots.len() as u32);
        let segments_max = max * SEGMENTS_PER_PATTERN + SEGMENTS_EXTRA;
        let bytes_max = max * BYTES_PER_PATTERN + BYTES_EXTRA;
        if of_link.segments + segments - given_segments > segments_max
            || of_link.bytes + bytes - given_bytes > bytes_max
        {
            return Err(Refused::PatternRoom { segments_max, bytes_max });
        }
        Ok(())
    }

    /// Keeps a subscription whose pattern was checked and whose id is free.
    pub(crate) fn add(
        &mut self,
        link: LinkId,
        wish: &Subscribe<'_>,
    ) -> Result<(u32, Reach), Refused> {
        let full = Refused::Subscriptions { max: self.slots.len() as u32 };
        let slot = *self.free.last().ok_or(full)?;
        let (pattern, reach) = self.refer(wish.pattern).ok_or(full)?;
        if self.trie.insert(wish.pattern, slot).is_err() {
            self.unrefer(pattern);
            return Err(full);
        }
        self.changes += 1;
        self.free.pop();
        let first = self.of_link[link.0 as usize].first;
        self.slots[slot as usize] = Subscription {
            link,
            id: wish.id,
            pattern,
            mask: wish.types,
            interval: wish.options.max_rate.map_or(Span::ZERO, interval),
            epsilon: wish.options.epsilon.unwrap_or(0.0),
            next: first,
            previous: NONE,
            live: true,
        };
        if first != NONE {
            self.slots[first as usize].previous = slot;
        }
        let (segments, bytes) = size_of_pattern(wish.pattern);
        let of_link = &mut self.of_link[link.0 as usize];
        of_link.first = slot;
        of_link.count += 1;
        of_link.segments += segments;
        of_link.bytes += bytes;
        let hash = self.id_hash(link, wish.id);
        self.by_id.insert(hash, slot).expect("the index holds as many as there are slots");
        Ok((slot, reach))
    }

    /// Forgets a subscription. `text` becomes its pattern, for telling the homes.
    pub(crate) fn remove(&mut self, slot: u32, text: &mut Vec<u8>) -> Reach {
        self.changes += 1;
        let gone = core::mem::replace(&mut self.slots[slot as usize], VACANT);
        text.clear();
        text.extend_from_slice(self.texts.get(self.patterns[gone.pattern as usize].text));
        let pattern = core::str::from_utf8(text).unwrap_or_default();
        self.trie.remove(pattern, slot);
        if gone.link == ORPHAN {
            self.orphans = gone.next;
        } else {
            self.by_id.remove(self.id_hash(gone.link, gone.id), slot);
            self.unchain(&gone, size_of_pattern(pattern));
        }
        self.free.push(slot);
        self.unrefer(gone.pattern)
    }

    /// Cuts all subscriptions of a link that is gone loose from it; they match nobody any more.
    ///
    /// [`Subscriptions::next_orphan`] gives them back for removal, a few a turn, so that a client
    /// with thousands of patterns does not delay the others when it leaves.
    pub(crate) fn orphan_all(&mut self, link: LinkId) {
        self.changes += 1;
        let of_link = core::mem::replace(&mut self.of_link[link.0 as usize], NOTHING);
        let mut slot = of_link.first;
        while slot != NONE {
            let hash = self.id_hash(link, self.slots[slot as usize].id);
            self.by_id.remove(hash, slot);
            slot = self.join_orphans(slot);
        }
    }

    /// The same for one subscription that takes long to remove.
    pub(crate) fn orphan(&mut self, slot: u32) {
        self.changes += 1;
        let gone = self.slots[slot as usize];
        self.by_id.remove(self.id_hash(gone.link, gone.id), slot);
        self.unchain(&gone, size_of_pattern(self.pattern(slot)));
        self.join_orphans(slot);
    }

    /// Returns what came next in the list that `slot` was in.
    fn join_orphans(&mut self, slot: u32) -> u32 {
        let orphan = &mut self.slots[slot as usize];
        let next = core::mem::replace(&mut orphan.next, self.orphans);
        orphan.link = ORPHAN;
        orphan.previous = NONE;
        self.orphans = slot;
        next
    }

    pub(crate) fn next_orphan(&self) -> Option<u32> {
        (self.orphans != NONE).then_some(self.orphans)
    }

    pub(crate) fn each_of(&self, link: LinkId) -> impl Iterator<Item = u32> {
        let mut slot = self.of_link[link.0 as usize].first;
        core::iter::from_fn(move || {
            let current = slot;
            if current == NONE {
                return None;
            }
            slot = self.slots[current as usize].next;
            Some(current)
        })
    }

    pub(crate) fn for_each_match(&self, address: &str, mut f: impl FnMut(u32, &Subscription)) {
        self.trie.for_each_match(address, |slot| {
            let subscription = &self.slots[slot as usize];
            if subscription.link != ORPHAN {
                f(slot, subscription);
            }
        });
    }

    /// A number that rises with every change of what [`Self::for_each_match`] says.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many `link` has.
    pub(crate) fn count(&self, link: LinkId) -> u32 {
        self.of_link[link.0 as usize].count
    }

    pub(crate) fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    fn unchain(&mut self, gone: &Subscription, (segments, bytes): (u32, u32)) {
        match gone.previous {
            NONE => self.of_link[gone.link.0 as usize].first = gone.next,
            previous => self.slots[previous as usize].next = gone.next,
        }
        if gone.next != NONE {
            self.slots[gone.next as usize].previous = gone.previous;
        }
        let of_link = &mut self.of_link[gone.link.0 as usize];
        of_link.count -= 1;
        of_link.segments -= segments;
        of_link.bytes -= bytes;
    }

    fn id_hash(&self, link: LinkId, id: u32) -> u64 {
        let mut key = [0; 8];
        key[..4].copy_from_slice(&link.0.to_le_bytes());
        key[4..].copy_from_slice(&id.to_le_bytes());
        index::hash(self.seed, &key)
    }

    fn refer(&mut self, text: &str) -> Option<(u32, Reach)> {
        let hash = index::hash(self.seed, text.as_bytes());
        let known = self.by_text.find(hash, |pattern| {
            let kept = &self.patterns[pattern as usize];
            kept.hash == hash && self.texts.get(kept.text) == text.as_bytes()
        });
        if let Some(pattern) = known {
            self.patterns[pattern as usize].subscriptions += 1;
            return Some((pattern, Reach::Same));
        }
        let text = self.texts.put(&[text.as_bytes()])?;
        let pattern = self.patterns_free.pop().expect("as many patterns as subscriptions");
        self.patterns[pattern as usize] = PatternText { text, hash, subscriptions: 1 };
        self.by_text.insert(hash, pattern).expect("the index holds as many as there are slots");
        Some((pattern, Reach::Changed))
    }

    fn unrefer(&mut self, pattern: u32) -> Reach {
        let kept = &mut self.patterns[pattern as usize];
        kept.subscriptions -= 1;
        if kept.subscriptions > 0 {
            return Reach::Same;
        }
        let (hash, text) = (kept.hash, kept.text);
        kept.text = Block::EMPTY;
        self.by_text.remove(hash, pattern);
        self.texts.free(text);
        self.patterns_free.push(pattern);
        Reach::Changed
    }
}

/// Segments and bytes: what a pattern is charged as.
fn size_of_pattern(pattern: &str) -> (u32, u32) {
    (pattern.bytes().filter(|&byte| byte == b'/').count() as u32, pattern.len() as u32)
}

fn texts_bytes(subscriptions_max: u32) -> u64 {
    u64::from(subscriptions_max) * PATTERN_BYTES + 64 * 1024
}

/// The gap that a rate of deliveries a second leaves; a rate of 0 means none was asked for.
fn interval(rate_hz: u32) -> Span {
    match rate_hz {
        0 => Span::ZERO,
        hz => Span(1_000_000_000 / u64::from(hz)),
    }
}

//! What a link that reads too slowly keeps, replaces and drops, or is closed for.
//!
//! Source: `router.md` §10, slow consumers. A param that waits is replaced by a newer value, so
//! that its receiver ends with the truth however slow it is; stream samples and moves may be lost,
//! oldest first, each counted; all else arrives in order, or the link is closed. Links that wait
//! for the same frame share it.

use alloc::boxed::Box;

use crate::LinkId;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;

/// What may happen to a frame that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A value of the param whose address hashes to `key`: a newer one takes its place.
    Param { key: u64 },
    /// A stream sample: the oldest of a link are dropped when it has too much to wait for.
    Stream,
    /// A move of the gesture that hashes to `key`: a newer one takes its place, unless the gesture
    /// took a turn in between.
    Move { key: u64 },
    /// Start, end or cancel of that gesture.
    Turn { key: u64 },
    /// Events, replies, snapshots.
    Keep,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    Kept,
    /// It waits in the place of an older one, which nobody will read.
    Replaced,
    /// So many samples and moves were dropped. The frame itself waits, unless it is one of them.
    DroppedStream(u32),
    /// It may not be lost and cannot be kept: close the link.
    MustClose,
}

/// A frame that an earlier push of the same fan-out stored. It may outlive the frame, which is then
/// stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFrame {
    frame: u32,
    generation: u32,
}

/// The waiting frames of all links of a shard.
pub struct Outbox {
    links: Box<[Queue]>,
    entries: Box<[Entry]>,
    /// The entry to use next; more follow by `next`.
    vacant_entry: u32,
    frames: Box<[Frame]>,
    /// The frame to use next; more follow by `references`.
    vacant_frame: u32,
    pool: Arena,
    /// By link and key: the entry that a newer one may replace.
    newest: Index,
    link_bytes_max: u32,
}

/// What waits for one link.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
    /// Stream samples among them, oldest first.
    first_stream: u32,
    last_stream: u32,
    /// Of all frames, shared or not.
    bytes: u32,
    /// Counts barriers: a param replaces what came after the last one.
    barriers: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    link: LinkId,
    class: Class,
    frame: u32,
    next: u32,
    previous: u32,
    /// Of a stream sample: the next one of the link.
    next_stream: u32,
    /// The queue's count of barriers when it came.
    fence: u32,
    /// Whether `newest` has it.
    is_newest: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    block: Block,
    /// Entries that wait for it.
    references: u32,
    /// Rises when it is given up, so that an old [`SharedFrame`] does not fit the next frame.
    generation: u32,
}

const NONE: u32 = u32::MAX;

impl Outbox {
    pub fn new(limits: &Limits) -> Self {
        let entries_max = limits.outbox_entries_max;
        let after = |at| if at + 1 == entries_max { NONE } else { at + 1 };
        Self {
            links: (0..limits.links_max).map(|_| Queue::EMPTY).collect(),
            entries: (0..entries_max)
                .map(|at| Entry { next: after(at), ..Entry::VACANT })
                .collect(),
            vacant_entry: if entries_max == 0 { NONE } else { 0 },
            frames: (0..entries_max)
                .map(|at| Frame { block: Block::EMPTY, references: after(at), generation: 0 })
                .collect(),
            vacant_frame: if entries_max == 0 { NONE } else { 0 },
            pool: Arena::new(limits.outbox_pool_bytes),
            newest: Index::new(entries_max),
            link_bytes_max: limits.outbox_bytes_max,
        }
    }

    /// Bytes taken when it was made; there are never more.
    pub fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.links) + size_of_val(&*self.entries) + size_of_val(&*self.frames))
            as u64
            + self.pool.memory_bytes()
            + self.newest.memory_bytes()
    }

    /// Lets `frame` wait for `link`. The first push of a fan-out finds `shared` empty and fills it;
    /// later pushes of the same bytes bring it along.
    pub fn push(
        &mut self,
        link: LinkId,
        class: Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
    ) -> Push {
        if frame.len() > self.link_bytes_max as usize {
            return Self::refuse(class, 0); // Before anything is dropped in vain.
        }
        let older = self.find_newest(link, class);
        let fence = self.links[link.0 as usize].fence(class);
        let push = match older {
            Some(older) if self.entries[older as usize].fence == fence => {
                self.replace(older, frame, shared)
            }
            _ => self.append(link, class, frame, shared, older),
        };
        if let Class::Turn { key } = class
            && let Some(last_move) = self.find_newest(link, Class::Move { key })
        {
            self.overtake(last_move);
        }
        push
    }

    /// Something that tells the link all values was queued: later params do not overtake it.
    pub fn barrier(&mut self, link: LinkId) {
        let queue = &mut self.links[link.0 as usize];
        queue.barriers = queue.barriers.wrapping_add(1);
    }

    pub fn is_empty(&self, link: LinkId) -> bool {
        self.links[link.0 as usize].first == NONE
    }

    /// The link whose waiting frames take the most room, if `link` could not keep `len` bytes only
    /// because others took the room that all share, and one of them has more waiting than it.
    ///
    /// A look at every link, paid only where the room is used up and one of them must go.
    pub fn greediest_but(&self, link: LinkId, len: usize) -> Option<LinkId> {
        let own = self.links[link.0 as usize].bytes;
        if own as usize + len > self.link_bytes_max as usize {
            return None;
        }
        let (most, bytes) = (self.links.iter().map(|queue| queue.bytes).enumerate())
            .reduce(|most, next| if next.1 > most.1 { next } else { most })?;
        (bytes > own).then_some(LinkId(most as u32))
    }

    /// The frame that waited longest.
    pub fn front(&self, link: LinkId) -> Option<&[u8]> {
        let entry = self.entries.get(self.links[link.0 as usize].first as usize)?;
        Some(self.pool.get(self.frames[entry.frame as usize].block))
    }

    /// Forgets the frame that waited longest.
    pub fn pop(&mut self, link: LinkId) {
        let first = self.links[link.0 as usize].first;
        if first != NONE {
            self.remove(first);
        }
    }

    /// Forgets all that waits for `link`.
    pub fn clear(&mut self, link: LinkId) {
        while !self.is_empty(link) {
            self.pop(link);
        }
    }

    fn append(
        &mut self,
        link: LinkId,
        class: Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        older: Option<u32>,
    ) -> Push {
        let mut dropped = 0;
        while self.vacant_entry == NONE {
            if !self.drop_oldest_stream(link, &mut dropped) {
                return Self::refuse(class, dropped);
            }
        }
        let Some(frame) = self.store(link, frame, shared, &mut dropped) else {
            return Self::refuse(class, dropped);
        };
        if let Some(older) = older {
            self.overtake(older);
        }
        self.link(link, class, frame);
        if dropped == 0 { Push::Kept } else { Push::DroppedStream(dropped) }
    }

    fn replace(&mut self, entry: u32, frame: &[u8], shared: &mut Option<SharedFrame>) -> Push {
        let Entry { link, class, frame: old, .. } = self.entries[entry as usize];
        // First, because the place of the old one may be all there is.
        self.release(link, old);
        self.entries[entry as usize].frame = NONE;
        let mut dropped = 0;
        let Some(frame) = self.store(link, frame, shared, &mut dropped) else {
            self.remove(entry);
            return Self::refuse(class, dropped);
        };
        self.entries[entry as usize].frame = frame;
        if dropped == 0 { Push::Replaced } else { Push::DroppedStream(dropped) }
    }

    /// `class` found no room, although so many samples were dropped for it.
    fn refuse(class: Class, dropped: u32) -> Push {
        match class {
            Class::Stream | Class::Move { .. } => Push::DroppedStream(dropped + 1),
            Class::Param { .. } | Class::Turn { .. } | Class::Keep => Push::MustClose,
        }
    }

    fn drop_oldest_stream(&mut self, link: LinkId, dropped: &mut u32) -> bool {
        let oldest = self.links[link.0 as usize].first_stream;
        if oldest == NONE {
            return false;
        }
        self.remove(oldest);
        *dropped += 1;
        true
    }

    /// Has `link` wait for `frame`, if need be instead of its oldest samples.
    fn store(
        &mut self,
        link: LinkId,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
        dropped: &mut u32,
    ) -> Option<u32> {
        let len = u32::try_from(frame.len()).ok()?;
        loop {
            let bytes = self.links[link.0 as usize].bytes.checked_add(len)?;
            if bytes <= self.link_bytes_max
                && let Some(kept) = self.refer(frame, shared)
            {
                self.links[link.0 as usize].bytes = bytes;
                return Some(kept);
            }
            if !self.drop_oldest_stream(link, dropped) {
                return None;
            }
        }
    }

    /// One reference more to the shared frame, or the first one to a new frame.
    fn refer(&mut self, frame: &[u8], shared: &mut Option<SharedFrame>) -> Option<u32> {
        if let Some(known) = *shared {
            let kept = &mut self.frames[known.frame as usize];
            if kept.generation == known.generation {
                debug_assert_eq!(self.pool.get(kept.block), frame, "another fan-out's frame");
                kept.references += 1;
                return Some(known.frame);
            }
        }
        let block = self.pool.put(&[frame])?;
        let vacant = self.vacant_frame;
        let kept = &mut self.frames[vacant as usize];
        self.vacant_frame = kept.references;
        (kept.block, kept.references) = (block, 1);
        *shared = Some(SharedFrame { frame: vacant, generation: kept.generation });
        Some(vacant)
    }

    /// `link` no longer waits for `frame`.
    fn release(&mut self, link: LinkId, frame: u32) {
        let kept = &mut self.frames[frame as usize];
        self.links[link.0 as usize].bytes -= kept.block.len();
        kept.references -= 1;
        if kept.references == 0 {
            self.pool.free(kept.block);
            kept.generation = kept.generation.wrapping_add(1);
            kept.references = self.vacant_frame;
            self.vacant_frame = frame;
        }
    }

    /// The entry that a frame of this class may replace, unless a fence came in between.
    fn find_newest(&self, link: LinkId, class: Class) -> Option<u32> {
        let hash = hash(link, class)?;
        self.newest.find(hash, |entry| {
            let entry = &self.entries[entry as usize];
            entry.link == link && entry.class == class
        })
    }

    /// A fence protects `older` from being replaced, and something newer waits behind it.
    fn overtake(&mut self, older: u32) {
        let entry = &mut self.entries[older as usize];
        entry.is_newest = false;
        if let Some(hash) = hash(entry.link, entry.class) {
            self.newest.remove(hash, older);
        }
    }

    /// Puts a stored frame at the end of the queue; an entry is vacant.
    fn link(&mut self, link: LinkId, class: Class, frame: u32) {
        let at = self.vacant_entry;
        self.vacant_entry = self.entries[at as usize].next;
        let queue = &mut self.links[link.0 as usize];
        let previous = core::mem::replace(&mut queue.last, at);
        if previous == NONE {
            queue.first = at;
        } else {
            self.entries[previous as usize].next = at;
        }
        if class == Class::Stream {
            match core::mem::replace(&mut queue.last_stream, at) {
                NONE => queue.first_stream = at,
                previous => self.entries[previous as usize].next_stream = at,
            }
        }
        let fence = queue.fence(class);
        let hash = hash(link, class);
        let is_newest = hash.is_some();
        self.entries[at as usize] =
            Entry { link, class, frame, previous, fence, is_newest, ..Entry::VACANT };
        if let Some(hash) = hash {
            self.newest.insert(hash, at).expect("the index holds as many as there are entries");
        }
    }

    /// Takes an entry out of its queue: any one, but of the stream samples only the oldest.
    fn remove(&mut self, at: u32) {
        let entry = self.entries[at as usize];
        let queue = &mut self.links[entry.link.0 as usize];
        match entry.previous {
            NONE => queue.first = entry.next,
            previous => self.entries[previous as usize].next = entry.next,
        }
        match entry.next {
            NONE => queue.last = entry.previous,
            next => self.entries[next as usize].previous = entry.previous,
        }
        if entry.class == Class::Stream {
            assert_eq!(queue.first_stream, at, "samples leave in order");
            queue.first_stream = entry.next_stream;
            if entry.next_stream == NONE {
                queue.last_stream = NONE;
            }
        }
        if entry.is_newest
            && let Some(hash) = hash(entry.link, entry.class)
        {
            self.newest.remove(hash, at);
        }
        if entry.frame != NONE {
            self.release(entry.link, entry.frame);
        }
        self.entries[at as usize].next = self.vacant_entry;
        self.vacant_entry = at;
    }
}

impl Queue {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        first_stream: NONE,
        last_stream: NONE,
        bytes: 0,
        barriers: 0,
    };

    /// What must not have changed since a frame came for one of this class to replace it.
    fn fence(&self, class: Class) -> u32 {
        match class {
            Class::Param { .. } => self.barriers,
            Class::Move { .. } | Class::Turn { .. } | Class::Stream | Class::Keep => 0,
        }
    }
}

impl Entry {
    const VACANT: Self = Self {
        link: LinkId(NONE),
        class: Class::Keep,
        frame: NONE,
        next: NONE,
        previous: NONE,
        next_stream: NONE,
        fence: 0,
        is_newest: false,
    };
}

/// Where the newest frame of a link and key is found; `None` for classes that replace nothing.
fn hash(link: LinkId, class: Class) -> Option<u64> {
    match class {
        Class::Param { key } => Some(index::join(key, link.0)),
        Class::Move { key } => Some(index::join(!key, link.0)),
        Class::Stream | Class::Turn { .. } | Class::Keep => None,
    }
}

#[cfg(test)]
mod tests;

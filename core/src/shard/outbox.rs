//! What a link that reads too slowly keeps, replaces and drops, or is closed for.
//!
//! A param that waits is replaced by a newer value, so that its receiver ends with the truth
//! however slow it is; stream samples and moves may be lost, oldest first, each counted; all else
//! arrives, or the link is closed. Links that wait for the same frame share it.
//!
//! A link has a queue for each [`Rank`]. What is critical overtakes what is ordinary, but neither
//! what its own session wrote before, nor a param of its own address; samples and moves wait until
//! nothing else does. A queue in front takes over the beginning of an ordinary one in one piece, so
//! that overtaking costs the same however much waits.

mod class;

pub use class::{Class, Kind, Rank, Writer};

use alloc::boxed::Box;

use crate::LinkId;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;
use crate::time::Time;
use class::{RANKS, WRITERS};

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
    links: Box<[Waiting]>,
    entries: Box<[Entry]>,
    /// The entry to use next; more follow by `next`.
    vacant_entry: u32,
    frames: Box<[Frame]>,
    /// The frame to use next; more follow by `references`.
    vacant_frame: u32,
    pool: Arena,
    /// By link and key: the entry that a newer one may replace, or make stale.
    newest: Index,
    link_bytes_max: u32,
    /// Of the entry that came last, over all links.
    serial: u64,
    /// The instant of the step in hand.
    now: Time,
}

/// What waits for one link.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// One for each rank; those in front first.
    queues: [List; RANKS],
    /// Samples with a newer one of their address behind them, and the newest of each address; in
    /// the order in which they became so.
    stale: List,
    fresh: List,
    /// Of all frames, shared or not.
    bytes: u32,
    /// Counts snapshots: a param replaces what came after the last one.
    snapshots: u32,
    /// The last snapshot.
    snapshot: Mark,
    /// The last ordinary entry that each writer had a part in.
    written: [Mark; WRITERS],
    /// Ordinary entries up to this serial were taken over by the critical queue.
    taken_over: u64,
}

/// The ends of a list of entries.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

/// An entry, if it still waits.
#[derive(Clone, Copy, Debug)]
struct Mark {
    entry: u32,
    serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    class: Class,
    /// Tells it from all other entries, and which of two came first; 0 while it is vacant.
    serial: u64,
    link: LinkId,
    frame: u32,
    next: u32,
    previous: u32,
    /// Of a stream sample: its neighbours among the stale or the fresh ones.
    next_sample: u32,
    previous_sample: u32,
    /// When its frame came.
    since: Time,
    /// The link's count of snapshots when it came.
    fence: u32,
    /// Whether `newest` has it.
    is_newest: bool,
    is_stale: bool,
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
            links: (0..limits.links_max).map(|_| Waiting::NOTHING).collect(),
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
            serial: 0,
            now: Time(0),
        }
    }

    /// The instant of the step in hand: what is pushed in it waits since then.
    pub fn begin(&mut self, now: Time) {
        self.now = now;
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
        if class.rank == Rank::Critical {
            self.bring_forward(link, class);
        }
        self.bring_move_along(link, class);
        if class.kind == Kind::Snapshot {
            let waiting = &mut self.links[link.0 as usize];
            waiting.snapshots = waiting.snapshots.wrapping_add(1);
        }
        let older = self.find_newest(link, class.kind);
        let push = match older.filter(|&older| self.may_replace(older, class.kind)) {
            Some(older) => self.replace(older, class, frame, shared),
            None => self.append(link, class, frame, shared, older),
        };
        if let Kind::Turn { key } = class.kind
            && let Some(last_move) = self.find_newest(link, Kind::Move { key })
        {
            self.outdate(last_move);
        }
        push
    }

    pub fn is_empty(&self, link: LinkId) -> bool {
        self.links[link.0 as usize].queues.iter().all(List::is_empty)
    }

    /// Whether at most samples and moves wait for `link`.
    pub fn has_samples_only(&self, link: LinkId) -> bool {
        let [critical, ordinary, _] = &self.links[link.0 as usize].queues;
        critical.is_empty() && ordinary.is_empty()
    }

    /// Whether anything waits for `link` that is not critical.
    pub fn has_behind(&self, link: LinkId) -> bool {
        let [_, ordinary, sample] = &self.links[link.0 as usize].queues;
        !ordinary.is_empty() || !sample.is_empty()
    }

    /// Whether a frame of this class would have to wait for nothing but room.
    pub fn is_free_for(&self, link: LinkId, class: Class) -> bool {
        match (class.rank, class.kind) {
            // A move of its gesture may wait among the samples.
            (Rank::Sample, _) | (_, Kind::Turn { .. } | Kind::Move { .. }) => self.is_empty(link),
            (Rank::Critical | Rank::Ordinary, _) => self.has_samples_only(link),
        }
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
        let (most, bytes) = (self.links.iter().map(|waiting| waiting.bytes).enumerate())
            .reduce(|most, next| if next.1 > most.1 { next } else { most })?;
        (bytes > own).then_some(LinkId(most as u32))
    }

    /// The frame that leaves next, and its rank.
    pub fn front(&self, link: LinkId) -> Option<(Rank, &[u8])> {
        let entry = &self.entries[self.front_entry(link)? as usize];
        Some((entry.class.rank, self.pool.get(self.frames[entry.frame as usize].block)))
    }

    /// Since when the frame that leaves next has waited.
    pub fn front_since(&self, link: LinkId) -> Option<Time> {
        Some(self.entries[self.front_entry(link)? as usize].since)
    }

    /// Forgets the frame that leaves next.
    pub fn pop(&mut self, link: LinkId) {
        if let Some(front) = self.front_entry(link) {
            self.remove(front);
        }
    }

    /// Forgets all that waits for `link`.
    pub fn clear(&mut self, link: LinkId) {
        while let Some(front) = self.front_entry(link) {
            self.remove(front);
        }
    }

    fn front_entry(&self, link: LinkId) -> Option<u32> {
        let queues = &self.links[link.0 as usize].queues;
        queues.iter().map(|queue| queue.first).find(|&first| first != NONE)
    }

    /// Puts into the critical queue what must not leave after a critical frame of this class.
    fn bring_forward(&mut self, link: LinkId, class: Class) {
        let waiting = &self.links[link.0 as usize];
        if !waiting.queue(Rank::Ordinary).is_empty() {
            let written = class.writer.map(|writer| waiting.written[writer.index()]);
            let snapshot = waiting.snapshot;
            if let Some(mark) = written {
                self.take_over(link, mark);
            }
            if let Kind::Event { key } | Kind::Param { key } = class.kind
                && let Some(param) = self.find_newest(link, Kind::Param { key })
            {
                self.take_over(link, self.mark(param));
            }
            if let Kind::Param { .. } = class.kind {
                self.take_over(link, snapshot);
            }
        }
        if let Kind::Move { .. } = class.kind
            && let Some(older) = self.find_newest(link, class.kind)
            && self.rank_of(older) == Rank::Sample
        {
            self.requeue(older, Rank::Critical);
        }
    }

    /// A turn of a gesture leaves behind the move before it.
    fn bring_move_along(&mut self, link: LinkId, class: Class) {
        if let Kind::Turn { key } = class.kind
            && let Some(last_move) = self.find_newest(link, Kind::Move { key })
            && self.rank_of(last_move) == Rank::Sample
        {
            self.requeue(last_move, class.rank);
        }
    }

    /// The critical queue takes over the ordinary one as far as `to`, if that still waits there.
    fn take_over(&mut self, link: LinkId, to: Mark) {
        let waits = to.entry != NONE && self.entries[to.entry as usize].serial == to.serial;
        if !waits || self.rank_of(to.entry) != Rank::Ordinary {
            return;
        }
        let waiting = &mut self.links[link.0 as usize];
        waiting.taken_over = to.serial;
        let after = core::mem::replace(&mut self.entries[to.entry as usize].next, NONE);
        let ordinary = waiting.queue_mut(Rank::Ordinary);
        let first = core::mem::replace(&mut ordinary.first, after);
        match after {
            NONE => ordinary.last = NONE,
            after => self.entries[after as usize].previous = NONE,
        }
        let critical = waiting.queue_mut(Rank::Critical);
        self.entries[first as usize].previous = critical.last;
        match core::mem::replace(&mut critical.last, to.entry) {
            NONE => critical.first = first,
            last => self.entries[last as usize].next = first,
        }
    }

    /// In which queue an entry waits.
    fn rank_of(&self, at: u32) -> Rank {
        let entry = &self.entries[at as usize];
        let taken_over = self.links[entry.link.0 as usize].taken_over;
        match entry.class.rank {
            Rank::Ordinary if entry.serial <= taken_over => Rank::Critical,
            rank => rank,
        }
    }

    /// Puts an entry at the end of another queue, as if it came now.
    fn requeue(&mut self, at: u32, rank: Rank) {
        self.leave_queue(at);
        self.serial += 1;
        let entry = &mut self.entries[at as usize];
        (entry.class.rank, entry.serial) = (rank, self.serial);
        self.join_queue(at);
    }

    fn mark(&self, at: u32) -> Mark {
        Mark { entry: at, serial: self.entries[at as usize].serial }
    }

    /// What a writer leaves among the ordinary frames: its critical ones will not overtake it.
    fn note_writer(&mut self, at: u32, writer: Option<Writer>) {
        let mark = self.mark(at);
        let entry = &self.entries[at as usize];
        if entry.class.rank == Rank::Ordinary
            && let Some(writer) = writer
        {
            let written = &mut self.links[entry.link.0 as usize].written[writer.index()];
            if mark.serial > written.serial {
                *written = mark;
            }
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
        // Before room is made: then it is the first to go.
        if let Some(older) = older {
            self.outdate(older);
        }
        let mut dropped = 0;
        while self.vacant_entry == NONE {
            if !self.drop_sample(link, &mut dropped) {
                return Self::refuse(class, dropped);
            }
        }
        let Some(frame) = self.store(link, frame, shared, &mut dropped) else {
            return Self::refuse(class, dropped);
        };
        self.link(link, class, frame);
        if dropped == 0 { Push::Kept } else { Push::DroppedStream(dropped) }
    }

    fn replace(
        &mut self,
        at: u32,
        class: Class,
        frame: &[u8],
        shared: &mut Option<SharedFrame>,
    ) -> Push {
        let Entry { link, frame: old, .. } = self.entries[at as usize];
        // First, because the place of the old one may be all there is.
        self.release(link, old);
        self.entries[at as usize].frame = NONE;
        let mut dropped = 0;
        let Some(frame) = self.store(link, frame, shared, &mut dropped) else {
            self.remove(at);
            return Self::refuse(class, dropped);
        };
        self.entries[at as usize].frame = frame;
        self.entries[at as usize].since = self.now;
        self.note_writer(at, class.writer);
        if dropped == 0 { Push::Replaced } else { Push::DroppedStream(dropped) }
    }

    /// Whether a frame of this kind may take the place of an `older` one.
    fn may_replace(&self, older: u32, kind: Kind) -> bool {
        let entry = &self.entries[older as usize];
        match kind {
            Kind::Param { .. } => entry.fence == self.links[entry.link.0 as usize].snapshots,
            Kind::Move { .. } => true,
            // Samples wait one by one while there is room for them.
            _ => false,
        }
    }

    /// `class` found no room, although so many samples were dropped for it.
    fn refuse(class: Class, dropped: u32) -> Push {
        match class.rank {
            Rank::Sample => Push::DroppedStream(dropped + 1),
            Rank::Critical | Rank::Ordinary => Push::MustClose,
        }
    }

    /// Drops the sample that matters least: one with a newer one of its address behind it, if there
    /// is one.
    fn drop_sample(&mut self, link: LinkId, dropped: &mut u32) -> bool {
        let Waiting { stale, fresh, .. } = &self.links[link.0 as usize];
        let sample = if stale.is_empty() { fresh.first } else { stale.first };
        if sample == NONE {
            return false;
        }
        self.remove(sample);
        *dropped += 1;
        true
    }

    /// Has `link` wait for `frame`, if need be instead of samples.
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
            if !self.drop_sample(link, dropped) {
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

    /// The newest entry of a kind that there is one of at a time.
    fn find_newest(&self, link: LinkId, kind: Kind) -> Option<u32> {
        let hash = hash(link, kind)?;
        self.newest.find(hash, |entry| {
            let entry = &self.entries[entry as usize];
            entry.link == link && entry.class.kind == kind
        })
    }

    /// Something newer waits behind `older`, or none may take its place any more.
    fn outdate(&mut self, older: u32) {
        let entry = &mut self.entries[older as usize];
        entry.is_newest = false;
        let (link, kind) = (entry.link, entry.class.kind);
        if let Some(hash) = hash(link, kind) {
            self.newest.remove(hash, older);
        }
        if let Kind::Stream { .. } = kind {
            self.leave_samples(older);
            self.entries[older as usize].is_stale = true;
            self.join_samples(older);
        }
    }

    /// Puts a stored frame at the end of its queue; an entry is vacant.
    fn link(&mut self, link: LinkId, class: Class, frame: u32) {
        let at = self.vacant_entry;
        self.vacant_entry = self.entries[at as usize].next;
        self.serial += 1;
        let serial = self.serial;
        let (since, fence) = (self.now, self.links[link.0 as usize].snapshots);
        let hash = hash(link, class.kind);
        let is_newest = hash.is_some();
        self.entries[at as usize] =
            Entry { link, class, serial, frame, since, fence, is_newest, ..Entry::VACANT };
        self.join_queue(at);
        self.note_writer(at, class.writer);
        match class.kind {
            Kind::Snapshot => self.links[link.0 as usize].snapshot = self.mark(at),
            Kind::Stream { .. } => self.join_samples(at),
            _ => {}
        }
        if let Some(hash) = hash {
            self.newest.insert(hash, at).expect("the index holds as many as there are entries");
        }
    }

    /// Takes an entry out of its queue, wherever it is in it.
    fn remove(&mut self, at: u32) {
        self.leave_queue(at);
        let entry = self.entries[at as usize];
        if let Kind::Stream { .. } = entry.class.kind {
            self.leave_samples(at);
        }
        if entry.is_newest
            && let Some(hash) = hash(entry.link, entry.class.kind)
        {
            self.newest.remove(hash, at);
        }
        if entry.frame != NONE {
            self.release(entry.link, entry.frame);
        }
        self.entries[at as usize] = Entry { next: self.vacant_entry, ..Entry::VACANT };
        self.vacant_entry = at;
    }

    /// Puts an entry at the end of the queue of its rank.
    fn join_queue(&mut self, at: u32) {
        let Entry { link, class, .. } = self.entries[at as usize];
        let queue = self.links[link.0 as usize].queue_mut(class.rank);
        let previous = core::mem::replace(&mut queue.last, at);
        match previous {
            NONE => queue.first = at,
            previous => self.entries[previous as usize].next = at,
        }
        let entry = &mut self.entries[at as usize];
        (entry.previous, entry.next) = (previous, NONE);
    }

    fn leave_queue(&mut self, at: u32) {
        let rank = self.rank_of(at);
        let Entry { link, next, previous, .. } = self.entries[at as usize];
        let queue = self.links[link.0 as usize].queue_mut(rank);
        match previous {
            NONE => queue.first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => queue.last = previous,
            next => self.entries[next as usize].previous = previous,
        }
    }

    fn join_samples(&mut self, at: u32) {
        let Entry { link, is_stale, .. } = self.entries[at as usize];
        let samples = self.links[link.0 as usize].samples(is_stale);
        let previous = core::mem::replace(&mut samples.last, at);
        match previous {
            NONE => samples.first = at,
            previous => self.entries[previous as usize].next_sample = at,
        }
        let entry = &mut self.entries[at as usize];
        (entry.previous_sample, entry.next_sample) = (previous, NONE);
    }

    fn leave_samples(&mut self, at: u32) {
        let Entry { link, is_stale, next_sample, previous_sample, .. } = self.entries[at as usize];
        let samples = self.links[link.0 as usize].samples(is_stale);
        match previous_sample {
            NONE => samples.first = next_sample,
            previous => self.entries[previous as usize].next_sample = next_sample,
        }
        match next_sample {
            NONE => samples.last = previous_sample,
            next => self.entries[next as usize].previous_sample = previous_sample,
        }
    }
}

impl Waiting {
    const NOTHING: Self = Self {
        queues: [List::EMPTY; RANKS],
        stale: List::EMPTY,
        fresh: List::EMPTY,
        bytes: 0,
        snapshots: 0,
        snapshot: Mark::NOWHERE,
        written: [Mark::NOWHERE; WRITERS],
        taken_over: 0,
    };

    fn queue(&self, rank: Rank) -> &List {
        &self.queues[rank as usize]
    }

    fn queue_mut(&mut self, rank: Rank) -> &mut List {
        &mut self.queues[rank as usize]
    }

    fn samples(&mut self, stale: bool) -> &mut List {
        if stale { &mut self.stale } else { &mut self.fresh }
    }
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };

    fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

impl Mark {
    const NOWHERE: Self = Self { entry: NONE, serial: 0 };
}

impl Entry {
    const VACANT: Self = Self {
        class: Class::REPLY,
        serial: 0,
        link: LinkId(NONE),
        frame: NONE,
        next: NONE,
        previous: NONE,
        next_sample: NONE,
        previous_sample: NONE,
        since: Time(0),
        fence: 0,
        is_newest: false,
        is_stale: false,
    };
}

/// Where the newest frame of a link and key is found; `None` for kinds that are all kept.
fn hash(link: LinkId, kind: Kind) -> Option<u64> {
    match kind {
        Kind::Param { key } => Some(index::join(key, link.0)),
        Kind::Stream { key } => Some(index::join(key.rotate_left(32), link.0)),
        Kind::Move { key } => Some(index::join(!key, link.0)),
        Kind::Turn { .. } | Kind::Event { .. } | Kind::Snapshot | Kind::Reply => None,
    }
}

#[cfg(test)]
mod tests;

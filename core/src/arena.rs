//! Pieces of bytes of any length in one block that was taken at start.
//!
//! A router runs for months, and the sizes of what it keeps drift. Hence pieces are not bound to a
//! size for ever: a freed piece joins its free neighbours at once, so that when all is given back,
//! all is usable again, for whatever sizes. Finding, splitting and joining cost the same however
//! full it is (two-level segregated fit: Masmano et al., *TLSF*, ECRTS 2004).

use alloc::boxed::Box;
use alloc::vec;

use crate::index::Full;

/// A piece of an [`Arena`]: valid from `put` until `free`, or until `replace` changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Unit of the header.
    at: u32,
    /// Bytes.
    len: u32,
}

impl Block {
    /// No bytes; needs no place, and freeing it does nothing.
    pub const EMPTY: Self = Self { at: NONE, len: 0 };

    /// Bytes.
    pub const fn len(self) -> u32 {
        self.len
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where it lies, for who keeps its two parts apart.
    pub const fn at(self) -> u32 {
        self.at
    }

    /// The block of which [`Self::at`] and [`Self::len`] were kept.
    pub const fn from_parts(at: u32, len: u32) -> Self {
        Self { at, len }
    }
}

/// What lies in the block: spans of whole units, each a header and, if it is used, one piece.
///
/// The header is two little-endian words: the units of this span with `USED`, and the units of the
/// span before it. A free span goes on with two more: the next and the previous free span of its
/// class.
pub struct Arena {
    bytes: Box<[u8]>,
    /// The first free span of each class, or [`NONE`].
    free: Box<[u32; CLASSES]>,
    /// One bit for each class that has a free span.
    classes: [u64; CLASSES / 64],
    used_units: u32,
}

/// Bytes that spans are measured in: the shortest that can hold a free span's four words.
const UNIT: usize = 16;
const HEADER: usize = 8;
const USED: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

/// Words of a span.
const SIZE: usize = 0;
const BEFORE: usize = 1;
const NEXT: usize = 2;
const PREVIOUS: usize = 3;

/// Classes 0..16 hold spans of exactly so many units. From there on eight classes divide each
/// doubling, so that a span is at most an eighth longer than its class says.
const CLASSES: usize = 256;
const EXACT: u32 = 16;

impl Arena {
    /// Takes `bytes`, rounded down to whole units. Each piece needs 8 bytes more than its own,
    /// rounded up to 16.
    pub fn new(bytes: u64) -> Self {
        let units = bytes / UNIT as u64;
        assert!(units < u64::from(USED), "{bytes} bytes are more than an arena can address");
        let units = units as u32;
        let mut arena = Self {
            bytes: vec![0; units as usize * UNIT].into_boxed_slice(),
            free: Box::new([NONE; CLASSES]),
            classes: [0; CLASSES / 64],
            used_units: 0,
        };
        if units > 0 {
            arena.set(0, BEFORE, 0);
            arena.link(0, units);
        }
        arena
    }

    /// Bytes that [`Arena::new`] takes.
    pub const fn memory_bytes_for(bytes: u64) -> u64 {
        bytes / UNIT as u64 * UNIT as u64 + size_of::<[u32; CLASSES]>() as u64
    }

    /// Bytes taken when it was made; there are never more.
    pub fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.bytes) + size_of_val(&*self.free)) as u64
    }

    /// Bytes of all pieces with their headers and rounding.
    pub fn bytes_used(&self) -> u64 {
        u64::from(self.used_units) * UNIT as u64
    }

    /// Bytes in free spans. Less can be put: each piece needs a header, and one span to itself.
    pub fn bytes_free(&self) -> u64 {
        self.bytes.len() as u64 - self.bytes_used()
    }

    /// Keeps `parts`, one after the other, as one piece; `None` when no free span is long enough.
    pub fn put(&mut self, parts: &[&[u8]]) -> Option<Block> {
        let len = total(parts)?;
        if len == 0 {
            return Some(Block::EMPTY);
        }
        let at = self.take(units_for(len))?;
        let block = Block { at, len };
        self.write(block, parts);
        Some(block)
    }

    /// The bytes of `block`.
    #[inline]
    pub fn get(&self, block: Block) -> &[u8] {
        if block.is_empty() {
            return &[];
        }
        let start = block.at as usize * UNIT + HEADER;
        &self.bytes[start..start + block.len as usize]
    }

    /// The bytes of `block`, to be changed where they lie.
    #[inline]
    pub fn get_mut(&mut self, block: Block) -> &mut [u8] {
        if block.is_empty() {
            return &mut [];
        }
        let start = block.at as usize * UNIT + HEADER;
        &mut self.bytes[start..start + block.len as usize]
    }

    /// The number of bytes of `block`.
    pub fn len(&self, block: Block) -> u32 {
        block.len
    }

    /// Gives the place of `block` back; nothing may use the block afterwards.
    pub fn free(&mut self, block: Block) {
        if block.is_empty() {
            return;
        }
        let units = self.used_units_of(block);
        self.used_units -= units;
        self.release(block.at, units);
    }

    /// Makes `block` hold `parts` instead, where it lies if they fit; when full, nothing changes.
    pub fn replace(&mut self, block: &mut Block, parts: &[&[u8]]) -> Result<(), Full> {
        let len = total(parts).ok_or(Full)?;
        if block.is_empty() || len == 0 {
            let new = self.put(parts).ok_or(Full)?;
            self.free(*block);
            *block = new;
            return Ok(());
        }
        let (has, needs) = (self.used_units_of(*block), units_for(len));
        if needs > has && !self.extend(block.at, has, needs) {
            let new = self.put(parts).ok_or(Full)?;
            self.free(*block);
            *block = new;
            return Ok(());
        }
        // A value that only shrinks a little would soon want the rest back.
        if needs <= has / 2 {
            self.cut(block.at, has, needs);
            self.used_units -= has - needs;
        }
        block.len = len;
        self.write(*block, parts);
        Ok(())
    }

    fn write(&mut self, block: Block, parts: &[&[u8]]) {
        let mut to = self.get_mut(block);
        for part in parts {
            let (head, rest) = to.split_at_mut(part.len());
            head.copy_from_slice(part);
            to = rest;
        }
    }

    /// A span of `units`, marked as used.
    fn take(&mut self, units: u32) -> Option<u32> {
        let at = self.find(units)?;
        let has = self.units(at);
        self.unlink(at, has);
        self.set(at, SIZE, has | USED);
        self.used_units += units;
        if has > units {
            self.cut(at, has, units);
        }
        Some(at)
    }

    /// A free span of at least `units`.
    fn find(&self, units: u32) -> Option<u32> {
        // Every span of this class is long enough.
        let class = class_of(units + round_up(units));
        let first = self.classes.iter().enumerate().skip(class / 64).find_map(|(n, &word)| {
            let word = if n == class / 64 { word & (!0 << (class % 64)) } else { word };
            (word != 0).then(|| n * 64 + word.trailing_zeros() as usize)
        });
        match first {
            Some(class) => Some(self.free[class]),
            // When little is left, one span of the class below is worth a look.
            None => {
                let at = self.free[class_of(units)];
                (at != NONE && self.units(at) >= units).then_some(at)
            }
        }
    }

    /// Lets the used span at `at` have a part of the free one behind it, if that is long enough.
    fn extend(&mut self, at: u32, has: u32, needs: u32) -> bool {
        let behind = at + has;
        if !self.is_free(behind) || has + self.units(behind) < needs {
            return false;
        }
        let whole = has + self.units(behind);
        self.unlink(behind, whole - has);
        self.set(at, SIZE, whole | USED);
        self.tell_next(at, whole);
        self.used_units += needs - has;
        if whole > needs {
            self.cut(at, whole, needs);
        }
        true
    }

    /// Frees what the used span at `at` has beyond `keep` units.
    fn cut(&mut self, at: u32, has: u32, keep: u32) {
        self.set(at, SIZE, keep | USED);
        self.set(at + keep, BEFORE, keep);
        self.release(at + keep, has - keep);
    }

    /// Makes `units` from `at` a free span together with free neighbours; `BEFORE` is set already.
    fn release(&mut self, mut at: u32, mut units: u32) {
        let behind = at + units;
        if self.is_free(behind) {
            let more = self.units(behind);
            self.unlink(behind, more);
            units += more;
        }
        let before = self.word(at, BEFORE);
        if before > 0 && self.is_free(at - before) {
            self.unlink(at - before, before);
            at -= before;
            units += before;
        }
        self.link(at, units);
        self.tell_next(at, units);
    }

    /// Writes how long the span at `at` is into the span behind it.
    fn tell_next(&mut self, at: u32, units: u32) {
        if ((at + units) as usize) < self.bytes.len() / UNIT {
            self.set(at + units, BEFORE, units);
        }
    }

    /// Marks the span at `at` as free, first of its class.
    fn link(&mut self, at: u32, units: u32) {
        let class = class_of(units);
        let next = self.free[class];
        self.set(at, SIZE, units);
        self.set(at, NEXT, next);
        self.set(at, PREVIOUS, NONE);
        if next != NONE {
            self.set(next, PREVIOUS, at);
        }
        self.free[class] = at;
        self.classes[class / 64] |= 1 << (class % 64);
    }

    fn unlink(&mut self, at: u32, units: u32) {
        let class = class_of(units);
        let (next, previous) = (self.word(at, NEXT), self.word(at, PREVIOUS));
        if next != NONE {
            self.set(next, PREVIOUS, previous);
        }
        if previous != NONE {
            self.set(previous, NEXT, next);
            return;
        }
        self.free[class] = next;
        if next == NONE {
            self.classes[class / 64] &= !(1 << (class % 64));
        }
    }

    /// The units of the span that holds `block`, which must be in use.
    fn used_units_of(&self, block: Block) -> u32 {
        let size = self.word(block.at, SIZE);
        let units = size & !USED;
        assert!(size & USED != 0 && units_for(block.len) <= units, "{block:?} was freed before");
        units
    }

    fn is_free(&self, at: u32) -> bool {
        (at as usize) < self.bytes.len() / UNIT && self.word(at, SIZE) & USED == 0
    }

    fn units(&self, at: u32) -> u32 {
        self.word(at, SIZE) & !USED
    }

    fn word(&self, at: u32, word: usize) -> u32 {
        let start = at as usize * UNIT + word * 4;
        let bytes = &self.bytes[start..start + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn set(&mut self, at: u32, word: usize, value: u32) {
        let start = at as usize * UNIT + word * 4;
        self.bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn total(parts: &[&[u8]]) -> Option<u32> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    u32::try_from(total).ok()
}

fn units_for(len: u32) -> u32 {
    (len as usize + HEADER).div_ceil(UNIT) as u32
}

/// The class that a free span of so many units belongs to.
fn class_of(units: u32) -> usize {
    if units < EXACT {
        return units as usize;
    }
    let doubling = units.ilog2();
    let eighth = units >> (doubling - 3) & 7;
    (EXACT + (doubling - EXACT.ilog2()) * 8 + eighth) as usize
}

/// What must be added so that the class of the sum has no span shorter than `units`.
fn round_up(units: u32) -> u32 {
    if units < EXACT { 0 } else { (1 << (units.ilog2() - 3)) - 1 }
}

const _: () = assert!((EXACT + (31 - EXACT.ilog2()) * 8) as usize <= CLASSES);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Walks every span: they fill the arena, know their neighbours, no two free ones touch, and
    /// the free ones are exactly those in the lists.
    fn check(arena: &Arena) {
        let units = (arena.bytes.len() / UNIT) as u32;
        let (mut at, mut before, mut used, mut free) = (0, 0, 0, vec![]);
        let mut was_free = false;
        while at < units {
            assert_eq!(arena.word(at, BEFORE), before, "span at {at}");
            before = arena.units(at);
            if arena.is_free(at) {
                assert!(!was_free, "two free spans touch at {at}");
                free.push(at);
            } else {
                used += before;
            }
            was_free = arena.is_free(at);
            at += before;
        }
        assert_eq!(at, units);
        assert_eq!(used, arena.used_units);
        let mut listed = vec![];
        for (class, &first) in arena.free.iter().enumerate() {
            assert_eq!(arena.classes[class / 64] >> (class % 64) & 1 == 1, first != NONE);
            let (mut at, mut previous) = (first, NONE);
            while at != NONE {
                assert_eq!(
                    (class_of(arena.units(at)), arena.word(at, PREVIOUS)),
                    (class, previous)
                );
                listed.push(at);
                (previous, at) = (at, arena.word(at, NEXT));
            }
        }
        listed.sort_unstable();
        assert_eq!(listed, free);
    }

    #[test]
    fn a_class_after_rounding_up_holds_no_span_that_is_too_short() {
        for units in (1..5_000).chain([65_535, 1 << 20, (1 << 30) - 1]) {
            let class = class_of(units + round_up(units));
            assert!(class < CLASSES);
            // The shortest span that the class below could end with.
            let mut shortest = units;
            while class_of(shortest) < class {
                shortest += 1;
            }
            assert!(shortest <= units + round_up(units), "{units}");
            assert!(class_of(units) + 1 >= class, "{units} skips a class");
        }
    }

    #[test]
    fn parts_are_kept_one_after_the_other() {
        let mut arena = Arena::new(1_024);
        let block = arena.put(&[b"/a/b", b"", &[1, 2, 3]]).unwrap();
        assert_eq!(arena.get(block), b"/a/b\x01\x02\x03");
        assert_eq!(arena.len(block), 7);
        arena.get_mut(block)[0] = b'!';
        assert_eq!(arena.get(block), b"!a/b\x01\x02\x03");
        let empty = arena.put(&[]).unwrap();
        assert_eq!((empty, arena.get(empty)), (Block::EMPTY, &[][..]));
        arena.free(empty);
        arena.free(block);
        assert_eq!(arena.bytes_used(), 0);
    }

    #[test]
    fn the_whole_arena_can_be_one_piece_or_many_and_one_again() {
        for bytes in [16, 48, 1_024, 65_536, 100_000] {
            let mut arena = Arena::new(bytes);
            let longest = vec![7; arena.bytes_free() as usize - HEADER];
            let whole = arena.put(&[&longest]).unwrap();
            assert_eq!(arena.put(&[b"x"]), None);
            assert_eq!(arena.bytes_free(), 0);
            arena.free(whole);
            let mut small = vec![];
            while let Some(block) = arena.put(&[b"x"]) {
                small.push(block);
            }
            assert_eq!(small.len() as u64, bytes / 16);
            for block in small.iter().step_by(2).chain(small.iter().skip(1).step_by(2)) {
                arena.free(*block);
            }
            check(&arena);
            assert!(arena.put(&[&longest]).is_some());
        }
    }

    #[test]
    fn an_arena_without_room_keeps_only_nothing() {
        let mut arena = Arena::new(15);
        assert_eq!(arena.put(&[b"x"]), None);
        assert_eq!(arena.put(&[]), Some(Block::EMPTY));
    }

    #[test]
    fn a_value_of_about_the_same_length_stays_where_it_is() {
        let mut arena = Arena::new(4_096);
        let mut block = arena.put(&[&[1; 100]]).unwrap();
        let fence = arena.put(&[&[9; 8]]).unwrap();
        let place = block.at;
        for len in [104, 60, 100, 1, 8] {
            arena.replace(&mut block, &[&vec![2; len]]).unwrap();
            assert_eq!((block.at, arena.get(block)), (place, &vec![2; len][..]));
        }
        assert_eq!(arena.bytes_used(), 32, "the rest of a value that shrank was given back");
        arena.replace(&mut block, &[&[3; 300]]).unwrap();
        assert_ne!(block.at, place);
        assert_eq!(arena.get(fence), [9; 8]);
    }

    #[test]
    fn a_refused_replacement_changes_nothing() {
        let mut arena = Arena::new(128);
        let mut block = arena.put(&[&[1; 50]]).unwrap();
        let before = block;
        assert_eq!(arena.replace(&mut block, &[&[2; 121]]), Err(Full));
        assert_eq!((block, arena.get(block)), (before, &[1; 50][..]));
        assert_eq!(arena.replace(&mut block, &[&[2; 120]]), Ok(()));
        assert_eq!(arena.get(block), [2; 120]);
    }

    #[test]
    #[should_panic = "was freed before"]
    fn freeing_twice_is_noticed() {
        let mut arena = Arena::new(128);
        let block = arena.put(&[b"x"]).unwrap();
        arena.free(block);
        arena.free(block);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(usize),
        Free(usize),
        Replace(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let len = || prop_oneof![0..40_usize, 0..600_usize];
        let step = prop_oneof![
            3 => len().prop_map(Step::Put),
            2 => any::<usize>().prop_map(Step::Free),
            2 => (any::<usize>(), len()).prop_map(|(which, len)| Step::Replace(which, len)),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn pieces_keep_their_bytes_and_give_all_back(steps in steps()) {
            const BYTES: u64 = 6_000;
            let mut arena = Arena::new(BYTES);
            prop_assert_eq!(arena.memory_bytes(), Arena::memory_bytes_for(BYTES));
            let mut model: Vec<(Block, Vec<u8>)> = vec![];
            for (n, step) in steps.into_iter().enumerate() {
                let fresh = |len: usize| vec![n as u8; len];
                match step {
                    Step::Put(len) => {
                        if let Some(block) = arena.put(&[&fresh(len / 2), &fresh(len - len / 2)]) {
                            model.push((block, fresh(len)));
                        }
                    }
                    Step::Free(which) if !model.is_empty() => {
                        let (block, _) = model.swap_remove(which % model.len());
                        arena.free(block);
                    }
                    Step::Replace(which, len) if !model.is_empty() => {
                        let which = which % model.len();
                        let (block, bytes) = &mut model[which];
                        if arena.replace(block, &[&fresh(len)]).is_ok() {
                            *bytes = fresh(len);
                        }
                    }
                    _ => {}
                }
                check(&arena);
                for (block, bytes) in &model {
                    prop_assert_eq!(arena.get(*block), &bytes[..]);
                }
            }
            for (block, _) in model {
                arena.free(block);
            }
            check(&arena);
            prop_assert_eq!(arena.bytes_used(), 0);
            let whole = [0; BYTES as usize - HEADER];
            prop_assert!(arena.put(&[&whole]).is_some(), "all is one span again");
            prop_assert_eq!(arena.memory_bytes(), Arena::memory_bytes_for(BYTES));
        }
    }
}

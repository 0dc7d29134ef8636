//! Finds a record by its key in a table that never grows: the keys stay with the records.

use alloc::boxed::Box;
use alloc::vec;

/// A fixed capacity is used up; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Hashes to ids: open addressing, linear probing.
///
/// At most seven of eight slots are used, and a removal moves what follows back into the gap. Hence
/// a lookup costs the same after any history: there are no tombstones, and nothing is ever rebuilt.
/// Which id of equal keys is found first is not defined, so keep keys unique. There is no
/// iteration, because its order would come from the hash.
#[derive(Debug)]
pub struct Index {
    /// A power of two.
    slots: Box<[Slot]>,
    len: u32,
    capacity: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The lower half of the hash: the slot it belongs to, and a first comparison.
    tag: u32,
    /// [`VACANT`], or what the owner gave.
    id: u32,
}

const VACANT: u32 = u32::MAX;

impl Index {
    /// Room for exactly `capacity` ids, each below `u32::MAX`.
    pub fn new(capacity: u32) -> Self {
        assert!(capacity < 1 << 28, "{capacity} ids are more than a shard can hold");
        let slots = vec![Slot { tag: 0, id: VACANT }; slots_for(capacity)];
        Self { slots: slots.into_boxed_slice(), len: 0, capacity }
    }

    /// Bytes that [`Index::new`] takes.
    pub const fn memory_bytes_for(capacity: u32) -> u64 {
        (slots_for(capacity) * size_of::<Slot>()) as u64
    }

    /// The id with this `hash` that `eq` takes for its own.
    pub fn find(&self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash as u32;
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot.id == VACANT {
                return None;
            }
            if slot.tag == tag && eq(slot.id) {
                return Some(slot.id);
            }
            at = self.after(at);
        }
    }

    /// Adds `id`, whose key must not be there yet.
    pub fn insert(&mut self, hash: u64, id: u32) -> Result<(), Full> {
        assert!(id != VACANT, "the id that marks a vacant slot");
        if self.len == self.capacity {
            return Err(Full);
        }
        let tag = hash as u32;
        let mut at = self.home(tag);
        while self.slots[at].id != VACANT {
            at = self.after(at);
        }
        self.slots[at] = Slot { tag, id };
        self.len += 1;
        Ok(())
    }

    /// Removes `id`, which was inserted with `hash`; whether it was there.
    pub fn remove(&mut self, hash: u64, id: u32) -> bool {
        let tag = hash as u32;
        let mut at = self.home(tag);
        while self.slots[at].id != id {
            if self.slots[at].id == VACANT {
                return false;
            }
            at = self.after(at);
        }
        self.close_gap(at);
        self.len -= 1;
        true
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes taken when it was made; there are never more.
    pub fn memory_bytes(&self) -> u64 {
        size_of_val(&*self.slots) as u64
    }

    /// Fills `gap` with the next slot that would not be found behind it, and so on until none is
    /// left.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = self.after(gap);
        while self.slots[at].id != VACANT {
            let from_home = at.wrapping_sub(self.home(self.slots[at].tag)) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.slots[gap].id = VACANT;
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

/// At least one slot stays vacant, so that every search ends.
const fn slots_for(capacity: u32) -> usize {
    (capacity as usize * 8).div_ceil(7).next_power_of_two()
}

/// SipHash-1-3: short keys from strangers, who must not be able to choose collisions.
///
/// Source: Aumasson and Bernstein, *SipHash: a fast short-input PRF*, with one round for each word
/// and three at the end.
pub fn hash(seed: [u64; 2], bytes: &[u8]) -> u64 {
    let [k0, k1] = seed;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    // The last word holds what is left, and the length in its highest byte.
    let left = match bytes.last_chunk::<8>() {
        // What is left of the last eight bytes is quicker read with those before it.
        Some(last) if !tail.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * tail.len()),
        Some(_) => 0,
        None => tail.iter().rev().fold(0, |left, &byte| left << 8 | u64::from(byte)),
    };
    absorb(&mut v, left | (bytes.len() as u64) << 56);
    v[2] ^= 0xFF;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Joins a hash that only this process can know with a number, so that both count in every bit.
///
/// For keys of two parts of which one was hashed already; much cheaper than hashing again.
pub fn join(hash: u64, number: u32) -> u64 {
    let product = u128::from(hash ^ u64::from(number) << 32 ^ u64::from(number))
        * u128::from(0x9E37_79B9_7F4A_7C15_u64);
    product as u64 ^ (product >> 64) as u64
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{DefaultHasher, Hasher};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_siphash_1_3() {
        // Key 00..0f, message 00..(n-1): the first sixteen vectors of the reference implementation.
        let vectors: [u64; 16] = [
            0xabac_0158_050f_c4dc,
            0xc9f4_9bf3_7d57_ca93,
            0x82cb_9b02_4dc7_d44d,
            0x8bf8_0ab8_e7dd_f7fb,
            0xcf75_5760_88d3_8328,
            0xdef9_d52f_4953_3b67,
            0xc50d_2b50_c59f_22a7,
            0xd392_7d98_9bb1_1140,
            0x3690_9511_8d29_9a8e,
            0x25a4_8eb3_6c06_3de4,
            0x79de_85ee_92ff_097f,
            0x70c1_18c1_f94d_c352,
            0x78a3_84b1_57b4_d9a2,
            0x306f_760c_1229_ffa7,
            0x605a_a111_c0f9_5d34,
            0xd320_d86d_2a51_9956,
        ];
        let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: Vec<u8> = (0..16).collect();
        for (n, vector) in vectors.into_iter().enumerate() {
            assert_eq!(hash(seed, &message[..n]), vector, "{n} bytes");
        }
        // The standard library hashes with the same function and a key of zeros.
        let message: Vec<u8> = (0..=255).collect();
        for n in 0..message.len() {
            let mut standard = DefaultHasher::new();
            standard.write(&message[..n]);
            assert_eq!(hash([0, 0], &message[..n]), standard.finish(), "{n} bytes");
        }
    }

    #[test]
    fn joined_hashes_of_small_numbers_do_not_collide() {
        let mut low_halves = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            low_halves.insert(join(hash([1, 2], b"dimmer"), number) as u32);
        }
        // Ten thousand draws of 32 bits collide 0.01 times on average.
        assert!(low_halves.len() >= 9_999, "{} distinct", low_halves.len());
    }

    #[test]
    fn the_last_place_is_usable_and_one_more_is_refused() {
        for capacity in [0, 1, 7, 8, 1_000] {
            let mut index = Index::new(capacity);
            for id in 0..capacity {
                assert_eq!(index.insert(u64::from(id) % 5, id), Ok(()), "{id} of {capacity}");
            }
            assert_eq!(index.insert(0, capacity), Err(Full));
            for id in 0..capacity {
                assert_eq!(index.find(u64::from(id) % 5, |found| found == id), Some(id));
            }
            assert_eq!(index.find(6, |_| true), None);
        }
    }

    #[test]
    fn a_full_table_is_at_most_seven_eighths_full() {
        for capacity in [1, 7, 8, 896, 897, 100_000] {
            let slots = slots_for(capacity) as u64;
            assert_eq!(Index::new(capacity).memory_bytes(), Index::memory_bytes_for(capacity));
            assert!(u64::from(capacity) * 8 <= slots * 7, "{capacity} in {slots}");
            assert!(
                u64::from(capacity) * 8 * 3 >= slots * 7 || capacity < 8,
                "{capacity} in {slots}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_index_is_a_map(
            steps in prop::collection::vec((any::<bool>(), 0..40_u32, 0..24_u64), 0..400),
        ) {
            let mut index = Index::new(24);
            let memory_bytes = index.memory_bytes();
            // Few distinct hashes near the end of the table: long runs that wrap around.
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (insert, id, near) in steps {
                let hash = near.wrapping_sub(12);
                match model.get(&id).copied() {
                    Some(hash) if !insert => {
                        prop_assert!(index.remove(hash, id));
                        model.remove(&id);
                    }
                    None if insert => {
                        let expected = if model.len() < 24 { Ok(()) } else { Err(Full) };
                        prop_assert_eq!(index.insert(hash, id), expected);
                        if expected.is_ok() {
                            model.insert(id, hash);
                        }
                    }
                    None => prop_assert!(!index.remove(hash, id)),
                    Some(_) => {}
                }
                prop_assert_eq!(index.len() as usize, model.len());
                for (&id, &hash) in &model {
                    prop_assert_eq!(index.find(hash, |found| found == id), Some(id));
                }
            }
            prop_assert_eq!(index.memory_bytes(), memory_bytes);
        }
    }
}

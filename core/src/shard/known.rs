//! Addresses that came lately: what was found out about each is not found out again.
//!
//! A link writes the same addresses over and over, and mostly in the same order. So an address is
//! first compared with the one that its link wrote last, then with the one that followed that one
//! the last time, and only then looked for. What is found was compared byte by byte.

use alloc::boxed::Box;
use alloc::vec;

use super::audience::Audience;
use crate::ShardId;
use crate::limits::Limits;

/// Places: four for each param, so that few of a small show share one, within these bounds.
const PLACES_PER_PARAM: u32 = 4;
const PLACES_MIN: u32 = 64;
const PLACES_MAX: u32 = 16_384;
/// Longer addresses are not kept.
const ADDRESS_BYTES_MAX: usize = 88;
const NO_SLOT: u32 = u32::MAX;
const NO_HOME: u16 = u16::MAX;

/// Where an address is kept: good for the message in hand, and a hint after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// Of a link that wrote nothing yet: as good a hint as any.
    pub(super) const FIRST: Self = Self(0);

    /// The other place of the same addresses.
    fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    text: [u8; ADDRESS_BYTES_MAX],
    /// 0: vacant.
    len: u8,
    home: u16,
    /// Where its param is, as long as the store has removed none since.
    slot: u32,
    removed: u64,
    /// The key that all shards know it by.
    hash: u64,
    audience: Audience,
    /// What its link wrote after it.
    next: Place,
}

const VACANT: Entry = Entry {
    text: [0; ADDRESS_BYTES_MAX],
    len: 0,
    home: NO_HOME,
    slot: NO_SLOT,
    removed: 0,
    hash: 0,
    audience: Audience::UNKNOWN,
    next: Place::FIRST,
};

/// Each address has two places, which it shares with those that happen to want the same; the latest
/// have them. Who makes strangers' addresses collide slows them down to what a new address costs.
pub(super) struct Known {
    entries: Box<[Entry]>,
    seed: u64,
    /// Which of two taken places goes next.
    turn: bool,
}

impl Known {
    pub(super) fn new(limits: &Limits, seed: [u64; 2]) -> Self {
        let wanted = limits.params_max.saturating_mul(PLACES_PER_PARAM);
        let places = wanted.clamp(PLACES_MIN, PLACES_MAX).next_power_of_two();
        Self { entries: vec![VACANT; places as usize].into(), seed: seed[0], turn: false }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        size_of_val(&*self.entries) as u64
    }

    /// Where `address` is, if it came lately, for a link that wrote what is at `last` before.
    #[inline]
    pub(super) fn follow(&mut self, last: &mut Place, address: &[u8]) -> Option<Place> {
        if self.is_at(*last, address) {
            return Some(*last);
        }
        self.follow_on(last, address)
    }

    /// The same for who seldom writes an address twice in a row.
    #[inline]
    pub(super) fn follow_on(&mut self, last: &mut Place, address: &[u8]) -> Option<Place> {
        let next = self.entries[last.0 as usize].next;
        if self.is_at(next, address) {
            *last = next;
            return Some(next);
        }
        let found = self.find(address)?;
        self.entries[last.0 as usize].next = found;
        *last = found;
        Some(found)
    }

    /// Where `address` is, if it came lately.
    #[inline]
    pub(super) fn find(&self, address: &[u8]) -> Option<Place> {
        let place = self.place_of(address);
        if self.is_at(place, address) {
            return Some(place);
        }
        self.is_at(place.other(), address).then_some(place.other())
    }

    /// Keeps a checked address that was not found; `None` if it is too long for that.
    ///
    /// Nor is anything kept below `/clasp/`: there SET and PUBLISH may not do the same.
    pub(super) fn note(&mut self, address: &[u8], hash: u64) -> Option<Place> {
        if address.starts_with(b"/clasp/") {
            return None;
        }
        let place = self.place_to_take(address);
        let entry = &mut self.entries[place.0 as usize];
        let text = entry.text.get_mut(..address.len()).filter(|text| !text.is_empty())?;
        text.copy_from_slice(address);
        let (len, next) = (address.len() as u8, entry.next);
        *entry = Entry { text: entry.text, len, hash, next, ..VACANT };
        Some(place)
    }

    /// Hash, home and param of the address at `place`, where all are known: as [`Self::hash`],
    /// [`Self::home`] and [`Self::slot`].
    #[inline(always)]
    pub(super) fn all(&self, place: Place, removed: u64) -> Option<(u64, ShardId, u32)> {
        let entry = &self.entries[place.0 as usize];
        let is_whole = entry.slot != NO_SLOT && entry.removed == removed && entry.home != NO_HOME;
        is_whole.then_some((entry.hash, ShardId(entry.home), entry.slot))
    }

    #[inline]
    pub(super) fn hash(&self, place: Place) -> u64 {
        self.entries[place.0 as usize].hash
    }

    #[inline]
    pub(super) fn home(&self, place: Place) -> Option<ShardId> {
        let home = self.entries[place.0 as usize].home;
        (home != NO_HOME).then_some(ShardId(home))
    }

    pub(super) fn set_home(&mut self, place: Place, home: ShardId) {
        self.entries[place.0 as usize].home = home.0;
    }

    /// Where the param of the address is, if that was found when the store had `removed` as many
    /// as it has now.
    #[inline]
    pub(super) fn slot(&self, place: Place, removed: u64) -> Option<u32> {
        let entry = &self.entries[place.0 as usize];
        (entry.slot != NO_SLOT && entry.removed == removed).then_some(entry.slot)
    }

    #[inline]
    pub(super) fn set_slot(&mut self, place: Place, slot: u32, removed: u64) {
        let entry = &mut self.entries[place.0 as usize];
        (entry.slot, entry.removed) = (slot, removed);
    }

    #[inline]
    pub(super) fn audience(&self, place: Place) -> Audience {
        self.entries[place.0 as usize].audience
    }

    #[inline]
    pub(super) fn set_audience(&mut self, place: Place, audience: Audience) {
        self.entries[place.0 as usize].audience = audience;
    }

    #[inline(always)]
    fn is_at(&self, place: Place, address: &[u8]) -> bool {
        let entry = &self.entries[place.0 as usize];
        usize::from(entry.len) == address.len()
            && entry.text.get(..address.len()) == Some(address)
            && entry.len > 0
    }

    /// A place for an address that has none: a vacant one, or one whose address is forgotten.
    fn place_to_take(&mut self, address: &[u8]) -> Place {
        let place = self.place_of(address);
        let is_vacant = |place: Place| self.entries[place.0 as usize].len == 0;
        if is_vacant(place) {
            return place;
        }
        self.turn = !self.turn;
        if is_vacant(place.other()) || self.turn { place.other() } else { place }
    }

    /// Mixes all bytes, eight at a time: much cheaper than a hash that no stranger can foresee.
    #[inline]
    fn place_of(&self, address: &[u8]) -> Place {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.seed ^ address.len() as u64;
        let (words, tail) = address.as_chunks::<8>();
        for word in words {
            mixed = (mixed ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29);
        }
        // The last eight bytes once more are quicker read than those of them that are left. What
        // differs most, the end, goes where a product spreads it furthest.
        let left = match address.last_chunk::<8>() {
            Some(last) => u64::from_be_bytes(*last),
            None => tail.iter().fold(0, |left, &byte| left << 8 | u64::from(byte)),
        };
        mixed = (mixed ^ left).wrapping_mul(ODD);
        Place((mixed >> 32) as u32 & (self.entries.len() as u32 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known::new(&Limits { params_max: 100, ..Limits::default() }, [1, 2])
    }

    #[test]
    fn an_address_is_found_by_its_bytes_alone() {
        let mut known = known();
        assert_eq!(known.find(b"/a"), None);
        let place = known.note(b"/a", 7).unwrap();
        assert_eq!((known.find(b"/a"), known.hash(place)), (Some(place), 7));
        assert_eq!(known.find(b"/b"), None);
        assert_eq!(known.find(b""), None, "a vacant entry is no empty address");
    }

    #[test]
    fn of_three_addresses_that_want_the_same_two_places_one_is_forgotten() {
        let mut known = known();
        let places = [known.place_of(b"/a"), known.place_of(b"/a").other()];
        let others = (0..).map(|n| format!("/{n}"));
        let others = others.filter(|a| places.contains(&known.place_of(a.as_bytes())));
        let [second, third]: [String; 2] = others.take(2).collect::<Vec<_>>().try_into().unwrap();
        let all = [b"/a", second.as_bytes(), third.as_bytes()];
        let mut noted = vec![];
        for (n, address) in all.iter().enumerate() {
            assert_eq!(known.find(address), None);
            let place = known.note(address, n as u64).unwrap();
            assert!(places.contains(&place));
            assert_eq!((known.find(address), known.hash(place)), (Some(place), n as u64));
            noted.push(place);
        }
        assert_ne!(noted[0], noted[1], "a vacant place is taken first");
        let left = all.iter().filter(|address| known.find(address).is_some());
        assert_eq!(left.count(), 2);
    }

    #[test]
    fn the_order_in_which_a_link_writes_is_learnt() {
        let mut known = known();
        let addresses: [&[u8]; 3] = [b"/a", b"/b", b"/c"];
        for (n, address) in addresses.iter().enumerate() {
            known.note(address, n as u64).unwrap();
        }
        let (mut last, mut other) = (Place::FIRST, Place::FIRST);
        for round in 0..3 {
            for (n, address) in addresses.iter().enumerate() {
                let followed = known.entries[last.0 as usize].next;
                let place = known.follow(&mut last, address).unwrap();
                assert_eq!((known.hash(place), last), (n as u64, place));
                assert!(round == 0 || followed == place || n == 0 && round == 1);
            }
            // Another link in another order finds the same.
            for (n, address) in addresses.iter().enumerate().rev() {
                let place = known.follow(&mut other, address).unwrap();
                assert_eq!(known.hash(place), n as u64);
            }
            for _ in 0..2 {
                for address in addresses {
                    assert!(known.follow(&mut last, address).is_some());
                }
            }
        }
        assert_eq!(known.follow(&mut last, b"/new"), None);
    }

    #[test]
    fn what_was_remembered_of_the_one_before_is_not_said_of_the_next() {
        let mut known = known();
        let place = known.note(b"/a", 7).unwrap();
        known.set_home(place, ShardId(2));
        known.set_slot(place, 5, 1);
        known.set_audience(place, Audience::from_bits(9));
        assert_eq!((known.slot(place, 1), known.slot(place, 2)), (Some(5), None));
        let others = (0..).map(|n| format!("/{n}"));
        let next =
            others.map(|other| known.note(other.as_bytes(), 8)).find(|&at| at == Some(place));
        assert_eq!(next, Some(Some(place)));
        assert_eq!((known.home(place), known.slot(place, 1)), (None, None));
        assert_eq!(known.all(place, 1), None);
        assert_eq!(known.audience(place), Audience::UNKNOWN);
    }

    #[test]
    fn a_long_address_is_not_kept() {
        let mut known = known();
        for (len, kept) in [(88, true), (89, false), (255, false), (1_024, false)] {
            let address = vec![b'x'; len];
            assert_eq!(known.note(&address, 1).is_some(), kept, "{len}");
            assert_eq!(known.find(&address).is_some(), kept, "{len}");
        }
    }
}

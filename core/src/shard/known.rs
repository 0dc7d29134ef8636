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
/// Of so many addresses that are found elsewhere, one is kept here too.
const KEPT_OF: u8 = 8;
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

/// What is known of the address of a SET where it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Nothing, not even whether it is one.
    New,
    /// It came lately.
    Lately(Place),
    /// This home holds its param; it was checked when that came.
    Param { hash: u64, slot: u32 },
}

impl Met {
    #[inline(always)]
    pub(super) fn place(self) -> Option<Place> {
        match self {
            Self::Lately(place) => Some(place),
            Self::New | Self::Param { .. } => None,
        }
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
    /// Of each place, 15 bits of what its address mixes to; 0: vacant. All of them stay in the
    /// cache where the entries do not, and tell of nearly all that is not here that it is not.
    tags: Box<[u16]>,
    seed: u64,
    /// Which of two taken places goes next.
    turn: bool,
    /// Since the last turn of [`Self::is_turn`].
    passed: u8,
}

impl Known {
    pub(super) fn new(limits: &Limits, seed: [u64; 2]) -> Self {
        let wanted = limits.params_max.saturating_mul(PLACES_PER_PARAM);
        let places = wanted.clamp(PLACES_MIN, PLACES_MAX).next_power_of_two();
        let (entries, tags) = (vec![VACANT; places as usize], vec![0; places as usize]);
        let (entries, tags) = (entries.into(), tags.into());
        Self { entries, tags, seed: seed[0], turn: false, passed: 0 }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.entries) + size_of_val(&*self.tags)) as u64
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
        let mixed = self.mix(address);
        let (place, tag) = (self.place_of(mixed), tag_of(mixed));
        [place, place.other()]
            .into_iter()
            .find(|&place| self.tags[place.0 as usize] == tag && self.is_at(place, address))
    }

    /// Whether the next address that is found elsewhere is to be kept here too.
    ///
    /// Where more come and go than there are places, few find what was kept of them before another
    /// took its place; keeping them all would cost each of them more than it saves the few.
    pub(super) fn is_turn(&mut self) -> bool {
        self.passed = (self.passed + 1) % KEPT_OF;
        self.passed == 0
    }

    /// Keeps a checked address that was not found; `None` if it is too long for that.
    ///
    /// Nor is anything kept below `/clasp/`: there SET and PUBLISH may not do the same.
    pub(super) fn note(&mut self, address: &[u8], hash: u64) -> Option<Place> {
        if address.starts_with(b"/clasp/") {
            return None;
        }
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        let mixed = self.mix(address);
        let place = self.place_to_take(self.place_of(mixed));
        self.tags[place.0 as usize] = tag_of(mixed);
        let entry = &mut self.entries[place.0 as usize];
        entry.text[..address.len()].copy_from_slice(address);
        entry.len = address.len() as u8;
        entry.hash = hash;
        (entry.home, entry.slot, entry.audience) = (NO_HOME, NO_SLOT, Audience::UNKNOWN);
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
    fn place_to_take(&mut self, place: Place) -> Place {
        let is_vacant = |place: Place| self.tags[place.0 as usize] == 0;
        if is_vacant(place) {
            return place;
        }
        self.turn = !self.turn;
        if is_vacant(place.other()) || self.turn { place.other() } else { place }
    }

    /// Mixes all bytes, eight at a time: much cheaper than a hash that no stranger can foresee.
    #[inline]
    fn mix(&self, address: &[u8]) -> u64 {
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
        (mixed ^ left).wrapping_mul(ODD)
    }

    /// The first of the two places of what mixes to this.
    #[inline]
    fn place_of(&self, mixed: u64) -> Place {
        Place((mixed >> 32) as u32 & (self.entries.len() as u32 - 1))
    }
}

/// Never that of a vacant place. Places take other bits.
#[inline]
fn tag_of(mixed: u64) -> u16 {
    (mixed >> 48) as u16 | 1
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
        let place_of = |address: &[u8]| known.place_of(known.mix(address));
        let places = [place_of(b"/a"), place_of(b"/a").other()];
        let others = (0..).map(|n| format!("/{n}"));
        let others = others.filter(|a| places.contains(&place_of(a.as_bytes())));
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
    fn of_more_addresses_than_places_most_that_are_kept_stay() {
        let mut known = known();
        let places = known.entries.len();
        let addresses: Vec<String> = (0..2 * places).map(|n| format!("/{n}")).collect();
        let (mut rounds, mut found) = (0, 0);
        while rounds < 20 {
            rounds += 1;
            found = 0;
            for address in &addresses {
                if known.find(address.as_bytes()).is_some() {
                    found += 1;
                } else if known.is_turn() {
                    known.note(address.as_bytes(), 1).unwrap();
                }
            }
        }
        // One that is kept at every turn would be gone before it comes again.
        assert!(found > places / 2 && found <= places, "{found} of {places}");
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

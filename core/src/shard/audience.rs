//! Who gets what is sent to an address, found once and remembered until somebody's wishes change.
//!
//! Asking the patterns costs more than all the rest of a message. But most addresses of a show have
//! the same audience, and it is the same from message to message. So each audience is kept once,
//! and a param, or an address that came lately, remembers its number.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::home::Interests;
use super::subscription::Subscriptions;
use crate::LinkId;
use crate::limits::Limits;
use crate::signal::{Signal, SignalMask};

/// Audiences kept at once.
const AUDIENCES_MAX: usize = 4_096;
/// Room for their members: this, or enough for so many audiences of everybody.
const MEMBERS_MIN: usize = 16 * 1_024;
const OF_EVERYBODY: usize = 16;
/// Places by content: twice as many as audiences, so that two seldom want the same.
const PLACES: usize = 2 * AUDIENCES_MAX;
/// The highest number that fits where a param remembers it. At a thousand new audiences a second
/// the numbers last for thirty years; after that nothing is remembered any more.
const NUMBER_MAX: u64 = (1 << 40) - 1;

/// The number of an audience. It never comes again for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Audience(u64);

impl Audience {
    /// Nothing is remembered.
    pub(super) const UNKNOWN: Self = Self(0);
    /// One that is kept only until the next is asked for.
    const LOOSE: Self = Self(u64::MAX);

    /// As 40 bits, for what remembers it.
    pub(super) fn to_bits(self) -> u64 {
        if self == Self::LOOSE { 0 } else { self.0 }
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A link, and which signals some subscription of it wants without being paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member(u32);

const SIGNALS: u32 = 5;

impl Member {
    fn new(link: LinkId, mask: SignalMask) -> Self {
        let all = (1 << SIGNALS) - 1;
        let wanted = u32::from(mask.0) & all;
        Self(link.0 << SIGNALS | if wanted == 0 { all } else { wanted })
    }

    pub(super) fn link(self) -> LinkId {
        LinkId(self.0 >> SIGNALS)
    }

    pub(super) fn wants(self, signal: Signal) -> bool {
        self.0 & (1 << signal.code()) != 0
    }
}

/// See [`Audiences::size`].
pub(super) enum Size {
    Nobody,
    One(LinkId),
    More,
}

/// Where the members of an audience lie.
#[derive(Clone, Copy)]
struct Kept {
    start: u32,
    members: u32,
    /// Slots of paced subscriptions, behind the members.
    paced: u32,
    /// Other shards that want it, as bits; only its home knows.
    shards: u64,
    content: u64,
}

pub(super) struct Audiences {
    kept: Vec<Kept>,
    /// Members and slots of all that are kept.
    pool: Vec<u32>,
    /// The number of the first one kept. What has a lower one was forgotten.
    first: u64,
    /// By content: the number of one that may be the same.
    places: Box<[u64]>,
    /// The changes of wishes that what is kept has seen.
    seen: (u64, u64),
    /// The one asked for last, if it was not remembered.
    loose: Loose,
}

#[derive(Default)]
struct Loose {
    members: Vec<u32>,
    paced: Vec<u32>,
    shards: u64,
    /// For each link: the lookup in which it was found last, and where it stands in `members`.
    found: Box<[(u64, u32)]>,
    lookup: u64,
}

impl Audiences {
    pub(super) fn new(limits: &Limits) -> Self {
        let links = limits.links_max as usize;
        assert!(links < 1 << (32 - SIGNALS), "a member has 27 bits for its link");
        Self {
            kept: Vec::with_capacity(AUDIENCES_MAX),
            pool: Vec::with_capacity(MEMBERS_MIN.max(OF_EVERYBODY * links)),
            first: 1,
            places: vec![0; PLACES].into(),
            seen: (0, 0),
            loose: Loose {
                members: Vec::with_capacity(links),
                paced: Vec::with_capacity(limits.subscriptions_max as usize),
                shards: 0,
                found: vec![(0, 0); links].into(),
                lookup: 0,
            },
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (self.kept.capacity() * size_of::<Kept>()
            + (self.pool.capacity() + self.loose.members.capacity() + self.loose.paced.capacity())
                * size_of::<u32>()
            + size_of_val(&*self.places)
            + size_of_val(&*self.loose.found)) as u64
    }

    /// The audience of `address`: the remembered one if it still holds.
    #[inline]
    pub(super) fn of(
        &mut self,
        remembered: Audience,
        address: &[u8],
        subscriptions: &Subscriptions,
        interests: &Interests,
    ) -> Audience {
        let now = (subscriptions.changes(), interests.changes());
        if now != self.seen {
            self.forget_all();
            self.seen = now;
        }
        if self.at(remembered).is_some() {
            remembered
        } else {
            self.ask(address, subscriptions, interests)
        }
    }

    fn ask(
        &mut self,
        address: &[u8],
        subscriptions: &Subscriptions,
        interests: &Interests,
    ) -> Audience {
        let address = core::str::from_utf8(address).unwrap_or_default();
        self.loose.ask(address, subscriptions);
        self.loose.shards = interests.of(address);
        self.keep()
    }

    /// Members of `audience`, in the order in which their patterns were found.
    #[inline]
    pub(super) fn members(&self, audience: Audience) -> impl ExactSizeIterator<Item = Member> {
        let (members, _) = self.parts(audience);
        members.iter().map(|&member| Member(member))
    }

    /// Slots of the paced subscriptions of `audience`.
    #[inline]
    pub(super) fn paced(&self, audience: Audience) -> &[u32] {
        self.parts(audience).1
    }

    /// How many `audience` has, as far as that matters to whether a frame is made at all.
    #[inline(always)]
    pub(super) fn size(&self, audience: Audience) -> Size {
        let (shards, members, paced) = match self.at(audience) {
            Some(kept) => (kept.shards, kept.members as usize, kept.paced as usize),
            None => (self.loose.shards, self.loose.members.len(), self.loose.paced.len()),
        };
        match (members, shards == 0 && paced == 0) {
            (0, true) => Size::Nobody,
            (1, true) => {
                self.members(audience).next().map_or(Size::Nobody, |only| Size::One(only.link()))
            }
            _ => Size::More,
        }
    }

    /// Other shards that `audience` has members on.
    #[inline]
    pub(super) fn shards(&self, audience: Audience) -> u64 {
        self.at(audience).map_or(self.loose.shards, |kept| kept.shards)
    }

    #[inline]
    fn parts(&self, audience: Audience) -> (&[u32], &[u32]) {
        let Some(kept) = self.at(audience) else {
            return (&self.loose.members, &self.loose.paced);
        };
        let (start, members) = (kept.start as usize, kept.members as usize);
        self.pool[start..start + members + kept.paced as usize].split_at(members)
    }

    #[inline]
    fn at(&self, audience: Audience) -> Option<&Kept> {
        self.kept.get(audience.0.wrapping_sub(self.first) as usize)
    }

    /// Keeps what was asked for, unless it is too long, or is there already.
    fn keep(&mut self) -> Audience {
        let loose = &self.loose;
        let len = loose.members.len() + loose.paced.len();
        if len > self.pool.capacity() / 4 || self.first + AUDIENCES_MAX as u64 > NUMBER_MAX {
            return Audience::LOOSE;
        }
        let content = loose.content();
        let place = content as usize % PLACES;
        let same = Audience(self.places[place]);
        if let Some(kept) = self.at(same)
            && kept.content == content
            && kept.shards == loose.shards
            && self.parts(same) == (&loose.members[..], &loose.paced[..])
        {
            return same;
        }
        if self.kept.len() == AUDIENCES_MAX || self.pool.len() + len > self.pool.capacity() {
            self.forget_all();
        }
        let audience = Audience(self.first + self.kept.len() as u64);
        self.kept.push(Kept {
            start: self.pool.len() as u32,
            members: self.loose.members.len() as u32,
            paced: self.loose.paced.len() as u32,
            shards: self.loose.shards,
            content,
        });
        self.pool.extend_from_slice(&self.loose.members);
        self.pool.extend_from_slice(&self.loose.paced);
        self.places[place] = audience.0;
        audience
    }

    fn forget_all(&mut self) {
        self.first += self.kept.len() as u64;
        self.kept.clear();
        self.pool.clear();
    }
}

impl Loose {
    /// Asks the patterns who wants `address`: each link once.
    fn ask(&mut self, address: &str, subscriptions: &Subscriptions) {
        self.members.clear();
        self.paced.clear();
        self.lookup += 1;
        subscriptions.for_each_match(address, |slot, subscription| {
            if subscription.is_paced() {
                self.paced.push(slot);
                return;
            }
            let member = Member::new(subscription.link, subscription.mask);
            let found = &mut self.found[subscription.link.0 as usize];
            if found.0 == self.lookup {
                self.members[found.1 as usize] |= member.0;
            } else {
                *found = (self.lookup, self.members.len() as u32);
                self.members.push(member.0);
            }
        });
    }

    /// A number that equal audiences share, and others seldom.
    fn content(&self) -> u64 {
        let mut content = self.shards ^ (self.members.len() as u64) << 32;
        for &word in self.members.iter().chain(&self.paced) {
            content = crate::index::join(content, word);
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;
    use crate::message::{Subscribe, SubscribeOptions};

    const SEED: [u64; 2] = [3, 4];

    struct Wishes {
        audiences: Audiences,
        subscriptions: Subscriptions,
        interests: Interests,
    }

    impl Wishes {
        fn new() -> Self {
            let limits = Limits {
                links_max: 600,
                subscriptions_max: 12_000,
                subscriptions_per_session_max: 12_000,
                ..Limits::default()
            };
            Self {
                audiences: Audiences::new(&limits),
                subscriptions: Subscriptions::new(&limits, SEED),
                interests: Interests::new(&limits, 2, SEED),
            }
        }

        fn add(&mut self, link: u32, id: u32, pattern: &str, types: u8) -> u32 {
            let options = SubscribeOptions::default();
            let wish = Subscribe { id, pattern, types: SignalMask(types), options };
            self.subscriptions.add(LinkId(link), &wish).unwrap().0
        }

        fn pace(&mut self, link: u32, id: u32, pattern: &str) -> u32 {
            let options = SubscribeOptions { max_rate: Some(1), ..SubscribeOptions::default() };
            let wish = Subscribe { id, pattern, types: SignalMask::ALL, options };
            self.subscriptions.add(LinkId(link), &wish).unwrap().0
        }

        fn remove(&mut self, slot: u32) {
            self.subscriptions.remove(slot, &mut vec![]);
        }

        fn of(&mut self, remembered: Audience, address: &str) -> Audience {
            let address = address.as_bytes();
            self.audiences.of(remembered, address, &self.subscriptions, &self.interests)
        }

        fn links(&self, audience: Audience, signal: Signal) -> Vec<u32> {
            let members = self.audiences.members(audience);
            members.filter(|member| member.wants(signal)).map(|member| member.link().0).collect()
        }
    }

    #[test]
    fn addresses_with_the_same_audience_share_its_number() {
        let mut wishes = Wishes::new();
        wishes.add(1, 0, "/a/**", 0xFF);
        wishes.add(2, 0, "/**", 0xFF);
        let [x, y, other] =
            ["/a/x", "/a/y", "/b"].map(|address| wishes.of(Audience::UNKNOWN, address));
        assert_eq!(x, y);
        assert_eq!(wishes.links(x, Signal::Param), [2, 1]);
        assert_eq!(wishes.links(other, Signal::Param), [2]);
        assert_eq!(wishes.of(x, "/a/x"), x);
        assert_eq!(wishes.audiences.kept.len(), 2);
    }

    #[test]
    fn a_link_is_one_member_that_wants_what_any_of_its_subscriptions_wants() {
        let mut wishes = Wishes::new();
        let bit = |signal: Signal| 1 << signal.code();
        wishes.add(1, 0, "/a", bit(Signal::Event));
        wishes.add(1, 1, "/*", bit(Signal::Stream));
        wishes.add(2, 0, "/*", 0);
        let audience = wishes.of(Audience::UNKNOWN, "/a");
        assert_eq!(wishes.links(audience, Signal::Event), [1, 2]);
        assert_eq!(wishes.links(audience, Signal::Stream), [1, 2]);
        assert_eq!(wishes.links(audience, Signal::Param), [2], "an empty mask means all");
    }

    #[test]
    fn every_change_of_wishes_is_seen_by_what_was_remembered() {
        type Change = (&'static str, fn(&mut Wishes, u32), &'static [u32], usize, u64);
        let changes: [Change; 7] = [
            ("another subscribes", |w, _| _ = w.add(2, 0, "/a", 0xFF), &[1, 2], 0, 0),
            ("it unsubscribes", |w, slot| w.remove(slot), &[], 0, 0),
            ("its link closes", |w, _| w.subscriptions.orphan_all(LinkId(1)), &[], 0, 0),
            ("it is put aside", |w, slot| w.subscriptions.orphan(slot), &[], 0, 0),
            ("a paced one comes", |w, _| _ = w.pace(3, 0, "/*"), &[1], 1, 0),
            ("a shard wants it", |w, _| w.interests.change(ShardId(1), true, "/**"), &[1], 0, 2),
            ("one wants another", |w, _| w.interests.change(ShardId(1), true, "/b"), &[1], 0, 0),
        ];
        for (what, change, links, paced, shards) in changes {
            let mut wishes = Wishes::new();
            let slot = wishes.add(1, 0, "/a", 0xFF);
            let before = wishes.of(Audience::UNKNOWN, "/a");
            assert_eq!(wishes.links(before, Signal::Event), [1]);
            change(&mut wishes, slot);
            let after = wishes.of(before, "/a");
            assert_ne!(after, before, "{what}");
            assert_eq!(wishes.links(after, Signal::Event), links, "{what}");
            assert_eq!(wishes.audiences.paced(after).len(), paced, "{what}");
            assert_eq!(wishes.audiences.shards(after), shards, "{what}");
        }
    }

    #[test]
    fn more_audiences_than_there_is_room_for_are_found_anew() {
        let mut wishes = Wishes::new();
        for n in 0..5_000 {
            wishes.add(n % 500, n, &format!("/{n}"), 0xFF);
            wishes.add((n + 1 + n / 500) % 500, n, &format!("/{n}"), 0xFF);
        }
        let address = |n: u32| format!("/{n}");
        let first = wishes.of(Audience::UNKNOWN, "/0");
        for n in 0..5_000 {
            let audience = wishes.of(Audience::UNKNOWN, &address(n));
            let links = [n % 500, (n + 1 + n / 500) % 500];
            assert_eq!(wishes.links(audience, Signal::Event), links);
            assert!(wishes.audiences.kept.len() <= AUDIENCES_MAX);
        }
        assert_eq!(wishes.audiences.at(first).map(|kept| kept.members), None, "it was forgotten");
        let again = wishes.of(first, "/0");
        assert_ne!(again, first, "a number never comes again");
        assert_eq!(wishes.links(again, Signal::Event), [0, 1]);
    }

    #[test]
    fn an_audience_too_long_to_keep_is_asked_for_each_time() {
        let mut wishes = Wishes::new();
        let room = wishes.audiences.pool.capacity();
        let long = room as u32 / 4 + 1;
        for id in 0..long {
            wishes.pace(id % 7, id, "/a");
        }
        let audience = wishes.of(Audience::UNKNOWN, "/a");
        assert_eq!(audience, Audience::LOOSE);
        assert_eq!(wishes.audiences.paced(audience).len(), long as usize);
        assert_eq!(Audience::from_bits(audience.to_bits()), Audience::UNKNOWN);
        let bytes = wishes.audiences.memory_bytes();
        let other = wishes.of(Audience::from_bits(audience.to_bits()), "/b");
        assert_eq!(wishes.audiences.paced(other), []);
        assert_eq!(wishes.audiences.memory_bytes(), bytes);
    }

    #[test]
    fn numbers_that_are_used_up_are_not_used_again() {
        let mut wishes = Wishes::new();
        wishes.add(1, 0, "/a", 0xFF);
        wishes.audiences.first = NUMBER_MAX - AUDIENCES_MAX as u64 + 1;
        let audience = wishes.of(Audience::UNKNOWN, "/a");
        assert_eq!(audience, Audience::LOOSE);
        assert_eq!(wishes.links(audience, Signal::Event), [1]);
    }
}

//! One param in one cache line, and the line in which params wait for their eviction.

use super::super::audience::Audience;
use super::super::session_id::SessionId;
use super::super::settings::Rule;
use super::Stamp;
use crate::arena::Block;
use crate::message::Ttl;
use crate::time::Time;

const NONE: u32 = u32::MAX;
/// The neighbour of what is in no line.
const OUT: u32 = u32::MAX - 1;

/// What is held of an address. Its slot number is stable while it lives, and orders snapshots.
///
/// What few params have (a lock, a time to die) lies elsewhere.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Param {
    /// Where the address lies, and behind it the value: type code, then data.
    at: u32,
    pub address_len: u16,
    value_len: u16,
    /// Starts at 1 and only rises, also across expiry; 48 bits last for nine years of a million
    /// writes a second.
    revision_low: u32,
    revision_high: u16,
    flags: u8,
    /// Who listened to the last write: 40 bits.
    audience_high: u8,
    audience_low: u32,
    /// Seconds of a TTL, if the flags say that there is one.
    ttl_s: u32,
    pub written: Time,
    pub written_unix_us: u64,
    pub writer: SessionId,
    /// Neighbours in the line for eviction; of a vacant slot, the next vacant one.
    newer: u32,
    older: u32,
}

const _: () = assert!(size_of::<Param>() == 64, "a param is one cache line");

const RULE: u8 = 0b0000_0111;
const LIVE: u8 = 0b0000_1000;
const GUARDED: u8 = 0b0001_0000;
const LOCKED: u8 = 0b0010_0000;
const TTL_SHIFT: u8 = 6;
const REVISION_MAX: u64 = (1 << 48) - 1;

impl Param {
    pub(super) const VACANT: Self = Self {
        at: 0,
        address_len: 0,
        value_len: 0,
        revision_low: 0,
        revision_high: 0,
        flags: 0,
        audience_high: 0,
        audience_low: 0,
        ttl_s: 0,
        written: Time(0),
        written_unix_us: 0,
        writer: SessionId::NONE,
        newer: OUT,
        older: OUT,
    };

    /// A live param whose address and value lie in `piece`.
    pub(super) fn new(piece: Block, address_len: usize, revision: u64, rule: Rule) -> Self {
        let mut param = Self { flags: LIVE | code_of(rule), ..Self::VACANT };
        param.address_len = address_len as u16;
        param.set_piece(piece);
        param.set_revision(revision);
        param
    }

    /// Address and value.
    pub(super) fn piece(&self) -> Block {
        Block::from_parts(self.at, u32::from(self.address_len) + u32::from(self.value_len))
    }

    pub(super) fn set_piece(&mut self, piece: Block) {
        self.at = piece.at();
        self.value_len = (piece.len() - u32::from(self.address_len)) as u16;
    }

    pub(super) fn value_len(&self) -> usize {
        usize::from(self.value_len)
    }

    pub(super) fn revision(&self) -> u64 {
        u64::from(self.revision_low) | u64::from(self.revision_high) << 32
    }

    pub(super) fn set_revision(&mut self, revision: u64) {
        let revision = revision.min(REVISION_MAX);
        self.revision_low = revision as u32;
        self.revision_high = (revision >> 32) as u16;
    }

    /// It was written once more.
    #[inline]
    pub(super) fn stamp(&mut self, by: Stamp) {
        self.set_revision(self.revision() + 1);
        self.written = by.now;
        self.written_unix_us = by.unix_us;
        self.writer = by.writer;
    }

    pub(super) fn audience(&self) -> Audience {
        Audience::from_bits(u64::from(self.audience_low) | u64::from(self.audience_high) << 32)
    }

    pub(super) fn set_audience(&mut self, audience: Audience) {
        let bits = audience.to_bits();
        self.audience_low = bits as u32;
        self.audience_high = (bits >> 32) as u8;
    }

    pub(super) fn rule(&self) -> Rule {
        match self.flags & RULE {
            1 => Rule::Max,
            2 => Rule::Min,
            3 => Rule::Lock,
            4 => Rule::Merge,
            5 => Rule::Arbitrated,
            _ => Rule::Last,
        }
    }

    pub(super) fn set_rule(&mut self, rule: Rule) {
        self.flags = self.flags & !RULE | code_of(rule);
    }

    pub(super) fn ttl(&self) -> Option<Ttl> {
        match self.flags >> TTL_SHIFT {
            1 => Some(Ttl::Never),
            2 => Some(Ttl::Sliding(self.ttl_s)),
            3 => Some(Ttl::Absolute(self.ttl_s)),
            _ => None,
        }
    }

    pub(super) fn set_ttl(&mut self, ttl: Ttl) {
        let (kind, seconds) = match ttl {
            Ttl::Never => (1, 0),
            Ttl::Sliding(seconds) => (2, seconds),
            Ttl::Absolute(seconds) => (3, seconds),
        };
        self.ttl_s = seconds;
        self.flags = self.flags & !(3 << TTL_SHIFT) | kind << TTL_SHIFT;
    }

    /// Whether it was ended: set to null, with a life that no write renews. What is written over it
    /// is a new param, whose life is not that of the one before it.
    #[inline]
    pub(super) fn is_ended(&self) -> bool {
        // Null alone has no data behind its type code.
        self.flags >> TTL_SHIFT == 3 && self.value_len() == 1
    }

    pub(super) fn clear_ttl(&mut self) {
        self.ttl_s = 0;
        self.flags &= !(3 << TTL_SHIFT);
    }

    pub(super) fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    pub(super) fn is_locked(&self) -> bool {
        self.flags & LOCKED != 0
    }

    /// Whether neither a rule nor a lock keeps any write out.
    pub(super) fn takes_all(&self) -> bool {
        self.flags & (RULE | LOCKED) == 0
    }

    pub(super) fn set_locked(&mut self, locked: bool) {
        self.set_flag(LOCKED, locked);
    }

    /// Belongs to the bundle in hand, so that making room for it does not evict it.
    pub(super) fn set_guarded(&mut self, guarded: bool) {
        self.set_flag(GUARDED, guarded);
    }

    /// Whether it may be evicted: nobody locked it, guards it, or declared that it lasts.
    pub(super) fn may_go(&self) -> bool {
        self.flags & (GUARDED | LOCKED) == 0 && self.flags >> TTL_SHIFT != 1
    }

    fn set_flag(&mut self, flag: u8, set: bool) {
        self.flags = if set { self.flags | flag } else { self.flags & !flag };
    }
}

fn code_of(rule: Rule) -> u8 {
    match rule {
        Rule::Last => 0,
        Rule::Max => 1,
        Rule::Min => 2,
        Rule::Lock => 3,
        Rule::Merge => 4,
        Rule::Arbitrated => 5,
    }
}

/// The params that may be evicted, least recently written first; and the vacant slots, of which the
/// one that became vacant last is used next. Both lead through the params themselves.
pub(super) struct Lines {
    oldest: u32,
    newest: u32,
    vacant: u32,
}

impl Lines {
    /// All of `params` become vacant.
    pub(super) fn new(params: &mut [Param]) -> Self {
        let mut vacant = NONE;
        for (slot, param) in params.iter_mut().enumerate().rev() {
            param.newer = core::mem::replace(&mut vacant, slot as u32);
        }
        Self { oldest: NONE, newest: NONE, vacant }
    }

    /// What was written before all others.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Puts `slot` at the end, wherever it was.
    #[inline]
    pub(super) fn join(&mut self, params: &mut [Param], slot: u32) {
        if self.newest == slot {
            return;
        }
        self.leave(params, slot);
        let param = &mut params[slot as usize];
        (param.newer, param.older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = slot,
            newest => params[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// Takes `slot` out, if it is in.
    #[inline]
    pub(super) fn leave(&mut self, params: &mut [Param], slot: u32) {
        let param = &mut params[slot as usize];
        let (newer, older) = (param.newer, param.older);
        if newer == OUT {
            return;
        }
        (param.newer, param.older) = (OUT, OUT);
        match newer {
            NONE => self.newest = older,
            newer => params[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => params[older as usize].newer = newer,
        }
    }

    /// Uses a vacant slot for `param`.
    pub(super) fn use_vacant(&mut self, params: &mut [Param], param: Param) -> Option<u32> {
        let slot = self.vacant;
        let vacant = params.get_mut(slot as usize)?;
        self.vacant = vacant.newer;
        *vacant = param;
        Some(slot)
    }

    /// Makes `slot` vacant, which has left the line; what it held.
    pub(super) fn vacate(&mut self, params: &mut [Param], slot: u32) -> Param {
        let newer = core::mem::replace(&mut self.vacant, slot);
        core::mem::replace(&mut params[slot as usize], Param { newer, ..Param::VACANT })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_param_says_what_it_was_told() {
        let piece = Block::from_parts(77, 65_400);
        for rule in [Rule::Last, Rule::Max, Rule::Min, Rule::Lock, Rule::Merge, Rule::Arbitrated] {
            let mut param = Param::new(piece, 1_024, (1 << 48) - 2, rule);
            assert_eq!((param.ttl(), param.is_live(), param.may_go()), (None, true, true));
            for ttl in [Ttl::Sliding(u32::MAX >> 1), Ttl::Absolute(3), Ttl::Never] {
                param.set_ttl(ttl);
                assert_eq!((param.ttl(), param.may_go()), (Some(ttl), ttl != Ttl::Never));
            }
            param.set_ttl(Ttl::Sliding(0));
            param.set_locked(true);
            param.set_guarded(true);
            assert!(param.is_locked() && !param.may_go());
            param.set_locked(false);
            assert!(!param.is_locked() && !param.may_go());
            param.set_guarded(false);
            param.set_audience(Audience::from_bits(0xFE_0000_0001));
            assert!(param.may_go() && param.is_live() && param.rule() == rule);
            assert_eq!(param.audience(), Audience::from_bits(0xFE_0000_0001));
            assert_eq!((param.piece(), param.value_len()), (piece, 65_400 - 1_024));
            assert_eq!(param.revision(), (1 << 48) - 2);
            param.set_revision(u64::MAX);
            assert_eq!(param.revision(), (1 << 48) - 1, "it stays where it cannot rise");
        }
    }

    proptest! {
        #[test]
        fn a_line_keeps_the_order_of_writing(
            steps in prop::collection::vec((0..4_u8, 0..8_u32), 0..80),
        ) {
            let mut params = vec![Param::VACANT; 8];
            let mut lines = Lines::new(&mut params);
            let (mut live, mut line, mut vacant): (Vec<u32>, Vec<u32>, Vec<u32>) =
                (vec![], vec![], (0..8).rev().collect());
            let new = Param::new(Block::from_parts(0, 2), 1, 0, Rule::Last);
            for (step, slot) in steps {
                match step {
                    0 => {
                        let used = lines.use_vacant(&mut params, new);
                        prop_assert_eq!(used, vacant.pop());
                        live.extend(used);
                    }
                    _ if !live.contains(&slot) => {}
                    1 => {
                        lines.leave(&mut params, slot);
                        lines.vacate(&mut params, slot);
                        live.retain(|&other| other != slot);
                        line.retain(|&other| other != slot);
                        vacant.push(slot);
                    }
                    2 => {
                        lines.leave(&mut params, slot);
                        line.retain(|&other| other != slot);
                    }
                    _ => {
                        lines.join(&mut params, slot);
                        line.retain(|&other| other != slot);
                        line.push(slot);
                    }
                }
                prop_assert_eq!(lines.oldest(), line.first().copied());
            }
            let mut found = vec![];
            while let Some(oldest) = lines.oldest() {
                found.push(oldest);
                lines.leave(&mut params, oldest);
            }
            prop_assert_eq!(found, line);
        }
    }
}

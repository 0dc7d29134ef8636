//! Who says what of the params that are arbitrated, and who wins.
//!
//! A *contest* is one param and the claims on it; a *claim* is what one source says of it. Both end
//! with their last claim: a param that nobody claims has none.

mod entries;
mod ruling;

use alloc::vec::Vec;

use entries::{Claim, Contest, NO_CLAIM, NO_CONTEST, NO_SOURCE, Source};
pub(crate) use entries::{Claimant, Duel, Fade, SourceId, Told};

use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::{BUNDLE_MESSAGES_MAX, Limits};
use crate::pattern;
use crate::shard::lists::Owned;
use crate::shard::marker::ID_BYTES_MAX;
use crate::shard::record::{Origin, UNDECLARED};
use crate::shard::refused::Refused;
use crate::shard::session_id::SessionId;
use crate::shard::settings::{Arbitration, Order};
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::value::Value;

/// Sources with claims at once, at most.
const SOURCES_MAX: u32 = 4_096;
/// Sources of one param, at most: all are compared.
const SOURCES_PER_PARAM_MAX: u32 = 64;
/// Bytes for the value of a claim, on average: a number takes so many.
const VALUE_BYTES: u64 = 32;
/// And for the values of a bundle, which are taken before the old ones are given back.
const STAGED_BYTES: u64 = VALUE_BYTES * BUNDLE_MESSAGES_MAX as u64;
/// Who changes within this of another fights with it.
const DUEL_WITHIN: Span = Span::from_secs(1);
/// Duels over one param are told this far apart.
const DUEL_INTERVAL: Span = Span::from_secs(5);

/// Contests that one turn settles, at most.
pub(crate) const UNSETTLED_MAX: usize = 64;

pub(crate) const NONE: u32 = u32::MAX;

pub(crate) struct Claims {
    policies: Vec<Arbitration>,
    /// Those of the ruling before, for contests that are not judged anew yet.
    before: Vec<Arbitration>,
    /// Counts rulings.
    ruling: u32,
    contests: Vec<Contest>,
    contests_free: Vec<u32>,
    contest_of: Index,
    claims: Vec<Claim>,
    claims_free: Vec<u32>,
    /// By contest.
    of_contest: Owned,
    /// By source.
    of_source: Owned,
    sources: Vec<Source>,
    sources_free: Vec<u32>,
    source_of: Index,
    values: Arena,
    due: Timers,
    fading: Timers,
    /// Sources whose claims go.
    leaving: Vec<u32>,
    /// Contests that lost claims.
    unsettled: Vec<u32>,
    turn: u64,
    seed: [u64; 2],
}

impl Claims {
    pub(crate) fn new(limits: &Limits, seed: [u64; 2], policies: &[Arbitration]) -> Self {
        let max = if policies.is_empty() { 0 } else { limits.claims_max };
        Self { policies: policies.to_vec(), ..Self::with_room(max, seed) }
    }

    /// Nothing is arbitrated yet, but there is room for claims.
    pub(crate) fn with_room(max: u32, seed: [u64; 2]) -> Self {
        let sources = max.min(SOURCES_MAX);
        Self {
            policies: Vec::new(),
            before: Vec::new(),
            ruling: 0,
            contests: alloc::vec![NO_CONTEST; max as usize],
            contests_free: (0..max).rev().collect(),
            contest_of: Index::new(max),
            claims: alloc::vec![NO_CLAIM; max as usize],
            claims_free: (0..max).rev().collect(),
            of_contest: Owned::new(max, max),
            of_source: Owned::new(sources, max),
            sources: alloc::vec![NO_SOURCE; sources as usize],
            sources_free: (0..sources).rev().collect(),
            source_of: Index::new(sources),
            values: Arena::new(if max == 0 {
                0
            } else {
                u64::from(max) * VALUE_BYTES + STAGED_BYTES
            }),
            due: Timers::new(max),
            fading: Timers::new(max),
            leaving: Vec::with_capacity(sources as usize),
            unsettled: Vec::with_capacity(if max == 0 { 0 } else { UNSETTLED_MAX }),
            turn: 0,
            seed,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let policies: usize = self.policies.iter().chain(&self.before).map(policy_bytes).sum();
        ((self.policies.capacity() + self.before.capacity()) * size_of::<Arbitration>()
            + policies
            + self.contests.len() * (size_of::<Contest>() + size_of::<u32>())
            + self.claims.len() * (size_of::<Claim>() + size_of::<u32>())
            + self.sources.len() * (size_of::<Source>() + 2 * size_of::<u32>())
            + self.unsettled.capacity() * size_of::<u32>()) as u64
            + self.contest_of.memory_bytes()
            + self.of_contest.memory_bytes()
            + self.of_source.memory_bytes()
            + self.source_of.memory_bytes()
            + self.values.memory_bytes()
            + self.due.memory_bytes()
            + self.fading.memory_bytes()
    }

    /// Claims at present.
    pub(crate) fn len(&self) -> u32 {
        (self.claims.len() - self.claims_free.len()) as u32
    }

    /// Which policy decides who wins `address`, if one does.
    pub(crate) fn policy_of(&self, address: &str) -> Option<u16> {
        // What the router is told of sources is no show.
        let is_show = !address.starts_with("/clasp/");
        let matches = |p: &Arbitration| is_show && pattern::matches(&p.pattern, address);
        let found = self.policies.iter().position(matches);
        found.map(|at| at as u16)
    }

    pub(crate) fn policies(&self) -> &[Arbitration] {
        &self.policies
    }

    pub(crate) fn arbitrates(&self) -> bool {
        !self.policies.is_empty()
    }

    pub(crate) fn policy(&self, policy: u16) -> &Arbitration {
        &self.policies[usize::from(policy)]
    }

    /// What decides about a contest; until that is judged anew, as it did before.
    pub(crate) fn policy_for(&self, contest: u32) -> &Arbitration {
        let Contest { policy, ruling, .. } = self.contests[contest as usize];
        let policies = if ruling == self.ruling { &self.policies } else { &self.before };
        &policies[usize::from(policy)]
    }

    /// The contest for the param in `slot`, if anybody claims it or it fades.
    pub(crate) fn contest(&self, slot: u32) -> Option<u32> {
        self.contest_of.find(self.slot_hash(slot), |at| self.contests[at as usize].slot == slot)
    }

    pub(crate) fn contest_of(&self, claim: u32) -> u32 {
        self.claims[claim as usize].contest
    }

    pub(crate) fn slot(&self, contest: u32) -> u32 {
        self.contests[contest as usize].slot
    }

    /// The claim that has the param, and since when.
    pub(crate) fn winner(&self, contest: u32) -> (u32, Time) {
        let contest = &self.contests[contest as usize];
        (contest.winner, contest.since)
    }

    pub(crate) fn value(&self, claim: u32) -> Value<'_> {
        super::value_in(self.values.get(self.claims[claim as usize].value))
    }

    /// Who claims, and as whom it wrote last.
    pub(crate) fn source(&self, claim: u32) -> (SourceId, SessionId, Origin) {
        let Claim { source, priority, .. } = self.claims[claim as usize];
        let source = &self.sources[source as usize];
        (source.id, source.by, Origin { priority, confirm: false, ..source.origin })
    }

    /// The claims of a contest, the newest first.
    pub(crate) fn of(&self, contest: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.of_contest.first(contest);
        core::iter::from_fn(move || {
            let claim = next?;
            next = self.of_contest.next(claim);
            Some(claim)
        })
    }

    pub(crate) fn told(&self, claim: u32) -> Told<'_> {
        let Claim { source, priority, changed, .. } = self.claims[claim as usize];
        let source = self.sources[source as usize].id.as_str();
        Told { source, priority, value: self.value(claim), changed }
    }

    /// Whether there is room for one more claim on the param in `slot`, beside those that earlier
    /// messages of the same bundle may make: `ahead` in all, `ahead_here` on this param.
    pub(crate) fn check(
        &self,
        slot: Option<u32>,
        who: &Claimant<'_>,
        ahead: usize,
        ahead_here: u64,
    ) -> Result<(), Refused> {
        let contest = slot.and_then(|slot| self.contest(slot));
        let source = self.find_source(who);
        if let (Some(contest), Some(source)) = (contest, source)
            && self.find(contest, source).is_some()
        {
            return Ok(());
        }
        let here = contest.map_or(0, |contest| self.contests[contest as usize].claims);
        let full = self.claims_free.len() <= ahead
            || self.contests_free.len() <= ahead
            || self.sources_free.len() <= ahead
            || u64::from(here) + ahead_here >= u64::from(SOURCES_PER_PARAM_MAX);
        if full { Err(Refused::Claims) } else { Ok(()) }
    }

    /// Takes the memory for a value that is claimed.
    pub(crate) fn stage(&mut self, value: Value<'_>) -> Result<Block, Refused> {
        self.values.put(&[&[value.code], value.data]).ok_or(Refused::Claims)
    }

    pub(crate) fn unstage(&mut self, value: Block) {
        self.values.free(value);
    }

    /// Notes what `who` says of the param in `slot`; room was made sure of by [`Claims::check`].
    /// `policy`: what decides about it, if nobody claims it yet.
    pub(crate) fn claim(
        &mut self,
        now: Time,
        slot: u32,
        policy: u16,
        who: &Claimant<'_>,
        value: Block,
    ) -> u32 {
        let contest = self.contest(slot).unwrap_or_else(|| self.begin(now, slot, policy));
        // What fades stops where it is.
        self.contests[contest as usize].fade = None;
        self.fading.clear(contest);
        let source = self.find_source(who).unwrap_or_else(|| self.add_source(now, who));
        self.sources[source as usize].origin = who.origin;
        let policy = self.policy_for(contest);
        let declared = who.tag.priority.unwrap_or(UNDECLARED);
        let priority = policy.priority_of(declared, who.origin.priority);
        let timeout = policy.timeout;
        let claim = match self.find(contest, source) {
            Some(claim) => {
                let held = &mut self.claims[claim as usize];
                let old = core::mem::replace(&mut held.value, value);
                if self.values.get(old) != self.values.get(value) {
                    self.turn += 1;
                    (held.changed, held.turn) = (now, self.turn);
                }
                (held.heard, held.priority, held.declared) = (now, priority, declared);
                self.values.free(old);
                claim
            }
            None => {
                let claim = self.claims_free.pop().expect("check made sure of a free claim");
                self.turn += 1;
                let turn = self.turn;
                let (heard, changed) = (now, now);
                self.claims[claim as usize] =
                    Claim { contest, source, priority, declared, heard, changed, turn, value };
                self.of_contest.give(contest, claim);
                self.of_source.give(source, claim);
                self.contests[contest as usize].claims += 1;
                self.sources[source as usize].claims += 1;
                if let Some(timeout) = timeout {
                    self.due.set(claim, now + timeout);
                }
                claim
            }
        };
        if who.gone {
            self.leave(source);
        }
        claim
    }

    /// Gives the param to who wins it now, and says whose claim that is.
    pub(crate) fn decide(&mut self, now: Time, contest: u32) -> Option<u32> {
        let order = self.policy_for(contest).order;
        let winner = self
            .of(contest)
            .reduce(|best, other| if self.beats(order, other, best) { other } else { best })?;
        let before = self.contests[contest as usize].winner;
        if before != winner {
            let lost = (before != NONE).then(|| self.id_hash(before));
            let contest = &mut self.contests[contest as usize];
            (contest.winner, contest.since) = (winner, now);
            if let Some(rival) = lost {
                (contest.rival, contest.lost) = (rival, now);
            }
        }
        Some(winner)
    }

    /// Whether what `claim` just said fights with another source of its priority: told once in a
    /// while, and before [`Claims::decide`].
    pub(crate) fn duel(&mut self, now: Time, claim: u32) -> Option<Duel> {
        let contest = self.claims[claim as usize].contest;
        let Contest { winner, rival, lost, dueled, .. } = self.contests[contest as usize];
        let said = self.claims[claim as usize];
        let told_lately = dueled.is_some_and(|then| now < then + DUEL_INTERVAL);
        if told_lately || said.changed != now {
            return None;
        }
        let order = self.policy_for(contest).order;
        let recent = |then: Time| now.since(then) <= DUEL_WITHIN;
        let other = if order == Order::Latest {
            let takes_back = winner != NONE
                && winner != claim
                && recent(lost)
                && rival == self.id_hash(claim)
                && rival != self.id_hash(winner)
                && self.claims[winner as usize].priority == said.priority;
            takes_back.then_some(winner)
        } else {
            self.of(contest).find(|&other| {
                let it = &self.claims[other as usize];
                other != claim
                    && it.priority == said.priority
                    && recent(it.changed)
                    && self.values.get(it.value) != self.values.get(said.value)
                    && self.id_hash(other) != self.id_hash(claim)
            })
        }?;
        // Who fights below a third has nothing to show on stage.
        let outranked = self.of(contest).any(|c| self.claims[c as usize].priority > said.priority);
        if outranked {
            return None;
        }
        self.contests[contest as usize].dueled = Some(now);
        let id = |claim: u32| self.sources[self.claims[claim as usize].source as usize].id;
        Some(Duel { sources: [id(claim), id(other)], priority: said.priority })
    }

    fn beats(&self, order: Order, a: u32, b: u32) -> bool {
        let (x, y) = (&self.claims[a as usize], &self.claims[b as usize]);
        if x.priority != y.priority {
            return x.priority > y.priority;
        }
        let levels = match order {
            Order::Latest => (None, None),
            Order::Highest | Order::Lowest => (level(self.value(a)), level(self.value(b))),
        };
        match levels {
            (Some(p), Some(q)) if p == q => x.turn < y.turn,
            (Some(p), Some(q)) => (p > q) == (order == Order::Highest),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => x.turn > y.turn,
        }
    }

    /// When a claim may be lost next, or a fade goes on; `at_once` if some wait for it already.
    pub(crate) fn deadline(&self, at_once: Time) -> Option<Time> {
        let waits = !self.leaving.is_empty() || !self.unsettled.is_empty();
        [waits.then_some(at_once), self.due.next(), self.fading.next()].into_iter().flatten().min()
    }

    /// Ends the claims that are lost by `now`, at most [`UNSETTLED_MAX`], before anybody looks who
    /// wins without them: of sources that are lost at one instant none is seen for a moment. How
    /// many they were.
    pub(crate) fn lose(&mut self, now: Time) -> u64 {
        let mut count = 0;
        while self.unsettled.len() < UNSETTLED_MAX
            && count < UNSETTLED_MAX as u64
            && let Some(claim) = self.lost(now)
        {
            count += 1;
            let contest = self.remove(claim);
            let kept = &mut self.contests[contest as usize];
            if !core::mem::replace(&mut kept.unsettled, true) {
                self.unsettled.push(contest);
            }
        }
        count
    }

    /// A contest that lost claims, and whether any is left.
    pub(crate) fn pop_unsettled(&mut self) -> Option<(u32, bool)> {
        let contest = self.unsettled.pop()?;
        let kept = &mut self.contests[contest as usize];
        kept.unsettled = false;
        Some((contest, kept.claims > 0))
    }

    /// One claim that is lost by `now`.
    fn lost(&mut self, now: Time) -> Option<u32> {
        while let Some(&source) = self.leaving.last() {
            if let Some(claim) = self.of_source.first(source) {
                return Some(claim);
            }
            self.leaving.pop();
            self.free_source(source);
        }
        while let Some(claim) = self.due.pop(now) {
            let Claim { contest, source, heard, .. } = self.claims[claim as usize];
            let heard = heard.max(self.sources[source as usize].alive);
            match self.policy_for(contest).timeout {
                Some(timeout) if heard + timeout > now => self.due.set(claim, heard + timeout),
                Some(_) => return Some(claim),
                None => {}
            }
        }
        None
    }

    /// Ends a claim; the contest that it was in.
    fn remove(&mut self, claim: u32) -> u32 {
        let Claim { contest, source, value, .. } = self.claims[claim as usize];
        self.of_contest.take(contest, claim);
        self.of_source.take(source, claim);
        self.due.clear(claim);
        self.values.free(value);
        self.claims[claim as usize] = NO_CLAIM;
        self.claims_free.push(claim);
        let kept = &mut self.sources[source as usize];
        kept.claims -= 1;
        if kept.claims == 0 && !kept.leaving {
            self.forget_source(source);
            self.free_source(source);
        }
        let contest_of = &mut self.contests[contest as usize];
        contest_of.claims -= 1;
        if contest_of.winner == claim {
            contest_of.winner = NONE;
        }
        contest
    }

    /// The contest is over: nobody claims the param, and it does not fade.
    pub(crate) fn end(&mut self, contest: u32) {
        let Contest { slot, unsettled, .. } = self.contests[contest as usize];
        if unsettled {
            self.unsettled.retain(|&other| other != contest);
        }
        self.fading.clear(contest);
        self.contest_of.remove(self.slot_hash(slot), contest);
        self.contests[contest as usize] = NO_CONTEST;
        self.contests_free.push(contest);
    }

    /// The param in `slot` is gone, and with it all claims.
    pub(crate) fn forget(&mut self, slot: u32) {
        let Some(contest) = self.contest(slot) else { return };
        while let Some(claim) = self.of_contest.first(contest) {
            self.remove(claim);
        }
        self.end(contest);
    }

    pub(crate) fn fade(&mut self, contest: u32, fade: Fade, due: Time) {
        self.contests[contest as usize].fade = Some(fade);
        self.fading.set(contest, due);
    }

    /// A contest whose fade goes on now.
    pub(crate) fn pop_fade(&mut self, now: Time) -> Option<(u32, Fade)> {
        while let Some(contest) = self.fading.pop(now) {
            if let Some(fade) = self.contests[contest as usize].fade {
                return Some((contest, fade));
            }
        }
        None
    }

    pub(crate) fn is_fading(&self, contest: u32) -> bool {
        self.contests[contest as usize].fade.is_some()
    }

    /// `session` is gone: so are the sources that it spoke for, and those for whom it was spoken.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        self.for_each_source(|source| source.is_of(session), Self::leave);
    }

    /// `session` says that its source `id` is lost.
    pub(crate) fn release(&mut self, session: SessionId, id: &str) {
        let named = |source: &Source| source.id.as_str() == id && source.is_of(session);
        self.for_each_source(named, Self::leave);
    }

    /// `session` says that its source `id` is there.
    pub(crate) fn keep_alive(&mut self, now: Time, session: SessionId, id: &str) {
        let named = |source: &Source| source.id.as_str() == id && source.is_of(session);
        self.for_each_source(named, |claims, source| claims.sources[source as usize].alive = now);
    }

    fn for_each_source(
        &mut self,
        wanted: impl Fn(&Source) -> bool,
        mut change: impl FnMut(&mut Self, u32),
    ) {
        if self.sources.len() == self.sources_free.len() {
            return;
        }
        for source in 0..self.sources.len() as u32 {
            let kept = &self.sources[source as usize];
            if kept.claims > 0 && !kept.leaving && wanted(kept) {
                change(self, source);
            }
        }
    }

    /// Its claims go, a turn's share at a time.
    fn leave(&mut self, source: u32) {
        if !self.sources[source as usize].leaving {
            self.forget_source(source);
            self.sources[source as usize].leaving = true;
            self.leaving.push(source);
        }
    }

    fn begin(&mut self, now: Time, slot: u32, policy: u16) -> u32 {
        let contest = self.contests_free.pop().expect("check made sure of a free contest");
        let ruling = self.ruling;
        self.contests[contest as usize] =
            Contest { slot, policy, ruling, since: now, ..NO_CONTEST };
        let kept = self.contest_of.insert(self.slot_hash(slot), contest);
        kept.expect("the index holds as many as there are contests");
        contest
    }

    fn find(&self, contest: u32, source: u32) -> Option<u32> {
        self.of(contest).find(|&claim| self.claims[claim as usize].source == source)
    }

    fn find_source(&self, who: &Claimant<'_>) -> Option<u32> {
        self.source_of.find(self.source_hash(who.tag.id, who.origin.writer, who.by()), |at| {
            let source = &self.sources[at as usize];
            source.id.as_str() == who.tag.id
                && source.origin.writer == who.origin.writer
                && source.by == who.by()
        })
    }

    fn add_source(&mut self, now: Time, who: &Claimant<'_>) -> u32 {
        let at = self.sources_free.pop().expect("check made sure of a free source");
        let (id, by) = (SourceId::new(who.tag.id), who.by());
        self.sources[at as usize] = Source { id, origin: who.origin, by, alive: now, ..NO_SOURCE };
        let hash = self.source_hash(who.tag.id, who.origin.writer, by);
        self.source_of.insert(hash, at).expect("the index holds as many as there are sources");
        at
    }

    /// Whoever writes under its name is somebody new.
    fn forget_source(&mut self, source: u32) {
        let Source { id, origin, by, .. } = self.sources[source as usize];
        let hash = self.source_hash(id.as_str(), origin.writer, by);
        self.source_of.remove(hash, source);
    }

    fn free_source(&mut self, source: u32) {
        self.sources[source as usize] = NO_SOURCE;
        self.sources_free.push(source);
    }

    fn slot_hash(&self, slot: u32) -> u64 {
        index::join(self.seed[1], slot)
    }

    fn source_hash(&self, id: &str, writer: SessionId, by: SessionId) -> u64 {
        let mut bytes = [0; ID_BYTES_MAX + 32];
        bytes[..16].copy_from_slice(&writer.0);
        bytes[16..32].copy_from_slice(&by.0);
        let id = id.as_bytes();
        bytes[32..32 + id.len()].copy_from_slice(id);
        index::hash(self.seed, &bytes[..32 + id.len()])
    }

    fn id_hash(&self, claim: u32) -> u64 {
        let source = self.claims[claim as usize].source;
        index::hash(self.seed, self.sources[source as usize].id.as_str().as_bytes())
    }
}

fn policy_bytes(policy: &Arbitration) -> usize {
    use crate::shard::settings::OnLoss;
    let value = match &policy.on_loss {
        OnLoss::Hold => 0,
        OnLoss::Set { value } | OnLoss::Fade { value, .. } => value.capacity(),
    };
    policy.pattern.capacity() + value
}

/// What HTP compares: a number, or a switch as 0 and 1.
fn level(value: Value<'_>) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_bool().map(|on| f64::from(u8::from(on))));
    number.filter(|number| !number.is_nan())
}

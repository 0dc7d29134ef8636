//! Who wins a param: its sources contend here, at its home, whatever protocol they speak.
//!
//! Each source has a claim on the param: what it says, with which priority. A SET changes its
//! claim, and only a change of the outcome raises the revision and is published. A SET that loses
//! is acknowledged like any other. When a claim is lost the next one has the param; after the last
//! it holds, fades or is set, as its arbitration says.

use alloc::vec::Vec;

use super::input::Lane;
use super::known::Place;
use super::marker::Tag;
use super::record::{Origin, Record};
use super::refused::Refused;
use super::session_id::SessionId;
use super::settings::{OnLoss, Order, Rule};
use super::store::claims::{Claimant, Duel, Fade};
use super::store::{Ahead, Staged, Stamp};
use super::{Effects, RECORD_BYTES_MAX, Shard, TURN_MAX};
use crate::arena::Block;
use crate::message::{ParamValue, Publish, RawSet};
use crate::signal::{Phase, Signal};
use crate::time::{Span, Time};
use crate::value::{self, MapWriter, Value};
use crate::wire::TooLong;
use crate::wire::binary::SnapshotBuilder;

/// Below it lies who wins the address that follows: `/clasp/why/rig/1` tells of `/rig/1`.
const WHY: &str = "/clasp/why";
/// Where fights are told.
const DUEL: &str = "/clasp/duel";
/// Losers that `why` names, at most.
const LOSERS_MAX: usize = 16;

/// The address that `address` asks to be explained, if it asks.
pub(super) fn asked_about(address: &str) -> Option<&str> {
    address.strip_prefix(WHY).filter(|about| about.starts_with('/') && about.len() > 1)
}

/// Where the param of an address is known, its hash, and where it is, if there is one.
pub(super) type Located = (Option<Place>, u64, Option<u32>);

impl Shard {
    /// Notes what a source says of an arbitrated param, and tells everyone if that changes it.
    /// `staged`: the room that a bundle took for it. Out of the way of all other writes.
    #[cold]
    #[inline(never)]
    pub(super) fn contend(
        &mut self,
        origin: &Origin,
        tag: Option<Tag<'_>>,
        set: &RawSet<'_>,
        (place, hash, slot): Located,
        staged: Option<Staged>,
        fx: &mut impl Effects,
    ) -> Result<u64, Refused> {
        if staged.is_none() {
            let locks_held = if set.lock { self.store.locks_of(origin.writer) } else { 0 };
            let ahead = Ahead { locks_held, ..Ahead::default() };
            self.store.check(slot, set, origin.writer, ahead)?;
        }
        let text = origin.writer.text();
        let who = self.claimant(origin, tag, text.as_str());
        let value = match &staged {
            Some(staged) => staged.claim(),
            None => {
                self.store.claims.check(slot, &who, 0, 0)?;
                self.store.claims.stage(set.value)?
            }
        };
        let staged = staged.map(|staged| staged.with_claim(Block::EMPTY));
        let Some(slot) = slot else {
            let slot = match staged {
                Some(staged) => self.store.commit(self.stamp(origin), None, hash, set, staged),
                None => match self.store.apply(self.stamp(origin), None, hash, set) {
                    Ok(slot) => slot,
                    Err(full) => {
                        self.store.claims.unstage(value);
                        return Err(full);
                    }
                },
            };
            if let Some(place) = place {
                self.known.set_slot(place, slot, self.store.removed());
            }
            let claim = self.note_claim(slot, &who, value);
            let contest = self.store.claims.contest_of(claim);
            self.store.claims.decide(self.now, contest);
            self.announce_change(origin, slot, hash, set, tag.as_ref(), fx);
            return Ok(self.store.revision(slot));
        };
        let claim = self.note_claim(slot, &who, value);
        let contest = self.store.claims.contest_of(claim);
        if let Some(duel) = self.store.claims.duel(self.now, claim) {
            self.tell_duel(slot, contest, &duel, fx);
        }
        let winner = self.store.claims.decide(self.now, contest);
        let takes = winner == Some(claim);
        let by = self.stamp(origin);
        if takes && self.store.value(slot) != set.value {
            match staged {
                Some(staged) => {
                    self.store.commit(by, Some(slot), hash, set, staged);
                }
                None => {
                    self.store.apply(by, Some(slot), hash, set)?;
                }
            }
            if !self.timelines.is_empty() && !origin.is_router() {
                self.timelines.stop(hash, set.address);
            }
            self.announce_change(origin, slot, hash, set, tag.as_ref(), fx);
        } else {
            if let Some(staged) = staged {
                self.store.unstage(staged);
            }
            self.counts.sets_outranked += u64::from(!takes);
            self.store.declare_alone(by, slot, set);
            self.settle_contest(contest, winner, fx);
        }
        Ok(self.store.revision(slot))
    }

    fn note_claim(&mut self, slot: u32, who: &Claimant<'_>, value: Block) -> u32 {
        let policy = match self.store.claims.contest(slot) {
            Some(_) => 0,
            None => self.store.claims.policy_of(self.store.address(slot)).unwrap_or(0),
        };
        self.store.claims.claim(self.now, slot, policy, who, value)
    }

    /// Who claims: the source that a marker named, or else the session itself.
    pub(super) fn claimant<'a>(
        &self,
        origin: &Origin,
        tag: Option<Tag<'a>>,
        session: &'a str,
    ) -> Claimant<'a> {
        let tag = tag.unwrap_or(Tag { id: session, priority: None, by: None });
        let ended = |session| self.store.has_ended(session);
        let gone = (origin.ended && !origin.is_router())
            || ended(origin.writer)
            || tag.by.is_some_and(ended);
        Claimant { origin: *origin, tag, gone }
    }

    /// Gives the param the value of the winner's claim, if it has another one.
    pub(super) fn settle_contest(
        &mut self,
        contest: u32,
        winner: Option<u32>,
        fx: &mut impl Effects,
    ) {
        let Some(winner) = winner else { return };
        let slot = self.store.claims.slot(contest);
        if self.store.value(slot) == self.store.claims.value(winner) {
            return;
        }
        let mut encoded = self.lend();
        value::push_value(&mut encoded, self.store.claims.value(winner));
        let (id, by, origin) = self.store.claims.source(winner);
        let tag = Tag {
            id: id.as_str(),
            priority: Some(origin.priority),
            by: (by != origin.writer).then_some(by),
        };
        self.assign(&origin, slot, &encoded, Some(tag), fx);
        self.give_back(encoded);
    }

    /// Writes `encoded` to the param in `slot` without any claim. Where that finds no room the
    /// param stays as it is until somebody writes it.
    fn assign(
        &mut self,
        origin: &Origin,
        slot: u32,
        encoded: &[u8],
        tag: Option<Tag<'_>>,
        fx: &mut impl Effects,
    ) {
        let Ok(value) = Value::from_encoded(encoded) else { return };
        if self.store.value(slot) == value {
            return;
        }
        let mut address = self.lend();
        address.extend_from_slice(self.store.address(slot).as_bytes());
        let set = RawSet {
            address: &address[..],
            value,
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        };
        let hash = self.store.hash(&address);
        let by = Stamp { holder: SessionId::NONE, ..self.stamp(origin) };
        if let Ok(slot) = self.store.apply(by, Some(slot), hash, &set) {
            self.announce_change(origin, slot, hash, &set, tag.as_ref(), fx);
        }
        self.give_back(address);
    }

    /// Ends the claims whose time is up, or whose source left: a turn's share.
    pub(super) fn lose_claims(&mut self, fx: &mut impl Effects) {
        if !self.arbitrates {
            return;
        }
        self.counts.claims_lost += self.store.claims.lose(self.now);
        while self.has_room(Lane::Publish, RECORD_BYTES_MAX)
            && let Some((contest, any_left)) = self.store.claims.pop_unsettled()
        {
            if any_left {
                let winner = self.store.claims.decide(self.now, contest);
                self.settle_contest(contest, winner, fx);
            } else {
                self.abandon(contest, fx);
            }
        }
    }

    /// Nobody claims the param any more.
    fn abandon(&mut self, contest: u32, fx: &mut impl Effects) {
        let slot = self.store.claims.slot(contest);
        let mut target = self.lend();
        match &self.store.claims.policy_for(contest).on_loss {
            OnLoss::Hold => {}
            OnLoss::Set { value } => target.extend_from_slice(value),
            OnLoss::Fade { value, .. } => {
                target.extend_from_slice(value);
                let from = self.store.value(slot).as_f64();
                let to = Value::from_encoded(value).ok().and_then(Value::as_f64);
                if let (Some(from), Some(_)) = (from, to) {
                    let due = self.now + self.settings.timeline_interval;
                    self.store.claims.fade(contest, Fade { from, began: self.now }, due);
                    return self.give_back(target);
                }
            }
        }
        self.store.claims.end(contest);
        if !target.is_empty() {
            let origin = Origin::router(self.settings.id, SessionId::NONE);
            self.assign(&origin, slot, &target, None, fx);
        }
        self.give_back(target);
    }

    /// Takes the params that fade a step further: a turn's share.
    pub(super) fn advance_fades(&mut self, fx: &mut impl Effects) {
        if !self.arbitrates {
            return;
        }
        for _ in 0..TURN_MAX {
            if !self.has_room(Lane::Publish, RECORD_BYTES_MAX) {
                return;
            }
            let Some((contest, fade)) = self.store.claims.pop_fade(self.now) else { return };
            self.advance_fade(contest, fade, fx);
        }
    }

    fn advance_fade(&mut self, contest: u32, fade: Fade, fx: &mut impl Effects) {
        let slot = self.store.claims.slot(contest);
        let mut encoded = self.lend();
        let OnLoss::Fade { value, over } = &self.store.claims.policy_for(contest).on_loss else {
            // The rules changed while it faded.
            self.give_back(encoded);
            return self.abandon(contest, fx);
        };
        let past = self.now.since(fade.began);
        write_faded(value, past, *over, fade.from, self.store.value(slot), &mut encoded);
        if past < *over {
            let due = self.now + self.settings.timeline_interval;
            self.store.claims.fade(contest, fade, due);
        } else {
            self.store.claims.end(contest);
        }
        let origin = Origin::router(self.settings.id, SessionId::NONE);
        self.assign(&origin, slot, &encoded, None, fx);
        self.give_back(encoded);
    }

    /// Publishes who fights over a param, before what they fight about is seen.
    fn tell_duel(&mut self, slot: u32, contest: u32, duel: &Duel, fx: &mut impl Effects) {
        self.counts.duels += 1;
        let order = self.store.claims.policy_for(contest).order;
        let mut encoded = self.lend();
        let written = write_duel(self.store.address(slot), duel, order, &mut encoded);
        if written.is_ok()
            && let Ok(value) = Value::from_encoded(&encoded)
        {
            let publish = Publish {
                address: DUEL,
                signal: Some(Signal::Event),
                phase: Some(Phase::Start),
                value: Some(value),
                ..Publish::default()
            };
            let origin = Origin::router(self.settings.id, SessionId::NONE);
            self.publish(&origin, &publish.raw(), None, None, fx);
        }
        self.give_back(encoded);
    }

    /// Answers with who wins `about`, who loses, and since when.
    pub(super) fn explain(
        &mut self,
        origin: &Origin,
        grant: u32,
        asked: &str,
        about: &str,
        fx: &mut impl Effects,
    ) {
        if !self.may_read(grant, about) {
            return self.refuse(origin, Refused::Forbidden, Some(asked), fx);
        }
        let Some(slot) = self.store.find(self.store.hash(about), about) else {
            return self.refuse(origin, Refused::NotFound, Some(asked), fx);
        };
        // What a bundle across homes was promised stays until it is decided.
        if !self.store.is_judged(slot) && !self.bundles.holds_home() {
            self.judge(slot, fx);
        }
        let (mut encoded, mut frame) = (self.lend(), self.lend());
        if self.write_why(slot, &mut encoded).is_ok()
            && let Ok(value) = Value::from_encoded(&encoded)
        {
            let mut snapshot = SnapshotBuilder::start(&mut frame);
            let revision = self.store.revision(slot);
            let timestamp_us = Some(self.unix_us());
            let why = ParamValue { address: asked, value, revision, writer: None, timestamp_us };
            if snapshot.push(&mut frame, &why) {
                snapshot.finish(&mut frame);
                self.reply_frame(origin, &frame, fx);
            } else {
                let got = encoded.len();
                self.refuse(origin, Refused::TooLong { got }, Some(asked), fx);
            }
        }
        self.give_back(frame);
        self.give_back(encoded);
    }

    /// The map that `why` answers with; its keys are in the documentation of the command.
    fn write_why(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let claims = &self.store.claims;
        let mut map = MapWriter::start(out);
        value::push_value(map.entry("value")?, self.store.value(slot));
        let (writer, written_us) = self.store.last_write(slot);
        if self.store.rule(slot) != Rule::Arbitrated {
            value::push_str(map.entry("rule")?, rule_name(self.store.rule(slot)))?;
            if writer != SessionId::NONE {
                value::push_str(map.entry("writer")?, writer.text().as_str())?;
            }
            value::push_i64(map.entry("since_us")?, written_us as i64);
            return Ok(());
        }
        let contest = claims.contest(slot);
        let policy = match contest {
            Some(contest) => Some(claims.policy_for(contest)),
            None => claims.policy_of(self.store.address(slot)).map(|policy| claims.policy(policy)),
        };
        if let Some(policy) = policy {
            value::push_str(map.entry("rule")?, order_name(policy.order))?;
            if let Some(timeout) = policy.timeout {
                value::push_i64(map.entry("timeout_us")?, timeout.as_micros() as i64);
            }
        }
        let (winner, since) = contest.map_or((None, Time(0)), |contest| {
            let (winner, since) = claims.winner(contest);
            (claims.of(contest).find(|&claim| claim == winner), since)
        });
        let Some((contest, winner)) = contest.zip(winner) else {
            let fades = contest.is_some_and(|contest| claims.is_fading(contest));
            let held = if fades { "every source is lost; it fades" } else { "no source claims it" };
            value::push_str(map.entry("held")?, held)?;
            if writer != SessionId::NONE {
                value::push_str(map.entry("writer")?, writer.text().as_str())?;
            }
            value::push_i64(map.entry("since_us")?, written_us as i64);
            return Ok(());
        };
        self.write_claim(winner, since, map.entry("winner")?)?;
        let mut losers = value::ArrayWriter::start(map.entry("losers")?);
        for claim in claims.of(contest).filter(|&claim| claim != winner).take(LOSERS_MAX) {
            let changed = claims.told(claim).changed;
            self.write_claim(claim, changed, losers.item()?)?;
        }
        Ok(())
    }

    fn write_claim(&self, claim: u32, since: Time, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let told = self.store.claims.told(claim);
        let mut map = MapWriter::start(out);
        value::push_str(map.entry("source")?, told.source)?;
        value::push_i64(map.entry("priority")?, i64::from(told.priority));
        // Long values would not fit all together.
        if told.value.encoded_len() <= 1_024 {
            value::push_value(map.entry("value")?, told.value);
        }
        let since_us = self.unix_us().saturating_sub(self.now.since(since).as_micros());
        value::push_i64(map.entry("since_us")?, since_us as i64);
        Ok(())
    }

    /// What a session says of its sources, told to every home.
    pub(super) fn obey_sign(
        &mut self,
        origin: &Origin,
        marker: &super::Marker<'_>,
        fx: &mut impl Effects,
    ) {
        use super::Marker;
        let session = origin.writer;
        match *marker {
            Marker::Writes(_) => {}
            Marker::Tell => self.egress.tell_sources(origin.link, true),
            Marker::Released(id) => {
                self.store.claims.release(session, id);
                self.hand_all(Record::Released { origin: *origin, id }, fx);
                self.await_signs(origin.link);
            }
            Marker::Alive(id) => {
                self.store.claims.keep_alive(self.now, session, id);
                self.hand_all(Record::Alive { session, id }, fx);
            }
        }
    }
}

/// What a param that fades is after `past` of `over`, on its way to `target`. It stays a whole
/// number where `target` and what it `held` are.
fn write_faded(
    target: &[u8],
    past: Span,
    over: Span,
    from: f64,
    held: Value<'_>,
    out: &mut Vec<u8>,
) {
    let to = Value::from_encoded(target).unwrap_or(Value::NULL);
    let (Some(end), true) = (to.as_f64(), past < over) else {
        return out.extend_from_slice(target);
    };
    let now = from + (end - from) * (past.0 as f64 / over.0 as f64);
    if to.as_i64().is_some() && held.as_i64().is_some() {
        value::push_i64(out, (now + if now < 0.0 { -0.5 } else { 0.5 }) as i64);
    } else {
        value::push_f64(out, now);
    }
}

fn write_duel(address: &str, duel: &Duel, order: Order, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut map = MapWriter::start(out);
    value::push_str(map.entry("address")?, address)?;
    let mut sources = value::ArrayWriter::start(map.entry("sources")?);
    for source in &duel.sources {
        value::push_str(sources.item()?, source.as_str())?;
    }
    value::push_i64(map.entry("priority")?, i64::from(duel.priority));
    value::push_str(map.entry("rule")?, order_name(order))
}

/// As the configuration names it.
pub(super) const fn order_name(order: Order) -> &'static str {
    match order {
        Order::Highest => "htp",
        Order::Latest => "ltp",
        Order::Lowest => "lowest",
    }
}

const fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Last => "last",
        Rule::Max => "max",
        Rule::Min => "min",
        Rule::Lock => "lock",
        Rule::Merge => "merge",
        Rule::Arbitrated => "arbitrated",
    }
}

//! What a session says: whether it may, and where it goes on to.

use crate::address::{self, text_of};
use crate::error::{Malformed, code};
use crate::message::{Announce, Message, Publish, RawPublish, RawSet, Subscribe, Sync};
use crate::pattern;
use crate::shard::bundle::messages_of;
use crate::shard::contend::asked_about;
use crate::shard::declare::ARBITRATION;
use crate::shard::known::{Met, Place};
use crate::shard::marker::{self, Marker};
use crate::shard::record::{Origin, Record};
use crate::shard::refused::Refused;
use crate::shard::session_id::SessionId;
use crate::shard::{Admit, Effects, Outcome, Shard, scope};
use crate::signal::{Qos, Signal};
use crate::wire::binary;
use crate::wire::header::Frame;
use crate::{LinkId, ShardId};

/// Below it, one segment names the session that a peer-to-peer signal is for.
const P2P_SIGNAL: &str = "/clasp/p2p/signal/";

/// A PUBLISH as the binary wire can say it: payload and keyframes go where the value goes.
pub(in crate::shard) fn canonical<'a>(publish: &Publish<'a>) -> Publish<'a> {
    let signal = publish.signal.unwrap_or_default();
    let keyframes = if signal == Signal::Timeline { publish.timeline } else { None };
    Publish {
        signal: Some(signal),
        phase: Some(publish.phase.unwrap_or_default()),
        value: publish.value.or(publish.payload).or(keyframes),
        payload: None,
        timeline: None,
        ..*publish
    }
}

/// The session that a peer-to-peer signal is for.
fn target_of(address: &str) -> Option<&str> {
    address.strip_prefix(P2P_SIGNAL).filter(|target| !target.contains('/'))
}

/// Whether a PUBLISH to `address` goes to one session, and not to those who subscribed.
pub(in crate::shard) fn is_for_session(address: &str) -> bool {
    target_of(address).is_some()
}

impl Shard {
    /// One message of an open session.
    pub(super) fn hear(
        &mut self,
        link: LinkId,
        frame: &Frame<'_>,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let qos = frame.header.qos;
        match message {
            Message::Set(set) => self.hear_set(link, qos, &set.raw(), fx),
            Message::Publish(publish) => {
                self.hear_publish(link, &canonical(publish).raw(), None, fx)
            }
            Message::Bundle(bundle) => self.hear_legacy_bundle(link, qos, bundle, fx),
            // What it asks after a bundle across homes is answered as of after it.
            _ if self.sessions[link.0 as usize].order.waiting => Ok(Outcome::Held),
            _ => {
                if self.within_rate(link, 1, fx) {
                    self.hear_other(link, frame, message, fx);
                }
                Ok(Outcome::Taken)
            }
        }
    }

    fn hear_other(
        &mut self,
        link: LinkId,
        frame: &Frame<'_>,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) {
        let origin = self.origin(link);
        match message {
            Message::Subscribe(wish) => self.hear_subscribe(&origin, wish, fx),
            Message::Unsubscribe { id } => self.unsubscribe(link, *id, fx),
            Message::Get { address } => self.hear_get(&origin, address, fx),
            Message::Query { pattern } => self.hear_query(&origin, pattern, fx),
            Message::Announce(announce) => self.hear_announce(&origin, frame, announce, fx),
            Message::Sync(Sync { t1, t2: None, .. }) => {
                let now_us = Some(self.unix_us());
                let sync = Sync { t1: *t1, t2: now_us, t3: now_us };
                self.reply(&origin, &Message::Sync(sync), fx);
            }
            Message::Ping => self.reply(&origin, &Message::Pong, fx),
            // Answers, and what only confirms: nothing to do.
            Message::Pong | Message::Ack(_) | Message::Error(_) | Message::Sync(_) => {}
            Message::Hello(_) => {
                self.refuse(
                    &origin,
                    Refused::Unexpected { what: "HELLO was already said" },
                    None,
                    fx,
                );
            }
            Message::Replay(_) => {
                self.refuse(&origin, Refused::Unavailable { what: "REPLAY" }, None, fx);
            }
            Message::FederationSync(_) => {
                self.refuse(&origin, Refused::Unavailable { what: "federation" }, None, fx);
            }
            Message::Welcome(_) | Message::Snapshot { .. } | Message::Result { .. } => {
                let what = "WELCOME, SNAPSHOT and RESULT are said by routers";
                self.refuse(&origin, Refused::Unexpected { what }, None, fx);
            }
            Message::Set(_) | Message::Publish(_) | Message::Bundle(_) => {
                unreachable!("writes have their own way")
            }
        }
    }

    #[inline]
    pub(super) fn hear_set(
        &mut self,
        link: LinkId,
        qos: Qos,
        set: &RawSet<'_>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let met = self.meet(link, set.address);
        if met == Met::New {
            set.text()?;
        }
        let home = match met {
            Met::Param { .. } => self.settings.id,
            _ => self.home_at(met.place(), set.address),
        };
        if !self.in_order(link, home, fx) {
            return Ok(Outcome::Held);
        }
        if !self.within_rate(link, 1, fx) {
            return Ok(Outcome::Taken);
        }
        let mut origin = self.origin(link);
        origin.confirm = qos > Qos::Fire;
        if let Err(refused) = self.may_set(link, set.address, met) {
            self.refuse(&origin, refused, Some(text_of(set.address)), fx);
            return Ok(Outcome::Taken);
        }
        let met = match met {
            Met::New => self.note(link, set.address, home).map_or(Met::New, Met::Lately),
            met => met,
        };
        let removed = self.store.removed();
        self.introduce(link, fx);
        // Saying who writes may take the place of a param.
        let met = if self.store.removed() == removed { met } else { Met::New };
        if home == self.settings.id {
            self.settle(&origin, set, met, fx);
        } else {
            self.forward(&origin, home, &Message::Set(set.text()?), fx);
        }
        Ok(Outcome::Taken)
    }

    /// `publish` is in canonical form. `exact`: the frame that it came in, if that can go on as it
    /// is.
    #[inline]
    pub(super) fn hear_publish(
        &mut self,
        link: LinkId,
        publish: &RawPublish<'_>,
        exact: Option<&[u8]>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let address = publish.address;
        let place = self.place_of(link, address);
        // What lies below `/clasp/` never has a place: peer-to-peer signals, and markers.
        let text = if place.is_none() { publish.text()?.address } else { "" };
        let target = target_of(text);
        let to = match target {
            Some(target) => self.shard_of(target).unwrap_or(self.settings.id),
            None => self.home_at(place, address),
        };
        if !self.in_order(link, to, fx) {
            return Ok(Outcome::Held);
        }
        if !self.within_rate(link, 1, fx) {
            return Ok(Outcome::Taken);
        }
        let origin = self.origin(link);
        if let Err(refused) = self.may_publish(link, publish, place) {
            self.refuse(&origin, refused, Some(text_of(address)), fx);
            return Ok(Outcome::Taken);
        }
        if text == marker::SOURCE
            && let Some(marker) = Marker::of_publish(&publish.text()?)
        {
            match marker {
                Ok(marker) => self.obey_sign(&origin, &marker, fx),
                Err(refused) => self.refuse(&origin, refused, Some(text), fx),
            }
            return Ok(Outcome::Taken);
        }
        if let Some(target) = target {
            self.signal_peer(&origin, target, &Message::Publish(publish.text()?), fx);
            return Ok(Outcome::Taken);
        }
        let place = place.or_else(|| self.note(link, address, to));
        if publish.signal == Some(Signal::Gesture) {
            self.admit_gesture(&origin, &publish.text()?, to, fx);
        } else if to == self.settings.id {
            self.publish(&origin, publish, place, exact, fx);
        } else {
            self.forward(&origin, to, &Message::Publish(publish.text()?), fx);
        }
        Ok(Outcome::Taken)
    }

    /// Makes a checked address known, where it was not.
    pub(in crate::shard) fn note(
        &mut self,
        link: LinkId,
        address: &[u8],
        home: ShardId,
    ) -> Option<Place> {
        self.note_hashed(link, address, self.store.hash(address), home)
    }

    #[inline]
    fn note_hashed(
        &mut self,
        link: LinkId,
        address: &[u8],
        hash: u64,
        home: ShardId,
    ) -> Option<Place> {
        let place = self.known.note(address, hash)?;
        self.known.set_home(place, home);
        self.sessions[link.0 as usize].last = place;
        Some(place)
    }

    /// Where an address is known that came lately, which was checked then.
    #[inline]
    fn place_of(&mut self, link: LinkId, address: &[u8]) -> Option<Place> {
        let last = &mut self.sessions[link.0 as usize].last;
        self.known.follow(last, address)
    }

    /// What is known of the address of a SET.
    #[inline]
    fn meet(&mut self, link: LinkId, address: &[u8]) -> Met {
        match self.place_of(link, address) {
            Some(place) => Met::Lately(place),
            None => self.meet_param(link, address),
        }
    }

    /// The same of a SET in a bundle.
    #[inline]
    pub(in crate::shard) fn meet_next(&mut self, link: LinkId, address: &[u8]) -> Met {
        let last = &mut self.sessions[link.0 as usize].last;
        match self.known.follow_on(last, address) {
            Some(place) => Met::Lately(place),
            None => self.meet_param(link, address),
        }
    }

    /// The same of an address that did not come lately: whether this home holds its param.
    #[inline(never)]
    fn meet_param(&mut self, link: LinkId, address: &[u8]) -> Met {
        if marker::is_reserved(address) || self.home_of(address) != self.settings.id {
            return Met::New;
        }
        let hash = self.store.hash(address);
        let Some(slot) = self.store.find(hash, address) else { return Met::New };
        if self.known.is_turn()
            && let Some(place) = self.note_hashed(link, address, hash, self.settings.id)
        {
            self.known.set_slot(place, slot, self.store.removed());
            return Met::Lately(place);
        }
        Met::Param { hash, slot }
    }

    #[inline]
    pub(in crate::shard) fn home_at(&mut self, place: Option<Place>, address: &[u8]) -> ShardId {
        if let Some(home) = place.and_then(|place| self.known.home(place)) {
            return home;
        }
        let home = self.home_of(address);
        if let Some(place) = place {
            self.known.set_home(place, home);
        }
        home
    }

    fn shard_of(&self, target: &str) -> Option<ShardId> {
        SessionId::parse(target)?.shard(self.settings.seed, self.settings.shards)
    }

    /// Whether the session may send this at all: address, scope, and whose name it uses.
    #[inline]
    pub(in crate::shard) fn may_publish(
        &self,
        link: LinkId,
        publish: &RawPublish<'_>,
        place: Option<Place>,
    ) -> Result<(), Refused> {
        if place.is_none() {
            address::check_bytes(publish.address).map_err(Refused::Address)?;
        }
        self.may_write(link, publish.address)?;
        // What is reserved never has a place.
        if place.is_none() && marker::is_told_by_us(publish.address, self.is_trusted(link)) {
            return Err(Refused::Reserved);
        }
        if place.is_none()
            && publish.address.starts_with(P2P_SIGNAL.as_bytes())
            && let Some(from) = publish.value.and_then(|v| v.get("from")).and_then(|v| v.as_str())
            && SessionId::parse(from) != Some(self.sessions[link.0 as usize].id)
        {
            return Err(Refused::NotSender);
        }
        Ok(())
    }

    /// The same of a SET. What is reserved is always new.
    #[inline]
    pub(in crate::shard) fn may_set(
        &self,
        link: LinkId,
        address: &[u8],
        met: Met,
    ) -> Result<(), Refused> {
        if met == Met::New {
            address::check_bytes(address).map_err(Refused::Address)?;
        }
        self.may_write(link, address)?;
        if met == Met::New && marker::is_reserved(address) {
            return Err(Refused::Reserved);
        }
        Ok(())
    }

    #[inline]
    fn may_write(&self, link: LinkId, address: &[u8]) -> Result<(), Refused> {
        let session = &self.sessions[link.0 as usize];
        let scopes = self.scopes(session.grant);
        if !scopes.is_none_or(|scopes| scope::may_write(scopes, text_of(address))) {
            return Err(Refused::Forbidden);
        }
        Ok(())
    }

    /// Whether a bridge of our own is behind `link`, in this process.
    fn is_trusted(&self, link: LinkId) -> bool {
        self.sessions[link.0 as usize].admit == Admit::Trusted
    }

    fn signal_peer(
        &mut self,
        origin: &Origin,
        target: &str,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) {
        let session = SessionId::parse(target);
        let (Some(to), Some(shard)) = (session, self.shard_of(target)) else {
            let why = format_args!("Target session not found: {target}");
            self.counts.refused += 1;
            return self.error(origin, code::TARGET_UNKNOWN, why, None, fx);
        };
        let mut frame = self.lend();
        if binary::encode(message, binary::default_qos(message), &mut frame).is_ok() {
            if shard == self.settings.id {
                self.direct(origin, to, &frame, fx);
            } else {
                self.hand(shard, Record::Direct { origin: *origin, to, frame: &frame }, fx);
            }
        }
        self.give_back(frame);
    }

    /// Gives a write to the home of its address.
    pub(in crate::shard) fn forward(
        &mut self,
        origin: &Origin,
        home: ShardId,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) {
        if home == self.settings.id {
            return match message {
                Message::Set(set) => self.settle(origin, &set.raw(), Met::New, fx),
                Message::Publish(publish) => {
                    self.publish(origin, &publish.raw(), None, None, fx);
                }
                Message::Announce(announce) => self.announce(origin, announce, fx),
                _ => unreachable!("only writes are forwarded"),
            };
        }
        let mut payload = self.lend();
        if binary::append_payload(message, &mut payload).is_ok() {
            self.hand(home, Record::Write { origin: *origin, payload: &payload }, fx);
        }
        self.give_back(payload);
    }

    pub(super) fn forward_payload(
        &mut self,
        origin: &Origin,
        home: ShardId,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        if home == self.settings.id {
            self.write(origin, payload, fx);
        } else {
            self.hand(home, Record::Write { origin: *origin, payload }, fx);
        }
    }

    /// Does at once what the markers of an admitted bundle ask for.
    pub(in crate::shard) fn obey_signs(
        &mut self,
        origin: &Origin,
        payload: &[u8],
        fx: &mut impl Effects,
    ) {
        for message in messages_of(payload).iter() {
            if let Some(Ok(marker)) = Marker::of(&message) {
                self.obey_sign(origin, &marker, fx);
            }
        }
    }

    fn hear_subscribe(&mut self, origin: &Origin, wish: &Subscribe<'_>, fx: &mut impl Effects) {
        let grant = self.sessions[origin.link.0 as usize].grant;
        let done = match pattern::check(wish.pattern) {
            Err(error) => Err(Refused::Pattern(error)),
            Ok(()) => {
                let scopes = self.scopes(grant);
                if scopes.is_none_or(|scopes| scope::may_subscribe(scopes, wish.pattern)) {
                    self.add_subscription(origin, wish, fx)
                } else {
                    Err(Refused::Forbidden)
                }
            }
        };
        match done {
            Ok(()) if self.settings.shards == 1 => self.continue_pulls(fx),
            Ok(()) => {}
            Err(refused) => self.refuse(origin, refused, Some(wish.pattern), fx),
        }
    }

    fn hear_get(&mut self, origin: &Origin, address: &str, fx: &mut impl Effects) {
        if let Err(error) = address::check(address) {
            return self.refuse(origin, Refused::Address(error), Some(address), fx);
        }
        let grant = self.sessions[origin.link.0 as usize].grant;
        if address == ARBITRATION {
            self.sessions[origin.link.0 as usize].asked_arbitration = true;
            return self.declare(origin, grant, fx);
        }
        let home = self.home_of(asked_about(address).unwrap_or(address));
        if home == self.settings.id {
            self.get(origin, grant, address, fx);
        } else {
            self.hand(home, Record::Get { origin: *origin, grant, address }, fx);
        }
    }

    fn hear_query(&mut self, origin: &Origin, pattern: &str, fx: &mut impl Effects) {
        if let Err(error) = pattern::check(pattern) {
            return self.refuse(origin, Refused::Pattern(error), Some(pattern), fx);
        }
        let grant = self.sessions[origin.link.0 as usize].grant;
        match ShardId(0) {
            home if home == self.settings.id => self.query(origin, grant, pattern, fx),
            home => self.hand(home, Record::Query { origin: *origin, grant, pattern }, fx),
        }
    }

    fn hear_announce(
        &mut self,
        origin: &Origin,
        frame: &Frame<'_>,
        announce: &Announce<'_>,
        fx: &mut impl Effects,
    ) {
        let grant = self.sessions[origin.link.0 as usize].grant;
        for info in announce.signals.iter() {
            let allowed = match address::check(info.address) {
                Err(error) => Err(Refused::Address(error)),
                Ok(()) => match self.scopes(grant) {
                    Some(scopes) if !scope::may_write(scopes, info.address) => {
                        Err(Refused::Forbidden)
                    }
                    _ if marker::is_told_by_us(info.address.as_bytes(), false) => {
                        Err(Refused::Reserved)
                    }
                    _ => Ok(()),
                },
            };
            if let Err(refused) = allowed {
                return self.refuse(origin, refused, Some(info.address), fx);
            }
        }
        // One published client ends on any ACK, and that one announces in MessagePack.
        let confirm = frame.payload.first() == Some(&binary::code::ANNOUNCE);
        let origin = Origin { confirm, ..*origin };
        self.forward(&origin, ShardId(0), &Message::Announce(*announce), fx);
    }
}

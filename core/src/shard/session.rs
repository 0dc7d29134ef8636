//! Ingress: who is on a link, what they may say, how often, and in which order it goes on.

use super::bucket::Bucket;
use super::gesture::Move;
use super::home::UNLIMITED;
use super::record::{Origin, Record};
use super::refused::Refused;
use super::session_id::SessionId;
use super::{Admit, CloseReason, Effects, Outcome, Shard, scope};
use crate::address;
use crate::error::{Malformed, code};
use crate::message::{Announce, Bundle, Hello, Message, Publish, Subscribe, Sync, Welcome};
use crate::pattern;
use crate::signal::{Phase, Qos, Signal};
use crate::time::{Span, Time};
use crate::wire::header::{self, Frame};
use crate::wire::list::Features;
use crate::wire::{self, Scratch, binary};
use crate::{LinkId, ShardId};

/// What WELCOME offers: all five signals.
const FEATURES: u8 =
    Features::PARAM | Features::EVENT | Features::STREAM | Features::GESTURE | Features::TIMELINE;
/// Malformed frames that a session may send in [`OFFENCE_WINDOW`] before its link is closed.
const OFFENCES_MAX: u32 = 100;
const OFFENCE_WINDOW: Span = Span::from_secs(10);
/// ERRORs for a broken frame, or for too many frames, are sent this far apart.
const COMPLAINT_INTERVAL: Span = Span::from_secs(1);
/// Below it, one segment names a session: `wire.md` §11.
const P2P_SIGNAL: &str = "/clasp/p2p/signal/";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Vacant,
    /// No HELLO yet.
    Strange,
    Open,
    /// The edge was told to close it.
    Closing,
}

#[derive(Clone, Copy)]
pub(super) struct Session {
    state: State,
    admit: Admit,
    /// Counts the sessions of this link's slot, so that late replies find nobody.
    epoch: u32,
    pub id: SessionId,
    quiet: bool,
    /// Which grant its token has; `UNLIMITED` in open mode.
    pub grant: u32,
    bucket: Option<Bucket>,
    heard: Time,
    complained: Option<Time>,
    limited: Option<Time>,
    offences: u32,
    offences_since: Time,
    order: Order,
}

/// Keeps what one session sends in order, where its addresses have different homes.
///
/// A message for another home than the last one waits until that one has published all before it.
#[derive(Clone, Copy)]
struct Order {
    home: ShardId,
    /// Something was forwarded to `home` that may not be published yet.
    outstanding: bool,
    /// A fence was sent, or a bundle across homes runs; the next message waits.
    waiting: bool,
}

impl Session {
    pub(super) const VACANT: Self = Self {
        state: State::Vacant,
        admit: Admit::Stranger,
        epoch: 0,
        id: SessionId::NONE,
        quiet: false,
        grant: UNLIMITED,
        bucket: None,
        heard: Time(0),
        complained: None,
        limited: None,
        offences: 0,
        offences_since: Time(0),
        order: Order { home: ShardId(0), outstanding: false, waiting: false },
    };
}

/// A PUBLISH as the binary wire can say it: payload and keyframes go where the value goes.
pub(super) fn canonical<'a>(publish: &Publish<'a>) -> Publish<'a> {
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

impl Shard {
    pub(super) fn opened(&mut self, link: LinkId, admit: Admit) -> Outcome {
        let session = &mut self.sessions[link.0 as usize];
        assert!(session.state == State::Vacant, "a link is opened once");
        let epoch = session.epoch.wrapping_add(1);
        *session =
            Session { state: State::Strange, admit, epoch, heard: self.now, ..Session::VACANT };
        self.ports.open(link);
        self.quiet.set(link.0, self.now + self.settings.handshake_timeout);
        Outcome::Taken
    }

    pub(super) fn heard(&mut self, link: LinkId) -> Outcome {
        self.sessions[link.0 as usize].heard = self.now;
        Outcome::Taken
    }

    /// The edge says that the link is gone.
    pub(super) fn closed(&mut self, link: LinkId, fx: &mut impl Effects) -> Outcome {
        self.end_session(link, fx);
        self.doomed.retain(|(doomed, _)| *doomed != link);
        self.held_links.retain(|held| *held != link);
        let epoch = self.sessions[link.0 as usize].epoch;
        self.sessions[link.0 as usize] = Session { epoch, ..Session::VACANT };
        Outcome::Taken
    }

    /// Closes a link from our side.
    pub(super) fn close(&mut self, link: LinkId, reason: CloseReason, fx: &mut impl Effects) {
        self.end_session(link, fx);
        let session = &mut self.sessions[link.0 as usize];
        if session.state != State::Closing && session.state != State::Vacant {
            session.state = State::Closing;
            fx.close(link, reason);
        }
    }

    /// Takes back all that a session had: nothing reaches it, and nobody waits for it.
    fn end_session(&mut self, link: LinkId, fx: &mut impl Effects) {
        self.ports.shut(link);
        self.quiet.clear(link.0);
        self.expiring.clear(link.0);
        self.pulls.end(link);
        if self.sessions[link.0 as usize].state != State::Open {
            return;
        }
        self.counts.sessions_closed += 1;
        let origin = self.origin(link);
        self.cancel_gestures(&origin, fx);
        self.subscriptions.orphan_all(link);
        self.bundles.link_gone(link);
        let session = origin.writer;
        self.store.release_locks(session);
        self.hand_all(Record::SessionEnded { session }, fx);
        // From here on replies to it are for nobody.
        let session = &mut self.sessions[link.0 as usize];
        session.epoch = session.epoch.wrapping_add(1);
        session.state = State::Strange;
    }

    /// Whether `origin` is a session of this shard that is still there.
    pub(super) fn is_current(&self, origin: &Origin) -> bool {
        origin.shard == self.settings.id
            && self
                .sessions
                .get(origin.link.0 as usize)
                .is_some_and(|s| s.state == State::Open && s.epoch == origin.epoch)
    }

    pub(super) fn origin(&self, link: LinkId) -> Origin {
        let session = &self.sessions[link.0 as usize];
        Origin {
            shard: self.settings.id,
            link,
            epoch: session.epoch,
            writer: session.id,
            quiet: session.quiet,
            confirm: false,
        }
    }

    pub(super) fn link_of(&self, id: SessionId) -> Option<LinkId> {
        let at = self.sessions.iter().position(|s| s.state == State::Open && s.id == id)?;
        Some(LinkId(at as u32))
    }

    /// One transport message of a link.
    pub(super) fn receive(&mut self, link: LinkId, bytes: &[u8], fx: &mut impl Effects) -> Outcome {
        let state = self.sessions[link.0 as usize].state;
        if !self.ports.is_open(link) {
            return Outcome::Taken;
        }
        if state == State::Open && self.bundles.holds_home() {
            self.held_links.push(link);
            return Outcome::Held;
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let outcome = match read(bytes, &mut scratch) {
            Ok((frame, message)) => match state {
                State::Strange => self.greet(link, &message, fx),
                _ => self.hear(link, &frame, &message, fx),
            },
            Err(malformed) => self.complain(link, malformed, fx),
        };
        self.scratch = scratch;
        if outcome == Outcome::Taken {
            self.counts.frames_in += 1;
            self.sessions[link.0 as usize].heard = self.now;
        }
        outcome
    }

    /// Before HELLO nothing else is heard.
    fn greet(&mut self, link: LinkId, message: &Message<'_>, fx: &mut impl Effects) -> Outcome {
        let Message::Hello(hello) = message else {
            let what = format_args!("the first message must be HELLO");
            self.reject(link, code::INVALID_MESSAGE, what, CloseReason::Protocol, fx);
            return Outcome::Taken;
        };
        if self.sessions[link.0 as usize].admit == Admit::Full {
            let what = format_args!("no session is free on this router");
            self.reject(link, code::UNAVAILABLE, what, CloseReason::Full, fx);
            return Outcome::Taken;
        }
        match self.grant_of(link, hello) {
            Ok(grant) => self.welcome(link, hello, grant, fx),
            Err((code, why)) => {
                self.reject(link, code, format_args!("{why}"), CloseReason::Unauthorized, fx);
            }
        }
        Outcome::Taken
    }

    /// Which grant the token of `hello` has, or the code and text that refuse it.
    fn grant_of(&self, link: LinkId, hello: &Hello<'_>) -> Result<u32, (u16, &'static str)> {
        let trusted = self.sessions[link.0 as usize].admit == Admit::Trusted;
        let Some(grants) = self.settings.grants.as_deref().filter(|_| !trusted) else {
            return Ok(UNLIMITED);
        };
        let token = hello.token.ok_or((code::UNAUTHORIZED, "Authentication required"))?;
        // Every token is compared, and each in constant time, so that time tells nothing.
        let mut found = None;
        for (at, grant) in grants.iter().enumerate() {
            if scope::constant_time_eq(grant.token.as_bytes(), token.as_bytes()) {
                found = Some((at as u32, grant));
            }
        }
        let (at, grant) = found.ok_or((code::UNAUTHORIZED, "token is not known to this router"))?;
        match grant.expires_unix_s {
            Some(end) if end.saturating_mul(1_000_000) <= self.unix_us() => {
                Err((code::TOKEN_EXPIRED, "token has expired"))
            }
            _ => Ok(at),
        }
    }

    fn welcome(&mut self, link: LinkId, hello: &Hello<'_>, grant: u32, fx: &mut impl Effects) {
        let trusted = self.sessions[link.0 as usize].admit == Admit::Trusted;
        let id = SessionId::new(self.settings.seed, self.settings.id, self.sessions_begun);
        self.sessions_begun += 1;
        self.counts.sessions_opened += 1;
        let quiet = hello.features.contains(Features::NO_ECHO);
        let rate = self.settings.rate_limit.filter(|_| !trusted);
        let session = &mut self.sessions[link.0 as usize];
        session.state = State::Open;
        session.id = id;
        session.quiet = quiet;
        session.grant = grant;
        session.bucket = rate.map(|rate| Bucket::new(rate, self.now));
        self.quiet.clear(link.0);
        if let Some(timeout) = self.settings.session_timeout.filter(|_| !trusted) {
            self.quiet.set(link.0, self.now + timeout);
        }
        self.watch_expiry(link, grant);

        let origin = self.origin(link);
        let text = id.text();
        let name = core::mem::take(&mut self.settings.name);
        let features = if quiet { FEATURES | Features::NO_ECHO } else { FEATURES };
        let welcome = Welcome {
            version: 1,
            features: Features::from_bits(features),
            time_us: self.unix_us(),
            session: text.as_str(),
            name: &name,
            token: None,
        };
        self.reply(&origin, &Message::Welcome(welcome), fx);
        self.settings.name = name;
        self.start_connect_snapshot(link);
        if self.settings.shards == 1 {
            self.continue_pulls(fx);
        }
    }

    /// Wakes up when the token of a session expires.
    fn watch_expiry(&mut self, link: LinkId, grant: u32) {
        let grants = self.settings.grants.as_deref().unwrap_or_default();
        let end_s = grants.get(grant as usize).and_then(|grant| grant.expires_unix_s);
        if let Some(end_s) = end_s {
            let left_us = end_s.saturating_mul(1_000_000).saturating_sub(self.unix_us());
            self.expiring.set(link.0, self.now + Span::from_micros(left_us));
        }
    }

    pub(super) fn end_expired_sessions(&mut self, fx: &mut impl Effects) {
        while let Some(link) = self.expiring.pop(self.now) {
            let why = format_args!("token has expired");
            let reason = CloseReason::Unauthorized;
            self.reject(LinkId(link), code::TOKEN_EXPIRED, why, reason, fx);
        }
    }

    pub(super) fn end_silent_sessions(&mut self) {
        while let Some(link) = self.quiet.pop(self.now) {
            let session = &self.sessions[link as usize];
            let (limit, reason) = match session.state {
                State::Open => match self.settings.session_timeout {
                    Some(timeout) => (timeout, CloseReason::Idle),
                    None => continue,
                },
                _ => {
                    self.doom(LinkId(link), CloseReason::HandshakeTimeout);
                    continue;
                }
            };
            let due = session.heard + limit;
            if due > self.now {
                self.quiet.set(link, due);
            } else {
                self.doom(LinkId(link), reason);
            }
        }
    }

    /// Says why, and closes the link.
    fn reject(
        &mut self,
        link: LinkId,
        code: u16,
        why: core::fmt::Arguments<'_>,
        reason: CloseReason,
        fx: &mut impl Effects,
    ) {
        self.counts.refused += 1;
        let mut frame = self.lend();
        if self.encode_error(code, why, None, &mut frame) {
            self.send(link, super::Class::Keep, &frame, fx);
        }
        self.give_back(frame);
        self.doom(link, reason);
    }

    /// A frame that is none: told at most once a second, and forgiven only so often.
    fn complain(&mut self, link: LinkId, malformed: Malformed, fx: &mut impl Effects) -> Outcome {
        self.counts.malformed += 1;
        let now = self.now;
        let session = &mut self.sessions[link.0 as usize];
        let code = match malformed {
            Malformed::ShortHeader { .. }
            | Malformed::BadMagic { .. }
            | Malformed::ShortPayload { .. }
            | Malformed::UnsupportedFlag { .. } => code::INVALID_FRAME,
            _ => code::INVALID_MESSAGE,
        };
        if session.state == State::Strange {
            self.reject(link, code, format_args!("{malformed}"), CloseReason::Protocol, fx);
            return Outcome::Taken;
        }
        if now >= session.offences_since + OFFENCE_WINDOW {
            session.offences_since = now;
            session.offences = 0;
        }
        session.offences += 1;
        if session.offences > OFFENCES_MAX {
            let why = format_args!("more than {OFFENCES_MAX} malformed frames in 10 s");
            self.reject(link, code, why, CloseReason::Offences, fx);
            return Outcome::Taken;
        }
        if session.complained.is_none_or(|last| now >= last + COMPLAINT_INTERVAL) {
            session.complained = Some(now);
            let origin = self.origin(link);
            self.error(&origin, code, format_args!("{malformed}"), None, fx);
        }
        Outcome::Taken
    }

    /// One message of an open session.
    fn hear(
        &mut self,
        link: LinkId,
        frame: &Frame<'_>,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) -> Outcome {
        match message {
            Message::Set(_) | Message::Publish(_) => self.hear_write(link, frame, message, fx),
            Message::Bundle(bundle) => self.hear_bundle(link, frame.header.qos, bundle, fx),
            _ => {
                if self.within_rate(link, 1, fx) {
                    self.hear_other(link, frame, message, fx);
                }
                Outcome::Taken
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

    fn hear_write(
        &mut self,
        link: LinkId,
        frame: &Frame<'_>,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) -> Outcome {
        let address = match message {
            Message::Set(set) => set.address,
            Message::Publish(publish) => publish.address,
            _ => unreachable!("only writes come here"),
        };
        let home = self.home_of(address);
        if !self.in_order(link, home, fx) {
            return Outcome::Held;
        }
        if !self.within_rate(link, 1, fx) {
            return Outcome::Taken;
        }
        let mut origin = self.origin(link);
        origin.confirm = frame.header.qos > Qos::Fire && matches!(message, Message::Set(_));
        if let Err(refused) = self.may_send(link, message) {
            self.refuse(&origin, refused, Some(address), fx);
            return Outcome::Taken;
        }
        match message {
            Message::Publish(publish) => self.admit_publish(&origin, &canonical(publish), fx),
            _ => self.forward(&origin, home, message, fx),
        }
        Outcome::Taken
    }

    /// Whether the session may send this write at all: address, scope, and whose name it uses.
    pub(super) fn may_send(&self, link: LinkId, message: &Message<'_>) -> Result<(), Refused> {
        let address = match message {
            Message::Set(set) => set.address,
            Message::Publish(publish) => publish.address,
            _ => return Ok(()),
        };
        address::check(address).map_err(Refused::Address)?;
        let session = &self.sessions[link.0 as usize];
        if !self.scopes(session.grant).is_none_or(|scopes| scope::may_write(scopes, address)) {
            return Err(Refused::Forbidden);
        }
        if let Message::Publish(publish) = message
            && address.starts_with(P2P_SIGNAL)
            && let Some(from) = publish.value.and_then(|v| v.get("from")).and_then(|v| v.as_str())
            && SessionId::parse(from) != Some(session.id)
        {
            return Err(Refused::NotSender);
        }
        Ok(())
    }

    fn admit_publish(&mut self, origin: &Origin, publish: &Publish<'_>, fx: &mut impl Effects) {
        if let Some(target) = publish.address.strip_prefix(P2P_SIGNAL)
            && !target.contains('/')
        {
            return self.signal_peer(origin, target, publish, fx);
        }
        if publish.signal == Some(Signal::Gesture) {
            return self.admit_gesture(origin, publish, fx);
        }
        let home = self.home_of(publish.address);
        self.forward(origin, home, &Message::Publish(*publish), fx);
    }

    fn signal_peer(
        &mut self,
        origin: &Origin,
        target: &str,
        publish: &Publish<'_>,
        fx: &mut impl Effects,
    ) {
        let to = SessionId::parse(target).unwrap_or(SessionId::NONE);
        let Some(shard) = to.shard(self.settings.seed, self.settings.shards) else {
            let why = format_args!("Target session not found: {target}");
            self.counts.refused += 1;
            return self.error(origin, code::TARGET_UNKNOWN, why, Some(publish.address), fx);
        };
        let message = Message::Publish(*publish);
        let mut frame = self.lend();
        if binary::encode(&message, binary::default_qos(&message), &mut frame).is_ok() {
            if shard == self.settings.id {
                self.direct(origin, to, &frame, fx);
            } else {
                self.hand(shard, Record::Direct { origin: *origin, to, frame: &frame }, fx);
            }
        }
        self.give_back(frame);
    }

    /// Start, end and cancel go on at once; of moves the newest, once in each interval.
    fn admit_gesture(&mut self, origin: &Origin, publish: &Publish<'_>, fx: &mut impl Effects) {
        let (link, address) = (origin.link, publish.address);
        let id = publish.id.unwrap_or(0);
        let home = self.home_of(address);
        let message = Message::Publish(*publish);
        match publish.phase.unwrap_or_default() {
            Phase::Start => {
                self.gestures.start(self.now, link, id, address);
                self.forward(origin, home, &message, fx);
            }
            Phase::Move => {
                let mut payload = self.lend();
                if binary::append_payload(&message, &mut payload).is_ok() {
                    match self.gestures.moved(self.now, link, id, address, &payload) {
                        Move::Forward => self.forward(origin, home, &message, fx),
                        Move::Kept => {}
                        Move::Replaced => self.counts.moves_coalesced += 1,
                    }
                }
                self.give_back(payload);
            }
            Phase::End | Phase::Cancel => {
                let mut pending = self.lend();
                self.gestures.ended(link, id, address, &mut pending);
                if !pending.is_empty() {
                    self.forward_payload(origin, home, &pending, fx);
                }
                self.give_back(pending);
                self.forward(origin, home, &message, fx);
            }
        }
    }

    /// Forwards the moves whose interval is over.
    pub(super) fn flush_gestures(&mut self, fx: &mut impl Effects) {
        if self.gestures.deadline().is_none_or(|due| due > self.now) {
            return;
        }
        let mut payload = self.lend();
        while let Some(link) = self.gestures.pop(self.now, &mut payload) {
            let origin = self.origin(link);
            if let Ok(Message::Publish(publish)) = binary::decode(&payload) {
                let home = self.home_of(publish.address);
                self.forward_payload(&origin, home, &payload, fx);
            }
        }
        self.give_back(payload);
    }

    /// A session that leaves in the middle of gestures cancels them, so that nobody waits for an end.
    fn cancel_gestures(&mut self, origin: &Origin, fx: &mut impl Effects) {
        let mut address = self.lend();
        while let Some(id) = self.gestures.abandoned(origin.link, &mut address) {
            let Ok(address) = core::str::from_utf8(&address) else { continue };
            let cancel = Publish {
                address,
                signal: Some(Signal::Gesture),
                phase: Some(Phase::Cancel),
                id: Some(id),
                ..Publish::default()
            };
            let home = self.home_of(address);
            self.forward(origin, home, &Message::Publish(cancel), fx);
        }
        self.give_back(address);
    }

    /// Gives a write to the home of its address.
    fn forward(
        &mut self,
        origin: &Origin,
        home: ShardId,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) {
        if home == self.settings.id {
            return match message {
                Message::Set(set) => self.settle(origin, set, fx),
                Message::Publish(publish) => self.publish(origin, publish, fx),
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

    fn forward_payload(
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

    fn hear_bundle(
        &mut self,
        link: LinkId,
        qos: Qos,
        bundle: &Bundle<'_>,
        fx: &mut impl Effects,
    ) -> Outcome {
        let mut origin = self.origin(link);
        let mut payload = self.lend();
        let drafted = self.draft_bundle(link, bundle, &mut payload);
        let ahead_us = bundle.timestamp_us.map_or(0, |at_us| at_us.saturating_sub(self.unix_us()));
        let outcome = match drafted {
            Ok(drafted) if ahead_us == 0 && !self.bundle_in_order(link, drafted.homes, fx) => {
                Outcome::Held
            }
            Ok(drafted) => {
                let spans = drafted.homes.count_ones() > 1;
                if !self.within_rate(link, drafted.messages.max(1) as u32, fx) {
                    if spans && ahead_us == 0 {
                        self.sessions[link.0 as usize].order.waiting = false;
                    }
                } else if ahead_us > 0 {
                    match self.schedule_bundle(&origin, &payload, ahead_us) {
                        Ok(()) => {
                            origin.confirm = qos > Qos::Fire;
                            self.acknowledge(&origin, None, None, fx);
                        }
                        Err(refused) => self.refuse_bundle(&origin, refused, None, fx),
                    }
                } else {
                    origin.confirm = qos > Qos::Fire;
                    self.run_bundle(&origin, &payload, drafted.homes, fx);
                }
                Outcome::Taken
            }
            Err((refused, address)) => {
                if self.within_rate(link, 1, fx) {
                    self.refuse_bundle(&origin, refused, address, fx);
                }
                Outcome::Taken
            }
        };
        self.give_back(payload);
        outcome
    }

    /// Whether a message for `home` may go on now; if not, it is held until [`Shard::fenced`].
    fn in_order(&mut self, link: LinkId, home: ShardId, fx: &mut impl Effects) -> bool {
        let own = self.settings.id;
        let origin = self.origin(link);
        let order = &mut self.sessions[link.0 as usize].order;
        if order.waiting {
            return false;
        }
        if order.outstanding && order.home != home {
            order.waiting = true;
            let last = order.home;
            self.hand(last, Record::Fence { origin }, fx);
            return false;
        }
        order.home = home;
        order.outstanding = home != own;
        true
    }

    /// The same for a bundle. One that spans homes is a fence of its own: what follows waits for it.
    fn bundle_in_order(&mut self, link: LinkId, homes: u64, fx: &mut impl Effects) -> bool {
        match homes.count_ones() {
            0 => !self.sessions[link.0 as usize].order.waiting,
            1 => self.in_order(link, ShardId(homes.trailing_zeros() as u16), fx),
            _ => {
                let own = self.settings.id;
                // As if it went home first: that fences whatever was forwarded elsewhere.
                let free = self.in_order(link, own, fx);
                self.sessions[link.0 as usize].order.waiting = true;
                free
            }
        }
    }

    /// All that the session sent before has been published: its next message may follow.
    pub(super) fn fenced(&mut self, origin: &Origin, fx: &mut impl Effects) {
        if self.is_current(origin) {
            let order = &mut self.sessions[origin.link.0 as usize].order;
            order.waiting = false;
            order.outstanding = false;
            fx.resume(origin.link);
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
        let home = self.home_of(address);
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

    /// Takes `messages` from the session's bucket. If it is empty they are dropped, and told once a second.
    fn within_rate(&mut self, link: LinkId, messages: u32, fx: &mut impl Effects) -> bool {
        let now = self.now;
        let session = &mut self.sessions[link.0 as usize];
        let Some(bucket) = &mut session.bucket else { return true };
        if bucket.take(now, messages) {
            return true;
        }
        self.counts.rate_limited += 1;
        if session.limited.is_none_or(|last| now >= last + COMPLAINT_INTERVAL) {
            session.limited = Some(now);
            let rate = self.settings.rate_limit.unwrap_or(0);
            let origin = self.origin(link);
            let why = format_args!("Rate limit exceeded: {rate} messages/second");
            self.error(&origin, code::RATE_LIMIT, why, None, fx);
        }
        false
    }
}

fn read<'a>(
    bytes: &'a [u8],
    scratch: &'a mut Scratch,
) -> Result<(Frame<'a>, Message<'a>), Malformed> {
    let frame = header::parse(bytes)?;
    let message = wire::decode(frame.payload, scratch)?;
    Ok((frame, message))
}

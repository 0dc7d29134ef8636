//! Ingress: who is on a link, and how often they may speak.

mod admit;
mod gestures;
mod order;

pub(super) use admit::{canonical, is_for_session};

use super::bucket::Bucket;
use super::home::UNLIMITED;
use super::known::Place;
use super::record::{Origin, Record, UNDECLARED};
use super::session_id::SessionId;
use super::{Admit, CloseReason, Effects, Outcome, Shard, scope};
use crate::error::{Malformed, code};
use crate::message::{Hello, Message, Welcome};
use crate::pattern;
use crate::time::{Span, Time};
use crate::wire;
use crate::wire::binary::{self, code as message_code};
use crate::wire::header::{self, Frame};
use crate::wire::list::Features;
use crate::{LinkId, ShardId};

/// What WELCOME offers: all five signals.
const FEATURES: u8 =
    Features::PARAM | Features::EVENT | Features::STREAM | Features::GESTURE | Features::TIMELINE;
/// What WELCOME grants to those who asked for it.
const PRIVATE: u8 = Features::NO_ECHO | Features::ASKED_ONLY;
/// A session that asked for nothing and says nothing is closed after so many session time-outs,
/// although its pings are answered: the published Rust client leaves its socket behind when it is
/// closed.
const FORGOTTEN_AFTER_TIMEOUTS: u64 = 12;
/// Malformed frames that a session may send in [`OFFENCE_WINDOW`] before its link is closed.
const OFFENCES_MAX: u32 = 100;
const OFFENCE_WINDOW: Span = Span::from_secs(10);
/// ERRORs for a broken frame, or for too many frames, are sent this far apart.
const COMPLAINT_INTERVAL: Span = Span::from_secs(1);

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
    /// Of what it writes without a marker: as its name has it.
    pub priority: u8,
    /// What it is was told at `/clasp/source/<id>`.
    pub introduced: bool,
    /// It asked what is arbitrated, and is told again when that changes.
    pub asked_arbitration: bool,
    /// It is told nothing but what it asked for, and the end of that.
    pub asked_only: bool,
    /// Which grant its token has; `UNLIMITED` in open mode.
    pub grant: u32,
    bucket: Option<Bucket>,
    /// When any byte arrived, and when a frame did.
    heard: Time,
    spoke: Time,
    complained: Option<Time>,
    limited: Option<Time>,
    offences: u32,
    offences_since: Time,
    order: Order,
    /// Where the address is known that it wrote last.
    last: Place,
    /// It is among the links whose frame waits for a bundle's decision.
    pub held: bool,
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
    /// Homes that were told of sources that are lost and have not answered. What goes to a home by
    /// itself follows on the same way; a bundle across homes goes another, and waits for them.
    signs_due: u32,
    /// Such a bundle waits.
    waits_for_signs: bool,
}

impl Session {
    pub(super) const VACANT: Self = Self {
        state: State::Vacant,
        admit: Admit::Stranger,
        epoch: 0,
        id: SessionId::NONE,
        quiet: false,
        priority: UNDECLARED,
        introduced: false,
        asked_arbitration: false,
        asked_only: false,
        grant: UNLIMITED,
        bucket: None,
        heard: Time(0),
        spoke: Time(0),
        complained: None,
        limited: None,
        offences: 0,
        offences_since: Time(0),
        order: Order {
            home: ShardId(0),
            outstanding: false,
            waiting: false,
            signs_due: 0,
            waits_for_signs: false,
        },
        last: Place::FIRST,
        held: false,
    };
}

impl Shard {
    pub(super) fn opened(&mut self, link: LinkId, admit: Admit) -> Outcome {
        let session = &mut self.sessions[link.0 as usize];
        assert!(session.state == State::Vacant, "a link is opened once");
        let epoch = session.epoch.wrapping_add(1);
        *session = Session {
            state: State::Strange,
            admit,
            epoch,
            heard: self.now,
            spoke: self.now,
            ..Session::VACANT
        };
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
        self.take_leave(&origin, fx);
        self.egress.tell_sources(link, false);
        let session = origin.writer;
        self.store.end_session(session);
        self.hand_all(Record::SessionEnded { session }, fx);
        // From here on replies to it are for nobody.
        let session = &mut self.sessions[link.0 as usize];
        session.epoch = session.epoch.wrapping_add(1);
        session.state = State::Strange;
    }

    /// Whether `origin` is a session of this shard that is still there.
    #[inline]
    pub(super) fn is_current(&self, origin: &Origin) -> bool {
        origin.shard == self.settings.id
            && self
                .sessions
                .get(origin.link.0 as usize)
                .is_some_and(|s| s.state == State::Open && s.epoch == origin.epoch)
    }

    #[inline]
    pub(super) fn origin(&self, link: LinkId) -> Origin {
        let session = &self.sessions[link.0 as usize];
        Origin {
            shard: self.settings.id,
            link,
            epoch: session.epoch,
            writer: session.id,
            quiet: session.quiet,
            confirm: false,
            ended: false,
            awaited: false,
            critical: false,
            priority: session.priority,
        }
    }

    pub(super) fn link_of(&self, id: SessionId) -> Option<LinkId> {
        let at = self.sessions.iter().position(|s| s.state == State::Open && s.id == id)?;
        Some(LinkId(at as u32))
    }

    /// One transport message of a link.
    #[inline]
    pub(super) fn receive(&mut self, link: LinkId, bytes: &[u8], fx: &mut impl Effects) -> Outcome {
        let state = self.sessions[link.0 as usize].state;
        if !self.ports.is_open(link) {
            return Outcome::Taken;
        }
        if state == State::Open && self.bundles.holds_home() {
            if !core::mem::replace(&mut self.sessions[link.0 as usize].held, true) {
                self.held_links.push(link);
            }
            return Outcome::Held;
        }
        let heard = match header::parse(bytes) {
            Ok(frame) if state == State::Open => self.hear_frame(link, bytes, &frame, fx),
            Ok(frame) => self.greet(link, &frame, fx),
            Err(malformed) => Err(malformed),
        };
        let outcome = heard.unwrap_or_else(|malformed| self.complain(link, malformed, fx));
        if outcome == Outcome::Taken {
            self.counts.frames_in += 1;
            let session = &mut self.sessions[link.0 as usize];
            session.heard = self.now;
            session.spoke = self.now;
        }
        outcome
    }

    /// What an open session says. Nearly all of it is SETs, PUBLISHes and bundles of them, whose
    /// addresses are looked up as bytes: only those that are new must be shown to be text.
    #[inline]
    fn hear_frame(
        &mut self,
        link: LinkId,
        bytes: &[u8],
        frame: &Frame<'_>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        match frame.payload.split_first() {
            Some((&message_code::SET, body)) => {
                let (set, _) = binary::raw_set(body)?;
                self.hear_set(link, frame.header.qos, &set, fx)
            }
            Some((&message_code::PUBLISH, body)) => {
                let publish = binary::raw_publish(body)?;
                let qos = binary::qos_of_publish(publish.signal);
                let exact = binary::is_frame_of(bytes, &publish, qos).then_some(bytes);
                self.hear_publish(link, &publish, exact, fx)
            }
            Some((&message_code::BUNDLE, _)) => {
                self.hear_bundle(link, frame.header.qos, frame.payload, fx)
            }
            _ => {
                let mut scratch = core::mem::take(&mut self.scratch);
                let heard = wire::decode(frame.payload, &mut scratch)
                    .and_then(|message| self.hear(link, frame, &message, fx));
                self.scratch = scratch;
                heard
            }
        }
    }

    /// Before HELLO nothing else is heard.
    fn greet(
        &mut self,
        link: LinkId,
        frame: &Frame<'_>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let greeted = wire::decode(frame.payload, &mut scratch)
            .map(|message| self.greet_with(link, &message, fx));
        self.scratch = scratch;
        greeted
    }

    fn greet_with(
        &mut self,
        link: LinkId,
        message: &Message<'_>,
        fx: &mut impl Effects,
    ) -> Outcome {
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
        self.introductions.name(link, hello.name);
        let priority = self.priority_of(self.introductions.name_of(link));
        let private = hello.features.bits() & PRIVATE;
        let rate = self.settings.rate_limit.filter(|_| !trusted);
        let session = &mut self.sessions[link.0 as usize];
        session.state = State::Open;
        session.id = id;
        session.quiet = private & Features::NO_ECHO != 0;
        session.asked_only = private & Features::ASKED_ONLY != 0;
        session.priority = priority;
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
        let welcome = Welcome {
            version: 1,
            features: Features::from_bits(FEATURES | private),
            time_us: self.unix_us(),
            session: text.as_str(),
            name: &name,
            token: None,
        };
        self.reply(&origin, &Message::Welcome(welcome), fx);
        self.settings.name = name;
        if private & Features::ASKED_ONLY == 0 {
            self.start_connect_snapshot(link);
        }
        if self.settings.shards == 1 {
            self.continue_pulls(fx);
        }
    }

    /// The priority of sessions of this name.
    pub(super) fn priority_of(&self, name: &str) -> u8 {
        let mut sources = self.settings.sources.iter();
        let found = sources.find(|source| pattern::segment_matches(&source.name, name));
        found.map_or(UNDECLARED, |source| source.priority)
    }

    /// Who is on `link`, and with which priority, if somebody is.
    pub(super) fn ranked(&self, link: LinkId) -> Option<(SessionId, u8)> {
        let Session { state, id, priority, .. } = self.sessions[link.0 as usize];
        (state == State::Open).then_some((id, priority))
    }

    pub(super) fn watch_expiry_anew(&mut self) {
        for link in 0..self.sessions.len() {
            let Session { state, grant, .. } = self.sessions[link];
            if state == State::Open {
                self.watch_expiry(LinkId(link as u32), grant);
            }
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
            let mut due = session.heard + limit;
            if self.subscriptions.count(LinkId(link)) == 0 {
                let forgotten = Span(limit.0.saturating_mul(FORGOTTEN_AFTER_TIMEOUTS));
                due = due.min(session.spoke + forgotten);
            }
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
            self.send(link, super::Class::REPLY, &frame, fx);
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

    /// Takes `messages` from the session's bucket. If it is empty they are dropped, and told once a
    /// second.
    #[inline]
    pub(super) fn within_rate(
        &mut self,
        link: LinkId,
        messages: u32,
        fx: &mut impl Effects,
    ) -> bool {
        let now = self.now;
        match &mut self.sessions[link.0 as usize].bucket {
            None => true,
            Some(bucket) => bucket.take(now, messages) || self.limit(link, fx),
        }
    }

    /// Says that messages are dropped, once a second; they are not within the rate.
    fn limit(&mut self, link: LinkId, fx: &mut impl Effects) -> bool {
        let now = self.now;
        let session = &mut self.sessions[link.0 as usize];
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

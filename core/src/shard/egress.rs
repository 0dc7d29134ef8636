//! The way out: which links of this shard get a frame, and snapshots at the pace each link reads.

mod pulls;

use alloc::vec::Vec;

pub(super) use pulls::Pulls;

use super::audience::{Audience, Size};
use super::critical::Critical;
use super::home::{END, UNLIMITED};
use super::input::Lane;
use super::marker::{self, Tag};
use super::outbox::{Class, Kind, Writer};
use super::pace::{Unsubscribed, Verdict, Wish};
use super::record::{Origin, Record, UNDECLARED};
use super::subscription::{Reach, Subscription};
use super::{Effects, Exits, Outcome, RECORD_BYTES_MAX, Shard, TURN_MAX};
use crate::index;
use crate::limits::Limits;
use crate::message::{Ack, Bundle, Message, Subscribe};
use crate::signal::{Phase, Qos, Signal};
use crate::value::Value;
use crate::wire::binary;
use crate::wire::header::FRAME_HEADER_LEN;
use crate::wire::list::Messages;
use crate::{LinkId, ShardId};

const NONE: u32 = u32::MAX;
/// Parts of snapshots that are made in one go, for all links together, however many clients connect
/// at once: everybody else on the shard waits for them. The rest follows in the next turn.
const PARTS_A_TURN: usize = 1;

/// Room for the targets of one frame that paced subscriptions want too.
pub(super) struct Egress {
    /// The delivery in which a link was last chosen, so that no link is chosen twice.
    chosen: Vec<u64>,
    delivery: u64,
    targets: Vec<LinkId>,
    /// Paced subscriptions that match.
    paced: Vec<u32>,
    /// Links whose sessions want to know whose the SETs are: a bit each, and how many.
    told: Vec<u64>,
    told_count: u32,
}

impl Egress {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            chosen: alloc::vec![0; limits.links_max as usize],
            delivery: 0,
            targets: Vec::with_capacity(limits.links_max as usize),
            paced: Vec::with_capacity(limits.subscriptions_max as usize),
            told: alloc::vec![0; (limits.links_max as usize).div_ceil(64)],
            told_count: 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        ((self.chosen.capacity() + self.told.capacity()) * 8
            + self.targets.capacity() * 4
            + self.paced.capacity() * 4) as u64
    }

    /// From now on the session of `link` is told whose the SETs are that it gets; or no more.
    pub(super) fn tell_sources(&mut self, link: LinkId, wanted: bool) {
        if self.is_told(link) != wanted {
            self.told[link.0 as usize / 64] ^= 1 << (link.0 % 64);
            self.told_count = if wanted { self.told_count + 1 } else { self.told_count - 1 };
        }
    }

    fn is_told(&self, link: LinkId) -> bool {
        self.told[link.0 as usize / 64] & 1 << (link.0 % 64) != 0
    }

    fn begin(&mut self) {
        self.delivery += 1;
        self.targets.clear();
        self.paced.clear();
    }

    fn choose(&mut self, link: LinkId) {
        let chosen = &mut self.chosen[link.0 as usize];
        if *chosen != self.delivery {
            *chosen = self.delivery;
            self.targets.push(link);
        }
    }

    fn is_chosen(&self, link: LinkId) -> bool {
        self.chosen[link.0 as usize] == self.delivery
    }
}

/// What a SET or PUBLISH frame of our own making says, without decoding its value.
struct Outgoing {
    signal: Signal,
    phase: Phase,
    is_set: bool,
}

impl Outgoing {
    #[inline]
    fn of(frame: &[u8]) -> Self {
        let is_set = frame[FRAME_HEADER_LEN] == binary::code::SET;
        let flags = frame[FRAME_HEADER_LEN + 1];
        let (signal, phase) = if is_set {
            (Signal::Param, Phase::Start)
        } else {
            (Signal::from_code(flags >> 5), Phase::from_code(flags))
        };
        Self { signal, phase, is_set }
    }

    /// The same for what was held back by its subscription: params and streams only. By whom it was
    /// written is not known any more.
    fn paced_class(&self, critical: &mut Critical, key: u64, frame: &[u8]) -> Class {
        let kind = match self.signal {
            Signal::Param if self.is_set => Kind::Param { key },
            Signal::Stream => Kind::Stream { key },
            _ => Kind::Event { key },
        };
        Class::new(kind, critical.matches(key, address_of(frame)), None)
    }

    /// What may happen to the frame where it has to wait. A PUBLISH of a param is kept: the router
    /// does not know its address's value, so a newer one is not known to stand for it.
    ///
    /// A bundle is critical, but not the samples in it: those of one address stay in order.
    #[inline]
    fn class(&self, critical: &mut Critical, origin: &Origin, key: u64, frame: &[u8]) -> Class {
        let kind = match (self.signal, self.phase) {
            (Signal::Param, _) if self.is_set => Kind::Param { key },
            (Signal::Stream, _) => Kind::Stream { key },
            (Signal::Gesture, Phase::Move) => Kind::Move { key: gesture_key(origin, key, frame) },
            (Signal::Gesture, _) => Kind::Turn { key: gesture_key(origin, key, frame) },
            _ => Kind::Event { key },
        };
        let in_bundle = origin.critical && self.signal != Signal::Stream;
        let critical =
            in_bundle || !critical.is_empty() && critical.matches(key, address_of(frame));
        Class::new(kind, critical, Some(Writer::of(origin.writer)))
    }
}

/// The address of a SET or PUBLISH frame that this router encoded: both have it at the same place.
pub(super) fn address_of(frame: &[u8]) -> &str {
    core::str::from_utf8(address_bytes_of(frame)).unwrap_or_default()
}

#[inline]
pub(super) fn address_bytes_of(frame: &[u8]) -> &[u8] {
    let start = FRAME_HEADER_LEN + 2;
    let len = usize::from(u16::from_be_bytes([frame[start], frame[start + 1]]));
    &frame[start + 2..start + 2 + len]
}

/// Tells gestures of one address apart: those of other sessions, and those with other ids.
fn gesture_key(origin: &Origin, key: u64, frame: &[u8]) -> u64 {
    let id = match binary::decode(&frame[FRAME_HEADER_LEN..]) {
        Ok(Message::Publish(publish)) => publish.id.unwrap_or(0),
        _ => 0,
    };
    let session = index::join(key, origin.link.0 ^ u32::from(origin.shard.0) << 26);
    index::join(session, id)
}

/// The number that a SET or PUBLISH frame carries, if it is one.
fn number_of(frame: &[u8]) -> Option<f64> {
    match binary::decode(&frame[FRAME_HEADER_LEN..]) {
        Ok(Message::Set(set)) => set.value.as_f64(),
        Ok(Message::Publish(publish)) => publish.value.and_then(|value| value.as_f64()),
        _ => None,
    }
}

fn wish_of(subscription: &Subscription) -> Wish {
    Wish { interval: subscription.interval, epsilon: subscription.epsilon }
}

impl Shard {
    /// Whom a SET or PUBLISH is for: as remembered of its address, if that still holds.
    #[inline]
    pub(super) fn audience(&mut self, remembered: Audience, address: &[u8]) -> Audience {
        self.audiences.of(remembered, address, &self.subscriptions, &self.interests)
    }

    /// Whether a SET reaches anybody, so that it is worth a frame. What came from a bridge does not
    /// go back to it.
    #[inline]
    pub(super) fn is_heard(&self, origin: &Origin, audience: Audience) -> bool {
        match self.audiences.size(audience) {
            Size::Nobody => false,
            Size::One(link) => !origin.quiet || self.own_link(origin) != Some(link),
            Size::More => true,
        }
    }

    /// Gives a frame that another shard published to every link of this shard that wants it.
    pub(super) fn published(
        &mut self,
        origin: &Origin,
        key: u64,
        tag: Option<&Tag<'_>>,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        let address = address_bytes_of(frame);
        let place = self.known.find(address).or_else(|| self.known.note(address, key));
        let remembered = place.map_or(Audience::UNKNOWN, |place| self.known.audience(place));
        let audience = self.audience(remembered, address);
        if let Some(place) = place {
            self.known.set_audience(place, audience);
        }
        self.deliver(origin, key, audience, tag, frame, fx);
    }

    /// Gives a frame to every link of `audience` that wants it, once each.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        origin: &Origin,
        key: u64,
        audience: Audience,
        tag: Option<&Tag<'_>>,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        let outgoing = Outgoing::of(frame);
        let left_out = if !outgoing.is_set || origin.quiet { self.own_link(origin) } else { None };
        let class = outgoing.class(&mut self.critical, origin, key, frame);
        if self.egress.told_count > 0 && outgoing.is_set {
            self.choose_targets(outgoing.signal, left_out, audience, key, frame);
            return self.tell_targets(origin, tag, class, frame, fx);
        }
        if !self.audiences.paced(audience).is_empty() {
            self.choose_targets(outgoing.signal, left_out, audience, key, frame);
            return self.send_to_targets(class, frame, fx);
        }
        let Self { audiences, ports, doomed, counts, .. } = self;
        let mut exits = Exits { ports, doomed, counts };
        let mut shared = None;
        for member in audiences.members(audience) {
            if member.wants(outgoing.signal) && Some(member.link()) != left_out {
                exits.send(member.link(), &class, frame, &mut shared, fx);
            }
        }
    }

    fn send_to_targets(&mut self, class: Class, frame: &[u8], fx: &mut impl Effects) {
        let Self { egress, ports, doomed, counts, .. } = self;
        let mut exits = Exits { ports, doomed, counts };
        let mut shared = None;
        for &link in &egress.targets {
            exits.send(link, &class, frame, &mut shared, fx);
        }
    }

    /// The same where some of them want to know whose the SET is. Out of the way of all others.
    #[cold]
    #[inline(never)]
    fn tell_targets(
        &mut self,
        origin: &Origin,
        tag: Option<&Tag<'_>>,
        class: Class,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        let mut marked = self.lend();
        if self.egress.targets.iter().any(|&link| self.egress.is_told(link)) {
            self.mark(origin, tag, frame, &mut marked);
        }
        let Self { egress, ports, doomed, counts, .. } = self;
        let mut exits = Exits { ports, doomed, counts };
        let (mut shared, mut shared_marked) = (None, None);
        for &link in &egress.targets {
            // A SET that fills a frame leaves no room for its marker.
            if egress.is_told(link) && !marked.is_empty() {
                exits.send(link, &class, &marked, &mut shared_marked, fx);
            } else {
                exits.send(link, &class, frame, &mut shared, fx);
            }
        }
        self.give_back(marked);
    }

    /// Writes to `marked` a BUNDLE of the marker and of the SET in `frame`; nothing if that is too
    /// long.
    fn mark(&mut self, origin: &Origin, tag: Option<&Tag<'_>>, frame: &[u8], marked: &mut Vec<u8>) {
        let text = origin.writer.text();
        let tag = tag.copied().unwrap_or(Tag { id: text.as_str(), priority: None, by: None });
        // A source that declares none has the priority of its session, with whoever passes it on.
        let own = (origin.priority != UNDECLARED).then_some(origin.priority);
        let (priority, by) = (tag.priority.or(own), Some(tag.by.unwrap_or(origin.writer)));
        let tag = Tag { priority, by, ..tag };
        let (mut value, mut messages) = (self.lend(), self.lend());
        let set = binary::decode(&frame[FRAME_HEADER_LEN..]);
        if let Ok(set) = set
            && tag.push(&mut value).is_ok()
            && let Ok(value) = Value::from_encoded(&value)
            && Messages::append(&mut messages, &marker::message(value)).is_ok()
            && Messages::append(&mut messages, &set).is_ok()
        {
            let bundle =
                Bundle { timestamp_us: None, messages: Messages::of_checked(&messages, 2) };
            if binary::encode(&Message::Bundle(bundle), Qos::Commit, marked).is_err() {
                marked.clear();
            }
        }
        self.give_back(value);
        self.give_back(messages);
    }

    /// Whom a frame goes to where some want only so many, or only changes that are large enough.
    fn choose_targets(
        &mut self,
        signal: Signal,
        left_out: Option<LinkId>,
        audience: Audience,
        key: u64,
        frame: &[u8],
    ) {
        let may_pace = matches!(signal, Signal::Param | Signal::Stream);
        let Self { audiences, egress, subscriptions, .. } = self;
        egress.begin();
        for member in audiences.members(audience) {
            if member.wants(signal) && Some(member.link()) != left_out {
                egress.choose(member.link());
            }
        }
        for &slot in audiences.paced(audience) {
            let subscription = subscriptions.get(slot);
            if !subscription.wants(signal) || Some(subscription.link) == left_out {
                continue;
            }
            if may_pace {
                egress.paced.push(slot);
            } else {
                egress.choose(subscription.link);
            }
        }
        if !self.egress.paced.is_empty() {
            self.weigh_paced(key, frame);
        }
    }

    /// Chooses the links whose paced subscriptions want the frame now, and holds it for the others.
    fn weigh_paced(&mut self, key: u64, frame: &[u8]) {
        let value = number_of(frame);
        let paced = core::mem::take(&mut self.egress.paced);
        for &slot in &paced {
            let subscription = self.subscriptions.get(slot);
            let wish = wish_of(subscription);
            if self.pace.verdict(self.now, slot, key, wish, value) == Verdict::Now {
                self.egress.choose(subscription.link);
            }
        }
        for &slot in &paced {
            let subscription = self.subscriptions.get(slot);
            let (link, wish) = (subscription.link, wish_of(subscription));
            if self.egress.is_chosen(link) {
                self.pace.delivered(self.now, slot, key, wish, value);
                continue;
            }
            self.counts.paced += 1;
            match self.pace.verdict(self.now, slot, key, wish, value) {
                Verdict::Later(due) => {
                    if !self.pace.hold(slot, key, due, value, frame) {
                        self.egress.choose(link);
                    }
                }
                Verdict::Never => self.pace.withdrawn(slot, key),
                Verdict::Now => {}
            }
        }
        self.counts.paced_overflow = self.pace.overflow;
        self.egress.paced = paced;
    }

    /// Sends the newest value of every address whose rate allows it again.
    pub(super) fn flush_paced(&mut self, fx: &mut impl Effects) {
        if self.pace.deadline().is_none_or(|due| due > self.now) {
            return;
        }
        let mut frame = self.lend();
        for _ in 0..TURN_MAX {
            let Some((slot, key, value)) = self.pace.pop(self.now, &mut frame) else { break };
            let link = self.subscriptions.get(slot).link;
            if !self.ports.is_open(link) {
                continue;
            }
            // Any other subscription of the link held back the same or an older value.
            for other in self.subscriptions.each_of(link) {
                let subscription = self.subscriptions.get(other);
                if subscription.is_paced() && (other == slot || self.pace.knows(other, key)) {
                    self.pace.delivered(self.now, other, key, wish_of(subscription), value);
                }
            }
            let class = Outgoing::of(&frame).paced_class(&mut self.critical, key, &frame);
            self.send(link, class, &frame, fx);
        }
        self.give_back(frame);
    }

    /// The kernel took bytes of a link: what waits follows, then the next part of its snapshot.
    pub(super) fn sent(&mut self, link: LinkId, bytes: u32, fx: &mut impl Effects) -> Outcome {
        self.ports.taken(link, bytes, &mut self.counts, fx);
        if self.pulls.is_busy(link) && !self.pulls.of[link.0 as usize].waiting {
            self.pulls.due.set(link.0, self.now);
        }
        Outcome::Taken
    }

    /// Puts a subscription in place; the homes hear of it, and its snapshot follows.
    pub(super) fn add_subscription(
        &mut self,
        origin: &Origin,
        wish: &Subscribe<'_>,
        fx: &mut impl Effects,
    ) -> Result<(), super::Refused> {
        let link = origin.link;
        self.subscriptions.check_share(link, wish)?;
        self.unsubscribe(link, wish.id, fx);
        let (slot, reach) = self.subscriptions.add(link, wish)?;
        if reach == Reach::Changed {
            self.tell_homes(true, wish.pattern, fx);
        }
        let wants_history =
            wish.options.history.unwrap_or(0) > 0 || wish.options.window.unwrap_or(0) > 0;
        if wants_history && wish.types.contains(Signal::Stream) {
            self.ask_history(origin, wish, fx);
        }
        if wish.types.contains(Signal::Param) {
            self.pulls.enqueue(link, slot);
            self.pulls.due.set(link.0, self.now);
        } else {
            self.tell_complete(link, wish.pattern, fx);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, link: LinkId, id: u32, fx: &mut impl Effects) {
        let Some(slot) = self.subscriptions.find(link, id) else { return };
        self.pulls.forget(link, slot);
        match self.pace.unsubscribed(slot, TURN_MAX) {
            Unsubscribed::Wholly => self.unsubscribe_slot(slot, fx),
            Unsubscribed::Partly => self.subscriptions.orphan(slot),
        }
    }

    /// Ends a subscription that holds nothing back any more.
    pub(super) fn unsubscribe_slot(&mut self, slot: u32, fx: &mut impl Effects) {
        let mut pattern = self.lend();
        if self.subscriptions.remove(slot, &mut pattern) == Reach::Changed
            && let Ok(pattern) = core::str::from_utf8(&pattern)
        {
            self.tell_homes(false, pattern, fx);
        }
        self.give_back(pattern);
    }

    /// Tells the homes of what `pattern` can match whether this shard wants it.
    fn tell_homes(&mut self, wanted: bool, pattern: &str, fx: &mut impl Effects) {
        let record = Record::Interest { wanted, pattern };
        match self.home_of_pattern(pattern) {
            Some(home) if home == self.settings.id => {}
            Some(home) => self.hand(home, record, fx),
            None => self.hand_all(record, fx),
        }
    }

    fn ask_history(&mut self, origin: &Origin, wish: &Subscribe<'_>, fx: &mut impl Effects) {
        let count_max = wish.options.history.unwrap_or(0);
        let window_ms = wish.options.window.unwrap_or(0);
        let pattern = wish.pattern;
        let record = Record::History { origin: *origin, count_max, window_ms, pattern };
        let home = self.home_of_pattern(pattern);
        match home {
            Some(home) if home != self.settings.id => self.hand(home, record, fx),
            Some(_) => {}
            None => self.hand_all(record, fx),
        }
        if home.is_none_or(|home| home == self.settings.id) {
            self.recall(origin, count_max, window_ms, pattern, fx);
        }
    }

    /// The snapshot that every new session gets: all that it may read.
    pub(super) fn start_connect_snapshot(&mut self, link: LinkId) {
        self.pulls.begin_connect(link);
        self.pulls.due.set(link.0, self.now);
    }

    /// Gives links the next parts of their snapshots; whoever waited longest is first.
    pub(super) fn continue_pulls(&mut self, fx: &mut impl Effects) {
        let mut parts = 0;
        while parts < PARTS_A_TURN
            && self.has_room(Lane::Forward, PARTS_A_TURN * RECORD_BYTES_MAX)
            && let Some(link) = self.pulls.due.pop(self.now)
        {
            let link = LinkId(link);
            while parts < PARTS_A_TURN && self.continue_pull(link, fx) {
                parts += 1;
            }
            if self.pulls.is_busy(link) && self.may_pull(link) {
                self.pulls.due.set(link.0, self.now);
            }
        }
    }

    fn may_pull(&self, link: LinkId) -> bool {
        !self.pulls.of[link.0 as usize].waiting && self.ports.is_clear(link)
    }

    /// Gives `link` the next part of its snapshots, or asks for it. False if that must wait.
    fn continue_pull(&mut self, link: LinkId, fx: &mut impl Effects) -> bool {
        if !self.may_pull(link) || !self.next_pull(link) {
            return false;
        }
        let pull = self.pulls.of[link.0 as usize];
        let grant = self.sessions[link.0 as usize].grant;
        let mut pattern = self.lend();
        pattern.extend_from_slice(match pull.subscription {
            NONE => b"/**",
            slot => self.subscriptions.pattern(slot).as_bytes(),
        });
        let text = core::str::from_utf8(&pattern).unwrap_or_default();
        if pull.home == self.settings.id {
            let mut frame = self.lend();
            let next = self.snapshot_part(grant, pull.cursor, text, &mut frame);
            self.take_part(link, next, &frame, fx);
            self.give_back(frame);
        } else {
            let origin = self.origin(link);
            let (serial, cursor) = (pull.serial, pull.cursor);
            self.pulls.of[link.0 as usize].waiting = true;
            let record = Record::Pull { origin, grant, serial, cursor, pattern: text };
            self.hand(pull.home, record, fx);
        }
        self.give_back(pattern);
        true
    }

    /// Makes the next snapshot of the link's queue the current one, if none is. False: there is
    /// none.
    fn next_pull(&mut self, link: LinkId) -> bool {
        let pull = &self.pulls.of[link.0 as usize];
        if pull.active {
            return true;
        }
        let Some(slot) = self.pulls.dequeue(link) else { return false };
        let home = self.home_of_pattern(self.subscriptions.pattern(slot));
        let pull = &mut self.pulls.of[link.0 as usize];
        pull.active = true;
        pull.subscription = slot;
        pull.serial = pull.serial.wrapping_add(1);
        pull.cursor = 0;
        pull.home = home.unwrap_or(ShardId(0));
        pull.single_home = home.is_some();
        true
    }

    /// A part of a snapshot that another shard sent.
    pub(super) fn chunk(
        &mut self,
        origin: &Origin,
        serial: u32,
        next: u32,
        frame: &[u8],
        fx: &mut impl Effects,
    ) {
        if !self.is_current(origin) {
            return;
        }
        let pull = &mut self.pulls.of[origin.link.0 as usize];
        pull.waiting = false;
        if pull.active && pull.serial == serial {
            self.take_part(origin.link, next, frame, fx);
        }
        self.pulls.due.set(origin.link.0, self.now);
    }

    fn take_part(&mut self, link: LinkId, next: u32, frame: &[u8], fx: &mut impl Effects) {
        if !frame.is_empty() {
            self.send(link, Class::of_reply(frame), frame, fx);
        }
        let shards = self.settings.shards;
        let pull = &mut self.pulls.of[link.0 as usize];
        pull.any |= !frame.is_empty();
        if next != END {
            pull.cursor = next;
            return;
        }
        pull.cursor = 0;
        pull.home.0 += 1;
        if !pull.single_home && pull.home.0 < shards {
            return;
        }
        pull.active = false;
        let (subscription, any) = (pull.subscription, pull.any);
        if subscription != NONE && self.sessions[link.0 as usize].asked_only {
            let mut pattern = self.lend();
            pattern.extend_from_slice(self.subscriptions.pattern(subscription).as_bytes());
            self.tell_complete(link, core::str::from_utf8(&pattern).unwrap_or_default(), fx);
            self.give_back(pattern);
        } else if subscription == NONE && !any {
            self.send_empty_snapshot(link, fx);
        }
    }

    /// Tells a session that wants to know it that the snapshot of `pattern` is complete.
    fn tell_complete(&mut self, link: LinkId, pattern: &str, fx: &mut impl Effects) {
        if self.sessions[link.0 as usize].asked_only {
            let origin = self.origin(link);
            let ack = Ack { address: Some(pattern), ..Ack::default() };
            self.reply(&origin, &Message::Ack(ack), fx);
        }
    }

    /// The link of `origin` if it is one of this shard's.
    #[inline]
    fn own_link(&self, origin: &Origin) -> Option<LinkId> {
        self.is_current(origin).then_some(origin.link)
    }

    pub(super) fn scopes(&self, grant: u32) -> Option<&[super::Scope]> {
        if grant == UNLIMITED {
            return None;
        }
        let grants = self.settings.grants.as_deref()?;
        grants.get(grant as usize).map(|grant| grant.scopes.as_slice())
    }
}

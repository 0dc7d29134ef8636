//! A bundle where it comes in: each of its messages is checked, admitted and looked up in one go.

use alloc::vec::Vec;
use core::ops::Range;

use super::{BEGIN, StepKind, finish, start};
use crate::address::text_of;
use crate::error::Malformed;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::message::{Bundle, Message};
use crate::shard::known::{Met, Place};
use crate::shard::marker::{Marker, SOURCE};
use crate::shard::refused::Refused;
use crate::shard::session::{canonical, is_for_session};
use crate::shard::{Effects, Outcome, Shard};
use crate::signal::{Qos, Signal};
use crate::wire::TooLong;
use crate::wire::binary::{self, OpenBundle, code};
use crate::wire::list::Messages;
use crate::wire::write::patch_u16;
use crate::{LinkId, ShardId};

/// What a bundle becomes before anything is decided.
struct Drafted {
    timestamp_us: Option<u64>,
    messages: usize,
    /// Bit per shard.
    homes: u64,
    has_gestures: bool,
    /// It holds markers that ask for something at once.
    has_signs: bool,
    /// It is canonical as it came, in so many bytes; `None`: it was written anew.
    as_it_came: Option<usize>,
}

/// Why a bundle goes no further.
enum Stopped<'a> {
    Malformed(Malformed),
    /// A message may not be in it. The address is the one that it names.
    Refused(Refused, Option<&'a str>),
}

impl From<Malformed> for Stopped<'_> {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The canonical payload in the making: what came, as long as that is canonical.
struct Canonical<'c, 'a> {
    came: &'c [u8],
    as_it_came: bool,
    anew: &'a mut Vec<u8>,
}

impl Canonical<'_, '_> {
    /// Takes over the message at `range`, its length in front. Returns where its payload is now.
    #[inline(always)]
    fn keep(&mut self, range: Range<usize>) -> Range<usize> {
        if self.as_it_came {
            return range.start + 2..range.end;
        }
        let at = self.anew.len();
        self.anew.extend_from_slice(&self.came[range]);
        at + 2..self.anew.len()
    }

    /// Writes `message` for what came from `from` on. Returns where its payload is now.
    #[cold]
    fn rewrite(&mut self, from: usize, message: &Message<'_>) -> Result<Range<usize>, Refused> {
        self.leave_out(from);
        let at = self.anew.len();
        let written = Messages::append(self.anew, message);
        written.map_err(|TooLong| Refused::TooLong { got: at })?;
        Ok(at + 2..self.anew.len())
    }

    /// What came from `from` on is not taken over.
    fn leave_out(&mut self, from: usize) {
        if self.as_it_came {
            self.as_it_came = false;
            start(self.anew);
            self.anew.extend_from_slice(&self.came[BEGIN..from]);
        }
    }
}

impl Shard {
    /// A legacy bundle goes on as the wire would have it.
    pub(in crate::shard) fn hear_legacy_bundle(
        &mut self,
        link: LinkId,
        qos: Qos,
        bundle: &Bundle<'_>,
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let mut payload = self.lend();
        let heard = match write_bundle(bundle, &mut payload) {
            Ok(()) => self.hear_bundle(link, qos, &payload, fx),
            Err(TooLong) => Err(Malformed::TooLong),
        };
        self.give_back(payload);
        heard
    }

    /// A payload that begins with the code of a BUNDLE.
    pub(in crate::shard) fn hear_bundle(
        &mut self,
        link: LinkId,
        qos: Qos,
        came: &[u8],
        fx: &mut impl Effects,
    ) -> Result<Outcome, Malformed> {
        let mut anew = self.lend();
        let heard = match self.draft_bundle(link, came, &mut anew) {
            Ok(drafted) => {
                let payload = drafted.as_it_came.map_or(&anew[..], |len| &came[..len]);
                Ok(self.admit_bundle(link, qos, &drafted, payload, fx))
            }
            Err(Stopped::Malformed(malformed)) => Err(malformed),
            // What is broken further on is not refused, but broken.
            Err(Stopped::Refused(refused, address)) => binary::decode(came).map(|_| {
                if self.within_rate(link, 1, fx) {
                    let origin = self.origin(link);
                    self.refuse_bundle(&origin, refused, address, fx);
                }
                Outcome::Taken
            }),
        };
        self.give_back(anew);
        heard
    }

    fn admit_bundle(
        &mut self,
        link: LinkId,
        qos: Qos,
        drafted: &Drafted,
        payload: &[u8],
        fx: &mut impl Effects,
    ) -> Outcome {
        let mut origin = self.origin(link);
        let homes = drafted.homes;
        let at_us = drafted.timestamp_us;
        let ahead_us = at_us.map_or(0, |at_us| at_us.saturating_sub(self.unix_us()));
        if ahead_us == 0 && !self.bundle_in_order(link, homes, fx) {
            return Outcome::Held;
        }
        let spans = homes.count_ones() > 1;
        if !self.within_rate(link, drafted.messages.max(1) as u32, fx) {
            if spans && ahead_us == 0 {
                self.end_waiting(link);
            }
            return Outcome::Taken;
        }
        if ahead_us > 0 {
            match self.schedule_bundle(&origin, payload, ahead_us) {
                Ok(()) => {
                    origin.confirm = qos > Qos::Fire;
                    self.acknowledge(&origin, None, None, fx);
                }
                Err(refused) => self.refuse_bundle(&origin, refused, None, fx),
            }
            return Outcome::Taken;
        }
        origin.confirm = qos > Qos::Fire;
        origin.awaited = spans;
        if drafted.has_gestures {
            self.note_gestures(link, payload);
        }
        if drafted.has_signs {
            self.obey_signs(&origin, payload, fx);
        }
        self.introduce(link, fx);
        let is_own = homes == 1 << self.settings.id.0;
        if is_own && self.bundles.plan.changes == self.store.changes() {
            self.apply_planned(&origin, payload, fx);
        } else {
            self.run_bundle(&origin, payload, homes, fx);
        }
        Outcome::Taken
    }

    /// Checks and admits every message, plans what this home does for it, and writes the canonical
    /// payload to `anew` if that is another than the one that came.
    fn draft_bundle<'a>(
        &mut self,
        link: LinkId,
        came: &'a [u8],
        anew: &mut Vec<u8>,
    ) -> Result<Drafted, Stopped<'a>> {
        let mut bundle = OpenBundle::new(came)?;
        let mut payload = Canonical { came, as_it_came: true, anew };
        if !bundle.is_plain {
            payload.leave_out(BEGIN);
        }
        let mut drafted = Drafted {
            timestamp_us: bundle.timestamp_us,
            messages: 0,
            homes: 0,
            has_gestures: false,
            has_signs: false,
            as_it_came: None,
        };
        self.bundles.plan.restart(self.store.changes());
        loop {
            let from = bundle.offset();
            let Some(message) = bundle.next()? else { break };
            let range = from..bundle.offset();
            match message.split_first() {
                Some((&code::SET, body)) => {
                    self.draft_set(link, body, range, &mut payload, &mut drafted)?;
                }
                Some((&code::PUBLISH, _)) => {
                    self.draft_publish(link, message, range, &mut payload, &mut drafted)?;
                }
                _ => match bundle.message(message)? {
                    Message::Bundle(_) => return Err(Stopped::Refused(Refused::Nested, None)),
                    _ => payload.leave_out(from),
                },
            }
        }
        if payload.as_it_came {
            drafted.as_it_came = Some(bundle.offset());
        } else {
            finish(payload.anew, drafted.messages);
        }
        debug_assert!(payload.anew.len() <= PAYLOAD_BYTES_MAX, "it is never longer than it came");
        Ok(drafted)
    }

    #[inline(always)]
    fn draft_set<'a>(
        &mut self,
        link: LinkId,
        body: &'a [u8],
        range: Range<usize>,
        payload: &mut Canonical<'_, '_>,
        drafted: &mut Drafted,
    ) -> Result<(), Stopped<'a>> {
        let (set, left) = binary::raw_set(body)?;
        let met = self.meet_next(link, set.address);
        if met == Met::New {
            set.text()?;
        }
        let refused = |refused| Stopped::Refused(refused, Some(text_of(set.address)));
        self.may_set(link, set.address, met).map_err(refused)?;
        let known = match met {
            Met::Lately(place) => self.known.all(place, self.store.removed()),
            Met::Param { hash, slot } => Some((hash, self.settings.id, slot)),
            Met::New => None,
        };
        let (hash, home, slot) = match known {
            Some((hash, home, slot)) => (hash, home, Some(slot)),
            None => self.find_out(link, set.address, met.place()),
        };
        let at = if left == 0 {
            payload.keep(range)
        } else {
            payload.rewrite(range.start, &Message::Set(set.text()?)).map_err(refused)?
        };
        let number = drafted.messages;
        drafted.messages += 1;
        drafted.homes |= 1 << home.0;
        if home == self.settings.id {
            self.plan_set(number, at, &set, hash, slot);
        }
        Ok(())
    }

    fn draft_publish<'a>(
        &mut self,
        link: LinkId,
        message: &'a [u8],
        range: Range<usize>,
        payload: &mut Canonical<'_, '_>,
        drafted: &mut Drafted,
    ) -> Result<(), Stopped<'a>> {
        let publish = binary::raw_publish(message.get(1..).unwrap_or_default())?;
        let place = self.known.find(publish.address);
        // What lies below `/clasp/` never has a place: peer-to-peer signals, and markers.
        let text = if place.is_none() { publish.text()?.address } else { "" };
        let refused = |refused| Stopped::Refused(refused, Some(text_of(publish.address)));
        self.may_publish(link, &publish, place).map_err(refused)?;
        let is_marker = text == SOURCE;
        if is_marker && let Some(marker) = Marker::of_publish(&publish.text()?) {
            let marker = marker.map_err(refused)?;
            if marker.is_sign() && drafted.timestamp_us.is_some() {
                let why = "what it asks for is done at once, not in a timed bundle";
                return Err(refused(Refused::Marker { why }));
            }
            drafted.has_signs |= marker.is_sign();
        }
        if is_for_session(text) {
            return Err(refused(Refused::NotAlone));
        }
        let at = if binary::is_payload_of(message, &publish) {
            payload.keep(range)
        } else {
            payload.rewrite(range.start, &Message::Publish(publish.text()?)).map_err(refused)?
        };
        let number = drafted.messages;
        drafted.messages += 1;
        drafted.has_gestures |= publish.signal == Some(Signal::Gesture);
        if is_marker {
            self.plan(number, at, StepKind::Marker);
            return Ok(());
        }
        let home = self.home_at(place, publish.address);
        if place.is_none() {
            self.note(link, publish.address, home);
        }
        drafted.homes |= 1 << home.0;
        if home == self.settings.id {
            self.plan(number, at, StepKind::Publish);
        }
        Ok(())
    }

    /// Hash, home and param of an address that was admitted, and is known from now on; the param
    /// only at its home.
    fn find_out(
        &mut self,
        link: LinkId,
        address: &[u8],
        place: Option<Place>,
    ) -> (u64, ShardId, Option<u32>) {
        let home = self.home_at(place, address);
        let place = place.or_else(|| self.note(link, address, home));
        if home != self.settings.id {
            return (0, home, None);
        }
        let (hash, slot) = self.find_at(place, address);
        (hash, home, slot)
    }
}

/// The payload of `bundle` as the wire has it; on an error part of it.
fn write_bundle(bundle: &Bundle<'_>, payload: &mut Vec<u8>) -> Result<(), TooLong> {
    let empty = Bundle { messages: Messages::EMPTY, ..*bundle };
    binary::append_payload(&Message::Bundle(empty), payload)?;
    for message in bundle.messages.iter() {
        let message = match message {
            Message::Publish(publish) => Message::Publish(canonical(&publish)),
            other => other,
        };
        Messages::append(payload, &message)?;
    }
    // No more than there were.
    patch_u16(payload, BEGIN - 2, bundle.messages.len() as u16);
    Ok(())
}

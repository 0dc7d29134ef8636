//! From the router to a client: what its subscriptions want of it, once, and how much at a time.

use bytes::Bytes;
use clasp_rt_core::message::{Message, Publish as Event, Set, Sync, Ttl};
use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{Value, push_f64};

use super::super::groups::Groups;
use super::super::wire::{Answer, Publish};
use super::{Out, Session, State, Subscription};
use crate::mqtt::payload;
use crate::mqtt::topic::push_topic;

/// What of a router a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Held,
    News {
        is_param: bool,
    },
    /// The client itself said it.
    Own {
        is_param: bool,
    },
}

/// A message that waits for the client.
#[derive(Debug)]
pub struct Held {
    publish: Publish,
    /// Beyond that nobody wants it.
    due: Option<Time>,
}

/// A message at QoS 1 or 2 that the client has not taken.
#[derive(Debug)]
pub struct Flight {
    awaits: Awaits,
    /// For another connection; empty once only its id matters.
    publish: Publish,
    /// Its place in the order of all.
    number: u64,
    /// On this connection.
    sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// PUBACK, at QoS 1.
    Taken,
    /// PUBREC, at QoS 2.
    Received,
    /// PUBCOMP.
    Completed,
}

impl Session {
    /// A message of the router.
    pub(super) fn hear(&mut self, message: Message<'_>, groups: &mut Groups, out: &mut Out) {
        match message {
            Message::Set(Set { address, value, ttl, .. }) => {
                let expiry_s = match ttl {
                    Some(Ttl::Sliding(seconds) | Ttl::Absolute(seconds)) => Some(seconds),
                    Some(Ttl::Never) | None => None,
                };
                let origin = Origin::News { is_param: true };
                self.pass(address, value, expiry_s, origin, 2, groups, out);
            }
            Message::Snapshot { params } => {
                for param in params.into_iter().filter(|param| !param.value.is_null()) {
                    self.pass(param.address, param.value, None, Origin::Held, 2, groups, out);
                }
            }
            Message::Publish(event) => self.hear_event(event, groups, out),
            Message::Bundle(bundle) => {
                bundle.messages.iter().for_each(|message| self.hear(message, groups, out));
            }
            Message::Ack(ack) => self.hear_ack(&ack, groups, out),
            Message::Sync(Sync { t1, t2: Some(_), .. }) => self.hear_sync(t1, groups, out),
            Message::Error(error) => self.hear_error(&error, groups, out),
            _ => {}
        }
    }

    fn hear_event(&mut self, event: Event<'_>, groups: &mut Groups, out: &mut Out) {
        let sample = || event.samples.and_then(|samples| samples.iter().last());
        let mut bytes = Vec::new();
        let value = event.value.or(event.payload).or(event.timeline).unwrap_or_else(|| {
            if let Some(sample) = sample() {
                push_f64(&mut bytes, sample);
            }
            Value::from_encoded(&bytes).unwrap_or(Value::NULL)
        });
        // What is worth nothing a moment later is not sent twice.
        let qos_max = match event.signal {
            Some(Signal::Stream | Signal::Gesture) => 0,
            _ => 2,
        };
        let origin = Origin::News { is_param: false };
        self.pass(event.address, value, None, origin, qos_max, groups, out);
    }

    /// A value of the router, on its way to the client.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own")]
    fn pass(
        &mut self,
        address: &str,
        value: Value<'_>,
        expiry_s: Option<u32>,
        origin: Origin,
        qos_max: u8,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        let path = address.strip_prefix(&self.settings.namespace);
        let mut topic = String::new();
        if !path.is_some_and(|path| push_topic(path, &mut topic)) {
            return;
        }
        let mut payload = Vec::new();
        let Ok(content) = payload::write(self.settings.payload, value, &mut payload) else {
            return self.complain(address, "its value has no such payload", out);
        };
        let content_type = (!payload.is_empty()).then(|| content.mime().to_owned());
        let payload = Bytes::from(payload);
        let publish = Publish { topic, payload, content_type, expiry_s, ..Publish::default() };
        self.deliver(publish, origin, qos_max, groups, out);
    }

    /// Sends it once, as the best of the subscriptions that mean it wants it, with the identifiers
    /// of all of them (MQTT 5 §3.3.4).
    pub(super) fn deliver(
        &mut self,
        mut publish: Publish,
        origin: Origin,
        qos_max: u8,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        let is_param = match origin {
            Origin::Held => true,
            Origin::News { is_param } | Origin::Own { is_param } => is_param,
        };
        let mut best: Option<u8> = None;
        for wanted in &self.subscriptions {
            let Subscription { filter, qos, no_local, keeps_flag, held, identifier, .. } = wanted;
            let wants = match origin {
                Origin::Held => *held,
                Origin::News { .. } => true,
                Origin::Own { .. } => !no_local,
            };
            if !wants || !filter.means(&publish.topic) {
                continue;
            }
            let message = (&publish.topic, &publish.payload);
            let is_ours = filter
                .group()
                .is_none_or(|group| groups.takes(group, filter.as_str(), self.number, message));
            if is_ours {
                best = best.max(Some((*qos).min(qos_max)));
                publish.retain |= origin == Origin::Held || (*keeps_flag && is_param);
                publish.identifiers.extend(identifier);
            }
        }
        let Some(qos) = best else { return };
        publish.qos = qos;
        if self.state != State::Open && qos == 0 {
            return;
        }
        let has_room = qos == 0 || self.in_flight() < self.receive_max;
        let is_free = self.state == State::Open && !self.owes_answer();
        if self.waiting.is_empty() && self.retained.is_empty() && has_room && is_free {
            return self.send(publish, out);
        }
        let due = publish.expiry_s.map(|seconds| self.now + Span::from_secs(u64::from(seconds)));
        let (bytes, topic) = (publish.bytes(), publish.topic.clone());
        let held = Held { publish, due };
        let is_next = origin == Origin::Held && self.state == State::Open;
        match is_param {
            // It leaves before what is newer, and after nothing that is older.
            true if is_next && !self.waiting.has(&topic) => {
                drop(self.retained.param(&topic, bytes, held));
            }
            true => drop(self.waiting.param(&topic, bytes, held)),
            false => self.waiting.event(bytes, held),
        }
    }

    /// Messages at QoS 1 and 2 that this connection was sent and has not taken.
    fn in_flight(&self) -> usize {
        self.flying.values().filter(|flight| flight.sent).count()
    }

    fn send(&mut self, mut publish: Publish, out: &mut Out) {
        if publish.qos > 0 {
            publish.id = self.free_id();
            let awaits = if publish.qos == 1 { Awaits::Taken } else { Awaits::Received };
            let flight =
                Flight { awaits, publish: publish.clone(), number: self.flights, sent: true };
            self.flights += 1;
            self.flying.insert(publish.id, flight);
        }
        self.write_publish(publish, out);
    }

    fn write_publish(&mut self, mut publish: Publish, out: &mut Out) {
        let (id, topic) = (publish.id, publish.topic.clone());
        self.aliases.shorten(&mut publish);
        let new_alias = publish.alias.filter(|_| !publish.topic.is_empty());
        if !self.try_answer(&Answer::Publish(publish), out) {
            // Longer than the client takes: as if it had been sent (MQTT 5 §3.1.2.11.4).
            self.flying.remove(&id);
            return self.complain(&topic, "it is longer than this client takes", out);
        }
        if let Some(alias) = new_alias {
            self.aliases.told(&topic, alias);
        }
    }

    /// There are far fewer on their way than ids.
    fn free_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1).max(1);
            if !self.flying.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn taken_once(&mut self, id: u16, out: &mut Out) {
        self.land(id, Awaits::Taken);
        self.pump(out);
    }

    /// The client has a message at QoS 2, or does not want it.
    pub(super) fn taken_first(&mut self, id: u16, refused: bool, out: &mut Out) {
        if refused {
            self.land(id, Awaits::Received);
            return self.pump(out);
        }
        let flight = self.flying.get_mut(&id).filter(|flight| flight.awaits != Awaits::Taken);
        let known = flight.is_some();
        if let Some(flight) = flight {
            flight.awaits = Awaits::Completed;
            flight.publish = Publish::default();
        }
        self.answer(&Answer::PubRel { id, known }, out);
    }

    pub(super) fn taken_twice(&mut self, id: u16, out: &mut Out) {
        self.land(id, Awaits::Completed);
        self.pump(out);
    }

    fn land(&mut self, id: u16, awaits: Awaits) {
        if self.flying.get(&id).is_some_and(|flight| flight.awaits == awaits) {
            self.flying.remove(&id);
            self.taken = self.now;
        }
    }

    /// What was on its way when the connection ended is sent again on the next.
    pub(super) fn unsend(&mut self) {
        self.flying.values_mut().for_each(|flight| flight.sent = false);
    }

    /// Sends what waits, as far as there is room: first what was sent before.
    pub(super) fn pump(&mut self, out: &mut Out) {
        while self.state == State::Open && !self.owes_answer() {
            if self.in_flight() >= self.receive_max {
                return;
            }
            let again = self.flying.iter().filter(|(_, flight)| !flight.sent);
            let again = again.min_by_key(|(_, flight)| flight.number).map(|(id, _)| *id);
            if let Some(id) = again {
                self.send_again(id, out);
                continue;
            }
            let next = self.retained.pop().or_else(|| self.waiting.pop());
            let Some(Held { mut publish, due }) = next else { return };
            if let Some(due) = due {
                if due <= self.now {
                    continue;
                }
                // What is left of its time (MQTT 5 §3.3.2.3.3).
                let left_s = due.since(self.now).as_millis().div_ceil(1_000);
                publish.expiry_s = Some(left_s as u32);
            }
            self.send(publish, out);
        }
    }

    fn send_again(&mut self, id: u16, out: &mut Out) {
        let Some(flight) = self.flying.get_mut(&id) else { return };
        flight.sent = true;
        if flight.awaits == Awaits::Completed {
            return self.answer(&Answer::PubRel { id, known: true }, out);
        }
        let publish = Publish { dup: true, ..flight.publish.clone() };
        self.write_publish(publish, out);
    }
}

//! From the router to a client: what its subscriptions want of it, once, and how much at a time.

use bytes::Bytes;
use clasp_rt_core::message::{Message, Publish as Event, Set};
use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{Value, push_f64};

use super::super::groups::Groups;
use super::super::wire::{Answer, Publish, Reason};
use super::{Asked, Flying, Origin, Out, Session, Subscription};
use crate::mqtt::payload;
use crate::mqtt::topic::push_topic;

impl Session {
    /// A message of the router.
    pub(super) fn hear(&mut self, message: Message<'_>, groups: &mut Groups, out: &mut Out) {
        match message {
            Message::Set(Set { address, value, .. }) => {
                self.pass(address, value, Origin::News { is_param: true }, 2, groups, out);
            }
            Message::Snapshot { params } => {
                for param in params.into_iter().filter(|param| !param.value.is_null()) {
                    self.pass(param.address, param.value, Origin::Held, 2, groups, out);
                }
            }
            Message::Publish(event) => self.hear_event(event, groups, out),
            Message::Bundle(bundle) => {
                bundle.messages.iter().for_each(|message| self.hear(message, groups, out));
            }
            Message::Ack(ack) => {
                let pattern = ack.address.unwrap_or_default();
                let held = self.subscriptions.iter_mut().filter(|held| held.pattern == pattern);
                held.for_each(|subscription| subscription.held = false);
            }
            Message::Pong => {
                if let Some(Asked::Subscribe { id, granted }) = self.asked.pop_front() {
                    let granted = granted.into_iter().map(|(granted, _)| granted).collect();
                    self.answer(&Answer::Subscribed { id, granted }, out);
                    self.pump(out);
                }
            }
            Message::Error(error) => {
                self.counts.refused += 1;
                self.refuse(error.address.unwrap_or_default(), groups, out);
            }
            _ => {}
        }
    }

    /// The router refuses something at `pattern`: perhaps a subscription that is not answered yet.
    fn refuse(&mut self, pattern: &str, groups: &mut Groups, out: &mut Out) {
        let mut found = false;
        for asked in &mut self.asked {
            let Asked::Subscribe { granted, .. } = asked else { continue };
            for (granted, _) in granted.iter_mut().filter(|(_, wanted)| wanted == pattern) {
                *granted = Err(Reason::NotAuthorized);
                found = true;
            }
        }
        if found && let Some(at) = self.subscriptions.iter().position(|s| s.pattern == pattern) {
            self.remove(at, groups, out);
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
        self.pass(event.address, value, origin, qos_max, groups, out);
    }

    /// A value of the router, on its way to the client.
    fn pass(
        &mut self,
        address: &str,
        value: Value<'_>,
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
            self.counts.refused += 1;
            return;
        };
        let content_type = (!payload.is_empty()).then(|| content.mime().to_owned());
        let payload = Bytes::from(payload);
        let publish = Publish { topic, payload, content_type, ..Publish::default() };
        self.deliver(publish, origin, qos_max, groups, out);
    }

    /// Sends it once, as the best of the subscriptions that mean it wants it.
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
            let Subscription { filter, qos, no_local, keeps_flag, held, .. } = wanted;
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
            }
        }
        let Some(qos) = best else { return };
        publish.qos = qos;
        let has_room = qos == 0 || self.flying.len() < self.receive_max;
        if self.waiting.is_empty() && has_room && !self.owes_answer() {
            return self.send(publish, out);
        }
        let bytes = publish.topic.len() + publish.payload.len();
        match is_param {
            true => {
                let topic = publish.topic.clone();
                self.waiting.param(&topic, bytes, publish);
            }
            false => self.waiting.event(bytes, publish),
        }
    }

    fn send(&mut self, mut publish: Publish, out: &mut Out) {
        if publish.qos > 0 {
            publish.id = self.free_id();
            let flying = if publish.qos == 1 { Flying::Once } else { Flying::Sent };
            self.flying.insert(publish.id, flying);
        }
        let id = publish.id;
        if !self.try_answer(&Answer::Publish(publish), out) {
            // Longer than the client takes: as if it had been sent (MQTT 5 §3.1.2.11.4).
            self.flying.remove(&id);
            self.counts.refused += 1;
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

    /// The client has a message; there is room for the next.
    pub(super) fn taken(&mut self, id: u16, when: Flying, out: &mut Out) {
        if self.flying.get(&id) == Some(&when) {
            self.flying.remove(&id);
        }
        self.pump(out);
    }

    /// Sends what waits, as far as there is room.
    fn pump(&mut self, out: &mut Out) {
        while self.flying.len() < self.receive_max && !self.owes_answer() {
            let Some(publish) = self.waiting.pop() else { return };
            self.send(publish, out);
        }
    }

    /// Whether a SUBSCRIBE is not answered yet: clients expect that first.
    fn owes_answer(&self) -> bool {
        self.asked.iter().any(|asked| matches!(asked, Asked::Subscribe { .. }))
    }
}

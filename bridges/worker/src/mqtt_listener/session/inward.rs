//! From a client to the router: what it publishes, and what it subscribes to.

use std::fmt;

use clasp_rt_core::limits::PAYLOAD_BYTES_MAX;
use clasp_rt_core::message::{
    Bundle, Message, Publish as Event, Set, Subscribe, SubscribeOptions, Ttl,
};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Messages;

use super::super::groups::Groups;
use super::super::wire::{Answer, Publish, Reason, Retained, Version, Wanted};
use super::answers::Write;
use super::outward::Origin;
use super::{
    ASKED_MAX, Out, RECEIVE_MAX, SUBSCRIPTIONS_MAX, Session, Subscription, UNRELEASED_MAX,
};
use crate::mqtt::payload::{self, Unread};
use crate::mqtt::topic::{Filter, is_topic, push_path};

/// Why the router is not told what a client publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsaid {
    Topic,
    Form,
    /// So many bytes, which with the topic are more than a message of the router holds.
    TooLong {
        bytes: usize,
    },
}

impl Unsaid {
    /// As MQTT 5 has it.
    fn reason(self) -> Reason {
        match self {
            Self::Topic => Reason::TopicInvalid,
            Self::Form => Reason::PayloadInvalid,
            Self::TooLong { .. } => Reason::Quota,
        }
    }
}

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => f.write_str("no address can be made of this topic"),
            Self::Form => f.write_str("the payload is not of the form that this port takes"),
            Self::TooLong { bytes } => write!(
                f,
                "the payload has {bytes} bytes; topic and value must fit the {PAYLOAD_BYTES_MAX} \
                 bytes of a message"
            ),
        }
    }
}

impl Session {
    pub(super) fn publish(&mut self, mut publish: Publish, groups: &mut Groups, out: &mut Out) {
        if let Err(reason) = self.topics.resolve(&mut publish) {
            return self.end(reason, groups, out);
        }
        // Only a server says through which subscriptions a message came (MQTT 5 §3.3.4).
        if !publish.identifiers.is_empty() {
            return self.end(Reason::Protocol, groups, out);
        }
        if !is_topic(&publish.topic) {
            return self.end(Reason::TopicInvalid, groups, out);
        }
        let Publish { qos, id, retain, .. } = publish;
        // A second time: it was taken, and the answer was lost, or is on its way.
        if qos == 2 && self.received.contains(&id) {
            let (reason, why) = (Reason::Success, String::new());
            return self.answer(&Answer::PubRec { id, reason, why }, out);
        }
        if qos == 2 && self.is_asked(id) {
            return;
        }
        let too_many = match self.version {
            Version::V5 => self.received.len() + self.writes() >= usize::from(RECEIVE_MAX),
            Version::V311 => self.received.len() >= UNRELEASED_MAX,
        };
        if qos > 0 && too_many {
            return self.end(Reason::ReceiveMax, groups, out);
        }
        let said = self.say(&publish, out);
        let own = Publish { retain: false, dup: false, id: 0, ..publish };
        match said {
            Ok(_) if qos == 0 => {
                self.deliver(own, Origin::Own { is_param: retain }, 0, groups, out);
            }
            Ok(address) => {
                let (is_event, is_param, id) = (!retain, retain, Some(id));
                let own = Box::new(own);
                self.ask_written(Write { address, is_event, id, qos, own, is_param });
            }
            Err(unsaid) => {
                let why = unsaid.to_string();
                if qos > 0 {
                    self.acknowledge(id, qos, unsaid.reason(), &why, out);
                }
                self.complain(&own.topic, &why, out);
            }
        }
    }

    /// The frame of a message: retained is a SET, all else an event. What is to be confirmed is: a
    /// PUBLISH never is, but a bundle of one.
    pub(super) fn say(&mut self, publish: &Publish, out: &mut Out) -> Result<String, Unsaid> {
        let mut address = self.settings.namespace.clone();
        let has_address = may_publish(&publish.topic) && push_path(&publish.topic, &mut address);
        if !has_address || clasp_rt_core::address::check(&address).is_err() {
            return Err(Unsaid::Topic);
        }
        let too_long = Unsaid::TooLong { bytes: publish.payload.len() };
        let form = self.settings.payload.of_content(publish.content_type.as_deref());
        let mut bytes = Vec::new();
        payload::read(form, &publish.payload, &mut bytes).map_err(|why| match why {
            Unread::NotOfForm => Unsaid::Form,
            Unread::TooLong => too_long,
        })?;
        let value = Value::from_encoded(&bytes).map_err(|_| Unsaid::Form)?;
        let qos = Qos::from_code(publish.qos);
        let ttl = publish.expiry_s.map(|seconds| Ttl::Sliding(seconds & (u32::MAX >> 1)));
        let (address_text, revision) = (address.as_str(), None);
        let set =
            || Set { address: address_text, value, revision, lock: false, unlock: false, ttl };
        let event = || Event {
            address: address_text,
            signal: Some(Signal::Event),
            value: Some(value),
            ..Event::default()
        };
        let mut bundled = Vec::new();
        let message = match (publish.retain, publish.qos) {
            (true, _) => Message::Set(set()),
            (false, 0) => Message::Publish(event()),
            (false, _) => {
                let appended = Messages::append(&mut bundled, &Message::Publish(event()));
                appended.map_err(|_| too_long)?;
                let messages = Messages::from_payloads(&bundled, 1);
                let messages = messages.map_err(|_| too_long)?;
                Message::Bundle(Bundle { timestamp_us: None, messages })
            }
        };
        match push_frame(&message, qos, out) {
            true => Ok(address),
            false => Err(too_long),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        id: u16,
        wanted: Vec<Wanted>,
        identifier: Option<u32>,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        if self.asked.len() >= ASKED_MAX + usize::from(RECEIVE_MAX) {
            return self.end(Reason::Quota, groups, out);
        }
        let mut granted = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let filter = Filter::parse(&wanted.filter);
            let shared = filter.as_ref().is_some_and(|filter| filter.group().is_some());
            if shared && wanted.no_local {
                return self.end(Reason::Protocol, groups, out);
            }
            let pattern = filter.as_ref().and_then(|filter| {
                filter.path().map(|path| format!("{}{path}", self.settings.namespace))
            });
            let pattern = pattern.filter(|text| clasp_rt_core::pattern::check(text).is_ok());
            granted.push(match filter.zip(pattern) {
                None => (Err(Reason::FilterInvalid), String::new()),
                Some((filter, pattern)) => {
                    let granted = self.add(wanted, filter, &pattern, identifier, groups, out);
                    (granted, pattern)
                }
            });
        }
        self.ask_subscribed(id, granted, out);
    }

    fn add(
        &mut self,
        wanted: Wanted,
        filter: Filter,
        pattern: &str,
        identifier: Option<u32>,
        groups: &mut Groups,
        out: &mut Out,
    ) -> Result<u8, Reason> {
        let Wanted { filter: text, qos, no_local, keeps_flag, retained } = wanted;
        let shared = filter.group().is_some();
        let at = self.subscriptions.iter().position(|held| held.text == text);
        let is_new = at.is_none();
        if is_new && self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Reason::Quota);
        }
        let held = !shared && (retained == Retained::Always || retained == Retained::New && is_new);
        let id = match at.and_then(|at| self.subscriptions.get_mut(at)) {
            Some(known) => {
                (known.qos, known.no_local, known.keeps_flag) = (qos, no_local, keeps_flag);
                (known.held, known.identifier) = (held, identifier);
                known.id
            }
            None => {
                let id = self.next_subscription;
                self.next_subscription = self.next_subscription.wrapping_add(1).max(1);
                if let Some(group) = filter.group() {
                    groups.join(group, filter.as_str(), self.number);
                }
                let pattern = pattern.to_owned();
                self.subscriptions.push(Subscription {
                    filter,
                    text,
                    pattern,
                    id,
                    qos,
                    no_local,
                    keeps_flag,
                    held,
                    identifier,
                });
                id
            }
        };
        if is_new || held {
            let (types, options) = (SignalMask::ALL, SubscribeOptions::default());
            let subscribe = Message::Subscribe(Subscribe { id, pattern, types, options });
            push_frame(&subscribe, Qos::Fire, out);
        }
        Ok(qos)
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: u16,
        texts: &[String],
        groups: &mut Groups,
        out: &mut Out,
    ) {
        let existed = texts.iter().map(|text| {
            let at = self.subscriptions.iter().position(|held| held.text == *text);
            at.map(|at| self.remove(at, groups, out)).is_some()
        });
        let existed = existed.collect();
        self.answer(&Answer::Unsubscribed { id, existed }, out);
    }

    /// The router does not tell what `pattern` means.
    pub(super) fn unsubscribe_pattern(
        &mut self,
        pattern: &str,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        if let Some(at) = self.subscriptions.iter().position(|held| held.pattern == pattern) {
            self.remove(at, groups, out);
        }
    }

    fn remove(&mut self, at: usize, groups: &mut Groups, out: &mut Out) {
        let subscription = self.subscriptions.remove(at);
        if let Some(group) = subscription.filter.group() {
            groups.leave(group, subscription.filter.as_str(), self.number);
        }
        push_frame(&Message::Unsubscribe { id: subscription.id }, Qos::Fire, out);
    }
}

/// Topics with `$` in front are a broker's own.
pub fn may_publish(topic: &str) -> bool {
    is_topic(topic) && !topic.starts_with('$')
}

pub fn push_frame(message: &Message<'_>, qos: Qos, out: &mut Out) -> bool {
    let mut frame = Vec::new();
    let encoded = binary::encode(message, qos, &mut frame).is_ok();
    if encoded {
        out.frames.push(frame);
    }
    encoded
}

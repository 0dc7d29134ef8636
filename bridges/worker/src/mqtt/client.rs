//! The service: one session at the router, one connection to the broker, and what waits between.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use clasp_rt_core::message::{Message, ParamValue, Publish, Set, Subscribe, SubscribeOptions, Ttl};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use clasp_rt_core::value::{Value, push_f64};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::broker::{self, Ack, Client, News, Telling};
use super::config::{Plan, Version};
use super::flight::Flight;
use super::memory::{Sayings, Topics};
use super::payload;
use super::ring::Member;
use super::rules::Kind;
use super::waiting::Waiting;
use crate::{Context, Hearer, Running, Service, Speaker, Who};

/// Sessions of ours that a param's writer may name; older ones are forgotten.
const SESSIONS_MAX: usize = 8;

/// Acknowledgements that wait for room; a broker has far fewer messages on their way.
const ACKS_MAX: usize = 65_536;

/// So long after a broker was asked, and after each message of it, it may tell more that it
/// retains.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// How long the broker may take to hear the last words.
const FAREWELL: Duration = Duration::from_millis(300);

/// A client of a broker, before it runs.
pub struct Mqtt {
    plan: Plan,
}

impl Mqtt {
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }
}

impl Service for Mqtt {
    fn name(&self) -> &str {
        "mqtt"
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(Bridge::new(self.plan, context).run())
    }
}

/// What waits for the router.
struct Inward {
    address: String,
    /// Encoded; `None` of the kind: an event.
    value: Vec<u8>,
    is_param: bool,
    qos: Qos,
    ttl: Option<Ttl>,
    /// And the connection on which it came; on another it means nothing.
    ack: Option<(u64, Ack)>,
}

struct Bridge {
    plan: Plan,
    context: Context,
    client: Client,
    /// Taken out while it is waited for.
    news: Option<mpsc::Receiver<News>>,
    connected: bool,
    /// It was said that there is no connection.
    complained: bool,
    /// Counts connections.
    connection: u64,
    /// For the broker.
    outward: Waiting<Telling>,
    /// Taken from `outward` and refused for want of room.
    next: Option<Telling>,
    /// What the router held when we subscribed, until the broker has told what it retains.
    held: Waiting<Telling>,
    settling: Option<Settling>,
    flight: Flight,
    /// Messages at QoS 1 and 2 that may be in flight.
    room: usize,
    acks: VecDeque<Ack>,
    must_subscribe: bool,
    /// For the router.
    inward: Waiting<Inward>,
    sayings: Sayings,
    /// The bridges of this router, whose messages a broker may send round.
    ring: Member,
    /// Topics that are retained, as far as was seen.
    kept: Topics,
    /// Topics whose value came from the broker, or went there, since the connection began.
    seen: Topics,
    told: Topics,
    /// Sessions of ours, newest last.
    sessions: Vec<String>,
}

/// A broker that was just asked tells what it retains, and not when that is all.
#[derive(Clone, Copy)]
struct Settling {
    since: Instant,
    /// When it has told nothing for a while.
    until: Instant,
}

type Joining = Pin<Box<dyn Future<Output = Option<(Speaker, Hearer)>>>>;

impl Bridge {
    fn new(plan: Plan, context: Context) -> Self {
        let (client, news) = broker::connect(&plan);
        Self {
            plan,
            context,
            client,
            news: Some(news),
            connected: false,
            complained: false,
            connection: 0,
            outward: Waiting::default(),
            next: None,
            held: Waiting::default(),
            settling: None,
            flight: Flight::default(),
            room: 0,
            acks: VecDeque::new(),
            must_subscribe: false,
            inward: Waiting::default(),
            sayings: Sayings::default(),
            ring: Member::join(),
            kept: Topics::default(),
            seen: Topics::default(),
            told: Topics::default(),
            sessions: Vec::new(),
        }
    }

    fn join(&self) -> Joining {
        let context = self.context.clone();
        let who = Who::service("mqtt", self.plan.token.clone());
        Box::pin(async move { context.router.join_for_sure(&who, &context.stop).await })
    }

    async fn run(mut self) -> io::Result<()> {
        let Some(mut news) = self.news.take() else { return Ok(()) };
        let stop = self.context.stop.clone();
        let mut speaker: Option<Speaker> = None;
        let mut hearer: Option<Hearer> = None;
        let mut joining = Some(self.join());
        loop {
            let settled = self.settling.map(|settling| settling.until);
            tokio::select! {
                () = stop.wait() => break,
                () = until(settled) => self.settle(),
                joined = some(&mut joining) => {
                    joining = None;
                    let Some((mut said, heard)) = joined else { break };
                    self.joined(&heard);
                    // A session that ends at once is noticed below.
                    let _ = self.subscribe(&mut said).await;
                    (speaker, hearer) = (Some(said), Some(heard));
                }
                said = news.recv() => {
                    let Some(said) = said else { break };
                    if self.broker_said(said) && let Some(speaker) = &mut speaker {
                        // What the broker forgot is told anew.
                        let _ = self.subscribe(speaker).await;
                    }
                }
                // It reads no further than the broker takes.
                heard = hear(&mut hearer), if self.next.is_none() => match heard {
                    Some(heard) => {
                        let mut outward = std::mem::take(&mut self.outward);
                        self.router_said(heard.message, &mut outward);
                        self.outward = outward;
                    }
                    None => {
                        warn!("mqtt lost the router: {}", why(&hearer));
                        (speaker, hearer) = (None, None);
                        joining = Some(self.join());
                    }
                },
            }
            self.push_outward();
            if let Some(speaker) = &mut speaker {
                self.push_inward(speaker).await;
            }
            self.count_lost();
        }
        self.say_goodbye(&mut news).await;
        if let Some(speaker) = speaker {
            let _ = speaker.leave().await;
        }
        Ok(())
    }

    /// Counts what was given up for want of room. The broker need not hold it any longer.
    fn count_lost(&mut self) {
        let lost = self.inward.take_lost();
        let outward = self.outward.take_lost().len() + self.held.take_lost().len();
        let count = lost.len() + outward;
        self.context.counters.overflowed.add(count as u64);
        lost.into_iter().for_each(|inward| self.acknowledge_later(inward.ack));
    }

    fn joined(&mut self, hearer: &Hearer) {
        if self.sessions.len() == SESSIONS_MAX {
            self.sessions.remove(0);
        }
        self.sessions.push(hearer.session().to_owned());
        // A router that began anew must hear what is retained, and what it told is to be told anew.
        self.begin();
    }

    /// One of the two sides is new to the other.
    fn begin(&mut self) {
        self.seen.clear();
        self.told.clear();
        self.must_subscribe = true;
        if self.connected {
            let now = Instant::now();
            self.settling = Some(Settling { since: now, until: now + SETTLE });
        }
    }

    /// The broker has told what it retains: what else the router held is for it.
    fn settle(&mut self) {
        self.settling = None;
        while let Some(telling) = self.held.pop() {
            let topic = &telling.topic;
            if !self.seen.has(topic) && !self.told.has(topic) && !self.outward.has(topic) {
                wait(telling, &mut self.outward);
            }
        }
    }

    async fn subscribe(&mut self, speaker: &mut Speaker) -> io::Result<()> {
        for (id, pattern) in (1..).zip(&self.plan.patterns) {
            let (types, options) = (SignalMask::ALL, SubscribeOptions::default());
            let subscribe = Subscribe { id, pattern, types, options };
            speaker.say(&Message::Subscribe(subscribe), Qos::Fire).await?;
        }
        Ok(())
    }

    /// Takes note of it. `true`: the broker knows nothing of what it was told.
    fn broker_said(&mut self, news: News) -> bool {
        match news {
            News::Connected { kept, room } => {
                self.room = room;
                let host = &self.plan.host;
                info!("mqtt is connected to {host}{}", if kept { ", which knows it" } else { "" });
                self.connected = true;
                self.complained = false;
                self.connection += 1;
                match kept {
                    true => self.flight.goes_on(),
                    false => {
                        let landed = self.flight.land();
                        self.tell_again(landed);
                    }
                }
                self.begin();
                if let Some(topic) = &self.plan.status {
                    let online = status(topic, b"online");
                    self.outward.param(topic, topic.len(), online);
                }
                return !kept;
            }
            News::Lost { why, heard } => {
                let url = &self.plan.url;
                if self.connected {
                    warn!("mqtt lost the broker at {url}: {why}");
                } else if !std::mem::replace(&mut self.complained, true) {
                    warn!("mqtt cannot reach the broker at {url}, and tries again: {why}");
                }
                self.connected = false;
                self.settling = None;
                self.acks.clear();
                let mut unsent = self.flight.unsent();
                unsent.extend(self.next.take());
                self.tell_again(unsent);
                drop(heard);
            }
            News::Message(message) => self.take(*message),
            News::Refused(0) => {}
            News::Refused(count) => {
                warn!("mqtt: the broker refuses {count} subscriptions");
                self.context.counters.refused.add(count as u64);
            }
            News::Left(id) => {
                self.context.counters.packets_out.add(1);
                self.flight.left(id);
            }
            News::Taken(id) => self.flight.taken(id),
            News::Gone => {}
        }
        false
    }

    /// A message of the broker, on its way to the router.
    fn take(&mut self, message: broker::Message) {
        let counters = &self.context.counters;
        counters.packets_in.add(1);
        let broker::Message { topic, payload, retain, qos, .. } = &message;
        let now = Instant::now();
        // What was retained when we subscribed, and overtaken by us since. With 5, `retain` also
        // marks news, so that only what is ours is known to be old.
        let is_old = self.plan.version == Version::V311 || self.client.said(&message);
        let is_overtaken = *retain && is_old && self.told.has(topic);
        if let Some(settling) = &mut self.settling {
            settling.until = (now + SETTLE).min(settling.since + SETTLE_MAX);
        }
        let is_ours = !*retain && self.client.said(&message);
        let returns = is_ours || self.returns(topic) && self.sayings.returns(now, topic, payload);
        let is_status = self.plan.status.as_ref() == Some(topic);
        let mut address = String::new();
        let rule = self.plan.rules.address(topic, &mut address);
        let Some(rule) = rule.filter(|_| !is_overtaken && !returns && !is_status) else {
            if rule.is_none() {
                counters.refused.add(1);
            }
            return self.acknowledge(message.ack);
        };
        // A broker that was asked tells what it keeps, wherever that was before.
        let is_held = *retain && !self.seen.has(topic) && !self.told.has(topic);
        let was_here = self.ring.was_here(&message.way) && !is_held;
        if was_here || self.ring.comes_round(now, &address, topic, payload, &message.way) {
            if *retain {
                self.kept.note(topic);
            }
            self.seen.note(topic);
            return self.acknowledge(message.ack);
        }
        let form = rule.payload.of_content(message.content_type.as_deref());
        let mut value = Vec::new();
        if payload::read(form, payload, &mut value).is_err() {
            counters.malformed.add(1);
            return self.acknowledge(message.ack);
        }
        if *retain {
            self.kept.note(topic);
        }
        self.seen.note(topic);
        let is_param = match rule.kind {
            Kind::Param => true,
            Kind::Event => false,
            Kind::Auto => *retain || self.kept.has(topic),
        };
        let data = Value::from_encoded(&value).map_or(&[][..], Value::data);
        self.ring.heard(now, &address, data, &message.way);
        let inward = Inward {
            value,
            is_param,
            qos: Qos::from_code(*qos),
            ttl: message.expiry_s.map(|seconds| Ttl::Sliding(seconds & (u32::MAX >> 1))),
            ack: (*qos > 0).then_some((self.connection, message.ack)),
            address,
        };
        let bytes = inward.address.len() + inward.value.len();
        match is_param {
            true => {
                let address = inward.address.clone();
                let replaced = self.inward.param(&address, bytes, inward);
                self.acknowledge_later(replaced.and_then(|replaced| replaced.ack));
            }
            false => self.inward.event(bytes, inward),
        }
    }

    /// Whether the broker sends us what we say of `topic`, and does not say whose it is.
    fn returns(&self, topic: &str) -> bool {
        let mut filters = self.plan.filters.iter();
        self.plan.version == Version::V311 && filters.any(|(filter, ..)| filter.means(topic))
    }

    fn acknowledge_later(&mut self, ack: Option<(u64, Ack)>) {
        if let Some((connection, ack)) = ack
            && connection == self.connection
            && self.connected
        {
            self.acknowledge(ack);
        }
    }

    fn acknowledge(&mut self, ack: Ack) {
        if self.acks.len() < ACKS_MAX {
            self.acks.push_back(ack);
        }
    }

    /// Everything that a message of the router holds, on its way to the broker.
    fn router_said(&mut self, message: Message<'_>, outward: &mut Waiting<Telling>) {
        match message {
            Message::Set(Set { address, value, ttl, .. }) => {
                let expiry_s = match ttl {
                    Some(Ttl::Sliding(seconds) | Ttl::Absolute(seconds)) => Some(seconds),
                    Some(Ttl::Never) | None => None,
                };
                self.tell(address, value, true, expiry_s, outward);
            }
            Message::Snapshot { params } => {
                for ParamValue { address, value, writer, .. } in params {
                    let ours = |writer: &str| self.sessions.iter().any(|known| known == writer);
                    if !writer.is_some_and(ours) {
                        self.tell_held(address, value, outward);
                    }
                }
            }
            Message::Publish(publish) => self.tell_passing(publish, outward),
            Message::Bundle(bundle) => {
                bundle.messages.iter().for_each(|message| self.router_said(message, outward));
            }
            Message::Error(error) => {
                warn!("mqtt: the router refuses something: {} {}", error.code, error.message);
                self.context.counters.refused.add(1);
            }
            _ => {}
        }
    }

    /// What the router held when we subscribed: the broker's own value comes first, and what was
    /// told already is no news.
    fn tell_held(&mut self, address: &str, value: Value<'_>, outward: &mut Waiting<Telling>) {
        let mut topic = String::new();
        let has_topic = self.plan.rules.topic(address, &mut topic).is_some();
        let is_known = self.seen.has(&topic) || self.told.has(&topic) || outward.has(&topic);
        if has_topic && !is_known {
            let mut held = std::mem::take(&mut self.held);
            self.tell(address, value, true, None, &mut held);
            self.held = held;
            if self.connected && self.settling.is_none() {
                self.settle();
            }
        }
    }

    fn tell_passing(&mut self, publish: Publish<'_>, outward: &mut Waiting<Telling>) {
        let sample = || publish.samples.and_then(|samples| samples.iter().last());
        let mut bytes = Vec::new();
        let value = match publish.value.or(publish.payload).or(publish.timeline) {
            Some(value) => value,
            None => {
                if let Some(sample) = sample() {
                    push_f64(&mut bytes, sample);
                }
                Value::from_encoded(&bytes).unwrap_or(Value::NULL)
            }
        };
        self.tell(publish.address, value, false, None, outward);
    }

    fn tell(
        &mut self,
        address: &str,
        value: Value<'_>,
        retain: bool,
        expiry_s: Option<u32>,
        outward: &mut Waiting<Telling>,
    ) {
        let mut topic = String::new();
        let mut payload = Vec::new();
        let written = self.plan.rules.topic(address, &mut topic).and_then(|rule| {
            payload::write(rule.payload, value, &mut payload).ok().map(|content| (rule, content))
        });
        let Some((rule, content)) = written else {
            return self.context.counters.refused.add(1);
        };
        let content_type = (!payload.is_empty()).then(|| content.mime());
        let way = self.ring.way(Instant::now(), address, value.data(), retain);
        let (address, qos) = (address.to_owned(), rule.qos);
        let telling = Telling { address, topic, payload, qos, retain, expiry_s, content_type, way };
        wait(telling, outward);
    }

    /// What did not arrive, oldest first, goes before all that waits; of a topic the newest counts.
    fn tell_again(&mut self, tellings: Vec<Telling>) {
        for telling in tellings.into_iter().rev() {
            let bytes = telling.topic.len() + telling.payload.len();
            let topic = telling.retain.then(|| telling.topic.clone());
            self.outward.put_back(topic.as_deref(), bytes, telling);
        }
    }

    /// Hands the broker what it takes at once.
    fn push_outward(&mut self) {
        if !self.connected {
            return;
        }
        if self.must_subscribe {
            // A router that is new needs what we said to the one before.
            let only_others = self.plan.is_new_to_broker && self.sessions.len() <= 1;
            self.must_subscribe = self.client.subscribe(&self.plan.filters, only_others).is_err();
        }
        while let Some(ack) = self.acks.front() {
            if self.client.acknowledge(ack).is_err() {
                return;
            }
            self.acks.pop_front();
        }
        while let Some(telling) = self.next.take().or_else(|| self.outward.pop()) {
            let has_room = telling.qos == 0 || self.flight.count() < self.room;
            if !has_room || self.client.publish(&telling).is_err() {
                self.next = Some(telling);
                return;
            }
            let Telling { address, topic, payload, .. } = &telling;
            self.ring.said(Instant::now(), address, topic, payload);
            if telling.retain {
                self.told.note(topic);
                self.kept.note(topic);
            }
            if self.returns(topic) {
                self.sayings.said(Instant::now(), topic, payload);
            }
            self.flight.handed(telling);
        }
    }

    /// Says what waits to the router, and waits while it takes nothing.
    async fn push_inward(&mut self, speaker: &mut Speaker) {
        while let Some(inward) = self.inward.pop() {
            let Inward { address, value, is_param, qos, ttl, .. } = &inward;
            let Ok(value) = Value::from_encoded(value) else { continue };
            let message = match is_param {
                true => Message::Set(Set {
                    address,
                    value,
                    revision: None,
                    lock: false,
                    unlock: false,
                    ttl: *ttl,
                }),
                false => Message::Publish(Publish {
                    address,
                    signal: Some(Signal::Event),
                    value: Some(value),
                    ..Publish::default()
                }),
            };
            match speaker.say(&message, *qos).await {
                Ok(()) => {}
                Err(why) if why.kind() == io::ErrorKind::InvalidInput => {
                    self.context.counters.refused.add(1);
                }
                // The session has ended; the hearer says so, and then this is said again.
                Err(_) => {
                    let bytes = inward.address.len() + inward.value.len();
                    let address = inward.is_param.then(|| inward.address.clone());
                    self.inward.put_back(address.as_deref(), bytes, inward);
                    return;
                }
            }
            self.acknowledge_later(inward.ack);
        }
        self.push_outward();
    }

    /// Tells the broker what waits, that this side is offline, and good-bye.
    async fn say_goodbye(&mut self, news: &mut mpsc::Receiver<News>) {
        if let Some(topic) = &self.plan.status {
            self.outward.param(topic, topic.len(), status(topic, b"offline"));
        }
        let mut asked = false;
        let farewell = async {
            while self.connected {
                self.push_outward();
                let all_said = self.next.is_none() && self.outward.is_empty();
                if all_said && !asked {
                    asked = self.client.disconnect().is_ok();
                }
                match news.recv().await {
                    None | Some(News::Gone) => return,
                    // What comes now comes again.
                    Some(News::Message(_)) => {}
                    Some(news) => {
                        self.broker_said(news);
                    }
                }
            }
        };
        // What has not left by now does not; the broker then publishes the will.
        let _ = timeout(FAREWELL, farewell).await;
    }
}

fn wait(telling: Telling, outward: &mut Waiting<Telling>) {
    let bytes = telling.topic.len() + telling.payload.len();
    match telling.retain {
        true => {
            let topic = telling.topic.clone();
            outward.param(&topic, bytes, telling);
        }
        false => outward.event(bytes, telling),
    }
}

fn status(topic: &str, payload: &[u8]) -> Telling {
    Telling {
        address: String::new(),
        topic: topic.to_owned(),
        payload: payload.to_vec(),
        qos: 1,
        retain: true,
        expiry_s: None,
        content_type: None,
        way: String::new(),
    }
}

fn why(hearer: &Option<Hearer>) -> &str {
    hearer.as_ref().map_or("there was none", Hearer::why_ended)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The future, if there is one; else it never comes.
async fn some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn hear(hearer: &mut Option<Hearer>) -> Option<crate::Heard<'_>> {
    match hearer {
        Some(hearer) => hearer.next().await,
        None => std::future::pending().await,
    }
}

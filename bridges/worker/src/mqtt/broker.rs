//! The connection to a broker, of either version, as one kind of client: `rumqttc` speaks.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use clasp_rt_client::{Backoff, random};
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::Filter as Filter5;
use rumqttc::{self as v4, Outgoing, TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::config::{Carrier, Plan, Version};
use super::topic::Filter;

/// Requests that `rumqttc` has taken and not sent; what waits longer waits here.
const REQUESTS_MAX: usize = 16;

/// Messages of the broker that wait for this side; beyond them nothing is read.
const NEWS_MAX: usize = 64;

/// The longest message, both ways: what a CLASP frame can hold, and its topic.
pub const PACKET_BYTES_MAX: usize = 256 << 10;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What the broker says, and what became of what it was told.
#[derive(Debug)]
pub enum News {
    /// `kept`: the broker knows the session, its subscriptions and what was on its way.
    Connected {
        kept: bool,
    },
    Lost(String),
    Message(Box<Message>),
    /// It subscribed to so many filters less than it was asked to.
    Refused(usize),
    /// The next of what was published has left, with this packet id; 0 is not answered.
    Left(u16),
    /// It was taken.
    Taken(u16),
    /// The good-bye has left.
    Gone,
}

/// A message of the broker. It is acknowledged once it is where it belongs.
#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    /// It was kept by the broker before this subscription; with 5: whether it is kept at all.
    pub retain: bool,
    pub qos: u8,
    /// Seconds it is still good for.
    pub expiry_s: Option<u32>,
    pub content_type: Option<String>,
    /// Which client of ours said it; with 3.1.1 nothing tells.
    pub tag: Option<String>,
    pub ack: Ack,
}

/// What to acknowledge.
#[derive(Debug)]
pub enum Ack {
    V4(v4::Publish),
    V5(v5::mqttbytes::v5::Publish),
}

/// What the broker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Of which the router said it; empty: it is the bridge's own.
    pub address: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub expiry_s: Option<u32>,
    /// What the payload holds; MQTT 5 only.
    pub content_type: Option<&'static str>,
}

/// Says things to the broker; none of it waits.
pub enum Client {
    V4(v4::AsyncClient),
    V5 {
        client: v5::AsyncClient,
        /// The value of [`TAG`] in what this client says.
        tag: String,
    },
}

/// The user property by which a client of ours knows its own messages.
pub const TAG: &str = "clasp-rt";

/// `rumqttc` has no room, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

enum Events {
    V4(Box<v4::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// Starts a task that keeps the connection. It ends when the receiver is dropped.
pub fn connect(plan: &Plan) -> (Client, mpsc::Receiver<News>) {
    let (tell, news) = mpsc::channel(NEWS_MAX);
    let (client, events) = match plan.version {
        Version::V311 => {
            let (client, events) = v4::AsyncClient::new(options_v4(plan), REQUESTS_MAX);
            (Client::V4(client), Events::V4(Box::new(events)))
        }
        Version::V5 => {
            let (client, events) = v5::AsyncClient::new(options_v5(plan), REQUESTS_MAX);
            let tag = format!("{:016x}", random());
            (Client::V5 { client, tag }, Events::V5(Box::new(events)))
        }
    };
    tokio::task::spawn_local(drive(events, tell));
    (client, news)
}

/// A task of its own, because `poll` must not be dropped half-way.
async fn drive(mut events: Events, tell: mpsc::Sender<News>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random());
    loop {
        let polled = match &mut events {
            Events::V4(events) => events.poll().await.map(news_v4).map_err(|why| why.to_string()),
            Events::V5(events) => events.poll().await.map(news_v5).map_err(|why| why.to_string()),
        };
        let news = match polled {
            Ok(None) => continue,
            Ok(Some(news)) => news,
            Err(why) => News::Lost(why),
        };
        let pause = match news {
            News::Lost(_) => backoff.next_wait(),
            News::Connected { .. } => {
                backoff.reset();
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        let is_over = matches!(news, News::Gone);
        if tell.send(news).await.is_err() || is_over {
            return;
        }
        if !pause.is_zero() {
            tokio::select! {
                () = sleep(pause) => {}
                () = tell.closed() => return,
            }
        }
    }
}

fn options_v4(plan: &Plan) -> v4::MqttOptions {
    let mut options = v4::MqttOptions::new(&plan.client_id, &plan.host, plan.port);
    options
        .set_transport(transport(plan))
        .set_keep_alive(Duration::from_secs(plan.keep_alive_s.into()))
        .set_clean_session(plan.clean_start)
        .set_manual_acks(true)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some((name, password)) = &plan.login {
        options.set_credentials(name, password);
    }
    if let Some(topic) = &plan.status {
        options.set_last_will(v4::LastWill::new(topic, "offline", v4::QoS::AtLeastOnce, true));
    }
    options
}

fn options_v5(plan: &Plan) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(&plan.client_id, &plan.host, plan.port);
    options
        .set_transport(transport(plan))
        .set_keep_alive(Duration::from_secs(plan.keep_alive_s.into()))
        .set_clean_start(plan.clean_start)
        .set_session_expiry_interval(Some(plan.session_expiry_s))
        .set_manual_acks(true)
        .set_max_packet_size(Some(PACKET_BYTES_MAX as u32));
    if let Some((name, password)) = &plan.login {
        options.set_credentials(name, password);
    }
    if let Some(topic) = &plan.status {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        let will = v5::mqttbytes::v5::LastWill::new(topic, "offline", qos, true, None);
        options.set_last_will(will);
    }
    options
}

fn transport(plan: &Plan) -> Transport {
    match &plan.carrier {
        Carrier::Tcp => Transport::Tcp,
        Carrier::Tls(config) => Transport::Tls(TlsConfiguration::Rustls(config.clone())),
        Carrier::Ws => Transport::Ws,
        Carrier::Wss(config) => Transport::Wss(TlsConfiguration::Rustls(config.clone())),
    }
}

fn news_v4(event: v4::Event) -> Option<News> {
    use v4::Packet;
    Some(match event {
        v4::Event::Outgoing(Outgoing::Publish(id)) => News::Left(id),
        v4::Event::Outgoing(Outgoing::Disconnect) => News::Gone,
        v4::Event::Incoming(Packet::ConnAck(ack)) => News::Connected { kept: ack.session_present },
        v4::Event::Incoming(Packet::PubAck(ack)) => News::Taken(ack.pkid),
        v4::Event::Incoming(Packet::PubComp(ack)) => News::Taken(ack.pkid),
        v4::Event::Incoming(Packet::SubAck(ack)) => {
            let failed =
                |code: &&v4::SubscribeReasonCode| matches!(code, v4::SubscribeReasonCode::Failure);
            News::Refused(ack.return_codes.iter().filter(failed).count())
        }
        v4::Event::Incoming(Packet::Publish(publish)) => News::Message(Box::new(Message {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            retain: publish.retain,
            qos: publish.qos as u8,
            expiry_s: None,
            content_type: None,
            tag: None,
            ack: Ack::V4(publish),
        })),
        _ => return None,
    })
}

fn news_v5(event: v5::Event) -> Option<News> {
    use v5::mqttbytes::v5::{Packet, PubRecReason, SubscribeReasonCode};
    Some(match event {
        v5::Event::Outgoing(Outgoing::Publish(id)) => News::Left(id),
        v5::Event::Outgoing(Outgoing::Disconnect) => News::Gone,
        v5::Event::Incoming(Packet::ConnAck(ack)) => News::Connected { kept: ack.session_present },
        v5::Event::Incoming(Packet::PubAck(ack)) => News::Taken(ack.pkid),
        v5::Event::Incoming(Packet::PubComp(ack)) => News::Taken(ack.pkid),
        // It ends there when the broker says no.
        v5::Event::Incoming(Packet::PubRec(ack)) if ack.reason != PubRecReason::Success => {
            News::Taken(ack.pkid)
        }
        v5::Event::Incoming(Packet::SubAck(ack)) => {
            let failed =
                |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
            News::Refused(ack.return_codes.iter().filter(failed).count())
        }
        v5::Event::Incoming(Packet::Publish(publish)) => {
            let properties = publish.properties.as_ref();
            News::Message(Box::new(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.clone(),
                retain: publish.retain,
                qos: publish.qos as u8,
                expiry_s: properties.and_then(|p| p.message_expiry_interval),
                content_type: properties.and_then(|p| p.content_type.clone()),
                tag: properties.and_then(|p| {
                    let mut found = p.user_properties.iter().filter(|(key, _)| key == TAG);
                    found.next().map(|(_, tag)| tag.clone())
                }),
                ack: Ack::V5(publish),
            }))
        }
        _ => return None,
    })
}

fn qos_v4(qos: u8) -> v4::QoS {
    v4::qos(qos).unwrap_or(v4::QoS::ExactlyOnce)
}

fn qos_v5(qos: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(qos).unwrap_or(v5::mqttbytes::QoS::ExactlyOnce)
}

impl Client {
    /// Asks for `filters`, each with the quality of service wanted. With 5 also to be told whether
    /// news are kept, and, if `only_others`, not for what this client says or has said.
    pub fn subscribe(
        &self,
        filters: &[(Filter, String, u8)],
        only_others: bool,
    ) -> Result<(), Full> {
        if filters.is_empty() {
            return Ok(());
        }
        match self {
            Self::V4(client) => {
                let wanted = filters
                    .iter()
                    .map(|(_, text, qos)| v4::SubscribeFilter::new(text.clone(), qos_v4(*qos)));
                client.try_subscribe_many(wanted).map_err(|_| Full)
            }
            Self::V5 { client, .. } => {
                let wanted = filters.iter().map(|(filter, text, qos)| {
                    let mut wanted = Filter5::new(text.clone(), qos_v5(*qos));
                    // Of a shared one it would be a protocol error (MQTT 5 §3.8.3.1).
                    wanted.nolocal = only_others && filter.group().is_none();
                    wanted.preserve_retain = true;
                    wanted
                });
                client.try_subscribe_many(wanted).map_err(|_| Full)
            }
        }
    }

    pub fn publish(&self, telling: &Telling) -> Result<(), Full> {
        let Telling { topic, payload, qos, retain, .. } = telling;
        match self {
            Self::V4(client) => {
                client.try_publish(topic, qos_v4(*qos), *retain, payload.clone()).map_err(|_| Full)
            }
            Self::V5 { client, tag } => {
                let properties = v5::mqttbytes::v5::PublishProperties {
                    message_expiry_interval: telling.expiry_s,
                    content_type: telling.content_type.map(str::to_owned),
                    user_properties: vec![(TAG.to_owned(), tag.clone())],
                    ..Default::default()
                };
                let (qos, payload) = (qos_v5(*qos), payload.clone());
                client
                    .try_publish_with_properties(topic, qos, *retain, payload, properties)
                    .map_err(|_| Full)
            }
        }
    }

    /// Whether this client said it.
    pub fn said(&self, message: &Message) -> bool {
        match self {
            Self::V4(_) => false,
            Self::V5 { tag, .. } => message.tag.as_ref() == Some(tag),
        }
    }

    pub fn acknowledge(&self, ack: &Ack) -> Result<(), Full> {
        match (self, ack) {
            (Self::V4(client), Ack::V4(publish)) => client.try_ack(publish).map_err(|_| Full),
            (Self::V5 { client, .. }, Ack::V5(publish)) => {
                client.try_ack(publish).map_err(|_| Full)
            }
            _ => Ok(()),
        }
    }

    pub fn disconnect(&self) -> Result<(), Full> {
        match self {
            Self::V4(client) => client.try_disconnect().map_err(|_| Full),
            Self::V5 { client, .. } => client.try_disconnect().map_err(|_| Full),
        }
    }
}

/// What was handed to `rumqttc` and not taken by the broker, so that nothing of it is lost with a
/// connection: the library forgets it when the broker did.
#[derive(Debug, Default)]
pub struct Flight {
    handed: VecDeque<Telling>,
    flying: HashMap<u16, Telling>,
    /// The order in which they left.
    order: VecDeque<u16>,
}

impl Flight {
    pub fn handed(&mut self, telling: Telling) {
        self.handed.push_back(telling);
    }

    /// The oldest that was handed over has left.
    pub fn left(&mut self, id: u16) {
        if let Some(telling) = self.handed.pop_front()
            && id != 0
        {
            self.flying.insert(id, telling);
            self.order.push_back(id);
        }
    }

    pub fn taken(&mut self, id: u16) {
        self.flying.remove(&id);
        self.order.retain(|held| *held != id);
    }

    /// Everything that the broker may not have, oldest first; nothing flies any more.
    pub fn land(&mut self) -> Vec<Telling> {
        let Self { handed, flying, order } = self;
        let flown = order.drain(..).filter_map(|id| flying.remove(&id));
        let mut landed: Vec<_> = flown.collect();
        landed.extend(handed.drain(..));
        landed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(topic: &str) -> Telling {
        Telling {
            address: String::new(),
            topic: topic.to_owned(),
            payload: Vec::new(),
            qos: 1,
            retain: false,
            expiry_s: None,
            content_type: None,
        }
    }

    #[test]
    fn what_the_broker_did_not_take_is_known_in_its_order() {
        let mut flight = Flight::default();
        for topic in ["a", "b", "c", "d", "e"] {
            flight.handed(telling(topic));
        }
        for id in [1, 0, 2, 3] {
            flight.left(id);
        }
        flight.taken(2);
        let landed: Vec<_> = flight.land().into_iter().map(|telling| telling.topic).collect();
        assert_eq!(landed, ["a", "d", "e"], "b is not answered, c was taken");
        assert!(flight.land().is_empty());
    }
}

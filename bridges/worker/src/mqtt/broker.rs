//! The connection to a broker, of either version, as one kind of client: `rumqttc` speaks.

use std::time::Duration;

use bytes::Bytes;
use clasp_rt_client::random;
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::Filter as Filter5;
use rumqttc::{self as v4, TlsConfiguration, Transport};
use tokio::sync::{mpsc, oneshot};

use super::config::{Carrier, Plan, Version};
use super::drive::{Events, drive};
use super::topic::Filter;
use super::way::WAY;

/// Requests that `rumqttc` has taken and not sent; what waits longer waits here.
const REQUESTS_MAX: usize = 16;

/// Packet ids that the library uses, over and over; in 5 at most as many as the broker takes at
/// once.
const IDS_MAX: u16 = 100;

/// Messages at QoS 1 and 2 that are on their way, with 3.1.1, in which a broker cannot say how many
/// it takes. What mosquitto is sent beyond 20 it puts into a queue, out of which QoS 2 is lost when
/// the connection breaks.
pub const ROOM_V4: usize = 20;

/// The same with 5: three quarters of what the broker takes. An id that is used again too early
/// costs the connection, and subscriptions need some, too.
pub fn room_v5(receive_max: Option<u16>) -> usize {
    let ids = receive_max.unwrap_or(u16::MAX).min(IDS_MAX);
    usize::from(ids - ids / 4)
}

/// Messages of the broker that wait for this side; beyond them nothing is read.
const NEWS_MAX: usize = 64;

/// The longest message, both ways: what a CLASP frame can hold, and its topic.
pub const PACKET_BYTES_MAX: usize = 256 << 10;

/// What the broker says, and what became of what it was told.
#[derive(Debug)]
pub enum News {
    /// `kept`: the broker knows the session, its subscriptions and what was on its way.
    Connected {
        kept: bool,
        /// Messages at QoS 1 and 2 that may be on their way.
        room: usize,
    },
    /// The connection ended, or there is none.
    Lost {
        why: String,
        /// Dropped once nothing more is handed over for it; no other begins before.
        heard: oneshot::Sender<()>,
    },
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
    /// Through which routers it came, newest first; with 3.1.1 nothing tells.
    pub way: String,
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
    /// Through which routers it came, newest first, this one included; MQTT 5 only.
    pub way: String,
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

fn options_v4(plan: &Plan) -> v4::MqttOptions {
    let mut options = v4::MqttOptions::new(&plan.client_id, &plan.host, plan.port);
    options
        .set_transport(transport(plan))
        .set_keep_alive(Duration::from_secs(plan.keep_alive_s.into()))
        .set_clean_session(plan.clean_start)
        .set_manual_acks(true)
        .set_inflight(IDS_MAX)
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
        .set_outgoing_inflight_upper_limit(IDS_MAX)
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
                let mut user_properties = vec![(TAG.to_owned(), tag.clone())];
                if !telling.way.is_empty() {
                    user_properties.push((WAY.to_owned(), telling.way.clone()));
                }
                let properties = v5::mqttbytes::v5::PublishProperties {
                    message_expiry_interval: telling.expiry_s,
                    content_type: telling.content_type.map(str::to_owned),
                    user_properties,
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

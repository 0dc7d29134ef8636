//! Packets of both versions as one kind: `rumqttc`'s packet modules read and write them.

mod write;

use std::fmt;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
pub use write::write;

/// The longest packet that is read or written: what a CLASP frame can hold, and its topic.
pub const PACKET_BYTES_MAX: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck(u16),
    /// The client may refuse; then nothing follows.
    PubRec {
        id: u16,
        refused: bool,
    },
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        id: u16,
        wanted: Vec<Wanted>,
        /// What each message that these filters bring is to carry; 0 is not allowed.
        identifier: Option<u32>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        keep_will: bool,
        /// Seconds for which the session is to go on, if that is not as CONNECT said.
        expiry_s: Option<u32>,
    },
    /// What only servers say.
    Odd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    pub password: Option<String>,
    pub will: Option<Will>,
    /// Messages at QoS 1 and 2 that the client takes at once.
    pub receive_max: u16,
    pub packet_bytes_max: usize,
    /// Seconds for which the session is to outlive its connection. 3.1.1 says all or nothing.
    pub expiry_s: u32,
    /// Topic aliases that the client takes.
    pub aliases_max: u16,
    /// Whether it wants to be told in words why something is refused.
    pub wants_words: bool,
    /// It names a method of authentication beyond a password; none is spoken.
    pub has_method: bool,
}

/// What is to be said of a client that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub publish: Publish,
    /// Seconds to wait for it to come back.
    pub delay_s: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// It was sent before, and perhaps not received.
    pub dup: bool,
    /// 0 at QoS 0.
    pub id: u16,
    pub expiry_s: Option<u32>,
    pub content_type: Option<String>,
    /// A number for the topic, which may then be left out; 0 is not allowed.
    pub alias: Option<u16>,
    pub response_topic: Option<String>,
    pub correlation: Option<Bytes>,
    pub user: Vec<(String, String)>,
    /// Of the subscriptions that brought it; only a client is told any.
    pub identifiers: Vec<u32>,
}

impl Publish {
    /// What it takes while it waits.
    pub fn bytes(&self) -> usize {
        let user = self.user.iter().map(|(key, value)| key.len() + value.len());
        let user = user.chain([size_of_val(self.identifiers.as_slice())]);
        let response = self.response_topic.as_ref().map_or(0, String::len);
        let correlation = self.correlation.as_ref().map_or(0, Bytes::len);
        self.topic.len() + self.payload.len() + response + correlation + user.sum::<usize>()
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub filter: String,
    pub qos: u8,
    pub no_local: bool,
    /// Retain as published: news of params are flagged retained.
    pub keeps_flag: bool,
    pub retained: Retained,
}

/// When retained messages are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    Always,
    /// If the subscription is new.
    New,
    Never,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Connected {
        /// The session was there before.
        present: bool,
        /// The name that a client without one is given.
        assigned: Option<String>,
        receive_max: u16,
        /// Seconds for which the session outlives its connection.
        expiry_s: u32,
        aliases_max: u16,
    },
    Refused(Reason),
    Publish(Publish),
    /// `why`, in words; empty where there is nothing to say.
    PubAck {
        id: u16,
        reason: Reason,
        why: String,
    },
    PubRec {
        id: u16,
        reason: Reason,
        why: String,
    },
    /// Whether such a message is known.
    PubRel {
        id: u16,
        known: bool,
    },
    PubComp {
        id: u16,
        known: bool,
    },
    /// The granted quality of service of each filter, or why there is none.
    Subscribed {
        id: u16,
        granted: Vec<Result<u8, Reason>>,
    },
    /// Whether each filter was subscribed to.
    Unsubscribed {
        id: u16,
        existed: Vec<bool>,
    },
    Pong,
    /// Only 5 has words for it.
    Disconnect(Reason),
}

/// Why something is refused or ended: codes of MQTT 5 §2.4, and what 3.1.1 has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Success,
    Malformed,
    TooLong,
    Protocol,
    Version,
    ClientId,
    NotAuthorized,
    Method,
    Unavailable,
    ShuttingDown,
    KeepAlive,
    /// The token was good when the session began, and is no longer.
    Expired,
    TakenOver,
    FilterInvalid,
    TopicInvalid,
    ReceiveMax,
    AliasInvalid,
    Quota,
    PayloadInvalid,
    /// The router has its own reasons; they are told in words.
    Router,
}

/// The bytes are not a packet that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are none; why, in words.
    Bytes(String),
    /// It is longer than [`PACKET_BYTES_MAX`].
    TooLong { bytes: usize },
}

impl Malformed {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Bytes(_) => Reason::Malformed,
            Self::TooLong { .. } => Reason::TooLong,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(why) => f.write_str(why),
            Self::TooLong { bytes } => {
                write!(f, "it has {bytes} bytes, at most {PACKET_BYTES_MAX} are taken")
            }
        }
    }
}

/// The version that a first packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Not all of it is there.
    More,
    Version(Version),
    /// A version that is not spoken.
    Unknown,
    /// No CONNECT.
    NotMqtt,
}

/// Looks at the beginning of a connection.
pub fn first(bytes: &[u8]) -> First {
    let Some((header, _)) = lengths(bytes) else {
        let hopeless = bytes.first().is_some_and(|byte| byte >> 4 != 1) || bytes.len() >= 5;
        return if hopeless { First::NotMqtt } else { First::More };
    };
    if bytes.first().is_none_or(|byte| byte >> 4 != 1) {
        return First::NotMqtt;
    }
    let Some(name_len) = bytes.get(header..header + 2).and_then(|len| len.first_chunk()) else {
        return First::More;
    };
    let at = header + 2 + usize::from(u16::from_be_bytes(*name_len));
    if at > header + 8 {
        return First::NotMqtt;
    }
    match bytes.get(at) {
        None => First::More,
        Some(4) => First::Version(Version::V311),
        Some(5) => First::Version(Version::V5),
        Some(_) => First::Unknown,
    }
}

/// Bytes of the fixed header, and of what follows it (MQTT 5 §1.5.5); `None`: not all there, or no
/// length.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut rest = 0;
    for index in 0..4 {
        let byte = *bytes.get(1 + index)?;
        rest |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((2 + index, rest));
        }
    }
    None
}

/// Looks at the lower half of a packet's first byte, which is reserved but in a PUBLISH: "if
/// invalid flags are received, the receiver MUST close the Network Connection" (MQTT 3.1.1 §2.2.2,
/// MQTT 5 §2.1.3).
fn check_flags(bytes: &[u8]) -> Result<(), Malformed> {
    let Some(&byte) = bytes.first() else { return Ok(()) };
    let (kind, flags) = (byte >> 4, byte & 0x0F);
    let must_be = match kind {
        3 => return Ok(()),
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE.
        6 | 8 | 10 => 0b0010,
        _ => 0b0000,
    };
    if flags == must_be {
        return Ok(());
    }
    let why = format!("the flags of a packet of type {kind} are {flags:04b}, not {must_be:04b}");
    Err(Malformed::Bytes(why))
}

/// The reason of a good-bye that keeps the will (MQTT 5 §3.14.2.1).
const WITH_WILL: u8 = 0x04;

/// Takes the first packet off `bytes`; `None`: it is not all there.
pub fn read(version: Version, bytes: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
    check_flags(bytes)?;
    let Some((header, rest)) = lengths(bytes) else {
        let no_length = bytes.len() >= 5;
        let malformed = || Malformed::Bytes("a length of more than four bytes".to_owned());
        return if no_length { Err(malformed()) } else { Ok(None) };
    };
    if header + rest > PACKET_BYTES_MAX {
        return Err(Malformed::TooLong { bytes: header + rest });
    }
    if bytes.len() < header + rest {
        return Ok(None);
    }
    let mut packet = bytes.split_to(header + rest);
    match version {
        Version::V311 => {
            let read = v4::Packet::read(&mut packet, PACKET_BYTES_MAX);
            read.map(from_v4).map(Some).map_err(|why| Malformed::Bytes(why.to_string()))
        }
        // The library wants a reason and properties, which a good-bye may leave out (§3.14.2).
        Version::V5 if packet.len() < 4 && packet.first() == Some(&0xE0) => {
            let keep_will = packet.get(2) == Some(&WITH_WILL);
            Ok(Some(Packet::Disconnect { keep_will, expiry_s: None }))
        }
        Version::V5 => {
            let read = v5::Packet::read(&mut packet, Some(PACKET_BYTES_MAX as u32));
            read.map_err(|why| Malformed::Bytes(why.to_string())).and_then(from_v5).map(Some)
        }
    }
}

fn from_v4(packet: v4::Packet) -> Packet {
    match packet {
        v4::Packet::Connect(connect) => Packet::Connect(Box::new(Connect {
            version: Version::V311,
            client_id: connect.client_id,
            clean: connect.clean_session,
            keep_alive_s: connect.keep_alive,
            password: connect.login.map(|login| login.password),
            will: connect.last_will.map(|will| Will {
                publish: Publish {
                    topic: will.topic,
                    payload: will.message,
                    qos: will.qos as u8,
                    retain: will.retain,
                    ..Publish::default()
                },
                delay_s: 0,
            }),
            receive_max: u16::MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            expiry_s: if connect.clean_session { 0 } else { u32::MAX },
            aliases_max: 0,
            wants_words: false,
            has_method: false,
        })),
        v4::Packet::Publish(publish) => Packet::Publish(Publish {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            id: publish.pkid,
            ..Publish::default()
        }),
        v4::Packet::PubAck(ack) => Packet::PubAck(ack.pkid),
        v4::Packet::PubRec(ack) => Packet::PubRec { id: ack.pkid, refused: false },
        v4::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            wanted: subscribe
                .filters
                .into_iter()
                .map(|filter| Wanted {
                    filter: filter.path,
                    qos: filter.qos as u8,
                    no_local: false,
                    keeps_flag: false,
                    retained: Retained::Always,
                })
                .collect(),
            identifier: None,
        },
        v4::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
        }
        v4::Packet::PingReq => Packet::Ping,
        v4::Packet::Disconnect => Packet::Disconnect { keep_will: false, expiry_s: None },
        _ => Packet::Odd,
    }
}

fn text(bytes: &Bytes) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Malformed::Bytes("a topic is not UTF-8".to_owned()))
}

fn from_v5(packet: v5::Packet) -> Result<Packet, Malformed> {
    Ok(match packet {
        v5::Packet::Connect(connect, will, login) => {
            let properties = connect.properties.as_ref();
            let packet_max = properties.and_then(|p| p.max_packet_size);
            let will = will.map(will_v5).transpose()?;
            Packet::Connect(Box::new(Connect {
                version: Version::V5,
                will,
                clean: connect.clean_start,
                keep_alive_s: connect.keep_alive,
                password: login.map(|login| login.password),
                receive_max: properties.and_then(|p| p.receive_maximum).unwrap_or(u16::MAX),
                packet_bytes_max: packet_max.map_or(PACKET_BYTES_MAX, |max| max as usize),
                expiry_s: properties.and_then(|p| p.session_expiry_interval).unwrap_or(0),
                aliases_max: properties.and_then(|p| p.topic_alias_max).unwrap_or(0),
                wants_words: properties.and_then(|p| p.request_problem_info) != Some(0),
                has_method: properties.is_some_and(|p| p.authentication_method.is_some()),
                client_id: connect.client_id,
            }))
        }
        v5::Packet::Publish(publish) => {
            let properties = publish.properties.unwrap_or_default();
            Packet::Publish(Publish {
                topic: text(&publish.topic)?,
                payload: publish.payload,
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                id: publish.pkid,
                expiry_s: properties.message_expiry_interval,
                content_type: properties.content_type,
                alias: properties.topic_alias,
                response_topic: properties.response_topic,
                correlation: properties.correlation_data,
                user: properties.user_properties,
                identifiers: properties
                    .subscription_identifiers
                    .into_iter()
                    .map(|id| id as u32)
                    .collect(),
            })
        }
        v5::Packet::PubAck(ack) => Packet::PubAck(ack.pkid),
        v5::Packet::PubRec(ack) => {
            use v5::PubRecReason::{NoMatchingSubscribers, Success};
            let refused = !matches!(ack.reason, Success | NoMatchingSubscribers);
            Packet::PubRec { id: ack.pkid, refused }
        }
        v5::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v5::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            wanted: subscribe.filters.into_iter().map(wanted).collect(),
            identifier: subscribe.properties.and_then(|p| p.id).map(|id| id as u32),
        },
        v5::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
        }
        v5::Packet::PingReq(_) => Packet::Ping,
        v5::Packet::Disconnect(disconnect) => {
            let with_will = v5::DisconnectReasonCode::DisconnectWithWillMessage;
            Packet::Disconnect {
                keep_will: disconnect.reason_code == with_will,
                expiry_s: disconnect.properties.and_then(|p| p.session_expiry_interval),
            }
        }
        _ => Packet::Odd,
    })
}

fn will_v5(will: v5::LastWill) -> Result<Will, Malformed> {
    let topic = text(&will.topic)?;
    let mut publish = Publish {
        topic,
        payload: will.message,
        qos: will.qos as u8,
        retain: will.retain,
        ..Publish::default()
    };
    let Some(properties) = will.properties else { return Ok(Will { publish, delay_s: 0 }) };
    publish.expiry_s = properties.message_expiry_interval;
    publish.content_type = properties.content_type;
    publish.response_topic = properties.response_topic;
    publish.correlation = properties.correlation_data;
    publish.user = properties.user_properties;
    Ok(Will { publish, delay_s: properties.delay_interval.unwrap_or(0) })
}

fn wanted(filter: v5::Filter) -> Wanted {
    Wanted {
        filter: filter.path,
        qos: filter.qos as u8,
        no_local: filter.nolocal,
        keeps_flag: filter.preserve_retain,
        retained: match filter.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => Retained::Always,
            v5::RetainForwardRule::OnNewSubscribe => Retained::New,
            v5::RetainForwardRule::Never => Retained::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_version_or_that_it_is_something_else() {
        let connect = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc";
        let mut old = *connect;
        old[8] = 4;
        let mut strange = *connect;
        strange[8] = 3;
        let cases: [(&[u8], First); 8] = [
            (connect, First::Version(Version::V5)),
            (&old, First::Version(Version::V311)),
            (&strange, First::Unknown),
            (&connect[..5], First::More),
            (b"", First::More),
            (b"GET / HTTP/1.1", First::NotMqtt),
            (b"\x10\xff\xff\xff\xff\xff", First::NotMqtt),
            (b"\x10\x7f\xff\xff", First::NotMqtt),
        ];
        for (bytes, expected) in cases {
            assert_eq!(first(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_packet_whose_reserved_flags_are_others_is_malformed() {
        // Type, the rest of a packet that is right, and its flags.
        let cases: [(u8, &[u8], u8); 8] = [
            (1, b"\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a", 0),
            (4, b"\x02\x00\x01", 0),
            (5, b"\x02\x00\x01", 0),
            (6, b"\x02\x00\x01", 2),
            (7, b"\x02\x00\x01", 0),
            (8, b"\x06\x00\x01\x00\x01a\x00", 2),
            (10, b"\x05\x00\x01\x00\x01a", 2),
            (12, b"\x00", 0),
        ];
        for (kind, rest, right) in cases {
            for flags in 0..16 {
                let bytes = [&[kind << 4 | flags], rest].concat();
                let read = read(Version::V311, &mut BytesMut::from(&bytes[..]));
                assert_eq!(read.is_ok(), flags == right, "{kind} {flags:04b}: {read:?}");
                if let Err(why) = read {
                    assert_eq!(why.reason(), Reason::Malformed);
                    assert!(why.to_string().contains(&format!("{right:04b}")), "{why}");
                }
            }
        }
        for (bytes, right) in [
            (&b"\xe0\x00"[..], true),
            (b"\xe1\x00", false),
            (b"\xc0\x00", true),
            (b"\xc8\x00", false),
            (b"\x62\x02\x00\x01", true),
            (b"\x60\x02\x00\x01", false),
            (b"\x80\x07\x00\x01\x00\x00\x01a\x00", false),
        ] {
            let read = read(Version::V5, &mut BytesMut::from(bytes));
            assert_eq!(read.is_ok(), right, "{bytes:02x?}: {read:?}");
        }
    }

    #[test]
    fn packets_that_are_too_long_or_without_length_are_malformed() {
        for bytes in [&b"\x30\xff\xff\xff\x7f"[..], b"\x30\xff\xff\xff\xff\x01"] {
            for version in [Version::V311, Version::V5] {
                assert!(read(version, &mut BytesMut::from(bytes)).is_err(), "{bytes:02x?}");
            }
        }
        let mut part = BytesMut::from(&b"\x30\x05\x00\x01a"[..]);
        assert_eq!(read(Version::V311, &mut part), Ok(None));
        assert_eq!(part.len(), 5, "it waits for the rest");
        let byes: [(&[u8], bool); 3] =
            [(b"\xe0\x00", false), (b"\xe0\x01\x00", false), (b"\xe0\x01\x04", true)];
        for (bytes, keep_will) in byes {
            let read = read(Version::V5, &mut BytesMut::from(bytes));
            assert_eq!(
                read,
                Ok(Some(Packet::Disconnect { keep_will, expiry_s: None })),
                "{bytes:02x?}"
            );
        }
    }
}

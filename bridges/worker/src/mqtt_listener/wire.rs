//! Packets of both versions as one kind: `rumqttc`'s packet modules read and write them.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self as mqtt4, v4};
use rumqttc::v5::mqttbytes::{self as mqtt5, v5};

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
        /// A subscription identifier, which is not offered.
        has_identifier: bool,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        keep_will: bool,
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
    pub will: Option<Publish>,
    /// Messages at QoS 1 and 2 that the client takes at once.
    pub receive_max: u16,
    pub packet_bytes_max: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// 0 at QoS 0.
    pub id: u16,
    pub expiry_s: Option<u32>,
    pub content_type: Option<String>,
    /// A topic alias, which is not offered.
    pub has_alias: bool,
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
        /// The name that a client without one is given.
        assigned: Option<String>,
        receive_max: u16,
    },
    Refused(Reason),
    Publish(Publish),
    PubAck(u16, Reason),
    PubRec(u16, Reason),
    PubRel(u16),
    PubComp(u16),
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
    Protocol,
    Version,
    ClientId,
    NotAuthorized,
    Unavailable,
    ShuttingDown,
    KeepAlive,
    TakenOver,
    FilterInvalid,
    TopicInvalid,
    ReceiveMax,
    AliasInvalid,
    Quota,
    PayloadInvalid,
    NoIdentifiers,
}

/// The bytes are not a packet, or one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

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

/// The reason of a good-bye that keeps the will (MQTT 5 §3.14.2.1).
const WITH_WILL: u8 = 0x04;

/// Takes the first packet off `bytes`; `None`: it is not all there.
pub fn read(version: Version, bytes: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
    let Some((header, rest)) = lengths(bytes) else {
        let no_length = bytes.len() >= 5;
        let malformed = || Malformed("a length of more than four bytes".to_owned());
        return if no_length { Err(malformed()) } else { Ok(None) };
    };
    if header + rest > PACKET_BYTES_MAX {
        let why = format!("{} bytes, of at most {PACKET_BYTES_MAX}", header + rest);
        return Err(Malformed(why));
    }
    if bytes.len() < header + rest {
        return Ok(None);
    }
    let mut packet = bytes.split_to(header + rest);
    match version {
        Version::V311 => {
            let read = v4::Packet::read(&mut packet, PACKET_BYTES_MAX);
            read.map(from_v4).map(Some).map_err(|why| Malformed(why.to_string()))
        }
        // The library wants a reason and properties, which a good-bye may leave out (§3.14.2).
        Version::V5 if packet.len() < 4 && packet.first() == Some(&0xE0) => {
            Ok(Some(Packet::Disconnect { keep_will: packet.get(2) == Some(&WITH_WILL) }))
        }
        Version::V5 => {
            let read = v5::Packet::read(&mut packet, Some(PACKET_BYTES_MAX as u32));
            read.map_err(|why| Malformed(why.to_string())).and_then(from_v5).map(Some)
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
            will: connect.last_will.map(|will| Publish {
                topic: will.topic,
                payload: will.message,
                qos: will.qos as u8,
                retain: will.retain,
                ..Publish::default()
            }),
            receive_max: u16::MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
        })),
        v4::Packet::Publish(publish) => Packet::Publish(Publish {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos as u8,
            retain: publish.retain,
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
            has_identifier: false,
        },
        v4::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
        }
        v4::Packet::PingReq => Packet::Ping,
        v4::Packet::Disconnect => Packet::Disconnect { keep_will: false },
        _ => Packet::Odd,
    }
}

fn text(bytes: &Bytes) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Malformed("a topic is not UTF-8".to_owned()))
}

fn from_v5(packet: v5::Packet) -> Result<Packet, Malformed> {
    Ok(match packet {
        v5::Packet::Connect(connect, will, login) => {
            let properties = connect.properties.as_ref();
            let packet_max = properties.and_then(|p| p.max_packet_size);
            let will = match will {
                None => None,
                Some(will) => Some(Publish {
                    topic: text(&will.topic)?,
                    payload: will.message,
                    qos: will.qos as u8,
                    retain: will.retain,
                    expiry_s: will.properties.as_ref().and_then(|p| p.message_expiry_interval),
                    content_type: will.properties.and_then(|p| p.content_type),
                    ..Publish::default()
                }),
            };
            Packet::Connect(Box::new(Connect {
                version: Version::V5,
                will,
                clean: connect.clean_start,
                keep_alive_s: connect.keep_alive,
                password: login.map(|login| login.password),
                receive_max: properties.and_then(|p| p.receive_maximum).unwrap_or(u16::MAX),
                packet_bytes_max: packet_max.map_or(PACKET_BYTES_MAX, |max| max as usize),
                client_id: connect.client_id,
            }))
        }
        v5::Packet::Publish(publish) => {
            let topic = text(&publish.topic)?;
            let properties = publish.properties.as_ref();
            Packet::Publish(Publish {
                topic,
                qos: publish.qos as u8,
                retain: publish.retain,
                id: publish.pkid,
                expiry_s: properties.and_then(|p| p.message_expiry_interval),
                content_type: properties.and_then(|p| p.content_type.clone()),
                has_alias: properties.is_some_and(|p| p.topic_alias.is_some()),
                payload: publish.payload,
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
            has_identifier: subscribe.properties.is_some_and(|p| p.id.is_some()),
        },
        v5::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
        }
        v5::Packet::PingReq(_) => Packet::Ping,
        v5::Packet::Disconnect(disconnect) => {
            let with_will = v5::DisconnectReasonCode::DisconnectWithWillMessage;
            Packet::Disconnect { keep_will: disconnect.reason_code == with_will }
        }
        _ => Packet::Odd,
    })
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

/// Appends `answer`. What a version has no words for is left out; so is what is longer than a
/// client takes, which is told by `false`.
pub fn write(version: Version, answer: &Answer, packet_max: usize, out: &mut BytesMut) -> bool {
    let max = packet_max.min(PACKET_BYTES_MAX);
    let before = out.len();
    let written = match version {
        Version::V311 => match to_v4(answer) {
            Some(packet) => packet.write(out, max).is_ok(),
            None => true,
        },
        Version::V5 => to_v5(answer).write(out, Some(max as u32)).is_ok(),
    };
    if !written {
        out.truncate(before);
    }
    written
}

fn to_v4(answer: &Answer) -> Option<v4::Packet> {
    use v4::{ConnAck, ConnectReturnCode};
    let qos = |qos: u8| mqtt4::qos(qos).unwrap_or(mqtt4::QoS::ExactlyOnce);
    Some(match answer {
        Answer::Connected { .. } => {
            v4::Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))
        }
        Answer::Refused(reason) => {
            let code = match reason {
                Reason::Version => ConnectReturnCode::RefusedProtocolVersion,
                Reason::ClientId => ConnectReturnCode::BadClientId,
                Reason::NotAuthorized => ConnectReturnCode::NotAuthorized,
                _ => ConnectReturnCode::ServiceUnavailable,
            };
            v4::Packet::ConnAck(ConnAck::new(code, false))
        }
        Answer::Publish(publish) => {
            let (topic, payload) = (publish.topic.as_str(), publish.payload.clone());
            let mut packet = v4::Publish::from_bytes(topic, qos(publish.qos), payload);
            (packet.retain, packet.pkid) = (publish.retain, publish.id);
            v4::Packet::Publish(packet)
        }
        Answer::PubAck(id, _) => v4::Packet::PubAck(v4::PubAck::new(*id)),
        Answer::PubRec(id, _) => v4::Packet::PubRec(v4::PubRec::new(*id)),
        Answer::PubRel(id) => v4::Packet::PubRel(v4::PubRel::new(*id)),
        Answer::PubComp(id) => v4::Packet::PubComp(v4::PubComp::new(*id)),
        Answer::Subscribed { id, granted } => {
            let codes = granted.iter().map(|granted| match granted {
                Ok(granted) => v4::SubscribeReasonCode::Success(qos(*granted)),
                Err(_) => v4::SubscribeReasonCode::Failure,
            });
            v4::Packet::SubAck(v4::SubAck::new(*id, codes.collect()))
        }
        Answer::Unsubscribed { id, .. } => v4::Packet::UnsubAck(v4::UnsubAck::new(*id)),
        Answer::Pong => v4::Packet::PingResp,
        Answer::Disconnect(_) => return None,
    })
}

fn to_v5(answer: &Answer) -> v5::Packet {
    let qos = |qos: u8| mqtt5::qos(qos).unwrap_or(mqtt5::QoS::ExactlyOnce);
    match answer {
        Answer::Connected { assigned, receive_max } => {
            v5::Packet::ConnAck(connected(assigned.clone(), *receive_max))
        }
        Answer::Refused(reason) => v5::Packet::ConnAck(v5::ConnAck {
            session_present: false,
            code: refusal(*reason),
            properties: None,
        }),
        Answer::Publish(publish) => {
            let properties = v5::PublishProperties {
                message_expiry_interval: publish.expiry_s,
                content_type: publish.content_type.clone(),
                ..Default::default()
            };
            let payload = publish.payload.clone();
            let (topic, qos) = (publish.topic.as_str(), qos(publish.qos));
            let mut packet = v5::Publish::new(topic, qos, payload, Some(properties));
            (packet.retain, packet.pkid) = (publish.retain, publish.id);
            v5::Packet::Publish(packet)
        }
        Answer::PubAck(id, reason) => {
            let mut ack = v5::PubAck::new(*id, None);
            ack.reason = match reason {
                Reason::Success => v5::PubAckReason::Success,
                Reason::TopicInvalid => v5::PubAckReason::TopicNameInvalid,
                Reason::PayloadInvalid => v5::PubAckReason::PayloadFormatInvalid,
                _ => v5::PubAckReason::UnspecifiedError,
            };
            v5::Packet::PubAck(ack)
        }
        Answer::PubRec(id, reason) => {
            let mut ack = v5::PubRec::new(*id, None);
            ack.reason = match reason {
                Reason::Success => v5::PubRecReason::Success,
                Reason::TopicInvalid => v5::PubRecReason::TopicNameInvalid,
                Reason::PayloadInvalid => v5::PubRecReason::PayloadFormatInvalid,
                _ => v5::PubRecReason::UnspecifiedError,
            };
            v5::Packet::PubRec(ack)
        }
        Answer::PubRel(id) => v5::Packet::PubRel(v5::PubRel::new(*id, None)),
        Answer::PubComp(id) => v5::Packet::PubComp(v5::PubComp::new(*id, None)),
        Answer::Subscribed { id, granted } => {
            let codes = granted.iter().map(|granted| match granted {
                Ok(granted) => v5::SubscribeReasonCode::Success(qos(*granted)),
                Err(Reason::FilterInvalid) => v5::SubscribeReasonCode::TopicFilterInvalid,
                Err(Reason::Quota) => v5::SubscribeReasonCode::QuotaExceeded,
                Err(Reason::NotAuthorized) => v5::SubscribeReasonCode::NotAuthorized,
                Err(_) => v5::SubscribeReasonCode::Unspecified,
            });
            let return_codes = codes.collect();
            v5::Packet::SubAck(v5::SubAck { pkid: *id, return_codes, properties: None })
        }
        Answer::Unsubscribed { id, existed } => {
            let reasons = existed.iter().map(|existed| match existed {
                true => v5::UnsubAckReason::Success,
                false => v5::UnsubAckReason::NoSubscriptionExisted,
            });
            let reasons = reasons.collect();
            v5::Packet::UnsubAck(v5::UnsubAck { pkid: *id, reasons, properties: None })
        }
        Answer::Pong => v5::Packet::PingResp(v5::PingResp),
        Answer::Disconnect(reason) => {
            v5::Packet::Disconnect(v5::Disconnect::new(farewell(*reason)))
        }
    }
}

/// What is offered: no session beyond the connection, no identifiers, no aliases.
fn connected(assigned_client_identifier: Option<String>, receive_max: u16) -> v5::ConnAck {
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(0),
        receive_max: Some(receive_max),
        max_qos: None,
        retain_available: None,
        max_packet_size: Some(PACKET_BYTES_MAX as u32),
        assigned_client_identifier,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: Some(0),
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    v5::ConnAck {
        session_present: false,
        code: v5::ConnectReturnCode::Success,
        properties: Some(properties),
    }
}

fn refusal(reason: Reason) -> v5::ConnectReturnCode {
    use v5::ConnectReturnCode as Code;
    match reason {
        Reason::Version => Code::UnsupportedProtocolVersion,
        Reason::ClientId => Code::ClientIdentifierNotValid,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::Malformed => Code::MalformedPacket,
        Reason::Protocol => Code::ProtocolError,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::PayloadInvalid => Code::PayloadFormatInvalid,
        Reason::Quota => Code::QuotaExceeded,
        _ => Code::ServerUnavailable,
    }
}

fn farewell(reason: Reason) -> v5::DisconnectReasonCode {
    use v5::DisconnectReasonCode as Code;
    match reason {
        Reason::Success => Code::NormalDisconnection,
        Reason::Malformed => Code::MalformedPacket,
        Reason::Protocol => Code::ProtocolError,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::ShuttingDown => Code::ServerShuttingDown,
        Reason::KeepAlive => Code::KeepAliveTimeout,
        Reason::TakenOver => Code::SessionTakenOver,
        Reason::FilterInvalid => Code::TopicFilterInvalid,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::ReceiveMax => Code::ReceiveMaximumExceeded,
        Reason::AliasInvalid => Code::TopicAliasInvalid,
        Reason::Quota => Code::QuotaExceeded,
        Reason::PayloadInvalid => Code::PayloadFormatInvalid,
        Reason::NoIdentifiers => Code::SubscriptionIdentifiersNotSupported,
        Reason::Version | Reason::ClientId | Reason::Unavailable => Code::UnspecifiedError,
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
            assert_eq!(read, Ok(Some(Packet::Disconnect { keep_will })), "{bytes:02x?}");
        }
    }
}

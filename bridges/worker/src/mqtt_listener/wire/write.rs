//! Answers as packets of the version that a client speaks.

use bytes::BytesMut;
use rumqttc::mqttbytes::{self as mqtt4, v4};
use rumqttc::v5::mqttbytes::{self as mqtt5, v5};

use super::{Answer, PACKET_BYTES_MAX, Publish, Reason, Version};

/// Appends `answer`. What a version has no words for is left out; so is what is longer than a
/// client takes, which is told by `false`.
pub fn write(version: Version, answer: &Answer, packet_max: usize, out: &mut BytesMut) -> bool {
    let max = packet_max.min(PACKET_BYTES_MAX);
    let before = out.len();
    let written = match (version, answer) {
        (Version::V311, _) => match to_v4(answer) {
            Some(packet) => packet.write(out, max).is_ok(),
            None => true,
        },
        (Version::V5, Answer::Disconnect(reason)) => {
            if to_v5(answer).write(out, Some(max as u32)).is_err() {
                // Without words the library counts a byte less than it writes (§3.14).
                out.extend_from_slice(&[0xE0, 2, farewell(*reason) as u8, 0]);
            }
            max >= 4
        }
        (Version::V5, _) => to_v5(answer).write(out, Some(max as u32)).is_ok(),
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
        Answer::Connected { present, .. } => {
            v4::Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, *present))
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
            (packet.retain, packet.dup, packet.pkid) = (publish.retain, publish.dup, publish.id);
            v4::Packet::Publish(packet)
        }
        Answer::PubAck { id, .. } => v4::Packet::PubAck(v4::PubAck::new(*id)),
        Answer::PubRec { id, .. } => v4::Packet::PubRec(v4::PubRec::new(*id)),
        Answer::PubRel { id, .. } => v4::Packet::PubRel(v4::PubRel::new(*id)),
        Answer::PubComp { id, .. } => v4::Packet::PubComp(v4::PubComp::new(*id)),
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
        Answer::Connected { .. } => v5::Packet::ConnAck(connected(answer)),
        Answer::Refused(reason) => v5::Packet::ConnAck(v5::ConnAck {
            session_present: false,
            code: refusal(*reason),
            properties: None,
        }),
        Answer::Publish(publish) => v5::Packet::Publish(published(publish)),
        Answer::PubAck { id, reason, why } => {
            let words = v5::PubAckProperties { reason_string: words(why), user_properties: vec![] };
            let words = words.reason_string.is_some().then_some(words);
            let mut ack = v5::PubAck::new(*id, words);
            ack.reason = match reason {
                Reason::Success => v5::PubAckReason::Success,
                Reason::NotAuthorized => v5::PubAckReason::NotAuthorized,
                Reason::TopicInvalid => v5::PubAckReason::TopicNameInvalid,
                Reason::PayloadInvalid => v5::PubAckReason::PayloadFormatInvalid,
                Reason::Quota => v5::PubAckReason::QuotaExceeded,
                Reason::Router => v5::PubAckReason::ImplementationSpecificError,
                _ => v5::PubAckReason::UnspecifiedError,
            };
            v5::Packet::PubAck(ack)
        }
        Answer::PubRec { id, reason, why } => {
            let words = v5::PubRecProperties { reason_string: words(why), user_properties: vec![] };
            let words = words.reason_string.is_some().then_some(words);
            let mut ack = v5::PubRec::new(*id, words);
            ack.reason = match reason {
                Reason::Success => v5::PubRecReason::Success,
                Reason::NotAuthorized => v5::PubRecReason::NotAuthorized,
                Reason::TopicInvalid => v5::PubRecReason::TopicNameInvalid,
                Reason::PayloadInvalid => v5::PubRecReason::PayloadFormatInvalid,
                Reason::Quota => v5::PubRecReason::QuotaExceeded,
                Reason::Router => v5::PubRecReason::ImplementationSpecificError,
                _ => v5::PubRecReason::UnspecifiedError,
            };
            v5::Packet::PubRec(ack)
        }
        Answer::PubRel { id, known } => {
            let mut ack = v5::PubRel::new(*id, None);
            if !known {
                ack.reason = v5::PubRelReason::PacketIdentifierNotFound;
            }
            v5::Packet::PubRel(ack)
        }
        Answer::PubComp { id, known } => {
            let mut ack = v5::PubComp::new(*id, None);
            if !known {
                ack.reason = v5::PubCompReason::PacketIdentifierNotFound;
            }
            v5::Packet::PubComp(ack)
        }
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
            let mut bye = v5::Disconnect::new(farewell(*reason));
            bye.properties = Some(v5::DisconnectProperties {
                session_expiry_interval: None,
                reason_string: Some(in_words(*reason).to_owned()),
                user_properties: Vec::new(),
                server_reference: None,
            });
            v5::Packet::Disconnect(bye)
        }
    }
}

fn words(why: &str) -> Option<String> {
    (!why.is_empty()).then(|| why.to_owned())
}

fn published(publish: &Publish) -> v5::Publish {
    let properties = v5::PublishProperties {
        message_expiry_interval: publish.expiry_s,
        topic_alias: publish.alias,
        response_topic: publish.response_topic.clone(),
        correlation_data: publish.correlation.clone(),
        user_properties: publish.user.clone(),
        content_type: publish.content_type.clone(),
        subscription_identifiers: publish.identifiers.iter().map(|id| *id as usize).collect(),
        payload_format_indicator: None,
    };
    let qos = mqtt5::qos(publish.qos).unwrap_or(mqtt5::QoS::ExactlyOnce);
    let payload = publish.payload.clone();
    let mut packet = v5::Publish::new(publish.topic.as_str(), qos, payload, Some(properties));
    (packet.retain, packet.dup, packet.pkid) = (publish.retain, publish.dup, publish.id);
    packet
}

/// What is offered, which is all that a server may leave out but enhanced authentication.
fn connected(answer: &Answer) -> v5::ConnAck {
    let mut ack = v5::ConnAck {
        session_present: false,
        code: v5::ConnectReturnCode::Success,
        properties: None,
    };
    let Answer::Connected { present, assigned, receive_max, expiry_s, aliases_max } = answer else {
        return ack;
    };
    ack.session_present = *present;
    ack.properties = Some(v5::ConnAckProperties {
        session_expiry_interval: Some(*expiry_s),
        receive_max: Some(*receive_max),
        max_qos: None,
        retain_available: None,
        max_packet_size: Some(PACKET_BYTES_MAX as u32),
        assigned_client_identifier: assigned.clone(),
        topic_alias_max: Some(*aliases_max),
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    });
    ack
}

fn refusal(reason: Reason) -> v5::ConnectReturnCode {
    use v5::ConnectReturnCode as Code;
    match reason {
        Reason::Version => Code::UnsupportedProtocolVersion,
        Reason::ClientId => Code::ClientIdentifierNotValid,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::Malformed => Code::MalformedPacket,
        Reason::TooLong => Code::PacketTooLarge,
        Reason::Method => Code::BadAuthenticationMethod,
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
        Reason::TooLong => Code::PacketTooLarge,
        Reason::Protocol => Code::ProtocolError,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::ShuttingDown => Code::ServerShuttingDown,
        Reason::KeepAlive => Code::KeepAliveTimeout,
        Reason::Expired => Code::NotAuthorized,
        Reason::TakenOver => Code::SessionTakenOver,
        Reason::FilterInvalid => Code::TopicFilterInvalid,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::ReceiveMax => Code::ReceiveMaximumExceeded,
        Reason::AliasInvalid => Code::TopicAliasInvalid,
        Reason::Quota => Code::QuotaExceeded,
        Reason::PayloadInvalid => Code::PayloadFormatInvalid,
        Reason::Router => Code::ImplementationSpecificError,
        Reason::Version | Reason::ClientId | Reason::Method | Reason::Unavailable => {
            Code::UnspecifiedError
        }
    }
}

/// Why a connection is ended.
fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Success => "good-bye",
        Reason::Malformed => "a packet that is none",
        Reason::TooLong => "a packet that is longer than the maximum packet size",
        Reason::Protocol => "a packet that may not come here, or not like that",
        Reason::NotAuthorized => "the token does not allow it",
        Reason::Unavailable | Reason::Router => "the router is not there",
        Reason::ShuttingDown => "the router stops",
        Reason::KeepAlive => "nothing was heard for one and a half times the keep-alive",
        Reason::Expired => "the token has expired",
        Reason::TakenOver => "another connection has this client id now",
        Reason::FilterInvalid => "no such filter",
        Reason::TopicInvalid => "no such topic",
        Reason::ReceiveMax => "more messages at once than the receive maximum",
        Reason::AliasInvalid => "a topic alias beyond the maximum",
        Reason::Quota => "too many subscriptions at once",
        Reason::PayloadInvalid => "the payload is not of the form that is wanted",
        Reason::Version | Reason::ClientId => "no such version, or no such client id",
        Reason::Method => "no method of authentication but a password is spoken",
    }
}

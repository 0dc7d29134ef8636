//! Sessions that outlive their connection, and what only MQTT 5 can say.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5;

use super::*;

/// A machine, and its client's side in MQTT 5.
struct Client {
    bench: Bench,
    packets: Vec<v5::Packet>,
    frames: Vec<String>,
}

/// What a CONNECT says beside the name.
fn properties(expiry_s: u32) -> v5::ConnectProperties {
    v5::ConnectProperties {
        session_expiry_interval: Some(expiry_s),
        ..v5::ConnectProperties::new()
    }
}

fn connect(properties: v5::ConnectProperties, will_delay_s: Option<u32>) -> Vec<u8> {
    let connect = v5::Connect {
        keep_alive: 0,
        client_id: "lamp".to_owned(),
        clean_start: false,
        properties: Some(properties),
    };
    let will = will_delay_s.map(|delay| {
        let properties = v5::LastWillProperties {
            delay_interval: Some(delay),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        v5::LastWill::new("lamp/status", "offline", QoS::AtLeastOnce, true, Some(properties))
    });
    let mut bytes = BytesMut::new();
    v5::Packet::Connect(connect, will, None).write(&mut bytes, None).expect("a packet");
    bytes.to_vec()
}

impl Client {
    fn new(connect: &[u8]) -> Self {
        let mut client = Self { bench: Bench::new(), packets: Vec::new(), frames: Vec::new() };
        client.step(Input::Bytes(connect));
        client.step(Input::Joined);
        client
    }

    fn step(&mut self, input: Input<'_>) {
        let mut out = Out::default();
        let Bench { session, groups, now, .. } = &mut self.bench;
        session.step(*now, input, groups, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Out) {
        for frame in &out.frames {
            match sync_in(frame) {
                Some(serial) => self.bench.syncs.push_back(serial),
                None => self.frames.push(text_of(frame)),
            }
        }
        let mut packets = out.packets;
        while !packets.is_empty() {
            self.packets.push(v5::Packet::read(&mut packets, None).expect("a packet"));
        }
    }

    /// Another connection of this client.
    fn returns(&mut self, connect: &[u8]) {
        let Bench { session, groups, now, .. } = &mut self.bench;
        let mut other = Session::new(settings(), 9, *now);
        other.step(*now, Input::Bytes(connect), groups, &mut Out::default());
        let newcomer = other.into_newcomer().expect("it wants to join");
        let mut out = Out::default();
        session.resume(*now, newcomer, groups, &mut out);
        self.carry_out(out);
    }

    fn send(&mut self, packet: v5::Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).expect("a packet");
        self.step(Input::Bytes(&bytes));
    }

    fn publish(&mut self, topic: &str, qos: QoS, id: u16, alias: Option<u16>) {
        let properties = v5::PublishProperties { topic_alias: alias, ..Default::default() };
        let mut publish = v5::Publish::new(topic, qos, "1", Some(properties));
        (publish.pkid, publish.retain) = (id, true);
        self.send(v5::Packet::Publish(publish));
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = v5::Filter::new(filter, qos);
        let mut subscribe = v5::Subscribe::new(filters, None);
        subscribe.pkid = 1;
        self.send(v5::Packet::Subscribe(subscribe));
        let t1 = self.bench.syncs.pop_front().expect("a SYNC");
        self.step(Input::Router(Message::Sync(Sync { t1, t2: Some(0), t3: Some(0) })));
        self.packets.clear();
    }

    fn router(&mut self, text: &str) {
        let mut frame = Vec::new();
        json::to_frame(text, &mut frame).expect("a message");
        let payload = header::parse(&frame).expect("a frame").payload;
        self.step(Input::Router(binary::decode(payload).expect("a message")));
    }

    fn after(&mut self, seconds: u64) {
        self.bench.now = self.bench.now + Span::from_secs(seconds);
        self.step(Input::Deadline);
    }

    fn publishes(&mut self) -> Vec<v5::Publish> {
        let packets = std::mem::take(&mut self.packets).into_iter();
        let publishes = packets.filter_map(|packet| match packet {
            v5::Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        publishes.collect()
    }

    fn payloads(&mut self) -> Vec<String> {
        let text = |publish: v5::Publish| String::from_utf8_lossy(&publish.payload).into_owned();
        self.publishes().into_iter().map(text).collect()
    }

    fn say(&mut self, kind: &str, address: &str, value: u32) {
        self.router(&match kind {
            "event" => format!(
                r#"{{"type":"PUBLISH","signal":"event","address":"{address}","value":{value}}}"#
            ),
            _ => format!(r#"{{"type":"SET","address":"{address}","value":{value}}}"#),
        });
    }
}

#[test]
fn what_the_router_refuses_is_told_with_its_reason() {
    let mut client = Client::new(&connect(properties(0), None));
    let cases = [
        (301, "no scope of this token allows it", v5::PubAckReason::NotAuthorized),
        (400, "lock held by session x", v5::PubAckReason::ImplementationSpecificError),
        (400, "at capacity: no room", v5::PubAckReason::QuotaExceeded),
        (402, "too long", v5::PubAckReason::PayloadFormatInvalid),
        (200, "no address", v5::PubAckReason::TopicNameInvalid),
    ];
    for (code, why, reason) in cases {
        client.packets.clear();
        client.publish("stage/a", QoS::AtLeastOnce, 7, None);
        assert!(client.packets.is_empty(), "it waits for the router");
        client.router(&format!(
            r#"{{"type":"ERROR","code":{code},"message":"{why}","address":"/mqtt/stage/a"}}"#
        ));
        let [v5::Packet::PubAck(ack)] = client.packets.as_slice() else {
            panic!("{:?}", client.packets);
        };
        assert_eq!((ack.pkid, ack.reason), (7, reason));
        let words = ack.properties.as_ref().and_then(|words| words.reason_string.clone());
        assert_eq!(words.as_deref(), Some(why));
    }
    client.packets.clear();
    client.publish("stage/a", QoS::ExactlyOnce, 8, None);
    client.router(r#"{"type":"ERROR","code":301,"message":"no","address":"/mqtt/stage/a"}"#);
    let [v5::Packet::PubRec(received)] = client.packets.as_slice() else {
        panic!("{:?}", client.packets);
    };
    assert_eq!(received.reason, v5::PubRecReason::NotAuthorized);
    assert!(client.bench.session.received.is_empty(), "its id is free again");
    assert_eq!(client.bench.session.counts.refused, 6);
}

#[test]
fn words_are_left_out_where_they_are_not_wanted_or_do_not_fit() {
    let quiet = v5::ConnectProperties { request_problem_info: Some(0), ..properties(0) };
    let small = v5::ConnectProperties { max_packet_size: Some(40), ..properties(0) };
    for properties in [quiet, small] {
        let mut client = Client::new(&connect(properties, None));
        client.packets.clear();
        client.publish("a", QoS::AtLeastOnce, 7, None);
        let why = "x".repeat(60);
        client.router(&format!(
            r#"{{"type":"ERROR","code":301,"message":"{why}","address":"/mqtt/a"}}"#
        ));
        let [v5::Packet::PubAck(ack)] = client.packets.as_slice() else {
            panic!("{:?}", client.packets);
        };
        assert_eq!(ack.reason, v5::PubAckReason::NotAuthorized);
        assert_eq!(ack.properties, None);
    }
}

#[test]
fn a_client_of_3_1_1_is_acknowledged_all_the_same_and_the_log_told_once() {
    let mut bench = Bench::connected();
    let mut complaints = 0;
    for id in 1..=3 {
        bench.publish("a", "1", rumqttc::mqttbytes::QoS::AtLeastOnce, true, id);
        let error = r#"{"type":"ERROR","code":301,"message":"no scope","address":"/mqtt/a"}"#;
        let mut frame = Vec::new();
        json::to_frame(error, &mut frame).expect("a message");
        let payload = header::parse(&frame).expect("a frame").payload;
        let error = Input::Router(binary::decode(payload).expect("a message"));
        let mut out = Out::default();
        bench.session.step(bench.now, error, &mut bench.groups, &mut out);
        complaints += usize::from(out.complaint.is_some_and(|why| why.contains("no scope")));
        bench.carry_out(Out { complaint: None, ..out });
        assert_eq!(bench.packets.pop(), Some(v4::Packet::PubAck(v4::PubAck::new(id))));
    }
    assert_eq!((complaints, bench.session.counts.refused), (1, 3));
}

#[test]
fn what_the_router_dropped_is_known_by_a_later_answer_or_after_a_while() {
    let mut client = Client::new(&connect(properties(0), None));
    client.packets.clear();
    for id in 1..=4 {
        client.publish(&format!("a/{id}"), QoS::AtLeastOnce, id, None);
    }
    client.router(r#"{"type":"ERROR","code":429,"message":"Rate limit exceeded"}"#);
    client.router(r#"{"type":"ACK","address":"/mqtt/a/3","revision":1}"#);
    let acks = |packets: &[v5::Packet]| {
        let acks = packets.iter().filter_map(|packet| match packet {
            v5::Packet::PubAck(ack) => Some((ack.pkid, ack.reason)),
            _ => None,
        });
        acks.collect::<Vec<_>>()
    };
    let dropped = v5::PubAckReason::QuotaExceeded;
    let expected = [(1, dropped), (2, dropped), (3, v5::PubAckReason::Success)];
    assert_eq!(acks(&client.packets), expected);
    client.packets.clear();
    client.after(1);
    assert_eq!(acks(&client.packets), [(4, dropped)]);
    client.packets.clear();
    client.after(5);
    client.publish("a/5", QoS::AtLeastOnce, 5, None);
    client.after(5);
    let unknown = v5::PubAckReason::ImplementationSpecificError;
    assert_eq!(acks(&client.packets), [(5, unknown)], "a router that says nothing");
}

#[test]
fn a_session_goes_on_with_the_next_connection() {
    let kept = connect(properties(300), None);
    let mut client = Client::new(&kept);
    client.subscribe("stage/#", QoS::AtLeastOnce);
    client.subscribe("loose/#", QoS::AtMostOnce);
    client.frames.clear();
    client.say("event", "/mqtt/stage/go", 1);
    let [first] = client.publishes().try_into().expect("one");
    client.step(Input::Closed);
    assert!(client.bench.session.keeps() && !client.bench.session.has_ended());
    for value in 2..=4 {
        client.say("event", "/mqtt/stage/go", value);
        client.say("set", "/mqtt/stage/level", value * 10);
        client.say("set", "/mqtt/loose/level", value);
    }
    assert!(client.packets.is_empty());
    client.after(299);
    client.returns(&kept);
    let v5::Packet::ConnAck(ack) = client.packets.remove(0) else { panic!("no CONNACK") };
    let expiry = ack.properties.and_then(|properties| properties.session_expiry_interval);
    assert_eq!((ack.session_present, expiry), (true, Some(300)));
    let told = client.publishes();
    assert!(told[0].dup && told[0].pkid == first.pkid, "what was not acknowledged comes again");
    let payloads: Vec<_> = told.iter().map(|told| &told.payload[..]).collect();
    assert_eq!(payloads, [&b"1"[..], b"2", b"40", b"3", b"4"], "events in order, params newest");
    assert!(client.frames.is_empty(), "the router is not asked again");
    client.step(Input::Closed);
    client.after(300);
    assert!(client.bench.session.has_ended(), "its time is over");
}

#[test]
fn a_message_at_qos_2_is_taken_once_across_connections() {
    let kept = connect(properties(300), None);
    let mut client = Client::new(&kept);
    client.subscribe("out/#", QoS::ExactlyOnce);
    client.say("event", "/mqtt/out/go", 1);
    client.say("event", "/mqtt/out/go", 2);
    let ids: Vec<_> = client.publishes().iter().map(|publish| publish.pkid).collect();
    client.send(v5::Packet::PubRec(v5::PubRec::new(ids[0], None)));
    client.publish("in/go", QoS::ExactlyOnce, 5, None);
    client.step(Input::Closed);
    client.router(r#"{"type":"ACK","address":"/mqtt/in/go","revision":1}"#);
    client.packets.clear();
    client.frames.clear();
    client.returns(&kept);
    let again: Vec<_> = client.packets.iter().skip(1).collect();
    let [v5::Packet::PubRel(released), v5::Packet::Publish(second)] = again.as_slice() else {
        panic!("{again:?}");
    };
    assert_eq!((released.pkid, second.pkid, second.dup), (ids[0], ids[1], true));
    client.packets.clear();
    client.publish("in/go", QoS::ExactlyOnce, 5, None);
    assert!(client.frames.is_empty(), "the router has it");
    let received = v5::PubRec::new(5, None);
    assert_eq!(client.packets, [v5::Packet::PubRec(received)]);
}

#[test]
fn what_has_no_room_while_a_client_is_away_is_counted() {
    let kept = connect(properties(300), None);
    let mut client = Client::new(&kept);
    client.subscribe("stage/#", QoS::AtLeastOnce);
    client.step(Input::Closed);
    let events = settings().room.events as u32;
    for value in 0..events + 3 {
        client.say("event", "/mqtt/stage/go", value);
    }
    assert_eq!(client.bench.session.counts.overflowed, 3);
    client.returns(&kept);
    assert_eq!(client.payloads()[0], "3", "the oldest are gone");
}

#[test]
fn a_session_lasts_as_long_as_was_asked_last_and_allowed() {
    let mut client = Client::new(&connect(properties(u32::MAX), None));
    let v5::Packet::ConnAck(ack) = client.packets.remove(0) else { panic!("no CONNACK") };
    let granted = ack.properties.and_then(|properties| properties.session_expiry_interval);
    assert_eq!(granted, Some(settings().expiry_s_max), "never is not granted");
    let bye = |expiry_s: u32| {
        let mut bye = v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection);
        bye.properties = Some(v5::DisconnectProperties {
            session_expiry_interval: Some(expiry_s),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        });
        v5::Packet::Disconnect(bye)
    };
    client.send(bye(10));
    client.after(9);
    assert!(!client.bench.session.has_ended());
    client.after(1);
    assert!(client.bench.session.has_ended());
    let mut fleeting = Client::new(&connect(properties(0), None));
    fleeting.packets.clear();
    fleeting.send(bye(10));
    let [v5::Packet::Disconnect(why)] = fleeting.packets.as_slice() else { panic!("no reason") };
    assert_eq!(why.reason_code, v5::DisconnectReasonCode::ProtocolError);
    assert!(fleeting.bench.session.has_ended());
}

#[test]
fn a_will_waits_for_its_client_as_long_as_the_session_lasts() {
    let offline = r#"{"type":"SET","address":"/mqtt/lamp/status","value":"offline"}"#;
    let with_will = |expiry_s, delay_s| Client::new(&connect(properties(expiry_s), Some(delay_s)));
    let mut late = with_will(300, 20);
    late.step(Input::Closed);
    late.after(19);
    assert!(late.frames.is_empty());
    late.after(1);
    assert_eq!(late.frames, [offline]);
    let mut back = with_will(300, 20);
    back.step(Input::Closed);
    back.after(19);
    back.returns(&connect(properties(300), None));
    back.after(5);
    assert!(back.frames.is_empty(), "it came back in time");
    let mut short = with_will(10, 20);
    short.step(Input::Closed);
    short.after(10);
    assert_eq!(short.frames, [offline], "with the end of the session at the latest");
    let mut at_once = with_will(0, 20);
    at_once.step(Input::Closed);
    assert_eq!(at_once.frames, [offline], "there is no session to wait for");
}

#[test]
fn topics_are_shortened_both_ways() {
    let wants = v5::ConnectProperties { topic_alias_max: Some(1), ..properties(300) };
    let mut client = Client::new(&connect(wants.clone(), None));
    client.publish("stage/a", QoS::AtMostOnce, 0, Some(3));
    client.publish("", QoS::AtMostOnce, 0, Some(3));
    assert_eq!(client.frames.len(), 2);
    assert_eq!(client.frames[0], client.frames[1]);
    client.subscribe("stage/#", QoS::AtMostOnce);
    let told = |client: &mut Client| {
        client.say("set", "/mqtt/stage/level", 1);
        let [publish] = client.publishes().try_into().expect("one");
        let alias = publish.properties.and_then(|properties| properties.topic_alias);
        (String::from_utf8_lossy(&publish.topic).into_owned(), alias)
    };
    assert_eq!(told(&mut client), ("stage/level".to_owned(), Some(1)));
    assert_eq!(told(&mut client), (String::new(), Some(1)));
    client.step(Input::Closed);
    client.returns(&connect(wants, None));
    assert_eq!(told(&mut client), ("stage/level".to_owned(), Some(1)), "they are a connection's");
    client.packets.clear();
    client.publish("stage/a", QoS::AtMostOnce, 0, Some(aliases::ALIASES_MAX + 1));
    let [v5::Packet::Disconnect(why)] = client.packets.as_slice() else { panic!("no reason") };
    assert_eq!(why.reason_code, v5::DisconnectReasonCode::TopicAliasInvalid);
}

#[test]
fn what_waits_grows_older_and_is_not_sent_beyond_its_time() {
    let kept = connect(properties(300), None);
    let mut client = Client::new(&kept);
    client.subscribe("#", QoS::AtLeastOnce);
    let set = |name: &str, ttl: u32| {
        format!(r#"{{"type":"SET","address":"/mqtt/{name}","value":1,"ttl":{ttl}}}"#)
    };
    client.router(&set("now", 50));
    let expiry = |publish: &v5::Publish| {
        publish.properties.as_ref().and_then(|properties| properties.message_expiry_interval)
    };
    let told = client.publishes();
    assert_eq!(expiry(&told[0]), Some(50), "the TTL of a param is its expiry");
    client.send(v5::Packet::PubAck(v5::PubAck::new(told[0].pkid, None)));
    client.step(Input::Closed);
    client.router(&set("long", 50));
    client.router(&set("short", 10));
    client.after(20);
    client.returns(&kept);
    let told = client.publishes();
    assert_eq!((told.len(), &told[0].topic[..], expiry(&told[0])), (1, &b"long"[..], Some(30)));
}

#[test]
fn a_client_is_sent_no_more_and_no_longer_than_it_takes() {
    let wants = v5::ConnectProperties {
        receive_maximum: Some(2),
        max_packet_size: Some(64),
        ..properties(300)
    };
    let mut client = Client::new(&connect(wants.clone(), None));
    client.subscribe("#", QoS::AtLeastOnce);
    for value in 1..=5 {
        client.say("event", "/mqtt/go", value);
    }
    let told = client.publishes();
    assert_eq!(told.len(), 2);
    client.step(Input::Closed);
    client.returns(&wants_one(&wants));
    assert_eq!(client.payloads(), ["1"], "on another connection it takes one at a time");
    for (taken, next) in [(told[0].pkid, "2"), (told[1].pkid, "3")] {
        client.send(v5::Packet::PubAck(v5::PubAck::new(taken, None)));
        assert_eq!(client.payloads(), [next]);
    }
    let refused = client.bench.session.counts.refused;
    let long = format!(r#"{{"type":"SET","address":"/mqtt/a","value":"{}"}}"#, "x".repeat(100));
    let mut other = Client::new(&connect(wants, None));
    other.subscribe("#", QoS::AtLeastOnce);
    other.router(&long);
    assert!(other.packets.is_empty(), "longer than it takes: as if it had been sent");
    assert_eq!(other.bench.session.counts.refused, refused + 1);
    other.say("event", "/mqtt/go", 1);
    assert_eq!(other.payloads(), ["1"]);
}

fn wants_one(wants: &v5::ConnectProperties) -> Vec<u8> {
    connect(v5::ConnectProperties { receive_maximum: Some(1), ..wants.clone() }, None)
}

/// A SUBSCRIBE with an identifier, once the router has answered it.
fn subscribe_as(client: &mut Client, filter: &str, identifier: Option<usize>) {
    let mut wanted = v5::Filter::new(filter, QoS::AtLeastOnce);
    wanted.retain_forward_rule = v5::RetainForwardRule::Never;
    let properties = v5::SubscribeProperties { id: identifier, user_properties: Vec::new() };
    let mut subscribe = v5::Subscribe::new(wanted, Some(properties));
    subscribe.pkid = 1;
    client.send(v5::Packet::Subscribe(subscribe));
    if let Some(t1) = client.bench.syncs.pop_front() {
        client.step(Input::Router(Message::Sync(Sync { t1, t2: Some(0), t3: Some(0) })));
        client.packets.clear();
    }
}

fn reason(client: &Client) -> v5::DisconnectReasonCode {
    let [v5::Packet::Disconnect(why)] = client.packets.as_slice() else { panic!("no reason") };
    why.reason_code
}

#[test]
fn a_message_carries_the_identifiers_of_all_subscriptions_that_want_it() {
    let kept = connect(properties(300), None);
    let mut client = Client::new(&kept);
    let greatest = 268_435_455;
    subscribe_as(&mut client, "stage/#", Some(7));
    subscribe_as(&mut client, "stage/+", Some(greatest));
    subscribe_as(&mut client, "stage/level", None);
    subscribe_as(&mut client, "other/#", Some(1));
    let told = |client: &mut Client| -> Vec<Vec<usize>> {
        let identifiers = |publish: v5::Publish| {
            publish.properties.map(|properties| properties.subscription_identifiers)
        };
        client.publishes().into_iter().map(|publish| identifiers(publish).unwrap()).collect()
    };
    client.say("set", "/mqtt/stage/level", 1);
    client.say("event", "/mqtt/stage/a/b", 1);
    assert_eq!(told(&mut client), [vec![7, greatest], vec![7]]);
    // What waits keeps those that it came for; a subscription that is renewed has the new one.
    client.step(Input::Closed);
    client.say("event", "/mqtt/stage/go", 2);
    client.returns(&kept);
    subscribe_as(&mut client, "stage/+", Some(9));
    subscribe_as(&mut client, "stage/#", None);
    client.packets.clear();
    client.say("event", "/mqtt/stage/go", 3);
    assert_eq!(told(&mut client), [vec![9]]);
    subscribe_as(&mut client, "stage/a", Some(0));
    assert_eq!(reason(&client), v5::DisconnectReasonCode::ProtocolError);
}

#[test]
fn what_no_client_may_send_ends_the_connection_with_its_reason() {
    let mut client = Client::new(&connect(properties(0), None));
    client.packets.clear();
    let with_identifier =
        v5::PublishProperties { subscription_identifiers: vec![3], ..Default::default() };
    let publish = v5::Publish::new("a", QoS::AtMostOnce, "1", Some(with_identifier));
    client.send(v5::Packet::Publish(publish));
    assert_eq!(reason(&client), v5::DisconnectReasonCode::ProtocolError);
    let mut long = Client::new(&connect(properties(0), None));
    long.packets.clear();
    // All but the first bytes may stay away: the length tells.
    long.step(Input::Bytes(&[0x30, 0xFF, 0xFF, 0x7F, 0, 1, b'a']));
    assert_eq!(reason(&long), v5::DisconnectReasonCode::PacketTooLarge);
    let mut many = Client::new(&connect(properties(0), None));
    many.packets.clear();
    for id in 1..=RECEIVE_MAX + 1 {
        assert!(many.packets.is_empty(), "{id}");
        many.publish("a", QoS::ExactlyOnce, id, None);
    }
    assert_eq!(reason(&many), v5::DisconnectReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_client_that_asks_for_another_authentication_is_refused() {
    let asks = v5::ConnectProperties {
        authentication_method: Some("SCRAM-SHA-256".to_owned()),
        ..properties(0)
    };
    let mut client = Client { bench: Bench::new(), packets: Vec::new(), frames: Vec::new() };
    client.step(Input::Bytes(&connect(asks, None)));
    let [v5::Packet::ConnAck(ack)] = client.packets.as_slice() else { panic!("no CONNACK") };
    assert_eq!(ack.code, v5::ConnectReturnCode::BadAuthenticationMethod);
    assert!(client.bench.session.has_ended());
}

#[test]
fn a_client_without_a_name_is_given_one_and_in_3_1_1_only_for_one_connection() {
    let nameless = |clean| {
        let mut connect = v4::Connect::new("");
        connect.clean_session = clean;
        let mut bench = Bench::new();
        bench.send(v4::Packet::Connect(connect));
        bench
    };
    let joins = nameless(true).join.map(|join| join.client_id);
    assert_eq!(joins.as_deref(), Some("mqtt-1a-0"));
    let mut lasting = nameless(false);
    let no = v4::ConnAck::new(v4::ConnectReturnCode::BadClientId, false);
    assert_eq!((lasting.packets.pop(), lasting.close), (Some(v4::Packet::ConnAck(no)), true));
}

//! A client and its machine, with packets of the library on the client's side.

mod kept;

use bytes::BytesMut;
use clasp_rt_bridges::json;
use clasp_rt_core::wire::header;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;

use clasp_rt_core::message::{Ack, Sync};
use clasp_rt_core::wire::binary;

use super::*;

/// A machine, the client's side of it, and what it said to the router, as JSON.
struct Bench {
    session: Session,
    groups: Groups,
    now: Time,
    close: bool,
    frames: Vec<String>,
    packets: Vec<v4::Packet>,
    join: Option<Join>,
    /// SYNCs that the router has not answered.
    syncs: VecDeque<u64>,
}

fn settings() -> Settings {
    Settings {
        namespace: "/mqtt".to_owned(),
        payload: Form::Auto,
        room: Room { events: 100, params: 100, bytes: 1 << 20 },
        expiry_s_max: 600,
        nameless: "mqtt-1a".to_owned(),
    }
}

impl Bench {
    fn new() -> Self {
        Self::member(0, Groups::default())
    }

    fn member(number: u64, groups: Groups) -> Self {
        Self {
            session: Session::new(settings(), number, Time(0)),
            groups,
            now: Time(0),
            close: false,
            frames: Vec::new(),
            packets: Vec::new(),
            join: None,
            syncs: VecDeque::new(),
        }
    }

    /// A client that has connected as `lamp`.
    fn connected() -> Self {
        let mut bench = Self::new();
        bench.connect(v4::Connect::new("lamp"));
        bench
    }

    fn connect(&mut self, connect: v4::Connect) {
        self.send(v4::Packet::Connect(connect));
        if self.join.is_some() {
            self.step(Input::Joined);
        }
        self.packets.clear();
    }

    fn step(&mut self, input: Input<'_>) {
        let mut out = Out::default();
        self.session.step(self.now, input, &mut self.groups, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, mut out: Out) {
        self.close |= out.close;
        self.join = out.join.take().or(self.join.take());
        for frame in &out.frames {
            match sync_in(frame) {
                Some(serial) => self.syncs.push_back(serial),
                None => self.frames.push(text_of(frame)),
            }
        }
        let mut packets = out.packets;
        while !packets.is_empty() {
            let packet = v4::Packet::read(&mut packets, PACKET_BYTES_MAX).expect("a packet");
            self.packets.push(packet);
        }
    }

    fn send(&mut self, packet: v4::Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, PACKET_BYTES_MAX).expect("a packet");
        self.step(Input::Bytes(&bytes));
    }

    fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool, id: u16) {
        let mut publish = v4::Publish::new(topic, qos, payload);
        (publish.retain, publish.pkid) = (retain, id);
        self.send(v4::Packet::Publish(publish));
    }

    fn subscribe(&mut self, id: u16, filter: &str, qos: QoS) {
        let mut subscribe = v4::Subscribe::new(filter, qos);
        subscribe.pkid = id;
        self.send(v4::Packet::Subscribe(subscribe));
        self.sync();
    }

    /// The router answers the oldest SYNC.
    fn sync(&mut self) {
        let t1 = self.syncs.pop_front().expect("a SYNC");
        let sync = Sync { t1, t2: Some(0), t3: Some(0) };
        self.step(Input::Router(Message::Sync(sync)));
    }

    /// The router confirms a SET.
    fn confirm(&mut self, address: &str) {
        self.router(&format!(r#"{{"type":"ACK","address":"{address}","revision":1}}"#));
    }

    /// The router confirms an event.
    fn confirm_event(&mut self) {
        self.router(r#"{"type":"ACK"}"#);
    }

    /// What the router says, as JSON.
    fn router(&mut self, text: &str) {
        let mut frame = Vec::new();
        json::to_frame(text, &mut frame).expect("a message");
        let payload = header::parse(&frame).expect("a frame").payload;
        self.step(Input::Router(binary::decode(payload).expect("a message")));
    }

    fn set(&mut self, address: &str, value: u64) {
        self.router(&format!(r#"{{"type":"SET","address":"{address}","value":{value}}}"#));
    }

    fn take_frames(&mut self) -> Vec<String> {
        std::mem::take(&mut self.frames)
    }

    /// The publishes so far: topic, payload, QoS, retained, id.
    fn take_publishes(&mut self) -> Vec<(String, String, u8, bool, u16)> {
        let packets = std::mem::take(&mut self.packets).into_iter();
        let publishes = packets.filter_map(|packet| match packet {
            v4::Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        let told = publishes.map(|p| {
            let payload = String::from_utf8_lossy(&p.payload).into_owned();
            (p.topic, payload, p.qos as u8, p.retain, p.pkid)
        });
        told.collect()
    }
}

/// What a SYNC in `frame` asks.
fn sync_in(frame: &[u8]) -> Option<u64> {
    let payload = header::parse(frame).expect("a frame").payload;
    match binary::decode(payload).expect("a message") {
        Message::Sync(Sync { t1, .. }) => Some(t1),
        _ => None,
    }
}

/// A frame as JSON; a bundle of one, which only asks for an answer, as what it holds.
fn text_of(frame: &[u8]) -> String {
    let parsed = header::parse(frame).expect("a frame");
    if let Message::Bundle(bundle) = binary::decode(parsed.payload).expect("a message") {
        let held: Vec<_> = bundle.messages.iter().collect();
        let [message] = held.as_slice() else { panic!("{} messages", held.len()) };
        let mut inner = Vec::new();
        binary::encode(message, parsed.header.qos, &mut inner).expect("short");
        return text_of(&inner);
    }
    let mut text = String::new();
    json::from_frame(frame, &mut text).expect("a frame");
    text
}

#[test]
fn a_client_joins_with_its_password_as_token_and_is_answered_when_the_router_has() {
    let mut bench = Bench::new();
    let mut connect = v4::Connect::new("lamp");
    connect.set_login("anyone", "secret");
    bench.send(v4::Packet::Connect(connect));
    let join = Join { client_id: "lamp".to_owned(), token: Some("secret".to_owned()), clean: true };
    assert_eq!(bench.join.take(), Some(join));
    bench.publish("early", "1", QoS::AtMostOnce, true, 0);
    assert!(bench.packets.is_empty() && bench.frames.is_empty(), "it waits for the router");
    bench.step(Input::Joined);
    assert_eq!(bench.packets.len(), 1);
    assert!(bench.take_frames()[0].contains("/mqtt/early"), "then what came early counts");
    let mut refused = Bench::new();
    refused.send(v4::Packet::Connect(v4::Connect::new("lamp")));
    refused.step(Input::Refused(Reason::NotAuthorized));
    let no = v4::ConnAck::new(v4::ConnectReturnCode::NotAuthorized, false);
    assert_eq!((refused.packets.pop(), refused.close), (Some(v4::Packet::ConnAck(no)), true));
}

#[test]
fn what_a_client_publishes_is_said_before_it_is_acknowledged() {
    let mut bench = Bench::connected();
    bench.publish("stage/level", "0.5", QoS::AtLeastOnce, true, 7);
    bench.publish("stage/go", "12", QoS::AtMostOnce, false, 0);
    let said = bench.take_frames();
    assert_eq!(said[0], r#"{"type":"SET","address":"/mqtt/stage/level","value":0.5}"#);
    assert!(said[1].contains(r#""address":"/mqtt/stage/go","signal":"event","value":12"#));
    assert!(bench.packets.is_empty(), "the router has not answered");
    bench.confirm("/mqtt/stage/level");
    assert_eq!(bench.packets, [v4::Packet::PubAck(v4::PubAck::new(7))]);
    bench.publish("stage/level", "", QoS::AtMostOnce, true, 0);
    assert!(bench.take_frames()[0].contains(r#""value":null"#), "an empty one clears");
    bench.publish("$SYS/x", "1", QoS::AtMostOnce, true, 0);
    assert!(bench.take_frames().is_empty(), "topics with `$` are nobody's");
}

#[test]
fn a_message_at_qos_2_is_said_once_however_often_it_comes() {
    let mut bench = Bench::connected();
    for _ in 0..3 {
        bench.publish("go", "1", QoS::ExactlyOnce, false, 9);
    }
    assert!(bench.packets.is_empty(), "the router has not answered");
    bench.confirm_event();
    bench.publish("go", "1", QoS::ExactlyOnce, false, 9);
    assert_eq!(bench.take_frames().len(), 1);
    let received = v4::Packet::PubRec(v4::PubRec::new(9));
    assert_eq!(bench.packets, [received.clone(), received]);
    bench.packets.clear();
    bench.send(v4::Packet::PubRel(v4::PubRel::new(9)));
    assert_eq!(bench.packets, [v4::Packet::PubComp(v4::PubComp::new(9))]);
    bench.publish("go", "1", QoS::ExactlyOnce, false, 9);
    assert_eq!(bench.take_frames().len(), 1, "released, it is a new one");
}

#[test]
fn a_client_of_3_1_1_is_read_no_further_than_the_router_answers() {
    let mut bench = Bench::connected();
    for id in 1..=RECEIVE_MAX + 1 {
        bench.publish("go", "1", QoS::ExactlyOnce, false, id);
    }
    assert_eq!(bench.take_frames().len(), usize::from(RECEIVE_MAX));
    assert!(!bench.session.reads() && !bench.close);
    bench.confirm_event();
    assert_eq!(bench.take_frames().len(), 1, "now the next");
    for id in RECEIVE_MAX + 2..=UNRELEASED_MAX as u16 + 1 {
        bench.confirm_event();
        bench.publish("go", "1", QoS::ExactlyOnce, false, id);
    }
    assert!(!bench.close);
    for _ in 0..RECEIVE_MAX {
        bench.confirm_event();
    }
    bench.publish("go", "1", QoS::ExactlyOnce, false, 5_000);
    assert!(bench.close, "it releases nothing");
}

#[test]
fn retained_messages_are_flagged_until_all_were_told_and_news_are_not() {
    let mut bench = Bench::connected();
    bench.subscribe(3, "stage/#", QoS::AtLeastOnce);
    assert!(bench.take_frames()[0].contains(r#""pattern":"/mqtt/stage/**""#));
    let granted = v4::SubscribeReasonCode::Success(QoS::AtLeastOnce);
    let acknowledged = v4::Packet::SubAck(v4::SubAck::new(3, vec![granted]));
    assert_eq!(bench.packets, [acknowledged]);
    let held = r#"{"type":"SNAPSHOT","params":[
        {"address":"/mqtt/stage/a","value":1,"revision":1},
        {"address":"/mqtt/stage/gone","value":null,"revision":2},
        {"address":"/mqtt/other","value":3,"revision":1}]}"#;
    bench.router(held);
    bench.set("/mqtt/stage/a", 2);
    let told = bench.take_publishes();
    let [first, second] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first.0.as_str(), first.1.as_str(), first.2, first.3), ("stage/a", "1", 1, true));
    assert_eq!((second.1.as_str(), second.3), ("2", false));
    bench.router(r#"{"type":"ACK","address":"/mqtt/stage/**"}"#);
    bench.router(held);
    assert!(bench.take_publishes().is_empty(), "another subscription asked for it");
}

#[test]
fn a_subscription_is_answered_before_what_it_brings() {
    let mut bench = Bench::connected();
    let mut subscribe = v4::Subscribe::new("#", QoS::AtMostOnce);
    subscribe.pkid = 5;
    bench.send(v4::Packet::Subscribe(subscribe));
    let held = r#"{"type":"SNAPSHOT","params":[{"address":"/mqtt/a","value":1,"revision":1}]}"#;
    bench.router(held);
    assert!(bench.packets.is_empty());
    bench.sync();
    assert!(matches!(bench.packets.as_slice(), [v4::Packet::SubAck(_), v4::Packet::Publish(_)]));
}

#[test]
fn overlapping_filters_bring_a_message_once_at_the_best_quality() {
    let mut bench = Bench::connected();
    bench.subscribe(1, "a/#", QoS::AtMostOnce);
    bench.subscribe(2, "a/+", QoS::ExactlyOnce);
    bench.packets.clear();
    bench.set("/mqtt/a/b", 1);
    let told = bench.take_publishes();
    assert_eq!((told.len(), told[0].2), (1, 2));
    // Its own messages come back, as with any broker; not those that the router refuses.
    bench.publish("a/c", "5", QoS::AtMostOnce, false, 0);
    assert_eq!(bench.take_publishes()[0].0, "a/c");
    bench.publish("a/d", "5", QoS::AtLeastOnce, false, 1);
    bench.publish("a/e", "5", QoS::AtLeastOnce, true, 2);
    bench.router(r#"{"type":"ERROR","code":403,"message":"no","address":"/mqtt/a/d"}"#);
    bench.confirm("/mqtt/a/e");
    assert_eq!(bench.take_publishes()[0].0, "a/e");
    let stream = r#"{"type":"STREAM","address":"/mqtt/a/s","value":1.0}"#;
    bench.router(stream);
    assert_eq!(bench.take_publishes()[0].2, 0, "a sample is not worth an answer");
}

#[test]
fn a_subscription_that_the_router_refuses_is_not_granted() {
    let mut bench = Bench::connected();
    let mut subscribe = v4::Subscribe::new("a/#", QoS::AtLeastOnce);
    subscribe.pkid = 4;
    bench.send(v4::Packet::Subscribe(subscribe));
    assert!(bench.packets.is_empty(), "it waits for the router's answer");
    bench.router(r#"{"type":"ERROR","code":301,"message":"no","address":"/mqtt/a/**"}"#);
    bench.sync();
    let failed = v4::SubAck::new(4, vec![v4::SubscribeReasonCode::Failure]);
    assert_eq!(bench.packets, [v4::Packet::SubAck(failed)]);
    bench.packets.clear();
    bench.set("/mqtt/a/b", 1);
    assert!(bench.take_publishes().is_empty());
}

#[test]
fn a_slow_client_gets_the_newest_of_params_and_every_event() {
    let mut bench = Bench::connected();
    bench.subscribe(1, "#", QoS::AtLeastOnce);
    bench.packets.clear();
    for level in 0..80 {
        bench.set("/mqtt/level", level);
        bench.router(&format!(
            r#"{{"type":"PUBLISH","signal":"event","address":"/mqtt/go","value":{level}}}"#
        ));
    }
    let mut told = bench.take_publishes();
    assert_eq!(told.len(), INFLIGHT_MAX, "the others wait");
    let mut taken = 0;
    while let Some((.., id)) = told.get(taken) {
        let id = *id;
        taken += 1;
        bench.send(v4::Packet::PubAck(v4::PubAck::new(id)));
        told.extend(bench.take_publishes());
    }
    let of = |topic: &str| told.iter().filter(|told| told.0 == topic).count();
    assert_eq!((of("go"), of("level")), (80, INFLIGHT_MAX / 2 + 1));
    let levels: Vec<_> = told.iter().filter(|told| told.0 == "level").collect();
    assert_eq!(levels.last().map(|told| told.1.as_str()), Some("79"));
    assert_eq!(bench.session.counts.overflowed, 0);
}

#[test]
fn events_beyond_the_room_of_a_client_are_counted() {
    let mut bench = Bench::connected();
    bench.subscribe(1, "#", QoS::AtLeastOnce);
    let more = settings().room.events + INFLIGHT_MAX + 5;
    let mut frame = Vec::new();
    let event = r#"{"type":"PUBLISH","signal":"event","address":"/mqtt/go","value":1}"#;
    json::to_frame(event, &mut frame).expect("a message");
    let payload = header::parse(&frame).expect("a frame").payload;
    for _ in 0..more {
        bench.step(Input::Router(binary::decode(payload).expect("a message")));
    }
    assert_eq!(bench.session.counts.overflowed, 5);
}

#[test]
fn a_will_is_said_unless_the_client_says_good_bye() {
    let with_will = || {
        let mut bench = Bench::new();
        let mut connect = v4::Connect::new("lamp");
        connect.keep_alive = 10;
        let will = v4::LastWill::new("lamp/status", "offline", QoS::AtLeastOnce, true);
        connect.last_will = Some(will);
        bench.connect(connect);
        bench
    };
    let offline = r#"{"type":"SET","address":"/mqtt/lamp/status","value":"offline"}"#;
    let mut lost = with_will();
    lost.step(Input::Closed);
    assert_eq!(lost.take_frames(), [offline]);
    let mut silent = with_will();
    silent.now = Time(0) + Span::from_secs(14);
    silent.step(Input::Deadline);
    assert!(!silent.close, "one and a half times ten seconds");
    silent.frames.clear();
    silent.now = Time(0) + Span::from_secs(15);
    silent.step(Input::Deadline);
    assert_eq!((silent.take_frames(), silent.close), (vec![offline.to_owned()], true));
    for taken in [Input::TakenOver, Input::Replaced, Input::Stop] {
        let mut replaced = with_will();
        replaced.step(taken);
        assert_eq!(replaced.take_frames(), [offline]);
    }
    let mut polite = with_will();
    polite.send(v4::Packet::Disconnect);
    assert_eq!((polite.take_frames().len(), polite.close), (0, true));
}

#[test]
fn what_is_no_mqtt_ends_the_connection_and_is_counted() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x30\x02\x00\x00", b"\x10\xff\xff\xff\xff"] {
        let mut bench = Bench::new();
        bench.step(Input::Bytes(bytes));
        assert_eq!((bench.close, bench.session.counts.malformed), (true, 1), "{bytes:02x?}");
    }
    let mut twice = Bench::connected();
    twice.send(v4::Packet::Connect(v4::Connect::new("again")));
    assert!(twice.close);
    let mut silent = Bench::new();
    silent.now = Time(0) + CONNECT_TIMEOUT;
    silent.step(Input::Deadline);
    assert!(silent.close, "nothing was said in time");
}

#[test]
fn filters_beyond_the_limit_are_refused_alone() {
    let mut bench = Bench::connected();
    for number in 0..=SUBSCRIPTIONS_MAX {
        bench.subscribe(1, &format!("a/{number}"), QoS::AtMostOnce);
    }
    let refused = v4::SubAck::new(1, vec![v4::SubscribeReasonCode::Failure]);
    assert_eq!(bench.packets.last(), Some(&v4::Packet::SubAck(refused)));
    bench.send(v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: 2, topics: vec!["a/0".into()] }));
    bench.subscribe(3, "b", QoS::AtMostOnce);
    let granted = vec![v4::SubscribeReasonCode::Success(QoS::AtMostOnce)];
    let granted = v4::Packet::SubAck(v4::SubAck::new(3, granted));
    assert_eq!(bench.packets.last(), Some(&granted));
}

/// The names of packets by their type.
const NAMES: [&str; 15] = [
    "-",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
];

/// What a recorded client comes to when its bytes arrive in pieces of `step`: what the router
/// hears, line by line, and what the client is answered.
fn replayed(bytes: &[u8], step: usize) -> String {
    let (mut session, mut groups) = (Session::new(settings(), 0, Time(0)), Groups::default());
    let (mut lines, mut answers) = (String::new(), String::from("answers"));
    let mut pieces = bytes.chunks(step).map(Input::Bytes).collect::<VecDeque<_>>();
    while let Some(input) = pieces.pop_front() {
        let mut out = Out::default();
        session.step(Time(0), input, &mut groups, &mut out);
        if out.join.is_some() {
            pieces.push_front(Input::Joined);
        }
        for frame in &out.frames {
            let payload = header::parse(frame).expect("a frame").payload;
            let message = binary::decode(payload).expect("a message");
            if let Some(answer) = answer_to(&message) {
                pieces.push_front(Input::Router(answer));
            }
            if sync_in(frame).is_none() {
                lines += &(text_of(frame) + "\n");
            }
        }
        let mut rest = out.packets.as_ref();
        while let [first, len, ..] = rest {
            answers += &format!(" {}", NAMES[usize::from(first >> 4)]);
            rest = &rest[2 + usize::from(*len)..];
        }
    }
    lines + &answers + "\n"
}

/// What a router says to that, if it likes it.
fn answer_to(message: &Message<'_>) -> Option<Message<'static>> {
    Some(match message {
        Message::Sync(sync) => Message::Sync(Sync { t2: Some(0), t3: Some(0), ..*sync }),
        Message::Bundle(_) => Message::Ack(Ack::default()),
        Message::Set(set) => {
            let address = set.address.to_owned().leak();
            Message::Ack(Ack { address: Some(address), revision: Some(1), ..Ack::default() })
        }
        _ => return None,
    })
}

#[test]
fn recorded_clients_mean_what_they_were_told_to_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/mqtt");
    let entries = std::fs::read_dir(folder).expect("the vectors are there");
    let files = entries.map(|entry| entry.expect("a file").path());
    let mut seen = 0;
    for path in files.filter(|path| path.extension().is_some_and(|kind| kind == "bin")) {
        let bytes = std::fs::read(&path).expect("a packet");
        let meaning = std::fs::read_to_string(path.with_extension("txt")).expect("its meaning");
        assert_eq!(replayed(&bytes, 1), meaning, "{}", path.display());
        // With the good-bye in the same piece, answers of the router come too late.
        let heard = |text: &str| text.split("answers").next().map(str::to_owned);
        for step in [7, bytes.len()] {
            let at_once = replayed(&bytes, step);
            assert_eq!(heard(&at_once), heard(&meaning), "{} by {step}", path.display());
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn a_client_is_given_what_is_retained_as_fast_as_it_takes_it() {
    const COUNT: usize = 300;
    let mut bench = Bench::connected();
    bench.subscribe(1, "r/#", QoS::AtLeastOnce);
    assert!(bench.session.hears());
    let param = |n| format!(r#"{{"address":"/mqtt/r/{n}","value":{n},"revision":2}}"#);
    let params: Vec<_> = (0..COUNT).map(param).collect();
    // What is newer waits until what was retained has left.
    bench.router(&format!(r#"{{"type":"SNAPSHOT","params":[{}]}}"#, params.join(",")));
    bench.set("/mqtt/r/7", 1_000);
    assert!(!bench.session.hears(), "the router keeps the rest");
    let mut got = Vec::new();
    loop {
        let publishes = bench.take_publishes();
        let Some(&(.., id)) = publishes.last() else { break };
        bench.now = bench.now + Span::from_secs(1);
        let ids: Vec<_> = publishes.iter().map(|publish| publish.4).collect();
        got.extend(publishes.into_iter().map(|(_, payload, ..)| payload));
        ids.into_iter().for_each(|id| bench.send(v4::Packet::PubAck(v4::PubAck::new(id))));
        assert!(id > 0);
    }
    let mut want: Vec<_> = (0..COUNT).map(|n| n.to_string()).collect();
    want.push("1000".to_owned());
    assert_eq!((got, bench.session.counts.overflowed), (want, 0));
    assert!(bench.session.hears());
}

#[test]
fn a_client_that_takes_nothing_retained_does_not_keep_its_session_from_the_router() {
    let mut bench = Bench::connected();
    bench.subscribe(1, "r/#", QoS::AtLeastOnce);
    let param = |n| format!(r#"{{"address":"/mqtt/r/{n}","value":{n},"revision":2}}"#);
    let params: Vec<_> = (0..300).map(param).collect();
    bench.router(&format!(r#"{{"type":"SNAPSHOT","params":[{}]}}"#, params.join(",")));
    assert!(!bench.session.hears());
    // An answer that a message waits for is heard.
    bench.publish("q", "1", QoS::AtLeastOnce, true, 5);
    assert!(bench.session.hears());
    bench.confirm("/mqtt/q");
    assert!(!bench.session.hears());
    bench.now = bench.session.deadline().expect("it is looked at again");
    assert_eq!(bench.now, Time(0) + STALL);
    bench.step(Input::Deadline);
    assert!(bench.session.hears());
}

#[test]
fn a_session_that_ends_with_its_token_says_so() {
    for (reason, code) in [(Reason::Expired, 0x87), (Reason::Unavailable, 0x80)] {
        let mut out = BytesMut::new();
        wire::write(Version::V5, &Answer::Disconnect(reason), PACKET_BYTES_MAX, &mut out);
        assert_eq!(out.get(2), Some(&code), "{reason:?}");
        let says = String::from_utf8_lossy(&out).contains("the token has expired");
        assert_eq!(says, reason == Reason::Expired);
    }
}

#[test]
fn a_payload_that_no_message_holds_is_refused_with_the_bound() {
    let long = "x".repeat(65_600);
    for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, false)]
        .into_iter()
        .chain([(QoS::AtMostOnce, true), (QoS::ExactlyOnce, true)])
    {
        let mut bench = Bench::connected();
        let mut publish = v4::Publish::new("stage/long", qos, long.as_str());
        (publish.retain, publish.pkid) = (retain, u16::from(qos != QoS::AtMostOnce));
        let mut bytes = BytesMut::new();
        v4::Packet::Publish(publish).write(&mut bytes, PACKET_BYTES_MAX).expect("a packet");
        let mut out = Out::default();
        let Bench { session, groups, now, .. } = &mut bench;
        session.step(*now, Input::Bytes(&bytes), groups, &mut out);
        let complaint = out.complaint.take().expect("the log is told");
        assert!(complaint.contains("has 65600 bytes"), "{complaint}");
        assert!(complaint.contains("65535 bytes"), "{complaint}");
        bench.carry_out(out);
        assert_eq!((bench.session.counts.refused, bench.close), (1, false));
        assert_eq!(bench.frames.len(), 0, "{:?}", bench.frames);
    }
}

#[test]
fn a_packet_with_reserved_flags_ends_the_connection_and_the_log_says_why() {
    let mut bench = Bench::connected();
    let mut out = Out::default();
    let Bench { session, groups, now, .. } = &mut bench;
    session.step(*now, Input::Bytes(b"\xc1\x00"), groups, &mut out);
    assert!(out.close);
    let complaint = out.complaint.expect("the log is told");
    assert!(complaint.contains("type 12 are 0001, not 0000"), "{complaint}");
    assert_eq!(bench.session.counts.malformed, 1);
}

//! MQTT clients of the router itself: their packets and their sessions.

use clasp_rt_core::message::{Ack, ErrorReply, Message, Publish, Set, Sync, Ttl};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_worker::mqtt::payload::Form;
use clasp_rt_worker::mqtt::waiting::Room;
use clasp_rt_worker::mqtt_listener::groups::Groups;
use clasp_rt_worker::mqtt_listener::session::{Input, Out, Session, Settings};

/// What a client is given and the router hears, whatever it sends and however that is cut.
pub fn run(bytes: &[u8]) {
    let whole = said(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(whole, said(&[first, second]), "it depends on how the bytes were cut");
}

fn said(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut world = World::new();
    for piece in pieces {
        world.step(0, Input::Bytes(piece));
    }
    world.news();
    world.answer_all();
    world.step(30, Input::Deadline);
    world.step(31, Input::Closed);
    if world.session.keeps() {
        // What comes meanwhile waits for the next connection, which says the same as the first.
        world.news();
        let mut other = Session::new(settings(), 2, Time(0));
        let mut groups = Groups::default();
        for piece in pieces {
            other.step(Time(0), Input::Bytes(piece), &mut groups, &mut Out::default());
        }
        if let Some(newcomer) = other.into_newcomer() {
            let now = Time(0) + Span::from_secs(32);
            world.session.resume(now, newcomer, &mut world.groups, &mut world.out);
            world.heed();
            world.answer_all();
            world.step(33, Input::Closed);
        }
        world.step(33 + u64::from(EXPIRY_S_MAX), Input::Deadline);
    }
    assert!(world.session.has_ended(), "it outlives its time");
    (world.out.packets.to_vec(), world.frames)
}

const EXPIRY_S_MAX: u32 = 100;

fn settings() -> Settings {
    Settings {
        namespace: "/mqtt".to_owned(),
        payload: Form::Auto,
        room: Room { events: 8, params: 8, bytes: 4_096 },
        expiry_s_max: EXPIRY_S_MAX,
        nameless: "mqtt-1".to_owned(),
    }
}

/// A session, and what it said to the router, which has not answered.
struct World {
    session: Session,
    groups: Groups,
    out: Out,
    frames: Vec<Vec<u8>>,
    answered: usize,
}

impl World {
    fn new() -> Self {
        let session = Session::new(settings(), 1, Time(0));
        let (groups, out) = (Groups::default(), Out::default());
        Self { session, groups, out, frames: Vec::new(), answered: 0 }
    }

    fn step(&mut self, second: u64, input: Input<'_>) {
        let now = Time(0) + Span::from_secs(second);
        self.session.step(now, input, &mut self.groups, &mut self.out);
        self.heed();
    }

    fn heed(&mut self) {
        while self.out.join.take().is_some() {
            let (groups, out) = (&mut self.groups, &mut self.out);
            self.session.step(Time(0), Input::Joined, groups, out);
        }
        for frame in self.out.frames.drain(..) {
            let parsed = header::parse(&frame).expect("a whole frame");
            binary::decode(parsed.payload).expect("a message");
            self.frames.push(frame);
        }
    }

    /// The router answers what it was asked: every third question with a refusal, every fourth not
    /// at all.
    fn answer_all(&mut self) {
        while let Some(frame) = self.frames.get(self.answered).cloned() {
            let number = self.answered;
            self.answered += 1;
            let payload = header::parse(&frame).expect("a whole frame").payload;
            let message = binary::decode(payload).expect("a message");
            let refuse = |address| {
                let (code, message) = (301, "no scope of this token allows it");
                Message::Error(ErrorReply {
                    code,
                    message,
                    address: Some(address),
                    correlation_id: None,
                })
            };
            let answer = match message {
                _ if number % 4 == 3 => continue,
                Message::Sync(sync) => Message::Sync(Sync { t2: Some(0), t3: Some(0), ..sync }),
                Message::Set(set) if number % 3 == 2 => refuse(set.address),
                Message::Subscribe(wish) if number % 3 == 2 => refuse(wish.pattern),
                Message::Set(set) => Message::Ack(Ack {
                    address: Some(set.address),
                    revision: Some(1),
                    ..Ack::default()
                }),
                Message::Bundle(_) => Message::Ack(Ack::default()),
                _ => continue,
            };
            self.step(0, Input::Router(answer));
        }
    }

    /// Params and events of others.
    fn news(&mut self) {
        for address in ["/mqtt/stage/fader/1", "/mqtt/sh/t", "/other"] {
            let value = Value::from_encoded(&[1, 1]).expect("a bool");
            let ttl = Some(Ttl::Sliding(60));
            let set = Set { address, value, revision: None, lock: false, unlock: false, ttl };
            self.step(0, Input::Router(Message::Set(set)));
            let event = Publish { address, value: Some(value), ..Publish::default() };
            self.step(0, Input::Router(Message::Publish(event)));
        }
    }
}

/// What recorded clients said, one after the other and together.
pub fn seeds() -> Vec<Vec<u8>> {
    let recorded: [&[u8]; 8] = [
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-01.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-02.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-03.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-04.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-05.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-06.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-07.bin"),
        include_bytes!("../../../bridges/vectors/mqtt/mosquitto-09.bin"),
    ];
    // A will, a name and a password; and an UNSUBSCRIBE.
    let login: &[u8] = b"\x10\x22\x00\x04MQTT\x04\xee\x00\x0a\x00\x01x\x00\x04lamp\x00\x04gone\
        \x00\x01u\x00\x01p";
    let unsubscribe = b"\xa2\x0b\x00\x09\x00\x07stage/#\xc0\x00";
    let together = [recorded[1], unsubscribe].concat();
    // Of 5: a session that lasts, a will with a delay, an alias and its use, and each ack.
    let lasting: &[u8] = b"\x10\x25\x00\x04MQTT\x05\x04\x00\x0a\x0b\x11\x00\x00\x00\x3c\x22\
        \x00\x0a\x21\x00\x02\x00\x01x\x05\x18\x00\x00\x00\x05\x00\x01w\x00\x01g\
        \x82\x0d\x00\x01\x00\x00\x07stage/#\x02\
        \x32\x14\x00\x07stage/a\x00\x02\x03\x23\x00\x01\x31\x32\x33\x34\x35\
        \x35\x09\x00\x00\x00\x03\x03\x23\x00\x01\x31\
        \x40\x02\x00\x01\x50\x02\x00\x02\x62\x02\x00\x03\x70\x02\x00\x02";
    let seeds = recorded.iter().map(|seed| seed.to_vec());
    seeds.chain([login.to_vec(), together, lasting.to_vec()]).collect()
}

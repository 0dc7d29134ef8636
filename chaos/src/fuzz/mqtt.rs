//! MQTT clients of the router itself: their packets and their sessions.

use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_worker::mqtt::payload::Form;
use clasp_rt_worker::mqtt_listener::groups::Groups;
use clasp_rt_worker::mqtt_listener::session::{Input, Out, Session, Settings};

/// What a client is given and the router hears, whatever it sends and however that is cut.
pub fn run(bytes: &[u8]) {
    let whole = said(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(whole, said(&[first, second]), "it depends on how the bytes were cut");
}

fn said(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let settings = Settings { namespace: "/mqtt".to_owned(), payload: Form::Auto };
    let mut session = Session::new(settings, 1, Time(0));
    let mut groups = Groups::default();
    let (mut out, mut frames, mut pings) = (Out::default(), Vec::new(), 0);
    let mut step = |input: Input<'_>, now: Time, out: &mut Out| {
        session.step(now, input, &mut groups, out);
        while out.join.take().is_some() {
            session.step(now, Input::Joined, &mut groups, out);
        }
        for frame in out.frames.drain(..) {
            let parsed = header::parse(&frame).expect("a whole frame");
            let message = binary::decode(parsed.payload).expect("a message");
            pings += usize::from(matches!(message, Message::Ping));
            frames.push(frame);
        }
        pings
    };
    let mut asked = 0;
    for piece in pieces {
        asked = step(Input::Bytes(piece), Time(0), &mut out);
    }
    for address in ["/mqtt/stage/fader/1", "/mqtt/sh/t", "/other"] {
        let value = Value::from_encoded(&[1, 1]).expect("a bool");
        let set = Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
        step(Input::Router(Message::Set(set)), Time(0), &mut out);
    }
    for _ in 0..asked {
        step(Input::Router(Message::Pong), Time(0), &mut out);
    }
    step(Input::Deadline, Time(0) + Span::from_secs(30), &mut out);
    step(Input::Closed, Time(0) + Span::from_secs(31), &mut out);
    (out.packets.to_vec(), frames)
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
    let seeds = recorded.iter().map(|seed| seed.to_vec());
    seeds.chain([login.to_vec(), together]).collect()
}

//! Servers of Socket.IO that the router joins: what their packets say can be said back to them.

use clasp_rt_worker::socketio::engine::{self, Frame, Handshake, Packet};
use clasp_rt_worker::socketio::names::Names;
use clasp_rt_worker::socketio::packet::{As, Assembly, Event, PIECES_MAX, Packed};
use clasp_rt_worker::socketio::{packet, speech};
use serde_json::Value as Json;

/// Bytes of a message: some of the inputs are longer.
const BYTES_MAX: usize = 10_000;

/// Gives the bytes after the first to a client as a body of HTTP; the first chooses its namespace.
pub fn run(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let namespace = if which & 1 == 0 { "/" } else { "/ctl" };
    let body = String::from_utf8_lossy(bytes);
    let names = Names::new("/socketio", namespace);
    let mut assembly = Assembly::new(namespace, BYTES_MAX);
    let (mut frames, mut again) = (Vec::new(), String::new());
    for read in engine::packets(&body) {
        let Ok(read) = read else { return };
        let assembled = match &read {
            Packet::Open(json) => {
                if let Ok(handshake) = Handshake::parse(json) {
                    assert!((1..=600).contains(&handshake.silence_max.as_secs()));
                    assert!(handshake.payload_bytes_max > 0 && !handshake.sid.is_empty());
                }
                continue;
            }
            Packet::Message(text) => {
                frames.push(Frame::Text(format!("4{text}")));
                assembly.text(text)
            }
            Packet::Bytes(bytes) => {
                frames.push(Frame::Bytes(bytes.to_vec()));
                assembly.bytes(bytes)
            }
            _ => continue,
        };
        let Ok(assembled) = assembled else { break };
        match assembled {
            Some(packet::Packet::Event(event)) => take(namespace, &names, event),
            Some(packet::Packet::Ack { id, arguments }) => {
                say_again(namespace, arguments, As::Ack(id));
            }
            Some(packet::Packet::Refused { message }) => assert!(message.chars().count() <= 200),
            _ => {}
        }
    }
    frames.iter().for_each(|frame| frame.push(&mut again));
    let count = if again.is_empty() { 0 } else { engine::packets(&again).count() };
    assert_eq!(count, frames.len(), "a body has the packets that were put into it");
}

fn take(namespace: &str, names: &Names, event: Event) {
    assert!(event.bytes <= BYTES_MAX);
    let Ok((name, arguments)) = event.said else { return };
    if let Ok(address) = names.address_of(&name) {
        assert_eq!(names.event_of(&address), Some(name.as_str()));
    }
    if let Ok((op, map)) = speech::asked(names, "set", &name, arguments.clone()) {
        assert!(!op.is_empty() && map.contains_key("id"));
    }
    let list = std::iter::once(Json::String(name)).chain(arguments).collect();
    say_again(namespace, list, As::Event(event.id));
}

/// What can be said is heard as the same by who hears it, in as many frames as it may have.
fn say_again(namespace: &str, list: Vec<Json>, what: As) {
    let Ok(packed) = Packed::new(list) else { return };
    let first = heard(namespace, &packed, what);
    let Ok(again) = Packed::new(first.clone()) else { panic!("{first:?} cannot be said again") };
    assert_eq!(heard(namespace, &again, what), first);
}

fn heard(namespace: &str, packed: &Packed, what: As) -> Vec<Json> {
    let frames = packed.frames(namespace, what);
    assert!(frames.len() <= 1 + PIECES_MAX);
    let mut assembly = Assembly::new(namespace, usize::MAX);
    let mut whole = None;
    for frame in &frames {
        assert!(whole.is_none(), "the last frame makes it whole");
        whole = match frame {
            Frame::Text(text) => {
                let Ok(Packet::Message(text)) = engine::packet(text) else { panic!("{text}") };
                assembly.text(text).expect("a text that we said")
            }
            Frame::Bytes(bytes) => assembly.bytes(bytes).expect("bytes that we said"),
        };
    }
    match (whole, what) {
        (Some(packet::Packet::Ack { id, arguments }), As::Ack(number)) => {
            assert_eq!(id, number);
            arguments
        }
        (Some(packet::Packet::Event(event)), As::Event(id)) => {
            assert_eq!(event.id, id);
            let (name, arguments) = event.said.expect("an event that we said");
            std::iter::once(Json::String(name)).chain(arguments).collect()
        }
        other => panic!("{packed:?} became {other:?}"),
    }
}

/// Bodies as published servers send them.
pub fn seeds() -> Vec<Vec<u8>> {
    let bodies: [&str; 9] = [
        "\x000{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"],\
         \"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}",
        "\x0040{\"sid\":\"wZX3oN0bSVIhsaknAAAI\"}\x1e42[\"cue/go\",12]\x1e2",
        "\x0140/ctl,{\"sid\":\"x\"}\x1e42/ctl,13[\"go\",{\"a\":[1,null,\"\u{e9}\"]}]",
        "\x0044{\"message\":\"nope\"}",
        "\x00451-[\"baz\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==",
        "\x01452-/ctl,7[\"b\",{\"x\":[{\"_placeholder\":true,\"num\":1}]},\
         {\"_placeholder\":true,\"num\":0}]\x1ebAQI=\x1ebAwQ=",
        "\x00431[{\"type\":\"ack\"}]\x1e461-15[{\"_placeholder\":true,\"num\":0}]\x1ebAA==",
        "\x0042[\"set\",{\"address\":\"/a\",\"value\":{\"$bytes\":\"00ff\"},\"id\":1}]\x1e6\x1e1",
        "\x0041\x1e3probe\x1e5",
    ];
    bodies.iter().map(|body| body.as_bytes().to_vec()).collect()
}

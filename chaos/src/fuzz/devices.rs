//! What reads the bytes of devices: MIDI cables and DMX interfaces.

use clasp_rt_bridges::dmx::message::{Decoder, Found, Message};
use clasp_rt_bridges::midi::{Parsed, Parser};
use clasp_rt_bridges::{BRIDGES, Input, Out, Peer, StreamId};
use clasp_rt_core::time::{Span, Time};

use super::targets::Checked;

/// MIDI bytes, cut into messages: these, written one after the other, are cut into the same again.
pub fn midi(bytes: &[u8]) {
    let messages = |bytes: &[u8]| {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        for byte in bytes {
            if let Parsed::Message(message) = parser.push(*byte) {
                let mut written = Vec::new();
                message.write(&mut written);
                assert!(!written.is_empty() && written[0] >= 0x80, "{message:?}");
                assert!(written.len() <= clasp_rt_bridges::midi::SYSEX_BYTES_MAX);
                messages.push(written);
            }
        }
        messages
    };
    let first = messages(bytes);
    assert_eq!(messages(&first.concat()), first);
    device("midi", serde_json::json!({ "ticks": true, "values": "raw" }), bytes);
}

/// Bytes of a DMX interface: messages do not depend on how they were cut, and those that were
/// found, written again, are found again.
pub fn dmx(bytes: &[u8]) {
    let messages = |bytes: &[u8], chunk: usize| {
        let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(chunk) {
            decoder.push(piece, |found| {
                if let Found::Message(Message { label, data }) = found {
                    messages.push((label, data.to_vec()));
                }
            });
        }
        messages
    };
    let whole = messages(bytes, bytes.len().max(1));
    for chunk in [1, 7, 600] {
        assert_eq!(messages(bytes, chunk), whole, "in pieces of {chunk}");
    }
    let mut again = Vec::new();
    whole.iter().for_each(|(label, data)| Message { label: *label, data }.write(&mut again));
    assert_eq!(messages(&again, again.len().max(1)), whole);
    device("dmx", serde_json::json!({ "device": [{ "direction": "in" }] }), bytes);
}

/// A bridge whose device says these bytes, in pieces as they come over time.
fn device(kind: &str, options: serde_json::Value, bytes: &[u8]) {
    let entry = BRIDGES.iter().find(|entry| entry.name == kind).expect("a bridge");
    let mut bridge = (entry.open)(options).expect("options");
    let (mut out, mut now) = (Room(Checked), Time(1_000_000_000));
    let stream = StreamId { index: 0, generation: 1 };
    bridge.step(now, Input::Joined, &mut out);
    let peer = Peer::Device("fuzz");
    bridge.step(now, Input::Opened { stream, plan: 0, peer }, &mut out);
    for bytes in bytes.chunks(61) {
        bridge.step(now, Input::Bytes { stream, bytes }, &mut out);
        now = now + Span::from_millis(20);
        if let Some(due) = bridge.deadline().filter(|due| *due <= now) {
            now = now.max(due);
            bridge.step(now, Input::Deadline, &mut out);
        }
    }
    bridge.step(now, Input::Ended { stream }, &mut out);
    bridge.step(now, Input::Stop, &mut out);
}

/// Takes all that a bridge says to its device.
struct Room(Checked);

impl Out for Room {
    fn to_router(&mut self, frame: &[u8]) {
        self.0.to_router(frame);
    }

    fn to_network(&mut self, _: u8, _: std::net::SocketAddr, _: &[u8]) {
        panic!("devices have no datagrams");
    }

    fn stream_room(&self, _: StreamId) -> usize {
        1 << 16
    }

    fn to_stream(&mut self, _: StreamId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
    }
}

/// What `aplaymidi` made of a file, and more kinds of messages.
pub fn midi_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../bridges/vectors/midi/aplaymidi-mixed.bin").to_vec(),
        vec![0xFA, 0xF8, 0xF2, 1, 2, 0xF3, 3, 0xF6, 0xFB, 0xFC, 0xFE, 0xFF, 0xF1, 0x10],
        vec![0xB3, 101, 0, 100, 0, 6, 1, 38, 2, 96, 0, 97, 0, 101, 127, 100, 127, 123, 0, 121, 0],
        vec![0xF0, 0x7F, 0x7F, 1, 1, 0x21, 2, 3, 4, 0xF7, 0xF0, 0x7F, 1, 6, 2, 0xF7],
        vec![0xF0, 0x7F, 1, 6, 0x44, 6, 1, 0x21, 2, 3, 4, 5, 0xF7, 0xE0, 0, 64, 1, 64],
    ]
}

/// The answers of a widget, and what it tells of changes.
pub fn dmx_seeds() -> Vec<Vec<u8>> {
    let message = |label, data: &[u8]| {
        let mut bytes = Vec::new();
        Message { label, data }.write(&mut bytes);
        bytes
    };
    vec![
        include_bytes!("../../../bridges/vectors/dmx/widget-answers.bin").to_vec(),
        message(9, &[0, 0b110, 1, 0, 0, 0, 1, 2, 3]),
        [message(5, &[0; 514]), message(78, b"\x01\x02name"), message(5, &[0, 0xCC, 1])].concat(),
    ]
}

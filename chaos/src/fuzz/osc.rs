//! OSC, its streams and OSCQuery: what is read can be written again, and what a stream means must
//! not depend on how it was cut.

use std::net::SocketAddr;

use clasp_rt_bridges::osc::framing::{Deframer, Found, Framing, wrap};
use clasp_rt_bridges::osc::packet::{self, Packet, Writer};
use clasp_rt_bridges::{BRIDGES, Input, Out, Peer, StreamId};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::wire::{binary, header};

use super::seeds::hex;

/// Bytes that a peer takes before it reads.
const ROOM: usize = 256 << 10;

/// What a bridge did with a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    frames: Vec<Vec<u8>>,
    ended: bool,
    /// Bytes said since the peer last read.
    unread: usize,
}

impl Out for Done {
    fn to_router(&mut self, frame: &[u8]) {
        let parsed = header::parse(frame).expect("a bridge sends whole frames");
        binary::decode(parsed.payload).expect("a bridge sends messages");
        self.frames.push(frame.to_vec());
    }

    fn to_network(&mut self, _: u8, _: SocketAddr, _: &[u8]) {
        panic!("nobody listens for datagrams");
    }

    fn stream_room(&self, _: StreamId) -> usize {
        ROOM - self.unread
    }

    fn to_stream(&mut self, _: StreamId, bytes: &[u8]) {
        assert!(!self.ended && !bytes.is_empty() && bytes.len() <= ROOM - self.unread);
        self.unread += bytes.len();
    }

    fn end_stream(&mut self, _: StreamId) {
        assert!(!self.ended, "a stream ends once");
        self.ended = true;
    }
}

/// Gives the bytes after the first to a connection of OSC or, where that one is odd, of OSCQuery.
pub fn streams(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let plan = which & 1;
    let whole = done(plan, bytes, bytes.len().max(1));
    for chunk in [1, 7, 100] {
        if bytes.len() / chunk < 3_000 {
            assert_eq!(done(plan, bytes, chunk), whole, "in pieces of {chunk}");
        }
    }
}

fn done(plan: u8, bytes: &[u8], chunk: usize) -> Done {
    let entry = BRIDGES.iter().find(|entry| entry.name == "osc").expect("OSC is a bridge");
    let keys = serde_json::json!({
        "listen_tcp": "127.0.0.1:0", "oscquery": "127.0.0.1:0", "query": true,
        "addresses_max": 64,
    });
    let mut bridge = (entry.open)(keys).expect("keys that work");
    let (mut out, now) = (Done::default(), Time(0));
    let stream = StreamId { index: 0, generation: 0 };
    bridge.step(now, Input::Joined, &mut out);
    bridge.step(now, Input::Opened { stream, plan, peer: Peer::Caller }, &mut out);
    for bytes in bytes.chunks(chunk) {
        if out.ended {
            break;
        }
        bridge.step(now, Input::Bytes { stream, bytes }, &mut out);
        out.unread = 0;
    }
    bridge.step(now, Input::Ended { stream }, &mut out);
    assert!(bridge.deadline().is_none_or(|due| due <= now + Span::from_millis(50)));
    bridge.step(now, Input::Stop, &mut out);
    out.unread = 0;
    out
}

/// A packet that was read is the same when it is written and read again.
pub fn packets(bytes: &[u8]) {
    let Ok(read) = packet::decode(bytes) else { return };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    write(&read, &mut first);
    let again = packet::decode(&first).expect("what was written is a packet");
    write(&again, &mut second);
    assert_eq!(hex(&first), hex(&second));
}

fn write(packet: &Packet<'_>, out: &mut Vec<u8>) {
    match packet {
        Packet::Message(message) => {
            let mut writer = Writer::default();
            writer.clear();
            message.arguments().for_each(|argument| writer.push(argument));
            packet::write_message(out, message.address, &writer);
        }
        Packet::Bundle(bundle) => {
            packet::write_bundle_head(out, bundle.time);
            for inner in bundle.packets() {
                let mut element = Vec::new();
                write(&inner, &mut element);
                packet::push_element(out, &element);
            }
        }
    }
}

/// The bytes after the first as a stream; that one says of which framing, or that they tell.
pub fn framing(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let framing = [None, Some(Framing::Length), Some(Framing::Slip)][usize::from(*which) % 3];
    let whole = found(framing, bytes, bytes.len().max(1));
    for chunk in [1, 7, 100] {
        if bytes.len() / chunk < 3_000 {
            assert_eq!(found(framing, bytes, chunk), whole, "in pieces of {chunk}");
        }
    }
    let packets: Vec<_> = whole.0.into_iter().flatten().collect();
    for framing in [Framing::Length, Framing::Slip] {
        let mut out = Vec::new();
        packets.iter().for_each(|packet| wrap(framing, packet, &mut out));
        let (again, is_broken) = found(Some(framing), &out, out.len().max(1));
        assert!(!is_broken);
        assert!(again.into_iter().eq(packets.iter().cloned().map(Some)), "by {framing:?}");
    }
}

/// The packets of a stream, `None` for one that was left out, and whether it ended broken.
fn found(framing: Option<Framing>, bytes: &[u8], chunk: usize) -> (Vec<Option<Vec<u8>>>, bool) {
    let (mut deframer, mut all) = (Deframer::new(framing), Vec::new());
    for bytes in bytes.chunks(chunk) {
        let mut each = |found: Found<'_>| match found {
            Found::Packet(packet) => all.push(Some(packet.to_vec())),
            Found::Malformed => all.push(None),
        };
        if deframer.push(bytes, &mut each).is_err() {
            return (all, true);
        }
    }
    (all, false)
}

/// Messages of every type, bundles in bundles.
pub fn packet_seeds() -> Vec<Vec<u8>> {
    let message: &[u8] = b"/1/fader3\0\0\0,ifsbTFNI[ff]\0\0\0\
        \0\0\0\x07\x3f\0\0\0text\0\0\0\0\0\0\0\x02ab\0\0\x3f\x80\0\0\x3f\x80\0\0";
    let rest: &[u8] = b"/x\0\0,hdtScrm\0\0\0\0\0\0\0\0\0\0\0\x09\x3f\xf0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\x01name\0\0\0\0\0\0\0a\xff\x80\0\xff\x01\x90\x3c\x40";
    let bundle = |inner: &[&[u8]]| {
        let mut bytes = b"#bundle\0\0\0\0\0\0\0\0\x01".to_vec();
        inner.iter().for_each(|inner| packet::push_element(&mut bytes, inner));
        bytes
    };
    let inner = bundle(&[message, rest]);
    vec![message.to_vec(), rest.to_vec(), bundle(&[&inner, message]), b"/1/*\0\0\0\0".to_vec()]
}

/// Both framings, told and to be told.
pub fn framing_seeds() -> Vec<Vec<u8>> {
    let framed = |which: u8, framing| {
        let mut out = vec![which];
        packet_seeds().iter().for_each(|packet| wrap(framing, packet, &mut out));
        out
    };
    vec![
        framed(0, Framing::Length),
        framed(0, Framing::Slip),
        framed(1, Framing::Length),
        framed(2, Framing::Slip),
        b"\x02/\xDB\xDC\xDB\xDD\xC0\xC0/\xDB/\xC0".to_vec(),
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let message = b"/1/fader3\0\0\0,if\0\0\0\0\x07\x3f\x80\0\0";
    let question = b"/1/*\0\0\0\0";
    let framed = |framing| {
        let mut out = vec![0];
        wrap(framing, message, &mut out);
        wrap(framing, question, &mut out);
        out
    };
    let get = |target: &str| format!("\u{1}GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let upgrade = b"\x01GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Version: 13\r\n\r\n";
    // Masked with zeros, so that the text can be read here.
    let page = |code: u8, payload: &[u8]| {
        let mut frame = vec![0x80 | code, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend(payload);
        frame
    };
    let listen = br#"{"COMMAND":"LISTEN","DATA":"/1/fader3"}"#;
    vec![
        framed(Framing::Length),
        framed(Framing::Slip),
        get("/"),
        get("/1/fader%33?VALUE"),
        [get("/?HOST_INFO"), get("/x")[1..].to_vec()].concat(),
        [&upgrade[..], &page(1, listen), &page(2, message), &page(8, b"")].concat(),
    ]
}

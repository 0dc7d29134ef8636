//! The hand-written WebSocket against `tungstenite`: each reads what the other writes, and both
//! agree on what is wrong.

use std::io::{self, Read, Write};

use clasp_rt_link::ws::Ws;
use clasp_rt_link::{End, Event, MESSAGE_BYTES_MAX, Transport};
use proptest::prelude::*;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

#[derive(Clone, Debug, PartialEq)]
enum Packet {
    Binary(Vec<u8>),
    Text(String),
}

/// What a peer sends: a packet in so many pieces, with a ping between each two.
#[derive(Clone, Debug)]
struct Sending {
    packet: Packet,
    pieces: usize,
}

/// A stream in memory: what is written stays, what was put in is read and then "would block".
#[derive(Default)]
struct Memory {
    incoming: io::Cursor<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tungstenite(role: Role, incoming: Vec<u8>) -> WebSocket<Memory> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let memory = Memory { incoming: io::Cursor::new(incoming), outgoing: Vec::new() };
    WebSocket::from_raw_socket(memory, role, Some(config))
}

/// Everything tungstenite makes of `bytes`, and whether it refused them in the end.
fn read_theirs(role: Role, bytes: &[u8]) -> (Vec<Packet>, Result<bool, Error>) {
    let mut socket = tungstenite(role, bytes.to_vec());
    let mut packets = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => packets.push(Packet::Binary(bytes.to_vec())),
            Ok(Message::Text(text)) => packets.push(Packet::Text(text.as_str().to_owned())),
            Ok(Message::Close(_)) => return (packets, Ok(true)),
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (packets, Ok(false));
            }
            Err(error) => return (packets, Err(error)),
        }
    }
}

/// Everything ours makes of `bytes`, which arrive in pieces of `cuts` bytes, over and over.
fn read_ours(ws: &mut Ws, bytes: &[u8], cuts: &[usize]) -> (Vec<Packet>, Option<End>, Vec<u8>) {
    let (mut kept, mut out, mut packets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(*cuts.next().unwrap_or(&rest.len())));
        kept.extend_from_slice(piece);
        rest = later;
        loop {
            assert!(kept.len() <= clasp_rt_link::UNREAD_BYTES_MAX + piece.len());
            match ws.peek(&mut kept, &mut out) {
                Event::More => break,
                Event::Opened | Event::Alive => {}
                Event::Binary(bytes) => packets.push(Packet::Binary(bytes.to_vec())),
                Event::Text(text) => packets.push(Packet::Text(text.to_owned())),
                Event::Ended(end) => return (packets, Some(end), out),
            }
            kept.drain(..ws.advance());
        }
    }
    (packets, None, out)
}

/// A server and a client of ours after their handshake.
fn ours() -> (Ws, Ws) {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let mut client = Ws::client("localhost", "/", 7, &mut request).expect("a plain host");
    let mut server = Ws::server();
    assert_eq!(server.peek(&mut request, &mut reply), Event::Opened);
    server.advance();
    assert_eq!(client.peek(&mut reply, &mut Vec::new()), Event::Opened);
    client.advance();
    (server, client)
}

/// The bytes with which tungstenite sends all that.
fn write_theirs(role: Role, sendings: &[Sending]) -> Vec<u8> {
    let mut socket = tungstenite(role, Vec::new());
    for Sending { packet, pieces } in sendings {
        let (opcode, bytes) = match packet {
            Packet::Binary(bytes) => (Data::Binary, bytes.as_slice()),
            Packet::Text(text) => (Data::Text, text.as_bytes()),
        };
        let len = bytes.len().div_ceil(*pieces).max(1);
        let count = bytes.chunks(len).count().max(1);
        for index in 0..count {
            let opcode = if index == 0 { opcode } else { Data::Continue };
            let piece = bytes.chunks(len).nth(index).unwrap_or_default().to_vec();
            let frame = Frame::message(piece, OpCode::Data(opcode), index + 1 == count);
            socket.send(Message::Frame(frame)).expect("memory takes all");
            if index + 1 < count {
                socket.send(Message::Ping(vec![index as u8].into())).expect("memory takes all");
            }
        }
    }
    std::mem::take(&mut socket.get_mut().outgoing)
}

fn packet() -> impl Strategy<Value = Packet> {
    let len = prop_oneof![0..200_usize, 65_500..MESSAGE_BYTES_MAX + 1];
    prop_oneof![
        len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)).prop_map(Packet::Binary),
        "\\PC{0,80}".prop_map(Packet::Text),
    ]
}

fn sending() -> impl Strategy<Value = Sending> {
    (packet(), 1..6_usize).prop_map(|(packet, pieces)| Sending { packet, pieces })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn ours_reads_what_tungstenite_sends_however_it_is_cut(
        sendings in prop::collection::vec(sending(), 1..6),
        cuts in prop::collection::vec(1..5_000_usize, 1..8),
    ) {
        let sent: Vec<Packet> = sendings.iter().map(|sending| sending.packet.clone()).collect();
        let (server, client) = ours();
        for (mut reader, role) in [(server, Role::Client), (client, Role::Server)] {
            let (packets, end, _) = read_ours(&mut reader, &write_theirs(role, &sendings), &cuts);
            prop_assert_eq!(&packets, &sent);
            prop_assert_eq!(end, None);
        }
    }

    #[test]
    fn tungstenite_reads_what_ours_sends(packets in prop::collection::vec(packet(), 1..6)) {
        let (server, client) = ours();
        for (mut writer, role) in [(server, Role::Client), (client, Role::Server)] {
            let mut bytes = Vec::new();
            for packet in &packets {
                match packet {
                    Packet::Binary(frame) => writer.wrap(frame, &mut bytes),
                    Packet::Text(text) => writer.wrap_text(text, &mut bytes),
                }
                writer.ping(&mut bytes);
            }
            writer.close(1000, "done", &mut bytes);
            let (read, end) = read_theirs(role, &bytes);
            prop_assert_eq!(&read, &packets);
            prop_assert!(matches!(end, Ok(true)), "{:?}", end);
        }
    }

    /// Frames whose headers are mostly sound and sometimes not, so that every rule is met often.
    #[test]
    fn both_refuse_the_same_frames(
        frames in prop::collection::vec(
            (
                prop_oneof![Just(0x81_u8), Just(0x82), Just(0x01), Just(0x02), Just(0x00),
                    Just(0x80), Just(0x89), Just(0x8A), any::<u8>()],
                prop_oneof![8 => Just(true), 1 => Just(false)],
                prop_oneof![8 => prop::collection::vec(b'a'..=b'z', 0..140),
                    1 => prop::collection::vec(any::<u8>(), 0..8)],
            ),
            1..8,
        ),
        cuts in prop::collection::vec(1..40_usize, 1..4),
    ) {
        let mut bytes = Vec::new();
        for (first, masked, payload) in &frames {
            let mask_bit = if *masked { 0x80 } else { 0 };
            match payload.len() {
                len @ ..126 => bytes.extend_from_slice(&[*first, mask_bit | len as u8]),
                len => bytes.extend_from_slice(&[*first, mask_bit | 126, 0, len as u8]),
            }
            bytes.extend_from_slice(if *masked { &[0; 4] } else { &[] });
            bytes.extend_from_slice(payload);
        }
        let (theirs, their_end) = read_theirs(Role::Server, &bytes);
        let (packets, end, out) = read_ours(&mut ours().0, &bytes, &cuts);
        prop_assert_eq!(&packets, &theirs);
        match (&their_end, end) {
            (Ok(false), None) | (Ok(true), Some(End::Closed { .. })) => {}
            // Theirs looks at a text piece by piece. Ours waits for the whole, and may meet
            // something else before; that it lets no such text pass is seen in the packets.
            (Err(Error::Utf8(_)), _) => {}
            (Err(_), Some(End::Violated { code, .. })) => {
                prop_assert_ne!(code, 1007, "{:?}", their_end);
                let (_, told) = read_theirs(Role::Client, &out);
                prop_assert!(matches!(told, Ok(true)), "our close frame: {:?}", told);
            }
            // Theirs reports a close with a code that may not travel as a close like any other.
            (Ok(true), Some(End::Violated { code: 1002, .. })) => {}
            (theirs, ours) => prop_assert!(false, "theirs {theirs:?}, ours {ours:?}"),
        }
    }

    #[test]
    fn no_bytes_at_all_upset_it(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(1..50_usize, 1..4),
    ) {
        let (mut server, mut client) = ours();
        read_ours(&mut server, &bytes, &cuts);
        read_ours(&mut client, &bytes, &cuts);
        read_ours(&mut Ws::server(), &bytes, &cuts);
    }
}

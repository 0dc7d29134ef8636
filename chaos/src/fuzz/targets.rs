//! What is fuzzed, and what must hold for every input: each target is one function that panics.

use std::cell::Cell;
use std::net::SocketAddr;

use clasp_rt_bridges::{BRIDGES, Input, Out};
use clasp_rt_core::address;
use clasp_rt_core::pattern;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::trie::Trie;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{self, Scratch, binary, header};
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{Event, Transport};
use clasp_rt_perf::capture::{self, Record};

use super::{devices, seeds};

/// Something that reads bytes of strangers.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// What must hold besides that nothing panics.
    pub about: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target, in the order of the layers.
pub const TARGETS: &[Target] = &[
    Target {
        name: "header",
        about: "a frame is as long as its first bytes say",
        run: frame_header,
        seeds: seeds::frames,
    },
    Target {
        name: "binary",
        about: "what decodes is encoded, decoded and encoded again to equal bytes",
        run: binary_payload,
        seeds: seeds::payloads,
    },
    Target {
        name: "legacy",
        about: "what decodes from MessagePack is a message of the binary encoding",
        run: legacy_payload,
        seeds: seeds::payloads,
    },
    Target {
        name: "value",
        about: "a value reads back from its own bytes, down to the last nested one",
        run: value,
        seeds: seeds::payloads,
    },
    Target {
        name: "pattern",
        about: "the trie finds exactly what `matches` says, and `is_within` never says too much",
        run: patterns,
        seeds: seeds::patterns,
    },
    Target {
        name: "ws",
        about: "events do not depend on how the bytes were cut",
        run: web_socket,
        seeds: seeds::web_socket,
    },
    Target {
        name: "ws-client",
        about: "what a server says does not depend on how its bytes were cut",
        run: web_socket_client,
        seeds: seeds::web_socket_server,
    },
    Target {
        name: "stream",
        about: "events do not depend on how the bytes were cut",
        run: stream,
        seeds: seeds::frames,
    },
    Target {
        name: "bridges",
        about: "every bridge gives the router whole, decodable frames only",
        run: bridges,
        seeds: seeds::bridge_packets,
    },
    Target {
        name: "osc",
        about: "OSC streams and OSCQuery mean the same however they were cut",
        run: super::osc::streams,
        seeds: super::osc::seeds,
    },
    Target {
        name: "osc-packet",
        about: "an OSC packet that was read is the same when it is written and read again",
        run: super::osc::packets,
        seeds: super::osc::packet_seeds,
    },
    Target {
        name: "osc-framing",
        about: "packets of a stream do not depend on its cuts, and are found again when wrapped",
        run: super::osc::framing,
        seeds: super::osc::framing_seeds,
    },
    Target {
        name: "sacn-packet",
        about: "an sACN packet that was read is the same when it is written and read again",
        run: super::sacn::again,
        seeds: super::sacn::golden,
    },
    Target {
        name: "sacn",
        about: "a bridge of sACN joins and says no more than it may, and does not spin",
        run: super::sacn::packets,
        seeds: super::sacn::seeds,
    },
    Target {
        name: "artnet",
        about: "what decodes is written, read and written again to the same octets",
        run: super::artnet::packets,
        seeds: super::artnet::seeds,
    },
    Target {
        name: "midi",
        about: "messages of a cable, written again, are cut into the same messages",
        run: devices::midi,
        seeds: devices::midi_seeds,
    },
    Target {
        name: "dmx",
        about: "messages of an interface do not depend on how the bytes were cut",
        run: devices::dmx,
        seeds: devices::dmx_seeds,
    },
    Target {
        name: "routes",
        about: "routes that open take any value, and write whole messages",
        run: super::mapping::routes,
        seeds: super::mapping::route_seeds,
    },
    Target {
        name: "patch",
        about: "a patch that opens takes any value, and writes whole messages",
        run: super::mapping::patch,
        seeds: super::mapping::patch_seeds,
    },
    Target {
        name: "json",
        about: "what is read as a message is written and read again as the same message",
        run: json,
        seeds: seeds::json,
    },
    Target {
        name: "mqtt",
        about: "a client's session gives the router whole frames, however its bytes were cut",
        run: super::mqtt::run,
        seeds: super::mqtt::seeds,
    },
    Target {
        name: "topics",
        about: "a topic is an address and comes back; a filter means what its pattern does",
        run: super::names::topics,
        seeds: super::names::topic_seeds,
    },
    Target {
        name: "tokens",
        about: "a token file that was read is the same when it is written and read again",
        run: super::names::token_file,
        seeds: super::names::token_seeds,
    },
    Target {
        name: "http-path",
        about: "an address that a path means has a path that means it; a condition means its tags",
        run: super::names::http_path,
        seeds: super::names::path_seeds,
    },
    Target {
        name: "socketio",
        about: "what a Socket.IO server says can be said back, and is heard as the same",
        run: super::socketio::run,
        seeds: super::socketio::seeds,
    },
    Target {
        name: "web-client",
        about: "what a web program asks has one answer in JSON, whatever the router says",
        run: super::web::client,
        seeds: super::web::client_seeds,
    },
    Target {
        name: "web-talk",
        about: "a question to the router has one answer, and has it at last",
        run: super::web::talk,
        seeds: super::web::talk_seeds,
    },
    Target {
        name: "capture",
        about: "records of a capture, written again, read as the same records",
        run: capture,
        seeds: seeds::captures,
    },
    Target {
        name: "shard",
        about: "one shard answers as the naive router does",
        run: crate::oracle::agrees,
        seeds: seeds::scripts,
    },
];

fn frame_header(bytes: &[u8]) {
    if let Ok(frame) = header::parse(bytes) {
        let len = header::frame_len(bytes).expect("a parsed frame has a header");
        assert!(len <= bytes.len(), "{len} of {} bytes", bytes.len());
        assert_eq!(frame.payload.len(), usize::from(frame.header.payload_len));
        assert_eq!(header::parse(&bytes[..len]), Ok(frame), "what follows a frame changes it");
    }
}

fn binary_payload(payload: &[u8]) {
    let Ok(message) = binary::decode(payload) else { return };
    // Some messages are longer when written than when read: a short one that promised nothing else.
    let mut first = Vec::new();
    if binary::encode(&message, binary::default_qos(&message), &mut first).is_err() {
        return;
    }
    let frame = header::parse(&first).expect("an encoded frame has a header");
    let again = binary::decode(frame.payload).expect("what was encoded decodes");
    let mut second = Vec::new();
    binary::encode(&again, frame.header.qos, &mut second).expect("the same message fits again");
    assert_eq!(seeds::hex(&first), seeds::hex(&second));
}

fn legacy_payload(payload: &[u8]) {
    let mut scratch = Scratch::default();
    let Ok(message) = wire::decode(payload, &mut scratch) else { return };
    let mut first = Vec::new();
    if binary::append_payload(&message, &mut first).is_ok() {
        binary_payload(&first);
        assert!(binary::decode(&first).is_ok(), "{message:?} does not decode once it is binary");
    }
}

fn value(bytes: &[u8]) {
    let Some((code, data)) = bytes.split_first() else { return };
    let Ok((value, used)) = Value::parse(*code, data) else { return };
    assert!(used <= data.len());
    assert_eq!(value.data(), &data[..used]);
    assert_eq!(Value::parse(*code, value.data()), Ok((value, used)));
    assert_eq!(value.encoded_len(), 1 + used);
    let inside = walk(value);
    assert!(inside <= bytes.len(), "{inside} values in {} bytes", bytes.len());
}

/// Values in `value`, itself included.
fn walk(value: Value<'_>) -> usize {
    let items: usize = value.array().into_iter().flatten().map(walk).sum();
    let entries: usize = value.map().into_iter().flatten().map(|(_, value)| walk(value)).sum();
    1 + items + entries
}

fn patterns(bytes: &[u8]) {
    let mut texts = bytes.split(|byte| *byte == 0).map(small_text);
    let (Some(pattern), Some(address)) = (texts.next(), texts.next()) else { return };
    if pattern::check(&pattern).is_err() || address::check(&address).is_err() {
        return;
    }
    let matches = pattern::matches(&pattern, &address);
    let mut trie = Trie::new(64, 64, [1, 2]);
    if trie.insert(&pattern, 7).is_ok() {
        let found = Cell::new(false);
        trie.for_each_match(&address, &mut |entry| {
            assert_eq!(entry, 7);
            found.set(true);
        });
        assert_eq!(found.get(), matches, "trie: {pattern} on {address}");
        assert!(trie.remove(&pattern, 7));
        trie.for_each_match(&address, &mut |_| panic!("{pattern} stays after its removal"));
    }
    for scope in texts.filter(|scope| pattern::check(scope).is_ok()) {
        let within = pattern::is_within(&pattern, [scope.as_str()].into_iter());
        let too_much = within && matches && !pattern::matches(&scope, &address);
        assert!(!too_much, "{pattern} is not within {scope}: {address}");
    }
}

/// Bytes as text of few letters, so that patterns and addresses meet.
fn small_text(bytes: &[u8]) -> String {
    let letters = b"//**ab";
    let letter = |byte: &u8| match byte {
        b'/' | b'*' | b'a' | b'b' => char::from(*byte),
        other => char::from(letters[usize::from(*other) % letters.len()]),
    };
    // Longer ones find nothing new and only cost time.
    bytes.iter().take(48).map(letter).collect()
}

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn web_socket(bytes: &[u8]) {
    let received = [UPGRADE, bytes].concat();
    cut_differently(Ws::server, &received);
}

/// Bytes of a server behind its handshake; where the first is odd, the handshake is theirs, too.
fn web_socket_client(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let open = || Ws::client("a", "/", 7, &mut Vec::new()).expect("a host and a path");
    if which % 2 == 1 {
        return cut_differently(open, bytes);
    }
    cut_differently(open, &[seeds::web_socket_reply().as_slice(), bytes].concat());
}

fn stream(bytes: &[u8]) {
    cut_differently(Stream::new, bytes);
    let framed: Vec<u8> =
        bytes.chunks(97).flat_map(|c| [&(c.len() as u32).to_be_bytes(), c].concat()).collect();
    cut_differently(Stream::new, &framed);
}

fn cut_differently<T: Transport>(open: impl Fn() -> T, bytes: &[u8]) {
    let whole = events(open(), bytes, bytes.len().max(1));
    for chunk in [1, 7, 1_000] {
        // One byte at a time over a long input only repeats what a shorter one shows.
        if bytes.len() / chunk < 3_000 {
            assert_eq!(events(open(), bytes, chunk), whole, "in pieces of {chunk}");
        }
    }
}

/// What a transport makes of `bytes` that arrive `chunk` at a time; its replies come last.
fn events<T: Transport>(mut transport: T, bytes: &[u8], chunk: usize) -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut replies, mut received) = (Vec::new(), Vec::new(), Vec::new());
    'arrivals: for arrival in bytes.chunks(chunk) {
        received.extend_from_slice(arrival);
        loop {
            let event = match transport.peek(&mut received, &mut replies) {
                Event::More => break,
                Event::Binary(packet) => ("binary".to_owned(), packet.to_vec()),
                Event::Text(text) => ("text".to_owned(), text.as_bytes().to_vec()),
                Event::Opened => ("opened".to_owned(), Vec::new()),
                Event::Alive => ("alive".to_owned(), Vec::new()),
                Event::Ended(end) => {
                    seen.push((end.to_string(), Vec::new()));
                    break 'arrivals;
                }
            };
            seen.push(event);
            received.drain(..transport.advance());
        }
    }
    seen.push(("replies".to_owned(), replies));
    seen
}

/// Takes what a bridge decides, and looks at all of it.
pub(super) struct Checked;

impl Out for Checked {
    fn to_router(&mut self, frame: &[u8]) {
        let parsed = header::parse(frame).expect("a bridge sends whole frames");
        assert_eq!(header::frame_len(frame), Some(frame.len()));
        binary::decode(parsed.payload).expect("a bridge sends messages");
    }

    fn to_network(&mut self, _: u8, _: SocketAddr, bytes: &[u8]) {
        assert!(!bytes.is_empty() && bytes.len() <= 65_507, "{} bytes in a datagram", bytes.len());
    }
}

/// Gives all packets of a script to each bridge, as datagrams and as frames of the router.
fn bridges(bytes: &[u8]) {
    let from = SocketAddr::from(([127, 0, 0, 1], 6_454));
    for entry in BRIDGES {
        let Ok(mut bridge) = (entry.open)(serde_json::json!({})) else { continue };
        let mut now = Time(0);
        bridge.step(now, Input::Clock { unix_us: 1_790_000_000_000_000 }, &mut Checked);
        bridge.step(now, Input::Joined, &mut Checked);
        let mut rest = bytes;
        while let Some((len, more)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len)).min(more.len());
            let (packet, more) = more.split_at(len);
            rest = more;
            now = now + Span::from_millis(7);
            bridge.step(now, Input::Packet { socket: 0, from, bytes: packet }, &mut Checked);
            bridge.step(now, Input::Frame(packet), &mut Checked);
            if let Some(due) = bridge.deadline().filter(|due| *due <= now + Span::from_millis(20)) {
                now = now.max(due);
                bridge.step(now, Input::Deadline, &mut Checked);
            }
        }
        bridge.step(now, Input::Lost, &mut Checked);
        bridge.step(now, Input::Stop, &mut Checked);
    }
}

fn capture(bytes: &[u8]) {
    let Ok((header, records)) = capture::read(bytes) else { return };
    let read: Vec<_> = records.collect();
    let good: Vec<Record<'_>> = read.iter().map_while(|record| record.ok()).collect();
    assert!(read.len() <= good.len() + 1, "something follows an error");
    let mut again = Vec::new();
    header.put(&mut again);
    for record in &good {
        let len = again.len() + capture::record_len(record.item);
        capture::put(*record, &mut again);
        assert_eq!(again.len(), len);
        capture::pad(64, &mut again);
    }
    let (header_again, records) = capture::read(&again).expect("what was written is a capture");
    assert_eq!(header_again, header);
    assert!(records.eq(good.into_iter().map(Ok)), "{}", seeds::hex(&again));
}

fn json(bytes: &[u8]) {
    use clasp_rt_bridges::json::{from_frame, to_frame};
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (mut frame, mut frame_again, mut text_again) = (Vec::new(), Vec::new(), String::new());
    if to_frame(text, &mut frame).is_err() {
        return;
    }
    Checked.to_router(&frame);
    from_frame(&frame, &mut text_again).expect("a frame that was made from text has a text");
    to_frame(&text_again, &mut frame_again).expect("the text of a frame is a message");
    assert_eq!(seeds::hex(&frame), seeds::hex(&frame_again), "{text_again}");
}

//! Where mutation begins: one good input of each kind.

use clasp_rt_link::Transport;
use clasp_rt_link::ws::Ws;
use clasp_rt_perf::capture::{self, Header, Item, Record};

use crate::random::Random;

/// The golden frames of the protocol, as hexadecimal digits in a JSON file.
const VECTORS: &str = include_str!("../../../core/vectors/clasp.json");

/// Every frame of the golden vectors, well-formed or not.
pub fn frames() -> Vec<Vec<u8>> {
    const KEY: &str = "\"frame_hex\": \"";
    VECTORS
        .split(KEY)
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(digits, _)| unhex(digits))
        .collect::<Option<_>>()
        .expect("golden frames are hexadecimal")
}

/// The frames without their header, as codecs take them.
pub fn payloads() -> Vec<Vec<u8>> {
    frames().iter().filter_map(|frame| frame.get(4..)).map(<[u8]>::to_vec).collect()
}

/// A pattern, a zero byte and an address, in a small alphabet so that many match.
pub fn patterns() -> Vec<Vec<u8>> {
    let pairs = [
        ("/a/**", "/a"),
        ("/**/b/**", "/a/b/b"),
        ("/a*b/*", "/ab/"),
        ("/*/*", "/a/b"),
        ("/**/**/a*", "/b/a/ab"),
        ("/a**b", "/aaab"),
    ];
    pairs.iter().map(|(pattern, address)| [pattern, "\0", address].concat().into_bytes()).collect()
}

/// WebSocket frames of a client: text, binary, fragments, ping, close.
pub fn web_socket() -> Vec<Vec<u8>> {
    let masked = |head: &[u8], body: &[u8]| {
        let mask = [1_u8, 2, 3, 4];
        let body = body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        head.iter().copied().chain(mask).chain(body).collect::<Vec<u8>>()
    };
    let long: Vec<u8> = (0..200).map(|n| n as u8).collect();
    vec![
        masked(&[0x82, 0x85], b"fader"),
        masked(&[0x81, 0x84], "äö".as_bytes()),
        [masked(&[0x02, 0x82], b"ab"), masked(&[0x89, 0x80], b""), masked(&[0x80, 0x81], b"c")]
            .concat(),
        masked(&[0x82, 0xFE, 0x00, 0xC8], &long),
        masked(&[0x88, 0x82], &[0x03, 0xE8]),
        [masked(&[0x01, 0x81], &[0xC3]), masked(&[0x80, 0x81], &[0xA4])].concat(),
    ]
}

/// What a server answers the request of the client that `Ws::client("a", "/", 7, …)` is.
pub fn web_socket_reply() -> Vec<u8> {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let _client = Ws::client("a", "/", 7, &mut request);
    let _opened = Ws::server().peek(&mut request, &mut reply);
    reply
}

/// Frames of a server, behind its handshake (0) and with it (1).
pub fn web_socket_server() -> Vec<Vec<u8>> {
    let frames = b"\x82\x05fader\x81\x02go\x02\x02ab\x89\x01p\x80\x01c\x88\x02\x03\xE8";
    let long = [&[0x82, 0x7E, 0x00, 0xC8][..], &[7; 200]].concat();
    vec![
        [&[0][..], frames].concat(),
        [&[0][..], &long, &long].concat(),
        [&[1][..], &web_socket_reply(), frames].concat(),
        b"\x01HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ]
}

/// Packets with a length prefix each: a controller's frame or message.
pub fn bridge_packets() -> Vec<Vec<u8>> {
    let art_dmx = |sequence: u8, levels: &[u8]| {
        let mut packet = b"Art-Net\0\x00\x50\x00\x0e".to_vec();
        packet.extend([sequence, 0, 3, 0]);
        packet.extend((levels.len() as u16).to_be_bytes());
        packet.extend(levels);
        packet
    };
    let osc = b"/1/fader3\0\0\0,ifsbTFNI[ff]\0\0\0\
                \0\0\0\x07\x3f\0\0\0text\0\0\0\0\0\0\0\x02ab\0\0\x3f\x80\0\0\x3f\x80\0\0";
    let bundle = |inner: &[u8]| {
        let mut packet = b"#bundle\0\0\0\0\0\0\0\0\x01".to_vec();
        packet.extend((inner.len() as u32).to_be_bytes());
        packet.extend(inner);
        packet
    };
    let sets: Vec<Vec<u8>> = frames().into_iter().filter(|f| f.get(4) == Some(&0x21)).collect();
    let mut seeds = vec![
        packets(&[art_dmx(1, &[0, 255, 128]), art_dmx(2, &[1, 255, 0])]),
        packets(&[b"Art-Net\0\x00\x20\x00\x0e\x02\x00".to_vec()]),
        packets(&[b"Art-Net\0\x00\x52\x00\x0e\x00\x00".to_vec(), art_dmx(0, &[9; 512])]),
        packets(&[osc.to_vec()]),
        packets(&[bundle(osc), bundle(&bundle(osc))]),
        packets(&[b"/*/fader*\0\0\0,f\0\0\x3f\0\0\0".to_vec()]),
    ];
    seeds.push(packets(&sets));
    seeds.push(packets(&super::artnet::seeds()));
    seeds
}

pub fn packets(packets: &[Vec<u8>]) -> Vec<u8> {
    let prefixed = packets.iter().flat_map(|packet| {
        (packet.len() as u16).to_be_bytes().into_iter().chain(packet.iter().copied())
    });
    prefixed.collect()
}

/// JSON messages as a person types them.
pub fn json() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"type":"HELLO","name":"me"}"#,
        r#"{"type":"SET","address":"/a","value":0.5,"qos":"fire"}"#,
        r#"{"type":"SUBSCRIBE","id":1,"pattern":"/**"}"#,
        r#"{"type":"PUBLISH","address":"/a","signal":"event","value":{"x":[1,null,true,"ü"]}}"#,
        r#"{"type":"BUNDLE","messages":[{"type":"SET","address":"/a","value":1}]}"#,
        r#"{"op":"set","address":"/a","value":-1e300}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Captures with frames, a gap, padding and an end.
pub fn captures() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    Header { number: 1, start_unix_us: 1_790_000_000_000_000 }.put(&mut file);
    let whole = frames().into_iter().take(20).zip(0..).map(|(frame, at_ns)| {
        capture::put(Record { at_ns, item: Item::Frame(&frame) }, &mut file);
        file.clone()
    });
    let mut seeds: Vec<_> = whole.collect();
    capture::put(Record { at_ns: 30, item: Item::Lost(3) }, &mut file);
    capture::pad(512, &mut file);
    capture::put(Record { at_ns: 40, item: Item::End }, &mut file);
    seeds.push(file);
    seeds
}

/// Scripts of a few hundred operations each.
pub fn scripts() -> Vec<Vec<u8>> {
    let mut random = Random::new(0x5C);
    (0..8).map(|_| (0..600).map(|_| random.byte()).collect()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` for anything but pairs of hexadecimal digits.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_opens_by_the_reply_that_seeds_begin_with() {
        let mut client = Ws::client("a", "/", 7, &mut Vec::new()).unwrap();
        client.peek(&mut web_socket_reply(), &mut Vec::new());
        assert!(client.is_open());
    }

    #[test]
    fn all_golden_frames_are_seeds() {
        assert!(frames().len() >= 340, "{}", frames().len());
        assert!(frames().iter().filter(|frame| frame.first() == Some(&0x53)).count() > 300);
    }

    #[test]
    fn bytes_survive_their_hexadecimal_form() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("0g"), None);
    }
}

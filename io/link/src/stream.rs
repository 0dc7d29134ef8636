//! Packets on a byte stream: a length of four bytes, big-endian, before each.
//!
//! Source: `clasp-transport`'s TCP and the Arduino library. They stop at 65,536 bytes, which a
//! frame can exceed by its header; here a packet may be as long as the longest frame.

use crate::{End, Event, MESSAGE_BYTES_MAX, Transport, close};

const PREFIX_LEN: usize = 4;

/// For a program that takes this port for one of WebSockets: most show what they are answered.
const NOT_HTTP: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\nContent-Length: 93\r\nConnection: close\r\n\r\n\
    this port speaks CLASP on TCP: write tcp:// before it, or ask a port that listens for \
    ws://\r\n";

/// One connection whose packets carry a length prefix. It is open from the beginning.
#[derive(Debug, Default)]
pub struct Stream {
    /// Bytes that the last event used up.
    used: usize,
    closed: bool,
    violated: bool,
}

impl Stream {
    pub const fn new() -> Self {
        Self { used: 0, closed: false, violated: false }
    }
}

/// Appends `frame` as every open connection sends it, so that a frame for many is wrapped once.
pub fn wrap_for_peers(frame: &[u8], out: &mut Vec<u8>) {
    assert!(frame.len() <= MESSAGE_BYTES_MAX, "a packet is at most {MESSAGE_BYTES_MAX} bytes");
    out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    out.extend_from_slice(frame);
}

/// What it is that is no length of a packet.
fn not_a_length(prefix: [u8; PREFIX_LEN]) -> &'static str {
    match &prefix {
        b"GET " => {
            "a web request where CLASP on TCP is spoken; WebSockets have a port of their own"
        }
        b"HTTP" => "the other side answers in HTTP: its port is one for ws://, not for tcp://",
        // RFC 8446, section 5.1: a record of a handshake, version 3.x.
        [22, 3, ..] => "TLS where CLASP on TCP is spoken; tcp:// has no TLS",
        _ => "length prefix is above 65547",
    }
}

impl Transport for Stream {
    fn peek<'a>(&mut self, received: &'a mut [u8], out: &mut Vec<u8>) -> Event<'a> {
        let prefix = received.first_chunk().copied().unwrap_or_default();
        let len = u32::from_be_bytes(prefix) as usize;
        if self.violated || len > MESSAGE_BYTES_MAX {
            if !self.violated && prefix == *b"GET " {
                out.extend_from_slice(NOT_HTTP.as_bytes());
            }
            self.violated = true;
            self.used = received.len();
            return Event::Ended(End::Violated {
                code: close::TOO_LONG,
                what: not_a_length(prefix),
            });
        }
        match received.get(PREFIX_LEN..PREFIX_LEN + len) {
            Some(packet) => {
                self.used = PREFIX_LEN + len;
                Event::Binary(packet)
            }
            None => Event::More,
        }
    }

    fn advance(&mut self) -> usize {
        std::mem::take(&mut self.used)
    }

    fn wrap(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        if self.is_open() {
            wrap_for_peers(frame, out);
        }
    }

    fn wrap_text(&mut self, text: &str, out: &mut Vec<u8>) {
        self.wrap(text.as_bytes(), out);
    }

    fn ping(&mut self, _out: &mut Vec<u8>) {}

    fn close(&mut self, _code: u16, _text: &str, _out: &mut Vec<u8>) {
        self.closed = true;
    }

    fn is_open(&self) -> bool {
        !self.closed && !self.violated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` as they arrive, `step` at a time, as an edge does.
    fn read(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<End>) {
        let (mut stream, mut kept, mut packets) = (Stream::new(), Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            kept.extend_from_slice(piece);
            loop {
                match stream.peek(&mut kept, &mut Vec::new()) {
                    Event::Binary(packet) => packets.push(packet.to_vec()),
                    Event::Ended(end) => return (packets, Some(end)),
                    _ => break,
                }
                kept.drain(..stream.advance());
            }
        }
        (packets, None)
    }

    #[test]
    fn packets_arrive_whole_however_the_stream_is_cut() {
        let packets = [b"".to_vec(), b"a".to_vec(), vec![7; 300], vec![9; MESSAGE_BYTES_MAX]];
        let (mut stream, mut bytes) = (Stream::new(), Vec::new());
        for packet in &packets {
            stream.wrap(packet, &mut bytes);
        }
        for step in [1, 3, 4, 5, 1_500, bytes.len()] {
            assert_eq!(read(&bytes, step), (packets.to_vec(), None), "cut every {step} bytes");
        }
    }

    #[test]
    fn a_length_above_the_longest_frame_ends_the_connection_for_good() {
        let (packets, end) = read(&[0, 0, 0, 1, 7, 0, 1, 0, 0x0C], 9);
        assert_eq!(packets, [[7]]);
        assert_eq!(end.map(|end| end.code()), Some(close::TOO_LONG));

        let mut stream = Stream::new();
        let mut out = Vec::new();
        stream.peek(&mut [0, 1, 0, 0x0C], &mut out);
        assert_eq!(stream.advance(), 4);
        assert!(matches!(stream.peek(&mut [0, 0, 0, 0], &mut out), Event::Ended(_)));
        stream.wrap(b"late", &mut out);
        assert_eq!(out, []);
    }

    #[test]
    fn who_comes_with_another_protocol_is_told_which_this_is() {
        for (came, said) in [
            (&b"GET / HTTP/1.1\r\n"[..], "WebSockets have a port of their own"),
            (b"HTTP/1.1 400 Bad Request\r\n", "ws://, not for tcp://"),
            (b"\x16\x03\x01\x02\x00\x01", "tcp:// has no TLS"),
            (b"\x00\x01\x00\x0c", "above 65547"),
        ] {
            let (_, end) = read(came, 3);
            let end = end.expect("an end").to_string();
            assert!(end.contains(said), "{end}");
        }
        let (mut stream, mut out) = (Stream::new(), Vec::new());
        for _ in 0..2 {
            assert!(matches!(stream.peek(&mut b"GET /".to_vec(), &mut out), Event::Ended(_)));
        }
        let answer = String::from_utf8(out).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("write tcp:// before it"), "{body}");
    }

    #[test]
    fn the_same_packet_is_shown_until_it_is_let_go() {
        let mut stream = Stream::new();
        let mut bytes = *b"\0\0\0\x01x";
        for _ in 0..3 {
            assert_eq!(stream.peek(&mut bytes, &mut Vec::new()), Event::Binary(b"x"));
        }
        assert_eq!((stream.advance(), stream.advance()), (5, 0));
    }
}

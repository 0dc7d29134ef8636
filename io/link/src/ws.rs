//! WebSocket, both sides: frames are unmasked and joined where they lie (RFC 6455).
//!
//! Written by hand because a library's parser gives each message in memory of its own and costs 60
//! to 110 ns a frame of 40 bytes, against 16 ns here (release, one shared Zen 4 core);
//! `tests/against_tungstenite.rs` holds the two together. Compression is not offered, so a set
//! reserved bit is always a fault.
//!
//! The pieces of a fragmented message stay in the caller's buffer and are moved together there:
//! each byte moves once, and nothing is ever allocated for a message.

mod frame;
mod handshake;

use std::ops::Range;

use crate::{End, Event, MESSAGE_BYTES_MAX, Transport, close};
use frame::{Opcode, Sender, Violation};
use handshake::NotOpened;

/// Bytes that the pieces of one message may take with their headers, and with what comes between
/// them: a message that is cut smaller than that is refused.
const PIECES_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

const _: () = assert!(
    PIECES_BYTES_MAX + frame::HEADER_LEN_MAX + MESSAGE_BYTES_MAX <= crate::UNREAD_BYTES_MAX
);

/// One WebSocket connection, from either end.
#[derive(Debug)]
pub struct Ws {
    /// A client masks what it sends.
    masks: Option<Masks>,
    phase: Phase,
    /// Bytes at the front of what was received that have been read.
    scanned: usize,
    /// The message whose last piece has not come yet.
    partial: Option<Partial>,
    /// The event that was given and not let go of.
    shown: Option<Shown>,
}

#[derive(Debug)]
enum Phase {
    /// A server waits for the request.
    Request,
    /// A client waits for the reply, which must hold this accept key.
    Reply {
        accept: String,
    },
    Open,
    /// A close frame was sent; the peer's is awaited, and its packets are still given.
    Closing,
    /// Whatever comes is of no use.
    Ended(End),
}

/// Pieces so far, unmasked and joined, at this place in the received bytes.
#[derive(Clone, Debug)]
struct Partial {
    kind: Kind,
    body: Range<usize>,
}

#[derive(Clone, Debug)]
struct Shown {
    kind: Kind,
    body: Range<usize>,
    /// Bytes at the front that are used up when it is let go of.
    used: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Opened,
    Binary,
    Text,
    Alive,
    /// The phase says how.
    Ended,
}

impl Ws {
    /// The side that was connected to. Any path is taken.
    pub const fn server() -> Self {
        Self { masks: None, phase: Phase::Request, scanned: 0, partial: None, shown: None }
    }

    /// The side that connected: appends its request to `out`.
    ///
    /// `seed` must come from the system's random source, as a key that others can guess protects no
    /// proxy on the way (§10.3). `None` where `host` or `path` cannot stand in a request.
    pub fn client(host: &str, path: &str, seed: u64, out: &mut Vec<u8>) -> Option<Self> {
        let mut masks = Masks { state: seed };
        let nonce = [masks.draw(), masks.draw(), masks.draw(), masks.draw()];
        let accept = handshake::request(host, path, *nonce.as_flattened().as_array()?, out)?;
        Some(Self { masks: Some(masks), phase: Phase::Reply { accept }, ..Self::server() })
    }

    /// Reads up to the next event; `None` when the bytes end before it.
    fn read(&mut self, received: &mut [u8], out: &mut Vec<u8>) -> Option<Shown> {
        let read = match self.phase {
            Phase::Open | Phase::Closing => self.read_frames(received, out),
            Phase::Request | Phase::Reply { .. } => self.read_head(received, out),
            Phase::Ended(end) => Err(end),
        };
        read.unwrap_or_else(|end| {
            self.phase = Phase::Ended(end);
            Some(Shown { kind: Kind::Ended, body: 0..0, used: received.len() })
        })
    }

    /// Reads what nearly every frame of a client is: a whole packet below 126 bytes, all here.
    /// `None` leaves everything as it was, for [`Ws::read`].
    #[inline]
    fn read_short(&mut self, received: &mut [u8]) -> Option<Shown> {
        let from_client = self.masks.is_none() && matches!(self.phase, Phase::Open);
        if !from_client || self.scanned != 0 || self.partial.is_some() {
            return None;
        }
        let (header, rest) = received.split_first_chunk_mut()?;
        let (len, mask) = frame::short_packet(header)?;
        frame::apply_mask(rest.get_mut(..len)?, mask);
        let end = header.len() + len;
        self.scanned = end;
        Some(Shown { kind: Kind::Binary, body: header.len()..end, used: end })
    }

    fn read_head(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Option<Shown>, End> {
        let is_text = received.first().is_none_or(|byte| byte.is_ascii_alphabetic());
        let len = if is_text {
            handshake::head_len(received, self.scanned)
        } else {
            Err(NotOpened { status: 400, what: "the first byte is no HTTP" })
        };
        let opened = match (len, &self.phase) {
            (Ok(None), _) => {
                self.scanned = received.len();
                return Ok(None);
            }
            (Ok(Some(len)), Phase::Reply { accept }) => {
                handshake::check_reply(&received[..len], accept).map(|()| len)
            }
            (Ok(Some(len)), _) => handshake::answer(&received[..len], out).map(|()| len),
            (Err(refused), Phase::Reply { .. }) => Err(NotOpened { status: 0, ..refused }),
            (Err(refused), _) => {
                handshake::append_refusal(refused, false, out);
                Err(refused)
            }
        };
        let len = opened.map_err(|NotOpened { status, what }| End::NotOpened { status, what })?;
        self.phase = Phase::Open;
        self.scanned = len;
        Ok(Some(Shown { kind: Kind::Opened, body: 0..0, used: len }))
    }

    fn read_frames(
        &mut self,
        received: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Shown>, End> {
        let sender = if self.masks.is_some() { Sender::Server } else { Sender::Client };
        loop {
            let unread = received.get(self.scanned..).unwrap_or_default();
            let header = match frame::Header::parse(unread, sender) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(violation) => return Err(self.refuse(violation, out)),
            };
            // Before the payload is here, so that nobody waits for what will be refused.
            let kind = self.place(&header).map_err(|violation| self.refuse(violation, out))?;
            let start = self.scanned + header.len;
            let end = start + header.payload_len;
            let Some(payload) = received.get_mut(start..end) else { return Ok(None) };
            if let Some(mask) = header.mask {
                frame::apply_mask(payload, mask);
            }
            self.scanned = end;
            if kind == Kind::Alive {
                self.obey(header.opcode, payload, out)?;
                // Inside a message the bytes before it are still needed.
                let used = if self.partial.is_none() { end } else { 0 };
                return Ok(Some(Shown { kind, body: 0..0, used }));
            }
            let body = match self.partial.take() {
                Some(partial) => join(received, partial.body, start..end),
                None => start..end,
            };
            if !header.fin {
                self.partial = Some(Partial { kind, body });
                continue;
            }
            let message = received.get(body.clone()).unwrap_or_default();
            if kind == Kind::Text && std::str::from_utf8(message).is_err() {
                return Err(self.refuse(frame::BAD_TEXT, out));
            }
            return Ok(Some(Shown { kind, body, used: end }));
        }
    }

    /// What a frame belongs to, and whether it may stand there and be that long.
    fn place(&self, header: &frame::Header) -> Result<Kind, Violation> {
        let kind = match (header.opcode, &self.partial) {
            (Opcode::Binary, None) => Kind::Binary,
            (Opcode::Text, None) => Kind::Text,
            (Opcode::Continuation, Some(partial)) => {
                if partial.body.len() + header.payload_len > MESSAGE_BYTES_MAX {
                    return Err(frame::TOO_LONG);
                }
                partial.kind
            }
            (Opcode::Continuation, None) => {
                return Err(frame::breach("a piece belongs to no message"));
            }
            (Opcode::Binary | Opcode::Text, Some(_)) => {
                return Err(frame::breach("a message begins inside another"));
            }
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => Kind::Alive,
        };
        if self.partial.is_some() && self.scanned > PIECES_BYTES_MAX {
            return Err(Violation {
                code: close::TOO_LONG,
                what: "a message is cut into too many pieces",
            });
        }
        Ok(kind)
    }

    /// Does what a control frame asks.
    fn obey(&mut self, control: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        match control {
            Opcode::Ping => self.append(Opcode::Pong, payload, out),
            Opcode::Close => {
                let code =
                    frame::close_code(payload).map_err(|violation| self.refuse(violation, out))?;
                // The echo holds the code, if there was one, and not the reason (§5.5.1).
                self.append(Opcode::Close, payload.get(..2).unwrap_or_default(), out);
                return Err(End::Closed { code });
            }
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        Ok(())
    }

    fn refuse(&mut self, Violation { code, what }: Violation, out: &mut Vec<u8>) -> End {
        self.close(code, what, out);
        End::Violated { code, what }
    }

    /// Appends a frame while frames may be sent.
    fn append(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        if self.is_open() {
            frame::append(opcode, payload, self.masks.as_mut().map(Masks::draw), out);
        }
    }
}

impl Transport for Ws {
    fn peek<'a>(&mut self, received: &'a mut [u8], out: &mut Vec<u8>) -> Event<'a> {
        if self.shown.is_none() {
            self.shown = match self.read_short(received) {
                None => self.read(received, out),
                short => short,
            };
        }
        let Some(shown) = &self.shown else { return Event::More };
        let body = received.get(shown.body.clone()).unwrap_or_default();
        match (shown.kind, &self.phase) {
            (Kind::Binary, _) => Event::Binary(body),
            // `read` refused every text that is not UTF-8.
            (Kind::Text, _) => Event::Text(std::str::from_utf8(body).unwrap_or_default()),
            (Kind::Opened, _) => Event::Opened,
            (Kind::Ended, Phase::Ended(end)) => Event::Ended(*end),
            (Kind::Alive | Kind::Ended, _) => Event::Alive,
        }
    }

    fn advance(&mut self) -> usize {
        match self.shown.take() {
            Some(shown) if shown.used > 0 => {
                self.scanned = 0;
                shown.used
            }
            _ => 0,
        }
    }

    fn wrap(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        self.append(Opcode::Binary, frame, out);
    }

    fn wrap_text(&mut self, text: &str, out: &mut Vec<u8>) {
        self.append(Opcode::Text, text.as_bytes(), out);
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        self.append(Opcode::Ping, &[], out);
    }

    fn close(&mut self, code: u16, text: &str, out: &mut Vec<u8>) {
        if self.is_open() {
            frame::append_close(code, text, self.masks.as_mut().map(Masks::draw), out);
            self.phase = Phase::Closing;
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }
}

/// Appends `frame` as every server sends it on an open connection: one binary packet, not masked.
///
/// The same bytes serve all clients, so that a frame for many is wrapped once.
pub fn wrap_for_clients(frame: &[u8], out: &mut Vec<u8>) {
    assert!(frame.len() <= MESSAGE_BYTES_MAX, "a packet is at most {MESSAGE_BYTES_MAX} bytes");
    frame::append(Opcode::Binary, frame, None, out);
}

/// Moves the piece at `next` behind the pieces at `body`; gives where they all are.
fn join(received: &mut [u8], body: Range<usize>, next: Range<usize>) -> Range<usize> {
    let end = body.end + next.len();
    received.copy_within(next, body.end);
    body.start..end
}

/// The keys that a client masks its frames with: SplitMix64, started from the system's randomness.
#[derive(Debug)]
struct Masks {
    state: u64,
}

impl Masks {
    fn draw(&mut self) -> [u8; 4] {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((mixed ^ (mixed >> 31)) >> 32) as u32).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server and a client that have shaken hands.
    fn pair() -> (Ws, Ws) {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let mut client = Ws::client("localhost", "/", 1, &mut request).unwrap();
        let mut server = Ws::server();
        assert_eq!(server.peek(&mut request, &mut reply), Event::Opened);
        assert_eq!(server.advance(), request.len());
        assert_eq!(client.peek(&mut reply, &mut Vec::new()), Event::Opened);
        assert_eq!(client.advance(), reply.len());
        (server, client)
    }

    /// One frame of a client with an all-zero mask, so that tables stay readable.
    fn piece(first: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn an_event_is_the_same_until_it_is_let_go_and_replies_once() {
        let (mut server, mut client) = pair();
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        client.ping(&mut bytes);
        let ping_len = bytes.len();
        client.wrap(b"abc", &mut bytes);
        for _ in 0..3 {
            assert_eq!(server.peek(&mut bytes, &mut out), Event::Alive);
        }
        assert_eq!(out, [0x8A, 0], "one pong");
        assert_eq!(server.advance(), ping_len);
        for _ in 0..3 {
            assert_eq!(server.peek(&mut bytes[ping_len..], &mut out), Event::Binary(b"abc"));
        }
        assert_eq!(server.advance(), bytes.len() - ping_len);
        assert_eq!(server.advance(), 0);
    }

    #[test]
    fn pieces_are_joined_around_a_ping_and_text_may_be_cut_inside_a_character() {
        let (mut server, _) = pair();
        let mut bytes =
            [piece(0x01, b"gr\xC3"), piece(0x89, b"?"), piece(0x00, b"\xBC"), piece(0x80, b"n")]
                .concat();
        let mut out = Vec::new();
        assert_eq!(server.peek(&mut bytes, &mut out), Event::Alive);
        assert_eq!(out, [0x8A, 1, b'?']);
        assert_eq!(server.advance(), 0, "the first piece is still needed");
        assert_eq!(server.peek(&mut bytes, &mut out), Event::Text("grün"));
        assert_eq!(server.advance(), bytes.len());
    }

    #[test]
    fn a_fault_is_answered_with_its_code_and_nothing_is_sent_after_it() {
        let nearly = vec![0; MESSAGE_BYTES_MAX - 100];
        let length = (nearly.len() as u16).to_be_bytes();
        let begun = [&[0x02, 0xFE], &length[..], &[0; 4], &nearly].concat();
        let crumbs = [piece(0x02, b""), piece(0x00, b"").repeat(PIECES_BYTES_MAX / 6 + 1)].concat();
        let cases = [
            (piece(0x80, b""), 1002, "a piece of nothing"),
            ([piece(0x02, b"a"), piece(0x82, b"b")].concat(), 1002, "a message in a message"),
            ([piece(0x02, b"a"), piece(0x81, b"b")].concat(), 1002, "a text in a message"),
            (piece(0x81, b"\xFF"), 1007, "a text that is none"),
            ([piece(0x01, b"\xC3"), piece(0x80, b"(")].concat(), 1007, "a broken character"),
            (piece(0x88, b"\x03"), 1002, "half a close code"),
            (piece(0x88, b"\x03\xED"), 1002, "a close code that may not travel"),
            ([begun, piece(0x80, &[0; 101])].concat(), 1009, "pieces that are too long together"),
            (crumbs, 1009, "too many pieces"),
        ];
        for (mut bytes, code, name) in cases {
            let (mut server, mut client) = pair();
            let mut out = Vec::new();
            let Event::Ended(end) = server.peek(&mut bytes, &mut out) else {
                panic!("{name}: not refused");
            };
            assert_eq!(end.code(), code, "{name}");
            assert!(matches!(end, End::Violated { .. }), "{name}");
            assert_eq!(server.advance(), bytes.len(), "{name}: all bytes are let go");
            assert!(!server.is_open(), "{name}");
            let told = client.peek(&mut out, &mut Vec::new());
            assert_eq!(told, Event::Ended(End::Closed { code }), "{name}");

            out.clear();
            server.wrap(b"late", &mut out);
            server.ping(&mut out);
            server.close(1000, "", &mut out);
            assert_eq!(out, [], "{name}");
            assert_eq!(server.peek(&mut [0x81], &mut out), Event::Ended(end), "{name}: for good");
        }
    }

    #[test]
    fn a_close_is_echoed_without_its_reason_and_our_own_is_not_echoed_back() {
        let (mut server, mut client) = pair();
        let (mut bye, mut echo, mut silence) = (Vec::new(), Vec::new(), Vec::new());
        client.close(close::GOING_AWAY, "lunch", &mut bye);
        assert!(!client.is_open());
        let closed = Event::Ended(End::Closed { code: close::GOING_AWAY });
        assert_eq!(server.peek(&mut bye, &mut echo), closed);
        assert_eq!(echo, [0x88, 2, 0x03, 0xE9]);
        assert_eq!(client.peek(&mut echo, &mut silence), closed);
        assert_eq!(silence, []);

        let (mut server, _) = pair();
        let mut echo = Vec::new();
        let no_code = Event::Ended(End::Closed { code: close::NONE });
        assert_eq!(server.peek(&mut piece(0x88, b""), &mut echo), no_code);
        assert_eq!(echo, [0x88, 0]);
    }

    #[test]
    fn packets_that_were_under_way_are_still_given_while_closing() {
        let (mut server, mut client) = pair();
        let mut bytes = Vec::new();
        client.wrap(b"last", &mut bytes);
        server.close(close::NORMAL, "", &mut Vec::new());
        assert_eq!(server.peek(&mut bytes, &mut Vec::new()), Event::Binary(b"last"));
    }

    #[test]
    fn a_handshake_that_fails_is_answered_once_and_ends_the_connection() {
        let cases: &[(&[u8], u16, &str)] = &[
            (b"GET / HTTP/1.1\r\n\r\n", 200, "HTTP/1.1 200 OK\r\n"),
            (b"\0\0\0\x05S\x01\0\x01A", 400, "HTTP/1.1 400 Bad Request\r\n"),
            (&[b'G'; 8193], 431, "HTTP/1.1 431 "),
        ];
        for &(request, status, line) in cases {
            let (mut server, mut out, mut bytes) = (Ws::server(), Vec::new(), request.to_vec());
            for _ in 0..2 {
                let Event::Ended(End::NotOpened { status: found, .. }) =
                    server.peek(&mut bytes, &mut out)
                else {
                    panic!("{line}: opened");
                };
                assert_eq!(found, status);
                assert_eq!(server.advance(), bytes.len());
            }
            let reply = String::from_utf8(out).unwrap();
            assert!(reply.starts_with(line) && reply.matches("HTTP/1.1 ").count() >= 1, "{reply}");
            assert_eq!(reply.matches("\r\n\r\n").count(), 1, "one reply: {reply}");
        }
    }

    #[test]
    fn a_client_that_meets_no_websocket_says_so() {
        let mut client = Ws::client("localhost", "/", 1, &mut Vec::new()).unwrap();
        let mut reply = b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec();
        let mut out = Vec::new();
        let Event::Ended(end @ End::NotOpened { status: 404, .. }) =
            client.peek(&mut reply, &mut out)
        else {
            panic!("a 404 is no connection");
        };
        assert_eq!(
            end.to_string(),
            "the server does not speak WebSocket at this address (HTTP status 404)"
        );
        assert_eq!(out, [], "a client does not answer");
    }

    #[test]
    fn a_client_masks_every_frame_with_another_key() {
        let (_, mut client) = pair();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        client.wrap(b"same", &mut first);
        client.wrap(b"same", &mut second);
        assert_ne!(first[2..6], second[2..6]);
        assert_ne!(first[6..], *b"same");
    }
}

//! Engine.IO 4, the layer below Socket.IO: its packets, over WebSocket and in bodies of HTTP.
//!
//! Source: Engine.IO protocol 4. Over WebSocket a packet is a message: a digit and text, or bytes
//! alone. A body of HTTP holds several, with 0x1E between, and bytes as `b` and base64.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use data_encoding::BASE64;
use serde::Deserialize;

/// Between the packets of a body.
const SEPARATOR: char = '\x1e';

/// Bytes of a session's name that are believed.
const SID_BYTES_MAX: usize = 256;

/// A server that says nothing for longer than it promised is gone; promises are believed from one
/// second to ten minutes.
const SILENCE_MS: (u64, u64) = (1_000, 600_000);

/// What a server takes at once that does not say it: as much as servers take by themselves.
const PAYLOAD_BYTES: usize = 1_000_000;

/// One packet, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The handshake: [`Handshake::parse`] reads it.
    Open(&'a str),
    Close,
    /// It is to be answered with the same text.
    Ping(&'a str),
    Pong(&'a str),
    /// Text of the layer above.
    Message(&'a str),
    Upgrade,
    Noop,
    /// Bytes of the layer above.
    Bytes(Cow<'a, [u8]>),
}

/// One packet, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// With the digit in front.
    Text(String),
    Bytes(Vec<u8>),
}

/// The bytes are no packet. The other side is at fault: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A packet has a digit at least.
    Empty,
    /// The first character is none of `0` to `6`, nor `b` in a body.
    Kind { found: char },
    /// What stands behind `b` is no base64.
    Base64,
    /// The handshake lacks something, or holds what nobody can mean.
    Handshake { why: String },
}

/// How a session begins: packet `0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name of the session; 1 to 256 bytes.
    pub sid: String,
    /// Whether the server also speaks WebSocket.
    pub has_websocket: bool,
    /// So long the server says nothing at most, 1 s to 10 min: `pingInterval` + `pingTimeout`.
    pub silence_max: Duration,
    /// Bytes of a message or of a body that the server takes: `maxPayload`.
    pub payload_bytes_max: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HandshakeAsWritten {
    sid: String,
    #[serde(default)]
    upgrades: Vec<String>,
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: Option<u64>,
}

impl Handshake {
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        let wrong = |why: String| Malformed::Handshake { why };
        let written: HandshakeAsWritten =
            serde_json::from_str(json).map_err(|why| wrong(why.to_string()))?;
        let HandshakeAsWritten { sid, upgrades, ping_interval, ping_timeout, max_payload } =
            written;
        if !(1..=SID_BYTES_MAX).contains(&sid.len()) {
            return Err(wrong(format!("a sid of {} bytes, of 1 to {SID_BYTES_MAX}", sid.len())));
        }
        let silence_ms =
            ping_interval.saturating_add(ping_timeout).clamp(SILENCE_MS.0, SILENCE_MS.1);
        let payload = max_payload.filter(|most| *most > 0).map(usize::try_from);
        Ok(Self {
            sid,
            has_websocket: upgrades.iter().any(|name| name == "websocket"),
            silence_max: Duration::from_millis(silence_ms),
            payload_bytes_max: payload.map_or(PAYLOAD_BYTES, |most| most.unwrap_or(usize::MAX)),
        })
    }
}

/// Reads a text message of a WebSocket.
pub fn packet(text: &str) -> Result<Packet<'_>, Malformed> {
    let kind = text.chars().next().ok_or(Malformed::Empty)?;
    let rest = text.get(kind.len_utf8()..).unwrap_or_default();
    Ok(match kind {
        '0' => Packet::Open(rest),
        '1' => Packet::Close,
        '2' => Packet::Ping(rest),
        '3' => Packet::Pong(rest),
        '4' => Packet::Message(rest),
        '5' => Packet::Upgrade,
        '6' => Packet::Noop,
        found => return Err(Malformed::Kind { found }),
    })
}

/// Reads the packets of a body, one after the other. A body without any is refused as empty.
pub fn packets(body: &str) -> impl Iterator<Item = Result<Packet<'_>, Malformed>> {
    body.split(SEPARATOR).map(|text| match text.strip_prefix('b') {
        None => packet(text),
        Some(digits) => {
            let bytes = BASE64.decode(digits.as_bytes()).map_err(|_| Malformed::Base64)?;
            Ok(Packet::Bytes(Cow::Owned(bytes)))
        }
    })
}

impl Frame {
    /// The answer to a ping.
    pub fn pong(text: &str) -> Self {
        Self::Text(format!("3{text}"))
    }

    /// Bytes that it takes in a body; over WebSocket it takes no more.
    pub fn body_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => 1 + BASE64.encode_len(bytes.len()),
        }
    }

    /// Appends it to a body.
    pub fn push(&self, body: &mut String) {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        match self {
            Self::Text(text) => body.push_str(text),
            Self::Bytes(bytes) => {
                body.push('b');
                BASE64.encode_append(bytes, body);
            }
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a packet of no bytes"),
            Self::Kind { found } => write!(f, "a packet of kind {found:?}, of 0 to 6"),
            Self::Base64 => f.write_str("bytes that are no base64"),
            Self::Handshake { why } => write!(f, "a handshake that cannot be: {why}"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_message_is_a_packet_and_other_text_is_none() {
        for (text, want) in [
            ("0{}", Packet::Open("{}")),
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("42[\"go\"]", Packet::Message("2[\"go\"]")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(packet(text), Ok(want), "{text}");
        }
        assert_eq!(packet(""), Err(Malformed::Empty));
        for (text, found) in [("7", '7'), ("é4", 'é'), ("bAA==", 'b')] {
            assert_eq!(packet(text), Err(Malformed::Kind { found }), "{text}");
        }
    }

    #[test]
    fn a_body_holds_packets_with_bytes_as_base64_and_is_read_as_it_was_written() {
        let frames = [Frame::Text("4hello".into()), Frame::Bytes(vec![1, 2, 3, 4])];
        let mut body = String::new();
        frames.iter().for_each(|frame| frame.push(&mut body));
        assert_eq!(body, "4hello\x1ebAQIDBA==");
        let lens: usize = frames.iter().map(Frame::body_len).sum();
        assert_eq!(body.len(), lens + 1);
        let read: Vec<_> = packets(&body).collect();
        let bytes = Packet::Bytes(Cow::Borrowed(&[1, 2, 3, 4]));
        assert_eq!(read, [Ok(Packet::Message("hello")), Ok(bytes)]);
        for (body, why) in [("", Malformed::Empty), ("bA", Malformed::Base64)] {
            assert_eq!(packets(body).collect::<Vec<_>>(), [Err(why)], "{body}");
        }
        assert_eq!(packets("2\x1e").last(), Some(Err(Malformed::Empty)));
    }

    #[test]
    fn a_handshake_says_how_long_a_server_is_silent_within_what_can_be_believed() {
        let served = r#"{"sid":"x","upgrades":["websocket"],"pingInterval":25000,
            "pingTimeout":20000,"maxPayload":1000,"more":1}"#;
        let handshake = Handshake::parse(served).expect("a handshake");
        assert_eq!((handshake.sid.as_str(), handshake.has_websocket), ("x", true));
        assert_eq!(handshake.silence_max, Duration::from_secs(45));
        assert_eq!(handshake.payload_bytes_max, 1000);
        let silence = |interval: u64, timeout: u64| {
            let json =
                format!(r#"{{"sid":"x","pingInterval":{interval},"pingTimeout":{timeout}}}"#);
            let handshake = Handshake::parse(&json).expect("a handshake");
            assert_eq!((handshake.has_websocket, handshake.payload_bytes_max), (false, 1_000_000));
            handshake.silence_max.as_millis()
        };
        assert_eq!((silence(0, 0), silence(u64::MAX, 1)), (1_000, 600_000));
        let long = format!(r#"{{"sid":"{}","pingInterval":1,"pingTimeout":1}}"#, "x".repeat(257));
        let none = r#"{"sid":"","pingInterval":1,"pingTimeout":1}"#;
        for wrong in ["", "{}", "[]", none, &long, r#"{"sid":"x","pingInterval":-1}"#] {
            assert!(Handshake::parse(wrong).is_err(), "{wrong}");
        }
    }
}

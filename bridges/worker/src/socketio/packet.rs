//! Socket.IO protocol 5: what a server says on one namespace, and what it is told.
//!
//! Source: Socket.IO protocol 5, "Packet encoding". A packet is text: its kind, how many pieces of
//! bytes follow, the namespace, a number that asks for an acknowledgement, and JSON.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use super::engine::Frame;
use super::payload::{self, Pieces};

/// Pieces of bytes in one packet, as many as the published parsers take.
pub const PIECES_MAX: usize = 10;

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// We are let in.
    Joined,
    /// We are not: what the server says about it.
    Refused {
        message: String,
    },
    /// The server ends it.
    Left,
    Event(Event),
    /// The server acknowledges what we said with this number.
    Ack {
        id: u64,
        arguments: Vec<Json>,
    },
}

/// An event of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where it waits for an acknowledgement.
    pub id: Option<u64>,
    /// Its name and its arguments, or what is wrong with it.
    pub said: Result<(String, Vec<Json>), String>,
    /// As it was sent.
    pub bytes: usize,
}

/// The text is no packet. The server is at fault: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The first character is none of `0` to `6`.
    Kind,
    /// It wants no pieces of bytes, or more than any server sends.
    Pieces,
    /// It is for another namespace than the one that was joined.
    Namespace { found: String },
    /// It acknowledges nothing that has a number.
    NoNumber,
    /// A text came where a piece of bytes was due, or the other way round.
    OutOfOrder,
    /// It and its bytes are longer than a message may be.
    TooLong { bytes: usize },
}

/// Why something cannot be said to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsayable {
    /// More than [`PIECES_MAX`] pieces of bytes.
    Pieces,
    /// `$bytes` that are no hexadecimal digits.
    Digits,
    /// An object beside bytes that would be taken for the place of a piece.
    Placeholder,
}

/// Puts packets together from texts and their pieces of bytes.
#[derive(Debug)]
pub struct Assembly {
    namespace: String,
    bytes_max: usize,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    head: Head,
    text: String,
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    is_ack: bool,
    id: Option<u64>,
    pieces: usize,
}

impl Assembly {
    /// For packets of `namespace` that take `bytes_max` with all their pieces.
    pub fn new(namespace: &str, bytes_max: usize) -> Self {
        Self { namespace: namespace.to_owned(), bytes_max, open: None }
    }

    /// Takes a text; gives a packet that is whole.
    pub fn text(&mut self, text: &str) -> Result<Option<Packet>, Malformed> {
        if self.open.is_some() {
            return Err(Malformed::OutOfOrder);
        }
        if text.len() > self.bytes_max {
            return Err(Malformed::TooLong { bytes: text.len() });
        }
        let kind = text.bytes().next().ok_or(Malformed::Kind)?;
        let has_pieces = matches!(kind, b'5' | b'6');
        let rest = text.get(1..).ok_or(Malformed::Kind)?;
        let (pieces, rest) = match has_pieces {
            true => {
                let (number, rest) = rest.split_once('-').ok_or(Malformed::Pieces)?;
                let number = number_of(number).and_then(|number| usize::try_from(number).ok());
                let number = number.filter(|number| (1..=PIECES_MAX).contains(number));
                (number.ok_or(Malformed::Pieces)?, rest)
            }
            false => (0, rest),
        };
        let (namespace, rest) = match rest.starts_with('/') {
            true => rest.split_once(',').unwrap_or((rest, "")),
            false => ("/", rest),
        };
        // Whoever asks with `/ctl?x=1` is answered with `/ctl`.
        if namespace != self.namespace {
            let found = namespace.chars().take(64).collect();
            return Err(Malformed::Namespace { found });
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, json) = rest.split_at(digits);
        let id = number_of(number);
        match kind {
            b'0' => Ok(Some(Packet::Joined)),
            b'1' => Ok(Some(Packet::Left)),
            b'4' => Ok(Some(Packet::Refused { message: reason(json) })),
            b'2' | b'3' | b'5' | b'6' => {
                let head = Head { is_ack: matches!(kind, b'3' | b'6'), id, pieces };
                if head.is_ack && id.is_none() {
                    return Err(Malformed::NoNumber);
                }
                let open =
                    Open { head, text: json.to_owned(), pieces: Vec::new(), bytes: text.len() };
                Ok(self.close_if_whole(open))
            }
            _ => Err(Malformed::Kind),
        }
    }

    /// Takes a piece of bytes; gives the packet that is whole with it.
    pub fn bytes(&mut self, piece: &[u8]) -> Result<Option<Packet>, Malformed> {
        let mut open = self.open.take().ok_or(Malformed::OutOfOrder)?;
        open.bytes += piece.len();
        if open.bytes > self.bytes_max {
            return Err(Malformed::TooLong { bytes: open.bytes });
        }
        open.pieces.push(piece.to_vec());
        Ok(self.close_if_whole(open))
    }

    fn close_if_whole(&mut self, open: Open) -> Option<Packet> {
        if open.pieces.len() < open.head.pieces {
            self.open = Some(open);
            return None;
        }
        let Open { head: Head { is_ack, id, .. }, text, pieces, bytes } = open;
        let mut pieces = Pieces::new(pieces.iter().map(Vec::as_slice));
        let json = serde_json::from_str(&text).map_err(|why| format!("no JSON: {why}"));
        Some(match (is_ack, id) {
            (true, Some(id)) => {
                let arguments = json.and_then(|list| payload::arguments_of(list, &mut pieces));
                // That it was acknowledged is what counts.
                Packet::Ack { id, arguments: arguments.unwrap_or_default() }
            }
            _ => {
                let said = json.and_then(|list| payload::event_of(list, &mut pieces));
                Packet::Event(Event { id, said, bytes })
            }
        })
    }
}

/// Digits as a number; nothing else is one.
fn number_of(digits: &str) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// Why a server lets nobody in: `{"message": ".."}`, at most 200 characters of it.
fn reason(json: &str) -> String {
    let told: Json = serde_json::from_str(json).unwrap_or_default();
    let message = told.get("message").unwrap_or(&told);
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    message.chars().take(200).collect()
}

/// Joins a namespace. `auth`: what its server asks for.
pub fn join(namespace: &str, auth: &Map<String, Json>) -> Frame {
    let auth = match auth.is_empty() {
        true => String::new(),
        false => Json::Object(auth.clone()).to_string(),
    };
    Frame::Text(format!("40{}{auth}", part(namespace)))
}

/// Leaves a namespace.
pub fn leave(namespace: &str) -> Frame {
    Frame::Text(format!("41{}", part(namespace)))
}

fn part(namespace: &str) -> String {
    match namespace {
        "/" => String::new(),
        other => format!("{other},"),
    }
}

/// A list that is ready to be sent: JSON, and its pieces of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    text: String,
    pieces: Vec<Vec<u8>>,
}

/// What a packed list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// An event that asks for an acknowledgement, if it has a number.
    Event(Option<u64>),
    /// The acknowledgement of the event with this number.
    Ack(u64),
}

impl Packed {
    /// Packs `["event", ..arguments]`, or the arguments of an acknowledgement; `$bytes` become
    /// pieces.
    pub fn new(mut list: Vec<Json>) -> Result<Self, Unsayable> {
        let (mut pieces, mut has_placeholder) = (Vec::new(), false);
        list.iter_mut().try_for_each(|item| take_out(item, &mut pieces, &mut has_placeholder))?;
        if has_placeholder && !pieces.is_empty() {
            return Err(Unsayable::Placeholder);
        }
        Ok(Self { text: Json::Array(list).to_string(), pieces })
    }

    /// Bytes that it takes while it waits.
    pub fn len(&self) -> usize {
        self.text.len() + self.pieces.iter().map(Vec::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As it is sent in `namespace`.
    pub fn frames(&self, namespace: &str, what: As) -> Vec<Frame> {
        let count = self.pieces.len();
        let (plain, binary, id) = match what {
            As::Event(id) => ('2', '5', id),
            As::Ack(id) => ('3', '6', Some(id)),
        };
        let kind = match count {
            0 => plain.to_string(),
            _ => format!("{binary}{count}-"),
        };
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let text = format!("4{kind}{}{id}{}", part(namespace), self.text);
        let pieces = self.pieces.iter().cloned().map(Frame::Bytes);
        std::iter::once(Frame::Text(text)).chain(pieces).collect()
    }
}

/// Takes bytes out of a value and holds their places.
fn take_out(
    json: &mut Json,
    pieces: &mut Vec<Vec<u8>>,
    has_placeholder: &mut bool,
) -> Result<(), Unsayable> {
    match json {
        Json::Array(items) => {
            items.iter_mut().try_for_each(|item| take_out(item, pieces, has_placeholder))
        }
        Json::Object(map) => match payload::bytes_in(map) {
            Some(bytes) => {
                if pieces.len() == PIECES_MAX {
                    return Err(Unsayable::Pieces);
                }
                let number = pieces.len();
                pieces.push(bytes.ok_or(Unsayable::Digits)?);
                *json = json!({ "_placeholder": true, "num": number });
                Ok(())
            }
            None => {
                *has_placeholder |= payload::is_placeholder(map);
                map.values_mut().try_for_each(|item| take_out(item, pieces, has_placeholder))
            }
        },
        _ => Ok(()),
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("a packet of no known kind"),
            Self::Pieces => write!(f, "a packet needs 1 to {PIECES_MAX} pieces of bytes here"),
            Self::Namespace { found } => write!(f, "a packet for namespace {found:?}"),
            Self::NoNumber => f.write_str("an acknowledgement without its number"),
            Self::OutOfOrder => f.write_str("text and pieces of bytes out of order"),
            Self::TooLong { bytes } => write!(f, "a message of {bytes} bytes is too long"),
        }
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Unsayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pieces => write!(f, "more than {PIECES_MAX} pieces of bytes"),
            Self::Digits => f.write_str("`$bytes` must be pairs of hexadecimal digits"),
            Self::Placeholder => f.write_str("`_placeholder` beside bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(frames: &[Frame]) -> Vec<&str> {
        let texts = frames.iter().filter_map(|frame| match frame {
            Frame::Text(text) => Some(text.as_str()),
            Frame::Bytes(_) => None,
        });
        texts.collect()
    }

    #[test]
    fn what_is_said_is_written_as_the_protocol_shows_it() {
        let auth = Map::from_iter([("token".to_owned(), json!("123"))]);
        assert_eq!(join("/", &Map::new()), Frame::Text("40".into()));
        assert_eq!(join("/admin", &auth), Frame::Text("40/admin,{\"token\":\"123\"}".into()));
        assert_eq!(leave("/admin"), Frame::Text("41/admin,".into()));
        let plain = Packed::new(vec![json!("foo")]).expect("no bytes");
        let bytes = json!({ "$bytes": "01020304" });
        let binary = Packed::new(vec![json!("baz"), bytes.clone(), bytes]).expect("bytes");
        for (packed, namespace, what, want) in [
            (&plain, "/", As::Event(None), "42[\"foo\"]"),
            (&plain, "/", As::Event(Some(12)), "4212[\"foo\"]"),
            (&plain, "/admin", As::Event(Some(13)), "42/admin,13[\"foo\"]"),
            (&plain, "/admin", As::Ack(13), "43/admin,13[\"foo\"]"),
            (
                &binary,
                "/admin",
                As::Event(None),
                "452-/admin,[\"baz\",{\"_placeholder\":true,\"num\":0},\
                 {\"_placeholder\":true,\"num\":1}]",
            ),
        ] {
            assert_eq!(texts(&packed.frames(namespace, what)), [want]);
        }
        let frames = binary.frames("/", As::Ack(15));
        assert!(texts(&frames)[0].starts_with("462-15["));
        assert_eq!(frames[1..], [Frame::Bytes(vec![1, 2, 3, 4]), Frame::Bytes(vec![1, 2, 3, 4])]);
    }

    #[test]
    fn what_a_server_says_is_read_with_its_namespace_its_number_and_its_bytes() {
        let mut main = Assembly::new("/", 1000);
        let event = |id, said: Result<(&str, Vec<Json>), &str>, bytes| {
            let said = said.map(|(name, rest)| (name.to_owned(), rest)).map_err(str::to_owned);
            Ok(Some(Packet::Event(Event { id, said, bytes })))
        };
        assert_eq!(main.text("0{\"sid\":\"x\"}"), Ok(Some(Packet::Joined)));
        assert_eq!(main.text("1"), Ok(Some(Packet::Left)));
        let refused = Packet::Refused { message: "nope".into() };
        assert_eq!(main.text("4{\"message\":\"nope\"}"), Ok(Some(refused)));
        assert_eq!(main.text("212[\"foo\",1]"), event(Some(12), Ok(("foo", vec![json!(1)])), 12));
        assert_eq!(main.text("2[]"), event(None, Err("an event has a name"), 3));
        let acked = |arguments| Ok(Some(Packet::Ack { id: 14, arguments }));
        assert_eq!(main.text("314[\"bar\"]"), acked(vec![json!("bar")]));
        assert_eq!(main.text("314nothing"), acked(vec![]));
        assert_eq!(main.text("51-[\"b\",{\"_placeholder\":true,\"num\":0}]"), Ok(None));
        let bytes = json!({ "$bytes": "01ff" });
        assert_eq!(main.bytes(&[1, 255]), event(None, Ok(("b", vec![bytes])), 40));
        let mut control = Assembly::new("/ctl", 1000);
        assert_eq!(control.text("0/ctl,{\"sid\":\"x\"}"), Ok(Some(Packet::Joined)));
        assert_eq!(control.text("1/ctl"), Ok(Some(Packet::Left)));
        assert_eq!(control.text("2/ctl,[\"go\"]"), event(None, Ok(("go", vec![])), 12));
    }

    #[test]
    fn what_no_server_says_ends_the_connection() {
        let place = "[\"b\",{\"_placeholder\":true,\"num\":0}]";
        for (text, why) in [
            ("", Malformed::Kind),
            ("7", Malformed::Kind),
            ("é", Malformed::Kind),
            ("5[]", Malformed::Pieces),
            ("50-[]", Malformed::Pieces),
            ("511-[]", Malformed::Pieces),
            ("5+1-[]", Malformed::Pieces),
            ("3[]", Malformed::NoNumber),
            ("2/ctl,[\"go\"]", Malformed::Namespace { found: "/ctl".into() }),
            (&format!("2[\"{}\"]", "x".repeat(100)), Malformed::TooLong { bytes: 105 }),
        ] {
            assert_eq!(Assembly::new("/", 100).text(text), Err(why), "{text}");
        }
        let mut assembly = Assembly::new("/", 100);
        assert_eq!(assembly.bytes(&[1]), Err(Malformed::OutOfOrder));
        assert_eq!(assembly.text(&format!("51-{place}")), Ok(None));
        assert_eq!(assembly.text("2[\"go\"]"), Err(Malformed::OutOfOrder));
        let mut assembly = Assembly::new("/", 100);
        assert_eq!(assembly.text(&format!("51-{place}")), Ok(None));
        assert!(matches!(assembly.bytes(&[0; 100]), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn what_a_published_parser_would_not_take_is_not_said() {
        let bytes = json!({ "$bytes": "00" });
        let most = Packed::new(vec![bytes.clone(); PIECES_MAX]).expect("as many as it takes");
        assert_eq!(most.frames("/", As::Event(None)).len(), PIECES_MAX + 1);
        assert_eq!(Packed::new(vec![bytes.clone(); PIECES_MAX + 1]), Err(Unsayable::Pieces));
        assert_eq!(Packed::new(vec![json!({ "$bytes": "0" })]), Err(Unsayable::Digits));
        let place = json!([{ "_placeholder": true }]);
        assert_eq!(Packed::new(vec![place.clone(), bytes]), Err(Unsayable::Placeholder));
        assert!(Packed::new(vec![place]).is_ok(), "without bytes it is an object as any other");
    }
}

//! Whose the params are that a bridge writes: each sender behind it is a source of its own.

use clasp_rt_core::message::Message;
use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_i64, push_str};
use clasp_rt_core::wire::TooLong;
use clasp_rt_core::wire::list::Messages;

use super::Update;
use crate::datum::Datum;

/// Bytes of an id, at most: the router's `core/src/shard/marker.rs` has it so.
const ID_BYTES_MAX: usize = 36;

/// Digits that stand for a name which cannot be in an id.
const DIGEST_LEN: usize = 24;

/// Whose the params are that are said now.
#[derive(Default)]
pub(crate) struct Marker {
    id: String,
    priority: Option<u8>,
    by: Option<String>,
    /// As a BUNDLE holds it.
    pub(super) message: Vec<u8>,
    /// Params belong to it until the next [`Uplink::send`](super::Uplink::send).
    pub(super) is_in_hand: bool,
    /// It stands among what waits.
    pub(super) is_said: bool,
}

/// Where markers are published that say whose the SETs after them are: the router's
/// `core/src/shard/marker.rs` has their keys.
pub(super) const SOURCE: &str = "/clasp/source";

/// Before an address: what sources say of it that do not have it, as events. See [`Bid`].
pub(super) const BIDS: &str = "/clasp/source/bids";

/// Whose a SET is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    pub id: &'a str,
    /// 0-200; `None`: as the router's configuration has it.
    pub priority: Option<u8>,
    /// The session on whose behalf it is said.
    pub by: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// What a marker says; `None` if `message` is none.
    pub(super) fn of(message: &Message<'a>) -> Option<Self> {
        let Message::Publish(publish) = message else { return None };
        Self::of_map(&publish.value.filter(|_| publish.address == SOURCE)?)
    }

    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        self.push_entries(&mut MapWriter::start(out))
    }

    pub(super) fn push_entries(&self, map: &mut MapWriter<'_>) -> Result<(), TooLong> {
        push_str(map.entry("id")?, self.id)?;
        if let Some(priority) = self.priority {
            push_i64(map.entry("priority")?, priority.into());
        }
        if let Some(by) = self.by {
            push_str(map.entry("by")?, by)?;
        }
        Ok(())
    }

    /// What the map of a marker, or of a bid, says.
    fn of_map(map: &Value<'a>) -> Option<Self> {
        let priority = map.get("priority").and_then(Value::as_i64);
        Some(Self {
            id: map.get("id")?.as_str()?,
            priority: priority.and_then(|priority| u8::try_from(priority).ok()),
            by: map.get("by").and_then(Value::as_str),
        })
    }
}

/// A [`Source`] to keep.
#[derive(Clone, Debug)]
pub struct Whose {
    id: String,
    priority: Option<u8>,
    by: Option<String>,
}

impl Whose {
    pub(crate) fn of(source: &Source<'_>) -> Self {
        let Source { id, priority, by } = *source;
        Self { id: id.to_owned(), priority, by: by.map(str::to_owned) }
    }

    /// Whether it is `source`, with whatever priority.
    pub(crate) fn is_of(&self, source: &Source<'_>) -> bool {
        self.id == source.id && self.by.as_deref() == source.by
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source { id: &self.id, priority: self.priority, by: self.by.as_deref() }
    }
}

/// What a source says of an address that another has, where a bridge has merged them: the router
/// arbitrates targets of routes, and is to know of all who want them.
///
/// It is told as an event at `/clasp/source/bids` and the address: a map of the marker's `id`,
/// `priority` and `by`, and of `value`. Where the router arbitrates the address itself, it is told
/// as a SET instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Bid<'a> {
    pub address: &'a str,
    pub source: Source<'a>,
    pub value: Datum<'a>,
}

impl<'a> Bid<'a> {
    /// The bid that `update` is, if it is one.
    pub fn of(update: &Update<'a>) -> Option<Self> {
        let address = update.address.strip_prefix(BIDS)?;
        let Datum::Other(map) = &update.value else { return None };
        let source = Source::of_map(map)?;
        Some(Self { address, source, value: Datum::new(map.get("value")?) })
    }
}

/// Who a source is, for people: what `/clasp/source/{id}` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// At most 36 bytes, one segment of an address: see [`source_id`].
    pub id: String,
    pub protocol: &'static str,
    pub name: String,
    /// Where it is; empty: nobody knows.
    pub host: String,
    pub universe: Option<u16>,
}

impl Details {
    pub(super) fn push(&self, is_gone: bool, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut map = MapWriter::start(out);
        push_str(map.entry("protocol")?, self.protocol)?;
        push_str(map.entry("name")?, &self.name)?;
        if !self.host.is_empty() {
            push_str(map.entry("host")?, &self.host)?;
        }
        if let Some(universe) = self.universe {
            push_i64(map.entry("universe")?, universe.into());
        }
        if is_gone {
            push_bool(map.entry("gone")?, true);
        }
        Ok(())
    }
}

/// The id of what a protocol calls `name`: the name where it can stand in an address, else a digest
/// of it.
pub(crate) fn source_id(protocol: &str, name: &str) -> String {
    let id = format!("{protocol}.{name}");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.len() <= ID_BYTES_MAX && id.bytes().all(is_plain) {
        return id;
    }
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).simple();
    let digest = digest.to_string();
    format!("{protocol}.{}", digest.get(..DIGEST_LEN).unwrap_or_default())
}

impl Marker {
    /// Bytes that one takes beside itself: an id, who said it, and both as a message.
    pub(crate) const MORE_BYTES_MAX: usize = 4 * ID_BYTES_MAX + 64;

    pub(crate) fn is_of(&self, source: &Source<'_>) -> bool {
        let Self { id, priority, by, .. } = self;
        id == source.id && *priority == source.priority && by.as_deref() == source.by
    }

    pub(crate) fn of(source: &Source<'_>) -> Self {
        let (mut value, mut message) = (Vec::new(), Vec::new());
        // What is too long for a BUNDLE is no id either: then nothing is marked.
        if source.push(&mut value).is_ok()
            && let Ok(value) = Value::from_encoded(&value)
        {
            let marker = super::message(SOURCE, Some(Signal::Event), value, None);
            let _ = Messages::append(&mut message, &marker);
        }
        Self {
            id: source.id.to_owned(),
            priority: source.priority,
            by: source.by.map(str::to_owned),
            message,
            ..Self::default()
        }
    }

    pub(super) fn says_same(&self, other: &Self) -> bool {
        self.message == other.message
    }

    /// Says what `other` says, and has not said it yet.
    pub(super) fn become_like(&mut self, other: &Self) {
        self.id.clone_from(&other.id);
        self.by.clone_from(&other.by);
        self.message.clone_from(&other.message);
        (self.priority, self.is_in_hand, self.is_said) = (other.priority, false, false);
    }
}

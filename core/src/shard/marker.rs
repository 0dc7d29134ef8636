//! Whose a write is, where that is not the session that sends it: the marker `/clasp/source`.
//!
//! A bridge speaks for many desks over one session, and a route for whoever wrote what it passes
//! on. So inside a BUNDLE a PUBLISH to `/clasp/source` says whose the SETs after it are, until the
//! next such marker or the end of the bundle. Its value is a map:
//!
//! | key | value |
//! |---|---|
//! | `id` | 1..=36 bytes, one segment of an address; `/clasp/source/<id>` describes the source |
//! | `priority` | 0..=200, the higher one wins; absent: as the router's configuration has it |
//! | `by` | the session on whose behalf this one speaks; when either ends, the claims go |
//! | `release` | `true`: the source is lost. Its claims go at all homes, before the bundle's SETs |
//! | `alive` | `true`: the source is there although it says nothing; no time-out before the next |
//! | `tell` | `true`, without an `id`: this session wants to be told whose the SETs are it gets |
//!
//! `release`, `alive` and `tell` need no bundle, and may not be in a timed one. A marker is never
//! delivered as an event. Who asked with `tell` gets each SET as a BUNDLE of its marker and itself,
//! but not where a subscription holds values back to a rate.
//!
//! A description belongs to the session that gave it first, for as long as that is there, and that
//! of a session's own id to this session.

use alloc::vec::Vec;

use super::refused::Refused;
use super::session_id::{SessionId, TEXT_LEN};
use crate::message::{Message, Publish};
use crate::signal::{Phase, Signal};
use crate::value::{self, MapWriter, Value};
use crate::wire::TooLong;

/// Where markers are published, and below it what sources there are.
pub(crate) const SOURCE: &str = "/clasp/source";
/// Bytes of an id: a session's own is the longest.
pub(crate) const ID_BYTES_MAX: usize = TEXT_LEN;
/// As E1.31-2018 has it: 0..=200.
pub(crate) const PRIORITY_MAX: u8 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    /// Whose the SETs are that follow.
    Writes(Tag<'a>),
    Alive(&'a str),
    Released(&'a str),
    Tell,
}

/// A source as a marker names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    pub id: &'a str,
    pub priority: Option<u8>,
    pub by: Option<SessionId>,
}

const fn wrong<T>(why: &'static str) -> Result<T, Refused> {
    Err(Refused::Marker { why })
}

impl<'a> Marker<'a> {
    /// The marker that `message` is, if its address makes it one.
    pub(crate) fn of(message: &Message<'a>) -> Option<Result<Self, Refused>> {
        match message {
            Message::Publish(publish) => Self::of_publish(publish),
            _ => None,
        }
    }

    pub(crate) fn of_publish(publish: &Publish<'a>) -> Option<Result<Self, Refused>> {
        (publish.address == SOURCE).then(|| Self::read(publish.value.or(publish.payload)))
    }

    fn read(value: Option<Value<'a>>) -> Result<Self, Refused> {
        let Some(value) = value.filter(|value| value.map().is_some()) else {
            return wrong("its value is a map with an `id`");
        };
        let says = |key| value.get(key).and_then(Value::as_bool) == Some(true);
        if says("tell") {
            return Ok(Self::Tell);
        }
        let Some(id) = value.get("id").and_then(Value::as_str) else {
            return wrong("`id` is missing, a string");
        };
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return wrong("`id` has 1 to 36 bytes");
        }
        if id.contains(['/', '*']) {
            return wrong("`id` is one segment of an address: no `/`, no `*`");
        }
        if says("release") {
            return Ok(Self::Released(id));
        }
        if says("alive") {
            return Ok(Self::Alive(id));
        }
        let priority = match value.get("priority").filter(|value| !value.is_null()) {
            None => None,
            Some(value) => Some(priority(value)?),
        };
        let by = match value.get("by").filter(|value| !value.is_null()) {
            None => None,
            Some(by) => match by.as_str().and_then(SessionId::parse) {
                Some(by) => Some(by),
                None => return wrong("`by` is the id of a session"),
            },
        };
        Ok(Self::Writes(Tag { id, priority, by }))
    }

    /// What it asks for besides naming a source, which has no time of its own.
    pub(crate) const fn is_sign(&self) -> bool {
        !matches!(self, Self::Writes(_))
    }
}

/// A whole number of 0..=200, whatever type it came with.
fn priority(value: Value<'_>) -> Result<u8, Refused> {
    match value.as_f64() {
        Some(number) if (0.0..=f64::from(PRIORITY_MAX)).contains(&number) => {
            let whole = number as u8;
            if f64::from(whole) == number { Ok(whole) } else { wrong("`priority` is whole") }
        }
        _ => wrong("`priority` is a number of 0 to 200"),
    }
}

/// Whether `address` may be SET at all: below `/clasp/` only what describes a source.
pub(crate) fn is_reserved(address: impl AsRef<[u8]>) -> bool {
    let below = address.as_ref().strip_prefix(b"/clasp/");
    below.is_some_and(|rest| !rest.starts_with(b"source/"))
}

/// The source that `address` describes, if it is one that describes a source.
pub(crate) fn described(address: &[u8]) -> Option<&str> {
    let id = address.strip_prefix(SOURCE.as_bytes())?.strip_prefix(b"/")?;
    core::str::from_utf8(id).ok()
}

/// Whether `address` may be published to by nobody but the router and `our` bridges in it: below
/// `/clasp/` all but whose a write is, what sources bid that do not have an address, and what peers
/// say to each other. Of the rest our routes tell their rings.
pub(crate) fn is_told_by_us(address: &[u8], our: bool) -> bool {
    match address.strip_prefix(b"/clasp/") {
        None | Some(b"source" | b"p2p") => false,
        Some(b"loop") => !our,
        Some(below) => !below.starts_with(b"source/bids/") && !below.starts_with(b"p2p/"),
    }
}

impl Tag<'_> {
    /// Writes the value of the marker that says the same.
    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut map = MapWriter::start(out);
        value::push_str(map.entry("id")?, self.id)?;
        if let Some(priority) = self.priority {
            value::push_i64(map.entry("priority")?, i64::from(priority));
        }
        if let Some(by) = self.by {
            value::push_str(map.entry("by")?, by.text().as_str())?;
        }
        Ok(())
    }
}

/// The marker whose value is `value`.
pub(crate) fn message(value: Value<'_>) -> Message<'_> {
    Message::Publish(Publish {
        address: SOURCE,
        signal: Some(Signal::Event),
        phase: Some(Phase::Start),
        value: Some(value),
        ..Publish::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(push: impl FnOnce(&mut MapWriter<'_>)) -> Result<(), &'static str> {
        let mut bytes = Vec::new();
        push(&mut MapWriter::start(&mut bytes));
        match Marker::read(Some(Value::from_encoded(&bytes).expect("a map"))) {
            Ok(_) => Ok(()),
            Err(Refused::Marker { why }) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn text(map: &mut MapWriter<'_>, key: &str, text: &str) {
        value::push_str(map.entry(key).expect("short"), text).expect("short");
    }

    #[test]
    fn a_tag_reads_back_as_it_was_written() {
        let session = SessionId::new([1, 2], crate::ShardId(0), 3);
        let text = session.text();
        for (id, priority, by) in
            [("desk", Some(0), None), (text.as_str(), None, Some(session)), ("d", Some(200), None)]
        {
            let tag = Tag { id, priority, by };
            let mut bytes = Vec::new();
            tag.push(&mut bytes).expect("short");
            let value = Value::from_encoded(&bytes).expect("a map");
            let found = Marker::of(&message(value)).expect("a marker");
            assert_eq!(found, Ok(Marker::Writes(tag)));
        }
    }

    #[test]
    fn a_wrong_marker_is_refused_with_the_reason() {
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert!(read(|_| {}).unwrap_err().contains("`id` is missing"));
        for id in ["", "a/b", "*", &long] {
            assert!(read(|map| text(map, "id", id)).is_err(), "{id:?}");
        }
        for (priority, good) in [(0.0, true), (200.0, true), (201.0, false), (-1.0, false)]
            .into_iter()
            .chain([(1.5, false), (f64::NAN, false)])
        {
            let found = read(|map| {
                text(map, "id", "a");
                value::push_f64(map.entry("priority").expect("short"), priority);
            });
            assert_eq!(found.is_ok(), good, "{priority}");
        }
        let by = read(|map| {
            text(map, "id", "a");
            text(map, "by", "me");
        });
        assert!(by.unwrap_err().contains("session"));
        assert!(matches!(Marker::read(None), Err(Refused::Marker { .. })));
    }

    #[test]
    fn below_clasp_a_stranger_publishes_sources_bids_and_peer_signals_only() {
        let cases = [
            ("/clasp/duel", [true, true]),
            ("/clasp/loop", [true, false]),
            ("/clasp/loop/a", [true, true]),
            ("/clasp/arbitration", [true, true]),
            ("/clasp/why/a", [true, true]),
            ("/clasp/source", [false, false]),
            ("/clasp/source/a", [true, true]),
            ("/clasp/source/bids/a", [false, false]),
            ("/clasp/p2p/announce", [false, false]),
            ("/clasp/p2p/signal/a", [false, false]),
            ("/clasp/p2pee", [true, true]),
            ("/clasp", [false, false]),
            ("/clasped/duel", [false, false]),
        ];
        for (address, told_by_us) in cases {
            let found = [false, true].map(|our| is_told_by_us(address.as_bytes(), our));
            assert_eq!(found, told_by_us, "{address}");
        }
    }

    #[test]
    fn below_clasp_only_sources_are_params() {
        let cases = [
            ("/clasp/why/a", true),
            ("/clasp/source", true),
            ("/clasp/source/a", false),
            ("/clasp/duel", true),
            ("/clasp", false),
            ("/clasped/a", false),
        ];
        for (address, reserved) in cases {
            assert_eq!(is_reserved(address), reserved, "{address}");
        }
    }
}

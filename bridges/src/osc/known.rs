//! Addresses that were seen, the type tags that last came from them, and the values they hold.

use std::collections::BTreeMap;
use std::ops::Bound;

use clasp_rt_core::limits::ADDRESS_BYTES_MAX;
use clasp_rt_core::value::Value;

use super::outward::End;
use super::pattern;

/// Tags of a message longer than this are not remembered.
const TAGS_MAX: usize = 64;

/// A longer value is told, but not held for those who ask.
const VALUE_BYTES_MAX: usize = 1_024;

pub(super) struct Known {
    addresses_max: usize,
    /// Names as OSC has them. In order, so that a pattern writes them in the same order every time.
    names: BTreeMap<String, Entry>,
}

#[derive(Default)]
pub(super) struct Entry {
    /// That a device last sent; none where no device did.
    pub(super) tags: String,
    pub(super) kind: Kind,
    /// Encoded; empty where nothing is held.
    value: Vec<u8>,
    /// Who said the value while the router was away.
    missed: Option<End>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Param,
    Event,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Known,
    New,
    /// The table is full.
    NotKept,
}

/// Bytes of a table of `addresses_max` names that hold values, when it is full.
pub(super) fn memory_bytes_max(addresses_max: u32) -> u64 {
    let entry = ADDRESS_BYTES_MAX + TAGS_MAX + VALUE_BYTES_MAX + size_of::<(String, Entry)>();
    u64::from(addresses_max) * entry as u64
}

impl Entry {
    pub(super) fn value(&self) -> Option<Value<'_>> {
        Value::from_encoded(&self.value).ok()
    }
}

impl Known {
    pub(super) fn new(addresses_max: usize) -> Self {
        Self { addresses_max, names: BTreeMap::new() }
    }

    /// Notes that a device sent `name` with `tags`.
    pub(super) fn remember(&mut self, name: &str, tags: &str, kind: Kind) -> Noted {
        let tags = if tags.len() <= TAGS_MAX { tags } else { "" };
        self.with(name, |entry| {
            entry.kind = kind;
            if entry.tags != tags {
                entry.tags.clear();
                entry.tags.push_str(tags);
            }
        })
    }

    /// Notes a name that the router told.
    pub(super) fn remember_name(&mut self, name: &str, kind: Kind) -> Noted {
        self.with(name, |entry| entry.kind = kind)
    }

    /// Holds the value of a known name, if it is short; `push` appends it.
    pub(super) fn hold<E>(&mut self, name: &str, push: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.value.clear();
            if push(&mut entry.value).is_err() || entry.value.len() > VALUE_BYTES_MAX {
                entry.value = Vec::new();
            }
        }
    }

    /// The value of a known name came while the router was away.
    pub(super) fn miss(&mut self, name: &str, from: End) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.missed = Some(from);
        }
    }

    /// Names, who said their values, and those, where the router missed them; until
    /// [`Known::catch_up`].
    pub(super) fn missed(&self) -> impl Iterator<Item = (&str, End, Value<'_>)> {
        let missed = |(name, entry)| {
            let (name, entry): (&String, &Entry) = (name, entry);
            Some((name.as_str(), entry.missed?, entry.value()?))
        };
        self.names.iter().filter_map(missed)
    }

    /// The router was told what it missed. Values stay only where others need them.
    pub(super) fn catch_up(&mut self, holds_values: bool) {
        for entry in self.names.values_mut() {
            if entry.missed.take().is_some() && !holds_values {
                entry.value = Vec::new();
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.names.get(name)
    }

    /// The tags that `name` last had; none for one that no device sent.
    pub(super) fn tags(&self, name: &str) -> &str {
        self.names.get(name).map_or("", |entry| entry.tags.as_str())
    }

    /// The names that an OSC pattern matches; `None`: it cannot be read.
    pub(super) fn matching(&self, wanted: &str) -> Option<Vec<String>> {
        // Also finds out about a broken pattern where no name is known.
        pattern::matches(wanted, "")?;
        let matching =
            self.names.keys().filter(|name| pattern::matches(wanted, name) == Some(true));
        Some(matching.cloned().collect())
    }

    /// Everything from `name` on, in order.
    pub(super) fn beginning_at<'k>(
        &'k self,
        name: &str,
    ) -> impl Iterator<Item = (&'k str, &'k Entry)> {
        let names = self.names.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        names.map(|(name, entry)| (name.as_str(), entry))
    }

    /// Everything behind `name`, in order; from the beginning where that is empty.
    pub(super) fn after<'k>(&'k self, name: &str) -> impl Iterator<Item = (&'k str, &'k Entry)> {
        let bounds = (Bound::Excluded(name), Bound::Unbounded);
        self.names.range::<str, _>(bounds).map(|(name, entry)| (name.as_str(), entry))
    }

    fn with(&mut self, name: &str, change: impl FnOnce(&mut Entry)) -> Noted {
        if let Some(entry) = self.names.get_mut(name) {
            change(entry);
            return Noted::Known;
        }
        if self.names.len() >= self.addresses_max {
            return Noted::NotKept;
        }
        let mut entry = Entry::default();
        change(&mut entry);
        self.names.insert(name.to_string(), entry);
        Noted::New
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_newest_tags_count_until_the_table_is_full() {
        let mut known = Known::new(2);
        assert_eq!(known.remember("/a", "i", Kind::Param), Noted::New);
        assert_eq!(known.remember_name("/b", Kind::Param), Noted::New);
        assert_eq!(known.remember("/a", "f", Kind::Param), Noted::Known);
        assert_eq!(known.remember_name("/a", Kind::Param), Noted::Known);
        assert_eq!((known.tags("/a"), known.tags("/b"), known.tags("/c")), ("f", "", ""));
        assert_eq!(known.remember("/c", "i", Kind::Param), Noted::NotKept);
        assert_eq!(known.remember_name("/c", Kind::Event), Noted::NotKept);
        known.remember("/b", &"i".repeat(TAGS_MAX + 1), Kind::Param);
        assert_eq!(known.tags("/b"), "");
        assert_eq!(known.matching("/*"), Some(vec!["/a".to_string(), "/b".to_string()]));
        assert_eq!(known.matching("/["), None);
    }

    #[test]
    fn a_value_is_held_unless_it_is_long() {
        let mut known = Known::new(1);
        known.remember_name("/a", Kind::Param);
        let hold = |known: &mut Known, text: &str| {
            known.hold("/a", |out| clasp_rt_core::value::push_str(out, text));
            known.get("/a").and_then(Entry::value).and_then(|v| v.as_str().map(str::to_owned))
        };
        assert_eq!(hold(&mut known, "short").as_deref(), Some("short"));
        assert_eq!(hold(&mut known, &"x".repeat(VALUE_BYTES_MAX)), None);
        known.hold("/unknown", |_| Ok::<_, Infallible>(()));
        assert_eq!(known.after("").map(|(name, _)| name).collect::<Vec<_>>(), ["/a"]);
        assert_eq!(known.after("/a").count(), 0);
    }
}

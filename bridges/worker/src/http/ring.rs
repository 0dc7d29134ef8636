//! What a web page was told and will be told: a bounded history with rising ids, from which a
//! connection that broke is continued. A machine without clock or sockets.
//!
//! Of a param only the newest value is kept, with an id of its own, so that a slow or a returning
//! reader gets the newest value once. Events are kept until there is no room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Entries that a history keeps.
pub const ENTRIES_MAX: usize = 4096;
/// Bytes that they have together.
pub const BYTES_MAX: usize = 1 << 20;

/// What one entry takes beside its texts, roughly.
const OVERHEAD_BYTES: usize = 160;

/// The history of one subscription.
#[derive(Debug)]
pub struct Ring {
    entries: BTreeMap<u64, Entry>,
    /// Where the newest value of a param is.
    newest: HashMap<Arc<str>, u64>,
    next: u64,
    /// The newest entry that went for lack of room.
    lost: u64,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What server-sent events call it: `set`, `event`, `stream`, `gesture`, `timeline`.
    pub kind: &'static str,
    /// JSON text of one line.
    pub data: Arc<str>,
    param: Option<Arc<str>>,
}

/// Entries between the reader and the oldest that is left are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Default for Ring {
    fn default() -> Self {
        Self::new(ENTRIES_MAX, BYTES_MAX)
    }
}

impl Ring {
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            newest: HashMap::new(),
            next: 1,
            lost: 0,
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// The id of the oldest entry that is left.
    pub fn first_id(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(id, _)| *id)
    }

    /// Whether the next entry costs the oldest one.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.entries_max || self.bytes >= self.bytes_max
    }

    /// Keeps an entry; `param` is the address where it replaces what was said of it before. Where
    /// there is no room the oldest go.
    pub fn push(&mut self, kind: &'static str, param: Option<&str>, data: String) {
        let id = self.next;
        self.next += 1;
        if let Some(older) = param.and_then(|param| self.newest.get(param).copied()) {
            self.remove(older);
        }
        let entry = Entry { kind, data: data.into(), param: param.map(Arc::from) };
        if let Some(param) = &entry.param {
            self.newest.insert(Arc::clone(param), id);
        }
        self.bytes += entry.bytes();
        self.entries.insert(id, entry);
        while self.entries.len() > self.entries_max
            || (self.bytes > self.bytes_max && self.entries.len() > 1)
        {
            let Some(oldest) = self.first_id() else { break };
            self.remove(oldest);
            self.lost = oldest;
        }
    }

    /// The entries behind `id`, oldest first; or that some of them are gone.
    pub fn after(&self, id: u64) -> Result<impl Iterator<Item = (u64, &Entry)>, Lost> {
        if id < self.lost || id >= self.next {
            return Err(Lost);
        }
        Ok(self.entries.range(id + 1..).map(|(id, entry)| (*id, entry)))
    }

    fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= entry.bytes();
        if let Some(param) = &entry.param
            && self.newest.get(param) == Some(&id)
        {
            self.newest.remove(param);
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.data.len() + self.param.as_ref().map_or(0, |param| param.len()) + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ring: &Ring, after: u64) -> Result<Vec<(u64, String)>, Lost> {
        Ok(ring.after(after)?.map(|(id, entry)| (id, entry.data.to_string())).collect())
    }

    #[test]
    fn a_returning_reader_gets_every_event_and_the_newest_of_each_param() {
        let mut ring = Ring::default();
        for (kind, param, data) in [
            ("set", Some("/a"), "a1"),
            ("event", None, "e1"),
            ("set", Some("/b"), "b1"),
            ("set", Some("/a"), "a2"),
            ("event", None, "e2"),
        ] {
            ring.push(kind, param, data.into());
        }
        let told = |pairs: &[(u64, &str)]| {
            Ok(pairs.iter().map(|(id, data)| (*id, (*data).to_string())).collect())
        };
        assert_eq!(read(&ring, 0), told(&[(2, "e1"), (3, "b1"), (4, "a2"), (5, "e2")]));
        assert_eq!(read(&ring, 3), told(&[(4, "a2"), (5, "e2")]));
        assert_eq!(read(&ring, 5), Ok(Vec::new()));
        assert_eq!(read(&ring, 6), Err(Lost), "an id that was never given");
    }

    #[test]
    fn a_full_history_loses_the_oldest_and_says_so_to_whoever_missed_it() {
        let mut ring = Ring::new(3, 1 << 20);
        for number in 1..=3 {
            assert!(!ring.is_full(), "{number}");
            ring.push("event", None, number.to_string());
        }
        assert!(ring.is_full());
        ring.push("event", None, "4".into());
        assert_eq!(read(&ring, 0), Err(Lost));
        assert_eq!(read(&ring, 1).map(|entries| entries.len()), Ok(3));
        ring.push("set", Some("/a"), "5".into());
        ring.push("set", Some("/a"), "6".into());
        assert_eq!(read(&ring, 1), Err(Lost));
        assert_eq!(read(&ring, 2).map(|entries| entries.len()), Ok(3), "3, 4 and 6");
    }

    #[test]
    fn bytes_bound_a_history_too() {
        let mut ring = Ring::new(1000, 10_000);
        for number in 0..1000 {
            ring.push("set", Some(&format!("/{number}")), "x".repeat(500));
            assert!(ring.bytes <= 10_000, "{} bytes", ring.bytes);
        }
        assert!(ring.entries.len() > 10 && ring.newest.len() == ring.entries.len());
        for id in ring.entries.keys().copied().collect::<Vec<_>>() {
            ring.remove(id);
        }
        assert_eq!((ring.bytes, ring.newest.len()), (0, 0), "what is counted is what is there");
    }
}

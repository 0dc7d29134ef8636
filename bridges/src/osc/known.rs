//! Addresses that were seen, and the type tags that last came from them.

use std::collections::BTreeMap;

use super::pattern;

/// Tags of a message longer than this are not remembered.
const TAGS_MAX: usize = 64;

pub(super) struct Known {
    addresses_max: usize,
    /// Names as OSC has them. In order, so that a pattern writes them in the same order every time.
    names: BTreeMap<String, String>,
}

impl Known {
    pub(super) fn new(addresses_max: usize) -> Self {
        Self { addresses_max, names: BTreeMap::new() }
    }

    /// Notes that a device sent `name` with `tags`. `false`: the table is full.
    pub(super) fn remember(&mut self, name: &str, tags: &str) -> bool {
        let tags = if tags.len() <= TAGS_MAX { tags } else { "" };
        match self.names.get_mut(name) {
            Some(known) => {
                if known != tags {
                    known.clear();
                    known.push_str(tags);
                }
                true
            }
            None => self.add(name, tags),
        }
    }

    /// Notes a name that the router told. `false`: the table is full.
    pub(super) fn remember_name(&mut self, name: &str) -> bool {
        self.names.contains_key(name) || self.add(name, "")
    }

    /// The tags that `name` last had; none for one that no device sent.
    pub(super) fn tags(&self, name: &str) -> &str {
        self.names.get(name).map_or("", String::as_str)
    }

    /// The names that an OSC pattern matches; `None`: it cannot be read.
    pub(super) fn matching(&self, wanted: &str) -> Option<Vec<String>> {
        // Also finds out about a broken pattern where no name is known.
        pattern::matches(wanted, "")?;
        let matching =
            self.names.keys().filter(|name| pattern::matches(wanted, name) == Some(true));
        Some(matching.cloned().collect())
    }

    fn add(&mut self, name: &str, tags: &str) -> bool {
        let has_room = self.names.len() < self.addresses_max;
        if has_room {
            self.names.insert(name.to_string(), tags.to_string());
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tags_count_until_the_table_is_full() {
        let mut known = Known::new(2);
        assert!(known.remember("/a", "i") && known.remember_name("/b"));
        assert!(known.remember("/a", "f") && known.remember_name("/a"));
        assert_eq!((known.tags("/a"), known.tags("/b"), known.tags("/c")), ("f", "", ""));
        assert!(!known.remember("/c", "i") && !known.remember_name("/c"));
        assert!(known.remember("/b", &"i".repeat(TAGS_MAX + 1)));
        assert_eq!(known.tags("/b"), "");
        assert_eq!(known.matching("/*"), Some(vec!["/a".to_string(), "/b".to_string()]));
        assert_eq!(known.matching("/["), None);
    }
}

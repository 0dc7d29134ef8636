//! Which addresses are show-critical because the settings say so.

use alloc::boxed::Box;
use alloc::string::String;

use crate::pattern;

/// Addresses remembered at once; others are matched again.
const KNOWN: usize = 1_024;

/// The configured patterns, and what they said of addresses that came lately.
pub(crate) struct Critical {
    patterns: Box<[String]>,
    /// By the lowest bits of the address's hash: the hash, and whether a pattern matches. Empty
    /// without patterns.
    known: Box<[(u64, bool)]>,
}

impl Critical {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let mut known = alloc::vec![(0, false); if patterns.is_empty() { 0 } else { KNOWN }];
        // No hash is found where it does not belong.
        if let Some(first) = known.first_mut() {
            first.0 = 1;
        }
        Self { patterns: patterns.into(), known: known.into() }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let texts: usize = self.patterns.iter().map(|text| size_of::<String>() + text.len()).sum();
        (texts + size_of_val(&*self.known)) as u64
    }

    /// Without patterns no address needs to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern matches `address`, whose hash is `key`.
    pub(crate) fn matches(&mut self, key: u64, address: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let known = &mut self.known[key as usize % KNOWN];
        if known.0 != key {
            let found = self.patterns.iter().any(|pattern| pattern::matches(pattern, address));
            *known = (key, found);
        }
        known.1
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_a_pattern_matches_is_critical_however_often_it_is_asked() {
        let mut critical = Critical::new(&["/cue/**".into(), "/*/stop".into()]);
        let cases = [("/cue/go", true), ("/rig/stop", true), ("/rig/level", false), ("/cue", true)];
        // Keys that share a place, and one that an empty place could be taken for.
        for keys in [vec![0, KNOWN as u64, 1, 2], vec![7, 7 + KNOWN as u64, 8, 0]] {
            for _ in 0..2 {
                for ((address, expected), key) in cases.iter().zip(&keys) {
                    assert_eq!(critical.matches(*key, address), *expected, "{address} as {key}");
                }
            }
        }
        assert!(!Critical::new(&[]).matches(0, "/cue/go"));
    }
}

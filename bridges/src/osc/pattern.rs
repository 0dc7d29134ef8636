//! Patterns in the address of an OSC message, matched against addresses that are known.
//!
//! Source: OSC 1.0, "OSC Message Dispatching", and `//` of OSC 1.1. A pattern comes from the
//! network: matching follows all possibilities at once instead of one after the other, so that its
//! cost is bounded by pattern times address, and both are.

/// Bytes of a pattern at most.
pub const PATTERN_BYTES_MAX: usize = 256;

/// Elements other than plain characters in one pattern at most.
const WILDCARDS_MAX: usize = 32;

/// Whether `address` holds characters that mean something else than themselves.
pub fn is_pattern(address: &str) -> bool {
    address.contains(['?', '*', '[', ']', '{', '}']) || address.contains("//")
}

/// One element of a pattern.
enum Element<'p> {
    Char(char),
    /// `?`: one character.
    One,
    /// `*`: any number of characters, none included.
    Run,
    /// `[abc]`, `[a-z]`, `[!a-z]`: one of the characters, or one of the others.
    Class {
        members: &'p str,
        negated: bool,
    },
    /// `{one,two}`: one of the texts.
    Either(&'p str),
    /// `//`: a slash, any number of segments, and a slash.
    Levels,
}

/// Whether `name` matches; `None`: `pattern` cannot be read, or is longer than is looked at.
///
/// Only `//` crosses a slash.
pub fn matches(pattern: &str, name: &str) -> Option<bool> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    let mut wildcards = 0;
    let mut rest = pattern;
    // The places in `name` that the elements so far can end at; ascending, each once.
    let mut reached = vec![0];
    let mut next = Vec::new();
    while !rest.is_empty() {
        let (element, after) = split_element(rest)?;
        wildcards += usize::from(!matches!(element, Element::Char(_)));
        if wildcards > WILDCARDS_MAX {
            return None;
        }
        for &at in &reached {
            element.extend(name, at, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        std::mem::swap(&mut reached, &mut next);
        next.clear();
        rest = after;
    }
    Some(reached.contains(&name.len()))
}

fn split_element(rest: &str) -> Option<(Element<'_>, &str)> {
    if let Some(after) = rest.strip_prefix("//") {
        // Three slashes are no more than two.
        return Some((Element::Levels, after.trim_start_matches('/')));
    }
    let first = rest.chars().next()?;
    let after = &rest[first.len_utf8()..];
    match first {
        '?' => Some((Element::One, after)),
        '*' => Some((Element::Run, after.trim_start_matches('*'))),
        '[' => {
            let (members, after) = after.split_once(']')?;
            let (members, negated) = match members.strip_prefix('!') {
                Some(members) => (members, true),
                None => (members, false),
            };
            Some((Element::Class { members, negated }, after))
        }
        '{' => {
            let (texts, after) = after.split_once('}')?;
            Some((Element::Either(texts), after))
        }
        ']' | '}' => None,
        char => Some((Element::Char(char), after)),
    }
}

impl Element<'_> {
    /// Adds the places that this element leads to from `at`.
    fn extend(&self, name: &str, at: usize, places: &mut Vec<usize>) {
        let rest = &name[at..];
        let first = rest.chars().next();
        let in_segment = first.filter(|char| *char != '/');
        match self {
            Self::Char(char) => {
                places.extend(first.filter(|found| found == char).map(|c| at + c.len_utf8()))
            }
            Self::One => places.extend(in_segment.map(|char| at + char.len_utf8())),
            Self::Class { members, negated } => {
                let is_one = in_segment.filter(|char| is_member(members, *char) != *negated);
                places.extend(is_one.map(|char| at + char.len_utf8()));
            }
            Self::Run => {
                let end = rest.find('/').unwrap_or(rest.len());
                places.extend(
                    (0..=end).filter(|place| rest.is_char_boundary(*place)).map(|n| at + n),
                );
            }
            Self::Either(texts) => {
                let found = texts.split(',').filter(|text| rest.starts_with(text));
                places.extend(found.map(|text| at + text.len()));
            }
            Self::Levels if first == Some('/') => {
                places.extend(rest.match_indices('/').map(|(slash, _)| at + slash + 1));
            }
            Self::Levels => {}
        }
    }
}

/// A minus between two characters is a range; at an end it is itself.
fn is_member(members: &str, char: char) -> bool {
    let mut rest = members.chars();
    while let Some(first) = rest.next() {
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                if (first..=last).contains(&char) {
                    return true;
                }
                rest = ahead;
            }
            _ if first == char => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_osc_says() {
        let cases = [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/c", false),
            ("/a/?", "/a/b", true),
            ("/a/?", "/a/bc", false),
            ("/a/?", "/a/ü", true),
            ("/a?b", "/a/b", false),
            ("/*/fader1", "/1/fader1", true),
            ("/*/fader1", "/1/2/fader1", false),
            ("/1/fader*", "/1/fader", true),
            ("/1/f*r*", "/1/fader12", true),
            ("/1/f*r*", "/1/fade", false),
            ("/1/[ab]", "/1/b", true),
            ("/1/[a-c]x", "/1/cx", true),
            ("/1/[!a-c]", "/1/d", true),
            ("/1/[!a-c]", "/1/b", false),
            ("/1/[!a]", "/1/", false),
            ("/1/[a-]", "/1/-", true),
            ("/{one,two}/x", "/two/x", true),
            ("/{one,two}/x", "/three/x", false),
            ("/{a,ab}{c,bc}", "/abc", true),
            ("/{a,ab}{c,bc}", "/abbc", true),
            ("/{,x}y", "/y", true),
            ("//fader1", "/fader1", true),
            ("//fader1", "/a/b/fader1", true),
            ("//fader1", "/a/b/fader12", false),
            ("/a//b", "/a/b", true),
            ("/a//b", "/a/x/y/b", true),
            ("/a//b", "/ab", false),
            ("/a///b", "/a/x/b", true),
            ("/a//*", "/a/x/y", true),
        ];
        for (pattern, name, result) in cases {
            assert_eq!(matches(pattern, name), Some(result), "{pattern} of {name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_so() {
        let long = format!("/{}", "?".repeat(WILDCARDS_MAX + 1));
        for pattern in ["/[a", "/{a,b", "/a]", "/a}", &long, &"/a".repeat(PATTERN_BYTES_MAX)] {
            assert_eq!(matches(pattern, "/a"), None, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let pattern = format!("/{}z", "{a,aa}*".repeat(WILDCARDS_MAX / 2));
        let name = format!("/{}", "a".repeat(1_000));
        assert_eq!(matches(&pattern, &name), Some(false));
    }

    /// The obvious matcher: one possibility after the other, in exponential time.
    fn naive(pattern: &str, name: &str) -> bool {
        let Some((element, after)) = split_element(pattern).filter(|_| !pattern.is_empty()) else {
            return name.is_empty();
        };
        let mut chars = name.chars();
        let next = chars.next().filter(|char| *char != '/');
        match element {
            Element::Char(char) => name.strip_prefix(char).is_some_and(|rest| naive(after, rest)),
            Element::One => next.is_some() && naive(after, chars.as_str()),
            Element::Run => {
                naive(after, name) || (next.is_some() && naive(pattern, chars.as_str()))
            }
            Element::Class { members, negated } => {
                next.is_some_and(|char| members.contains(char) != negated)
                    && naive(after, chars.as_str())
            }
            Element::Either(texts) => texts
                .split(',')
                .any(|text| name.strip_prefix(text).is_some_and(|rest| naive(after, rest))),
            Element::Levels => name
                .match_indices('/')
                .any(|(at, _)| name.starts_with('/') && naive(after, &name[at + 1..])),
        }
    }

    proptest! {
        /// Not rosc: its matcher never goes back, and says no to `/*a*?x` of `/aax`.
        #[test]
        fn the_obvious_matcher_agrees(
            pattern in "/{1,2}([abx]|[?*]|\\[!?[ab]{1,2}\\]|\\{a,bx\\}){1,5}(/{1,2}[ab?*]{1,3})?",
            name in "/[abx]{1,5}(/[ab]{1,3}){0,2}",
        ) {
            prop_assert_eq!(matches(&pattern, &name), Some(naive(&pattern, &name)));
        }
    }
}

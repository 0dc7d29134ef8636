//! Patterns: which addresses a subscription, a query, a rule or a scope means.
//!
//! There is one engine: `**` as a whole segment is any number of segments, none included; `*`
//! stands for any run of characters inside one segment; nothing else is special. [`crate::trie`] is
//! the same meaning for many patterns at once.

use core::fmt;

use crate::address::{has_empty_segment, split_segment};
use crate::limits::ADDRESS_BYTES_MAX;

/// Why a text is no pattern: ERROR 202.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    Empty,
    /// The first character is not `/`.
    NoSlash,
    /// Two slashes follow each other.
    EmptySegment,
    /// Longer than [`ADDRESS_BYTES_MAX`].
    TooLong {
        got: usize,
    },
}

/// Whether `pattern` may be subscribed to, queried, or stand in a scope or rule.
pub fn check(pattern: &str) -> Result<(), PatternError> {
    let Some(rest) = pattern.strip_prefix('/') else {
        return Err(if pattern.is_empty() { PatternError::Empty } else { PatternError::NoSlash });
    };
    if pattern.len() > ADDRESS_BYTES_MAX {
        return Err(PatternError::TooLong { got: pattern.len() });
    }
    if has_empty_segment(rest.as_bytes()) {
        return Err(PatternError::EmptySegment);
    }
    Ok(())
}

/// Whether `pattern` means one address only: itself.
pub fn is_exact(pattern: &str) -> bool {
    !pattern.contains('*')
}

/// Whether `pattern` means `address`. Takes no memory, and time in the product of the lengths at
/// worst.
///
/// A failed match goes back to the last `**` only: it can take up any segments, so what an earlier
/// one could still try, the last one has tried.
pub fn matches(pattern: &str, address: &str) -> bool {
    let (Some(pattern), Some(address)) = (pattern.strip_prefix('/'), address.strip_prefix('/'))
    else {
        return false;
    };
    let (mut pattern, mut address) = (Some(pattern), Some(address));
    // What follows the last `**`, and the address from where to try it next.
    let mut retry: Option<(Option<&str>, Option<&str>)> = None;
    loop {
        match (split_segment(pattern), split_segment(address)) {
            (Some((DEEP, after)), _) => {
                retry = Some((after, address));
                pattern = after;
                continue;
            }
            (None, None) => return true,
            (Some((wanted, wanted_rest)), Some((found, found_rest)))
                if segment_matches(wanted, found) =>
            {
                (pattern, address) = (wanted_rest, found_rest);
                continue;
            }
            _ => {}
        }
        // The last `**` takes one segment more.
        let Some((after, from)) = retry else { return false };
        let Some((_, from)) = split_segment(from) else { return false };
        retry = Some((after, from));
        (pattern, address) = (after, from);
    }
}

/// The whole segment that stands for any number of segments.
pub(crate) const DEEP: &str = "**";

/// Whether the text between two slashes fits, where each `*` of `wanted` is any run, also an empty
/// one.
///
/// Bytes are as good as characters here: in UTF-8 no character begins inside another.
pub fn segment_matches(wanted: &str, found: &str) -> bool {
    let (wanted, found) = (wanted.as_bytes(), found.as_bytes());
    let (mut w, mut f) = (0, 0);
    // Where the last `*` stands, and what it has not taken up yet.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (wanted.get(w), found.get(f)) {
            (Some(b'*'), _) => {
                retry = Some((w + 1, f));
                w += 1;
            }
            (None, None) => return true,
            (Some(want), Some(have)) if want == have => {
                w += 1;
                f += 1;
            }
            _ => {
                let Some((after, from)) = retry else { return false };
                if from == found.len() {
                    return false;
                }
                retry = Some((after, from + 1));
                (w, f) = (after, from + 1);
            }
        }
    }
}

/// Whether every address that `pattern` means is meant by at least one of `scopes`.
///
/// Never `true` wrongly. Also never `false` wrongly while the scopes have at most
/// `PLACES_MAX` segments together (else each scope is tried alone) and the search needs at most
/// `STATES_MAX` steps; only texts made for the purpose need more.
///
/// The proof is by the least favourable address. A `*` of `pattern` can be a character that no
/// scope spells out, and is therefore matched by a `*` of the scope or not at all; the same text
/// with any other run in that place is matched by those scopes, and perhaps more. No address has a
/// `*`, so the segment of `pattern` itself is that text. Only how many segments each `**` stands
/// for is left to try, and a set of places in the scopes that was reached before needs no second
/// look.
pub fn is_within<'a>(pattern: &str, mut scopes: impl Iterator<Item = &'a str> + Clone) -> bool {
    match within(pattern, scopes.clone()) {
        Some(answer) => answer,
        None => scopes.any(|scope| within(pattern, [scope].into_iter()) == Some(true)),
    }
}

/// Places in all scopes together: each scope has one per segment, and its end.
const PLACES_MAX: usize = 256;

/// Sets of places to look at: 7 KiB of stack. Measured: three scopes of a show take 0.4 µs, and
/// texts made for the purpose, against a scope of 40 segments, 65 µs.
const STATES_MAX: usize = 128;

/// The places that the scopes can be in after the same segments, one bit each.
type Places = [u64; PLACES_MAX / 64];

/// How far the search is: all of `pattern` up to `rest` is used up.
#[derive(Clone, Copy)]
struct State<'p> {
    rest: Option<&'p str>,
    /// Nothing but `**` has gone by, each as no segment: so far there is no address.
    empty: bool,
    places: Places,
}

/// As [`is_within`]; `None` when the bounds do not allow an answer.
fn within<'a>(pattern: &str, scopes: impl Iterator<Item = &'a str> + Clone) -> Option<bool> {
    let mut states = [State { rest: None, empty: true, places: [0; PLACES_MAX / 64] }; STATES_MAX];
    let start = State {
        rest: Some(pattern.strip_prefix('/')?),
        empty: true,
        places: start_places(scopes.clone())?,
    };
    *states.first_mut()? = start;
    let (mut next, mut count) = (0, 1);
    while next < count {
        let state = *states.get(next)?;
        next += 1;
        let successors = match split_segment(state.rest) {
            None if state.empty => continue, // No segment at all is no address.
            None if is_any_at_end(scopes.clone(), &state.places) => continue,
            None => return Some(false),
            Some((DEEP, after)) => {
                let stay = step(scopes.clone(), &state.places, "*");
                [
                    Some(State { rest: after, ..state }),
                    Some(State { empty: false, places: stay, ..state }),
                ]
            }
            Some((segment, after)) => {
                let places = step(scopes.clone(), &state.places, segment);
                [Some(State { rest: after, empty: false, places }), None]
            }
        };
        for successor in successors.into_iter().flatten() {
            if successor.places == [0; PLACES_MAX / 64] {
                return Some(false); // Whatever follows, no scope means it.
            }
            let seen = states.get(..count)?.iter().any(|state| is_harder(state, &successor));
            if !seen {
                *states.get_mut(count)? = successor;
                count += 1;
            }
        }
    }
    Some(true)
}

/// Whether success from `a` proves success from `b`: as far, with no more places to be in.
fn is_harder(a: &State<'_>, b: &State<'_>) -> bool {
    a.rest.map(str::len) == b.rest.map(str::len)
        && a.empty == b.empty
        && a.places.iter().zip(&b.places).all(|(a, b)| a & !b == 0)
}

/// Before the first segment of every scope; `None` if the scopes have too many places.
fn start_places<'a>(scopes: impl Iterator<Item = &'a str>) -> Option<Places> {
    let mut places = [0; PLACES_MAX / 64];
    let mut first = 0;
    for scope in scopes {
        let end = first + segments(scope).count();
        if end >= PLACES_MAX {
            return None;
        }
        enter(scope, first, 0, &mut places);
        first = end + 1;
    }
    Some(places)
}

/// Where the scopes can be after one more segment that only they can match who match all of its
/// kind.
fn step<'a>(scopes: impl Iterator<Item = &'a str>, from: &Places, segment: &str) -> Places {
    let mut to = [0; PLACES_MAX / 64];
    let mut first = 0;
    for scope in scopes {
        let mut count = 0;
        for (at, wanted) in segments(scope).enumerate() {
            count = at + 1;
            if !is_set(from, first + at) {
                continue;
            }
            if wanted == DEEP {
                enter(scope, first, at, &mut to);
            } else if segment_matches(wanted, segment) {
                enter(scope, first, at + 1, &mut to);
            }
        }
        first += count + 1;
    }
    to
}

/// Adds the place before segment `at` of `scope`, and those beyond each `**` that begins there.
fn enter(scope: &str, first: usize, mut at: usize, places: &mut Places) {
    set(places, first + at);
    for segment in segments(scope).skip(at) {
        if segment != DEEP {
            break;
        }
        at += 1;
        set(places, first + at);
    }
}

fn is_any_at_end<'a>(scopes: impl Iterator<Item = &'a str>, places: &Places) -> bool {
    let mut first = 0;
    for scope in scopes {
        let end = first + segments(scope).count();
        if is_set(places, end) {
            return true;
        }
        first = end + 1;
    }
    false
}

/// The segments of a scope; none of a text that is no pattern, which therefore means no address.
fn segments(scope: &str) -> impl Iterator<Item = &str> {
    let mut rest = scope.strip_prefix('/');
    core::iter::from_fn(move || {
        let (segment, after) = split_segment(rest)?;
        rest = after;
        Some(segment)
    })
}

fn is_set(places: &Places, at: usize) -> bool {
    places.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn set(places: &mut Places, at: usize) {
    if let Some(word) = places.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("invalid address: empty, should begin with '/'"),
            Self::NoSlash => f.write_str("invalid address: should begin with '/'"),
            Self::EmptySegment => f.write_str("invalid address: empty segment ('//')"),
            Self::TooLong { got } => {
                write!(f, "invalid address: {got} bytes, at most {ADDRESS_BYTES_MAX}")
            }
        }
    }
}

impl core::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_begins_with_a_slash_and_has_no_empty_segment_but_the_last() {
        let too_long = format!("/{}", "x".repeat(ADDRESS_BYTES_MAX));
        let cases = [
            ("/", Ok(())),
            ("/a/", Ok(())),
            ("/**", Ok(())),
            ("/a/*/b**/", Ok(())),
            ("", Err(PatternError::Empty)),
            ("**", Err(PatternError::NoSlash)),
            ("//", Err(PatternError::EmptySegment)),
            ("/a//b", Err(PatternError::EmptySegment)),
            (&too_long, Err(PatternError::TooLong { got: ADDRESS_BYTES_MAX + 1 })),
        ];
        for (pattern, expected) in cases {
            assert_eq!(check(pattern), expected, "{pattern:?}");
        }
    }

    #[test]
    fn a_pattern_means_what_the_protocol_says() {
        let cases = [
            ("/", "/", true),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/", "/a", false),
            ("/a", "/A", false),
            ("/**", "/", true),
            ("/**", "/a/b/c", true),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/**/b", "/a/b", true),
            ("/a/**/b", "/a/x/b/y/b", true),
            ("/a/**/b", "/a/x/b/y", false),
            ("/**/b", "/b", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/*", "/", true),
            ("/a*", "/a", true),
            ("/a*", "/ab", true),
            ("/a*c*e", "/abcde", true),
            ("/a*c*e", "/abcd", false),
            ("/a/b**", "/a/bc", true),
            ("/a/b**", "/a/b/c", false),
            ("/a/***", "/a/b", true),
            ("/a/***", "/a/b/c", false),
            ("/a/*/**", "/a/b", true),
            ("/a/*/**", "/a", false),
            ("/**/**", "/a", true),
            ("/**/", "/a/", true),
            ("/**/", "/a", false),
            ("/{a,b}", "/a", false),
            ("/{a,b}", "/{a,b}", true),
            ("/[ab]", "/a", false),
            ("/?", "/a", false),
            ("/*ü", "/für ü", true),
            ("**", "/a", false),
            ("/a", "a", false),
        ];
        for (pattern, address, expected) in cases {
            assert_eq!(matches(pattern, address), expected, "{pattern} on {address}");
        }
    }

    #[test]
    fn the_worst_pattern_ends_in_time() {
        let pattern = format!("{}/b", "/**/a".repeat(200));
        let address = "/a".repeat(500);
        assert!(!matches(&pattern, &address));
        let pattern = format!("/{}b", "*a".repeat(400));
        let address = format!("/{}", "a".repeat(1_000));
        assert!(!matches(&pattern, &address));
        assert!(matches(&pattern, &format!("{address}b")));
    }

    #[test]
    fn a_pattern_is_within_the_scopes_that_mean_all_it_means() {
        let cases: [(&str, &[&str], bool); 29] = [
            ("/a/b", &["/a/b"], true),
            ("/a/b", &["/a/*"], true),
            ("/a/b", &[], false),
            ("/a/*", &["/a/**"], true),
            ("/a/**", &["/a/*"], false),
            ("/a/**", &["/a/**"], true),
            ("/a/**", &["/a/*/**"], false),
            ("/a/*/**", &["/a/**"], true),
            ("/a/*/**", &["/a/**/*"], true),
            ("/a/**/*", &["/a/*/**"], true),
            ("/**", &["/*/**"], true),
            ("/**", &["/**/*"], true),
            ("/**", &["/*/*/**"], false),
            ("/**/x", &["/**"], true),
            ("/**/x/**/y", &["/**/x/**"], true),
            ("/**/x/**/y", &["/**/x/*/**"], true),
            ("/**/x/**/y", &["/**/x/*/*/**"], false),
            ("/a/**/b", &["/a/**/c"], false),
            ("/zone5*/x", &["/zone*/x"], true),
            ("/zone*/x", &["/zone5*/x"], false),
            ("/*ab*", &["/*a*b*"], true),
            ("/a/**", &["/a", "/a/*", "/a/*/*/**"], true),
            ("/a/**", &["/a", "/a/*", "/a/*/*/*/**"], false),
            ("/a/**", &["/a", "/a/*/**"], true),
            ("/a/**", &["/a/b/**", "/a/*/**"], false),
            ("/a*", &["/a", "/ab*"], false),
            ("/*/x", &["a/*", "/b/x"], false),
            ("/x", &["**"], false),
            ("x", &["/**"], false),
        ];
        for (pattern, scopes, expected) in cases {
            assert_eq!(
                is_within(pattern, scopes.iter().copied()),
                expected,
                "{pattern} in {scopes:?}"
            );
        }
    }

    #[test]
    fn too_many_scopes_for_one_search_are_tried_one_by_one() {
        let mut scopes: Vec<String> = (0..200).map(|n| format!("/rig/{n}/**")).collect();
        assert!(is_within("/rig/7/dimmer", scopes.iter().map(String::as_str)));
        assert!(!is_within("/rig/*/dimmer", scopes.iter().map(String::as_str)));
        scopes.push("/rig/*/dimmer/**".into());
        assert!(is_within("/rig/*/dimmer", scopes.iter().map(String::as_str)));
    }

    #[test]
    fn a_search_that_is_too_long_refuses() {
        // Remembers which of the last 40 segments were `a`: 2^40 sets of places.
        let scope = format!("/**/a{}/**", "/*".repeat(40));
        let pattern = format!("/**{}", "/a/**".repeat(80));
        assert_eq!(within(&pattern, [scope.as_str()].into_iter()), None);
        assert!(!is_within(&pattern, [scope.as_str()].into_iter()));
    }

    /// The definition, without care for time.
    fn means(pattern: &[&str], address: &[&str]) -> bool {
        match (pattern, address) {
            ([], []) => true,
            ([DEEP, after @ ..], _) => {
                means(after, address)
                    || address.split_first().is_some_and(|(_, rest)| means(pattern, rest))
            }
            ([wanted, after @ ..], [found, rest @ ..]) => {
                run_means(wanted.as_bytes(), found.as_bytes()) && means(after, rest)
            }
            _ => false,
        }
    }

    fn run_means(wanted: &[u8], found: &[u8]) -> bool {
        match (wanted, found) {
            ([], []) => true,
            ([b'*', after @ ..], _) => {
                run_means(after, found)
                    || found.split_first().is_some_and(|(_, rest)| run_means(wanted, rest))
            }
            ([want, after @ ..], [have, rest @ ..]) => want == have && run_means(after, rest),
            _ => false,
        }
    }

    fn text(segments: &[&str]) -> String {
        format!("/{}", segments.join("/"))
    }

    fn segments_of(
        kinds: &'static [&'static str],
        max: usize,
    ) -> impl Strategy<Value = Vec<&'static str>> {
        (prop::collection::vec(prop::sample::select(kinds), 1..=max), any::<bool>()).prop_map(
            |(mut segments, slash)| {
                if slash {
                    segments.push("");
                }
                segments
            },
        )
    }

    const WANTED: &[&str] = &["a", "ab", "*", "**", "**", "a*", "*b", "*a*b*", "***"];
    const FOUND: &[&str] = &["a", "ab", "b", "aab", "bb"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn matching_is_the_definition(
            pattern in segments_of(WANTED, 6), address in segments_of(FOUND, 7),
        ) {
            prop_assert_eq!(matches(&text(&pattern), &text(&address)), means(&pattern, &address));
        }
    }

    /// Every address of up to seven segments that these patterns can tell apart; `z` is in none.
    fn addresses() -> Vec<String> {
        let mut all = vec![String::new()];
        for length in 0..7 {
            let longest: Vec<String> =
                all.iter().filter(|a| a.split('/').count() == length + 1).cloned().collect();
            for start in longest {
                all.extend(["a", "zbz", "z"].map(|segment| format!("{start}/{segment}")));
            }
        }
        let slashed: Vec<String> = all.iter().map(|address| format!("{address}/")).collect();
        all.remove(0);
        all.extend(slashed);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn within_is_true_exactly_when_no_address_escapes(
            pattern in segments_of(&["a", "*", "**", "**", "*b*"], 3),
            scopes in prop::collection::vec(segments_of(&["a", "*", "**", "**", "*b*"], 4), 0..4),
        ) {
            let pattern = text(&pattern);
            let scopes: Vec<String> = scopes.iter().map(|scope| text(scope)).collect();
            let escaped = addresses().into_iter().find(|address| {
                matches(&pattern, address) && !scopes.iter().any(|scope| matches(scope, address))
            });
            let within = is_within(&pattern, scopes.iter().map(String::as_str));
            let none = escaped.is_none();
            prop_assert_eq!(within, none, "{} in {:?}: {:?}", pattern, scopes, escaped);
        }
    }
}

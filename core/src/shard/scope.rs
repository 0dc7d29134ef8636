//! What a token allows: scopes read from text, and the three questions asked of them.
//!
//! Admin implies write and read. Write implies reading single addresses, so that a writer can GET
//! what it set, but not subscribing.

use alloc::string::String;
use core::fmt;
use core::hint::black_box;

use super::settings::{Action, Scope};
use crate::pattern::{self, PatternError};

/// Why a text is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError {
    /// There is no `:` between an action and a pattern.
    NoPattern,
    /// The part before the first `:` is not read, r, write, w, admin, a or `*`.
    UnknownAction,
    /// The part after the first `:` is no pattern.
    BadPattern(PatternError),
}

/// Reads `action:pattern`, such as `read:/lights/**`.
///
/// An action alone is refused: whether it grants everything or nothing would be a guess.
pub fn parse_scope(text: &str) -> Result<Scope, ScopeError> {
    let (action, pattern) = text.split_once(':').ok_or(ScopeError::NoPattern)?;
    let action = match action {
        "read" | "r" => Action::Read,
        "write" | "w" => Action::Write,
        "admin" | "a" | "*" => Action::Admin,
        _ => return Err(ScopeError::UnknownAction),
    };
    pattern::check(pattern).map_err(ScopeError::BadPattern)?;
    Ok(Scope { action, pattern: String::from(pattern) })
}

/// Whether one address may be read: GET, snapshots, deliveries.
pub fn may_read(scopes: &[Scope], address: &str) -> bool {
    scopes.iter().any(|scope| pattern::matches(&scope.pattern, address))
}

/// Whether one address may be written: SET, PUBLISH, ANNOUNCE.
pub fn may_write(scopes: &[Scope], address: &str) -> bool {
    scopes
        .iter()
        .filter(|scope| scope.action >= Action::Write)
        .any(|scope| pattern::matches(&scope.pattern, address))
}

/// Whether everything that `pattern` means may be listened to.
pub fn may_subscribe(scopes: &[Scope], pattern: &str) -> bool {
    let readable = scopes.iter().filter(|scope| scope.action != Action::Write);
    pattern::is_within(pattern, readable.map(|scope| scope.pattern.as_str()))
}

/// Compares secrets in a time that tells their lengths, but not where they differ.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    // The black box keeps the compiler from leaving the loop at the first difference.
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    a.len() == b.len() && differing == 0
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPattern => f.write_str("should be action:pattern, such as read:/lights/**"),
            Self::UnknownAction => f.write_str("action should be read, write or admin"),
            Self::BadPattern(error) => write!(f, "pattern: {error}"),
        }
    }
}

impl core::error::Error for ScopeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Vec<Scope> {
        texts.iter().map(|text| parse_scope(text).unwrap()).collect()
    }

    #[test]
    fn a_scope_is_an_action_and_a_pattern() {
        let cases = [
            ("read:/a/**", Ok((Action::Read, "/a/**"))),
            ("r:/a", Ok((Action::Read, "/a"))),
            ("write:/**", Ok((Action::Write, "/**"))),
            ("w:/a:b", Ok((Action::Write, "/a:b"))),
            ("admin:/**", Ok((Action::Admin, "/**"))),
            ("a:/", Ok((Action::Admin, "/"))),
            ("*:/**", Ok((Action::Admin, "/**"))),
            ("admin", Err(ScopeError::NoPattern)),
            ("", Err(ScopeError::NoPattern)),
            ("Read:/a", Err(ScopeError::UnknownAction)),
            (":/a", Err(ScopeError::UnknownAction)),
            ("r:", Err(ScopeError::BadPattern(PatternError::Empty))),
            ("r:a/b", Err(ScopeError::BadPattern(PatternError::NoSlash))),
            ("r:/a//b", Err(ScopeError::BadPattern(PatternError::EmptySegment))),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|(action, pattern)| Scope { action, pattern: pattern.into() });
            assert_eq!(parse_scope(text), expected, "{text:?}");
        }
    }

    #[test]
    fn admin_implies_write_and_write_implies_reading_single_addresses() {
        // Scope; then whether /a/b may be read and written, and whether /a/* may be subscribed to.
        let cases = [
            ("read:/a/**", [true, false, true]),
            ("write:/a/**", [true, true, false]),
            ("admin:/a/**", [true, true, true]),
            ("read:/a/b", [true, false, false]),
            ("admin:/b/**", [false, false, false]),
        ];
        for (text, expected) in cases {
            let scopes = scopes(&[text]);
            let found = [
                may_read(&scopes, "/a/b"),
                may_write(&scopes, "/a/b"),
                may_subscribe(&scopes, "/a/*"),
            ];
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_subscription_may_need_several_scopes_but_never_more_than_they_mean() {
        let cases: [(&[&str], &str, bool); 7] = [
            (&["read:/a/*"], "/a/**", false),
            (&["read:/a", "read:/a/*", "admin:/a/*/*/**"], "/a/**", true),
            (&["read:/a", "read:/a/*", "write:/a/*/*/**"], "/a/**", false),
            (&["read:/**"], "/**", true),
            (&["read:/a/**", "read:/b/**"], "/*/x", false),
            (&["read:/a/**", "read:/b/**"], "/b/*/x", true),
            (&[], "/a", false),
        ];
        for (texts, pattern, expected) in cases {
            assert_eq!(may_subscribe(&scopes(texts), pattern), expected, "{pattern} by {texts:?}");
        }
    }

    #[test]
    fn secrets_are_equal_only_if_every_byte_is() {
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"", b"", true),
            (b"cpsk_1", b"cpsk_1", true),
            (b"cpsk_1", b"cpsk_2", false),
            (b"xpsk_1", b"cpsk_1", false),
            (b"cpsk_1", b"cpsk_", false),
            (b"", b"c", false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(constant_time_eq(a, b), expected, "{a:?} {b:?}");
        }
    }
}

//! What an address may look like, and which shard it lives on.
//!
//! An address is `/` and segments between slashes. Any UTF-8 is allowed in a segment, case matters,
//! and a trailing slash counts: `/a/` has two segments, the second of them empty.

use core::fmt;
use core::str;

use crate::limits::ADDRESS_BYTES_MAX;

/// Why a text is no address that can be written, published, read or announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    Empty,
    /// The first character is not `/`.
    NoSlash,
    /// Two slashes follow each other.
    EmptySegment,
    /// A `*` stands in it: that is a pattern, and would match more than itself.
    Wildcard,
    /// Longer than [`ADDRESS_BYTES_MAX`].
    TooLong {
        got: usize,
    },
}

/// Whether SET, PUBLISH, GET and ANNOUNCE may name `address`.
pub fn check(address: &str) -> Result<(), AddressError> {
    check_bytes(address.as_bytes())
}

/// The same of an address that is known to be text.
pub(crate) fn check_bytes(address: &[u8]) -> Result<(), AddressError> {
    let Some(rest) = address.strip_prefix(b"/") else {
        return Err(if address.is_empty() { AddressError::Empty } else { AddressError::NoSlash });
    };
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(AddressError::TooLong { got: address.len() });
    }
    if has_empty_segment(rest) {
        return Err(AddressError::EmptySegment);
    }
    // No early end: addresses are short, and so they are looked at many bytes at once.
    if address.iter().fold(false, |found, &byte| found | (byte == b'*')) {
        return Err(AddressError::Wildcard);
    }
    Ok(())
}

/// The first two segments: `/a/b` of `/a/b/c/d`, and a shorter address whole.
///
/// Addresses that share it live on one shard, so that a rig stays together.
pub fn home_key(address: &str) -> &str {
    &address[..home_key_bytes(address.as_bytes()).len()]
}

/// The text of an address that is known to be text.
pub(crate) fn text_of(address: &[u8]) -> &str {
    str::from_utf8(address).unwrap_or_default()
}

/// [`home_key`] of an address that is known to be text.
pub(crate) fn home_key_bytes(address: &[u8]) -> &[u8] {
    let mut slashes = address.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
    slashes.nth(2).map_or(address, |(third_slash, _)| &address[..third_slash])
}

/// The first segment of `rest`, and what follows its slash; `None` once nothing is left.
///
/// Begin with what follows the leading slash. One walk for addresses and patterns, so that they
/// agree.
pub(crate) fn split_segment(rest: Option<&str>) -> Option<(&str, Option<&str>)> {
    let rest = rest?;
    // Segments are short: stepping is twice as fast as a search made for long texts.
    Some(match rest.bytes().position(|byte| byte == b'/') {
        Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
        None => (rest, None),
    })
}

/// Whether a segment other than the last is empty; `rest` is what follows the leading slash.
pub(crate) fn has_empty_segment(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let doubled = pairs.fold(false, |found, (&a, &b)| found | (a == b'/' && b == b'/'));
    doubled || bytes.first() == Some(&b'/')
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("invalid address: empty, should begin with '/'"),
            Self::NoSlash => f.write_str("invalid address: should begin with '/'"),
            Self::EmptySegment => f.write_str("invalid address: empty segment ('//')"),
            Self::Wildcard => f.write_str("invalid address: '*' is for patterns"),
            Self::TooLong { got } => {
                write!(f, "invalid address: {got} bytes, at most {ADDRESS_BYTES_MAX}")
            }
        }
    }
}

impl core::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_begins_with_a_slash_and_has_no_empty_segment_but_the_last() {
        let longest = format!("/{}", "x".repeat(ADDRESS_BYTES_MAX - 1));
        let too_long = format!("{longest}x");
        let cases = [
            ("/", Ok(())),
            ("/a", Ok(())),
            ("/a/", Ok(())),
            ("/a/b c/ü?[]{}", Ok(())),
            (&longest, Ok(())),
            ("", Err(AddressError::Empty)),
            ("a/b", Err(AddressError::NoSlash)),
            ("é/x", Err(AddressError::NoSlash)),
            ("//", Err(AddressError::EmptySegment)),
            ("//a", Err(AddressError::EmptySegment)),
            ("/a//b", Err(AddressError::EmptySegment)),
            ("/a//", Err(AddressError::EmptySegment)),
            ("/a/*", Err(AddressError::Wildcard)),
            ("/**", Err(AddressError::Wildcard)),
            ("/zone5*/x", Err(AddressError::Wildcard)),
            (&too_long, Err(AddressError::TooLong { got: ADDRESS_BYTES_MAX + 1 })),
        ];
        for (address, expected) in cases {
            assert_eq!(check(address), expected, "{address:?}");
        }
    }

    #[test]
    fn the_home_key_is_the_first_two_segments() {
        let cases = [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a/b/c/d", "/a/b"),
            ("/ä/ö/ü", "/ä/ö"),
            ("", ""),
        ];
        for (address, key) in cases {
            assert_eq!(home_key(address), key, "{address:?}");
        }
    }

    #[test]
    fn splitting_gives_every_segment_once() {
        let cases: [(&str, &[&str]); 4] =
            [("", &[""]), ("a", &["a"]), ("a/", &["a", ""]), ("a/b/c", &["a", "b", "c"])];
        for (text, expected) in cases {
            let mut rest = Some(text);
            let mut found = vec![];
            while let Some((segment, next)) = split_segment(rest) {
                found.push(segment);
                rest = next;
            }
            assert_eq!(found, expected, "{text:?}");
        }
    }
}

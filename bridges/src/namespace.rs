//! The segments that all addresses of one bridge begin with.

use clasp_rt_core::address;

use crate::ConfigError;

/// Says what is wrong with the option `namespace`, which must be an address that names something:
/// neither `/` nor one with a slash at its end.
pub fn check(namespace: &str) -> Result<(), ConfigError> {
    let wrong = |why: String| Err(ConfigError::new("namespace", format!("`{namespace}`: {why}")));
    match address::check(namespace) {
        Err(error) => wrong(error.to_string()),
        Ok(()) if namespace.ends_with('/') => wrong("must not end with a slash".into()),
        Ok(()) => Ok(()),
    }
}

/// What follows `namespace` in `address`: nothing, or a slash and more. Whole segments only, so
/// that `/osc` is no namespace of `/oscillator/1`.
pub(crate) fn strip<'a>(namespace: &str, address: &'a str) -> Option<&'a str> {
    let rest = address.strip_prefix(namespace)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The number that a segment is. In digits alone and without zeros in front, so that one place has
/// one address.
pub(crate) fn number(segment: &str) -> Option<u16> {
    let is_plain = segment.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = segment.len() > 1 && segment.starts_with('0');
    if is_plain && !has_zeros { segment.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_way_to_be_written() {
        let cases = [("0", Some(0)), ("1", Some(1)), ("65535", Some(65_535)), ("10", Some(10))];
        let refused = ["", "01", "00", "+1", "-1", "65536", "1 ", "x"].map(|text| (text, None));
        for (text, found) in cases.into_iter().chain(refused) {
            assert_eq!(number(text), found, "{text:?}");
        }
    }

    #[test]
    fn a_namespace_is_stripped_in_whole_segments() {
        let cases = [
            ("/osc", "/osc/1/fader", Some("/1/fader")),
            ("/osc", "/osc", Some("")),
            ("/osc", "/oscillator/1", None),
            ("/osc", "/midi/osc", None),
            ("/a/b", "/a/b/c", Some("/c")),
        ];
        for (namespace, address, rest) in cases {
            assert_eq!(strip(namespace, address), rest, "{address}");
        }
    }

    #[test]
    fn a_namespace_that_is_no_address_is_refused() {
        for namespace in ["", "osc", "/", "/osc/", "/osc//x", "/osc/*"] {
            assert!(check(namespace).is_err(), "{namespace}");
        }
        check("/stage/left").expect("an address");
    }
}

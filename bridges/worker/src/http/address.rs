//! The path of a URL to the address of a param, and the namespace between the two.

use clasp_rt_core::{address, pattern};
use percent_encoding::percent_decode_str;

/// The segments that all addresses of a service begin with; empty for the whole address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Empty, or an address without a slash at its end. The error says what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        match address::check(text) {
            _ if text.is_empty() => {}
            Err(error) => return Err(error.to_string()),
            Ok(()) if text.ends_with('/') => return Err("must not end with a slash".into()),
            Ok(()) => {}
        }
        Ok(Self(text.to_owned()))
    }

    /// The address, or pattern, that `path` names inside the namespace.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// What `address` is called outside; `None` where it lies elsewhere.
    pub fn strip<'a>(&self, address: &'a str) -> Option<&'a str> {
        address.strip_prefix(&self.0).filter(|rest| rest.starts_with('/'))
    }

    /// The address that the path of a URL means: its segments percent-decoded, behind the
    /// namespace. The error says what would be right.
    pub fn address_of(&self, path: &str) -> Result<String, String> {
        let address = self.join(&decode(path)?);
        address::check(&address).map_err(|error| format!("{address}: {error}"))?;
        Ok(address)
    }

    /// The pattern that the path of a URL means; without a `*`, everything below it.
    pub fn pattern_of(&self, path: &str) -> Result<String, String> {
        let path = decode(path)?;
        let named = self.join(path.trim_end_matches('/'));
        let wanted = if named.contains('*') { named } else { format!("{named}/**") };
        pattern::check(&wanted).map_err(|error| format!("{wanted}: {error}"))?;
        Ok(wanted)
    }
}

/// Decodes segment by segment: an encoded slash would make two segments of one.
fn decode(path: &str) -> Result<String, String> {
    let mut out = String::with_capacity(path.len() + 1);
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| format!("`{segment}` is not UTF-8 once its %XX are decoded"))?;
        if decoded.contains('/') {
            return Err(format!("`{segment}`: a segment of an address cannot hold a slash"));
        }
        out.push('/');
        out.push_str(&decoded);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_segment_by_segment() {
        let everything = Namespace::default();
        let below = Namespace::new("/http").expect("an address");
        let cases = [
            ("/lights/1", Some("/lights/1")),
            ("lights/1", Some("/lights/1")),
            ("/b%C3%BChne/a%20b", Some("/bühne/a b")),
            ("/a%25b", Some("/a%b")),
            ("/a/", Some("/a/")),
            ("/a%2Fb", None),
            ("/a//b", None),
            ("/%ff", None),
            ("/a/*", None),
            ("/%2A", None),
        ];
        for (path, address) in cases {
            let got = everything.address_of(path);
            assert_eq!(got.as_deref().ok(), address, "{path}: {got:?}");
            let got = below.address_of(path).ok();
            assert_eq!(got, address.map(|address| format!("/http{address}")), "{path}");
        }
    }

    #[test]
    fn a_path_without_a_star_means_all_below_it() {
        let everything = Namespace::default();
        for (path, pattern) in [
            ("/", "/**"),
            ("/lights", "/lights/**"),
            ("/lights/", "/lights/**"),
            ("/lights/*/level", "/lights/*/level"),
            ("/**", "/**"),
        ] {
            assert_eq!(everything.pattern_of(path).as_deref(), Ok(pattern), "{path}");
        }
        assert_eq!(Namespace::new("/x").expect("one").pattern_of("/").as_deref(), Ok("/x/**"));
    }

    #[test]
    fn a_namespace_is_stripped_in_whole_segments() {
        let below = Namespace::new("/http").expect("an address");
        for (address, outside) in
            [("/http/a", Some("/a")), ("/https/a", None), ("/http", None), ("/a", None)]
        {
            assert_eq!(below.strip(address), outside, "{address}");
        }
        assert_eq!(Namespace::default().strip("/a"), Some("/a"));
        for wrong in ["http", "/", "/a/", "/a/*"] {
            assert!(Namespace::new(wrong).is_err(), "{wrong}");
        }
    }
}

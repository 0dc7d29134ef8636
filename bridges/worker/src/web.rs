//! What the services for web programs share: JSON values, and one session's questions in order.

use http::uri::Authority;

pub(crate) mod admission;
pub(crate) mod message;
pub mod program;
pub(crate) mod seats;
pub(crate) mod serve;
pub mod talk;
pub(crate) mod told;
pub(crate) mod value;

/// The port of a URL, where it has one; else what it must be.
pub(crate) fn port(authority: &Authority) -> Result<Option<u16>, &'static str> {
    let text = authority.as_str();
    // A colon inside brackets is part of the host.
    let host_end = text.rfind(']').unwrap_or_default();
    let has_port = text.get(host_end..).is_some_and(|rest| rest.contains(':'));
    match authority.port_u16() {
        _ if !has_port => Ok(None),
        Some(port) if port != 0 => Ok(Some(port)),
        _ => Err("a port is 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_no_machine_has_is_no_port() {
        let cases = [
            ("h", Ok(None)),
            ("h:80", Ok(Some(80))),
            ("[::1]", Ok(None)),
            ("[::1]:65535", Ok(Some(65_535))),
            ("h:0", Err(())),
            ("h:65536", Err(())),
            ("[::1]:99999", Err(())),
            ("h:", Err(())),
        ];
        for (text, expected) in cases {
            let authority = text.parse().expect(text);
            assert_eq!(port(&authority).map_err(drop), expected, "{text}");
        }
    }
}

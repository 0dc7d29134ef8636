//! Where a configuration says packets go.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::ConfigError;

/// Looks up `host:port`, or `host` where `port` is given. The only place that asks the host for
/// anything, once, before the machine runs.
pub(crate) fn resolve(
    key: &str,
    target: &str,
    port: Option<u16>,
) -> Result<SocketAddr, ConfigError> {
    let has_port = target.rsplit_once(':').is_some_and(|(host, port)| {
        let is_whole_ipv6 = host.contains(':') && !host.ends_with(']');
        port.parse::<u16>().is_ok() && !is_whole_ipv6
    });
    let text = match port {
        Some(port) if !has_port => format!("{target}:{port}"),
        _ => target.to_string(),
    };
    let wrong = |why: String| ConfigError::new(key, format!("`{target}`: {why}"));
    let mut found = text.to_socket_addrs().map_err(|error| {
        wrong(if has_port || port.is_some() {
            error.to_string()
        } else {
            "a target looks like 10.0.0.5:9000 or desk.local:9000".into()
        })
    })?;
    found.next().ok_or_else(|| wrong("has no address".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_leave_out_a_port_that_is_known() {
        let cases = [
            ("10.0.0.5:9000", None, "10.0.0.5:9000"),
            ("10.0.0.5", Some(6454), "10.0.0.5:6454"),
            ("10.0.0.5:6455", Some(6454), "10.0.0.5:6455"),
            ("[::1]:9000", None, "[::1]:9000"),
            ("[::1]", Some(9000), "[::1]:9000"),
        ];
        for (target, port, address) in cases {
            let found = resolve("targets", target, port).expect(target);
            assert_eq!(found.to_string(), address, "{target}");
        }
    }

    #[test]
    fn a_target_without_its_port_is_explained() {
        let error = resolve("targets", "10.0.0.5", None).expect_err("no port");
        assert!(error.to_string().contains("10.0.0.5:9000"), "{error}");
    }
}

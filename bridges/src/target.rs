//! Where a configuration says packets go.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::ConfigError;

/// Looks up `host:port`, or `host` where `port` is given, for a socket that is bound to `bind`: one
/// of IPv4 reaches IPv4 alone. Asks the host, once, before the machine runs.
pub(crate) fn resolve(
    key: &str,
    target: &str,
    port: Option<u16>,
    bind: SocketAddr,
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
    let found = text.to_socket_addrs().map_err(|error| {
        wrong(if has_port || port.is_some() {
            error.to_string()
        } else {
            "a target looks like 10.0.0.5:9000 or desk.local:9000".into()
        })
    })?;
    let mut is_elsewhere = false;
    let mut found = found.inspect(|at| is_elsewhere |= bind.is_ipv4() && at.is_ipv6());
    match found.find(|at| bind.is_ipv6() || at.is_ipv4()) {
        Some(at) if at.port() == 0 => Err(wrong("a port is 1 to 65535".into())),
        Some(at) => Ok(at),
        None if is_elsewhere => {
            let why = format!("has an IPv6 address alone, and `bind` is {bind}: IPv4");
            Err(wrong(why))
        }
        None => Err(wrong("has no address".into())),
    }
}

/// The same of a list; each is called by its place.
pub(crate) fn resolve_all(
    key: &str,
    targets: &[String],
    port: Option<u16>,
    bind: SocketAddr,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let places = targets.iter().enumerate();
    places.map(|(place, target)| resolve(&format!("{key}[{place}]"), target, port, bind)).collect()
}

/// Whether what goes to `at` comes to a socket that is bound to `bind`, on a machine whose
/// addresses are `own`: a target like this is the bridge itself.
pub fn is_ourselves(at: SocketAddr, bind: SocketAddr, own: &[IpAddr]) -> bool {
    let ip = at.ip();
    let is_own = || ip.is_loopback() || ip.is_unspecified() || own.contains(&ip);
    at.port() == bind.port() && (ip == bind.ip() || (bind.ip().is_unspecified() && is_own()))
}

/// Every address of this machine. Asks the host, before the machine runs.
pub fn own_addresses() -> Vec<IpAddr> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = found.filter_map(|one| {
        let at = one.address?;
        let v4 = at.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
        v4.or_else(|| at.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip())))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_ourselves_where_our_own_socket_hears_it() {
        let own = [IpAddr::from([10, 9, 0, 1])];
        let cases = [
            ("127.0.0.1:6454", "0.0.0.0:6454", true),
            ("127.0.0.1:6454", "127.0.0.1:6454", true),
            ("127.0.0.1:6454", "10.9.0.1:6454", false),
            ("10.9.0.1:6454", "0.0.0.0:6454", true),
            ("10.9.0.1:6454", "10.9.0.1:6454", true),
            ("10.9.0.1:6454", "0.0.0.0:6455", false),
            ("10.9.0.2:6454", "0.0.0.0:6454", false),
            ("10.9.0.2:6454", "10.9.0.1:6454", false),
            ("0.0.0.0:6454", "0.0.0.0:6454", true),
            ("[::1]:6454", "[::]:6454", true),
        ];
        for (at, bind, is_it) in cases {
            let [to, bound] = [at, bind].map(|text| text.parse().expect(text));
            assert_eq!(is_ourselves(to, bound, &own), is_it, "{at} of {bind}");
        }
        assert!(own_addresses().iter().any(IpAddr::is_loopback), "every machine has one");
    }

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
            let bind = if address.starts_with('[') { "[::]:9" } else { "0.0.0.0:9" };
            let bind = bind.parse().expect("an address");
            let found = resolve("targets", target, port, bind).expect(target);
            assert_eq!(found.to_string(), address, "{target}");
        }
    }

    #[test]
    fn a_target_that_nothing_can_reach_is_explained() {
        let cases = [
            ("10.0.0.5", None, "0.0.0.0:9", "10.0.0.5:9000"),
            ("10.0.0.5:0", None, "0.0.0.0:9", "a port is 1 to 65535"),
            ("10.0.0.5:0", Some(6454), "0.0.0.0:9", "a port is 1 to 65535"),
            ("[::1]:9000", None, "0.0.0.0:9", "`bind` is 0.0.0.0:9: IPv4"),
        ];
        for (target, port, bind, said) in cases {
            let bind = bind.parse().expect("an address");
            let error = resolve("targets", target, port, bind).expect_err(target);
            assert!(error.to_string().contains(said), "{error}");
        }
        let (v4, v6) = ("127.0.0.1:9".parse(), "[::]:9".parse().expect("an address"));
        assert_eq!(resolve("targets", "127.0.0.1:9", None, v6).ok(), v4.ok(), "IPv6 reaches both");
    }
}

//! What `[server]` and `[limits]` may not say: bounds with which a router runs and serves nobody.

use super::{PlanError, error};
use crate::config::{Bytes, Config};

/// Bytes of the name of a router or a bridge, which WELCOME and HELLO carry.
pub const NAME_BYTES_MAX: usize = 255;

pub fn check(config: &Config, errors: &mut Vec<PlanError>) {
    let (server, limits) = (&config.server, &config.limits);
    let bytes = |written: Option<Bytes>| written.map(|Bytes(bytes)| bytes);
    let bounds = [
        (
            "server.handshake_timeout_s",
            server.handshake_timeout_s.map(u64::from),
            "leaves nobody time to say HELLO",
        ),
        (
            "server.stall_timeout_s",
            server.stall_timeout_s.map(u64::from),
            "ends every session that is congested for a moment",
        ),
        ("server.max_sessions", server.max_sessions.map(u64::from), "lets nobody in"),
        (
            "server.max_subscriptions",
            server.max_subscriptions.map(u64::from),
            "lets nobody hear of anything",
        ),
        (
            "limits.subscriptions_max",
            limits.subscriptions_max.map(u64::from),
            "lets nobody hear of anything",
        ),
        ("limits.params_max", limits.params_max.map(u64::from), "keeps no param"),
        ("limits.param_bytes_max", bytes(limits.param_bytes_max), "keeps no param"),
    ];
    for (key, written, why) in bounds {
        if written == Some(0) {
            errors.push(error(key, format!("0 {why}: write 1 or more, or leave it out")));
        }
    }
    if let Some(name) = &server.name {
        errors.extend(too_long("server.name", name));
    }
}

/// Says so where a name does not fit.
pub fn too_long(key: &str, name: &str) -> Option<PlanError> {
    let count = name.len();
    let why = format!("has {count} bytes, a name has at most {NAME_BYTES_MAX}");
    (count > NAME_BYTES_MAX).then(|| error(key, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_serve_nobody_and_names_that_nothing_carries_are_refused() {
        let cases = [
            ("server", "handshake_timeout_s", "0"),
            ("server", "stall_timeout_s", "0"),
            ("server", "max_sessions", "0"),
            ("server", "max_subscriptions", "0"),
            ("limits", "subscriptions_max", "0"),
            ("limits", "params_max", "0"),
            ("limits", "param_bytes_max", "0"),
            ("limits", "param_bytes_max", "\"0 MiB\""),
            ("server", "name", &format!("{:?}", "n".repeat(256))),
        ];
        for (table, key, value) in cases {
            let found = checked(&format!("[{table}]\n{key} = {value}"));
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            assert_eq!(found[0].key, format!("{table}.{key}"));
            assert!(found[0].why.contains("1 or more") || key == "name", "{found:?}");
        }
        let least = "[server]\nhandshake_timeout_s = 1\nmax_sessions = 1\nrate_limit = 0\n\
                     session_timeout_s = 0\n[limits]\nparams_max = 1\ngestures_max = 0";
        let longest = format!("[server]\nname = {:?}", "n".repeat(255));
        for text in [least, &longest, ""] {
            assert_eq!(checked(text), [], "{text}");
        }
    }

    fn checked(text: &str) -> Vec<PlanError> {
        let (config, problems) = Config::parse(text);
        assert_eq!(problems, [], "{text}");
        let mut errors = Vec::new();
        check(&config, &mut errors);
        errors
    }
}

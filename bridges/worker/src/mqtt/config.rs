//! What a person writes for a client of an MQTT broker, and what is wrong with it.

use std::path::PathBuf;
use std::sync::Arc;

use clasp_rt_bridges::ConfigError;
use clasp_rt_core::{address, pattern};
use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;

use super::payload::Form;
use super::rules::{Rule, RuleAsWritten, Rules};
use super::topic::{FILTER_RULES, Filter, is_topic};
use crate::tls;

/// `[[bridge]] type = "mqtt"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker: `mqtt://HOST:PORT` (1883), `mqtts://` with TLS (8883), `ws://HOST:PORT/PATH`
    /// (80), `wss://` (443); over WebSocket the path is often `/mqtt`.
    pub url: String,
    /// `"5"`, or `"3.1.1"` for a broker that knows no other. Only 5 says of news whether they are
    /// retained, keeps our own messages away, and has content types and expiry.
    pub version: Version,
    /// As the broker knows this client; two with one name throw each other out. Default:
    /// `clasp-rt-` and eight random hexadecimal digits.
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    /// PEM file of the authorities to believe. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files of a certificate and its key, for a broker that asks who its clients are (mTLS).
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Seconds, 5 to 65535: so often at least something is said.
    pub keep_alive_s: u16,
    /// Begin each connection anew. With `false` the broker keeps what comes while the bridge is
    /// away, and what was on its way is sent again; it then needs a `client_id`.
    pub clean_start: bool,
    /// Seconds for which the broker keeps the session after a connection ended; MQTT 5 only.
    pub session_expiry_s: u32,
    /// A topic that holds `online` while the bridge is connected and `offline` when it is not
    /// (retained, and the last will). Default: none.
    pub status: Option<String>,
    /// Segments before all addresses: `a/b` is `/mqtt/a/b`.
    pub namespace: String,
    /// Filters of what the broker is to tell; `$share/GROUP/FILTER` shares it with others.
    pub subscribe: Vec<String>,
    /// Patterns of what the broker is told, in the namespace or where `map` has addresses. Default:
    /// everything in the namespace.
    pub publish: Option<Vec<String>>,
    /// 0 to 2: asked for in subscriptions and used to publish, where no rule says otherwise.
    pub qos: u8,
    pub payload: Form,
    /// What is different for some topics; the first that fits decides.
    pub map: Vec<RuleAsWritten>,
    /// For a router elsewhere that asks for tokens.
    pub token: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Version {
    #[serde(rename = "3.1.1", alias = "311", alias = "4")]
    V311,
    #[default]
    #[serde(rename = "5", alias = "5.0")]
    V5,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "mqtt://localhost:1883".to_owned(),
            version: Version::V5,
            client_id: None,
            username: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
            keep_alive_s: 60,
            clean_start: true,
            session_expiry_s: 0,
            status: None,
            namespace: "/mqtt".to_owned(),
            subscribe: vec!["#".to_owned()],
            publish: None,
            qos: 0,
            payload: Form::Auto,
            map: Vec::new(),
            token: None,
        }
    }
}

/// What carries the bytes to the broker.
#[derive(Clone, Debug)]
pub enum Carrier {
    Tcp,
    Tls(Arc<ClientConfig>),
    /// The whole URL is the address.
    Ws,
    Wss(Arc<ClientConfig>),
}

/// As it will run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As it was written; it names nobody's password.
    pub url: String,
    pub carrier: Carrier,
    /// A name or an address; over WebSocket the URL.
    pub host: String,
    pub port: u16,
    pub version: Version,
    pub client_id: String,
    /// The broker cannot know this client from an earlier run.
    pub is_new_to_broker: bool,
    pub login: Option<(String, String)>,
    pub keep_alive_s: u16,
    pub clean_start: bool,
    pub session_expiry_s: u32,
    pub status: Option<String>,
    /// What the broker is asked for, with the quality of service of each.
    pub filters: Vec<(Filter, String, u8)>,
    /// What the router is asked for.
    pub patterns: Vec<String>,
    pub rules: Rules,
    pub token: Option<String>,
}

/// Filters and rules that one bridge may have.
const LIST_MAX: usize = 1_024;

impl Plan {
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let (carrier, host, port) = carrier(&config)?;
        if config.keep_alive_s < 5 {
            return Err(ConfigError::new("keep_alive_s", "at least 5 seconds"));
        }
        let client_id = client_id(&config)?;
        if let Some(topic) = config.status.as_ref().filter(|topic| !is_topic(topic)) {
            return Err(ConfigError::new("status", format!("`{topic}` is no topic")));
        }
        if config.session_expiry_s > 0 && config.version == Version::V311 {
            let why = "3.1.1 knows no expiry: leave it out, or say version = \"5\"";
            return Err(ConfigError::new("session_expiry_s", why));
        }
        for (key, count) in [("subscribe", config.subscribe.len()), ("map", config.map.len())] {
            if count > LIST_MAX {
                return Err(ConfigError::new(key, format!("{count}, of at most {LIST_MAX}")));
            }
        }
        let defaults = Rule::defaults(config.qos, config.payload)?;
        let rules = Rules::new(&config.namespace, &config.map, defaults)?;
        let mut filters = Vec::new();
        for (index, text) in config.subscribe.iter().enumerate() {
            let key = format!("subscribe[{index}]");
            let wrong = || ConfigError::new(key, format!("`{text}`: {FILTER_RULES}"));
            let filter = Filter::parse(text).ok_or_else(wrong)?;
            filters.push((filter, text.clone(), config.qos));
        }
        filters.extend(rules.filters());
        let patterns = patterns(&config, &rules)?;
        let login = match (config.username, config.password) {
            (None, None) => None,
            (name, password) => Some((name.unwrap_or_default(), password.unwrap_or_default())),
        };
        Ok(Self {
            url: config.url,
            carrier,
            host,
            port,
            version: config.version,
            client_id,
            is_new_to_broker: config.client_id.is_none(),
            login,
            keep_alive_s: config.keep_alive_s,
            clean_start: config.clean_start,
            session_expiry_s: config.session_expiry_s,
            status: config.status,
            filters,
            patterns,
            rules,
            token: config.token,
        })
    }
}

fn client_id(config: &Config) -> Result<String, ConfigError> {
    match &config.client_id {
        Some(id) if id.is_empty() || id.starts_with(' ') || id.len() > 65_535 => {
            Err(ConfigError::new("client_id", "1 to 65535 bytes, without a space in front"))
        }
        Some(id) => Ok(id.clone()),
        None if !config.clean_start => {
            let why = "clean_start = false needs one, so that the broker knows the bridge again";
            Err(ConfigError::new("client_id", why))
        }
        None => Ok(format!("clasp-rt-{:08x}", clasp_rt_client::random() as u32)),
    }
}

fn patterns(config: &Config, rules: &Rules) -> Result<Vec<String>, ConfigError> {
    let everything = || vec![format!("{}/**", config.namespace)];
    let mut patterns = config.publish.clone().unwrap_or_else(everything);
    for (index, text) in patterns.iter().enumerate() {
        let wrong = |why| ConfigError::new(format!("publish[{index}]"), format!("`{text}`: {why}"));
        pattern::check(text).map_err(|why| wrong(why.to_string()))?;
        let placed = rules.patterns();
        if !everything().into_iter().chain(placed).any(|place| may_meet(text, &place)) {
            let place = &config.namespace;
            let why = format!("no topic lies there: write what begins with {place}, or a `map`");
            return Err(wrong(why));
        }
    }
    if config.publish.is_none() {
        patterns.extend(rules.patterns());
    }
    Ok(patterns)
}

/// Whether two patterns may have an address in common: what stands before the first `**` decides,
/// and of segments those without wildcards.
fn may_meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("**"), _) | (_, Some("**")) | (None, None) => return true,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) if one.contains('*') || other.contains('*') => {}
            _ => return false,
        }
    }
}

fn carrier(config: &Config) -> Result<(Carrier, String, u16), ConfigError> {
    let wrong = |why: &str| ConfigError::new("url", format!("`{}`: {why}", config.url));
    let known = "mqtt://, mqtts://, ws:// or wss:// comes first";
    let (scheme, rest) = config.url.split_once("://").ok_or_else(|| wrong(known))?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let (secure, web, default_port) = match scheme {
        "mqtt" | "tcp" => (false, false, 1883),
        "mqtts" | "ssl" => (true, false, 8883),
        "ws" => (false, true, 80),
        "wss" => (true, true, 443),
        _ => return Err(wrong(known)),
    };
    if !web && path.is_some_and(|path| !path.is_empty()) {
        return Err(wrong("only ws:// and wss:// have a path"));
    }
    if authority.contains('@') {
        return Err(wrong("write username and password under their own keys"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or_else(|| wrong("a port is 1 to 65535"))?)
        }
        _ => (authority, default_port),
    };
    if host.starts_with('[') != host.ends_with(']') {
        return Err(wrong("the bracket is not closed"));
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("the host is missing"));
    }
    let identity = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
        (None, None) => None,
        (Some(_), None) => return Err(ConfigError::new("key", "`cert` needs its key")),
        (None, Some(_)) => return Err(ConfigError::new("cert", "`key` needs its certificate")),
    };
    if !secure && (config.ca.is_some() || identity.is_some()) {
        return Err(wrong("certificates are for mqtts:// and wss://"));
    }
    let tls = || tls::client(config.ca.as_deref(), identity);
    let carrier = match (secure, web) {
        (false, false) => Carrier::Tcp,
        (true, false) => Carrier::Tls(tls()?),
        (false, true) => Carrier::Ws,
        (true, true) => Carrier::Wss(tls()?),
    };
    let host = if web { config.url.clone() } else { host.to_owned() };
    Ok((carrier, host, port))
}

/// A namespace is an address that names something.
pub fn check_namespace(namespace: &str) -> Result<(), ConfigError> {
    let wrong = |why: String| Err(ConfigError::new("namespace", format!("`{namespace}`: {why}")));
    match address::check(namespace) {
        Err(error) => wrong(error.to_string()),
        Ok(()) if namespace.ends_with('/') => wrong("must not end with a slash".into()),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(table: serde_json::Value) -> Result<Plan, ConfigError> {
        Plan::new(crate::read(table)?)
    }

    #[test]
    fn nothing_written_is_a_broker_on_this_machine() {
        let plan = plan(json!({})).expect("defaults work");
        assert_eq!((plan.host.as_str(), plan.port), ("localhost", 1883));
        assert_eq!(plan.patterns, ["/mqtt/**"]);
        assert!(plan.client_id.starts_with("clasp-rt-"));
        let filters: Vec<_> = plan.filters.iter().map(|(_, text, _)| text.as_str()).collect();
        assert_eq!(filters, ["#"]);
    }

    #[test]
    fn urls_of_all_kinds_are_understood() {
        let cases = [
            ("mqtt://broker", "broker", 1883),
            ("mqtt://10.0.0.2:1884/", "10.0.0.2", 1884),
            ("mqtt://[::1]:1884", "::1", 1884),
            ("ws://broker:9001/mqtt", "ws://broker:9001/mqtt", 9001),
        ];
        for (url, host, port) in cases {
            let plan = plan(json!({ "url": url })).expect(url);
            assert_eq!((plan.host.as_str(), plan.port), (host, port), "{url}");
        }
    }

    #[test]
    fn what_is_told_to_the_broker_has_a_topic() {
        let map = json!([{"topic": "sensors/+/temp", "address": "/room/*/temperature"}]);
        for told in ["/**", "/mqtt/**", "/*/stage/1", "/m*/a", "/room/kitchen/*", "/mqtt/a/**"] {
            let plan = plan(json!({"publish": [told], "map": map}));
            assert_eq!(plan.map(|plan| plan.patterns), Ok(vec![told.to_owned()]));
        }
        for elsewhere in ["/room/kitchen", "/room/kitchen/light", "/other/**"] {
            let error = plan(json!({"publish": [elsewhere], "map": map})).expect_err(elsewhere);
            assert_eq!(error.key, "publish[0]", "{elsewhere}");
        }
    }

    #[test]
    fn every_mistake_is_told_under_its_key() {
        let cases = [
            (json!({"url": "http://x"}), "url", "mqtt://"),
            (json!({"url": "mqtt://:1883"}), "url", "host"),
            (json!({"url": "mqtt://a:0"}), "url", "1 to 65535"),
            (json!({"url": "mqtt://[::1"}), "url", "bracket"),
            (json!({"publish": ["/mqtt/a", "/other/**"]}), "publish[1]", "begins with /mqtt"),
            (json!({"publish": ["/mqttx/*"]}), "publish[0]", "begins with /mqtt"),
            (json!({"url": "mqtt://a/b"}), "url", "path"),
            (json!({"url": "mqtt://u:p@a"}), "url", "username"),
            (json!({"ca": "/x"}), "url", "mqtts://"),
            (json!({"url": "mqtts://a", "ca": "/nowhere"}), "ca", "/nowhere"),
            (json!({"url": "mqtts://a", "cert": "/x"}), "key", "needs its key"),
            (json!({"keep_alive_s": 2}), "keep_alive_s", "5"),
            (json!({"clean_start": false}), "client_id", "needs one"),
            (json!({"client_id": " x"}), "client_id", "space"),
            (json!({"session_expiry_s": 9, "version": "3.1.1"}), "session_expiry_s", "version"),
            (json!({"status": "a/#"}), "status", "no topic"),
            (json!({"qos": 3}), "qos", "0, 1 or 2"),
            (json!({"namespace": "mqtt"}), "namespace", "'/'"),
            (json!({"subscribe": ["a", "a#"]}), "subscribe[1]", "`#` the last"),
            (json!({"publish": ["mqtt"]}), "publish[0]", "'/'"),
            (json!({"map": [{"topic": "a+"}]}), "map[0].topic", "one whole level"),
            (json!({"map": [{"topic": "a/+", "address": "/b"}]}), "map[0].address", "wildcards"),
            (json!({"version": "4.2"}), "version", "3.1.1"),
        ];
        for (table, key, said) in cases {
            let error = plan(table.clone()).expect_err(&table.to_string());
            assert_eq!(error.key, key, "{table}: {error}");
            assert!(error.why.contains(said), "{table}: {error}");
        }
    }
}

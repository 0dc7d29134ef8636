//! What a person writes for a port of MQTT clients, and what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clasp_rt_bridges::ConfigError;
use clasp_rt_client::random;
use serde::Deserialize;
use tokio_rustls::rustls::ServerConfig;

use super::session::Settings;
use crate::mqtt::config::check_namespace;
use crate::mqtt::payload::Form;
use crate::mqtt::waiting::Room;
use crate::tls;
use crate::web::admission;

/// `[[bridge]] type = "mqtt-listener"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect, with MQTT as it is or over WebSocket (`ws://HOST:1883/mqtt`, any
    /// path, subprotocol `mqtt`): the first byte tells. Default: 0.0.0.0:1883.
    pub bind: SocketAddr,
    /// Segments before all topics: `a/b` is `/mqtt/a/b`.
    pub namespace: String,
    pub payload: Form,
    /// Clients at once, 1 to 65536, sessions without a connection included; the router keeps a
    /// place for each. When all are taken, the session goes that has been without a connection for
    /// longest. Default: 256.
    pub clients_max: u32,
    /// Seconds for which a session outlives its connection at most, if its client asks for that
    /// (clean session off, or a session expiry of 5); 0: not at all. It does not outlive the
    /// router. Default: 7200.
    pub session_expiry_s_max: u32,
    /// Messages at QoS 1 and 2 that wait for one client that is away or slow: so many events, and
    /// of as many params the newest value, 1 to 65536. Beyond them the oldest go, counted. Default:
    /// 4096.
    pub queue_max: usize,
    /// Bytes of what waits for one client, 1024 to 1073741824. Default: 8388608.
    pub queue_bytes_max: usize,
    /// Web pages of which origins may connect over WebSocket, such as `https://show.example`; `*`,
    /// the default: all. Programs that are no browsers say no origin, and may.
    pub origins: Vec<String>,
    /// PEM files of a certificate with its chain, and of its key: then the port speaks TLS.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM file of authorities: then only clients come whose certificate one of them signed.
    pub client_ca: Option<PathBuf>,
    /// Not used: each client brings its own, as its password.
    pub token: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1883),
            namespace: "/mqtt".to_owned(),
            payload: Form::Auto,
            clients_max: 256,
            session_expiry_s_max: 7_200,
            queue_max: 4_096,
            queue_bytes_max: 8 << 20,
            origins: vec!["*".to_owned()],
            cert: None,
            key: None,
            client_ca: None,
            token: None,
        }
    }
}

/// As it will run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub bind: SocketAddr,
    pub settings: Settings,
    pub clients_max: u32,
    pub origins: Vec<String>,
    pub tls: Option<Arc<ServerConfig>>,
}

impl Plan {
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        check_namespace(&config.namespace)?;
        if !(1..=65_536).contains(&config.clients_max) {
            let why = format!("{}: 1 to 65536 clients", config.clients_max);
            return Err(ConfigError::new("clients_max", why));
        }
        admission::check(&config.origins)?;
        let limits = [
            ("queue_max", config.queue_max, 1, 65_536, "messages"),
            ("queue_bytes_max", config.queue_bytes_max, 1_024, 1 << 30, "bytes"),
        ];
        for (key, value, least, most, unit) in limits {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::new(key, format!("{value}: {least} to {most} {unit}")));
            }
        }
        if config.token.is_some() {
            let why = "each client brings its own, as its password";
            return Err(ConfigError::new("token", why));
        }
        let tls = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some(tls::server(cert, key, config.client_ca.as_deref())?),
            (None, None) if config.client_ca.is_some() => {
                return Err(ConfigError::new("cert", "`client_ca` is for TLS: name `cert`, `key`"));
            }
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::new("key", "`cert` needs its key")),
            (None, Some(_)) => return Err(ConfigError::new("cert", "`key` needs its certificate")),
        };
        let (events, params, bytes) = (config.queue_max, config.queue_max, config.queue_bytes_max);
        let settings = Settings {
            namespace: config.namespace,
            payload: config.payload,
            room: Room { events, params, bytes },
            expiry_s_max: config.session_expiry_s_max,
            nameless: format!("mqtt-{:08x}", random() as u32),
        };
        let Config { bind, clients_max, origins, .. } = config;
        Ok(Self { bind, settings, clients_max, origins, tls })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mistake_is_told_under_its_key() {
        let cases = [
            (json!({"bind": "here"}), "bind", "an address and a port"),
            (json!({"namespace": "/"}), "namespace", "slash"),
            (json!({"clients_max": 0}), "clients_max", "1 to 65536"),
            (json!({"origins": ["show.example"]}), "origins", "https://show.example"),
            (json!({"queue_max": 0}), "queue_max", "1 to 65536"),
            (json!({"queue_bytes_max": 100}), "queue_bytes_max", "1024 to"),
            (json!({"cert": "/x"}), "key", "needs its key"),
            (json!({"key": "/x"}), "cert", "needs its certificate"),
            (json!({"client_ca": "/x"}), "cert", "TLS"),
            (json!({"cert": "/nowhere", "key": "/nowhere"}), "cert", "/nowhere"),
            (json!({"token": "x"}), "token", "password"),
        ];
        for (table, key, said) in cases {
            let plan = crate::read(table.clone()).and_then(Plan::new);
            let error = plan.expect_err(&table.to_string());
            assert_eq!(error.key, key, "{table}: {error}");
            assert!(error.why.contains(said), "{table}: {error}");
        }
    }
}

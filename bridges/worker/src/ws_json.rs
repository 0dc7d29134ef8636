//! Params and events for programs that speak WebSocket and JSON, and neither CLASP nor Socket.IO.
//!
//! A text message is one object: `{"op": "set", "address": "/a", "value": 0.5, "id": 1}`; `type`
//! may be written for `op`. What can be said, and what is answered, stands in the table of
//! `web/program.rs`. Said plainly, without an `op`, it still means something, as it does with the
//! reference's bridge:
//!
//! | message | sets |
//! |---|---|
//! | `{"address": "/a", "value": 1}`, or `data` for `value` | `/a` |
//! | any other object | `/ws/message` |
//! | text that is no object | `/ws/text` |
//! | a binary message | `/ws/binary`, as bytes |
//!
//! A token is said as `?token=..` behind the URL, as `Authorization: Bearer ..`, or by a first
//! message `{"op": "auth", "token": ".."}`. Each program has a session of its own at the router.
//! One that reads slowly is treated as any slow link: the newest value of each param is kept for
//! it, and in the end it is closed.
//!
//! With `url` it is the other way round: the bridge joins a server elsewhere, takes what that says
//! in the same forms, and sends it what changes at `subscribe`.

mod drive;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clasp_rt_bridges::{ConfigError, check_range, namespace};
use clasp_rt_core::pattern;
use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;

use crate::tls::{self, TlsFiles};
use crate::web::admission;
use crate::web::serve::{Entrance, Place};
use crate::{Context, Running, Service};

/// The options of `[[bridge]] type = "websocket"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WsJsonOptions {
    /// Where to listen. Default `0.0.0.0:9000`, as the reference documents it; nowhere with `url`.
    pub bind: Option<SocketAddr>,
    /// PEM files `{ cert, key, client_ca }`: then the port speaks TLS (`wss://`). Default none.
    pub tls: Option<TlsFiles>,
    /// A server to join instead of listening: `ws://HOST:PORT/PATH`, or `wss://` with TLS.
    pub url: Option<String>,
    /// PEM file of the authorities to believe of a `wss://` server. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// What a server that was joined is sent, from the first moment on. Default: nothing.
    pub subscribe: Vec<String>,
    /// Where plain messages go that name no address. Default `/ws`.
    pub namespace: String,
    /// Whether messages without `op` mean anything; else they are refused. Default true.
    pub plain: bool,
    /// With whose rights those speak who bring no token. Default none.
    pub token: Option<String>,
    /// Web pages of which origins may connect, such as `https://show.example`; `*`, the default:
    /// all. Programs that are no browsers say no origin, and may.
    pub origins: Vec<String>,
    /// Bytes of a message, 1 to 16777216. Default 262144.
    pub message_bytes_max: usize,
    /// Connections, each with a session at the router, 1 to 4096; more wait. Default 256.
    pub connections_max: usize,
}

impl Default for WsJsonOptions {
    fn default() -> Self {
        Self {
            bind: None,
            tls: None,
            url: None,
            ca: None,
            subscribe: Vec::new(),
            namespace: "/ws".to_owned(),
            plain: true,
            token: None,
            origins: vec!["*".to_owned()],
            message_bytes_max: 256 << 10,
            connections_max: 256,
        }
    }
}

struct WsJson {
    options: WsJsonOptions,
    entrance: Entrance,
    /// For a server that was joined with TLS.
    trust: Option<Arc<ClientConfig>>,
}

const NAME: &str = "websocket";

/// The schemes of its URL, which is WebSocket with JSON inside.
const SCHEMES: [&str; 2] = ["ws+json", "wss+json"];

/// Opens the service, without its port.
pub fn open(options: WsJsonOptions) -> Result<Box<dyn Service>, ConfigError> {
    let wrong = |key: &str, why: String| Err(ConfigError::new(key, why));
    namespace::check(&options.namespace)?;
    check_range("message_bytes_max", options.message_bytes_max, 1..=16 << 20)?;
    check_range("connections_max", options.connections_max, 1..=4096)?;
    admission::check(&options.origins)?;
    for wanted in &options.subscribe {
        if let Err(error) = pattern::check(wanted) {
            return wrong("subscribe", format!("`{wanted}`: {error}"));
        }
    }
    let is_secure = match &options.url {
        Some(url) => match drive::is_secure(url) {
            Some(_) if options.tls.is_some() => {
                return wrong("tls", "is for a port; with `url` there is none".into());
            }
            Some(_) if options.bind.is_some() => {
                return wrong("bind", "is for a port; with `url` there is none".into());
            }
            Some(is_secure) => is_secure,
            None => {
                let need = "must be ws://HOST:PORT/PATH, or wss://, with a port of 1 to 65535";
                return wrong("url", format!("`{url}` {need}"));
            }
        },
        None if !options.subscribe.is_empty() => {
            let why = "needs `url`: whoever connects here subscribes by itself";
            return wrong("subscribe", why.to_owned());
        }
        None => false,
    };
    if options.ca.is_some() && !is_secure {
        return wrong("ca", "is for a `url` that begins with wss://".to_owned());
    }
    let trust = is_secure.then(|| tls::client(options.ca.as_deref(), None)).transpose()?;
    let bind = options.bind.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 9000)));
    let entrance = Entrance::new(bind, options.tls.as_ref())?;
    Ok(Box::new(WsJson { options, entrance, trust }))
}

impl Service for WsJson {
    fn name(&self) -> &str {
        NAME
    }

    fn sessions_max(&self) -> u32 {
        match self.options.url {
            Some(_) => 1,
            None => self.options.connections_max as u32,
        }
    }

    fn listens(&self) -> Option<SocketAddr> {
        self.options.url.is_none().then(|| self.entrance.at())
    }

    fn bind(&mut self) -> io::Result<Vec<String>> {
        if self.options.url.is_some() {
            return Ok(Vec::new());
        }
        self.entrance.open(SCHEMES)
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let options = Arc::new(self.options);
            if options.url.is_none() {
                return serve(self.entrance, options, context).await;
            }
            drive::join_for_ever(options, self.trust, context).await;
            Ok(())
        })
    }
}

async fn serve(
    entrance: Entrance,
    options: Arc<WsJsonOptions>,
    context: Context,
) -> io::Result<()> {
    let (most, stop) = (options.connections_max, context.stop.clone());
    let router = context.router.clone();
    let look = router.look(NAME, options.token.clone(), &stop);
    let talk = |stream, place: Place| async move {
        drive::accept(stream, place.voice(), &options, &context).await;
        drop(place);
    };
    let (served, ()) = tokio::join!(entrance.each(most, &stop, talk), look);
    let mut connections = served?;
    // Each says good-bye to its client; what is not said by the host's patience is not said.
    while connections.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_named() {
        let of = |table: serde_json::Value| {
            let options: WsJsonOptions = serde_json::from_value(table).expect("known keys");
            open(options).map(drop).map_err(|error| error.to_string())
        };
        let joined = serde_json::json!({ "url": "ws://h:1/p", "subscribe": ["/a/**"] });
        assert_eq!(of(joined), Ok(()));
        for (table, key) in [
            (serde_json::json!({ "namespace": "ws" }), "namespace"),
            (serde_json::json!({ "namespace": "/ws/" }), "namespace"),
            (serde_json::json!({ "url": "http://h" }), "url"),
            (serde_json::json!({ "url": "ws://h:99999" }), "url"),
            (serde_json::json!({ "url": "ws://h:0/" }), "url"),
            (serde_json::json!({ "url": "ws://h", "bind": "0.0.0.0:1" }), "bind"),
            (serde_json::json!({ "url": "ws://h", "subscribe": ["a"] }), "subscribe"),
            (serde_json::json!({ "subscribe": ["/a"] }), "subscribe"),
            (serde_json::json!({ "origins": ["show.example"] }), "origins"),
            (serde_json::json!({ "message_bytes_max": 0 }), "message_bytes_max"),
            (serde_json::json!({ "connections_max": 4097 }), "connections_max"),
            (serde_json::json!({ "tls": { "cert": "/x", "key": "/x" } }), "tls.cert"),
            (serde_json::json!({ "ca": "/x", "url": "ws://h" }), "ca"),
            (serde_json::json!({ "ca": "/nowhere", "url": "wss://h" }), "ca"),
        ] {
            let error = of(table.clone()).expect_err("cannot work");
            assert!(error.starts_with(key), "{table}: {error}");
        }
    }
}

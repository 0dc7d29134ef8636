//! Params and events for programs that speak WebSocket and JSON, and neither CLASP nor Socket.IO.
//!
//! A text message is one object: `{"op": "set", "address": "/a", "value": 0.5, "id": 1}`; `type`
//! may be written for `op`. What can be said, and what is answered, stands in the table of
//! `web/client.rs`. Said plainly, without an `op`, it still means something, as it does with the
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
use std::sync::Arc;
use std::time::Duration;

use clasp_rt_bridges::ConfigError;
use clasp_rt_core::{address, pattern};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::web::serve::listen;
use crate::{Context, Running, Service};

/// The options of `[[bridge]] type = "websocket"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WsJsonOptions {
    /// Where to listen. Default `0.0.0.0:9000`, as the reference documents it.
    pub bind: SocketAddr,
    /// A server to join instead of listening: `ws://HOST:PORT/PATH`.
    pub url: Option<String>,
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
            bind: SocketAddr::from(([0, 0, 0, 0], 9000)),
            url: None,
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
    listener: Option<TcpListener>,
}

const NAME: &str = "websocket";

/// The scheme of its URL, which is WebSocket with JSON inside.
const SCHEME: &str = "ws+json";

/// Opens the service, without its port.
pub fn open(options: WsJsonOptions) -> Result<Box<dyn Service>, ConfigError> {
    let wrong = |key: &str, why: String| Err(ConfigError::new(key, why));
    let namespace = options.namespace.as_str();
    match address::check(namespace) {
        Err(error) => return wrong("namespace", format!("`{namespace}`: {error}")),
        Ok(()) if namespace.ends_with('/') => {
            return wrong("namespace", format!("`{namespace}` must not end with a slash"));
        }
        Ok(()) => {}
    }
    for (key, value, most) in [
        ("message_bytes_max", options.message_bytes_max, 16 << 20),
        ("connections_max", options.connections_max, 4096),
    ] {
        if !(1..=most).contains(&value) {
            return wrong(key, format!("{value} must be 1 to {most}"));
        }
    }
    for wanted in &options.subscribe {
        if let Err(error) = pattern::check(wanted) {
            return wrong("subscribe", format!("`{wanted}`: {error}"));
        }
    }
    match &options.url {
        Some(url) if !drive::is_url(url) => {
            wrong("url", format!("`{url}` must be ws://HOST:PORT/PATH"))
        }
        None if !options.subscribe.is_empty() => {
            wrong("subscribe", "needs `url`: whoever connects here subscribes by itself".into())
        }
        _ => Ok(Box::new(WsJson { options, listener: None })),
    }
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

    fn bind(&mut self) -> io::Result<Vec<String>> {
        if self.options.url.is_some() {
            return Ok(Vec::new());
        }
        let (listener, address) = listen(self.options.bind)?;
        self.listener = Some(listener);
        Ok(vec![format!("{SCHEME}://{address}")])
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let options = Arc::new(self.options);
            match self.listener {
                Some(listener) => serve(listener, options, context).await,
                None => drive::join_for_ever(options, context).await,
            }
            Ok(())
        })
    }
}

async fn serve(listener: TcpListener, options: Arc<WsJsonOptions>, context: Context) {
    let places = Arc::new(Semaphore::new(options.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((stream, place))
        };
        let accepted = tokio::select! {
            () = context.stop.wait() => break,
            accepted = accepting => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, place)) => {
                let _ = stream.set_nodelay(true);
                let (options, context) = (Arc::clone(&options), context.clone());
                connections.spawn(async move {
                    drive::accept(stream, &options, &context).await;
                    drop(place);
                });
            }
            // Of files, or of memory, there is none left: others may end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    // Each says good-bye to its client; what is not said by the host's patience is not said.
    while connections.join_next().await.is_some() {}
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
            (serde_json::json!({ "url": "ws://h", "subscribe": ["a"] }), "subscribe"),
            (serde_json::json!({ "subscribe": ["/a"] }), "subscribe"),
            (serde_json::json!({ "message_bytes_max": 0 }), "message_bytes_max"),
            (serde_json::json!({ "connections_max": 4097 }), "connections_max"),
        ] {
            let error = of(table.clone()).expect_err("cannot work");
            assert!(error.starts_with(key), "{table}: {error}");
        }
    }
}

//! Where a server is that is to be joined, and how: read from the options, wrong ones named.

use std::sync::Arc;

use clasp_rt_bridges::ConfigError;
use clasp_rt_core::pattern;
use http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Events, SocketIoOptions};
use crate::{tls, web};

/// Namespaces of one server that may be joined, each with a connection and a session of its own.
const NAMESPACES_MAX: usize = 64;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Polling,
    Websocket,
}

/// A server elsewhere.
#[derive(Clone)]
pub struct Place {
    /// As it was written.
    pub url: String,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as a request names them.
    pub authority: String,
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Where Socket.IO is, and what else the URL asks for: `/socket.io/?` and `a=b&`.
    pub path_and_query: String,
    pub polls: bool,
    pub upgrades: bool,
    /// Bytes of a message with all that belongs to it.
    pub message_bytes_max: usize,
}

/// Everything that a client of a server needs.
pub struct Plan {
    pub place: Arc<Place>,
    pub namespaces: Vec<String>,
    pub auth: Map<String, Json>,
    /// Segments before the names of events.
    pub namespace: String,
    /// What is told by address, as `value` and `event`.
    pub patterns: Vec<String>,
    pub op: &'static str,
    /// Whether the server acknowledges what it is told.
    pub acks: bool,
    pub token: Option<String>,
}

impl Plan {
    /// Reads what concerns a client; `options` were checked otherwise.
    pub fn new(options: &SocketIoOptions, url: &str) -> Result<Self, ConfigError> {
        let wrong = |key: &str, why: String| Err(ConfigError::new(key, why));
        for wanted in &options.subscribe {
            if let Err(error) = pattern::check(wanted) {
                return wrong("subscribe", format!("`{wanted}`: {error}"));
            }
        }
        if options.namespaces.len() > NAMESPACES_MAX {
            let count = options.namespaces.len();
            return wrong("namespaces", format!("{count}, of at most {NAMESPACES_MAX}"));
        }
        if options.tls.is_some() {
            return wrong("tls", "is for a port; with `url` there is none".to_owned());
        }
        if options.bind.is_some() {
            return wrong("bind", "is for a port; with `url` there is none".to_owned());
        }
        Ok(Self {
            place: Arc::new(place(options, url)?),
            namespaces: options.namespaces.clone(),
            auth: options.auth.clone(),
            namespace: options.namespace.clone(),
            patterns: options.subscribe.clone(),
            op: match options.events {
                Events::Param => "set",
                Events::Event => "emit",
            },
            acks: options.acks,
            token: options.token.clone(),
        })
    }
}

fn place(options: &SocketIoOptions, url: &str) -> Result<Place, ConfigError> {
    let wrong = |why: &str| ConfigError::new("url", format!("`{url}`: {why}"));
    let uri: Uri = url.parse().map_err(|_| wrong("must be http://HOST:PORT, or https://"))?;
    let (is_secure, usual_port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => return Err(wrong("must be http://HOST:PORT, or https://")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("the host is missing"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("say who you are in `auth`"));
    }
    if !matches!(uri.path(), "" | "/") {
        let why = "has a path: a namespace belongs to `namespaces`, the place of Socket.IO on its \
                   server to `path`";
        return Err(wrong(why));
    }
    let port = web::port(authority).map_err(wrong)?.unwrap_or(usual_port);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if options.ca.is_some() && !is_secure {
        return Err(ConfigError::new("ca", "is for a `url` that begins with https://"));
    }
    let tls = match is_secure {
        false => None,
        true => {
            let name = ServerName::try_from(host.clone()).map_err(|why| wrong(&why.to_string()))?;
            Some((TlsConnector::from(tls::client(options.ca.as_deref(), None)?), name))
        }
    };
    let has = |transport| options.transports.contains(&transport);
    let (polls, has_websocket) = (has(Transport::Polling), has(Transport::Websocket));
    if !polls && !has_websocket {
        let why = "`polling`, `websocket`, or both: the first one first";
        return Err(ConfigError::new("transports", why));
    }
    let query = uri.query().filter(|query| !query.is_empty());
    let query = query.map(|query| format!("{query}&")).unwrap_or_default();
    Ok(Place {
        url: url.to_owned(),
        authority: authority.to_string(),
        path_and_query: format!("{}/?{query}", options.path),
        message_bytes_max: usize::try_from(options.message_bytes_max).unwrap_or(usize::MAX),
        upgrades: polls && has_websocket,
        host,
        port,
        tls,
        polls,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(table: Json) -> Result<Plan, String> {
        let options: SocketIoOptions = serde_json::from_value(table).expect("known keys");
        let url = options.url.clone().expect("a URL");
        Plan::new(&options, &url).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_where_a_server_is_and_the_transports_how_it_is_joined() {
        let plan = plan(json!({ "url": "http://[::1]:3000/?room=1", "path": "/x/io",
            "transports": ["websocket"], "auth": { "token": "t" } }))
        .expect("it works");
        let place = &plan.place;
        assert_eq!((place.host.as_str(), place.port), ("::1", 3000));
        assert_eq!(place.authority, "[::1]:3000");
        assert_eq!(place.path_and_query, "/x/io/?room=1&");
        assert_eq!((place.polls, place.upgrades, place.tls.is_some()), (false, false, false));
        assert_eq!(plan.auth["token"], "t");
        for (transports, want) in [
            (json!(["polling", "websocket"]), (true, true)),
            (json!(["polling"]), (true, false)),
            (json!(["websocket"]), (false, false)),
        ] {
            let plan = self::plan(json!({ "url": "http://h", "transports": transports }));
            let place = plan.expect("it works").place;
            assert_eq!((place.polls, place.upgrades, place.port), (want.0, want.1, 80));
        }
    }

    #[test]
    fn what_cannot_be_joined_is_told_under_its_key() {
        for (more, key) in [
            (json!({ "url": "ws://h" }), "url"),
            (json!({ "url": "h:3000" }), "url"),
            (json!({ "url": "http://h:0" }), "url"),
            (json!({ "url": "http://h:99999" }), "url"),
            (json!({ "url": "http://h", "bind": "0.0.0.0:1" }), "bind"),
            (json!({ "url": "http://h/ctl" }), "url"),
            (json!({ "url": "http://a:b@h" }), "url"),
            (json!({ "url": "http://h", "ca": "/x" }), "ca"),
            (json!({ "url": "https://h", "ca": "/nowhere" }), "ca"),
            (json!({ "url": "http://h", "transports": [] }), "transports"),
            (json!({ "url": "http://h", "subscribe": ["a"] }), "subscribe"),
            (json!({ "url": "http://h", "namespaces": vec!["/a"; 65] }), "namespaces"),
            (json!({ "url": "http://h", "tls": { "cert": "/x", "key": "/x" } }), "tls"),
        ] {
            let error = plan(more.clone()).err().expect("it cannot work");
            assert!(error.starts_with(key), "{more}: {error}");
        }
    }
}

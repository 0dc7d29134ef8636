//! Socket.IO v4 (protocol 5): browsers and programs that have its client need nothing else.
//!
//! An event is an address: `emit("cue/go", 12)` sets `/socketio/cue/go`, and whatever changes below
//! `/socketio` is an event of that name for every client, with two arguments: the value, and
//! `{address, revision}` or what else is known of it. Several arguments are a list; buffers are
//! bytes. In a namespace `/ctl` the addresses are those below `/socketio/ctl`.
//!
//! All other addresses are reached by events that have one object each, answered by their
//! acknowledgement: `set`, `get`, `emit`, `subscribe`, `unsubscribe`, `snapshot`, `bundle`; the
//! table of `web/program.rs` has their keys, and their names are no addresses. What was subscribed
//! to comes as `value` and `event`. A room is a pattern that was subscribed to.
//!
//! An acknowledgement is `{type: "ack", address, revision}` or `{type: "error", code, message}`;
//! where none is waited for, an error is the event `error`. The token is `auth: {token}`, or
//! `token` in the query; whoever the router refuses gets `connect_error`. Each client has a session
//! of its own.
//!
//! With `url` it is the other way round: the bridge is a client of a server elsewhere,
//! and events mean the same. Its packets are our own ([`engine`], [`packet`]): in November 2026
//! `rust_socketio` 0.6 needs `native-tls`, and so OpenSSL, whatever its features (its issues 366
//! and 504), and a WebSocket library of its own; `socketio-next` 0.2 is days old.

mod carrier;
pub mod engine;
mod join;
mod link;
pub mod names;
pub mod packet;
pub mod payload;
pub mod speech;
mod talk;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router as Routes;
use clasp_rt_bridges::{ConfigError, check_range};
use clasp_rt_core::address;
use clasp_rt_core::error::code;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use socketioxide::SocketIo;
use socketioxide::extract::{SocketRef, State, TryData};
use socketioxide::handler::ConnectHandler;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::join::{Plan, Transport};
use self::link::Links;
use self::names::Names;
use self::talk::{Inbox, Rooms, Talk};
use crate::tls::TlsFiles;
use crate::web::admission::{self, cors};
use crate::web::seats::FEATURES;
use crate::web::serve::{Entrance, serve};
use crate::{Context, Hearer, JoinError, Running, Service, Speaker, Who};

/// The options of `[[bridge]] type = "socketio"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SocketIoOptions {
    /// Where to listen. Default `0.0.0.0:3000`; nowhere with `url`.
    pub bind: Option<SocketAddr>,
    /// PEM files `{ cert, key, client_ca }`: then the port speaks TLS (`https://`). Default none.
    pub tls: Option<TlsFiles>,
    /// A server to join instead of listening: `http://HOST:PORT`, or `https://`; `?a=b` behind it
    /// is said with every request.
    pub url: Option<String>,
    /// What a server that was joined is asked with: any keys, often `token`. Default: nothing.
    pub auth: Map<String, Json>,
    /// How a server is joined: `polling`, `websocket`, or both, the default: the first, and then
    /// the second where the server has it.
    pub transports: Vec<Transport>,
    /// Patterns of what a server that was joined is told as `value` and `event`, besides the events
    /// of its namespace. Default: nothing.
    pub subscribe: Vec<String>,
    /// Whether a server that was joined acknowledges what it is told: then events that it has not
    /// acknowledged when the connection breaks are told again, and 32 at most are on their way.
    /// Default false, as few servers do.
    pub acks: bool,
    /// PEM file of the authorities to believe of an `https://` server. Default: those of the
    /// system.
    pub ca: Option<PathBuf>,
    /// Where Socket.IO is on that port. Default `/socket.io`, as every client expects.
    pub path: String,
    /// Namespaces that clients may join; of a server that is joined, those that are joined, 64 at
    /// most. Default `/` alone.
    pub namespaces: Vec<String>,
    /// Segments put before the name of an event. Default `/socketio`.
    pub namespace: String,
    /// What events become: `param`, the default, as with the reference's bridge, or `event`.
    pub events: Events,
    /// With whose rights those speak who bring no token. Default none.
    pub token: Option<String>,
    /// Web pages of which origins may connect, such as `https://show.example`; `*`: all, the
    /// default. Programs that are no browsers say no origin, and may.
    pub origins: Vec<String>,
    /// Bytes of a message, 1 to 16777216. Default 1000000, as the protocol's own servers have it.
    pub message_bytes_max: u64,
    /// Connections at once, 1 to 65536; more wait. Polling clients need two. Default 512.
    pub connections_max: usize,
    /// Clients at once, each with a session at the router, 1 to 4096; more get `connect_error`.
    /// Default 256.
    pub sessions_max: usize,
}

/// What events become.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Events {
    Param,
    Event,
}

impl Default for SocketIoOptions {
    fn default() -> Self {
        Self {
            bind: None,
            tls: None,
            url: None,
            auth: Map::new(),
            transports: vec![Transport::Polling, Transport::Websocket],
            subscribe: Vec::new(),
            acks: false,
            ca: None,
            path: "/socket.io".to_owned(),
            namespaces: vec!["/".to_owned()],
            namespace: "/socketio".to_owned(),
            events: Events::Param,
            token: None,
            origins: vec!["*".to_owned()],
            message_bytes_max: 1_000_000,
            connections_max: 512,
            sessions_max: 256,
        }
    }
}

struct Server {
    options: SocketIoOptions,
    entrance: Entrance,
}

const NAME: &str = "socketio";

/// Packets that wait for one client at once; the rest waits at the router.
const QUEUE_MAX: usize = 128;

/// Whoever connects and joins no namespace by then is sent away, and gives a place to others.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the service, without its port.
pub fn open(options: SocketIoOptions) -> Result<Box<dyn Service>, ConfigError> {
    let wrong = |key: &str, why: String| Err(ConfigError::new(key, why));
    let is_plain = |text: &str| !text.ends_with('/') && address::check(text).is_ok();
    for (key, text) in [("namespace", &options.namespace), ("path", &options.path)] {
        if !is_plain(text) || text.contains(['{', '}', '?', '#', ' ']) {
            return wrong(key, format!("`{text}` must begin with a slash, and not end with one"));
        }
    }
    if options.namespaces.is_empty() {
        return wrong("namespaces", "one at least is needed, such as `/`".to_owned());
    }
    for namespace in &options.namespaces {
        if namespace != "/" && (!is_plain(namespace) || namespace.contains(['{', '}', ','])) {
            let need = "must be `/`, or begin with a slash and not end with one";
            return wrong("namespaces", format!("`{namespace}` {need}"));
        }
    }
    check_range("message_bytes_max", options.message_bytes_max, 1..=16 << 20)?;
    check_range("connections_max", options.connections_max, 1..=65_536)?;
    check_range("sessions_max", options.sessions_max, 1..=4096)?;
    admission::check(&options.origins)?;
    if let Some(url) = &options.url {
        return Ok(Box::new(Links(Arc::new(Plan::new(&options, url)?))));
    }
    let needless = [
        ("subscribe", options.subscribe.is_empty()),
        ("auth", options.auth.is_empty()),
        ("acks", !options.acks),
        ("ca", options.ca.is_none()),
    ];
    if let Some((key, _)) = needless.iter().find(|(_, is_empty)| !is_empty) {
        return wrong(key, "needs `url`: it is for a server that is joined".to_owned());
    }
    let bind = options.bind.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 3000)));
    let entrance = Entrance::new(bind, options.tls.as_ref())?;
    Ok(Box::new(Server { options, entrance }))
}

impl Service for Server {
    fn name(&self) -> &str {
        NAME
    }

    fn sessions_max(&self) -> u32 {
        self.options.sessions_max as u32
    }

    fn listens(&self) -> Option<SocketAddr> {
        Some(self.entrance.at())
    }

    fn bind(&mut self) -> io::Result<Vec<String>> {
        self.entrance.open(["socketio+http", "socketio+https"])
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let Self { options, entrance } = *self;
            let cors = cors(&options.origins).map_err(io::Error::other)?;
            let connections_max = options.connections_max;
            let most = usize::try_from(options.message_bytes_max).unwrap_or(usize::MAX);
            let state = Shared {
                places: Arc::new(Semaphore::new(options.sessions_max)),
                options: Arc::new(options),
                context: context.clone(),
            };
            let (layer, io) = SocketIo::builder()
                .req_path(state.options.path.clone())
                .max_payload(state.options.message_bytes_max)
                .ws_max_message_size(most)
                .ws_max_frame_size(most)
                .max_buffer_size(QUEUE_MAX)
                .connect_timeout(JOIN_TIMEOUT)
                .with_state(state.clone())
                .build_layer();
            for namespace in &state.options.namespaces {
                io.ns(namespace.clone(), converse.with(admit));
            }
            let routes = Routes::new().layer(layer).layer(cors);
            let token = state.options.token.clone();
            let look = context.router.look(NAME, token, &context.stop);
            let serving = serve(entrance, routes, connections_max, &context.stop);
            let (served, ()) = tokio::join!(serving, look);
            io.close().await;
            served
        })
    }
}

#[derive(Clone)]
struct Shared {
    options: Arc<SocketIoOptions>,
    context: Context,
    places: Arc<Semaphore>,
}

/// A session that was joined for a client before the client was let in.
#[derive(Clone)]
struct Joined(Arc<Mutex<Option<(Speaker, Hearer, OwnedSemaphorePermit)>>>);

/// Why a client is not let in, as it is told.
struct Unwelcome(String);

impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Joins the router on behalf of a client; what the router refuses is its `connect_error`.
async fn admit(
    socket: SocketRef,
    TryData(auth): TryData<Json>,
    State(shared): State<Shared>,
) -> Result<(), Unwelcome> {
    let request = socket.req_parts();
    admission::look(&shared.options.origins, &request.headers)
        .map_err(|why| Unwelcome(why.to_owned()))?;
    let said = auth.ok().and_then(|auth| Some(auth.get("token")?.as_str()?.to_owned()));
    let asked = admission::token_in(&request.uri);
    let token = said.or(asked).or_else(|| shared.options.token.clone());
    let place = Arc::clone(&shared.places).try_acquire_owned();
    let place = place.map_err(|_| Unwelcome("every place is taken".to_owned()))?;
    let who = Who { features: FEATURES, ..Who::client(NAME, token) };
    let joined = shared.context.router.join(&who).await;
    let (speaker, hearer) = joined.map_err(|error| {
        shared.context.counters.refused.add(1);
        Unwelcome(match error {
            JoinError::Refused { code: code::UNAUTHORIZED, message } => message,
            other => other.to_string(),
        })
    })?;
    socket.extensions.insert(Joined(Arc::new(Mutex::new(Some((speaker, hearer, place))))));
    Ok(())
}

/// Lets a client in.
async fn converse(socket: SocketRef, State(shared): State<Shared>) {
    let joined = socket.extensions.remove::<Joined>();
    let session = joined
        .and_then(|Joined(session)| session.lock().unwrap_or_else(PoisonError::into_inner).take());
    let Some((speaker, hearer, place)) = session else {
        let _ = socket.disconnect();
        return;
    };
    let (inbox, taken) = Inbox::new(&shared.context);
    let names = Names::new(&shared.options.namespace, socket.ns());
    let op = match shared.options.events {
        Events::Param => "set",
        Events::Event => "emit",
    };
    let gone = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&gone);
    socket.on_fallback(inbox);
    socket.on_disconnect(async move || tell.notify_one());
    let context = shared.context;
    let rooms = Rooms::default();
    let talk = Talk { socket, speaker, hearer, names, op, taken, context, rooms };
    tokio::select! {
        () = talk.run() => {}
        () = gone.notified() => {}
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_named() {
        let of = |table: serde_json::Value| {
            let options: SocketIoOptions = serde_json::from_value(table).expect("known keys");
            open(options).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(of(serde_json::json!({ "namespaces": ["/", "/ctl"] })), Ok(()));
        for (table, key) in [
            (serde_json::json!({ "namespace": "x" }), "namespace"),
            (serde_json::json!({ "path": "/x/" }), "path"),
            (serde_json::json!({ "namespaces": [] }), "namespaces"),
            (serde_json::json!({ "namespaces": ["ctl"] }), "namespaces"),
            (serde_json::json!({ "origins": ["x"] }), "origins"),
            (serde_json::json!({ "message_bytes_max": 0 }), "message_bytes_max"),
            (serde_json::json!({ "sessions_max": 4097 }), "sessions_max"),
            (serde_json::json!({ "subscribe": ["/a"] }), "subscribe"),
            (serde_json::json!({ "auth": { "token": "t" } }), "auth"),
            (serde_json::json!({ "acks": true }), "acks"),
            (serde_json::json!({ "ca": "/x" }), "ca"),
            (serde_json::json!({ "url": "ws://h" }), "url"),
        ] {
            let error = of(table.clone()).expect_err("cannot work");
            assert!(error.starts_with(key), "{table}: {error}");
        }
        assert!(
            serde_json::from_value::<SocketIoOptions>(serde_json::json!({ "events": "x" }))
                .is_err()
        );
    }
}

//! Params and events as resources of the web: REST, server-sent events, long polls, and a
//! description that programs can read.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/state/{address}` | the param; of a pattern, all that match |
//! | `PUT /v1/state/{address}` | sets it; of a pattern, all that match, at once |
//! | `DELETE /v1/state/{address}` | ends it; of a pattern, all that match, at once |
//! | `POST /v1/emit/{address}` | publishes an event, a stream sample, a step of a gesture |
//! | `GET /v1/snapshot[/{prefix or pattern}]` | all params of it; also `?pattern=..` |
//! | `POST /v1/bundle` | several messages, all or none |
//! | `GET /v1/stream?pattern=..` | changes as server-sent events |
//! | `GET /v1/poll?pattern=..` | the same by asking again and again |
//! | `GET /v1/health` | whether the router is there |
//! | `GET /v1/openapi.json` | all this, as OpenAPI 3.1 |
//! | `/api/..` | the same in short: `GET PUT POST DELETE /api/{address}`, `/api/signals` |
//!
//! Each token has sessions of its own at the router, so that scopes, limits and locks are the
//! router's. The token is `Authorization: Bearer ..`, or `?token=..` where a browser cannot say
//! headers (`EventSource`).
//!
//! A param's revision is its entity tag. `If-Match: "7"` writes only over revision 7 (else 412);
//! `If-None-Match: *` only where there is no param; a read with `If-None-Match` is answered with
//! 304 where nothing changed. What is wrong is said as `application/problem+json` (RFC 9457).
//!
//! A deleted param is set to null, which every subscriber hears, and dies within a second: CLASP
//! has no message that deletes. Here it is gone at once.
//!
//! The other way round, a bridge asks servers elsewhere again and again ([`PollOptions`]), and
//! tells them what changes ([`WebhookOptions`]); with one of both and without `bind` it serves
//! nobody. What a poll sets is not told to a webhook of the same bridge.

pub mod address;
mod body;
mod channel;
mod client;
pub mod condition;
mod deleted;
mod outward;
mod poll;
mod problem;
mod ring;
mod state;
mod stream;
mod template;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, post};
use clasp_rt_bridges::{ConfigError, check_range};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tower_http::cors::CorsLayer;

use self::address::Namespace;
use self::channel::Channels;
use self::deleted::Deleted;
use self::outward::Outward;
pub use self::poll::PollOptions;
use self::problem::Problem;
pub use self::webhook::WebhookOptions;
use crate::tls::TlsFiles;
use crate::web::admission::{admits, cors};
use crate::web::seats::Seats;
use crate::web::serve::{Entrance, serve};
use crate::{Context, Running, Service};

/// The options of `[[bridge]] type = "http"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Where to listen. Default `0.0.0.0:8080`, as the reference documents it; nowhere where there
    /// is a `poll` or a `webhook`.
    pub bind: Option<SocketAddr>,
    /// PEM files `{ cert, key, client_ca }`: then the port speaks TLS (`https://`). Default none.
    pub tls: Option<TlsFiles>,
    /// Segments put before every address: with `/web`, `/v1/state/a` is the param `/web/a`, and
    /// nothing else can be reached. Default empty: the whole address space.
    pub namespace: String,
    /// Where the short forms are. Default `/api`.
    pub base: String,
    /// With whose rights those ask who bring no token. Default none: where the router wants tokens
    /// they are answered with 401.
    pub token: Option<String>,
    /// Web pages of which origins may ask, such as `https://show.example`; `*`: all, the default.
    /// Others, but for those of the same host and port, are answered with 403 and nothing is done.
    pub origins: Vec<String>,
    /// Bytes of a body, 1 to 16777216. Default 1048576.
    pub body_bytes_max: usize,
    /// Connections at once, 1 to 65536; more wait. Default 512.
    pub connections_max: usize,
    /// Sessions at the router, 1 to 4096: four for each token in use and one for each
    /// subscription. More requests than that are answered with 503. Default 96.
    pub sessions_max: usize,
    /// Subscriptions at once, by stream and poll together, 1 to 1024; each may keep a history of
    /// 1 MiB. More are answered with 503. Default 64.
    pub streams_max: usize,
    /// Params in one answer, 1 to 1000000. Beyond that, 413 asks for a narrower pattern. Default
    /// 100000.
    pub params_max: usize,
    /// Pages elsewhere that are asked again and again, 256 at most.
    pub poll: Vec<PollOptions>,
    /// Servers elsewhere that are told what changes, 256 at most.
    pub webhook: Vec<WebhookOptions>,
    /// Seconds after which a server elsewhere must have answered, 0.1 to 300. Default 10. Its
    /// answer may have `body_bytes_max` bytes, and five redirects come before it.
    pub timeout_s: f64,
    /// PEM file of the authorities to believe of servers elsewhere. Default: those of the system.
    pub ca: Option<PathBuf>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            bind: None,
            tls: None,
            namespace: String::new(),
            base: "/api".to_owned(),
            token: None,
            origins: vec!["*".to_owned()],
            body_bytes_max: 1 << 20,
            connections_max: 512,
            sessions_max: 96,
            streams_max: 64,
            params_max: 100_000,
            poll: Vec::new(),
            webhook: Vec::new(),
            timeout_s: 10.0,
            ca: None,
        }
    }
}

struct Http {
    options: HttpOptions,
    namespace: Namespace,
    cors: CorsLayer,
    /// Where it listens, if it does.
    entrance: Option<Entrance>,
    outward: Option<Outward>,
}

/// What every request can reach.
pub(crate) struct App {
    options: HttpOptions,
    namespace: Namespace,
    seats: Seats,
    channels: Arc<Channels>,
    deleted: Arc<Deleted>,
    /// Turns of snapshots.
    snapshots: Semaphore,
}

/// What the router shows as the name of these sessions.
const NAME: &str = "http";

/// Opens the service, without its port.
pub fn open(options: HttpOptions) -> Result<Box<dyn Service>, ConfigError> {
    let wrong = |key: &str, why: String| ConfigError::new(key, why);
    let namespace = Namespace::new(&options.namespace)
        .map_err(|why| wrong("namespace", format!("`{}`: {why}", options.namespace)))?;
    let base = options.base.as_str();
    let is_path = base.starts_with('/')
        && base.len() > 1
        && !base.ends_with('/')
        && base.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
        && !base.contains("//");
    if !is_path || base == "/v1" || base.starts_with("/v1/") {
        let need = "must be a path of letters and digits, such as `/api`, outside /v1";
        return Err(wrong("base", format!("`{base}` {need}")));
    }
    check_range("body_bytes_max", options.body_bytes_max, 1..=16 << 20)?;
    check_range("connections_max", options.connections_max, 1..=65_536)?;
    check_range("sessions_max", options.sessions_max, 1..=4096)?;
    check_range("streams_max", options.streams_max, 1..=1024)?;
    check_range("params_max", options.params_max, 1..=1_000_000)?;
    let cors = cors(&options.origins)?;
    let outward = Outward::open(&options)?;
    let bind = match (options.bind, &outward) {
        (None, Some(_)) => None,
        (bind, _) => Some(bind.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8080)))),
    };
    let entrance = bind.map(|bind| Entrance::new(bind, options.tls.as_ref())).transpose()?;
    if entrance.is_none() && options.tls.is_some() {
        return Err(wrong("tls", "is for a port: write `bind`, too".to_owned()));
    }
    Ok(Box::new(Http { options, namespace, cors, entrance, outward }))
}

impl Service for Http {
    fn name(&self) -> &str {
        NAME
    }

    fn sessions_max(&self) -> u32 {
        let served = if self.entrance.is_some() { self.options.sessions_max as u32 } else { 0 };
        served + u32::from(self.outward.is_some())
    }

    fn listens(&self) -> Option<SocketAddr> {
        self.entrance.as_ref().map(Entrance::at)
    }

    fn bind(&mut self) -> io::Result<Vec<String>> {
        match &mut self.entrance {
            Some(entrance) => entrance.open(["http", "https"]),
            None => Ok(Vec::new()),
        }
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let Self { options, namespace, cors, entrance, outward } = *self;
            let going = context.clone();
            let going_out = async {
                match outward {
                    Some(outward) => outward.run(going).await,
                    None => Ok(()),
                }
            };
            let serving = async {
                match entrance {
                    Some(entrance) => entertain(entrance, options, namespace, cors, context).await,
                    None => Ok(()),
                }
            };
            tokio::try_join!(going_out, serving).map(drop)
        })
    }
}

async fn entertain(
    entrance: Entrance,
    options: HttpOptions,
    namespace: Namespace,
    cors: CorsLayer,
    context: Context,
) -> io::Result<()> {
    let connections_max = options.connections_max;
    let deleted = Arc::new(Deleted::default());
    let channels = Channels::new(namespace.clone(), Arc::clone(&deleted), options.streams_max);
    let app = Arc::new(App {
        seats: Seats::new(context.router.clone(), NAME, options.sessions_max),
        channels: Arc::new(channels),
        options,
        namespace,
        deleted,
        snapshots: Semaphore::new(state::SNAPSHOTS_MAX),
    });
    let admitted = from_fn_with_state(Arc::clone(&app), admit);
    let routes = routes(Arc::clone(&app)).layer(cors).layer(admitted);
    let look = context.router.look(NAME, app.options.token.clone(), &context.stop);
    tokio::select! {
        served = serve(entrance, routes, connections_max, &context.stop) => served,
        ((), ()) = async { tokio::join!(app.seats.sweep_for_ever(), look) } => Ok(()),
    }
}

/// Every path; the OpenAPI document has the same, which a test compares.
const PATHS: [&str; 9] = [
    "/v1/state/{address}",
    "/v1/emit/{address}",
    "/v1/snapshot",
    "/v1/snapshot/{pattern}",
    "/v1/bundle",
    "/v1/stream",
    "/v1/poll",
    "/v1/health",
    "/v1/openapi.json",
];

fn routes(app: Arc<App>) -> Routes {
    let base = &app.options.base;
    let one = get(state::read).put(state::write).delete(state::remove);
    Routes::new()
        .route("/v1/state/{*address}", one.clone())
        .route("/v1/emit/{*address}", post(state::emit))
        .route("/v1/snapshot", get(state::snapshot))
        .route("/v1/snapshot/{*pattern}", get(state::snapshot))
        .route("/v1/bundle", post(state::bundle))
        .route("/v1/stream", get(stream::events))
        .route("/v1/poll", get(stream::poll))
        .route("/v1/health", get(state::health))
        .route("/v1/openapi.json", get(openapi))
        .route(&format!("{base}/health"), get(state::health))
        .route(&format!("{base}/signals"), get(state::signals))
        .route(&format!("{base}/bundle"), post(state::bundle))
        .route(&format!("{base}/{{*address}}"), one.post(state::emit))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
}

/// Sends away what a page of another origin wants, before it is done, and queries nobody reads.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    if !admits(&app.options.origins, request.headers()) {
        let why = "pages of this Origin may not ask here; `origins` names those that may";
        return Problem::new(StatusCode::FORBIDDEN, why).response();
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    match check_query(path, query) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.response(),
    }
}

/// Subscriptions read a query of their own; of the rest only a snapshot has one.
fn check_query(path: &str, query: &str) -> Result<(), Problem> {
    if ["/v1/stream", "/v1/poll"].contains(&path) {
        return Ok(());
    }
    for (key, _) in form_urlencoded::parse(query.as_bytes()) {
        let known = "`pattern` is for /v1/snapshot, /v1/stream and /v1/poll";
        let why = match key.as_ref() {
            "pattern" if path == "/v1/snapshot" => continue,
            "token" => "`token` in the query is for /v1/stream and /v1/poll, where a browser \
                        cannot say headers; elsewhere write Authorization: Bearer, a space, the \
                        token"
                .to_owned(),
            other => format!("`{other}` in the query means nothing at {path}; {known}"),
        };
        return Err(Problem::wrong(why));
    }
    Ok(())
}

async fn openapi() -> Response<Body> {
    let mut response = Response::new(Body::from(OPENAPI));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn nowhere(uri: http::Uri) -> Response<Body> {
    let here = PATHS.join(", ");
    Problem::new(StatusCode::NOT_FOUND, format!("{} is not here; here are {here}", uri.path()))
        .response()
}

async fn no_such_method(method: Method, uri: http::Uri) -> Response<Body> {
    let why = format!("{method} means nothing at {}; the header Allow says what does", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, why).response()
}

/// What can be asked, for programs: OpenAPI 3.1.
const OPENAPI: &str = include_str!("http/openapi.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_named() {
        let of = |table: serde_json::Value| {
            let options: HttpOptions = serde_json::from_value(table).expect("known keys");
            open(options).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(of(serde_json::json!({})), Ok(()));
        assert_eq!(of(serde_json::json!({ "origins": ["https://a.example:8443"] })), Ok(()));
        for (table, key) in [
            (serde_json::json!({ "namespace": "web" }), "namespace"),
            (serde_json::json!({ "base": "api" }), "base"),
            (serde_json::json!({ "base": "/v1/x" }), "base"),
            (serde_json::json!({ "base": "/{x}" }), "base"),
            (serde_json::json!({ "origins": ["a.example"] }), "origins"),
            (serde_json::json!({ "origins": ["https://a.example/"] }), "origins"),
            (serde_json::json!({ "body_bytes_max": 0 }), "body_bytes_max"),
            (serde_json::json!({ "sessions_max": 5000 }), "sessions_max"),
        ] {
            let error = of(table.clone()).expect_err("cannot work");
            assert!(error.starts_with(key), "{table}: {error}");
        }
    }

    #[test]
    fn a_query_that_nobody_reads_is_refused() {
        for (path, query, said) in [
            ("/v1/stream", "pattern=/a&token=x", None),
            ("/v1/snapshot", "pattern=/a", None),
            ("/v1/snapshot", "", None),
            ("/v1/snapshot/a", "pattern=/a", Some("pattern")),
            ("/v1/state/a", "token=x", Some("Authorization")),
            ("/v1/health", "colour=red", Some("colour")),
        ] {
            let found = check_query(path, query).map_err(|problem| problem.detail);
            match said {
                None => assert_eq!(found, Ok(()), "{path}?{query}"),
                Some(said) => assert!(found.expect_err(path).contains(said), "{path}?{query}"),
            }
        }
    }

    #[test]
    fn the_openapi_document_has_every_path_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
        let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().collect();
        assert_eq!(paths, PATHS);
        assert_eq!(document["openapi"], "3.1.0");
    }
}

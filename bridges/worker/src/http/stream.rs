//! Subscriptions over HTTP: server-sent events, and long polls.
//!
//! Source: the HTML standard, "Server-sent events". A stream that breaks is continued by
//! `Last-Event-ID`, which browsers send by themselves; `last_id` in the query does the same.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use clasp_rt_core::message::SubscribeOptions;
use clasp_rt_core::pattern;
use clasp_rt_core::signal::{Signal, SignalMask};
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::App;
use super::channel::{PATTERNS_MAX, Read, Reader, Wish};
use super::problem::Problem;
use super::ring::{ENTRIES_MAX, Entry};
use super::state::json_text;

/// Silence after which a comment shows that the stream is alive.
const PING: Duration = Duration::from_secs(15);

/// When a browser tries again after a break, in milliseconds.
const RETRY_MS: u32 = 2000;

/// How long a poll may wait, in seconds, and how long it does where it says nothing.
const WAIT_S_MAX: u64 = 60;
const WAIT_S: u64 = 25;

/// What the query of a subscription may hold.
#[derive(Debug)]
struct Query {
    wish: Wish,
    last: Option<String>,
    wait: Duration,
}

/// `GET /v1/stream`
pub(super) async fn events(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = read(&app, &request)?;
    let header = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let last = header.map(str::to_owned).or(query.last);
    let (reader, _) = reader(&app, query.wish, last).await?;
    let mut response = Response::new(Body::from_stream(unfold((reader, true), tell)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Some proxies would keep events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// `GET /v1/poll`
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = read(&app, &request)?;
    let (mut reader, is_new) = reader(&app, query.wish, query.last).await?;
    let until = Instant::now() + query.wait;
    let mut events = Vec::new();
    // A first answer is the whole snapshot, so far as it fits; a later one is whatever is new.
    loop {
        match reader.next(until).await {
            Read::Entries(entries) => {
                let is_complete = entries.iter().any(|(_, entry)| entry.kind == "ready");
                events.extend(entries);
                if !is_new || is_complete || events.len() >= ENTRIES_MAX {
                    break;
                }
            }
            Read::Over if events.is_empty() => {
                let why = "the subscription is over: ask again without last_id";
                return Err(Problem::new(StatusCode::GONE, why));
            }
            Read::Nothing | Read::Over => break,
        }
    }
    let mut text = format!("{{\"reset\":{is_new},\"events\":[");
    let told = events.iter().filter(|(_, entry)| entry.kind != "ready");
    for (index, (id, Entry { kind, data, .. })) in told.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let id = reader.id(*id);
        let _ = write!(text, "{comma}{{\"id\":\"{id}\",\"event\":\"{kind}\",\"data\":{data}}}");
    }
    let _ = write!(text, "],\"last_id\":\"{}\"}}", reader.id(reader.cursor));
    Ok(json_text(StatusCode::OK, text))
}

/// Goes on where the page was, or subscribes anew; and whether it did the latter.
async fn reader(app: &App, wish: Wish, last: Option<String>) -> Result<(Reader, bool), Problem> {
    match last.and_then(|last| app.channels.resume(&wish, &last)) {
        Some(reader) => Ok((reader, false)),
        None => Ok((app.channels.open(&app.seats, wish).await?, true)),
    }
}

/// The next piece of a stream of events; the stream ends when the page must subscribe anew, which
/// it does by itself.
async fn tell(
    (mut reader, is_first): (Reader, bool),
) -> Option<(Result<Bytes, Infallible>, (Reader, bool))> {
    if is_first {
        let hello = format!("retry: {RETRY_MS}\n\n");
        return Some((Ok(Bytes::from(hello)), (reader, false)));
    }
    let piece = match reader.next(Instant::now() + PING).await {
        Read::Entries(entries) => {
            let mut text = String::new();
            for (id, Entry { kind, data, .. }) in entries {
                let id = reader.id(id);
                let _ = write!(text, "id: {id}\nevent: {kind}\ndata: {data}\n\n");
            }
            Bytes::from(text)
        }
        Read::Nothing => Bytes::from_static(b": ping\n\n"),
        Read::Over => return None,
    };
    Some((Ok(piece), (reader, false)))
}

fn read(app: &App, request: &Request) -> Result<Query, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let mut query = read_query(query, |pattern| app.namespace.join(pattern))?;
    query.wish.token = app.token_of(request.headers(), query.wish.token)?;
    Ok(query)
}

fn read_query(query: &str, join: impl Fn(&str) -> String) -> Result<Query, Problem> {
    let (mut patterns, mut types) = (Vec::new(), None);
    let mut options = SubscribeOptions::default();
    let (mut token, mut last, mut wait) = (None, None, WAIT_S);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "pattern" => {
                pattern::check(&value).map_err(|why| {
                    Problem::wrong(format!("pattern: `{value}`: {why}; such as /lights/**"))
                })?;
                patterns.push(join(&value));
            }
            "types" => {
                let mask = types.get_or_insert(0);
                for name in value.split(',') {
                    *mask |= 1 << code_of(name)?;
                }
            }
            "max_rate" => options.max_rate = Some(number(&key, &value)?),
            "epsilon" => options.epsilon = Some(number(&key, &value)?),
            "history" => options.history = Some(number(&key, &value)?),
            "window" => options.window = Some(number(&key, &value)?),
            "token" => token = Some(value.into_owned()),
            "last_id" => last = Some(value.into_owned()),
            "wait" => wait = number(&key, &value)?,
            other => {
                return Err(Problem::wrong(format!(
                    "`{other}` means nothing here; there are pattern, types, max_rate, epsilon, \
                     history, window, token, last_id and wait"
                )));
            }
        }
    }
    if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
        let why = format!("1 to {PATTERNS_MAX} times `pattern` is needed: ?pattern=/lights/**");
        return Err(Problem::wrong(why));
    }
    if options.epsilon.is_some_and(|epsilon: f64| !epsilon.is_finite() || epsilon < 0.0) {
        return Err(Problem::wrong("epsilon: a number from 0 up"));
    }
    if wait > WAIT_S_MAX {
        return Err(Problem::wrong(format!("wait: 0 to {WAIT_S_MAX} seconds")));
    }
    let types = types.map_or(SignalMask::ALL, SignalMask);
    let wish = Wish { token, patterns, types, options };
    Ok(Query { wish, last, wait: Duration::from_secs(wait) })
}

/// The code of a kind of signal, which is its bit in a mask.
fn code_of(name: &str) -> Result<u8, Problem> {
    let signal = Signal::from_name(name).ok_or_else(|| {
        let known = "param, event, stream, gesture and timeline";
        Problem::wrong(format!("types: `{name}` is none of {known}"))
    })?;
    Ok(signal.code())
}

fn number<N: std::str::FromStr>(key: &str, value: &str) -> Result<N, Problem> {
    value.parse().map_err(|_| Problem::wrong(format!("{key}: `{value}` is no such number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Query, String> {
        let join = |pattern: &str| pattern.to_owned();
        read_query(query, join).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let text = "pattern=%2Fa%2F**&pattern=/b&types=param,event&max_rate=10&epsilon=0.5&token=t\
                    &wait=3&last_id=1-2";
        let query = of(text).expect("all known");
        let options = SubscribeOptions {
            max_rate: Some(10),
            epsilon: Some(0.5),
            ..SubscribeOptions::default()
        };
        assert_eq!(query.wish.patterns, ["/a/**", "/b"]);
        assert_eq!(query.wish.options, options);
        assert_eq!(query.wish.token.as_deref(), Some("t"));
        assert!(query.wish.types.contains(Signal::Param));
        assert!(query.wish.types.contains(Signal::Event));
        assert!(!query.wish.types.contains(Signal::Stream));
        assert_eq!((query.last.as_deref(), query.wait.as_secs()), (Some("1-2"), 3));
        assert_eq!(of("pattern=/a").expect("enough").wish.types, SignalMask::ALL);
    }

    #[test]
    fn what_is_wrong_in_a_query_is_said() {
        let many = "pattern=/a&".repeat(PATTERNS_MAX + 1);
        for (query, said) in [
            ("", "pattern"),
            ("pattern=a", "/lights/**"),
            ("pattern=/a&types=sound", "gesture"),
            ("pattern=/a&max_rate=fast", "max_rate"),
            ("pattern=/a&epsilon=-1", "epsilon"),
            ("pattern=/a&wait=61", "60"),
            ("pattern=/a&colour=red", "colour"),
            (&many, "1 to 16"),
        ] {
            let error = of(query).expect_err(query);
            assert!(error.contains(said), "{query}: {error}");
        }
    }
}

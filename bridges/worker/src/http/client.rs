//! Requests to servers elsewhere: bounded in time, size and redirects, over connections that are
//! kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clasp_rt_bridges::ConfigError;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use iri_string::types::{UriAbsoluteString, UriReferenceStr};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use crate::web::{self, serve::HEADER_BYTES_MAX};

/// Redirects that one request follows.
const REDIRECTS_MAX: usize = 5;

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// The longest time that a server may ask to be left alone (`Retry-After`).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

const AGENT: &str = concat!("clasp-rt/", env!("CARGO_PKG_VERSION"));

/// What asks. Cloned, it uses the same connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    patience: Duration,
    body_bytes_max: usize,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    /// Those that a person wrote, which no other server is told.
    pub own: Arc<HeaderMap>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What a server said at last.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    Unreachable(String),
    TimedOut,
    /// All is well, but the body has more bytes than this.
    TooLong(usize),
    /// It sends to a place where this request does not go.
    Redirected(String),
}

impl Client {
    /// An answer must be whole after `patience`, redirects included.
    pub fn new(trust: &Arc<ClientConfig>, patience: Duration, body_bytes_max: usize) -> Self {
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(patience));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(trust))
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(HEADER_BYTES_MAX)
            .build(connector);
        Self { inner, patience, body_bytes_max }
    }

    pub async fn ask(&self, asked: Asked) -> Result<Answer, Failed> {
        timeout(self.patience, self.follow(asked)).await.unwrap_or(Err(Failed::TimedOut))
    }

    async fn follow(&self, mut asked: Asked) -> Result<Answer, Failed> {
        for _ in 0..=REDIRECTS_MAX {
            let unreachable = |why: legacy::Error| Failed::Unreachable(whole(&why));
            let response = self.inner.request(asked.request()).await.map_err(unreachable)?;
            let (parts, body) = response.into_parts();
            if let Some(next) = asked.redirected(parts.status, &parts.headers)? {
                asked = next;
                continue;
            }
            let body = Limited::new(body, self.body_bytes_max).collect().await;
            let (status, headers) = (parts.status, parts.headers);
            let body = match body {
                Ok(body) => body.to_bytes(),
                // What an error says at length is not needed.
                Err(why) if why.is::<LengthLimitError>() && status.is_success() => {
                    return Err(Failed::TooLong(self.body_bytes_max));
                }
                Err(why) if why.is::<LengthLimitError>() => Bytes::new(),
                Err(why) => return Err(Failed::Unreachable(why.to_string())),
            };
            return Ok(Answer { status, headers, body });
        }
        Err(Failed::Redirected(format!("more than {REDIRECTS_MAX} times")))
    }
}

impl Asked {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for from in [&self.headers, &*self.own] {
            headers.extend(from.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
        }
        request
    }

    /// Where an answer sends this request: RFC 9110 §15.4. Only those are followed that leave the
    /// method and the body what they are, and none from TLS to where there is none.
    fn redirected(&self, status: StatusCode, headers: &HeaderMap) -> Result<Option<Self>, Failed> {
        let is_get = self.method == Method::GET;
        match status.as_u16() {
            307 | 308 => {}
            301..=303 if is_get => {}
            _ => return Ok(None),
        }
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let refuse = || Failed::Redirected(format!("{status} to `{to}`"));
        let uri = resolved(&self.uri, to).ok_or_else(refuse)?;
        let was_secure = self.uri.scheme() == Some(&Scheme::HTTPS);
        let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
        let is_plain = uri.scheme() == Some(&Scheme::HTTP);
        let is_no_worse = is_secure || (is_plain && !was_secure);
        if !is_no_worse {
            return Err(refuse());
        }
        let mut next = self.clone();
        let is_elsewhere = was_secure != is_secure || uri.authority() != self.uri.authority();
        if is_elsewhere {
            next.own = Arc::default();
        }
        next.uri = uri;
        Ok(Some(next))
    }
}

/// What `to` means on the page `from`: RFC 3986 §5.
fn resolved(from: &Uri, to: &str) -> Option<Uri> {
    let base = UriAbsoluteString::try_from(from.to_string()).ok()?;
    let to = UriReferenceStr::new(to).ok().filter(|to| !to.as_str().is_empty())?;
    to.resolve_against(&base).to_string().parse().ok()
}

impl Answer {
    /// How long the server wants to be left alone, where it says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
    }

    /// Whether another try may go better: RFC 9110 §15.
    pub fn may_pass(&self) -> bool {
        self.status.is_server_error() || [408, 425, 429].contains(&self.status.as_u16())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::TimedOut => f.write_str("it did not answer in time"),
            Self::TooLong(most) => write!(f, "its answer has more than {most} bytes"),
            Self::Redirected(to) => write!(f, "it redirects, and that is not followed: {to}"),
        }
    }
}

/// An error with what caused it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

/// Whether a URL can be asked: with a host, over HTTP, and without what stands behind `#`.
pub fn check_url(key: &str, url: &str) -> Result<Uri, ConfigError> {
    let wrong = |why: &str| ConfigError::new(key, format!("`{url}` {why}"));
    let need = "must be http://HOST:PORT/PATH, or https://";
    let uri: Uri = url.parse().map_err(|_| wrong(need))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| wrong(need))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong(need));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("names a user; write it under `headers`, as Authorization"));
    }
    web::port(authority).map_err(wrong)?;
    if url.contains('#') {
        return Err(wrong("must not have a `#`: servers are not told what is behind it"));
    }
    Ok(uri)
}

/// The headers that a person wrote.
pub fn check_headers(
    key: &str,
    written: &BTreeMap<String, String>,
) -> Result<Arc<HeaderMap>, ConfigError> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let wrong = |why: &str| ConfigError::new(key, format!("`{name}`: {why}"));
        let parsed: HeaderName = name.parse().map_err(|_| wrong("is no name of a header"))?;
        let is_ours = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
        if is_ours.contains(&parsed.as_str()) {
            return Err(wrong("is said by the bridge itself"));
        }
        let mut value: HeaderValue =
            value.parse().map_err(|_| wrong("its value has characters that none may have"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(Arc::new(headers))
}

/// Headers with the kind of a body of JSON.
pub fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, url: &str) -> Asked {
        let own = BTreeMap::from([("Authorization".to_owned(), "Bearer x".to_owned())]);
        Asked {
            method,
            uri: url.parse().expect("a URL"),
            own: check_headers("headers", &own).expect("good"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_redirect_is_followed_where_nothing_is_lost_or_told_to_strangers() {
        let cases = [
            (Method::GET, "http://h/a/b", 302, "c", Some(("http://h/a/c", true))),
            (Method::GET, "http://h/a/b", 301, "../x?y=1", Some(("http://h/x?y=1", true))),
            (Method::GET, "http://h/a", 303, "//g/x", Some(("http://g/x", false))),
            (Method::GET, "http://h/a", 308, "https://h/a", Some(("https://h/a", false))),
            (Method::POST, "http://h/a", 307, "/b", Some(("http://h/b", true))),
            (Method::POST, "http://h/a", 302, "/b", None),
            (Method::GET, "http://h/a", 304, "/b", None),
            (Method::GET, "http://h/a", 200, "/b", None),
        ];
        for (method, from, status, to, want) in cases {
            let headers = HeaderMap::from_iter([(LOCATION, to.parse().expect("a header"))]);
            let status = StatusCode::from_u16(status).expect("a status");
            let next = asked(method, from).redirected(status, &headers).expect("followed or not");
            let next = next.map(|next| (next.uri.to_string(), !next.own.is_empty()));
            let want = want.map(|(uri, own)| (uri.to_owned(), own));
            assert_eq!(next, want, "{from} {status} {to}");
        }
        for (from, to) in
            [("https://h/", "http://h/"), ("http://h/", "ftp://h/"), ("http://h/", "")]
        {
            let headers = HeaderMap::from_iter([(LOCATION, to.parse().expect("a header"))]);
            let refused = asked(Method::GET, from).redirected(StatusCode::FOUND, &headers);
            assert!(matches!(refused, Err(Failed::Redirected(_))), "{from} {to}");
        }
    }

    #[test]
    fn urls_and_headers_that_cannot_be_sent_are_told_under_their_key() {
        for (url, said) in [
            ("ws://h/", "https://"),
            ("http:///x", "HOST"),
            ("here", "HOST"),
            ("http://u:p@h/", "Authorization"),
            ("http://h/#a", "`#`"),
            ("http://h:99999/", "1 to 65535"),
            ("http://h:0/", "1 to 65535"),
        ] {
            let error = check_url("poll[0].url", url).expect_err(url);
            assert!(error.key == "poll[0].url" && error.why.contains(said), "{error}");
        }
        for (name, value) in [("a b", "x"), ("x", "a\nb"), ("Host", "h")] {
            let written = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert!(check_headers("headers", &written).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_server_that_is_busy_says_how_long() {
        let answer = |status, after: &str| Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::from_iter([(RETRY_AFTER, after.parse().expect("a header"))]),
            body: Bytes::new(),
        };
        assert_eq!(answer(503, "7").retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(answer(503, "99999999").retry_after(), Some(RETRY_AFTER_MAX));
        assert_eq!(answer(503, "Fri, 31 Dec 1999 23:59:59 GMT").retry_after(), None);
        let may_pass: Vec<_> = [200, 400, 404, 408, 429, 500, 503]
            .into_iter()
            .filter(|status| answer(*status, "1").may_pass())
            .collect();
        assert_eq!(may_pass, [408, 429, 500, 503]);
    }
}

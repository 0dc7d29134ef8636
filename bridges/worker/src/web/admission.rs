//! Who may come in: the web page that a request comes from, and the token that it brings.

use std::time::Duration;

use clasp_rt_bridges::ConfigError;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName,
    IF_MATCH, IF_NONE_MATCH, LOCATION, ORIGIN, RETRY_AFTER,
};
use http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// The option `origins`, as a layer of HTTP: which pages may ask, and what they may say and see.
pub fn cors(origins: &[String]) -> Result<CorsLayer, ConfigError> {
    let list = checked(origins)?;
    let origin = match is_everybody(origins) {
        true => AllowOrigin::from(Any),
        false => AllowOrigin::list(list),
    };
    Ok(CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CACHE_CONTROL,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([ETAG, LOCATION, RETRY_AFTER])
        .max_age(Duration::from_secs(600)))
}

/// Says which of the option `origins` no browser would ever name.
pub fn check(origins: &[String]) -> Result<(), ConfigError> {
    checked(origins).map(drop)
}

fn checked(origins: &[String]) -> Result<Vec<HeaderValue>, ConfigError> {
    let of = |origin: &String| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_origin = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
        HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| {
            let need = "must be `*` or a scheme and a host, such as `https://show.example`";
            ConfigError::new("origins", format!("`{origin}` {need}"))
        })
    };
    origins.iter().filter(|origin| *origin != "*").map(of).collect()
}

fn is_everybody(origins: &[String]) -> bool {
    origins.iter().any(|origin| origin == "*")
}

/// Looks at the handshake of a connection: browsers ask nobody before they open one, and programs
/// that are no browsers say no origin, and may.
pub fn look(origins: &[String], headers: &HeaderMap) -> Result<(), &'static str> {
    let is_known = |page: &HeaderValue| {
        is_everybody(origins) || origins.iter().any(|one| one.as_bytes() == page.as_bytes())
    };
    match headers.get(ORIGIN).is_none_or(is_known) {
        true => Ok(()),
        false => Err("pages of this origin may not connect"),
    }
}

/// Whether the page that sent a request may ask: one of `origins`, or of the service's own host. A
/// browser keeps an answer from others, but what they ask for would be done (the Fetch standard
/// calls such requests simple). What no page sent names no origin.
pub fn admits(origins: &[String], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN).map(HeaderValue::as_bytes) else { return true };
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let page = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    let is_own = page.zip(host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host));
    is_own || look(origins, headers).is_ok()
}

/// The token in `Authorization: Bearer ..`, if that header is there; else what it must be.
pub fn bearer(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    const NEED: &str = "Authorization must be: Bearer, a space, the token";
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(NEED)?;
    match scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        true => Ok(Some(token.trim().to_owned())),
        false => Err(NEED),
    }
}

/// The token in `?token=..`, for browsers, whose WebSockets cannot say headers.
pub fn token_in(uri: &Uri) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.find(|(key, _)| key == "token").map(|(_, token)| token.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs =
            list.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        pairs.collect()
    }

    #[test]
    fn a_page_may_come_where_its_origin_is_named_and_a_program_always() {
        let some = ["https://show.example".to_owned()];
        for (page, may_come) in [
            (None, true),
            (Some("https://show.example"), true),
            (Some("https://show.example.evil"), false),
            (Some("null"), false),
        ] {
            let headers = headers(&page.map(|page| (ORIGIN, page)).into_iter().collect::<Vec<_>>());
            assert_eq!(look(&some, &headers).is_ok(), may_come, "{page:?}");
            assert!(look(&["*".to_owned()], &headers).is_ok());
        }
    }

    #[test]
    fn pages_of_named_origins_and_of_the_same_host_may_ask_and_no_others() {
        let show = ["https://show.example".to_owned()];
        for (origin, host, admitted) in [
            (None, "a.example:8080", true),
            (Some("https://show.example"), "a.example:8080", true),
            (Some("http://a.example:8080"), "A.example:8080", true),
            (Some("http://a.example"), "a.example:8080", false),
            (Some("https://evil.example"), "a.example:8080", false),
            (Some("https://show.example.evil.example"), "a.example:8080", false),
            (Some("null"), "null", false),
        ] {
            let mut list = vec![(HOST, host)];
            list.extend(origin.map(|origin| (ORIGIN, origin)));
            let headers = headers(&list);
            assert_eq!(admits(&show, &headers), admitted, "{origin:?} {host}");
            assert!(admits(&["*".to_owned()], &headers));
        }
    }

    #[test]
    fn an_origin_that_no_browser_names_is_refused_also_beside_a_star() {
        for wrong in ["show.example", "https://", "https://a.example/", "ws://a.example", ""] {
            for list in [vec![wrong], vec!["*", wrong]] {
                let list: Vec<_> = list.into_iter().map(str::to_owned).collect();
                let error = check(&list).expect_err(wrong);
                assert!(error.key == "origins" && error.why.contains("https://show.example"));
                assert!(cors(&list).is_err());
            }
        }
        assert_eq!(check(&["*".to_owned(), "http://10.0.0.1:8080".to_owned()]), Ok(()));
    }

    #[test]
    fn a_token_stands_behind_the_word_bearer_or_in_the_query() {
        for (said, token) in [
            ("Bearer t", Ok("t")),
            ("bearer  t ", Ok("t")),
            ("Basic t", Err(())),
            ("Bearer", Err(())),
            ("Bearer  ", Err(())),
        ] {
            let found = bearer(&headers(&[(AUTHORIZATION, said)]));
            assert_eq!(found.map_err(drop), token.map(|token| Some(token.to_owned())), "{said}");
        }
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        let query = |uri: &str| token_in(&uri.parse().expect("a URI"));
        assert_eq!(query("/?a=1&token=x%20y").as_deref(), Some("x y"));
        assert_eq!((query("/?tokens=x"), query("/")), (None, None));
    }
}

//! Which web pages may ask a service, and what they may say and see: cross-origin requests.

use std::time::Duration;

use clasp_rt_bridges::ConfigError;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH,
    LOCATION, RETRY_AFTER,
};
use http::{HeaderValue, Method};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// Which pages may ask, and what they may say and see.
pub fn cors(origins: &[String]) -> Result<CorsLayer, ConfigError> {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        let mut list = Vec::new();
        for origin in origins {
            let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            let is_origin = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
            let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin);
            list.push(value.ok_or_else(|| {
                let need = "must be `*` or a scheme and a host, such as `https://show.example`";
                ConfigError::new("origins", format!("`{origin}` {need}"))
            })?);
        }
        AllowOrigin::list(list)
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

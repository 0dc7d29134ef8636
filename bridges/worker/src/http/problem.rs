//! What is wrong with a request, as `application/problem+json`.
//!
//! Source: RFC 9457. `detail` says what was wrong and what would be right; `code` is the CLASP code
//! where the router refused; `index` and `address` are those of the message of a bundle at fault.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use clasp_rt_core::error::code;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::web::seats::Failure;
use crate::web::talk::Refused;

/// A request that is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub detail: String,
    /// The CLASP code, where the router refused.
    pub code: Option<u16>,
    pub retry_after_s: Option<u64>,
    /// Which message of a bundle is at fault, the first being 0.
    pub index: Option<usize>,
    /// The address that it has.
    pub address: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (code, retry_after_s, index, address) = (None, None, None, None);
        Self { status, detail: detail.into(), code, retry_after_s, index, address }
    }

    /// The same of a bundle's message number `index`.
    pub fn of_message(self, index: usize, address: Option<&str>) -> Self {
        let about = address.map(|address| format!(", {address}")).unwrap_or_default();
        let detail = format!("messages[{index}]{about}: {}", self.detail);
        Self { detail, index: Some(index), address: address.map(str::to_owned), ..self }
    }

    /// The same of a request whose body has so many bytes, where that is what is wrong.
    pub fn of_body(self, bytes: usize) -> Self {
        match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("{}; the body has {bytes} bytes", self.detail);
                Self { detail, ..self }
            }
            _ => self,
        }
    }

    pub fn wrong(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn missing(address: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no param has the address {address}"))
    }

    pub fn unmet(revision: Option<u64>) -> Self {
        let is = match revision {
            Some(revision) => format!("the revision is \"{revision}\""),
            None => "there is no such param".to_owned(),
        };
        Self::new(StatusCode::PRECONDITION_FAILED, is)
    }

    pub fn response(&self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("refused"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(code) = self.code {
            body["code"] = json!(code);
        }
        if let Some(index) = self.index {
            body["index"] = json!(index);
        }
        if let Some(address) = &self.address {
            body["address"] = json!(address);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        let (status, retry_after_s) = match failure {
            Failure::Refused(refused) => return refused.into(),
            Failure::Limited { after } => {
                (StatusCode::TOO_MANY_REQUESTS, Some(after.as_secs().max(1)))
            }
            Failure::Full => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            Failure::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(2)),
            Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, None),
            Failure::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, None),
        };
        Self { retry_after_s, ..Self::new(status, detail) }
    }
}

impl From<Refused> for Problem {
    fn from(Refused { code, message, .. }: Refused) -> Self {
        let status = status_of(code, &message);
        let retry_after_s = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        Self { code: Some(code), retry_after_s, ..Self::new(status, message) }
    }
}

/// CLASP codes to those of RFC 9110. State has one code for a lock, a revision and a lack of room;
/// the text tells them apart.
fn status_of(refused: u16, message: &str) -> StatusCode {
    let says = |word| message.to_ascii_lowercase().contains(word);
    match refused {
        code::NOT_FOUND | code::TARGET_UNKNOWN => StatusCode::NOT_FOUND,
        code::UNAUTHORIZED | code::TOKEN_EXPIRED => StatusCode::UNAUTHORIZED,
        code::FORBIDDEN => StatusCode::FORBIDDEN,
        code::STATE if says("lock") && !says("rule") => StatusCode::LOCKED,
        code::STATE if says("capacity") => StatusCode::INSUFFICIENT_STORAGE,
        code::STATE => StatusCode::CONFLICT,
        code::INVALID_VALUE => StatusCode::UNPROCESSABLE_ENTITY,
        code::BUNDLE_REFUSED if says("scope") || says("reserved") => StatusCode::FORBIDDEN,
        code::BUNDLE_REFUSED if says("invalid address") => StatusCode::BAD_REQUEST,
        code::BUNDLE_REFUSED if says("can be kept") => StatusCode::UNPROCESSABLE_ENTITY,
        code::BUNDLE_REFUSED if says("lock held") => StatusCode::LOCKED,
        code::BUNDLE_REFUSED => StatusCode::CONFLICT,
        code::RATE_LIMIT => StatusCode::TOO_MANY_REQUESTS,
        code::UNAVAILABLE | code::OVERFLOW => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_the_status_that_web_programs_know() {
        for (code, message, status) in [
            (200, "an address begins with a slash", 400),
            (201, "no param has this address", 404),
            (202, "invalid address", 400),
            (300, "token is not known to this router", 401),
            (301, "no scope of this token allows it", 403),
            (302, "token has expired", 401),
            (400, "revision conflict: expected 1, actual 4", 409),
            (400, "lock held by session 5", 423),
            (400, "conflict: rule Lock keeps the held value", 409),
            (400, "at capacity: no param may be evicted for this one", 507),
            (402, "a merged map holds at most 256 keys", 422),
            (403, "Bundle rejected: no scope of this token allows it", 403),
            (403, "Bundle rejected: revision conflict", 409),
            (403, "Bundle rejected: reserved: below /clasp/ the router speaks", 403),
            (403, "Bundle rejected: invalid address: empty segment ('//')", 400),
            (403, "Bundle rejected: address and value take 9 bytes, at most 8 can be kept", 422),
            (404, "Target session not found", 404),
            (429, "Rate limit exceeded", 429),
            (501, "no session is free on this router", 503),
            (503, "too many bundles at once", 503),
        ] {
            let refused = Refused { code, message: message.into(), address: None };
            let problem = Problem::from(refused);
            assert_eq!(problem.status.as_u16(), status, "{code} {message}");
            assert_eq!(problem.code, Some(code));
        }
    }

    #[test]
    fn a_problem_says_when_to_come_again_and_how_to_say_who_one_is() {
        let limited = Failure::Limited { after: std::time::Duration::from_millis(300) };
        let response = Problem::from(limited).response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let response = Problem::new(StatusCode::UNAUTHORIZED, "who?").response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
}

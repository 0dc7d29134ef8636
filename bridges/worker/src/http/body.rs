//! What stands in the body of a request: a value, and what may be said beside it.

use clasp_rt_bridges::json::JsonError;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value as Json, json};

use super::address::Namespace;
use super::problem::Problem;
use crate::web::talk::{Ask, SetAsk};
use crate::web::{message, value};

/// Reads a body as its `Content-Type` says: JSON where it says nothing, or what `curl -d` says;
/// `text/plain` is JSON too where it can be, else text; `application/octet-stream` is bytes.
/// `None`: nothing is there.
pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Option<Json>, Problem> {
    const NO_TEXT: &str =
        "the body is no UTF-8; bytes are sent with Content-Type: application/octet-stream";
    if body.is_empty() {
        return Ok(None);
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = || std::str::from_utf8(body).map_err(|_| Problem::wrong(NO_TEXT));
    let is_json = kind.is_empty()
        || kind == "application/json"
        || kind == "application/x-www-form-urlencoded"
        || kind.ends_with("+json");
    match kind.as_str() {
        _ if is_json => {
            let json = serde_json::from_str(text()?);
            json.map(Some).map_err(|why| Problem::wrong(format!("the body is no JSON: {why}")))
        }
        "text/plain" => Ok(Some(value::of_text(text()?))),
        "application/octet-stream" => Ok(Some(value::of_bytes(body))),
        other => {
            let need = "a value is application/json, text/plain or application/octet-stream";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("`{other}`: {need}")))
        }
    }
}

/// A SET of `address`: `body` is the value, or an object with the key `value` and, if wanted,
/// `revision`, `lock`, `unlock`, `ttl`.
pub fn set(address: &str, body: Option<Json>) -> Result<SetAsk, Problem> {
    let body = body.ok_or_else(|| {
        Problem::wrong("a value is needed, such as 0.5 or {\"value\": 0.5}, in the body")
    })?;
    Ok(message::set(keys("SET", address, body))?)
}

/// A PUBLISH to `address`: `body` is the value, or an object with any of the keys `signal`,
/// `value`, `samples`, `phase`, and beside them `rate`, `id`, `timestamp`.
pub fn publish(address: &str, body: Option<Json>) -> Result<Ask, Problem> {
    let body = body.unwrap_or_else(|| json!({ "signal": "event" }));
    let frame = message::frame("PUBLISH", keys("PUBLISH", address, body))?;
    Ok(Ask::Publish { frame })
}

/// A BUNDLE: `{"messages": [{"type": "SET", "address", "value"}, ..], "timestamp"?}`, or the bare
/// list. Addresses are those of URLs, without the namespace.
pub fn bundle(namespace: &Namespace, body: Option<Json>) -> Result<Ask, Problem> {
    const NEED: &str = "the body must be a list of messages, or {\"messages\": [{\"type\": \
                        \"SET\", \"address\": \"/a\", \"value\": 1}]}";
    let mut map = match body {
        Some(Json::Object(map)) => map,
        Some(list @ Json::Array(_)) => Map::from_iter([("messages".to_owned(), list)]),
        _ => return Err(Problem::wrong(NEED)),
    };
    let messages = map.get_mut("messages").and_then(Json::as_array_mut);
    for inside in messages.ok_or_else(|| Problem::wrong(NEED))? {
        message::check_in_bundle(inside)?;
        if let Some(Json::String(address)) = inside.get_mut("address") {
            *address = namespace.join(address);
        }
    }
    Ok(Ask::Bundle { frame: message::frame("BUNDLE", map)? })
}

/// The keys of a SET or PUBLISH: those of `body`, or `body` as its value; and its address.
fn keys(kind: &str, address: &str, body: Json) -> Map<String, Json> {
    let mut map = match body {
        Json::Object(map) if is_message(kind, &map) => map,
        value => Map::from_iter([("value".to_owned(), value)]),
    };
    map.insert("address".to_owned(), json!(address));
    map
}

/// Whether an object says what to do, instead of being the value.
fn is_message(kind: &str, map: &Map<String, Json>) -> bool {
    let telling: &[&str] = match kind {
        "SET" => &["value"],
        _ => &["value", "signal", "samples", "phase"],
    };
    telling.iter().any(|key| map.contains_key(*key))
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let status = match error {
            JsonError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Message, Ttl};
    use clasp_rt_core::value::Value;
    use clasp_rt_core::wire::{binary, header};
    use http::HeaderValue;

    use super::*;

    fn body(kind: &'static str, bytes: &[u8]) -> Result<Option<Json>, u16> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        read(&headers, bytes).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn a_body_is_read_as_its_type_says() {
        let bytes = json!({ "$bytes": "00ff" });
        for (kind, sent, read) in [
            ("", &b"0.5"[..], Ok(Some(json!(0.5)))),
            ("application/json; charset=utf-8", b"[1]", Ok(Some(json!([1])))),
            ("application/merge-patch+json", b"{}", Ok(Some(json!({})))),
            ("application/x-www-form-urlencoded", b"true", Ok(Some(json!(true)))),
            ("text/plain", b"go", Ok(Some(json!("go")))),
            ("text/plain", b"1", Ok(Some(json!(1)))),
            ("application/octet-stream", b"\x00\xff", Ok(Some(bytes))),
            ("application/json", b"", Ok(None)),
            ("application/json", b"{", Err(400)),
            ("application/json", b"\xff", Err(400)),
            ("image/png", b"\x89PNG", Err(415)),
        ] {
            assert_eq!(body(kind, sent), read, "{kind}");
        }
    }

    #[test]
    fn a_value_may_stand_alone_or_with_what_is_said_of_it() {
        let bare = set("/a", Some(json!({ "red": 1 }))).expect("a map");
        let value = Value::from_encoded(&bare.value).expect("just encoded");
        assert_eq!(value.get("red").and_then(Value::as_i64), Some(1));
        assert_eq!((bare.revision, bare.lock, bare.ttl), (None, false, None));

        let full = json!({ "value": 0.5, "revision": 3, "lock": true, "ttl": 5 });
        let full = set("/a", Some(full)).expect("a SET");
        assert_eq!(Value::from_encoded(&full.value).expect("one").as_f64(), Some(0.5));
        assert_eq!((full.revision, full.lock, full.ttl), (Some(3), true, Some(Ttl::Sliding(5))));

        let slip = set("/a", Some(json!({ "value": 1, "unit": "dB" }))).expect_err("no such key");
        assert!(slip.detail.contains("unit") && slip.detail.contains("ttl"), "{}", slip.detail);
        assert_eq!(set("/a", None).expect_err("nothing").status, 400);
        assert_eq!(set("/a", Some(json!(u64::MAX))).expect_err("too large").status, 400);
        let long = json!("x".repeat(70_000));
        assert_eq!(set("/a", Some(long)).expect_err("too long").status, 413);
    }

    #[test]
    fn an_emit_is_an_event_unless_it_says_otherwise() {
        for (body, signal, value) in [
            (None, "event", None),
            (Some(json!("go")), "event", Some("go")),
            (Some(json!({ "signal": "stream", "value": "x" })), "stream", Some("x")),
            (Some(json!({ "signal": "gesture", "phase": "start", "id": 2 })), "gesture", None),
        ] {
            let Ok(Ask::Publish { frame, .. }) = publish("/go", body.clone()) else {
                panic!("{body:?}");
            };
            let frame = header::parse(&frame).expect("a frame");
            let Ok(Message::Publish(told)) = binary::decode(frame.payload) else {
                panic!("{body:?}");
            };
            assert_eq!(told.signal.map(|signal| signal.name()), Some(signal));
            assert_eq!(told.value.and_then(Value::as_str), value, "{body:?}");
        }
        let wrong = publish("/go", Some(json!({ "signal": "shout" }))).expect_err("no such one");
        assert!(wrong.detail.contains("event"), "{}", wrong.detail);
    }

    #[test]
    fn a_bundle_holds_what_is_written_and_nothing_else() {
        let below = Namespace::new("/web").expect("an address");
        let list = json!([
            { "type": "SET", "address": "/a", "value": 1 },
            { "op": "emit", "address": "/go" },
        ]);
        for body in [list.clone(), json!({ "messages": list })] {
            let Ok(Ask::Bundle { frame }) = bundle(&below, Some(body)) else { panic!("refused") };
            let frame = header::parse(&frame).expect("a frame");
            let Ok(Message::Bundle(bundle)) = binary::decode(frame.payload) else { panic!("no") };
            let inside: Vec<_> = bundle
                .messages
                .iter()
                .map(|message| match message {
                    Message::Set(set) => format!("SET {}", set.address),
                    Message::Publish(publish) => format!("PUBLISH {}", publish.address),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(inside, ["SET /web/a", "PUBLISH /web/go"]);
        }
        for wrong in [json!(1), json!({}), json!([{ "type": "PING" }]), json!([1])] {
            assert_eq!(bundle(&below, Some(wrong)).expect_err("refused").status, 400);
        }
    }
}

//! What stands in the body of a request: a value, and what may be said beside it.

use clasp_rt_bridges::json::JsonError;
use clasp_rt_core::address;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value as Json, json};

use super::address::Namespace;
use super::problem::Problem;
use crate::web::seats::Failure;
use crate::web::talk::{Ask, SetAsk};
use crate::web::{message, value};

/// The body of a request.
#[derive(Debug, Default)]
pub struct Sent {
    json: Option<Json>,
    /// A whole number in it is longer than the 64 bits that reading leaves whole.
    rounded: Option<JsonError>,
    pub bytes: usize,
}

impl Sent {
    /// What it says, if every number is what was written; `None`: nothing is there.
    pub fn exact(self) -> Result<Option<Json>, Problem> {
        match self.rounded {
            Some(why) => Err(why.into()),
            None => Ok(self.json),
        }
    }
}

/// Reads a body as its `Content-Type` says: JSON where it says nothing, or what `curl -d` says;
/// `text/plain` is JSON too where it can be, else text; `application/octet-stream` is bytes.
pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Sent, Problem> {
    const NO_TEXT: &str =
        "the body is no UTF-8; bytes are sent with Content-Type: application/octet-stream";
    let bytes = body.len();
    if body.is_empty() {
        return Ok(Sent::default());
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = || std::str::from_utf8(body).map_err(|_| Problem::wrong(NO_TEXT));
    let is_json = kind.is_empty()
        || kind == "application/json"
        || kind == "application/x-www-form-urlencoded"
        || kind.ends_with("+json");
    let (json, rounded) = match kind.as_str() {
        _ if is_json => {
            let text = text()?;
            let json = serde_json::from_str(text)
                .map_err(|why| Problem::wrong(format!("the body is no JSON: {why}")))?;
            (json, value::check_text(text).err())
        }
        "text/plain" => match value::of_text(text()?) {
            json @ Json::String(_) => (json, None),
            json => (json, value::check_text(text()?).err()),
        },
        "application/octet-stream" => (value::of_bytes(body), None),
        other => {
            let need = "a value is application/json, text/plain or application/octet-stream";
            let why = format!("`{other}`: {need}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
    };
    Ok(Sent { json: Some(json), rounded, bytes })
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

/// A BUNDLE, and the addresses of its messages as the request has them.
#[derive(Debug)]
pub struct Bundle {
    pub ask: Ask,
    addresses: Vec<String>,
}

impl Bundle {
    /// What the router refused, with the message that is at fault.
    pub fn at_fault(&self, namespace: &Namespace, failure: Failure) -> Problem {
        let Failure::Refused(refused) = &failure else { return failure.into() };
        let told = refused.address.clone();
        let is_told = |address: &&String| told.as_deref() == Some(&namespace.join(address));
        let mut found = self.addresses.iter().enumerate().filter(|(_, address)| is_told(address));
        let (first, more) = (found.next(), found.count());
        let mut problem = Problem::from(failure);
        if let Some(why) = problem.detail.strip_prefix("Bundle rejected: ") {
            problem.detail = why.to_owned();
        }
        match first {
            Some((index, address)) if more == 0 => problem.of_message(index, Some(address)),
            Some((index, address)) => {
                let detail = &problem.detail;
                let detail = format!(
                    "messages[{index}], {address}, or {more} after it with that address: {detail}"
                );
                Problem { detail, address: Some(address.clone()), ..problem }
            }
            None => problem,
        }
    }
}

/// A BUNDLE: `{"messages": [{"type": "SET", "address", "value"}, ..], "timestamp"?}`, or the bare
/// list. Addresses are those of URLs, without the namespace.
pub fn bundle(namespace: &Namespace, sent: Sent) -> Result<Bundle, Problem> {
    const NEED: &str = "the body must be a list of messages, or {\"messages\": [{\"type\": \
                        \"SET\", \"address\": \"/a\", \"value\": 1}]}";
    let mut map = match sent.json {
        Some(Json::Object(map)) => map,
        Some(list @ Json::Array(_)) => Map::from_iter([("messages".to_owned(), list)]),
        _ => return Err(Problem::wrong(NEED)),
    };
    let messages = map.get_mut("messages").and_then(Json::as_array_mut);
    let mut addresses = Vec::new();
    for (index, inside) in messages.ok_or_else(|| Problem::wrong(NEED))?.iter_mut().enumerate() {
        let wrong = |why: JsonError| Problem::from(why).of_message(index, None);
        message::check_in_bundle(inside).map_err(wrong)?;
        // Where it is missing, or no text, the whole is refused below.
        let mut outside = String::new();
        if let Some(Json::String(address)) = inside.get_mut("address") {
            let joined = namespace.join(address);
            outside = std::mem::replace(address, joined);
            // Joined without its slash it would be an address outside the namespace.
            let checked = address::check(&outside).and_then(|()| address::check(address));
            checked
                .map_err(|why| Problem::wrong(why.to_string()).of_message(index, Some(&outside)))?;
        }
        addresses.push(outside);
    }
    map.insert("type".to_owned(), json!("BUNDLE"));
    let whole = Json::Object(map);
    let frame = message::frame_of(&whole).map_err(|why| at_fault(&whole, &addresses, why))?;
    match sent.rounded {
        Some(why) => Err(why.into()),
        None => Ok(Bundle { ask: Ask::Bundle { frame }, addresses }),
    }
}

/// Which message of a bundle that says nothing is the one that alone says nothing, too.
fn at_fault(whole: &Json, addresses: &[String], why: JsonError) -> Problem {
    let messages = whole.get("messages").and_then(Json::as_array).into_iter().flatten();
    let mut alone =
        messages.zip(addresses).enumerate().filter_map(|(index, (message, address))| {
            let why = message::frame_of(message).err()?;
            let address = Some(address.as_str()).filter(|address| !address.is_empty());
            Some(Problem::from(why).of_message(index, address))
        });
    alone.next().unwrap_or_else(|| why.into())
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

/// What was made here, and not sent.
impl From<Json> for Sent {
    fn from(json: Json) -> Self {
        Self { json: Some(json), ..Self::default() }
    }
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
    use crate::web::talk::Refused;

    fn body(kind: &'static str, bytes: &[u8]) -> Result<Option<Json>, u16> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let sent = read(&headers, bytes).and_then(Sent::exact);
        sent.map_err(|problem| problem.status.as_u16())
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
            ("text/plain", b"18446744073709551616", Err(400)),
            ("", b"[-9223372036854775809]", Err(400)),
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
            let bundle = bundle(&below, body.into()).expect("a bundle");
            let Ask::Bundle { frame } = bundle.ask else { panic!("no bundle") };
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
            assert_eq!(bundle(&below, wrong.into()).expect_err("refused").status, 400);
        }
    }

    #[test]
    fn a_bundle_says_which_of_its_messages_is_at_fault() {
        let below = Namespace::new("/web").expect("an address");
        let set = |address: &str| json!({ "type": "SET", "address": address, "value": 1 });
        let good = set("/a");
        let slip = json!({ "type": "SET", "address": "/b", "value": 1, "tll": 2 });
        for (wrong, address, says) in [
            (set("/a//b"), Some("/a//b"), "empty segment"),
            (set("outside"), Some("outside"), "begin with '/'"),
            (set("/a/*"), Some("/a/*"), "'*' is for patterns"),
            (slip, Some("/b"), "`tll`"),
            (json!({ "type": "SET", "value": 1 }), None, "`address`"),
            (json!({ "type": "SET", "address": 1, "value": 1 }), None, "address"),
            (json!({ "type": "GET", "address": "/a" }), None, "GESTURE"),
        ] {
            let problem = bundle(&below, json!([good, wrong]).into()).expect_err("refused");
            assert_eq!((problem.status.as_u16(), problem.index), (400, Some(1)), "{problem:?}");
            assert_eq!(problem.address.as_deref(), address, "{problem:?}");
            assert!(problem.detail.starts_with("messages[1]"), "{problem:?}");
            assert!(problem.detail.contains(says), "{problem:?}");
        }
        let late = json!({ "messages": [good], "timestamp": "soon" });
        assert_eq!(bundle(&below, late.into()).expect_err("refused").index, None);
    }

    #[test]
    fn what_the_router_refuses_of_a_bundle_is_told_with_its_message() {
        let below = Namespace::new("/web").expect("an address");
        let set = |address: &str| json!({ "type": "SET", "address": address, "value": 1 });
        let sent = json!([set("/a"), set("/b"), set("/a")]);
        let sent = bundle(&below, sent.into()).expect("a bundle");
        for (address, index, says) in [
            (Some("/web/b"), Some(1), "messages[1], /b: no"),
            (Some("/web/a"), None, "messages[0], /a, or 1 after it with that address: no"),
            (None, None, "no"),
        ] {
            let (message, address) = ("Bundle rejected: no".to_owned(), address.map(str::to_owned));
            let refused = Refused { code: 400, message, address };
            let problem = sent.at_fault(&below, Failure::Refused(refused));
            assert_eq!((problem.index, problem.detail.as_str()), (index, says));
            assert_eq!(problem.status.as_u16(), 409);
        }
    }
}

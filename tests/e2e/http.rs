//! HTTP as web programs use it: curl asks, streams and polls; clients of the router see it.

use std::net::SocketAddr;
use std::process::Command;

use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use clasp_rt_tests::{eventually, raw::Raw};
use serde_json::{Value as Json, json};

const HTTP: &str = "[[bridge]]\ntype = \"http\"\nbind = \"127.0.0.1:0\"\n";

/// What curl got.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{}: {why}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = named.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

/// `curl ARGUMENTS http://HOST/PATH`
fn curl(host: SocketAddr, path: &str, arguments: &[&str]) -> Got {
    let url = format!("http://{host}{path}");
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "15", "--globoff"]).args(arguments).arg(url);
    let output = run(&mut command);
    let text = String::from_utf8(output.stdout).expect("text");
    // The lines of `run` end as ours do.
    let text = text.replace("\r\n", "\n").replace('\r', "");
    let mut rest = text.as_str();
    // What a `100 Continue` said comes before.
    loop {
        let (head, body) = rest.split_once("\n\n").unwrap_or((rest, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| {
            panic!("{path} {arguments:?}: {rest:?} {}", String::from_utf8_lossy(&output.stderr))
        });
        if status != 100 {
            return Got { status, head: head.to_owned(), body: body.trim_end().to_owned() };
        }
        rest = body;
    }
}

fn put(host: SocketAddr, path: &str, body: &str) -> Got {
    curl(host, path, &["-X", "PUT", "-d", body])
}

fn router() -> (Router, SocketAddr) {
    let router = Router::with_config(HTTP, &[]);
    let host = router.served("http://");
    (router, host)
}

const TOKENS: &str = "cpsk_all admin:/**\ncpsk_a read:/a/**,write:/a/**\ncpsk_r read:/a/**\n";

#[test]
fn what_is_put_is_got_under_the_same_url_and_everybody_sees_it() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    for (path, address) in [
        ("/v1/state/lights/1", "/lights/1"),
        ("/api/lights/2", "/lights/2"),
        ("/v1/state/b%C3%BChne/a%20b", "/bühne/a b"),
    ] {
        assert_eq!(curl(host, path, &[]).status, 404, "{path}");
        let first = put(host, path, "0.5");
        assert_eq!((first.status, first.header("etag")), (201, Some("\"1\"")), "{path}");
        assert_eq!(first.json(), json!({"address": address, "revision": 1}));
        let set = client.receive_type("SET");
        assert_eq!((&set["address"], &set["value"]), (&json!(address), &json!(0.5)));
        let second = put(host, path, r#"{"value": {"red": 1, "name": "é"}}"#);
        assert_eq!((second.status, second.header("etag")), (200, Some("\"2\"")));
        let got = curl(host, path, &[]);
        assert_eq!((got.status, got.header("etag")), (200, Some("\"2\"")), "{path}");
        let param = got.json();
        assert_eq!(param["value"], json!({"red": 1, "name": "é"}), "{path}");
        assert_eq!((&param["revision"], &param["address"]), (&json!(2), &json!(address)));
        assert!(param["timestamp"].is_u64() && param["writer"].is_string(), "{param}");
        client.receive_type("SET");
    }
    client.ask(json!({"type": "SET", "address": "/lights/1", "value": [1, "two"]}));
    assert_eq!(curl(host, "/v1/state/lights/1", &[]).json()["value"], json!([1, "two"]));
    let text = curl(host, "/api/t", &["-X", "PUT", "-H", "content-type: text/plain", "-d", "go"]);
    assert_eq!(text.status, 201);
    assert_eq!(curl(host, "/api/t", &[]).json()["value"], "go");
}

#[test]
fn a_revision_is_an_entity_tag() {
    let (_router, host) = router();
    let path = "/v1/state/a";
    let with = |method: &str, header: &str, body: &str| {
        let arguments = ["-X", method, "-H", header, "-d", body];
        curl(host, path, if method == "GET" { &arguments[..4] } else { &arguments })
    };
    assert_eq!(with("PUT", "If-Match: *", "1").status, 412, "there is none");
    assert_eq!(with("PUT", "If-Match: \"1\"", "1").status, 412, "there is none");
    assert_eq!(with("PUT", "If-None-Match: *", "1").status, 201);
    assert_eq!(with("PUT", "If-None-Match: *", "2").status, 412, "there is one");
    assert_eq!(with("PUT", "If-Match: \"1\"", "2").status, 200);
    assert_eq!(with("PUT", "If-Match: \"1\"", "3").status, 412);
    assert_eq!(with("PUT", "If-Match: \"7\", \"2\"", "3").status, 200);
    assert_eq!(with("GET", "If-None-Match: \"3\"", "").status, 304);
    assert_eq!(with("GET", "If-None-Match: \"2\"", "").json()["value"], 3);
    assert_eq!(with("DELETE", "If-Match: \"2\"", "").status, 412);
    assert_eq!(put(host, path, r#"{"value": 4, "revision": 1}"#).status, 409);
    assert_eq!(put(host, path, r#"{"value": 4, "revision": 3}"#).status, 200);
    assert_eq!(with("PUT", "If-Match: 4", "5").status, 400, "a tag has quotes");
    assert_eq!(curl(host, path, &[]).json()["revision"], 4);
}

#[test]
fn what_is_deleted_is_gone_at_once_and_can_be_written_again() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    put(host, "/v1/state/a/x", "1");
    put(host, "/v1/state/a/y", "2");
    put(host, "/v1/state/b", "3");
    assert_eq!(curl(host, "/v1/state/a/x", &["-X", "DELETE"]).status, 204);
    let null = client.receive_where(|m| m["type"] == "SET" && m["value"].is_null());
    assert_eq!(null["address"], "/a/x", "subscribers hear of it");
    assert_eq!(curl(host, "/v1/state/a/x", &[]).status, 404);
    assert_eq!(curl(host, "/v1/state/a/x", &["-X", "DELETE"]).status, 404);
    let left = curl(host, "/v1/snapshot", &[]).json();
    assert_eq!(left["count"], 2, "{left}");
    assert_eq!(put(host, "/v1/state/a/x", "9").status, 200);
    assert_eq!(curl(host, "/v1/state/a/x", &[]).json()["value"], 9);
    let gone = curl(host, "/v1/state/a/*", &["-X", "DELETE"]);
    assert_eq!((gone.status, gone.json()), (200, json!({"count": 2})));
    let left = curl(host, "/v1/snapshot/a", &[]).json();
    assert_eq!(left, json!({"count": 0, "params": []}));
    eventually("the router lets go", || {
        let answers = client.ask(json!({"type": "GET", "address": "/a/y"}));
        answers.iter().any(|answer| answer["code"] == 201).then_some(())
    });
}

#[test]
fn patterns_are_read_and_written_as_one_and_bundles_are_all_or_nothing() {
    let (router, host) = router();
    let mut client = router.join("client");
    for (address, value) in [("/r/1/on", 0), ("/r/2/on", 0), ("/r/1/dim", 5)] {
        client.ask(json!({"type": "SET", "address": address, "value": value}));
    }
    let addresses = |got: Got| -> Vec<String> {
        let json = got.json();
        let params = json["params"].as_array().expect("params").iter();
        let mut all: Vec<_> = params.map(|p| p["address"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(addresses(curl(host, "/v1/snapshot", &[])), ["/r/1/dim", "/r/1/on", "/r/2/on"]);
    assert_eq!(addresses(curl(host, "/v1/snapshot/r/1", &[])), ["/r/1/dim", "/r/1/on"]);
    assert_eq!(addresses(curl(host, "/v1/snapshot/r/*/on", &[])), ["/r/1/on", "/r/2/on"]);
    assert_eq!(addresses(curl(host, "/v1/state/r/2/**", &[])), ["/r/2/on"]);
    let set = put(host, "/v1/state/r/*/on", "1");
    assert_eq!((set.status, set.json()), (200, json!({"count": 2})));
    let signals = curl(host, "/api/signals", &[]).json();
    assert_eq!(signals["count"], 3);
    let on = signals["signals"].as_array().expect("signals").iter();
    assert_eq!(on.filter(|s| s["value"] == 1).count(), 2, "{signals}");

    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/r/**", "types": ["event"]}));
    let good = r#"[{"type":"SET","address":"/r/1/dim","value":6},{"op":"emit","address":"/r/go"}]"#;
    let applied = curl(host, "/v1/bundle", &["-d", good]);
    assert_eq!((applied.status, applied.json()), (200, json!({"revision": 2})));
    assert_eq!(client.receive_type("PUBLISH")["address"], "/r/go");
    let half = r#"{"messages":[{"type":"SET","address":"/r/1/dim","value":7},
        {"type":"SET","address":"/r/2/on","value":7,"revision":1}]}"#;
    let refused = curl(host, "/v1/bundle", &["-d", half]);
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(curl(host, "/v1/state/r/1/dim", &[]).json()["value"], 6);
}

#[test]
fn an_emit_reaches_whoever_listens() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/**"}));
    for (path, body, signal, value) in [
        ("/v1/emit/cue/go", "12", "event", json!(12)),
        ("/api/cue/go", r#"{"value": "x"}"#, "event", json!("x")),
        ("/v1/emit/s", r#"{"signal": "stream", "value": 0.25}"#, "stream", json!(0.25)),
        ("/v1/emit/g", r#"{"signal": "gesture", "phase": "start"}"#, "gesture", Json::Null),
    ] {
        let got = curl(host, path, &["-X", "POST", "-d", body]);
        assert_eq!(got.status, 202, "{path}: {}", got.body);
        let heard = client.receive_type("PUBLISH");
        assert_eq!((&heard["signal"], &heard["value"]), (&json!(signal), &value), "{heard}");
    }
    assert_eq!(curl(host, "/v1/emit/bang", &["-X", "POST"]).status, 202);
    assert_eq!(client.receive_type("PUBLISH")["address"], "/bang");
    assert_eq!(curl(host, "/v1/state/cue/go", &[]).status, 404, "an event is not kept");
}

#[test]
fn tokens_scopes_and_locks_are_the_routers() {
    let tokens = TempFile::new("tokens", TOKENS);
    let arguments = ["--auth-mode", "authenticated", "--token-file"];
    let path = tokens.path.to_str().expect("text");
    let router = Router::with_config(HTTP, &[&arguments[..], &[path]].concat());
    let host = router.served("http://");
    let of = |token: &str, method: &str, path: &str| {
        let header = format!("Authorization: Bearer {token}");
        let body: &[&str] = if method == "PUT" { &["-d", "1"] } else { &[] };
        curl(host, path, &[&["-X", method, "-H", &header][..], body].concat())
    };
    let nobody = curl(host, "/v1/state/a/x", &[]);
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(of("wrong", "GET", "/v1/state/a/x").status, 401);
    assert_eq!(curl(host, "/v1/state/a/x", &["-H", "Authorization: Basic eA=="]).status, 401);
    assert_eq!(curl(host, "/v1/health", &[]).status, 200, "whether it is there may be asked");
    assert_eq!(of("cpsk_a", "PUT", "/v1/state/a/x").status, 201);
    let forbidden = of("cpsk_a", "PUT", "/v1/state/b");
    assert_eq!((forbidden.status, &forbidden.json()["code"]), (403, &json!(301)));
    assert_eq!(of("cpsk_r", "GET", "/v1/state/a/x").status, 200);
    assert_eq!(of("cpsk_r", "PUT", "/v1/state/a/x").status, 403);
    assert_eq!(of("cpsk_r", "GET", "/v1/state/b").status, 403);
    assert_eq!(of("cpsk_r", "POST", "/v1/emit/a/x").status, 403);
    assert_eq!(of("cpsk_r", "GET", "/v1/snapshot/a").json()["count"], 1);
    assert_eq!(of("cpsk_r", "GET", "/v1/snapshot").status, 403);
    assert_eq!(curl(host, "/v1/poll?pattern=/a/**&wait=0", &[]).status, 401);
    assert_eq!(curl(host, "/v1/poll?pattern=/b&wait=0&token=cpsk_r", &[]).status, 403);
    assert_eq!(curl(host, "/v1/poll?pattern=/a/**&wait=0&token=cpsk_r", &[]).status, 200);

    let mut holder = Raw::connect(router.address());
    holder.hello(json!({"type": "HELLO", "name": "holder", "token": "cpsk_all"}));
    holder.ask(json!({"type": "SET", "address": "/a/x", "value": 1, "lock": true}));
    let locked = of("cpsk_a", "PUT", "/v1/state/a/x");
    assert_eq!(locked.status, 423, "{}", locked.body);
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let config = format!("{HTTP}body_bytes_max = 1000\nstreams_max = 1\n");
    let router = Router::with_config(&config, &[]);
    let host = router.served("http://");
    let long = format!("\"{}\"", "x".repeat(1000));
    let headers = format!("x: {}", "y".repeat(20_000));
    let put = ["-X", "PUT", "-d"];
    for (path, arguments, status, said) in [
        ("/v1/state/a//b", vec![], 400, "empty segment"),
        ("/v1/state/a%2Fb", vec![], 400, "slash"),
        ("/v1/state/a", vec![put[0], put[1], put[2], "{"], 400, "no JSON"),
        ("/v1/state/a", vec![put[0], put[1]], 400, "0.5"),
        ("/v1/state/a", vec![put[0], put[1], put[2], r#"{"value":1,"tll":2}"#], 400, "ttl"),
        ("/v1/state/a", vec![put[0], put[1], put[2], "9223372036854775808"], 400, "2^63"),
        ("/v1/state/a", vec![put[0], put[1], put[2], "18446744073709551616"], 400, "1e19"),
        ("/v1/emit/a", vec!["-d", r#"{"value":-9223372036854775809}"#], 400, "-922337203"),
        (
            "/v1/state/a",
            vec![put[0], put[1], put[2], &long],
            413,
            "1000 bytes here; this one has 1002",
        ),
        (
            "/v1/state/a",
            vec![put[0], put[1], "-T", "/dev/null", "-H", "content-type: a/b"],
            400,
            "",
        ),
        ("/v1/state/a", vec!["-X", "PATCH"], 405, "Allow"),
        ("/v2/state/a", vec![], 404, "/v1/state/{address}"),
        ("/v1/bundle", vec!["-d", r#"[{"type":"PING"}]"#], 400, "EMIT"),
        ("/v1/stream?pattern=a", vec![], 400, "/lights/**"),
    ] {
        let got = curl(host, path, &arguments);
        assert_eq!(got.status, status, "{path} {arguments:?}: {}", got.body);
        let problem = got.json();
        assert_eq!(got.header("content-type"), Some("application/problem+json"));
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(said), "{path} {arguments:?}: {detail}");
    }
    assert_eq!(curl(host, "/v1/state/a", &["-H", &headers]).status, 431);
    let chunked = ["-X", "PUT", "-d", &long, "-H", "transfer-encoding: chunked"];
    let chunked = curl(host, "/v1/state/a", &chunked).json();
    let detail = "a body has at most 1000 bytes here; this one has more";
    assert_eq!((&chunked["status"], &chunked["detail"]), (&json!(413), &json!(detail)));
    let allowed = curl(host, "/v1/state/a", &["-X", "PATCH"]);
    assert!(allowed.header("allow").expect("Allow").contains("DELETE"));

    let mut one = stream(host, "/v1/stream?pattern=/**", &[]);
    wait_for(&mut one, "event: ready");
    let full = curl(host, "/v1/poll?pattern=/**&wait=0", &[]);
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    one.kill();
    eventually("its place is free", || {
        (curl(host, "/v1/poll?pattern=/**&wait=0", &[]).status == 200).then_some(())
    });
}

#[test]
fn a_bundle_that_is_refused_says_which_of_its_messages_is_at_fault() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/held", "value": 1}));
    for (address, more, status, code, says) in [
        ("/a//b", json!({}), 400, Json::Null, "empty segment"),
        ("/a", json!({"value": 18_446_744_073_709_551_615_u64}), 400, Json::Null, "2^63"),
        ("/held", json!({"revision": 7}), 409, json!(400), "expected 7, actual 1"),
        ("/clasp/duel", json!({}), 403, json!(403), "reserved"),
    ] {
        let mut wrong = json!({"type": "SET", "address": address, "value": 2});
        for (key, value) in more.as_object().expect("keys") {
            wrong[key] = value.clone();
        }
        let sent = json!([{"type": "SET", "address": "/fine", "value": 1}, wrong]).to_string();
        let got = curl(host, "/v1/bundle", &["-d", &sent]);
        assert_eq!(got.status, status, "{}", got.body);
        assert_eq!(got.header("content-type"), Some("application/problem+json"));
        let problem = got.json();
        assert_eq!((&problem["index"], &problem["address"]), (&json!(1), &json!(address)));
        assert_eq!((&problem["code"], &problem["status"]), (&code, &json!(status)));
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with(&format!("messages[1], {address}: ")), "{detail}");
        assert!(detail.contains(says), "{detail}");
    }
    assert_eq!(curl(host, "/v1/state/fine", &[]).status, 404, "all or nothing");
    let long = json!([{"type": "SET", "address": "/a", "value": "x".repeat(70_000)}]).to_string();
    let says = format!("has {} bytes", long.len());
    let long = TempFile::new("json", &long);
    let sent = format!("@{}", long.path.display());
    let got = curl(host, "/v1/bundle", &["-d", &sent]);
    assert_eq!((got.status, &got.json()["index"]), (413, &json!(0)));
    let detail = got.json()["detail"].to_string();
    assert!(detail.contains("65535 bytes") && detail.contains(&says), "{detail}");
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_again() {
    let router = Router::with_config(HTTP, &["--rate-limit", "5"]);
    let host = router.served("http://");
    let limited = eventually("the limit", || {
        let got = put(host, "/v1/state/a", "1");
        (got.status == 429).then_some(got)
    });
    assert_eq!(limited.header("retry-after"), Some("1"));
    eventually("it is over", || (put(host, "/v1/state/a", "1").status == 200).then_some(()));
}

/// A curl that prints what comes, line by line.
fn stream(host: SocketAddr, path: &str, arguments: &[&str]) -> Program {
    let url = format!("http://{host}{path}");
    let mut command = Command::new("curl");
    Program::start(command.args(["-sSN", "--globoff"]).args(arguments).arg(url))
}

fn wait_for(stream: &mut Program, line: &str) {
    stream.line_where(|found| found == line);
}

/// The next event that `wanted` accepts: its id, kind and data.
fn event(stream: &Program) -> (String, String, Json) {
    let mut id = String::new();
    let mut kind = String::new();
    loop {
        let line = stream.line().expect("the stream goes on");
        if let Some(found) = line.strip_prefix("id: ") {
            id = found.to_owned();
        } else if let Some(found) = line.strip_prefix("event: ") {
            kind = found.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (id, kind, serde_json::from_str(data).expect("JSON"));
        }
    }
}

#[test]
fn a_stream_tells_what_is_and_what_changes_and_goes_on_after_a_break() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/a/1", "value": 1}));
    let path = "/v1/stream?pattern=/a/**";
    let mut page = stream(host, path, &[]);
    assert_eq!(page.line().as_deref(), Some("retry: 2000"));
    let (_, kind, data) = event(&page);
    assert_eq!(
        (kind.as_str(), &data["address"], &data["value"]),
        ("set", &json!("/a/1"), &json!(1))
    );
    assert_eq!(event(&page).1, "ready");
    client.ask(json!({"type": "SET", "address": "/a/2", "value": 2}));
    client.ask(json!({"type": "PUBLISH", "signal": "event", "address": "/a/go", "value": "now"}));
    client.ask(json!({"type": "PUBLISH", "signal": "event", "address": "/b/go"}));
    let (_, kind, data) = event(&page);
    assert_eq!(
        (kind.as_str(), data),
        ("set", json!({"address": "/a/2", "value": 2, "revision": 1}))
    );
    let (last, kind, data) = event(&page);
    assert_eq!((kind.as_str(), &data["value"]), ("event", &json!("now")));
    page.kill();
    // While nobody reads: two values of one param, of which the newest is told, and an event.
    for value in [3, 4] {
        client.ask(json!({"type": "SET", "address": "/a/2", "value": value}));
    }
    client
        .ask(json!({"type": "PUBLISH", "signal": "event", "address": "/a/go", "value": "missed"}));
    let header = format!("Last-Event-ID: {last}");
    let page = stream(host, path, &["-H", &header]);
    assert_eq!(event(&page).2["value"], 4);
    assert_eq!(event(&page).2["value"], "missed");
    client.ask(json!({"type": "PUBLISH", "signal": "event", "address": "/a/go", "value": "live"}));
    assert_eq!(event(&page).2["value"], "live");
    // An id of somebody else's subscription, or of none, is given all anew.
    let page = stream(host, path, &["-H", "Last-Event-ID: 0123456789abcdef-7"]);
    let first = [event(&page).2["address"].clone(), event(&page).2["address"].clone()];
    assert!(first.contains(&json!("/a/1")) && first.contains(&json!("/a/2")), "{first:?}");
    assert_eq!(event(&page).1, "ready");
}

#[test]
fn a_poll_tells_all_at_first_and_then_what_is_new() {
    let (router, host) = router();
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/a/1", "value": 1}));
    let path = "/v1/poll?pattern=/a/**&types=param,event";
    let first = curl(host, path, &[]).json();
    assert_eq!(
        (&first["reset"], first["events"].as_array().map(Vec::len)),
        (&json!(true), Some(1))
    );
    let last = first["last_id"].as_str().expect("an id");
    let nothing = curl(host, &format!("{path}&last_id={last}&wait=0"), &[]).json();
    assert_eq!((&nothing["reset"], &nothing["events"]), (&json!(false), &json!([])));
    // One that waits is answered when something comes.
    let waiting = stream(host, &format!("{path}&last_id={last}&wait=20"), &[]);
    client.ask(json!({"type": "SET", "address": "/a/1", "value": 2}));
    let line = waiting.line().expect("an answer");
    let told: Json = serde_json::from_str(&line).expect("JSON");
    let want = json!({"address": "/a/1", "value": 2, "revision": 2});
    assert_eq!((&told["events"][0]["event"], &told["events"][0]["data"]), (&json!("set"), &want));
}

#[test]
fn pages_of_named_origins_may_ask_and_others_may_not() {
    let config = format!("{HTTP}origins = [\"https://show.example\"]\n");
    let router = Router::with_config(&config, &[]);
    let host = router.served("http://");
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let method = "Access-Control-Request-Method: PUT";
        let wanted = "Access-Control-Request-Headers: authorization,if-match,content-type";
        let head = ["-X", "OPTIONS", "-H", &origin, "-H", method, "-H", wanted];
        curl(host, "/v1/state/a", &head)
    };
    let allowed = preflight("https://show.example");
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://show.example"));
    let methods = allowed.header("access-control-allow-methods").expect("methods");
    assert!(methods.contains("PUT") && methods.contains("DELETE"), "{methods}");
    let headers = allowed.header("access-control-allow-headers").expect("headers");
    assert!(headers.contains("authorization") && headers.contains("if-match"), "{headers}");
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    let got = curl(host, "/v1/health", &["-H", "Origin: https://show.example"]);
    assert_eq!(got.header("access-control-allow-origin"), Some("https://show.example"));
    assert!(got.header("access-control-expose-headers").expect("exposed").contains("etag"));
    // What a browser asks for without a preflight is refused, too.
    let emit = |origin: &str| {
        let (origin, plain) = (format!("Origin: {origin}"), "Content-Type: text/plain");
        curl(host, "/v1/emit/go", &["-H", &origin, "-H", plain, "-d", "1"]).status
    };
    assert_eq!(emit("https://evil.example"), 403);
    assert_eq!(emit("https://show.example"), 202);
    assert_eq!(emit(&format!("http://{host}")), 202, "a page of the service itself");
}

#[test]
fn the_openapi_document_is_valid_and_every_answer_is_as_it_says() {
    let router = Router::with_config(HTTP, &["--rate-limit", "0"]);
    let url = format!("http://{}/v1/openapi.json", router.served("http://"));
    let said = Command::new("curl").args(["-sS", &url]).output().expect("curl runs").stdout;
    let file = TempFile::new("json", &String::from_utf8(said).expect("text"));
    let mut valid = Command::new(installed("peers/venv/bin/openapi-spec-validator"));
    let valid = run(valid.arg(&file.path));
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stdout));
    // Made requests, right and wrong ones; streams and polls take their time by design.
    let mut made = Command::new(installed("peers/venv/bin/schemathesis"));
    made.args(["run", &url, "--seed", "1", "--max-examples", "3", "--phases", "coverage"]);
    made.args(["--exclude-path", "/v1/stream", "--exclude-path", "/v1/poll"]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_schema_conformance";
    made.args(["--checks", checks]);
    let made = run(made.current_dir(std::env::temp_dir()));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
}

#[test]
fn it_also_serves_a_router_elsewhere_and_outlives_it() {
    let router = Router::start(&[]);
    let url = router.url();
    let mut command = Command::new(clasp_rt());
    command.args(["http", "--bind", "127.0.0.1", "--port", "0", "--namespace", "/web"]);
    let http = Program::start(command.args(["--router", &url]));
    let line = http.line_where(|line| line.starts_with("listening http://"));
    let host = line.trim_start_matches("listening http://").parse().expect("an address");
    assert_eq!(put(host, "/v1/state/a", "1").status, 201);
    let mut client = router.join("client");
    client.ask(json!({"type": "SET", "address": "/web/b", "value": 2}));
    client.ask(json!({"type": "SET", "address": "/other", "value": 3}));
    let answers = client.ask(json!({"type": "GET", "address": "/web/a"}));
    assert_eq!(answers[0]["params"][0]["value"], 1, "{answers:?}");
    let all = curl(host, "/v1/snapshot", &[]).json();
    assert_eq!(all["count"], 2, "nothing outside the namespace: {all}");
    assert_eq!(curl(host, "/v1/state/b", &[]).json()["address"], "/b");
    drop(client);
    let router = router.restart();
    assert_eq!(put(host, "/v1/state/a", "5").status, 201, "a new router, a first revision");
    router.terminate();
    let gone = curl(host, "/v1/health", &[]);
    assert_eq!((gone.status, gone.header("retry-after")), (503, Some("2")));
}

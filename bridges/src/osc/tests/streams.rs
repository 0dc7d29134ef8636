//! OSC over TCP, and OSCQuery, as peers of a bridge see them.

use clasp_rt_core::value::{push_f64, push_i64};
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{Event, Transport};
use serde_json::{Value as Json, json};

use super::super::framing::{Framing, wrap};
use super::*;

const LISTENING: &str = "listen_tcp = \"127.0.0.1:9000\"\n";
const SERVING: &str = "oscquery = \"127.0.0.1:8080\"\n";
const FRAMINGS: [Framing; 2] = [Framing::Length, Framing::Slip];

fn wrapped(framing: Framing, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wrap(framing, packet, &mut out);
    out
}

#[test]
fn streams_of_other_programs_become_the_messages_beside_them() {
    let count = vectors::each("osc-tcp", |bytes, expected| {
        for chunk in [1, 5, 1_000] {
            let mut rig = rig(LISTENING);
            let stream = rig.open(0);
            bytes.chunks(chunk).for_each(|bytes| rig.bytes(stream, bytes));
            assert_eq!(rig.said.take_lines().join("\n"), expected, "by {chunk}");
            assert_eq!(rig.bridge.counters().malformed, 0);
        }
    });
    assert!(count >= 3, "{count} streams");
}

#[test]
fn callers_are_told_in_the_framing_that_they_speak() {
    let mut rig = rig(LISTENING);
    let callers = FRAMINGS.map(|framing| (framing, rig.open(0)));
    let silent = rig.open(0);
    rig.set("/osc/early", |out| push_i64(out, 1));
    for (framing, caller) in callers {
        rig.bytes(caller, &wrapped(framing, &message("/hello", &[Argument::Int(7)])));
    }
    assert_eq!(rig.said.take_lines(), ["SET /osc/hello 7", "SET /osc/hello 7"]);
    rig.set("/osc/x", |out| push_f64(out, 0.5));
    let [(length, first), (slip, second)] = callers;
    // The first hears what the second said; nobody hears himself.
    assert_eq!(rig.told(first, length), ["/hello ,i Int(7)", "/x ,f Float(0.5)"]);
    assert_eq!(rig.told(second, slip), ["/x ,f Float(0.5)"]);
    assert_eq!(rig.said.streams[&silent].len(), 0, "nobody knows how to tell it");
    rig.step(Input::Ended { stream: first });
    rig.set("/osc/x", |out| push_f64(out, 0.75));
    assert_eq!(rig.said.streams[&first].len(), 0);
    assert_eq!(rig.told(second, slip), ["/x ,f Float(0.75)"]);
}

#[test]
fn a_stream_that_is_no_osc_is_ended() {
    let too_long = [0, 1, 0, 0, b'/'];
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &too_long] {
        let mut rig = rig(LISTENING);
        let stream = rig.open(0);
        rig.bytes(stream, bytes);
        assert_eq!(rig.said.ended, [stream]);
        assert_eq!(rig.bridge.counters().malformed, 1);
        // What still comes is for nobody.
        rig.bytes(stream, &wrapped(Framing::Length, &message("/x", &[])));
        assert_eq!(rig.said.frames.len(), 0);
    }
}

#[test]
fn a_target_over_tcp_is_told_everything_when_it_comes_and_comes_back() {
    for (scheme, framing) in [("tcp", Framing::Length), ("slip", Framing::Slip)] {
        let mut rig = rig(&format!("targets = [\"{scheme}://10.0.0.2:9000\"]"));
        let to = "10.0.0.2:9000".to_string();
        assert_eq!(rig.bridge.streams(), [StreamPlan::Connect { to }]);
        rig.set("/osc/a", |out| push_i64(out, 1));
        rig.set("/osc/b", |out| push_i64(out, 2));
        for _ in 0..2 {
            let stream = rig.open(0);
            assert_eq!(rig.told(stream, framing), ["/a ,i Int(1)", "/b ,i Int(2)"]);
            rig.step(Input::Ended { stream });
        }
        let stream = rig.open(0);
        rig.told(stream, framing);
        rig.set("/osc/a", |out| push_i64(out, 3));
        assert_eq!(rig.told(stream, framing), ["/a ,i Int(3)"]);
    }
}

#[test]
fn a_peer_that_does_not_read_is_told_the_newest_values_once_it_does() {
    let mut rig = rig(LISTENING);
    let caller = rig.open(0);
    rig.bytes(caller, &wrapped(Framing::Slip, &message("/hello", &[Argument::Int(7)])));
    rig.said.room = Some(0);
    for number in 0..100 {
        rig.set("/osc/x", |out| push_i64(out, number));
        rig.set("/osc/y", |out| push_i64(out, number));
    }
    rig.wait(Span::from_secs(3));
    assert_eq!(rig.said.streams[&caller].len(), 0);
    assert_eq!(rig.bridge.counters().dropped, 200);
    rig.said.room = None;
    rig.wait(Span::from_millis(50));
    let told = ["/hello ,i Int(7)", "/x ,i Int(99)", "/y ,i Int(99)"];
    assert_eq!(rig.told(caller, Framing::Slip), told);
    rig.wait(Span::from_secs(3));
    assert_eq!(rig.told(caller, Framing::Slip), [""; 0], "it is told once");
    assert_eq!(rig.bridge.deadline(), None, "nobody is behind");
}

#[test]
fn a_question_over_tcp_is_answered_there() {
    let mut rig = rig(&format!("{LISTENING}query = true"));
    rig.set("/osc/x", |out| push_f64(out, 0.5));
    let caller = rig.open(0);
    rig.bytes(caller, &wrapped(Framing::Length, &message("/x", &[])));
    assert_eq!(rig.told(caller, Framing::Length), ["/x ,f Float(0.5)"]);
    assert_eq!(rig.said.frames.len(), 0);
}

/// Sends a request and gives the status and the body of the answer.
fn get(rig: &mut Rig, stream: StreamId, target: &str) -> (u16, Json) {
    rig.bytes(stream, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    answer(rig, stream)
}

fn answer(rig: &mut Rig, stream: StreamId) -> (u16, Json) {
    let bytes = rig.said.streams.insert(stream, Vec::new()).expect("a stream");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(len.map_or(0, |len| len.parse().expect("a number")), body.len(), "{text}");
    let json = if body.is_empty() { Json::Null } else { serde_json::from_str(body).expect(body) };
    (status.expect("a status"), json)
}

#[test]
fn addresses_are_served_as_json_on_one_connection() {
    let mut rig = rig(SERVING);
    rig.set("/osc/1/fader1", |out| push_f64(out, 0.5));
    rig.receive(TABLET, &message("/1/colour", &[Argument::Colour([255, 0, 0, 255])]));
    let stream = rig.open(0);
    let (status, root) = get(&mut rig, stream, "/");
    let one = &root["CONTENTS"]["1"]["CONTENTS"];
    assert_eq!((status, &one["fader1"]["VALUE"]), (200, &json!([0.5])));
    assert_eq!(one["colour"]["VALUE"], json!(["#FF0000FF"]));
    let value = get(&mut rig, stream, "/1/fader1?VALUE");
    assert_eq!(value, (200, json!({ "VALUE": [0.5] })));
    assert_eq!(get(&mut rig, stream, "/1/fader1?RANGE"), (204, Json::Null));
    assert_eq!(get(&mut rig, stream, "/nothing").0, 404);
    let (_, host) = get(&mut rig, stream, "/?HOST_INFO");
    assert_eq!((&host["OSC_PORT"], &host["OSC_TRANSPORT"]), (&json!(8000), &json!("UDP")));
    assert_eq!(rig.said.ended, []);
    rig.bytes(stream, b"DELETE / HTTP/1.1\r\n\r\n");
    assert_eq!(answer(&mut rig, stream).0, 405);
    assert_eq!(rig.said.ended, [stream]);
}

#[test]
fn requests_that_come_together_are_answered_one_after_the_other() {
    let mut rig = rig(SERVING);
    rig.set("/osc/x", |out| push_i64(out, 1));
    let stream = rig.open(0);
    let requests = ["/x?VALUE", "/x?TYPE", "/x?ACCESS"];
    let together = requests.map(|target| format!("GET {target} HTTP/1.1\r\n\r\n")).concat();
    rig.bytes(stream, together.as_bytes());
    let text = String::from_utf8(rig.said.streams[&stream].clone()).expect("text");
    let bodies = text.lines().filter_map(|line| line.strip_prefix('{'));
    let bodies: Vec<_> = bodies.map(|line| line.split('}').next().unwrap_or_default()).collect();
    assert_eq!(bodies, ["\"VALUE\":[1]", "\"TYPE\":\"i\"", "\"ACCESS\":3"], "{text}");
}

#[test]
fn a_long_answer_leaves_as_its_reader_has_room_and_the_next_request_waits() {
    let mut rig = rig(SERVING);
    for number in 0..1_000 {
        rig.set(&format!("/osc/{number:050}"), |out| push_i64(out, number));
    }
    let stream = rig.open(0);
    rig.said.room = Some(10_000);
    let request = b"GET / HTTP/1.1\r\n\r\n";
    rig.bytes(stream, &[&request[..], b"GET /?HOST_INFO HTTP/1.1\r\n\r\n"].concat());
    let mut len = rig.said.streams[&stream].len();
    assert_eq!(len, 10_000);
    let due = rig.bridge.deadline().expect("more to say");
    while rig.bridge.deadline().is_some() {
        rig.said.room = Some(10_000);
        rig.wait(Span::from_millis(10));
        assert!(rig.said.streams[&stream].len() > len, "since {due:?}");
        len = rig.said.streams[&stream].len();
    }
    let text = String::from_utf8(rig.said.streams[&stream].clone()).expect("text");
    let answers: Vec<_> = text.split("HTTP/1.1 200 OK").collect();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1].matches("\"FULL_PATH\"").count(), 1_001);
    assert!(answers[2].contains("\"OSC_PORT\":8000"), "{}", answers[2]);
}

#[test]
fn more_than_an_answer_holds_is_refused() {
    let mut rig = rig(SERVING);
    for number in 0..5_000 {
        rig.set(&format!("/osc/{}/{number}", "x".repeat(200)), |out| push_i64(out, number));
    }
    let stream = rig.open(0);
    assert_eq!(get(&mut rig, stream, "/").0, 413);
    assert_eq!(get(&mut rig, stream, "/nothing").0, 404, "the connection goes on");
}

/// A WebSocket client on a stream of the rig.
struct Page {
    stream: StreamId,
    ws: Ws,
}

impl Page {
    fn new(rig: &mut Rig) -> Self {
        let (stream, mut request) = (rig.open(0), Vec::new());
        let ws = Ws::client("a", "/", 7, &mut request).expect("a request");
        rig.bytes(stream, &request);
        let mut page = Self { stream, ws };
        assert_eq!(page.heard(rig), ["opened"]);
        page
    }

    fn say(&mut self, rig: &mut Rig, text: &str) {
        let mut out = Vec::new();
        self.ws.wrap_text(text, &mut out);
        rig.bytes(self.stream, &out);
    }

    fn heard(&mut self, rig: &mut Rig) -> Vec<String> {
        let mut bytes = rig.said.streams.insert(self.stream, Vec::new()).expect("a stream");
        let (mut heard, mut replies) = (Vec::new(), Vec::new());
        loop {
            heard.push(match self.ws.peek(&mut bytes, &mut replies) {
                Event::More => break,
                Event::Opened => "opened".to_owned(),
                Event::Text(text) => text.to_owned(),
                Event::Binary(packet) => words(&packet::decode(packet).expect("OSC")),
                event => format!("{event:?}"),
            });
            bytes.drain(..self.ws.advance());
        }
        heard
    }
}

#[test]
fn a_page_hears_the_addresses_that_it_listens_to() {
    let mut rig = rig(SERVING);
    let mut page = Page::new(&mut rig);
    rig.set("/osc/x", |out| push_f64(out, 0.5));
    assert_eq!(page.heard(&mut rig), [r#"{"COMMAND":"PATH_ADDED","DATA":"/x"}"#]);
    page.say(&mut rig, r#"{"COMMAND": "LISTEN", "DATA": "/x"}"#);
    page.say(&mut rig, "nonsense");
    rig.set("/osc/x", |out| push_f64(out, 0.75));
    rig.receive(TABLET, &message("/x", &[Argument::Double(1.0)]));
    assert_eq!(page.heard(&mut rig), ["/x ,f Float(0.75)", "/x ,d Double(1.0)"]);
    page.say(&mut rig, r#"{"COMMAND": "IGNORE", "DATA": "/x"}"#);
    rig.set("/osc/x", |out| push_f64(out, 0.0));
    assert_eq!(page.heard(&mut rig), [""; 0]);
    assert_eq!(rig.bridge.counters().malformed, 1);
}

#[test]
fn a_page_may_write_with_binary_osc() {
    let mut rig = rig(&format!("{SERVING}targets = [\"10.0.0.2:9000\"]"));
    let mut page = Page::new(&mut rig);
    let mut out = Vec::new();
    page.ws.wrap(&message("/x", &[Argument::Float(0.5)]), &mut out);
    rig.bytes(page.stream, &out);
    assert_eq!(rig.said.take_lines(), ["SET /osc/x 0.5"]);
    assert_eq!(rig.sent(), [(DESK.to_string(), "/x ,f Float(0.5)".to_string())]);
}

#[test]
fn a_page_that_does_not_read_hears_the_newest_value_later() {
    let mut rig = rig(SERVING);
    let mut page = Page::new(&mut rig);
    page.say(&mut rig, r#"{"COMMAND": "LISTEN", "DATA": "/x"}"#);
    rig.said.room = Some(0);
    for number in 0..100 {
        rig.set("/osc/x", |out| push_i64(out, number));
    }
    rig.said.room = None;
    rig.wait(Span::from_millis(20));
    let added = r#"{"COMMAND":"PATH_ADDED","DATA":"/x"}"#;
    assert_eq!(page.heard(&mut rig), [added, "/x ,i Int(99)"]);
    assert_eq!(rig.bridge.deadline(), None);
}

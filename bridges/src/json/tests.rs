//! Every golden frame through JSON and back, and what a person is told who slips.

use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;

fn frame_of(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    to_frame(text, &mut frame).unwrap_or_else(|error| panic!("{text}: {error}"));
    frame
}

fn text_of(frame: &[u8]) -> String {
    let mut text = String::new();
    from_frame(frame, &mut text).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
    text
}

fn error_of(text: &str) -> String {
    to_frame(text, &mut Vec::new()).expect_err(text).to_string()
}

/// Names and frames of the golden vectors of that kind.
fn vectors(kind: &str) -> Vec<(String, Vec<u8>)> {
    let vectors = include_str!("../../../core/vectors/clasp.json");
    let vectors: Json = serde_json::from_str(vectors).expect("the vectors are JSON");
    let cases = vectors["cases"].as_array().expect("a list of cases").iter();
    cases
        .filter(|case| case["kind"] == kind)
        .map(|case| {
            let name = case["name"].as_str().expect("a name").to_owned();
            let hex = case["frame_hex"].as_str().expect("a frame").as_bytes();
            let digit = |digit: u8| char::from(digit).to_digit(16).expect("a digit");
            let byte = |pair: &[u8]| (digit(pair[0]) << 4 | digit(pair[1])) as u8;
            (name, hex.chunks(2).map(byte).collect())
        })
        .collect()
}

#[test]
fn a_value_alone_is_read_and_written_as_inside_a_message() {
    for text in
        ["null", "true", "-7", "1.5", "\"a\\nb\"", "[1,[2.0]]", "{\"k\":{\"$bytes\":\"00ff\"}}"]
    {
        let (mut bytes, mut back) = (Vec::new(), String::new());
        push_value(&serde_json::from_str(text).unwrap(), &mut bytes).unwrap();
        push_text(Value::from_encoded(&bytes).unwrap(), &mut back);
        assert_eq!(back, text);
    }
}

#[test]
fn every_golden_frame_comes_back_from_json_byte_by_byte() {
    let mut lossy = Vec::new();
    let vectors = vectors("encode");
    assert_eq!(vectors.len(), 174);
    for (name, frame) in vectors {
        let text = text_of(&frame);
        serde_json::from_str::<Json>(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        if frame_of(&text) != frame {
            lossy.push(name);
        }
    }
    // JSON has no word for these floats; everything else comes back.
    assert_eq!(lossy, ["set_float_inf", "set_float_neginf", "set_float_nan", "snapshot_many"]);
}

#[test]
fn whatever_a_client_sent_can_be_read_as_json() {
    for kind in ["decode", "legacy", "client_produced"] {
        for (name, frame) in vectors(kind) {
            let text = text_of(&frame);
            // Not compared as text: a repeated key is read as its last value, as everywhere.
            let meaning = |text: &str| serde_json::from_str::<Json>(text).expect("it was written");
            assert_eq!(meaning(&text_of(&frame_of(&text))), meaning(&text), "{name}");
        }
    }
}

#[test]
fn broken_frames_are_refused_with_the_decoders_own_reason() {
    for (name, frame) in vectors("malformed") {
        assert!(from_frame(&frame, &mut String::new()).is_err(), "{name}");
    }
}

#[test]
fn a_person_may_write_as_little_as_is_needed() {
    let cases = [
        (
            r#"{"type":"HELLO","name":"me"}"#,
            concat!(
                r#"{"type":"HELLO","version":1,"#,
                r#""features":["param","event","stream","gesture","timeline"],"name":"me"}"#
            ),
        ),
        (
            r#"{"op":"set","address":"/a","value":null}"#,
            r#"{"type":"SET","address":"/a","value":null}"#,
        ),
        (
            r#"{"type":"Set","address":"/a","value":1,"ttl":60,"lock":false}"#,
            r#"{"type":"SET","address":"/a","value":1,"ttl":{"sliding":60}}"#,
        ),
        (
            r#"{"op":"emit","address":"/cue"}"#,
            r#"{"type":"PUBLISH","address":"/cue","signal":"event"}"#,
        ),
        (
            r#"{"op":"stream","address":"/env","value":0.1}"#,
            r#"{"type":"PUBLISH","address":"/env","signal":"stream","value":0.1}"#,
        ),
        (
            r#"{"op":"gesture","address":"/pad","id":2,"phase":"move","value":{"x":0.5}}"#,
            concat!(
                r#"{"type":"PUBLISH","address":"/pad","signal":"gesture","#,
                r#""value":{"x":0.5},"id":2,"phase":"move"}"#
            ),
        ),
        (
            r#"{"op":"subscribe","pattern":"/a/**"}"#,
            r#"{"type":"SUBSCRIBE","id":266460490,"pattern":"/a/**"}"#,
        ),
        (r#"{"op":"unsubscribe","pattern":"/a/**"}"#, r#"{"type":"UNSUBSCRIBE","id":266460490}"#),
        (
            r#"{"type":"SET","address":"/a","value":1,"qos":"Fire"}"#,
            r#"{"type":"SET","address":"/a","value":1,"qos":"fire"}"#,
        ),
        (
            r#"{"type":"BUNDLE","messages":[{"op":"ping"}]}"#,
            r#"{"type":"BUNDLE","messages":[{"type":"PING"}]}"#,
        ),
        (
            r#"{"type":"FEDERATION_SYNC","op":3,"revisions":{"/a":7}}"#,
            concat!(
                r#"{"type":"FEDERATION_SYNC","op":"RevisionVector","#,
                r#""patterns":[],"revisions":{"/a":7}}"#
            ),
        ),
        (r#" {"op" : "PING"} "#, r#"{"type":"PING"}"#),
    ];
    for (typed, read) in cases {
        assert_eq!(text_of(&frame_of(typed)), read, "{typed}");
    }
}

#[test]
fn writes_are_confirmed_unless_the_person_says_otherwise() {
    let cases = [
        (r#"{"type":"SET","address":"/a","value":1}"#, Qos::Confirm),
        (r#"{"type":"SET","address":"/a","value":1,"qos":"commit"}"#, Qos::Commit),
        (r#"{"type":"BUNDLE","messages":[]}"#, Qos::Confirm),
        (r#"{"type":"ANNOUNCE","namespace":"/a","signals":[]}"#, Qos::Confirm),
        (r#"{"type":"GET","address":"/a"}"#, Qos::Fire),
    ];
    for (text, qos) in cases {
        let frame = frame_of(text);
        assert_eq!(header::parse(&frame).map(|frame| frame.header.qos), Ok(qos), "{text}");
    }
}

#[test]
fn values_keep_their_kind() {
    let values = [
        "null",
        "true",
        "0",
        "-9223372036854775808",
        "1.0",
        "-0.0",
        "5e-324",
        "1.7976931348623157e308",
        r#""a \"quote\", a \\ and \u0000""#,
        r#""grün""#,
        r#"{"$bytes":"00ff7f"}"#,
        r#"{"$bytes":""}"#,
        r#"{"$bytes":"00","more":1}"#,
        r#"[[],{},[1,"b",{"c":[null]}]]"#,
        r#"{"z":1,"a":2}"#,
    ];
    for value in values {
        let text = format!(r#"{{"type":"SET","address":"/a","value":{value}}}"#);
        assert_eq!(text_of(&frame_of(&text)), text);
    }
    let huge = text_of(&frame_of(r#"{"op":"set","address":"/a","value":18446744073709551615}"#));
    assert!(huge.contains(r#""value":1.8446744073709552e19"#), "{huge}");
}

#[test]
fn a_person_who_slips_is_told_what_would_be_right() {
    let cases = [
        ("{", "no JSON"),
        ("[1]", "must be an object"),
        (r#"{"address":"/a"}"#, "needs `type`"),
        (r#"{"type":"SETT","address":"/a"}"#, "`type: SETT` must be a message, such as HELLO"),
        (r#"{"op":"fade"}"#, "`op: fade`"),
        (r#"{"type":"SET","value":1}"#, "SET needs `address`"),
        (r#"{"type":"SET","address":null,"value":1}"#, "SET needs `address`"),
        (r#"{"type":"SET","address":"/a"}"#, "SET needs `value`"),
        (r#"{"type":"SET","address":7,"value":1}"#, "`address` must be a string"),
        (r#"{"type":"SET","adress":"/a","value":1}"#, "SET has no `adress`; it has address, value"),
        (r#"{"type":"PING","value":1}"#, "PING has no `value`"),
        (r#"{"type":"SET","address":"/a","value":1,"qos":"sure"}"#, "fire, confirm or commit"),
        (r#"{"type":"SET","address":"/a","value":1,"ttl":"soon"}"#, "seconds, \"never\""),
        (r#"{"type":"SET","address":"/a","value":1,"ttl":2147483648}"#, "seconds, \"never\""),
        (r#"{"type":"SET","address":"/a","value":1,"revision":-1}"#, "a whole number"),
        (r#"{"type":"SET","address":"/a","value":1,"lock":1}"#, "true or false"),
        (r#"{"type":"SET","address":"/a","value":{"$bytes":"0"}}"#, "two for each byte"),
        (r#"{"type":"SET","address":"/a","value":{"$bytes":"0g"}}"#, "two for each byte"),
        (r#"{"type":"SUBSCRIBE","pattern":"/a","options":{"maxRate":1}}"#, "it has max_rate"),
        (r#"{"type":"SUBSCRIBE","pattern":"/a","types":["params"]}"#, "signal names"),
        (r#"{"type":"SUBSCRIBE","pattern":"/a","id":4294967296}"#, "0 to 4294967295"),
        (r#"{"type":"UNSUBSCRIBE"}"#, "UNSUBSCRIBE needs `id`"),
        (r#"{"type":"PUBLISH","address":"/a","signal":"blink"}"#, "param, event, stream"),
        (r#"{"type":"PUBLISH","address":"/a","phase":"begin"}"#, "start, move, end or cancel"),
        (r#"{"type":"PUBLISH","address":"/a","samples":["x"]}"#, "an array of numbers"),
        (r#"{"type":"FEDERATION_SYNC","op":5}"#, "1 to 4"),
        (r#"{"type":"BUNDLE"}"#, "BUNDLE needs `messages`"),
        (r#"{"type":"BUNDLE","messages":[{"type":"GET"}]}"#, "GET needs `address`"),
        (r#"{"type":"SNAPSHOT","params":[1]}"#, "an array of objects"),
        (r#"{"type":"SNAPSHOT","params":[{"address":"/a"}]}"#, "param needs `value`"),
        (r#"{"type":"HELLO","name":"me","features":["fly"]}"#, "feature names"),
    ];
    for (text, says) in cases {
        let told = error_of(text);
        assert!(told.contains(says), "{text}: {told}");
    }
}

#[test]
fn what_no_frame_can_hold_is_refused() {
    let long = "x".repeat(65_530);
    let text = format!(r#"{{"op":"set","address":"/a","value":"{long}"}}"#);
    assert_eq!(to_frame(&text, &mut Vec::new()), Err(JsonError::TooLong));

    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let text = format!(r#"{{"op":"set","address":"/a","value":{deep}}}"#);
    assert_eq!(to_frame(&text, &mut Vec::new()), Err(JsonError::TooDeep));

    let pings = vec![r#"{"op":"ping"}"#; 4_097].join(",");
    let text = format!(r#"{{"op":"bundle","messages":[{pings}]}}"#);
    assert_eq!(to_frame(&text, &mut Vec::new()), Err(JsonError::TooLong));

    // The parser itself stops before the stack does.
    let text = r#"{"op":"bundle","messages":["#.repeat(10_000);
    assert!(matches!(to_frame(&text, &mut Vec::new()), Err(JsonError::Syntax { .. })));
}

proptest! {
    #[test]
    fn any_text_becomes_a_frame_that_can_be_read_or_an_error(
        text in concat!(
            r#"\{"(type|op)":"(SET|set|get|emit|PUBLISH|bundle)","(address|value|id)":"#,
            r#"("[^"\\]{0,9}"|[0-9.e-]{0,9}|null|\[[0-9,]{0,5}\])(,"value":[0-9]{1,3})?\}"#
        ),
    ) {
        let mut frame = Vec::new();
        if to_frame(&text, &mut frame).is_ok() {
            let again = frame_of(&text_of(&frame));
            prop_assert_eq!(again, frame);
        }
    }

    #[test]
    fn any_bytes_become_json_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut frame = vec![0x53, 0x01, 0, bytes.len() as u8];
        frame.extend_from_slice(&bytes);
        let mut text = String::new();
        if from_frame(&frame, &mut text).is_ok() {
            prop_assert!(serde_json::from_str::<Json>(&text).is_ok(), "{}", text);
        }
    }
}

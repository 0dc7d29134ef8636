//! Every golden vector, in every direction it states: bytes to message, message to bytes, refusal.
//!
//! The frames were made by the published encoders, so passing them is speaking their language. What
//! `about.kinds` in the file says of each kind is what is asserted here.

mod from_json;
mod to_json;

use std::sync::LazyLock;

use clasp_rt_core::message::Message;
use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::{Scratch, binary, decode, header};
use from_json::{Room, text, unhex};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use to_json::{flags_json, hex, message_json};

#[test]
fn every_vector_holds_in_every_direction_it_states() {
    let cases = cases();
    let count = |kind: &str| cases.iter().filter(|case| case["kind"] == kind).count();
    let kinds = ["encode", "decode", "legacy", "legacy_decode", "malformed", "client_produced"];
    assert_eq!(kinds.map(count), [174, 31, 34, 19, 61, 21]);
    assert_eq!(cases.len(), 340);

    for case in &cases {
        match case["kind"].as_str().expect("a kind") {
            "encode" => {
                encodes(case);
                decodes(case, case.get("decodes_to").unwrap_or(&case["message"]));
            }
            "malformed" => is_refused(case),
            _ if case.get("expect_error").is_some() => is_refused(case),
            _ => decodes(case, &case["decodes_to"]),
        }
    }
}

#[test]
fn what_was_decoded_encodes_to_what_decodes_to_the_same() {
    for case in cases().iter().filter(|case| case.get("expect_error").is_none()) {
        let frame = frame_of(case);
        let mut scratch = Scratch::with_capacity();
        let payload = header::parse(&frame).expect("a frame").payload;
        let message = decode(payload, &mut scratch).expect("a message");
        let once = payload_of(&message);
        let again = payload_of(&binary::decode(&once).expect("a message of ours"));
        assert_eq!(once, again, "{}", case["name"]);
    }
}

#[test]
fn no_vector_survives_the_loss_of_its_last_byte_unless_it_was_a_rate() {
    // A rate has no flag, so that three bytes of one are no rate and nothing is amiss.
    let lossy = |case: &Json| case["message"]["rate"].is_number();
    let cut_short = cases()
        .iter()
        .filter(|case| case["kind"] == "encode" && !lossy(case))
        .map(|case| {
            let frame = frame_of(case);
            let payload = &frame[header::FRAME_HEADER_LEN..frame.len() - 1];
            let refused = binary::decode(payload).expect_err(&case["name"].to_string());
            assert!(["truncated", "empty_payload"].contains(&refused.class()), "{}", case["name"]);
        })
        .count();
    assert!(cut_short > 160, "only {cut_short} vectors were tried");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Bytes near a real message reach further into the decoder than random ones.
    #[test]
    fn no_damaged_vector_makes_the_decoder_panic(
        chosen in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut frame = chosen.get(&FRAMES).clone();
        for (at, byte) in damage {
            if !frame.is_empty() {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        // The header's length seldom survives; what follows it is worth reading all the same.
        let behind = frame.get(header::FRAME_HEADER_LEN..).unwrap_or_default();
        let payloads = [header::parse(&frame).ok().map(|frame| frame.payload), Some(behind)];
        for payload in payloads.into_iter().flatten() {
            let mut scratch = Scratch::default();
            if let Ok(message) = decode(payload, &mut scratch) {
                let once = payload_of(&message);
                let again = binary::decode(&once).map(|message| payload_of(&message));
                prop_assert_eq!(again, Ok(once));
            }
        }
    }
}

#[test]
fn the_quality_is_written_into_the_flags() {
    for (qos, flags) in [(Qos::Fire, 0x01), (Qos::Confirm, 0x41), (Qos::Commit, 0x81)] {
        let mut frame = Vec::new();
        binary::encode(&Message::Ping, qos, &mut frame).expect("one byte");
        assert_eq!(frame, [0x53, flags, 0, 1, 0x41]);
    }
}

/// The message in JSON must become exactly the frame.
fn encodes(case: &Json) {
    let name = &case["name"];
    let mut room = Room::default();
    let message = room.message(&case["message"]);
    let qos = binary::default_qos(&message);
    assert_eq!(json!(qos.code()), case["qos"], "{name}: quality");
    let mut frame = Vec::new();
    binary::encode(&message, qos, &mut frame).expect("fits a frame");
    assert_eq!(hex(&frame), case["frame_hex"], "{name}: {message:?}");
}

/// The frame must become the message in JSON.
fn decodes(case: &Json, expected: &Json) {
    let name = &case["name"];
    let frame = frame_of(case);
    let parsed = header::parse(&frame).unwrap_or_else(|why| panic!("{name}: {why}"));
    if let Some(flags) = case.get("flags") {
        assert_eq!(&flags_json(&parsed.header), flags, "{name}: flags");
    }
    let mut scratch = Scratch::default();
    let message =
        decode(parsed.payload, &mut scratch).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(canonical(&message_json(&message)), canonical(expected), "{name}: {message:?}");
}

/// The frame must be refused for the reason that the vector names.
fn is_refused(case: &Json) {
    let name = &case["name"];
    let frame = frame_of(case);
    let mut scratch = Scratch::default();
    let refused = header::parse(&frame)
        .and_then(|frame| decode(frame.payload, &mut scratch).map(drop))
        .expect_err(&format!("{name} should be refused"));
    assert_eq!(refused.class(), case["expect_error"], "{name}: {refused}");
}

static FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| cases().iter().map(frame_of).collect());

fn cases() -> Vec<Json> {
    let text = include_str!("../../vectors/clasp.json");
    let file: Json = serde_json::from_str(text).expect("the vectors are JSON");
    file["cases"].as_array().expect("cases").clone()
}

fn frame_of(case: &Json) -> Vec<u8> {
    unhex(text(&case["frame_hex"]))
}

fn payload_of(message: &Message<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    binary::append_payload(message, &mut payload).expect("fits a frame");
    payload
}

/// Without what the vectors leave open: the order of fields, options without an option in them, and
/// a float's text beside its bits.
fn canonical(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(canonical).collect(),
        Json::Object(fields) => {
            let mut fields: Vec<_> =
                fields.iter().map(|(name, field)| (name.clone(), canonical(field))).collect();
            fields.retain(|(name, field)| match name.as_str() {
                "options" => *field != json!({}),
                "float" => false,
                _ => true,
            });
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Json::Object(fields.into_iter().collect())
        }
        other => other.clone(),
    }
}

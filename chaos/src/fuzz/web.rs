//! Sessions of web programs: what they say as JSON, what the router says meanwhile, and what each
//! is told of the other.

use clasp_rt_bridges::Out as _;
use clasp_rt_core::error::code;
use clasp_rt_core::message::{Ack, ErrorReply, Message, Publish, SubscribeOptions, Sync};
use clasp_rt_core::signal::{Qos, SignalMask};
use clasp_rt_core::wire::{binary, header};
use clasp_rt_worker::web::program::{Out, Program};
use clasp_rt_worker::web::talk::{Answer, Ask, Heard, SetAsk, Talk};
use serde_json::Value as Json;

use super::seeds;
use super::targets::Checked;

/// The pieces of a script, each behind its length.
fn pieces(mut script: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = script.split_first_chunk::<2>()?;
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        script = rest;
        Some(piece)
    })
}

/// The message that a piece holds, if it is a frame.
fn message(piece: &[u8]) -> Option<Message<'_>> {
    header::parse(piece).and_then(|frame| binary::decode(frame.payload)).ok()
}

fn refused(address: Option<&str>, code: u16) -> Message<'_> {
    Message::Error(ErrorReply { code, message: "no", address, correlation_id: None })
}

/// A program and the router by turns: pieces that begin with a brace are the program's.
pub fn client(bytes: &[u8]) {
    let mut program = Program::default();
    for piece in pieces(bytes) {
        let mut outs = Vec::new();
        if piece.first() != Some(&b'{') {
            let was_waiting = program.is_waiting();
            let Some(message) = message(piece) else { continue };
            program.heard(&message, &mut outs);
            let answers = look(&outs);
            assert!(answers.is_empty() || (was_waiting && !program.is_waiting()));
            continue;
        }
        // Whoever drives it lets no program speak before; the router says no at last.
        if program.is_waiting() {
            program.heard(&refused(None, code::INVALID_MESSAGE), &mut outs);
            assert!(!program.is_waiting() && look(&outs).len() == 1, "an ERROR ends what waits");
            outs.clear();
        }
        let Ok(Json::Object(mut map)) = serde_json::from_slice(piece) else {
            program.refuse(None, "no JSON", &mut outs);
            assert_eq!(look(&outs).len(), 1);
            continue;
        };
        let op = map.remove("op");
        let id = map.get("id").filter(|id| !id.is_null()).cloned();
        program.said(op.as_ref().and_then(Json::as_str).unwrap_or_default(), map, &mut outs);
        let answers = look(&outs);
        match program.is_waiting() {
            true => assert!(answers.is_empty() && !outs.is_empty(), "it asks, and nothing more"),
            false => assert_eq!(answers, [id], "it is answered at once"),
        }
    }
}

/// Looks at everything; gives the ids of answers.
fn look(outs: &[Out]) -> Vec<Option<Json>> {
    let mut ids = Vec::new();
    for out in outs {
        let text = match out {
            Out::ToRouter(frame) => {
                Checked.to_router(frame);
                continue;
            }
            Out::Slow => continue,
            Out::Answer { text, .. } | Out::News { text, .. } => text,
        };
        let json: Json = serde_json::from_str(text).expect("what a program is told is JSON");
        assert!(json["type"].is_string(), "{text}");
        if let Out::Answer { id, .. } = out {
            assert_eq!(json.get("id"), id.as_ref(), "{text}");
            ids.push(id.clone());
        }
    }
    ids
}

/// One question among whatever the router says: it has one answer, and has it at last.
pub fn talk(bytes: &[u8]) {
    let mut pieces = pieces(bytes);
    let Some(first) = pieces.next() else { return };
    let Some((kind, text)) = first.split_first() else { return };
    let text = String::from_utf8_lossy(text).into_owned();
    let (mut talk, mut frames) = (Talk::default(), Vec::new());
    if talk.ask(&question(*kind, &text), &mut frames).is_err() {
        assert!(text.len() > 60_000, "{} bytes are not too long", text.len());
        return;
    }
    let serial = frames.iter().find_map(|frame| match message(frame) {
        Some(Message::Sync(sync)) => Some(sync.t1),
        _ => None,
    });
    look_at(&mut frames);
    for piece in pieces {
        let Some(message) = message(piece) else { continue };
        let was_waiting = talk.is_waiting();
        let heard = talk.hear(&message, &mut frames);
        look_at(&mut frames);
        assert!(was_waiting || heard == Heard::News, "an answer to nothing");
        assert_eq!(talk.is_waiting(), was_waiting && !matches!(heard, Heard::Answer(_)));
    }
    if talk.is_waiting() {
        let last = match (kind % 7, serial) {
            (0, _) => refused(Some(&text), code::NOT_FOUND),
            (1, _) => {
                Message::Ack(Ack { address: Some(&text), revision: Some(1), ..Ack::default() })
            }
            (2, _) => Message::Ack(Ack::default()),
            (3 | 4, _) => Message::Ack(Ack { address: Some(&text), ..Ack::default() }),
            (_, serial) => {
                let t1 = serial.expect("behind what is not confirmed is a SYNC");
                Message::Sync(Sync { t1, t2: None, t3: None })
            }
        };
        let heard = talk.hear(&last, &mut frames);
        assert!(matches!(heard, Heard::Answer(Ok(_))), "{heard:?}");
        let is_missing = matches!(heard, Heard::Answer(Ok(Answer::Missing)));
        assert_eq!(is_missing, kind % 7 == 0);
        look_at(&mut frames);
    }
    talk.ask(&Ask::Sync, &mut frames).expect("the next question");
}

fn look_at(frames: &mut Vec<Vec<u8>>) {
    frames.drain(..).for_each(|frame| Checked.to_router(&frame));
}

fn question(kind: u8, text: &str) -> Ask {
    let address = text.to_owned();
    let pattern = text.to_owned();
    let (types, options) = (SignalMask::ALL, SubscribeOptions::default());
    match kind % 7 {
        0 => Ask::Get { address },
        1 => {
            // A bool.
            let value = vec![1, 1];
            let (revision, ttl, lock, unlock) = (None, None, false, false);
            Ask::Set(SetAsk { address, value, revision, lock, unlock, ttl })
        }
        2 => Ask::Bundle { frame: event() },
        3 => Ask::Snapshot { pattern },
        4 => Ask::Subscribe { id: 1, pattern, types, options },
        5 => Ask::Publish { frame: event() },
        _ => Ask::Unsubscribe { id: 1 },
    }
}

fn event() -> Vec<u8> {
    let publish = Publish { address: "/go", ..Publish::default() };
    let mut frame = Vec::new();
    binary::encode(&Message::Publish(publish), Qos::Fire, &mut frame).expect("short");
    frame
}

/// Programs that say all there is, between what a router says.
pub fn client_seeds() -> Vec<Vec<u8>> {
    let said = [
        r#"{"op":"set","address":"/a/x","value":{"b":[1,null,2.5]},"id":1,"ttl":5,"lock":true}"#,
        r#"{"op":"get","address":"/a/x","id":"g"}"#,
        r#"{"op":"emit","address":"/go","signal":"gesture","gesture":2,"phase":"move","id":2}"#,
        r#"{"op":"subscribe","pattern":"/a/**","types":["param"],"max_rate":30,"id":3}"#,
        r#"{"op":"unsubscribe","pattern":"/a/**","id":[4]}"#,
        r#"{"op":"snapshot","pattern":"/**"}"#,
        r#"{"op":"bundle","messages":[{"type":"SET","address":"/a/x","value":1}],"id":{"a":1}}"#,
        r#"{"op":"ping","id":0}"#,
    ];
    let frames = seeds::frames();
    let alone = said.iter().map(|said| seeds::packets(&[said.as_bytes().to_vec()]));
    let answered = said.iter().enumerate().map(|(at, said)| {
        let heard = frames.iter().skip(at * 3).take(4).cloned();
        let both: Vec<_> = std::iter::once(said.as_bytes().to_vec()).chain(heard).collect();
        seeds::packets(&both)
    });
    let all: Vec<_> = said.iter().map(|said| said.as_bytes().to_vec()).collect();
    alone.chain(answered).chain([seeds::packets(&all)]).collect()
}

/// A question of each kind, with golden frames behind it.
pub fn talk_seeds() -> Vec<Vec<u8>> {
    let frames = seeds::frames();
    let seed = |kind: u8| {
        let question = [&[kind], b"/a/x".as_slice()].concat();
        let heard = frames.iter().skip(usize::from(kind) * 4).take(6).cloned();
        seeds::packets(&std::iter::once(question).chain(heard).collect::<Vec<_>>())
    };
    (0..7).map(seed).collect()
}

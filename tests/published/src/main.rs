//! Drives the published Rust client by JSON lines: commands on stdin, what happened on stdout.
//!
//! The commands are those of `../peers/clasp_peer.{mjs,py}`: see `../src/peer.rs`.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use clasp_client::{Clasp, ClaspBuilder};
use clasp_core::{GesturePhase, Message, PublishMessage, SetMessage, SignalType, Value};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (sender, mut lines) = mpsc::unbounded_channel();
    // The runtime's own stdin cannot be abandoned at exit; a plain thread can.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut peer = Peer::default();
    while let Some(line) = lines.recv().await {
        let command: Json = serde_json::from_str(&line).expect("a command is JSON");
        let name = text(&command, "command").to_string();
        match peer.obey(&name, &command).await {
            Ok(answer) => say(json!({"done": name, "answer": answer})),
            Err(why) => say(json!({"failed": name, "why": why})),
        }
    }
}

#[derive(Default)]
struct Peer {
    client: Option<Arc<Clasp>>,
    subscriptions: HashMap<String, u32>,
}

impl Peer {
    async fn obey(&mut self, name: &str, command: &Json) -> Result<Json, String> {
        if name == "connect" {
            self.connect(command).await?;
            return Ok(Json::Null);
        }
        let client = self.client.clone().ok_or("not connected")?;
        match name {
            "session" => return Ok(json!(client.session_id())),
            "cached" => {
                return Ok(client.cached(text(command, "address")).map_or(Json::Null, to_json));
            }
            "get" => {
                let value = client.get(text(command, "address")).await;
                return value.map(to_json).map_err(|why| why.to_string());
            }
            "last_error" => {
                let error = client.last_error();
                return Ok(
                    error.map_or(Json::Null, |e| json!({"code": e.code, "message": e.message}))
                );
            }
            "on" => {
                let pattern = text(command, "pattern").to_string();
                let id = client.on(&pattern, heard(pattern.clone())).await;
                let id = id.map_err(|why| why.to_string())?;
                self.subscriptions.insert(pattern, id);
            }
            "off" => {
                let id =
                    self.subscriptions.remove(text(command, "pattern")).ok_or("not subscribed")?;
                client.unsubscribe(id).await.map_err(|why| why.to_string())?;
            }
            _ => write(&client, name, command).await?,
        }
        Ok(Json::Null)
    }

    async fn connect(&mut self, command: &Json) -> Result<(), String> {
        let mut builder = ClaspBuilder::new(text(command, "url"))
            .name(text(command, "name"))
            .reconnect(true)
            .reconnect_interval(100);
        if let Some(token) = command["token"].as_str() {
            builder = builder.token(token);
        }
        let client = Arc::new(builder.connect().await.map_err(|why| why.to_string())?);
        client.start_reconnect_loop();
        self.client = Some(client);
        Ok(())
    }
}

async fn write(client: &Clasp, name: &str, command: &Json) -> Result<(), String> {
    let address = command["address"].as_str().unwrap_or_default();
    let value = from_json(&command["value"]);
    let done = match name {
        "set" => client.set(address, value).await,
        "count" => {
            for number in 1..=command["to"].as_i64().expect("to is a number") {
                client.set(address, number).await.map_err(|why| why.to_string())?;
            }
            Ok(())
        }
        "emit" => client.emit(address, value).await,
        "stream" => client.stream(address, value).await,
        "gesture" => {
            let phase = match text(command, "phase") {
                "start" => GesturePhase::Start,
                "move" => GesturePhase::Move,
                "end" => GesturePhase::End,
                _ => GesturePhase::Cancel,
            };
            let id = command["id"].as_u64().expect("id is a number") as u32;
            client.gesture(address, id, phase, value).await
        }
        "bundle" => {
            let messages = command["messages"].as_array().expect("messages is a list");
            let messages = messages.iter().map(bundled).collect();
            match command["in_ms"].as_u64() {
                Some(ms) => client.bundle_at(messages, client.time() + ms * 1000).await,
                None => client.bundle(messages).await,
            }
        }
        "close" => {
            client.close().await;
            Ok(())
        }
        _ => return Err(format!("no such command: {name}")),
    };
    done.map_err(|why| why.to_string())
}

fn heard(pattern: String) -> impl Fn(Value, &str) + Send + Sync + 'static {
    move |value, address| {
        say(json!({"heard": to_json(value), "address": address, "pattern": pattern}))
    }
}

fn bundled(message: &Json) -> Message {
    if let Some(set) = message["set"].as_array() {
        return Message::Set(SetMessage {
            address: set[0].as_str().expect("an address is text").into(),
            value: from_json(&set[1]),
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        });
    }
    let emit = message["emit"].as_array().expect("a bundle holds set and emit");
    Message::Publish(PublishMessage {
        address: emit[0].as_str().expect("an address is text").into(),
        signal: Some(SignalType::Event),
        value: None,
        payload: Some(from_json(&emit[1])),
        samples: None,
        rate: None,
        id: None,
        phase: None,
        timestamp: None,
        timeline: None,
    })
}

fn say(line: Json) {
    let mut stdout = std::io::stdout().lock();
    // Nobody listens any more: the test is over.
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

fn text<'a>(command: &'a Json, key: &str) -> &'a str {
    command[key].as_str().unwrap_or_else(|| panic!("{key} is missing from {command}"))
}

fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or_default()), Value::Int)
        }
        Json::String(s) => Value::String(s.clone()),
        Json::Array(list) => Value::Array(list.iter().map(from_json).collect()),
        Json::Object(map) => match map.get("$bytes").and_then(Json::as_str) {
            Some(hex) => Value::Bytes(bytes(hex)),
            None => Value::Map(map.iter().map(|(k, v)| (k.clone(), from_json(v))).collect()),
        },
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

fn to_json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::String(s) => json!(s),
        Value::Bytes(b) => {
            json!({"$bytes": b.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
        }
        Value::Array(list) => list.into_iter().map(to_json).collect(),
        Value::Map(map) => Json::Object(map.into_iter().map(|(k, v)| (k, to_json(v))).collect()),
    }
}

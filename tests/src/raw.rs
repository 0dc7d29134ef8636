//! A CLASP client that says exactly what it is told: for exact bytes, and for rude ones.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::{Value as Json, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use crate::PATIENCE;
use crate::frame;

pub struct Raw {
    socket: WebSocket<TcpStream>,
    /// The session id that WELCOME gave.
    pub session: String,
}

impl Raw {
    /// Opens a WebSocket and says nothing.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the router listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        stream.set_nodelay(true).expect("small packets can leave at once");
        let mut request = format!("ws://{address}/clasp").into_client_request().expect("a request");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "clasp".parse().expect("a header"));
        let config = WebSocketConfig::default().max_message_size(Some(1 << 20));
        let (socket, response) =
            tungstenite::client::client_with_config(request, stream, Some(config))
                .expect("the router upgrades to WebSocket");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "clasp");
        Self { socket, session: String::new() }
    }

    /// Opens a WebSocket, says HELLO, and reads up to the first SNAPSHOT.
    pub fn join(address: SocketAddr, name: &str) -> Self {
        let mut raw = Self::connect(address);
        raw.hello(json!({"type": "HELLO", "name": name}));
        raw.receive_type("SNAPSHOT");
        raw
    }

    /// Says HELLO and gives WELCOME.
    pub fn hello(&mut self, hello: Json) -> Json {
        self.send(hello);
        let welcome = self.receive_type("WELCOME");
        self.session = welcome["session"].as_str().expect("a session id").to_string();
        welcome
    }

    pub fn send(&mut self, message: Json) {
        self.send_bytes(&frame::encode(&message));
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(Message::binary(bytes.to_vec())).expect("the router takes it");
    }

    /// Sends frames so that they leave together, as a busy client's do.
    pub fn send_together<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) {
        for frame in frames {
            self.socket.write(Message::binary(frame.to_vec())).expect("there is room for it");
        }
        self.socket.flush().expect("the router takes it");
    }

    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    pub fn send_text(&mut self, text: &str) {
        self.try_send(Message::text(text)).expect("the router takes it");
    }

    /// The next frame, byte for byte.
    pub fn receive_bytes(&mut self) -> Vec<u8> {
        let start = Instant::now();
        loop {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => return bytes.to_vec(),
                // The router's pings come for as long as one waits: the stream's deadline does not.
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    assert!(start.elapsed() < PATIENCE, "expected a frame, got only pings");
                }
                Ok(other) => panic!("expected a frame, got {other:?}"),
                Err(why) => panic!("expected a frame, got: {why}"),
            }
        }
    }

    /// The next message, if one comes before the stream's own deadline.
    pub fn try_receive(&mut self) -> Option<Json> {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => Some(frame::decode(&bytes)),
            _ => None,
        }
    }

    /// The next WebSocket text message.
    pub fn receive_text(&mut self) -> String {
        let start = Instant::now();
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return text.to_string(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    assert!(start.elapsed() < PATIENCE, "expected text, got only pings");
                }
                other => panic!("expected text, got {other:?}"),
            }
        }
    }

    pub fn receive(&mut self) -> Json {
        frame::decode(&self.receive_bytes())
    }

    /// The next message, which must be of this type.
    pub fn receive_type(&mut self, kind: &str) -> Json {
        let message = self.receive();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The first message that `wanted` accepts; those before it are gone.
    pub fn receive_where(&mut self, wanted: impl Fn(&Json) -> bool) -> Json {
        let start = Instant::now();
        loop {
            let message = self.receive();
            if wanted(&message) {
                return message;
            }
            assert!(start.elapsed() < PATIENCE, "what is wanted does not come; last: {message}");
        }
    }

    /// Reads until every address has had its value, by itself, in a bundle or in a snapshot; in any
    /// order, and whatever comes besides.
    pub fn receive_values(&mut self, wanted: &[(&str, Json)]) {
        let start = Instant::now();
        let mut missing = wanted.to_vec();
        while !missing.is_empty() {
            let message = self.receive();
            let inside = message["messages"].as_array().or(message["params"].as_array()).cloned();
            for one in inside.unwrap_or_else(|| vec![message]) {
                let value = one.get("value").or(one.get("payload")).unwrap_or(&Json::Null);
                missing.retain(|(address, wanted)| one["address"] != **address || value != wanted);
            }
            assert!(start.elapsed() < PATIENCE, "not heard: {missing:?}");
        }
    }

    /// Everything the router has sent by the time it has handled all that was said here.
    ///
    /// Complete with one shard: it answers in order. With more, other shards' answers may follow.
    pub fn receive_all(&mut self) -> Vec<Json> {
        self.send(json!({"type": "PING"}));
        let mut messages = Vec::new();
        loop {
            let message = self.receive();
            if message["type"] == "PONG" {
                return messages;
            }
            messages.push(message);
        }
    }

    /// Sends, and gives all that the router answers to it; for one shard.
    pub fn ask(&mut self, message: Json) -> Vec<Json> {
        self.send(message);
        self.receive_all()
    }

    /// Reads until the router closes, and gives its close code and the messages before it.
    pub fn receive_close(&mut self) -> (CloseCode, Vec<Json>) {
        let mut messages = Vec::new();
        loop {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => messages.push(frame::decode(&bytes)),
                Ok(Message::Close(Some(close))) => return (close.code, messages),
                Ok(Message::Ping(_) | Message::Pong(_)) => (),
                Ok(other) => panic!("expected a close, got {other:?} after {messages:?}"),
                Err(why) => panic!("expected a close, got: {why} after {messages:?}"),
            }
        }
    }

    /// Reads until the connection ends, however it ends.
    pub fn receive_end(&mut self) {
        loop {
            match self.socket.read() {
                Ok(_) => (),
                Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => {
                    panic!("the router keeps the connection")
                }
                Err(_) => return,
            }
        }
    }

    /// Says goodbye and waits for the router's.
    pub fn leave(mut self) {
        // Fails only when the router has gone first.
        let _ = self.socket.close(None);
        self.receive_end();
    }

    /// The socket under the WebSocket.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }
}

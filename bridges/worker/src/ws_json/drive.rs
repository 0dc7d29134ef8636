//! One connection: its handshake, its session at the router, and what goes to and fro.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clasp_rt_client::{Backoff, random};
use clasp_rt_core::error::code;
use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, Uri};
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};
use tokio_util::either::Either;
use tracing::{debug, info, warn};

use super::{NAME, WsJsonOptions};
use crate::web::program::{Out, Program, error_text};
use crate::web::seats::{ANSWER_TIMEOUT, FEATURES};
use crate::web::serve::{Stream, Voice};
use crate::web::talk::Refused;
use crate::web::value;
use crate::web::{self, admission};
use crate::{Context, Hearer, JoinError, Speaker, Who};

/// A handshake, or a first message that says who one is, takes so long at most.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A program that takes nothing for so long is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// One that says nothing for so long, not even that it is there, is closed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a program that the router found too busy is not heard.
const SLOW: Duration = Duration::from_secs(1);
/// Before a server elsewhere is joined again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long the other side may take to hear the good-bye.
const FAREWELL: Duration = Duration::from_millis(300);

/// Room for text in a close frame: RFC 6455 §5.5, without the code.
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A conversation, whatever carries it.
trait Carries: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Carries for S {}

/// Why a conversation ends, as the other side is told.
type Ended = (CloseCode, String);

/// Serves one program that connected.
pub(super) async fn accept(
    mut stream: Stream,
    voice: Voice,
    options: &WsJsonOptions,
    context: &Context,
) {
    let mut token = None;
    #[expect(clippy::result_large_err, reason = "the handshake wants a response to refuse with")]
    let look = |request: &Request, response: Response| match admit(request, options) {
        Ok(brought) => {
            token = brought;
            Ok(response)
        }
        Err(why) => {
            let mut refusal = ErrorResponse::new(Some(why.to_owned()));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            Err(refusal)
        }
    };
    let shaking = accept_hdr_async_with_config(&mut stream, look, Some(config(options)));
    let mut socket = match timeout(HELLO_TIMEOUT, shaking).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(why)) => {
            context.counters.malformed.add(1);
            if speaks_http(&why) {
                let _ = timeout(FAREWELL, stream.write_all(&upgrade_required())).await;
                let _ = timeout(FAREWELL, stream.shutdown()).await;
            }
            return debug!("{NAME}: {why}");
        }
        Err(_) => return,
    };
    voice.speaks();
    let (code, why) = match join(&mut socket, token, options, context).await {
        Ok(Some(session)) => {
            Conversation::new(options, context, session).run(&mut socket, Vec::new()).await
        }
        Ok(None) => (CloseCode::Away, "the router stops".to_owned()),
        Err(ended) => ended,
    };
    close(&mut socket, code, &why).await;
}

/// Whether what came was a request of HTTP that asks for no WebSocket.
fn speaks_http(why: &Error) -> bool {
    use ProtocolError::{HandshakeIncomplete, HttparseError};
    matches!(why, Error::Protocol(why) if !matches!(why, HttparseError(_) | HandshakeIncomplete))
}

/// RFC 9110 §15.5.22.
fn upgrade_required() -> Vec<u8> {
    let text = "this port speaks WebSocket, with JSON in its messages\n";
    let length = text.len();
    let head = "HTTP/1.1 426 Upgrade Required\r\n\
                Upgrade: websocket\r\nConnection: Upgrade, close\r\n\
                Content-Type: text/plain; charset=utf-8\r\nContent-Length:";
    format!("{head} {length}\r\n\r\n{text}").into_bytes()
}

/// Joins a server elsewhere again and again, until the host stops.
pub(super) async fn join_for_ever(
    options: Arc<WsJsonOptions>,
    trust: Option<Arc<ClientConfig>>,
    context: Context,
) {
    let trust = trust.map(TlsConnector::from);
    let url = options.url.clone().unwrap_or_default();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random());
    let mut told = false;
    loop {
        let connecting = timeout(HELLO_TIMEOUT, connect(&url, trust.as_ref(), &options));
        let connected = tokio::select! {
            connected = connecting => connected,
            () = context.stop.wait() => return,
        };
        let connected = match connected {
            Ok(connected) => connected.map_err(|why| why.to_string()),
            Err(_) => Err("it does not answer".to_owned()),
        };
        match connected {
            Ok(mut socket) => {
                info!("{NAME} joined {url}");
                backoff.reset();
                told = false;
                let who = Who { features: FEATURES, ..Who::service(NAME, options.token.clone()) };
                let session = context.router.join_for_sure(&who, &context.stop).await;
                let Some(session) = session else { return };
                let wishes = options.subscribe.iter().map(|pattern| {
                    ("subscribe".to_owned(), Map::from_iter([("pattern".into(), json!(pattern))]))
                });
                let talk = Conversation::new(&options, &context, session);
                let (code, why) = talk.run(&mut socket, wishes.rev().collect()).await;
                close(&mut socket, code, &why).await;
                warn!("{NAME} left {url}: {why}");
            }
            Err(why) if !told => {
                warn!("{NAME} cannot join {url}: {why}");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(backoff.next_wait()) => {}
            () = context.stop.wait() => return,
        }
    }
}

async fn connect(
    url: &str,
    trust: Option<&TlsConnector>,
    options: &WsJsonOptions,
) -> Result<WebSocketStream<Stream>, Error> {
    let uri: Uri = url.parse().map_err(|_| Error::ConnectionClosed)?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let usual = if trust.is_some() { 443 } else { 80 };
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(usual))).await?;
    stream.set_nodelay(true)?;
    let stream = match trust {
        None => Either::Left(stream),
        Some(trust) => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Either::Right(trust.connect(name, stream).await?.into())
        }
    };
    Ok(client_async_with_config(url, stream, Some(config(options))).await?.0)
}

/// Whether a URL is joined with TLS; `None`: it cannot be joined.
pub(super) fn is_secure(url: &str) -> Option<bool> {
    let uri: Uri = url.parse().ok()?;
    web::port(uri.authority()?).ok()?;
    match uri.scheme_str()? {
        "ws" => Some(false),
        "wss" => Some(true),
        _ => None,
    }
}

fn config(options: &WsJsonOptions) -> WebSocketConfig {
    let most = Some(options.message_bytes_max);
    WebSocketConfig::default()
        .max_message_size(most)
        .max_frame_size(most)
        .max_write_buffer_size(options.message_bytes_max.max(1 << 20) + (256 << 10))
}

/// Looks at a handshake: from which page it comes, and the token that it brings.
fn admit(request: &Request, options: &WsJsonOptions) -> Result<Option<String>, &'static str> {
    admission::look(&options.origins, request.headers())?;
    // What another scheme says may be meant for a proxy before us.
    let bearer = admission::bearer(request.headers()).unwrap_or_default();
    Ok(bearer.or_else(|| admission::token_in(request.uri())))
}

/// Joins the router with the token of the handshake, or with that of a first message where the
/// router wants one. `None`: the host stops.
async fn join<S: Carries>(
    socket: &mut WebSocketStream<S>,
    token: Option<String>,
    options: &WsJsonOptions,
    context: &Context,
) -> Result<Option<(Speaker, Hearer)>, Ended> {
    let brought = token.is_some();
    let refused = match enter(token.or_else(|| options.token.clone()), context).await {
        Ok(session) => return Ok(Some(session)),
        Err(refused) => refused,
    };
    if brought || refused.code != code::UNAUTHORIZED {
        let _ = socket.send(Message::text(error_text(None, &refused))).await;
        return Err((CloseCode::Policy, refused.message));
    }
    let first = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                return Some(text);
            }
        }
        None
    };
    let first = tokio::select! {
        first = timeout(HELLO_TIMEOUT, first) => first.ok().flatten(),
        () = context.stop.wait() => return Ok(None),
    };
    let first = first.and_then(|text| serde_json::from_str(&text).ok());
    let Some((token, id)) = first.and_then(|said: Json| token_in(&said)) else {
        let _ = socket.send(Message::text(error_text(None, &refused))).await;
        return Err((CloseCode::Policy, refused.message));
    };
    match enter(Some(token), context).await {
        Ok(session) => {
            let _ = socket.send(Message::text(auth_ack(id))).await;
            Ok(Some(session))
        }
        Err(refused) => {
            let _ = socket.send(Message::text(error_text(id.as_ref(), &refused))).await;
            Err((CloseCode::Policy, refused.message))
        }
    }
}

async fn enter(token: Option<String>, context: &Context) -> Result<(Speaker, Hearer), Refused> {
    let who = Who { features: FEATURES, ..Who::client(NAME, token) };
    context.router.join(&who).await.map_err(|error| match error {
        JoinError::Refused { code, message } => Refused { code, message, address: None },
        other => {
            let message = other.to_string();
            Refused { code: code::UNAVAILABLE, message, address: None }
        }
    })
}

/// The token and the id of `{"op": "auth", "token": ".."}`.
fn token_in(said: &Json) -> Option<(String, Option<Json>)> {
    let op = said.get("op").or_else(|| said.get("type"))?.as_str()?;
    let token = said.get("token")?.as_str()?;
    op.eq_ignore_ascii_case("auth").then(|| (token.to_owned(), said.get("id").cloned()))
}

fn auth_ack(id: Option<Json>) -> String {
    let mut ack = json!({ "type": "ack" });
    if let Some(id) = id {
        ack["id"] = id;
    }
    ack.to_string()
}

/// What was said, and its keys.
type Said = (String, Map<String, Json>);

struct Conversation<'c> {
    options: &'c WsJsonOptions,
    context: &'c Context,
    speaker: Speaker,
    hearer: Hearer,
    program: Program,
    /// When the router must have answered what was said last.
    answer_due: Instant,
    slow_until: Instant,
    heard: Instant,
}

impl<'c> Conversation<'c> {
    fn new(
        options: &'c WsJsonOptions,
        context: &'c Context,
        (speaker, hearer): (Speaker, Hearer),
    ) -> Self {
        let now = Instant::now();
        let program = Program::default();
        let (answer_due, slow_until, heard) = (now, now, now);
        Self { options, context, speaker, hearer, program, answer_due, slow_until, heard }
    }

    /// Goes on until one side ends it. `first` is said on behalf of the program, the last first.
    async fn run<S: Carries>(
        mut self,
        socket: &mut WebSocketStream<S>,
        mut first: Vec<Said>,
    ) -> Ended {
        let mut outs = Vec::new();
        let mut ping = self.heard + PING_INTERVAL;
        loop {
            for out in outs.drain(..) {
                if let Err(ended) = self.carry(out, socket).await {
                    return ended;
                }
            }
            let now = Instant::now();
            let is_waiting = self.program.is_waiting();
            if !is_waiting && let Some((op, map)) = first.pop() {
                self.say(&op, map, &mut outs);
                continue;
            }
            if is_waiting && now >= self.answer_due {
                return (CloseCode::Error, "the router does not answer".to_owned());
            }
            if now >= ping {
                if now - self.heard > SILENCE_MAX {
                    return (CloseCode::Away, "nothing was heard for a minute".to_owned());
                }
                ping = now + PING_INTERVAL;
                let pinged = socket.send(Message::Ping(Default::default()));
                if !matches!(timeout(SEND_TIMEOUT, pinged).await, Ok(Ok(()))) {
                    return (CloseCode::Away, "a ping could not be sent".to_owned());
                }
            }
            let listens = !is_waiting && now >= self.slow_until;
            let mut due = ping;
            if is_waiting {
                due = due.min(self.answer_due);
            } else if !listens {
                due = due.min(self.slow_until);
            }
            tokio::select! {
                heard = self.hearer.next() => match heard {
                    Some(heard) => self.program.heard(&heard.message, &mut outs),
                    None => return self.left_by_router(),
                },
                message = socket.next(), if listens => match message {
                    Some(Ok(message)) => {
                        if let Err(ended) = self.take(message, &mut outs).await {
                            return ended;
                        }
                    }
                    Some(Err(Error::Capacity(why))) => return (CloseCode::Size, why.to_string()),
                    Some(Err(Error::Utf8(why))) => return (CloseCode::Invalid, why),
                    Some(Err(why)) => return (CloseCode::Protocol, why.to_string()),
                    None => return (CloseCode::Normal, "it left".to_owned()),
                },
                () = sleep_until(due) => {}
                () = self.context.stop.wait() => {
                    return (CloseCode::Away, "the router stops".to_owned());
                }
            }
        }
    }

    fn left_by_router(&self) -> Ended {
        match self.hearer.has_expired() {
            true => (CloseCode::Policy, "token has expired".to_owned()),
            false => (CloseCode::Restart, self.hearer.why_ended().to_owned()),
        }
    }

    async fn carry<S: Carries>(
        &mut self,
        out: Out,
        socket: &mut WebSocketStream<S>,
    ) -> Result<(), Ended> {
        let text = match out {
            Out::ToRouter(frame) => {
                let said = self.speaker.say_frame(&frame).await;
                return said.map_err(|why| (CloseCode::Restart, why.to_string()));
            }
            Out::Slow => {
                self.slow_until = Instant::now() + SLOW;
                return Ok(());
            }
            Out::Answer { text, .. } | Out::News { text, .. } => text,
        };
        self.context.counters.packets_out.add(1);
        match timeout(SEND_TIMEOUT, socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err((CloseCode::Away, why.to_string())),
            Err(_) => Err((CloseCode::Policy, "it takes nothing".to_owned())),
        }
    }

    fn say(&mut self, op: &str, map: Map<String, Json>, outs: &mut Vec<Out>) {
        self.answer_due = Instant::now() + ANSWER_TIMEOUT;
        self.program.said(op, map, outs);
    }

    async fn take(&mut self, message: Message, outs: &mut Vec<Out>) -> Result<(), Ended> {
        self.heard = Instant::now();
        let said = match message {
            Message::Text(text) => read(&text, self.options),
            Message::Binary(bytes) => read_bytes(&bytes, self.options),
            Message::Close(_) => return Err((CloseCode::Normal, "it left".to_owned())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        self.context.counters.packets_in.add(1);
        match said {
            Ok((op, map)) if op == "auth" => self.enter_anew(&map, outs).await,
            Ok((op, map)) => {
                self.say(&op, map, outs);
                Ok(())
            }
            Err(Unread { id, why }) => {
                self.context.counters.malformed.add(1);
                self.program.refuse(id, &why, outs);
                Ok(())
            }
        }
    }

    /// Becomes somebody else: another session, without subscriptions.
    async fn enter_anew(
        &mut self,
        map: &Map<String, Json>,
        outs: &mut Vec<Out>,
    ) -> Result<(), Ended> {
        let id = map.get("id").cloned();
        let Some(token) = map.get("token").and_then(Json::as_str) else {
            self.program.refuse(id, "auth needs `token`", outs);
            return Ok(());
        };
        match enter(Some(token.to_owned()), self.context).await {
            Ok((speaker, hearer)) => {
                (self.speaker, self.hearer) = (speaker, hearer);
                self.program = Program::default();
                outs.push(Out::Answer { text: auth_ack(id.clone()), id });
                Ok(())
            }
            Err(refused) => {
                let text = error_text(id.as_ref(), &refused);
                outs.push(Out::Answer { id, text });
                Ok(())
            }
        }
    }
}

/// A message that says nothing: why, and the id under which that is answered.
#[derive(Clone, Debug, PartialEq)]
struct Unread {
    id: Option<Json>,
    why: String,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { id: None, why }
    }
}

/// What a text message says, plainly or not.
fn read(text: &str, options: &WsJsonOptions) -> Result<Said, Unread> {
    const NEED: &str = "a message needs `op`, such as {\"op\": \"ping\"}";
    let json = serde_json::from_str(text);
    let mut map = match json {
        Ok(Json::Object(map)) => map,
        // Text that begins like an object is a slip of the pen, and no value.
        Err(why) if text.trim_start().starts_with('{') => {
            return Err(format!("no JSON: {why}").into());
        }
        other if options.plain => {
            let value = other.unwrap_or_else(|_| value::of_text(text));
            return Ok(plain(format!("{}/text", options.namespace), value));
        }
        Ok(_) => return Err(NEED.to_owned().into()),
        Err(why) => return Err(format!("no JSON: {why}").into()),
    };
    for key in ["op", "type"] {
        if let Some(Json::String(op)) = map.get(key) {
            let op = op.to_ascii_lowercase();
            map.remove(key);
            return Ok((op, map));
        }
    }
    if !options.plain || map.contains_key("op") {
        return Err(Unread { id: map.remove("id"), why: format!("{NEED}; it is text") });
    }
    let address = map.get("address").and_then(Json::as_str).map(str::to_owned);
    Ok(match address {
        Some(address) => {
            let value = map.remove("value").or_else(|| map.remove("data"));
            plain(address, value.unwrap_or(Json::Object(map)))
        }
        None => plain(format!("{}/message", options.namespace), Json::Object(map)),
    })
}

fn read_bytes(bytes: &[u8], options: &WsJsonOptions) -> Result<Said, Unread> {
    match options.plain {
        true => Ok(plain(format!("{}/binary", options.namespace), value::of_bytes(bytes))),
        false => Err("a message is text, such as {\"op\": \"ping\"}".to_owned().into()),
    }
}

/// A SET that was not called one.
fn plain(address: String, value: Json) -> Said {
    let keys = [("address".to_owned(), Json::String(address)), ("value".to_owned(), value)];
    ("set".to_owned(), Map::from_iter(keys))
}

async fn close<S: Carries>(socket: &mut WebSocketStream<S>, code: CloseCode, why: &str) {
    let fits = why.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
    let reason = why.get(..fits).unwrap_or_default().to_owned();
    let frame = CloseFrame { code, reason: reason.into() };
    let closing = async {
        let _ = socket.close(Some(frame)).await;
        // What the other side still says is taken, so that it sees the good-bye and no reset.
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(FAREWELL, closing).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_plainly_means_something_and_what_has_an_op_is_that() {
        let options = WsJsonOptions::default();
        for (text, op, keys) in [
            (r#"{"op":"SET","address":"/a"}"#, "set", json!({ "address": "/a" })),
            (r#"{"type":"ping"}"#, "ping", json!({})),
            (r#"{"address":"/a","value":1}"#, "set", json!({ "address": "/a", "value": 1 })),
            (r#"{"address":"/a","data":1}"#, "set", json!({ "address": "/a", "value": 1 })),
            (r#"{"x":1}"#, "set", json!({ "address": "/ws/message", "value": { "x": 1 } })),
            ("0.5", "set", json!({ "address": "/ws/text", "value": 0.5 })),
            ("go", "set", json!({ "address": "/ws/text", "value": "go" })),
        ] {
            let want = (op.to_owned(), keys.as_object().expect("an object").clone());
            assert_eq!(read(text, &options), Ok(want), "{text}");
        }
        let (op, map) = read_bytes(&[1, 255], &options).expect("plain");
        let want = json!({ "address": "/ws/binary", "value": { "$bytes": "01ff" } });
        assert_eq!((op.as_str(), Json::Object(map)), ("set", want));
        let strict = WsJsonOptions { plain: false, ..options.clone() };
        let told = |text: &str| read(text, &options).expect_err(text);
        assert!(told(r#" {"op":"set","address":"/a","value":}"#).why.contains("no JSON"));
        let slip = told(r#"{"op":5,"id":"x"}"#);
        assert_eq!(slip.id, Some(json!("x")));
        assert!(slip.why.contains("`op`"), "{}", slip.why);
        for text in [r#"{"address":"/a","value":1}"#, "go", "{"] {
            assert!(read(text, &strict).is_err(), "{text}");
        }
        assert!(read_bytes(&[1], &strict).is_err());
    }

    #[test]
    fn a_handshake_is_looked_at_for_its_origin_and_its_token() {
        let some = WsJsonOptions {
            origins: vec!["https://show.example".to_owned()],
            ..WsJsonOptions::default()
        };
        let look = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = http::Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            admit(&request.body(()).expect("a request"), &some).ok()
        };
        assert_eq!(look("/", &[]), Some(None), "no browser");
        assert_eq!(look("/?a=1&token=x%20y", &[]), Some(Some("x y".into())));
        let page = ("origin", "https://show.example");
        assert_eq!(look("/", &[page, ("authorization", "Bearer t")]), Some(Some("t".into())));
        assert_eq!(look("/", &[("origin", "https://evil.example")]), None);
    }

    #[test]
    fn only_a_message_that_says_auth_brings_a_token() {
        let token = |json: Json| token_in(&json);
        let named = json!({ "op": "auth", "token": "t", "id": 1 });
        assert_eq!(token(named), Some(("t".into(), Some(json!(1)))));
        for other in [json!({ "op": "set", "token": "t" }), json!({ "op": "auth" }), json!(1)] {
            assert_eq!(token(other.clone()), None, "{other}");
        }
    }
}

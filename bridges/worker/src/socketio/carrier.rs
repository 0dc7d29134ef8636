//! One connection to a server elsewhere: polling, WebSocket, or the first and then the second.
//!
//! What waits on either side is bounded by two channels; a ping is answered in here, however slow
//! the router is.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use futures_util::{SinkExt, StreamExt};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::either::Either;
use tracing::debug;

use super::engine::{self, Frame, Handshake, Packet};
use super::join::Place;
use crate::web::serve::Stream;

/// A server that is not reached, or does not answer a first request, by then is not there.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A WebSocket that does not work by then is done without.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that takes nothing for so long is left.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Packets on their way in each direction; each is at most as long as a message.
const QUEUE_MAX: usize = 16;
/// Bytes of a body beyond those of one message: packets that came together.
const BODY_BYTES_MORE: usize = 64 << 10;

/// What a connection says.
#[derive(Debug)]
pub enum News {
    /// It stands, and begins so.
    Open(Handshake),
    /// Text of Socket.IO.
    Text(String),
    Bytes(Vec<u8>),
    /// It ended, or did not begin, and why. Nothing follows.
    Lost(String),
}

/// A connection at work; it ends when this is dropped.
pub struct Carrier {
    /// Takes the frames of one packet at a time.
    pub out: Sender<Vec<Frame>>,
    pub news: Receiver<News>,
    task: JoinSet<()>,
}

impl Carrier {
    pub fn start(place: Arc<Place>) -> Self {
        let (out, mut frames) = mpsc::channel(QUEUE_MAX);
        let (tell, news) = mpsc::channel(QUEUE_MAX);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let why = match carry(&place, &mut frames, &tell).await {
                Ok(()) => "it was left".to_owned(),
                Err(why) => why,
            };
            // Nobody is left to hear it, perhaps.
            let _ = tell.send(News::Lost(why)).await;
        });
        Self { out, news, task }
    }

    /// Lets what was said leave, and ends it.
    pub async fn finish(self) {
        let Self { out, news, mut task } = self;
        drop((out, news));
        while task.join_next().await.is_some() {}
    }
}

/// Until `frames` end, or the connection does, and why.
async fn carry(
    place: &Arc<Place>,
    frames: &mut Receiver<Vec<Frame>>,
    tell: &Sender<News>,
) -> Result<(), String> {
    let silent = |_| "it does not answer".to_owned();
    if !place.polls {
        let begin = async {
            let mut socket = web_socket(place, "").await?;
            let handshake = loop {
                match text_of(&mut socket).await? {
                    None => {}
                    Some(text) => match engine::packet(&text).map_err(told)? {
                        Packet::Open(json) => break Handshake::parse(json).map_err(told)?,
                        _ => return Err("it does not begin with a handshake".to_owned()),
                    },
                }
            };
            Ok((socket, handshake))
        };
        let (socket, handshake) = timeout(HELLO_TIMEOUT, begin).await.map_err(silent)??;
        let silence = handshake.silence_max;
        // Whoever does not hear it any more has dropped the frames, too.
        let _ = tell.send(News::Open(handshake)).await;
        return over_web_socket(socket, silence, frames, tell).await;
    }
    let mut http = Http::new(place);
    let first = timeout(HELLO_TIMEOUT, http.request(Method::GET, "", String::new()));
    let body = first.await.map_err(silent)??;
    let mut packets = engine::packets(&body);
    let handshake = match packets.next() {
        Some(Ok(Packet::Open(json))) => Handshake::parse(json).map_err(told)?,
        _ => return Err("it does not begin with a handshake".to_owned()),
    };
    let sid = form_urlencoded::byte_serialize(handshake.sid.as_bytes());
    let session = format!("&sid={}", sid.collect::<String>());
    let mut socket = None;
    if place.upgrades && handshake.has_websocket {
        match timeout(PROBE_TIMEOUT, upgraded(place, &session)).await {
            Ok(Ok(upgraded)) => socket = Some(upgraded),
            Ok(Err(why)) => debug!("socketio stays with polling: {why}"),
            Err(_) => debug!("socketio stays with polling: no answer to a probe"),
        }
    }
    let silence = handshake.silence_max;
    let most = handshake.payload_bytes_max;
    let _ = tell.send(News::Open(handshake)).await;
    for packet in packets {
        hear(packet.map_err(told)?, tell).await?;
    }
    match socket {
        Some(socket) => over_web_socket(socket, silence, frames, tell).await,
        None => over_polling(place, &session, http, (silence, most), frames, tell).await,
    }
}

/// Passes a packet on. `Some`: the answer to it.
async fn hear(packet: Packet<'_>, tell: &Sender<News>) -> Result<Option<Frame>, String> {
    let news = match packet {
        Packet::Ping(text) => return Ok(Some(Frame::pong(text))),
        Packet::Close => return Err("the server ends it".to_owned()),
        Packet::Message(text) => News::Text(text.to_owned()),
        Packet::Bytes(bytes) => News::Bytes(bytes.into_owned()),
        Packet::Open(_) => return Err("it begins twice".to_owned()),
        Packet::Pong(_) | Packet::Upgrade | Packet::Noop => return Ok(None),
    };
    // Whoever does not hear it any more has dropped the frames, too.
    let _ = tell.send(news).await;
    Ok(None)
}

type Socket = WebSocketStream<Stream>;

/// Changes from polling to WebSocket, before anything else is said.
async fn upgraded(place: &Place, session: &str) -> Result<Socket, String> {
    let mut socket = web_socket(place, session).await?;
    socket.send(Message::text("2probe")).await.map_err(told)?;
    loop {
        match text_of(&mut socket).await?.as_deref() {
            Some("3probe") => break,
            Some(_) => return Err("no answer to a probe".to_owned()),
            None => {}
        }
    }
    socket.send(Message::text("5")).await.map_err(told)?;
    Ok(socket)
}

/// The next message, if it is text.
async fn text_of(socket: &mut Socket) -> Result<Option<String>, String> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Close(_))) | None => Err("the server ends it".to_owned()),
        Some(Ok(_)) => Ok(None),
        Some(Err(why)) => Err(why.to_string()),
    }
}

async fn over_web_socket(
    mut socket: Socket,
    silence_max: Duration,
    frames: &mut Receiver<Vec<Frame>>,
    tell: &Sender<News>,
) -> Result<(), String> {
    let mut quiet = Instant::now() + silence_max;
    loop {
        let answer = tokio::select! {
            said = frames.recv() => match said {
                Some(said) => said,
                None => {
                    // What the server still says is of no use to anybody.
                    let _ = timeout(SEND_TIMEOUT, socket.close(None)).await;
                    return Ok(());
                }
            },
            heard = timeout_at(quiet, socket.next()) => {
                let message = match heard {
                    Err(_) => return Err("the server is silent".to_owned()),
                    Ok(None) => return Err("the connection was closed".to_owned()),
                    Ok(Some(message)) => message.map_err(told)?,
                };
                quiet = Instant::now() + silence_max;
                let packet = match &message {
                    Message::Text(text) => engine::packet(text.as_str()).map_err(told)?,
                    Message::Binary(bytes) => Packet::Bytes((&bytes[..]).into()),
                    Message::Close(_) => return Err("the server ends it".to_owned()),
                    _ => Packet::Noop,
                };
                hear(packet, tell).await?.into_iter().collect()
            }
        };
        if answer.is_empty() {
            continue;
        }
        let sending = async {
            for frame in answer {
                socket.feed(message_of(frame)).await?;
            }
            socket.flush().await
        };
        let sent = timeout(SEND_TIMEOUT, sending).await;
        sent.map_err(|_| "it takes nothing".to_owned())?.map_err(told)?;
    }
}

fn message_of(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::text(text),
        Frame::Bytes(bytes) => Message::binary(bytes),
    }
}

async fn over_polling(
    place: &Arc<Place>,
    session: &str,
    mut gets: Http,
    (silence_max, body_bytes_max): (Duration, usize),
    frames: &mut Receiver<Vec<Frame>>,
    tell: &Sender<News>,
) -> Result<(), String> {
    let mut posts = Http::new(place);
    // A server asks again only when it was answered.
    let (answer, mut answers) = mpsc::channel(QUEUE_MAX);
    let receiving = async {
        loop {
            let asking = timeout(silence_max, gets.request(Method::GET, session, String::new()));
            let body = asking.await.map_err(|_| "the server is silent".to_owned())??;
            for packet in engine::packets(&body) {
                if let Some(frame) = hear(packet.map_err(told)?, tell).await? {
                    answer.send(frame).await.map_err(told)?;
                }
            }
        }
    };
    let sending = async {
        let mut waiting = VecDeque::new();
        loop {
            let mut is_over = false;
            tokio::select! {
                Some(frame) = answers.recv() => waiting.push_back(frame),
                said = frames.recv() => match said {
                    Some(said) => waiting.extend(said),
                    None => {
                        waiting.push_back(Frame::Text("1".to_owned()));
                        is_over = true;
                    }
                },
            }
            while waiting.len() < QUEUE_MAX
                && let Ok(more) = frames.try_recv()
            {
                waiting.extend(more);
            }
            while let Some(body) = body_of(&mut waiting, body_bytes_max) {
                let posting = timeout(SEND_TIMEOUT, posts.request(Method::POST, session, body));
                posting.await.map_err(|_| "it takes nothing".to_owned())??;
            }
            if is_over {
                return Ok(());
            }
        }
    };
    tokio::select! {
        received = receiving => received,
        sent = sending => sent,
    }
}

/// As many of `waiting` as one body may hold, one at least; `None`: none waits.
fn body_of(waiting: &mut VecDeque<Frame>, bytes_max: usize) -> Option<String> {
    let mut body = String::new();
    while let Some(frame) = waiting.front()
        && (body.is_empty() || body.len() + 1 + frame.body_len() <= bytes_max)
    {
        frame.push(&mut body);
        waiting.pop_front();
    }
    (!body.is_empty()).then_some(body)
}

/// Requests one after the other, on one connection as long as the server keeps it.
struct Http {
    place: Arc<Place>,
    sender: Option<SendRequest<Body>>,
    driver: JoinSet<()>,
    /// So that nobody between answers from memory.
    count: u32,
}

impl Http {
    fn new(place: &Arc<Place>) -> Self {
        Self { place: Arc::clone(place), sender: None, driver: JoinSet::new(), count: 0 }
    }

    /// Asks, and gives the body of the answer.
    async fn request(
        &mut self,
        method: Method,
        session: &str,
        body: String,
    ) -> Result<String, String> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        // A server may have closed it since.
        if sender.ready().await.is_err() {
            sender = self.connect().await?;
        }
        self.count = self.count.wrapping_add(1);
        let query = format!("EIO=4&transport=polling&t={:x}{session}", self.count);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{query}", self.place.path_and_query))
            .header(HOST, &self.place.authority)
            .header(CONTENT_TYPE, "text/plain;charset=UTF-8")
            .body(Body::from(body))
            .map_err(told)?;
        let response = sender.send_request(request).await.map_err(told)?;
        let status = response.status();
        let most = self.place.message_bytes_max.saturating_add(BODY_BYTES_MORE);
        let body = to_bytes(Body::new(response.into_body()), most).await.map_err(told)?;
        if status != StatusCode::OK {
            let why: String = String::from_utf8_lossy(&body).chars().take(100).collect();
            return Err(format!("it answers {status}: {why}"));
        }
        self.sender = Some(sender);
        String::from_utf8(body.into()).map_err(|_| "an answer that is no text".to_owned())
    }

    async fn connect(&mut self) -> Result<SendRequest<Body>, String> {
        let stream = dial(&self.place).await.map_err(told)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(told)?;
        self.driver.abort_all();
        while self.driver.join_next().await.is_some() {}
        self.driver.spawn(async move {
            if let Err(why) = connection.await {
                debug!("socketio: {why}");
            }
        });
        Ok(sender)
    }
}

async fn dial(place: &Place) -> io::Result<Stream> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
    stream.set_nodelay(true)?;
    Ok(match &place.tls {
        None => Either::Left(stream),
        Some((tls, name)) => Either::Right(tls.connect(name.clone(), stream).await?.into()),
    })
}

async fn web_socket(place: &Place, session: &str) -> Result<Socket, String> {
    let stream = dial(place).await.map_err(told)?;
    let Place { authority, path_and_query, message_bytes_max, .. } = place;
    let scheme = if place.tls.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{authority}{path_and_query}EIO=4&transport=websocket{session}");
    // The digit of the packet comes before the message.
    let most = Some(message_bytes_max + 1);
    let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
    let connected = client_async_with_config(url, stream, Some(config)).await;
    connected.map(|(socket, _)| socket).map_err(told)
}

fn told(why: impl ToString) -> String {
    why.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_as_many_packets_as_a_server_takes_and_one_at_least() {
        let mut waiting: VecDeque<_> = ["4a", "4bc", "4defg"].map(|t| Frame::Text(t.into())).into();
        assert_eq!(body_of(&mut waiting, 6).as_deref(), Some("4a\x1e4bc"));
        assert_eq!(body_of(&mut waiting, 2).as_deref(), Some("4defg"));
        assert_eq!(body_of(&mut waiting, 2), None);
    }
}

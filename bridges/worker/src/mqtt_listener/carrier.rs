//! What carries a client's packets: a stream of bytes, or WebSocket messages with such bytes inside
//! (MQTT 5 §6).

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::wire::PACKET_BYTES_MAX;
use crate::web::admission;

/// A connection, with TLS or without.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

type Stream = BufReader<Box<dyn Duplex>>;

/// A connection whose first byte was seen.
pub enum Carrier {
    Bytes(Stream),
    Ws(Box<WebSocketStream<Stream>>),
}

const READ_BYTES: usize = 16 << 10;

impl Carrier {
    /// Looks at the first byte, and shakes hands if it is a `G`: no packet of MQTT begins so, but
    /// every request of a WebSocket does. Whoever calls bounds the wait.
    pub async fn accept(stream: Box<dyn Duplex>, origins: &[String]) -> io::Result<Self> {
        let mut stream = BufReader::with_capacity(READ_BYTES, stream);
        if stream.fill_buf().await?.first() != Some(&b'G') {
            return Ok(Self::Bytes(stream));
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(PACKET_BYTES_MAX))
            .max_frame_size(Some(PACKET_BYTES_MAX));
        #[expect(clippy::result_large_err, reason = "the shape of a refusal is the library's")]
        let look = |request: &Request, response: Response| admit(request, response, origins);
        let accepted = accept_hdr_async_with_config(stream, look, Some(config)).await;
        Ok(Self::Ws(Box::new(accepted.map_err(io::Error::other)?)))
    }

    /// Appends what came to `into`; `false`: the connection ended. May be dropped and called again.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Bytes(stream) => {
                into.reserve(READ_BYTES);
                Ok(stream.read_buf(into).await? > 0)
            }
            Self::Ws(socket) => match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    into.extend_from_slice(&bytes);
                    Ok(true)
                }
                // They are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(true),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    Err(io::Error::other("a WebSocket message that is not binary"))
                }
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => Ok(false),
                Some(Err(why)) => Err(io::Error::other(why)),
            },
        }
    }

    pub async fn write(&mut self, packets: Bytes) -> io::Result<()> {
        match self {
            Self::Bytes(stream) => {
                stream.write_all(&packets).await?;
                stream.flush().await
            }
            Self::Ws(socket) => {
                socket.send(Message::Binary(packets)).await.map_err(io::Error::other)
            }
        }
    }

    pub async fn close(&mut self) {
        // Whatever stands in the way, it is dropped next.
        let _ = match self {
            Self::Bytes(stream) => stream.shutdown().await,
            Self::Ws(socket) => SinkExt::close(socket.as_mut()).await.map_err(io::Error::other),
        };
    }
}

/// Looks at a handshake: from which page it comes, and that MQTT is spoken (MQTT 5 §6.0).
#[expect(clippy::result_large_err, reason = "the shape of a refusal is the library's")]
fn admit(
    request: &Request,
    mut response: Response,
    origins: &[String],
) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode, why: &str| {
        let mut refused = ErrorResponse::new(Some(why.to_owned()));
        *refused.status_mut() = status;
        Err(refused)
    };
    if let Err(why) = admission::look(origins, request.headers()) {
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offers.filter_map(|offer| offer.to_str().ok()).flat_map(|o| o.split(','));
    if !offered.any(|offer| offer.trim() == "mqtt") {
        return refuse(StatusCode::BAD_REQUEST, "the subprotocol `mqtt` is spoken here");
    }
    let spoken = HeaderValue::from_static("mqtt");
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, spoken);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Header = (&'static str, &'static str);

    fn status(headers: &[Header], origins: &[&str]) -> u16 {
        let mut request = Request::builder().uri("/mqtt");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let origins: Vec<_> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let request = request.body(()).expect("a request");
        match admit(&request, Response::new(()), &origins) {
            Ok(response) => {
                assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "mqtt");
                101
            }
            Err(refused) => refused.status().as_u16(),
        }
    }

    #[test]
    fn a_handshake_is_looked_at_for_its_origin_and_what_it_speaks() {
        let mqtt: Header = ("sec-websocket-protocol", "other, mqtt");
        let page = ("origin", "https://show.example");
        let cases: [(&[Header], &[&str], u16); 5] = [
            (&[mqtt], &[], 101),
            (&[mqtt, page], &["*"], 101),
            (&[mqtt, page], &["https://show.example"], 101),
            (&[mqtt, page], &["https://other.example"], 403),
            (&[("sec-websocket-protocol", "mqttv3.1")], &["*"], 400),
        ];
        for (headers, origins, expected) in cases {
            assert_eq!(status(headers, origins), expected, "{headers:?} {origins:?}");
        }
    }
}

//! The web request that becomes a WebSocket: RFC 6455 §4. Pure: header blocks in, answers out.

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Header, Request, Response};
use tungstenite::handshake::derive_accept_key;

/// Bytes of the longest header block that is read.
pub const HEAD_BYTES_MAX: usize = 8 << 10;

/// Header lines of one block; browsers send about twenty.
const HEADERS_MAX: usize = 64;

/// The one subprotocol: offered by clients, echoed to those that offer exactly it.
const SUBPROTOCOL: &str = "clasp";

/// A header block that opens no connection, as [`crate::End::NotOpened`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOpened {
    pub status: u16,
    pub what: &'static str,
}

/// Length of the header block at the front of `received`, of which `searched` bytes are known to
/// hold no end of it.
pub fn head_len(received: &[u8], searched: usize) -> Result<Option<usize>, NotOpened> {
    const END: &[u8] = b"\r\n\r\n";
    let from = searched.saturating_sub(END.len() - 1);
    let found = received
        .get(from..)
        .and_then(|unsearched| unsearched.windows(END.len()).position(|window| window == END));
    match found.map(|at| from + at + END.len()) {
        Some(len) if len <= HEAD_BYTES_MAX => Ok(Some(len)),
        None if received.len() <= HEAD_BYTES_MAX => Ok(None),
        _ => Err(NotOpened { status: 431, what: "the header block is longer than 8192 bytes" }),
    }
}

/// Answers a client's header block: appends the reply, whichever it is.
pub fn answer(head: &[u8], out: &mut Vec<u8>) -> Result<(), NotOpened> {
    let mut lines = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut lines);
    let upgrade = match request.parse(head) {
        Ok(status) if status.is_complete() => Upgrade::of(&request),
        Err(httparse::Error::TooManyHeaders) => {
            Err(NotOpened { status: 431, what: "the request has more than 64 header lines" })
        }
        _ => Err(NotOpened { status: 400, what: "the request is no HTTP" }),
    };
    match upgrade {
        Ok(upgrade) => upgrade.append_reply(out),
        Err(refused) => append_refusal(refused, request.method == Some("HEAD"), out),
    }
    upgrade.map(|_| ())
}

/// Appends an answer to something that is no request at all, or none that will be read.
pub fn append_refusal(refused: NotOpened, head_only: bool, out: &mut Vec<u8>) {
    let reason = match refused.status {
        200 => "OK",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Bad Request",
    };
    let extra = match refused.status {
        405 => "Allow: GET, HEAD, POST, OPTIONS\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    let body = if refused.status == 200 { "ok" } else { refused.what };
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{extra}\
         Connection: close\r\n\r\n",
        refused.status,
        body.len() + 1,
    );
    out.extend_from_slice(head.as_bytes());
    if !head_only {
        out.extend_from_slice(body.as_bytes());
        out.push(b'\n');
    }
}

/// What the reply to an upgrade is made of.
#[derive(Clone, Copy)]
struct Upgrade<'a> {
    key: &'a [u8],
    subprotocol: bool,
}

impl<'a> Upgrade<'a> {
    /// Sorts a request: an upgrade, a wrong upgrade, or an ordinary request.
    ///
    /// Anything but a GET is ordinary, whatever its headers say; load balancers and people with a
    /// browser ask that way whether somebody is there.
    fn of(request: &Request<'_, 'a>) -> Result<Self, NotOpened> {
        let headers = &*request.headers;
        match request.method {
            Some("GET") if has_token(headers, "Upgrade", "websocket") => {}
            Some("GET" | "HEAD" | "POST" | "OPTIONS") => {
                return Err(NotOpened { status: 200, what: "an ordinary web request" });
            }
            _ => return Err(NotOpened { status: 405, what: "the method is not for this server" }),
        }
        if request.version != Some(1) {
            return Err(NotOpened { status: 400, what: "an upgrade needs HTTP/1.1" });
        }
        if !has_token(headers, "Connection", "upgrade") {
            return Err(NotOpened { status: 400, what: "an upgrade needs Connection: Upgrade" });
        }
        if value(headers, "Sec-WebSocket-Version") != Some(b"13") {
            return Err(NotOpened { status: 426, what: "the WebSocket version must be 13" });
        }
        match value(headers, "Sec-WebSocket-Key") {
            Some(key) if BASE64.decode(key).is_ok_and(|key| key.len() == 16) => {
                let subprotocol = tokens(headers, "Sec-WebSocket-Protocol")
                    .any(|offered| offered == SUBPROTOCOL.as_bytes());
                Ok(Self { key, subprotocol })
            }
            _ => {
                Err(NotOpened { status: 400, what: "Sec-WebSocket-Key is not 16 bytes of base64" })
            }
        }
    }

    fn append_reply(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(derive_accept_key(self.key).as_bytes());
        if self.subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(SUBPROTOCOL.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Appends a client's request; gives the accept key that the reply must hold. `None` where `host`
/// or `path` has a character that would end the line it stands in.
pub fn request(host: &str, path: &str, nonce: [u8; 16], out: &mut Vec<u8>) -> Option<String> {
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !fits(host) || !path.starts_with('/') || !fits(path) {
        return None;
    }
    let key = BASE64.encode(&nonce);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    Some(derive_accept_key(key.as_bytes()))
}

/// Whether a server's header block opens the connection that was asked for: RFC 6455 §4.1.
pub fn check_reply(head: &[u8], accept: &str) -> Result<(), NotOpened> {
    let mut lines = [EMPTY_HEADER; HEADERS_MAX];
    let mut reply = Response::new(&mut lines);
    match reply.parse(head) {
        Ok(status) if status.is_complete() => {}
        _ => return Err(NotOpened { status: 0, what: "the server's answer is no HTTP" }),
    }
    let headers = &*reply.headers;
    let status = reply.code.unwrap_or(0);
    let refused = |what| Err(NotOpened { status, what });
    if status != 101 {
        return refused("the server does not speak WebSocket at this address");
    }
    if !has_token(headers, "Upgrade", "websocket") || !has_token(headers, "Connection", "upgrade") {
        return refused("the server switched to something else than WebSocket");
    }
    if value(headers, "Sec-WebSocket-Accept") != Some(accept.as_bytes()) {
        return refused("the server's accept key does not fit ours");
    }
    match value(headers, "Sec-WebSocket-Protocol") {
        Some(chosen) if chosen != SUBPROTOCOL.as_bytes() => {
            refused("the server chose a subprotocol that was not offered")
        }
        _ if value(headers, "Sec-WebSocket-Extensions").is_some() => {
            refused("the server chose an extension that was not offered")
        }
        _ => Ok(()),
    }
}

fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The members of a comma-separated header, which may be spread over several lines.
fn tokens<'h, 'a>(headers: &'h [Header<'a>], name: &'h str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .flat_map(|header| header.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="; // RFC 6455 §1.3

    fn upgrade_with(lines: &str) -> String {
        format!(
            "GET /any/path?x=1 HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n\r\n"
        )
    }

    fn reply_to(request: &str) -> (Result<(), u16>, String) {
        let mut out = Vec::new();
        let result = answer(request.as_bytes(), &mut out).map_err(|refused| refused.status);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_upgrade_is_accepted_with_the_key_of_the_rfc() {
        let (result, reply) = reply_to(&upgrade_with(KEY));
        assert_eq!(result, Ok(()));
        assert_eq!(
            reply,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn the_subprotocol_is_echoed_only_to_those_who_offer_exactly_it() {
        let cases = [
            ("Sec-WebSocket-Protocol: clasp", true),
            ("Sec-WebSocket-Protocol: mqtt, clasp ,x", true),
            ("Sec-WebSocket-Protocol: mqtt\r\nsec-websocket-protocol: clasp", true),
            ("Sec-WebSocket-Protocol: clasp2", false),
            ("Sec-WebSocket-Protocol: Clasp", false),
            ("Sec-WebSocket-Protocol: mqtt", false),
            ("X: clasp", false),
        ];
        for (line, echoed) in cases {
            let (result, reply) = reply_to(&upgrade_with(&format!("{KEY}\r\n{line}")));
            assert_eq!(result, Ok(()), "{line}");
            assert_eq!(reply.contains("Sec-WebSocket-Protocol: clasp\r\n"), echoed, "{line}");
        }
    }

    #[test]
    fn an_ordinary_request_is_told_that_all_is_well() {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let (result, reply) = reply_to(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(result, Err(200));
            let body = if method == "HEAD" { "" } else { "ok\n" };
            assert_eq!(
                reply,
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\
                     Connection: close\r\n\r\n{body}"
                )
            );
        }
        let post = upgrade_with(KEY).replacen("GET", "POST", 1);
        assert_eq!(reply_to(&post).0, Err(200), "only a GET can upgrade");
    }

    #[test]
    fn a_wrong_request_is_told_what_would_be_right() {
        let cases = [
            (upgrade_with("X: y"), 400, "Sec-WebSocket-Key"),
            (upgrade_with("Sec-WebSocket-Key: c2hvcnQ="), 400, "16 bytes"),
            (upgrade_with(KEY).replace("HTTP/1.1", "HTTP/1.0"), 400, "HTTP/1.1"),
            (upgrade_with(KEY).replace(", Upgrade", ""), 400, "Connection"),
            (upgrade_with(KEY).replace("13", "8"), 426, "Sec-WebSocket-Version: 13\r\n"),
            ("DELETE / HTTP/1.1\r\n\r\n".to_owned(), 405, "Allow: GET"),
            ("nonsense\r\n\r\n".to_owned(), 400, "no HTTP"),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)), 431, "64 header lines"),
        ];
        for (request, status, says) in cases {
            let (result, reply) = reply_to(&request);
            assert_eq!(result, Err(status), "{request}");
            assert!(reply.contains(says) && reply.contains("Connection: close"), "{reply}");
        }
    }

    #[test]
    fn the_end_of_a_header_block_is_found_wherever_the_stream_was_cut() {
        let block = b"GET / HTTP/1.1\r\n\r\nbehind";
        for searched in 0..18 {
            assert_eq!(head_len(&block[..searched], searched.saturating_sub(1)), {
                Ok((searched == 18).then_some(18))
            });
            assert_eq!(head_len(block, searched.min(17)), Ok(Some(18)));
        }
        let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert_eq!(head_len(&endless[1..], 0), Ok(None));
        assert_eq!(head_len(&endless, 0).map_err(|refused| refused.status), Err(431));
    }

    #[test]
    fn a_client_takes_only_the_reply_to_its_own_request() {
        let mut head = Vec::new();
        let accept = request("host:7330", "/clasp", [7; 16], &mut head).unwrap();
        let mut reply = Vec::new();
        answer(&head, &mut reply).unwrap();
        assert_eq!(check_reply(&reply, &accept), Ok(()));
        let reply = String::from_utf8(reply).unwrap();
        let cases = [
            (reply.replace("101", "404"), 404),
            (reply.replace(&accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), 101),
            (reply.replace("Upgrade: websocket", "Upgrade: h2c"), 101),
            (reply.replace("Connection: Upgrade", "Connection: close"), 101),
            (reply.replace("Protocol: clasp", "Protocol: mqtt"), 101),
            (reply.replace("Protocol: clasp", "Extensions: permessage-deflate"), 101),
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), 0),
        ];
        for (reply, status) in cases {
            let refused = check_reply(reply.as_bytes(), &accept).map_err(|refused| refused.status);
            assert_eq!(refused, Err(status), "{reply}");
        }
    }

    #[test]
    fn a_target_cannot_smuggle_a_second_line_into_the_request() {
        for (host, path) in [("a\r\nX: y", "/"), ("a b", "/"), ("", "/"), ("a", ""), ("a", "/\n")] {
            let mut out = Vec::new();
            assert_eq!(request(host, path, [0; 16], &mut out), None);
            assert_eq!(out, []);
        }
    }
}

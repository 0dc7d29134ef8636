//! Requests of OSCQuery, read from a stream, and their answers.

use serde_json::Value as Json;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;

const HEADERS_MAX: usize = 64;

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No whole head yet.
    More,
    /// The bytes are left for a WebSocket.
    Upgrade,
    For {
        used: usize,
        request: Request,
    },
    /// No request that is answered here; nothing more is read.
    Wrong {
        status: u16,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Percent-decoded, without a slash at its end; `/` is the root.
    pub(super) path: String,
    /// What follows the question mark, decoded: one attribute.
    pub(super) query: Option<String>,
    /// `HEAD` wants the head of an answer alone.
    pub(super) body: bool,
    /// The connection stays open for more.
    pub(super) lasts: bool,
}

/// Reads the request at the front of `received`.
pub(super) fn read(received: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let used = match head.parse(received) {
        Ok(httparse::Status::Complete(used)) if used <= HEAD_BYTES_MAX => used,
        Ok(httparse::Status::Partial) if received.len() <= HEAD_BYTES_MAX => return Asked::More,
        Ok(_) => return Asked::Wrong { status: 431 },
        Err(httparse::Error::TooManyHeaders) => return Asked::Wrong { status: 431 },
        Err(_) => return Asked::Wrong { status: 400 },
    };
    let has = |name: &str, word: &str| {
        let named = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named
            .filter_map(|header| str::from_utf8(header.value).ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    if has("Upgrade", "websocket") {
        return Asked::Upgrade;
    }
    let body = match head.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Asked::Wrong { status: 405 },
    };
    let lasts =
        !has("Connection", "close") && (head.version == Some(1) || has("Connection", "keep-alive"));
    let target = head.path.unwrap_or("/");
    // Proxies are given the whole address.
    let target = target
        .strip_prefix("http://")
        .map_or(target, |rest| rest.find('/').map_or("/", |slash| &rest[slash..]));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let query = query.map(decoded);
    let path = decoded(path).zip(query.clone().unwrap_or(Some(String::new())));
    let Some((path, _)) = path.filter(|(path, _)| path.starts_with('/')) else {
        return Asked::Wrong { status: 400 };
    };
    let path = match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Asked::For { used, request: Request { path, query: query.flatten(), body, lasts } }
}

/// `%41` is `A`. `None`: not text.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit = |octet: u8| char::from(octet).to_digit(16);
                (digit(high)? * 16 + digit(low)?) as u8
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// Appends an answer. Pages of any origin may read it: it holds nothing that is secret here.
pub(super) fn answer(status: u16, json: &Json, body: bool, ends: bool, out: &mut Vec<u8>) {
    let reason = match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    };
    let text = if status == 204 { String::new() } else { json.to_string() };
    let connection = if ends { "close" } else { "keep-alive" };
    let len = text.len();
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: {connection}\r\n\
         Access-Control-Allow-Origin: *\r\n"
    );
    if status == 405 {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    if status != 204 {
        head.push_str("Content-Type: application/json\r\n");
        head.push_str(&format!("Content-Length: {len}\r\n"));
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
    if body {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Asked {
        read(format!("{head}\r\n\r\n").as_bytes())
    }

    #[test]
    fn a_request_names_a_node_and_perhaps_an_attribute() {
        // Head, path, attribute, with a body, lasts.
        let cases = [
            ("GET / HTTP/1.1", "/", None, true, true),
            ("GET /1/fader%31/?VALUE HTTP/1.1", "/1/fader1", Some("VALUE"), true, true),
            ("GET http://a:8/x HTTP/1.1\r\nConnection: close", "/x", None, true, false),
            ("GET /x HTTP/1.0", "/x", None, true, false),
            ("GET /x HTTP/1.0\r\nConnection: Keep-Alive", "/x", None, true, true),
            ("HEAD /?HOST_INFO HTTP/1.1", "/", Some("HOST_INFO"), false, true),
        ];
        for (head, path, query, body, lasts) in cases {
            let Asked::For { used, request } = asked(head) else { panic!("{head}") };
            let query = query.map(str::to_owned);
            assert_eq!(used, head.len() + 4);
            assert_eq!(request, Request { path: path.to_owned(), query, body, lasts }, "{head}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1{}", "\r\nX: y".repeat(HEADERS_MAX + 1));
        let cases = [
            ("POST / HTTP/1.1", 405),
            ("GET /%zz HTTP/1.1", 400),
            ("GET /%ff HTTP/1.1", 400),
            ("GET x HTTP/1.1", 400),
            ("\u{1}\u{2}", 400),
            (&long, 431),
            (&many, 431),
        ];
        for (head, status) in cases {
            assert_eq!(asked(head), Asked::Wrong { status }, "{head}");
        }
        assert_eq!(read(b"GET / HT"), Asked::More);
        assert_eq!(asked("GET / HTTP/1.1\r\nUpgrade: WebSocket"), Asked::Upgrade);
    }
}

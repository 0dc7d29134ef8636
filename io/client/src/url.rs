//! Where a router is: `ws://host:port/path` or `tcp://host:port`.

use std::fmt;
use std::str::FromStr;

/// How the bytes are framed; CLASP is the same behind both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Ws,
    Tcp,
}

/// A router's address. Parsed once; a connection cannot fail for its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Begins with a slash; only WebSocket sends it.
    pub path: String,
}

/// The text is not the address of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl {
    pub url: String,
    pub why: &'static str,
}

impl Url {
    /// As it stands behind `Host:` in a request.
    pub fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        parse(url).map_err(|why| BadUrl { url: url.to_owned(), why })
    }
}

fn parse(url: &str) -> Result<Url, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("needs ws:// or tcp:// in front")?;
    let (scheme, default_port) = match &*scheme.to_ascii_lowercase() {
        "ws" => (Scheme::Ws, 7330),
        "tcp" => (Scheme::Tcp, 7340),
        "wss" | "https" => return Err("TLS is not spoken: use ws:// behind a TLS proxy"),
        _ => return Err("the scheme must be ws or tcp"),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains('@') {
        return Err("it takes no user and no password: whoever joins shows a token");
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        None => default_port,
        Some(digits) => match digits.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("the port must be 1 to 65535"),
        },
    };
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !fits(host) || !fits(path) {
        return Err("spaces and characters beyond ASCII must be percent-encoded");
    }
    Ok(Url { scheme, host: host.to_owned(), port, path: path.to_owned() })
}

/// Host and port, of which an IPv6 host stands in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
            match rest.strip_prefix(':') {
                None if !rest.is_empty() => Err("only a port may follow the bracket"),
                port => Ok((host, port)),
            }
        }
        None => match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => Err("an IPv6 address needs brackets"),
            Some((host, port)) => Ok((host, Some(port))),
            None => Ok((authority, None)),
        },
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Ws => write!(f, "ws://{}{}", self.host_and_port(), self.path),
            Scheme::Tcp => write!(f, "tcp://{}", self.host_and_port()),
        }
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no router's address: {}", self.url, self.why)
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_completed_with_what_everybody_means() {
        let cases = [
            ("ws://localhost", "ws://localhost:7330/"),
            ("ws://localhost:80/clasp?x=1", "ws://localhost:80/clasp?x=1"),
            ("ws://10.0.0.1:7330", "ws://10.0.0.1:7330/"),
            ("ws://[::1]:7330/", "ws://[::1]:7330/"),
            ("ws://[::1]", "ws://[::1]:7330/"),
            ("WS://localhost:1", "ws://localhost:1/"),
            ("tcp://stage", "tcp://stage:7340"),
            ("tcp://stage:9", "tcp://stage:9"),
        ];
        for (text, whole) in cases {
            assert_eq!(text.parse::<Url>().map(|url| url.to_string()), Ok(whole.to_owned()));
        }
    }

    #[test]
    fn a_wrong_address_says_what_would_be_right() {
        let cases = [
            ("localhost:7330", "needs ws://"),
            ("wss://a", "TLS"),
            ("http://a", "ws or tcp"),
            ("ws://", "host is missing"),
            ("ws://:7330", "host is missing"),
            ("ws://a:0", "1 to 65535"),
            ("ws://a:x", "1 to 65535"),
            ("ws://::1:7330", "brackets"),
            ("ws://[::1", "not closed"),
            ("ws://[::1]7330", "may follow the bracket"),
            ("ws://a b", "percent-encoded"),
            ("ws://user:pw@a:1", "shows a token"),
            ("ws://a/\r\nX: y", "percent-encoded"),
        ];
        for (text, says) in cases {
            let why = text.parse::<Url>().map_err(|bad| bad.to_string());
            assert!(why.as_ref().is_err_and(|why| why.contains(says)), "{text}: {why:?}");
        }
    }
}

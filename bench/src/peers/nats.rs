//! The load generator as a client of nats-server.
//!
//! Source: docs.nats.io, *NATS client protocol*: INFO, CONNECT, PUB, SUB, MSG, PING, PONG, `-ERR`.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::connection::{Connection, Role};
use crate::frames::{self, Message, NUMBER_LEN};
use crate::socket::{Socket, wait_until};

#[derive(Debug)]
pub struct Nats {
    socket: Socket,
    /// PUB with its payload, complete but for the number at its end.
    publish: Vec<u8>,
    pongs: u32,
}

impl Nats {
    /// Connects to `host:port`; a subscriber is one once this returns.
    pub fn connect(host: &str, message: &Message<'_>, role: Role) -> io::Result<Self> {
        let subject = subject(message.address);
        let mut publish = format!("PUB {subject} {}\r\n", message.bytes).into_bytes();
        publish.extend(std::iter::repeat_n(0, message.bytes));
        publish.extend(b"\r\n");
        let mut nats = Self { socket: Socket::connect(host)?, publish, pongs: 0 };
        let out = nats.socket.out();
        // Not verbose: no `+OK` for each message.
        out.extend(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"bench\"}\r\n");
        if role == Role::Subscriber {
            write!(out, "SUB {} 1\r\n", self::subject(message.pattern))?;
        }
        // Answered in order: after PONG the subscription counts.
        out.extend(b"PING\r\n");
        wait_until(|| {
            nats.flush()?;
            nats.poll(&mut |_| {})?;
            Ok(nats.pongs > 0)
        })?;
        Ok(nats)
    }
}

impl Connection for Nats {
    fn publish(&mut self, number: u64) {
        let at = self.publish.len() - 2 - NUMBER_LEN;
        self.publish[at..at + NUMBER_LEN].copy_from_slice(&number.to_be_bytes());
        self.socket.out().extend_from_slice(&self.publish);
    }

    fn unsent_bytes(&self) -> usize {
        self.socket.unsent_bytes()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }

    fn poll(&mut self, seen: &mut dyn FnMut(u64)) -> io::Result<()> {
        self.socket.receive()?;
        while let Some((command, used)) = next(self.socket.unread())? {
            match command {
                Command::Message(payload) => {
                    frames::last_number(payload).into_iter().for_each(&mut *seen)
                }
                Command::Pong => self.pongs += 1,
                Command::Ping => self.socket.out().extend(b"PONG\r\n"),
                Command::Other => {}
            }
            self.socket.consume(used);
        }
        if self.unsent_bytes() > 0 { self.flush() } else { Ok(()) }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    Message(&'a [u8]),
    Ping,
    Pong,
    Other,
}

/// The first command of `received` and its length, if all of it is there.
fn next(received: &[u8]) -> io::Result<Option<(Command<'_>, usize)>> {
    let Some(line_len) = received.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (line, rest) = (&received[..line_len], &received[line_len + 2..]);
    let command = match line {
        [b'M', b'S', b'G', b' ', words @ ..] => {
            let len = words.rsplit(|byte| *byte == b' ').next().and_then(length);
            let len = len.ok_or_else(|| unreadable(line))?;
            let Some(payload) = rest.get(..len).filter(|_| rest.len() >= len + 2) else {
                return Ok(None);
            };
            return Ok(Some((Command::Message(payload), line_len + 2 + len + 2)));
        }
        b"PING" => Command::Ping,
        b"PONG" => Command::Pong,
        [b'-', ..] => return Err(unreadable(line)),
        _ => Command::Other,
    };
    Ok(Some((command, line_len + 2)))
}

fn length(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|len| *len <= PAYLOAD_BYTES_MAX)
}

/// What nats-server itself allows unless told otherwise.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

fn unreadable(line: &[u8]) -> io::Error {
    let message = format!("nats-server said `{}`", String::from_utf8_lossy(line));
    io::Error::new(ErrorKind::InvalidData, message)
}

/// `/bench/hop/**` is `bench.hop.>`.
fn subject(address: &str) -> String {
    address.trim_start_matches('/').replace('/', ".").replace("**", ">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_once_all_of_it_is_there() {
        let bytes = b"MSG bench.hop 1 3\r\nabc\r\nPING\r\n";
        let message_len = bytes.len() - 6;
        for len in 0..message_len {
            assert_eq!(next(&bytes[..len]).unwrap(), None, "{len} bytes");
        }
        assert_eq!(next(bytes).unwrap(), Some((Command::Message(b"abc"), message_len)));
        assert_eq!(next(&bytes[message_len..]).unwrap(), Some((Command::Ping, 6)));
        assert_eq!(next(b"INFO {}\r\n").unwrap(), Some((Command::Other, 9)));
        for wrong in [&b"-ERR 'no'\r\n"[..], b"MSG a 1 x\r\n", b"MSG a 1 99999999\r\n"] {
            assert!(next(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_become_subjects() {
        assert_eq!(subject("/bench/hop/fader/1"), "bench.hop.fader.1");
        assert_eq!(subject("/bench/fanout/**"), "bench.fanout.>");
    }
}

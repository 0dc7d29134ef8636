//! The load generator as a client of an MQTT broker.
//!
//! Source: MQTT 3.1.1 (OASIS, 2014): CONNECT §3.1, PUBLISH §3.3, SUBSCRIBE §3.8. QoS 0 throughout.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use crate::connection::{Connection, Role};
use crate::frames::{self, Message, NUMBER_LEN};
use crate::socket::{Socket, wait_until};

/// First byte of a packet: its type, and the flags that the type wants.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

#[derive(Debug)]
pub struct Mqtt {
    socket: Socket,
    /// PUBLISH, complete but for the number at its end.
    publish: Vec<u8>,
    answers: u32,
}

impl Mqtt {
    /// Connects to `host:port`; a subscriber is one once this returns.
    pub fn connect(host: &str, message: &Message<'_>, role: Role) -> io::Result<Self> {
        let mut body = Vec::new();
        push_str(&mut body, message.address.trim_start_matches('/'));
        body.extend(std::iter::repeat_n(0, message.bytes));
        let mut publish = Vec::new();
        push_packet(&mut publish, PUBLISH, &body);
        let mut mqtt = Self { socket: Socket::connect(host)?, publish, answers: 0 };

        let mut connect = Vec::new();
        push_str(&mut connect, "MQTT");
        // Level 4, a clean session, no keep-alive, and a client id that the broker makes up.
        connect.extend([4, 0b10, 0, 0]);
        push_str(&mut connect, "");
        push_packet(mqtt.socket.out(), CONNECT, &connect);
        mqtt.settle(1)?;
        if role == Role::Subscriber {
            let mut subscribe = vec![0, 1];
            push_str(&mut subscribe, &filter(message.pattern));
            subscribe.push(0);
            push_packet(mqtt.socket.out(), SUBSCRIBE, &subscribe);
            mqtt.settle(2)?;
        }
        Ok(mqtt)
    }

    fn settle(&mut self, answers: u32) -> io::Result<()> {
        wait_until(|| {
            self.flush()?;
            self.poll(&mut |_| {})?;
            Ok(self.answers >= answers)
        })
    }
}

impl Connection for Mqtt {
    fn publish(&mut self, number: u64) {
        let at = self.publish.len() - NUMBER_LEN;
        self.publish[at..].copy_from_slice(&number.to_be_bytes());
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
        while let Some((head, body, used)) = next(self.socket.unread())? {
            match (head & 0xF0, body) {
                (PUBLISH, _) => frames::last_number(body).into_iter().for_each(&mut *seen),
                (CONNACK, [_, 0]) | (SUBACK, [_, _, 0]) => self.answers += 1,
                (CONNACK | SUBACK, _) => return Err(refused(head, body)),
                _ => {}
            }
            self.socket.consume(used);
        }
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The first packet of `received`: its first byte, its body and its length, if all of it is there.
fn next(received: &[u8]) -> io::Result<Option<(u8, &[u8], usize)>> {
    let [head, rest @ ..] = received else { return Ok(None) };
    // §2.2.3: seven bits a byte, the lowest first, four bytes at most.
    let mut body_len = 0;
    for (index, byte) in rest.iter().take(4).enumerate() {
        body_len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let body = rest[index + 1..].get(..body_len);
            return Ok(body.map(|body| (*head, body, 2 + index + body_len)));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err(refused(*head, &rest[..4])) }
}

fn push_packet(out: &mut Vec<u8>, head: u8, body: &[u8]) {
    out.push(head);
    let mut left = body.len();
    while left >= 0x80 {
        out.push(left as u8 & 0x7F | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(body);
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names of the bench are short");
    out.extend(len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// `/bench/hop/**` is `bench/hop/#`.
fn filter(pattern: &str) -> String {
    pattern.trim_start_matches('/').replace("**", "#")
}

fn refused(head: u8, body: &[u8]) -> io::Error {
    let message = format!("the broker said {head:#04x} {body:02x?}");
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_back_as_it_was_written_once_all_of_it_is_there() {
        for body_len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let body = vec![7; body_len];
            let mut packet = Vec::new();
            push_packet(&mut packet, PUBLISH, &body);
            assert_eq!(next(&packet).unwrap(), Some((PUBLISH, &body[..], packet.len())));
            for len in [0, 1, packet.len() - 1] {
                assert_eq!(next(&packet[..len]).unwrap(), None, "{len} of {}", packet.len());
            }
        }
        assert!(next(&[PUBLISH, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }

    #[test]
    fn patterns_become_filters() {
        assert_eq!(filter("/bench/fanout/**"), "bench/fanout/#");
        assert_eq!(filter("/bench/hop/fader/1"), "bench/hop/fader/1");
    }
}

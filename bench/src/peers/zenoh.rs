//! The load generator as a client of a zenoh router.
//!
//! Spoken by hand, so that the generator stays the same single thread for every router: zenoh's own
//! client brings threads that would compete with it for its core.
//!
//! Source: the message layouts in the documentation of the crate `zenoh-protocol` 1.10, protocol
//! version 9. Integers are in groups of seven bits, the lowest first (*z16*, *z32*, *z64*).

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use crate::connection::{Connection, Role};
use crate::frames::{self, Message, NUMBER_LEN};
use crate::socket::{Socket, wait_until};

const VERSION: u8 = 9;

/// Messages between two ends of a connection: the low five bits of a header.
const INIT: u8 = 0x01;
const OPEN: u8 = 0x02;
const CLOSE: u8 = 0x03;
const KEEP_ALIVE: u8 = 0x04;
const FRAME: u8 = 0x05;

/// Messages that routers pass on, inside of frames.
const INTEREST: u8 = 0x19;
const PUSH: u8 = 0x1D;
const DECLARE: u8 = 0x1E;

/// What a DECLARE declares.
const KEY: u8 = 0x00;
const SUBSCRIBER: u8 = 0x02;
const FINAL: u8 = 0x1A;

const PUT: u8 = 0x01;

const ID_BITS: u8 = 0x1F;

/// Flags of headers; what they mean depends on the message.
const FLAG_5: u8 = 0x20;
const FLAG_6: u8 = 0x40;
/// Extensions follow.
const EXTENDED: u8 = 0x80;

/// Priority *data*, never to be dropped, and sent at once instead of gathered with others.
const QOS: [u8; 2] = [0x21, 5 | 0x08 | 0x10];

/// Sequence numbers wrap here unless both ends agree on another size.
const SEQUENCE_MASK: u64 = (1 << 28) - 1;

/// Seconds without a word until the router gives us up: longer than any run.
const LEASE_S: u64 = 3_600;

#[derive(Debug)]
pub struct Zenoh {
    socket: Socket,
    /// PUSH with its PUT, complete but for the number at its end.
    push: Vec<u8>,
    outgoing: Outgoing,
    progress: Progress,
}

/// How far the conversation got.
#[derive(Debug)]
struct Progress {
    /// The longest batch that the router reads.
    batch_bytes_max: usize,
    cookie: Option<Vec<u8>>,
    opened: bool,
    /// Answers to INTEREST: all declared before is in place.
    settled: bool,
}

impl Progress {
    fn new() -> Self {
        let batch_bytes_max = usize::from(u16::MAX);
        Self { batch_bytes_max, cookie: None, opened: false, settled: false }
    }
}

impl Zenoh {
    /// Connects to `host:port`; a subscriber is one once this returns.
    pub fn connect(host: &str, message: &Message<'_>, role: Role) -> io::Result<Self> {
        // The address was declared as key 1.
        let mut push = vec![PUSH | FLAG_6 | EXTENDED, 1];
        push.extend(QOS);
        push.push(PUT);
        push_varint(&mut push, message.bytes as u64);
        push.extend(std::iter::repeat_n(0, message.bytes));
        let progress = Progress::new();
        let socket = Socket::connect(host)?;
        let batch_bytes_max = progress.batch_bytes_max;
        let outgoing = Outgoing { batch_bytes_max, open: None, sequence: 0 };
        let mut zenoh = Self { socket, push, outgoing, progress };

        // A client with an id of eight bytes, none of them zero.
        let id = RandomState::new().hash_one(host) | 0x0101_0101_0101_0101;
        let mut init = vec![INIT, VERSION, 7 << 4 | 0b10];
        init.extend(id.to_le_bytes());
        zenoh.push_batch(&init);
        zenoh.settle(|progress| progress.cookie.is_some())?;
        zenoh.outgoing.batch_bytes_max = zenoh.progress.batch_bytes_max;
        let cookie = zenoh.progress.cookie.take().unwrap_or_default();
        let mut open = vec![OPEN | FLAG_6];
        push_varint(&mut open, LEASE_S);
        push_varint(&mut open, zenoh.outgoing.sequence);
        push_varint(&mut open, cookie.len() as u64);
        open.extend(cookie);
        zenoh.push_batch(&open);
        zenoh.settle(|progress| progress.opened)?;

        if role == Role::Subscriber {
            let mut declare = vec![DECLARE, SUBSCRIBER | FLAG_5, 1, 0];
            push_str(&mut declare, key(message.pattern));
            zenoh.push_message(&declare);
        } else {
            let mut declare = vec![DECLARE, KEY | FLAG_5, 1, 0];
            push_str(&mut declare, key(message.address));
            zenoh.push_message(&declare);
        }
        // Which keys and subscribers are there, now and later? The answer for now comes after what
        // was declared before; then we want to hear no more.
        zenoh.push_message(&[INTEREST | FLAG_5 | FLAG_6, 1, 0b11]);
        zenoh.settle(|progress| progress.settled)?;
        zenoh.push_message(&[INTEREST, 1]);
        zenoh.flush()?;
        Ok(zenoh)
    }

    fn settle(&mut self, done: impl Fn(&Progress) -> bool) -> io::Result<()> {
        wait_until(|| {
            self.flush()?;
            self.poll(&mut |_| {})?;
            Ok(done(&self.progress))
        })
    }

    fn push_batch(&mut self, batch: &[u8]) {
        let len = u16::try_from(batch.len()).expect("a batch is shorter than 64 KB");
        let out = self.socket.out();
        out.extend(len.to_le_bytes());
        out.extend_from_slice(batch);
    }

    fn push_message(&mut self, message: &[u8]) {
        self.outgoing.append(self.socket.out(), message);
    }
}

/// Messages go in numbered batches.
#[derive(Debug)]
struct Outgoing {
    batch_bytes_max: usize,
    /// Where the batch begins, in what is queued, to which messages can still be added.
    open: Option<usize>,
    sequence: u64,
}

impl Outgoing {
    /// Adds `message` to the batch that is open in `out`, or opens one. One batch carries all that
    /// is queued before a flush, as zenoh's own clients do it.
    fn append(&mut self, out: &mut Vec<u8>, message: &[u8]) {
        let fits = |start: &usize| out.len() - start - 2 + message.len() <= self.batch_bytes_max;
        let start = self.open.filter(fits).unwrap_or_else(|| {
            let start = out.len();
            out.extend([0, 0, FRAME | FLAG_5]);
            push_varint(out, self.sequence);
            self.sequence = (self.sequence + 1) & SEQUENCE_MASK;
            start
        });
        self.open = Some(start);
        out.extend_from_slice(message);
        // Not more than the maximum: checked above, and one message of the bench is far shorter.
        let len = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    }
}

impl Connection for Zenoh {
    fn publish(&mut self, number: u64) {
        let at = self.push.len() - NUMBER_LEN;
        self.push[at..].copy_from_slice(&number.to_be_bytes());
        self.outgoing.append(self.socket.out(), &self.push);
    }

    fn unsent_bytes(&self) -> usize {
        self.socket.unsent_bytes()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outgoing.open = None;
        self.socket.flush()
    }

    fn poll(&mut self, seen: &mut dyn FnMut(u64)) -> io::Result<()> {
        self.socket.receive()?;
        while let Some((len, rest)) = self.socket.unread().split_first_chunk() {
            let len = usize::from(u16::from_le_bytes(*len));
            let Some(batch) = rest.get(..len) else { break };
            read_batch(batch, &mut self.progress, seen).map_err(|what| unreadable(what, batch))?;
            self.socket.consume(2 + len);
        }
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads all messages of a batch; numbers of what was put go to `seen`.
fn read_batch(
    batch: &[u8],
    progress: &mut Progress,
    seen: &mut dyn FnMut(u64),
) -> Result<(), &'static str> {
    let mut reader = Reader(batch);
    while !reader.0.is_empty() {
        let header = reader.byte()?;
        match header & ID_BITS {
            INIT => {
                reader.byte()?;
                let id_len = usize::from(reader.byte()? >> 4) + 1;
                reader.bytes(id_len)?;
                if header & FLAG_6 != 0 {
                    reader.byte()?;
                    let [low, high] = [reader.byte()?, reader.byte()?];
                    progress.batch_bytes_max = usize::from(u16::from_le_bytes([low, high]));
                }
                progress.cookie = Some(reader.counted()?.to_vec());
                reader.extensions(header)?;
            }
            OPEN => {
                reader.varint()?;
                reader.varint()?;
                reader.extensions(header)?;
                progress.opened = true;
            }
            CLOSE => return Err("the router closed"),
            KEEP_ALIVE => reader.extensions(header)?,
            FRAME => {
                reader.varint()?;
                reader.extensions(header)?;
            }
            PUSH => {
                reader.key(header)?;
                reader.extensions(header)?;
                let body = reader.byte()?;
                if body & ID_BITS != PUT {
                    return Err("a push that is no put");
                }
                if body & FLAG_5 != 0 {
                    reader.varint()?;
                    reader.counted()?;
                }
                if body & FLAG_6 != 0 {
                    // Bit 0 of the encoding: a schema follows.
                    if reader.varint()? & 1 != 0 {
                        reader.counted()?;
                    }
                }
                reader.extensions(body)?;
                frames::last_number(reader.counted()?).into_iter().for_each(&mut *seen);
            }
            DECLARE => {
                if header & FLAG_5 != 0 {
                    reader.varint()?;
                }
                reader.extensions(header)?;
                let declared = reader.byte()?;
                match declared & ID_BITS {
                    KEY | SUBSCRIBER => {
                        reader.varint()?;
                        reader.key(declared)?;
                    }
                    FINAL => progress.settled = true,
                    // What was declared before and is no more: an id.
                    _ if declared & 1 == 1 => drop(reader.varint()?),
                    _ => return Err("an unknown declaration"),
                }
                reader.extensions(declared)?;
            }
            _ => return Err("an unknown message"),
        }
    }
    Ok(())
}

/// What is left of a batch.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or("a message ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        // Nine groups of seven bits, the ninth byte has all eight.
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(if shift == 56 { byte } else { byte & 0x7F }) << shift;
            if shift == 56 || byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn counted(&mut self) -> Result<&'a [u8], &'static str> {
        let len = self.varint()?;
        self.bytes(usize::try_from(len).map_err(|_| "a length beyond reason")?)
    }

    /// A number for a declared key, and text that is added to it.
    fn key(&mut self, header: u8) -> Result<(), &'static str> {
        self.varint()?;
        if header & FLAG_5 != 0 {
            self.counted()?;
        }
        Ok(())
    }

    fn extensions(&mut self, header: u8) -> Result<(), &'static str> {
        let mut more = header & EXTENDED != 0;
        while more {
            let extension = self.byte()?;
            match extension >> 5 & 0b11 {
                0 => {}
                1 => drop(self.varint()?),
                2 => drop(self.counted()?),
                _ => return Err("an extension of an unknown form"),
            }
            more = extension & EXTENDED != 0;
        }
        Ok(())
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Keys are addresses without the slash in front; patterns are the same.
fn key(address: &str) -> &str {
    address.trim_start_matches('/')
}

fn unreadable(what: &str, batch: &[u8]) -> io::Error {
    let message = format!("zenoh: {what}: {:02x?}", &batch[..batch.len().min(32)]);
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_seven_bits_a_byte() {
        for value in [0, 1, 127, 128, 300, SEQUENCE_MASK, 1 << 40] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            assert_eq!(Reader(&bytes).varint(), Ok(value));
            assert!(Reader(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        let mut nine = Reader(&[0xFF; 9]);
        assert_eq!((nine.varint(), nine.0.len()), (Ok(u64::MAX), 0));
    }

    #[test]
    fn a_batch_of_puts_gives_their_numbers_and_a_broken_one_is_an_error() {
        let mut outgoing = Outgoing { batch_bytes_max: 1_000, open: None, sequence: 7 };
        let mut out = Vec::new();
        for number in [3_u64, 4] {
            let mut push = vec![PUSH | FLAG_6 | EXTENDED, 1];
            push.extend(QOS);
            push.extend([PUT, 8]);
            push.extend(number.to_be_bytes());
            outgoing.append(&mut out, &push);
        }
        assert_eq!((out[0] as usize, outgoing.sequence), (out.len() - 2, 8), "one batch");
        let mut numbers = Vec::new();
        let mut progress = Progress::new();
        let mut read = |batch: &[u8]| read_batch(batch, &mut progress, &mut |n| numbers.push(n));
        assert_eq!(read(&out[2..]), Ok(()));
        assert!(read(&out[2..out.len() - 1]).is_err() && read(&[0x0F]).is_err());
        assert_eq!(numbers, [3, 4, 3]);
    }

    #[test]
    fn a_batch_that_is_full_is_followed_by_another() {
        let mut outgoing = Outgoing { batch_bytes_max: 65_000, open: None, sequence: 0 };
        let mut out = Vec::new();
        for _ in 0..3 {
            outgoing.append(&mut out, &[0; 30_000]);
        }
        let first = usize::from(u16::from_le_bytes([out[0], out[1]]));
        assert_eq!(first, 2 + 60_000);
        assert_eq!((out.len(), outgoing.sequence), (2 * (2 + 2) + 90_000, 2));
    }
}

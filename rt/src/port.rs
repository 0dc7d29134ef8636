//! A bridge of our own as a link: a pair of rings where others have a socket.
//!
//! What travels is a byte stream, framed like a TCP connection's, in pieces of any length.

use std::sync::Arc;

use clasp_rt_ring::Sleeper;
use clasp_rt_ring::exchange::{self, RECORD_HEADER_BYTES, Receiver, Sender};

/// What one side tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The bridge wants to be a link.
    Open,
    Bytes(&'a [u8]),
    /// The shard closed the link, or the bridge left.
    Close,
}

/// One end.
#[derive(Debug)]
pub struct Port {
    out: Sender,
    inbound: Receiver,
    /// Whoever holds the other end.
    pub far: Arc<Sleeper>,
    /// Something was said since the far side was woken.
    pub touched: bool,
}

// A ring's records carry a stamp, which orders records of several rings. Here there is one ring,
// and the stamp says what the record is.
const OPEN: u64 = 0;
const BYTES: u64 = 1;
const CLOSE: u64 = 2;

impl Port {
    /// The two ends, each with the other's sleeper, over rings of `bytes`.
    pub fn pair(bytes: usize, near: &Arc<Sleeper>, far: &Arc<Sleeper>) -> (Self, Self) {
        let (near_out, far_in) = exchange::pair(bytes);
        let (far_out, near_in) = exchange::pair(bytes);
        let near_end =
            Self { out: near_out, inbound: near_in, far: Arc::clone(far), touched: false };
        let far_end = Self { out: far_out, inbound: far_in, far: Arc::clone(near), touched: false };
        (near_end, far_end)
    }

    /// Says all of it, or nothing when there is no room.
    #[must_use]
    pub fn say(&mut self, said: Said<'_>) -> bool {
        let said = match said {
            Said::Open => self.out.push(OPEN, &[]),
            Said::Bytes(bytes) => self.out.push(BYTES, bytes),
            Said::Close => self.out.push(CLOSE, &[]),
        };
        self.touched |= said;
        said
    }

    /// Bytes that can be said at once.
    pub fn room(&self) -> usize {
        self.out.room().saturating_sub(RECORD_HEADER_BYTES)
    }

    /// The oldest thing that the other side said and [`Port::heard`] has not dropped.
    pub fn hear(&mut self) -> Option<Said<'_>> {
        match self.inbound.peek()? {
            (OPEN, _) => Some(Said::Open),
            (BYTES, bytes) => Some(Said::Bytes(bytes)),
            _ => Some(Said::Close),
        }
    }

    pub fn heard(&mut self) {
        self.inbound.pop();
    }

    pub fn is_silent(&self) -> bool {
        self.inbound.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_hear_what_the_other_said_in_order() {
        let sleeper = Arc::new(Sleeper::new());
        let (mut shard, mut bridge) = Port::pair(64, &sleeper, &sleeper);
        assert!(bridge.say(Said::Open) && bridge.say(Said::Bytes(b"hello")));
        assert!(shard.say(Said::Bytes(b"welcome")) && shard.say(Said::Close));
        for said in [Said::Open, Said::Bytes(b"hello")] {
            assert_eq!(shard.hear(), Some(said));
            shard.heard();
        }
        assert!(shard.is_silent());
        for said in [Said::Bytes(b"welcome"), Said::Close] {
            assert_eq!(bridge.hear(), Some(said));
            bridge.heard();
        }
        assert_eq!(bridge.hear(), None);
    }

    #[test]
    fn what_does_not_fit_is_not_said_at_all() {
        let sleeper = Arc::new(Sleeper::new());
        let (mut shard, mut bridge) = Port::pair(32, &sleeper, &sleeper);
        let room = shard.room();
        assert!(!shard.say(Said::Bytes(&vec![1; room + 1])));
        assert!(!shard.touched);
        assert!(shard.say(Said::Bytes(&vec![1; room])));
        assert!(!shard.say(Said::Close));
        assert_eq!(bridge.hear(), Some(Said::Bytes(&vec![1; room][..])));
    }
}

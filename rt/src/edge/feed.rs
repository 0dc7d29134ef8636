//! From the bytes of one link to its messages, and those to the shard, until one must wait.

use clasp_rt_bridges::json;
use clasp_rt_core::LinkId;
use clasp_rt_core::error::code;
use clasp_rt_core::shard::{Input, Outcome, Shard};
use clasp_rt_core::time::Time;
use clasp_rt_link::{Event, Transport};

use super::budget::Budget;
use super::{Out, take};
use crate::conns::{Blocked, Form, Phase};

/// A message as it came.
enum Offer<'a> {
    Frame(&'a [u8]),
    Text(&'a str),
}

/// Takes the messages of one link, one by one, to the shard.
pub(super) struct Feed<'a> {
    pub(super) out: &'a mut Out,
    /// A text message as a frame.
    pub(super) frame: &'a mut Vec<u8>,
    /// Since when the messages have been here.
    pub(super) arrival: Time,
    pub(super) budget: &'a mut Budget,
}

impl Feed<'_> {
    /// Steps what `bytes` hold, and says how many of them are used up.
    pub(super) fn all(&mut self, shard: &mut Shard, link: LinkId, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            let conn = self.out.conns.get(link);
            if conn.phase != Phase::Open {
                // What was just stepped closed it.
                used = bytes.len();
                break;
            }
            let blocked = match conn.transport.peek(&mut bytes[used..], &mut conn.pending) {
                Event::More => break,
                Event::Opened => {
                    self.out.conns.opened(link);
                    Blocked::No
                }
                Event::Binary(frame) => {
                    self.out.conns.speak(link, Form::Frames);
                    self.offer_share(shard, link, Offer::Frame(frame))
                }
                Event::Text(text) => {
                    self.out.conns.speak(link, Form::Text);
                    self.offer_share(shard, link, Offer::Text(text))
                }
                Event::Alive => {
                    take(shard.step(self.out.conns.now, Input::Alive { link }, self.out));
                    Blocked::No
                }
                Event::Ended(_) => {
                    self.out.conns.leave(link, |_| {});
                    continue;
                }
            };
            let conn = self.out.conns.get(link);
            conn.blocked = blocked;
            match blocked {
                Blocked::No => used += conn.transport.advance(),
                Blocked::Held => break,
                Blocked::NoRoom => {
                    self.out.conns.stalled.push_back(link);
                    break;
                }
                Blocked::Share => {
                    self.out.conns.yielded.push_back(link);
                    break;
                }
            }
        }
        // The transport may have answered by itself.
        self.out.conns.mark(link);
        used
    }

    /// Offers a message, unless the link had its share of the turn.
    fn offer_share(&mut self, shard: &mut Shard, link: LinkId, offer: Offer<'_>) -> Blocked {
        let left = self.out.conns.share(link, self.budget.share());
        if *left == 0 {
            return Blocked::Share;
        }
        let bytes = match &offer {
            Offer::Frame(frame) => frame.len(),
            Offer::Text(text) => text.len(),
        };
        self.budget.take(bytes, left);
        match offer {
            Offer::Frame(frame) => self.offer(shard, link, frame),
            Offer::Text(text) => self.offer_text(shard, link, text),
        }
    }

    fn offer(&mut self, shard: &mut Shard, link: LinkId, frame: &[u8]) -> Blocked {
        let input = Input::Frame { link, frame };
        if !self.out.peers.has(input.room()) {
            return Blocked::NoRoom;
        }
        self.out.stages.frame(self.arrival, frame);
        let outcome = shard.step(self.out.conns.now, input, self.out);
        self.out.stages.stepped(outcome);
        match outcome {
            Outcome::Taken => Blocked::No,
            Outcome::Held => Blocked::Held,
        }
    }

    fn offer_text(&mut self, shard: &mut Shard, link: LinkId, text: &str) -> Blocked {
        let mut frame = std::mem::take(self.frame);
        frame.clear();
        let blocked = match json::to_frame(text, &mut frame) {
            Ok(()) => self.offer(shard, link, &frame),
            Err(why) => {
                let reply = serde_json::json!({
                    "type": "ERROR",
                    "code": code::INVALID_MESSAGE,
                    "message": why.to_string(),
                });
                let conn = self.out.conns.get(link);
                conn.transport.wrap_text(&reply.to_string(), &mut conn.pending);
                Blocked::No
            }
        };
        *self.frame = frame;
        blocked
    }
}

//! What the router was asked and has not answered, and what its answers mean to the client.
//!
//! A SET is confirmed by an ACK that names its address, an event, which travels as a bundle of one,
//! by an ACK that names none; both come in the order in which they were said. A refusal is an ERROR
//! that names the address. Beyond a session's rate the router drops silently, and says so once a
//! second: what was dropped is known by a later answer, or given up after a while. SUBSCRIBE has no
//! answer of its own; a SYNC with a number follows each.

use clasp_rt_core::error::code;
use clasp_rt_core::message::{Ack, ErrorReply, Message, Sync};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::{Span, Time};

use super::super::groups::Groups;
use super::super::wire::{Answer, Publish, Reason, Version};
use super::inward::push_frame;
use super::outward::Origin;
use super::{Out, Session};

/// A router that has not answered by then will not.
const ANSWER_TIMEOUT: Span = Span::from_secs(5);

/// How long a router that drops messages says nothing more about it; it is waited for no longer.
const LIMITED: Span = Span::from_secs(1);

const DROPPED: &str = "more messages than the router takes of one session";

/// One question to the router, in the order in which they were said.
#[derive(Debug)]
pub struct Asked {
    since: Time,
    what: What,
}

#[derive(Debug)]
enum What {
    Subscribe {
        serial: u64,
        id: u16,
        /// What to grant, and the pattern whose refusal changes that.
        granted: Vec<(Result<u8, Reason>, String)>,
    },
    /// Whether the session is alive, or what a connection asked that is gone.
    Alive {
        serial: u64,
    },
    Write(Write),
}

/// A message of the client at QoS 1 or 2.
#[derive(Debug)]
pub struct Write {
    pub address: String,
    pub is_event: bool,
    /// `None`: the connection that would be told is gone.
    pub id: Option<u16>,
    pub qos: u8,
    /// For the client itself, if it wants it.
    pub own: Box<Publish>,
    pub is_param: bool,
}

impl Asked {
    /// Whether it matters to nobody but the machine when it is answered.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.what, What::Alive { .. })
    }
}

impl Session {
    pub(super) fn ask_subscribed(
        &mut self,
        id: u16,
        granted: Vec<(Result<u8, Reason>, String)>,
        out: &mut Out,
    ) {
        let serial = self.ask(out);
        self.wait_for(What::Subscribe { serial, id, granted });
    }

    pub(super) fn ask_alive(&mut self, out: &mut Out) {
        let serial = self.ask(out);
        self.wait_for(What::Alive { serial });
    }

    pub(super) fn ask_written(&mut self, write: Write) {
        self.wait_for(What::Write(write));
    }

    fn ask(&mut self, out: &mut Out) -> u64 {
        self.serial += 1;
        let sync = Message::Sync(Sync { t1: self.serial, t2: None, t3: None });
        push_frame(&sync, Qos::Fire, out);
        self.serial
    }

    fn wait_for(&mut self, what: What) {
        self.asked.push_back(Asked { since: self.now, what });
    }

    /// Messages at QoS 1 and 2 that the router has not answered.
    pub(super) fn writes(&self) -> usize {
        self.asked.iter().filter(|asked| matches!(asked.what, What::Write(_))).count()
    }

    /// Whether the router is asked about this message at QoS 2.
    pub(super) fn is_asked(&self, id: u16) -> bool {
        self.asked.iter().any(|asked| match &asked.what {
            What::Write(write) => write.qos == 2 && write.id == Some(id),
            _ => false,
        })
    }

    /// Whether a SUBSCRIBE is not answered yet: clients expect that first.
    pub(super) fn owes_answer(&self) -> bool {
        self.asked.iter().any(|asked| matches!(asked.what, What::Subscribe { .. }))
    }

    /// The connection is gone, and nobody is there to be answered. A message at QoS 2 keeps its id,
    /// under which the client sends it again.
    pub(super) fn forget_connection(&mut self) {
        self.unsend();
        for asked in &mut self.asked {
            match &mut asked.what {
                What::Subscribe { serial, .. } => asked.what = What::Alive { serial: *serial },
                What::Write(write) if write.qos < 2 => write.id = None,
                _ => {}
            }
        }
    }

    /// When the oldest question is given up.
    pub(super) fn answer_due(&self) -> Option<Time> {
        self.asked.front().map(|asked| {
            let limited = self.limited.is_some_and(|at| at + LIMITED >= asked.since);
            asked.since + if limited { LIMITED } else { ANSWER_TIMEOUT }
        })
    }

    pub(super) fn give_up_answers(&mut self, groups: &mut Groups, out: &mut Out) {
        while self.answer_due().is_some_and(|due| self.now >= due) {
            let Some(asked) = self.asked.pop_front() else { return };
            self.drop_question(asked, groups, out);
        }
    }

    /// The router never answered it.
    fn drop_question(&mut self, asked: Asked, groups: &mut Groups, out: &mut Out) {
        let limited = self.limited.is_some_and(|at| at + LIMITED >= asked.since);
        match asked.what {
            What::Write(write) if limited => {
                self.settle(write, Err((Reason::Quota, DROPPED)), groups, out);
            }
            What::Write(write) => {
                let why = "the router did not answer";
                self.settle(write, Err((Reason::Router, why)), groups, out);
            }
            What::Subscribe { id, granted, .. } => {
                let patterns = granted.iter().map(|(_, pattern)| pattern);
                for pattern in patterns {
                    self.unsubscribe_pattern(pattern, groups, out);
                }
                let granted = granted.iter().map(|_| Err(Reason::Quota)).collect();
                self.answer(&Answer::Subscribed { id, granted }, out);
                self.pump(out);
            }
            What::Alive { .. } => {}
        }
    }

    /// The router answers a SYNC, and so everything before it.
    pub(super) fn hear_sync(&mut self, answered: u64, groups: &mut Groups, out: &mut Out) {
        let serial_of = |asked: &Asked| match asked.what {
            What::Subscribe { serial, .. } | What::Alive { serial } => Some(serial),
            What::Write(_) => None,
        };
        let is_due = |asked: &Asked| serial_of(asked).is_some_and(|serial| serial <= answered);
        while let Some(at) = self.asked.iter().position(is_due) {
            let Some(asked) = self.asked.remove(at) else { return };
            match asked.what {
                What::Subscribe { serial, id, granted } if serial == answered => {
                    let granted = granted.into_iter().map(|(granted, _)| granted).collect();
                    self.answer(&Answer::Subscribed { id, granted }, out);
                    self.pump(out);
                }
                What::Alive { .. } => {}
                // The SYNC of an earlier one was dropped, and perhaps the SUBSCRIBE with it.
                _ => self.drop_question(asked, groups, out),
            }
        }
    }

    pub(super) fn hear_ack(&mut self, ack: &Ack<'_>, groups: &mut Groups, out: &mut Out) {
        if ack.address.is_some() && ack.revision.is_none() {
            // All that a subscription held was told.
            let pattern = ack.address.unwrap_or_default();
            let held = self.subscriptions.iter_mut().filter(|held| held.pattern == pattern);
            return held.for_each(|subscription| subscription.held = false);
        }
        let is_meant = |asked: &Asked| match (&asked.what, ack.address) {
            (What::Write(write), Some(address)) => !write.is_event && write.address == address,
            (What::Write(write), None) => write.is_event,
            _ => false,
        };
        let Some(at) = self.asked.iter().position(is_meant) else { return };
        let Some(Asked { what: What::Write(write), .. }) = self.asked.remove(at) else { return };
        // What was said before and is not answered was dropped.
        let (mut index, mut before) = (0, at);
        while index < before {
            let is_write = |asked: &Asked| matches!(asked.what, What::Write(_));
            if !self.asked.get(index).is_some_and(is_write) {
                index += 1;
                continue;
            }
            before -= 1;
            if let Some(Asked { what: What::Write(dropped), .. }) = self.asked.remove(index) {
                self.settle(dropped, Err((Reason::Quota, DROPPED)), groups, out);
            }
        }
        self.settle(write, Ok(()), groups, out);
    }

    /// The router refuses something of this client.
    pub(super) fn hear_error(
        &mut self,
        error: &ErrorReply<'_>,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        if error.code == code::RATE_LIMIT && error.address.is_none() {
            self.limited = Some(self.now);
            return self.complain("what exceeds its rate", error.message, out);
        }
        let Some(address) = error.address else {
            return self.complain("something", error.message, out);
        };
        let at = self.asked.iter().position(|asked| match &asked.what {
            What::Write(write) => write.address == address,
            What::Subscribe { granted, .. } => {
                granted.iter().any(|(granted, pattern)| granted.is_ok() && pattern == address)
            }
            What::Alive { .. } => false,
        });
        let reason = reason_of(error);
        let why = error.message.strip_prefix("Bundle rejected: ").unwrap_or(error.message);
        match at.and_then(|at| self.asked.get_mut(at)).map(|asked| &mut asked.what) {
            Some(What::Subscribe { granted, .. }) => {
                for (granted, _) in granted.iter_mut().filter(|(_, held)| held == address) {
                    *granted = Err(reason);
                }
                self.complain(address, why, out);
                self.unsubscribe_pattern(address, groups, out);
            }
            Some(What::Write(_)) => {
                let asked = at.and_then(|at| self.asked.remove(at));
                if let Some(Asked { what: What::Write(write), .. }) = asked {
                    self.settle(write, Err((reason, why)), groups, out);
                }
            }
            _ => self.complain(address, why, out),
        }
    }

    /// What became of a message at QoS 1 or 2 is known: the client is told.
    ///
    /// 3.1.1 has no words for a refusal: the message is acknowledged all the same, as brokers do
    /// (§3.3.5), because a client that is thrown out for it comes back and sends it again.
    pub(super) fn settle(
        &mut self,
        write: Write,
        verdict: Result<(), (Reason, &str)>,
        groups: &mut Groups,
        out: &mut Out,
    ) {
        let Write { address, id, qos, own, is_param, .. } = write;
        let (reason, why) = verdict.err().unwrap_or((Reason::Success, ""));
        if let Some(id) = id {
            self.acknowledge(id, qos, reason, why, out);
        }
        match reason {
            Reason::Success => self.deliver(*own, Origin::Own { is_param }, qos, groups, out),
            _ => self.complain(&address, why, out),
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        id: u16,
        qos: u8,
        reason: Reason,
        why: &str,
        out: &mut Out,
    ) {
        if qos == 2 && (reason == Reason::Success || self.version == Version::V311) {
            self.received.insert(id);
        }
        let answer = |why: &str| match qos {
            1 => Answer::PubAck { id, reason, why: why.to_owned() },
            _ => Answer::PubRec { id, reason, why: why.to_owned() },
        };
        let words = if self.wants_words { why } else { "" };
        if !self.try_answer(&answer(words), out) && !words.is_empty() {
            // Without words where they are longer than the client takes (MQTT 5 §3.4.2.2.2).
            self.answer(&answer(""), out);
        }
    }
}

/// The code of MQTT 5 for what the router says.
fn reason_of(error: &ErrorReply<'_>) -> Reason {
    match error.code {
        code::INVALID_ADDRESS => Reason::TopicInvalid,
        code::BAD_PATTERN => Reason::FilterInvalid,
        code::UNAUTHORIZED | code::FORBIDDEN | code::TOKEN_EXPIRED => Reason::NotAuthorized,
        // A bundle of one event is refused for want of a scope.
        code::BUNDLE_REFUSED => Reason::NotAuthorized,
        code::INVALID_VALUE => Reason::PayloadInvalid,
        code::RATE_LIMIT | code::OVERFLOW => Reason::Quota,
        code::STATE if error.message.starts_with("at capacity") => Reason::Quota,
        _ => Reason::Router,
    }
}

//! One session's questions to the router, one at a time, each with its answer: a machine.
//!
//! No CLASP message carries a number that names its answer, so that answers are told apart by what
//! they speak of; two questions at once could not be. What the router confirms by itself is waited
//! for; behind a PUBLISH, which it never confirms, follows a SYNC: when that is answered without an
//! ERROR before it, the PUBLISH was taken.

use std::fmt;

use clasp_rt_core::message::{
    ErrorReply, Message, ParamValue, Set, Subscribe, SubscribeOptions, Sync, Ttl,
};
use clasp_rt_core::signal::{Qos, SignalMask};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{TooLong, binary};

use super::value;

/// The subscription under which a snapshot is asked for; no client may use it.
pub const SNAPSHOT_ID: u32 = u32::MAX;

/// What is asked of the router.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The param of one address.
    Get {
        address: String,
    },
    Set(SetAsk),
    /// A frame that holds one PUBLISH.
    Publish {
        frame: Vec<u8>,
    },
    /// A frame that holds one BUNDLE.
    Bundle {
        frame: Vec<u8>,
    },
    /// All params of a pattern, once.
    Snapshot {
        pattern: String,
    },
    Subscribe {
        id: u32,
        pattern: String,
        types: SignalMask,
        options: SubscribeOptions,
    },
    Unsubscribe {
        id: u32,
    },
    /// Whether the router is there.
    Sync,
}

/// A value for one address.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAsk {
    pub address: String,
    /// Encoded: type code and data.
    pub value: Vec<u8>,
    /// The revision that the param must have; 0 where there must be none.
    pub revision: Option<u64>,
    pub lock: bool,
    pub unlock: bool,
    pub ttl: Option<Ttl>,
}

/// What the router answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Param(Param),
    /// There is no such param.
    Missing,
    /// The param has this revision now.
    Written {
        revision: u64,
    },
    /// An event was taken, a subscription is in place, the router is there.
    Done,
    /// A bundle was applied; the revision of its last SET.
    Applied {
        revision: Option<u64>,
    },
    /// In the order in which the router keeps them.
    Params(Vec<Param>),
}

/// A param as a snapshot has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub address: String,
    /// JSON text.
    pub value: String,
    pub revision: u64,
    /// Microseconds since the Unix epoch, of the last write.
    pub timestamp_us: Option<u64>,
    /// Session of the last write.
    pub writer: Option<String>,
}

/// The router understood and says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of [`clasp_rt_core::error::code`].
    pub code: u16,
    pub message: String,
    pub address: Option<String>,
}

/// The questions of one session.
#[derive(Debug, Default)]
pub struct Talk {
    waiting: Option<Waiting>,
    /// Tells the answer to this SYNC from a late one.
    serial: u64,
}

#[derive(Debug)]
enum Waiting {
    Get { address: String },
    Set { address: String },
    Fence { serial: u64 },
    Bundle,
    Snapshot { pattern: String, found: Vec<Param> },
    Subscribe { pattern: String },
}

impl Talk {
    /// Whether a question waits for its answer; the next must wait, too.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Appends the frames that ask. The value of a SET was encoded by this house.
    ///
    /// # Panics
    ///
    /// When another question waits.
    pub fn ask(&mut self, ask: &Ask, frames: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        assert!(!self.is_waiting(), "one question at a time");
        self.waiting = Some(match ask {
            Ask::Get { address } => {
                say(frames, &Message::Get { address }, Qos::Fire)?;
                Waiting::Get { address: address.clone() }
            }
            Ask::Set(set) => {
                let value = Value::from_encoded(&set.value).unwrap_or(Value::NULL);
                let SetAsk { ref address, revision, lock, unlock, ttl, .. } = *set;
                let message = Set { address, value, revision, lock, unlock, ttl };
                say(frames, &Message::Set(message), Qos::Confirm)?;
                Waiting::Set { address: address.clone() }
            }
            Ask::Bundle { frame } => {
                frames.push(frame.clone());
                Waiting::Bundle
            }
            Ask::Snapshot { pattern } => {
                let wish = Subscribe {
                    id: SNAPSHOT_ID,
                    pattern,
                    types: SignalMask::ALL,
                    options: SubscribeOptions::default(),
                };
                say(frames, &Message::Subscribe(wish), Qos::Confirm)?;
                Waiting::Snapshot { pattern: pattern.clone(), found: Vec::new() }
            }
            Ask::Subscribe { id, pattern, types, options } => {
                let wish = Subscribe { id: *id, pattern, types: *types, options: *options };
                say(frames, &Message::Subscribe(wish), Qos::Confirm)?;
                Waiting::Subscribe { pattern: pattern.clone() }
            }
            Ask::Publish { frame } => {
                frames.push(frame.clone());
                self.serial += 1;
                say(frames, &fence(self.serial), Qos::Fire)?;
                Waiting::Fence { serial: self.serial }
            }
            Ask::Unsubscribe { id } => {
                say(frames, &Message::Unsubscribe { id: *id }, Qos::Fire)?;
                self.serial += 1;
                say(frames, &fence(self.serial), Qos::Fire)?;
                Waiting::Fence { serial: self.serial }
            }
            Ask::Sync => {
                self.serial += 1;
                say(frames, &fence(self.serial), Qos::Fire)?;
                Waiting::Fence { serial: self.serial }
            }
        });
        Ok(())
    }

    /// Takes note of what the router says. Gives what it means for the question, if that is
    /// answered by it; `frames` gets what must be said next.
    pub fn hear(
        &mut self,
        message: &Message<'_>,
        frames: &mut Vec<Vec<u8>>,
    ) -> Heard<Result<Answer, Refused>> {
        let Some(waiting) = &mut self.waiting else { return Heard::News };
        let answer = match (waiting, message) {
            (waiting, Message::Error(error)) if waiting.is_spoken_of(error.address) => {
                if error.code == clasp_rt_core::error::code::NOT_FOUND
                    && matches!(waiting, Waiting::Get { .. })
                {
                    Ok(Answer::Missing)
                } else {
                    Err(Refused::of(error))
                }
            }
            (Waiting::Get { address }, Message::Snapshot { params }) => {
                match params.iter().find(|param| param.address == *address) {
                    Some(param) => Ok(Answer::Param(Param::of(&param))),
                    None => return Heard::News,
                }
            }
            (Waiting::Set { address }, Message::Ack(ack))
                if ack.address == Some(address) && ack.revision.is_some() =>
            {
                Ok(Answer::Written { revision: ack.revision.unwrap_or_default() })
            }
            (Waiting::Bundle, Message::Ack(ack)) if ack.address.is_none() => {
                Ok(Answer::Applied { revision: ack.revision })
            }
            (Waiting::Fence { serial }, Message::Sync(sync)) if sync.t1 == *serial => {
                Ok(Answer::Done)
            }
            (Waiting::Snapshot { found, .. }, Message::Snapshot { params }) => {
                found.extend(params.iter().map(|param| Param::of(&param)));
                return Heard::Part;
            }
            (Waiting::Snapshot { pattern, found }, Message::Ack(ack))
                if ack.address == Some(pattern) =>
            {
                let mut frame = Vec::new();
                let message = Message::Unsubscribe { id: SNAPSHOT_ID };
                if binary::encode(&message, Qos::Fire, &mut frame).is_ok() {
                    frames.push(frame);
                }
                Ok(Answer::Params(std::mem::take(found)))
            }
            (Waiting::Subscribe { pattern }, Message::Ack(ack)) if ack.address == Some(pattern) => {
                Ok(Answer::Done)
            }
            _ => return Heard::News,
        };
        self.waiting = None;
        Heard::Answer(answer)
    }
}

fn say(frames: &mut Vec<Vec<u8>>, message: &Message<'_>, qos: Qos) -> Result<(), TooLong> {
    let mut frame = Vec::new();
    binary::encode(message, qos, &mut frame)?;
    frames.push(frame);
    Ok(())
}

/// What a message of the router is to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard<A> {
    /// It has nothing to do with the question.
    News,
    /// A part of the answer; the rest follows.
    Part,
    Answer(A),
}

impl Waiting {
    /// Whether an ERROR about `address` answers this.
    fn is_spoken_of(&self, address: Option<&str>) -> bool {
        let asked = match self {
            Self::Get { address } | Self::Set { address } => address,
            Self::Snapshot { pattern, .. } | Self::Subscribe { pattern } => pattern,
            Self::Fence { .. } | Self::Bundle => return true,
        };
        address.is_none_or(|address| address == asked)
    }
}

fn fence(serial: u64) -> Message<'static> {
    Message::Sync(Sync { t1: serial, t2: None, t3: None })
}

impl Param {
    pub fn of(param: &ParamValue<'_>) -> Self {
        Self {
            address: param.address.to_owned(),
            value: value::text(param.value),
            revision: param.revision,
            timestamp_us: param.timestamp_us,
            writer: param.writer.map(str::to_owned),
        }
    }

    /// Appends it as an object: `{"address":"/a","value":1,"revision":3,"timestamp":..,
    /// "writer":..}`.
    pub fn push_json(&self, out: &mut String) {
        out.push('{');
        self.push_keys(out);
        out.push('}');
    }

    /// Appends the same without its braces.
    pub fn push_keys(&self, out: &mut String) {
        use fmt::Write as _;
        out.push_str("\"address\":");
        clasp_rt_bridges::json::push_string(&self.address, out);
        // Writing to a string cannot fail.
        let _ = write!(out, ",\"value\":{},\"revision\":{}", self.value, self.revision);
        if let Some(timestamp) = self.timestamp_us {
            let _ = write!(out, ",\"timestamp\":{timestamp}");
        }
        if let Some(writer) = &self.writer {
            out.push_str(",\"writer\":");
            clasp_rt_bridges::json::push_string(writer, out);
        }
    }
}

impl Refused {
    pub fn of(error: &ErrorReply<'_>) -> Self {
        Self {
            code: error.code,
            message: error.message.to_owned(),
            address: error.address.map(str::to_owned),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Ack, Publish};
    use clasp_rt_core::wire::list::Params;

    use super::*;

    fn set(address: &str) -> Ask {
        Ask::Set(SetAsk {
            address: address.into(),
            value: value::encode(&serde_json::json!(0.5)).expect("a number"),
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        })
    }

    fn ack(address: Option<&str>, revision: Option<u64>) -> Message<'_> {
        Message::Ack(Ack { address, revision, ..Ack::default() })
    }

    fn error(code: u16, address: Option<&str>) -> Message<'_> {
        Message::Error(ErrorReply { code, message: "why", address, correlation_id: None })
    }

    /// What `messages` mean for `ask`, one after the other.
    fn told(ask: &Ask, messages: &[Message<'_>]) -> Vec<Heard<Result<Answer, u16>>> {
        let (mut talk, mut frames) = (Talk::default(), Vec::new());
        talk.ask(ask, &mut frames).expect("short");
        assert!(!frames.is_empty());
        messages
            .iter()
            .map(|message| match talk.hear(message, &mut frames) {
                Heard::News => Heard::News,
                Heard::Part => Heard::Part,
                Heard::Answer(answer) => Heard::Answer(answer.map_err(|refused| refused.code)),
            })
            .collect()
    }

    #[test]
    fn each_question_knows_its_answer_among_other_messages() {
        use Heard::{Answer as Told, News};
        let get = Ask::Get { address: "/a".into() };
        assert_eq!(
            told(&get, &[error(201, Some("/b")), ack(Some("/a"), None), error(201, Some("/a"))]),
            [News, News, Told(Ok(Answer::Missing))]
        );
        assert_eq!(
            told(&set("/a"), &[ack(Some("/b"), Some(1)), ack(Some("/a"), Some(7))]),
            [News, Told(Ok(Answer::Written { revision: 7 }))]
        );
        assert_eq!(told(&set("/a"), &[error(429, None)]), [Told(Err(429))]);
        let bundle = Ask::Bundle { frame: vec![1] };
        assert_eq!(
            told(&bundle, &[ack(Some("/x"), Some(1)), ack(None, Some(3)), ack(None, None)]),
            [News, Told(Ok(Answer::Applied { revision: Some(3) })), News]
        );
        let pattern = "/a/**".to_owned();
        let subscribe = Ask::Subscribe {
            id: 1,
            pattern: pattern.clone(),
            types: SignalMask::ALL,
            options: SubscribeOptions::default(),
        };
        let empty = Message::Snapshot { params: Params::EMPTY };
        assert_eq!(
            told(&subscribe, &[empty, ack(Some("/a/**"), None)]),
            [News, Told(Ok(Answer::Done))]
        );
        let snapshot = Ask::Snapshot { pattern };
        assert_eq!(
            told(&snapshot, &[empty, ack(Some("/a/**"), None)]),
            [Heard::Part, Told(Ok(Answer::Params(Vec::new())))]
        );
        assert_eq!(told(&snapshot, &[error(301, Some("/a/**"))]), [Told(Err(301))]);
    }

    #[test]
    fn an_event_is_taken_when_the_sync_behind_it_is_answered_first() {
        let (mut talk, mut frames) = (Talk::default(), Vec::new());
        let publish = Publish { address: "/go", ..Publish::default() };
        let mut frame = Vec::new();
        binary::encode(&Message::Publish(publish), Qos::Fire, &mut frame).expect("short");
        let ask = Ask::Publish { frame };
        let sync = |t1| Message::Sync(Sync { t1, t2: Some(1), t3: Some(1) });
        talk.ask(&ask, &mut frames).expect("short");
        assert_eq!(frames.len(), 2, "the event, and a SYNC behind it");
        let refused = talk.hear(&error(301, Some("/go")), &mut frames);
        assert!(matches!(refused, Heard::Answer(Err(Refused { code: 301, .. }))));
        talk.ask(&ask, &mut frames).expect("short");
        assert_eq!(talk.hear(&sync(1), &mut frames), Heard::News, "the answer to the one before");
        assert_eq!(talk.hear(&sync(2), &mut frames), Heard::Answer(Ok(Answer::Done)));
        assert!(!talk.is_waiting());
    }
}

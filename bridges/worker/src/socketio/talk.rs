//! One Socket.IO client and its session at the router.

use std::sync::Arc;
use std::time::Duration;

use clasp_rt_core::error::code;
use serde_json::{Map, Value as Json, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::handler::{FromMessageParts, MessageHandler, Value};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use super::names::Names;
use super::payload::{self, Argument, Arguments};
use super::speech::{asked, told};
use crate::web::program::{Out, Program, error_text};
use crate::web::seats::ANSWER_TIMEOUT;
use crate::web::talk::Refused;
use crate::{Context, Hearer, Speaker};

/// What a client said and nobody has taken yet; beyond that it is refused.
const INBOX_MAX: usize = 64;
/// Refusals that wait for a client; one that goes on is disconnected.
const REFUSALS_MAX: usize = 1_024;
/// A client that takes nothing for so long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that the router found too busy is not heard.
const SLOW: Duration = Duration::from_secs(1);
/// How often a client whose queue is full is tried again.
const RETRY: Duration = Duration::from_millis(5);
const END_RETRY: Duration = Duration::from_millis(100);

/// One event of the client.
pub(super) struct Said {
    event: String,
    arguments: Vec<Json>,
    ack: Option<Ack>,
}

/// Who waits for an acknowledgement. The library's own is used up by an attempt that finds no room.
struct Ack {
    socket: Arc<Socket<LocalAdapter>>,
    id: i64,
}

impl Ack {
    fn send(&self, told: &Json) -> Result<(), SendError> {
        let mut nothing = Value::Str(String::new().into(), None);
        let Ok(sender) = AckSender::from_message_parts(&self.socket, &mut nothing, &Some(self.id));
        sender.send(&Argument(told))
    }
}

/// An event that is not taken, and why.
pub(super) struct Refusal {
    ack: Option<Ack>,
    refused: Refused,
}

/// Takes all events of one client, in their order: each is queued before the next is read.
pub(super) struct Inbox {
    sender: Sender<Said>,
    refusals: Sender<Refusal>,
    flood: Arc<Notify>,
    context: Context,
}

/// What an inbox took.
pub(super) struct Taken {
    said: Receiver<Said>,
    refusals: Receiver<Refusal>,
    /// There were more of them than are kept.
    flood: Arc<Notify>,
}

/// Tells the implementation of this handler from those for functions.
pub(super) struct InOrder;

impl Inbox {
    pub(super) fn new(context: &Context) -> (Self, Taken) {
        let (sender, said) = mpsc::channel(INBOX_MAX);
        let (refuse, refusals) = mpsc::channel(REFUSALS_MAX);
        let (flood, context) = (Arc::new(Notify::new()), context.clone());
        let taken = Taken { said, refusals, flood: Arc::clone(&flood) };
        (Self { sender, refusals: refuse, flood, context }, taken)
    }
}

impl MessageHandler<LocalAdapter, InOrder> for Inbox {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, value: Value, ack_id: Option<i64>) {
        let counters = &self.context.counters;
        counters.packets_in.add(1);
        let ack = ack_id.map(|id| Ack { socket: Arc::clone(&socket), id });
        let refusal = match payload::read(&value) {
            Ok((event, arguments)) => match self.sender.try_send(Said { event, arguments, ack }) {
                Ok(()) => return,
                Err(full) => {
                    counters.overflowed.add(1);
                    let ack = full.into_inner().ack;
                    let message = "too many events at once: wait for acknowledgements".to_owned();
                    let refused = Refused { code: code::RATE_LIMIT, message, address: None };
                    Refusal { ack, refused }
                }
            },
            Err(message) => {
                counters.malformed.add(1);
                let refused = Refused { code: code::INVALID_MESSAGE, message, address: None };
                Refusal { ack, refused }
            }
        };
        // Each is answered, or it ends.
        if self.refusals.try_send(refusal).is_err() {
            self.flood.notify_one();
        }
    }
}

/// The patterns that a client subscribed to: no more than the router lets it have.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    patterns: Vec<String>,
    /// One that is new, until the router has answered.
    asked: Option<String>,
}

impl Rooms {
    /// The client asks for `op` of `pattern`; what it is told while it waits counts already.
    fn asked(&mut self, op: &str, pattern: &str) {
        let is_known = self.patterns.iter().any(|known| known == pattern);
        match op {
            "subscribe" if !is_known => {
                self.patterns.push(pattern.to_owned());
                self.asked = Some(pattern.to_owned());
            }
            "unsubscribe" => self.patterns.retain(|known| known != pattern),
            _ => {}
        }
    }

    fn answered(&mut self, is_refused: bool) {
        if let Some(pattern) = self.asked.take().filter(|_| is_refused) {
            self.patterns.retain(|known| *known != pattern);
        }
    }
}

fn is_error(told: &Json) -> bool {
    told.get("type").and_then(Json::as_str) == Some("error")
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_default()
}

/// One conversation.
pub(super) struct Talk {
    pub socket: SocketRef,
    pub speaker: Speaker,
    pub hearer: Hearer,
    pub names: Names,
    /// What events become: params, or events.
    pub op: &'static str,
    pub taken: Taken,
    pub context: Context,
    pub rooms: Rooms,
}

impl Talk {
    /// Goes on until the client or the session is gone.
    pub(super) async fn run(mut self) {
        let mut program = Program::default();
        let mut outs = Vec::new();
        let mut ack = None;
        let mut answer_due = Instant::now() + ANSWER_TIMEOUT;
        let mut slow_until = Instant::now();
        let all = Map::from_iter([("pattern".to_owned(), json!(self.names.pattern()))]);
        program.said("subscribe", all, &mut outs);
        // A token whose scopes do not cover it may still say events; it just hears none.
        let mut is_own = true;
        loop {
            for out in outs.drain(..) {
                let is_carried = match out {
                    Out::ToRouter(frame) => self.speaker.say_frame(&frame).await.is_ok(),
                    Out::Slow => {
                        slow_until = Instant::now() + SLOW;
                        true
                    }
                    Out::Answer { .. } if is_own => true,
                    Out::Answer { text, .. } => {
                        let told = parsed(&text);
                        self.rooms.answered(is_error(&told));
                        self.answer(ack.take(), &told).await
                    }
                    Out::News { kind, address, text } => {
                        self.tell(kind, address.as_deref(), &text).await
                    }
                };
                if !is_carried {
                    return self.end().await;
                }
            }
            let now = Instant::now();
            let is_waiting = program.is_waiting();
            if is_waiting && now >= answer_due {
                return self.end().await;
            }
            if !is_waiting {
                is_own = false;
                // What asked for no answer that would come is acknowledged here.
                ack = None;
            }
            let listens = !is_waiting && now >= slow_until;
            let due = if is_waiting { answer_due } else { slow_until };
            tokio::select! {
                heard = self.hearer.next() => match heard {
                    Some(heard) => program.heard(&heard.message, &mut outs),
                    None => return self.end().await,
                },
                Some(Refusal { ack, refused }) = self.taken.refusals.recv() => {
                    if !self.answer(ack, &parsed(&error_text(None, &refused))).await {
                        return self.end().await;
                    }
                }
                said = self.taken.said.recv(), if listens => {
                    // The client is gone: its handlers are.
                    let Some(mut said) = said else { return };
                    answer_due = Instant::now() + ANSWER_TIMEOUT;
                    ack = said.ack.take();
                    self.say(&mut program, said, &mut outs);
                }
                () = sleep_until(due), if is_waiting || !listens => {}
                () = self.taken.flood.notified() => return self.end().await,
                () = self.context.stop.wait() => return self.end().await,
            }
            if !self.socket.connected() {
                return;
            }
        }
    }

    /// Sends the client away. One whose queue is full cannot be told; it has its place until it
    /// reads, or until it does not answer the next ping.
    async fn end(&self) {
        while matches!(self.socket.clone().disconnect(), Err(SocketError::InternalChannelFull))
            && self.socket.connected()
        {
            sleep(END_RETRY).await;
        }
    }

    fn say(&mut self, program: &mut Program, said: Said, outs: &mut Vec<Out>) {
        let Said { event, arguments, .. } = said;
        match asked(&self.names, self.op, &event, arguments) {
            Ok((op, map)) => {
                if let Some(pattern) = map.get("pattern").and_then(Json::as_str) {
                    self.rooms.asked(op, pattern);
                }
                program.said(op, map, outs);
            }
            Err(why) => program.refuse(None, &why, outs),
        }
    }

    /// Tells what was subscribed to: by its own name, and as what it is to who asked for that.
    /// `false`: the client takes nothing.
    async fn tell(&self, kind: &'static str, address: Option<&str>, text: &str) -> bool {
        for told in told(&self.names, &self.rooms.patterns, kind, address, text) {
            if !self.emit(&told.event, &told.arguments).await {
                return false;
            }
        }
        true
    }

    async fn emit(&self, event: &str, arguments: &[Json]) -> bool {
        self.context.counters.packets_out.add(1);
        self.until_taken(|| self.socket.emit(event, &Arguments(arguments))).await
    }

    /// Acknowledges; an error for which nobody waits is an event.
    async fn answer(&self, ack: Option<Ack>, told: &Json) -> bool {
        match ack {
            Some(ack) => self.until_taken(|| ack.send(told)).await,
            None if is_error(told) => self.until_taken(|| self.socket.emit("error", told)).await,
            None => true,
        }
    }

    /// Waits while the client's queue is full. `false`: it is gone, or takes nothing.
    async fn until_taken(&self, say: impl Fn() -> Result<(), SendError>) -> bool {
        let until = Instant::now() + SEND_TIMEOUT;
        loop {
            match say() {
                Ok(()) => return true,
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    if Instant::now() >= until {
                        self.context.counters.overflowed.add(1);
                        return false;
                    }
                    sleep(RETRY).await;
                }
                Err(SendError::Socket(SocketError::Closed)) => return false,
                // What cannot be said is passed over.
                Err(_) => {
                    self.context.counters.refused.add(1);
                    return true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_the_router_refuses_is_none_and_those_there_were_stay() {
        let mut rooms = Rooms::default();
        rooms.asked("subscribe", "/a/**");
        assert_eq!(rooms.patterns, ["/a/**"], "its snapshot comes before the answer");
        rooms.answered(false);
        for number in 0..1000 {
            rooms.asked("subscribe", &format!("/b/{number}"));
            rooms.answered(true);
        }
        rooms.asked("subscribe", "/a/**");
        rooms.answered(true);
        assert_eq!(rooms.patterns, ["/a/**"], "asked for twice, and refused once");
        rooms.asked("get", "/a/**");
        rooms.answered(true);
        rooms.asked("unsubscribe", "/a/**");
        assert!(rooms.patterns.is_empty());
    }
}

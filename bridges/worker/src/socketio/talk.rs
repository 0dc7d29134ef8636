//! One Socket.IO client and its session at the router.

use std::sync::Arc;
use std::time::Duration;

use clasp_rt_core::error::code;
use clasp_rt_core::pattern;
use serde_json::{Map, Value as Json, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::handler::{FromMessageParts, MessageHandler, Value};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use super::names::Names;
use super::payload::{self, Argument, Arguments};
use crate::web::client::{Client, OPS, Out, error_text};
use crate::web::seats::ANSWER_TIMEOUT;
use crate::web::talk::Refused;
use crate::{Context, Hearer, Speaker};

/// What a client said and nobody has taken yet; beyond that it is refused.
const INBOX_MAX: usize = 64;
/// A client that takes nothing for so long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that the router found too busy is not heard.
const SLOW: Duration = Duration::from_secs(1);
/// How often a client whose queue is full is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// One event of the client.
pub(super) struct Said {
    event: String,
    arguments: Vec<Json>,
    /// Where an acknowledgement is waited for.
    ack: Option<AckSender>,
}

/// Takes all events of one client, in their order: each is queued before the next is read.
pub(super) struct Inbox {
    sender: Sender<Said>,
    context: Context,
}

/// Tells the implementation of this handler from those for functions.
pub(super) struct InOrder;

impl Inbox {
    pub(super) fn new(context: &Context) -> (Self, Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(INBOX_MAX);
        (Self { sender, context: context.clone() }, receiver)
    }
}

impl MessageHandler<LocalAdapter, InOrder> for Inbox {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut value: Value, ack_id: Option<i64>) {
        let Ok(ack) = AckSender::from_message_parts(&socket, &mut value, &ack_id);
        let ack = ack_id.is_some().then_some(ack);
        self.context.counters.packets_in.add(1);
        let refuse = |ack, code, message| {
            tell_error(&socket, ack, &Refused { code, message, address: None });
        };
        let (event, arguments) = match payload::read(&value) {
            Ok(read) => read,
            Err(why) => {
                self.context.counters.malformed.add(1);
                return refuse(ack, code::INVALID_MESSAGE, why);
            }
        };
        if let Err(full) = self.sender.try_send(Said { event, arguments, ack }) {
            self.context.counters.overflowed.add(1);
            let why = "too many events at once: wait for acknowledgements".to_owned();
            refuse(full.into_inner().ack, code::RATE_LIMIT, why);
        }
    }
}

/// Says an error as the acknowledgement, or as an event where none is waited for.
fn tell_error(socket: &Socket<LocalAdapter>, ack: Option<AckSender>, refused: &Refused) {
    let told = parsed(&error_text(None, refused));
    // A client that is gone, or takes nothing, is not told.
    let _ = match ack {
        Some(ack) => ack.send(&told),
        None => socket.emit("error", &told),
    };
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
    pub inbox: Receiver<Said>,
    pub context: Context,
}

impl Talk {
    /// Goes on until the client or the session is gone.
    pub(super) async fn run(mut self) {
        let mut client = Client::default();
        let mut outs = Vec::new();
        let (mut ack, mut patterns) = (None, Vec::<String>::new());
        let mut answer_due = Instant::now() + ANSWER_TIMEOUT;
        let mut slow_until = Instant::now();
        let all = Map::from_iter([("pattern".to_owned(), json!(self.names.pattern()))]);
        client.said("subscribe", all, &mut outs);
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
                        answer(&self.socket, ack.take(), &text);
                        true
                    }
                    Out::News { kind, address, text } => {
                        self.tell(kind, address.as_deref(), &text, &patterns).await
                    }
                };
                if !is_carried {
                    let _ = self.socket.disconnect();
                    return;
                }
            }
            let now = Instant::now();
            let is_waiting = client.is_waiting();
            if is_waiting && now >= answer_due {
                let _ = self.socket.disconnect();
                return;
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
                    Some(heard) => client.heard(&heard.message, &mut outs),
                    None => {
                        let _ = self.socket.disconnect();
                        return;
                    }
                },
                said = self.inbox.recv(), if listens => {
                    // The client is gone: its handlers are.
                    let Some(said) = said else { return };
                    answer_due = Instant::now() + ANSWER_TIMEOUT;
                    ack = said.ack;
                    self.say(&mut client, &said.event, said.arguments, &mut patterns, &mut outs);
                }
                () = sleep_until(due), if is_waiting || !listens => {}
                () = self.context.stop.wait() => {
                    let _ = self.socket.disconnect();
                    return;
                }
            }
            if !self.socket.connected() {
                return;
            }
        }
    }

    fn say(
        &self,
        client: &mut Client,
        event: &str,
        mut arguments: Vec<Json>,
        patterns: &mut Vec<String>,
        outs: &mut Vec<Out>,
    ) {
        let is_one = arguments.len() == 1;
        match arguments.pop() {
            Some(Json::Object(mut map)) if is_one && OPS.contains(&event) => {
                if let Some(pattern) = map.get("pattern").and_then(Json::as_str) {
                    match event {
                        "subscribe" if !patterns.iter().any(|known| known == pattern) => {
                            patterns.push(pattern.to_owned());
                        }
                        "unsubscribe" => patterns.retain(|known| known != pattern),
                        _ => {}
                    }
                }
                // So that every answer is given; the acknowledgement has its own number.
                map.entry("id").or_insert_with(|| json!(0));
                client.said(event, map, outs);
            }
            last => {
                arguments.extend(last);
                match self.names.keys_of(event, arguments) {
                    Ok(mut map) => {
                        map.insert("id".to_owned(), json!(0));
                        client.said(self.op, map, outs);
                    }
                    Err(why) => client.refuse(&why, outs),
                }
            }
        }
    }

    /// Tells what was subscribed to: by its own name, and as what it is to who asked for that.
    /// `false`: the client takes nothing.
    async fn tell(
        &self,
        kind: &'static str,
        address: Option<&str>,
        text: &str,
        patterns: &[String],
    ) -> bool {
        let told = parsed(text);
        if let Some(params) = told.get("params").and_then(Json::as_array) {
            for param in params {
                let address = param.get("address").and_then(Json::as_str).unwrap_or_default();
                if !self.tell_one("value", address, param, patterns).await {
                    return false;
                }
            }
            return true;
        }
        match address {
            Some(address) => self.tell_one(kind, address, &told, patterns).await,
            None => self.emit(kind, &[told]).await,
        }
    }

    async fn tell_one(&self, kind: &str, address: &str, told: &Json, patterns: &[String]) -> bool {
        if let Some(event) = self.names.event_of(address) {
            let mut about = told.clone();
            let value = about.as_object_mut().and_then(|about| about.remove("value"));
            if !self.emit(event, &[value.unwrap_or_default(), about]).await {
                return false;
            }
        }
        if patterns.iter().any(|wanted| pattern::matches(wanted, address)) {
            return self.emit(kind, std::slice::from_ref(told)).await;
        }
        true
    }

    /// Waits while the client's queue is full. `false`: it is gone, or takes nothing.
    async fn emit(&self, event: &str, arguments: &[Json]) -> bool {
        let until = Instant::now() + SEND_TIMEOUT;
        self.context.counters.packets_out.add(1);
        loop {
            match self.socket.emit(event, &Arguments(arguments)) {
                Ok(()) => return true,
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    if Instant::now() >= until {
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

/// Acknowledges; an error for which nobody waits is an event.
fn answer(socket: &SocketRef, ack: Option<AckSender>, text: &str) {
    let told = parsed(text);
    let is_error = told.get("type").and_then(Json::as_str) == Some("error");
    // A client that is gone, or takes nothing, is not told.
    let _ = match ack {
        Some(ack) => ack.send(&Argument(&told)),
        None if is_error => socket.emit("error", &told),
        None => Ok(()),
    };
}

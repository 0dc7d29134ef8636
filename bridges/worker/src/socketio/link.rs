//! The client of a server elsewhere: one namespace, one connection, one session at the router, and
//! what waits between.
//!
//! Of params the newest value waits for whoever is away, of events each, as far as
//! [`Waiting`] has room. A server that is joined again is told every param anew, except those that
//! it set itself. Events that were on their way when a connection broke are lost, unless the server
//! acknowledges (`acks`): then they are told again.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clasp_rt_client::{Backoff, random};
use clasp_rt_core::error::code;
use futures_util::future::join_all;
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::NAME;
use super::carrier::{Carrier, News};
use super::engine::Frame;
use super::join::{Place, Plan};
use super::names::Names;
use super::packet::{self, As, Assembly, Event, Packed, Packet};
use super::speech::{self, Told};
use crate::mqtt::waiting::Waiting;
use crate::web::program::{Out, Program, error_text};
use crate::web::seats::{ANSWER_TIMEOUT, FEATURES};
use crate::web::talk::Refused;
use crate::{Context, Hearer, Running, Service, Speaker, Who};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// As with the published client.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that does not say by then whether we are let in does not.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing more is said to a router that finds this session too busy.
const SLOW: Duration = Duration::from_secs(1);
/// A server that takes nothing for so long is no reason to hear no more of the router: the newest
/// values wait here then, and not there.
const STALL: Duration = Duration::from_secs(2);
/// What is told to a server and not acknowledged; the rest waits.
const FLIGHT_MAX: usize = 32;
/// What a server does not acknowledge for so long, it does not acknowledge.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Acknowledgements and errors that wait for a server; more are dropped, counted.
const REPLIES_MAX: usize = 1_024;
/// Sessions of ours that a param's writer may name; older ones are forgotten.
const SESSIONS_MAX: usize = 8;
/// How long the server may take to hear the last words.
const FAREWELL: Duration = Duration::from_millis(300);

/// Something for the server.
struct Telling {
    packed: Packed,
    /// Of which param it is the value, and how that is told; `None`: an event.
    param: Option<String>,
}

/// Something that the server said, on its way to the router.
struct Said {
    op: &'static str,
    map: Map<String, Json>,
    /// Where it is the value of an address and nothing else.
    param: Option<String>,
    bytes: usize,
    /// Who waits for an acknowledgement, and on which connection.
    ack: Option<(u64, u64)>,
}

/// What the router was asked last.
enum Asked {
    /// To tell what happens at this pattern.
    Subscription(String),
    Said(Box<Said>),
}

/// What a server has not acknowledged.
struct Flying {
    id: u64,
    due: Instant,
    telling: Telling,
}

/// The clients of one server: one for each namespace.
pub(super) struct Links(pub Arc<Plan>);

impl Service for Links {
    fn name(&self) -> &str {
        NAME
    }

    fn sessions_max(&self) -> u32 {
        self.0.namespaces.len() as u32
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let plan = self.0;
            let link = |space: &String| Link::new(Arc::clone(&plan), space, context.clone()).run();
            join_all(plan.namespaces.iter().map(link)).await;
            io::Result::Ok(())
        })
    }
}

/// The client of one namespace.
struct Link {
    plan: Arc<Plan>,
    space: String,
    names: Names,
    context: Context,

    carrier: Option<Carrier>,
    /// Counts connections.
    connection: u64,
    assembly: Assembly,
    /// The server has let us in.
    joined: bool,
    /// When it must have, once it is asked.
    join_due: Option<Instant>,
    /// Bytes of a frame that the server takes.
    frame_bytes_max: usize,
    backoff: Backoff,
    retry_at: Instant,
    /// Why the server could not be joined, as it was told last.
    complaint: Option<String>,
    /// A server that is joined must be told everything that the router holds.
    needs_all: bool,

    outward: Waiting<Telling>,
    replies: VecDeque<(Packed, As)>,
    flight: VecDeque<Flying>,
    last_id: u64,
    /// When the server took something last, or there was nothing for it.
    taken: Instant,

    session: Option<(Speaker, Hearer)>,
    program: Program,
    /// Sessions of ours, newest last.
    sessions: Vec<String>,
    wishes: VecDeque<String>,
    inward: Waiting<Said>,
    /// The router found it too much at that moment.
    again: Option<Box<Said>>,
    asked: Option<Asked>,
    answer_due: Instant,
    slow_until: Instant,
}

type Joining = Pin<Box<dyn Future<Output = Option<(Speaker, Hearer)>>>>;

impl Link {
    fn new(plan: Arc<Plan>, space: &str, context: Context) -> Self {
        let now = Instant::now();
        Self {
            assembly: Assembly::new(space, plan.place.message_bytes_max),
            names: Names::new(&plan.namespace, space),
            plan,
            space: space.to_owned(),
            context,
            carrier: None,
            connection: 0,
            joined: false,
            join_due: None,
            frame_bytes_max: 0,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random()),
            retry_at: now,
            complaint: None,
            needs_all: false,
            outward: Waiting::default(),
            replies: VecDeque::new(),
            flight: VecDeque::new(),
            last_id: 0,
            taken: now,
            session: None,
            program: Program::default(),
            sessions: Vec::new(),
            wishes: VecDeque::new(),
            inward: Waiting::default(),
            again: None,
            asked: None,
            answer_due: now,
            slow_until: now,
        }
    }

    fn join_router(&self) -> Joining {
        let context = self.context.clone();
        let who = Who { features: FEATURES, ..Who::service(NAME, self.plan.token.clone()) };
        Box::pin(async move { context.router.join_for_sure(&who, &context.stop).await })
    }

    /// Goes on until the host stops.
    async fn run(mut self) {
        let stop = self.context.stop.clone();
        let mut joining = None;
        loop {
            if self.session.is_none() && joining.is_none() {
                joining = Some(self.join_router());
            }
            let now = Instant::now();
            self.keep_time(now);
            let is_behind = self.joined && !(self.replies.is_empty() && self.outward.is_empty());
            if !is_behind {
                self.taken = now;
            }
            // While the router is there, the server is heard as fast as the router takes it.
            let hears_server = self.session.is_none() || self.is_idle(now);
            let hears_router = !is_behind || now >= self.taken + STALL;
            let (due, can_tell) = (self.due(now, is_behind), self.can_tell());
            let out = self.carrier.as_ref().map(|carrier| carrier.out.clone());
            let news = self.carrier.as_mut().map(|carrier| &mut carrier.news);
            tokio::select! {
                () = stop.wait() => break,
                joined = some(&mut joining) => {
                    joining = None;
                    let Some((speaker, hearer)) = joined else { break };
                    self.router_joined(speaker, hearer);
                }
                // Why there is no room any more is told by the news.
                Some(room) = room_in(out), if can_tell => {
                    if let Some(frames) = self.next_outward() {
                        room.send(frames);
                    }
                    self.taken = now;
                }
                said = next_of(news), if hears_server => self.server_said(said),
                heard = hear(&mut self.session), if hears_router => {
                    let mut outs = Vec::new();
                    match heard {
                        Some(heard) => self.program.heard(&heard.message, &mut outs),
                        None => self.router_lost(None),
                    }
                    self.carry(outs).await;
                }
                () = sleep_until(due) => {}
            }
            self.ask_router().await;
            self.count_lost();
        }
        self.say_goodbye().await;
    }

    /// Whether the router has done everything that it was asked, and may be asked more.
    fn is_idle(&self, now: Instant) -> bool {
        let is_done = self.asked.is_none() && self.again.is_none() && self.inward.is_empty();
        is_done && now >= self.slow_until
    }

    fn can_tell(&self) -> bool {
        let has_room = self.flight.len() < FLIGHT_MAX;
        self.joined && (!self.replies.is_empty() || has_room && !self.outward.is_empty())
    }

    /// When something is to be done though nobody says anything.
    fn due(&self, now: Instant, is_behind: bool) -> Instant {
        let dues = [
            self.carrier.is_none().then_some(self.retry_at),
            self.join_due,
            self.asked.is_some().then_some(self.answer_due),
            (self.slow_until > now).then_some(self.slow_until),
            (is_behind && self.taken + STALL > now).then_some(self.taken + STALL),
            self.flight.front().map(|flying| flying.due),
        ];
        dues.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(3600))
    }

    fn keep_time(&mut self, now: Instant) {
        if self.carrier.is_none() && now >= self.retry_at {
            self.connection += 1;
            self.assembly = Assembly::new(&self.space, self.plan.place.message_bytes_max);
            self.carrier = Some(Carrier::start(Arc::clone(&self.plan.place)));
        }
        if self.join_due.is_some_and(|due| now >= due) {
            self.lose("it does not say whether we are let in");
        }
        while self.flight.pop_front_if(|flying| now >= flying.due).is_some() {
            self.context.counters.refused.add(1);
        }
        if self.asked.is_some() && now >= self.answer_due {
            self.router_lost(Some("it does not answer"));
        }
    }

    fn server_said(&mut self, news: News) {
        let packet = match news {
            News::Open(handshake) => {
                self.frame_bytes_max = handshake.payload_bytes_max;
                let join = packet::join(&self.space, &self.plan.auth);
                // Nothing else is on its way, so that there is room.
                let sent = self.carrier.as_ref().map(|carrier| carrier.out.try_send(vec![join]));
                self.join_due = sent.map(|_| Instant::now() + JOIN_TIMEOUT);
                return;
            }
            News::Lost(why) => return self.lose(&why),
            News::Text(text) => self.assembly.text(&text),
            News::Bytes(bytes) => self.assembly.bytes(&bytes),
        };
        match packet {
            Ok(None) => {}
            Ok(Some(Packet::Joined)) => {
                let Place { url, .. } = &*self.plan.place;
                info!("{NAME} joined {url}{}", self.space);
                (self.joined, self.join_due, self.complaint) = (true, None, None);
                self.backoff.reset();
                if std::mem::take(&mut self.needs_all) {
                    self.wish();
                }
            }
            Ok(Some(Packet::Refused { message })) => {
                self.context.counters.refused.add(1);
                self.lose(&format!("it lets nobody in: {message}"));
            }
            Ok(Some(Packet::Left)) => self.lose("it ended the conversation"),
            Ok(Some(Packet::Event(event))) => self.take(event),
            Ok(Some(Packet::Ack { id, arguments })) => {
                let at = self.flight.iter().position(|flying| flying.id == id);
                let flying = at.and_then(|at| self.flight.remove(at));
                if flying.is_some() && arguments.first().is_some_and(is_error) {
                    self.context.counters.refused.add(1);
                }
            }
            Err(why) => {
                self.context.counters.malformed.add(1);
                self.lose(&why.to_string());
            }
        }
    }

    /// The connection is no more, or is of no use.
    fn lose(&mut self, why: &str) {
        let Place { url, .. } = &*self.plan.place;
        self.carrier = None;
        self.join_due = None;
        self.replies.clear();
        self.retry_at = Instant::now() + self.backoff.next_wait();
        if std::mem::take(&mut self.joined) {
            warn!("{NAME} lost {url}{}: {why}", self.space);
            self.needs_all = true;
        } else if self.complaint.as_deref() != Some(why) {
            warn!("{NAME} cannot join {url}{}, and tries again: {why}", self.space);
            self.complaint = Some(why.to_owned());
        }
        // Events that may not have been taken go first; of params all are told anew.
        let flown = std::mem::take(&mut self.flight).into_iter();
        let events = flown.map(|flying| flying.telling).filter(|telling| telling.param.is_none());
        let mut rest = std::mem::take(&mut self.outward);
        let lost = rest.take_lost();
        self.context.counters.overflowed.add(lost.len() as u64);
        for telling in events.chain(std::iter::from_fn(|| rest.pop())) {
            wait(telling, &mut self.outward);
        }
    }

    /// An event of the server, on its way to the router.
    fn take(&mut self, event: Event) {
        self.context.counters.packets_in.add(1);
        let Event { id, said, bytes } = event;
        let ack = id.map(|id| (self.connection, id));
        let asked = match said {
            Ok((event, arguments)) => speech::asked(&self.names, self.plan.op, &event, arguments),
            Err(why) => {
                self.context.counters.malformed.add(1);
                Err(why)
            }
        };
        let (op, map) = match asked {
            Ok(asked) => asked,
            Err(why) => return self.reply_error(ack, code::INVALID_MESSAGE, why),
        };
        let is_plain = op == "set" && map.len() == 3 && map.contains_key("value");
        let address = map.get("address").and_then(Json::as_str).filter(|_| is_plain);
        let param = address.map(str::to_owned);
        self.wait_inward(Said { op, map, param, bytes, ack });
    }

    fn wait_inward(&mut self, said: Said) {
        let bytes = said.bytes;
        let Some(address) = said.param.clone() else { return self.inward.event(bytes, said) };
        if let Some(replaced) = self.inward.param(&address, bytes, said) {
            let done = json!({ "type": "ack", "address": address });
            self.reply(replaced.ack, done);
        }
    }

    fn router_joined(&mut self, speaker: Speaker, hearer: Hearer) {
        if self.sessions.len() == SESSIONS_MAX {
            self.sessions.remove(0);
        }
        self.sessions.push(hearer.session().to_owned());
        self.session = Some((speaker, hearer));
        // All that it holds waits for the server, if that is not there.
        self.needs_all = false;
        self.wish();
    }

    /// Asks for everything that the server is to be told.
    fn wish(&mut self) {
        self.wishes.clear();
        self.wishes.push_back(self.names.pattern());
        self.wishes.extend(self.plan.patterns.iter().cloned());
    }

    fn router_lost(&mut self, why: Option<&str>) {
        let Some((_, hearer)) = self.session.take() else { return };
        warn!("{NAME} lost the router: {}", why.unwrap_or_else(|| hearer.why_ended()));
        self.program = Program::default();
        self.wishes.clear();
        match self.asked.take() {
            // It is asked again, unless there is a newer value.
            Some(Asked::Said(said)) if said.param.is_some() => {
                let is_old = said.param.as_ref().is_some_and(|param| self.inward.has(param));
                match is_old {
                    true => self.reply(said.ack, json!({ "type": "ack", "address": said.param })),
                    false => self.wait_inward(*said),
                }
            }
            Some(Asked::Said(said)) => {
                let why = "the router went away and may have done it or not".to_owned();
                self.reply_error(said.ack, code::UNAVAILABLE, why);
            }
            Some(Asked::Subscription(_)) | None => {}
        }
    }

    /// Asks the router for what waits, one after the other.
    async fn ask_router(&mut self) {
        loop {
            let now = Instant::now();
            if self.session.is_none() || self.asked.is_some() || now < self.slow_until {
                return;
            }
            let mut outs = Vec::new();
            if let Some(pattern) = self.wishes.pop_front() {
                let keys = [("pattern".to_owned(), json!(pattern)), ("id".to_owned(), json!(0))];
                self.asked = Some(Asked::Subscription(pattern));
                self.program.said("subscribe", Map::from_iter(keys), &mut outs);
            } else if let Some(said) = self.again.take().or_else(|| self.inward.pop().map(Box::new))
            {
                let (op, map) = (said.op, said.map.clone());
                self.asked = Some(Asked::Said(said));
                self.program.said(op, map, &mut outs);
            } else {
                return;
            }
            self.answer_due = now + ANSWER_TIMEOUT;
            self.carry(outs).await;
        }
    }

    /// Does what the session wants done.
    async fn carry(&mut self, outs: Vec<Out>) {
        let is_slow = outs.contains(&Out::Slow);
        for out in outs {
            match out {
                Out::ToRouter(frame) => {
                    let Some((speaker, _)) = &mut self.session else { return };
                    if speaker.say_frame(&frame).await.is_err() {
                        return self.router_lost(Some("it takes nothing"));
                    }
                }
                Out::Slow => self.slow_until = Instant::now() + SLOW,
                Out::Answer { text, .. } => match self.asked.take() {
                    Some(Asked::Said(said)) if is_slow => self.again = Some(said),
                    Some(Asked::Said(said)) => {
                        self.reply(said.ack, serde_json::from_str(&text).unwrap_or_default());
                    }
                    Some(Asked::Subscription(pattern)) if is_slow => {
                        self.wishes.push_front(pattern);
                    }
                    Some(Asked::Subscription(_)) => {
                        let told: Json = serde_json::from_str(&text).unwrap_or_default();
                        if is_error(&told) {
                            warn!("{NAME}: the router refuses a subscription: {text}");
                            self.context.counters.refused.add(1);
                        }
                    }
                    None => {}
                },
                Out::News { kind, address, text } => {
                    let patterns = &self.plan.patterns;
                    let told = speech::told(&self.names, patterns, kind, address.as_deref(), &text);
                    told.into_iter().for_each(|told| self.tell(told));
                }
            }
        }
    }

    fn tell(&mut self, told: Told) {
        let Told { event, mut arguments, param, writer } = told;
        if writer.is_some_and(|writer| self.sessions.contains(&writer)) {
            return;
        }
        // One value may be told in two ways, which differ in their arguments.
        let param = param.map(|address| format!("{}{address}", arguments.len()));
        arguments.insert(0, Json::String(event));
        match Packed::new(arguments) {
            Ok(packed) => wait(Telling { packed, param }, &mut self.outward),
            Err(_) => self.context.counters.refused.add(1),
        }
    }

    fn reply_error(&mut self, ack: Option<(u64, u64)>, code: u16, message: String) {
        let refused = Refused { code, message, address: None };
        self.reply(ack, serde_json::from_str(&error_text(None, &refused)).unwrap_or_default());
    }

    /// Acknowledges what was said on this connection; an error for which nobody waits is an event.
    fn reply(&mut self, ack: Option<(u64, u64)>, told: Json) {
        let (list, what) = match ack {
            Some((connection, id)) if connection == self.connection => (vec![told], As::Ack(id)),
            None if is_error(&told) => (vec![json!("error"), told], As::Event(None)),
            _ => return,
        };
        // Some servers ask before they say that we are let in; the answer waits for that.
        if self.carrier.is_none() {
            return;
        }
        match Packed::new(list) {
            Ok(packed) if self.replies.len() < REPLIES_MAX => {
                self.replies.push_back((packed, what));
            }
            Ok(_) => self.context.counters.overflowed.add(1),
            Err(_) => self.context.counters.refused.add(1),
        }
    }

    /// What the server is told next.
    fn next_outward(&mut self) -> Option<Vec<Frame>> {
        loop {
            let (frames, telling) = match self.replies.pop_front() {
                Some((packed, what)) => (packed.frames(&self.space, what), None),
                None => {
                    let telling = self.outward.pop()?;
                    let id = self.plan.acks.then_some(self.last_id);
                    (telling.packed.frames(&self.space, As::Event(id)), Some(telling))
                }
            };
            if frames.iter().any(|frame| frame.body_len() > self.frame_bytes_max) {
                self.context.counters.refused.add(1);
                continue;
            }
            if let Some(telling) = telling.filter(|_| self.plan.acks) {
                let (id, due) = (self.last_id, Instant::now() + ACK_TIMEOUT);
                self.flight.push_back(Flying { id, due, telling });
                self.last_id += 1;
            }
            self.context.counters.packets_out.add(1);
            return Some(frames);
        }
    }

    /// Counts what was given up for want of room.
    fn count_lost(&mut self) {
        let outward = self.outward.take_lost();
        // A server that is away is told all params when it is back.
        self.needs_all |= !self.joined && outward.iter().any(|telling| telling.param.is_some());
        let inward = self.inward.take_lost();
        self.context.counters.overflowed.add((outward.len() + inward.len()) as u64);
        for said in inward {
            let why = "too much waits for the router".to_owned();
            self.reply_error(said.ack, code::RATE_LIMIT, why);
        }
    }

    /// Tells the server what waits, and good-bye.
    async fn say_goodbye(mut self) {
        let carrier = self.carrier.take();
        let farewell = async {
            let Some(carrier) = carrier else { return };
            while self.can_tell()
                && let Ok(room) = carrier.out.reserve().await
            {
                let Some(frames) = self.next_outward() else { break };
                room.send(frames);
            }
            if self.joined {
                let _ = carrier.out.send(vec![packet::leave(&self.space)]).await;
            }
            carrier.finish().await;
        };
        // What has not left by now does not.
        let _ = timeout(FAREWELL, farewell).await;
        if let Some((speaker, _)) = self.session {
            let _ = speaker.leave().await;
        }
    }
}

fn wait(telling: Telling, outward: &mut Waiting<Telling>) {
    let bytes = telling.packed.len();
    match telling.param.clone() {
        Some(param) => drop(outward.param(&param, bytes, telling)),
        None => outward.event(bytes, telling),
    }
}

fn is_error(told: &Json) -> bool {
    told.get("type").and_then(Json::as_str) == Some("error")
}

async fn room_in(out: Option<Sender<Vec<Frame>>>) -> Option<OwnedPermit<Vec<Frame>>> {
    match out {
        Some(out) => out.reserve_owned().await.ok(),
        None => None,
    }
}

async fn next_of(news: Option<&mut Receiver<News>>) -> News {
    match news {
        Some(news) => {
            let lost = || News::Lost("the connection ended".to_owned());
            news.recv().await.unwrap_or_else(lost)
        }
        None => std::future::pending().await,
    }
}

/// The future, if there is one; else it never comes.
async fn some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn hear(session: &mut Option<(Speaker, Hearer)>) -> Option<crate::Heard<'_>> {
    match session {
        Some((_, hearer)) => hearer.next().await,
        None => std::future::pending().await,
    }
}

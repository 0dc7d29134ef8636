//! Sessions that wait for requests: the clients of one token share a few, each used by one at a
//! time.
//!
//! A web request comes without a connection that means anything, but the router's scopes, rate
//! limits and locks belong to sessions. So each token has up to four sessions, which are closed
//! when nobody has used them for a minute. One of them writes and the others read, so that whoever
//! brings the token may write what was locked with it, and go on with a gesture that it began; the
//! one that writes stays while a lock is its own.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clasp_rt_core::error::code;
use clasp_rt_core::message::Message;
use clasp_rt_core::wire::list::Features;
use clasp_rt_core::wire::{binary, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::talk::{Answer, Ask, Heard, Refused, Talk};
use crate::{Hearer, JoinError, Router, Speaker, Who};

/// Requests of one token that read at once; more wait in line.
const READERS_PER_TOKEN: usize = 3;

/// Locked addresses of a token that are remembered; the router allows a session hardly more.
const LOCKED_MAX: usize = 1024;

/// A router that does not answer for so long will not.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A session that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// How long the requests of a token are turned away after the router found them too many: so long
/// it says nothing more about it.
const LIMITED: Duration = Duration::from_secs(1);

/// What web sessions ask for: nothing that they did not ask for, and no echo.
pub const FEATURES: u8 = crate::router::ALL_WITHOUT_ECHO | Features::ASKED_ONLY;

/// One session at the router, with its question.
#[derive(Debug)]
pub struct Seat {
    pub speaker: Speaker,
    pub hearer: Hearer,
    talk: Talk,
    /// Its place among all sessions of the service.
    _place: OwnedSemaphorePermit,
}

/// The sessions of a service, by token.
#[derive(Debug)]
pub struct Seats {
    router: Router,
    name: String,
    places: Arc<Semaphore>,
    guests: Mutex<HashMap<Option<String>, Guest>>,
}

/// The sessions of one token.
#[derive(Debug)]
struct Guest {
    readers: Bench,
    writer: Bench,
    /// What the session that writes has locked.
    locked: HashSet<String>,
    limited_until: Option<Instant>,
}

/// Sessions that wait for the same kind of request.
#[derive(Debug)]
struct Bench {
    idle: Vec<(Instant, Seat)>,
    turns: Arc<Semaphore>,
    seats_max: usize,
}

impl Bench {
    fn new(seats_max: usize) -> Self {
        Self { idle: Vec::new(), turns: Arc::new(Semaphore::new(seats_max)), seats_max }
    }

    fn is_in_use(&self) -> bool {
        !self.idle.is_empty() || self.turns.available_permits() < self.seats_max
    }
}

impl Guest {
    fn new() -> Self {
        Self {
            readers: Bench::new(READERS_PER_TOKEN),
            writer: Bench::new(1),
            locked: HashSet::new(),
            limited_until: None,
        }
    }

    fn bench(&mut self, ask: &Ask) -> &mut Bench {
        if reads(ask) { &mut self.readers } else { &mut self.writer }
    }

    /// What an ask that was obeyed locked or unlocked.
    fn note_locks(&mut self, ask: &Ask) {
        match ask {
            Ask::Set(set) => self.note_lock(&set.address, set.lock, set.unlock),
            Ask::Bundle { frame } => {
                let frame = header::parse(frame).ok();
                let message = frame.and_then(|frame| binary::decode(frame.payload).ok());
                let Some(Message::Bundle(bundle)) = message else { return };
                for message in bundle.messages.iter() {
                    if let Message::Set(set) = message {
                        self.note_lock(set.address, set.lock, set.unlock);
                    }
                }
            }
            _ => {}
        }
    }

    fn note_lock(&mut self, address: &str, lock: bool, unlock: bool) {
        if lock && self.locked.len() < LOCKED_MAX {
            self.locked.insert(address.to_owned());
        } else if unlock && !lock {
            self.locked.remove(address);
        }
    }
}

/// Whether it changes nothing.
fn reads(ask: &Ask) -> bool {
    matches!(ask, Ask::Get { .. } | Ask::Snapshot { .. } | Ask::Sync)
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The router understood and says no.
    Refused(Refused),
    /// Its token asks too often.
    Limited {
        after: Duration,
    },
    /// Every session that the service may have is in use.
    Full,
    /// No router, or none that answers.
    Unavailable(String),
    /// The router did not answer in time.
    TimedOut,
    TooLong,
}

impl Seats {
    /// At most `sessions_max` sessions at once, named `name`.
    pub fn new(router: Router, name: &str, sessions_max: usize) -> Self {
        Self {
            router,
            name: name.to_owned(),
            places: Arc::new(Semaphore::new(sessions_max)),
            guests: Mutex::default(),
        }
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<Option<String>, Guest>> {
        // Whoever panicked left whole entries behind.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the router with the rights of `token`.
    pub async fn ask(&self, token: Option<&str>, ask: &Ask) -> Result<Answer, Failure> {
        let turns = self.turns_of(token, ask)?;
        let turn = timeout(ANSWER_TIMEOUT, turns.acquire_owned()).await;
        let _turn = turn.map_err(|_| Failure::TimedOut)?.map_err(|_| Failure::TimedOut)?;
        let idle = self.take_idle(token, ask);
        let was_idle = idle.is_some();
        let mut seat = match idle {
            Some(seat) => seat,
            None => self.join_anew(token, ask).await?,
        };
        let mut answer = seat.ask(ask).await;
        // A session that waited may have ended meanwhile, and nothing was done on it.
        if was_idle && matches!(answer, Err(Failure::Unavailable(_))) && may_repeat(ask) {
            drop(seat);
            seat = self.join_anew(token, ask).await?;
            answer = seat.ask(ask).await;
        }
        let now = Instant::now();
        let mut guests = self.guests();
        let Some(guest) = guests.get_mut(&token.map(str::to_owned)) else { return answer };
        match &answer {
            Err(Failure::Refused(refused)) if refused.code == code::RATE_LIMIT => {
                guest.limited_until = Some(now + LIMITED);
                guest.bench(ask).idle.push((now, seat));
                return Err(Failure::Limited { after: LIMITED });
            }
            Ok(_) | Err(Failure::Refused(_)) => {
                if answer.is_ok() {
                    guest.note_locks(ask);
                }
                guest.bench(ask).idle.push((now, seat));
            }
            // What it would say later could be taken for another answer.
            Err(_) => {}
        }
        answer
    }

    /// A session for what is asked; what another had locked is free.
    async fn join_anew(&self, token: Option<&str>, ask: &Ask) -> Result<Seat, Failure> {
        if !reads(ask)
            && let Some(guest) = self.guests().get_mut(&token.map(str::to_owned))
        {
            guest.locked.clear();
        }
        self.join(token).await
    }

    /// A session that is not shared, for a subscription.
    pub async fn join(&self, token: Option<&str>) -> Result<Seat, Failure> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.close_oldest_idle();
                Arc::clone(&self.places).try_acquire_owned().map_err(|_| Failure::Full)?
            }
        };
        let token = token.map(str::to_owned);
        let who = Who { features: FEATURES, ..Who::client(&self.name, token) };
        let (speaker, hearer) = self.router.join(&who).await?;
        Ok(Seat { speaker, hearer, talk: Talk::default(), _place: place })
    }

    /// Closes what nobody uses, as often as it is called.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.guests().retain(|_, guest| {
            guest.readers.idle.retain(|(since, _)| now - *since < IDLE);
            if guest.locked.is_empty() {
                guest.writer.idle.retain(|(since, _)| now - *since < IDLE);
            }
            let is_limited = guest.limited_until.is_some_and(|until| until > now);
            guest.readers.is_in_use() || guest.writer.is_in_use() || is_limited
        });
    }

    /// Sweeps for ever.
    pub async fn sweep_for_ever(&self) {
        loop {
            sleep(IDLE / 4).await;
            self.sweep();
        }
    }

    fn turns_of(&self, token: Option<&str>, ask: &Ask) -> Result<Arc<Semaphore>, Failure> {
        let mut guests = self.guests();
        let guest = guests.entry(token.map(str::to_owned)).or_insert_with(Guest::new);
        let now = Instant::now();
        match guest.limited_until {
            Some(until) if until > now => Err(Failure::Limited { after: until - now }),
            _ => Ok(Arc::clone(&guest.bench(ask).turns)),
        }
    }

    fn take_idle(&self, token: Option<&str>, ask: &Ask) -> Option<Seat> {
        let mut guests = self.guests();
        let guest = guests.get_mut(&token.map(str::to_owned))?;
        guest.bench(ask).idle.pop().map(|(_, seat)| seat)
    }

    fn close_oldest_idle(&self) {
        let mut guests = self.guests();
        let benches = guests.values_mut().flat_map(|Guest { readers, writer, locked, .. }| {
            let writer = locked.is_empty().then_some(writer);
            [Some(readers), writer].into_iter().flatten()
        });
        // The first of each list has waited longest of its kind.
        let waiting = benches.filter(|bench| !bench.idle.is_empty());
        let oldest = waiting.min_by_key(|bench| bench.idle.first().map(|(since, _)| *since));
        if let Some(bench) = oldest {
            bench.idle.remove(0);
        }
    }
}

/// Whether asking twice does no more than asking once.
fn may_repeat(ask: &Ask) -> bool {
    match ask {
        Ask::Get { .. } | Ask::Snapshot { .. } | Ask::Sync => true,
        Ask::Set(set) => set.revision.is_none(),
        _ => false,
    }
}

impl Seat {
    /// Asks, and waits for the answer. What else the router says meanwhile is passed over.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        timeout(ANSWER_TIMEOUT, self.converse(ask)).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn converse(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        let mut frames = Vec::new();
        self.talk.ask(ask, &mut frames).map_err(|_| Failure::TooLong)?;
        loop {
            for frame in frames.drain(..) {
                self.speaker.say_frame(&frame).await.map_err(lost)?;
            }
            let Some(heard) = self.hearer.next().await else {
                return Err(Failure::Unavailable(self.hearer.why_ended().to_owned()));
            };
            if let Heard::Answer(answer) = self.talk.hear(&heard.message, &mut frames) {
                for frame in frames.drain(..) {
                    self.speaker.say_frame(&frame).await.map_err(lost)?;
                }
                return answer.map_err(Failure::Refused);
            }
        }
    }
}

fn lost(why: io::Error) -> Failure {
    Failure::Unavailable(why.to_string())
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Refused { code, message } => {
                Self::Refused(Refused { code, message, address: None })
            }
            JoinError::TimedOut => Self::TimedOut,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Limited { after } => write!(f, "too often: again in {} s", after.as_secs() + 1),
            Self::Full => f.write_str("every session of this service is in use"),
            Self::Unavailable(why) => write!(f, "no router: {why}"),
            Self::TimedOut => f.write_str("the router did not answer in time"),
            Self::TooLong => f.write_str("longer than the 65535 bytes that a message can hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::Ttl;
    use serde_json::json;

    use super::*;
    use crate::web::message;
    use crate::web::talk::SetAsk;

    fn set(address: &str, lock: bool, unlock: bool) -> Ask {
        let (revision, ttl) = (None, None::<Ttl>);
        let (address, value) = (address.to_owned(), vec![0]);
        Ask::Set(SetAsk { address, value, revision, lock, unlock, ttl })
    }

    #[test]
    fn what_a_token_has_locked_is_known_and_bounded() {
        let mut guest = Guest::new();
        guest.note_locks(&set("/a", true, false));
        guest.note_locks(&set("/b", false, false));
        let messages = json!([
            { "type": "SET", "address": "/c", "value": 1, "lock": true },
            { "type": "SET", "address": "/a", "value": 1, "unlock": true },
        ]);
        let map = serde_json::Map::from_iter([("messages".to_owned(), messages)]);
        let frame = message::frame("BUNDLE", map).expect("a bundle");
        guest.note_locks(&Ask::Bundle { frame });
        assert_eq!(guest.locked, HashSet::from(["/c".to_owned()]));
        for number in 0..2 * LOCKED_MAX {
            guest.note_locks(&set(&format!("/{number}"), true, false));
        }
        assert_eq!(guest.locked.len(), LOCKED_MAX);
    }
}

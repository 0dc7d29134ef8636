//! A web page's subscription: a session of its own whose news are kept for the page, also while
//! its connection is broken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clasp_rt_core::message::{Message, Subscribe, SubscribeOptions, Sync};
use clasp_rt_core::signal::{Qos, Signal, SignalMask};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::address::Namespace;
use super::deleted::Deleted;
use super::ring::{Entry, Lost, Ring};

use crate::web::seats::{ANSWER_TIMEOUT, Failure, Seat, Seats};
use crate::web::talk::Refused;
use crate::web::told;

/// How long a subscription waits for its page to come back.
const LINGER: Duration = Duration::from_secs(30);

/// Patterns of one subscription.
pub const PATTERNS_MAX: usize = 16;

/// Bytes that a reader is given at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// What a page wants to hear, and with whose rights.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub token: Option<String>,
    /// Inside the namespace.
    pub patterns: Vec<String>,
    pub types: SignalMask,
    pub options: SubscribeOptions,
}

/// One subscription and its history.
#[derive(Debug)]
struct Channel {
    /// Names it in the ids that the page is given; not to be guessed.
    id: u64,
    wish: Wish,
    state: Mutex<State>,
    /// There is something new to read, or nothing more will come.
    news: Notify,
    /// The page has read on.
    read: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Snapshots that are not complete.
    snapshots: usize,
    has_ended: bool,
    /// Counts the connections; only the newest one reads.
    reader: u64,
    is_read: bool,
    left: Instant,
    /// What the page was given already.
    cursor: u64,
}

/// All subscriptions of a service.
#[derive(Debug)]
pub struct Channels {
    all: Mutex<All>,
    namespace: Namespace,
    deleted: Arc<Deleted>,
    channels_max: usize,
}

#[derive(Debug, Default)]
struct All {
    open: HashMap<u64, Arc<Channel>>,
    /// Places of those that the router has not answered.
    opening: usize,
}

/// A place that was taken before the router was asked, and is given back.
struct Opening<'a>(&'a Channels);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.all().opening -= 1;
    }
}

/// One connection that reads a channel.
#[derive(Debug)]
pub struct Reader {
    channel: Arc<Channel>,
    number: u64,
    /// The id up to which it has read.
    pub cursor: u64,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Entries(Vec<(u64, Entry)>),
    /// Nothing came in the time given.
    Nothing,
    /// No more will come, or something is lost: the page must subscribe anew.
    Over,
}

impl Channels {
    pub fn new(namespace: Namespace, deleted: Arc<Deleted>, channels_max: usize) -> Self {
        Self { all: Mutex::default(), namespace, deleted, channels_max }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on behind `last`, if that subscription is still there and was for the same.
    pub fn resume(&self, wish: &Wish, last: &str) -> Option<Reader> {
        let (id, cursor) = parse_id(last)?;
        let channel = Arc::clone(self.all().open.get(&id)?);
        if channel.wish != *wish {
            return None;
        }
        {
            let state = channel.state();
            if state.has_ended || state.ring.after(cursor).is_err() {
                return None;
            }
        }
        Some(channel.attach(cursor))
    }

    /// Subscribes anew: the answer is a reader whose first entries are the snapshot.
    pub async fn open(self: &Arc<Self>, seats: &Seats, wish: Wish) -> Result<Reader, Failure> {
        let opening = self.take_place()?;
        let seat = seats.join(wish.token.as_deref()).await?;
        let channel = Arc::new(Channel {
            id: clasp_rt_client::random(),
            state: Mutex::new(State {
                ring: Ring::default(),
                snapshots: wish.patterns.len(),
                has_ended: false,
                reader: 0,
                is_read: false,
                left: Instant::now(),
                cursor: 0,
            }),
            wish,
            news: Notify::new(),
            read: Notify::new(),
        });
        let subscribing = subscribe(&channel, seat, self);
        let seat = timeout(ANSWER_TIMEOUT, subscribing).await.unwrap_or(Err(Failure::TimedOut))?;
        let reader = channel.attach(0);
        self.all().open.insert(channel.id, Arc::clone(&channel));
        drop(opening);
        let all = Arc::clone(self);
        tokio::spawn(async move {
            feed(&channel, seat, &all).await;
            channel.end();
            all.all().open.remove(&channel.id);
        });
        Ok(reader)
    }

    /// Takes a place. If all are taken, the subscription ends that has waited longest for its page.
    fn take_place(&self) -> Result<Opening<'_>, Failure> {
        let mut all = self.all();
        if all.open.len() + all.opening >= self.channels_max {
            let waiting = all.open.iter().filter_map(|(id, channel)| {
                let state = channel.state();
                (!state.is_read).then_some((state.left, *id))
            });
            let (_, id) = waiting.min().ok_or(Failure::Full)?;
            if let Some(channel) = all.open.remove(&id) {
                channel.end();
            }
        }
        all.opening += 1;
        Ok(Opening(self))
    }
}

/// Says what is wanted, and waits until the router has taken or refused it.
async fn subscribe(channel: &Channel, mut seat: Seat, all: &Channels) -> Result<Seat, Failure> {
    let lost = |why: std::io::Error| Failure::Unavailable(why.to_string());
    let Wish { patterns, types, options, .. } = &channel.wish;
    for (pattern, id) in patterns.iter().zip(1..) {
        let wish = Subscribe { id, pattern, types: *types, options: *options };
        seat.speaker.say(&Message::Subscribe(wish), Qos::Confirm).await.map_err(lost)?;
    }
    // A refusal comes at once, a snapshot when there is room for it; this tells them apart.
    let fence = Message::Sync(Sync { t1: channel.id, t2: None, t3: None });
    seat.speaker.say(&fence, Qos::Fire).await.map_err(lost)?;
    loop {
        let Some(heard) = seat.hearer.next().await else {
            return Err(Failure::Unavailable(seat.hearer.why_ended().to_owned()));
        };
        match heard.message {
            Message::Sync(sync) if sync.t1 == channel.id => return Ok(seat),
            Message::Error(error) => return Err(Failure::Refused(Refused::of(&error))),
            other => channel.take(&other, all),
        }
    }
}

/// Keeps what the session hears until it ends, or the page has been away for too long.
async fn feed(channel: &Channel, mut seat: Seat, all: &Channels) {
    loop {
        let (hears, until) = match channel.next_step(Instant::now()) {
            Step::Ended => return,
            Step::Hear { until } => (true, until),
            Step::Wait { until } => (false, until),
        };
        tokio::select! {
            heard = seat.hearer.next(), if hears => match heard {
                Some(heard) => channel.take(&heard.message, all),
                None => return,
            },
            () = channel.read.notified() => {}
            () = sleep_until(until) => {}
        }
    }
}

/// What the feeding task does next.
enum Step {
    Hear {
        until: Instant,
    },
    /// The page is behind, and what it has not read would be lost: the router holds back.
    Wait {
        until: Instant,
    },
    Ended,
}

impl Channel {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(self: &Arc<Self>, cursor: u64) -> Reader {
        let mut state = self.state();
        state.reader += 1;
        state.is_read = true;
        state.cursor = cursor;
        let number = state.reader;
        drop(state);
        // An older connection of the same page sees that it is none any more.
        self.news.notify_waiters();
        self.read.notify_one();
        Reader { channel: Arc::clone(self), number, cursor }
    }

    fn end(&self) {
        self.state().has_ended = true;
        self.news.notify_waiters();
        self.read.notify_one();
    }

    fn next_step(&self, now: Instant) -> Step {
        let state = self.state();
        // It is looked at again when the page may have been away for long enough.
        let until = if state.is_read { now + LINGER } else { state.left + LINGER };
        if state.has_ended || until <= now {
            return Step::Ended;
        }
        let is_behind = state.ring.first_id().is_some_and(|first| first > state.cursor);
        match state.is_read && state.ring.is_full() && is_behind {
            true => Step::Wait { until },
            false => Step::Hear { until },
        }
    }

    /// Keeps what a message tells.
    fn take(&self, message: &Message<'_>, all: &Channels) {
        let namespace = &all.namespace;
        let mut state = self.state();
        match message {
            Message::Set(set) => {
                if let Some(address) = namespace.strip(set.address) {
                    state.ring.push("set", Some(set.address), told::set(address, set));
                }
            }
            Message::Snapshot { params } => {
                for param in params.iter() {
                    if all.deleted.is_deleted(param.address, param.revision) {
                        continue;
                    }
                    if let Some(address) = namespace.strip(param.address) {
                        let data = told::param(address, &param);
                        state.ring.push("set", Some(param.address), data);
                    }
                }
            }
            Message::Publish(publish) => {
                if let Some(address) = namespace.strip(publish.address) {
                    let signal = publish.signal.unwrap_or(Signal::Event);
                    state.ring.push(signal.name(), None, told::publish(address, publish));
                }
            }
            // The end of the snapshot of one pattern.
            Message::Ack(ack) if ack.revision.is_none() && state.snapshots > 0 => {
                state.snapshots -= 1;
                if state.snapshots == 0 {
                    state.ring.push("ready", None, "{}".into());
                }
            }
            _ => return,
        }
        drop(state);
        self.news.notify_waiters();
    }
}

impl Reader {
    /// The id under which a page goes on behind what it has read.
    pub fn id(&self, cursor: u64) -> String {
        format!("{:016x}-{cursor}", self.channel.id)
    }

    /// What comes behind the cursor, which then stands behind that; waits for it until `until`.
    pub async fn next(&mut self, until: Instant) -> Read {
        let channel = Arc::clone(&self.channel);
        loop {
            let mut news = std::pin::pin!(channel.news.notified());
            // From here on nothing is missed.
            news.as_mut().enable();
            match self.look() {
                Ok(entries) if !entries.is_empty() => return Read::Entries(entries),
                Ok(_) => {}
                Err(Lost) => return Read::Over,
            }
            tokio::select! {
                () = news => {}
                () = sleep_until(until) => return Read::Nothing,
            }
        }
    }

    fn look(&mut self) -> Result<Vec<(u64, Entry)>, Lost> {
        let mut state = self.channel.state();
        if state.reader != self.number {
            return Err(Lost);
        }
        let mut bytes = 0;
        let fits = |entry: &Entry| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += entry.data.len();
            fits
        };
        let mut fits = fits;
        let entries = state.ring.after(self.cursor)?.take_while(|(_, entry)| fits(entry));
        let entries: Vec<_> = entries.map(|(id, entry)| (id, entry.clone())).collect();
        match entries.last() {
            Some((last, _)) => {
                self.cursor = *last;
                state.cursor = *last;
                drop(state);
                self.channel.read.notify_one();
            }
            None if state.has_ended => return Err(Lost),
            None => {}
        }
        Ok(entries)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.channel.state();
        if state.reader == self.number {
            state.is_read = false;
            state.left = Instant::now();
            drop(state);
            self.channel.read.notify_one();
        }
    }
}

/// Reads an id that [`Reader::id`] made.
fn parse_id(text: &str) -> Option<(u64, u64)> {
    let (channel, cursor) = text.split_once('-')?;
    Some((u64::from_str_radix(channel, 16).ok()?, cursor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_before_the_router_is_asked_and_given_back() {
        let channels = Channels::new(Namespace::default(), Arc::default(), 2);
        let first = channels.take_place().expect("the first of two");
        let second = channels.take_place().expect("the second");
        assert!(matches!(channels.take_place(), Err(Failure::Full)));
        drop(first);
        let third = channels.take_place().expect("the place of the first");
        assert!(matches!(channels.take_place(), Err(Failure::Full)));
        drop((second, third));
        assert_eq!(channels.all().opening, 0);
    }

    #[test]
    fn an_id_is_read_back_and_a_foreign_one_is_none() {
        assert_eq!(parse_id("00000000000000ff-12"), Some((255, 12)));
        for foreign in ["", "12", "x-1", "1-", "1-x", "11111111111111111-1"] {
            assert_eq!(parse_id(foreign), None, "{foreign}");
        }
    }
}

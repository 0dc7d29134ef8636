//! Polls and webhooks at work: a task for each, and one session at the router for all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clasp_rt_bridges::{ConfigError, check_range};
use clasp_rt_core::message::{Message, Publish, Set, Subscribe, SubscribeOptions};
use clasp_rt_core::signal::{Qos, Signal};
use clasp_rt_core::value::Value;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::rustls::ClientConfig;
use tracing::{info, warn};

use super::client::Client;
use super::poll::{News, Poll, Telling};
use super::webhook::{Change, Webhook};
use super::{HttpOptions, NAME};
use crate::mqtt::waiting::Waiting;
use crate::web::seats::FEATURES;
use crate::web::{told, value};
use crate::{Context, Hearer, Speaker, Who, tls};

/// Polls, and webhooks, that one bridge may have.
const LIST_MAX: usize = 256;

/// How long servers have to hear what is not said when the host stops.
const FAREWELL: Duration = Duration::from_millis(300);

/// How often the log is told of changes that were given up.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// What a bridge asks and tells elsewhere.
pub struct Outward {
    polls: Vec<Poll>,
    webhooks: Vec<Webhook>,
    trust: Arc<ClientConfig>,
    patience: Duration,
    body_bytes_max: usize,
    token: Option<String>,
}

impl Outward {
    /// `None`: nothing was written.
    pub fn open(options: &HttpOptions) -> Result<Option<Self>, ConfigError> {
        let HttpOptions { poll, webhook, ca, timeout_s, .. } = options;
        for (key, count) in [("poll", poll.len()), ("webhook", webhook.len())] {
            if count > LIST_MAX {
                return Err(ConfigError::new(key, format!("{count}, of at most {LIST_MAX}")));
            }
        }
        check_range("timeout_s", *timeout_s, 0.1..=300.0)?;
        let polls = poll.iter().enumerate().map(|(at, poll)| poll.open(&format!("poll[{at}]")));
        let polls = polls.collect::<Result<Vec<_>, _>>()?;
        let webhooks = webhook.iter().enumerate();
        let webhooks = webhooks.map(|(at, hook)| hook.open(&format!("webhook[{at}]")));
        let webhooks = webhooks.collect::<Result<Vec<_>, _>>()?;
        let mut urls = poll.iter().map(|p| &p.url).chain(webhook.iter().map(|hook| &hook.url));
        let is_secure = urls.any(|url| url.starts_with("https:"));
        let trust = match ca {
            None if !is_secure => tls::client_of_nobody()?,
            ca => tls::client(ca.as_deref(), None)?,
        };
        let is_empty = polls.is_empty() && webhooks.is_empty();
        Ok((!is_empty).then(|| Self {
            polls,
            webhooks,
            trust,
            patience: Duration::from_secs_f64(*timeout_s),
            body_bytes_max: options.body_bytes_max,
            token: options.token.clone(),
        }))
    }

    /// Asks and tells until the host stops.
    pub async fn run(self, context: Context) -> io::Result<()> {
        let client = Client::new(&self.trust, self.patience, self.body_bytes_max);
        let shared = Rc::new(Shared {
            client,
            context: context.clone(),
            inward: RefCell::default(),
            held: RefCell::default(),
            news: Notify::new(),
        });
        let mut asking = JoinSet::new();
        for (at, poll) in self.polls.into_iter().enumerate() {
            let name = format!("poll[{at}], GET {}", place(&poll.uri().to_string()));
            asking.spawn_local(ask_for_ever(poll, name, Rc::clone(&shared)));
        }
        let mut telling = JoinSet::new();
        let mut hooks = Vec::new();
        for (at, webhook) in self.webhooks.into_iter().enumerate() {
            let name = format!("webhook[{at}], {} {}", webhook.method(), place(webhook.head()));
            let lost = RefCell::default();
            let webhook = RefCell::new(webhook);
            let hook = Rc::new(Hook { name, webhook, lost, news: Notify::new() });
            telling.spawn_local(tell_for_ever(Rc::clone(&hook), Rc::clone(&shared)));
            hooks.push(hook);
        }
        let who = Who { features: FEATURES, ..Who::service(NAME, self.token) };
        let mut is_first = true;
        while let Some(session) = context.router.join_for_sure(&who, &context.stop).await {
            match converse(session, &hooks, &shared, &mut is_first).await {
                Ok(()) => break,
                Err(why) => warn!("{NAME} lost the router: {why}"),
            }
            // A router that is new knows nothing of what was found.
            shared.tell_again();
        }
        drop(asking);
        let said = async { while telling.join_next().await.is_some() {} };
        let _ = timeout(FAREWELL, said).await;
        Ok(())
    }
}

/// What the tasks of all polls and webhooks share.
struct Shared {
    client: Client,
    context: Context,
    /// For the router.
    inward: RefCell<Waiting<Telling>>,
    /// The params that polls told last. There are no more than addresses in their options.
    held: RefCell<BTreeMap<String, Telling>>,
    /// Something waits for the router.
    news: Notify,
}

struct Hook {
    /// For people: which it is, and where it leads.
    name: String,
    webhook: RefCell<Webhook>,
    lost: RefCell<Lost>,
    /// It has something to say.
    news: Notify,
}

/// Changes that a webhook has given up, as far as nobody was told.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    told: Option<Instant>,
}

impl Lost {
    /// Gives how many to tell of, once in [`COMPLAINT_PAUSE`] at most.
    fn note(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.count += count;
        let may_tell = self.told.is_none_or(|told| now - told >= COMPLAINT_PAUSE);
        if self.count == 0 || !may_tell {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Shared {
    fn tell(&self, telling: Telling) {
        if telling.is_param {
            self.held.borrow_mut().insert(telling.address.clone(), telling.clone());
        }
        self.wait(telling);
        self.news.notify_one();
    }

    fn tell_again(&self) {
        for telling in self.held.borrow().values() {
            self.wait(telling.clone());
        }
    }

    fn wait(&self, telling: Telling) {
        let bytes = telling.address.len() + telling.value.len();
        let mut inward = self.inward.borrow_mut();
        match telling.is_param {
            true => drop(inward.param(&telling.address.clone(), bytes, telling)),
            false => inward.event(bytes, telling),
        }
        self.context.counters.dropped.add(inward.take_lost().len() as u64);
    }

    fn next(&self) -> Option<Telling> {
        self.inward.borrow_mut().pop()
    }
}

/// Asks for a page again and again.
async fn ask_for_ever(mut poll: Poll, name: String, shared: Rc<Shared>) {
    let counters = &shared.context.counters;
    let mut tellings = Vec::new();
    loop {
        let asked = Instant::now();
        counters.packets_out.add(1);
        let answer = shared.client.ask(poll.question()).await;
        counters.packets_in.add(u64::from(answer.is_ok()));
        let outcome = poll.answered(&answer, &mut tellings);
        counters.malformed.add(outcome.malformed);
        log(&name, outcome.news);
        tellings.drain(..).for_each(|telling| shared.tell(telling));
        sleep_until(asked + outcome.wait).await;
    }
}

/// Tells a server what its webhook has to say, one after the other, until the host stops and
/// nothing more waits.
async fn tell_for_ever(hook: Rc<Hook>, shared: Rc<Shared>) {
    let Context { counters, stop, .. } = &shared.context;
    loop {
        let question = hook.webhook.borrow_mut().question();
        let Some(asked) = question else {
            if stop.is_asked() {
                return;
            }
            tokio::select! {
                () = hook.news.notified() => {}
                () = stop.wait() => {}
            }
            continue;
        };
        counters.packets_out.add(1);
        let answer = shared.client.ask(asked).await;
        counters.packets_in.add(u64::from(answer.is_ok()));
        let outcome = hook.webhook.borrow_mut().answered(&answer);
        counters.dropped.add(u64::from(outcome.dropped));
        log(&hook.name, outcome.news);
        sleep(outcome.wait).await;
    }
}

/// Scheme and host of a URL. What is behind them is often a secret.
fn place(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map(|at| start + at);
    url.get(..end.unwrap_or(url.len())).unwrap_or(url)
}

fn log(name: &str, news: Option<News>) {
    match news {
        Some(News::Well) => info!("{NAME}: {name} is well again"),
        Some(News::Trouble(why)) => warn!("{NAME}: {name}: {why}"),
        None => {}
    }
}

/// Says what polls found, and hears what webhooks are about. Fails when the session ends.
async fn converse(
    (mut speaker, mut hearer): (Speaker, Hearer),
    hooks: &[Rc<Hook>],
    shared: &Shared,
    is_first: &mut bool,
) -> io::Result<()> {
    let mut unsettled = Vec::new();
    for (id, hook) in (1..).zip(hooks) {
        let (pattern, types) = {
            let webhook = hook.webhook.borrow();
            let (pattern, types) = webhook.subscription();
            (pattern.to_owned(), types)
        };
        let options = SubscribeOptions::default();
        let subscribe = Subscribe { id, pattern: &pattern, types, options };
        speaker.say(&Message::Subscribe(subscribe), Qos::Confirm).await?;
        unsettled.push(pattern);
    }
    let counters = &shared.context.counters;
    loop {
        while let Some(telling) = shared.next() {
            match say(&mut speaker, &telling).await {
                Ok(()) => {}
                // Longer than a message may be.
                Err(why) if why.kind() == io::ErrorKind::InvalidInput => counters.refused.add(1),
                Err(why) => {
                    shared.wait(telling);
                    return Err(why);
                }
            }
        }
        tokio::select! {
            () = shared.context.stop.wait() => return Ok(()),
            () = shared.news.notified() => {}
            heard = hearer.next() => {
                let Some(heard) = heard else {
                    return Err(io::Error::other(hearer.why_ended().to_owned()));
                };
                let about = match heard.message {
                    Message::Ack(ack) => ack.address,
                    Message::Error(error) => {
                        warn!("{NAME}: the router refuses something: {}", error.message);
                        counters.refused.add(1);
                        error.address
                    }
                    message => {
                        hear(message, hooks, shared, *is_first);
                        None
                    }
                };
                // Behind the snapshots that were asked for.
                let asked = unsettled.iter().position(|pattern| Some(pattern.as_str()) == about);
                if let Some(at) = asked {
                    unsettled.swap_remove(at);
                    *is_first &= !unsettled.is_empty();
                }
            }
        }
    }
}

async fn say(speaker: &mut Speaker, telling: &Telling) -> io::Result<()> {
    let Telling { address, value, is_param } = telling;
    let value = Value::from_encoded(value).unwrap_or(Value::NULL);
    if *is_param {
        let (revision, ttl, lock, unlock) = (None, None, false, false);
        let set = Set { address, value, revision, lock, unlock, ttl };
        return speaker.say(&Message::Set(set), Qos::Confirm).await;
    }
    let (signal, value) = (Some(Signal::Event), Some(value));
    let publish = Publish { address, signal, value, ..Publish::default() };
    speaker.say(&Message::Publish(publish), Qos::Confirm).await
}

/// Hands what the router says to the webhooks.
fn hear(message: Message<'_>, hooks: &[Rc<Hook>], shared: &Shared, is_first: bool) {
    match message {
        Message::Set(set) => {
            let Set { address, value, .. } = set;
            let (value, text) = (&json_of(value), &told::set(address, &set));
            let change = Change { address, signal: Signal::Param, value, text };
            tell(change, None, hooks, shared);
        }
        Message::Publish(publish) => {
            let Publish { address, .. } = publish;
            let signal = publish.signal.unwrap_or(Signal::Event);
            let value = publish.value.or(publish.payload).or(publish.timeline);
            let sample = || publish.samples.and_then(|samples| samples.iter().last());
            let value = value.map(json_of).or_else(|| Some(json!(sample()?)));
            let (value, text) = (&value.unwrap_or_default(), &told::publish(address, &publish));
            tell(Change { address, signal, value, text }, None, hooks, shared);
        }
        Message::Snapshot { params } => {
            for param in params.iter() {
                let (address, signal) = (param.address, Signal::Param);
                let (value, text) = (&json_of(param.value), &told::param(address, &param));
                let change = Change { address, signal, value, text };
                tell(change, Some(is_first), hooks, shared);
            }
        }
        Message::Bundle(bundle) => {
            bundle.messages.iter().for_each(|message| hear(message, hooks, shared, is_first));
        }
        _ => {}
    }
}

fn json_of(value: Value<'_>) -> Json {
    serde_json::from_str(&value::text(value)).unwrap_or_default()
}

/// Hands one change to every webhook that wants it; `held`: the router held it, and whether it was
/// asked for the first time.
fn tell(change: Change<'_>, held: Option<bool>, hooks: &[Rc<Hook>], shared: &Shared) {
    for hook in hooks {
        let mut webhook = hook.webhook.borrow_mut();
        let makes_sense = match held {
            Some(is_first) => webhook.held(change, is_first),
            None => webhook.heard(change),
        };
        let lost = webhook.take_lost();
        let dropped = lost + u64::from(!makes_sense);
        shared.context.counters.dropped.add(dropped);
        if let Some(count) = hook.lost.borrow_mut().note(dropped, Instant::now()) {
            let why = match makes_sense {
                true => "the server takes them more slowly than they come",
                false => "its URL cannot hold them",
            };
            warn!("{NAME}: {}: {count} changes dropped: {why}", hook.name);
        }
        hook.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_told_at_once_and_then_now_and_then() {
        let (mut lost, now) = (Lost::default(), Instant::now());
        assert_eq!(lost.note(0, now), None);
        assert_eq!(lost.note(1, now), Some(1));
        assert_eq!(lost.note(16_404, now + COMPLAINT_PAUSE / 2), None);
        assert_eq!(lost.note(2, now + COMPLAINT_PAUSE), Some(16_406));
        assert_eq!(lost.note(0, now + COMPLAINT_PAUSE * 3), None);
    }

    #[test]
    fn a_log_names_the_host_and_nothing_secret() {
        assert_eq!(place("https://h.example:8443/secret/x?y"), "https://h.example:8443");
        assert_eq!(place("http://h"), "http://h");
    }
}

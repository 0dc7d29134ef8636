//! What a program calls.

use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clasp_rt_core::address;
use clasp_rt_core::message::{Bundle, Message, Publish, Set, Subscribe, SubscribeOptions, Ttl};
use clasp_rt_core::pattern;
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::{Messages, Samples};

use crate::dial::Welcomed;
use crate::error::{ConnectError, RequestError, SendError, Trouble};
use crate::options::{Builder, Callback, Options};
use crate::reader::{self, Reader};
use crate::shared::{Shared, encode_value, lock};
use crate::state::{self, Answer, Known, Question};
use crate::update::Update;
use crate::url::Url;
use crate::val::Val;

/// A session with a router. Clones are the same session; it ends with [`Client::close`] or with the
/// last clone.
///
/// Callbacks run on the client's own thread, one at a time, in the order of the router. They may
/// call the client, but must not wait there for an answer, which only that thread can bring.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Names a subscription until it is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionId(u32);

/// How a param is written, beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// Nobody else may write it from now on.
    pub lock: bool,
    /// Ends our lock.
    pub unlock: bool,
    /// How long it lives without being written; `None` leaves that to the router.
    pub ttl: Option<Ttl>,
    /// Refused with code 400 unless the param has just this revision.
    pub revision: Option<u64>,
}

/// One part of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    Set { address: &'a str, value: Val, options: SetOptions },
    Emit { address: &'a str, value: Val },
}

/// How long a router may take to say good-bye before it is hung up on, and what the kernel still
/// holds of our words is lost: on a busy machine a second was not enough to read a megabyte.
const FAREWELL: Duration = Duration::from_secs(3);

impl Client {
    /// `ws://host:port/path` or `tcp://host:port`; the port is 7330 or 7340 where none is given.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn connect(
        url: Url,
        options: Options,
        on_trouble: Option<Callback>,
    ) -> Result<Self, ConnectError> {
        let begun = reader::begin(&url, &options)?;
        let shared = Arc::new(Shared::new(url, options));
        let reader = Reader::new(Arc::clone(&shared), begun, on_trouble)?;
        let thread = thread::Builder::new()
            .name("clasp-client".to_owned())
            .spawn(move || reader.run())
            .map_err(ConnectError::Lost)?;
        Ok(Self { handle: Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) }) })
    }

    /// Writes a param. Returns when the message is on its way; a refusal comes later, as
    /// [`Self::last_error`] and `on_error` tell.
    pub fn set(&self, address: &str, value: impl Into<Val>) -> Result<(), SendError> {
        self.set_with(address, value, SetOptions::default())
    }

    pub fn set_with(
        &self,
        address: &str,
        value: impl Into<Val>,
        options: SetOptions,
    ) -> Result<(), SendError> {
        let set = set(address, options)?;
        self.shared().send(|link| link.send_set(set, &value.into(), Qos::Fire))
    }

    /// Writes a param and waits until the router took it. Gives the revision that it has now.
    pub fn set_confirmed(
        &self,
        address: &str,
        value: impl Into<Val>,
        options: SetOptions,
        timeout: Duration,
    ) -> Result<u64, RequestError> {
        let set = set(address, options)?;
        let question = Question::Set { address: address.to_owned() };
        let answer = self.shared().request(question, Instant::now() + timeout, |link| {
            link.send_set(set, &value.into(), Qos::Confirm)
        })?;
        match answer {
            Answer::Taken(revision) => Ok(revision.unwrap_or_default()),
            other => unreachable!("a write was answered with {other:?}"),
        }
    }

    /// What a param holds: known from a subscription that follows it, or else asked for.
    pub fn get(&self, address: &str, timeout: Duration) -> Result<Val, RequestError> {
        address::check(address).map_err(SendError::Address)?;
        if let Some(current) = self.shared().state().current(address) {
            return Ok(current);
        }
        let question = Question::Get { address: address.to_owned() };
        let answer = self.shared().request(question, Instant::now() + timeout, |link| {
            link.send(&Message::Get { address }, Qos::Fire)
        })?;
        match answer {
            Answer::Value(value) => Ok(value),
            other => unreachable!("a GET was answered with {other:?}"),
        }
    }

    /// The value and revision of a param that were last heard of, however long ago.
    pub fn cached(&self, address: &str) -> Option<(Val, u64)> {
        self.shared().state().held(address)
    }

    /// Something that happened: told to whoever listens now, and not kept.
    pub fn emit(&self, address: &str, value: impl Into<Val>) -> Result<(), SendError> {
        self.send_publish(
            Publish { address, signal: Some(Signal::Event), ..Publish::default() },
            value,
        )
    }

    /// One sample of many, of which the newest counts.
    pub fn stream(&self, address: &str, value: impl Into<Val>) -> Result<(), SendError> {
        let signal = Some(Signal::Stream);
        self.send_publish(Publish { address, signal, ..Publish::default() }, value)
    }

    /// Several samples at once, taken `rate` times a second.
    pub fn stream_samples(
        &self,
        address: &str,
        samples: &[f64],
        rate: Option<u32>,
    ) -> Result<(), SendError> {
        let mut bytes = Vec::new();
        samples.iter().try_for_each(|sample| Samples::append(&mut bytes, *sample))?;
        let samples = Samples::from_bytes(&bytes).map_err(|_| SendError::TooLong)?;
        self.publish(&Publish {
            address,
            signal: Some(Signal::Stream),
            samples: Some(samples),
            rate,
            ..Publish::default()
        })
    }

    /// A touch: `id` tells fingers apart, `value` is usually a map of coordinates.
    pub fn gesture(
        &self,
        address: &str,
        id: u32,
        phase: Phase,
        value: impl Into<Val>,
    ) -> Result<(), SendError> {
        let publish = Publish {
            address,
            signal: Some(Signal::Gesture),
            id: Some(id),
            phase: Some(phase),
            ..Publish::default()
        };
        self.send_publish(publish, value)
    }

    /// Any PUBLISH, as it is.
    pub fn publish(&self, publish: &Publish<'_>) -> Result<(), SendError> {
        address::check(publish.address).map_err(SendError::Address)?;
        self.shared().send(|link| link.send(&Message::Publish(*publish), Qos::Fire))
    }

    /// Several writes and events that take effect together, at `at_us` by the router's clock
    /// (microseconds since the Unix epoch) or at once. One refused part refuses all.
    pub fn bundle(&self, items: &[Item<'_>], at_us: Option<u64>) -> Result<(), SendError> {
        let bytes = bundled(items)?;
        let bundle = bundle(&bytes, items.len(), at_us)?;
        self.shared().send(|link| link.send(&bundle, Qos::Fire))
    }

    /// As [`Self::bundle`], and waits until the router took it.
    pub fn bundle_confirmed(
        &self,
        items: &[Item<'_>],
        at_us: Option<u64>,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        let bytes = bundled(items)?;
        let bundle = bundle(&bytes, items.len(), at_us)?;
        let deadline = Instant::now() + timeout;
        self.shared()
            .request(Question::Bundle, deadline, |link| link.send(&bundle, Qos::Commit))
            .map(drop)
    }

    /// Calls `told` for everything that `pattern` means, beginning with what params hold already.
    ///
    /// A param can be shown again with a revision that was seen before: after coming back, and when
    /// another subscription or a `get` asks for it.
    pub fn subscribe(
        &self,
        pattern: &str,
        options: SubscribeOptions,
        told: impl FnMut(&Update<'_>) + Send + 'static,
    ) -> Result<SubscriptionId, SendError> {
        self.subscribe_to(pattern, SignalMask::ALL, options, told)
    }

    /// As [`Self::subscribe`], for some kinds of signals only.
    pub fn subscribe_to(
        &self,
        pattern: &str,
        types: SignalMask,
        options: SubscribeOptions,
        told: impl FnMut(&Update<'_>) + Send + 'static,
    ) -> Result<SubscriptionId, SendError> {
        pattern::check(pattern).map_err(SendError::Pattern)?;
        let told = Arc::new(Mutex::new(told));
        let mut link = self.shared().link();
        let mut state = self.shared().state();
        if matches!(state.phase, state::Phase::Closing | state::Phase::Closed) {
            return Err(SendError::Closed);
        }
        let id = state.subscribe(pattern, types, options, told);
        drop(state);
        // Without a connection it is asked for when there is one again; so it is if this fails.
        if let Some(link) = link.as_mut() {
            let subscribe = Message::Subscribe(Subscribe { id, pattern, types, options });
            let _ = link.send(&subscribe, Qos::Confirm);
        }
        Ok(SubscriptionId(id))
    }

    /// Ends a subscription; a call that is under way ends by itself.
    pub fn unsubscribe(&self, SubscriptionId(id): SubscriptionId) -> Result<(), SendError> {
        let told = self.shared().state().unsubscribe(id);
        match told {
            Some(_) => match self
                .shared()
                .send(|link| link.send(&Message::Unsubscribe { id }, Qos::Confirm))
            {
                // A session to come will not know of it.
                Err(SendError::NotConnected | SendError::Lost(_)) => Ok(()),
                sent => sent,
            },
            None => Ok(()),
        }
    }

    /// The announced signals that `pattern` means.
    pub fn query(&self, pattern: &str, timeout: Duration) -> Result<Vec<Known>, RequestError> {
        pattern::check(pattern).map_err(SendError::Pattern)?;
        let question = Question::Query { pattern: pattern.to_owned() };
        let answer = self.shared().request(question, Instant::now() + timeout, |link| {
            link.send(&Message::Query { pattern }, Qos::Fire)
        })?;
        match answer {
            Answer::Signals(known) => Ok(known),
            other => unreachable!("a QUERY was answered with {other:?}"),
        }
    }

    /// How long a message to the router and back takes, both programs included.
    pub fn ping(&self, timeout: Duration) -> Result<Duration, RequestError> {
        let begun = Instant::now();
        self.shared()
            .request(Question::Ping, begun + timeout, |link| link.send(&Message::Ping, Qos::Fire))
            .map(|_| begun.elapsed())
    }

    /// Any message, as it is. An answer to it is nobody's.
    pub fn send(&self, message: &Message<'_>, qos: Qos) -> Result<(), SendError> {
        self.shared().send(|link| link.send(message, qos))
    }

    /// The id that the router gave to this session; another after coming back.
    pub fn session(&self) -> String {
        self.welcomed(|welcomed| welcomed.session.clone())
    }

    /// What the router calls itself.
    pub fn router(&self) -> String {
        self.welcomed(|welcomed| welcomed.router.clone())
    }

    /// What the router's clock shows, in microseconds since the Unix epoch; late by as long as
    /// WELCOME took to arrive. Bundles are timed by it.
    pub fn router_time_us(&self) -> u64 {
        self.welcomed(|welcomed| welcomed.time_us + welcomed.at.elapsed().as_micros() as u64)
    }

    /// Whether there is a connection at the moment.
    pub fn is_connected(&self) -> bool {
        self.shared().state().phase == state::Phase::Up
    }

    /// Whether the client is done for good.
    pub fn is_closed(&self) -> bool {
        self.shared().state().phase == state::Phase::Closed
    }

    /// What went wrong last without being the answer to a call.
    pub fn last_error(&self) -> Option<Trouble> {
        self.shared().state().trouble.clone()
    }

    /// Says good-bye, ends the connection and waits for the client's thread, some seconds at most.
    pub fn close(&self) {
        self.handle.close();
    }

    fn send_publish(&self, publish: Publish<'_>, value: impl Into<Val>) -> Result<(), SendError> {
        address::check(publish.address).map_err(SendError::Address)?;
        self.shared().send(|link| link.send_publish(publish, &value.into()))
    }

    fn welcomed<T: Default>(&self, read: impl FnOnce(&Welcomed) -> T) -> T {
        self.shared().state().welcomed.as_ref().map(read).unwrap_or_default()
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Handle {
    fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        let mut state = self.shared.state();
        let told = state.unsubscribe_all();
        if state.phase != state::Phase::Closed {
            state.phase = state::Phase::Closing;
        }
        drop(state);
        self.shared.announce_change();
        if let Some(link) = self.shared.link().as_mut() {
            link.say_goodbye();
        }
        let by_callback = thread.thread().id() == thread::current().id();
        let is_closed =
            |state: &mut state::State| (state.phase == state::Phase::Closed).then_some(());
        if !by_callback {
            let _ = self.shared.wait_for(Instant::now() + FAREWELL, is_closed);
        }
        if let Some(link) = self.shared.link().as_ref() {
            let _ = link.stream.shutdown(Shutdown::Both);
        }
        // A thread in the midst of connecting ends by itself when that is over.
        if !by_callback && self.shared.wait_for(Instant::now() + FAREWELL, is_closed).is_some() {
            // It may have panicked, in a callback; that was reported where it happened.
            let _ = thread.join();
        }
        drop(told);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl<'a> Item<'a> {
    pub fn set(address: &'a str, value: impl Into<Val>) -> Self {
        Self::Set { address, value: value.into(), options: SetOptions::default() }
    }

    pub fn emit(address: &'a str, value: impl Into<Val>) -> Self {
        Self::Emit { address, value: value.into() }
    }
}

fn set(address: &str, options: SetOptions) -> Result<Set<'_>, SendError> {
    address::check(address).map_err(SendError::Address)?;
    Ok(Set {
        address,
        value: Value::NULL,
        revision: options.revision,
        lock: options.lock,
        unlock: options.unlock,
        ttl: options.ttl,
    })
}

/// The messages of a bundle, as it carries them.
fn bundled(items: &[Item<'_>]) -> Result<Vec<u8>, SendError> {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Set { address, value, options } => {
                let value = encode_value(value, &mut values)?;
                let set = Set { value, ..set(address, *options)? };
                Messages::append(&mut bytes, &Message::Set(set))?;
            }
            Item::Emit { address, value } => {
                address::check(address).map_err(SendError::Address)?;
                let value = Some(encode_value(value, &mut values)?);
                let signal = Some(Signal::Event);
                let publish = Publish { address, signal, value, ..Publish::default() };
                Messages::append(&mut bytes, &Message::Publish(publish))?;
            }
        }
    }
    Ok(bytes)
}

fn bundle(bytes: &[u8], count: usize, at_us: Option<u64>) -> Result<Message<'_>, SendError> {
    let messages = Messages::from_payloads(bytes, count).map_err(|_| SendError::TooLong)?;
    Ok(Message::Bundle(Bundle { timestamp_us: at_us, messages }))
}

//! What the callers of a client and its thread share: the sending half, and the state.
//!
//! Locks are taken in one order, link before state, and none is held while a callback runs. A
//! question is registered under the link's lock, so questions wait in the order they were sent.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::binary;
use clasp_rt_link::{AnyTransport, Event, Transport, close};

use crate::error::{RequestError, SendError};
use crate::options::Options;
use crate::state::{Answer, Phase, Question, State};
use crate::url::Url;
use crate::val::Val;

pub(crate) struct Shared {
    pub(crate) url: Url,
    pub(crate) options: Options,
    link: Mutex<Option<Link>>,
    state: Mutex<State>,
    /// An answer came, or the phase is another.
    changed: Condvar,
}

/// The sending half of a connection, with room that is used again for every message.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) transport: AnyTransport,
    frame: Vec<u8>,
    bytes: Vec<u8>,
    values: Vec<u8>,
}

impl Shared {
    pub(crate) fn new(url: Url, options: Options) -> Self {
        Self {
            url,
            options,
            link: Mutex::new(None),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn link(&self) -> MutexGuard<'_, Option<Link>> {
        lock(&self.link)
    }

    /// Wakes all who wait for something in the state.
    pub(crate) fn announce_change(&self) {
        self.changed.notify_all();
    }

    /// Waits, at most until `deadline`, for what `look` finds in the state.
    pub(crate) fn wait_for<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends with whatever `send` does to the link. A broken connection is taken down.
    pub(crate) fn send<T>(
        &self,
        send: impl FnOnce(&mut Link) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let mut held = self.link();
        let link = held.as_mut().ok_or_else(|| self.why_not())?;
        let sent = send(link);
        if let Err(SendError::Lost(_)) = sent {
            // The thread that reads sees the end, and does what is to be done then.
            let _ = link.stream.shutdown(Shutdown::Both);
            *held = None;
        }
        sent
    }

    /// Sends a question and waits for its answer.
    pub(crate) fn request(
        &self,
        question: Question,
        deadline: Instant,
        send: impl FnOnce(&mut Link) -> Result<(), SendError>,
    ) -> Result<Answer, RequestError> {
        let mut asked = Err(RequestError::Busy);
        self.send(|link| {
            asked = self.state().ask(question);
            if asked.is_ok() { send(link) } else { Ok(()) }
        })
        .inspect_err(|_| {
            if let Ok(ticket) = asked {
                self.state().withdraw(ticket);
            }
        })?;
        let ticket = asked?;
        self.wait_for(deadline, |state| state.take_answer(ticket)).unwrap_or_else(|| {
            self.state().abandon(ticket);
            Err(RequestError::TimedOut)
        })
    }

    fn why_not(&self) -> SendError {
        match self.state().phase {
            Phase::Up | Phase::Down => SendError::NotConnected,
            Phase::Closing | Phase::Closed => SendError::Closed,
        }
    }
}

impl Link {
    pub(crate) fn new(stream: TcpStream, transport: AnyTransport) -> Self {
        Self { stream, transport, frame: Vec::new(), bytes: Vec::new(), values: Vec::new() }
    }

    /// Writes the message to the socket before it returns: nothing waits to be flushed.
    pub(crate) fn send(&mut self, message: &Message<'_>, qos: Qos) -> Result<(), SendError> {
        binary::encode(message, qos, &mut self.frame)?;
        self.bytes.clear();
        self.transport.wrap(&self.frame, &mut self.bytes);
        self.write()
    }

    /// Sends `set` with `val` in place of its value.
    pub(crate) fn send_set(&mut self, set: Set<'_>, val: &Val, qos: Qos) -> Result<(), SendError> {
        self.with_value(val, |link, value| link.send(&Message::Set(Set { value, ..set }), qos))
    }

    /// Sends `publish` with `val` as its value.
    pub(crate) fn send_publish(
        &mut self,
        publish: Publish<'_>,
        val: &Val,
    ) -> Result<(), SendError> {
        self.with_value(val, |link, value| {
            let value = Some(value);
            link.send(&Message::Publish(Publish { value, ..publish }), Qos::Fire)
        })
    }

    fn with_value(
        &mut self,
        val: &Val,
        send: impl FnOnce(&mut Self, Value<'_>) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let mut values = std::mem::take(&mut self.values);
        let sent = encode_value(val, &mut values).and_then(|value| send(self, value));
        self.values = values;
        sent
    }

    /// The next event, let go of already, and how many bytes it used up. Replies are sent.
    pub(crate) fn next<'a>(&mut self, received: &'a mut [u8]) -> (Event<'a>, usize) {
        self.bytes.clear();
        let event = self.transport.peek(received, &mut self.bytes);
        let used = self.transport.advance();
        // When this fails, so does the next read.
        let _ = self.write();
        (event, used)
    }

    /// Says good-bye as the transport does, or ends our half of the stream where it has no word.
    pub(crate) fn say_goodbye(&mut self) {
        self.bytes.clear();
        self.transport.close(close::NORMAL, "", &mut self.bytes);
        let said = if self.bytes.is_empty() {
            self.stream.shutdown(Shutdown::Write).map_err(|error| SendError::Lost(error.kind()))
        } else {
            self.write()
        };
        // A peer that cannot be told is hung up on all the same.
        let _ = said;
    }

    fn write(&mut self) -> Result<(), SendError> {
        self.stream.write_all(&self.bytes).map_err(|error| SendError::Lost(error.kind()))
    }
}

/// Puts `val` into `bytes`, in place of what they held.
pub(crate) fn encode_value<'b>(val: &Val, bytes: &'b mut Vec<u8>) -> Result<Value<'b>, SendError> {
    bytes.clear();
    val.append(bytes)?;
    Value::from_encoded(bytes).map_err(|_| SendError::TooDeep)
}

/// A lock whose holder panicked guards nothing half done here: every change is one assignment.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

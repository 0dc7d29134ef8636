//! What a client knows: params, subscriptions, and questions that wait for their answers. No I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use clasp_rt_core::message::{Ack, ErrorReply, Subscribe, SubscribeOptions};
use clasp_rt_core::pattern;
use clasp_rt_core::signal::{Signal, SignalMask};
use clasp_rt_core::value::{Value, push_value};
use clasp_rt_core::wire::list::Signals;

use crate::dial::Welcomed;
use crate::error::{RequestError, Trouble};
use crate::update::Update;
use crate::val::Val;

/// Questions that may wait at once, given up ones included.
const WAITING_MAX: usize = 1_024;

pub(crate) type Told = Arc<Mutex<dyn FnMut(&Update<'_>) + Send>>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Of the session that is, or was last.
    pub(crate) welcomed: Option<Welcomed>,
    pub(crate) trouble: Option<Trouble>,
    params: HashMap<String, Param>,
    subscriptions: Vec<Subscription>,
    subscription_last: u32,
    waiting: VecDeque<Waiting>,
    ticket_last: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Up,
    /// The connection broke, and the client tries to come back.
    Down,
    /// [`crate::Client::close`] was called; the thread is on its way out.
    Closing,
    /// The thread is gone.
    Closed,
}

/// What is known of one param.
struct Param {
    /// Type code and data; kept so because most are never asked for.
    encoded: Vec<u8>,
    revision: u64,
    /// Whether every later change was bound to reach us, so that the router need not be asked.
    followed: bool,
}

struct Subscription {
    id: u32,
    pattern: String,
    mask: SignalMask,
    options: SubscribeOptions,
    told: Told,
}

struct Waiting {
    ticket: u64,
    question: Question,
    answer: Option<Result<Answer, RequestError>>,
    /// Nobody waits any more; the answer must still be met, as answers carry no question's name.
    abandoned: bool,
}

/// What was asked. The protocol names no question in its answer, so the order must tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Get { address: String },
    Set { address: String },
    Query { pattern: String },
    Bundle,
    Ping,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Value(Val),
    /// The revision that a write made, where the router said one.
    Taken(Option<u64>),
    Signals(Vec<Known>),
    Pong,
}

/// A signal that was announced to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub address: String,
    pub signal: Signal,
    pub datatype: Option<String>,
    pub access: Option<String>,
}

impl State {
    /// What the params hold now; a change that we may have missed is no longer known as current.
    pub(crate) fn hold(&mut self, address: &str, value: Value<'_>, revision: Option<u64>) {
        let followed = self.follows(address);
        let param = match self.params.get_mut(address) {
            Some(param) => param,
            None => self.params.entry(address.to_owned()).or_insert(Param {
                encoded: Vec::new(),
                revision: 0,
                followed,
            }),
        };
        param.encoded.clear();
        push_value(&mut param.encoded, value);
        param.revision = revision.unwrap_or(param.revision);
        param.followed = followed;
    }

    /// The last value and revision that were heard of.
    pub(crate) fn held(&self, address: &str) -> Option<(Val, u64)> {
        let param = self.params.get(address)?;
        let value = Value::from_encoded(&param.encoded).ok()?;
        Some((value.into(), param.revision))
    }

    /// The value, if it cannot have changed without our hearing of it.
    pub(crate) fn current(&self, address: &str) -> Option<Val> {
        let param = self.params.get(address)?;
        let current = self.phase == Phase::Up && param.followed && self.follows(address);
        let (value, _) = current.then(|| self.held(address))??;
        Some(value)
    }

    /// Whether a subscription is told of every change of `address`.
    fn follows(&self, address: &str) -> bool {
        self.subscriptions.iter().any(|subscription| {
            subscription.mask.contains(Signal::Param)
                && subscription.options.max_rate.is_none()
                && subscription.options.epsilon.is_none()
                && pattern::matches(&subscription.pattern, address)
        })
    }

    pub(crate) fn subscribe(
        &mut self,
        pattern: &str,
        mask: SignalMask,
        options: SubscribeOptions,
        told: Told,
    ) -> u32 {
        self.subscription_last = self.subscription_last.wrapping_add(1).max(1);
        let id = self.subscription_last;
        let pattern = pattern.to_owned();
        self.subscriptions.push(Subscription { id, pattern, mask, options, told });
        id
    }

    /// Gives back who was told. It may own a client, whose end needs the lock on this state: let go
    /// of it outside.
    pub(crate) fn unsubscribe(&mut self, id: u32) -> Option<Told> {
        let at = self.subscriptions.iter().position(|subscription| subscription.id == id)?;
        self.params.values_mut().for_each(|param| param.followed = false);
        Some(self.subscriptions.remove(at).told)
    }

    /// All subscriptions, as a new session must be told of them.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = Subscribe<'_>> {
        self.subscriptions.iter().map(|subscription| Subscribe {
            id: subscription.id,
            pattern: &subscription.pattern,
            types: subscription.mask,
            options: subscription.options,
        })
    }

    /// Appends those who want to be told of `update`.
    pub(crate) fn listeners(&self, update: &Update<'_>, told: &mut Vec<Told>) {
        let wants = |subscription: &&Subscription| {
            subscription.mask.contains(update.signal)
                && pattern::matches(&subscription.pattern, update.address)
        };
        told.extend(self.subscriptions.iter().filter(wants).map(|found| Arc::clone(&found.told)));
    }

    /// A question is about to be sent. Gives the ticket under which its answer can be had.
    pub(crate) fn ask(&mut self, question: Question) -> Result<u64, RequestError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(RequestError::Busy);
        }
        self.ticket_last += 1;
        let ticket = self.ticket_last;
        self.waiting.push_back(Waiting { ticket, question, answer: None, abandoned: false });
        Ok(ticket)
    }

    /// The answer, once.
    pub(crate) fn take_answer(&mut self, ticket: u64) -> Option<Result<Answer, RequestError>> {
        let at = self.position(ticket)?;
        let answer = self.waiting.get_mut(at)?.answer.take()?;
        self.waiting.remove(at);
        Some(answer)
    }

    /// The question was not sent after all.
    pub(crate) fn withdraw(&mut self, ticket: u64) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn abandon(&mut self, ticket: u64) {
        let Some(at) = self.position(ticket) else { return };
        if let Some(waiting) = self.waiting.get_mut(at) {
            waiting.abandoned = true;
            // A missing GET may never be answered, and every answer to it would do for another.
            if waiting.answer.is_some() || matches!(waiting.question, Question::Get { .. }) {
                self.waiting.remove(at);
            }
        }
    }

    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.ticket == ticket)
    }

    /// Whoever asked for this param has it.
    pub(crate) fn answer_value(&mut self, held: &str, value: Value<'_>) {
        for waiting in &mut self.waiting {
            match &waiting.question {
                Question::Get { address } if address == held && waiting.answer.is_none() => {
                    waiting.answer = Some(Ok(Answer::Value(value.into())));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn answer_query(&mut self, signals: Signals<'_>) {
        let known = signals.iter().map(|signal| Known {
            address: signal.address.to_owned(),
            signal: signal.signal,
            datatype: signal.datatype.map(str::to_owned),
            access: signal.access.map(str::to_owned),
        });
        let answer = Answer::Signals(known.collect());
        self.answer(|question| matches!(question, Question::Query { .. }), Ok(answer));
    }

    pub(crate) fn answer_ping(&mut self) {
        self.answer(|question| *question == Question::Ping, Ok(Answer::Pong));
    }

    pub(crate) fn answer_write(&mut self, ack: &Ack<'_>) {
        let asked = |question: &Question| match (question, ack.address) {
            (Question::Set { address }, Some(written)) => address == written,
            (Question::Bundle, None) => true,
            _ => false,
        };
        self.answer(asked, Ok(Answer::Taken(ack.revision)));
    }

    /// Whoever asked what the router refuses is told; so is the one who writes down troubles.
    pub(crate) fn answer_error(&mut self, error: &ErrorReply<'_>) {
        let asked = |question: &Question| match question {
            Question::Get { address } | Question::Set { address } => {
                error.address == Some(address.as_str())
            }
            Question::Query { pattern } => error.address == Some(pattern.as_str()),
            Question::Bundle => error.code == clasp_rt_core::error::code::BUNDLE_REFUSED,
            Question::Ping => false,
        };
        let message = error.message.to_owned();
        self.answer(asked, Err(RequestError::Refused { code: error.code, message }));
    }

    /// Answers the oldest question of that kind.
    fn answer(&mut self, asked: impl Fn(&Question) -> bool, answer: Result<Answer, RequestError>) {
        let oldest = self
            .waiting
            .iter_mut()
            .position(|waiting| waiting.answer.is_none() && asked(&waiting.question));
        let Some(at) = oldest else { return };
        match self.waiting.get_mut(at) {
            Some(waiting) if !waiting.abandoned => waiting.answer = Some(answer),
            _ => drop(self.waiting.remove(at)),
        }
    }

    /// The connection is gone: no answer will come, and what params hold is hearsay.
    pub(crate) fn lose(&mut self, phase: Phase) {
        self.phase = phase;
        self.params.values_mut().for_each(|param| param.followed = false);
        self.waiting.retain_mut(|waiting| {
            waiting.answer.get_or_insert(Err(RequestError::Lost));
            !waiting.abandoned
        });
    }

    /// A session begins; its first snapshot says anew which params there are.
    pub(crate) fn welcome(&mut self, welcomed: Welcomed) {
        self.phase = Phase::Up;
        self.welcomed = Some(welcomed);
        self.params.clear();
    }

    /// Gives back all who were told, to let go of outside as in [`Self::unsubscribe`].
    pub(crate) fn unsubscribe_all(&mut self) -> Vec<Told> {
        self.subscriptions.drain(..).map(|subscription| subscription.told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Told {
        Arc::new(Mutex::new(|_: &Update<'_>| {}))
    }

    fn ack(address: Option<&str>, revision: u64) -> Ack<'_> {
        Ack { address, revision: Some(revision), ..Ack::default() }
    }

    #[test]
    fn answers_go_to_the_oldest_question_they_fit() {
        let mut state = State::default();
        let set = |address: &str| Question::Set { address: address.to_owned() };
        let first = state.ask(set("/a")).unwrap();
        let other = state.ask(set("/b")).unwrap();
        let second = state.ask(set("/a")).unwrap();
        let bundle = state.ask(Question::Bundle).unwrap();
        state.answer_write(&ack(Some("/b"), 1));
        state.answer_write(&ack(None, 2));
        state.answer_write(&ack(Some("/a"), 3));
        let refusal =
            ErrorReply { code: 400, message: "locked", address: Some("/a"), correlation_id: None };
        state.answer_error(&refusal);
        let taken = |revision| Some(Ok(Answer::Taken(Some(revision))));
        assert_eq!(state.take_answer(other), taken(1));
        assert_eq!(state.take_answer(bundle), taken(2));
        assert_eq!(state.take_answer(first), taken(3));
        let refused = RequestError::Refused { code: 400, message: "locked".to_owned() };
        assert_eq!(state.take_answer(second), Some(Err(refused)));
        assert_eq!(state.take_answer(second), None, "once");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_ones() {
        let mut state = State::default();
        let query = || Question::Query { pattern: "/**".to_owned() };
        let given_up = state.ask(query()).unwrap();
        state.abandon(given_up);
        let next = state.ask(query()).unwrap();
        state.answer_query(Signals::EMPTY);
        assert_eq!(state.take_answer(next), None, "that was for the one who gave up");
        state.answer_query(Signals::EMPTY);
        assert_eq!(state.take_answer(next), Some(Ok(Answer::Signals(Vec::new()))));
    }

    #[test]
    fn one_snapshot_answers_everyone_who_asked_for_the_address() {
        let mut state = State::default();
        let get = || Question::Get { address: "/a".to_owned() };
        let (first, second) = (state.ask(get()).unwrap(), state.ask(get()).unwrap());
        state.answer_value("/b", Value::NULL);
        assert_eq!(state.take_answer(first), None);
        state.answer_value("/a", Value::NULL);
        for ticket in [first, second] {
            assert_eq!(state.take_answer(ticket), Some(Ok(Answer::Value(Val::Null))));
        }
    }

    #[test]
    fn a_value_is_current_only_while_every_change_is_followed() {
        let paced = SubscribeOptions { max_rate: Some(1), ..SubscribeOptions::default() };
        let cases = [
            ("/a/*", SignalMask::ALL, SubscribeOptions::default(), true),
            ("/b/*", SignalMask::ALL, SubscribeOptions::default(), false),
            ("/a/*", SignalMask(1 << Signal::Event.code()), SubscribeOptions::default(), false),
            ("/a/*", SignalMask::ALL, paced, false),
        ];
        for (pattern, mask, options, current) in cases {
            let mut state = State::default();
            let id = state.subscribe(pattern, mask, options, nobody());
            state.hold("/a/x", Value::NULL, Some(3));
            assert_eq!(state.current("/a/x").is_some(), current, "{pattern} {options:?}");
            assert_eq!(state.held("/a/x"), Some((Val::Null, 3)), "known all the same");
            state.unsubscribe(id);
            assert_eq!(state.current("/a/x"), None);
        }
    }

    #[test]
    fn a_value_from_before_the_subscription_is_not_current() {
        let mut state = State::default();
        state.hold("/a", Value::NULL, Some(1));
        state.subscribe("/a", SignalMask::ALL, SubscribeOptions::default(), nobody());
        assert_eq!(state.current("/a"), None);
        state.hold("/a", Value::NULL, Some(2));
        assert_eq!(state.current("/a"), Some(Val::Null));
        state.lose(Phase::Down);
        assert_eq!(state.current("/a"), None);
    }

    #[test]
    fn whoever_waits_is_told_when_the_connection_goes() {
        let mut state = State::default();
        let ticket = state.ask(Question::Ping).unwrap();
        let given_up = state.ask(Question::Ping).unwrap();
        state.abandon(given_up);
        state.lose(Phase::Down);
        assert_eq!(state.take_answer(ticket), Some(Err(RequestError::Lost)));
        assert!(state.waiting.is_empty());
    }

    #[test]
    fn questions_are_bounded() {
        let mut state = State::default();
        for _ in 0..WAITING_MAX {
            state.ask(Question::Ping).unwrap();
        }
        assert_eq!(state.ask(Question::Ping), Err(RequestError::Busy));
    }
}

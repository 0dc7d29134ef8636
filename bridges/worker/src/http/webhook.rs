//! What changes at some addresses, on its way to a server elsewhere: a queue that decides what is
//! asked next, and what an answer means for it. A machine.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clasp_rt_bridges::map::Pattern;
use clasp_rt_bridges::{ConfigError, check_range};
use clasp_rt_client::{Backoff, random};
use clasp_rt_core::signal::{Signal, SignalMask};
use http::header::HeaderMap;
use http::{Method, Uri};
use serde::Deserialize;
use serde_json::Value as Json;

use super::client::{Answer, Asked, Failed, check_headers, check_url, json_headers};
use super::poll::News;
use super::template::{Body, Filling, Text};
use crate::mqtt::waiting::{PARAMS_MAX, Waiting};

/// One entry of `webhook`: a server that is told what changes at a pattern, by a request for each
/// change.
///
/// One request is on its way at a time. While a server fails it is asked again, after 0.5 s at
/// first and a minute at most; of params the newest value waits, of events each. What is refused
/// (4xx), was tried often enough, or has no room is counted as dropped, and the next is said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table { pattern = \"/cue/*\", url = \"https://x.org/{1}\" }")]
pub struct WebhookOptions {
    /// Which addresses, such as `/cue/*`; what a wildcard or `{name}` in it stands for can be used
    /// in `url` and `body`.
    pub pattern: String,
    /// `https://hooks.example/cues/{1}`. After its host may be `{address}`, `{value}`, `{1}`,
    /// `{name}`, each percent-encoded.
    pub url: String,
    /// `POST`, the default, `PUT` or `PATCH`.
    #[serde(default)]
    pub method: Verb,
    /// Which signals: some of `param`, `event`, `stream`, `gesture`, `timeline`. Default `param`
    /// and `event`.
    #[serde(default = "lasting_and_events")]
    pub types: Vec<String>,
    /// What is said, as JSON in whose texts the same may stand as in `url`; a text that is just
    /// `{value}` is the value itself. Default `{"address", "value", "revision"}`, for all but
    /// params with `signal` and what else is known.
    pub body: Option<Json>,
    /// Headers to send, such as `Authorization`; servers elsewhere that this one redirects to are
    /// not told them.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether params that the router holds at the start are told, too. Default false. After a
    /// router was away those are told that have changed.
    #[serde(default)]
    pub initial: bool,
    /// How often a server that fails is asked for each, 1 to 1000. Default 10: some three minutes.
    #[serde(default = "ten")]
    pub tries_max: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    #[default]
    Post,
    Put,
    Patch,
}

fn lasting_and_events() -> Vec<String> {
    vec![Signal::Param.name().to_owned(), Signal::Event.name().to_owned()]
}

fn ten() -> u32 {
    10
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What one webhook is about, as it was opened.
#[derive(Debug)]
pub struct Webhook {
    pattern: Pattern,
    types: SignalMask,
    url: Text,
    body: Option<Body>,
    method: Method,
    own: Arc<HeaderMap>,
    initial: bool,
    tries_max: u32,
    captures: Vec<Range<usize>>,
    waiting: Waiting<Call>,
    /// What is on its way, or is tried again, and how often it was.
    flying: Option<(Call, u32)>,
    /// What was told last of each param, so that a new session does not tell it again. As many as
    /// can wait; of others every session tells.
    told: HashMap<String, u64>,
    backoff: Backoff,
    is_failing: bool,
}

/// One change to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Of a param.
    address: Option<String>,
    asked: Asked,
}

/// A change of an address, as the router said it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub address: &'a str,
    pub signal: Signal,
    pub value: &'a Json,
    /// The whole, as JSON text: what is said where nothing else is written.
    pub text: &'a str,
}

/// What happens after an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Before the next request.
    pub wait: Duration,
    /// It was given up, or the server does not want it.
    pub dropped: bool,
    pub news: Option<News>,
}

impl WebhookOptions {
    /// Reads what was written under `key`, such as `webhook[0]`.
    pub fn open(&self, key: &str) -> Result<Webhook, ConfigError> {
        let at = |name: &str| format!("{key}.{name}");
        let wrong = |name: &str, why: String| ConfigError::new(at(name), why);
        let pattern = Pattern::new(&self.pattern)
            .map_err(|why| wrong("pattern", format!("`{}`: {why}", self.pattern)))?;
        let url = Text::new(&at("url"), &self.url, &pattern)?;
        let head = url.head();
        let has_host = head.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if !has_host {
            let need = "must begin with http://HOST/ or https://HOST/, without gaps";
            return Err(wrong("url", format!("`{}` {need}", self.url)));
        }
        check_url(&at("url"), head)?;
        let body = self.body.as_ref().map(|body| Body::new(&at("body"), body, &pattern));
        let mut types = 0;
        for name in &self.types {
            let signal = Signal::from_name(name).ok_or_else(|| {
                let need = "is none of param, event, stream, gesture, timeline";
                wrong("types", format!("`{name}` {need}"))
            })?;
            types |= 1 << signal.code();
        }
        if types == 0 {
            return Err(wrong("types", "one at least is needed, such as \"event\"".to_owned()));
        }
        check_range(at("tries_max"), self.tries_max, 1..=1000)?;
        Ok(Webhook {
            pattern,
            types: SignalMask(types),
            url,
            body: body.transpose()?,
            method: match self.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
                Verb::Patch => Method::PATCH,
            },
            own: check_headers(&at("headers"), &self.headers)?,
            initial: self.initial,
            tries_max: self.tries_max,
            captures: Vec::new(),
            waiting: Waiting::default(),
            flying: None,
            told: HashMap::new(),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random()),
            is_failing: false,
        })
    }
}

impl Webhook {
    /// What the router must be asked for.
    pub fn subscription(&self) -> (&str, SignalMask) {
        (self.pattern.subscription(), self.types)
    }

    /// The URL as far as it is the same for all, for people.
    pub fn head(&self) -> &str {
        self.url.head()
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Whether changes of this kind at this address are told.
    pub fn wants(&mut self, address: &str, signal: Signal) -> bool {
        self.types.contains(signal) && self.pattern.captures(address, &mut self.captures)
    }

    /// Takes a change. `false`: it makes no URL.
    pub fn heard(&mut self, change: Change<'_>) -> bool {
        if !self.wants(change.address, change.signal) {
            return true;
        }
        if change.signal == Signal::Param {
            self.note(change.address, change.value);
        }
        self.call(change)
    }

    /// Takes what the router holds; `is_first`: when it was asked for the first time.
    pub fn held(&mut self, change: Change<'_>, is_first: bool) -> bool {
        if !self.wants(change.address, Signal::Param) {
            return true;
        }
        let is_new = self.note(change.address, change.value);
        !is_new || (is_first && !self.initial) || self.call(change)
    }

    /// Notes a value; whether it is another one than before.
    fn note(&mut self, address: &str, value: &Json) -> bool {
        let mut hasher = DefaultHasher::new();
        value.to_string().hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(told) = self.told.get_mut(address) {
            return std::mem::replace(told, hash) != hash;
        }
        if self.told.len() < PARAMS_MAX {
            self.told.insert(address.to_owned(), hash);
        }
        true
    }

    fn call(&mut self, change: Change<'_>) -> bool {
        let Change { address, signal, value, text } = change;
        let filling = Filling { address, value, captures: &self.captures };
        let url = self.url.fill_url(&filling).and_then(|url| url.parse::<Uri>().ok());
        let Some(uri) = url else { return false };
        let body = match &self.body {
            Some(body) => body.fill(&filling).to_string(),
            None => text.to_owned(),
        };
        let bytes = address.len() + uri.path().len() + body.len();
        let asked = Asked {
            method: self.method.clone(),
            uri,
            own: Arc::clone(&self.own),
            headers: json_headers(),
            body: Bytes::from(body),
        };
        if signal == Signal::Param {
            let call = Call { address: Some(address.to_owned()), asked };
            self.waiting.param(address, bytes, call);
        } else {
            self.waiting.event(bytes, Call { address: None, asked });
        }
        true
    }

    /// What had no room, since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        self.waiting.take_lost().len() as u64
    }

    /// Whether nothing is to be said.
    pub fn is_idle(&self) -> bool {
        self.flying.is_none() && self.waiting.is_empty()
    }

    /// What to ask now, if anything. Of a param that failed only while no newer value waits.
    pub fn question(&mut self) -> Option<Asked> {
        let is_overtaken = |(call, _): &mut (Call, u32)| {
            call.address.as_ref().is_some_and(|address| self.waiting.has(address))
        };
        self.flying.take_if(is_overtaken);
        if self.flying.is_none() {
            self.flying = self.waiting.pop().map(|call| (call, 0));
        }
        self.flying.as_ref().map(|(call, _)| call.asked.clone())
    }

    /// Takes the answer to it.
    pub fn answered(&mut self, answer: &Result<Answer, Failed>) -> Outcome {
        let Some((call, tries)) = self.flying.take() else { return Outcome::default() };
        let (why, may_pass, after) = match answer {
            Ok(Answer { status, .. }) if status.is_success() => return self.taken(),
            // It took what it was told, and says much about it.
            Err(Failed::TooLong(_)) => return self.taken(),
            Ok(answer) => {
                let after = answer.retry_after().filter(|_| answer.may_pass());
                (format!("it says {}", answer.status), answer.may_pass(), after)
            }
            Err(why @ Failed::Redirected(_)) => (why.to_string(), false, None),
            Err(why) => (why.to_string(), true, None),
        };
        let was_failing = std::mem::replace(&mut self.is_failing, true);
        let news = (!was_failing).then_some(News::Trouble(why));
        let dropped = !may_pass || tries + 1 >= self.tries_max;
        if !dropped {
            self.flying = Some((call, tries + 1));
        }
        let wait = match may_pass {
            true => self.backoff.next_wait().max(after.unwrap_or_default()),
            false => Duration::ZERO,
        };
        Outcome { wait, dropped, news }
    }

    fn taken(&mut self) -> Outcome {
        self.backoff.reset();
        let was_failing = std::mem::replace(&mut self.is_failing, false);
        Outcome { news: was_failing.then_some(News::Well), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    fn webhook(more: Json) -> Webhook {
        let mut table = json!({ "pattern": "/cue/*", "url": "http://h/{1}" });
        let map = table.as_object_mut().expect("an object");
        map.extend(more.as_object().expect("an object").clone());
        let options: WebhookOptions = serde_json::from_value(table).expect("known keys");
        options.open("webhook[0]").expect("good")
    }

    fn change<'a>(address: &'a str, signal: Signal, value: &'a Json) -> Change<'a> {
        Change { address, signal, value, text: "{}" }
    }

    fn says(status: u16) -> Result<Answer, Failed> {
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Answer { status, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// The paths that are asked for, one after the other, while the server takes all.
    fn paths(hook: &mut Webhook) -> Vec<String> {
        let next = || {
            let asked = hook.question()?;
            hook.answered(&says(204));
            Some(asked.uri.path().to_owned())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn of_params_the_newest_is_told_and_of_events_each_in_their_order() {
        let mut hook = webhook(json!({ "url": "http://h/{1}/{value}" }));
        for (address, signal, value) in [
            ("/cue/a", Signal::Param, json!(1)),
            ("/cue/go", Signal::Event, json!(1)),
            ("/other/a", Signal::Param, json!(1)),
            ("/cue/a", Signal::Stream, json!(1)),
            ("/cue/a", Signal::Param, json!(2)),
            ("/cue/go", Signal::Event, json!(2)),
        ] {
            assert!(hook.heard(change(address, signal, &value)));
        }
        assert_eq!(paths(&mut hook), ["/a/2", "/go/1", "/go/2"]);
        assert!(hook.is_idle());
    }

    #[test]
    fn what_fails_is_tried_again_until_it_is_old_or_was_tried_enough() {
        let mut hook = webhook(json!({ "tries_max": 3, "url": "http://h/{value}" }));
        let (one, two) = (json!(1), json!(2));
        hook.heard(change("/cue/go", Signal::Event, &one));
        let path = |hook: &mut Webhook| hook.question().map(|asked| asked.uri.path().to_owned());
        for (status, dropped) in [(500, false), (429, false), (503, true)] {
            assert_eq!(path(&mut hook).as_deref(), Some("/1"));
            let outcome = hook.answered(&says(status));
            assert!(outcome.wait >= FIRST_PAUSE / 2, "{outcome:?}");
            assert_eq!(outcome.dropped, dropped, "{status}");
        }
        assert_eq!(path(&mut hook), None);
        // A newer value takes the place of one that failed.
        hook.heard(change("/cue/a", Signal::Param, &one));
        assert_eq!(path(&mut hook).as_deref(), Some("/1"));
        hook.heard(change("/cue/a", Signal::Param, &two));
        assert!(!hook.answered(&Err(Failed::TimedOut)).dropped);
        assert_eq!(path(&mut hook).as_deref(), Some("/2"));
        let outcome = hook.answered(&says(200));
        assert_eq!((outcome.news, outcome.dropped), (Some(News::Well), false));
        // What is refused is not said again.
        hook.heard(change("/cue/go", Signal::Event, &one));
        path(&mut hook);
        let outcome = hook.answered(&says(404));
        assert_eq!((outcome.wait, outcome.dropped), (Duration::ZERO, true));
        assert!(matches!(outcome.news, Some(News::Trouble(_))) && hook.is_idle());
    }

    #[test]
    fn a_server_that_takes_nothing_costs_bounded_memory_and_what_is_lost_is_counted() {
        use crate::mqtt::waiting::EVENTS_MAX;
        let mut hook = webhook(json!({}));
        for number in 0..EVENTS_MAX as u64 + 5 {
            hook.heard(change("/cue/go", Signal::Event, &json!(number)));
        }
        assert_eq!((hook.take_lost(), hook.take_lost()), (5, 0));
        for number in 0..PARAMS_MAX + 7 {
            hook.heard(change(&format!("/cue/{number}"), Signal::Param, &Json::Null));
        }
        assert_eq!((hook.take_lost(), hook.told.len()), (7, PARAMS_MAX));
    }

    #[test]
    fn a_router_that_was_away_is_asked_what_changed() {
        let (one, two) = (json!(1), json!(2));
        for (initial, first) in [(false, vec![]), (true, vec!["/a"])] {
            let mut hook = webhook(json!({ "initial": initial }));
            hook.held(change("/cue/a", Signal::Param, &one), true);
            assert_eq!(paths(&mut hook), first);
            hook.heard(change("/cue/b", Signal::Param, &one));
            assert_eq!(paths(&mut hook), ["/b"]);
            for (address, value) in [("/cue/a", &one), ("/cue/b", &two), ("/cue/c", &one)] {
                hook.held(change(address, Signal::Param, value), false);
            }
            assert_eq!(paths(&mut hook), ["/b", "/c"]);
        }
    }

    #[test]
    fn the_body_is_what_was_written_or_all_that_is_known() {
        let value = json!("go");
        let event = Change { text: r#"{"x":1}"#, ..change("/cue/1", Signal::Event, &value) };
        for (written, said) in [
            (Json::Null, r#"{"x":1}"#),
            (json!({ "text": "Cue {1}: {value}" }), r#"{"text":"Cue 1: go"}"#),
            (json!("{value}"), r#""go""#),
        ] {
            let mut hook = webhook(json!({ "body": written, "method": "PUT" }));
            hook.heard(event);
            let asked = hook.question().expect("a question");
            assert_eq!((asked.method, asked.body), (Method::PUT, Bytes::from(said)));
        }
        let mut hook = webhook(json!({ "url": "http://h/a/{1}" }));
        assert!(!hook.heard(change("/cue/..", Signal::Event, &value)), "it would lead elsewhere");
    }

    #[test]
    fn every_mistake_is_told_under_its_key() {
        for (more, key) in [
            (json!({ "pattern": "cue" }), "pattern"),
            (json!({ "url": "http://{1}/" }), "url"),
            (json!({ "url": "ftp://h/" }), "url"),
            (json!({ "url": "http://h" }), "url"),
            (json!({ "url": "http://h/{x}" }), "url"),
            (json!({ "types": ["cue"] }), "types"),
            (json!({ "types": [] }), "types"),
            (json!({ "body": { "text": "{x}" } }), "body"),
            (json!({ "headers": { "host": "h" } }), "headers"),
            (json!({ "tries_max": 0 }), "tries_max"),
        ] {
            let mut table = json!({ "pattern": "/cue/*", "url": "http://h/{1}" });
            let map = table.as_object_mut().expect("an object");
            map.extend(more.as_object().expect("an object").clone());
            let options: WebhookOptions = serde_json::from_value(table).expect("known keys");
            let error = options.open("webhook[2]").expect_err("cannot work");
            assert_eq!(error.key, format!("webhook[2].{key}"), "{error}");
        }
    }
}

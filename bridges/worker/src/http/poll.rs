//! A page elsewhere that is asked again and again, and what of it is told: a machine.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clasp_rt_bridges::{ConfigError, check_range};
use clasp_rt_client::{Backoff, random};
use clasp_rt_core::address;
use http::header::{ACCEPT, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value as Json;

use super::client::{Answer, Asked, Failed, check_headers, check_url};
use crate::web::value;

/// One entry of `poll`: a page that is asked again and again.
///
/// What is found there is told when it is another value than before; what the router got from
/// others meanwhile is not undone. A server is asked `If-None-Match` and `If-Modified-Since`, and
/// one that fails is asked more and more rarely, down to once a minute or `every_s`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table { url = \"http://x.org\", values = { \"/a\" = \"/b\" } }")]
pub struct PollOptions {
    /// `http://HOST:PORT/PATH`, or `https://`.
    pub url: String,
    /// What of the answer is at which address: `{ "/weather/temp" = "/main/temp" }`. On the right
    /// is a JSON pointer (RFC 6901); the empty one is the whole answer. 1 to 256.
    pub values: BTreeMap<String, String>,
    /// Seconds from one question to the next, 0.1 to 86400. Default 10.
    #[serde(default = "ten")]
    pub every_s: f64,
    /// What is told: a `param`, the default, or an `event`.
    #[serde(default, rename = "as")]
    pub kind: Kind,
    /// Headers to send, such as `Authorization`; servers elsewhere that this one redirects to are
    /// not told them.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Param,
    Event,
}

fn ten() -> f64 {
    10.0
}

/// Addresses that one page may have.
const VALUES_MAX: usize = 256;

/// A server that fails is asked as rarely as this, or as `every_s` says.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A page, what was told of it, and when it is asked next.
#[derive(Debug)]
pub struct Poll {
    asked: Asked,
    every: Duration,
    kind: Kind,
    values: Vec<Watched>,
    backoff: Backoff,
    /// Why it failed last; `None` when it went well.
    trouble: Option<String>,
    /// Values that its last answer did not have.
    missing: u64,
}

#[derive(Debug)]
struct Watched {
    address: String,
    pointer: String,
    /// What was told last.
    told: Option<Json>,
}

/// Something to tell the router.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    pub address: String,
    /// Encoded: type code and data.
    pub value: Vec<u8>,
    pub is_param: bool,
}

/// What an answer was worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// From the question to the next one.
    pub wait: Duration,
    /// Values that were not there, or cannot be held by the router.
    pub malformed: u64,
    /// What is new about how it goes, for the log.
    pub news: Option<News>,
}

/// How it goes with a server, told once.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Well,
    Trouble(String),
}

impl PollOptions {
    /// Reads what was written under `key`, such as `poll[0]`.
    pub fn open(&self, key: &str) -> Result<Poll, ConfigError> {
        let at = |name: &str| format!("{key}.{name}");
        let uri = check_url(&at("url"), &self.url)?;
        let own = check_headers(&at("headers"), &self.headers)?;
        check_range(at("every_s"), self.every_s, 0.1..=86_400.0)?;
        let wrong = |why: String| ConfigError::new(at("values"), why);
        if !(1..=VALUES_MAX).contains(&self.values.len()) {
            let need = "as { \"/weather/temp\" = \"/main/temp\" }";
            return Err(wrong(format!("{}: 1 to {VALUES_MAX}, {need}", self.values.len())));
        }
        let mut values = Vec::new();
        for (address, pointer) in &self.values {
            address::check(address).map_err(|why| wrong(format!("`{address}`: {why}")))?;
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let need = "a JSON pointer begins with a slash, or is empty";
                return Err(wrong(format!("`{pointer}`: {need}")));
            }
            let (address, pointer) = (address.clone(), pointer.clone());
            values.push(Watched { address, pointer, told: None });
        }
        let accept = HeaderValue::from_static("application/json, text/plain;q=0.9, */*;q=0.5");
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let asked = Asked { method: Method::GET, uri, own, headers, body: Bytes::new() };
        let every = Duration::from_secs_f64(self.every_s);
        let backoff = Backoff::new(every, every.max(PAUSE_MAX), random());
        Ok(Poll { asked, every, kind: self.kind, values, backoff, trouble: None, missing: 0 })
    }
}

fn is_well(answer: &Answer) -> bool {
    answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED
}

impl Poll {
    pub fn uri(&self) -> &Uri {
        &self.asked.uri
    }

    /// What to ask now.
    pub fn question(&self) -> Asked {
        self.asked.clone()
    }

    /// Takes the answer; what is new goes to `tellings`.
    pub fn answered(
        &mut self,
        answer: &Result<Answer, Failed>,
        tellings: &mut Vec<Telling>,
    ) -> Outcome {
        let trouble = match answer {
            Ok(answer) if is_well(answer) => None,
            Ok(answer) => Some(format!("it says {}", answer.status)),
            Err(why) => Some(why.to_string()),
        };
        let mut news = match (&trouble, &self.trouble) {
            (Some(why), None) => Some(News::Trouble(why.clone())),
            (None, Some(_)) => Some(News::Well),
            _ => None,
        };
        self.trouble = trouble;
        let mut malformed = 0;
        if let Ok(answer) = answer
            && answer.status.is_success()
        {
            malformed = self.take(&answer.body, tellings);
            self.remember(&answer.headers);
            if malformed > 0 && self.missing == 0 {
                let why = format!("{malformed} values are not in its answer, or too large");
                news = Some(News::Trouble(why));
            }
            self.missing = malformed;
        }
        let wait = match answer {
            Ok(answer) if is_well(answer) => {
                self.backoff.reset();
                self.every
            }
            Ok(answer) => self.backoff.next_wait().max(answer.retry_after().unwrap_or_default()),
            Err(_) => self.backoff.next_wait(),
        };
        Outcome { wait, malformed, news }
    }

    /// Tells what is another value than before. Gives how many were not there.
    fn take(&mut self, body: &[u8], tellings: &mut Vec<Telling>) -> u64 {
        let found = match std::str::from_utf8(body) {
            Ok(text) => value::of_text(text.trim_end_matches(['\r', '\n'])),
            Err(_) => value::of_bytes(body),
        };
        let mut malformed = 0;
        for Watched { address, pointer, told } in &mut self.values {
            let Some(found) = found.pointer(pointer) else {
                malformed += 1;
                continue;
            };
            if told.as_ref() == Some(found) {
                continue;
            }
            let Ok(value) = value::encode(found) else {
                malformed += 1;
                continue;
            };
            *told = Some(found.clone());
            let is_param = self.kind == Kind::Param;
            tellings.push(Telling { address: address.clone(), value, is_param });
        }
        malformed
    }

    /// What the server must be told to answer 304 (RFC 9110 §13).
    fn remember(&mut self, headers: &HeaderMap) {
        for (said, asked) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            match headers.get(said) {
                Some(value) => drop(self.asked.headers.insert(asked, value.clone())),
                None => drop(self.asked.headers.remove(asked)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn poll(values: Json) -> Poll {
        let table = json!({ "url": "http://h/x", "values": values, "every_s": 2 });
        let options: PollOptions = serde_json::from_value(table).expect("known keys");
        options.open("poll[0]").expect("good")
    }

    fn answer(status: u16, body: &str) -> Result<Answer, Failed> {
        Ok(Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"7\""))]),
            body: Bytes::from(body.to_owned()),
        })
    }

    /// What is told after this answer, as addresses and JSON.
    fn told(poll: &mut Poll, answer: &Result<Answer, Failed>) -> Vec<(String, Json)> {
        let mut tellings = Vec::new();
        poll.answered(answer, &mut tellings);
        let read = |telling: Telling| {
            let value = clasp_rt_core::value::Value::from_encoded(&telling.value).expect("encoded");
            (telling.address, serde_json::from_str(&value::text(value)).expect("JSON"))
        };
        tellings.into_iter().map(read).collect()
    }

    #[test]
    fn what_is_new_is_told_once_and_what_is_missing_is_counted() {
        let mut poll = poll(json!({ "/w/t": "/main/temp", "/w/all": "", "/w/first": "/l/0" }));
        let first = r#"{"main":{"temp":21.5},"l":["a"]}"#;
        let all = serde_json::from_str(first).expect("JSON");
        assert_eq!(
            told(&mut poll, &answer(200, first)),
            [("/w/all".into(), all), ("/w/first".into(), json!("a")), ("/w/t".into(), json!(21.5))]
        );
        assert_eq!(poll.question().headers.get(IF_NONE_MATCH).expect("an ETag"), "\"7\"");
        assert_eq!(told(&mut poll, &answer(200, first)), []);
        assert_eq!(told(&mut poll, &answer(304, "")), []);
        let mut tellings = Vec::new();
        let outcome = poll.answered(&answer(200, r#"{"l":["b"]}"#), &mut tellings);
        assert_eq!((outcome.malformed, tellings.len()), (1, 2), "no temperature, {tellings:?}");
        assert!(matches!(outcome.news, Some(News::Trouble(_))));
    }

    #[test]
    fn an_answer_that_is_no_json_is_text_or_bytes() {
        let mut poll = poll(json!({ "/x": "" }));
        assert_eq!(told(&mut poll, &answer(200, "21.5\n")), [("/x".into(), json!(21.5))]);
        assert_eq!(told(&mut poll, &answer(200, "on air\r\n")), [("/x".into(), json!("on air"))]);
        let bytes = Answer { body: Bytes::from_static(&[255, 0]), ..answer(200, "").expect("one") };
        assert_eq!(told(&mut poll, &Ok(bytes)), [("/x".into(), json!({ "$bytes": "ff00" }))]);
    }

    #[test]
    fn a_server_that_fails_is_asked_more_rarely_and_its_trouble_is_told_once() {
        let mut poll = poll(json!({ "/x": "" }));
        let mut waits = Vec::new();
        let mut news = Vec::new();
        for _ in 0..12 {
            let outcome = poll.answered(&Err(Failed::TimedOut), &mut Vec::new());
            waits.push(outcome.wait);
            news.extend(outcome.news);
        }
        assert_eq!(news, [News::Trouble("it did not answer in time".into())]);
        assert!(waits[0] <= Duration::from_secs(2) && waits[0] >= Duration::from_secs(1));
        assert!(waits[11] <= PAUSE_MAX && waits[11] >= PAUSE_MAX / 2, "{waits:?}");
        let outcome = poll.answered(&answer(200, "1"), &mut Vec::new());
        assert_eq!((outcome.wait, outcome.news), (Duration::from_secs(2), Some(News::Well)));
    }

    #[test]
    fn every_mistake_is_told_under_its_key() {
        for (table, key) in [
            (json!({ "url": "here", "values": { "/a": "" } }), "poll[3].url"),
            (json!({ "url": "http://h/", "values": {} }), "poll[3].values"),
            (json!({ "url": "http://h/", "values": { "a": "" } }), "poll[3].values"),
            (json!({ "url": "http://h/", "values": { "/a": "b" } }), "poll[3].values"),
            (
                json!({ "url": "http://h/", "values": { "/a": "" }, "every_s": 0 }),
                "poll[3].every_s",
            ),
            (
                json!({ "url": "http://h/", "values": { "/a": "" }, "headers": { "a b": "c" } }),
                "poll[3].headers",
            ),
        ] {
            let options: PollOptions = serde_json::from_value(table.clone()).expect("known keys");
            assert_eq!(options.open("poll[3]").expect_err("cannot work").key, key, "{table}");
        }
    }
}

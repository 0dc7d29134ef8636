//! Params, events and bundles by request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use clasp_rt_core::pattern;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value as Json, json};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::App;
use super::address::Namespace;
use super::body::{self, Sent};
use super::condition::Condition;
use super::deleted::{LAST_SECOND, LASTING};
use super::problem::Problem;
use crate::web::admission;
use crate::web::seats::{ANSWER_TIMEOUT, Failure};
use crate::web::talk::{Answer, Ask, Param, SetAsk};
use crate::web::value;

/// Snapshots that are made at once, so that one session of those that read is left for short
/// requests; more wait in line.
pub(super) const SNAPSHOTS_MAX: usize = 2;

/// How long a snapshot waits for its turn.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// Params that are written before others of this thread have their turn.
const PARAMS_PER_TURN: usize = 1_000;

/// Lets others go first, now and then.
async fn let_others(index: usize) {
    if index % PARAMS_PER_TURN == PARAMS_PER_TURN - 1 {
        yield_now().await;
    }
}

type Reply = Result<Response, Problem>;

impl App {
    /// What lies behind `route`, or behind the base, in `path`.
    fn rest<'a>(&self, path: &'a str, route: &str) -> &'a str {
        let rest = path.strip_prefix(route).filter(|rest| !rest.is_empty());
        rest.or_else(|| path.strip_prefix(self.options.base.as_str())).unwrap_or_default()
    }

    /// The param that is held, if any.
    async fn get(&self, token: Option<&str>, address: &str) -> Result<Option<Param>, Problem> {
        let ask = Ask::Get { address: address.to_owned() };
        let Answer::Param(param) = self.seats.ask(token, &ask).await? else { return Ok(None) };
        Ok(Some(param).filter(|param| !self.is_deleted(param)))
    }

    fn is_deleted(&self, param: &Param) -> bool {
        self.deleted.is_deleted(&param.address, param.revision)
    }

    /// All params of a pattern, under the addresses that the router has.
    async fn params(&self, token: Option<&str>, pattern: &str) -> Result<Vec<Param>, Problem> {
        let turn = timeout(SNAPSHOT_PATIENCE, self.snapshots.acquire()).await;
        let _turn = turn.map_err(|_| Failure::Full)?.map_err(|_| Failure::Full)?;
        let ask = Ask::Snapshot { pattern: pattern.to_owned() };
        let Answer::Params(mut params) = self.seats.ask(token, &ask).await? else {
            return Ok(Vec::new());
        };
        params.retain(|param| !self.is_deleted(param));
        let (count, most) = (params.len(), self.options.params_max);
        if count > most {
            let why = format!("{pattern} means {count} params, more than {most}: ask for fewer");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(params)
    }

    async fn body(&self, request: Request) -> Result<Sent, Problem> {
        let (parts, body) = request.into_parts();
        let most = self.options.body_bytes_max;
        let too_long = |has: &str| {
            let why = format!("a body has at most {most} bytes here; this one has {has}");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why)
        };
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let announced = announced.and_then(|length| length.parse::<usize>().ok());
        if let Some(length) = announced.filter(|&length| length > most) {
            return Err(too_long(&length.to_string()));
        }
        let bytes = timeout(ANSWER_TIMEOUT, to_bytes(body, most)).await;
        let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
        let bytes = bytes.map_err(|_| late())?.map_err(|_| too_long("more"))?;
        body::read(&parts.headers, &bytes)
    }

    /// Sets one param, if the condition is met; gives its new revision.
    async fn set(
        &self,
        token: Option<&str>,
        mut set: SetAsk,
        condition: &Condition,
    ) -> Result<u64, Problem> {
        let is_dying = self.deleted.may_be_dying(&set.address);
        if *condition != Condition::Any {
            let held = self.get(token, &set.address).await?.map(|param| param.revision);
            if !condition.is_met(held) {
                return Err(Problem::unmet(held));
            }
            // Where there is no param any revision will do, so none that a param can have is
            // named: whoever comes between makes it fail. What is dying counts as none.
            set.revision = match held {
                None if is_dying => None,
                held => held.or(Some(0)),
            };
        }
        if is_dying {
            set.ttl.get_or_insert(LASTING);
        }
        match self.seats.ask(token, &Ask::Set(set)).await {
            Ok(Answer::Written { revision }) => Ok(revision),
            Ok(other) => Err(strange(&other)),
            Err(failure) => {
                let mut problem = Problem::from(failure);
                if *condition != Condition::Any && problem.status == StatusCode::CONFLICT {
                    problem.status = StatusCode::PRECONDITION_FAILED;
                }
                Err(problem)
            }
        }
    }

    /// The same SET for every param that a pattern means now: all of them, or none.
    async fn set_all(
        &self,
        token: Option<&str>,
        pattern: &str,
        change: &Map<String, Json>,
    ) -> Result<Vec<Param>, Problem> {
        let params = self.params(token, pattern).await?;
        let Some(first) = params.first() else { return Ok(params) };
        // What is wrong with it is wrong with each.
        body::set(&first.address, Some(Json::Object(change.clone())))?;
        let messages = params.iter().map(|param| {
            let mut message = change.clone();
            message.insert("type".into(), json!("SET"));
            message.insert("address".into(), json!(param.address));
            Json::Object(message)
        });
        let all = json!({ "messages": messages.collect::<Vec<_>>() });
        // These addresses are those of the router already.
        let bundle = body::bundle(&Namespace::default(), all.into()).map_err(|problem| {
            let count = params.len();
            let detail =
                format!("{pattern} means {count} params: {}; ask for fewer", problem.detail);
            Problem { detail, ..problem }
        })?;
        self.seats.ask(token, &bundle.ask).await?;
        Ok(params)
    }

    /// The token that a request brings, or the one of those who bring none.
    pub(super) fn token_of(
        &self,
        headers: &HeaderMap,
        query: Option<String>,
    ) -> Result<Option<String>, Problem> {
        let wrong = |why| Problem::new(StatusCode::UNAUTHORIZED, why);
        let said = admission::bearer(headers).map_err(wrong)?.or(query);
        Ok(said.or_else(|| self.options.token.clone()))
    }

    /// Gives a param the address that it has outside.
    fn rename(&self, param: &mut Param) {
        if let Some(outside) = self.namespace.strip(&param.address) {
            param.address = outside.to_owned();
        }
    }
}

/// `GET /v1/state/{address}`
pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let path = app.rest(request.uri().path(), "/v1/state");
    if is_pattern(path) {
        return list(&app, token.as_deref(), path).await;
    }
    let address = app.namespace.address_of(path).map_err(Problem::wrong)?;
    let condition = Condition::of(request.headers()).map_err(Problem::wrong)?;
    let Some(mut param) = app.get(token.as_deref(), &address).await? else {
        return Err(Problem::missing(&address));
    };
    let revision = param.revision;
    match condition {
        _ if condition.is_met(Some(revision)) => {}
        Condition::NoneOf(_) | Condition::Absent => {
            return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), revision));
        }
        _ => return Err(Problem::unmet(Some(revision))),
    }
    app.rename(&mut param);
    let mut text = String::new();
    param.push_json(&mut text);
    Ok(tagged(json_text(StatusCode::OK, text), revision))
}

/// `PUT /v1/state/{address}`
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let uri = request.uri().clone();
    let condition = Condition::of(request.headers()).map_err(Problem::wrong)?;
    let path = app.rest(uri.path(), "/v1/state");
    if is_pattern(path) {
        let pattern = app.namespace.pattern_of(path).map_err(Problem::wrong)?;
        unconditional(&condition)?;
        let json = app.body(request).await?.exact()?;
        let change = match json.ok_or_else(|| Problem::wrong("a value is needed in the body"))? {
            Json::Object(map) if map.contains_key("value") => map,
            value => Map::from_iter([("value".to_owned(), value)]),
        };
        let params = app.set_all(token.as_deref(), &pattern, &change).await?;
        return Ok(json_text(StatusCode::OK, json!({ "count": params.len() }).to_string()));
    }
    let address = app.namespace.address_of(path).map_err(Problem::wrong)?;
    let sent = app.body(request).await?;
    let bytes = sent.bytes;
    let set = body::set(&address, sent.exact()?).map_err(|problem| problem.of_body(bytes))?;
    let revision = app.set(token.as_deref(), set, &condition).await?;
    let outside = app.namespace.strip(&address).unwrap_or(&address);
    let text = json!({ "address": outside, "revision": revision }).to_string();
    let status = if revision == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(tagged(json_text(status, text), revision))
}

/// `DELETE /v1/state/{address}`
pub(super) async fn remove(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let token = token.as_deref();
    let condition = Condition::of(request.headers()).map_err(Problem::wrong)?;
    let path = app.rest(request.uri().path(), "/v1/state");
    if is_pattern(path) {
        unconditional(&condition)?;
        let pattern = app.namespace.pattern_of(path).map_err(Problem::wrong)?;
        let change = Map::from_iter([
            ("value".to_owned(), Json::Null),
            ("ttl".to_owned(), json!({ "absolute": 1 })),
        ]);
        let params = app.set_all(token, &pattern, &change).await?;
        for param in &params {
            app.deleted.remember(&param.address, param.revision + 1);
        }
        return Ok(json_text(StatusCode::OK, json!({ "count": params.len() }).to_string()));
    }
    let address = app.namespace.address_of(path).map_err(Problem::wrong)?;
    let Some(held) = app.get(token, &address).await? else {
        return Err(Problem::missing(&address));
    };
    if !condition.is_met(Some(held.revision)) {
        return Err(Problem::unmet(Some(held.revision)));
    }
    let set = SetAsk {
        address: address.clone(),
        value: value::encode(&Json::Null)?,
        revision: (condition != Condition::Any).then_some(held.revision),
        lock: false,
        unlock: false,
        ttl: Some(LAST_SECOND),
    };
    let revision = match app.seats.ask(token, &Ask::Set(set)).await? {
        Answer::Written { revision } => revision,
        other => return Err(strange(&other)),
    };
    app.deleted.remember(&address, revision);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/emit/{address}`
pub(super) async fn emit(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let uri = request.uri().clone();
    let address = app.namespace.address_of(app.rest(uri.path(), "/v1/emit"));
    let address = address.map_err(Problem::wrong)?;
    let sent = app.body(request).await?;
    let bytes = sent.bytes;
    let publish = body::publish(&address, sent.exact()?);
    let publish = publish.map_err(|problem| problem.of_body(bytes))?;
    app.seats.ask(token.as_deref(), &publish).await?;
    let outside = app.namespace.strip(&address).unwrap_or(&address);
    Ok(json_text(StatusCode::ACCEPTED, json!({ "address": outside }).to_string()))
}

/// `GET /v1/snapshot/{pattern}`
pub(super) async fn snapshot(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut named = form_urlencoded::parse(query).map(|(_, pattern)| pattern);
    if let Some(pattern) = named.next() {
        pattern::check(&pattern).map_err(|why| {
            Problem::wrong(format!("pattern: `{pattern}`: {why}; such as /lights/**"))
        })?;
        if named.next().is_some() {
            return Err(Problem::wrong("a snapshot has one `pattern`"));
        }
        return snapshot_of(&app, token.as_deref(), &app.namespace.join(&pattern)).await;
    }
    let path = app.rest(request.uri().path(), "/v1/snapshot");
    list(&app, token.as_deref(), path).await
}

async fn list(app: &App, token: Option<&str>, path: &str) -> Reply {
    let pattern = app.namespace.pattern_of(path).map_err(Problem::wrong)?;
    snapshot_of(app, token, &pattern).await
}

async fn snapshot_of(app: &App, token: Option<&str>, pattern: &str) -> Reply {
    let mut params = app.params(token, pattern).await?;
    let mut text = format!("{{\"count\":{},\"params\":[", params.len());
    for (index, param) in params.iter_mut().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let_others(index).await;
        app.rename(param);
        param.push_json(&mut text);
    }
    text.push_str("]}");
    Ok(json_text(StatusCode::OK, text))
}

/// `GET /api/signals`, in the form that the reference's bridge has.
pub(super) async fn signals(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let pattern = app.namespace.pattern_of("/").map_err(Problem::wrong)?;
    let mut params = app.params(token.as_deref(), &pattern).await?;
    let mut text = String::from("{\"signals\":[");
    for (index, param) in params.iter_mut().enumerate() {
        if index > 0 {
            text.push(',');
        }
        app.rename(param);
        text.push_str("{\"address\":");
        clasp_rt_bridges::json::push_string(&param.address, &mut text);
        text.push_str(",\"value\":");
        text.push_str(&param.value);
        text.push('}');
    }
    text.push_str(&format!("],\"count\":{}}}", params.len()));
    Ok(json_text(StatusCode::OK, text))
}

/// `POST /v1/bundle`
pub(super) async fn bundle(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    let sent = app.body(request).await?;
    let bytes = sent.bytes;
    let bundle = body::bundle(&app.namespace, sent).map_err(|problem| problem.of_body(bytes))?;
    let asked = app.seats.ask(token.as_deref(), &bundle.ask).await;
    let text = match asked.map_err(|failure| bundle.at_fault(&app.namespace, failure))? {
        Answer::Applied { revision: Some(revision) } => json!({ "revision": revision }),
        Answer::Applied { revision: None } => json!({}),
        other => return Err(strange(&other)),
    };
    Ok(json_text(StatusCode::OK, text.to_string()))
}

/// `GET /v1/health`
pub(super) async fn health(State(app): State<Arc<App>>, request: Request) -> Reply {
    let token = app.token_of(request.headers(), None)?;
    match app.seats.ask(token.as_deref(), &Ask::Sync).await {
        Ok(_) => {}
        // It answers, if only to say who may ask.
        Err(Failure::Refused(refused)) if matches!(refused.code, 300..=302) => {}
        Err(failure) => return Err(failure.into()),
    }
    Ok(json_text(StatusCode::OK, json!({ "status": "ok" }).to_string()))
}

fn is_pattern(path: &str) -> bool {
    path.contains('*')
}

fn unconditional(condition: &Condition) -> Result<(), Problem> {
    match condition {
        Condition::Any => Ok(()),
        _ => Err(Problem::wrong("If-Match and If-None-Match speak of one param, not of a pattern")),
    }
}

/// The router answered something else than what was asked.
fn strange(answer: &Answer) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, format!("the router answered {answer:?}"))
}

pub(super) fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What was read may be kept, but must be asked for again.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

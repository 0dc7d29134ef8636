//! The router written naively, a map and a loop, and one real shard held against it word by word.

mod contest;

use std::collections::BTreeMap;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::Message;
use clasp_rt_core::pattern;
use clasp_rt_core::shard::{
    Admit, CloseReason, Effects, Input, Lane, Outcome, Settings, Shard, SourceFor,
};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_core::{LinkId, ShardId};

use contest::{Contest, HIGHEST, LATEST, Said};

use crate::ledger::{Act, Number};
use crate::speech::{self, Line};

const SESSIONS: usize = 3;

const ADDRESSES: [&str; 8] = ["/a", "/a/b", "/a/b/c", "/b/b", "/b/c/a", "/c", HIGHEST, LATEST];

/// Sources that the sessions speak for.
const SOURCES: [&str; 2] = ["desk", "tablet"];

/// The session whose name gives it a higher priority.
const MAIN: usize = 2;

const PATTERNS: [&str; 8] = ["/**", "/a/**", "/*/b", "/a", "/*/*/*", "/**/b/**", "/h/x", "/*/x"];

/// Longer scripts say nothing new.
const OPERATIONS_MAX: usize = 400;

/// One thing that one session does.
#[derive(Clone, Debug)]
enum Operation {
    Say(Line),
    Bundle(Vec<Line>),
    Get(&'static str),
    Subscribe {
        id: u32,
        pattern: &'static str,
    },
    Unsubscribe {
        id: u32,
    },
    Ping,
    /// Sets two addresses in the name of another source.
    Marked {
        id: &'static str,
        priority: Option<u8>,
        lines: Vec<Line>,
    },
    /// Says that a source of its own is lost, or that it is there.
    Sign {
        id: &'static str,
        key: &'static str,
    },
    Why(&'static str),
    /// Milliseconds pass.
    Wait(u64),
    /// Leaves, and comes back as somebody new.
    Return,
}

/// Runs the operations that `script` spells on a real shard and on the naive router; panics where a
/// session hears something else.
pub fn agrees(script: &[u8]) {
    let mut real = Real::new();
    let mut naive = Naive::default();
    for session in 0..SESSIONS {
        real.open(session);
        naive.heard[session].clear();
    }
    real.heard.iter_mut().for_each(Vec::clear);
    let mut past = Vec::new();
    for (count, (session, operation)) in operations(script).into_iter().enumerate() {
        real.obey(session, &operation);
        naive.obey(session, &operation, real.now);
        past.push((count, session, operation));
        for hearer in 0..SESSIONS {
            let found = ordered(std::mem::take(&mut real.heard[hearer]));
            let expected = ordered(std::mem::take(&mut naive.heard[hearer]));
            assert!(
                found == expected,
                "session {hearer} heard {found:#?}\nand should have heard {expected:#?}\nafter \
                 (count, session, operation) {:#?}",
                &past[past.len().saturating_sub(20)..]
            );
        }
    }
}

/// Lines of a snapshot have no order among themselves; they come after what they answer to.
fn ordered(mut heard: Vec<String>) -> Vec<String> {
    // Params whose sources are lost at one instant are settled in no order, either.
    heard.sort_by_key(|line| {
        let contended = [HIGHEST, LATEST].into_iter().find(|address| line.contains(*address));
        match line.starts_with("KNOWN") {
            true => (2, line.clone()),
            false => (usize::from(contended.is_some()), contended.unwrap_or_default().to_owned()),
        }
    });
    heard
}

/// Three bytes are one operation: what, who, and with what.
fn operations(script: &[u8]) -> Vec<(usize, Operation)> {
    let mut count = 0;
    let mut line = |with: u8, act| {
        count += 1;
        let address = ADDRESSES[usize::from(with) % ADDRESSES.len()];
        // Who contends says little things, so that they meet.
        let contends = Contest::of(address).is_some();
        let number = if contends { i64::from(with >> 4) } else { count };
        Line::new(address, act, Number(number))
    };
    let spelt = script.chunks_exact(3).take(OPERATIONS_MAX).map(|letters| {
        let (what, who, with) = (letters[0] % 28, letters[1], letters[2]);
        let id = u32::from(with % 3);
        let operation = match what {
            0..6 => Operation::Say(line(with, Act::Set)),
            6..8 => {
                let revision = Some(u64::from(with >> 4));
                Operation::Say(Line { revision, ..line(with, Act::Set) })
            }
            8 => Operation::Say(Line { lock: true, ..line(with, Act::Set) }),
            9 | 10 => Operation::Say(Line { unlock: true, ..line(with, Act::Set) }),
            11 => Operation::Get(ADDRESSES[usize::from(with) % ADDRESSES.len()]),
            12..15 => {
                let pattern = PATTERNS[usize::from(with >> 3) % PATTERNS.len()];
                Operation::Subscribe { id, pattern }
            }
            15 => Operation::Unsubscribe { id },
            16 => Operation::Say(line(with, Act::Event)),
            17 | 18 => {
                let revision = (with & 0x40 != 0).then_some(u64::from(with >> 5));
                Operation::Bundle(vec![
                    line(with, Act::Set),
                    line(with, Act::Event),
                    Line { revision, ..line(with.wrapping_add(1), Act::Set) },
                ])
            }
            20..23 => Operation::Marked {
                id: SOURCES[usize::from(who >> 4) % SOURCES.len()],
                priority: [None, Some(90), Some(100), Some(130)][usize::from(who >> 6)],
                lines: vec![line(with, Act::Set), line(with.wrapping_add(1), Act::Set)],
            },
            23 => Operation::Sign {
                id: SOURCES[usize::from(with) % SOURCES.len()],
                key: if with & 4 == 0 { "release" } else { "alive" },
            },
            24 => Operation::Why(if with & 1 == 0 { HIGHEST } else { LATEST }),
            25 | 26 => Operation::Wait(u64::from(with) * if with & 8 == 0 { 1 } else { 100 }),
            _ if with & 1 == 0 => Operation::Ping,
            _ => Operation::Return,
        };
        (usize::from(who) % SESSIONS, operation)
    });
    spelt.collect()
}

/// What a param holds, as the naive router sees it.
#[derive(Clone, Copy, Debug)]
struct Param {
    value: i64,
    revision: u64,
    /// The session that locked it.
    holder: Option<usize>,
}

/// A map and a loop.
#[derive(Clone, Debug, Default)]
struct Naive {
    params: BTreeMap<&'static str, Param>,
    contests: BTreeMap<&'static str, Contest>,
    /// When a session last said that a source of its own is there.
    alive: BTreeMap<(usize, &'static str), Time>,
    /// How often each session came back, as somebody new.
    lives: [usize; SESSIONS],
    now: Time,
    subscriptions: [BTreeMap<u32, &'static str>; SESSIONS],
    heard: [Vec<String>; SESSIONS],
}

impl Naive {
    fn obey(&mut self, session: usize, operation: &Operation, now: Time) {
        self.now = now;
        self.do_as(session, operation);
        self.lose(now, |_, _| false);
    }

    fn do_as(&mut self, session: usize, operation: &Operation) {
        match operation {
            Operation::Say(line) if line.act == Act::Set => match self.refuses(session, line) {
                true => self.heard[session].push(error(400, &line.address)),
                false => {
                    let revision = self.set(session, None, line);
                    self.heard[session].push(acknowledged(Some(&line.address), Some(revision)));
                }
            },
            Operation::Say(line) => self.publish(session, line),
            Operation::Bundle(lines) => {
                let sets = || lines.iter().filter(|line| line.act == Act::Set);
                if sets().any(|line| self.refuses(session, line)) {
                    self.heard[session].push("ERROR for a bundle".to_owned());
                    return;
                }
                let mut revision = None;
                for line in lines {
                    match line.act {
                        Act::Set => revision = Some(self.set(session, None, line)),
                        _ => self.publish(session, line),
                    }
                }
                self.heard[session].push(acknowledged(None, revision));
            }
            Operation::Get(address) => {
                let said = match self.params.get(address) {
                    Some(param) => known(address, param.value, param.revision),
                    None => error(201, address),
                };
                self.heard[session].push(said);
            }
            Operation::Subscribe { id, pattern } => {
                self.subscriptions[session].insert(*id, pattern);
                self.show(session, pattern);
            }
            Operation::Unsubscribe { id } => drop(self.subscriptions[session].remove(id)),
            Operation::Ping => self.heard[session].push("PONG".to_owned()),
            Operation::Marked { id, priority, lines } => {
                if lines.iter().any(|line| self.refuses(session, line)) {
                    self.heard[session].push("ERROR for a bundle".to_owned());
                    return;
                }
                let mut revision = None;
                for line in lines {
                    revision = Some(self.set(session, Some((*id, *priority)), line));
                }
                self.heard[session].push(acknowledged(None, revision));
            }
            Operation::Sign { id, key: "alive" } => {
                if self.contests.values().any(|contest| contest.has(session, id)) {
                    self.alive.insert((session, *id), self.now);
                }
            }
            Operation::Sign { id, .. } => {
                self.lose(self.now, |who, other| who == session && other == *id);
            }
            Operation::Why(address) => {
                let said = match (self.params.get(address), self.contests.get(address)) {
                    (Some(param), Some(contest)) => {
                        format!("WHY {address} {} {}", param.value, contest.told())
                    }
                    (Some(param), None) => format!("WHY {address} {} held", param.value),
                    _ => error(201, &format!("/clasp/why{address}")),
                };
                self.heard[session].push(said);
            }
            Operation::Wait(_) => {}
            Operation::Return => {
                self.lose(self.now - STEP - STEP, |who, _| who == session);
                self.lose(self.now - STEP, |_, _| false);
                self.lives[session] += 1;
                self.subscriptions[session].clear();
                for param in self.params.values_mut() {
                    param.holder = param.holder.filter(|holder| *holder != session);
                }
                self.heard[session] = vec!["WELCOME".to_owned()];
                self.show(session, "/**");
            }
        }
    }

    fn refuses(&self, session: usize, line: &Line) -> bool {
        self.params.get(line.address.as_str()).is_some_and(|param| {
            let locked = param.holder.is_some_and(|holder| holder != session);
            locked || line.revision.is_some_and(|revision| revision != param.revision)
        })
    }

    /// `source`: who it is that the session speaks for, and with which priority.
    fn set(
        &mut self,
        session: usize,
        source: Option<(&'static str, Option<u8>)>,
        line: &Line,
    ) -> u64 {
        let address = of_table(&line.address);
        let mut value = line.number.0;
        if let Some(contest) = Contest::of(address) {
            let own = if session == MAIN { 120 } else { 100 };
            let name = name_of(session, self.lives[session]);
            let (id, priority) = match &source {
                Some((id, priority)) => (*id, priority.unwrap_or(own)),
                None => (name.as_str(), own),
            };
            let said = Said { session, id, priority, value };
            let contest = self.contests.entry(address).or_insert(contest);
            let (duel, wins) = contest.say(self.now, &said);
            value = wins;
            if duel {
                self.tell("/clasp/duel", None, &format!("EVENT /clasp/duel about {address}"));
            }
        }
        let vacant = Param { value: 0, revision: 0, holder: None };
        let param = self.params.entry(address).or_insert(vacant);
        let changes = Contest::of(address).is_none() || param.revision == 0 || param.value != value;
        param.value = value;
        param.revision += u64::from(changes);
        if line.unlock {
            param.holder = None;
        }
        if line.lock {
            param.holder = Some(session);
        }
        let revision = param.revision;
        if changes {
            self.tell(address, None, &format!("SET {address} {value} revision {revision}"));
        }
        revision
    }

    /// Ends the claims of those who are gone or were silent too long.
    fn lose(&mut self, now: Time, gone: impl Fn(usize, &str) -> bool) {
        let Self { contests, alive, params, .. } = self;
        let alive = |session, id: &str| {
            let said = alive.iter().find(|((who, of), _)| *who == session && *of == id);
            said.map_or(Time(0), |(_, at)| *at)
        };
        let mut told = Vec::new();
        for (address, contest) in contests {
            let (Some(value), Some(param)) =
                (contest.lose(now, alive, &gone), params.get_mut(address))
            else {
                continue;
            };
            if param.value != value {
                (param.value, param.revision) = (value, param.revision + 1);
                let revision = param.revision;
                told.push((*address, format!("SET {address} {value} revision {revision}")));
            }
        }
        for (address, said) in told {
            self.tell(address, None, &said);
        }
        // Who claims nothing any more is somebody new when it comes back.
        let Self { contests, alive, .. } = self;
        alive.retain(|(session, id), _| contests.values().any(|c| c.has(*session, id)));
    }

    fn publish(&mut self, session: usize, line: &Line) {
        let address = of_table(&line.address);
        self.tell(address, Some(session), &format!("EVENT {address} {}", line.number.0));
    }

    fn tell(&mut self, address: &str, except: Option<usize>, said: &str) {
        for session in (0..SESSIONS).filter(|session| Some(*session) != except) {
            let mut patterns = self.subscriptions[session].values();
            if patterns.any(|pattern| pattern::matches(pattern, address)) {
                self.heard[session].push(said.to_owned());
            }
        }
    }

    fn show(&mut self, session: usize, pattern: &str) {
        let matching = self.params.iter().filter(|(address, _)| pattern::matches(pattern, address));
        let lines = matching.map(|(address, param)| known(address, param.value, param.revision));
        self.heard[session].extend(lines.collect::<Vec<_>>());
    }
}

fn of_table(address: &str) -> &'static str {
    ADDRESSES.into_iter().find(|known| *known == address).expect("scripts use these addresses only")
}

fn known(address: &str, value: i64, revision: u64) -> String {
    format!("KNOWN {address} {value} revision {revision}")
}

fn acknowledged(address: Option<&str>, revision: Option<u64>) -> String {
    format!("ACK {address:?} {revision:?}")
}

fn error(code: u16, address: &str) -> String {
    format!("ERROR {code} {address}")
}

/// One shard whose links take everything at once.
struct Real {
    shard: Shard,
    now: Time,
    /// The ids of the sessions, by life.
    ids: [Vec<String>; SESSIONS],
    heard: [Vec<String>; SESSIONS],
}

/// Between two inputs.
const STEP: Span = Span::from_micros(10);

impl Real {
    fn new() -> Self {
        let limits = Limits {
            links_max: 8,
            subscriptions_max: 64,
            params_max: 64,
            param_bytes_max: 1 << 20,
            signals_max: 8,
            signal_bytes_max: 8 << 10,
            outbox_entries_max: 1_024,
            outbox_pool_bytes: 1 << 20,
            paced_max: 8,
            gestures_max: 8,
            bundles_max: 8,
            timelines_max: 8,
            held_bytes_max: 256 << 10,
            history_bytes: 8 << 10,
            tombstones_max: 8,
            claims_max: 64,
            ..Limits::default()
        };
        let settings = Settings {
            limits,
            rate_limit: None,
            session_timeout: None,
            arbitrations: contest::arbitrations(),
            sources: vec![SourceFor { name: format!("session {MAIN}"), priority: 120 }],
            ..Settings::default()
        };
        let (ids, heard) = Default::default();
        Self { shard: Shard::new(settings), now: Time(0), ids, heard }
    }

    fn open(&mut self, session: usize) {
        let link = LinkId(session as u32);
        self.step(Input::Opened { link, admit: Admit::Stranger });
        self.step(Input::Frame { link, frame: &speech::hello(&format!("session {session}")) });
    }

    fn obey(&mut self, session: usize, operation: &Operation) {
        let link = LinkId(session as u32);
        let is_bundle = matches!(operation, Operation::Bundle(_) | Operation::Marked { .. });
        let frame = match operation {
            Operation::Say(line) => line.frame(),
            Operation::Bundle(lines) => speech::bundle(lines, None),
            Operation::Get(address) => speech::get(address),
            Operation::Subscribe { id, pattern } => speech::subscribe(*id, pattern, None),
            Operation::Unsubscribe { id } => speech::unsubscribe(*id),
            Operation::Ping => speech::ping(),
            Operation::Marked { id, priority, lines } => {
                speech::marked(id, *priority, lines, Qos::Confirm)
            }
            Operation::Sign { id, key } => speech::sign(id, key),
            Operation::Why(address) => speech::get(&format!("/clasp/why{address}")),
            Operation::Wait(ms) => {
                self.now = self.now + Span::from_millis(*ms);
                return self.step(Input::Alive { link });
            }
            Operation::Return => {
                self.step(Input::Closed { link });
                self.heard[session].clear();
                return self.open(session);
            }
        };
        self.step(Input::Frame { link, frame: &frame });
        if is_bundle {
            for said in &mut self.heard[session] {
                if said.starts_with("ERROR") {
                    "ERROR for a bundle".clone_into(said);
                }
            }
        }
    }

    /// Steps `input`, then whatever is due, then lets the links take what was sent; until all
    /// rests.
    fn step(&mut self, input: Input<'_>) {
        self.now = self.now + STEP;
        let mut taken = Taken::default();
        assert_eq!(self.shard.step(self.now, input, &mut taken), Outcome::Taken, "{input:?}");
        loop {
            let due = self.shard.deadline().is_some_and(|due| due <= self.now);
            if !due && taken.frames.is_empty() {
                return;
            }
            for (link, frame) in std::mem::take(&mut taken.frames) {
                let said = lines(&frame, link.0 as usize, &mut self.ids);
                self.heard[link.0 as usize].extend(said);
                let bytes = frame.len() as u32;
                let outcome = self.shard.step(self.now, Input::Sent { link, bytes }, &mut taken);
                assert_eq!(outcome, Outcome::Taken);
            }
            if due {
                let deadline = Input::Deadline { forward_room: true };
                assert_eq!(self.shard.step(self.now, deadline, &mut taken), Outcome::Taken);
            }
        }
    }
}

#[derive(Default)]
struct Taken {
    frames: Vec<(LinkId, Vec<u8>)>,
}

impl Effects for Taken {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.frames.push((link, frame.to_vec()));
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        panic!("{link:?} is closed: {reason:?}");
    }

    fn to_peer(&mut self, shard: ShardId, _: Lane, _: &[u8]) {
        panic!("one shard hands a record to {shard:?}");
    }

    fn resume(&mut self, _: LinkId) {}
}

/// A frame as the naive router would put it, which knows sessions by their names. What tells who a
/// session is, it leaves out.
fn lines(frame: &[u8], session: usize, ids: &mut [Vec<String>; SESSIONS]) -> Vec<String> {
    let payload = header::parse(frame).expect("a shard sends whole frames").payload;
    match binary::decode(payload).expect("a shard sends messages") {
        Message::Welcome(welcome) => {
            ids[session].push(welcome.session.to_owned());
            vec!["WELCOME".to_owned()]
        }
        Message::Set(set) if set.address.starts_with(SOURCE) => Vec::new(),
        Message::Pong => vec!["PONG".to_owned()],
        Message::Set(set) => {
            let (value, revision) = (set.value.as_i64().unwrap_or(-1), set.revision.unwrap_or(0));
            vec![format!("SET {} {value} revision {revision}", set.address)]
        }
        Message::Publish(publish) if publish.address == "/clasp/duel" => {
            let about = publish.value.and_then(|value| value.get("address")?.as_str());
            vec![format!("EVENT /clasp/duel about {}", about.unwrap_or_default())]
        }
        Message::Publish(publish) => {
            let value = publish.value.and_then(|value| value.as_i64()).unwrap_or(-1);
            vec![format!("EVENT {} {value}", publish.address)]
        }
        Message::Ack(ack) => vec![acknowledged(ack.address, ack.revision)],
        Message::Error(refused) => vec![error(refused.code, refused.address.unwrap_or(""))],
        Message::Snapshot { params } => params
            .iter()
            .filter(|p| !p.address.starts_with(SOURCE))
            .map(|p| match p.address.strip_prefix("/clasp/why") {
                Some(address) => told(address, p.value, ids),
                None => known(p.address, p.value.as_i64().unwrap_or(-1), p.revision),
            })
            .collect(),
        other => vec![format!("{other:?}")],
    }
}

fn name_of(session: usize, life: usize) -> String {
    format!("session {session}, life {life}")
}

const SOURCE: &str = "/clasp/source/";

/// What `why` answers, in one line.
fn told(address: &str, why: Value<'_>, ids: &[Vec<String>; SESSIONS]) -> String {
    let tell = |claim: Value<'_>| {
        let number = |key| claim.get(key).and_then(Value::as_i64).unwrap_or(-9);
        let id = claim.get("source").and_then(Value::as_str).unwrap_or("nobody");
        let life = |session: usize| ids[session].iter().position(|known| known == id);
        let own = (0..SESSIONS).find_map(|session| Some(name_of(session, life(session)?)));
        let name = own.unwrap_or_else(|| id.to_owned());
        format!("{name} {} {}", number("priority"), number("value"))
    };
    let value = why.get("value").and_then(Value::as_i64).unwrap_or(-9);
    let Some(winner) = why.get("winner") else { return format!("WHY {address} {value} held") };
    let losers = why.get("losers").and_then(Value::array).into_iter().flatten();
    let mut losers: Vec<String> = losers.map(tell).collect();
    losers.sort();
    format!("WHY {address} {value} wins {} loses {losers:?}", tell(winner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn one_shard_agrees_with_the_naive_router_over_many_scripts() {
        let mut random = Random::new(0x0AC1E);
        for _ in 0..60 {
            let script: Vec<u8> = (0..OPERATIONS_MAX * 3).map(|_| random.byte()).collect();
            agrees(&script);
        }
    }

    #[test]
    fn scripts_spell_every_operation() {
        let script: Vec<u8> = (0..28).flat_map(|what| [what, 1, 2]).collect();
        let spelt = format!("{:?}", operations(&script));
        for word in ["Say", "Bundle", "Get", "Subscribe", "Unsubscribe", "Ping", "lock: true"] {
            assert!(spelt.contains(word), "{word}: {spelt}");
        }
        assert!(format!("{:?}", operations(&[19, 0, 1])).contains("Return"));
    }
}

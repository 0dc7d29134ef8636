//! The router written naively, a map and a loop, and one real shard held against it word by word.

use std::collections::BTreeMap;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::Message;
use clasp_rt_core::pattern;
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Outcome, Settings, Shard};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::wire::{binary, header};
use clasp_rt_core::{LinkId, ShardId};

use crate::ledger::{Act, Number};
use crate::speech::{self, Line};

const SESSIONS: usize = 3;

const ADDRESSES: [&str; 6] = ["/a", "/a/b", "/a/b/c", "/b/b", "/b/c/a", "/c"];

const PATTERNS: [&str; 8] = ["/**", "/a/**", "/*/b", "/a", "/*/*/*", "/**/b/**", "/c", "/b/*/a"];

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
        past.push(format!("{count}: session {session} {operation:?}"));
        real.obey(session, &operation);
        naive.obey(session, &operation);
        for hearer in 0..SESSIONS {
            let found = ordered(std::mem::take(&mut real.heard[hearer]));
            let expected = ordered(std::mem::take(&mut naive.heard[hearer]));
            assert!(
                found == expected,
                "session {hearer} heard {found:#?}\nand should have heard {expected:#?}\nafter {}",
                past[past.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}

/// Lines of a snapshot have no order among themselves; they come after what they answer to.
fn ordered(mut heard: Vec<String>) -> Vec<String> {
    heard.sort_by_key(|line| {
        let known = line.starts_with("KNOWN");
        (known, if known { line.clone() } else { String::new() })
    });
    heard
}

/// Three bytes are one operation: what, who, and with what.
fn operations(script: &[u8]) -> Vec<(usize, Operation)> {
    let mut count = 0;
    let mut line = |address: u8, act| {
        count += 1;
        Line::new(ADDRESSES[usize::from(address) % ADDRESSES.len()], act, Number(count))
    };
    let spelt = script.chunks_exact(3).take(OPERATIONS_MAX).map(|letters| {
        let (what, who, with) = (letters[0] % 20, letters[1], letters[2]);
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
    subscriptions: [BTreeMap<u32, &'static str>; SESSIONS],
    heard: [Vec<String>; SESSIONS],
}

impl Naive {
    fn obey(&mut self, session: usize, operation: &Operation) {
        match operation {
            Operation::Say(line) if line.act == Act::Set => match self.refuses(session, line) {
                true => self.heard[session].push(error(400, &line.address)),
                false => {
                    let revision = self.set(session, line);
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
                        Act::Set => revision = Some(self.set(session, line)),
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
            Operation::Return => {
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

    fn set(&mut self, session: usize, line: &Line) -> u64 {
        let address = of_table(&line.address);
        let vacant = Param { value: 0, revision: 0, holder: None };
        let param = self.params.entry(address).or_insert(vacant);
        param.value = line.number.0;
        param.revision += 1;
        if line.unlock {
            param.holder = None;
        }
        if line.lock {
            param.holder = Some(session);
        }
        let Param { value, revision, .. } = *param;
        self.tell(address, None, &format!("SET {address} {value} revision {revision}"));
        revision
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
    heard: [Vec<String>; SESSIONS],
}

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
            ..Limits::default()
        };
        let settings =
            Settings { limits, rate_limit: None, session_timeout: None, ..Settings::default() };
        let heard = std::array::from_fn(|_| Vec::new());
        Self { shard: Shard::new(settings), now: Time(0), heard }
    }

    fn open(&mut self, session: usize) {
        let link = LinkId(session as u32);
        self.step(Input::Opened { link, admit: Admit::Stranger });
        self.step(Input::Frame { link, frame: &speech::hello("session") });
    }

    fn obey(&mut self, session: usize, operation: &Operation) {
        let link = LinkId(session as u32);
        let is_bundle = matches!(operation, Operation::Bundle(_));
        let frame = match operation {
            Operation::Say(line) => line.frame(),
            Operation::Bundle(lines) => speech::bundle(lines, None),
            Operation::Get(address) => speech::get(address),
            Operation::Subscribe { id, pattern } => speech::subscribe(*id, pattern, None),
            Operation::Unsubscribe { id } => speech::unsubscribe(*id),
            Operation::Ping => speech::ping(),
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
        self.now = self.now + Span::from_micros(10);
        let mut taken = Taken::default();
        assert_eq!(self.shard.step(self.now, input, &mut taken), Outcome::Taken, "{input:?}");
        loop {
            let due = self.shard.deadline().is_some_and(|due| due <= self.now);
            if !due && taken.frames.is_empty() {
                return;
            }
            for (link, frame) in std::mem::take(&mut taken.frames) {
                self.heard[link.0 as usize].extend(lines(&frame));
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

/// A frame as the naive router would put it.
fn lines(frame: &[u8]) -> Vec<String> {
    let payload = header::parse(frame).expect("a shard sends whole frames").payload;
    match binary::decode(payload).expect("a shard sends messages") {
        Message::Welcome(_) => vec!["WELCOME".to_owned()],
        Message::Pong => vec!["PONG".to_owned()],
        Message::Set(set) => {
            let (value, revision) = (set.value.as_i64().unwrap_or(-1), set.revision.unwrap_or(0));
            vec![format!("SET {} {value} revision {revision}", set.address)]
        }
        Message::Publish(publish) => {
            let value = publish.value.and_then(|value| value.as_i64()).unwrap_or(-1);
            vec![format!("EVENT {} {value}", publish.address)]
        }
        Message::Ack(ack) => vec![acknowledged(ack.address, ack.revision)],
        Message::Error(refused) => vec![error(refused.code, refused.address.unwrap_or(""))],
        Message::Snapshot { params } => params
            .iter()
            .map(|p| known(p.address, p.value.as_i64().unwrap_or(-1), p.revision))
            .collect(),
        other => vec![format!("{other:?}")],
    }
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
        let script: Vec<u8> = (0..20).flat_map(|what| [what, 1, 2]).collect();
        let spelt = format!("{:?}", operations(&script));
        for word in ["Say", "Bundle", "Get", "Subscribe", "Unsubscribe", "Ping", "lock: true"] {
            assert!(spelt.contains(word), "{word}: {spelt}");
        }
        assert!(format!("{:?}", operations(&[19, 0, 1])).contains("Return"));
    }
}

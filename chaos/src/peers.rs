//! Honest, clumsy and hostile peers. They know nothing of the router but the frames it sends.

use std::collections::VecDeque;

use clasp_rt_core::message::Message;
use clasp_rt_core::signal::{Phase, Qos};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};

use crate::fuzz;
use crate::ledger::{Act, Deed, Heard, Hearing, Ledger, Number, PeerId, Verdict};
use crate::random::Random;
use crate::speech::{self, Line};

/// Everything that is checked happens below this; strangers write elsewhere.
pub const ROOT: &str = "/h/";

/// Homes are chosen by the first two segments, so these may live on different shards.
const RIGS: [&str; 6] = ["/h/a", "/h/b", "/h/c", "/h/d", "/h/e", "/h/f"];

const PARAMS: [&str; 4] = ["x", "y", "z", "level"];

/// Below every rig, the param that keeps the highest value.
pub const HIGHEST: &str = "highest";

/// Below every rig, the param that has the highest of what its sources claim.
pub const CONTENDED: &str = "contended";
/// Below every rig, the param that has the latest claim, as long as that is renewed.
pub const FLEETING: &str = "fleeting";
/// The source that has a higher priority than others.
pub const DESK: &str = "desk";
const SOURCES: [&str; 2] = [DESK, "tablet"];

const PATTERNS: [&str; 8] =
    ["/h/**", "/h/*/x", "/h/a/**", "/h/*/l*", "/h/b/*", "/**/go", "/h/c/x", "/h/*/touch"];

/// What is said of this rig is show-critical.
pub const CRITICAL: &str = "/h/b/**";

/// Hostile peers write to this many addresses at most, so that honest params are not evicted.
const HOSTILE_ADDRESSES: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// Hears everything, at once, and says nothing.
    Witness,
    /// Hears some of it, as fast as its network allows.
    Listener,
    /// Writes, and comes and goes.
    Writer,
    /// Means well and gets things wrong.
    Clumsy,
    /// Sends what it likes and reads when it likes.
    Hostile,
    /// Joins when all is over, to be told how things are.
    Newcomer,
}

/// What a peer does when its time has come.
#[derive(Clone, Debug)]
pub enum Doing {
    Say(Vec<Saying>),
    Leave,
}

/// One frame, and the deeds that are in it.
#[derive(Clone, Debug)]
pub struct Saying {
    pub frame: Vec<u8>,
    pub numbers: Vec<Number>,
}

impl From<Vec<u8>> for Saying {
    fn from(frame: Vec<u8>) -> Self {
        Self { frame, numbers: Vec::new() }
    }
}

/// A request whose answer is awaited.
#[derive(Clone, Debug)]
struct Asked {
    /// `None`: a bundle.
    address: Option<String>,
    numbers: Vec<Number>,
}

#[derive(Clone, Debug)]
struct Touch {
    address: String,
    id: u32,
    moves_left: usize,
}

#[derive(Clone, Debug)]
pub struct Peer {
    pub id: PeerId,
    pub character: Character,
    pub patterns: Vec<String>,
    /// Some of its subscriptions have a rate.
    pub paced: bool,
    random: Random,
    /// The hearing of its present connection.
    session: usize,
    count: u32,
    asked: VecDeque<Asked>,
    touches: Vec<Touch>,
    next_touch: u32,
    /// Good frames to spoil.
    seeds: Vec<Vec<u8>>,
    /// Its bundles lie ahead. A refusal then comes at any time and names no request, so such a
    /// writer asks for nothing else.
    defers: bool,
}

impl Peer {
    pub fn new(id: PeerId, character: Character, mut random: Random) -> Self {
        let patterns = match character {
            Character::Witness | Character::Newcomer => vec!["/h/**".to_owned()],
            Character::Listener => {
                (0..1 + random.below(3)).map(|_| one_of(&mut random, &PATTERNS)).collect()
            }
            Character::Writer if random.once_in(2) => vec![one_of(&mut random, &PATTERNS)],
            Character::Writer | Character::Clumsy | Character::Hostile => Vec::new(),
        };
        let spoils = matches!(character, Character::Clumsy | Character::Hostile);
        let seeds = if spoils { good_frames() } else { Vec::new() };
        let defers = character == Character::Writer && random.once_in(3);
        let (asked, touches) = (VecDeque::new(), Vec::new());
        Self {
            id,
            character,
            patterns,
            paced: false,
            random,
            session: 0,
            count: 0,
            asked,
            touches,
            next_touch: 0,
            seeds,
            defers,
        }
    }

    /// Whether what it hears is evidence.
    pub fn is_honest(&self) -> bool {
        !matches!(self.character, Character::Clumsy | Character::Hostile)
    }

    pub fn acts(&self) -> bool {
        matches!(self.character, Character::Writer | Character::Clumsy | Character::Hostile)
    }

    /// The first frames of a connection.
    pub fn greet(&mut self, session: usize) -> Vec<Saying> {
        self.session = session;
        self.asked.clear();
        self.touches.clear();
        if self.character == Character::Hostile && self.random.once_in(3) {
            return vec![self.spoilt()];
        }
        self.paced = false;
        let mut sayings: Vec<Saying> = vec![speech::hello("peer").into()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            // A rate far below that of the writers: the last value must come all the same.
            let paced = self.character == Character::Listener && self.random.once_in(4);
            self.paced |= paced;
            let max_rate = paced.then_some(20);
            sayings.push(speech::subscribe(index as u32 + 1, pattern, max_rate).into());
        }
        sayings
    }

    /// How long until it acts again.
    pub fn rest(&mut self) -> Span {
        let most = match self.character {
            Character::Hostile => 3_000,
            _ => 12_000,
        };
        Span::from_micros(self.random.below(most) as u64)
    }

    pub fn act(&mut self, ledger: &mut Ledger, unix_us: u64) -> Doing {
        match self.character {
            Character::Writer => Doing::Say(self.write(ledger, unix_us)),
            Character::Clumsy => self.err(),
            Character::Hostile => self.attack(),
            Character::Witness | Character::Listener | Character::Newcomer => {
                Doing::Say(Vec::new())
            }
        }
    }

    /// One more deed of an honest writer.
    fn write(&mut self, ledger: &mut Ledger, unix_us: u64) -> Vec<Saying> {
        match self.random.below(24) {
            0..8 if self.defers => vec![speech::ping().into()],
            0..8 => vec![self.set(ledger)],
            8..11 => vec![self.publish(ledger, Act::Event, "go")],
            11..13 => vec![self.publish(ledger, Act::Stream, "stream")],
            13..17 => vec![self.touch(ledger)],
            // The answer to a bundle names no address: nothing else may be awaited beside it.
            19..23 => vec![self.claim(ledger)],
            23 => vec![self.sign(ledger)],
            17..19 if self.asked.is_empty() || self.defers => vec![self.bundle(ledger, unix_us)],
            _ => vec![speech::get(&self.param()).into(), speech::ping().into()],
        }
    }

    fn set(&mut self, ledger: &mut Ledger) -> Saying {
        let bundle_awaited = self.asked.iter().any(|asked| asked.address.is_none());
        if bundle_awaited {
            return speech::ping().into();
        }
        let mut line = Line::new(&self.param(), Act::Set, self.number());
        match self.random.below(30) {
            0 => line.lock = true,
            // Kept or not as its rule says; in a bundle that would be no refusal of the bundle.
            9..12 => line.address = format!("{}/{HIGHEST}", one_of(&mut self.random, &RIGS)),
            // Forgotten before newcomers ask; should it come back, its revision goes on.
            6..9 => {
                line.address = format!("{}/brief", one_of(&mut self.random, &RIGS));
                line.ttl_s = Some(1);
            }
            1..5 => line.unlock = true,
            5 => line.revision = Some(1 + self.random.below(40) as u64),
            _ => {}
        }
        let numbers = vec![line.number];
        self.asked.push_back(Asked { address: Some(line.address.clone()), numbers });
        self.say(ledger, &line)
    }

    /// Claims one address, or two in the name of a source; nobody asks for an answer.
    fn claim(&mut self, ledger: &mut Ledger) -> Saying {
        let source = self.random.once_in(2).then_some(SOURCES[self.random.below(SOURCES.len())]);
        let mut line = |peer: &mut Self| {
            let leaf = if peer.random.once_in(3) { FLEETING } else { CONTENDED };
            let address = format!("{}/{leaf}", one_of(&mut peer.random, &RIGS));
            let line = Line::new(&address, Act::Claim { source }, peer.number());
            peer.note(ledger, &line, None, false);
            line
        };
        let Some(id) = source else {
            let line = line(self);
            return Saying { frame: line.frame(), numbers: vec![line.number] };
        };
        let lines = [line(self), line(self)];
        let priority = (id == DESK).then_some(150);
        let frame = speech::marked(id, priority, &lines, Qos::Fire);
        Saying { frame, numbers: lines.map(|line| line.number).to_vec() }
    }

    /// Says that one of its sources is lost, or is still there.
    fn sign(&mut self, ledger: &mut Ledger) -> Saying {
        let source = SOURCES[self.random.below(SOURCES.len())];
        if self.random.once_in(2) {
            return speech::sign(source, "alive").into();
        }
        let line = Line::new("/clasp/source", Act::Release { source }, self.number());
        self.say(ledger, &line)
    }

    fn publish(&mut self, ledger: &mut Ledger, act: Act, leaf: &str) -> Saying {
        let address = format!("{}/{leaf}", one_of(&mut self.random, &RIGS));
        let line = Line::new(&address, act, self.number());
        self.say(ledger, &line)
    }

    /// Begins, moves or ends a gesture.
    fn touch(&mut self, ledger: &mut Ledger) -> Saying {
        let (address, id, phase) = match self.touches.pop() {
            Some(touch) if touch.moves_left == 0 => {
                let phase = if self.random.once_in(4) { Phase::Cancel } else { Phase::End };
                (touch.address, touch.id, phase)
            }
            Some(mut touch) => {
                touch.moves_left -= 1;
                self.touches.push(touch.clone());
                (touch.address, touch.id, Phase::Move)
            }
            None => {
                let address = format!("{}/touch", one_of(&mut self.random, &RIGS));
                self.next_touch += 1;
                let (id, moves_left) = (self.next_touch, self.random.below(8));
                self.touches.push(Touch { address: address.clone(), id, moves_left });
                (address, id, Phase::Start)
            }
        };
        let line = Line::new(&address, Act::Gesture { id, phase }, self.number());
        self.say(ledger, &line)
    }

    /// Some params and an event; sometimes later, sometimes with a part that must be refused.
    fn bundle(&mut self, ledger: &mut Ledger, unix_us: u64) -> Saying {
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..2 + self.random.below(5) {
            let (address, act) = if self.random.once_in(5) {
                (format!("{}/go", one_of(&mut self.random, &RIGS)), Act::Event)
            } else {
                (self.param(), Act::Set)
            };
            if lines.iter().all(|line| line.address != address) {
                lines.push(Line::new(&address, act, self.number()));
            }
        }
        if self.random.once_in(4)
            && let Some(line) = lines.iter_mut().find(|line| line.act == Act::Set)
        {
            line.revision = Some(1_000_000);
        }
        let timed = self.defers;
        let at_us = timed.then(|| unix_us + self.random.below(1_500_000) as u64);
        let first = lines.first().map(|line| line.number);
        for line in &lines {
            self.note(ledger, line, first, timed);
        }
        let numbers: Vec<Number> = lines.iter().map(|line| line.number).collect();
        self.asked.push_back(Asked { address: None, numbers: numbers.clone() });
        Saying { frame: speech::bundle(&lines, at_us), numbers }
    }

    /// What people get wrong: late greetings, wrong names, broken frames, sudden ends.
    fn err(&mut self) -> Doing {
        Doing::Say(match self.random.below(9) {
            0 => vec![speech::hello("again").into()],
            1 => vec![speech::unsubscribe(self.random.below(9) as u32).into()],
            2 => vec![speech::subscribe(1, "no slash", None).into()],
            3 => {
                let (id, pattern) =
                    (self.random.below(9) as u32, one_of(&mut self.random, &PATTERNS));
                vec![speech::subscribe(id, &pattern, Some(5)).into()]
            }
            4 => vec![speech::get("/nothing/here").into(), speech::query("/**").into()],
            5 => vec![self.spoilt()],
            6 => vec![speech::ping().into(); 20],
            7 => return Doing::Leave,
            _ => {
                let address = format!("/clumsy/{}", self.random.below(20));
                let number = Number::new(self.id, 0);
                vec![Line::new(&address, Act::Set, number).frame().into()]
            }
        })
    }

    fn attack(&mut self) -> Doing {
        Doing::Say(match self.random.below(9) {
            // What it says of sources touches its own alone.
            8 => SOURCES.map(|source| speech::sign(source, "release").into()).to_vec(),
            0 => vec![self.spoilt(); 10],
            1 => (0..1 + self.random.below(60)).map(|_| self.spoilt()).collect(),
            2 => {
                let noise = (0..self.random.below(300)).map(|_| self.random.byte()).collect();
                vec![Saying { frame: noise, numbers: Vec::new() }]
            }
            3 => (0..40)
                .map(|id| speech::subscribe(id, "/**", None).into())
                .chain([speech::query("/**").into()])
                .collect(),
            4 => {
                let number = Number::new(self.id, 0);
                let wide = (0..30).map(|_| {
                    let leaf = self.random.below(HOSTILE_ADDRESSES);
                    Line::new(&format!("/evil/{leaf}"), Act::Set, number).frame().into()
                });
                wide.collect()
            }
            5 => {
                let address = format!("/evil/{}", "x".repeat(self.random.below(1_200)));
                vec![Line::new(&address, Act::Set, Number::new(self.id, 0)).frame().into()]
            }
            6 => return Doing::Leave,
            _ => vec![speech::hello("me again").into()],
        })
    }

    fn spoilt(&mut self) -> Saying {
        fuzz::mutated(&mut self.random, &self.seeds).into()
    }

    fn say(&mut self, ledger: &mut Ledger, line: &Line) -> Saying {
        self.note(ledger, line, None, false);
        Saying { frame: line.frame(), numbers: vec![line.number] }
    }

    fn note(&self, ledger: &mut Ledger, line: &Line, bundle: Option<Number>, timed: bool) {
        let (session, address, act) = (self.session, line.address.clone(), line.act);
        let deed = Deed { session, address, act, bundle, timed, taken: false, verdict: None };
        ledger.deeds.insert(line.number, deed);
    }

    fn number(&mut self) -> Number {
        self.count += 1;
        Number::new(self.id, self.count)
    }

    fn param(&mut self) -> String {
        let rig = one_of(&mut self.random, &RIGS);
        format!("{rig}/{}", one_of(&mut self.random, &PARAMS))
    }

    /// Takes one frame of the router. An error is a frame that no router may send.
    pub fn hear(
        &mut self,
        now: Time,
        frame: &[u8],
        hearing: &mut Hearing,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let parsed = header::parse(frame).map_err(|error| format!("a frame is wrong: {error}"))?;
        if header::frame_len(frame) != Some(frame.len()) {
            return Err(format!("a frame of {} bytes says {:?}", frame.len(), parsed.header));
        }
        let message = binary::decode(parsed.payload)
            .map_err(|error| format!("a message is wrong: {error}"))?;
        let mut note = |heard| hearing.heard.push((now, heard));
        match message {
            Message::Set(set) => {
                if let (Some(number), Some(revision)) =
                    (of_ours(set.address, set.value), set.revision)
                {
                    note(Heard::Set { address: set.address.to_owned(), number, revision });
                }
            }
            Message::Snapshot { params } => {
                for param in params {
                    if let Some(number) = of_ours(param.address, param.value) {
                        let (address, revision) = (param.address.to_owned(), param.revision);
                        note(Heard::Known { address, number, revision });
                    }
                }
            }
            Message::Publish(publish) => {
                if let Some(number) =
                    publish.value.and_then(|value| of_ours(publish.address, value))
                {
                    note(Heard::Published { address: publish.address.to_owned(), number });
                }
            }
            Message::Ack(ack) => {
                let verdict = Verdict::Accepted { revision: ack.revision };
                self.answered(ledger, ack.address, verdict);
            }
            // A missing param is an answer to GET, not to a write.
            Message::Error(error) if error.code != 201 => {
                let verdict = Verdict::Refused { code: error.code };
                let bundle_awaited =
                    self.asked.front().is_some_and(|asked| asked.address.is_none());
                let address = if bundle_awaited { None } else { error.address };
                self.answered(ledger, address, verdict);
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, ledger: &mut Ledger, address: Option<&str>, verdict: Verdict) {
        let found = self.asked.iter().position(|asked| asked.address.as_deref() == address);
        if let Some(asked) = found.and_then(|found| self.asked.remove(found)) {
            ledger.judged(&asked.numbers, verdict);
        }
    }
}

/// The number behind a value, where honest peers write.
fn of_ours(address: &str, value: Value<'_>) -> Option<Number> {
    address.starts_with(ROOT).then(|| value.as_i64().map(Number))?
}

/// What strangers spoil: every frame of the protocol, and markers of sources.
fn good_frames() -> Vec<Vec<u8>> {
    let line = Line::new("/evil/claimed", Act::Set, Number(0));
    let mut frames = fuzz::seeds::frames();
    frames.push(speech::marked(DESK, Some(150), &[line], Qos::Confirm));
    frames.extend(["release", "alive", "tell"].map(|key| speech::sign(DESK, key)));
    frames.extend(
        ["/h/a/contended", "/h/b/fleeting"].map(|about| speech::get(&format!("/clasp/why{about}"))),
    );
    frames
}

fn one_of(random: &mut Random, words: &[&str]) -> String {
    words[random.below(words.len())].to_owned()
}

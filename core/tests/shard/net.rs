//! A router of one or more shards without a kernel: rings are queues, and clients speak frames.

use std::collections::{BTreeMap, VecDeque};

use clasp_rt_core::address::home_key;
use clasp_rt_core::index;
use clasp_rt_core::limits::PEER_ROOM_BYTES;
use clasp_rt_core::message::{Bundle, Hello, Message, Publish, Set, Subscribe, SubscribeOptions};
use clasp_rt_core::shard::{
    Admit, CloseReason, Effects, Input, Lane, Outcome, Ruling, Settings, Shard,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::time::Time;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::{Features, Messages};
use clasp_rt_core::wire::{Scratch, binary, decode, header};
use clasp_rt_core::{LinkId, ShardId};

/// One client of the router: where it is, what it got, and why it was closed.
#[derive(Default)]
pub struct Peer {
    pub frames: Vec<Vec<u8>>,
    pub closed: Option<CloseReason>,
    session: String,
    held: VecDeque<Vec<u8>>,
    is_held: bool,
    /// The kernel takes nothing for it.
    pub stalled: bool,
    unsent: u32,
}

type Ring = VecDeque<Vec<u8>>;

/// What a shard decided, kept until it is carried out.
#[derive(Default)]
struct Decided {
    sent: Vec<(LinkId, Vec<u8>)>,
    closed: Vec<(LinkId, CloseReason)>,
    handed: Vec<(ShardId, Lane, Vec<u8>)>,
    resumed: Vec<LinkId>,
}

impl Effects for Decided {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.sent.push((link, frame.to_vec()));
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        self.closed.push((link, reason));
    }

    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]) {
        self.handed.push((shard, lane, record.to_vec()));
    }

    fn resume(&mut self, link: LinkId) {
        self.resumed.push(link);
    }
}

/// A client's address in the test: shard and link.
pub type Client = (usize, u32);

pub struct Net {
    pub shards: Vec<Shard>,
    pub now: Time,
    pub peers: BTreeMap<Client, Peer>,
    rings: BTreeMap<(usize, usize, bool), Ring>,
    /// From where to where nothing is handed over for now, and whether on the `Publish` lane.
    pub stuck: Option<(usize, usize, bool)>,
    /// Turns do not end: no deadline is stepped.
    pub busy: bool,
    /// The most that one step queued on links together.
    pub step_bytes_max: usize,
    seed: [u64; 2],
}

/// What a ring between shards may need for a record beside its bytes.
const RECORD_OVERHEAD_BYTES: usize = 24;

pub const START_UNIX_US: u64 = 1_700_000_000_000_000;

impl Net {
    pub fn new(settings: Settings) -> Self {
        let shards: Vec<Shard> = (0..settings.shards)
            .map(|id| Shard::new(Settings { id: ShardId(id), ..settings.clone() }))
            .collect();
        let mut net = Self {
            shards,
            now: Time(0),
            peers: BTreeMap::new(),
            rings: BTreeMap::new(),
            stuck: None,
            busy: false,
            step_bytes_max: 0,
            seed: settings.seed,
        };
        for shard in 0..net.shards.len() {
            let _ = net.input(shard, Input::Clock { unix_us: START_UNIX_US });
        }
        net
    }

    pub fn unix_us(&self) -> u64 {
        START_UNIX_US + self.now.0 / 1000
    }

    /// Sets the wall clock of every shard.
    pub fn set_clock(&mut self, unix_us: u64) {
        for shard in 0..self.shards.len() {
            let _ = self.input(shard, Input::Clock { unix_us });
        }
        self.settle();
    }

    /// Every shard takes a ruling over, if it can at present.
    pub fn adopt(&mut self, ruling: impl Fn() -> Ruling) -> bool {
        let now = self.now;
        let adopt = |shard: &mut Shard| shard.adopt(now, Box::new(ruling())).is_ok();
        let all = self.shards.iter_mut().map(adopt).fold(true, |all, one| all & one);
        self.settle();
        all
    }

    pub fn open(&mut self, client: Client, admit: Admit) {
        self.peers.insert(client, Peer::default());
        let _ = self.input(client.0, Input::Opened { link: LinkId(client.1), admit });
    }

    /// Opens a link and says HELLO; what the router answered is taken off.
    pub fn join(&mut self, client: Client) {
        self.join_with(client, None, 0);
    }

    /// A session of that name, from 10.0.0.3.
    pub fn join_as(&mut self, client: Client, name: &str) {
        self.open(client, Admit::Stranger);
        let _ = self.input(client.0, Input::Host { link: LinkId(client.1), host: "10.0.0.3" });
        let Message::Hello(hello) = hello(None, 0) else { unreachable!("it is a HELLO") };
        self.say(client, &Message::Hello(Hello { name, ..hello }), Qos::Fire);
        self.welcomed(client);
    }

    fn welcomed(&mut self, client: Client) {
        let peer = self.peers.get_mut(&client).unwrap();
        if let Some(Message::Welcome(welcome)) = peer.frames.first().and_then(|f| message_of(f)) {
            peer.session = welcome.session.to_owned();
        }
        peer.frames.clear();
    }

    pub fn session_of(&self, client: Client) -> String {
        self.peers[&client].session.clone()
    }

    /// The `n`th address `/rig<i>/<below>/1` whose home is `shard`.
    pub fn address_below(&self, shard: usize, n: usize, below: &str) -> String {
        let shards = self.shards.len() as u64;
        (0..)
            .map(|i| format!("/rig{i}/{below}/1"))
            .filter(|a| index::hash(self.seed, home_key(a).as_bytes()) % shards == shard as u64)
            .nth(n)
            .unwrap()
    }

    pub fn join_with(&mut self, client: Client, token: Option<&str>, extra_features: u8) {
        self.open(client, Admit::Stranger);
        self.say(client, &hello(token, extra_features), Qos::Fire);
        self.welcomed(client);
    }

    pub fn say(&mut self, client: Client, message: &Message<'_>, qos: Qos) {
        self.raw(client, &frame_of(message, qos));
    }

    pub fn raw(&mut self, client: Client, frame: &[u8]) {
        self.queue(client, frame);
        self.feed(client);
        self.settle();
    }

    /// Lets a client send, but nothing be done about it yet.
    pub fn queue(&mut self, client: Client, frame: &[u8]) {
        self.peers.get_mut(&client).unwrap().held.push_back(frame.to_vec());
    }

    /// The `n`th address of the form `/rig/i` whose home is `shard`.
    pub fn address_at(&self, shard: usize, n: usize) -> String {
        let shards = self.shards.len() as u64;
        (0..)
            .map(|i| format!("/rig/{i}"))
            .filter(|a| index::hash(self.seed, home_key(a).as_bytes()) % shards == shard as u64)
            .nth(n)
            .unwrap()
    }

    /// A pong arrives.
    pub fn pong(&mut self, client: Client) {
        let _ = self.input(client.0, Input::Alive { link: LinkId(client.1) });
    }

    pub fn leave(&mut self, client: Client) {
        let _ = self.input(client.0, Input::Closed { link: LinkId(client.1) });
        self.settle();
    }

    pub fn set(&mut self, client: Client, address: &str, number: f64) {
        let data = number.to_be_bytes();
        let set = Set { value: f64_value(&data), ..set_of(address) };
        self.say(client, &Message::Set(set), Qos::Fire);
    }

    pub fn subscribe(&mut self, client: Client, id: u32, pattern: &str) {
        self.subscribe_with(client, id, pattern, SubscribeOptions::default());
    }

    pub fn subscribe_with(
        &mut self,
        client: Client,
        id: u32,
        pattern: &str,
        options: SubscribeOptions,
    ) {
        let types = SignalMask::ALL;
        let wish = Subscribe { id, pattern, types, options };
        self.say(client, &Message::Subscribe(wish), Qos::Fire);
    }

    pub fn emit(&mut self, client: Client, address: &str) {
        let event = Publish {
            address,
            signal: Some(Signal::Event),
            phase: Some(Phase::Start),
            ..Publish::default()
        };
        self.say(client, &Message::Publish(event), Qos::Fire);
    }

    pub fn bundle(&mut self, client: Client, messages: &[Message<'_>], at_us: Option<u64>) {
        self.raw(client, &bundle_frame(messages, at_us));
    }

    /// Lets time pass, stepping every deadline on the way at its own instant.
    pub fn wait_ms(&mut self, ms: u64) {
        let end = Time(self.now.0 + ms * 1_000_000);
        loop {
            self.settle();
            let next = self.shards.iter().filter_map(Shard::deadline).min();
            match next {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
            for shard in 0..self.shards.len() {
                let _ = self.input(shard, Input::Deadline { forward_room: true });
            }
        }
        self.now = end;
        self.settle();
    }

    /// Takes off what a client got, each message in one line.
    pub fn take(&mut self, client: Client) -> Vec<String> {
        let frames = self.take_frames(client);
        frames.iter().flat_map(|frame| lines(frame)).collect()
    }

    /// The same as they came.
    pub fn take_frames(&mut self, client: Client) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.peers.get_mut(&client).unwrap().frames)
    }

    pub fn unstall(&mut self, client: Client) {
        let peer = self.peers.get_mut(&client).unwrap();
        peer.stalled = false;
        loop {
            let bytes = std::mem::take(&mut self.peers.get_mut(&client).unwrap().unsent);
            if bytes == 0 {
                break;
            }
            let _ = self.input(client.0, Input::Sent { link: LinkId(client.1), bytes });
            self.settle();
        }
    }

    fn feed(&mut self, client: Client) {
        while let Some(frame) = self.next_frame(client) {
            let input = Input::Frame { link: LinkId(client.1), frame: &frame };
            if self.input(client.0, input) == Outcome::Held {
                let peer = self.peers.get_mut(&client).unwrap();
                // A resume may have come in the very step that held it: then it is offered again.
                peer.held.push_front(frame);
                peer.is_held = true;
            }
        }
    }

    fn next_frame(&mut self, client: Client) -> Option<Vec<u8>> {
        let peer = self.peers.get_mut(&client)?;
        if peer.is_held { None } else { peer.held.pop_front() }
    }

    /// Steps one input and carries out what it causes.
    fn input(&mut self, shard: usize, input: Input<'_>) -> Outcome {
        let mut decided = Decided::default();
        let outcome = self.shards[shard].step(self.now, input, &mut decided);
        self.step_bytes_max =
            self.step_bytes_max.max(decided.sent.iter().map(|(_, frame)| frame.len()).sum());
        for lane in [Lane::Forward, Lane::Publish] {
            for to in 0..self.shards.len() {
                let handed: usize = decided
                    .handed
                    .iter()
                    .filter(|(shard, on, _)| usize::from(shard.0) == to && *on == lane)
                    .map(|(_, _, record)| record.len() + RECORD_OVERHEAD_BYTES)
                    .sum();
                assert!(handed <= PEER_ROOM_BYTES, "{handed} bytes from {shard} to {to}");
            }
        }
        for (link, frame) in decided.sent {
            let client = (shard, link.0);
            let peer = self.peers.get_mut(&client).unwrap();
            if peer.stalled {
                peer.unsent += frame.len() as u32;
                peer.frames.push(frame);
            } else {
                let bytes = frame.len() as u32;
                peer.frames.push(frame);
                self.rings
                    .entry((shard, usize::MAX, true))
                    .or_default()
                    .push_back([link.0.to_le_bytes(), bytes.to_le_bytes()].concat());
            }
        }
        for (link, reason) in decided.closed {
            self.peers.get_mut(&(shard, link.0)).unwrap().closed = Some(reason);
        }
        for (to, lane, record) in decided.handed {
            let lane = lane == Lane::Publish;
            self.rings.entry((shard, usize::from(to.0), lane)).or_default().push_back(record);
        }
        for link in decided.resumed {
            self.peers.get_mut(&(shard, link.0)).unwrap().is_held = false;
        }
        outcome
    }

    /// Steps everything that can be stepped without time passing.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut idle = true;
            for to in 0..self.shards.len() {
                idle &= !self.acknowledge_sends(to);
                for from in 0..self.shards.len() {
                    idle &= !self.hand_over(from, to, true);
                }
                for from in 0..self.shards.len() {
                    idle &= !self.hand_over(from, to, false);
                }
                let due = self.shards[to].deadline().is_some_and(|due| due <= self.now);
                if due && !self.busy {
                    let _ = self.input(to, Input::Deadline { forward_room: true });
                    idle = false;
                }
            }
            let waiting: Vec<Client> = self
                .peers
                .iter()
                .filter(|(_, p)| !p.is_held && !p.held.is_empty())
                .map(|(c, _)| *c)
                .collect();
            for client in waiting {
                self.feed(client);
                idle = false;
            }
            if idle {
                return;
            }
        }
        panic!("the router does not come to rest");
    }

    fn acknowledge_sends(&mut self, shard: usize) -> bool {
        let Some(sent) =
            self.rings.get_mut(&(shard, usize::MAX, true)).and_then(VecDeque::pop_front)
        else {
            return false;
        };
        let word = |at: usize| u32::from_le_bytes(sent[at..at + 4].try_into().unwrap());
        let _ = self.input(shard, Input::Sent { link: LinkId(word(0)), bytes: word(4) });
        true
    }

    fn hand_over(&mut self, from: usize, to: usize, publish: bool) -> bool {
        let key = (from, to, publish);
        if self.stuck == Some(key) {
            return false;
        }
        let Some(record) = self.rings.get_mut(&key).and_then(VecDeque::pop_front) else {
            return false;
        };
        let lane = if publish { Lane::Publish } else { Lane::Forward };
        let from = ShardId(from as u16);
        if self.input(to, Input::Peer { from, lane, record: &record }) == Outcome::Held {
            self.rings.get_mut(&key).unwrap().push_front(record);
            return false;
        }
        true
    }
}

pub fn hello(token: Option<&str>, extra_features: u8) -> Message<'_> {
    let features = Features::from_bits(0xF8 | extra_features);
    Message::Hello(Hello { version: 1, features, name: "test", token })
}

pub fn frame_of(message: &Message<'_>, qos: Qos) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, qos, &mut frame).unwrap();
    frame
}

pub fn bundle_frame(messages: &[Message<'_>], timestamp_us: Option<u64>) -> Vec<u8> {
    let mut payloads = Vec::new();
    for message in messages {
        Messages::append(&mut payloads, message).unwrap();
    }
    let messages = Messages::from_payloads(&payloads, messages.len()).unwrap();
    frame_of(&Message::Bundle(Bundle { timestamp_us, messages }), Qos::Commit)
}

pub fn f64_value(data: &[u8; 8]) -> Value<'_> {
    Value::parse(0x07, data).unwrap().0
}

pub fn set_of(address: &str) -> Set<'_> {
    let value = Value::NULL;
    Set { address, value, revision: None, lock: false, unlock: false, ttl: None }
}

pub fn message_of(frame: &[u8]) -> Option<Message<'_>> {
    binary::decode(header::parse(frame).ok()?.payload).ok()
}

/// The messages of a BUNDLE, as people read them.
pub fn inside(frame: &[u8]) -> Vec<String> {
    let Some(Message::Bundle(bundle)) = message_of(frame) else { return vec![] };
    bundle.messages.iter().flat_map(|message| lines(&frame_of(&message, Qos::Fire))).collect()
}

/// A frame as people read it: `SET /a 1 r2`; a snapshot gives a line for each param.
fn lines(frame: &[u8]) -> Vec<String> {
    let mut scratch = Scratch::default();
    let payload = header::parse(frame).unwrap().payload;
    match decode(payload, &mut scratch).unwrap() {
        Message::Welcome(w) => vec![format!("WELCOME {} {}", w.name, w.features.bits())],
        Message::Snapshot { params } if params.is_empty() => vec!["SNAPSHOT -".into()],
        Message::Snapshot { params } => params
            .iter()
            .map(|p| format!("SNAPSHOT {} {} r{}", p.address, text(p.value), p.revision))
            .collect(),
        Message::Set(s) => {
            vec![format!("SET {} {} r{}", s.address, text(s.value), s.revision.unwrap_or(0))]
        }
        Message::Publish(p) => {
            let (signal, phase) = (p.signal.unwrap_or_default(), p.phase.unwrap_or_default());
            let value = p.value.map(text).unwrap_or_default();
            let shown = match signal {
                Signal::Gesture => format!("{} {value}", phase.name()),
                _ => value,
            };
            vec![format!("{} {} {shown}", signal.name(), p.address).trim().to_string()]
        }
        Message::Ack(a) => {
            let revision = a.revision.map(|r| format!(" r{r}")).unwrap_or_default();
            vec![format!("ACK {}{revision}", a.address.unwrap_or("-"))]
        }
        Message::Error(e) => vec![format!("ERROR {} {}", e.code, e.address.unwrap_or("-"))],
        Message::Result { signals } => {
            vec![format!("RESULT {:?}", signals.iter().map(|s| s.address).collect::<Vec<_>>())]
        }
        Message::Pong => vec!["PONG".into()],
        other => vec![format!("{other:?}")],
    }
}

fn text(value: Value<'_>) -> String {
    if let Some(number) = value.as_f64() {
        return format!("{number}");
    }
    value.as_str().map(str::to_string).unwrap_or_else(|| format!("code{}", value.code()))
}

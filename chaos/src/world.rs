//! Shards, rings, links, peers and the clock of one router, on one thread and from one seed.
//!
//! The shards are the real ones. What the kernel's edge would do (take bytes, hand records over,
//! wait for room) is done here one small step at a time, in an order drawn from the seed: every
//! order that the contract of [`Input`] allows may come.

mod edge;
mod effects;
mod node;

use std::collections::{BTreeMap, VecDeque};

use clasp_rt_core::LinkId;
use clasp_rt_core::shard::{Admit, Input};
use clasp_rt_core::time::{Span, Time};

use crate::check::{Broken, CHECKS, Evidence};
use crate::faults::{self, Faults};
use crate::ledger::{Hearing, Ledger, Number, PeerId};
use crate::peers::{Character, Doing, Peer, Saying};
use crate::random::Random;
use node::{LINKS_MAX, Link, Node, small_limits};

/// The Unix time at which every world begins, in microseconds.
const BIRTH_US: u64 = 1_790_000_000_000_000;

/// What one step of a shard costs in virtual time, so that time passes under load too.
const STEP: Span = Span::from_micros(2);

/// Steps that share an instant, on average.
const TURN_STEPS: usize = 4;

/// Steps without rest before a world counts as never coming to rest.
const RESTLESS: u64 = 3_000_000;

/// How long after the last deed everything must have arrived: timed bundles lie up to 1.5 s ahead.
const AFTERMATH: Span = Span::from_secs(6);

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: u16,
    pub writers: usize,
    pub listeners: usize,
    pub faults: Faults,
    /// Messages a second and session: far above what honest peers send.
    pub rate_limit: Option<u32>,
    pub length: Span,
}

impl Plan {
    /// The plan of a seed: everything about it is drawn from the seed, unless told otherwise.
    pub fn of(seed: u64, shards: Option<u16>, faults: Option<Faults>) -> Self {
        let mut random = Random::new(seed);
        let drawn_shards = 1 + random.below(4) as u16;
        let drawn_faults = Faults::of(&mut random);
        Self {
            seed,
            shards: shards.unwrap_or(drawn_shards),
            writers: 2 + random.below(4),
            listeners: 1 + random.below(4),
            faults: faults.unwrap_or(drawn_faults),
            rate_limit: random.once_in(2).then_some(300),
            length: Span::from_millis(300 + random.below(1_200) as u64),
        }
    }
}

/// What a finished run showed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Of every effect, in order: equal runs have equal digests.
    pub digest: u64,
    pub effects: u64,
    pub deeds: usize,
    pub heard: usize,
    pub closed_by_router: usize,
    /// What all shards counted, together: which paths the run went.
    pub counts: BTreeMap<&'static str, u64>,
}

/// A run that showed a broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    pub check: &'static str,
    pub broken: Broken,
    pub trace: Vec<String>,
}

/// Runs a whole plan: greet, write under faults, heal, ask newcomers, check.
pub fn run(plan: &Plan, traced: bool) -> Result<Finished, Box<Failure>> {
    let mut world = World::new(plan, traced);
    let lived = world.live();
    let evidence = Evidence {
        shards: world.nodes.len(),
        ledger: world.ledger.clone(),
        hearings: world
            .hearings
            .iter()
            .filter(|h| world.peers[h.peer].is_honest())
            .cloned()
            .collect(),
        truths: world.truths.clone(),
    };
    let fail = |check, broken| Box::new(Failure { check, broken, trace: world.trace.clone() });
    lived.map_err(|broken| fail("the_contract_is_kept", broken))?;
    for (name, check) in CHECKS {
        check(&evidence).map_err(|broken| fail(name, broken))?;
    }
    let mut counts = BTreeMap::new();
    for node in &world.nodes {
        node.shard.counts().each(|name, count| *counts.entry(name).or_default() += count);
    }
    Ok(Finished {
        counts,
        digest: world.digest,
        effects: world.effects,
        deeds: world.ledger.deeds.len(),
        heard: world.hearings.iter().map(|hearing| hearing.heard.len()).sum(),
        closed_by_router: world.hearings.iter().filter(|h| h.closed.is_some()).count(),
    })
}

struct World {
    now: Time,
    random: Random,
    faults: Faults,
    length: Span,
    nodes: Vec<Node>,
    peers: Vec<Peer>,
    /// Where each peer is connected, and which hearing that is.
    places: Vec<Option<Place>>,
    /// When each peer acts or reconnects next.
    acts_at: Vec<Option<Time>>,
    hearings: Vec<Hearing>,
    ledger: Ledger,
    truths: Vec<BTreeMap<String, (Number, u64)>>,
    window_bytes: usize,
    ring_bytes_max: usize,
    digest: u64,
    effects: u64,
    traced: bool,
    trace: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    shard: usize,
    link: LinkId,
    hearing: usize,
}

impl World {
    fn new(plan: &Plan, traced: bool) -> Self {
        let mut random = Random::new(plan.seed).fork();
        let limits = small_limits(plan.shards);
        let window_bytes = limits.window_bytes as usize;
        let nodes = (0..plan.shards).map(|id| Node::new(id, plan, limits.clone())).collect();
        let mut characters = vec![Character::Witness; usize::from(plan.shards)];
        characters.extend(vec![Character::Listener; plan.listeners]);
        characters.extend(vec![Character::Writer; plan.writers]);
        characters.extend(vec![Character::Clumsy; plan.faults.clumsy]);
        characters.extend(vec![Character::Hostile; plan.faults.hostile]);
        let peers: Vec<Peer> = characters
            .into_iter()
            .enumerate()
            .map(|(id, character)| Peer::new(id, character, random.fork()))
            .collect();
        Self {
            now: Time(0),
            faults: plan.faults.clone(),
            length: plan.length,
            nodes,
            places: vec![None; peers.len()],
            acts_at: vec![None; peers.len()],
            peers,
            hearings: Vec::new(),
            ledger: Ledger::default(),
            truths: Vec::new(),
            window_bytes,
            ring_bytes_max: clasp_rt_core::limits::PEER_ROOM_BYTES + plan.faults.ring_spare_bytes,
            digest: 0xCBF2_9CE4_8422_2325,
            effects: 0,
            traced,
            trace: Vec::new(),
            random,
        }
    }

    fn live(&mut self) -> Result<(), Broken> {
        let faults = std::mem::replace(&mut self.faults, Faults::none());
        for peer in 0..self.peers.len() {
            let shards = self.nodes.len();
            // One witness a shard; everyone else where chance puts them.
            let shard = match self.peers[peer].character {
                Character::Witness => peer,
                _ => self.random.below(shards),
            };
            self.connect(peer, shard)?;
        }
        self.rest(Span::from_millis(500))?;
        self.faults = faults;
        self.tell("writing begins");
        for peer in 0..self.peers.len() {
            if self.peers[peer].acts() {
                self.acts_at[peer] = Some(self.now);
            }
        }
        self.pass(self.now + self.length)?;
        self.heal()?;
        self.ask_newcomers()?;
        for node in &self.nodes {
            let bytes = node.shard.memory_bytes();
            if bytes != node.memory_bytes {
                return Err(format!("memory went from {} to {bytes} bytes", node.memory_bytes));
            }
        }
        Ok(())
    }

    /// Nobody acts, everybody reads, all shards run: what is on its way arrives.
    fn heal(&mut self) -> Result<(), Broken> {
        self.tell("healing");
        self.faults = Faults { delay_max: self.faults.delay_max, ..Faults::none() };
        self.acts_at.fill(None);
        for node in &mut self.nodes {
            node.stalled_until = self.now;
            for link in node.links.values_mut() {
                link.reads_at = self.now;
                link.slow = false;
            }
        }
        self.rest(AFTERMATH)
    }

    /// A newcomer on each shard is told the state of all.
    fn ask_newcomers(&mut self) -> Result<(), Broken> {
        for shard in 0..self.nodes.len() {
            let peer = self.peers.len();
            self.peers.push(Peer::new(peer, Character::Newcomer, self.random.fork()));
            self.places.push(None);
            self.acts_at.push(None);
            self.connect(peer, shard)?;
        }
        self.rest(Span::from_millis(500))?;
        let newcomers = self.peers.iter().filter(|peer| peer.character == Character::Newcomer);
        let hearings = newcomers.filter_map(|peer| self.places[peer.id].map(|place| place.hearing));
        self.truths = hearings
            .map(|hearing| {
                let view = self.hearings[hearing].view();
                view.into_iter().map(|(address, held)| (address.to_owned(), held)).collect()
            })
            .collect();
        if self.truths.len() != self.nodes.len() {
            return Err("a newcomer was not let in".to_owned());
        }
        Ok(())
    }

    fn rest(&mut self, span: Span) -> Result<(), Broken> {
        self.pass(self.now + span)
    }

    /// Lets time pass until `end`, and what happens meanwhile happen.
    fn pass(&mut self, end: Time) -> Result<(), Broken> {
        let mut steps = 0;
        while self.now < end {
            self.let_peers_act()?;
            let first = self.random.below(self.nodes.len());
            let mut step = None;
            for offset in 0..self.nodes.len() {
                let shard = (first + offset) % self.nodes.len();
                if step.is_none() && self.can_run(shard) {
                    step = self.choose(shard).map(|step| (shard, step));
                }
            }
            match step {
                Some((shard, step)) => {
                    self.carry_out(shard, step)?;
                    self.serve_prompt(shard)?;
                    // Inputs of one turn have one instant.
                    if self.random.once_in(TURN_STEPS) {
                        self.now = self.now + Span(STEP.0 * TURN_STEPS as u64);
                    }
                    steps += 1;
                    if steps > RESTLESS {
                        return Err(format!("after {steps} steps shard {shard} wants {step:?}"));
                    }
                }
                None => self.now = self.next_event().unwrap_or(end).max(self.now + STEP).min(end),
            }
        }
        Ok(())
    }

    fn let_peers_act(&mut self) -> Result<(), Broken> {
        for peer in 0..self.peers.len() {
            if self.acts_at[peer].is_none_or(|at| at > self.now) {
                continue;
            }
            let Some(place) = self.places[peer] else {
                let shard = self.random.below(self.nodes.len());
                self.connect(peer, shard)?;
                self.acts_at[peer] = Some(self.now + self.peers[peer].rest());
                continue;
            };
            let unix_us = BIRTH_US + self.now.0 / 1_000;
            let honest = self.peers[peer].is_honest();
            let doing = self.peers[peer].act(&mut self.ledger, unix_us);
            let leaves = honest && faults::strikes(&mut self.random, self.faults.disconnects);
            match doing {
                Doing::Say(sayings) => self.say(place, sayings),
                Doing::Leave => self.leave(peer),
            }
            if leaves {
                self.leave(peer);
            }
            self.acts_at[peer] = Some(self.now + self.peers[peer].rest());
        }
        Ok(())
    }

    fn connect(&mut self, peer: PeerId, shard: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[shard];
        let Some(free) = (0..LINKS_MAX).find(|id| !node.links.contains_key(id)) else {
            // The edge accepts no more than the shard has places for: the peer tries again.
            return Ok(());
        };
        let link = LinkId(free);
        let character = self.peers[peer].character;
        let hearing = self.hearings.len();
        let slow = character == Character::Hostile
            || (character == Character::Listener
                && faults::strikes(&mut self.random, self.faults.slow_readers));
        self.hearings.push(Hearing {
            session: hearing,
            peer,
            shard,
            patterns: self.peers[peer].patterns.clone(),
            from_start: matches!(character, Character::Witness | Character::Listener),
            prompt: character == Character::Witness,
            paced: false,
            heard: Vec::new(),
            closed: None,
            left: false,
        });
        node.links.insert(
            free,
            Link {
                peer,
                hearing,
                inbound: VecDeque::new(),
                last_arrival: self.now,
                held: false,
                outbound: VecDeque::new(),
                unsent_bytes: 0,
                reads_at: self.now,
                slow,
                closing: None,
                gone: false,
            },
        );
        let place = Place { shard, link, hearing };
        self.places[peer] = Some(place);
        self.tell(format_args!("{character:?} {peer} connects to shard {shard} as {link:?}"));
        let admit = Admit::Stranger;
        self.expect_taken(shard, Input::Opened { link, admit })?;
        let greeting = self.peers[peer].greet(hearing);
        self.hearings[hearing].paced = self.peers[peer].paced;
        self.say(place, greeting);
        Ok(())
    }

    fn say(&mut self, place: Place, sayings: Vec<Saying>) {
        let Some(link) = self.nodes[place.shard].links.get_mut(&place.link.0) else { return };
        for saying in sayings {
            let delay = faults::up_to(&mut self.random, self.faults.delay_max);
            link.last_arrival = link.last_arrival.max(self.now + delay);
            link.inbound.push_back((link.last_arrival, saying));
        }
    }

    /// The peer's end of the connection closes; what it sent may still arrive, or not.
    fn leave(&mut self, peer: PeerId) {
        let Some(place) = self.places[peer].take() else { return };
        self.hearings[place.hearing].left = true;
        self.tell(format_args!("{peer} leaves"));
        if let Some(link) = self.nodes[place.shard].links.get_mut(&place.link.0) {
            link.gone = true;
            let kept = self.random.below(link.inbound.len() + 1);
            link.inbound.truncate(kept);
        }
    }

    /// When something happens next, if nothing happens before.
    fn next_event(&self) -> Option<Time> {
        let acts = self.acts_at.iter().flatten().copied();
        let of_nodes = self.nodes.iter().flat_map(|node| {
            let links = node.links.values().flat_map(|link| {
                let arrival = link.inbound.front().map(|(at, _)| *at);
                let reading = (!link.outbound.is_empty()).then_some(link.reads_at);
                [arrival, reading].into_iter().flatten()
            });
            let own = [node.shard.deadline(), Some(node.clock_due)].into_iter().flatten();
            own.chain(links).map(|at| at.max(node.stalled_until)).collect::<Vec<_>>()
        });
        acts.chain(of_nodes).filter(|at| *at > self.now).min()
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        if self.traced {
            self.trace.push(format!("{:>9} us  {what}", self.now.0 / 1_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_holds_in_every_weather_on_one_to_three_shards() {
        for faults in Faults::ALL {
            for seed in 0..12 {
                let plan = Plan::of(seed, Some(1 + seed as u16 % 3), Some(faults.clone()));
                if let Err(failure) = run(&plan, false) {
                    let Failure { check, broken, .. } = *failure;
                    panic!("{check}: {broken}\nagain: clasp-chaos run {seed:#x} with {plan:?}");
                }
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_effects_every_time_and_another_seed_gives_others() {
        let digest = |seed| {
            let plan = Plan::of(seed, Some(3), Some(Faults::festival()));
            run(&plan, false).map(|finished| finished.digest).map_err(|failure| failure.broken)
        };
        assert_eq!(digest(5), digest(5));
        assert_ne!(digest(5), digest(6));
    }

    /// A world in which nothing happens would keep every promise.
    #[test]
    fn nights_go_down_every_path_that_the_promises_are_about() {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 0..60 {
            let plan = Plan::of(seed, Some(2), Some(Faults::festival()));
            let finished = run(&plan, false).map_err(|failure| failure.broken).unwrap();
            assert!(finished.deeds > 50 && finished.effects > 1_000, "{finished:?}");
            finished
                .counts
                .iter()
                .for_each(|(name, count)| *counts.entry(name).or_default() += count);
        }
        let paths = [
            "malformed",
            "refused",
            "sets",
            "publishes",
            "bundles",
            "moves_coalesced",
            "params_coalesced",
            "streams_dropped",
            "overtakes",
            "streams_deferred",
            "paced",
            "closed_slow",
            "params_expired",
            "rate_limited",
            "sets_outruled",
            "closed_idle",
            "records_in",
            "held",
        ];
        for path in paths {
            assert!(counts.get(path).is_some_and(|count| *count > 0), "{path} of {counts:?}");
        }
    }
}

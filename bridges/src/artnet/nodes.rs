//! Who is on the network: nodes that answered our polls, and those who poll us.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clasp_rt_core::time::{Span, Time};

use super::input::Inputs;
use super::output::Outputs;
use super::packet::{self, Group, PORT, Poll, Port, PortAddress, Reply};
use super::{Config, POLL_INTERVAL, Universes};
use crate::{Counters, Out};

/// Groups of ports of other nodes that are remembered.
const NODES_MAX: usize = 1_024;

/// Polls that wait for their answer; asked by more, the later ones go without.
const ASKED_MAX: usize = 16;

/// Our universes that a reply can list.
const LISTED_MAX: usize = 64;

/// Universes listed where the configuration names none, because some controllers send to a node
/// only what it lists.
const LISTED_BY_DEFAULT: u16 = 16;

/// A node that left three polls unanswered is gone.
const NODE_TIMEOUT: Span = Span(3 * POLL_INTERVAL.0);

pub(super) struct Nodes {
    targets: Vec<SocketAddr>,
    broadcast: Option<SocketAddr>,
    broadcast_levels: bool,
    inputs: Universes,
    ip: [u8; 4],
    short_name: String,
    long_name: String,
    nodes: Vec<Node>,
    /// Who wants what, as the nodes last told: sorted, each once.
    wants: Vec<(PortAddress, SocketAddr)>,
    asked: Vec<Asked>,
    answers: u32,
    packet: Vec<u8>,
}

/// One group of up to four ports of another node.
struct Node {
    at: SocketAddr,
    bind_index: u8,
    heard: Time,
    outputs: Vec<PortAddress>,
}

/// A poll whose answer is delayed, so that a hundred nodes do not answer at once.
struct Asked {
    by: SocketAddr,
    due: Time,
}

impl Nodes {
    pub(super) fn new(config: &Config, targets: Vec<SocketAddr>) -> Self {
        let own = match config.bind.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        Self {
            targets,
            broadcast: config.broadcast.map(|ip| SocketAddr::from((ip, PORT))),
            broadcast_levels: config.broadcast_levels,
            inputs: config.inputs.clone(),
            ip: config.node_ip.unwrap_or(own).octets(),
            short_name: config.name.clone(),
            long_name: format!("clasp-rt {} at {}", config.name, config.namespace),
            nodes: Vec::new(),
            wants: Vec::new(),
            asked: Vec::new(),
            answers: 0,
            packet: Vec::new(),
        }
    }

    /// Notes a node's reply. `false`: the table is full.
    pub(super) fn answered(&mut self, now: Time, from: IpAddr, reply: &Reply<'_>) -> bool {
        // Our own answer to our own broadcast. Sending to ourselves would be a loop.
        let (short, long) = self.names();
        if reply.short_name == short && reply.long_name == long {
            return true;
        }
        let at = SocketAddr::new(from, reply.port);
        let outputs: Vec<_> = reply.outputs().collect();
        let node = Node { at, bind_index: reply.bind_index, heard: now, outputs };
        let same = |known: &&mut Node| known.at == at && known.bind_index == node.bind_index;
        if let Some(known) = self.nodes.iter_mut().find(same) {
            let is_same = known.outputs == node.outputs;
            *known = node;
            if is_same {
                return true;
            }
        } else if self.nodes.len() < NODES_MAX {
            self.nodes.push(node);
        } else {
            return false;
        }
        self.list_wants();
        true
    }

    fn list_wants(&mut self) {
        let Self { nodes, wants, .. } = self;
        wants.clear();
        wants.extend(nodes.iter().flat_map(|node| node.outputs.iter().map(|one| (*one, node.at))));
        // A node may list one universe on several ports.
        wants.sort_unstable();
        wants.dedup();
    }

    /// Notes a poll, to be answered within a second. `false`: it is not, for lack of room.
    pub(super) fn asked(
        &mut self,
        now: Time,
        by: SocketAddr,
        poll: &Poll,
        inputs: &Inputs,
        outputs: &Outputs,
    ) -> bool {
        let is_meant = poll.range.is_none_or(|(first, last)| {
            let listed = self.listed(inputs, outputs);
            listed.iter().any(|port_address| (first..=last).contains(port_address))
        });
        // Asked twice before the answer, a node answers once: a small packet must not cause many.
        if !is_meant || self.asked.iter().any(|asked| asked.by == by) {
            return true;
        }
        if self.asked.len() == ASKED_MAX {
            return false;
        }
        let due = now + self.delay();
        self.asked.push(Asked { by, due });
        true
    }

    /// Answers the polls whose delay is over.
    pub(super) fn answer(
        &mut self,
        now: Time,
        inputs: &Inputs,
        outputs: &Outputs,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        while let Some(index) = self.asked.iter().position(|asked| asked.due <= now) {
            let asked = self.asked.swap_remove(index);
            self.reply(asked.by, inputs, outputs, counters, out);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.asked.iter().map(|asked| asked.due).min()
    }

    pub(super) fn expire(&mut self, now: Time) {
        let before = self.nodes.len();
        self.nodes.retain(|node| now.since(node.heard) < NODE_TIMEOUT);
        if self.nodes.len() < before {
            self.list_wants();
        }
    }

    pub(super) fn poll(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        packet::write_poll(&mut self.packet);
        for to in self.targets.iter().chain(&self.broadcast) {
            send(*to, &self.packet, counters, out);
        }
    }

    /// Sends the frame of `port_address` to those who want it. Whether there was anybody.
    pub(super) fn send(
        &self,
        port_address: PortAddress,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> bool {
        let from = self.wants.partition_point(|(wanted, _)| *wanted < port_address);
        let wants = self.wants.get(from..).unwrap_or_default().iter();
        let mut listed = false;
        for (_, to) in wants.take_while(|(wanted, _)| *wanted == port_address) {
            listed = true;
            // A target may be a node.
            if !self.targets.contains(to) {
                send(*to, packet, counters, out);
            }
        }
        for to in &self.targets {
            send(*to, packet, counters, out);
        }
        let broadcast = self.broadcast.filter(|_| self.broadcast_levels && !listed);
        if let Some(to) = broadcast {
            send(to, packet, counters, out);
        }
        listed || broadcast.is_some() || !self.targets.is_empty()
    }

    /// Sends an ArtSync to everybody who may have been sent levels.
    pub(super) fn sync(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        packet::write_sync(&mut self.packet);
        let broadcast = self.broadcast.filter(|_| self.broadcast_levels);
        if let Some(to) = broadcast {
            return send(to, &self.packet, counters, out);
        }
        let nodes = self.nodes.iter().filter(|node| !node.outputs.is_empty()).map(|node| node.at);
        for to in nodes.chain(self.targets.iter().copied()).collect::<BTreeSet<_>>() {
            send(to, &self.packet, counters, out);
        }
    }

    fn reply(
        &mut self,
        to: SocketAddr,
        inputs: &Inputs,
        outputs: &Outputs,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.answers = (self.answers + 1) % 10_000;
        let listed = self.listed(inputs, outputs);
        let sent: BTreeSet<_> = outputs.port_addresses().collect();
        let port = |port_address: &PortAddress| {
            let universe = inputs.get(*port_address);
            Port {
                universe: port_address.universe(),
                takes: self.inputs.contain(*port_address),
                is_heard: universe.is_some_and(|universe| universe.is_heard()),
                is_merging: universe.is_some_and(|universe| universe.is_merging()),
                is_latest: inputs.is_latest(),
                gives: sent.contains(port_address),
            }
        };
        let report = format!("#0001 [{:04}] {} in, {} out", self.answers, listed.len(), sent.len());
        // The ports of one packet share net and sub-net, four at most.
        let mut groups: Vec<(u16, Vec<Port>)> = Vec::new();
        for port_address in &listed {
            match groups.last_mut() {
                Some((switch, ports)) if *switch == port_address.switch() && ports.len() < 4 => {
                    ports.push(port(port_address));
                }
                _ => groups.push((port_address.switch(), vec![port(port_address)])),
            }
        }
        if groups.is_empty() {
            groups.push((0, Vec::new()));
        }
        for (bind_index, (switch, ports)) in (1..).zip(&groups) {
            let group = Group {
                ip: self.ip,
                short_name: &self.short_name,
                long_name: &self.long_name,
                report: &report,
                bind_index,
                switch: *switch,
                ports,
            };
            packet::write_reply(&mut self.packet, &group);
            send(to, &self.packet, counters, out);
            // The standard answers to its own port; some controllers ask from another one.
            if to.port() != PORT {
                send(SocketAddr::new(to.ip(), PORT), &self.packet, counters, out);
            }
        }
    }

    /// Universes that our replies list: those configured, those heard and those sent.
    fn listed(&self, inputs: &Inputs, outputs: &Outputs) -> BTreeSet<PortAddress> {
        let configured: Vec<_> = match &self.inputs {
            Universes::All => (0..LISTED_BY_DEFAULT).collect(),
            Universes::Some(ranges) => ranges
                .iter()
                .flat_map(|(first, last)| first.number()..=last.number())
                .take(LISTED_MAX)
                .collect(),
        };
        let configured = configured.into_iter().filter_map(PortAddress::new);
        let mut listed = BTreeSet::new();
        for port_address in
            inputs.port_addresses().chain(outputs.port_addresses()).chain(configured)
        {
            if listed.len() < LISTED_MAX {
                listed.insert(port_address);
            }
        }
        listed
    }

    /// Up to a second, spread over the answers; the same for the same run.
    fn delay(&self) -> Span {
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let seed = self.short_name.bytes().fold(u64::from(self.answers), |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(SPREAD).rotate_left(29)
        });
        let seed = self.asked.iter().fold(seed, |seed, asked| {
            (seed ^ u64::from(asked.by.port())).wrapping_mul(SPREAD).rotate_left(29)
        });
        Span::from_millis(seed % 1_000)
    }

    /// Our names as a reply carries them.
    fn names(&self) -> (&[u8], &[u8]) {
        (packet::fitted(&self.short_name, 18), packet::fitted(&self.long_name, 64))
    }
}

fn send(to: SocketAddr, packet: &[u8], counters: &mut Counters, out: &mut dyn Out) {
    counters.packets_out += 1;
    out.to_network(0, to, packet);
}

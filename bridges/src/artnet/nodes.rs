//! Who else is on the network: nodes that answered our polls, what they want, and what the router
//! is told of them.
//!
//! Each node is told as params below `nodes/{ip}` (`{ip}:{port}` where it listens elsewhere than
//! nodes do): `name`, `long_name`, `report`, `outputs` and `inputs` (arrays of port-addresses, as
//! Art-Net calls them: an output takes ArtDmx), and `online`, which becomes false when the node
//! left three polls unanswered.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{ArrayWriter, push_bool, push_i64, push_str};
use clasp_rt_core::wire::TooLong;

use super::packet::{self, Diagnostics, PORT, Poll, PortAddress, Reply, priority};
use super::{Config, NODE_TIMEOUT, send};
use crate::uplink::Uplink;
use crate::{Counters, Out};

/// Groups of ports of other nodes that are remembered.
const NODES_MAX: usize = 1_024;

/// Nodes of which the router is told.
pub(super) const SHOWN_MAX: usize = 256;

/// Params of each.
pub(super) const NODE_PARAMS: usize = 6;

/// How soon a packet that goes to ourselves has come back, and how many may be on their way.
const RETURN: Span = Span::from_secs(1);
const RETURNING_MAX: usize = 64;

pub(super) struct Nodes {
    targets: Vec<SocketAddr>,
    /// Those at which this bridge hears itself.
    own: Vec<SocketAddr>,
    /// Digests of what was sent to these and has not come back, oldest first.
    returning: VecDeque<(Time, u64)>,
    broadcast: Option<SocketAddr>,
    broadcast_levels: bool,
    broadcast_universes_max: usize,
    /// Universes that were broadcast, while there was room for them.
    broadcast_universes: BTreeSet<PortAddress>,
    diagnostics: bool,
    nodes: Vec<Node>,
    /// Who wants what, as the nodes last told: sorted, each once.
    wants: Vec<(PortAddress, SocketAddr)>,
    /// Nodes that the router knows of, gone ones included.
    shown: BTreeSet<SocketAddr>,
    /// Those of which it is to be told, each once.
    news: VecDeque<SocketAddr>,
    packet: Vec<u8>,
}

/// One group of up to four ports of another node.
struct Node {
    at: SocketAddr,
    heard: Time,
    told: Told,
}

/// What a reply says, as far as it is kept.
#[derive(PartialEq, Eq)]
struct Told {
    bind_index: u8,
    short_name: String,
    long_name: String,
    report: String,
    inputs: Vec<PortAddress>,
    outputs: Vec<PortAddress>,
}

impl Nodes {
    pub(super) fn new(config: &Config, targets: Vec<SocketAddr>, own: Vec<SocketAddr>) -> Self {
        Self {
            targets,
            own,
            returning: VecDeque::new(),
            broadcast: config.broadcast.map(|ip| SocketAddr::from((ip, PORT))),
            broadcast_levels: config.broadcast_levels,
            broadcast_universes_max: config.broadcast_universes_max.into(),
            broadcast_universes: BTreeSet::new(),
            diagnostics: config.diagnostics,
            nodes: Vec::new(),
            wants: Vec::new(),
            shown: BTreeSet::new(),
            news: VecDeque::new(),
            packet: Vec::new(),
        }
    }

    /// Where everybody of the network hears, if that is configured.
    pub(super) fn broadcast(&self) -> Option<SocketAddr> {
        self.broadcast
    }

    /// Notes a node's reply. `false`: the table is full.
    pub(super) fn answered(&mut self, now: Time, from: IpAddr, reply: &Reply<'_>) -> bool {
        let at = SocketAddr::new(from, reply.port);
        let words = |text| String::from_utf8_lossy(text).into_owned();
        let told = Told {
            bind_index: reply.bind_index,
            short_name: words(reply.short_name),
            long_name: words(reply.long_name),
            report: words(reply.report),
            inputs: reply.inputs().collect(),
            outputs: reply.outputs().collect(),
        };
        let same = |known: &&mut Node| known.at == at && known.told.bind_index == told.bind_index;
        let wants_are_same = if let Some(known) = self.nodes.iter_mut().find(same) {
            known.heard = now;
            if known.told == told {
                return true;
            }
            let are_same = known.told.outputs == told.outputs;
            known.told = told;
            are_same
        } else if self.nodes.len() < NODES_MAX {
            self.nodes.push(Node { at, heard: now, told });
            false
        } else {
            return false;
        };
        self.show(at);
        if !wants_are_same {
            self.list_wants();
        }
        true
    }

    fn show(&mut self, at: SocketAddr) {
        if self.shown.len() == SHOWN_MAX && !self.shown.contains(&at) {
            return;
        }
        self.shown.insert(at);
        if !self.news.contains(&at) {
            self.news.push_back(at);
        }
    }

    fn list_wants(&mut self) {
        let Self { nodes, wants, .. } = self;
        wants.clear();
        let outputs = |node: &Node| node.told.outputs.clone().into_iter();
        wants.extend(nodes.iter().flat_map(|node| outputs(node).map(|one| (one, node.at))));
        // A node may list one universe on several ports.
        wants.sort_unstable();
        wants.dedup();
    }

    /// Forgets silent nodes, and gives one of them, if any.
    pub(super) fn expire(&mut self, now: Time) -> Option<IpAddr> {
        let is_lost = |node: &Node| now.since(node.heard) >= NODE_TIMEOUT;
        let lost: Vec<_> = self.nodes.iter().filter(|node| is_lost(node)).map(|n| n.at).collect();
        self.nodes.retain(|node| !is_lost(node));
        for at in &lost {
            self.show(*at);
        }
        if !lost.is_empty() {
            self.list_wants();
        }
        lost.first().map(SocketAddr::ip)
    }

    /// The router has forgotten everything: it is told of all nodes again.
    pub(super) fn forget_told(&mut self) {
        self.news = self.shown.iter().copied().collect();
    }

    pub(super) fn any_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Tells the router of one node.
    pub(super) fn tell(
        &mut self,
        namespace: &str,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let Some(at) = self.news.pop_front() else { return };
        let place = if at.port() == PORT { at.ip().to_string() } else { at.to_string() };
        let address = |what: &str| format!("{namespace}/nodes/{place}/{what}");
        let groups = self.nodes.iter().filter(|node| node.at == at).map(|node| &node.told);
        let groups: Vec<_> = groups.collect();
        let online = !groups.is_empty();
        uplink.set(
            &address("online"),
            |value| {
                push_bool(value, online);
                Ok(())
            },
            counters,
            out,
        );
        // What is told of a node as a whole is in each group; the first is the root.
        if let Some(root) = groups.iter().min_by_key(|told| told.bind_index) {
            let texts = [
                ("name", &root.short_name),
                ("long_name", &root.long_name),
                ("report", &root.report),
            ];
            for (what, text) in texts {
                uplink.set(&address(what), |value| push_str(value, text), counters, out);
            }
            let outputs: BTreeSet<_> = groups.iter().flat_map(|told| &told.outputs).collect();
            let inputs: BTreeSet<_> = groups.iter().flat_map(|told| &told.inputs).collect();
            for (what, ports) in [("outputs", outputs), ("inputs", inputs)] {
                uplink.set(&address(what), |value| push_ports(value, &ports), counters, out);
            }
        }
        uplink.send(None, counters, out);
    }

    pub(super) fn poll(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        let wanted = Diagnostics { priority: priority::LOW, unicast: true };
        let diagnostics = self.diagnostics.then_some(wanted);
        Poll { on_change: true, diagnostics, range: None }.write(&mut self.packet);
        for to in self.targets.iter().chain(&self.broadcast) {
            send(*to, &self.packet, counters, out);
        }
    }

    /// Sends the frame of `port_address` to those who want it. Whether there was anybody.
    pub(super) fn send(
        &mut self,
        port_address: PortAddress,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> bool {
        let mut listed = false;
        for to in self.wanting(port_address) {
            listed = true;
            // A target may be a node.
            if !self.targets.contains(&to) {
                send(to, packet, counters, out);
            }
        }
        for to in &self.targets {
            send(*to, packet, counters, out);
        }
        let broadcast = self.broadcast.filter(|_| self.broadcast_levels && !listed);
        let broadcast = broadcast.filter(|_| self.may_broadcast(port_address));
        if let Some(to) = broadcast {
            send(to, packet, counters, out);
        }
        listed || broadcast.is_some() || !self.targets.is_empty()
    }

    /// The nodes that output `port_address`.
    fn wanting(&self, port_address: PortAddress) -> impl Iterator<Item = SocketAddr> {
        let from = self.wants.partition_point(|(wanted, _)| *wanted < port_address);
        let wants = self.wants.get(from..).unwrap_or_default().iter();
        wants.take_while(move |(wanted, _)| *wanted == port_address).map(|(_, at)| *at)
    }

    /// Every program of the network hears a broadcast: so only so many universes leave that way.
    fn may_broadcast(&mut self, port_address: PortAddress) -> bool {
        if self.broadcast_universes.contains(&port_address) {
            return true;
        }
        let has_room = self.broadcast_universes.len() < self.broadcast_universes_max;
        has_room && self.broadcast_universes.insert(port_address)
    }

    /// Nodes and targets, each once.
    pub(super) fn everybody(&self) -> BTreeSet<SocketAddr> {
        self.nodes.iter().map(|node| node.at).chain(self.targets.iter().copied()).collect()
    }

    /// Those who may have a device at `port_address`: its nodes, and targets.
    pub(super) fn at(&self, port_address: PortAddress) -> BTreeSet<SocketAddr> {
        self.wanting(port_address).chain(self.targets.iter().copied()).collect()
    }

    /// Sends what is no level to each of `to`.
    pub(super) fn spread(
        &mut self,
        now: Time,
        to: impl IntoIterator<Item = SocketAddr>,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        for to in to {
            if self.own.contains(&to) {
                if self.returning.len() == RETURNING_MAX {
                    self.returning.pop_front();
                }
                self.returning.push_back((now, digest(packet)));
            }
            send(to, packet, counters, out);
        }
    }

    /// Whether `packet`, which came from this machine, is one that [`Nodes::spread`] sent: each
    /// comes back once.
    pub(super) fn comes_back(&mut self, now: Time, packet: &[u8]) -> bool {
        self.returning.retain(|(sent, _)| now.since(*sent) <= RETURN);
        if self.returning.is_empty() {
            return false;
        }
        let found = digest(packet);
        let at = self.returning.iter().position(|(_, sent)| *sent == found);
        at.and_then(|at| self.returning.remove(at)).is_some()
    }

    /// Sends an ArtSync to everybody who may have been sent levels.
    pub(super) fn sync(&mut self, counters: &mut Counters, out: &mut dyn Out) {
        packet::write_sync(&mut self.packet);
        let broadcast = self.broadcast.filter(|_| self.broadcast_levels);
        if let Some(to) = broadcast {
            return send(to, &self.packet, counters, out);
        }
        let takes = |node: &&Node| !node.told.outputs.is_empty();
        let nodes = self.nodes.iter().filter(takes).map(|node| node.at);
        for to in nodes.chain(self.targets.iter().copied()).collect::<BTreeSet<_>>() {
            send(to, &self.packet, counters, out);
        }
    }
}

/// The same for the same octets, in every run.
fn digest(packet: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(packet);
    hasher.finish()
}

fn push_ports(value: &mut Vec<u8>, ports: &BTreeSet<&PortAddress>) -> Result<(), TooLong> {
    let mut array = ArrayWriter::start(value);
    for port in ports {
        push_i64(array.item()?, port.number().into());
    }
    Ok(())
}

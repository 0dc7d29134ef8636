//! The byte streams that OSC travels over: who is at the end of each, how it is framed, and what
//! it missed while its peer did not read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::framing::{Deframer, Framing, wrap};
use crate::{Counters, Out, StreamId, StreamPlan};

pub(super) struct Links {
    /// In the order in which the host counts them.
    plans: Vec<(StreamPlan, Use)>,
    open: BTreeMap<StreamId, Link>,
    /// Links whose peers missed something.
    behind: usize,
    scratch: Vec<u8>,
}

/// What the streams of one plan are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// OSC of whoever opens a connection.
    Callers,
    /// OSC to a target that we connect to, in this voice.
    Target { voice: usize, framing: Framing },
    /// OSCQuery.
    Query,
}

struct Link {
    voice: usize,
    framing: Option<Framing>,
    /// `None` while its packets are read.
    deframer: Option<Deframer>,
    /// Missed something: the name up to which it has been told anew.
    behind: Option<String>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { plans: Vec::new(), open: BTreeMap::new(), behind: 0, scratch: Vec::new() }
    }

    pub(super) fn listen(&mut self, bind: SocketAddr, connections_max: u32, what: Use) {
        self.plans.push((StreamPlan::Listen { bind, connections_max }, what));
    }

    pub(super) fn connect(&mut self, to: &str, voice: usize, framing: Framing) {
        let plan = StreamPlan::Connect { to: to.to_owned() };
        self.plans.push((plan, Use::Target { voice, framing }));
    }

    pub(super) fn plans(&self) -> Vec<StreamPlan> {
        self.plans.iter().map(|(plan, _)| plan.clone()).collect()
    }

    pub(super) fn is_used(&self) -> bool {
        !self.plans.is_empty()
    }

    pub(super) fn use_of(&self, plan: u8) -> Option<Use> {
        self.plans.get(usize::from(plan)).map(|(_, what)| *what)
    }

    /// Begins a link. A target is told what is known, little by little; a caller waits for what
    /// changes.
    pub(super) fn opened(&mut self, stream: StreamId, what: Use) {
        let (voice, framing) = match what {
            Use::Target { voice, framing } => (voice, Some(framing)),
            Use::Callers | Use::Query => (super::outward::PLAIN, None),
        };
        let behind = framing.map(|_| String::new());
        self.behind += usize::from(behind.is_some());
        let deframer = Some(Deframer::new(framing));
        self.open.insert(stream, Link { voice, framing, deframer, behind });
    }

    pub(super) fn ended(&mut self, stream: StreamId) {
        if let Some(link) = self.open.remove(&stream) {
            self.behind -= usize::from(link.behind.is_some());
        }
    }

    pub(super) fn voice(&self, stream: StreamId) -> Option<usize> {
        self.open.get(&stream).map(|link| link.voice)
    }

    /// Lends the deframer of a link for the bytes that begin with `first`; [`Links::give_back`]
    /// returns it.
    pub(super) fn lend(&mut self, stream: StreamId, first: u8) -> Option<Deframer> {
        let link = self.open.get_mut(&stream)?;
        link.framing = link.framing.or_else(|| Framing::told_by(first));
        link.deframer.take()
    }

    pub(super) fn give_back(&mut self, stream: StreamId, deframer: Deframer) {
        if let Some(link) = self.open.get_mut(&stream) {
            link.deframer = Some(deframer);
        }
    }

    /// Whether somebody hears `voice`.
    pub(super) fn has(&self, voice: usize) -> bool {
        self.open.values().any(|link| link.voice == voice && link.framing.is_some())
    }

    /// Says `packet` to every link of `voice` but one.
    pub(super) fn send(
        &mut self,
        voice: usize,
        but: Option<StreamId>,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let Self { open, behind, scratch, .. } = self;
        for (stream, link) in open {
            if link.voice != voice || Some(*stream) == but || link.framing.is_none() {
                continue;
            }
            if link.say(*stream, packet, scratch, out) {
                counters.packets_out += 1;
            } else {
                counters.dropped += 1;
                *behind += usize::from(link.behind.is_none());
                link.behind = Some(String::new());
            }
        }
    }

    /// Says `packet` to one link, if that has room.
    pub(super) fn answer(
        &mut self,
        stream: StreamId,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let Self { open, scratch, .. } = self;
        let Some(link) = open.get_mut(&stream) else { return };
        if link.say(stream, packet, scratch, out) {
            counters.packets_out += 1;
        } else {
            counters.dropped += 1;
        }
    }

    pub(super) fn any_behind(&self) -> bool {
        self.behind > 0
    }

    /// Links that missed something, each with its voice and how far it has been told anew.
    pub(super) fn behind(&self) -> Vec<(StreamId, usize, String)> {
        let behind = self.open.iter().filter_map(|(stream, link)| {
            link.behind.as_ref().map(|name| (*stream, link.voice, name.clone()))
        });
        behind.collect()
    }

    /// Notes how far a link has been told anew; `None`: it knows everything.
    pub(super) fn caught_up(&mut self, stream: StreamId, to: Option<String>) {
        if let Some(link) = self.open.get_mut(&stream) {
            self.behind -= usize::from(link.behind.is_some() && to.is_none());
            link.behind = to;
        }
    }
}

impl Link {
    /// `false`: there was no room. A caller that has not spoken is told nothing: nobody knows how.
    fn say(
        &self,
        stream: StreamId,
        packet: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut dyn Out,
    ) -> bool {
        let Some(framing) = self.framing else { return true };
        scratch.clear();
        wrap(framing, packet, scratch);
        let fits = scratch.len() <= out.stream_room(stream);
        if fits {
            out.to_stream(stream, scratch);
        }
        fits
    }
}

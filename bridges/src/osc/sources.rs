//! Whose what comes in is: each host, or each of its ports, is a source of its own at the router,
//! and so is each connection.

use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::time::Time;

use super::outward::End;
use crate::uplink::{Details, Source, Uplink, source_id};
use crate::{Counters, Out, Peer, StreamId};

/// Sources that are told apart; a further one takes the place of the one silent longest.
const SOURCES_MAX: usize = 256;

pub(super) struct Sources {
    /// Whether the router is told.
    wanted: bool,
    by_port: bool,
    known: Vec<Known>,
    /// Who spoke last.
    last: usize,
}

struct Known {
    who: Who,
    details: Details,
    heard: Time,
    /// The router has its details.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Host(IpAddr),
    Port(SocketAddr),
    Link(StreamId),
}

impl Sources {
    pub(super) fn new(wanted: bool, by_port: bool) -> Self {
        Self { wanted, by_port, known: Vec::new(), last: 0 }
    }

    /// Whether `from` can still be named: a connection that ended was lost with its claims.
    pub(super) fn may_speak(&self, from: End) -> bool {
        match from {
            End::Stream(stream) if self.wanted => {
                self.known.iter().any(|known| known.who == Who::Link(stream))
            }
            _ => true,
        }
    }

    /// What is said to the router from now on, until it is sent, is said by `from`.
    pub(super) fn speak(
        &mut self,
        now: Time,
        from: End,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if !self.wanted {
            return;
        }
        let who = match from {
            End::Stream(stream) => Who::Link(stream),
            End::Datagrams(from) if self.by_port => Who::Port(from),
            End::Datagrams(from) => Who::Host(from.ip()),
        };
        if self.known.get(self.last).is_none_or(|known| known.who != who) {
            self.last = self.enter(now, who, "", uplink, counters, out);
        }
        let Some(known) = self.known.get_mut(self.last) else { return };
        known.heard = now;
        if !std::mem::replace(&mut known.is_told, true) {
            uplink.describe(&known.details, counters, out);
        }
        uplink.mark(&Source { id: &known.details.id, priority: None, by: None });
    }

    /// The place of `who`, entered if need be. `at`: where the other end of a connection is.
    fn enter(
        &mut self,
        now: Time,
        who: Who,
        at: &str,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> usize {
        if let Some(place) = self.known.iter().position(|known| known.who == who) {
            return place;
        }
        if self.known.len() == SOURCES_MAX {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.heard);
            if let Some(place) = oldest.map(|(place, _)| place) {
                counters.overflowed += 1;
                self.lose(place, uplink, counters, out);
            }
        }
        let (id, host) = match who {
            Who::Host(host) => (host.to_string(), host.to_string()),
            Who::Port(at) => (format!("{}.{}", at.ip(), at.port()), at.to_string()),
            Who::Link(StreamId { index, generation }) => {
                (format!("{}.{index}.{generation}", uplink.name()), at.to_owned())
            }
        };
        let id = source_id("osc", &id);
        let name = uplink.name().to_owned();
        let details = Details { id, protocol: "osc", name, host, universe: None };
        self.known.push(Known { who, details, heard: now, is_told: false });
        self.known.len() - 1
    }

    /// A connection is there.
    pub(super) fn opened(
        &mut self,
        now: Time,
        stream: StreamId,
        peer: Peer<'_>,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        if let Peer::At(at) = peer
            && self.wanted
        {
            let _ = self.enter(now, Who::Link(stream), &at.to_string(), uplink, counters, out);
        }
    }

    /// A connection is gone, and with it whoever spoke there.
    pub(super) fn ended(
        &mut self,
        stream: StreamId,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let place = self.known.iter().position(|known| known.who == Who::Link(stream));
        if let Some(place) = place {
            self.lose(place, uplink, counters, out);
        }
    }

    fn lose(
        &mut self,
        place: usize,
        uplink: &mut Uplink,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let lost = self.known.swap_remove(place);
        self.last = usize::MAX;
        if lost.is_told {
            uplink.release(&lost.details, counters, out);
            uplink.send(None, counters, out);
        }
    }

    /// The router knows nobody any more.
    pub(super) fn forget_told(&mut self) {
        self.known.iter_mut().for_each(|known| known.is_told = false);
    }
}

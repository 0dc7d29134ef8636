//! Who polls us, and what of us they want to hear without asking again.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::time::{Span, Time};

use super::super::packet::{Diag, Diagnostics, Poll, PortAddress, priority};
use super::super::send;
use crate::{Counters, Out};

/// Controllers that are remembered; further ones are answered, but not told of changes.
const POLLERS_MAX: usize = 16;

/// A controller that has not polled for three of its intervals is gone.
const POLLER_TIMEOUT: Span = Span::from_secs(10);

/// The same trouble is told again only after this.
const TROUBLE_PAUSE: Span = Span::from_secs(10);

/// Troubles told within [`TROUBLE_PAUSE`]; more are not told.
const TROUBLES_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Pollers {
    pollers: Vec<Poller>,
    /// What was told lately, and when.
    troubles: VecDeque<(Trouble, Time)>,
}

struct Poller {
    at: SocketAddr,
    heard: Time,
    poll: Poll,
}

/// What a technician would want to know, and the network may be asked to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Trouble {
    Malformed { from: IpAddr },
    ThirdSender { from: IpAddr, port_address: PortAddress },
    TooManyUniverses { port_address: PortAddress },
    NodeLost { at: IpAddr },
}

impl Trouble {
    fn priority(&self) -> u8 {
        match self {
            Self::Malformed { .. } => priority::LOW,
            Self::NodeLost { .. } => priority::MEDIUM,
            Self::ThirdSender { .. } | Self::TooManyUniverses { .. } => priority::HIGH,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { from } => write!(f, "{from} sent what is not Art-Net"),
            Self::ThirdSender { from, port_address } => {
                let number = port_address.number();
                write!(f, "{from} is a third sender of port-address {number} and is ignored")
            }
            Self::TooManyUniverses { port_address } => {
                write!(f, "no room for port-address {}", port_address.number())
            }
            Self::NodeLost { at } => write!(f, "{at} left three polls unanswered"),
        }
    }
}

impl Pollers {
    /// `false`: there is no room to remember it.
    pub(super) fn heard(&mut self, now: Time, at: SocketAddr, poll: &Poll) -> bool {
        if let Some(poller) = self.pollers.iter_mut().find(|poller| poller.at == at) {
            (poller.heard, poller.poll) = (now, *poll);
            return true;
        }
        if self.pollers.len() == POLLERS_MAX {
            return false;
        }
        self.pollers.push(Poller { at, heard: now, poll: *poll });
        true
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.pollers.retain(|poller| now.since(poller.heard) < POLLER_TIMEOUT);
        let is_over = |told: &(Trouble, Time)| now.since(told.1) >= TROUBLE_PAUSE;
        while self.troubles.pop_front_if(|told| is_over(told)).is_some() {}
    }

    pub(super) fn any_on_change(&self) -> bool {
        self.pollers.iter().any(|poller| poller.poll.on_change)
    }

    pub(super) fn on_change(&self) -> Vec<SocketAddr> {
        let wanting = self.pollers.iter().filter(|poller| poller.poll.on_change);
        wanting.map(|poller| poller.at).collect()
    }

    /// To each that wants it; one broadcast does for all that asked for that, where there is an
    /// address for it.
    pub(super) fn complain(
        &mut self,
        now: Time,
        trouble: &Trouble,
        broadcast: Option<SocketAddr>,
        packet: &mut Vec<u8>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let wanted = |poller: &&Poller| {
            poller.poll.diagnostics.is_some_and(|one| one.priority <= trouble.priority())
        };
        let is_known = self.troubles.iter().any(|(known, _)| known == trouble);
        if is_known
            || self.troubles.len() == TROUBLES_MAX
            || !self.pollers.iter().any(|p| wanted(&p))
        {
            return;
        }
        self.troubles.push_back((*trouble, now));
        let text = trouble.to_string();
        Diag { priority: trouble.priority(), port: 0, text: text.as_bytes() }.write(packet);
        let mut is_broadcast = false;
        for poller in self.pollers.iter().filter(wanted) {
            let unicast =
                matches!(poller.poll.diagnostics, Some(Diagnostics { unicast: true, .. }));
            match broadcast.filter(|_| !unicast) {
                Some(to) if !is_broadcast => {
                    is_broadcast = true;
                    send(to, packet, counters, out);
                }
                Some(_) => {}
                None => send(poller.at, packet, counters, out),
            }
        }
    }
}

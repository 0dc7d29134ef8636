//! Universes that come from the network: who sends them, what they look like, what waits for a
//! sync.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clasp_rt_core::time::{Span, Time};

use super::packet::{Dmx, PortAddress, is_stale};
use crate::merge::{Levels, Merge, Rule};

/// Senders merged into one universe; Art-Net allows two.
const SENDERS_MAX: usize = 2;

/// A silent sender is lost after this.
const SENDER_TIMEOUT: Span = Span::from_secs(10);

/// Without an ArtSync for this long, frames are shown at once again.
const SYNC_TIMEOUT: Span = Span::from_secs(4);

/// A sender that was silent for this long may go on with any sequence number.
const SEQUENCE_GAP: Span = Span::from_secs(1);

/// Senders of ArtSync that are remembered; frames of further ones are shown at once.
const SYNCS_MAX: usize = 32;

pub(super) struct Inputs {
    rule: Rule,
    universes_max: usize,
    universes: BTreeMap<PortAddress, Universe>,
    /// Who sends ArtSync, and when last.
    syncs: Vec<(IpAddr, Time)>,
}

pub(super) struct Universe {
    pub(super) port_address: PortAddress,
    merge: Merge<IpAddr>,
    /// The last sequence number of each sender, and when it came.
    sequences: Vec<(IpAddr, u8, Time)>,
    /// What the router was told.
    told: Levels,
    /// The look waits for an ArtSync.
    waits: bool,
}

/// Why a frame changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Stale,
    ThirdSender,
    TooManyUniverses,
}

/// Which universes may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    None,
    One(PortAddress),
    /// Those that wait no longer.
    All,
}

impl Inputs {
    pub(super) fn new(rule: Rule, universes_max: usize) -> Self {
        Self { rule, universes_max, universes: BTreeMap::new(), syncs: Vec::new() }
    }

    pub(super) fn receive(
        &mut self,
        now: Time,
        from: IpAddr,
        dmx: &Dmx<'_>,
    ) -> Result<Released, Ignored> {
        let is_synced = self
            .syncs
            .iter()
            .any(|(sender, heard)| *sender == from && now.since(*heard) < SYNC_TIMEOUT);
        if self.universes.len() >= self.universes_max
            && !self.universes.contains_key(&dmx.port_address)
        {
            return Err(Ignored::TooManyUniverses);
        }
        let universe = self
            .universes
            .entry(dmx.port_address)
            .or_insert_with(|| Universe::new(dmx.port_address, self.rule));
        universe.receive(now, from, dmx)?;
        universe.waits = is_synced && !universe.merge.is_merging();
        Ok(if universe.waits { Released::None } else { Released::One(dmx.port_address) })
    }

    /// Shows what the sender of this ArtSync has sent, unless it is merged with another's.
    pub(super) fn sync(&mut self, now: Time, from: IpAddr) -> Released {
        if let Some((_, heard)) = self.syncs.iter_mut().find(|(sender, _)| *sender == from) {
            *heard = now;
        } else if self.syncs.len() < SYNCS_MAX {
            self.syncs.push((from, now));
        }
        for universe in self.universes.values_mut() {
            universe.waits &= !universe.merge.has_sender(from);
        }
        Released::All
    }

    /// Forgets silent senders, and shows what waited for a sync that will not come.
    pub(super) fn expire(&mut self, now: Time) -> Released {
        let mut released = Released::None;
        let before = self.syncs.len();
        self.syncs.retain(|(_, heard)| now.since(*heard) < SYNC_TIMEOUT);
        let sync_lost = self.syncs.len() < before;
        for universe in self.universes.values_mut() {
            let waited = universe.waits;
            if sync_lost {
                universe.waits &=
                    self.syncs.iter().any(|(sender, _)| universe.merge.has_sender(*sender));
            }
            if universe.merge.expire(now) || waited != universe.waits {
                released = Released::All;
            }
        }
        released
    }

    /// The universes of `released`, each to be told by [`Universe::advance`].
    pub(super) fn released(&mut self, released: Released) -> impl Iterator<Item = &mut Universe> {
        let range = match released {
            Released::One(port_address) => port_address..=port_address,
            Released::All => PortAddress::MIN..=PortAddress::MAX,
            // An empty range would not do: its start must not lie after its end.
            Released::None => PortAddress::MIN..=PortAddress::MIN,
        };
        self.universes
            .range_mut(range)
            .map(|(_, universe)| universe)
            .filter(move |universe| released != Released::None && !universe.waits)
    }

    /// The router has forgotten everything: the next telling tells all slots.
    pub(super) fn forget_told(&mut self) {
        self.universes.values_mut().for_each(|universe| universe.told = Levels::default());
    }

    pub(super) fn port_addresses(&self) -> impl Iterator<Item = PortAddress> {
        self.universes.keys().copied()
    }

    pub(super) fn get(&self, port_address: PortAddress) -> Option<&Universe> {
        self.universes.get(&port_address)
    }

    pub(super) fn is_latest(&self) -> bool {
        self.rule == Rule::Ltp
    }
}

impl Universe {
    fn new(port_address: PortAddress, rule: Rule) -> Self {
        Self {
            port_address,
            merge: Merge::new(rule, SENDERS_MAX, SENDER_TIMEOUT),
            sequences: Vec::with_capacity(SENDERS_MAX),
            told: Levels::default(),
            waits: false,
        }
    }

    fn receive(&mut self, now: Time, from: IpAddr, dmx: &Dmx<'_>) -> Result<(), Ignored> {
        let known = self.sequences.iter_mut().find(|(sender, ..)| *sender == from);
        if let Some((_, last, heard)) = known {
            if now.since(*heard) < SEQUENCE_GAP && is_stale(*last, dmx.sequence) {
                return Err(Ignored::Stale);
            }
            (*last, *heard) = (dmx.sequence, now);
        }
        self.merge.receive(now, from, dmx.levels).map_err(|_| Ignored::ThirdSender)?;
        self.sequences.retain(|(sender, ..)| self.merge.has_sender(*sender));
        if self.sequences.iter().all(|(sender, ..)| *sender != from) {
            self.sequences.push((from, dmx.sequence, now));
        }
        Ok(())
    }

    /// Calls `changed` with each slot, from 0, that the router does not know yet.
    pub(super) fn advance(&mut self, changed: impl FnMut(usize, u8)) {
        self.told.advance(self.merge.look(), changed);
    }

    pub(super) fn is_heard(&self) -> bool {
        self.merge.is_heard()
    }

    pub(super) fn is_merging(&self) -> bool {
        self.merge.is_merging()
    }
}

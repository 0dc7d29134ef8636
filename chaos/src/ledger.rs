//! What peers did and what they heard: the evidence that the checks look at when a run is over.

use std::collections::BTreeMap;

use clasp_rt_core::shard::CloseReason;
use clasp_rt_core::signal::Phase;
use clasp_rt_core::time::Time;

/// A peer of a world, counted from 0.
pub type PeerId = usize;

/// Every deed has a number of its own, which is also the value that it writes: the peer in the
/// upper half, a count in the lower. Whoever hears a value knows who wrote it, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub i64);

impl Number {
    pub fn new(peer: PeerId, count: u32) -> Self {
        Self(((peer as i64 + 1) << 32) | i64::from(count))
    }

    pub fn writer(self) -> PeerId {
        ((self.0 >> 32) - 1).max(0) as PeerId
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Set,
    Event,
    Stream,
    Gesture {
        id: u32,
        phase: Phase,
    },
    /// A SET of an address whose sources contend. `None`: the session itself is the source.
    Claim {
        source: Option<&'static str>,
    },
    /// The session says that its source is lost.
    Release {
        source: &'static str,
    },
}

impl Act {
    /// What must reach everyone who listens, or their link is closed.
    pub fn must_arrive(self) -> bool {
        match self {
            Self::Event => true,
            Self::Gesture { phase, .. } => phase != Phase::Move,
            Self::Set | Self::Stream | Self::Claim { .. } | Self::Release { .. } => false,
        }
    }
}

/// One write of one address, alone or in a bundle.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The hearing of the connection over which it was done.
    pub session: usize,
    pub address: String,
    pub act: Act,
    /// The bundle's first number.
    pub bundle: Option<Number>,
    /// Belongs to a bundle that is to be applied later.
    pub timed: bool,
    /// The router took the frame.
    pub taken: bool,
    pub verdict: Option<Verdict>,
}

/// What the router said about a write that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted { revision: Option<u64> },
    Refused { code: u16 },
}

/// All deeds of a world, by number: in the order of each writer.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub deeds: BTreeMap<Number, Deed>,
}

impl Ledger {
    pub fn taken(&mut self, numbers: &[Number]) {
        for number in numbers {
            if let Some(deed) = self.deeds.get_mut(number) {
                deed.taken = true;
            }
        }
    }

    pub fn judged(&mut self, numbers: &[Number], verdict: Verdict) {
        for number in numbers {
            if let Some(deed) = self.deeds.get_mut(number) {
                deed.verdict = Some(verdict);
            }
        }
    }

    /// The numbers of each bundle.
    pub fn bundles(&self) -> BTreeMap<Number, Vec<Number>> {
        let mut bundles: BTreeMap<Number, Vec<Number>> = BTreeMap::new();
        for (number, deed) in &self.deeds {
            if let Some(bundle) = deed.bundle {
                bundles.entry(bundle).or_default().push(*number);
            }
        }
        bundles
    }
}

/// Something a peer heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A SET that was delivered.
    Set {
        address: String,
        number: Number,
        revision: u64,
    },
    /// A line of a SNAPSHOT.
    Known {
        address: String,
        number: Number,
        revision: u64,
    },
    Published {
        address: String,
        number: Number,
    },
}

/// All that one peer heard over one connection.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// Its place among all hearings of the world.
    pub session: usize,
    pub peer: PeerId,
    pub shard: usize,
    /// What it subscribed to, as the first thing it said.
    pub patterns: Vec<String>,
    /// Subscribed before anybody wrote.
    pub from_start: bool,
    /// Reads at once, so that nothing may be left out or joined for it.
    pub prompt: bool,
    /// Wanted deliveries held back to a rate.
    pub paced: bool,
    pub heard: Vec<(Time, Heard)>,
    /// The router closed the link.
    pub closed: Option<CloseReason>,
    /// The peer left.
    pub left: bool,
}

impl Hearing {
    pub fn is_live(&self) -> bool {
        self.closed.is_none() && !self.left
    }

    /// What the peer believes about every address: value and revision.
    pub fn view(&self) -> BTreeMap<&str, (Number, u64)> {
        let beliefs = self.heard.iter().filter_map(|(_, heard)| match heard {
            Heard::Set { address, number, revision }
            | Heard::Known { address, number, revision } => {
                Some((address.as_str(), (*number, *revision)))
            }
            Heard::Published { .. } => None,
        });
        beliefs.collect()
    }

    /// Deliveries in order, without snapshots.
    pub fn delivered(&self) -> impl Iterator<Item = (&str, Number)> {
        self.heard.iter().filter_map(|(_, heard)| match heard {
            Heard::Set { address, number, .. } | Heard::Published { address, number } => {
                Some((address.as_str(), *number))
            }
            Heard::Known { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_its_writer_and_rises_with_its_count() {
        for peer in [0, 1, 40] {
            assert_eq!(Number::new(peer, 7).writer(), peer);
            assert!(Number::new(peer, 7) < Number::new(peer, 8));
        }
    }

    #[test]
    fn a_view_holds_the_last_belief_about_each_address() {
        let set = |number, revision| {
            (Time(0), Heard::Set { address: "/a".into(), number: Number(number), revision })
        };
        let known = Heard::Known { address: "/a".into(), number: Number(1), revision: 1 };
        let hearing = Hearing {
            session: 0,
            peer: 0,
            shard: 0,
            patterns: Vec::new(),
            from_start: true,
            prompt: true,
            paced: false,
            heard: vec![(Time(0), known), set(2, 2), set(3, 3)],
            closed: None,
            left: false,
        };
        assert_eq!(hearing.view(), BTreeMap::from([("/a", (Number(3), 3))]));
        assert_eq!(hearing.delivered().count(), 2);
    }
}

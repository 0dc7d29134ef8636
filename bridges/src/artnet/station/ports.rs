//! Which port-addresses are taken or given: those configured, and what a controller made of them.

use std::collections::BTreeSet;

use super::super::Universes;
use super::super::packet::PortAddress;
use super::LISTED_MAX;

pub(super) struct Ports {
    chosen: Universes,
    /// What an ArtAddress exchanged: these for those.
    without: BTreeSet<PortAddress>,
    with: BTreeSet<PortAddress>,
}

impl Ports {
    pub(super) fn new(chosen: Universes) -> Self {
        Self { chosen, without: BTreeSet::new(), with: BTreeSet::new() }
    }

    pub(super) fn contain(&self, port_address: PortAddress) -> bool {
        let is_plain = self.with.is_empty();
        (self.chosen.contain(port_address) && (is_plain || !self.without.contains(&port_address)))
            || (!is_plain && self.with.contains(&port_address))
    }

    /// `false`: no room to remember it.
    pub(super) fn exchange(&mut self, old: PortAddress, new: PortAddress) -> bool {
        if self.with.len() >= LISTED_MAX || self.without.len() >= LISTED_MAX {
            return false;
        }
        self.with.remove(&old);
        self.without.insert(old);
        self.without.remove(&new);
        self.with.insert(new);
        true
    }

    /// At most `max` of them; where all are chosen, the first `by_default`.
    pub(super) fn listed(&self, by_default: u16, max: usize) -> Vec<PortAddress> {
        let configured: Vec<_> = match &self.chosen {
            Universes::All => (0..by_default).filter_map(PortAddress::new).collect(),
            Universes::Some(ranges) => {
                let each = ranges.iter().flat_map(|(first, last)| first.number()..=last.number());
                each.filter_map(PortAddress::new).take(max).collect()
            }
        };
        let kept = configured.into_iter().filter(|one| self.contain(*one));
        kept.chain(self.with.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_can_be_exchanged_and_put_back() {
        let number = |number| PortAddress::new(number).expect("15 bits");
        for chosen in ["0-3", "all"] {
            let chosen = Universes::try_from(chosen.to_owned()).expect(chosen);
            let mut ports = Ports::new(chosen);
            assert!(ports.exchange(number(1), number(100)));
            assert!(!ports.contain(number(1)) && ports.contain(number(100)));
            assert!(ports.listed(4, 100).contains(&number(100)));
            assert!(!ports.listed(4, 100).contains(&number(1)));
            assert!(ports.exchange(number(100), number(1)));
            assert!(ports.contain(number(1)) && !ports.contain(number(100)));
        }
        let mut ports = Ports::new(Universes::All);
        let all =
            (0..LISTED_MAX as u16).all(|one| ports.exchange(number(one), number(one + 9_000)));
        assert!(all && !ports.exchange(number(5_000), number(1)), "the table is full");
    }
}

//! Universes by their port-address: found at once, kept in the order in which they came, bounded.

use super::packet::PortAddress;

/// Every port-address that there is.
const PORT_ADDRESSES: usize = PortAddress::MAX.number() as usize + 1;

/// In place of a universe that is not in the table.
const ABSENT: u16 = u16::MAX;

pub(super) struct Table<T> {
    /// For each port-address the place of its universe.
    places: Box<[u16]>,
    /// Each in a box of its own, so that a table that grows copies no levels.
    universes: Vec<Box<T>>,
    universes_max: usize,
}

impl<T> Table<T> {
    /// For at most `universes_max`, of the 32,768 that can be told apart.
    pub(super) fn new(universes_max: usize) -> Self {
        let universes_max = universes_max.min(PORT_ADDRESSES);
        let places = vec![ABSENT; PORT_ADDRESSES].into_boxed_slice();
        Self { places, universes: Vec::with_capacity(universes_max), universes_max }
    }

    /// Where the universe of `port_address` is, if it is there.
    pub(super) fn place(&self, port_address: PortAddress) -> Option<usize> {
        let place = self.places.get(usize::from(port_address.number())).copied();
        place.filter(|place| *place != ABSENT).map(usize::from)
    }

    /// Where it is; one that is not there yet is made, unless the table is full.
    pub(super) fn enter(
        &mut self,
        port_address: PortAddress,
        make: impl FnOnce() -> T,
    ) -> Option<usize> {
        if let Some(place) = self.place(port_address) {
            return Some(place);
        }
        let place = self.universes.len();
        if place == self.universes_max {
            return None;
        }
        *self.places.get_mut(usize::from(port_address.number()))? = place as u16;
        self.universes.push(Box::new(make()));
        Some(place)
    }

    pub(super) fn find(&self, port_address: PortAddress) -> Option<&T> {
        self.get(self.place(port_address)?)
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.universes.get(place).map(|universe| &**universe)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.universes.get_mut(place).map(|universe| &mut **universe)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.universes.iter().map(|universe| &**universe)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.universes.iter_mut().map(|universe| &mut **universe)
    }

    pub(super) fn len(&self) -> usize {
        self.universes.len()
    }

    /// Bytes of a table of `universes` that is full.
    pub(super) const fn memory_bytes_for(universes: usize) -> u64 {
        (PORT_ADDRESSES * size_of::<u16>() + universes * (size_of::<Box<T>>() + size_of::<T>()))
            as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_universe_is_found_until_there_is_no_room_for_more() {
        let at = |number| PortAddress::new(number).expect("15 bits");
        let mut table = Table::new(2);
        assert_eq!(table.enter(at(0x7FFF), || 'a'), Some(0));
        assert_eq!(table.enter(at(0), || 'b'), Some(1));
        assert_eq!(table.enter(at(0x7FFF), || 'c'), Some(0));
        assert_eq!(table.enter(at(1), || 'd'), None);
        assert_eq!(
            (table.find(at(0x7FFF)), table.find(at(0)), table.find(at(1))),
            (Some(&'a'), Some(&'b'), None)
        );
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_table_may_hold_every_port_address() {
        let mut table = Table::new(usize::MAX);
        for number in 0..=0x7FFF {
            let port_address = PortAddress::new(number).expect("15 bits");
            assert_eq!(table.enter(port_address, || number), Some(usize::from(number)));
        }
        assert_eq!(table.find(PortAddress::MAX), Some(&0x7FFF));
    }
}

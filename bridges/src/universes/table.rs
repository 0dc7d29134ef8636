//! Universes by their number: found at once, kept in the order in which they came, bounded.

/// In place of a universe that is not in the table.
const ABSENT: u16 = u16::MAX;

pub(crate) struct Table<T> {
    /// For each number up to the highest that was entered, the place of its universe. A show has a
    /// few low numbers of the 64,000 that there are.
    places: Vec<u16>,
    numbers: usize,
    /// Each in a box of its own, so that a table that grows copies no levels.
    universes: Vec<Box<T>>,
    universes_max: usize,
}

impl<T> Table<T> {
    /// For at most `universes_max`, with numbers below `numbers`.
    pub(crate) fn new(numbers: usize, universes_max: usize) -> Self {
        // A place must be told from `ABSENT`.
        let universes_max = universes_max.min(numbers).min(ABSENT.into());
        let universes = Vec::with_capacity(universes_max);
        Self { places: Vec::new(), numbers, universes, universes_max }
    }

    /// Where the universe `number` is, if it is there.
    pub(crate) fn place(&self, number: u16) -> Option<usize> {
        let place = self.places.get(usize::from(number)).copied();
        place.filter(|place| *place != ABSENT).map(usize::from)
    }

    /// Where it is; one that is not there yet is made, unless the table is full.
    pub(crate) fn enter(&mut self, number: u16, make: impl FnOnce() -> T) -> Option<usize> {
        if let Some(place) = self.place(number) {
            return Some(place);
        }
        let (place, index) = (self.universes.len(), usize::from(number));
        if place == self.universes_max || index >= self.numbers {
            return None;
        }
        if self.places.len() <= index {
            let room = (index + 1).next_power_of_two().min(self.numbers);
            self.places.reserve_exact(room - self.places.len());
            self.places.resize(room, ABSENT);
        }
        *self.places.get_mut(index)? = place as u16;
        self.universes.push(Box::new(make()));
        Some(place)
    }

    pub(crate) fn find(&self, number: u16) -> Option<&T> {
        self.get(self.place(number)?)
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.universes.get(place).map(|universe| &**universe)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.universes.get_mut(place).map(|universe| &mut **universe)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.universes.iter().map(|universe| &**universe)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.universes.iter_mut().map(|universe| &mut **universe)
    }

    pub(crate) fn len(&self) -> usize {
        self.universes.len()
    }

    /// Bytes of a table of `universes` that is full.
    pub(crate) const fn memory_bytes_for(numbers: usize, universes: usize) -> u64 {
        (numbers * size_of::<u16>() + universes * (size_of::<Box<T>>() + size_of::<T>())) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_universe_is_found_until_there_is_no_room_for_more() {
        let mut table = Table::new(0x8000, 2);
        assert_eq!(table.enter(0x7FFF, || 'a'), Some(0));
        assert_eq!(table.enter(0, || 'b'), Some(1));
        assert_eq!(table.enter(0x7FFF, || 'c'), Some(0));
        assert_eq!(table.enter(1, || 'd'), None);
        assert_eq!(table.find(0x7FFF), Some(&'a'));
        assert_eq!((table.find(0), table.find(1), table.find(0x8000)), (Some(&'b'), None, None));
        assert_eq!(Table::new(0x8000, 2).enter(0x8000, || 'e'), None, "no such number");
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_table_may_hold_every_number_and_none_beyond() {
        let mut table = Table::new(0x8000, usize::MAX);
        for number in 0..=0x7FFF {
            assert_eq!(table.enter(number, || number), Some(usize::from(number)));
        }
        assert_eq!(table.find(0x7FFF), Some(&0x7FFF));
        assert_eq!(table.enter(0x8000, || 0), None);
    }
}

//! Lists through tables of fixed size: a line by age, and for each owner what it has.

use alloc::boxed::Box;
use alloc::vec;

const NONE: u32 = u32::MAX;
/// The neighbour of what is in no list.
const OUT: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
}

const ALONE: Link = Link { next: OUT, previous: OUT };

/// Items of `0..capacity` in the order in which they joined.
#[derive(Debug)]
pub(crate) struct Line {
    links: Box<[Link]>,
    first: u32,
    last: u32,
}

impl Line {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { links: vec![ALONE; capacity as usize].into(), first: NONE, last: NONE }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        size_of_val(&*self.links) as u64
    }

    /// What joined before all others.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts `item` at the end, wherever it was.
    pub(crate) fn join(&mut self, item: u32) {
        self.leave(item);
        self.links[item as usize] = Link { next: NONE, previous: self.last };
        match self.last {
            NONE => self.first = item,
            last => self.links[last as usize].next = item,
        }
        self.last = item;
    }

    /// Takes `item` out, if it is in.
    pub(crate) fn leave(&mut self, item: u32) {
        let Link { next, previous } = core::mem::replace(&mut self.links[item as usize], ALONE);
        if next == OUT {
            return;
        }
        match next {
            NONE => self.last = previous,
            next => self.links[next as usize].previous = previous,
        }
        match previous {
            NONE => self.first = next,
            previous => self.links[previous as usize].next = next,
        }
    }
}

/// Items of `0..items_max`, each in the list of one owner of `0..owners_max` or in none; newest
/// first.
#[derive(Debug)]
pub(crate) struct Owned {
    links: Box<[Link]>,
    first: Box<[u32]>,
}

impl Owned {
    pub(crate) fn new(owners_max: u32, items_max: u32) -> Self {
        Self {
            links: vec![ALONE; items_max as usize].into(),
            first: vec![NONE; owners_max as usize].into(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.links) + size_of_val(&*self.first)) as u64
    }

    pub(crate) fn first(&self, owner: u32) -> Option<u32> {
        let first = self.first[owner as usize];
        (first != NONE).then_some(first)
    }

    /// What follows `item` in its list.
    pub(crate) fn next(&self, item: u32) -> Option<u32> {
        let next = self.links[item as usize].next;
        (next != NONE && next != OUT).then_some(next)
    }

    /// Gives `item`, which nobody has, to `owner`.
    pub(crate) fn give(&mut self, owner: u32, item: u32) {
        let next = core::mem::replace(&mut self.first[owner as usize], item);
        self.links[item as usize] = Link { next, previous: NONE };
        if next != NONE {
            self.links[next as usize].previous = item;
        }
    }

    /// Takes `item` from `owner`, who has it.
    pub(crate) fn take(&mut self, owner: u32, item: u32) {
        let Link { next, previous } = core::mem::replace(&mut self.links[item as usize], ALONE);
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        match previous {
            NONE => self.first[owner as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_line(line: &mut Line) -> Vec<u32> {
        let mut items = vec![];
        while let Some(first) = line.first() {
            items.push(first);
            line.leave(first);
        }
        items
    }

    proptest! {
        #[test]
        fn a_line_keeps_the_order_of_joining(
            steps in prop::collection::vec((any::<bool>(), 0..8_u32), 0..60),
        ) {
            let (mut line, mut model) = (Line::new(8), Vec::new());
            for (joins, item) in steps {
                model.retain(|&other| other != item);
                if joins {
                    line.join(item);
                    model.push(item);
                } else {
                    line.leave(item);
                }
                prop_assert_eq!(line.first(), model.first().copied());
            }
            prop_assert_eq!(of_line(&mut line), model);
        }

        #[test]
        fn every_owner_has_what_it_was_given_and_no_more(
            steps in prop::collection::vec((0..3_u32, 0..8_u32), 0..60),
        ) {
            let mut owned = Owned::new(3, 8);
            let mut owners = [None; 8];
            for (owner, item) in steps {
                match owners[item as usize].take() {
                    Some(before) => owned.take(before, item),
                    None => {
                        owned.give(owner, item);
                        owners[item as usize] = Some(owner);
                    }
                }
            }
            for owner in 0..3 {
                let mut items = vec![];
                while let Some(item) = owned.first(owner) {
                    owned.take(owner, item);
                    items.push(item);
                }
                items.sort_unstable();
                let want: Vec<u32> =
                    (0..8).filter(|&item| owners[item as usize] == Some(owner)).collect();
                prop_assert_eq!(items, want);
            }
        }
    }
}

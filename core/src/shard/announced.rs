//! What clients announced: signals by address, for QUERY. Shard 0 keeps them all.
//!
//! Nobody takes an announcement back, so when there is no room the one that is oldest goes.

use alloc::vec::Vec;

use super::lists::Line;
use crate::arena::{Arena, Block};
use crate::index::{self, Index};
use crate::limits::Limits;
use crate::message::SignalInfo;
use crate::pattern;
use crate::signal::Signal;

#[derive(Clone, Copy)]
struct Kept {
    /// Address, datatype, access, one behind the other.
    text: Block,
    address_len: u16,
    datatype_len: Option<u16>,
    access_len: Option<u16>,
    signal: Signal,
    live: bool,
}

const VACANT: Kept = Kept {
    text: Block::EMPTY,
    address_len: 0,
    datatype_len: None,
    access_len: None,
    signal: Signal::Param,
    live: false,
};

pub(crate) struct AnnouncedSignals {
    slots: Vec<Kept>,
    free: Vec<u32>,
    index: Index,
    texts: Arena,
    by_age: Line,
    seed: [u64; 2],
}

impl AnnouncedSignals {
    pub(crate) fn new(limits: &Limits, seed: [u64; 2]) -> Self {
        let max = limits.signals_max;
        Self {
            slots: alloc::vec![VACANT; max as usize],
            free: (0..max).rev().collect(),
            index: Index::new(max),
            texts: Arena::new(limits.signal_bytes_max),
            by_age: Line::new(max),
            seed,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Kept>() + size_of::<u32>())) as u64
            + self.index.memory_bytes()
            + self.texts.memory_bytes()
            + self.by_age.memory_bytes()
    }

    /// Keeps what `info` says, instead of what its address said before. False where it never finds
    /// room.
    pub(crate) fn put(&mut self, info: &SignalInfo<'_>) -> bool {
        let hash = index::hash(self.seed, info.address.as_bytes());
        if let Some(slot) = self.index.find(hash, |slot| self.address(slot) == info.address) {
            self.remove(slot);
        }
        if self.free.is_empty() {
            self.remove_oldest();
        }
        let (datatype, access) = (info.datatype.unwrap_or(""), info.access.unwrap_or(""));
        let parts = [info.address.as_bytes(), datatype.as_bytes(), access.as_bytes()];
        let text = loop {
            match self.texts.put(&parts) {
                Some(text) => break text,
                None if self.remove_oldest() => {}
                None => return false,
            }
        };
        let Some(slot) = self.free.pop() else {
            self.texts.free(text);
            return false;
        };
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.by_age.join(slot);
        self.slots[slot as usize] = Kept {
            text,
            address_len: info.address.len() as u16,
            datatype_len: info.datatype.map(|text| text.len() as u16),
            access_len: info.access.map(|text| text.len() as u16),
            signal: info.signal,
            live: true,
        };
        true
    }

    fn remove_oldest(&mut self) -> bool {
        let Some(oldest) = self.by_age.first() else { return false };
        self.remove(oldest);
        true
    }

    fn remove(&mut self, slot: u32) {
        let hash = index::hash(self.seed, self.address(slot).as_bytes());
        let gone = core::mem::replace(&mut self.slots[slot as usize], VACANT);
        self.index.remove(hash, slot);
        self.texts.free(gone.text);
        self.by_age.leave(slot);
        self.free.push(slot);
    }

    /// The signals whose address matches, in an order that does not change while nothing is
    /// announced.
    pub(crate) fn matching<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = SignalInfo<'a>> {
        (0..self.slots.len() as u32)
            .filter(|&slot| self.slots[slot as usize].live)
            .filter(move |&slot| pattern::matches(pattern, self.address(slot)))
            .map(|slot| self.info(slot))
    }

    fn info(&self, slot: u32) -> SignalInfo<'_> {
        let kept = &self.slots[slot as usize];
        let text = core::str::from_utf8(self.texts.get(kept.text)).unwrap_or_default();
        let (address, rest) = text.split_at(usize::from(kept.address_len));
        let (datatype, access) = rest.split_at(usize::from(kept.datatype_len.unwrap_or(0)));
        SignalInfo {
            address,
            signal: kept.signal,
            datatype: kept.datatype_len.map(|_| datatype),
            access: kept.access_len.map(|_| access),
            meta: None,
        }
    }

    fn address(&self, slot: u32) -> &str {
        self.info(slot).address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(signals_max: u32, signal_bytes_max: u64, addresses: &[&str]) -> Vec<String> {
        let limits = Limits { signals_max, signal_bytes_max, ..Limits::default() };
        let mut signals = AnnouncedSignals::new(&limits, [1, 2]);
        for address in addresses {
            let info = SignalInfo {
                address,
                signal: Signal::Event,
                datatype: Some("f64"),
                access: None,
                meta: None,
            };
            assert!(signals.put(&info), "{address}");
        }
        let mut found: Vec<String> =
            signals.matching("/**").map(|info| info.address.to_string()).collect();
        found.sort();
        found
    }

    #[test]
    fn the_oldest_announcement_makes_room_and_saying_it_again_makes_it_young() {
        let said = ["/a", "/b", "/c", "/a", "/d"];
        assert_eq!(announced(3, 1 << 12, &said), ["/a", "/c", "/d"], "for want of a place");
        assert_eq!(announced(9, 3 * 16, &said), ["/a", "/c", "/d"], "for want of bytes");
    }
}

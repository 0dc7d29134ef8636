//! What clients announced: signals by address, for QUERY. Shard 0 keeps them all.

use alloc::vec::Vec;

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
            seed,
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Kept>() + size_of::<u32>())) as u64
            + self.index.memory_bytes()
            + self.texts.memory_bytes()
    }

    /// Keeps what `info` says, instead of what its address said before. False where there is no room.
    pub(crate) fn put(&mut self, info: &SignalInfo<'_>) -> bool {
        let hash = index::hash(self.seed, info.address.as_bytes());
        let known = self.index.find(hash, |slot| self.address(slot) == info.address);
        let (datatype, access) = (info.datatype.unwrap_or(""), info.access.unwrap_or(""));
        let parts = [info.address.as_bytes(), datatype.as_bytes(), access.as_bytes()];
        let mut text = known.map_or(Block::EMPTY, |slot| self.slots[slot as usize].text);
        if self.texts.replace(&mut text, &parts).is_err() {
            return false;
        }
        let slot = match known {
            Some(slot) => slot,
            None => match self.free.pop() {
                Some(slot) => {
                    self.index
                        .insert(hash, slot)
                        .expect("the index holds as many as there are slots");
                    slot
                }
                None => {
                    self.texts.free(text);
                    return false;
                }
            },
        };
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

    /// The signals whose address matches, in the order in which they were first announced.
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

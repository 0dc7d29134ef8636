//! Universe discovery: what other sources say they send, and the same about us.

use clasp_rt_core::time::{Span, Time};

use super::packet::{self, Cid, Discovery, PAGE_UNIVERSES};
use super::senders::words;

/// How often a source says which universes it sends.
pub(super) const INTERVAL: Span = Span::from_secs(10);

/// Whoever has not said it for this long is gone: two in a row were lost.
const TIMEOUT: Span = Span::from_secs(25);

/// Sources whose lists are kept.
const SOURCES_MAX: usize = 128;

/// Universes that are kept of one source; what its list has beyond them is left out.
const UNIVERSES_MAX: usize = 4_096;

/// Lists of the sources of the network.
#[derive(Default)]
pub(super) struct Discovered {
    sources: Vec<Source>,
}

pub(super) struct Source {
    pub(super) cid: Cid,
    pub(super) name: String,
    pub(super) host: std::net::IpAddr,
    pub(super) universes: Vec<u16>,
    /// The list of which pages come, and which page is next.
    coming: Vec<u16>,
    next: u16,
    heard: Time,
    is_whole: bool,
    pub(super) is_told: bool,
}

impl Discovered {
    /// Takes a page. `Ok(true)`: a list is whole, and another one than before. `Err`: there is no
    /// room for one more source.
    pub(super) fn receive(
        &mut self,
        now: Time,
        from: std::net::IpAddr,
        page: &Discovery<'_>,
    ) -> Result<bool, Full> {
        let known = self.sources.iter().position(|source| source.cid == page.cid);
        let place = match known {
            Some(place) => place,
            None if self.sources.len() == SOURCES_MAX => return Err(Full),
            None => {
                self.sources.push(Source {
                    cid: page.cid,
                    name: String::new(),
                    host: from,
                    universes: Vec::new(),
                    coming: Vec::new(),
                    next: 0,
                    heard: now,
                    is_whole: false,
                    is_told: true,
                });
                self.sources.len() - 1
            }
        };
        let Some(source) = self.sources.get_mut(place) else { return Err(Full) };
        source.heard = now;
        if page.page == 0 {
            source.coming.clear();
            source.next = 0;
        }
        if u16::from(page.page) != source.next {
            // A page was lost: the next list will be whole.
            return Ok(false);
        }
        source.next += 1;
        let room = UNIVERSES_MAX.saturating_sub(source.coming.len());
        source.coming.extend(page.universes().take(room));
        if page.page < page.last {
            return Ok(false);
        }
        let is_same = source.is_whole
            && source.universes == source.coming
            && source.name.as_bytes() == page.name
            && source.host == from;
        if is_same {
            return Ok(false);
        }
        std::mem::swap(&mut source.universes, &mut source.coming);
        (source.name, source.host, source.is_whole) = (words(page.name), from, true);
        source.is_told = false;
        Ok(true)
    }

    /// Gives the sources that have fallen silent to `gone`.
    pub(super) fn expire(&mut self, now: Time, mut gone: impl FnMut(&Source)) {
        self.sources.retain(|source| {
            let is_here = now.since(source.heard) < TIMEOUT;
            if !is_here && source.is_whole {
                gone(source);
            }
            is_here
        });
    }

    /// The next whose list the router does not know.
    pub(super) fn next_untold(&mut self) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| !source.is_told)
    }

    pub(super) fn forget_told(&mut self) {
        for source in self.sources.iter_mut().filter(|source| source.is_whole) {
            source.is_told = false;
        }
    }

    /// The universes that some source sends.
    pub(super) fn universes(&self) -> impl Iterator<Item = u16> {
        self.sources.iter().flat_map(|source| &source.universes).copied()
    }
}

/// There is no room for one more source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Writes the pages that list `universes`, and gives each to `send`.
pub(super) fn announce(
    cid: &Cid,
    name: &[u8],
    mut universes: Vec<u16>,
    packet: &mut Vec<u8>,
    mut send: impl FnMut(&[u8]),
) {
    universes.sort_unstable();
    // Of 63,999 universes there are 125 pages.
    let last = universes.len().saturating_sub(1) / PAGE_UNIVERSES;
    for (page, list) in universes.chunks(PAGE_UNIVERSES).enumerate() {
        packet::write_discovery(packet, cid, name, page as u8, last as u8, list);
        send(packet);
    }
}

//! Who a session is, told to those who ask whose a write is: `/clasp/source/<session id>`.
//!
//! Where something is arbitrated, every session that writes a param is a source: what it writes may
//! be routed to an arbitrated address. Its name and host are kept where it came in, and become a
//! param when it writes first; ten minutes after it left the param goes.

use alloc::boxed::Box;
use alloc::vec;

use super::marker::SOURCE;
use super::record::Origin;
use super::session_id::SessionId;
use super::{Effects, Outcome, Shard};
use crate::LinkId;
use crate::message::{Message, Set, Ttl};
use crate::value::{self, MapWriter, Value};
use crate::wire::TooLong;

/// Bytes of a name, and of a host, that are kept.
const TEXT_BYTES_MAX: usize = 63;
/// How long a source is explained after its session left.
const REMEMBERED_S: u32 = 600;

/// A short text in place.
#[derive(Clone, Copy)]
struct Text {
    len: u8,
    bytes: [u8; TEXT_BYTES_MAX],
}

const EMPTY: Text = Text { len: 0, bytes: [0; TEXT_BYTES_MAX] };

impl Text {
    /// As much of `text` as there is room for.
    fn new(text: &str) -> Self {
        let mut len = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; TEXT_BYTES_MAX];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { len: len as u8, bytes }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Name and host of each link's session; nothing where nothing is or will be arbitrated.
pub(super) struct Introductions {
    of: Box<[(Text, Text)]>,
}

impl Introductions {
    pub(super) fn new(links: u32) -> Self {
        Self { of: vec![(EMPTY, EMPTY); links as usize].into() }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        size_of_val(&*self.of) as u64
    }

    pub(super) fn are_kept(&self) -> bool {
        !self.of.is_empty()
    }

    /// What [`Introductions::name`] kept of it.
    pub(super) fn name_of(&self, link: LinkId) -> &str {
        self.of.get(link.0 as usize).map_or("", |(name, _)| name.as_str())
    }

    pub(super) fn name(&mut self, link: LinkId, name: &str) {
        if let Some((kept, _)) = self.of.get_mut(link.0 as usize) {
            *kept = Text::new(name);
        }
    }

    pub(super) fn host(&mut self, link: LinkId, host: &str) -> Outcome {
        if let Some((_, kept)) = self.of.get_mut(link.0 as usize) {
            *kept = Text::new(host);
        }
        Outcome::Taken
    }

    fn forget(&mut self, link: LinkId) {
        if let Some(kept) = self.of.get_mut(link.0 as usize) {
            *kept = (EMPTY, EMPTY);
        }
    }
}

impl Shard {
    /// Tells who the session of `link` is when it writes for the first time.
    #[inline]
    pub(super) fn introduce(&mut self, link: LinkId, fx: &mut impl Effects) {
        if self.arbitrates && !self.sessions[link.0 as usize].introduced {
            self.sessions[link.0 as usize].introduced = true;
            self.tell_source(link, None, fx);
        }
    }

    /// The session of `origin` ends: what it is will be forgotten in a while.
    pub(super) fn take_leave(&mut self, origin: &Origin, fx: &mut impl Effects) {
        if self.sessions[origin.link.0 as usize].introduced {
            self.tell_source(origin.link, Some(Ttl::Sliding(REMEMBERED_S)), fx);
        }
        self.introductions.forget(origin.link);
    }

    #[cold]
    fn tell_source(&mut self, link: LinkId, ttl: Option<Ttl>, fx: &mut impl Effects) {
        let id = self.sessions[link.0 as usize].id.text();
        let (mut address, mut encoded) = (self.lend(), self.lend());
        for part in [SOURCE, "/", id.as_str()] {
            address.extend_from_slice(part.as_bytes());
        }
        let kept = self.introductions.of.get(link.0 as usize).copied().unwrap_or((EMPTY, EMPTY));
        let written = write_source(kept.0.as_str(), kept.1.as_str(), ttl.is_some(), &mut encoded);
        if written.is_ok()
            && let Ok(value) = Value::from_encoded(&encoded)
            && let Ok(address) = core::str::from_utf8(&address)
        {
            let set = Set { address, value, revision: None, lock: false, unlock: false, ttl };
            let origin = Origin::router(self.settings.id, SessionId::NONE);
            let home = self.home_of(address);
            self.forward(&origin, home, &Message::Set(set), fx);
        }
        self.give_back(encoded);
        self.give_back(address);
    }
}

fn write_source(
    name: &str,
    host: &str,
    gone: bool,
    out: &mut alloc::vec::Vec<u8>,
) -> Result<(), TooLong> {
    let mut map = MapWriter::start(out);
    value::push_str(map.entry("protocol")?, "clasp")?;
    value::push_str(map.entry("name")?, name)?;
    if !host.is_empty() {
        value::push_str(map.entry("host")?, host)?;
    }
    if gone {
        value::push_bool(map.entry("gone")?, true);
    }
    Ok(())
}

//! Who sends, over all universes: one entry for each CID, with what people call it.

use std::net::IpAddr;

use super::packet::Cid;

/// Sources of the network that are known at once; those of further ones are not heard.
const SENDERS_MAX: usize = 256;

/// Serial numbers fit into three octets.
const SERIAL_MAX: u32 = 0x00FF_FFFF;

#[derive(Default)]
pub(super) struct Senders {
    known: Vec<Sender>,
    last: u32,
}

pub(super) struct Sender {
    pub(super) cid: Cid,
    /// Never used twice while it may still be told apart by it.
    pub(super) serial: u32,
    pub(super) name: String,
    pub(super) host: IpAddr,
    /// Universes that it is heard in.
    universes: u32,
}

impl Senders {
    /// The serial of a source; one that is not known is entered, if there is room.
    pub(super) fn enter(&mut self, cid: &Cid, name: &[u8], host: IpAddr) -> Option<u32> {
        if let Some(sender) = self.known.iter_mut().find(|sender| sender.cid == *cid) {
            if sender.name.as_bytes() != name || sender.host != host {
                (sender.name, sender.host) = (words(name), host);
            }
            return Some(sender.serial);
        }
        if self.known.len() == SENDERS_MAX {
            let idle = self.known.iter().position(|sender| sender.universes == 0)?;
            self.known.remove(idle);
        }
        self.last = if self.last == SERIAL_MAX { 1 } else { self.last + 1 };
        let (serial, name) = (self.last, words(name));
        let sender = Sender { cid: *cid, serial, name, host, universes: 0 };
        self.known.push(sender);
        Some(serial)
    }

    /// It is heard in one universe more.
    pub(super) fn came(&mut self, serial: u32) {
        self.change(serial, |universes| universes.saturating_add(1));
    }

    pub(super) fn left(&mut self, serial: u32) {
        self.change(serial, |universes| universes.saturating_sub(1));
    }

    fn change(&mut self, serial: u32, change: impl FnOnce(u32) -> u32) {
        let known = self.known.iter_mut().find(|sender| sender.serial == serial);
        if let Some(sender) = known {
            sender.universes = change(sender.universes);
        }
    }

    pub(super) fn get(&self, serial: u32) -> Option<&Sender> {
        self.known.iter().find(|sender| sender.serial == serial)
    }
}

/// A name as text: what is not UTF-8 in it shows as such.
pub(super) fn words(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A CID as people write it.
pub(super) fn hyphenated(cid: &Cid) -> String {
    uuid::Uuid::from_bytes(*cid).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_lets_those_go_who_are_heard_nowhere() {
        let mut senders = Senders::default();
        let host = IpAddr::from([10, 0, 0, 1]);
        let cid = |number: usize| (number as u128).to_be_bytes();
        for number in 0..SENDERS_MAX {
            let serial = senders.enter(&cid(number), b"desk", host).expect("room");
            senders.came(serial);
        }
        assert_eq!(senders.enter(&cid(SENDERS_MAX), b"late", host), None);
        let first = senders.enter(&cid(0), b"desk", host).expect("known");
        senders.left(first);
        let late = senders.enter(&cid(SENDERS_MAX), b"late", host).expect("room");
        assert_ne!(late, first, "a serial names one source only");
        assert!(senders.get(first).is_none());
        assert_eq!(senders.enter(&cid(SENDERS_MAX), b"later", host), Some(late));
        assert_eq!(senders.get(late).map(|sender| sender.name.clone()), Some("later".into()));
    }
}

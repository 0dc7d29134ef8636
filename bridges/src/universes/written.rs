//! Levels as the router tells them: a frame that holds nothing but levels of slots, which most do,
//! is read in one pass.

use clasp_rt_core::wire::{binary, header};

use super::plain_slot;
use crate::datum::Datum;
use crate::level::{Floats, to_level};
use crate::merge::SLOTS;

/// Levels of one frame; one that holds more is read as any other.
const LEVELS_MAX: usize = 4 * SLOTS;

/// One slot of one universe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotLevel {
    pub(crate) universe: u16,
    /// Counted from 0.
    pub(crate) slot: u16,
    pub(crate) level: u8,
}

pub(crate) struct Written {
    /// The namespace with the slash behind it.
    prefix: Box<[u8]>,
    floats: Floats,
    levels: Vec<SlotLevel>,
}

impl Written {
    pub(crate) fn new(namespace: &str, floats: Floats) -> Self {
        let prefix = format!("{namespace}/").into_bytes().into();
        Self { prefix, floats, levels: Vec::with_capacity(LEVELS_MAX) }
    }

    /// The levels of `frame`, in their order. `None`: it says something else, too, or says it in
    /// another way.
    pub(crate) fn read(&mut self, frame: &[u8]) -> Option<&[SlotLevel]> {
        let Self { prefix, floats, levels } = self;
        levels.clear();
        let payload = header::parse(frame).ok()?.payload;
        let is_all = binary::each_set(payload, |address, value| {
            let place = address.strip_prefix(&**prefix).and_then(plain_slot);
            let Some((universe, slot)) = place else { return false };
            let level = to_level(&Datum::new(value), *floats);
            // Slot 0 becomes one that there is not.
            let slot = slot.wrapping_sub(1);
            match level.filter(|_| usize::from(slot) < SLOTS && levels.len() < LEVELS_MAX) {
                Some(level) => levels.push(SlotLevel { universe, slot, level }),
                None => return false,
            }
            true
        });
        is_all.then_some(levels)
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::{Bundle, Message, Set, Ttl};
    use clasp_rt_core::signal::Qos;
    use clasp_rt_core::value::{Value, push_i64, push_str};
    use clasp_rt_core::wire::list::Messages;

    use super::*;

    fn level(universe: u16, slot: u16, level: u8) -> SlotLevel {
        SlotLevel { universe, slot, level }
    }

    fn framed(message: &Message<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        binary::encode(message, Qos::Fire, &mut frame).expect("short");
        frame
    }

    fn set<'a>(address: &'a str, value: &'a [u8]) -> Message<'a> {
        let value = Value::from_encoded(value).expect("a value");
        let ttl = Some(Ttl::Sliding(3));
        Message::Set(Set { address, value, revision: None, lock: false, unlock: false, ttl })
    }

    fn bundle(addresses: &[String], value: &[u8]) -> Vec<u8> {
        let mut payloads = Vec::new();
        for address in addresses {
            Messages::append(&mut payloads, &set(address, value)).expect("short");
        }
        let messages = Messages::from_payloads(&payloads, addresses.len()).expect("just written");
        framed(&Message::Bundle(Bundle { timestamp_us: Some(9), messages }))
    }

    #[test]
    fn levels_are_read_and_whatever_else_a_frame_says_is_left_to_others() {
        let (mut int, mut text) = (Vec::new(), Vec::new());
        push_i64(&mut int, 300);
        push_str(&mut text, "full").expect("short");
        let mut written = Written::new("/artnet", Floats::Auto);
        let cases: [(&[&str], Option<Vec<SlotLevel>>); 8] = [
            (&["/artnet/19/512"], Some(vec![level(19, 511, 255)])),
            (&["/artnet/1/1", "/artnet/7/2"], Some(vec![level(1, 0, 255), level(7, 1, 255)])),
            (&[], Some(Vec::new())),
            (&["/artnet/1/1", "/artnet/1"], None),
            (&["/artnet/1/1", "/clasp/source"], None),
            (&["/artnetwork/1/1"], None),
            (&["/artnet/1/0"], None),
            (&["/artnet/1/513"], None),
        ];
        for (addresses, levels) in cases {
            let addresses: Vec<_> = addresses.iter().map(|&one| one.to_owned()).collect();
            let frame = bundle(&addresses, &int);
            assert_eq!(written.read(&frame).map(<[_]>::to_vec), levels, "{addresses:?}");
            if let [address] = &addresses[..] {
                let frame = framed(&set(address, &int));
                assert_eq!(written.read(&frame).map(<[_]>::to_vec), levels, "{address} alone");
                assert_eq!(written.read(&framed(&set(address, &text))), None, "a text");
            }
            for len in 0..frame.len() {
                assert_eq!(written.read(&frame[..len]), None, "{addresses:?} cut to {len}");
            }
        }
        assert_eq!(written.read(&framed(&Message::Ping)), None);
    }

    #[test]
    fn a_frame_of_more_levels_than_there_is_room_for_is_left_to_others() {
        let mut value = Vec::new();
        push_i64(&mut value, 1);
        let mut written = Written::new("/sacn", Floats::Auto);
        let address = |slot: usize| format!("/sacn/{}/{}", slot / SLOTS, slot % SLOTS + 1);
        for (count, fits) in [(LEVELS_MAX, true), (LEVELS_MAX + 1, false)] {
            let addresses: Vec<_> = (0..count).map(address).collect();
            assert_eq!(written.read(&bundle(&addresses, &value)).is_some(), fits, "{count} levels");
        }
        assert_eq!(written.levels.capacity(), LEVELS_MAX);
    }
}

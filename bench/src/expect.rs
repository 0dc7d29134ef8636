//! What a capture should become in the router: addresses and values, each with its instant.
//!
//! Decoded here a second time, apart from the bridges, so that a replay also checks them. What a
//! bridge may rightly join or leave out (a level that changed twice before an ArtSync) counts as
//! superseded, not as lost.

mod mqtt;

use std::collections::{BTreeMap, HashMap, VecDeque};

/// The protocols that a replay can tell apart, by their first bytes and not by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Osc,
    ArtNet,
    Sacn,
    Mqtt,
}

const ART_NET: &[u8] = b"Art-Net\0";
const ART_DMX: u16 = 0x5000;
const E131: &[u8] = b"\x00\x10\x00\x00ASC-E1.17\x00\x00\x00";
const OSC_BUNDLE: &[u8] = b"#bundle\0";
const MQTT_NAME: &[u8] = b"\x00\x04MQTT";

/// Bundles inside bundles that are followed; senders in practice use two.
const NESTING_MAX: usize = 16;

impl Protocol {
    pub fn of(payload: &[u8]) -> Option<Self> {
        if payload.starts_with(ART_NET) {
            Some(Self::ArtNet)
        } else if payload.starts_with(E131) {
            Some(Self::Sacn)
        } else if payload.starts_with(OSC_BUNDLE) || payload.first() == Some(&b'/') {
            Some(Self::Osc)
        } else {
            None
        }
    }

    /// Of a connection, by what its opener says first: CONNECT, whose fixed header is two bytes or
    /// more (MQTT 3.1.1 and 5, section 3.1).
    pub fn of_stream(first: &[u8]) -> Option<Self> {
        let is_connect = first.first() == Some(&0x10)
            && first.windows(MQTT_NAME.len()).take(5).any(|name| name == MQTT_NAME);
        is_connect.then_some(Self::Mqtt)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "osc" => Some(Self::Osc),
            "artnet" => Some(Self::ArtNet),
            "sacn" => Some(Self::Sacn),
            "mqtt" => Some(Self::Mqtt),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Osc => "osc",
            Self::ArtNet => "artnet",
            Self::Sacn => "sacn",
            Self::Mqtt => "mqtt",
        }
    }
}

/// A value that is on its way.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    due_ns: u64,
    /// `None`: any value will do.
    value: Option<f64>,
}

/// All that was sent and has not come out yet.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    awaited: HashMap<String, VecDeque<Awaited>>,
    /// By protocol and universe.
    levels: BTreeMap<(Protocol, u16), Vec<u8>>,
    clients: BTreeMap<usize, mqtt::Client>,
    pub expected: u64,
    pub superseded: u64,
    pub unexpected: u64,
}

impl Expectation {
    /// Notes what `payload`, due at `due_ns`, should cause.
    pub fn sent(&mut self, payload: &[u8], due_ns: u64) {
        match Protocol::of(payload) {
            Some(Protocol::Osc) => self.osc(payload, due_ns, 0),
            Some(Protocol::ArtNet) => self.art_net(payload, due_ns),
            Some(Protocol::Sacn) => self.sacn(payload, due_ns),
            Some(Protocol::Mqtt) | None => {}
        }
    }

    /// Notes what the next `bytes` of a connection, due at `due_ns`, should cause.
    pub fn sent_on(&mut self, connection: usize, bytes: &[u8], due_ns: u64) {
        let mut client = self.clients.remove(&connection).unwrap_or_default();
        client.said(bytes, |topic, number| {
            self.expect(format!("/mqtt/{topic}"), due_ns, number);
        });
        self.clients.insert(connection, client);
    }

    /// Matches what came out. Gives the instant at which its cause was due.
    pub fn arrived(&mut self, address: &str, value: Option<f64>) -> Option<u64> {
        let queue = self.awaited.get_mut(address);
        let found = queue.as_ref().and_then(|queue| {
            queue.iter().position(|awaited| awaited.value.is_none() || awaited.value == value)
        });
        let (Some(queue), Some(found)) = (queue, found) else {
            self.unexpected += 1;
            return None;
        };
        self.superseded += found as u64;
        queue.drain(..=found).next_back().map(|awaited| awaited.due_ns)
    }

    /// What has not come out.
    pub fn missing(&self) -> u64 {
        self.awaited.values().map(|queue| queue.len() as u64).sum()
    }

    fn expect(&mut self, address: String, due_ns: u64, value: Option<f64>) {
        self.expected += 1;
        self.awaited.entry(address).or_default().push_back(Awaited { due_ns, value });
    }

    /// OSC 1.0: an address and its padding, or `#bundle`, a time tag and sized elements.
    fn osc(&mut self, element: &[u8], due_ns: u64, depth: usize) {
        if let Some(rest) = element.strip_prefix(OSC_BUNDLE) {
            let mut rest = rest.get(8..).unwrap_or_default();
            while let Some((len, more)) = rest.split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                let (Some(inner), true) = (more.get(..len), depth < NESTING_MAX) else { return };
                self.osc(inner, due_ns, depth + 1);
                rest = &more[len..];
            }
        } else if let Some(end) = element.iter().position(|byte| *byte == 0)
            && let Ok(address) = std::str::from_utf8(&element[..end])
        {
            self.expect(format!("/osc{address}"), due_ns, None);
        }
    }

    /// Art-Net 4, ArtDmx: opcode at 8 (low byte first), port-address at 14 (low byte first), length
    /// at 16 (high byte first), levels from 18. Only changed slots come out; at first, all.
    fn art_net(&mut self, packet: &[u8], due_ns: u64) {
        let Some(header) = packet.first_chunk::<18>() else { return };
        if u16::from_le_bytes([header[8], header[9]]) != ART_DMX {
            return;
        }
        let port = u16::from_le_bytes([header[14], header[15]]);
        let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let Some(levels) = packet.get(18..18 + len) else { return };
        self.universe(Protocol::ArtNet, port, levels, due_ns);
    }

    /// E1.31, data packet: root vector at 18, priority at 108, options at 112, universe at 113
    /// (high byte first), start code at 125, levels from 126. Preview, a source's last words and
    /// other start codes are no levels.
    fn sacn(&mut self, packet: &[u8], due_ns: u64) {
        const DATA: [u8; 4] = [0, 0, 0, 4];
        const PREVIEW_OR_TERMINATED: u8 = 0xC0;
        let Some(header) = packet.first_chunk::<126>() else { return };
        let is_look =
            header[18..22] == DATA && header[112] & PREVIEW_OR_TERMINATED == 0 && header[125] == 0;
        if is_look {
            let universe = u16::from_be_bytes([header[113], header[114]]);
            self.universe(Protocol::Sacn, universe, &packet[126..], due_ns);
        }
    }

    fn universe(&mut self, protocol: Protocol, universe: u16, levels: &[u8], due_ns: u64) {
        let before = self.levels.insert((protocol, universe), levels.to_vec()).unwrap_or_default();
        for (index, level) in levels.iter().enumerate() {
            if before.get(index) != Some(level) {
                let address = format!("/{}/{universe}/{}", protocol.name(), index + 1);
                self.expect(address, due_ns, Some(f64::from(*level)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn art_dmx(port: u16, levels: &[u8]) -> Vec<u8> {
        let mut packet = b"Art-Net\0\x00\x50\x00\x0e\x00\x00".to_vec();
        packet.extend(port.to_le_bytes());
        packet.extend((levels.len() as u16).to_be_bytes());
        packet.extend(levels);
        packet
    }

    #[test]
    fn only_changed_slots_are_awaited_after_the_first_universe() {
        let mut expectation = Expectation::default();
        expectation.sent(&art_dmx(3, &[0, 7]), 10);
        expectation.sent(&art_dmx(3, &[0, 9]), 20);
        expectation.sent(&art_dmx(4, &[0, 9]), 30);
        assert_eq!(expectation.expected, 5);
        assert_eq!(expectation.arrived("/artnet/3/2", Some(9.0)), Some(20));
        assert_eq!(expectation.superseded, 1, "the level 7 was overtaken");
        assert_eq!(expectation.arrived("/artnet/3/2", Some(7.0)), None);
        assert_eq!(expectation.unexpected, 1);
        assert_eq!(expectation.missing(), 3);
    }

    #[test]
    fn each_message_of_nested_bundles_is_awaited() {
        let message = b"/a/b\0\0\0\0,i\0\0\0\0\0\x01";
        let mut inner = b"#bundle\0\0\0\0\0\0\0\0\x01".to_vec();
        inner.extend((message.len() as u32).to_be_bytes());
        inner.extend(message);
        let mut outer = b"#bundle\0\0\0\0\0\0\0\0\x01".to_vec();
        outer.extend((inner.len() as u32).to_be_bytes());
        outer.extend(&inner);
        outer.extend((message.len() as u32).to_be_bytes());
        outer.extend(message);
        let mut expectation = Expectation::default();
        expectation.sent(&outer, 5);
        assert_eq!(expectation.expected, 2);
        assert_eq!(expectation.arrived("/osc/a/b", Some(1.0)), Some(5));
        assert_eq!(expectation.missing(), 1);
    }

    #[test]
    fn cut_packets_are_awaited_as_far_as_they_go() {
        let whole = art_dmx(1, &[1, 2, 3]);
        for len in 0..whole.len() {
            let mut expectation = Expectation::default();
            expectation.sent(&whole[..len], 0);
            assert_eq!(expectation.expected, 0, "{len} bytes");
        }
    }
}

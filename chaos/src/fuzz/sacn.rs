//! sACN: what is read can be written again, and a bridge lives through whatever desks say.

use std::net::{IpAddr, SocketAddr};

use clasp_rt_bridges::sacn::packet::{self, Packet};
use clasp_rt_bridges::{Bridge, Input, Out, sacn};
use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{Value, push_i64};
use clasp_rt_core::wire::{binary, header};

/// Bytes of the longest UDP payload that is not cut into fragments.
const DATAGRAM_BYTES_MAX: usize = 1_472;

/// Groups that a bridge may join: its universes, and those of synchronisation.
const GROUPS_MAX: usize = 4 + 32;

#[derive(Default)]
struct Checked {
    joined: usize,
}

impl Out for Checked {
    fn to_router(&mut self, frame: &[u8]) {
        let parsed = header::parse(frame).expect("a bridge sends whole frames");
        binary::decode(parsed.payload).expect("a bridge sends messages");
    }

    fn to_network(&mut self, _: u8, to: SocketAddr, bytes: &[u8]) {
        assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes to {to}", bytes.len());
        packet::decode(bytes).expect("a bridge sends packets");
    }

    fn join(&mut self, _: u8, group: IpAddr) {
        self.joined += 1;
        assert!(group.is_multicast() && self.joined <= GROUPS_MAX, "{group}");
    }
}

/// Pairs of a byte of time and a packet, each behind its length.
pub fn packets(bytes: &[u8]) {
    let config = serde_json::json!({
        "inputs": "all", "universes_max": 4, "settle_ms": 0, "slot_priorities": true,
        "sync_universe": 9, "merge": if bytes.len().is_multiple_of(2) { "htp" } else { "ltp" },
        "cid": "11111111-2222-4333-8444-555555555555", "source_name": "us",
    });
    let config = serde_json::from_value(config).expect("options of the bridge");
    let mut bridge = sacn::open(config).expect("a configuration that works");
    let (mut now, mut out, mut rest) = (Time(0), Checked::default(), bytes);
    bridge.step(now, Input::Joined, &mut out);
    while let [time, high, low, more @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (packet, more) = more.split_at(len);
        rest = more;
        again(packet);
        let from = SocketAddr::from(([10, 0, 0, time & 7], 5_568));
        bridge.step(now, Input::Packet { socket: 0, from, bytes: packet }, &mut out);
        bridge.step(now, Input::Frame(packet), &mut out);
        let end = now + Span::from_millis(u64::from(*time) * 4);
        elapse(&mut *bridge, &mut now, end, &mut out);
    }
    bridge.step(now, Input::Stop, &mut out);
    let end = now + Span::from_secs(1);
    elapse(&mut *bridge, &mut now, end, &mut out);
    assert!(!bridge.has_last_words(), "it says good-bye in less than a second");
}

/// Lets time pass, with every deadline on the way.
fn elapse(bridge: &mut dyn Bridge, now: &mut Time, end: Time, out: &mut Checked) {
    let mut turns = 0;
    while let Some(due) = bridge.deadline().filter(|due| *due <= end) {
        *now = (*now).max(due);
        bridge.step(*now, Input::Deadline, out);
        turns += 1;
        assert!(turns < 20_000, "its deadlines lie in the past");
    }
    *now = end;
}

/// What was read means the same when it is written and read again.
pub fn again(bytes: &[u8]) {
    let Ok(read) = packet::decode(bytes) else { return };
    let mut written = Vec::new();
    match read {
        Packet::Data(data) => packet::write_data(&mut written, &data),
        Packet::Sync(sync) => packet::write_sync(&mut written, &sync),
        Packet::Discovery(page) => {
            let list: Vec<u16> = page.universes().collect();
            let packet::Discovery { cid, name, page, last, .. } = page;
            packet::write_discovery(&mut written, &cid, name, page, last, &list);
            let Ok(Packet::Discovery(once_more)) = packet::decode(&written) else {
                panic!("what was written is a page")
            };
            let kept = list.iter().copied().take(packet::PAGE_UNIVERSES);
            return assert!(once_more.universes().eq(kept));
        }
        Packet::Other { .. } => return,
    }
    // A name that fills its field loses its last octet to the NUL.
    match (packet::decode(&written), read) {
        (Ok(Packet::Data(once_more)), Packet::Data(data)) => {
            let name = data.name.get(..packet::NAME_BYTES - 1).unwrap_or(data.name);
            assert_eq!(once_more, packet::Data { name, ..data });
        }
        (once_more, read) => assert_eq!(once_more, Ok(read)),
    }
}

/// A frame of the router that sets a param.
fn set(address: &str, number: i64) -> Vec<u8> {
    let (mut value, mut frame) = (Vec::new(), Vec::new());
    push_i64(&mut value, number);
    let value = Value::from_encoded(&value).unwrap_or(Value::NULL);
    let set = Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
    binary::encode(&Message::Set(set), Qos::Fire, &mut frame).expect("it fits a frame");
    frame
}

const GOLDEN: [&[u8]; 6] = [
    include_bytes!("../../../bridges/vectors/sacn/olad-data-3-slots.bin"),
    include_bytes!("../../../bridges/vectors/sacn/olad-discovery.bin"),
    include_bytes!("../../../bridges/vectors/sacn/olad-terminated.bin"),
    include_bytes!("../../../bridges/vectors/sacn/python-sacn-data-sync-priority-102.bin"),
    include_bytes!("../../../bridges/vectors/sacn/python-sacn-sync.bin"),
    include_bytes!("../../../bridges/vectors/sacn/qlcplus-data.bin"),
];

pub fn golden() -> Vec<Vec<u8>> {
    GOLDEN.iter().map(|packet| packet.to_vec()).collect()
}

/// The golden packets, and a night of two desks.
pub fn seeds() -> Vec<Vec<u8>> {
    let script = |steps: &[(u8, &[u8])]| {
        let mut script = Vec::new();
        for (time, packet) in steps {
            script.push(*time);
            script.extend((packet.len() as u16).to_be_bytes());
            script.extend(*packet);
        }
        script
    };
    let mut seeds: Vec<_> = GOLDEN.iter().map(|packet| script(&[(10, packet)])).collect();
    let desk = |cid: u8, priority: u8, sequence: u8, start: u8, slots: &[u8]| {
        let mut written = Vec::new();
        let Ok(Packet::Data(data)) = packet::decode(GOLDEN[0]) else { return written };
        let start = Some(start);
        let data = packet::Data { cid: [cid; 16], priority, sequence, start, slots, ..data };
        packet::write_data(&mut written, &data);
        written
    };
    let low = |sequence, level| desk(1, 100, sequence, 0, &[level; 8]);
    let high = |sequence, level| desk(2, 150, sequence, 0, &[level; 8]);
    let each = desk(2, 150, 3, 0xDD, &[0, 200, 100, 99]);
    seeds.push(script(&[
        (5, &low(1, 5)),
        (5, &high(1, 6)),
        (200, &high(2, 7)),
        (200, &each),
        (255, &low(2, 9)),
        (255, &low(3, 9)),
        (255, &low(4, 9)),
        (255, &high(4, 9)),
    ]));
    seeds.push(script(&[(1, GOLDEN[3]), (1, GOLDEN[4]), (1, GOLDEN[3]), (255, GOLDEN[4])]));
    // Of a frame from the router: levels go out.
    let sets: Vec<Vec<u8>> = [("/sacn/1/1", 7), ("/sacn/1/3/priority", 0), ("/sacn/2/priority", 9)]
        .iter()
        .map(|(address, value)| set(address, *value))
        .collect();
    seeds.push(script(&[(1, &sets[0]), (9, &sets[1]), (250, &sets[2]), (250, &sets[0])]));
    seeds
}

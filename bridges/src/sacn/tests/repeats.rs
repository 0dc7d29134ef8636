//! A packet that repeats its universe is taken in short: what follows must be what follows of
//! reading it whole.

use proptest::prelude::*;

use super::*;
use crate::uplink::tests::alike;

/// Something that happens to a bridge.
#[derive(Clone, Debug)]
enum Happens {
    Data(Packet),
    Sync { universe: u16 },
    Written { level: i64 },
    Room(usize),
    Pass { ms: u64 },
    Rejoin,
}

/// What a desk says of one universe.
#[derive(Clone, Debug)]
struct Packet {
    desk: u8,
    universe: u16,
    sequence: u8,
    priority: u8,
    /// Of levels, priorities, something else, or none.
    start: Option<u8>,
    sync: u16,
    preview: bool,
    terminated: bool,
    force_sync: bool,
    slots: &'static [u8],
    /// Octets that are cut off, or stand behind.
    excess: i8,
    /// Sent as draft 0.2 has it, as far as the vector says so.
    draft: bool,
}

fn happens() -> impl Strategy<Value = Happens> {
    const SLOTS: [&[u8]; 5] = [&[0, 0], &[1, 0], &[0, 1], &[0, 1, 0, 0], &[]];
    // Mostly one desk that repeats itself in order.
    let plain = |sequence| Packet {
        desk: 0,
        universe: 1,
        sequence,
        priority: 100,
        start: Some(START_LEVELS),
        sync: 0,
        preview: false,
        terminated: false,
        force_sync: false,
        slots: &[0, 1],
        excess: 0,
        draft: false,
    };
    const STARTS: [Option<u8>; 4] = [Some(START_LEVELS), Some(START_PRIORITIES), Some(0x17), None];
    let fields = (
        (0_u8..4, 1_u16..3, 0_u8..40, prop::sample::select(&[100, 100, 150][..])),
        (prop::sample::select(&STARTS[..]), prop::sample::select(&[0_u16, 0, 7][..])),
        (0_u8..60, prop::sample::select(&SLOTS[..]), -4_i8..4),
    );
    let any = fields.prop_map(move |(who, what, (bits, slots, excess))| Packet {
        desk: who.0,
        universe: who.1,
        priority: who.3,
        start: what.0,
        sync: what.1,
        // Each seldom.
        preview: bits == 1,
        terminated: bits == 2,
        force_sync: bits == 3,
        draft: bits == 4,
        slots,
        excess: if bits < 50 { 0 } else { excess },
        ..plain(who.2)
    });
    prop_oneof![
        8 => (0_u8..6).prop_map(move |sequence| Happens::Data(plain(sequence))),
        5 => any.prop_map(Happens::Data),
        1 => (6_u16..8).prop_map(|universe| Happens::Sync { universe }),
        1 => (0_i64..2).prop_map(|level| Happens::Written { level }),
        1 => prop::sample::select(&[0, usize::MAX][..]).prop_map(Happens::Room),
        2 => prop::sample::select(&[1, 23, 800, 1_600, 2_499, 2_500][..])
            .prop_map(|ms| Happens::Pass { ms }),
        1 => Just(Happens::Rejoin),
    ]
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let data = Data {
            cid: [self.desk; 16],
            name: b"desk",
            priority: self.priority,
            sync: self.sync,
            sequence: self.sequence,
            preview: self.preview,
            terminated: self.terminated,
            force_sync: self.force_sync,
            universe: universe(self.universe),
            start: self.start,
            slots: self.slots,
        };
        packet::write_data(&mut bytes, &data);
        bytes.resize(bytes.len().saturating_add_signed(self.excess.into()), 0);
        bytes[21] = if self.draft { 3 } else { bytes[21] };
        bytes
    }
}

impl Rig {
    /// Lets it happen; in short where that is allowed, or by reading every packet whole.
    fn undergo(&mut self, happens: &Happens, in_short: bool) {
        let mut bytes = Vec::new();
        match happens {
            Happens::Data(packet) => bytes = packet.bytes(),
            Happens::Sync { universe: number } => {
                let sync = Sync { cid: [1; 16], sequence: 0, universe: universe(*number) };
                packet::write_sync(&mut bytes, &sync);
            }
            Happens::Written { level } => return self.set("/sacn/1/1", *level),
            Happens::Room(room) => return self.said.room = *room,
            Happens::Pass { ms } => return self.wait(Span::from_millis(*ms)),
            Happens::Rejoin => return self.step(Input::Joined),
        }
        let from = "10.0.0.1:5568".parse().expect("an address");
        let input = Input::Packet { socket: 0, from, bytes: &bytes };
        if in_short {
            self.step(input);
        } else {
            self.bridge.take(self.now, input, &mut self.said);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_taken_in_short_does_what_it_does_when_read_whole(
        config in prop::sample::select(
            &["", "merge = \"ltp\"", "arbitrated = [\"/**\"]", "inputs = \"1\"",
              "sources_max = 2\non_sync_lost = \"lock\"", "preview = true"][..]),
        happens in prop::collection::vec(happens(), 1..120),
    ) {
        let mut rigs = [unsettled(config), unsettled(config)];
        for one in &happens {
            let [short, whole] = &mut rigs;
            short.undergo(one, true);
            whole.undergo(one, false);
            alike([(&short.bridge, &mut short.said), (&whole.bridge, &mut whole.said)], &one);
        }
    }
}

#[test]
fn most_packets_of_a_show_are_taken_in_short() {
    let mut rig = rig("");
    let mut packet = Packet {
        desk: 1,
        sequence: 1,
        universe: 1,
        priority: 100,
        start: Some(START_LEVELS),
        sync: 0,
        preview: false,
        terminated: false,
        force_sync: false,
        slots: &[1, 2],
        excess: 0,
        draft: false,
    };
    rig.receive(&packet.bytes());
    rig.receive(&Packet { desk: 2, ..packet.clone() }.bytes());
    packet.sequence = 2;
    let mut takes = |packet: &Packet| rig.bridge.repeat(rig.now, &packet.bytes());
    assert!(takes(&packet) && takes(&Packet { desk: 2, ..packet.clone() }), "each of two");
    assert!(!takes(&packet), "late");
    packet.sequence = 3;
    assert!(!takes(&Packet { slots: &[1, 3], ..packet.clone() }), "another level");
    assert!(!takes(&Packet { slots: &[1, 2, 3], ..packet.clone() }), "a slot more");
    assert!(!takes(&Packet { priority: 99, ..packet.clone() }), "another priority");
    assert!(!takes(&Packet { desk: 3, ..packet }), "another desk");
}

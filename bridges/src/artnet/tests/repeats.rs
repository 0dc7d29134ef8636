//! A frame that repeats its universe is taken in short: what follows must be what follows of
//! reading it whole.

use super::*;
use crate::uplink::tests::alike;
use packet::Command;

/// Something that happens to a bridge.
#[derive(Clone, Debug)]
enum Happens {
    Levels {
        desk: &'static str,
        universe: u16,
        sequence: u8,
        levels: &'static [u8],
    },
    Sync {
        desk: &'static str,
    },
    /// A controller cancels the merge, or lets the universe merge by LTP.
    Command(Command),
    Written {
        universe: u16,
        level: i64,
    },
    Room(usize),
    Pass {
        ms: u64,
    },
    Rejoin,
}

fn happens() -> impl Strategy<Value = Happens> {
    let desk = || prop::sample::select(&[DESK, OTHER, THIRD][..]);
    const LEVELS: [&[u8]; 5] = [&[0, 0], &[1, 0], &[0, 1], &[0, 1, 0, 0], &[]];
    // Mostly one desk that repeats itself in order.
    let plain = (0_u16..2, 0_u8..6).prop_map(|(universe, sequence)| Happens::Levels {
        desk: DESK,
        universe,
        sequence,
        levels: &[0, 1],
    });
    let any = (desk(), 0_u16..3, any::<u8>(), prop::sample::select(&LEVELS[..]));
    let any = any.prop_map(|(desk, universe, sequence, levels)| Happens::Levels {
        desk,
        universe,
        sequence,
        levels,
    });
    const COMMANDS: [Command; 3] =
        [Command::CancelMerge, Command::MergeLatest(0), Command::Clear(0)];
    prop_oneof![
        8 => plain,
        4 => any,
        1 => desk().prop_map(|desk| Happens::Sync { desk }),
        1 => prop::sample::select(&COMMANDS[..]).prop_map(Happens::Command),
        1 => (0_u16..3, 0_i64..2)
            .prop_map(|(universe, level)| Happens::Written { universe, level }),
        1 => prop::sample::select(&[0, usize::MAX][..]).prop_map(Happens::Room),
        2 => prop::sample::select(&[1, 23, 999, 1_001, 3_999, 10_000][..])
            .prop_map(|ms| Happens::Pass { ms }),
        1 => Just(Happens::Rejoin),
    ]
}

impl Rig {
    /// Lets it happen; in short where that is allowed, or by reading every packet whole.
    fn undergo(&mut self, happens: &Happens, in_short: bool) {
        let mut packet = Vec::new();
        let mut from = DESK;
        match happens {
            Happens::Levels { desk, universe, sequence, levels } => {
                from = desk;
                packet::write_dmx(&mut packet, *sequence, port_address(*universe), levels);
            }
            Happens::Sync { desk } => {
                from = desk;
                packet::write_sync(&mut packet);
            }
            Happens::Command(command) => {
                super::manage::address(*command).write(&mut packet);
            }
            Happens::Written { universe, level } => {
                return self.set(&format!("/artnet/{universe}/1"), *level);
            }
            Happens::Room(room) => return self.said.room = *room,
            Happens::Pass { ms } => return self.wait(Span::from_millis(*ms)),
            Happens::Rejoin => return self.step(Input::Joined),
        }
        let from = from.parse().expect("an address");
        let input = Input::Packet { socket: 0, from, bytes: &packet };
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
            &["", "merge = \"ltp\"", "arbitrated = [\"/**\"]", "inputs = \"0-1\"",
              "broadcast = \"10.255.255.255\"\nbroadcast_levels = true"][..]),
        happens in prop::collection::vec(happens(), 1..120),
    ) {
        let mut rigs = [with_sources(config), with_sources(config)];
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
    let mut rig = with_sources("");
    rig.dmx(DESK, 1, 0, &[1, 2]);
    rig.dmx(OTHER, 1, 0, &[2, 1]);
    let mut take = |desk: &str, sequence, levels: &[u8]| {
        let mut packet = Vec::new();
        packet::write_dmx(&mut packet, sequence, port_address(0), levels);
        rig.bridge.repeat(rig.now, desk.parse().expect("an address"), &packet)
    };
    assert!(take(DESK, 2, &[1, 2]) && take(OTHER, 2, &[2, 1]), "each of two that are merged");
    assert!(!take(DESK, 2, &[1, 2]), "late");
    assert!(!take(DESK, 3, &[1, 3]) && !take(THIRD, 3, &[1, 2]), "new");
}

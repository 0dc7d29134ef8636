//! sACN as its bridge speaks it: what a router and a network hear of each other.

use clasp_rt_core::value::{ArrayWriter, push_bytes, push_f64, push_i64};

mod outward;
mod repeats;
mod sources;

use super::packet::{Cid, Data, START_LEVELS, START_PRIORITIES, Sync};
use super::*;
use crate::uplink::tests::{Said, set_frame};
use crate::vectors;

/// A bridge, the time, and what it said.
struct Rig {
    bridge: Sacn,
    now: Time,
    said: Said,
    /// What each source sent last, and its sequence numbers.
    sequence: u8,
}

/// One that has settled, and tells nothing but levels.
fn rig(config: &str) -> Rig {
    let mut rig = unsettled(&format!("sources = false\n{config}"));
    rig.wait(Span::from_secs(2));
    rig.said.frames.clear();
    rig
}

fn unsettled(config: &str) -> Rig {
    let config = toml::from_str(config).unwrap_or_else(|error| panic!("{config}: {error}"));
    let host = Host { name: "stage".into(), id: "1234".into() };
    let mut rig = Rig {
        bridge: Sacn::new(config, &host).expect("a configuration that works"),
        now: Time::default(),
        said: Said::default(),
        sequence: 0,
    };
    rig.step(Input::Joined);
    rig.said.frames.clear();
    rig
}

/// A desk: its CID is its letter, sixteen times.
#[derive(Clone, Copy)]
struct Desk(u8, u8);

const A: Desk = Desk(b'a', 100);
const B: Desk = Desk(b'b', 100);
const HIGH: Desk = Desk(b'h', 150);
const LOW: Desk = Desk(b'l', 50);

fn universe(number: u16) -> packet::Universe {
    packet::Universe::new(number).expect("a universe")
}

impl Rig {
    fn step(&mut self, input: Input<'_>) {
        self.bridge.step(self.now, input, &mut self.said);
    }

    /// Lets time pass, with every deadline on the way.
    fn wait(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.bridge.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Deadline);
        }
        self.now = end;
    }

    fn receive(&mut self, bytes: &[u8]) {
        let from = "10.0.0.1:5568".parse().expect("an address");
        self.step(Input::Packet { socket: 0, from, bytes });
    }

    /// A packet of a desk, changed by `change`.
    fn say(&mut self, desk: Desk, slots: &[u8], change: impl FnOnce(&mut Data<'_>)) {
        self.sequence = self.sequence.wrapping_add(1);
        let cid: Cid = [desk.0; 16];
        let mut data = Data {
            cid,
            name: b"desk",
            priority: desk.1,
            sync: 0,
            sequence: self.sequence,
            preview: false,
            terminated: false,
            force_sync: false,
            universe: universe(1),
            start: Some(START_LEVELS),
            slots,
        };
        change(&mut data);
        let mut packet = Vec::new();
        packet::write_data(&mut packet, &data);
        self.receive(&packet);
    }

    fn levels(&mut self, desk: Desk, slots: &[u8]) {
        self.say(desk, slots, |_| {});
    }

    fn priorities(&mut self, desk: Desk, slots: &[u8]) {
        self.say(desk, slots, |data| data.start = Some(START_PRIORITIES));
    }

    fn end(&mut self, desk: Desk) {
        self.say(desk, &[], |data| data.terminated = true);
    }

    fn sync(&mut self, number: u16) {
        let mut packet = Vec::new();
        let sync = Sync { cid: [b's'; 16], sequence: 0, universe: universe(number) };
        packet::write_sync(&mut packet, &sync);
        self.receive(&packet);
    }

    fn set(&mut self, address: &str, level: i64) {
        let frame = set_frame(address, |out| push_i64(out, level));
        self.step(Input::Frame(&frame));
    }

    /// What the router was told of levels since this was last asked, in short.
    fn told(&mut self) -> Vec<String> {
        let lines = self.said.take_lines();
        let sets = lines.iter().map(|line| line.trim_start()).filter(|line| {
            line.starts_with("SET") && !line.contains("/sources") && !line.contains("/priority")
        });
        sets.map(|line| line.trim_start_matches("SET /sacn/").to_owned()).collect()
    }
}

#[test]
fn the_first_packet_tells_every_slot_and_later_ones_only_what_changed() {
    let mut rig = rig("");
    rig.levels(A, &[0, 0, 7]);
    let first = [
        "BUNDLE now",
        "  SET /sacn/1/sources [{cid: \"61616161-6161-6161-6161-616161616161\", name: \"desk\", \
         host: \"10.0.0.1\", priority: 100}]",
        "  SET /sacn/1/priority 100",
        "  SET /sacn/1/1 0",
        "  SET /sacn/1/2 0",
        "  SET /sacn/1/3 7",
    ];
    assert_eq!(rig.said.take_lines(), first);
    rig.levels(A, &[0, 0, 7]);
    assert_eq!(rig.said.frames.len(), 0);
    rig.levels(A, &[0, 9, 7]);
    assert_eq!(rig.said.take_lines(), ["SET /sacn/1/2 9"]);
}

#[test]
fn levels_can_be_told_as_fractions_or_whole() {
    let mut rig1 = rig("normalize = true\nnamespace = \"/stage/acn\"");
    rig1.levels(A, &[255, 51]);
    let lines = rig1.said.take_lines();
    assert_eq!(lines[3..], ["  SET /stage/acn/1/1 1.0", "  SET /stage/acn/1/2 0.2"]);
    let mut whole = rig("mode = \"universe\"");
    whole.levels(A, &[0, 7, 0]);
    whole.levels(A, &[0, 7, 0]);
    whole.levels(A, &[0, 7, 1]);
    assert_eq!(whole.told(), ["1 0x000700", "1 0x000701"]);
}

#[test]
fn a_late_packet_is_dropped_and_a_restarted_source_is_heard() {
    let mut rig = rig("");
    for (sequence, level) in [(10, 1), (12, 2), (11, 3), (12, 4), (200, 5), (180, 6), (181, 7)] {
        rig.say(A, &[level], |data| data.sequence = sequence);
    }
    assert_eq!(rig.told(), ["1/1 1", "1/1 2", "1/1 5", "1/1 6", "1/1 7"]);
    assert_eq!(rig.bridge.counters().dropped, 2);
}

#[test]
fn previews_other_start_codes_foreign_universes_and_what_is_ours_are_no_levels() {
    let mut rig = rig("inputs = \"1-5\"");
    let own = *rig.bridge.outputs.cid();
    rig.say(A, &[1], |data| data.preview = true);
    rig.say(A, &[1], |data| data.start = Some(0x17));
    rig.say(A, &[1], |data| data.universe = universe(6));
    rig.say(A, &[1], |data| data.cid = own);
    rig.say(A, &[], |data| data.start = None);
    rig.receive(b"Art-Net\0");
    assert_eq!(rig.told(), [""; 0]);
    let counters = rig.bridge.counters();
    assert_eq!((counters.dropped, counters.refused, counters.malformed), (1, 3, 1));
    let mut preview = unsettled("preview = true\nsettle_ms = 0\nsources = false");
    preview.say(A, &[1], |data| data.preview = true);
    assert_eq!(preview.told(), ["1/1 1"]);
}

#[test]
fn a_start_code_of_its_own_does_not_disturb_the_levels_of_a_source() {
    let mut rig = rig("");
    rig.levels(A, &[5, 6]);
    rig.said.frames.clear();
    rig.say(A, &[0xEE; 40], |data| data.start = Some(0x17));
    assert_eq!(rig.told(), [""; 0]);
    rig.levels(A, &[5, 7]);
    assert_eq!(rig.told(), ["1/2 7"]);
}

#[test]
fn after_a_first_sync_frames_wait_for_the_next_one() {
    let mut rig = rig("");
    let synced = |rig: &mut Rig, number, level: u8| {
        rig.say(A, &[level], |data| {
            data.sync = 7_000;
            data.universe = universe(number);
        });
    };
    synced(&mut rig, 1, 1);
    assert_eq!(rig.told(), ["1/1 1"], "no sync was heard so far");
    assert_eq!(rig.said.joined, ["239.255.27.88"]);
    rig.sync(7_000);
    synced(&mut rig, 1, 2);
    synced(&mut rig, 2, 2);
    synced(&mut rig, 1, 3);
    rig.sync(7_001);
    assert_eq!(rig.told(), [""; 0], "another universe's sync shows nothing");
    rig.levels(B, &[0, 9]);
    assert_eq!(rig.told(), ["1/2 9"], "who names no sync does not wait");
    rig.sync(7_000);
    assert_eq!(rig.told(), ["1/1 3", "2/1 2"]);
    rig.sync(7_000);
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn when_sync_is_lost_frames_go_or_stay_locked_as_declared() {
    // What is declared, whether the source forces, and what is shown after 2.5 s without a sync.
    let cases = [
        ("", false, true),
        ("", true, true),
        ("on_sync_lost = \"lock\"", false, false),
        ("on_sync_lost = \"lock\"", true, true),
    ];
    for (config, force, goes) in cases {
        let mut rig = rig(config);
        let say = |rig: &mut Rig, level| {
            rig.say(A, &[level], |data| (data.sync, data.force_sync) = (7_000, force));
        };
        say(&mut rig, 1);
        rig.sync(7_000);
        rig.said.frames.clear();
        for level in 2..7 {
            say(&mut rig, level);
            assert_eq!(rig.told(), [""; 0], "{config} {force} {level}");
            rig.wait(Span::from_millis(499));
        }
        rig.wait(Span::from_millis(200));
        let told: &[&str] = if goes { &["1/1 6"] } else { &[] };
        assert_eq!(rig.told(), told, "{config} {force}");
        say(&mut rig, 9);
        assert_eq!(rig.told().len(), usize::from(goes), "{config} {force}");
        rig.sync(7_000);
        let last: &[&str] = if goes { &[] } else { &["1/1 9"] };
        assert_eq!(rig.told(), last, "{config} {force}");
    }
}

#[test]
fn universes_and_sources_beyond_their_tables_are_counted() {
    let mut rig = rig("inputs = \"1-2\"\nuniverses_max = 2");
    for number in [1, 2, 3] {
        rig.say(A, &[1], |data| data.universe = universe(number));
    }
    assert_eq!(rig.bridge.counters().refused, 1);
    let mut all = self::rig("inputs = \"all\"\nuniverses_max = 2");
    for number in [1, 2, 3] {
        all.say(A, &[1], |data| data.universe = universe(number));
    }
    assert_eq!((all.told().len(), all.bridge.counters().overflowed), (2, 1));
}

#[test]
fn a_router_without_room_is_told_the_newest_look_and_never_misses_the_last() {
    let mut rig = rig("");
    rig.levels(A, &[1]);
    rig.said.frames.clear();
    rig.said.room = 0;
    for level in 2..=9 {
        rig.levels(A, &[level]);
        rig.wait(Span::from_millis(5));
    }
    assert_eq!(rig.said.frames.len(), 0);
    rig.said.room = usize::MAX;
    rig.wait(PATIENCE);
    assert_eq!(rig.told(), ["1/1 9"]);
}

#[test]
fn a_router_that_comes_back_is_told_everything_again() {
    let mut rig = rig("");
    rig.levels(A, &[1, 2]);
    rig.step(Input::Lost);
    rig.levels(A, &[1, 3]);
    rig.said.frames.clear();
    rig.step(Input::Joined);
    let lines = rig.said.take_lines();
    assert_eq!(lines[..2], ["HELLO sacn 0xf1", "SUBSCRIBE 1 /sacn/**"]);
    assert_eq!(lines[5..], ["  SET /sacn/1/1 1", "  SET /sacn/1/2 3"]);
}

#[test]
fn discovery_becomes_a_param_page_by_page_and_goes_with_its_source() {
    let mut rig = rig("inputs = \"all\"");
    let cid: Cid = [b'a'; 16];
    let list: Vec<u16> = (1..=514).collect();
    let page = |rig: &mut Rig, page: u8, list: &[u16]| {
        let mut packet = Vec::new();
        packet::write_discovery(&mut packet, &cid, b"desk", page, 1, list);
        rig.receive(&packet);
    };
    page(&mut rig, 1, &list[512..]);
    page(&mut rig, 0, &list[..512]);
    assert_eq!(rig.said.frames.len(), 0, "a list is told when it is whole");
    page(&mut rig, 1, &list[512..]);
    let lines = rig.said.take_lines();
    let address = "SET /sacn/discovery/61616161-6161-6161-6161-616161616161";
    let told = format!("{address} {{name: \"desk\", host: \"10.0.0.1\", universes: [1, 2, 3,");
    assert!(lines.len() == 1 && lines[0].starts_with(&told), "{lines:?}");
    assert!(lines[0].ends_with("513, 514]}"), "{lines:?}");
    assert_eq!((rig.said.joined.len(), rig.said.joined[0].as_str()), (514, "239.255.0.1"));
    page(&mut rig, 0, &list[..512]);
    page(&mut rig, 1, &list[512..]);
    assert_eq!(rig.said.frames.len(), 0, "the same list again");
    rig.wait(Span::from_secs(26));
    assert_eq!(rig.said.take_lines(), [format!("{address} {{universes: []}}")]);
}

#[test]
fn captures_of_other_programs_become_what_a_second_reading_says() {
    let count = vectors::each("sacn-captures", |mut bytes, expected| {
        let mut rig = rig("inputs = \"all\"");
        let mut told = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let (packet, rest) = rest.split_at(u16::from_be_bytes(*len).into());
            rig.receive(packet);
            told.extend(rig.told().into_iter().filter(|line| !line.starts_with("discovery")));
            rig.wait(Span::from_millis(20));
            bytes = rest;
        }
        assert_eq!(rig.bridge.counters().malformed, 0);
        assert!(told.iter().eq(expected.lines()), "{told:#?}");
    });
    assert_eq!(count, 3);
}

#[test]
fn what_is_wrong_in_a_configuration_is_named() {
    let cases = [
        ("sources_max = 0", "sources_max"),
        ("priority = 201", "priority"),
        ("cid = \"me\"", "cid"),
        ("cid = \"00000000-0000-0000-0000-000000000000\"", "cid"),
        ("sync_universe = 0", "sync_universe"),
        ("rate_hz_max = 0", "rate_hz_max"),
        ("inputs = \"1-100\"\nuniverses_max = 10", "inputs"),
        ("settle_ms = 10001", "settle_ms"),
        ("targets = [\"a b\"]", "targets[0]"),
        ("targets = [\"10.0.0.5\", \"10.0.0.5:0\"]", "targets[1]"),
        ("multicast = false", "multicast"),
        ("multicast = false\noutputs = \"1-4\"", "multicast"),
        ("namespace = \"sacn\"", "namespace"),
        (
            "source_name = \"0123456789012345678901234567890123456789012345678901234567890123\"",
            "source_name",
        ),
    ];
    for (text, key) in cases {
        let config = toml::from_str(text).expect(text);
        let error = Sacn::new(config, &Host::default()).err().expect(text);
        assert_eq!(error.key, key, "{text}");
    }
    for text in ["targets = [\"10.0.0.5\"]", "outputs = \"none\""] {
        let config = toml::from_str(&format!("multicast = false\n{text}")).expect(text);
        assert!(Sacn::new(config, &Host::default()).is_ok(), "{text}");
    }
    assert!(toml::from_str::<Config>("inputs = \"0-5\"").is_err());
}

#[test]
fn a_cid_stays_the_same_and_differs_between_hosts_and_bridges() {
    let host = Host { name: "stage".into(), id: "1".into() };
    let other = Host { name: "stage".into(), id: "2".into() };
    assert_eq!(host.cid("sacn"), host.clone().cid("sacn"));
    assert_ne!(host.cid("sacn"), other.cid("sacn"));
    assert_ne!(host.cid("sacn"), host.cid("sacn-2"));
    // Version 5, variant of RFC 9562.
    assert_eq!((host.cid("sacn")[6] >> 4, host.cid("sacn")[8] >> 6), (5, 2));
    let config =
        Config { cid: Some("3fa85f64-5717-4562-b3fc-2c963f66afa6".into()), ..Config::default() };
    let bridge = Sacn::new(config, &host).expect("a bridge");
    assert_eq!(bridge.outputs.cid()[..4], [0x3F, 0xA8, 0x5F, 0x64]);
}

#[test]
fn sockets_join_what_is_chosen_and_send_where_the_interface_is() {
    // `bind`, `inputs`: groups of each socket, and the first of them.
    let cases: [(&str, &str, &[usize], &str); 5] = [
        ("0.0.0.0:5568", "1-3", &[4], "239.255.0.1"),
        ("10.0.0.1:5568", "1-3", &[4, 0], "239.255.0.1"),
        ("10.0.0.1:5568", "none", &[0], ""),
        ("10.0.0.1:5568", "all", &[1, 0], "239.255.250.214"),
        ("[::]:5568", "256", &[2], "ff18::83:0:1:0"),
    ];
    for (bind, inputs, counts, first) in cases {
        let config = Config {
            bind: bind.parse().expect("an address"),
            inputs: Universes::try_from(inputs.to_owned()).expect("universes"),
            ..Config::default()
        };
        let plans = sockets(&config);
        let found: Vec<_> = plans.iter().map(|plan| plan.multicast.len()).collect();
        assert_eq!(found, counts, "{bind} {inputs}");
        let group = plans[0].multicast.first().map(|group| group.to_string());
        assert_eq!(group.unwrap_or_default(), first, "{bind} {inputs}");
    }
}

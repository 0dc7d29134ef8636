//! Many universes at once: what waits, what is spread, and what a show may fill.

use clasp_rt_core::message::{Bundle, Set};
use clasp_rt_core::signal::{Qos, Signal};
use clasp_rt_core::value::push_str;
use clasp_rt_core::wire::list::Messages;

use super::*;
use crate::uplink::tests::publish_frame;

#[test]
fn a_router_without_room_is_told_the_newest_look_and_never_misses_the_last() {
    let mut rig = rig("");
    rig.dmx(DESK, 0, 0, &[1, 0]);
    rig.said.frames.clear();
    rig.said.room = 0;
    for level in 2..=9 {
        rig.dmx(DESK, 0, 0, &[level, 0]);
        rig.dmx(DESK, 0, 1, &[level, 0]);
        rig.wait(Span::from_millis(5));
    }
    assert_eq!(rig.said.frames.len(), 0);
    rig.said.room = usize::MAX;
    rig.wait(PATIENCE);
    let told = ["SET /artnet/0/1 9", "BUNDLE now", "  SET /artnet/1/1 9", "  SET /artnet/1/2 0"];
    assert_eq!(rig.said.take_lines(), told);
    assert_eq!(rig.bridge.counters().dropped, 0);
}

#[test]
fn a_universe_can_be_told_whole() {
    let mut rig = rig("mode = \"universe\"");
    for levels in [[0, 7, 0, 0], [0, 7, 0, 0], [0, 7, 1, 0]] {
        rig.dmx(DESK, 0, 19, &levels);
    }
    assert_eq!(rig.said.take_lines(), ["SET /artnet/19 0x00070000", "SET /artnet/19 0x00070100"]);
}

#[test]
fn slots_are_named_alike_whatever_their_number_of_digits() {
    for (config, value) in
        [("", ["1", "255"]), ("normalize = true", ["0.00392156862745098", "1.0"])]
    {
        let mut rig = rig(config);
        rig.dmx(DESK, 0, 7, &[1; 512]);
        rig.dmx(DESK, 0, 7, &[255; 512]);
        let lines = rig.said.take_lines();
        for (round, value) in (0..).zip(value) {
            let told = lines.iter().skip(round * 513 + 1).take(512);
            for (slot, line) in (1..).zip(told) {
                assert_eq!(*line, format!("  SET /artnet/7/{slot} {value}"));
            }
        }
        assert_eq!(lines.len(), 2 * 513);
    }
}

#[test]
fn a_burst_of_universes_is_spread_and_each_keeps_its_distance() {
    const UNIVERSES: u16 = 1_500;
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let frame = Span::from_micros(1_000_000 / 44);
    let mut left = vec![Vec::new(); usize::from(UNIVERSES)];
    for round in 0..10 {
        for universe in 0..UNIVERSES {
            rig.set(&format!("/artnet/{universe}/1"), round);
        }
        let end = rig.now + frame;
        let mut most = 0;
        while let Some(due) = rig.bridge.deadline().filter(|due| *due <= end) {
            rig.now = rig.now.max(due);
            rig.step(Input::Deadline);
            let sent = rig.sent_dmx();
            most = most.max(sent.len());
            for (_, universe, ..) in sent {
                left[usize::from(universe)].push(rig.now);
            }
        }
        rig.now = end;
        // All of them within three quarters of a frame, and no more at once than leave in 0.4 ms.
        assert!(most <= 40, "{most} at once in round {round}");
    }
    for (universe, left) in left.iter().enumerate() {
        assert!((9..=10).contains(&left.len()), "{universe}: {}", left.len());
        for pair in left.windows(2) {
            let error = pair[1].since(pair[0]).0.abs_diff(frame.0);
            assert!(error <= Span::from_micros(400).0, "{universe}: {error} ns");
        }
    }
}

#[test]
fn a_source_that_was_late_once_is_not_late_for_ever() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let frame = Span::from_micros(1_000_000 / 44);
    for round in 0..40_i64 {
        let late = if round == 10 { Span::from_millis(5) } else { Span::ZERO };
        rig.wait(late);
        rig.set("/artnet/0/1", round);
        rig.sent_dmx();
        rig.wait(GATHER);
        rig.wait(Span::from_micros(200));
        let sent = rig.sent_dmx().len();
        assert_eq!(sent, 1, "round {round} did not leave in time");
        rig.wait(Span(frame.0 - GATHER.0 - 200_000 - late.0));
    }
}

#[test]
fn stops_of_the_thread_do_not_add_up_until_a_frame_is_passed_over() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let frame = Span::from_micros(1_000_000 / 44);
    for round in 0..40_u8 {
        let next = rig.now + frame;
        rig.set("/artnet/0/1", round.into());
        // Half a frame long, just when this one is about to leave.
        if let Some(due) = rig.bridge.deadline().filter(|_| round % 4 == 0) {
            rig.now = due + Span(frame.0 / 2);
        }
        rig.wait(next.since(rig.now));
        let sent: Vec<_> = rig.sent_dmx().iter().map(|(.., levels)| levels[0]).collect();
        assert_eq!(sent, [round]);
    }
}

#[test]
fn two_frames_may_be_near_and_those_behind_them_make_up_for_it() {
    let frame = Span::from_micros(1_000_000 / 44);
    let quarter = Span(frame.0 / 4);
    // How late the first one is, and how long after it the second leaves.
    for (late, apart) in [(Span::ZERO, quarter), (quarter, GATHER), (frame, GATHER)] {
        let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
        rig.set("/artnet/0/1", 0);
        rig.wait(Span::from_millis(100));
        rig.set("/artnet/0/1", 1);
        let due = rig.bridge.deadline().expect("it is to leave");
        rig.now = due + late;
        let mut sent = Vec::new();
        rig.sent_dmx();
        while sent.len() < 10 {
            rig.step(Input::Deadline);
            if !rig.sent_dmx().is_empty() {
                sent.push(rig.now);
            }
            rig.set("/artnet/0/1", (2 + sent.len()) as i64);
            rig.now = rig.bridge.deadline().expect("it is to leave").max(rig.now);
        }
        let [first, second] = [sent[0], sent[1]];
        let error = second.since(first).0.abs_diff(apart.0);
        assert!(error < 10_000, "{late:?}: {:?}", second.since(first));
        let last = sent.last().expect("ten").since(due);
        assert!(last.0 + quarter.0 * 3 + 100_000 >= frame.0 * 9, "{late:?}: {last:?}");
    }
}

#[test]
fn the_repetitions_of_a_long_stop_are_not_made_up_for() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    for universe in 0..3 {
        rig.set(&format!("/artnet/{universe}/1"), 1);
    }
    rig.wait(Span::from_secs(5));
    rig.sent_dmx();
    rig.now = rig.now + Span::from_secs(60);
    rig.wait(Span::from_millis(100));
    assert_eq!(rig.sent_dmx().len(), 3);
}

#[test]
fn what_was_missed_is_caught_up_with_in_portions() {
    const UNIVERSES: u16 = 1_024;
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    for universe in 0..UNIVERSES {
        rig.set(&format!("/artnet/{universe}/1"), 1);
    }
    rig.now = rig.now + Span::from_millis(30);
    let (start, mut portions, mut took) = (rig.now, Vec::new(), Span::ZERO);
    while portions.iter().sum::<usize>() < UNIVERSES.into() {
        rig.step(Input::Deadline);
        portions.push(rig.sent_dmx().len());
        took = rig.now.since(start);
        rig.now = rig.bridge.deadline().expect("more is due").max(rig.now);
    }
    assert!(portions.iter().all(|portion| *portion <= 49), "{portions:?}");
    assert!(took < Span::from_millis(5), "a quarter of the time that a line takes: {took:?}");
}

#[test]
fn levels_mean_the_same_whichever_way_their_frame_is_read() {
    let keys = "targets = [\"10.0.0.9\"]\npoll = false\nuniverses_max = 2\noutputs = \"0-9\"";
    // The same places; what is not written plainly makes a frame be read the whole way.
    let ways = [["19/3", "0/1", "1/512", "1/2", "2/1"], ["19/3", "0/1", "0:0:1/512", "1/2", "2/1"]];
    let [plain, whole] = ways.map(|places| {
        let mut rig = rig(keys);
        let mut value = Vec::new();
        push_i64(&mut value, 7);
        let value = Value::from_encoded(&value).expect("a value");
        let mut payloads = Vec::new();
        for place in places {
            let address = &*format!("/artnet/{place}");
            let set = Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
            Messages::append(&mut payloads, &Message::Set(set)).expect("short");
        }
        let messages = Messages::from_payloads(&payloads, places.len()).expect("just written");
        let bundle = Message::Bundle(Bundle { timestamp_us: None, messages });
        let mut frame = Vec::new();
        binary::encode(&bundle, Qos::Fire, &mut frame).expect("short");
        rig.step(Input::Frame(&frame));
        rig.wait(Span::from_millis(2));
        (rig.sent_dmx(), rig.bridge.counters())
    });
    assert_eq!(plain, whole);
    let universes: Vec<_> = plain.0.iter().map(|(_, universe, ..)| *universe).collect();
    assert_eq!((universes, plain.1.frames_in, plain.1.overflowed), (vec![0, 1], 1, 1));
}

#[test]
fn a_blackout_of_many_universes_is_spread_and_then_over() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\non_stop = \"blackout\"");
    for universe in 0..1_000 {
        rig.set(&format!("/artnet/{universe}/1"), 255);
    }
    rig.wait(Span::from_millis(100));
    rig.said.packets.clear();
    rig.step(Input::Stop);
    assert!(rig.said.packets.len() < 100 && rig.bridge.has_last_words());
    rig.wait(Span::from_millis(20));
    let sent = rig.sent_dmx();
    assert_eq!(sent.len(), 1_000);
    assert!(sent.iter().all(|(.., levels)| *levels == [0, 0]));
    assert!(!rig.bridge.has_last_words());
}

#[test]
fn a_round_that_is_synced_leaves_together_and_repeats_together() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false\nsync = true");
    for (universe, pause) in [(0, 300), (1, 300), (2, 5_000), (3, 0)] {
        rig.set(&format!("/artnet/{universe}/1"), 1);
        rig.wait(Span::from_micros(pause));
    }
    rig.wait(REPEAT);
    rig.wait(Span::from_millis(100));
    let mut rounds = vec![0];
    for (_, bytes) in &rig.said.packets {
        match packet::decode(bytes).expect("ours") {
            Packet::Dmx(_) => *rounds.last_mut().expect("one at least") += 1,
            _ => rounds.push(0),
        }
    }
    // The first three began one round although they did not change at once; then the fourth, which
    // had to wait for its turn; and the repeats of both.
    assert_eq!(rounds, [3, 1, 3, 1, 0]);
}

#[test]
fn what_may_be_filled_follows_from_the_configuration() {
    let cases = [
        ("", 4_096 * 512),
        ("inputs = \"0-15, 100\"", 17 * 512),
        ("inputs = \"none\"", 0),
        ("universes_max = 10", 10 * 512),
        ("mode = \"universe\"\nuniverses_max = 32768", 32_768),
    ];
    for (config, params) in cases {
        let of_nodes = 256 * 6;
        assert_eq!(rig(config).bridge.params_max(), params + of_nodes, "{config}");
    }
    let bytes = |config| rig(config).bridge.memory_bytes_max();
    let (few, many) = (bytes("universes_max = 1"), bytes("universes_max = 4096"));
    assert!(few < 1 << 18 && (10 << 20..16 << 20).contains(&many), "{few} and {many}");
}

#[test]
fn four_thousand_universes_pass_each_way() {
    const UNIVERSES: u16 = 4_096;
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false\nmode = \"universe\"");
    for round in 1..=2 {
        for universe in 0..UNIVERSES {
            rig.dmx(DESK, round, universe, &[universe as u8, round]);
        }
        let told = rig.said.take_lines();
        assert_eq!(told.len(), usize::from(UNIVERSES), "round {round}");
        assert_eq!(told[4_095], format!("SET /artnet/4095 0xff0{round}"));
    }
    for universe in 0..UNIVERSES {
        rig.set(&format!("/artnet/{universe}/1"), i64::from(universe % 251) + 1);
    }
    rig.wait(Span::from_millis(100));
    let mut sent: Vec<_> = rig.sent_dmx();
    sent.sort_by_key(|(_, universe, ..)| *universe);
    assert_eq!(sent.len(), usize::from(UNIVERSES));
    let are_right = (0..UNIVERSES)
        .zip(&sent)
        .all(|(n, (_, universe, _, levels))| *universe == n && levels[0] == (n % 251) as u8 + 1);
    assert!(are_right);
    assert_eq!(rig.bridge.counters().overflowed, 0);
}

#[test]
fn levels_of_an_earlier_start_are_not_sent_against_the_desk_that_sends_them() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let mut bytes = Vec::new();
    push_i64(&mut bytes, 9);
    let value = Value::from_encoded(&bytes).expect("a value");
    let mut snapshot = Vec::new();
    let mut builder = SnapshotBuilder::start(&mut snapshot);
    for address in ["/artnet/0/1", "/artnet/1/1"] {
        let writer = Some("our session of yesterday");
        let param = ParamValue { address, value, revision: 1, writer, timestamp_us: None };
        assert!(builder.push(&mut snapshot, &param));
    }
    builder.finish(&mut snapshot);
    rig.step(Input::Frame(&snapshot));
    rig.dmx(DESK, 0, 0, &[9, 0]);
    rig.wait(Span::from_secs(2));
    let universes: Vec<_> = rig.sent_dmx().iter().map(|(_, universe, ..)| *universe).collect();
    assert!(!universes.is_empty() && universes.iter().all(|universe| *universe == 1));
    // Somebody writes it: now it is ours to send.
    rig.set("/artnet/0/1", 9);
    rig.wait(GATHER);
    let sent = rig.sent_dmx();
    assert_eq!(sent.iter().map(|(_, universe, ..)| *universe).collect::<Vec<_>>(), [0]);
}

#[test]
fn what_a_bridge_sends_to_itself_is_no_desk_and_another_desk_there_is_heard() {
    let mut rig = rig("targets = [\"127.0.0.1\"]\npoll = false");
    let [note] = rig.bridge.notes().try_into().expect("one note");
    assert!(note.contains("127.0.0.1:6454 is this bridge itself"), "{note}");
    for level in [255, 0] {
        rig.set("/artnet/0/1", level);
        rig.wait(Span::from_millis(30));
        for (to, bytes) in std::mem::take(&mut rig.said.packets) {
            rig.receive(&to.to_string(), &bytes);
        }
        assert_eq!(rig.said.take_lines(), [""; 0], "at {level}");
    }
    rig.dmx("127.0.0.1:6454", 200, 0, &[0, 7]);
    assert_eq!(rig.said.take_lines().last().map(String::as_str), Some("  SET /artnet/0/2 7"));
}

#[test]
fn an_event_that_a_bridge_sends_to_itself_is_not_heard_and_the_same_from_others_is() {
    let mut rig = rig("targets = [\"127.0.0.1\", \"10.0.0.9\"]\npoll = false");
    let show = |rig: &mut Rig| {
        let trigger = publish_frame("/artnet/trigger/show", Signal::Event, |out| push_i64(out, 5));
        rig.step(Input::Frame(&trigger));
        let time = |out: &mut Vec<u8>| push_str(out, "00:00:01:00").expect("short");
        rig.step(Input::Frame(&set_frame("/artnet/timecode", time)));
        let command = |out: &mut Vec<u8>| push_str(out, "go").expect("short");
        let command = publish_frame("/artnet/command", Signal::Event, command);
        rig.step(Input::Frame(&command));
        std::mem::take(&mut rig.said.packets)
    };
    let sent = show(&mut rig);
    assert_eq!(sent.len(), 6, "to each target, once");
    let own: Vec<_> = sent.iter().filter(|(to, _)| to.ip().is_loopback()).collect();
    for (to, bytes) in &own {
        rig.receive(&to.to_string(), bytes);
    }
    assert_eq!(rig.said.take_lines(), [""; 0]);
    assert_eq!(rig.bridge.counters().dropped, 3);
    // Somebody else on this machine says the same: each of ours came back once.
    for (to, bytes) in &own {
        rig.receive(&to.to_string(), bytes);
    }
    let told = rig.said.take_lines();
    for line in ["trigger/show 5", "command \"go\"", "timecode \"00:00:01:00\""] {
        assert!(told.iter().any(|told| told.ends_with(line)), "{line}: {told:?}");
    }
    // What has not come back within a second is somebody else's.
    let late = show(&mut rig);
    rig.wait(Span::from_millis(1_500));
    for (to, bytes) in late.iter().filter(|(to, _)| to.ip().is_loopback()) {
        rig.receive(&to.to_string(), bytes);
    }
    assert!(rig.said.take_lines().iter().any(|line| line.ends_with("trigger/show 5")));
    assert_eq!(rig.bridge.counters().dropped, 3);
}

#[test]
fn events_on_their_way_back_are_remembered_up_to_a_bound() {
    let mut rig = rig("targets = [\"127.0.0.1\"]\npoll = false");
    for number in 0..100 {
        let trigger =
            publish_frame("/artnet/trigger/macro", Signal::Event, |out| push_i64(out, number));
        rig.step(Input::Frame(&trigger));
    }
    for (to, bytes) in std::mem::take(&mut rig.said.packets) {
        rig.receive(&to.to_string(), &bytes);
    }
    assert_eq!(rig.bridge.counters().dropped, 64, "the newest");
    assert_eq!(rig.said.take_lines().len(), 36);
}

#[test]
fn an_address_with_zeros_in_front_is_no_slot() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    rig.set("/artnet/16/3", 1);
    for (count, address) in
        (1..).zip(["/artnet/016/3", "/artnet/16/003", "/artnet/0:01:0/3", "/artnet/00/1"])
    {
        rig.set(address, 9);
        assert_eq!(rig.bridge.counters().refused, count, "{address}");
    }
    assert_eq!(rig.bridge.sends("/artnet/16/3"), Some(true));
    assert_eq!(rig.bridge.sends("/artnet/016/3"), Some(false), "whoever writes it is told");
    for address in ["/artnet/016", "/artnet/nzs/016/145"] {
        let bytes = |out: &mut Vec<u8>| push_bytes(out, &[9; 4]).expect("short");
        rig.step(Input::Frame(&publish_frame(address, Signal::Event, bytes)));
    }
    assert_eq!(rig.bridge.counters().refused, 6);
    rig.wait(GATHER);
    let sent = rig.sent_dmx();
    let levels: Vec<_> = sent.iter().map(|(_, universe, _, levels)| (*universe, levels)).collect();
    assert_eq!(levels, [(16, &vec![0, 0, 1, 0])]);
}

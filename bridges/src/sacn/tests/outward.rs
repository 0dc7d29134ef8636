//! Universes that go to the network.

use super::*;

/// Target, universe, priority, start code, flags and slots of a data packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    to: String,
    universe: u16,
    priority: u8,
    sequence: u8,
    start: Option<u8>,
    sync: u16,
    terminated: bool,
    slots: Vec<u8>,
}

impl Rig {
    /// The data packets sent so far; takes all packets.
    fn sent(&mut self) -> Vec<Sent> {
        let decoded = |(to, bytes): (SocketAddr, Vec<u8>)| match packet::decode(&bytes) {
            Ok(Packet::Data(data)) => Some(Sent {
                to: to.to_string(),
                universe: data.universe.number(),
                priority: data.priority,
                sequence: data.sequence,
                start: data.start,
                sync: data.sync,
                terminated: data.terminated,
                slots: data.slots.to_vec(),
            }),
            _ => None,
        };
        self.said.packets.drain(..).filter_map(decoded).collect()
    }
}

#[test]
fn a_cue_of_512_slots_leaves_as_one_packet_to_the_group_and_each_target() {
    let mut rig = rig("targets = [\"10.0.0.9\", \"10.0.0.8:5569\"]\npriority = 120");
    for slot in 1..=512 {
        rig.set(&format!("/sacn/259/{slot}"), slot % 256);
    }
    assert_eq!(rig.sent().len(), 0, "changes are gathered first");
    rig.wait(Span::from_millis(1));
    let sent = rig.sent();
    let to: Vec<_> = sent.iter().map(|one| one.to.as_str()).collect();
    assert_eq!(to, ["239.255.1.3:5568", "10.0.0.9:5568", "10.0.0.8:5569"]);
    for one in sent {
        assert_eq!((one.universe, one.priority, one.start), (259, 120, Some(0)));
        assert!((1..=512).zip(&one.slots).all(|(slot, level)| *level == (slot % 256) as u8));
    }
}

#[test]
fn a_change_is_sent_three_times_more_and_then_every_800_ms() {
    let mut rig = rig("");
    rig.set("/sacn/1/1", 200);
    let mut at = Vec::new();
    for millisecond in 0..2_500 {
        let sent = rig.sent();
        at.extend(sent.iter().map(|one| (millisecond, one.sequence)));
        rig.wait(Span::from_millis(1));
    }
    let (times, sequences): (Vec<_>, Vec<_>) = at.into_iter().unzip();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    let pauses: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses[..3].iter().all(|pause| (22..=24).contains(pause)), "{times:?}");
    assert!(pauses[3..].iter().all(|pause| (800..=801).contains(pause)), "{times:?}");
}

#[test]
fn a_kilohertz_of_changes_leaves_at_44_hz_and_ends_with_the_last() {
    let mut rig = rig("");
    for change in 0..1_000_i64 {
        rig.set("/sacn/1/1", change % 256);
        rig.wait(Span::from_millis(1));
    }
    let sent = rig.sent();
    assert!((43..=46).contains(&sent.len()), "{} packets", sent.len());
    rig.wait(Span::from_millis(50));
    assert_eq!(rig.sent().last().map(|one| one.slots[0]), Some((999 % 256) as u8));
}

#[test]
fn a_source_of_the_allowed_rate_that_is_not_quite_regular_is_not_held_up() {
    let mut rig = rig("");
    let frame = Span::from_micros(1_000_000 / 44);
    let start = rig.now;
    for round in 0..200_u8 {
        // From the second on it is known to move.
        let late = if round < 2 { 0 } else { [0, 4, 1, 6][usize::from(round) % 4] };
        let at = start + Span(frame.0 * u64::from(round)) + Span::from_millis(late);
        rig.wait(at.since(rig.now));
        assert_eq!(rig.sent(), [], "a repetition went before round {round}");
        rig.set("/sacn/1/1", round.into());
        rig.wait(Span::from_millis(2));
        let sent = rig.sent();
        assert_eq!(sent.iter().map(|one| one.slots[0]).collect::<Vec<_>>(), [round]);
    }
    rig.wait(Span::from_millis(150));
    assert_eq!(rig.sent().len(), 3, "the last one is repeated");
}

#[test]
fn values_of_every_form_become_levels() {
    let mut rig = rig("floats = \"fraction\"\noutputs = \"1-2\"");
    let frames = [
        set_frame("/sacn/1/1", |out| push_f64(out, 0.5)),
        set_frame("/sacn/1/2", |out| push_i64(out, 300)),
        set_frame("/sacn/2", |out| {
            let mut array = ArrayWriter::start(out);
            push_i64(array.item().expect("room"), 7);
            push_f64(array.item().expect("room"), 1.0);
        }),
        set_frame("/sacn/2", |out| push_bytes(out, &[1, 2, 3]).expect("short")),
        set_frame("/sacn/3/1", |out| push_i64(out, 1)),
        set_frame("/sacn/discovery/x", |out| push_i64(out, 1)),
        set_frame("/sacn/1/sources", |out| push_i64(out, 1)),
    ];
    for frame in &frames {
        rig.step(Input::Frame(frame));
    }
    rig.wait(Span::from_millis(2));
    let sent: Vec<_> = rig.sent().into_iter().map(|one| (one.universe, one.slots)).collect();
    assert_eq!(sent, [(1, vec![128, 255]), (2, vec![1, 2, 3])]);
    assert_eq!(rig.bridge.counters().refused, 0);
    let wrong = ["/sacn/0/1", "/sacn/64000/1", "/sacn/1/513", "/sacn/1/0", "/sacn/1/1/x"];
    // Zeros in front: one slot has one address.
    let padded =
        ["/sacn/01/1", "/sacn/1/01", "/sacn/001", "/sacn/01/priority", "/sacn/1/01/priority"];
    for (count, address) in (1..).zip(wrong.into_iter().chain(padded)) {
        rig.set(address, 1);
        assert_eq!(rig.bridge.counters().refused, count, "{address}");
    }
}

#[test]
fn what_comes_in_is_not_sent_out_and_what_goes_out_does_not_come_in() {
    let mut rig = rig("");
    rig.levels(A, &[10]);
    rig.set("/sacn/1/2", 5);
    rig.wait(Span::from_millis(1));
    let packets = std::mem::take(&mut rig.said.packets);
    rig.said.frames.clear();
    for (_, bytes) in &packets {
        rig.receive(bytes);
    }
    assert_eq!((rig.said.frames.len(), packets.len()), (0, 1));
    let Ok(Packet::Data(data)) = packet::decode(&packets[0].1) else { panic!("levels") };
    assert_eq!(data.slots, [0, 5]);
}

#[test]
fn a_universe_may_have_a_priority_of_its_own() {
    let mut rig = rig("");
    rig.set("/sacn/1/priority", 180);
    rig.wait(Span::from_secs(1));
    assert_eq!(rig.sent(), [], "no levels, no packet");
    rig.set("/sacn/1/1", 1);
    rig.set("/sacn/2/1", 1);
    rig.set("/sacn/2/priority", 255);
    rig.wait(Span::from_millis(2));
    let sent: Vec<_> = rig.sent().iter().map(|one| (one.universe, one.priority)).collect();
    assert_eq!(sent, [(1, 180), (2, 200)]);
}

#[test]
fn with_slot_priorities_only_written_slots_are_controlled() {
    let mut rig = rig("slot_priorities = true");
    rig.set("/sacn/1/3", 7);
    rig.set("/sacn/1/5", 8);
    rig.set("/sacn/1/5/priority", 150);
    rig.wait(Span::from_millis(1));
    let sent = rig.sent();
    assert_eq!((sent[0].start, sent[1].start), (Some(0xDD), Some(0)));
    assert_eq!((sent[0].sequence, sent[1].sequence), (1, 2), "one count for both");
    assert_eq!((sent[0].slots.len(), &sent[0].slots[..6]), (512, &[0, 0, 100, 0, 150, 0][..]));
    assert_eq!(sent[1].slots, [0, 0, 7, 0, 8]);
    rig.set("/sacn/1/3/priority", 0);
    rig.set("/sacn/1/3", 9);
    rig.wait(Span::from_millis(40));
    assert_eq!(rig.sent()[0].slots[..6], [0, 0, 0, 0, 150, 0], "0 lets go of a slot");
    rig.wait(Span::from_secs(3));
    let repeated = rig.sent();
    let count = |start| repeated.iter().filter(|one| one.start == Some(start)).count();
    assert!((3..=4).contains(&count(0xDD)) && count(0) >= count(0xDD), "{}", count(0xDD));
}

#[test]
fn a_sync_packet_follows_what_changed_together() {
    let mut rig = rig("sync_universe = 7000");
    for number in [1, 2, 3] {
        rig.set(&format!("/sacn/{number}/1"), 9);
    }
    rig.wait(Span::from_millis(5));
    let packets = std::mem::take(&mut rig.said.packets);
    let to: Vec<_> = packets.iter().map(|(to, _)| to.to_string()).collect();
    let wanted = ["239.255.0.1", "239.255.0.2", "239.255.0.3", "239.255.27.88"];
    assert_eq!(to, wanted.map(|ip| format!("{ip}:5568")));
    let Ok(Packet::Data(data)) = packet::decode(&packets[0].1) else { panic!("levels") };
    assert_eq!((data.sync, data.force_sync), (7_000, true));
    let Ok(Packet::Sync(sync)) = packet::decode(&packets[3].1) else { panic!("a sync") };
    assert_eq!((sync.universe.number(), sync.sequence), (7_000, 1));
}

#[test]
fn a_stop_ends_each_universe_with_three_farewells() {
    let mut rig = rig("");
    for number in [1, 2] {
        rig.set(&format!("/sacn/{number}/1"), 9);
    }
    rig.set("/sacn/3/priority", 9);
    rig.wait(Span::from_secs(1));
    rig.sent();
    rig.step(Input::Stop);
    assert!(rig.bridge.has_last_words());
    while rig.bridge.has_last_words() {
        let due = rig.bridge.deadline().expect("more to say");
        assert!(due > rig.now, "a host that stops does not spin");
        rig.now = due;
        rig.step(Input::Deadline);
    }
    let sent = rig.sent();
    for number in [1, 2] {
        let ours = sent.iter().filter(|one| one.universe == number && one.terminated);
        assert_eq!(ours.count(), 3);
    }
    assert_eq!(sent.len(), 6);
    rig.wait(Span::from_secs(2));
    assert_eq!(rig.sent(), [], "and nothing after them");
}

#[test]
fn every_ten_seconds_we_say_which_universes_we_send() {
    let mut rig = rig("universes_max = 600");
    for number in (1..=514_u16).rev() {
        rig.set(&format!("/sacn/{number}/1"), 9);
    }
    rig.said.packets.clear();
    rig.wait(Span::from_secs(20));
    let pages = rig.said.packets.iter().filter_map(|(to, bytes)| match packet::decode(bytes) {
        Ok(Packet::Discovery(page)) => {
            assert_eq!(to.to_string(), "239.255.250.214:5568");
            Some((page.page, page.last, page.universes().collect::<Vec<_>>()))
        }
        _ => None,
    });
    let pages: Vec<_> = pages.collect();
    assert_eq!(pages.len(), 4, "two lists of two pages");
    assert_eq!((pages[0].0, pages[0].1, pages[1].0, pages[1].1), (0, 1, 1, 1));
    assert!(pages[0].2.iter().copied().eq(1..=512) && pages[1].2 == [513, 514]);
}

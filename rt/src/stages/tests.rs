//! Counting the ways of messages, without a kernel and without a shard.

use clasp_rt_bridges::json;

use super::*;

/// The stages of one shard of two.
struct Rig {
    stages: Stages,
    counted: Reader,
    now: Time,
}

impl Rig {
    fn new() -> Self {
        let (page, counted) = page(2);
        let (clock, now) = (Clock::start(), Time(1_000_000_000));
        Self { stages: Stages::new(Some(page), clock), counted, now }
    }

    /// The next turn begins `us` after the last one.
    fn turn(&mut self, us: u64) {
        self.now = self.now + Span::from_micros(us);
        self.stages.turn(self.now);
    }

    /// A frame of this turn that is queued for so many links.
    fn frame(&mut self, frame: &[u8], links: usize) {
        self.frame_of(self.now, frame, links);
    }

    fn frame_of(&mut self, arrival: Time, frame: &[u8], links: usize) {
        self.stages.frame(arrival, frame);
        (0..links).for_each(|_| self.stages.queued());
        self.stages.stepped(Outcome::Taken);
    }

    /// How many messages of `class` each stage counts.
    fn counts(&self, path: Path, class: Class) -> [u64; 5] {
        Stage::ALL.map(|stage| {
            let latency = self.counted.latency(Kind { path, class, stage }.index());
            latency.map_or(0, |latency| latency.count())
        })
    }

    /// The shortest and the longest way of `class`, in microseconds.
    fn total_us(&self, path: Path, class: Class) -> [u64; 2] {
        let index = Kind { path, class, stage: Stage::Total }.index();
        let summary = self.counted.latency(index).expect("messages").summary();
        [summary.min_ns.div_ceil(1_000), self.counted.max_ns(index) / 1_000]
    }
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    json::to_frame(text, &mut frame).unwrap();
    frame
}

fn event() -> Vec<u8> {
    frame(r#"{"type":"PUBLISH","signal":"event","address":"/a"}"#)
}

#[test]
fn a_frame_has_the_class_of_what_it_carries() {
    let publish = |signal: &str| {
        frame(&format!(r#"{{"type":"PUBLISH","signal":"{signal}","address":"/a","value":1}}"#))
    };
    let set = r#"{"type":"SET","address":"/a","value":1}"#;
    let bundle = format!(r#"{{"type":"BUNDLE","messages":[{set}]}}"#);
    let cases = [
        (frame(set), Class::Param),
        (publish("param"), Class::Param),
        (publish("event"), Class::Event),
        (publish("stream"), Class::Stream),
        (publish("gesture"), Class::Gesture),
        (publish("timeline"), Class::Other),
        (frame(&bundle), Class::Bundle),
        (frame(r#"{"type":"GET","address":"/a"}"#), Class::Other),
        (Vec::new(), Class::Other),
        (b"S\x01\x00\x01".to_vec(), Class::Other),
        (b"S\x01\x00\x01\x20".to_vec(), Class::Param),
    ];
    let mut stages = Stages::new(None, Clock::start());
    for (frame, class) in cases {
        assert_eq!(stages.class(&frame), class, "{frame:?}");
        if let [magic, flags, high, low, payload @ ..] = &*frame {
            // The same with a timestamp between header and payload.
            let stamped = [&[*magic, flags | 0x20, *high, *low], &[0x21; 8][..], payload];
            assert_eq!(stages.class(&stamped.concat()), class, "{stamped:?}");
        }
    }
}

#[test]
fn a_message_counts_once_for_all_links_that_it_is_queued_for() {
    let mut rig = Rig::new();
    rig.turn(0);
    rig.frame(&event(), 3);
    rig.turn(20);
    rig.frame(&event(), 1);
    rig.turn(500);
    assert_eq!(rig.counts(Path::Same, Class::Event), [2; 5]);
    assert_eq!(rig.total_us(Path::Same, Class::Event), [20, 500]);
    assert_eq!(rig.counts(Path::Across, Class::Event), [0; 5]);
}

#[test]
fn what_nobody_hears_is_decided_but_not_handed_over() {
    let mut rig = Rig::new();
    rig.turn(0);
    rig.frame(&event(), 0);
    rig.turn(20);
    assert_eq!(rig.counts(Path::Same, Class::Event), [0, 1, 1, 0, 0]);
}

#[test]
fn a_held_message_counts_when_it_is_taken_since_it_arrived() {
    let mut rig = Rig::new();
    rig.turn(0);
    let arrival = rig.now;
    rig.stages.frame(arrival, &event());
    rig.stages.stepped(Outcome::Held);
    rig.turn(30);
    assert_eq!(rig.counts(Path::Same, Class::Event), [0; 5]);
    rig.frame_of(arrival, &event(), 1);
    rig.turn(10);
    assert_eq!(rig.total_us(Path::Same, Class::Event), [40, 40]);
}

#[test]
fn a_frame_that_waited_for_its_link_counts_for_that_link() {
    let mut rig = Rig::new();
    rig.turn(0);
    let since = rig.now;
    // One link takes the event at once, another one two turns later.
    rig.frame(&event(), 1);
    rig.turn(20);
    rig.turn(50);
    rig.stages.late(since, &event());
    rig.turn(10);
    assert_eq!(rig.total_us(Path::Same, Class::Event), [20, 80]);
    assert_eq!(rig.counts(Path::Same, Class::Event)[0], 2);
}

#[test]
fn late_frames_between_leave_a_message_its_own_time_and_all_count_beyond_their_room() {
    let mut rig = Rig::new();
    rig.turn(RUNS_MAX as u64 * 3);
    let frames = RUNS_MAX as u64 * 2;
    rig.stages.frame(rig.now, &event());
    for frame in 0..frames {
        // A step lets go what waited, each since a time of its own.
        let ago = Span::from_micros(frames - frame);
        rig.stages.late(rig.now - ago, &event());
    }
    rig.stages.queued();
    rig.stages.stepped(Outcome::Taken);
    let room = rig.stages.runs.capacity();
    rig.turn(0);
    assert_eq!(rig.stages.runs.capacity(), room, "its room is taken at the start");
    assert_eq!(rig.counts(Path::Same, Class::Event), [frames + 1, 1, 1, 1, 1]);
    assert_eq!(rig.total_us(Path::Same, Class::Event), [1, frames]);
}

#[test]
fn what_a_timer_sends_is_nobodys_message() {
    let mut rig = Rig::new();
    rig.turn(0);
    rig.stages.queued();
    assert_eq!(rig.stages.note(Lane::Publish), NO_NOTE);
    rig.turn(10);
    for class in Class::ALL {
        assert_eq!(rig.counts(Path::Same, class), [0; 5]);
    }
}

#[test]
fn a_message_that_crosses_is_counted_where_its_stages_are() {
    let [mut ingress, mut home, mut egress] = [Rig::new(), Rig::new(), Rig::new()];
    ingress.turn(0);
    ingress.stages.frame(ingress.now, &event());
    let note = ingress.stages.note(Lane::Forward);
    ingress.stages.stepped(Outcome::Taken);
    ingress.turn(5);
    assert_eq!(ingress.counts(Path::Across, Class::Event), [0, 1, 0, 0, 0]);

    home.turn(2);
    home.stages.record(Lane::Forward, note);
    let note = home.stages.note(Lane::Publish);
    home.stages.stepped(Outcome::Taken);
    home.turn(5);
    assert_eq!(home.counts(Path::Across, Class::Event), [0, 0, 1, 0, 0]);

    egress.turn(4);
    egress.stages.record(Lane::Publish, note);
    egress.stages.queued();
    egress.stages.stepped(Outcome::Taken);
    egress.turn(9);
    assert_eq!(egress.counts(Path::Across, Class::Event), [1, 0, 0, 1, 1]);
    assert_eq!(egress.total_us(Path::Across, Class::Event), [13, 13]);
    assert_eq!(egress.counts(Path::Same, Class::Event), [0; 5]);
}

#[test]
fn a_message_heard_here_and_elsewhere_stays_on_the_same_shard_here() {
    let mut rig = Rig::new();
    rig.turn(0);
    rig.stages.frame(rig.now, &event());
    rig.stages.queued();
    let note = rig.stages.note(Lane::Publish);
    rig.stages.stepped(Outcome::Taken);
    rig.turn(20);
    assert_eq!(rig.counts(Path::Same, Class::Event), [1; 5]);
    let (other, _) = Cause::noted(Lane::Publish, note).expect("it is a message there too");
    assert_eq!((other.arrival, other.class), (rig.now - Span::from_micros(20), Class::Event));
}

#[test]
fn a_note_reads_back_as_written() {
    let ms = 1_000_000;
    let cases = [
        (Class::Param, 0, 0),
        (Class::Other, 1, 0),
        (Class::Event, 64, 1_600),
        (Class::Bundle, GROUP_MAX, 500 * ms),
        // Beyond the range of a note.
        (Class::Stream, 1, 5_000 * ms),
    ];
    for (class, weight, after_ns) in cases {
        let arrival = Time(77 * ms);
        let decided = Some(arrival + Span(after_ns));
        let cause = Cause { arrival, class };
        let look = Look { weight, decoded: arrival, decided };
        let (read, seen) = Cause::noted(Lane::Publish, cause.note(&look)).unwrap();
        assert_eq!((read.arrival, read.class, seen.weight), (arrival, class, weight));
        let reached = seen.decided.unwrap().since(arrival).0;
        let expected = after_ns.min(NOTE_STEPS_MAX * NOTE_STEP_NS);
        assert_eq!(reached, expected, "{class:?} after {after_ns} ns");
    }
    assert!(Cause::noted(Lane::Forward, NO_NOTE).is_none());
    assert!(Cause::noted(Lane::Forward, [0xFF; 12]).is_none());
}

#[test]
fn sampled_stages_stand_for_all_messages_whatever_the_load() {
    for (messages, turns) in [(1, 500), (3, 500), (40, 500), (700, 200), (5_000, 50)] {
        let mut rig = Rig::new();
        rig.turn(0);
        for _ in 0..turns {
            (0..messages).for_each(|_| rig.frame(&event(), 1));
            rig.turn(10);
        }
        let [total, stages @ ..] = rig.counts(Path::Same, Class::Event);
        assert_eq!(total, messages * turns);
        for counted in stages {
            let off = counted.abs_diff(total) as f64 / total as f64;
            assert!(off < 0.1, "{counted} of {total}, {messages} messages a turn");
        }
    }
}

#[test]
fn equal_spans_of_a_turn_are_recorded_once_and_count_as_often_as_they_are() {
    let set = frame(r#"{"type":"SET","address":"/a","value":1}"#);
    for n in [1, 2, 255, 4_000] {
        let mut rig = Rig::new();
        rig.turn(0);
        // Each event between two SETs: what is equal need not come in one piece.
        for _ in 0..n {
            rig.frame(&set, 1);
            rig.frame(&event(), 100);
            rig.frame(&set, 3);
        }
        assert!(rig.stages.runs.is_empty(), "all of one arrival");
        rig.turn(20);
        for (class, count) in [(Class::Event, n), (Class::Param, 2 * n)] {
            let index = Kind { path: Path::Same, class, stage: Stage::Total }.index();
            assert_eq!(rig.counted.latency(index).expect("messages").count(), count);
            assert_eq!(rig.counted.sum_ns(index), count * 20_000);
            assert_eq!(rig.total_us(Path::Same, class), [20, 20]);
        }
    }
}

#[test]
fn after_a_busy_time_a_quiet_shard_looks_at_every_message_again() {
    let mut rig = Rig::new();
    rig.turn(0);
    for _ in 0..20 {
        (0..5_000).for_each(|_| rig.frame(&event(), 1));
        rig.turn(10);
    }
    assert_eq!(rig.stages.draw.group, GROUP_MAX);
    // What is usual is known one group's time later.
    rig.turn(1_000);
    rig.turn(1_000);
    let busy = rig.counts(Path::Same, Class::Event);
    for _ in 0..100 {
        rig.frame(&event(), 1);
        rig.turn(1_000);
    }
    let quiet = rig.counts(Path::Same, Class::Event);
    for (quiet, busy) in quiet.into_iter().zip(busy) {
        assert_eq!(quiet - busy, 100);
    }
}

#[test]
fn beyond_its_room_a_turn_counts_all_messages_and_none_as_quicker_than_it_was() {
    let mut rig = Rig::new();
    rig.turn(RUNS_MAX as u64 * 3);
    let messages = RUNS_MAX as u64 * 2;
    for message in 0..messages {
        // Each has an arrival of its own, the later the message the later.
        let ago = Span::from_micros(messages - message);
        rig.frame_of(rig.now - ago, &event(), 1);
    }
    rig.turn(0);
    let [total, .., kernel] = rig.counts(Path::Same, Class::Event);
    assert_eq!(total, messages);
    assert!(0 < kernel && kernel <= messages + u64::from(GROUP_MAX), "{kernel}");
    let kept = RUNS_MAX as u64;
    assert_eq!(rig.total_us(Path::Same, Class::Event), [messages - kept + 1, messages]);
}

#[test]
fn samples_beyond_their_room_leave_only_the_last_stage_out() {
    let mut rig = Rig::new();
    rig.turn(0);
    for _ in 0..SAMPLES_MAX + 10 {
        // On a quiet shard every message is sampled; here each is the first one, as far as drawing
        // goes.
        rig.stages.draw = Draw::NEW;
        rig.frame(&event(), 1);
    }
    rig.turn(1);
    let all = SAMPLES_MAX as u64 + 10;
    let expected = [all, all, all, all, SAMPLES_MAX as u64];
    assert_eq!(rig.counts(Path::Same, Class::Event), expected);
}

#[test]
fn switched_off_nothing_is_noted() {
    let mut stages = Stages::new(None, Clock::start());
    stages.turn(Time(1));
    stages.frame(Time(1), &event());
    stages.queued();
    assert_eq!(stages.note(Lane::Publish), NO_NOTE);
    stages.stepped(Outcome::Taken);
}

#[test]
fn a_tag_names_its_shard_and_kind() {
    for kind in kinds(2) {
        assert_eq!(Kind::of_tag(&kind.tag(7)), Some((7, kind)));
    }
    let others = ["", "shard", "shard0", "shard0-param-same", "shard0-param-same-total-x", "x"];
    for tag in others {
        assert_eq!(Kind::of_tag(tag), None, "{tag}");
    }
}

#[test]
fn a_page_has_each_kind_at_its_place_and_takes_what_is_planned() {
    for shards in [1, 2] {
        let kinds: Vec<_> = kinds(shards).collect();
        assert!(kinds.iter().enumerate().all(|(at, kind)| kind.index() == at));
        assert_eq!(kinds.len(), page(shards).1.len());
    }
    assert!(bytes(1) < bytes(2) && bytes(2) < 8 << 20, "{} bytes", bytes(2));
}

//! Routes among devices and people: rings settle and are told, and nobody else is disturbed.

use std::collections::BTreeMap;

use clasp_rt_core::pattern;
use clasp_rt_core::value::push_f64;
use proptest::prelude::*;

use super::tests::{rig, routes};
use super::*;
use crate::rig::Rig;
use crate::uplink::tests::{arbitration_frame, publish_frame, set_frame};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// A device or a program that says at `to` what it was told at `from`.
struct Joint {
    from: String,
    to: String,
    delay: u64,
    changes: Change,
}

type Change = fn(f64) -> f64;

fn joint(from: &str, to: &str, delay: u64, changes: Change) -> Joint {
    Joint { from: from.to_owned(), to: to.to_owned(), delay, changes }
}

/// As a controller of MIDI has it.
fn of_7_bits(value: f64) -> f64 {
    (value * 127.0).round() / 127.0
}

fn of_f32(value: f64) -> f64 {
    f64::from(value as f32)
}

#[derive(Clone, Debug, PartialEq)]
struct Word {
    at: u64,
    address: String,
    value: f64,
    signal: Option<Signal>,
}

struct World {
    rig: Rig<Routes>,
    joints: Vec<Joint>,
    /// What will be said, in the order of time, then of its making.
    coming: BTreeMap<(u64, usize), Word>,
    made: usize,
    /// What routes wrote.
    written: Vec<Word>,
    /// Values of `/clasp/loop`.
    loops: Vec<String>,
    /// Subscriptions by their id: what is said elsewhere is not heard.
    heard: BTreeMap<String, String>,
    /// The most of them at once.
    heard_most: usize,
    /// What each param holds, whoever wrote it.
    held: BTreeMap<String, f64>,
}

fn world(config: &str, joints: Vec<Joint>) -> World {
    let (coming, written, loops) = (BTreeMap::new(), Vec::new(), Vec::new());
    let (heard, heard_most, held) = (BTreeMap::new(), 0, BTreeMap::new());
    let rig = rig(config);
    let mut world = World { rig, joints, coming, made: 0, written, loops, heard, heard_most, held };
    world.hear(0);
    world
}

impl World {
    fn say(&mut self, at: u64, address: &str, value: f64) {
        self.say_as(at, address, value, None);
    }

    fn say_as(&mut self, at: u64, address: &str, value: f64, signal: Option<Signal>) {
        let address = address.to_owned();
        self.coming.insert((at, self.made), Word { at, address, value, signal });
        self.made += 1;
    }

    fn run_until(&mut self, end: u64) {
        loop {
            let due = self.rig.bridge.deadline().map(|due| due.0.max(self.rig.now.0));
            let next = self.coming.first_key_value().map(|((at, _), _)| *at);
            let Some(now) = due.into_iter().chain(next).min().filter(|now| *now <= end) else {
                return;
            };
            self.rig.now = Time(now);
            if due == Some(now) {
                self.rig.step(Input::Deadline);
            } else if let Some((_, Word { address, value, signal, .. })) = self.coming.pop_first() {
                if signal.is_none() {
                    self.held.insert(address.clone(), value);
                }
                if !self.heard.values().any(|pattern| pattern::matches(pattern, &address)) {
                    continue;
                }
                let push = |out: &mut Vec<u8>| push_f64(out, value);
                let frame = match signal {
                    None => set_frame(&address, push),
                    Some(signal) => publish_frame(&address, signal, push),
                };
                self.rig.step(Input::Frame(&frame));
            }
            self.hear(now);
        }
    }

    fn hear(&mut self, now: u64) {
        for line in self.rig.said.take_lines() {
            let words: Vec<_> = line.split(' ').collect();
            let (signal, address, value) = match words[..] {
                ["HELLO" | "Get", ..] | ["PUBLISH", "event", "/clasp/source", ..] => continue,
                ["SUBSCRIBE", id, pattern] => {
                    self.heard.insert(id.to_owned(), pattern.to_owned());
                    self.heard_most = self.heard_most.max(self.heard.len());
                    continue;
                }
                ["Unsubscribe", "{", "id:", id, "}"] => {
                    assert!(self.heard.remove(id).is_some(), "{line}");
                    continue;
                }
                ["SET", address, value] => (None, address, value),
                ["PUBLISH", "event", LOOP, ..] => {
                    self.loops.push(line);
                    continue;
                }
                ["PUBLISH", "event", address, value] => (Some(Signal::Event), address, value),
                _ => panic!("unexpected: {line}"),
            };
            let value: f64 = value.parse().expect("a number");
            if signal.is_none() {
                self.held.insert(address.to_owned(), value);
            }
            let back: Vec<_> = self.joints.iter().filter(|joint| joint.from == address).collect();
            let back: Vec<_> = back
                .into_iter()
                .map(|joint| (now + joint.delay, joint.to.clone(), (joint.changes)(value)))
                .collect();
            for (at, to, value) in back {
                self.say_as(at, &to, value, signal);
            }
            let address = address.to_owned();
            self.written.push(Word { at: now, address, value, signal });
        }
    }

    fn last_at(&self, address: &str) -> Option<&Word> {
        self.written.iter().rfind(|word| word.address == address)
    }

    fn written_after(&self, at: u64) -> usize {
        self.written.iter().filter(|word| word.at > at).count()
    }
}

const RING: &str = "[[route]]\nfrom = \"/osc/a\"\nto = \"/osc/b\"";

/// Two ends that show the same.
const PAIR: &str = r#"
    [[route]]
    from = "/osc/fader"
    to = "/midi/fader"
    [[route]]
    from = "/midi/fader"
    to = "/osc/fader"
"#;

#[test]
fn a_ring_of_any_gain_settles_is_told_once_and_takes_a_later_touch() {
    let gains: [(&str, Change); 7] = [
        ("1", |x| x),
        ("0.99", |x| x * 0.99),
        ("1.01", |x| x * 1.01),
        ("-1", |x| -x),
        ("7 bits of 0.9", |x| of_7_bits(x * 0.9)),
        ("7 bits", of_7_bits),
        ("toggle", |x| 1.0 - x),
    ];
    for (gain, changes) in gains {
        let mut world = world(RING, vec![joint("/osc/b", "/osc/a", 5 * MS, changes)]);
        world.say(0, "/osc/a", 0.5);
        world.run_until(30 * SECOND);
        assert_eq!(world.written_after(4 * SECOND), 0, "{gain}: {:?}", world.last_at("/osc/b"));
        assert!(world.written.len() < 50, "{gain}: {} values", world.written.len());
        assert_eq!(world.loops.len(), 1, "{gain}");
        assert_eq!(world.rig.bridge.counters().loops, 1);
        world.say(30 * SECOND, "/osc/a", 0.75);
        world.run_until(60 * SECOND);
        let touched = Word { at: 30 * SECOND, address: "/osc/b".into(), value: 0.75, signal: None };
        assert!(world.written.contains(&touched), "{gain}");
        assert!(world.written_after(30 * SECOND) < 3, "{gain}");
        assert_eq!(world.loops.len(), 1, "{gain}");
    }
}

#[test]
fn a_ring_of_two_routes_is_told_with_both_of_them_and_how_long_it_takes() {
    let config = r#"
        [[route]]
        from = "/osc/b"
        to = "/midi/out"
        [[route]]
        from = "/lights/*"
        to = "/dmx/{1}"
        [[route]]
        from = "/midi/in"
        to = "/osc/a"
    "#;
    let back = joint("/osc/a", "/osc/b", 4 * MS, |x| x * 0.9);
    let mut world = world(config, vec![back, joint("/midi/out", "/midi/in", MS, of_7_bits)]);
    world.say(0, "/osc/b", 1.0);
    // A desk beside it.
    (0..400).for_each(|step| world.say(step * 23 * MS, "/lights/1", step as f64));
    world.run_until(20 * SECOND);
    assert_eq!(world.written.iter().filter(|word| word.at > 10 * SECOND).count(), 0);
    let [said] = &world.loops[..] else { panic!("{:?}", world.loops) };
    for part in ["\"/osc/b -> /midi/out\"", "\"/midi/in -> /osc/a\"", "period_us: 5000"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("/lights"), "{said}");
}

#[test]
fn events_that_run_in_a_ring_are_stopped() {
    let config = format!("{RING}\nwrite = \"same\"");
    let mut world = world(&config, vec![joint("/osc/b", "/osc/a", 2 * MS, |x| x)]);
    for press in 0..3 {
        world.say_as(press * 150 * MS, "/osc/a", press as f64, Some(Signal::Event));
    }
    world.run_until(30 * SECOND);
    assert_eq!((world.written_after(6 * SECOND), world.loops.len()), (0, 1));
    // Each further press passes, and passes once.
    for press in 10..15 {
        world.say_as((30 + press) * SECOND, "/osc/a", press as f64, Some(Signal::Event));
    }
    let before = world.written.len();
    world.run_until(60 * SECOND);
    let values: Vec<_> = world.written[before..].iter().map(|word| word.value).collect();
    assert_eq!(values, [10.0, 11.0, 12.0, 13.0, 14.0]);
}

#[test]
fn a_motor_fader_that_says_what_it_was_told_is_no_ring() {
    for changes in [of_f32 as Change, |x| x, of_7_bits] {
        let joints = vec![
            joint("/midi/fader", "/midi/fader", 3 * MS, changes),
            joint("/osc/fader", "/osc/fader", 3 * MS, of_f32),
        ];
        let mut world = world(PAIR, joints);
        for step in 0..200 {
            world.say(step * 17 * MS, "/osc/fader", step as f64 / 199.0);
        }
        world.run_until(30 * SECOND);
        assert_eq!(world.loops, [""; 0]);
        assert_eq!(world.written_after(199 * 17 * MS + SECOND), 0);
        assert_eq!(world.last_at("/midi/fader").map(|word| word.value), Some(1.0));
    }
}

#[test]
fn a_ring_that_a_person_moves_settles_when_the_person_rests() {
    for delay in [1, 5, 30, 100] {
        let joints = vec![joint("/osc/b", "/osc/a", delay * MS, |x| x * 0.97)];
        let mut world = world(RING, joints);
        for step in 0..300 {
            world.say(step * 16 * MS, "/osc/a", (step % 50) as f64);
        }
        let rest = 300 * 16 * MS;
        world.run_until(rest + 60 * SECOND);
        let last = world.written.last().expect("something").at;
        assert!(last < rest + 12 * SECOND, "{delay} ms: {} ms after", (last - rest) / MS);
        assert!(!world.loops.is_empty(), "{delay} ms");
        // Left alone, each value that the person gives would run for ever.
        let written = world.written.len();
        assert!(written < 60_000, "{delay} ms: {written}");
    }
}

#[test]
fn two_who_move_both_ends_of_a_pair_are_no_ring_and_their_last_values_count() {
    let mut world = world(PAIR, Vec::new());
    for step in 0..600 {
        world.say(step * 16 * MS, "/osc/fader", step as f64 / 1_000.0);
        world.say(step * 21 * MS + 7, "/midi/fader", 1.0 - step as f64 / 1_000.0);
    }
    world.run_until(60 * SECOND);
    assert_eq!(world.loops, [""; 0]);
    assert!(world.written.len() > 1_150, "{} of 1200", world.written.len());
    assert_eq!(world.last_at("/midi/fader").map(|word| word.value), Some(0.599));
    assert_eq!(world.last_at("/osc/fader").map(|word| word.value), Some(0.401));
    // Whatever waited was late by a tenth of a second at most.
    let late = world.written.iter().filter(|word| word.address == "/midi/fader");
    let late = late.map(|word| word.at - (word.value * 1_000.0).round() as u64 * 16 * MS).max();
    assert!(late < Some(100 * MS), "{late:?}");
}

#[test]
fn a_hand_that_moves_a_fader_is_never_kept_waiting() {
    let mut world = world(RING, Vec::new());
    for step in 0..180 {
        world.say(step * 16 * MS, "/osc/a", step as f64);
    }
    world.run_until(10 * SECOND);
    let on_time = |word: &&Word| word.at == word.value as u64 * 16 * MS;
    assert_eq!(world.written.iter().filter(on_time).count(), 180);
}

#[test]
fn what_comes_steadily_by_itself_is_no_ring() {
    // Interval in microseconds, values, and how many of them must be written.
    let cases = [
        (1_000, 60_000, 58_000),
        (10_000, 6_000, 5_900),
        (33_000, 2_000, 1_950),
        (200_000, 500, 480),
        (240_000, 500, 480),
        (300_000, 500, 500),
    ];
    for (interval_us, count, written_min) in cases {
        let mut world = world(RING, Vec::new());
        for step in 0..count {
            world.say(step * interval_us * 1_000, "/osc/a", 0.5 + (step % 7) as f64);
        }
        world.run_until((count + 1) * interval_us * 1_000 + 2 * SECOND);
        assert_eq!(world.loops, [""; 0], "every {interval_us} us");
        let written = world.written.len();
        assert!(written >= written_min, "every {interval_us} us: {written} of {count}");
        let last = Some(0.5 + ((count - 1) % 7) as f64);
        assert_eq!(world.last_at("/osc/b").map(|word| word.value), last);
    }
}

#[test]
fn an_opened_ring_is_forgotten_after_a_touch() {
    let mut world = world(RING, vec![joint("/osc/b", "/osc/a", 5 * MS, |x| x * 0.9)]);
    world.say(0, "/osc/a", 1.0);
    world.run_until(20 * SECOND);
    assert_eq!(world.loops.len(), 1);
    world.joints.clear();
    world.say(20 * SECOND, "/osc/a", 0.5);
    world.run_until(25 * SECOND);
    assert_eq!(world.last_at("/osc/b").map(|word| word.value), Some(0.5));
    let before = world.written.len();
    for step in 0..20 {
        world.say(25 * SECOND + step * 16 * MS, "/osc/a", step as f64);
    }
    world.run_until(40 * SECOND);
    assert_eq!(world.written.len() - before, 20, "each at once, as in the beginning");
}

#[test]
fn at_a_ring_that_was_cut_a_person_s_last_value_is_written_even_where_a_return_was_expected() {
    let mut world = world(RING, vec![joint("/osc/b", "/osc/a", 20 * MS, |x| x * 0.9)]);
    world.say(0, "/osc/a", 1.0);
    world.run_until(20 * SECOND);
    assert_eq!(world.loops.len(), 1);
    // The ring is open by now, and the second value is where its return would be.
    world.joints.clear();
    world.say(20 * SECOND, "/osc/a", 0.5);
    world.say(20 * SECOND + 15 * MS, "/osc/a", 0.6);
    world.run_until(30 * SECOND);
    assert_eq!(world.last_at("/osc/b").map(|word| word.value), Some(0.6));
}

#[test]
fn what_waits_is_written_when_routes_change() {
    let mut world = world(RING, vec![joint("/osc/b", "/osc/a", 5 * MS, |x| x * 0.9)]);
    world.say(0, "/osc/a", 1.0);
    // Until one of them is not written as it comes.
    let before = loop {
        let (before, next) = (world.written.len(), *world.coming.keys().next().expect("it runs"));
        world.run_until(next.0);
        if world.written.len() == before {
            break before;
        }
    };
    let next = Box::new(routes("[[route]]\nfrom = \"/x\"\nto = \"/y\""));
    assert!(world.rig.bridge.succeed(world.rig.now, next, &mut world.rig.said).is_ok());
    assert_eq!(world.rig.bridge.deadline(), None);
    let lines = world.rig.said.take_lines();
    assert!(lines[0].starts_with("Unsubscribe"), "{lines:?}");
    assert!(lines[1].starts_with("SET /osc/b 0."), "{lines:?} after {before}");
}

/// Somebody moves a fader for so long that its target is asked, and then rests.
fn asked(config: &str) -> (World, u64) {
    asked_in(world(config, Vec::new()))
}

fn asked_in(mut world: World) -> (World, u64) {
    for step in 0.. {
        let at = step * 16 * MS;
        world.say(at, "/osc/a", (step % 100) as f64);
        let before = world.written.len();
        world.run_until(at);
        if world.written.len() == before {
            return (world, at);
        }
    }
    unreachable!("nobody is asked")
}

#[test]
fn what_waits_is_void_when_somebody_writes_the_target_directly() {
    let (mut world, at) = asked(RING);
    assert_eq!(world.heard.len(), 2, "the target is heard while it is asked: {:?}", world.heard);
    world.say(at + MS, "/osc/b", 7.5);
    world.run_until(at + 5 * SECOND);
    assert_eq!(world.held["/osc/b"], 7.5, "{:?}", world.last_at("/osc/b"));
    assert_eq!(world.heard.len(), 1, "and no longer");
    // A later word of the fader counts again.
    world.say(at + 6 * SECOND, "/osc/a", 3.25);
    world.run_until(at + 10 * SECOND);
    assert_eq!(world.held["/osc/b"], 3.25);
}

#[test]
fn a_word_that_came_just_before_the_wait_ends_counts_even_if_it_is_heard_with_its_end() {
    let (mut world, _) = asked(RING);
    let due = world.rig.bridge.deadline().expect("it waits").0;
    // The thread was busy: both are there when it comes back.
    world.rig.now = Time(due + MS);
    world.rig.step(Input::Frame(&set_frame("/osc/b", |out| push_f64(out, 7.5))));
    let lines = world.rig.said.take_lines();
    assert!(lines.iter().all(|line| !line.starts_with("SET")), "{lines:?}");
    assert!(world.rig.bridge.deadline().is_none_or(|next| next.0 > due), "it was looked at");
}

#[test]
fn what_waits_is_written_when_the_target_only_says_again_what_it_was_told() {
    let (mut world, at) = asked(RING);
    let told = world.last_at("/osc/b").expect("something").value;
    world.say(at + MS, "/osc/b", told + 0.3);
    let kept = world.held["/osc/a"];
    world.run_until(at + 5 * SECOND);
    assert_eq!(world.last_at("/osc/b").map(|word| word.value), Some(kept));
}

#[test]
fn events_that_wait_are_not_undone_by_a_param() {
    let (mut world, at) = asked(&format!("{RING}\nwrite = \"event\""));
    let kept = world.held["/osc/a"];
    world.say(at + MS, "/osc/b", 7.5);
    world.run_until(at + 5 * SECOND);
    assert_eq!(world.last_at("/osc/b").map(|word| word.value), Some(kept));
}

#[test]
fn where_a_ring_was_cut_a_direct_word_stays_though_the_ring_brings_it_back() {
    for (delay, changes) in [(5, (|x| x * 0.9) as Change), (30, |x| -x), (100, |x| 1.0 - x)] {
        let mut world = world(RING, vec![joint("/osc/b", "/osc/a", delay * MS, changes)]);
        world.say(0, "/osc/a", 1.0);
        while world.loops.is_empty() {
            let next = world.coming.keys().next().map(|(at, _)| *at);
            let due = world.rig.bridge.deadline().map(|due| due.0);
            world.run_until(next.into_iter().chain(due).min().expect("it runs"));
        }
        // At once, and when all is at rest. The device says what it is told by anybody.
        for wait in [MS, 20 * SECOND] {
            let at = world.rig.now.0 + wait;
            world.say(at, "/osc/b", 7.5);
            world.say(at + delay * MS, "/osc/a", changes(7.5));
            world.run_until(at + 10 * SECOND);
            assert_eq!(world.held["/osc/b"], 7.5, "{delay} ms: {:?}", world.last_at("/osc/b"));
        }
        assert_eq!(world.loops.len(), 1);
        // A touch passes still.
        let at = world.rig.now.0 + SECOND;
        world.say(at, "/osc/a", 0.75);
        world.run_until(at + MS);
        assert_eq!(world.held["/osc/b"], 0.75);
    }
}

#[test]
fn where_sources_are_arbitrated_by_level_what_waits_stays_a_claim_and_by_time_it_goes() {
    for (rule, wanted) in [("htp", 1), ("ltp", 0)] {
        let config = format!("sources = true\n{RING}");
        let mut world = world(&config, Vec::new());
        let answer = arbitration_frame(&[("/osc/**", rule)], &[]);
        world.rig.step(Input::Frame(&answer));
        let (mut world, at) = asked_in(world);
        world.say(at + MS, "/osc/b", 7.5);
        let before = world.written.len();
        world.run_until(at + 5 * SECOND);
        assert_eq!(world.written.len() - before, wanted, "{rule}");
    }
}

#[test]
fn not_more_targets_are_asked_at_once_than_may_be_heard() {
    let mut world = world("[[route]]\nfrom = \"/a/*\"\nto = \"/b/{1}\"", Vec::new());
    for step in 0..300 {
        for target in 0..600 {
            world.say(step * 5 * MS, &format!("/a/{target}"), step as f64);
        }
    }
    world.run_until(10 * SECOND);
    assert_eq!(world.heard_most, 1 + 256);
    assert_eq!(world.heard.len(), 1, "all have been answered");
    for target in 0..600 {
        assert_eq!(world.held[&format!("/b/{target}")], 299.0);
    }
}

#[test]
fn more_targets_than_are_watched_are_written_all_the_same() {
    let mut world = world("[[route]]\nfrom = \"/a/*\"\nto = \"/b/{1}\"", Vec::new());
    for round in 0..40 {
        for target in 0..6_000 {
            world.say(round * 10 * MS, &format!("/a/{target}"), 1.0);
        }
    }
    world.run_until(10 * SECOND);
    // Those that were asked had values replaced by newer ones.
    assert!(world.written.len() > 230_000, "{}", world.written.len());
    assert_eq!(world.loops, [""; 0]);
}

#[test]
fn events_beyond_those_that_may_wait_are_written_at_once_and_none_is_lost() {
    let config = format!("{RING}\nwrite = \"event\"");
    let mut world = world(&config, Vec::new());
    // Forty in a row, then hundreds at once while it is asked.
    (0..40).for_each(|step| world.say(step * 10 * MS, "/osc/a", step as f64));
    (0..300).for_each(|step| world.say(401 * MS, "/osc/a", 40.0 + step as f64));
    world.run_until(10 * SECOND);
    let values: Vec<_> = world.written.iter().map(|word| word.value).collect();
    let expected: Vec<_> = (0..340).map(f64::from).collect();
    assert_eq!(values, expected, "all, in their order");
}

#[test]
fn where_rings_are_meant_they_run_and_a_wrong_window_is_refused() {
    let config = format!("{RING}\nloop_window_ms = 0");
    let mut free = world(&config, vec![joint("/osc/b", "/osc/a", 5 * MS, |x| x * 0.99)]);
    free.say(0, "/osc/a", 1.0);
    free.run_until(5 * SECOND);
    assert_eq!((free.written.len(), free.loops.len()), (1_001, 0));
    assert_eq!(free.rig.bridge.memory_bytes_max(), 0);
    let config = format!("{RING}\nloop_window_ms = 1001");
    let config: Config = toml::from_str(&config).expect("TOML");
    let error = Routes::new(&config).err().expect("refused").to_string();
    assert_eq!(error, "route[0].loop_window_ms: must be 0 to 1000 milliseconds");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Of one to four routes, joined by devices of any delay and gain; people touch it, too.
    #[test]
    fn any_ring_goes_silent_or_runs_no_faster_than_a_hand(
        hops in prop::collection::vec((1_u64..50, 0_usize..6), 1..5),
        touches in prop::collection::vec((0_u64..3_000, -2.0..2.0_f64), 1..40),
    ) {
        let gains: [Change; 6] =
            [|x| x, |x| x * 0.99, |x| x * 1.01, |x| -x, of_7_bits, |x| 1.0 - x];
        let (count, touches_count) = (hops.len(), touches.len());
        let mut config = String::new();
        let mut joints = Vec::new();
        for (number, (delay, gain)) in hops.iter().enumerate() {
            config += &format!("[[route]]\nfrom = \"/in/{number}\"\nto = \"/out/{number}\"\n");
            let to = format!("/in/{}", (number + 1) % count);
            joints.push(joint(&format!("/out/{number}"), &to, delay * MS, gains[*gain]));
        }
        let mut world = world(&config, joints);
        for (at, value) in touches {
            world.say(at * MS, "/in/0", value);
        }
        world.run_until(120 * SECOND);
        // Many values that run in one slow ring may answer for each other: they go on, hardly
        // faster than a hand moves a fader.
        let late = world.written_after(90 * SECOND);
        let by_hand = 30 * 200 * count;
        prop_assert!(late == 0 || touches_count > 4 && late <= by_hand, "{} values", late);
        prop_assert!(late > 0 || !world.loops.is_empty());
    }
}

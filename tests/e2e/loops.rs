//! Rings that are built on purpose, out of programs and a cable: they settle, and say so.

use std::process::Command;
use std::time::{Duration, Instant};

use clasp_rt_tests::PATIENCE;
use clasp_rt_tests::cable::Cable;
use clasp_rt_tests::ports::free_udp_ports;
use clasp_rt_tests::program::{Program, installed, run};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// More than the second after which a ring that was cut is asked whether it is still there.
const SILENCE: Duration = Duration::from_millis(2_500);

/// A router, and a program that says at `/a` what it is told at `/b`, or at `/b` what at `/a`.
struct Stage {
    router: Router,
    osc: u16,
    page: Raw,
    waiting: Vec<Json>,
    _program: Program,
}

/// What passes at one address.
#[derive(Debug)]
struct Word {
    address: String,
    value: Json,
}

impl Stage {
    fn new(ring: [&str; 4], config: &str) -> Self {
        let [osc] = free_udp_ports();
        let mut command = Command::new(installed("peers/venv/bin/python"));
        command.arg(installed("peers/osc_ring.py")).arg(osc.to_string()).args(ring);
        let program = Program::start(&mut command);
        let target = program.line().expect("its port");
        let config = format!(
            r#"
            [[bridge]]
            type = "osc"
            bind = "127.0.0.1:{osc}"
            targets = ["127.0.0.1:{target}"]
            relay = false
            {config}
            "#
        );
        let arguments = ["--shards", "2", "--metrics", "127.0.0.1:0"];
        let router = Router::with_config(&config, &arguments);
        let mut page = router.join("page");
        for (id, pattern) in ["/osc/**", "/midi/**", "/clasp/loop"].iter().enumerate() {
            page.send(json!({"type": "SUBSCRIBE", "id": id + 1, "pattern": pattern}));
        }
        Self { router, osc, page, waiting: Vec::new(), _program: program }
    }

    fn touch(&self, address: &str, value: &str) {
        let mut command = Command::new("oscsend");
        let output = run(command.args(["127.0.0.1", &self.osc.to_string(), address, "f", value]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn next(&mut self) -> Word {
        while self.waiting.is_empty() {
            let message = self.page.receive();
            self.unpack(message);
        }
        let message = self.waiting.remove(0);
        let value = ["value", "payload"].into_iter().find_map(|key| message.get(key));
        let address = message["address"].as_str().unwrap_or_default().to_owned();
        Word { address, value: value.cloned().unwrap_or_default() }
    }

    fn unpack(&mut self, message: Json) {
        match message["messages"].as_array().or(message["params"].as_array()) {
            Some(inside) => self.waiting.extend(inside.iter().cloned()),
            None if message["address"].is_string() => self.waiting.push(message),
            None => {}
        }
    }

    /// The first of an address; what came before is gone.
    fn next_at(&mut self, address: &str) -> Json {
        let start = Instant::now();
        let mut count = 0;
        loop {
            let word = self.next();
            if word.address == address {
                return word.value;
            }
            count += 1;
            let has_time = start.elapsed() < PATIENCE;
            assert!(has_time, "{address} does not come; {count} others, last {word:?}");
        }
    }

    /// Waits until nothing passes any more; says how much did until then.
    fn settle(&mut self) -> usize {
        self.page.stream().set_read_timeout(Some(SILENCE)).expect("a deadline can be set");
        let start = Instant::now();
        let mut count = self.waiting.len();
        self.waiting.clear();
        loop {
            let asked = Instant::now();
            if self.page.try_receive().is_some() {
                count += 1;
            } else if asked.elapsed() >= SILENCE {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it does not settle: {count} messages");
        }
        self.page.stream().set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        count
    }
}

fn near(value: &Json, wanted: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - wanted).abs() < 0.01)
}

#[test]
fn a_program_that_answers_a_fader_with_less_is_stopped_and_the_fader_works_on() {
    for [gain, offset] in [["0.99", "0"], ["-1", "0.3"]] {
        let route = "[[route]]\nfrom = \"/osc/a\"\nto = \"/osc/b\"";
        let mut stage = Stage::new(["/b", "/a", gain, offset], route);
        stage.touch("/a", "0.5");
        let ring = stage.next_at("/clasp/loop");
        assert_eq!(ring["address"], "/osc/b", "{ring}");
        assert_eq!(ring["routes"], json!(["/osc/a -> /osc/b"]), "{ring}");
        assert!(ring["returns"].as_u64() >= Some(5), "{ring}");
        assert!(ring["values"].as_array().is_some_and(|values| values.len() == 4), "{ring}");
        stage.settle();
        stage.touch("/a", "0.25");
        assert!(near(&stage.next_at("/osc/b"), 0.25), "a touch passes");
        // The touch, what the program made of it, and both once more.
        assert!(stage.settle() < 10, "and comes to rest");
        stage.router.counters_where(|counters| counters.of_bridges(0, "loops") == 1);
    }
}

#[test]
fn what_a_page_says_where_a_ring_was_cut_is_not_undone_by_what_waited() {
    let route = "[[route]]\nfrom = \"/osc/a\"\nto = \"/osc/b\"";
    let mut stage = Stage::new(["/b", "/a", "0.9", "0"], route);
    stage.touch("/a", "0.5");
    stage.next_at("/clasp/loop");
    // At once, while the last value of the ring waits, and when all is at rest.
    for level in [0.777, 0.333] {
        stage.page.send(json!({"type": "SET", "address": "/osc/b", "value": level}));
        stage.settle();
        stage.page.send(json!({"type": "GET", "address": "/osc/b"}));
        let held = stage.next_at("/osc/b");
        assert!(near(&held, level), "{held} instead of {level}");
    }
}

/// Routes from an address to a MIDI fader behind `cable`, and from there to another address.
fn over(cable: &Cable, from: &str, back: &str) -> String {
    let fader = "/midi/ch/1/cc/7";
    format!(
        r#"
        [[bridge]]
        type = "midi"
        [[bridge.device]]
        serial = "{}"
        [[route]]
        from = "{from}"
        to = "{fader}"
        [[route]]
        from = "{fader}"
        to = "{back}"
        "#,
        cable.host()
    )
}

#[test]
fn a_ring_of_osc_and_midi_settles_instead_of_storming() {
    let cable = Cable::looped();
    let config = over(&cable, "/osc/b", "/osc/a");
    let mut stage = Stage::new(["/a", "/b", "-1", "1"], &config);
    while stage.next_at("/midi/online") != json!(true) {}
    stage.touch("/b", "0.9");
    let ring = stage.next_at("/clasp/loop");
    let mut routes = ring["routes"].as_array().expect("a list").clone();
    routes.sort_by_key(|route| route.as_str().map(str::to_owned));
    let both = ["/midi/ch/1/cc/7 -> /osc/a", "/osc/b -> /midi/ch/1/cc/7"];
    assert_eq!(routes, both, "{ring}");
    stage.settle();
    stage.touch("/b", "0.2");
    assert!(near(&stage.next_at("/midi/ch/1/cc/7"), 0.2), "a touch passes");
    stage.settle();
}

#[test]
fn a_motor_fader_that_says_what_it_was_told_is_left_alone() {
    let cable = Cable::looped();
    let config = over(&cable, "/osc/fader", "/osc/fader");
    // The tablet, too, says what it was told.
    let mut stage = Stage::new(["/fader", "/fader", "1", "0"], &config);
    while stage.next_at("/midi/online") != json!(true) {}
    for step in 0..100 {
        stage.touch("/fader", &format!("{}", f64::from(step) / 128.0));
    }
    // By itself: a device that was slow to say an older value would have the last word.
    stage.settle();
    stage.touch("/fader", "1");
    stage.settle();
    stage.page.send(json!({"type": "GET", "address": "/midi/ch/1/cc/7"}));
    let held = stage.next_at("/midi/ch/1/cc/7");
    assert!(near(&held, 1.0), "{held} instead of 1");
    let counters = stage.router.counters();
    assert_eq!(counters.of_bridges(0, "loops"), 0);
}

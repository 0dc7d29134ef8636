//! MIDI on a serial cable: what ALSA's `aplaymidi` made of a file comes in, and messages go out.
//!
//! MIDI ports need a kernel that has them: `hardware.rs`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use clasp_rt_tests::PATIENCE;
use clasp_rt_tests::cable::Cable;
use clasp_rt_tests::program::{Program, clasp_rt};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

fn router(cable: &Cable, options: &str) -> Router {
    let device = format!("[[bridge.device]]\nserial = {:?}", cable.host());
    let config = format!("[[bridge]]\ntype = \"midi\"\n{options}\n{device}\n");
    Router::with_config(&config, &["--shards", "1"])
}

/// The device's end of a cable.
struct Device {
    file: File,
    heard: Receiver<u8>,
}

impl Device {
    fn new(cable: &Cable) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(cable.device());
        let file = file.expect("socat made it");
        let (tell, heard) = channel();
        let reading = file.try_clone().expect("a second descriptor");
        // Ends with the cable.
        thread::spawn(move || {
            let mut bytes = BufReader::new(reading).bytes().map_while(Result::ok);
            bytes.try_for_each(|byte| tell.send(byte))
        });
        Self { file, heard }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).expect("a cable");
    }

    fn hear(&self, count: usize) -> Vec<u8> {
        let next = || self.heard.recv_timeout(PATIENCE).expect("more bytes");
        (0..count).map(|_| next()).collect()
    }
}

fn page(router: &Router) -> Raw {
    let mut page = router.join("page");
    page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/midi/**"}));
    page
}

/// What is said from now on, one message of one address after the other.
fn next(page: &mut Raw, waiting: &mut Vec<Json>) -> (String, Json) {
    while waiting.is_empty() {
        let message = page.receive();
        match message["messages"].as_array().or(message["params"].as_array()) {
            Some(inside) => waiting.extend(inside.iter().cloned()),
            None if message["address"].is_string() => waiting.push(message),
            None => {}
        }
    }
    let message = waiting.remove(0);
    let value = ["value", "payload"].into_iter().find_map(|key| message.get(key));
    let address = message["address"].as_str().unwrap_or_default().to_owned();
    (address, value.cloned().unwrap_or_default())
}

fn hears(page: &mut Raw, waiting: &mut Vec<Json>, address: &str, value: &Json) {
    let deadline = Instant::now() + PATIENCE;
    let mut before = Vec::new();
    loop {
        let heard = next(page, waiting);
        if heard.0 == address && heard.1 == *value {
            return;
        }
        before.push(heard);
        assert!(Instant::now() < deadline, "{address} {value} is not in {before:?}");
    }
}

#[test]
fn what_another_program_plays_is_heard_and_what_a_page_says_arrives() {
    let cable = Cable::new();
    let router = router(&cable, "values = \"raw\"");
    let (mut page, mut waiting) = (page(&router), Vec::new());
    hears(&mut page, &mut waiting, "/midi/online", &json!(true));
    let mut device = Device::new(&cable);
    let capture = Path::new(env!("CARGO_MANIFEST_DIR"));
    let capture = capture.join("../bench/captures/midi-alsa-rawmidi.bin");
    // In two pieces, so that a cut lies inside a message that begins with running status.
    let bytes = std::fs::read(capture).expect("a capture");
    let (first, second) = bytes.split_at(4);
    device.say(first);
    let note = |on: bool, velocity| json!({"note": 60, "velocity": velocity, "on": on});
    hears(&mut page, &mut waiting, "/midi/ch/1/note", &note(true, 100));
    device.say(second);
    let expected = [
        ("/midi/ch/1/note", note(false, 0)),
        ("/midi/ch/1/nrpn/1/2", json!(8_195)),
        ("/midi/ch/1/cc/7", json!(100)),
        ("/midi/ch/1/bend", json!(-8_192)),
        ("/midi/ch/1/pressure", json!(9)),
        ("/midi/ch/1/poly/60", json!(33)),
        ("/midi/ch/1/program", json!(12)),
        ("/midi/msc", json!({"device": 127, "command": "go", "format": 127, "cue": "12"})),
    ];
    for (address, value) in expected {
        hears(&mut page, &mut waiting, address, &value);
    }
    let say = |page: &mut Raw, address: &str, value: Json| {
        page.send(json!({"type": "SET", "address": address, "value": value}));
    };
    say(&mut page, "/midi/ch/1/cc/7", json!(100));
    say(&mut page, "/midi/ch/1/cc/8", json!(1.0));
    say(&mut page, "/midi/ch/16/note/36", json!(127));
    let sysex = json!([0x7E, 0x7F, 6, 1]);
    page.send(json!({
        "type": "PUBLISH", "signal": "event", "address": "/midi/sysex", "value": sysex
    }));
    // Not controller 7: the device has just said so itself.
    assert_eq!(device.hear(12), [0xB0, 8, 127, 0x9F, 36, 127, 0xF0, 0x7E, 0x7F, 6, 1, 0xF7]);
    router.terminate();
    assert_eq!(device.hear(6), [0xBF, 120, 0, 0xBF, 123, 0]);
}

#[test]
fn a_router_that_starts_anew_is_told_where_the_faders_are() {
    let cable = Cable::new();
    let router = Router::start(&["--shards", "1"]);
    let mut command = Command::new(clasp_rt());
    command.args(["midi", "--serial", cable.host(), "--raw", "--router", &router.url()]);
    let _bridge = Program::start(&mut command);
    let (mut page_before, mut waiting) = (page(&router), Vec::new());
    hears(&mut page_before, &mut waiting, "/midi/online", &json!(true));
    let mut device = Device::new(&cable);
    device.say(&[0xB0, 7, 99]);
    hears(&mut page_before, &mut waiting, "/midi/ch/1/cc/7", &json!(99));
    let router = router.restart();
    let (mut page_after, mut waiting) = (page(&router), Vec::new());
    hears(&mut page_after, &mut waiting, "/midi/ch/1/cc/7", &json!(99));
}

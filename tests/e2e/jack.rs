//! MIDI ports of JACK, on a server without a sound card: RtMidi both ways, and JACK's own dump.
//!
//! A second tier, because it needs a router of another build: `cargo ci hardware`.

use std::path::PathBuf;
use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::program::{Program, installed, run};
use clasp_rt_tests::raw::Raw;
use serde_json::json;

/// The router with JACK's ports instead of ALSA's.
fn router() -> PathBuf {
    let path = std::env::var_os("CLASP_RT_JACK_BIN");
    path.expect("`cargo ci hardware` builds the router that this needs").into()
}

/// A server of this test's own.
struct Jack {
    name: String,
    _server: Program,
}

impl Jack {
    fn start() -> Self {
        // A machine remembers eight names of servers that were killed, and then starts no more; a
        // name that comes again takes the place of its own.
        let name = format!("clasp-rt-{}", std::process::id() % 4);
        let mut server = Command::new("jackd");
        server.env("JACK_NO_AUDIO_RESERVATION", "1").args(["--no-realtime", "--name", &name]);
        // A client that a busy machine holds up is not thrown out.
        server.args(["--timeout", "20000", "-d", "dummy", "-r", "48000", "-p", "1024"]);
        let jack = Self { name, _server: Program::start(&mut server) };
        eventually("the server answers", || jack.ports().contains("system:").then_some(()));
        jack
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("JACK_DEFAULT_SERVER", &self.name).env("JACK_NO_START_SERVER", "1");
        command
    }

    /// Every port, a line each, with those that it is connected to.
    fn ports(&self) -> String {
        let output = run(self.command("jack_lsp").arg("--connections"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
#[ignore = "second tier, needs a router built with JACK: cargo ci hardware"]
fn ports_of_jack_carry_notes_sysex_and_clock_both_ways() {
    let jack = Jack::start();
    let dump = Program::start(jack.command("stdbuf").args(["-oL", "jack_midi_dump", "dump"]));
    let mut peer = jack.command(installed("peers/venv/bin/python"));
    let mut peer = Program::start(peer.arg(installed("peers/jack_peer.py")).arg("peer"));
    peer.line_where(|line| line == "open");
    eventually("both have their ports", || {
        let ports = jack.ports();
        ["dump:input", "peer:out"].iter().all(|port| ports.contains(port)).then_some(())
    });
    let config = "[[bridge]]\ntype = \"midi\"\nvalues = \"raw\"\nticks = true\n\
                  [[bridge.device]]\nname = \"peer\"\nport = \"peer\"\n\
                  [[bridge.device]]\nname = \"dump\"\nport = \"dump\"\ndirection = \"out\"\n\
                  [[bridge.device]]\nname = \"own\"\nvirtual = \"stage\"\n";
    let file = clasp_rt_tests::temporary::TempFile::new("toml", config);
    let mut command = jack.command(router());
    command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--shards", "1"]);
    command.args(["--idle", "park", "--config"]).arg(&file.path);
    let server = Program::start(&mut command);
    let url = server.line_where(|line| line.starts_with("listening ws://"));
    let address = url.trim_start_matches("listening ws://").parse().expect("an address");
    let mut page = Raw::join(address, "page");
    page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/midi/**"}));
    let online = ["/midi/peer/online", "/midi/dump/online", "/midi/own/online"];
    page.receive_values(&online.map(|address| (address, json!(true))));

    // From RtMidi to the page.
    for message in ["903c64", "b00740", "f07e7f0601f7", "fa", "f8"] {
        peer.write_line(message);
    }
    let on = json!({"note": 60, "velocity": 100, "on": true});
    let wanted = [
        ("/midi/peer/ch/1/note", on),
        ("/midi/peer/ch/1/cc/7", json!(64)),
        ("/midi/peer/sysex", json!({"$bytes": "f07e7f0601f7"})),
        ("/midi/peer/transport", json!("start")),
    ];
    page.receive_values(&wanted);
    page.receive_where(|message| message["address"] == "/midi/peer/clock/tick");

    // From the page to RtMidi and to JACK's own program.
    let sysex = json!({"$bytes": "f07e7f0601f7"});
    for device in ["peer", "dump"] {
        let at = |rest: &str| format!("/midi/{device}/{rest}");
        page.send(json!({"type": "SET", "address": at("ch/2/cc/1"), "value": 5}));
        for (address, value) in [(at("sysex"), sysex.clone()), (at("transport"), json!("start"))] {
            page.send(json!({
                "type": "PUBLISH", "signal": "event", "address": address, "value": value,
            }));
        }
        page.send(json!({"type": "SET", "address": at("clock/tempo"), "value": 120.0}));
    }
    let mut expected = vec!["b10105", "f07e7f0601f7", "fa", "f8"];
    while !expected.is_empty() {
        let line = peer.line().expect("RtMidi listens");
        expected.retain(|message| *message != line);
    }
    let mut expected = vec!["b1 01 05", "f0 7e 7f 06 01 f7", ": fa", ": f8"];
    while !expected.is_empty() {
        let line = dump.line().expect("the dump listens");
        expected.retain(|message| !line.contains(message));
    }

    // Of our own ports, the one that other programs connect to is no device of ours.
    let connect = |from: &str, to: &str| run(jack.command("jack_connect").args([from, to]));
    let ports = jack.ports();
    let own: Vec<&str> = ports.lines().filter(|line| line.ends_with(":stage")).collect();
    assert_eq!(own.len(), 2, "one to hear and one to tell: {ports}");
    let connected = own.iter().filter(|own| connect("peer:out", own).status.success()).count();
    assert_eq!(connected, 1, "{ports}");
    peer.write_line("b20809");
    page.receive_values(&[("/midi/own/ch/3/cc/8", json!(9))]);
}

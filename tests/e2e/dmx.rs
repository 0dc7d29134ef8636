//! DMX interfaces on serial lines: a device side of an ENTTEC DMX USB Pro that other programs take
//! for a real one (`tests/peers/enttec_widget.py`), OLA at the other end of a DMX cable between two
//! of them, and a bare adapter seen by strace.

use std::process::Command;

use clasp_rt_tests::cable::Cable;
use clasp_rt_tests::eventually;
use clasp_rt_tests::metrics;
use clasp_rt_tests::net::of_its_own;
use clasp_rt_tests::ola::Ola;
use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFile;
use serde_json::{Value as Json, json};

/// A router whose bridge drives these devices, each a table of `[[bridge.device]]`.
fn router(devices: &[String], options: &str) -> Router {
    let tables = devices.iter().map(|device| format!("[[bridge.device]]\n{device}\n"));
    let config = format!("[[bridge]]\ntype = \"dmx\"\n{options}\n{}", tables.collect::<String>());
    Router::with_config(&config, &["--shards", "1", "--metrics", "127.0.0.1:0"])
}

fn widget(cable: &Cable, arguments: &[&str]) -> Program {
    let mut command = Command::new("python3");
    command.arg(installed("peers/enttec_widget.py")).arg(cable.device());
    Program::start(command.args(arguments))
}

fn page(router: &Router) -> Raw {
    let mut page = router.join("page");
    page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": "/dmx/**"}));
    page
}

fn set(page: &mut Raw, address: &str, value: serde_json::Value) {
    page.send(json!({"type": "SET", "address": address, "value": value}));
}

#[test]
fn levels_reach_an_interface_and_those_that_it_receives_a_page() {
    let (out, input) = (Cable::new(), Cable::new());
    let (lamps, _desk) = (widget(&out, &[]), widget(&input, &["in"]));
    let devices = [
        format!("port = {:?}", out.host()),
        format!("port = {:?}\nuniverse = 1\ndirection = \"in\"", input.host()),
    ];
    let router = router(&devices, "");
    let mut page = page(&router);
    // In any order: levels are told once. Frames in pieces and noise before them are no obstacle.
    page.receive_values(&[
        ("/dmx/0/widget/online", json!(true)),
        ("/dmx/0/widget/serial", json!("12345678")),
        ("/dmx/0/widget/firmware", json!("1.68")),
        ("/dmx/1/widget/rate_hz", json!(40)),
        ("/dmx/1/receiving", json!(true)),
        ("/dmx/1/1", json!(1)),
        ("/dmx/1/512", json!(0)),
    ]);
    // It moves; a busy page is told the newest value only.
    for _ in 0..2 {
        page.receive_where(|message| message["address"] == "/dmx/1/4");
    }
    set(&mut page, "/dmx/0/3", json!(200));
    lamps.line_where(|line| line == "dmx 512 000000c80000000000000000");
    set(&mut page, "/dmx/0", json!([1, 2, 3, 4]));
    lamps.line_where(|line| line == "dmx 512 000102030400000000000000");
}

#[test]
fn an_interface_that_is_plugged_in_again_has_its_look_and_darkness_at_the_end() {
    let mut cable = Cable::unplugged();
    let devices = [format!("port = {:?}\nslots = 24\nrate_hz = 30", cable.host())];
    let router = router(&devices, "on_stop = \"blackout\"");
    let mut page = page(&router);
    set(&mut page, "/dmx/0/1", json!(255));
    for level in [255, 7] {
        cable.plug();
        let lamps = widget(&cable, &[]);
        lamps.line_where(|line| line == format!("dmx 24 00{level:02x}00000000000000000000"));
        page.receive_values(&[("/dmx/0/widget/online", json!(true))]);
        drop(lamps);
        cable.unplug();
        page.receive_values(&[("/dmx/0/widget/online", json!(false))]);
        set(&mut page, "/dmx/0/1", json!(7));
    }
    cable.plug();
    let lamps = widget(&cable, &[]);
    lamps.line_where(|line| line == "dmx 24 000700000000000000000000");
    router.terminate();
    lamps.line_where(|line| line == "dmx 24 000000000000000000000000");
}

#[test]
fn a_bridge_of_its_own_drives_an_interface() {
    let cable = Cable::new();
    let lamps = widget(&cable, &[]);
    let router = Router::start(&["--shards", "1"]);
    let mut command = Command::new(clasp_rt());
    command.args(["dmx", "--port", cable.host(), "--universe", "9", "--channels", "1-24"]);
    let _bridge = Program::start(command.args(["--router", &router.url()]));
    let mut page = page(&router);
    page.receive_values(&[("/dmx/9/widget/online", json!(true))]);
    // The short form of an address, while there is one universe.
    set(&mut page, "/dmx/2", json!(0.5));
    lamps.line_where(|line| line == "dmx 24 000080000000000000000000");
}

/// Somebody takes the bytes, as a line would.
fn taken(cable: &Cable) -> Program {
    let mut line = Command::new("sh");
    Program::start(line.args(["-c", "exec cat \"$0\" > /dev/null", cable.device()]))
}

#[test]
fn a_bare_adapter_gets_a_break_before_each_frame_and_frames_without_end() {
    let cable = Cable::new();
    let _line = taken(&cable);
    let router = Router::start(&["--shards", "1"]);
    let trace = TempFile::new("strace", "");
    let mut command = Command::new("strace");
    // -D: what is started, and ended with the test, is the bridge, not strace.
    command.args(["-D", "-f", "-xx", "-e", "trace=ioctl,write", "-s", "40", "-o"]).arg(&trace.path);
    command.arg(clasp_rt()).args(["dmx", "--kind", "open", "--refresh", "44"]);
    command.args(["--port", cable.host(), "--router", &router.url()]);
    let _bridge = Program::start(&mut command);
    let mut page = page(&router);
    page.receive_values(&[("/dmx/0/widget/online", json!(true))]);
    set(&mut page, "/dmx/0/1", json!(171));
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(&trace.path).expect("strace writes");
        // Of the line: the break on and off, and the start code with the first level.
        let is_of_line = |line: &&str| {
            line.contains("TIOCSBRK") || line.contains("TIOCCBRK") || line.contains("\\x00\\xab")
        };
        text.lines().filter(is_of_line).map(str::to_owned).collect()
    };
    let lines = eventually("twenty frames", || Some(lines()).filter(|lines| lines.len() >= 60));
    for frame in lines.chunks_exact(3) {
        assert!(frame[0].contains("TIOCSBRK"), "{frame:?}");
        assert!(frame[1].contains("TIOCCBRK"), "{frame:?}");
        assert!(frame[2].contains("write(") && frame[2].contains("= 513"), "{frame:?}");
    }
}

#[test]
fn how_far_apart_the_frames_of_a_bare_adapter_are_is_told_to_those_who_watch() {
    let cable = Cable::new();
    let _line = taken(&cable);
    let router = router(&[format!("port = {:?}\nkind = \"open\"\nrate_hz = 44", cable.host())], "");
    let mut page = page(&router);
    set(&mut page, "/dmx/0/1", json!(171));
    let at = router.metrics_address();
    let line = eventually("forty frames", || {
        let told: Json = serde_json::from_str(&metrics::get(at, "/metrics.json")).expect("JSON");
        let line = told["lines"].get(0)?.clone();
        line["count"].as_u64().is_some_and(|count| count >= 40).then_some(line)
    });
    assert_eq!((&line["bridge"], &line["device"]), (&json!("dmx"), &json!("0")));
    // A line that was held up goes on after half an interval at the earliest.
    let ns = |key: &str| line[key].as_u64().expect("nanoseconds");
    assert!(ns("min_ns") > 11_300_000 && ns("p50_ns") <= ns("max_ns"), "{line}");
    let text = metrics::get(at, "/metrics");
    let metric = "clasp_rt_dmx_interval_seconds{bridge=\"dmx\",device=\"0\",quantile=\"0.99\"} 0.";
    assert!(text.contains(metric), "{text}");
    assert!(metrics::get(at, "/hist").contains("\nTag=line-dmx-0,"));
    let top = run(Command::new(clasp_rt())
        .args(["top", "--once", "--router-metrics"])
        .arg(at.to_string()));
    let top = String::from_utf8_lossy(&top.stdout).into_owned();
    let mut rows = top.lines().skip_while(|line| !line.contains("one DMX frame to the next"));
    let row = rows.nth(1).unwrap_or_else(|| panic!("no line in {top}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((&words[..2], words.len()), (&["dmx", "0"][..], 7), "{top}");
}

/// `olad` and the router are hosts of two interfaces with a DMX cable between them.
#[test]
fn ola_and_the_router_hear_each_other_over_a_dmx_cable() {
    of_its_own("ola_and_the_router_hear_each_other_over_a_dmx_cable", |desks| {
        let (theirs, ours) = (Cable::new(), Cable::new());
        let widgets = widget(&theirs, &["joined", ours.device()]);
        widgets.line_where(|line| line == "open");
        // A name that nobody else has: OLA marks what it holds in a folder of the whole machine.
        let folder = std::env::temp_dir();
        let unique = folder.file_name().and_then(|name| name.to_str()).expect("a folder of ours");
        let link = format!("tty-{unique}");
        std::os::unix::fs::symlink(theirs.host(), folder.join(&link)).expect("a link");
        let options = format!("device_dir = {}\ndevice_prefix = {link}\n", folder.display());
        let ola = Ola::start(desks, "usbserial", &options, "Enttec Usb Pro Device");
        for (direction, universe) in [("--output", "31"), ("--input", "32")] {
            let port = match direction {
                "--output" => ["-p", "0"].as_slice(),
                _ => ["-p", "0", "-i"].as_slice(),
            };
            let patch = ["-d", &ola.device, "-u", universe];
            ola.command("ola_patch", &[&patch, port].concat());
        }
        let port = ours.host();
        let input = format!("port = {port:?}\ndirection = \"in\"");
        let listening = router(&[input], "");
        let mut page = page(&listening);
        eventually("olad sends to its interface", || {
            ola.command("ola_set_dmx", &["-u", "31", "-d", "5,6,9"]);
            widgets.try_line().filter(|line| line.starts_with("dmx ") && line.contains("00050609"))
        });
        page.receive_values(&[
            ("/dmx/0/1", json!(5)),
            ("/dmx/0/2", json!(6)),
            ("/dmx/0/3", json!(9)),
        ]);
        listening.terminate();
        let sending = router(&[format!("port = {port:?}")], "");
        let mut page = self::page(&sending);
        page.receive_values(&[("/dmx/0/widget/online", json!(true))]);
        set(&mut page, "/dmx/0", json!([7, 0, 200]));
        eventually("olad receives from its interface", || {
            let levels = ola.levels(32);
            levels.starts_with(&[json!(7), json!(0), json!(200)]).then_some(())
        });
        ola.terminate();
    });
}

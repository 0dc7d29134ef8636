//! Devices that this machine's kernel may not have, in a virtual one that has their drivers
//! (`tests/hwvm.sh`): ALSA's sequencer with its own programs, and an adapter on USB.
//!
//! A second tier: `cargo ci hardware`. The kernel boots once; in it this program runs once more.

use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::program::{Program, clasp_rt, folder};

/// How many tests are in [`guest`].
const INSIDE: usize = 3;

/// What runs `command` in the virtual machine, and ends with the thread that starts it.
fn in_guest(command: &[&str]) -> Command {
    let mut script = Command::new("setpriv");
    script.args(["--pdeathsig", "KILL", "bash"]).arg(folder().join("hwvm.sh")).args(command);
    let modules = "snd-seq snd-virmidi:midi_devs=4 dummy_hcd cdc-acm";
    script.env("CLASP_RT_BIN", clasp_rt()).env("HWVM_ENV", "CLASP_RT_BIN");
    script.env("HWVM_MODULES", modules);
    script
}

#[test]
#[ignore = "second tier, boots a virtual machine: cargo ci hardware"]
fn midi_ports_and_usb_lines_of_a_kernel_that_has_them_work_both_ways() {
    let program = std::env::current_exe().expect("the path of this test");
    let program = program.to_str().expect("a path of plain text");
    let mut command = in_guest(&[program, "guest::", "--ignored", "--test-threads", "1"]);
    let output = command.output().expect("setpriv is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains(&format!("{INSIDE} passed; 0 failed")), "{said}\n{errors}");
    println!("{said}");
}

#[test]
#[ignore = "second tier, boots a virtual machine: cargo ci hardware"]
fn the_virtual_machine_does_not_outlive_who_started_it() {
    let mut shell = Command::new("sh");
    let script = in_guest(&["sleep", "1000"]);
    // A parent that is killed without a word, as a test is that takes too long.
    shell.args(["-c", "\"$@\" & echo $!; wait", "sh"]).arg(script.get_program());
    shell.args(script.get_args());
    let mut parent = Program::start(&mut shell);
    let script = parent.line().expect("its number");
    let job = folder().join(format!("peers/hwvm/job.{script}/pid"));
    let qemu = eventually("the machine runs", || {
        let number = std::fs::read_to_string(&job).ok()?;
        number.trim().parse::<u32>().ok()
    });
    let is_there = || std::fs::read_to_string(format!("/proc/{qemu}/stat")).ok();
    assert!(is_there().expect("it runs").contains("(qemu-system"));
    parent.kill();
    // What nobody has waited for yet is a zombie.
    eventually("it is gone", || is_there().is_none_or(|stat| stat.contains(") Z ")).then_some(()));
}

/// What runs in the virtual machine.
mod guest {
    use std::path::Path;
    use std::process::Command;

    use clasp_rt_tests::eventually;
    use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
    use clasp_rt_tests::raw::Raw;
    use clasp_rt_tests::router::Router;
    use clasp_rt_tests::temporary::TempFile;
    use serde_json::{Value as Json, json};

    /// A page of the router that has this configuration.
    fn router(config: &str, pattern: &str) -> (Router, Raw) {
        assert!(std::env::var_os("HWVM").is_some(), "it runs by itself: cargo ci hardware");
        let router = Router::with_config(config, &["--shards", "1"]);
        let mut page = router.join("page");
        page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": pattern}));
        (router, page)
    }

    fn set(page: &mut Raw, address: &str, value: Json) {
        page.send(json!({"type": "SET", "address": address, "value": value}));
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What our own list of a kind of ports prints.
    fn listed(kind: &str) -> String {
        text(run(Command::new(clasp_rt()).args([kind, "--list-ports"])).stdout)
    }

    /// `amidi` keeps or sends the bytes of a raw port.
    fn amidi(arguments: &[&str]) -> Command {
        let mut command = Command::new("amidi");
        command.args(["-p", "hw:0,0"]).args(arguments);
        command
    }

    #[test]
    #[ignore = "runs in the virtual machine: cargo ci hardware"]
    fn a_port_of_the_machine_is_heard_and_told() {
        let config = "[[bridge]]\ntype = \"midi\"\nvalues = \"raw\"\n\
                      [[bridge.device]]\nport = \"VirMIDI 0-0\"\n";
        let (_router, mut page) = router(config, "/midi/**");
        page.receive_values(&[("/midi/online", json!(true))]);
        run(&mut amidi(&["-S", "903C64 B00740 E00040 F07E7F0601F7"]));
        let on = json!({"note": 60, "velocity": 100, "on": true});
        page.receive_values(&[("/midi/ch/1/note", on)]);
        page.receive_values(&[("/midi/ch/1/cc/7", json!(64))]);
        page.receive_values(&[("/midi/ch/1/bend", json!(0))]);
        page.receive_values(&[("/midi/sysex", json!({"$bytes": "f07e7f0601f7"}))]);
        let heard = TempFile::new("midi", "");
        let _amidi = Program::start(&mut amidi(&["-r", heard.path.to_str().expect("a path")]));
        let has = |bytes: &[u8]| {
            let heard = std::fs::read(&heard.path).expect("amidi writes");
            heard.windows(bytes.len()).any(|window| window == bytes).then_some(())
        };
        // From here on it is known to listen.
        eventually("amidi hears the page", || {
            set(&mut page, "/midi/ch/1/cc/1", json!(5));
            has(&[0xB0, 1, 5])
        });
        set(&mut page, "/midi/ch/2/program", json!(12));
        set(&mut page, "/midi/ch/1/nrpn/1/2", json!(8_195));
        page.send(json!({
            "type": "PUBLISH", "signal": "event", "address": "/midi/msc",
            "value": {"command": "go", "cue": "12"},
        }));
        eventually("a show command", || has(b"\xf0\x7f\x7f\x02\x01\x0112\xf7"));
        // ALSA leaves out status bytes that repeat.
        assert!(has(&[0xC1, 12]).is_some() && has(&[99, 1, 98, 2, 6, 64, 38, 3]).is_some());
    }

    #[test]
    #[ignore = "runs in the virtual machine: cargo ci hardware"]
    fn our_own_port_is_played_to_and_a_device_is_found_again_by_its_name() {
        let config = "[[bridge]]\ntype = \"midi\"\nvalues = \"raw\"\n\
                      [[bridge.device]]\nname = \"stage\"\nvirtual = \"stage\"\n\
                      [[bridge.device]]\nname = \"dump\"\nport = \"aseqdump\"\n\
                      direction = \"out\"\n";
        let (_router, mut page) = router(config, "/midi/**");
        page.receive_values(&[("/midi/stage/online", json!(true))]);
        let ports = listed("midi");
        assert!(ports.contains("clasp-rt-midi:stage") && ports.contains("in, out"), "{ports}");
        let ports = text(run(Command::new("aplaymidi").arg("-l")).stdout);
        let line = ports.lines().find(|line| line.contains("stage"));
        let port = line.and_then(|line| line.split_whitespace().next()).expect("it is listed");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/captures/midi-mixed.mid");
        let played = run(Command::new("aplaymidi").args(["-p", port, "-d", "0"]).arg(file));
        assert!(played.status.success(), "{}", text(played.stderr));
        page.receive_values(&[("/midi/stage/ch/1/nrpn/1/2", json!(8_195))]);
        page.receive_values(&[("/midi/stage/ch/1/program", json!(12))]);
        // It comes, goes, and comes again; the newest light is there each time.
        for level in [1, 2] {
            set(&mut page, "/midi/dump/ch/1/note/36", json!(level));
            let dump = Program::start(Command::new("stdbuf").args(["-oL", "aseqdump"]));
            let light = format!("note 36, velocity {level}");
            dump.line_where(|line| line.contains("Note on") && line.contains(&light));
            page.receive_values(&[("/midi/dump/online", json!(true))]);
            drop(dump);
            page.receive_values(&[("/midi/dump/online", json!(false))]);
        }
    }

    /// Plugs a USB device in, or out: a serial line that says it is from FTDI.
    fn modprobe(arguments: &[&str]) {
        let done = run(Command::new("modprobe").args(arguments));
        assert!(done.status.success(), "{}", text(done.stderr));
    }

    #[test]
    #[ignore = "runs in the virtual machine: cargo ci hardware"]
    fn an_adapter_on_usb_is_found_by_its_serial_number_driven_unplugged_and_found_again() {
        let config = "[[bridge]]\ntype = \"dmx\"\n\
                      [[bridge.device]]\nusb_serial = \"EN054321\"\ndirection = \"in\"\n\
                      [bridge.device.second]\nuniverse = 1\nlabel = 200\n";
        let (_router, mut page) = router(config, "/dmx/**");
        for level in [77, 78] {
            set(&mut page, "/dmx/1/1", json!(level));
            modprobe(&["g_serial", "idVendor=0x0403", "iSerialNumber=EN054321"]);
            page.receive_values(&[("/dmx/0/widget/online", json!(true))]);
            let ports = listed("dmx");
            assert!(ports.contains("/dev/ttyACM0  0403:") && ports.contains("EN054321"), "{ports}");
            let mut widget = Command::new("python3");
            widget.arg(installed("peers/enttec_widget.py")).args(["/dev/ttyGS0", "in"]);
            let widget = Program::start(&mut widget);
            widget.line_where(|line| line == "open");
            page.receive_values(&[("/dmx/0/receiving", json!(true))]);
            // It moves; a busy page is told the newest value only.
            for _ in 0..2 {
                page.receive_where(|message| message["address"] == "/dmx/0/4");
            }
            let frame = format!("label 200 00{level:02x}");
            widget.line_where(|line| line.starts_with(&frame));
            drop(widget);
            modprobe(&["--remove", "g_serial"]);
            page.receive_values(&[("/dmx/0/widget/online", json!(false))]);
        }
    }
}

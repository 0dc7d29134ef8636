//! An evening: two desks, a tablet, a fader box and a web page drive one lamp, and one after the
//! other they come, win, and are lost.
//!
//! | who | program | way | priority |
//! |---|---|---|---|
//! | house desk | QLC+, without a screen | sACN, multicast | 100, as sACN has it |
//! | tablet | liblo's `oscsend` | OSC, through `clasp-rt osc` | 110 |
//! | fader box | bytes of a MIDI fader on a serial cable | through `clasp-rt midi` | 120 |
//! | guest desk | PyPI's `sacn` | sACN, multicast | 150, as it says itself |
//! | page | npm's `@clasp-to/core` | CLASP over WebSocket | 180 |
//! | lamp | PyPI's `stupidArtnet` | Art-Net | |
//!
//! All of them but the page are on another host than the router, in a network of the test's own.
//! `--nocapture` prints the report: who won when, as `clasp-rt why` tells it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use clasp_rt_tests::cable::Cable;
use clasp_rt_tests::net::{self, DESKS, Desks, STAGE};
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::program::{Program, clasp_rt, folder, installed, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::why::{contenders, why};
use clasp_rt_tests::{PATIENCE, eventually};
use serde_json::{Value as Json, json};
use tungstenite::Message;

const CONFIG: &str = r#"
    [[bridge]]
    type = "sacn"
    bind = "10.99.0.1:5568"
    inputs = "1"

    [[bridge]]
    type = "artnet"
    bind = "10.99.0.1:6454"
    targets = ["10.99.0.2:6454"]

    [[route]]
    from = "/sacn/1/1"
    to = "/rig/1"

    [[route]]
    from = ["/osc/dimmer", "/midi/ch/1/cc/7"]
    to = "/rig/1"
    transform = [
        { type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 255 },
        { type = "round", decimals = 0 },
        { type = "to_int" },
    ]

    [[patch]]
    fixture = "/rig"
    universe = "/artnet/0"
    at = 1
    slots = ["1"]

    [[arbitration]]
    pattern = "/rig/**"
    rule = "ltp"
    on_loss = "fade"
    value = 30
    fade = "0.3s"

    [[source]]
    name = "osc"
    priority = 110

    [[source]]
    name = "midi"
    priority = 120

    [[source]]
    name = "js"
    priority = 180
"#;

/// What all of them want.
const RIG: &str = "/rig/1";

/// What QLC+ calls itself on the network.
const HOUSE_DESK: &str = "Q Light Controller Plus - E1.31";

#[test]
fn the_right_one_wins_all_evening_and_each_loss_settles_as_declared() {
    net::of_its_own("the_right_one_wins_all_evening_and_each_loss_settles_as_declared", evening);
}

fn evening(desks: &Desks) {
    let mut show = Show::open(desks);

    let mut house = HouseDesk::start(desks);
    let house_says = |level: u8| json!([HOUSE_DESK, "sacn", DESKS, 100, level]);
    house.fader(77);
    show.is(77, &[house_says(77)], "the house desk opens the evening");

    let osc = Command::new(clasp_rt())
        .args(["osc", "--bind", STAGE, "--port", "9000", "--router", &show.router.url()])
        .joined("osc", &show);
    let tablet_says = |level: u8| json!(["osc", "osc", DESKS, 110, level]);
    oscsend(desks, "0.5");
    show.is(128, &[tablet_says(128), house_says(77)], "the tablet comes");

    let cable = Cable::new();
    let midi = Command::new(clasp_rt())
        .args(["midi", "--serial", cable.host(), "--router", &show.router.url()])
        .joined("midi", &show);
    // Controller 7 of channel 1, at full.
    let mut fader_box = std::fs::File::options().write(true).open(cable.device()).expect("a tty");
    fader_box.write_all(&[0xB0, 7, 127]).expect("the cable is plugged in");
    let box_says = json!(["midi", "midi", cable.host(), 120, 255]);
    let all = [box_says.clone(), house_says(77), tablet_says(128)];
    show.is(255, &all, "the fader box comes");

    let mut guest = Program::start(
        desks.command(installed("peers/venv/bin/python")).arg(installed("peers/sacn_peer.py")),
    );
    let levels = json!({"1": [200]});
    ask(
        &mut guest,
        json!({
            "command": "source", "as": "g", "host": DESKS, "priority": 150, "universes": levels
        }),
    );
    let guest_says = |level: u8| json!(["g", "sacn", DESKS, 150, level]);
    let all = [guest_says(200), house_says(77), box_says.clone(), tablet_says(128)];
    show.is(200, &all, "the guest desk comes, at sACN's priority 150");

    let mut page = Peer::join(Client::JavaScript, &show.router.url());
    page.ask(json!({"command": "set", "address": "/rig/1", "value": 12}));
    let page_says = json!(["js", "clasp", "127.0.0.1", 180, 12.0]);
    let losers = [house_says(77), guest_says(200), box_says.clone(), tablet_says(128)];
    show.is(12, &[&[page_says.clone()][..], &losers].concat(), "a page overrules them");

    // All of them move; nothing changes on stage.
    oscsend(desks, "0.25");
    house.fader(78);
    ask(&mut guest, json!({"command": "levels", "as": "g", "universes": {"1": [201]}}));
    let losers = [house_says(78), guest_says(201), box_says.clone(), tablet_says(64)];
    show.is(12, &[&[page_says][..], &losers].concat(), "all others move");

    page.ask(json!({"command": "close"}));
    let all = [guest_says(201), house_says(78), box_says.clone(), tablet_says(64)];
    show.is(201, &all, "the page is closed");

    guest.kill();
    let all = [box_says, house_says(78), tablet_says(64)];
    show.is(255, &all, "the guest desk loses its power, without a word");

    drop(midi);
    show.is(64, &[tablet_says(64), house_says(78)], "the fader box is gone");

    drop(osc);
    show.is(78, &[house_says(78)], "the tablet is gone");

    drop(house);
    show.is(30, &[], "the house desk is gone, too: the lamp fades to what is declared");
    assert!(show.report.contains("held: no source claims it"), "{}", show.report);
    println!("{}", show.report);
}

/// The router, its lamp, and what was told so far.
struct Show {
    router: Router,
    lamp: Program,
    report: String,
}

impl Show {
    fn open(desks: &Desks) -> Self {
        let router = Router::with_config(CONFIG, &["--shards", "2"]);
        let mut lamp = Program::start(
            desks
                .command(installed("peers/venv/bin/python"))
                .arg(installed("peers/artnet_peer.py")),
        );
        ask(&mut lamp, json!({"command": "listen", "port": 6454, "universe": 0}));
        Self { router, lamp, report: String::new() }
    }

    /// The lamp shows `level`, and `why` names all who want it, the winner first, then the losers
    /// in the order of their texts.
    fn is(&mut self, level: u8, all: &[Json], what: &str) {
        self.lamp_shows(level);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = contenders(&self.router, RIG);
            if told == all {
                break;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "{what}, but\n{told:?}\nis not\n{all:?}\n{}", self.report);
        }
        let _ = writeln!(self.report, "# {what}\n{}", why(&self.router, RIG, &[]));
    }

    fn lamp_shows(&self, level: u8) {
        self.lamp.line_where(|line| {
            let line: Json = serde_json::from_str(line).expect("a line of JSON");
            line["levels"].get(0) == Some(&json!(level))
        });
    }
}

/// A bridge that runs as a program of its own.
trait Joined {
    /// Starts it, and waits until its session is there.
    fn joined(&mut self, name: &str, show: &Show) -> Program;
}

impl Joined for Command {
    fn joined(&mut self, name: &str, show: &Show) -> Program {
        let program = Program::start(self);
        eventually(&format!("{name} joins {}", show.router.url()), || {
            program.errors().contains("joined the router").then_some(())
        });
        program
    }
}

/// QLC+ without a screen, moved over its own web interface.
struct HouseDesk {
    _program: Program,
    web: tungstenite::WebSocket<TcpStream>,
}

impl HouseDesk {
    fn start(desks: &Desks) -> Self {
        // Its settings; the folder for temporary files is this test's own, and goes with it.
        let home = std::env::temp_dir().join("qlcplus");
        std::fs::create_dir(&home).expect("the folder is our own");
        let mut command = desks.command("qlcplus");
        command.args(["--nowm", "--web", "--open"]).arg(folder().join("peers/show.qxw"));
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        let program = Program::start(command.env("QT_QPA_PLATFORM", "offscreen"));
        let web = eventually("QLC+ serves its web interface", || {
            let stream = TcpStream::connect((DESKS, 9999)).ok()?;
            let url = format!("ws://{DESKS}:9999/qlcplusWS");
            Some(tungstenite::client(url, stream).ok()?.0)
        });
        Self { _program: program, web }
    }

    /// Moves the first fader of its simple desk.
    fn fader(&mut self, level: u8) {
        let move_it = format!("CH|1|{level}");
        self.web.send(Message::text(move_it)).expect("it listens");
    }
}

fn ask(program: &mut Program, command: Json) {
    program.write_line(&command.to_string());
    program.line_where(|line| line.contains("done"));
}

fn oscsend(desks: &Desks, position: &str) {
    let mut command = desks.command("oscsend");
    let output = run(command.args([STAGE, "9000", "/dimmer", "f", position]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

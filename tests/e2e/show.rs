//! A show: a tablet's fader, a lamp, a desk and two browsers, none of them ours, around one router.
//!
//! liblo (`oscsend`, `oscdump`) is the tablet, stupidArtnet the lamp and the desk, and the
//! published clients are the pages that watch. All of it is on loopback, on ports that the kernel
//! chose.

use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::liblo::{self, oscdump};
use clasp_rt_tests::library::Library;
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::ports::free_udp_ports;
use clasp_rt_tests::program::{Program, clasp_rt};
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

#[test]
fn a_fader_on_a_tablet_moves_a_lamp_and_every_page_sees_it() {
    let stage = Stage::new();
    let mut pages = Client::ALL.map(|client| {
        let mut page = Peer::join(client, &stage.router.url());
        page.ask(json!({"command": "on", "pattern": "/osc/1/*"}));
        page
    });
    let mut lamp = stupid_artnet();
    lamp.ask(json!({"command": "listen", "port": stage.ports.lamp, "universe": 0}));
    for (value, level) in [("0.4", 102), ("1.0", 255), ("0.0", 0)] {
        oscsend(stage.ports.osc, &["/1/fader3", "f", value]);
        for page in &mut pages {
            let heard = page.heard_at("/osc/1/fader3").as_f64().expect("a number");
            let sent: f32 = value.parse().expect("a number");
            assert_eq!(heard, f64::from(sent), "{}", page.client);
        }
        lamp.packet_where(|levels| levels.get(2) == Some(&json!(level)));
    }
}

#[test]
fn a_desk_s_universe_arrives_as_params() {
    let stage = Stage::new();
    let mut page = Peer::join(Client::JavaScript, &stage.router.url());
    page.ask(json!({"command": "on", "pattern": "/artnet/3/*"}));
    let mut desk = stupid_artnet();
    let levels = [10, 20, 0, 255];
    desk.ask(json!({
        "command": "send", "port": stage.ports.artnet, "universe": 3, "levels": levels
    }));
    for (slot, level) in (1..).zip(levels) {
        assert_eq!(page.heard_at(&format!("/artnet/3/{slot}")), json!(level), "slot {slot}");
    }
    // What did not change is not told again.
    let levels = [10, 99, 0, 255];
    desk.ask(json!({
        "command": "send", "port": stage.ports.artnet, "universe": 3, "levels": levels
    }));
    let heard = page.heard();
    assert_eq!((heard.address.as_str(), heard.value), ("/artnet/3/2", json!(99)));
}

#[test]
fn a_page_moves_the_tablet_and_the_lamp() {
    let stage = Stage::new();
    let mut page = Peer::join(Client::Python, &stage.router.url());
    let tablet = oscdump(&stage.ports.tablet.to_string());
    let line = eventually("the tablet hears the page", || {
        page.ask(json!({"command": "set", "address": "/osc/1/led", "value": 0.5}));
        tablet.try_line()
    });
    assert!(line.contains("/1/led f 0.5"), "{line}");
    let mut lamp = stupid_artnet();
    lamp.ask(json!({"command": "listen", "port": stage.ports.lamp, "universe": 0}));
    page.ask(json!({"command": "set", "address": "/artnet/0/5", "value": 200}));
    lamp.packet_where(|levels| levels.get(4) == Some(&json!(200)));
}

#[test]
fn a_fixture_is_moved_by_its_functions_and_a_desk_moves_them_back() {
    let [artnet, lamp] = free_udp_ports();
    let config = format!(
        r#"
        [[bridge]]
        type = "artnet"
        bind = "127.0.0.1:{artnet}"
        targets = ["127.0.0.1:{lamp}"]

        [[patch]]
        fixture = "/rig/spot1"
        universe = "/artnet/0"
        at = 3
        slots = ["pan:16", "colour:rgb", "=255"]

        [[patch]]
        fixture = "/desk/spot1"
        universe = "/artnet/4"
        at = 1
        direction = "in"
        slots = ["pan:16"]
        "#
    );
    let router = Router::with_config(&config, &["--shards", "2"]);
    let mut page = Peer::join(Client::JavaScript, &router.url());
    let mut nodes = stupid_artnet();
    nodes.ask(json!({"command": "listen", "port": lamp, "universe": 0}));
    page.ask(json!({"command": "set", "address": "/rig/spot1/pan", "value": 0.5}));
    page.ask(json!({"command": "set", "address": "/rig/spot1/colour", "value": "#ff8001"}));
    let wanted = [128, 0, 255, 128, 1, 255].map(|level| json!(level));
    nodes.packet_where(|levels| levels.get(2..8) == Some(&wanted[..]));
    page.ask(json!({"command": "on", "pattern": "/desk/**"}));
    nodes.ask(json!({
        "command": "send", "port": artnet, "universe": 4, "levels": [255, 255]
    }));
    assert_eq!(page.heard_at("/desk/spot1/pan").as_f64(), Some(1.0));
}

#[test]
fn a_tablet_does_not_hear_itself() {
    let stage = Stage::new();
    let tablet = oscdump(&stage.ports.tablet.to_string());
    let mut page = Peer::join(Client::JavaScript, &stage.router.url());
    page.ask(json!({"command": "on", "pattern": "/osc/**"}));
    // From here on the tablet is known to listen.
    eventually("the tablet hears the page", || {
        page.ask(json!({"command": "emit", "address": "/osc/ready", "value": 1}));
        tablet.try_line()
    });
    oscsend(stage.ports.osc, &["/1/fader1", "f", "0.5"]);
    page.heard_at("/osc/1/fader1");
    page.ask(json!({"command": "emit", "address": "/osc/last", "value": 1}));
    let line = tablet.line_where(|line| !line.contains("/ready"));
    assert!(line.contains("/last"), "{line}");
}

#[test]
fn every_type_of_osc_argument_arrives() {
    let stage = Stage::new();
    let mut page = Peer::join(Client::Rust, &stage.router.url());
    page.ask(json!({"command": "on", "pattern": "/osc/**"}));
    let cases: [(&[&str], Json); 9] = [
        (&["/i", "i", "-7"], json!(-7)),
        (&["/h", "h", "9007199254740991"], json!(9_007_199_254_740_991_i64)),
        (&["/f", "f", "0.25"], json!(0.25)),
        (&["/d", "d", "0.1"], json!(0.1)),
        (&["/s", "s", "hello"], json!("hello")),
        (&["/T", "T"], json!(true)),
        (&["/F", "F"], json!(false)),
        (&["/none"], json!(null)),
        (&["/many", "ifs", "1", "0.5", "two"], json!([1, 0.5, "two"])),
    ];
    for (arguments, value) in cases {
        oscsend(stage.ports.osc, arguments);
        assert_eq!(page.heard_at(&format!("/osc{}", arguments[0])), value, "{arguments:?}");
    }
}

#[test]
fn a_bridge_of_its_own_joins_a_router() {
    let router = Router::start(&["--shards", "2"]);
    let [osc, tablet] = free_udp_ports();
    let mut bridge = Command::new(clasp_rt());
    bridge.args(["osc", "--port", &osc.to_string(), "--router", &router.url()]);
    let _bridge = Program::start(bridge.args(["--target", &format!("127.0.0.1:{tablet}")]));
    let mut page = Peer::join(Client::JavaScript, &router.url());
    page.ask(json!({"command": "on", "pattern": "/osc/**"}));
    let tablet = oscdump(&tablet.to_string());
    eventually("the tablet hears the page", || {
        page.ask(json!({"command": "set", "address": "/osc/led", "value": 1}));
        tablet.try_line()
    });
    oscsend(osc, &["/1/fader1", "f", "0.5"]);
    assert_eq!(page.heard_at("/osc/1/fader1"), json!(0.5));
}

struct Stage {
    router: Router,
    ports: Ports,
}

struct Ports {
    /// Where the router listens for OSC.
    osc: u16,
    /// Where the tablet listens.
    tablet: u16,
    /// Where the router listens for Art-Net.
    artnet: u16,
    /// Where the lamp listens.
    lamp: u16,
}

impl Stage {
    fn new() -> Self {
        let [osc, tablet, artnet, lamp] = free_udp_ports();
        let config = format!(
            r#"
            [[bridge]]
            type = "osc"
            bind = "127.0.0.1:{osc}"
            targets = ["127.0.0.1:{tablet}"]

            [[bridge]]
            type = "artnet"
            bind = "127.0.0.1:{artnet}"
            targets = ["127.0.0.1:{lamp}"]

            [[route]]
            from = "/osc/1/fader*"
            to = "/artnet/0/{{1}}"
            transform = [
                {{ type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 255 }},
                {{ type = "round", decimals = 0 }},
                {{ type = "to_int" }},
            ]
            "#
        );
        let router = Router::with_config(&config, &["--shards", "2"]);
        Self { router, ports: Ports { osc, tablet, artnet, lamp } }
    }
}

/// stupidArtnet, as a desk or as a lamp.
fn stupid_artnet() -> Library {
    Library::python_here("artnet_peer.py")
}

fn oscsend(port: u16, message: &[&str]) {
    liblo::oscsend(&["127.0.0.1", &port.to_string()], message);
}

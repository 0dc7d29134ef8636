//! Art-Net with real peers, on a network of their own: OLA, dmxnet and stupidArtnet, both ways.
//!
//! tshark reads what we send, so that neither our decoder nor a peer's good nature is the judge.

use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::library::Library;
use clasp_rt_tests::net::{self, DESKS, Desks, STAGE};
use clasp_rt_tests::ola::Ola;
use clasp_rt_tests::peer::{Client, Peer};
use clasp_rt_tests::program::{Program, clasp_rt, run};
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// A second address of the desks' host.
const OTHER_DESK: &str = "10.99.0.3";

/// OLA sends by unicast, to the nodes that list a universe; its own universes are those of the
/// network.
const OLA: &str = "ip = 10.99.0.2\nalways_broadcast = false\nuse_loopback = false\nnet = 0\n\
                   subnet = 0\ninput_ports = 4\noutput_ports = 4\n";

#[test]
fn ola_finds_us_and_sends_us_what_we_list() {
    net::of_its_own("ola_finds_us_and_sends_us_what_we_list", |desks| {
        // Bound to one address, it hears the polls all the same.
        let options = "inputs = \"0-3\"\nshort_name = \"stage left\"";
        let (_router, mut page) = stage(&format!("bind = \"{STAGE}:6454\"\n{options}"));
        let ola = Ola::start(desks, "artnet", OLA, "ArtNet");
        ola.command("ola_patch", &["-d", &ola.device, "-p", "0", "-u", "1"]);
        eventually("OLA lists us for universe 1", || {
            let listed = ola.command("ola_artnet", &["-d", &ola.device, "-u", "1"]);
            listed.contains(STAGE).then_some(())
        });
        eventually("OLA's levels arrive", || {
            ola.command("ola_set_dmx", &["-u", "1", "-d", "11,22,33"]);
            (get(&mut page, "/artnet/1/3") == json!(33)).then_some(())
        });
        // What came in is not sent out as ours.
        assert_eq!(get(&mut page, "/artnet/1/1"), json!(11));
        eventually("the router knows OLA", || {
            let name = get(&mut page, &format!("/artnet/nodes/{DESKS}/name"));
            name.as_str().is_some_and(|name| name.starts_with("OLA")).then_some(())
        });
        let inputs = get(&mut page, &format!("/artnet/nodes/{DESKS}/inputs"));
        assert!(inputs.as_array().is_some_and(|all| all.contains(&json!(1))), "{inputs}");
    });
}

#[test]
fn ola_gets_the_universes_that_it_lists() {
    net::of_its_own("ola_gets_the_universes_that_it_lists", |desks| {
        let (_router, mut page) = stage("");
        let ola = Ola::start(desks, "artnet", OLA, "ArtNet");
        ola.command("ola_patch", &["-i", "-d", &ola.device, "-p", "0", "-u", "11"]);
        page.ask(json!({"command": "set", "address": "/artnet/11/8", "value": 64}));
        page.ask(json!({"command": "set", "address": "/artnet/11/1", "value": 200}));
        let wanted = [200, 0, 0, 0, 0, 0, 0, 64].map(Json::from);
        eventually("OLA has the levels", || ola.levels(11).starts_with(&wanted).then_some(()));
    });
}

#[test]
fn time_code_and_devices_of_ola_arrive() {
    net::of_its_own("time_code_and_devices_of_ola_arrive", |desks| {
        let (_router, mut page) = stage("");
        let ola = Ola::start(desks, "artnet", OLA, "ArtNet");
        ola.command("ola_patch", &["-d", &ola.device, "-p", "0", "-u", "1"]);
        eventually("OLA's time code arrives", || {
            ola.command("ola_timecode", &["--format", "EBU", "21:30:59:24"]);
            (get(&mut page, "/artnet/timecode") == json!("21:30:59:24")).then_some(())
        });
        assert_eq!(get(&mut page, "/artnet/timecode/rate").as_f64(), Some(25.0));
        // OLA asks whoever is there for devices; a page answers, and OLA lists them.
        run(desks.command("ola_rdm_discover").args(["-u", "1", "-f"]));
        let asked = page.heard_at("/artnet/rdm/1");
        assert_eq!(asked["from"], json!(format!("{DESKS}:6454")), "{asked}");
        eventually("OLA has the device", || {
            run(desks.command("ola_rdm_discover").args(["-u", "1", "-f"]));
            page.ask(json!({"command": "emit", "address": "/artnet/rdm/1", "value": {
                "type": "tod_data", "uids": {"$bytes": "7ff000000001"}
            }}));
            let listed = run(desks.command("ola_rdm_discover").args(["-u", "1"]));
            String::from_utf8_lossy(&listed.stdout).contains("7ff0:00000001").then_some(())
        });
    });
}

#[test]
fn dmxnet_and_stupid_artnet_are_heard_and_hear() {
    net::of_its_own("dmxnet_and_stupid_artnet_are_heard_and_hear", |desks| {
        let (_router, mut page) = stage(&format!("targets = [\"{DESKS}:7000\"]"));
        let mut node = Library::node(desks, "artnet_peer.mjs");
        node.ask(json!({"command": "listen", "universe": 2}));
        let mut python = Library::python(desks, "artnet_peer.py");
        python.ask(json!({"command": "listen", "universe": 2, "port": 7000}));
        page.ask(json!({"command": "set", "address": "/artnet/2/3", "value": 77}));
        for library in [&node, &python] {
            library.packet_where(|levels| levels.get(2) == Some(&json!(77)));
        }
        let name = format!("/artnet/nodes/{DESKS}/name");
        eventually("dmxnet is known", || (get(&mut page, &name) == json!("dmxnet")).then_some(()));
        let levels = [9, 8, 7, 6];
        python.ask(json!({
            "command": "send", "host": STAGE, "port": 6454, "universe": 4, "levels": levels
        }));
        node.ask(json!({"command": "send", "host": STAGE, "universe": 5, "levels": levels}));
        for universe in [4, 5] {
            eventually("the levels arrive", || {
                let last = get(&mut page, &format!("/artnet/{universe}/4"));
                (last == json!(6)).then_some(())
            });
        }
    });
}

#[test]
fn two_desks_merge_and_a_sync_holds_a_look_together() {
    net::of_its_own("two_desks_merge_and_a_sync_holds_a_look_together", |desks| {
        let (_router, mut page) = stage("inputs = \"0-3\"");
        let alias = ["addr", "add", "10.99.0.3/24", "dev", "desks"];
        assert!(run(desks.command("ip").args(alias)).status.success());
        let ola = Ola::start(desks, "artnet", OLA, "ArtNet");
        ola.command("ola_patch", &["-d", &ola.device, "-p", "0", "-u", "1"]);
        eventually("OLA's levels arrive", || {
            ola.command("ola_set_dmx", &["-u", "1", "-d", "10,200"]);
            (get(&mut page, "/artnet/1/2") == json!(200)).then_some(())
        });
        let mut python = Library::python(desks, "artnet_peer.py");
        let desk = |universe: u8, levels: [u8; 2], sync: bool| {
            json!({
                "command": "send", "host": STAGE, "source": OTHER_DESK, "port": 6454,
                "universe": universe, "levels": levels, "sync": sync
            })
        };
        python.ask(desk(1, [100, 20], false));
        eventually("the highest of both", || {
            let look = [1, 2].map(|slot| get(&mut page, &format!("/artnet/1/{slot}")));
            (look == [json!(100), json!(200)]).then_some(())
        });
        // The first sync says that looks are to be held from now on.
        python.ask(desk(2, [1, 1], true));
        python.ask(desk(2, [5, 5], false));
        python.ask(desk(3, [5, 5], true));
        for universe in [2, 3] {
            while page.heard_at(&format!("/artnet/{universe}/1")) != json!(5) {}
        }
    });
}

#[test]
fn tshark_understands_whatever_we_send() {
    net::of_its_own("tshark_understands_whatever_we_send", |desks| {
        let options = "inputs = \"0-3\"\nsync = true\nshort_name = \"stage left\"\n\
                       mac = \"02:00:5e:10:00:01\"\ndiagnostics = true";
        let (_router, mut page) = stage(&format!("{options}\ntargets = [\"{DESKS}\"]"));
        let mut shark = Shark::start(desks);
        page.ask(json!({"command": "set", "address": "/artnet/291/1", "value": 200}));
        let dmx = shark.packet_where(|packet| packet.opcode == "0x5000");
        assert_eq!((dmx.universe.as_str(), dmx.length.as_str()), ("291", "2"));
        shark.packet_where(|packet| packet.opcode == "0x5200");
        shark.packet_where(|packet| packet.opcode == "0x2000");
        page.ask(json!({"command": "set", "address": "/artnet/timecode", "value": "01:02:03:04"}));
        shark.packet_where(|packet| packet.opcode == "0x9700");
        page.ask(json!({"command": "emit", "address": "/artnet/trigger/show", "value": 12}));
        let trigger = shark.packet_where(|packet| packet.opcode == "0x9900");
        assert_eq!((trigger.key.as_str(), trigger.sub_key.as_str()), ("0x03", "0x0c"));
        page.ask(json!({"command": "emit", "address": "/artnet/command", "value": "SwinText=a&"}));
        shark.packet_where(|packet| packet.opcode == "0x2400");
        let nzs = json!({"$bytes": "74657874"});
        page.ask(json!({"command": "emit", "address": "/artnet/nzs/1/23", "value": nzs}));
        shark.packet_where(|packet| packet.opcode == "0x5100");
        for (kind, opcode) in [("tod_request", "0x8000"), ("tod_control", "0x8200")] {
            let event = json!({"type": kind, "command": 1});
            page.ask(json!({"command": "emit", "address": "/artnet/rdm/1", "value": event}));
            shark.packet_where(|packet| packet.opcode == opcode);
        }
        let message = "01187ff0000000017ff000000009000100000020006000044e";
        let event = json!({"type": "rdm", "data": {"$bytes": message}});
        page.ask(json!({"command": "emit", "address": "/artnet/rdm/1", "value": event}));
        let rdm = shark.packet_where(|packet| packet.opcode == "0x8300");
        assert_eq!(rdm.device_info, "0x0060", "the RDM inside is understood, too");
        // What a controller gets: packets of the standard's tables, sent from the desks' host.
        for (name, opcode) in [
            ("poll-targeted", "0x2100"),
            ("ip-prog", "0xf900"),
            ("address-cancel-merge", "0x2100"),
            ("input", "0x2100"),
        ] {
            send_golden(desks, name);
            shark.packet_where(|packet| packet.opcode == opcode);
        }
        send_golden(desks, "poll-all");
        let reply = shark.packet_where(|packet| packet.bind_index == "0x01");
        assert_eq!((reply.name.as_str(), reply.ip.as_str()), ("stage left", STAGE));
        assert_eq!(reply.mac, "02:00:5e:10:00:01");
        assert!(reply.report.starts_with("#0001 ["), "{}", reply.report);
    });
}

#[test]
fn a_bridge_of_its_own_speaks_art_net_for_a_router() {
    net::of_its_own("a_bridge_of_its_own_speaks_art_net_for_a_router", |desks| {
        let router = Router::start(&["--shards", "1"]);
        let mut page = watch(&router);
        let mut node = Library::node(desks, "artnet_peer.mjs");
        node.ask(json!({"command": "listen", "universe": 2}));
        let mut bridge = Command::new(clasp_rt());
        bridge.args([
            "artnet",
            "--universes",
            "0-7",
            "--interface",
            STAGE,
            "--broadcast",
            "10.99.0.255",
        ]);
        let _bridge = Program::start(bridge.args(["--router", &router.url()]));
        page.ask(json!({"command": "set", "address": "/artnet/2/3", "value": 77}));
        node.packet_where(|levels| levels.get(2) == Some(&json!(77)));
        node.ask(json!({"command": "send", "host": STAGE, "universe": 5, "levels": [1, 2]}));
        eventually("the levels arrive", || {
            (get(&mut page, "/artnet/5/2") == json!(2)).then_some(())
        });
    });
}

/// A router with an Art-Net bridge that looks for nodes on the whole network, and a page.
fn stage(options: &str) -> (Router, Peer) {
    let config = format!("[[bridge]]\ntype = \"artnet\"\nbroadcast = \"10.99.0.255\"\n{options}\n");
    let router = Router::with_config(&config, &["--shards", "1"]);
    let page = watch(&router);
    (router, page)
}

/// A page that follows all of Art-Net.
fn watch(router: &Router) -> Peer {
    let mut page = Peer::join(Client::JavaScript, &router.url());
    page.ask(json!({"command": "on", "pattern": "/artnet/**"}));
    page
}

/// What the page last heard of an address; null: nothing yet.
fn get(page: &mut Peer, address: &str) -> Json {
    page.ask(json!({"command": "cached", "address": address}))
}

/// Sends a golden packet of the standard's tables to the router, from the port of Art-Net.
fn send_golden(desks: &Desks, name: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bridges/vectors/artnet");
    let packet = match name {
        "poll-all" => format!("{folder}/qlcplus-poll.bin"),
        name => format!("{folder}/table-{name}.bin"),
    };
    let send = format!(
        "import socket as s; o = s.socket(s.AF_INET, s.SOCK_DGRAM); \
         o.setsockopt(s.SOL_SOCKET, s.SO_REUSEADDR, 1); o.bind(('{DESKS}', 6454)); \
         o.sendto(open('{packet}', 'rb').read(), ('{STAGE}', 6454))"
    );
    let output = run(desks.command("python3").args(["-c", &send]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// tshark, which listens on the desks' end of the cable.
struct Shark(Program);

/// What it says of a packet: empty where the packet has no such field.
#[derive(Debug)]
struct Dissected {
    opcode: String,
    universe: String,
    length: String,
    name: String,
    report: String,
    mac: String,
    ip: String,
    bind_index: String,
    key: String,
    sub_key: String,
    device_info: String,
    malformed: String,
}

impl Shark {
    fn start(desks: &Desks) -> Self {
        const FIELDS: [&str; 12] = [
            "artnet.header.opcode",
            "artnet.output.universe",
            "artnet.output.length",
            "artnet.poll_reply.short_name",
            "artnet.poll_reply.node_report",
            "artnet.poll_reply.mac",
            "artnet.poll_reply.bind_ip_address",
            "artnet.poll_reply.bind_index",
            "artnet.trigger.key",
            "artnet.trigger.subkey",
            "rdm.pid",
            "_ws.malformed",
        ];
        let mut command = desks.command("tshark");
        command.args(["-l", "-n", "-i", "desks", "-f", "udp port 6454 and src host 10.99.0.1"]);
        command.args(["-T", "fields"]).args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let shark = Self(Program::start(&mut command));
        eventually("tshark listens", || shark.0.errors().contains("Capturing on").then_some(()));
        shark
    }

    /// The first packet that is `wanted`; none before it may be malformed.
    fn packet_where(&mut self, wanted: impl Fn(&Dissected) -> bool) -> Dissected {
        let line = self.0.line_where(|line| {
            let packet = Dissected::read(line);
            assert_eq!(packet.malformed, "", "{packet:?}");
            wanted(&packet)
        });
        Dissected::read(&line)
    }
}

impl Dissected {
    fn read(line: &str) -> Self {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            opcode: next(),
            universe: next(),
            length: next(),
            name: next(),
            report: next(),
            mac: next(),
            ip: next(),
            bind_index: next(),
            key: next(),
            sub_key: next(),
            device_info: next(),
            malformed: next(),
        }
    }
}

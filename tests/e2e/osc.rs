//! OSC with programs of others: liblo, python-osc and osc.js, over UDP and TCP, and OSCQuery with
//! curl, a WebSocket of Python and zeroconf.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use clasp_rt_tests::eventually;
use clasp_rt_tests::liblo::{oscdump, oscsend};
use clasp_rt_tests::net::{self, DESKS, STAGE};
use clasp_rt_tests::ports::{free_tcp_ports, free_udp_ports};
use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
use clasp_rt_tests::raw::Raw;
use clasp_rt_tests::router::Router;
use serde_json::{Value as Json, json};

/// Every type that oscsend knows, as it prints them.
const ALL: [&str; 12] = [
    "/all",
    "ifsSThdcTFNI",
    "42",
    "0.25",
    "hello",
    "sym",
    "9007199254740993",
    "3.14159",
    "x",
    "",
    "",
    "",
];
const ALL_SEEN: &str = "/all ifsSThdcTFNI 42 0.250000 \"hello\" 'sym #T 9007199254740993 3.141590 \
                        'x' #T #F Nil Infinitum";

#[test]
fn what_oscsend_sends_reaches_oscdump_with_its_type_tags() {
    let [dump] = free_udp_ports();
    // At another address: what listens where a message came from is taken for its sender.
    let stage = Stage::new(&format!("targets = [\"127.0.0.2:{dump}\"]"));
    let dump = oscdump(&dump.to_string());
    let arguments: Vec<_> = ALL.iter().filter(|text| !text.is_empty()).copied().collect();
    let line = eventually("oscdump prints it", || {
        oscsend(&["127.0.0.1", &stage.osc.to_string()], &arguments);
        dump.try_line()
    });
    assert!(line.ends_with(ALL_SEEN), "{line}");
    oscsend(&["127.0.0.1", &stage.osc.to_string()], &["/midi", "m", "00903c7f"]);
    let line = dump.line_where(|line| line.contains("/midi"));
    assert!(line.ends_with("/midi m MIDI [0x00 0x90 0x3c 0x7f]"), "{line}");
}

#[test]
fn tshark_understands_what_we_send() {
    net::of_its_own("tshark_understands_what_we_send", |desks| {
        let config = format!(
            "[[bridge]]\ntype = \"osc\"\nbind = \"{STAGE}:9000\"\ntargets = [\"{DESKS}:9001\"]\n"
        );
        let router = Router::with_config(&config, &["--shards", "2"]);
        let fields = [
            "osc.message.header.path",
            "osc.message.header.format",
            "osc.message.int32",
            "osc.message.float",
            "osc.message.string",
            "osc.message.int64",
            "osc.message.double",
            "osc.bundle.element.size",
            "_ws.malformed",
        ];
        let mut command = desks.command("tshark");
        command.args(["-l", "-n", "-i", "desks", "-f", "udp dst port 9001", "-T", "fields"]);
        command.args(["--enable-heuristic", "osc_udp"]);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        let mut shark = Program::start(&mut command);
        eventually("tshark listens", || shark.errors().contains("Capturing on").then_some(()));
        let arguments: Vec<_> = ALL.iter().filter(|text| !text.is_empty()).copied().collect();
        let line = eventually("tshark prints it", || {
            oscsend(&[STAGE, "9000"], &arguments);
            shark.try_line().filter(|line| line.starts_with("/all"))
        });
        let seen: Vec<_> = line.split('\t').collect();
        assert_eq!(seen[1], ",ifsSThdcTFNI", "{line}");
        assert_eq!(seen[2..4], ["42", "0.25"], "{line}");
        assert_eq!(seen[4], "hello", "{line}");
        assert_eq!(seen[5..7], ["9007199254740993", "3.14159"], "{line}");
        let values = [json!(1), json!(2)].map(|value| {
            let address = format!("/osc/b/{value}");
            json!({"type": "SET", "address": address, "value": value})
        });
        let mut page = router.join("page");
        // Those that are sent before both shards know of the bridge arrive in part.
        let line = eventually("the bundle", || {
            page.send(json!({"type": "BUNDLE", "messages": values}));
            shark.try_line().filter(|line| line.starts_with("/b/1,/b/2"))
        });
        let seen: Vec<_> = line.split('\t').collect();
        assert_eq!((seen[0], seen[2], seen[7]), ("/b/1,/b/2", "1,2", "16,16"), "{line}");
        // It has a program of its own that captures, and must be the one to end it.
        shark.terminate();
    });
}

#[test]
fn a_value_goes_back_to_a_desk_with_the_tags_that_the_desk_used() {
    let [dump] = free_udp_ports();
    let stage = Stage::new(&format!("targets = [\"127.0.0.1:{dump}\"]\nrelay = false"));
    let dump = oscdump(&dump.to_string());
    let mut page = stage.page("/osc/**");
    let cases = [
        (["/d", "d", "0.5"], json!(0.25), "/d d 0.250000"),
        (["/h", "h", "5"], json!(6), "/h h 6"),
        (["/c", "c", "x"], json!("y"), "/c c 'y'"),
        (["/S", "S", "sym"], json!("other"), "/S S 'other"),
        (["/m", "m", "00903c7f"], json!([0, 128, 60, 0]), "/m m MIDI [0x00 0x80 0x3c 0x00]"),
    ];
    for (sent, value, seen) in cases {
        oscsend(&["127.0.0.1", &stage.osc.to_string()], &sent);
        let address = format!("/osc{}", sent[0]);
        value_where(&mut page, &address, |_| true);
        eventually(seen, || {
            // oscdump may have begun after the first.
            page.send(json!({"type": "SET", "address": address, "value": value}));
            dump.try_line().filter(|line| line.ends_with(seen))
        });
    }
}

#[test]
fn a_bundle_waits_for_its_time_as_one_unit() {
    let stage = Stage::new("");
    let mut page = stage.page("/osc/**");
    let mut python = Python::start();
    let at = unix_time() + 0.4;
    let messages = json!([["/a", [1]], ["/b", [2]]]);
    python.ask(json!({
        "command": "bundle", "port": stage.osc, "at": at, "messages": messages
    }));
    python.ask(json!({
        "command": "send", "port": stage.osc, "address": "/now", "args": [3]
    }));
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let set = page.receive_where(|message| message["type"] == "SET");
        let name = set["address"].as_str().expect("an address").to_owned();
        assert!(name == "/osc/now" || unix_time() >= at, "{name} was set before its time");
        seen.push((name, set["value"].clone()));
    }
    seen.retain(|(name, _)| name != "/osc/now");
    let whole = [("/osc/a".to_owned(), json!(1)), ("/osc/b".to_owned(), json!(2))];
    assert_eq!(seen, whole);
    // A time that is over, and none at all, is now.
    for at in [json!(1.0), json!(null)] {
        let messages = json!([["/late", [7]]]);
        python.ask(json!({
            "command": "bundle", "port": stage.osc, "at": at, "messages": messages
        }));
        value_where(&mut page, "/osc/late", |value| *value == json!(7));
    }
}

#[test]
fn the_messages_of_a_bundle_leave_as_one_bundle() {
    let [program] = free_udp_ports();
    let stage = Stage::new(&format!("targets = [\"127.0.0.1:{program}\"]"));
    let osc = OscJs::open(program);
    let mut page = stage.page("/nothing");
    let messages = json!([
        {"type": "SET", "address": "/osc/cue/a", "value": 1},
        {"type": "SET", "address": "/osc/cue/b", "value": 0.5},
        {"type": "PUBLISH", "address": "/osc/cue/go", "signal": "event", "value": true},
    ]);
    // Those that are sent before both shards know of the bridge arrive in part.
    let bundle = eventually("the bundle", || {
        page.send(json!({"type": "BUNDLE", "messages": messages}));
        let packets = |heard: &Json| heard["packets"].as_array().map_or(0, Vec::len);
        osc.try_heard().filter(|heard| packets(heard) == 3)
    });
    let packets = bundle["packets"].as_array().expect("a bundle");
    let told: Vec<_> = packets
        .iter()
        .map(|packet| (packet["address"].clone(), packet["args"][0]["type"].clone()))
        .collect();
    let wanted = [("/cue/a", "i"), ("/cue/b", "f"), ("/cue/go", "T")];
    let wanted = wanted.map(|(name, tag)| (json!(name), json!(tag)));
    assert_eq!(told, wanted, "{bundle}");
}

#[test]
fn colours_times_and_64_bits_of_osc_js_arrive_and_come_back() {
    let [program] = free_udp_ports();
    let stage = Stage::new("reply = \"sender\"\nrelay = false");
    let mut page = stage.page("/osc/**");
    let mut osc = OscJs::open(program);
    let colour = json!({"type": "r", "value": {"r": 255, "g": 16, "b": 0, "a": 1}});
    let long = json!({"type": "h", "value": {"high": 2_097_152, "low": 1, "unsigned": false}});
    let packets = json!([
        {"address": "/colour", "args": [colour]},
        {"address": "/long", "args": [long]},
    ]);
    let time = json!({"raw": [0, 1]});
    osc.send(stage.osc, &json!({"timeTag": time, "packets": packets}));
    assert_eq!(value_where(&mut page, "/osc/colour", |_| true), json!([255, 16, 0, 255]));
    assert_eq!(value_where(&mut page, "/osc/long", |_| true), json!(9_007_199_254_740_993_i64));
    page.send(json!({"type": "SET", "address": "/osc/colour", "value": [0, 32, 64, 0.0]}));
    let back = osc.heard();
    assert_eq!(back["address"], "/colour");
    assert_eq!(back["args"][0]["type"], "r", "{back}");
    assert_eq!(back["args"][0]["value"]["g"], 32, "{back}");
}

#[test]
fn both_framings_share_one_tcp_port_and_each_is_answered_alike() {
    let [tcp] = free_tcp_ports();
    let stage = Stage::new(&format!("listen_tcp = \"127.0.0.1:{tcp}\"\nrelay = false"));
    let mut page = stage.page("/osc/**");
    let mut callers = ["1.0", "1.1"].map(|mode| {
        let mut python = Python::start();
        python.ask(json!({"command": "call", "port": tcp, "mode": mode}));
        // The octets that SLIP escapes are in the number.
        let args = json!([0x00C0_DBDC, 0.5, "text"]);
        let address = format!("/mode/{mode}");
        python.ask(json!({"command": "say", "address": address, "args": args}));
        let heard = value_where(&mut page, &format!("/osc{address}"), |_| true);
        assert_eq!(heard, args, "mode {mode}");
        python
    });
    page.send(json!({"type": "SET", "address": "/osc/led", "value": 192}));
    for caller in &mut callers {
        assert_eq!(caller.heard(), json!({"heard": "/led", "args": [192]}));
    }
    oscsend(&[&format!("osc.tcp://127.0.0.1:{tcp}")], &["/tcp/x", "fs", "1.5", "abc"]);
    assert_eq!(value_where(&mut page, "/osc/tcp/x", |_| true), json!([1.5, "abc"]));
}

#[test]
fn targets_over_tcp_are_told_what_is_known_whenever_they_come() {
    let [length, slip] = free_tcp_ports();
    let stage = Stage::new(&format!(
        "targets = [\"tcp://127.0.0.1:{length}\", \"slip://127.0.0.1:{slip}\"]"
    ));
    let mut page = stage.page("/nothing");
    page.send(json!({"type": "SET", "address": "/osc/fader", "value": 0.75}));
    let url = format!("osc.tcp://:{length}");
    for _ in 0..2 {
        let mut dump = oscdump(&url);
        let line = dump.line_where(|line| line.contains("/fader"));
        assert!(line.ends_with("/fader f 0.750000"), "{line}");
        dump.kill();
    }
    let mut python = Python::start();
    python.ask(json!({"command": "listen_tcp", "port": slip, "mode": "1.1"}));
    assert_eq!(python.heard(), json!({"heard": "/fader", "args": [0.75]}));
    page.send(json!({"type": "SET", "address": "/osc/fader", "value": 0.5}));
    assert_eq!(python.heard(), json!({"heard": "/fader", "args": [0.5]}));
}

#[test]
fn each_target_is_told_its_part_by_its_names() {
    let [mixer, video] = free_udp_ports();
    let stage = Stage::new(&format!(
        "[[bridge.target]]\nto = \"127.0.0.1:{mixer}\"\nstrip = \"/x32\"\nbundles = false\n\
         [[bridge.target]]\nto = \"localhost:{video}\"\npattern = \"/osc/video/*/opacity\"\n\
         template = \"/layer{{1}}/video/opacity\"\n"
    ));
    let (mixer, video) = (oscdump(&mixer.to_string()), oscdump(&video.to_string()));
    let mut page = stage.page("/nothing");
    let lines = eventually("both print", || {
        for (address, value) in [("x32/ch/01/mix/fader", 0.5), ("video/3/opacity", 0.25)] {
            let address = format!("/osc/{address}");
            page.send(json!({"type": "SET", "address": address, "value": value}));
        }
        mixer.try_line().zip(video.try_line())
    });
    assert!(lines.0.ends_with("/ch/01/mix/fader f 0.500000"), "{lines:?}");
    assert!(lines.1.ends_with("/layer3/video/opacity f 0.250000"), "{lines:?}");
}

#[test]
fn a_program_asks_for_what_an_address_holds() {
    let [program] = free_udp_ports();
    let stage = Stage::new("query = true");
    let mut page = stage.page("/osc/**");
    page.send(json!({"type": "SET", "address": "/osc/1/fader1", "value": 0.5}));
    let mut osc = OscJs::open(program);
    let told = eventually("it is told", || {
        osc.send(stage.osc, &json!({"address": "/1/*", "args": []}));
        osc.try_heard()
    });
    assert_eq!(told["address"], "/1/fader1");
    assert_eq!(told["args"][0]["value"], 0.5);
}

#[test]
fn curl_and_a_page_see_the_addresses_by_oscquery() {
    let [http] = free_tcp_ports();
    let stage = Stage::new(&format!(
        "oscquery = \"127.0.0.1:{http}\"\n\
         ranges = [{{ pattern = \"/osc/*/fader*\", min = 0.0, max = 1.0 }}]"
    ));
    let mut page = stage.page("/osc/**");
    page.send(json!({"type": "SET", "address": "/osc/1/fader1", "value": 0.5}));
    // Until the router has told it, the answer is an empty object.
    let known = |node: &Json| node["FULL_PATH"].is_string();
    let node = eventually("the node", || Some(curl(http, "/1/fader1")).filter(known));
    let expected = json!({
        "FULL_PATH": "/1/fader1", "ACCESS": 3, "TYPE": "f", "VALUE": [0.5],
        "RANGE": [{"MIN": 0.0, "MAX": 1.0}],
    });
    assert_eq!(node, expected);
    assert_eq!(curl(http, "/")["CONTENTS"]["1"]["CONTENTS"]["fader1"], expected);
    assert_eq!(curl(http, "/1/fader1?VALUE"), json!({"VALUE": [0.5]}));
    assert_eq!(curl(http, "/?HOST_INFO")["OSC_PORT"], stage.osc);
    let mut python = Python::start();
    python.ask(json!({"command": "page", "port": http, "listen": "/1/fader1"}));
    let heard = eventually("the page hears", || {
        page.send(json!({"type": "SET", "address": "/osc/1/fader1", "value": 0.25}));
        python.try_heard()
    });
    assert_eq!(heard, json!({"heard": "/1/fader1", "args": [0.25]}));
}

#[test]
fn zeroconf_finds_osc_and_oscquery_and_hears_their_good_bye() {
    let [http] = free_tcp_ports();
    let stage = Stage::new(&format!("oscquery = \"127.0.0.1:{http}\"\nmdns = true"));
    let osc = stage.osc;
    let mut pythons = [("_oscjson._tcp", http), ("_osc._udp", osc)].map(|(service, port)| {
        let mut python = Python::start();
        python.ask(json!({"command": "browse", "service": format!("{service}.local.")}));
        let port = format!("\"port\": {port}");
        // Routers of other tests may be announced, too.
        let line = python.0.line_where(|line| line.contains("found") && line.contains(&port));
        let found: Json = serde_json::from_str(&line).expect("a line of JSON");
        (python, found["found"].as_str().expect("a name").to_owned())
    });
    assert!(stage.router.terminate().success());
    for (python, name) in &mut pythons {
        python.0.line_where(|line| line.contains("gone") && line.contains(name.as_str()));
    }
}

#[test]
fn a_bridge_of_its_own_takes_tcp_questions_and_oscquery_by_flags() {
    let router = Router::start(&["--shards", "2"]);
    // Those that are free for TCP: the kernel gives out others to connections.
    let [port, http] = free_tcp_ports();
    let mut bridge = Command::new(clasp_rt());
    bridge.args(["osc", "--bind", "127.0.0.1", "--port", &port.to_string()]);
    bridge.args(["--transport", "tcp", "--query", "--oscquery", &http.to_string()]);
    let _bridge = Program::start(bridge.args(["--router", &router.url()]));
    let mut page = page(&router, "/osc/**");
    page.send(json!({"type": "SET", "address": "/osc/led", "value": 1}));
    let node = eventually("the node", || {
        let output = Command::new("curl")
            .args(["-sf", &format!("http://127.0.0.1:{http}/led?VALUE")])
            .output()
            .expect("curl runs");
        serde_json::from_slice::<Json>(&output.stdout).ok()
    });
    assert_eq!(node, json!({"VALUE": [1]}));
    let mut python = Python::start();
    python.ask(json!({"command": "call", "port": port, "mode": "1.0"}));
    python.tell(json!({"command": "say", "address": "/led", "args": []}));
    assert_eq!(python.heard(), json!({"heard": "/led", "args": [1]}));
}

#[test]
fn what_a_bridge_sends_to_its_own_socket_is_not_taken_for_a_device() {
    let [osc] = free_udp_ports();
    // A program of this machine that sends from anywhere is answered at our own port.
    let config = format!(
        "[[bridge]]\ntype = \"osc\"\nbind = \"0.0.0.0:{osc}\"\nreply = {osc}\n\
         [[arbitration]]\npattern = \"/osc/**\"\nrule = \"htp\"\n"
    );
    let router = Router::with_config(&config, &["--metrics", "127.0.0.1:0"]);
    let mut page = page(&router, "/osc/**");
    oscsend(&["127.0.0.1", &osc.to_string()], &["/there", "i", "1"]);
    value_where(&mut page, "/osc/there", |_| true);
    for (count, value) in [(1, 200), (2, 0)] {
        page.send(json!({"type": "SET", "address": "/osc/x", "value": value}));
        router.counters_where(|counters| counters.of_bridges(0, "datagrams_own") == count);
    }
    page.send(json!({"type": "GET", "address": "/osc/x"}));
    let held = page.receive_where(|message| message["type"] == "SNAPSHOT");
    assert_eq!(held["params"][0]["value"], 0, "nobody else wants it: {held}");
}

struct Stage {
    router: Router,
    /// Where it listens for OSC by UDP.
    osc: u16,
}

impl Stage {
    /// A router with an OSC bridge of these keys.
    fn new(keys: &str) -> Self {
        let [osc] = free_udp_ports();
        let config = format!("[[bridge]]\ntype = \"osc\"\nbind = \"127.0.0.1:{osc}\"\n{keys}\n");
        Self { router: Router::with_config(&config, &["--shards", "2"]), osc }
    }

    /// A client that is subscribed to `pattern`.
    fn page(&self, pattern: &str) -> Raw {
        page(&self.router, pattern)
    }
}

fn page(router: &Router, pattern: &str) -> Raw {
    let mut page = router.join("page");
    page.send(json!({"type": "SUBSCRIBE", "id": 1, "pattern": pattern}));
    page
}

/// The first value of an address that `wanted` accepts, whether it was held or is new.
fn value_where(page: &mut Raw, address: &str, wanted: impl Fn(&Json) -> bool) -> Json {
    loop {
        let message = page.receive();
        let params = message["params"].as_array().cloned().unwrap_or_default();
        let mut told = params.iter().chain([&message]);
        let is_wanted = |told: &&Json| told["address"] == address && wanted(&told["value"]);
        if let Some(found) = told.find(is_wanted) {
            return found["value"].clone();
        }
    }
}

/// python-osc, websockets and zeroconf in a program that obeys JSON lines.
struct Python(Program);

impl Python {
    fn start() -> Self {
        let mut command = Command::new(installed("peers/venv/bin/python"));
        Self(Program::start(command.arg(installed("peers/osc_peer.py"))))
    }

    /// Gives a command and waits until it is done; what it hears meanwhile is gone.
    fn ask(&mut self, command: Json) {
        self.tell(command);
        self.0.line_where(|line| line.contains("\"done\""));
    }

    fn tell(&mut self, command: Json) {
        self.0.write_line(&command.to_string());
    }

    /// The next message that it hears.
    fn heard(&self) -> Json {
        let line = self.0.line_where(|line| line.contains("\"heard\""));
        serde_json::from_str(&line).expect("a line of JSON")
    }

    fn try_heard(&self) -> Option<Json> {
        let line = self.0.try_line().filter(|line| line.contains("\"heard\""))?;
        Some(serde_json::from_str(&line).expect("a line of JSON"))
    }
}

/// osc.js in a program that obeys JSON lines.
struct OscJs(Program);

impl OscJs {
    fn open(port: u16) -> Self {
        let mut command = Command::new("node");
        let mut this = Self(Program::start(command.arg(installed("peers/osc_peer.mjs"))));
        this.ask(json!({"command": "open", "port": port}));
        this
    }

    fn ask(&mut self, command: Json) {
        self.0.write_line(&command.to_string());
        self.0.line_where(|line| line.contains("\"done\""));
    }

    fn send(&mut self, port: u16, packet: &Json) {
        self.0.write_line(&json!({"command": "send", "port": port, "packet": packet}).to_string());
    }

    fn heard(&self) -> Json {
        let line = self.0.line_where(|line| line.contains("\"heard\""));
        serde_json::from_str::<Json>(&line).expect("a line of JSON")["heard"].take()
    }

    fn try_heard(&self) -> Option<Json> {
        let line = self.0.try_line().filter(|line| line.contains("\"heard\""))?;
        Some(serde_json::from_str::<Json>(&line).expect("a line of JSON")["heard"].take())
    }
}

fn curl(port: u16, target: &str) -> Json {
    let url = format!("http://127.0.0.1:{port}{target}");
    let output = run(Command::new("curl").args(["-s", "--globoff", &url]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Json::Null)
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

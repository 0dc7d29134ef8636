//! Whole routers on loopback: real threads, rings and sockets, spoken to by the real client.

mod seats;
mod services;
mod settled;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clasp_rt_bridges::{Bridge, Counters, Input, Out, SocketPlan};
use clasp_rt_client::{Client, Item, SubscribeOptions, Val};
use clasp_rt_core::ShardId;
use clasp_rt_core::limits::{Limits, PEER_ROOM_BYTES};
use clasp_rt_core::message::{Hello, Message, Set};
use clasp_rt_core::shard::Settings;
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::Time;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Features;
use clasp_rt_core::wire::{Scratch, binary, header};
use clasp_rt_link::{Event, Transport, ws::Ws};

use super::*;
use crate::plan_types::Remote;

fn start(threads: Threads) -> Result<Running, Fault> {
    super::start(threads, &mut |_| true)
}

/// Long enough for any machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn limits(shards: u16) -> Limits {
    Limits {
        links_max: 64,
        params_max: 4_096,
        param_bytes_max: 1 << 20,
        outbox_pool_bytes: 4 << 20,
        subscriptions_max: 1_024,
        peers: shards - 1,
        ..Limits::default()
    }
}

fn plan(shards: u16) -> Threads {
    let settings = |id| Settings {
        id: ShardId(id),
        shards,
        limits: limits(shards),
        rate_limit: None,
        ..Settings::default()
    };
    let listeners = vec![
        ListenerPlan { transport: ListenerTransport::WebSocket, addr: ANY_PORT },
        ListenerPlan { transport: ListenerTransport::Tcp, addr: ANY_PORT },
    ];
    Threads {
        shards: (0..shards)
            .map(|id| ShardPlan {
                core: None,
                settings: settings(id),
                listeners: listeners.clone(),
            })
            .collect(),
        bridges: Vec::new(),
        services: Vec::new(),
        guests_max: 0,
        recording: None,
        sessions_max: 50,
        idle: Idle::Park,
        histograms: true,
        lock_memory: false,
        hygiene: Hygiene { fifo_priority: None, busy_poll: Some(Duration::from_micros(20)) },
        exchange_bytes: 1 << 20,
    }
}

fn addr(running: &Running, transport: ListenerTransport) -> SocketAddr {
    running.listening.iter().find(|(kind, _)| *kind == transport).unwrap().1
}

fn url(running: &Running, transport: ListenerTransport) -> String {
    let scheme = match transport {
        ListenerTransport::WebSocket => "ws",
        ListenerTransport::Tcp => "tcp",
    };
    format!("{scheme}://{}", addr(running, transport))
}

fn client(running: &Running, transport: ListenerTransport, name: &str) -> Client {
    let builder = Client::builder(&url(running, transport)).name(name).reconnect(false);
    builder.connect().unwrap()
}

/// Everything that `client` hears of `pattern`, once the router knows the subscription.
fn listen_to(client: &Client, pattern: &str) -> Receiver<(String, Val)> {
    let (tell, told) = channel();
    let options = SubscribeOptions::default();
    let hear = move |update: &clasp_rt_client::Update<'_>| {
        // The test may have heard enough.
        let _ = tell.send((update.address.to_owned(), update.val()));
    };
    client.subscribe(pattern, options, hear).unwrap();
    client.ping(PATIENCE).unwrap();
    told
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::yield_now();
    }
}

fn counter(worker: &Worker, name: &str) -> u64 {
    let mut counters = worker.counters.iter();
    counters.find(|(known, _)| *known == name).map(|(_, total)| total).unwrap()
}

#[test]
fn what_one_transport_writes_another_hears() {
    let running = start(plan(1)).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    let lamp = client(&running, ListenerTransport::WebSocket, "lamp");
    let heard = listen_to(&lamp, "/stage/**");
    for level in 0..200 {
        desk.set("/stage/front/level", level).unwrap();
        let expected = ("/stage/front/level".to_owned(), Val::Int(level));
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), expected);
    }
    assert_eq!(lamp.get("/stage/front/level", PATIENCE).unwrap(), Val::Int(199));
    assert!(running.stop().is_empty());
}

#[test]
fn a_turn_costs_one_system_call_at_most() {
    let running = start(plan(2)).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    let heard = listen_to(&desk, "/a/**");
    for level in 0..500 {
        desk.set("/a/b", level).unwrap();
        heard.recv_timeout(PATIENCE).unwrap();
    }
    let shards: Vec<_> = running.shards.iter().map(|shard| shard.counters.clone()).collect();
    assert!(running.stop().is_empty());
    for counters in shards {
        let of = |name| counters.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(of("turns") > 0);
        assert!(of("kernel_enters") <= of("turns"), "{} in {}", of("kernel_enters"), of("turns"));
    }
}

#[test]
fn every_shard_reaches_the_links_of_every_other() {
    const CLIENTS: usize = 12;
    let running = start(plan(3)).unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| client(&running, ListenerTransport::WebSocket, &format!("c{n}")))
        .collect();
    let heard: Vec<_> = clients.iter().map(|client| listen_to(client, "/show/**")).collect();
    let addresses: Vec<_> = (0..CLIENTS).map(|n| format!("/show/{n}/go")).collect();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    for address in &addresses {
        settle(&desk, address, &heard);
    }
    for round in 0..20 {
        for (n, address) in addresses.iter().enumerate() {
            clients[n].emit(address, round).unwrap();
            // Nobody hears its own events.
            let others = heard.iter().enumerate().filter(|(other, _)| *other != n);
            for (_, heard) in others {
                let told = heard.recv_timeout(PATIENCE).unwrap();
                assert_eq!(told, (address.clone(), Val::Int(round)));
            }
        }
    }
    wait_until("the count of links", || {
        let links = running.shards.iter().map(|shard| counter(shard, "links_opened"));
        links.sum::<u64>() == CLIENTS as u64 + 1
    });
    assert!(running.stop().is_empty());
}

/// Waits until the home of `address` knows everybody who listens: a home is told of a subscription
/// a moment after its link is.
fn settle(desk: &Client, address: &str, heard: &[Receiver<(String, Val)>]) {
    let mut knows = vec![false; heard.len()];
    let mut probes = 0_i64;
    wait_until("everybody", || {
        desk.emit(address, probes).unwrap();
        probes += 1;
        desk.ping(PATIENCE).unwrap();
        for (heard, knows) in heard.iter().zip(&mut knows) {
            *knows |= heard.try_iter().any(|(told, _)| told == address);
        }
        knows.iter().all(|knows| *knows)
    });
    // Whoever heard one hears all that follow, the last probe included.
    desk.emit(address, "settled").unwrap();
    for heard in heard {
        let settled = (address.to_owned(), Val::from("settled"));
        while heard.recv_timeout(PATIENCE).unwrap() != settled {}
    }
}

#[test]
fn a_flood_of_bundles_across_shards_arrives_whole_and_in_order() {
    const BUNDLES: i64 = 60;
    const EACH: i64 = 50;
    let running = start(plan(2)).unwrap();
    let lamp = client(&running, ListenerTransport::Tcp, "lamp");
    let other = client(&running, ListenerTransport::Tcp, "other");
    let heard = [listen_to(&lamp, "/flood/**"), listen_to(&other, "/flood/**")];
    let desk = client(&running, ListenerTransport::WebSocket, "desk");
    for n in 0..7 {
        settle(&desk, &format!("/flood/{n}/go"), &heard);
    }
    for bundle in 0..BUNDLES {
        let address = |n: i64| format!("/flood/{}/go", n % 7);
        let addresses: Vec<_> = (0..EACH).map(address).collect();
        let items: Vec<_> = (0..EACH)
            .zip(&addresses)
            .map(|(n, address)| Item::emit(address, bundle * EACH + n))
            .collect();
        desk.bundle(&items, None).unwrap();
    }
    for heard in heard {
        let mut last = [-1; 7];
        for _ in 0..BUNDLES * EACH {
            let (address, value) = heard.recv_timeout(PATIENCE).unwrap();
            let lane: usize = address.split('/').nth(2).unwrap().parse().unwrap();
            let Val::Int(value) = value else { panic!("{value:?}") };
            assert!(value > last[lane], "{value} after {} on {address}", last[lane]);
            last[lane] = value;
        }
    }
    assert!(running.stop().is_empty());
}

#[test]
fn rings_that_are_almost_always_full_delay_messages_and_lose_none() {
    const EVENTS: i64 = 300;
    let mut threads = plan(2);
    // Barely more than has to be free for a step: after one of these events, senders must wait.
    threads.exchange_bytes = PEER_ROOM_BYTES + 4_096;
    // All that is said may wait for a lamp: here nobody is to be closed for reading slowly.
    for shard in &mut threads.shards {
        shard.settings.limits.outbox_bytes_max = 16 << 20;
        shard.settings.limits.outbox_pool_bytes = 64 << 20;
    }
    let running = start(threads).unwrap();
    let lamps: Vec<_> =
        (0..6).map(|n| client(&running, ListenerTransport::Tcp, &format!("lamp{n}"))).collect();
    let heard: Vec<_> = lamps.iter().map(|lamp| listen_to(lamp, "/full/**")).collect();
    let desks: Vec<_> = (0..4)
        .map(|n| client(&running, ListenerTransport::WebSocket, &format!("desk{n}")))
        .collect();
    for (n, desk) in desks.iter().enumerate() {
        settle(desk, &format!("/full/{n}/go"), &heard);
    }
    // Each goes away at once: what it said before still counts.
    for (n, desk) in desks.into_iter().enumerate() {
        for event in 0..EVENTS {
            let value = Val::Array(vec![Val::Int(event), Val::Bytes(vec![7; 5_000])]);
            desk.emit(&format!("/full/{n}/go"), value).unwrap();
        }
        desk.close();
    }
    for heard in heard {
        let mut next = [0; 4];
        for _ in 0..4 * EVENTS {
            let (address, value) = heard.recv_timeout(PATIENCE).unwrap();
            let desk: usize = address.split('/').nth(2).unwrap().parse().unwrap();
            let Val::Array(parts) = value else { panic!("{value:?}") };
            assert_eq!(parts[0], Val::Int(next[desk]), "from {desk}");
            next[desk] += 1;
        }
    }
    let shards: Vec<_> = running.shards.iter().map(|shard| shard.counters.clone()).collect();
    assert!(running.stop().is_empty());
    for counters in shards {
        let of = |name| counters.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(of("peer_spills"), 0, "room was seen to before each step");
    }
}

#[test]
fn a_reader_that_stops_reading_is_left_behind_and_the_others_are_not() {
    let running = start(plan(1)).unwrap();
    let mut stuck = TcpStream::connect(addr(&running, ListenerTransport::Tcp)).unwrap();
    let mut hello = Vec::new();
    frame(&Message::Hello(hello_of("stuck")), &mut hello);
    let subscribe = Message::Subscribe(clasp_rt_core::message::Subscribe {
        id: 1,
        pattern: "/**",
        types: clasp_rt_core::signal::SignalMask::ALL,
        options: SubscribeOptions::default(),
    });
    let mut frames = Vec::new();
    prefixed(&hello, &mut frames);
    hello.clear();
    frame(&subscribe, &mut hello);
    prefixed(&hello, &mut frames);
    stuck.write_all(&frames).unwrap();
    let lamp = client(&running, ListenerTransport::Tcp, "lamp");
    let heard = listen_to(&lamp, "/big/**");
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    // More than sockets and the outbox of a link hold together.
    let big = Val::Bytes(vec![7; 60_000]);
    for _ in 0..400 {
        desk.set("/big/picture", big.clone()).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap().1, big);
    }
    // It still gets the newest value once it reads.
    desk.set("/big/picture", 1).unwrap();
    stuck.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut scratch = Scratch::default();
    loop {
        let mut len = [0; 4];
        stuck.read_exact(&mut len).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        stuck.read_exact(&mut bytes).unwrap();
        let payload = header::parse(&bytes).unwrap().payload;
        if let Ok(Message::Set(set)) = clasp_rt_core::wire::decode(payload, &mut scratch)
            && Val::from(set.value) == Val::Int(1)
        {
            break;
        }
    }
    assert!(running.stop().is_empty());
}

#[test]
fn a_person_with_a_text_socket_is_understood() {
    let running = start(plan(1)).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    let mut person = TextSocket::connect(addr(&running, ListenerTransport::WebSocket));
    person.say(r#"{"type":"HELLO","name":"me"}"#);
    assert!(person.hear("WELCOME").contains("session"));
    person.say(r#"{"type":"SUBSCRIBE","id":1,"pattern":"/text/**"}"#);
    person.hear("SNAPSHOT");
    desk.set("/text/a", 5).unwrap();
    assert!(person.hear("SET").contains("/text/a"));
    person.say("what?");
    assert!(person.hear("ERROR").contains("101"));
    person.say(r#"{"type":"SET","address":"/text/b","value":0.5}"#);
    assert!(person.hear("ACK").contains("/text/b"));
    assert_eq!(desk.get("/text/b", PATIENCE).unwrap(), Val::Float(0.5));
    assert!(running.stop().is_empty());
}

#[test]
fn a_stop_says_goodbye_to_every_link() {
    let running = start(plan(2)).unwrap();
    let mut person = TextSocket::connect(addr(&running, ListenerTransport::WebSocket));
    person.say(r#"{"type":"HELLO","name":"me"}"#);
    person.hear("WELCOME");
    let stopping = std::thread::spawn(move || running.stop().len());
    assert_eq!(person.hear_close(), clasp_rt_link::close::GOING_AWAY);
    drop(person);
    assert_eq!(stopping.join().unwrap(), 0);
}

/// Policy and priority of this process' thread of that name: fields 41 and 40 of `proc(5)`'s stat.
fn scheduled(name: &str) -> (u32, u32) {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    // Threads of other tests come and go meanwhile.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let called = format!("({name})");
    let stat = stats.into_iter().find(|stat| stat.contains(&called)).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let field = |number: usize| after_name.split_whitespace().nth(number - 3).unwrap();
    (field(41).parse().unwrap(), field(40).parse().unwrap())
}

#[test]
fn shards_run_first_and_poll_where_that_is_granted_and_elsewhere_it_is_said() {
    let mut threads = plan(8);
    threads.hygiene.fifo_priority = Some(3);
    let running = start(threads).unwrap();
    let refused = |key: &str| running.warnings.iter().any(|warning| warning.starts_with(key));
    // The eighth: routers of other tests have fewer. It sleeps when idle, and starves nobody.
    let expected = if refused("fifo_priority") { (0, 0) } else { (1, 3) };
    assert_eq!(scheduled("shard 7"), expected, "{:?}", running.warnings);
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    desk.set("/stage/front/level", 1).unwrap();
    assert_eq!(desk.get("/stage/front/level", PATIENCE).unwrap(), Val::Int(1));
    assert!(running.stop().is_empty());
}

#[test]
fn what_the_host_cannot_give_is_named() {
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let mut no_port = plan(1);
    no_port.shards[0].listeners[0].addr = taken.local_addr().unwrap();
    let mut no_core = plan(1);
    no_core.shards[0].core = Some(4_000);
    let mut no_shard = plan(1);
    let bridge = Box::new(Doorbell::new());
    no_shard.bridges = vec![BridgeThreadPlan {
        core: None,
        bridges: vec![BridgePlan { place: String::new(), bridge, uplink: Uplink::Shard(3) }],
    }];
    let taken_port = taken.local_addr().unwrap().to_string();
    let cases = [
        (no_port, ["cannot listen on", taken_port.as_str()]),
        (no_core, ["shard 0", "core 4000"]),
        (no_shard, ["joins shard 3", "1 shards"]),
    ];
    for (threads, expected) in cases {
        let error = start(threads).err().unwrap().to_string();
        assert!(expected.iter().all(|words| error.contains(words)), "{error}");
    }
}

#[test]
fn a_bridge_inside_the_router_carries_both_ways() {
    let mut threads = plan(2);
    let doorbell = Doorbell::new();
    let port = doorbell.addr;
    threads.bridges = vec![BridgeThreadPlan {
        core: None,
        bridges: vec![BridgePlan {
            place: String::new(),
            bridge: Box::new(doorbell),
            uplink: Uplink::Shard(1),
        }],
    }];
    let running = start(threads).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    rings_through(&desk, port);
    assert_eq!(running.bridges.len(), 1);
    assert!(running.stop().is_empty());
}

#[test]
fn a_bridge_elsewhere_comes_back_after_its_router() {
    for transport in [ListenerTransport::WebSocket, ListenerTransport::Tcp] {
        let router = start(plan(1)).unwrap();
        let at = addr(&router, transport);
        let doorbell = Doorbell::new();
        let port = doorbell.addr;
        let uplink = Uplink::Remote(Remote {
            transport,
            host: at.ip().to_string(),
            port: at.port(),
            path: "/".to_owned(),
        });
        let mut alone = plan(1);
        alone.shards.clear();
        alone.bridges = vec![BridgeThreadPlan {
            core: None,
            bridges: vec![BridgePlan { place: String::new(), bridge: Box::new(doorbell), uplink }],
        }];
        let bridge = start(alone).unwrap();
        let desk = client(&router, transport, "desk");
        rings_through(&desk, port);
        drop(desk);
        assert!(router.stop().is_empty());

        let mut again = plan(1);
        again.shards[0].listeners = vec![ListenerPlan { transport, addr: at }];
        let router = start(again).unwrap();
        let desk = client(&router, transport, "desk");
        rings_through(&desk, port);
        assert!(bridge.stop().is_empty());
        assert!(router.stop().is_empty());
    }
}

/// Rings the doorbell until the router hears it; it may be joining still.
fn rings_through(desk: &Client, doorbell: SocketAddr) {
    let heard = listen_to(desk, "/door/**");
    let finger = UdpSocket::bind(ANY_PORT).unwrap();
    finger.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    wait_until("the bell", || {
        finger.send_to(&[1], doorbell).unwrap();
        let mut echo = [0; 16];
        // The bridge answers what the router told it, so both ways are used.
        finger.recv_from(&mut echo).is_ok_and(|(count, from)| count > 0 && from == doorbell)
    });
    let (address, _) = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(address, "/door/bell");
}

/// A bridge as small as one can be: a datagram sets a param, and the router's echo of it is sent
/// back.
struct Doorbell {
    addr: SocketAddr,
    rung_by: Option<SocketAddr>,
    counters: Counters,
}

impl Doorbell {
    fn new() -> Self {
        let addr = UdpSocket::bind(ANY_PORT).unwrap().local_addr().unwrap();
        Self { addr, rung_by: None, counters: Counters::default() }
    }
}

impl Bridge for Doorbell {
    fn name(&self) -> &str {
        "doorbell"
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        let (broadcast, reuse_address, multicast) = (false, false, Vec::new());
        vec![SocketPlan { bind: self.addr, broadcast, reuse_address, multicast, skip_own: false }]
    }

    fn step(&mut self, _now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => {
                say(&Message::Hello(hello_of("doorbell")), out);
                say(
                    &Message::Subscribe(clasp_rt_core::message::Subscribe {
                        id: 1,
                        pattern: "/door/**",
                        types: clasp_rt_core::signal::SignalMask::ALL,
                        options: SubscribeOptions::default(),
                    }),
                    out,
                );
            }
            Input::Packet { from, .. } => {
                self.counters.packets_in += 1;
                self.rung_by = Some(from);
                let value = Value::from_encoded(&[0x01, 0x01]).unwrap();
                let set = Set {
                    address: "/door/bell",
                    value,
                    revision: None,
                    lock: false,
                    unlock: false,
                    ttl: None,
                };
                say(&Message::Set(set), out);
            }
            Input::Frame(frame) => {
                let payload = header::parse(frame).unwrap().payload;
                let mut scratch = Scratch::default();
                let message = clasp_rt_core::wire::decode(payload, &mut scratch);
                if let (Ok(Message::Set(_)), Some(finger)) = (message, self.rung_by) {
                    out.to_network(0, finger, b"ding");
                }
            }
            Input::Lost | Input::Clock { .. } | Input::Deadline | Input::Stop => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

fn hello_of(name: &str) -> Hello<'_> {
    Hello { version: 1, features: Features::from_bits(Features::PARAM), name, token: None }
}

fn say(message: &Message<'_>, out: &mut dyn Out) {
    let mut bytes = Vec::new();
    frame(message, &mut bytes);
    out.to_router(&bytes);
}

fn frame(message: &Message<'_>, out: &mut Vec<u8>) {
    binary::encode(message, Qos::Fire, out).unwrap();
}

fn prefixed(frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    out.extend_from_slice(frame);
}

/// What a person has: a WebSocket that shows text.
struct TextSocket {
    stream: TcpStream,
    ws: Ws,
    received: Vec<u8>,
}

impl TextSocket {
    fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Vec::new();
        let ws = Ws::client(&addr.to_string(), "/", 7, &mut request).unwrap();
        stream.write_all(&request).unwrap();
        let mut this = Self { stream, ws, received: Vec::new() };
        this.next(|event| matches!(event, Event::Opened).then(String::new));
        this
    }

    fn say(&mut self, text: &str) {
        let mut bytes = Vec::new();
        self.ws.wrap_text(text, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message of a type; others are passed over.
    fn hear(&mut self, kind: &str) -> String {
        let kind = format!("\"{kind}\"");
        self.next(|event| match event {
            Event::Text(text) => text.contains(&kind).then(|| (*text).to_owned()),
            _ => None,
        })
    }

    fn hear_close(&mut self) -> u16 {
        let code = self.next(|event| match event {
            Event::Ended(end) => Some(end.code().to_string()),
            _ => None,
        });
        code.parse().unwrap()
    }

    fn next(&mut self, wanted: impl Fn(&Event<'_>) -> Option<String>) -> String {
        loop {
            let mut replies = Vec::new();
            let event = self.ws.peek(&mut self.received, &mut replies);
            let (found, more) = (wanted(&event), event == Event::More);
            if !more {
                let used = self.ws.advance();
                self.received.drain(..used);
            }
            self.stream.write_all(&replies).unwrap();
            if let Some(found) = found {
                return found;
            }
            if more {
                let mut piece = [0; 4096];
                let count = match self.stream.read(&mut piece) {
                    // A ring that was made here and dropped ends a wait that has a deadline.
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.unwrap(),
                };
                assert!(count > 0, "the router hung up");
                self.received.extend_from_slice(&piece[..count]);
            }
        }
    }
}

#[test]
fn a_start_that_takes_long_can_be_given_up() {
    let (counters, reader) = counters::page(&["nothing"]);
    let (release, held) = channel::<()>();
    let run = move |_ready: Ready| {
        // Until the test ends: it never says that it is ready.
        let _ = held.recv();
        drop(counters);
        Ok(())
    };
    let stop = Arc::new(AtomicBool::new(false));
    let starting = Starting::launch("shard 7".to_owned(), reader, stop, run).unwrap();
    let mut asked = Vec::new();
    let given_up = starting.wait(&mut |name| {
        asked.push(name.to_owned());
        asked.len() < 2
    });
    assert!(given_up.err().unwrap().is_interruption());
    assert_eq!(asked, ["shard 7", "shard 7"]);
    drop(release);
}

#[test]
fn the_exchange_between_shards_can_be_given_up_while_it_takes_its_memory() {
    let (release, held) = channel::<()>();
    let mut asked = Vec::new();
    let given_up = made(
        "the exchange",
        &mut |name| {
            asked.push(name.to_owned());
            asked.len() < 2
        },
        // Until the test ends.
        move || held.recv().is_ok(),
    );
    assert!(given_up.err().unwrap().is_interruption());
    assert_eq!(asked, ["the exchange", "the exchange"]);
    drop(release);
    assert_eq!(made("the exchange", &mut |_| true, || 7).ok(), Some(7));
}

//! Turns of one edge, taken one after the other over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use clasp_rt_core::limits::{Limits, PEER_ROOM_BYTES};
use clasp_rt_core::message::{Hello, Message};
use clasp_rt_core::shard::Settings;
use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Features;
use clasp_rt_link::stream::wrap_for_peers;
use clasp_rt_ring::socket;

use super::budget::TURN_MAX;
use super::*;
use crate::peers;

const LINKS: u32 = 4;

/// More than several turns take.
const FLOOD: usize = 5_000;

struct Router {
    edge: Edge,
    shard: Shard,
    addr: SocketAddr,
}

impl Router {
    fn new() -> Self {
        let sleeper = Arc::new(Sleeper::new());
        let exchange = peers::join(&[Arc::clone(&sleeper)], 2 * PEER_ROOM_BYTES).pop();
        let (outbound, inbounds) = exchange.expect("one shard");
        let clock = Clock::start();
        let parts = Parts {
            links: LINKS,
            session_timeout: None,
            outbound,
            inbounds,
            ports: Vec::new(),
            guests: Guests::new(Vec::new(), 0, 0),
            rulings: crate::rulings::ways(1, None).1.remove(0),
            sleeper,
            seats: Arc::new(Seats::new(LINKS)),
            clock,
            stages: Stages::new(None, clock),
            spin: Some(Duration::ZERO),
            stop: Arc::new(AtomicBool::new(false)),
            lull: Arc::new(Lull::new(1)),
        };
        let limits = Limits { links_max: LINKS, params_max: 64, ..Limits::default() };
        let shard = Shard::new(Settings { limits, rate_limit: None, ..Settings::default() });
        let mut edge = Edge::new(Ring::new(&sizes(LINKS, 0)).unwrap(), parts);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = socket::listener(any_port).unwrap();
        let addr = socket::address(&listener).unwrap();
        edge.listen(listener, ListenerTransport::Tcp).unwrap();
        Self { edge, shard, addr }
    }

    fn turn(&mut self) {
        self.edge.turn(&mut self.shard).unwrap();
    }

    fn frames_in(&self) -> u64 {
        self.shard.counts().frames_in
    }

    /// A client that has been welcomed.
    fn join(&mut self) -> TcpStream {
        let mut client = TcpStream::connect(self.addr).unwrap();
        client.set_nonblocking(true).unwrap();
        client.write_all(&hello()).unwrap();
        client.write_all(&packet(&Message::Ping)).unwrap();
        let pong = packet(&Message::Pong);
        let mut heard = Vec::new();
        while !heard.ends_with(&pong) {
            self.turn();
            hear(&mut client, &mut heard);
        }
        client
    }
}

fn hello() -> Vec<u8> {
    let features = Features::from_bits(0xF8);
    packet(&Message::Hello(Hello { version: 1, features, name: "desk", token: None }))
}

fn packet(message: &Message<'_>) -> Vec<u8> {
    let (mut frame, mut packet) = (Vec::new(), Vec::new());
    binary::encode(message, Qos::Fire, &mut frame).unwrap();
    wrap_for_peers(&frame, &mut packet);
    packet
}

/// Adds what has arrived.
fn hear(client: &mut TcpStream, heard: &mut Vec<u8>) {
    let mut bytes = [0; 4096];
    loop {
        match client.read(&mut bytes) {
            Ok(len) => heard.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_link_that_says_little_does_not_wait_for_all_that_another_one_says() {
    let mut router = Router::new();
    let (mut flooding, mut quiet) = (router.join(), router.join());
    let before = router.frames_in();
    flooding.write_all(&packet(&Message::Ping).repeat(FLOOD)).unwrap();
    quiet.write_all(&packet(&Message::Ping)).unwrap();
    let pong = packet(&Message::Pong);
    let (mut answers, mut answer) = (Vec::new(), Vec::new());
    let mut answered_after = None;
    while answers.len() < FLOOD * pong.len() {
        let taken = router.frames_in();
        router.turn();
        let taken = router.frames_in() - taken;
        assert!(taken <= 2 * u64::from(TURN_MAX), "{taken} messages in one turn");
        hear(&mut flooding, &mut answers);
        hear(&mut quiet, &mut answer);
        if answer == pong && answered_after.is_none() {
            answered_after = Some(router.frames_in() - before);
        }
    }
    assert_eq!(answers, pong.repeat(FLOOD), "nothing is lost");
    let answered_after = answered_after.expect("the quiet link was answered");
    assert!(answered_after < FLOOD as u64 / 2, "{answered_after} messages came first");
}

#[test]
fn what_a_client_said_before_it_went_counts_though_it_heard_no_more() {
    let mut router = Router::new();
    let mut client = router.join();
    client.set_nodelay(true).unwrap();
    let before = router.frames_in();
    // What it leaves unread makes the kernel break the connection instead of ending it.
    client.write_all(&packet(&Message::Ping)).unwrap();
    while client.peek(&mut [0]).is_err() {
        router.turn();
    }
    // An answer is on its way when it goes.
    client.write_all(&packet(&Message::Ping)).unwrap();
    while router.frames_in() < before + 2 {
        router.turn();
    }
    client.write_all(&packet(&Message::Ping).repeat(10)).unwrap();
    drop(client);
    while router.edge.open_links() > 0 {
        router.turn();
    }
    assert_eq!(router.frames_in() - before, 12);
}

#[test]
fn a_router_that_has_said_good_bye_takes_no_new_session() {
    let mut router = Router::new();
    let (mut leaving, staying) = (router.join(), router.join());
    router.edge.stop.store(true, Ordering::Relaxed);
    let addr = router.addr;
    let again = thread::spawn(move || {
        leaving.set_nonblocking(false).unwrap();
        leaving.read_to_end(&mut Vec::new()).unwrap();
        let mut heard = Vec::new();
        // Refused as it connects, speaks or listens, as it happens.
        let _ = TcpStream::connect(addr).and_then(|mut client| {
            client.write_all(&hello())?;
            client.read_to_end(&mut heard)
        });
        heard
    });
    // Whoever stays after the good-bye keeps it at work for a while.
    router.edge.run(&mut router.shard, |_, _| {}).unwrap();
    drop(router);
    assert_eq!(again.join().unwrap(), b"");
    drop(staying);
}

//! Streams as a bridge and its peers see them, over real sockets.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use clasp_rt_bridges::{Out, SocketPlan, StreamId, StreamPlan};
use clasp_rt_perf::counters;

use super::*;

/// Tells the test what it hears, and says what the test wants at the next input.
struct Puppet {
    plans: Vec<StreamPlan>,
    tell: Sender<String>,
    wants: Receiver<Want>,
    open: VecDeque<StreamId>,
}

enum Want {
    /// To the newest stream.
    Say(Vec<u8>),
    End,
    /// Says pieces of this length until there is no room, and tells how many bytes that were.
    Fill(usize),
}

impl Bridge for Puppet {
    fn name(&self) -> &str {
        "puppet"
    }

    fn sockets(&self) -> Vec<SocketPlan> {
        Vec::new()
    }

    fn streams(&self) -> Vec<StreamPlan> {
        self.plans.clone()
    }

    fn step(&mut self, _: Time, input: Input<'_>, out: &mut dyn Out) {
        let told = match input {
            Input::Opened { stream, plan, .. } => {
                self.open.push_back(stream);
                Some(format!("opened {plan}"))
            }
            Input::Bytes { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            Input::Ended { stream } => {
                assert_eq!(out.stream_room(stream), 0, "it names nothing any more");
                self.open.retain(|open| *open != stream);
                Some("ended".to_owned())
            }
            _ => None,
        };
        while let (Some(stream), Ok(want)) = (self.open.back().copied(), self.wants.try_recv()) {
            match want {
                Want::Say(bytes) => out.to_stream(stream, &bytes),
                Want::End => {
                    out.end_stream(stream);
                    self.open.pop_back();
                }
                Want::Fill(len) => {
                    let mut said = 0;
                    while out.stream_room(stream) >= len {
                        out.to_stream(stream, &vec![b'x'; len]);
                        said += len;
                    }
                    let _ = self.tell.send(format!("said {said}"));
                }
            }
        }
        // The test may have ended.
        told.map(|told| self.tell.send(told));
    }

    /// Looks at what the test wants in every turn.
    fn deadline(&self) -> Option<Time> {
        Some(Time(0))
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

struct Rig {
    told: Receiver<String>,
    wants: Sender<Want>,
    stop: Arc<AtomicBool>,
    alarm: Alarm,
    thread: Option<JoinHandle<io::Result<()>>>,
    counters: counters::Reader,
}

impl Rig {
    fn new(plans: Vec<StreamPlan>) -> Self {
        let (tell, told) = mpsc::channel();
        let (wants, wanted) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (page, counters) = counters::page(names());
        let (ready, alarm) = mpsc::channel();
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let bridge = Box::new(Puppet { plans, tell, wants: wanted, open: VecDeque::new() });
            let sleeper = Arc::new(Sleeper::new());
            let (port, _shard) = Port::pair(1 << 16, &sleeper, &Arc::new(Sleeper::new()));
            let place = "puppet".to_owned();
            let seed = BridgeSeed {
                core: None,
                busy_poll: None,
                hosted: vec![Hosted { bridge, place, pages: Vec::new(), to: To::Port(port) }],
                successors: rtrb::RingBuffer::new(1).1,
                sleeper,
                clock: Clock::start(),
                stop: stopping,
            };
            run(seed, page, |made| ready.send(made).expect("the test waits"))
        });
        let alarm = alarm.recv().expect("it starts").expect("it has what it needs");
        Self { told, wants, stop, alarm, thread: Some(thread), counters }
    }

    fn want(&self, want: Want) {
        self.wants.send(want).expect("the bridge lives");
        self.alarm.ring();
    }

    fn told(&self) -> String {
        self.told.recv().expect("the bridge lives")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.alarm.ring();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(Ok(())))), "{ended:?}");
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn free_address() -> SocketAddr {
    TcpListener::bind(ANY).and_then(|listener| listener.local_addr()).expect("a free port")
}

fn listening(connections_max: u32) -> (Rig, SocketAddr) {
    let bind = free_address();
    (Rig::new(vec![StreamPlan::Listen { bind, connections_max }]), bind)
}

#[test]
fn a_connection_that_somebody_opens_is_heard_and_answered() {
    let (rig, at) = listening(2);
    for _ in 0..3 {
        let mut peer = TcpStream::connect(at).expect("it listens");
        assert_eq!(rig.told(), "opened 0");
        peer.write_all(b"hello").expect("it reads");
        assert_eq!(rig.told(), "hello");
        rig.want(Want::Say(b"welcome".to_vec()));
        let mut heard = [0; 7];
        peer.read_exact(&mut heard).expect("an answer");
        assert_eq!(&heard, b"welcome");
        drop(peer);
        assert_eq!(rig.told(), "ended");
    }
}

#[test]
fn what_was_said_before_an_end_arrives_whole() {
    let (rig, at) = listening(1);
    let mut peer = TcpStream::connect(at).expect("it listens");
    assert_eq!(rig.told(), "opened 0");
    rig.want(Want::Fill(1 << 10));
    rig.want(Want::End);
    let said = rig.told();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("an end");
    assert_eq!(said, format!("said {}", heard.len()));
    drop(peer);
    // The place is free again, and the end that the bridge wanted was not told to it.
    let _next = TcpStream::connect(at).expect("it listens");
    assert_eq!(rig.told(), "opened 0");
}

#[test]
fn a_peer_that_does_not_read_takes_no_more_than_its_bound() {
    let (rig, at) = listening(1);
    let _peer = TcpStream::connect(at).expect("it listens");
    assert_eq!(rig.told(), "opened 0");
    let dropped = names().iter().position(|name| *name == "stream_pieces_dropped");
    let dropped = dropped.expect("a counter");
    // The kernel takes some, too, and when it does so is its own affair: until all is full.
    let mut most = 0;
    while rig.counters.load(dropped) == 0 {
        rig.want(Want::Fill(1 << 10));
        let said: usize = rig.told()["said ".len()..].parse().expect("a number");
        assert!(said <= 256 << 10, "{said} bytes at once");
        most += said;
        // Beyond the room nothing is taken, and that is counted.
        rig.want(Want::Say(vec![0; 1 << 10]));
    }
    assert!(most >= 256 << 10, "{most}");
}

#[test]
fn one_connection_too_many_is_closed() {
    let (rig, at) = listening(1);
    let _first = TcpStream::connect(at).expect("it listens");
    assert_eq!(rig.told(), "opened 0");
    let mut second = TcpStream::connect(at).expect("the kernel accepts");
    assert_eq!(second.read(&mut [0]).expect("an end"), 0);
}

#[test]
fn a_connection_that_we_make_is_made_again() {
    let listener = TcpListener::bind(ANY).expect("a free port");
    let to = listener.local_addr().expect("an address").to_string();
    let rig = Rig::new(vec![StreamPlan::Connect { to }]);
    for _ in 0..2 {
        let (mut peer, _) = listener.accept().expect("it connects");
        assert_eq!(rig.told(), "opened 0");
        rig.want(Want::Say(b"hello".to_vec()));
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).expect("a greeting");
        drop(peer);
        assert_eq!(rig.told(), "ended");
    }
}

//! The ring against the running kernel: real sockets on loopback, both ends in one thread.

#![cfg(not(miri))]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clasp_rt_ring::socket::{self, Datagrams};
use clasp_rt_ring::{Buffer, Event, Ring, Sizes, Sleeper, Socket, Unreadable, Wait};

/// Long enough for any machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const SMALL: Sizes =
    Sizes { accepted_max: 2, fixed_max: 4, stream_buffers: 8, packet_buffers: 8, datagrams_max: 4 };

/// A ring that listens, and the turns that were taken with it.
struct Server {
    ring: Ring,
    addr: SocketAddr,
    turns: u64,
}

impl Server {
    fn new(sizes: &Sizes) -> Self {
        let mut ring = Ring::new(sizes).unwrap();
        let listener = socket::listener(ANY_PORT).unwrap();
        let addr = socket::address(&listener).unwrap();
        ring.listen(listener).unwrap();
        Self { ring, addr, turns: 0 }
    }

    fn turn(&mut self) {
        self.turns += 1;
        self.ring.enter(Wait::For(Some(PATIENCE))).unwrap();
    }

    /// The next event, whatever turn brings it.
    fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.ring.next_event() {
                return event;
            }
            self.turn();
        }
    }

    fn connect(&mut self) -> (TcpStream, Socket) {
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        match self.event() {
            Event::Accepted { stream, .. } => (client, stream),
            other => panic!("{other:?} instead of a connection"),
        }
    }

    /// Collects `count` bytes of one stream.
    fn receive(&mut self, from: Socket, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.event() {
                Event::Received { stream, lease } => {
                    assert_eq!(stream, from);
                    bytes.extend_from_slice(self.ring.bytes(&lease));
                    self.ring.give_back(lease);
                }
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
        bytes
    }
}

/// Bytes that tell their own position.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

#[test]
fn a_message_comes_and_goes_with_one_system_call_a_turn_at_most() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    for round in 0..50_u8 {
        client.write_all(&[round; 40]).unwrap();
        assert_eq!(server.receive(stream, 40), [round; 40]);
        server.ring.send(stream, vec![round; 30]);
        match server.event() {
            Event::Sent { buffer, how: Ok(()), .. } => assert_eq!(buffer.bytes(), [round; 30]),
            other => panic!("{other:?}"),
        }
        let mut answer = [0; 30];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round; 30]);
    }
    assert!(server.ring.counts().enters <= server.turns);
}

#[test]
fn polling_an_idle_ring_needs_no_system_call() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    client.write_all(b"awake").unwrap();
    server.receive(stream, 5);
    server.ring.enter(Wait::No).unwrap();
    while server.ring.next_event().is_some() {}
    let before = server.ring.counts().enters;
    for _ in 0..1_000 {
        server.ring.enter(Wait::No).unwrap();
        assert!(server.ring.next_event().is_none());
    }
    assert_eq!(server.ring.counts().enters, before);
    client.write_all(b"again").unwrap();
    let arrived = loop {
        server.ring.enter(Wait::No).unwrap();
        if let Some(event) = server.ring.next_event() {
            break event;
        }
    };
    assert!(matches!(arrived, Event::Received { .. }), "{arrived:?}");
    assert_eq!(server.ring.counts().enters, before + 1);
}

#[test]
fn a_send_longer_than_the_socket_takes_arrives_whole() {
    const BYTES: usize = 24 << 20;
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    server.ring.send(stream, pattern(BYTES));
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; BYTES];
        client.read_exact(&mut bytes).unwrap();
        bytes
    });
    match server.event() {
        Event::Sent { how, buffer, .. } => {
            how.unwrap();
            assert_eq!(buffer.len(), BYTES);
        }
        other => panic!("{other:?}"),
    }
    assert!(reader.join().unwrap() == pattern(BYTES));
}

#[test]
fn many_streams_send_parts_of_the_same_bytes() {
    const BYTES: usize = 8 << 20;
    let mut server = Server::new(&SMALL);
    let peers = [server.connect(), server.connect()];
    let bytes = Rc::new(pattern(BYTES));
    let parts = [0..BYTES as u32, 5..BYTES as u32 - 7];
    for ((_, stream), part) in peers.iter().zip(&parts) {
        let shared = Buffer::Shared { bytes: Rc::clone(&bytes), part: part.clone() };
        server.ring.send(*stream, shared);
    }
    let readers = peers.iter().zip(&parts).map(|((client, _), part)| {
        let (mut client, mut heard) = (client.try_clone().unwrap(), vec![0; part.len()]);
        thread::spawn(move || {
            client.read_exact(&mut heard).unwrap();
            heard
        })
    });
    let readers: Vec<_> = readers.collect();
    // More than the sockets hold, so that the kernel comes back for the rest.
    assert_eq!(Rc::strong_count(&bytes), 3);
    for _ in &parts {
        assert!(matches!(server.event(), Event::Sent { how: Ok(()), .. }));
    }
    for (reader, part) in readers.into_iter().zip(parts) {
        assert!(reader.join().unwrap() == bytes[part.start as usize..part.end as usize]);
    }
    assert_eq!(Rc::strong_count(&bytes), 1);
}

#[test]
fn a_burst_beyond_all_buffers_arrives_whole() {
    const BYTES: usize = 1 << 20;
    let mut server = Server::new(&Sizes { stream_buffers: 2, ..SMALL });
    let (mut client, stream) = server.connect();
    let writer = thread::spawn(move || {
        client.write_all(&pattern(BYTES)).unwrap();
        client
    });
    assert!(server.receive(stream, BYTES) == pattern(BYTES));
    assert!(server.ring.counts().starved > 0, "two buffers must run out");
    drop(writer.join().unwrap());
}

#[test]
fn a_paused_stream_loses_nothing() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    let mut received = Vec::new();
    for round in 0..20 {
        server.ring.pause(stream);
        // In the same turn as the call to stop, and after it.
        client.write_all(&pattern(6_000)[round * 300..][..150]).unwrap();
        server.ring.enter(Wait::No).unwrap();
        client.write_all(&pattern(6_000)[round * 300 + 150..][..150]).unwrap();
        server.ring.enter(Wait::No).unwrap();
        server.ring.resume(stream);
        received.extend(server.receive(stream, 300));
    }
    assert_eq!(received, pattern(6_000));
}

#[test]
fn a_paused_stream_is_silent() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    server.ring.pause(stream);
    server.ring.enter(Wait::No).unwrap();
    while server.ring.next_event().is_some() {}
    client.write_all(b"unheard").unwrap();
    server.ring.enter(Wait::For(Some(Duration::from_millis(1)))).unwrap();
    assert!(server.ring.next_event().is_none());
    server.ring.resume(stream);
    assert_eq!(server.receive(stream, 7), b"unheard");
}

#[test]
fn a_closed_stream_is_gone_for_its_peer_and_its_file_is_free() {
    let mut server = Server::new(&SMALL);
    let mut former = None;
    for _ in 0..5 {
        let (mut client, stream) = server.connect();
        server.ring.close(stream);
        assert!(matches!(server.event(), Event::Closed { stream: closed } if closed == stream));
        server.ring.enter(Wait::No).unwrap();
        assert_eq!(
            client.read(&mut [0; 8]).unwrap(),
            0,
            "the receive was armed, yet the peer knows"
        );
        if let Some(former) = former.replace(stream) {
            assert_ne!(former, stream, "an old name must not fit the new owner");
        }
    }
}

#[test]
fn a_stalled_send_comes_back_when_its_stream_is_closed() {
    let mut server = Server::new(&SMALL);
    let (client, stream) = server.connect();
    server.ring.send(stream, vec![0; 64 << 20]);
    server.ring.enter(Wait::No).unwrap();
    server.ring.close(stream);
    match server.event() {
        Event::Sent { how, buffer, .. } => {
            assert!(how.is_err());
            assert_eq!(buffer.len(), 64 << 20);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(server.event(), Event::Closed { .. }));
    drop(client);
}

#[test]
fn finishing_says_goodbye_and_still_listens() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    server.ring.send(stream, b"last words".to_vec());
    assert!(matches!(server.event(), Event::Sent { how: Ok(()), .. }));
    server.ring.finish(stream);
    server.ring.enter(Wait::No).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
    client.write_all(b"thanks").unwrap();
    assert_eq!(server.receive(stream, 6), b"thanks");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(server.event(), Event::Ended { how: Ok(()), .. }));
}

#[test]
fn a_connection_beyond_the_table_is_dropped_and_the_next_one_is_not() {
    let mut server = Server::new(&SMALL);
    let (first, stream) = server.connect();
    let (second, _) = server.connect();
    let mut third = TcpStream::connect(server.addr).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    while server.ring.counts().accept_faults == 0 {
        server.turn();
        assert!(server.ring.next_event().is_none());
    }
    let refused = third.read(&mut [0; 1]);
    assert!(
        matches!(&refused, Ok(0)) || refused.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
    );
    server.ring.close(stream);
    assert!(matches!(server.event(), Event::Closed { .. }));
    let (_fourth, reused) = server.connect();
    assert_eq!(reused.index(), stream.index());
    drop((first, second));
}

#[test]
fn a_reset_ends_a_stream_with_an_error() {
    let mut server = Server::new(&SMALL);
    let (client, stream) = server.connect();
    server.ring.send(stream, b"never read".to_vec());
    assert!(matches!(server.event(), Event::Sent { .. }));
    // Unread bytes turn the close into a reset.
    drop(client);
    match server.event() {
        Event::Ended { how, .. } => {
            assert_eq!(how.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_adopted_connection_is_like_an_accepted_one() {
    let mut server = Server::new(&SMALL);
    let (mut far, _near) = server.connect();
    let listener = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let outgoing = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut router, _) = listener.accept().unwrap();
    let adopted = server.ring.adopt(OwnedFd::from(outgoing)).unwrap();
    router.write_all(b"welcome").unwrap();
    assert_eq!(server.receive(adopted, 7), b"welcome");
    server.ring.send(adopted, b"hello".to_vec());
    assert!(matches!(server.event(), Event::Sent { how: Ok(()), .. }));
    let mut heard = [0; 5];
    router.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    far.write_all(b"x").unwrap();
}

#[test]
fn datagrams_come_with_their_source_and_leave_for_their_target() {
    let mut server = Server::new(&SMALL);
    let bound = socket::datagrams(ANY_PORT, &Datagrams::default()).unwrap();
    let addr = socket::address(&bound).unwrap();
    let port = server.ring.packets(bound).unwrap();
    let peer = UdpSocket::bind(ANY_PORT).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // More than the pool holds, so that the receive starves and recovers.
    for round in 0..30_u8 {
        peer.send_to(&[round; 530], addr).unwrap();
        peer.send_to(&[], addr).unwrap();
    }
    for round in 0..30_u8 {
        for len in [530, 0] {
            let Event::Packet { lease, socket } = server.event() else { panic!("no packet") };
            assert_eq!(socket, port);
            let (from, bytes) = server.ring.packet(&lease).unwrap();
            assert_eq!((from, bytes), (peer.local_addr().unwrap(), &vec![round; len][..]));
            server.ring.give_back(lease);
        }
        assert!(server.ring.send_to(port, peer.local_addr().unwrap(), &[round; 100]));
        server.ring.enter(Wait::No).unwrap();
        let mut heard = [0; 200];
        assert_eq!(peer.recv_from(&mut heard).unwrap(), (100, addr));
        assert_eq!(heard[..100], [round; 100]);
    }
}

#[test]
fn a_datagram_longer_than_a_buffer_is_known_as_cut() {
    let mut server = Server::new(&SMALL);
    let bound = socket::datagrams(ANY_PORT, &Datagrams::default()).unwrap();
    let addr = socket::address(&bound).unwrap();
    server.ring.packets(bound).unwrap();
    UdpSocket::bind(ANY_PORT).unwrap().send_to(&[1; 3_000], addr).unwrap();
    let Event::Packet { lease, .. } = server.event() else { panic!("no packet") };
    assert_eq!(server.ring.packet(&lease).unwrap_err(), Unreadable::Truncated);
    server.ring.give_back(lease);
}

#[test]
fn datagrams_beyond_the_slab_are_dropped_and_counted() {
    let mut server = Server::new(&SMALL);
    let port = server.ring.packets(socket::datagrams(ANY_PORT, &Datagrams::default()).unwrap());
    let (port, peer) = (port.unwrap(), UdpSocket::bind(ANY_PORT).unwrap());
    let to = peer.local_addr().unwrap();
    let sent = (0..6).filter(|_| server.ring.send_to(port, to, b"level")).count();
    assert_eq!((sent, server.ring.counts().datagrams_dropped), (4, 2));
    server.ring.enter(Wait::No).unwrap();
    while server.ring.next_event().is_some() {}
    assert!(server.ring.send_to(port, to, b"level"));
}

#[test]
fn an_alarm_wakes_the_thread_each_time_it_rings() {
    let mut ring = Ring::new(&SMALL).unwrap();
    let alarm = ring.alarm().unwrap();
    for _ in 0..3 {
        let alarm = alarm.clone();
        let caller = thread::spawn(move || alarm.ring());
        ring.enter(Wait::For(Some(PATIENCE))).unwrap();
        while ring.next_event().is_none() {
            ring.enter(Wait::For(Some(PATIENCE))).unwrap();
        }
        caller.join().unwrap();
    }
}

#[test]
fn a_thread_wakes_another_ring_only_when_it_sleeps() {
    let sleeper = Arc::new(Sleeper::new());
    let mut ring = Ring::new(&SMALL).unwrap();
    sleeper.attach(ring.number());
    let waker = {
        let sleeper = Arc::clone(&sleeper);
        move || {
            let mut ring = Ring::new(&SMALL).unwrap();
            ring.wake(&sleeper);
            ring.enter(Wait::No).unwrap();
            ring.counts().wakes
        }
    };
    assert_eq!(thread::spawn(waker.clone()).join().unwrap(), 0);
    sleeper.doze();
    let waker = thread::spawn(waker);
    ring.enter(Wait::For(Some(PATIENCE))).unwrap();
    assert!(matches!(ring.next_event(), Some(Event::Woken)));
    assert_eq!(waker.join().unwrap(), 1);
}

#[test]
fn a_turn_ends_when_its_time_is_up() {
    let mut ring = Ring::new(&SMALL).unwrap();
    ring.enter(Wait::For(Some(Duration::from_millis(2)))).unwrap();
    assert!(ring.next_event().is_none());
    assert_eq!(ring.counts().sleeps, 1);
}

#[test]
fn a_thread_can_make_more_rings_than_it_has_places_for_their_descriptors() {
    for _ in 0..40 {
        drop(Ring::new(&SMALL).unwrap());
    }
}

#[test]
fn a_ring_can_be_dropped_with_everything_in_flight() {
    let mut server = Server::new(&SMALL);
    let (mut client, stream) = server.connect();
    let bound = socket::datagrams(ANY_PORT, &Datagrams::default()).unwrap();
    server.ring.packets(bound).unwrap();
    server.ring.alarm().unwrap();
    server.ring.send(stream, vec![0; 64 << 20]);
    client.write_all(b"unread").unwrap();
    server.ring.enter(Wait::No).unwrap();
    drop(server);
    let mut heard = Vec::new();
    // A reset or an end, but the peer is told.
    let _ = client.read_to_end(&mut heard);
    assert!(heard.len() < 64 << 20);
}

#[test]
fn a_port_is_free_as_soon_as_its_ring_is_dropped() {
    for _ in 0..20 {
        let mut server = Server::new(&SMALL);
        let (client, _) = server.connect();
        let addr = server.addr;
        drop(server);
        socket::check_free(addr).unwrap();
        drop(client);
    }
}

#[test]
fn a_ring_tells_where_a_peer_is_that_is_asked_for() {
    let mut server = Server::new(&SMALL);
    let (client, stream) = server.connect();
    assert_eq!(server.ring.next_peer(), None);
    server.ring.ask_peer(stream);
    server.ring.send(stream, b"hello".to_vec());
    assert!(matches!(server.event(), Event::Sent { how: Ok(()), .. }));
    // Before Linux 6.8 nobody knows.
    if let Some(told) = server.ring.next_peer() {
        assert_eq!(told, (stream, client.local_addr().unwrap()));
    }
    assert_eq!(server.ring.next_peer(), None);
    drop(client);
    assert!(matches!(server.event(), Event::Ended { .. }), "no descriptor keeps it open");
}

/// A shutdown is run by a worker of the kernel, which looks its file up by number only then. It
/// once struck the connection that had been given the number of a closed one.
#[test]
fn a_late_goodbye_does_not_reach_the_next_owner_of_a_file() {
    const CROWD: usize = 64;
    // Workers then run when this thread sleeps, and not beside it.
    clasp_rt_ring::thread::pin(clasp_rt_ring::thread::cores()[0]).unwrap();
    let crowd = Sizes { accepted_max: CROWD as u32, stream_buffers: 128, ..SMALL };
    let mut server = Server::new(&crowd);
    for round in 0..20_u8 {
        let mut present: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
        for (client, stream) in &mut present {
            server.ring.send(*stream, vec![round; 8]);
            assert!(
                matches!(server.event(), Event::Sent { how: Ok(()), .. }),
                "nobody said good-bye"
            );
            let mut heard = [0; 8];
            client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, [round; 8]);
            client.shutdown(Shutdown::Write).unwrap();
            assert!(matches!(server.event(), Event::Ended { .. }));
        }
        // All in one turn, so that the workers have more to do than the next crowd takes to come.
        for (_, stream) in &present {
            server.ring.finish(*stream);
            server.ring.close(*stream);
        }
        for _ in &present {
            assert!(matches!(server.event(), Event::Closed { .. }));
        }
        server.ring.enter(Wait::No).unwrap();
    }
}

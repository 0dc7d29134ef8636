//! Who is let in when there are more connections than seats.

use super::*;

#[test]
fn a_router_without_seats_says_so() {
    let mut threads = plan(2);
    threads.sessions_max = 1;
    let running = start(threads).unwrap();
    let first = client(&running, ListenerTransport::Tcp, "first");
    let refused =
        Client::builder(&url(&running, ListenerTransport::Tcp)).reconnect(false).connect();
    assert!(refused.err().unwrap().to_string().contains("501"), "the code of a full router");
    first.close();
    wait_until("the free seat", || running.sessions() == 0);
    client(&running, ListenerTransport::WebSocket, "second");
    assert!(running.stop().is_empty());
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_speak() {
    let mut threads = plan(1);
    threads.sessions_max = 2;
    let running = start(threads).unwrap();
    let at = addr(&running, ListenerTransport::Tcp);
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(at).unwrap()).collect();
    let speakers = ["first", "second"].map(|name| client(&running, ListenerTransport::Tcp, name));
    let third = Client::builder(&url(&running, ListenerTransport::Tcp)).reconnect(false).connect();
    assert!(third.err().unwrap().to_string().contains("501"), "those who spoke keep their seats");
    for speaker in &speakers {
        speaker.set("/a", 1).unwrap();
    }
    let counted = |name| running.of_shards(name).sum::<u64>();
    // Some may have found no place at all while others were being ended.
    let ended = || counted("links_displaced") + counted("accept_faults");
    wait_until("the counters", || ended() == 40 && counted("links_turned_away") == 1);
    drop(silent);
    assert!(running.stop().is_empty());
}

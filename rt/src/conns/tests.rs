//! The life of a link, step by step, on a clock that only tests move.

use super::leaving::FLUSH_TIMEOUT;
use super::*;
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;

const LINK: LinkId = LinkId(0);

/// One open link at 100 s, as a stream or as an upgraded WebSocket.
fn conns(transport: AnyTransport) -> Conns {
    let mut conns = Conns::new(2, None);
    conns.now = Time(0) + Span::from_secs(100);
    conns.open(LINK, Carrier::Port, transport, true);
    conns
}

fn stream() -> AnyTransport {
    AnyTransport::Stream(Stream::new())
}

/// A WebSocket whose handshake is done.
fn upgraded() -> AnyTransport {
    let (mut server, mut request, mut reply) = (Ws::server(), Vec::new(), Vec::new());
    Ws::client("router", "/", 1, &mut request).unwrap();
    server.peek(&mut request, &mut reply);
    server.advance();
    assert!(server.is_open());
    AnyTransport::Ws(server)
}

fn pass(conns: &mut Conns, span: Span) {
    conns.now = conns.now + span;
    conns.tick();
}

fn short_of(span: Span) -> Span {
    Span(span.0 - 1)
}

fn leaving(conns: &mut Conns) -> Leaving {
    match conns.get(LINK).phase {
        Phase::Leaving(leaving) => leaving,
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_count_as_sent_when_their_buffer_comes_back() {
    let mut conns = conns(stream());
    conns.queue(LINK, &[1; 10]);
    conns.queue(LINK, &[2; 20]);
    assert_eq!(conns.next_dirty(), Some(LINK));
    assert_eq!(conns.next_dirty(), None, "one flush for all of a turn");
    let buffer = conns.take_pending(LINK).unwrap();
    assert_eq!(buffer.len(), 4 + 10 + 4 + 20);
    // What is said while a send is on its way waits for the next one.
    conns.queue(LINK, &[3; 5]);
    assert_eq!(conns.next_dirty(), None);
    assert!(conns.take_pending(LINK).is_none());
    assert_eq!(conns.sent(LINK, buffer), 30);
    assert_eq!(conns.next_dirty(), Some(LINK));
    let buffer = conns.take_pending(LINK).unwrap();
    assert_eq!(conns.sent(LINK, buffer), 5);
    assert_eq!(conns.next_dirty(), None);
}

#[test]
fn buffers_that_grew_for_long_frames_shrink_in_the_second_after_the_last() {
    let mut conns = conns(stream());
    let capacities = |conns: &mut Conns| {
        let conn = conns.get(LINK);
        [conn.carry.capacity(), conn.pending.capacity(), conn.spare.capacity()]
    };
    for round in 0..3 {
        // Both buffers of the way out take their turn.
        for _ in 0..2 {
            // No log has room for it.
            conns.queue(LINK, &[0; 60_000]);
            let buffer = conns.take_pending(LINK).unwrap();
            conns.sent(LINK, buffer);
        }
        conns.keep(LINK, &[0; 50_000]);
        let carry = conns.take_carry(LINK);
        conns.return_carry(LINK, carry, 50_000);
        pass(&mut conns, Span::from_secs(1));
        let [carry, pending, spare] = capacities(&mut conns);
        assert!(carry >= 50_000 && pending.min(spare) >= 60_000, "{round}");
    }
    pass(&mut conns, Span::from_secs(1));
    assert_eq!(capacities(&mut conns), [CARRY_BYTES, OUT_BYTES, OUT_BYTES]);
}

#[test]
fn the_end_of_a_link_goes_step_by_step() {
    let mut conns = conns(upgraded());
    conns.queue(LINK, b"last frame");
    conns.dismiss(LINK, close::POLICY, "why");
    conns.queue(LINK, b"after the end");
    assert_eq!(conns.farewell(LINK), Farewell::Wait, "the good-bye has not left");
    let buffer = conns.take_pending(LINK).unwrap();
    assert!(buffer.bytes().ends_with(b"why"), "the good-bye comes last");
    assert_eq!(conns.farewell(LINK), Farewell::Wait);
    conns.sent(LINK, buffer);
    assert_eq!(conns.farewell(LINK), Farewell::TellShard);
    conns.told(LINK);
    assert_eq!(conns.farewell(LINK), Farewell::Finish);
    assert_eq!(conns.farewell(LINK), Farewell::Wait, "the peer may still talk");
    conns.end(LINK, End::Finished);
    assert_eq!(conns.farewell(LINK), Farewell::Release);
    assert_eq!(conns.get(LINK).phase, Phase::Released);
    conns.free(LINK);
    conns.open(LINK, Carrier::Port, stream(), true);
}

#[test]
fn a_link_that_cannot_be_told_anything_is_heard_to_the_end() {
    let mut conns = conns(stream());
    conns.queue(LINK, b"unsent");
    let buffer = conns.take_pending(LINK).unwrap();
    conns.queue(LINK, b"waits");
    conns.sent(LINK, buffer);
    conns.mute(LINK);
    conns.queue(LINK, b"after it");
    assert!(conns.take_pending(LINK).is_none(), "nobody would read it");
    conns.keep(LINK, b"said before");
    assert_eq!((conns.get(LINK).phase, conns.get(LINK).carry.len()), (Phase::Open, 11));
    conns.end(LINK, End::Finished);
    assert_eq!(conns.farewell(LINK), Farewell::TellShard);
    conns.told(LINK);
    assert_eq!(conns.farewell(LINK), Farewell::Release, "there is no good-bye to wait for");
}

#[test]
fn a_link_that_cannot_be_told_anything_and_does_not_end_is_cut() {
    let mut conns = conns(stream());
    conns.mute(LINK);
    pass(&mut conns, short_of(LINGER));
    assert_eq!(conns.get(LINK).phase, Phase::Open);
    conns.mute(LINK);
    pass(&mut conns, Span(1));
    assert!(leaving(&mut conns).broken);
}

#[test]
fn a_broken_link_waits_for_nothing() {
    let mut conns = conns(stream());
    conns.queue(LINK, b"unsent");
    conns.leave(LINK, Leaving::cut);
    assert_eq!(conns.farewell(LINK), Farewell::TellShard);
    conns.told(LINK);
    assert_eq!(conns.farewell(LINK), Farewell::Release);
}

#[test]
fn a_peer_that_does_not_read_its_goodbye_is_cut_off() {
    let mut conns = conns(stream());
    conns.queue(LINK, b"unread");
    let buffer = conns.take_pending(LINK).unwrap();
    conns.dismiss(LINK, close::TRY_LATER, "slow");
    pass(&mut conns, short_of(FLUSH_TIMEOUT));
    assert!(!leaving(&mut conns).broken);
    pass(&mut conns, Span(1));
    assert!(leaving(&mut conns).broken);
    conns.told(LINK);
    assert_eq!(conns.farewell(LINK), Farewell::Release);
    conns.sent(LINK, buffer);
    conns.free(LINK);
}

#[test]
fn a_peer_that_does_not_say_goodbye_is_waited_for_a_while() {
    let mut conns = conns(stream());
    conns.leave(LINK, |_| {});
    conns.told(LINK);
    assert_eq!(conns.farewell(LINK), Farewell::Finish);
    pass(&mut conns, short_of(LINGER));
    assert_eq!(conns.farewell(LINK), Farewell::Wait);
    pass(&mut conns, Span(1));
    assert_eq!(conns.farewell(LINK), Farewell::Release);
}

#[test]
fn a_message_that_never_ends_is_not_waited_for() {
    let mut conns = conns(stream());
    conns.keep(LINK, b"half");
    pass(&mut conns, PARTIAL_TIMEOUT);
    assert_eq!(conns.get(LINK).phase, Phase::Open);
    // A byte more does not buy more time.
    conns.keep(LINK, b"x");
    pass(&mut conns, Span(1));
    assert!(matches!(conns.get(LINK).phase, Phase::Leaving(_)));
}

#[test]
fn a_message_that_we_hold_back_may_take_its_time() {
    let mut conns = conns(stream());
    conns.keep(LINK, b"whole");
    conns.get(LINK).blocked = Blocked::NoRoom;
    pass(&mut conns, Span(2 * PARTIAL_TIMEOUT.0));
    assert_eq!(conns.get(LINK).phase, Phase::Open);
}

#[test]
fn a_link_that_ends_while_we_hold_its_messages_back_leaves_after_them() {
    let mut conns = conns(stream());
    conns.keep(LINK, b"whole");
    conns.get(LINK).blocked = Blocked::Held;
    conns.end(LINK, End::Finished);
    assert_eq!((conns.get(LINK).phase, conns.get(LINK).ended), (Phase::Open, Some(End::Finished)));
    conns.get(LINK).blocked = Blocked::No;
    conns.end(LINK, End::Finished);
    assert!(leaving(&mut conns).ended && !leaving(&mut conns).broken);
}

#[test]
fn a_silent_websocket_is_asked_and_a_talking_one_is_not() {
    let mut conns = conns(upgraded());
    pass(&mut conns, short_of(PING_INTERVAL_MAX));
    assert_eq!(conns.next_dirty(), None);
    conns.hear(LINK);
    pass(&mut conns, short_of(PING_INTERVAL_MAX));
    assert_eq!(conns.next_dirty(), None);
    pass(&mut conns, Span(1));
    assert_eq!(conns.next_dirty(), Some(LINK));
    let ping = conns.take_pending(LINK).unwrap();
    assert_eq!(conns.sent(LINK, ping), 0, "a ping is no frame");
    pass(&mut conns, Span(1));
    assert_eq!(conns.next_dirty(), None, "asked once");
}

#[test]
fn a_text_link_is_answered_in_text() {
    let mut conns = conns(upgraded());
    conns.speak(LINK, Form::Text);
    conns.speak(LINK, Form::Frames);
    let ping = [0x53, 0, 0, 1, 0x41];
    conns.queue(LINK, &ping);
    let sent = conns.take_pending(LINK).unwrap();
    assert!(String::from_utf8_lossy(sent.bytes()).contains("PING"));
    assert_eq!(conns.sent(LINK, sent), ping.len() as u32, "the shard counts frames");
}

/// What the links would send now, one after the other.
fn flush(conns: &mut Conns) -> Vec<Buffer> {
    let mut buffers = Vec::new();
    while let Some(link) = conns.next_dirty() {
        buffers.extend(conns.take_pending(link));
    }
    conns.end_turn();
    buffers
}

fn prefixed(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| wrap_for_peers(frame, &mut bytes));
    bytes
}

#[test]
fn links_that_get_the_same_frames_send_the_same_bytes() {
    const OTHER: LinkId = LinkId(1);
    let mut conns = conns(stream());
    conns.open(OTHER, Carrier::Port, stream(), true);
    for frame in [b"one", b"two"] {
        [LINK, OTHER].iter().for_each(|&link| conns.queue(link, frame));
    }
    let sent = flush(&mut conns);
    assert!(sent.iter().all(|buffer| buffer.bytes() == prefixed(&[b"one", b"two"])));
    match &sent[..] {
        [Buffer::Shared { bytes: one, .. }, Buffer::Shared { bytes: other, .. }] => {
            assert!(std::rc::Rc::ptr_eq(one, other));
        }
        others => panic!("{others:?}"),
    }
    // While they are on their way, the next frames wait in bytes of each link's own.
    [LINK, OTHER].iter().for_each(|&link| conns.queue(link, b"three"));
    assert!(flush(&mut conns).is_empty());
    for (link, buffer) in [LINK, OTHER].into_iter().zip(sent) {
        assert_eq!(conns.sent(link, buffer), 6);
    }
    let sent = flush(&mut conns);
    assert!(sent.iter().all(|buffer| matches!(buffer, Buffer::Own(_))));
    assert!(sent.iter().all(|buffer| buffer.bytes() == prefixed(&[b"three"])));
}

#[test]
fn a_frame_for_one_link_alone_keeps_its_place_among_those_for_many() {
    const OTHER: LinkId = LinkId(1);
    let mut conns = conns(stream());
    conns.open(OTHER, Carrier::Port, stream(), true);
    conns.queue(LINK, b"both");
    conns.queue(OTHER, b"both");
    conns.queue(OTHER, b"alone");
    conns.queue(LINK, b"after");
    conns.queue(OTHER, b"after");
    let [first, second] = flush(&mut conns).try_into().unwrap();
    assert_eq!(first.bytes(), prefixed(&[b"both", b"after"]));
    assert_eq!(second.bytes(), prefixed(&[b"both", b"alone", b"after"]));
    assert_eq!((conns.sent(LINK, first), conns.sent(OTHER, second)), (9, 14));
}

#[test]
fn a_goodbye_and_the_end_of_a_handshake_keep_their_place_too() {
    let (mut request, mut out) = (Vec::new(), Vec::new());
    let client = Ws::client("router", "/", 1, &mut request).unwrap();
    assert!(!client.is_open());
    let mut conns = conns(AnyTransport::Ws(Ws::server()));
    let conn = conns.get(LINK);
    conn.transport.peek(&mut request, &mut conn.pending);
    conn.transport.advance();
    conns.opened(LINK);
    conns.queue(LINK, b"welcome");
    let [sent] = flush(&mut conns).try_into().unwrap();
    assert!(sent.bytes().starts_with(b"HTTP/1.1 101") && sent.bytes().ends_with(b"welcome"));
    conns.sent(LINK, sent);
    conns.queue(LINK, b"last");
    conns.dismiss(LINK, close::NORMAL, "");
    let [sent] = flush(&mut conns).try_into().unwrap();
    wrap_for_clients(b"last", &mut out);
    out.extend([0x88, 2, 0x03, 0xE8]);
    assert_eq!(sent.bytes(), out);
}

#[test]
fn what_cannot_leave_in_a_turn_waits_in_bytes_of_its_own() {
    let mut conns = conns(stream());
    conns.queue(LINK, b"first");
    conns.stop_sharing(LINK);
    conns.end_turn();
    assert_eq!(conns.ready_bytes(LINK), 9);
    conns.queue(LINK, b"second");
    conns.mark(LINK);
    let [sent] = flush(&mut conns).try_into().unwrap();
    assert_eq!(sent.bytes(), prefixed(&[b"first", b"second"]));
}

//! What one session, and one step, may take from the others.

use clasp_rt_core::LinkId;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Settings, Shard};
use clasp_rt_core::signal::{Phase, Qos, Signal};
use clasp_rt_core::time::Time;
use clasp_rt_core::value::{self, Value};

use super::net::{Net, frame_of, hello, set_of};
use super::{A, B, limits, settings};

#[test]
fn long_patterns_of_one_session_leave_room_for_those_of_others() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        net.join(B);
        let mut refused = 0;
        for id in 0..1_000 {
            net.subscribe(A, id, &format!("/{id}{}", "/x".repeat(500)));
            refused += net.take(A).iter().filter(|line| line.starts_with("ERROR 429")).count();
        }
        assert!(refused > 900, "{refused} were refused, {shards} shards");
        // Replacing one of its own by one as long stays within the share; the old one is gone.
        net.subscribe(A, 0, &format!("/again{}", "/x".repeat(498)));
        assert_eq!(net.take(A), [""; 0], "{shards} shards");
        for id in 0..500 {
            net.subscribe(B, id, &format!("/show/stage/rig{id}/lamp/*/colour"));
        }
        assert_eq!(net.take(B), [""; 0], "{shards} shards");
        // What is given up can be used again.
        for id in 0..1_000 {
            net.say(A, &Message::Unsubscribe { id }, Qos::Fire);
        }
        net.subscribe(A, 1, &format!("/1{}", "/x".repeat(500)));
        assert_eq!(net.take(A), [""; 0], "{shards} shards");
    }
}

/// So much of everything that only the portions are tested.
fn generous() -> Limits {
    Limits {
        held_bytes_max: 16 << 20,
        param_bytes_max: 16 << 20,
        outbox_bytes_max: 16 << 20,
        ..limits()
    }
}

/// The net checks after every step what it handed to each shard.
#[test]
fn what_is_due_at_one_instant_is_handed_over_in_portions() {
    let mut net = Net::new(Settings { limits: generous(), ..settings(3) });
    net.join(B);
    net.subscribe(B, 1, "/**");
    let mut text = Vec::new();
    value::push_str(&mut text, &"x".repeat(50_000)).unwrap();
    let value = Value::from_encoded(&text).unwrap();
    let at_us = net.unix_us() + 1_000_000;
    for link in 2..22 {
        let client = (link as usize % 3, link);
        net.join(client);
        for i in 0..3 {
            let address = net.address_at(0, 3 * link as usize + i);
            net.bundle(client, &[Message::Set(Set { value, ..set_of(&address) })], Some(at_us));
            let move_of = |phase| Publish {
                address: &address,
                signal: Some(Signal::Gesture),
                phase: Some(phase),
                value: Some(value),
                ..Publish::default()
            };
            for phase in [Phase::Start, Phase::Move] {
                net.say(client, &Message::Publish(move_of(phase)), Qos::Fire);
            }
        }
    }
    net.wait_ms(2_000);
    let got = net.take(B);
    let count = |what: &str| got.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("SET"), count("gesture")), (60, 120));
}

#[test]
fn many_sessions_that_end_at_once_say_farewell_in_portions() {
    let mut net = Net::new(Settings { limits: generous(), ..settings(3) });
    net.join((2, 0));
    net.subscribe((2, 0), 1, "/**");
    let long = "y".repeat(990);
    for link in 1..30 {
        net.join((0, link));
        for i in 0..60 {
            let address = format!("/g/{}/{i}/{long}", i % 3);
            let start = Publish {
                address: &address,
                signal: Some(Signal::Gesture),
                phase: Some(Phase::Start),
                ..Publish::default()
            };
            net.say((0, link), &Message::Publish(start), Qos::Fire);
        }
    }
    for _ in 0..4 {
        net.wait_ms(100_000);
        net.say((2, 0), &Message::Ping, Qos::Fire);
    }
    assert!((1..30).all(|link| net.peers[&(0, link)].closed == Some(CloseReason::Idle)));
    let cancelled = net.take((2, 0)).iter().filter(|line| line.ends_with("cancel")).count();
    assert_eq!(cancelled, 29 * 60);
}

#[test]
fn clients_that_connect_together_take_turns() {
    let mut net = Net::new(settings(3));
    net.join(A);
    let mut text = Vec::new();
    value::push_str(&mut text, &"x".repeat(1_000)).unwrap();
    let value = Value::from_encoded(&text).unwrap();
    for i in 0..600 {
        net.say(A, &Message::Set(Set { value, ..set_of(&format!("/{i}")) }), Qos::Fire);
    }
    net.step_bytes_max = 0;
    for link in 1..40 {
        net.open((0, link), Admit::Stranger);
        net.queue((0, link), &frame_of(&hello(None, 0), Qos::Fire));
    }
    net.settle();
    for link in 1..40 {
        let known =
            net.take((0, link)).iter().filter(|line| line.starts_with("SNAPSHOT /")).count();
        assert_eq!(known, 600);
    }
    assert!(net.step_bytes_max <= 4 * 65_539, "{} bytes in one step", net.step_bytes_max);
}

struct Nothing;

impl Effects for Nothing {
    fn send(&mut self, _: LinkId, _: &[u8]) {}
    fn close(&mut self, _: LinkId, _: CloseReason) {}
    fn to_peer(&mut self, _: clasp_rt_core::ShardId, _: Lane, _: &[u8]) {}
    fn resume(&mut self, _: LinkId) {}
}

#[test]
fn what_waits_for_room_in_a_ring_stays_due_since_it_began_to_wait() {
    let mut shard = Shard::new(settings(3));
    let opened = Input::Opened { link: LinkId(0), admit: Admit::Stranger };
    let _ = shard.step(Time(0), opened, &mut Nothing);
    let due = shard.deadline().unwrap();
    for after_ns in [0, 10, 20] {
        let deadline = Input::Deadline { forward_room: false };
        let _ = shard.step(Time(due.0 + after_ns), deadline, &mut Nothing);
        assert_eq!(shard.deadline(), Some(due), "after {after_ns} ns");
    }
    let _ = shard.step(Time(due.0 + 30), Input::Deadline { forward_room: true }, &mut Nothing);
    assert_eq!(shard.deadline(), None);
}

#[test]
fn where_the_shared_room_is_used_up_the_link_that_takes_most_of_it_goes() {
    let mut limits = limits();
    limits.window_bytes = 256;
    limits.outbox_pool_bytes = 8 << 10;
    limits.outbox_bytes_max = 64 << 10;
    let mut net = Net::new(Settings { limits, ..settings(1) });
    let writer = (0, 2);
    for client in [A, B, writer] {
        net.join(client);
    }
    net.subscribe(A, 1, "/greedy/**");
    net.subscribe(B, 1, "/modest/**");
    for client in [A, B] {
        net.peers.get_mut(&client).unwrap().stalled = true;
    }
    for i in 0..20 {
        net.emit(writer, &format!("/greedy/{i}{}", "x".repeat(300)));
    }
    assert_eq!((net.peers[&A].closed, net.peers[&B].closed), (None, None), "room for all so far");
    for i in 0..100 {
        net.emit(writer, &format!("/modest/{i}"));
    }
    assert_eq!(net.peers[&A].closed, Some(CloseReason::TooSlow));
    assert_eq!(net.peers[&B].closed, None);
    net.unstall(B);
    let want: Vec<String> = (0..100).map(|i| format!("event /modest/{i}")).collect();
    assert_eq!(net.take(B), want, "the modest one lost nothing");
}

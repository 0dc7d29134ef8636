//! What is remembered of an address follows every change that comes between two writes to it.

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Message, Publish, Set, Subscribe, SubscribeOptions, Ttl};
use clasp_rt_core::shard::{Arbitration, OnLoss, Order, Settings};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};

use super::net::{Client, Net, set_of};
use super::{A, limits, settings};

const OTHER: Client = (0, 2);

/// Writes and publishes twice, so that the second time all is remembered, and tells how many SETs
/// and events each listener got.
fn heard(net: &mut Net, address: &str, listeners: [Client; 2]) -> [[usize; 2]; 2] {
    for number in 0..2 {
        net.set(A, address, f64::from(number));
        net.emit(A, address);
    }
    listeners.map(|listener| {
        let lines = net.take(listener);
        ["SET", "event"].map(|word| {
            let start = format!("{word} {address}");
            lines.iter().filter(|line| line.starts_with(&start)).count()
        })
    })
}

#[test]
fn whoever_subscribes_unsubscribes_or_leaves_between_two_writes_is_noticed() {
    for (shards, home) in [(1, 0), (3, 0), (3, 1), (3, 2)] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        for client in [A, far, OTHER] {
            net.join(client);
        }
        let address = net.address_at(home, 0);
        type Change = fn(&mut Net, Client, &str);
        let unsubscribe: Change = |net, far, _| {
            net.say(far, &Message::Unsubscribe { id: 1 }, Qos::Fire);
        };
        let steps: [(&str, Change, [[usize; 2]; 2]); 9] = [
            ("nobody listens", |_, _, _| {}, [[0, 0], [0, 0]]),
            ("one listens", |net, far, address| net.subscribe(far, 1, address), [[2, 2], [0, 0]]),
            ("another too", |net, _, _| net.subscribe(OTHER, 1, "/**"), [[2, 2], [2, 2]]),
            ("twice", |net, _, address| net.subscribe(OTHER, 2, address), [[2, 2], [2, 2]]),
            ("the first no more", unsubscribe, [[0, 0], [2, 2]]),
            (
                "it wants events only",
                |net, far, _| {
                    let types = SignalMask(1 << Signal::Event.code());
                    let options = SubscribeOptions::default();
                    let wish = Subscribe { id: 1, pattern: "/rig/*", types, options };
                    net.say(far, &Message::Subscribe(wish), Qos::Fire);
                },
                [[0, 2], [2, 2]],
            ),
            (
                "it wants a value a second too",
                |net, far, address| {
                    let options = SubscribeOptions { max_rate: Some(1), ..Default::default() };
                    net.subscribe_with(far, 2, address, options);
                },
                [[1, 2], [2, 2]],
            ),
            (
                "its link is another's",
                |net, far, _| {
                    net.leave(far);
                    net.join(far);
                },
                [[0, 0], [2, 2]],
            ),
            (
                "the last one leaves",
                |net, _, _| {
                    net.leave(OTHER);
                    net.join(OTHER);
                },
                [[0, 0], [0, 0]],
            ),
        ];
        for (what, change, expected) in steps {
            change(&mut net, far, &address);
            net.wait_ms(1_500);
            net.take(far);
            net.take(OTHER);
            let found = heard(&mut net, &address, [far, OTHER]);
            assert_eq!(found, expected, "{what}, {shards} shards, home {home}");
        }
    }
}

/// What is held of an address, as a GET tells it.
fn held(net: &mut Net, address: &str) -> String {
    net.say(A, &Message::Get { address }, Qos::Fire);
    net.take(A).remove(0)
}

#[test]
fn an_address_whose_param_went_does_not_write_into_its_place() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        net.join(A);
        let mortal = |address| Set { ttl: Some(Ttl::Absolute(1)), ..set_of(address) };
        net.set(A, "/x", 1.0);
        net.say(A, &Message::Set(mortal("/x")), Qos::Fire);
        net.wait_ms(1_500);
        assert_eq!(held(&mut net, "/x"), "ERROR 201 /x");
        // It takes the place that became vacant.
        net.set(A, "/y", 2.0);
        net.set(A, "/x", 3.0);
        net.set(A, "/y", 4.0);
        assert_eq!(held(&mut net, "/x"), "SNAPSHOT /x 3 r3", "{shards} shards");
        assert_eq!(held(&mut net, "/y"), "SNAPSHOT /y 4 r2", "{shards} shards");
    }
}

#[test]
fn addresses_that_evict_each_other_keep_their_values_apart() {
    let limits = Limits { params_max: 2, ..limits() };
    let mut net = Net::new(Settings { limits, ..settings(1) });
    net.join(A);
    for round in 1..5 {
        for (n, address) in ["/a", "/b", "/c"].into_iter().enumerate() {
            net.set(A, address, f64::from(round * 10) + n as f64);
            let expected = format!("SNAPSHOT {address} {} r{round}", round * 10 + n as i32);
            assert_eq!(held(&mut net, address), expected);
        }
    }
}

#[test]
fn a_param_that_goes_because_its_writer_is_introduced_is_written_anew() {
    let limits = Limits { params_max: 1, ..limits() };
    let arbitration = Arbitration {
        pattern: "/won/**".into(),
        order: Order::Latest,
        timeout: None,
        on_loss: OnLoss::Hold,
        default_priority: 100,
    };
    let mut net = Net::new(Settings { limits, arbitrations: vec![arbitration], ..settings(1) });
    // Too long to be known, so that each write finds its param in the store.
    let address = format!("/{}", "x".repeat(100));
    for (client, value) in [(A, 1), (OTHER, 2)] {
        net.join(client);
        // The first write of a session says who it is, and takes the only place there is.
        net.set(client, &address, f64::from(value));
        assert_eq!(held(&mut net, &address), format!("SNAPSHOT {address} {value} r{value}"));
    }
}

#[test]
fn a_signal_for_a_session_stays_one_and_no_param_may_have_its_address() {
    let mut net = Net::new(settings(1));
    net.join(A);
    net.join(OTHER);
    net.subscribe(OTHER, 1, "/**");
    let address = "/clasp/p2p/signal/nobody";
    for number in 0..2 {
        net.set(A, address, f64::from(number));
        let to_nobody = Publish {
            address,
            signal: Some(Signal::Event),
            phase: Some(Phase::Start),
            ..Publish::default()
        };
        net.say(A, &Message::Publish(to_nobody), Qos::Fire);
        assert_eq!(net.take(A), [format!("ERROR 301 {address}"), "ERROR 404 -".to_owned()]);
        assert_eq!(net.take(OTHER), [""; 0]);
    }
}

//! The blocking client against scripts, over both transports.

mod peer;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clasp_rt_client::{
    Client, ConnectError, Item, Origin, Phase, Qos, RequestError, Scheme, SendError, SetOptions,
    Signal, SubscribeOptions, Ttl, Val,
};
use clasp_rt_core::message::{Ack, Message, ParamValue, Publish, Set, SignalInfo};
use clasp_rt_core::value::{Value, push_f64};
use clasp_rt_core::wire::list::{Params, Signals};
use clasp_rt_link::End;
use peer::{Peer, Router, SCHEMES};

/// Long enough to never be the reason for a failure on a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn float(number: f64, bytes: &mut Vec<u8>) -> Value<'_> {
    bytes.clear();
    push_f64(bytes, number);
    Value::from_encoded(bytes).expect("a float")
}

fn send_set(peer: &mut Peer, address: &str, value: Value<'_>, revision: u64) {
    peer.send(&Message::Set(Set {
        address,
        value,
        revision: Some(revision),
        lock: false,
        unlock: false,
        ttl: None,
    }));
}

fn send_snapshot(peer: &mut Peer, address: &str, value: Value<'_>, revision: u64) {
    let param = ParamValue { address, value, revision, writer: None, timestamp_us: None };
    let mut bytes = Vec::new();
    Params::append(&mut bytes, param).expect("one param");
    peer.send(&Message::Snapshot { params: Params::from_bytes(&bytes).expect("one param") });
}

fn expect_get(peer: &mut Peer, wanted: &str) {
    peer.expect("GET", |message| matches!(message, Message::Get { address } if *address == wanted));
}

/// The message is a SET; gives what matters of it.
fn receive_set(peer: &mut Peer) -> (String, Val, Qos) {
    peer.receive(|message, qos| match message {
        Message::Set(set) => (set.address.to_owned(), set.value.into(), qos),
        other => panic!("SET expected, not {other:?}"),
    })
}

fn receive_subscribe(peer: &mut Peer) -> (u32, String, SubscribeOptions) {
    peer.receive(|message, _| match message {
        Message::Subscribe(subscribe) => {
            (subscribe.id, subscribe.pattern.to_owned(), subscribe.options)
        }
        other => panic!("SUBSCRIBE expected, not {other:?}"),
    })
}

/// A client whose updates of `pattern` come out of the channel.
fn subscribed(client: &Client, pattern: &str) -> Receiver<(String, Signal, Origin, Val)> {
    let (sender, updates) = channel();
    client
        .subscribe(pattern, SubscribeOptions::default(), move |update| {
            let told = (update.address.to_owned(), update.signal, update.origin, update.val());
            // A test that has seen enough drops its end.
            let _ = sender.send(told);
        })
        .expect("a pattern");
    updates
}

#[test]
fn a_client_says_who_it_is_and_knows_what_the_router_answered() {
    for scheme in SCHEMES {
        let router = Router::start(scheme, |door| {
            let mut peer = door.accept();
            peer.receive(|message, _| match message {
                Message::Hello(hello) => {
                    assert_eq!((hello.version, hello.name), (1, "panel"));
                    assert_eq!(hello.token, Some("cpsk_1"));
                    assert_eq!(hello.features.bits(), 0xF8);
                }
                other => panic!("HELLO expected, not {other:?}"),
            });
            peer.send_welcome();
            peer.until_the_end();
        });
        let client =
            Client::builder(&router.url()).name("panel").token("cpsk_1").connect().unwrap();
        assert_eq!(client.session(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
        assert_eq!(client.router(), "script");
        assert!(client.router_time_us() >= 1_700_000_000_000_000);
        assert!(client.is_connected() && !client.is_closed());
        client.close();
        assert!(client.is_closed());
        router.finish();
    }
}

#[test]
fn a_write_comes_back_to_the_writers_own_subscription() {
    for scheme in SCHEMES {
        let router = Router::start(scheme, |door| {
            let mut peer = door.welcome();
            let (_, pattern, options) = receive_subscribe(&mut peer);
            assert_eq!((pattern.as_str(), options), ("/lights/*", SubscribeOptions::default()));
            let (address, value, qos) = receive_set(&mut peer);
            assert_eq!(
                (address.as_str(), value, qos),
                ("/lights/1", Val::Float(0.5), Qos::Fire),
                "no acknowledgement is asked for"
            );
            send_set(&mut peer, "/lights/1", float(0.5, &mut Vec::new()), 7);
            send_set(&mut peer, "/sound/1", Value::NULL, 1);
            send_set(&mut peer, "/lights/2", Value::NULL, 2);
            peer.until_the_end();
        });
        let client = Client::builder(&router.url()).connect().unwrap();
        let updates = subscribed(&client, "/lights/*");
        client.set("/lights/1", 0.5).unwrap();
        for (address, value) in [("/lights/1", Val::Float(0.5)), ("/lights/2", Val::Null)] {
            let told = (address.to_owned(), Signal::Param, Origin::Set, value);
            assert_eq!(updates.recv_timeout(LONG).as_ref(), Ok(&told));
        }
        assert_eq!(client.cached("/lights/1"), Some((Val::Float(0.5), 7)));
        assert_eq!(client.cached("/sound/1"), Some((Val::Null, 1)), "known though not asked for");
        assert_eq!(client.cached("/lights/3"), None);
        // No GET reaches the script: the subscription follows the address.
        assert_eq!(client.get("/lights/1", LONG), Ok(Val::Float(0.5)));
        client.close();
        router.finish();
    }
}

#[test]
fn get_asks_the_router_and_says_why_there_is_nothing() {
    let router = Router::start(Scheme::Ws, |door| {
        let mut peer = door.welcome();
        expect_get(&mut peer, "/a");
        send_snapshot(&mut peer, "/a", float(2.5, &mut Vec::new()), 4);
        expect_get(&mut peer, "/a");
        send_snapshot(&mut peer, "/a", float(3.5, &mut Vec::new()), 5);
        expect_get(&mut peer, "/none");
        peer.send_error(201, "nothing there", Some("/none"));
        expect_get(&mut peer, "/silent");
        peer.expect("PING", |message| matches!(message, Message::Ping));
        peer.send(&Message::Pong);
        expect_get(&mut peer, "/gone");
        peer.close(1001);
    });
    let client = Client::builder(&router.url()).reconnect(false).connect().unwrap();
    assert_eq!(client.get("/a", LONG), Ok(Val::Float(2.5)));
    assert_eq!(client.get("/a", LONG), Ok(Val::Float(3.5)), "asked anew: nobody follows it");
    let refused = RequestError::Refused { code: 201, message: "nothing there".to_owned() };
    assert_eq!(client.get("/none", LONG), Err(refused));
    assert_eq!(client.get("/silent", Duration::from_millis(1)), Err(RequestError::TimedOut));
    assert!(client.ping(LONG).is_ok());
    assert_eq!(client.get("/gone", LONG), Err(RequestError::Lost));
    let bad = client.get("no slash", LONG);
    assert!(matches!(bad, Err(RequestError::Send(SendError::Address(_)))), "{bad:?}");
    router.finish();
}

#[test]
fn a_confirmed_write_waits_for_its_revision_or_its_refusal() {
    let router = Router::start(Scheme::Tcp, |door| {
        let mut peer = door.welcome();
        peer.receive(|message, qos| match message {
            Message::Set(set) => {
                assert_eq!((set.revision, set.lock, set.unlock), (Some(8), true, false));
                assert_eq!((set.ttl, qos), (Some(Ttl::Sliding(60)), Qos::Confirm));
            }
            other => panic!("SET expected, not {other:?}"),
        });
        peer.send(&Message::Ack(Ack { address: Some("/a"), revision: Some(9), ..Ack::default() }));
        assert_eq!(receive_set(&mut peer), ("/a".to_owned(), Val::Int(1), Qos::Confirm));
        peer.send_error(400, "locked by another", Some("/a"));
        peer.until_the_end();
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    let options =
        SetOptions { lock: true, revision: Some(8), ttl: Some(Ttl::Sliding(60)), unlock: false };
    assert_eq!(client.set_confirmed("/a", 1, options, LONG), Ok(9));
    let refused = RequestError::Refused { code: 400, message: "locked by another".to_owned() };
    assert_eq!(client.set_confirmed("/a", 1, SetOptions::default(), LONG), Err(refused));
    assert_eq!(
        client.last_error().map(|trouble| trouble.to_string()),
        Some("/a: locked by another (400)".to_owned())
    );
    client.close();
    router.finish();
}

#[test]
fn events_streams_gestures_and_bundles_travel_as_what_they_are() {
    let router = Router::start(Scheme::Ws, |door| {
        let mut peer = door.welcome();
        let mut publish = |check: fn(Publish<'_>)| {
            peer.receive(|message, qos| match message {
                Message::Publish(publish) => {
                    assert_eq!(qos, Qos::Fire);
                    check(publish);
                }
                other => panic!("PUBLISH expected, not {other:?}"),
            });
        };
        publish(|event| {
            assert_eq!((event.address, event.signal), ("/cue", Some(Signal::Event)));
            assert_eq!(event.value.and_then(Value::as_str), Some("go"));
        });
        publish(|stream| {
            assert_eq!((stream.signal, stream.rate), (Some(Signal::Stream), Some(60)));
            assert!(stream.samples.is_some_and(|samples| samples.iter().eq([0.5, 1.0])));
        });
        publish(|touch| {
            assert_eq!((touch.signal, touch.id), (Some(Signal::Gesture), Some(3)));
            assert_eq!(touch.phase, Some(Phase::Move));
        });
        peer.receive(|message, qos| match message {
            Message::Bundle(bundle) => {
                assert_eq!((bundle.timestamp_us, qos), (Some(5), Qos::Commit));
                let parts = bundle.messages.iter().map(|part| match part {
                    Message::Set(set) => format!("{}={:?}", set.address, set.value.as_i64()),
                    Message::Publish(publish) => publish.address.to_owned(),
                    other => panic!("neither SET nor PUBLISH: {other:?}"),
                });
                assert_eq!(parts.collect::<Vec<_>>(), ["/a=Some(1)", "/cue", "/b=Some(2)"]);
            }
            other => panic!("BUNDLE expected, not {other:?}"),
        });
        peer.send(&Message::Ack(Ack { revision: Some(1), ..Ack::default() }));
        peer.until_the_end();
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    client.emit("/cue", "go").unwrap();
    client.stream_samples("/env", &[0.5, 1.0], Some(60)).unwrap();
    client.gesture("/pad", 3, Phase::Move, vec![("x".to_owned(), 0.1.into())]).unwrap();
    let items = [Item::set("/a", 1), Item::emit("/cue", ()), Item::set("/b", 2)];
    client.bundle_confirmed(&items, Some(5), LONG).unwrap();

    let deep = (0..65).fold(Val::Null, |inner, _| Val::Array(vec![inner]));
    assert_eq!(client.set("/a", deep), Err(SendError::TooDeep));
    assert_eq!(client.set("/a", "x".repeat(65_536)), Err(SendError::TooLong));
    assert_eq!(client.set("/a", "x".repeat(65_535)), Err(SendError::TooLong), "with its address");
    client.close();
    router.finish();
}

#[test]
fn what_was_announced_can_be_asked_for() {
    let router = Router::start(Scheme::Ws, |door| {
        let mut peer = door.welcome();
        peer.expect("QUERY", |message| matches!(message, Message::Query { pattern: "/app/**" }));
        let mut bytes = Vec::new();
        let signal = SignalInfo {
            address: "/app/fader",
            signal: Signal::Param,
            datatype: Some("float"),
            access: None,
            meta: None,
        };
        Signals::append(&mut bytes, signal).unwrap();
        peer.send(&Message::Result { signals: Signals::from_bytes(&bytes).unwrap() });
        peer.until_the_end();
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    let known = client.query("/app/**", LONG).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].address.as_str(), known[0].signal), ("/app/fader", Signal::Param));
    assert_eq!((known[0].datatype.as_deref(), known[0].access.as_deref()), (Some("float"), None));
    client.close();
    router.finish();
}

#[test]
fn after_a_loss_the_client_comes_back_with_its_subscriptions_and_their_options() {
    for scheme in SCHEMES {
        let options = SubscribeOptions { max_rate: Some(25), ..SubscribeOptions::default() };
        let router = Router::start(scheme, move |door| {
            let mut first = door.welcome();
            let wanted = receive_subscribe(&mut first);
            assert_eq!(wanted.2, options);
            let (gone, _, _) = receive_subscribe(&mut first);
            first
                .expect("UNSUBSCRIBE", |m| matches!(m, Message::Unsubscribe { id } if *id == gone));
            drop(first);
            // The router is up again, but not ready yet.
            drop(door.accept());
            let mut second = door.welcome();
            assert_eq!(receive_subscribe(&mut second), wanted, "and nothing that was taken back");
            send_snapshot(&mut second, "/a/b", Value::NULL, 1);
            second.until_the_end();
        });
        let (sender, troubles) = channel();
        let client = Client::builder(&router.url())
            .backoff(Duration::from_millis(1), Duration::from_millis(5))
            .on_error(move |trouble| drop(sender.send(trouble.to_string())))
            .connect()
            .unwrap();
        let (sender, updates) = channel();
        client
            .subscribe("/a/*", options, move |update| {
                sender.send(update.origin).unwrap_or_default()
            })
            .unwrap();
        let gone = client.subscribe("/b", SubscribeOptions::default(), |_| {}).unwrap();
        client.unsubscribe(gone).unwrap();
        assert_eq!(updates.recv_timeout(LONG), Ok(Origin::Snapshot));
        assert!(client.is_connected());
        assert_eq!(troubles.recv_timeout(LONG).as_deref(), Ok("the connection went down"));
        client.close();
        router.finish();
    }
}

#[test]
fn a_client_that_shall_not_come_back_is_closed_by_a_loss() {
    let router = Router::start(Scheme::Ws, |door| door.welcome().close(1013));
    let (sender, troubles) = channel();
    let client = Client::builder(&router.url())
        .reconnect(false)
        .on_error(move |trouble| drop(sender.send(trouble.to_string())))
        .connect()
        .unwrap();
    let told = troubles.recv_timeout(LONG).unwrap();
    assert_eq!(told, "the connection went down: closed by the peer with code 1013");
    // The thread ends, and nothing is sent into the void.
    while !client.is_closed() {
        std::thread::yield_now();
    }
    assert_eq!(client.set("/a", 1), Err(SendError::Closed));
    assert_eq!(client.get("/a", LONG), Err(RequestError::Send(SendError::Closed)));
    let refused = client.subscribe("/a", SubscribeOptions::default(), |_| {});
    assert_eq!(refused, Err(SendError::Closed));
    router.finish();
}

#[test]
fn close_says_good_bye_as_the_transport_does() {
    for (scheme, goodbye) in [(Scheme::Ws, Some(End::Closed { code: 1000 })), (Scheme::Tcp, None)] {
        let router = Router::start(scheme, move |door| {
            assert_eq!(door.welcome().until_the_end(), goodbye);
        });
        let client = Client::builder(&router.url()).connect().unwrap();
        client.close();
        client.close();
        assert!(client.is_closed());
        router.finish();
    }
}

#[test]
fn dropping_the_last_clone_closes_too() {
    let router = Router::start(Scheme::Ws, |door| {
        assert_eq!(door.welcome().until_the_end(), Some(End::Closed { code: 1000 }));
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    let clone = client.clone();
    drop(client);
    assert!(clone.is_connected());
    drop(clone);
    router.finish();
}

#[test]
fn a_callback_may_call_the_client_even_to_close_it() {
    let router = Router::start(Scheme::Ws, |door| {
        let mut peer = door.welcome();
        let (id, _, _) = receive_subscribe(&mut peer);
        send_set(&mut peer, "/a", Value::NULL, 1);
        assert_eq!(receive_set(&mut peer).0, "/b");
        peer.expect("UNSUBSCRIBE", |m| matches!(m, Message::Unsubscribe { id: i } if *i == id));
        assert_eq!(peer.until_the_end(), Some(End::Closed { code: 1000 }));
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    let (sender, ids) = channel();
    let (done, closed) = channel();
    let own = client.clone();
    let id = client
        .subscribe("/a", SubscribeOptions::default(), move |_| {
            own.set("/b", 1).unwrap();
            own.unsubscribe(ids.recv_timeout(LONG).unwrap()).unwrap();
            own.close();
            done.send(()).unwrap();
        })
        .unwrap();
    sender.send(id).unwrap();
    assert_eq!(closed.recv_timeout(LONG), Ok(()));
    router.finish();
}

#[test]
fn a_panicking_callback_leaves_nobody_waiting() {
    let router = Router::start(Scheme::Ws, |door| {
        let mut peer = door.welcome();
        receive_subscribe(&mut peer);
        peer.expect("GET", |message| matches!(message, Message::Get { .. }));
        send_set(&mut peer, "/a", Value::NULL, 1);
        peer.until_the_end();
    });
    let client = Client::builder(&router.url()).connect().unwrap();
    client.subscribe("/a", SubscribeOptions::default(), |_| panic!("as the test wants")).unwrap();
    assert_eq!(client.get("/b", LONG), Err(RequestError::Lost));
    client.close();
    router.finish();
}

#[test]
fn a_silent_router_is_asked_and_then_given_up() {
    let router = Router::start(Scheme::Tcp, |door| {
        let mut peer = door.welcome();
        peer.expect("PING", |message| matches!(message, Message::Ping));
        assert_eq!(peer.until_the_end(), None, "hung up on");
    });
    let (sender, troubles) = channel();
    let client = Client::builder(&router.url())
        .reconnect(false)
        .keep_alive(Duration::from_millis(20))
        .on_error(move |trouble| drop(sender.send(trouble.to_string())))
        .connect()
        .unwrap();
    assert_eq!(troubles.recv_timeout(LONG).as_deref(), Ok("the connection went down"));
    client.close();
    router.finish();
}

#[test]
fn a_router_that_refuses_is_not_asked_again() {
    for scheme in SCHEMES {
        let router = Router::start(scheme, |door| {
            for _ in 0..2 {
                let mut peer = door.accept();
                peer.expect("HELLO", |message| matches!(message, Message::Hello(_)));
                peer.send_error(300, "token needed", None);
                peer.close(1008);
            }
        });
        for _ in 0..2 {
            let refused = Client::builder(&router.url()).connect();
            let Err(ConnectError::Refused { code: 300, message }) = refused.map(drop) else {
                panic!("not refused");
            };
            assert_eq!(message, "token needed");
        }
        router.finish();
    }
}

#[test]
fn whoever_is_no_router_is_told_apart_from_nobody() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Err(error) = Client::builder(&format!("ws://{nobody}")).connect() else {
        panic!("nobody listens there");
    };
    assert!(error.to_string().starts_with(&format!("no router at ws://{nobody}/: ")), "{error}");

    let hall = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hall.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = hall.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let Err(error) = Client::builder(&format!("ws://{address}")).connect() else {
        panic!("that is a web server");
    };
    assert!(error.to_string().contains("404"), "{error}");
    server.join().unwrap();

    let Err(error) = Client::builder("localhost:7330").connect() else {
        panic!("that is no URL");
    };
    assert!(error.to_string().contains("needs ws:// or tcp:// in front"), "{error}");
}

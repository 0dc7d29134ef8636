//! What is said in the first moment of a router: nothing passes its routes by.

use clasp_rt_bridges::routes;
use clasp_rt_core::message::{Bundle, Publish};
use clasp_rt_core::shard::{OnLoss, Order};
use clasp_rt_core::signal::Signal;
use clasp_rt_core::value::{MapWriter, push_str};
use clasp_rt_core::wire::list::Messages;

use super::*;

/// Speaks for a desk behind it as soon as it may.
struct Hasty;

impl Bridge for Hasty {
    fn name(&self) -> &str {
        "hasty"
    }

    fn step(&mut self, _now: Time, input: Input<'_>, out: &mut dyn Out) {
        if !matches!(input, Input::Joined) {
            return;
        }
        say(&Message::Hello(hello_of("hasty")), out);
        for show in 0..SHOWS {
            let mut id = Vec::new();
            push_str(MapWriter::start(&mut id).entry("id").unwrap(), "osc.desk").unwrap();
            let id = Value::from_encoded(&id).unwrap();
            let value = Value::from_encoded(&[0x01, 0x01]).unwrap();
            let (address, go) = (in_(show, "level"), in_(show, "go"));
            let (revision, lock, unlock, ttl) = (None, false, false, None);
            let set = Set { address: &address, value, revision, lock, unlock, ttl };
            let mut payloads = Vec::new();
            let marker = Message::Publish(event("/clasp/source", id));
            Messages::append(&mut payloads, &marker).unwrap();
            Messages::append(&mut payloads, &Message::Set(set)).unwrap();
            let messages = Messages::from_payloads(&payloads, 2).unwrap();
            say(&Message::Bundle(Bundle { timestamp_us: None, messages }), out);
            say(&Message::Publish(event(&go, value)), out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// As many as have homes everywhere.
const SHOWS: u32 = 16;

fn event<'a>(address: &'a str, value: Value<'a>) -> Publish<'a> {
    let (signal, value) = (Some(Signal::Event), Some(value));
    Publish { address, signal, value, ..Publish::default() }
}

fn in_(show: u32, what: &str) -> String {
    format!("/in/{show}/{what}")
}

fn hosted(core: Option<usize>, bridges: Vec<(Box<dyn Bridge>, usize)>) -> BridgeThreadPlan {
    let plan =
        |(bridge, shard)| BridgePlan { place: String::new(), bridge, uplink: Uplink::Shard(shard) };
    BridgeThreadPlan { core, bridges: bridges.into_iter().map(plan).collect() }
}

#[test]
fn what_a_device_says_in_the_first_moment_is_routed_in_its_own_name() {
    for is_shared in [true, false] {
        let mut threads = plan(3);
        for shard in &mut threads.shards {
            shard.settings.arbitrations = vec![Arbitration {
                pattern: "/rig/**".to_owned(),
                order: Order::Highest,
                timeout: None,
                on_loss: OnLoss::Hold,
                default_priority: 100,
            }];
        }
        let route = serde_json::json!({
            "route": [{ "from": "/in/*/*", "to": "/rig/{1}/{2}" }], "sources": true,
        });
        let routes = routes::open(serde_json::from_value(route).unwrap()).unwrap();
        let hasty: Box<dyn Bridge> = Box::new(Hasty);
        threads.bridges = if is_shared {
            vec![hosted(None, vec![(hasty, 0), (routes, 1)])]
        } else {
            vec![hosted(Some(0), vec![(hasty, 0)]), hosted(None, vec![(routes, 1)])]
        };
        let running = start(threads).unwrap();
        let names: Vec<_> = running.bridges.iter().map(|thread| thread.name.as_str()).collect();
        let begun = if is_shared { &["bridges 0"][..] } else { &["bridges 1", "bridges 0"] };
        assert_eq!(names, begun, "the routes first, and each is called by its place in the plan");
        let desk = client(&running, ListenerTransport::Tcp, "desk");
        for show in 0..SHOWS {
            // An event is heard in its moment or never.
            for what in ["level", "go"] {
                let address = format!("/rig/{show}/{what}");
                wait_until(&address, || {
                    desk.get(&address, PATIENCE).is_ok_and(|value| value == Val::Bool(true))
                });
            }
            let why = desk.get(&format!("/clasp/why/rig/{show}/level"), PATIENCE).unwrap();
            let winner = why.get("winner").and_then(|it| it.get("source")).and_then(Val::as_str);
            assert_eq!(winner, Some("osc.desk"), "show {show}, shared {is_shared}: {why:?}");
        }
        assert!(running.stop().is_empty());
    }
}

/// Takes its time until it hears all that it wants to hear.
struct Slow {
    deadlines: u32,
    is_settled: Arc<AtomicBool>,
}

impl Bridge for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn step(&mut self, _now: Time, input: Input<'_>, _out: &mut dyn Out) {
        if matches!(input, Input::Deadline) {
            self.deadlines += 1;
            self.is_settled.store(self.deadlines >= 500, Ordering::SeqCst);
        }
    }

    fn deadline(&self) -> Option<Time> {
        (!self.is_settled()).then_some(Time(0))
    }

    fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::SeqCst)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

#[test]
fn nobody_is_let_in_before_routes_hear_everything() {
    let free = std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let is_settled = Arc::new(AtomicBool::new(false));
    let mut threads = plan(2);
    for shard in &mut threads.shards {
        shard.listeners = vec![ListenerPlan { transport: ListenerTransport::Tcp, addr: free }];
    }
    let slow = Slow { deadlines: 0, is_settled: Arc::clone(&is_settled) };
    threads.bridges = vec![hosted(None, vec![(Box::new(slow), 0)])];
    let early = std::thread::spawn(move || {
        let mut was_settled = None;
        wait_until("WELCOME", || {
            let builder = Client::builder(&format!("tcp://{free}")).reconnect(false);
            let client = builder.connect();
            was_settled = client.is_ok().then(|| is_settled.load(Ordering::SeqCst));
            was_settled.is_some()
        });
        was_settled
    });
    let running = start(threads).unwrap();
    assert_eq!(early.join().unwrap(), Some(true));
    assert!(running.stop().is_empty());
}

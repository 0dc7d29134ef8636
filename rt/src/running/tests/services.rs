//! A service beside shards: how its sessions get in, how many, and what it says last.

use std::collections::BTreeSet;

use clasp_rt_core::message::{Subscribe, SubscribeOptions};
use clasp_rt_core::signal::SignalMask;
use clasp_rt_worker::{Context, Hearer, Service, Speaker, Who};

use super::*;

/// Sets what it hears at `/mirror/1/in` at `.../out`; each number heard at `.../crowd` is how
/// many strangers it lets join.
struct Mirror;

const PLACES: u32 = 8;

/// So many that each shard is the home of some.
const LAST_WORDS: i64 = 64;

impl Service for Mirror {
    fn name(&self) -> &str {
        "mirror"
    }

    fn sessions_max(&self) -> u32 {
        PLACES
    }

    fn run(self: Box<Self>, context: Context) -> clasp_rt_worker::Running {
        Box::pin(async move {
            let who = Who::service("mirror", None);
            let Some((mut speaker, mut hearer)) =
                context.router.join_for_sure(&who, &context.stop).await
            else {
                return Ok(());
            };
            let (pattern, options) = ("/mirror/1/*", SubscribeOptions::default());
            let subscribe = Subscribe { id: 1, pattern, types: SignalMask::ALL, options };
            speaker.say(&Message::Subscribe(subscribe), Qos::Fire).await?;
            tell(&mut speaker, "/mirror/1/ready", 1).await?;
            let mut crowd = Vec::new();
            loop {
                let heard = tokio::select! {
                    heard = hearer.next() => heard,
                    () = context.stop.wait() => break,
                };
                let Some(heard) = heard else { return Ok(()) };
                let Message::Set(set) = heard.message else { continue };
                match set.address {
                    "/mirror/1/in" => {
                        let set = Set { address: "/mirror/1/out", revision: None, ..set };
                        speaker.say(&Message::Set(set), Qos::Fire).await?;
                    }
                    "/mirror/1/crowd" => {
                        for _ in 0..set.value.as_i64().unwrap_or(0) {
                            let stranger = Who::client("stranger", None);
                            crowd.extend(context.router.join(&stranger).await.ok());
                        }
                        tell(&mut speaker, "/mirror/1/joined", crowd.len() as i64).await?;
                    }
                    "/mirror/1/leave" => {
                        leave(&mut crowd).await?;
                    }
                    _ => {}
                }
            }
            for number in 0..LAST_WORDS {
                tell(&mut speaker, &format!("/mirror/last/{number}"), number).await?;
            }
            tell(&mut speaker, "/mirror/1/last", 1).await?;
            speaker.leave().await
        })
    }
}

async fn leave(crowd: &mut Vec<(Speaker, Hearer)>) -> std::io::Result<()> {
    for (speaker, _) in crowd.drain(..) {
        speaker.leave().await?;
    }
    Ok(())
}

async fn tell(speaker: &mut Speaker, address: &str, number: i64) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    clasp_rt_core::value::push_i64(&mut bytes, number);
    let value = Value::from_encoded(&bytes).unwrap();
    let set = Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
    speaker.say(&Message::Set(set), Qos::Fire).await
}

fn with_mirror(shards: u16, uplink: Uplink) -> Threads {
    let mut threads = plan(shards);
    threads.services =
        vec![ServicePlan { place: String::new(), core: None, service: Box::new(Mirror), uplink }];
    threads.guests_max = PLACES;
    threads
}

/// Waits for the value at `address`.
fn expect(heard: &Receiver<(String, Val)>, address: &str) -> Val {
    loop {
        let (found, value) = heard.recv_timeout(PATIENCE).unwrap();
        if found == address {
            return value;
        }
    }
}

#[test]
fn a_service_inside_the_router_joins_at_its_shards_and_says_its_last_words() {
    let running = start(with_mirror(2, Uplink::Shard(0))).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    let heard = listen_to(&desk, "/mirror/**");
    assert_eq!(expect(&heard, "/mirror/1/ready"), Val::Int(1));
    for number in 0..50 {
        desk.set("/mirror/1/in", number).unwrap();
        assert_eq!(expect(&heard, "/mirror/1/out"), Val::Int(number));
    }
    assert_eq!(running.sessions(), 1, "a trusted link takes no seat");
    desk.set("/mirror/1/crowd", 6).unwrap();
    assert_eq!(expect(&heard, "/mirror/1/joined"), Val::Int(6));
    assert_eq!(running.sessions(), 7, "a stranger takes one");
    wait_until("its count", || counter(&running.services[0], "sessions_now") == 7);
    desk.set("/mirror/1/leave", 1).unwrap();
    wait_until("their end", || running.sessions() == 1);
    let faults = running.stop();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(expect(&heard, "/mirror/1/last"), Val::Int(1));
}

#[test]
fn all_that_a_service_says_last_arrives_whichever_shards_it_passes() {
    for _ in 0..5 {
        let running = start(with_mirror(4, Uplink::Shard(0))).unwrap();
        let desks: Vec<_> =
            (0..4).map(|_| client(&running, ListenerTransport::Tcp, "desk")).collect();
        let heard: Vec<_> = desks.iter().map(|desk| listen_to(desk, "/mirror/**")).collect();
        heard.iter().for_each(|heard| assert_eq!(expect(heard, "/mirror/1/ready"), Val::Int(1)));
        assert!(running.stop().is_empty());
        for (nth, heard) in heard.into_iter().enumerate() {
            let mut missing: BTreeSet<_> =
                (0..LAST_WORDS).map(|number| format!("/mirror/last/{number}")).collect();
            while !missing.is_empty() {
                let next = heard.recv_timeout(PATIENCE);
                let (address, _) = next.unwrap_or_else(|why| {
                    panic!("desk {nth} did not hear {missing:?}: {why}");
                });
                missing.remove(&address);
            }
        }
    }
}

#[test]
fn a_service_gets_no_more_sessions_than_it_has_places_and_they_come_back() {
    let running = start(with_mirror(1, Uplink::Shard(0))).unwrap();
    let desk = client(&running, ListenerTransport::Tcp, "desk");
    let heard = listen_to(&desk, "/mirror/**");
    assert_eq!(expect(&heard, "/mirror/1/ready"), Val::Int(1));
    for round in 0..3 {
        desk.set("/mirror/1/crowd", 20).unwrap();
        // One place is the service's own.
        assert_eq!(expect(&heard, "/mirror/1/joined"), Val::Int(7), "round {round}");
        desk.set("/mirror/1/leave", 1).unwrap();
        wait_until("their end", || running.sessions() == 1);
    }
    assert!(running.stop().is_empty());
}

#[test]
fn a_service_elsewhere_joins_over_either_transport() {
    for transport in [ListenerTransport::WebSocket, ListenerTransport::Tcp] {
        let router = start(plan(1)).unwrap();
        let at = addr(&router, transport);
        let (host, path) = (at.ip().to_string(), "/".to_owned());
        let uplink = Uplink::Remote(Remote { transport, host, port: at.port(), path });
        let mut alone = with_mirror(1, uplink);
        alone.shards.clear();
        let mirror = start(alone).unwrap();
        let desk = client(&router, transport, "desk");
        let heard = listen_to(&desk, "/mirror/**");
        assert_eq!(expect(&heard, "/mirror/1/ready"), Val::Int(1));
        desk.set("/mirror/1/in", 3).unwrap();
        assert_eq!(expect(&heard, "/mirror/1/out"), Val::Int(3));
        assert!(mirror.stop().is_empty());
        assert_eq!(expect(&heard, "/mirror/1/last"), Val::Int(1));
        assert!(router.stop().is_empty());
    }
}

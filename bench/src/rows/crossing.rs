//! What one shard boundary costs: two shards on two threads, joined by the rings of the program.
//!
//! No sockets, so that nothing hides the boundary. Both threads spin; a message counts from the
//! instant at which it should have been written until the shard hands it to its subscriber.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clasp_rt_core::limits::{Limits, PEER_RING_BYTES};
use clasp_rt_core::shard::{Admit, CloseReason, Effects, Input, Lane, Outcome, Settings, Shard};
use clasp_rt_core::time::Time;
use clasp_rt_core::{LinkId, ShardId, address, index};
use clasp_rt_perf::histogram::Latency;
use clasp_rt_ring::exchange::{self, Inbound, Sender, Stamps};

use crate::frames::{self, Kind, Numbered};
use crate::machine::{self, Places};
use crate::pace::Schedule;
use crate::report::Row;

/// Writes; on the first shard.
const PUBLISHER: LinkId = LinkId(0);
/// Is told; on one of the shards.
const SUBSCRIBER: LinkId = LinkId(1);

/// A message that takes longer counts as lost.
const GRACE: Duration = Duration::from_secs(2);

const RATE_HZ: f64 = 20_000.0;
const WARM_UP: Duration = Duration::from_millis(100);
const SEED: u64 = 0xB0;

/// Which shard does what; the publisher is on shard 0.
#[derive(Clone, Copy, Debug)]
struct Way {
    key: &'static str,
    name: &'static str,
    home: u16,
    subscriber: u16,
}

const WAYS: [Way; 3] = [
    Way { key: "crossing/same", name: "all on one shard", home: 0, subscriber: 0 },
    Way { key: "crossing/across", name: "subscriber on another shard", home: 0, subscriber: 1 },
    Way {
        key: "crossing/there-and-back",
        name: "address at home on another shard",
        home: 1,
        subscriber: 0,
    },
];

/// A row for each way, in turns.
pub fn run(places: Places, length: Duration, rounds: u32) -> io::Result<Vec<Row>> {
    let mut rows = WAYS.map(|way| Row::new(way.key, way.name));
    for round in 0..rounds {
        for (row, way) in rows.iter_mut().zip(WAYS) {
            let schedule = |length| Schedule::jittered(RATE_HZ, length, SEED + u64::from(round));
            let mut pair = Pair::joined(way);
            pair.run(places, &schedule(WARM_UP))?;
            let latency = pair.run(places, &schedule(length))?;
            let sent = schedule(length).len() as u64;
            row.round(&latency, None);
            row.sent += sent;
            row.expected += sent;
            row.arrived += latency.count();
        }
    }
    Ok(rows.into())
}

/// Two shards that know each other, with a publisher and a subscriber.
struct Pair {
    sides: [Side; 2],
    message: Numbered,
    /// Time zero of both shards.
    origin: Instant,
}

impl Pair {
    fn joined(way: Way) -> Self {
        let lanes = [(); 2].map(|()| exchange::mesh(2, PEER_RING_BYTES));
        let [forward, publish] = lanes;
        let mut sides = forward.into_iter().zip(publish).enumerate().map(|(id, lanes)| {
            let ((forward, forward_in), (publish, publish_in)) = lanes;
            let limits = Limits { links_max: 4, params_max: 1_000, ..Limits::default() };
            let (id, shards) = (ShardId(id as u16), 2);
            let settings = Settings { id, shards, limits, rate_limit: None, ..Settings::default() };
            let hands = Hands {
                rings: [forward, publish],
                stamps: Stamps::default(),
                delivered: Vec::with_capacity(64),
                latency: Latency::new(),
                unsent: [0; 2],
            };
            Side { shard: Shard::new(settings), hands, forward: forward_in, publish: publish_in }
        });
        let sides = [(); 2].map(|()| sides.next().expect("one for each of two threads"));
        let address = address_of(way.home);
        let message = Numbered::new(Kind::Set, &address);
        let mut pair = Self { sides, message, origin: Instant::now() };
        pair.open(0, PUBLISHER);
        let there = usize::from(way.subscriber);
        pair.open(there, SUBSCRIBER);
        pair.frame(there, SUBSCRIBER, &frames::subscribe(1, &address));
        pair
    }

    fn open(&mut self, side: usize, link: LinkId) {
        let now = self.now();
        self.sides[side].step(now, Input::Opened { link, admit: Admit::Trusted });
        self.frame(side, link, &frames::hello("crossing"));
    }

    /// One frame, and all that follows from it on both sides.
    fn frame(&mut self, side: usize, link: LinkId, frame: &[u8]) {
        let now = self.now();
        self.sides[side].step(now, Input::Frame { link, frame });
        while self.sides.iter_mut().fold(false, |busy, side| side.turn(now) | busy) {}
    }

    fn now(&self) -> Time {
        time(self.origin, Instant::now())
    }

    /// Both sides on threads of their own; the first one writes what `schedule` says.
    fn run(&mut self, places: Places, schedule: &Schedule) -> io::Result<Latency> {
        let run = Run {
            origin: self.origin,
            start: Instant::now() + Duration::from_millis(5),
            arrived: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let [first, second] = &mut self.sides;
        for side in [&mut *first, &mut *second] {
            side.hands.latency.clear();
            side.hands.delivered.clear();
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                machine::pin(places.client)?;
                second.watch(&run, schedule)
            });
            let wrote = machine::on_core(places.router, || {
                let wrote = first.write(&run, schedule, &mut self.message);
                run.over.store(true, Ordering::Release);
                wrote
            });
            run.over.store(true, Ordering::Release);
            let watched = other.join().map_err(|_| io::Error::other("a shard's thread ended"))?;
            wrote.and(watched)
        })?;
        let mut latency = Latency::new();
        self.sides.iter().for_each(|side| latency.merge(&side.hands.latency));
        Ok(latency)
    }
}

/// What both threads know of a run.
struct Run {
    origin: Instant,
    start: Instant,
    arrived: AtomicU64,
    over: AtomicBool,
}

/// One shard, and what its edge would do.
struct Side {
    shard: Shard,
    hands: Hands,
    forward: Inbound,
    publish: Inbound,
}

impl Side {
    fn write(&mut self, run: &Run, schedule: &Schedule, message: &mut Numbered) -> io::Result<()> {
        let (mut sent, mut last) = (0, run.start);
        loop {
            let now = Instant::now();
            let due = schedule.due(run.start, sent);
            if due.is_some_and(|due| due <= now) {
                let frame = message.frame(sent);
                self.step(time(run.origin, now), Input::Frame { link: PUBLISHER, frame });
                sent += 1;
                last = now;
            }
            self.turn(time(run.origin, now));
            self.report(run, schedule);
            let all = run.arrived.load(Ordering::Acquire) == schedule.len() as u64;
            if all || (due.is_none() && now.saturating_duration_since(last) > GRACE) {
                return Ok(());
            }
        }
    }

    fn watch(&mut self, run: &Run, schedule: &Schedule) -> io::Result<()> {
        while !run.over.load(Ordering::Acquire) {
            self.turn(time(run.origin, Instant::now()));
            self.report(run, schedule);
        }
        Ok(())
    }

    /// Times what the subscriber was handed in this turn.
    fn report(&mut self, run: &Run, schedule: &Schedule) {
        let Hands { delivered, latency, .. } = &mut self.hands;
        for delivered in delivered.drain(..) {
            let due = schedule.due(run.start, delivered.number);
            latency.record_duration(
                due.map_or(Duration::ZERO, |due| delivered.at.saturating_duration_since(due)),
            );
            run.arrived.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What the other shard handed over, in the order of the stamps; says whether there was any.
    fn turn(&mut self, now: Time) -> bool {
        let Self { shard, hands, forward, publish } = self;
        let mut busy = false;
        for (inbound, lane) in [(publish, Lane::Publish), (forward, Lane::Forward)] {
            if inbound.is_empty() {
                continue;
            }
            inbound.look();
            while let Some((from, stamp, record)) = inbound.peek() {
                busy = true;
                hands.stamps.heard(stamp);
                let input = Input::Peer { from: ShardId(from as u16), lane, record };
                if shard.step(now, input, hands) == Outcome::Held {
                    break;
                }
                inbound.pop(from);
                hands.kernel_takes_all(shard, now);
            }
        }
        if self.shard.deadline().is_some_and(|due| due <= now) {
            self.step(now, Input::Deadline { forward_room: true });
        }
        busy
    }

    fn step(&mut self, now: Time, input: Input<'_>) {
        let outcome = self.shard.step(now, input, &mut self.hands);
        assert_eq!(outcome, Outcome::Taken, "nothing here waits for anything");
        self.hands.kernel_takes_all(&mut self.shard, now);
    }
}

/// Takes what a shard decides.
struct Hands {
    /// By lane, by shard.
    rings: [Vec<Option<Sender>>; 2],
    stamps: Stamps,
    /// What the subscriber was handed.
    delivered: Vec<Delivered>,
    latency: Latency,
    /// Bytes that were queued on each link.
    unsent: [u32; 2],
}

struct Delivered {
    number: u64,
    at: Instant,
}

impl Hands {
    fn kernel_takes_all(&mut self, shard: &mut Shard, now: Time) {
        for link in [PUBLISHER, SUBSCRIBER] {
            let bytes = std::mem::take(&mut self.unsent[link.0 as usize]);
            if bytes > 0 {
                let outcome = shard.step(now, Input::Sent { link, bytes }, self);
                assert_eq!(outcome, Outcome::Taken, "what was sent is never refused");
            }
        }
    }
}

impl Effects for Hands {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.unsent[link.0 as usize] += frame.len() as u32;
        if link == SUBSCRIBER
            && let Some(number) = frames::number(frame)
        {
            self.delivered.push(Delivered { number, at: Instant::now() });
        }
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        panic!("{link:?} is closed: {reason:?}");
    }

    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]) {
        let ring = self.rings[lane as usize][usize::from(shard.0)].as_mut();
        let stamp = self.stamps.tick();
        let taken = ring.is_some_and(|ring| ring.push(stamp, record));
        assert!(taken, "a ring of {PEER_RING_BYTES} bytes is never full at this rate");
    }

    fn resume(&mut self, link: LinkId) {
        panic!("{link:?} held nothing back");
    }
}

fn time(origin: Instant, now: Instant) -> Time {
    Time(now.saturating_duration_since(origin).as_nanos() as u64)
}

/// An address of a fader whose home is `shard` of two.
fn address_of(shard: u16) -> String {
    let seed = Settings::default().seed;
    let home = |address: &str| index::hash(seed, address::home_key(address).as_bytes()) % 2;
    let mut addresses = (0..).map(|rig| format!("/bench/rig{rig}/fader/1"));
    addresses
        .find(|address| home(address) == u64::from(shard))
        .expect("one of endlessly many addresses is at home there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_arrives_once_whichever_way_it_takes() {
        let places = Places::choose(None, None).unwrap();
        for row in run(places, Duration::from_millis(20), 1).unwrap() {
            assert!(row.sent > 100, "{}: {} messages", row.key, row.sent);
            assert_eq!(row.arrived, row.sent, "{}", row.key);
            assert_eq!(row.rounds.len(), 1);
        }
    }
}

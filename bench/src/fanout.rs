//! One message to many subscribers: how long until each has it, and until the last one has.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use clasp_rt_perf::histogram::Latency;
use rustix::event::epoll;

use crate::connection::{self, Clasp, Connection};
use crate::floor::Floor;
use crate::frames::{Kind, Message};
use crate::pace::Schedule;

const ADDRESS: &str = "/bench/fanout/fader/1/lvl";

const PATTERN: &str = "/bench/fanout/**";

/// How long the last receiver may take before its copy counts as lost.
const GRACE: Duration = Duration::from_secs(2);

/// Subscribers that connect at the same time.
const JOINING: usize = 16;

/// Ready sockets looked at in one go.
const EVENTS: usize = 256;

#[derive(Debug)]
pub struct FanOut {
    pub(crate) publisher: Box<dyn Connection>,
    pub(crate) subscribers: Vec<Box<dyn Connection>>,
    /// One thread cannot ask a thousand sockets in turn: 0.2 µs each would be the latency measured.
    pub(crate) ready: rustix::fd::OwnedFd,
}

#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the intended instant to each receiver.
    pub each: Latency,
    /// From the intended instant to the last receiver of a message.
    pub last: Latency,
    pub sent: u64,
    pub expected: u64,
    pub arrived: u64,
    /// From the first intended instant to the last arrival.
    pub seconds: f64,
}

/// A small control message for the address that fan-out is measured at; a crowd subscribes to a
/// branch, as lamps do.
pub fn message(kind: Kind) -> Message<'static> {
    Message { pattern: PATTERN, ..Message::new(kind, ADDRESS) }
}

impl FanOut {
    /// Through the router at `url`, in the protocol of its scheme.
    pub fn through_router(
        url: &str,
        subscribers: usize,
        message: &Message<'_>,
    ) -> io::Result<Self> {
        let ends = join(url, subscribers, message)?;
        Self::new(connection::publisher(url, message)?, ends)
    }

    /// CLASP frames over the floor's relay.
    pub fn through_floor(
        floor: &Floor,
        subscribers: usize,
        message: &Message<'_>,
    ) -> io::Result<Self> {
        let bare = || -> io::Result<Box<dyn Connection>> {
            Ok(Box::new(Clasp::bare(&floor.url(), message)?))
        };
        // The relay hears the first that connects.
        let publisher = bare()?;
        Self::new(publisher, (0..subscribers).map(|_| bare()).collect::<io::Result<_>>()?)
    }

    fn new(
        publisher: Box<dyn Connection>,
        subscribers: Vec<Box<dyn Connection>>,
    ) -> io::Result<Self> {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, end) in subscribers.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&ready, end.fd(), data, epoll::EventFlags::IN)?;
        }
        Ok(Self { publisher, subscribers, ready })
    }

    pub fn run(&mut self, schedule: &Schedule) -> io::Result<Measured> {
        let receivers = self.subscribers.len() as u64;
        let expected = schedule.len() as u64 * receivers;
        let mut measured = Measured { expected, ..Measured::default() };
        // Receivers that still miss each message.
        let mut missing = vec![receivers; schedule.len()];
        let start = Instant::now() + Duration::from_millis(1);
        let mut last_progress = start;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            while schedule.due(start, measured.sent).is_some_and(|due| due <= now) {
                self.publisher.publish(measured.sent);
                measured.sent += 1;
                last_progress = now;
            }
            self.publisher.flush()?;
            events.clear();
            let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.ready, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
            for event in &events {
                let Some(end) = self.subscribers.get_mut(event.data.u64() as usize) else {
                    continue;
                };
                end.poll(&mut |number| {
                    let seen = Instant::now();
                    let Some(due) = schedule.due(start, number) else { return };
                    let latency = seen.saturating_duration_since(due);
                    measured.each.record_duration(latency);
                    measured.arrived += 1;
                    let left = &mut missing[number as usize];
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        measured.last.record_duration(latency);
                    }
                    last_progress = seen;
                })?;
            }
            self.publisher.poll(&mut |_| {})?;
            let all_sent = measured.sent == schedule.len() as u64;
            let gave_up = now.saturating_duration_since(last_progress) > GRACE;
            if all_sent && (measured.arrived >= measured.expected || gave_up) {
                let seconds = last_progress.saturating_duration_since(start).as_secs_f64();
                measured.seconds = seconds.max(f64::MIN_POSITIVE);
                return Ok(measured);
            }
        }
    }
}

/// So many subscribers, several at a time: a router whose answers wait for delayed acknowledgements
/// takes 40 ms or more for each.
fn join(
    url: &str,
    subscribers: usize,
    message: &Message<'_>,
) -> io::Result<Vec<Box<dyn Connection>>> {
    thread::scope(|scope| {
        let some = |count: usize| {
            let one = move |_| connection::subscriber(url, message);
            scope.spawn(move || (0..count).map(one).collect::<io::Result<Vec<_>>>())
        };
        // Rounded down, and each time a little less so: together all.
        let threads: Vec<_> = (0..JOINING).map(|nth| some((subscribers + nth) / JOINING)).collect();
        let mut ends = Vec::with_capacity(subscribers);
        for thread in threads {
            let died = |_| io::Error::other("a thread that let subscribers join died");
            ends.extend(thread.join().map_err(died)??);
        }
        Ok(ends)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_of_a_small_run_arrives_over_the_floor() {
        let floor = Floor::start(None, 4).unwrap();
        let mut fan = FanOut::through_floor(&floor, 4, &message(Kind::Event)).unwrap();
        let schedule = Schedule::jittered(500.0, Duration::from_millis(100), 1);
        let measured = fan.run(&schedule).unwrap();
        assert_eq!(measured.arrived, measured.expected);
        assert_eq!(measured.each.count(), 4 * schedule.len() as u64);
        assert_eq!(measured.last.count(), schedule.len() as u64);
        assert!(measured.last.summary().p50_ns >= measured.each.summary().p50_ns);
    }
}

//! Universes into the router: packets on a schedule, and the values that a subscriber sees.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clasp_rt_core::message::Message;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::protocol::Protocol;
use super::stage::{Stage, udp};
use super::{Case, Change, Run, Seen, due, frames_in};
use crate::machine::{self, Places};
use crate::peer::Peer;

/// Packets that one system call carries.
const BATCH: usize = 32;

/// Universes that are first heard of together; then the router is waited for.
const PRIMED_TOGETHER: usize = 8;

/// How long nothing may come before the rest counts as missing.
const GRACE: Duration = Duration::from_secs(1);

/// How long a router may take to tell of universes that it hears for the first time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Universes that were heard are kept alive this often until all are: a source of sACN is lost
/// after 2.5 s.
const BEAT: Duration = Duration::from_millis(800);

/// How long the floor is measured.
const FLOOR_LENGTH: Duration = Duration::from_millis(700);

/// Packets of every universe, made of one another.
struct Sender {
    protocol: Protocol,
    socket: UdpSocket,
    packets: Vec<Vec<u8>>,
    changing: usize,
    universes: usize,
    /// Frames of each universe that only kept it alive.
    beats: u64,
    sent: u64,
}

impl Sender {
    fn new(
        protocol: Protocol,
        to: SocketAddr,
        changing: usize,
        universes: usize,
    ) -> io::Result<Self> {
        let socket = udp()?;
        socket.connect(to)?;
        socket.set_nonblocking(false)?;
        let packets = vec![protocol.packet(); BATCH];
        Ok(Self { protocol, socket, packets, changing, universes, beats: 0, sent: 0 })
    }

    /// Sends the frames `numbers`, at most [`BATCH`], counted over all universes.
    fn send(&mut self, numbers: Range<u64>) -> io::Result<()> {
        let universes = self.universes as u64;
        for (packet, number) in self.packets.iter_mut().zip(numbers.clone()) {
            let (round, universe) = (number / universes, (number % universes) as usize);
            let (sequence, level) = (round + self.beats, round as u8);
            self.protocol.mark(packet, universe, sequence, level, self.changing);
        }
        let count = (numbers.end - numbers.start) as usize;
        let pieces: Vec<_> = self.packets[..count].iter().map(|one| [IoSlice::new(one)]).collect();
        let mut controls: Vec<_> = pieces.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let both = pieces.iter().zip(&mut controls);
        let mut messages: Vec<_> =
            both.map(|(piece, control)| MMsgHdr::new(piece, control)).collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let sent = sendmmsg(&self.socket, rest, SendFlags::empty())?;
            rest = &mut rest[sent..];
        }
        self.sent += count as u64;
        Ok(())
    }

    /// Repeats the first `heard` universes.
    fn beat(&mut self, heard: usize) -> io::Result<()> {
        self.beats += 1;
        for first in (0..heard).step_by(BATCH) {
            self.send(first as u64..(first + BATCH).min(heard) as u64)?;
        }
        Ok(())
    }
}

pub(super) fn run(
    stage: &mut Stage,
    universes: usize,
    case: Case,
    length: Duration,
) -> io::Result<Run> {
    let Case { protocol, change, .. } = case;
    let mut run = Run::default();
    let mut subscriber = Peer::connect(stage.router.url("tcp")?)?;
    subscriber.join("bench subscriber")?;
    let namespace = format!("/{protocol}/");
    let pattern = if change == Change::Whole { "*" } else { "*/1" };
    subscriber.subscribe(1, &format!("{namespace}{pattern}"))?;
    let reads = Reads { namespace, first_universe: protocol.first_universe() };
    let mut sender = Sender::new(protocol, stage.bridge, change.slots(), universes)?;
    prime(&mut sender, &mut subscriber, &reads)?;
    let counted = stage.packets_in(sender.sent)?;
    let before = stage.look()?;

    let all = frames_in(length, universes);
    // Round 0 was the first that the router heard.
    let first = universes as u64;
    run.values_missing = if change.slots() > 0 { all } else { 0 };
    let mut seen = Seen::new(universes);
    let start = Instant::now();
    let (mut last_progress, mut busy) = (start, (0.0, 0.0));
    loop {
        let now = start.elapsed();
        let mut count = 0;
        while count < BATCH as u64
            && run.sent + count < all
            && due(run.sent + count, universes) <= now
        {
            count += 1;
        }
        if count > 0 {
            run.late = run.late.max(now.saturating_sub(due(run.sent, universes)));
            sender.send(first + run.sent..first + run.sent + count)?;
            run.sent += count;
            last_progress = Instant::now();
            if run.sent == all {
                run.seconds = start.elapsed().as_secs_f64();
                busy = stage.look()?.busy_since(&before, start.elapsed());
            }
        }
        subscriber.poll(|frame| {
            let now = start.elapsed();
            reads.each_value(frame, |universe, level| {
                seen.see(universe, level, now, &mut run);
                last_progress = Instant::now();
            });
        })?;
        let is_done = run.sent == all && run.values_missing == 0;
        if is_done || run.sent == all && last_progress.elapsed() > GRACE {
            break;
        }
    }
    (run.shard_busy, run.bridges_busy) = busy;
    let arrived = stage.packets_in(counted + run.sent)? - counted;
    run.packets_lost = run.sent.saturating_sub(arrived);
    run.arrived = arrived;
    Ok(run)
}

/// Lets the router hear of every universe once, as fast as it takes their slots in.
fn prime(sender: &mut Sender, subscriber: &mut Peer, reads: &Reads) -> io::Result<()> {
    let (mut heard, mut alive) = (0, Instant::now());
    for first in (0..sender.universes).step_by(PRIMED_TOGETHER) {
        let end = (first + PRIMED_TOGETHER).min(sender.universes);
        sender.send(first as u64..end as u64)?;
        let until = Instant::now() + PATIENCE;
        while heard < end {
            subscriber.poll(|frame| reads.each_value(frame, |_, _| heard += 1))?;
            if Instant::now() > until {
                return Err(io::Error::other(format!("of {end} universes {heard} were told")));
            }
        }
        if alive.elapsed() > BEAT {
            sender.beat(end)?;
            alive = Instant::now();
        }
    }
    sender.beat(sender.universes)
}

/// What a subscriber reads of the bridge's params.
struct Reads {
    /// `/artnet/`.
    namespace: String,
    first_universe: usize,
}

impl Reads {
    /// Universe, counted from 0, and level of slot 1, of every SET in `frame`.
    fn each_value(&self, frame: &[u8], mut each: impl FnMut(usize, u8)) {
        let Ok(frame) = header::parse(frame) else { return };
        let Ok(message) = binary::decode(frame.payload) else { return };
        let mut set = |address: &str, value: Value<'_>| {
            let number = address.strip_prefix(&self.namespace).and_then(|r| r.split('/').next());
            let number = number.and_then(|number| number.parse::<usize>().ok());
            let level = value.as_i64().or_else(|| value.as_bytes()?.first().map(|&one| one.into()));
            let universe = number.and_then(|number| number.checked_sub(self.first_universe));
            if let (Some(universe), Some(level)) = (universe, level) {
                each(universe, level as u8);
            }
        };
        match message {
            Message::Set(one) => set(one.address, one.value),
            Message::Bundle(bundle) => bundle.messages.iter().for_each(|message| {
                if let Message::Set(one) = message {
                    set(one.address, one.value);
                }
            }),
            _ => {}
        }
    }
}

/// Packets a second that reach somebody who only counts them, on the router's core, from this
/// generator as fast as it can: what the machine and the generator allow at most.
pub(super) fn floor(protocol: Protocol, places: Places) -> io::Result<f64> {
    let receiver = udp()?;
    let to = receiver.local_addr()?;
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            machine::pin(places.router)?;
            let mut packet = protocol.packet();
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut packet).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            io::Result::Ok(())
        });
        let per_second = machine::on_core(places.client, || {
            let mut sender = Sender::new(protocol, to, 0, 1_024)?;
            let start = Instant::now();
            while start.elapsed() < FLOOR_LENGTH {
                sender.send(sender.sent..sender.sent + BATCH as u64)?;
            }
            Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
        });
        stop.store(true, Ordering::Relaxed);
        counting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        per_second
    })
}

//! Universes into the router: packets on a schedule, and the values that a subscriber sees.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clasp_rt_core::message::Message;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::stage::{COUNTED_AFTER, Stage, udp};
use super::{Change, Run, SLOTS, Seen, due, frames_in};
use crate::machine::{self, Places};
use crate::peer::Peer;

/// Bytes of an ArtDmx with all slots.
const PACKET_BYTES: usize = 18 + SLOTS;

/// Packets that one system call carries.
const BATCH: usize = 32;

/// Universes that are first heard of together; then the router is waited for.
const PRIMED_TOGETHER: usize = 8;

/// How long nothing may come before the rest counts as missing.
const GRACE: Duration = Duration::from_secs(2);

/// How long the floor is measured.
const FLOOR_LENGTH: Duration = Duration::from_millis(700);

/// Packets of every universe, made of one another.
struct Sender {
    socket: UdpSocket,
    packets: Vec<[u8; PACKET_BYTES]>,
    changing: usize,
}

impl Sender {
    fn new(to: SocketAddr, changing: usize) -> io::Result<Self> {
        let socket = udp()?;
        socket.connect(to)?;
        socket.set_nonblocking(false)?;
        let mut packet = [0; PACKET_BYTES];
        packet[..12].copy_from_slice(b"Art-Net\0\x00\x50\x00\x0e");
        packet[16..18].copy_from_slice(&(SLOTS as u16).to_be_bytes());
        Ok(Self { socket, packets: vec![packet; BATCH], changing })
    }

    /// Sends the frames `numbers`, at most [`BATCH`], counted over all universes.
    fn send(&mut self, numbers: std::ops::Range<u64>, universes: usize) -> io::Result<()> {
        for (packet, number) in self.packets.iter_mut().zip(numbers.clone()) {
            let (round, universe) = (number / universes as u64, number % universes as u64);
            packet[12] = (round % 255) as u8 + 1;
            packet[14..16].copy_from_slice(&(universe as u16).to_le_bytes());
            packet[18..18 + self.changing].fill(round as u8);
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
        Ok(())
    }
}

pub(super) fn run(
    stage: &mut Stage,
    universes: usize,
    change: Change,
    length: Duration,
) -> io::Result<Run> {
    let mut run = Run::default();
    let mut subscriber = Peer::connect(stage.router.url("tcp")?)?;
    subscriber.join("bench subscriber")?;
    let pattern = if change == Change::Whole { "/artnet/*" } else { "/artnet/*/1" };
    subscriber.subscribe(1, pattern)?;
    let mut sender = Sender::new(stage.bridge, change.slots())?;
    prime(&mut sender, &mut subscriber, universes)?;
    std::thread::sleep(COUNTED_AFTER);
    let before = stage.look()?;

    let all = frames_in(length, universes);
    // Round 0 was the first that the router heard.
    let first = universes as u64;
    run.values_missing = if change.slots() > 0 { all } else { 0 };
    let mut seen = Seen::new(universes);
    let start = Instant::now();
    let mut last_progress = start;
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
            sender.send(first + run.sent..first + run.sent + count, universes)?;
            run.sent += count;
            last_progress = Instant::now();
            if run.sent == all {
                run.seconds = start.elapsed().as_secs_f64();
            }
        }
        subscriber.poll(|frame| {
            let now = start.elapsed();
            each_value(frame, |universe, level| {
                seen.see(universe, level, now, &mut run);
                last_progress = Instant::now();
            });
        })?;
        let is_done = run.sent == all && run.values_missing == 0;
        if is_done || run.sent == all && last_progress.elapsed() > GRACE {
            break;
        }
    }
    let ran = start.elapsed();
    let busy = stage.look()?.busy_since(&before, ran);
    (run.shard_busy, run.bridges_busy) = busy;
    std::thread::sleep(COUNTED_AFTER);
    let arrived = stage.look()?.packets_in - before.packets_in;
    run.packets_lost = run.sent.saturating_sub(arrived);
    run.arrived = arrived;
    Ok(run)
}

/// Lets the router hear of every universe once, as fast as it takes their slots in.
fn prime(sender: &mut Sender, subscriber: &mut Peer, universes: usize) -> io::Result<()> {
    let mut heard = 0;
    for first in (0..universes).step_by(PRIMED_TOGETHER) {
        let end = (first + PRIMED_TOGETHER).min(universes);
        sender.send(first as u64..end as u64, universes)?;
        let until = Instant::now() + GRACE;
        while heard < end {
            subscriber.poll(|frame| each_value(frame, |_, _| heard += 1))?;
            if Instant::now() > until {
                return Err(io::Error::other(format!("of {end} universes {heard} were told")));
            }
        }
    }
    Ok(())
}

/// Universe and level of slot 1, of every SET in `frame`.
fn each_value(frame: &[u8], mut each: impl FnMut(usize, u8)) {
    let Ok(frame) = header::parse(frame) else { return };
    let Ok(message) = binary::decode(frame.payload) else { return };
    let mut set = |address: &str, value: Value<'_>| {
        let universe = address.strip_prefix("/artnet/").and_then(|rest| rest.split('/').next());
        let level = value.as_i64().or_else(|| value.as_bytes()?.first().map(|&one| one.into()));
        if let (Some(Ok(universe)), Some(level)) = (universe.map(str::parse), level) {
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

/// Packets a second that reach somebody who only counts them, on the router's core, from this
/// generator as fast as it can: what the machine and the generator allow at most.
pub(super) fn floor(places: Places) -> io::Result<f64> {
    let receiver = udp()?;
    let to = receiver.local_addr()?;
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            machine::pin(places.router)?;
            let mut packet = [0; PACKET_BYTES];
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut packet).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            io::Result::Ok(())
        });
        let per_second = machine::on_core(places.client, || {
            let mut sender = Sender::new(to, 0)?;
            let start = Instant::now();
            let mut sent = 0;
            while start.elapsed() < FLOOR_LENGTH {
                sender.send(sent..sent + BATCH as u64, 1_024)?;
                sent += BATCH as u64;
            }
            Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
        });
        stop.store(true, Ordering::Relaxed);
        counting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        per_second
    })
}

//! Universes out of the router: a publisher's changes on a schedule, and the packets that follow.

use std::io;
use std::time::{Duration, Instant};

use clasp_rt_core::message::{Bundle, Message, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::value::{Value, push_bytes, push_i64};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Messages;

use super::stage::{COUNTED_AFTER, Stage};
use super::{Change, Run, SLOTS, Seen, due, frames_in};
use crate::peer::Peer;

/// Frames that are queued before the publisher looks at its other duties.
const BATCH: u64 = 16;

/// How long nothing may come before the rest counts as missing.
const GRACE: Duration = Duration::from_secs(2);

/// What a universe is set by: a frame whose levels can be exchanged.
struct Template {
    frame: Vec<u8>,
    /// Where the levels lie in it.
    levels: Vec<usize>,
}

impl Template {
    fn new(universe: usize, change: Change) -> io::Result<Self> {
        // Two levels, in all octets that they do not share: those that differ are where levels lie.
        let [dark, bright] = [0x00, 0xFF].map(|level| frame(universe, change, level));
        let (dark, bright) = (dark?, bright?);
        let places = dark.iter().zip(&bright).enumerate();
        let levels = places.filter(|(_, (dark, bright))| dark != bright).map(|(place, _)| place);
        Ok(Self { levels: levels.collect(), frame: dark })
    }

    fn set(&mut self, level: u8) -> &[u8] {
        self.levels.iter().for_each(|&place| self.frame[place] = level);
        &self.frame
    }
}

/// The frame that sets the changing slots of `universe` to `level`.
fn frame(universe: usize, change: Change, level: u8) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    let mut payloads = Vec::new();
    let address = format!("/artnet/{universe}");
    let (count, addresses) = match change {
        Change::Whole => {
            let mut levels = [0; SLOTS];
            levels[..change.slots()].fill(level);
            push_bytes(&mut value, &levels).map_err(io::Error::other)?;
            (1, vec![address])
        }
        Change::Slots(count) => {
            push_i64(&mut value, i64::from(level));
            (count, (1..=count).map(|slot| format!("{address}/{slot}")).collect())
        }
    };
    let value = Value::from_encoded(&value).map_err(io::Error::other)?;
    for address in &addresses {
        let set = Set { address, value, revision: None, lock: false, unlock: false, ttl: None };
        Messages::append(&mut payloads, &Message::Set(set)).map_err(io::Error::other)?;
    }
    let messages = Messages::from_payloads(&payloads, count).map_err(io::Error::other)?;
    let bundle = Message::Bundle(Bundle { timestamp_us: None, messages });
    let mut frame = Vec::new();
    binary::encode(&bundle, Qos::Fire, &mut frame).map_err(io::Error::other)?;
    Ok(frame)
}

pub(super) fn run(
    stage: &mut Stage,
    universes: usize,
    change: Change,
    length: Duration,
) -> io::Result<Run> {
    let mut run = Run::default();
    let mut publisher = Peer::connect(stage.router.url("tcp")?)?;
    publisher.join("bench publisher")?;
    let mut templates =
        (0..universes).map(|one| Template::new(one, change)).collect::<io::Result<Vec<_>>>()?;
    // Every universe is heard of once before it counts.
    for templates in templates.chunks_mut(BATCH as usize) {
        templates.iter_mut().for_each(|one| publisher.queue(one.set(0)));
        publisher.settle()?;
    }
    std::thread::sleep(COUNTED_AFTER);
    let mut node = Node::new(universes);
    node.receive(stage, Duration::ZERO, &mut Run::default())?;
    let before = stage.look()?;

    let all = frames_in(length, universes);
    run.values_missing = all;
    node.gaps = 0;
    node.packets = 0;
    node.seen = Seen::new(universes);
    let start = Instant::now();
    let mut last_progress = start;
    loop {
        let now = start.elapsed();
        let mut count = 0;
        while count < BATCH && run.sent < all && due(run.sent, universes) <= now {
            run.late = run.late.max(now.saturating_sub(due(run.sent, universes)));
            let (round, universe) = (run.sent / universes as u64, run.sent % universes as u64);
            publisher.queue(templates[universe as usize].set((round + 1) as u8));
            run.sent += 1;
            count += 1;
        }
        if count > 0 && run.sent == all {
            run.seconds = start.elapsed().as_secs_f64();
        }
        publisher.flush()?;
        publisher.poll(|_| {})?;
        if node.receive(stage, start.elapsed(), &mut run)? || count > 0 {
            last_progress = Instant::now();
        }
        let is_done = run.sent == all && run.values_missing == 0;
        if is_done || run.sent == all && last_progress.elapsed() > GRACE / 4 {
            break;
        }
    }
    let ran = start.elapsed();
    (run.shard_busy, run.bridges_busy) = stage.look()?.busy_since(&before, ran);
    run.arrived = node.packets;
    run.packets_lost = node.gaps;
    Ok(run)
}

/// A node that takes every universe.
struct Node {
    /// The last sequence of each universe, 0 before the first.
    sequences: Vec<u8>,
    seen: Seen,
    packets: u64,
    /// Sequence numbers that were passed over.
    gaps: u64,
}

impl Node {
    fn new(universes: usize) -> Self {
        Self { sequences: vec![0; universes], seen: Seen::new(universes), packets: 0, gaps: 0 }
    }

    /// Takes what has arrived. Whether anything had.
    fn receive(&mut self, stage: &Stage, now: Duration, run: &mut Run) -> io::Result<bool> {
        let mut packet = [0; 600];
        let mut any = false;
        for _ in 0..64 {
            let len = match stage.node.recv(&mut packet) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            };
            any |= self.take(&packet[..len], now, run);
        }
        Ok(any)
    }

    fn take(&mut self, packet: &[u8], now: Duration, run: &mut Run) -> bool {
        let &[.., sequence, _, low, high, _, _, level] = packet.get(..19).unwrap_or_default()
        else {
            return false;
        };
        let universe = usize::from(u16::from_le_bytes([low, high]));
        let is_dmx = packet.starts_with(b"Art-Net\0\x00\x50");
        let Some(last) = self.sequences.get_mut(universe).filter(|_| is_dmx) else { return false };
        if *last != 0 {
            // Steps in a ring of 255, without the 0.
            let step = (i16::from(sequence) - i16::from(*last)).rem_euclid(255);
            self.gaps += u64::from((step - 1).rem_euclid(255).unsigned_abs());
        }
        *last = sequence;
        self.packets += 1;
        self.seen.see(universe, level, now, run);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_carries_its_level_wherever_a_slot_changes() {
        for (change, levels) in [(Change::Slots(3), 3), (Change::Whole, 16)] {
            let mut template = Template::new(300, change).unwrap();
            assert_eq!(template.levels.len(), levels, "{change}");
            assert_eq!(template.set(7), frame(300, change, 7).unwrap(), "{change}");
        }
    }

    #[test]
    fn sequence_numbers_that_are_passed_over_are_gaps() {
        let mut node = Node::new(2);
        let mut run = Run { values_missing: 9, ..Run::default() };
        let mut packet = b"Art-Net\0\x00\x50\x00\x0e\x00\x00\x01\x00\x00\x02\x05\x00".to_vec();
        for sequence in [254, 255, 1, 2, 5] {
            packet[12] = sequence;
            assert!(node.take(&packet, Duration::ZERO, &mut run));
        }
        assert_eq!((node.gaps, node.packets), (2, 5));
        assert!(!node.take(&packet[..18], Duration::ZERO, &mut run), "a packet cut short");
    }
}

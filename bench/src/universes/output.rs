//! Universes out of the router: a publisher's changes on a schedule, and the packets that follow.

use std::io;
use std::time::{Duration, Instant};

use clasp_rt_core::message::{Bundle, Message, Set};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::value::{Value, push_bytes, push_i64};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::Messages;
use clasp_rt_ring::datagrams_lost;

use super::protocol::Protocol;
use super::stage::Stage;
use super::{Case, Change, Run, SLOTS, Seen, due, frames_in};
use crate::peer::Peer;

/// Frames that are queued before the publisher looks at its other duties.
const BATCH: u64 = 16;

/// How long nothing may come before the rest counts as missing.
const GRACE: Duration = Duration::from_millis(500);

/// How long frames are repeated after the last change, in short intervals.
const REPEATED_FOR: Duration = Duration::from_millis(300);

/// What a universe is set by: a frame whose levels can be exchanged.
struct Template {
    frame: Vec<u8>,
    /// Where the levels lie in it.
    levels: Vec<usize>,
}

impl Template {
    fn new(protocol: Protocol, universe: usize, change: Change) -> io::Result<Self> {
        // Two levels, in all octets that they do not share: those that differ are where levels lie.
        let frame = |level| frame(protocol, universe, change, level);
        let [dark, bright] = [0x00, 0xFF].map(frame);
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
fn frame(protocol: Protocol, universe: usize, change: Change, level: u8) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    let mut payloads = Vec::new();
    let address = format!("/{protocol}/{}", universe + protocol.first_universe());
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
    case: Case,
    length: Duration,
) -> io::Result<Run> {
    let Case { protocol, change, .. } = case;
    let mut run = Run::default();
    let mut publisher = Peer::connect(stage.router.url("tcp")?)?;
    publisher.join("bench publisher")?;
    let templates = (0..universes).map(|one| Template::new(protocol, one, change));
    let mut templates = templates.collect::<io::Result<Vec<_>>>()?;
    // Every universe is heard of once before it counts.
    for templates in templates.chunks_mut(BATCH as usize) {
        templates.iter_mut().for_each(|one| publisher.queue(one.set(0)));
        publisher.settle()?;
    }
    std::thread::sleep(REPEATED_FOR);
    let mut node = Node::new(protocol, universes);
    while node.receive(stage, Duration::ZERO, &mut Run::default())? {}
    let before = stage.look()?;

    let all = frames_in(length, universes);
    run.values_missing = all;
    node.gaps = 0;
    node.packets = 0;
    node.seen = Seen::new(universes);
    let lost_before = datagrams_lost(&stage.node)?;
    let start = Instant::now();
    let (mut last_progress, mut busy) = (start, (0.0, 0.0));
    loop {
        let now = start.elapsed();
        let mut count = 0;
        while count < BATCH && run.sent < all && due(run.sent, universes) <= now {
            run.late = run.late.max(now.saturating_sub(due(run.sent, universes)));
            let (round, universe) = (run.sent / universes as u64, run.sent % universes as u64);
            publisher.queue(templates[universe as usize].set((round + 1) as u8));
            node.seen.note_sent(universe as usize, round + 1, now);
            run.sent += 1;
            count += 1;
        }
        if count > 0 && run.sent == all {
            run.seconds = start.elapsed().as_secs_f64();
            busy = stage.look()?.busy_since(&before, start.elapsed());
        }
        publisher.flush()?;
        publisher.poll(|_| {})?;
        if node.receive(stage, start.elapsed(), &mut run)? || count > 0 {
            last_progress = Instant::now();
        }
        let is_done = run.sent == all && run.values_missing == 0;
        if is_done || run.sent == all && last_progress.elapsed() > GRACE {
            break;
        }
    }
    (run.shard_busy, run.bridges_busy) = busy;
    run.arrived = node.packets;
    run.packets_lost = node.gaps;
    run.lost_here = (datagrams_lost(&stage.node)? - lost_before).min(run.packets_lost);
    run.unsent = stage.unsent()?;
    Ok(run)
}

/// A node that takes every universe.
struct Node {
    protocol: Protocol,
    /// The last sequence of each universe.
    sequences: Vec<Option<u8>>,
    seen: Seen,
    packets: u64,
    /// Sequence numbers that were passed over.
    gaps: u64,
}

impl Node {
    fn new(protocol: Protocol, universes: usize) -> Self {
        let (sequences, seen) = (vec![None; universes], Seen::new(universes));
        Self { protocol, sequences, seen, packets: 0, gaps: 0 }
    }

    /// Takes what has arrived. Whether anything had.
    fn receive(&mut self, stage: &Stage, now: Duration, run: &mut Run) -> io::Result<bool> {
        let mut packet = [0; 700];
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
        let Some(frame) = self.protocol.read(packet) else { return false };
        let Some(last) = self.sequences.get_mut(frame.universe) else { return false };
        if let Some(last) = last.replace(frame.sequence) {
            self.gaps += self.protocol.gap(last, frame.sequence);
        }
        self.packets += 1;
        self.seen.see(frame.universe, frame.level, now, run);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_carries_its_level_wherever_a_slot_changes() {
        for (change, levels) in [(Change::Slots(3), 3), (Change::Whole, 16)] {
            let mut template = Template::new(Protocol::Sacn, 300, change).unwrap();
            assert_eq!(template.levels.len(), levels, "{change}");
            let written = frame(Protocol::Sacn, 300, change, 7).unwrap();
            assert_eq!(template.set(7), written, "{change}");
        }
    }

    #[test]
    fn a_node_counts_frames_and_those_that_were_passed_over() {
        let protocol = Protocol::Artnet;
        let mut node = Node::new(protocol, 2);
        let mut run = Run { values_missing: 9, ..Run::default() };
        let mut packet = protocol.packet();
        for sequence in [253, 254, 255, 256, 259] {
            protocol.mark(&mut packet, 1, sequence, 5, 1);
            assert!(node.take(&packet, Duration::ZERO, &mut run));
        }
        assert_eq!((node.gaps, node.packets, run.values_missing), (2, 5, 8));
        assert!(!node.take(&packet[..18], Duration::ZERO, &mut run), "a packet cut short");
        protocol.mark(&mut packet, 2, 260, 5, 1);
        assert!(!node.take(&packet, Duration::ZERO, &mut run), "a universe too many");
    }
}

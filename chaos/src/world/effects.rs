//! Steps of a shard, and what it decides: noted in the digest, and done.

use clasp_rt_core::shard::{CloseReason, Effects, Input, Lane, Outcome};
use clasp_rt_core::{LinkId, ShardId};

use super::World;
use super::node::{RECORD_HEADER_BYTES, small_limits};
use crate::check::Broken;
use crate::fuzz::seeds::hex;

/// Effects of one step, kept until the step is over.
#[derive(Default)]
struct Collected(Vec<Effect>);

enum Effect {
    Send { link: LinkId, frame: Vec<u8> },
    Close { link: LinkId, reason: CloseReason },
    ToPeer { shard: ShardId, lane: Lane, record: Vec<u8> },
    Resume { link: LinkId },
}

impl Effects for Collected {
    fn send(&mut self, link: LinkId, frame: &[u8]) {
        self.0.push(Effect::Send { link, frame: frame.to_vec() });
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        self.0.push(Effect::Close { link, reason });
    }

    fn to_peer(&mut self, shard: ShardId, lane: Lane, record: &[u8]) {
        self.0.push(Effect::ToPeer { shard, lane, record: record.to_vec() });
    }

    fn resume(&mut self, link: LinkId) {
        self.0.push(Effect::Resume { link });
    }
}

impl World {
    pub(super) fn expect_taken(&mut self, shard: usize, input: Input<'_>) -> Result<(), Broken> {
        match self.step(shard, input)? {
            Outcome::Taken => Ok(()),
            Outcome::Held => Err(format!("shard {shard} may not hold {input:?}")),
        }
    }

    pub(super) fn step(&mut self, shard: usize, input: Input<'_>) -> Result<Outcome, Broken> {
        let mut collected = Collected::default();
        let node = &mut self.nodes[shard];
        let outcome = node.shard.step(self.now, input, &mut collected);
        if outcome == Outcome::Taken {
            node.blocked.fill(false);
        }
        if self.traced {
            self.tell(format_args!("shard {shard} {outcome:?} {}", brief(&input)));
        }
        for effect in collected.0 {
            self.note(shard, &effect);
            self.obey(shard, effect)?;
        }
        if self.nodes[shard].shard.params() > small_limits(1).params_max {
            return Err(format!("shard {shard} keeps more params than its limit"));
        }
        if self.nodes[shard].shard.claims() > small_limits(1).claims_max {
            return Err(format!("shard {shard} keeps more claims than its limit"));
        }
        Ok(outcome)
    }

    fn obey(&mut self, shard: usize, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::Send { link: id, frame } => {
                let Some(link) = self.nodes[shard].links.get_mut(&id.0) else {
                    return Err(format!("shard {shard} sends to {id:?}, which is closed"));
                };
                if link.closing.is_some() {
                    return Err(format!("shard {shard} sends to {id:?} after it closed it"));
                }
                link.unsent_bytes += frame.len();
                if link.unsent_bytes > self.window_bytes && !link.outbound.is_empty() {
                    return Err(format!(
                        "shard {shard} has {} bytes queued for {id:?}, the window is {}",
                        link.unsent_bytes, self.window_bytes
                    ));
                }
                link.outbound.push_back(frame);
            }
            Effect::Close { link: id, reason } => {
                let Some(link) = self.nodes[shard].links.get_mut(&id.0) else {
                    return Err(format!("shard {shard} closes {id:?}, which is closed"));
                };
                if link.closing.replace(reason).is_some() {
                    return Err(format!("shard {shard} closes {id:?} twice"));
                }
                link.inbound.clear();
                self.hearings[link.hearing].closed = Some(reason);
            }
            Effect::ToPeer { shard: to, lane, record } => {
                let stamp = self.nodes[shard].stamp + 1;
                self.nodes[shard].stamp = stamp;
                let Some(other) = self.nodes.get_mut(usize::from(to.0)) else {
                    return Err(format!("shard {shard} hands a record to {to:?}"));
                };
                let ring = match lane {
                    Lane::Forward => &mut other.forward[shard],
                    Lane::Publish => &mut other.publish[shard],
                };
                ring.bytes += RECORD_HEADER_BYTES + record.len();
                if ring.bytes > self.ring_bytes_max {
                    return Err(format!("shard {shard} overfills its {lane:?} ring to {to:?}"));
                }
                ring.records.push_back((stamp, record));
            }
            Effect::Resume { link } => {
                if let Some(link) = self.nodes[shard].links.get_mut(&link.0) {
                    link.held = false;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, shard: usize, effect: &Effect) {
        let (kind, number, bytes): (u8, u64, &[u8]) = match effect {
            Effect::Send { link, frame } => (1, link.0.into(), frame),
            Effect::Close { link, reason } => (2, u64::from(link.0) << 8 | *reason as u64, &[]),
            Effect::ToPeer { shard, record, .. } => (3, shard.0.into(), record),
            Effect::Resume { link } => (4, link.0.into(), &[]),
        };
        self.effects += 1;
        let head = [shard as u8, kind].into_iter().chain(number.to_be_bytes());
        for byte in head.chain(bytes.iter().copied()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.traced {
            let tail = match effect {
                Effect::Send { frame, .. } => hex(&frame[..frame.len().min(80)]),
                Effect::Close { reason, .. } => format!("{reason:?}"),
                Effect::ToPeer { lane, record, .. } => format!("{lane:?} {} bytes", record.len()),
                Effect::Resume { .. } => String::new(),
            };
            let what = ["", "send to link", "close link", "hand to shard", "resume link"];
            self.tell(format_args!("  {} {number} {tail}", what[usize::from(kind)]));
        }
    }
}

/// An input in one line of a trace.
fn brief(input: &Input<'_>) -> String {
    match input {
        Input::Frame { link, frame } => {
            let hex = hex(&frame[..frame.len().min(80)]);
            format!("Frame of link {} {hex}", link.0)
        }
        Input::Peer { from, lane, record } => {
            format!("{lane:?} from {} kind {:?}, {} bytes", from.0, record.first(), record.len())
        }
        other => format!("{other:?}"),
    }
}

//! One shard, and what its edge keeps for it: rings, links, and the glance of the moment.

use std::collections::{BTreeMap, VecDeque};

use clasp_rt_core::ShardId;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::{
    Arbitration, CloseReason, OnLoss, Order, Rule, RuleFor, Settings, Shard,
};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::push_i64;

use super::Plan;
use crate::check::SAFE;
use crate::ledger::PeerId;
use crate::peers::{CONTENDED, CRITICAL, FLEETING, HIGHEST, ROOT, Saying};

/// Links of a shard; some faults make links linger after their peers have gone.
pub(super) const LINKS_MAX: u32 = 64;

/// Length prefix, stamp and note of a record in a ring.
pub(super) const RECORD_HEADER_BYTES: usize = 24;

/// One shard and what its edge keeps for it.
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) memory_bytes: u64,
    /// Lamport's: records that one step causes are stamped above all that it has seen.
    pub(super) stamp: u64,
    /// From each other shard, by lane: what it pushed and this one has not popped.
    pub(super) forward: Vec<Ring>,
    pub(super) publish: Vec<Ring>,
    /// What a glance at all Publish rings at one instant showed, oldest stamp first.
    pub(super) glance: VecDeque<(u64, usize, Vec<u8>)>,
    /// Rings whose front record was held; tried again after any other step.
    pub(super) blocked: Vec<bool>,
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) stalled_until: Time,
    pub(super) clock_due: Time,
}

#[derive(Default)]
pub(super) struct Ring {
    pub(super) records: VecDeque<(u64, Vec<u8>)>,
    pub(super) bytes: usize,
}

pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) hearing: usize,
    /// On its way to the router, each with its arrival.
    pub(super) inbound: VecDeque<(Time, Saying)>,
    pub(super) last_arrival: Time,
    pub(super) held: bool,
    /// Queued by the shard, not taken by the kernel.
    pub(super) outbound: VecDeque<Vec<u8>>,
    pub(super) unsent_bytes: usize,
    /// Nothing is taken before.
    pub(super) reads_at: Time,
    pub(super) slow: bool,
    pub(super) closing: Option<CloseReason>,
    /// The peer is gone; the shard does not know yet.
    pub(super) gone: bool,
}

impl Node {
    pub(super) fn new(id: u16, plan: &Plan, limits: Limits) -> Self {
        let settings = Settings {
            id: ShardId(id),
            shards: plan.shards,
            limits,
            seed: [plan.seed, !plan.seed],
            rate_limit: plan.rate_limit,
            session_timeout: Some(Span::from_secs(4)),
            critical: vec![CRITICAL.to_owned()],
            arbitrations: arbitrations(),
            rules: vec![RuleFor { pattern: format!("{ROOT}*/{HIGHEST}"), rule: Rule::Max }],
            stall_timeout: Span::from_secs(5),
            ..Settings::default()
        };
        let shard = Shard::new(settings);
        let rings = || (0..plan.shards).map(|_| Ring::default()).collect();
        Self {
            memory_bytes: shard.memory_bytes(),
            shard,
            stamp: 0,
            forward: rings(),
            publish: rings(),
            glance: VecDeque::new(),
            blocked: vec![false; usize::from(plan.shards)],
            links: BTreeMap::new(),
            stalled_until: Time(0),
            clock_due: Time(0),
        }
    }
}

/// Below every rig: one address that keeps what was said last, and one that falls back.
fn arbitrations() -> Vec<Arbitration> {
    let mut value = Vec::new();
    push_i64(&mut value, SAFE);
    let contended = Arbitration {
        pattern: format!("{ROOT}*/{CONTENDED}"),
        order: Order::Highest,
        timeout: None,
        on_loss: OnLoss::Hold,
        default_priority: 100,
    };
    let fleeting = Arbitration {
        pattern: format!("{ROOT}*/{FLEETING}"),
        order: Order::Latest,
        timeout: Some(Span::from_millis(200)),
        on_loss: OnLoss::Set { value },
        ..contended.clone()
    };
    vec![contended, fleeting]
}

/// Small enough that a short run meets every limit but those that would evict honest params.
pub(super) fn small_limits(shards: u16) -> Limits {
    Limits {
        links_max: LINKS_MAX,
        subscriptions_per_session_max: 32,
        subscriptions_max: 512,
        params_max: 2_000,
        param_bytes_max: 4 << 20,
        signals_max: 64,
        signal_bytes_max: 64 << 10,
        window_bytes: 512,
        outbox_bytes_max: 96 << 10,
        outbox_entries_max: 4_096,
        outbox_pool_bytes: 1 << 20,
        samples_per_turn_max: 1,
        paced_max: 256,
        gestures_max: 64,
        bundles_max: 64,
        bundles_per_session_max: 16,
        timelines_max: 16,
        held_bytes_max: 512 << 10,
        history_bytes: 64 << 10,
        tombstones_max: 4_096,
        claims_max: 512,
        peers: shards - 1,
    }
}

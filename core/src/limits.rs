//! Every bound of a shard, and the memory that follows from it.
//!
//! All of it is taken at start. Past a limit the answer is typed and counted, never a growing
//! queue.

use crate::time::Span;

/// Values, or bundles, inside each other at most. Deeper is [`crate::error::Malformed::TooDeep`].
pub const NESTING_MAX: usize = 64;

/// Payload bytes of a frame: the header's length field is a u16.
pub const PAYLOAD_BYTES_MAX: usize = 65_535;

/// A whole frame: header with timestamp, and the longest payload.
pub const FRAME_BYTES_MAX: usize = 12 + PAYLOAD_BYTES_MAX;

/// Bytes of an address or pattern.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Address and value of one param together, so that any param fits a SNAPSHOT of its own.
pub const PARAM_BYTES_MAX: usize = 65_400;

/// A SNAPSHOT is closed when its payload reaches this.
pub const SNAPSHOT_BYTES_MAX: usize = 60_000;

/// Messages of one BUNDLE.
pub const BUNDLE_MESSAGES_MAX: usize = 4_096;

/// How far ahead a timed bundle may lie.
pub const BUNDLE_HORIZON: Span = Span::from_secs(60);

/// Free bytes that every ring to a peer must have before an input is stepped that may hand records
/// to peers ([`crate::shard::Input::room`]): more than one step hands to one peer (a full bundle,
/// each SET with its record header, or the history of a pattern).
pub const PEER_ROOM_BYTES: usize = 512 * 1024;

/// Bytes of each ring between two shards.
pub const PEER_RING_BYTES: usize = 2 * PEER_ROOM_BYTES;

const _: () = assert!(SNAPSHOT_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(PARAM_BYTES_MAX + 64 < PAYLOAD_BYTES_MAX);
const _: () = assert!(PEER_ROOM_BYTES > PAYLOAD_BYTES_MAX + BUNDLE_MESSAGES_MAX * 96);

/// The bounds of one shard. Every field is a count or a size that
/// [`Shard::memory_bytes`](crate::shard::Shard::memory_bytes) charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Links open at once on this shard.
    pub links_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_per_session_max: u32,
    /// Subscriptions of all sessions of this shard.
    pub subscriptions_max: u32,
    /// Params whose home this shard is.
    pub params_max: u32,
    /// Bytes for the addresses and values of those params.
    pub param_bytes_max: u64,
    /// Announced signals kept.
    pub signals_max: u32,
    /// Bytes for what announcements say.
    pub signal_bytes_max: u64,
    /// Bytes handed to the edge for one link before the outbox holds back.
    pub window_bytes: u32,
    /// Bytes that one congested link may have waiting.
    pub outbox_bytes_max: u32,
    /// Messages waiting for all congested links together.
    pub outbox_entries_max: u32,
    /// Bytes of the frames that wait for all congested links together.
    pub outbox_pool_bytes: u64,
    /// Stream samples of other shards stepped in one turn; the rest waits for the next one.
    pub samples_per_turn_max: u32,
    /// Addresses held back by `max_rate` or compared by `epsilon`, all subscriptions together.
    pub paced_max: u32,
    /// Gestures open at once.
    pub gestures_max: u32,
    /// Timed bundles waiting.
    pub bundles_max: u32,
    /// Timed bundles waiting for one session.
    pub bundles_per_session_max: u32,
    /// Timelines playing.
    pub timelines_max: u32,
    /// Bytes of timed bundles, timelines and pending gesture moves.
    pub held_bytes_max: u64,
    /// Bytes of the newest stream samples, kept for `history` and `window`.
    pub history_bytes: u64,
    /// Revisions remembered of params that are gone.
    pub tombstones_max: u32,
    /// What sources say of arbitrated params: one claim for each source and param. Taken only where
    /// something is arbitrated.
    pub claims_max: u32,
    /// Other shards.
    pub peers: u16,
}

impl Default for Limits {
    /// One shard that holds 100,000 params and 1,000 sessions.
    fn default() -> Self {
        Self {
            links_max: 1_000,
            subscriptions_per_session_max: 1_000,
            subscriptions_max: 20_000,
            params_max: 100_000,
            param_bytes_max: 16 << 20,
            signals_max: 10_000,
            signal_bytes_max: 4 << 20,
            window_bytes: 16 << 10,
            outbox_bytes_max: 1 << 20,
            outbox_entries_max: 65_536,
            outbox_pool_bytes: 32 << 20,
            samples_per_turn_max: 256,
            paced_max: 16_384,
            gestures_max: 4_096,
            bundles_max: 1_024,
            bundles_per_session_max: 64,
            timelines_max: 1_024,
            held_bytes_max: 8 << 20,
            history_bytes: 1 << 20,
            tombstones_max: 16_384,
            claims_max: 65_536,
            peers: 0,
        }
    }
}

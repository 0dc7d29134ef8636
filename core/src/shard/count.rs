//! What happened on a shard, as plain numbers; the edge publishes them.

/// Generates the struct and the table that names each field, so that the two cannot drift apart.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since the start of the shard.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Every counter with its name, in the order of the documentation.
            pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f(stringify!($name), self.$name);)*
            }
        }
    };
}

counts! {
    /// Frames that links brought.
    frames_in,
    /// Frames queued on links.
    frames_out,
    /// Frames that were no frame or no message.
    malformed,
    /// Messages answered with an ERROR other than a rate limit.
    refused,
    /// Messages dropped because their session sent too many.
    rate_limited,
    /// Sessions that said HELLO and were welcomed.
    sessions_opened,
    /// Sessions that ended, for whatever reason.
    sessions_closed,
    /// Writes that a param took.
    sets,
    /// Writes that a max, min or lock rule did not take.
    sets_outruled,
    /// Writes of arbitrated params that another source's claim outranked.
    sets_outranked,
    /// Claims that ended: their source was silent too long, released them, or left.
    claims_lost,
    /// Two sources of equal priority fought over a param.
    duels,
    /// Messages published without being kept.
    publishes,
    /// Bundles applied.
    bundles,
    /// Gesture moves replaced by a newer one before they left.
    moves_coalesced,
    /// Params replaced by a newer value while their link was congested.
    params_coalesced,
    /// Stream samples, and moves of gestures, dropped because their link, or the way from another
    /// shard, was congested.
    streams_dropped,
    /// Stream samples of other shards that waited for the next turn and let others pass.
    streams_deferred,
    /// Critical frames that came to a link for which others waited, and were put in front of them.
    overtakes,
    /// Deliveries held back, or left out, by `max_rate` and `epsilon`.
    paced,
    /// Deliveries not paced because the table of paced addresses was full.
    paced_overflow,
    /// Links closed because they read too slowly.
    closed_slow,
    /// Links closed because nothing was heard.
    closed_idle,
    /// Params that expired.
    params_expired,
    /// Params evicted for room.
    params_evicted,
    /// Records handed to other shards.
    records_out,
    /// Records taken from other shards.
    records_in,
    /// Inputs offered again later, to keep an order or wait for a bundle.
    held,
}

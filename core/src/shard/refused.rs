//! Why a message that was understood is not obeyed, and the CLASP code that says so.

use core::fmt;

use super::session_id::SessionId;
use super::settings::Rule;
use crate::address::AddressError;
use crate::error::code;
use crate::limits;
use crate::pattern::PatternError;

/// Understood, not allowed: answered with an ERROR that gives the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Address(AddressError),
    Pattern(PatternError),
    /// The writer believed in another revision than the param has.
    Revision {
        expected: u64,
        actual: u64,
    },
    /// Another session holds the lock.
    Locked {
        holder: SessionId,
    },
    /// The param's rule keeps what it has.
    Outruled {
        rule: Rule,
    },
    /// No room for another param, and none that may be evicted.
    Full,
    /// Address and value are longer than a SNAPSHOT can carry.
    TooLong {
        got: usize,
    },
    /// A merged map would have too many keys.
    TooWide,
    /// No scope of the session's token allows it.
    Forbidden,
    NotFound,
    /// What is asked for does not exist in this router.
    Unavailable {
        what: &'static str,
    },
    /// More subscriptions than a session, or the shard, may have.
    Subscriptions {
        max: u32,
    },
    /// A bundle inside a bundle.
    Nested,
    /// A bundle dated further ahead than the horizon.
    TooFarAhead {
        seconds: u64,
    },
    /// A table that bounds memory is full.
    Busy {
        what: &'static str,
    },
    /// A peer-to-peer signal for a session that is not here.
    NoTarget {
        session: SessionId,
    },
    /// A peer-to-peer signal in another session's name.
    NotSender,
    /// A peer-to-peer signal in a bundle.
    NotAlone,
    /// The patterns of one session are longer, all together, than one session's may be.
    PatternRoom {
        segments_max: u32,
        bytes_max: u32,
    },
    /// A message that makes no sense from a client, or at this point.
    Unexpected {
        what: &'static str,
    },
    /// A PUBLISH to `/clasp/source` that says nothing that could be obeyed.
    Marker {
        why: &'static str,
    },
    /// The description of a source that another session gave, or that is that session.
    NotSource {
        whose: SessionId,
    },
    /// A write of what the router itself answers for.
    Reserved,
    /// No room for another source of an arbitrated param.
    Claims,
    /// Keyframes that cannot be played.
    Timeline {
        why: &'static str,
    },
}

impl Refused {
    /// What ERROR says.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Address(_) => code::INVALID_ADDRESS,
            Self::Pattern(_) => code::BAD_PATTERN,
            Self::Revision { .. }
            | Self::Locked { .. }
            | Self::Outruled { .. }
            | Self::Full
            | Self::Claims => code::STATE,
            Self::TooLong { .. } | Self::TooWide | Self::Timeline { .. } | Self::Marker { .. } => {
                code::INVALID_VALUE
            }
            Self::Forbidden | Self::NotSender | Self::NotSource { .. } | Self::Reserved => {
                code::FORBIDDEN
            }
            Self::NotFound => code::NOT_FOUND,
            Self::Unavailable { .. } => code::UNAVAILABLE,
            Self::Subscriptions { .. } | Self::PatternRoom { .. } => code::RATE_LIMIT,
            Self::Nested | Self::NotAlone | Self::TooFarAhead { .. } => code::BUNDLE_REFUSED,
            Self::Busy { .. } => code::OVERFLOW,
            Self::NoTarget { .. } => code::TARGET_UNKNOWN,
            Self::Unexpected { .. } => code::INVALID_MESSAGE,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address(error) => error.fmt(f),
            Self::Pattern(error) => error.fmt(f),
            Self::Revision { expected, actual } => {
                write!(f, "revision conflict: expected {expected}, actual {actual}")
            }
            Self::Locked { holder } => write!(f, "lock held by session {holder}"),
            Self::Outruled { rule } => write!(f, "conflict: rule {rule:?} keeps the held value"),
            Self::Full => f.write_str("at capacity: no param may be evicted for this one"),
            Self::TooLong { got } => write!(
                f,
                "address and value take {got} bytes, at most {} can be kept",
                limits::PARAM_BYTES_MAX
            ),
            Self::TooWide => f.write_str("a merged map holds at most 256 keys"),
            Self::Forbidden => f.write_str("no scope of this token allows it"),
            Self::NotFound => f.write_str("no param has this address"),
            Self::Unavailable { what } => write!(f, "{what} is not available on this router"),
            Self::Subscriptions { max } => write!(f, "subscription limit reached: {max}"),
            Self::Nested => f.write_str("Bundle rejected: a bundle may not hold a bundle"),
            Self::TooFarAhead { seconds } => write!(
                f,
                "Bundle rejected: dated {seconds} s ahead, at most {} s",
                limits::BUNDLE_HORIZON.as_millis() / 1000
            ),
            Self::Busy { what } => write!(f, "too many {what} at once"),
            Self::NoTarget { session } => write!(f, "Target session not found: {session}"),
            Self::NotSender => f.write_str("field `from` is not the sending session"),
            Self::NotAlone => f.write_str("a peer-to-peer signal travels alone"),
            Self::PatternRoom { segments_max, bytes_max } => write!(
                f,
                "the patterns of a session have at most {segments_max} segments and {bytes_max} \
                 bytes in all"
            ),
            Self::Unexpected { what } => f.write_str(what),
            Self::Marker { why } => write!(f, "a marker of /clasp/source: {why}"),
            Self::Reserved => f.write_str(
                "reserved: below /clasp/ the router speaks; others may SET /clasp/source/<id> and \
                 PUBLISH to /clasp/source, /clasp/source/bids/.. and /clasp/p2p/..",
            ),
            Self::NotSource { whose } => {
                write!(f, "only session {whose} describes this source, as long as it is there")
            }
            Self::Claims => f.write_str("at capacity: no room for another source of this param"),
            Self::Timeline { why } => write!(f, "timeline: {why}"),
        }
    }
}

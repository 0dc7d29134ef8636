//! What a shard is told at start: who it is, who may do what, and which rule keeps a param.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ShardId;
use crate::limits::Limits;
use crate::time::Span;

/// Everything that makes two shards behave differently. Equal settings and equal inputs: equal
/// effects.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: ShardId,
    /// Shards of this router; 1 without peers.
    pub shards: u16,
    pub limits: Limits,
    /// WELCOME's name.
    pub name: String,
    /// Session ids and hash tables are drawn from it. The same on every shard of a router.
    ///
    /// From the operating system's random source: who knows it can name the sessions of others, and
    /// choose addresses that collide. The default is for tests.
    pub seed: [u64; 2],
    /// `None`: open mode. `Some`: a token is needed, and these are the valid ones.
    pub grants: Option<Vec<Grant>>,
    /// Messages a second and session; `None`: no limit. The bucket holds one second's worth.
    pub rate_limit: Option<u32>,
    /// A session that was silent for this long is closed, and one without subscriptions that only
    /// answers pings, after twelve times as long; `None`: never.
    pub session_timeout: Option<Span>,
    pub handshake_timeout: Span,
    /// A congested link that takes no byte for this long is closed.
    pub stall_timeout: Span,
    /// Moves of one gesture are forwarded this far apart.
    pub gesture_interval: Span,
    /// Timelines emit their value this often.
    pub timeline_interval: Span,
    /// Params without a TTL of their own live this long after a write; `None`: for ever.
    pub param_ttl: Option<Span>,
    /// The first pattern that matches an address decides how its writes are settled; none: `Last`.
    pub rules: Vec<RuleFor>,
    /// Show-critical addresses, by pattern: what is said of them overtakes whatever is not
    /// critical, and is never dropped. Events and bundles of any address do, too.
    pub critical: Vec<String>,
    /// The first pattern that matches an address decides who wins it, whatever protocol its sources
    /// speak. Such a param follows no rule of `rules`.
    pub arbitrations: Vec<Arbitration>,
    /// The first name that a session's name fits gives its writes their priority. Of longer names
    /// 63 bytes count.
    pub sources: Vec<SourceFor>,
    /// [`super::Ruling`]s may come: who each session is is kept although nothing is arbitrated yet.
    pub introduces: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            id: ShardId(0),
            shards: 1,
            limits: Limits::default(),
            name: String::from("clasp-rt"),
            seed: [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210],
            grants: None,
            rate_limit: Some(1_000),
            session_timeout: Some(Span::from_secs(300)),
            handshake_timeout: Span::from_secs(10),
            stall_timeout: Span::from_secs(10),
            gesture_interval: Span::from_millis(16),
            timeline_interval: Span::from_millis(16),
            param_ttl: None,
            rules: Vec::new(),
            critical: Vec::new(),
            arbitrations: Vec::new(),
            sources: Vec::new(),
            introduces: false,
        }
    }
}

/// One line of a token file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub token: String,
    pub scopes: Vec<Scope>,
    /// Seconds since the Unix epoch; `None`: does not expire.
    pub expires_unix_s: Option<u64>,
}

/// `action:pattern`: [`super::scope`] tells what each allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub action: Action,
    pub pattern: String,
}

/// Admin implies write and read; write implies read of single addresses, not subscribing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Read,
    Write,
    Admin,
}

/// How writes of the addresses that `pattern` matches are settled.
#[derive(Clone, Debug)]
pub struct RuleFor {
    pub pattern: String,
    pub rule: Rule,
}

/// Who wins the addresses that `pattern` matches: priority first, then the order, among sources
/// that were heard lately enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Arbitration {
    pub pattern: String,
    pub order: Order,
    /// A source that says nothing of an address for so long has lost it; `None`: as long as its
    /// session lives.
    pub timeout: Option<Span>,
    pub on_loss: OnLoss,
    /// Of sources that declare none and whose session's name says none: 0..=200.
    pub default_priority: u8,
}

/// Who wins among sources of equal priority. Numbers come before what is none; `true` is 1. Of
/// equal levels the one that was there first wins, of what is no number the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// HTP: the highest value.
    #[default]
    Highest,
    /// LTP: the latest change. Saying again what one said before is none.
    Latest,
    Lowest,
}

/// What becomes of a param whose last source is lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OnLoss {
    /// It stays as it is.
    #[default]
    Hold,
    /// It becomes `value`, encoded as [`crate::value::push_value`] does, at once.
    Set { value: Vec<u8> },
    /// It goes there in even steps, if both are numbers; else it becomes `value` at the end.
    Fade { value: Vec<u8>, over: Span },
}

/// The priority of sessions by their name, in which each `*` is any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFor {
    pub name: String,
    /// 0..=200.
    pub priority: u8,
}

/// Which of two writes a param keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// The later one.
    #[default]
    Last,
    /// The greater number.
    Max,
    /// The smaller number.
    Min,
    /// The first writer's, until it leaves or unlocks.
    Lock,
    /// Maps: key by key the later one. Anything else: the later one.
    Merge,
    /// The winner's among all that claim it: see [`Arbitration`].
    Arbitrated,
}

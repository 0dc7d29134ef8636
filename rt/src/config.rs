//! What a person wrote, on the command line or in a TOML file: nothing resolved, nothing defaulted.
//!
//! Each struct is the list of its keys for both places: clap reads its flags from it, serde its
//! TOML keys, and the doc comments are the help. What follows from them is decided in `plan.rs`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clasp_rt_bridges::words::unknown;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::Rule;
use serde::Deserialize;
use serde::de;
use toml::de::{DeTable, DeValue};

use crate::arbitration::{ArbitrationAsWritten, SourceAsWritten};
use crate::document::{Document, Node, Problem};
use crate::recording::Recording;
use crate::waiting::BusyPoll;

mod words;

pub use words::{Bytes, Cores, address, address_and_port};

/// The whole file; the command line fills the same struct.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub server: Server,
    pub limits: LimitsAsWritten,
    pub auth: Auth,
    pub log: Log,
    pub lanes: Lanes,
    pub listeners: Vec<Listener>,
    pub rules: Vec<RuleAsWritten>,
    pub arbitrations: Vec<ArbitrationAsWritten>,
    pub sources: Vec<SourceAsWritten>,
    pub bridges: Vec<BridgeAsWritten>,
    /// Each `[[route]]`, for the bridge named `routes` to read.
    pub routes: Vec<serde_json::Value>,
    /// Each `[[patch]]`, for the bridge named `patch` to read.
    pub patches: Vec<serde_json::Value>,
    pub record: Option<Recording>,
    /// It is of a file, which may change while the router runs.
    pub may_change: bool,
}

/// The tables that a file may have, each with the reader of its contents below.
const SECTIONS: &[&str] = &[
    "server",
    "limits",
    "auth",
    "log",
    "lanes",
    "listen",
    "rule",
    "arbitration",
    "source",
    "bridge",
    "route",
    "patch",
    "record",
];

/// Those of them that are there once.
const TABLES: &[&str] = &["server", "limits", "auth", "log", "lanes", "record"];

/// `[server]`, and the flags of `clasp-rt server`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Name that clients see in WELCOME, at most 255 bytes [default: clasp-rt]
    #[arg(long)]
    pub name: Option<String>,
    /// Address to listen on, IPv4 or IPv6 [default: 0.0.0.0, every interface]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub bind: Option<IpAddr>,
    /// WebSocket port; 0 lets the system choose one and prints it [default: 7330]
    #[arg(long)]
    pub port: Option<u16>,
    /// Port for CLASP over TCP, each frame after its length as a big-endian u32 [default: none]
    #[arg(long, value_name = "PORT")]
    pub tcp_port: Option<u16>,
    /// Cores to pin shards to, one shard each, such as `2-7` or `2,4-5`
    ///
    /// Default: the cores that the kernel was told to isolate, one shard each; without such cores
    /// one shard fewer than there are cores, at least 1 and at most 4, and none is pinned.
    #[arg(long)]
    pub cores: Option<Cores>,
    /// How many shards share the address space [default: one for each of --cores]
    #[arg(long, value_name = "COUNT")]
    pub shards: Option<u16>,
    /// What a shard does while nothing happens [default: auto]
    #[arg(long, value_name = "POLICY")]
    pub idle: Option<Idle>,
    /// Poll network cards for so long before a shard sleeps, such as `50us` [default: not at all]
    ///
    /// Takes that much of the core for each sleep, and needs Linux 6.9. Loopback has no card.
    #[arg(long, value_name = "TIME")]
    pub busy_poll: Option<BusyPoll>,
    /// Run shards before every normal thread, as SCHED_FIFO of this priority, 1 to 99 [default: as
    /// normal threads]
    ///
    /// Only where each shard has an isolated core: elsewhere it causes pauses of 50 ms.
    #[arg(long, value_name = "PRIORITY")]
    pub fifo_priority: Option<u8>,
    /// Keep all memory in RAM, so that no access ever waits for a disk
    #[arg(long, num_args = 0, default_missing_value = "true")]
    pub lock_memory: Option<bool>,
    /// Sessions that may be open at once, all shards together [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub max_sessions: Option<u32>,
    /// Subscriptions of one session [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub max_subscriptions: Option<u32>,
    /// Messages a second that one session may send; 0 sets no limit [default: 1000]
    #[arg(long, value_name = "PER_SECOND")]
    pub rate_limit: Option<u32>,
    /// Close a session that was silent for so many seconds; 0 never does [default: 300]
    #[arg(long = "session-timeout", value_name = "SECONDS")]
    pub session_timeout_s: Option<u32>,
    /// Close a connection that says no HELLO for so many seconds [default: 10]
    #[arg(long = "handshake-timeout", value_name = "SECONDS")]
    pub handshake_timeout_s: Option<u32>,
    /// Close a congested session that takes no byte for so many seconds [default: 10]
    #[arg(long = "stall-timeout", value_name = "SECONDS")]
    pub stall_timeout_s: Option<u32>,
    /// Forward the moves of one gesture at least so many milliseconds apart [default: 16]
    #[arg(long = "gesture-interval", value_name = "MS")]
    pub gesture_interval_ms: Option<u32>,
    /// Emit the value of a playing timeline every so many milliseconds [default: 16]
    #[arg(long = "timeline-interval", value_name = "MS")]
    pub timeline_interval_ms: Option<u32>,
    /// Address and port that answer `GET /metrics` for Prometheus, /metrics.json and /hist, and
    /// that `clasp-rt top` and `clasp-rt hist` ask [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address_and_port)]
    pub metrics: Option<SocketAddr>,
    /// Count how long messages take, for `clasp-rt top`, `clasp-rt hist` and /metrics [default: on]
    #[arg(long, value_name = "SWITCH")]
    pub histograms: Option<Switch>,
    /// Forget a param so many seconds after its last write; 0 keeps it [default: 0]
    #[arg(long = "param-ttl", value_name = "SECONDS")]
    pub param_ttl_s: Option<u32>,
}

/// `[auth]`, and its flags.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Who may join [default: authenticated if any token is given, else open]
    #[arg(long = "auth-mode", value_name = "MODE")]
    pub mode: Option<AuthMode>,
    /// File of tokens, each line `TOKEN scope,scope exp=UNIX_SECONDS`
    ///
    /// A scope is `read:`, `write:` or `admin:` and a pattern, such as `write:/lights/**`. A line
    /// without scopes may do everything. `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A token to accept, written like a line of the file; may be given more than once
    #[arg(long = "token", value_name = "TOKEN SCOPES")]
    pub tokens: Vec<String>,
}

/// `[log]`, and its flag.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long = "log", value_name = "LEVEL")]
    pub level: Option<LogLevel>,
}

/// `[lanes]`: what overtakes what on its way to a receiver that does not keep up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lanes {
    /// Patterns of show-critical addresses, beside all events and bundles.
    pub critical: Vec<String>,
}

/// `[limits]`: bounds of each shard, because all of one namespace may live on one shard.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsAsWritten {
    pub subscriptions_max: Option<u32>,
    pub params_max: Option<u32>,
    pub param_bytes_max: Option<Bytes>,
    pub signals_max: Option<u32>,
    pub signal_bytes_max: Option<Bytes>,
    pub window_bytes: Option<Bytes>,
    pub outbox_bytes_max: Option<Bytes>,
    pub outbox_entries_max: Option<u32>,
    pub outbox_pool_bytes: Option<Bytes>,
    pub samples_per_turn_max: Option<u32>,
    pub paced_max: Option<u32>,
    pub gestures_max: Option<u32>,
    pub bundles_max: Option<u32>,
    pub bundles_per_session_max: Option<u32>,
    pub timelines_max: Option<u32>,
    pub held_bytes_max: Option<Bytes>,
    pub history_bytes: Option<Bytes>,
    pub tombstones_max: Option<u32>,
    pub claims_max: Option<u32>,
}

/// `[[listen]]`: one more port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub transport: Transport,
    pub bind: Option<IpAddr>,
    pub port: u16,
}

/// `[[rule]]`: how writes of the addresses of a pattern are settled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleAsWritten {
    pub pattern: String,
    pub rule: RuleName,
}

/// `[[bridge]]`: what belongs to the router, and what the bridge itself reads.
#[derive(Clone, Debug, Default)]
pub struct BridgeAsWritten {
    /// Where its table begins, of a file.
    pub line: Option<usize>,
    pub kind: String,
    /// The core of its thread; without one the system chooses.
    pub core: Option<usize>,
    pub options: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Idle {
    /// Choose by what this machine allows, and say why
    Auto,
    /// Never sleep: lowest latency, takes the whole core
    Spin,
    /// Sleep, but keep the processor from halting (needs /dev/cpu_dma_latency)
    NoHalt,
    /// Spin for a moment after work, then sleep
    Adaptive,
    /// Sleep at once: takes the least from other programs
    Park,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Anyone may do anything
    Open,
    /// A token is needed
    Authenticated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Ws,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleName {
    Last,
    Max,
    Min,
    Lock,
    Merge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Config {
    /// Reads a file; every mistake is told, not only the first.
    pub fn parse(text: &str) -> (Self, Vec<Problem>) {
        let (document, mut problems) = Document::parse(text);
        let config = Self::read(&document, &mut problems);
        problems.sort_by_key(|problem| problem.line);
        (config, problems)
    }

    fn read(document: &Document<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut config = Self::default();
        for (name, node) in document.sections() {
            if TABLES.contains(&name) && !document.is_table(name, node, problems) {
                continue;
            }
            match name {
                "server" => config.server = section(document, node, problems),
                "limits" => config.limits = section(document, node, problems),
                "auth" => config.auth = section(document, node, problems),
                "log" => config.log = section(document, node, problems),
                "lanes" => config.lanes = section(document, node, problems),
                "listen" => config.listeners = document.decode_each(name, node, problems),
                "rule" => config.rules = document.decode_each(name, node, problems),
                "arbitration" => config.arbitrations = document.decode_each(name, node, problems),
                "source" => config.sources = document.decode_each(name, node, problems),
                "record" => config.record = Some(section(document, node, problems)),
                "route" => config.routes = document.decode_each(name, node, problems),
                "patch" => config.patches = document.decode_each(name, node, problems),
                "bridge" => {
                    let nodes = document.elements(name, node, problems);
                    config.bridges =
                        nodes.iter().filter_map(|n| bridge(document, n, problems)).collect();
                }
                _ => problems.push(Problem {
                    line: document.line_of_section(name),
                    what: unknown("table", name, SECTIONS),
                }),
            }
        }
        config
    }

    /// What the command line says, before what the file says.
    pub fn overridden_by(mut self, server: &Server, auth: &Auth, log: &Log) -> Self {
        self.server = server.over(self.server);
        self.auth = auth.over(self.auth);
        self.log.level = log.level.or(self.log.level);
        self
    }
}

impl Server {
    fn over(&self, file: Self) -> Self {
        let typed = self.clone();
        Self {
            name: typed.name.or(file.name),
            bind: typed.bind.or(file.bind),
            port: typed.port.or(file.port),
            tcp_port: typed.tcp_port.or(file.tcp_port),
            cores: typed.cores.or(file.cores),
            shards: typed.shards.or(file.shards),
            idle: typed.idle.or(file.idle),
            busy_poll: typed.busy_poll.or(file.busy_poll),
            fifo_priority: typed.fifo_priority.or(file.fifo_priority),
            lock_memory: typed.lock_memory.or(file.lock_memory),
            max_sessions: typed.max_sessions.or(file.max_sessions),
            max_subscriptions: typed.max_subscriptions.or(file.max_subscriptions),
            rate_limit: typed.rate_limit.or(file.rate_limit),
            session_timeout_s: typed.session_timeout_s.or(file.session_timeout_s),
            handshake_timeout_s: typed.handshake_timeout_s.or(file.handshake_timeout_s),
            stall_timeout_s: typed.stall_timeout_s.or(file.stall_timeout_s),
            gesture_interval_ms: typed.gesture_interval_ms.or(file.gesture_interval_ms),
            timeline_interval_ms: typed.timeline_interval_ms.or(file.timeline_interval_ms),
            metrics: typed.metrics.or(file.metrics),
            histograms: typed.histograms.or(file.histograms),
            param_ttl_s: typed.param_ttl_s.or(file.param_ttl_s),
        }
    }
}

impl Auth {
    /// Tokens of both places count: one on the command line does not lock out those of the file.
    fn over(&self, file: Self) -> Self {
        let mut tokens = file.tokens;
        tokens.extend(self.tokens.iter().cloned());
        Self {
            mode: self.mode.or(file.mode),
            token_file: self.token_file.clone().or(file.token_file),
            tokens,
        }
    }
}

impl LimitsAsWritten {
    /// Replaces each bound that is written.
    pub fn apply(&self, limits: &mut Limits) {
        put(&mut limits.subscriptions_max, self.subscriptions_max);
        put(&mut limits.params_max, self.params_max);
        put_bytes(&mut limits.param_bytes_max, self.param_bytes_max);
        put(&mut limits.signals_max, self.signals_max);
        put_bytes(&mut limits.signal_bytes_max, self.signal_bytes_max);
        put_bytes_u32(&mut limits.window_bytes, self.window_bytes);
        put_bytes_u32(&mut limits.outbox_bytes_max, self.outbox_bytes_max);
        put(&mut limits.outbox_entries_max, self.outbox_entries_max);
        put_bytes(&mut limits.outbox_pool_bytes, self.outbox_pool_bytes);
        put(&mut limits.samples_per_turn_max, self.samples_per_turn_max);
        put(&mut limits.paced_max, self.paced_max);
        put(&mut limits.gestures_max, self.gestures_max);
        put(&mut limits.bundles_max, self.bundles_max);
        put(&mut limits.bundles_per_session_max, self.bundles_per_session_max);
        put(&mut limits.timelines_max, self.timelines_max);
        put_bytes(&mut limits.held_bytes_max, self.held_bytes_max);
        put_bytes(&mut limits.history_bytes, self.history_bytes);
        put(&mut limits.tombstones_max, self.tombstones_max);
        put(&mut limits.claims_max, self.claims_max);
    }
}

impl From<RuleName> for Rule {
    fn from(name: RuleName) -> Self {
        match name {
            RuleName::Last => Self::Last,
            RuleName::Max => Self::Max,
            RuleName::Min => Self::Min,
            RuleName::Lock => Self::Lock,
            RuleName::Merge => Self::Merge,
        }
    }
}

impl LogLevel {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn section<'a, T: Default + de::DeserializeOwned>(
    document: &Document<'a>,
    node: &Node<'a>,
    problems: &mut Vec<Problem>,
) -> T {
    document.decode(node, problems).unwrap_or_default()
}

/// Takes out what belongs to the router; the rest is for the bridge to judge.
fn bridge<'a>(
    document: &Document<'a>,
    node: &Node<'a>,
    problems: &mut Vec<Problem>,
) -> Option<BridgeAsWritten> {
    #[derive(Deserialize)]
    struct Own {
        #[serde(rename = "type")]
        kind: String,
        core: Option<usize>,
    }
    let mut rest = node.clone();
    let mut own = DeTable::new();
    if let DeValue::Table(table) = rest.get_mut() {
        for key in ["type", "core"] {
            own.extend(table.remove_entry(key));
        }
    }
    let own = Node::new(node.span(), DeValue::Table(own));
    let own: Own = document.decode(&own, problems)?;
    let options = document.decode(&rest, problems)?;
    let line = Some(document.line(node.span()));
    Some(BridgeAsWritten { line, kind: own.kind, core: own.core, options })
}

fn put(bound: &mut u32, written: Option<u32>) {
    *bound = written.unwrap_or(*bound);
}

fn put_bytes(bound: &mut u64, written: Option<Bytes>) {
    *bound = written.map_or(*bound, |Bytes(bytes)| bytes);
}

fn put_bytes_u32(bound: &mut u32, written: Option<Bytes>) {
    // Beyond 4 GiB for one connection every larger wish means the same.
    *bound = written.map_or(*bound, |Bytes(bytes)| u32::try_from(bytes).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_into_what_was_written() {
        let (config, problems) = Config::parse(
            r#"
            [server]
            port = 7331
            cores = "2,4-5"
            idle = "nohalt"
            [limits]
            params_max = 7
            param_bytes_max = "1 MiB"
            [auth]
            tokens = ["a read:/**"]
            [lanes]
            critical = ["/cue/**"]
            [[listen]]
            transport = "tcp"
            port = 7340
            [[rule]]
            pattern = "/dmx/**"
            rule = "max"
            [[bridge]]
            type = "osc"
            core = 1
            namespace = "/osc"
            "#,
        );
        assert_eq!(problems, []);
        assert_eq!(config.server.port, Some(7331));
        assert_eq!(config.server.cores, Some(Cores(vec![2, 4, 5])));
        assert_eq!(config.server.idle, Some(Idle::NoHalt));
        let mut limits = Limits::default();
        config.limits.apply(&mut limits);
        assert_eq!((limits.params_max, limits.param_bytes_max), (7, 1 << 20));
        assert_eq!(limits.signals_max, Limits::default().signals_max);
        assert_eq!(config.auth.tokens, ["a read:/**"]);
        assert_eq!(config.listeners[0].transport, Transport::Tcp);
        assert_eq!(config.lanes.critical, ["/cue/**"]);
        assert_eq!(config.rules[0].rule, RuleName::Max);
        assert_eq!((config.bridges[0].kind.as_str(), config.bridges[0].core), ("osc", Some(1)));
        assert_eq!(config.bridges[0].options["namespace"], "/osc");
    }

    #[test]
    fn every_mistake_of_a_file_is_told_with_its_line() {
        let cases = [
            ("[lanes]\ncritcal = []", "line 2: unknown key `critcal`: did you mean `critical`?"),
            ("[sever]\n", "line 1: unknown table `sever`: did you mean `server`?"),
            ("[server]\nprot = 1", "line 2: unknown key `prot`: did you mean `port`?"),
            (
                "[limits]\nparam_max = 1",
                "line 2: unknown key `param_max`: did you mean `params_max`?",
            ),
            (
                "[server]\ncores = \"2-\"",
                "line 2: `cores`: `2-` is not a core or a range such as 2-7",
            ),
            ("[server]\ncores = [1, 1]", "line 2: `cores`: core 1 is named twice"),
            (
                "[limits]\nhistory_bytes = \"1 MB\"",
                "line 2: `history_bytes`: `MB` is not a unit: use KiB, MiB or GiB",
            ),
            (
                "[server]\nbind = \"localhost\"",
                "line 2: `bind`: \"localhost\" should be an IP address such as \"0.0.0.0\" or \
                 \"::1\"",
            ),
            ("server = 1", "line 1: `server` is one table: begin it with [server]"),
            ("[[server]]\nport = 1", "line 1: `server` is one table: begin it with [server]"),
            (
                "listen = [1]",
                "line 1: `listen` is a list: begin each of its tables with [[listen]]",
            ),
            (
                "[log]\nlevel = 1",
                "line 2: `level`: 1 should be one of \"error\", \"warn\", \"info\", \
                 \"debug\", \"trace\"",
            ),
            (
                "[[rule]]\npattern = \"/a\"\nrule = \"mrge\"",
                "line 3: `rule`: unknown value `mrge`: did you mean `merge`?",
            ),
            ("[[listen]]\ntransport = \"ws\"", "line 1: key `port` is missing"),
            ("[rule]\n", "line 1: `rule` is a list: begin each of its tables with [[rule]]"),
            ("[[bridge]]\nport = 1", "line 1: key `type` is missing"),
        ];
        for (text, said) in cases {
            let (_, problems) = Config::parse(text);
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems, [said], "{text}");
        }
    }

    #[test]
    fn the_command_line_outranks_the_file_and_adds_its_tokens() {
        let (file, _) = Config::parse(
            "[server]\nport = 1\nname = \"file\"\n[auth]\ntokens = [\"a\"]\n\
             [log]\nlevel = \"warn\"",
        );
        let typed = Server { port: Some(2), ..Server::default() };
        let auth = Auth { tokens: vec!["b".to_owned()], ..Auth::default() };
        let config = file.overridden_by(&typed, &auth, &Log::default());
        assert_eq!(config.server.port, Some(2));
        assert_eq!(config.server.name.as_deref(), Some("file"));
        assert_eq!(config.auth.tokens, ["a", "b"]);
        assert_eq!(config.log.level, Some(LogLevel::Warn));
    }
}

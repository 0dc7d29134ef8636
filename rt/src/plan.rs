//! What will run: defaults chosen, cores resolved against the host, memory counted, all printable.

use std::fmt;
use std::fs;
use std::net::SocketAddr;

use clasp_rt_core::ShardId;
use clasp_rt_core::limits::Limits;
use clasp_rt_core::pattern;
use clasp_rt_core::shard::{Grant, RuleFor, SHARDS_MAX, Settings, tokens};
use clasp_rt_core::time::Span;

use crate::arbitration;
use crate::config::{AuthMode, Config, Cores, Idle, LogLevel, Switch};
use crate::host::Host;
use crate::memory::{self, Size, Term};
use crate::open_bridge::{Around, Opened, place_bridges};
use crate::plan_types::{
    BridgePlan, BridgeThreadPlan, Hygiene, ServicePlan, ShardPlan, Threads, Uplink,
};
use crate::recording::RecordingPlan;
use crate::waiting::{self, BusyPoll, HostFacts};

mod bounds;
mod ports;

pub use bounds::too_long;
pub use ports::Ports;

/// The port that published clients try first.
pub const PORT: u16 = 7330;

/// One ring between two threads and direction. Twice what one step may hand over, so that a peer
/// can be a full step behind before anybody has to wait.
pub const EXCHANGE_BYTES: usize = 2 * clasp_rt_core::limits::PEER_ROOM_BYTES;

/// More shards than this are run only when asked for: rings between shards grow with their square,
/// and one shard serves more than a show sends.
const SHARDS_BY_DEFAULT_MAX: usize = 4;

/// Links beyond the sessions: room to turn somebody away with a reason, and for handshakes.
const LINKS_SPARE: u32 = 64;

/// As it will run.
pub struct Plan {
    pub threads: Threads,
    pub log: LogLevel,
    /// Where counters can be asked for.
    pub metrics: Option<SocketAddr>,
    /// Why these cores, for the person who started the router.
    pub cores_why: String,
    pub idle_why: String,
}

/// A key that cannot work on this host, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// As in the file: `server.cores`, `rule[1].pattern`.
    pub key: String,
    pub why: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl Plan {
    /// Resolves `config` on this `host`, or says each key that is wrong and what would be right.
    pub fn new(config: &Config, host: &Host) -> Result<Self, Vec<PlanError>> {
        let mut errors = Vec::new();
        let placement = note(&mut errors, place_shards(config, host)).unwrap_or_default();
        bounds::check(config, &mut errors);
        let mut ports = Ports::default();
        let listeners = ports::listeners(config, &mut ports, &mut errors);
        let mut settings = settings(config, host, placement.cores.len(), &mut errors);
        let mut around = Around { ports, grants: settings.grants.as_deref() };
        let count = placement.cores.len();
        let (bridges, services) = place_bridges(config, host, count, &mut around, &mut errors);
        let guests = services.iter().map(|plan| plan.service.sessions_max());
        let guests_max = guests.fold(0, u32::saturating_add);
        settings.limits.links_max = settings.limits.links_max.saturating_add(guests_max);
        // A thread that only waits for a first route takes no core.
        let at_work = bridges.iter().filter(|thread| !thread.is_vacant()).count();
        let (idle, idle_why) = idle(config, host, &placement, at_work + services.len());
        let threads = Threads {
            shards: (0..)
                .zip(&placement.cores)
                .map(|(id, core)| ShardPlan {
                    core: *core,
                    settings: Settings { id: ShardId(id), ..settings.clone() },
                    listeners: listeners.clone(),
                })
                .collect(),
            bridges,
            services,
            guests_max,
            recording: recording(config, host, &mut errors),
            sessions_max: sessions_max(config),
            idle,
            histograms: config.server.histograms != Some(Switch::Off),
            lock_memory: config.server.lock_memory.unwrap_or(false),
            hygiene: hygiene(config, placement.isolated, &mut errors),
            exchange_bytes: EXCHANGE_BYTES,
        };
        fits(&threads, host, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let log = config.log.level.unwrap_or(LogLevel::Info);
        let metrics = config.server.metrics;
        Ok(Self { threads, log, metrics, cores_why: placement.why, idle_why })
    }

    /// A plan without shards: one bridge that is the client of a router elsewhere.
    pub fn of_bridge(opened: Opened, uplink: Uplink, log: LogLevel, host: &Host) -> Self {
        let place = opened.name().to_owned();
        let (bridges, services) = match opened {
            Opened::Bridge(bridge) => {
                let bridges = vec![BridgePlan { place, bridge, uplink }];
                (vec![BridgeThreadPlan { core: None, bridges }], Vec::new())
            }
            Opened::Service(service) => {
                (Vec::new(), vec![ServicePlan { place, core: None, service, uplink }])
            }
        };
        let mut plan = Self::of_client(bridges, None, log, host);
        plan.threads.services = services;
        plan
    }

    /// A plan without shards: a recording of what passes at a router elsewhere.
    pub fn of_recording(recording: RecordingPlan, log: LogLevel, host: &Host) -> Self {
        Self::of_client(Vec::new(), Some(recording), log, host)
    }

    fn of_client(
        bridges: Vec<BridgeThreadPlan>,
        recording: Option<RecordingPlan>,
        log: LogLevel,
        host: &Host,
    ) -> Self {
        let threads = Threads {
            shards: Vec::new(),
            bridges,
            services: Vec::new(),
            guests_max: 0,
            recording,
            sessions_max: 0,
            idle: waiting::Idle::Park,
            histograms: false,
            lock_memory: false,
            hygiene: Hygiene::default(),
            exchange_bytes: EXCHANGE_BYTES,
        };
        let cores_why = format!("a bridge shares the {} cores with everybody", host.cores.len());
        Self { threads, log, metrics: None, cores_why, idle_why: "packets wake it".to_owned() }
    }

    /// What is taken at start, term by term. Makes a shard in order to ask it.
    pub fn memory(&self) -> Vec<Term> {
        memory::terms(&self.threads)
    }
}

/// Where shards run: `None` is a shard that the kernel may move about.
#[derive(Default)]
struct Placement {
    cores: Vec<Option<usize>>,
    isolated: bool,
    why: String,
}

fn place_shards(config: &Config, host: &Host) -> Result<Placement, PlanError> {
    let asked = config.server.shards.map(usize::from);
    let count = asked.or(config.server.cores.as_ref().map(|Cores(cores)| cores.len()));
    if count.is_some_and(|count| !(1..=usize::from(SHARDS_MAX)).contains(&count)) {
        return Err(error("server.shards", format!("a router has 1 to {SHARDS_MAX} shards")));
    }
    if let Some(Cores(cores)) = &config.server.cores {
        return place_on(cores, asked, host);
    }
    let all = host.cores.len();
    if !host.isolated.is_empty() && asked.is_none_or(|count| count <= host.isolated.len()) {
        let count = asked.unwrap_or(host.isolated.len());
        return Ok(Placement {
            cores: host.isolated.iter().copied().take(count).map(Some).collect(),
            isolated: true,
            why: format!("the kernel isolates cores {}", Cores(host.isolated.clone())),
        });
    }
    let (count, why) = match asked {
        Some(count) => (count, format!("as asked, not pinned, on {all} shared cores")),
        None => (
            all.saturating_sub(1).clamp(1, SHARDS_BY_DEFAULT_MAX),
            format!("not pinned, because the {all} cores are shared; --cores pins"),
        ),
    };
    Ok(Placement { cores: vec![None; count], isolated: false, why })
}

fn place_on(cores: &[usize], asked: Option<usize>, host: &Host) -> Result<Placement, PlanError> {
    if let Some(missing) = cores.iter().find(|core| !host.cores.contains(core)) {
        return Err(error("server.cores", absent(*missing, host)));
    }
    if let Some(count) = asked.filter(|count| *count != cores.len()) {
        return Err(error(
            "server.shards",
            format!(
                "{count} shards on {} named cores: name one core each, or leave one of the two out",
                cores.len()
            ),
        ));
    }
    let isolated = !cores.is_empty() && cores.iter().all(|core| host.isolated.contains(core));
    let why = format!("pinned, as asked, one to each of cores {}", Cores(cores.to_vec()));
    Ok(Placement { cores: cores.iter().copied().map(Some).collect(), isolated, why })
}

fn hygiene(config: &Config, isolated: bool, errors: &mut Vec<PlanError>) -> Hygiene {
    let fifo_priority = config.server.fifo_priority;
    let key = "server.fifo_priority";
    match fifo_priority {
        Some(priority) if !(1..=99).contains(&priority) => {
            errors.push(error(key, "a priority is 1 to 99"));
        }
        Some(_) if !isolated => errors.push(error(
            key,
            "shards share their cores: there a real-time thread starves others until the kernel \
             stops it for 50 ms; isolate the cores (clasp-rt doctor says how), or leave it out",
        )),
        _ => {}
    }
    Hygiene { fifo_priority, busy_poll: config.server.busy_poll.map(|BusyPoll(time)| time) }
}

/// What all shards have in common; each gets its own id afterwards.
fn settings(config: &Config, host: &Host, shards: usize, errors: &mut Vec<PlanError>) -> Settings {
    let server = &config.server;
    let normal = Settings::default();
    let shards = u16::try_from(shards).unwrap_or(u16::MAX);
    if server.timeline_interval_ms == Some(0) {
        let why = "0 leaves no time between two values: at least 1 millisecond, normally 16";
        errors.push(error("server.timeline_interval_ms", why));
    }
    Settings {
        id: ShardId(0),
        shards,
        limits: limits(config, shards),
        name: server.name.clone().unwrap_or(normal.name),
        seed: host.seed,
        grants: note(errors, grants(config)).flatten(),
        rate_limit: match server.rate_limit {
            None => normal.rate_limit,
            Some(per_second) => Some(per_second).filter(|per_second| *per_second > 0),
        },
        session_timeout: seconds_unless_zero(server.session_timeout_s, normal.session_timeout),
        handshake_timeout: seconds(server.handshake_timeout_s, normal.handshake_timeout),
        stall_timeout: seconds(server.stall_timeout_s, normal.stall_timeout),
        gesture_interval: millis(server.gesture_interval_ms, normal.gesture_interval),
        timeline_interval: millis(server.timeline_interval_ms, normal.timeline_interval),
        param_ttl: seconds_unless_zero(server.param_ttl_s, normal.param_ttl),
        rules: rules(config, errors),
        critical: critical(config, errors),
        arbitrations: arbitration::arbitrations(config, errors),
        sources: arbitration::sources(config, errors),
        introduces: config.may_change,
    }
}

fn limits(config: &Config, shards: u16) -> Limits {
    let mut limits = Limits::default();
    config.limits.apply(&mut limits);
    // All sessions may land on one shard: the kernel spreads connections by their address.
    limits.links_max = sessions_max(config)
        .saturating_add(LINKS_SPARE)
        .saturating_add(u32::try_from(config.bridges.len() + 2).unwrap_or(u32::MAX));
    limits.subscriptions_per_session_max =
        config.server.max_subscriptions.unwrap_or(limits.subscriptions_per_session_max);
    limits.peers = shards.saturating_sub(1);
    limits
}

fn sessions_max(config: &Config) -> u32 {
    config.server.max_sessions.unwrap_or(Limits::default().links_max)
}

fn grants(config: &Config) -> Result<Option<Vec<Grant>>, Vec<PlanError>> {
    let auth = &config.auth;
    let mut errors = Vec::new();
    let mut grants = Vec::new();
    if let Some(path) = &auth.token_file {
        let key = "auth.token_file";
        let shown = path.display();
        match fs::read_to_string(path) {
            Err(why) => errors.push(error(key, format!("{shown} cannot be read: {why}"))),
            Ok(text) => match tokens::parse_file(&text) {
                Ok(read) => grants.extend(read),
                Err(bad) => {
                    errors.extend(bad.iter().map(|bad| error(key, format!("{shown} {bad}"))));
                }
            },
        }
    }
    for line in &auth.tokens {
        match tokens::parse_line(line) {
            Ok(Some(grant)) => grants.push(grant),
            Ok(None) => errors.push(error("auth.tokens", "a token is empty")),
            Err(why) => errors.push(error("auth.tokens", why)),
        }
    }
    match auth.mode {
        _ if !errors.is_empty() => Err(errors),
        Some(AuthMode::Open) if !grants.is_empty() => {
            Err(vec![error("auth.mode", "open asks for no token, yet tokens are given")])
        }
        Some(AuthMode::Authenticated) if grants.is_empty() => Err(vec![error(
            "auth.mode",
            "authenticated lets nobody in without tokens: give a token_file or tokens",
        )]),
        Some(AuthMode::Authenticated) => Ok(Some(grants)),
        Some(AuthMode::Open) => Ok(None),
        None => Ok(Some(grants).filter(|grants| !grants.is_empty())),
    }
}

fn rules(config: &Config, errors: &mut Vec<PlanError>) -> Vec<RuleFor> {
    let rules = config.rules.iter().enumerate().map(|(index, written)| {
        if let Err(why) = pattern::check(&written.pattern) {
            errors.push(error(format!("rule[{index}].pattern"), why));
        }
        RuleFor { pattern: written.pattern.clone(), rule: written.rule.into() }
    });
    rules.collect()
}

fn critical(config: &Config, errors: &mut Vec<PlanError>) -> Vec<String> {
    for (index, written) in config.lanes.critical.iter().enumerate() {
        if let Err(why) = pattern::check(written) {
            errors.push(error(format!("lanes.critical[{index}]"), format!("`{written}`: {why}")));
        }
    }
    config.lanes.critical.clone()
}

fn recording(config: &Config, host: &Host, errors: &mut Vec<PlanError>) -> Option<RecordingPlan> {
    let written = config.record.as_ref()?;
    if let Some(core) = written.core
        && !host.cores.contains(&core)
    {
        errors.push(error("record.core", absent(core, host)));
    }
    note(errors, written.plan("record", Uplink::Shard(0), None))
}

fn idle(
    config: &Config,
    host: &Host,
    placement: &Placement,
    bridge_threads: usize,
) -> (waiting::Idle, String) {
    let wanted = match config.server.idle.unwrap_or(Idle::Auto) {
        Idle::Auto => waiting::Idle::Auto,
        Idle::Spin => waiting::Idle::Spin,
        Idle::NoHalt => waiting::Idle::NoHalt,
        Idle::Adaptive => waiting::Idle::Adaptive,
        Idle::Park => waiting::Idle::Park,
    };
    let facts = HostFacts {
        cores: host.cores.len(),
        threads: placement.cores.len() + bridge_threads,
        shards_isolated: placement.isolated,
        quota: host.quota,
        may_forbid_halt: host.may_forbid_halt,
    };
    waiting::resolve(wanted, &facts)
}

/// Refuses at start what would fail during the show.
fn fits(threads: &Threads, host: &Host, errors: &mut Vec<PlanError>) {
    let needed = memory::at_least(threads);
    if needed > host.memory_bytes {
        let (needed, free) = (Size(needed), Size(host.memory_bytes));
        errors.push(error("limits", format!("they ask for {needed} and more, {free} are free")));
    }
    let guests = u64::from(threads.guests_max) * FILES_PER_GUEST;
    let files = u64::from(threads.sessions_max) + guests + FILES_SPARE;
    if files > host.files_max {
        errors.push(error(
            "server.max_sessions",
            format!(
                "{} sessions need {files} open files, this process may have {} (ulimit -n)",
                threads.sessions_max, host.files_max
            ),
        ));
    }
}

/// Descriptors for everything that is no session: rings, listeners, bridges, the log.
const FILES_SPARE: u64 = 256;

/// A session of a service: its client's socket, and both ends of the pair to its shard.
const FILES_PER_GUEST: u64 = 3;

pub fn absent(core: usize, host: &Host) -> String {
    let usable = Cores(host.cores.clone());
    format!("core {core} is not there for this process; the cores that are: {usable}")
}

pub fn error(key: impl Into<String>, why: impl fmt::Display) -> PlanError {
    PlanError { key: key.into(), why: why.to_string() }
}

/// Keeps what went well; what did not is told together with the rest.
pub fn note<T, E>(errors: &mut Vec<PlanError>, result: Result<T, E>) -> Option<T>
where
    Errors: From<E>,
{
    result.map_err(|wrong| errors.extend(Errors::from(wrong).0)).ok()
}

pub struct Errors(Vec<PlanError>);

impl From<PlanError> for Errors {
    fn from(error: PlanError) -> Self {
        Self(vec![error])
    }
}

impl From<Vec<PlanError>> for Errors {
    fn from(errors: Vec<PlanError>) -> Self {
        Self(errors)
    }
}

/// Zero switches off, nothing written means the default.
fn seconds_unless_zero(written: Option<u32>, default: Option<Span>) -> Option<Span> {
    match written {
        None => default,
        Some(0) => None,
        Some(seconds) => Some(Span::from_secs(seconds.into())),
    }
}

fn seconds(written: Option<u32>, default: Span) -> Span {
    written.map_or(default, |seconds| Span::from_secs(seconds.into()))
}

fn millis(written: Option<u32>, default: Span) -> Span {
    written.map_or(default, |millis| Span::from_millis(millis.into()))
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::shard::Rule;

    use super::*;

    fn host(cores: std::ops::Range<usize>) -> Host {
        Host {
            cores: cores.collect(),
            isolated: Vec::new(),
            quota: false,
            files_max: 1 << 20,
            memory_bytes: 1 << 40,
            may_forbid_halt: false,
            seed: [1, 2],
        }
    }

    fn plan(text: &str, host: &Host) -> Result<Plan, Vec<String>> {
        let (config, problems) = Config::parse(text);
        assert_eq!(problems, [], "{text}");
        Plan::new(&config, host).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn planned(text: &str, host: &Host) -> Plan {
        plan(text, host).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    fn refused(text: &str, host: &Host) -> Vec<String> {
        plan(text, host).err().unwrap_or_else(|| panic!("{text}: should be refused"))
    }

    fn cores(plan: &Plan) -> Vec<Option<usize>> {
        plan.threads.shards.iter().map(|shard| shard.core).collect()
    }

    #[test]
    fn shards_follow_from_the_cores_that_there_are() {
        let isolated = Host { isolated: vec![2, 3], ..host(0..4) };
        let cases: [(&str, Host, &[Option<usize>]); 9] = [
            ("", host(0..1), &[None]),
            ("", host(0..2), &[None]),
            ("", host(0..4), &[None; 3]),
            ("", host(0..64), &[None; 4]),
            ("", isolated.clone(), &[Some(2), Some(3)]),
            ("[server]\nshards = 1", isolated.clone(), &[Some(2)]),
            ("[server]\nshards = 3", isolated, &[None; 3]),
            ("[server]\nshards = 2", host(0..2), &[None; 2]),
            ("[server]\ncores = \"1,3\"", host(0..4), &[Some(1), Some(3)]),
        ];
        for (text, host, expected) in cases {
            assert_eq!(cores(&planned(text, &host)), expected, "{text} on {:?}", host.cores);
        }
    }

    #[test]
    fn every_shard_knows_its_place_among_the_others() {
        let plan =
            planned("[server]\nshards = 3\n[[listen]]\ntransport = \"tcp\"\nport = 1", &host(0..2));
        for (id, shard) in (0..).zip(&plan.threads.shards) {
            assert_eq!(shard.settings.id, ShardId(id));
            assert_eq!((shard.settings.shards, shard.settings.limits.peers), (3, 2));
            assert_eq!(shard.settings.seed, [1, 2]);
            assert_eq!(shard.listeners.len(), 2);
        }
    }

    #[test]
    fn what_cannot_work_here_is_refused_with_what_would() {
        let low = Host { memory_bytes: 1 << 20, ..host(0..2) };
        let few = Host { files_max: 1_024, ..host(0..2) };
        let cases = [
            (
                "[server]\ncores = \"2-7\"",
                host(0..2),
                "core 2 is not there for this process; the cores that are: 0-1",
            ),
            ("[server]\ncores = \"0-1\"\nshards = 1", host(0..2), "1 shards on 2 named cores"),
            ("[server]\nshards = 0", host(0..2), "1 to 64 shards"),
            ("[server]\nshards = 65", host(0..2), "1 to 64 shards"),
            ("[[rule]]\npattern = \"dmx\"\nrule = \"max\"", host(0..2), "rule[0].pattern"),
            (
                "[server]\ntimeline_interval_ms = 0",
                host(0..2),
                "server.timeline_interval_ms: 0 leaves no time between two values: at least 1",
            ),
            ("[lanes]\ncritical = [\"/a\", \"cue\"]", host(0..2), "lanes.critical[1]: `cue`"),
            ("[[bridge]]\ntype = \"oscc\"", host(0..2), "unknown bridge `oscc`"),
            (
                "[[bridge]]\ntype = \"routes\"\n",
                host(0..2),
                "bridge[0].name: `routes` is the router's own bridge of `[[route]]`",
            ),
            (
                "[[bridge]]\ntype = \"osc\"\nname = \"patch\"\n",
                host(0..2),
                "bridge[0].name: `patch` is the router's own bridge of `[[patch]]`",
            ),
            ("[auth]\nmode = \"authenticated\"", host(0..2), "lets nobody in"),
            ("[auth]\nmode = \"open\"\ntokens = [\"a\"]", host(0..2), "asks for no token"),
            ("[auth]\ntokens = [\"a peek:/b\"]", host(0..2), "auth.tokens: `peek:/b`"),
            (
                "[auth]\ntoken_file = \"/nowhere/tokens\"",
                host(0..2),
                "/nowhere/tokens cannot be read",
            ),
            ("[server]\nport = 7\ntcp_port = 7", host(0..2), "0.0.0.0:7 is listened on twice"),
            ("", low, "1.0 MiB are free"),
            ("", few, "1000 sessions need 1256 open files"),
        ];
        for (text, host, said) in cases {
            let errors = refused(text, &host);
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
            assert!(errors[0].contains(said), "{text}: {errors:?}");
        }
    }

    #[test]
    fn every_mistake_of_bridges_and_routes_is_told_where_it_stands() {
        let text = r#"
            [[bridge]]
            type = "osc"
            bnid = "0.0.0.0:9000"
            targets = "x"
            [[bridge]]
            type = "artnet"
            inputs = "16-0"
            [[route]]
            from = "/a"
            to = "/b"
            [[route]]
            from = "/a"
            too = "/b"
            [[route]]
            from = "a"
            to = "/b"
            "#;
        let errors = refused(text, &host(0..2));
        let keys: Vec<_> =
            errors.iter().map(|error| error.split(": ").next().unwrap_or_default()).collect();
        let expected = [
            "bridge[0].bnid",
            "bridge[0].targets",
            "bridge[1].inputs",
            "route[1].too",
            "route[2].from",
        ];
        assert_eq!(keys, expected, "{errors:?}");
    }

    #[test]
    fn shards_run_first_on_isolated_cores_alone() {
        let text = "[server]\nfifo_priority = 40\nbusy_poll = \"50us\"";
        let errors = refused(text, &host(0..4));
        assert!(errors[0].contains("isolate the cores"), "{errors:?}");
        let isolated = Host { isolated: vec![2, 3], ..host(0..4) };
        let hygiene = planned(text, &isolated).threads.hygiene;
        let busy_poll = Some(std::time::Duration::from_micros(50));
        assert_eq!(hygiene, Hygiene { fifo_priority: Some(40), busy_poll });
        let errors = refused("[server]\nfifo_priority = 100", &isolated);
        assert!(errors[0].contains("1 to 99"), "{errors:?}");
        assert_eq!(planned("", &isolated).threads.hygiene, Hygiene::default());
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let text = "[server]\ncores = \"9\"\n[auth]\nmode = \"authenticated\"\n\
                    [[rule]]\npattern = \"a\"\nrule = \"max\"";
        assert_eq!(refused(text, &host(0..2)).len(), 3);
    }

    #[test]
    fn zero_switches_a_bound_off_and_nothing_written_keeps_the_default() {
        let text = "[server]\nrate_limit = 0\nsession_timeout_s = 0\nparam_ttl_s = 5";
        let plan = planned(text, &host(0..2));
        let settings = &plan.threads.shards[0].settings;
        assert_eq!(settings.rate_limit, None);
        assert_eq!(settings.session_timeout, None);
        assert_eq!(settings.param_ttl, Some(Span::from_secs(5)));
        let plan = planned("", &host(0..2));
        let settings = &plan.threads.shards[0].settings;
        assert_eq!(settings.rate_limit, Settings::default().rate_limit);
        assert_eq!(settings.session_timeout, Settings::default().session_timeout);
        assert_eq!(settings.param_ttl, None);
    }

    #[test]
    fn tokens_close_the_router_unless_told_otherwise() {
        let cases = [("", None), ("[auth]\ntokens = [\"a\", \"b r:/x\"]", Some(2))];
        for (text, tokens) in cases {
            let plan = planned(text, &host(0..2));
            let grants = plan.threads.shards[0].settings.grants.as_ref().map(Vec::len);
            assert_eq!(grants, tokens, "{text}");
        }
    }

    #[test]
    fn rules_keep_their_order() {
        let text = "[[rule]]\npattern = \"/a\"\nrule = \"max\"\n\
                    [[rule]]\npattern = \"/**\"\nrule = \"lock\"";
        let plan = planned(text, &host(0..2));
        let rules = &plan.threads.shards[0].settings.rules;
        let kept: Vec<_> = rules.iter().map(|rule| (rule.pattern.as_str(), rule.rule)).collect();
        assert_eq!(kept, [("/a", Rule::Max), ("/**", Rule::Lock)]);
    }

    #[test]
    fn a_larger_wish_takes_more_memory() {
        let bytes =
            |text| -> u64 { planned(text, &host(0..2)).memory().iter().map(Term::bytes).sum() };
        let small = bytes("[limits]\nparam_bytes_max = \"1 MiB\"");
        let large = bytes("[limits]\nparam_bytes_max = \"9 MiB\"");
        assert!(large >= small + (8 << 20), "{small} and {large}");
    }

    #[test]
    fn the_first_estimate_is_never_more_than_what_is_taken() {
        let cases = ["", "[server]\nshards = 3", "[limits]\nparams_max = 1\nparam_bytes_max = 1"];
        for text in cases {
            let plan = planned(text, &host(0..2));
            let taken: u64 = plan.memory().iter().map(Term::bytes).sum();
            assert!(memory::at_least(&plan.threads) <= taken, "{text}");
        }
    }
}

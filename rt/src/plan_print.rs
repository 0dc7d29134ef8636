//! A plan on paper: a table for people, JSON for programs.

use std::fmt;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::Settings;
use clasp_rt_core::time::Span;
use serde_json::{Value, json};

use crate::arbitration::declaration;
use crate::memory::{Size, Term};
use crate::open_bridge::notes;
use crate::plan::Plan;
use crate::plan_types::{ListenerPlan, ListenerTransport, Uplink};
use crate::tape::Reel;

/// Shown by `clasp-rt plan`.
pub struct Table<'a>(pub &'a Plan);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let threads = &plan.threads;
        writeln!(f, "shards     {}, {}", threads.shards.len(), plan.cores_why)?;
        for shard in &threads.shards {
            if let Some(core) = shard.core {
                writeln!(f, "           shard {} on core {core}", shard.settings.id.0)?;
            }
        }
        writeln!(f, "idle       {}: {}", threads.idle, plan.idle_why)?;
        if let Some(time) = threads.hygiene.busy_poll {
            writeln!(f, "busy poll  network cards for {} µs before a sleep", time.as_micros())?;
        }
        if let Some(priority) = threads.hygiene.fifo_priority {
            writeln!(f, "priority   SCHED_FIFO {priority}: before every normal thread")?;
        }
        if let Some(shard) = threads.shards.first() {
            for listener in &shard.listeners {
                writeln!(f, "listens    {}", url(listener))?;
            }
            if let Some(addr) = plan.metrics {
                writeln!(f, "metrics    http://{addr}/metrics")?;
            }
            write_settings(f, &shard.settings, threads.sessions_max)?;
        }
        for note in notes(threads) {
            writeln!(f, "note       {note}")?;
        }
        for thread in &threads.bridges {
            for bridge in thread.at_work() {
                let place = thread.core.map(|core| format!(", on core {core}")).unwrap_or_default();
                let name = bridge.bridge.name();
                writeln!(f, "bridge     {name}, {}{place}", uplink(&bridge.uplink))?;
            }
        }
        for service in &threads.services {
            let place = service.core.map(|core| format!(", on core {core}")).unwrap_or_default();
            let name = service.service.name();
            writeln!(f, "bridge     {name}, {}{place}", uplink(&service.uplink))?;
        }
        if let Some(recording) = &threads.recording {
            let Reel { folder, file_bytes, files_max } = &recording.reel;
            let (folder, all) = (folder.display(), Size(file_bytes * *files_max as u64));
            writeln!(f, "record     {} to {folder}, up to {all}", recording.patterns.join(" "))?;
        }
        if let Some(shard) = threads.shards.first() {
            writeln!(f, "\nlimits of each shard")?;
            for (name, value, unit) in limit_rows(&shard.settings.limits) {
                writeln!(f, "  {name:<34} {:>12}", shown(value, unit))?;
            }
        }
        let memory = plan.memory();
        writeln!(f, "\nmemory taken at start")?;
        for term in &memory {
            let (what, count) = (term.what, term.count);
            let (each, all) = (Size(term.bytes_each), Size(term.bytes()));
            writeln!(f, "  {what:<34} {count:>6} x {each:>10} = {all:>10}")?;
        }
        writeln!(f, "  {:<53} = {:>10}", "all", Size(memory.iter().map(Term::bytes).sum()))
    }
}

fn write_settings(
    f: &mut fmt::Formatter<'_>,
    settings: &Settings,
    sessions_max: u32,
) -> fmt::Result {
    let who = match &settings.grants {
        None => "open, anyone may do anything".to_owned(),
        Some(grants) => format!("authenticated, {} tokens", grants.len()),
    };
    let rate = match settings.rate_limit {
        None => "any number of messages".to_owned(),
        Some(per_second) => format!("{per_second} messages a second"),
    };
    let silent = match settings.session_timeout {
        None => "silent for ever".to_owned(),
        Some(span) => format!("silent for at most {} s", span.as_millis() as f64 / 1e3),
    };
    writeln!(f, "name       {}", settings.name)?;
    writeln!(f, "auth       {who}")?;
    writeln!(f, "sessions   {sessions_max} at once; each {rate}, {silent}")?;
    let named: String = settings.critical.iter().map(|pattern| format!(", {pattern}")).collect();
    let window = Size(settings.limits.window_bytes.into());
    writeln!(
        f,
        "lanes      critical: events, bundles{named}; at most {window} of a link in front"
    )?;
    for rule in &settings.rules {
        writeln!(f, "rule       {} keeps {:?}", rule.pattern, rule.rule)?;
    }
    for line in declaration(settings) {
        writeln!(f, "who wins   {line}")?;
    }
    Ok(())
}

/// The same facts under stable names.
pub fn json(plan: &Plan) -> Value {
    let threads = &plan.threads;
    let first = threads.shards.first();
    let shards =
        threads.shards.iter().map(|shard| json!({ "id": shard.settings.id.0, "core": shard.core }));
    let bridges = threads.bridges.iter().flat_map(|thread| {
        thread.at_work().map(|bridge| {
            json!({
                "name": bridge.bridge.name(),
                "core": thread.core,
                "uplink": uplink(&bridge.uplink),
            })
        })
    });
    let services = threads.services.iter().map(|service| {
        json!({
            "name": service.service.name(),
            "core": service.core,
            "uplink": uplink(&service.uplink),
        })
    });
    let bridges = bridges.chain(services);
    let memory = plan.memory();
    let memory_bytes: u64 = memory.iter().map(Term::bytes).sum();
    let memory = memory.iter().map(|term| {
        json!({
            "what": term.what,
            "count": term.count,
            "bytes_each": term.bytes_each,
            "bytes": term.bytes(),
        })
    });
    json!({
        "shards": shards.collect::<Vec<_>>(),
        "cores_why": plan.cores_why,
        "idle": threads.idle.to_string(),
        "idle_why": plan.idle_why,
        "listens": first.map(|s| s.listeners.iter().map(url).collect::<Vec<_>>()),
        "metrics": plan.metrics.map(|addr| format!("http://{addr}/metrics")),
        "sessions_max": threads.sessions_max,
        "settings": first.map(|shard| settings(&shard.settings)),
        "limits_of_each_shard": first.map(|shard| limits(&shard.settings.limits)),
        "bridges": bridges.collect::<Vec<_>>(),
        "notes": notes(threads),
        "lock_memory": threads.lock_memory,
        "busy_poll_us": threads.hygiene.busy_poll.map(|time| time.as_micros() as u64),
        "fifo_priority": threads.hygiene.fifo_priority,
        "memory": memory.collect::<Vec<_>>(),
        "memory_bytes": memory_bytes,
    })
}

fn settings(settings: &Settings) -> Value {
    let rules = settings.rules.iter().map(|rule| {
        json!({ "pattern": rule.pattern, "rule": format!("{:?}", rule.rule).to_lowercase() })
    });
    json!({
        "name": settings.name,
        "tokens": settings.grants.as_ref().map(Vec::len),
        "rate_limit": settings.rate_limit,
        "session_timeout_ms": settings.session_timeout.map(Span::as_millis),
        "handshake_timeout_ms": settings.handshake_timeout.as_millis(),
        "stall_timeout_ms": settings.stall_timeout.as_millis(),
        "gesture_interval_ms": settings.gesture_interval.as_millis(),
        "timeline_interval_ms": settings.timeline_interval.as_millis(),
        "param_ttl_ms": settings.param_ttl.map(Span::as_millis),
        "critical": settings.critical,
        "rules": rules.collect::<Vec<_>>(),
        "who_wins": declaration(settings),
    })
}

fn limits(limits: &Limits) -> Value {
    let rows = limit_rows(limits).into_iter();
    Value::Object(rows.map(|(name, value, _)| (name.to_owned(), json!(value))).collect())
}

/// `ws://0.0.0.0:7330`: what a client would be told to connect to.
pub fn url(listener: &ListenerPlan) -> String {
    let scheme = match listener.transport {
        ListenerTransport::WebSocket => "ws",
        ListenerTransport::Tcp => "tcp",
    };
    format!("{scheme}://{}", listener.addr)
}

/// Where a bridge finds its router.
pub fn uplink(uplink: &Uplink) -> String {
    match uplink {
        Uplink::Shard(shard) => format!("inside, at shard {shard}"),
        Uplink::Remote(remote) => {
            let scheme = match remote.transport {
                ListenerTransport::WebSocket => "ws",
                ListenerTransport::Tcp => "tcp",
            };
            format!("client of {scheme}://{}:{}", remote.host, remote.port)
        }
    }
}

enum Unit {
    Count,
    Bytes,
}

fn shown(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes => Size(value).to_string(),
    }
}

/// Every limit with its name. Taken apart field by field, so that a new one cannot be forgotten.
fn limit_rows(limits: &Limits) -> Vec<(&'static str, u64, Unit)> {
    macro_rules! rows {
        ($($name:ident: $unit:ident),* $(,)?) => {{
            let Limits { $($name),* } = limits;
            vec![$((stringify!($name), u64::from(*$name), Unit::$unit)),*]
        }};
    }
    rows! {
        links_max: Count,
        subscriptions_per_session_max: Count,
        subscriptions_max: Count,
        params_max: Count,
        param_bytes_max: Bytes,
        signals_max: Count,
        signal_bytes_max: Bytes,
        window_bytes: Bytes,
        outbox_bytes_max: Bytes,
        outbox_entries_max: Count,
        outbox_pool_bytes: Bytes,
        samples_per_turn_max: Count,
        paced_max: Count,
        gestures_max: Count,
        bundles_max: Count,
        bundles_per_session_max: Count,
        timelines_max: Count,
        held_bytes_max: Bytes,
        history_bytes: Bytes,
        tombstones_max: Count,
        claims_max: Count,
        peers: Count,
    }
}

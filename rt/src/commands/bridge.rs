//! What all bridges share that run as clients of a router elsewhere: its flags, and how they start.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use clasp_rt_client::{Scheme, Url};
use serde_json::{Map, Value, json};

use super::Failure;
use super::client::RouterArgs;
use crate::config::{BridgeAsWritten, Log, LogLevel, address};
use crate::control;
use crate::document::split_index;
use crate::host::Host;
use crate::open_bridge::open_bridge;
use crate::plan::{Plan, PlanError};
use crate::plan_types::{ListenerTransport, Remote, Uplink};

/// What every bridge that listens is told.
#[derive(Args, Debug)]
pub(super) struct CommonArgs {
    /// Address of the interface to listen on
    #[arg(
        long,
        visible_alias = "interface",
        value_name = "ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        value_parser = address
    )]
    pub(super) bind: IpAddr,
    #[command(flatten)]
    pub(super) join: JoinArgs,
}

/// What every bridge is told: its router.
#[derive(Args, Debug)]
pub(super) struct JoinArgs {
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    log: Log,
}

/// Runs a bridge of this kind until it is told to stop. What was not typed, null, is left to the
/// bridge's own default.
pub(super) fn run(
    kind: &str,
    join: &JoinArgs,
    options: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<(), Failure> {
    let typed = options.into_iter().chain([("token", json!(join.router.token))]);
    let typed = typed.filter(|(_, value)| !value.is_null());
    let options: Map<_, _> = typed.map(|(key, value)| (key.to_owned(), value)).collect();
    let written = BridgeAsWritten { kind: kind.to_owned(), options, ..Default::default() };
    let opened =
        open_bridge("", &written).map_err(|errors| Failure::Wrong(joined(kind, &errors)))?;
    let uplink = Uplink::Remote(remote(&join.router.router)?);
    let level = join.log.level.unwrap_or(LogLevel::Info);
    let plan = Plan::of_bridge(opened, uplink, level, &Host::read());
    control::serve(plan).map_err(Failure::Failed)
}

/// Options whose flag has another name than theirs, by the kind of bridge.
pub(super) const FLAGS: &[(&str, &str, &str)] = &[
    ("artnet", "inputs", "universes"),
    ("artnet", "outputs", "universes"),
    ("artnet", "targets", "target"),
    ("dmx", "device[0].rate_hz", "refresh"),
    ("dmx", "device[0].slots", "channels"),
    ("dmx", "rate_hz_max", "refresh"),
    ("http", "origins", "cors"),
    ("mqtt", "url", "broker"),
    ("mqtt-listener", "origins", "cors"),
    ("mqtt-listener", "session_expiry_s_max", "session-expiry"),
    ("osc", "targets", "target"),
    ("sacn", "inputs", "universes"),
    ("sacn", "outputs", "universes"),
    ("sacn", "targets", "target"),
    ("socketio", "namespaces", "socketio-namespace"),
    ("socketio", "origins", "cors"),
    ("socketio", "transports", "transport"),
    ("websocket", "origins", "origin"),
];

/// The errors under the names of the flags that were typed, each once.
fn joined(kind: &str, errors: &[PlanError]) -> String {
    let named = |key: &str| {
        let (whole, _) = split_index(key);
        let is_it = |option: &str| option == key || option == whole;
        let other = FLAGS.iter().find(|(of, option, _)| *of == kind && is_it(option));
        match other {
            Some((_, _, flag)) => format!("--{flag}"),
            None if key.ends_with(".every_s") => "--every".to_owned(),
            None if key.starts_with("poll[") => "--poll".to_owned(),
            None if key.starts_with("webhook[") => "--webhook".to_owned(),
            // Of a device that several flags can name.
            None if key.contains('[') => key.to_owned(),
            None => format!("--{}", key.trim_start_matches("tls.").replace('_', "-")),
        }
    };
    let mut lines: Vec<_> =
        errors.iter().map(|PlanError { key, why }| format!("{}: {why}", named(key))).collect();
    lines.dedup();
    lines.join("\n")
}

pub fn remote(url: &str) -> Result<Remote, Failure> {
    let Url { scheme, host, port, path } =
        url.parse().map_err(|bad| Failure::Wrong(format!("--router: {bad}")))?;
    let transport = match scheme {
        Scheme::Ws => ListenerTransport::WebSocket,
        Scheme::Tcp => ListenerTransport::Tcp,
    };
    Ok(Remote { transport, host, port, path })
}

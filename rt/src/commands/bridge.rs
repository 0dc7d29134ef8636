//! `clasp-rt artnet`, and what all bridges share that run as clients of a router elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use clasp_rt_client::{Scheme, Url};
use serde_json::{Map, Value, json};

use super::Failure;
use super::client::RouterArgs;
use crate::config::{BridgeAsWritten, Log, LogLevel};
use crate::control;
use crate::host::Host;
use crate::open_bridge::open_bridge;
use crate::plan::{Plan, PlanError};
use crate::plan_types::{ListenerTransport, Remote, Uplink};

#[derive(Args, Debug)]
pub struct ArtnetArgs {
    /// UDP port of Art-Net
    #[arg(long, default_value_t = 6454)]
    port: u16,
    /// Node that gets every universe without being asked; may be given more than once
    #[arg(long = "target", value_name = "HOST")]
    targets: Vec<String>,
    /// Port-addresses to take and to send: numbers and ranges, such as 0-15,100
    #[arg(long, default_value = "all")]
    universes: String,
    /// Address at which nodes are looked for, such as 10.255.255.255
    #[arg(long, value_name = "ADDRESS")]
    broadcast: Option<Ipv4Addr>,
    /// Tell levels as 0.0 to 1.0 instead of 0 to 255
    #[arg(long)]
    normalize: bool,
    /// Tell levels slot by slot, or each universe as one param of bytes
    #[arg(long, default_value = "channel", value_parser = ["channel", "universe"])]
    mode: String,
    /// Of two senders of a universe the highest level or the latest change
    #[arg(long, default_value = "htp", value_parser = ["htp", "ltp"])]
    merge: String,
    /// Send an ArtSync after all universes that changed
    #[arg(long)]
    sync: bool,
    /// Segments put before universe and slot: /artnet/0/1
    #[arg(long, default_value = "/artnet")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// What every bridge that listens is told.
#[derive(Args, Debug)]
pub(super) struct CommonArgs {
    /// Address of the interface to listen on
    #[arg(
        long,
        visible_alias = "interface",
        value_name = "ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED)
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

pub fn run_artnet(args: &ArtnetArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("targets", json!(args.targets)),
        ("namespace", json!(args.namespace)),
        ("inputs", json!(args.universes)),
        ("outputs", json!(args.universes)),
        ("broadcast", json!(args.broadcast)),
        ("normalize", json!(args.normalize)),
        ("mode", json!(args.mode)),
        ("merge", json!(args.merge)),
        ("sync", json!(args.sync)),
    ];
    run("artnet", &common.join, options.into_iter())
}

/// Runs a bridge of this kind until it is told to stop.
pub(super) fn run(
    kind: &str,
    join: &JoinArgs,
    options: impl Iterator<Item = (&'static str, Value)>,
) -> Result<(), Failure> {
    let mut options: Map<String, Value> =
        options.map(|(key, value)| (key.to_owned(), value)).collect();
    options.insert("token".to_owned(), json!(join.router.token));
    let written = BridgeAsWritten { kind: kind.to_owned(), core: None, options };
    let opened =
        open_bridge("", &written).map_err(|errors| Failure::Wrong(joined(kind, &errors)))?;
    let uplink = Uplink::Remote(remote(&join.router.router)?);
    let level = join.log.level.unwrap_or(LogLevel::Info);
    let plan = Plan::of_bridge(opened, uplink, level, &Host::read());
    control::serve(plan).map_err(Failure::Failed)
}

/// The errors under the names of the flags that were typed, each once.
fn joined(kind: &str, errors: &[PlanError]) -> String {
    let mut lines: Vec<_> = errors
        .iter()
        .map(|PlanError { key, why }| match key.as_str() {
            "inputs" | "outputs" => format!("--universes: {why}"),
            "targets" => format!("--target: {why}"),
            "device[0].slots" => format!("--channels: {why}"),
            key if key.starts_with("device[") => format!("{key}: {why}"),
            "origins" => format!("--cors: {why}"),
            "url" if kind == "mqtt" => format!("--broker: {why}"),
            key if key.ends_with(".every_s") => format!("--every: {why}"),
            key if key.starts_with("poll[") => format!("--poll: {why}"),
            key if key.starts_with("webhook[") => format!("--webhook: {why}"),
            key if key.starts_with("tls.") => {
                format!("--{}: {why}", key.trim_start_matches("tls.").replace('_', "-"))
            }
            key => format!("--{}: {why}", key.replace('_', "-")),
        })
        .collect();
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

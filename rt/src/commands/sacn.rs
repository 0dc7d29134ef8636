//! `clasp-rt sacn`: universes of sACN as a client of a router elsewhere.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{self, CommonArgs};

#[derive(Args, Debug)]
pub struct SacnArgs {
    /// UDP port of sACN
    #[arg(long, default_value_t = 5568)]
    port: u16,
    /// Universes to take and to send: numbers and ranges, such as 1-16,100
    ///
    /// `all` sends every universe, and takes those that sources announce by universe discovery
    /// and whatever comes by unicast.
    #[arg(long, default_value = "1-16")]
    universes: String,
    /// Host that gets every universe by unicast; may be given more than once
    #[arg(long = "target", value_name = "HOST")]
    targets: Vec<String>,
    /// Do not send to multicast groups, only to targets
    #[arg(long)]
    no_multicast: bool,
    /// Priority of what is sent, 0 to 200
    #[arg(long, default_value_t = 100)]
    priority: u8,
    /// What receivers show as our name [default: clasp-rt and the host's name]
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// Tell levels as 0.0 to 1.0 instead of 0 to 255
    #[arg(long)]
    normalize: bool,
    /// Segments put before universe and slot: /sacn/1/1
    #[arg(long, default_value = "/sacn")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &SacnArgs) -> Result<(), Failure> {
    let common = &args.common;
    // With nobody to send to it only listens.
    let is_silent = args.no_multicast && args.targets.is_empty();
    let outputs = if is_silent { "none" } else { &args.universes };
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("inputs", json!(args.universes)),
        ("outputs", json!(outputs)),
        ("targets", json!(args.targets)),
        ("multicast", json!(!args.no_multicast)),
        ("priority", json!(args.priority)),
        ("source_name", json!(args.source_name)),
        ("normalize", json!(args.normalize)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("sacn", &common.join, options)
}

//! `clasp-rt artnet`: universes of Art-Net, as a client of a router elsewhere.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{self, CommonArgs};

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

pub fn run(args: &ArtnetArgs) -> Result<(), Failure> {
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
    bridge::run("artnet", &common.join, options)
}

//! `clasp-rt osc`: OSC devices, as a client of a router elsewhere.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Failure;
use super::bridge::{self, CommonArgs};

#[derive(Args, Debug)]
pub struct OscArgs {
    /// UDP port that OSC devices send to
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// With tcp, connections to the same port are taken too, with lengths (OSC 1.0) or SLIP (1.1)
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    transport: Transport,
    /// Device that gets what changes at the router, as HOST:PORT, tcp://HOST:PORT or
    /// slip://HOST:PORT; may be given more than once
    #[arg(long = "target", value_name = "TARGET")]
    targets: Vec<String>,
    /// Port at which devices that sent something lately listen
    #[arg(long, value_name = "PORT", conflicts_with = "reply")]
    send_port: Option<u16>,
    /// Also tell devices that sent something lately, at the port that they sent from
    #[arg(long)]
    reply: bool,
    /// Take messages without arguments as questions
    #[arg(long)]
    query: bool,
    /// Port at which to serve OSCQuery
    #[arg(long, value_name = "PORT")]
    oscquery: Option<u16>,
    /// Announce OSC and OSCQuery in the local network
    #[arg(long)]
    mdns: bool,
    /// Segments put before OSC addresses: /fader becomes /osc/fader
    #[arg(long, default_value = "/osc")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Udp,
    Tcp,
}

pub fn run(args: &OscArgs) -> Result<(), Failure> {
    let common = &args.common;
    let at = |port| json!(SocketAddr::new(common.bind, port));
    let reply = match args.send_port {
        Some(port) => json!(port),
        None if args.reply => json!("sender"),
        None => Value::Null,
    };
    let options = [
        ("bind", at(args.port)),
        ("listen_tcp", if args.transport == Transport::Tcp { at(args.port) } else { Value::Null }),
        ("targets", json!(args.targets)),
        ("reply", reply),
        ("query", json!(args.query)),
        ("oscquery", args.oscquery.map_or(Value::Null, at)),
        ("mdns", json!(args.mdns)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("osc", &common.join, options)
}

//! `clasp-rt mqtt-listener`: a port for MQTT clients of a router elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{self, CommonArgs};

#[derive(Args, Debug)]
pub struct MqttListenerArgs {
    /// Port that MQTT clients connect to, with MQTT as it is or over WebSocket
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// PEM file of a certificate with its chain; then the port speaks TLS
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// PEM file of the key of --cert
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// PEM file of authorities: only clients with a certificate of theirs come in
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Clients at once
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    clients_max: u32,
    /// Seconds for which a session outlives its connection at most; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 7_200)]
    session_expiry: u32,
    /// Events, and params, that wait for one client that is away or slow
    #[arg(long, value_name = "COUNT", default_value_t = 4_096)]
    queue_max: usize,
    /// Origin of web pages that may connect over WebSocket, `*`: all; may be given more than once
    #[arg(long = "cors", value_name = "ORIGIN", default_value = "*")]
    origins: Vec<String>,
    /// Segments put before topics: a/b becomes /mqtt/a/b
    #[arg(long, default_value = "/mqtt")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &MqttListenerArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("cert", json!(args.cert)),
        ("key", json!(args.key)),
        ("client_ca", json!(args.client_ca)),
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("clients_max", json!(args.clients_max)),
        ("session_expiry_s_max", json!(args.session_expiry)),
        ("queue_max", json!(args.queue_max)),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("mqtt-listener", &common.join, options)
}

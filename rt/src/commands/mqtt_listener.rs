//! `clasp-rt mqtt-listener`: a port for MQTT clients of a router elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::bridge::{self, CommonArgs};

#[derive(Args, Debug)]
pub struct MqttListenerArgs {
    /// Port that MQTT clients connect to
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
    /// Segments put before topics: a/b becomes /mqtt/a/b
    #[arg(long, default_value = "/mqtt")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &MqttListenerArgs) -> Result<(), Failure> {
    let common = &args.common;
    let given = [
        ("cert", json!(args.cert)),
        ("key", json!(args.key)),
        ("client_ca", json!(args.client_ca)),
    ];
    let options: [(&str, Value); 3] = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("clients_max", json!(args.clients_max)),
        ("namespace", json!(args.namespace)),
    ];
    let given = given.into_iter().filter(|(_, value)| !value.is_null());
    bridge::run("mqtt-listener", &common.join, given.chain(options))
}

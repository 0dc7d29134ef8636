//! `clasp-rt mqtt`: the topics of a broker as addresses of a router elsewhere, and back.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Failure;
use super::bridge::{self, JoinArgs};

#[derive(Args, Debug)]
pub struct MqttArgs {
    /// Broker: mqtt://HOST:PORT, mqtts:// with TLS, ws:// or wss://HOST:PORT/PATH
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    broker: String,
    /// 3.1.1 for a broker that knows no other
    #[arg(long, value_name = "VERSION", default_value = "5")]
    mqtt_version: MqttVersion,
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    password: Option<String>,
    /// As the broker knows this client
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// PEM file of the authorities to believe
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of a certificate, for a broker that asks who its clients are
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// PEM file of the key of --cert
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Filter of topics that the broker is to tell; may be given more than once
    #[arg(long, value_name = "FILTER", default_value = "#")]
    subscribe: Vec<String>,
    /// Quality of service of subscriptions and of what is published: 0, 1 or 2
    #[arg(long, default_value_t = 0)]
    qos: u8,
    /// What payloads are: auto, json, number, text or raw
    #[arg(long, default_value = "auto")]
    payload: String,
    /// Topic that holds `online` while connected, and `offline` when not
    #[arg(long, value_name = "TOPIC")]
    status: Option<String>,
    /// Segments put before topics: a/b becomes /mqtt/a/b
    #[arg(long, default_value = "/mqtt")]
    namespace: String,
    #[command(flatten)]
    join: JoinArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MqttVersion {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

pub fn run(args: &MqttArgs) -> Result<(), Failure> {
    let version = match args.mqtt_version {
        MqttVersion::V311 => "3.1.1",
        MqttVersion::V5 => "5",
    };
    let options = [
        ("username", json!(args.username)),
        ("password", json!(args.password)),
        ("client_id", json!(args.client_id)),
        ("ca", json!(args.ca)),
        ("cert", json!(args.cert)),
        ("key", json!(args.key)),
        ("status", json!(args.status)),
        ("url", json!(args.broker)),
        ("version", json!(version)),
        ("subscribe", json!(args.subscribe)),
        ("qos", json!(args.qos)),
        ("payload", json!(args.payload)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("mqtt", &args.join, options)
}

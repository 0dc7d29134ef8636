//! `clasp-rt websocket`: WebSocket with JSON for a router elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{self, CommonArgs};
use super::http::TlsArgs;

#[derive(Args, Debug)]
pub struct WebsocketArgs {
    /// Port that programs connect to
    #[arg(long, default_value_t = 9000, conflicts_with = "url")]
    port: u16,
    /// Server to join instead: ws://HOST:PORT/PATH, or wss:// with TLS
    #[arg(long)]
    url: Option<String>,
    /// PEM file of the authorities to believe of a wss:// server; else those of the system
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Pattern of what the server that was joined is sent; may be given more than once
    #[arg(long, value_name = "PATTERN", requires = "url")]
    subscribe: Vec<String>,
    /// Origin whose web pages may connect; may be given more than once
    #[arg(long = "origin", value_name = "ORIGIN", default_value = "*")]
    origins: Vec<String>,
    /// Where messages go that name no address
    #[arg(long, default_value = "/ws")]
    namespace: String,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &WebsocketArgs) -> Result<(), Failure> {
    let common = &args.common;
    let bind = args.url.is_none().then(|| SocketAddr::new(common.bind, args.port));
    let options = [
        ("bind", json!(bind)),
        ("url", json!(args.url)),
        ("subscribe", json!(args.subscribe)),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
        ("ca", json!(args.ca)),
        args.tls.option(),
    ];
    bridge::run("websocket", &common.join, options)
}

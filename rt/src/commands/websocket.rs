//! `clasp-rt websocket`: WebSocket with JSON for a router elsewhere.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{CommonArgs, run as run_bridge};

#[derive(Args, Debug)]
pub struct WebsocketArgs {
    /// Port that programs connect to
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// Server to join instead: ws://HOST:PORT/PATH
    #[arg(long)]
    url: Option<String>,
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
    common: CommonArgs,
}

pub fn run(args: &WebsocketArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("url", json!(args.url)),
        ("subscribe", json!(args.subscribe)),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
    ];
    run_bridge("websocket", &common.join, options.into_iter())
}

//! `clasp-rt socketio`: Socket.IO for a router elsewhere.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{CommonArgs, run as run_bridge};
use super::http::TlsArgs;

#[derive(Args, Debug)]
pub struct SocketioArgs {
    /// Port that clients connect to
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Socket.IO namespace that clients may join; may be given more than once
    #[arg(long = "socketio-namespace", value_name = "NAMESPACE", default_value = "/")]
    namespaces: Vec<String>,
    /// Segments put before the names of events
    #[arg(long, default_value = "/socketio")]
    namespace: String,
    /// Origin whose web pages may connect; may be given more than once
    #[arg(long = "cors", value_name = "ORIGIN", default_value = "*")]
    origins: Vec<String>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &SocketioArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("namespaces", json!(args.namespaces)),
        ("namespace", json!(args.namespace)),
        ("origins", json!(args.origins)),
        args.tls.option(),
    ];
    run_bridge("socketio", &common.join, options.into_iter())
}

//! `clasp-rt http`: HTTP for a router elsewhere.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::bridge::{CommonArgs, run as run_bridge};

#[derive(Args, Debug)]
pub struct HttpArgs {
    /// Port that web programs ask
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Origin whose web pages may ask, such as `https://show.example`; may be given more than once
    #[arg(long = "cors", value_name = "ORIGIN", default_value = "*")]
    origins: Vec<String>,
    /// Segments put before every address; empty for all addresses of the router
    #[arg(long, default_value = "")]
    namespace: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub fn run(args: &HttpArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
    ];
    run_bridge("http", &common.join, options.into_iter())
}

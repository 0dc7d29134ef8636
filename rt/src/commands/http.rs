//! `clasp-rt http`: HTTP for a router elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

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
    tls: TlsArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Who a port is, and who may come to it.
#[derive(Args, Debug)]
pub(super) struct TlsArgs {
    /// PEM file of a certificate with its chain; then the port speaks TLS
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file of the key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// PEM file of authorities: only clients with a certificate of theirs come in
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
}

impl TlsArgs {
    pub(super) fn option(&self) -> (&'static str, Value) {
        let Self { cert, key, client_ca } = self;
        let files =
            cert.as_ref().map(|cert| json!({ "cert": cert, "key": key, "client_ca": client_ca }));
        ("tls", json!(files))
    }
}

pub fn run(args: &HttpArgs) -> Result<(), Failure> {
    let common = &args.common;
    let options = [
        ("bind", json!(SocketAddr::new(common.bind, args.port))),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
        args.tls.option(),
    ];
    run_bridge("http", &common.join, options.into_iter())
}

//! `clasp-rt socketio`: Socket.IO for a router elsewhere, as a server or as the client of one.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::bridge::{self, CommonArgs};
use super::http::TlsArgs;

#[derive(Args, Debug)]
pub struct SocketioArgs {
    /// Port that clients connect to
    #[arg(long, default_value_t = 3000, conflicts_with = "url")]
    port: u16,
    /// Server to join instead: http://HOST:PORT, or https://
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What the server is asked with, as JSON: '{"token": "x"}'
    #[arg(long, value_name = "JSON", requires = "url", value_parser = object)]
    auth: Option<Value>,
    /// How the server is joined; given twice, the first and then the second [default: both]
    #[arg(
        long = "transport",
        value_name = "TRANSPORT",
        requires = "url",
        value_parser = ["polling", "websocket"],
    )]
    transports: Vec<String>,
    /// Pattern of what the server is told by address; may be given more than once
    #[arg(long, value_name = "PATTERN", requires = "url")]
    subscribe: Vec<String>,
    /// The server acknowledges: tell it again what it has not when the connection breaks
    #[arg(long, requires = "url")]
    acks: bool,
    /// PEM file of the authorities to believe of an https:// server
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Socket.IO namespace that clients may join, or that is joined; may be given more than once
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

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(json @ Value::Object(_)) => Ok(json),
        Ok(_) => Err("must be an object, such as {\"token\": \"x\"}".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

pub fn run(args: &SocketioArgs) -> Result<(), Failure> {
    let common = &args.common;
    let bind = args.url.is_none().then(|| SocketAddr::new(common.bind, args.port));
    let transports = Some(&args.transports).filter(|transports| !transports.is_empty());
    let options = [
        ("bind", json!(bind)),
        ("namespaces", json!(args.namespaces)),
        ("namespace", json!(args.namespace)),
        ("origins", json!(args.origins)),
        ("subscribe", json!(args.subscribe)),
        ("acks", json!(args.acks)),
        args.tls.option(),
        ("url", json!(args.url)),
        ("auth", json!(args.auth)),
        ("ca", json!(args.ca)),
        ("transports", json!(transports)),
    ];
    bridge::run("socketio", &common.join, options)
}

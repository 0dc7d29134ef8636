//! `clasp-rt http`: HTTP for a router elsewhere, as a server, and as what asks and tells servers.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::bridge::{self, CommonArgs};

#[derive(Args, Debug)]
pub struct HttpArgs {
    /// Port that web programs ask; 8080, or none where there is --poll or --webhook
    #[arg(long)]
    port: Option<u16>,
    /// Origin whose web pages may ask, such as `https://show.example`; may be given more than once
    #[arg(long = "cors", value_name = "ORIGIN", default_value = "*")]
    origins: Vec<String>,
    /// Segments put before every address; empty for all addresses of the router
    #[arg(long, default_value = "")]
    namespace: String,
    /// Page elsewhere that is asked again and again, such as /weather=https://h/now; of JSON a part
    /// by its pointer: https://h/now#/main/temp; may be given more than once
    #[arg(long = "poll", value_name = "ADDRESS=URL")]
    polls: Vec<String>,
    /// Seconds from one question of --poll to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, requires = "polls")]
    every: f64,
    /// Server elsewhere that is told by POST what changes, such as /cue/*=https://h/cues/{1}; may
    /// be given more than once
    #[arg(long = "webhook", value_name = "PATTERN=URL")]
    webhooks: Vec<String>,
    /// PEM file of the authorities to believe of servers elsewhere; else those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
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
    let serves = args.port.is_some() || (args.polls.is_empty() && args.webhooks.is_empty());
    let bind = serves.then(|| SocketAddr::new(common.bind, args.port.unwrap_or(8080)));
    let polls = args.polls.iter().map(|written| {
        let (address, url) = pair("--poll", "ADDRESS", written)?;
        // RFC 6901 §6: the pointer stands behind the `#`.
        let (url, pointer) = url.split_once('#').unwrap_or((url, ""));
        let values = Map::from_iter([(address.to_owned(), json!(pointer))]);
        Ok(json!({ "url": url, "values": values, "every_s": args.every }))
    });
    let webhooks = args.webhooks.iter().map(|written| {
        let (pattern, url) = pair("--webhook", "PATTERN", written)?;
        Ok(json!({ "pattern": pattern, "url": url }))
    });
    let options = [
        ("bind", json!(bind)),
        ("origins", json!(args.origins)),
        ("namespace", json!(args.namespace)),
        ("poll", Value::Array(polls.collect::<Result<_, Failure>>()?)),
        ("webhook", Value::Array(webhooks.collect::<Result<_, Failure>>()?)),
        ("ca", json!(args.ca)),
        args.tls.option(),
    ];
    bridge::run("http", &common.join, options)
}

/// What stands before and behind the `=` before a URL: addresses may have one, too.
fn pair<'w>(flag: &str, what: &str, written: &'w str) -> Result<(&'w str, &'w str), Failure> {
    let scheme = written.find("://").and_then(|end| written.get(..end)?.rfind('='));
    let cut = scheme.and_then(|at| Some((written.get(..at)?, written.get(at + 1..)?)));
    cut.ok_or_else(|| {
        Failure::Wrong(format!("{flag}: `{written}` must be {what}=http://HOST/PATH, or https://"))
    })
}

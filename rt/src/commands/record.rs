//! `clasp-rt record`: what passes at a router, into files that `clasp-bench replay` plays again.

use clap::Args;

use super::Failure;
use super::bridge::remote;
use super::client::RouterArgs;
use crate::config::{Log, LogLevel};
use crate::control;
use crate::host::Host;
use crate::plan::{Plan, absent};
use crate::plan_types::Uplink;
use crate::recording::Recording;

#[derive(Args, Debug)]
pub struct RecordArgs {
    #[command(flatten)]
    recording: Recording,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    log: Log,
}

pub fn run(args: &RecordArgs) -> Result<(), Failure> {
    let host = Host::read();
    if let Some(core) = args.recording.core.filter(|core| !host.cores.contains(core)) {
        return Err(Failure::Wrong(format!("--core: {}", absent(core, &host))));
    }
    let uplink = Uplink::Remote(remote(&args.router.router)?);
    let recording = args.recording.plan("record", uplink, args.router.token.clone());
    let recording = recording.map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::Wrong(lines.join("\n"))
    })?;
    let level = args.log.level.unwrap_or(LogLevel::Info);
    control::serve(Plan::of_recording(recording, level, &host)).map_err(Failure::Failed)
}

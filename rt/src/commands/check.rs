//! `clasp-rt check`: is this file right? Reads, and touches nothing else.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::client::print;
use super::server::{read, tell};
use crate::config::Config;
use crate::host::Host;
use crate::open_bridge::notes;
use crate::plan::Plan;

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The file to check
    file: PathBuf,
}

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let (config, problems) = Config::parse(&text);
    // As a server has it that was started with the file.
    let config = Config { may_change: true, ..config };
    let plan = Plan::new(&config, &Host::read());
    if let (Ok(plan), []) = (&plan, problems.as_slice()) {
        let notes = notes(&plan.threads).into_iter().map(|note| format!("note: {note}\n"));
        let text = format!("{}: fine\n", args.file.display()) + &notes.collect::<String>();
        return print(text.as_bytes());
    }
    let errors = plan.err().unwrap_or_default();
    Err(Failure::Wrong(tell(Some(&args.file), &text, problems, &errors)))
}

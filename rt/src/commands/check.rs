//! `clasp-rt check`: is this file right? Reads, and touches nothing else.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::server::{read, tell};
use crate::config::Config;
use crate::host::Host;
use crate::plan::Plan;

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The file to check
    file: PathBuf,
}

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let (config, problems) = Config::parse(&text);
    let errors = Plan::new(&config, &Host::read()).err().unwrap_or_default();
    if problems.is_empty() && errors.is_empty() {
        println!("{}: fine", args.file.display());
        return Ok(());
    }
    Err(Failure::Wrong(tell(Some(&args.file), &text, problems, &errors)))
}

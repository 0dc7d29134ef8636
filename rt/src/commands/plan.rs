//! `clasp-rt plan`: what would run, without running it.

use clap::Args;

use super::Failure;
use super::client::print;
use super::server::{ServerArgs, decide};
use crate::plan_print;

#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    let plan = decide(&args.server)?;
    let text = match args.json {
        true => format!("{:#}\n", plan_print::json(&plan)),
        false => plan_print::Table(&plan).to_string(),
    };
    print(text.as_bytes())
}

//! `clasp-rt plan`: what would run, without running it.

use clap::Args;

use super::Failure;
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
    if args.json {
        println!("{:#}", plan_print::json(&plan));
    } else {
        print!("{}", plan_print::Table(&plan));
    }
    Ok(())
}

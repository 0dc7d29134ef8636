//! `clasp-rt server`: from a file and flags to a running router.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::config::{Auth, Config, Log, Server};
use crate::control;
use crate::document::{Document, Problem};
use crate::host::Host;
use crate::plan::{Plan, PlanError};

#[derive(Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// Configuration file; what is typed here comes before what it says
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub auth: Auth,
    #[command(flatten)]
    pub log: Log,
}

pub fn run(args: &ServerArgs) -> Result<(), Failure> {
    control::serve(decide(args)?).map_err(Failure::Failed)
}

/// The plan that follows from `args` on this machine; all problems at once otherwise.
pub fn decide(args: &ServerArgs) -> Result<Plan, Failure> {
    let text = match &args.config {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let (file, problems) = Config::parse(&text);
    let config = file.overridden_by(&args.server, &args.auth, &args.log);
    let plan = Plan::new(&config, &Host::read());
    match plan {
        Ok(plan) if problems.is_empty() => Ok(plan),
        plan => {
            let errors = plan.err().unwrap_or_default();
            Err(Failure::Wrong(tell(args.config.as_deref(), &text, problems, &errors)))
        }
    }
}

pub fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|why| Failure::Wrong(format!("{} cannot be read: {why}", path.display())))
}

/// Every problem on a line of its own, in the order of the file where a line is known.
pub fn tell(
    path: Option<&Path>,
    text: &str,
    mut problems: Vec<Problem>,
    errors: &[PlanError],
) -> String {
    let (document, _) = Document::parse(text);
    problems.extend(
        errors
            .iter()
            .map(|error| Problem { line: document.line_of(&error.key), what: error.to_string() }),
    );
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    let place = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
    let lines: Vec<_> = problems.iter().map(|problem| format!("{place}{problem}")).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        many => format!("{} problems\n  {}", many.len(), many.join("\n  ")),
    }
}

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
use crate::reload::Reload;

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
    control::serve_file(decide(args)?, Reload::new(args)).map_err(Failure::Failed)
}

/// The plan that follows from `args` on this machine; all problems at once otherwise.
pub fn decide(args: &ServerArgs) -> Result<Plan, Failure> {
    match &args.config {
        Some(path) => decide_by(args, &read(path)?),
        None => decide_by(args, ""),
    }
}

/// As [`decide`], by the `text` of the file.
pub fn decide_by(args: &ServerArgs, text: &str) -> Result<Plan, Failure> {
    let (file, problems) = Config::parse(text);
    let mut config = file.overridden_by(&args.server, &args.auth, &args.log);
    config.may_change = args.config.is_some();
    let plan = Plan::new(&config, &Host::read());
    match plan {
        Ok(plan) if problems.is_empty() => Ok(plan),
        plan => {
            let errors = plan.err().unwrap_or_default();
            Err(Failure::Wrong(tell(args.config.as_deref(), text, problems, &errors)))
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
    problems.extend(errors.iter().map(|error| match path {
        Some(_) => Problem { line: document.line_of(&error.key), what: error.to_string() },
        None => Problem { line: None, what: format!("{}: {}", flag(&error.key), error.why) },
    }));
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    let place = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
    let lines: Vec<_> = problems.iter().map(|problem| format!("{place}{problem}")).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        many => format!("{} problems\n  {}", many.len(), many.join("\n  ")),
    }
}

/// `server.tcp_port` is typed as `--tcp-port`.
fn flag(key: &str) -> String {
    let name = match key {
        "auth.mode" => "auth-mode",
        "auth.tokens" => "token",
        key => key.split_once('.').map_or(key, |(_table, name)| name),
    };
    let name = name.strip_suffix("_ms").or(name.strip_suffix("_s")).unwrap_or(name);
    format!("--{}", name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    #[test]
    fn every_key_that_a_plan_refuses_names_a_flag_that_there_is() {
        let command = ServerArgs::augment_args(Command::new("server"));
        let flags: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        let keys = [
            "server.cores",
            "server.shards",
            "server.tcp_port",
            "server.max_sessions",
            "server.session_timeout_s",
            "server.gesture_interval_ms",
            "auth.mode",
            "auth.token_file",
            "auth.tokens",
        ];
        for key in keys {
            let flag = flag(key);
            assert!(flags.iter().any(|known| flag == format!("--{known}")), "{key}: {flag}");
        }
    }
}

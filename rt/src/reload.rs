//! A changed configuration file while the router runs: what of it takes over at once, and what
//! waits for a restart.
//!
//! Routes, the patch, arbitrations and sources take over without missing a frame; a file with a
//! mistake changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clasp_rt_bridges::Bridge;
use clasp_rt_core::shard::{Arbitration, SourceFor};
use toml::{Table, Value};

use crate::commands::Failure;
use crate::commands::server::{self, ServerArgs};
use crate::config::Config;
use crate::open_bridge::{Opened, named_bridges, open_bridge, silent_of_sources};

/// The tables that a bridge reads which can be succeeded while the router runs, and that bridge.
const BRIDGES: [(&str, &str); 2] = [("route", "routes"), ("patch", "patch")];
/// The tables that the shards take over.
const RULES: [&str; 2] = [ARBITRATION, "source"];
const ARBITRATION: &str = "arbitration";
/// What no file has for one of these tables.
const NOT_IN_FORCE: Value = Value::Boolean(false);

/// A file, and what of it is in force.
pub struct Reload {
    args: ServerArgs,
    path: PathBuf,
    in_force: Table,
}

/// What a changed file asks for.
pub struct Changed {
    /// Each with the table that it comes of.
    pub successors: Vec<(&'static str, Box<dyn Bridge>)>,
    pub rules: Option<Rules>,
    /// What is in force as it was: `server.port`, `bridge[2] (osc)`.
    pub waiting: Vec<String>,
}

/// Who wins what from now on.
pub struct Rules {
    /// The tables that changed.
    pub tables: Vec<&'static str>,
    pub arbitrations: Vec<Arbitration>,
    pub sources: Vec<SourceFor>,
}

impl Reload {
    /// Of the file that the router was started with; `None`: it was started without one.
    pub fn new(args: &ServerArgs) -> Option<Self> {
        let path = args.config.clone()?;
        // It has just been read and found right.
        let text = server::read(&path).ok()?;
        Some(Self { args: args.clone(), path, in_force: text.parse().ok()? })
    }

    /// Reads the file once more; all its mistakes at once, if it has any.
    pub fn read(&mut self) -> Result<Changed, Failure> {
        let text = server::read(&self.path)?;
        let plan = server::decide_by(&self.args, &text)?;
        let (config, _) = Config::parse(&text);
        let config = Config { may_change: true, ..config };
        let table: Table = text.parse().unwrap_or_default();
        let has_changed = |key: &str| table.get(key) != self.in_force.get(key);
        // Bridges say whose a value is as soon as anything is arbitrated.
        let is_first = is_empty(&self.in_force, ARBITRATION) && !is_empty(&table, ARBITRATION);
        let successors = BRIDGES.iter().filter(|(key, _)| is_first || has_changed(key));
        let successors: Vec<_> =
            successors.filter_map(|(key, kind)| Some((*key, opened(&config, kind)?))).collect();
        let tables: Vec<_> = RULES.into_iter().filter(|key| has_changed(key)).collect();
        let settings = plan.threads.shards.into_iter().next().map(|shard| shard.settings);
        let rules = settings.filter(|_| !tables.is_empty()).map(|settings| Rules {
            tables,
            arbitrations: settings.arbitrations,
            sources: settings.sources,
        });
        let mut waiting = waiting(&self.in_force, &table);
        if is_first {
            waiting.extend(silent_of_sources(&config));
        }
        for key in at_once() {
            match table.get(key) {
                Some(value) => drop(self.in_force.insert(key.to_owned(), value.clone())),
                None => drop(self.in_force.remove(key)),
            }
        }
        Ok(Changed { successors, rules, waiting })
    }

    /// What was read of the table `key` could not take over: at the next reading it is new again.
    pub fn refused(&mut self, key: &str) {
        self.in_force.insert(key.to_owned(), NOT_IN_FORCE);
    }
}

/// The tables that take over while the router runs.
fn at_once() -> impl Iterator<Item = &'static str> {
    BRIDGES.into_iter().map(|(key, _)| key).chain(RULES)
}

fn is_empty(file: &Table, key: &str) -> bool {
    file.get(key).and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// The bridge `kind` as `config` has it, which may be empty.
fn opened(config: &Config, kind: &str) -> Option<Box<dyn Bridge>> {
    let mut named = named_bridges(config);
    let (_, written) = named.find(|(at, written)| at.is_empty() && written.kind == kind)?;
    match open_bridge("", &written) {
        Ok(Opened::Bridge(bridge)) => Some(bridge),
        Ok(Opened::Service(_)) | Err(_) => None,
    }
}

/// What differs outside of the tables that take over at once: keys of tables, members of lists.
fn waiting(before: &Table, after: &Table) -> Vec<String> {
    let differing = differing(before, after).into_iter();
    let waiting = differing.filter(|(key, ..)| at_once().all(|at_once| at_once != *key));
    waiting.flat_map(|(key, before, after)| within(key, before, after)).collect()
}

/// The keys whose values differ, with both; a value that is not there differs from any.
fn differing<'t>(
    before: &'t Table,
    after: &'t Table,
) -> Vec<(&'t str, Option<&'t Value>, Option<&'t Value>)> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let both = keys.into_iter().map(|key| (key.as_str(), before.get(key), after.get(key)));
    both.filter(|(_, before, after)| before != after).collect()
}

/// Where two values of `key` differ: keys of a table, members of a list, or all of it.
fn within(key: &str, before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    match after.or(before) {
        Some(Value::Table(_)) => {
            let table = |value: Option<&Value>| value?.as_table().cloned();
            let (before, after) =
                (table(before).unwrap_or_default(), table(after).unwrap_or_default());
            let inner = differing(&before, &after);
            inner.iter().map(|(inner, ..)| format!("{key}.{inner}")).collect()
        }
        Some(Value::Array(_)) => {
            let list = |value: Option<&Value>| value?.as_array().cloned();
            let (before, after) =
                (list(before).unwrap_or_default(), list(after).unwrap_or_default());
            let count = before.len().max(after.len());
            let differ = (0..count).filter(|&at| before.get(at) != after.get(at));
            differ.map(|at| member(key, at, after.get(at).or(before.get(at)))).collect()
        }
        _ => vec![key.to_owned()],
    }
}

/// A member of the list `key`, called as errors call it.
fn member(key: &str, at: usize, value: Option<&Value>) -> String {
    match value.and_then(|value| value.get("type")).and_then(Value::as_str) {
        Some(kind) => format!("{key}[{at}] ({kind})"),
        None => format!("{key}[{at}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_change_at_once_waits() {
        let table = |text: &str| text.parse::<Table>().expect("TOML");
        let before =
            table("[server]\nport = 1\n[[route]]\nfrom = \"/a\"\n[limits]\nparams_max = 1");
        let after = "[server]\nport = 2\n[[patch]]\nat = 1\n[limits]\nparams_max = 1\n\
                     [[arbitration]]\npattern = \"/a\"\n[[source]]\nname = \"b\"\npriority = 1";
        let after = table(after);
        assert_eq!(waiting(&before, &after), ["server.port"]);
        assert_eq!(waiting(&before, &before), [""; 0]);
    }

    #[test]
    fn what_waits_is_named_as_closely_as_errors_name_it() {
        let bridges = |written: &str| written.parse::<Table>().expect("TOML");
        let before = bridges("[[bridge]]\ntype = \"osc\"\n[[bridge]]\ntype = \"mqtt\"");
        let after = "[[bridge]]\ntype = \"osc\"\n[[bridge]]\ntype = \"mqtt\"\ntopic = \"a\"\n\
                     [[bridge]]\ntype = \"sacn\"\n[limits]\nparams_max = 1\n[record]";
        let after = bridges(after);
        let named = ["bridge[1] (mqtt)", "bridge[2] (sacn)", "limits.params_max"];
        assert_eq!(waiting(&before, &after), named);
        assert_eq!(waiting(&after, &before), named);
    }

    #[test]
    fn what_was_refused_is_new_at_the_next_reading() {
        let path = std::env::temp_dir().join(format!("clasp-rt-reload-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("a file");
        write("[[route]]\nfrom = \"/a\"\nto = \"/b\"\n");
        let args = ServerArgs { config: Some(path.clone()), ..ServerArgs::default() };
        let mut file = Reload::new(&args).expect("a file");
        // Taking away is a change as much as adding is.
        write("[[arbitration]]\npattern = \"/a\"\n");
        for _ in 0..2 {
            let Changed { successors, rules, .. } = file.read().expect("a file that is right");
            let keys: Vec<_> = successors.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys, ["route", "patch"]);
            assert_eq!(rules.expect("rules").tables, [ARBITRATION]);
            keys.iter().chain(&[ARBITRATION]).for_each(|key| file.refused(key));
        }
        file.read().expect("a file that is right");
        let Changed { successors, rules, .. } = file.read().expect("a file that is right");
        assert!(successors.is_empty() && rules.is_none());
        std::fs::remove_file(&path).expect("the file");
    }
}

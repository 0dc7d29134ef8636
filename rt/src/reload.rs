//! A changed configuration file while the router runs: what of it takes over at once, and what
//! waits for a restart.
//!
//! Routes and the patch take over without missing a frame; a file with a mistake changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clasp_rt_bridges::Bridge;
use toml::Table;

use crate::commands::Failure;
use crate::commands::server::{self, ServerArgs};
use crate::config::Config;
use crate::open_bridge::{Opened, named_bridges, open_bridge};

/// The tables that can change while the router runs, and the bridge that reads each.
const AT_ONCE: [(&str, &str); 2] = [("route", "routes"), ("patch", "patch")];

/// A file, and what of it is in force.
pub struct Reload {
    args: ServerArgs,
    path: PathBuf,
    in_force: Table,
}

/// What a changed file asks for.
pub struct Changed {
    pub successors: Vec<Box<dyn Bridge>>,
    /// Tables that are in force as they were: `server`, `bridge`.
    pub waiting: Vec<String>,
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
        server::decide(&self.args)?;
        let text = server::read(&self.path)?;
        let (config, _) = Config::parse(&text);
        let config = Config { may_change: true, ..config };
        let table: Table = text.parse().unwrap_or_default();
        let successors = AT_ONCE.iter().filter_map(|(key, kind)| {
            let is_changed = table.get(*key) != self.in_force.get(*key);
            is_changed.then(|| opened(&config, kind)).flatten()
        });
        let successors: Vec<_> = successors.collect();
        let waiting = waiting(&self.in_force, &table);
        for (key, _) in AT_ONCE {
            match table.get(key) {
                Some(value) => drop(self.in_force.insert(key.to_owned(), value.clone())),
                None => drop(self.in_force.remove(key)),
            }
        }
        Ok(Changed { successors, waiting })
    }
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

/// The tables that differ, but for those that take over at once.
fn waiting(before: &Table, after: &Table) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&&String| {
        before.get(**key) != after.get(**key) && AT_ONCE.iter().all(|(at_once, _)| at_once != **key)
    };
    keys.iter().filter(differs).map(|key| (*key).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_change_at_once_waits() {
        let table = |text: &str| text.parse::<Table>().expect("TOML");
        let before =
            table("[server]\nport = 1\n[[route]]\nfrom = \"/a\"\n[limits]\nparams_max = 1");
        let after = table("[server]\nport = 2\n[[patch]]\nat = 1\n[limits]\nparams_max = 1");
        assert_eq!(waiting(&before, &after), ["server"]);
        assert_eq!(waiting(&before, &before), [""; 0]);
    }
}

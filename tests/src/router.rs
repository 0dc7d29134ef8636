//! A router of the test's own, on ports that the kernel chose.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use serde_json::{Value as Json, json};

use crate::eventually;
use crate::metrics::Counters;
use crate::program::{Program, clasp_rt};
use crate::raw::Raw;
use crate::temporary::TempFile;

/// The bridges of routes and of the patch, which a router that was started with a file always has.
pub const OWN_BRIDGES: u64 = 2;

/// A running `clasp-rt server`. Ended when dropped; then a router that had died fails the test.
pub struct Router {
    program: Program,
    address: SocketAddr,
    /// Where it tells what it counted, if `--metrics` asked for that.
    metrics: Option<SocketAddr>,
    /// What its services listen on, as URLs.
    served: Vec<String>,
    arguments: Vec<String>,
    config: Option<TempFile>,
    /// Whether it should be running still: not so after the test killed it.
    expected: bool,
}

impl Router {
    /// Starts one and waits until it listens.
    ///
    /// Threads park when idle unless `--idle` says otherwise: many routers share the machine here.
    pub fn start(arguments: &[&str]) -> Self {
        Self::launch(arguments.iter().map(ToString::to_string).collect(), 0, None)
    }

    /// Starts one with this configuration file.
    pub fn with_config(toml: &str, arguments: &[&str]) -> Self {
        let config = TempFile::new("toml", toml);
        Self::launch(arguments.iter().map(ToString::to_string).collect(), 0, Some(config))
    }

    /// Kills it without warning and starts another in its place, which knows nothing.
    pub fn restart(self) -> Self {
        self.restart_after(|| {})
    }

    /// The same, with something done while there is none.
    pub fn restart_after(mut self, meanwhile: impl FnOnce()) -> Self {
        self.assert_alive();
        self.program.kill();
        self.expected = false;
        meanwhile();
        let (arguments, config) = (std::mem::take(&mut self.arguments), self.config.take());
        Self::launch(arguments, self.address.port(), config)
    }

    fn launch(arguments: Vec<String>, port: u16, config: Option<TempFile>) -> Self {
        let mut command = Command::new(clasp_rt());
        command.args(["server", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        if !arguments.iter().any(|argument| argument == "--idle") {
            command.args(["--idle", "park"]);
        }
        if let Some(config) = &config {
            command.arg("--config").arg(&config.path);
        }
        let program = Program::start(command.args(&arguments));
        let told = arguments.iter().any(|argument| argument == "--metrics");
        let metrics = told.then(|| address_in(&program, "http://"));
        let (served, address) = listening(&program);
        Self { program, address, metrics, served, arguments, config, expected: true }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Where it listens for CLASP over TCP; asked once, and only with `--tcp-port`.
    pub fn tcp_address(&self) -> SocketAddr {
        address_in(&self.program, "listening tcp://")
    }

    /// Where a service listens whose URL begins with `scheme`, such as `http://`.
    pub fn served(&self, scheme: &str) -> SocketAddr {
        let found = self.served.iter().find_map(|url| url.strip_prefix(scheme));
        let address = found.and_then(|rest| rest.split('/').next()?.parse().ok());
        address.unwrap_or_else(|| panic!("no {scheme} in {:?}", self.served))
    }

    /// A client that has said HELLO, and has read WELCOME and the first SNAPSHOT.
    pub fn join(&self, name: &str) -> Raw {
        Raw::join(self.address, name)
    }

    /// A WebSocket on which nothing has been said.
    pub fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// Where it tells what it counts; needs `--metrics 127.0.0.1:0`.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.expect("the router was started with --metrics")
    }

    /// Waits until a param holds this value.
    pub fn eventually_holds(&self, address: &str, wanted: &Json) {
        let mut client = self.join("reader");
        eventually(&format!("{address} to be {wanted}"), || {
            let answers = client.ask(json!({"type": "GET", "address": address}));
            let held = answers.iter().find(|answer| answer["type"] == "SNAPSHOT")?;
            (held["params"][0]["value"] == *wanted).then_some(())
        });
    }

    /// What its threads have counted; needs `--metrics 127.0.0.1:0`.
    pub fn counters(&self) -> Counters {
        Counters::ask(self.metrics_address())
    }

    /// The same, once `wanted` accepts it: counters are told once a second.
    pub fn counters_where(&self, wanted: impl Fn(&Counters) -> bool) -> Counters {
        eventually("the counters", || Some(self.counters()).filter(&wanted));
        // The first page may have been read while it was written; the next one is whole.
        self.counters()
    }

    /// The bytes that it has in memory at present.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.program.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("the kernel says so in KiB") * 1024
    }

    /// How many files and sockets it has open, those included that only its rings hold.
    pub fn descriptors(&self) -> usize {
        let process = PathBuf::from(format!("/proc/{}", self.program.child.id()));
        let entries = |folder: &str| std::fs::read_dir(process.join(folder)).expect("it runs");
        // A descriptor may close between the listing and the reading.
        let infos =
            entries("fdinfo").filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        entries("fd").count() + infos.map(|info| registered_files(&info)).sum::<usize>()
    }

    /// The first line of its log with `words` in it.
    pub fn logged(&self, words: &str) -> String {
        eventually(words, || {
            self.program.errors().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    /// Changes its configuration file and asks it to read it. Gives the first line of its log after
    /// that in which one of `words` is found.
    pub fn reload(&self, toml: &str, words: &[&str]) -> String {
        let config = self.config.as_ref().expect("it was started with a configuration file");
        std::fs::write(&config.path, toml).expect("the file can be written");
        let before = self.program.errors().len();
        self.program.signal("HUP");
        eventually("what the router says of its new configuration", || {
            let log = self.program.errors();
            let mut lines = log.get(before..)?.lines();
            lines.find(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned)
        })
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.assert_alive();
        self.expected = false;
        self.program.terminate()
    }

    fn assert_alive(&mut self) {
        if !self.program.is_running() {
            panic!("the router died: {}", self.program.errors());
        }
        let errors = self.program.errors();
        assert!(!errors.contains("panicked"), "a thread of the router panicked: {errors}");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.expected && !std::thread::panicking() {
            self.assert_alive();
        }
    }
}

/// What its services listen on, whose lines come first, and where the router does.
fn listening(program: &Program) -> (Vec<String>, SocketAddr) {
    let mut served = Vec::new();
    loop {
        let line = program.line_where(|line| line.starts_with("listening "));
        let url = line.trim_start_matches("listening ");
        match url.strip_prefix("ws://") {
            Some(address) => return (served, address.parse().expect("the router's own port")),
            None => served.push(url.to_owned()),
        }
    }
}

/// The address that the program prints in a line after `before`; lines above it are gone.
fn address_in(program: &Program, before: &str) -> SocketAddr {
    let line = program.line_where(|line| line.contains(before));
    let rest = line.split(before).nth(1).unwrap_or_default();
    let address = rest.split(['/', ' ']).next().and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("no address in {line:?}"))
}

/// What a ring's `fdinfo` lists between `UserFiles` and `UserBufs`: one line for each slot in use.
fn registered_files(info: &str) -> usize {
    let listed = info.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
    let files = listed.take_while(|line| !line.starts_with("UserBufs:"));
    files.filter(|line| !line.contains("<none>")).count()
}

#[cfg(test)]
mod tests {
    use super::registered_files;

    #[test]
    fn files_that_only_a_ring_holds_are_counted() {
        let files = "    3: pipe:[65096]\n    4: <none>\n    5: socket:[1]\n";
        let ring = format!("pos:\t0\nUserFiles:\t8\n{files}UserBufs:\t0\n");
        assert_eq!(registered_files(&ring), 2);
        assert_eq!(registered_files("pos:\t0\nflags:\t02\n"), 0);
    }
}

//! The router under test: started here, or already running somewhere.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::machine::Places;

/// How long a router may take to print where it listens, or to say what it counted.
const START_MAX: Duration = Duration::from_secs(20);

/// After the first address, others follow at once; this long without a line means there are no
/// more.
const QUIET: Duration = Duration::from_millis(300);

/// How the router is reached.
#[derive(Clone, Debug)]
pub enum Source {
    Running(String),
    Spawned { program: PathBuf, arguments: Vec<String> },
}

/// What a router that we start does while nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Asks again and again: for a core that nobody else uses.
    Spin,
    /// Sleeps, and `/dev/cpu_dma_latency` keeps the core from halting.
    NoHalt,
    /// Spins for a moment, then sleeps.
    Adaptive,
    /// Sleeps at once.
    Park,
}

impl Idle {
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::NoHalt => "nohalt",
            Self::Adaptive => "adaptive",
            Self::Park => "park",
        }
    }
}

/// A router that can be measured.
#[derive(Debug)]
pub struct Router {
    child: Option<Child>,
    urls: Vec<String>,
}

impl Router {
    pub fn open(source: &Source, places: Places) -> io::Result<Self> {
        match source {
            Source::Running(url) => Ok(Self { child: None, urls: vec![url.clone()] }),
            Source::Spawned { program, arguments } if arguments.is_empty() => {
                Self::open_idling(program, places, Idle::Spin)
            }
            Source::Spawned { program, arguments } => Self::spawn(program, arguments),
        }
    }

    /// Starts `program` with our arguments: one shard on the router's core, both stream transports,
    /// no rate limit, because the bench sends more in a second than a person.
    pub fn open_idling(program: &Path, places: Places, idle: Idle) -> io::Result<Self> {
        Self::open_with(program, places, idle, &[])
    }

    /// The same, with more arguments; `--metrics 127.0.0.1:0` gives [`Router::url`] of `http`.
    pub fn open_with(
        program: &Path,
        places: Places,
        idle: Idle,
        arguments: &[&str],
    ) -> io::Result<Self> {
        Self::open_sharded(program, &[places.router], idle, arguments)
    }

    /// The same, with a shard on each of `cores`.
    pub fn open_sharded(
        program: &Path,
        cores: &[usize],
        idle: Idle,
        arguments: &[&str],
    ) -> io::Result<Self> {
        let shards = cores.len().to_string();
        let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
        let cores = cores.join(",");
        let words = ["server", "--bind", "127.0.0.1", "--port", "0", "--tcp-port", "0", "--cores"];
        // The largest crowd is a thousand subscribers, and each bench has a publisher besides.
        let sessions = ["--max-sessions", "1100"];
        let more = [&cores, "--shards", &shards, "--rate-limit", "0", "--idle", idle.name()];
        let words = words.iter().chain(&more).chain(&sessions).chain(arguments);
        let arguments: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        Self::spawn(program, &arguments)
    }

    fn spawn(program: &Path, arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program:?}: {error}")))?;
        let stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        let mut router = Self { child: Some(child), urls: Vec::new() };
        router.urls = listening(stdout)?;
        Ok(router)
    }

    /// Where peers of `scheme` (`ws` or `tcp`) connect, and where `http` tells what was counted.
    pub fn url(&self, scheme: &str) -> io::Result<&str> {
        let found = self.urls.iter().find(|url| url.starts_with(&format!("{scheme}://")));
        found.map(String::as_str).ok_or_else(|| {
            let message = format!("the router listens at {:?}, not at {scheme}://", self.urls);
            io::Error::new(ErrorKind::AddrNotAvailable, message)
        })
    }

    /// Takes the router off its core while something else is measured there. Not possible with one
    /// that runs elsewhere: then false.
    pub fn pause(&self) -> bool {
        self.signal(Signal::STOP)
    }

    pub fn resume(&self) -> bool {
        self.signal(Signal::CONT)
    }

    /// Of the process, if it was started here.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What its threads counted, by thread and name, if `--metrics` asked for that; it is told anew
    /// once a second.
    pub fn counters(&self) -> io::Result<Json> {
        let url = self.url("http")?;
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(START_MAX))?;
        stream.write_all(b"GET /metrics.json HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
        serde_json::from_str(body).map_err(io::Error::other)
    }

    pub fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    fn signal(&self, signal: Signal) -> bool {
        self.child
            .as_ref()
            .is_some_and(|child| kill_process(Pid::from_child(child), signal).is_ok())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.resume();
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The URLs of the lines `listening URL` and `metrics URL`. Keeps reading afterwards so that the
/// router never blocks on its own output.
fn listening(stdout: ChildStdout) -> io::Result<Vec<String>> {
    let (sender, lines) = mpsc::channel();
    thread::Builder::new().name("router output".to_owned()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let line = line.trim();
            let url = line.strip_prefix("listening ").or_else(|| line.strip_prefix("metrics "));
            let url = url.map(str::to_owned);
            // Nobody listens once the addresses are known; the reading itself goes on.
            let _ = sender.send(url);
        }
    })?;
    let mut urls: Vec<String> = Vec::new();
    let until = Instant::now() + START_MAX;
    loop {
        let listens = urls.iter().any(|url| !url.starts_with("http"));
        let patience =
            if listens { QUIET } else { until.saturating_duration_since(Instant::now()) };
        match lines.recv_timeout(patience) {
            Ok(url) => urls.extend(url),
            Err(_) if listens => return Ok(urls),
            Err(RecvTimeoutError::Timeout) => {
                let message = "the router printed no `listening URL` line in time";
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let message = "the router ended before it printed a `listening URL` line";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Source {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Source::Spawned { program: PathBuf::from("/bin/sh"), arguments }
    }

    const PLACES: Places = Places { router: 0, client: 0 };

    #[test]
    fn the_addresses_that_a_router_prints_are_found() {
        let script = "echo hello; echo listening ws://a:1; echo listening tcp://b:2; sleep 60";
        let router = Router::open(&shell(script), PLACES).unwrap();
        assert_eq!(router.url("ws").unwrap(), "ws://a:1");
        assert_eq!(router.url("tcp").unwrap(), "tcp://b:2");
        let error = router.url("quic").unwrap_err().to_string();
        assert!(error.contains("tcp://b:2"), "{error}");
        assert!(router.pause() && router.resume());
    }

    #[test]
    fn a_router_that_ends_at_once_is_an_error_that_says_so() {
        let error = Router::open(&shell("echo no"), PLACES).unwrap_err().to_string();
        assert!(error.contains("ended before"), "{error}");
    }
}

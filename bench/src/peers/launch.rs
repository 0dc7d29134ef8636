//! Starts the routers that are compared, each on the router's core and on a free port.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{self, Places};
use crate::router::{Idle, Router};

/// How long a router may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(10);

/// A free port may be taken by others between looking and listening: then another is tried.
const ATTEMPTS: u32 = 3;

/// A router that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    ClaspRt(Idle),
    /// The published CLASP router.
    Reference,
    Mosquitto,
    Nats,
    Zenoh,
}

/// All that there are, by their name in keys and workloads.
pub const PROGRAMS: [(&str, Program); 8] = [
    ("clasp-rt-spin", Program::ClaspRt(Idle::Spin)),
    ("clasp-rt-nohalt", Program::ClaspRt(Idle::NoHalt)),
    ("clasp-rt-adaptive", Program::ClaspRt(Idle::Adaptive)),
    ("clasp-rt-park", Program::ClaspRt(Idle::Park)),
    ("reference", Program::Reference),
    ("mosquitto", Program::Mosquitto),
    ("nats", Program::Nats),
    ("zenoh", Program::Zenoh),
];

/// Where the programs lie.
#[derive(Clone, Debug)]
pub struct Installed {
    pub clasp_rt: PathBuf,
    /// Where `bench/setup.sh` builds the routers that no package brings.
    pub built: PathBuf,
}

/// A router that runs until this is dropped.
#[derive(Debug)]
pub struct Running {
    url: String,
    _process: Process,
}

#[derive(Debug)]
enum Process {
    Ours(#[expect(dead_code, reason = "ends with this")] Router),
    Other(#[expect(dead_code, reason = "ends with this")] Other),
}

#[derive(Debug)]
struct Other {
    child: Child,
    configuration: Option<PathBuf>,
}

impl Installed {
    /// Whether `program` is there; the error says how to get it.
    pub fn find(&self, program: Program) -> io::Result<PathBuf> {
        let (name, found) = match program {
            // Without that device it would run, but as `clasp-rt-adaptive`.
            Program::ClaspRt(Idle::NoHalt) if !may_forbid_halt() => {
                let message = format!("{LATENCY_DEVICE} does not open: the core would halt");
                return Err(io::Error::new(ErrorKind::PermissionDenied, message));
            }
            Program::ClaspRt(_) => {
                let found = Some(self.clasp_rt.clone()).filter(|path| path.exists());
                return found.ok_or_else(|| {
                    let message = format!("{} is not there", self.clasp_rt.display());
                    io::Error::new(ErrorKind::NotFound, message)
                });
            }
            Program::Mosquitto => ("mosquitto", in_path("mosquitto")),
            Program::Nats => ("nats-server", in_path("nats-server")),
            Program::Reference => ("reference-router", self.built("reference-router")),
            Program::Zenoh => ("zenoh-router", self.built("zenoh-router")),
        };
        found.ok_or_else(|| {
            let message = format!("{name} is not installed: bash bench/setup.sh");
            io::Error::new(ErrorKind::NotFound, message)
        })
    }

    /// What `program` says of itself, `nats-server: v2.9.10`.
    pub fn version(&self, program: Program) -> io::Result<String> {
        let argument = if program == Program::Mosquitto { "-h" } else { "--version" };
        let output = Command::new(self.find(program)?).arg(argument).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or("without a version").trim().to_owned())
    }

    fn built(&self, name: &str) -> Option<PathBuf> {
        Some(self.built.join(name)).filter(|path| path.exists())
    }

    /// Starts `program` and waits until it accepts connections.
    ///
    /// Ours places its shard itself; all threads of the others stay on the router's core.
    pub fn start(&self, program: Program, places: Places) -> io::Result<Running> {
        let path = self.find(program)?;
        if let Program::ClaspRt(idle) = program {
            let router = Router::open_idling(&path, places, idle)?;
            return Ok(Running {
                url: router.url("ws")?.to_owned(),
                _process: Process::Ours(router),
            });
        }
        let mut last = ErrorKind::TimedOut.into();
        for _ in 0..ATTEMPTS {
            let port = free_port()?;
            match Other::start(program, &path, port, places) {
                Ok(other) => {
                    let url = format!("{}://127.0.0.1:{port}", program.scheme());
                    return Ok(Running { url, _process: Process::Other(other) });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Running {
    /// Its protocol and address, for [`crate::connection`].
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Program {
    /// By its name in keys and workloads.
    pub fn named(name: &str) -> Option<Self> {
        PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, program)| *program)
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::ClaspRt(_) | Self::Reference => "ws",
            Self::Mosquitto => "mqtt",
            Self::Nats => "nats",
            Self::Zenoh => "zenoh",
        }
    }

    fn arguments(self, port: u16, configuration: &Path) -> Vec<String> {
        let port = port.to_string();
        match self {
            Self::Mosquitto => vec!["-c".to_owned(), configuration.display().to_string()],
            Self::Nats => ["-a", "127.0.0.1", "-p", &port].map(str::to_owned).into(),
            Self::ClaspRt(_) | Self::Reference | Self::Zenoh => vec![port],
        }
    }
}

impl Other {
    fn start(program: Program, path: &Path, port: u16, places: Places) -> io::Result<Self> {
        let configuration =
            std::env::temp_dir().join(format!("clasp-bench-{}-{port}.conf", std::process::id()));
        let mut command = Command::new(path);
        command.args(program.arguments(port, &configuration));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let configuration = match program {
            Program::Mosquitto => {
                fs::File::create(&configuration)?.write_all(mosquitto(port).as_bytes())?;
                Some(configuration)
            }
            _ => None,
        };
        // A program inherits the core of the thread that starts it.
        let child = machine::on_core(places.router, || command.spawn())?;
        let mut other = Self { child, configuration };
        other.await_port(port)?;
        Ok(other)
    }

    fn await_port(&mut self, port: u16) -> io::Result<()> {
        let until = Instant::now() + START_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the router ended at its start: {status}")));
            }
            if Instant::now() > until {
                return Err(io::Error::new(ErrorKind::TimedOut, "the router did not start"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(path) = &self.configuration {
            drop(fs::remove_file(path));
        }
    }
}

/// Holding this open keeps cores awake.
const LATENCY_DEVICE: &str = "/dev/cpu_dma_latency";

fn may_forbid_halt() -> bool {
    fs::OpenOptions::new().write(true).open(LATENCY_DEVICE).is_ok()
}

/// What makes mosquitto quick: no Nagle, no log; and what keeps it from dropping messages that its
/// receivers have not taken yet, as none of the others does.
fn mosquitto(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
         max_queued_messages 0\nmax_connections -1\npersistence false\nlog_dest none\n"
    )
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A program of a package, also where packages put what only root runs.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_brings_it() {
        let nowhere = PathBuf::from("nowhere");
        let installed = Installed { clasp_rt: nowhere.clone(), built: nowhere };
        for (program, wanted) in [
            (Program::Zenoh, "zenoh-router is not installed: bash bench/setup.sh"),
            (Program::Reference, "reference-router is not installed: bash bench/setup.sh"),
            (Program::ClaspRt(Idle::Spin), "nowhere is not there"),
        ] {
            assert_eq!(installed.find(program).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn every_program_has_a_name_of_its_own() {
        for (name, program) in PROGRAMS {
            assert_eq!(Program::named(name), Some(program));
        }
        assert_eq!(Program::named("floor"), None);
    }
}

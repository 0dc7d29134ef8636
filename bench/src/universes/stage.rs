//! A router with a bridge of universes, and what can be seen of it from outside.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Case, Change, SLOTS};
use crate::machine::Places;
use crate::router::{Idle, Router};

pub(super) struct Stage {
    pub(super) router: Router,
    /// Where the bridge listens.
    pub(super) bridge: SocketAddr,
    /// Where it sends universes.
    pub(super) node: UdpSocket,
    config: PathBuf,
}

/// What the router's threads had done at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    shard_ns: u64,
    bridges_ns: u64,
}

/// Counters are written once a second.
const COUNTED_AFTER: Duration = Duration::from_millis(1_300);

/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes that may wait at our end, so that it is not here that packets are lost.
const QUEUE_BYTES: usize = 16 << 20;

/// What the names of the threads begin with that bridges are on.
const BRIDGES: &str = "bridges ";

impl Stage {
    /// Starts a router with room for `universes`, its shard and its bridge thread on one core.
    pub(super) fn open(
        program: &Path,
        places: Places,
        universes: usize,
        case: Case,
    ) -> io::Result<Self> {
        let node = udp()?;
        let options = case.protocol.options(&node.local_addr()?.to_string());
        // Free until now; nobody else is given it before the router binds it.
        let bridge = udp()?.local_addr()?;
        let (core, protocol) = (places.router, case.protocol);
        let (mode, params) = match case.change {
            Change::Slots(_) => ("channel", universes * SLOTS),
            Change::Whole => ("universe", universes),
        };
        // Of each universe beside its levels: who sends it, and its priority.
        let params = params + universes * 3 + 1_000;
        let bytes = params * 64 + universes * SLOTS * 3 + (1 << 20);
        let pool = bytes * 2;
        // A subscriber that falls behind is sent the newest of every universe, not sent away.
        let text = format!(
            "[limits]\nparams_max = {params}\nparam_bytes_max = {bytes}\n\
             outbox_bytes_max = {bytes}\noutbox_pool_bytes = {pool}\n[[bridge]]\n\
             type = \"{protocol}\"\ncore = {core}\nbind = \"{bridge}\"\ninputs = \"all\"\n\
             universes_max = {universes}\nmode = \"{mode}\"\n{options}"
        );
        let config = std::env::temp_dir().join(format!(
            "clasp-bench-universes-{}-{}.toml",
            std::process::id(),
            bridge.port()
        ));
        fs::write(&config, text)?;
        let shown = config.to_string_lossy();
        let arguments = ["--config", &*shown, "--metrics", "127.0.0.1:0"];
        let router = Router::open_with(program, places, Idle::NoHalt, &arguments);
        if router.is_err() {
            drop(fs::remove_file(&config));
        }
        Ok(Self { router: router?, bridge, node, config })
    }

    /// Waits until the router has counted `packets`, or as long as that may take it. Gives how many
    /// it has.
    pub(super) fn packets_in(&self, packets: u64) -> io::Result<u64> {
        let until = Instant::now() + COUNTED_AFTER;
        loop {
            let counted = self.counted("packets_in")?;
            if counted >= packets || Instant::now() > until {
                return Ok(counted);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Packets that the router made, since its start, and could not send.
    pub(super) fn unsent(&self) -> io::Result<u64> {
        thread::sleep(COUNTED_AFTER);
        Ok(self.counted("datagrams_dropped")? + self.counted("datagram_faults")?)
    }

    /// A counter of bridges: routes and the patch, on a thread of their own, count no packets.
    fn counted(&self, name: &str) -> io::Result<u64> {
        let counters = self.counters()?;
        let threads = counters.as_object().into_iter().flatten();
        let bridges = threads.filter(|(thread, _)| thread.starts_with(BRIDGES));
        let counted: Vec<_> = bridges.filter_map(|(_, one)| one.get(name)?.as_u64()).collect();
        match counted[..] {
            [] => Err(io::Error::other(format!("the router counts no {name} of bridges"))),
            _ => Ok(counted.iter().sum()),
        }
    }

    /// How long the router's threads have run.
    pub(super) fn look(&self) -> io::Result<Looked> {
        Ok(Looked { shard_ns: self.ran_ns("shard 0")?, bridges_ns: self.ran_ns(BRIDGES)? })
    }

    fn counters(&self) -> io::Result<Value> {
        let url = self.router.url("http")?;
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let mut peer = TcpStream::connect(host)?;
        peer.write_all(b"GET /metrics.json HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        peer.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(io::Error::other)
    }

    /// How long the threads have run whose names begin with `name`, together.
    fn ran_ns(&self, name: &str) -> io::Result<u64> {
        let pid = self.router.pid().ok_or(io::ErrorKind::Unsupported)?;
        let mut ran = None;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = thread?.path();
            if fs::read_to_string(folder.join("comm"))?.starts_with(name) {
                let text = fs::read_to_string(folder.join("schedstat"))?;
                let ran_ns: Option<u64> = text.split(' ').next().and_then(|ns| ns.parse().ok());
                let wrong = || io::Error::other(format!("schedstat says {text:?}"));
                ran = Some(ran.unwrap_or(0) + ran_ns.ok_or_else(wrong)?);
            }
        }
        ran.ok_or_else(|| io::Error::other(format!("the router has no thread called {name}")))
    }
}

impl Looked {
    /// Shares of a core that shard and bridges took from `before` on.
    pub(super) fn busy_since(&self, before: &Self, length: Duration) -> (f64, f64) {
        let share = |now: u64, before: u64| {
            Duration::from_nanos(now.saturating_sub(before)).as_secs_f64() / length.as_secs_f64()
        };
        (share(self.shard_ns, before.shard_ns), share(self.bridges_ns, before.bridges_ns))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.config));
    }
}

/// A socket on a port that the kernel chose, with a long queue as far as that is allowed.
pub(super) fn udp() -> io::Result<UdpSocket> {
    use rustix::net::sockopt;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, QUEUE_BYTES)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

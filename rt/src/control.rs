//! The calm thread: says what started, waits for signals, and stops cleanly.
//!
//! Nothing here is ever on the way of a message.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use tracing::{error, info, warn};

use crate::clock;
use crate::complaints::{Allowed, Complaints};
use crate::doctor::{Machine, Root};
use crate::host::kib_of;
use crate::log;
use crate::memory::Size;
use crate::metrics;
use crate::open_bridge::notes;
use crate::plan::Plan;
use crate::plan_print::{uplink, url};
use crate::plan_types::ListenerPlan;
use crate::reload::{Changed, Reload, Rules};
use crate::rulings::Told;
use crate::running::{self, Running};

/// How often the calm thread looks whether all others still run.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs `plan` until a signal ends it. What is said on stdout ends with a line `listening URL` for
/// each port, once connections are accepted there.
pub fn serve(plan: Plan) -> Result<(), String> {
    serve_file(plan, None)
}

/// The same, and reads the file that `plan` is of once more whenever SIGHUP asks for it.
pub fn serve_file(plan: Plan, mut file: Option<Reload>) -> Result<(), String> {
    log::start(plan.log).map_err(|why| format!("nothing can be logged: {why}"))?;
    // Before anything starts, so that a signal in between is not lost.
    let signals = hear_signals().map_err(|why| format!("signals cannot be heard: {why}"))?;
    let banner = banner(&plan);
    let limits = plan.threads.shards.first().map(|shard| &shard.settings.limits);
    let allowed = Allowed {
        params_max: limits.map_or(0, |limits| u64::from(limits.params_max)),
        sessions_max: plan.threads.sessions_max,
    };
    say(&banner);
    let mut asked = Asked::new(&signals);
    let mut running = match running::start(plan.threads, &mut |name| asked.goes_on(name)) {
        Ok(running) => running,
        Err(fault) if fault.is_interruption() => {
            info!("stopping, as {} asks, before everything has started", asked.by());
            return Ok(());
        }
        Err(fault) => return Err(fault.to_string()),
    };
    for warning in &running.warnings {
        warn!("{warning}");
    }
    if let Some(addr) = plan.metrics {
        let bound = metrics::serve(addr, &running);
        let bound = bound.map_err(|why| format!("metrics: cannot listen on {addr}: {why}"))?;
        say(&format!("metrics http://{bound}/metrics\n"));
    }
    say(&format!("memory  {}\n", memory()));
    for url in &running.served {
        say(&format!("listening {url}\n"));
    }
    for &(transport, addr) in &running.listening {
        say(&format!("listening {}\n", url(&ListenerPlan { transport, addr })));
    }
    tell_manager("READY=1");
    let mut complaints = Complaints::default();
    let ended_by = loop {
        complaints.look(&running, allowed).iter().for_each(|what| warn!("{what}"));
        match signals.recv_timeout(LOOK_EVERY) {
            Ok(SIGHUP) => reload(file.as_mut(), &mut running),
            Ok(signal) => break Some(signal),
            Err(_) if !running.is_whole() => break None,
            Err(_) => {}
        }
    };
    tell_manager("STOPPING=1");
    let sessions = running.sessions();
    match ended_by {
        Some(signal) => {
            info!("stopping, as {} asks; {sessions} sessions end", name_of(signal));
        }
        None => error!("stopping, because a thread ended; {sessions} sessions end"),
    }
    let faults: Vec<_> = running.stop().iter().map(ToString::to_string).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn name_of(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal")
}

/// Whether a start that takes long is still wanted.
struct Asked<'a> {
    signals: &'a Receiver<i32>,
    ended_by: Option<i32>,
    times: u32,
}

impl<'a> Asked<'a> {
    fn new(signals: &'a Receiver<i32>) -> Self {
        Self { signals, ended_by: None, times: 0 }
    }

    /// Is asked a few times a second until the thread `name` has started; says so now and then.
    fn goes_on(&mut self, name: &str) -> bool {
        self.times += 1;
        if self.times % 8 == 4 {
            info!("starting: {name} is not ready yet");
        }
        // What SIGHUP asks for was just done: the file was read.
        self.ended_by = self.signals.try_iter().find(|signal| *signal != SIGHUP);
        self.ended_by.is_none()
    }

    fn by(&self) -> &'static str {
        self.ended_by.map_or("nobody", name_of)
    }
}

/// Why a change was refused, and what to do.
const BUSY: &str = "for the last change has not been taken yet: send SIGHUP again";

/// Lets what changed in the file take over, and says what waits for a restart.
fn reload(file: Option<&mut Reload>, running: &mut Running) {
    let Some(file) = file else {
        warn!("SIGHUP changes nothing: there is no configuration file");
        return;
    };
    tell_manager(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_ns() / 1_000));
    match file.read() {
        Err(why) => error!("the configuration stays as it was: {why}"),
        Ok(Changed { successors, rules, waiting }) => {
            let is_same = successors.is_empty() && rules.is_none() && waiting.is_empty();
            if let Some(Rules { tables, arbitrations, sources }) = rules {
                let names = tables.join(", ");
                match running.rule(&arbitrations, &sources) {
                    Told::Taken => info!("reloaded: {names}"),
                    Told::Underway => warn!("{names}: not every shard has taken it yet"),
                    Told::Refused => {
                        warn!("{names}: not reloaded, {BUSY}");
                        tables.iter().for_each(|table| file.refused(table));
                    }
                }
            }
            for (table, next) in successors {
                let name = next.name().to_owned();
                if running.succeed(next) {
                    info!("reloaded: {name}");
                } else {
                    warn!("{name}: not reloaded, {BUSY}");
                    file.refused(table);
                }
            }
            if is_same {
                info!("reloaded: nothing has changed in the file");
            }
            if !waiting.is_empty() {
                warn!("wait for a restart: {}", waiting.join(", "));
            }
        }
    }
    tell_manager("READY=1");
}

/// What started and why so, for the person who started it.
fn banner(plan: &Plan) -> String {
    let threads = &plan.threads;
    let mut text = format!("clasp-rt {}\n", env!("CARGO_PKG_VERSION"));
    if !threads.shards.is_empty() {
        let _ = writeln!(text, "shards  {}, {}", threads.shards.len(), plan.cores_why);
    }
    for bridge in threads.bridges.iter().flat_map(|thread| thread.at_work()) {
        let _ = writeln!(text, "bridge  {}, {}", bridge.bridge.name(), uplink(&bridge.uplink));
    }
    for service in &threads.services {
        let _ = writeln!(text, "bridge  {}, {}", service.service.name(), uplink(&service.uplink));
    }
    if let Some(recording) = &threads.recording {
        let folder = recording.reel.folder.display();
        let _ = writeln!(text, "record  {} to {folder}", recording.patterns.join(" "));
    }
    for note in notes(threads) {
        let _ = writeln!(text, "note    {note}");
    }
    let _ = writeln!(text, "idle    {}: {}", threads.idle, plan.idle_why);
    if !threads.shards.is_empty()
        && let Some(costs) = doctor(plan)
    {
        let _ = writeln!(text, "doctor  {costs}");
    }
    let open = threads.shards.first().is_some_and(|shard| shard.settings.grants.is_none());
    if open {
        text.push_str("auth    open: whoever reaches these ports may do anything\n");
    }
    text
}

/// What this process has of the machine's memory at present, and what of it can never be paged out.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name| kib_of(&status, name) * 1024;
    let mut text = format!("{} resident", Size(bytes("VmRSS:")));
    let pages = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let huge = kib_of(&pages, "AnonHugePages:") * 1024;
    if huge > 0 {
        let _ = write!(text, ", {} of it in huge pages", Size(huge));
    }
    // `VmLck` counts what is locked as it is touched, too, and start has touched what it took.
    if bytes("VmLck:") > 0 {
        text.push_str(", locked");
    }
    text
}

/// What makes messages late on the cores of `plan`, in a line, if anything does.
fn doctor(plan: &Plan) -> Option<String> {
    let pinned: Vec<_> = plan.threads.shards.iter().filter_map(|shard| shard.core).collect();
    let cores = if pinned.is_empty() { clasp_rt_ring::thread::cores() } else { pinned };
    Machine { root: Root::real(), cores }.summary()
}

/// Nobody has to read what we say.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A channel of the signals that ask us to end, or to read the file again.
fn hear_signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (heard, signal) = mpsc::channel();
    let hear = move || signals.forever().try_for_each(|signal| heard.send(signal));
    thread::Builder::new().name("signals".to_owned()).spawn(hear)?;
    Ok(signal)
}

fn tell_manager(state: &str) {
    if let Err(why) = notify(state) {
        warn!("the service manager does not hear {state}: {why}");
    }
}

/// Tells systemd, if it asked, in what state the service is: `sd_notify(3)`.
fn notify(state: &str) -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(path) => notify_at(&path, state),
        None => Ok(()),
    }
}

fn notify_at(path: &OsStr, state: &str) -> io::Result<()> {
    // A leading `@` stands for the zero byte of an abstract name.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_hears_over_a_path_and_over_an_abstract_name() {
        let path = env::temp_dir().join(format!("clasp-rt-notify-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).unwrap();
        notify_at(path.as_os_str(), "READY=1").unwrap();
        let mut heard = [0; 16];
        let count = listener.recv(&mut heard).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&heard[..count], b"READY=1");

        let name = format!("clasp-rt-notify-{}", std::process::id());
        let listener =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify_at(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let count = listener.recv(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"STOPPING=1");
    }
}

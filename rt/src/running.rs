//! Starts every thread of a plan, and stops them in the order in which nothing is lost.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use clasp_rt_bridges::Bridge;
use clasp_rt_bridges::bind::{self, Transport};
use clasp_rt_core::shard::{Arbitration, SourceFor};
use clasp_rt_perf::buckets;
use clasp_rt_perf::counters::{self, Reader};
use clasp_rt_ring::{Alarm, Sleeper, alloc, napi, probe, socket, thread};
use clasp_rt_worker::runtime::Stopper;
use clasp_rt_worker::{Door, Stop};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::bridge_thread::{self, BridgeSeed, Hosted, To};
use crate::clock::Clock;
use crate::devices::intervals::{self, Line};
use crate::edge::{Guests, Lull, Parts, Seats};
use crate::gate::{self, Guest};
use crate::peers::{self, Inbounds, Outbound};
use crate::plan_types::{
    BridgePlan, BridgeThreadPlan, Hygiene, ListenerPlan, ListenerTransport, ServicePlan, ShardPlan,
    Threads, Uplink,
};
use crate::port::Port;
use crate::rulings::{self, Rulers, Rulings, Told};
use crate::service_thread::{self, ServiceSeed};
use crate::shard_thread::{self, ShardSeed};
use crate::stages::{self, Stages};
use crate::waiting::{Awake, Idle};

/// Our host did not give what the plan needs. Says which thread or socket, and why.
#[derive(Debug)]
pub struct Fault {
    what: String,
    why: io::Error,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.as_str() {
            "" => write!(f, "{}", self.why),
            what => write!(f, "{what}: {}", self.why),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Whether nothing is wrong: whoever started us wants no more.
    pub fn is_interruption(&self) -> bool {
        self.why.kind() == io::ErrorKind::Interrupted
    }
}

fn fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> Fault {
    let what = what.into();
    move |why| Fault { what, why }
}

/// Threads at work. Dropping it stops them, too.
pub struct Running {
    /// Where connections are accepted, with the ports that were chosen for port 0; each once.
    pub listening: Vec<Listening>,
    /// In the order of their ids.
    pub shards: Vec<Worker>,
    pub bridges: Vec<Worker>,
    /// The DMX lines whose frames are made here.
    pub lines: Vec<Line>,
    /// In the order of `bridges`.
    successors: Vec<Successors>,
    rulers: Rulers,
    pub services: Vec<Worker>,
    /// Where services listen, as URLs with the ports that were chosen for port 0.
    pub served: Vec<String>,
    /// What could not be had but can be done without, for the log.
    pub warnings: Vec<String>,
    seats: Arc<Seats>,
    _awake: Option<Awake>,
}

/// One thread of ours.
pub struct Worker {
    pub name: String,
    /// What it counted, about a second ago at most; by name ([`shard_thread::names`],
    /// [`bridge_thread::names`]).
    pub counters: Reader,
    /// How long messages took there ([`stages::kinds`]), up to the last turn; `None`: not counted.
    pub histograms: Option<buckets::Reader>,
    stop: Arc<AtomicBool>,
    bell: Bell,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// How a thread is called that sleeps.
#[derive(Clone)]
enum Bell {
    Ring(Alarm),
    Service(Stopper),
}

/// Who is on a thread of bridges, by name, and the way of their successors.
type Successors = (Vec<String>, Producer<Box<dyn Bridge>>);

/// How often a thread that has not started yet lets its starter think again.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Opens every socket and starts every thread, or says what is in the way; then nothing runs.
///
/// While a thread takes long, `goes_on` is told its name a few times a second. Once that says
/// `false` the fault is an interruption, and threads that still take their memory are left behind:
/// the program is to end now.
pub fn start(threads: Threads, goes_on: &mut dyn FnMut(&str) -> bool) -> Result<Running, Fault> {
    let mut warnings = Vec::new();
    thread::files_max();
    let awake = stay_awake(threads.idle, &mut warnings);
    let (sockets, listening) = listen(&threads.shards)?;
    let hygiene = granted(threads.hygiene, &sockets, &mut warnings);
    let sleepers: Vec<_> = threads.shards.iter().map(|_| Arc::new(Sleeper::new())).collect();
    let clock = Clock::start();
    let mut ports: Vec<Vec<Port>> = threads.shards.iter().map(|_| Vec::new()).collect();
    let recording = threads.recording.map(|recording| {
        let folder = recording.reel.folder.display().to_string();
        recording.open().map_err(fault(format!("recording to {folder}")))
    });
    let bridges = threads.bridges.into_iter().chain(recording.transpose()?);
    let mut bridges = bridges
        .map(|plan| bridge_seed(plan, &sleepers, &mut ports, threads.exchange_bytes, clock))
        .enumerate()
        .map(|(number, made)| Ok((number, made?)))
        .collect::<Result<Vec<_>, Fault>>()?;
    let shard_count = threads.shards.len();
    let seats = Arc::new(Seats::new(threads.sessions_max));
    let (rulers, rulings) =
        rulings::ways(shard_count, threads.shards.first().map(|shard| &shard.settings));
    let mut running = Running {
        listening,
        shards: Vec::new(),
        bridges: Vec::new(),
        lines: Vec::new(),
        successors: Vec::new(),
        rulers,
        services: Vec::new(),
        served: Vec::new(),
        warnings,
        seats: Arc::clone(&seats),
        _awake: awake,
    };

    let mut gates = Gates::new(shard_count, &threads.services);
    let (joined, bytes) = (sleepers.clone(), threads.exchange_bytes);
    let join = move || alloc::touched(|| peers::join(&joined, bytes));
    let exchanges = made("the exchange between shards", goes_on, join)?;
    let doors = Arc::new(AtomicBool::new(false));
    let common = Common {
        shard_count,
        hygiene,
        guests_max: threads.guests_max,
        idle: threads.idle,
        histograms: threads.histograms,
        seats,
        lull: Arc::new(Lull::new(shard_count as u32)),
        doors: Arc::clone(&doors),
        clock,
    };
    let ends = sockets.into_iter().zip(exchanges).zip(ports).zip(rulings).zip(sleepers);
    let starting = threads.shards.into_iter().zip(ends).map(|(plan, ends)| {
        let ((((listeners, exchange), ports), rulings), sleeper) = ends;
        let queues = gates.queues_of_next_shard();
        common.launch(plan, Ends { listeners, exchange, ports, queues, rulings, sleeper })
    });
    // Each takes its memory on its own thread, all at the same time.
    let starting: Vec<_> = starting.collect();
    running.await_shards(starting, goes_on)?;
    // What is said anywhere meets routes that know of it.
    bridges.sort_by_key(|(_, (seed, _))| seed.turn_to_start());
    for (number, (seed, successors)) in bridges {
        running.launch_bridges(number, seed, successors, hygiene, goes_on)?;
    }
    doors.store(true, Ordering::Release);
    running.shards.iter().for_each(Worker::ring);
    for (number, plan) in threads.services.into_iter().enumerate() {
        running.serve(number, plan, &mut gates, goes_on)?;
    }
    if threads.lock_memory
        && let Err(why) = thread::lock_memory()
    {
        running.warnings.push(format!("memory is not locked: {why}"));
    }
    Ok(running)
}

/// What all shards of a router have in common.
struct Common {
    shard_count: usize,
    hygiene: Hygiene,
    guests_max: u32,
    idle: Idle,
    histograms: bool,
    seats: Arc<Seats>,
    lull: Arc<Lull>,
    /// Open once those inside have begun.
    doors: Arc<AtomicBool>,
    clock: Clock,
}

/// The ends of one shard's ways to everybody else.
struct Ends {
    listeners: Listeners,
    exchange: (Outbound, Inbounds),
    ports: Vec<Port>,
    queues: Vec<Consumer<Guest>>,
    rulings: Rulings,
    sleeper: Arc<Sleeper>,
}

/// A shard that has not said yet whether it can start, and what it will have counted of time.
type StartingShard = Result<(Starting, Option<buckets::Reader>), Fault>;

impl Common {
    fn launch(&self, plan: ShardPlan, ends: Ends) -> StartingShard {
        let ShardPlan { core, settings, .. } = plan;
        let Ends { listeners, exchange: (outbound, inbounds), ports, queues, .. } = ends;
        let name = format!("shard {}", settings.id.0);
        let (counters, reader) = counters::page(shard_thread::names());
        let page = || alloc::touched(|| stages::page(self.shard_count));
        let (page, histograms) = self.histograms.then(page).unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            links: settings.limits.links_max,
            session_timeout: settings.session_timeout,
            outbound,
            inbounds,
            guests: Guests::new(queues, ports.len() as u32, self.guests_max),
            ports,
            rulings: ends.rulings,
            sleeper: ends.sleeper,
            seats: Arc::clone(&self.seats),
            clock: self.clock,
            stages: Stages::new(page, self.clock),
            spin: self.idle.spin(),
            stop: Arc::clone(&stop),
            lull: Arc::clone(&self.lull),
        };
        let hygiene = self.hygiene;
        let doors = Arc::clone(&self.doors);
        let seed = ShardSeed { core, hygiene, settings, listeners, doors, parts, counters };
        let run = move |ready: Ready| shard_thread::run(seed, rung(ready));
        Ok((Starting::launch(name, reader, stop, run)?, histograms))
    }
}

impl Running {
    /// Links that are open and count as sessions.
    pub fn sessions(&self) -> u32 {
        self.seats.taken()
    }

    /// What each shard has counted under `name`, about a second ago at most.
    pub fn of_shards(&self, name: &str) -> impl Iterator<Item = u64> {
        let place = shard_thread::names().iter().position(|known| *known == name);
        self.shards.iter().filter_map(move |shard| Some(shard.counters.load(place?)))
    }

    /// Whether every thread still runs; one that ended by itself has met a fault.
    pub fn is_whole(&self) -> bool {
        let mut workers = self.shards.iter().chain(&self.bridges).chain(&self.services);
        workers.all(|worker| worker.thread.as_ref().is_some_and(|thread| !thread.is_finished()))
    }

    /// Lets `next` go on in the place of the bridge of its name. `false`: nobody of that name runs,
    /// or its thread has not taken the last ones yet.
    pub fn succeed(&mut self, next: Box<dyn Bridge>) -> bool {
        let workers = self.bridges.iter().zip(&mut self.successors);
        let mut there = workers.filter(|(_, (names, _))| names.iter().any(|n| n == next.name()));
        there.next().is_some_and(|(worker, (_, successors))| {
            let told = successors.push(next).is_ok();
            worker.ring();
            told
        })
    }

    /// Lets every shard take over who wins what from now on.
    pub fn rule(&mut self, arbitrations: &[Arbitration], sources: &[SourceFor]) -> Told {
        let Self { rulers, shards, .. } = self;
        rulers.tell(arbitrations, sources, || shards.iter().for_each(Worker::ring))
    }

    /// Stops bridges, so that outputs reach their defined last state, then shards, so that clients
    /// hear a good-bye. Gives the faults of threads that did not end well.
    pub fn stop(mut self) -> Vec<Fault> {
        self.end()
    }

    /// Waits until all shards have started, or says why the first did not that could not.
    fn await_shards(
        &mut self,
        starting: Vec<StartingShard>,
        goes_on: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Fault> {
        let mut first_fault = None;
        for starting in starting {
            let started = starting.and_then(|(starting, histograms)| {
                Ok(Worker { histograms, ..starting.wait(goes_on)? })
            });
            match started {
                Ok(worker) => self.shards.push(worker),
                Err(fault) if fault.is_interruption() => return Err(fault),
                // The others are waited for all the same: only what runs can be stopped.
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        first_fault.map_or(Ok(()), Err)
    }

    /// Starts the thread of some bridges, once all shards run. Its `number` is its place in the
    /// plan, by which counters are looked up.
    fn launch_bridges(
        &mut self,
        number: usize,
        mut seed: BridgeSeed,
        successors: Producer<Box<dyn Bridge>>,
        hygiene: Hygiene,
        goes_on: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Fault> {
        seed.busy_poll = hygiene.busy_poll;
        for hosted in &mut seed.hosted {
            let (pages, counted) = intervals::of(&*hosted.bridge);
            hosted.pages = pages;
            self.lines.extend(counted);
        }
        let names = seed.hosted.iter().map(|hosted| hosted.bridge.name().to_owned());
        self.successors.push((names.collect(), successors));
        let name = format!("bridges {number}");
        let (counters, reader) = counters::page(bridge_thread::names());
        let stop = Arc::clone(&seed.stop);
        let run = move |ready: Ready| bridge_thread::run(seed, counters, rung(ready));
        let started = Starting::launch(name, reader, stop, run)?.wait(goes_on);
        // It says itself which of its bridges it is.
        self.bridges.push(started.map_err(|fault| Fault { what: String::new(), ..fault })?);
        Ok(())
    }

    /// Starts the thread of a service, once all shards run.
    fn serve(
        &mut self,
        number: usize,
        plan: ServicePlan,
        gates: &mut Gates,
        goes_on: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Fault> {
        let ServicePlan { place, core, service, uplink } = plan;
        let door = match uplink {
            Uplink::Remote(remote) => Door::Remote(remote.url()),
            Uplink::Shard(first) => {
                let alarms = self.shards.iter().filter_map(|shard| match &shard.bell {
                    Bell::Ring(alarm) => Some(alarm.clone()),
                    Bell::Service(_) => None,
                });
                let doors = gates.queues_of_next_service().into_iter().zip(alarms).collect();
                Door::Inside(Box::new(gate::Shards::new(doors, first)))
            }
        };
        let (counters, reader) = counters::page(service_thread::names());
        let (stopper, stop) = Stop::new();
        let seed = ServiceSeed { core, service, door, stop };
        let (tell, served) = mpsc::channel();
        let run = move |ready: Ready| {
            service_thread::run(seed, counters, |started| {
                let urls = started.map(|urls| {
                    // `serve` waits for it.
                    let _ = tell.send(urls);
                });
                ready(urls.map(|()| Bell::Service(stopper)));
            })
        };
        let never = Arc::new(AtomicBool::new(false));
        let starting = Starting::launch(format!("service {number}"), reader, never, run)?;
        let started = starting.wait(goes_on);
        self.services.push(started.map_err(|fault| Fault { what: place, ..fault })?);
        self.served.extend(served.try_iter().flatten());
        Ok(())
    }

    fn end(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let outside = [&mut self.services, &mut self.bridges];
        outside.iter().for_each(|workers| workers.iter().for_each(Worker::ask_to_stop));
        for workers in [&mut self.services, &mut self.bridges, &mut self.shards] {
            workers.iter().for_each(Worker::ask_to_stop);
            faults.extend(workers.iter_mut().filter_map(Worker::join));
        }
        faults
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Successors that wait for one thread: two of each kind that can have one.
const SUCCESSORS_MAX: usize = 4;

/// How a thread says that it has started, or why it cannot.
type Ready = Box<dyn FnOnce(io::Result<Bell>) + Send>;

/// The same for a thread with a ring.
fn rung(ready: Ready) -> impl FnOnce(io::Result<Alarm>) {
    |alarm| ready(alarm.map(Bell::Ring))
}

/// The queues of every service to every shard, until both have started.
struct Gates {
    /// For each shard, in the order of the services.
    shards: VecDeque<Vec<Consumer<Guest>>>,
    /// For each service that is inside, in the order of the shards.
    services: VecDeque<Vec<Producer<Guest>>>,
}

impl Gates {
    fn new(shards: usize, services: &[ServicePlan]) -> Self {
        let mut gates =
            Self { shards: (0..shards).map(|_| Vec::new()).collect(), services: VecDeque::new() };
        for _ in services.iter().filter(|plan| matches!(plan.uplink, Uplink::Shard(_))) {
            let ends = gates.shards.iter_mut().map(|inbound| {
                let (producer, consumer) = gate::queue();
                inbound.push(consumer);
                producer
            });
            gates.services.push_back(ends.collect());
        }
        gates
    }

    fn queues_of_next_shard(&mut self) -> Vec<Consumer<Guest>> {
        self.shards.pop_front().unwrap_or_default()
    }

    fn queues_of_next_service(&mut self) -> Vec<Producer<Guest>> {
        self.services.pop_front().unwrap_or_default()
    }
}

/// A thread that has not said yet whether it can start.
struct Starting {
    name: String,
    counters: Reader,
    stop: Arc<AtomicBool>,
    told: mpsc::Receiver<io::Result<Bell>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Starting {
    fn launch(
        name: String,
        counters: Reader,
        stop: Arc<AtomicBool>,
        run: impl FnOnce(Ready) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Fault> {
        let (tell, told) = mpsc::channel();
        let ready: Ready = Box::new(move |bell| {
            // `wait` waits for it, unless it was told to wait no more.
            let _ = tell.send(bell);
        });
        let thread =
            Builder::new().name(name.clone()).spawn(move || run(ready)).map_err(fault(&*name))?;
        Ok(Self { name, counters, stop, told, thread })
    }

    fn wait(self, goes_on: &mut dyn FnMut(&str) -> bool) -> Result<Worker, Fault> {
        let Self { name, counters, stop, told, thread } = self;
        let bell = awaited(&told, &name, goes_on)?.map_err(fault(&*name))?;
        Ok(Worker { name, counters, histograms: None, stop, bell, thread: Some(thread) })
    }
}

/// What `make` gives on a thread of its own, so that a start can be given up meanwhile.
fn made<T: Send + 'static>(
    name: &str,
    goes_on: &mut dyn FnMut(&str) -> bool,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (tell, told) = mpsc::channel();
    let run = move || {
        // Nobody waits for it once the start was given up.
        let _ = tell.send(make());
    };
    Builder::new().name("start".to_owned()).spawn(run).map_err(fault(name))?;
    awaited(&told, name, goes_on)
}

/// What another thread tells, for as long as `goes_on` wants it.
fn awaited<T>(
    told: &mpsc::Receiver<T>,
    name: &str,
    goes_on: &mut dyn FnMut(&str) -> bool,
) -> Result<T, Fault> {
    let why = loop {
        match told.recv_timeout(ASK_EVERY) {
            Ok(it) => return Ok(it),
            Err(RecvTimeoutError::Timeout) if goes_on(name) => {}
            Err(RecvTimeoutError::Timeout) => break io::ErrorKind::Interrupted.into(),
            Err(RecvTimeoutError::Disconnected) => {
                break io::Error::other("ended before it began");
            }
        }
    };
    Err(fault(name)(why))
}

impl Worker {
    fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        match &self.bell {
            Bell::Ring(_) => self.ring(),
            Bell::Service(stopper) => stopper.stop(),
        }
    }

    /// Wakes its thread, where that has a ring.
    fn ring(&self) {
        if let Bell::Ring(alarm) = &self.bell {
            alarm.ring();
        }
    }

    fn join(&mut self) -> Option<Fault> {
        let ended = self.thread.take()?.join();
        let ended = ended.unwrap_or_else(|_| Err(io::Error::other("panicked")));
        ended.err().map(fault(&*self.name))
    }
}

/// Holds the halting of cores off, where the plan says so.
fn stay_awake(idle: Idle, warnings: &mut Vec<String>) -> Option<Awake> {
    if idle != Idle::NoHalt {
        return None;
    }
    let awake = Awake::new();
    awake.map_err(|why| warnings.push(format!("cores are not kept awake: {why}"))).ok()
}

/// What of `wished` the kernel grants; the rest goes to `warnings`.
fn granted(wished: Hygiene, sockets: &[Listeners], warnings: &mut Vec<String>) -> Hygiene {
    let fifo_priority = wished.fifo_priority.filter(|priority| {
        let priority = *priority;
        let tried = std::thread::spawn(move || thread::run_first(priority)).join();
        let tried = tried.unwrap_or_else(|_| Err(io::Error::other("the attempt panicked")));
        tried.map_err(|why| warnings.push(format!("fifo_priority is not granted: {why}"))).is_ok()
    });
    let busy_poll = wished.busy_poll.filter(|_| {
        let polls = probe::polls();
        polls.map_err(|why| warnings.push(format!("busy_poll does nothing: {why}"))).is_ok()
    });
    if let Some(limit) = busy_poll {
        let mut sockets = sockets.iter().flatten();
        if let Err(why) = sockets.try_for_each(|(socket, _)| napi::poll_socket(socket, limit)) {
            warnings.push(format!("busy_poll: receives do not poll, only sleeps do: {why}"));
        }
    }
    Hygiene { fifo_priority, busy_poll }
}

/// Connects the bridges of one thread to their shards.
fn bridge_seed(
    plan: BridgeThreadPlan,
    sleepers: &[Arc<Sleeper>],
    ports: &mut [Vec<Port>],
    exchange_bytes: usize,
    clock: Clock,
) -> Result<(BridgeSeed, Producer<Box<dyn Bridge>>), Fault> {
    let sleeper = Arc::new(Sleeper::new());
    let mut hosted = Vec::with_capacity(plan.bridges.len());
    for BridgePlan { place, bridge, uplink } in plan.bridges {
        let to = match uplink {
            Uplink::Remote(remote) => To::Remote(remote),
            Uplink::Shard(shard) => {
                let (Some(far), Some(ports)) = (sleepers.get(shard), ports.get_mut(shard)) else {
                    let why = format!("there are {} shards", sleepers.len());
                    let what = format!("{} joins shard {shard}", bridge.name());
                    return Err(fault(what)(io::Error::new(io::ErrorKind::InvalidInput, why)));
                };
                let (near_end, far_end) =
                    alloc::touched(|| Port::pair(exchange_bytes, &sleeper, far));
                ports.push(far_end);
                To::Port(near_end)
            }
        };
        hosted.push(Hosted { bridge, place, pages: Vec::new(), to });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, successors) = RingBuffer::new(SUCCESSORS_MAX);
    let core = plan.core;
    let seed = BridgeSeed { core, busy_poll: None, hosted, successors, sleeper, clock, stop };
    Ok((seed, tell))
}

/// Where connections are accepted.
pub type Listening = (ListenerTransport, SocketAddr);

/// Sockets of one shard.
type Listeners = Vec<(OwnedFd, ListenerTransport)>;

/// Opens what every shard listens on. Shards that plan the same address get sockets of the same
/// port.
fn listen(shards: &[ShardPlan]) -> Result<(Vec<Listeners>, Vec<Listening>), Fault> {
    let mut chosen: HashMap<(ListenerTransport, SocketAddr), SocketAddr> = HashMap::new();
    let mut listening = Vec::new();
    let mut sockets = Vec::with_capacity(shards.len());
    for shard in shards {
        let mut listeners = Vec::with_capacity(shard.listeners.len());
        for &ListenerPlan { transport, addr } in &shard.listeners {
            let known = chosen.get(&(transport, addr)).copied();
            let free = if known.is_none() { socket::check_free(addr) } else { Ok(()) };
            let socket = free.and_then(|()| socket::listener(known.unwrap_or(addr)));
            let bound = socket.and_then(|socket| {
                let bound = socket::address(&socket)?;
                listeners.push((socket, transport));
                Ok(bound)
            });
            let bound = bound.map_err(|why| bind::explained(Transport::Tcp, addr, why));
            let bound = bound.map_err(fault(format!("cannot listen on {addr}")))?;
            if known.is_none() {
                chosen.insert((transport, addr), bound);
                listening.push((transport, bound));
            }
        }
        sockets.push(listeners);
    }
    Ok((sockets, listening))
}

#[cfg(test)]
mod tests;

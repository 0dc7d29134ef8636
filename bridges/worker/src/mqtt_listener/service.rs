//! The service: a port, and a task for each session that carries bytes to its machine and back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clasp_rt_core::time::Time;
use clasp_rt_core::wire::list::Features;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::carrier::{Carrier, Duplex};
use super::config::Plan;
use super::groups::Groups;
use super::names::{Entry, Names, Place, Visit};
use super::session::{Counts, Input, Join, Out, Session};
use super::wire::Reason;
use crate::router::ALL_WITHOUT_ECHO;
use crate::web::serve::no_port;
use crate::{Context, Hearer, JoinError, Running, Service, Speaker, Who};

/// A client that takes nothing for so long, or does not finish a handshake, is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a connection could not be accepted, for want of files perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that have not said who they are, beside those that have.
const STRANGERS_MAX: u32 = 64;

/// A port for MQTT clients.
pub struct Listener {
    plan: Plan,
    socket: Option<TcpListener>,
}

impl Listener {
    pub fn new(plan: Plan) -> Self {
        Self { plan, socket: None }
    }
}

impl Service for Listener {
    fn name(&self) -> &str {
        "mqtt-listener"
    }

    fn sessions_max(&self) -> u32 {
        self.plan.clients_max
    }

    fn listens(&self) -> Option<SocketAddr> {
        Some(self.plan.bind)
    }

    fn bind(&mut self) -> io::Result<Vec<String>> {
        let bind = self.plan.bind;
        let socket = std::net::TcpListener::bind(bind).map_err(|why| no_port(bind, why))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.socket = Some(TcpListener::from_std(socket)?);
        let [plain, web] = match self.plan.tls {
            Some(_) => ["mqtts", "wss+mqtt"],
            None => ["mqtt", "ws+mqtt"],
        };
        Ok(vec![format!("{plain}://{address}"), format!("{web}://{address}/mqtt")])
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(serve(self.plan, self.socket, context))
    }
}

/// What the tasks of all clients share.
struct Shared {
    plan: Plan,
    context: Context,
    start: Instant,
    groups: RefCell<Groups>,
    names: Rc<Names>,
    /// Tasks at work.
    clients: Cell<u32>,
}

impl Shared {
    fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }

    fn instant(&self, time: Time) -> Instant {
        self.start + Duration::from_nanos(time.0)
    }
}

async fn serve(plan: Plan, socket: Option<TcpListener>, context: Context) -> io::Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let stop = context.stop.clone();
    let shared = Rc::new(Shared {
        names: Rc::new(Names::new(plan.clients_max)),
        plan,
        context,
        start: Instant::now(),
        groups: RefCell::default(),
        clients: Cell::new(0),
    });
    let tasks_max = shared.plan.clients_max + STRANGERS_MAX;
    let mut tasks = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = tasks.join_next(), if !tasks.is_empty() => continue,
            () = stop.wait() => break,
        };
        match accepted {
            Ok((stream, _)) if shared.clients.get() >= tasks_max => {
                shared.context.counters.refused.add(1);
                drop(stream);
            }
            Ok((stream, from)) => {
                number += 1;
                shared.clients.set(shared.clients.get() + 1);
                let shared = Rc::clone(&shared);
                tasks.spawn_local(async move {
                    if let Err(why) = welcome(stream, &shared, number).await {
                        info!("mqtt-listener: {from}: {why}");
                    }
                    shared.clients.set(shared.clients.get() - 1);
                });
            }
            Err(why) => {
                warn!("mqtt-listener cannot accept: {why}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Each is told why, and its will is said.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn welcome(stream: TcpStream, shared: &Rc<Shared>, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let accepting = async {
        let stream: Box<dyn Duplex> = match &shared.plan.tls {
            None => Box::new(stream),
            Some(config) => Box::new(TlsAcceptor::from(config.clone()).accept(stream).await?),
        };
        Carrier::accept(stream, &shared.plan.origins).await
    };
    let stop = shared.context.stop.clone();
    let carrier = tokio::select! {
        accepted = timeout(PATIENCE, accepting) => {
            accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        }
        () = stop.wait() => return Ok(()),
    };
    Keeper::new(carrier, shared, number).run().await
}

/// Who keeps a session, with a connection or without.
struct Keeper {
    carrier: Option<Carrier>,
    shared: Rc<Shared>,
    number: u64,
    session: Session,
    counted: Counts,
    out: Out,
    speaker: Option<Speaker>,
    hearer: Option<Hearer>,
    name: String,
    entry: Option<Rc<Entry>>,
    place: Option<Place>,
    visits: mpsc::UnboundedReceiver<Visit>,
    visit: mpsc::UnboundedSender<Visit>,
    /// Why the last connection ended, if that was not as it should be.
    ended: io::Result<()>,
}

impl Keeper {
    fn new(carrier: Carrier, shared: &Rc<Shared>, number: u64) -> Self {
        let (visit, visits) = mpsc::unbounded_channel();
        Self {
            carrier: Some(carrier),
            shared: Rc::clone(shared),
            number,
            session: Session::new(shared.plan.settings.clone(), number, shared.now()),
            counted: Counts::default(),
            out: Out::default(),
            speaker: None,
            hearer: None,
            name: String::new(),
            entry: None,
            place: None,
            visits,
            visit,
            ended: Ok(()),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while !self.session.has_ended() {
            self.turn(&mut bytes).await;
            self.carry_out().await;
            if self.out.join.is_some() {
                let Some(keeper) = self.enter().await else { return Ok(()) };
                self = keeper;
            }
        }
        self.shared.names.forget(&self.name, self.number);
        self.close().await;
        if let Some(speaker) = self.speaker.take() {
            let _ = speaker.leave().await;
        }
        drop(self.place);
        self.ended
    }

    /// Waits until something happens, and lets the machine know.
    async fn turn(&mut self, bytes: &mut Vec<u8>) {
        let stop = self.shared.context.stop.clone();
        let Self { carrier, shared, session, out, hearer, visits, ended, .. } = self;
        let deadline = session.deadline().map(|due| shared.instant(due));
        bytes.clear();
        let reads = session.reads() && carrier.is_some();
        let hears = session.hears();
        let input = tokio::select! {
            read = read(carrier, bytes), if reads => match read {
                Ok(true) => Input::Bytes(bytes),
                Ok(false) => Input::Closed,
                Err(why) => {
                    *ended = Err(why);
                    Input::Closed
                }
            },
            heard = hear(hearer), if hears => match heard {
                Some(heard) => Input::Router(heard.message),
                None => Input::RouterGone(match hearer {
                    Some(hearer) if hearer.has_expired() => Reason::Expired,
                    _ => Reason::Unavailable,
                }),
            },
            Some(visit) = visits.recv() => match visit {
                Visit::Replaced => Input::Replaced,
                Visit::Return(carrier, newcomer) => return self.resume(carrier, newcomer).await,
            },
            () = stop.wait() => Input::Stop,
            () = until(deadline) => Input::Deadline,
        };
        session.step(shared.now(), input, &mut shared.groups.borrow_mut(), out);
        self.note();
    }

    fn step(&mut self, input: Input<'_>) {
        let Self { shared, session, out, .. } = self;
        session.step(shared.now(), input, &mut shared.groups.borrow_mut(), out);
        self.note();
    }

    /// Lets others know what became of the session.
    fn note(&mut self) {
        if let Some(complaint) = self.out.complaint.take() {
            let name = &self.name;
            warn!("mqtt-listener: {name}: {complaint}; what follows is only counted");
        }
        let Some(entry) = &self.entry else { return };
        entry.keeps.set(self.session.keeps());
        let is_away = self.session.keeps() && (self.carrier.is_none() || self.out.close);
        let since = entry.away.get().unwrap_or_else(|| self.shared.now());
        entry.away.set(is_away.then_some(since));
    }

    /// Another connection for this session.
    async fn resume(&mut self, carrier: Carrier, newcomer: super::session::Newcomer) {
        if self.carrier.is_some() {
            self.step(Input::TakenOver);
            self.carry_out().await;
        }
        self.carrier = Some(carrier);
        let Self { shared, session, out, .. } = self;
        session.resume(shared.now(), newcomer, &mut shared.groups.borrow_mut(), out);
        self.note();
    }

    /// Does what the machine decided: the router first, then the client.
    async fn carry_out(&mut self) {
        self.count();
        if self.say().await.is_err() {
            // The hearer says so, too.
            self.out.frames.clear();
        }
        let packets = self.out.packets.split().freeze();
        if !packets.is_empty()
            && let Some(carrier) = &mut self.carrier
        {
            let late = |_| io::Error::other("takes nothing");
            let written = timeout(PATIENCE, carrier.write(packets)).await.map_err(late);
            if let Err(why) = written.and_then(|written| written) {
                self.ended = Err(why);
                self.carrier = None;
                self.step(Input::Closed);
                let _ = self.say().await;
            }
        }
        if std::mem::take(&mut self.out.close) {
            self.close().await;
        }
        self.count();
    }

    async fn close(&mut self) {
        if let Some(mut carrier) = self.carrier.take() {
            let _ = timeout(PATIENCE, carrier.close()).await;
        }
        if self.session.keeps() {
            // What ended a connection did not end the session.
            self.ended = Ok(());
        }
    }

    async fn say(&mut self) -> io::Result<()> {
        let frames = std::mem::take(&mut self.out.frames);
        let Some(speaker) = &mut self.speaker else { return Ok(()) };
        for frame in &frames {
            speaker.say_frame(frame).await?;
        }
        Ok(())
    }

    /// Joins the router, or hands the connection to the session that it is for; then there is
    /// nothing left to keep here.
    async fn enter(mut self) -> Option<Self> {
        let Some(Join { client_id, token, clean }) = self.out.join.take() else {
            return Some(self);
        };
        let shared = Rc::clone(&self.shared);
        let kept = shared.names.kept(&client_id, token.as_deref()).filter(|_| !clean);
        if let Some(entry) = kept {
            let Self { carrier, session, .. } = self;
            if let (Some(carrier), Some(newcomer)) = (carrier, session.into_newcomer()) {
                // One that ended this moment lets the client try again.
                entry.send(Visit::Return(carrier, newcomer));
            }
            return None;
        }
        let place = timeout(PATIENCE, shared.names.place()).await;
        let Ok(Some(place)) = place else {
            shared.context.counters.refused.add(1);
            self.step(Input::Refused(Reason::Unavailable));
            self.carry_out().await;
            return Some(self);
        };
        let features = ALL_WITHOUT_ECHO | Features::ASKED_ONLY;
        let who = Who { features, ..Who::client(&client_id, token.clone()) };
        match shared.context.router.join(&who).await {
            Ok((speaker, hearer)) => {
                (self.speaker, self.hearer) = (Some(speaker), Some(hearer));
                self.place = Some(place);
                let visit = self.visit.clone();
                let token = token.as_deref();
                self.entry = Some(shared.names.take(&client_id, token, self.number, visit));
                self.name = client_id;
                self.step(Input::Joined);
            }
            Err(why) => {
                shared.context.counters.refused.add(1);
                let reason = match &why {
                    JoinError::Refused { code: 300..=302, .. } => Reason::NotAuthorized,
                    _ => Reason::Unavailable,
                };
                info!("mqtt-listener: {client_id} cannot join the router: {why}");
                self.step(Input::Refused(reason));
            }
        }
        self.carry_out().await;
        Some(self)
    }

    fn count(&mut self) {
        let (now, before) = (self.session.counts, self.counted);
        let counters = &self.shared.context.counters;
        counters.packets_in.add(now.packets_in - before.packets_in);
        counters.packets_out.add(now.packets_out - before.packets_out);
        counters.malformed.add(now.malformed - before.malformed);
        counters.refused.add(now.refused - before.refused);
        counters.overflowed.add(now.overflowed - before.overflowed);
        self.counted = now;
    }
}

async fn read(carrier: &mut Option<Carrier>, bytes: &mut Vec<u8>) -> io::Result<bool> {
    match carrier {
        Some(carrier) => carrier.read(bytes).await,
        None => std::future::pending().await,
    }
}

async fn hear(hearer: &mut Option<Hearer>) -> Option<crate::Heard<'_>> {
    match hearer {
        Some(hearer) => hearer.next().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! The service: a port, and a task for each client that carries bytes to its machine and back.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use clasp_rt_core::time::Time;
use clasp_rt_core::wire::list::Features;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::config::Plan;
use super::groups::Groups;
use super::session::{Counts, Input, Join, Out, Session};
use super::wire::Reason;
use crate::router::ALL_WITHOUT_ECHO;
use crate::{Context, Hearer, JoinError, Running, Service, Speaker, Who};

/// A client that takes nothing for so long, or does not finish the handshake of TLS, is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a connection could not be accepted, for want of files perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const READ_BYTES: usize = 16 << 10;

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

    fn bind(&mut self) -> io::Result<Vec<String>> {
        let bind = self.plan.bind;
        let named = |why: io::Error| io::Error::new(why.kind(), format!("{bind}: {why}"));
        let socket = std::net::TcpListener::bind(bind).map_err(named)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.socket = Some(TcpListener::from_std(socket)?);
        let scheme = if self.plan.tls.is_some() { "mqtts" } else { "mqtt" };
        Ok(vec![format!("{scheme}://{address}")])
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
    /// Who has a name, so that a newer one can take its place.
    names: RefCell<HashMap<String, (u64, Rc<Notify>)>>,
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
        plan,
        context,
        start: Instant::now(),
        groups: RefCell::default(),
        names: RefCell::default(),
        clients: Cell::new(0),
    });
    let mut tasks = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = tasks.join_next(), if !tasks.is_empty() => continue,
            () = stop.wait() => break,
        };
        match accepted {
            Ok((stream, _)) if shared.clients.get() >= shared.plan.clients_max => {
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
    match &shared.plan.tls {
        None => Client::new(stream, shared, number).run().await,
        Some(config) => {
            let accepting = TlsAcceptor::from(config.clone()).accept(stream);
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let stream = timeout(PATIENCE, accepting).await.map_err(late)??;
            Client::new(stream, shared, number).run().await
        }
    }
}

struct Client<S> {
    stream: S,
    shared: Rc<Shared>,
    number: u64,
    session: Session,
    counted: Counts,
    out: Out,
    speaker: Option<Speaker>,
    hearer: Option<Hearer>,
    name: Option<String>,
    replaced: Rc<Notify>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S, shared: &Rc<Shared>, number: u64) -> Self {
        Self {
            stream,
            shared: Rc::clone(shared),
            number,
            session: Session::new(shared.plan.settings.clone(), number, shared.now()),
            counted: Counts::default(),
            out: Out::default(),
            speaker: None,
            hearer: None,
            name: None,
            replaced: Rc::default(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let served = self.carry().await;
        // Whatever ended it, the machine hears of it, and its last frames are said.
        self.step(Input::Closed);
        let _ = self.say().await;
        self.forget_name();
        let _ = timeout(PATIENCE, self.stream.shutdown()).await;
        if let Some(speaker) = self.speaker.take() {
            let _ = speaker.leave().await;
        }
        served
    }

    async fn carry(&mut self) -> io::Result<()> {
        let mut piece = vec![0; READ_BYTES];
        let stop = self.shared.context.stop.clone();
        loop {
            let Self { stream, shared, session, out, hearer, replaced, .. } = self;
            let deadline = session.deadline().map(|due| shared.instant(due));
            let (mut reader, _) = split(stream);
            let now = || shared.now();
            tokio::select! {
                read = reader.read(&mut piece), if session.reads() => {
                    let count = read?;
                    let bytes = piece.get(..count).unwrap_or_default();
                    let input = if count == 0 { Input::Closed } else { Input::Bytes(bytes) };
                    session.step(now(), input, &mut shared.groups.borrow_mut(), out);
                }
                heard = hear(hearer) => {
                    let input = match heard {
                        Some(heard) => Input::Router(heard.message),
                        None => Input::RouterGone,
                    };
                    session.step(now(), input, &mut shared.groups.borrow_mut(), out);
                }
                () = replaced.notified() => {
                    session.step(now(), Input::TakenOver, &mut shared.groups.borrow_mut(), out);
                }
                () = stop.wait() => {
                    session.step(now(), Input::Stop, &mut shared.groups.borrow_mut(), out);
                }
                () = until(deadline) => {
                    session.step(now(), Input::Deadline, &mut shared.groups.borrow_mut(), out);
                }
            }
            self.carry_out().await?;
            if self.session.has_ended() {
                return Ok(());
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let Self { shared, session, out, .. } = self;
        session.step(shared.now(), input, &mut shared.groups.borrow_mut(), out);
    }

    /// Does what the machine decided: joins, then the router, then the client.
    async fn carry_out(&mut self) -> io::Result<()> {
        self.count();
        if let Some(join) = self.out.join.take() {
            self.join(join).await;
        }
        self.say().await?;
        self.count();
        if !self.out.packets.is_empty() {
            let packets = self.out.packets.split();
            let written = timeout(PATIENCE, self.stream.write_all(&packets)).await;
            written.map_err(|_| io::Error::other("takes nothing"))??;
            timeout(PATIENCE, self.stream.flush())
                .await
                .map_err(|_| io::Error::other("takes nothing"))??;
        }
        Ok(())
    }

    async fn say(&mut self) -> io::Result<()> {
        let frames = std::mem::take(&mut self.out.frames);
        let Some(speaker) = &mut self.speaker else { return Ok(()) };
        for frame in &frames {
            speaker.say_frame(frame).await?;
        }
        Ok(())
    }

    async fn join(&mut self, join: Join) {
        let Join { client_id, token } = join;
        let features = ALL_WITHOUT_ECHO | Features::ASKED_ONLY;
        let who = Who { features, ..Who::client(&client_id, token) };
        match self.shared.context.router.join(&who).await {
            Ok((speaker, hearer)) => {
                (self.speaker, self.hearer) = (Some(speaker), Some(hearer));
                self.take_name(client_id);
                self.step(Input::Joined);
            }
            Err(why) => {
                self.shared.context.counters.refused.add(1);
                let reason = match &why {
                    JoinError::Refused { code: 300..=302, .. } => Reason::NotAuthorized,
                    _ => Reason::Unavailable,
                };
                info!("mqtt-listener: {client_id} cannot join the router: {why}");
                self.step(Input::Refused(reason));
            }
        }
    }

    /// Who had the name before is told to go.
    fn take_name(&mut self, name: String) {
        let mine = (self.number, Rc::clone(&self.replaced));
        let before = self.shared.names.borrow_mut().insert(name.clone(), mine);
        if let Some((_, replaced)) = before {
            replaced.notify_one();
        }
        self.name = Some(name);
    }

    fn forget_name(&mut self) {
        let Some(name) = self.name.take() else { return };
        let mut names = self.shared.names.borrow_mut();
        if names.get(&name).is_some_and(|(number, _)| *number == self.number) {
            names.remove(&name);
        }
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

//! The router as a service sees it: something that sessions join.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clasp_rt_client::{Backoff, Scheme, Url, random};
use clasp_rt_core::error::code;
use clasp_rt_core::wire::list::Features;
use clasp_rt_link::AnyTransport;
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::line::{Line, Socket};
use crate::session::greet;
use crate::{AtomicCounters, Hearer, Speaker, Stop};

/// A router that does not answer for so long is not there.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a session needs to hear all that is said, and its own SETs not.
pub const ALL_WITHOUT_ECHO: u8 = Features::PARAM
    | Features::EVENT
    | Features::STREAM
    | Features::GESTURE
    | Features::TIMELINE
    | Features::NO_ECHO;

/// How the router is reached.
pub enum Door {
    /// It is in this process.
    Inside(Box<dyn Gate>),
    /// It is elsewhere.
    Remote(Url),
}

/// The way into a router of the same process.
pub trait Gate: Send {
    /// One end of a pair whose other end a shard takes as a link, its packets behind their length.
    ///
    /// A `trusted` link needs no token and has no rate limit; any other is a stranger's, and counts
    /// among the router's sessions. Fails with [`io::ErrorKind::WouldBlock`] when a shard has not
    /// taken those before.
    fn open(&mut self, trusted: bool) -> io::Result<UnixStream>;
}

/// Joins sessions to the router. Cloned freely.
#[derive(Clone)]
pub struct Router {
    door: Arc<Mutex<Door>>,
    counters: Arc<AtomicCounters>,
}

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Shown to others as the name of the session.
    pub name: String,
    /// What a router in authenticated mode asks of strangers, and of everybody from elsewhere.
    pub token: Option<String>,
    /// The service itself, as opposed to a client of it. Only a router in this process believes it.
    pub trusted: bool,
    /// [`Features`]; [`ALL_WITHOUT_ECHO`] is what most want.
    pub features: u8,
}

/// Why there is no session.
#[derive(Debug)]
pub enum JoinError {
    /// Nothing answers there.
    Unreachable(io::Error),
    /// The router said no, with a CLASP code: 300 and 301 for tokens, 501 when it is full.
    Refused { code: u16, message: String },
    /// The connection ended before the router answered.
    Lost(io::Error),
    /// The router did not answer in time.
    TimedOut,
}

impl Who {
    /// The service itself: trusted where the router is in this process.
    pub fn service(name: &str, token: Option<String>) -> Self {
        Self { name: name.to_owned(), token, trusted: true, features: ALL_WITHOUT_ECHO }
    }

    /// A client of the service, which brings its own token.
    pub fn client(name: &str, token: Option<String>) -> Self {
        Self { name: name.to_owned(), token, trusted: false, features: ALL_WITHOUT_ECHO }
    }
}

impl Router {
    pub fn new(door: Door, counters: Arc<AtomicCounters>) -> Self {
        Self { door: Arc::new(Mutex::new(door)), counters }
    }

    /// Whether the router is in this process.
    pub fn is_inside(&self) -> bool {
        matches!(*self.door.lock().unwrap_or_else(PoisonError::into_inner), Door::Inside(_))
    }

    /// Joins once, in 10 seconds at most.
    pub async fn join(&self, who: &Who) -> Result<(Speaker, Hearer), JoinError> {
        let joining = async {
            let (line, is_remote) = self.open(who.trusted).await?;
            greet(line, who, Arc::clone(&self.counters), is_remote).await
        };
        timeout(JOIN_TIMEOUT, joining).await.unwrap_or(Err(JoinError::TimedOut))
    }

    /// Joins, and tries again with growing pauses until it succeeds; `None` when `stop` came first.
    /// For the service's own session, which is of no use without a router.
    pub async fn join_for_sure(&self, who: &Who, stop: &Stop) -> Option<(Speaker, Hearer)> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random());
        let mut told = false;
        loop {
            let joined = tokio::select! {
                joined = self.join(who) => joined,
                () = stop.wait() => return None,
            };
            match joined {
                Ok(session) => {
                    info!("{} joined the router", who.name);
                    return Some(session);
                }
                Err(why) if !told => {
                    warn!("{} cannot join the router: {why}", who.name);
                    told = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                () = stop.wait() => return None,
            }
        }
    }

    /// Says in the log whether a router elsewhere is there, for a service whose clients have
    /// sessions of their own: it would be noticed when the first of them comes. Goes on until it is
    /// there.
    pub async fn look(&self, name: &str, token: Option<String>, stop: &Stop) {
        if self.is_inside() {
            return;
        }
        let who = Who::service(name, token);
        let joined = tokio::select! {
            joined = self.join(&who) => joined,
            () = stop.wait() => return,
        };
        let session = match joined {
            Ok(session) => {
                info!("{name} joined the router");
                Some(session)
            }
            Err(JoinError::Refused { code: code::UNAUTHORIZED, .. }) if who.token.is_none() => {
                return info!("{name}: the router is there, and wants a token of each client");
            }
            Err(_) => self.join_for_sure(&who, stop).await,
        };
        if let Some((speaker, _)) = session {
            let _ = speaker.leave().await;
        }
    }

    async fn open(&self, trusted: bool) -> Result<(Line, bool), JoinError> {
        let url = match &mut *self.door.lock().unwrap_or_else(PoisonError::into_inner) {
            Door::Inside(gate) => {
                let line = inside(gate.open(trusted)).map_err(JoinError::Unreachable)?;
                return Ok((line, false));
            }
            Door::Remote(url) => url.clone(),
        };
        Ok((elsewhere(&url).await.map_err(JoinError::Unreachable)?, true))
    }
}

fn inside(opened: io::Result<UnixStream>) -> io::Result<Line> {
    let socket = opened?;
    socket.set_nonblocking(true)?;
    let socket = Socket::Unix(tokio::net::UnixStream::from_std(socket)?);
    Ok(Line::new(socket, AnyTransport::Stream(Stream::new()), Vec::new()))
}

async fn elsewhere(url: &Url) -> io::Result<Line> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let transport = match url.scheme {
        Scheme::Tcp => AnyTransport::Stream(Stream::new()),
        Scheme::Ws => {
            let ws = Ws::client(&url.host_and_port(), &url.path, random(), &mut request);
            let impossible = || io::Error::new(io::ErrorKind::InvalidInput, "no such path");
            AnyTransport::Ws(ws.ok_or_else(impossible)?)
        }
    };
    Ok(Line::new(Socket::Tcp(stream), transport, request))
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Refused { code, message } => write!(f, "it refused, {code}: {message}"),
            Self::Lost(why) => write!(f, "the connection ended: {why}"),
            Self::TimedOut => f.write_str("it did not answer in time"),
        }
    }
}

impl std::error::Error for JoinError {}

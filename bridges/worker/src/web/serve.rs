//! The port of a service: connections counted, with TLS or without; and HTTP on it, its headers
//! bounded in bytes and time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use clasp_rt_bridges::ConfigError;
use clasp_rt_bridges::bind::{Transport, explained};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::either::Either;
use tower_service::Service;
use tracing::debug;

use crate::Stop;
use crate::tls::TlsFiles;

/// Bytes of a request line and its headers.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// A client that has not said its headers by then, or has not finished the handshake of TLS, is
/// sent away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps while all places are taken.
const BACKLOG: u32 = 128;
/// After a connection could not be accepted: of files, or of memory, there is none left, and
/// others may end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a service listens, before and after it does.
pub struct Entrance {
    bind: SocketAddr,
    tls: Option<TlsAcceptor>,
    listener: Option<TcpListener>,
}

/// A connection, with TLS or without, whoever began it.
pub type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// The place of a connection among those that there may be.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    peer: Arc<Peer>,
}

impl Place {
    /// What says that this peer is one that wants something, as it has shown.
    pub fn voice(&self) -> Voice {
        Voice(Arc::clone(&self.peer))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.voice().speaks();
    }
}

/// Keeps the place of a peer that has said something whole; see [`Silent`].
#[derive(Clone)]
pub struct Voice(Arc<Peer>);

impl Voice {
    pub fn speaks(&self) {
        self.0.is_silent.store(false, Ordering::Relaxed);
    }
}

struct Peer {
    /// It holds a place and has said nothing whole: no handshake, no request.
    is_silent: AtomicBool,
    /// Another one needs its place.
    leaves: Notify,
}

/// Those that hold a place and have said nothing whole, in the order in which they came. Where all
/// places are taken, the oldest of them makes room, so that peers that only hold places keep nobody
/// out.
struct Silent {
    peers: VecDeque<Arc<Peer>>,
    peers_max: usize,
}

impl Silent {
    fn add(&mut self) -> Arc<Peer> {
        if self.peers.len() >= self.peers_max {
            // What is left holds places, of which there are half as many at most.
            self.peers.retain(|peer| peer.is_silent.load(Ordering::Relaxed));
        }
        let peer = Arc::new(Peer { is_silent: AtomicBool::new(true), leaves: Notify::new() });
        self.peers.push_back(Arc::clone(&peer));
        peer
    }

    /// Sends the oldest one away.
    fn make_room(&mut self) {
        while let Some(peer) = self.peers.pop_front() {
            if peer.is_silent.load(Ordering::Relaxed) {
                return peer.leaves.notify_one();
            }
        }
    }
}

/// A stream that keeps its place for as long as it lasts: also when it has become a WebSocket, and
/// HTTP is done with it.
struct Placed {
    stream: Stream,
    _place: Place,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, bytes)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A port that cannot be had, with what would be right.
pub fn no_port(bind: SocketAddr, why: io::Error) -> io::Error {
    let why = explained(Transport::Tcp, bind, why);
    io::Error::new(why.kind(), format!("cannot listen on {bind}: {why}"))
}

impl Entrance {
    /// Reads the certificates, and touches no port.
    pub fn new(bind: SocketAddr, tls: Option<&TlsFiles>) -> Result<Self, ConfigError> {
        let tls = tls.map(TlsFiles::server).transpose()?;
        Ok(Self { bind, tls: tls.map(TlsAcceptor::from), listener: None })
    }

    pub fn at(&self) -> SocketAddr {
        self.bind
    }

    /// Opens the port, inside the runtime. Gives its URL; of the schemes the second means TLS.
    pub fn open(&mut self, [plain, secure]: [&str; 2]) -> io::Result<Vec<String>> {
        let bind = self.bind;
        let open = || {
            let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(bind)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = open().map_err(|why| no_port(bind, why))?;
        self.listener = Some(listener);
        let scheme = if self.tls.is_some() { secure } else { plain };
        Ok(vec![format!("{scheme}://{address}")])
    }

    /// Has `talk` with whoever comes until `stop` resolves, and gives the talks that go on then.
    /// Beyond `connections_max` the next wait until a place is dropped.
    pub async fn each<T, F>(
        self,
        connections_max: usize,
        stop: &Stop,
        talk: F,
    ) -> io::Result<JoinSet<()>>
    where
        T: Future<Output = ()> + Send,
        F: FnOnce(Stream, Place) -> T + Clone + Send + 'static,
    {
        let listener = self.listener.ok_or_else(|| io::Error::other("it does not listen"))?;
        let places = Arc::new(Semaphore::new(connections_max));
        let mut silent =
            Silent { peers: VecDeque::new(), peers_max: connections_max.saturating_mul(2) };
        let mut talks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.wait() => return Ok(talks),
                accepted = accept(&listener, &places, &mut silent) => accepted,
            };
            while talks.try_join_next().is_some() {}
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(why) => {
                    debug!("accept: {why}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let (talk, tls) = (talk.clone(), self.tls.clone());
            let peer = silent.add();
            let place = Place { _permit: permit, peer: Arc::clone(&peer) };
            talks.spawn(async move {
                let talked = async {
                    match shake(stream, tls).await {
                        Ok(stream) => talk(stream, place).await,
                        Err(why) => debug!("tls: {why}"),
                    }
                };
                tokio::select! {
                    () = talked => {}
                    () = peer.leaves.notified() => debug!("a silent peer made room"),
                }
            });
        }
    }
}

/// The next who comes, and a place, if need be that of one who is silent.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    silent: &mut Silent,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let (stream, _) = listener.accept().await?;
    if places.available_permits() == 0 {
        silent.make_room();
    }
    let permit = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((stream, permit))
}

async fn shake(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Stream> {
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let shaken = timeout(PATIENCE, tls.accept(stream)).await;
    let shaken = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    Ok(Either::Right(shaken?.into()))
}

/// A service whose peer has spoken with its first whole request.
#[derive(Clone)]
struct Voiced<S> {
    voice: Voice,
    service: S,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Voiced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> S::Future {
        self.voice.speaks();
        self.service.call(request)
    }
}

/// Serves HTTP until `stop` resolves; then every connection is closed. Beyond `connections_max`
/// the next wait until one ends, those included that have become WebSockets.
pub async fn serve<S>(
    entrance: Entrance,
    service: S,
    connections_max: usize,
    stop: &Stop,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let talk = |stream, place: Place| async move {
        let service = Voiced { voice: place.voice(), service };
        let stream = Placed { stream, _place: place };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEADER_BYTES_MAX);
        let service = TowerToHyperService::new(service);
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(why) = connection.await {
            debug!("http: {why}");
        }
    };
    entrance.each(connections_max, stop, talk).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_peer_makes_room_and_one_that_spoke_does_not() {
        let places = Arc::new(Semaphore::new(3));
        let mut silent = Silent { peers: VecDeque::new(), peers_max: 6 };
        let place = |silent: &mut Silent| {
            let permit = Arc::clone(&places).try_acquire_owned().expect("a place");
            Place { _permit: permit, peer: silent.add() }
        };
        let [spoke, first, second] = [(); 3].map(|()| place(&mut silent));
        spoke.voice().speaks();
        silent.make_room();
        first.peer.leaves.notified().await;
        drop(first);
        silent.make_room();
        second.peer.leaves.notified().await;
        drop(second);
        silent.make_room();
        assert!(silent.peers.is_empty(), "who spoke stays, and nobody else is there");
        // Those that have left do not pile up.
        for _ in 0..100 {
            drop(place(&mut silent));
        }
        assert!(silent.peers.len() <= 6, "{}", silent.peers.len());
    }
}

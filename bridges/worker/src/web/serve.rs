//! HTTP on a port: connections counted, headers bounded in bytes and time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower_service::Service;
use tracing::debug;

use crate::Stop;

/// Bytes of a request line and its headers.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// A client that has not said its headers by then is sent away.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps while all places are taken.
const BACKLOG: u32 = 128;

/// Opens a port; gives what it listens on.
pub fn listen(bind: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let open = || {
        let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(bind)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().map_err(|why: io::Error| io::Error::new(why.kind(), format!("{bind}: {why}")))
}

/// Serves until `stop` resolves; then every connection is closed. Beyond `connections_max` the
/// next wait until one ends.
pub async fn serve<S>(listener: TcpListener, service: S, connections_max: usize, stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let stopped = stop.wait();
        let accepted = tokio::select! {
            () = stopped => return,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            // Of files, or of memory, there is none left: others may end.
            Err(why) => {
                debug!("accept: {why}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        connections.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEADER_BYTES_MAX);
            let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            if let Err(why) = connection.await {
                debug!("http: {why}");
            }
            drop(place);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

//! HTTP/1.1 and HTTP/2 on one accepted stream, with the caps that hold before anybody is known.

use crate::api::Caller;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at one HTTP door; the rest wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// From the TCP connection to the end of the TLS handshake, and from there to a whole head.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Header bytes of one request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Accepts until the plane stops; each connection gets a place before it is taken.
pub async fn accept_each<F>(
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place?,
            _ = stopping.changed() => return Ok(()),
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return Ok(()),
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it a small answer waits for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, peer, place));
            }
            Err(e) => tracing::warn!("a connection could not be accepted ({e})"),
        }
    }
}

/// Serves requests on a stream until the peer leaves or the plane stops.
pub async fn serve_stream(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    caller: Caller,
    mut stopping: watch::Receiver<bool>,
) {
    let router = router.layer(axum::Extension(caller));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX + 64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(32)
        .keep_alive_interval(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            // How a peer leaves is its own affair; requests are answered or not, never half done.
            _ = connection.as_mut() => return,
            _ = stopping.changed(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

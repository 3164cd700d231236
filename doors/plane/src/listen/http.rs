//! HTTP/1.1 and HTTP/2 on one accepted stream, with the caps that hold before anybody is known.

use super::refused;
use super::tls::Sight;
use crate::api::Caller;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at one HTTP door; the rest wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// From the TCP connection to the end of the TLS handshake, and from there to a whole head.
const PATIENCE: Duration = Duration::from_secs(10);
/// Header bytes of one request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A TLS door that speaks HTTP: what it offers each connection, and who a handshake proves.
pub trait HttpDoor: Clone + Send + Sync + 'static {
    /// The name in log lines.
    const NAME: &'static str;
    /// The configuration of one connection and what it will have seen.
    fn offer(&self) -> Result<(Arc<ServerConfig>, Sight), rustls::Error>;
    fn caller(&self, peer: SocketAddr, sight: &Sight) -> Caller;
}

/// Accepts until the plane stops; each connection gets a place before it is taken.
pub async fn serve_door(
    listener: std::net::TcpListener,
    door: impl HttpDoor,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
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
                let (door, router, until) = (door.clone(), router.clone(), stopping.clone());
                tokio::spawn(async move {
                    serve_connection(door, stream, peer, router, until).await;
                    drop(place);
                });
            }
            Err(e) => tracing::warn!("a connection could not be accepted ({e})"),
        }
    }
}

async fn serve_connection<D: HttpDoor>(
    door: D,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    until: watch::Receiver<bool>,
) {
    let Ok((config, sight)) = door.offer() else {
        return;
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(tls)) => {
            let caller = door.caller(peer, &sight);
            serve_stream(tls, router, caller, until).await;
        }
        Ok(Err(error)) => {
            let line = refused::stream(&sight.lock(), &error);
            tracing::warn!(target: "listen", "{} {peer}: {line}", D::NAME);
        }
        Err(_) => {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            let line = refused::stream(&sight.lock(), &late);
            tracing::warn!(target: "listen", "{} {peer}: {line}", D::NAME);
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

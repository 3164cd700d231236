//! HTTP/1.1 and HTTP/2 on one accepted stream, with the caps that hold before anybody is known.

use super::refused::Lines;
use super::source_of;
use crate::api::Caller;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Connections at one HTTP door; the rest wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// From the TCP connection to the end of the TLS handshake, and from there to a whole head.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Header bytes of one request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Above half of the places one source may have this many.
const CONNECTIONS_A_SOURCE: u32 = 64;
/// How long nobody is accepted after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After this a connection is asked to end, and after as long again it is cut: nobody keeps a
/// place by never finishing.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a stopping door waits for requests that are under way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// A connection's place at its door, counted for its source until it is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    source: IpAddr,
    by_source: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Place {
    /// `None`: the door is half full and this source has its share.
    fn take(
        permit: OwnedSemaphorePermit,
        peer: SocketAddr,
        is_half_full: bool,
        by_source: &Arc<Mutex<HashMap<IpAddr, u32>>>,
    ) -> Option<Self> {
        let source = source_of(peer.ip());
        let mut counts = by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if is_half_full && *count >= CONNECTIONS_A_SOURCE {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self {
            _permit: permit,
            source,
            by_source: Arc::clone(by_source),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// Accepts until the plane stops, then waits a while for what is under way; each connection gets
/// a place before it is taken.
pub async fn accept_each<F>(
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
    lines: &Lines,
    serve: impl Fn(TcpStream, SocketAddr, Place) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let by_source = Arc::new(Mutex::new(HashMap::new()));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&places).acquire_owned() => permit?,
            _ = stopping.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let is_half_full = places.available_permits() < CONNECTIONS_MAX / 2;
                let Some(place) = Place::take(permit, peer, is_half_full, &by_source) else {
                    if lines.take() {
                        tracing::warn!("{peer}: closed, its address has enough connections");
                    }
                    continue;
                };
                // Without it a small answer waits for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, peer, place));
            }
            Err(e) => {
                if lines.take() {
                    tracing::warn!("a connection could not be accepted ({e})");
                }
                // No file or memory is left: asking at once would only get the same answer.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Who has not finished by then is cut.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, places.acquire_many(all)).await;
    Ok(())
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
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(256 * 1024)
        .keep_alive_interval(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut draining = false;
    let lifetime = tokio::time::sleep(CONNECTION_LIFETIME);
    tokio::pin!(lifetime);
    loop {
        tokio::select! {
            // How a peer leaves is its own affair; requests are answered or not, never half done.
            _ = connection.as_mut() => return,
            _ = stopping.changed(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = lifetime.as_mut() => {
                if draining {
                    return;
                }
                draining = true;
                connection.as_mut().graceful_shutdown();
                lifetime.as_mut().reset(Instant::now() + CONNECTION_LIFETIME);
            }
        }
    }
}

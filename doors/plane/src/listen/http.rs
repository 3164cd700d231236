//! HTTP/1.1 and HTTP/2 on one accepted stream, with the caps that hold before anybody is known.

use super::arrivals::{Arrivals, Begun};
use super::refused::{self, Cause, Failed, Lines};
use super::source_of;
use super::tls::{Seen, Sight, Whom};
use crate::api::Caller;
use crate::clock;
use crate::judge::signals::{PerSecond, Signals, Told};
use crate::served::acme::ALPN;
use crate::shared::Locked;
use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use detection::Feature;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use model::Attribution;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Connections at one HTTP door; the rest wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// From the TCP connection to the end of the TLS handshake, and from there to a whole head.
const PATIENCE: Duration = Duration::from_secs(10);
/// Header bytes of one request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Above half of the places one source may have this many.
const CONNECTIONS_A_SOURCE: u32 = 64;
/// Of one source, refused handshakes that are told a second.
const FAILURES_A_SECOND: u32 = 8;
/// How long nobody is accepted after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After this a connection is asked to end, and after as long again it is cut: nobody keeps a
/// place by never finishing. HTTP/1.1 is asked by its next answer: closed while it is idle, it would
/// often meet a request that is on its way, and whoever sent that could not know what became of it.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// By then HTTP/1.1 was asked, or said nothing and was closed for that.
const ASKED_BY_THEN: Duration = PATIENCE.saturating_mul(2);
/// How long a stopping door waits for requests that are under way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a peer may take to hear why it was refused and leave, and what it may send meanwhile.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Refused peers that are read on at one door; who comes beyond them may see a reset.
const LINGERING_MAX: usize = 128;

/// A connection's place at its door, counted for its source until it is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    source: IpAddr,
    by_source: Arc<Locked<HashMap<IpAddr, u32>>>,
}

impl Place {
    /// `None`: the door is half full and this source has its share.
    fn take(
        permit: OwnedSemaphorePermit,
        peer: SocketAddr,
        is_half_full: bool,
        by_source: &Arc<Locked<HashMap<IpAddr, u32>>>,
    ) -> Option<Self> {
        let source = source_of(peer.ip());
        let mut counts = by_source.lock();
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
        let mut counts = self.by_source.lock();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// A TLS door that speaks HTTP: what it offers each connection, and who a handshake proves.
pub trait HttpDoor: Clone + Send + Sync + 'static {
    /// The name in log lines.
    const NAME: &'static str;
    /// The configuration of one connection and what it will have seen.
    fn offer(&self) -> Result<(Arc<ServerConfig>, Sight), rustls::Error>;
    fn caller(&self, peer: SocketAddr, sight: &Sight) -> Caller;
}

/// Accepts until the plane stops, then waits a while for what is under way; each connection gets
/// a place before it is taken.
pub async fn serve_door<D: HttpDoor>(
    mut arrivals: Arrivals,
    door: D,
    router: Router,
    signals: Signals,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let by_source: Arc<Locked<HashMap<IpAddr, u32>>> = Arc::default();
    let lines = Arc::new(Lines::new(D::NAME));
    let lingering = Arc::new(Semaphore::new(LINGERING_MAX));
    let telling = Arc::new(Telling {
        signals,
        failures: Locked::new(PerSecond::new(FAILURES_A_SECOND)),
    });
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&places).acquire_owned() => permit?,
            _ = stopping.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = arrivals.next() => accepted,
            _ = stopping.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (door, router, until) = (door.clone(), router.clone(), stopping.clone());
                let (lines, telling) = (Arc::clone(&lines), Arc::clone(&telling));
                let lingering = Arc::clone(&lingering);
                let (places, by_source) = (Arc::clone(&places), Arc::clone(&by_source));
                tokio::spawn(async move {
                    let mut stream = stream;
                    let Some(peer) = source::<D>(&mut stream, peer, &lines, &telling).await else {
                        return;
                    };
                    let is_half_full = places.available_permits() < CONNECTIONS_MAX / 2;
                    let Some(place) = Place::take(permit, peer, is_half_full, &by_source) else {
                        if lines.take() {
                            tracing::warn!(
                                target: "listen",
                                "{} {peer}: refused connections-in-flight: its address has enough \
                                 of them; device: close some [device must act]",
                                D::NAME
                            );
                        }
                        return;
                    };
                    let refused =
                        serve_connection(door, stream, peer, router, until, &lines, &telling).await;
                    drop(place);
                    if let (Some(refused), Ok(_place)) = (refused, lingering.try_acquire()) {
                        // However it leaves, it goes.
                        let _ = tokio::time::timeout(LINGER, linger(refused)).await;
                    }
                });
            }
            Err(e) => {
                if lines.take() {
                    tracing::warn!("a connection could not be accepted ({e})");
                }
                pause_accepting().await;
            }
        }
    }
    drop(arrivals);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Who has not finished by then is cut.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, places.acquire_many(all)).await;
    Ok(())
}

/// Who is at the other end, also behind a balancer; `None`: it was refused.
async fn source<D: HttpDoor>(
    stream: &mut Begun,
    peer: SocketAddr,
    lines: &Lines,
    telling: &Telling,
) -> Option<SocketAddr> {
    let late = || Err(Err(std::io::Error::from(std::io::ErrorKind::TimedOut)));
    let source = tokio::time::timeout(PATIENCE, stream.source(peer)).await;
    let failed = match source.unwrap_or_else(|_| late()) {
        Ok(source) => return Some(source),
        Err(Ok(refusal)) => refused::handshake(&Seen::default(), &Cause::Proxy(refusal)),
        Err(Err(error)) => refused::handshake(&Seen::default(), &Cause::Socket(&error)),
    };
    telling.failed::<D>(&failed, peer.ip());
    if lines.take() {
        tracing::warn!(target: "listen", "{} {peer}: {}", D::NAME, failed.line);
    }
    None
}

/// No file or memory is left: asking the system again at once would only get the same answer.
pub async fn pause_accepting() {
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The stream of a peer that was refused and told why, if it may not have heard it yet.
async fn serve_connection<D: HttpDoor>(
    door: D,
    stream: Begun,
    peer: SocketAddr,
    router: Router,
    until: watch::Receiver<bool>,
    lines: &Lines,
    telling: &Telling,
) -> Option<Begun> {
    let (config, sight) = door.offer().ok()?;
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    let (failed, stream) = match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(mut tls)) => {
            if tls.get_ref().1.alpn_protocol() == Some(ALPN) {
                // A CA has seen what it came for; nothing else is ever spoken in this protocol.
                let _ = tls.shutdown().await;
                return None;
            }
            telling.proven::<D>(&sight, tls.get_ref().1, peer.ip());
            let caller = door.caller(peer, &sight);
            serve_stream(tls, router, caller, until).await;
            return None;
        }
        Ok(Err((error, stream))) => (error, Some(stream)),
        Err(_) => (std::io::Error::from(std::io::ErrorKind::TimedOut), None),
    };
    let failed = refused::stream(&sight.lock(), &failed);
    telling.failed::<D>(&failed, peer.ip());
    if lines.take() {
        tracing::warn!(target: "listen", "{} {peer}: {}", D::NAME, failed.line);
    }
    stream
}

/// Says that nothing follows and reads on without looking until the peer has closed. Closed at
/// once, the kernel would answer what is still on its way (in TLS 1.3 a client sends its request
/// before it can know) with a reset, and that takes the alert out of the peer's hands.
async fn linger(mut stream: Begun) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut nobody_reads = [0; 4096];
    let mut drained_bytes = 0;
    while drained_bytes < LINGER_BYTES_MAX {
        match stream.read(&mut nobody_reads).await? {
            0 => return Ok(()),
            count => drained_bytes += count,
        }
    }
    Ok(())
}

/// What one HTTP door tells the judge.
struct Telling {
    signals: Signals,
    failures: Locked<PerSecond<IpAddr>>,
}

impl Telling {
    fn failed<D: HttpDoor>(&self, failed: &Failed, peer: IpAddr) {
        let now = clock::now();
        if self.failures.lock().take(source_of(peer), now) {
            self.signals.tell(failed.told(D::NAME, peer, now));
        }
    }

    /// The TLS of somebody who proved a certificate, and from where.
    fn proven<D: HttpDoor>(&self, sight: &Sight, tls: &rustls::ServerConnection, address: IpAddr) {
        let (principal, flaw) = {
            let seen = sight.lock();
            let proven = seen.proven.as_ref();
            let principal = proven.and_then(|proven| match &proven.whom {
                Whom::One(principal) => Some(principal.clone()),
                Whom::Sharing | Whom::Claiming => None,
            });
            (principal, proven.and_then(|proven| proven.flaw))
        };
        let now = clock::now();
        let door = || D::NAME.to_owned();
        if let (Some(principal), Some(flaw)) = (&principal, flaw) {
            let flaw = flaw.name().to_owned();
            let known = Feature::KnownKey { flaw, door: door() };
            let told = Told::seen(principal.clone(), Attribution::Claimed, known, now);
            self.signals.tell(told);
        }
        let (Some(principal), Some(version)) = (principal, tls.protocol_version()) else {
            return;
        };
        let group = tls.negotiated_key_exchange_group();
        let proven = |feature| Told::seen(principal.clone(), Attribution::Proven, feature, now);
        self.signals.tell(proven(Feature::TlsSession {
            version: format!("{version:?}"),
            group: group.map(|group| format!("{:?}", group.name())),
            door: door(),
        }));
        self.signals.tell(proven(Feature::DoorOpened {
            door: door(),
            address,
        }));
    }
}

/// Serves requests on a stream until the peer leaves or the plane stops.
pub async fn serve_stream(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    caller: Caller,
    stopping: watch::Receiver<bool>,
) {
    serve_for(CONNECTION_LIFETIME, io, router, caller, stopping).await;
}

async fn serve_for(
    lifetime: Duration,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    caller: Caller,
    mut stopping: watch::Receiver<bool>,
) {
    let begun = Instant::now();
    let last_answer = axum::middleware::from_fn(move |request: Request, next: Next| async move {
        let is_1 = request.version() <= Version::HTTP_11;
        let mut answer = next.run(request).await;
        if is_1 && begun.elapsed() >= lifetime {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        answer
    });
    let router = router.layer(axum::Extension(caller)).layer(last_answer);
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
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut draining = false;
    let asked_by_then = tokio::time::sleep(lifetime + ASKED_BY_THEN);
    tokio::pin!(asked_by_then);
    loop {
        tokio::select! {
            // How a peer leaves is its own affair; requests are answered or not, never half done.
            _ = connection.as_mut() => return,
            _ = stopping.changed(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = asked_by_then.as_mut() => {
                if draining {
                    return;
                }
                draining = true;
                connection.as_mut().graceful_shutdown();
                asked_by_then.as_mut().reset(Instant::now() + lifetime);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    /// What two requests on one connection are answered; the second is not sent after a goodbye.
    async fn answers(lifetime: Duration) -> Vec<String> {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let (_stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        let caller = Caller::Local { uid: 0 };
        tokio::spawn(serve_for(lifetime, theirs, router, caller, stopping));
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
            ours.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"here") {
                let came = ours.read_buf(&mut answer).await.unwrap();
                assert!(came > 0, "it was closed in front of a request");
            }
            answers.push(String::from_utf8(answer).unwrap());
            if answers
                .iter()
                .any(|answer| answer.contains("connection: close"))
            {
                assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0, "and it ends");
                break;
            }
        }
        answers
    }

    #[tokio::test]
    async fn an_old_connection_is_ended_by_an_answer_and_not_in_front_of_a_request() {
        let young = answers(CONNECTION_LIFETIME).await;
        assert_eq!(young.len(), 2);
        assert!(
            young
                .iter()
                .all(|answer| !answer.contains("connection: close"))
        );
        assert_eq!(answers(Duration::ZERO).await.len(), 1, "old at once");
    }
}

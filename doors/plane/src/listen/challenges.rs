//! Plain HTTP for one purpose: a CA asks for the answer to its challenge (RFC 8555 section 8.3).
//! Everything else is not there.

use super::http::pause_accepting;
use super::tls::Trust;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

const CONNECTIONS_MAX: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const PATH: &str = "/.well-known/acme-challenge/";

/// Accepts until the plane stops.
pub async fn serve_challenges(
    listener: std::net::TcpListener,
    trust: Arc<Trust>,
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
            Ok((stream, _)) => {
                let trust = Arc::clone(&trust);
                tokio::spawn(async move {
                    // One answer is all that anybody comes for.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, trust)).await;
                    drop(place);
                });
            }
            Err(_) => pause_accepting().await,
        }
    }
}

async fn answer(stream: TcpStream, trust: Arc<Trust>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer_to(&request, &trust);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false);
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer_to(request: &Request<Incoming>, trust: &Trust) -> Response<Full<Bytes>> {
    let answers = trust.answers.get();
    let token = request.uri().path().strip_prefix(PATH);
    let text = token
        .filter(|_| request.method() == Method::GET)
        .and_then(|token| answers.text(token));
    let mut response = Response::new(Full::from(text.unwrap_or_default().to_owned()));
    if text.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

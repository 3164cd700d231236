//! 8443: people. API, health and metrics over HTTPS; asks for no client certificate.

use super::http::{PATIENCE, accept_each, serve_stream};
use super::refused::{self, Lines};
use super::tls::Trust;
use crate::api::Caller;
use axum::Router;
use std::net::TcpListener;
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub async fn serve_people(
    listener: TcpListener,
    trust: Arc<Trust>,
    router: Router,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let until = stopping.clone();
    let lines = Arc::new(Lines::new("people"));
    let about = Arc::clone(&lines);
    accept_each(listener, stopping, &lines, move |stream, peer, place| {
        let lines = Arc::clone(&about);
        let (trust, router, until) = (Arc::clone(&trust), router.clone(), until.clone());
        async move {
            let Ok((config, sight)) = trust.people_door() else {
                return;
            };
            let handshake = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(PATIENCE, handshake).await {
                Ok(Ok(tls)) => serve_stream(tls, router, Caller::Stranger { peer }, until).await,
                Ok(Err(error)) if lines.take() => {
                    let seen = sight.lock().unwrap_or_else(PoisonError::into_inner);
                    tracing::info!(target: "people", "{peer}: {}", refused::stream(&seen, &error));
                }
                Err(_) if lines.take() => {
                    tracing::info!(target: "people", "{peer}: the handshake took too long");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            drop(place);
        }
    })
    .await
}

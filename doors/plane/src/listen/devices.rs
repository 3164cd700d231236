//! 8444: devices and services. EST and API; a client certificate is asked for, and each request
//! asks again whether it still holds.

use super::http::{PATIENCE, accept_each, serve_stream};
use super::refused::{self, Lines};
use super::tls::Trust;
use crate::api::Caller;
use axum::Router;
use identity::Door;
use std::net::TcpListener;
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub async fn serve_devices(
    listener: TcpListener,
    trust: Arc<Trust>,
    tls_1_2: bool,
    router: Router,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let until = stopping.clone();
    let lines = Arc::new(Lines::new("devices"));
    let about = Arc::clone(&lines);
    accept_each(listener, stopping, &lines, move |stream, peer, place| {
        let lines = Arc::clone(&about);
        let (trust, router, until) = (Arc::clone(&trust), router.clone(), until.clone());
        async move {
            let Ok((config, sight)) = trust.device_door(Door::Devices, tls_1_2) else {
                return;
            };
            let handshake = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(PATIENCE, handshake).await {
                Ok(Ok(tls)) => {
                    let proven = sight
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .proven
                        .take();
                    let caller = match proven {
                        Some(proven) => Caller::Peer {
                            peer,
                            presented: Arc::new(proven.presented),
                        },
                        None => Caller::Stranger { peer },
                    };
                    serve_stream(tls, router, caller, until).await;
                }
                Ok(Err(error)) if lines.take() => {
                    let seen = sight.lock().unwrap_or_else(PoisonError::into_inner);
                    tracing::warn!(
                        target: "devices", "{peer}: {}", refused::stream(&seen, &error)
                    );
                }
                Err(_) if lines.take() => {
                    tracing::info!(target: "devices", "{peer}: the handshake took too long");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            drop(place);
        }
    })
    .await
}

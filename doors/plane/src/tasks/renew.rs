//! Keeps what our doors show young: our own certificate is made anew at two thirds of its life, and
//! SIGHUP has files read again. New handshakes see the new one, live connections are left alone.

use crate::entries::Actor;
use crate::plane::Plane;
use crate::served;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(3600);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!("certificates are not renewed ({error})"),
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {
                if let Err(error) = served::renew_own(&plane).await {
                    tracing::error!("the server certificate is not renewed ({error:#})");
                }
            }
            Some(()) = hangup.recv() => match served::reload(&plane, &Actor::Plane).await {
                Ok(_) => tracing::info!("SIGHUP: certificates were read again"),
                Err(trouble) => tracing::error!("SIGHUP: nothing was replaced ({trouble})"),
            },
            _ = stopping.changed() => return,
        }
    }
}

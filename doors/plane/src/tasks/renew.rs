//! Renews the certificate of the plane's own doors at two thirds of its life, and serves it at
//! once: new handshakes see the new one, live connections are left alone. On SIGHUP it reads the
//! certificates that were not issued here once more.

use crate::certify::serving;
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::startup;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(3600);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let told = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            Some(()) = told => {
                let rereading = Arc::clone(&plane);
                match off_thread(move || startup::reread_certificates(&rereading)).await {
                    Ok(Ok(())) => tracing::info!("the server certificates were read again"),
                    Ok(Err(error)) => tracing::error!("those of before are shown on ({error:#})"),
                    Err(fault) => tracing::error!("those of before are shown on ({fault})"),
                }
            }
            _ = stopping.changed() => return,
        }
        let renewing = Arc::clone(&plane);
        let renewed = off_thread(move || serving::renew(&renewing)).await;
        match renewed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the server certificate is not renewed ({error:#})"),
            Err(fault) => tracing::error!("the server certificate is not renewed ({fault})"),
        }
    }
}

//! Renews the certificate of the plane's own doors at two thirds of its life, and serves it at
//! once: new handshakes see the new one, live connections are left alone.

use crate::certify::serving;
use crate::plane::Plane;
use crate::shared::off_thread;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(3600);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
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

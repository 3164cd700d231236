//! Takes certificates out of service: those that a proven successor has superseded, when their
//! overlap is over, and those that were made by a claim certificate and that nobody owned in time.

use crate::certify::claiming;
use crate::plane::Plane;
use crate::{clock, flow};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How late a certificate may retire.
const EVERY: Duration = Duration::from_secs(60);
/// A clock that was set by more than this meanwhile is not believed until the next time.
const CLOCK_SET: Duration = Duration::from_secs(300);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        let (steady, wall) = (Instant::now(), clock::now());
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = plane.admission.proofs.wait() => {}
            _ = stopping.changed() => return,
        }
        if let Err(trouble) = flow::supersede(&plane).await {
            tracing::warn!("superseded certificates are not noted ({trouble}); tried again");
        }
        let now = clock::now();
        if now.since(wall) > steady.elapsed() + CLOCK_SET {
            tracing::warn!("no superseded certificate retires: the clock was set forward");
            continue;
        }
        match claiming::lapse(&plane, now).await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} certificate(s) that nobody claimed revoked"),
            Err(trouble) => {
                tracing::warn!("certificates that nobody claimed stay on hold ({trouble})");
            }
        }
        match flow::retire(&plane, now).await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} superseded certificate(s) revoked"),
            Err(trouble) => {
                tracing::warn!("a superseded certificate is not on record as revoked ({trouble})");
            }
        }
    }
}

//! Records withdrawals that are in force but could not be recorded at once.

use crate::plane::Plane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(1);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.changed() => return,
        }
        if plane.granting_allowed().is_err() && plane.record_withdrawals().await {
            tracing::info!("every revocation is on record again; granting goes on");
        }
    }
}

//! Twins: tells devices that subscribed what they should be, and keeps what they say that they are.

use crate::plane::Plane;
use crate::twinning;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// More is let come: a fleet that comes back is written down in few transactions.
const PAUSE: Duration = Duration::from_millis(50);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = plane.twins.wait() => tokio::time::sleep(PAUSE).await,
            _ = stopping.changed() => return,
        }
        if let Err(trouble) = twinning::carry(&plane).await {
            tracing::warn!("what devices reported is not kept ({trouble}); their next word is");
        }
    }
}

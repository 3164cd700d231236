//! Commands: takes up what was under way before the start, keeps how far each came, ends and forgets
//! what is over.

use crate::plane::Plane;
use crate::{clock, commanding};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// More is let come before it is recorded: a command for a whole group is one transaction so.
const PAUSE: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_secs(30);
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut resumed = false;
    let mut lapsed: Option<Instant> = None;
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = plane.commanding.news.wait() => tokio::time::sleep(PAUSE).await,
            _ = stopping.changed() => break,
        }
        wait = EVERY;
        // A sealed plane gives nobody anything; it sends what was under way once it is unsealed.
        if !resumed && plane.store.sealed().is_none() {
            match commanding::resume(&plane).await {
                Ok(0) => resumed = true,
                Ok(count) => {
                    tracing::info!("{count} command deliveries go on");
                    resumed = true;
                }
                Err(trouble) => {
                    tracing::error!("commands do not go on ({trouble}); tried again");
                    wait = AFTER_TROUBLE;
                }
            }
        }
        if let Err(trouble) = commanding::record(&plane).await {
            tracing::warn!("how far commands came is not recorded ({trouble}); tried again");
            wait = AFTER_TROUBLE;
        }
        if lapsed.is_none_or(|at| at.elapsed() >= EVERY) {
            lapsed = Some(Instant::now());
            if let Err(trouble) = commanding::lapse(&plane, clock::now()).await {
                tracing::warn!("commands that are over are not ended ({trouble}); tried again");
            }
        }
    }
    if let Err(trouble) = commanding::record(&plane).await {
        tracing::warn!("how far commands came is not recorded ({trouble})");
    }
}

//! Writes what was observed to `facts.db` once a second, and drops what is older than it is kept.

use crate::clock;
use crate::plane::Plane;
use crate::shared::off_thread;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(1);
/// How often what was sent and heard is kept: a kill loses the counts of so long.
const TRAFFIC_EVERY: Duration = Duration::from_secs(60);
/// How often old addresses and peers are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut failing = false;
    let mut forgotten_at = clock::now();
    let mut counted_at = clock::now();
    loop {
        let stop = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            _ = stopping.changed() => true,
        };
        let now = clock::now();
        if now.since(forgotten_at) >= FORGET_EVERY {
            forgotten_at = now;
            plane.inventory.lock().forget_old(now);
        }
        let counts = stop || now.since(counted_at) >= TRAFFIC_EVERY;
        if counts {
            counted_at = now;
        }
        let keeping = Arc::clone(&plane);
        let kept = off_thread(move || keep(&keeping, counts, stop)).await;
        let trouble = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(fault) => Some(fault.to_string()),
        };
        // Said once, and once that it is over: this runs every second.
        match (&trouble, failing) {
            (Some(what), false) => {
                tracing::error!("what was observed is not kept ({what}); it is tried again");
            }
            (None, true) => tracing::info!("what is observed is kept again"),
            _ => {}
        }
        failing = trouble.is_some();
        if stop {
            return;
        }
    }
}

/// One batch, or at the end all of them.
fn keep(plane: &Plane, counts: bool, all: bool) -> Result<(), store::CommitError> {
    if counts {
        plane.keep_traffic()?;
    }
    while plane.keep_sightings()? && all {}
    Ok(())
}
